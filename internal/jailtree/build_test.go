package jailtree

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/paths"
	"jailctl/proto/jailpb"
)

// everything is all that there is of the bench but its host: every inode of the trees,
// those beside them, and of the state directory, with content and times.
func (b *bench) everything(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{filepath.Dir(b.root), b.state} {
		filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(name, &st)
			}
			fmt.Fprintf(&all, "%q %d %o %d %d %d %d %v\n", name, st.Ino, st.Mode, st.Nlink, st.Size, st.Mtim, st.Ctim, err)
			return nil
		})
	}
	return all.String()
}

// opened has the kernel tell which regular files below some directories are opened, read
// or written while f runs.
func opened(t *testing.T, f func(), dirs ...string) (names []string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	do(t, err)
	defer unix.Close(fd)
	at := map[int32]string{}
	for _, dir := range dirs {
		err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
			if err == nil && info.IsDir() {
				wd, err := unix.InotifyAddWatch(fd, name, unix.IN_OPEN|unix.IN_ACCESS|unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE)
				at[int32(wd)] = name
				return err
			}
			return err
		})
		do(t, err)
	}
	f()
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	if err == unix.EAGAIN {
		return nil
	}
	do(t, err)
	for buf = buf[:n]; len(buf) > 0; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		name := string(bytes.TrimRight(buf[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+e.Len], "\x00"))
		buf = buf[unix.SizeofInotifyEvent+e.Len:]
		if e.Mask&unix.IN_ISDIR == 0 && name != "" {
			names = append(names, at[e.Wd]+"/"+name)
		}
	}
	return names
}

// A build with nothing to do changes no inode and writes no byte, neither in the tree nor
// in what is known of it, and reads nothing but that.
func TestNothingToDo(t *testing.T) {
	b := furnished(t)
	b.change(t)
	b.build(t) // there is an old tree, too
	do(t, os.WriteFile(b.root+"/var/data/mine", []byte("mine"), 0o600))
	before := b.everything(t)
	read := opened(t, func() {
		r := b.build(t)
		if r.Changed || len(r.Changes) > 0 || r.Files == 0 || r.Bytes == 0 || len(r.Kept) > 0 {
			t.Errorf("%+v", r)
		}
	}, b.host, filepath.Dir(b.root), b.state)
	for _, name := range read {
		if !strings.HasPrefix(name, b.state+"/manifests/web/") && name != b.state+"/fresh/web" {
			t.Errorf("it opened %s", name)
		}
	}
	if after := b.everything(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	// The same as seen by who only looks.
	s := b.open(t)
	defer s.Close()
	r, err := s.Preview(context.Background(), b.building())
	do(t, err)
	if r.Changed || len(r.Changes) > 0 {
		t.Errorf("%+v", r)
	}
	if changes, err := s.Outdated(context.Background(), b.building()); err != nil || len(changes) > 0 {
		t.Errorf("%+v %v", changes, err)
	}
	if after := b.everything(t); after != before {
		t.Error("looking changed something")
	}
}

// manifest is the one of the tree in use, as it is in the file.
func (b *bench) manifest(t *testing.T) (*jailpb.Manifest, string) {
	t.Helper()
	s := b.open(t)
	defer s.Close()
	cur, err := s.current()
	do(t, err)
	return cur.manifest, s.file(cur.ino)
}

// What was touched, or installed again, with the same content renews what is known of the
// tree, and leaves the tree alone.
func TestSameContent(t *testing.T) {
	b := furnished(t)
	b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 3, Col: 1}, Path: b.archive()}
	b.tar(t, []string{"file 0644 /opt/a from the archive", "same /opt/b /opt/a", "link /opt/c a"})
	b.spec.Users = []contents.Name{{Name: "1"}}
	b.put(t, "/etc/passwd", "", 0o644)
	b.edited(t)
	b.build(t)
	for _, test := range []struct {
		name string
		do   func() error
	}{
		{"touched", func() error { return os.Chtimes(b.host+"/usr/bin/tool", time.Now(), time.Now()) }},
		{"installed again", func() error {
			return errors.Join(os.WriteFile(b.host+"/usr/bin/tool.new", []byte("tool 1\n"), 0o755), os.Rename(b.host+"/usr/bin/tool.new", b.host+"/usr/bin/tool"))
		}},
		{"a new file beside it", func() error { return os.WriteFile(b.host+"/usr/bin/new", nil, 0o755) }},
		{"mode bits that no tree has", func() error { return unix.Chmod(b.host+"/usr/bin/tool", 0o4755) }},
		{"owner", func() error { return os.Chown(b.host+"/usr/lib/empty", 4711, 4711) }},
		{"accounts", func() error { return os.Chtimes(b.host+"/etc/passwd", time.Now(), time.Now()) }},
		{"archive", func() error { return os.Chtimes(b.archive(), time.Now(), time.Now()) }},
		{"archive, copied", func() error {
			text, err := os.ReadFile(b.archive())
			return errors.Join(err, os.Remove(b.host+b.archive()), os.Remove(b.archive()), os.WriteFile(b.archive(), text, 0o644), os.Link(b.archive(), b.host+b.archive()))
		}},
		{"jailctl", func() error { paths.Version += ".1"; return nil }},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			version := paths.Version
			defer func() { paths.Version = version }()
			tree := inodes(t, filepath.Dir(b.root))
			built, file := b.manifest(t)
			before := inodes(t, file)
			do(t, test.do())
			if r := b.build(t); r.Changed || len(r.Changes) > 0 {
				t.Errorf("%+v", r)
			}
			if inodes(t, filepath.Dir(b.root)) != tree {
				t.Error("the tree was changed")
			}
			renewed, file := b.manifest(t)
			after := inodes(t, file)
			if test.name != "a new file beside it" && after == before {
				t.Error("the manifest was not renewed")
			}
			if renewed.Built != built.Built || !renewed.Used || renewed.Jailctl != paths.Version {
				t.Errorf("built %d, used %v, by %s", renewed.Built, renewed.Used, renewed.Jailctl)
			}
			b.clean(t)
			b.build(t)
			if inodes(t, file) != after {
				t.Error("it was renewed twice")
			}
		})
	}
}

