package jailtree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

// mallory is an ordinary user who owns a state directory.
const mallory = 54321

// secret is what is in the files outside that nobody but root may read.
const secret = "nobody but root may read this"

func init() {
	if plan := os.Getenv("JAILTREE_RACER"); plan != "" {
		dir, canary, _ := strings.Cut(plan, "\n")
		if canary == "" {
			fill(dir)
		}
		if a, b, ok := strings.Cut(canary, "swap\n"); ok && a == "" {
			for {
				unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
		race(dir, canary)
	}
}

// fill makes files in dir as fast as it can, by a descriptor, until it is killed.
func fill(dir string) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	for n := 0; ; n++ {
		unix.Mkdirat(fd, fmt.Sprint("more-", n%1000), 0o777)
	}
}

// race is mallory's process. It does in dir, her state directory, whatever may make
// root take one thing for another, as fast as it can, until it is killed; canary is a
// directory outside with files a, b and sub/c, that she would like root to read or
// remove.
func race(dir, canary string) {
	// What the races are about has the names of what is outside.
	bait := func(at string) {
		os.MkdirAll(at+"/sub", 0o755)
		for _, name := range []string{"/a", "/b", "/sub/c"} {
			os.WriteFile(at+name, []byte("bait"), 0o644)
		}
	}
	exchange := func(a, b string) { unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
	var rounds atomic.Int64
	forever := func(do func(n int64)) {
		for {
			do(rounds.Add(1))
		}
	}
	prepare := func() {
		for _, at := range []string{"/x", "/deep/1/2/x"} {
			bait(dir + at)
			os.Symlink(canary, dir+at+"-link")
		}
		os.WriteFile(dir+"/f", []byte("bait"), 0o644)
		os.Symlink(canary+"/a", dir+"/f-link")
		unix.Mkfifo(dir+"/f-fifo", 0o666)
		os.Mkdir(dir+"/f-dir", 0o755)
	}
	// A directory is a link to what is outside, and a directory again.
	go forever(func(int64) { exchange(dir+"/x", dir+"/x-link") })
	go forever(func(int64) { exchange(dir+"/deep/1/2/x", dir+"/deep/1/2/x-link") })
	// A file is a link, a FIFO, a directory.
	go forever(func(n int64) { exchange(dir+"/f", dir+[]string{"/f-link", "/f-fifo", "/f-dir"}[n%3]) })
	// Directories come, move below one another, and go.
	go forever(func(n int64) {
		at := fmt.Sprintf("%s/storm-%d", dir, n%50)
		os.MkdirAll(at+strings.Repeat("/d", int(n%9)), 0o755)
		os.Rename(dir+"/deep/1", at+"/d")
		os.Rename(at+"/d", dir+"/deep/1")
		os.Link(dir+"/f", at+"/f")
		if n%7 == 0 {
			os.RemoveAll(at)
		}
	})
	// By a descriptor of the directory, which leads there wherever it is moved.
	hold := -1
	go forever(func(n int64) {
		name := fmt.Sprintf("more-%d", n%100)
		fd, err := unix.Openat(hold, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
			unix.Renameat2(hold, "x", hold, "x-link", unix.RENAME_EXCHANGE)
			if n%1000 != 0 {
				return
			}
		}
		unix.Close(hold)
		hold, _ = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	// The tree's own files get other names, if the kernel lets them; modes and times.
	go forever(func(n int64) {
		os.Link(dir+"/../usr/share/data/a", fmt.Sprintf("%s/hard-%d", dir, n%100))
		os.Chmod(dir, []os.FileMode{0o700, 0o777, 0o711}[n%3])
		os.Chmod(dir+"/f", 0o4755)
		unix.Setxattr(dir, "user.x", []byte("x"), 0)
		prepare()
		// What is not hers.
		for _, name := range []string{"/../usr/new", "/../new", "/../../.web.jailctl/new/x"} {
			if f, err := os.Create(dir + name); err == nil {
				fmt.Println("made", f.Name())
			}
		}
		if _, err := os.ReadDir(dir + "/../../.web.jailctl"); err == nil {
			fmt.Println("looked at the trees")
		}
		for _, name := range []string{"/a", "/b"} {
			if _, err := os.ReadFile(canary + name); err == nil {
				fmt.Println("read the canary")
			}
		}
	})
	select {}
}

// start starts mallory's process. What it says is what it should not have been able to.
func startRacer(t *testing.T, dir, canary string) (stop func()) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"JAILTREE_RACER=" + dir + "\n" + canary}
	cmd.Dir = "/"
	cmd.Stdout = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mallory, Gid: mallory}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
		if said.Len() > 0 {
			t.Errorf("mallory %.300s", said.String())
		}
	}
}

