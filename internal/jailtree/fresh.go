package jailtree

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"jailctl/internal/fresh"
	"jailctl/internal/host"
	"jailctl/internal/paths"
	"jailctl/proto/jailpb"
)

// remember notes how the tree in use is, and all that it was made from and that is known
// of it. Whoever builds, rolls back or removes anything changes the directory of manifests
// with the first step, and by that unsays it.
func (s *Store) remember(machine *host.Host) error {
	cur, err := s.current()
	if err != nil || cur.manifest == nil {
		return err
	}
	if lent, err := mountsIn(s.trees.Name()); err != nil || len(lent) > 0 {
		return err // the next build may have to take them off
	}
	all := &jailpb.Fresh{Jailctl: paths.Version}
	add := func(name string, m fresh.Mark) {
		all.Marks = append(all.Marks, &jailpb.Mark{Path: []byte(name), Counts: m.Counts, Mode: m.Mode, Uid: m.User, Inode: m.Inode, Changed: m.Time})
	}
	for _, i := range cur.manifest.Inputs {
		add(machine.At(string(i.Path)), hostStamp(i).Mark())
	}
	for _, e := range cur.manifest.Entries {
		m := fresh.Mark{Counts: fresh.Inode | fresh.Time, Inode: e.Inode, Time: e.Changed}
		if e.State {
			// Its content, times, mode and group are its owner's, who must not be able to
			// keep builds at work.
			m = fresh.Mark{Counts: fresh.Inode | fresh.User, Inode: e.Inode, User: e.Uid}
		}
		add(strings.TrimSuffix(s.root+string(e.Path), "/"), m)
	}
	for _, name := range []string{s.manifests, s.trees.Name()} {
		m, err := fresh.Look(name, fresh.Inode|fresh.Time)
		if err != nil {
			return &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		add(name, m)
	}
	for dir := path.Dir(s.root); ; dir = path.Dir(dir) {
		m, err := fresh.Look(dir, fresh.Mode|fresh.User)
		if err != nil {
			return &fs.PathError{Op: "lstat", Path: dir, Err: err}
		}
		if add(dir, m); dir == "/" {
			break
		}
	}
	// Those in one directory after one another.
	slices.SortFunc(all.Marks, func(a, b *jailpb.Mark) int {
		return cmp.Or(cmp.Compare(path.Dir(string(a.Path)), path.Dir(string(b.Path))), bytes.Compare(a.Path, b.Path))
	})
	b, err := proto.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path.Dir(s.fresh), 0o700); err != nil {
		return err
	}
	// No jail's name begins with a dot.
	return replace(s.fresh, path.Dir(s.fresh)+"/."+s.name, b)
}
