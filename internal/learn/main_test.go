package learn

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/packages"
	"jailctl/policy/source"
)

// ordinary is a uid that nobody has.
const ordinary = 64123

// here is a directory of the tests' own, in which there is the program many.
var here string

// first keeps descriptor 1 from being closed as garbage.
var first *os.File

// TestMain runs the tests as an ordinary user: as root they run once more, with
// another uid, from a directory that it can enter.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		if os.Getenv("LEARN_INSTALLED") == "" {
			fmt.Println("left out: what is installed by hand, of internal/learn, needs root")
		}
		os.Exit(run(m))
	}
	status, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

func again() (int, error) {
	dir, err := os.MkdirTemp("", "learn")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, ordinary, ordinary); err != nil {
		return 1, err
	}
	copied := dir + "/learn.test"
	// A tree of root's, as of something that was installed by hand.
	for i := range 80 {
		name := fmt.Sprintf("%s/installed/lib%d/file", dir, i)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return 1, err
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return 1, err
		}
		if err := os.WriteFile(name+".unused", nil, 0o644); err != nil {
			return 1, err
		}
	}
	for from, to := range map[string]string{"/proc/self/exe": copied, "testdata/many.c": dir + "/many.c"} {
		if err := copyFile(from, to); err != nil {
			return 1, err
		}
	}
	// The log of what was read is go test's, in a place of root's.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
	cmd := exec.Command(copied, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, os.Stdin, os.Stdout, os.Stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent", "LEARN_MANY=" + dir + "/many.c", "LEARN_INSTALLED=" + dir + "/installed"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
	err = cmd.Run()
	return cmd.ProcessState.ExitCode(), err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

func run(m *testing.M) int {
	many := os.Getenv("LEARN_MANY")
	if many == "" {
		many = "testdata/many.c"
	}
	var err error
	// Not below /tmp, which is state as soon as anything is made in it.
	if here, err = os.MkdirTemp("/var/tmp", "learn"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(here)
	os.Chmod(here, 0o755)
	if out, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-pthread", "-o", here+"/many", many).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	// What the commands print is nobody's business.
	out, err := syscall.Dup(1)
	null, err2 := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err := errors.Join(err, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	first = os.Stdout
	os.Stdout = os.NewFile(uintptr(out), "stdout")
	syscall.CloseOnExec(out)
	if err := syscall.Dup3(int(null.Fd()), 1, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// learned runs a command in a new directory, with a shell's output in "out" there, and
// returns what was learned.
func learned(t *testing.T, dir string, argv ...string) (*Record, syscall.WaitStatus) {
	t.Helper()
	return learnedFrom(t, dir, Command{Argv: argv})
}

func learnedFrom(t *testing.T, dir string, cmd Command) (*Record, syscall.WaitStatus) {
	t.Helper()
	t.Chdir(dir)
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Path, err = exec.LookPath(cmd.Argv[0]); err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent"}
	ended, err := r.Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r, ended
}

// directory makes a new one of the tests' user, with files.
func directory(t *testing.T, files ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(here, "work")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(dir+"/"+f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+f, []byte("content\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func noPresets(string) ([]byte, error) { return nil, fs.ErrNotExist }

// draftOf makes a draft.
func draftOf(t *testing.T, r *Record) *Draft {
	t.Helper()
	files := host.New("/")
	env := []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent"}
	d, err := r.Draft(World{
		Jail: "test", User: source.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, Env: env, Umask: 0o022,
		Host: jailtree.Host{Files: files, Packages: packages.Open(files), Names: source.System()},
		Read: noPresets,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// drafted makes a draft, and holds both texts to what the builder and apply accept, and
// to the layout of policy fmt.
func drafted(t *testing.T, r *Record) (contentsText, policyText string) {
	t.Helper()
	d := draftOf(t, r)
	for _, p := range contents.Check("test.txtpb", d.Contents) {
		t.Errorf("%v\n%s", p, d.Contents)
	}
	_, problems := source.Check("test.txtpb", d.Policy, source.System())
	for _, p := range problems {
		t.Errorf("%v\n%s", p, d.Policy)
	}
	if text, err := contents.Format(d.Contents); err != nil || string(text) != string(d.Contents) {
		t.Errorf("not laid out: %v\n%s\nand it would be\n%s", err, d.Contents, text)
	}
	if text, err := source.Format(d.Policy); err != nil || string(text) != string(d.Policy) {
		t.Errorf("not laid out: %v\n%s\nand it would be\n%s", err, d.Policy, text)
	}
	return string(d.Contents), string(d.Policy)
}

// has fails the test unless a text has the lines, whatever stands behind them.
func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l) {
			t.Errorf("no line %s in\n%s", l, text)
		}
	}
}

// hasNot fails the test if a text has one of the words, comments apart.
func hasNot(t *testing.T, text string, words ...string) {
	t.Helper()
	text = regexp.MustCompile(`(?m)(^| +)#.*$`).ReplaceAllString(text, "")
	for _, w := range words {
		if strings.Contains(text, w) {
			t.Errorf("%s is in\n%s", w, text)
		}
	}
}

// knows fails the test unless the record has done this to a file, first in this step.
func knows(t *testing.T, r *Record, name string, d deed, step int) {
	t.Helper()
	f := r.files[name]
	switch {
	case f == nil:
		t.Errorf("%q is not known", name)
	case f.did[d] != step:
		t.Errorf("%q: %v, want step %d for %q", name, f.did, step, verbs[d])
	}
}

// argv are those of the steps, in a shell's words and in order.
func argv(r *Record) (all []string) {
	for _, s := range r.Steps {
		all = append(all, fmt.Sprintf("%s <%d", commandLine(s.Argv), s.By))
	}
	slices.Sort(all[1:])
	return all
}
