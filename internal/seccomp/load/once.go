package load

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A command that may not execute others must itself be executed by a process whose
// filter is already in force, and a filter cannot count. So a second filter asks
// execve(2) for a password: random numbers in the two argument registers that the
// call leaves unused. They are drawn for this one run, and nobody can ask for them:
// the kernel empties the registers and the memory at execve, and a filter can be
// read back only with CAP_SYS_ADMIN (ptrace(2), PTRACE_SECCOMP_GET_FILTER).

// Password opens execve(2) to who knows it.
type Password [2]uint64

// NewPassword draws one, getrandom(2).
func NewPassword() (Password, error) {
	var p Password
	n, _, errno := unix.RawSyscall(unix.SYS_GETRANDOM, uintptr(unsafe.Pointer(&p)), unsafe.Sizeof(p), 0)
	if errno != 0 || n != unsafe.Sizeof(p) {
		return Password{}, errors.New("no random numbers")
	}
	return p, nil
}

// Once is a filter that answers every execve without the password, and every
// execveat, with otherwise; it permits all else. Other architectures and x32, in
// which these calls have other numbers, are the first filter's to refuse.
func Once(p Password, otherwise uint32) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		args  = 16 // offset of the arguments in struct seccomp_data, low half first
	)
	return []unix.SockFilter{
		{Code: load, K: 0}, // the number
		{Code: equal, K: unix.SYS_EXECVEAT, Jt: 10},
		{Code: equal, K: unix.SYS_EXECVE, Jf: 8},
		{Code: load, K: args + 8*4},
		{Code: equal, K: uint32(p[0]), Jf: 7},
		{Code: load, K: args + 8*4 + 4},
		{Code: equal, K: uint32(p[0] >> 32), Jf: 5},
		{Code: load, K: args + 8*5},
		{Code: equal, K: uint32(p[1]), Jf: 3},
		{Code: load, K: args + 8*5 + 4},
		{Code: equal, K: uint32(p[1] >> 32), Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: otherwise},
	}
}

// Exec is syscall.Exec with the password. The soft limit of open files stays as it
// is, and thread creation is not held off: with GOMAXPROCS=1, as the helper runs,
// nothing creates one while this thread is in the call.
func (p Password) Exec(path string, argv, env []string) error {
	name, err1 := syscall.BytePtrFromString(path)
	argvp, err2 := syscall.SlicePtrFromStrings(argv)
	envp, err3 := syscall.SlicePtrFromStrings(env)
	if err1 != nil || err2 != nil || err3 != nil {
		return syscall.EINVAL // a NUL
	}
	_, _, e := syscall.RawSyscall6(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argvp[0])),
		uintptr(unsafe.Pointer(&envp[0])), 0, uintptr(p[0]), uintptr(p[1]))
	return e
}
