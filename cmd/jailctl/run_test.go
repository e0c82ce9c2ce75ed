package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
)

func TestMain(m *testing.M) { Main(m) }

// everyone may run anything as daemon.
const everyone = `root: "ROOT" rules { users: "*" run_as { user: "daemon" group: "daemon" } } environment { keep: "TERM" keep: "LC_*" }`

// want fails the test unless got is one of the wanted values.
func want(t *testing.T, what, got string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if got == w {
			return
		}
	}
	t.Errorf("%s is %q, want %q", what, got, wanted)
}

// The command is the target and nothing more, in the jail and nowhere else.
func TestRunAsTarget(t *testing.T) {
	Apply(t, "web", everyone+` umask: 027 limits { open_files: 256 cpu_seconds: 600 }`)
	cmd := As(Dev, exec.Command(Jailctl, "run", "web", "/bin/probe"))
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd.ExtraFiles = []*os.File{dir, dir, dir, dir, dir} // 3 to 7 lead outside
	cmd.Env = []string{"TERM=vt100", "LC_ALL=C", "SECRET=1", "GODEBUG=inittrace=1", "LD_PRELOAD=/x", "GOMAXPROCS=3"}
	p := Probe(t, Do(t, cmd))
	var root unix.Stat_t
	if err := unix.Stat(Jail, &root); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"uid": "1 1 1", "gid": "1 1 1", "groups": "", "caps": "00 00 00", "ambient": "0", "nnp": "1",
		"fds": "0 1 2", "cwd": "/", "umask": "027", "blocked": "", "ignored": "", "timers": "0 0 0",
		"limit.nofile": "256 256", "limit.cpu": "600 600", "limit.core": "1 1",
		"root": fmt.Sprintf("%d:%d", root.Dev, root.Ino),
		"env":  "PATH=/usr/local/bin:/usr/bin:/bin\nHOME=/usr/sbin\nSHELL=/usr/sbin/nologin\nUSER=daemon\nLOGNAME=daemon\nTERM=vt100\nLC_ALL=C",
	} {
		want(t, k, p[k], v)
	}
}

func TestRunTargets(t *testing.T) {
	Apply(t, "two", `root: "ROOT" rules { users: "jailctl-alice" run_as { caller: true } }
rules { users: "*" run_as { user: "daemon" group: "daemon" groups: "games" } }`)
	alice := fmt.Sprint(Alice.UID, " ", Alice.UID, " ", Alice.UID)
	p := Probe(t, Jailrun(t, Alice, "two", "probe"))
	want(t, "uid", p["uid"], alice)
	want(t, "gid", p["gid"], fmt.Sprint(Alice.GID, " ", Alice.GID, " ", Alice.GID))
	want(t, "groups", p["groups"], "")
	p = Probe(t, Jailrun(t, Alice, "-u", "daemon", "-g", "daemon", "two", "probe"))
	want(t, "uid", p["uid"], "1 1 1")
	want(t, "groups", p["groups"], "60")
	p = Probe(t, Jailrun(t, Alice, "-u"+strconv.Itoa(int(Alice.UID)), "two", "--", "/bin/probe"))
	want(t, "uid", p["uid"], alice)
	p = Probe(t, Jailrun(t, Alice, "-C", "/tmp", "two", "probe"))
	want(t, "cwd", p["cwd"], "/tmp")
}

