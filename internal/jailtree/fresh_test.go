package jailtree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jailctl/internal/contents"
	"jailctl/internal/fresh"
	"jailctl/policy"
)

// fresh is what jailctl asks before it becomes jailctl-admin.
func (b *bench) fresh() bool { return fresh.Same(b.state + "/fresh/web") }

// beside is the directory of the trees that are not in use.
func (b *bench) beside() string { return b.jails() + "/.web.jailctl" }

// shell runs a script in which $0 is a path.
func shell(script, path string) error { return exec.Command("sh", "-ec", script, path).Run() }

// There is nothing to do only where there is not: whatever is different, or left half
// done, is for who opens the store.
func TestFresh(t *testing.T) {
	file, inTree := "/usr/share/data/a", "/usr/share/data/b"
	later := time.Now().Add(time.Hour)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, b *bench) error
		fresh  bool
	}{
		{"nothing", func(*testing.T, *bench) error { return nil }, true},
		{"text in state", func(_ *testing.T, b *bench) error { return os.WriteFile(b.root+"/data/hers", nil, 0o666) }, true},
		{"mode and group of state", func(_ *testing.T, b *bench) error { return shell(`chmod 0700 "$0"; chgrp 7 "$0"`, b.root+"/data") }, true},
		{"a tree of another jail beside it", func(_ *testing.T, b *bench) error { return os.Mkdir(b.jails()+"/other", 0o755) }, true},

		{"text", func(t *testing.T, b *bench) error { b.put(t, file, "A\n", 0o644); return nil }, false},
		{"time", func(_ *testing.T, b *bench) error { return os.Chtimes(b.host+file, later, later) }, false},
		{"mode", func(_ *testing.T, b *bench) error { return os.Chmod(b.host+file, 0o600) }, false},
		{"owner", func(_ *testing.T, b *bench) error { return os.Chown(b.host+file, 7, 7) }, false},
		{"gone", func(_ *testing.T, b *bench) error { return os.Remove(b.host + file) }, false},
		{"new", func(t *testing.T, b *bench) error { b.put(t, file+"a", "", 0o644); return nil }, false},
		{"optional", func(t *testing.T, b *bench) error { b.put(t, "/opt/optional", "", 0o644); return nil }, false},
		{"link", func(_ *testing.T, b *bench) error { return shell(`ln -sfn other "$0"`, b.host+"/usr/bin/alias") }, false},
		{"mode of a directory", func(_ *testing.T, b *bench) error { return os.Chmod(b.host+"/usr/share", 0o700) }, false},
		{"owner of a directory", func(_ *testing.T, b *bench) error { return os.Chown(b.host+"/usr/share", 7, 7) }, false},
		{"accounts, for a state directory", func(t *testing.T, b *bench) error { b.put(t, "/etc/passwd", "", 0o644); return nil }, false},
		{"contents file", func(t *testing.T, b *bench) error { b.edited(t); return nil }, false},

		{"text in the tree", func(_ *testing.T, b *bench) error { return os.WriteFile(b.root+inTree, []byte("B\n"), 0o644) }, false},
		{"text and time in the tree", func(_ *testing.T, b *bench) error {
			return shell(`touch -r "$0" "$0.time"; echo B >"$0"; touch -r "$0.time" "$0"; rm "$0.time"`, b.root+inTree)
		}, false},
		{"mode in the tree", func(_ *testing.T, b *bench) error { return os.Chmod(b.root+inTree, 0o600) }, false},
		{"gone from the tree", func(_ *testing.T, b *bench) error { return os.Remove(b.root + inTree) }, false},
		{"new in the tree", func(_ *testing.T, b *bench) error { return os.Mkdir(b.root+"/usr/share/data/c", 0o755) }, false},
		{"new in the root", func(_ *testing.T, b *bench) error { return os.Mkdir(b.root+"/c", 0o755) }, false},
		{"owner of state", func(_ *testing.T, b *bench) error { return os.Chown(b.root+"/data", 7, 7) }, false},
		{"other state", func(_ *testing.T, b *bench) error {
			return shell(`mkdir "$0.other"; mv -T --exchange "$0.other" "$0" || { mv "$0" "$0.moved"; mv "$0.other" "$0"; }`, b.root+"/data")
		}, false},
		{"another tree", func(_ *testing.T, b *bench) error { return shell(`mv "$0" "$0.moved"; cp -a "$0.moved" "$0"`, b.root) }, false},
		{"a link in the place of the tree", func(_ *testing.T, b *bench) error { return shell(`mv "$0" "$0.moved"; ln -s "$0.moved" "$0"`, b.root) }, false},
		{"no tree", func(_ *testing.T, b *bench) error { return os.Rename(b.root, b.root+".moved") }, false},

		{"half built", func(_ *testing.T, b *bench) error { return os.Mkdir(b.beside()+"/new", 0o700) }, false},
		{"half written", func(_ *testing.T, b *bench) error {
			return os.WriteFile(b.state+"/manifests/web/7.pb.new", nil, 0o600)
		}, false},
		{"a manifest less", func(_ *testing.T, b *bench) error {
			return shell(`rm "$0"/*.pb`, b.state+"/manifests/web")
		}, false},
		{"an old tree less", func(_ *testing.T, b *bench) error { return shell(`rm -r "$0"/*`, b.beside()) }, false},
		{"rolled back", func(t *testing.T, b *bench) error {
			s := b.open(t)
			defer s.Close()
			_, err := s.Rollback()
			return err
		}, false},
		{"open to others", func(_ *testing.T, b *bench) error { return os.Chmod(b.beside(), 0o755) }, false},
		{"somebody else's", func(_ *testing.T, b *bench) error { return os.Chown(b.beside(), 7, 7) }, false},
		{"written by others", func(_ *testing.T, b *bench) error { return os.Chmod(b.jails(), 0o777) }, false},
		{"owned by others", func(_ *testing.T, b *bench) error { return os.Chown(b.jails(), 7, 0) }, false},
		{"written by others above", func(_ *testing.T, b *bench) error { return os.Chmod(filepath.Dir(b.jails()), 0o777) }, false},
		{"cut off", func(_ *testing.T, b *bench) error { return os.Truncate(b.state+"/fresh/web", 1000) }, false},
		{"lost", func(_ *testing.T, b *bench) error { return os.Truncate(b.state+"/fresh/web", 0) }, false},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			b := newBench(t)
			b.spec.Paths = []contents.Path{path1("/usr/share/data"), path1("/bin/alias")}
			b.spec.OptionalPaths = []contents.Path{path1("/opt/optional")}
			b.spec.Directories = []contents.Directory{{Path: "/data", Owner: "1", Group: "1", Mode: 0o755, State: true}}
			do(t, os.Chown(b.host+"/usr/share", 8, 8))
			b.build(t)
			b.put(t, file, "another\n", 0o644)
			if b.fresh() {
				t.Fatal("another text, and it is fresh")
			}
			b.build(t)
			if !b.fresh() {
				t.Fatal("nothing has changed, and it is not fresh")
			}
			do(t, test.change(t, b))
			if got := b.fresh(); got != test.fresh {
				t.Errorf("got %v", got)
			}
		})
	}
}

