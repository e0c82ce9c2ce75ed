package main_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/ipc"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// What becomes of the policy's files, the jail's root, and the directories above.

func text(jail string) string     { return roottest.Etc + "/jails/" + jail + source.Suffix }
func compiled(jail string) string { return roottest.State + "/policies/" + jail + ".pb" }

// world is a root directory in which only what the helper needs is, at its usual
// places: "/" and "/opt" can be spoiled there without harm to this machine.
// Elsewhere in it the jail stands a second time.
func world(t *testing.T) string {
	t.Helper()
	w := t.TempDir()
	must(t, unix.Mount("tmpfs", w, "tmpfs", 0, "mode=0755"))
	t.Cleanup(func() { unix.Unmount(w, unix.MNT_DETACH) })
	for from, to := range map[string]string{roottest.Prefix: roottest.Prefix, roottest.Jail: second} {
		must(t, os.MkdirAll(w+to, 0o755))
		must(t, unix.Mount(from, w+to, "", unix.MS_BIND, ""))
		t.Cleanup(func() { unix.Unmount(w+to, unix.MNT_DETACH) })
	}
	return w
}

// second is where the jail stands once more in a world.
const second = "/srv/jails/second"

// above lists path and all directories above it, the highest first.
func above(path string) []string {
	if path == "/" {
		return []string{"/"}
	}
	return append(above(filepath.Dir(path)), path)
}

// flaw is a way in which others get hold of a file or directory.
type flaw struct {
	name  string
	spoil func(path string) error
	// what is said of it, given the mode before, and what mends it; for a symbolic
	// link, which no command mends, undo does.
	why  func(mode uint32) string
	fix  string
	undo func(path string) error
}

// flaws are those of owner and mode.
func flaws() []flaw {
	chmod := func(change uint32) func(string) error {
		return func(path string) error {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				return err
			}
			return unix.Chmod(path, st.Mode&0o7777|change)
		}
	}
	writable := func(change uint32) func(uint32) string {
		return func(mode uint32) string {
			return fmt.Sprintf("is owned by root, mode %04o, and must not be writable by group or others", mode|change)
		}
	}
	return []flaw{
		{"owned by the caller", func(path string) error { return os.Chown(path, int(roottest.Alice.UID), -1) }, func(mode uint32) string {
			return fmt.Sprintf("is owned by uid %d, mode %04o, and must be owned by root", roottest.Alice.UID, mode)
		}, "chown root ", nil},
		{"owned by another", func(path string) error { return os.Chown(path, daemon, -1) }, func(mode uint32) string {
			return fmt.Sprintf("is owned by uid 1, mode %04o, and must be owned by root", mode)
		}, "chown root ", nil},
		{"writable by the group", chmod(0o020), writable(0o020), "chmod go-w ", nil},
		{"writable by others", chmod(0o002), writable(0o002), "chmod go-w ", nil},
		{"sticky", chmod(0o1777), writable(0o1777), "chmod go-w ", nil},
	}
}

var symlinked = flaw{
	"symbolic link",
	func(path string) error {
		if err := os.Rename(path, path+".moved"); err != nil {
			return err
		}
		return os.Symlink(filepath.Base(path)+".moved", path)
	},
	func(uint32) string { return "is a symbolic link" }, "",
	func(path string) error { return os.Rename(path+".moved", path) },
}

// spoil has c refused for each flaw of path, which is below w, and permitted
// again when it is mended as the message says. told is what begins the message,
// or all of it: stranger.
func spoil(t *testing.T, c call, w, path, told string, all []flaw) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(w+path, &st))
	mode := st.Mode & 0o7777
	for _, f := range all {
		t.Run(f.name+" "+strings.TrimPrefix(path, roottest.Prefix), func(t *testing.T) {
			permitted(t, c)
			must(t, f.spoil(w+path))
			t.Cleanup(func() {
				os.Chown(w+path, 0, -1)
				unix.Chmod(w+path, mode)
			})
			why, mend := stranger, f.fix+"'"+path+"'"
			if told != stranger {
				why = told + fmt.Sprintf("%q ", path) + f.why(mode)
				if f.fix != "" {
					why += "; mend it with: " + mend
				}
			}
			refused(t, c, why)
			if f.undo != nil {
				os.Remove(w + path)
				must(t, f.undo(w+path))
			} else if out, err := exec.Command("sh", "-c", strings.Replace(mend, "'", "'"+w, 1)).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v %s", mend, err, out)
			}
			permitted(t, c)
		})
	}
}

