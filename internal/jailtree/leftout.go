package jailtree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/paths"
)

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
// and notes nothing of that: /proc/self is another for each build.
func (p *planner) intoKernel(name string) (kernel bool) {
	p.Files.Aside().Walk(name, func(at string, _ host.Info) {
		if p.Files.Kernel(at) != "" {
			kernel = true
		} else {
			p.Files.Lstat(at) // what leads there can lead elsewhere next time
		}
	})
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

// specials tells how many devices and the like were left out of what was found in a place.
func (p *planner) specials(in string) {
	if p.special > 0 {
		p.note("devices, FIFOs or the like in %q are left out: %d; devices: names those that a jail can have", in, p.special)
	}
	p.special = 0
}
