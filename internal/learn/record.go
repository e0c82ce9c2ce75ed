package learn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/ptrace"
	"jailctl/internal/seccomp"
)

// A Record is what a run did, step by step. A step is a program of the run, numbered
// from 1 in the order in which they were executed.
type Record struct {
	Dir   string // the working directory at the beginning
	Steps []Step

	judge *seccomp.Judge
	steps map[int]int // of threads
	calls map[int]*pending

	files    map[string]*file  // by path without links
	names    map[string]string // of files, as programs wrote them, absolute, and without links
	kernel   map[string]int    // /proc/self and the like, and the step
	made     map[string]bool   // by the run
	changed  map[string]int    // directories in which it made or removed something
	creates  map[string]int    // and in which it would have, if a file had not been there
	rights   map[string]*right
	likes    [][2]string // paths of rights that must have those of another
	usesDir  bool        // relative paths, or getcwd
	programs []program

	needs    map[string]*need
	refused  []refusal
	sockets  map[string]uint16 // families, by the kernel's name of the socket
	unix     map[string]*need  // of sockets that are given up if they led nowhere
	unixUsed []string          // where unix sockets led, abstract names with @
	inet     *need             // the first internet socket
	datagram bool              // one that is no TCP
	connect  map[uint32]int    // TCP ports, and the step
	bind     map[uint32]int
	blind    int // calls that could not be looked into
}

// A Step is one program of a run.
type Step struct {
	Argv []string
	By   int // the step that started it
}

// deeds are what was done to a file.
type deed int

const (
	looked   deed = iota // found, or its attributes or its link read
	listed               // a directory's names
	read                 // its content
	executed             // or loaded by the kernel in order to
	wrote                // its content or attributes changed, or removed
	deeds
)

var verbs = [deeds]string{"looks at", "lists", "reads", "executes", "changes"}

// A file is one that was there before the run.
type file struct {
	path string
	stat unix.Stat_t
	did  [deeds]int // the first step that did, 0: none
	// again: a second step has looked at it.
	again bool
	// anew: the run had it made, or emptied, and did not care what was in it before.
	anew bool
}

// step is the first that did the most of a file, and that.
func (f *file) step() (int, deed) {
	for d := deeds - 1; d > looked; d-- {
		if f.did[d] != 0 {
			return f.did[d], d
		}
	}
	return f.did[looked], looked
}

func (f *file) isDir() bool     { return f.stat.Mode&unix.S_IFMT == unix.S_IFDIR }
func (f *file) isRegular() bool { return isRegular(f.stat.Mode) }
func (f *file) isLink() bool    { return f.stat.Mode&unix.S_IFMT == unix.S_IFLNK }

// A program is one that was executed, as it was named.
type program struct {
	name  string
	files []ptrace.File // itself, and what the kernel loaded for it
	step  int
}

type right struct {
	landlock uint64
	step     int
}

// A need is what a call asks for: promises, in alternatives.
type need struct {
	alternatives [][]string
	step         int
	call         string
}

// A refusal is a call that no jail permits, and that was made.
type refusal struct {
	call, why string
	step      int
}

// pending is a call that has begun.
type pending struct {
	*ptrace.Call
	found []ptrace.File // what its paths led to
	uses  []ptrace.Use
	as    seccomp.Call // what a program makes of it in a jail
}

// New is a record of a run that begins in a directory.
func New(dir string) (*Record, error) {
	judge, err := seccomp.NewJudge(seccomp.Options{Network: true, LocalSockets: true})
	if err != nil {
		return nil, err
	}
	return &Record{
		Dir: dir, judge: judge, steps: map[int]int{}, calls: map[int]*pending{},
		files: map[string]*file{}, names: map[string]string{}, kernel: map[string]int{}, made: map[string]bool{}, changed: map[string]int{}, creates: map[string]int{},
		rights: map[string]*right{}, needs: map[string]*need{}, sockets: map[string]uint16{}, unix: map[string]*need{},
		connect: map[uint32]int{}, bind: map[uint32]int{},
	}, nil
}

