package elfdeps

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// machine is a kind of code, with what the C libraries call it.
type machine struct {
	class elf.Class
	code  elf.Machine
}

var machines = map[machine]struct {
	glibc    string // the loader of programs for it
	musl     string // likewise
	cache    uint32 // the flags of its libraries in ld.so.cache
	platform string // $PLATFORM, AT_PLATFORM in getauxval(3)
}{
	{elf.ELFCLASS64, elf.EM_X86_64}:  {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", 0x303, "x86_64"},
	{elf.ELFCLASS32, elf.EM_386}:     {"/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1", libc6, "i686"},
	{elf.ELFCLASS64, elf.EM_AARCH64}: {"/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1", 0xa03, "aarch64"},
}

// loader is a dynamic loader and what is built into it.
type loader struct {
	machine
	path   string // as programs name it
	real   string
	there  bool
	musl   bool
	soname string
	ino    inode
	cache  uint32   // the flags of its libraries in ld.so.cache
	dirs   []string // where it looks last, each with a slash at its end
	lib    string   // $LIB
	hwcaps bool     // it knows glibc-hwcaps
}

// ErrMachine is of a file for a processor whose loaders are not known here.
var ErrMachine = errors.New("it is for neither x86-64, i386 nor arm64")

// loader finds the loader of a file: its interpreter, or for a shared object that
// names none, the one that programs for the same C library name.
func (r *Resolver) loader(f *file) (*loader, error) {
	m := machine{f.class, f.machine}
	known, ok := machines[m]
	if !ok {
		return nil, ErrMachine
	}
	name := f.interp
	if name == "" {
		name = known.glibc
		if slices.ContainsFunc(f.needed, func(n need) bool { return n.name == "libc.so" || strings.HasPrefix(n.name, "libc.musl-") }) {
			name = known.musl
		} else if _, err := r.host.Real(known.glibc); absent(err) {
			if _, err := r.host.Real(known.musl); err == nil {
				name = known.musl
			}
		}
	}
	if l := r.loaders[name]; l != nil && l.machine == m && (!l.there || r.reads(l.real)) {
		return l, nil
	}
	l := &loader{machine: m, path: name, cache: known.cache, musl: strings.HasPrefix(path.Base(name), "ld-musl-")}
	if err := r.inspect(l); err != nil {
		return nil, fmt.Errorf("its interpreter %q: %v", name, why(err))
	}
	if l.real == "" || l.there {
		r.loaders[name] = l // of others that may not read it, there is no loader
	}
	return l, nil
}

// inspect reads what is built into a loader.
func (r *Resolver) inspect(l *loader) error {
	real, err := r.host.Real(l.path)
	if absent(err) {
		return nil
	} else if err != nil {
		return err
	}
	l.real = real
	if !r.reads(real) {
		return nil // as if it were not there
	}
	self, err := r.file(real)
	if err != nil {
		return err
	}
	info, err := r.host.Lstat(real)
	if err != nil {
		return err
	}
	l.there, l.soname, l.ino = true, self.soname, inode{info.Dev, info.Ino}
	if l.musl {
		l.dirs, err = r.muslDirs(l.path)
		return err
	}
	b, err := r.host.Read(real, 16<<20)
	if err != nil {
		return err
	}
	l.dirs = systemDirs(b)
	l.hwcaps = bytes.Contains(b, []byte(strings.Join(cpuLevels, ":")))
	if len(l.dirs) > 0 {
		l.lib = dollarLib(l.dirs[0])
	}
	return nil
}

// dollarLib is $LIB of a loader with this as its first directory: "lib64" for
// /usr/lib64, and in Debian "lib/TRIPLET".
func dollarLib(dir string) string {
	if lib := strings.Trim(dir, "/"); strings.HasPrefix(lib, "lib") {
		return lib
	}
	return path.Base(dir)
}

// systemDirs finds in a loader of glibc the directories that are built into it:
// strings one after another, each between slashes. No table knows them all: the
// loader for i386 has /lib32 or /lib/i386-linux-gnu, on one and the same system.
func systemDirs(b []byte) []string {
	var best, run []string
	for len(b) > 0 {
		s, rest, _ := bytes.Cut(b, []byte{0})
		b = rest
		// What stands before the first of them need not end in a NUL byte.
		if i := bytes.LastIndexFunc(s, notInPath); i >= 0 {
			s, run = s[i+1:], nil
		}
		if len(s) < 5 || len(s) > longest || s[0] != '/' || s[len(s)-1] != '/' || !bytes.Contains(s, []byte("/lib")) {
			run = nil
			continue
		}
		if len(run) == maxBuiltIn {
			continue
		}
		run = append(run, string(s))
		if len(run) > len(best) {
			best = run
		}
	}
	return best
}

func notInPath(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("/._+-", r)
}

// muslDirs is where musl's loader looks: its path file says, which is found from the
// loader's own path.
func (r *Resolver) muslDirs(loader string) ([]string, error) {
	arch := strings.TrimSuffix(strings.TrimPrefix(path.Base(loader), "ld-musl-"), ".so.1")
	name := path.Join(path.Dir(path.Dir(loader)), "etc/ld-musl-"+arch+".path")
	real, err := r.host.Real(name)
	if err == nil && !r.reads(real) {
		err = fs.ErrNotExist
	}
	var b []byte
	if err == nil {
		b, err = r.host.Read(real, 1<<20)
	}
	if absent(err) {
		b = []byte("/lib:/usr/local/lib:/usr/lib")
	} else if err != nil {
		return nil, err
	}
	return splitMusl(string(b)), nil
}

// splitMusl is a search path of musl, without the parts that depend on the working
// directory.
func splitMusl(s string) []string {
	var dirs []string
	for _, dir := range strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '\n' }) {
		if dir[0] == '/' {
			dirs = append(dirs, dir+"/")
		}
	}
	return dirs
}

