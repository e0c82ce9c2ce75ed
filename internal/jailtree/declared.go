package jailtree

import (
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/archive"
	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/proto/jailpb"
)

// archives tells whether an entry is the archive's.
func (p *planner) archives(e *Entry) bool {
	return e != nil && p.spec.Archive != nil && e.asker == p.spec.Archive.At
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
