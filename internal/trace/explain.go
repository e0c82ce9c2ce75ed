package trace

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/proto/jailpb"
)

// The rules that deny; Open is for what no rule of the confinement denies.
const (
	Baseline  = "seccomp baseline"
	Promise   = "missing promise"
	Network   = "network closed"
	Ports     = "network_ports"
	Unveil    = "Landlock unveil"
	Scope     = "Landlock scope"
	LandPorts = "Landlock ports"
	Open      = "not the confinement"
)

const nothing = "nothing opens this: it leads out"

// A Denial is one kind of denial.
type Denial struct {
	Event string `json:"event"` // "denied"
	PID   int    `json:"pid"`
	Call  string `json:"call"`
	What  string `json:"what,omitempty"` // of the arguments, in words
	Error string `json:"error"`          // EPERM …, or "killed"
	Rule  string `json:"rule"`
	Why   string `json:"why,omitempty"`
	// Add is the line for the policy; empty: nothing opens it.
	Add   string `json:"add,omitempty"`
	Count int    `json:"count,omitempty"` // in the summary

	change  change
	byCall  *seccomp.Call // denied by the filter, and opened by promises
	nothing bool          // nothing to add
}

// An explainer knows the confinement of a command.
type explainer struct {
	written *jailpb.Confine
	options seccomp.Options
	judge   *seccomp.Judge
	plan    confine.Enforcement
	who     ids
}

// A place is where the arguments of a path are: the directory's descriptor, -1 the
// working directory, and the path.
type place struct{ dir, path int }

var places = map[string][]place{}

func init() {
	for names, at := range map[string][]place{
		`open creat stat lstat access readlink execve chdir chroot mkdir rmdir unlink mknod chmod chown lchown truncate utime
		utimes statfs umount2 swapon acct getxattr lgetxattr listxattr llistxattr setxattr lsetxattr removexattr lremovexattr
		uselib`: {{-1, 0}},
		`openat openat2 newfstatat statx faccessat faccessat2 readlinkat mkdirat unlinkat mknodat fchmodat fchmodat2 fchownat
		utimensat futimesat execveat name_to_handle_at`: {{0, 1}},
		"rename link":               {{-1, 0}, {-1, 1}},
		"renameat renameat2 linkat": {{0, 1}, {2, 3}},
		"symlink inotify_add_watch": {{-1, 1}},
		"symlinkat":                 {{1, 2}},
		"mount":                     {{-1, 1}},
	} {
		for name := range strings.FieldsSeq(names) {
			places[name] = at
		}
	}
}

// A call as it is being explained.
type call struct {
	seccomp.Call
	tid   int
	name  string
	root  root
	paths []string // absolute in the jail, as the process means them
	short []string // as it wrote them
}

// look reads what the arguments point to.
func (x *explainer) look(tid int, c seccomp.Call) (*call, error) {
	k := &call{Call: c, tid: tid, name: x.judge.Name(c)}
	var err error
	if k.root, err = openRoot(fmt.Sprintf("/proc/%d/root", tid)); err != nil {
		return k, err
	}
	for _, at := range places[k.name] {
		written, err := text(tid, c.Args[at.path])
		if err != nil {
			return k, err
		}
		k.short = append(k.short, written)
		full := written
		if !strings.HasPrefix(full, "/") {
			dir := fmt.Sprintf("/proc/%d/cwd", tid)
			if at.dir >= 0 && int32(c.Args[at.dir]) != unix.AT_FDCWD {
				dir = fmt.Sprintf("/proc/%d/fd/%d", tid, int32(c.Args[at.dir]))
			}
			host, err := os.Readlink(dir)
			if err != nil {
				return k, err
			}
			base, err := k.root.inside(host)
			if err != nil {
				return k, err
			}
			full = strings.TrimSuffix(base, "/") + "/" + full
		}
		k.paths = append(k.paths, full)
	}
	return k, nil
}

