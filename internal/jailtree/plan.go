// Package jailtree makes the trees that jails are: it plans what a contents file
// asks for, builds the whole of it beside the tree in use, puts it in its place at
// one stroke, and tells later what differs. It runs as root, at an administrator's
// word, and never inside a jail.
//
// Make computes a Plan and writes nothing; Store is the only writer.
package jailtree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/archive"
	"jailctl/internal/contents"
	"jailctl/internal/elfdeps"
	"jailctl/internal/host"
	"jailctl/internal/packages"
	"jailctl/internal/paths"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// Problem is something asked for that cannot be had.
type Problem struct {
	At   contents.At
	What string
	Fix  string
}

func (p Problem) Error() string { return fmt.Sprintf("%s: %s; %s", p.At, p.What, p.Fix) }

// Problems are all that stand in the way of a plan.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Entry is one file of a tree to be, and how to make it.
type Entry struct {
	*jailpb.Entry
	// text is the content of a file that no file of the host has.
	text []byte
	// info is the file on the host that the content comes from.
	info host.Info
	// member is where the archive has the content, "" elsewhere.
	member string
	// asker is whose line it was.
	asker contents.At
	// implied: a directory that is only on the way to what was asked for.
	implied bool
}

// Plan is a tree to be.
type Plan struct {
	// Entries ascend by path; the first is "/".
	Entries []Entry
	// Packages are those that entries come from.
	Packages []*jailpb.Origin
	// Notes are what an administrator may want to know of the tree.
	Notes []string
	// Keep is how many old trees to keep.
	Keep int

	host *host.Host
	// archive is without links on the way to it, archived the file that changes with it.
	archive, archived string
	// sums are the SHA-256 of the files in the archive, once they are asked for.
	sums map[string][]byte
}

// Host is what a plan is made from.
type Host struct {
	Files    *host.Host
	Packages *packages.DB
	Names    source.Names
	// Root is where the tree is to be, "" where that does not matter.
	Root string
}

// forbidden are the mode bits that nothing in a tree has unless a directory is
// declared with them: set-user-ID, set-group-ID and sticky, and writing by others.
const forbidden = 0o7022

type planner struct {
	Host
	ctx     context.Context
	elf     *elfdeps.Resolver
	spec    *contents.Spec
	exclude []*exclusion
	without map[string]*exclusion // of directories: what leaves each out, or nil
	tree    map[string]*Entry
	states  []string      // state directories in it
	work    int           // what real has left
	below   map[seen]bool // directories of the host that were taken whole
	looked  map[seen]bool // files of which all that they need is there
	enters  map[entering]bool
	leads   map[string]lead        // of directories of the host
	ways    map[string]way         // likewise
	places  map[string]string      // directories of jailctl's own, and whose place they are of
	dlopen  map[string]string      // what is not found, and the first file that may load it
	names   map[string][]string    // in directories
	scripts map[string][]string    // interpreters of scripts that were found
	asked   map[string]contents.At // what must be in the tree, and whose line it is
	lacks   map[string][]lack      // what files need and exclude: keeps out
	// archive is without links on the way to it, archived what changes with it.
	archive, archived string
	special           int      // devices and the like that were found and left out
	sticky            []string // directories of the tree in which everyone may write elsewhere
	problems          Problems
	notes             []string
}

// seen is a file that was looked into, as one that was asked for, as a program of a package
// or as one that came along, on behalf of those users, or a directory.
type seen struct {
	name           string
	named, program bool
	by             string
}

// lead is where a directory is without links, and whose links lead there.
type lead struct {
	real string
	by   users
}

// way is where a directory is in the tree and on the host.
type way struct{ inside, outside string }

// entering is the question whether a user can go through a directory.
type entering struct {
	uid uint32
	dir string
}

// Make computes the tree that spec asks for. It reads the host and changes nothing.
// An error of type Problems says where each line of the text went wrong. It ends with
// ctx, since what there is to read can be a user's.
func Make(ctx context.Context, spec *contents.Spec, h Host) (*Plan, error) {
	p := &planner{
		Host: h, ctx: ctx, elf: elfdeps.New(h.Files), spec: spec, tree: map[string]*Entry{}, below: map[seen]bool{},
		without: map[string]*exclusion{}, enters: map[entering]bool{}, leads: map[string]lead{}, ways: map[string]way{}, work: maxWork,
		looked: map[seen]bool{}, places: map[string]string{"/": ""}, dlopen: map[string]string{}, names: map[string][]string{},
		scripts: map[string][]string{}, asked: map[string]contents.At{}, lacks: map[string][]lack{},
	}
	p.elf.Ended = func() error { return context.Cause(ctx) }
	p.tree["/"] = &Entry{Entry: &jailpb.Entry{Path: []byte("/"), Kind: jailpb.Entry_DIRECTORY, Mode: 0o755}}
	p.exclusions()
	// What is declared goes first where other things follow it, and last where it
	// takes the place of what was copied.
	downwards := slices.SortedStableFunc(slices.Values(spec.Directories), func(a, b contents.Directory) int { return cmp.Compare(a.Path, b.Path) })
	for _, d := range downwards {
		p.directory(d)
	}
	for _, l := range spec.Symlinks {
		p.symlink(l)
	}
	if spec.Archive != nil {
		p.unpack(*spec.Archive)
	}
	p.installed()
	for _, name := range spec.Paths {
		p.paths(name, true)
		p.specials(name.Path)
	}
	for _, name := range spec.OptionalPaths {
		p.paths(name, false)
		p.specials(name.Path)
	}
	for _, name := range spec.Programs {
		p.program(name)
	}
	for _, f := range spec.Files {
		if at, asked := p.asked[p.generated(f.At, f.Path, f.Mode, f.Text)]; asked {
			p.instead(at, f.Path, "has a text of its own by", f.At)
		}
	}
	p.accounts()
	for _, d := range spec.Devices {
		p.device(d)
	}
	p.owners()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			file := func(p Problem) int { return slices.Index(spec.Sources, p.At.File) }
			return cmp.Or(cmp.Compare(file(a), file(b)), cmp.Compare(a.At.Line, b.At.Line), cmp.Compare(a.At.Col, b.At.Col), cmp.Compare(a.What, b.What))
		})
		return nil, slices.Compact(p.problems)
	}
	plan := &Plan{Keep: spec.Keep, host: h.Files}
	if spec.Archive != nil {
		plan.archive, plan.archived = p.archive, p.archived
	}
	p.finish(plan)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return plan, nil
}

func (p *planner) problem(at contents.At, fix, format string, args ...any) {
	p.problems = append(p.problems, Problem{at, fmt.Sprintf(format, args...), fix})
}

// told is an error with its path in quotes: whose name it is may hold anything.
func told(err error) string {
	if at, ok := err.(*fs.PathError); ok {
		return fmt.Sprintf("%q: %v", at.Path, at.Err)
	}
	return err.Error()
}

