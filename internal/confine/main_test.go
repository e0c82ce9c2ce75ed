package confine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// The tests against the kernel start this test program again as another user in a
// chroot. That child confines itself, or does not, tries each operation of a list
// and says how it ended. Each attack gets out of a plain chroot first, so that the
// probe is known to work, and is held after that.

// target owns nothing and has no account.
const target = 61234

const env = "JAILCTL_CONFINE_CHILD"

// child is what one child does.
type child struct {
	Jail   string
	Proc   bool   // mount /proc in the jail, for this child alone
	Dir    string // working directory, inside
	How    string // "plain": a chroot and nothing else; "ours"; "oracle": go-landlock; "bare": ours without no_new_privs
	Want   Want
	Fault  *fault   // system call that fails from here on, and its error; 0: none
	Layers int      // rulesets to enforce before
	Pause  bool     // wait for a line on standard input after confining
	Ops    []string // "verb argument..."
	Exec   []string // in place of Ops: what to execute
}

func TestMain(m *testing.M) {
	if s := os.Getenv(env); s != "" {
		runtime.LockOSThread()
		var c child
		if err := json.Unmarshal([]byte(s), &c); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		c.run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (c *child) run() {
	check := func(what string, err error) {
		if err != nil {
			fmt.Println("child:", what, err)
			os.Exit(1)
		}
	}
	unix.Umask(0)
	if c.Proc {
		check("unshare", unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS))
		check("private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		check("proc", unix.Mount("proc", c.Jail+"/proc", "proc", 0, ""))
	}
	check("chroot", unix.Chroot(c.Jail))
	check("chdir", unix.Chdir("/"))
	check("setgroups", syscall.Setgroups(nil))
	check("setresgid", syscall.Setresgid(target, target, target))
	check("setresuid", syscall.Setresuid(target, target, target))
	if c.Dir != "" {
		check("chdir", unix.Chdir(c.Dir))
	}
	if c.How != "plain" && c.How != "bare" {
		check("no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	}
	for range c.Layers {
		check("layer", Enforce(Enforcement{ABI: 1, FS: 1, Rules: []Rule{{Path: "/", Rights: 1}}}))
	}
	if c.Fault != nil {
		check("seccomp", c.Fault.install())
	}
	before = descriptors()
	switch c.How {
	case "ours", "bare":
		abi, err := Probe()
		if err == nil {
			e, _ := Plan(c.Want, abi)
			err = Enforce(e)
		}
		if err != nil {
			fmt.Println("enforce:", err)
			return
		}
	case "oracle":
		check("go-landlock", oracle(c.Want))
	}
	if c.Pause {
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	if c.Exec != nil {
		check("exec", syscall.Exec(c.Exec[0], c.Exec, nil))
	}
	for _, op := range c.Ops {
		fmt.Println(op+":", outcome(try(op)))
	}
}

// oracle enforces the same with the library, in its words.
func oracle(w Want) error {
	cfg := landlock.V7
	if w.TCP == Off {
		cfg.HandledAccessNet = 0
	}
	cfg.Scoped = 0
	if w.Abstract != Off {
		cfg.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if w.Signals != Off {
		cfg.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	var rules []landlock.Rule
	paths := w.Unveil
	if paths == nil {
		paths = []Path{{Path: "/", Access: "rwxc"}}
	}
	for _, p := range paths {
		var st unix.Stat_t
		if err := unix.Stat(p.Path, &st); err != nil {
			if p.Optional {
				continue
			}
			return err
		}
		r := rights(p.Access)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			r &= onFiles
		}
		rules = append(rules, landlock.PathAccess(landlock.AccessFSSet(r), p.Path))
	}
	for _, p := range w.Connect {
		rules = append(rules, landlock.ConnectTCP(p))
	}
	for _, p := range w.Bind {
		rules = append(rules, landlock.BindTCP(p))
	}
	return cfg.EnableLoggingForSubprocesses().Restrict(rules...)
}

// fault is a system call that fails: always, or where its second argument is Arg.
type fault struct {
	Nr, Errno int
	Arg       int // -1: always
}

// install loads the filter for this thread, for good.
func (f *fault) install() error {
	load := func(at int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(at)}
	}
	prog := []unix.SockFilter{load(0), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(f.Nr), Jf: 1}}
	if f.Arg >= 0 {
		prog[1].Jf = 3
		prog = append(prog, load(24), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(f.Arg), Jf: 1})
	}
	prog = append(
		prog,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(f.Errno)}, // SECCOMP_RET_ERRNO
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                   // SECCOMP_RET_ALLOW
	)
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0)
}

// before is descriptors before confining.
var before string

// descriptors lists what is open.
func descriptors() (s string) {
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			s += " " + strconv.Itoa(fd)
		}
	}
	return s
}

