package elfdeps

import (
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"jailctl/internal/host"
)

const (
	ld64   = "/lib64/ld-linux-x86-64.so.2"
	ld32   = "/lib/ld-linux.so.2"
	ldMusl = "/lib/ld-musl-x86_64.so.1"
	ldARM  = "/lib/ld-linux-aarch64.so.1"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("left out: internal/elfdeps asks the loaders in trees of its own, with chroot(2), as root only")
		flag.Parse()
		if err := flag.Set("test.skip", "^TestTree(Cache|Levels)"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// tree is a root directory with the machine's loaders, and files that the tests link.
type tree struct {
	*testing.T
	root, scratch string
}

func newTree(t *testing.T) tree {
	t.Helper()
	tr := tree{t, t.TempDir(), t.TempDir()}
	for _, l := range []string{ld64, ld32, ldMusl} {
		tr.copy(l, l)
	}
	return tr
}

func (tr tree) copy(from, to string) {
	tr.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		tr.Fatal(err)
	}
	write(tr, tr.root+to, b)
}

func (tr tree) write(name, text string) {
	tr.Helper()
	write(tr, tr.root+name, []byte(text))
}

func (tr tree) link(target, name string) {
	tr.Helper()
	if err := os.MkdirAll(filepath.Dir(tr.root+name), 0o755); err != nil {
		tr.Fatal(err)
	}
	if err := os.Symlink(target, tr.root+name); err != nil {
		tr.Fatal(err)
	}
}

func (tr tree) command(name string, args ...string) string {
	tr.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		tr.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// linked is a file for ld(1) to make: a shared object, or a program if it has an interp.
type linked struct {
	path, interp string
	needs        []string
	args         []string // of ld(1)
	m32          bool
}

func (tr tree) ld(o linked) {
	tr.Helper()
	arch, emulation := "-m64", "elf_x86_64"
	if o.m32 {
		arch, emulation = "-m32", "elf_i386"
	}
	empty := tr.scratch + "/empty" + arch + ".o"
	if _, err := os.Stat(empty); err != nil {
		tr.command("gcc", arch, "-c", "-x", "c", "/dev/null", "-o", empty)
	}
	args := []string{"-m", emulation, "-o", tr.root + o.path, "--no-as-needed", "--allow-shlib-undefined", "-z", "noexecstack"}
	if o.interp == "" {
		args = append(args, "-shared")
	} else {
		args = append(args, "-pie", "-e", "0", "-dynamic-linker", o.interp)
	}
	args = append(append(args, o.args...), empty)
	for i, name := range o.needs {
		stub := fmt.Sprintf("%s/stub%d.so", tr.scratch, i)
		tr.command("ld", "-m", emulation, "-shared", "-soname", name, "-o", stub, empty)
		args = append(args, stub)
	}
	if err := os.MkdirAll(filepath.Dir(tr.root+o.path), 0o755); err != nil {
		tr.Fatal(err)
	}
	tr.command("ld", args...)
}

func rpath(s string) []string   { return []string{"--disable-new-dtags", "-rpath", s} }
func runpath(s string) []string { return []string{"--enable-new-dtags", "-rpath", s} }

// trace asks a loader what it would load for a file, by tracing in the tree. It is
// what ldd(1) does; nothing of the file is executed.
func trace(t *testing.T, root, loader, name string) (found, missing []string, out string) {
	t.Helper()
	args := []string{loader, name}
	switch {
	case strings.Contains(loader, "musl"):
		args = []string{loader, "--list", name}
	case strings.Contains(loader, "aarch64"):
		args = []string{"/qemu", "-E", "LD_TRACE_LOADED_OBJECTS=1", loader, name}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"LD_TRACE_LOADED_OBJECTS=1"}
	if root != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Dir = "/"
	}
	b, _ := cmd.CombinedOutput() // its status is 1 where something is missing
	found, missing = list(string(b), loader)
	return found, missing, string(b)
}

// list is what a loader's trace says, without the loader itself.
func list(out, loader string) (found, missing []string) {
	for line := range strings.Lines(out) {
		musl, isMusl := strings.CutPrefix(line, "Error loading shared library ")
		name, after, _ := strings.Cut(strings.TrimSpace(line), " => ")
		at, _, loaded := strings.Cut(after, " (0")
		alone, _, isAlone := strings.Cut(name, " (0")
		switch {
		case isMusl:
			name, _, _ := strings.Cut(musl, ": ")
			missing = append(missing, name)
		case after == "not found":
			missing = append(missing, name)
		case loaded && at == name:
			found = append(found, at)
		case loaded && at != loader:
			found = append(found, name+" => "+at)
		case isAlone && alone != loader && alone != "linux-vdso.so.1" && alone != "linux-gate.so.1":
			found = append(found, alone)
		}
	}
	return found, missing
}

// ours is what Resolve says, in the loader's words. A path that is another name of
// a library that was opened before is not in the loader's list.
func ours(h *host.Host, o *Object) (found, missing []string) {
	seen := map[host.Info]bool{}
	for _, l := range o.Libraries {
		real, err := h.Real(l.Path)
		if err != nil {
			continue
		}
		info, _ := h.Lstat(real)
		if seen[info] || strings.HasPrefix(filepath.Base(l.Path), "ld-") {
			continue
		}
		seen[info] = true
		if strings.Contains(l.Name, "/") {
			found = append(found, l.Path)
		} else {
			found = append(found, l.Name+" => "+l.Path)
		}
	}
	for _, m := range o.Missing {
		missing = append(missing, m.Name)
	}
	return found, missing
}

// check resolves a file of the tree, compares with what the test wants, and the
// loader in the tree with that too. What is not found comes last, a name alone.
func (tr tree) check(loader, name string, want ...string) *Object {
	tr.Helper()
	h := host.New(tr.root)
	o, err := New(h).Resolve(name)
	if err != nil {
		tr.Fatal(err)
	}
	found, missing := ours(h, o)
	if got := append(found, missing...); !slices.Equal(got, want) {
		tr.Errorf("%s: resolved\n%q, want\n%q", name, got, want)
	}
	if os.Getuid() == 0 {
		found, missing, out := trace(tr.T, tr.root, loader, name)
		if got := append(found, missing...); !slices.Equal(got, want) {
			tr.Errorf("%s: the loader has\n%q, want\n%q\n%s", name, got, want, out)
		}
	}
	return o
}

// prog and lib are the two kinds of files in most tests.
func (tr tree) prog(path string, needs []string, args ...string) {
	tr.Helper()
	tr.ld(linked{path: path, interp: ld64, needs: needs, args: args})
}

func (tr tree) lib(path string, needs []string, args ...string) {
	tr.Helper()
	tr.ld(linked{path: path, needs: needs, args: args})
}

func soname(s string) []string { return []string{"-soname", s} }

// The search in the directories that the objects themselves name.
func TestTreePaths(t *testing.T) {
	a, b := []string{"liba.so"}, []string{"libb.so"}
	for name, c := range map[string]struct {
		make func(tree)
		run  string
		want []string
	}{
		"DT_RPATH, and what is loaded for its object": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("/opt/x:/opt/y")...)
			tr.lib("/opt/y/liba.so", b)
			tr.lib("/opt/x/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/y/liba.so", "libb.so => /opt/x/libb.so"}},
		"the library's DT_RPATH before the program's": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", b, rpath("/opt/y")...)
			tr.lib("/opt/x/libb.so", nil)
			tr.lib("/opt/y/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so => /opt/y/libb.so"}},
		"DT_RUNPATH is for the object alone": {func(tr tree) {
			tr.prog("/bin/p", a, runpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", b)
			tr.lib("/opt/x/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so"}},
		"a library with DT_RUNPATH has no use for the program's DT_RPATH": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", b, runpath("/opt/y")...)
			tr.lib("/opt/x/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so"}},
		"nor of its own, nor have its libraries": {func(tr tree) {
			tr.write("/bin/p", string(image{interp: ld64, dynamic: []entry{
				{elf.DT_NEEDED, "liba.so", 0},
				{elf.DT_RPATH, "/opt/x", 0},
				{elf.DT_RUNPATH, "/opt/y", 0},
			}}.bytes()))
			tr.lib("/opt/x/liba.so", nil)
			tr.lib("/opt/y/liba.so", b)
			tr.lib("/opt/x/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/y/liba.so", "libb.so"}},
		"an empty DT_RUNPATH counts": {func(tr tree) {
			tr.write("/bin/p", string(image{interp: ld64, dynamic: []entry{
				{elf.DT_NEEDED, "liba.so", 0},
				{elf.DT_RPATH, "/opt/x", 0},
				{elf.DT_RUNPATH, "", 0},
			}}.bytes()))
			tr.lib("/opt/x/liba.so", nil)
		}, "/bin/p", []string{"liba.so"}},
		"DT_RPATH before DT_RUNPATH of a library's library": {func(tr tree) {
			tr.prog("/bin/p", []string{"liba.so", "libb.so"}, rpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", []string{"libc1.so"}, runpath("/opt/y")...)
			tr.lib("/opt/x/libb.so", []string{"libc2.so"})
			for _, d := range []string{"/opt/x", "/opt/y"} {
				tr.lib(d+"/libc1.so", nil)
				tr.lib(d+"/libc2.so", nil)
			}
		}, "/bin/p", []string{
			"liba.so => /opt/x/liba.so", "libb.so => /opt/x/libb.so",
			"libc1.so => /opt/y/libc1.so", "libc2.so => /opt/x/libc2.so",
		}},
		"what was not found may be, for another": {func(tr tree) {
			tr.prog("/bin/p", []string{"libb.so", "liba.so"}, runpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", b, runpath("/opt/y")...)
			tr.lib("/opt/y/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so => /opt/y/libb.so", "libb.so"}},
		"$ORIGIN of a program is where it really is": {func(tr tree) {
			tr.prog("/opt/app/bin/p", a, runpath("$ORIGIN/../lib")...)
			tr.link("/opt/app/bin/p", "/bin/p")
			tr.lib("/opt/app/lib/liba.so", nil)
			tr.lib("/lib/liba.so", nil)
		}, "/opt/app/bin/p", []string{"liba.so => /opt/app/bin/../lib/liba.so"}},
		"$ORIGIN of a library is where it was found": {func(tr tree) {
			// No path is made shorter on the way: /opt/link/.. is not /opt.
			tr.prog("/bin/p", a, rpath("/opt/link/../x")...)
			tr.link("/usr/real", "/opt/link")
			tr.write("/usr/real/file", "")
			tr.lib("/usr/x/there/liba.so", b, rpath("${ORIGIN}/sub")...)
			tr.link("there/liba.so", "/usr/x/liba.so")
			tr.lib("/usr/x/sub/libb.so", nil)
			tr.lib("/opt/x/sub/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/link/../x/liba.so", "libb.so => /opt/link/../x/sub/libb.so"}},
		"$ORIGIN may be the root": {func(tr tree) {
			tr.prog("/p", a, rpath("$ORIGIN/opt")...)
			tr.lib("/opt/liba.so", nil)
		}, "/p", []string{"liba.so => //opt/liba.so"}},
		"$LIB and $PLATFORM": {func(tr tree) {
			tr.prog("/bin/p", []string{"lib1.so", "lib2.so", "lib3.so", "lib4.so"},
				rpath("/opt/$LIB:/opt/${LIB}2:/opt/$PLATFORM:/opt/${PLATFORM}2:/opt/$LIBX:/opt/${LIB:/opt/$OTHER")...)
			tr.lib("/opt/lib/x86_64-linux-gnu/lib1.so", nil)
			tr.lib("/opt/lib/x86_64-linux-gnu2/lib2.so", nil)
			tr.lib("/opt/"+platform()+"/lib3.so", nil)
			tr.lib("/opt/"+platform()+"2/lib4.so", nil)
		}, "/bin/p", []string{
			"lib1.so => /opt/lib/x86_64-linux-gnu/lib1.so", "lib2.so => /opt/lib/x86_64-linux-gnu2/lib2.so",
			"lib3.so => /opt/" + platform() + "/lib3.so", "lib4.so => /opt/" + platform() + "2/lib4.so",
		}},
		"what only looks like a token": {func(tr tree) {
			tr.prog("/bin/p", []string{"lib1.so", "lib2.so", "lib3.so"}, rpath("/opt/$LIBX:/opt/${LIB:/opt/$OTHER")...)
			tr.lib("/opt/$LIBX/lib1.so", nil)
			tr.lib("/opt/${LIB/lib2.so", nil)
			tr.lib("/opt/$OTHER/lib3.so", nil)
		}, "/bin/p", []string{"lib1.so => /opt/$LIBX/lib1.so", "lib2.so => /opt/${LIB/lib2.so", "lib3.so => /opt/$OTHER/lib3.so"}},
		"a name with a slash is a path": {func(tr tree) {
			tr.prog("/opt/bin/p", []string{"/opt/abs/liba.so", "$ORIGIN/../rel/libb.so", "none/libc.so"}, rpath("/opt/abs")...)
			tr.lib("/opt/abs/liba.so", nil)
			tr.lib("/opt/rel/libb.so", nil)
		}, "/opt/bin/p", []string{"/opt/abs/liba.so", "/opt/bin/../rel/libb.so", "none/libc.so"}},
		"libraries for another machine are passed over": {func(tr tree) {
			tr.prog("/bin/p", []string{"liba.so", "/opt/x/libb.so"}, rpath("/opt/x:/opt/y:/opt/x32:/opt/z")...)
			tr.write("/opt/x32/liba.so", string(image{class: elf.ELFCLASS32}.bytes()))
			tr.ld(linked{path: "/opt/x/liba.so", m32: true})
			tr.write("/opt/y/liba.so", string(image{machine: elf.EM_AARCH64}.bytes()))
			tr.lib("/opt/z/liba.so", nil)
			tr.ld(linked{path: "/opt/x/libb.so", m32: true})
		}, "/bin/p", []string{"liba.so => /opt/z/liba.so", "/opt/x/libb.so"}},
		"one file by two names is loaded once, on behalf of the first": {func(tr tree) {
			tr.prog("/bin/p", []string{"liba.so", "libz.so"}, rpath("/opt/x:/opt/y")...)
			tr.lib("/opt/x/liba.so", b, runpath("$ORIGIN")...)
			tr.link("../x/liba.so", "/opt/y/libz.so")
			tr.lib("/opt/y/libb.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so"}},
		"directories that are none": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("::/bin/p/x:/opt/"+strings.Repeat("x", 300)+":/none:/opt/y//:/opt/x")...)
			tr.lib("/opt/x/liba.so", nil)
			tr.lib("/opt/y/liba.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/y/liba.so"}},
		"a name that no file can have": {func(tr tree) {
			tr.prog("/bin/p", []string{strings.Repeat("x", 300)})
		}, "/bin/p", []string{strings.Repeat("x", 300)}},
		"a library that calls itself by the name is the one": {func(tr tree) {
			tr.prog("/bin/p", []string{"/opt/y/liba.so", "libz.so.1"}, rpath("/opt/x")...)
			tr.lib("/opt/y/liba.so", nil, soname("libz.so.1")...)
			tr.lib("/opt/x/libz.so.1", nil)
		}, "/bin/p", []string{"/opt/y/liba.so"}},
		"so is one that was found by the name": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("/opt/x")...)
			tr.lib("/opt/x/liba.so", b, append(soname("other"), runpath("/opt/y")...)...)
			tr.lib("/opt/y/libb.so", a, runpath("/opt/y")...)
			tr.lib("/opt/y/liba.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/x/liba.so", "libb.so => /opt/y/libb.so"}},
		"a cycle": {func(tr tree) {
			tr.lib("/opt/x/liba.so", b, append(soname("liba.so"), rpath("/opt/x")...)...)
			tr.lib("/opt/x/libb.so", []string{"liba.so", "libb.so"})
		}, "/opt/x/liba.so", []string{"libb.so => /opt/x/libb.so"}},
		"breadth first": {func(tr tree) {
			tr.prog("/bin/p", []string{"lib1.so", "lib2.so"}, rpath("/opt")...)
			tr.lib("/opt/lib1.so", []string{"lib3.so", "lib5.so"})
			tr.lib("/opt/lib2.so", []string{"lib4.so", "lib3.so"})
			tr.lib("/opt/lib3.so", []string{"lib6.so"})
			for _, n := range []string{"4", "5", "6"} {
				tr.lib("/opt/lib"+n+".so", nil)
			}
		}, "/bin/p", []string{
			"lib1.so => /opt/lib1.so", "lib2.so => /opt/lib2.so", "lib3.so => /opt/lib3.so",
			"lib5.so => /opt/lib5.so", "lib4.so => /opt/lib4.so", "lib6.so => /opt/lib6.so",
		}},
		"filters and auxiliaries come before their object": {func(tr tree) {
			tr.prog("/bin/p", []string{"lib1.so", "lib2.so", "lib5.so"}, rpath("/opt")...)
			tr.lib("/opt/lib1.so", nil)
			tr.lib("/opt/lib2.so", []string{"lib4.so"}, "-f", "lib3.so", "-f", "lib5.so", "-f", "lib1.so")
			tr.lib("/opt/lib5.so", nil, "-F", "lib6.so")
			tr.lib("/opt/lib3.so", []string{"lib7.so"})
			for _, n := range []string{"4", "6", "7"} {
				tr.lib("/opt/lib"+n+".so", nil)
			}
		}, "/bin/p", []string{
			"lib1.so => /opt/lib1.so", "lib3.so => /opt/lib3.so", "lib6.so => /opt/lib6.so", "lib5.so => /opt/lib5.so",
			"lib2.so => /opt/lib2.so", "lib4.so => /opt/lib4.so", "lib7.so => /opt/lib7.so",
		}},
		"a filter's library must be there": {func(tr tree) {
			tr.prog("/bin/p", a, rpath("/opt")...)
			tr.lib("/opt/liba.so", nil, "-F", "libb.so")
		}, "/bin/p", []string{"liba.so => /opt/liba.so", "libb.so"}},
		"the built-in directories, in order": {func(tr tree) {
			tr.prog("/bin/p", []string{"lib1.so", "lib2.so", "lib3.so", "lib4.so", "lib5.so"})
			for i, d := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib", "/lib64"} {
				for j := range i + 1 {
					tr.lib(fmt.Sprintf("%s/lib%d.so", d, 5-j), nil)
				}
			}
		}, "/bin/p", []string{
			"lib2.so => /usr/lib/lib2.so", "lib3.so => /lib/lib3.so", "lib4.so => /usr/lib/x86_64-linux-gnu/lib4.so",
			"lib5.so => /lib/x86_64-linux-gnu/lib5.so", "lib1.so",
		}},
		"not for who wants none of them": {func(tr tree) {
			tr.prog("/bin/p", []string{"liba.so", "libb.so"}, append(runpath("/opt"), "-z", "nodefaultlib")...)
			tr.lib("/opt/liba.so", []string{"libc.so"})
			tr.lib("/lib/libb.so", nil)
			tr.lib("/lib/libc.so", nil)
		}, "/bin/p", []string{"liba.so => /opt/liba.so", "libc.so => /lib/libc.so", "libb.so"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			c.make(tr)
			tr.check(ld64, c.run, c.want...)
		})
	}
}

