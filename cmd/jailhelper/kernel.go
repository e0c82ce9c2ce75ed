package main

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/policy"
)

// This file holds the system calls that x/sys/unix has not, or has for all
// threads at once. They are raw: this thread only, no scheduler.

func setresuid(uid uint32) error {
	return call(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
}

func setresgid(gid uint32) error {
	return call(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
}

func setgroups(gids []uint32) error {
	return call(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(unsafe.Pointer(unsafe.SliceData(gids))), 0)
}

// call keeps what its arguments point to where it is while the kernel writes there.
//
//go:uintptrescapes
func call(nr, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(nr, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// getresuid begins with ids that nobody has: where the call is made to succeed
// without being made, they stay.
func getresuid() (r, e, s uint32) { return ids(unix.SYS_GETRESUID) }

func getresgid() (r, e, s uint32) { return ids(unix.SYS_GETRESGID) }

func ids(nr uintptr) (r, e, s uint32) {
	id := [3]uint32{1<<32 - 1, 1<<32 - 1, 1<<32 - 1}
	if call(nr, uintptr(unsafe.Pointer(&id[0])), uintptr(unsafe.Pointer(&id[1])), uintptr(unsafe.Pointer(&id[2]))) != nil {
		return 1<<32 - 1, 1<<32 - 1, 1<<32 - 1
	}
	return id[0], id[1], id[2]
}

// newKeyring joins a new, nameless session keyring (keyctl(2)).
func newKeyring() error {
	const join = 1 // KEYCTL_JOIN_SESSION_KEYRING
	return call(unix.SYS_KEYCTL, join, 0, 0)
}

// mqueueMagic is MQUEUE_MAGIC of the kernel's ipc/mqueue.c.
const mqueueMagic = 0x19800202

// suidDumpable returns fs.suid_dumpable without opening a file: the kernel gives
// this value to a process whose fsgid changes (prctl(2), PR_SET_DUMPABLE). The
// gid is put back; while it is another, the uid is root's, whom nobody may trace.
func suidDumpable() (int, error) {
	const nobody = 1<<32 - 2
	unix.RawSyscall(unix.SYS_SETFSGID, nobody, 0, 0)
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(unix.Getegid()), 0, 0)
	return unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
}

// sameGroups reports whether this process is in exactly the groups want, in
// whatever order the kernel keeps them.
func sameGroups(want []uint32) bool {
	have, err := unix.Getgroups()
	if err != nil || len(have) != len(want) {
		return false
	}
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || uint32(h) == w
		}
		if !found {
			return false
		}
	}
	return true
}

// dropCapabilities empties all sets and looks again (capset(2)).
func dropCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return err
	}
	const all = 1<<32 - 1
	have := [2]unix.CapUserData{{Effective: all, Permitted: all, Inheritable: all}, {Effective: all, Permitted: all, Inheritable: all}}
	if err := unix.Capget(&hdr, &have[0]); err != nil {
		return err
	}
	if have != none {
		return unix.EPERM
	}
	return nil
}

// relay makes this process the one that gets a signal when something happens at
// the other end of the pipe: SIGKILL when it is closed, which the kernel does
// when the client dies; any other that the client sets first (fcntl(2),
// F_SETSIG). F_SETOWN notes the ids of this moment.
func relay(fd uintptr) error {
	if _, err := unix.FcntlInt(fd, unix.F_SETOWN, unix.Getpid()); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGKILL)); err != nil {
		return err
	}
	_, err := unix.FcntlInt(fd, unix.F_SETFL, unix.O_ASYNC|unix.O_NONBLOCK)
	return err
}

// timers sets the alarm, in seconds, and stops the other interval timers, which
// outlive execve(2).
func timers(seconds int64) error {
	if _, err := unix.Setitimer(unix.ItimerReal, unix.Itimerval{Value: unix.Timeval{Sec: seconds}}); err != nil {
		return err
	}
	if _, err := unix.Setitimer(unix.ItimerVirtual, unix.Itimerval{}); err != nil {
		return err
	}
	_, err := unix.Setitimer(unix.ItimerProf, unix.Itimerval{})
	return err
}

// sigaction is the kernel's struct of rt_sigaction(2), alike on amd64 and arm64.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// Dispositions of rt_sigaction(2).
const sigDfl, sigIgn = 0, 1

// stops sets what the terminal's stop signals do. No alarm wakes a process that
// they have stopped, so that a caller with a terminal could park helpers for good.
func stops(handler uintptr) error {
	for _, sig := range []unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		if err := rtSigaction(uintptr(sig), &sigaction{handler: handler}, nil); err != nil {
			return err
		}
	}
	return nil
}

// defaultSignals gives every signal its default action: neither the caller's
// choice nor the Go runtime's handlers reach the command, and a fault here kills
// without a word. HUP and INT stay ignored where the caller ignored them, as
// nohup(1) and a shell's "&" mean it; the Go runtime leaves these two as they were.
func defaultSignals() error {
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig == uintptr(unix.SIGKILL) || sig == uintptr(unix.SIGSTOP) {
			continue
		}
		var old sigaction
		if sig == uintptr(unix.SIGHUP) || sig == uintptr(unix.SIGINT) {
			if err := rtSigaction(sig, nil, &old); err != nil {
				return err
			}
			if old.handler == sigIgn {
				continue
			}
		}
		if err := rtSigaction(sig, &sigaction{handler: sigDfl}, nil); err != nil {
			return err
		}
	}
	return nil
}

func rtSigaction(sig uintptr, act, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// unblockSignals empties this thread's mask, which execve(2) keeps.
func unblockSignals() error {
	var set uint64
	const setmask = 2 // SIG_SETMASK
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, setmask, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// limit lowers one resource limit, soft and hard. It never raises: the target has
// no right to, and a caller's lower limit keeps the policy's promise as well.
func limit(l policy.Limit) error {
	var have unix.Rlimit
	if err := unix.Getrlimit(l.Resource, &have); err != nil {
		return err
	}
	v := min(l.Value, have.Max)
	return unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: v, Max: v})
}

// splitPath returns the absolute directories of a search path.
func splitPath(path string) []string {
	var dirs []string
	for _, d := range strings.Split(path, ":") {
		if strings.HasPrefix(d, "/") {
			dirs = append(dirs, strings.TrimRight(d, "/"))
		}
	}
	return dirs
}
