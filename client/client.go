// Package client asks jailhelper to run a command in a jail. It is what
// `jailctl run` is made of, for programs that would otherwise start jailctl: one
// process less for each command.
//
// It has no privilege. The helper is started by a path fixed at build time with
// an empty environment, and becomes the command: its pid is the command's.
package client

import (
	"sync"
	"syscall"
	"unsafe"

	"jailctl/internal/paths"
	"jailctl/ipc"
)

// Refused is the error for a command that did not run.
type Refused struct {
	Outcome ipc.Outcome
	Errno   syscall.Errno // of execve(2) with ipc.ExecFailed, else of what failed, if any
	Text    string        // one line, no newline
	Stage   string        // with ipc.Failed: the helper's step, "" where it was not reached
	// Killed is the signal from the terminal that ended the helper, 0 if none did.
	Killed syscall.Signal
}

func (r *Refused) Error() string { return r.Text }

// Status is the exit status that chroot(1) and env(1) give: 127 the command is
// not there, 126 it is and cannot be run, 125 anything before that.
func (r *Refused) Status() int {
	switch {
	case r.Outcome != ipc.ExecFailed:
		return 125
	case r.Errno == syscall.ENOENT || r.Errno == syscall.ENOTDIR:
		return 127
	}
	return 126
}

// Cmd is one command in one jail. Its fields are set before Start.
type Cmd struct {
	ipc.Request
	// Stdio are the command's descriptors 0, 1 and 2. A socket is relayed through
	// a pipe, since the helper lets none in.
	Stdio [3]int
	// StopAtExec has the kernel stop the command (SIGSTOP) before its first
	// instruction, for a tracer. Only for a command with the caller's own uid, or a
	// caller who is root. After a Running without error it is stopped, or is about to.
	StopAtExec bool
	// Reap, where it is not nil, takes the place of wait4(2) for the command: a
	// tracer has waited already.
	Reap func() (syscall.WaitStatus, error)

	pid    int
	socket int
	signal [2]int // read end, write end, the write end higher
	death  [2]int // the write end lower: see pipes
	stop   int    // StopAtExec's write end
	relay  *relay

	mu    sync.Mutex // of the signal pipe and ended
	ended bool       // the process is gone and the descriptors are closed
}

// Pid is the command's process, the helper's until then.
func (c *Cmd) Pid() int { return c.pid }

// Command is argv in the jail of that name, with the caller's environment env
// ("NAME=VALUE", the policy says what is kept) and descriptors 0 to 2.
func Command(jail string, argv, env []string) *Cmd {
	return &Cmd{
		Request: ipc.Request{Verb: ipc.Run, Jail: jail, Argv: argv, Env: env},
		Stdio:   [3]int{0, 1, 2},
	}
}

// Start starts the helper with the request already in its socket. Granted must
// follow, then Wait.
func (c *Cmd) Start() error {
	packet, err := c.Encode()
	if err != nil {
		return &Refused{Outcome: ipc.Refused, Text: err.Error()}
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed("cannot make a socket pair", err)
	}
	c.socket = pair[0]
	c.signal, c.death, c.stop = [2]int{-1, -1}, [2]int{-1, -1}, -1
	defer syscall.Close(pair[1])
	defer func() {
		if c.pid == 0 {
			c.close()
		}
	}()
	syscall.SetsockoptInt(pair[0], syscall.SOL_SOCKET, syscall.SO_SNDBUF, ipc.MaxPacket) // the send says if it was too little
	send := func() error {
		return syscall.Sendmsg(pair[0], packet, nil, nil, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT)
	}
	if !c.StopAtExec {
		if err := send(); err != nil {
			return failed("cannot send the request", err)
		}
	}
	if err := c.pipes(); err != nil {
		return failed("cannot make a pipe", err)
	}
	death, stop := c.death[0], -1
	if c.StopAtExec {
		if death, stop, err = c.stopPipe(); err != nil {
			return failed("cannot make a pipe", err)
		}
	}
	stdio, err := c.relaySockets()
	if err != nil {
		return failed("cannot make a pipe", err)
	}
	files := []uintptr{stdio[0], stdio[1], stdio[2], uintptr(pair[1]), uintptr(c.signal[0]), uintptr(death)}
	// One empty string: a place in which the helper's entry point sets the Go
	// runtime's only setting.
	pid, err := syscall.ForkExec(paths.Libexec+"/jailhelper", []string{"jailhelper"}, &syscall.ProcAttr{Env: []string{""}, Files: files})
	c.relay.started()
	if c.StopAtExec {
		syscall.Close(death)
		if err == nil {
			c.pid = pid
			if err = c.stopAtExec(stop); err == nil {
				err = send()
			}
			if err != nil { // end of file: the helper ends without a request
				syscall.Close(pair[1])
				syscall.Shutdown(pair[0], syscall.SHUT_RDWR)
				c.reap()
				c.pid = 0
			}
		}
	}
	if err != nil {
		if err == syscall.EACCES {
			return &Refused{Outcome: ipc.Failed, Errno: syscall.EACCES, Text: "cannot start " + paths.Libexec + "/jailhelper: only members of its group may"}
		}
		return failed("cannot start "+paths.Libexec+"/jailhelper", err)
	}
	c.pid = pid
	return nil
}