func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// put makes e the tree's entry at its path. What cannot be is a problem: a file
// in the place of a directory, and the other way round.
func (p *planner) put(at contents.At, name string, e *jailpb.Entry) *Entry {
	old := p.tree[name]
	if old != nil && old.Kind != e.Kind && (old.Kind == jailpb.Entry_DIRECTORY || e.Kind == jailpb.Entry_DIRECTORY) {
		p.problem(at, fmt.Sprintf("leave out one of the two; %s asked for the other", old.AskedBy),
			"%q would be a %s and a %s", name, word(old.Kind), word(e.Kind))
		return nil
	}
	if old != nil && old.Kind == jailpb.Entry_SYMLINK {
		clear(p.ways) // which may have led by it
	}
	if e.State {
		p.states = append(p.states, name)
	}
	e.Path, e.AskedBy = []byte(name), at.String()
	added := &Entry{Entry: e, asker: at}
	p.tree[name] = added
	return added
}

func word(k jailpb.Entry_Kind) string {
	switch k {
	case jailpb.Entry_DIRECTORY:
		return "directory"
	case jailpb.Entry_REGULAR:
		return "file"
	case jailpb.Entry_SYMLINK:
		return "symbolic link"
	case jailpb.Entry_DEVICE:
		return "device"
	}
	return "unknown"
}

// maxWork is how many bytes of paths real may go through for one plan: a second or two,
// and a hundred times what the largest images take.
const maxWork = 4 << 30

// real follows the links of the tree itself from a path in it: to "/" for "..".
// What is not in the tree yet is taken to be no link. It leads nowhere where the kernel
// would not go: a path of its own behind too many links would have a link on the way, out
// of the tree. Nor does it once all of it is too much work: a few kilobytes of an archive
// can have it go through thousands of directories for each of forty links, ten thousand
// times.
func (p *planner) real(name string) (at string, ok bool) {
	done, rest := "/", strings.Trim(name, "/")
	for links, led := 0, true; rest != ""; {
		// No link is on the way to a directory of the tree.
		if head := strings.LastIndexByte(rest, '/'); led && head > 0 {
			p.work -= head
			if e := p.tree[below(done, rest[:head])]; e != nil && e.Kind == jailpb.Entry_DIRECTORY {
				done, rest = string(e.Path), rest[head+1:]
			}
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		rest, led = strings.TrimLeft(rest, "/"), false
		if part == "." {
			continue
		}
		if part == ".." {
			done = path.Dir(done) // which has no links
			continue
		}
		at := below(done, part)
		if p.work -= len(at); p.work < 0 || len(at) >= unix.PathMax || p.ctx.Err() != nil {
			return "", false
		}
		e := p.tree[at]
		if e == nil || e.Kind != jailpb.Entry_SYMLINK {
			done = at
			continue
		}
		if links++; links > 40 {
			return "", false
		}
		if strings.HasPrefix(string(e.Target), "/") {
			done = "/"
		}
		rest, led = strings.Trim(string(e.Target)+"/"+rest, "/"), true
	}
	return done, true
}

// leadsTo tells whether a path leads to something in the tree.
func (p *planner) leadsTo(name string) bool {
	at, ok := p.real(name)
	return ok && p.tree[at] != nil
}

// below is a path in a directory.
func below(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// way makes the directories, and the links among them, that lead to name in the
// tree as they lead to it on the host, and returns where in the tree and on the
// host they end: the directory, without links. Where the tree has a directory or a
// link of its own, from the contents file or the archive, the tree's counts.
func (p *planner) way(at contents.At, dir string) (inside, outside string, ok bool) {
	inside, outside = "/", "/"
	rest := dir
	// The way to the directory above is known, where all of a directory is added. From the
	// beginning it would take a thousand steps for each of a user's files that deep.
	up, base, clean := above(dir)
	if w, known := p.ways[up]; known && clean {
		inside, outside, rest = w.inside, w.outside, base
	}
	for links := 0; ; {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			if clean {
				p.ways[strings.TrimRight(dir, "/")] = way{inside, outside}
			}
			return inside, outside, true
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		in, out := path.Join(inside, part), path.Join(outside, part)
		have := p.tree[in]
		if have == nil && p.state(in) {
			return in, "", false // its owner's; nothing is put there
		}
		info, err := p.Files.Lstat(out)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			p.problem(at, "mend that, or leave the path out", "%v", told(err))
			return "", "", false
		}
		switch {
		case err == nil && info.IsSymlink() && (have == nil || have.Kind == jailpb.Entry_SYMLINK):
			target, err := p.Files.Readlink(out)
			if err != nil {
				p.problem(at, "mend that, or leave the path out", "%v", told(err))
				return "", "", false
			}
			if have != nil && string(have.Target) != target {
				break // the tree's own link; below
			}
			if links++; links > 40 {
				p.problem(at, "mend the links, or leave the path out", "symbolic links go round in a circle at %q", out)
				return "", "", false
			}
			if have == nil {
				p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_SYMLINK, Mode: 0o777, Target: []byte(target), Origin: []byte(out)})
			}
			if strings.HasPrefix(target, "/") {
				inside, outside = "/", "/"
			}
			rest = target + "/" + rest
			continue
		case err == nil && !info.IsDir() && !info.IsSymlink():
			p.problem(at, "name a path below a directory", "%q is not a directory", out)
			return "", "", false
		case have == nil:
			mode := uint32(0o755)
			e := &jailpb.Entry{Kind: jailpb.Entry_DIRECTORY, Mode: mode}
			if err == nil {
				e.Mode, e.Origin = p.mode(out, info), []byte(out)
			}
			p.put(at, in, e).implied = true
		}
		// The tree has something here that the host has not in this form, or they agree.
		if have = p.tree[in]; have.Kind == jailpb.Entry_SYMLINK {
			to, ok := p.real(in)
			if !ok {
				p.problem(at, "mend the links, or leave the path out", "symbolic links of the jail go round in a circle, or too far, at %q", in)
				return "", "", false
			}
			in = to
			have = p.tree[in]
			if have == nil {
				have = p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_DIRECTORY, Mode: 0o755})
				p.parents(at, in)
			}
		}
		if have == nil || have.Kind != jailpb.Entry_DIRECTORY {
			p.problem(at, "leave out one of the two", "%q is asked for below %q, which is no directory in the jail", dir, in)
			return "", "", false
		}
		if err == nil && info.IsSymlink() {
			if out, err = p.Files.Real(out); err != nil {
				p.problem(at, "mend the link, or leave the path out", "%v", told(err))
				return "", "", false
			}
		}
		inside, outside = in, out
	}
}

// parents makes the directories above a path in the tree that has none.
func (p *planner) parents(at contents.At, name string) {
	for dir := path.Dir(name); p.tree[dir] == nil; dir = path.Dir(dir) {
		p.put(at, dir, &jailpb.Entry{Kind: jailpb.Entry_DIRECTORY, Mode: 0o755}).implied = true
	}
}