// changed are changes as lines "OP PATH".
func changed(all []Change) []string {
	lines := []string{}
	for _, c := range all {
		lines = append(lines, c.Op+" "+c.Path)
	}
	return lines
}

// What changes on the host, or in the contents file, changes that in the tree and nothing
// else; it is told by outdated and before it is done, and is then done.
func TestChanges(t *testing.T) {
	b := newBare(t)
	mountTmpfs(t, filepath.Dir(b.root), "")
	for _, line := range strings.Split(`elf 0755 /lib64/ld-linux-x86-64.so.2
elf 0755 /usr/bin/prog libone.so
elf 0644 /usr/lib/libone.so
file 0755 /usr/bin/tool "tool\n"
file 0644 /etc/a.conf "a\n"
file 0644 /etc/deep/er/f "f\n"
link /etc/link a.conf
file 0644 /srv/one "one\n"
same /srv/two /srv/one
file 0644 /srv/three "one\n"`, "\n") {
		b.make(t, b.host, line)
	}
	text := `programs: "/usr/bin/prog" programs: "tool" paths: "/etc/*.conf" paths: "/etc/deep" paths: "/etc/link" paths: "/srv"
optional_paths: "/opt/optional" files { path: "/etc/motd" text: "hello" } directories { path: "/data" owner: "1" state: true }
archive: "` + b.archive() + `"`
	b.tar(t, []string{"file 0644 /ar/a one", "file 0644 /ar/b two"})
	b.spec = load(t, text)
	b.build(t)
	line := func(line string) func() {
		return func() {
			w := words(t, line)
			for _, word := range w {
				if strings.HasPrefix(word, "/") {
					os.Remove(b.host + word)
					break
				}
			}
			b.make(t, b.host, line)
		}
	}
	replace := func(old, with string) func() {
		return func() {
			if !strings.Contains(text, old) {
				t.Fatalf("no %q", old)
			}
			text = strings.Replace(text, old, with, 1)
			b.spec = load(t, text)
			b.edited(t)
		}
	}
	for _, test := range []struct {
		name string
		do   func()
		want []string
	}{
		{"content", line(`file 0755 /usr/bin/tool "tool 2\n"`), []string{"~ /usr/bin/tool"}},
		{"content of the same size and time", func() {
			do(t, os.WriteFile(b.host+"/usr/bin/tool", []byte("TOOL 2\n"), 0o755), os.Chtimes(b.host+"/usr/bin/tool", time.Unix(1, 0), time.Unix(1, 0)))
		}, []string{"~ /usr/bin/tool"}},
		{"mode", line(`file 0700 /usr/bin/tool "TOOL 2\n"`), []string{"~ /usr/bin/tool"}},
		{"target", line("link /etc/link deep/er/f"), []string{"~ /etc/link"}},
		{"a new file that matches a pattern", line("file 0644 /etc/b.conf"), []string{"+ /etc/b.conf"}},
		{"a new file in a directory", line("file 0644 /etc/deep/er/g"), []string{"+ /etc/deep/er/g"}},
		{"a file less", func() { do(t, os.Remove(b.host+"/etc/deep/er/g")) }, []string{"- /etc/deep/er/g"}},
		{"a file becomes a directory", func() {
			do(t, os.Remove(b.host+"/etc/deep/er/f"), os.MkdirAll(b.host+"/etc/deep/er/f/x", 0o755))
		}, []string{"~ /etc/deep/er/f", "+ /etc/deep/er/f/x"}},
		{
			"a library earlier in the search path", line("elf 0644 /usr/local/lib/libone.so"),
			[]string{"- /usr/lib", "- /usr/lib/libone.so", "+ /usr/local", "+ /usr/local/lib", "+ /usr/local/lib/libone.so"},
		},
		{
			"a program earlier on the path", line("file 0755 /usr/local/bin/tool"),
			[]string{"- /usr/bin/tool", "+ /usr/local/bin", "+ /usr/local/bin/tool"},
		},
		{"what is optional appears", line("file 0644 /opt/optional"), []string{"+ /opt", "+ /opt/optional"}},
		{"and goes", func() { do(t, os.Remove(b.host+"/opt/optional")) }, []string{"- /opt", "- /opt/optional"}},
		{
			"another name of one file", func() { do(t, os.Remove(b.host+"/srv/three"), os.Link(b.host+"/srv/one", b.host+"/srv/three")) },
			[]string{"~ /srv/three"},
		},
		{
			"a file of its own again", func() { do(t, os.Remove(b.host+"/srv/two"), os.WriteFile(b.host+"/srv/two", []byte("one\n"), 0o644)) },
			[]string{"~ /srv/two"},
		},
		{"the archive", func() { b.tar(t, []string{"file 0644 /ar/a one", "file 0644 /ar/b TWO", "file 0600 /ar/c"}) }, []string{"~ /ar/b", "+ /ar/c"}},
		{"from the archive to the host", func() {
			b.put(t, "/ar/a", "HOST", 0o644)
			replace(`paths: "/srv"`, `paths: "/srv" paths: "/ar/a"`)()
		}, []string{"~ /ar/a"}},
		{"and back", replace(`paths: "/ar/a"`, ""), []string{"~ /ar/a"}},
		{"a text", replace(`text: "hello"`, `text: "hallo"`), []string{"~ /etc/motd"}},
		{"an owner", replace(`owner: "1"`, `owner: "2"`), []string{"~ /data"}},
		{"no state any more", replace(`owner: "2" state: true`, ``), []string{"~ /data"}},
		{"a line less", replace(`paths: "/etc/link"`, ""), []string{"- /etc/link"}},
		{"a line more", replace(`paths: "/srv"`, `paths: "/srv" devices: "null" symlinks { path: "/l" target: "x" }`), []string{"+ /dev", "+ /dev/null", "+ /l"}},
		{"another target", replace(`target: "x"`, `target: "y"`), []string{"~ /l"}},
		{"exclude", replace(`paths: "/srv"`, `paths: "/srv" exclude: "/srv/o*"`), []string{"- /srv/one", "~ /srv/three"}},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			if r := b.build(t); r.Changed {
				t.Fatalf("before: %+v", r)
			}
			test.do()
			s := b.open(t)
			outdated, err := s.Outdated(context.Background(), b.building())
			do(t, err)
			preview, err := s.Preview(context.Background(), b.building())
			do(t, err)
			s.Close()
			built := b.build(t)
			for what, got := range map[string][]Change{"outdated": outdated, "preview": preview.Changes, "build": built.Changes} {
				slices.Sort(test.want)
				lines := changed(got)
				slices.Sort(lines)
				if !slices.Equal(lines, test.want) {
					t.Errorf("%s: %+v, want %q", what, got, test.want)
				}
			}
			if !built.Changed || !preview.Changed {
				t.Errorf("changed: build %v, preview %v", built.Changed, preview.Changed)
			}
			b.clean(t)
		})
	}
}

