package packages

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestDamagedDpkg(t *testing.T) {
	const good = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
	for _, row := range []struct{ file, text, want string }{
		{"status", "nonsense\n", `:1: not a field and its value: "nonsense"`},
		{"status", good + "\n continued\n", `:6: this continues no field`},
		{"status", good + "version: 2\n", `:5: a second Version in one paragraph`},
		{"status", good + "\nStatus: install ok installed\n", `:6: not a package: "" of architecture ""`},
		{"status", "\n\nPackage: ../a\nStatus: install ok installed\n", `:3: not a package: "../a" of architecture ""`},
		{"status", "Package: a\nArchitecture: ../b\nStatus: install ok installed\n", `:1: not a package: "a" of architecture "../b"`},
		{"status", "Package: a\n", `:1: package "a" has no status: ""`},
		{"status", "Package: a\nStatus: installed\n", `:1: package "a" has no status: "installed"`},
		{"status", "Package: a\nStatus: install ok installed\n", `:1: package "a" has no version`},
		{"status", "Package: a\nStatus: install ok in\x1bstalled\n", `:1: package "a" has no status: "install ok in\x1bstalled"`},
		{"status", "Package: a\nStatus: install o\x1bk installed\n", `:1: package "a" has no status: "install o\x1bk installed"`},
		{"updates/0001", "x\n", `:1: not a field and its value: "x"`},
	} {
		tr := tree{t, t.TempDir()}
		tr.write(dpkgDir+"/status", good)
		tr.write(dpkgDir+"/info/a.list", "/bin/a\n")
		tr.write(dpkgDir+"/"+row.file, row.text)
		tr.refused("a", dpkgDir+"/"+row.file+row.want)
		unowned(tr, dpkgDir+"/"+row.file+row.want)
	}
	for _, row := range []struct{ file, text, want string }{
		{"info/a.list", "/.\nbin/a\n", `:2: not an absolute path: "bin/a"`},
		{"info/a.list", "/.\n\n/bin/a\n", `:2: not an absolute path: ""`},
		{"info/a.list", "/.\n/bin/a", `:2: the list is cut off`},
		{"info/a.list", "/bin/a\x00\n", `:1: no path can be "/bin/a\x00"`},
		{"info/a.list", "/bin/.a\x00\n", `:1: no path can be "/bin/.a\x00"`},
		{"diversions", "/bin/a\n/bin/b\n", `:2: the file is cut off`},
		{"diversions", "/bin/a\n/bin/b\n:", `:3: the file is cut off`},
		{"diversions", "/bin/a\nbin/b\n:\n", `:2: not an absolute path: "bin/b"`},
	} {
		tr := tree{t, t.TempDir()}
		tr.write(dpkgDir+"/status", good)
		tr.write(dpkgDir+"/info/a.list", "/bin/a\n")
		tr.write(dpkgDir+"/"+row.file, row.text)
		if _, err := tr.open().Files("a"); fmt.Sprint(err) != dpkgDir+"/"+row.file+row.want {
			t.Error(err)
		}
		unowned(tr, dpkgDir+"/"+row.file+row.want)
	}
}

func TestUnreadableUpdates(t *testing.T) {
	tr := tree{t, t.TempDir()}
	tr.write(dpkgDir+"/status", "")
	tr.link("updates", dpkgDir+"/updates")
	tr.refused("a", "lstat /var/lib/dpkg/updates: too many levels of symbolic links")
	unowned(tr, "lstat /var/lib/dpkg/updates: too many levels of symbolic links")
}

// unowned asks for a file in a damaged database.
func unowned(tr tree, want string) {
	tr.Helper()
	d := tr.open()
	if p, ok := d.Owner("/bin/a"); ok || fmt.Sprint(d.Err()) != want {
		tr.Error(p, d.Err())
	}
}

