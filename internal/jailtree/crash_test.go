package jailtree

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
)

// TestKilled is run by itself in a process that dies before the n-th change of the
// file system, by SIGKILL.
func TestKilled(t *testing.T) {
	at, place := os.Getenv("JAILTREE_DIE_AT"), os.Getenv("JAILTREE_BENCH")
	if place == "" {
		return // TestKillEverywhere runs it
	}
	n, err := strconv.Atoi(at)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	step = func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if n--; n == 0 {
			fmt.Println("died before:", what)
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	b := crashBench(place)
	s, err := Open(context.Background(), "web", b.root, b.state, true, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("JAILTREE_DO") == "rollback" {
		_, err = s.Rollback()
	} else {
		_, err = s.Build(context.Background(), b.building())
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("lived")
}

func crashBench(d string) *bench {
	b := &bench{host: d + "/host", root: d + "/jails/web", state: d + "/state", spec: &contents.Spec{Keep: 2}}
	b.spec.Paths = []contents.Path{path1("/bin/alias"), path1("/usr/share/data")}
	b.spec.Directories = []contents.Directory{
		{Path: "/var/data", Owner: "1", Group: "1", Mode: 0o750, State: true},
		{Path: "/home", Owner: "2", Group: "2", Mode: 0o755, State: true},
	}
	return b
}

// enterTree is what somebody who enters the tree in use at this moment finds there.
func enterTree(root string) (version string, state string) {
	dir, err := openPath(root)
	if err != nil {
		return err.Error(), ""
	}
	defer dir.Close()
	look := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	return look("usr/bin/tool") + look("usr/share/data/a"), look("var/data/mine") + look("home/mine")
}

// A build, or a rollback, is killed before each change that it makes. Whoever enters
// the tree at any moment, also then, finds the whole old one or the whole new one,
// with its state; and the next build finishes or cleans up.
func TestKillEverywhere(t *testing.T) {
	for _, do := range []string{"build", "rollback"} {
		for n := 1; ; n++ {
			if killAt(t, do, n) {
				t.Logf("%s: %d points", do, n-1)
				if n < 10 {
					t.Errorf("%s makes %d changes only", do, n-1)
				}
				break
			}
			if t.Failed() {
				t.Fatalf("%s killed at point %d", do, n)
			}
		}
	}
}

func killAt(t *testing.T, do string, n int) (lived bool) {
	d := newBench(t)
	place := filepath.Dir(d.host)
	b := crashBench(place)
	const old, next, state = "tool 1\na\n", "tool 2\na2\n", "mineyours"
	b.build(t)
	for name, text := range map[string]string{"/var/data/mine": "mine", "/home/mine": "yours"} {
		if err := os.WriteFile(b.root+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.put(t, "/usr/bin/tool", "tool 2\n", 0o755)
	b.put(t, "/usr/share/data/a", "a2\n", 0o644)
	if do == "rollback" {
		b.build(t)
	}
	stop, looked := make(chan bool), make(chan int)
	go func() {
		count := 0
		defer func() { looked <- count }()
		for {
			version, s := enterTree(b.root)
			if version != old && version != next || s != state {
				t.Errorf("somebody finds %q and %q", version, s)
			}
			count++
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "JAILTREE_DIE_AT="+strconv.Itoa(n), "JAILTREE_BENCH="+place, "JAILTREE_DO="+do)
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Contains(string(out), "lived") {
		lived = true
	} else if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("%v: %s", err, out)
	}
	close(stop)
	if count := <-looked; count == 0 {
		t.Error("nobody looked")
	}
	if version, s := enterTree(b.root); version != old && version != next || s != state {
		t.Errorf("after %s: %q and %q", out, version, s)
	}
	// The next build puts everything right.
	b.build(t)
	if version, s := enterTree(b.root); version != next || s != state {
		t.Errorf("after %sand a build: %q and %q", out, version, s)
	}
	if found := b.verify(t); len(found) > 0 {
		t.Errorf("after %sand a build: %+v", out, found)
	}
	clean(t, b, string(out))
	return lived
}

// clean fails the test if anything is left that no manifest knows, or a mount.
func clean(t *testing.T, b *bench, after string) {
	t.Helper()
	if mounts, err := mountsIn(filepath.Dir(b.root)); err != nil || len(mounts) > 0 {
		t.Errorf("after %s: left mounted: %v %v", after, mounts, err)
	}
	s := b.open(t)
	defer s.Close()
	names, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.others()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(all) || len(all) > b.spec.Keep {
		t.Errorf("after %s: %v beside the tree, %d of them known", after, names, len(all))
	}
	files, err := os.ReadDir(s.manifests)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(all)+2 { // the tree in use, the lock
		t.Errorf("after %s: %v of %d trees", after, files, len(all)+1)
	}
	beside, err := os.ReadDir(filepath.Dir(b.root))
	if err != nil || len(beside) != 2 {
		t.Errorf("after %s: %v %v", after, beside, err)
	}
}

// Two builds at once: the second waits, and says for whom.
func TestLock(t *testing.T) {
	b := newBench(t)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	first := b.open(t)
	told := make(chan string, 1)
	done := make(chan error)
	go func() {
		s, err := Open(context.Background(), "web", b.root, b.state, true, func(holder string) { told <- holder })
		if err == nil {
			s.Close()
		}
		done <- err
	}()
	if holder := <-told; !strings.Contains(holder, fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("told %q", holder)
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	first.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.open(t)
	ctx, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	if _, err := Open(ctx, "web", b.root, b.state, true, func(string) {}); err == nil {
		t.Error("two have the lock")
	}
}
