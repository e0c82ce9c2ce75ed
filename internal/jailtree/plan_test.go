package jailtree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/packages"
	"jailctl/internal/paths"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

var update = flag.Bool("update", false, "write the plans that come out into testdata/plan")

// TestPlans makes the plan of each file in testdata/plan: a comment, then the parts
// contents (a contents file), host (what its machine has, a line each), perhaps
// archive (likewise), and plan or problems, which is what comes out.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txt")
	do(t, err)
	if len(files) == 0 {
		t.Fatal("there are no plans")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b := newBare(t)
			text := read(t, file)
			part := parts(text)
			for _, line := range strings.Split(strings.TrimSpace(part["host"]), "\n") {
				b.make(t, b.host, line)
			}
			if lines := strings.TrimSpace(part["archive"]); lines != "" {
				b.tar(t, strings.Split(lines, "\n"))
			}
			wanted := strings.ReplaceAll(part["contents"], "ARCHIVE", b.archive())
			got := strings.ReplaceAll(b.planOf(t, wanted), b.archive(), "ARCHIVE")
			got = strings.ReplaceAll(got, b.host, "HOST")
			want, kind := part["plan"], "plan"
			if strings.Contains(got, "web.txtpb:") && !strings.HasPrefix(got, "/ ") {
				want, kind = part["problems"], "problems"
			}
			if *update {
				before, _, _ := strings.Cut(text, "-- plan --\n")
				before, _, _ = strings.Cut(before, "-- problems --\n")
				do(t, os.WriteFile(file, []byte(before+"-- "+kind+" --\n"+got), 0o644))
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// parts are the texts between the lines "-- NAME --".
func parts(text string) map[string]string {
	all, name := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if s, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(s, " --\n")
			continue
		}
		all[name] += line
	}
	return all
}

// newBare is a bench whose host has nothing.
func newBare(t *testing.T) *bench {
	t.Helper()
	d, err := os.MkdirTemp(dir, "t-")
	do(t, err, os.Chmod(d, 0o755), os.Mkdir(d+"/host", 0o755))
	return &bench{host: d + "/host", root: d + "/jails/web", state: d + "/state", spec: &contents.Spec{Keep: 1}}
}

