package jailtree

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

// A chain of more links than are followed leads nowhere: what an archive has behind one,
// a name of a file of its own above all, is not made out of the tree.
func TestArchiveTooManyLinks(t *testing.T) {
	for _, kind := range []string{"same a0/x /0", "file 644 a0/x", "dir 755 a0/x/", "link a0/x y", "same a0/d/x /0"} {
		b := newBench(t)
		outside := b.host + "/outside"
		do(t, os.Mkdir(outside, 0o755))
		do(t, os.Mkdir(outside+"/d", 0o755))
		lines := []string{"file 644 0 evil"}
		for i := range 41 {
			lines = append(lines, fmt.Sprintf("link a%d a%d", i, i+1))
		}
		b.tar(t, append(lines, "link a41 "+outside, kind))
		b.put(t, b.archive(), read(t, b.archive()), 0o600)
		b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: b.archive()}
		s := b.open(t)
		_, err := s.Build(t.Context(), b.building())
		if _, told := err.(Problems); !told {
			t.Errorf("%s: %v", kind, err)
		}
		s.Close()
		for _, dir := range []string{outside, outside + "/d"} {
			names, _ := os.ReadDir(dir)
			if len(names) > 1 || len(names) == 1 && names[0].Name() != "d" {
				t.Errorf("%s: outside is %v", kind, names)
			}
		}
	}
}

// ofArchive asks for an archive of a user's, of lines as in a host.
func (b *bench) ofArchive(t *testing.T, lines []string) {
	t.Helper()
	b.tar(t, lines)
	b.put(t, b.archive(), read(t, b.archive()), 0o600)
	b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: b.archive()}
}

// chains are links that lead to each other below 2000 directories: 64 KB when compressed.
// End is of their targets.
func chains(n int, end string) []string {
	deep := strings.Repeat("a/", 2000)
	var lines []string
	for i := range 38 {
		lines = append(lines, fmt.Sprintf("link %sd%d /%sd%d%s", deep, i, deep, i+1, end))
	}
	lines = append(lines, "link "+deep+"d38 /"+deep, "link top "+deep+"d0")
	for i := range n {
		lines = append(lines, fmt.Sprintf("link s%d top", i))
	}
	return lines
}

// Whoever makes an archive can have root go a long way for little, but not for hours.
func TestCostlyArchive(t *testing.T) {
	deep := strings.Repeat("a/", 2000)
	many := func(line string, n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf(line, i))
		}
		return all
	}
	for name, lines := range map[string][]string{
		"chains":             chains(5_000, ""),
		"slower chains":      chains(5_000, "/."),
		"behind chains":      append(chains(0, ""), many("file 644 top/%d", 3_000)...),
		"behind slower ones": append(chains(0, "/."), many("file 644 top/%d", 3_000)...),
		"files":              many("file 644 "+deep+"f%d", 3_000),
		"directories":        many("dir 755 "+deep+"f%d/", 3_000),
		"directories of one": many("file 644 %d/"+deep+"f", 200),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.spec.Exclude = []contents.Path{path1("/x"), path1("/y*"), path1("/usr/share/doc")}
			b.ofArchive(t, lines)
			start := time.Now()
			plan, err := b.plan()
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if _, told := err.(Problems); err != nil && !told || err == nil && len(plan.Entries) < 2000 {
				t.Error(err)
			}
		})
	}
}

// A plan ends with its context, whatever it is about.
func TestPlanCancelled(t *testing.T) {
	b := newBench(t)
	h := b.building().Host
	b.ofArchive(t, chains(10_000, "/."))
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	start := time.Now()
	_, err := Make(ctx, b.spec, h)
	if took := time.Since(start); err != context.DeadlineExceeded || took > 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cancelled")
	cancel(cause)
	b.spec.Paths = []contents.Path{path1("/usr"), path1("/none")}
	for _, archive := range []*contents.Path{b.spec.Archive, nil} {
		b.spec.Archive = archive
		if plan, err := Make(ctx, b.spec, h); err != cause {
			t.Errorf("%v, %v", plan, err)
		}
	}
	if asked := h.Files.Asked(); len(asked) > 10 {
		t.Errorf("it asked for %d", len(asked))
	}
}