// exclusion is what one line of exclude: leaves out.
type exclusion struct {
	contents.Path
	// patterns are the path as it is written and, where that goes through links of the
	// host, as it is without them: /bin/sh stands for /usr/bin/sh as well.
	patterns []string
	// used: there was something to leave out.
	used bool
}

func (p *planner) exclusions() {
	for _, x := range p.spec.Exclude {
		patterns := []string{x.Path}
		dir, rest := path.Split(x.Path)
		if i := strings.IndexAny(x.Path, meta); i >= 0 {
			dir, rest = x.Path[:strings.LastIndex(x.Path[:i], "/")+1], x.Path[strings.LastIndex(x.Path[:i], "/")+1:]
		}
		if real, err := p.Files.Real(dir); err == nil && path.Join(real, rest) != x.Path {
			patterns = append(patterns, escape.Replace(real)+"/"+rest)
		}
		p.exclude = append(p.exclude, &exclusion{x, patterns, false})
	}
}

// has tells whether a path itself is meant.
func (x *exclusion) has(name string) bool {
	return slices.ContainsFunc(x.patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// meta are the characters that make a path a pattern.
const meta = `*?[\`

var escape = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`)

// excluded is the first line that leaves a path, or a directory above it, out, nil where
// none does.
func (p *planner) excluded(name string) *exclusion {
	if len(p.exclude) == 0 || name == "/" {
		return nil
	}
	dir := name[:max(1, strings.LastIndexByte(name, '/'))]
	first, known := p.without[dir]
	if !known {
		first = p.excluded(dir)
		p.without[dir] = first
	}
	for _, x := range p.exclude {
		if x.has(name) {
			x.used = true
			first = cmp.Or(first, x)
		}
	}
	return first
}

// away is the line that leaves a path of the host out.
func (p *planner) away(name string) *exclusion {
	dir, base := path.Split(name)
	real, err := p.Files.Real(dir)
	if err != nil {
		return nil
	}
	return p.excluded(path.Join(real, base))
}

// leaves tells whether a path that was asked for as name is excluded, and tells an
// administrator who would not expect that.
func (p *planner) leaves(at contents.At, real, name string, how how) bool {
	x := p.excluded(real)
	switch {
	case x == nil:
		return false
	case how.needed != "":
		p.lacks[name] = append(p.lacks[name], lack{how.needed, x.At})
	case how.must:
		p.instead(at, name, "is excluded by", x.At)
	}
	return true
}

// lack is a file that needs what a line excludes.
type lack struct {
	by string
	contents.At
}

// own tells whether a line is of the jail's own file, and not of a preset.
func (p *planner) own(at contents.At) bool {
	return len(p.spec.Sources) > 0 && at.File == p.spec.Sources[0]
}

// instead tells of what a line asks for and another line keeps out of the jail, or puts
// something else in its place. In one file that is a mistake; what a preset asks for, the
// jail's own file can take back, and nothing is said.
func (p *planner) instead(at contents.At, name, what string, other contents.At) {
	switch {
	case at.File == other.File:
		p.problem(at, "remove one of the two", "%q is asked for here and %s %s", name, what, at.To(other))
	case !p.own(other):
		p.note("%s: %q is asked for here and %s %s", at, name, what, at.To(other))
	}
}

// state tells whether a path of the tree is a state directory or in one: what is there
// is its owner's.
func (p *planner) state(in string) bool { return p.stateOf(in) != nil }

// stateOf is the state directory that a path of the tree is, or is in.
func (p *planner) stateOf(in string) *Entry {
	for _, dir := range p.states {
		if rest, is := strings.CutPrefix(in, dir); is && (rest == "" || rest[0] == '/') && p.tree[dir].State {
			return p.tree[dir]
		}
	}
	return nil
}

// how says in what manner a path was asked for.
type how struct {
	// whole: a directory comes with all that is in it.
	whole bool
	// named: by itself, and not found in a directory or a package. What cannot be
	// copied is a problem then.
	named bool
	// by are the users whose links lead there, or whose files need it, all on the way.
	by users
	// must: a line asks for this very path, and it is a mistake where the file keeps it out.
	must bool
	// program: what is said holds for what a link stands for as well.
	program bool
	// needed is the file of which it is the interpreter or a library.
	needed string
	// packaged: it was found in a package, or is needed by what was.
	packaged bool
}

// users are ascending, and without root.
type users []uint32

func (u users) with(uid uint32) users {
	i, have := slices.BinarySearch(u, uid)
	if have || uid == 0 {
		return u
	}
	return slices.Insert(slices.Clone(u), i, uid)
}

func (u users) String() string { return fmt.Sprint([]uint32(u)) }

// add puts what the host has at name into the tree, with what it stands for where it
// is a link, and with what it needs to run.
func (p *planner) add(at contents.At, name string, how how) {
	if p.ctx.Err() != nil {
		return // all of it is for nothing
	}
	dir, base := path.Split(name)
	if p.skips(at, name, how) || !p.permitted(at, name, &how) {
		return
	}
	inside, outside, ok := p.way(at, dir)
	if !ok {
		if inside != "" {
			p.owned(at, name, inside, how)
		}
		return
	}
	in, out := path.Join(inside, base), path.Join(outside, base)
	if out == "/" {
		p.problem(at, "name what of it the jail needs", "the whole host cannot be a jail")
		return
	}
	if p.kernels(at, out, how) {
		return
	}
	if p.leaves(at, in, name, how) {
		return
	}
	if p.state(in) {
		p.owned(at, name, in, how)
		return
	}
	info, err := p.Files.Lstat(out)
	if err != nil {
		p.problem(at, p.install(name)+", or leave it out", "%v", told(err))
		return
	}
	if p.ours(at, in, out, info, how) {
		return
	}
	if how.must {
		p.asked[in] = at
	}
	have := p.tree[in]
	if p.archives(have) && !info.IsDir() && (how.named || have.Kind != jailpb.Entry_DIRECTORY) {
		have = nil // an archive is beneath all else
	}
	switch {
	case info.IsSymlink():
		target, err := p.Files.Readlink(out)
		if err != nil {
			p.problem(at, "mend that, or leave it out", "%v", told(err))
			return
		}
		if have == nil {
			p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_SYMLINK, Mode: 0o777, Target: []byte(target), Origin: []byte(out)})
		} else if have.Kind != jailpb.Entry_SYMLINK || string(have.Target) != target {
			p.declared(at, name, have, how)
			return
		}
		p.target(at, out, target, how)
	case info.IsDir():
		if have == nil {
			p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_DIRECTORY, Mode: p.mode(out, info), Origin: []byte(out)})
			p.everyones(in, info.Mode)
		} else if have.Kind == jailpb.Entry_SYMLINK && !how.named {
			return // declared otherwise; what is asked for by itself goes where the link leads
		}
		if how.whole {
			p.whole(at, out, how.by)
		}
	case info.IsRegular():
		if have != nil && have.Kind != jailpb.Entry_REGULAR {
			if have.Kind == jailpb.Entry_DIRECTORY {
				p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_REGULAR})
			} else {
				p.declared(at, name, have, how)
			}
			return
		}
		if have == nil || string(have.Origin) != out {
			if e := p.put(at, in, &jailpb.Entry{
				Kind: jailpb.Entry_REGULAR, Mode: p.mode(out, info), Size: uint64(info.Size), Origin: []byte(out),
			}); e != nil {
				e.info = info
			}
		}
		p.needs(at, out, how)
	default:
		fix := "leave it out"
		if info.Type() == unix.S_IFCHR {
			fix = "devices: names those that a jail can have"
		}
		p.problem(at, fix, "%q is not a file, a directory or a link", out)
	}
}

