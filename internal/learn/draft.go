package learn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/elfdeps"
	"jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/paths"
	"jailctl/internal/ptrace"
	"jailctl/internal/textpb"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// A World is what a draft is made with.
type World struct {
	Jail  string      // its name to be
	User  source.User // who ran the command
	Env   []string
	Umask uint32
	Host  jailtree.Host
	// Read reads a preset.
	Read func(path string) ([]byte, error)
}

// A Draft is what a run has taught: the texts of a contents file and of a policy.
type Draft struct {
	Contents, Policy []byte
	// Data are commands that put what the run found in a state directory into the
	// jail's, for root to type after the first build: a user outside of the jail does
	// not get there.
	Data []string
	// Command is the command line with which it works in the jail.
	Command string
	// Lacks are what the run used and the jail cannot have, in words.
	Lacks []string
	// SetID are set-id programs that the run executed, without the rights they give.
	SetID []string
}

// What makes many of something: that many unveils beneath a directory are one for it,
// that many files of a package are the package.
const many = 4

// draft is one in the making.
type draft struct {
	*Record
	World
	lines  []line
	tree   map[string]*jailtree.Entry // that the lines make
	want   []*file                    // what has to be in it
	links  map[string]string          // and the links on the way, with their targets
	dirs   []*state                   // where the run, or the command in the jail, writes
	notes  []note
	setids []string
	left   []*file         // that are missing and that no directory brings
	roots  map[string]bool // directories, and whether they are root's alone
	// withoutPresets: one of them does not go with what else is asked for.
	withoutPresets bool
}

// A line is one of the contents file.
type line struct{ text, comment string }

// A state is a directory whose content is not root's.
type state struct {
	path   string
	mode   uint32
	shared bool // as /tmp is: sticky, root's, for everyone
	why    string
	data   []*file // what the run found in it and used
	listed []*file // directories
}

// A note is about what no line can bring.
type note struct {
	about string
	items []string
	lacks []string // those without which the command may not work
}

// Draft makes the smallest contents file and policy with which the run works again.
func (r *Record) Draft(w World) (*Draft, error) {
	if len(r.Steps) == 0 {
		return nil, errors.New("nothing was executed")
	}
	d := &draft{Record: r, World: w, links: map[string]string{}, roots: map[string]bool{}}
	d.writes()
	d.programLines()
	d.sort()
	for _, s := range d.dirs {
		d.stateLine(s)
	}
	d.fill()
	policy, err := d.policy()
	if err != nil {
		return nil, err
	}
	return &Draft{d.contents(), policy, d.data(), d.command(), d.lacks(), d.setids}, nil
}

// fill adds lines until everything is there. Where presets turn out to be in the way
// of others, it begins anew without.
func (d *draft) fill() {
	lines, notes := slices.Clone(d.lines), slices.Clone(d.notes)
	fill := func() {
		d.plan()
		for _, add := range []func(){d.presets, d.packages, d.directories, d.paths, d.ways} {
			add()
			d.plan()
		}
	}
	if fill(); d.withoutPresets {
		d.lines, d.notes = lines, notes
		fill()
	}
	for _, f := range d.missing() {
		d.lack("though the run found it", quoted(f.path)+" ("+d.what(f.step())+")")
	}
	listings := slices.Clone(d.want)
	for _, s := range d.dirs {
		listings = append(listings, s.listed...)
	}
	for _, f := range listings {
		if f.did[listed] != 0 && !d.complete(f.path) {
			d.note("all that the directory has on the host, but what was used of it", quoted(f.path)+" ("+d.name(f.did[listed])+" lists it)")
		}
	}
}

// complete reports whether a directory of the jail has every name that it has on the
// host, and had before the run.
func (d *draft) complete(dir string) bool {
	names, err := d.Host.Files.List(dir)
	return err != nil || !slices.ContainsFunc(names, func(name string) bool {
		name = path.Join(dir, name)
		s := d.state(name)
		return d.tree[name] == nil && !d.ours(name) && (s == nil || !s.has(name))
	})
}

