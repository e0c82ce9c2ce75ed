package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
)

// fd is f's descriptor; File.Fd would make reads of it wait, and Close wait for these.
func fd(f *os.File) (number int) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { number = int(fd) })
	}
	return number
}

// modes are the terminal's.
func (tty *terminal) modes() unix.Termios {
	tty.t.Helper()
	m, err := unix.IoctlGetTermios(fd(tty.master), unix.TCGETS)
	if err != nil {
		tty.t.Fatal(err)
	}
	return *m
}

// odd gives the terminal modes that no default has, and returns them.
func (tty *terminal) odd() unix.Termios {
	tty.t.Helper()
	m := tty.modes()
	m.Cc[unix.VERASE], m.Cc[unix.VMIN], m.Cc[unix.VTIME] = '%', 3, 7
	m.Iflag |= unix.IUTF8 | unix.IXANY
	m.Lflag &^= unix.ECHOCTL
	if err := unix.IoctlSetTermios(fd(tty.master), unix.TCSETS, &m); err != nil {
		tty.t.Fatal(err)
	}
	return tty.modes()
}

func (tty *terminal) resize(rows, cols uint16) {
	tty.t.Helper()
	if err := unix.IoctlSetWinsize(fd(tty.master), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		tty.t.Fatal(err)
	}
}

// block stops all output on the terminal, as Ctrl-S does, until go is called.
func (tty *terminal) block() (goOn func()) {
	tty.t.Helper()
	n, err := unix.IoctlGetInt(fd(tty.master), unix.TIOCGPTN)
	if err != nil {
		tty.t.Fatal(err)
	}
	slave, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		tty.t.Fatal(err)
	}
	flow := func(what int) {
		if err := unix.IoctlSetInt(slave, unix.TCXONC, what); err != nil {
			tty.t.Fatal(err)
		}
	}
	flow(unix.TCOOFF)
	return func() {
		flow(unix.TCOON)
		unix.Close(slave)
	}
}

// becomes waits until the terminal has those modes.
func (tty *terminal) becomes(want unix.Termios, when string) {
	tty.t.Helper()
	for range 200 {
		if tty.modes() == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tty.t.Errorf("%s: the terminal's modes are\n%+v, want\n%+v", when, tty.modes(), want)
}

// script runs commands in a shell without job control, on a terminal of odd modes:
// it gives no modes back by itself, as an interactive shell does.
func script(t *testing.T, commands string) (tty *terminal, own unix.Termios) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `read go; eval "$RUN"; echo after=$?; read go`)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "RUN=" + commands}
	tty = onTerminal(t, cmd)
	own = tty.odd()
	tty.send("go\n")
	tty.expect("go\r\n")
	return tty, own
}

// processes are those whose executable ends in name and whose arguments have mark.
func processes(name, mark string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		args, _ := os.ReadFile(f)
		first, _, _ := bytes.Cut(args, []byte{0})
		if filepath.Base(string(first)) == name && bytes.Contains(args, []byte(mark)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// process is the one of that name.
func process(t *testing.T, name, mark string) int {
	t.Helper()
	for range 200 {
		if pids := processes(name, mark); len(pids) == 1 {
			return pids[0]
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d processes %s with %s, want one", len(processes(name, mark)), name, mark)
	return 0
}

const onPTY = " run --tty=pty "

// The pty has the size and the modes of the terminal from the first moment on, and
// follows its size.
func TestPTYSize(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.resize(33, 99)
	tty.send("stty erase %\n")
	tty.expect("READY>")
	tty.send(Jailctl + onPTY + "web sh -c 'stty size; stty -a'\n")
	tty.expect("33 99\r\n")
	if all := tty.expect("READY>"); !strings.Contains(all, "erase = %;") || !strings.Contains(all, " icanon") {
		t.Errorf("the pty's modes: %s", all)
	}
	tty.send(Jailctl + onPTY + "web sh -c 'probe count 28 15; stty size'\n")
	tty.expect("ready")
	tty.resize(44, 111)
	tty.expect("28\r\n")
	tty.send("\x03")
	tty.expect("READY>")
	tty.send(Jailctl + onPTY + "web sh -c 'echo be\"\"gin; until stty size | grep 55; do sleep 0.1; done'\n")
	tty.expect("begin")
	tty.resize(55, 122)
	tty.expect("55 122\r\n")
	tty.expect("READY>")
}

// Nothing that the command has is the caller's terminal: neither a descriptor nor
// the controlling terminal, which TIOCSTI needs. With --tty=share both are.
func TestPTYIsAnother(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	var outside unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/0", tty.shell.Process.Pid), &outside); err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"share", "pty"} {
		mark := strconv.Itoa(98300 + i)
		tty.send(Jailctl + " run --tty=" + kind + " web sleep " + mark + "\n")
		waitFor(t, mark)
		pid := process(t, "sleep", mark)
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil || len(files) != 3 {
			t.Fatalf("descriptors %v, %v", files, err)
		}
		for _, f := range files {
			var inside unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()), &inside); err != nil {
				t.Fatal(err)
			}
			if same := inside.Rdev == outside.Rdev; same != (kind == "share") {
				t.Errorf("--tty=%s: descriptor %s is the caller's terminal: %v", kind, f.Name(), same)
			}
		}
		control := func(pid int) string {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(b), ") ")
			return strings.Fields(rest)[4]
		}
		if same := control(pid) == control(tty.shell.Process.Pid); same != (kind == "share") || control(pid) == "0" {
			t.Errorf("--tty=%s: the controlling terminal is the caller's: %v", kind, same)
		}
		tty.send("\x03")
		tty.expect("READY>")
	}
}