// make makes one file as a line of a host says: "dir MODE PATH", "file MODE PATH
// [TEXT]", "elf MODE PATH [NEEDED...] [dlopen:NAME...] [-OPTION...]", "ldconfig", "link PATH TARGET", "same PATH PATH", "fifo PATH",
// "socket PATH", "char PATH", "owner UID PATH". Words may be quoted as in Go.
func (b *bench) make(t *testing.T, root, line string) {
	t.Helper()
	w := words(t, line)
	at := func(i int) string { return root + w[i] }
	mode := func() uint32 {
		n, err := strconv.ParseUint(w[1], 8, 32)
		do(t, err)
		return uint32(n)
	}
	for _, word := range w[1:] {
		if strings.HasPrefix(word, "/") {
			do(t, os.MkdirAll(filepath.Dir(root+word), 0o755))
			break
		}
	}
	switch w[0] {
	case "dir":
		do(t, os.MkdirAll(at(2), 0o755), unix.Chmod(at(2), mode()))
	case "file":
		text := ""
		if len(w) > 3 {
			text = w[3]
		}
		do(t, os.WriteFile(at(2), []byte(text), 0o644), unix.Chmod(at(2), mode()))
	case "link":
		do(t, os.Symlink(w[2], at(1)))
	case "same":
		do(t, os.Link(at(2), at(1)))
	case "fifo":
		do(t, unix.Mkfifo(at(1), 0o644))
	case "socket":
		do(t, unix.Mknod(at(1), unix.S_IFSOCK|0o644, 0))
	case "char":
		do(t, unix.Mknod(at(1), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	case "ldconfig":
		if out, err := exec.Command("/sbin/ldconfig", "-r", root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	case "elf":
		elf(t, at(2), w[3:])
		do(t, unix.Chmod(at(2), mode()))
	case "owner":
		uid, err := strconv.Atoi(w[1])
		do(t, err, os.Lchown(at(2), uid, uid))
	default:
		t.Fatalf("%q", line)
	}
}

// elf makes a program, or a library where the name says so, that needs others.
func elf(t *testing.T, name string, needed []string) {
	t.Helper()
	cc := func(text string, args ...string) {
		t.Helper()
		cmd := exec.Command("gcc", append([]string{"-nostdlib", "-Wl,--no-as-needed", "-x", "c", "-", "-x", "none"}, args...)...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	stubs := t.TempDir()
	text := "void _start(void) {}\n"
	args := []string{"-o", name, "-pie", "-fPIC", "-Wl,-rpath,/usr/local/lib:/usr/lib"}
	if strings.Contains(filepath.Base(name), ".so") {
		args[2] = "-shared"
	}
	for _, so := range needed {
		if strings.HasPrefix(so, "-") {
			args = append(args, so)
			continue
		}
		if name, ok := strings.CutPrefix(so, "dlopen:"); ok {
			text += fmt.Sprintf("const char *const name%d = %q;\n", len(text), name)
			continue
		}
		cc("", "-shared", "-Wl,-soname="+so, "-o", stubs+"/"+so)
		args = append(args, stubs+"/"+so)
	}
	cc(text, args...)
}

// words are separated by blanks; the last may be all of the rest, and any in quotes.
func words(t *testing.T, line string) (all []string) {
	t.Helper()
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		if line[0] != '"' {
			var w string
			w, line, _ = strings.Cut(line, " ")
			all = append(all, w)
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		do(t, err)
		w, err := strconv.Unquote(quoted)
		do(t, err)
		all, line = append(all, w), line[len(quoted):]
	}
	return all
}

// archive is the path of a tar file, on the machine and on the host alike.
func (b *bench) archive() string { return filepath.Dir(b.host) + "/base.tar" }

// tar makes the archive of lines as in a host.
func (b *bench) tar(t *testing.T, lines []string) {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, line := range lines {
		f := words(t, line)
		h := &tar.Header{Format: tar.FormatPAX}
		text := ""
		mode := func() int64 {
			n, err := strconv.ParseInt(f[1], 8, 32)
			do(t, err)
			return n
		}
		switch f[0] {
		case "dir":
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, mode(), f[2]
		case "file":
			h.Typeflag, h.Mode, h.Name = tar.TypeReg, mode(), f[2]
			if len(f) > 3 {
				text = f[3]
			}
			h.Size = int64(len(text))
		case "link":
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, f[1], f[2]
		case "same":
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, f[1], f[2]
		case "fifo":
			h.Typeflag, h.Name = tar.TypeFifo, f[1]
		case "char":
			h.Typeflag, h.Name, h.Devmajor, h.Devminor = tar.TypeChar, f[1], 1, 3
		default:
			t.Fatalf("%q", line)
		}
		h.Name = strings.TrimPrefix(h.Name, "/")
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(h.Linkname, "/")
		}
		do(t, w.WriteHeader(h))
		_, err := w.Write([]byte(text))
		do(t, err)
	}
	do(t, w.Close(), os.WriteFile(b.archive(), out.Bytes(), 0o644))
	do(t, os.MkdirAll(filepath.Dir(b.host+b.archive()), 0o755))
	os.Remove(b.host + b.archive())
	do(t, os.Link(b.archive(), b.host+b.archive()))
}

// machine is what a plan is made from on the bench's host.
func (b *bench) machine() Host {
	h := host.New(b.host)
	return Host{Files: h, Packages: packages.Open(h), Names: someNames{}}
}

// someNames are a few accounts, some of them odd.
type someNames struct{}

func (someNames) User(name string) (source.User, error) {
	for _, u := range []source.User{
		{UID: 1, GID: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"},
		{UID: 64000, GID: 64000, Name: "alice", Home: "/home/alice", Shell: "/bin/sh"},
		{UID: 64001, GID: 1, Name: "bob b", Home: "/home/bob's home", Shell: ""},
		{UID: 64002, GID: 64999, Name: "lonely", Home: "/", Shell: "/bin/sh"},
		{UID: 64003, GID: 1, Name: "colon", Home: "/home:x:0:0::/", Shell: "/bin/sh"},
		{UID: 64004, GID: 1, Name: "lines", Home: "/", Shell: "/bin/sh\nroot::0:0::/:/bin/sh"},
	} {
		if name == u.Name || name == fmt.Sprint(u.UID) {
			return u, nil
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return source.User{UID: uint32(n), GID: 99}, nil // which means nothing
	}
	return source.User{}, source.ErrUnknown
}

func (someNames) Group(name string) (uint32, string, error) {
	for gid, group := range map[uint32]string{0: "root", 1: "daemon", 64000: "alice", 64500: "staff"} {
		if name == group || name == fmt.Sprint(gid) {
			return gid, group, nil
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), "", nil
	}
	return 0, "", source.ErrUnknown
}

// What a preset asks for can be taken back without a word; what it excludes and the
// jail's own file asks for is told.
func TestExcludeAndPresets(t *testing.T) {
	b := newBare(t)
	b.put(t, "/usr/bin/tool", "", 0o755)
	preset := paths.Presets()[0] + "/p.txtpb"
	for _, test := range []struct{ web, preset, note string }{
		{`include: "p" exclude: "/usr/bin/tool"`, `programs: "tool"`, ""},
		{`include: "p" symlinks { path: "/usr/bin/tool" target: "." }`, `programs: "tool"`, ""},
		{`include: "p" files { path: "/usr/bin/tool" }`, `programs: "tool"`, ""},
		{`include: "p" devices: "null"`, `paths: "/usr" exclude: "/usr/lib"`, ""},
		{`include: "p" programs: "tool"`, `devices: "null" exclude: "/usr/bin/t*"`, `web.txtpb:1:24: "/usr/bin/tool" is asked for here and is excluded by ` + preset + ":1"},
		{`include: "p" programs: "tool"`, `symlinks { path: "/usr/bin/tool" target: "." }`, `web.txtpb:1:24: "/usr/bin/tool" is asked for here and is a symbolic link by ` + preset + ":1"},
	} {
		spec, mistakes, err := contents.Load("web.txtpb", func(name string) ([]byte, error) {
			return []byte(map[string]string{"web.txtpb": test.web, preset: test.preset}[name]), nil
		})
		do(t, err)
		if len(mistakes) > 0 {
			t.Fatal(mistakes)
		}
		plan, err := Make(context.Background(), spec, b.machine())
		do(t, err)
		if got := strings.Join(plan.Notes, "\n"); got != test.note {
			t.Errorf("%s, %s: %s", test.web, test.preset, got)
		}
	}
}

// load reads a contents file called web.txtpb.
func load(t *testing.T, text string) *contents.Spec {
	t.Helper()
	spec, mistakes, err := contents.Load("web.txtpb", func(name string) ([]byte, error) {
		if name != "web.txtpb" {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	})
	do(t, err)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	return spec
}

// planOf is the plan of a contents file, a line an entry, or its problems.
func (b *bench) planOf(t *testing.T, text string) string {
	t.Helper()
	plan, err := Make(t.Context(), load(t, text), b.machine())
	if problems := (Problems{}); errors.As(err, &problems) {
		return problems.Error() + "\n"
	}
	do(t, err)
	var out strings.Builder
	for _, e := range plan.Entries {
		what := describe(e.Entry)
		if e.Size > 100 {
			what = "large" // as the compiler or ldconfig(8) made it
		}
		fmt.Fprintf(&out, "%s %s", strings.Trim(strconv.Quote(string(e.Path)), `"`), what)
		if e.Kind == jailpb.Entry_REGULAR {
			fmt.Fprintf(&out, " %04o", e.Mode)
		}
		if e.text != nil {
			fmt.Fprintf(&out, " %q", e.text)
		}
		if len(e.SameAs) > 0 {
			fmt.Fprintf(&out, " = %s", e.SameAs)
		}
		if len(e.Origin) > 0 {
			fmt.Fprintf(&out, " < %s", strings.Trim(strconv.Quote(string(e.Origin)), `"`))
		}
		if o := origin(plan.Packages, e.Package); o != nil {
			fmt.Fprintf(&out, " [%s %s]", o.Name, o.Version)
		}
		if line, ok := strings.CutPrefix(e.AskedBy, "web.txtpb:"); ok {
			fmt.Fprintf(&out, " (%s)", line)
		}
		out.WriteByte('\n')
	}
	for _, o := range plan.Packages {
		fmt.Fprintf(&out, "package: %s %s\n", o.Name, o.Version)
	}
	for _, note := range plan.Notes {
		fmt.Fprintf(&out, "note: %s\n", note)
	}
	return out.String()
}
