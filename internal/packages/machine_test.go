package packages

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jailctl/internal/host"
)

// These tests hold the package to dpkg and apt, on the machine's own database.

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME=/dev/null")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %.200q: %v\n%s", name, args, err, errs.String())
	}
	return string(out)
}

// steady runs f again if a package was installed meanwhile.
func steady(t *testing.T, f func(t *testing.T) []string) {
	t.Helper()
	for {
		before := host.New("").Aside()
		was, err := before.Lstat("/var/lib/dpkg/status")
		if err != nil {
			t.Fatal(err)
		}
		faults := f(t)
		if now, _ := host.New("").Lstat("/var/lib/dpkg/status"); now != was {
			continue
		}
		for _, fault := range faults[:min(len(faults), 20)] {
			t.Error(fault)
		}
		return
	}
}

func packagesOf(t testing.TB, args ...string) (list []Package) {
	t.Helper()
	for line := range strings.Lines(run(t, "dpkg-query", append(args, "-W", "-f", `${db:Status-Status} ${binary:Package} ${Version}\n`)...)) {
		if f := strings.Fields(line); f[0] == "installed" {
			list = append(list, Package{f[1], f[2]})
		}
	}
	return list
}

func TestEveryPackageOfThisMachine(t *testing.T) {
	steady(t, func(t *testing.T) (faults []string) {
		d := Open(host.New(""))
		want := packagesOf(t)
		args := []string{"-L"}
		for _, p := range want {
			args = append(args, p.Name)
		}
		lists := strings.Split(strings.TrimSuffix(run(t, "dpkg", args...), "\n"), "\n\n")
		if len(want) < 80 || len(lists) != len(want) {
			t.Fatalf("%d packages, %d lists", len(want), len(lists))
		}
		native := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
		for i, p := range want {
			got, err := d.Installed(p.Name)
			if p.Name = strings.TrimSuffix(p.Name, ":"+native); err != nil || got != p {
				faults = append(faults, fmt.Sprintf("%v, %v in place of %v", got, err, p))
			}
			files, err := d.Files(got.Name)
			if diff := cmp.Diff(listed(lists[i]), files); err != nil || diff != "" {
				faults = append(faults, fmt.Sprintf("%s: %v\n%s", p.Name, err, diff))
			}
		}
		if len(d.all) != len(want) {
			faults = append(faults, fmt.Sprintf("%d packages, %d in dpkg's view", len(d.all), len(want)))
		}
		return faults
	})
}

// listed is what one package's part of `dpkg -L` means.
func listed(text string) (files []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		last := len(files) - 1
		switch to := line[max(strings.Index(line, " to: /"), 0):]; {
		case line == "/.":
		case line[0] == '/':
			files = append(files, line)
		case strings.HasPrefix(line, "package diverts others"):
		default: // diverted by PACKAGE, or locally diverted
			files[last] = strings.TrimPrefix(to, " to: ")
		}
	}
	return files
}

func TestEveryOwnerOnThisMachine(t *testing.T) {
	steady(t, func(t *testing.T) (faults []string) {
		h := host.New("")
		d := Open(h)
		native := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
		// A diversion stands before the line of the path from which it is, or on its own.
		away, by := map[string]string{}, map[string]string{}
		owners := map[string][]string{}
		from := ""
		for line := range strings.Lines(run(t, "dpkg", "-S", "*")) {
			who, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch {
			case strings.HasPrefix(who, "diversion by ") && strings.HasSuffix(who, " from"), who == "local diversion from":
				from = name
				by[from] = strings.TrimSuffix(strings.TrimPrefix(who, "diversion by "), " from")
			case strings.HasPrefix(who, "diversion by ") && strings.HasSuffix(who, " to"), who == "local diversion to":
				away[from] = name
			default:
				for _, p := range strings.Split(who, ", ") {
					owners[name] = append(owners[name], strings.TrimSuffix(p, ":"+native))
				}
			}
		}
		want := map[string][]string{}
		checked, links, diverted, became := 0, 0, 0, 0
		for name, who := range owners {
			for _, p := range who {
				to := name
				if a, ok := away[name]; ok && by[name] != p {
					to = a
					diverted++
				}
				dir, err := h.Real(path.Dir(to))
				if err != nil {
					continue
				}
				if dir != path.Dir(to) {
					links++
				}
				want[path.Join(dir, path.Base(to))] = append(want[path.Join(dir, path.Base(to))], p)
			}
		}
		for name, who := range want {
			got, ok := d.Owner(name)
			info, err := os.Lstat(name)
			switch {
			case err == nil && info.IsDir():
				if ok {
					faults = append(faults, fmt.Sprintf("the directory %q is %v's", name, got))
				}
				continue
			case err == nil && info.Mode()&os.ModeSymlink != 0 && len(who) > 1:
				if became++; ok { // a link from a directory
					faults = append(faults, fmt.Sprintf("the link %q is %v's", name, got))
				}
				continue
			}
			checked++
			if !ok || !slices.Contains(who, got.Name) || got.Name != slices.Min(who) {
				faults = append(faults, fmt.Sprintf("%q is %v's and not %q's", name, got, who))
			}
		}
		counts := fmt.Sprintf("%d files, %d below links, %d diverted, %d links from directories", checked, links, diverted, became)
		if t.Log(counts); d.Err() != nil || checked < 5000 || links < 50 {
			t.Errorf("%v; %s", d.Err(), counts)
		}
		for _, name := range []string{"/etc/passwd", "/nowhere", "/", "", "relative", "/usr/bin"} {
			if p, ok := d.Owner(name); ok {
				faults = append(faults, fmt.Sprintf("%q is %v's", name, p))
			}
		}
		return faults
	})
}