func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// try does one operation.
func try(op string) error {
	f := append(strings.Fields(op), "", "")
	verb, a, b := f[0], f[1], f[2]
	n, _ := strconv.Atoi(a)
	open := func(dir int, path string, flags int) error {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0o666)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	switch verb {
	case "read":
		return open(unix.AT_FDCWD, a, unix.O_RDONLY)
	case "list":
		return open(unix.AT_FDCWD, a, unix.O_RDONLY|unix.O_DIRECTORY)
	case "write":
		return open(unix.AT_FDCWD, a, unix.O_WRONLY)
	case "empty":
		return open(unix.AT_FDCWD, a, unix.O_WRONLY|unix.O_TRUNC)
	case "create":
		return open(unix.AT_FDCWD, a, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	case "tmpfile":
		return open(unix.AT_FDCWD, a, unix.O_WRONLY|unix.O_TMPFILE)
	case "truncate":
		return unix.Truncate(a, 0)
	case "mkdir":
		return unix.Mkdir(a, 0o777)
	case "rmdir":
		return unix.Rmdir(a)
	case "unlink":
		return unix.Unlink(a)
	case "rename":
		return unix.Rename(a, b)
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case "link":
		return unix.Link(a, b)
	case "symlink":
		return unix.Symlink(a, b)
	case "mkfifo":
		return unix.Mknod(a, unix.S_IFIFO|0o666, 0)
	case "mksock":
		return unix.Mknod(a, unix.S_IFSOCK|0o666, 0)
	case "mkchar":
		return unix.Mknod(a, unix.S_IFCHR|0o666, 0) // 0:0 needs no privilege
	case "stat":
		var st unix.Stat_t
		return unix.Stat(a, &st)
	case "chroot":
		return unix.Chroot(a)
	case "mount":
		return unix.Mount("none", a, "tmpfs", 0, "")
	case "ioctl":
		fd, err := unix.Open(a, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	case "exec":
		cmd := exec.Command(a, "true")
		cmd.Env = []string{}
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout // /dev/null is not there
		cmd.Stderr = os.Stdout
		return cmd.Run()
	case "openat": // FD PATH
		return open(n, b, unix.O_RDONLY)
	case "receive": // FD PATH: a directory comes through the socket
		oob := make([]byte, unix.CmsgSpace(4))
		_, m, _, _, err := unix.Recvmsg(n, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return err
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:m])
		if err != nil || len(msgs) != 1 {
			return errors.New("no descriptor came")
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil {
			return err
		}
		return open(fds[0], b, unix.O_RDONLY)
	case "abstract":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + a})
	case "kill":
		return unix.Kill(n, unix.SIGWINCH)
	case "tgkill":
		return unix.Tgkill(n, n, unix.SIGWINCH)
	case "killself":
		return unix.Kill(unix.Getpid(), unix.SIGWINCH)
	case "pidfd":
		fd, err := unix.PidfdOpen(n, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.PidfdSendSignal(fd, unix.SIGWINCH, nil, 0)
	case "ptrace":
		return unix.PtraceSeize(n)
	case "readmem": // PID: its first page of any kind; EFAULT is past the check
		var p [8]byte
		_, err := unix.ProcessVMReadv(n, []unix.Iovec{{Base: &p[0], Len: 8}}, []unix.RemoteIovec{{Base: 0, Len: 8}}, 0)
		if err == unix.EFAULT {
			return nil
		}
		return err
	case "connect", "bind":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		addr := &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}}
		if verb == "bind" {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			return unix.Bind(fd, addr)
		}
		return unix.Connect(fd, addr)
	case "descriptors": // none more than before, close-on-exec or not
		if now := descriptors(); now != before {
			return errors.New("before " + before + "; after " + now)
		}
		return nil
	}
	return errors.New("unknown operation")
}

