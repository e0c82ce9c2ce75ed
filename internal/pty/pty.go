// Package pty is `jailctl run --tty=pty`: the command gets a terminal of its own. So
// does that of root's `jailctl learn`.
//
//	the caller's shell
//	  └─ jailctl-pty      Run: the caller's terminal, in raw mode, and the pty's master
//	       └─ jailctl-monitor    Monitor: leader of a new session on the pty
//	            └─ jailctl run --tty=share   in the pty's foreground, as if typed there
//	                 └─ the command
//
// All of it is the caller's. Nothing of it changes the way from jailctl to the helper.
package pty

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/paths"
)

// Names under which jailctl-admin is Run or Monitor, not jailctl's other verbs, and
// under which root's has left behind what another user's command must not have.
const (
	RunName     = "jailctl-pty"
	MonitorName = "jailctl-monitor"
	ApartName   = "jailctl-apart"
)

// holds is more than a pty does.
const holds = 256 << 10

// outer is Run at work.
type outer struct {
	terminal int  // the caller's
	keys     bool // it is standard input too: what is typed there goes to the command
	all      bool // it is standard output too
	out      int  // the descriptor through which it is written to
	gone     bool // it has hung up
	master   int
	socket   int // to the monitor; -1: it has been let go
	monitor  int // its pid

	mu       sync.Mutex // of the terminal's modes, and of reading from it
	attached bool       // it is in raw mode
	held     bool       // it is not read for now
	wake     *sync.Cond // of attached and held
	modes    modes

	writing sync.Mutex // of copying from master to out
}

// Run runs `jailctl` with args on a pty that stands in for those of the descriptors 0
// to 2 that are terminals; one is. It returns the exit status, or dies of the signal
// that ended jailctl.
func Run(args []string) int {
	runtime.LockOSThread() // raise, in stop, means this thread
	o := &outer{terminal: firstTerminal(0, 1, 2), keys: isTerminal(0), all: isTerminal(1), out: firstTerminal(1, 2, 0)}
	o.wake = sync.NewCond(&o.mu)
	if o.terminal < 0 {
		say("cannot make a terminal for the command: the caller's has hung up")
		return unusable
	}
	// Before the size is read, so that no change of it is missed, and before a child
	// can end: the caller may ignore SIGCHLD.
	signals := make(chan os.Signal, 64)
	notify(signals, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGCONT)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	if what, err := o.start(args); err != nil {
		say("cannot " + what + ": " + err.Error())
		return unusable
	}
	o.attach()
	heard := hearing{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
	hungUp := make(chan struct{})
	go o.output()
	go heard.listen(o.socket)
	if o.keys {
		go o.input(hungUp)
	}
	for {
		var look <-chan time.Time
		if o.keys && !o.attached && !o.gone && o.socket >= 0 {
			// No signal tells that a shell's fg gave the terminal to a job that runs.
			look = time.After(100 * time.Millisecond)
		}
		select {
		case <-children:
			var status syscall.WaitStatus
			if pid, _ := syscall.Wait4(o.monitor, &status, syscall.WNOHANG, nil); pid == o.monitor {
				o.end(signals) // if it was killed
				return finish(status)
			}
		case <-heard.stopped:
			o.stop(heard.continued)
		case <-heard.ended:
			o.end(signals)
		case <-look:
			o.attach()
		case <-hungUp:
			hungUp = nil
			o.hangUp()
		case sig := <-signals:
			o.signal(sig.(syscall.Signal))
		}
	}
}

// start makes the pty and starts the monitor on it. What fails is named.
func (o *outer) start(args []string) (what string, err error) {
	o.master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "open /dev/ptmx", err
	}
	if err := unix.IoctlSetPointerInt(o.master, unix.TIOCSPTLCK, 0); err != nil {
		return "unlock a pseudo-terminal", err
	}
	// By name it might be another one, of another mount of devpts.
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(o.master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return "open a pseudo-terminal", errno
	}
	defer unix.Close(int(slave))
	if err := o.likeCallers(int(slave)); err != nil {
		return "set up a pseudo-terminal", err
	}
	o.resize()

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "make a socket pair", err
	}
	o.socket = pair[0]
	defer unix.Close(pair[1])
	// The monitor gets these two under numbers that are free here: the caller's own
	// descriptors, which --status-fd may name, keep theirs.
	var theirs [2]int
	for i, fd := range []int{pair[1], o.terminal} {
		theirs[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3)
		if err != nil {
			return "duplicate a descriptor", err
		}
		defer unix.Close(theirs[i])
	}
	stdio := []uintptr{0, 1, 2}
	for fd := range stdio {
		if isTerminal(fd) {
			stdio[fd] = slave
		}
	}
	o.monitor, err = syscall.ForkExec(paths.Libexec+"/jailctl-admin",
		append([]string{MonitorName, strconv.Itoa(theirs[0]), strconv.Itoa(theirs[1])}, args...), &syscall.ProcAttr{
			Env: syscall.Environ(), Files: stdio,
			Sys: &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: o.terminal},
		})
	return "start " + paths.Libexec + "/jailctl-admin", err
}

