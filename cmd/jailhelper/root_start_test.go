package main_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/ipc"
)

// What the caller does to descriptors, directories and itself before it starts
// the helper.

// The argument vector is never looked at, so it is no attack.
func TestA02Arguments(t *testing.T) {
	roottest.Apply(t, "a02", alice)
	for name, argv := range map[string][]string{
		"none":        {}, // for which the kernel puts one empty argument
		"empty":       {""},
		"dash":        {"-"},
		"newline":     {"\n"},
		"120 kB":      {strings.Repeat("x", 120_000)},
		"options":     {"jailhelper", "--", "-c", "/etc/passwd", "--policy=/dev/null", "-test.run=."},
		"60000":       slices.Repeat([]string{"x"}, 60_000),
		"a directory": {"/"},
	} {
		t.Run(name, func(t *testing.T) { permitted(t, call{jail: "a02", argv: argv}) })
	}
}

// Any environment is refused, before which the Go runtime has obeyed none of it.
func TestA06Environment(t *testing.T) {
	roottest.Apply(t, "a06", alice)
	for name, env := range map[string][]string{
		"GODEBUG":     {"GODEBUG=inittrace=1,gctrace=1,schedtrace=1"},
		"GOMEMLIMIT":  {"GOMEMLIMIT=bad"}, // of which the runtime would die, with status 2
		"GOMAXPROCS":  {"GOMAXPROCS=1000000"},
		"GOTRACEBACK": {"GOTRACEBACK=crash"},
		"loader":      {"LD_PRELOAD=/tmp/x", "LD_AUDIT=/tmp/x", "LD_DEBUG=all", "GLIBC_TUNABLES=x=y"},
		"last of all": {"", "", "", "TZ=/tmp/x"},
		"malformed":   {"="},
		"120 kB":      {strings.Repeat("x", 120_000)},
		"100000":      slices.Repeat([]string{"A=b"}, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			soon(t, refused(t, call{jail: "a06", env: env}, "the helper takes no environment"))
		})
	}
	// One empty string is what the client gives.
	for n, run := range map[int]func(testing.TB, call) *end{
		0: func(t testing.TB, c call) *end { return refused(t, c, "the helper takes no environment") },
		1: permitted,
		2: func(t testing.TB, c call) *end { return refused(t, c, "the helper takes no environment") },
	} {
		run(t, call{jail: "a06", env: make([]string, n)})
	}
}

func TestA10ClosedDescriptors(t *testing.T) {
	roottest.Apply(t, "a10", alice)
	for mix := range 1 << 6 {
		c := call{jail: "a10", fds: map[int]int{}}
		for fd := range 6 {
			if mix>>fd&1 == 1 {
				c.fds[fd] = -1
			}
		}
		t.Run(fmt.Sprintf("%06b", mix), func(t *testing.T) {
			switch {
			case mix == 0:
				permitted(t, c)
			case mix>>ipc.Socket&1 == 1:
				refused(t, c, "") // nobody to answer
			default:
				refused(t, c, "descriptors 0 to 5 must be open")
			}
		})
	}
}