// A user's program names many shared objects, which it may load from many directories:
// neither memory nor what is noted grows by the product.
func TestManyBeside(t *testing.T) {
	b := newBare(t)
	b.make(t, b.host, "elf 0755 /lib64/ld-linux-x86-64.so.2")
	at := b.host + "/home/mallory/"
	do(t, os.MkdirAll(at, 0o755))
	cc := func(text, out string, args ...string) {
		cmd := exec.Command("gcc", append([]string{"-nostdlib", "-Wl,--no-as-needed", "-x", "c", "-", "-x", "none", "-o", out}, args...)...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cc("", at+"lib.so", "-shared", "-fPIC")
	var rpath string
	var args []string
	for i := range 30 {
		dir := fmt.Sprint(i)
		do(t, os.Mkdir(at+dir, 0o755))
		do(t, os.WriteFile(at+dir+"/n"+dir, []byte(read(t, at+"lib.so")), 0o755))
		rpath += ":$ORIGIN/" + dir
		args = append(args, "-L"+at+dir, "-l:n"+dir)
	}
	do(t, os.WriteFile(at+"29/libq7.so", []byte(read(t, at+"lib.so")), 0o755))
	program := func(name string, n int) {
		text := ""
		for i := range n {
			text += fmt.Sprintf("libq%d.so\\0", i)
		}
		cc(`__attribute__((used)) const char names[] = "`+text+`"; void _start(void) {}`, at+name, append(args, "-Wl,-rpath,"+rpath[1:])...)
	}
	program("some", 300)
	program("many", 4000)
	for name, want := range map[string]bool{"some": true, "many": false} {
		for _, uid := range []int{mallory, 0} {
			if name == "many" && uid == 0 {
				continue
			}
			b.give(t, "/home/mallory", uid)
			building := b.building()
			b.spec.Paths = []contents.Path{path1("/home/mallory/" + name)}
			plan, err := Make(t.Context(), b.spec, building.Host)
			do(t, err)
			has := slices.ContainsFunc(plan.Entries, func(e Entry) bool { return string(e.Path) == "/home/mallory/29/libq7.so" })
			noted := slices.ContainsFunc(plan.Notes, func(n string) bool { return strings.Contains(n, "too many names") })
			if has != want || noted == want {
				t.Errorf("%s: has it: %v, noted: %v", name, has, noted)
			}
			if asked := len(building.Files.Asked()); uid != 0 && asked > 1000 {
				t.Errorf("%s: %d were asked about", name, asked)
			}
		}
	}
}

// The zeros of an archive take no room on the disk, and are there.
func TestZerosOfArchive(t *testing.T) {
	b := newBench(t)
	zeros := strings.Repeat("\x00", 8<<20)
	texts := map[string]string{"all": zeros, "middle": "a" + zeros + "b", "end": "a" + zeros, "none": "ab", "one": "\x00", "nothing": ""}
	f, err := os.Create(b.archive())
	do(t, err)
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for name, text := range texts {
		do(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		do(t, err)
	}
	do(t, w.Close(), z.Close(), f.Close())
	b.put(t, b.archive(), read(t, b.archive()), 0o600)
	b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: b.archive()}
	b.build(t)
	for name, text := range texts {
		if read(t, b.root+"/"+name) != text {
			t.Errorf("%s is another", name)
		}
		var st unix.Stat_t
		do(t, unix.Lstat(b.root+"/"+name, &st))
		if st.Blocks*512 > 2<<20 {
			t.Errorf("%s takes %d bytes", name, st.Blocks*512)
		}
	}
	if found := b.verify(t); len(found) > 0 {
		t.Error(found)
	}
}

// Files and directories two thousand directories down, of a user's, take as long to plan
// as others, or a little more.
func TestDeepDirectory(t *testing.T) {
	b := newBench(t)
	name := b.host + "/home/mallory"
	do(t, os.MkdirAll(name, 0o755))
	fd, err := unix.Open(name, unix.O_PATH, 0)
	do(t, err)
	for range (4000 - len(name)) / 2 {
		do(t, unix.Mkdirat(fd, "a", 0o755))
		next, err := unix.Openat(fd, "a", unix.O_PATH, 0)
		do(t, err, unix.Close(fd))
		fd = next
	}
	for i := range 500 {
		do(t, unix.Mkdirat(fd, fmt.Sprint("d", i), 0o755))
		do(t, unix.Symlinkat("x", fd, fmt.Sprintf("d%d/link", i)))
		do(t, unix.Symlinkat("x", fd, fmt.Sprint("link", i)))
	}
	do(t, unix.Close(fd))
	b.spec.Paths = []contents.Path{path1("/home/mallory")}
	start := time.Now()
	plan, err := b.plan()
	do(t, err)
	if took := time.Since(start); took > 15*time.Second || len(plan.Entries) < 3000 {
		t.Errorf("%d after %v", len(plan.Entries), took)
	}
}
