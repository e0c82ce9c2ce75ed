package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// result is a member with its content.
type result struct {
	Member
	Text string
}

// readAll reads an archive and checks what every reading promises.
func readAll(name string, most limits) ([]result, error) {
	var all []result
	kinds := map[string]Kind{}
	others, late, files := false, false, false
	err := read(context.Background(), name, most, func(m Member, content io.Reader) error {
		g := result{Member: m}
		switch {
		case m.Path != path.Clean("/"+m.Path) || strings.ContainsRune(m.Path, 0):
			return fmt.Errorf("path %q", m.Path)
		case kinds[m.Path] != 0:
			return fmt.Errorf("path %q came twice", m.Path)
		case m.Kind == HardLink && kinds[m.Target] != Regular:
			return fmt.Errorf("%q is a link to %q, which did not come", m.Path, m.Target)
		case m.Kind == Directory && others && !led(kinds, m.Path):
			return fmt.Errorf("directory %q came late", m.Path)
		case files && (m.Kind == Directory || m.Kind == Symlink && late):
			return fmt.Errorf("%q came after files", m.Path)
		case (m.Kind == Regular) != (content != nil):
			return fmt.Errorf("content of %q: %v", m.Path, content)
		}
		if m.Kind == Directory {
			for p := range kinds {
				if strings.HasPrefix(p, strings.TrimRight(m.Path, "/")+"/") {
					return fmt.Errorf("%q came before %q", p, m.Path)
				}
			}
		}
		late = late || m.Kind == Directory && others
		others = others || m.Kind != Directory
		files = files || others && m.Kind != Directory && m.Kind != Symlink
		kinds[m.Path] = m.Kind
		if content != nil {
			b, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			if int64(len(b)) != m.Size {
				return fmt.Errorf("%q has %d bytes and not %d", m.Path, len(b), m.Size)
			}
			g.Text = string(b)
		}
		all = append(all, g)
		return nil
	})
	return all, err
}

// led tells whether a path is beneath a symbolic link.
func led(kinds map[string]Kind, name string) bool {
	for ; name != "/"; name = path.Dir(name) {
		if kinds[path.Dir(name)] == Symlink {
			return true
		}
	}
	return false
}

// short writes members in a line each: what a test compares.
func short(all []result) []string {
	lines := []string{}
	for _, g := range all {
		switch g.Kind {
		case Directory:
			lines = append(lines, g.Path+" directory")
		case Regular:
			lines = append(lines, g.Path+" "+g.Text)
		case Symlink:
			lines = append(lines, g.Path+" -> "+g.Target)
		case HardLink:
			lines = append(lines, g.Path+" = "+g.Target)
		case Other:
			lines = append(lines, g.Path+" "+g.What)
		}
	}
	return lines
}

// member is a header for pack, with content if it is regular.
type member struct {
	tar.Header
	text string
}

func regular(name, text string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}, text}
}