// at has f called before some change of the file system.
func at(t *testing.T, where string, f func()) {
	var once sync.Once
	step = func(what string) {
		if what == where {
			once.Do(f)
		}
	}
	t.Cleanup(func() { step = func(string) {} })
}

// A build that fails leaves the tree in use as it is, and nothing beside it, in the
// manifests or on the way; and says which line asked for what it failed at.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name string
		// prepare makes the next build fail.
		prepare func(t *testing.T, b *bench) (ctx context.Context)
		want    string
	}{
		{"missing program", func(t *testing.T, b *bench) context.Context {
			b.spec.Programs = []contents.Path{{At: contents.At{File: "web.txtpb", Line: 7, Col: 11}, Path: "gone"}}
			return nil
		}, `web.txtpb:7:11: there is no program "gone"`},
		{"contents file", func(t *testing.T, b *bench) context.Context {
			b.spec = nil
			return nil
		}, "no contents"},
		{"no space", func(t *testing.T, b *bench) context.Context {
			b.put(t, "/usr/share/data/large", strings.Repeat("x", 4<<20), 0o644)
			return nil
		}, `web.txtpb:2:8: write "/usr/share/data/large" in the new tree: no space left on device`},
		{"no space for many", func(t *testing.T, b *bench) context.Context {
			for i := range 300 {
				b.put(t, fmt.Sprintf("/usr/share/data/%d", i), "", 0o644)
			}
			return nil
		}, `in the new tree: no space left on device`},
		{"no space for what is known", func(t *testing.T, b *bench) context.Context {
			at(t, "write file", func() {
				if err := os.WriteFile(b.state+"/filler", make([]byte, 2<<20), 0o600); err == nil {
					t.Error("there is space: this test tests nothing")
				}
			})
			t.Cleanup(func() { os.Remove(b.state + "/filler") })
			return nil
		}, `no space left on device`},
		{"replaced while it was planned", func(t *testing.T, b *bench) context.Context {
			at(t, "make tree", func() { b.put(t, "/usr/share/data/a", "other\n", 0o644) })
			return nil
		}, `web.txtpb:2:8: write "/usr/share/data/a" in the new tree: /usr/share/data/a was replaced or changed at this moment; build again`},
		{"gone while it was planned", func(t *testing.T, b *bench) context.Context {
			at(t, "make tree", func() { os.Remove(b.host + "/usr/share/data/a") })
			return nil
		}, `web.txtpb:2:8: write "/usr/share/data/a" in the new tree: open /usr/share/data/a: no such file or directory`},
		{"a link now", func(t *testing.T, b *bench) context.Context {
			at(t, "make tree", func() {
				do(t, os.Rename(b.host+"/usr/share/data", b.host+"/usr/share/else"), os.Symlink("else", b.host+"/usr/share/data"))
			})
			return nil
		}, `web.txtpb:2:8: write "/usr/share/data/a" in the new tree: open /usr/share/data/a: there is a symbolic link on the way now`},
		{"unreadable", func(t *testing.T, b *bench) context.Context {
			// Who does not want to wait for the end of a lease cannot open the file.
			f, err := os.OpenFile(b.host+"/usr/share/data/a", os.O_RDWR, 0)
			do(t, err)
			t.Cleanup(func() { f.Close() })
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
			do(t, err)
			return nil
		}, `usr/share/data/a": resource temporarily unavailable; mend that, or exclude it`},
		{"signal before", func(t *testing.T, b *bench) context.Context {
			ctx, stop := context.WithCancelCause(context.Background())
			stop(errors.New("interrupt"))
			return ctx
		}, "interrupt"},
		{"signal while it is written", func(t *testing.T, b *bench) context.Context {
			ctx, stop := context.WithCancelCause(context.Background())
			at(t, "make file", func() { stop(errors.New("interrupt")) })
			return ctx
		}, "interrupt"},
		{"signal while it is verified", func(t *testing.T, b *bench) context.Context {
			ctx, stop := context.WithCancelCause(context.Background())
			at(t, "sync tree", func() { stop(errors.New("interrupt")) })
			return ctx
		}, "interrupt"},
		{"not what was written", func(t *testing.T, b *bench) context.Context {
			at(t, "sync tree", func() {
				name := filepath.Dir(b.root) + "/.web.jailctl/new/usr/share/data/a"
				write(t, name, strings.ToUpper(read(t, name)))
			})
			return nil
		}, "the new tree is not what was written: /usr/share/data/a: its content is not what was copied"},
		{"the archive is another", func(t *testing.T, b *bench) context.Context {
			b.spec.Archive = &contents.Path{At: contents.At{File: "web.txtpb", Line: 9, Col: 10}, Path: b.archive()}
			b.tar(t, []string{"file 0644 /opt/a from the archive"})
			at(t, "make tree", func() { b.tar(t, []string{"file 0644 /opt/b from the archive"}) })
			return nil
		}, `web.txtpb:9:10: ` + "ARCHIVE" + ` was changed while it was read: "/opt/a" is gone; build again`},
		{"the archive is gone", func(t *testing.T, b *bench) context.Context {
			b.spec.Archive = &contents.Path{At: contents.At{File: "web.txtpb", Line: 9, Col: 10}, Path: "/srv/gone.tar"}
			return nil
		}, `web.txtpb:9:10: "/srv`},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,first=%v", strings.ReplaceAll(test.name, " ", "-"), first), func(t *testing.T) {
				b := newBench(t)
				base := filepath.Dir(filepath.Dir(b.root))
				b.root = base + "/disk/jails/web"
				mountTmpfs(t, base+"/disk", ",size=1m,nr_inodes=200")
				mountTmpfs(t, b.state, ",size=1m,nr_inodes=200")
				b.spec.Paths = []contents.Path{{At: contents.At{File: "web.txtpb", Line: 2, Col: 8}, Path: "/usr/share/data"}}
				b.spec.Sources = []string{"web.txtpb"}
				left := []string{}
				if !first {
					b.build(t)
					b.change(t)
					left = []string{".web.jailctl", "web"}
				}
				before := inodes(t, b.root)
				ctx := test.prepare(t, b)
				if ctx == nil {
					ctx = context.Background()
				}
				s := b.open(t)
				building := b.building()
				if b.spec == nil {
					building.Load = noContents
				}
				_, err := s.Build(ctx, building)
				s.Close()
				if want := strings.ReplaceAll(test.want, "ARCHIVE", b.archive()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v, want %s", err, want)
				}
				if after := inodes(t, b.root); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
				step = func(string) {}
				entries, _ := os.ReadDir(filepath.Dir(b.root))
				for _, e := range entries {
					if !slices.Contains(left, e.Name()) {
						t.Errorf("left beside the root: %s", e.Name())
					}
				}
				stores, _ := os.ReadDir(filepath.Dir(b.root) + "/.web.jailctl")
				manifests, _ := os.ReadDir(b.state + "/manifests/web")
				if first {
					if jails, err := os.ReadDir(base + "/disk"); err != nil || len(jails) > 0 || len(manifests) > 0 {
						t.Errorf("left of a first build: %v, %v, %v", jails, manifests, err)
					}
					if all, _ := os.ReadDir(b.state + "/manifests"); len(all) > 0 {
						t.Errorf("left in the manifests: %v", all)
					}
				} else if len(stores) > 0 || len(manifests) != 2 {
					t.Errorf("left: %v, %v", stores, manifests)
				}
			})
		}
	}
}

