package jailtree

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/proto/jailpb"
)

// furnished is a bench with a tree of everything that a tree can have, in memory: these
// tests build often.
func furnished(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	mountTmpfs(t, filepath.Dir(b.root), "")
	b.put(t, "/usr/lib/one", strings.Repeat("one\n", 1000), 0o644)
	if err := os.Link(b.host+"/usr/lib/one", b.host+"/usr/lib/two"); err != nil {
		t.Fatal(err)
	}
	b.put(t, "/usr/lib/empty", "", 0o644)
	b.put(t, "/usr/lib/a/b/c/d/e/f/g/h/deep", "deep\n", 0o600)
	b.put(t, "/usr/lib/large", strings.Repeat("large\n", 1<<17), 0o644)
	b.spec.Paths = []contents.Path{path1("/bin/alias"), path1("/usr/lib"), path1("/usr/share/data")}
	b.spec.Directories = []contents.Directory{
		{Path: "/var/data", Owner: "1", Group: "1", Mode: 0o750, State: true},
		{Path: "/tmp", Mode: 0o1777, State: true},
	}
	b.spec.Files = []contents.File{{Path: "/etc/motd", Text: []byte("hello\n"), Mode: 0o644}}
	b.spec.Devices = []contents.Name{{Name: "null"}}
	b.build(t)
	b.clean(t)
	return b
}

// clean has verify find nothing.
func (b *bench) clean(t *testing.T) {
	t.Helper()
	if found := b.verify(t); len(found) > 0 {
		t.Fatalf("found in a tree that is as it was built: %+v", found)
	}
}

// findings are lines as "kind path", ascending.
func findings(found []Finding) []string {
	lines := []string{}
	for _, f := range found {
		lines = append(lines, f.Kind+" "+string(f.Path))
	}
	slices.Sort(lines)
	return lines
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// capabilities is the value of the attribute security.capability that gives a program
// cap_setuid whoever starts it (struct vfs_cap_data of linux/capability.h, version 2).
func capabilities() []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, []uint32{0x02000001, 1 << unix.CAP_SETUID, 0, 0, 0})
	return b.Bytes()
}

// acl is an access list (linux/posix_acl_xattr.h) that lets uid 4711 write.
func acl() []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint32(2))
	for _, e := range []struct {
		Tag, Perm uint16
		ID        uint32
	}{{1, 6, 1<<32 - 1}, {2, 6, 4711}, {4, 4, 1<<32 - 1}, {0x10, 4, 1<<32 - 1}, {0x20, 4, 1<<32 - 1}} {
		binary.Write(&b, binary.LittleEndian, e)
	}
	return b.Bytes()
}

