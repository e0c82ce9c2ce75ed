package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/host"
)

// installed is every ELF program and shared object in the machine's directories that
// the loader may be asked about: what it loads is root's.
func installed(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/libexec"} {
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			f, err := os.Open(name)
			if err != nil {
				return nil // an ordinary user may not read all of them
			}
			defer f.Close()
			var head [18]byte
			var st unix.Stat_t
			if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:4]) != elf.ELFMAG || unix.Fstat(int(f.Fd()), &st) != nil {
				return nil
			}
			if typ := elf.Type(binary.LittleEndian.Uint16(head[16:])); st.Uid == 0 && (typ == elf.ET_EXEC || typ == elf.ET_DYN) {
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// The loaders of the machine agree, on all that is installed. What they are asked is
// what ldd(1) asks them, which is asked itself about some of the files.
func TestLdd(t *testing.T) {
	files := installed(t)
	h := host.New("")
	r := New(h)
	start := time.Now()
	objects, errs := make([]*Object, len(files)), make([]error, len(files))
	for i, name := range files {
		objects[i], errs[i] = r.Resolve(name)
	}
	took := time.Since(start)

	var wg sync.WaitGroup
	next := make(chan int)
	mismatch := make([]string, len(files))
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				mismatch[i] = compare(t, files[i], objects[i], errs[i], i%50 == 0)
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	wg.Wait()

	libraries, with32 := 0, 0
	for i, m := range mismatch {
		if m != "" {
			t.Errorf("%s: %s", files[i], m)
		}
		if o := objects[i]; o != nil {
			libraries += len(o.Libraries)
			if len(o.Libraries) > 0 && o.Libraries[0].Path[:6] == "/lib32" {
				with32++
			}
		}
	}
	if libraries < 1000 || with32 < 10 {
		t.Errorf("only %d libraries of %d files, %d of 32 bits: what .ci/run installs is missing", libraries, len(files), with32)
	}
	t.Logf("%d files, %d libraries, %d files of 32 bits: resolved in %v, compared in %v", len(files), libraries, with32, took, time.Since(start)-took)
}

// compare is what the loader has otherwise, if anything.
func compare(t *testing.T, name string, o *Object, err error, ldd bool) string {
	h := host.New("") // each goroutine's own
	loader := ld64
	var head [20]byte
	f, ferr := os.Open(name)
	if ferr != nil {
		return ferr.Error()
	}
	defer f.Close()
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return err.Error()
	}
	if elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS32 {
		loader = ld32
	}
	found, missing, out := trace(t, "", loader, name)
	if err != nil {
		// What is nothing to us is nothing to the loader.
		if !errors.Is(err, ErrNotELF) && !errors.Is(err, ErrMachine) || len(found)+len(missing) > 0 {
			return fmt.Sprintf("%v, the loader has %s", err, out)
		}
		return ""
	}
	haveFound, haveMissing := ours(h, o)
	if !slices.Equal(haveFound, found) || !slices.Equal(haveMissing, missing) {
		return fmt.Sprintf("resolved\n%q %q, the loader has\n%q %q", haveFound, haveMissing, found, missing)
	}
	if ldd {
		b, _ := exec.Command("ldd", name).CombinedOutput()
		if found, missing := list(string(b), loader); !slices.Equal(haveFound, found) || !slices.Equal(haveMissing, missing) {
			return fmt.Sprintf("resolved\n%q %q, ldd has\n%q %q", haveFound, haveMissing, found, missing)
		}
	}
	return ""
}