// A refusal is status 125, one line, nothing run and one audit line.
func TestDenied(t *testing.T) {
	Apply(t, "web", `root: "ROOT"
rules { users: "jailctl-mallory" deny: true }
rules { users: "jailctl-alice" commands { path: "/bin/probe" args: "touch" args: "*" } run_as { user: "daemon" } }
rules { users: "jailctl-bob" run_as { user: "daemon" } not_after: "2020-01-31" }`)
	if r := Jailrun(t, Alice, "web", "/bin/probe", "touch", "/tmp/control"); r.Status != 0 {
		t.Fatalf("the permitted command: %+v", r)
	}
	os.Remove(Jail + "/tmp/control")
	lines := Syslog(t)
	touch := []string{"/bin/probe", "touch", "/tmp/ran"}
	tests := map[string]struct {
		who  User
		args []string
		says string
	}{
		"no rule":             {Dev, append([]string{"web"}, touch...), "no jail of that name is open to you"},
		"deny rule":           {Mallory, append([]string{"web"}, touch...), "no jail of that name is open to you"},
		"unknown jail":        {Alice, append([]string{"nope"}, touch...), "no jail of that name is open to you"},
		"wrong command":       {Alice, []string{"web", "/bin/sh", "-c", ">/tmp/ran"}, `"/bin/sh" is not permitted`},
		"wrong argument":      {Alice, []string{"web", "/bin/probe", "args", "/tmp/ran"}, "arguments are not permitted"},
		"wrong target":        {Alice, append([]string{"-u", "games", "web"}, touch...), `target "games:" is not permitted`},
		"root as target":      {Alice, append([]string{"-u", "root", "web"}, touch...), `target "root:" is not permitted`},
		"expired rule":        {Bob, append([]string{"web"}, touch...), "has ended"},
		"variable not kept":   {Alice, append([]string{"-e", "A=b", "web"}, touch...), `does not keep the variable "A"`},
		"no default command":  {Alice, []string{"web"}, "no command was given"},
		"relative directory":  {Alice, append([]string{"-C", "tmp", "web"}, touch...), "absolute path"},
		"a path of dots":      {Alice, []string{"web", "/bin/../bin/probe", "touch", "/tmp/ran"}, "clean absolute path"},
		"not the name of one": {Alice, append([]string{"../web"}, touch...), "no jail of that name is open to you"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			lines()
			r := Jailrun(t, test.who, test.args...)
			if r.Status != 125 || r.Out != "" || strings.Count(r.Err, "\n") != 1 || !strings.HasPrefix(r.Err, "jailctl: cannot run: ") || !strings.Contains(r.Err, test.says) {
				t.Errorf("got %+v, want status 125 and one line with %q", r, test.says)
			}
			if _, err := os.Lstat(Jail + "/tmp/ran"); err == nil {
				t.Error("the command ran")
			}
			if got := lines(); len(got) != 1 || !strings.Contains(got[0], "denied caller="+strconv.Itoa(int(test.who.UID))) {
				t.Errorf("audit lines %q, want one denial", got)
			}
		})
	}
}

// Whoever no rule permits anything cannot tell an unknown jail from a forbidden
// or a broken one.
func TestStrangersAreToldNothing(t *testing.T) {
	only := `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" } }`
	for _, name := range []string{"forbidden", "edited", "broken", "withdrawn", "writable", "denied"} {
		Apply(t, name, only)
	}
	Apply(t, "denied", `root: "ROOT" rules { users: "jailctl-mallory" deny: true } rules { users: "jailctl-alice" run_as { user: "daemon" } }`)
	Write(t, "edited", only+"\n")
	Write(t, "broken", `root: rules {`)
	os.Remove(Etc + "/jails/withdrawn.txtpb")
	if err := os.Chmod(Etc+"/jails/writable.txtpb", 0o666); err != nil {
		t.Fatal(err)
	}
	unknown := Jailrun(t, Mallory, "unknown", "/bin/probe")
	if unknown.Status != 125 || strings.Count(unknown.Err, "\n") != 1 {
		t.Fatalf("unknown jail: %+v", unknown)
	}
	for _, name := range []string{"forbidden", "edited", "broken", "withdrawn", "writable", "denied"} {
		if r := Jailrun(t, Mallory, name, "/bin/probe"); r != unknown {
			t.Errorf("%s: %+v, unknown: %+v", name, r, unknown)
		}
	}
	// The same jails say why to the one they permit.
	if r := Jailrun(t, Alice, "edited", "/bin/probe"); !strings.Contains(r.Err, "jailctl apply edited") {
		t.Errorf("edited, to those permitted: %+v", r)
	}
}

