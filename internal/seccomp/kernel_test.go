package seccomp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/seccomp/load"
)

// nobody is an ordinary uid that has no account.
const nobody = 54321

// A child is what a process started by confined does: become an ordinary user
// (if it can), put the program in force, and then execute, or try system calls.
type child struct {
	Program []byte
	Root    bool // stay root
	Argv    []string
	Once    uint32 // execute by Password.Exec, under the filter with this answer
	Try     string // a probe, whose errno is the exit status
	Calls   []attempt
}

// An attempt is a system call by number. An argument may be zeros.
type attempt struct {
	Nr   int
	Args []uint64
}

const childVariable = "JAILCTL_SECCOMP_CHILD"

func TestMain(m *testing.M) {
	if s := os.Getenv(childVariable); s != "" {
		os.Unsetenv(childVariable)
		runtime.LockOSThread()
		var c child
		if err := json.Unmarshal([]byte(s), &c); err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stderr, "child:", c.run())
		os.Exit(99)
	}
	if len(os.Args) == 2 && os.Args[1] == "guess" {
		guess()
	}
	os.Exit(m.Run())
}

// raw is a call on this thread alone.
func raw(nr uintptr, args ...uintptr) unix.Errno {
	var a [6]uintptr
	copy(a[:], args)
	_, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return e
}