// kinds opens one descriptor of each kind that there is, as Alice.
func kinds(t *testing.T) map[string]int {
	t.Helper()
	dir := t.TempDir()
	fds := map[string]int{}
	open := func(name string, fd int, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		fds[name] = fd
	}
	file := func(name, path string, flags int) {
		t.Helper()
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		open(name, fd, err)
	}
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, os.Symlink("fifo", dir+"/link"))
	must(t, os.WriteFile(dir+"/file", []byte("text"), 0o600))
	must(t, as(roottest.Alice, func() error {
		var errs []error
		socket := func(name string, domain, kind, proto int) int {
			fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
			errs = append(errs, err)
			fds[name] = fd
			return fd
		}
		for name, kind := range map[string]int{"stream pair": unix.SOCK_STREAM, "datagram pair": unix.SOCK_DGRAM} {
			p, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			errs = append(errs, err)
			fds[name], fds[name+", other end"] = p[0], p[1]
		}
		socket("unconnected", unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
		socket("UDP", unix.AF_INET, unix.SOCK_DGRAM, 0)
		socket("netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		listening := socket("listening", unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
		errs = append(errs, unix.Bind(listening, &unix.SockaddrUnix{Name: "@jailctl-" + strconv.Itoa(os.Getpid())}), unix.Listen(listening, 1))
		server := socket("TCP, listening", unix.AF_INET, unix.SOCK_STREAM, 0)
		errs = append(errs, unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(server, 1))
		name, err := unix.Getsockname(server)
		errs = append(errs, err, unix.Connect(socket("TCP", unix.AF_INET, unix.SOCK_STREAM, 0), name))
		return errors.Join(errs...)
	}))
	file("directory", "/", unix.O_RDONLY|unix.O_DIRECTORY)
	file("directory, O_PATH", "/", unix.O_PATH|unix.O_DIRECTORY)
	file("file, O_PATH", dir+"/file", unix.O_PATH)
	file("fifo, O_PATH", dir+"/fifo", unix.O_PATH)
	file("link, O_PATH", dir+"/link", unix.O_PATH|unix.O_NOFOLLOW)
	file("null, O_PATH", "/dev/null", unix.O_PATH)
	file("file", dir+"/file", unix.O_RDWR)
	file("null", "/dev/null", unix.O_RDWR)
	file("full", "/dev/full", unix.O_RDWR)
	file("ptmx", "/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	file("helper", roottest.Helper, unix.O_RDONLY)
	file("namespace", "/proc/self/ns/net", unix.O_RDONLY)
	file("memory of a process", "/proc/self/mem", unix.O_RDWR)
	queue, err := unix.BytePtrFromString("jailctl-" + strconv.Itoa(os.Getpid()))
	must(t, err)
	mq, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(queue)), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600, 0, 0, 0)
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(queue)), 0, 0)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	fds["queue"] = int(mq)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	open("eventfd", fd, err)
	fd, err = unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	open("memfd", fd, err)
	fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	open("epoll", fd, err)
	fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	open("timerfd", fd, err)
	fd, err = unix.Signalfd(-1, &unix.Sigset_t{}, unix.SFD_CLOEXEC)
	open("signalfd", fd, err)
	fd, err = unix.InotifyInit1(unix.IN_CLOEXEC)
	open("inotify", fd, err)
	fd, err = unix.PidfdOpen(os.Getpid(), 0)
	open("pidfd", fd, err)
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	fds["pipe, read end"], fds["pipe, write end"] = p[0], p[1]
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	must(t, unix.Close(p[0]))
	fds["broken pipe"] = p[1]
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	for err = nil; err == nil; {
		_, err = unix.Write(p[1], make([]byte, 4096))
	}
	_, err = unix.FcntlInt(uintptr(p[1]), unix.F_SETFL, 0)
	must(t, err)
	fds["full pipe"], fds["full pipe, read end"] = p[1], p[0]
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	return fds
}

// Files, pipes and character devices are what a shell may give any command:
// whatever is wrong with them is the command's to find out. All else is refused.
func TestA11Stdio(t *testing.T) {
	roottest.Apply(t, "a11", alice)
	fds := kinds(t)
	harmless := []string{
		"file", "null", "full", "ptmx", "helper", "memfd",
		"pipe, read end", "pipe, write end", "broken pipe", "full pipe", "full pipe, read end",
	}
	for _, kind := range slices.Sorted(maps.Keys(fds)) {
		for at := range 3 {
			t.Run(fmt.Sprintf("%s at %d", kind, at), func(t *testing.T) {
				c := call{jail: "a11", fds: map[int]int{at: fds[kind]}}
				switch {
				case slices.Contains(harmless, kind):
					permitted(t, c)
					// No message goes there: a full pipe holds nobody up.
					c.request = func(q *ipc.Request) { q.Jail = "none" }
					refused(t, c, stranger)
				case kind == "pidfd": // a regular file or not, by the kernel's version
					refused(t, c, fmt.Sprintf("descriptor %d is ", at))
				case kind == "namespace", kind == "queue", kind == "memory of a process":
					refused(t, c, fmt.Sprintf("descriptor %d is a process", at))
				default:
					refused(t, c, fmt.Sprintf("descriptor %d is neither a regular file nor a pipe nor a character device", at))
				}
			})
		}
	}
}

