// Package presets_test keeps the presets here small, and helpful where a host lacks what
// they are for.
package presets_test

import (
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/packages"
	"jailctl/internal/paths"
	"jailctl/policy/source"
)

func TestMain(m *testing.M) {
	here, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	paths.Sysconf, paths.Share = "/nonexistent", filepath.Dir(here)
	os.Exit(m.Run())
}

func load(t *testing.T, name string) *contents.Spec {
	t.Helper()
	spec, problems, err := contents.Load(paths.Share+"/presets/"+name+source.Suffix, os.ReadFile)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return spec
}

// TestSmall has presets that an administrator reads. That they have no mistakes is
// tested in internal/contents.
func TestSmall(t *testing.T) {
	names := contents.Presets()
	for _, name := range []string{"build", "dns", "git", "locale", "node", "python", "rsync", "sftp", "shell", "static", "terminal", "timezone", "tls"} {
		if !slices.Contains(names, name) {
			t.Errorf("there is no preset %s", name)
		}
	}
	for _, name := range names {
		text, err := os.ReadFile(name + source.Suffix)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		if len(lines) > 50 {
			t.Errorf("%s: nobody reads %d lines", name, len(lines))
		}
		for i, line := range lines {
			if len(line) > 120 {
				t.Errorf("%s:%d: nobody reads %d letters", name, i+1, len(line))
			}
		}
	}
}

