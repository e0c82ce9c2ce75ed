package jailtree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
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
	t.manifest.StateFrom = 0
	lent := map[string]bool{}
	if cur.manifest != nil {
		for _, e := range cur.manifest.Entries {
			if e.State {
				lent[string(e.Path)] = true
			}
		}
	}
	for _, e := range t.manifest.Entries {
		switch {
		case !e.State:
		case lent[string(e.Path)]:
			t.manifest.StateFrom = cur.ino
			info, err := lstat(dir, relative(e.Path))
			if err != nil {
				return err
			}
			e.Inode = info.Ino // until another is there, the state has not moved
		default:
			// New: nobody has state for it.
			if err := ownAt(dir, e); err != nil {
				return err
			}
		}
	}
	if err := s.save(t.ino, t.manifest); err != nil {
		return err
	}
	base := path.Base(s.root)
	if cur.ino == 0 {
		step("place first tree")
		err = unix.Renameat2(int(s.trees.Fd()), name, int(s.parent.Fd()), base, unix.RENAME_NOREPLACE)
	} else {
		if cur.manifest == nil {
			// Somebody else's tree is kept as it is.
			m := &jailpb.Manifest{Format: 1, Root: []byte(s.root), Built: time.Now().Add(-time.Second).UnixNano(), Used: true}
			if err := s.save(cur.ino, m); err != nil {
				return err
			}
		}
		if t.manifest.StateFrom != 0 {
			s.lend(dir, cur, t)
		}
		step("exchange")
		err = unix.Renameat2(int(s.trees.Fd()), name, int(s.parent.Fd()), base, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("cannot put the new tree in the place of %s: %w", s.root, err)
	}
	step("sync names")
	if err := s.parent.Sync(); err != nil {
		return err
	}
	return s.recover()
}

// lend binds the state directories of the tree in use into the one that is to follow
// it. Where mounts are not permitted, as in a container, the new tree's are closed
// for the moment between exchange and move.
func (s *Store) lend(to *os.File, cur, t tree) {
	from, err := openDir(s.parent, path.Base(s.root))
	if err != nil {
		return
	}
	defer from.Close()
	for _, e := range t.manifest.Entries {
		if !e.State {
			continue
		}
		step("lend state")
		bind(from, to, relative(e.Path))
	}
}

// bind mounts a directory of one tree on that of the same path in another.
func bind(from, to *os.File, name string) error {
	src, err := openDir(from, name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openDir(to, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	mnt, err := unix.OpenTree(int(src.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
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
			unix.Unmount(path.Join(s.trees.Name(), name)+string(e.Path), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
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
		name := strconv.FormatUint(t.ino, 10)
		info, err := lstat(s.trees, name)
		if err != nil {
			return err
		}
		if !inUse(info) {
			s.unlend(name, t.manifest)
		}
	}
	return nil
}

// inUse tells whether a process has a directory as its root.
func inUse(dir host.Info) bool {
	roots, err := filepath.Glob("/proc/[0-9]*/root")
	if err != nil {
		return true
	}
	for _, root := range roots {
		var st unix.Stat_t
		if unix.Stat(root, &st) == nil && uint64(st.Dev) == dir.Dev && st.Ino == dir.Ino {
			return true
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
	if m.StateFrom != 0 {
		if err := s.move(m); err != nil {
			return err
		}
	}
	changed := map[string]bool{"/": true}
	for _, e := range m.Entries {
		if !e.State {
			continue
		}
		changed[string(e.Path)], changed[path.Dir(string(e.Path))] = true, true
		if err := ownAt(root, e); err != nil {
			return err
		}
	}
	for _, e := range m.Entries {
		if !changed[string(e.Path)] {
			continue
		}
		info, err := lstat(root, relative(e.Path))
		if err != nil {
			return err
		}
		e.Inode, e.Changed = info.Ino, info.Changed
	}
	m.StateFrom, m.Used = 0, true
	return s.save(cur.ino, m)
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
	if unix.Unshare(unix.CLONE_NEWNS) == nil && unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") == nil {
		for _, e := range m.Entries {
			if e.State {
				unix.Unmount(s.root+string(e.Path), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			}
		}
	}
	// By their paths, as this namespace has them.
	to, err := openPath(s.root)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := openPath(path.Join(s.trees.Name(), strconv.FormatUint(m.StateFrom, 10)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	for _, e := range m.Entries {
		if !e.State {
			continue
		}
		name := relative(e.Path)
		if info, err := lstat(to, name); err != nil || info.Ino != e.Inode {
			continue // moved already, or new
		}
		info, err := lstat(from, name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue // somebody took it away
		}
		if err != nil {
			return err
		}
		step("move state")
		if err := exchange(from, to, name); err != nil {
			return err
		}
	}
	return nil
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

// ownAt gives a state directory of a tree the owner and mode that its entry says.
func ownAt(root *os.File, e *jailpb.Entry) error {
	d, err := openDir(root, relative(e.Path))
	if err != nil {
		return err
	}
	defer d.Close()
	step("own state")
	return own(d, e)
}