// names are what stands in a directory that a step lists, but for what others may not
// read: who lists their home has not asked for their keys.
func (d *draft) names(dir string, step int) (all []*file) {
	names, _ := d.Host.Files.List(dir)
	for _, name := range names {
		f := &file{path: path.Join(dir, name)}
		st := stat(f.path)
		if st == nil || d.ours(f.path) {
			continue
		}
		f.stat, f.did[looked] = *st, step
		if f.isLink() || f.isRegular() && st.Mode&0o004 != 0 || f.isDir() && st.Mode&0o005 == 0o005 {
			all = append(all, f)
		}
	}
	return all
}

// listings adds the names of the user's directories to what was used, where the names
// are what a step was after.
func (d *draft) listings() {
	for _, s := range d.dirs {
		for _, f := range s.listed {
			if !d.picks(f) {
				for _, f := range d.names(f.path, f.did[listed]) {
					s.take(f)
				}
			}
		}
	}
	wanted := map[string]bool{}
	for _, f := range d.want {
		wanted[f.path] = true
	}
	for _, dir := range slices.Clone(d.want) {
		if dir.did[listed] == 0 || dir.stat.Uid != d.User.UID || d.picks(dir) {
			continue
		}
		for _, f := range d.names(dir.path, dir.did[listed]) {
			if wanted[f.path] || d.state(f.path) != nil {
				continue
			}
			d.want = append(d.want, f)
			if target, err := d.Host.Files.Readlink(f.path); err == nil && f.isLink() {
				d.links[f.path] = target
			}
		}
	}
}

// pickers are programs that list directories for what they then open: modules of
// python's, and patterns of shells.
var pickers = regexp.MustCompile(`^(python[0-9.]*|sh|dash|bash|ash|ksh|mksh|zsh|fish)$`)

// picks reports whether a directory was listed by none but such a program.
func (d *draft) picks(dir *file) bool {
	return !dir.again && slices.ContainsFunc(d.programs, func(p program) bool {
		return p.step == dir.did[listed] && slices.ContainsFunc(p.files, func(f ptrace.File) bool { return pickers.MatchString(path.Base(f.Path)) })
	})
}

// has reports whether something of a path, or beneath, is among the data.
func (s *state) has(name string) bool {
	return slices.ContainsFunc(s.data, func(f *file) bool { return beneath(f.path, name) })
}

// take adds to the data.
func (s *state) take(f *file) {
	if !s.has(f.path) {
		s.data = append(s.data, f)
	}
}

func (d *draft) note(about, item string) *note {
	at := slices.IndexFunc(d.notes, func(n note) bool { return n.about == about })
	if at < 0 {
		at = len(d.notes)
		d.notes = append(d.notes, note{about: about})
	}
	n := &d.notes[at]
	if !slices.Contains(n.items, item) {
		n.items = append(n.items, item)
	}
	return n
}

// lack is a note on what the command may not work without.
func (d *draft) lack(about, item string) {
	n := d.note(about, item)
	n.lacks = append(n.lacks, item)
}

// lacks are these notes, short.
func (d *draft) lacks() (all []string) {
	for _, n := range d.notes {
		switch len(n.lacks) {
		case 0:
		case 1:
			all = append(all, n.about+": "+n.lacks[0])
		default:
			all = append(all, fmt.Sprintf("%s: %s and %d more", n.about, n.lacks[0], len(n.lacks)-1))
		}
	}
	return all
}

// who ran the command, by name or number.
func (d *draft) who() string { return cmp.Or(d.User.Name, fmt.Sprint(d.User.UID)) }

// name is a step in words.
func (d *draft) name(step int) string {
	argv := d.Steps[step-1].Argv
	name := "?"
	if len(argv) > 0 && argv[0] != "" {
		name = word(path.Base(argv[0]))
	}
	return fmt.Sprintf("step %d (%s)", step, name)
}