// likeCallers gives the pty the modes of the caller's terminal. In the background that
// has what the shell needs to edit a line, and the pty keeps the kernel's.
func (o *outer) likeCallers(slave int) error {
	from := slave
	if foreground(o.terminal) {
		from = o.terminal
	}
	t, err := unix.IoctlGetTermios(from, unix.TCGETS)
	if err != nil {
		return err
	}
	if !o.keys || !o.all {
		// The caller's terminal goes on making its newlines itself.
		t.Oflag &^= unix.OPOST
	}
	return unix.IoctlSetTermios(slave, unix.TCSETS, t)
}

// resize gives the pty the size of the caller's terminal.
func (o *outer) resize() {
	if size, err := unix.IoctlGetWinsize(o.terminal, unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(o.master, unix.TIOCSWINSZ, size)
	}
}

// attach takes the caller's terminal if it is ours to take.
func (o *outer) attach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resize()
	if !o.keys || o.socket < 0 {
		return
	}
	now, err := unix.IoctlGetTermios(o.terminal, unix.TCGETS)
	if err != nil {
		o.hangUp()
	}
	if err != nil || !foreground(o.terminal) {
		o.release()
		return
	}
	// After a stop they may be others than before. They are still ours where we were
	// stopped before we could give them back.
	if *now != o.modes.raw {
		o.modes = modes{own: *now, raw: raw(*now, o.all)}
	}
	write(o.socket, o.modes.bytes()) // first, so that no kill comes between
	unix.IoctlSetTermios(o.terminal, unix.TCSETS, &o.modes.raw)
	if now, err := unix.IoctlGetTermios(o.terminal, unix.TCGETS); err == nil && *now != o.modes.raw {
		o.modes.raw = *now // a driver need not do all that it is asked
		write(o.socket, o.modes.bytes())
	}
	o.attached = true
	o.wake.Broadcast()
}

// hangUp tells jailctl that the terminal is gone; it knows whether the caller ignores
// that.
func (o *outer) hangUp() {
	if !o.gone {
		o.gone = true
		o.pass(unix.SIGHUP)
	}
}

// detach gives the terminal back.
func (o *outer) detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release()
}

func (o *outer) release() {
	if o.attached {
		o.attached = false
		o.modes.giveBack(o.terminal, foreground(o.terminal))
	}
}

// input passes what is typed on to the pty.
func (o *outer) input(hungUp chan<- struct{}) {
	b := make([]byte, 4096)
	for {
		o.mu.Lock()
		for !o.attached || o.held {
			o.wake.Wait()
		}
		o.mu.Unlock()
		_, gone := readable(o.terminal, -1)
		// The lock: in the background it is the shell that reads, and the kernel
		// would stop us.
		n := 0
		var err error
		o.mu.Lock()
		ours := o.attached && !o.held && foreground(o.terminal)
		if ours {
			n, err = unix.Read(o.terminal, b)
		}
		o.mu.Unlock()
		if n > 0 {
			write(o.master, b[:n])
			continue
		}
		if gone || err == unix.EIO {
			close(hungUp)
			return
		}
		if !ours {
			nap(10) // until it is noticed
		}
	}
}

