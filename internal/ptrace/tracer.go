// Package ptrace follows a command and all that it starts by ptrace(2), and knows
// which files a system call uses, and how.
//
// It has no part in confining, and no privilege: the kernel lets a process trace
// what has its own ids, and root everything.
package ptrace

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/seccomp"
)

// A Tracer follows a command and all that it starts. Its methods are for the one
// thread that seized it, and call the functions there, of which Stopped and Seen may
// be nil.
type Tracer struct {
	PID     int
	Entered func(tid int, c seccomp.Call) // before a call
	// Left is after one: its result, or its error.
	Left func(tid int, c seccomp.Call, result int64, errno unix.Errno)
	// Started is a process or thread that another has made, before its first
	// instruction. Parent is 0 where it stops before the one that made it. Executed is
	// another program in a process: the calling thread, whose number was former, goes on
	// as the process's only one.
	Started  func(parent, child int)
	Executed func(pid, former int)
	Stopped  func()                // the command's group is stopped
	Seen     func(sig unix.Signal) // the kernel, so the terminal, sent it to the command
	// Stay is asked while something runs that the command left behind when it ended:
	// whether to follow it to its end. Nil: it goes on untraced, as it would without us.
	Stay func() bool

	tasks map[int]*task
	gone  map[int]bool // those that ended before they were announced
}

// A task is a traced thread.
type task struct {
	call   seccomp.Call
	inside bool
	// early: it stopped before the stop of its maker that announces it.
	early bool
}

const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// Seize takes hold of the command, which stops before its first instruction. A
// command that ended meanwhile, killed, is no error.
func (t *Tracer) Seize() error {
	t.gone = map[int]bool{}
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, t.PID, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("cannot wait for the command: %w", err)
		}
	}
	const cldStopped = 5
	if info.Code != cldStopped {
		return nil
	}
	if err := ptrace(unix.PTRACE_SEIZE, t.PID, 0, options); err != nil {
		return err
	}
	t.tasks = map[int]*task{t.PID: {}}
	return nil
}

// Follow lets the command run and returns how it ended.
func (t *Tracer) Follow() (status unix.WaitStatus, err error) {
	// The stop at exec ends here; its SIGCONT is ours, and not delivered.
	ours := len(t.tasks) > 0
	if ours {
		if err := unix.Kill(t.PID, unix.SIGCONT); err != nil {
			return 0, err
		}
	}
	for ended := false; ; {
		wait := unix.WALL
		if ended {
			if len(t.tasks) == 0 || t.Stay == nil || !t.Stay() {
				t.release()
				return status, nil
			}
			wait |= unix.WNOHANG
		}
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, wait, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD && ended:
			return status, nil
		case err != nil:
			return 0, fmt.Errorf("cannot wait for the command: %w", err)
		case tid == 0:
			time.Sleep(2 * time.Millisecond)
			continue
		case ws.Exited() || ws.Signaled():
			if at := t.tasks[tid]; at == nil || at.early {
				t.gone[tid] = true
			}
			delete(t.tasks, tid)
			if tid == t.PID {
				status, ended = ws, true
			}
			continue
		case !ws.Stopped():
			continue
		}
		at := t.tasks[tid]
		if at == nil {
			at = &task{early: true}
			t.tasks[tid] = at
			t.started(0, tid)
		}
		sig, event := ws.StopSignal(), int(ws)>>16
		deliver := unix.Signal(0)
		switch {
		case sig == unix.SIGTRAP|0x80:
			t.syscall(tid, at)
		case event == unix.PTRACE_EVENT_EXEC:
			// The other threads are gone, and this one may have been another's number.
			at.inside = false
			former := message(tid)
			if former != tid {
				delete(t.tasks, former)
			}
			if t.Executed != nil {
				t.Executed(tid, former)
			}
		case event == unix.PTRACE_EVENT_FORK || event == unix.PTRACE_EVENT_VFORK || event == unix.PTRACE_EVENT_CLONE:
			t.announce(tid, message(tid))
		case event == unix.PTRACE_EVENT_STOP && sig != unix.SIGTRAP && !(ours && tid == t.PID):
			// A group stop: it stays stopped, and is told to us when it ends.
			ptrace(unix.PTRACE_LISTEN, tid, 0, 0)
			if tid == t.PID && t.Stopped != nil {
				t.Stopped()
			}
			continue
		case event != 0:
		case sig == unix.SIGCONT && ours && tid == t.PID:
			ours = false
		default:
			deliver = sig
			if tid == t.PID {
				t.note(sig)
			}
		}
		// ESRCH: killed meanwhile.
		if err := ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(deliver)); err != nil && err != unix.ESRCH {
			return 0, fmt.Errorf("cannot go on with process %d: %w", tid, err)
		}
	}
}