func TestA12DescriptorTableFull(t *testing.T) {
	roottest.Apply(t, "a12", alice)
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(root)
	roots := func(from, to int) map[int]int {
		m := map[int]int{}
		for fd := from; fd <= to; fd++ {
			m[fd] = root
		}
		return m
	}
	t.Run("4 to 19", func(t *testing.T) {
		refused(t, call{jail: "a12", fds: roots(4, 19)}, "descriptors 4 and 5 must be pipes")
		refused(t, call{jail: "a12", fds: roots(5, 19)}, "descriptors 4 and 5 must be pipes")
	})
	for kind, fd := range kinds(t) {
		if kind != "pipe, read end" && kind != "full pipe, read end" {
			t.Run(kind+" as signal pipe", func(t *testing.T) {
				refused(t, call{jail: "a12", fds: map[int]int{ipc.Signal: fd}}, "descriptors 4 and 5 must be pipes")
				refused(t, call{jail: "a12", fds: map[int]int{ipc.Death: fd}}, "descriptors 4 and 5 must be pipes")
			})
		}
	}
	// Above 5 the helper closes all and goes on, even where there is no room for
	// any of its own, or where descriptors are above the limit of today.
	for name, c := range map[string]call{
		"6 to 19":         {fds: roots(6, 19)},
		"table full":      {steps: []string{"nofile=1024", "fill"}},
		"above the limit": {steps: []string{"nofile=1024", "fill", "nofile=64"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.jail = "a12"
			permitted(t, c)
			if fds := report(t, c)["fds"]; fds != "0 1 2" {
				t.Errorf("descriptors in the jail: %s", fds)
			}
		})
	}
}

func TestA13SocketOfAnotherKind(t *testing.T) {
	roottest.Apply(t, "a13", alice)
	t.Run("control", func(t *testing.T) { permitted(t, call{jail: "a13"}) })
	for kind, fd := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			e := refused(t, call{jail: "a13", fds: map[int]int{ipc.Socket: fd}}, "")
			if e.took > 2*time.Second {
				t.Errorf("was waited on for %v", e.took)
			}
		})
	}
	for _, u := range []roottest.User{roottest.Bob, {Name: "root"}} {
		t.Run("pair of "+u.Name, func(t *testing.T) {
			p := pair(t, u)
			c := call{jail: "a13", fds: map[int]int{ipc.Socket: fd(p[1])}, packet: func(b []byte) []byte {
				must(t, unix.Sendmsg(fd(p[0]), b, nil, nil, 0))
				return b
			}}
			refused(t, c, "")
			if n, _, err := unix.Recvfrom(fd(p[0]), make([]byte, 9), unix.MSG_DONTWAIT); n > 0 || err != unix.EAGAIN {
				t.Errorf("the other user was answered: %d bytes, %v", n, err)
			}
		})
	}
	t.Run("peer closed", func(t *testing.T) {
		p := pair(t, roottest.Alice)
		must(t, p[0].Close())
		refused(t, call{jail: "a13", fds: map[int]int{ipc.Socket: fd(p[1])}}, "")
		p = pair(t, roottest.Alice)
		refused(t, call{jail: "a13", fds: map[int]int{ipc.Socket: fd(p[1])}, packet: func(b []byte) []byte {
			must(t, unix.Sendmsg(fd(p[0]), b, nil, nil, 0))
			must(t, p[0].Close())
			return b
		}}, "")
	})
	// The helper closes its copy of the client's end and sees that there is no other.
	t.Run("both ends in the helper", func(t *testing.T) {
		p := pair(t, roottest.Alice)
		e := refused(t, call{jail: "a13", fds: map[int]int{ipc.Socket: fd(p[1]), 6: fd(p[0])}, client: func(*session) {
			must(t, p[0].Close())
		}}, "")
		if e.took > 2*time.Second {
			t.Errorf("was waited on for %v", e.took)
		}
	})
	// What the caller set on the socket before is not obeyed.
	timeout := func(d time.Duration) func(*session, int) error {
		tv := unix.NsecToTimeval(int64(d))
		return func(_ *session, fd int) error {
			return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		}
	}
	slow := func(s *session) {
		s.waiting()
		s.send()
	}
	t.Run("short timeout", func(t *testing.T) {
		permitted(t, call{jail: "a13", prepare: timeout(time.Microsecond), silent: true, client: slow})
	})
	t.Run("long timeout", func(t *testing.T) {
		refused(t, call{jail: "a13", prepare: timeout(time.Hour), silent: true}, "no request came in time")
	})
	t.Run("O_ASYNC", func(t *testing.T) {
		permitted(t, call{jail: "a13", steps: []string{"async"}, silent: true, client: slow})
	})
	// O_NONBLOCK means that the request must be there already, no more.
	t.Run("O_NONBLOCK", func(t *testing.T) {
		nonblock := func(_ *session, fd int) error { return unix.SetNonblock(fd, true) }
		permitted(t, call{jail: "a13", prepare: nonblock})
		refused(t, call{jail: "a13", prepare: nonblock, silent: true}, "no request came in time")
	})
}

