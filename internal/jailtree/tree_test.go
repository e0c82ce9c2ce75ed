package jailtree

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/packages"
	"jailctl/policy/source"
)

// dir is a directory in which only root can write, and so can every one above it.
var dir string

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("left out: this package's tests need root")
		os.Exit(0)
	}
	// A mount namespace of their own: what they mount is gone with them.
	if os.Getenv("JAILTREE_NAMESPACE") == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "JAILTREE_NAMESPACE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "the tests in a mount namespace of their own:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	unix.Umask(0o022)
	if os.Getenv("JAILTREE_BENCH") != "" {
		os.Exit(m.Run()) // to be killed, in a directory of its parent's
	}
	var err error
	if dir, err = os.MkdirTemp(cmp.Or(os.Getenv("JAILTREE_ON"), "/opt"), "jailctl-tree-"); err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// bench is a host of the test's own, a root and a state directory.
type bench struct {
	host, root, state string
	spec              *contents.Spec
}

func newBench(t *testing.T) *bench {
	t.Helper()
	d, err := os.MkdirTemp(dir, "t-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(d, 0o755)
	return benchIn(t, d)
}

func benchIn(t *testing.T, d string) *bench {
	t.Helper()
	b := &bench{host: d + "/host", root: d + "/jails/web", state: d + "/state", spec: &contents.Spec{Keep: 1}}
	b.put(t, "/usr/bin/tool", "tool 1\n", 0o755)
	b.put(t, "/usr/share/data/a", "a\n", 0o644)
	b.put(t, "/usr/share/data/b", "b\n", 0o644)
	b.link(t, "/bin", "usr/bin")
	b.link(t, "/usr/bin/alias", "tool")
	return b
}

func (b *bench) put(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	os.MkdirAll(filepath.Dir(b.host+name), 0o755)
	os.Remove(b.host + name)
	if err := os.WriteFile(b.host+name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	os.Chmod(b.host+name, mode)
}

func (b *bench) link(t *testing.T, name, target string) {
	t.Helper()
	os.MkdirAll(filepath.Dir(b.host+name), 0o755)
	if err := os.Symlink(target, b.host+name); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) building() Building {
	h := host.New(b.host)
	return Building{
		Host: Host{Files: h, Packages: packages.Open(h), Names: source.System()},
		Load: func(h *host.Host) (*contents.Spec, error) {
			h.Lstat("/contents")
			return b.spec, nil
		},
		Progress: func(int64, int64) {},
	}
}

// edited has the contents file be another than before.
func (b *bench) edited(t *testing.T) {
	t.Helper()
	os.Remove(b.host + "/contents")
	do(t, os.WriteFile(b.host+"/contents", nil, 0o644))
}

func (b *bench) open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(context.Background(), "web", b.root, b.state, true, func(holder string) { t.Logf("waits for %s", holder) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (b *bench) build(t *testing.T) *Report {
	t.Helper()
	s := b.open(t)
	defer s.Close()
	r, err := s.Build(context.Background(), b.building())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) verify(t *testing.T) []Finding {
	t.Helper()
	s := b.open(t)
	defer s.Close()
	found, _, _, err := s.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func path1(p string) contents.Path {
	return contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: p}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A build, one with nothing to do, an update, and the way back; state goes along.
func TestLife(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/bin/alias"), path1("/usr/share/data")}
	b.spec.Directories = []contents.Directory{{Path: "/var/data", Owner: "1", Group: "1", Mode: 0o750, State: true}}
	r := b.build(t)
	for _, c := range r.Changes {
		t.Log(c)
	}
	if got := read(t, b.root+"/bin/alias"); got != "tool 1\n" {
		t.Errorf("%q", got)
	}
	if f := b.verify(t); len(f) > 0 {
		t.Errorf("%+v", f)
	}
	if err := os.WriteFile(b.root+"/var/data/mine", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := inodes(t, b.root)
	if r := b.build(t); r.Changed {
		t.Errorf("%+v", r)
	}
	if after := inodes(t, b.root); after != before {
		t.Errorf("a build with nothing to do changed\n%s\nto\n%s", before, after)
	}
	b.put(t, "/usr/bin/tool", "tool 2\n", 0o755)
	if r := b.build(t); !r.Changed || len(r.Changes) != 1 {
		t.Errorf("%+v", r)
	}
	if got := read(t, b.root+"/bin/alias") + read(t, b.root+"/var/data/mine"); got != "tool 2\nmine" {
		t.Errorf("%q", got)
	}
	s := b.open(t)
	if _, err := s.Rollback(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := read(t, b.root+"/bin/alias") + read(t, b.root+"/var/data/mine"); got != "tool 1\nmine" {
		t.Errorf("%q", got)
	}
	if f := b.verify(t); len(f) > 0 {
		t.Errorf("%+v", f)
	}
	mounts, _ := mountsIn(filepath.Dir(b.root))
	if len(mounts) > 0 {
		t.Errorf("left mounted: %v", mounts)
	}
	b.build(t)
	if got := read(t, b.root+"/bin/alias") + read(t, b.root+"/var/data/mine"); got != "tool 2\nmine" {
		t.Errorf("%q", got)
	}
}

// inodes is every inode of a tree with its change time.
func inodes(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	filepath.Walk(root, func(name string, _ os.FileInfo, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(name, &st)
		}
		fmt.Fprintln(&all, name, st.Ino, st.Ctim, err)
		return nil
	})
	return all.String()
}
