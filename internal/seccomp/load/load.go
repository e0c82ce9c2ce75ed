// Package load puts a program that package seccomp compiled in force, for the
// calling thread and what it executes, for good. The helper has it, as the
// target user.
package load

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// max is the kernel's own bound (BPF_MAXINSNS).
const max = 4096

// Decode reads a program: instructions of eight bytes, as in struct sock_filter,
// low byte first. What they mean is the kernel's to check: it takes no loops, no
// reads beyond the call, no falling off the end.
func Decode(b []byte) ([]unix.SockFilter, error) {
	if len(b) == 0 || len(b)%8 != 0 || len(b)/8 > max {
		return nil, errors.New("not a seccomp program")
	}
	p := make([]unix.SockFilter, len(b)/8)
	for i := range p {
		at := b[8*i:]
		p[i] = unix.SockFilter{Code: binary.LittleEndian.Uint16(at), Jt: at[2], Jf: at[3], K: binary.LittleEndian.Uint32(at[4:])}
	}
	return p, nil
}

// Encode is the reverse of Decode.
func Encode(p []unix.SockFilter) []byte {
	b := make([]byte, 0, 8*len(p))
	for _, i := range p {
		b = binary.LittleEndian.AppendUint16(b, i.Code)
		b = binary.LittleEndian.AppendUint32(append(b, i.Jt, i.Jf), i.K)
	}
	return b
}

// Filter puts the program in force for this thread, which must be locked and have
// no_new_privs. Not for the others: execve(2) ends them.
func Filter(p []unix.SockFilter) error {
	if len(p) == 0 || len(p) > max {
		return errors.New("not a seccomp program")
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}
