package seccomp

import "golang.org/x/sys/unix"

// A Word is one of OpenBSD's promises, pledge(2), as far as a filter that sees no
// paths can keep it.
type Word struct {
	Name string
	Doc  string
	// Calls has a line for each of its rules: the system calls, then the conditions.
	Calls []string
}

var words = []Word{
	{Name: "stdio", Doc: "work with what is open: read, write, wait, map memory, threads, time. Must be there: no program starts without it"},
	{Name: "rpath", Doc: "open for reading, look at directories and attributes"},
	{Name: "wpath", Doc: "open for writing what exists; with rpath for both"},
	{Name: "cpath", Doc: "make, rename, link and remove; with wpath, make by opening"},
	{Name: "dpath", Doc: "make FIFOs and other nodes"},
	{Name: "tmppath", Doc: "make temporary files and remove them, as mkstemp(3) does. Anywhere: give it an unveil"},
	{Name: "inet", Doc: "internet sockets. Needs network: true. Implies sendfd and recvfd, since sendmsg(2) does both"},
	{Name: "unix", Doc: "unix sockets. Needs local_sockets: true. Implies sendfd and recvfd"},
	{Name: "dns", Doc: "UDP sockets and reading files: no path and no port can be told apart. Needs network: true"},
	{Name: "getpw", Doc: "read the user database: as rpath, without directories. A database other than files may need unix or prot_exec"},
	{Name: "fattr", Doc: "change modes, times and extended attributes"},
	{Name: "chown", Doc: "change owner and group, as far as the target user may"},
	{Name: "flock", Doc: "lock files"},
	{Name: "sendfd", Doc: "sendmsg(2), which can pass descriptors"},
	{Name: "recvfd", Doc: "recvmsg(2), which can receive descriptors"},
	{Name: "tty", Doc: "set the terminal's modes and foreground group"},
	{Name: "proc", Doc: "fork, signals, sessions, own limits and priority"},
	{Name: "exec", Doc: "execute, under the same promises, and what the dynamic loader needs for it: reading files and mapping them executable"},
	{Name: "prot_exec", Doc: "executable memory. A dynamically linked command needs it together with rpath, where exec is not promised"},
	{Name: "id", Doc: "the calls that set ids and limits, as far as the target user may"},
}

// A grant is rules that hold if one of some combinations is promised: words
// separated by spaces are alternatives, joined by + needed together.
type grant struct {
	words string
	rules []rule
}

// Calls that several words have.
const (
	reading = "rpath exec getpw dns"
	anySock = "inet unix"
	always  = ""
)

// openRule permits open and openat with exactly these of the flags that the
// promises are about.
func openRule(why string, flags ...uint64) []rule {
	const about = unix.O_ACCMODE | oCreate | oTruncate | oTmpfile
	return openMasked(why, about, flags...)
}

func openMasked(why string, mask uint64, flags ...uint64) []rule {
	return []rule{
		{"open", []cond{masked(1, mask, flags...)}, allow, why},
		{"openat", []cond{masked(2, mask, flags...)}, allow, why},
	}
}

