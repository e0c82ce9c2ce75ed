package jailtree

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/proto/jailpb"
)

// What ordinary users plant in directories of theirs that a contents file names.

// private is a directory on the host that root alone can enter.
func (b *bench) private(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/root/private/sub/", "/root/private/"} {
		b.put(t, dir+"file", secret, 0o644)
		b.put(t, dir+"secret-dir/dir/file", secret, 0o644)
		b.link(t, dir+"link", "to-secret")
		b.link(t, dir+"secret-link", "to-secret")
	}
	if err := os.Chmod(b.host+"/root", 0o700); err != nil {
		t.Fatal(err)
	}
}

// give makes all below a path of the host somebody's.
func (b *bench) give(t *testing.T, name string, uid int) {
	t.Helper()
	filepath.WalkDir(b.host+name, func(at string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(at, uid, uid)
		}
		if err != nil {
			t.Fatal(err)
		}
		return nil
	})
}

// mallory's directory is a directory when it is looked at, and a link to root's when what
// is in it is listed or read. No name, link or content of root's gets into the tree.
func TestPlantedRace(t *testing.T) {
	b := newBench(t)
	b.private(t)
	b.put(t, "/home/mallory/site/sub/file", "index", 0o644)
	b.put(t, "/home/mallory/site/secret-dir/dir/x", "index", 0o644)
	b.link(t, "/home/mallory/site/sub/link", "file")
	if err := os.Symlink(b.host+"/root/private", b.host+"/home/mallory/link"); err != nil {
		t.Fatal(err)
	}
	b.give(t, "/home/mallory", mallory)
	b.spec.Paths = []contents.Path{path1("/home/mallory")}
	defer startSwap(t, b.host+"/home/mallory/site", b.host+"/home/mallory/link")()
	plans := 0
	for n := 0; n < 5000 && plans < 500; n++ {
		plan, err := b.plan()
		if err != nil {
			continue
		}
		plans++
		for _, e := range plan.Entries {
			if strings.Contains(string(e.Path), "secret-link") || strings.Contains(string(e.Target), "to-secret") || strings.HasSuffix(string(e.Path), "sub/secret-dir") {
				t.Fatalf("plan %d of %d: %s %q", plans, n, e.Path, e.Target)
			}
		}
		if plans%20 != 0 {
			continue
		}
		s := b.open(t)
		if _, err := s.write(t.Context(), plan, func(int64, int64) {}); err == nil {
			if names := leaked(t, b.jails()); len(names) > 0 {
				t.Fatalf("read %q", names)
			}
		}
		s.Close()
	}
	if plans < 50 {
		t.Errorf("%d plans", plans)
	}
}

