package jailtree

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountProc has the bench's host have /proc and what links to it, as on any machine.
func mountProc(t *testing.T, b *bench, at string) {
	t.Helper()
	do(t, os.MkdirAll(b.host+at, 0o755), unix.Mount("proc", b.host+at, "proc", 0, ""))
	t.Cleanup(func() { unix.Unmount(b.host+at, unix.MNT_DETACH) })
}

// What the kernel makes up at the moment of reading is refused, in one line for each that
// asks for it; what is found on the way to other things is left out.
func TestKernelFileSystems(t *testing.T) {
	b := newBare(t)
	mountProc(t, b, "/proc")
	mountProc(t, b, "/srv/other/proc")
	b.put(t, "/etc/hosts", "", 0o644)
	b.put(t, "/srv/other/f", "", 0o644)
	b.put(t, "/srv/tool", "", 0o755)
	b.link(t, "/etc/mtab", "../proc/self/mounts")
	b.link(t, "/etc/also", "mtab")
	b.link(t, "/way", "proc/self")
	b.link(t, "/usr/bin/self", "/proc/self/exe")
	proc := `"/proc" is the kernel's own (proc), which cannot be copied; leave it out`
	for _, test := range []struct{ text, want string }{
		{`paths: "/proc"`, "web.txtpb:1:8: " + proc},
		{`paths: "/proc/self/mounts"`, "web.txtpb:1:8: " + proc},
		{`paths: "/proc/[1-9]*"`, "web.txtpb:1:8: " + proc},
		{`paths: "/way/mounts"`, "web.txtpb:1:8: " + proc},
		{`optional_paths: "/proc/self/m*"`, "web.txtpb:1:17: " + proc},
		{`programs: "/proc/self/exe"`, "web.txtpb:1:11: " + proc},
		{`programs: "/usr/bin/self"`, "web.txtpb:1:11: " + proc},
		{`paths: "/srv" optional_paths: ["/proc/none", "/proc/*/none", "/way/none"]`, `/ directory 0755
/srv directory 0755 < /srv (1:8)
/srv/other directory 0755 < /srv/other (1:8)
/srv/other/f 0 bytes 0644 < /srv/other/f (1:8)
/srv/tool 0 bytes 0755 < /srv/tool (1:8)
note: "/srv/other/proc" is the kernel's own (proc), and is left out`},
		{`paths: "/etc" paths: "/way"`, `/ directory 0755
/etc directory 0755 < /etc (1:8)
/etc/also link to "mtab" < /etc/also (1:8)
/etc/hosts 0 bytes 0644 < /etc/hosts (1:8)
/etc/mtab link to "../proc/self/mounts" < /etc/mtab (1:8)
/way link to "proc/self" < /way (1:22)
note: the link "/etc/also" leads to "mtab", which is not in the jail
note: the link "/etc/mtab" leads to "../proc/self/mounts", which is not in the jail
note: the link "/way" leads to "proc/self", which is not in the jail`},
		{`optional_paths: "/etc/also"`, `/ directory 0755
/etc directory 0755 < /etc (1:17)
/etc/also link to "mtab" < /etc/also (1:17)
/etc/mtab link to "../proc/self/mounts" < /etc/mtab (1:17)
note: the link "/etc/also" leads to "mtab", which is not in the jail
note: the link "/etc/mtab" leads to "../proc/self/mounts", which is not in the jail`},
	} {
		if got := strings.TrimSuffix(b.planOf(t, test.text), "\n"); got != test.want {
			t.Errorf("%s:\n%s\nin place of\n%s", test.text, got, test.want)
		}
	}
}

// A jail with a link into /proc can be built, and then there is nothing to do.
func TestLinkToKernel(t *testing.T) {
	b := small(t)
	mountProc(t, b, "/proc")
	b.link(t, "/usr/share/data/mtab", "../../../proc/self/mounts")
	b.link(t, "/etc/mtab", "/proc/self/mounts")
	b.spec.Paths = append(b.spec.Paths, path1("/etc/mtab"))
	b.spec.OptionalPaths = append(b.spec.OptionalPaths, path1("/etc/m*"), path1("/proc/*/none"))
	b.link(t, "/lib/k", "/proc/self")
	b.spec.OptionalPaths = append(b.spec.OptionalPaths, path1("/lib/k/conf"))
	b.build(t)
	if !b.fresh() {
		t.Error("there would be something to do")
	}
	if target, err := os.Readlink(b.root + "/etc/mtab"); target != "/proc/self/mounts" {
		t.Error(target, err)
	}
	// A link that led there, and leads elsewhere now, is noticed.
	do(t, os.Remove(b.host+"/lib/k"))
	b.put(t, "/lib/k/conf", "conf", 0o644)
	if b.fresh() || !b.build(t).Changed || read(t, b.root+"/lib/k/conf") != "conf" {
		t.Error("what a link led away from the kernel is not there")
	}
}