func TestA38PolicyWritableByOthers(t *testing.T) {
	roottest.Apply(t, "a38", alice)
	w := world(t)
	c := call{jail: "a38", chroot: w}
	// Before the compiled policy is read, nobody is known to be permitted anything.
	for _, path := range above(compiled("a38")) {
		all := flaws()
		if path != "/" && path != roottest.Prefix && path != compiled("a38") { // these two are mount points
			all = append(all, symlinked)
		}
		spoil(t, c, w, path, stranger, all)
	}
	for _, path := range above(text("a38")) {
		if strings.HasPrefix(path, roottest.Prefix+"/") {
			spoil(t, c, w, path, "", append(flaws(), symlinked))
		}
	}
}

func TestA39PolicyOfAnotherKind(t *testing.T) {
	roottest.Apply(t, "a39", alice)
	c := call{jail: "a39"}
	for _, file := range []string{compiled("a39"), text("a39")} {
		content, err := os.ReadFile(file)
		must(t, err)
		elsewhere := roottest.Public + "/a39"
		for name, row := range map[string]struct {
			make func(path string) error
			why  string
		}{
			"link to root's file": {func(path string) error {
				must(t, os.WriteFile(elsewhere, content, 0o644))
				return os.Symlink(elsewhere, path)
			}, "is a symbolic link; mend it with: put the file itself there"},
			"link to the caller's file": {func(path string) error {
				must(t, os.WriteFile(elsewhere, content, 0o644))
				must(t, os.Chown(elsewhere, int(roottest.Alice.UID), -1))
				return os.Symlink(elsewhere, path)
			}, "is a symbolic link; mend it with: put the file itself there"},
			"link to nothing": {func(path string) error { return os.Symlink("nothing", path) }, "is a symbolic link"},
			"hard link": {func(path string) error {
				must(t, os.WriteFile(path, content, 0o644))
				return os.Link(path, elsewhere)
			}, "has 2 hard links and must have one name only"},
			"FIFO":      {func(path string) error { return unix.Mkfifo(path, 0o600) }, "is not a regular file"},
			"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "is not a regular file"},
			"null":      {func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, "is not a regular file"},
			"zero":      {func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, "is not a regular file"},
			"terminal":  {func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(5, 0))) }, ""},
			"socket": {func(path string) error {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
				if err == nil {
					l.SetUnlinkOnClose(false)
					err = l.Close()
				}
				return err
			}, "cannot be opened: no such device or address"},
			"missing": {func(string) error { return nil }, "\x00"},
		} {
			t.Run(name+" for "+filepath.Base(file), func(t *testing.T) {
				permitted(t, c)
				must(t, os.Rename(file, file+".kept"))
				t.Cleanup(func() {
					os.Remove(elsewhere)
					os.Remove(file)
					must(t, os.Rename(file+".kept", file))
					permitted(t, c)
				})
				must(t, row.make(file))
				why := fmt.Sprintf("%q %s", file, row.why)
				if file == compiled("a39") || row.why == "\x00" { // withdrawn: as if it had never been
					why = stranger
				}
				soon(t, refused(t, c, why))
			})
		}
	}
}

func TestA40PolicyOfAnotherContent(t *testing.T) {
	c := call{jail: "a40"}
	roottest.Apply(t, "a40", alice)
	permitted(t, c)
	lines := roottest.Syslog(t)
	try := func(t *testing.T, file string, content []byte, why, reason string) {
		t.Helper()
		before, err := os.ReadFile(file)
		must(t, err)
		must(t, os.WriteFile(file, content, 0o600))
		refused(t, c, why)
		must(t, os.WriteFile(file, before, 0o600))
		if l := lines(); len(l) != 1 || !strings.Contains(l[0], reason) {
			t.Errorf("audit: %q; want %q", l, reason)
		}
	}
	policy, err := os.ReadFile(text("a40"))
	must(t, err)
	binary, err := os.ReadFile(compiled("a40"))
	must(t, err)

	edited := "the policy was edited and is not in force; root puts it in force with: jailctl apply a40"
	for name, content := range map[string][]byte{
		"empty":         {},
		"NUL":           bytes.Replace(policy, []byte(" "), []byte{0}, 1),
		"CRLF":          append(bytes.Clone(policy), '\r', '\n'),
		"another space": append(bytes.Clone(policy), ' '),
		"cut short":     policy[:len(policy)-1],
		"binary":        binary,
		"200000 lines":  bytes.Repeat([]byte("\n"), 200_000),
	} {
		t.Run("text "+name, func(t *testing.T) { try(t, text("a40"), content, edited, edited) })
	}
	t.Run("text of 20 MB", func(t *testing.T) {
		why := fmt.Sprintf("%q is larger than 262144 bytes", text("a40"))
		try(t, text("a40"), make([]byte, 20<<20), why, "is larger than 262144 bytes")
	})
	t.Run("compiled of 20 MB", func(t *testing.T) {
		try(t, compiled("a40"), make([]byte, 20<<20), stranger, "is larger than 1048576 bytes")
	})
	other := bytes.Replace(binary, []byte("\x12\x03a40"), []byte("\x12\x03a41"), 1)
	t.Run("compiled for another jail", func(t *testing.T) {
		try(t, compiled("a40"), other, stranger, "the compiled policy is another jail's")
	})
	for name, content := range map[string][]byte{
		"twice":     append(bytes.Clone(binary), binary...),
		"tail":      append(bytes.Clone(binary), "\x42\x01A"...), // one more variable to keep
		"text":      policy,
		"zeros":     make([]byte, 1000),
		"version 1": append([]byte{8, 1}, binary[2:]...),
	} {
		t.Run("compiled "+name, func(t *testing.T) { try(t, compiled("a40"), content, stranger, malformed) })
	}
	t.Run("compiled cut short", func(t *testing.T) {
		for n := range binary {
			if n%4 == 0 || n > len(binary)-10 {
				try(t, compiled("a40"), binary[:n], stranger, malformed)
			}
		}
	})
	permitted(t, c)
}

