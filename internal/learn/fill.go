package learn

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"jailctl/internal/packages"
	"jailctl/proto/jailpb"
)

// What is missing once programs, presets and the like are there is asked for by these
// rules, in this order:
//
//   - a package of which more than many files were used, so that another run of the
//     same program finds what it wants; files of directories that were used up do not
//     count, since these are asked for by themselves;
//   - a directory of which all was used, but one file alone; of one with more than four
//     times many, three quarters are enough;
//   - a directory with no file of a package in it, if more than four times many of
//     these and of single files are beneath it: something that was installed by hand;
//   - what python has compiled, which no package owns, and without which it would
//     compile at each start;
//   - a directory of which more than many files were used, and a quarter;
//   - one of the user's of which all was used, and more than four times many files;
//   - each file that is left.

// packages asks for whole packages, without what only people read.
func (d *draft) packages() {
	usedUp := d.usedUp(d.want)
	used, first := map[packages.Package]int{}, map[packages.Package]*file{}
	for _, f := range d.missingFiles() {
		owner, ok := d.Host.Packages.Owner(f.path)
		if !ok || in(usedUp, f.path) != "" {
			continue
		}
		if used[owner]++; first[owner] == nil {
			first[owner] = f
		}
	}
	var asked []packages.Package
	for p, n := range used {
		if n > many {
			asked = append(asked, p)
		}
	}
	slices.SortFunc(asked, func(a, b packages.Package) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range asked {
		all, err := d.Host.Packages.Files(p.Name)
		if err != nil {
			continue
		}
		n := 0
		for _, name := range all {
			if st := stat(name); st != nil && isRegular(st.Mode) {
				n++
			}
		}
		step, _ := first[p].step()
		d.line("packages: "+literal(p.Name), fmt.Sprintf("%s: %d of its %d files were used", d.name(step), used[p], n))
	}
	if len(asked) == 0 {
		return
	}
	d.plan()
	for _, dir := range []string{"/usr/share/doc", "/usr/share/info", "/usr/share/lintian", "/usr/share/man"} {
		used := slices.ContainsFunc(d.want, func(f *file) bool { return beneath(f.path, dir) })
		if d.tree[dir] == nil || used {
			continue
		}
		d.line("exclude: "+literal(dir), "no step used it")
	}
}

// in finds the first of some directories that a path is in, from below; "" is none.
func in(dirs map[string]bool, name string) string {
	for ; name != "/"; name = path.Dir(name) {
		if dirs[name] {
			return name
		}
	}
	return ""
}

// usedUp are the topmost directories of which all files, or nearly, are among others.
func (d *draft) usedUp(files []*file) map[string]bool {
	all, used := map[string]bool{}, d.counted(files)
	for _, dir := range slices.Sorted(maps.Keys(used)) {
		n := used[dir]
		most := n
		if n > 4*many {
			most = n * 4 / 3
		}
		if n > 1 && path.Base(dir) != compiled && in(all, dir) == "" && count(dir, most+1) <= most {
			all[dir] = true
		}
	}
	return all
}

// counted says how many of some files are in a directory and beneath; of directories
// such as /etc and /usr, and of those that are not root's alone, it says nothing.
func (d *draft) counted(files []*file) map[string]int {
	used := map[string]int{}
	for _, f := range files {
		if f.isRegular() {
			d.climb(f.path, func(dir string) { used[dir]++ })
		}
	}
	return used
}

// climb visits the directories above a path, as far as only root can write there: what
// others will have put beneath them tomorrow is nothing for a jail.
func (d *draft) climb(name string, visit func(dir string)) {
	climb(name, func(dir string) bool {
		alone, known := d.roots[dir]
		if !known {
			st := stat(dir)
			alone = st != nil && st.Uid == 0 && st.Mode&0o022 == 0
			d.roots[dir] = alone
		}
		if alone {
			visit(dir)
		}
		return alone
	})
}

// climb visits the directories above a path, but for those such as /usr, while visit
// says to.
func climb(name string, visit func(dir string) bool) {
	for dir := path.Dir(name); strings.Count(dir, "/") > 1 && visit(dir); dir = path.Dir(dir) {
	}
}

// count is how many files there are in a directory and beneath, and no more than most.
func count(dir string, most int) (n int) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		if n >= most {
			return fs.SkipAll
		}
		return nil
	})
	return n
}

// compiled is where python keeps what it has compiled.
const compiled = "__pycache__"

// directories asks for those directories as a whole that the rules are for.
func (d *draft) directories() {
	d.left = d.missingFiles()
	for _, dir := range d.installations(d.usedUp(d.left)) {
		d.whole(escaped(dir))
	}
	caches := map[string][]string{} // by the directory above the modules'
	for dir := range d.counted(d.left) {
		if path.Base(dir) == compiled {
			above := path.Dir(path.Dir(dir))
			caches[above] = append(caches[above], dir)
		}
	}
	for _, above := range slices.Sorted(maps.Keys(caches)) {
		if dirs := caches[above]; len(dirs) > 1 {
			d.whole(escaped(above) + "/*/" + compiled)
		} else {
			d.whole(escaped(dirs[0]))
		}
	}
	used := d.counted(d.left)
	for _, dir := range slices.Sorted(maps.Keys(used)) {
		if n := used[dir]; n > many && count(dir, 4*n+1) <= 4*n {
			d.whole(escaped(dir))
			used = d.counted(d.left)
		}
	}
	own := map[string]int{}
	for _, f := range d.left {
		climb(f.path, func(dir string) bool {
			st := stat(dir)
			if st == nil || st.Uid != d.User.UID {
				return false
			}
			own[dir]++
			return true
		})
	}
	for _, dir := range slices.Sorted(maps.Keys(own)) { // what is above comes first
		n := own[dir]
		if n > 4*many && count(dir, n+1) == n && slices.ContainsFunc(d.left, func(f *file) bool { return beneath(f.path, dir) }) {
			d.whole(escaped(dir))
		}
	}
}

