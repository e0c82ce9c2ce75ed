// Jailhelper runs one permitted command in a jail. It is installed setuid root
// and started by jailctl, whose word it does not take for anything: who asks
// comes from the kernel, what is allowed from files that only root can write.
//
// This file is the whole privileged path, in order: harden, who, what, may,
// enter, drop, confine, exec. Every error before exec ends it, with nothing run.
// The caller controls argv, environment, working directory, descriptors, limits,
// signals, priority and the message; the comments say what stops each.
//
// It never writes to descriptors 0 to 2: they are the caller's, and some files
// judge a write by the writer's rights, not the opener's (CVE-2014-0181).
package main

import (
	"bytes"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	landlock "jailctl/internal/confine"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/internal/seccomp/load"
	"jailctl/ipc"
	"jailctl/policy"
)

const (
	// life is the seconds after which the kernel ends the helper, wherever it is.
	life = 20
	// patience is the seconds that the one request may take to arrive.
	patience = 3
	// maxText and maxCompiled bound the two policy files, in bytes; apply refuses
	// to write larger ones.
	maxText     = 256 << 10
	maxCompiled = 1 << 20
	// unusable is the exit status for every end before exec.
	unusable = 125
)

// stranger is all that is said to a caller whom no rule permits anything, be the
// jail unknown, forbidden or broken.
const stranger = "no jail of that name is open to you; those that are: jailctl list"

// The main thread is the one that changes its identity and calls execve.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(); err != nil {
		reply(err)
	}
	unix.Exit(unusable)
}

// run is one request. It returns only if nothing was run.
func run() error {
	if err := harden(); err != nil {
		return at("harden", err)
	}
	who, err := who()
	if err != nil {
		return at("who", err)
	}
	request, err := what()
	if err != nil {
		return refuse(who, request, 0, false, err.Error())
	}
	if request.Verb == ipc.List {
		return at("list", list(who))
	}
	grant, err := may(who, request)
	if err != nil {
		return at("may", err)
	}
	if request.Verb == ipc.Explain {
		return explain(request.Jail, grant)
	}
	if err := enter(grant.Root); err != nil {
		return at("enter", err)
	}
	if err := drop(grant); err != nil {
		return at("drop", err)
	}
	programs, password, err := confine(grant)
	if err != nil {
		return at("confine", err)
	}
	return at("exec", exec(grant, programs, password))
}

