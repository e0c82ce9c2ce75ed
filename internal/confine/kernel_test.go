package confine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// both runs the operations in a plain chroot, where they must escape, and confined.
// The wanted lines are "operation: outcome when confined".
func both(t *testing.T, run func(how string) []string, want ...string) {
	t.Helper()
	var open []string
	for _, w := range want {
		op, _, _ := strings.Cut(w, ": ")
		open = append(open, op+": ok")
	}
	expect(t, "plain chroot", run("plain"), open...)
	expect(t, "confined", run("ours"), want...)
}

func ops(want []string) (ops []string) {
	for _, w := range want {
		op, _, _ := strings.Cut(w, ": ")
		ops = append(ops, op)
	}
	return ops
}

// B05: a directory outside is open since before.
func TestInheritedDirectory(t *testing.T) {
	s := newSite(t)
	out, err := os.Open(s.outside)
	ok(t, err)
	defer out.Close()
	want := []string{"openat 3 secret: EACCES", "openat 3 ../outside: EACCES", "openat 3 .: EACCES"}
	both(t, func(how string) []string {
		return s.run(t, child{How: how, Ops: ops(want)}, []*os.File{out}, nil)
	}, want...)
}

// B10, B13: a directory comes in through a socket that is open.
func TestPassedDirectory(t *testing.T) {
	s := newSite(t)
	both(t, func(how string) []string {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		ok(t, err)
		defer unix.Close(pair[0])
		theirs := os.NewFile(uintptr(pair[1]), "socket")
		defer theirs.Close()
		dir, err := os.Open(s.outside)
		ok(t, err)
		defer dir.Close()
		ok(t, unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(dir.Fd())), nil, 0))
		return s.run(t, child{How: how, Ops: []string{"receive 3 secret"}}, []*os.File{theirs}, nil)
	}, "receive 3 secret: EACCES")
}

// B04: the directory in which the process stands is moved out of the jail.
func TestMovedOut(t *testing.T) {
	s := newSite(t)
	run := func(c child) []string {
		ok(t, os.WriteFile(s.jail+"/inner/deep/own", nil, 0o666))
		lines := s.run(t, c, nil, func() { ok(t, os.Rename(s.jail+"/inner", s.outside+"/inner")) })
		ok(t, os.Rename(s.outside+"/inner", s.jail+"/inner"))
		return lines
	}
	want := []string{
		"read ../../secret: EACCES", "list ../..: EACCES", "list ../../..: EACCES",
		"write ../../secret: EACCES", "truncate ../../secret: EACCES", "read own: EACCES",
	}
	both(t, func(how string) []string {
		return run(child{How: how, Dir: "/inner/deep", Ops: ops(want)})
	}, want...)
	ok(t, os.WriteFile(s.outside+"/secret", []byte("secret\n"), 0o666))
	// The same for what is executed.
	cat := []string{"/bin/busybox", "cat", "../../secret"}
	expect(t, "plain chroot, executed", run(child{How: "plain", Dir: "/inner/deep", Exec: cat}), "secret")
	expect(t, "confined, executed", run(child{How: "ours", Dir: "/inner/deep", Exec: cat}))
	// Metadata is not covered: what the documents say must stay true.
	expect(t, "metadata", run(child{How: "ours", Dir: "/inner/deep", Ops: []string{"stat ../../secret"}}), "stat ../../secret: ok")
}

// B04 where the jail is a mount of its own: what is moved out of it leads nowhere,
// confined or not; what it holds itself stays open to it.
func TestMovedOutOfAMount(t *testing.T) {
	s := newSite(t)
	real := s.jail
	s.jail = s.base + "/mounted"
	ok(t, os.Mkdir(s.jail, 0o755))
	ok(t, unix.Mount(real, s.jail, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(s.jail, unix.MNT_DETACH) })
	ok(t, os.WriteFile(real+"/inner/deep/own", nil, 0o666))
	for _, how := range []string{"plain", "ours"} {
		lines := s.run(t, child{How: how, Dir: "/inner/deep", Ops: []string{"read ../../secret", "list ..", "read own"}}, nil,
			func() { ok(t, os.Rename(real+"/inner", s.outside+"/inner")) })
		ok(t, os.Rename(s.outside+"/inner", real+"/inner"))
		expect(t, how, lines, "read ../../secret: ENOENT", "list ..: ENOENT", "read own: ok")
	}
}