func dir(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func symlink(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func link(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// pack makes a tar file.
func pack(t fataler, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatalf("%q: %v", m.Name, err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// put writes a file into a directory of the test's own.
func put(t testing.TB, b []byte) string {
	t.Helper()
	name := t.TempDir() + "/image.bin"
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// run runs a program with that input and returns its output.
func run(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, errs.String())
	}
	return out
}

var compressors = map[string][]string{
	"plain": {"cat"}, "gzip": {"gzip", "-c"}, "bzip2": {"bzip2", "-c"}, "xz": {"xz", "-c"}, "xz -9e --x86": {"xz", "-c", "--x86", "--lzma2=preset=9"},
	"zstd": {"zstd", "-qc"}, "zstd --long": {"zstd", "-qc", "--long=27"},
}

// onDisk is what lies in a directory, as readAll would tell it, but in its own order
// and without hard links: each name of a file has its text.
func onDisk(t fataler, root string) []string {
	var lines []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p := path.Clean("/" + strings.TrimPrefix(name, root))
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := fmt.Sprintf("%s %s ", p, info.Mode())
		switch {
		case d.IsDir():
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			mode += target
		case d.Type().IsRegular():
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			mode += string(b)
		}
		lines = append(lines, mode)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// withoutImplied leaves out the directories that no member is.
func withoutImplied(lines []string, all []result) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		p, mode, _ := strings.Cut(line, " ")
		return mode[0] == 'd' && !slices.ContainsFunc(all, func(g result) bool { return g.Path == p })
	})
}

// inArchive is the same of what was read. The modes of links are not the archive's.
func inArchive(all []result) []string {
	lines := []string{}
	files := map[string]result{}
	for _, g := range all {
		p := g.Path
		files[p] = g
		if g.Kind == HardLink {
			g = files[g.Target]
		}
		mode := fs.FileMode(g.Mode & 0o777)
		for bit, is := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
			if g.Mode&bit != 0 {
				mode |= is
			}
		}
		text := g.Text
		switch g.Kind {
		case Directory:
			mode |= fs.ModeDir
		case Symlink:
			mode |= fs.ModeSymlink
			text = g.Target
		case Other:
			mode |= fs.ModeNamedPipe
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", p, mode, text))
	}
	slices.Sort(lines)
	return lines
}

// TestRealTar packs a directory with tar and the compressors, under a name that tells
// nothing, and reads it.
func TestRealTar(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("long name ", 20)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "tmp", "usr/" + long + "/" + long} {
		must(os.MkdirAll(root+"/"+d, 0o755))
	}
	for name, text := range map[string]string{
		"bin/sh": strings.Repeat("#!/bin/busybox\n", 60), "etc/$(id);\n`id` \t": "newline", "etc/\xff\xfe": "not UTF-8",
		"etc/é": "UTF-8", "usr/" + long + "/" + long + "/" + long: "deep", "empty": "", "block": strings.Repeat("x", 512), "zeros": strings.Repeat("\x00", 5000),
	} {
		must(os.WriteFile(root+"/"+name, []byte(text), 0o644))
	}
	must(os.Link(root+"/bin/sh", root+"/bin/bash"))
	must(os.Symlink("busybox", root+"/bin/link"))
	must(os.Symlink("/"+long+"/"+long, root+"/bin/long"))
	must(unix.Mkfifo(root+"/tmp/fifo", 0o600))
	must(os.Chmod(root+"/bin/sh", 0o755|fs.ModeSetuid|fs.ModeSetgid))
	must(os.Chmod(root+"/tmp", 0o777|fs.ModeSticky))
	must(unix.Setxattr(root+"/bin/sh", "user.jailctl", []byte("xattr"), 0))
	// A hole of 1 MiB between two pages.
	f, err := os.Create(root + "/sparse")
	must(err)
	_, err = f.WriteString(strings.Repeat("a", 4096))
	must(err)
	_, err = f.WriteAt([]byte(strings.Repeat("z", 4096)), 1<<20)
	must(err)
	must(f.Close())

	want := onDisk(t, root)
	archives := map[string][]string{
		"gnu": {"--format=gnu"}, "oldgnu": {"--format=oldgnu"}, "pax": {"--format=pax"}, "posix with xattrs": {"--format=posix", "--xattrs"},
		"sparse gnu": {"--format=gnu", "--sparse"}, "absolute names": {"--format=pax", "-P", "--transform=s,^[.],/,SH"},
		"incremental": {"--format=gnu", "--listed-incremental=" + t.TempDir() + "/snapshot"}, "label": {"--format=gnu", "--label=a label"},
	}
	for _, v := range []string{"0.0", "0.1", "1.0"} {
		archives["sparse "+v] = []string{"--format=pax", "--sparse", "--sparse-version=" + v}
	}
	for how, args := range archives {
		packed := run(t, nil, "tar", append(args, "-C", root, "-cf", "-", ".")...)
		for compressor, args := range compressors {
			if how != "pax" && compressor != "plain" && compressor != "gzip" {
				continue
			}
			t.Run(how+" "+compressor, func(t *testing.T) {
				all, err := readAll(put(t, run(t, packed, args[0], args[1:]...)), atMost)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, inArchive(all)); d != "" {
					t.Error(d)
				}
			})
		}
	}
	// Where the last member ends is compared with where the file does.
	t.Run("a sparse file comes last", func(t *testing.T) {
		for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
			all, err := readAll(put(t, run(t, nil, "tar", append(args, "--sparse", "-C", root, "-cf", "-", "empty", "sparse")...)), atMost)
			if err != nil || len(all) != 2 || all[1].Size != 1<<20+4096 {
				t.Errorf("%q: %v", args, err)
			}
		}
	})
	t.Run("two compressed files one after the other", func(t *testing.T) {
		packed := run(t, nil, "tar", "-C", root, "-cf", "-", ".")
		for compressor, args := range compressors {
			both := append(run(t, packed[:2000], args[0], args[1:]...), run(t, packed[2000:], args[0], args[1:]...)...)
			all, err := readAll(put(t, both), atMost)
			if err != nil {
				t.Fatal(compressor, err)
			}
			if d := cmp.Diff(want, inArchive(all)); d != "" {
				t.Error(compressor, d)
			}
		}
	})
	t.Run("zstd with a skippable frame", func(t *testing.T) {
		packed := run(t, run(t, nil, "tar", "-C", root, "-cf", "-", "."), "zstd", "-qc")
		if _, err := readAll(put(t, append([]byte("\x5e\x2a\x4d\x18\x03\x00\x00\x00abc"), packed...)), atMost); err != nil {
			t.Error(err)
		}
	})
}

