package jailtree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/paths"
)

// No tree takes the place of a directory of the host's, whatever is asked for.
func TestSuits(t *testing.T) {
	for _, root := range []string{
		"/", "/etc", "/etc/jails/web", "/usr", "/usr/lib", "/usr/share/web", "/usr/local", "/usr/local/bin", "/var", "/var/lib", "/lib64", "/proc/x", "/home", "/srv",
		"/tmp", "/root", paths.State, paths.State + "/jails/web", paths.Libexec,
	} {
		if err := Suits(root); err == nil || !strings.Contains(err.Error(), "is a directory of the host: choose a root elsewhere") {
			t.Errorf("%s: %v", root, err)
		}
	}
	for _, root := range []string{
		"/jail", "/library", "/srv/jails/web", "/home/jails/web", "/var/jails", "/var/lib/jails/web", "/usr/jails/web", "/usr/local/jails/web", "/opt/web", "/src", "/etcetera", "/run/web", path.Dir(paths.State) + " of mine/web", path.Dir(paths.Libexec) + " /web",
	} {
		if err := Suits(root); err != nil {
			t.Error(err)
		}
	}
	s, err := Open(context.Background(), "web", "/etc", small(t).state, true, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "choose a root elsewhere") {
		t.Error(s, err)
	}
}

// The tree of one jail is no other's, nor is a directory with others' trees in it.
func TestOtherJails(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "precious")
	for root, want := range map[string]string{
		b.root:           b.root + " is the tree of the jail web: choose a root elsewhere",
		b.root + "/data": b.root + "/data is in the tree of the jail web: choose a root elsewhere",
		b.jails():        "the jail web is in it, at " + b.root + ": choose a root elsewhere",
	} {
		s, err := Open(context.Background(), "other", root, b.state, true, func(string) {})
		if err == nil {
			building := b.building()
			building.Replace = true
			_, err = s.Build(context.Background(), building)
			s.Close()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", root, err)
		}
	}
	// Nor is a root in the jail's own tree, where it was before.
	if _, err := Open(context.Background(), "web", b.root+"/usr/in", b.state, true, func(string) {}); err == nil || !strings.Contains(err.Error(), " is in the tree of the jail web") {
		t.Error(err)
	}
	b.kept(t, "precious", "/web/data/mine")
	b.build(t)
	if f := b.verify(t); len(f) > 0 {
		t.Error(f)
	}
	// A tree that is gone is in nobody's way, whatever has its inode number now, nor is a
	// manifest that cannot be read.
	do(t, os.RemoveAll(b.jails()), os.MkdirAll(b.jails()+"/mine", 0o755), os.Mkdir(b.root, 0o755))
	var st unix.Stat_t
	do(t, unix.Lstat(b.root, &st))
	files, err := filepath.Glob(b.state + "/manifests/web/*.pb")
	do(t, err, os.Rename(files[0], fmt.Sprintf("%s/manifests/web/%d.pb", b.state, st.Ino)))
	do(t, os.Mkdir(b.state+"/manifests/third", 0o700))
	write(t, b.state+"/manifests/third/1.pb", "damaged")
	for _, root := range []string{b.root, b.jails()} {
		s, err := Open(context.Background(), "other", root, b.state, true, func(string) {})
		do(t, err)
		building := b.building()
		building.Replace = true
		if _, err := s.Build(context.Background(), building); err != nil {
			t.Error(err)
		}
		s.Close()
		do(t, os.RemoveAll(root), os.RemoveAll(b.state+"/manifests/other"))
	}
}

// Who moves a tree away for a moment, and has something else there meanwhile that no build
// replaces, has all as it was with the tree.
func TestMovedAside(t *testing.T) {
	b := small(t)
	b.build(t)
	b.change(t)
	b.build(t)
	do(t, os.Rename(b.root, b.root+".aside"), os.MkdirAll(b.root+"/x", 0o755))
	s := b.open(t)
	if _, err := s.Build(context.Background(), b.building()); !errors.Is(err, ErrNotOurs) {
		t.Error(err)
	}
	s.Close()
	do(t, os.RemoveAll(b.root), os.Rename(b.root+".aside", b.root))
	if f := b.verify(t); len(f) > 0 {
		t.Error(f)
	}
	do(t, b.rollback(t))
	// A build that succeeds has no use for what was known of a tree that is gone.
	do(t, os.Rename(b.root, b.root+".aside"))
	b.build(t)
	files, err := os.ReadDir(b.state + "/manifests/web")
	if want := 2 + b.keeps(t); err != nil || len(files) != want { // the lock, the tree in use, the old ones
		t.Errorf("%v, %v, want %d", files, err, want)
	}
}