// pair is a socket pair of u's.
func pair(t *testing.T, u roottest.User) (files [2]*os.File) {
	t.Helper()
	must(t, as(u, func() error {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		files = [2]*os.File{os.NewFile(uintptr(p[0]), "client"), os.NewFile(uintptr(p[1]), "helper")}
		return err
	}))
	t.Cleanup(func() { files[0].Close(); files[1].Close() })
	return files
}

func fd(f *os.File) int { return int(f.Fd()) }

// Nothing of the caller's working directory or umask reaches the helper's own
// work or the command; what the request says of it is the target's to enter.
func TestA19WorkingDirectoryAndUmask(t *testing.T) {
	roottest.Apply(t, "a19", alice)
	dir := roottest.Public + "/a19"
	for name, steps := range map[string][]string{
		"removed":    {"chdir=" + dir, "rmdir=" + dir},
		"unreadable": {"chdir=" + dir, "closed=" + dir},
		"fd":         {"chdir=/proc/self/fd"},
		"umask 0":    {"umask=0"},
		"umask 777":  {"umask=777"},
	} {
		t.Run(name, func(t *testing.T) {
			c := call{jail: "a19", steps: steps}
			for _, try := range []func(){
				func() { permitted(t, c) },
				func() { // relative names lead nowhere
					c := c
					c.request = func(q *ipc.Request) { q.Jail = "../a19" }
					refused(t, c, stranger)
				},
				func() {
					if p := report(t, c); p["cwd"] != "/" || p["umask"] != "022" {
						t.Errorf("cwd %s, umask %s", p["cwd"], p["umask"])
					}
				},
			} {
				must(t, os.Mkdir(dir, 0o755))
				must(t, os.Chown(dir, int(roottest.Alice.UID), int(roottest.Alice.GID)))
				try()
				os.Remove(dir)
			}
		})
	}
}

func TestA19DirectoryAskedFor(t *testing.T) {
	roottest.Apply(t, "a19", alice)
	closed := roottest.Jail + "/closed"
	must(t, os.Mkdir(closed, 0o700))
	t.Cleanup(func() { os.Remove(closed) })
	in := func(dir string) call {
		return call{jail: "a19", request: func(q *ipc.Request) { q.Dir = dir }}
	}
	if cwd := report(t, in("/tmp"))["cwd"]; cwd != "/tmp" {
		t.Errorf("cwd %s", cwd)
	}
	for dir, why := range map[string]string{
		"/closed":               "cannot change to \"/closed\" in the jail: permission denied",
		"/none":                 "cannot change to \"/none\" in the jail: no such file or directory",
		roottest.Public:         "no such file or directory", // outside
		"/.." + roottest.Public: "no such file or directory",
		"tmp":                   "must be an absolute path inside the jail",
		"..":                    "must be an absolute path inside the jail",
	} {
		refused(t, in(dir), why)
	}
}

