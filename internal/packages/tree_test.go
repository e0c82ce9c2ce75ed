package packages

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jailctl/internal/host"
)

// tree is a machine of dpkg's in a directory, amd64 with i386 beside it, in which dpkg
// is at work as on any other.
type tree struct {
	*testing.T
	root string
}

func newTree(t *testing.T) tree {
	tr := tree{t, t.TempDir()}
	tr.write(dpkgDir+"/status", "")
	for _, dir := range []string{"info", "updates", "triggers"} {
		tr.mkdir(dpkgDir + "/" + dir)
	}
	tr.dpkg("--add-architecture", "i386")
	tr.install(tr.deb("dpkg", "1", "amd64", "", "/usr/bin/dpkg"))
	return tr
}

func (t tree) mkdir(name string) {
	t.Helper()
	if err := os.MkdirAll(t.root+name, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (t tree) write(name, text string) {
	t.Helper()
	t.mkdir(filepath.Dir(name))
	if err := os.WriteFile(t.root+name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (t tree) link(target, name string) {
	t.Helper()
	t.mkdir(filepath.Dir(name))
	if err := os.Symlink(target, t.root+name); err != nil {
		t.Fatal(err)
	}
}

func (t tree) dpkg(args ...string) string {
	t.Helper()
	return run(t, "dpkg", append([]string{"--root=" + t.root, "--force-not-root", "--force-bad-path", "--force-unsafe-io", "--log=/dev/null"}, args...)...)
}

// deb builds a package; files below /etc are conffiles.
func (t tree) deb(name, version, arch, control string, files ...string) string {
	t.Helper()
	d := tree{t.T, t.TempDir()}
	d.write("/DEBIAN/control", fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: a <a@example.org>\nDescription: a\n%s", name, version, arch, control))
	var conf strings.Builder
	for _, f := range files {
		d.write(f, version)
		if strings.HasPrefix(f, "/etc/") {
			conf.WriteString(f + "\n")
		}
	}
	d.write("/DEBIAN/conffiles", conf.String())
	file := d.root + ".deb"
	run(t, "dpkg-deb", "--root-owner-group", "-Znone", "-b", d.root, file)
	return file
}

func (t tree) install(debs ...string) { t.Helper(); t.dpkg(append([]string{"-i"}, debs...)...) }

func (t tree) open() *DB { return Open(host.New(t.root)) }

// same compares every package with dpkg's own view of the tree.
func (t tree) same() {
	t.Helper()
	d := t.open()
	var names []string
	for _, p := range packagesOf(t, "--root="+t.root) {
		text := run(t, "dpkg-query", "--root="+t.root, "-L", p.Name)
		p.Name = strings.TrimSuffix(p.Name, ":amd64")
		names = append(names, p.Name)
		if got, err := d.Installed(p.Name); err != nil || got != p {
			t.Errorf("%v, %v in place of %v", got, err, p)
		}
		files, err := d.Files(p.Name)
		if diff := cmp.Diff(listed(text), files); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", p.Name, err, diff)
		}
	}
	edges := aptDepends(t.T, t.root, names)
	for _, name := range names {
		var got []string
		all, err := d.Closure(name)
		for _, p := range all {
			got = append(got, p.Name)
		}
		if diff := cmp.Diff(reachable(edges, names, name), got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	var all []string
	for _, e := range d.all {
		if e.state == "" {
			all = append(all, e.Name)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, all); diff != "" {
		t.Error(diff)
	}
}

// owned is which package each path belongs to.
func (t tree) owned(want map[string]string) {
	t.Helper()
	d, got := t.open(), map[string]string{}
	for name := range want {
		p, _ := d.Owner(name)
		got[name] = p.Name
	}
	if diff := cmp.Diff(want, got); diff != "" || d.Err() != nil {
		t.Error(d.Err(), diff)
	}
}

// refused is what the three say of a name.
func (t tree) refused(name, want string) {
	t.Helper()
	d := t.open()
	_, err := d.Installed(name)
	_, err2 := d.Files(name)
	_, err3 := d.Closure(name)
	for _, err := range []error{err, err2, err3} {
		if fmt.Sprint(err) != want {
			t.Errorf("%q: %v\nin place of %v", name, err, want)
		}
	}
}

// A foreign package is met by its own architecture and by what is Multi-Arch: foreign,
// and has a name of its own; the two of a library share files.
func TestArchitectures(t *testing.T) {
	tr := newTree(t)
	same := "Multi-Arch: same\n"
	tr.install(
		tr.deb("lib", "1", "amd64", same, "/usr/lib/x86_64/lib.so", "/usr/share/doc/lib/copyright", "/usr/share/doc/lib/link"),
		tr.deb("lib", "1", "i386", same, "/usr/lib/i386/lib.so", "/usr/share/doc/lib/copyright", "/usr/share/doc/lib/link"),
		tr.deb("data", "1", "all", "", "/usr/share/data/ a file with spaces "),
		tr.deb("tool", "1:2-3", "amd64", "Multi-Arch: foreign\nDepends: lib (>= 0), data\n", "/usr/bin/tool"),
		tr.deb("script", "1", "amd64", "Multi-Arch: allowed\nProvides: scripting (= 2), scripting (= 3)\n", "/usr/bin/script"),
		tr.deb("alien", "1", "i386", "Depends: lib, tool, script:any\nProvides: alienware\n", "/usr/bin/alien"),
		tr.deb("native", "1", "amd64", "Depends: lib, scripting | alienware | nowhere\n", "/usr/bin/native"),
		tr.deb("explicit", "1", "amd64", "Depends: lib:i386\n", "/usr/bin/explicit"),
		tr.deb("native2", "1", "amd64", "Depends: lib:amd64\n", "/usr/bin/native2"),
	)
	tr.same()
	if err := os.Remove(tr.root + "/usr/share/doc/lib/link"); err != nil {
		t.Fatal(err)
	}
	tr.link("copyright", "/usr/share/doc/lib/link")
	tr.owned(map[string]string{
		"/usr/share/doc/lib/link":              "lib",
		"/usr/lib/x86_64/lib.so":               "lib",
		"/usr/lib/i386/lib.so":                 "lib:i386",
		"/usr/share/doc/lib/copyright":         "lib",
		"/usr/share/data/ a file with spaces ": "data",
		"/usr/bin/alien":                       "alien:i386",
		"/usr/bin":                             "",
		"/usr/share/data":                      "",
	})
	d := tr.open()
	for written, name := range map[string]string{"lib:amd64": "lib", "lib:i386": "lib:i386", "data:all": "data", "alien:i386": "alien:i386", "lib": "lib"} {
		if p, err := d.Installed(written); err != nil || p.Name != name {
			t.Errorf("%s: %v, %v", written, p, err)
		}
	}
	all, err := d.Closure("native", "data")
	want := []Package{{"data", "1"}, {"lib", "1"}, {"native", "1"}, {"script", "1"}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Error(err, diff)
	}
	tr.refused("alien", `package "alien" is not installed; there is alien:i386; install it with: apt-get install alien`)
	tr.refused("data:amd64", `package "data:amd64" is not installed; install it with: apt-get install data:amd64`)
	tr.refused("scripting", `package "scripting" is not installed; "scripting" is provided by script`)
}

// Every installed package that could be meant, through cycles and pre-dependencies.
func TestDependencies(t *testing.T) {
	tr := newTree(t)
	tr.install(
		tr.deb("a", "1", "amd64", "Depends: b, virtual | c (>= 1),\n d\nPre-Depends: dpkg\n", "/usr/bin/a"),
		tr.deb("b", "1", "amd64", "Depends: a (= 1)\nRecommends: unneeded\nSuggests: unneeded\n", "/usr/bin/b"),
		tr.deb("c", "1", "amd64", "Provides: other\n", "/usr/bin/c"),
		tr.deb("d", "1", "amd64", "Provides: virtual (= 1), b (= 0)\n", "/usr/bin/d"),
		tr.deb("e", "1", "amd64", "Provides: virtual\nDepends: f\n", "/usr/bin/e"),
		tr.deb("f", "1", "amd64", "", "/usr/bin/f"),
		tr.deb("unneeded", "1", "amd64", "", "/usr/bin/unneeded"),
	)
	tr.same()
	all, err := tr.open().Closure("a", "a")
	want := []Package{{"a", "1"}, {"b", "1"}, {"c", "1"}, {"d", "1"}, {"dpkg", "1"}, {"e", "1"}, {"f", "1"}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Only what is installed counts, and a package on hold is.
func TestStates(t *testing.T) {
	tr := newTree(t)
	tr.install(
		tr.deb("held", "1", "amd64", "", "/usr/bin/held"),
		tr.deb("left", "1", "amd64", "", "/usr/bin/left", "/etc/left.conf"),
		tr.deb("gone", "1", "amd64", "", "/usr/bin/gone", "/etc/gone.conf"),
		tr.deb("conf", "1", "amd64", "", "/etc/conf.d/new", "/etc/conf.d/old"),
		tr.deb("user", "1", "amd64", "Depends: gone | left | half | held\n", "/usr/bin/user"),
	)
	tr.dpkg("--unpack", tr.deb("half", "1", "amd64", "", "/usr/bin/half"))
	set := exec.Command("dpkg", "--root="+tr.root, "--force-not-root", "--set-selections")
	set.Stdin = strings.NewReader("held hold\nuser deinstall\n")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// A conffile that a new version has no more stays the package's.
	tr.install(tr.deb("conf", "2", "amd64", "", "/etc/conf.d/new"))
	tr.dpkg("--force-depends", "--remove", "left")
	tr.dpkg("--force-depends", "--purge", "gone")
	tr.same()
	tr.owned(map[string]string{
		"/usr/bin/held":   "held",
		"/usr/bin/user":   "user",
		"/etc/left.conf":  "",
		"/usr/bin/left":   "",
		"/usr/bin/gone":   "",
		"/usr/bin/half":   "",
		"/etc/conf.d/old": "conf",
		"/etc/conf.d/new": "conf",
	})
	all, err := tr.open().Closure("user")
	if diff := cmp.Diff([]Package{{"held", "1"}, {"user", "1"}}, all); err != nil || diff != "" {
		t.Error(err, diff)
	}
	tr.refused("left", `package "left" is not installed; install it with: apt-get install left`)
	tr.refused("gone", `package "gone" is not installed; install it with: apt-get install gone`)
	tr.refused("half", `package "half" is not yet installed (unpacked); finish that with: dpkg --configure -a`)
	tr.refused("hal", `package "hal" is not installed; install it with: apt-get install hal`)
	for status, want := range map[string]string{
		"install ok half-configured":     `package "half" is not yet installed (half-configured); finish that with: dpkg --configure -a`,
		"install ok triggers-awaited":    `package "half" is not yet installed (triggers-awaited); finish that with: dpkg --configure -a`,
		"install ok half-installed":      `package "half" is broken (ok half-installed); mend it with: apt-get install --reinstall half`,
		"install reinstreq installed":    `package "half" is broken (reinstreq installed); mend it with: apt-get install --reinstall half`,
		"unknown ok not-installed":       `package "half" is not installed; install it with: apt-get install half`,
		"deinstall ok config-files":      `package "half" is not installed; install it with: apt-get install half`,
		"install ok something-unheardof": `package "half" is not yet installed (something-unheardof); finish that with: dpkg --configure -a`,
	} {
		b, err := os.ReadFile(tr.root + dpkgDir + "/status")
		if err != nil || strings.Count(string(b), "install ok unpacked") != 1 {
			t.Fatalf("%v\n%s", err, b)
		}
		tr2 := tree{t, t.TempDir()}
		tr2.write(dpkgDir+"/status", strings.Replace(string(b), "install ok unpacked", status, 1))
		tr2.write(dpkgDir+"/info/half.list", "/usr/bin/half\n")
		tr2.refused("half", want)
		tr2.owned(map[string]string{"/usr/bin/half": ""})
	}
}

// What a dpkg that was interrupted has not put into status counts.
func TestUpdates(t *testing.T) {
	tr := newTree(t)
	tr.install(tr.deb("a", "1", "amd64", "", "/usr/bin/a"), tr.deb("b", "1", "amd64", "", "/usr/bin/b"))
	const rest = "Architecture: amd64\nMaintainer: a <a@example.org>\nDescription: a\n"
	tr.write(dpkgDir+"/updates/0000", "Package: a\nStatus: install ok installed\nVersion: 2\n"+rest)
	tr.write(dpkgDir+"/updates/0001", "Package: a\nStatus: install ok installed\nVersion: 3\n"+rest)
	tr.write(dpkgDir+"/updates/0002", "Package: b\nStatus: deinstall ok config-files\nVersion: 1\n"+rest)
	tr.write(dpkgDir+"/updates/tmp.i", "Package: a\nStatus: install ok installed\nVersion: 4\n"+rest)
	tr.same()
	if p, err := tr.open().Installed("a"); err != nil || p.Version != "3" {
		t.Error(p, err)
	}
	tr.refused("b", `package "b" is not installed; install it with: apt-get install b`)
}

// A diverted file has another name, for all packages but the one that has it diverted.
func TestDiversions(t *testing.T) {
	tr := newTree(t)
	divert := func(args ...string) {
		run(t, "dpkg-divert", append([]string{"--root", tr.root, "--rename"}, args...)...)
	}
	divert("--package", "new", "--divert", "/usr/bin/sh.old", "--add", "/usr/bin/sh")
	divert("--local", "--divert", "/usr/bin/ls.local", "--add", "/usr/bin/ls")
	tr.install(
		tr.deb("old", "1", "amd64", "", "/usr/bin/sh", "/usr/bin/ls", "/usr/bin/old"),
		tr.deb("new", "1", "amd64", "", "/usr/bin/sh"),
	)
	tr.same()
	tr.owned(map[string]string{
		"/usr/bin/sh":       "new",
		"/usr/bin/sh.old":   "old",
		"/usr/bin/ls":       "",
		"/usr/bin/ls.local": "old",
		"/usr/bin/old":      "old",
	})
	files, err := tr.open().Files("old")
	want := []string{"/usr", "/usr/bin", "/usr/bin/ls.local", "/usr/bin/old", "/usr/bin/sh.old"}
	slices.Sort(files)
	if diff := cmp.Diff(want, files); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, name := range want[2:] {
		if _, err := os.Lstat(tr.root + name); err != nil {
			t.Error(err)
		}
	}
}

// The database may know a file by a name that leads through links; a link that was
// planted takes no file away from its owner.
func TestLinks(t *testing.T) {
	tr := newTree(t)
	tr.mkdir("/usr/lib")
	tr.mkdir("/srv/opt")
	tr.link("usr/lib", "/lib")
	tr.link("srv/opt", "/opt") // not absolute: dpkg would follow it out of the tree
	tr.install(
		tr.deb("old", "1", "amd64", "", "/lib/old.so", "/lib/sub/deep/old.so", "/usr/share/old"),
		tr.deb("other", "1", "amd64", "", "/lib/other.so"),
		tr.deb("z-passwd", "1", "amd64", "", "/etc/passwd"),
		tr.deb("big", "1", "amd64", "", "/opt/big/bin/big"),
		tr.deb("attacked", "1", "amd64", "", "/var/lib/attacked/d/passwd", "/var/lib/attacked/d/shadow"),
	)
	if err := os.RemoveAll(tr.root + "/var/lib/attacked/d"); err != nil {
		t.Fatal(err)
	}
	tr.link("/etc", "/var/lib/attacked/d")
	if err := os.Remove(tr.root + "/opt"); err != nil {
		t.Fatal(err)
	}
	tr.link("/srv/opt", "/opt")
	tr.same()
	tr.owned(map[string]string{
		"/usr/lib/old.so":          "old",
		"/usr/lib/sub/deep/old.so": "old",
		"/usr/lib/sub":             "",
		"/lib":                     "", // two packages had a directory here
		"/srv/opt/big/bin/big":     "big",
		"/etc/passwd":              "z-passwd",
		"/usr/share/old":           "old",
		"/usr/lib/none.so":         "",
	})
}

// Before dpkg knew of several architectures, no list had one in its name.
func TestOldLists(t *testing.T) {
	tr := newTree(t)
	tr.install(tr.deb("lib", "1", "amd64", "Multi-Arch: same\n", "/usr/lib/lib.so"))
	info := tr.root + dpkgDir + "/info/"
	if err := os.Rename(info+"lib:amd64.list", info+"lib.list"); err != nil {
		t.Fatal(err)
	}
	tr.write(dpkgDir+"/info/format", "0\n")
	tr.same()
	tr.owned(map[string]string{"/usr/lib/lib.so": "lib"})
}

func TestLostList(t *testing.T) {
	tr := newTree(t)
	tr.install(tr.deb("lost", "1", "amd64", "", "/usr/bin/lost"), tr.deb("kept", "1", "amd64", "", "/usr/bin/kept"))
	if err := os.Remove(tr.root + dpkgDir + "/info/lost.list"); err != nil {
		t.Fatal(err)
	}
	const want = `package "lost": the list of its files is lost: lstat /var/lib/dpkg/info/lost.list: no such file or directory; mend it with: apt-get install --reinstall lost`
	if _, err := tr.open().Files("lost"); fmt.Sprint(err) != want {
		t.Error(err)
	}
	tr.owned(map[string]string{"/usr/bin/lost": "", "/usr/bin/kept": "kept"})
}

// Of what was noted for a package something has another stamp as soon as the package
// has, and nothing has because of others.
func TestStamps(t *testing.T) {
	tr := newTree(t)
	first := tr.deb("a", "1", "amd64", "Multi-Arch: same\n", "/usr/bin/a", "/etc/a.conf")
	tr.install(first, tr.deb("b", "1", "amd64", "Depends: c | d\n", "/usr/bin/b"), tr.deb("d", "1", "amd64", "", "/usr/bin/d"))
	note := func(ask func(*DB) error) func() bool {
		t.Helper()
		h := host.New(tr.root)
		if err := ask(Open(h)); err != nil {
			t.Fatal(err)
		}
		asked := maps.Clone(h.Asked())
		return func() bool {
			for name, s := range asked {
				if !s.Mark().Same(h.At(name)) {
					return false
				}
			}
			return true
		}
	}
	installed := func(d *DB) error { _, err := d.Installed("a"); return err }
	files := func(d *DB) error { _, err := d.Files("a"); return err }
	closure := func(d *DB) error { _, err := d.Closure("b"); return err }
	owner := func(d *DB) error {
		if _, ok := d.Owner("/usr/bin/a"); !ok {
			return errors.New("nobody's")
		}
		return nil
	}
	for _, step := range []struct {
		name string
		do   func()
		want [4]bool // installed, files, closure, owner: the same
	}{
		{"nothing", func() {}, [4]bool{true, true, true, true}},
		{"another package", func() { tr.install(tr.deb("c", "1", "amd64", "", "/usr/bin/c")) }, [4]bool{true, true, false, true}},
		{"interrupted", func() {
			tr.write(dpkgDir+"/updates/0000", "Package: d\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: a\n")
		}, [4]bool{true, true, false, true}},
		{"the same again", func() { tr.install(first) }, [4]bool{false, false, false, true}},
		{"upgraded", func() { tr.install(tr.deb("a", "2", "amd64", "Multi-Arch: same\n", "/usr/bin/a", "/etc/a.conf")) }, [4]bool{false, false, false, true}},
		{"diverted", func() {
			run(t, "dpkg-divert", "--root", tr.root, "--rename", "--divert", "/usr/bin/a.old", "--add", "/usr/bin/a")
			run(t, "dpkg-divert", "--root", tr.root, "--rename", "--remove", "/usr/bin/a")
		}, [4]bool{false, false, true, true}},
		{"removed", func() { tr.dpkg("--remove", "a") }, [4]bool{false, false, false, true}},
	} {
		var same [4]func() bool
		for i, ask := range []func(*DB) error{installed, files, closure, owner} {
			same[i] = note(ask)
		}
		step.do()
		for i, f := range same {
			if got := f(); got != step.want[i] {
				t.Errorf("%s: answer %d: the same: %v", step.name, i, got)
			}
		}
	}
}

func TestNoDatabase(t *testing.T) {
	tr := tree{t, t.TempDir()}
	tr.refused("bash", `package "bash": this machine has no database of dpkg, apk or rpm; ask for its files by paths`)
	tr.owned(map[string]string{"/usr/bin/bash": ""})
}

// A Debian machine may have the databases of others beside its own.
func TestSeveralDatabases(t *testing.T) {
	tr := newApk(t, "/usr/lib/apk/db/installed")
	tr.write("/var/lib/rpm/rpmdb.sqlite", "")
	if _, err := tr.open().Installed("libtiny"); err != nil {
		t.Error(err)
	}
	tr.write("/lib/apk/db/installed", "P:first\nV:1\n")
	if _, err := tr.open().Installed("first"); err != nil {
		t.Error(err)
	}
	tr.write(dpkgDir+"/status", "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n")
	if _, err := tr.open().Installed("a"); err != nil {
		t.Error(err)
	}
}

func TestNearNames(t *testing.T) {
	tr := newTree(t)
	var debs []string
	for _, name := range []string{"libssl3", "libssl-dev", "python3", "python3.11", "vim", "zsh", "many-a", "many-b", "many-c", "many-d", "many-e"} {
		debs = append(debs, tr.deb(name, "1", "amd64", "", "/usr/share/"+name))
	}
	tr.install(debs...)
	for written, want := range map[string]string{
		"libss3":      "; there is libssl3; install it with: apt-get install libss3",
		"libssl":      "; there is libssl-dev, libssl3; install it with: apt-get install libssl",
		"pyhton3":     "; there is python3; install it with: apt-get install pyhton3",
		"many":        "; there is many-a, many-b, many-c, many-d; install it with: apt-get install many",
		"vin":         "; there is vim; install it with: apt-get install vin",
		"vi":          "; install it with: apt-get install vi",
		"nothing":     "; install it with: apt-get install nothing",
		"-o":          "",
		"a b":         "",
		"a;b":         "",
		"":            "",
		"\n\x1b[31m":  "",
		"/etc/passwd": "",
	} {
		tr.refused(written, fmt.Sprintf("package %q is not installed%s", written, want))
	}
}
