package attack

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is where the victim has the secret. Attacker and victim are the same
// static program, so it has the same address in both.
var memory [64]byte

// processes are the ways to reach a process outside that has the same uid.
var processes = []Attack{
	{
		ID: "ptrace", What: "trace a process outside",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			return done(unix.PtraceAttach(g.number("victim")), "attached")
		},
	},
	{
		ID: "process-vm-read", What: "read a process's memory",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			b := make([]byte, len(memory))
			local := []unix.Iovec{{Base: &b[0]}}
			local[0].SetLen(len(b))
			remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&memory)), Len: len(memory)}}
			if _, err := unix.ProcessVMReadv(g.number("victim"), local, remote, 0); err != nil {
				return held(err)
			}
			return g.secret(b, "read the memory of a process outside")
		},
	},
	{
		ID: "process-vm-write", What: "write into a process's memory",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			local := []unix.Iovec{{Base: &memory[0]}}
			local[0].SetLen(1)
			remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&memory)), Len: 1}}
			_, err := unix.ProcessVMWritev(g.number("victim"), local, remote, 0)
			return done(err, "wrote into a process outside")
		},
	},
	{
		ID: "process-madvise", What: "have another process's memory paged out",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(g Given) Outcome {
			fd, err := unix.PidfdOpen(g.number("victim"), 0)
			if err != nil {
				return held(err)
			}
			v := unix.Iovec{Base: (*byte)(unsafe.Pointer(uintptr(unsafe.Pointer(&memory)) &^ 4095))}
			v.SetLen(4096)
			_, err = sys(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, unix.MADV_COLD, 0)
			return done(err, "did")
		},
	},
	{
		ID: "process-mrelease", What: "have the memory of a dying process taken away",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			fd, err := unix.PidfdOpen(g.number("victim"), 0)
			if err != nil {
				return held(err)
			}
			_, err = sys(unix.SYS_PROCESS_MRELEASE, uintptr(fd), 0)
			return passed(err, unix.EINVAL) // it is not dying
		},
	},
	{
		ID: "pidfd-getfd", What: "take a descriptor out of another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			fd, err := unix.PidfdOpen(g.number("victim"), 0)
			if err != nil {
				return held(err)
			}
			_, err = unix.PidfdGetfd(fd, 0, 0)
			return done(err, "has a process's standard input")
		},
	},
	{
		ID: "kcmp", What: "compare kernel objects with another process's",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			_, err := sys(unix.SYS_KCMP, uintptr(unix.Getpid()), uintptr(g.number("victim")), 1, 0, 0) // KCMP_VM
			return done(err, "compared memories")
		},
	},
	{
		ID: "get-robust-list", What: "learn an address of another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			var head, size uintptr
			_, err := sys(unix.SYS_GET_ROBUST_LIST, uintptr(g.number("victim")), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
			return done(err, "learned it")
		},
	},
	{
		ID: "move-pages", What: "learn where another process's memory lies",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			page, status := uintptr(unsafe.Pointer(&memory)), int32(0)
			_, err := sys(unix.SYS_MOVE_PAGES, uintptr(g.number("victim")), 1, uintptr(unsafe.Pointer(&page)), 0, uintptr(unsafe.Pointer(&status)), 0)
			return done(err, "learned it")
		},
	},
	{
		ID: "migrate-pages", What: "move another process's memory to another node",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			node := uint64(1)
			_, err := sys(unix.SYS_MIGRATE_PAGES, uintptr(g.number("victim")), 64, uintptr(unsafe.Pointer(&node)), uintptr(unsafe.Pointer(&node)))
			return done(err, "could have: from node 0 to node 0")
		},
	},
	{
		ID: "perf-other", What: "count events in another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome { return perf(g.number("victim")) },
	},
	signal("kill", "kill(2)", func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }),
	signal("kill-group", "kill(2) of its process group", func(pid int) error { return unix.Kill(-pid, unix.SIGKILL) }),
	signal("tkill", "tkill(2)", func(pid int) error {
		_, err := sys(unix.SYS_TKILL, uintptr(pid), uintptr(unix.SIGKILL))
		return err
	}),
	signal("tgkill", "tgkill(2)", func(pid int) error { return unix.Tgkill(pid, pid, unix.SIGKILL) }),
	signal("sigqueue", "rt_sigqueueinfo(2)", func(pid int) error {
		info := queued
		_, err := sys(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(unix.SIGKILL), uintptr(unsafe.Pointer(&info)))
		return err
	}),
	signal("tgsigqueue", "rt_tgsigqueueinfo(2)", func(pid int) error {
		info := queued
		_, err := sys(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(pid), uintptr(pid), uintptr(unix.SIGKILL), uintptr(unsafe.Pointer(&info)))
		return err
	}),
	signal("pidfd-signal", "pidfd_send_signal(2)", func(pid int) error {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}),
	sigio("sigio", "F_SETOWN", func(fd uintptr, pid int) error {
		_, err := unix.FcntlInt(fd, unix.F_SETOWN, pid)
		return err
	}),
	sigio("sigio-ex", "F_SETOWN_EX", func(fd uintptr, pid int) error {
		owner := [2]int32{1, int32(pid)} // F_OWNER_PID
		_, err := sys(unix.SYS_FCNTL, fd, unix.F_SETOWN_EX, uintptr(unsafe.Pointer(&owner)))
		return err
	}),
	{
		ID: "prlimit", What: "set a limit of another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			return done(unix.Prlimit(g.number("victim"), unix.RLIMIT_CORE, &unix.Rlimit{}, nil), "set one")
		},
	},
	{
		ID: "affinity", What: "choose the processors of another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(0, &set); err != nil {
				return held(err)
			}
			return done(unix.SchedSetaffinity(g.number("victim"), &set), "chose")
		},
	},
	{
		ID: "scheduler", What: "choose the scheduling of another process",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			var param int32
			_, err := sys(unix.SYS_SCHED_SETSCHEDULER, uintptr(g.number("victim")), unix.SCHED_BATCH, uintptr(unsafe.Pointer(&param)))
			return done(err, "chose")
		},
	},
	{
		ID: "scheduler-param", What: "the same: sched_setparam",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			var param int32
			_, err := sys(unix.SYS_SCHED_SETPARAM, uintptr(g.number("victim")), uintptr(unsafe.Pointer(&param)))
			return done(err, "chose")
		},
	},
	{
		ID: "scheduler-attr", What: "the same: sched_setattr",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			return done(unix.SchedSetAttr(g.number("victim"), &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}, 0), "chose")
		},
	},
	{
		ID: "priority", What: "slow another process down",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			return done(unix.Setpriority(unix.PRIO_PROCESS, g.number("victim"), 5), "did")
		},
	},
	{
		ID: "priority-group", What: "slow a process group down",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			return done(unix.Setpriority(unix.PRIO_PGRP, g.number("victim"), 5), "did")
		},
	},
	{
		ID: "priority-user", What: "slow all processes of a user down",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			return done(unix.Setpriority(unix.PRIO_USER, unix.Getuid(), 0), "could have: by 0")
		},
	},
	{
		ID: "ioprio", What: "choose another process's input and output priority",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome { return ioprio(1, g.number("victim")) },
	},
	{
		ID: "ioprio-group", What: "the same for a process group",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome { return ioprio(2, g.number("victim")) },
	},
	{
		ID: "core-scheduling", What: "share another process's core scheduling cookie",
		By: BySeccomp, Errno: "EPERM", Unproven: "needs a kernel with core scheduling, and threads of a core",
		do: func(g Given) Outcome {
			return done(unix.Prctl(62, 2, uintptr(g.number("victim")), 0, 0), "shares it") // PR_SCHED_CORE, SHARE_TO
		},
	},
	{
		ID: "pid-exists", What: "learn whether a pid exists outside",
		Open:  "there is no pid namespace",
		Proof: AsUser, do: func(g Given) Outcome {
			_, err := unix.Getpgid(g.number("victim"))
			return done(err, "it does, and in which group")
		},
	},
}