// startSwap has mallory let two names change places.
func startSwap(t *testing.T, a, b string) (stop func()) { return startRacer(t, a, "swap\n"+b) }

// newCanary makes a directory outside of every tree with files that are root's alone.
func newCanary(t *testing.T, at string) {
	t.Helper()
	if err := os.MkdirAll(at+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a", "/b", "/sub/c"} {
		if err := os.WriteFile(at+name, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// leaked are the files below dir that have the secret. It is looked for within dir alone:
// who races could lead by a link to where the secret is.
func leaked(t *testing.T, dir string) (names []string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	do(t, err)
	defer root.Close()
	fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if f, err := root.OpenFile(name, unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
			b := make([]byte, len(secret))
			if n, _ := f.Read(b); string(b[:n]) == secret {
				names = append(names, name)
			}
			f.Close()
		}
		return nil
	})
	return names
}

func TestLeaked(t *testing.T) {
	b := newBare(t)
	outside := filepath.Dir(b.host) + "/outside"
	newCanary(t, outside)
	do(t, os.Symlink(outside, b.host+"/link"), os.Symlink("../outside", b.host+"/other"), os.Mkdir(b.host+"/within", 0o755))
	if names := leaked(t, b.host); len(names) > 0 {
		t.Error(names)
	}
	write(t, b.host+"/within/copy", secret)
	if names := leaked(t, b.host); len(names) != 1 || names[0] != "within/copy" {
		t.Error(names)
	}
}

// A directory that goes while its names are read is no trouble.
func TestGoneWhileRead(t *testing.T) {
	gone := newBare(t).host
	d, err := os.Open(gone)
	do(t, err, os.Remove(gone))
	defer d.Close()
	v := &verifier{ctx: context.Background()}
	if err := v.each(d, func(name string) { t.Error(name) }); err != nil {
		t.Error(err)
	}
}

// A build reads nothing from a state directory and writes nothing there, verify and
// remove read and remove nothing outside, whatever the owner does meanwhile.
func TestRace(t *testing.T) {
	// A disk, and a file system in memory, on which far more builds can be made meanwhile.
	t.Run("disk", func(t *testing.T) { testRace(t, small(t), 10) })
	t.Run("memory", func(t *testing.T) {
		base, err := os.MkdirTemp(dir, "t-")
		if err != nil {
			t.Fatal(err)
		}
		mountTmpfs(t, base, ",size=256m,nr_inodes=100k")
		b := benchIn(t, base)
		b.spec.Paths = []contents.Path{path1("/usr/share/data")}
		testRace(t, b, 120)
	})
}

func testRace(t *testing.T, b *bench, rounds int) {
	b.spec.Keep = 2
	base := filepath.Dir(b.host)
	canary := base + "/outside/canary"
	newCanary(t, canary)
	before := inodes(t, canary)
	// Open, for mallory to come in from outside.
	if err := os.Mkdir(b.jails(), 0o755); err != nil {
		t.Fatal(err)
	}
	hers := contents.Directory{Path: "/data", Owner: fmt.Sprint(mallory), Group: fmt.Sprint(mallory), Mode: 0o755, State: true}
	b.spec.Directories = []contents.Directory{hers, state("/other/nested/state")}
	b.build(t)
	write(t, b.root+"/other/nested/state/mine", "precious")
	defer startRacer(t, b.root+"/data", canary)()

	did := map[string]int{}
	for n := 1; n <= rounds && !t.Failed(); n++ {
		b.change(t)
		b.build(t)
		did["build"]++
		what := ""
		s := b.open(t)
		switch n % 10 {
		case 1, 5:
			what = "verify"
			all, _, _, err := s.Verify(context.Background())
			if err != nil {
				t.Error(err)
			}
			for _, f := range all {
				if f.Path != "/data" && !strings.HasPrefix(f.Path, "/data/") {
					t.Errorf("%+v", f)
				}
			}
		case 3, 7:
			what = "rollback"
			if _, err := s.Rollback(); err != nil {
				t.Error(err)
			}
		case 8:
			// The old tree that has her state is kept, and gives it back.
			what = "drop"
			b.spec.Directories = []contents.Directory{state("/other/nested/state")}
			b.change(t)
			if _, err := s.Build(context.Background(), b.building()); err != nil {
				t.Error(err)
			}
			b.spec.Directories = append(b.spec.Directories, hers)
		case 0:
			what = "remove"
			os.Rename(b.root+"/other/nested/state/mine", base+"/mine")
			if err := s.Remove(); err != nil {
				t.Error(err)
			}
			s.Close()
			if left, err := os.ReadDir(b.jails()); err != nil || len(left) > 0 {
				t.Errorf("%v, %v", left, err)
			}
			b.build(t)
			os.Rename(base+"/mine", b.root+"/other/nested/state/mine")
		}
		s.Close()
		if what != "" {
			did[what]++
		}
		if now := inodes(t, canary); now != before {
			t.Fatalf("%s: outside was\n%s and is\n%s", what, before, now)
		}
		if n%20 == 0 {
			if names := leaked(t, base+"/jails"); len(names) > 0 {
				t.Fatalf("outside was read into %q", names)
			}
			if got := read(t, b.root+"/other/nested/state/mine"); got != "precious" {
				t.Errorf("%q", got)
			}
		}
	}
	if names := leaked(t, base+"/jails"); len(names) > 0 {
		t.Fatalf("outside was read into %q", names)
	}
	t.Log(did)
	for _, what := range []string{"build", "verify", "rollback", "drop", "remove"} {
		if did[what] == 0 {
			t.Errorf("%v: no %s", did, what)
		}
	}
}

// TestRaceIsReal shows that who walks by names is caught: reads what is outside, and
// removes it.
func TestRaceIsReal(t *testing.T) {
	base, err := os.MkdirTemp(dir, "t-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(base, 0o755)
	hers, canary := base+"/hers", base+"/canary"
	if err := os.Mkdir(hers, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chown(hers, mallory, mallory)
	newCanary(t, canary)
	defer startRacer(t, hers, canary)()
	read, removed := false, false
	start := time.Now()
	for time.Since(start) < 30*time.Second && !(read && removed) {
		filepath.WalkDir(hers, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			// O_NONBLOCK, for who does without waits for ever for a FIFO.
			if f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
				b := make([]byte, len(secret))
				f.Read(b)
				f.Close()
				read = read || string(b) == secret
			}
			os.Remove(name)
			return nil
		})
		if _, err := os.Lstat(canary + "/a"); errors.Is(err, fs.ErrNotExist) {
			removed = true
		}
		// What was removed before it was read could never be read.
		newCanary(t, canary)
	}
	t.Logf("after %v", time.Since(start).Round(time.Millisecond))
	if !read || !removed {
		t.Errorf("read: %v, removed: %v", read, removed)
	}
}

// A state directory that its owner fills while it is removed, faster than it empties,
// with directories nested deeper than a process can have open, and names for which
// there is no room all at once, is removed all the same.
func TestRemoveOfHostileState(t *testing.T) {
	b := small(t)
	hers := contents.Directory{Path: "/data", Owner: fmt.Sprint(mallory), Group: fmt.Sprint(mallory), Mode: 0o777, State: true}
	b.spec.Directories = []contents.Directory{hers}
	if err := os.Mkdir(b.jails(), 0o755); err != nil {
		t.Fatal(err)
	}
	b.build(t)
	for _, at := range []string{"/data/deep", "/data/deep/too"} {
		if err := os.MkdirAll(b.root+at, 0o755); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(b.root+at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if err := unix.Mkdirat(fd, "1", 0o755); err != nil {
				t.Fatal(err)
			}
			next, err := unix.Openat(fd, "1", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			fd = next
		}
		unix.Close(fd)
	}
	for range 4 {
		defer startRacer(t, b.root+"/data", "")()
	}
	for {
		if names, _ := os.ReadDir(b.root + "/data"); len(names) > 100 {
			break
		}
	}
	var was unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &was)
	s := b.open(t)
	few := was
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Remove() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(30 * time.Second):
		err = errors.New("not removed after 30 s")
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(b.jails()); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// mute mounts a file system that answers nothing, as a user can with fusermount(1) on a
// directory or file of hers.
func mute(t *testing.T, at string, mode uint32) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%[3]d,allow_other", fuse, mode, mallory)
	if err := unix.Mount("mute", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fuse) // ends who waits for an answer
		unix.Unmount(at, unix.MNT_DETACH)
	})
}

