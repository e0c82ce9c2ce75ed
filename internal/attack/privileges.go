package attack

import (
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// state is what a careless start leaves to the command.
var state = []Attack{
	{
		ID: "root-again", What: "become root again",
		By: ByDrop, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			for _, f := range []func() error{
				func() error { return unix.Setresuid(-1, 0, -1) },
				func() error { return unix.Setreuid(-1, 0) },
				func() error { return unix.Setuid(0) },
				func() error { return unix.Setresgid(-1, 0, -1) },
			} {
				if f() == nil {
					return escaped("has uid or gid 0")
				}
			}
			r, e, s := unix.Getresuid()
			rg, eg, sg := unix.Getresgid()
			if r == 0 || e == 0 || s == 0 || rg == 0 || eg == 0 || sg == 0 {
				return escaped("has uid or gid 0")
			}
			return held(unix.Setresuid(0, 0, 0))
		},
	},
	{
		ID: "groups-kept", What: "find a group that the caller or root is in",
		By: ByDrop, Errno: "none", Proof: AsRoot, do: func(Given) Outcome {
			groups, err := unix.Getgroups()
			if err != nil {
				return held(err)
			}
			if len(groups) == 0 && unix.Getegid() != 0 {
				return Outcome{Held, "none"}
			}
			return escaped("is in one")
		},
	},
	{
		ID: "groups-set", What: "join a group",
		By: ByDrop, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			return done(unix.Setgroups([]int{0}), "is in group 0")
		},
	},
	{
		ID: "capabilities-kept", What: "find a capability in any set",
		By: ByDrop, Errno: "none", Proof: AsRoot, do: func(Given) Outcome {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var sets [2]unix.CapUserData
			if err := unix.Capget(&header, &sets[0]); err != nil {
				return held(err)
			}
			for _, s := range sets {
				if s.Effective|s.Permitted|s.Inheritable != 0 {
					return escaped("has one")
				}
			}
			return Outcome{Held, "none"}
		},
	},
	{
		ID: "no-new-privs-off", What: "find no_new_privs off",
		By: ByNoNewPrivs, Errno: "on", Proof: AsUser, do: func(Given) Outcome {
			on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if err != nil {
				return held(err)
			}
			if on == 1 {
				return Outcome{Held, "on"}
			}
			return escaped("it is off")
		},
	},
	{
		ID: "filter-off", What: "find no system call filter",
		By: BySeccomp, Errno: "on", Proof: AsUser, do: func(Given) Outcome {
			mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
			if err != nil {
				return held(err)
			}
			if mode == unix.SECCOMP_MODE_FILTER {
				return Outcome{Held, "on"}
			}
			return escaped("there is none")
		},
	},
	{
		ID: "setuid-file", What: "run a program in the jail that is setuid root",
		By: ByNoNewPrivs, Errno: "ordinary", Proof: AsUser, do: func(g Given) Outcome {
			return held(unix.Exec(g["setuid"], []string{"jailctl-probe", "am-i-root"}, nil))
		},
	},
	{
		ID: "core-dump", What: "be allowed a core dump, which the host's rules take outside",
		By: ByLimits, Errno: "1", Proof: AsUser, do: func(Given) Outcome {
			var l unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
				return held(err)
			}
			if l.Max <= 1 { // too little for any
				return Outcome{Held, strconv.FormatUint(l.Max, 10)}
			}
			return escaped("may write one")
		},
	},
	{
		ID: "core-dump-piped", What: "choose to be dumped to the program that kernel.core_pattern names: a limit of 1 stops it, 0 does not",
		By: BySeccomp, Errno: "kept", Proof: AsUser, do: func(Given) Outcome {
			var was, is unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &was); err != nil {
				return held(err)
			}
			if was.Max == 0 {
				return Outcome{NotApplicable, "the hard limit is 0"}
			}
			other := unix.Rlimit{Max: was.Max}
			if was.Cur == 0 {
				other.Cur = 1
			}
			if err := unix.Setrlimit(unix.RLIMIT_CORE, &other); err != nil {
				return held(err)
			}
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &is); err != nil {
				return held(err)
			}
			if is == was {
				return Outcome{Held, "kept"}
			}
			return escaped("chose another limit")
		},
	},
	{
		ID: "hard-limit", What: "raise a hard limit",
		By: ByDrop, Errno: "EPERM", Unproven: "needs CAP_SYS_RESOURCE, which root in a container has not", do: func(Given) Outcome {
			var l unix.Rlimit
			if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &l); err != nil {
				return held(err)
			}
			l.Max++
			return done(unix.Prlimit(0, unix.RLIMIT_NOFILE, &l, nil), "raised")
		},
	},
	{
		ID: "environment", What: "find a variable of the caller's that no policy names",
		By: ByClean, Errno: "unset", Start: PassVariable, Proof: AsUser, do: func(g Given) Outcome {
			if v, ok := unix.Getenv("JAILCTL_ATTACK"); ok {
				return g.secret([]byte(v), "found it")
			}
			return Outcome{Held, "unset"}
		},
	},
	{
		ID: "signals-blocked", What: "find signals blocked",
		By: ByClean, Errno: "none", Start: BlockSignals, Proof: AsUser, do: func(Given) Outcome {
			var blocked unix.Sigset_t
			if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &blocked); err != nil {
				return held(err)
			}
			if blocked.Val[0]&(1<<(unix.SIGUSR1-1)) != 0 {
				return escaped("SIGUSR1 is blocked")
			}
			return Outcome{Held, "none"}
		},
	},
	{
		ID: "signals-ignored", What: "find signals ignored",
		By: ByClean, Errno: "none", Start: BlockSignals, Proof: AsUser, do: func(Given) Outcome {
			// One of the few that the Go runtime leaves as they are.
			var action [4]uint64
			if _, err := sys(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCONT), 0, uintptr(unsafe.Pointer(&action)), 8); err != nil {
				return held(err)
			}
			if action[0] == 1 {
				return escaped("SIGCONT is ignored")
			}
			return Outcome{Held, "none"}
		},
	},
}