// queued is a siginfo of sigqueue(3): si_code is SI_QUEUE.
var queued = [32]int32{0: int32(unix.SIGKILL), 2: -1}

func signal(id, by string, send func(pid int) error) Attack {
	return Attack{
		ID: id, What: "kill a process outside by " + by,
		By: ByLandlock, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			pid := g.number("victim")
			if pid < 2 {
				return na("no victim")
			}
			return done(send(pid), "sent SIGKILL to "+strconv.Itoa(pid))
		},
	}
}

// sigio has the kernel send the signal, when a pipe has something to read.
func sigio(id, by string, own func(fd uintptr, pid int) error) Attack {
	return Attack{
		ID: id, What: "have the kernel kill a process outside: " + by + ", F_SETSIG, O_ASYNC",
		By: ByLandlock, Errno: "alive", Proof: AsUser, do: func(g Given) Outcome {
			pid := g.number("victim")
			if pid < 2 {
				return na("no victim")
			}
			var p [2]int
			if err := unix.Pipe(p[:]); err != nil {
				return held(err)
			}
			if err := own(uintptr(p[0]), pid); err != nil {
				return held(err)
			}
			if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETSIG, int(unix.SIGKILL)); err != nil {
				return held(err)
			}
			if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETFL, unix.O_ASYNC); err != nil {
				return held(err)
			}
			if _, err := unix.Write(p[1], []byte("!")); err != nil {
				return held(err)
			}
			return Outcome{Tried, "killed it, if it is gone"}
		},
	}
}

func ioprio(which, who int) Outcome {
	const bestEffort4 = 2<<13 | 4
	_, err := sys(unix.SYS_IOPRIO_SET, uintptr(which), uintptr(who), bestEffort4)
	return done(err, "chose")
}

// perf counts the processor time of a process.
func perf(pid int) Outcome {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	attr.Size = uint32(unsafe.Sizeof(attr))
	_, err := unix.PerfEventOpen(&attr, pid, -1, -1, 0)
	return done(err, "counts")
}
