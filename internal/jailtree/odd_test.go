package jailtree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

// What administrators do, and what happens to machines. Whatever it is, what somebody
// wrote in a state directory, or put there by hand, is never lost.

func state(path string) contents.Directory {
	return contents.Directory{At: contents.At{File: "web", Line: 2, Col: 1}, Path: path, Owner: "1", Group: "1", Mode: 0o750, State: true}
}

// change makes the next build have something to do.
func (b *bench) change(t *testing.T) {
	t.Helper()
	old, _ := os.ReadFile(b.host + "/usr/share/data/a")
	b.put(t, "/usr/share/data/a", string(old)+"more\n", 0o644)
}

// found are the files below dir that hold text.
func found(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
		} else if e.Type().IsRegular() {
			if b, _ := os.ReadFile(name); string(b) == text {
				names = append(names, name)
			}
		}
		return nil
	})
	return names
}

func (b *bench) jails() string { return filepath.Dir(b.root) }

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// kept fails the test unless text is in the one file that it should be in.
func (b *bench) kept(t *testing.T, text, where string) {
	t.Helper()
	names := found(t, b.jails(), text)
	if len(names) != 1 || !strings.HasSuffix(names[0], where) {
		t.Errorf("%q is in %q, and should be in %q", text, names, where)
	}
}

func small(t *testing.T) *bench {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	return b
}

// Without its manifest nobody can tell what is in a tree beside the one in use.
func TestManifestsLost(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "precious")
	b.spec.Directories = nil
	b.change(t)
	b.build(t)
	b.kept(t, "precious", "/data/mine")
	if err := os.RemoveAll(b.state + "/manifests/web"); err != nil {
		t.Fatal(err)
	}
	b.open(t).Close()
	b.kept(t, "precious", "/data/mine")
	s := b.open(t)
	defer s.Close()
	if _, err := s.Build(context.Background(), b.building()); !errors.Is(err, ErrNotOurs) {
		t.Error(err)
	}
	b.kept(t, "precious", "/data/mine")
}

// A tree that somebody put in the place of ours, with the inode number of ours.
func TestTreeReplacedByHand(t *testing.T) {
	b := small(t)
	b.build(t)
	var was, is unix.Stat_t
	unix.Lstat(b.root, &was)
	os.RemoveAll(b.root)
	if err := os.Mkdir(b.root, 0o755); err != nil {
		t.Fatal(err)
	}
	unix.Lstat(b.root, &is)
	// As if the file system had given the number again, as ext4 does sooner or later.
	manifest := func(ino uint64) string { return fmt.Sprintf("%s/manifests/web/%d.pb", b.state, ino) }
	if err := os.Rename(manifest(was.Ino), manifest(is.Ino)); err != nil {
		t.Fatal(err)
	}
	write(t, b.root+"/byhand", "precious")
	s := b.open(t)
	if _, err := s.Build(context.Background(), b.building()); !errors.Is(err, ErrNotOurs) {
		t.Error(err)
	}
	s.Close()
	b.kept(t, "precious", "/web/byhand")
}

// What jailctl did not make is not jailctl's to remove, however many builds follow.
func TestForeignTreeIsKept(t *testing.T) {
	for _, keep := range []int{0, 1} {
		b := small(t)
		b.spec.Keep = keep
		os.MkdirAll(b.root, 0o755)
		write(t, b.root+"/byhand", "precious")
		for range 3 {
			s := b.open(t)
			building := b.building()
			building.Replace = true
			if _, err := s.Build(context.Background(), building); err != nil {
				t.Fatal(err)
			}
			s.Close()
			b.kept(t, "precious", "/byhand")
			b.change(t)
		}
	}
}

// An empty directory is nothing to keep.
func TestEmptyForeignTreeGoes(t *testing.T) {
	b := small(t)
	os.MkdirAll(b.root, 0o755)
	for range 3 {
		if r := b.build(t); len(r.Kept) > 0 {
			t.Errorf("kept: %q", r.Kept)
		}
		b.change(t)
	}
	clean(t, b, "three builds")
}

// A state directory that the contents file drops comes back with what was in it.
func TestStateComesBack(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/a"), state("/b")}
	b.build(t)
	write(t, b.root+"/a/mine", "in a")
	write(t, b.root+"/b/mine", "in b")
	b.spec.Directories = []contents.Directory{state("/a")}
	for range 3 { // more than are kept
		b.change(t)
		b.build(t)
		b.kept(t, "in b", "/b/mine")
		b.kept(t, "in a", "/web/a/mine")
	}
	b.spec.Directories = []contents.Directory{state("/a"), state("/b")}
	b.change(t)
	b.build(t)
	b.kept(t, "in b", "/web/b/mine")
	b.kept(t, "in a", "/web/a/mine")
	if f := b.verify(t); len(f) > 0 {
		t.Error(f)
	}
}