// filtered is what the seccomp filter denies, nil: nothing.
func (x *explainer) filtered(tid int, c seccomp.Call) *Denial {
	v := x.judge.Ask(c)
	if v == nil {
		return nil
	}
	k, err := x.look(tid, c)
	defer k.root.close()
	d := &Denial{Call: k.name, What: k.words(), Error: "killed", Why: v.Holds}
	if d.Call == "" {
		d.Call = "call " + strconv.Itoa(int(c.Nr))
	}
	if !v.Kill {
		d.Error = unix.ErrnoName(v.Errno)
	}
	if v.Why != "" {
		d.Why += " (" + v.Why + ")"
	}
	d.Rule = Baseline
	if v.Holds == "" {
		d.Rule = Promise
	}
	if v.Opens == nil {
		d.nothing = true
		return d
	}
	d.change = widened(x.options, *v.Opens)
	d.byCall = &c
	switch {
	case d.change.noPorts || len(d.change.bind) > 0:
		d.Rule = Ports
	case d.change.network || d.change.local:
		d.Rule = Network
	}
	// What Landlock would say next, so that one round is enough.
	if uses, want, follow := x.uses(k); err == nil && x.mode(k, want, follow) == "" {
		rule := d.Rule
		x.unveil(d, uses, unix.EACCES)
		d.Rule = rule
	}
	d.Add = d.change.line(x.written)
	return d
}

// words says what a call is about.
func (k *call) words() string {
	var s []string
	for _, p := range k.short {
		s = append(s, strconv.Quote(p))
	}
	word := strings.Join(s, " to ")
	if flags, _, opens := k.opening(); opens && k.name != "creat" {
		word += " " + mode(flags)
	}
	family := func(n uint64) string {
		switch n {
		case unix.AF_UNIX:
			return "AF_UNIX"
		case unix.AF_INET:
			return "AF_INET"
		case unix.AF_INET6:
			return "AF_INET6"
		case unix.AF_NETLINK:
			return "AF_NETLINK"
		case unix.AF_PACKET:
			return "AF_PACKET"
		}
		return "family " + strconv.Itoa(int(uint32(n)))
	}
	kind := func(n uint64) string {
		switch n & 0xf {
		case unix.SOCK_STREAM:
			return "SOCK_STREAM"
		case unix.SOCK_DGRAM:
			return "SOCK_DGRAM"
		case unix.SOCK_RAW:
			return "SOCK_RAW"
		case unix.SOCK_SEQPACKET:
			return "SOCK_SEQPACKET"
		}
		return "type " + strconv.Itoa(int(n&0xf))
	}
	switch k.name {
	case "socket", "socketpair":
		return family(k.Args[0]) + " " + kind(k.Args[1])
	case "ioctl", "prctl", "fcntl":
		at := 1
		if k.name == "prctl" {
			at = 0
		}
		return fmt.Sprintf("%#x", uint32(k.Args[at]))
	case "kill", "tkill", "rt_sigqueueinfo":
		return fmt.Sprintf("process %d, signal %d", int32(k.Args[0]), int32(k.Args[1]))
	case "tgkill":
		return fmt.Sprintf("process %d, signal %d", int32(k.Args[0]), int32(k.Args[2]))
	case "mmap", "mprotect":
		if k.Args[2]&unix.PROT_EXEC != 0 {
			return "PROT_EXEC"
		}
	case "clone", "unshare":
		return fmt.Sprintf("flags %#x", k.Args[0])
	case "chmod", "mkdir":
		word += fmt.Sprintf(" mode %04o", uint32(k.Args[1]))
	case "fchmodat", "mkdirat":
		word += fmt.Sprintf(" mode %04o", uint32(k.Args[2]))
	}
	return word
}

// Flags of open(2) that differ between machines are not looked at but O_DIRECTORY.
const tmpfile = 0x400000

// opening gives flags and mode of the calls that open.
func (k *call) opening() (flags, perm uint64, ok bool) {
	switch k.name {
	case "open":
		return k.Args[1], k.Args[2], true
	case "openat":
		return k.Args[2], k.Args[3], true
	case "creat":
		return unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, k.Args[1], true
	}
	return 0, 0, false
}

func mode(flags uint64) string {
	s := [...]string{"for reading", "for writing", "for reading and writing", ""}[flags&unix.O_ACCMODE]
	if flags&unix.O_CREAT != 0 {
		s += ", making it"
	}
	if flags&tmpfile != 0 {
		s += ", a temporary file"
	}
	return s
}

// A use is what Landlock asks for a call: rights on a path, and where a rule that
// gives them belongs.
type use struct {
	path   string
	rights uint64
	at     string
}