func noContents(*host.Host) (*contents.Spec, error) { return nil, errors.New("no contents") }

// A file that changes while its content is read is not taken for either.
func TestChangesWhileCopied(t *testing.T) {
	b := newBench(t)
	b.put(t, "/usr/share/data/large", strings.Repeat("x", 100<<20), 0o644)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	done := make(chan error)
	at(t, "make tree", func() {
		go func() {
			f, err := os.OpenFile(b.host+"/usr/share/data/large", os.O_WRONLY, 0)
			for err == nil { // until the first of it is copied
				var st unix.Stat_t
				unix.Stat(filepath.Dir(b.root)+"/.web.jailctl/new/usr/share/data/large", &st)
				if st.Size > 0 {
					_, err = f.WriteAt([]byte("y"), 100<<20-1)
					break
				}
			}
			done <- errors.Join(err, f.Close())
		}()
	})
	s := b.open(t)
	defer s.Close()
	_, err := s.Build(context.Background(), b.building())
	do(t, <-done)
	if err == nil || !strings.Contains(err.Error(), `web:1:1: write "/usr/share/data/large" in the new tree: /usr/share/data/large was changed while it was copied; build again`) {
		t.Error(err)
	}
}

// What is at the root already.
func TestRoots(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(root string) error
		replace bool
		want    string
	}{
		{"nothing", func(string) error { return nil }, false, ""},
		{"an empty directory", func(root string) error { return os.MkdirAll(root, 0o755) }, false, ""},
		{"an empty directory of somebody", func(root string) error {
			return errors.Join(os.MkdirAll(root, 0o777), os.Chown(root, 4711, 4711))
		}, false, ""},
		{"a directory with something in it", func(root string) error { return os.MkdirAll(root+"/x", 0o755) }, false, ErrNotOurs.Error()},
		{"a directory to replace", func(root string) error { return os.MkdirAll(root+"/x", 0o755) }, true, ""},
		{"a link", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root)+"/else", 0o755), os.Symlink("else", root))
		}, true, "is not a directory: move it away"},
		{"a file", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), os.WriteFile(root, nil, 0o644))
		}, true, "is not a directory: move it away"},
		{"a mount point", func(root string) error {
			return errors.Join(os.MkdirAll(root, 0o755), unix.Mount("none", root, "tmpfs", 0, "size=64k"))
		}, true, "is a mount point: unmount it; what is to stay can be mounted below a state directory"},
		{"a mount in it", func(root string) error {
			return errors.Join(os.MkdirAll(root+"/proc", 0o755), unix.Mount("none", root+"/proc", "tmpfs", 0, "size=64k"))
		}, true, `/proc" is a mount point: unmount it`},
		{"a way that others may write", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), os.Chmod(filepath.Dir(root), 0o777))
		}, false, "must not be writable by group or others; mend it with: chmod go-w"},
		{"a way that is somebody's", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), os.Chown(filepath.Dir(root), 4711, 0))
		}, false, "must be owned by root; mend it with: chown root"},
		{"a link on the way", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(filepath.Dir(root))+"/else", 0o755), os.Symlink("else", filepath.Dir(root)))
		}, false, "is a symbolic link; mend it with: write the directory that it stands for"},
		{"a store of somebody", func(root string) error {
			store := filepath.Dir(root) + "/.web.jailctl"
			return errors.Join(os.MkdirAll(store, 0o700), os.Chown(store, 4711, 0))
		}, false, "is not as jailctl made it: it must be root's, with mode 0700"},
		{"a store that others may enter", func(root string) error {
			store := filepath.Dir(root) + "/.web.jailctl"
			return errors.Join(os.MkdirAll(store, 0o700), os.Chmod(store, 0o711))
		}, false, "is not as jailctl made it: it must be root's, with mode 0700"},
		{"a group that is handed down", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), os.Chown(filepath.Dir(root), 0, 4711), unix.Chmod(filepath.Dir(root), 0o2755))
		}, false, ""},
		{"access lists that are handed down", func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), unix.Setxattr(filepath.Dir(root), "system.posix_acl_default", acl(), 0))
		}, false, ""},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			b := newBench(t)
			b.root = filepath.Dir(filepath.Dir(b.root)) + "/srv/jails/web"
			b.spec.Paths = []contents.Path{path1("/usr/share/data")}
			do(t, test.prepare(b.root))
			t.Cleanup(func() {
				unix.Unmount(b.root, unix.MNT_DETACH)
				unix.Unmount(b.root+"/proc", unix.MNT_DETACH)
			})
			before := inodes(t, b.root)
			s, err := Open(context.Background(), "web", b.root, b.state, true, func(string) {})
			if err == nil {
				building := b.building()
				building.Replace = test.replace
				_, err = s.Build(context.Background(), building)
				s.Close()
			}
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				if after := inodes(t, b.root); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
				if left, _ := os.ReadDir(b.state + "/manifests"); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				return
			}
			do(t, err)
			b.clean(t)
			var st unix.Stat_t
			do(t, unix.Lstat(b.root, &st))
			if st.Mode != unix.S_IFDIR|0o755 || st.Uid != 0 || st.Gid != 0 {
				t.Errorf("mode %o of %d:%d", st.Mode, st.Uid, st.Gid)
			}
			// A directory for trees is made root's alone, and what leads there is not.
			if test.name == "nothing" {
				for dir, mode := range map[string]uint32{filepath.Dir(b.root): 0o700, filepath.Dir(filepath.Dir(b.root)): 0o755} {
					do(t, unix.Lstat(dir, &st))
					if st.Mode != unix.S_IFDIR|mode || st.Uid != 0 || st.Gid != 0 {
						t.Errorf("%s: mode %o of %d:%d", dir, st.Mode, st.Uid, st.Gid)
					}
				}
			}
		})
	}
}