// A link of mallory's, or a file of hers, leads root to what she could read herself and
// no further.
func TestPlantedLinks(t *testing.T) {
	const hers = "/home/mallory/site/"
	for name, test := range map[string]struct {
		plant func(*testing.T, *bench)
		ask   string
		has   string // in the tree, or else
		want  string // in a note or problem
	}{
		"what all can read": {
			func(t *testing.T, b *bench) { b.link(t, hers+"tool", "/usr/bin/tool") },
			hers, "/usr/bin/tool", "",
		},
		"her own": {
			func(t *testing.T, b *bench) {
				b.put(t, "/home/mallory/v1/file", "x", 0o600)
				b.link(t, hers+"now", "../v1/file")
			},
			hers, "/home/mallory/v1/file", "",
		},
		"her own on the way": {
			func(t *testing.T, b *bench) {
				b.put(t, "/home/mallory/v1/file", "x", 0o600)
				b.link(t, hers+"now", "../v1")
			},
			hers + "now/file", "/home/mallory/v1/file", "",
		},
		"a file of root's in a closed directory": {
			func(t *testing.T, b *bench) { b.link(t, hers+"x", "/root/private/file") },
			hers, "", `leads to "/root/private/file"`,
		},
		"a closed file of root's": {
			func(t *testing.T, b *bench) {
				b.put(t, "/etc/shadow", "x", 0o640)
				b.link(t, hers+"x", "/etc/shadow")
			},
			hers, "", `leads to "/etc/shadow"`,
		},
		"asked for by name": {
			func(t *testing.T, b *bench) { b.link(t, hers+"x", "/root/private/file") },
			hers + "x", "", `leads to "/root/private/file"`,
		},
		"a directory, asked for by name": {
			func(t *testing.T, b *bench) { b.link(t, hers+"x", "/root/private") },
			hers + "x", "", `leads to "/root/private"`,
		},
		"on the way": {
			func(t *testing.T, b *bench) { b.link(t, hers+"x", "/root/private") },
			hers + "x/file", "", `leads to "/root/private/file"`,
		},
		"a pattern": {
			func(t *testing.T, b *bench) { b.link(t, hers+"x", "/root/private") },
			"/home/*/site/x/f*", "", `leads to "/root/private/file"`,
		},
		"by way of root's link": {
			func(t *testing.T, b *bench) {
				b.link(t, "/etc/public", "/root/private/file")
				b.link(t, hers+"x", "/etc/public")
			},
			hers, "", `leads to "/root/private/file"`,
		},
		"somebody else's": {
			func(t *testing.T, b *bench) {
				b.put(t, "/home/bob/diary", "x", 0o644)
				os.Chmod(b.host+"/home/bob", 0o700)
				b.give(t, "/home/bob", 12345)
				b.link(t, hers+"x", "../../bob/diary")
			},
			hers, "", `leads to "/home/bob/diary"`,
		},
		"a script": {
			func(t *testing.T, b *bench) {
				b.put(t, "/root/private/program", "x", 0o755)
				b.put(t, hers+"script", "#!/root/private/program\n", 0o755)
			},
			hers + "script", "", `leads to "/root/private/program"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.private(t)
			b.put(t, hers+"index", "index", 0o644)
			test.plant(t, b)
			b.give(t, "/home/mallory", mallory)
			b.spec.Paths = []contents.Path{path1(filepath.Clean(test.ask))}
			plan, err := b.plan()
			said := ""
			if err != nil {
				said = err.Error()
			}
			has := false
			if plan != nil {
				said = strings.Join(plan.Notes, "\n")
				for _, e := range plan.Entries {
					has = has || string(e.Path) == test.has
					if strings.HasPrefix(string(e.Path), "/root") || strings.Contains(string(e.Path), "bob") || string(e.Path) == "/etc/shadow" {
						t.Errorf("it has %q", e.Path)
					}
				}
			}
			if has != (test.has != "") || test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("has %q: %v; said %q, want %q", test.has, has, said, test.want)
			}
		})
	}
}

// The same of an archive, whose files would be anybody's to read in the jail.
func TestPlantedArchive(t *testing.T) {
	b := newBench(t)
	b.private(t)
	b.tar(t, []string{"file 644 text"})
	// The planner finds it below the host, and reads it where it is.
	b.put(t, b.archive(), read(t, b.archive()), 0o600)
	os.Chmod(b.archive(), 0o600)
	link := filepath.Dir(b.archive()) + "/link.tar"
	b.link(t, link, b.archive())
	if err := os.Symlink(b.archive(), link); err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: link}
		_, err := b.plan()
		return err
	}
	if err := ask(); err != nil {
		t.Error(err)
	}
	if err := os.Lchown(b.host+link, mallory, mallory); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "could not read") {
		t.Error(err)
	}
}

// acl gives what is at a path of the host an access control list: of a tag, permission
// bits and an id each.
func (b *bench) acl(t *testing.T, name string, entries ...[3]uint32) {
	t.Helper()
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	do(t, unix.Setxattr(b.host+name, "system.posix_acl_access", list, 0))
}

// Who is kept from a file by a group or by an access control list cannot read it in the
// jail, where neither is left; the usual modes and lists change nothing.
func TestLessThanOthers(t *testing.T) {
	const none = 0xffffffff
	user, named, group, groups, mask, other := uint32(1), uint32(2), uint32(4), uint32(8), uint32(16), uint32(32)
	b := newBench(t)
	want := map[string]uint32{}
	file := func(name string, mode os.FileMode, gid int, in uint32) string {
		name = "/srv/" + name
		b.put(t, name, "x", mode)
		do(t, os.Lchown(b.host+name, 0, gid))
		do(t, os.Chmod(b.host+name, mode))
		want[name] = in
		return name
	}
	file("usual", 0o644, 12345, 0o644)
	file("program", 0o755, 12345, 0o755)
	file("closed", 0o640, 12345, 0o640)
	file("owner", 0o600, 12345, 0o600)
	file("negative", 0o604, 12345, 0o600)
	file("negative-program", 0o745, 12345, 0o744)
	file("negative-root", 0o604, 0, 0o600)
	b.acl(t, file("more", 0o644, 12345, 0o664), [3]uint32{user, 6, none}, [3]uint32{named, 6, mallory}, [3]uint32{group, 4, none}, [3]uint32{mask, 6, none}, [3]uint32{other, 4, none})
	want["/srv/more"] = 0o644 // no group writes
	b.acl(t, file("denied", 0o644, 12345, 0o640), [3]uint32{user, 6, none}, [3]uint32{named, 0, mallory}, [3]uint32{group, 4, none}, [3]uint32{mask, 4, none}, [3]uint32{other, 4, none})
	b.acl(t, file("denied-group", 0o644, 12345, 0o640), [3]uint32{user, 6, none}, [3]uint32{group, 4, none}, [3]uint32{groups, 0, 12346}, [3]uint32{mask, 4, none}, [3]uint32{other, 4, none})
	b.acl(t, file("masked", 0o644, 12345, 0o600), [3]uint32{user, 6, none}, [3]uint32{named, 4, mallory}, [3]uint32{group, 4, none}, [3]uint32{mask, 0, none}, [3]uint32{other, 4, none})
	b.acl(t, file("owning-group", 0o644, 12345, 0o640), [3]uint32{user, 6, none}, [3]uint32{named, 4, mallory}, [3]uint32{group, 0, none}, [3]uint32{mask, 4, none}, [3]uint32{other, 4, none})
	// Directories, asked for and on the way.
	b.put(t, "/srv/dir/way/file", "x", 0o644)
	for name, mode := range map[string]os.FileMode{"/srv/dir": 0o705, "/srv/dir/way": 0o701} {
		do(t, os.Lchown(b.host+name, 0, 12345))
		do(t, os.Chmod(b.host+name, mode))
		want[name] = 0o700
	}
	for _, asked := range []string{"/srv", "/srv/dir/way/file"} {
		b.spec.Paths = []contents.Path{path1(asked)}
		plan, err := b.plan()
		do(t, err)
		for _, e := range plan.Entries {
			mode, ok := want[string(e.Path)]
			if ok && e.Mode != mode {
				t.Errorf("%s: %04o and not %04o", e.Path, e.Mode, mode)
			}
			outside, err := os.Stat(b.host + string(e.Path))
			do(t, err)
			less := uint32(outside.Mode())&5 != mode&5
			noted := slices.ContainsFunc(plan.Notes, func(n string) bool { return strings.Contains(n, fmt.Sprintf("%q", e.Path)) })
			if ok && noted != less {
				t.Errorf("%s: %q", e.Path, plan.Notes)
			}
		}
	}
	// What mallory cannot read, no link of hers leads to.
	for name, can := range map[string]bool{"usual": true, "more": true, "negative": false, "denied": false, "denied-group": false, "dir/way/file": false} {
		b.put(t, "/home/mallory/"+name+".d/x", "x", 0o644)
		b.link(t, "/home/mallory/"+name+".d/link", "/srv/"+name)
		b.give(t, "/home/mallory", mallory)
		b.spec.Paths = []contents.Path{path1("/home/mallory/" + name + ".d")}
		plan, err := b.plan()
		do(t, err)
		if has := slices.ContainsFunc(plan.Entries, func(e Entry) bool { return string(e.Path) == "/srv/"+name }); has != can {
			t.Errorf("%s: %v; %q", name, has, plan.Notes)
		}
	}
}

// What a link of mallory's leads to is followed on with her rights, not with those of
// whoever owns the next link or directory; what root asks for as well is there.
func TestPlantedChain(t *testing.T) {
	const hers = "/home/mallory/site/"
	for name, test := range map[string]struct {
		link  string // hers, x
		asked []string
		has   []string
		not   []string
	}{
		"bob's link":                          {"/home/bob/link", []string{hers}, nil, []string{"/home/bob/closed/diary"}},
		"bob's link, by name":                 {"/home/bob/link", []string{hers + "x"}, nil, []string{"/home/bob/closed/diary"}},
		"bob's directory":                     {"/home/bob/open", []string{hers + "x"}, []string{"/home/bob/open/file"}, []string{"/home/bob/open/private", "/home/bob/closed/diary"}},
		"in bob's directory":                  {"/home/bob/open", []string{hers + "x/in"}, []string{"/home/bob/open/in/file"}, []string{"/home/bob/open/in/private"}},
		"a directory of root's":               {"/srv/open", []string{hers + "x"}, []string{"/srv/open/file"}, []string{"/srv/open/private"}},
		"root asks afterwards":                {"/srv/open", []string{hers + "x", "/srv/open"}, []string{"/srv/open/file", "/srv/open/private"}, nil},
		"root asked before":                   {"/srv/open", []string{"/srv/open", hers + "x"}, []string{"/srv/open/file", "/srv/open/private"}, nil},
		"a script of root's":                  {"/srv/script", []string{hers + "x"}, nil, []string{"/srv/private/program"}},
		"root asks for a script":              {"/srv/script", []string{"/srv/script"}, []string{"/srv/private/program"}, nil},
		"and mallory did before":              {"/srv/script", []string{hers, "/srv/script"}, []string{"/srv/private/program"}, nil},
		"a directory of root's, by a pattern": {"/srv/open", []string{hers + "x/p*"}, nil, []string{"/srv/open/private"}},
	} {
		b := newBench(t)
		b.put(t, hers+"index", "index", 0o644)
		b.link(t, hers+"x", test.link)
		b.give(t, "/home/mallory", mallory)
		b.put(t, "/home/bob/closed/diary", "x", 0o644)
		do(t, os.Chmod(b.host+"/home/bob/closed", 0o700))
		b.link(t, "/home/bob/link", "closed/diary")
		for _, dir := range []string{"/home/bob/open", "/home/bob/open/in", "/srv/open"} {
			b.put(t, dir+"/file", "x", 0o644)
			b.put(t, dir+"/private", "x", 0o600)
		}
		b.link(t, "/home/bob/open/link", "../closed/diary")
		b.give(t, "/home/bob", 12345)
		b.put(t, "/srv/private/program", "x", 0o755)
		do(t, os.Chmod(b.host+"/srv/private", 0o700))
		b.put(t, "/srv/script", "#!/srv/private/program\n", 0o755)
		b.spec.Paths = nil
		for _, asked := range test.asked {
			b.spec.Paths = append(b.spec.Paths, path1(strings.TrimSuffix(asked, "/")))
		}
		plan, err := b.plan()
		if err != nil {
			if len(test.has) > 0 || !strings.Contains(err.Error(), "could not read") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		has := func(at string) bool {
			return slices.ContainsFunc(plan.Entries, func(e Entry) bool { return string(e.Path) == at && e.Kind == jailpb.Entry_REGULAR })
		}
		for _, at := range test.has {
			if !has(at) {
				t.Errorf("%s: it has not %q; %q", name, at, plan.Notes)
			}
		}
		for _, at := range test.not {
			if has(at) {
				t.Errorf("%s: it has %q", name, at)
			}
		}
	}
}

// A program of mallory's names what she could not read: root does not look into it.
func TestPlantedELF(t *testing.T) {
	b := newBare(t)
	for _, line := range []string{
		"elf 0755 /lib64/ld-linux-x86-64.so.2",
		"elf 0755 /home/mallory/prog libone.so",
		"elf 0600 /usr/lib/libone.so libtwo.so",
		"elf 0644 /usr/lib/libtwo.so",
	} {
		b.make(t, b.host, line)
	}
	plan := func() string {
		b.spec.Paths = []contents.Path{path1("/home/mallory")}
		plan, err := b.plan()
		do(t, err)
		said := strings.Join(plan.Notes, "\n")
		for _, e := range plan.Entries {
			said += "\n" + string(e.Path)
		}
		return said
	}
	if said := plan(); !strings.Contains(said, "\n/usr/lib/libtwo.so") {
		t.Errorf("root's own: %s", said)
	}
	b.give(t, "/home/mallory", mallory)
	if said := plan(); strings.Contains(said, "libtwo") || strings.Contains(said, "\n/usr/lib/libone") || !strings.Contains(said, `leads to "/usr/lib/libone.so"`) {
		t.Error(said)
	}
}