func TestA21NoNewPrivs(t *testing.T) {
	roottest.Apply(t, "a21", alice)
	permitted(t, call{jail: "a21", steps: []string{}})
	refused(t, call{jail: "a21", steps: []string{"nnp"}}, notSetuid)
}

// A filter that answers system calls with success needs no_new_privs, under
// which set-uid does not count; whether it did is told by the kernel before any
// system call is made.
func TestA22FakedSystemCalls(t *testing.T) {
	roottest.Apply(t, "a22", alice)
	permitted(t, call{jail: "a22", steps: []string{}})
	all := fmt.Sprintf("fake=%d,%d,%d,%d,%d,%d,%d,%d", unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS,
		unix.SYS_GETRESUID, unix.SYS_GETEUID, unix.SYS_CHROOT, unix.SYS_FCHDIR, unix.SYS_CAPSET)
	refused(t, call{jail: "a22", steps: []string{"nnp", all}}, notSetuid)

	// Root alone can install one without, before becoming Dev: each change of
	// identity is read back all the same.
	roottest.Apply(t, "a22dev", `root: "ROOT" rules { users: "jailctl-dev" run_as { user: "daemon" group: "daemon" } }`)
	dev := []string{fmt.Sprintf("group=%d", roottest.GroupID), "", fmt.Sprintf("become=%d", roottest.Dev.UID)}
	for _, row := range []struct {
		name, step, why string
	}{
		{"entry's setresuid", fmt.Sprintf("fake=%d", unix.SYS_SETRESUID), notSetuid},
		{"setresuid", fmt.Sprintf("fake-nonzero=%d", unix.SYS_SETRESUID), "could become root again"},
		{"setresgid", fmt.Sprintf("fake-nonzero=%d", unix.SYS_SETRESGID), "the ids are not the target's"},
		{"setgroups", fmt.Sprintf("fake=%d", unix.SYS_SETGROUPS), "the groups are not the target's"},
		{"none", "umask=22", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			dev[1] = row.step
			c := call{jail: "a22dev", who: roottest.Dev, root: true, steps: dev}
			if row.why == "" {
				permitted(t, c)
			} else {
				refused(t, c, row.why)
			}
		})
	}
	t.Run("inheritable capability", func(t *testing.T) {
		dev[1] = fmt.Sprintf("inherit=%d", unix.CAP_NET_BIND_SERVICE)
		if caps := report(t, call{jail: "a22dev", who: roottest.Dev, root: true, steps: dev})["caps"]; caps != "00 00 00" {
			t.Errorf("capabilities in the jail: %s", caps)
		}
		// The same with an empty capset: what is left is seen.
		dev[1] = fmt.Sprintf("inherit=%d", unix.CAP_NET_BIND_SERVICE)
		steps := []string{dev[0], dev[1], fmt.Sprintf("fake=%d", unix.SYS_CAPSET), dev[2]}
		refused(t, call{jail: "a22dev", who: roottest.Dev, root: true, steps: steps}, "cannot drop capabilities")
	})
}

