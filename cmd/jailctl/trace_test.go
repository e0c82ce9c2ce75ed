package main_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	. "jailctl/internal/roottest"
)

// jobControl has command, which is probe count 2 3 15 in some way, interrupted, stopped
// and continued from the terminal.
func (tty *terminal) jobControl(command string) {
	tty.t.Helper()
	tty.send(command + "\n")
	tty.expect("ready")
	tty.send("\x03")
	tty.expect("2\r\n")
	tty.send("\x1c")
	if got := tty.expect("3\r\n"); strings.Contains(got, "2") {
		tty.t.Errorf("Ctrl-C arrived twice: %q", got)
	}
	for range 3 {
		tty.send("\x1a")
		tty.expect("Stopped")
		tty.expect("READY>")
		tty.send("fg\n")
		tty.expect("probe count")
		tty.send("\x03")
		tty.expect("2\r\n")
	}
	tty.send("\x1a")
	tty.expect("READY>")
	tty.send("kill %1; fg\n")
	tty.expect("15\r\n")
}

// A traced command is interrupted, stopped and continued from a terminal as any other.
func TestTerminalTraced(t *testing.T) {
	Apply(t, "web", `root: "ROOT" rules { users: "*" run_as { caller: true } }`)
	tty := newTerminal(t)
	tty.jobControl(Jailctl + " run --trace=/dev/null web probe count 2 3 15")
	tty.expect("READY>")
	tty.send(Jailctl + " run --trace web sh -c 'kill -STOP $$; echo continued'\n")
	tty.expect("Stopped")
	tty.expect("READY>")
	tty.send("fg\n")
	tty.expect("continued\r\n")
	tty.expect("READY>")
	tty.send(Jailctl + " run --trace=/dev/null web sleep 98501\n")
	for i := 0; exec.Command("pgrep", "-f", "^sleep 98501").Run() != nil; i++ {
		if i == 200 {
			t.Fatal("the command does not start")
		}
		time.Sleep(20 * time.Millisecond)
	}
	tty.send("\x03")
	tty.expect("READY>")
	tty.send("echo status=$?\n")
	tty.expect("status=130")
}
