// Package learn runs a command outside of a jail under ptrace(2) and says what a jail
// must contain, and permit, so that the same command works in it.
//
// What it says holds for this one run: what another one needs more is not in it. It
// has no privilege, and nothing that it writes is in force until root has read it.
package learn

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"jailctl/internal/ptrace"
)

// A Command is what is run, in the working directory and with the standard streams of
// the caller.
type Command struct {
	Path string // of the program, with a slash
	Argv []string
	Env  []string
	// Setsid: it leads a session, without a terminal.
	Setsid bool
	// Started is called with the number of the process; Stopped when a terminal has
	// stopped it; Seen when the terminal sent it a signal. Each may be nil.
	Started func(pid int)
	Stopped func()
	Seen    func(unix.Signal)
	// Stay is asked again and again when the command has ended and has left something
	// running: whether to go on learning from that.
	Stay func() bool
}

// Run runs the command to its end and notes what it does.
func (r *Record) Run(cmd Command) (ended syscall.WaitStatus, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// ptrace(2) is for the one thread that seized.
		runtime.LockOSThread()
		ended, err = r.run(cmd)
	}()
	<-done
	return ended, err
}

func (r *Record) run(cmd Command) (syscall.WaitStatus, error) {
	pid, err := stopped(cmd)
	if err != nil {
		return 0, err
	}
	t := &ptrace.Tracer{
		PID: pid, Entered: r.entered, Left: r.left, Started: r.started, Executed: r.executed,
		Stopped: cmd.Stopped, Seen: cmd.Seen, Stay: cmd.Stay,
	}
	if err := t.Seize(); err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Wait4(pid, nil, 0, nil)
		if err == unix.EPERM {
			err = fmt.Errorf("%q cannot be read by you, and the kernel traces only what can", cmd.Path)
		}
		return 0, err
	}
	if cmd.Started != nil {
		cmd.Started(pid)
	}
	r.begin(pid, cmd)
	status, err := t.Follow()
	return syscall.WaitStatus(status), err
}

// stopped starts the command and leaves it stopped before its first instruction. It
// cannot be begun with PTRACE_SEIZE, which takes hold of running processes, nor can
// it stay with PTRACE_TRACEME, under which stops by a terminal are lost: so the one,
// which stops at execve, hands over to the other.
func stopped(cmd Command) (pid int, err error) {
	pid, err = syscall.ForkExec(cmd.Path, cmd.Argv, &syscall.ProcAttr{
		Env: cmd.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true, Setsid: cmd.Setsid},
	})
	if err == syscall.EPERM {
		err = errors.New("the kernel does not let you trace (kernel.yama.ptrace_scope), or execute it")
	}
	if err != nil {
		return 0, err
	}
	for {
		var ws syscall.WaitStatus
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case !ws.Stopped():
			return 0, fmt.Errorf("it ended before it began: %v", ws)
		}
		// Not PtraceDetach, which has no signal.
		if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, syscall.PTRACE_DETACH, uintptr(pid), 0, uintptr(syscall.SIGSTOP), 0, 0); errno != 0 {
			return 0, errno
		}
		return pid, nil
	}
}
