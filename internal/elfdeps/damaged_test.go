package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/host"
)

// Crafted files end in an error of one line, soon and with little memory.
func TestDamaged(t *testing.T) {
	le := binary.LittleEndian
	needed := entry{elf.DT_NEEDED, "liba.so", 0}
	many := func(n int, e entry) []entry { return slices.Repeat([]entry{e}, n) }
	// The program headers of an image: its strings, its dynamic section twice, the interpreter.
	prog := func(b []byte, i, field int) []byte { return b[64+56*i+field:] }
	const offset, vaddr, filesz, memsz = 8, 16, 32, 40
	var dirs strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&dirs, "/%s:", strings.Repeat("./", i%7))
	}

	for name, c := range map[string]struct {
		image image
		size  int64  // of the file, the rest a hole
		want  string // "" for none
	}{
		"sound":              {image: image{interp: ld64, dynamic: []entry{needed}}},
		"cut in the headers": {image{change: func(b []byte) { le.PutUint64(b[0x20:], 1<<40) }}, 0, "cut short"},
		"more sections than fit": {image{change: func(b []byte) {
			le.PutUint64(b[0x28:], 1<<20)
			le.PutUint16(b[0x3c:], 0xffff)
		}}, 0, ""},
		"sections by the billion": {image{change: func(b []byte) {
			le.PutUint64(b[0x28:], imageText+1)
			le.PutUint64(b[imageText+1+32:], 1<<32)
		}, data: strings.Repeat("\x00", 100)}, 1 << 40, ""},
		"program headers by the gigabyte": {image{change: func(b []byte) {
			le.PutUint16(b[0x36:], 0xffff)
			le.PutUint16(b[0x38:], 0xffff)
		}}, 1 << 40, "program headers"},
		"too many program headers": {image{change: func(b []byte) { le.PutUint16(b[0x38:], 0xffff) }}, 1 << 40, "65535 program headers"},
		"a class that is none":     {image{change: func(b []byte) { b[elf.EI_CLASS] = 7 }}, 0, "class"},
		"an order that is none":    {image{change: func(b []byte) { b[elf.EI_DATA] = 7 }}, 0, "encoding"},
		"a dynamic section without end": {image{change: func(b []byte) {
			for i := 1; i < 3; i++ {
				le.PutUint64(prog(b, i, filesz), 1<<39)
				le.PutUint64(prog(b, i, memsz), 1<<39)
			}
		}}, 1 << 40, "a dynamic section of"},
		"a dynamic section of as many needs as it can have": {image{dynamic: many(65_000, needed)}, 0, ""},
		"a dynamic section elsewhere":                       {image{change: func(b []byte) { le.PutUint64(prog(b, 2, vaddr), 1<<40) }}, 0, "address 0x10000000000"},
		"a segment beyond all files":                        {image{change: func(b []byte) { le.PutUint64(prog(b, 1, offset), 1<<63-1) }}, 0, "cut short"},
		"a segment beyond this one":                         {image{change: func(b []byte) { le.PutUint64(prog(b, 1, offset), 1<<40) }}, 0, "cut short"},
		"a name outside":                                    {image{dynamic: []entry{{elf.DT_NEEDED, "", 1 << 30}}}, 0, "not in the file"},
		"a name longer than any": {image{dynamic: []entry{{elf.DT_NEEDED, strings.Repeat("a", 65_000), 0}}, change: func(b []byte) {
			copy(b[imageText+1:imagePage], bytes.Repeat([]byte("a"), imagePage))
		}}, 0, "does not end"},
		"a name of nothing": {image{dynamic: []entry{{elf.DT_NEEDED, "", 0}}}, 0, "without a name"},
		"long names, many times": {image{dynamic: append([]entry{{elf.DT_NEEDED, strings.Repeat("a", 60_000), 0}},
			many(60_000, entry{elf.DT_NEEDED, "", 1})...)}, 0, "too long"},
		"places by the billion":            {image{interp: ld64, dynamic: append(many(5_000, needed), entry{elf.DT_RPATH, dirs.String()[:50_000], 0})}, 0, "too many places"},
		"an interpreter without a name":    {image{interp: ld64, change: func(b []byte) { le.PutUint64(prog(b, 3, filesz), 1) }}, 0, "of 1 bytes"},
		"an interpreter of too many bytes": {image{interp: ld64, change: func(b []byte) { le.PutUint64(prog(b, 3, filesz), 5000) }}, 0, "of 5000 bytes"},
		"an interpreter that does not end": {image{interp: ld64, change: func(b []byte) { le.PutUint64(prog(b, 3, filesz), 5) }}, 0, "not an absolute path"},
		"an interpreter beyond the file":   {image{interp: ld64, change: func(b []byte) { le.PutUint64(prog(b, 3, offset), 1<<40) }}, 0, "cut short"},
		"an interpreter of many lines":     {image{interp: "x\ny"}, 0, `"x\ny"`},
		"constant data by the terabyte":    {image{change: func(b []byte) { le.PutUint64(prog(b, 0, filesz), 1<<39) }}, 1 << 40, ""},
		"constant data by the gigabyte, a thousand times": {image{change: func(b []byte) {
			le.PutUint64(prog(b, 0, filesz), 1<<30)
			le.PutUint64(b[0x20:], 0x1000) // e_phoff
			le.PutUint16(b[0x38:], 1002)
			copy(b[0x1000:], bytes.Repeat(b[64:][:56], 1000))
			copy(b[0x1000+56*1000:], b[64+56:][:2*56])
		}}, 1 << 40, ""},
		"names for dlopen by the hundred thousand": {image{data: strings.Repeat("liba.so\x00", 7_000), change: func(b []byte) {
			for i := range 4 {
				copy(prog(b, i, 0)[:56], b[64:])
			}
			le.PutUint16(b[0x38:], 4)
		}}, 0, "more than 10000 names"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, "f\ng")
			write(t, file, c.image.bytes())
			if c.size > 0 {
				if err := os.Truncate(file, c.size); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			o, err := New(host.New(root)).Resolve("/f\ng")
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "":
			case err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n"):
				t.Errorf("%v, want %s; %+v", err, c.want, o)
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 200 || took > 20*time.Second {
				t.Errorf("%d megabytes, %v", used, took)
			}
		})
	}

	whole := image{interp: ld64, dynamic: []entry{needed, {elf.DT_RUNPATH, "/opt", 0}}}.bytes()
	for n := range whole {
		if _, err := parse(bytes.NewReader(whole[:n]), int64(n)); err == nil {
			t.Fatalf("%d bytes of %d are enough", n, len(whole))
		}
	}
}

