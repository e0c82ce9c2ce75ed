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

	"jailctl/internal/contents"
	"jailctl/internal/packages"
	"jailctl/proto/jailpb"
)

// What is missing once programs, presets and the like are there is asked for by these
// rules, in this order:
//
//   - a package of which more than many files were used, so that another run of the
//     same program finds what it wants; files of directories that were used up do not
//     count, since these are asked for by themselves;
//   - a directory of which all was used, but one file alone;
//   - a directory with no file of a package in it, if more than four times many of
//     these and of single files are beneath it: something that was installed by hand;
//   - what python has compiled, which no package owns, and without which it would
//     compile at each start;
//   - a directory of which more than many files were used, and a quarter;
//   - each file that is left.

// packages asks for whole packages, without what only people read.
func (d *draft) packages() {
	usedUp := d.usedUp(d.want)
	used, first := map[packages.Package]int{}, map[packages.Package]*file{}
	for _, f := range d.missingFiles() {
		owner, ok := d.Host.Packages.Owner(f.path)
		if !ok || slices.ContainsFunc(usedUp, func(dir string) bool { return beneath(f.path, dir) }) {
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
		d.lines = append(d.lines, line{
			"packages: " + literal(p.Name), fmt.Sprintf("%s: %d of its %d files were used", d.name(step), used[p], n),
			func(s *contents.Spec, at contents.At) {
				s.Packages = append(s.Packages, contents.Package{At: at, Name: p.Name})
			},
		})
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
		d.lines = append(d.lines, line{
			"exclude: " + literal(dir), "no step used it",
			func(s *contents.Spec, at contents.At) {
				s.Exclude = append(s.Exclude, contents.Path{At: at, Path: dir})
			},
		})
	}
}

// usedUp are the topmost directories of which all files, and there are some, are among
// others.
func (d *draft) usedUp(files []*file) (all []string) {
	used := counted(files)
	for _, dir := range slices.Sorted(maps.Keys(used)) {
		if used[dir] > 1 && path.Base(dir) != "__pycache__" && !d.own(dir) && !slices.ContainsFunc(all, func(above string) bool { return beneath(dir, above) }) && count(dir, used[dir]+1) == used[dir] {
			all = append(all, dir)
		}
	}
	return all
}

// counted says how many of some files are in a directory and beneath; of directories
// such as /etc and /usr it says nothing.
func counted(files []*file) map[string]int {
	used := map[string]int{}
	for _, f := range files {
		if !f.isRegular() {
			continue
		}
		for dir := path.Dir(f.path); strings.Count(dir, "/") > 1; dir = path.Dir(dir) {
			used[dir]++
		}
	}
	return used
}

// own reports whether a directory belongs to who ran the command: what will be in it
// tomorrow is nothing for a jail.
func (d *draft) own(dir string) bool {
	st := stat(dir)
	return st == nil || st.Uid == d.User.UID
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

// directories asks for those directories as a whole that the rules are for.
func (d *draft) directories() {
	for _, dir := range d.installations(d.usedUp(d.left())) {
		d.whole(escaped(dir))
	}
	compiled := map[string][]string{} // by the directory above the modules'
	for dir := range counted(d.left()) {
		if path.Base(dir) == "__pycache__" && !d.own(dir) {
			above := path.Dir(path.Dir(dir))
			compiled[above] = append(compiled[above], dir)
		}
	}
	for _, above := range slices.Sorted(maps.Keys(compiled)) {
		if dirs := compiled[above]; len(dirs) > 1 {
			d.whole(escaped(above) + "/*/__pycache__")
		} else {
			d.whole(escaped(dirs[0]))
		}
	}
	used := counted(d.left())
	for _, dir := range slices.Sorted(maps.Keys(used)) {
		if used := counted(d.left())[dir]; used > many && !d.own(dir) && count(dir, 4*used+1) <= 4*used {
			d.whole(escaped(dir))
		}
	}
}

// installations puts directories that are nobody's but theirs in the place of what would be too
// many lines beneath them.
func (d *draft) installations(dirs []string) []string {
	units := slices.Clone(dirs)
	for _, f := range d.left() {
		if !slices.ContainsFunc(dirs, func(dir string) bool { return beneath(f.path, dir) }) {
			units = append(units, f.path)
		}
	}
	above := slices.Collect(maps.Keys(counted(d.left())))
	slices.SortFunc(above, func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), strings.Compare(a, b))
	})
	for _, dir := range above {
		inside := func(name string) bool { return beneath(name, dir) }
		n := 0
		for _, u := range units {
			if inside(u) {
				n++
			}
		}
		if n <= 4*many || d.own(dir) || d.shared(dir) || path.Base(dir) == "__pycache__" {
			continue
		}
		units = append(slices.DeleteFunc(units, inside), dir)
		dirs = append(slices.DeleteFunc(dirs, inside), dir)
	}
	return dirs
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
	for _, f := range d.left() {
		if in := matches(pattern, f.path); in != "" {
			if used++; step == 0 {
				step, _ = f.step()
			}
			if !slices.Contains(all, in) {
				all = append(all, in)
			}
		}
	}
	for _, in := range all {
		n += count(in, 1<<20)
	}
	d.pathLine(pattern, fmt.Sprintf("%s: %d of its %d files were used", d.name(step), used, n))
	d.asked = append(d.asked, pattern)
}

// matches is the directory above a path that a pattern means, "" where it means none.
func matches(pattern, name string) string {
	for ; name != "/"; name = path.Dir(name) {
		if ok, _ := path.Match(pattern, name); ok {
			return name
		}
	}
	return ""
}

// left are the files that are missing and that no directory brings.
func (d *draft) left() []*file {
	return slices.DeleteFunc(d.missingFiles(), func(f *file) bool {
		return slices.ContainsFunc(d.asked, func(pattern string) bool { return matches(pattern, f.path) != "" })
	})
}

// paths asks for each file that is left, by a name that brings the links on the way.
func (d *draft) paths() {
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.Record.names)) {
		if path.Clean(name) != name {
			continue
		}
		if real, err := d.Host.Files.Real(name); err == nil && real != name && names[real] == "" {
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
		d.pathLine(escaped(name), comment)
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
		d.lines = append(d.lines, line{
			"symlinks { path: " + literal(at) + " target: " + literal(target) + " }", "on the way of a path",
			func(s *contents.Spec, by contents.At) {
				s.Symlinks = append(s.Symlinks, contents.Symlink{At: by, Path: at, Target: target})
			},
		})
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
	d.lines = append(d.lines, line{
		"directories { path: " + literal(dir) + " }", comment,
		func(s *contents.Spec, at contents.At) {
			s.Directories = append(s.Directories, contents.Directory{At: at, Path: dir, Mode: 0o755})
		},
	})
}