// begin notes the execve of the command itself, which nobody traced.
func (r *Record) begin(pid int, cmd Command) {
	root, err := ptrace.OpenRoot("/")
	if err != nil {
		return
	}
	defer root.Close()
	name := cmd.Path
	if !path.IsAbs(name) {
		name = r.Dir + "/" + name
		r.usesDir = true
	}
	r.Steps = append(r.Steps, Step{Argv: cmd.Argv})
	r.steps[pid] = 1
	r.execute(name, root.Programs(name), 1)
}

// step is that of a thread. One that nobody has told of yet is its process's, or its
// parent's.
func (r *Record) step(tid int) int {
	if n := r.steps[tid]; n != 0 {
		return n
	}
	n := 1
	for _, field := range []string{"PPid:", "Tgid:"} {
		if known := r.steps[status(tid, field)]; known != 0 {
			n = known
		}
	}
	r.steps[tid] = n
	return n
}

func status(tid int, field string) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

func (r *Record) started(parent, child int) {
	delete(r.steps, child) // of one that had the number before
	if parent != 0 {
		r.steps[child] = r.step(parent)
	}
}

// executed is another program in a process.
func (r *Record) executed(pid, former int) {
	by := r.step(former)
	call := r.calls[former]
	delete(r.calls, former)
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	argv := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	r.Steps = append(r.Steps, Step{argv, by})
	step := len(r.Steps)
	if former != pid {
		delete(r.steps, former)
	}
	r.steps[pid] = step
	if call == nil {
		return
	}
	// The call itself is one of the program that was there before.
	r.promise(call, by)
	if len(call.Paths) == 0 {
		r.blind++
		return
	}
	r.usesDir = r.usesDir || call.Cwd()
	files := make([]ptrace.File, 0, len(call.uses))
	for _, u := range call.uses {
		if f, err := lookUp(u.Path); err == nil {
			files = append(files, f)
		}
	}
	r.execute(call.Paths[0], files, step)
}

func lookUp(name string) (ptrace.File, error) {
	f := ptrace.File{Path: name, Exists: true}
	return f, unix.Lstat(name, &f.Stat)
}

// execute notes a program and what the kernel loads for it.
func (r *Record) execute(name string, files []ptrace.File, step int) {
	if len(files) > 0 {
		r.named(name, files[0].Path)
	}
	for _, f := range files {
		r.did(f, executed, step)
		r.right(f.Path, unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_READ_FILE, step)
	}
	r.programs = append(r.programs, program{path.Clean(name), files, step})
}

// named notes a path as a program wrote it: there may be links on the way to the file.
func (r *Record) named(name, real string) {
	if strings.HasPrefix(name, "/") {
		r.names[name] = real
	}
}

// ours reports whether a file is there because the run made it, or what it is in.
func (r *Record) ours(name string) bool {
	for ; name != "/" && name != "."; name = path.Dir(name) {
		if r.made[name] {
			return true
		}
	}
	return false
}

// did notes a deed.
func (r *Record) did(f ptrace.File, d deed, step int) {
	if !strings.HasPrefix(f.Path, "/") || r.ours(f.Path) {
		return
	}
	have := r.files[f.Path]
	if have == nil {
		have = &file{path: f.Path, stat: f.Stat}
		r.files[f.Path] = have
	}
	if have.did[d] == 0 {
		have.did[d] = step
	}
	have.again = have.again || have.did[d] != step
}

func (r *Record) right(at string, rights uint64, step int) {
	if r.rights[at] == nil {
		r.rights[at] = &right{step: step}
	}
	r.rights[at].landlock |= rights
}