// What was rolled back is another than what is asked for, and a build knows.
func TestFreshAfterRollback(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	b.build(t)
	b.put(t, "/usr/share/data/a", "another\n", 0o644)
	b.build(t)
	s := b.open(t)
	_, err := s.Rollback()
	do(t, err)
	s.Close()
	if r := b.build(t); !r.Changed || read(t, b.root+"/usr/share/data/a") != "another\n" || !b.fresh() {
		t.Errorf("%+v", r)
	}
}

// No jail has a list, not even half of one, under the name of another.
func TestFreshNames(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	defer func(was func(string)) { step = was }(step)
	seen := 0
	step = func(what string) {
		files, _ := os.ReadDir(b.state + "/fresh")
		for _, f := range files {
			if seen++; f.Name() != "web" && policy.ValidName(f.Name()) {
				t.Errorf("%s: %s", what, f.Name())
			}
		}
	}
	b.build(t)
	b.edited(t)
	b.build(t)
	if seen < 4 {
		t.Error(seen)
	}
}

// With the jail goes what is known of it.
func TestFreshIsRemoved(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	b.build(t)
	s := b.open(t)
	do(t, s.Remove())
	s.Close()
	if left, err := os.ReadDir(b.state + "/fresh"); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// State that is still lent to an old tree, since somebody is there, is to be taken off by
// a build, once nobody is.
func TestFreshWhileLent(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	within, err := os.Open(b.root)
	do(t, err)
	b.put(t, "/usr/share/data/a", "another\n", 0o644)
	b.build(t)
	if lent, err := mountsIn(b.beside()); err != nil || len(lent) != 1 || b.fresh() {
		t.Errorf("%q, %v, fresh: %v", lent, err, b.fresh())
	}
	within.Close()
	b.build(t)
	if lent, err := mountsIn(b.beside()); err != nil || len(lent) != 0 || !b.fresh() {
		t.Errorf("%q, %v, fresh: %v", lent, err, b.fresh())
	}
}

// A rollback changes nothing that trees are made from. Where one was killed, what there is
// to finish is left to who opens the store: where nothing is to be done, opening it
// changes nothing.
func TestFreshKilled(t *testing.T) {
	said := map[bool]int{}
	for n, lived := 1, false; !lived; n++ {
		place := filepath.Dir(newBench(t).host)
		b := crashBench(place)
		for _, text := range []string{"1\n", "2\n"} {
			b.put(t, "/usr/bin/tool", text, 0o755)
			b.build(t)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), fmt.Sprint("JAILTREE_DIE_AT=", n), "JAILTREE_BENCH="+place, "JAILTREE_DO=rollback")
		out, _ := cmd.CombinedOutput()
		lived = strings.Contains(string(out), "lived")
		is := b.fresh()
		said[is]++
		if !is {
			continue
		}
		before := inodes(t, b.state) + inodes(t, b.jails())
		b.open(t).Close()
		if after := inodes(t, b.state) + inodes(t, b.jails()); after != before {
			t.Errorf("%s: fresh, and then\n%s became\n%s", out, before, after)
		}
	}
	if said[false] < 10 || said[true] == 0 {
		t.Error(said)
	}
}

