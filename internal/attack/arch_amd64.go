package attack

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// int80 is a system call by the i386 table.
func int80(nr uint32) int32

// callsElsewhere are those that only this architecture has.
var callsElsewhere = []Attack{
	{
		ID: "i386", What: "use the i386 table of system calls: int 0x80",
		By: BySeccomp, Errno: "SIGSYS", Proof: AsUser, do: func(Given) Outcome {
			const getpid = 20
			if r := int80(getpid); int(r) != unix.Getpid() {
				return held(unix.Errno(-r))
			}
			return escaped("got its pid by it")
		},
	},
	{
		ID: "x32", What: "use the x32 table of system calls",
		By: BySeccomp, Errno: "ENOSYS", Unproven: "needs a kernel with x32", do: func(Given) Outcome {
			_, err := sys(0x40000000 | unix.SYS_GETPID)
			return done(err, "got its pid by it")
		},
	},
	{
		ID: "modify-ldt", What: "use segments of one's own: modify_ldt",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			var b [64]byte
			_, err := sys(unix.SYS_MODIFY_LDT, 0, uintptr(unsafe.Pointer(&b)), 64)
			return passed(err)
		},
	},
	{
		ID: "io-ports", What: "reach the machine's ports: iopl, ioperm",
		By: BySeccomp, Errno: "EPERM", Unproven: "needs a kernel with iopl", do: func(Given) Outcome {
			if err := unix.Iopl(3); err == nil {
				return escaped("can")
			}
			return done(unix.Ioperm(0x80, 1, 1), "can")
		},
	},
}

// setIDElsewhere are the calls that newer architectures are without.
var setIDElsewhere = []Attack{
	setID("chmod", func(name string, mode uint32) error {
		if err := touch(name); err != nil {
			return err
		}
		return oldPath(unix.SYS_CHMOD, name, uintptr(mode))
	}),
	setID("open", func(name string, mode uint32) error {
		return oldPath(unix.SYS_OPEN, name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, uintptr(mode))
	}),
	setID("creat", func(name string, mode uint32) error {
		return oldPath(unix.SYS_CREAT, name, uintptr(mode))
	}),
	setID("mknod", func(name string, mode uint32) error {
		return oldPath(unix.SYS_MKNOD, name, uintptr(unix.S_IFREG|mode), 0)
	}),
	unproven("mkdir drops the bit, as far as is known", setID("mkdir", func(name string, mode uint32) error {
		return oldPath(unix.SYS_MKDIR, name, uintptr(mode))
	})),
}

func oldPath(nr uintptr, name string, more ...uintptr) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, err = sys(nr, append([]uintptr{uintptr(unsafe.Pointer(p))}, more...)...)
	return err
}
