package jailtree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jailctl/internal/contents"
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
