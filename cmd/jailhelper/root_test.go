package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/ipc"
)

// These tests attack the installed helper as the ordinary users of roottest. A
// call without attack runs a command that leaves a file in the jail; the same
// call with the attack must not, or must be harmless. Each test is one row of
// the table of attacks by a hostile caller, by which its name begins.

func TestMain(m *testing.M) {
	if os.Getenv(stepsMark) != "" {
		take(os.Args[1:])
	}
	roottest.Main(m)
}

const (
	// stranger is what the helper says to those whom no rule names.
	stranger = "no jail of that name is open to you; those that are: jailctl list"
	// notSetuid begins what it says where the set-uid bit did not count.
	notSetuid = "the helper is not installed setuid root"
	// late is longer than the helper waits for a request on a busy machine.
	late = 10 * time.Second
	// alice permits Alice every command as daemon.
	alice = `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" group: "daemon" } }`
	// daemon is the uid and gid of these accounts.
	daemon = 1
)

// call is one start of the helper by hand. With no more than jail set it is what
// the client does, and Alice is who does it.
type call struct {
	jail string
	who  roottest.User

	path    string      // what is executed; the helper
	argv    []string    // its arguments; "jailhelper"
	env     []string    // its environment; one empty string, as the client gives
	steps   []string    // what the caller does to itself before that, see take
	root    bool        // the steps begin as root; the socket is still the caller's
	session bool        // stay in the session of the tests
	chroot  string      // where the caller is to begin with; "/"
	fds     map[int]int // instead of, or beside, the usual ones; -1 is closed

	command []string                       // to run in the jail; a probe that makes a file
	request func(*ipc.Request)             // changes the request
	packet  func([]byte) []byte            // changes the encoded request
	silent  bool                           // no request is sent
	prepare func(s *session, fd int) error // done before the start; fd is the helper's end of the socket
	client  func(*session)                 // what the client does once the helper is started
	unread  bool                           // the replies are left in the socket
}

// session is a call under way.
type session struct {
	t       testing.TB
	call    call
	pid     int
	socket  int // the client's end
	signal  [2]int
	death   [2]int
	out     *os.File // descriptors 1 and 2
	mark    string   // the file that the command makes, on the host
	request []byte
	began   time.Time
}

// end is how a call ended.
type end struct {
	status  int
	signal  syscall.Signal // 0: it exited
	replies []ipc.Reply
	out     string // written to 1 and 2 by anybody
	ran     bool   // the file was made
	took    time.Duration
}

var serial atomic.Int64