// Back to a tree that had not yet this state, and on again.
func TestRollbackBeforeState(t *testing.T) {
	b := small(t)
	b.build(t)
	b.spec.Directories = []contents.Directory{state("/a")}
	b.change(t)
	b.build(t)
	write(t, b.root+"/a/mine", "in a")
	s := b.open(t)
	if _, err := s.Rollback(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	b.kept(t, "in a", "/a/mine")
	b.change(t)
	b.build(t)
	b.kept(t, "in a", "/web/a/mine")
}

func mountTmpfs(t *testing.T, at, options string) {
	t.Helper()
	os.MkdirAll(at, 0o755)
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0755"+options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

// The policy's root was on another file system before, and a tree there has the number
// of the new one: each keeps its manifest.
func TestTwoTreesOfOneNumber(t *testing.T) {
	b := small(t)
	first := b.root
	second := filepath.Dir(b.jails()) + "/other/web"
	// A file system in memory counts its inodes: the same work gives the same numbers.
	mountTmpfs(t, filepath.Dir(first), "")
	mountTmpfs(t, filepath.Dir(second), "")
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, first+"/data/mine", "precious")
	b.root = second
	s := b.open(t)
	_, err := s.Build(context.Background(), b.building())
	if err == nil || !strings.Contains(err.Error(), "same number") {
		t.Fatalf("%v: this test tests nothing", err)
	}
	names, _ := s.names()
	s.Close()
	if len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
	b.root = first
	if f := b.verify(t); len(f) > 0 {
		t.Error(f)
	}
	b.change(t)
	b.build(t)
	b.kept(t, "precious", "/web/data/mine")
}

// A build while the disk with the trees is not there must not forget what is on it.
func TestDiskIsAway(t *testing.T) {
	b := small(t)
	mountTmpfs(t, b.jails(), "")
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "precious")
	disk, err := unix.OpenTree(unix.AT_FDCWD, b.jails(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(disk)
	if err := unix.Unmount(b.jails(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	b.build(t)
	b.change(t)
	b.build(t)
	if err := unix.MoveMount(disk, "", unix.AT_FDCWD, b.jails(), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	if f := b.verify(t); len(f) > 0 {
		t.Error(f)
	}
	b.build(t)
	b.kept(t, "precious", "/web/data/mine")
}

// A build that fails at the last moment leaves nothing behind.
func TestFailsToPlace(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "precious")
	store := b.jails() + "/.web.jailctl"
	// Names do not change places across a mount.
	if err := unix.Mount(store, store, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(store, unix.MNT_DETACH)
	b.change(t)
	s := b.open(t)
	defer s.Close()
	if _, err := s.Build(context.Background(), b.building()); err == nil {
		t.Fatal("it was built: this test tests nothing")
	}
	if names, err := s.names(); err != nil || len(names) > 0 {
		t.Errorf("left behind: %q, %v", names, err)
	}
	if mounts, err := mountsIn(b.jails()); err != nil || len(mounts) != 1 {
		t.Errorf("mounted: %q, %v", mounts, err)
	}
	if files, err := os.ReadDir(s.manifests); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	b.kept(t, "precious", "/web/data/mine")
}

// Whoever has the old tree open, as jailhelper has before it enters, finds the state in
// it for as long; then the mount goes.
func TestOldTreeIsOpen(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "mine")
	old, err := unix.Open(b.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.change(t)
	b.build(t)
	b.build(t)
	if got := read(t, fmt.Sprintf("/proc/self/fd/%d/data/mine", old)); got != "mine" {
		t.Errorf("%q", got)
	}
	unix.Close(old)
	b.build(t)
	if mounts, err := mountsIn(b.jails()); err != nil || len(mounts) > 0 {
		t.Errorf("left mounted: %q, %v", mounts, err)
	}
}

// What is mounted below a state directory goes where that goes, for all who see it.
func TestMountInState(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	mountTmpfs(t, b.root+"/data/disk", "")
	t.Cleanup(func() { unix.Unmount(b.root+"/data/disk", unix.MNT_DETACH) })
	write(t, b.root+"/data/disk/mine", "mine")
	old, err := os.Open(b.root)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	for range 2 {
		b.change(t)
		b.build(t)
		for _, root := range []string{b.root, fmt.Sprint("/proc/self/fd/", old.Fd())} {
			if got := read(t, root+"/data/disk/mine"); got != "mine" {
				t.Errorf("%s: %q", root, got)
			}
		}
		b.spec.Keep = 2
	}
	s := b.open(t)
	defer s.Close()
	if err := s.Remove(); err == nil || !strings.Contains(err.Error(), "unmount it") {
		t.Error(err)
	}
	if got := read(t, b.root+"/data/disk/mine"); got != "mine" {
		t.Errorf("%q", got)
	}
}

// Names of mount points hold what the kernel escapes, and blanks that it does not.
func TestMountsIn(t *testing.T) {
	for _, name := range []string{"a b", "a\nb", "a#b", `a\b`, `a\040b`, "a\tb", "a\rb", "a\u00a0b", "a\u2028b", "a\xffb"} {
		at := t.TempDir() + "/" + name
		mountTmpfs(t, at, "")
		if found, err := mountsIn(at); err != nil || len(found) != 1 || found[0] != at {
			t.Errorf("%q: %q, %v", at, found, err)
		}
	}
}

// A state directory that somebody removes, or puts a link in the place of, after a build
// was interrupted that had yet to note it.
func TestStateGoneByHand(t *testing.T) {
	for _, instead := range []string{"", "link", "file"} {
		b := small(t)
		b.spec.Directories = []contents.Directory{state("/a/b/data")}
		b.build(t)
		s := b.open(t)
		cur, err := s.current()
		if err != nil {
			t.Fatal(err)
		}
		cur.manifest.Used = false
		if err := s.save(cur.id, cur.manifest); err != nil {
			t.Fatal(err)
		}
		s.Close()
		at := b.root + "/a/b/data"
		os.Remove(at)
		switch instead {
		case "link":
			os.Symlink(b.host, at)
		case "file":
			write(t, at, "by hand")
		}
		b.build(t)
		if f := b.verify(t); len(f) > 0 {
			t.Errorf("%q: %+v", instead, f)
		}
		var st unix.Stat_t
		if unix.Lstat(b.host, &st); st.Uid != 0 {
			t.Errorf("%q: a link was followed", instead)
		}
	}
}

// A jail in the tree of another would go with that.
func TestJailInAJail(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{{Path: "/jails", Mode: 0o755}}
	b.build(t)
	s, err := Open(context.Background(), "inner", b.root+"/jails/inner", b.state, true, func(string) {})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "in the tree of the jail web") {
		t.Error(err)
	}
	if left, err := os.ReadDir(b.state + "/manifests"); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if left, err := os.ReadDir(b.root + "/jails"); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// What the owner of a state directory may do with it gives builds nothing to do.
func TestOwnerOfState(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	at := b.root + "/data"
	if err := errors.Join(os.WriteFile(at+"/file", nil, 0o600), os.Chown(at, 1, 5), os.Chmod(at, 0o777), unix.Setxattr(at, "user.x", nil, 0)); err != nil {
		t.Fatal(err)
	}
	if r := b.build(t); r.Changed {
		t.Errorf("%+v", r)
	}
	b.change(t)
	b.build(t)
	var st unix.Stat_t
	if unix.Lstat(at, &st); st.Uid != 1 || st.Gid != 1 || st.Mode&0o7777 != 0o750 {
		t.Errorf("%d:%d, %o", st.Uid, st.Gid, st.Mode)
	}
}

// The umask of who builds changes nothing.
func TestUmask(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		b := small(t)
		b.spec.Directories = []contents.Directory{state("/data"), {Path: "/a/b/c", Mode: 0o755}}
		b.spec.Devices = []contents.Name{{Name: "null"}}
		os.Mkdir(b.state, 0o755)
		was := unix.Umask(umask)
		b.build(t)
		b.change(t)
		b.build(t)
		unix.Umask(was)
		if f := b.verify(t); len(f) > 0 {
			t.Errorf("%03o: %+v", umask, f)
		}
		for _, name := range []string{b.jails(), b.jails() + "/.web.jailctl", b.state + "/manifests", b.state + "/manifests/web"} {
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil || st.Mode&0o077 != 0 {
				t.Errorf("%03o: %s: mode %o, %v", umask, name, st.Mode, err)
			}
		}
	}
}

// dropping is a bench whose next build drops an empty state directory and keeps no old
// tree, and the directory, open, as somebody in it has it.
func dropping(t *testing.T) (*bench, *os.File) {
	t.Helper()
	b := small(t)
	b.spec.Keep = 0
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	old, err := os.Open(b.root + "/data")
	do(t, err)
	t.Cleanup(func() { old.Close() })
	b.spec.Directories = nil
	b.change(t)
	return b, old
}

// Somebody in an old tree writes into an empty state directory that only that tree has,
// at the moment at which it is to be removed.
func TestWrittenAtTheLastMoment(t *testing.T) {
	b, old := dropping(t)
	at := fmt.Sprintf("/proc/self/fd/%d/", old.Fd())
	defer func(was func(string)) { step = was }(step)
	closed := false
	step = func(what string) {
		switch what {
		case "close state":
			write(t, at+"mine", "mine")
			closed = true
		case "remove tree":
			t.Error("removed")
		}
	}
	r := b.build(t)
	if !closed || len(r.Kept) != 1 {
		t.Errorf("%v, %q", closed, r.Kept)
	}
	b.kept(t, "mine", "/data/mine")
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil || st.Uid != 1 || st.Mode&0o777 != 0o750 {
		t.Errorf("mode %o of %d, %v", st.Mode, st.Uid, err)
	}
}

// Nobody writes into it any more once it was seen to be empty.
func TestClosedBeforeRemoved(t *testing.T) {
	b, old := dropping(t)
	defer func(was func(string)) { step = was }(step)
	removed := false
	step = func(what string) {
		if what == "remove tree" {
			removed = true
			var st unix.Stat_t
			if err := unix.Fstat(int(old.Fd()), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0 {
				t.Errorf("mode %o of %d, %v", st.Mode, st.Uid, err)
			}
		}
	}
	b.build(t)
	if !removed {
		t.Error("not removed")
	}
}