func (c child) run() error {
	program, err := load.Decode(c.Program)
	if err != nil && c.Program != nil {
		return err
	}
	password, err := load.NewPassword()
	if err != nil {
		return err
	}
	if os.Getuid() == 0 && !c.Root {
		if e := raw(unix.SYS_SETGROUPS, 0, 0); e != 0 {
			return e
		}
		if e := raw(unix.SYS_SETRESGID, nobody, nobody, nobody); e != 0 {
			return e
		}
		if e := raw(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			return e
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	var try func() unix.Errno
	if c.Try != "" {
		try = probes()[c.Try]
	}
	if c.Once != 0 {
		if err := load.Filter(load.Once(password, c.Once)); err != nil {
			return err
		}
	}
	if c.Program != nil {
		if err := load.Filter(program); err != nil {
			return err
		}
	}
	if try != nil {
		e := try()
		raw(unix.SYS_EXIT_GROUP, uintptr(e))
	}
	if c.Calls != nil {
		page := make([]byte, 4096)
		for _, a := range c.Calls {
			clear(page)
			var args []uintptr
			for _, v := range a.Args {
				if v == zeros {
					v = uint64(uintptr(unsafe.Pointer(&page[0])))
				}
				args = append(args, uintptr(v))
			}
			fmt.Println(int(raw(uintptr(a.Nr), args...)))
		}
		os.Exit(0)
	}
	if c.Once != 0 {
		return password.Exec(c.Argv[0], c.Argv, os.Environ())
	}
	return syscall.Exec(c.Argv[0], c.Argv, os.Environ())
}

// zeros stands for the address of a page of zeros.
const zeros = 1<<64 - 2

// confined runs a child and gives its output and how it ended.
func confined(t testing.TB, c child, dir string) (string, syscall.WaitStatus) {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8", childVariable + "=" + string(b)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(60*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("more than 60 s: %v %s", c.Argv, out.String())
	}
	return out.String(), cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func compile(t testing.TB, o Options) []byte {
	t.Helper()
	b, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// public is a directory in which everybody can write.
func public(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "seccomp-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A want is a system call and how it must end: an errno, or anything but refused.
type want struct {
	what string
	call string
	args []uint64
	want unix.Errno
}

// passed stands for whatever the kernel says, but a refusal.
const passed = unix.Errno(1 << 12)

const bad = 1<<64 - 1 // no descriptor, process, address or flags

// refused are calls that no command may make, whatever the arguments. As root
// they would fail with EFAULT, EBADF or EINVAL, so what refuses them is the filter.
var refused = map[unix.Errno]string{
	unix.EPERM: `chroot pivot_root mount umount2 open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr setns
		statmount listmount listns
		ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp open_by_handle_at name_to_handle_at
		fanotify_init fanotify_mark bpf perf_event_open userfaultfd keyctl add_key request_key kexec_load kexec_file_load
		init_module finit_module delete_module quotactl quotactl_fd swapon swapoff reboot settimeofday clock_settime adjtimex
		clock_adjtime acct sethostname setdomainname syslog shmget shmat shmctl shmdt semget semop semtimedop semctl
		msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
		modify_ldt iopl ioperm lookup_dcookie lsm_set_self_attr create_module`,
	unix.ENOSYS: "clone3 openat2 io_uring_setup io_uring_enter io_uring_register uselib ustat sysfs _sysctl nfsservctl vserver remap_file_pages",
}

func baselineWants() []want {
	const (
		cwd    = 1<<64 - 100 // AT_FDCWD
		high   = 1 << 32
		sigchl = 17
		nopid  = 1 << 30 // above all numbers of processes
	)
	w := []want{
		{"message queue", "msgget", []uint64{bad, 0}, unix.EPERM},
		{"a new user namespace", "unshare", []uint64{0x10000000}, unix.EPERM},
		{"a new time namespace", "unshare", []uint64{0x80}, unix.EPERM},
		{"a namespace of tomorrow", "unshare", []uint64{0x00100000}, unix.EPERM},
		{"the same, high bits set", "unshare", []uint64{high | 0x10000000}, unix.EPERM},
		{"own working directory", "unshare", []uint64{0x200}, 0},
		{"a clone in namespaces", "clone", []uint64{0x10000000 | sigchl}, unix.EPERM},
		{"the same, high bits set", "clone", []uint64{high | 0x10000000 | sigchl}, unix.EPERM},
		{"limits of init", "prlimit64", []uint64{1, 0, 0, zeros}, unix.EPERM},
		{"own limits", "prlimit64", []uint64{0, 0, 0, zeros}, 0},
		{"own limits, high bits set", "prlimit64", []uint64{high, 0, 0, zeros}, 0},
		// The kernel would say EFAULT.
		{"core dumps", "setrlimit", []uint64{unix.RLIMIT_CORE, bad}, 0},
		{"core dumps", "setrlimit", []uint64{high | unix.RLIMIT_CORE, bad}, 0},
		{"core dumps", "prlimit64", []uint64{0, unix.RLIMIT_CORE, bad, 0}, 0},
		{"core dumps of init", "prlimit64", []uint64{1, unix.RLIMIT_CORE, bad, 0}, unix.EPERM},
		{"the limit on core dumps", "prlimit64", []uint64{0, unix.RLIMIT_CORE, 0, zeros}, 0},
		{"another limit", "setrlimit", []uint64{unix.RLIMIT_CPU, bad}, unix.EFAULT},
		{"priority of init", "setpriority", []uint64{0, 1, 0}, unix.EPERM},
		{"priority of the group", "setpriority", []uint64{1, 0, 0}, unix.EPERM},
		{"priority of the user", "setpriority", []uint64{2, 0, 0}, unix.EPERM},
		{"own priority", "setpriority", []uint64{0, 0, 0}, 0},
		{"I/O priority of init", "ioprio_set", []uint64{1, 1, 0}, unix.EPERM},
		{"I/O priority of the user", "ioprio_set", []uint64{3, 0, 0}, unix.EPERM},
		{"own I/O priority", "ioprio_set", []uint64{1, 0, 0}, 0},
		{"processors of init", "sched_setaffinity", []uint64{1, 8, zeros}, unix.EPERM},
		{"own processors", "sched_setaffinity", []uint64{0, 8, bad}, unix.EFAULT},
		{"class of init", "sched_setscheduler", []uint64{1, 0, zeros}, unix.EPERM},
		{"class of init", "sched_setparam", []uint64{1, zeros}, unix.EPERM},
		{"class of init", "sched_setattr", []uint64{1, zeros, 0}, unix.EPERM},
		{"own class", "sched_setscheduler", []uint64{0, 0, zeros}, 0},
		{"pages of nobody", "move_pages", []uint64{nopid, 0, 0, 0, 0, 0}, unix.EPERM},
		{"pages of nobody", "migrate_pages", []uint64{nopid, 0, 0, 0}, unix.EPERM},
		{"locks of nobody", "get_robust_list", []uint64{nopid, zeros, zeros}, unix.EPERM},
		{"core scheduling", "prctl", []uint64{62, 0, 1, 0, 0}, unix.EPERM},
		{"a name", "prctl", []uint64{15, zeros}, 0},
		{"set-uid", "fchmodat", []uint64{cwd, zeros, 0o4755}, unix.EPERM},
		{"set-gid", "fchmodat2", []uint64{cwd, zeros, 0o2755, 0}, unix.EPERM},
		{"set-gid", "fchmod", []uint64{bad, 0o2755}, unix.EPERM},
		{"set-uid, high bits set", "fchmod", []uint64{bad, high | 0o4755}, unix.EPERM},
		{"sticky", "fchmod", []uint64{bad, 0o1777}, unix.EBADF},
		{"set-uid", "chmod", []uint64{zeros, 0o4755}, unix.EPERM},
		{"set-uid", "creat", []uint64{zeros, 0o4755}, unix.EPERM},
		{"set-uid", "mkdir", []uint64{zeros, 0o4755}, unix.EPERM},
		{"set-uid", "mkdirat", []uint64{cwd, zeros, 0o4755}, unix.EPERM},
		{"set-uid", "mknod", []uint64{zeros, 0o104755, 0}, unix.EPERM},
		{"set-uid", "mknodat", []uint64{cwd, zeros, 0o104755, 0}, unix.EPERM},
		{"born set-uid", "open", []uint64{zeros, unix.O_CREAT | unix.O_WRONLY, 0o4755}, unix.EPERM},
		{"born set-uid", "openat", []uint64{cwd, zeros, unix.O_CREAT | unix.O_WRONLY, 0o4755}, unix.EPERM},
		{"born set-gid without a name", "openat", []uint64{cwd, zeros, unix.O_TMPFILE | unix.O_WRONLY, 0o2755}, unix.EPERM},
		{"a mode that is not looked at", "openat", []uint64{cwd, zeros, unix.O_RDONLY | unix.O_DIRECTORY, 0o6755}, unix.ENOENT},
		{"TIOCSTI", "ioctl", []uint64{0, unix.TIOCSTI, zeros}, unix.EPERM},
		{"TIOCSTI, high bits set", "ioctl", []uint64{0, high | unix.TIOCSTI, zeros}, unix.EPERM},
		{"TIOCLINUX", "ioctl", []uint64{0, 0x541c, zeros}, unix.EPERM},
		{"TIOCLINUX, high bits set", "ioctl", []uint64{0, 0xdead<<32 | 0x541c, zeros}, unix.EPERM},
		{"TIOCSETD", "ioctl", []uint64{0, unix.TIOCSETD, zeros}, unix.EPERM},
		{"TCGETS", "ioctl", []uint64{bad, unix.TCGETS, zeros}, unix.EBADF},
		{"personality, asked", "personality", []uint64{1<<32 - 1}, 0},
		{"personality, none", "personality", []uint64{0}, 0},
		{"READ_IMPLIES_EXEC", "personality", []uint64{0x400000}, unix.EPERM},
		{"ADDR_NO_RANDOMIZE, high bits set", "personality", []uint64{high | 0x40000}, unix.EPERM},
		{"hang up", "vhangup", nil, unix.EPERM},
	}
	for e, calls := range refused {
		for c := range strings.FieldsSeq(calls) {
			w = append(w, want{"refused", c, []uint64{bad, bad, bad, bad, bad, bad}, e})
		}
	}
	return w
}

// check makes the calls in one confined process and compares.
func check(t *testing.T, program []byte, root bool, wants []want) {
	t.Helper()
	numbers, _, err := tableOf(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	c := child{Program: program, Root: root}
	var asked []want
	for _, w := range wants {
		nr, ok := numbers[w.call]
		if strings.HasPrefix(w.call, "0x") {
			_, err := fmt.Sscanf(w.call, "0x%x", &nr)
			ok = err == nil
		}
		if !ok { // not on this machine
			continue
		}
		asked = append(asked, w)
		c.Calls = append(c.Calls, attempt{nr, w.args})
	}
	out, status := confined(t, c, "/")
	lines := strings.Fields(out)
	if status != 0 || len(lines) != len(asked) {
		t.Fatalf("status %v, %d of %d calls\n%s", status, len(lines), len(asked), out)
	}
	for i, w := range asked {
		var e int
		fmt.Sscan(lines[i], &e)
		got := unix.Errno(e)
		if w.want == passed && (got == unix.EPERM || got == unix.EACCES || got == unix.ENOSYS) || w.want != passed && got != w.want {
			t.Errorf("%s: %s%#x: %v, want %v", w.what, w.call, w.args, got, w.want)
		}
	}
}

// As root where that is possible: what refuses is then the filter alone.
func TestBaseline(t *testing.T) {
	check(t, compile(t, Options{}), true, baselineWants())
	check(t, compile(t, Options{Dumps: true}), true, []want{
		{"core dumps, which the policy has", "prlimit64", []uint64{0, unix.RLIMIT_CORE, bad, 0}, unix.EFAULT},
		{"core dumps, which the policy has", "setrlimit", []uint64{unix.RLIMIT_CORE, bad}, unix.EFAULT},
	})
}

// The same by an ordinary user, for calls that need no capability: they work
// without the filter, so the tests above prove something.
func TestBaselineRefusesWhatWorksWithout(t *testing.T) {
	bare := []want{
		{"System V", "shmget", []uint64{0x7a11c71, 0, 0}, passed},
		{"keys", "keyctl", []uint64{0, 1<<64 - 3, 0}, passed},
		{"a user namespace's flags", "unshare", []uint64{0x10000000}, passed},
		{"io_uring", "io_uring_setup", []uint64{0, zeros}, unix.EINVAL},
		{"limits", "prlimit64", []uint64{uint64(os.Getpid()), 0, 0, zeros}, passed},
		{"TIOCSTI", "ioctl", []uint64{bad, unix.TIOCSTI, zeros}, unix.EBADF},
		{"a kernel's personality", "personality", []uint64{0x40000}, 0},
		{"internet", "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, 0},
		{"netlink", "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, 0},
		{"pair of datagrams", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0, zeros}, 0},
	}
	if os.Getuid() == 0 {
		bare = slices.DeleteFunc(bare, func(w want) bool { return w.call == "prlimit64" || w.call == "unshare" }) // another uid's; may be switched off
	}
	check(t, nil, false, bare)
}

// socketWants are calls under each of the networks that a policy can have.
func socketWants() map[*Options][]want {
	all := map[*Options][]want{}
	const stream, dgram, raw, seqpacket = unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET
	const clo = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	socket := func(what string, e unix.Errno, args ...uint64) want { return want{what, "socket", args, e} }
	pair := func(what string, e unix.Errno, args ...uint64) want {
		return want{what, "socketpair", append(args, zeros), e}
	}
	for _, test := range []struct {
		o                      Options
		unix, tcp, udp, datagr unix.Errno
	}{
		{Options{}, unix.EACCES, unix.EACCES, unix.EACCES, unix.EACCES},
		{Options{LocalSockets: true}, 0, unix.EACCES, unix.EACCES, 0},
		{Options{Network: true}, unix.EACCES, 0, 0, unix.EACCES},
		{Options{Network: true, Ports: true}, unix.EACCES, 0, unix.EACCES, unix.EACCES},
		{Options{Network: true, Ports: true, Bind: true}, unix.EACCES, 0, unix.EACCES, unix.EACCES},
		{Options{Network: true, Ports: true, LocalSockets: true}, 0, 0, unix.EACCES, 0},
		{Options{Network: true, LocalSockets: true}, 0, 0, 0, 0},
	} {
		wants := []want{
			socket("unix", test.unix, unix.AF_UNIX, stream, 0),
			socket("unix", test.unix, unix.AF_UNIX, dgram|clo, 0),
			socket("TCP", test.tcp, unix.AF_INET, stream, 0),
			socket("TCP, high bits", test.tcp, 1<<32|unix.AF_INET, stream|clo, unix.IPPROTO_TCP),
			socket("TCP 6", test.tcp, unix.AF_INET6, stream|clo, unix.IPPROTO_TCP),
			socket("UDP", test.udp, unix.AF_INET, dgram|clo, 0),
			socket("UDP 6", test.udp, unix.AF_INET6, dgram, unix.IPPROTO_UDP),
			pair("pair", 0, unix.AF_UNIX, stream|clo, 0),
			pair("pair", 0, unix.AF_UNIX, seqpacket, 0),
			pair("pair of datagrams", test.datagr, unix.AF_UNIX, dgram|clo, 0),
			pair("pair of datagrams, called raw", test.datagr, unix.AF_UNIX, raw, 0),
			pair("TIPC pair", unix.EACCES, unix.AF_TIPC, stream, 0),
			socket("MPTCP", unix.EACCES, unix.AF_INET, stream, 262),
			socket("MPTCP, high bits", unix.EACCES, unix.AF_INET, stream, 1<<32|262),
			socket("SMC over IP", unix.EACCES, unix.AF_INET, stream, 256),
			socket("UDP-Lite", unix.EACCES, unix.AF_INET, dgram, unix.IPPROTO_UDPLITE),
			socket("ping", unix.EACCES, unix.AF_INET, dgram, unix.IPPROTO_ICMP),
			socket("SCTP", unix.EACCES, unix.AF_INET, seqpacket, unix.IPPROTO_SCTP),
			socket("raw", unix.EACCES, unix.AF_INET, raw, unix.IPPROTO_TCP),
			socket("raw 6", unix.EACCES, unix.AF_INET6, raw|clo, unix.IPPROTO_ICMPV6),
		}
		for family := range uint64(unix.AF_MAX + 2) {
			if family != unix.AF_UNIX && family != unix.AF_INET && family != unix.AF_INET6 {
				wants = append(wants, socket("another family", unix.EACCES, family, dgram, 0), socket("another family", unix.EACCES, family, raw, 0))
			}
		}
		if test.o.Ports {
			listen := unix.EACCES
			if test.o.Bind || test.o.LocalSockets {
				listen = unix.EBADF
			}
			wants = append(wants,
				want{"TCP fast open", "sendto", []uint64{bad, zeros, 1, unix.MSG_FASTOPEN, zeros, 16}, unix.EPERM},
				want{"TCP fast open", "sendmsg", []uint64{bad, zeros, unix.MSG_FASTOPEN}, unix.EPERM},
				want{"TCP fast open", "sendmmsg", []uint64{bad, zeros, 1, unix.MSG_FASTOPEN}, unix.EPERM},
				want{"SMC for TCP", "setsockopt", []uint64{bad, unix.IPPROTO_TCP, tcpULP, zeros, 3}, unix.EPERM},
				want{"listen", "listen", []uint64{bad, 1}, listen},
				want{"send", "sendto", []uint64{bad, zeros, 1, unix.MSG_NOSIGNAL, zeros, 16}, unix.EBADF},
				want{"an option", "setsockopt", []uint64{bad, unix.IPPROTO_TCP, unix.TCP_NODELAY, zeros, 4}, unix.EBADF})
		}
		all[&test.o] = wants
	}
	return all
}

func TestSockets(t *testing.T) {
	for o, wants := range socketWants() {
		check(t, compile(t, *o), true, wants)
	}
}

// Each refusal has a call above that it refuses, so that none can be lost.
func TestEveryRefusalIsTried(t *testing.T) {
	tried := func(rules []denial, wants []want) {
		for _, d := range rules {
			for _, r := range d.rules {
				for name := range strings.FieldsSeq(r.calls) {
					if !slices.ContainsFunc(wants, func(w want) bool {
						c := Call{}
						copy(c.Args[:], w.args)
						return w.call == name && errno(w.want) == r.do &&
							r.holds(c)
					}) {
						t.Errorf("%s: %s (%s) is not tried", d.holds, name, r.why)
					}
				}
			}
		}
	}
	tried(append(slices.Clip(baseline), noDumps), baselineWants())
	for o, wants := range socketWants() {
		tried(network(*o), wants)
	}
}

// A datagram pair is a socket by another name: the reason why it goes with
// local_sockets.
func TestDatagramPairIsASocket(t *testing.T) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if err := unix.Bind(p[0], &unix.SockaddrUnix{Name: "@jailctl-seccomp-test"}); err != nil {
		t.Errorf("bind: %v", err)
	}
	name := public(t) + "/socket"
	outside, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(outside)
	if err := unix.Bind(outside, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(p[0], &unix.SockaddrUnix{Name: name}); err != nil {
		t.Errorf("connect: %v", err)
	}
}

func TestOtherTables(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Log("one table only on this machine")
		return
	}
	check(t, compile(t, Options{}), true, []want{
		{"x32", "0x40000027", nil, unix.ENOSYS},
		{"a call of tomorrow", "0x1000", nil, unix.ENOSYS},
		{"a hole in the table", "0x190", nil, unix.ENOSYS},
	})
	dir := public(t)
	src := "int main(void) { long r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20)); return r > 0 ? 0 : 1; }\n"
	if err := os.WriteFile(dir+"/i386.c", []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-o", dir+"/i386", dir+"/i386.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, status := confined(t, child{Program: compile(t, Options{}), Argv: []string{dir + "/i386"}}, dir); status.Signal() != unix.SIGSYS {
		t.Errorf("int 0x80: %v, want SIGSYS\n%s", status, out)
	}
}

// One small call for each promise.
func probes() map[string]func() unix.Errno {
	const cwd = ^uintptr(99)
	keep := [][]byte{}
	cstring := func(s string) uintptr {
		b := append([]byte(s), 0)
		keep = append(keep, b)
		return uintptr(unsafe.Pointer(&b[0]))
	}
	here, file := cstring("."), cstring("file")
	fd, _ := unix.Open("file", unix.O_RDWR|unix.O_CREAT, 0o600)
	pair, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	msg := make([]byte, 56)
	keep = append(keep, msg)
	header := uintptr(unsafe.Pointer(&msg[0]))
	pid, uid := uintptr(os.Getpid()), uintptr(unix.Getuid())
	fifo, fresh, gone := cstring(fmt.Sprint("fifo", pid)), cstring(fmt.Sprint("new", pid)), cstring("gone")
	open := func(name, flags uintptr) func() unix.Errno {
		return func() unix.Errno {
			e := raw(unix.SYS_OPENAT, cwd, name, flags, 0o600)
			runtime.KeepAlive(keep)
			return e
		}
	}
	do := func(nr uintptr, args ...uintptr) func() unix.Errno {
		return func() unix.Errno { e := raw(nr, args...); runtime.KeepAlive(keep); return e }
	}
	return map[string]func() unix.Errno{
		"stdio":     do(unix.SYS_GETPID),
		"rpath":     do(unix.SYS_CHDIR, here),
		"reading":   open(here, unix.O_RDONLY),
		"wpath":     open(file, unix.O_WRONLY),
		"cpath":     do(unix.SYS_UNLINKAT, cwd, gone, unix.AT_REMOVEDIR),
		"dpath":     do(unix.SYS_MKNODAT, cwd, fifo, unix.S_IFIFO|0o600, 0),
		"tmppath":   open(fresh, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL),
		"inet":      do(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0),
		"unix":      do(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"dns":       do(unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0),
		"fattr":     do(unix.SYS_FCHMOD, uintptr(fd), 0o600),
		"chown":     do(unix.SYS_FCHOWN, uintptr(fd), ^uintptr(0), ^uintptr(0)),
		"flock":     do(unix.SYS_FLOCK, uintptr(fd), unix.LOCK_SH),
		"sendfd":    do(unix.SYS_SENDMSG, uintptr(pair[0]), header, unix.MSG_NOSIGNAL),
		"recvfd":    do(unix.SYS_RECVMSG, uintptr(pair[1]), header, unix.MSG_DONTWAIT),
		"tty":       do(unix.SYS_IOCTL, uintptr(fd), unix.TCSETS, header),
		"proc":      do(unix.SYS_KILL, pid, 0),
		"exec":      do(unix.SYS_EXECVE, gone, 0, 0),
		"prot_exec": do(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0),
		"id":        do(unix.SYS_SETUID, uid),
	}
}

// Each word does what it stands for, alone with stdio, and nothing else does:
// all other words together, but those that are said to imply it, do not.
func TestEachPromise(t *testing.T) {
	dir := public(t)
	tests := []struct {
		word, probe string
		works       unix.Errno
		implied     string
	}{
		{"stdio", "stdio", 0, ""},
		{"rpath", "rpath", 0, ""},
		{"rpath", "reading", 0, "exec getpw dns"},
		{"getpw", "reading", 0, "rpath exec dns"},
		{"wpath", "wpath", 0, ""},
		{"cpath", "cpath", unix.ENOENT, ""},
		{"dpath", "dpath", 0, ""},
		{"tmppath", "tmppath", 0, "cpath"},
		{"inet", "inet", 0, ""},
		{"unix", "unix", 0, ""},
		{"dns", "dns", 0, "inet"},
		{"dns", "reading", 0, "rpath exec getpw"},
		{"fattr", "fattr", 0, ""},
		{"chown", "chown", 0, ""},
		{"flock", "flock", 0, ""},
		{"sendfd", "sendfd", 0, "inet unix"},
		{"recvfd", "recvfd", unix.EAGAIN, "inet unix"},
		{"tty", "tty", unix.ENOTTY, ""},
		{"proc", "proc", 0, ""},
		{"exec", "exec", unix.ENOENT, ""},
		{"exec", "prot_exec", 0, "prot_exec"},
		{"prot_exec", "prot_exec", 0, "exec"},
		{"id", "id", 0, ""},
	}
	tried := map[string]bool{}
	for _, test := range tests {
		tried[test.word] = true
		with := []string{"stdio", test.word}
		if test.word == "stdio" {
			with = with[:1]
		}
		var without []string
		for _, w := range words {
			if w.Name != test.word && !slices.Contains(strings.Fields(test.implied), w.Name) {
				without = append(without, w.Name)
			}
		}
		for _, try := range []struct {
			promises []string
			kill     bool
			want     unix.Errno
		}{{with, false, test.works}, {without, false, unix.EPERM}, {without, true, 0}} {
			o := Options{Network: true, LocalSockets: true, Promises: try.promises, Kill: try.kill}
			table, err := o.table() // not Compile: stdio is left out as well
			if err != nil {
				t.Fatal(err)
			}
			out, status := confined(t, child{Program: load.Encode(table.assemble()), Once: o.Once(), Try: test.probe}, dir)
			switch {
			case try.kill:
				if status.Signal() != unix.SIGSYS {
					t.Errorf("%s without %s: %v, want SIGSYS\n%s", test.probe, test.word, status, out)
				}
			case !status.Exited() || unix.Errno(status.ExitStatus()) != try.want:
				t.Errorf("%s with %q: %v (%v), want %v\n%s", test.probe, try.promises, status, unix.Errno(status.ExitStatus()), try.want, out)
			}
		}
	}
	for _, w := range words {
		if !tried[w.Name] {
			t.Errorf("%s is not tried", w.Name)
		}
	}
}

// Without exec, the command is executed and executes nothing.
func TestOnce(t *testing.T) {
	dir := public(t)
	busybox, err := exec.LookPath("busybox") // static
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Promises: strings.Fields("stdio rpath proc")}
	script := `echo "$0"; ` + busybox + ` echo again; for f in /bin/*; do exec $f; done`
	out, status := confined(t, child{Program: compile(t, o), Once: o.Once(), Argv: []string{busybox, "sh", "-c", script}}, dir)
	if !strings.Contains(out, "sh\n") || strings.Contains(out, "again\n") || !strings.Contains(out, "not permitted") || status.ExitStatus() != 126 {
		t.Errorf("%v\n%s", status, out)
	}
	// The second filter is what holds: without it the script goes on.
	out, status = confined(t, child{Program: compile(t, o), Argv: []string{busybox, "sh", "-c", script}}, dir)
	if !strings.Contains(out, "again\n") {
		t.Errorf("%v\n%s", status, out)
	}
	// An attacker with every other promise, who has the registers as execve left them.
	o.Promises = strings.Fields("stdio rpath wpath cpath proc prot_exec")
	out, status = confined(t, child{Program: compile(t, o), Once: o.Once(), Argv: []string{"/proc/self/exe", "guess"}}, dir)
	if status != 0 || !strings.HasSuffix(out, "held\n") {
		t.Errorf("%v\n%s", status, out)
	}
	o.Kill = true
	out, status = confined(t, child{Program: compile(t, o), Once: o.Once(), Argv: []string{"/proc/self/exe", "guess"}}, dir)
	if status.Signal() != unix.SIGSYS {
		t.Errorf("%v\n%s", status, out)
	}
	if o := (Options{Promises: []string{"stdio", "exec"}}); o.Once() != 0 || (Options{}).Once() != 0 {
		t.Error("a command that may execute others is held from it")
	}
}

// guess is the attacker.
func guess() {
	path := []byte("/bin/true\x00")
	at := uintptr(unsafe.Pointer(&path[0]))
	argv := [2]uintptr{at}
	a := uintptr(unsafe.Pointer(&argv))
	for what, got := range map[string]unix.Errno{
		"execve":               raw(unix.SYS_EXECVE, at, a, a+8),
		"execve, ones":         raw(unix.SYS_EXECVE, at, a, a+8, 0, ^uintptr(0), ^uintptr(0)),
		"execve, wrong place":  raw(unix.SYS_EXECVE, at, a, a+8, 1, 2, 3),
		"execveat":             raw(unix.SYS_EXECVEAT, 0, at, a, a+8, 0),
		"execveat, empty path": raw(unix.SYS_EXECVEAT, 0, at+9, a, a+8, unix.AT_EMPTY_PATH),
	} {
		if got != unix.EPERM {
			fmt.Println(what, got)
			os.Exit(1)
		}
	}
	runtime.KeepAlive(argv)
	fmt.Println("held")
	os.Exit(0)
}

// Each half of each number of the password counts, and nothing else opens execve.
func TestPassword(t *testing.T) {
	p := load.Password{0x0123456789abcdef, 0xfedcba9876543210}
	const otherwise = kill
	for _, test := range []struct {
		nr   uint32
		p    load.Password
		want action
	}{
		{unix.SYS_EXECVE, p, allow},
		{unix.SYS_EXECVE, load.Password{p[0] ^ 1, p[1]}, otherwise},
		{unix.SYS_EXECVE, load.Password{p[0] ^ 1<<63, p[1]}, otherwise},
		{unix.SYS_EXECVE, load.Password{p[0], p[1] ^ 1}, otherwise},
		{unix.SYS_EXECVE, load.Password{p[0], p[1] ^ 1<<63}, otherwise},
		{unix.SYS_EXECVE, load.Password{p[1], p[0]}, otherwise},
		{unix.SYS_EXECVEAT, p, otherwise},
		{unix.SYS_EXECVE + 1, load.Password{}, allow},
		{unix.SYS_OPENAT, load.Password{}, allow},
	} {
		c := Call{Nr: test.nr, Args: [6]uint64{1, 2, 3, 4, test.p[0], test.p[1]}}
		if got := interpret(load.Once(p, uint32(otherwise)), c); got != test.want {
			t.Errorf("call %d with %#x: %#x, want %#x", test.nr, test.p, got, test.want)
		}
	}
	q, err := load.NewPassword()
	r, err2 := load.NewPassword()
	if err != nil || err2 != nil || q == r || q[0] == 0 || q[1] == 0 {
		t.Errorf("%#x, then %#x (%v, %v)", q, r, err, err2)
	}
}

func TestContradictions(t *testing.T) {
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Arch: "riscv64"}, "riscv64"},
		{Options{Ports: true}, "network: true"},
		{Options{Promises: []string{}}, "stdio"},
		{Options{Promises: []string{"rpath"}}, "stdio"},
		{Options{Promises: []string{"stdio", "rpaht"}}, `"rpaht"`},
		{Options{Promises: []string{"stdio", "stdio"}}, "twice"},
		{Options{Promises: []string{"stdio", "inet"}}, "network: true"},
		{Options{Promises: []string{"stdio", "dns"}}, "network: true"},
		{Options{Promises: []string{"stdio", "unix"}, Network: true}, "local_sockets: true"},
		{Options{Promises: []string{"stdio", "dns"}, Network: true, Ports: true}, "UDP"},
	} {
		if _, err := Compile(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want something with %s", test.o, err, test.want)
		}
		if _, err := Explain(test.o); err == nil && test.o.Arch == "" {
			t.Errorf("%+v: explained", test.o)
		}
	}
}

// What is said is what is done: every system call that the filter refuses or
// permits by a rule is in a line of Explain.
func TestExplainNamesEveryRule(t *testing.T) {
	for _, o := range everyOption() {
		lines, err := Explain(o)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]bool{}
		for _, l := range lines {
			if l.Holds == "" || len(l.By) == 0 {
				t.Errorf("%+v: %+v says nothing", o, l)
			}
			for _, by := range l.By {
				for w := range strings.FieldsFuncSeq(by, func(r rune) bool { return r == ' ' || r == ':' }) {
					said[w] = true
				}
			}
		}
		table, err := o.table()
		if err != nil {
			t.Fatal(err)
		}
		for _, rules := range table.rules {
			for _, r := range rules {
				for name := range strings.FieldsSeq(r.calls) {
					if !said[name] && !strings.Contains(grants[0].rules[0].calls, name) {
						t.Errorf("%v: %s is not said", o.Promises, name)
					}
				}
			}
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	p, err := Compile(Options{Promises: []string{"stdio", "rpath", "exec", "proc"}})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	for b.Loop() { // a thread each, which ends with its filter
		b.StopTimer()
		go func() {
			defer close(done)
			runtime.LockOSThread()
			unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
			b.StartTimer()
			program, err := load.Decode(p)
			if err == nil {
				err = load.Filter(program)
			}
			b.StopTimer()
			if err != nil {
				b.Error(err)
			}
		}()
		<-done
		done = make(chan struct{})
		b.StartTimer()
	}
}
