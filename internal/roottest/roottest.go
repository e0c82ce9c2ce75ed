// Package roottest is for tests that need a real installation: root, a setuid
// helper, ordinary users, a jail and a syslog socket. TestMain of such a package
// is roottest.Main; the tests then use Site.
//
// Without root nothing of the package runs, and one line says so. With root
// nothing is left out: what cannot be set up is a failure.
package roottest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// User is an ordinary account made for the tests.
type User struct {
	Name     string
	UID, GID uint32
}

// The accounts. Only Dev is in the group named Group.
var (
	Alice   = User{Name: "jailctl-alice"}
	Bob     = User{Name: "jailctl-bob"}
	Mallory = User{Name: "jailctl-mallory"}
	Dev     = User{Name: "jailctl-dev"}
)

// Group is a group made for the tests; GroupID is its number.
const Group = "jailctl-webdev"

// GroupID is Group's number.
var GroupID uint32

// Where things are, once Main has set them up. All are below Prefix, which
// belongs to root and in which nobody else can write.
var (
	Prefix  string // private prefix of this run
	Jailctl string // the client
	Helper  string // the helper, setuid root
	Etc     string // SYSCONFDIR/jailctl
	State   string // STATEDIR/jailctl
	Jail    string // a jail's root with /bin/probe, /bin/busybox, /bin/sh, a writable /tmp and a /data of daemon's
	Public  string // a directory in which everybody can write, for what ordinary users make
)

const again = "JAILCTL_ROOTTEST_NAMESPACE"

// Main sets up, runs the tests, cleans up and exits.
func Main(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("left out: this package's tests need root")
		os.Exit(0)
	}
	// A mount namespace of our own: the syslog socket of these tests must not
	// take the machine's place.
	if os.Getenv(again) == "" {
		cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "--", "/proc/self/exe"}, os.Args[1:]...)...)
		cmd.Env = append(os.Environ(), again+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Path, _ = exec.LookPath("unshare")
		self, err := os.Executable()
		if err == nil {
			cmd.Args[5] = self
			err = cmd.Run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "roottest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (status int) {
	lock, err := os.OpenFile("/run/jailctl-roottest.lock", os.O_CREATE|os.O_RDWR, 0o600)
	must(err)
	defer lock.Close()
	must(unix.Flock(int(lock.Fd()), unix.LOCK_EX)) // accounts are shared between packages
	defer func() {
		if err := recover(); err != nil {
			fmt.Fprintln(os.Stderr, "roottest:", err)
			status = 1
		}
	}()
	defer cleanup()
	setup()
	return m.Run()
}

func setup() {
	unix.Umask(0o022)
	for _, u := range []*User{&Alice, &Bob, &Mallory, &Dev} {
		if _, err := user.Lookup(u.Name); err != nil {
			sh("useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "--user-group", u.Name)
		}
		got, err := user.Lookup(u.Name)
		must(err)
		u.UID, u.GID = number(got.Uid), number(got.Gid)
	}
	if _, err := user.LookupGroup(Group); err != nil {
		sh("groupadd", Group)
	}
	sh("usermod", "-G", Group, Dev.Name)
	g, err := user.LookupGroup(Group)
	must(err)
	GroupID = number(g.Gid)

	Prefix, err = os.MkdirTemp("/opt", "jailctl-test-")
	must(err)
	must(os.Chmod(Prefix, 0o755))
	Jailctl, Helper = Prefix+"/bin/jailctl", Prefix+"/libexec/jailctl/jailhelper"
	Etc, State = Prefix+"/etc/jailctl", Prefix+"/var/lib/jailctl"
	Jail, Public = Prefix+"/jail", Prefix+"/public"

	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "../..")
	sh("make", "-s", "-C", root, "install", "OUT="+Prefix+"/build", "PREFIX="+Prefix, "SYSCONFDIR="+Prefix+"/etc")
	var fs unix.Statfs_t
	must(unix.Statfs(Helper, &fs))
	if fs.Flags&unix.ST_NOSUID != 0 {
		panic(Prefix + " is on a file system mounted nosuid")
	}

	must(os.MkdirAll(Jail+"/bin", 0o755))
	for dir, mode := range map[string]os.FileMode{Jail + "/tmp": 0o777 | os.ModeSticky, Jail + "/data": 0o755, Public: 0o777} {
		must(os.Mkdir(dir, 0o755))
		must(os.Chmod(dir, mode))
	}
	must(os.Chown(Jail+"/data", 1, 1))
	sh("gcc", "-static", "-O1", "-Wall", "-Werror", "-o", Jail+"/bin/probe", filepath.Join(filepath.Dir(here), "testdata/probe.c"))
	busybox, err := exec.LookPath("busybox")
	must(err)
	sh("cp", busybox, Jail+"/bin/busybox")
	for _, applet := range []string{"sh", "cat", "ls", "sleep", "true", "id", "echo", "stty", "pwd", "env", "kill", "dd", "vi", "grep", "seq"} {
		must(os.Symlink("busybox", Jail+"/bin/"+applet))
	}
}

func cleanup() {
	if Prefix != "" {
		os.RemoveAll(Prefix)
	}
	for _, u := range []User{Alice, Bob, Mallory, Dev} {
		exec.Command("userdel", u.Name).Run()
	}
	exec.Command("groupdel", Group).Run()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	must(err)
	return uint32(n)
}

func sh(name string, args ...string) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out))
	}
}