// failed explains a call that the filter permits and that failed; nil: that is no
// denial.
func (x *explainer) failed(tid int, c seccomp.Call, errno unix.Errno) *Denial {
	if errno != unix.EACCES && errno != unix.EPERM && errno != unix.EXDEV {
		return nil
	}
	k, err := x.look(tid, c)
	defer k.root.close()
	d := &Denial{Call: k.name, What: k.words(), Error: unix.ErrnoName(errno), Rule: Open, nothing: true}
	if err != nil {
		d.Why = "where it leads cannot be told: " + err.Error()
		return d
	}
	switch k.name {
	case "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo":
		return x.signal(k, d)
	case "connect", "bind", "sendto":
		return x.socket(k, d, errno)
	}
	uses, want, follow := x.uses(k)
	if why := x.mode(k, want, follow); why != "" {
		d.Why = why
		return d
	}
	if x.unveil(d, uses, errno) {
		return d
	}
	if errno == unix.EXDEV {
		return nil // two file systems
	}
	d.Why = fmt.Sprintf("the kernel refuses it to uid %d", x.who.uid)
	if errno == unix.EACCES && len(k.paths) > 0 {
		d.Why += ", or an access list or security module does"
	}
	return d
}

// mode is the denial by a file's mode, which the kernel looks at first.
func (x *explainer) mode(k *call, want []uint32, follow bool) string {
	for i, p := range k.paths {
		bits := uint32(0)
		if i < len(want) {
			bits = want[i]
		}
		why := ""
		if bits == changes { // a directory's entry
			f, err := k.root.find(p, false)
			if err != nil {
				return ""
			}
			why = k.root.forbidden(x.who, f.parent(), true, 3)
		} else {
			why = k.root.forbidden(x.who, p, follow, bits)
		}
		if why != "" {
			return fmt.Sprintf("%s, and the command is uid %d, gid %d", why, x.who.uid, x.who.gid)
		}
	}
	return ""
}

// changes is the mode wanted of the directory that has the entry.
const changes = 8

const (
	readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	writeFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
)

// uses are what Landlock asks for a call, and the modes that the kernel asks of each
// path before.
func (x *explainer) uses(k *call) (uses []use, want []uint32, follow bool) {
	at := func(i int, follow bool) file {
		if i >= len(k.paths) {
			return file{}
		}
		f, err := k.root.find(k.paths[i], follow)
		if err != nil {
			return file{}
		}
		return f
	}
	// entry is a change to a directory.
	entry := func(i int, right uint64) {
		if f := at(i, false); f.path != "" {
			uses = append(uses, use{f.parent(), right, x.belongs(f.parent())})
		}
		want = append(want, changes)
	}
	if flags, _, opens := k.opening(); opens {
		return x.opens(k, flags)
	}
	kinds := map[uint32]uint64{
		unix.S_IFREG: unix.LANDLOCK_ACCESS_FS_MAKE_REG, unix.S_IFDIR: unix.LANDLOCK_ACCESS_FS_MAKE_DIR,
		unix.S_IFLNK: unix.LANDLOCK_ACCESS_FS_MAKE_SYM, unix.S_IFIFO: unix.LANDLOCK_ACCESS_FS_MAKE_FIFO,
		unix.S_IFSOCK: unix.LANDLOCK_ACCESS_FS_MAKE_SOCK, unix.S_IFCHR: unix.LANDLOCK_ACCESS_FS_MAKE_CHAR,
		unix.S_IFBLK: unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK, 0: unix.LANDLOCK_ACCESS_FS_MAKE_REG,
	}
	removal := func(f file) uint64 {
		if f.isDir() {
			return unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
		}
		return unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	}
	switch k.name {
	case "execve", "execveat":
		if len(k.paths) > 0 {
			for _, f := range k.root.programs(k.paths[0]) {
				uses = append(uses, use{f.path, unix.LANDLOCK_ACCESS_FS_EXECUTE | readFile, f.path})
			}
		}
		return uses, []uint32{1}, true
	case "mkdir", "mkdirat":
		entry(0, unix.LANDLOCK_ACCESS_FS_MAKE_DIR)
	case "rmdir":
		entry(0, unix.LANDLOCK_ACCESS_FS_REMOVE_DIR)
	case "unlink", "unlinkat":
		entry(0, removal(at(0, false)))
	case "symlink", "symlinkat":
		entry(0, unix.LANDLOCK_ACCESS_FS_MAKE_SYM)
	case "mknod":
		entry(0, kinds[uint32(k.Args[1])&unix.S_IFMT])
	case "mknodat":
		entry(0, kinds[uint32(k.Args[2])&unix.S_IFMT])
	case "rename", "renameat", "renameat2", "link", "linkat":
		from, to := at(0, false), at(1, false)
		making := kinds[from.stat.Mode&unix.S_IFMT]
		if strings.HasPrefix(k.name, "rename") {
			entry(0, removal(from))
			if to.exists {
				making |= removal(to)
			}
		} else {
			want = append(want, 0)
		}
		entry(1, making)
		if from.path != "" && to.path != "" && from.parent() != to.parent() {
			// What is moved or linked may not gain rights: its place gets those of
			// the new one as well.
			const refer = unix.LANDLOCK_ACCESS_FS_REFER
			uses = append(uses,
				use{from.parent(), refer | x.plan.Rights(to.parent()), x.belongs(from.parent())},
				use{to.parent(), refer, x.belongs(to.parent())})
		}
	case "truncate":
		if f := at(0, true); f.path != "" {
			uses = append(uses, use{f.path, unix.LANDLOCK_ACCESS_FS_TRUNCATE, f.path})
		}
		return uses, []uint32{2}, true
	case "ioctl":
		if host, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", k.tid, int32(k.Args[0]))); err == nil {
			if p, err := k.root.inside(host); err == nil {
				k.short = []string{p}
				uses = append(uses, use{p, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, p})
			}
		}
	case "chdir":
		return nil, []uint32{1}, true
	}
	return uses, want, !strings.HasPrefix(k.name, "l")
}