func platform() string {
	if thisCPU().haswell {
		return "haswell"
	}
	return "x86_64"
}

// An auxiliary that is not there is nobody's loss; the loader's list has it as not
// found, and loads the program all the same.
func TestTreeAuxiliary(t *testing.T) {
	tr := newTree(t)
	tr.prog("/bin/p", []string{"liba.so"}, rpath("/opt")...)
	tr.lib("/opt/liba.so", nil, "-f", "libb.so")
	o, err := New(host.New(tr.root)).Resolve("/bin/p")
	if err != nil || len(o.Missing) != 0 || len(o.Libraries) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
}

// What depends on where a program is started is not found.
func TestTreeWorkingDirectory(t *testing.T) {
	tr := newTree(t)
	tr.prog("/bin/p", []string{"sub/liba.so", "libb.so"}, rpath("sub::./sub")...)
	tr.lib("/sub/liba.so", nil)
	tr.lib("/sub/libb.so", nil)
	tr.lib("/libb.so", nil)
	o, err := New(host.New(tr.root)).Resolve("/bin/p")
	if want := []Missing{{"sub/liba.so", "/bin/p"}, {"libb.so", "/bin/p"}}; err != nil || !slices.Equal(o.Missing, want) {
		t.Errorf("%+v, %v", o, err)
	}
}