// What a command types into its own terminal, nobody reads.
func TestPTYTypedAhead(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web sleep 98310\n")
	waitFor(t, "98310")
	tty.send("echo typed$((1+1))\n\x03")
	tty.expect("READY>")
	tty.send("echo end=$?\n")
	if got := tty.expect("end=130"); strings.Contains(got, "typed2") {
		t.Errorf("the shell ran what was typed for the command: %q", got)
	}
}

func TestPTYInterrupt(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web probe count 2 3 15\n")
	tty.expect("ready")
	tty.send("\x03")
	tty.expect("2\r\n")
	tty.send("\x1c")
	if got := tty.expect("3\r\n"); strings.Contains(got, "2") {
		t.Errorf("Ctrl-C arrived twice: %q", got)
	}
	tty.send("\x1a")
	tty.expect("READY>")
	tty.send("kill %1; fg\n")
	tty.expect("15\r\n")
	tty.expect("READY>")
	tty.send(Jailctl + onPTY + "web sleep 98320\n")
	waitFor(t, "98320")
	tty.send("\x03")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=130")
}

// Ctrl-Z gives the shell back with its terminal as it was, fg goes on, bg does no harm.
func TestPTYStop(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	state := func() string {
		tty.send(`stty -g; echo e""nd` + "\n")
		modes := tty.expect("end\r\n")
		tty.expect("READY>")
		return modes
	}
	own := state()
	tty.send(Jailctl + onPTY + "web sh -c 'echo be\"\"gin; cat; echo o\"\"ver'\n")
	tty.expect("begin")
	stop := func() {
		t.Helper()
		tty.send("\x1a")
		tty.expect("Stopped")
		tty.expect("READY>")
		want(t, "modes after Ctrl-Z", state(), own)
	}
	hello := func() {
		t.Helper()
		tty.expect("cat")
		tty.send("hello\n")
		tty.expect("hello\r\nhello\r\n") // the pty's echo, then cat's
	}
	for range 3 {
		stop()
		tty.resize(40, 90)
		tty.send("fg\n")
		hello()
	}
	stop()
	tty.send("bg\n")
	tty.expect("READY>")
	time.Sleep(300 * time.Millisecond)
	tty.send("echo li\"\"ne\n") // the shell's, not the command's
	tty.expect("line\r\n")
	tty.expect("READY>")
	want(t, "modes with the command in the background", state(), own)
	tty.send("fg\n") // to a job that runs: no signal tells it
	tty.expect("cat")
	time.Sleep(300 * time.Millisecond)
	tty.send("hello\n")
	tty.expect("hello\r\nhello\r\n")
	stop()
	tty.send("kill -STOP %1; kill -CONT %1; kill -KILL %1\n")
	tty.expect("READY>")
	Gone(t, "begin")
}

// Not every shell puts the modes right by itself.
func TestPTYStopModes(t *testing.T) {
	Apply(t, "web", everyone)
	tty := onTerminal(t, exec.Command("dash", "-i"))
	tty.expect("READY>")
	own := tty.odd()
	tty.send(Jailctl + onPTY + "web sh -c 'echo be\"\"gin; cat'\n")
	for range 3 {
		tty.expect("begin")
		raw := tty.modes()
		if raw == own {
			t.Error("not in raw mode")
		}
		tty.send("\x1a")
		tty.expect("READY>")
		tty.becomes(own, "stopped")
		tty.send("fg\n")
		tty.becomes(raw, "continued")
		tty.send("begin\n")
	}
}

