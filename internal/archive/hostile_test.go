package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// refused reads an archive that is to be refused with that in one line of message.
func refused(t *testing.T, name string, most limits, want string) {
	t.Helper()
	all, err := readAll(name, most)
	if err == nil {
		t.Errorf("it was read: %q", short(all))
		return
	}
	file, _ := Split(name)
	said, is := strings.CutPrefix(err.Error(), fmt.Sprintf("archive %q: ", file))
	if !is || !strings.Contains(said, want) || strings.Contains(said, "\n") {
		t.Errorf("%v; want %q", err, want)
	}
	if len(all) > 0 {
		t.Errorf("%q were visited before %v", short(all), err)
	}
}

// named is a regular file with any name, which archive/tar would not write.
func named(t *testing.T, name string) []byte {
	b := pack(t, regular(strings.Repeat("n", len(name)), ""))
	copy(b, name)
	return retyped(b, tar.TypeReg)
}

func TestHostileMembers(t *testing.T) {
	huge := raw(t, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "42949672960,0", "GNU.sparse.size", "42949672960")
	long := strings.Repeat("0123456789/", 372) + "abcd"
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"up":                       {named(t, "../x"), `member "../x": has ".." in its name`},
		"up inside":                {named(t, "a/../../x"), `".."`},
		"up at the end":            {named(t, "a/.."), `".."`},
		"up and down":              {named(t, "a/../b"), `".."`},
		"up, absolute":             {named(t, "/../x"), `".."`},
		"a newline":                {named(t, "a\n/../b"), `member "a\n/../b"`},
		"NUL in a PAX name":        {raw(t, "path", "a\x00b"), "not a tar file"},
		"NUL in a sparse name":     {raw(t, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,0", "GNU.sparse.name", "a\x00b", "GNU.sparse.size", "0"), "NUL"},
		"up in a sparse name":      {raw(t, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,0", "GNU.sparse.name", "a/../../b", "GNU.sparse.size", "0"), `".."`},
		"a long path":              {pack(t, regular(long, "")), "longer name"},
		"a long name":              {pack(t, regular(strings.Repeat("n", 256), "")), "longer name"},
		"the root is a file":       {named(t, "."), "root of the file system"},
		"the root is a link":       {pack(t, symlink("./", "/")), "root of the file system"},
		"beneath a file":           {pack(t, regular("a", "1"), regular("a/b", "2")), `is beneath "/a", which is no directory`},
		"beneath a device":         {pack(t, member{tar.Header{Typeflag: tar.TypeFifo, Name: "a"}, ""}, regular("a/b", "2")), `is beneath "/a"`},
		"beneath a hard link":      {pack(t, regular("a", "1"), link("b", "a"), regular("b/c", "2")), `is beneath "/b"`},
		"a link to nothing":        {pack(t, link("a", "b")), `member "/a": is a hard link to "/b", which is no file before it`},
		"a link to what comes":     {pack(t, link("a", "b"), regular("b", "1")), "no file before it"},
		"links in a circle":        {pack(t, link("a", "b"), link("b", "a")), "no file before it"},
		"a link to itself":         {pack(t, link("a", "a")), "no file before it"},
		"a link to a directory":    {pack(t, dir("d"), link("a", "d")), "no file before it"},
		"a link to the root":       {pack(t, dir("."), link("a", "/")), "no file before it"},
		"a link to an implied":     {pack(t, regular("d/x", ""), link("a", "d")), "no file before it"},
		"a link upwards":           {pack(t, link("a", "../../etc/shadow")), `is a hard link to "../../etc/shadow": has ".." in its name`},
		"a link through a symlink": {pack(t, symlink("e", "/etc"), link("a", "e/shadow")), "no file before it"},
		"a symlink to nothing":     {pack(t, symlink("a", "")), "target of 0 bytes"},
		"a symlink too far":        {pack(t, symlink("a", strings.Repeat("x", 4096))), "target of 4096 bytes"},
		"of several volumes":       {retyped(pack(t, regular("a", "1")), 'M'), "unknown type 'M'"},
		"of no type":               {retyped(pack(t, regular("a", "1")), 0xff), "unknown type"},
		"announces 8 EiB":          {announced(t, 1<<63-1), "64 GiB"},
		"announces 65 GiB":         {announced(t, 65<<30), "64 GiB"},
		"sparse 8 EiB":             {raw(t, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "9223372036854775807,0", "GNU.sparse.name", "a", "GNU.sparse.size", "9223372036854775807"), "64 GiB"},
		"many sparse files":        {slices.Concat(huge[:len(huge)-1024], huge), "64 GiB"},
		"a negative size":          {raw(t, "size", "-1"), "not a tar file"},
		"nothing":                  {nil, "not a tar file"},
		"no member":                {make([]byte, 10240), "empty tar file"},
		"a text":                   {[]byte("#!/bin/sh\nexec /bin/sh\n"), "not a tar file, plain or compressed with gzip"},
		"a long text":              {bytes.Repeat([]byte("text\n"), 1000), "not a tar file"},
		"a compressed text":        {run(t, bytes.Repeat([]byte("text"), 200), "gzip", "-c"), "not a tar file"},
		"an archive in another":    {run(t, run(t, pack(t, regular("a", "1")), "xz", "-c"), "gzip", "-c"), "before the first member: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, put(t, c.in), atMost, c.want)
		})
	}
}

// raw is an empty file with PAX records as they stand, which archive/tar would not write.
func raw(t *testing.T, records ...string) []byte {
	var b strings.Builder
	for i := 0; i < len(records); i += 2 {
		r := " " + records[i] + "=" + records[i+1] + "\n"
		// A record begins with its length, of which the length is a part.
		n := len(r) + 1
		for len(r)+len(fmt.Sprint(n)) != n {
			n++
		}
		fmt.Fprintf(&b, "%d%s", n, r)
	}
	x := retyped(pack(t, regular("records", b.String())), tar.TypeXHeader)
	return append(x[:len(x)-1024], pack(t, regular("a", ""))...)
}

// announced is a file with that size, of which there is nothing but the header.
func announced(t *testing.T, size int64) []byte {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: size, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPAX: of a header with a name and a megabyte of remarks, the name is kept.
func TestPAX(t *testing.T) {
	var b []byte
	for i := range 50 {
		kind := byte(tar.TypeReg)
		if i%2 == 0 {
			kind = tar.TypeSymlink
		}
		m := raw(t, "comment", strings.Repeat("x", 1_000_000), "path", fmt.Sprintf("f%d", i), "linkpath", "to")
		copy(m[len(m)-1536:], retyped(m[len(m)-1536:], kind))
		b = append(b, m[:len(m)-1024]...)
	}
	name := put(t, append(b, make([]byte, 1024)...))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, seen := heap(), 0
	err := Read(t.Context(), name, func(Member, io.Reader) error {
		if seen++; seen == 1 {
			if now := heap(); now > before+10<<20 {
				t.Errorf("%d megabytes are kept", (now-before)>>20)
			}
		}
		return nil
	})
	if seen != 50 || err != nil {
		t.Errorf("%d members, %v", seen, err)
	}
}

// TestNUL: names that the format cannot hold end there, as for every tar program.
func TestNUL(t *testing.T) {
	b := pack(t, regular("@LongLink", "/etc/x\x00/../y\x00"), regular("a", "1"))
	b = append(retyped(b[:1024], tar.TypeGNULongName), b[1024:]...)
	for _, in := range [][]byte{b, named(t, "/etc/x\x00/../y")} {
		all, err := readAll(put(t, in), atMost)
		if err != nil || all[0].Path != "/etc/x" {
			t.Errorf("%v, %v", all, err)
		}
	}
}

// TestLimits: each of them is met, not one more.
func TestLimits(t *testing.T) {
	small := limits{bytes: 8192, members: 10, names: 110, layers: 3, blob: 1000}
	deep := regular("1/2/3/4/5/6/7/8/9/10", "")
	many := func(n int) (all []member) {
		for i := range n {
			all = append(all, regular(fmt.Sprintf("%c", 'a'+i), ""))
		}
		return all
	}
	for name, c := range map[string]struct {
		in   []byte
		most limits
		want string
	}{
		"members":           {pack(t, many(10)...), small, ""},
		"a member more":     {pack(t, many(11)...), small, "2 million"},
		"the same again":    {pack(t, append(many(10), regular("a", ""))...), small, "2 million"},
		"directories":       {pack(t, deep), small, ""},
		"a directory more":  {pack(t, deep, regular("b", "")), small, "2 million"},
		"implied ones":      {pack(t, regular("1/2/3/4/5/6/7/8/9/10/11", "")), small, "2 million"},
		"names":             {pack(t, symlink(strings.Repeat("n", 55), strings.Repeat("n", 55))), small, ""},
		"a byte more":       {pack(t, symlink(strings.Repeat("n", 55), strings.Repeat("n", 56))), small, "512 MiB of names"},
		"implied names":     {pack(t, regular(strings.Repeat("n", 55)+"/a/b", "")), small, "512 MiB of names"},
		"content":           {pack(t, regular("a", strings.Repeat("x", 4096)), regular("b", strings.Repeat("x", 4096))), small, ""},
		"a byte of content": {pack(t, regular("a", strings.Repeat("x", 4096)), regular("b", strings.Repeat("x", 4097))), small, "64 GiB"},
		"unpacked":          {run(t, pack(t, regular("a", strings.Repeat("x", 6656))), "gzip", "-c"), small, ""},
		"a block more":      {run(t, pack(t, regular("a", strings.Repeat("x", 6657))), "gzip", "-c"), small, "64 GiB"},
		"zeros at the end":  {run(t, append(pack(t, regular("a", "1")), make([]byte, 1<<20)...), "gzip", "-c"), small, "64 GiB"},
		"zeros, bzip2":      {run(t, append(pack(t, regular("a", "1")), make([]byte, 1<<20)...), "bzip2", "-c"), small, "64 GiB"},
		"zeros, xz":         {run(t, append(pack(t, regular("a", "1")), make([]byte, 1<<20)...), "xz", "-c"), small, "64 GiB"},
		"zeros, zstd":       {run(t, append(pack(t, regular("a", "1")), make([]byte, 1<<20)...), "zstd", "-qc"), small, "64 GiB"},
		"records":           {run(t, bytes.Repeat(raw(t, "comment", strings.Repeat("x", 600))[:1536], 100), "gzip", "-c"), small, "64 GiB"},
		"a long window":     {run(t, pack(t, regular("a", "1")), "zstd", "-qc", "--long=28", "--single-thread"), atMost, "128 MiB of memory"},
		"a long dictionary": {run(t, pack(t, regular("a", "1")), "xz", "-c", "--lzma2=dict=192MiB"), atMost, "128 MiB of memory"},
		"a later one": {append(run(t, pack(t, regular("a", strings.Repeat("x", 4096))), "xz", "-c"),
			run(t, pack(t, regular("a", "1")), "xz", "-c", "--lzma2=dict=1GiB")...), atMost, "128 MiB of memory"},
		"xz -9":           {run(t, pack(t, regular("a", "1")), "xz", "-9c"), atMost, ""},
		"zstd --long":     {run(t, pack(t, regular("a", "1")), "zstd", "-qc", "--long=27", "--single-thread"), atMost, ""},
		"one big segment": {segment(t, 1<<30), atMost, "128 MiB of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want != "" {
				refused(t, put(t, c.in), c.most, c.want)
			} else if _, err := readAll(put(t, c.in), c.most); err != nil {
				t.Error(err)
			}
		})
	}
}

// segment is the header of a frame of zstd that asks for that much memory at once.
func segment(t *testing.T, size int) []byte {
	b, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := b.EncodeAll(pack(t, regular("a", "1")), nil)
	// The magic number, a descriptor for a single segment with 8 bytes of size, and these.
	head := append(frame[:4:4], 0xe0)
	for i := range 8 {
		head = append(head, byte(size>>(8*i)))
	}
	return append(head, frame[6:]...)
}

// TestCut cuts archives short at many places: nothing of them is visited.
func TestCut(t *testing.T) {
	packed := pack(t, dir("a"), regular("a/b", strings.Repeat("\x00", 1024)), regular("c", strings.Repeat("text", 300)), link("d", "c"), dir("e"), symlink("f", "x"))
	for name, args := range compressors {
		// These differ in the memory that they take.
		if strings.Contains(name, " ") {
			continue
		}
		whole := run(t, packed, args[0], args[1:]...)
		step := 1
		if name == "plain" {
			step = 64
		}
		for n := 0; n < len(whole); n += step {
			// The first of the two blocks of zeros at the end is enough, as for GNU tar.
			if name == "plain" && n >= len(packed)-512 {
				break
			}
			all, err := readAll(put(t, whole[:n]), atMost)
			if err == nil || len(all) > 0 {
				t.Fatalf("%s: %d of %d bytes were read: %q, %v", name, n, len(whole), short(all), err)
			}
			if !strings.Contains(err.Error(), "copy it again") && !strings.Contains(err.Error(), "not a tar file") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// Directories may announce a size and have none.
	sized := pack(t, dir("a"))
	copy(sized[124:136], "00000010000")
	if _, err := readAll(put(t, retyped(sized, tar.TypeDir)), atMost); err != nil {
		t.Error(err)
	}
}

// TestFlipped changes each byte of compressed archives: the checksums tell.
func TestFlipped(t *testing.T) {
	packed := pack(t, regular("a", "text"))
	for name, args := range compressors {
		if name == "plain" || strings.Contains(name, " ") {
			continue
		}
		whole := run(t, packed, args[0], args[1:]...)
		for i := range whole {
			// The header of gzip has a time and a name, of which nothing depends.
			if name == "gzip" && i < 10 {
				continue
			}
			b := bytes.Clone(whole)
			b[i] ^= 0x10
			if all, err := readAll(put(t, b), atMost); err == nil && (len(all) != 1 || all[0].Text != "text") {
				t.Errorf("%s: byte %d of %d: %q", name, i, len(whole), short(all))
			}
		}
	}
}

// TestNotFiles: nothing is opened that is no file, and nothing is waited for.
func TestNotFiles(t *testing.T) {
	d := t.TempDir()
	if err := unix.Mkfifo(d+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", d+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A link that came in since the caller knew where the path led.
	if err := errors.Join(os.Symlink("fifo", d+"/link"), os.Symlink(".", d+"/way"), os.WriteFile(d+"/empty", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	// Who waits for a reader learns that a FIFO was opened.
	waiting := make(chan bool)
	go func() {
		f, err := os.OpenFile(d+"/fifo", os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		waiting <- true
	}()
	done := make(chan bool)
	go func() {
		for name, want := range map[string]string{
			d + "/fifo": "neither a regular file nor a directory", d + "/socket": "neither", d + "/link": "behind a symbolic link", d + "/way/empty": "behind a symbolic link", "/dev/null": "neither",
			d: "has no index.json; files of this machine are for paths", d + "/none": "no such file", d + "/none:tag": "no such file",
		} {
			refused(t, name, atMost, want)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
	select {
	case <-waiting:
		t.Error("the FIFO was opened")
	case <-time.After(100 * time.Millisecond):
		f, err := os.OpenFile(d+"/fifo", os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		<-waiting
	}
}

// TestChanged changes the archive between its two readings.
func TestChanged(t *testing.T) {
	before := pack(t, dir("d"), regular("e", ""), regular("a", "1"), regular("b", "22"), regular("c", "3"))
	for name, c := range map[string]struct {
		after []byte
		want  string
	}{
		"another name":      {pack(t, dir("d"), regular("e", ""), regular("x", "1"), regular("b", "22"), regular("c", "3")), "was changed"},
		"another size":      {pack(t, dir("d"), regular("e", ""), regular("a", "11"), regular("b", "22"), regular("c", "3")), "was changed"},
		"another type":      {pack(t, dir("d"), symlink("e", "x"), regular("a", "1"), regular("b", "22"), regular("c", "3")), "was changed"},
		"cut":               {before[:512], "cut short"},
		"cut in a file":     {before[:2048+100], "damaged or cut short"},
		"another archive":   {pack(t, regular("d", ""), regular("c", "3"), regular("a", "1"), regular("b", "22")), "was changed"},
		"no archive at all": {bytes.Repeat([]byte("x"), len(before)), "not a tar file"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, gz := range []bool{false, true} {
				first, second := before, c.after
				if gz {
					first, second = run(t, first, "gzip", "-c"), run(t, second, "gzip", "-c")
					// Of what was a file of another size, the old size is read.
					second = append(second, make([]byte, max(0, len(first)-len(second)))...)
				}
				f := put(t, first)
				err := Read(t.Context(), f, func(m Member, content io.Reader) error {
					if m.Kind == Directory {
						return os.WriteFile(f, second, 0o600)
					}
					io.Copy(io.Discard, content) // an error that the visitor does not mind
					return nil
				})
				if err == nil || !gz && !strings.Contains(err.Error(), c.want) {
					t.Errorf("gzip %v: %v; want %q", gz, err, c.want)
				}
			}
		})
	}
}

// TestVisit: a visitor's error comes back as it is, and content that no visit reads is
// not read again.
func TestVisit(t *testing.T) {
	f := put(t, pack(t, dir("d"), regular("a", "1"), regular("b", "2")))
	var visited []string
	err := Read(t.Context(), f, func(m Member, content io.Reader) error {
		visited = append(visited, m.Path)
		if m.Path == "/a" {
			return io.ErrNoProgress
		}
		return nil
	})
	if err != io.ErrNoProgress || len(visited) != 2 {
		t.Errorf("%v after %q", err, visited)
	}
	var kept io.Reader
	err = Read(t.Context(), f, func(m Member, content io.Reader) error {
		if content != nil {
			kept = content
		}
		return os.Truncate(f, 0)
	})
	if err != nil {
		t.Errorf("without content: %v", err)
	}
	if _, err := io.ReadAll(kept); err == nil || !strings.Contains(err.Error(), "after its visit") {
		t.Errorf("read after the visit: %v", err)
	}
	// Only some of the content, and not all of it.
	f = put(t, run(t, pack(t, regular("a", "1"), regular("b", strings.Repeat("2", 5000)), regular("c", "3"), regular("d", "4")), "gzip", "-c"))
	var text strings.Builder
	err = Read(t.Context(), f, func(m Member, content io.Reader) error {
		if m.Path == "/a" || m.Path == "/c" {
			return nil
		}
		_, err := io.CopyN(&text, content, 1)
		return err
	})
	if err != nil || text.String() != "24" {
		t.Errorf("%q, %v", text.String(), err)
	}
}

func TestSplit(t *testing.T) {
	d := t.TempDir()
	for _, name := range []string{"a", "a:b", "c:"} {
		if err := os.WriteFile(d+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string][2]string{
		"/a": {"/a", ""}, "/a:b": {"/a:b", ""}, "/a:b:c": {"/a:b", "c"}, "/a:x:y": {"/a", "x:y"}, "/a:sha256:ff": {"/a", "sha256:ff"},
		"/c:": {"/c:", ""}, "/c::x": {"/c:", "x"}, "/none": {"/none", ""}, "/none:x": {"/none:x", ""}, "/a:": {"/a", ""},
	} {
		if file, image := Split(d + in); file != d+want[0] || image != want[1] {
			t.Errorf("%q is %q and %q", in, file, image)
		}
	}
}

// mended is a tar file with the checksums that its headers should have, which chance
// does not find.
func mended(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+512 <= len(b); {
		h := b[at : at+512]
		if !bytes.Equal(h, make([]byte, 512)) {
			copy(h, retyped(h, h[156]))
		}
		var size int
		fmt.Sscanf(string(h[124:136]), "%o", &size)
		at += 512 + (size&0xffff+511)/512*512
	}
	return b
}

// FuzzRead: no file, and no image with such layers, makes Read panic, hang, exceed
// the limits or break what readAll checks.
func FuzzRead(f *testing.F) {
	lower := pack(f, dir("a"), regular("a/b", "text"), link("c", "a/b"), symlink("d", "a"), regular("d/x", "1"), regular("a/b", "2"))
	upper := pack(f, regular("a/.wh.b", ""), regular("a/.wh..wh..opq", ""), link("e", "c"), dir("d"), regular(strings.Repeat("long/", 50)+"x", "3"))
	for _, args := range compressors {
		f.Add(run(f, lower, args[0], args[1:]...), run(f, upper, args[0], args[1:]...))
	}
	f.Add(imageFile(f, lower, upper), upper)
	most := limits{bytes: 1 << 20, members: 1000, names: 1 << 16, layers: 5, blob: 1 << 16}
	name := f.TempDir() + "/archive"
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		for _, b := range [][]byte{lower, mended(lower), imageFile(t, mended(lower), mended(upper))} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := readAll(name, most)
			if err != nil && (!strings.HasPrefix(err.Error(), "archive \"") || strings.Contains(err.Error(), "\n")) {
				t.Error(err)
			}
		}
	})
}

// TestCancelled: the end of the context ends any reading, also of what goes on for long
// after little was stored.
func TestCancelled(t *testing.T) {
	cause := errors.New("cancelled")
	zeros := run(t, pack(t, regular("a", strings.Repeat("\x00", 100<<20)), regular("b", "")), "zstd", "-qc")
	many := make([]member, 1000)
	for i := range many {
		many[i] = regular(fmt.Sprint(i), "")
	}
	for name, in := range map[string][]byte{"zeros": zeros, "members": pack(t, many...)} {
		ctx, stop := context.WithCancelCause(t.Context())
		stop(cause)
		if err := Read(ctx, put(t, in), func(Member, io.Reader) error { return nil }); err != cause {
			t.Errorf("%s: %v", name, err)
		}
		for _, reads := range []bool{false, true} {
			ctx, stop = context.WithCancelCause(t.Context())
			seen := 0
			err := Read(ctx, put(t, in), func(_ Member, content io.Reader) error {
				seen++
				stop(cause)
				if reads {
					if n, err := io.Copy(io.Discard, content); n > 0 || err != cause {
						t.Errorf("%s: %d bytes, %v", name, n, err)
					}
				}
				return nil
			})
			if err != cause || seen != 1 {
				t.Errorf("%s: %d visits, %v", name, seen, err)
			}
		}
	}
}