// opens are the uses of open(2) and its kin.
func (x *explainer) opens(k *call, flags uint64) (uses []use, want []uint32, follow bool) {
	follow = flags&unix.O_NOFOLLOW == 0
	if len(k.paths) == 0 || flags&unix.O_PATH != 0 {
		return nil, nil, follow
	}
	f, err := k.root.find(k.paths[0], follow)
	if err != nil {
		return nil, nil, follow
	}
	var rights uint64
	bits := uint32(0)
	if access := flags & unix.O_ACCMODE; access != unix.O_WRONLY {
		rights, bits = readFile, 4
		if f.isDir() && flags&tmpfile == 0 {
			rights = unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
	}
	if access := flags & unix.O_ACCMODE; access != unix.O_RDONLY {
		rights |= writeFile
		bits |= 2
	}
	if flags&unix.O_TRUNC != 0 {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
		bits |= 2
	}
	switch {
	case !f.exists:
		uses = append(uses,
			use{f.parent(), unix.LANDLOCK_ACCESS_FS_MAKE_REG, x.belongs(f.parent())},
			use{f.path, rights, x.belongs(f.parent())})
		bits = changes
	case flags&tmpfile != 0:
		uses = append(uses, use{f.path, rights, f.path})
		bits = 3
	default:
		uses = append(uses, use{f.path, rights, x.belongs(f.path)})
	}
	return uses, []uint32{bits}, follow
}

// belongs is where an unveil for an existing file or directory is to be: itself, or the
// unveiled directory above it in which things are made and removed, and this one
// perhaps in each run.
func (x *explainer) belongs(path string) string {
	best := ""
	for _, r := range x.plan.Rules {
		if r.Path != "/" && r.Path != path && confine.Beneath(path, r.Path) && r.Rights&unix.LANDLOCK_ACCESS_FS_REMOVE_FILE != 0 && len(r.Path) > len(best) {
			best = r.Path
		}
	}
	if best == "" {
		return path
	}
	return best
}

// unveil explains by Landlock what it does.
func (x *explainer) unveil(d *Denial, uses []use, errno unix.Errno) bool {
	if errno == unix.EPERM {
		return false // never of files
	}
	never := false
	for _, u := range uses {
		missing := u.rights & x.plan.FS &^ x.plan.Rights(u.path)
		if missing == 0 {
			continue
		}
		access, whole := confine.Letters(missing)
		never = never || !whole
		i := slices.IndexFunc(d.change.unveil, func(p confine.Path) bool { return p.Path == u.at })
		if i < 0 {
			d.change.unveil = append(d.change.unveil, confine.Path{Path: u.at, Access: letters(access, "")})
			continue
		}
		d.change.unveil[i].Access = letters(d.change.unveil[i].Access, access)
	}
	if never {
		d.Rule, d.Why, d.change, d.nothing = Unveil, "device nodes are made by nobody in a jail", change{}, true
		return true
	}
	if len(d.change.unveil) == 0 {
		return false
	}
	d.Rule, d.nothing = Unveil, false
	d.Add = d.change.line(x.written)
	return true
}

// signal explains a signal that was not sent.
func (x *explainer) signal(k *call, d *Denial) *Denial {
	pid := int32(k.Args[0])
	owner := uint32(0)
	var st unix.Stat_t
	if pid > 0 && unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) == nil {
		owner = st.Uid
	}
	if pid > 0 && owner != x.who.uid || x.plan.Scope&unix.LANDLOCK_SCOPE_SIGNAL == 0 {
		d.Why = fmt.Sprintf("the process is not of uid %d", x.who.uid)
		return d
	}
	d.Rule, d.Why = Scope, "signals reach no process outside of this run"
	return d
}

