// Package presets_test keeps the presets here small, and helpful where a host lacks what
// they are for.
package presets_test

import (
	"errors"
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

// problems are those of a plan for a preset on a host with nothing but these files.
func problems(t *testing.T, name string, files map[string]string) jailtree.Problems {
	t.Helper()
	root := t.TempDir()
	for file, text := range files {
		if err := os.MkdirAll(filepath.Dir(root+file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := host.New(root)
	var all jailtree.Problems
	if _, err := jailtree.Make(load(t, name), jailtree.Host{Files: h, Packages: packages.Open(h), Names: source.System()}); err != nil && !errors.As(err, &all) {
		t.Fatal(err)
	}
	return all
}

// TestMissing has hosts that lack everything: what a preset is for is told by its line,
// with what to do.
func TestMissing(t *testing.T) {
	const dpkg = "Package: dpkg\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"
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
		found := problems(t, row.preset, map[string]string{row.file: row.text})
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
		for _, p := range problems(t, name, map[string]string{"/var/lib/dpkg/status": "Package: dpkg\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"}) {
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
