package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	. "jailctl/internal/roottest"
)

// What the helper does as root, as the kernel saw it: from its start to the drop
// one chroot and one chdir("/"), nothing inside the jail opened from then to
// execve, nothing written to the caller's descriptors, no program started.
func TestSystemCallsOfTheHelper(t *testing.T) {
	Apply(t, "web", everyone)
	trace := Prefix + "/trace"
	t.Cleanup(func() { os.Remove(trace) })
	r := Root(t, "strace", "-f", "-o", trace, "-u", Alice.Name, "-E", "TERM=dumb", Jailctl, "run", "web", "/bin/true")
	if r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	pid := ""
	counts := map[string]int{}
	entered, dropped, ran := false, false, false
	line := regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	for _, l := range strings.Split(string(b), "\n") {
		if dropped && strings.HasPrefix(l, pid+" ") && strings.Contains(l, "execve resumed>") {
			ran = ran || strings.HasSuffix(l, "= 0")
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		who, call, args := m[1], m[2], m[3]
		if call == "execve" && strings.HasPrefix(args, `"`+Helper+`"`) {
			pid = who
			continue
		}
		if pid == "" {
			continue
		}
		switch {
		case call == "execve" && dropped && strings.HasPrefix(args, `"/bin/true"`):
			ran = ran || strings.HasSuffix(l, "= 0")
		case call == "execve" || call == "execveat" || call == "vfork" || call == "fork":
			t.Errorf("the helper starts a program: %s", l)
		case call == "ptrace" && !ran:
			t.Errorf("the helper gives its registers to a tracer, with threads of root's beside it: %s", l)
		case ran:
			continue
		case call == "chroot" || call == "chdir" && !dropped:
			counts[call+"("+strings.TrimSpace(args[:strings.IndexAny(args, ")<")])+")"]++
			entered = entered || call == "chroot"
		case call == "setresuid" && strings.HasPrefix(args, "1, 1, 1"):
			dropped = true
		case entered && !dropped && (strings.HasPrefix(call, "open") || strings.Contains(call, "stat") || call == "access" || call == "readlink"):
			t.Errorf("root looks at a path inside the jail: %s", l)
		}
		if who == pid && !ran && regexp.MustCompile(`^(write|writev|pwrite64|sendto|sendmsg|ioctl)$`).MatchString(call) && regexp.MustCompile(`^[012],`).MatchString(args) {
			t.Errorf("the caller's descriptors are written to: %s", l)
		}
	}
	if !dropped || !ran {
		t.Fatalf("the trace shows no drop (%v) or no command (%v):\n%s", dropped, ran, b)
	}
	if len(counts) != 2 || counts[`chroot(".")`] != 1 || counts[`chdir("/")`] != 1 {
		t.Errorf("calls up to the drop: %v, want one chroot(\".\") and one chdir(\"/\")", counts)
	}
}
