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
			if names := leaked(b.jails()); len(names) > 0 {
				t.Fatalf("read %q", names)
			}
		}
		s.Close()
	}
	if plans < 50 {
		t.Errorf("%d plans", plans)
	}
}
