package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "jailctl/internal/roottest"
)

// place is a directory of alice's.
func place(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp(Public, "learn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", Alice.Name, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// alice is a command of hers, in a directory.
func alice(dir string, argv ...string) *exec.Cmd {
	name := argv[0]
	if !strings.Contains(name, "/") {
		name = "/usr/bin/" + name // not what root has on its PATH
	}
	cmd := As(Alice, exec.Command(name, argv[1:]...))
	cmd.Args[0], cmd.Dir = argv[0], dir
	cmd.Env = append(cmd.Env, "PWD="+dir) // as a shell has it
	return cmd
}

// asleep waits until a command of the host's sleeps.
func asleep(t *testing.T, mark string) (pid int) {
	t.Helper()
	for range 500 {
		out, _ := exec.Command("pgrep", "-f", "^sleep "+mark+"$").Output()
		if pids := strings.Fields(string(out)); len(pids) > 0 {
			pid, _ = strconv.Atoi(pids[0])
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no sleep %s", mark)
	return 0
}

// settle does what an administrator does with the two files that somebody has learned,
// with a root below Prefix, and what the contents file says is to be done with data.
func settle(t *testing.T, name, contents, policy string) {
	t.Helper()
	install(t, name, contents, policy)
	for _, r := range fillState(t, name) {
		if r != (Result{}) {
			t.Fatalf("%+v", r)
		}
	}
}

// install is settle without the data; it returns the root of the jail.
func install(t *testing.T, name, contents, policy string) string {
	t.Helper()
	jails := Prefix + "/jails"
	if err := os.MkdirAll(jails, 0o700); err != nil { // as build makes /srv/jails
		t.Fatal(err)
	}
	for from, to := range map[string]string{contents: Etc + "/contents/" + name + ".txtpb", policy: Etc + "/jails/" + name + ".txtpb"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "/srv/jails/", jails+"/"))
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(to) })
	}
	for _, args := range [][]string{{"build", "--quiet", name}, {"apply", name}} {
		if r := Root(t, Jailctl, args...); r.Status != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	t.Cleanup(func() {
		if r := Root(t, Jailctl, "remove", "--yes", name); r.Status != 0 {
			t.Errorf("%+v", r)
		}
		os.Remove(State + "/policies/" + name + ".pb")
	})
	return jails + "/" + name
}

// fillState does what the contents file says that root is to do after the build.
func fillState(t *testing.T, name string) (all []Result) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^#   (\(cd .*\))$`).FindAllStringSubmatch(string(mustRead(t, Etc+"/contents/"+name+".txtpb")), -1) {
		cmd := exec.Command("bash", "-c", m[1])
		cmd.Dir = "/root" // where alice is not let in
		all = append(all, Do(t, cmd))
	}
	return all
}

const pythonProgram = `import collections, datetime, email.message, hashlib, json, locale, re, sqlite3, ssl, sys, threading, zoneinfo
locale.setlocale(locale.LC_ALL, "")
print(json.dumps({"n": [1, 2, "\u00e9"]}), locale.getpreferredencoding(), ssl.OPENSSL_VERSION)
print(datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), hashlib.sha256(b"x").hexdigest())
print(sqlite3.connect(":memory:").execute("select 1+1").fetchall(), re.sub("a+", "b", "caat"), open("data.txt").read(), end="")
t = threading.Thread(target=lambda: print("thread")); t.start(); t.join()
sys.exit(3)
`

const perlProgram = `use strict; use warnings; use POSIX qw(floor); use List::Util qw(sum); use Data::Dumper; use Encode;
$Data::Dumper::Sortkeys = 1; print floor(3.7), " ", sum(1 .. 4), " ", Dumper({ a => [1], b => encode("utf8", chr 233) });
open my $f, "<", "data.txt" or die; print while <$f>; print scalar(getpwuid($<)), "\n";
`

