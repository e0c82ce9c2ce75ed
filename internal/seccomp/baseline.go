package seccomp

import "golang.org/x/sys/unix"

// A denial is what one group of rules keeps from every command.
type denial struct {
	holds string
	rules []rule
}

// Denied, and the error that programs take for "not there, do without".
var (
	eperm  = errno(unix.EPERM)
	eacces = errno(unix.EACCES)
	enosys = errno(unix.ENOSYS)
	// pretend does nothing and says that it is done.
	pretend = errno(0)
)

// Flags and numbers that x/sys has under no name, or not for both machines.
const (
	// cloneNamespaces are all CLONE_NEW… flags, NEWTIME (0x80) too, clone(2).
	cloneNamespaces = 0x7e020080
	// harmlessUnshare are the flags of unshare(2) that concern the process alone:
	// FS, FILES, SYSVSEM, VM, SIGHAND, THREAD. New flags will be namespaces again.
	harmlessUnshare = 0x00050f00
	setID           = 0o6000
	oCreate         = 0x40
	oExclusive      = 0x80
	oTruncate       = 0x200
	oTmpfile        = 0x400000 // without O_DIRECTORY, which differs between machines
	sockType        = 0xf      // type without SOCK_NONBLOCK and SOCK_CLOEXEC
	tcpULP          = 31
	prSchedCore     = 62
	fionbio         = 0x5421
	fionclex        = 0x5450
	fioclex         = 0x5451
)

// own is a rule for calls whose argument names a process: 0 is the calling one.
// The kernel takes a pid_t, 32 bits. The process's own number is refused as well:
// a filter that is made before the process cannot know it.
func own(calls string, arg int) rule {
	return rule{calls, []cond{isNot(arg, 0)}, eperm, "the process named is not 0, oneself"}
}

// mode is a rule for calls that set the mode bits of a file.
func mode(calls string, arg int) rule {
	return rule{calls, []cond{some(arg, setID)}, eperm, "mode & 06000"}
}

// born is mode for open(2), which looks at its mode only if it may make a file.
func born(call string, flags int) rule {
	return rule{call, []cond{some(flags, oCreate|oTmpfile), some(flags+1, setID)}, eperm, "O_CREAT or O_TMPFILE, and mode & 06000"}
}

// baseline is what no command may do, whatever its policy says: what leads out of
// the jail or up, or to other processes past Landlock. All else is permitted.
//
// Most of these calls need a capability that the command does not have; the
// filter is there for the day a kernel forgets to ask. Those that need none are the
// point: System V IPC, queues, keyrings, limits and priorities of other processes
// with the same uid, set-id bits, TIOCSTI, io_uring, user namespaces.
var baseline = []denial{
	{"no other root, mounts or namespaces", []rule{
		{calls: `chroot pivot_root mount umount2 open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
			mount_setattr statmount listmount listns setns`, do: eperm},
		{"clone", []cond{some(0, cloneNamespaces)}, eperm, "a CLONE_NEW… flag"},
		{"unshare", []cond{{arg: 0, wide: true, mask: ^uint64(harmlessUnshare), not: true, in: []uint64{0}}}, eperm, "any but FS, FILES, SYSVSEM and the flags of threads"},
		// Its flags are in memory, where a filter cannot look. ENOSYS, since libc then
		// calls clone.
		{calls: "clone3", do: enosys},
	}},
	{"no look into other processes, no handles of theirs", []rule{
		{calls: "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp", do: eperm},
		own("move_pages migrate_pages get_robust_list", 0),
	}},
	{"no limit, priority or processor of other processes", []rule{
		own("prlimit64 sched_setparam sched_setscheduler sched_setattr sched_setaffinity", 0),
		{"setpriority", []cond{isNot(0, unix.PRIO_PROCESS)}, eperm, "a group's or a user's"},
		own("setpriority", 1),
		{"ioprio_set", []cond{isNot(0, 1)}, eperm, "a group's or a user's"}, // IOPRIO_WHO_PROCESS
		own("ioprio_set", 1),
		{"prctl", []cond{is(0, prSchedCore)}, eperm, "PR_SCHED_CORE"},
	}},
	{"no files past the tree", []rule{
		{calls: "open_by_handle_at name_to_handle_at fanotify_init fanotify_mark", do: eperm},
		{calls: "quotactl quotactl_fd acct swapon swapoff", do: eperm},
	}},
	{"no memory shared with outside", []rule{
		{calls: "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl", do: eperm},
		{calls: "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr", do: eperm},
		{calls: "add_key request_key keyctl", do: eperm},
	}},
	{"no set-id files", []rule{
		mode("chmod fchmod creat mkdir mknod", 1),
		mode("fchmodat fchmodat2 mkdirat mknodat", 2),
		born("open", 1),
		born("openat", 2),
		// Its flags and mode are in memory; callers fall back to openat.
		{calls: "openat2", do: enosys},
	}},
	{"no typing into the terminal", []rule{
		// TIOCSETD brings in drivers that nobody but pppd asks for.
		{"ioctl", []cond{is(1, unix.TIOCSTI, 0x541c, unix.TIOCSETD)}, eperm, "TIOCSTI, TIOCLINUX, TIOCSETD"},
		{calls: "vhangup", do: eperm},
	}},
	{"no way past this filter", []rule{
		{calls: "io_uring_setup io_uring_enter io_uring_register", do: enosys},
		// PER_LINUX32 and the like, and what weakens the layout of memory; ~0 asks.
		{"personality", []cond{isNot(0, 0, 1<<32-1)}, eperm, "neither 0 nor the query"},
	}},
	{"no rarely used doors to the kernel", []rule{
		{calls: "bpf perf_event_open userfaultfd lookup_dcookie", do: eperm},
		{calls: "modify_ldt iopl ioperm", do: eperm},
		{calls: "uselib ustat sysfs _sysctl nfsservctl vserver remap_file_pages", do: enosys},
	}},
	{"no change to the machine", []rule{
		{calls: "init_module finit_module delete_module create_module kexec_load kexec_file_load reboot", do: eperm},
		{calls: "settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname syslog", do: eperm},
		{calls: "lsm_set_self_attr", do: eperm},
	}},
}

