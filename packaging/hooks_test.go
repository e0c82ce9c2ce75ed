// Package packaging tests what is shipped beside the programs: the hook for apt and
// the units for systemd.
package packaging

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	. "jailctl/internal/roottest"
)

func TestMain(m *testing.M) { Main(m) }

// hooks installs them into the test's prefix.
func hooks(t *testing.T) (apt, units string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("make", "-s", "-C", filepath.Join(filepath.Dir(here), ".."), "install-hooks", "PREFIX="+Prefix, "SYSCONFDIR="+Prefix+"/etc")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return Prefix + "/etc/apt/apt.conf.d/90jailctl", Prefix + "/lib/systemd/system"
}

// pack makes a package with one shared library, which says its version.
func pack(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	do := func(name string, args ...string) {
		if r := Do(t, exec.Command(name, args...)); r.Status != 0 {
			t.Fatalf("%s: %+v", name, r)
		}
	}
	arch := strings.TrimSpace(Do(t, exec.Command("dpkg", "--print-architecture")).Out)
	file("tree/DEBIAN/control", fmt.Sprintf("Package: libjailctltest1\nVersion: %s\nArchitecture: %s\nMaintainer: nobody <nobody@localhost>\nDescription: a library\n", version, arch))
	source := file("lib.c", fmt.Sprintf("const char *version(void) { return %q; }\n", version))
	file("tree/usr/lib/keep", "")
	do("gcc", "-shared", "-fPIC", "-Wl,-soname,libjailctltest.so.1", "-o", filepath.Join(dir, "tree/usr/lib/libjailctltest.so.1"), source)
	os.Remove(filepath.Join(dir, "tree/usr/lib/keep"))
	deb := filepath.Join(dir, "lib_"+version+".deb")
	do("dpkg-deb", "--root-owner-group", "-b", filepath.Join(dir, "tree"), deb)
	return deb
}

// install has apt install a package, with the hook or without.
func install(t *testing.T, hook, deb string) Result {
	t.Helper()
	cmd := exec.Command("apt-get", "install", "-y", "-q", "--allow-downgrades", "--reinstall", deb)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if hook != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+hook)
	}
	r := Do(t, cmd)
	if r.Status != 0 {
		t.Fatalf("apt-get: %+v", r)
	}
	return r
}

