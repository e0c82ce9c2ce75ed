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
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/elfdeps"
	"jailctl/internal/host"
	"jailctl/internal/packages"
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