// In the background the command runs and prints, and the terminal is the shell's.
func TestPTYBackground(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	ticks := Jailctl + onPTY + "web sh -c 'while :; do echo ti\"\"ck; sleep 0.1; done'"
	runs := func() {
		t.Helper()
		for range 4 {
			tty.expect("tick\r")
		}
		tty.send("jobs\n")
		tty.expect("Running")
	}
	tty.send(ticks + "\n")
	tty.expect("tick\r")
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("bg\n")
	tty.expect("&\r\n")
	runs()
	tty.send("kill %1; wait\n")
	tty.expect("Terminated")
	tty.send(ticks + " &\n")
	runs()
	tty.send("fg\n")
	tty.expect("sh -c")
	for i := 0; i < 100 && tty.modes().Lflag&(unix.ISIG|unix.ICANON) != 0; i++ {
		time.Sleep(20 * time.Millisecond)
	}
	tty.send("\x03")
	tty.expect("READY>")
	Gone(t, "tick")
}

// All of a job stops and is continued, as Ctrl-Z means it.
func TestPTYStopInAPipeline(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send("(echo one; sleep 98330) | " + Jailctl + onPTY + "web sh -c 'read x; echo $x; test -t 0 || test -t 1 && echo tty; cat' | cat\n")
	tty.expect("one\r\n")
	for range 2 {
		tty.send("\x1a")
		tty.expect("Stopped")
		tty.expect("READY>")
		tty.send("fg\n")
		tty.expect("| cat\r\n")
		time.Sleep(200 * time.Millisecond)
	}
	tty.send("\x03")
	tty.expect("READY>")
	Gone(t, "98330")
}

// In raw mode nobody but us can stop the others.
func TestPTYStopBeforeAPipe(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web sh -c 'echo be\"\"gin; read x' | cat\n")
	tty.expect("begin\r\n")
	raw := tty.modes()
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("fg\n")
	tty.becomes(raw, "continued")
	tty.send("\x03")
	tty.expect("READY>")
}

// What a program prints before it stops, as an editor leaves its screen, is printed
// before the shell says so.
func TestPTYStopLastWords(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web sh -c 'trap \"echo last words; kill -STOP \\$\\$\" TSTP; echo be\"\"gin; while :; do :; done'\n")
	tty.expect("begin\r\n")
	goOn := tty.block()
	tty.send("\x1a")
	time.Sleep(300 * time.Millisecond)
	goOn()
	if before := tty.expect("Stopped"); !strings.Contains(before, "last words\r\n") {
		t.Errorf("only %q", before)
	}
}

// Stopped by SIGSTOP jailctl cannot give the terminal back; continued it takes it again.
func TestPTYStoppedItself(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web sh -c 'echo 983\"\"21; cat'\n")
	tty.expect("98321\r\n")
	raw := tty.modes()
	kill(t, "jailctl-pty", "cat", unix.SIGSTOP)
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("fg\n")
	tty.expect("cat")
	tty.becomes(raw, "continued")
	tty.send("\x03")
	tty.expect("READY>")
	time.Sleep(100 * time.Millisecond)
	if tty.modes() == raw {
		t.Error("the modes were not given back")
	}
}

// A program that stops itself, in a process group of its own, keeps the pty's
// foreground over the stop.
func TestPTYShell(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "-e TERM=dumb web sh -i\n")
	tty.expect("$ ")
	tty.send("sleep 98340\n")
	waitFor(t, "98340")
	tty.send("\x03")
	tty.send("echo in=$((1+1))\n")
	tty.expect("in=2")
	tty.send("cat\n") // the shell's own job control
	for range 2 {
		time.Sleep(200 * time.Millisecond)
		tty.send("\x1a")
		tty.expect("Stopped")
		tty.send("echo shell=$((2+2))\n")
		tty.expect("shell=4")
		tty.send("fg\n")
		tty.expect("cat")
		time.Sleep(200 * time.Millisecond)
		tty.send("again\n")
		tty.expect("again\r\nagain\r\n")
	}
	tty.send("\x04")
	for range 2 {
		tty.send("kill -STOP $$\n")
		tty.expect("Stopped")
		tty.expect("READY>")
		tty.send("fg\n")
		tty.expect("sh -i")
		tty.expect("$ ")
		tty.send("echo here=$((40+2))\n")
		tty.expect("here=42")
	}
	tty.send("exit 9\n")
	tty.expect("READY>")
	tty.send("echo out=$?\n")
	tty.expect("out=9")
	Gone(t, "jailctl-monitor")
}