// entered is a call before it is made: afterwards it cannot be told what was there,
// and after an execve not even what was asked for.
func (r *Record) entered(tid int, c seccomp.Call) {
	name := r.judge.Name(c)
	p := &pending{Call: &ptrace.Call{Call: c, TID: tid, Name: name}, as: c}
	r.calls[tid] = p
	switch name {
	case "clone3":
		// A jail has none, and libc makes a clone of it. The flags come first.
		flags := make([]byte, 8)
		if _, err := ptrace.Read(tid, c.Args[0], flags); err == nil {
			p.as = seccomp.Call{Arch: c.Arch, Nr: uint32(r.judge.Number("clone")), Args: [6]uint64{binary.NativeEndian.Uint64(flags)}}
		}
	}
	if !ptrace.Names(name) {
		return
	}
	k := ptrace.Look(tid, c, name)
	defer k.Root.Close()
	p.Call = k
	if err := k.Err; err != nil {
		// Of a program that its user may not read, nothing can be seen.
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			r.blind++
		}
		k.Paths = nil
		return
	}
	if slices.ContainsFunc(k.Paths, ofItself) {
		return // to us it would be ourselves
	}
	if flags, ok := k.Opens(); ok && name == "openat2" {
		p.as = seccomp.Call{Arch: c.Arch, Nr: uint32(r.judge.Number("openat")), Args: [6]uint64{c.Args[0], c.Args[1], flags}}
	}
	for _, full := range k.Paths {
		f, err := k.Root.Find(full, k.Follows())
		if err != nil {
			f = ptrace.File{}
		}
		p.found = append(p.found, f)
	}
	p.uses, _ = k.Uses()
}

// ofItself reports whether a path means the process that uses it.
func ofItself(name string) bool {
	for _, of := range []string{"/proc/self", "/proc/thread-self", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		if beneath(name, of) {
			return true
		}
	}
	return false
}

// left is a call that was made.
func (r *Record) left(tid int, c seccomp.Call, result int64, errno unix.Errno) {
	p := r.calls[tid]
	delete(r.calls, tid)
	if p == nil {
		return
	}
	step := r.step(tid)
	if r.socket(p, step, result, errno) {
		return
	}
	if errno == 0 {
		if v := r.judge.Ask(p.as); v != nil {
			r.refuse(p.Name, v.Holds, step)
			return
		}
	}
	r.promise(p, step)
	switch {
	case p.Name == "getcwd":
		r.usesDir = true
	case strings.HasPrefix(p.Name, "getdents") && errno == 0:
		if name := r.inode(tid, int32(p.Args[0])); r.files[name] != nil {
			r.did(ptrace.File{Path: name}, listed, step)
		}
	case p.Name == "ioctl" && errno == 0:
		r.ioctl(p, step)
	case p.Paths != nil:
		r.paths(p, step, errno)
	}
}

// promise notes what a call needs.
func (r *Record) promise(p *pending, step int) {
	if r.judge.Ask(p.as) != nil {
		return // refused: the program gets an error
	}
	alternatives, ok := r.judge.Needs(p.as)
	if !ok {
		r.refuse(p.Name, "no promise permits it", step)
		return
	}
	r.need(r.needs, p, alternatives, step)
}

func (r *Record) need(in map[string]*need, p *pending, alternatives [][]string, step int) {
	if len(alternatives) == 0 {
		return
	}
	var key strings.Builder
	for _, words := range alternatives {
		key.WriteString(strings.Join(words, "+") + " ")
	}
	if in[key.String()] == nil {
		in[key.String()] = &need{alternatives, step, strings.TrimSpace(p.Name + " " + p.Words())}
	}
}

func (r *Record) refuse(call, why string, step int) {
	if call == "" {
		call = "a call without a name here"
	}
	if !slices.ContainsFunc(r.refused, func(have refusal) bool { return have.call == call && have.why == why }) {
		r.refused = append(r.refused, refusal{call, why, step})
	}
}

// absent are the errors that a call has before it comes to a file.
var absent = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.EFAULT, unix.EINVAL, unix.EBADF}

