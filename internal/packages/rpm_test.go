package packages

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jailctl/internal/host"
)

// newRPM is a machine of rpm's: x86_64, with what spec builds. A line "@NAME ARCH
// VERSION" begins a package; lines that begin with "/" are its files, as a shell
// quotes them; others go into the spec.
func newRPM(t *testing.T, dir, spec string) tree {
	t.Helper()
	tr := tree{t, t.TempDir()}
	tr.mkdir(dir)
	tr.add(dir, "@rpm x86_64 4.18\n/usr/bin/rpm\n"+spec)
	return tr
}

func (t tree) add(dir, spec string) {
	t.Helper()
	top := t.TempDir()
	args := []string{"--dbpath", t.root + dir, "-i", "--justdb", "--nodeps", "--ignorearch", "--force-debian", "--force"}
	for i, p := range strings.Split(spec, "@")[1:] {
		head, rest, _ := strings.Cut(p, "\n")
		word := strings.Fields(head)
		var extra, files, make strings.Builder
		for line := range strings.Lines(rest) {
			if line[0] != '/' {
				extra.WriteString(line)
				continue
			}
			line = strings.TrimSpace(line)
			fmt.Fprintf(&make, "mkdir -p \"$RPM_BUILD_ROOT\"/%q; printf x >\"$RPM_BUILD_ROOT\"%s\n", filepath.Dir(line), line)
			fmt.Fprintf(&files, "\"%s\"\n", filepath.Dir(line)) // rpm takes a directory with all that is in it
		}
		text := fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nSummary: a\nLicense: a\nAutoReqProv: no\n%s\n%%description\na\n%%install\n%s\n%%files\n%s",
			word[0], word[2], extra.String(), make.String(), files.String())
		name := fmt.Sprintf("%s/%d.spec", top, i)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%s/%d", top, i)
		run(t, "rpmbuild", "-bb", "--quiet", "--target", word[1]+"-linux", "--define", "_topdir "+out, "--define", "_tmppath "+out,
			"--define", "_invalid_encoding_terminates_build 0", "--define", "__os_install_post %{nil}", "--buildroot", out+"/root", name)
		built, _ := filepath.Glob(out + "/RPMS/*/*.rpm")
		args = append(args, built...)
	}
	run(t, "rpm", args...)
}

func (t tree) rpm(dir string, args ...string) string {
	t.Helper()
	return run(t, "rpm", append([]string{"--dbpath", t.root + dir}, args...)...)
}

// rpmbuild takes no newline in a name; TestRPMOutput has one.
const odd = "@odd noarch 1\n/usr/share/odd/\"$(printf 'b c;$(x)`y`\\\\ %%%%{NAME} it'\\''s \\377')\"\n"

func TestRPM(t *testing.T) {
	for _, dir := range rpmDirs {
		tr := newRPM(t, dir, odd+`@plain x86_64 2.0
Epoch: 3
/usr/lib64/plain/file
/etc/plain/plain.conf
@empty noarch 1
`)
		d := tr.open()
		for _, name := range []string{"odd", "plain", "rpm"} {
			files, err := d.Files(name)
			if want := tr.rpm(dir, "-ql", name); err != nil || strings.Join(files, "\n")+"\n" != want {
				t.Errorf("%q, %v in place of %q", files, err, want)
			}
		}
		if files, err := d.Files("odd"); err != nil || !slices.Contains(files, "/usr/share/odd/b c;$(x)`y`\\ %{NAME} it's \xff") {
			t.Errorf("%q %v", files, err)
		}
		if files, err := d.Files("empty"); err != nil || files != nil {
			t.Error(files, err)
		}
		for name, version := range map[string]string{"plain": "3:2.0-1", "odd": "1-1", "plain.x86_64": "3:2.0-1", "odd.noarch": "1-1"} {
			p, err := d.Installed(name)
			if base, _, _ := strings.Cut(name, "."); err != nil || p != (Package{base, version}) {
				t.Error(name, p, err)
			}
		}
		for name := range strings.Lines(tr.rpm(dir, "-qal")) {
			name = strings.TrimSuffix(name, "\n")
			if !strings.HasPrefix(name, "/") || strings.Contains(name, "/odd/") {
				continue
			}
			p, ok := d.Owner(name)
			if want := tr.rpm(dir, "-qf", "--qf", "%{NAME} %{EVR}", name); !ok || p.Name+" "+p.Version != want {
				t.Errorf("%q is %v's and not %q's", name, p, want)
			}
		}
		tr.owned(map[string]string{"/usr/share/odd/b c;$(x)`y`\\ %{NAME} it's \xff": "odd", "/usr/share/odd/b": ""})
		tr.refused("plan", `package "plan" is not installed; there is plain; install it with: dnf install plan`)
		tr.refused("plai*", `package "plai*" is not installed; there is plain`)
		tr.refused("--eval", `package "--eval" is not installed`)
	}
}