// built makes two jails: says, of a program that says which version the library has, and
// other, without it.
func built(t *testing.T) (says func() string) {
	t.Helper()
	t.Cleanup(func() { exec.Command("dpkg", "--purge", "libjailctltest1").Run() })
	install(t, "", pack(t, "1.0"))
	program := filepath.Join(Public, "says")
	source := filepath.Join(t.TempDir(), "says.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nconst char *version(void);\nint main(void) { puts(version()); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := Do(t, exec.Command("gcc", "-o", program, source, "/usr/lib/libjailctltest.so.1")); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	contents := fmt.Sprintf("programs: %q\n", program)
	for name, text := range map[string]string{"says": contents, "other": "programs: \"busybox\"\n"} {
		policy := fmt.Sprintf("root: %q\nrules { users: \"*\" run_as { caller: true } }\n", Prefix+"/srv/"+name)
		if err := os.WriteFile(Etc+"/contents/"+name+".txtpb", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		Apply(t, name, policy)
		if r := Root(t, Jailctl, "build", name); r.Status != 0 {
			t.Fatalf("%+v", r)
		}
		t.Cleanup(func() { Root(t, Jailctl, "remove", "--yes", name) })
	}
	return func() string {
		t.Helper()
		r := Jailrun(t, Alice, "says", program)
		if r.Status != 0 {
			t.Errorf("%+v", r)
		}
		return strings.TrimSpace(r.Out)
	}
}

// After an upgrade by apt the jail that holds the library is up to date without
// anyone acting, and one that does not is not touched.
func TestAptHook(t *testing.T) {
	hook, _ := hooks(t)
	version := built(t)
	says := func(want string) {
		t.Helper()
		if got := version(); got != want {
			t.Errorf("it says %s, and should say %s", got, want)
		}
	}
	inode := func() string { return Do(t, exec.Command("stat", "-c", "%i %Z", Prefix+"/srv/other")).Out }
	says("1.0")
	before := inode()

	// Without the hook nothing happens, and outdated says so.
	install(t, "", pack(t, "1.1"))
	says("1.0")
	if r := Root(t, Jailctl, "outdated"); r.Status != 1 || r.Out != "libjailctltest1 1.0 -> 1.1: says\n" {
		t.Errorf("%+v", r)
	}
	if r := Root(t, Jailctl, "outdated", "--containing", "libjailctltest1"); r.Status != 0 || r.Out != "says: libjailctltest1 1.0\n" {
		t.Errorf("%+v", r)
	}

	install(t, hook, pack(t, "1.2"))
	says("1.2")
	if r := Root(t, Jailctl, "outdated"); r.Status != 0 || r.Out != "" {
		t.Errorf("%+v", r)
	}
	if after := inode(); after != before {
		t.Errorf("the other jail was %s and is %s", before, after)
	}

	// Rolled back, it stays so until somebody builds it by name.
	if r := Root(t, Jailctl, "rollback", "says"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	install(t, hook, pack(t, "1.3"))
	says("1.0")
	if r := Root(t, Jailctl, "build", "says"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	says("1.3")
}

// systemd finds no fault with the units.
func TestUnits(t *testing.T) {
	_, units := hooks(t)
	files, err := filepath.Glob(units + "/jailctl-build.*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		r := Do(t, exec.Command("systemd-analyze", "verify", "--man=no", f))
		if r.Status != 0 || r.Err != "" {
			t.Errorf("%s: %+v", f, r)
		}
		text, err := os.ReadFile(f)
		if err != nil || strings.Contains(string(text), "@") {
			t.Errorf("%s is not filled in: %s %v", f, text, err)
		}
	}
}

// A manager of systemd has the units as they are shipped: after each change by dpkg alone
// the jail is up to date without anyone acting, and so it is a minute after a start.
func TestSystemd(t *testing.T) {
	_, units := hooks(t)
	version := built(t)
	upgrade := func(to string) {
		t.Helper()
		if r := Do(t, exec.Command("dpkg", "-i", pack(t, to))); r.Status != 0 {
			t.Fatalf("%+v", r)
		}
	}
	becomes := func(want string) {
		t.Helper()
		got := ""
		for begin := time.Now(); time.Since(begin) < 90*time.Second; time.Sleep(100 * time.Millisecond) {
			if got = version(); got == want {
				return
			}
		}
		t.Fatalf("it says %s, and should say %s", got, want)
	}

	// A manager of a user needs no machine that was started by systemd, only to believe so.
	home := t.TempDir()
	wants := filepath.Join(home, "config/systemd/user/default.target.wants")
	if err := errors.Join(os.Mkdir(home+"/run", 0o700), os.MkdirAll(wants, 0o755)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(units + "/jailctl-build.*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		at := filepath.Join(filepath.Dir(wants), filepath.Base(f))
		if err := os.Symlink(f, at); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f, ".service") {
			if err := os.Symlink(at, filepath.Join(wants, filepath.Base(f))); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home + "/run", "XDG_CONFIG_HOME=" + home + "/config"}
	manager := exec.Command("unshare", "--mount", "sh", "-ec", "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system; exec /usr/lib/systemd/systemd --user")
	manager.Env = env
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) Result {
		cmd := exec.Command("systemctl", append([]string{"--user"}, args...)...)
		cmd.Env = env
		return Do(t, cmd)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(ask("status", "--full", "jailctl-build.*").Out)
		}
		manager.Process.Signal(syscall.SIGTERM)
		manager.Wait()
	})
	for begin := time.Now(); ask("is-active", "jailctl-build.path", "jailctl-build.timer").Status != 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatal("the units do not start")
		}
	}

	for i := range 8 {
		upgrade(fmt.Sprintf("1.1.%d", i)) // more often than systemd starts what has a limit
	}
	becomes("1.1.7")
	upgrade("1.2")
	becomes("1.2")
	if r := Root(t, Jailctl, "outdated"); r.Status != 0 {
		t.Errorf("%+v", r)
	}

	ask("stop", "jailctl-build.path")
	upgrade("1.3")
	if got := version(); got != "1.2" {
		t.Fatalf("it says %s before a minute has gone", got)
	}
	becomes("1.3")
}