// What only a hand could have written, and can be understood.
func TestUntidyDpkg(t *testing.T) {
	tr := tree{t, t.TempDir()}
	tr.write(dpkgDir+"/status", "\n\npackage:  dpkg \nSTATUS: install ok installed\nVersion: 1\nArchitecture: amd64\nDepends: a, ,\n\tb\nDescription: d\n more\n .\n x\n\n\n"+
		"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"+
		"Package: c\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nProvides: d, ,\n\n"+
		"Package: b\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64")
	tr.write(dpkgDir+"/info/dpkg.list", "/.\n//usr/../bin/dpkg/\n/etc/./x\n/\n/etc/.hidden\n/etc/..dots\n/usr//x\n/usr/y/\n")
	tr.write(dpkgDir+"/info/a.list", "")
	d := tr.open()
	all, err := d.Closure("dpkg")
	if fmt.Sprint(all, err) != "[{a 1} {b 1} {dpkg 1}] <nil>" {
		t.Error(all, err)
	}
	files, err := d.Files("dpkg")
	if fmt.Sprintf("%q %v", files, err) != `["/bin/dpkg" "/etc/x" "/etc/.hidden" "/etc/..dots" "/usr/x" "/usr/y"] <nil>` {
		t.Errorf("%q %v", files, err)
	}
	if files, err = d.Files("a"); len(files) != 0 || err != nil {
		t.Error(files, err)
	}
}

// oneLine fails where an error is not of one line that begins with where.
func oneLine(t *testing.T, err error, where string) {
	t.Helper()
	if text := fmt.Sprint(err); strings.ContainsAny(text, "\n\x1b\x00") || !strings.HasPrefix(text, where) {
		t.Errorf("%q", text)
	}
}

func tidy(t *testing.T, files []string) {
	t.Helper()
	for _, f := range files {
		if !strings.HasPrefix(f, "/") || f == "/" || path.Clean(f) != f || strings.Contains(f, "\x00") {
			t.Errorf("%q", f)
		}
	}
}

func FuzzDpkg(f *testing.F) {
	f.Add("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nDepends: b | c:any,\n d (= 1)\n", "/.\n/bin/a\n", "/bin/a\n/bin/b\n:\n")
	f.Add("Package: a\nStatus: install ok unpacked\nMulti-Arch: foreign\n\n", "/bin/", "x")
	f.Fuzz(func(t *testing.T, status, list, diversions string) {
		found := map[[2]string]*entry{}
		if err := parseStatus("status", status, found); err != nil {
			oneLine(t, err, "status:")
		}
		entries := slices.Collect(maps.Values(found))
		relate(entries)
		d := &DB{opened: true, from: &dpkg{}, speech: dpkgSpeech, all: entries}
		d.name()
		for _, e := range entries {
			if _, err := d.get(e.Name); err != nil {
				oneLine(t, err, "package ")
			}
		}
		files, err := lines("list", list)
		if err != nil {
			oneLine(t, err, "list:")
		}
		tidy(t, files)
		away, err := parseDiversions("diversions", diversions)
		if err != nil {
			oneLine(t, err, "diversions:")
		}
		for from, to := range away {
			if path.Clean(from) != from || path.Clean(to.to) != to.to {
				t.Errorf("%q %q", from, to)
			}
		}
	})
}

func FuzzApk(f *testing.F) {
	b, err := os.ReadFile("testdata/apk-installed")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Add("P:a\nV:1\nF:\nR:b\nF:../..\nR:/c\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseApk("db", text)
		if err != nil {
			oneLine(t, err, "db:")
		}
		for _, e := range all {
			tidy(t, e.list)
		}
	})
}

func FuzzRPM(f *testing.F) {
	f.Add("N'a'V'1-1'A'x86_64'R'(b if c)'P'a'F'/it'\\''s\n'\n")
	f.Add("N'a'V'1'\nN'a'V'2'F'relative'\n")
	f.Add("N'a'V'1'R'((a and b(x)(y)) if (c or d) else e >= 1)'\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseRPM(text)
		if err != nil {
			oneLine(t, err, "rpm: ")
		}
		for _, e := range all {
			tidy(t, e.list)
		}
		rpmNames(text)
		if value, rest, ok := unquote(text); ok {
			if text != "'"+strings.ReplaceAll(value, "'", `'\''`)+"'"+rest {
				t.Errorf("%q: %q, %q", text, value, rest)
			}
		}
	})
}