// Nothing is executed: a file whose interpreter leaves a mark is resolved, and there
// is none. As ldd did until glibc 2.26, and as any use of the file does, there is one.
func TestPayload(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	source := fmt.Sprintf(`
static long call(long n, const void *a, long b, long c) {
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}
void _start(void) {
	call(2, %q, 0101, 0600); /* open, O_WRONLY|O_CREAT */
	call(60, 0, 0, 0);       /* exit */
}`, mark)
	gcc := func(source string, args ...string) {
		t.Helper()
		cmd := exec.Command("gcc", append(args, "-x", "c", "-")...)
		cmd.Stdin, cmd.Dir = strings.NewReader(source), dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	payload, prog, lib := dir+"/payload", dir+"/prog", dir+"/libp.so"
	gcc(source, "-nostdlib", "-static", "-fno-stack-protector", "-o", payload)
	gcc("int main(void) { return 0; }", "-o", prog, "-Wl,-dynamic-linker,"+payload)
	gcc("__attribute__((section(\".interp\"))) const char i[] = \""+payload+"\"; int puts(const char *); int f(void) { return puts(i); }", "-shared", "-fPIC", "-o", lib)

	r := New(host.New(""))
	for _, name := range []string{prog, lib, payload} {
		o, err := r.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != payload && (o.Interp != payload || len(o.Libraries) == 0 || o.Libraries[0].Name != "libc.so.6") {
			t.Errorf("%+v", o)
		}
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Fatal("the interpreter was executed")
	}
	cmd := exec.Command(prog)
	cmd.Env = []string{"LD_TRACE_LOADED_OBJECTS=1"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(mark); err != nil {
		t.Fatal("the interpreter leaves no mark: this test cannot fail")
	}
}

func TestKinds(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		compiler, source string
		args             []string
		kind             Kind
		interp           string
		err              error
	}{
		"static":       {"gcc", "int main(void) { return 0; }", []string{"-static"}, Static, "", nil},
		"static-pie":   {"gcc", "int main(void) { return 0; }", []string{"-static-pie"}, StaticPIE, "", nil},
		"pie":          {"gcc", "int main(void) { return 0; }", []string{"-pie"}, Dynamic, ld64, nil},
		"not pie":      {"gcc", "int main(void) { return 0; }", []string{"-no-pie"}, Dynamic, ld64, nil},
		"musl":         {"musl-gcc", "int main(void) { return 0; }", nil, Dynamic, ldMusl, nil},
		"musl, static": {"musl-gcc", "int main(void) { return 0; }", []string{"-static"}, Static, "", nil},
		"shared":       {"gcc", "int puts(const char *); int f(void) { return puts(\"\"); }", []string{"-shared", "-fPIC"}, Shared, "", nil},
		"object file":  {"gcc", "int f(void) { return 0; }", []string{"-c"}, 0, "", ErrNotELF},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			cmd := exec.Command(c.compiler, append(c.args, "-o", file, "-x", "c", "-")...)
			cmd.Stdin = strings.NewReader(c.source)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			o, err := New(host.New("")).Resolve(file)
			if !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			if err == nil && (o.Kind != c.kind || o.Interp != c.interp || len(o.Missing) > 0) {
				t.Errorf("%+v", o)
			}
			switch {
			case err != nil || c.kind == Static || c.kind == StaticPIE:
				if o != nil && len(o.Libraries) > 0 {
					t.Errorf("%+v", o)
				}
			case c.interp == ldMusl:
				if want := (Library{"libc.so", ldMusl, file}); len(o.Libraries) != 1 || o.Libraries[0] != want {
					t.Errorf("%+v", o)
				}
			default:
				// What it needs itself, and what that does: the loader.
				libc := "/lib/x86_64-linux-gnu/libc.so.6"
				real, err := filepath.EvalSymlinks(libc)
				if err != nil {
					t.Fatal(err)
				}
				want := []Library{{"libc.so.6", libc, file}, {"ld-linux-x86-64.so.2", ld64, real}}
				if !slices.Equal(o.Libraries, want) {
					t.Errorf("%q, want %q", o.Libraries, want)
				}
			}
			if err != nil {
				return
			}
			// Neither the section table, which debug/elf would rely on, nor symbols count.
			before := fmt.Sprint(o.Kind, o.Interp, o.Libraries)
			if out, err := exec.Command("strip", "--strip-all", "--remove-section=.comment", file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			clear(b[0x28:0x30])                           // e_shoff
			binary.LittleEndian.PutUint32(b[0x3c:], 7<<8) // e_shnum, e_shstrndx
			write(t, file, b)
			o, err = New(host.New("")).Resolve(file)
			if err != nil || fmt.Sprint(o.Kind, o.Interp, o.Libraries) != before {
				t.Errorf("without sections: %+v, %v", o, err)
			}
		})
	}
	debug := filepath.Join(dir, "pie.debug")
	if out, err := exec.Command("objcopy", "--only-keep-debug", "/bin/true", debug).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if o, err := New(host.New("")).Resolve(debug); !errors.Is(err, ErrNotELF) {
		t.Errorf("symbols for a debugger: %+v, %v", o, err)
	}
	// Nobody loads anything for a program without an interpreter, whatever it says.
	alone := image{dynamic: []entry{{elf.DT_NEEDED, "liba.so", 0}}}
	for typ, kind := range map[elf.Type]Kind{elf.ET_EXEC: Static, elf.ET_DYN: Shared} {
		alone.change = func(b []byte) { b[16] = byte(typ) }
		write(t, filepath.Join(dir, "alone"), alone.bytes())
		if o, err := New(host.New("")).Resolve(filepath.Join(dir, "alone")); err != nil || o.Kind != kind || (len(o.Missing) > 0) != (kind == Shared) {
			t.Errorf("%v: %+v, %v", typ, o, err)
		}
	}
	write(t, filepath.Join(dir, "riscv"), image{machine: elf.EM_RISCV}.bytes())
	if o, err := New(host.New("")).Resolve(filepath.Join(dir, "riscv")); !errors.Is(err, ErrMachine) {
		t.Errorf("another machine: %+v, %v", o, err)
	}
}