// kernels tells whether a path is in a file system of the kernel's own, such as /proc: what
// is there is another thing at each moment, and mostly without a size.
func (p *planner) kernels(at contents.At, name string, how how) bool {
	system := p.Files.Kernel(name)
	if system == "" {
		return false
	}
	for top := path.Dir(name); top != "/" && p.Files.Kernel(top) == system; top = path.Dir(top) {
		name = top // told once, whatever of it is asked for
	}
	if how.named {
		p.problem(at, "leave it out", "%q is the kernel's own (%s), which cannot be copied", name, system)
	} else {
		p.note("%q is the kernel's own (%s), and is left out", name, system)
	}
	return true
}

// intoKernel tells whether the way to a path goes into a file system of the kernel's own,
// and notes nothing: /proc/self is another for each build.
func (p *planner) intoKernel(name string) (kernel bool) {
	p.Files.Aside().Walk(name, func(at string, _ host.Info) { kernel = kernel || p.Files.Kernel(at) != "" })
	return kernel
}

// files answers questions about a path, and notes what does not lead there.
func (p *planner) files(name string) *host.Host {
	if p.intoKernel(name) {
		return p.Files.Aside()
	}
	return p.Files
}

// ours tells whether a path is jailctl's own, and refuses that, and a directory that would
// bring the tree that is to be: each build would hold the one before. Where it is only
// led to it is left out: a user may have made the link.
func (p *planner) ours(at contents.At, in, name string, info host.Info, how how) bool {
	dir := name
	if !info.IsDir() {
		dir = path.Dir(name)
	}
	own := p.ownedBy(dir)
	place := own
	if rest, above := strings.CutPrefix(p.Root, name+"/"); above && how.whole && !p.state(path.Join(in, rest)) {
		place = p.Root
	}
	const what = "%q is jailctl's own, and no jail can be made of it"
	switch {
	case place == "":
	case how.named && own != "":
		p.problem(at, "leave it out", what, place)
	case !how.named && (!how.whole || place != p.Root && isStore(place)):
		p.note(what+"; it is left out", place)
	case p.excluded(place) == nil:
		p.problem(at, fmt.Sprintf("exclude: %q leaves it out", place), what, place)
	}
	return own != ""
}

// isStore tells whether a directory could be where old trees of a jail are, by its name.
func isStore(dir string) bool {
	name, hidden := strings.CutPrefix(path.Base(dir), ".")
	return hidden && strings.HasSuffix(name, ".jailctl")
}

// ownedBy is what of jailctl's own a directory is or is in: the tree of this jail, or one
// that is called like its jail; trees that are kept; or what is known of them. Else it is
// "". Nobody else could have it refused: only root makes directories that are root's.
func (p *planner) ownedBy(dir string) string {
	place, known := p.places[dir]
	if known {
		return place
	}
	root := func(dir string) bool {
		info, err := p.Files.Aside().Lstat(dir)
		return err == nil && info.IsDir() && info.UID == 0 && info.Mode&0o777 == 0o700
	}
	up, base := path.Split(dir)
	switch {
	case dir == p.Root, dir == paths.State, isStore(dir) && root(dir), root(up + "." + base + ".jailctl"):
		place = dir
	default:
		place = p.ownedBy(path.Dir(dir))
	}
	p.places[dir] = place
	return place
}

// everyones remembers a directory like /tmp.
func (p *planner) everyones(in string, mode uint32) {
	if mode&0o1002 == 0o1002 {
		p.sticky = append(p.sticky, in)
	}
}

// declared tells of a path of the host in whose place the contents file puts something else.
func (p *planner) declared(at contents.At, name string, have *Entry, how how) {
	if how.must && len(have.Origin) == 0 && !have.implied {
		p.instead(at, name, "is a "+word(have.Kind)+" by", have.asker)
	}
}

// owned tells of a path of the host that leads to in, a state directory or in one, and so
// is left out.
func (p *planner) owned(at contents.At, name, in string, how how) {
	state := p.stateOf(in)
	where := fmt.Sprintf("is in the state directory %q of %s, which builds leave alone", state.Path, at.To(state.asker))
	switch {
	case how.needed != "" && how.named:
		p.problem(at, "move the state directory", "%q needs %q, which %s", how.needed, name, where)
	case how.needed != "":
		p.note("%q needs %q, which %s", how.needed, name, where)
	case how.must:
		p.problem(at, "remove one of the two, or move it", "%q %s", name, where)
	case (how.named || how.packaged) && in != string(state.Path):
		p.note("%s: what would be in the state directory %q of %s is left out, as builds leave that alone", at, state.Path, at.To(state.asker))
	}
}