// output passes what the pty holds on to the terminal until nobody has it open.
func (o *outer) output() {
	for {
		readable(o.master, -1)
		o.writing.Lock()
		n := o.copyOut()
		o.writing.Unlock()
		if n < 0 {
			return
		}
	}
}

// copyOut copies something if there is something; -1: there will be nothing more.
func (o *outer) copyOut() int {
	if ready, _ := readable(o.master, 0); !ready {
		return 0
	}
	b := make([]byte, 32<<10)
	n, err := unix.Read(o.master, b)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return 0
	case err != nil || n == 0:
		return -1
	}
	write(o.out, b[:n]) // a terminal that is gone takes nothing; the command goes on
	return n
}

// flush copies what the pty holds by now.
func (o *outer) flush() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.writing.Lock()
		defer o.writing.Unlock()
		// What processes that are left behind write meanwhile has no end.
		for all := 0; all < holds; {
			n := o.copyOut()
			if n <= 0 {
				return
			}
			all += n
		}
	}()
	return done
}

// hearing is what the monitor says.
type hearing struct{ stopped, continued, ended chan struct{} }

func (heard hearing) listen(socket int) {
	b := make([]byte, 1)
	for {
		n, err := unix.Read(socket, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		about := heard.stopped
		switch b[0] {
		case continued:
			about = heard.continued
			select {
			case <-heard.stopped: // that is over
			default:
			}
		case ended:
			about = heard.ended
		}
		select {
		case about <- struct{}{}:
		default:
		}
	}
}

// signal does what a signal to us asks for. Those that keys make go to the pty's
// foreground, as from its own keys: we get them where the terminal is not in raw
// mode, since standard input is none, or by kill(1).
func (o *outer) signal(sig syscall.Signal) {
	switch sig {
	case unix.SIGWINCH:
		o.resize()
	case unix.SIGCONT:
		o.attach()
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP:
		unix.IoctlSetInt(o.master, unix.TIOCSIG, int(sig))
	default:
		o.pass(sig)
	}
}

// pass has the monitor send jailctl a signal.
func (o *outer) pass(sig syscall.Signal) { write(o.socket, []byte{byte(sig)}) }

// stop stops us, because the command is stopped, and the other programs of our job,
// as Ctrl-Z would, and continues the command when a shell's fg or bg continues us.
// Where no shell is left to do that, the signal does nothing, and neither has what
// stopped the command.
func (o *outer) stop(continued <-chan struct{}) {
	// A command that handles Ctrl-Z, as an editor does, may be about to leave the
	// screen in order.
	nap(20)
	select {
	case <-o.flush():
	case <-time.After(time.Second):
	}
	o.detach()
	// The others first, and us once: a second one would stop us when we are continued.
	was := sigaction(unix.SIGTSTP, action{1})
	unix.Kill(0, unix.SIGTSTP)
	if was != (action{1}) {
		sigaction(unix.SIGTSTP, action{}) // signal.Reset would leave a handler that does nothing
		raise(unix.SIGTSTP)
		sigaction(unix.SIGTSTP, was)
	}
	o.hold(true)
	o.attach()
	o.pass(unix.SIGCONT)
	select {
	case <-continued:
	case <-time.After(time.Second):
	}
	o.hold(false)
}

// hold keeps keys back: a Ctrl-Z is lost on those that are stopped already.
func (o *outer) hold(keys bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = keys
	o.wake.Broadcast()
}

// end has all that the command wrote on the terminal, gives that back, and then lets
// the monitor go, which would have to do it for us until then.
func (o *outer) end(signals <-chan os.Signal) {
	if o.socket < 0 {
		return
	}
	written := o.flush()
	for written != nil {
		select {
		case <-written:
			written = nil
		case sig := <-signals:
			switch sig {
			case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
				written = nil // somebody has enough of a terminal that takes nothing
			}
		}
	}
	o.detach()
	unix.Shutdown(o.socket, unix.SHUT_RDWR) // who listens to it still holds it
	o.socket = -1
}

func nap(milliseconds int) { time.Sleep(time.Duration(milliseconds) * time.Millisecond) }