// installations puts directories that are nobody's but theirs in the place of what
// would be too many lines beneath them.
func (d *draft) installations(dirs map[string]bool) []string {
	lines := maps.Clone(dirs)
	for _, f := range d.left {
		if in(dirs, f.path) == "" {
			lines[f.path] = true
		}
	}
	n := map[string]int{}
	for l := range lines {
		d.climb(l, func(dir string) { n[dir]++ })
	}
	merged := map[string]bool{}
	for _, dir := range deepest(n) {
		if n[dir] > 4*many && !d.shared(dir) && path.Base(dir) != compiled {
			merged[dir] = true
			d.climb(dir, func(above string) { n[above] -= n[dir] - 1 })
		}
	}
	maps.Copy(merged, dirs)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(merged)), func(dir string) bool { return in(merged, path.Dir(dir)) != "" })
}

// deepest are directories, those that are beneath others before these.
func deepest(of map[string]int) []string {
	return slices.SortedFunc(maps.Keys(of), func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), strings.Compare(a, b))
	})
}

// shared reports whether a directory is for the files of many: one such as /usr/share,
// or one in which a package has a file.
func (d *draft) shared(dir string) bool {
	if above := path.Dir(dir); above == "/usr" || above == "/var" {
		return true
	}
	names, _ := d.Host.Files.List(dir)
	return slices.ContainsFunc(names, func(name string) bool {
		_, owned := d.Host.Packages.Owner(path.Join(dir, name))
		return owned
	})
}

// whole asks for directories with all that is in them, by a pattern.
func (d *draft) whole(pattern string) {
	var all []string
	used, n, step := 0, 0, 0
	d.left = slices.DeleteFunc(d.left, func(f *file) bool {
		dir := matches(pattern, f.path)
		if dir == "" {
			return false
		}
		if used++; step == 0 {
			step, _ = f.step()
		}
		if !slices.Contains(all, dir) {
			all = append(all, dir)
		}
		return true
	})
	for _, dir := range all {
		n += count(dir, 1<<20)
	}
	d.line("paths: "+literal(pattern), fmt.Sprintf("%s: %d of its %d files were used", d.name(step), used, n))
}

// matches is the path or the directory above it that a pattern means, "" for none.
func matches(pattern, name string) string {
	for ; name != "/"; name = path.Dir(name) {
		if ok, _ := path.Match(pattern, name); ok {
			return name
		}
	}
	return ""
}

// paths asks for each file that is left, by a name that brings the links on the way.
func (d *draft) paths() {
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.Record.names)) {
		if path.Clean(name) != name {
			continue
		}
		if real := d.Record.names[name]; real != name && names[real] == "" {
			names[real] = name
		}
	}
	for _, f := range d.missingFiles() {
		name := names[f.path]
		if name == "" || d.state(name) != nil {
			name = f.path
		}
		comment := d.what(f.step())
		if f.stat.Uid == d.User.UID {
			comment += "; it is " + word(d.who()) + "'s"
		}
		d.line("paths: "+literal(escaped(name)), comment)
	}
}

// ways asks for links and directories that nothing else brings, and sees to it that
// directories which on the host are their owner's alone let others in.
func (d *draft) ways() {
	for _, at := range slices.Sorted(maps.Keys(d.links)) {
		if d.tree[at] != nil {
			continue
		}
		target := d.links[at]
		d.line("symlinks { path: "+literal(at)+" target: "+literal(target)+" }", "on the way of a path")
	}
	var dirs []string
	steps := map[string]string{}
	for _, f := range d.missing() {
		if f.isDir() {
			dirs = append(dirs, f.path)
			steps[f.path] = d.what(f.step())
		}
	}
	if d.usesDir && d.Dir != "/" && d.tree[d.Dir] == nil && d.state(d.Dir) == nil && !outside(d.Dir) && steps[d.Dir] == "" {
		dirs = append(dirs, d.Dir)
		steps[d.Dir] = "the working directory"
	}
	slices.Sort(dirs)
	for i, dir := range dirs {
		if i+1 == len(dirs) || !beneath(dirs[i+1], dir) {
			d.directoryLine(dir, steps[dir])
		}
	}
	d.plan()
	closed := map[string]bool{}
	for name, e := range d.tree {
		if e.Kind != jailpb.Entry_DIRECTORY || e.State || e.Mode&0o001 != 0 {
			continue
		}
		needed := slices.ContainsFunc(d.want, func(f *file) bool { return beneath(f.path, name) }) ||
			slices.ContainsFunc(d.dirs, func(s *state) bool { return beneath(s.path, name) }) || d.usesDir && beneath(d.Dir, name)
		closed[name] = needed
	}
	for _, dir := range slices.Sorted(maps.Keys(closed)) {
		if closed[dir] {
			d.directoryLine(dir, "its owner's alone on the host")
		}
	}
}

func (d *draft) directoryLine(dir, comment string) {
	d.line("directories { path: "+literal(dir)+" }", comment)
}