// site is a tree in which everything happens: jail/ and, beside it, outside/.
type site struct{ base, jail, outside string }

func newSite(t testing.TB) site {
	t.Helper()
	// The plans are tested without root as well, so this is no matter of the whole
	// package. As root it cannot be reached, and .ci/run fails on every skip.
	if os.Getuid() != 0 {
		t.Skip("left out: needs root")
	}
	if abi, err := Probe(); err != nil || abi < Newest {
		t.Fatalf("this kernel has Landlock %d (%v); the tests need %d", abi, err, Newest)
	}
	base, err := os.MkdirTemp("/tmp", "jailctl-confine-")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	ok(t, os.Chmod(base, 0o755))
	s := site{base, base + "/jail", base + "/outside"}
	for _, d := range []string{"jail/bin", "jail/proc", "jail/tmp", "jail/inner/deep", "jail/data", "jail/other", "jail/dev", "outside"} {
		ok(t, os.MkdirAll(base+"/"+d, 0o755))
	}
	for _, d := range []string{"jail/tmp", "jail/inner", "jail/inner/deep", "jail/data", "jail/other"} {
		ok(t, os.Chown(base+"/"+d, target, target))
	}
	ok(t, os.WriteFile(s.outside+"/secret", []byte("secret\n"), 0o666))
	ok(t, os.Chmod(s.outside+"/secret", 0o666))
	busybox, err := exec.LookPath("busybox")
	ok(t, err)
	b, err := os.ReadFile(busybox)
	ok(t, err)
	ok(t, os.WriteFile(s.jail+"/bin/busybox", b, 0o755))
	ok(t, os.Symlink("busybox", s.jail+"/bin/true"))
	for _, d := range []string{"data", "other"} {
		s.fill(t, d)
	}
	null := s.jail + "/dev/null"
	ok(t, unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	ok(t, os.Chmod(null, 0o666))
	return s
}

// fill makes the same things in a directory, whatever was there.
func (s site) fill(t testing.TB, dir string) {
	t.Helper()
	dir = s.jail + "/" + dir
	old, err := os.ReadDir(dir)
	ok(t, err)
	for _, e := range old {
		ok(t, os.RemoveAll(dir+"/"+e.Name()))
	}
	for _, f := range []string{"file", "gone", "moved", "linked", "swapped"} {
		ok(t, os.WriteFile(dir+"/"+f, []byte("x"), 0o666))
	}
	ok(t, os.WriteFile(dir+"/busybox", mustRead(t, s.jail+"/bin/busybox"), 0o777))
	for _, d := range []string{"dir", "sub"} {
		ok(t, os.Mkdir(dir+"/"+d, 0o777))
	}
	out, err := exec.Command("chown", "-R", strconv.Itoa(target)+":"+strconv.Itoa(target), dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	ok(t, err)
	return b
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a child to its end; between, if not nil, is called while it waits.
func (s site) run(t testing.TB, c child, files []*os.File, between func()) []string {
	t.Helper()
	c.Jail, c.Pause = s.jail, between != nil
	b, err := json.Marshal(c)
	ok(t, err)
	self, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(self)
	cmd.Env = []string{env + "=" + string(b)}
	cmd.ExtraFiles = files
	if c.Exec == nil {
		cmd.Stderr = os.Stderr
	}
	in, err := cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	var lines []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if sc.Text() == "ready" && between != nil {
			between()
			fmt.Fprintln(in)
			continue
		}
		lines = append(lines, sc.Text())
	}
	cmd.Wait()
	return lines
}

// expect compares what the child said with "operation: outcome" lines.
func expect(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("%s:\n%s\nwant:\n%s", what, g, w)
	}
}