// Where no shell could continue it, Ctrl-Z does nothing.
func TestPTYStopWithoutAShell(t *testing.T) {
	Apply(t, "web", everyone)
	tty := onTerminal(t, exec.Command(Jailctl, "run", "--tty=pty", "web", "cat"))
	tty.send("one\n")
	tty.expect("one\r\none\r\n")
	tty.send("\x1a")
	tty.expect("^Z")
	time.Sleep(300 * time.Millisecond)
	tty.send("two\n")
	tty.expect("two\r\ntwo\r\n")
}

// However it ends, the terminal has its modes back to the last bit.
func TestPTYModes(t *testing.T) {
	Apply(t, "web", everyone)
	pty := Jailctl + onPTY
	for name, test := range map[string]struct {
		command, sign, after string
		meanwhile            func(tty *terminal)
	}{
		"it exits":        {"web probe exit 7", "", "after=7\r\n", nil},
		"it is killed":    {"web probe kill 9", "", "after=137\r\n", nil},
		"it changes its":  {"web sh -c 'stty raw -echo; exit 3'", "", "after=3\r\n", nil},
		"it is refused":   {"nope x", "jailctl: cannot run: no jail of that name is open to you; those that are: jailctl list\r\n", "after=125\r\n", nil},
		"not found":       {"web /bin/nothing", "", "after=127\r\n", nil},
		"Ctrl-C":          {"web probe sleep 98351", "", "after=130\r\n", func(tty *terminal) { tty.send("\x03") }},
		"TERM to jailctl": {"web sleep 98352", "", "after=143\r\n", func(tty *terminal) { kill(t, "jailctl-pty", "98352", unix.SIGTERM) }},
		"HUP to jailctl":  {"web sleep 98353", "", "after=129\r\n", func(tty *terminal) { kill(t, "jailctl-pty", "98353", unix.SIGHUP) }},
		"INT to jailctl":  {"web sleep 98354", "", "after=130\r\n", func(tty *terminal) { kill(t, "jailctl-pty", "98354", unix.SIGINT) }},
		"KILL to jailctl": {`web sh -c 'trap "" HUP; exec sleep 98355'`, "", "after=137", func(tty *terminal) { kill(t, "jailctl-pty", "98355", unix.SIGKILL) }},
		"KILL to the monitor": {`web sh -c 'trap "" HUP; exec sleep 98356'`, "", "after=137\r\n", func(tty *terminal) {
			kill(t, "jailctl-monitor", "98356", unix.SIGKILL)
		}},
		"KILL to the inner jailctl": {"web sleep 98357", "", "after=137\r\n", func(tty *terminal) { kill(t, "jailctl", "98357", unix.SIGKILL) }},
	} {
		t.Run(name, func(t *testing.T) {
			tty, own := script(t, pty+test.command)
			if test.meanwhile != nil {
				mark := regexp.MustCompile(`983\d\d`).FindString(test.command)
				waitFor(t, mark)
				if raw := tty.modes(); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || raw.Oflag&unix.OPOST != 0 {
					t.Errorf("not in raw mode: %+v", raw)
				}
				test.meanwhile(tty)
				defer Gone(t, mark)
			}
			said := tty.expect(test.after)
			if lines := strings.Count(said, "\n"); test.sign != "" && (lines != 1 || said != test.sign) {
				t.Errorf("it said %q", said)
			}
			tty.becomes(own, name)
		})
	}
}

// kill signals the process of that name.
func kill(t *testing.T, name, mark string, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(process(t, name, mark), sig); err != nil {
		t.Fatal(err)
	}
}

// A jailctl that is killed while it is stopped leaves no stopped command behind, and
// the modes of whoever has the terminal by then alone.
func TestPTYKilledWhileStopped(t *testing.T) {
	Apply(t, "web", everyone)
	tty := newTerminal(t)
	tty.send(Jailctl + onPTY + "web sleep 98360\n")
	waitFor(t, "98360")
	tty.send("\x1a")
	tty.expect("Stopped")
	tty.expect("READY>")
	time.Sleep(100 * time.Millisecond)
	own := tty.modes() // the shell's, in which it edits a line
	kill(t, "jailctl-pty", "98360", unix.SIGKILL)
	Gone(t, "98360")
	tty.becomes(own, "killed while stopped")
}

