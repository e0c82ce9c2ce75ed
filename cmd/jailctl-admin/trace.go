package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/client"
	"jailctl/internal/runline"
	"jailctl/internal/trace"
	"jailctl/ipc"
)

// statusUnusable is run's exit status for everything before exec.
const statusUnusable = 125

// trace is `jailctl run --trace`: the same run, and what was denied.
func (p *program) trace(line *runline.Line) error {
	events := io.Discard
	if line.StatusFD >= 0 {
		syscall.CloseOnExec(line.StatusFD)
		events = os.NewFile(uintptr(line.StatusFD), "status")
	}
	event := func(fields map[string]any) {
		b, _ := json.Marshal(fields)
		events.Write(append(b, '\n'))
	}
	cannot := func(err error) error {
		refused, status := &client.Refused{}, statusUnusable
		what := map[string]any{"event": "refused"}
		if errors.As(err, &refused) {
			if refused.Killed != 0 {
				die(refused.Killed)
			}
			status = refused.Status()
			if refused.Stage != "" {
				what["stage"] = refused.Stage
			}
		}
		if !errors.As(err, &refused) || refused.Outcome == ipc.Refused {
			err = fmt.Errorf("cannot run: %w", err)
		}
		what["reason"] = err.Error()
		event(what)
		return &trouble{status, err, ""}
	}
	ended, err := p.traced(line, event, func(*trace.Trace) {})
	switch {
	case err != nil:
		return cannot(err)
	case ended.Signaled():
		event(map[string]any{"event": "signaled", "signal": int(ended.Signal())})
		die(ended.Signal())
	}
	event(map[string]any{"event": "exited", "code": ended.ExitStatus()})
	return told(ended.ExitStatus())
}

// traced runs a command and tells what was denied.
func (p *program) traced(line *runline.Line, event func(map[string]any), prepare func(*trace.Trace)) (syscall.WaitStatus, error) {
	question := line.Cmd.Request
	question.Verb = ipc.Explain
	explained, reason, err := p.decideByHelper(question)
	switch {
	case err != nil:
		return 0, errors.Unwrap(err)
	case reason != "":
		return 0, &client.Refused{Outcome: ipc.Refused, Text: reason}
	case !p.root && (int(explained.Uid) != os.Getuid() || int(explained.Gid) != os.Getgid()):
		return 0, trace.ErrOthers
	}
	t, err := trace.New(explained)
	if err != nil {
		return 0, err
	}
	t.Out, t.JSON = p.err, line.JSON
	if line.TraceFile != "" {
		f, err := os.Create(line.TraceFile)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		t.Out = f
	}
	relay := p.relay(func(sig syscall.Signal) { line.Cmd.Signal(sig) }, line.Cmd.Pid)
	t.Seen, t.Stopped = relay.seen, relay.stopped
	t.Granted = func(r ipc.Reply) {
		relay.start()
		if r.Wall > 0 {
			go p.expire(line.Cmd, r.Wall)
		}
	}
	t.Started = func() { event(map[string]any{"event": "started", "pid": line.Cmd.Pid()}) }
	prepare(t)
	ended, err := t.Run(line.Cmd)
	if refused := new(client.Refused); err == nil || errors.As(err, &refused) && refused.Outcome == ipc.ExecFailed {
		t.Summarize(err == nil && ended.Exited() && ended.ExitStatus() == 0)
	}
	return ended, err
}

// expire ends the command when its time is over: asked first, then killed.
func (p *program) expire(cmd *client.Cmd, seconds uint64) {
	time.Sleep(time.Duration(seconds) * time.Second)
	p.say("", "the command's wall_seconds are over: %d", seconds)
	cmd.Signal(syscall.SIGTERM)
	time.Sleep(5 * time.Second)
	cmd.Signal(syscall.SIGKILL)
}

// die ends this process by sig, as the command was ended.
func die(sig syscall.Signal) {
	// The command may have left a core; one of ours would tell nothing.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	sigaction(sig, &action{})
	unix.Kill(os.Getpid(), sig)
	time.Sleep(100 * time.Millisecond)
	os.Exit(128 + int(sig)) // a signal that does not end a process
}

// action is the kernel's struct of rt_sigaction(2). signal.Reset will not do: the Go
// runtime has defaults of its own, and a lot to say.
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

func sigaction(sig unix.Signal, act *action) (old action) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	return old
}

// A relay passes signals on to the command. One that the terminal sent went to the
// whole foreground group, and the command has it already: the tracer saw it there.
type relay struct {
	pid     func() int
	granted chan struct{}
	mu      sync.Mutex
	got     map[unix.Signal]time.Time // from the terminal
}

func (p *program) relay(send func(syscall.Signal), pid func() int) *relay {
	r := &relay{pid: pid, granted: make(chan struct{}), got: map[unix.Signal]time.Time{}}
	come := make(chan os.Signal, 16)
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM} {
		if !signal.Ignored(sig) {
			signal.Notify(come, sig)
		}
	}
	// The command is stopped first, and then we, in stopped.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTSTP)
	go func() {
		for s := range come {
			sig := s.(unix.Signal)
			select {
			case <-r.granted:
			case <-time.After(50 * time.Millisecond):
				die(sig) // nothing runs
			}
			time.Sleep(20 * time.Millisecond)
			r.mu.Lock()
			terminal := time.Since(r.got[sig]) < 100*time.Millisecond
			delete(r.got, sig)
			r.mu.Unlock()
			if !terminal {
				send(sig)
			}
		}
	}()
	return r
}

func (r *relay) start() { close(r.granted) }

func (r *relay) seen(sig unix.Signal) {
	r.mu.Lock()
	r.got[sig] = time.Now()
	r.mu.Unlock()
}

// stopped stops this process as the command was, until a shell continues it, where
// there is a terminal.
func (r *relay) stopped() {
	for fd := range 3 {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			// Without a shell that could continue us this does nothing.
			old := sigaction(unix.SIGTSTP, &action{})
			unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP) // delivered before it returns
			sigaction(unix.SIGTSTP, &old)
			unix.Kill(r.pid(), unix.SIGCONT)
			return
		}
	}
}
