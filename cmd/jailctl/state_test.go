package main_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	. "jailctl/internal/roottest"
)

// stayer is a process that runs testdata/stay.c.
type stayer struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func stay(t *testing.T, cmd *exec.Cmd) *stayer {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	s := &stayer{t, in, bufio.NewReader(out)}
	s.want("", "ok")
	return s
}

// want gives the process an order and compares its answer.
func (s *stayer) want(order, wanted string) {
	s.t.Helper()
	if order != "" {
		fmt.Fprintln(s.in, order)
	}
	if got, err := s.out.ReadString('\n'); err != nil || got != wanted+"\n" {
		s.t.Errorf("%s: %q, want %q (%v)", order, got, wanted, err)
	}
}

// stateful is a jail with a state directory of daemon's, below a directory of its own.
type stateful struct {
	t             *testing.T
	jails         string
	root, version string
}

func newStateful(t *testing.T, name string) *stateful {
	j := &stateful{t: t, jails: Prefix + "/" + name, root: Prefix + "/" + name + "/hold"}
	Apply(t, "hold", `root: "`+j.root+`" rules { users: "*" run_as { user: "daemon" } } working_directory: "/data"`)
	sh(t, "gcc", "-static", "-O1", "-Wall", "-Werror", "-o", Prefix+"/stay", "testdata/stay.c")
	// What is outside: a file of root's that daemon cannot read, and one of daemon's.
	for file, uid := range map[string]int{"secret": 0, "owned": 1} {
		if err := os.WriteFile(Prefix+"/"+file, []byte("outside"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(Prefix+"/"+file, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		sh(t, Jailctl, "remove", "--yes", "hold") // with the mounts on old trees
		os.RemoveAll(j.jails)
	})
	return j
}

func sh(t *testing.T, name string, args ...string) {
	t.Helper()
	if r := Root(t, name, args...); r.Status != 0 {
		t.Fatalf("%s %q: %+v", name, args, r)
	}
}

func (j *stateful) build() {
	j.t.Helper()
	j.version += "new"
	file := Etc + "/contents/hold.txtpb"
	text := fmt.Sprintf(`
paths: %q
keep: 9
symlinks { path: "/stay" target: %q }
directories { path: "/data" owner: "daemon" state: true }
files { path: "/version" text: %q }
`, Prefix+"/stay", Prefix[1:]+"/stay", j.version)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { os.Remove(file) })
	sh(j.t, Jailctl, "build", "hold")
}

// A build moves the state directory in which a command stands from one tree into
// another: out of the command's chroot, that is.
func TestStateMovesUnderCommand(t *testing.T) {
	for _, place := range []struct{ name, stat, bare string }{
		// Made by build itself: nobody but root can go through it.
		{"closed", "EACCES", "EACCES"},
		// Made by somebody else: metadata is what SECURITY.md does not claim, and a chroot
		// without the confinement holds nothing.
		{"open", "ok", "outside"},
	} {
		t.Run(place.name, func(t *testing.T) {
			j := newStateful(t, place.name)
			if place.name == "open" {
				if err := os.Mkdir(j.jails, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			j.build()
			if err := os.WriteFile(j.root+"/data/mine", []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
			jailed := stay(t, As(Alice, exec.Command(Jailctl, "run", "hold", "/stay")))
			chrooted := exec.Command("/stay")
			chrooted.Path, chrooted.Dir = "/stay", "/data"
			chrooted.SysProcAttr = &syscall.SysProcAttr{Chroot: j.root, Credential: &syscall.Credential{Uid: 1, Gid: 1}}
			bare := stay(t, chrooted)
			all := []*stayer{jailed, bare}
			inside := func() {
				t.Helper()
				for _, p := range all {
					p.want("open mine", "mine")
					p.want("make more", "ok")
					p.want("stat "+out("secret"), "ENOENT")
				}
			}
			inside()

			j.build()
			for _, how := range []string{"open ", "at "} {
				jailed.want(how+"mine", "EACCES")
				jailed.want(how+".", "EACCES")
				jailed.want(how+"../../..", "EACCES")
				jailed.want(how+out("secret"), "EACCES")
			}
			jailed.want("make more", "EACCES")
			jailed.want("make "+out("made"), "EACCES")
			bare.want("open "+out("secret"), place.bare)
			for _, p := range all {
				p.want("stat "+out("secret"), place.stat)
				p.want("chmod "+out("owned"), place.stat)
			}
			// The tree that they are in is the old one, and the state is where it was.
			for _, p := range all {
				p.want("open /version", "new")
				p.want("open /data/mine", "mine")
				p.want("make /data/yours", "ok")
				p.want("chdir /data", "ok")
			}
			if _, err := os.Stat(j.root + "/data/yours"); err != nil {
				t.Error(err)
			}
			inside()

			// It is lent to that tree now, and that does not move.
			j.build()
			inside()
			sh(t, Jailctl, "rollback", "hold")
			inside()
		})
	}
}

// out is the way to what is outside from a state directory, once it has moved.
func out(name string) string { return "../../../" + name }