// The terminal goes: so does the command, unless HUP is ignored.
func TestPTYHangup(t *testing.T) {
	Apply(t, "web", everyone)
	tty := onTerminal(t, exec.Command(Jailctl, "run", "--tty=pty", "web", "sleep", "98370"))
	waitFor(t, "98370")
	tty.master.Close()
	Gone(t, "98370")

	tty = onTerminal(t, exec.Command("/bin/sh", "-c", "trap '' HUP; exec "+Jailctl+onPTY+"web sleep 98371"))
	waitFor(t, "98371")
	tty.master.Close()
	time.Sleep(500 * time.Millisecond)
	waitFor(t, "98371")
	kill(t, "jailctl-pty", "98371", unix.SIGTERM)
	Gone(t, "98371")
}

// A hangup of which no signal tells: the terminal controls another session.
func TestPTYHangupUnheard(t *testing.T) {
	Apply(t, "web", everyone)
	tty := onTerminal(t, exec.Command("setsid", "-w", Jailctl, "run", "--tty=pty", "web", "sleep", "98375"))
	waitFor(t, "98375")
	tty.master.Close()
	Gone(t, "98375")
	for i := range 40 { // while it starts, too
		tty := onTerminal(t, exec.Command("setsid", "-w", Jailctl, "run", "--tty=pty", "web", "sleep", "98376"))
		time.Sleep(time.Duration(i) * time.Millisecond / 2)
		tty.master.Close()
	}
	Gone(t, "98376")
}

func TestPTYStatus(t *testing.T) {
	Apply(t, "web", everyone)
	for _, n := range []int{0, 7, 125, 255} {
		tty := onTerminal(t, exec.Command(Jailctl, "run", "--tty=pty", "web", "probe", "exit", strconv.Itoa(n)))
		tty.shell.Wait()
		want(t, "status", strconv.Itoa(tty.shell.ProcessState.ExitCode()), strconv.Itoa(n))
	}
	for _, sig := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGABRT, syscall.SIGALRM} {
		cmd := exec.Command("/bin/sh", "-c", "ulimit -c unlimited; exec "+Jailctl+onPTY+"web probe kill "+strconv.Itoa(int(sig)))
		cmd.Dir = Public
		tty := onTerminal(t, cmd)
		tty.shell.Wait()
		ws := tty.shell.ProcessState.Sys().(syscall.WaitStatus)
		if !ws.Signaled() || ws.Signal() != sig || ws.CoreDump() {
			t.Errorf("killed by %v: ended with %#x", sig, ws)
		}
		if said := <-tty.seen; said != "" {
			t.Errorf("killed by %v: it said %q", sig, said)
		}
	}
}

// All that was written arrives, in order, though the command ends at once.
func TestPTYOutput(t *testing.T) {
	Apply(t, "web", everyone)
	const last = 170000
	var all strings.Builder
	for i := 1; i <= last; i++ {
		fmt.Fprintf(&all, "%d\r\n", i)
	}
	tty, _ := script(t, Jailctl+onPTY+"web seq 1 "+strconv.Itoa(last))
	if got := tty.expect("after=0\r\n"); got != all.String() {
		t.Errorf("%d bytes arrived, want %d; the last are %q", len(got), all.Len(), got[max(0, len(got)-50):])
	}
	// The terminal takes nothing until the command is gone.
	tty, _ = script(t, Jailctl+onPTY+"web sh -c 'echo be\"\"gin; read x; seq 1 5000; exit 4'; echo $?")
	tty.expect("begin\r\n")
	goOn := tty.block()
	tty.send("\n")
	for i := 0; i < 100 && len(processes("jailctl", "seq 1 5000")) > 0; i++ {
		time.Sleep(20 * time.Millisecond)
	}
	goOn()
	if got := tty.expect("4\r\nafter=0"); got != "\r\n"+all.String()[:strings.Index(all.String(), "5001")] {
		t.Errorf("late: %d bytes arrived; the last are %q", len(got), got[max(0, len(got)-50):])
	}
	// A process that is left behind and keeps the pty does not hold us, or what it writes.
	tty, _ = script(t, Jailctl+onPTY+"web sh -c 'trap \"\" HUP; seq 1 999999999 & sleep 0.2; exit 4'")
	tty.expect("after=4\r\n")
	Gone(t, "999999999")
}