// within fails the test if something takes longer than anybody would wait.
func within(t *testing.T, do func()) {
	t.Helper()
	done := make(chan bool)
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("not done after a minute")
	}
}

// Verify is neither held up nor flooded by who owns a directory, nor does it miss for
// that what is wrong elsewhere.
func TestVerifyOfHostileState(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data"), {Path: "/shared", Mode: 0o755}}
	b.build(t)
	data := b.root + "/data"
	// Findings without end, in state and where an administrator has let others write.
	os.Chmod(b.root+"/shared", 0o777)
	os.Mkdir(b.root+"/usr/extra", 0o755)
	os.Chmod(b.root+"/usr/extra", 0o777)
	for _, at := range []string{data + "/flood", b.root + "/shared", b.root + "/usr/extra"} {
		os.MkdirAll(at, 0o777)
		for n := range 3000 {
			write(t, fmt.Sprint(at, "/", n), "")
			os.Chmod(fmt.Sprint(at, "/", n), 0o755|os.ModeSetuid)
		}
	}
	write(t, b.root+"/usr/share/data/a", "other")
	// Files without end, and file systems without answers.
	os.Mkdir(data+"/fuse", 0o755)
	write(t, data+"/fuse-file", "")
	mute(t, data+"/fuse", unix.S_IFDIR)
	mute(t, data+"/fuse-file", unix.S_IFREG|0o777)
	unix.Mkfifo(data+"/fifo", 0o777)
	if err := os.Truncate(b.root+"/usr/share/data/b", 1<<42); err != nil {
		t.Fatal(err)
	}
	write(t, data+"/huge", "")
	if err := os.Truncate(data+"/huge", 1<<42); err != nil {
		t.Fatal(err)
	}
	within(t, func() {
		n := map[string]int{}
		for _, f := range b.verify(t) {
			n[f.Path]++
			n[filepath.Dir(f.Path)]++
		}
		for path, wanted := range map[string]int{"/data/flood": 1000, "/shared": 4000, "/usr/extra": 1000, "/usr/share/data/a": 1, "/usr/share/data/b": 1} {
			if n[path] < 1 || n[path] > wanted+10 {
				t.Errorf("%d findings in %q", n[path], path)
			}
		}
	})
	// By themselves, for the flood is told first.
	os.RemoveAll(data + "/flood")
	within(t, func() {
		mounts := 0
		for _, f := range b.verify(t) {
			if f.Kind == "mount" && strings.HasPrefix(f.Path, "/data/fuse") {
				mounts++
			}
		}
		if mounts != 2 {
			t.Errorf("%d mounts", mounts)
		}
	})
}

