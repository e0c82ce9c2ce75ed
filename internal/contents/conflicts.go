package contents

import (
	"fmt"
	"path"
	"slices"

	"jailctl/internal/textpb"
)

// made is something in the tree that the texts describe, not the host.
type made struct {
	At
	path, what string
	state      bool
}

// conflicts are the mistakes that need two places to see: what cannot be where
// something else is asked for.
func (s *Spec) conflicts() []textpb.Problem {
	c := conflicts{at: map[string]made{}, told: map[At]bool{}}
	for _, d := range s.Directories {
		c.add(d.At, d.Path, "directory", d.State)
	}
	for _, l := range s.Symlinks {
		c.add(l.At, l.Path, "symlink", false)
	}
	for _, f := range s.Files {
		c.add(f.At, f.Path, "file", false)
	}
	for _, d := range s.Devices {
		c.add(d.At, "/dev/"+d.Name, "device", false)
	}
	for _, n := range slices.Concat(s.Users, s.Groups) {
		c.add(n.At, "/etc/passwd", "list of accounts", false)
		c.add(n.At, "/etc/group", "list of accounts", false)
	}
	for _, m := range c.all {
		c.above(m)
	}
	for _, p := range slices.Concat(s.Programs, s.Paths, s.OptionalPaths) {
		if path.IsAbs(p.Path) {
			c.inState(p.At, p.Path, p.Path)
		}
	}
	return c.problems
}

type conflicts struct {
	all      []made
	at       map[string]made
	told     map[At]bool // one conflict of a place is enough
	problems []textpb.Problem
}

func (c *conflicts) note(at At, fix, format string, args ...any) {
	if !c.told[at] {
		c.told[at] = true
		c.problems = append(c.problems, textpb.Problem{File: at.File, Line: at.Line, Col: at.Col, What: fmt.Sprintf(format, args...), Fix: fix})
	}
}

// add notes that something is made. Devices and lists of accounts may be asked for
// more than once.
func (c *conflicts) add(by At, p, what string, state bool) {
	if other, taken := c.at[p]; !taken {
		c.at[p] = made{by, p, what, state}
		c.all = append(c.all, c.at[p])
	} else if other.what != what {
		c.note(other.At, "remove one of the two", "%q is a %s, and %s makes it a %s", p, other.what, other.At.To(by), what)
	}
}

// above looks for what cannot have m beneath it.
func (c *conflicts) above(m made) {
	c.inState(m.At, m.path, path.Dir(m.path))
	for dir := path.Dir(m.path); dir != "/"; dir = path.Dir(dir) {
		if top, ok := c.at[dir]; ok && top.what != "directory" {
			fix := "remove one of the two"
			if top.what == "symlink" {
				fix = "name the directory that the symlink stands for"
			}
			c.note(m.At, fix, "%q is beneath %q, which is the %s that %s asks for", m.path, dir, top.what, m.At.To(top.At))
		}
	}
}

// inState looks for a state directory, from dir upwards: builds must not touch what
// is in it, since who may write there could have put anything in the way.
func (c *conflicts) inState(at At, p, dir string) {
	for ; dir != "/"; dir = path.Dir(dir) {
		if top := c.at[dir]; top.state {
			c.note(at, "remove one of the two, or move it", "%q is in the state directory %q of %s, which builds leave alone", p, dir, at.To(top.At))
		}
	}
}

// To is how one place is called in a message about another.
func (a At) To(b At) string {
	if a.File == b.File {
		return fmt.Sprintf("line %d", b.Line)
	}
	return fmt.Sprintf("%s:%d", b.File, b.Line)
}