// Where the policy names another root than before, a build says so, and both trees can be
// removed; each has its own state.
func TestMovedRoot(t *testing.T) {
	for _, beside := range []string{"", "/far"} {
		b := small(t)
		b.spec.Directories = []contents.Directory{state("/data")}
		b.build(t)
		write(t, b.root+"/data/mine", "precious")
		first, jails := b.root, b.jails()
		b.root = jails + beside + "/moved"
		const note = " before: that tree stays there, and the state in it is not in this one"
		told := func(r *Report) bool {
			return slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, first) && strings.Contains(n, note) })
		}
		if r := b.build(t); !told(r) {
			t.Errorf("%q", r.Notes)
		}
		b.change(t)
		if r := b.build(t); told(r) {
			t.Error("said again")
		}
		if got := read(t, first+"/data/mine"); got != "precious" {
			t.Errorf("%q", got)
		}
		roots, err := Roots(b.state, "web")
		slices.Sort(roots)
		want := []string{first, b.root}
		slices.Sort(want)
		if err != nil || !slices.Equal(roots, want) {
			t.Errorf("%q, %v", roots, err)
		}
		for _, root := range roots {
			b.root = root
			s := b.open(t)
			do(t, s.Remove())
			s.Close()
		}
		if beside != "" {
			do(t, os.Remove(jails+beside)) // the next root may be there again
		}
		for _, dir := range []string{jails, b.state + "/manifests"} {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left in %s: %v, %v", dir, left, err)
			}
		}
	}
}

// What --replace has put aside stays when the jail is removed, and state that an old tree
// was left with is named before.
func TestRemoveLeavesWhatWasThere(t *testing.T) {
	b := small(t)
	do(t, os.MkdirAll(b.root, 0o755))
	write(t, b.root+"/mine", "precious")
	b.spec.Directories = []contents.Directory{state("/data")}
	s := b.open(t)
	building := b.building()
	building.Replace = true
	_, err := s.Build(context.Background(), building)
	do(t, err)
	if err := s.Remove(); err == nil || !strings.Contains(err.Error(), "was there before the jail was built: move it where it belongs first") {
		t.Error(err)
	}
	s.Close()
	b.kept(t, "precious", "/mine")
	if f := b.verify(t); len(f) > 0 {
		t.Error("removed in part", f)
	}
	// Put back in its place, it is no more jailctl's.
	do(t, b.rollback(t))
	s = b.open(t)
	if err := s.Remove(); err == nil || !strings.Contains(err.Error(), b.root+`" was there before the jail was built`) {
		t.Error(err)
	}
	s.Close()
	b.kept(t, "precious", "/web/mine")
	b.build(t)
	write(t, b.root+"/data/state", "state")
	b.spec.Directories = nil
	b.change(t)
	b.build(t)
	s = b.open(t)
	defer s.Close()
	all, err := s.State()
	if err != nil || len(all) != 1 || !strings.HasPrefix(all[0], b.beside()+"/") || !strings.HasSuffix(all[0], "/data") {
		t.Errorf("%q, %v", all, err)
	}
	// Moved where it belongs, nothing is in the way.
	for _, name := range []string{"/mine", "/data"} {
		old, _ := s.others()
		for _, o := range old {
			os.Rename(b.beside()+"/"+o.name()+name, filepath.Dir(b.jails())+name)
		}
	}
	do(t, s.Remove())
}

// A tree that was removed by hand leaves a jail that can be removed, also where something
// else is in its place, which stays.
func TestRemovedByHand(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		b := small(t)
		b.build(t)
		do(t, os.RemoveAll(b.jails()))
		if foreign {
			do(t, os.MkdirAll(b.root, 0o755))
			write(t, b.root+"/mine", "precious")
		}
		s, err := OpenToRemove(context.Background(), "web", b.root, b.state, func(string) {})
		do(t, err)
		do(t, s.Remove())
		s.Close()
		if roots, err := Roots(b.state, "web"); len(roots) > 0 || err != nil {
			t.Errorf("%q, %v", roots, err)
		}
		if _, err := os.Lstat(b.jails()); errors.Is(err, fs.ErrNotExist) == foreign {
			t.Error(err)
		}
		if _, err := os.Lstat(b.jails() + "/.web.jailctl"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if foreign {
			b.kept(t, "precious", "/web/mine")
		}
	}
}

// On a disk that is not there nothing can be removed, and nothing is made in its place.
func TestRemoveOnDiskAway(t *testing.T) {
	b := small(t)
	disk := filepath.Dir(b.host) + "/disk"
	b.root = disk + "/jails/web"
	mountTmpfs(t, disk, "")
	b.build(t)
	do(t, unix.Unmount(disk, unix.MNT_DETACH))
	s, err := OpenToRemove(context.Background(), "web", b.root, b.state, func(string) {})
	do(t, err, s.Remove())
	s.Close()
	if roots, err := Roots(b.state, "web"); err != nil || len(roots) != 1 {
		t.Errorf("%q, %v", roots, err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// Where nothing can run, a build says so.
func TestMountedNoexec(t *testing.T) {
	b := small(t)
	b.spec.Devices = []contents.Name{{Name: "null"}}
	mountTmpfs(t, b.jails(), "")
	do(t, unix.Mount("", b.jails(), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOEXEC|unix.MS_NODEV, ""))
	notes := strings.Join(b.build(t).Notes, "\n")
	for _, want := range []string{"mounted noexec: no program in the jail can run", "mounted nodev: no device in the jail can be opened"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in %s", want, notes)
		}
	}
}