// Each way in which a tree can be another than what was built is found, and a build
// mends it.
func TestFindings(t *testing.T) {
	b := furnished(t)
	outside := filepath.Dir(b.root) + "/outside"
	do(t, os.WriteFile(outside, []byte("outside\n"), 0o644))
	text := func(name, text string) func(string) error {
		return func(root string) error { return os.WriteFile(root+name, []byte(text), 0o644) }
	}
	chmod := func(name string, mode uint32) func(string) error {
		return func(root string) error { return unix.Chmod(root+name, mode) }
	}
	chown := func(name string, uid, gid int) func(string) error {
		return func(root string) error { return os.Lchown(root+name, uid, gid) }
	}
	xattr := func(name, attribute string, value []byte) func(string) error {
		return func(root string) error { return unix.Lsetxattr(root+name, attribute, value, 0) }
	}
	mknod := func(name string, mode uint32, major, minor uint32) func(string) error {
		return func(root string) error {
			os.Remove(root + name)
			return errors.Join(unix.Mknod(root+name, mode, int(unix.Mkdev(major, minor))), unix.Chmod(root+name, mode&0o7777))
		}
	}
	instead := func(name string, f func(at string) error) func(string) error {
		return func(root string) error { return errors.Join(os.RemoveAll(root+name), f(root+name)) }
	}
	socket := func(at string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: at}), unix.Chmod(at, 0o755))
	}
	link := func(target string) func(string) error {
		return func(at string) error { return os.Symlink(target, at) }
	}
	for _, test := range []struct {
		name   string
		tamper func(root string) error
		want   []string
	}{
		{"content", text("/usr/share/data/a", "A\n"), []string{"changed /usr/share/data/a"}},
		{"longer", text("/usr/share/data/a", "a\nb\n"), []string{"changed /usr/share/data/a"}},
		{"truncated", text("/usr/share/data/a", ""), []string{"changed /usr/share/data/a"}},
		{"no more empty", text("/usr/lib/empty", "x"), []string{"changed /usr/lib/empty"}},
		{"a text of the contents file", text("/etc/motd", "hallo\n"), []string{"changed /etc/motd"}},
		{"both names", text("/usr/lib/two", strings.Repeat("two\n", 1000)), []string{"changed /usr/lib/one", "changed /usr/lib/two"}},
		{"one name is another file", instead("/usr/lib/one", func(at string) error {
			return os.WriteFile(at, []byte(strings.Repeat("two\n", 1000)), 0o644)
		}), []string{"changed /usr/lib/one"}},
		{"the other name is another file", instead("/usr/lib/two", func(at string) error {
			return os.WriteFile(at, []byte(strings.Repeat("two\n", 1000)), 0o644)
		}), []string{"changed /usr/lib/two"}},
		{"the first is a copy, the second changed", func(root string) error {
			return errors.Join(os.Remove(root+"/usr/lib/one"), os.WriteFile(root+"/usr/lib/one", []byte(strings.Repeat("one\n", 1000)), 0o644),
				os.WriteFile(root+"/usr/lib/two", []byte(strings.Repeat("two\n", 1000)), 0o644))
		}, []string{"changed /usr/lib/two"}},

		{"extra file", text("/usr/new", "x"), []string{"extra /usr/new"}},
		{"extra directory", func(root string) error {
			return errors.Join(os.MkdirAll(root+"/new/er", 0o755), text("/new/er/f", "x")(root))
		}, []string{"extra /new", "extra /new/er", "extra /new/er/f"}},
		{"extra link", func(root string) error { return os.Symlink("/etc", root+"/new") }, []string{"extra /new"}},
		{"extra FIFO", mknod("/new", unix.S_IFIFO|0o600, 0, 0), []string{"extra /new"}},
		{"extra socket", func(root string) error { return socket(root + "/new") }, []string{"extra /new", "type /new"}},
		{"extra set-user-ID", func(root string) error {
			return errors.Join(text("/new", "x")(root), chmod("/new", 0o4755)(root))
		}, []string{"extra /new", "set-id /new"}},
		{"extra set-group-ID in a new directory", func(root string) error {
			return errors.Join(os.Mkdir(root+"/new", 0o755), text("/new/x", "x")(root), chmod("/new/x", 0o2755)(root))
		}, []string{"extra /new", "extra /new/x", "set-id /new/x"}},
		{"extra capabilities", func(root string) error {
			return errors.Join(text("/new", "x")(root), xattr("/new", "security.capability", capabilities())(root))
		}, []string{"attribute /new", "extra /new"}},
		{"extra writable", func(root string) error {
			return errors.Join(text("/new", "x")(root), chmod("/new", 0o666)(root))
		}, []string{"extra /new", "writable /new"}},
		{"extra of somebody", func(root string) error {
			return errors.Join(os.Mkdir(root+"/new", 0o755), chown("/new", 4711, 0)(root))
		}, []string{"extra /new", "writable /new"}},
		{"extra with an access list", func(root string) error {
			return errors.Join(os.Mkdir(root+"/new", 0o755), xattr("/new", "system.posix_acl_default", acl())(root))
		}, []string{"attribute /new", "extra /new"}},
		{"extra name of a file outside", func(root string) error { return os.Link(outside, root+"/new") }, []string{"extra /new", "names /new"}},
		{"extra character device", mknod("/dev/kmem", unix.S_IFCHR|0o600, 1, 2), []string{"device /dev/kmem", "extra /dev/kmem"}},
		{"extra block device", mknod("/dev/sda", unix.S_IFBLK|0o600, 8, 0), []string{"device /dev/sda", "extra /dev/sda"}},
		{"a device by the name of an extra", mknod("/dev/zero", unix.S_IFCHR|0o600, 1, 5), []string{"device /dev/zero", "extra /dev/zero"}},

		{"missing file", func(root string) error { return os.Remove(root + "/usr/share/data/a") }, []string{"missing /usr/share/data/a"}},
		{"missing link", func(root string) error { return os.Remove(root + "/bin") }, []string{"missing /bin"}},
		{"missing directory", func(root string) error { return os.RemoveAll(root + "/usr/lib/a") }, []string{"missing /usr/lib/a"}},
		{"missing device", func(root string) error { return os.Remove(root + "/dev/null") }, []string{"missing /dev/null"}},
		{
			"missing at the bottom", func(root string) error { return os.Remove(root + "/usr/lib/a/b/c/d/e/f/g/h/deep") },
			[]string{"missing /usr/lib/a/b/c/d/e/f/g/h/deep"},
		},
		{
			"renamed", func(root string) error { return os.Rename(root+"/usr/share/data/a", root+"/usr/share/data/c") },
			[]string{"extra /usr/share/data/c", "missing /usr/share/data/a"},
		},

		{"set-user-ID", chmod("/usr/bin/tool", 0o4755), []string{"mode /usr/bin/tool", "set-id /usr/bin/tool"}},
		{"set-group-ID", chmod("/usr/bin/tool", 0o2755), []string{"mode /usr/bin/tool", "set-id /usr/bin/tool"}},
		{"set-group-ID directory", chmod("/usr", 0o2755), []string{"mode /usr", "set-id /usr"}},
		{"sticky", chmod("/usr", 0o1755), []string{"mode /usr"}},
		{"mode", chmod("/usr/bin/tool", 0o700), []string{"mode /usr/bin/tool"}},
		{"a mode that hides", chmod("/usr/lib/a", 0), []string{"mode /usr/lib/a"}},
		{"writable by others", chmod("/usr/lib", 0o757), []string{"mode /usr/lib", "writable /usr/lib"}},
		{"writable by the group", chmod("/usr/lib", 0o775), []string{"mode /usr/lib", "writable /usr/lib"}},
		{"writable file", chmod("/usr/lib/one", 0o646), []string{"mode /usr/lib/one", "mode /usr/lib/two", "writable /usr/lib/one", "writable /usr/lib/two"}},
		{"writable root", chmod("/", 0o777), []string{"mode /", "writable /"}},
		{"mode of a device", chmod("/dev/null", 0o600), []string{"mode /dev/null"}},
		{"owner", chown("/usr/bin/tool", 4711, 0), []string{"owner /usr/bin/tool"}},
		{"group", chown("/usr/bin/tool", 0, 4711), []string{"owner /usr/bin/tool"}},
		{"owner of a directory", chown("/usr/lib", 4711, 0), []string{"owner /usr/lib"}},
		{"owner of a link", chown("/bin", 4711, 0), []string{"owner /bin"}},
		{"owner of a device", chown("/dev/null", 4711, 0), []string{"owner /dev/null"}},
		{"owner of the root", chown("/", 4711, 4711), []string{"owner /"}},

		{"capabilities", xattr("/usr/bin/tool", "security.capability", capabilities()), []string{"attribute /usr/bin/tool"}},
		{"access list", xattr("/usr/lib/large", "system.posix_acl_access", acl()), []string{"attribute /usr/lib/large"}},
		{"access list of a directory", xattr("/usr/lib", "system.posix_acl_default", acl()), []string{"attribute /usr/lib"}},
		{"user attribute", xattr("/usr/bin/tool", "user.note", []byte("x")), []string{"attribute /usr/bin/tool"}},
		{"more attributes than fit in a page", func(root string) error {
			for n := range 30 {
				if err := unix.Lsetxattr(root+"/usr/bin/tool", fmt.Sprintf("user.%d%s", n, strings.Repeat("x", 200)), nil, 0); err != nil {
					return err
				}
			}
			return nil
		}, slices.Repeat([]string{"attribute /usr/bin/tool"}, 30)},
		{"attribute of the root", xattr("/", "user.note", []byte("x")), []string{"attribute /"}},

		{"another target", instead("/bin", link("usr/sbin")), []string{"link /bin"}},
		{"a longer target", instead("/bin", link("usr/bin/")), []string{"link /bin"}},
		{"a shorter target", instead("/bin", link("usr/bi")), []string{"link /bin"}},
		{"number of a device", mknod("/dev/null", unix.S_IFCHR|0o666, 1, 1), []string{"device /dev/null"}},
		{"number of a driver", mknod("/dev/null", unix.S_IFCHR|0o666, 8, 3), []string{"device /dev/null"}},
		{"a block device in the place of a device", mknod("/dev/null", unix.S_IFBLK|0o600, 1, 3), []string{"device /dev/null", "type /dev/null"}},
		{"a file in the place of a device", instead("/dev/null", func(at string) error { return os.WriteFile(at, nil, 0o644) }), []string{"type /dev/null"}},
		{"a link in the place of a file", instead("/usr/share/data/a", link("b")), []string{"type /usr/share/data/a"}},
		{"a FIFO in the place of a file", instead("/usr/share/data/a", func(at string) error { return unix.Mkfifo(at, 0o644) }), []string{"type /usr/share/data/a"}},
		{"a socket in the place of a file", instead("/usr/share/data/a", socket), []string{"type /usr/share/data/a", "type /usr/share/data/a"}},
		{"a directory in the place of a file", instead("/usr/share/data/a", func(at string) error {
			return errors.Join(os.Mkdir(at, 0o755), os.WriteFile(at+"/x", nil, 0o644), unix.Chmod(at+"/x", 0o4755))
		}), []string{"extra /usr/share/data/a/x", "set-id /usr/share/data/a/x", "type /usr/share/data/a"}},
		{"a file in the place of a link", instead("/bin", func(at string) error { return os.WriteFile(at, []byte("usr/bin"), 0o644) }), []string{"type /bin"}},
		{"a link in the place of a directory", func(root string) error {
			return errors.Join(os.Rename(root+"/usr/lib", outside+".lib"), os.Symlink(outside+".lib", root+"/usr/lib"))
		}, []string{"type /usr/lib"}},
		{"a file in the place of a directory", instead("/usr/lib/a", func(at string) error { return os.WriteFile(at, nil, 0o644) }), []string{"type /usr/lib/a"}},
		{"a program with capabilities in the place of a link", instead("/bin", func(at string) error {
			return errors.Join(os.WriteFile(at, nil, 0o755), unix.Lsetxattr(at, "security.capability", capabilities(), 0))
		}), []string{"attribute /bin", "type /bin"}},

		{"a name outside", func(root string) error { return os.Link(root+"/usr/bin/tool", outside+".tool") }, []string{"names /usr/bin/tool"}},
		{
			"a name outside of one of two", func(root string) error { return os.Link(root+"/usr/lib/two", outside+".two") },
			[]string{"names /usr/lib/one", "names /usr/lib/two"},
		},
		{"a name outside of a device", func(root string) error { return os.Link(root+"/dev/null", outside+".null") }, []string{"names /dev/null"}},
		{
			"a second name inside", func(root string) error { return os.Link(root+"/usr/bin/tool", root+"/usr/new") },
			[]string{"extra /usr/new", "names /usr/bin/tool", "names /usr/new"},
		},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			do(t, test.tamper(b.root))
			found := b.verify(t)
			if got := findings(found); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
			for _, f := range found {
				if f.What == "" || strings.Contains(f.What, "%!") {
					t.Errorf("%+v", f)
				}
			}
			if r := b.build(t); !r.Changed {
				t.Error("a build leaves it as it is")
			}
			b.clean(t)
		})
	}
}

