package pty

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/paths"
)

// Run writes modes to the monitor, or one byte: the number of a signal for jailctl.
// The monitor writes one of these.
const (
	stopped   = 's' // jailctl and the command are stopped
	continued = 'c' // SIGCONT was sent to both
	ended     = 'e'
)

const sizeModes = int(unsafe.Sizeof(modes{}))

// Monitor is the leader of the pty's session. It runs `jailctl` with args, ends as
// that ends, and outlives Run to put the caller's terminal right. args begin with
// two descriptors: the socket to Run, and the caller's terminal.
func Monitor(args []string) int {
	runtime.LockOSThread() // PDEATHSIG goes by the thread
	if len(args) < 2 {
		return unusable
	}
	socket, err := strconv.Atoi(args[0])
	terminal, err2 := strconv.Atoi(args[1])
	if err != nil || err2 != nil {
		return unusable
	}
	unix.CloseOnExec(socket)
	unix.CloseOnExec(terminal)

	// The kernel's when Run, which had the master, is gone. It is not for jailctl: killed
	// while it passes a signal on, it may leave the command behind.
	notify(make(chan os.Signal, 1), unix.SIGHUP)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	signals, gone := make(chan syscall.Signal), make(chan modes)
	go listen(socket, signals, gone)

	program, name := paths.Bin+"/jailctl", "jailctl"
	if len(args) > 2 && args[2] != "run" { // which is first always
		program, name = paths.Libexec+"/jailctl-admin", ApartName
	}
	pid, err := syscall.ForkExec(program, append([]string{name}, args[2:]...), &syscall.ProcAttr{
		Env:   syscall.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{
			// A group of its own, since the terminal's stop signals do nothing to a
			// group in which nobody's parent is of another group of the session.
			Setpgid: true, Foreground: true, Ctty: firstTerminal(0, 1, 2),
			// Whoever kills the monitor has not got rid of who could stop the command.
			Pdeathsig: unix.SIGKILL,
		},
	})
	if err != nil {
		say("cannot start " + program + ": " + err.Error())
		return unusable
	}
	var status syscall.WaitStatus
	for running := true; ; {
		select {
		case <-children:
			for running {
				got, err := syscall.Wait4(pid, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
				if err == unix.EINTR {
					continue
				}
				if got != pid {
					break
				}
				if status.Stopped() {
					write(socket, []byte{stopped})
					continue
				}
				running = false
				write(socket, []byte{ended})
			}
		case sig := <-signals:
			switch {
			case !running:
			case sig == unix.SIGCONT:
				unix.Kill(-pid, sig)
				write(socket, []byte{continued})
			default:
				unix.Kill(pid, sig)
			}
		case last := <-gone:
			// Run has given the terminal back, or was killed and cannot.
			last.giveBack(terminal, false)
			if running {
				unix.Kill(pid, unix.SIGKILL)
				return unusable
			}
			return finish(status)
		}
	}
}

// listen reads what Run writes; at its end it tells the modes that it wrote last.
func listen(socket int, signals chan<- syscall.Signal, gone chan<- modes) {
	var last modes
	b := make([]byte, sizeModes)
	for {
		n, err := unix.Read(socket, b)
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			gone <- last
			return
		case n == sizeModes:
			copy(last.bytes(), b)
		default:
			signals <- syscall.Signal(b[0])
		}
	}
}

// notify is signal.Notify, but a signal that the caller ignores, as nohup(1) has it,
// stays ignored, here and in what we start.
func notify(c chan<- os.Signal, signals ...os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}

// finish ends as a child has ended.
func finish(status syscall.WaitStatus) int {
	if status.Signaled() {
		die(status.Signal())
	}
	return status.ExitStatus()
}