func TestRPMOutput(t *testing.T) {
	all, err := parseRPM(`N'a'V'1'F'/new` + "\n" + `line'F'/'\'''\'''F'/'` + "\n" + `N'b'V'2'A'noarch'R'c'P'd'` + "\n")
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if diff := cmp.Diff([]string{"/new\nline", "/''"}, all[0].list); diff != "" || all[0].arch != "noarch" {
		t.Error(diff, all[0])
	}
	if b := all[1]; fmt.Sprint(b.name, b.Version, b.arch, b.needs, b.offers) != "b2noarch[c] [d]" {
		t.Error(b)
	}
}

// Names of other architectures, and of several versions.
func TestRPMNames(t *testing.T) {
	const dir = "/var/lib/rpm"
	tr := newRPM(t, dir, `@lib x86_64 1
/usr/lib64/lib.so
@lib i686 1
/usr/lib/lib.so
@kernel x86_64 6.1
/boot/kernel-6.1
@kernel x86_64 6.2
/boot/kernel-6.2
@two noarch 1
/usr/share/both
/lib/both
@one noarch 1
/usr/share/both
/lib/both
`)
	tr.mkdir("/usr/lib")
	tr.link("usr/lib", "/lib")
	tr.owned(map[string]string{
		"/usr/lib64/lib.so": "lib", "/usr/lib/lib.so": "lib.i686",
		"/boot/kernel-6.1": "kernel-6.1-1", "/boot/kernel-6.2": "kernel-6.2-1",
		"/usr/share/both": "one", "/usr/lib/both": "one",
	})
	d := tr.open()
	files, err := d.Files("kernel-6.1-1")
	if fmt.Sprint(files, err) != "[/boot /boot/kernel-6.1] <nil>" && fmt.Sprint(files, err) != "[/boot/kernel-6.1] <nil>" {
		t.Error(files, err)
	}
	if p, err := d.Installed("lib.i686"); err != nil || p != (Package{"lib.i686", "1-1"}) {
		t.Error(p, err)
	}
	tr.refused("kernel", `package "kernel" is not installed; "kernel" is provided by kernel-6.1-1, kernel-6.2-1`)
}

// The same as what rpm finds, asked for each need of each package in turn.
func TestRPMClosure(t *testing.T) {
	const dir = "/usr/lib/sysimage/rpm"
	tr := newRPM(t, dir, `@a noarch 1
Requires: b >= 1, virtual, /usr/bin/c, /bin/linked, absent
Requires(post): f
Conflicts: unneeded
/usr/bin/a
@b noarch 1
Requires: a
/usr/bin/b
@c noarch 1
/usr/bin/c
@d noarch 1
Provides: virtual = 7
/usr/bin/d
@e noarch 1
Provides: virtual, lib.so.1(V_1)(64bit)
/usr/bin/e
@f noarch 1
Requires: lib.so.1(V_1)(64bit)
Recommends: unneeded
/usr/bin/f
@linked noarch 1
/usr/bin/linked
@unneeded noarch 1
/usr/bin/unneeded
`)
	tr.mkdir("/usr/bin")
	tr.link("usr/bin", "/bin")
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "linked", "unneeded"} {
		seen := map[string]bool{name: true}
		for next := []string{name}; len(next) > 0; next = next[1:] {
			for need := range strings.Lines(tr.rpm(dir, "-q", "--qf", "[%{REQUIRENAME}\n]", next[0])) {
				need = strings.TrimSpace(need)
				if need == "/bin/linked" {
					need = "/usr/bin/linked" // rpm looks at this machine's links
				}
				if need == "absent" || strings.HasPrefix(need, "rpmlib(") {
					continue
				}
				for _, by := range strings.Fields(tr.rpm(dir, "-q", "--qf", "%{NAME} ", "--whatprovides", need)) {
					if !seen[by] {
						seen[by] = true
						next = append(next, by)
					}
				}
			}
		}
		all, err := tr.open().Closure(name)
		got := map[string]bool{}
		for _, p := range all {
			got[p.Name] = true
		}
		if diff := cmp.Diff(seen, got); err != nil || diff != "" {
			t.Error(name, err, diff)
		}
	}
}