// keeps is how many old trees there are.
func (b *bench) keeps(t *testing.T) int {
	t.Helper()
	s := b.open(t)
	defer s.Close()
	all, err := s.others()
	do(t, err)
	names, err := s.names()
	do(t, err)
	if len(names) != len(all) {
		t.Errorf("%v beside the tree, %d of them known", names, len(all))
	}
	return len(all)
}

// version has the host another version of its one file, and builds the tree with it.
func (b *bench) version(t *testing.T, n int) {
	t.Helper()
	b.put(t, "/usr/share/data/a", fmt.Sprintln("version", n), 0o644)
	if r := b.build(t); !r.Changed {
		t.Error("nothing changed")
	}
}

func (b *bench) is(t *testing.T, n int) {
	t.Helper()
	if got, want := read(t, b.root+"/usr/share/data/a"), fmt.Sprintln("version", n); got != want {
		t.Errorf("the tree has %q, want %q", got, want)
	}
	if got := read(t, b.root+"/data/mine"); got != "mine" {
		t.Errorf("state: %q", got)
	}
	b.clean(t)
}

func (b *bench) rollback(t *testing.T) error {
	t.Helper()
	s := b.open(t)
	defer s.Close()
	_, err := s.Rollback()
	return err
}

func keeping(t *testing.T, keep int) *bench {
	t.Helper()
	b := small(t)
	mountTmpfs(t, filepath.Dir(b.root), "")
	b.spec.Keep = keep
	b.spec.Directories = []contents.Directory{state("/data")}
	b.version(t, 1)
	write(t, b.root+"/data/mine", "mine")
	return b
}