// announce is a new thread. It is followed from here on, also where its first stop
// comes after the end of the command.
func (t *Tracer) announce(parent, child int) {
	switch {
	case child == 0:
		return
	case t.gone[child]:
		delete(t.gone, child)
		return
	case t.tasks[child] == nil:
		t.tasks[child] = &task{}
		t.started(parent, child)
	}
	t.tasks[child].early = false
}

func (t *Tracer) started(parent, child int) {
	if t.Started != nil {
		t.Started(parent, child)
	}
}

// message is what the kernel adds to an event: the number of a thread.
func message(tid int) int {
	n, err := unix.PtraceGetEventMsg(tid)
	if err != nil {
		return 0
	}
	return int(n)
}

// note tells of a signal that the kernel made.
func (t *Tracer) note(sig unix.Signal) {
	const siKernel = 0x80
	var info unix.Siginfo
	if t.Seen != nil && ptrace(unix.PTRACE_GETSIGINFO, t.PID, 0, uintptr(unsafe.Pointer(&info))) == nil && info.Code == siKernel {
		t.Seen(sig)
	}
}

// release lets go of all that still runs, each as it stops, in whatever order: what has
// called vfork(2) does not stop before its child has been let go.
func (t *Tracer) release() {
	for tid := range t.tasks {
		if ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) != nil {
			delete(t.tasks, tid)
		}
	}
	for let := map[int]bool{}; len(t.tasks) > 0; {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return
		}
		if ws.Stopped() {
			deliver := uintptr(0)
			switch sig, event := ws.StopSignal(), int(ws)>>16; {
			case event == unix.PTRACE_EVENT_FORK || event == unix.PTRACE_EVENT_VFORK || event == unix.PTRACE_EVENT_CLONE:
				// The new one is traced, too, and stops by itself.
				if child := message(tid); child != 0 && !let[child] {
					t.tasks[child] = &task{}
				}
			case event == 0 && sig != unix.SIGTRAP|0x80:
				deliver = uintptr(sig)
			}
			ptrace(unix.PTRACE_DETACH, tid, 0, deliver)
		}
		let[tid] = true
		delete(t.tasks, tid)
	}
}

// syscallInfo is struct ptrace_syscall_info: the head, then what its kind has.
type syscallInfo struct {
	op, _, _, _ uint8
	arch        uint32
	ip, sp      uint64
	// at entry: number and arguments; at exit: the result, and whether it is an error
	data [8]uint64
}

// syscall looks at a stop at the beginning or end of a call.
func (t *Tracer) syscall(tid int, at *task) {
	var info syscallInfo
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || n < 24 {
		return
	}
	switch info.op {
	case unix.PTRACE_SYSCALL_INFO_ENTRY:
		at.inside = true
		at.call = seccomp.Call{Arch: info.arch, Nr: uint32(info.data[0]), Args: [6]uint64(info.data[1:7])}
		t.Entered(tid, at.call)
	case unix.PTRACE_SYSCALL_INFO_EXIT:
		if at.inside {
			result, errno := int64(info.data[0]), unix.Errno(0)
			if uint8(info.data[1]) != 0 {
				result, errno = -1, unix.Errno(-result)
			}
			t.Left(tid, at.call, result, errno)
		}
		at.inside = false
	}
}

//go:uintptrescapes
func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// text reads a string of the tracee's, at most a path's length.
func text(tid int, address uint64) (string, error) {
	b := make([]byte, unix.PathMax)
	n := 0
	for n < len(b) {
		// Not over a page's end: what is behind may not be there.
		part := min(len(b)-n, 4096-int((address+uint64(n))&4095))
		got, err := Read(tid, address+uint64(n), b[n:n+part])
		if err != nil {
			return "", err
		}
		for i := range got {
			if b[n+i] == 0 {
				return string(b[:n+i]), nil
			}
		}
		n += got
	}
	return "", errors.New("no end of the string")
}

// Read copies memory of a tracee's.
func Read(tid int, address uint64, b []byte) (int, error) {
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(b)}}, 0)
	if err == nil && n == 0 {
		err = syscall.EFAULT
	}
	return n, err
}
