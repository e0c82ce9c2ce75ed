package programs_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/internal/seccomp"
	"jailctl/policy/source"
)

// deeds are what testdata/word.c does, and the promises that let it: alternatives
// are separated by blanks, what is needed together joined by +.
var deeds = []struct{ name, promises string }{
	{"stdio", "stdio"},
	{"rpath", "rpath"},
	{"getpw", "getpw rpath exec dns"},
	{"wpath", "wpath"},
	{"cpath", "cpath"},
	{"dpath", "dpath"},
	{"tmppath", "tmppath rpath+wpath+cpath"},
	{"fattr", "fattr"},
	{"chown", "chown"},
	{"flock", "flock"},
	{"inet", "inet"},
	{"unix", "unix"},
	{"dns", "dns inet"},
	{"sendfd", "sendfd inet unix"},
	{"recvfd", "recvfd inet unix"},
	{"tty", "tty"},
	{"proc", "proc"},
	{"limit", "proc id"},
	{"prot_exec", "prot_exec exec"},
	{"id", "id"},
	{"rpath+wpath", "rpath+wpath"},
	{"wpath+cpath", "wpath+cpath"},
	{"rpath+wpath+cpath", "rpath+wpath+cpath"},
	{"exec", "exec"},
}

// lets reports whether one of the alternatives is promised.
func lets(promised []string, alternatives string) bool {
	for a := range strings.FieldsSeq(alternatives) {
		all := true
		for w := range strings.SplitSeq(a, "+") {
			all = all && slices.Contains(promised, w)
		}
		if all {
			return true
		}
	}
	return false
}

// words are all promises.
func words() (names []string) {
	for _, w := range seccomp.Words() {
		names = append(names, w.Name)
	}
	return names
}

// without gives the words but one.
func without(words []string, w string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(have string) bool { return have == w })
}

// promising is the policy with these promises; the network and Unix sockets are
// open, so that nothing but the promises is in the way.
func promising(root string, promises []string, more string) string {
	return policy(root, fmt.Sprintf("confine { network: true local_sockets: true promises: %q %s }", strings.Join(promises, " "), more))
}

// wordJail is a jail with the program of testdata/word.c.
func wordJail(t *testing.T) string {
	t.Helper()
	root := world(t)
	must(t, os.Mkdir(root+"/own", 0o755))
	out, err := exec.Command("gcc", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie", "-O1", "-Wall", "-Werror",
		"-o", root+"/own/word", "testdata/word.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

// word runs it with a terminal as standard input, in an empty /desk with a file.
func word(t *testing.T, root, jail, deed string) roottest.Result {
	t.Helper()
	made, err := os.ReadDir(root + "/desk")
	must(t, err)
	for _, f := range made {
		must(t, os.Remove(root+"/desk/"+f.Name()))
	}
	must(t, os.WriteFile(root+"/desk/file", nil, 0o644))
	must(t, os.Chown(root+"/desk/file", daemon, daemon))
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	defer master.Close()
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave := os.NewFile(fd, "slave")
	defer slave.Close()
	cmd := exec.Command(roottest.Jailctl, "run", jail, "--", "/own/word", deed)
	cmd.Stdin = slave
	return roottest.Do(t, roottest.As(roottest.Alice, cmd))
}

// Each promise lets its own deeds be done and no other: with it alone, with all
// others and without it.
func TestEachPromise(t *testing.T) {
	root := wordJail(t)
	for _, w := range words() {
		if !slices.ContainsFunc(deeds, func(d struct{ name, promises string }) bool { return lets([]string{w}, d.promises) }) {
			t.Errorf("no deed needs %s", w)
		}
	}
	sets := [][]string{{"stdio"}, {"stdio", "rpath", "wpath"}, {"stdio", "wpath", "cpath"}, {"stdio", "rpath", "cpath"}, {"stdio", "rpath", "wpath", "cpath"}, words()}
	for _, w := range without(words(), "stdio") {
		sets = append(sets, []string{"stdio", w}, without(words(), w))
	}
	for _, set := range sets {
		roottest.Apply(t, "word", promising(root, set, ""))
		var want strings.Builder
		for _, d := range deeds {
			errno := syscall.Errno(0)
			if !lets(set, d.promises) {
				errno = unix.EPERM
			}
			fmt.Fprintf(&want, "%s %02d\n", d.name, int(errno))
		}
		if r := word(t, root, "word", "all"); r.Status != 0 || r.Out != want.String() || r.Err != "" {
			t.Errorf("%v: status %d, %s\n%s\nwant\n%s", set, r.Status, r.Err, r.Out, want.String())
		}
	}
}

// With violation: KILL a promise that is missing is the end of the command.
func TestEachPromiseBrokenKills(t *testing.T) {
	root := wordJail(t)
	roottest.Apply(t, "word", promising(root, []string{"stdio"}, "violation: KILL"))
	for _, d := range deeds {
		want := 128 + int(unix.SIGSYS)
		if d.name == "stdio" {
			want = 0
		}
		if r := word(t, root, "word", d.name); r.Status != want || r.Out != "" {
			t.Errorf("%s: %+v; want status %d", d.name, r, want)
		}
	}
	roottest.Apply(t, "word", promising(root, words(), "violation: KILL"))
	for _, d := range deeds {
		if r := word(t, root, "word", d.name); r.Status != 0 {
			t.Errorf("%s, promised: %+v", d.name, r)
		}
	}
}

// What no policy permits is never a violation: it fails, and the program goes on.
// What a C library looks for before main is one: the manual warns of it.
func TestViolations(t *testing.T) {
	root := wordJail(t)
	roottest.Apply(t, "word", policy(root, `confine { promises: "stdio" violation: KILL }`))
	for deed, errno := range map[string]unix.Errno{"inet": unix.EACCES, "unix": unix.EACCES, "dns": unix.EACCES} {
		if r := word(t, root, "word", deed); r.Status != int(errno) {
			t.Errorf("%s: %+v; want status %d", deed, r, errno)
		}
	}
	root = reachJail(t) // linked with libc
	for promises, status := range map[string]int{`"stdio"`: 0, `"stdio" violation: KILL`: 128 + int(unix.SIGSYS), `"stdio rpath" violation: KILL`: 0} {
		roottest.Apply(t, "word", policy(root, "confine { promises: "+promises+" }"))
		if r := jailrun(t, "word", "", "/own/reach", "ran"); r.Status != status {
			t.Errorf("with %s: %+v; want status %d", promises, r, status)
		}
	}
}

// Promises hold for the command itself, and for all that it starts: exec does not
// shed them, as it does with OpenBSD's pledge(2).
func TestPromisesOutliveExec(t *testing.T) {
	root := wordJail(t)
	roottest.Apply(t, "word", promising(root, []string{"stdio", "rpath", "exec", "proc"}, ""))
	same(t, jailrun(t, "word", "", "sh", "-c", "echo shell; /own/word cpath; echo $?; sh -c 'sh -c \"mkdir new\"'"), 1, "shell\n1\n",
		"mkdir: cannot create directory ‘new’: Operation not permitted\n")
}

// No program starts without stdio: such a policy is not put in force.
func TestStdioMustBePromised(t *testing.T) {
	_, problems := source.Check("test.txtpb", []byte(promising(roottest.Jail, without(words(), "stdio"), "")), source.System())
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "no program starts without the promise stdio") {
		t.Errorf("%v", problems)
	}
}
