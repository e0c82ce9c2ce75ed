package client_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"jailctl/client"
	"jailctl/internal/paths"
	"jailctl/internal/roottest"
	"jailctl/ipc"
)

func TestMain(m *testing.M) { roottest.Main(m) }

const policy = `root: "ROOT" rules { users: "*" run_as { user: "daemon" group: "daemon" } }`

// start starts one command with this process as the caller.
func start(t *testing.T, argv ...string) (*client.Cmd, error) {
	t.Helper()
	paths.Libexec = roottest.Prefix + "/libexec/jailctl"
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c := client.Command("lib", argv, nil)
	fd := int(null.Fd())
	c.Stdio = [3]int{fd, fd, fd}
	if err := c.Start(); err != nil {
		return nil, err
	}
	_, err = c.Granted()
	return c, err
}

func run(t *testing.T, argv ...string) (syscall.WaitStatus, error) {
	t.Helper()
	c, err := start(t, argv...)
	if err != nil {
		return 0, err
	}
	return c.Wait(nil)
}

func TestStatus(t *testing.T) {
	roottest.Apply(t, "lib", policy)
	for argv, want := range map[string]int{"probe exit 0": 0, "probe exit 7": 7, "/nothing": 127, "/tmp": 126, "./x": 125} {
		ws, err := run(t, strings.Fields(argv)...)
		var refused *client.Refused
		got := ws.ExitStatus()
		if errors.As(err, &refused) {
			got = refused.Status()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: status %d (%v), want %d", argv, got, err, want)
		}
	}
	if ws, err := run(t, "probe", "kill", "11"); err != nil || ws.Signal() != syscall.SIGSEGV {
		t.Errorf("%v %v", ws, err)
	}
}

// A program that runs many commands keeps nothing of them.
func TestNothingGrows(t *testing.T) {
	roottest.Apply(t, "lib", policy)
	some := func(n int) {
		for range n {
			if ws, err := run(t, "true"); err != nil || ws.ExitStatus() != 0 {
				t.Fatal(ws, err)
			}
			run(t, "./refused")
			run(t, "/nothing")
			if all, err := client.Ask(ipc.Request{Verb: ipc.List}); err != nil {
				t.Fatal(all, err)
			}
		}
	}
	some(5)
	before, memory := descriptors(t), heap()
	some(300)
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if after := heap(); after > memory+1<<20 {
		t.Errorf("heap of %d bytes, %d before", after, memory)
	}
	var ws syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("children are left: %d %v", pid, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Signal after the end finds nobody, whoever has the descriptors by then.
func TestSignalAfterTheEnd(t *testing.T) {
	roottest.Apply(t, "lib", policy)
	c, err := start(t, "true")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(syscall.SIGTERM); err != syscall.ESRCH {
		t.Errorf("Signal: %v, want %v", err, syscall.ESRCH)
	}
}