// socket explains what was not connected, bound or sent.
func (x *explainer) socket(k *call, d *Denial, errno unix.Errno) *Denial {
	at, size := k.Args[1], k.Args[2]
	if k.name == "sendto" {
		at, size = k.Args[4], k.Args[5]
	}
	b := make([]byte, min(size, 128))
	if len(b) < 4 || at == 0 {
		d.Why = "the kernel refuses it"
		return d
	}
	if n, err := read(k.tid, at, b); err != nil || n < len(b) {
		d.Why = "where it leads cannot be told"
		return d
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_INET, unix.AF_INET6:
		port := binary.BigEndian.Uint16(b[2:])
		d.What = "port " + strconv.Itoa(int(port))
		right, list := uint64(unix.LANDLOCK_ACCESS_NET_CONNECT_TCP), x.plan.Connect
		if k.name == "bind" {
			right, list = unix.LANDLOCK_ACCESS_NET_BIND_TCP, x.plan.Bind
		}
		if errno == unix.EACCES && x.plan.Net&right != 0 && !slices.Contains(list, port) {
			d.Rule, d.nothing = LandPorts, false
			if k.name == "bind" {
				d.change.bind = []uint32{uint32(port)}
			} else {
				d.change.connect = []uint32{uint32(port)}
			}
			d.Add = d.change.line(x.written)
			return d
		}
		d.Why = fmt.Sprintf("the kernel refuses it to uid %d: ports below 1024 are root's", x.who.uid)
		if port >= 1024 || k.name != "bind" {
			d.Why = "the kernel or its packet filter refuses it"
		}
	case unix.AF_UNIX:
		name := string(b[2:])
		if name[0] == 0 {
			d.What = "abstract socket " + strconv.Quote("@"+name[1:])
			if errno == unix.EPERM && x.plan.Scope&unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET != 0 {
				d.Rule, d.Why = Scope, "abstract sockets of processes outside of this run are closed"
				return d
			}
			break
		}
		name, _, _ = strings.Cut(name, "\x00")
		d.What = strconv.Quote(name)
		k.short, k.paths = []string{name}, []string{name}
		if !strings.HasPrefix(name, "/") {
			cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", k.tid))
			if err == nil {
				cwd, err = k.root.inside(cwd)
			}
			if err != nil {
				d.Why = "where it leads cannot be told: " + err.Error()
				return d
			}
			k.paths[0] = strings.TrimSuffix(cwd, "/") + "/" + name
		}
		want := []uint32{2}
		var uses []use
		if k.name == "bind" {
			want = []uint32{changes}
			if f, err := k.root.find(k.paths[0], false); err == nil {
				uses = []use{{f.parent(), unix.LANDLOCK_ACCESS_FS_MAKE_SOCK, x.belongs(f.parent())}}
			}
		}
		if why := x.mode(k, want, true); why != "" {
			d.Why = why
			return d
		}
		if x.unveil(d, uses, errno) {
			return d
		}
		d.Why = "the kernel refuses it"
	}
	return d
}