// As many old trees are kept as the contents file says, the newest.
func TestKeep(t *testing.T) {
	for _, keep := range []int{0, 1, 3} {
		b := keeping(t, keep)
		for n := 2; n <= 6; n++ {
			b.version(t, n)
			if got, want := b.keeps(t), min(keep, n-1); got != want {
				t.Errorf("keep %d: %d kept after build %d", keep, got, n)
			}
		}
		for n := 5; n > 5-keep; n-- {
			do(t, b.rollback(t))
			b.is(t, n)
		}
		if err := b.rollback(t); err == nil || !strings.Contains(err.Error(), "no older tree is kept: keep: in the contents file") {
			t.Errorf("keep %d: rolled back too far: %v", keep, err)
		}
		b.is(t, 6-keep)
	}
	// Less than before: as soon as something is built, even if nothing changes.
	b := keeping(t, 3)
	for n := 2; n <= 4; n++ {
		b.version(t, n)
	}
	b.spec.Keep = 1
	b.put(t, "/usr/share/data/a", "version 4\n", 0o644)
	if r := b.build(t); r.Changed || b.keeps(t) != 1 {
		t.Errorf("%+v, %d kept", r, b.keeps(t))
	}
	do(t, b.rollback(t))
	b.is(t, 3)
}

// After a rollback, "build --all" leaves the jail alone until it is built by name; what
// was rolled back from is not what a later rollback leads to.
func TestRollback(t *testing.T) {
	b := keeping(t, 3)
	if err := b.rollback(t); err == nil {
		t.Error("rolled back to nothing")
	}
	for n := 2; n <= 4; n++ {
		b.version(t, n)
	}
	held := func() bool {
		s := b.open(t)
		defer s.Close()
		held, built := s.Held()
		if built.IsZero() {
			t.Error("not built")
		}
		return held
	}
	if held() {
		t.Error("held before it is rolled back")
	}
	do(t, b.rollback(t))
	b.is(t, 3)
	do(t, b.rollback(t))
	b.is(t, 2)
	if !held() {
		t.Error("not held")
	}
	b.version(t, 5)
	if held() {
		t.Error("held after it was built by name")
	}
	b.is(t, 5)
	do(t, b.rollback(t))
	b.is(t, 2)
	do(t, b.rollback(t))
	b.is(t, 1)
	// Nothing to do after a rollback, since the host went back as well.
	b.put(t, "/usr/share/data/a", "version 1\n", 0o644)
	if r := b.build(t); r.Changed || held() {
		t.Errorf("%+v, held %v", r, held())
	}
	b.is(t, 1)
}