// What is no terminal stays as it is; the terminal then keeps its modes, and its keys.
func TestPTYOtherDescriptors(t *testing.T) {
	Apply(t, "web", everyone)
	show := `sh -c 'for i in 0 1 2; do test -t $i && echo $i=tty >&2 || echo $i=no >&2; done; while read x; do echo $x; done; echo over'`
	tty, own := script(t, "echo from a pipe | "+Jailctl+onPTY+"web "+show)
	want(t, "standard input is a pipe", tty.expect("over\r\nafter=0\r\n"), "0=no\r\n1=tty\r\n2=tty\r\nfrom a pipe\r\n")
	tty.becomes(own, "a pipe as input")

	tty, own = script(t, Jailctl+onPTY+"web "+show+" | sed s/o/O/")
	tty.expect("2=tty\r\n")
	if m := tty.modes(); m.Oflag&unix.OPOST == 0 || m.Lflag&unix.ICANON != 0 {
		t.Errorf("the modes with a pipe behind: %+v", m)
	}
	tty.send("typed\n\x04")
	lines := strings.SplitAfter(tty.expect("after=0\r\n"), "\r\n") // the echo and the pipe have no order
	slices.Sort(lines)
	want(t, "standard output is a pipe", strings.Join(lines, ""), "Over\r\ntyped\r\ntyped\r\n")
	tty.becomes(own, "a pipe as output")

	tty, own = script(t, "sleep 98380 | "+Jailctl+onPTY+"web cat")
	process(t, "cat", "cat")
	if m := tty.modes(); m != own {
		t.Errorf("modes changed without a reason: %+v", m)
	}
	tty.send("\x03")
	Gone(t, "98380")

	tty, _ = script(t, Jailctl+onPTY+"web sh -c 'echo to a file' >"+Public+"/file 2>&1")
	tty.expect("after=0\r\n")
	if b, err := os.ReadFile(Public + "/file"); string(b) != "to a file\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// Descriptors beyond 2, the environment, limits and ignored signals arrive as they
// do without a pty.
func TestPTYPassesOn(t *testing.T) {
	Apply(t, "web", everyone)
	events := Public + "/events"
	tty, _ := script(t, Jailctl+onPTY+"--status-fd=5 web probe exit 7 5>"+events)
	tty.expect("after=7\r\n")
	b, err := os.ReadFile(events)
	if err != nil || !regexp.MustCompile(`^\{"event":"started","pid":\d+\}\n\{"event":"exited","code":7\}\n$`).Match(b) {
		t.Errorf("events %q, %v", b, err)
	}
	if r := Run(t, Alice, "/bin/sh", "-c", Jailctl+onPTY+"--status-fd=5 web true 5>"+events); r.Status != 125 {
		t.Errorf("without a terminal: %+v", r)
	}
	if b, _ := os.ReadFile(events); !bytes.HasPrefix(b, []byte(`{"event":"refused","reason":"cannot make a terminal`)) {
		t.Errorf("without a terminal: events %q", b)
	}
	report := func(kind string) map[string]string {
		tty, _ := script(t, "export LC_TIME=x; trap '' HUP INT; ulimit -Sn 77; "+Jailctl+" run --tty="+kind+" web probe")
		r := Result{Out: strings.ReplaceAll(tty.expect("after=0\r\n"), "\r", "")}
		return Probe(t, r)
	}
	share, pty := report("share"), report("pty")
	for k := range share {
		switch k {
		case "pid", "ppid", "pgid", "sid":
		default:
			want(t, k, pty[k], share[k])
		}
	}
	want(t, "ignored", pty["ignored"], "1 2")
}

// The options are read once, by jailctl: what only looks like one is left alone.
func TestPTYOptions(t *testing.T) {
	Apply(t, "web", everyone)
	if r := Jailrun(t, Alice, "--tty=pty", "--tty=auto", "web", "true"); r.Status != 0 {
		t.Errorf("the last does not count: %+v", r)
	}
	tty, _ := script(t, Jailctl+" run --tty=share --tty=pty -C /tmp web echo --tty=pty")
	tty.expect("--tty=pty\r\n")
	tty.expect("after=0\r\n")
	tty, _ = script(t, Jailctl+" run -u --tty=pty web true")
	if said := tty.expect("after=125\r\n"); !strings.Contains(said, `target "--tty=pty:" is not permitted`) {
		t.Errorf("%q", said)
	}
}
