package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/ipc"
)

// What the caller does while the helper runs.

// Before its first instruction the helper can be signalled, and is the caller's
// to end; from then on it cannot, and runs to its end.
func TestA33SignalsAtRandom(t *testing.T) {
	roottest.Apply(t, "a33", alice)
	random := rand.New(rand.NewPCG(33, 150))
	arrived := 0
	for round := range 150 {
		sig := []unix.Signal{unix.SIGSTOP, unix.SIGKILL, unix.SIGTERM}[round%3]
		s := call{jail: "a33", session: true}.start(t)
		time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond * time.Duration(round%2)) // the attack's own pace
		err := as(roottest.Alice, func() error { return unix.Kill(s.pid, sig) })
		if sig == unix.SIGSTOP {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
			if err := as(roottest.Alice, func() error { return unix.Kill(s.pid, unix.SIGCONT) }); err != nil {
				t.Errorf("continue: %v", err)
			}
		}
		e := s.finish()
		ran := e.ran && e.status == 0 && len(e.replies) == 1 && e.replies[0].Outcome == ipc.Starting
		killed := !e.ran && e.signal == sig && len(e.replies) == 0
		switch {
		case err == unix.EPERM && ran, err == nil && sig == unix.SIGSTOP && ran:
		case err == nil && killed:
			arrived++
		default:
			t.Errorf("round %d: %v to the helper: %v; then %+v", round, sig, err, e)
		}
	}
	t.Logf("%d of 150 signals ended the helper", arrived)
}

func TestA34EverySignal(t *testing.T) {
	roottest.Apply(t, "a34", alice)
	for name, same := range map[string]bool{"same session": true, "another session": false} {
		t.Run(name, func(t *testing.T) {
			permitted(t, call{jail: "a34", session: same, silent: true, client: func(s *session) {
				s.waiting()
				for sig := unix.Signal(1); sig <= 64; sig++ {
					err := as(roottest.Alice, func() error { return unix.Kill(s.pid, sig) })
					// SIGCONT is free within a session (kill(2)), and does nothing here.
					if free := sig == unix.SIGCONT && same; free && err != nil || !free && err != unix.EPERM {
						t.Errorf("signal %d: %v", sig, err)
					}
				}
				s.send()
			}})
		})
	}
}

// attempts are ways into a process; what they return is nil or the refusal.
var attempts = map[string]func(pid int) error{
	"PTRACE_ATTACH": func(pid int) error {
		if err := unix.PtraceAttach(pid); err != nil {
			return err
		}
		if err := stopped(pid); err != nil {
			return err
		}
		return unix.PtraceDetach(pid)
	},
	"PTRACE_SEIZE": func(pid int) error {
		if err := unix.PtraceSeize(pid); err != nil {
			return err
		}
		if err := errors.Join(unix.PtraceInterrupt(pid), stopped(pid)); err != nil {
			return err
		}
		return unix.PtraceDetach(pid)
	},
	"process_vm_readv": func(pid int) error {
		var b [1]byte
		local := []unix.Iovec{{Base: &b[0], Len: 1}}
		_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
		if err == unix.EFAULT { // permitted; nothing is there
			err = nil
		}
		return err
	},
	"process_vm_writev": func(pid int) error {
		var b [1]byte
		local := []unix.Iovec{{Base: &b[0], Len: 1}}
		_, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
		if err == unix.EFAULT {
			err = nil
		}
		return err
	},
	"pidfd_getfd": func(pid int) error {
		p, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(p)
		fd, err := unix.PidfdGetfd(p, 0, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"prlimit": func(pid int) error {
		var l unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
			return err
		}
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: l.Max}, nil)
	},
	"setpriority":       func(pid int) error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) },
	"sched_setaffinity": func(pid int) error { return unix.SchedSetaffinity(pid, &unix.CPUSet{1}) },
}