// Where ldconfig has not run: what is built into the loader needs no cache.
func TestTreeNoCache(t *testing.T) {
	tr := newTree(t)
	tr.write("/etc/ld.so.conf", "/opt\n/usr/lib\n/usr/lib/more\n")
	tr.prog("/bin/p", []string{"liba.so"})
	tr.prog("/bin/r", []string{"libc.so"})
	tr.lib("/usr/lib/more/libc.so", nil)
	tr.lib("/usr/lib/liba.so", nil)
	tr.lib("/opt/liba.so", nil)
	tr.prog("/bin/q", []string{"liba.so", "libb.so"}, "-z", "nodefaultlib")
	tr.lib("/usr/lib/libb.so", nil)
	if o := tr.check(ld64, "/bin/p", "liba.so => /usr/lib/liba.so"); o.Cache != "" {
		t.Errorf("%q is said to be needed", o.Cache)
	}
	o, err := New(host.New(tr.root)).Resolve("/bin/q")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := New(host.New(tr.root)).Resolve("/bin/r"); err != nil || len(r.Libraries) != 1 || r.Cache != cachePath {
		t.Errorf("%+v, %v", r, err)
	}
	if found, missing := ours(host.New(tr.root), o); !slices.Equal(found, []string{"liba.so => /opt/liba.so"}) || !slices.Equal(missing, []string{"libb.so"}) {
		t.Errorf("%q %q", found, missing)
	}
}

