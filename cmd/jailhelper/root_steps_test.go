package main_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
)

// stepsMark in the environment makes the test binary a caller who prepares
// itself and then executes the helper.
const stepsMark = "JAILCTL_TEST_STEPS"

var stepperOnce sync.Once

// stepper is a copy of the test binary that everybody can execute.
func stepper(t testing.TB) string {
	path := roottest.Prefix + "/stepper"
	stepperOnce.Do(func() { copyFile(t, "/proc/self/exe", path, 0o755) })
	return path
}

func copyFile(t testing.TB, from, to string, mode uint32) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	must(t, unix.Chmod(to, mode))
}

// take takes the steps "NAME=VALUE" one after the other, the last of which
// executes a program. The main thread does it all, being locked (see main.go).
func take(steps []string) {
	for _, step := range steps {
		name, value, _ := strings.Cut(step, "=")
		n, _ := strconv.Atoi(value)
		var err error
		switch name {
		case "chdir":
			err = unix.Chdir(value)
		case "rmdir":
			err = unix.Rmdir(value)
		case "closed": // a directory to everybody
			err = unix.Chmod(value, 0)
		case "umask":
			n, _ := strconv.ParseUint(value, 8, 32)
			unix.Umask(int(n))
		case "nofile":
			err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)})
		case "fill": // every descriptor that there can be becomes "/"
			var fd int
			fd, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			for err == nil {
				_, err = unix.Dup(fd)
			}
			if err == unix.EMFILE {
				err = nil
			}
		case "ignore": // signal n, and block it
			err = ignore(n)
		case "async": // SIGKILL to this process when the request arrives
			_, err = unix.FcntlInt(3, unix.F_SETOWN, unix.Getpid())
			if err == nil {
				_, err = unix.FcntlInt(3, unix.F_SETSIG, int(unix.SIGKILL))
			}
			if err == nil {
				_, err = unix.FcntlInt(3, unix.F_SETFL, unix.O_ASYNC)
			}
		case "nnp":
			err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		case "fake": // these system calls succeed without being made
			err = fake(numbers(value), false)
		case "fake-nonzero": // these do unless their first argument is 0
			err = fake(numbers(value), true)
		case "group": // the only supplementary one
			err = setgroups([]uint32{uint32(n)})
		case "inherit": // capability n becomes inheritable
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			if err = unix.Capget(&hdr, &data[0]); err == nil {
				data[0].Inheritable |= 1 << n
				err = unix.Capset(&hdr, &data[0])
			}
		case "become": // uid and gid n, by the calls that the helper does not use
			if err = raw(unix.SYS_SETGID, uintptr(n), 0, 0); err == nil {
				err = raw(unix.SYS_SETUID, uintptr(n), 0, 0)
			}
		case "fexec": // execveat(2) of a descriptor: argv and path say nothing
			var fd int
			if fd, err = unix.Open(value, unix.O_PATH, 0); err == nil {
				err = fexec(fd)
			}
		case "trace":
			trace(value)
		case "exec":
			err = syscall.Exec(value, []string{"jailhelper"}, []string{""})
		default:
			err = unix.ENOSYS
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "step %s: %v\n", step, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// fake installs a filter that answers 0 for some system calls.
func fake(calls []uint32, nonzero bool) error {
	const nr, arg0 = 0, 16 // offsets in struct seccomp_data; the low word, little endian
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr}}
	for _, call := range calls {
		if !nonzero {
			filter = append(filter,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
				unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO})
			continue
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 4},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: arg0},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// trace executes a program that is traced by this process from its first
// instruction on, and ends as it does.
func trace(path string) {
	pid, err := syscall.ForkExec(path, []string{"jailhelper"}, &syscall.ProcAttr{
		Env: []string{""}, Files: []uintptr{0, 1, 2, 3, 4, 5}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	for err == nil {
		var ws syscall.WaitStatus
		if _, err = syscall.Wait4(pid, &ws, syscall.WALL, nil); err != nil {
			break
		}
		if ws.Exited() {
			os.Exit(ws.ExitStatus())
		}
		sig := ws.StopSignal()
		if sig == syscall.SIGTRAP {
			sig = 0
		}
		err = syscall.PtraceCont(pid, int(sig))
	}
	fmt.Fprintln(os.Stderr, "trace:", err)
	os.Exit(1)
}

func fexec(fd int) error {
	empty, argv0 := []byte{0}, []byte("jailhelper\x00")
	argv, envv := [2]*byte{&argv0[0]}, [2]*byte{&empty[0]}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv)), uintptr(unsafe.Pointer(&envv)), unix.AT_EMPTY_PATH, 0)
	return errno
}

// raw makes a system call on this thread alone.
func raw(nr, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(nr, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func setgroups(ids []uint32) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(ids)), uintptr(unsafe.Pointer(unsafe.SliceData(ids))), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ignore ignores and blocks a signal, past the Go runtime.
func ignore(sig int) error {
	act, set := [4]uint64{1}, uint64(1)<<(sig-1) // SIG_IGN
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func numbers(list string) (all []uint32) {
	for s := range strings.SplitSeq(list, ",") {
		n, _ := strconv.Atoi(s)
		all = append(all, uint32(n))
	}
	return all
}