// What an old tree holds, which keeps it from being removed, is told of by each build, and
// removed by the next one once it is gone.
func TestFreshWhileKept(t *testing.T) {
	b := newBench(t)
	b.spec.Keep = 0
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "mine")
	b.spec.Directories = nil
	b.edited(t)
	var kept string
	for range 2 {
		r := b.build(t)
		if len(r.Kept) != 1 || b.fresh() {
			t.Fatalf("%+v, %v", r, b.fresh())
		}
		kept = r.Kept[0]
	}
	do(t, os.Remove(kept+"/mine"))
	if r := b.build(t); r.Changed || len(r.Kept) > 0 || !b.fresh() {
		t.Errorf("%+v, %v", r, b.fresh())
	}
	if left, err := os.ReadDir(b.beside()); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// Whoever changes a tree between a build that was killed and what the next one finishes of
// it has that build it anew.
func TestChangedAfterKill(t *testing.T) {
	for _, meddle := range []string{`touch "$0/evil"`, `chmod 0775 "$0"`, `chown 7 "$0"`, `rm -r "$0/usr"`, `mv "$0/usr" "$0/user"`, `touch "$0/var/evil"`} {
		died := false
		for n := 1; !died; n++ {
			place := filepath.Dir(newBench(t).host)
			b := crashBench(place)
			b.put(t, "/usr/bin/tool", "1\n", 0o755)
			b.build(t)
			b.put(t, "/usr/bin/tool", "2\n", 0o755)
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
			cmd.Env = append(os.Environ(), fmt.Sprint("JAILTREE_DIE_AT=", n), "JAILTREE_BENCH="+place, "JAILTREE_DO=build")
			out, _ := cmd.CombinedOutput()
			if strings.Contains(string(out), "lived") {
				t.Fatal("it did not die there")
			}
			if died = strings.Contains(string(out), "died before: sync names"); !died {
				continue
			}
			do(t, shell(meddle, b.root))
			b.build(t)
			if found := b.verify(t); len(found) > 0 || !b.fresh() {
				t.Errorf("%s: %+v, %v", meddle, found, b.fresh())
			}
		}
	}
}

// Of the files that an archive's name could mean, those that are not there count as well.
func TestArchiveNames(t *testing.T) {
	b := newBench(t)
	write(t, b.archive(), "")
	b.spec.Archive = &contents.Path{Path: b.archive() + ":a:b"}
	building := b.building()
	_, err := Make(t.Context(), b.spec, building.Host)
	asked := building.Files.Asked()
	for _, name := range []string{b.archive() + ":a:b", b.archive() + ":a"} {
		if s, ok := asked[name]; !ok || s.Mode != 0 {
			t.Errorf("%s: %+v, %v; %v", name, s, ok, err)
		}
	}
}