var grants = []grant{
	{always, []rule{{calls: "exit exit_group restart_syscall rt_sigreturn uretprobe", do: allow}}},
	{"stdio", []rule{
		{calls: `read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek close close_range
			dup dup2 dup3 pipe pipe2 poll ppoll select pselect6
			epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
			signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
			io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents
			fstat fchdir fsync fdatasync sync_file_range ftruncate fallocate fadvise64 readahead getdents getdents64
			sendfile copy_file_range splice tee vmsplice umask`, do: allow},
		{calls: `brk munmap mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall membarrier mseal
			futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list set_tid_address rseq
			rseq_slice_yield arch_prctl map_shadow_stack`, do: allow},
		{calls: `rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
			alarm setitimer getitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
			time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep times getrusage`, do: allow},
		{calls: `getpid getppid gettid getpgrp getpgid getsid getuid geteuid getgid getegid getresuid getresgid getgroups
			capget getrandom uname sysinfo getrlimit getpriority sched_yield sched_getaffinity getcpu wait4 waitid`, do: allow},
		{calls: `recvfrom shutdown getsockname getpeername getsockopt`, do: allow},
		// A pair of datagrams, connected anew, would be what unix promises; inet and dns
		// connect as well.
		{"socketpair", []cond{masked(1, sockType, unix.SOCK_STREAM, unix.SOCK_SEQPACKET)}, allow, "not datagrams"},
		{"sendto", []cond{pointer(4, 0)}, allow, "no address"},
		{"mmap mprotect", []cond{none(2, unix.PROT_EXEC)}, allow, "not PROT_EXEC"},
		// fstat(3) of glibc 2.33 to 2.38. A path given with the flag is looked at as well.
		{"newfstatat", []cond{some(3, unix.AT_EMPTY_PATH)}, allow, "AT_EMPTY_PATH"},
		{"fcntl", []cond{is(1, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL)}, allow, "F_DUPFD, F_GETFD, F_SETFD, F_GETFL"},
		// On a terminal O_ASYNC sends SIGIO to its foreground group, which may be outside.
		{"fcntl", []cond{is(1, unix.F_SETFL), none(2, unix.O_ASYNC)}, allow, "F_SETFL, not O_ASYNC"},
		{"ioctl", []cond{is(1, unix.TIOCINQ, fionbio, fioclex, fionclex, unix.TCGETS, unix.TIOCGWINSZ)}, allow, "FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TCGETS, TIOCGWINSZ"},
		{"prlimit64", []cond{pointer(2, 0)}, allow, "asks"},
		{"clone", []cond{masked(0, 0x10f00, 0x10f00)}, allow, "a thread"}, // VM, FS, FILES, SIGHAND, THREAD
		{"prctl", []cond{is(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA, unix.PR_CAPBSET_READ, unix.PR_GET_DUMPABLE,
			unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_SET_SECCOMP)}, allow, "names, and confining oneself further"},
		{"prctl", []cond{is(0, unix.PR_SET_DUMPABLE), pointer(1, 0)}, allow, "PR_SET_DUMPABLE 0"}, // sftp-server and ssh-agent insist
		{calls: "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self", do: allow},
		{"execve", nil, allow, "the one with which the command begins, by a second filter; others as all that is not promised"},
	}},
	{reading, append(openRule("for reading", unix.O_RDONLY),
		rule{calls: "stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat", do: allow})},
	{"rpath", []rule{{calls: `chdir getcwd statfs fstatfs cachestat file_getattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
			getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat`, do: allow}}},
	{"wpath", append(openRule("for writing", unix.O_WRONLY, unix.O_WRONLY|oTruncate), rule{calls: "truncate", do: allow})},
	{"rpath+wpath", openRule("for reading and writing", unix.O_RDWR, unix.O_RDWR|oTruncate, oTruncate)},
	{"rpath+cpath", openRule("making it, for reading", oCreate)},
	{"wpath+cpath", append(openRule("making it, for writing", unix.O_WRONLY|oCreate, unix.O_WRONLY|oCreate|oTruncate, unix.O_WRONLY|oTmpfile), rule{calls: "creat", do: allow})},
	{"rpath+wpath+cpath", openRule("making it, for both", unix.O_RDWR|oCreate, unix.O_RDWR|oCreate|oTruncate, unix.O_RDWR|oTmpfile)},
	{"cpath", []rule{{calls: "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir", do: allow}}},
	{"dpath", []rule{{calls: "mknod mknodat", do: allow}}},
	{"tmppath", append(
		openMasked("making a new one", unix.O_ACCMODE|oCreate|oExclusive|oTruncate|oTmpfile,
			unix.O_RDWR|oCreate|oExclusive, unix.O_RDWR|oTmpfile, unix.O_RDWR|oTmpfile|oExclusive),
		rule{calls: "unlink", do: allow}, rule{"unlinkat", []cond{is(2, 0)}, allow, "not a directory"})},
	{anySock, []rule{
		{calls: "bind listen connect accept accept4 sendto setsockopt sendmsg sendmmsg recvmsg recvmmsg", do: allow},
	}},
	{"inet", []rule{{"socket", []cond{is(0, unix.AF_INET, unix.AF_INET6)}, allow, "IPv4, IPv6"}}},
	{"unix", []rule{{"socket", []cond{is(0, unix.AF_UNIX)}, allow, "unix"}, {calls: "socketpair", do: allow}}},
	{"dns", []rule{
		{"socket", []cond{is(0, unix.AF_INET, unix.AF_INET6), masked(1, sockType, unix.SOCK_DGRAM)}, allow, "IPv4, IPv6, datagrams"},
		{calls: "bind connect sendto sendmmsg setsockopt", do: allow},
	}},
	{"fattr", []rule{{calls: `chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat file_setattr
			setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat`, do: allow}}},
	{"chown", []rule{{calls: "chown fchown lchown fchownat", do: allow}}},
	{"flock", []rule{
		{calls: "flock", do: allow},
		{"fcntl", []cond{is(1, unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)}, allow, "locks"},
	}},
	{"sendfd", []rule{{calls: "sendmsg sendmmsg", do: allow}}},
	{"recvfd", []rule{{calls: "recvmsg recvmmsg", do: allow}}},
	{"tty", []rule{{"ioctl", []cond{is(1, unix.TCGETS2, unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2,
		unix.TIOCSWINSZ, unix.TIOCGPGRP, unix.TIOCSPGRP, unix.TIOCGSID, unix.TIOCOUTQ, unix.TCFLSH, unix.TCXONC, unix.TCSBRK, unix.TCSBRKP,
		unix.TIOCSBRK, unix.TIOCCBRK)}, allow, "modes, size, foreground group, flush, break"}}},
	{"proc", []rule{
		{calls: "fork vfork kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal setsid setpgid", do: allow},
		// Namespaces are refused before.
		{"clone", []cond{none(0, unix.CLONE_PTRACE|unix.CLONE_UNTRACED)}, allow, "not traced"},
		{calls: `setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_setattr sched_getattr
			sched_setaffinity sched_get_priority_max sched_get_priority_min sched_rr_get_interval ioprio_set ioprio_get`, do: allow},
		{"prctl", []cond{is(0, unix.PR_SET_PDEATHSIG, unix.PR_GET_PDEATHSIG, unix.PR_SET_CHILD_SUBREAPER, unix.PR_GET_CHILD_SUBREAPER)}, allow, "signal when the parent dies, subreaper"},
	}},
	{"proc id", []rule{{calls: "setrlimit prlimit64", do: allow}}},
	{"exec", []rule{{calls: "execve execveat", do: allow}}},
	{"exec prot_exec", []rule{{calls: "mmap mprotect", do: allow}}},
	{"prot_exec", []rule{{calls: "pkey_mprotect pkey_alloc pkey_free", do: allow}}},
	{"id", []rule{{calls: "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset", do: allow}}},
}