const noAnswer = "cannot tell what the helper decided: it ended without an answer"

func failed(what string, err error) error {
	errno, _ := err.(syscall.Errno)
	return &Refused{Outcome: ipc.Failed, Errno: errno, Text: what + ": " + err.Error()}
}

// pipes makes the two pipes whose read ends the helper sets to signal itself and
// of which this process keeps both ends. When this process ends, however it
// ends, the kernel closes them, and closing a write end while the read end is
// still open kills the command. Descriptors are released in an order that the
// kernel does not promise: of the two pairs, one is right in either.
func (c *Cmd) pipes() error {
	if err := syscall.Pipe2(c.signal[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	if err := syscall.Pipe2(c.death[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.death[0]), syscall.F_DUPFD_CLOEXEC, uintptr(c.death[1]))
	if errno != 0 {
		return errno
	}
	syscall.Close(c.death[0])
	c.death[0] = int(r)
	return nil
}

// stopPipe makes the pipe whose read end the helper gets in place of death's, as
// the only one who has it.
func (c *Cmd) stopPipe() (read, write int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	c.stop = p[1]
	return p[0], p[1], nil
}

// stopAtExec has SIGSTOP sent to the helper when the last read end is closed, which
// execve(2) does: the signal is there before the first instruction of the command.
// Nothing of this is the helper's to do: a tracer that held it before execve would
// hold registers of a process that has threads of root's (SECURITY.md). The death
// pipe, which the helper does not get here, is directed by this process; the kernel
// lets us signal what has our uid, so only such a command stops.
func (c *Cmd) stopAtExec(write int) error {
	for fd, sig := range map[int]syscall.Signal{write: syscall.SIGSTOP, c.death[0]: syscall.SIGKILL} {
		for _, set := range [][2]int{{syscall.F_SETOWN, c.pid}, {fSetSig, int(sig)}, {syscall.F_SETFL, syscall.O_ASYNC | syscall.O_NONBLOCK}} {
			if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(set[0]), uintptr(set[1])); errno != 0 {
				return errno
			}
		}
	}
	return nil
}

// fSetSig is F_SETSIG of fcntl(2).
const fSetSig = 10

// Granted waits for the helper's decision: its reply when the command is about
// to start, *Refused otherwise.
func (c *Cmd) Granted() (ipc.Reply, error) {
	r, err := receive(c.socket)
	if err == nil && r.Outcome == ipc.Starting {
		return r, nil
	}
	ended, _ := c.reap()
	c.relay.drain()
	c.close()
	if err == nil {
		return r, &Refused{Outcome: r.Outcome, Errno: r.Errno, Text: r.Text, Stage: r.Stage}
	}
	refused := &Refused{Outcome: ipc.Failed, Text: noAnswer}
	if ended.Signaled() {
		refused.Text = "cannot tell what the helper decided: it was killed: " + ended.Signal().String()
		switch ended.Signal() {
		case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
			refused.Killed = ended.Signal()
		}
	}
	return r, refused
}

// Running waits until the command has replaced the helper, or could not.
func (c *Cmd) Running() error {
	r, err := receive(c.socket)
	if err != nil {
		return nil // end of file: the socket closed itself at execve
	}
	c.reap()
	c.relay.drain()
	c.close()
	return &Refused{Outcome: r.Outcome, Errno: r.Errno, Text: r.Text, Stage: r.Stage}
}

// nap waits 10 ms and returns how many nanoseconds went by.
func nap() int64 {
	var before, after syscall.Timeval
	syscall.Gettimeofday(&before)
	syscall.Nanosleep(&syscall.Timespec{Nsec: 10e6}, nil)
	syscall.Gettimeofday(&after)
	return after.Nano() - before.Nano()
}

// Wait waits for the command to end. stopped, if not nil, is called when it
// stops, and the command is continued when it returns true; after false, stops are
// no longer looked for.
func (c *Cmd) Wait(stopped func() bool) (syscall.WaitStatus, error) {
	for stopped != nil && c.wait(wExited|wStopped|wNoWait) == cldStopped {
		// A shell that stops and continues us both does so one by one. Where we were
		// stopped meanwhile, the wait begins anew.
		for nap() > 20e6 {
		}
		if c.wait(wStopped|wNoWait|wNoHang) != cldStopped {
			continue
		}
		if !stopped() {
			break
		}
		c.wait(wStopped | wNoHang)
		// SIGCONT may be sent to anybody in the session (kill(2)).
		syscall.Kill(c.pid, syscall.SIGCONT)
	}
	status, err := c.reap()
	c.relay.drain()
	defer c.close()
	if err != nil {
		return status, failed("cannot wait for the command", err)
	}
	// What stands in the socket is why execve failed; nothing: it ran.
	syscall.SetNonblock(c.socket, true)
	if r, err := receive(c.socket); err == nil {
		return status, &Refused{Outcome: r.Outcome, Errno: r.Errno, Text: r.Text, Stage: r.Stage}
	}
	return status, nil
}

// Values of waitid(2).
const (
	wStopped   = 2
	wExited    = 4
	wNoHang    = 1
	wNoWait    = 0x01000000
	cldStopped = 5
)

// wait is waitid(2) for the command; it returns si_code, 0 where there is nothing.
func (c *Cmd) wait(options uintptr) int32 {
	const pPID = 1
	var info [128]byte // siginfo_t: si_code is the third int
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(c.pid), uintptr(unsafe.Pointer(&info)), options, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0
		}
		return *(*int32)(unsafe.Pointer(&info[8]))
	}
}