// paths notes what a call did to the files that it names.
func (r *Record) paths(p *pending, step int, errno unix.Errno) {
	r.usesDir = r.usesDir || p.Cwd()
	for _, name := range p.Paths {
		if errno == 0 && ofItself(name) && r.kernel[name] == 0 {
			r.kernel[name] = step
		}
	}
	for i, f := range p.found {
		// With AT_EMPTY_PATH it is about a descriptor, which was opened or inherited.
		if f.Path == "" || p.Short[i] == "" {
			continue
		}
		if f.Exists {
			r.named(p.Paths[i], f.Path)
		}
		r.deed(p, i, f, step, errno)
	}
	if errno != 0 && (slices.Contains(absent, errno) || errno == unix.EACCES || errno == unix.EPERM || errno == unix.EEXIST || errno == unix.EROFS) {
		return
	}
	// In a new state directory the file is not there yet.
	if flags, opens := p.Opens(); opens && flags&unix.O_CREAT != 0 && len(p.found) > 0 && p.found[0].Exists && r.creates[p.found[0].Parent()] == 0 {
		r.creates[p.found[0].Parent()] = step
	}
	for _, u := range p.uses {
		r.right(u.At, u.Rights, step)
		if u.Like != "" {
			r.likes = append(r.likes, [2]string{u.At, u.Like})
		}
	}
}

// deed is what a call did to its path number i.
func (r *Record) deed(p *pending, i int, f ptrace.File, step int, errno unix.Errno) {
	if errno != 0 {
		// What was found has to be found, though the call failed on it.
		if f.Exists && errno != unix.ENOENT {
			r.did(f, looked, step)
		}
		return
	}
	enters := func() {
		r.change(f, step)
		if f.Exists {
			r.did(f, wrote, step)
		} else {
			r.made[f.Path] = true
		}
	}
	flags, opens := p.Opens()
	switch {
	case opens && flags&unix.O_PATH != 0:
		r.did(f, looked, step)
	case opens && !f.Exists:
		enters()
	case opens && flags&unix.O_ACCMODE == unix.O_RDONLY && flags&unix.O_TRUNC == 0:
		d := read
		if f.IsDir() {
			d = looked // it may be for its descriptor alone
		}
		r.did(f, d, step)
	case opens && f.IsDir(): // O_TMPFILE
		if dir := f.Path; r.changed[dir] == 0 {
			r.changed[dir] = step
		}
	case opens:
		const anew = unix.O_CREAT | unix.O_TRUNC
		had := r.files[f.Path]
		untouched := had == nil || had.did[read]+had.did[wrote]+had.did[executed] == 0
		r.did(f, wrote, step)
		if have := r.files[f.Path]; have != nil && flags&anew == anew && untouched {
			have.anew = true
		}
		if flags&unix.O_ACCMODE == unix.O_RDWR && flags&unix.O_TRUNC == 0 {
			r.did(f, read, step)
		}
	case slices.Contains(making, p.Name) || i == 1:
		enters()
	case slices.Contains(removing, p.Name):
		if f.Exists {
			r.change(f, step)
		}
		r.did(f, wrote, step)
	case slices.Contains(changing, p.Name):
		r.did(f, wrote, step)
	default:
		r.did(f, looked, step)
	}
}

// change notes that something was made or removed in a directory.
func (r *Record) change(f ptrace.File, step int) {
	if dir := f.Parent(); r.changed[dir] == 0 && !cache(f.Path) {
		r.changed[dir] = step
	}
}

// cache reports whether a file is what python has compiled, or where. It does without
// a place for that.
func cache(name string) bool {
	return path.Base(name) == compiled || path.Base(path.Dir(name)) == compiled
}

// Calls by what they do to their first path; what names a second one makes that.
var (
	making   = strings.Fields("mkdir mkdirat mknod mknodat symlink symlinkat")
	removing = strings.Fields("unlink unlinkat rmdir rename renameat renameat2")
	changing = strings.Fields(`truncate chmod fchmodat fchmodat2 chown lchown fchownat utime utimes utimensat futimesat
		setxattr lsetxattr removexattr lremovexattr`)
)

// ioctl notes that a device which the run has opened is more than read and written.
func (r *Record) ioctl(p *pending, step int) {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.TID, int32(p.Args[0])))
	if err != nil {
		return
	}
	if f := r.files[name]; f != nil && f.stat.Mode&unix.S_IFMT == unix.S_IFCHR && (f.did[read] != 0 || f.did[wrote] != 0) {
		r.right(name, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, step)
	}
}