// 1. harden: from here on the caller influences nothing but the message.
func harden() error {
	// Linked without the entry point, the runtime would already have obeyed the
	// caller's environment. Nobody can be told yet.
	if entered != 1 {
		unix.Exit(unusable)
	}
	// An alarm that the caller cannot hold back: default action, which kills; not
	// blocked; counting anew. First, because all else may touch a file of the
	// caller's, on a file system that the caller serves (fuse(4)). A stopped process
	// would outwait it, so the terminal may not stop this one before it is the
	// command. The other timers would reach the command.
	if defaultSignals() != nil || stops(sigIgn) != nil || unblockSignals() != nil || timers(life) != nil {
		unix.Exit(unusable)
	}
	// The socket: without it there is nobody to answer. SO_PEERCRED names
	// who made the pair: somebody else's socket is not answered.
	domain, err1 := unix.GetsockoptInt(ipc.Socket, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, err2 := unix.GetsockoptInt(ipc.Socket, unix.SOL_SOCKET, unix.SO_TYPE)
	if err1 != nil || err2 != nil || domain != unix.AF_UNIX || kind != unix.SOCK_SEQPACKET {
		unix.Exit(unusable)
	}
	peer, err := unix.GetsockoptUcred(ipc.Socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Uid != callerUID || peer.Pid == 0 {
		unix.Exit(unusable)
	}
	// no_new_privs, a nosuid mount, ptrace or a copy: the set-uid bit did not
	// count. entryEUID is the kernel's word; the ids are read back because a
	// seccomp filter can pretend that the entry point's setresuid succeeded.
	if ruid, euid, suid := getresuid(); entryEUID != 0 || ruid != 0 || euid != 0 || suid != 0 {
		return failed("cannot act as root: the helper is not installed setuid root, or runs where set-uid does not count (no_new_privs, nosuid or a tracer)", nil)
	}
	// With fs.suid_dumpable=1 a process that changes its uid is open to ptrace by
	// the new one: here between setresuid and the prctl after it, with root's
	// threads in the same memory (proc(5)).
	if d, err := suidDumpable(); err != nil || d == 1 {
		return failed("cannot run safely while fs.suid_dumpable is 1; root sets it with: sysctl fs.suid_dumpable=0", err)
	}
	if closedFDs != 0 {
		return refused("descriptors 0 to 5 must be open")
	}
	if callerEnviron != 0 {
		return refused("the helper takes no environment")
	}
	// A descriptor that leads outside would outlive the chroot: 0 to 5 are vetted,
	// all others closed. The Go runtime needs none of its own.
	if err := unix.CloseRange(ipc.Death+1, 1<<32-1, 0); err != nil {
		return failed("cannot close inherited descriptors", err)
	}
	unix.CloseOnExec(ipc.Socket)
	for fd := 0; fd <= ipc.Death; fd++ {
		if err := vet(fd); err != nil {
			return err
		}
	}
	// Modes of what root makes, which is nothing; no core, no ptrace, and /proc
	// closed to the caller, whatever fs.suid_dumpable says.
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failed("cannot become undumpable", err)
	}
	return nil
}

// vet refuses descriptors that are more than a stream of bytes. From a directory
// the command could walk out with fchdir(2); an O_PATH descriptor is a place as
// well; through a Unix socket it could be handed one later (recvmsg(2),
// SCM_RIGHTS).
func vet(fd int) error {
	if fd == ipc.Socket {
		return nil // by harden
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return failed("cannot examine descriptor "+strconv.Itoa(fd), err)
	}
	kind := st.Mode & unix.S_IFMT
	if fd > ipc.Socket {
		if kind != unix.S_IFIFO || flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_PATH != 0 {
			return refused("descriptors 4 and 5 must be pipes")
		}
		unix.CloseOnExec(fd)
		return nil
	}
	if flags&unix.O_PATH != 0 || kind != unix.S_IFREG && kind != unix.S_IFIFO && kind != unix.S_IFCHR {
		return refused("descriptor " + strconv.Itoa(fd) + " is neither a regular file nor a pipe nor a character device")
	}
	// Pidfds, namespaces, queues and /proc/PID/mem call themselves regular files;
	// they are handles.
	var fs unix.Statfs_t
	if kind == unix.S_IFREG {
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return failed("cannot examine descriptor "+strconv.Itoa(fd), err)
		}
		switch {
		case fs.Type == unix.PID_FS_MAGIC || fs.Type == unix.NSFS_MAGIC || fs.Type == mqueueMagic,
			fs.Type == unix.PROC_SUPER_MAGIC && flags&unix.O_ACCMODE != unix.O_RDONLY:
			return refused("descriptor " + strconv.Itoa(fd) + " is a process, a namespace, a queue, or opens one for writing")
		}
	}
	return nil
}

// 2. who: the caller's ids, from the kernel. The uid was noted at entry; gid and
// groups are still the caller's, since the helper is not setgid.
func who() (policy.Caller, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return policy.Caller{}, failed("cannot read the clock", err)
	}
	gids, err := unix.Getgroups()
	if err != nil {
		return policy.Caller{}, failed("cannot learn the caller's groups", err)
	}
	c := policy.Caller{UID: callerUID, GID: uint32(unix.Getgid()), Now: uint64(now.Sec)}
	for _, g := range gids {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c, nil
}

// 3. what: one bounded packet, then its strict form.
func what() (*ipc.Request, error) {
	packet, err := ipc.Receive(ipc.Socket, patience)
	if err != nil {
		return nil, err
	}
	return ipc.DecodeRequest(packet)
}

// 4. may: the policy in force decides, and the decision is on record before
// anything follows from it.
func may(c policy.Caller, r *ipc.Request) (*policy.Grant, error) {
	if !policy.ValidName(r.Jail) {
		return nil, refuse(c, r, 0, false, "not a jail's name")
	}
	jail, err := inForce(r.Jail)
	if err != nil {
		return nil, refuse(c, r, 0, jail != nil && jail.Named(c), err.Error())
	}
	grant, denied := policy.Decide(jail, c, policy.Request{
		Argv: r.Argv, User: r.User, Group: r.Group, Dir: r.Dir, Env: r.Env, Assign: r.Assign,
	})
	if denied != nil {
		return nil, refuse(c, r, denied.Line, denied.Told, denied.Reason)
	}
	if err := record(c, r, grant); err != nil && jail.AuditRequired && r.Verb == ipc.Run {
		return nil, failed("cannot write the audit line that the policy requires to /dev/log", err)
	}
	return grant, nil
}