// what is the comment on a file.
func (d *draft) what(step int, did deed) string { return d.name(step) + " " + verbs[did] + " it" }

// writes finds the directories that have to be state: those in which the run made,
// changed or removed something, and no others, for what it only read comes with the
// build. A repository is its user's: git works in no other's.
func (d *draft) writes() {
	at, repositories := maps.Clone(d.changed), map[string]int{}
	first := func(in map[string]int, dir string, step int) {
		if in[dir] == 0 || step < in[dir] {
			in[dir] = step
		}
	}
	for _, f := range d.files {
		if step := f.did[wrote]; step != 0 && (f.isRegular() || f.isLink()) && !cache(f.path) {
			first(at, path.Dir(f.path), step)
		}
		if dir, _, ok := strings.Cut(f.path, "/.git/"); ok && f.stat.Uid == d.User.UID {
			step, _ := f.step()
			first(repositories, dir, step)
		}
	}
	why := map[string]string{}
	for dir, step := range repositories {
		why[dir] = d.name(step) + " uses the repository in it, and git works in none but its user's"
	}
	for dir, step := range at {
		why[dir] = d.name(step) + " writes in it"
	}
	for _, dir := range slices.Sorted(maps.Keys(why)) {
		s := &state{path: dir, why: why[dir]}
		st := stat(s.path)
		if st == nil || outside(s.path) || s.path == "/" {
			continue
		}
		s.shared = st.Mode&unix.S_ISVTX != 0 && st.Mode&0o002 != 0
		s.mode = st.Mode & 0o777
		if !slices.ContainsFunc(d.dirs, func(have *state) bool { return beneath(s.path, have.path) }) {
			d.dirs = append(d.dirs, s)
		}
	}
}

// stat is of a file itself, nil where there is none.
func stat(name string) *unix.Stat_t {
	var st unix.Stat_t
	if unix.Lstat(name, &st) != nil {
		return nil
	}
	return &st
}

func isRegular(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFREG }

func beneath(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// outside is what no tree has: the kernel's file systems, and devices.
func outside(name string) bool {
	return beneath(name, "/proc") || beneath(name, "/sys") || beneath(name, "/dev") && !beneath(name, "/dev/shm")
}

// state is the state directory that a path is in, nil: none.
func (d *draft) state(name string) *state {
	for _, s := range d.dirs {
		if beneath(name, s.path) {
			return s
		}
	}
	return nil
}

// programLines asks for each program by the name that it was executed by.
func (d *draft) programLines() {
	seen := map[string]bool{}
	for _, p := range d.programs {
		if len(p.files) == 0 {
			continue
		}
		if p = d.copied(p); len(p.files) == 0 {
			continue
		}
		name, real := d.program(p), p.files[0].Path
		// /bin/cat and /usr/bin/cat are one where /bin is a link.
		dir, _ := d.Host.Files.Real(path.Dir(name))
		as := path.Join(dir, path.Base(name))
		if seen[as] {
			continue
		}
		seen[as] = true
		if f := d.files[real]; f != nil && f.stat.Mode&0o005 != 0o005 {
			d.lack("programs that only their owner may execute; chmod a+rx them, and learn again", quoted(name)+" ("+d.name(p.step)+")")
			continue
		}
		if s := d.setid(p.files); s != "" {
			d.setids = append(d.setids, s)
			d.note("the rights of set-id programs, which they do not have under learn either", quoted(s)+" ("+d.name(p.step)+")")
		}
		d.line("programs: "+literal(name), d.name(p.step))
	}
}

// copied is a program, or if that is data, or the run has made it, what the kernel loads
// it by: nothing else brings the interpreter under the name that the program has for it.
func (d *draft) copied(p program) program {
	root, err := ptrace.OpenRoot("/")
	if err != nil {
		return p
	}
	defer root.Close()
	for len(p.files) > 0 && (d.state(p.files[0].Path) != nil || d.ours(p.files[0].Path)) {
		p.name, p.files = root.Interpreter(p.files[0].Path), p.files[1:]
		switch {
		case len(p.files) == 0:
		case path.IsAbs(p.name):
			d.named(p.name, p.files[0].Path)
		default:
			p.name = p.files[0].Path
		}
	}
	return p
}

// program is the name that a program has in the jail: that by which it was executed, if
// it means the same without the links on the way to "..".
func (d *draft) program(p program) string {
	if len(p.files) > 0 {
		if real, err := d.Host.Files.Real(p.name); err != nil || real != p.files[0].Path {
			return p.files[0].Path
		}
	}
	return p.name
}

// setid is the file among them that would have given its caller other rights.
func (d *draft) setid(files []ptrace.File) string {
	for _, f := range files {
		if f.Stat.Mode&unix.S_ISUID != 0 && f.Stat.Uid != d.User.UID || f.Stat.Mode&(unix.S_ISGID|0o010) == unix.S_ISGID|0o010 {
			return f.Path
		}
		if n, err := unix.Lgetxattr(f.Path, "security.capability", nil); err == nil && n > 0 {
			return f.Path
		}
	}
	return ""
}

// Files that are not copied: what a build writes itself, what no jail may have, and the
// loader's cache. Without the cache the loader looks into the usual directories; where
// that is not enough the builder brings the cache along.
var (
	accounts = []string{"/etc/passwd", "/etc/group"}
	unwanted = []string{"/etc/shadow", "/etc/gshadow", "/etc/ld.so.cache"}
)

// What libraries and runtimes look at in every program, and do without.
var dispensable = []string{
	"/proc/filesystems", "/proc/sys/kernel/ngroups_max", "/proc/sys/kernel/osrelease", "/proc/sys/vm/overcommit_memory",
	"/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
}

const (
	kernels = "of the kernel's file systems, which a build does not make"
	others  = "devices that no jail has; a terminal is inherited"
)

// sort decides what becomes of each file that was used.
func (d *draft) sort() {
	hosts := d.hosts()
	for _, name := range slices.Sorted(maps.Keys(d.kernel)) {
		d.lack(kernels, quoted(name)+" ("+d.name(d.kernel[name])+" uses it)")
	}
	walks := d.walks()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		step, did := f.step()
		if did <= listed && !f.again && walks[step] > 0 {
			continue
		}
		item := quoted(name) + " (" + d.what(step, did) + ")"
		say := d.lack
		if did <= listed || slices.Contains(dispensable, name) {
			say = func(about, item string) { d.note(about, item) }
		}
		s := d.state(name)
		switch {
		case name == "/":
		case s != nil:
			if name != s.path && !f.anew {
				s.data = append(s.data, f)
			}
			if f.did[listed] != 0 {
				s.listed = append(s.listed, f)
			}
		case beneath(name, "/dev") && !beneath(name, "/dev/shm"):
			d.device(f, item, say)
		case outside(name):
			say(kernels, item)
		case slices.Contains(accounts, name):
			d.account(name, step)
		case slices.Contains(unwanted, name) || !hosts && nameService(name):
		case f.isRegular() && f.stat.Mode&0o004 == 0:
			say("files that only their owner may read; chmod a+r what is no secret, and learn again", item)
		case f.isRegular() || f.isDir() || f.isLink():
			d.want = append(d.want, f)
		default:
			say("neither files nor directories", item)
		}
	}
	for _, step := range slices.Sorted(maps.Keys(walks)) {
		d.note("what was looked at and not opened, by steps that walk whole trees", fmt.Sprintf("%d files and directories (%s)", walks[step], d.name(step)))
	}
	if !hosts {
		d.withoutNames()
	}
	d.listings()
	// Where the command begins has to be there, also in an empty state directory.
	if s := d.state(d.Dir); s != nil && d.usesDir && d.Dir != s.path {
		if st := stat(d.Dir); st != nil {
			s.take(&file{path: d.Dir, stat: *st})
		}
	}
	d.findLinks()
}