// One library by two names is opened by both: both must be in a tree.
func TestTreeTwoNames(t *testing.T) {
	tr := newTree(t)
	tr.prog("/bin/p", []string{"liba.so", "liba.so.1", "liba.so"}, rpath("/opt")...)
	tr.lib("/opt/liba.so.1", nil)
	tr.link("liba.so.1", "/opt/liba.so")
	o := tr.check(ld64, "/bin/p", "liba.so => /opt/liba.so")
	want := []Library{{"liba.so", "/opt/liba.so", "/bin/p"}, {"liba.so.1", "/opt/liba.so.1", "/bin/p"}}
	if !slices.Equal(o.Libraries, want) {
		t.Errorf("%q, want %q", o.Libraries, want)
	}
}

// File names are bytes, and an error is one line.
func TestTreeNames(t *testing.T) {
	tr := newTree(t)
	const dir, name = "/opt/a b\n;$(c)", "lib \n;$(a)\xff.so"
	tr.prog(dir+"/p", []string{name, "no\nne.so"}, rpath("$ORIGIN/\xfe")...)
	tr.lib(dir+"/\xfe/"+name, nil)
	o, err := New(host.New(tr.root)).Resolve(dir + "/p")
	if err != nil {
		t.Fatal(err)
	}
	if want := []Library{{name, dir + "/\xfe/" + name, dir + "/p"}}; !slices.Equal(o.Libraries, want) {
		t.Errorf("%q, want %q", o.Libraries, want)
	}
	if want := []Missing{{"no\nne.so", dir + "/p"}}; !slices.Equal(o.Missing, want) {
		t.Errorf("%q, want %q", o.Missing, want)
	}
	if os.Getuid() == 0 {
		_, _, out := trace(t, tr.root, ld64, dir+"/p")
		if !strings.Contains(out, "\t"+name+" => "+dir+"/\xfe/"+name+" (0x") {
			t.Errorf("the loader has %q", out)
		}
	}

	tr.link("loop", dir+"/loop")
	tr.write(dir+"/script", "#!/bin/sh\n")
	tr.write(dir+"/short", elf.ELFMAG)
	for name, interp := range map[string]string{"interp": dir + "/script", "interploop": dir + "/loop", "relative": "a\nb"} {
		tr.ld(linked{path: dir + "/" + name, interp: interp})
	}
	tr.prog(dir+"/liblink", []string{"loop"}, rpath(dir)...)
	tr.prog(dir+"/dirlink", []string{"x"}, rpath(dir+"/loop")...)
	tr.prog(dir+"/text", []string{"script"}, rpath(dir)...)
	tr.prog(dir+"/directory", []string{"\xfe"}, rpath(dir)...)
	for name, want := range map[string]string{
		"":            "not a regular file",
		"/script":     "not an ELF",
		"/short":      "it is cut short",
		"/loop":       "too many levels",
		"/interp":     `its interpreter "/opt/a b\n;$(c)/script": not an ELF`,
		"/interploop": `its interpreter "/opt/a b\n;$(c)/loop": too many levels`,
		"/relative":   `its interpreter "a\nb" is not`,
		"/liblink":    `library "/opt/a b\n;$(c)/loop", needed by "/opt/a b\n;$(c)/liblink": too many levels`,
		"/dirlink":    `directory "/opt/a b\n;$(c)/loop/": too many levels`,
		"/text":       `library "/opt/a b\n;$(c)/script", needed by "/opt/a b\n;$(c)/text": not an ELF`,
		"/directory":  `library "/opt/a b\n;$(c)/\xfe", needed by "/opt/a b\n;$(c)/directory": not a regular`,
	} {
		o, err := New(host.New(tr.root)).Resolve(dir + name)
		if err == nil || strings.Contains(err.Error(), "\n") ||
			!strings.HasPrefix(err.Error(), `"/opt/a b\n;$(c)`+name+`": `) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %s", name, o, err, want)
		}
		// What these say is of the file itself, not of something that it needs.
		if errors.Is(err, ErrNotELF) != (name == "/script") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := New(host.New(tr.root)).Resolve("/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The loaders that are not here: it says so, and still finds what it can.
func TestTreeNoLoader(t *testing.T) {
	tr := newTree(t)
	tr.ld(linked{path: "/bin/p", interp: "/opt/ld-none.so.1", needs: []string{"liba.so", "libb.so"}, args: rpath("/opt")})
	tr.lib("/opt/liba.so", nil)
	tr.lib("/lib/libb.so", nil)
	o, err := New(host.New(tr.root)).Resolve("/bin/p")
	if err != nil {
		t.Fatal(err)
	}
	if want := []Missing{{"/opt/ld-none.so.1", "/bin/p"}, {"libb.so", "/bin/p"}}; !slices.Equal(o.Missing, want) {
		t.Errorf("%q, want %q", o.Missing, want)
	}
	if want := []Library{{"liba.so", "/opt/liba.so", "/bin/p"}}; !slices.Equal(o.Libraries, want) {
		t.Errorf("%q, want %q", o.Libraries, want)
	}
}

// The loader of i386 that Debian has for x86-64 looks into /lib32, which it says itself.
func TestTree32(t *testing.T) {
	tr := newTree(t)
	tr.ld(linked{path: "/bin/p", interp: ld32, needs: []string{"lib1.so", "lib2.so", "lib3.so", "lib4.so"}, args: rpath("/opt/$LIB:/opt/$PLATFORM"), m32: true})
	for path, m32 := range map[string]bool{
		"/lib64/lib1.so": true, "/lib/lib1.so": true, "/usr/lib32/lib1.so": true, "/lib32/lib1.so": false,
		"/lib/i386-linux-gnu/lib2.so": true, "/usr/lib/lib2.so": true,
		"/opt/lib32/lib3.so": true, "/opt/i686/lib4.so": true,
	} {
		tr.ld(linked{path: path, m32: m32})
	}
	tr.check(ld32, "/bin/p",
		"lib1.so => /usr/lib32/lib1.so", "lib2.so => /usr/lib/lib2.so",
		"lib3.so => /opt/lib32/lib3.so", "lib4.so => /opt/i686/lib4.so")
	// A shared object names no loader.
	tr.ld(linked{path: "/opt/libp.so", needs: []string{"lib2.so"}, m32: true})
	tr.check(ld32, "/opt/libp.so", "lib2.so => /usr/lib/lib2.so")
}

func TestTreeARM(t *testing.T) {
	tr := newTree(t)
	const cross = "/usr/aarch64-linux-gnu/lib/"
	tr.copy(cross+"ld-linux-aarch64.so.1", ldARM)
	for _, l := range []string{"libc.so.6", "libm.so.6"} {
		tr.copy(cross+l, "/lib/aarch64-linux-gnu/"+l)
	}
	tr.copy("/usr/bin/qemu-aarch64-static", "/qemu")
	arm := func(name, interp string, dynamic ...entry) {
		tr.write(name, string(image{machine: elf.EM_AARCH64, interp: interp, dynamic: dynamic}.bytes()))
	}
	arm("/bin/p", ldARM,
		entry{elf.DT_NEEDED, "libm.so.6", 0},
		entry{elf.DT_NEEDED, "lib1.so", 0}, entry{elf.DT_NEEDED, "lib2.so", 0}, entry{elf.DT_NEEDED, "lib3.so", 0},
		entry{elf.DT_RPATH, "/opt/$LIB:/opt/$PLATFORM", 0})
	arm("/opt/lib/aarch64-linux-gnu/lib1.so", "")
	arm("/opt/aarch64/lib2.so", "")
	arm("/usr/lib/aarch64-linux-gnu/lib3.so", "")
	arm("/lib/lib3.so", "")
	tr.check(ldARM, "/bin/p",
		"libm.so.6 => /lib/aarch64-linux-gnu/libm.so.6", "lib1.so => /opt/lib/aarch64-linux-gnu/lib1.so",
		"lib2.so => /opt/aarch64/lib2.so", "lib3.so => /usr/lib/aarch64-linux-gnu/lib3.so",
		"libc.so.6 => /lib/aarch64-linux-gnu/libc.so.6")
	tr.check(ldARM, "/lib/aarch64-linux-gnu/libm.so.6", "libc.so.6 => /lib/aarch64-linux-gnu/libc.so.6")
}

func TestTreeMusl(t *testing.T) {
	musl := func(tr tree, path string, needs []string, args ...string) {
		tr.Helper()
		tr.ld(linked{path: path, interp: ldMusl, needs: needs, args: args})
	}
	for name, c := range map[string]struct {
		make func(tree)
		want []string
	}{
		"the directories without a path file": {func(tr tree) {
			musl(tr, "/bin/p", []string{"lib1.so", "lib2.so", "lib3.so", "lib4.so"})
			for i, d := range []string{"/lib", "/usr/local/lib", "/usr/lib", "/lib64"} {
				for j := range i + 1 {
					tr.lib(fmt.Sprintf("%s/lib%d.so", d, 4-j), nil)
				}
			}
		}, []string{"lib2.so => /usr/lib/lib2.so", "lib3.so => /usr/local/lib/lib3.so", "lib4.so => /lib/lib4.so", "lib1.so"}},
		"the path file": {func(tr tree) {
			tr.write("/etc/ld-musl-x86_64.path", "/opt/x:/opt/y\n/opt/z\n")
			musl(tr, "/bin/p", []string{"lib1.so", "lib2.so", "lib3.so", "lib4.so"})
			tr.lib("/opt/x/lib1.so", nil)
			tr.lib("/opt/y/lib2.so", nil)
			tr.lib("/opt/z/lib3.so", nil)
			tr.lib("/lib/lib4.so", nil)
		}, []string{"lib1.so => /opt/x/lib1.so", "lib2.so => /opt/y/lib2.so", "lib3.so => /opt/z/lib3.so", "lib4.so"}},
		"DT_RUNPATH is for all that is loaded for its object": {func(tr tree) {
			musl(tr, "/bin/p", []string{"liba.so"}, runpath("$ORIGIN/../opt/x:${ORIGIN}/../opt/y")...)
			tr.lib("/opt/x/liba.so", []string{"libb.so", "libc1.so"}, runpath("$ORIGIN/z")...)
			tr.lib("/opt/y/libb.so", nil)
			tr.lib("/opt/y/libc1.so", nil)
			tr.lib("/opt/x/z/libc1.so", nil)
		}, []string{"liba.so => /bin/../opt/x/liba.so", "libb.so => /bin/../opt/y/libb.so", "libc1.so => /bin/../opt/x/z/libc1.so"}},
		"so is DT_RPATH, unless there are both": {func(tr tree) {
			musl(tr, "/bin/p", []string{"liba.so", "libc1.so"}, rpath("/opt/x")...)
			tr.write("/opt/x/liba.so", string(image{dynamic: []entry{
				{elf.DT_NEEDED, "libb.so", 0},
				{elf.DT_RPATH, "/opt/y", 0},
				{elf.DT_RUNPATH, "/opt/z", 0},
			}}.bytes()))
			tr.lib("/opt/x/libb.so", nil)
			tr.lib("/opt/y/libb.so", nil)
			tr.lib("/opt/z/libb.so", nil)
			tr.lib("/opt/x/libc1.so", nil)
		}, []string{"liba.so => /opt/x/liba.so", "libc1.so => /opt/x/libc1.so", "libb.so => /opt/z/libb.so"}},
		"$ORIGIN may be the root": {func(tr tree) {
			musl(tr, "/bin/p", []string{"/liba.so"})
			tr.lib("/liba.so", []string{"libb.so"}, rpath("$ORIGIN/opt")...)
			tr.lib("/opt/libb.so", nil)
		}, []string{"/liba.so", "libb.so => /opt/libb.so"}},
		"the path file is found from the loader": {func(tr tree) {
			tr.link(ldMusl, "/opt/m/lib/ld-musl-x86_64.so.1")
			tr.write("/opt/m/etc/ld-musl-x86_64.path", "/opt/x")
			tr.ld(linked{path: "/bin/p", interp: "/opt/m/lib/ld-musl-x86_64.so.1", needs: []string{"liba.so"}})
			tr.lib("/opt/x/liba.so", nil)
			tr.lib("/lib/liba.so", nil)
		}, []string{"liba.so => /opt/x/liba.so"}},
		"any token but $ORIGIN spoils a path": {func(tr tree) {
			musl(tr, "/bin/p", []string{"liba.so"}, rpath("/opt/x:/opt/$LIB:$ORIGIN")...)
			tr.lib("/opt/x/liba.so", nil)
			tr.lib("/lib/liba.so", nil)
		}, []string{"liba.so => /lib/liba.so"}},
		"the C library is the loader": {func(tr tree) {
			musl(tr, "/bin/p", []string{"libc.so", "libm.so.6", "libpthread.so.0", "libmm.so", "libc.so"})
			tr.lib("/lib/libc.so", nil)
			tr.lib("/lib/libm.so.6", nil)
			tr.lib("/lib/libmm.so", nil)
		}, []string{"libmm.so => /lib/libmm.so"}},
		"names are those of files, not what libraries call themselves": {func(tr tree) {
			musl(tr, "/bin/p", []string{"/opt/liba.so", "libz.so"})
			tr.lib("/opt/liba.so", nil, soname("libz.so")...)
			tr.lib("/lib/libz.so", []string{"/opt/liba.so", "libz.so"})
		}, []string{"/opt/liba.so", "libz.so => /lib/libz.so"}},
		"filters are unknown": {func(tr tree) {
			musl(tr, "/bin/p", []string{"liba.so"})
			tr.lib("/lib/liba.so", nil, "-F", "libb.so", "-f", "libd.so")
			tr.lib("/lib/libb.so", nil)
			tr.lib("/lib/libd.so", nil)
		}, []string{"liba.so => /lib/liba.so"}},
		"the first file of the name is taken": {func(tr tree) {
			musl(tr, "/bin/p", []string{"liba.so"}, rpath("/opt/none:/opt/x:/opt/y")...)
			tr.ld(linked{path: "/opt/x/liba.so", m32: true})
			tr.lib("/opt/y/liba.so", nil)
		}, []string{"liba.so"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			c.make(tr)
			loader := ldMusl
			if _, err := os.Lstat(tr.root + "/opt/m" + ldMusl); err == nil {
				loader = "/opt/m" + ldMusl
			}
			tr.check(loader, "/bin/p", c.want...)
		})
	}

	// A shared object says by what it needs which C library it is for. Where there is
	// only one loader, it is that one.
	tr := newTree(t)
	tr.write("/etc/ld-musl-x86_64.path", "/opt")
	tr.lib("/opt/liba.so", nil)
	tr.lib("/opt/libp.so", []string{"liba.so", "libc.musl-x86_64.so.1"})
	tr.lib("/opt/libq.so", []string{"liba.so"})
	tr.check(ldMusl, "/opt/libp.so", "liba.so => /opt/liba.so")
	tr.check(ld64, "/opt/libq.so", "liba.so")
	if err := os.Remove(tr.root + ld64); err != nil {
		t.Fatal(err)
	}
	tr.check(ldMusl, "/opt/libq.so", "liba.so => /opt/liba.so")
	o := tr.check(ldMusl, "/opt/libp.so", "liba.so => /opt/liba.so")
	if want := (Library{"libc.musl-x86_64.so.1", ldMusl, "/opt/libp.so"}); o.Libraries[1] != want {
		t.Errorf("%q, want %q", o.Libraries, want)
	}
}

// ldconfig writes the tree's cache, as root: it changes its root itself.
func (tr tree) ldconfig(args ...string) {
	tr.Helper()
	if err := os.MkdirAll(tr.root+"/etc", 0o755); err != nil {
		tr.Fatal(err)
	}
	tr.command("/sbin/ldconfig", append([]string{"-r", tr.root}, args...)...)
}

func TestTreeCache(t *testing.T) {
	for _, format := range []string{"new", "compat"} {
		t.Run(format, func(t *testing.T) {
			tr := newTree(t)
			tr.write("/etc/ld.so.conf", "# first\n/opt/conf1 # later\nhwcap 1 nosegneg\ninclude ld.so.conf.d/*.conf /etc/none.conf /etc/more/b?r\n/opt/conf2/\n")
			tr.write("/etc/ld.so.conf.d/a.conf", "include /etc/ld.so.conf\n/opt/conf3\n/opt/conf4=libc6\n")
			tr.write("/etc/ld.so.conf.d/not", "/opt/conf5\n")
			tr.write("/etc/ld.so.conf.d/.hidden.conf", "/opt/conf5\n")
			tr.write("/etc/more/bar", "/opt/conf6\n")
			needs := []string{"libstale.so.1", "libfirst.so.1"}
			for i := range 8 {
				needs = append(needs, fmt.Sprintf("lib%d.so.1", i))
			}
			tr.prog("/bin/p", needs, runpath("/opt/run")...)
			tr.prog("/bin/q", []string{"libsys.so.1", "lib1.so.1"}, "-z", "nodefaultlib")
			tr.prog("/bin/r", []string{"libsys.so.1"})
			lib := func(dir, name string) { tr.lib(dir+"/"+name, nil, soname(name)...) }
			for i := range 8 {
				lib(fmt.Sprintf("/opt/conf%d", i), fmt.Sprintf("lib%d.so.1", i))
			}
			lib("/opt/conf1", "libfirst.so.1")
			lib("/opt/run", "lib0.so.1")       // before the cache
			lib("/opt/conf6", "lib5.so.1")     // a directory that is in the cache, not the other
			lib("/opt/conf4", "lib1.so.1")     // the first of both
			lib("/lib", "lib1.so.1")           // the cache before the built-in ones
			lib("/opt/conf1", "libstale.so.1") // not there any more
			lib("/usr/lib", "libstale.so.1")
			lib("/lib", "libsys.so.1")
			tr.ld(linked{path: "/opt/conf1/lib2.so.1", m32: true, args: soname("lib2.so.1")})

			want := []string{
				"libstale.so.1 => /usr/lib/libstale.so.1", "libfirst.so.1 => /opt/conf1/libfirst.so.1",
				"lib0.so.1 => /opt/run/lib0.so.1", "lib1.so.1 => /opt/conf1/lib1.so.1", "lib2.so.1 => /opt/conf2/lib2.so.1",
				"lib3.so.1 => /opt/conf3/lib3.so.1", "lib4.so.1 => /opt/conf4/lib4.so.1", "lib5.so.1 => /opt/conf6/lib5.so.1",
				"lib6.so.1 => /opt/conf6/lib6.so.1", "lib7.so.1",
			}
			stale := tr.root + "/opt/conf1/libstale.so.1"

			// Without a cache, what ldconfig would put in it.
			if err := os.Rename(stale, stale+".away"); err != nil {
				t.Fatal(err)
			}
			h := host.New(tr.root)
			o, err := New(h).Resolve("/bin/p")
			if err != nil {
				t.Fatal(err)
			}
			without := slices.Clone(want)
			without[3] = "lib1.so.1 => /lib/lib1.so.1"
			if found, missing := ours(h, o); !slices.Equal(append(found, missing...), without) || o.Cache != cachePath {
				t.Errorf("without a cache:\n%q %q, want\n%q", found, o.Cache, without)
			}
			if err := os.Rename(stale+".away", stale); err != nil {
				t.Fatal(err)
			}

			tr.ldconfig("-c", format)
			if err := os.Remove(stale); err != nil {
				t.Fatal(err)
			}
			if o := tr.check(ld64, "/bin/p", want...); o.Cache != cachePath {
				t.Errorf("the cache that is needed is %q", o.Cache)
			}
			tr.check(ld64, "/bin/q", "lib1.so.1 => /opt/conf1/lib1.so.1", "libsys.so.1")
			if o := tr.check(ld64, "/bin/r", "libsys.so.1 => /lib/libsys.so.1"); o.Cache != "" {
				t.Errorf("%q is said to be needed", o.Cache)
			}
			// What was looked for is noted, whether or not it was there.
			h = host.New(tr.root)
			if _, err := New(h).Resolve("/bin/p"); err != nil {
				t.Fatal(err)
			}
			for name, there := range map[string]bool{
				cachePath: true, "/opt/run/libstale.so.1": false, "/opt/conf1/libstale.so.1": false, "/lib/libstale.so.1": false,
				"/lib/x86_64-linux-gnu": false, "/opt/run/lib0.so.1": true, ld64: true, "/bin/p": true, "/lib/glibc-hwcaps": false,
			} {
				if s, ok := h.Asked()[name]; !ok || (s.Mode != 0) != there {
					t.Errorf("%q: asked %v, %+v", name, ok, s)
				}
			}
		})
	}
}

// The cache has a library for each machine.
func TestTreeCacheMachines(t *testing.T) {
	tr := newTree(t)
	tr.copy("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", ldARM)
	tr.copy("/usr/bin/qemu-aarch64-static", "/qemu")
	tr.write("/etc/ld.so.conf", "/opt/1\n/opt/2\n")
	tr.prog("/bin/p64", []string{"liba.so.1"})
	tr.ld(linked{path: "/bin/p32", interp: ld32, needs: []string{"liba.so.1", "libb.so.1"}, m32: true})
	tr.write("/bin/parm", string(image{machine: elf.EM_AARCH64, interp: ldARM, dynamic: []entry{{elf.DT_NEEDED, "liba.so.1", 0}}}.bytes()))
	tr.ld(linked{path: "/opt/1/liba.so.1", args: soname("liba.so.1"), m32: true})
	tr.ld(linked{path: "/opt/1/libb.so.1", args: soname("libb.so.1"), m32: true})
	tr.ld(linked{path: "/opt/2/libb.so.1", needs: []string{"libc.so.6"}, args: soname("libb.so.1"), m32: true})
	tr.lib("/opt/2/liba.so.1", nil, soname("liba.so.1")...)
	tr.ldconfig()
	tr.check(ld64, "/bin/p64", "liba.so.1 => /opt/2/liba.so.1")
	tr.check(ld32, "/bin/p32", "liba.so.1 => /opt/1/liba.so.1", "libb.so.1 => /opt/2/libb.so.1", "libc.so.6")
	tr.check(ldARM, "/bin/parm", "liba.so.1")

	// ldconfig of x86-64 leaves arm64 out: a cache with other flags.
	b, err := os.ReadFile(tr.root + cachePath)
	if err != nil {
		t.Fatal(err)
	}
	for i := range number(b, 20) {
		if at := cacheHead + i*cacheSize; number(b, at) == 0x303 {
			b[at+1] = 0xa
		}
	}
	tr.write(cachePath, string(b))
	tr.write("/opt/2/liba.so.1", string(image{machine: elf.EM_AARCH64}.bytes()))
	tr.check(ldARM, "/bin/parm", "liba.so.1 => /opt/2/liba.so.1")
	tr.check(ld64, "/bin/p64", "liba.so.1")
}

// Libraries for better CPUs, in directories and in the cache. What the loader would
// choose is what it says itself, told by an option that the CPU is another.
func TestTreeLevels(t *testing.T) {
	this := thisCPU()
	t.Cleanup(func() { thisCPU = func() cpu { return this } })
	for n := range cpuLevels {
		if len(this.levels) < n {
			t.Fatalf("this CPU has only %q: the loader here cannot be asked about better ones", this.levels)
		}
	}

	tr := newTree(t)
	tr.write("/etc/ld.so.conf", "/opt/conf\n")
	in := func(dir string, level int, name string, needs ...string) {
		if level > 1 {
			dir += fmt.Sprintf("/glibc-hwcaps/x86-64-v%d", level)
		}
		tr.lib(dir+"/"+name, needs, soname(name)...)
	}
	for level := 1; level <= 4; level++ {
		in("/lib/x86_64-linux-gnu", level, "liball.so.1")
		in("/opt/conf", level, "libconf.so.1")
		in("/opt/run", level, "librun.so.1")
	}
	in("/opt/conf", 1, "libtwo.so.1")
	in("/opt/conf", 2, "libtwo.so.1")
	in("/opt/run", 4, "libfour.so.1")
	in("/lib/x86_64-linux-gnu", 1, "libfour.so.1", "libless.so.1")
	in("/lib/x86_64-linux-gnu", 1, "libless.so.1")
	tr.prog("/bin/p", []string{"liball.so.1", "libconf.so.1", "librun.so.1", "libtwo.so.1", "libfour.so.1"}, runpath("/opt/run")...)
	tr.prog("/bin/q", []string{"libnone.so.1"})
	tr.prog("/bin/r", []string{"liball.so.1"})
	in("/lib/x86_64-linux-gnu", 1, "libnone.so.1")

	for _, cache := range []bool{false, true} {
		if cache {
			tr.ldconfig()
		}
		for n := 0; n <= len(this.levels); n++ {
			thisCPU = func() cpu { return cpu{levels: cpuLevels[len(cpuLevels)-n:]} }
			h := host.New(tr.root)
			r := New(h)
			o, err := r.Resolve("/bin/p")
			if err != nil {
				t.Fatal(err)
			}
			found, missing := ours(h, o)

			args := []string{"--glibc-hwcaps-mask", strings.Join(thisCPU().levels, ":")}
			if n == 0 {
				args[1] = "none"
			}
			cmd := exec.Command(ld64, append(args, "/bin/p")...)
			cmd.Env, cmd.Dir = []string{"LD_TRACE_LOADED_OBJECTS=1"}, "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tr.root}
			out, _ := cmd.CombinedOutput()
			want, lost := list(string(out), ld64)
			if !cache {
				// ldconfig has not run: the loader does not look into /opt/conf.
				want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, "/conf") })
				found = slices.DeleteFunc(found, func(s string) bool { return strings.Contains(s, "/conf") })
				lost = nil
			}
			if !slices.Equal(found, want) || !slices.Equal(missing, lost) {
				t.Errorf("cache %v, %d levels: resolved\n%q %q, the loader has\n%q %q", cache, n, found, missing, want, lost)
			}

			// With what is for other CPUs there is all that any could choose.
			all := found
			for _, l := range o.OtherCPUs {
				all = append(all, l.Name+" => "+l.Path)
			}
			for _, level := range [][]string{nil, cpuLevels[2:], cpuLevels[1:], cpuLevels} {
				thisCPU = func() cpu { return cpu{levels: level} }
				o, err := r.Resolve("/bin/p")
				if err != nil {
					t.Fatal(err)
				}
				found, _ := ours(h, o)
				for _, f := range found {
					if !slices.Contains(all, f) && (cache || !strings.Contains(f, "/conf")) {
						t.Errorf("cache %v, %d levels: with %d levels, %s is missing", cache, n, len(level), f)
					}
				}
			}
			if len(o.OtherCPUs) < 6 {
				t.Errorf("cache %v, %d levels: for other CPUs %q", cache, n, o.OtherCPUs)
			}
			if o, err := r.Resolve("/bin/q"); err != nil || o.OtherCPUs != nil {
				t.Errorf("%+v, %v", o, err)
			}
			if o, err := r.Resolve("/bin/r"); err != nil || o.OtherCPUs == nil || o.Cache != "" {
				t.Errorf("%+v, %v", o, err)
			}
		}
	}
}