// An interpreter of the file's own says what $LIB is, and the file how often: neither
// makes much of little.
func TestLongLib(t *testing.T) {
	for name, c := range map[string]struct{ dirs, rpath string }{
		"of a megabyte":     {"/lib" + strings.Repeat("A", 1<<20) + "/\x00", "/" + strings.Repeat("$LIB", 12_000)},
		"of a path's size":  {"/lib" + strings.Repeat("A", 4000) + "/\x00", "/" + strings.Repeat("$LIB", 12_000)},
		"in many paths":     {"/lib" + strings.Repeat("A", 4000) + "/\x00", strings.Repeat("/$LIB:", 8_000)},
		"among a million":   {strings.Repeat("/lib/\x00", 1<<20), "/$LIB"},
		"in a name":         {"/lib" + strings.Repeat("A", 4000) + "/\x00", ""},
		"a long name":       {"/lib/\x00", "/:/ld"},
		"as many as fit in": {strings.Repeat("/lib"+strings.Repeat("A", 4000)+"/\x00", 2_000), "/$LIB"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			needed := entry{elf.DT_NEEDED, "x.so", 0}
			if c.rpath == "" {
				needed.text = "/" + strings.Repeat("$LIB", 12_000)
			}
			if name == "a long name" {
				needed.text = strings.Repeat("x", 50_000)
			}
			write(t, root+"/ld", append(image{}.bytes(), "\x00"+c.dirs...))
			write(t, root+"/p", image{interp: "/ld", dynamic: []entry{needed, {elf.DT_RUNPATH, c.rpath, 0}}}.bytes())
			h := host.New(root)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			o, err := New(h).Resolve("/p")
			runtime.ReadMemStats(&after)
			if err != nil || len(o.Missing) != 1 {
				t.Errorf("%+v, %v", o, err)
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 100 {
				t.Errorf("%d megabytes", used)
			}
			if n := len(h.Asked()); n > 1000 {
				t.Errorf("it looked at %d paths", n)
			}
			for at := range h.Asked() {
				if len(at) > longest {
					t.Errorf("it looked at a path of %d bytes", len(at))
				}
			}
		})
	}
}