// TestMembers is what is seen of some members: the last of a name, in the order that
// Read promises.
func TestMembers(t *testing.T) {
	device := member{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3, Mode: 0o666}, ""}
	disk := member{tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8}, ""}
	global := member{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "git's"}}, ""}
	for name, c := range map[string]struct {
		in   []member
		want []string
	}{
		"names":                  {[]member{dir("./"), dir("./a/"), regular("./a//b", "1"), regular("/c", "2"), regular("d/./e", "3")}, []string{"/ directory", "/a directory", "/a/b 1", "/c 2", "/d/e 3"}},
		"the last one wins":      {[]member{regular("a", "1"), regular("b", "2"), regular("./a", "3")}, []string{"/b 2", "/a 3"}},
		"a directory comes late": {[]member{regular("a/b/c", "1"), dir("a/b"), symlink("0", "x"), dir("a")}, []string{"/a directory", "/a/b directory", "/a/b/c 1", "/0 -> x"}},
		"a directory again":      {[]member{dir("a"), regular("a/b", "1"), dir("a")}, []string{"/a directory", "/a/b 1"}},
		"file after directory":   {[]member{dir("a"), regular("a/b", "1"), regular("a", "2")}, []string{"/a 2"}},
		"link after directory":   {[]member{regular("a/b", "1"), symlink("a", "2")}, []string{"/a -> 2"}},
		"directory after link":   {[]member{symlink("a", "c"), regular("a/b", "1"), dir("a")}, []string{"/a directory"}},
		"beneath a link":         {[]member{symlink("lib", "usr/lib"), regular("lib/x", "1"), symlink("lib", "usr/lib")}, []string{"/lib/x 1", "/lib -> usr/lib"}},
		"hard link":              {[]member{regular("b", "1"), link("a", "./b"), link("c", "/a")}, []string{"/b 1", "/a = /b", "/c = /b"}},
		"its name is taken":      {[]member{regular("b", "1"), regular("x", "0"), link("a", "b"), link("c", "b"), regular("b", "2")}, []string{"/a 1", "/x 0", "/c = /a", "/b 2"}},
		"its name is another's":  {[]member{regular("b", "1"), regular("c", "2"), link("b", "c")}, []string{"/c 2", "/b = /c"}},
		"its name is gone":       {[]member{regular("a/b", "1"), link("c", "a/b"), symlink("a", "x")}, []string{"/c 1", "/a -> x"}},
		"link to itself":         {[]member{regular("b", "1"), link("b", "b"), regular("c", "2")}, []string{"/b 1", "/c 2"}},
		"hard link to symlink":   {[]member{symlink("b", "x"), link("a", "b")}, []string{"/b -> x", "/a -> x"}},
		"devices":                {[]member{device, disk}, []string{"/dev/null character device 1:3", "/dev/sda block device 8:0"}},
		"a remark":               {[]member{global, regular("a", "1")}, []string{"/a 1"}},
		"not a whiteout":         {[]member{regular("a/b", "1"), regular("a/.wh.b", ""), regular("a/.wh..wh..opq", "")}, []string{"/a/b 1", "/a/.wh.b ", "/a/.wh..wh..opq "}},
		"begins like bzip2":      {[]member{regular("BZh9 1AY&S", "1")}, []string{"/BZh9 1AY&S 1"}},
		"an image's names":       {[]member{dir("oci-layout"), regular("index.json", "1"), regular("manifest.json", "2")}, []string{"/oci-layout directory", "/index.json 1", "/manifest.json 2"}},
		"Docker's names":         {[]member{regular(strings.Repeat("0a", 32)+".json", "1")}, []string{"/" + strings.Repeat("0a", 32) + ".json 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := readAll(put(t, pack(t, c.in...)), atMost)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, short(all)); d != "" {
				t.Error(d)
			}
		})
	}
}