// One byte that changed, with the times put back, is found: 100 of 100.
func TestEveryByte(t *testing.T) {
	b := furnished(t)
	var files []string
	err := filepath.Walk(b.root, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			files = append(files, name)
		}
		return err
	})
	do(t, err)
	if len(files) < 8 {
		t.Fatal(files)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 100 {
		name := files[r.IntN(len(files))]
		var st unix.Stat_t
		do(t, unix.Stat(name, &st))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		do(t, err)
		at := r.Int64N(st.Size)
		var was [1]byte
		f.ReadAt(was[:], at)
		write := func(c byte) {
			_, err := f.WriteAt([]byte{c}, at)
			do(t, err, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, 0))
		}
		write(was[0] + byte(1+r.IntN(255)))
		found := b.verify(t)
		hit := false
		for _, f := range found {
			hit = hit || b.root+string(f.Path) == name
			if f.Kind != "changed" || !sameFile(t, b.root+string(f.Path), name) {
				t.Errorf("change %d, byte %d of %s: %+v", n, at, name, f)
			}
		}
		if !hit {
			t.Errorf("change %d: not found at byte %d of %s", n, at, name)
		}
		write(was[0])
		f.Close()
	}
	b.clean(t)
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Lstat(a)
	do(t, err)
	y, err := os.Lstat(b)
	do(t, err)
	return os.SameFile(x, y)
}