func TestRPMConditions(t *testing.T) {
	for need, want := range map[string]string{
		"a":                              "a",
		"lib.so.6(GLIBC_2.34)(64bit)":    "lib.so.6(GLIBC_2.34)(64bit)",
		"(a or b)":                       "a b",
		"(a >= 1.0 and b < 2 and c)":     "a b c",
		"(a if b)":                       "a",
		"(a = 1-1 if b >= 2)":            "a",
		"(a unless b)":                   "a",
		"(a without b)":                  "a",
		"(a with b < 3)":                 "a b",
		"(a if b else c)":                "a c",
		"(a >= 1 if (b or c) else d)":    "a d",
		"((a and b) if (c if d) else e)": "a b e",
		"((a unless b) or (c if d))":     "a c",
		"((a without (b or c)) and d)":   "a d",
		"(lib(x)(64bit) if perl(A::B))":  "lib(x)(64bit)",
		"(a if ((b and c) or d))":        "a",
		"(a if ((b if c) or d))":         "a",
		"(a if (b if c else d) else e)":  "a e",
		"with":                           "with",
		"(":                              "",
		"())(":                           "",
	} {
		if got := strings.Join(rpmNames(need), " "); got != want {
			t.Errorf("%q: %q in place of %q", need, got, want)
		}
	}
	tr := newRPM(t, "/var/lib/rpm", "@a noarch 1\nRequires: (b if c)\nRequires: (d or e)\n@b noarch 1\n@c noarch 1\n@d noarch 1\n@e noarch 1\n")
	all, err := tr.open().Closure("a")
	if fmt.Sprint(all, err) != "[{a 1-1} {b 1-1} {d 1-1} {e 1-1}] <nil>" {
		t.Error(all, err)
	}
}

// The database's file is the input; asking does not change it, and a transaction does.
func TestRPMStamps(t *testing.T) {
	const dir = "/var/lib/rpm"
	tr := newRPM(t, dir, "@a noarch 1\n")
	h := host.New(tr.root)
	d := Open(h)
	if d.Owner("/usr/bin/rpm"); len(h.Asked()) != 0 {
		t.Error(h.Asked())
	}
	if _, err := d.Installed("a"); err != nil {
		t.Fatal(err)
	}
	stamp, ok := h.Asked()[dir+"/rpmdb.sqlite"]
	if !ok || !stamp.Mark().Same(h.At(dir+"/rpmdb.sqlite")) {
		t.Error(h.Asked())
	}
	if _, err := tr.open().Closure("a"); err != nil || !stamp.Mark().Same(h.At(dir+"/rpmdb.sqlite")) {
		t.Error(err, h.Asked())
	}
	tr.add(dir, "@b noarch 1\n")
	if stamp.Mark().Same(h.At(dir + "/rpmdb.sqlite")) {
		t.Error("a package more, and the same stamp")
	}
}

