package pty

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unusable is run's exit status for everything before exec.
const unusable = 125

// modes are the caller's terminal's own, and those in which it passes keys on. They
// are what Run writes to the monitor, which puts the terminal right if Run cannot.
type modes struct{ own, raw unix.Termios }

func (m *modes) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}

// giveBack gives the terminal its own modes. One that is not ours any more gets
// them only where it has ours: a shell that took it has set what it needs.
func (m *modes) giveBack(terminal int, ours bool) {
	now, err := unix.IoctlGetTermios(terminal, unix.TCGETS)
	if err != nil || !ours && *now != m.raw {
		return
	}
	// To set modes from the background stops a process, unless it blocks the signal.
	var old unix.Sigset_t
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.PthreadSigmask(unix.SIG_BLOCK, setOf(unix.SIGTTOU), &old)
	unix.IoctlSetTermios(terminal, unix.TCSETS, &m.own)
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

// raw is t with every key passed on as it is: no line, no echo, no signal. A read waits
// for a key: if it did not, a shell that reads before the modes are given back, since
// we were killed, would take that for the end of input. What is written stays as it is too if all of it comes from the pty;
// otherwise others, as the program behind a pipe, still need the terminal's newlines.
func raw(t unix.Termios, all bool) unix.Termios {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	if all {
		t.Oflag &^= unix.OPOST
	}
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return t
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// firstTerminal returns the first of fds that is a terminal, -1: none.
func firstTerminal(fds ...int) int {
	for _, fd := range fds {
		if isTerminal(fd) {
			return fd
		}
	}
	return -1
}

// foreground reports whether the terminal is our process group's. One that does not
// control us has no job control for us either, and nobody takes it away.
func foreground(terminal int) bool {
	group, err := unix.IoctlGetUint32(terminal, unix.TIOCGPGRP)
	return err == unix.ENOTTY || err == nil && int(group) == unix.Getpgrp()
}

// readable reports whether fd has something to read, or the end, within milliseconds;
// -1: it waits. hungUp: nothing will come any more.
func readable(fd, milliseconds int) (ready, hungUp bool) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, milliseconds)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents != 0, fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	}
}

// write writes all of b, also where somebody has made fd non-blocking.
func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch err {
		case nil:
			b = b[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		default:
			return err
		}
	}
	return nil
}

// say prints one line for people.
func say(text string) { os.Stderr.WriteString("jailctl: " + text + "\n") }

func setOf(sig syscall.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	set.Val[0] = 1 << (sig - 1)
	return &set
}

// raise sends this thread a signal, which is then delivered before it returns.
func raise(sig syscall.Signal) { unix.Tgkill(unix.Getpid(), unix.Gettid(), sig) }

// action is the kernel's struct of rt_sigaction(2). Its first word is the handler:
// 0 the default, 1 to ignore the signal.
type action [4]uintptr

func sigaction(sig syscall.Signal, act action) (old action) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	return old
}

// die ends this process as another was ended, by sig.
func die(sig syscall.Signal) {
	// The command may have left a core; one of ours would tell nothing.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	sigaction(sig, action{}) // the Go runtime would print its stack for SEGV and the like
	unix.PthreadSigmask(unix.SIG_UNBLOCK, setOf(sig), nil)
	raise(sig)
	os.Exit(128 + int(sig)) // a signal that does not end a process
}