// In a user namespace of one's own, root is uid 0 of that namespace: the host's
// root, who owns the policies, is nobody there. More than one thing stops the
// helper, and which one comes first does not matter.
func TestA23UserNamespace(t *testing.T) {
	roottest.Apply(t, "a23", alice)
	unshare := []string{"unshare", "--user", "--map-root-user"}
	permitted(t, call{jail: "a23"})
	refused(t, call{jail: "a23", path: "/usr/bin/unshare", argv: append(unshare, roottest.Helper)}, " ")

	// With a chroot into a tree of one's own, in which the policy is one's own as
	// well, there is still no right to any id but one's own.
	roottest.Apply(t, "a23own", strings.Replace(alice, "jailctl-alice", "*", 1))
	world := roottest.Public + "/a23"
	for _, dir := range []string{roottest.Etc + "/jails", roottest.State + "/policies", roottest.Jail + "/bin", roottest.Jail + "/tmp"} {
		must(t, os.MkdirAll(world+dir, 0o755))
	}
	t.Cleanup(func() { os.RemoveAll(world) })
	for _, file := range []string{roottest.Etc + "/jails/a23own.txtpb", roottest.State + "/policies/a23own.pb", roottest.Jail + "/bin/probe"} {
		copyFile(t, file, world+file, 0o755)
	}
	copyFile(t, roottest.Helper, world+"/helper", 0o755)
	must(t, filepath.WalkDir(world, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(roottest.Alice.UID), int(roottest.Alice.GID)))
	}))
	own := call{jail: "a23own", path: "/usr/bin/unshare", argv: append(unshare, "/usr/sbin/chroot", world, "/helper")}
	refused(t, own, " ")
	made, err := os.ReadDir(world + roottest.Jail + "/tmp")
	if must(t, err); len(made) > 0 {
		t.Errorf("made in the caller's own tree: %v", made)
	}
}

func TestA24Traced(t *testing.T) {
	roottest.Apply(t, "a24", alice)
	permitted(t, call{jail: "a24", steps: []string{}})
	refused(t, call{jail: "a24", steps: []string{"trace=" + roottest.Helper}}, notSetuid)
}

// The helper never looks at its own name: by any name of the installed file it
// is the same, and nothing else is it.
func TestA25HelperByAnotherName(t *testing.T) {
	roottest.Apply(t, "a25", alice)
	dir := roottest.Public + "/a25"
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { os.RemoveAll(dir) })

	t.Run("symbolic link", func(t *testing.T) {
		must(t, as(roottest.Alice, func() error { return os.Symlink(roottest.Helper, dir+"/symlink") }))
		permitted(t, call{jail: "a25", path: dir + "/symlink"})
	})
	t.Run("hard link", func(t *testing.T) {
		if b, err := os.ReadFile("/proc/sys/fs/protected_hardlinks"); err == nil && string(b) == "1\n" {
			if err := as(roottest.Alice, func() error { return os.Link(roottest.Helper, dir+"/own") }); !errors.Is(err, unix.EPERM) {
				t.Errorf("an ordinary user links the helper: %v", err)
			}
		}
		must(t, os.Link(roottest.Helper, dir+"/link"))
		permitted(t, call{jail: "a25", path: dir + "/link"})
	})
	t.Run("descriptor", func(t *testing.T) {
		permitted(t, call{jail: "a25", steps: []string{"fexec=" + roottest.Helper}})
		helper, err := unix.Open(roottest.Helper, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(helper)
		permitted(t, call{jail: "a25", path: "/proc/self/fd/7", fds: map[int]int{7: helper}})
	})
	t.Run("copy without the bit", func(t *testing.T) {
		copyFile(t, roottest.Helper, dir+"/copy", 0o755)
		refused(t, call{jail: "a25", path: dir + "/copy"}, notSetuid)
	})
	t.Run("copy with the bit, another user's", func(t *testing.T) {
		copyFile(t, roottest.Helper, dir+"/bobs", 0o755)
		must(t, os.Chown(dir+"/bobs", int(roottest.Bob.UID), int(roottest.Bob.GID)))
		must(t, unix.Chmod(dir+"/bobs", 0o4755))
		refused(t, call{jail: "a25", path: dir + "/bobs"}, notSetuid)
	})
	t.Run("nosuid mount", func(t *testing.T) {
		for _, flags := range []uintptr{0, unix.MS_NOSUID} {
			must(t, os.MkdirAll(dir+"/mount", 0o755))
			must(t, unix.Mount("tmpfs", dir+"/mount", "tmpfs", flags, "mode=0755"))
			copyFile(t, roottest.Helper, dir+"/mount/helper", 0o4755)
			if c := (call{jail: "a25", path: dir + "/mount/helper"}); flags == 0 {
				permitted(t, c)
			} else {
				refused(t, c, notSetuid)
			}
			must(t, unix.Unmount(dir+"/mount", 0))
		}
	})
}