// cacheOf is an ld.so.cache, as ldconfig would write it.
func cacheOf(levels []string, entries ...cacheEntry) []byte {
	le := binary.LittleEndian
	at := cacheHead + cacheSize*len(entries)
	var text []byte
	str := func(s string) uint32 {
		text = append(append(text, s...), 0)
		return uint32(at + len(text) - len(s) - 1)
	}
	b := append([]byte(newMagic), make([]byte, cacheHead-len(newMagic))...)
	le.PutUint32(b[20:], uint32(len(entries)))
	b[28] = 2
	for _, e := range entries {
		b = le.AppendUint32(b, e.flags)
		b = le.AppendUint32(b, str(filepath.Base(e.path)))
		b = le.AppendUint32(b, str(e.path))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, e.hwcap)
	}
	var names []byte
	for _, l := range levels {
		names = le.AppendUint32(names, str(l))
	}
	b = append(b, text...)
	le.PutUint32(b[32:], uint32(len(b)))
	b = le.AppendUint32(b, extensionMagic)
	b = le.AppendUint32(b, 1)
	for _, n := range []int{levelsTag, 0, len(b) + 16, len(names)} {
		b = le.AppendUint32(b, uint32(n))
	}
	return append(b, names...)
}

func TestCacheLookup(t *testing.T) {
	const ext = extension
	b := cacheOf([]string{"x86-64-v2", "x86-64-v3", "other"},
		cacheEntry{"/2/liba.so", 0x303, ext},
		cacheEntry{"/3/liba.so", 0x303, ext | 1},
		cacheEntry{"/other/liba.so", 0x303, ext | 2},
		cacheEntry{"/none/liba.so", 0x303, ext | 3},
		cacheEntry{"/liba.so", 0x303, 0},
		cacheEntry{"/later/liba.so", 0x303, 0},
		cacheEntry{"/old/libb.so", 0x303, 1 << 1},
		cacheEntry{"/32/libb.so", 3, 0},
		cacheEntry{"/libb.so", 0x303, 0},
		cacheEntry{"/4/libc.so", 0x303, ext | 3<<32},
		cacheEntry{"/3/libc.so", 0x303, ext | 2<<32 | 1},
		cacheEntry{"/libc.so", 0x303, 0},
		cacheEntry{"/3/libd.so", 0x303, ext | 1},
		cacheEntry{"/3/libf.so", 0x303, ext | 1},
		cacheEntry{"/2/libf.so", 0x303, ext},
	)
	c, err := parseCache(b)
	if err != nil {
		t.Fatal(err)
	}
	// Behind the old format, of so many entries that it does not end where this may begin.
	for n := range 3 {
		old := append([]byte(oldMagic), 0, byte(n), 0, 0, 0)
		old = append(old, make([]byte, (12*n+7)&^7)...)
		after := slices.Clone(b)
		extensions := number(b, 32)
		for _, at := range []int{32, extensions + 16, len(b) - 12, len(b) - 8, len(b) - 4} {
			binary.LittleEndian.PutUint32(after[at:], uint32(number(b, at)+len(old)))
		}
		if got, err := parseCache(append(old, after...)); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("behind %d entries: %+v, %v", n, got, err)
		}
	}
	v := cpuLevels
	for _, l := range []struct {
		name    string
		levels  []string
		path    string
		leveled bool
	}{
		{"liba.so", v, "/3/liba.so", true},
		{"liba.so", v[1:], "/3/liba.so", true},
		{"liba.so", v[2:], "/2/liba.so", true},
		{"liba.so", nil, "/liba.so", true},
		{"libb.so", v, "/libb.so", false},
		{"libc.so", v, "/3/libc.so", true},
		{"libc.so", v[1:], "/3/libc.so", true},
		{"libc.so", v[2:], "/libc.so", true}, // what is in v2 says itself that it needs v4
		{"libd.so", v[2:], "", true},
		{"libe.so", v, "", false},
		{"libf.so", v, "/3/libf.so", true},
	} {
		path, leveled := c.lookup(l.name, 0x303, l.levels)
		if path != l.path || leveled != l.leveled {
			t.Errorf("%s with %q: %q %v, want %q %v", l.name, l.levels, path, leveled, l.path, l.leveled)
		}
	}
}