func TestEditedPolicyDenies(t *testing.T) {
	Apply(t, "web", everyone)
	if r := Jailrun(t, Alice, "web", "true"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	Write(t, "web", `root: "ROOT" rules { users: "jailctl-bob" run_as { user: "daemon" } }`)
	for _, u := range []User{Alice, Bob} {
		r := Jailrun(t, u, "web", "true")
		// Alice is named by the form in force; so is bob, by its "*".
		if r.Status != 125 || !strings.Contains(r.Err, "edited") || !strings.Contains(r.Err, "jailctl apply web") {
			t.Errorf("%s, edited: %+v", u.Name, r)
		}
	}
	if r := Root(t, Jailctl, "apply", "web"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	if r := Jailrun(t, Bob, "web", "true"); r.Status != 0 {
		t.Errorf("applied: %+v", r)
	}
	if r := Jailrun(t, Alice, "web", "true"); r.Status != 125 || strings.Contains(r.Err, "apply") {
		t.Errorf("the right withdrawn: %+v", r)
	}
}

// A broken text is not applied, what was in force stays so, and the words say it.
func TestApplyBroken(t *testing.T) {
	Apply(t, "web", everyone)
	before, err := os.ReadFile(State + "/policies/web.pb")
	if err != nil {
		t.Fatal(err)
	}
	Write(t, "web", `root: "relative" rules { users: "*" run_as { user: "daemon" } } colour: "red"`)
	r := Root(t, Jailctl, "apply", "web")
	if r.Status != 1 || !strings.Contains(r.Err, "web.txtpb:1:") || !strings.Contains(r.Err, "stays") {
		t.Errorf("apply: %+v", r)
	}
	after, err := os.ReadFile(State + "/policies/web.pb")
	if err != nil || string(before) != string(after) {
		t.Errorf("the compiled form changed: %v", err)
	}
	Apply(t, "web", everyone)
	if r := Root(t, Jailctl, "apply", "-n", "web"); r.Status != 0 {
		t.Errorf("apply -n of what is in force: %+v", r)
	}
}

// apply -n says who gains and who loses, and changes nothing.
func TestApplyDryRun(t *testing.T) {
	Apply(t, "web", `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" } }`)
	before, _ := os.ReadFile(State + "/policies/web.pb")
	Write(t, "web", `root: "ROOT" rules { users: "jailctl-bob" run_as { user: "daemon" } }`)
	r := Root(t, Jailctl, "apply", "-n", "web")
	if !strings.Contains(r.Out, "user jailctl-alice may no longer run any command as daemon") || !strings.Contains(r.Out, "user jailctl-bob may now run any command as daemon") {
		t.Errorf("%+v", r)
	}
	if after, _ := os.ReadFile(State + "/policies/web.pb"); string(after) != string(before) {
		t.Error("-n changed what is in force")
	}
}

func TestApplyNeedsRoot(t *testing.T) {
	Apply(t, "web", everyone)
	if r := Run(t, Alice, Jailctl, "apply", "web"); r.Status != 2 || !strings.Contains(r.Err, "root") {
		t.Errorf("%+v", r)
	}
}

func TestExitStatus(t *testing.T) {
	Apply(t, "web", everyone)
	if err := os.WriteFile(Jail+"/bin/plain", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(Jail + "/bin/plain") })
	for _, n := range []int{0, 1, 2, 42, 124, 125, 126, 127, 128, 255} {
		if r := Jailrun(t, Alice, "web", "probe", "exit", strconv.Itoa(n)); r.Status != n || r.Err != "" {
			t.Errorf("exit %d: %+v", n, r)
		}
	}
	for args, status := range map[string]int{"/bin/nothing": 127, "nothing": 127, "/bin/plain/x": 127, "/bin/plain": 126, "plain": 126, "/tmp": 126} {
		r := Jailrun(t, Alice, "web", args)
		if r.Status != status || strings.Count(r.Err, "\n") != 1 || !strings.Contains(r.Err, strconv.Quote(args)) {
			t.Errorf("%s: %+v, want status %d", args, r, status)
		}
	}
	if r := Jailrun(t, Alice, "-C", "/nowhere", "web", "true"); r.Status != 125 || !strings.Contains(r.Err, `cannot change to "/nowhere" in the jail`) {
		t.Errorf("-C /nowhere: %+v", r)
	}
}

// jailctl dies of the signal that killed the command.
func TestExitSignal(t *testing.T) {
	Apply(t, "web", everyone)
	for _, sig := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGABRT, syscall.SIGALRM} {
		r := Jailrun(t, Alice, "web", "probe", "kill", strconv.Itoa(int(sig)))
		if r.Signal != sig || r.Err != "" {
			t.Errorf("signal %d: %+v", sig, r)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"-x", "web"}, {"--tty=maybe", "web"}, {"--tty=pty", "web"}, {"-u", "--tty=pty", "-x", "web"}, {"-u"}, {"-u", "", "web"}, {"-e", "=x", "web"}, {"--status-fd=9", "web"}, {"--status-fd=1", "web"}, {"--no"}} {
		if r := Jailrun(t, Alice, args...); r.Status != 125 || strings.Count(r.Err, "\n") != 1 || r.Out != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := Jailrun(t, Alice, "--help"); r.Status != 0 || !strings.HasPrefix(r.Out, "usage: ") {
		t.Errorf("--help: %+v", r)
	}
}

// Every relayed signal reaches a command of another uid, once.
func TestSignalsAreRelayed(t *testing.T) {
	Apply(t, "web", everyone)
	cmd := As(Alice, exec.Command(Jailctl, "run", "web", "probe", "count", "1", "2", "3", "10", "12", "15"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		var line []byte
		for b := make([]byte, 1); ; {
			if n, err := out.Read(b); n == 0 || err != nil || b[0] == '\n' {
				return string(line)
			}
			line = append(line, b[0])
		}
	}
	want(t, "first line", next(), "ready")
	for _, sig := range []syscall.Signal{1, 2, 3, 10, 12, 10, 15} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		want(t, "line", next(), strconv.Itoa(int(sig)))
	}
	want(t, "last line", next(), "")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// However jailctl ends, a command of another uid ends with it.
func TestNothingIsLeftBehind(t *testing.T) {
	Apply(t, "web", everyone)
	for i, args := range [][]string{
		{"timeout", "0.5"},
		{"timeout", "-s", "KILL", "0.5"},
		{"timeout", "-s", "INT", "0.5"},
		{"timeout", "--foreground", "-s", "HUP", "0.5"},
	} {
		mark := strconv.Itoa(98700 + i)
		r := Run(t, Alice, args[0], append(args[1:], Jailctl, "run", "web", "/bin/sleep", mark)...)
		if r.Status == 0 || r.Status == 125 {
			t.Errorf("%v: %+v", args, r)
		}
		Gone(t, mark)
	}
}

func TestWallSeconds(t *testing.T) {
	Apply(t, "web", everyone+` limits { wall_seconds: 1 }`)
	start := time.Now()
	r := Jailrun(t, Alice, "web", "sleep", "98600")
	if r.Signal != syscall.SIGTERM || !strings.Contains(r.Err, "wall_seconds") {
		t.Errorf("%+v", r)
	}
	if d := time.Since(start); d < time.Second || d > 4*time.Second {
		t.Errorf("ended after %v", d)
	}
	Gone(t, "98600")
}

func TestStatusFD(t *testing.T) {
	Apply(t, "web", everyone)
	events := func(args ...string) (all []map[string]any) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := As(Alice, exec.Command(Jailctl, append([]string{"run", "--status-fd=3"}, args...)...))
		cmd.ExtraFiles = []*os.File{w}
		Do(t, cmd)
		w.Close()
		d := json.NewDecoder(r)
		for d.More() {
			var m map[string]any
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		return all
	}
	if e := events("web", "probe", "exit", "7"); len(e) != 2 || e[0]["event"] != "started" || e[0]["pid"].(float64) < 2 || e[1]["event"] != "exited" || e[1]["code"] != 7.0 {
		t.Errorf("%v", e)
	}
	if e := events("web", "probe", "kill", "9"); len(e) != 2 || e[1]["event"] != "signaled" || e[1]["signal"] != 9.0 {
		t.Errorf("%v", e)
	}
	if e := events("nope", "x\"\x1b"); len(e) != 1 || e[0]["event"] != "refused" || !strings.Contains(e[0]["reason"].(string), "no jail") {
		t.Errorf("%v", e)
	}
	if e := events("-C", "/nowhere", "web", "true"); len(e) != 1 || e[0]["event"] != "refused" || e[0]["stage"] != "confine" {
		t.Errorf("%v", e)
	}
	if e := events("web", "/no\x1b\"x"); len(e) != 1 || e[0]["event"] != "refused" || !strings.Contains(e[0]["reason"].(string), "no such file") {
		t.Errorf("%v", e)
	}
}

// nohup and a shell's "&" mean the command; everything else that the caller
// ignores or blocks does not reach it.
func TestIgnoredSignals(t *testing.T) {
	Apply(t, "web", everyone)
	r := Run(t, Alice, "/bin/sh", "-c", "trap '' HUP INT PIPE CHLD USR1 TSTP XFSZ; exec "+Jailctl+" run web probe")
	want(t, "ignored", Probe(t, r)["ignored"], "1 2")
}

// A socket as standard input or output is relayed; a directory is refused.
func TestStdio(t *testing.T) {
	Apply(t, "web", everyone)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd := As(Alice, exec.Command(Jailctl, "run", "web", "sh", "-c", "cat; echo err >&2; ls -l /dev/stdin; exit 5"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	big := strings.Repeat("0123456789abcdef", 20000) + "\n"
	go func() {
		ours.WriteString(big)
		unix.Shutdown(pair[0], unix.SHUT_WR)
	}()
	var got strings.Builder
	for b := make([]byte, 65536); ; {
		n, err := ours.Read(b)
		got.Write(b[:n])
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 5 {
		t.Errorf("ended with %v", err)
	}
	if !strings.HasPrefix(got.String(), big+"err\n") {
		t.Errorf("%d bytes came back, want %d and more: %.40q…", got.Len(), len(big), got.String()[max(0, got.Len()-200):])
	}

	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	// The helper refuses before it reads the request, which the kernel reports to the
	// client ahead of the answer, or not: often enough to meet both.
	for range 50 {
		cmd = As(Alice, exec.Command(Jailctl, "run", "web", "probe"))
		cmd.Stdin = dir
		if r := Do(t, cmd); r.Status != 125 || !strings.Contains(r.Err, "descriptor 0 is neither") {
			t.Fatalf("a directory as stdin: %+v", r)
		}
	}
}

// One line for a permitted run as well, with what the caller typed in quotes.
func TestAuditLine(t *testing.T) {
	Apply(t, "web", everyone)
	lines := Syslog(t)
	lines()
	Jailrun(t, Alice, "web", "probe", "args", "a\nb\x1b[2J\"")
	got := lines()
	if len(got) != 1 || !strings.HasPrefix(got[0], "<86>jailhelper[") ||
		!strings.Contains(got[0], fmt.Sprintf(`]: permitted caller=%d jail="web" uid=1 gid=1 line=1 root=%q arg="probe" arg="args" arg="a\nb\x1b[2J\""`, Alice.UID, Jail)) {
		t.Errorf("%q", got)
	}
	Run(t, Alice, Jailctl, "explain", "web", "probe")
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "]: explained caller=") {
		t.Errorf("explain: %q", got)
	}
}

// Without syslog a run goes on, unless its policy says otherwise.
func TestAuditRequired(t *testing.T) {
	if _, err := os.Lstat("/dev/log"); err == nil {
		if err := unix.Mount("/dev/null", "/dev/log", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount("/dev/log", unix.MNT_DETACH) })
	}
	Apply(t, "lax", everyone)
	Apply(t, "strict", everyone+` audit_required: true`)
	if r := Jailrun(t, Alice, "lax", "true"); r.Status != 0 {
		t.Errorf("without syslog: %+v", r)
	}
	if r := Jailrun(t, Alice, "strict", "probe", "touch", "/tmp/ran"); r.Status != 125 || !strings.Contains(r.Err, "audit line") {
		t.Errorf("audit_required without syslog: %+v", r)
	}
	if _, err := os.Lstat(Jail + "/tmp/ran"); err == nil {
		t.Error("the command ran")
	}
	Syslog(t)
	if r := Jailrun(t, Alice, "strict", "true"); r.Status != 0 {
		t.Errorf("audit_required with syslog: %+v", r)
	}
}

// With fs.suid_dumpable=1 the drop would open a window to the target's other
// processes.
func TestSuidDumpable(t *testing.T) {
	Apply(t, "web", everyone)
	const knob = "/proc/sys/fs/suid_dumpable"
	before, err := os.ReadFile(knob)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(knob, before, 0) })
	for value, status := range map[string]int{"0": 0, "1": 125, "2": 0} {
		if err := os.WriteFile(knob, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		for _, u := range []User{Alice, {Name: "root"}} {
			if r := Jailrun(t, u, "web", "true"); r.Status != status || status != 0 && !strings.Contains(r.Err, "sysctl fs.suid_dumpable=0") {
				t.Errorf("fs.suid_dumpable=%s, %s: %+v, want status %d", value, u.Name, r, status)
			}
		}
	}
}

// Inheritable capabilities survive a change of uid, and a login may have given some.
func TestInheritableCapabilities(t *testing.T) {
	Apply(t, "web", everyone)
	caller := []string{"--reuid=" + Alice.Name, "--regid=" + Alice.Name, "--clear-groups", "--inh-caps=+net_raw,+chown"}
	p := Probe(t, Root(t, "setpriv", append(caller, Jail+"/bin/probe")...))
	if !strings.HasSuffix(p["caps"], " 02001") && !strings.HasSuffix(p["caps"], "2001") {
		t.Fatalf("outside: caps %q, want inheritable ones", p["caps"])
	}
	p = Probe(t, Root(t, "setpriv", append(caller, Jailctl, "run", "web", "probe")...))
	want(t, "caps", p["caps"], "00 00 00")
}

// With /proc in the jail, a process of the target's outside is a way out to where
// it stands, for the directory asked for as for the command: there chmod(2) works,
// which Landlock does not cover.
func TestDirectoryByProc(t *testing.T) {
	Apply(t, "web", everyone)
	proc := Jail + "/proc"
	if err := errors.Join(os.Mkdir(proc, 0o755), unix.Mount("proc", proc, "proc", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(proc, unix.MNT_DETACH)
		os.Remove(proc)
	})
	daemon := User{Name: "daemon", UID: 1, GID: 1}
	outside := As(daemon, exec.Command("sleep", "60"))
	outside.Dir = Public
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	defer outside.Wait()
	defer outside.Process.Kill()
	of := fmt.Sprintf("/proc/%d", outside.Process.Pid)
	// The target may follow the link, and this is where it leads.
	if r := Run(t, daemon, "readlink", of+"/cwd"); r.Out != Public+"\n" {
		t.Fatalf("%+v", r)
	}
	for _, dir := range []string{of + "/cwd", of + "/cwd/..", of + "/root", of + "/root" + Public} {
		r := Jailrun(t, Alice, "-C", dir, "web", "/bin/pwd")
		if r.Status != 125 || !strings.Contains(r.Err, "permission denied") {
			t.Errorf("%s: %+v", dir, r)
		}
	}
	if r := Jailrun(t, Alice, "-C", "/proc/self/root", "web", "/bin/pwd"); r.Status != 0 {
		t.Errorf("its own: %+v", r)
	}
}

// The caller's keys stay the caller's.
func TestKeyring(t *testing.T) {
	Apply(t, "web", everyone)
	probe := Jail + "/bin/probe"
	if r := Run(t, Alice, probe, "addkey", "jailctl-test", probe, "key", "jailctl-test"); r.Out != "secret\n" {
		t.Fatalf("outside: %+v", r)
	}
	if r := Run(t, Alice, probe, "addkey", "jailctl-test", Jailctl, "run", "web", "probe", "key", "jailctl-test"); r.Out != "none\n" {
		t.Errorf("in the jail: %+v", r)
	}
}

// A limit that is lower than a Go program needs binds the command, not the helper.
func TestSmallLimits(t *testing.T) {
	Apply(t, "web", everyone+` limits { address_space: 16777216 open_files: 16 file_size: 4096 processes: 4000 core: 0 }`)
	p := Probe(t, Jailrun(t, Alice, "web", "probe"))
	want(t, "limit.as", p["limit.as"], "16777216 16777216")
	want(t, "limit.nofile", p["limit.nofile"], "16 16")
	want(t, "limit.fsize", p["limit.fsize"], "4096 4096")
}

// The soft limit of descriptors, which the Go runtime raises for itself, arrives
// as the caller had it.
func TestDescriptorLimitIsTheCallers(t *testing.T) {
	Apply(t, "web", everyone)
	r := Run(t, Alice, "/bin/sh", "-c", "ulimit -Sn 77; ulimit -Hn 99; exec "+Jailctl+" run web probe")
	want(t, "limit.nofile", Probe(t, r)["limit.nofile"], "77 99")
}

// A thousand runs one after the other, two hundred at once.
func TestManyRuns(t *testing.T) {
	Apply(t, "web", everyone)
	for i := range 1000 {
		if r := Jailrun(t, Alice, "web", "true"); r.Status != 0 || r.Err != "" {
			t.Fatalf("run %d: %+v", i, r)
		}
	}
	errs := make(chan string, 200)
	for i := range 200 {
		go func() {
			cmd := As(Alice, exec.Command(Jailctl, "run", "web", "sh", "-c", "echo $0; exit 3", strconv.Itoa(i)))
			out, err := cmd.Output()
			if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 3 || string(out) != strconv.Itoa(i)+"\n" {
				errs <- fmt.Sprintf("run %d: %v %q", i, err, out)
				return
			}
			errs <- ""
		}()
	}
	for range 200 {
		if e := <-errs; e != "" {
			t.Error(e)
		}
	}
	Gone(t, Prefix+"/libexec")
}

// No dump of a command that crashes, nor of jailctl, which dies of the same signal,
// is handed to the program that kernel.core_pattern names (core(5)): it would run
// outside and as root.
func TestNoCoreDump(t *testing.T) {
	const setting = "/proc/sys/kernel/core_pattern"
	old, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	handler, ran := Prefix+"/dumped", Prefix+"/dumped.ran"
	script := "#!/bin/sh\necho $1 >>" + ran + "\nexec cat >/dev/null\n"
	if err := errors.Join(os.WriteFile(handler, []byte(script), 0o755), os.WriteFile(setting, []byte("|"+handler+" %e"), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(setting, old, 0o644); err != nil {
			t.Error(err)
		}
		os.Remove(ran)
	})
	for limits, want := range map[string]string{"": "", "limits { core: 0 }": "", "limits { core: 1000000 }": "probe\n"} {
		os.Remove(ran)
		Apply(t, "web", everyone+limits)
		if r := Jailrun(t, Alice, "web", "/bin/probe", "kill", "11"); r.Signal != syscall.SIGSEGV {
			t.Fatalf("%+v", r)
		}
		var got []byte
		for range 20 { // the kernel does not wait for the program
			if got, _ = os.ReadFile(ran); len(got) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if string(got) != want {
			t.Errorf("with %q dumped: %q, want %q", limits, got, want)
		}
	}
}
