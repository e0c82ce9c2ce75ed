package load

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A command without the promise exec must be executed by a process whose filter
// is already in force, and a filter cannot count. So such a filter permits execve(2)
// with one address as path, Once. It is below vm.mmap_min_addr, where only
// CAP_SYS_RAWIO may have memory: Reserve takes a page there while still root, and
// the command, which has no capability, can put no path there.

// Once is that address. It is in the first page since vm.mmap_min_addr can be 4096.
const Once = 8

// once is the page under an address that Go may hold: pointers below 4096 are
// errors to the runtime.
var once []byte

const page0, oldSize0 = 0, 0

// Reserve takes the page. It stays closed until Exec, so that a nil pointer still
// is a fault.
func Reserve() error {
	size := unix.Getpagesize()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	// With an old size of 0, a shared mapping gets a second address, mremap(2).
	_, _, e := unix.RawSyscall6(unix.SYS_MREMAP, uintptr(unsafe.Pointer(&b[0])), oldSize0, uintptr(size),
		unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, page0, 0)
	if e == 0 {
		_, _, e = unix.RawSyscall(unix.SYS_MPROTECT, page0, uintptr(size), unix.PROT_NONE)
	}
	if e != 0 {
		return e
	}
	once = b
	return nil
}

// Sealed reports, after the drop, whether this process could not take the page
// now, and so whether the command cannot: not so where vm.mmap_min_addr is 0.
func Sealed() bool {
	_, _, e := unix.RawSyscall6(unix.SYS_MMAP, page0, uintptr(unix.Getpagesize()), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
	return once != nil && (e == unix.EPERM || e == unix.EACCES)
}

// Exec is execve(2) by way of Once. It returns only if that failed, and may be
// called again, with another path.
func Exec(path string, argv, env []string) error {
	if len(path) >= unix.PathMax-Once || once == nil {
		return syscall.ENAMETOOLONG
	}
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		return errors.New("no argv[0]")
	}
	copy(once[Once:], path+"\x00")
	if _, _, e := unix.RawSyscall(unix.SYS_MPROTECT, page0, uintptr(len(once)), unix.PROT_READ); e != 0 {
		return e
	}
	_, _, e := unix.RawSyscall(unix.SYS_EXECVE, Once, uintptr(unsafe.Pointer(&argvp[0])), uintptr(unsafe.Pointer(&envp[0])))
	return e
}