// walks are the steps that looked at more files than a jail would be made for, as
// find(1) does, and how many.
func (d *draft) walks() map[int]int {
	const most = 1000
	looks := map[int]int{}
	for _, f := range d.files {
		if step, did := f.step(); did <= listed && !f.again && d.state(f.path) == nil && !outside(f.path) {
			looks[step]++
		}
	}
	maps.DeleteFunc(looks, func(_, n int) bool { return n <= most })
	return looks
}

// device asks for one of those that a jail can have.
func (d *draft) device(f *file, item string, say func(about, item string)) {
	name := strings.TrimPrefix(f.path, "/dev/")
	_, known := contents.DeviceNames[name]
	switch {
	case f.isDir() || f.isLink():
	case known:
		step, did := f.step()
		d.line("devices: "+literal(name), d.what(step, did))
	case strings.HasPrefix(name, "pts/"):
		d.note(others, item)
	default:
		say(others, item)
	}
}

// account asks for the accounts that programs look up: of a file's owner, that is root
// in a jail, and of who runs there.
func (d *draft) account(name string, step int) {
	if slices.ContainsFunc(d.lines, func(l line) bool { return strings.HasPrefix(l.text, "users:") }) {
		return
	}
	users := []string{"root"}
	if d.User.Name != "" {
		users = append(users, d.User.Name)
	}
	for _, user := range users {
		d.line("users: "+literal(user), d.name(step)+" reads "+name)
	}
}

// hosts reports whether the run looked up names of hosts; then it has to have the
// name service as the host has it. Of accounts alone the library's own defaults will do.
func (d *draft) hosts() bool {
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		if f := d.files[name]; f != nil && f.did[read] != 0 {
			return true
		}
	}
	return false
}

func nameService(name string) bool {
	return name == "/etc/nsswitch.conf" || strings.HasPrefix(path.Base(name), "libnss_")
}

// withoutNames leaves out what was loaded for the name service alone.
func (d *draft) withoutNames() {
	elf := elfdeps.New(d.Host.Files)
	only := map[string]bool{}
	for name := range d.files {
		if !nameService(name) || name == "/etc/nsswitch.conf" {
			continue
		}
		if o, err := elf.Resolve(name); err == nil {
			for _, l := range o.Libraries {
				if real, err := d.Host.Files.Real(l.Path); err == nil {
					only[real] = true
				}
			}
		}
	}
	// What a program needs as well comes with it.
	d.want = slices.DeleteFunc(d.want, func(f *file) bool { return only[f.path] })
}

// findLinks walks each path that a program wrote, for the links on the way.
func (d *draft) findLinks() {
	wanted := map[string]bool{}
	for _, f := range d.want {
		wanted[f.path] = true
	}
	for name, real := range d.Record.names {
		// What came of a path may be left out, and so are the links.
		if d.files[real] != nil && !wanted[real] && d.state(real) == nil {
			continue
		}
		there := false
		d.Host.Files.Walk(name, func(at string, info host.Info) {
			if !there && info.IsSymlink() && !outside(at) && !d.ours(at) {
				if s, st := d.state(at), stat(at); s != nil && st != nil {
					s.take(&file{path: at, stat: *st})
				} else if target, err := d.Host.Files.Readlink(at); err == nil {
					d.links[at] = target
				}
			}
			there = there || at == real // which may be a link itself
		})
	}
}

// stateLine asks for a state directory.
func (d *draft) stateLine(s *state) {
	text, mode := "directories { path: "+literal(s.path), s.mode
	if s.shared {
		mode |= unix.S_ISVTX
	} else {
		text += " owner: " + literal(d.who())
	}
	if mode != 0o755 {
		text += fmt.Sprintf(" mode: 0%o", mode)
	}
	d.line(text+" state: true }", s.why)
}

func (d *draft) line(text, comment string) { d.lines = append(d.lines, line{text, comment}) }