// noDumps is for policies without core dumps. A limit of 1 keeps the kernel from
// starting the program that core_pattern names, outside and as root; 0 does not
// (core(5)). Programs that switch dumps off end where they cannot, so they are told
// that they could.
var noDumps = denial{"no core dumps, and their limit stays", []rule{
	{"setrlimit", []cond{is(0, unix.RLIMIT_CORE)}, pretend, "RLIMIT_CORE"},
	{"prlimit64", []cond{is(1, unix.RLIMIT_CORE), notPointer(2, 0)}, pretend, "sets RLIMIT_CORE"},
}}

// network is what the baseline says of sockets. EACCES, as socket(2) has it.
func network(o Options) []denial {
	var families []uint64
	if o.Network {
		families = append(families, unix.AF_INET, unix.AF_INET6)
	}
	if o.LocalSockets {
		families = append(families, unix.AF_UNIX)
	}
	sockets := denial{"no sockets but " + sockets(o), []rule{
		{"socket", []cond{isNot(0, families...)}, eacces, "another family"},
		// TIPC makes pairs as well.
		{"socketpair", []cond{isNot(0, unix.AF_UNIX)}, eacces, "another family than unix"},
	}}
	if !o.LocalSockets {
		// A datagram socket of a pair can be bound and connected anew, so it is a
		// socket(AF_UNIX) under another name. SOCK_RAW is SOCK_DGRAM there, unix(7).
		notPair := masked(1, sockType, unix.SOCK_STREAM, unix.SOCK_SEQPACKET)
		notPair.not = true
		sockets.rules = append(sockets.rules, rule{"socketpair", []cond{notPair}, eacces, "datagrams"})
	}
	if !o.Network {
		return []denial{sockets}
	}
	types, protocols := []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM}, []uint64{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	if o.Ports {
		types, protocols = types[:1], protocols[:2]
	}
	inet := is(0, unix.AF_INET, unix.AF_INET6)
	notType := masked(1, sockType, types...)
	notType.not = true
	sockets.rules = append(sockets.rules,
		rule{"socket", []cond{inet, notType}, eacces, "an internet socket of another type"},
		rule{"socket", []cond{inet, isNot(2, protocols...)}, eacces, "an internet socket of another protocol, MPTCP and raw among them"})
	if !o.Ports {
		return []denial{sockets}
	}
	past := denial{"no connection past the port rules", []rule{
		// Landlock looks at connect(2), which these do without.
		{"sendto sendmmsg", []cond{some(3, unix.MSG_FASTOPEN)}, eperm, "MSG_FASTOPEN"},
		{"sendmsg", []cond{some(2, unix.MSG_FASTOPEN)}, eperm, "MSG_FASTOPEN"},
		// SMC in place of TCP.
		{"setsockopt", []cond{is(1, unix.IPPROTO_TCP), is(2, tcpULP)}, eperm, "TCP_ULP"},
	}}
	// Landlock looks at bind(2), and listen(2) without it takes a port of the
	// kernel's choice. Where something may listen, that stays open: no port and no
	// family of a socket is seen here.
	if !o.Bind && !o.LocalSockets {
		past.rules = append(past.rules, rule{calls: "listen", do: eacces})
	}
	return []denial{sockets, past}
}

// sockets says which sockets there are.
func sockets(o Options) string {
	s := "pairs"
	if o.LocalSockets {
		s += " and unix"
	}
	switch {
	case o.Ports:
		s += " and TCP"
	case o.Network:
		s += " and TCP and UDP"
	}
	return s
}
