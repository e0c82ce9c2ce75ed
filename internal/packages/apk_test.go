package packages

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newApk(t *testing.T, at string) tree {
	t.Helper()
	b, err := os.ReadFile("testdata/apk-installed")
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{t, t.TempDir()}
	tr.write(at, string(b))
	return tr
}

func TestApk(t *testing.T) {
	tr := newApk(t, "/lib/apk/db/installed")
	d := tr.open()
	for name, want := range map[string][]string{
		"base-tree":   {"/etc", "/etc/motd file", "/etc/.hidden", "/var", "/var/empty", "/tmp"},
		"libtiny":     {"/lib", "/lib/ld-tiny.so.1", "/lib/libtiny.so.1"},
		"manybox-sh":  {"/bin", "/bin/sh", "/usr", "/usr/share", "/usr/share/ a name with spaces ", "/usr/share/a:b"},
		"virtual-set": nil,
	} {
		got, err := d.Files(name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(name, err, diff)
		}
	}
	if p, err := d.Installed("libtiny"); err != nil || p != (Package{"libtiny", "1.2.5-r9"}) {
		t.Error(p, err)
	}
	for name, want := range map[string]string{
		"base-tree": "base-tree libtiny manybox manybox-sh",
		"manybox":   "libtiny manybox",
		"scripts":   "libtiny loop manybox scripts",
		"tilde":     "tilde virtual-set",
		"loop":      "libtiny loop manybox scripts",
	} {
		all, err := d.Closure(name)
		var got []string
		for _, p := range all {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	tr.owned(map[string]string{
		"/etc/motd file":                  "base-tree",
		"/usr/share/ a name with spaces ": "manybox-sh",
		"/usr/share/a:b":                  "manybox-sh",
		"/bin/manybox":                    "manybox",
		"/bin/nothing":                    "",
	})
	tr.refused("cmd:ls", `package "cmd:ls" is not installed; "cmd:ls" is provided by manybox`)
	tr.refused("many", `package "many" is not installed; there is manybox, manybox-sh; install it with: apk add many`)
	tr.refused("tinybox", `package "tinybox" is not installed; there is manybox; install it with: apk add tinybox`)
}

// Where /lib is a link, and where the database has moved.
func TestApkPlaces(t *testing.T) {
	tr := newApk(t, "/usr/lib/apk/db/installed")
	tr.owned(map[string]string{"/lib/libtiny.so.1": "libtiny"})
	tr.link("usr/lib", "/lib")
	tr.owned(map[string]string{"/usr/lib/libtiny.so.1": "libtiny"})
	d := tr.open()
	if _, err := d.Files("libtiny"); err != nil {
		t.Fatal(err)
	}
	if s := d.h.Asked()["/usr/lib/apk/db/installed"]; s.Size == 0 {
		t.Errorf("%+v", d.h.Asked())
	}
}

func TestDamagedApk(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"P:a\nV:1\nnonsense\n", `3: not a letter, a colon and a value: "nonsense"`},
		{"P:a\nV:1\nP\n", `3: not a letter, a colon and a value: "P"`},
		{"\n\nP:a\n", `3: not a package: "a" of version ""`},
		{"V:1\n", `1: not a package: "" of version "1"`},
		{"P:a b\nV:1\n", `1: not a package: "a b" of version "1"`},
		{"P:a\nV:1\nR:f\n", `3: not a file in a directory: "f"`},
		{"P:a\nV:1\nF:d\nR:\n", `4: not a file in a directory: ""`},
		{"P:a\nV:1\nF:\nR:.\n", `4: not a file in a directory: "."`},
		{"P:a\nV:1\nF:\nR:/\n", `4: not a file in a directory: "/"`},
		{"P:a\nV:1\nF:d\nR:../e\n", `4: not a file in a directory: "../e"`},
		{"P:a\nV:1\nF:d\n\nP:b\nV:1\nR:f\n", `7: not a file in a directory: "f"`},
		{"P:a\nV:1\nF:d\x00\n", `3: no path can be "/d\x00"`},
	} {
		tr := tree{t, t.TempDir()}
		tr.write("/lib/apk/db/installed", row.text)
		tr.refused("a", "/lib/apk/db/installed:"+row.want)
		d := tr.open()
		if p, ok := d.Owner("/d/f"); ok || fmt.Sprint(d.Err()) != "/lib/apk/db/installed:"+row.want {
			t.Error(p, d.Err())
		}
	}
}