// skips tells whether something is to be left out that a host has, or has not, at a path,
// before the way there is made: directories to nothing would be left of it.
func (p *planner) skips(at contents.At, name string, how how) bool {
	dir, base := path.Split(name)
	real, _, err := p.led(dir)
	if err == nil {
		real = path.Join(real, base)
		if p.leaves(at, real, name, how) {
			return true
		}
	}
	if how.named {
		return false // what is wrong with it is a mistake
	}
	if err == nil {
		var info host.Info
		if info, err = p.Files.Lstat(real); err == nil {
			special := !info.IsRegular() && !info.IsDir() && !info.IsSymlink()
			if special {
				p.special++
			}
			return special
		}
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// permitted tells whether those whose links and files lead to a path could read what is
// there by themselves. A user could otherwise have root read anything, and copy it, by a
// link in a directory that the contents file names. Those of the links on the way are
// added to how, for what is found there.
func (p *planner) permitted(at contents.At, name string, how *how) bool {
	dir, base := path.Split(name)
	real, by, err := p.led(dir)
	if err != nil {
		return true // and not there
	}
	for _, uid := range by {
		how.by = how.by.with(uid)
	}
	real = path.Join(real, base)
	for _, uid := range how.by {
		switch {
		case p.may(uid, real):
			continue
		case how.named:
			p.problem(at, "make what leads there root's, by chown -h, or leave it out", "a link or file of user %d leads to %q, which that user could not read", uid, real)
		default:
			p.note("a link or file of user %d leads to %q, which that user could not read, and so is left out", uid, real)
		}
		return false
	}
	return true
}

// led is where a path leads, and whose links lead there, but for root's.
func (p *planner) led(name string) (real string, by users, err error) {
	// As for way.
	up, base, clean := above(name)
	this := strings.TrimRight(name, "/")
	if l, known := p.leads[this]; known {
		return l.real, l.by, nil
	}
	if l, known := p.leads[up]; known && clean {
		at := below(l.real, base)
		if info, err := p.Files.Lstat(at); err == nil && info.IsDir() {
			p.leads[this] = lead{at, l.by}
			return at, l.by, nil
		}
	}
	real, err = p.Files.Walk(name, func(_ string, info host.Info) {
		if info.IsSymlink() {
			by = by.with(info.UID)
		}
	})
	if err == nil && clean {
		p.leads[this] = lead{real, by}
	}
	return real, by, err
}

// follow is Files.Real, by the same.
func (p *planner) follow(name string) (string, error) {
	dir, base := path.Split(name)
	if real, _, err := p.led(dir); err == nil && base != "" && base != "." && base != ".." {
		at := below(real, base)
		if info, err := p.Files.Lstat(at); err != nil || !info.IsSymlink() {
			return at, err
		}
	}
	return p.Files.Real(name)
}

// above is the directory that a directory is in, and its name there. Clean tells whether
// it is written as a directory, with a slash at its end, and without "." and "..".
func above(dir string) (up, base string, clean bool) {
	this := strings.TrimRight(dir, "/")
	i := strings.LastIndexByte(this, '/')
	return this[:max(0, i)], this[i+1:], i >= 0 && len(dir) == len(this)+1 && path.Clean(this) == this
}

// mode is the mode that a copy of what the host has at a path gets. Group and access
// control list do not come along, so others get no more than everybody has: else who is
// kept from a file by either could read it in the jail.
func (p *planner) mode(name string, info host.Info) uint32 {
	m := info.Mode & 0o777 &^ forbidden
	everybody, err := p.Files.Everybody(name)
	if err != nil {
		p.note("%s; nobody but root can read it in the jail", told(err))
	} else if m&7&^everybody != 0 {
		p.note("%q can be read by others, but not by some group or user: in the jail others cannot", name)
	}
	return m&^7 | m&everybody
}

// may tells whether a user could read what is at a path without links, as owner or as
// anybody; what groups a user is in counts for nothing, but that a group may have less.
func (p *planner) may(uid uint32, name string) bool {
	return p.has(uid, name, unix.R_OK) && p.enter(uid, path.Dir(name))
}

// enter tells whether a user could go through a directory, and all above it.
func (p *planner) enter(uid uint32, dir string) bool {
	can, known := p.enters[entering{uid, dir}]
	if !known {
		can = p.has(uid, dir, unix.X_OK) && (dir == "/" || p.enter(uid, path.Dir(dir)))
		p.enters[entering{uid, dir}] = can
	}
	return can
}

// has tells whether the mode of what is at a path, if there is anything, gives a user a right.
func (p *planner) has(uid uint32, name string, right uint32) bool {
	info, err := p.Files.Lstat(name)
	switch {
	case err != nil:
		return errors.Is(err, fs.ErrNotExist)
	case info.IsSymlink():
		return true
	case info.IsDir():
		right |= unix.X_OK
	}
	bits := info.Mode >> 6
	if info.UID != uid {
		if bits, err = p.Files.Everybody(name); err != nil {
			return false
		}
	}
	return bits&right == right
}

// archives tells whether an entry is the archive's.
func (p *planner) archives(e *Entry) bool {
	return e != nil && p.spec.Archive != nil && e.asker == p.spec.Archive.At
}

// target adds what a link on the host stands for: a file always, since a link that
// leads nowhere serves nobody, a directory only where the link was asked for. What
// cannot be copied is a mistake then.
func (p *planner) target(at contents.At, link, target string, how how) {
	if !strings.HasPrefix(target, "/") {
		target = path.Dir(link) + "/" + target // not cleaned: ".." is after the links
	}
	if its, err := p.Files.Lstat(link); err == nil {
		how.by = how.by.with(its.UID)
	}
	how.whole = how.whole && how.named // else it is for a file alone
	how.must = how.must && how.program
	how.program = how.program || slices.Contains(searched, path.Dir(link))
	if p.intoKernel(target) {
		p.beyond(at, target, how)
		return
	}
	real, err := p.follow(target)
	if err != nil {
		if how.named {
			p.problem(at, "mend the link, or leave it out", "the link %q leads nowhere: %s", link, told(err))
		}
		return
	}
	info, err := p.Files.Lstat(real)
	if err == nil && (info.IsRegular() || how.named) {
		p.add(at, target, how)
	}
}

// beyond adds what a link stands for from which others lead into a file system of the
// kernel's own. The one that leads there stays a link to what the jail does not have.
func (p *planner) beyond(at contents.At, target string, how how) {
	dir, base := path.Split(target)
	real, err := p.Files.Aside().Real(dir)
	switch {
	case err != nil:
	case p.Files.Kernel(path.Join(real, base)) == "":
		p.add(at, target, how)
	case how.must:
		p.kernels(at, path.Join(real, base), how)
	}
}

// whole adds all that is in a directory.
func (p *planner) whole(at contents.At, dir string, by users) {
	if p.below[seen{name: dir, by: by.String()}] {
		return
	}
	p.below[seen{name: dir, by: by.String()}] = true
	names, err := p.Files.List(dir)
	if err != nil {
		p.problem(at, "mend that, or exclude it", "%v", told(err))
		return
	}
	for _, name := range names {
		p.add(at, path.Join(dir, name), how{whole: true, by: by})
	}
}

// needs adds what a file needs to run: interpreter and libraries of an ELF file, the
// interpreter of a script that was named, or that is where a package has its programs:
// on the shell, which every system has, no package depends.
func (p *planner) needs(at contents.At, name string, how how) {
	// Elsewhere packages have examples, tests and what only installing them runs.
	how.packaged = how.packaged && (how.program || how.needed != "" || slices.Contains(searched, path.Dir(name)))
	this := seen{name, how.named, how.packaged, how.by.String()}
	if p.looked[this] {
		return
	}
	p.looked[this] = true
	info, err := p.Files.Lstat(name)
	if err == nil {
		how.by = how.by.with(info.UID)
	}
	switch head, err := p.head(name); {
	case err != nil:
		p.problem(at, "mend that, or exclude it", "%v", told(err))
	case strings.HasPrefix(head, "\x7fELF"):
		p.libraries(at, name, how)
	case strings.HasPrefix(head, "#!") && (how.named || info.Mode&0o111 != 0 && (how.packaged || p.own(at))):
		p.interpreter(at, name, head, how)
	}
}

// longest is how much of a script's first line counts: execve(2).
const longest = 255

func (p *planner) head(name string) (string, error) {
	f, err := p.Files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [longest]byte
	n, err := io.ReadFull(f, b[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	return string(b[:n]), nil
}

func (p *planner) interpreter(at contents.At, script, head string, asked how) {
	wrong := func(fix, format string, args ...any) {
		switch {
		case asked.named:
			p.problem(at, fix, format, args...)
		case asked.packaged:
			p.note(format, args...)
		}
	}
	line, _, _ := strings.Cut(head[2:], "\n")
	words := strings.Fields(line)
	if len(words) == 0 || !strings.HasPrefix(words[0], "/") {
		wrong("mend its first line", "the script %q has no interpreter", script)
		return
	}
	if !p.executable(words[0]) {
		wrong("install it, or leave the script out", "the script %q needs %q, which is no program on the host", script, words[0])
		return
	}
	p.runs(at, script, words[0], asked)
	if path.Base(words[0]) != "env" {
		return
	}
	name := sought(words[1:])
	found, ok := p.find(name)
	switch {
	case name == "":
		wrong("mend its first line", "the script %q has no interpreter", script)
	case !ok:
		wrong("install it, or leave the script out", "the script %q has env(1) look up %q, which is no program in %s", script, name, strings.Join(searched, ", "))
	default:
		p.runs(at, script, found, asked)
	}
}

// runs adds an interpreter. For a script that is only found somewhere it is no more than
// told, at the end: libraries of scripts are full of first lines that nobody needs.
func (p *planner) runs(at contents.At, script, program string, asked how) {
	if asked.named || asked.packaged {
		p.add(at, program, asked.of(script))
	} else {
		p.scripts[program] = append(p.scripts[program], script)
	}
}

// sought is the program that env(1) would look up for the words of a script's first
// line: what follows its options and assignments.
func sought(words []string) string {
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if text, ok := strings.CutPrefix(w, "--split-string="); ok {
			w = "-S" + text
		}
		switch {
		case strings.HasPrefix(w, "-S") && len(w) > 2:
			words = append([]string{w[2:]}, words...)
		case w == "-u" || w == "-C" || w == "--unset" || w == "--chdir":
			words = words[min(1, len(words)):]
		case !strings.HasPrefix(w, "-") && !strings.Contains(w, "="):
			return w
		}
	}
	return ""
}

// executable tells whether a path of the host is a program, or a link to one.
func (p *planner) executable(name string) bool {
	real, err := p.Files.Real(name)
	if err != nil {
		return false
	}
	info, err := p.Files.Lstat(real)
	return err == nil && info.IsRegular() && info.Mode&0o111 != 0
}

// find looks a program up, by its path or by its name.
func (p *planner) find(name string) (string, bool) {
	if strings.HasPrefix(name, "/") {
		return name, p.executable(name)
	}
	for _, dir := range searched {
		if at := path.Join(dir, name); p.executable(at) {
			return at, true
		}
	}
	return "", false
}

// Find is where a build finds a program on the host.
func Find(files *host.Host, name string) (string, bool) {
	p := &planner{Host: Host{Files: files}}
	return p.find(name)
}

func (p *planner) libraries(at contents.At, name string, asked how) {
	var refused []string
	p.elf.May = nil
	if len(asked.by) > 0 {
		p.elf.May = func(real string) bool {
			for _, uid := range asked.by {
				if !p.may(uid, real) {
					refused = append(refused, real)
					return false
				}
			}
			return true
		}
	}
	o, err := p.elf.Resolve(name)
	for _, real := range refused {
		p.note("%q leads to %q, which those whose file or link it is could not read, and so it is as if not there", name, real)
	}
	foreign := errors.Is(err, elfdeps.ErrMachine) // for an emulator, or data of a compiler
	switch {
	case p.ctx.Err() != nil:
		return
	case errors.Is(err, elfdeps.ErrNotELF) || foreign && !asked.named:
		return
	case err != nil && asked.named && !foreign:
		p.problem(at, "mend the file, or leave it out", "%v", told(err))
		return
	case err != nil:
		p.note("%s; what it needs does not come along", told(err))
		return
	}
	if o.Interp != "" {
		p.add(at, o.Interp, asked.of(name))
	}
	for _, l := range slices.Concat(o.Libraries, o.OtherCPUs) {
		p.add(at, l.Path, asked.of(name))
	}
	if o.Cache != "" {
		// In directories that the loader knows from its cache alone.
		p.add(at, o.Cache, asked.of(name))
	}
	for _, m := range o.Missing {
		if asked.named {
			p.problem(at, "install the package that has it", "%q needs %q, which the host does not have", m.By, m.Name)
		} else {
			p.note("%q needs %q, which the host does not have", m.By, m.Name)
		}
	}
	near := p.near(o, asked.by)
	for _, so := range o.Dlopen {
		if found := p.beside(near, so, asked.by); found != "" {
			p.add(at, found, how{by: asked.by})
		} else if by, ok := p.dlopen[so]; !ok || name < by {
			p.dlopen[so] = name
		}
	}
}

// maxBeside is how many places are looked at for what one file of a user's may load: its
// owner chooses both the names and the directories.
const maxBeside = 100_000

// near are the directories in which what o may pass to dlopen(3) is looked for.
func (p *planner) near(o *elfdeps.Object, by users) []string {
	near := []string{path.Dir(o.Path)}
	have := map[string]bool{near[0]: true}
	for _, l := range o.Libraries {
		if dir := path.Dir(l.Path); !have[dir] {
			have[dir] = true
			near = append(near, dir)
		}
	}
	if len(by) > 0 && len(near)*len(o.Dlopen) > maxBeside {
		p.note("%q has too many names of shared objects and directories for them; what it may load comes along from %q alone", o.Path, near[0])
		return near[:1]
	}
	return near
}

// beside is where a shared object is that a program may pass to dlopen(3): in its own
// directory or one from which the loader takes what it needs. "" is nowhere.
func (p *planner) beside(near []string, so string, by users) string {
	for _, dir := range near {
		// Of a user's names, who asked for what is not there would be noted one by one.
		if len(by) > 0 && !p.lists(dir, so) {
			continue
		}
		at := path.Join(dir, so)
		if real, err := p.Files.Real(at); err == nil {
			if info, err := p.Files.Lstat(real); err == nil && info.IsRegular() {
				return at
			}
		}
	}
	return ""
}

// lists tells whether a directory has a name.
func (p *planner) lists(dir, name string) bool {
	names, known := p.names[dir]
	if !known {
		if real, err := p.Files.Real(dir); err == nil {
			names, _ = p.Files.List(real) // one that is not there has none
		}
		p.names[dir] = names
	}
	_, has := slices.BinarySearch(names, name)
	return has
}

// of is how what a file needs is added: named with it, since it must be there.
func (h how) of(file string) how {
	return how{named: h.named, packaged: h.packaged, by: h.by, needed: file}
}

// searched is where programs without a directory are looked for.
var searched = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

func (p *planner) program(name contents.Path) {
	if strings.HasPrefix(name.Path, "/") {
		if _, err := p.Files.Real(name.Path); err == nil && !p.executable(name.Path) {
			p.problem(name.At, "name it under paths: if it is not one", "%q is not a program", name.Path)
			return
		}
		p.add(name.At, name.Path, how{named: true, must: true, program: true})
		return
	}
	if found, ok := p.find(name.Path); ok {
		p.add(name.At, found, how{named: true, must: true, program: true})
		return
	}
	p.problem(name.At, p.install(name.Path)+", or write its whole path", "there is no program %q in %s", name.Path, strings.Join(searched, ", "))
}

// paths adds a path, or all that a pattern matches.
func (p *planner) paths(name contents.Path, needed bool) {
	if !strings.ContainsAny(name.Path, meta) {
		if _, err := p.files(name.Path).Real(name.Path); err != nil && !needed {
			return
		}
		p.add(name.At, name.Path, how{whole: true, named: true, must: true})
		return
	}
	found := p.glob("/", strings.Split(strings.TrimPrefix(name.Path, "/"), "/"))
	var by *exclusion
	kept := slices.DeleteFunc(slices.Clone(found), func(f string) bool {
		x := p.away(f)
		by = cmp.Or(by, x)
		return x != nil
	})
	if by != nil && len(kept) == 0 {
		p.instead(name.At, name.Path, "is excluded by", by.At)
	}
	for _, f := range kept {
		if _, err := p.files(f).Real(f); err != nil && !needed {
			continue
		}
		p.add(name.At, f, how{whole: true, named: true})
	}
	if len(found) == 0 && needed {
		p.problem(name.At, p.install(name.Path)+", mend the pattern, or write it under optional_paths:", "nothing on the host matches %q", name.Path)
	}
}

// glob is every path of the host that a pattern matches, a component at a time.
// As in a shell, what begins with a dot is matched by a dot only.
func (p *planner) glob(dir string, pattern []string) (found []string) {
	if len(pattern) == 0 {
		return []string{dir}
	}
	if p.ctx.Err() != nil {
		return nil
	}
	files := p.files(dir)
	real, err := files.Real(dir)
	if err != nil {
		return nil
	}
	if !strings.ContainsAny(pattern[0], meta) {
		if _, err := files.Lstat(path.Join(real, pattern[0])); err != nil {
			return nil
		}
		return p.glob(path.Join(dir, pattern[0]), pattern[1:])
	}
	names, err := files.List(real)
	if err != nil {
		return nil
	}
	for _, n := range names {
		ok, _ := path.Match(pattern[0], n)
		if ok && (n[0] != '.' || pattern[0][0] == '.') {
			found = append(found, p.glob(path.Join(dir, n), pattern[1:])...)
		}
	}
	return found
}

// packages adds the files of packages.
func (p *planner) installed() {
	for _, want := range p.spec.Packages {
		_, err := p.Packages.Installed(want.Name)
		if err != nil {
			p.problem(want.At, "or leave the package out", "%v", told(err))
			continue
		}
		names := []string{want.Name}
		if want.WithDependencies {
			closure, err := p.Packages.Closure(want.Name)
			if err != nil {
				p.problem(want.At, "or leave the package out", "%v", told(err))
				continue
			}
			for _, c := range closure {
				if c.Name != want.Name {
					names = append(names, c.Name)
				}
			}
		}
		for _, name := range names {
			files, err := p.Packages.Files(name)
			if err != nil {
				p.problem(want.At, "or leave the package out", "%v", told(err))
				continue
			}
			for _, f := range files {
				p.add(want.At, f, how{packaged: true})
			}
			p.specials(name)
		}
	}
}

// place is where in the tree a declared path is: its directory is led to as on
// the host.
func (p *planner) place(at contents.At, name string) (string, bool) {
	dir, base := path.Split(name)
	inside, _, ok := p.way(at, dir)
	if inside != "" && p.state(inside) {
		p.inState(at, name)
		return "", false
	}
	return path.Join(inside, base), ok
}

func (p *planner) inState(at contents.At, name string) {
	p.problem(at, "remove one of the two, or move it", "%q is in a state directory, as the links lead, and builds leave that alone", name)
}

// owners finds what was planned inside a state directory that was not known to be one
// yet: its owner could put a link in the way of whoever writes, owns or compares it.
func (p *planner) owners() {
	for name, e := range p.tree {
		if name != "/" && p.state(path.Dir(name)) {
			p.inState(e.asker, name)
		}
	}
}

func (p *planner) directory(d contents.Directory) {
	in, ok := p.place(d.At, d.Path)
	if !ok {
		return
	}
	e := &jailpb.Entry{Kind: jailpb.Entry_DIRECTORY, Mode: d.Mode, State: d.State}
	if d.Owner != "" {
		u, err := p.user(d.Owner)
		if err != nil {
			p.problem(d.At, "create the account, or write a number", "there is no user %q: %v", d.Owner, err)
			return
		}
		e.Uid = u.UID
		if u.Name != "" {
			e.Gid = u.GID
		}
	}
	if d.Group != "" {
		gid, _, err := p.group(d.Group)
		if err != nil {
			p.problem(d.At, "create the group, or write a number", "there is no group %q: %v", d.Group, err)
			return
		}
		e.Gid = gid
	}
	p.put(d.At, in, e)
}

func (p *planner) symlink(l contents.Symlink) {
	if in, ok := p.place(l.At, l.Path); ok {
		p.put(l.At, in, &jailpb.Entry{Kind: jailpb.Entry_SYMLINK, Mode: 0o777, Target: []byte(l.Target)})
	}
}

// generated adds a file with a text of its own, in the place of what was copied, and
// returns where in the tree it is.
func (p *planner) generated(at contents.At, name string, mode uint32, text []byte) string {
	in, ok := p.place(at, name)
	if !ok {
		return ""
	}
	e := p.put(at, in, &jailpb.Entry{Kind: jailpb.Entry_REGULAR, Mode: mode, Size: uint64(len(text))})
	if e != nil {
		e.text = append([]byte{}, text...)
	}
	return in
}

func (p *planner) device(d contents.Name) {
	n := contents.DeviceNames[d.Name]
	if in, ok := p.place(d.At, "/dev/"+d.Name); ok {
		p.put(d.At, in, &jailpb.Entry{Kind: jailpb.Entry_DEVICE, Mode: n.Mode, Major: n.Major, Minor: n.Minor})
	}
}

// archive puts all of an archive into the tree. Its members obey the same rules as
// what is copied: root's, without set-id bits, no devices.
func (p *planner) unpack(a contents.Path) {
	file, image := archive.Split(a.Path)
	for at := len(a.Path); at > len(file); at = strings.LastIndexByte(a.Path[:at], ':') {
		p.Files.Lstat(a.Path[:at]) // the archive would be this, were it there
	}
	real, by, err := p.led(file)
	for _, uid := range by {
		if err == nil && !p.may(uid, real) {
			err = fmt.Errorf("a link of user %d leads to %q, which that user could not read", uid, real)
		}
	}
	// No link leads anywhere else by the time it is read.
	p.archive = real
	if image != "" {
		p.archive += ":" + image
	}
	if err == nil {
		var info host.Info
		if info, err = p.Files.Lstat(real); err == nil && info.IsDir() {
			// The index of an image names everything else in it by its hash.
			real = path.Join(real, "index.json")
			_, err = p.Files.Lstat(real)
		}
	}
	p.archived = real
	if err != nil {
		p.problem(a.At, "write the path of a tar file or an image layout", "%v", told(err))
		return
	}
	regular := map[string]archive.Member{} // also those that the tree does not have
	err = archive.Read(p.ctx, p.archive, func(m archive.Member, _ io.Reader) error {
		if m.Kind == archive.Regular {
			regular[m.Path] = m
		}
		dir, base := path.Split(m.Path)
		to, ok := p.real(path.Clean(dir))
		in := path.Join(to, base)
		if !ok || len(in) >= unix.PathMax {
			return fmt.Errorf("symbolic links in %q go round in a circle, or too far, on the way to %q", p.archive, m.Path)
		}
		if p.excluded(m.Path) != nil || p.excluded(in) != nil || p.state(in) {
			return nil
		}
		if m.Kind == archive.Other {
			p.special++
			return nil
		}
		p.parents(a.At, in)
		if have := p.tree[in]; have != nil && !p.archives(have) {
			switch {
			case have.implied && m.Kind == archive.Symlink:
				p.problem(have.asker, "name the path that it leads to", "%q is a link to %q in the archive, and something beneath it is asked for", in, m.Target)
				return nil
			case !have.implied || m.Kind != archive.Directory:
				return nil // the contents file says otherwise
			}
		}
		content := m
		if m.Kind == archive.HardLink {
			content = regular[m.Target]
		}
		e := &jailpb.Entry{Mode: content.Mode & 0o777 &^ forbidden, Origin: []byte(a.Path + ":" + m.Path)}
		switch m.Kind {
		case archive.Directory:
			e.Kind = jailpb.Entry_DIRECTORY
			p.everyones(in, m.Mode)
		case archive.Regular, archive.HardLink:
			e.Kind, e.Size = jailpb.Entry_REGULAR, uint64(content.Size)
		case archive.Symlink:
			e.Kind, e.Mode, e.Target = jailpb.Entry_SYMLINK, 0o777, []byte(m.Target)
		}
		if added := p.put(a.At, in, e); added != nil && e.Kind == jailpb.Entry_REGULAR {
			added.member = content.Path
		}
		return nil
	})
	if err != nil {
		p.problem(a.At, "mend that, or name another archive", "%v", told(err))
	}
	p.specials(a.Path)
}

// specials tells how many devices and the like were left out of what was found in a place.
func (p *planner) specials(in string) {
	if p.special > 0 {
		p.note("devices, FIFOs or the like in %q are left out: %d; devices: names those that a jail can have", in, p.special)
	}
	p.special = 0
}

// finish puts the entries in order and adds what can be known of all only.
func (p *planner) finish(plan *Plan) {
	for _, e := range p.tree {
		plan.Entries = append(plan.Entries, *e)
	}
	slices.SortFunc(plan.Entries, func(a, b Entry) int { return strings.Compare(string(a.Path), string(b.Path)) })

	// What two names have in common: a file of the host or a member of the archive.
	type source struct {
		dev, ino uint64
		member   string
	}
	first := map[source][]byte{}
	number := map[packages.Package]uint32{}
	present := map[string]bool{}
	for _, e := range plan.Entries {
		present[path.Base(string(e.Path))] = true
		if e.info.Links > 1 || e.member != "" {
			at := source{e.info.Dev, e.info.Ino, e.member}
			if first[at] == nil {
				first[at] = e.Path
			} else {
				e.SameAs = first[at]
			}
		}
		if len(e.Origin) == 0 {
			continue
		}
		if owner, ok := p.Packages.Owner(string(e.Origin)); ok {
			if number[owner] == 0 {
				plan.Packages = append(plan.Packages, &jailpb.Origin{Name: owner.Name, Version: owner.Version})
				number[owner] = uint32(len(plan.Packages))
			}
			e.Package = number[owner]
		}
	}
	if err := p.Packages.Err(); err != nil {
		p.note("whose packages the files are cannot be told: %v", err)
	}
	plan.Notes = p.notes
	for _, e := range plan.Entries {
		if e.Kind != jailpb.Entry_SYMLINK {
			continue
		}
		target := string(e.Target)
		if !strings.HasPrefix(target, "/") {
			target = path.Dir(string(e.Path)) + "/" + target
		}
		to, ok := p.real(target)
		if p.work < 0 {
			plan.Notes = append(plan.Notes, "there are so many links that it is not told where they lead")
			break
		}
		if ok && p.tree[to] == nil {
			plan.Notes = append(plan.Notes, fmt.Sprintf("the link %q leads to %q, which is not in the jail", e.Path, e.Target))
		}
	}
	for so, by := range p.dlopen {
		if !present[so] {
			plan.Notes = append(plan.Notes, fmt.Sprintf("%q may load %q while it runs, which is not in the jail", by, so))
		}
	}
	for _, in := range p.sticky {
		if e := p.tree[in]; e.Kind == jailpb.Entry_DIRECTORY && e.Mode&0o002 == 0 {
			plan.Notes = append(plan.Notes, fmt.Sprintf("everyone can write in %q where it comes from, and only root in the jail; "+
				"directories { path: %q mode: 01777 state: true } is for everyone there as well", in, in))
		}
	}
	for program, of := range p.scripts {
		if !p.leadsTo(program) && p.away(program) == nil {
			plan.Notes = append(plan.Notes, fmt.Sprintf("the script %q names %q, which is not in the jail; programs: %q would bring it", slices.Min(of), program, program))
		}
	}
	for name, by := range p.lacks {
		if !p.leadsTo(name) {
			first := slices.MinFunc(by, func(a, b lack) int { return strings.Compare(a.by, b.by) })
			plan.Notes = append(plan.Notes, fmt.Sprintf("%s: %q needs %q, which is excluded here", first.At, first.by, name))
		}
	}
	for _, x := range p.exclude {
		if !x.used && p.own(x.At) {
			plan.Notes = append(plan.Notes, fmt.Sprintf("%s: exclude %q leaves nothing out", x.At, x.Path.Path))
		}
	}
	slices.Sort(plan.Notes)
	plan.Notes = slices.Compact(plan.Notes)
}
