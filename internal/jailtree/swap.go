package jailtree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/host"
	"jailctl/proto/jailpb"
)

// place puts the tree called name, beside the one in use, in its place. The names
// change places at one stroke (renameat2(2), RENAME_EXCHANGE). State directories
// cannot move by the same stroke; so they are lent first: bound by a mount upon the
// empty directories that the new tree has for them, so that whoever enters either
// tree at any moment finds them. After that, settle moves them for good.
//
// Killed at any step, the tree in use is whole, with its state, and recover does
// what is left. Should the machine lose power between the exchange and the move, the
// mount is gone, and the new tree's state directories are closed (mode 0) until then.
func (s *Store) place(name string, t tree) error {
	cur, err := s.current()
	if err != nil {
		return err
	}
	dir, err := openDir(s.trees, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := s.sources(cur, t, dir); err != nil {
		return err
	}
	if err := s.save(t.id, t.manifest); err != nil {
		return err
	}
	if name != t.name() {
		// By this name nobody takes it, or the tree that it changes places with, for half
		// built, even if the manifests are lost.
		step("name tree")
		if err := unix.Renameat2(int(s.trees.Fd()), name, int(s.trees.Fd()), t.name(), unix.RENAME_NOREPLACE); err != nil {
			return &fs.PathError{Op: "rename", Path: path.Join(s.trees.Name(), name), Err: err}
		}
	}
	base := path.Base(s.root)
	if cur.ino == 0 {
		step("place first tree")
		s.lend(dir, cur, t)
		err = unix.Renameat2(int(s.trees.Fd()), t.name(), int(s.parent.Fd()), base, unix.RENAME_NOREPLACE)
	} else {
		if cur.manifest == nil {
			// Somebody else's tree is kept as it is.
			m := &jailpb.Manifest{Format: 1, Root: []byte(s.root), Built: time.Now().Add(-time.Second).UnixNano(), Used: true}
			if err := s.save(cur.id, m); err != nil {
				return err
			}
		}
		s.lend(dir, cur, t)
		step("exchange")
		err = unix.Renameat2(int(s.trees.Fd()), t.name(), int(s.parent.Fd()), base, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("cannot put the new tree in the place of %s: %w", s.root, err)
	}
	step("sync names")
	if err := cmp.Or(s.parent.Sync(), s.trees.Sync()); err != nil {
		return err
	}
	return s.recover()
}

// sources notes for each state directory of t where its content is: in the tree in use,
// or in an old one, where the contents file had dropped it, or in t itself, which is
// put back, or nowhere yet.
func (s *Store) sources(cur, t tree, dir *os.File) error {
	settled(t.manifest)
	used := map[string]bool{}
	if cur.manifest != nil {
		for _, e := range cur.manifest.Entries {
			used[string(e.Path)] = e.State
		}
	}
	all, err := s.others()
	if err != nil {
		return err
	}
	for _, e := range t.manifest.Entries {
		if !e.State {
			continue
		}
		if used[string(e.Path)] {
			e.StateFrom = cur.ino
		} else if e.StateFrom, err = s.left(all, t, e); err != nil {
			return err
		}
		if e.StateFrom == 0 || e.StateFrom == t.ino {
			e.StateFrom = 0
			if err := ownAt(dir, e); err != nil {
				return err
			}
			continue
		}
		t.manifest.Unsettled = true
		info, err := lstat(dir, relative(e.Path))
		if err != nil {
			return err
		}
		e.Inode = info.Ino // until another is there, the state has not moved
	}
	return nil
}

// left is the inode number of the tree in which a state directory was left that the
// tree in use has not: t itself, or else the newest.
func (s *Store) left(all []tree, t tree, e *jailpb.Entry) (uint64, error) {
	at := uint64(0)
	for _, old := range all {
		if at != 0 && old.ino != t.ino || !slices.ContainsFunc(old.manifest.Entries, func(o *jailpb.Entry) bool {
			return o.State && bytes.Equal(o.Path, e.Path)
		}) {
			continue
		}
		full, err := s.full(old, e)
		if err != nil {
			return 0, err
		}
		if full {
			at = old.ino
		}
	}
	return at, nil
}

// settled forgets where state was to come from.
func settled(m *jailpb.Manifest) {
	m.Unsettled = false
	for _, e := range m.Entries {
		e.StateFrom = 0
	}
}

// lend binds the state directories of other trees, that in use above all, into the one
// that is to follow it. Where mounts are not permitted, as in a container, the new
// tree's are closed for the moment between exchange and move.
func (s *Store) lend(to *os.File, cur, t tree) {
	for _, e := range t.manifest.Entries {
		if e.StateFrom == 0 {
			continue
		}
		dir, name := s.trees, id{ino: e.StateFrom}.name()
		if e.StateFrom == cur.ino {
			dir, name = s.parent, path.Base(s.root)
		}
		from, err := enter(dir, name)
		if err != nil {
			continue
		}
		step("lend state")
		bind(from, to, relative(e.Path))
		from.Close()
	}
}

// bind mounts a directory of one tree on that of the same path in another.
func bind(from, to *os.File, name string) error {
	src, err := enter(from, name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openDir(to, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	mnt, err := unix.OpenTree(int(src.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", int(dst.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// unlend takes the mounts away that lend, or move, left on a tree beside the one in
// use. What is not a mount is left as it is.
func (s *Store) unlend(name string, m *jailpb.Manifest) {
	for _, e := range m.Entries {
		if e.State {
			step("unlend state")
			unmount(path.Join(s.trees.Name(), name) + string(e.Path))
		}
	}
}

// release takes the mounts off old trees in which nobody is any more: a mount is one
// more way to the state, for whoever cleans up by hand.
func (s *Store) release() error {
	mounts, err := mountsIn(s.trees.Name())
	if err != nil || len(mounts) == 0 {
		return err
	}
	all, err := s.others()
	if err != nil {
		return err
	}
	for _, t := range all {
		info, err := lstat(s.trees, t.name())
		if err != nil {
			return err
		}
		if !inUse(info) {
			s.unlend(t.name(), t.manifest)
		}
	}
	return nil
}

// inUse tells whether a process has a directory as its root, or open: jailhelper opens
// the root before it enters. A file system that a user serves is not asked (fuse(4)):
// it might never answer.
func inUse(dir host.Info) bool {
	for _, links := range []string{"/proc/[0-9]*/root", "/proc/[0-9]*/fd/*"} {
		names, err := filepath.Glob(links)
		if err != nil {
			return true
		}
		for _, name := range names {
			var st unix.Statx_t
			if unix.Statx(unix.AT_FDCWD, name, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st) == nil &&
				st.Ino == dir.Ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == dir.Dev {
				return true
			}
		}
	}
	return false
}

// settle moves the state directories into the tree in use, from the tree before it,
// and notes that it is in use.
func (s *Store) settle(cur tree) error {
	m := cur.manifest
	root, err := openDir(s.parent, path.Base(s.root))
	if err != nil {
		return err
	}
	defer root.Close()
	if m.Unsettled {
		if err := s.move(m); err != nil {
			return err
		}
	}
	changed := map[string]bool{"/": true}
	for _, e := range m.Entries {
		if !e.State {
			continue
		}
		changed[path.Dir(string(e.Path))] = true
		if err := ownAt(root, e); err != nil && !gone(err) {
			return err
		}
	}
	for _, e := range m.Entries {
		if !changed[string(e.Path)] || e.State {
			continue
		}
		info, err := lstat(root, relative(e.Path))
		if err != nil && !gone(err) {
			return err
		}
		e.Inode, e.Changed = info.Ino, info.Changed
		// Who changed it besides, after a build that was killed, has the next one make it anew.
		if is, err := asMade(root, e, info, m.Entries); err != nil {
			return err
		} else if !is {
			e.Changed = 0
		}
	}
	settled(m)
	m.Used = true
	return s.save(cur.id, m)
}

// asMade tells whether a directory of a tree has the owner and mode that its entry says,
// and no names but those of other entries. Whether it has these is asked of each.
func asMade(root *os.File, e *jailpb.Entry, info host.Info, all []*jailpb.Entry) (bool, error) {
	if info.UID != e.Uid || info.GID != e.Gid || info.Mode&0o7777 != e.Mode {
		return false, nil
	}
	dir, err := openDir(root, relative(e.Path))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false, err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[path.Join(string(e.Path), name)] = true
	}
	for _, other := range all {
		delete(there, string(other.Path))
	}
	return len(there) == 0, nil
}

// gone tells whether somebody has taken a directory away by hand, or put something
// else in its place. The next build makes it again.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// move lets each state directory change places with the empty one of the same path in
// the tree in use. A name on which something is mounted cannot be renamed, but it can
// from a mount namespace in which nothing is (rename(2), EBUSY). The mount stays on the
// empty directory and goes with it into the old tree: so who is in there still, from
// before the build, keeps finding the state, too.
func (s *Store) move(m *jailpb.Manifest) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends, and the namespace with it.
		runtime.LockOSThread()
		done <- s.moveHere(m)
	}()
	return <-done
}

func (s *Store) moveHere(m *jailpb.Manifest) error {
	// Where there is no namespace of our own, or no making it private, the unmounting below
	// is seen by all, and the state is closed for a moment; but it moves.
	if unix.Unshare(unix.CLONE_NEWNS) == nil {
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	// By their paths, as this namespace has them.
	to, err := openPath(s.root)
	if err != nil {
		return err
	}
	defer to.Close()
	for _, e := range m.Entries {
		if e.StateFrom == 0 {
			continue
		}
		old := path.Join(s.trees.Name(), id{ino: e.StateFrom}.name())
		unmount(s.root + string(e.Path))
		unmount(old + string(e.Path))
		from, err := openPath(old)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = moveOne(from, to, e)
		from.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func moveOne(from, to *os.File, e *jailpb.Entry) error {
	name := relative(e.Path)
	// Not the state that is lent there, should it not have been unmounted: it would look
	// as if it had moved.
	ino, err := unmounted(to, name)
	if err == nil && ino != e.Inode {
		return nil // moved already
	}
	if err == nil {
		_, err = unmounted(from, name)
	}
	if gone(err) {
		return nil // somebody took it away
	}
	if err != nil {
		return err
	}
	step("move state")
	return exchange(from, to, name)
}

// unmounted is the inode number of a directory on which nothing is mounted.
func unmounted(dir *os.File, name string) (uint64, error) {
	d, err := enter(dir, name)
	if errors.Is(err, unix.EXDEV) {
		return 0, fmt.Errorf("cannot move the state %s: unmount what is mounted there", path.Join(dir.Name(), name))
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	info, err := lstat(d, "")
	return info.Ino, err
}

// unmount takes all that is mounted on a path away.
func unmount(name string) {
	for unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
}

// openPath opens a directory by an absolute path in which no link is followed.
func openPath(name string) (*os.File, error) {
	root, err := os.Open("/")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openDir(root, relative([]byte(name)))
}

// exchange lets a path of one tree and the same path of another change places. The
// directories on the way are root's in both.
func exchange(from, to *os.File, name string) error {
	a, err := openDir(from, path.Dir(name))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openDir(to, path.Dir(name))
	if err != nil {
		return err
	}
	defer b.Close()
	base := path.Base(name)
	if err := unix.Renameat2(int(a.Fd()), base, int(b.Fd()), base, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("cannot move the state %s to %s: %w", path.Join(a.Name(), base), path.Join(b.Name(), base), err)
	}
	step("sync state")
	return cmp.Or(b.Sync(), a.Sync())
}

// ownAt gives a state directory of a tree the owner and mode that its entry says, and
// notes its inode. What its owner has mounted on it is not asked, nor changed.
func ownAt(root *os.File, e *jailpb.Entry) error {
	d, err := enter(root, relative(e.Path))
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("something is mounted on %s: unmount it first", path.Join(root.Name(), relative(e.Path)))
	}
	if err != nil {
		return err
	}
	defer d.Close()
	step("own state")
	if err := own(d, e); err != nil {
		return err
	}
	info, err := lstat(d, "")
	e.Inode, e.Changed = info.Ino, info.Changed
	return err
}
