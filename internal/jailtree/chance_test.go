package jailtree

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

func init() {
	if op := os.Getenv("JAILTREE_OP"); op != "" {
		f := strings.Split(op, "\n")
		dieAt, _ := strconv.ParseInt(f[2], 10, 64)
		if err := operate(f[0], f[1], dieAt, f[3:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// operate builds, with these state directories, rolls back or removes all, and dies before the
// dieAt-th change of the file system.
func operate(place, op string, dieAt int64, dirs []string) error {
	var n atomic.Int64
	step = func(string) {
		if n.Add(1) == dieAt {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	unix.Umask(0o022)
	b := chanceBench(place, dirs)
	s, err := Open(context.Background(), "web", b.root, b.state, true, func(string) {})
	if err != nil {
		return err
	}
	defer s.Close()
	switch op {
	case "rollback":
		_, err = s.Rollback()
	case "remove":
		err = s.Remove()
	default:
		_, err = s.Build(context.Background(), b.building())
	}
	return err
}

func chanceBench(place string, dirs []string) *bench {
	b := &bench{host: place + "/host", root: place + "/jails/web", state: place + "/state", spec: &contents.Spec{Keep: 2}}
	b.spec.Paths = []contents.Path{path1("/usr/share/data"), path1("/bin/alias")}
	for _, d := range dirs {
		b.spec.Directories = append(b.spec.Directories, state(d))
	}
	return b
}

// chance is a jail to which things happen.
type chance struct {
	*bench
	t     *testing.T
	place string
	// has are the state directories of each version of the tree.
	has map[string][]string
	// marked are the state directories in which somebody wrote something.
	marked map[string]bool
	log    []string
}

func newChance(t *testing.T) *chance {
	place, err := os.MkdirTemp(dir, "t-")
	if err != nil {
		t.Fatal(err)
	}
	// In memory, since syncing is not what this is about.
	mountTmpfs(t, place, ",size=64m")
	benchIn(t, place)
	return &chance{chanceBench(place, nil), t, place, map[string][]string{}, map[string]bool{}, nil}
}

func (c *chance) version() string {
	b, err := os.ReadFile(c.root + "/usr/share/data/a")
	if err != nil {
		return ""
	}
	return string(b)
}

// command is an operation in a process of its own.
func (c *chance) command(op string, dieAt int, dirs []string, with ...string) *exec.Cmd {
	if op == "build" {
		c.change(c.t)
		text, _ := os.ReadFile(c.host + "/usr/share/data/a")
		c.has[string(text)] = dirs
	}
	c.log = append(c.log, fmt.Sprint(op, " ", dirs, " ", dieAt, " ", with))
	args := append(slices.Clone(with), "/proc/self/exe")
	if len(with) > 0 {
		self, err := os.Executable()
		if err != nil {
			c.t.Fatal(err)
		}
		args[len(with)] = self
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"JAILTREE_OP=" + strings.Join(append([]string{c.place, op, strconv.Itoa(dieAt)}, dirs...), "\n")}
	return cmd
}

func text(dir string) string { return "written in " + dir }

// look fails the test if a tree is not whole or anything that was written is lost.
// Settled: nobody died since.
func (c *chance) look(settled bool) {
	c.t.Helper()
	version := c.version()
	dirs, known := c.has[version]
	if !known && len(c.marked) > 0 {
		c.t.Errorf("the version is %q", version)
	}
	for d := range c.marked {
		inodes := map[uint64]bool{}
		for _, name := range found(c.t, c.jails(), text(d)) {
			var st unix.Stat_t
			if unix.Lstat(name, &st) == nil {
				inodes[st.Ino] = true
			}
		}
		if len(inodes) != 1 {
			c.t.Errorf("what was written in %s is there %d times", d, len(inodes))
		}
	}
	for _, d := range dirs {
		if got, err := os.ReadFile(c.root + d + "/mark"); c.marked[d] && string(got) != text(d) {
			c.t.Errorf("in %s is %q, %v", d, got, err)
		}
		if settled && !c.marked[d] {
			write(c.t, c.root+d+"/mark", text(d))
			c.marked[d] = true
		}
	}
}

// settle opens the store, as any command does first.
func (c *chance) settle() {
	c.t.Helper()
	c.open(c.t).Close()
	c.look(true)
}

// State is dropped, named again, rolled back over, in any order, and every now and then
// all ends at any moment, by a kill or by a loss of power.
func TestChance(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	c := newChance(t)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %s", seed, strings.Join(c.log, "\n"))
		}
	}()
	died, rolled := 0, 0
	for n := 0; n < 120 && !t.Failed(); n++ {
		var dirs []string
		for _, d := range []string{"/a", "/b/c/d", "/usr/share/e"} {
			if random.IntN(3) > 0 {
				dirs = append(dirs, d)
			}
		}
		op, dieAt := "build", 0
		if random.IntN(3) == 0 {
			op = "rollback"
		}
		if random.IntN(2) == 0 {
			dieAt = 1 + random.IntN(50)
		}
		cmd := c.command(op, dieAt, dirs)
		out, err := cmd.CombinedOutput()
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case ws.Signal() == syscall.SIGKILL:
			died++
			if random.IntN(2) == 0 {
				// No mount outlives a loss of power, and state may be closed.
				mounts, _ := mountsIn(c.jails())
				for _, m := range mounts {
					unix.Unmount(m, unix.MNT_DETACH)
				}
			} else {
				c.look(false)
			}
		case err == nil && op == "rollback":
			rolled++
		case err != nil && !strings.Contains(string(out), "no older tree") && !strings.Contains(string(out), ErrNoTree.Error()):
			t.Errorf("%v: %s", err, out)
		}
		c.settle()
	}
	if died < 10 || rolled < 5 {
		t.Errorf("%d died, %d went back", died, rolled)
	}
}

// Calls that a build or a rollback makes fail. The tree in use stays whole, nothing is lost, and the next build succeeds and leaves nothing
// behind.
func TestErrors(t *testing.T) {
	calls := []string{
		"renameat2", "renameat", "fsync", "syncfs", "mkdirat", "openat2", "openat", "unlinkat", "fchown", "fchmod", "fchmodat", "linkat", "symlinkat", "mknodat",
		"write", "newfstatat", "fstat", "statx", "getdents64", "move_mount", "open_tree", "mount", "unshare", "utimensat", "flock", "fstatfs", "read",
	}
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	c := newChance(t)
	failed := 0
	for range 25 {
		op, call, when := "build", calls[random.IntN(len(calls))], 1+random.IntN(1<<random.IntN(6))
		if random.IntN(2) == 0 {
			op = "rollback"
			c.must("build")
		}
		errno := []string{"EIO", "ENOSPC", "EPERM", "ENOMEM", "EMFILE"}[random.IntN(5)]
		out, err := c.command(op, 0, dirs, "strace", "-f", "-qq", "-o", "/dev/null", "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, when)).CombinedOutput()
		if err != nil {
			failed++
		}
		c.look(false)
		c.must("build")
		if t.Failed() {
			t.Fatalf("seed %d: %s, %s %d: %s: %s", seed, op, call, when, errno, out)
		}
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
}

var dirs = []string{"/a", "/b/c/d"}

// must builds without any fault.
func (c *chance) must(op string) {
	c.t.Helper()
	if out, err := c.command(op, 0, dirs).CombinedOutput(); err != nil {
		c.t.Errorf("%v: %s", err, out)
	}
	c.settle()
	if found := c.verify(c.t); len(found) > 0 {
		c.t.Errorf("%+v", found)
	}
	clean(c.t, c.bench, strings.Join(c.log, "; "))
}

// There is no room, or there was some and then no more: a build that fails leaves the
// old tree, and nothing else.
func TestNoSpace(t *testing.T) {
	c := newChance(t)
	c.put(t, "/usr/share/data/large", strings.Repeat("0123456789abcdef", 1<<14), 0o644)
	c.must("build")
	failed := 0
	for room := int64(0); room < 400<<10; room += 20 << 10 {
		cmd := c.command("build", 0, dirs)
		full, err := os.Create(c.place + "/full")
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(c.place, &st); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fallocate(int(full.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-room); err != nil {
			t.Fatal(err)
		}
		full.Close()
		version, before := c.version(), inodes(t, c.jails())
		out, err := cmd.CombinedOutput()
		os.Remove(full.Name())
		if err != nil {
			failed++
			if c.version() != version || !strings.Contains(string(out), "no space left") ||
				strings.Contains(string(out), "large") && !strings.Contains(string(out), " files, is made beside the one in use") {
				t.Errorf("%d: %s", room, out)
			}
			// Times of directories are others.
			if after := inodes(t, c.jails()); strings.Count(after, "\n") != strings.Count(before, "\n") {
				t.Errorf("%d: %s\nwas\n%s\nis\n%s", room, out, before, after)
			}
		}
		c.look(false)
		c.settle()
	}
	c.must("build")
	if failed < 5 || failed > 18 {
		t.Errorf("%d failed", failed)
	}
}

// Without the right to mount, as in a container, state moves all the same.
func TestWithoutMounts(t *testing.T) {
	c := newChance(t)
	c.must("build")
	for _, op := range []string{"build", "build", "rollback", "build"} {
		if out, err := c.command(op, 0, dirs, "setpriv", "--bounding-set", "-sys_admin").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		c.look(true)
	}
	c.must("build")
}

// A tree that does not get to the disk does not get into its place.
func TestSyncFails(t *testing.T) {
	c := newChance(t)
	c.must("build")
	before := inodes(t, c.root)
	out, err := c.command("build", 0, dirs, "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=syncfs:error=EIO").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sync ") || inodes(t, c.root) != before {
		t.Errorf("%v: %s", err, out)
	}
	c.look(false)
	c.must("build")
}

// What is lent and cannot be unmounted does not pass for state that has moved.
func TestUnmountFails(t *testing.T) {
	c := newChance(t)
	c.must("build")
	out, err := c.command("build", 0, dirs, "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=umount2:error=EPERM").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unmount what is mounted there") {
		t.Errorf("%v: %s", err, out)
	}
	c.look(false)
	c.must("build")
}

// A removal that is killed at any step goes on when it is asked for again, and leaves
// nothing. Until it has begun to remove, a build has the state back.
func TestRemoveKilled(t *testing.T) {
	c := newChance(t)
	for n := 1; ; n++ {
		c.must("build")
		c.must("build")
		_, err := c.command("remove", n, dirs).CombinedOutput()
		if err == nil {
			if n < 10 {
				t.Errorf("it took %d steps", n)
			}
			break
		}
		if n <= 2 {
			c.must("build") // which looks for what was written
		}
		if out, err := c.command("remove", 0, dirs).CombinedOutput(); err != nil {
			t.Errorf("%d: %v: %s", n, err, out)
		}
		left, err := os.ReadDir(c.jails())
		if known, _ := os.ReadDir(c.state + "/manifests"); err != nil || len(left)+len(known) > 0 {
			t.Fatalf("%d: %v, %v, %v", n, left, known, err)
		}
		c.marked = map[string]bool{}
	}
}