func TestA41RootOfAnotherKind(t *testing.T) {
	dir := roottest.Prefix + "/a41"
	must(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Symlink(roottest.Jail, dir+"/link"))
	must(t, os.Symlink("..", dir+"/up"))
	must(t, os.Symlink("missing", dir+"/dangling"))
	must(t, os.WriteFile(dir+"/file", nil, 0o755))
	must(t, unix.Mkfifo(dir+"/fifo", 0o755))
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o755, int(unix.Mkdev(1, 3))))

	enter := "cannot enter the jail: "
	for root, why := range map[string]string{
		dir + "/link":           enter + fmt.Sprintf("%q is a symbolic link", dir+"/link"),
		dir + "/up/jail":        enter + fmt.Sprintf("%q is a symbolic link", dir+"/up"),
		dir + "/dangling":       enter + fmt.Sprintf("%q is a symbolic link", dir+"/dangling"),
		dir + "/missing":        enter + fmt.Sprintf("%q cannot be opened: no such file or directory", dir+"/missing"),
		dir + "/missing/jail":   enter + fmt.Sprintf("%q cannot be opened: no such file or directory", dir+"/missing"),
		dir + "/file":           enter + fmt.Sprintf("%q is not a directory", dir+"/file"),
		dir + "/fifo":           enter + fmt.Sprintf("%q is not a directory", dir+"/fifo"),
		dir + "/null":           enter + fmt.Sprintf("%q is not a directory", dir+"/null"),
		dir + "/file/jail":      enter + fmt.Sprintf("%q is not a directory", dir+"/file"),
		"/proc/self/cwd":        enter + `"/proc/self" is a symbolic link`,
		"":                      stranger, // from here on apply compiles no such thing, and the helper decodes none
		"/":                     stranger,
		"//":                    stranger,
		"/.":                    stranger,
		"/..":                   stranger,
		"opt":                   stranger,
		".":                     stranger,
		"..":                    stranger,
		roottest.Jail + "/":     stranger,
		roottest.Jail + "/.":    stranger,
		dir + "/../jail":        stranger,
		"/" + roottest.Jail:     stranger,
		roottest.Jail + "\x00/": stranger,
		"../../../../" + dir:    stranger,
	} {
		t.Run(fmt.Sprintf("%q", strings.TrimPrefix(root, roottest.Prefix)), func(t *testing.T) {
			roottest.Compile(t, "a41", alice, func(c *jailpb.Compiled) { c.Root = root })
			refused(t, call{jail: "a41"}, why)
		})
	}
	roottest.Compile(t, "a41", alice, func(c *jailpb.Compiled) { c.Root = roottest.Jail })
	permitted(t, call{jail: "a41"})
}

func TestA42RootWritableByOthers(t *testing.T) {
	roottest.Compile(t, "a42", alice, func(c *jailpb.Compiled) { c.Root = second })
	w := world(t)
	c := call{jail: "a42", chroot: w}
	for _, path := range above(second)[1:] { // "/" is the policy's as well: A38
		all := flaws()
		if path != second { // a mount point
			all = append(all, symlinked)
		}
		spoil(t, c, w, path, "cannot enter the jail: ", all)
	}
}

