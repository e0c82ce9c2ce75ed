package jailtree

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/proto/jailpb"
)

// lead is where a directory is without links, and whose links lead there.
type lead struct {
	real string
	by   users
}

// way is where a directory is in the tree and on the host.
type way struct{ inside, outside string }

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
