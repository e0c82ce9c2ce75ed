package attack

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are doors into the kernel that programs rarely need, and ways past a
// filter of system calls.
var calls = append([]Attack{
	{
		ID: "io-uring", What: "make sockets and open files past the filter: io_uring",
		By: BySeccomp, Errno: "ENOSYS", Proof: AsUser, do: func(Given) Outcome {
			var params [128]byte
			_, err := sys(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
			return done(err, "has a ring")
		},
	},
	{
		ID: "bpf", What: "load a program into the kernel: bpf",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			attr := [32]uint32{2, 4, 4, 1} // an array of one
			_, err := sys(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
			return done(err, "made a map")
		},
	},
	{
		ID: "userfaultfd", What: "hold the kernel up at a page fault: userfaultfd",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			_, err := sys(unix.SYS_USERFAULTFD, 1) // UFFD_USER_MODE_ONLY
			return done(err, "can")
		},
	},
	{
		ID: "perf", What: "count events in oneself: perf_event_open",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome { return perf(0) },
	},
	{
		ID: "personality", What: "switch off the random layout of memory",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			_, err := sys(unix.SYS_PERSONALITY, 0x0040000) // ADDR_NO_RANDOMIZE
			return done(err, "did")
		},
	},
	{
		ID: "quotactl", What: "call into the file systems' quotas",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			_, err := sys(unix.SYS_QUOTACTL, 0x800001<<8, 0, 0, 0) // Q_SYNC
			return passed(err)
		},
	},
	{
		ID: "lsm-attr", What: "set attributes of a security module",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			_, err := sys(unix.SYS_LSM_SET_SELF_ATTR, 100, 0, 0, 0)
			return passed(err, unix.EINVAL, unix.EOPNOTSUPP, unix.EFAULT)
		},
	},
	{
		ID: "unknown-call", What: "make a call that is newer than the filter",
		By: BySeccomp, Errno: "ENOSYS", Unproven: "this kernel has none", do: func(Given) Outcome {
			_, err := sys(600)
			return passed(err)
		},
	},
}, callsElsewhere...)

// machine is what changes the whole machine. All have arguments that do nothing.
var machine = []Attack{
	{
		ID: "module", What: "load a kernel module",
		By: BySeccomp, Errno: "EPERM", Unproven: "needs a kernel with modules", do: func(Given) Outcome {
			_, err := sys(unix.SYS_FINIT_MODULE, none, 0, 0)
			return passed(err, unix.EBADF, unix.EFAULT)
		},
	},
	{
		ID: "module-unload", What: "unload a kernel module",
		By: BySeccomp, Errno: "EPERM", Unproven: "needs a kernel with modules", do: func(Given) Outcome {
			_, err := sys(unix.SYS_DELETE_MODULE, 0, 0)
			return passed(err, unix.EFAULT)
		},
	},
	{
		ID: "kexec", What: "prepare another kernel",
		By: BySeccomp, Errno: "EPERM", Unproven: "needs a kernel with kexec", do: func(Given) Outcome {
			_, err := sys(unix.SYS_KEXEC_LOAD, 0, none, 0, none) // too many segments, unknown flags
			return passed(err, unix.EINVAL)
		},
	},
	{
		ID: "reboot", What: "restart the machine",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_REBOOT, 0, 0, 0, 0) // wrong magic numbers
			return passed(err, unix.EINVAL)
		},
	},
	{
		ID: "swap", What: "swap to a file of one's own",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_SWAPON, 0, 0)
			return passed(err, unix.EFAULT)
		},
	},
	{
		ID: "swap-off", What: "take swap space away",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_SWAPOFF, 0)
			return passed(err, unix.EFAULT)
		},
	},
	{
		ID: "hostname", What: "rename the machine",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_SETHOSTNAME, 0, none)
			return passed(err, unix.EINVAL)
		},
	},
	{
		ID: "domainname", What: "rename the machine's domain",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_SETDOMAINNAME, 0, none)
			return passed(err, unix.EINVAL)
		},
	},
	{
		ID: "clock", What: "set the clock",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_SETTIMEOFDAY, 0, 0)
			return passed(err)
		},
	},
	{
		ID: "clock-adjust", What: "let the clock run faster",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := unix.Adjtimex(&unix.Timex{Modes: 0x4000}) // ADJ_TICK, of no length
			return passed(err, unix.EINVAL)
		},
	},
	{
		ID: "kernel-log", What: "learn about the kernel's log",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := unix.Klogctl(10, nil) // SYSLOG_ACTION_SIZE_BUFFER
			return passed(err)
		},
	},
	{
		ID: "accounting", What: "have the kernel write a file: acct",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			_, err := sys(unix.SYS_ACCT, 1) // a path at an impossible address
			return passed(err, unix.EFAULT)
		},
	},
}