// AmIRoot is what the setuid copy of the probe says.
func AmIRoot() Outcome {
	if unix.Geteuid() == 0 {
		return escaped("became root")
	}
	return Outcome{Held, "ordinary"}
}

// privileges are files that give something away to people outside, and doors for
// processes inside.
var privileges = append([]Attack{
	setID("fchmod", func(name string, mode uint32) error {
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o700)
		if err != nil {
			return err
		}
		return unix.Fchmod(fd, mode)
	}),
	setID("fchmodat", func(name string, mode uint32) error {
		if err := touch(name); err != nil {
			return err
		}
		return path(unix.SYS_FCHMODAT, name, uintptr(mode))
	}),
	setID("fchmodat2", func(name string, mode uint32) error {
		if err := touch(name); err != nil {
			return err
		}
		return path(unix.SYS_FCHMODAT2, name, uintptr(mode), 0)
	}),
	setID("openat", func(name string, mode uint32) error {
		return path(unix.SYS_OPENAT, name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, uintptr(mode))
	}),
	setID("openat2", func(name string, mode uint32) error {
		_, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_CLOEXEC, Mode: uint64(mode)})
		return err
	}),
	setID("tmpfile", func(name string, mode uint32) error {
		fd, err := unix.Open(name[:strings.LastIndex(name, "/")], unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, mode)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&setIDs == 0 {
			return unix.EINVAL
		}
		return errMade
	}),
	setID("mknodat", func(name string, mode uint32) error {
		return path(unix.SYS_MKNODAT, name, uintptr(unix.S_IFREG|mode), 0)
	}),
	unproven("mkdir drops the bit, as far as is known", setID("mkdirat", func(name string, mode uint32) error {
		return path(unix.SYS_MKDIRAT, name, uintptr(mode))
	})),
	{
		ID: "file-capability", What: "give a file capabilities, for people outside",
		By: ByDrop, Errno: "EPERM", Proof: AsRoot, do: func(g Given) Outcome {
			name := g["dir"] + "/capable"
			if err := touch(name); err != nil {
				return held(err)
			}
			all := make([]byte, 20) // vfs_cap_data, revision 2
			all[3], all[4] = 2, 1
			return done(unix.Setxattr(name, "security.capability", all, 0), "gave")
		},
	},
	{
		ID: "memfd-exec", What: "run a program that is in no directory",
		Open:  "programs need memfd_create; promises without exec refuse it",
		Proof: AsUser, do: func(Given) Outcome {
			fd, err := unix.MemfdCreate("attack", 0)
			if err != nil {
				return held(err)
			}
			// Not a program: the kernel looks whether it may be executed before that.
			_, err = unix.Write(fd, []byte("nothing"))
			if err != nil {
				return held(err)
			}
			empty, _ := unix.BytePtrFromString("")
			_, err = sys(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)), 0, 0, unix.AT_EMPTY_PATH)
			return passed(err, unix.ENOEXEC)
		},
	},
	{
		ID: "written-exec", What: "write a program into the jail and run it",
		Open:  "the default unveils the whole jail for it; an unveil without x refuses it",
		Proof: AsUser, do: func(g Given) Outcome {
			name := g["dir"] + "/program"
			fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o700)
			if err != nil {
				return held(err)
			}
			unix.Write(fd, []byte("nothing"))
			unix.Close(fd)
			return passed(unix.Exec(name, []string{"program"}, nil), unix.ENOEXEC)
		},
	},
}, setIDElsewhere...)

const setIDs = unix.S_ISUID | unix.S_ISGID

// errMade says that a file was seen to have the bit.
var errMade = error(unix.Errno(1 << 20))

// setID makes a file with the set-uid bit and looks whether it has it.
func setID(call string, make func(name string, mode uint32) error) Attack {
	mode := uint32(unix.S_ISUID | 0o755)
	if strings.HasPrefix(call, "mkdir") {
		mode = unix.S_ISGID | 0o755
	}
	errno := "EPERM"
	if call == "openat2" {
		errno = "ENOSYS"
	}
	return Attack{
		ID: "set-id-" + call, What: "leave a set-id file for people outside: " + call,
		By: BySeccomp, Errno: errno, Proof: AsUser, do: func(g Given) Outcome {
			name := g["dir"] + "/set-id-" + call
			err := make(name, mode)
			if err == errMade {
				return escaped("made one")
			}
			if err != nil {
				return held(err)
			}
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil {
				return held(err)
			}
			if st.Mode&setIDs == 0 {
				return Outcome{Held, "the bit is not there"}
			}
			return escaped("made one")
		},
	}
}

func unproven(why string, a Attack) Attack {
	a.Proof, a.Unproven = Nowhere, why
	return a
}

func touch(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o700)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// path makes a call that takes a directory descriptor, a path, and more.
func path(nr uintptr, name string, more ...uintptr) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, err = sys(nr, append([]uintptr{at, uintptr(unsafe.Pointer(p))}, more...)...)
	return err
}