// As makes cmd run as u with u's groups, in a session of its own, from "/", with
// a small fixed environment unless it has one.
func As(u User, cmd *exec.Cmd) *exec.Cmd {
	var groups []uint32
	if u.Name == Dev.Name {
		groups = []uint32{GroupID}
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: groups}
	cmd.SysProcAttr.Setsid = true
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/bin:/bin", "USER=" + u.Name, "LANG=C.UTF-8"}
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	return cmd
}

// Result is how a command ended.
type Result struct {
	Out, Err string
	Status   int            // exit status; 128+N where signal N ended it
	Signal   syscall.Signal // 0: it exited
}

// Run runs a command as u, for at most 30 seconds.
func Run(t testing.TB, u User, name string, args ...string) Result {
	t.Helper()
	return Do(t, As(u, exec.Command(name, args...)))
}

// Jailrun is Run of `jailctl run` with args.
func Jailrun(t testing.TB, u User, args ...string) Result {
	t.Helper()
	return Run(t, u, Jailctl, append([]string{"run"}, args...)...)
}

// Do runs cmd, which may have a Stdin of its own, for at most 30 seconds.
func Do(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", cmd.Args, err)
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("%v took more than 30 s\n%s", cmd.Args, errs.String())
	}
	r := Result{Out: out.String(), Err: errs.String()}
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	r.Status = ws.ExitStatus()
	if ws.Signaled() {
		r.Signal, r.Status = ws.Signal(), 128+int(ws.Signal())
	}
	return r
}

// Apply writes the policy of a jail and puts it in force. ROOT in text stands for
// Jail.
func Apply(t testing.TB, name, text string) {
	t.Helper()
	Compile(t, name, text, nil)
}

// Compile is Apply by the same code as `jailctl apply`, but without the program;
// edit, where it is not nil, changes the compiled form to one that apply would
// never write.
func Compile(t testing.TB, name, text string, edit func(*jailpb.Compiled)) {
	t.Helper()
	Write(t, name, text)
	file := Etc + "/jails/" + name + source.Suffix
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	compiled, problems := source.Check(file, b, source.System())
	for _, p := range problems {
		t.Fatal(p)
	}
	if edit != nil {
		edit(compiled)
	}
	if err := os.WriteFile(State+"/policies/"+name+".pb", source.Encode(compiled), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Write writes the policy of a jail and does not apply it; what was there under
// the name is gone when the test ends.
func Write(t testing.TB, name, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "ROOT", Jail)
	if err := os.WriteFile(Etc+"/jails/"+name+".txtpb", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(Etc + "/jails/" + name + ".txtpb")
		os.Remove(State + "/policies/" + name + ".pb")
	})
}

// Root runs a command as root.
func Root(t testing.TB, name string, args ...string) Result {
	t.Helper()
	return Do(t, exec.Command(name, args...))
}

// Probe parses the report of /bin/probe; repeated keys (env) are joined by newlines.
func Probe(t testing.TB, r Result) map[string]string {
	t.Helper()
	if r.Status != 0 || !strings.HasSuffix(r.Out, "end=1\n") {
		t.Fatalf("probe: status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	m := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(r.Out), "\n") {
		k, v, _ := strings.Cut(line, "=")
		v = strings.TrimSpace(v)
		if old, ok := m[k]; ok {
			v = old + "\n" + v
		}
		m[k] = v
	}
	return m
}

// Syslog listens on /dev/log, in this mount namespace only, until the test ends.
// The function returned gives the lines that were sent since it was last called;
// a helper has sent its line before it ends or executes the command.
func Syslog(t testing.TB) func() []string {
	t.Helper()
	path := Prefix + "/log"
	os.Remove(path)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	made := false
	if _, err := os.Lstat("/dev/log"); err != nil {
		if err := os.WriteFile("/dev/log", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		made = true
	}
	if err := unix.Mount(path, "/dev/log", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount("/dev/log", unix.MNT_DETACH)
		if made {
			os.Remove("/dev/log")
		}
		conn.Close()
	})
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return func() (lines []string) {
		raw.Control(func(fd uintptr) {
			b := make([]byte, 65536)
			for {
				n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
				if err != nil {
					return
				}
				lines = append(lines, string(b[:n]))
			}
		})
		return lines
	}
}

// Gone fails the test if a process whose command line or executable has mark, by
// itself and not within a longer word or number, is still there after two seconds.
func Gone(t testing.TB, mark string) {
	t.Helper()
	word := regexp.MustCompile(`(^|\W)` + regexp.QuoteMeta(mark) + `($|\W)`)
	var left []string
	for range 40 {
		left = left[:0]
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			b, _ := os.ReadFile(f)
			exe, _ := os.Readlink(filepath.Dir(f) + "/exe")
			if word.Match(b) || word.MatchString(exe) {
				left = append(left, f+" "+strings.ReplaceAll(string(b), "\x00", " "))
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("left behind: %v", left)
}