var token = regexp.MustCompile(`\$(?:(ORIGIN|LIB|PLATFORM)\b|\{(ORIGIN|LIB|PLATFORM)\})`)

// expand replaces the tokens of ld.so(8) in a path that an object in origin has. What
// would be longer than most is "": 60 KB of tokens, in a file of a user's whose
// interpreter is that user's too, could otherwise stand for gigabytes.
func (l *loader) expand(s, origin string, most int) string {
	if !strings.Contains(s, "$") {
		return s
	}
	if l.musl {
		// Any other use of $ makes musl disregard the whole.
		bare := strings.NewReplacer("${ORIGIN}", "", "$ORIGIN", "").Replace(s)
		if strings.Contains(bare, "$") || len(bare)+strings.Count(s, "$")*len(origin) > most {
			return ""
		}
		return strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(s)
	}
	value := func(t string) string {
		switch strings.Trim(t, "${}") {
		case "ORIGIN":
			return origin
		case "LIB":
			return l.lib
		}
		platform := machines[l.machine].platform
		if l.code == elf.EM_X86_64 && thisCPU().haswell {
			platform = "haswell"
		}
		return platform
	}
	size := len(s)
	for _, t := range token.FindAllString(s, -1) {
		size += len(value(t)) - len(t)
	}
	if size > most {
		return ""
	}
	return token.ReplaceAllStringFunc(s, value)
}

// origin is the directory of an object, from the path as it is: cleaning it could
// change what it means, where there is a link before "..".
func (l *loader) origin(name string) string {
	dir := name[:strings.LastIndexByte(name, '/')]
	if dir == "" && !l.musl {
		return "/"
	}
	return dir
}

// split is a DT_RPATH or DT_RUNPATH as directories, without those that depend on
// the working directory. What is too long to be a path is nowhere, and neither is what
// comes after a megabyte.
func (l *loader) split(s, origin string) []string {
	if l.musl {
		return splitMusl(l.expand(s, origin, maxDynamic))
	}
	var dirs []string
	total := 0
	for _, dir := range strings.Split(s, ":") {
		dir = l.expand(dir, origin, longest)
		if total += len(dir); total > maxDynamic {
			break
		}
		if strings.HasPrefix(dir, "/") {
			dirs = append(dirs, strings.TrimRight(dir, "/")+"/")
		}
	}
	return dirs
}

// cpuLevels are the glibc-hwcaps subdirectories of x86-64, the best first. glibc
// has none for the other machines here.
var cpuLevels = []string{"x86-64-v4", "x86-64-v3", "x86-64-v2"}

// cpu is what decides of a processor which libraries are chosen.
type cpu struct {
	levels  []string
	haswell bool
}

// thisCPU asks the kernel, which is no file of the host.
var thisCPU = sync.OnceValue(func() cpu {
	if runtime.GOARCH != "amd64" {
		return cpu{}
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return cpu{}
	}
	return parseCPU(string(b))
})

// parseCPU reads /proc/cpuinfo of an x86-64. The flags of the levels are those of
// glibc's sysdeps/x86/get-isa-level.h.
func parseCPU(info string) cpu {
	var vendor string
	var flags []string
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "vendor_id":
			vendor = strings.TrimSpace(value)
		case "flags":
			flags = strings.Fields(value)
		}
		if flags != nil {
			break
		}
	}
	has := func(all string) bool {
		return !slices.ContainsFunc(strings.Fields(all), func(f string) bool { return !slices.Contains(flags, f) })
	}
	var c cpu
	for i, needed := range []string{
		"cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2",
		"avx avx2 bmi1 bmi2 f16c fma abm movbe",
		"avx512f avx512bw avx512cd avx512dq avx512vl",
	} {
		if !has(needed) {
			break
		}
		c.levels = cpuLevels[2-i:]
	}
	c.haswell = vendor == "GenuineIntel" && has("avx2 fma bmi1 bmi2 abm movbe popcnt")
	return c
}

// absent tells an error that means: there is nothing under this name.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG)
}

// why is the reason of an error without the path, which it would not quote.
func why(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