// What somebody asks for by name is not held any more, even if not a stamp has changed.
func TestHeldAndFresh(t *testing.T) {
	b := keeping(t, 1)
	version := paths.Version
	defer func() { paths.Version = version }()
	// The next version of jailctl makes another tree of the same file, and is put back.
	paths.Version += ".1"
	b.spec.Symlinks = []contents.Symlink{{Path: "/link", Target: "x"}}
	b.build(t)
	do(t, b.rollback(t))
	paths.Version, b.spec.Symlinks = version, nil
	s := b.open(t)
	defer s.Close()
	if held, _ := s.Held(); !held {
		t.Error("not held")
	}
	if r, err := s.Build(context.Background(), b.building()); err != nil || r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
	if held, _ := s.Held(); held {
		t.Error("held still")
	}
}

// A jail whose policy names another root has nothing built there, and what was built
// stays where it is, in the same directory too.
func TestAnotherRoot(t *testing.T) {
	b := keeping(t, 1)
	b.version(t, 2)
	first := b.root
	for _, root := range []string{filepath.Dir(b.root) + "/web2", filepath.Dir(filepath.Dir(b.root)) + "/elsewhere/web"} {
		b.root = root
		s, err := Open(context.Background(), "web", b.root, b.state, false, func(string) {})
		if err == nil {
			_, _, _, err = s.Verify(context.Background())
			s.Close()
		}
		if !errors.Is(err, ErrNoTree) {
			t.Errorf("%s: %v", root, err)
		}
		b.build(t)
		b.clean(t)
		s = b.open(t)
		do(t, s.Remove())
		s.Close()
		b.root = first
		b.is(t, 2)
	}
	do(t, b.rollback(t))
	b.is(t, 1)
}