// The loader says itself what is built into it and what it makes of this CPU.
func TestLoaderItself(t *testing.T) {
	for _, loader := range []string{ld64, ld32} {
		out, err := exec.Command(loader, "--list-diagnostics").Output()
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		var dirs []string
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"`)
			if said[key] = value; strings.HasPrefix(key, "path.system_dirs[") {
				dirs = append(dirs, value)
			}
		}
		r := New(host.New(""))
		m := machine{elf.ELFCLASS64, elf.EM_X86_64}
		if loader == ld32 {
			m = machine{elf.ELFCLASS32, elf.EM_386}
		}
		l, err := r.loader(&file{class: m.class, machine: m.code, interp: loader})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(l.dirs, dirs) || len(dirs) == 0 {
			t.Errorf("%s: directories %q, it says %q", loader, l.dirs, dirs)
		}
		if l.lib != said["dl_dst_lib"] {
			t.Errorf("%s: $LIB is %q, it says %q", loader, l.lib, said["dl_dst_lib"])
		}
		if got := l.expand("$PLATFORM", "", longest); got != said["dl_platform"] {
			t.Errorf("%s: $PLATFORM is %q, it says %q", loader, got, said["dl_platform"])
		}
		if l.hwcaps != (said["dl_hwcaps_subdirs"] == strings.Join(cpuLevels, ":")) {
			t.Errorf("%s: glibc-hwcaps %v, it says %q", loader, l.hwcaps, said["dl_hwcaps_subdirs"])
		}
		if l.hwcaps {
			if want := fmt.Sprintf("%#x", 1<<len(thisCPU().levels)-1); want != said["dl_hwcaps_subdirs_active"] {
				t.Errorf("%s: the levels of this CPU are %q, it says %s", loader, thisCPU().levels, said["dl_hwcaps_subdirs_active"])
			}
		}
	}
}

func TestSystemDirs(t *testing.T) {
	for _, c := range []struct {
		data, dirs, lib string
	}{
		{"\x01/lib/\x00x\x00/lib64/\x00/usr/lib64/\x00", "/lib64/ /usr/lib64/", "lib64"},
		{"x\x00/usr/lib/\x00/usr/share/\x00", "/usr/lib/", "lib"},
		{"\x19/nix/store/x-glibc-2.40/lib/\x00", "/nix/store/x-glibc-2.40/lib/", "lib"},
		{"/lib/a/\x00/usr/lib/a/\x00\x00/lib/b/\x00", "/lib/a/ /usr/lib/a/", "lib/a"},
		// The last string before the run, and what follows a broken one, are not of it.
		{"/lib/x/\x00\xff/lib32/\x00/usr/lib32/\x00", "/lib32/ /usr/lib32/", "lib32"},
		{"/lib/no\x00lib/\x00//\x00", "", ""},
	} {
		dirs := systemDirs([]byte(c.data))
		if got := strings.Join(dirs, " "); got != c.dirs || len(dirs) > 0 && dollarLib(dirs[0]) != c.lib {
			t.Errorf("%q: %q, want %q", c.data, got, c.dirs)
		}
	}
}