const goProgram = `package main

import ("fmt"; "net"; "os"; "os/exec"; "os/user"; "time")

func main() {
	u, err := user.Current()
	fmt.Println(u.Uid, err)
	b, err := os.ReadFile("data.txt")
	fmt.Printf("%s %v\n", b, err)
	z, err := time.LoadLocation("America/New_York")
	fmt.Println(time.Unix(0, 0).In(z), err)
	fmt.Println(net.LookupPort("tcp", "https"))
	done := make(chan int)
	for i := range 8 {
		go func() { done <- i }()
	}
	n := 0
	for range 8 {
		n += <-done
	}
	out, err := exec.Command("wc", "-c", "data.txt").CombinedOutput()
	fmt.Printf("%d %s %v\n", n, out, err)
	os.Exit(5)
}
`

const reportProgram = `import csv, names
total = sum(int(row["n"]) for row in csv.DictReader(open("in.csv")))
print(names.total, total)
`

const scriptProgram = `#!/bin/sh
cat in.csv | wc -l
cat data.txt
`

// The learned jail runs the same command, and it says the same.
func TestLearnedJailRunsTheSame(t *testing.T) {
	repository := `rm -rf repo && git init -q -b main repo && cd repo && git config user.email a@example.org && git config user.name A &&
		export GIT_AUTHOR_DATE=@86400 GIT_COMMITTER_DATE=@86400 && echo one >f && git add f && git commit -qm one && echo two >f && git diff && git log --stat`
	for name, test := range map[string]struct {
		prepare string
		argv    []string
	}{
		"python":   {"", []string{"python3", "program.py"}},
		"git":      {repository + " >/dev/null; mv .git f ..; cd ..; rmdir repo; echo three >>f", []string{"git", "status", "--short", "--branch"}},
		"gitlog":   {repository + " >/dev/null; mv .git f ..; cd ..; rmdir repo", []string{"git", "log", "-p"}},
		"gitmakes": {"", []string{"sh", "-c", repository}},
		"perl":     {"", []string{"perl", "program.pl"}},
		"go":       {"", []string{"PLACE/program"}},
		"pipeline": {"", []string{"sh", "-c", `printf 'b\na\nc\n' | sort -r | while read x; do echo "<$x>"; done | tr a-z A-Z | tee copy | wc -l; cat copy; ls -l data.txt | cut -c1-10; id -un; date -d @0 +%Y; exit 4`}},
		"bash":     {"", []string{"bash", "-c", `for f in *.txt; do echo "$f"; done; awk '{ print $1 }' <data.txt | xargs -n1 echo; find . -name data.txt; echo $((6 * 7)) >/dev/null`}},
		"sed":      {"", []string{"sed", "-n", "s/data/found/p", "data.txt"}},
		"report":   {"", []string{"python3", "report.py"}},
		"writes":   {`echo 'open("out.txt", "w").write(str(total)); print(open("out.txt").read())' >>report.py`, []string{"python3", "report.py"}},
		"script":   {"", []string{"./script.sh"}},
		"makes":    {"echo 'cat o.txt' >>script.sh", []string{"sh", "-c", "echo o >o.txt; ./script.sh; cp script.sh made; cp /usr/bin/expr expr; ./made; ./expr 1 + 2"}},
		"itself":   {"echo 'echo o >o.txt; cat o.txt' >>script.sh", []string{"./script.sh"}},
		"odd":      {`mkdir -- -d; echo 1 >"./-d/it's"; echo 2 >'./--x $(id) "'; echo 3 >"$(printf 'new\nline\351')"`, []string{"sh", "-c", "cat ./*[dx]*/* ./--x* ./new* >o; cat o"}},
		"again":    {"echo old >o.txt; echo old >o.tgz", []string{"sh", "-c", "echo new >o.txt; tar czf o.tgz data.txt; cat o.txt; tar tzf o.tgz"}},
		"find":     {"mkdir d d/e; echo >d/e/f; ln -s e d/l", []string{"find", "d"}},
	} {
		dir := place(t, map[string]string{
			"program.py": pythonProgram, "program.pl": perlProgram, "data.txt": "data here\n", "main.go": goProgram,
			"report.py": reportProgram, "names.py": "total = 'total'\n", "in.csv": "n\n1\n2\n", "script.sh": scriptProgram,
		})
		if err := os.Chmod(dir+"/script.sh", 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "go" {
			build := exec.Command("go", "build", "-o", dir+"/program", dir+"/main.go")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		if test.prepare != "" {
			if r := Do(t, alice(dir, "sh", "-c", test.prepare)); r.Status != 0 {
				t.Fatalf("%s: %+v", name, r)
			}
		}
		for i, a := range test.argv {
			test.argv[i] = strings.ReplaceAll(a, "PLACE", dir)
		}
		plain := Do(t, alice(dir, test.argv...))
		learn := Do(t, alice(dir, append([]string{Jailctl, "learn", "-o", name, "--"}, test.argv...)...))
		if learn.Status != 0 || learn.Out != plain.Out {
			t.Errorf("%s: learned %+v, plain %+v", name, learn, plain)
			continue
		}
		if ended := "the command ended with status " + strconv.Itoa(plain.Status); strings.Contains(learn.Err, ended) != (plain.Status != 0) {
			t.Errorf("%s: status %d, and it says %s", name, plain.Status, learn.Err)
		}
		for _, text := range []string{name + ".contents.txtpb", name + ".policy.txtpb"} {
			if err := os.Rename(dir+"/"+text, Public+"/"+text); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, name, Public+"/"+name+".contents.txtpb", Public+"/"+name+".policy.txtpb")
		_, line, _ := strings.Cut(learn.Err, "jailctl: then, as "+Alice.Name+": jailctl ")
		line, _, _ = strings.Cut(line, "\n")
		if got := Do(t, alice("/", "bash", "-c", Jailctl+" "+line)); got != plain {
			contents, _ := os.ReadFile(Etc + "/contents/" + name + ".txtpb")
			policy, _ := os.ReadFile(Etc + "/jails/" + name + ".txtpb")
			t.Errorf("%s: in the jail %+v, plain %+v\n%s\n%s\n%+v", name, got, plain, contents, policy, Jailrun(t, Alice, append([]string{"--trace", name, "--"}, test.argv...)...))
		}
		// There is nothing else to be had in it.
		if r := Jailrun(t, Alice, name, "--", "/bin/ls"); r.Status != 125 {
			t.Errorf("%s: ls: %+v", name, r)
		}
	}
}

// What alice puts in the place of files that were learned is hers in the jail, and is
// nothing that she could not read.
func TestLearnedDataIsHers(t *testing.T) {
	secret := Prefix + "/secret"
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(secret)
	if err := os.WriteFile(secret+"/file", []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := place(t, map[string]string{"in": "in", "other": "other"})
	script := "mkdir -p d; echo d >d/file; echo d >d/none"
	if r := Do(t, alice(dir, "sh", "-c", script)); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	learn := Do(t, alice(dir, Jailctl, "learn", "-o", "hers", "--", "sh", "-c", "cat in d/file >out"))
	if learn.Status != 0 {
		t.Fatalf("%+v", learn)
	}
	for _, text := range []string{"hers.contents.txtpb", "hers.policy.txtpb"} {
		defer os.Remove(Public + "/" + text)
		if err := os.Rename(dir+"/"+text, Public+"/"+text); err != nil {
			t.Fatal(err)
		}
	}
	if r := Do(t, alice(dir, "sh", "-c", "ln -sf "+secret+"/file in; rm -r d; ln -s "+secret+" d")); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	root := install(t, "hers", Public+"/hers.contents.txtpb", Public+"/hers.policy.txtpb")
	if all := fillState(t, "hers"); len(all) != 1 || !strings.Contains(all[0].Out, "d/file: Cannot") {
		t.Errorf("%+v", all)
	}
	entries, err := os.ReadDir(root + dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || e.Name() != "in" || e.Type() != os.ModeSymlink || info.Sys().(*syscall.Stat_t).Uid != Alice.UID {
			t.Errorf("%v %v", e, err)
		}
	}
}

// A command is interrupted, stopped and continued from a terminal as without learn.
func TestLearnTerminal(t *testing.T) {
	tty := newTerminal(t)
	tty.send("cd " + Public + "; " + Jailctl + " learn -- " + Jail + "/bin/probe count 2 3 15 >/dev/null\n")
	tty.send("\x15")
	time.Sleep(500 * time.Millisecond)
	tty.send("\x03")
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("kill %1; fg\n")
	tty.expect("probe count")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=0")

	tty.jobControl(Jailctl + " learn -o terminal --force " + Jail + "/bin/probe count 2 3 15")
	tty.expect("wrote terminal.contents.txtpb and terminal.policy.txtpb")
	tty.expect("READY>")
	// An interactive program keeps the terminal.
	tty.send(Jailctl + " learn -o terminal --force bash --norc -i\n")
	tty.send("PS1='INNER'\">\"; stty size >/dev/null && sleep 98601 &\n")
	tty.expect("INNER>")
	tty.send("fg\n")
	tty.expect("98601")
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.send("kill %1; wait -f %1; exit 0\n")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=0")
	Gone(t, "98601")
	tty.send(Jailctl + " learn sleep 98602 >/dev/null\n")
	asleep(t, "98602")
	tty.send("\x03")
	tty.expect("ended by signal 2")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=0")
}

// A signal to learn is for the command, and nothing outlives a learn that is killed.
func TestLearnSignals(t *testing.T) {
	for sig, mark := range map[syscall.Signal]string{syscall.SIGTERM: "98603", syscall.SIGUSR1: "98604", syscall.SIGKILL: "98605"} {
		cmd := alice("/", Jailctl, "learn", "sh", "-c", "sleep "+mark+" | sleep "+mark+"; :")
		if sig != syscall.SIGKILL {
			cmd = alice("/", Jailctl, "learn", "sleep", mark)
		}
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		asleep(t, mark)
		cmd.Process.Signal(sig)
		cmd.Wait()
		if sig != syscall.SIGKILL && (cmd.ProcessState.ExitCode() != 0 || !strings.Contains(errs.String(), "ended by signal "+strconv.Itoa(int(sig))) || !strings.Contains(out.String(), `programs: "/usr/bin/sleep"`)) {
			t.Errorf("%v: %v\n%s%s", sig, cmd.ProcessState, out.String(), errs.String())
		}
		Gone(t, mark)
	}
	// What the command leaves behind is learned from until it is enough, and goes on.
	cmd := alice("/", Jailctl, "learn", "sh", "-c", "sleep 98606 & :")
	var errs strings.Builder
	cmd.Stderr, cmd.WaitDelay = &errs, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	asleep(t, "98606")
	time.Sleep(1500 * time.Millisecond)
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 0 || !strings.Contains(errs.String(), "followed to its end") {
		t.Errorf("%v\n%s", cmd.ProcessState, errs.String())
	}
	if err := syscall.Kill(asleep(t, "98606"), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// Files that are there stay; names are vetted before anything runs.
func TestLearnFiles(t *testing.T) {
	dir := place(t, nil)
	learn := func(args ...string) Result { return Do(t, alice(dir, append([]string{Jailctl, "learn"}, args...)...)) }
	if r := learn("-o", "x", "touch", "ran"); r.Status != 0 || r.Out != "" || !strings.Contains(r.Err, "root installs them, and reads them where nobody else can change them: install -m 600 x.contents.txtpb "+Etc+"/contents/x.txtpb") {
		t.Fatalf("%+v", r)
	}
	before, err := os.ReadFile(dir + "/x.policy.txtpb")
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(dir + "/ran")
	os.Remove(dir + "/x.contents.txtpb")
	for _, args := range [][]string{
		{"-o", "x", "touch", "ran"},
		{"-o", "../y", "touch", "ran"},
		{"-o", "Y", "touch", "ran"},
		{"--as", Bob.Name, "touch", "ran"},
		{"--in", "web", "-o", "y", "touch", "ran"},
		{"-o", "y", "--", "no such command"},
		{"-o", "y"},
	} {
		if r := learn(args...); r.Status != 2 || strings.Count(r.Err, "\n") > 2 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	for _, name := range []string{"ran", "x.contents.txtpb", "y.contents.txtpb"} {
		if _, err := os.Lstat(dir + "/" + name); err == nil {
			t.Errorf("there is a file %s", name)
		}
	}
	// Where it may not write it runs nothing.
	if r := Do(t, alice("/", Jailctl, "learn", "-o", "y", "touch", dir+"/ran")); r.Status != 2 || !strings.Contains(r.Err, `cannot write "y.contents.txtpb": permission denied`) {
		t.Errorf("%+v", r)
	}
	if _, err := os.Lstat(dir + "/ran"); err == nil {
		t.Error("it ran, and nothing could be written")
	}
	// What the jail cannot have is told where it is seen.
	if r := Do(t, alice(dir, "sh", "-c", "umask 077; echo >key; "+Jailctl+" learn cat key")); r.Status != 0 || !strings.Contains(r.Err, `jailctl: not in the jail, files that only their owner may read; chmod a+r what is no secret, and learn again: "`+dir+`/key" (step 1 (cat) reads it)`) {
		t.Errorf("%+v", r)
	}
	// What is printed begins behind what the command prints.
	if r := learn("printf", "abc"); !strings.HasPrefix(r.Out, "abc\n# ---- learned: printf.contents.txtpb ----\n# proto-file") || !strings.Contains(r.Out, "\n\n# ---- learned: printf.policy.txtpb ----\n# proto-file") {
		t.Errorf("%+v", r)
	}
	if r := learn("-o", "x", "--force", "true"); r.Status != 0 {
		t.Errorf("%+v", r)
	}
	if after, _ := os.ReadFile(dir + "/x.policy.txtpb"); string(after) == string(before) || !strings.Contains(string(after), "/usr/bin/true") {
		t.Errorf("not replaced:\n%s", after)
	}
	// A text that is printed is what would have been written.
	if r := learn("true"); r.Status != 0 || !strings.Contains(r.Out, "# proto-message: Contents\n") || !strings.HasSuffix(r.Out, string(mustRead(t, dir+"/x.policy.txtpb"))[len("# proto-file"):]) && !strings.Contains(r.Out, "# proto-message: Jail\n") {
		t.Errorf("%+v", r)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Root's command is an ordinary user's, and so is what follows it: only the process that
// installs the texts stays root.
func TestLearnAsRoot(t *testing.T) {
	dir := place(t, nil)
	root := func(env string, args ...string) Result {
		cmd := exec.Command(Jailctl, append([]string{"learn"}, args...)...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", env}
		return Do(t, cmd)
	}
	for _, args := range [][]string{{"touch", "ran"}, {"--as", "root", "touch", "ran"}, {"--as", "0", "touch", "ran"}, {"--as", "64999", "touch", "ran"}} {
		if r := root("A=b", args...); r.Status != 2 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if _, err := os.Lstat(dir + "/ran"); err == nil {
		t.Error("it ran as root")
	}
	name := "learned"
	files := []string{Etc + "/contents/" + name + ".txtpb", Etc + "/jails/" + name + ".txtpb"}
	defer os.Remove(files[0])
	defer os.Remove(files[1])
	script := `id -u; id -G; echo $HOME $USER $SUDO_USER; grep ^Uid: /proc/$PPID/status; grep ^CapEff: /proc/$PPID/status; su -c id 2>/dev/null || echo no`
	r := root("SUDO_USER="+Dev.Name, "-o", name, "--", "sh", "-c", script)
	uid := strconv.Itoa(int(Dev.UID))
	want := uid + "\n" + strconv.Itoa(int(Dev.GID)) + " " + strconv.Itoa(int(GroupID)) + "\n/nonexistent " + Dev.Name + "\nUid:\t" + strings.Join([]string{uid, uid, uid, uid}, "\t") + "\nCapEff:\t0000000000000000\nno\n"
	if r.Status != 0 || r.Out != want {
		t.Fatalf("%+v, want %q", r, want)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 || !strings.Contains(string(mustRead(t, f)), "by "+Dev.Name+" in ") {
			t.Errorf("%s: %v", f, err)
		}
	}
	if r := root("A=b", "--as", Dev.Name, "-o", name, "touch", dir+"/ran"); r.Status != 2 || !strings.Contains(r.Err, "--force") {
		t.Errorf("%+v", r)
	}
	if r := root("A=b", "--as", Alice.Name, "-o", name, "--force", "true"); r.Status != 0 || !strings.Contains(string(mustRead(t, files[1])), `"/usr/bin/true"`) {
		t.Errorf("%+v", r)
	}
}

// hostile tries what a program could do to root who has it learned: it types a line
// (1) wherever it can, on root's terminal (2) if that is there, where root's shell (3)
// reads. It reports what it has got.
const hostile = `import fcntl, os, sys, termios
def report(*words): print(*words, file=out)
out = open("report", "w")
line = sys.argv[1].encode()
for name in "/dev/stdin", "/dev/tty", sys.argv[2]:
    try:
        fd = 0 if name == "/dev/stdin" else os.open(name, os.O_RDWR)
        report(name, "is root's" if os.ttyname(fd) == sys.argv[2] else "is another")
    except OSError as e:
        report(name, e.strerror)
        continue
    try:
        for c in line: fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))
    except OSError: pass # dev.tty.legacy_tiocsti=0
try: os.kill(int(sys.argv[3]), 0)
except OSError as e: report("shell", e.strerror)
report("session of the shell", os.getsid(0) == os.getsid(int(sys.argv[3])))
try: report("read", os.pread(7, 5, 0))
except OSError as e: report("fd 7", e.strerror)
report("environment", sorted(os.environ))
report("groups", os.getgroups())
`

// A program that root has learned gets neither root's terminal, by which it could give
// root's shell commands, nor root's open files, keys and environment.
func TestLearnAsRootHostile(t *testing.T) {
	dir := place(t, map[string]string{"hostile.py": hostile})
	tty := rootsTerminal(t, "jailctl-test")
	tty.send("cd " + dir + "; exec 7</etc/shadow; export AWS_SECRET=roots LC_TIME=C SUDO_COMMAND=x; tty; " + Jail + "/bin/probe key jailctl-test\n")
	tty.expect("/dev/pts/")
	name, _, _ := strings.Cut(tty.expect("secret"), "\r\n")
	tty.expect("READY>")
	learn := Jailctl + " learn --as " + Alice.Name + " -- "
	program := "python3 hostile.py $'touch " + dir + "/typed\\n' /dev/pts/" + name + " $$"
	for streams, want := range map[string][]string{
		// Not root's, but one that goes with the command.
		"":                            {"/dev/stdin is another", "/dev/tty is another"},
		" >texts":                     {"/dev/stdin is another", "/dev/tty is another"},
		" </dev/null":                 {"/dev/stdin Inappropriate ioctl for device", "/dev/tty is another"},
		" </dev/null >texts 2>texts2": {"/dev/stdin Inappropriate ioctl for device", "/dev/tty No such device or address"},
	} {
		os.Remove(dir + "/report")
		tty.send(learn + program + streams + "\n")
		tty.expect("READY>")
		tty.send("echo after=$?\n") // behind what was typed for the shell
		tty.expect("after=0\r\n")
		tty.expect("READY>")
		if _, err := os.Lstat(dir + "/typed"); err == nil {
			t.Errorf("%q: root's shell executed what the program typed", streams)
			os.Remove(dir + "/typed")
		}
		want = append(want, "/dev/pts/"+name+" Permission denied", "shell Operation not permitted", "session of the shell False",
			"fd 7 Bad file descriptor", "environment ['HOME', 'LANG', 'LC_TIME', 'LOGNAME', 'PATH', 'SHELL', 'TERM', 'USER']", "groups []")
		if got := string(mustRead(t, dir+"/report")); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%q:\n%swant\n%s", streams, got, strings.Join(want, "\n"))
		}
	}
	for _, command := range []string{learn + Jail + "/bin/probe key jailctl-test", learn + Jail + "/bin/probe key jailctl-test </dev/null 2>/dev/null | head -n1"} {
		tty.send(command + "; echo af\"\"ter\n")
		if got := tty.expect("after\r\n"); !strings.Contains(got, "\r\nnone\r\n") {
			t.Errorf("keys: %s", got)
		}
		tty.expect("READY>")
	}
}

// The terminal that root's learn makes is as good as root's own, and root's is left as
// it was.
func TestLearnAsRootTerminal(t *testing.T) {
	tty := rootsTerminal(t, "jailctl-test")
	before := tty.modes()
	learn := "cd " + Public + "; " + Jailctl + " learn --as " + Alice.Name + " -- "
	tty.send(learn + "sh -c 'stty -echo; echo re\"\"ady; read x; echo got=$x; exec sleep 98611'\n")
	tty.expect("ready")
	tty.send("hello\n")
	tty.expect("got=hello")
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("fg\n")
	tty.expect("98611")
	tty.send("\x03")
	tty.expect("ended by signal 2")
	tty.expect(`"/usr/bin/sleep"`)
	tty.expect("READY>")
	if tty.modes() != before {
		t.Error("root's terminal has other modes")
	}
	tty.send("echo status=$?\n")
	tty.expect("status=0")
	Gone(t, "98611")
	// Nothing outlives it, whichever of its processes is killed.
	for i, name := range []string{"jailctl-pty", "jailctl-monitor"} {
		mark := strconv.Itoa(98612 + i)
		tty.send(learn + "sleep " + mark + "\n")
		asleep(t, mark)
		kill(t, name, mark, syscall.SIGKILL)
		tty.expect("READY>")
		Gone(t, mark)
	}
}

// Nor has a command in a jail root's terminal.
func TestLearnInAsRoot(t *testing.T) {
	Apply(t, "web", everyone)
	tty := rootsTerminal(t, "jailctl-test")
	tty.send("stty rows 33 cols 99; " + Jailctl + " learn --in web -- sh -c 'stty size; stty rows 77'\n")
	tty.expect("33 99")
	tty.expect("found all that the host has")
	tty.expect("READY>")
	tty.send("stty size\n")
	tty.expect("33 99")
}

// With fs.suid_dumpable=1 processes of the user's could take hold of the one that is
// about to become theirs.
func TestLearnDumpable(t *testing.T) {
	const knob = "/proc/sys/fs/suid_dumpable"
	before, err := os.ReadFile(knob)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(knob, before, 0) })
	for value, status := range map[string]int{"0": 0, "1": 2, "2": 0} {
		if err := os.WriteFile(knob, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		if r := Root(t, Jailctl, "learn", "--as", Alice.Name, "true"); r.Status != status || status != 0 && !strings.Contains(r.Err, "sysctl fs.suid_dumpable=0") {
			t.Errorf("fs.suid_dumpable=%s: %+v, want status %d", value, r, status)
		}
	}
}

// The installer trusts nothing that it is given.
func TestLearnInstaller(t *testing.T) {
	good := map[string][]byte{
		"Contents": []byte("programs: \"true\"\n"),
		"Policy":   []byte("root: \"/srv/jails/x\" rules { users: \"*\" run_as { caller: true } }\n"),
	}
	contents, policy := Etc+"/contents/installed.txtpb", Etc+"/jails/installed.txtpb"
	defer os.Remove(contents)
	defer os.Remove(policy)
	install := func(name string, texts map[string][]byte) string {
		b, err := json.Marshal(texts)
		if err != nil {
			t.Fatal(err)
		}
		cmd := &exec.Cmd{Path: Prefix + "/libexec/jailctl/jailctl-admin", Args: []string{"jailctl-learn-install", name, "false"}, Stdin: strings.NewReader(string(b))}
		return Do(t, cmd).Out
	}
	for _, bad := range []map[string][]byte{
		{"Contents": []byte("programs: true"), "Policy": good["Policy"]},
		{"Contents": good["Contents"], "Policy": []byte(`root: "/"`)},
		{},
	} {
		if out := install("installed", bad); !strings.HasPrefix(out, "what was learned has mistakes: ") {
			t.Errorf("%q: %s", bad, out)
		}
	}
	install("../installed", good)
	for _, f := range []string{contents, policy, Etc + "/installed.txtpb"} {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("there is %s", f)
		}
	}
	if out := install("installed", good); out != "installed" || string(mustRead(t, contents)) != string(good["Contents"]) || string(mustRead(t, policy)) != string(good["Policy"]) {
		t.Errorf("%s", out)
	}
	if out := install("installed", map[string][]byte{"Contents": []byte("programs: \"false\"\n"), "Policy": good["Policy"]}); !strings.Contains(out, "exists") || string(mustRead(t, contents)) != string(good["Contents"]) {
		t.Errorf("%s", out)
	}
}

// What a jail lacks is told, with the lines that bring it.
func TestLearnIn(t *testing.T) {
	name := "lacking"
	contents, policy := Public+"/lacking.contents", Public+"/lacking.policy"
	for file, text := range map[string]string{
		contents: "programs: \"sh\"\nprograms: \"python3\"\n",
		policy:   "root: \"/srv/jails/lacking\"\nrules { users: \"" + Alice.Name + "\" run_as { caller: true } }\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file)
	}
	settle(t, name, contents, policy)
	for _, test := range []struct {
		argv       []string
		out, errs  string
		afterwards bool
	}{
		{[]string{"sh", "-c", "cat /etc/os-release; /nothing; exit 3"}, "programs: \"/usr/bin/cat\"  # step 1 (sh)\n", "the command ended with status 3\n", true},
		{[]string{"sort", "/dev/null"}, "programs: \"/usr/bin/sort\"  # step 1 (sort)\n", `cannot run "sort"`, true},
		{[]string{"sh", "-c", "read x </etc/os-release"}, "paths: \"/etc/os-release\"  # step 1 (sh) reads it\n", "", true},
		{[]string{"sh", "-c", ":"}, "", "found all that the host has", false},
	} {
		r := Do(t, alice("/", append([]string{Jailctl, "learn", "--in", name, "--"}, test.argv...)...))
		if r.Status != 0 || r.Out != test.out || !strings.Contains(r.Err, test.errs) {
			t.Errorf("%v: %+v", test.argv, r)
		}
		if !test.afterwards {
			continue
		}
		text := string(mustRead(t, Etc+"/contents/"+name+".txtpb")) + r.Out
		if err := os.WriteFile(Etc+"/contents/"+name+".txtpb", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if b := Root(t, Jailctl, "build", "--quiet", name); b.Status != 0 {
			t.Fatalf("%+v", b)
		}
		if again := Do(t, alice("/", append([]string{Jailctl, "learn", "--in", name, "--"}, test.argv...)...)); strings.Contains(again.Out, test.out) {
			t.Errorf("%v: still %+v", test.argv, again)
		}
	}
	if r := Do(t, alice("/", Jailctl, "learn", "--in", name, "--", "sh", "-c", "read x </proc/version")); !strings.HasPrefix(r.Out, "\n# Not in the jail, of the kernel's") || !strings.Contains(r.Err, "and no line of a contents file brings it:\n") {
		t.Errorf("%+v", r)
	}
	if r := Do(t, alice("/", Jailctl, "learn", "--in", "none", "true")); r.Status != 2 || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}
