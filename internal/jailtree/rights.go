package jailtree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
)

// forbidden are the mode bits that nothing in a tree has unless a directory is
// declared with them: set-user-ID, set-group-ID and sticky, and writing by others.
const forbidden = 0o7022

// entering is the question whether a user can go through a directory.
type entering struct {
	uid uint32
	dir string
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
