package main

import (
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"jailctl/client"
)

// Values of rt_sigprocmask(2) and sigaction(2).
const (
	sigUnblock = 1
	siKernel   = 0x80 // si_code of a signal that the kernel, so the terminal, sent
)

// say prints one line for people. It is the only one who writes to descriptor 2.
func say(text string) { write(2, "jailctl: "+text+"\n") }

func write(fd int, s string) { syscall.Write(fd, []byte(s)) }

func exit(status int) { syscall.Exit(status) }

func setMask(how uintptr, set uint64) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, how, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
}

// relayed are the signals that are passed on to the command, and CONT, which is
// only counted.
var relayed = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGCONT,
}

// continued counts the times that we were continued.
var continued atomic.Int32

// noteFD is where the signal handler writes; -1: nowhere.
//
//lint:ignore U1000 read by the assembly
var noteFD int32 = -1

// handlers returns the signal handler, in entry_GOARCH.s, and its way back.
func handlers() (handler, restorer uintptr)

// sigaction is the kernel's struct of rt_sigaction(2), alike on amd64 and arm64.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

func rtSigaction(sig syscall.Signal, act, old *sigaction) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func ignored(sig syscall.Signal) bool {
	const sigIgn = 1
	var now sigaction
	return rtSigaction(sig, nil, &now) == nil && now.handler == sigIgn
}

// signalFD takes the relayed signals from the Go runtime, which does not say who
// sent one, and returns the descriptor from which they are read. One that the
// caller ignores, as nohup(1) has it, stays ignored.
func signalFD() (int, error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return -1, err
	}
	// A full pipe must not hold the handler; the reader waits.
	if err := syscall.SetNonblock(p[1], true); err != nil {
		return -1, err
	}
	noteFD = int32(p[1])
	const (
		saSigInfo  = 0x4
		saRestorer = 0x04000000
		saOnStack  = 0x08000000 // Go's threads have small stacks
		saRestart  = 0x10000000
	)
	act := sigaction{flags: saSigInfo | saRestorer | saOnStack | saRestart, mask: 1<<64 - 1}
	act.handler, act.restorer = handlers()
	for _, sig := range relayed {
		if ignored(sig) && sig != syscall.SIGCONT {
			continue
		}
		if err := rtSigaction(sig, &act, nil); err != nil {
			return -1, err
		}
	}
	return p[0], nil
}

// inOurGroup reports whether signals to our process group reach the command too.
func inOurGroup(pid int) bool {
	group, err := syscall.Getpgid(pid)
	own, _ := syscall.Getpgid(0)
	return err == nil && group == own
}

// watch passes signals on to the command. One that the terminal sent went to the
// whole foreground process group, the command included if it is in it: passed on as well it
// would arrive twice, and a second Ctrl-C means something else to many programs.
// Before the command starts there is nobody to pass it to, and nothing that our
// death would leave behind.
func watch(cmd *client.Cmd, fd int, granted *atomic.Bool) {
	var info [16]byte // the head of a siginfo_t
	for {
		n, err := syscall.Read(fd, info[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n < len(info) {
			return
		}
		signo := syscall.Signal(*(*int32)(unsafe.Pointer(&info[0])))
		code := *(*int32)(unsafe.Pointer(&info[8]))
		if signo == syscall.SIGCONT {
			continued.Add(1)
			continue
		}
		if code == siKernel && inOurGroup(cmd.Pid()) {
			continue
		}
		// The command may run before we have read that it does.
		for i := 0; i < 50 && !granted.Load(); i++ {
			nap()
		}
		if !granted.Load() {
			die(signo)
		}
		cmd.Signal(signo)
	}
}

// die ends this process by sig, as the command was ended, so that a shell sees
// the one for the other.
func die(sig syscall.Signal) {
	// The command may have left a core; one of ours would tell nothing.
	// Not by RLIMIT_CORE, which stops no program that takes dumps (core(5)).
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
	rtSigaction(sig, &sigaction{}, nil)
	setMask(sigUnblock, 1<<(sig-1))
	raise(sig)
	exit(128 + int(sig)) // a signal that does not end a process
}

// terminal returns which of the descriptors 0 to 2 is one, -1: none.
func terminal() int {
	for fd := range 3 {
		var termios [64]byte
		if ioctl(fd, syscall.TCGETS, unsafe.Pointer(&termios)) {
			return fd
		}
	}
	return -1
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno == 0
}

// foreground returns the terminal's foreground process group (tcgetpgrp(3)).
func foreground(tty int) (group int32) {
	ioctl(tty, syscall.TIOCGPGRP, unsafe.Pointer(&group))
	return group
}

// stop stops jailctl because the command was stopped, and returns when a shell's
// fg or bg continues it. A command with a process group of its own, as a shell
// has, gets the terminal back first if it had it. Where the signal does nothing
// because no shell is left that could continue us, the command gets what the
// kernel gives stopped processes then, HUP and CONT (setpgid(2)). Where the caller
// ignores it, stops are not ours to pass on, and it reports false.
func stop(tty int, cmd *client.Cmd) bool {
	group, _ := syscall.Getpgid(cmd.Pid())
	own, _ := syscall.Getpgid(0)
	had := group != own && foreground(tty) == int32(group)
	if ignored(syscall.SIGTSTP) {
		return false
	}
	before := continued.Load()
	raise(syscall.SIGTSTP)
	for i := 0; i < 100 && continued.Load() == before; i++ {
		nap()
	}
	if continued.Load() == before {
		cmd.Signal(syscall.SIGHUP)
		return true
	}
	if had && foreground(tty) == int32(own) {
		g := int32(group)
		ioctl(tty, syscall.TIOCSPGRP, unsafe.Pointer(&g))
	}
	return true
}

// raise sends this thread a signal, which is then delivered before it returns.
func raise(sig syscall.Signal) {
	tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), tid, uintptr(sig))
}

// nap is a millisecond.
func nap() { syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil) }

func sleep(seconds uint64) {
	ts := syscall.Timespec{Sec: int64(seconds)}
	for syscall.Nanosleep(&ts, &ts) == syscall.EINTR {
	}
}

// status writes --status-fd's events, one JSON object a line; -1: nowhere.
type status int

func (fd status) started(pid int) { fd.event("started", `,"pid":`+strconv.Itoa(pid)) }

func (fd status) refused(reason, stage string) {
	if stage != "" {
		stage = `,"stage":` + jsonString(stage)
	}
	fd.event("refused", `,"reason":`+jsonString(reason)+stage)
}

func (fd status) exited(code int) { fd.event("exited", `,"code":`+strconv.Itoa(code)) }

func (fd status) signaled(sig syscall.Signal) {
	fd.event("signaled", `,"signal":`+strconv.Itoa(int(sig)))
}

func (fd status) event(name, more string) {
	if fd >= 0 {
		write(int(fd), `{"event":"`+name+`"`+more+"}\n")
	}
}

// jsonString quotes s for JSON (RFC 8259, 7). What is no ASCII is escaped by the
// helper already.
func jsonString(s string) string {
	b := []byte{'"'}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c > 0x7e:
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
