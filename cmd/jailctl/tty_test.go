package main_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
)

// terminal is an interactive bash of alice's on a pseudo-terminal.
type terminal struct {
	t      *testing.T
	master *os.File
	shell  *exec.Cmd
	seen   chan string
	text   string
}

// openPTY makes a pseudo-terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd(master), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd(master)), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave = os.NewFile(peer, "slave")
	if err := slave.Chown(int(Alice.UID), -1); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	tty := onTerminal(t, exec.Command("bash", "--norc", "--noprofile", "-i"))
	tty.expect("READY>")
	return tty
}

// onTerminal runs cmd as alice, as leader of a session on a pseudo-terminal.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, slave := openPTY(t)
	return onSlave(t, As(Alice, cmd), master, slave)
}

// rootsTerminal is newTerminal of root's, where the session keyring has a key.
func rootsTerminal(t *testing.T, key string) *terminal {
	t.Helper()
	master, slave := openPTY(t)
	if err := slave.Chown(0, -1); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Jail+"/bin/probe", "addkey", key, "/bin/bash", "--norc", "--noprofile", "-i")
	cmd.Env, cmd.SysProcAttr = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, &syscall.SysProcAttr{Setsid: true}
	tty := onSlave(t, cmd, master, slave)
	tty.expect("READY>")
	return tty
}

// onSlave is onTerminal with ids and terminal as they are given.
func onSlave(t *testing.T, cmd *exec.Cmd, master, slave *os.File) *terminal {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	cmd.Env = append(cmd.Env, "PS1=READY>", "TERM=dumb", "HISTFILE=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	tty := &terminal{t: t, master: master, shell: cmd, seen: make(chan string, 100)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				close(tty.seen)
				return
			}
			tty.seen <- string(b[:n])
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		master.Close()
	})
	return tty
}

// send types s, as late as a person would: what is typed just as bash shows its
// prompt, or has said which job it continues, is lost or meant for bash.
func (tty *terminal) send(s string) {
	tty.t.Helper()
	time.Sleep(100 * time.Millisecond)
	if _, err := tty.master.WriteString(s); err != nil {
		tty.t.Fatal(err)
	}
}

// expect waits for s and forgets all up to it.
func (tty *terminal) expect(s string) (before string) {
	tty.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if before, after, ok := strings.Cut(tty.text, s); ok {
			tty.text = after
			return before
		}
		select {
		case more, ok := <-tty.seen:
			if !ok {
				tty.t.Fatalf("the terminal closed; no %q in %q", s, tty.text)
			}
			tty.text += more
		case <-deadline:
			tty.t.Fatalf("no %q in %q", s, tty.text)
		}
	}
}

// Ctrl-C reaches the command once; a second one would mean more to many programs.
func TestTerminalInterrupt(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + " run web probe count 2 3 15\n")
	tty.expect("ready")
	tty.send("\x03")
	tty.expect("2\r\n")
	tty.send("\x1c")
	got := tty.expect("3\r\n")
	if strings.Contains(got, "2") {
		t.Errorf("Ctrl-C arrived twice: %q", got)
	}
	tty.send("\x1a") // not handled by the probe: it stops, and the shell is back
	tty.expect("READY>")
	tty.send("kill %1; fg\n")
	tty.expect("15\r\n")
	tty.expect("READY>")
	tty.send(Jailctl + " run web sleep 98500\n")
	waitFor(t, "98500")
	tty.send("\x03")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=130")
}

// Ctrl-Z stops both, fg continues both, as often as one likes.
func TestTerminalStop(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + " run web sh -c 'echo be\"\"gin; cat; echo e\"\"nd'\n")
	tty.expect("begin")
	for range 3 {
		tty.send("\x1a")
		tty.expect("Stopped")
		tty.expect("READY>")
		tty.send("fg\n")
		tty.expect("cat")
		tty.send("hello\n")
		tty.expect("hello\r\nhello\r\n") // the echo, then cat's: it runs again
	}
	tty.send("\x04")
	tty.expect("end")
	tty.expect("READY>")
}

// A program that stops itself, as an editor does on Ctrl-Z, cannot stop jailctl,
// which has another uid: jailctl sees it and stops as well.
func TestTerminalProgramStopsItself(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + " run web sh -c 'kill -STOP $$; echo continued'\n")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("fg\n")
	tty.expect("continued\r\n")
	tty.expect("READY>")
}

func TestTerminalSize(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	resize := func(rows, cols uint16) {
		if err := unix.IoctlSetWinsize(fd(tty.master), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
			t.Fatal(err)
		}
	}
	resize(33, 99)
	tty.send(Jailctl + " run web stty size\n")
	tty.expect("33 99")
	tty.expect("READY>")
	tty.send(Jailctl + " run web probe count 28 15\n")
	tty.expect("ready")
	resize(44, 111)
	tty.expect("28\r\n")
	tty.send("\x03")
	tty.expect("READY>")
}

// A shell in the jail has job control of its own.
func TestTerminalShell(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + " run -e TERM=dumb web sh -i\n")
	tty.expect("$ ")
	tty.send("sleep 98400\n")
	waitFor(t, "98400")
	tty.send("\x03")
	tty.send("echo in=$((1+1))\n")
	tty.expect("in=2")
	tty.send("exit 9\n")
	tty.expect("READY>")
	tty.send("echo out=$?\n")
	tty.expect("out=9")
}

// A shell in the jail that stops itself is continued by fg with the terminal that
// it had, and nothing is left of it when the terminal goes.
func TestTerminalShellStopsItself(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + " run -e TERM=dumb web sh -i\n")
	tty.expect("$ ")
	for range 3 {
		tty.send("kill -STOP $$\n")
		tty.expect("Stopped")
		tty.expect("READY>")
		tty.send("fg\n")
		tty.expect("sh -i")
		tty.expect("$ ")
		tty.send("echo here=$((40+2))\n")
		tty.expect("here=42")
	}
	tty.send("kill -STOP $$\n")
	tty.expect("Stopped")
	tty.shell.Process.Kill() // the session leader: the kernel hangs up
	Gone(t, Prefix+"/bin/jailctl")
}

// A caller with a terminal cannot park helpers: the signals that stop a process come
// from the kernel, which does not ask for its uid. This one is given no request and
// ends, with status 125, when its patience does.
func TestA34StoppedByTheTerminal(t *testing.T) {
	tty := newTerminal(t)
	tty.send(Jail + "/bin/probe helper " + Helper + "\n")
	tty.expect("started")
	for range 20 {
		tty.send("\x1a")
		time.Sleep(50 * time.Millisecond)
	}
	tty.expect("helper=32000\r\n") // 125 << 8
}

// waitFor waits until a process with mark in its command line runs as daemon.
func waitFor(t *testing.T, mark string) {
	t.Helper()
	for range 200 {
		if exec.Command("pgrep", "-u", "daemon", "-f", mark).Run() == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no process %q", mark)
}