func TestDamagedRPM(t *testing.T) {
	const dir = "/var/lib/rpm"
	const cannot = "cannot read the database in /var/lib/rpm: "
	tr := newRPM(t, dir, "@a noarch 1\n@b noarch 1\n")
	file := tr.root + dir + "/rpmdb.sqlite"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The first page is right: rpm says what it finds wrong, nothing more, and exits with 0.
	for i := 4096; i < len(b); i++ {
		b[i] = byte(i * i >> 3)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = tr.open().Installed("a")
	oneLine(t, err, cannot+`/usr/bin/rpm: "`)
	if err := os.WriteFile(file, []byte("not a database at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = tr.open().Installed("a")
	oneLine(t, err, cannot+`/usr/bin/rpm: "`)
	d := tr.open()
	if p, ok := d.Owner("/usr/bin/rpm"); ok {
		t.Error(p)
	}
	oneLine(t, d.Err(), cannot)

	for _, row := range []struct{ program, want string }{
		{"", cannot + "there is no /nowhere/rpm"},
		{"#!/bin/sh\nkill -9 $$\n", cannot + "PROGRAM: signal: killed"},
		{"#!/bin/sh\nexit 3\n", cannot + "PROGRAM: exit status 3"},
		{"#!/bin/sh\necho 'error: first' >&2; echo 'error: second' >&2\n", cannot + `PROGRAM: "first"`},
		{"#!/bin/sh\nprintf \"N'a'V'1'\"\n", `rpm: package "a" is cut off`},
		{"#!/bin/sh\nprintf \"N'a'V'1'\\nN'b\"\n", `rpm: after 1 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"N'a'V'1\"\n", `rpm: after 0 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"V'1'\\n\"\n", `rpm: after 0 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"N'a'N'b'\\n\"\n", `rpm: after 0 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"N'a'\\n\"\n", `rpm: package "a" has no version`},
		{"#!/bin/sh\nprintf \"N'a'X'b'\\n\"\n", `rpm: after 0 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"N'a/b'V'1'\\n\"\n", `rpm: after 0 packages it says what was not asked`},
		{"#!/bin/sh\nprintf \"N'a'V'1'F'b'\\n\"\n", `rpm: package "a": not an absolute path: "b"`},
	} {
		program := "/nowhere/rpm"
		if row.program != "" {
			tr.write("/bin/rpm", row.program)
			program = tr.root + "/bin/rpm"
			if err := os.Chmod(program, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := (&rpm{host.New(tr.root), dir, "rpmdb.sqlite", []string{program}, rpmTime}).read()
		if got := strings.ReplaceAll(fmt.Sprint(err), program, "PROGRAM"); got != strings.ReplaceAll(row.want, program, "PROGRAM") {
			t.Errorf("%q: %s", row.program, got)
		}
	}
}

// Nothing of the caller's reaches rpm, and rpm not answering does not stop us.
func TestAskingRPM(t *testing.T) {
	const dir = "/var/lib/rpm"
	t.Setenv("RPM_CONFIGDIR", "/evil")
	t.Setenv("HOME", "/evil")
	tr := tree{t, t.TempDir()}
	tr.mkdir(dir)
	program := tr.root + "/rpm"
	tr.write("/rpm", "#!/bin/bash\nprintf '%s\\n' \"$@\" >$0.args\npwd -P >$0.dir; cd /proc/self; tr '\\0' '\\n' <environ >$0.env\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := &rpm{host.New(tr.root), dir, "rpmdb.sqlite", []string{"/nowhere/rpm", program}, rpmTime}
	if all, _, err := ask.read(); err != nil || all != nil {
		t.Fatal(all, err)
	}
	for suffix, want := range map[string]string{
		".args": "--dbpath\n" + tr.root + dir + "\n--query\n--all\n--queryformat\n" + rpmFormat + "\n",
		".dir":  "/\n",
		".env":  "HOME=/dev/null\nLC_ALL=C\nPATH=/usr/bin:/bin\n",
	} {
		if got, err := os.ReadFile(program + suffix); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", suffix, got, err)
		}
	}
	ask.limit = 100 * time.Millisecond
	tr.write("/rpm", "#!/bin/sh\nsleep 30 & wait\n")
	begun := time.Now()
	if _, _, err := ask.read(); fmt.Sprint(err) != "cannot read the database in /var/lib/rpm: "+program+": no answer within 100ms" || time.Since(begun) > 10*time.Second {
		t.Error(err, time.Since(begun))
	}
}