// For every package what it needs is what apt finds for it among what is installed.
func TestEveryClosureOnThisMachine(t *testing.T) {
	steady(t, func(t *testing.T) (faults []string) {
		d := Open(host.New(""))
		installed := packagesOf(t)
		native := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
		var names []string
		for _, p := range installed {
			names = append(names, strings.TrimSuffix(p.Name, ":"+native))
		}
		edges := aptDepends(t, "", names)
		most := 0
		for _, name := range names {
			want := reachable(edges, names, name)
			var got []string
			all, err := d.Closure(name)
			for _, p := range all {
				got = append(got, p.Name)
			}
			most = max(most, len(got))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				faults = append(faults, fmt.Sprintf("%s: %v\n%s", name, err, diff))
			}
		}
		if most < 20 || len(edges) < 80 {
			t.Errorf("the largest is %d of %d", most, len(edges))
		}
		return faults
	})
}

// aptDepends is what apt says that each package depends on and could be met by.
func aptDepends(t *testing.T, root string, names []string) map[string][]string {
	t.Helper()
	// No lists: apt knows of nothing but what is installed.
	empty := t.TempDir()
	args := []string{"-o", "Dir::State::lists=" + empty + "/", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="}
	if root != "" {
		args = append(args, "-o", "Dir="+root, "-o", "Dir::State::status="+root+dpkgDir+"/status", "-o", "APT::Architecture=amd64", "-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=i386")
	}
	args = append(args, "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances")
	edges := map[string][]string{}
	of := ""
	for line := range strings.Lines(run(t, "apt-cache", append(args, names...)...)) {
		word := strings.Fields(line)
		if line[0] != ' ' {
			of = word[0]
			edges[of] = nil
			continue
		}
		edges[of] = append(edges[of], word[len(word)-1])
	}
	return edges
}

func reachable(edges map[string][]string, installed []string, from string) []string {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		for _, to := range edges[next[0]] {
			if !seen[to] && slices.Contains(installed, to) {
				seen[to] = true
				next = append(next, to)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// BenchmarkOwner asks for the owners of 1,000 files, the databases unread.
func BenchmarkOwner(b *testing.B) {
	var names []string
	d := Open(host.New(""))
	all := packagesOf(b)
	for i := 0; len(names) < 1000; i++ {
		files, err := d.Files(all[i%len(all)].Name)
		if err != nil {
			b.Fatal(err)
		}
		if len(files) > 0 {
			names = append(names, files[i%len(files)])
		}
	}
	for b.Loop() {
		d := Open(host.New(""))
		for _, name := range names {
			d.Owner(name)
		}
	}
}

// What a build depends on is what was asked and no more.
func TestNoted(t *testing.T) {
	h := host.New("")
	d := Open(h)
	asked := func(want ...string) {
		t.Helper()
		for name, s := range h.Asked() {
			if s.Mode&0o170000 == 0o040000 && !s.Listed {
				continue // on the way
			}
			if !slices.Contains(want, name) {
				t.Errorf("%q is noted", name)
			}
		}
		for _, name := range want {
			if _, ok := h.Asked()[name]; !ok {
				t.Errorf("%q is not noted", name)
			}
		}
	}
	const info = "/var/lib/dpkg/info/"
	if p, ok := d.Owner("/usr/bin/dpkg"); !ok || p.Name != "dpkg" {
		t.Fatal(p, ok)
	}
	asked()
	if _, err := d.Installed("dpkg"); err != nil {
		t.Fatal(err)
	}
	asked(info+"dpkg.list", "/var/lib/dpkg/diversions")
	if _, err := d.Files("tar"); err != nil {
		t.Fatal(err)
	}
	asked(info+"dpkg.list", info+"tar.list", "/var/lib/dpkg/diversions")
	if _, err := d.Closure("tar"); err != nil {
		t.Fatal(err)
	}
	asked(info+"dpkg.list", info+"tar.list", "/var/lib/dpkg/diversions", "/var/lib/dpkg/status", "/var/lib/dpkg/updates")
}

func BenchmarkIndex(b *testing.B) {
	for b.Loop() {
		Open(host.New("")).Owner("/usr/bin/dpkg")
	}
}