// What is in state directories is their owners', but for what gives rights.
func TestFindingsInState(t *testing.T) {
	b := furnished(t)
	data := b.root + "/var/data"
	deep := data + strings.Repeat("/d", deepest)
	do(t, os.MkdirAll(deep, 0o777), os.WriteFile(deep+"/x", nil, 0o644), os.Chmod(deep+"/x", 0o777))
	do(t, os.WriteFile(data+"/mine", []byte("mine"), 0o666), os.Lchown(data+"/mine", 1, 1))
	do(t, os.Symlink("/etc/shadow", data+"/link"), unix.Mkfifo(data+"/fifo", 0o666))
	do(t, os.Mkdir(data+"/shared", 0o755), unix.Chmod(data+"/shared", 0o2777), os.Link(data+"/mine", data+"/again"))
	do(t, unix.Lsetxattr(data+"/mine", "user.note", []byte("x"), 0), unix.Lsetxattr(data, "system.posix_acl_default", acl(), 0))
	// More than any list of attributes that fits in a page.
	for n := range 30 {
		do(t, unix.Lsetxattr(data, fmt.Sprintf("user.%d%s", n, strings.Repeat("x", 200)), nil, 0))
	}
	listener, err := net.Listen("unix", data+"/socket")
	do(t, err)
	defer listener.Close()
	b.clean(t)

	do(t, os.Mkdir(deep+"/d", 0o755))
	do(t, unix.Mknod(deep+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	do(t, unix.Mknod(data+"/sda", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))))
	do(t, unix.Chmod(deep+"/x", 0o4755))
	do(t, os.WriteFile(b.root+"/tmp/group", nil, 0o644), unix.Chmod(b.root+"/tmp/group", 0o2711))
	do(t, os.WriteFile(b.root+"/tmp/able", nil, 0o755), unix.Lsetxattr(b.root+"/tmp/able", "security.capability", capabilities(), 0))
	do(t, os.Mkdir(data+"/mount", 0o755), unix.Mount("none", data+"/mount", "tmpfs", 0, "size=64k"))
	defer unix.Unmount(data+"/mount", unix.MNT_DETACH)
	below := strings.TrimPrefix(deep, b.root)
	want := []string{
		"attribute /tmp/able", "device " + below + "/null", "device /var/data/sda", "mount /var/data/mount",
		"set-id /tmp/group", "set-id " + below + "/x", "type " + below + "/d",
	}
	if got := findings(b.verify(t)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	// The state directory itself is as the contents file says.
	do(t, unix.Unmount(data+"/mount", 0), unix.Chmod(b.root+"/tmp", 0o777), os.Chown(data, 2, 1))
	got := findings(b.verify(t))
	for _, line := range []string{"mode /tmp", "owner /var/data"} {
		if !slices.Contains(got, line) {
			t.Errorf("found %q, want %q", got, line)
		}
	}
}

// What is mounted in a tree is not the tree's, and nobody reads or builds over it.
func TestFindingsMounts(t *testing.T) {
	b := furnished(t)
	outside := filepath.Dir(b.root) + "/outside"
	do(t, os.WriteFile(outside, []byte("a\n"), 0o644))
	do(t, os.Mkdir(b.root+"/extra", 0o755), os.WriteFile(b.root+"/file", nil, 0o644))
	bind := func(from, to string) {
		do(t, unix.Mount(from, b.root+to, "", unix.MS_BIND, ""))
		t.Cleanup(func() { unix.Unmount(b.root+to, unix.MNT_DETACH) })
	}
	bind("/usr", "/usr/lib")
	bind("/usr", "/extra")
	bind(outside, "/usr/share/data/a")
	bind(outside, "/file")
	bind("/usr", "/var/data")
	want := []string{
		"extra /extra", "extra /file", "mount /extra", "mount /file",
		"mount /usr/lib", "mount /usr/share/data/a", "mount /var/data",
	}
	if got := findings(b.verify(t)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	s := b.open(t)
	defer s.Close()
	_, err := s.Build(context.Background(), b.building())
	if err == nil || !strings.Contains(err.Error(), "is a mount point: unmount it") {
		t.Errorf("built over mounts: %v", err)
	}
	if _, err := s.Rollback(); err == nil || !strings.Contains(err.Error(), "is a mount point: unmount it") {
		t.Errorf("rolled back under mounts: %v", err)
	}
	if err := s.Remove(); err == nil || !strings.Contains(err.Error(), "is a mount point: unmount it") {
		t.Errorf("removed under mounts: %v", err)
	}
	if _, err := os.Lstat(b.root + "/usr/bin/tool"); err != nil {
		t.Error(err)
	}
}

// A finding says where the content came from, and its JSON has these fields.
func TestFindingFields(t *testing.T) {
	b := furnished(t)
	s := b.open(t)
	cur, err := s.current()
	do(t, err)
	for _, e := range cur.manifest.Entries {
		if string(e.Path) == "/usr/bin/tool" {
			e.Package = 1
		}
	}
	cur.manifest.Packages = []*jailpb.Origin{{Name: "tools", Version: "1:2.0-1"}}
	do(t, s.save(cur.id, cur.manifest))
	s.Close()
	do(t, os.WriteFile(b.root+"/usr/bin/tool", []byte("tool 0\n"), 0o755), os.WriteFile(b.root+"/etc/motd", nil, 0o644), os.Remove(b.root+"/usr/share/data/a"))
	got, err := json.Marshal(b.verify(t))
	do(t, err)
	const want = `[{"path":"/etc/motd","kind":"changed","what":"0 bytes, and should be 6"},` +
		`{"path":"/usr/bin/tool","kind":"changed","what":"its content is not what was copied","origin":"/usr/bin/tool","package":"tools@1:2.0-1"},` +
		`{"path":"/usr/share/data/a","kind":"missing","what":"it is not there","origin":"/usr/share/data/a"}]`
	if string(got) != want {
		t.Errorf("%s", got)
	}
}

// What keeps a tree from being read is an error, not a finding.
func TestVerifyTrouble(t *testing.T) {
	b := newBench(t)
	s := b.open(t)
	if _, _, _, err := s.Verify(context.Background()); !errors.Is(err, ErrNoTree) {
		t.Errorf("nothing built: %v", err)
	}
	s.Close()
	do(t, os.MkdirAll(b.root+"/x", 0o755))
	s = b.open(t)
	if _, _, _, err := s.Verify(context.Background()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("somebody else's: %v", err)
	}
	s.Close()
	b = furnished(t)
	s = b.open(t)
	defer s.Close()
	ctx, stop := context.WithCancelCause(context.Background())
	stop(errors.New("no time"))
	if _, _, _, err := s.Verify(ctx); err == nil || err.Error() != "no time" {
		t.Errorf("stopped: %v", err)
	}
	cur, err := s.current()
	do(t, err)
	cur.manifest.Entries = cur.manifest.Entries[1:]
	do(t, s.save(cur.id, cur.manifest))
	if _, _, _, err := s.Verify(context.Background()); err == nil || !strings.Contains(err.Error(), "does not begin with the root") {
		t.Errorf("without a root: %v", err)
	}
	do(t, os.WriteFile(s.file(cur.ino), []byte("nonsense"), 0o600))
	if _, _, _, err := s.Verify(context.Background()); err == nil || !strings.Contains(err.Error(), "is not a manifest that this jailctl can read: remove it") {
		t.Errorf("nonsense: %v", err)
	}
	do(t, os.Remove(s.file(cur.ino)))
	if _, _, _, err := s.Verify(context.Background()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("without a manifest: %v", err)
	}
}

// A file that cannot be read is trouble: nobody may take the tree for clean. A FIFO that
// comes in the place of a file after it was looked at holds nobody up.
func TestVerifyUnreadable(t *testing.T) {
	b := furnished(t)
	dir, err := os.Open(b.root + "/usr/bin")
	do(t, err)
	defer dir.Close()
	seen, err := lstat(dir, "tool")
	do(t, err)
	do(t, os.Remove(b.root+"/usr/bin/tool"), unix.Mkfifo(b.root+"/usr/bin/tool", 0o644))
	done := make(chan error, 1)
	go func() {
		f, err := openFile(dir, "tool", seen)
		if err == nil {
			f.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "replaced at this moment") {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for a FIFO")
		do(t, os.WriteFile(b.root+"/usr/bin/tool", nil, 0))
	}
	do(t, os.Remove(b.root+"/usr/bin/tool"), os.Symlink("alias", b.root+"/usr/bin/tool"))
	if _, err := openFile(dir, "tool", seen); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("it follows a link: %v", err)
	}
}
