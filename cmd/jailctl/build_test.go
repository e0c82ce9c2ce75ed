package main_test

import (
	"os"
	"os/exec"
	"strings"
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
	admin := Prefix + "/libexec/jailctl/jailctl-admin"
	if _, err := os.Stat(admin); err != nil {
		t.Fatal(err)
	}
	with := func() { os.Rename(admin+".away", admin) }
	without := func() { os.Rename(admin, admin+".away") }
	t.Cleanup(with)
	built := func() {
		t.Helper()
		with()
		sh(t, Jailctl, "build", "--quiet", "idle")
		without()
	}
	answered := func(want bool, args ...string) {
		t.Helper()
		r := Root(t, Jailctl, args...)
		if got := r.Status == 0 && r.Err == ""; got != want || !want && !strings.Contains(r.Err, "cannot start "+admin) {
			t.Errorf("%q: %+v", args, r)
		}
	}
	built()
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
	if r := Run(t, Alice, Jailctl, "build", "idle"); !strings.Contains(r.Err, "cannot start") {
		t.Errorf("an ordinary user: %+v", r)
	}
	if r := Do(t, exec.Command("sh", "-c", "exec "+Jailctl+" build idle >/dev/full")); !strings.Contains(r.Err, "cannot start") {
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
}
