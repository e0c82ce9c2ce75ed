package main_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
	"jailctl/proto/jailpb"
)

// attempts is what doctor --attack says, by attack.
func attempts(t *testing.T, r Result) map[string]string {
	t.Helper()
	var all []struct{ Attack, Result, How string }
	if err := json.Unmarshal([]byte(r.Out), &all); err != nil {
		t.Fatalf("%v\n%+v", err, r)
	}
	m := map[string]string{}
	for _, a := range all {
		m[a.Attack] = a.Result
		if a.Result == "unknown" {
			t.Errorf("%s: %s", a.Attack, a.How)
		}
	}
	return m
}

// untouched fails the test if an attack left something behind.
func untouched(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{Etc + "/jails/doctor-*", State + "/policies/doctor-*", Jail + "/jailctl-attack"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	Gone(t, "jailctl-probe")
}

func TestDoctorAttack(t *testing.T) {
	const rule = `root: "ROOT" rules { users: "jailctl-alice" commands { path: "/bin/id" } run_as { user: "daemon" } } rules { users: "jailctl-dev" run_as { caller: true } confine { network: true } } `
	for name, test := range map[string]struct {
		text, as string
		open     []string
	}{
		"as alice":       {rule, Alice.Name, []string{"memfd-exec"}},
		"as the caller":  {rule, Dev.Name, []string{"tcp-connect", "udp-sendto"}},
		"less unveiled":  {rule + `confine { unveil { path: "/bin" access: "rx" } }`, Alice.Name, nil},
		"fewer promises": {rule + `confine { promises: "stdio rpath" violation: KILL }`, Alice.Name, nil},
		"local sockets":  {rule + `confine { local_sockets: true }`, Alice.Name, []string{"unix-socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			Apply(t, "web", test.text)
			r := Root(t, Jailctl, "doctor", "--json", "--attack", "web", "--as", test.as)
			all := attempts(t, r)
			if r.Status != 0 || len(all) < 100 {
				t.Errorf("status %d, %d attacks: %s", r.Status, len(all), r.Err)
			}
			for _, a := range test.open {
				if all[a] != "open" {
					t.Errorf("%s: %s, want open", a, all[a])
				}
			}
			for _, a := range []string{"double-chroot", "mount", "tiocsti", "io-uring", "directory-moved-out", "dirfd-inherited"} {
				if all[a] != "held" {
					t.Errorf("%s: %s, want held", a, all[a])
				}
			}
			untouched(t)
		})
	}
}

// A jail that does not hold is seen not to.
func TestDoctorAttackSeesHoles(t *testing.T) {
	Compile(t, "web", everyone, func(c *jailpb.Compiled) {
		c.Confines[0].Program = []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f} // RET ALLOW
	})
	r := Root(t, Jailctl, "doctor", "--json", "--attack", "web")
	all := attempts(t, r)
	for _, a := range []string{"udp-connect", "unix-socket", "shm", "personality"} {
		if all[a] != "ESCAPED" {
			t.Errorf("%s: %q, want ESCAPED", a, all[a])
		}
	}
	if r.Status != 1 || !strings.Contains(r.Err, "got out of") {
		t.Errorf("status %d: %s", r.Status, r.Err)
	}
	untouched(t)
}

func TestDoctorAttackRefusals(t *testing.T) {
	Apply(t, "web", `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" } }`)
	for text, args := range map[string][]string{
		`no rule permits jailctl-bob anything`: {"web", "--as", Bob.Name},
		`no rule permits root anything`:        {"web"},
		`there is no policy`:                   {"nothing"},
		`not a jail's name`:                    {"../web"},
	} {
		cmd := exec.Command(Jailctl, append([]string{"doctor", "--attack"}, args...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		if r := Do(t, cmd); r.Status != 2 || !strings.Contains(r.Err, text) || r.Out != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	// Here the probe, a Go program, is killed before it begins.
	Apply(t, "web", everyone+`confine { promises: "stdio" violation: KILL }`)
	if r := Root(t, Jailctl, "doctor", "--attack", "web"); r.Status != 2 || !strings.Contains(r.Err, "too little for the probe") {
		t.Errorf("%+v", r)
	}
	if r := Run(t, Alice, Jailctl, "doctor", "--attack", "web"); r.Status != 2 || !strings.Contains(r.Err, "only root") {
		t.Errorf("%+v", r)
	}
	untouched(t)
}

// Ctrl-C in the middle of it leaves nothing behind.
func TestDoctorAttackInterrupted(t *testing.T) {
	Apply(t, "web", everyone)
	cmd := exec.Command(Jailctl, "doctor", "--attack", "web")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if left, _ := filepath.Glob(Etc + "/jails/doctor-*"); len(left) > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	cmd.Process.Signal(unix.SIGINT)
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Signal(os.Kill) })
	defer timer.Stop()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("%v", cmd.ProcessState)
	}
	untouched(t)
}

// What root has open is closed before anything runs as the caller, whose processes could
// take it from there: long before the end, for which nobody reads what it prints.
func TestDoctorAttackApart(t *testing.T) {
	Apply(t, "web", everyone)
	var p [2][2]int
	for i := range p {
		if err := unix.Pipe2(p[i][:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
	}
	open, out := os.NewFile(uintptr(p[0][0]), "open"), os.NewFile(uintptr(p[1][0]), "out")
	defer open.Close()
	for full := false; !full; {
		_, err := unix.Write(p[1][1], make([]byte, 4096))
		full = err == unix.EAGAIN
	}
	if err := unix.SetNonblock(p[1][1], false); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Jailctl, "doctor", "--attack", "web", "--as", Alice.Name)
	cmd.Stdout, cmd.ExtraFiles = os.NewFile(uintptr(p[1][1]), "out"), []*os.File{os.NewFile(uintptr(p[0][1]), "open")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles[0].Close()
	open.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := open.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("root's pipe: %v", err)
	}
	cmd.Process.Signal(unix.SIGINT)
	out.Close()
	cmd.Wait()
	untouched(t)
}