// A file system without answers on the state directory itself: nothing waits for it.
func TestMuteState(t *testing.T) {
	b := small(t)
	b.spec.Directories = []contents.Directory{state("/data")}
	b.build(t)
	write(t, b.root+"/data/mine", "mine")
	mute(t, b.root+"/data", unix.S_IFDIR)
	within(t, func() {
		if b.fresh() {
			t.Error("fresh")
		}
		if f := b.verify(t); len(f) != 1 || f[0].Kind != "mount" {
			t.Errorf("%+v", f)
		}
		b.change(t)
		s := b.open(t)
		defer s.Close()
		if _, err := s.Build(context.Background(), b.building()); err == nil || !strings.Contains(err.Error(), "unmount it") {
			t.Error(err)
		}
		if err := s.Remove(); err == nil || !strings.Contains(err.Error(), "unmount it") {
			t.Error(err)
		}
		// As if a build had been interrupted just before.
		cur, err := s.current()
		if err == nil {
			cur.manifest.Used = false
			err = s.save(cur.id, cur.manifest)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.recover(); err == nil || !strings.Contains(err.Error(), "unmount it") {
			t.Error(err)
		}
	})
	unix.Unmount(b.root+"/data", unix.MNT_DETACH)
	b.build(t)
	b.kept(t, "mine", "/web/data/mine")
}
