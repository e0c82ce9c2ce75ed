package fresh

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"jailctl/internal/paths"
	"jailctl/proto/jailpb"
)

// What is read of a mark is what protobuf's own code wrote.
func TestEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &jailpb.Mark{
			Path: rapid.SliceOf(rapid.Byte()).Draw(t, "path"), Counts: rapid.Uint32().Draw(t, "counts"), Mode: rapid.Uint32().Draw(t, "mode"),
			Uid: rapid.Uint32().Draw(t, "uid"), Inode: rapid.Uint64().Draw(t, "inode"), Changed: rapid.Int64().Draw(t, "changed"),
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		path, got, err := parse(b)
		if want := (Mark{m.Counts, m.Mode, m.Uid, m.Inode, m.Changed}); err != nil || path != string(m.Path) || got != want {
			t.Errorf("%q, %+v, %v of %v", path, got, err, m)
		}
	})
}

// Look sees what the wrapper of others sees.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/link", "/dev/null", "/proc/self/exe", "/etc/passwd"} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		all := Mark{Mode | User | Inode | Time, st.Mode, st.Uid, st.Ino, st.Ctim.Nano()}
		for counts, want := range map[uint32]Mark{
			all.Counts: all,
			Mode:       {Counts: Mode, Mode: st.Mode},
			User:       {Counts: User, User: st.Uid},
			Inode:      {Counts: Inode, Inode: st.Ino},
			Time:       {Counts: Time, Time: st.Ctim.Nano()},
			0:          {},
		} {
			if got, err := Look(path, counts); err != nil || got != want {
				t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
			}
		}
	}
}

func TestMark(t *testing.T) {
	path := t.TempDir() + "/a"
	none := Mark{}
	if !none.Same(path) || none.Same("a\x00") || (Mark{Counts: Inode}).Same(path) {
		t.Error("nothing is there")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Look(path, Mode|User|Inode|Time)
	if err != nil || !m.Same(path) || none.Same(path) {
		t.Error(m, err)
	}
	for _, other := range []func(*Mark){
		func(m *Mark) { m.Mode ^= 1 }, func(m *Mark) { m.User++ }, func(m *Mark) { m.Inode++ }, func(m *Mark) { m.Time++ },
	} {
		o := m
		if other(&o); o.Same(path) {
			t.Errorf("%+v is the same as %+v", o, m)
		}
	}
}

// Only a whole file, of this version, with at least one mark, says that something is as
// it was.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	m, err := Look(dir, Mode|User)
	if err != nil {
		t.Fatal(err)
	}
	good := &jailpb.Mark{Path: []byte(dir), Counts: m.Counts, Mode: m.Mode, Uid: m.User}
	none := &jailpb.Mark{Path: []byte(dir + "/nothing")}
	bad := &jailpb.Mark{Path: []byte(dir)}
	say := func(f *jailpb.Fresh) []byte {
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := paths.Version
	all := say(&jailpb.Fresh{Jailctl: v, Marks: []*jailpb.Mark{good, none, good}})
	for _, test := range []struct {
		name string
		text []byte
		want bool
	}{
		{"all", all, true},
		{"one", say(&jailpb.Fresh{Jailctl: v, Marks: []*jailpb.Mark{good, none, good, bad}}), false},
		{"none", say(&jailpb.Fresh{Jailctl: v}), false},
		{"version", say(&jailpb.Fresh{Jailctl: v + "1", Marks: []*jailpb.Mark{good}}), false},
		{"empty", nil, false},
		{"more", append(all[:len(all):len(all)], 0), false},
		{"zeros", make([]byte, len(all)), false},
		{"a mark that is none", say(&jailpb.Fresh{Jailctl: v, Marks: []*jailpb.Mark{good, {Path: []byte{0}}}}), false},
		{"another field", append(all[:len(all):len(all)], 0x18, 0x01), false},
	} {
		file := dir + "/" + test.name
		if err := os.WriteFile(file, test.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Same(file); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		if err := os.Symlink(file, file+".link"); err != nil || Same(file+".link") {
			t.Errorf("%s: a link, %v", test.name, err)
		}
	}
	if Same(dir+"/nothing") || Same(dir) {
		t.Error("no file")
	}
	for n := range all {
		file := dir + "/cut"
		if err := os.WriteFile(file, all[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := n == len(say(&jailpb.Fresh{Jailctl: v, Marks: []*jailpb.Mark{good}})) || n == len(say(&jailpb.Fresh{Jailctl: v, Marks: []*jailpb.Mark{good, none}}))
		if got := Same(file); got != whole {
			t.Errorf("cut off after %d of %d: %v", n, len(all), got)
		}
	}
}

func TestJail(t *testing.T) {
	defer func(was string) { paths.State = was }(paths.State)
	paths.State = t.TempDir()
	text, err := proto.Marshal(&jailpb.Fresh{Jailctl: paths.Version, Marks: []*jailpb.Mark{{Path: []byte("/none")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(paths.State+"/fresh/a", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", ".web", "a/web"} {
		if err := os.WriteFile(paths.Fresh(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".web", "a", "a/web", "a/../web", "../fresh/web", "/web", "web/", "other"} {
		if Jail(name) {
			t.Errorf("%q", name)
		}
	}
	if !Jail("web") {
		t.Error("web")
	}
}

func TestEvery(t *testing.T) {
	for n := range 20 {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		for bad := -1; bad < n; bad++ {
			if got := Every(all, func(i int) bool { return i != bad }); got != (bad < 0) {
				t.Errorf("%d of %d: %v", bad, n, got)
			}
		}
	}
}