// ldconfig reads this machine's cache the same.
func TestCacheOfMachine(t *testing.T) {
	b, err := os.ReadFile(cachePath)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCache(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/sbin/ldconfig", "-p").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for line := range strings.Lines(string(out)) {
		name, path, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if ok {
			name, _, _ = strings.Cut(name, " ")
			want = append(want, name+" "+path)
		}
	}
	for name, entries := range c.entries {
		for _, e := range entries {
			got = append(got, name+" "+e.path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || len(got) < 20 {
		t.Errorf("%d libraries, ldconfig has %d", len(got), len(want))
	}
	for n := range number(b, 32) + 8 { // after that is also who wrote it
		if _, err := parseCache(b[:n]); err == nil {
			t.Fatalf("%d bytes of %d are enough", n, len(b))
		}
	}
}

func TestCacheDamaged(t *testing.T) {
	tr := tree{t, t.TempDir(), ""}
	tr.copy(ld64, ld64)
	foreign, outside := cacheOf(nil), cacheOf(nil, cacheEntry{"/lib/liba.so", 0x303, 0})
	foreign[28] = bigEndian
	outside[cacheHead+9] = 0xff
	tr.write("/bin/p", string(image{interp: ld64, dynamic: []entry{{elf.DT_NEEDED, "liba.so", 0}}}.bytes()))
	for text, want := range map[string]string{
		"":                                     "its format",
		"\nrubish":                             "its format",
		"ld.so-1.7.0\x00\xff\xff\xff\xff":      "damaged",
		newMagic + strings.Repeat("\xff", 100): "damaged",
		strings.Repeat("x", 17<<20):            "more than",
		string(cacheOf(nil))[:cacheHead] + "xxxx": "damaged",
		string(foreign): "damaged",
		string(outside): "damaged",
	} {
		tr.write(cachePath, text)
		_, err := New(host.New(tr.root)).Resolve("/bin/p")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	if err := os.Remove(tr.root + cachePath); err != nil {
		t.Fatal(err)
	}
	tr.write("/etc/ld.so.conf", "include /etc/loop/*\n")
	for i := range maxConfs + 1 {
		tr.write(fmt.Sprintf("/etc/loop/%d", i), "include /etc/loop/* /etc/ld.so.conf\n")
	}
	if _, err := New(host.New(tr.root)).Resolve("/bin/p"); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Error(err)
	}
	tr.write("/etc/ld.so.conf", "include /etc/[\n")
	if _, err := New(host.New(tr.root)).Resolve("/bin/p"); err == nil || !strings.Contains(err.Error(), "pattern") {
		t.Error(err)
	}
	tr.write("/etc/ld.so.conf", "include loop\n")
	if err := unix.Mkfifo(tr.root+"/etc/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	tr.write("/etc/ld.so.conf", "include fifo\n")
	if _, err := New(host.New(tr.root)).Resolve("/bin/p"); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Error(err)
	}
}

// FuzzResolve: no file makes the resolver fail otherwise than with a line.
func FuzzResolve(f *testing.F) {
	for _, m := range []image{
		{interp: ld64, dynamic: []entry{{elf.DT_NEEDED, "liba.so", 0}, {elf.DT_RUNPATH, "$ORIGIN:/lib", 0}}, data: "libb.so.1"},
		{interp: ldMusl, dynamic: []entry{{elf.DT_NEEDED, "libc.so", 0}, {elf.DT_RPATH, "${ORIGIN}:/$LIB", 0}}},
		{dynamic: []entry{{elf.DT_NEEDED, "/bin/f", 0}, {elf.DT_AUXILIARY, "f", 0}, {elf.DT_FILTER, "g", 0}, {elf.DT_SONAME, "f", 0}, {elf.DT_RPATH, "/bin", 0}}},
		{dynamic: []entry{{elf.DT_FLAGS_1, "", uint64(elf.DF_1_PIE)}}},
		{class: elf.ELFCLASS32, machine: elf.EM_386, dynamic: []entry{{elf.DT_NEEDED, "libc.so.6", 0}}},
	} {
		// As small as it can be: the dynamic section need not be on a page of its own.
		f.Add(m.small())
	}
	// In memory: a disk that others use would have it wait.
	root, err := os.MkdirTemp("/dev/shm", "elfdeps")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(root) })
	write(f, root+"/lib/liba.so", image{dynamic: []entry{{elf.DT_NEEDED, "f", 0}, {elf.DT_RUNPATH, "/bin", 0}}}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		write(t, root+"/bin/f", b)
		o, err := New(host.New(root)).Resolve("/bin/f")
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("more than a line: %q", err)
		}
		if o == nil {
			return
		}
		for _, l := range o.Libraries {
			if !filepath.IsAbs(l.Path) || l.Name == "" || !filepath.IsAbs(l.By) {
				t.Fatalf("%q", l)
			}
		}
		if f, err := parse(bytes.NewReader(b), int64(len(b))); err != nil || f.kind != o.Kind {
			t.Fatalf("%+v, %v", f, err)
		}
	})
}