// start starts the helper, with the request in its socket unless it is silent.
func (c call) start(t testing.TB) *session {
	t.Helper()
	s := &session{t: t, call: c}
	who := c.user()
	var pair [2]int
	must(t, as(who, func() (err error) {
		pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	s.socket = pair[0]
	defer unix.Close(pair[1])
	must(t, unix.Pipe2(s.signal[:], unix.O_CLOEXEC))
	must(t, unix.Pipe2(s.death[:], unix.O_CLOEXEC))
	fd, err := unix.Open(roottest.Prefix, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	must(t, err)
	s.out = os.NewFile(uintptr(fd), "out")
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(null)

	name := fmt.Sprintf("/tmp/ran-%d", serial.Add(1))
	s.mark = roottest.Jail + name
	command := c.command
	if command == nil {
		command = []string{"/bin/probe", "touch", name}
	}
	q := ipc.Request{Verb: ipc.Run, Jail: c.jail, Argv: command}
	if c.request != nil {
		c.request(&q)
	}
	s.request, err = q.Encode()
	must(t, err)
	if c.packet != nil {
		s.request = c.packet(s.request)
	}
	if c.prepare != nil {
		must(t, c.prepare(s, pair[1]))
	}
	if !c.silent {
		s.send()
	}

	files := []uintptr{uintptr(null), s.out.Fd(), s.out.Fd(), uintptr(pair[1]), uintptr(s.signal[0]), uintptr(s.death[0])}
	for at, fd := range c.fds {
		for at >= len(files) {
			files = append(files, ^uintptr(0))
		}
		files[at] = uintptr(fd)
	}
	sys := &syscall.SysProcAttr{Setsid: !c.session, Chroot: c.chroot}
	if !c.root {
		sys.Credential = &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: groups(who)}
	}
	path, argv, env := or(c.path, roottest.Helper), c.argv, c.env
	if argv == nil {
		argv = []string{"jailhelper"}
	}
	if env == nil {
		env = []string{""}
	}
	if c.steps != nil {
		argv = append([]string{"steps"}, append(slices.Clone(c.steps), "exec="+path)...)
		path, env = stepper(t), []string{stepsMark + "=1"}
	}
	s.began = time.Now()
	s.pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{Dir: "/", Env: env, Files: files, Sys: sys})
	if err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return s
}

// send sends the request.
func (s *session) send() {
	s.t.Helper()
	must(s.t, unix.Sendmsg(s.socket, s.request, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT))
}

// finish collects the replies and waits for the end.
func (s *session) finish() *end {
	s.t.Helper()
	e := new(end)
	killed := false
	timer := time.AfterFunc(30*time.Second, func() {
		killed = true
		unix.Kill(s.pid, unix.SIGKILL)
	})
	if !s.call.unread {
		e.replies = s.replies()
	}
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(s.pid, &ws, 0, nil)
		if err != syscall.EINTR {
			must(s.t, err)
			break
		}
	}
	e.took = time.Since(s.began)
	if timer.Stop(); killed {
		s.t.Errorf("still there after %v", e.took)
	}
	e.status = ws.ExitStatus()
	if ws.Signaled() {
		e.signal = ws.Signal()
	}
	for _, fd := range []int{s.socket, s.signal[0], s.signal[1], s.death[0], s.death[1]} {
		unix.Close(fd)
	}
	b := make([]byte, 1<<20)
	n, _ := s.out.ReadAt(b, 0)
	s.out.Close()
	e.out = string(b[:n])
	if os.Remove(s.mark) == nil {
		e.ran = true
	}
	return e
}

// replies reads up to the end of file.
func (s *session) replies() (all []ipc.Reply) {
	s.t.Helper()
	b, oob := make([]byte, 1<<20), make([]byte, 4096)
	for {
		n, oobn, _, _, err := unix.Recvmsg(s.socket, b, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR || err == unix.ECONNRESET: // the latter once, where a request was left unread
			continue
		case err != nil:
			s.t.Errorf("reading replies: %v", err)
			return all
		case oobn != 0:
			s.t.Errorf("the helper sent ancillary data: % x", oob[:oobn])
		}
		if n == 0 {
			return all
		}
		r, err := ipc.DecodeReply(bytes.Clone(b[:n]))
		if err != nil {
			s.t.Errorf("reply % x: %v", b[:n], err)
		}
		all = append(all, r)
	}
}

// play is start, what the client does, and finish.
func (c call) play(t testing.TB) *end {
	t.Helper()
	s := c.start(t)
	if c.client != nil {
		c.client(s)
	}
	return s.finish()
}

// refused fails the test unless the call ends with status 125 in time, nothing
// run and nothing made, and with one reply that has why in its one line; no
// reply where why is empty.
func refused(t testing.TB, c call, why string) *end {
	t.Helper()
	before := tree(t)
	e := c.play(t)
	if e.ran {
		t.Error("the command ran")
	}
	if after := tree(t); before != after {
		t.Errorf("something was made:\n%s\n%s", before, after)
	}
	if e.status != 125 || e.signal != 0 {
		t.Errorf("status %d, signal %d; want 125", e.status, e.signal)
	}
	if e.out != "" {
		t.Errorf("output: %q", e.out)
	}
	if e.took > late {
		t.Errorf("took %v", e.took)
	}
	switch {
	case why == "" && len(e.replies) > 0:
		t.Errorf("replies %+v; want none", e.replies)
	case why != "" && len(e.replies) != 1:
		t.Errorf("replies %+v; want one", e.replies)
	case why != "":
		r := e.replies[0]
		if r.Outcome != ipc.Refused && r.Outcome != ipc.Failed || !strings.Contains(r.Text, why) {
			t.Errorf("outcome %d, %q; want a refusal with %q", r.Outcome, r.Text, why)
		}
		if strings.ContainsFunc(r.Text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("not one plain line: %q", r.Text)
		}
	}
	return e
}

// permitted fails the test unless the command ran, as daemon, and nothing was said.
func permitted(t testing.TB, c call) *end {
	t.Helper()
	e := c.play(t)
	if c.command == nil && !e.ran || e.status != 0 || e.signal != 0 {
		t.Errorf("status %d, signal %d, ran %v, replies %+v, output %q; want the command to run", e.status, e.signal, e.ran, e.replies, e.out)
	}
	if !c.unread && (len(e.replies) != 1 || e.replies[0].Outcome != ipc.Starting) {
		t.Errorf("replies %+v; want one, starting", e.replies)
	}
	return e
}

// report is what the probe says from inside the jail.
func report(t testing.TB, c call) map[string]string {
	t.Helper()
	c.command = []string{"/bin/probe"}
	e := permitted(t, c)
	return roottest.Probe(t, roottest.Result{Out: e.out, Status: e.status})
}

// tree is everything that the helper could have made something in.
func tree(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{roottest.Jail, roottest.Etc, roottest.State} {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			fmt.Fprintln(&b, path, d.Type())
			return err
		}))
	}
	return b.String()
}

// as runs f as u, groups and capabilities included, on a thread that ends with
// it: for what the kernel remembers by who made it, or judges by who does it.
func as(u roottest.User, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is not used again
		err := setgroups(groups(u))
		if err == nil {
			err = raw(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID))
		}
		if err == nil {
			err = raw(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID))
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (c call) user() roottest.User {
	if c.who.Name == "" {
		return roottest.Alice
	}
	return c.who
}

func groups(u roottest.User) []uint32 {
	if u == roottest.Dev {
		return []uint32{roottest.GroupID}
	}
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what is so, for at most five seconds.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// waiting waits until the helper waits for its request.
func (s *session) waiting() {
	s.t.Helper()
	s.in(unix.SYS_RECVMSG)
}

// in waits until the helper is in a system call on its socket.
func (s *session) in(call int) {
	s.t.Helper()
	eventually(s.t, "the helper waits at its socket", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", s.pid))
		must(s.t, err)
		return strings.HasPrefix(string(b), fmt.Sprintf("%d 0x%x ", call, ipc.Socket))
	})
}