func init() {
	for _, link := range []string{"cwd", "root", "exe", "fd/0", "ns/net"} {
		attempts["/proc/PID/"+link] = func(pid int) error {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/%s", pid, link))
			return err
		}
	}
	for _, file := range []string{"mem", "maps", "environ", "auxv", "io", "syscall", "pagemap", "fd", "fdinfo", "map_files"} {
		attempts["/proc/PID/"+file] = func(pid int) error {
			f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err == nil {
				defer f.Close()
				switch file {
				case "io", "syscall", "environ", "auxv": // these judge the reader
					_, err = f.Read(make([]byte, 1))
				}
			}
			return err
		}
	}
	for _, file := range []string{"mem", "oom_score_adj", "comm", "coredump_filter", "clear_refs"} {
		attempts["/proc/PID/"+file+" for writing"] = func(pid int) error {
			f, err := os.OpenFile(fmt.Sprintf("/proc/%d/%s", pid, file), os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}
	}
}

// stopped waits for a tracee to stop, and does not reap it if it ends.
func stopped(pid int) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WALL, nil); err != nil {
			return err
		}
		if info.Code != 0 {
			return nil
		}
	}
	return errors.New("does not stop")
}

func TestA35LookIntoTheHelper(t *testing.T) {
	roottest.Apply(t, "a35", alice)
	// All of it works on a process of Alice's own.
	victim := roottest.As(roottest.Alice, exec.Command("sleep", "60"))
	must(t, victim.Start())
	defer victim.Wait()
	defer victim.Process.Kill()
	permitted(t, call{jail: "a35", silent: true, client: func(s *session) {
		s.waiting()
		for name, attempt := range attempts {
			if err := as(roottest.Alice, func() error { return attempt(s.pid) }); !errors.Is(err, os.ErrPermission) {
				t.Errorf("%s on the helper: %v", name, err)
			}
			if err := as(roottest.Alice, func() error { return attempt(victim.Process.Pid) }); err != nil {
				t.Errorf("%s on a process of the caller's own: %v", name, err)
			}
		}
		s.send()
	}})
}

// From the drop to the execve the helper has the target's uid, here the caller's
// own, and stays undumpable: who keeps trying gets hold of the command only.
func TestA36AttachBeforeExec(t *testing.T) {
	roottest.Apply(t, "a36", `root: "ROOT" rules { users: "jailctl-alice" run_as { caller: true } }`)
	for round := range 20 {
		s := call{jail: "a36", command: []string{"/bin/probe", "sleep", "60"}, silent: true}.start(t)
		s.waiting()
		s.send()
		err := as(roottest.Alice, func() error {
			var errno unix.Errno = unix.EPERM
			for deadline := time.Now().Add(5 * time.Second); errno == unix.EPERM && time.Now().Before(deadline); {
				_, _, errno = unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(s.pid), 0, 0, 0, 0)
			}
			// The kernel lets nobody attach while execve is between the two programs.
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid))
			if errno != 0 || exe != roottest.Jail+"/bin/probe" {
				err = fmt.Errorf("attached: %v, to %s", errno, exe)
			}
			return errors.Join(err, unix.Kill(s.pid, unix.SIGKILL))
		})
		if err != nil {
			t.Errorf("round %d: %v", round, err)
			unix.Kill(s.pid, unix.SIGKILL)
		}
		if e := s.finish(); len(e.replies) != 1 || e.replies[0].Outcome != ipc.Starting {
			t.Errorf("round %d: %+v", round, e)
		}
	}
}

func TestA37ManyHelpers(t *testing.T) {
	roottest.Apply(t, "a37", alice)
	permitted(t, call{jail: "a37"})
	began := time.Now()
	var all []*session
	for range 64 {
		all = append(all, call{jail: "a37", silent: true}.start(t))
	}
	for _, s := range all {
		s.waiting()
		if children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.pid)); err != nil || len(children) == 0 {
			t.Fatalf("cannot look for children: %v", err)
		} else {
			for _, file := range children {
				if b, err := os.ReadFile(file); err != nil || len(b) > 0 {
					t.Errorf("children %s, %v", b, err)
				}
			}
		}
	}
	for _, s := range all {
		e := s.finish() // which sees to it that no descriptor comes back
		if e.status != 125 || e.ran || len(e.replies) != 1 || e.replies[0].Text != nothing+" in time" {
			t.Errorf("%+v", e)
		}
	}
	if took := time.Since(began); took > late {
		t.Errorf("the last one was gone after %v", took)
	}
	eventually(t, "no helper is left", func() bool {
		left := 0
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, link := range links {
			if exe, _ := os.Readlink(link); exe == roottest.Helper {
				left++
			}
		}
		return left == 0
	})
}