// inForce opens the compiled policy and the text it was made from, each once. The
// text is compared, never parsed: it was edited since, or it is in force. A jail
// comes with the error where its compiled form says whom the error may be told.
func inForce(name string) (*policy.Jail, error) {
	b, err := safepath.File(paths.Compiled(name), maxCompiled)
	if err == safepath.ErrNotExist {
		return nil, refused("no policy is in force for it; root puts one in force with: jailctl apply " + name)
	}
	if err != nil {
		return nil, err
	}
	jail, err := policy.Decode(b)
	if err != nil {
		return nil, err
	}
	if jail.Name != name {
		return nil, refused("the compiled policy is another jail's")
	}
	text, err := safepath.File(paths.Policy(name), maxText)
	if err == safepath.ErrNotExist {
		// Withdrawn: as if it had never been.
		return nil, refused("its policy " + paths.Policy(name) + " is gone")
	}
	if err != nil {
		return jail, err
	}
	if !bytes.Equal(text, jail.Source) {
		return jail, refused("the policy was edited and is not in force; root puts it in force with: jailctl apply " + name)
	}
	return jail, nil
}

// 5. enter: the root is held by descriptor from the weighing to the chroot, so a
// rename in between changes nothing. After chroot(2) the working directory would
// still be outside: chdir("/") makes it the jail's.
func enter(root string) error {
	fd, err := safepath.Dir(root)
	if err != nil {
		return failed("cannot enter the jail: "+err.Error(), nil)
	}
	if err := unix.Fchdir(fd); err != nil {
		return failed("cannot change to the jail's root", err)
	}
	unix.Close(fd)
	if err := unix.Chroot("."); err != nil {
		return failed("cannot chroot", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return failed("cannot change to the jail's root", err)
	}
	// getcwd(2) answers "(unreachable)…" for a directory outside of the root.
	var cwd [8]byte
	if n, err := unix.Getcwd(cwd[:]); err != nil || string(cwd[:n]) != "/\x00" {
		return failed("cannot enter the jail: the working directory is not its root", err)
	}
	return nil
}

// 6. drop: groups first, while root; then gid, then uid, for good. The calls are
// the kernel's own, for this thread alone: it is the one that executes the
// command, and execve(2) ends the others, which run nothing but the Go runtime
// (SECURITY.md has the measurement). Each is read back, and the way back tried.
func drop(g *policy.Grant) error {
	if g.UID == 0 || g.GID == 0 {
		return failed("cannot drop root: the target would be root", nil)
	}
	// The caller's session keyring would come along, and with it the right to read
	// the caller's keys (session-keyring(7)). Still as root, so that the new one does
	// not count against the target's quota.
	if err := newKeyring(); err != nil && err != unix.ENOSYS {
		return failed("cannot leave the caller's session keyring", err)
	}
	if err := setgroups(g.Groups); err != nil {
		return failed("cannot set groups", err)
	}
	if err := setresgid(g.GID); err != nil {
		return failed("cannot set gid", err)
	}
	if err := setresuid(g.UID); err != nil {
		return failed("cannot set uid", err)
	}
	if setresuid(0) == nil || setresgid(0) == nil {
		return failed("cannot drop root: could become root again", nil)
	}
	// Inheritable capabilities outlive the change of uid (capabilities(7)).
	if err := dropCapabilities(); err != nil {
		return failed("cannot drop capabilities", err)
	}
	ruid, euid, suid := getresuid()
	rgid, egid, sgid := getresgid()
	if ruid != g.UID || euid != g.UID || suid != g.UID || rgid != g.GID || egid != g.GID || sgid != g.GID {
		return failed("cannot drop root: the ids are not the target's", nil)
	}
	if !sameGroups(g.Groups) {
		return failed("cannot drop root: the groups are not the target's", nil)
	}
	// The change of uid may have made the process dumpable (fs.suid_dumpable):
	// it would be open to ptrace by the target's other processes until exec.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failed("cannot stay undumpable", err)
	}
	return nil
}