// retyped is a tar file whose first member has another type.
func retyped(b []byte, flag byte) []byte {
	b = bytes.Clone(b)
	b[156] = flag
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		name string
		flag byte
		want []string
	}{
		{"a/", tar.TypeReg, []string{"/a directory"}},
		{"a/", 0, []string{"/a directory"}},
		{"a/", 'D', []string{"/a directory"}},
		{"a", tar.TypeCont, []string{"/a "}},
		{"a", 'V', []string{}},
	} {
		h := tar.Header{Typeflag: tar.TypeDir, Name: c.name}
		if c.name == "a" {
			h.Typeflag = tar.TypeReg
		}
		all, err := readAll(put(t, retyped(pack(t, member{h, ""}, regular("b", "1")), c.flag)), atMost)
		if err != nil {
			t.Errorf("%q, %q: %v", c.flag, c.name, err)
		}
		if d := cmp.Diff(append(c.want, "/b 1"), short(all)); d != "" {
			t.Errorf("%q, %q: %s", c.flag, c.name, d)
		}
	}
}

// TestAsTar unpacks archives of random members with tar: where tar does it without an
// error, it is what is read.
func TestAsTar(t *testing.T) {
	base, n, compared := t.TempDir(), 0, 0
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "./a"})
		var members []member
		for i := range rapid.IntRange(1, 12).Draw(t, "members") {
			name := names.Draw(t, "name")
			mode := int64(rapid.SampledFrom([]int{0o755, 0o700, 0o644}).Draw(t, "mode"))
			var m member
			switch rapid.SampledFrom([]string{"file", "file", "directory", "link", "link", "symlink"}).Draw(t, "kind") {
			case "file":
				m = regular(name, fmt.Sprint(i))
				m.Mode = mode
			case "directory":
				m = dir(name)
			case "symlink":
				m = symlink(name, fmt.Sprint(i))
			case "link":
				// Tar takes a link of a directory to itself for done.
				m = link(name, names.Filter(func(n string) bool { return path.Clean(n) != path.Clean(name) }).Draw(t, "target"))
			}
			members = append(members, m)
		}
		n++
		root := fmt.Sprintf("%s/%d", base, n)
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+".tar", pack(t, members...), 0o600); err != nil {
			t.Fatal(err)
		}
		if exec.Command("tar", "-xpf", root+".tar", "-C", root).Run() != nil {
			return
		}
		compared++
		all, err := readAll(root+".tar", atMost)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(withoutImplied(onDisk(t, root), all), inArchive(all)); d != "" {
			t.Fatal(d)
		}
	})
	t.Logf("compared %d of %d", compared, n)
	if compared < 5 {
		t.Errorf("tar unpacked only %d of %d archives", compared, n)
	}
}
