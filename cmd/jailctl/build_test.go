package main_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "jailctl/internal/roottest"
)

// `jailctl build` with nothing to do is answered without jailctl-admin, and nothing
// else is.
func TestNothingToDo(t *testing.T) {
	const policy = `rules { users: "*" run_as { user: "daemon" } }`
	root := `root: "` + Prefix + `/idle/jail" `
	Apply(t, "idle", root+policy)
	file := Etc + "/contents/idle.txtpb"
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(file, `files { path: "/a" text: "a" }`)
	t.Cleanup(func() {
		os.Remove(file)
		os.RemoveAll(Prefix + "/idle")
	})
	built := func() {
		t.Helper()
		sh(t, Jailctl, "build", "--quiet", "idle")
	}
	// alone tells whether jailctl answered without jailctl-admin.
	alone := func(cmd string) (Result, bool) {
		t.Helper()
		log := filepath.Join(t.TempDir(), "log")
		r := Root(t, "sh", "-c", "strace -f -qq -e trace=execve -o "+log+" "+cmd)
		calls, err := os.ReadFile(log)
		if err != nil || !strings.Contains(string(calls), Jailctl) {
			t.Fatalf("%v: %s", err, calls)
		}
		return r, !strings.Contains(string(calls), "jailctl-admin")
	}
	answered := func(want bool, args ...string) {
		t.Helper()
		if r, got := alone(Jailctl + " " + strings.Join(args, " ")); got != want || got && (r.Status != 0 || r.Err != "") {
			t.Errorf("%q: %v, %+v", args, got, r)
		}
	}
	built()
	answered(true, "build", "idle")
	if r := Root(t, Jailctl, "build", "idle"); r.Out != "idle: nothing to do\n" || r.Err != "" || r.Status != 0 {
		t.Errorf("%+v", r)
	}
	if r := Root(t, Jailctl, "build", "--quiet", "idle"); r.Out != "" || r.Err != "" || r.Status != 0 {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{
		{"build"},
		{"build", "--quiet"},
		{"build", "-n", "idle"},
		{"build", "--json", "idle"},
		{"build", "--replace", "idle"},
		{"build", "idle", "idle"},
		{"build", "--all"},
		{"build", "other"},
		{"verify", "idle"},
		{"idle"},
	} {
		answered(false, args...)
	}
	if r := Run(t, Alice, Jailctl, "build", "idle"); !strings.Contains(r.Err, "only root") {
		t.Errorf("an ordinary user: %+v", r)
	}
	if r, got := alone(Jailctl + " build idle >/dev/full"); got {
		t.Errorf("nobody heard it: %+v", r)
	}

	// What was asked for is another.
	write(file, `files { path: "/a" text: "b" }`)
	answered(false, "build", "idle")
	built()
	answered(true, "build", "idle")
	// The policy names the root.
	Write(t, "idle", strings.Replace(root, "/idle/jail", "/idle/else", 1)+policy)
	answered(false, "build", "idle")
	built()
	if r := Root(t, "cat", Prefix+"/idle/else/a"); r.Out != "b" {
		t.Errorf("%+v", r)
	}
	answered(true, "build", "idle")
	// Another jailctl may plan otherwise.
	admin := Prefix + "/libexec/jailctl/jailctl-admin"
	sh(t, "touch", admin)
	answered(false, "build", "idle")
	built()
	answered(true, "build", "idle")

	// While a build waits for its turn, the policy changes.
	write(file, `files { path: "/a" text: "c" }`)
	whileWaiting(t, "idle", func() { Write(t, "idle", strings.Replace(root, "/idle/jail", "/idle/third", 1)+policy) }, "idle")
	answered(false, "build", "idle")
	if r := Root(t, "cat", Prefix+"/idle/third/a"); r.Out != "c" {
		t.Errorf("%+v", r)
	}
}

// Who users are is asked for each jail: one may wait while they change.
func TestAccountsOfEachJail(t *testing.T) {
	const name = "jailctlmoves"
	sh(t, "useradd", "-M", "-N", "-g", "nogroup", "-u", "61001", name)
	t.Cleanup(func() { exec.Command("userdel", name).Run() })
	for _, jail := range []string{"first", "second"} {
		Apply(t, jail, `root: "`+Prefix+`/moves/`+jail+`" rules { users: "*" run_as { user: "daemon" } }`)
		file := Etc + "/contents/" + jail + ".txtpb"
		if err := os.WriteFile(file, []byte(`users: "`+name+`"`), 0o644); err != nil {
			t.Fatal(err)
		}
		sh(t, Jailctl, "build", "--quiet", jail)
		if err := os.WriteFile(file, []byte(`users: "`+name+`" devices: "null"`), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { Root(t, Jailctl, "remove", "--yes", jail); os.Remove(file) })
	}
	whileWaiting(t, "second", func() { sh(t, "usermod", "-u", "61002", name) }, "first", "second")
	if r := Root(t, "cat", Prefix+"/moves/second/etc/passwd"); !strings.Contains(r.Out, ":61002:") {
		t.Errorf("%+v", r)
	}
}

// whileWaiting does something while a build of jails waits for one that has to be built.
func whileWaiting(t *testing.T, jail string, do func(), jails ...string) {
	t.Helper()
	lock, err := os.Open(State + "/manifests/" + jail + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	waiting := exec.Command(Jailctl, append([]string{"build"}, jails...)...)
	said, err := waiting.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), jail+" waits for") {
		t.Log(lines.Text())
	}
	do()
	syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := waiting.Wait(); err != nil {
		t.Error(err)
	}
}