// plan is one for a preset on a host with nothing but these files; what begins with "->"
// is a link.
func plan(t *testing.T, spec *contents.Spec, files map[string]string) (*jailtree.Plan, jailtree.Problems) {
	t.Helper()
	root := t.TempDir()
	for file, text := range files {
		err := os.MkdirAll(filepath.Dir(root+file), 0o755)
		if target, link := strings.CutPrefix(text, "->"); link && err == nil {
			err = os.Symlink(target, root+file)
		} else if err == nil {
			err = os.WriteFile(root+file, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := host.New(root)
	var all jailtree.Problems
	made, err := jailtree.Make(t.Context(), spec, jailtree.Host{Files: h, Packages: packages.Open(h), Names: source.System()})
	if err != nil && !errors.As(err, &all) {
		t.Fatal(err)
	}
	return made, all
}

// TestElsewhere has what presets are for in the places of other distributions and of
// another processor.
func TestElsewhere(t *testing.T) {
	for _, row := range []struct {
		on, preset string
		files      map[string]string
	}{
		{"Fedora", "sftp", map[string]string{"/usr/libexec/openssh/sftp-server": "x", "/usr/lib64/libgcc_s.so.1": "x", "/lib64": "->usr/lib64", "/usr/lib/locale/C.utf8/LC_CTYPE": "x"}},
		{"Alpine", "sftp", map[string]string{"/usr/lib/ssh/sftp-server": "x"}},
		{"arm64", "sftp", map[string]string{"/usr/lib/openssh/sftp-server": "x", "/lib": "->usr/lib", "/usr/lib/aarch64-linux-gnu/libnss_files.so.2": "x", "/usr/lib/aarch64-linux-gnu/libgcc_s.so.1": "x"}},
		{"Fedora", "python", map[string]string{"/usr/lib64/python3.13/os.py": "x", "/usr/lib64/python3.13/lib-dynload/_ssl.so": "x", "/usr/lib/python3.13/site-packages/x.py": "x"}},
		{"Alpine", "python", map[string]string{"/usr/lib/python3.12/os.py": "x"}},
		{"an image", "python", map[string]string{"/usr/local/lib/python3.14/os.py": "x"}},
		{"Fedora", "git", map[string]string{"/usr/libexec/git-core/git-add": "x", "/usr/share/git-core/templates/description": "x", "/usr/share/terminfo/x/xterm-256color": "x", "/usr/share/terminfo/s/screen": "x"}},
		{"Alpine", "git", map[string]string{"/usr/libexec/git-core/git-add": "x", "/etc/terminfo/x/xterm": "x", "/bin/tar": "x", "/bin/vi": "x"}},
		{"Fedora", "build", map[string]string{
			"/usr/lib/gcc/x86_64-redhat-linux/15/crtbegin.o": "x", "/usr/libexec/gcc/x86_64-redhat-linux/15/cc1": "x", "/usr/include/bits/types.h": "x", "/usr/include/gnu/stubs.h": "x",
			"/usr/lib64/crt1.o": "x", "/usr/lib64/libc.so": "x", "/usr/lib64/libc_nonshared.a": "x", "/usr/lib64/libm.so": "x", "/usr/lib64/libmvec.so.1": "x", "/usr/lib64/libpthread.a": "x",
			"/usr/lib64/bfd-plugins/liblto_plugin.so": "x",
		}},
		{"Alpine", "build", map[string]string{
			"/usr/lib/gcc/x86_64-alpine-linux-musl/14/crtbegin.o": "x", "/usr/libexec/gcc/x86_64-alpine-linux-musl/14/cc1": "x", "/usr/include/bits/alltypes.h": "x",
			"/usr/lib/crt1.o": "x", "/usr/lib/Scrt1.o": "x", "/usr/lib/libc.so": "x", "/usr/lib/libc.a": "x", "/usr/lib/libm.a": "x",
		}},
		{"arm64", "build", map[string]string{
			"/usr/lib/gcc/aarch64-linux-gnu/14/crtbegin.o": "x", "/usr/libexec/gcc/aarch64-linux-gnu/14/cc1": "x", "/usr/include/aarch64-linux-gnu/bits/types.h": "x",
			"/usr/lib/aarch64-linux-gnu/crti.o": "x", "/usr/lib/aarch64-linux-gnu/libc.so": "x", "/usr/lib/aarch64-linux-gnu/libm.so": "x",
		}},
		{"Fedora", "tls", map[string]string{
			"/etc/ssl/certs": "->../pki/tls/certs", "/etc/pki/tls/certs/ca-bundle.crt": "->/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": "x",
			"/etc/pki/tls/cert.pem": "->/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/tls/openssl.cnf": "x", "/etc/crypto-policies/back-ends/opensslcnf.config": "->/usr/share/crypto-policies/DEFAULT/opensslcnf.txt",
			"/usr/share/crypto-policies/DEFAULT/opensslcnf.txt": "x",
		}},
		{"Alpine", "tls", map[string]string{"/etc/ssl/certs/ca-certificates.crt": "x", "/etc/ssl/cert.pem": "->certs/ca-certificates.crt", "/etc/ssl/openssl.cnf": "x"}},
		{"Fedora", "dns", map[string]string{"/lib64": "->usr/lib64", "/usr/lib64/libnss_dns.so.2": "x", "/etc/resolv.conf": "->../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf": "x", "/etc/hosts": "x"}},
		{"Fedora", "locale", map[string]string{"/usr/lib/locale/locale-archive": "x", "/usr/lib64/gconv/gconv-modules": "x", "/usr/lib64/gconv/gconv-modules.d/a.conf": "x", "/usr/lib64/gconv/UTF-16.so": "x"}},
		{"Fedora", "timezone", map[string]string{"/etc/localtime": "->../usr/share/zoneinfo/Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin": "x"}},
	} {
		spec := load(t, row.preset)
		files := maps.Clone(row.files)
		for _, p := range spec.Programs {
			at := p.Path
			if !path.IsAbs(at) {
				at = "/usr/bin/" + at
			}
			files[at] = "x"
		}
		if row.preset == "build" {
			files["/usr/include/stdio.h"] = "x"
		}
		made, problems := plan(t, spec, files)
		if len(problems) > 0 {
			t.Errorf("%s on %s: %.1000v", row.preset, row.on, problems)
			continue
		}
		found := map[string]bool{}
		for _, e := range made.Entries {
			found[string(e.Path)] = true
		}
		for file := range files {
			if !found[file] {
				t.Errorf("%s on %s leaves out %s", row.preset, row.on, file)
			}
		}
	}
}

// TestNoKeys has no preset take private keys along that are beside what it takes.
func TestNoKeys(t *testing.T) {
	files := map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": "x", "/etc/ssl/private/host.key": "x", "/usr/lib/ssl/private": "->/etc/ssl/private", "/usr/lib/ssl/certs": "->/etc/ssl/certs",
		"/etc/pki/tls/private/host.key": "x", "/etc/pki/tls/certs/a": "x", "/etc/pki/ca-trust/extracted/pem/a": "x", "/etc/shadow": "x", "/etc/passwd": "x", "/etc/ssh/ssh_host_key": "x",
	}
	made, problems := plan(t, load(t, "tls"), files)
	if len(problems) > 0 || len(made.Entries) < 10 {
		t.Fatal(problems)
	}
	for _, e := range made.Entries {
		if p := string(e.Path); strings.Contains(p, "private") || strings.Contains(p, "shadow") || strings.HasPrefix(p, "/etc/ssh") {
			t.Errorf("%s is in the jail", p)
		}
	}
}

// dpkg is the database of a host with nothing else.
const dpkg = "Package: dpkg\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"

// TestMissing has hosts that lack everything: what a preset is for is told by its line,
// with what to do.
func TestMissing(t *testing.T) {
	for _, row := range []struct{ file, text, preset, what, fix string }{
		{"/var/lib/dpkg/status", dpkg, "node", `there is no program "node" in /usr/local/sbin, `, "install it with apt-get install nodejs, or write its whole path"},
		{"/var/lib/dpkg/status", dpkg, "git", `there is no program "git" in `, "install it with apt-get install git, or"},
		{"/var/lib/dpkg/status", dpkg, "rsync", `there is no program "rsync" in `, "install it with apt-get install rsync, or"},
		{"/var/lib/dpkg/status", dpkg, "python", `there is no program "python3" in `, "install it with apt-get install python3, or"},
		{"/var/lib/dpkg/status", dpkg, "build", `there is no program "gcc" in `, "install it with apt-get install gcc, or"},
		{"/var/lib/dpkg/status", dpkg, "build", `"/usr/include/stdio.h": no such file`, "install it with apt-get install libc6-dev, or leave it out"},
		{"/var/lib/dpkg/status", dpkg, "sftp", `nothing on the host matches "/usr/lib*/*ssh/sftp-server"`, "install it with apt-get install openssh-sftp-server, mend the pattern, or"},
		{"/var/lib/dpkg/status", dpkg, "tls", `nothing on the host matches "/etc/ssl/certs/ca-*.crt"`, "install it with apt-get install ca-certificates, mend"},
		{"/var/lib/dpkg/status", dpkg, "shell", `"/bin/sh": no such file`, "install it, or leave it out"},
		{"/lib/apk/db/installed", "P:musl\nV:1\nA:x86_64\n\n", "build", `"/usr/include/stdio.h": no such`, "install it with apk add musl-dev, or"},
		{"/lib/apk/db/installed", "P:musl\nV:1\nA:x86_64\n\n", "sftp", `nothing on the host matches`, "install it with apk add openssh-sftp-server, mend"},
		{"/usr/lib/sysimage/rpm/rpmdb.sqlite", "", "sftp", `nothing on the host matches`, "install it"},
		{"/etc/none", "", "node", `there is no program "node"`, "install it, or write its whole path"},
	} {
		_, found := plan(t, load(t, row.preset), map[string]string{row.file: row.text})
		if !slices.ContainsFunc(found, func(p jailtree.Problem) bool {
			return path.Base(p.At.File) == row.preset+source.Suffix && p.At.Line > 1 && p.At.Col > 1 &&
				strings.HasPrefix(p.What, row.what) && strings.HasPrefix(p.Fix, row.fix)
		}) {
			t.Errorf("%s with %s: no %q, %q in\n%.2000s", row.preset, row.file, row.what, row.fix, found)
		}
	}
}

// TestPackages holds what a build says of a missing program to this machine's own
// packages, where it has them: what is not told is part of every Debian.
func TestPackages(t *testing.T) {
	h := host.New("/")
	db := packages.Open(h)
	if db.Installer() != "apt-get install" {
		return
	}
	told := map[string]string{}
	for _, name := range contents.Presets() {
		_, problems := plan(t, load(t, name), map[string]string{"/var/lib/dpkg/status": dpkg})
		for _, p := range problems {
			_, fix, _ := strings.Cut(p.Fix, "install it with apt-get install ")
			told[p.At.String()], _, _ = strings.Cut(fix, ",")
		}
	}
	essential := []string{"bash", "coreutils", "dash", "diffutils", "findutils", "grep", "sed"}
	seen := 0
	for _, name := range contents.Presets() {
		spec := load(t, name)
		for _, p := range spec.Programs {
			at := p.Path
			if !path.IsAbs(at) {
				var ok bool
				if at, ok = jailtree.Find(h, at); !ok {
					continue
				}
			}
			at, err := h.Real(at)
			if err != nil {
				t.Fatal(err)
			}
			owner, ok := db.Owner(at)
			if !ok {
				t.Errorf("%s is of no package", at)
				continue
			}
			// gcc is of gcc-12, say.
			want := told[p.At.String()]
			if (want == "") != slices.Contains(essential, owner.Name) || !strings.HasPrefix(owner.Name, want) {
				t.Errorf("%s: %s is of %q; told is %q", p.At, at, owner.Name, want)
			}
			seen++
		}
	}
	if seen < 50 {
		t.Errorf("only %d programs were looked at", seen)
	}
}