// 7. confine: as the target, with no more rights than the command will have. Each
// step binds this process as well, so the order is what the next ones need; the
// filter is last, and what comes after it makes only the calls that every filter
// permits. It returns what may be executed, and what execve(2) wants to be told.
func confine(g *policy.Grant) (programs []program, password load.Password, err error) {
	// Signals from the client, by now another user: the kernel delivers the pipe's
	// signal with the rights noted here, which must be the target's, not root's.
	for _, fd := range []uintptr{ipc.Signal, ipc.Death} {
		if err := relay(fd); err != nil {
			return nil, password, failed("cannot set up the signal pipe", err)
		}
	}
	// Set-uid files and file capabilities in the jail give nothing.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, password, failed("cannot set no_new_privs", err)
	}
	unix.Umask(int(g.Umask))
	// A directory of the jail that is moved out, or a descriptor handed in, would lead
	// out of the chroot (chroot(2)); Landlock goes by where a file is, not by how it
	// was reached. So it does for signals.
	abi, err := landlock.Probe()
	if err != nil {
		return nil, password, failed("Landlock: "+err.Error(), nil)
	}
	plan, missing := landlock.Plan(g.Confine.Want, abi)
	if plan.Refuse {
		return nil, password, refused(landlock.Refusal(missing))
	}
	if err := landlock.Enforce(plan); err != nil {
		return nil, password, failed("Landlock: "+err.Error(), nil)
	}
	// Not before: with /proc in the jail, the caller's directory could be
	// /proc/PID/cwd, a way out to where another process of the target's stands.
	if err := unix.Chdir(g.Dir); err != nil {
		return nil, password, failed("cannot change to "+strconv.Quote(g.Dir)+" in the jail", err)
	}
	programs = lookup(g)
	if err := timers(0); err != nil {
		return nil, password, failed("cannot stop the alarm", err)
	}
	// From here on the terminal stops what is as good as the command.
	if err := stops(sigDfl); err != nil {
		return nil, password, failed("cannot reset signals", err)
	}
	// The Go runtime raised the soft limit of open files, for itself.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &callerFiles); err != nil {
		return nil, password, failed("cannot restore the limit of open files", err)
	}
	for _, l := range g.Limits {
		if err := limit(l); err != nil {
			return nil, password, failed("cannot set limit "+strconv.Itoa(l.Resource), err)
		}
	}
	program, err := load.Decode(g.Confine.Program)
	if err != nil {
		return nil, password, failed(err.Error(), nil)
	}
	// A command that may execute no other: from here on only exec below may.
	if g.Confine.Once != 0 {
		if password, err = load.NewPassword(); err == nil {
			err = load.Filter(load.Once(password, g.Confine.Once))
		}
		if err != nil {
			return nil, password, failed("cannot keep the command from executing others", err)
		}
	}
	if err := load.Filter(program); err != nil {
		return nil, password, failed("cannot load the seccomp filter", err)
	}
	return programs, password, nil
}

// A program is a file that the command may mean.
type program struct {
	path  string
	there bool
}

// lookup lists the files to try, the policy's path for a bare name, and asks which
// of them are there: with fewer promises that cannot be asked any more.
func lookup(g *policy.Grant) (list []program) {
	paths := []string{g.Command}
	if g.Command[0] != '/' {
		paths = paths[:0]
		for _, dir := range splitPath(g.Path) {
			paths = append(paths, dir+"/"+g.Command)
		}
	}
	for _, path := range paths {
		list = append(list, program{path, unix.Access(path, unix.F_OK) == nil})
	}
	return list
}

// 8. exec: what was said before it holds; end of file on the socket, which
// closes itself, says that the command runs.
func exec(g *policy.Grant, programs []program, password load.Password) error {
	starting := ipc.Reply{Outcome: ipc.Starting, Wall: g.Wall}
	if err := ipc.Send(ipc.Socket, starting.Encode()); err != nil {
		return failed("cannot answer the client", err)
	}
	errno, found := execve(g, programs, password)
	why := errno.Error()
	switch {
	case errno == syscall.ENOENT && found != "":
		// execve(2) says the same of a program whose interpreter is missing.
		why = strconv.Quote(found) + " is there, but not the loader or interpreter that it names"
	case g.Command[0] != '/':
		why += ", on the path " + strconv.Quote(g.Path)
	}
	return &ipcError{ipc.Reply{
		Outcome: ipc.ExecFailed, Errno: errno, Text: "cannot run " + strconv.Quote(g.Command) + " in the jail: " + why,
	}}
}

// execve runs the command. As in execvp(3), a file that may not be executed does
// not end the search but is remembered; so is one that is there although execve
// does not find it.
func execve(g *policy.Grant, programs []program, password load.Password) (result syscall.Errno, found string) {
	result = syscall.ENOENT
	do := syscall.Exec
	if g.Confine.Once != 0 {
		do = password.Exec
	}
	for _, p := range programs {
		switch err := do(p.path, g.Argv, g.Env); {
		case err == syscall.ENOENT && found == "" && p.there:
			found = p.path
		case err == syscall.ENOTDIR && len(programs) == 1:
			result = syscall.ENOTDIR
		case err == syscall.ENOENT || err == syscall.ENOTDIR:
		case err == syscall.EACCES:
			result = syscall.EACCES
		default:
			errno, _ := err.(syscall.Errno)
			return errno, ""
		}
	}
	return result, found
}
