// Package presets_test begins a jail with each preset, builds it, and uses what it is
// for, through the installed set-uid helper, as an ordinary user.
package presets_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"jailctl/internal/roottest"
)

func TestMain(m *testing.M) { roottest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// jailctl is a verb of root's that has to succeed, quietly on standard error but for
// notes and what to do next.
func jailctl(t *testing.T, args ...string) string {
	t.Helper()
	r := roottest.Root(t, roottest.Jailctl, args...)
	if r.Status != 0 {
		t.Fatalf("jailctl %q: status %d\n%s%s", args, r.Status, r.Out, r.Err)
	}
	return r.Out
}

func policyFile(name string) string   { return roottest.Etc + "/jails/" + name + ".txtpb" }
func contentsFile(name string) string { return roottest.Etc + "/contents/" + name + ".txtpb" }
func rootOf(name string) string       { return roottest.Prefix + "/jails/" + name }

// begin is `jailctl init` for Alice, with these options and programs. What it writes
// has no mistakes and is laid out.
func begin(t *testing.T, name string, args ...string) {
	t.Helper()
	jailctl(t, append([]string{"init", "--user", roottest.Alice.Name, "--root", rootOf(name), name}, args...)...)
	t.Cleanup(func() {
		os.Remove(policyFile(name))
		os.Remove(contentsFile(name))
		os.Remove(roottest.State + "/policies/" + name + ".pb")
	})
	jailctl(t, "policy", "check", name, contentsFile(name))
	jailctl(t, "policy", "fmt", "-d", name, contentsFile(name))
}

// made builds the jail and puts its policy in force. When the test is over, nothing in
// the tree is other than it was built, and a build has nothing to do.
func made(t *testing.T, name string) {
	t.Helper()
	jailctl(t, "build", name)
	jailctl(t, "apply", name)
	t.Cleanup(func() {
		if r := roottest.Root(t, roottest.Jailctl, "verify", name); r.Status != 0 {
			t.Errorf("after use: %s%s", r.Out, r.Err)
		}
		if out := jailctl(t, "build", name); out != name+": nothing to do\n" {
			t.Errorf("built again: %s", out)
		}
		jailctl(t, "remove", "--yes", name)
	})
}

// jail is begin and made.
func jail(t *testing.T, name string, args ...string) {
	t.Helper()
	begin(t, name, args...)
	made(t, name)
}

// add writes lines at the end of a file of root's.
func add(t *testing.T, file, lines string) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, append(b, lines...), 0o644))
}

// run is Alice's `jailctl run`.
func run(t *testing.T, args ...string) roottest.Result {
	t.Helper()
	return roottest.Jailrun(t, roottest.Alice, args...)
}

// same fails the test unless a command ended well, with this and nothing else.
func same(t *testing.T, r roottest.Result, out string) {
	t.Helper()
	if r.Status != 0 || r.Out != out || r.Err != "" {
		t.Errorf("status %d, out %q, err %q; want 0, %q and nothing", r.Status, r.Out, r.Err, out)
	}
}

// alice runs a program outside of any jail, as Alice, in dir.
func alice(t *testing.T, dir, stdin, name string, args ...string) roottest.Result {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + roottest.Prefix + "/bin:/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8"}
	cmd.Stdin = strings.NewReader(stdin)
	return roottest.Do(t, roottest.As(roottest.Alice, cmd))
}

// place is a directory of Alice's, outside of any jail.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(roottest.Public, "alice-")
	must(t, err)
	must(t, os.Chown(dir, int(roottest.Alice.UID), int(roottest.Alice.GID)))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