func FuzzCache(f *testing.F) {
	b := cacheOf([]string{"x86-64-v2"}, cacheEntry{"/a/liba.so", 0x303, extension}, cacheEntry{"/liba.so", 0x303, 0}, cacheEntry{"/libb.so", 3, 0})
	f.Add(b)
	old := append([]byte(oldMagic+"\x00"), 1, 0, 0, 0)
	f.Add(append(append(old, make([]byte, 12+4)...), b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCache(b)
		if err != nil {
			if errors.Is(err, errDamaged) == strings.Contains(err.Error(), "format") {
				t.Fatal(err)
			}
			return
		}
		for name, entries := range c.entries {
			for _, e := range entries {
				if path, _ := c.lookup(name, e.flags, cpuLevels); strings.Contains(name+path, "\x00") {
					t.Fatalf("%q: %q", name, path)
				}
			}
		}
	})
}

// What those on whose behalf it is asked may not read is not read, and is as if it were
// not there; nor is anything that the kernel makes up.
func TestMay(t *testing.T) {
	tr := tree{t, t.TempDir(), ""}
	tr.copy(ld64, "/priv/ld")
	put := func(name string, m image) { tr.write(name, string(m.bytes())) }
	needs := func(name, dir string) []entry {
		return []entry{{elf.DT_NEEDED, name, 0}, {elf.DT_RUNPATH, dir, 0}}
	}
	put("/bin/p", image{interp: "/priv/ld", dynamic: needs("liba.so", "/priv:/open")})
	put("/bin/q", image{interp: "/priv/ld", dynamic: needs("/priv/liba.so", "/open")})
	put("/bin/m", image{interp: "/m/lib/ld-musl-x86_64.so.1", dynamic: []entry{{elf.DT_NEEDED, "libb.so", 0}}})
	put("/priv/liba.so", image{dynamic: needs("libsecret.so", "/")})
	put("/open/liba.so", image{dynamic: needs("libb.so", "/open")})
	put("/open/libb.so", image{})
	put("/m/lib/ld-musl-x86_64.so.1", image{})
	tr.write("/m/etc/ld-musl-x86_64.path", "/open")
	h := host.New(tr.root)
	r := New(h)
	var asked []string
	may := func(real string) bool {
		asked = append(asked, real)
		return !strings.HasPrefix(real, "/priv/") && !strings.HasSuffix(real, ".path")
	}
	check := func(name string, may func(string) bool, want, missing string) {
		t.Helper()
		r.May = may
		o, err := r.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		var found, gone []string
		for _, l := range o.Libraries {
			found = append(found, l.Path)
		}
		for _, m := range o.Missing {
			gone = append(gone, m.Name)
		}
		if strings.Join(found, " ") != want || strings.Join(gone, " ") != missing {
			t.Errorf("%s: %q, %q; want %q, %q", name, found, gone, want, missing)
		}
	}
	for range 2 { // another time, with what is known from the first
		check("/bin/p", may, "/open/liba.so /open/libb.so", "/priv/ld")
		check("/bin/q", may, "", "/priv/ld /priv/liba.so")
		check("/bin/m", may, "", "libb.so")
		check("/bin/p", nil, "/priv/liba.so", "libsecret.so")
		r.loaders = map[string]*loader{}
		check("/bin/m", nil, "/open/libb.so", "")
		r.loaders = map[string]*loader{}
	}
	if slices.Contains(asked, "/bin/p") || !slices.Contains(asked, "/priv/ld") {
		t.Errorf("asked about %q", asked)
	}

	r = New(host.New(""))
	put("/bin/kernel", image{interp: "/proc/version", dynamic: needs("/proc/cpuinfo", "/sys")})
	check(tr.root+"/bin/kernel", nil, "", "/proc/version /proc/cpuinfo")
	cause := errors.New("ended")
	r.Ended = func() error { return cause }
	if _, err := r.Resolve(tr.root + "/bin/kernel"); !errors.Is(err, cause) {
		t.Error(err)
	}
}