// Who waits for a store that is removed meanwhile makes a new one: two never have the lock.
func TestRemovedMeanwhile(t *testing.T) {
	b := keeping(t, 1)
	s := b.open(t)
	waits, got := make(chan string, 1), make(chan *Store)
	go func() {
		second, err := Open(context.Background(), "web", b.root, b.state, true, func(holder string) { waits <- holder })
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	if holder := <-waits; !strings.HasPrefix(holder, fmt.Sprintf("process %d, %q", os.Getpid(), strings.Join(append([]string{"exe"}, os.Args[1:]...), " "))) {
		t.Errorf("it waits for %s", holder)
	}
	do(t, s.Remove())
	s.Close()
	second := <-got
	defer second.Close()
	ctx, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	if third, err := Open(ctx, "web", b.root, b.state, true, func(string) {}); err == nil {
		third.Close()
		t.Error("two have the lock")
	}
	if _, err := second.Build(context.Background(), b.building()); err != nil {
		t.Error(err)
	}
}

// Removing takes all away that was made, and state; what is mounted is nobody's to remove.
func TestRemove(t *testing.T) {
	b := keeping(t, 2)
	for n := 2; n <= 4; n++ {
		b.version(t, n)
	}
	s := b.open(t)
	if got, err := s.State(); err != nil || !slices.Equal(got, []string{b.root + "/data"}) {
		t.Errorf("state %q, %v", got, err)
	}
	do(t, s.Remove())
	s.Close()
	for _, dir := range []string{filepath.Dir(b.root), b.state + "/manifests"} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if _, err := Open(context.Background(), "web", b.root, b.state, false, func(string) {}); !errors.Is(err, ErrNoTree) {
		t.Errorf("removed: %v", err)
	}
	// What jailctl did not make is not its to remove.
	do(t, os.MkdirAll(b.root+"/mine", 0o755))
	s = b.open(t)
	defer s.Close()
	if err := s.Remove(); !errors.Is(err, ErrNotOurs) {
		t.Errorf("somebody else's: %v", err)
	}
	if _, err := s.Rollback(); !errors.Is(err, ErrNoTree) {
		t.Errorf("rolled back somebody else's: %v", err)
	}
	if _, err := s.Outdated(context.Background(), b.building()); !errors.Is(err, ErrNoTree) {
		t.Errorf("somebody else's is outdated: %v", err)
	}
	if _, err := s.Packages(); !errors.Is(err, ErrNoTree) {
		t.Errorf("packages of somebody else's: %v", err)
	}
	if _, err := os.Stat(b.root + "/mine"); err != nil {
		t.Error(err)
	}
}

// image writes an image layout of one layer, whose one file holds text. All blobs but
// the index are called by what is in them.
func (b *bench) image(t *testing.T, dir, text string) {
	t.Helper()
	blob := func(content []byte) string {
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:])
		do(t, os.MkdirAll(dir+"/blobs/sha256", 0o755), os.WriteFile(dir+"/blobs/sha256/"+name, content, 0o644))
		return fmt.Sprintf(`"digest":"sha256:%s","size":%d`, name, len(content))
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	do(t, w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write([]byte(text))
	do(t, err, w.Close())
	sum := sha256.Sum256(layer.Bytes())
	config := blob([]byte(fmt.Sprintf(`{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, runtime.GOARCH, sum)))
	manifest := blob([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json",` + config +
		`},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",` + blob(layer.Bytes()) + `}]}`))
	write(t, dir+"/oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	write(t, dir+"/index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",`+manifest+`}]}`)
}

// Another image in the same layout is another input, though the directory is the same.
func TestImage(t *testing.T) {
	b := newBare(t)
	dir := filepath.Dir(b.host) + "/image"
	do(t, os.MkdirAll(b.host+dir, 0o755), os.Mkdir(dir, 0o755), unix.Mount(dir, b.host+dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(b.host+dir, unix.MNT_DETACH) })
	b.spec.Archive = &contents.Path{Path: dir}
	for _, text := range []string{"one", "two", "three"} {
		b.image(t, dir, text)
		if r := b.build(t); !r.Changed {
			t.Errorf("%q: nothing changed", text)
		}
		if got := read(t, b.root+"/file"); got != text {
			t.Errorf("%q", got)
		}
		if r := b.build(t); r.Changed {
			t.Errorf("%q: %+v", text, r)
		}
	}
}