// B12: an accomplice listens on an abstract socket.
func TestAbstractSocket(t *testing.T) {
	s := newSite(t)
	name := "jailctl-" + filepath.Base(s.base)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	defer unix.Close(fd)
	ok(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}))
	ok(t, unix.Listen(fd, 1000))
	both(t, func(how string) []string {
		return s.run(t, child{How: how, Ops: []string{"abstract " + name}}, nil, nil)
	}, "abstract "+name+": EPERM")
	open := Want{Abstract: Off}
	expect(t, "left open", s.run(t, child{How: "ours", Want: open, Ops: []string{"abstract " + name}}, nil, nil), "abstract "+name+": ok")
}

// outsider is a process outside with the target's uid.
func outsider(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: target, Gid: target}, Setsid: true}
	ok(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// B17: signals in every spelling to a process outside with the same uid.
func TestSignals(t *testing.T) {
	s := newSite(t)
	pid := outsider(t)
	var want []string
	for _, verb := range []string{"kill", "tgkill", "pidfd"} {
		want = append(want, fmt.Sprintf("%s %d: EPERM", verb, pid))
	}
	want = append(want, "killself: ok")
	both(t, func(how string) []string {
		return s.run(t, child{How: how, Ops: ops(want)}, nil, nil)
	}, want...)
	kill := fmt.Sprint("kill ", pid)
	expect(t, "left open", s.run(t, child{How: "ours", Want: Want{Signals: Off}, Ops: []string{kill}}, nil, nil), kill+": ok")
}

// B18, B19: tracing a process outside, reading its memory, its /proc files.
func TestTracing(t *testing.T) {
	s := newSite(t)
	pid := outsider(t)
	want := []string{
		fmt.Sprintf("ptrace %d: EPERM", pid),
		fmt.Sprintf("readmem %d: EPERM", pid),
		fmt.Sprintf("read /proc/%d/root%s/secret: EACCES", pid, s.outside),
		fmt.Sprintf("list /proc/%d/cwd: EACCES", pid),
		fmt.Sprintf("read /proc/%d/mem: EACCES", pid),
	}
	both(t, func(how string) []string {
		return s.run(t, child{How: how, Proc: true, Ops: ops(want)}, nil, nil)
	}, want...)
}

// listen returns a TCP socket of the loopback interface and its port.
func listen(t *testing.T, port int) (int, int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	ok(t, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	ok(t, unix.Listen(fd, 1000))
	addr, err := unix.Getsockname(fd)
	ok(t, err)
	return fd, addr.(*unix.SockaddrInet4).Port
}

// B56: TCP to and from ports that are not listed.
func TestPorts(t *testing.T) {
	s := newSite(t)
	a, server := listen(t, 0)
	defer unix.Close(a)
	b, other := listen(t, 0)
	defer unix.Close(b)
	c, free := listen(t, 0)
	d, free2 := listen(t, 0)
	unix.Close(c)
	unix.Close(d)
	list := func(outcomes ...string) (l []string) {
		for i, op := range []string{
			fmt.Sprint("connect ", server), fmt.Sprint("connect ", other), fmt.Sprint("bind ", free), fmt.Sprint("bind ", free2), "bind 0",
		} {
			l = append(l, op+": "+outcomes[i])
		}
		return l
	}
	none := list("EACCES", "EACCES", "EACCES", "EACCES", "EACCES")
	both(t, func(how string) []string { return s.run(t, child{How: how, Ops: ops(none)}, nil, nil) }, none...)
	for _, c := range []struct {
		want Want
		list []string
	}{
		{Want{Connect: []uint16{uint16(server)}, Bind: []uint16{uint16(free)}}, list("ok", "EACCES", "ok", "EACCES", "EACCES")},
		{Want{Connect: []uint16{uint16(server), uint16(other)}}, list("ok", "ok", "EACCES", "EACCES", "EACCES")},
		{Want{Bind: []uint16{0}}, list("EACCES", "EACCES", "EACCES", "EACCES", "ok")},
		{Want{TCP: Off, Connect: []uint16{1}}, list("ok", "ok", "ok", "ok", "ok")},
	} {
		expect(t, fmt.Sprintf("%+v", c.want), s.run(t, child{How: "ours", Want: c.want, Ops: ops(c.list)}, nil, nil), c.list...)
	}
}

// files are operations on files, all of which an unconfined process may do.
func files(dir string) (l []string) {
	for _, op := range []string{
		"read D/file", "list D", "list D/dir", "write D/file", "empty D/file", "truncate D/file", "ioctl D/file",
		"create D/new", "create D/sub/new", "tmpfile D", "mkdir D/newdir", "rmdir D/dir", "unlink D/gone", "symlink x D/symlink",
		"mkfifo D/fifo", "mksock D/sock", "mkchar D/char", "rename D/moved D/moved2", "rename D/moved2 D/sub/moved",
		"rename D/sub /tmp/moved", "rename /tmp/moved D/sub", "link D/linked D/link2", "link D/linked D/sub/link3",
		"exchange D/swapped D/sub/moved", "exec D/busybox", "stat D/file",
	} {
		l = append(l, strings.ReplaceAll(op, "D", dir))
	}
	return l
}

// unveiled runs files on a fresh /data.
func (s site) unveiled(t *testing.T, how string, w Want) map[string]string {
	t.Helper()
	s.fill(t, "data")
	for _, f := range []string{"moved"} {
		ok(t, os.RemoveAll(s.jail+"/tmp/"+f))
	}
	m := map[string]string{}
	for _, l := range s.run(t, child{How: how, Want: w, Ops: files("/data")}, nil, nil) {
		op, outcome, _ := strings.Cut(l, ": ")
		m[op] = outcome
	}
	if len(m) != len(files("/data")) {
		t.Fatalf("%s %+v: %v", how, w, m)
	}
	return m
}

// Each letter permits what it stands for, and is refused without.
func TestUnveilLetters(t *testing.T) {
	s := newSite(t)
	needs := map[string]string{ // operation: the letters without which it is refused
		"read /data/file": "r", "list /data": "r", "list /data/dir": "r",
		"write /data/file": "w", "empty /data/file": "w", "truncate /data/file": "w",
		"create /data/new": "wc", "create /data/sub/new": "wc", "mkdir /data/newdir": "c", "rmdir /data/dir": "c", "unlink /data/gone": "c",
		"symlink x /data/symlink": "c", "mkfifo /data/fifo": "c", "mksock /data/sock": "c",
		"rename /data/moved /data/moved2": "c", "link /data/linked /data/link2": "c", "link /data/linked /data/sub/link3": "c",
		"exec /data/busybox": "rx", "stat /data/file": "",
	}
	plain := s.unveiled(t, "plain", Want{})
	for op := range needs {
		if plain[op] != "ok" {
			t.Errorf("plain chroot: %s: %s", op, plain[op])
		}
	}
	for _, access := range []string{"rwxc", "r", "w", "x", "c", "rx", "wc", "rw", "rwx", "rwc", "rxc", "wxc"} {
		w := Want{Unveil: []Path{{Path: "/data", Access: access}}}
		got := s.unveiled(t, "ours", w)
		for op, letters := range needs {
			want := "ok"
			for _, l := range letters {
				if !strings.ContainsRune(access, l) {
					want = "EACCES"
				}
			}
			if strings.HasPrefix(op, "exec") && want != "ok" {
				want = "EACCES"
			}
			if got[op] != want {
				t.Errorf("%s: %s: %s, want %s", access, op, got[op], want)
			}
		}
		if got["mkchar /data/char"] != "EACCES" {
			t.Errorf("%s: a device node: %s", access, got["mkchar /data/char"])
		}
	}
	// Nothing else stays: neither the rest of the jail nor its root.
	w := Want{Unveil: []Path{{Path: "/data", Access: "rwxc"}}}
	expect(t, "the rest", s.run(t, child{How: "ours", Want: w, Ops: []string{"read /other/file", "list /", "exec /bin/true", "create /tmp/x", "read /data/file"}}, nil, nil),
		"read /other/file: EACCES", "list /: EACCES", "exec /bin/true: EACCES", "create /tmp/x: EACCES", "read /data/file: ok")
	// One file; what a directory alone can have is left out of its rule.
	w = Want{Unveil: []Path{{Path: "/data/file", Access: "rwc"}}}
	expect(t, "one file", s.run(t, child{How: "ours", Want: w, Ops: []string{"read /data/file", "write /data/file", "unlink /data/file", "read /data/linked"}}, nil, nil),
		"read /data/file: ok", "write /data/file: ok", "unlink /data/file: EACCES", "read /data/linked: EACCES")
	// ioctl on a device is the letter w.
	for access, want := range map[string]string{"r": "EACCES", "rw": "ENOTTY"} {
		w = Want{Unveil: []Path{{Path: "/dev/null", Access: access}}}
		expect(t, "device "+access, s.run(t, child{How: "ours", Want: w, Ops: []string{"ioctl /dev/null"}}, nil, nil), "ioctl /dev/null: "+want)
	}
}

// B47: what is written cannot be run where the policy unveils without x.
func TestWritableIsNotExecutable(t *testing.T) {
	s := newSite(t)
	w := Want{Unveil: []Path{{Path: "/bin", Access: "rx"}, {Path: "/tmp", Access: "rwc"}}}
	cp := func(how string, w Want) []string {
		os.Remove(s.jail + "/tmp/busybox")
		s.run(t, child{How: how, Want: w, Exec: []string{"/bin/busybox", "cp", "/bin/busybox", "/tmp/busybox"}}, nil, nil)
		return s.run(t, child{How: how, Want: w, Ops: []string{"exec /tmp/busybox", "exec /bin/true"}}, nil, nil)
	}
	expect(t, "plain", cp("plain", w), "exec /tmp/busybox: ok", "exec /bin/true: ok")
	expect(t, "unveiled", cp("ours", w), "exec /tmp/busybox: EACCES", "exec /bin/true: ok")
	expect(t, "moved to where x is", s.run(t, child{
		How: "ours", Want: Want{Unveil: []Path{{Path: "/data", Access: "rwxc"}, {Path: "/tmp", Access: "rwc"}}},
		Ops: []string{"rename /tmp/busybox /data/busybox2", "link /tmp/busybox /data/busybox2"},
	}, nil, nil), "rename /tmp/busybox /data/busybox2: EXDEV", "link /tmp/busybox /data/busybox2: EXDEV")
}

// A symbolic link that an earlier command planted does not widen what is unveiled.
func TestLinksAreRefused(t *testing.T) {
	s := newSite(t)
	ok(t, os.Symlink("/", s.jail+"/data/planted"))
	for _, c := range []struct{ path, err string }{
		{"/data/planted", "too many levels of symbolic links"},
		{"/data/planted/other", "too many levels of symbolic links"},
		{"/data/planted/", "too many levels of symbolic links"},
		{"/data/missing", "no such file or directory"},
		{"/data/file/x", "not a directory"},
		{"data", "bad file descriptor"},
		{".", "bad file descriptor"},
	} {
		for _, optional := range []bool{false, true} {
			w := Want{Unveil: []Path{{Path: "/bin", Access: "rx"}, {Path: c.path, Access: "rwxc", Optional: optional}}}
			want := []string{"enforce: cannot unveil \"" + c.path + "\": " + c.err + hint(c.err)}
			if optional && c.path == "/data/missing" {
				want = []string{"read /other/file: EACCES", "exec /bin/true: ok"}
			}
			expect(t, fmt.Sprintf("%q optional %v", c.path, optional),
				s.run(t, child{How: "ours", Want: w, Ops: []string{"read /other/file", "exec /bin/true"}}, nil, nil), want...)
		}
	}
	for _, c := range []struct{ path, access, err string }{
		{"/data/file", "c", "not a directory"},
		{"/data", "", "no message of desired type"},
		{"/data", "R", "no message of desired type"},
	} {
		w := Want{Unveil: []Path{{Path: c.path, Access: c.access}}}
		expect(t, c.path+" "+c.access, s.run(t, child{How: "ours", Want: w, Ops: []string{"stat /"}}, nil, nil), "enforce: cannot unveil \""+c.path+"\": "+c.err+hint(c.err))
	}
	// As the target: what it may not search, it may not unveil.
	ok(t, os.Mkdir(s.jail+"/private", 0o700))
	ok(t, os.Mkdir(s.jail+"/private/sub", 0o777))
	w := Want{Unveil: []Path{{Path: "/private/sub", Access: "r", Optional: true}}}
	expect(t, "private", s.run(t, child{How: "ours", Want: w, Ops: []string{"stat /"}}, nil, nil), "enforce: cannot unveil \"/private/sub\": permission denied")
}

// The default keeps nothing of the jail from the command, device nodes excepted.
func TestWholeJail(t *testing.T) {
	s := newSite(t)
	plain := s.unveiled(t, "plain", Want{})
	for op, got := range s.unveiled(t, "ours", Want{}) {
		want := plain[op]
		if strings.HasPrefix(op, "mkchar") {
			want = "EACCES"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", op, got, want)
		}
	}
	expect(t, "descriptors, mounts, chroot", s.run(t, child{How: "ours", Ops: []string{"descriptors", "mount /tmp", "chroot /tmp", "ioctl /dev/null"}}, nil, nil),
		"descriptors: ok", "mount /tmp: EPERM", "chroot /tmp: EPERM", "ioctl /dev/null: ENOTTY")
}

// go-landlock, told the same, gives the same verdict on every operation.
func TestSameAsGoLandlock(t *testing.T) {
	s := newSite(t)
	a, server := listen(t, 0)
	defer unix.Close(a)
	b, other := listen(t, 0)
	defer unix.Close(b)
	pid := outsider(t)
	rest := []string{
		"read /other/file", "create /other/new", "list /", "exec /bin/true", "read /dev/null", "write /dev/null", "ioctl /dev/null",
		fmt.Sprint("connect ", server), fmt.Sprint("connect ", other), "bind 0", fmt.Sprint("kill ", pid), fmt.Sprint("ptrace ", pid),
		"rename /other/moved /data/moved3", "link /data/linked /other/link4",
	}
	var unveils [][]Path
	for mask := 1; mask < 16; mask++ {
		var access string
		for i, l := range "rwxc" {
			if mask&(1<<i) != 0 {
				access += string(l)
			}
		}
		unveils = append(unveils, []Path{{Path: "/data", Access: access}})
	}
	unveils = append(unveils, nil,
		[]Path{{Path: "/", Access: "r"}, {Path: "/data", Access: "rwc"}},
		[]Path{{Path: "/data/file", Access: "rw"}, {Path: "/bin", Access: "rx"}, {Path: "/dev/null", Access: "rw"}},
		[]Path{{Path: "/other", Access: "rwxc"}, {Path: "/data", Access: "rc"}, {Path: "/gone", Access: "r", Optional: true}})
	compared := 0
	for i, u := range unveils {
		w := Want{Unveil: u, Connect: []uint16{uint16(server)}}
		if i%3 == 1 {
			w = Want{Unveil: u, TCP: Off, Signals: Off}
		}
		var said [2][]string
		for k, how := range []string{"ours", "oracle"} {
			s.fill(t, "data")
			s.fill(t, "other")
			os.RemoveAll(s.jail + "/tmp/moved")
			said[k] = s.run(t, child{How: how, Proc: true, Want: w, Ops: append(files("/data"), rest...)}, nil, nil)
		}
		if len(said[1]) != len(files(""))+len(rest) {
			t.Fatalf("%+v: the oracle said %v", w, said[1])
		}
		expect(t, fmt.Sprintf("ours, then go-landlock, for %+v", w), said[0], said[1]...)
		compared += len(said[1])
	}
	t.Logf("%d verdicts compared", compared)
}

// Whatever call fails, with whatever error, Enforce says so.
func TestEveryFailureIsReported(t *testing.T) {
	s := newSite(t)
	for _, w := range []Want{
		{Unveil: []Path{{Path: "/data", Access: "rw", Optional: true}}, Connect: []uint16{443}},
		{Bind: []uint16{8080}},
	} {
		s.failing(t, w)
	}
	expect(t, "without no_new_privs", s.run(t, child{How: "bare", Ops: []string{"read /other/file"}}, nil, nil),
		"enforce: cannot enforce the ruleset: operation not permitted")
	expect(t, "sixteen are stacked already", s.run(t, child{How: "ours", Layers: 16, Ops: []string{"read /other/file"}}, nil, nil),
		"enforce: cannot enforce the ruleset: argument list too long")
}

func (s site) failing(t *testing.T, w Want) {
	t.Helper()
	for _, c := range []struct {
		nr, arg int
		name    string
	}{
		{unix.SYS_LANDLOCK_CREATE_RULESET, -1, "landlock_create_ruleset"},
		{unix.SYS_LANDLOCK_ADD_RULE, unix.LANDLOCK_RULE_PATH_BENEATH, "landlock_add_rule of a path"},
		{unix.SYS_LANDLOCK_ADD_RULE, 2, "landlock_add_rule of a port"},
		{unix.SYS_LANDLOCK_RESTRICT_SELF, -1, "landlock_restrict_self"},
		{unix.SYS_LANDLOCK_RESTRICT_SELF, unix.LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON, "landlock_restrict_self with the log on"},
		{unix.SYS_OPENAT2, -1, "openat2"},
		{unix.SYS_FSTAT, -1, "fstat"},
	} {
		for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOMEM, unix.EMFILE, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.E2BIG} {
			got := s.run(t, child{How: "ours", Want: w, Fault: &fault{c.nr, int(errno), c.arg}, Ops: []string{"read /other/file"}}, nil, nil)
			if len(got) != 1 || !strings.HasPrefix(got[0], "enforce: ") {
				t.Errorf("%s fails with %s: %q", c.name, unix.ErrnoName(errno), got)
			}
		}
	}
}

// A plan that must not be run is not.
func TestRefusedPlan(t *testing.T) {
	e, missing := Plan(Want{}, 0)
	if len(missing) == 0 || Enforce(e) == nil {
		t.Error("a plan for a kernel without Landlock was enforced without degrade")
	}
	if e, _ := Plan(Want{Degrade: true}, 0); Enforce(e) != nil {
		t.Error("nothing to enforce, and an error")
	}
}

// hint is what is said after an error.
func hint(err string) string {
	return map[string]string{
		"no such file or directory":         "; where a path may be missing, the policy says optional: true",
		"too many levels of symbolic links": "; the policy must name where the link leads",
	}[err]
}