// onSockets are the calls whose promises depend on the family of a socket.
var onSockets = strings.Fields("bind connect listen accept accept4 sendto sendmsg sendmmsg recvmsg recvmmsg setsockopt")

// socket notes what is done with sockets. It is true where that is all there is to
// the call.
func (r *Record) socket(p *pending, step int, result int64, errno unix.Errno) bool {
	if p.Name == "socket" {
		r.opened(p, step, result, errno)
		return true
	}
	if !slices.Contains(onSockets, p.Name) {
		return false
	}
	family, known := r.sockets[r.inode(p.TID, int32(p.Args[0]))]
	switch {
	case !known: // a pair's, or one from outside
		return false
	case family == unix.AF_UNIX:
		alternatives, _ := r.judge.Needs(p.as)
		r.need(r.unix, p, alternatives, step)
		r.local(p, step, errno)
	case family == unix.AF_INET || family == unix.AF_INET6:
		r.promise(p, step)
		r.port(p, step)
	}
	return true // no other family exists in a jail
}

func (r *Record) inode(tid int, fd int32) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	return name
}

// opened is a new socket.
func (r *Record) opened(p *pending, step int, result int64, errno unix.Errno) {
	const kind = 0xf
	family := uint16(p.Args[0])
	alternatives, ok := r.judge.Needs(p.as)
	switch {
	case errno != 0:
		return
	case r.judge.Ask(p.as) != nil || !ok:
		r.refuse("socket "+p.Words(), "no jail has them", step)
	case family == unix.AF_UNIX:
		r.need(r.unix, p, alternatives, step)
	default:
		r.need(r.needs, p, alternatives, step)
		if r.inet == nil {
			r.inet = &need{step: step, call: "socket " + p.Words()}
		}
		r.datagram = r.datagram || p.Args[1]&kind != unix.SOCK_STREAM
	}
	r.sockets[r.inode(p.TID, int32(result))] = family
}

// local is a unix socket that leads somewhere, or through which others come.
func (r *Record) local(p *pending, step int, errno unix.Errno) {
	if errno != 0 || p.Name == "setsockopt" {
		return
	}
	to, err := p.Address()
	if p.Name != "connect" && p.Name != "bind" && p.Name != "sendto" || err != nil {
		return
	}
	name := to.Name
	if to.Abstract {
		name = "@" + name
	}
	if !slices.Contains(r.unixUsed, name) {
		r.unixUsed = append(r.unixUsed, name)
	}
	if to.Abstract || p.Socket(to.Name) != nil {
		return
	}
	root, err := ptrace.OpenRoot(fmt.Sprintf("/proc/%d/root", p.TID))
	if err != nil {
		return
	}
	defer root.Close()
	f, err := root.Find(p.Paths[0], true)
	if err != nil {
		return
	}
	r.usesDir = r.usesDir || !strings.HasPrefix(to.Name, "/")
	if p.Name == "bind" { // it is there now, and was not before
		dir := f.Parent()
		if r.changed[dir] == 0 {
			r.changed[dir] = step
		}
		r.made[f.Path] = true
		r.right(dir, unix.LANDLOCK_ACCESS_FS_MAKE_SOCK, step)
		return
	}
	r.named(p.Paths[0], f.Path)
	r.did(f, looked, step)
}

// port is a TCP port that an internet socket is to lead to, or be.
func (r *Record) port(p *pending, step int) {
	to, err := p.Address()
	switch {
	case p.Name == "listen":
		// Without a bind before it takes any.
		if len(r.bind) == 0 {
			r.bind[0] = step
		}
	case err != nil:
	case p.Name == "connect" && r.connect[uint32(to.Port)] == 0 && to.Port != 0:
		r.connect[uint32(to.Port)] = step
	case p.Name == "bind" && r.bind[uint32(to.Port)] == 0:
		r.bind[uint32(to.Port)] = step
	}
}