func (c *Cmd) reap() (status syscall.WaitStatus, err error) {
	if c.Reap != nil {
		return c.Reap()
	}
	for {
		_, err = syscall.Wait4(c.pid, &status, 0, nil)
		if err != syscall.EINTR {
			return status, err
		}
	}
}

// close gives the descriptors back; a Signal after it finds nobody.
func (c *Cmd) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	for _, fd := range []int{c.socket, c.signal[0], c.signal[1], c.death[0], c.death[1], c.stop} {
		syscall.Close(fd)
	}
}

// Signal has the kernel send sig to the command, whatever its uid: it writes to
// the pipe whose signal the helper directed to itself. Before the helper did so,
// nothing happens.
func (c *Cmd) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return syscall.ESRCH
	}
	set := func(sig syscall.Signal) error {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(c.signal[0]), fSetSig, uintptr(sig)); errno != 0 {
			return errno
		}
		return nil
	}
	if err := set(sig); err != nil {
		return err
	}
	b := []byte{0}
	_, err := syscall.Write(c.signal[1], b)
	if err == nil {
		_, err = syscall.Read(c.signal[0], b)
	}
	if again := set(syscall.SIGKILL); err == nil {
		err = again
	}
	return err
}

// Ask sends a request other than Run and returns all replies up to the last.
func Ask(q ipc.Request) ([]ipc.Reply, error) {
	c := &Cmd{Request: q, Stdio: [3]int{0, 1, 2}}
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer c.close()
	defer c.reap()
	var all []ipc.Reply
	for {
		r, err := receive(c.socket)
		if err != nil {
			return all, &Refused{Outcome: ipc.Failed, Text: noAnswer}
		}
		switch r.Outcome {
		case ipc.Listed:
			all = append(all, r)
		case ipc.Explained:
			return []ipc.Reply{r}, nil
		case ipc.End:
			return all, nil
		default:
			return all, &Refused{Outcome: r.Outcome, Errno: r.Errno, Text: r.Text, Stage: r.Stage}
		}
	}
}

// receive reads one reply; end of file is an error.
func receive(fd int) (ipc.Reply, error) {
	b := make([]byte, 4096)
	n, err := recv(fd, b, syscall.MSG_PEEK|syscall.MSG_TRUNC)
	if n > len(b) {
		b = make([]byte, n)
	}
	if err == nil {
		n, err = recv(fd, b, 0)
	}
	if err == nil && n == 0 {
		err = syscall.ENODATA
	}
	if err != nil {
		return ipc.Reply{}, err
	}
	return ipc.DecodeReply(b[:n])
}

// recv is recvfrom(2); with MSG_TRUNC it returns the size of the packet, which may
// exceed b. A helper that ends without having read the request leaves ECONNRESET
// on the socket, once, and the kernel reports it ahead of the answer that is there.
func recv(fd int, b []byte, flags uintptr) (int, error) {
	for reset := false; ; {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		switch {
		case errno == 0:
			return int(n), nil
		case errno == syscall.ECONNRESET && !reset:
			reset = true
		case errno != syscall.EINTR:
			return 0, errno
		}
	}
}