// plan finds out what the lines make, as the builder does. A preset that does not go
// with other lines goes; another line that the builder can do nothing with becomes a
// note.
func (d *draft) plan() {
	for {
		spec, problems := d.spec()
		if len(problems) == 0 {
			plan, err := jailtree.Make(context.Background(), spec, d.Host)
			if err == nil {
				d.tree = map[string]*jailtree.Entry{}
				for i := range plan.Entries {
					d.tree[string(plan.Entries[i].Path)] = &plan.Entries[i]
				}
				return
			}
			all := jailtree.Problems{}
			if !errors.As(err, &all) {
				d.lack("the builder says", quoted(err.Error()))
				return
			}
			for _, p := range all {
				problems = append(problems, textpb.Problem{File: p.At.File, Line: p.At.Line, What: p.What})
			}
		}
		first := problems[0]
		bad := slices.IndexFunc(d.lines, func(l line) bool { return strings.HasPrefix(l.text, "include:") })
		if bad >= 0 {
			d.withoutPresets = true
		} else {
			bad = first.Line - 1
			d.lack("lines that the builder cannot do", d.lines[bad].text+": "+quoted(first.What))
		}
		d.lines = slices.Delete(d.lines, bad, bad+1)
	}
}

// spec is what the lines ask for, with the presets.
func (d *draft) spec() (*contents.Spec, []textpb.Problem) {
	if len(d.lines) == 0 {
		return &contents.Spec{}, nil // of a jail that lacks nothing; as a text it is a mistake
	}
	var b strings.Builder
	for _, l := range d.lines {
		b.WriteString(l.text + "\n")
	}
	file := paths.Contents(d.Jail)
	spec, problems, err := contents.Load(file, func(name string) ([]byte, error) {
		if name == file {
			return []byte(b.String()), nil
		}
		return d.Read(name)
	})
	if err != nil {
		problems = []textpb.Problem{{Line: 1, What: err.Error()}}
	}
	return spec, problems
}

// has reports whether the tree has what a program found.
func (d *draft) has(f *file) bool {
	e := d.tree[f.path]
	switch {
	case e == nil:
		return false
	case f.isDir():
		return e.Kind == jailpb.Entry_DIRECTORY
	case f.isLink():
		return e.Kind == jailpb.Entry_SYMLINK
	}
	return e.Kind == jailpb.Entry_REGULAR
}

// missing is what is not in the tree.
func (d *draft) missing() (left []*file) {
	for _, f := range d.want {
		if !d.has(f) {
			left = append(left, f)
		}
	}
	return left
}

// missingFiles are those of missing that are files.
func (d *draft) missingFiles() []*file {
	return slices.DeleteFunc(d.missing(), func(f *file) bool { return !f.isRegular() })
}

// wanted are the presets to try, of what no program names, with those that they include
// themselves: what these bring is nothing that would speak for the preset.
var wanted = [][2]string{{"dns", "libc"}, {"tls", "base"}, {"locale", "libc"}, {"terminal", "base"}}

// presets asks for those that bring two files or more of what they are there for.
func (d *draft) presets() {
	if d.withoutPresets {
		return
	}
	have := d.lines
	missing := func(preset string) (n int, ok bool) {
		d.lines = append([]line{{"include: " + literal(preset), ""}}, have...)
		d.plan()
		n, ok = len(d.missingFiles()), !d.withoutPresets
		d.withoutPresets = false
		return n, ok
	}
	for _, preset := range wanted {
		if preset[0] == "dns" && !d.hosts() {
			continue
		}
		before := len(d.missingFiles())
		if n, ok := missing(preset[1]); ok {
			before = min(before, n)
		}
		if n, ok := missing(preset[0]); ok && before-n >= 2 {
			d.lines[0].comment = fmt.Sprintf("%d of the files that it brings were used", before-n)
			have = d.lines
			continue
		}
		d.lines = have
		d.plan()
	}
}
