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

func isOpen(fd int) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return errno == 0
}

func setMask(how uintptr, set uint64) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, how, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
}

// relayed are the signals that are passed on to the command.
var relayed = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM,
}

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
		ignored    = 1
	)
	act := sigaction{flags: saSigInfo | saRestorer | saOnStack | saRestart, mask: 1<<64 - 1}
	act.handler, act.restorer = handlers()
	for _, sig := range relayed {
		var old sigaction
		if err := rtSigaction(sig, nil, &old); err != nil {
			return -1, err
		}
		if old.handler == ignored {
			continue
		}
		if err := rtSigaction(sig, &act, nil); err != nil {
			return -1, err
		}
	}
	return p[0], nil
}

// watch passes signals on to the command. One that the terminal sent went to the
// whole foreground process group, the command included: passed on as well it
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
		if code == siKernel && signo != syscall.SIGTERM {
			continue
		}
		// The command may run before we have read that it does.
		for i := 0; i < 50 && !granted.Load(); i++ {
			syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil)
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
	syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	rtSigaction(sig, &sigaction{}, nil)
	setMask(sigUnblock, 1<<(sig-1))
	tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), tid, uintptr(sig))
	exit(128 + int(sig)) // a signal that does not end a process
}

// onTerminal reports whether job control may stop the command.
func onTerminal() bool {
	for fd := uintptr(0); fd <= 2; fd++ {
		var termios [64]byte
		if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, syscall.TCGETS, uintptr(unsafe.Pointer(&termios))); errno == 0 {
			return true
		}
	}
	return false
}

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