// swapping runs swap again and again while f runs.
func swapping(t *testing.T, swap func() error, f func()) {
	t.Helper()
	stop := make(chan struct{})
	var done sync.WaitGroup
	defer done.Wait()
	defer close(stop)
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := swap(); err != nil {
					t.Errorf("swap: %v", err)
					return
				}
			}
		}
	})
	f()
}

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// The root is now root's, now the caller's, now a link to the caller's: what was
// weighed is what is entered, or nothing.
func TestA43RootSwapped(t *testing.T) {
	dir := roottest.Prefix + "/a43"
	root, trap := dir+"/parent/root", dir+"/trap/root"
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, r := range []string{root, trap} {
		must(t, os.MkdirAll(r+"/bin", 0o755))
		must(t, os.Mkdir(r+"/tmp", 0o755))
		must(t, unix.Chmod(r+"/tmp", 0o1777))
		copyFile(t, roottest.Jail+"/bin/probe", r+"/bin/probe", 0o755)
	}
	must(t, os.Symlink(trap, dir+"/link"))
	roottest.Compile(t, "a43", alice, func(c *jailpb.Compiled) { c.Root = root })
	owner := func(path string) { must(t, os.Chown(path, int(roottest.Alice.UID), -1)) }
	for _, row := range []struct {
		name, a, b string
		trap       string // what the trap is while it is not in place
	}{
		{"root and the caller's directory", root, trap, trap},
		{"root and a link", root, dir + "/link", ""},
		{"parent and the caller's directory", filepath.Dir(root), filepath.Dir(trap), filepath.Dir(trap)},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.trap != "" {
				owner(row.trap)
			}
			c := call{jail: "a43", command: []string{"/bin/probe", "touch", "/tmp/made"}}
			ran, not := 0, 0
			swapping(t, func() error { return exchange(row.a, row.b) }, func() {
				for range 50 {
					e := c.play(t)
					switch {
					case e.status == 0 && len(e.replies) == 1 && e.replies[0].Outcome == ipc.Starting:
						ran++
					case e.status == 125 && len(e.replies) == 1 && strings.HasPrefix(e.replies[0].Text, "cannot enter the jail: "):
						not++
					default:
						t.Errorf("%+v", e)
					}
				}
			})
			if st, err := os.Lstat(root); err != nil || st.Mode()&os.ModeSymlink != 0 || owned(root) || owned(filepath.Dir(root)) {
				must(t, exchange(row.a, row.b))
			}
			_, inRoot := os.Stat(root + "/tmp/made")
			_, inTrap := os.Stat(trap + "/tmp/made")
			if inTrap == nil || (inRoot == nil) != (ran > 0) {
				t.Errorf("made in the trap: %v, in the root: %v, after %d runs", inTrap, inRoot, ran)
			}
			if ran == 0 || not == 0 {
				t.Errorf("no race: %d ran, %d did not", ran, not)
			}
			os.Remove(root + "/tmp/made")
		})
	}
}

// owned tells whether path is Alice's.
func owned(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Uid == roottest.Alice.UID
}

// Two versions of a policy take turns: each run is by one of them in all points.
func TestA44PolicySwapped(t *testing.T) {
	version := func(n int, user, umask string) string {
		return fmt.Sprintf(`root: "ROOT" umask: %s environment { set { name: "VERSION" value: "%d" } }
			rules { users: "jailctl-alice" run_as { user: %q } }`, umask, n, user)
	}
	roottest.Apply(t, "a44", version(1, "daemon", "022"))
	roottest.Apply(t, "a44two", version(2, "games", "077"))
	other, err := os.ReadFile(compiled("a44two"))
	must(t, err)
	// A compiled form holds its jail's name; the length of the two differs.
	other = bytes.Replace(other, []byte("\x12\x06a44two"), []byte("\x12\x03a44"), 1)
	must(t, os.WriteFile(compiled("a44two"), other, 0o600))

	want := map[string]string{"1": "uid=1 1 1 umask=022", "2": "uid=5 5 5 umask=077"}
	ran, not := map[string]int{}, 0
	c := call{jail: "a44", command: []string{"/bin/probe"}}
	swapping(t, func() error {
		if err := exchange(text("a44"), text("a44two")); err != nil {
			return err
		}
		return exchange(compiled("a44"), compiled("a44two"))
	}, func() {
		for range 150 {
			e := c.play(t)
			if e.status == 125 && len(e.replies) == 1 && strings.HasPrefix(e.replies[0].Text, "the policy was edited") {
				not++
				continue
			}
			p := roottest.Probe(t, roottest.Result{Out: e.out, Status: e.status})
			_, v, _ := strings.Cut(p["env"], "VERSION=")
			v = v[:1]
			if got := "uid=" + p["uid"] + " umask=" + p["umask"]; got != want[v] {
				t.Errorf("version %s with %s", v, got)
			}
			ran[v]++
		}
	})
	t.Logf("%v ran, %d refused", ran, not)
	if ran["1"] == 0 || ran["2"] == 0 || not == 0 {
		t.Errorf("no race: %v ran, %d did not", ran, not)
	}
}