func TestDlopen(t *testing.T) {
	dir := t.TempDir()
	for layout, args := range map[string][]string{"-z separate-code": nil, "as until 2018": {"-Wl,-z,noseparate-code"}} {
		file := filepath.Join(dir, "prog"+layout)
		cmd := exec.Command("gcc", append(args, "-o", file, "-x", "c", "-")...)
		cmd.Stdin = strings.NewReader(`
#include <dlfcn.h>
#include <stdio.h>
static const char big[3000000] = "libbig-1.0_x.so.2";
char writable[] = "libwritable.so";
int main(int n, char **v) {
	dlopen("libmore++.so", 1); dlopen("/opt/x/libpath.so.1", 1); dlopen("libmore++.so", n);
	dlopen("libc.so.6", 1); dlopen("libm.so.6", 1); dlopen(big, 1); dlopen(writable, 1);
	return printf("cannot load libtext.so %s %s %s %s", v[n], "lib.so", "xlib1.so", "libz.sox");
}`)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		o, err := New(host.New("")).Resolve(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"libbig-1.0_x.so.2", "libm.so.6", "libmore++.so", "libpath.so.1"}; !slices.Equal(o.Dlopen, want) {
			t.Errorf("%s: %q, want %q", layout, o.Dlopen, want)
		}
	}
	// A name may stand at the end of one piece that is read and the beginning of the next.
	for _, buf := range []int{32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 64} {
		data := "x\x00y\x00liba.so\x00z\x00libb.so.1\x00" + strings.Repeat("z", 100) + "\x00libc.so\x00"
		b := image{data: data}.bytes()
		f, err := parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		names, err := f.names(bytes.NewReader(b), make([]byte, buf), func() error { return nil })
		if want := []string{"liba.so", "libb.so.1", "libc.so"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("%d bytes at a time: %q, %v", buf, names, err)
		}
	}
}

func TestParseCPU(t *testing.T) {
	v2 := "fpu cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2"
	v3 := v2 + " avx avx2 bmi1 bmi2 f16c fma abm movbe"
	v4 := v3 + " avx512f avx512bw avx512cd avx512dq avx512vl"
	for _, c := range []struct {
		vendor, flags string
		levels        int
		haswell       bool
	}{
		{"AuthenticAMD", "fpu", 0, false},
		{"AuthenticAMD", v2, 1, false},
		{"AuthenticAMD", v3, 2, false},
		{"AuthenticAMD", v4, 3, false},
		{"GenuineIntel", v2, 1, false},
		{"GenuineIntel", v3, 2, true},
		{"GenuineIntel", v4, 3, true},
		{"AuthenticAMD", strings.Replace(v4, " abm", "", 1), 1, false},
		{"AuthenticAMD", strings.Replace(v4, " cx16", "", 1), 0, false},
		{"AuthenticAMD", strings.Replace(v4, " avx512cd", "", 1), 2, false},
	} {
		got := parseCPU("processor\t: 0\nvendor_id\t: " + c.vendor + "\nflags\t\t: " + c.flags + "\n\nprocessor\t: 1\nflags\t\t:\n")
		if want := cpuLevels[3-c.levels:]; !slices.Equal(got.levels, want) || got.haswell != c.haswell {
			t.Errorf("%s %s: %+v, want %q %v", c.vendor, c.flags, got, want, c.haswell)
		}
	}
}

// What $PLATFORM is on such a CPU, for the loader of x86-64 only.
func TestHaswell(t *testing.T) {
	this := thisCPU()
	t.Cleanup(func() { thisCPU = func() cpu { return this } })
	thisCPU = func() cpu { return cpu{haswell: true} }
	for m, want := range map[machine]string{
		{elf.ELFCLASS64, elf.EM_X86_64}:  "/haswell/haswell",
		{elf.ELFCLASS32, elf.EM_386}:     "/i686/i686",
		{elf.ELFCLASS64, elf.EM_AARCH64}: "/aarch64/aarch64",
	} {
		l := loader{machine: m}
		if got := l.expand("/$PLATFORM/${PLATFORM}", "", longest); got != want {
			t.Errorf("%v: %q, want %q", m, got, want)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	for b.Loop() {
		if _, err := New(host.New("")).Resolve("/usr/bin/curl"); err != nil {
			b.Fatal(err)
		}
	}
}

// All that is installed, by one Resolver.
func BenchmarkAll(b *testing.B) {
	files := installed(b)
	for b.Loop() {
		r := New(host.New(""))
		for _, name := range files {
			_, _ = r.Resolve(name)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(files)), "µs/file")
}