// What looks like names for dlopen again and again takes no more time than other data,
// and one file under many names no more than under one.
func TestManyNames(t *testing.T) {
	long := strings.Repeat("lib.a+", 680) + ".so.x\x00"
	for name, unit := range map[string]string{
		"no end": ".so", "long": long, "an end after many": strings.Repeat(".so", 5000) + "\x00",
	} {
		data := bytes.Repeat([]byte(unit), 8<<20/len(unit))
		f := &file{size: int64(len(data)), constant: []elf.ProgHeader{{Filesz: uint64(len(data))}}}
		start := time.Now()
		names, err := f.names(bytes.NewReader(data), make([]byte, 256<<10), func() error { return nil })
		if took := time.Since(start); took > 2*time.Second || err != nil || len(names) > 0 {
			t.Errorf("%s: %d names after %v: %v", name, len(names), took, err)
		}
	}
	// A string of any length ends in a path of at most 4095 bytes.
	for n := range 3 {
		b := []byte("\x00" + strings.Repeat("x", n*4000) + ".so/liba.so\x00" + strings.Repeat("y", 5000) + "/libb.so.1\x00libc.so")
		if got := appendNames(nil, b); !slices.Equal(got, []string{"liba.so", "libb.so.1"}) {
			t.Errorf("%q", got)
		}
	}
	if got := appendNames(nil, []byte("lib"+strings.Repeat("x", 250)+".so\x00lib"+strings.Repeat("x", 249)+".so\x00")); len(got) != 1 {
		t.Errorf("%q", got)
	}

	root := t.TempDir()
	write(t, root+"/a", image{data: "liba.so"}.bytes())
	r := New(host.New(root))
	for i := range 10 {
		name := fmt.Sprintf("/%d", i)
		if err := os.Link(root+"/a", root+name); err != nil {
			t.Fatal(err)
		}
		if o, err := r.Resolve(name); err != nil || !slices.Equal(o.Dlopen, []string{"liba.so"}) || o.Path != name {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if len(r.files) != 1 {
		t.Errorf("%d files were read", len(r.files))
	}
}

// What is looked for on behalf of users is bounded for all of their files together.
func TestUsersSteps(t *testing.T) {
	root := t.TempDir()
	var dirs strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&dirs, "/%s:", strings.Repeat("./", i%7))
	}
	m := image{dynamic: append(slices.Repeat([]entry{{elf.DT_NEEDED, "x.so", 0}}, 8), entry{elf.DT_RPATH, dirs.String()[:50_000], 0})}
	write(t, root+"/a", m.bytes())
	r := New(host.New(root))
	r.May = func(string) bool { return true }
	var err error
	n := 0
	for ; n < 200 && err == nil; n++ {
		_, err = r.Resolve("/a")
	}
	if err == nil || !strings.Contains(err.Error(), "too many places") {
		t.Errorf("after %d: %v", n, err)
	}
	r.May = nil
	if _, err := r.Resolve("/a"); err != nil {
		t.Error(err)
	}
}
