package programs_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
)

// reachJail is a jail with the program of testdata/reach.c, static: what a run of
// it needs is itself.
func reachJail(t *testing.T) string {
	t.Helper()
	root := world(t)
	must(t, os.Mkdir(root+"/own", 0o755))
	if out, err := exec.Command("gcc", "-static", "-O1", "-Wall", "-Werror", "-o", root+"/own/reach", "testdata/reach.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

// unveiled is the policy with these unveils, each a path and its letters, and the
// program's own.
func unveiled(root string, more string, unveils ...string) string {
	var b strings.Builder
	for _, u := range append(unveils, "/own/reach rx") {
		path, access, _ := strings.Cut(u, " ")
		access, optional, _ := strings.Cut(access, " ")
		fmt.Fprintf(&b, "unveil { path: %q access: %q %s }\n", path, access, optional)
	}
	return policy(root, "confine {\n"+more+b.String()+"}")
}

// area makes /area of the target's anew.
func area(t *testing.T, root string) {
	t.Helper()
	sh(t, root, `rm -rf area; mkdir -p area/sub area/empty; cd area; echo xx >file; echo x >sub/file; echo x >gone; cp ../own/reach program
chown -R 1:1 .`)
}

// A want is a deed of reach and whether it may be done; letters: if the unveil has all of them.
type want struct{ deed, letters string }

// expect compares what reach says.
func expect(t *testing.T, what string, r roottest.Result, wants []want, letters string) {
	t.Helper()
	var text strings.Builder
	for _, w := range wants {
		errno := syscall.Errno(0)
		for _, l := range w.letters {
			if !strings.ContainsRune(letters, l) {
				errno = unix.EACCES
			}
		}
		fmt.Fprintf(&text, "%s %d\n", w.deed, int(errno))
	}
	if r.Status != 0 || r.Err != "" || r.Out != text.String() {
		t.Errorf("%s: status %d %s\n%s\nwant\n%s", what, r.Status, r.Err, r.Out, text.String())
	}
}

var inDirectory = []want{
	{"read", "r"},
	{"list", "r"},
	{"write", "w"},
	{"truncate", "w"},
	{"create", "wc"},
	{"mknod", "c"},
	{"mkfifo", "c"},
	{"mkdir", "c"},
	{"symlink", "c"},
	{"link", "c"},
	{"rename", "c"},
	{"rename to another directory", "c"},
	{"unlink", "c"},
	{"rmdir", "c"},
	{"execute", "x"},
	// What Landlock does not keep: the manual says so.
	{"stat", ""},
	{"chmod", ""},
}

// besideProgram is the same with an unveil of the program alone.
var besideProgram = func() (all []want) {
	for _, w := range inDirectory {
		if w.deed != "execute" && w.letters != "" {
			w.letters = "never"
		}
		all = append(all, w)
	}
	return all
}()

var onFile = []want{{"read", "r"}, {"execute", "x"}, {"write", "w"}, {"truncate", "w"}, {"unlink", "never"}}

// Each letter of an unveil opens what the manual says, and nothing else; what is
// not unveiled is closed.
func TestUnveilLetters(t *testing.T) {
	root := reachJail(t)
	for _, access := range []string{"", "r", "w", "c", "rx", "rw", "rc", "wc", "rwx", "rwc", "rxc", "rwxc"} {
		var unveils []string
		if access != "" {
			unveils = []string{"/area " + access}
		}
		roottest.Apply(t, "unveil", unveiled(root, "", unveils...))
		area(t, root)
		expect(t, "directory, "+access, jailrun(t, "unveil", "", "/own/reach", "dir", "/area"), inDirectory, access)
		// Beneath it, and beside it.
		area(t, root)
		sh(t, root, "rm -rf beside; cp -a area beside; mkdir -p area/deep/er; cp -a beside area/deep/er")
		expect(t, "beneath a directory, "+access, jailrun(t, "unveil", "", "/own/reach", "dir", "/area/deep/er/beside"), inDirectory, access)
		expect(t, "beside a directory, "+access, jailrun(t, "unveil", "", "/own/reach", "dir", "/beside"), inDirectory, "")
	}
	for _, access := range []string{"r", "w", "rx", "rw", "rc", "rwx", "rwc", "rxc", "rwxc"} {
		roottest.Apply(t, "unveil", unveiled(root, "", "/area/program "+access))
		area(t, root)
		expect(t, "file, "+access, jailrun(t, "unveil", "", "/own/reach", "file", "/area/program"), onFile, access)
		area(t, root)
		expect(t, "beside a file, "+access, jailrun(t, "unveil", "", "/own/reach", "dir", "/area"), besideProgram, access)
	}
}

// The ioctls of a device come with w.
func TestUnveilDevice(t *testing.T) {
	root := reachJail(t)
	for access, errno := range map[string]syscall.Errno{"r": unix.EACCES, "rw": unix.ENOTTY} {
		roottest.Apply(t, "unveil", unveiled(root, "", "/dev/zero "+access))
		same(t, jailrun(t, "unveil", "", "/own/reach", "device", "/dev/zero"), 0, fmt.Sprintf("ioctl %d\n", int(errno)), "")
	}
}

// Rights add up, and "/" is the whole jail.
func TestUnveilAddsUp(t *testing.T) {
	root := reachJail(t)
	for _, row := range []struct{ confine, letters string }{
		{`unveil { path: "/" access: "rwxc" }`, "rwxc"},
		{`unveil { path: "/" access: "rx" }`, "rx"},
		{`unveil { path: "/" access: "rx" } unveil { path: "/area" access: "rwxc" }`, "rwxc"},
		{`unveil { path: "/own" access: "rx" } unveil { path: "/area" access: "r" } unveil { path: "/area/sub" access: "rwxc" }`, "r"},
		{`unveil { path: "/own" access: "rx" } unveil { path: "/area" access: "rx" } unveil { path: "/none" access: "rwc" optional: true }`, "rx"},
	} {
		roottest.Apply(t, "unveil", policy(root, "confine { "+row.confine+" }"))
		area(t, root)
		expect(t, row.confine, jailrun(t, "unveil", "", "/own/reach", "dir", "/area"), inDirectory, row.letters)
	}
	roottest.Apply(t, "unveil", unveiled(root, "", "/area r", "/area/sub rwxc"))
	area(t, root)
	sh(t, root, "mv area/sub deeper; cp -a area/. deeper; mkdir deeper/sub; mv deeper area/sub; echo x >area/sub/sub/file; chown -R 1:1 area")
	expect(t, "sub", jailrun(t, "unveil", "", "/own/reach", "dir", "/area/sub"), inDirectory, "rwxc")
}

// What cannot be unveiled as it is written refuses the run, with one line.
func TestUnveilRefused(t *testing.T) {
	root := reachJail(t)
	area(t, root)
	sh(t, root, "ln -s / area/link; ln -s file area/filelink; mkdir -m 700 closed; mkdir closed/in")
	for unveil, why := range map[string]string{
		"/none r":                         `cannot unveil "/none": no such file or directory; where a path may be missing, the policy says optional: true`,
		"/area/none r":                    `cannot unveil "/area/none": no such file or directory; where a path may be missing, the policy says optional: true`,
		"/none/none r optional: true":     "",
		"/area/none rwxc optional: true":  "",
		"/area/link r":                    `cannot unveil "/area/link": too many levels of symbolic links; the policy must name where the link leads`,
		"/area/link/usr r":                `cannot unveil "/area/link/usr": too many levels of symbolic links; the policy must name where the link leads`,
		"/area/filelink r optional: true": `cannot unveil "/area/filelink": too many levels of symbolic links; the policy must name where the link leads`,
		"/area/file/x r optional: true":   `cannot unveil "/area/file/x": not a directory`,
		"/area/file c":                    `cannot unveil "/area/file": not a directory`,
		"/closed/in r":                    `cannot unveil "/closed/in": permission denied`,
		"/closed/in r optional: true":     `cannot unveil "/closed/in": permission denied`,
	} {
		roottest.Apply(t, "unveil", unveiled(root, "", unveil))
		r := jailrun(t, "unveil", "", "/own/reach", "ran")
		if why == "" {
			same(t, r, 0, "", "")
		} else {
			same(t, r, 125, "", "jailctl: Landlock: "+why+"\n")
		}
	}
}

// A command, or its loader, that may not be executed is status 126.
func TestUnveiledCommand(t *testing.T) {
	root := reachJail(t)
	for _, row := range []struct {
		confine string
		command string
		status  int
		errs    string
	}{
		{`unveil { path: "/desk" access: "rwxc" }`, "/own/reach", 126, "jailctl: cannot run \"/own/reach\" in the jail: permission denied\n"},
		{`unveil { path: "/own" access: "r" }`, "/own/reach", 126, "jailctl: cannot run \"/own/reach\" in the jail: permission denied\n"},
		{`unveil { path: "/own" access: "rx" }`, "/own/reach", 0, ""},
		{`unveil { path: "/usr/bin" access: "rx" }`, "/usr/bin/true", 126, "jailctl: cannot run \"/usr/bin/true\" in the jail: permission denied\n"},
		{`unveil { path: "/usr" access: "rx" }`, "/usr/bin/true", 0, ""},
		{`unveil { path: "/usr" access: "rx" }`, "true", 0, ""},
		{`unveil { path: "/desk" access: "r" }`, "true", 126, "jailctl: cannot run \"true\" in the jail: permission denied, on the path \"/usr/bin:/bin:/go/bin\"\n"},
		{`unveil { path: "/usr" access: "rx" } promises: "stdio rpath prot_exec"`, "/usr/bin/true", 0, ""},
		{`unveil { path: "/usr" access: "r" } promises: "stdio rpath prot_exec"`, "/usr/bin/true", 126, "jailctl: cannot run \"/usr/bin/true\" in the jail: permission denied\n"},
	} {
		roottest.Apply(t, "unveil", policy(root, "confine { "+row.confine+" }"))
		argv := []string{row.command}
		if row.command == "/own/reach" {
			argv = append(argv, "ran")
		}
		same(t, jailrun(t, "unveil", "", argv...), row.status, "", row.errs)
	}
}

// The limits of x that the manual tells of: what may be executed can load or copy
// what may only be read. Promises keep the second.
func TestExecutingWhatIsReadable(t *testing.T) {
	root := reachJail(t)
	area(t, root)
	const x = `unveil { path: "/usr" access: "rx" } unveil { path: "/area" access: "r" } unveil { path: "/dev/null" access: "r" } `
	const copied = `import os; f = os.memfd_create("x"); os.write(f, open("/area/program", "rb").read()); os.execve(f, ["program", "tcp", "1", "1", "1", "1"], {})`
	roottest.Apply(t, "unveil", policy(root, "confine { "+x+" }"))
	same(t, jailrun(t, "unveil", "", "/area/program", "ran"), 126, "", "jailctl: cannot run \"/area/program\" in the jail: permission denied\n")
	if r := jailrun(t, "unveil", "", "/usr/bin/python3", "-c", copied); r.Status != 0 || !strings.HasPrefix(r.Out, "connect 13\n") { // still confined
		t.Errorf("from memory: %+v", r)
	}
	sh(t, root, "cp usr/bin/true area/true")
	same(t, jailrun(t, "unveil", "", "/usr/bin/perl", "-e", `$| = 1; exec "/area/true" or print "$!\n"; exec glob("/usr/lib/*/ld-linux-*"), "/area/true"`), 0, "Permission denied\n", "")
	roottest.Apply(t, "unveil", policy(root, "confine { "+x+`promises: "stdio rpath exec" }`))
	if r := jailrun(t, "unveil", "", "/usr/bin/python3", "-c", copied); r.Status != 1 || !strings.HasSuffix(r.Err, "PermissionError: [Errno 1] Operation not permitted\n") {
		t.Errorf("from memory, with promises: %+v", r)
	}
}

// A rule's confine stands in place of the whole of the jail's, for the callers of
// that rule alone.
func TestConfineOfARule(t *testing.T) {
	root := reachJail(t)
	roottest.Apply(t, "rule", fmt.Sprintf(`root: %q
confine { unveil { path: "/own" access: "rx" } unveil { path: "/area" access: "r" } }
rules { users: "jailctl-alice" run_as { user: "daemon" } confine { unveil { path: "/own" access: "rx" } unveil { path: "/area" access: "wc" } } }
rules { users: "jailctl-bob" run_as { user: "daemon" } }
rules { users: "jailctl-mallory" run_as { user: "daemon" } confine { } }
`, root))
	for u, letters := range map[roottest.User]string{roottest.Alice: "wc", roottest.Bob: "r", roottest.Mallory: "rwxc"} {
		area(t, root)
		expect(t, u.Name, roottest.Jailrun(t, u, "rule", "--", "/own/reach", "dir", "/area"), inDirectory, letters)
	}
}

// listen is a TCP server on the loopback interface.
func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// free is a port that nobody listens on.
func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// network_ports lets TCP to and on these ports through, and nothing else.
func TestNetworkPorts(t *testing.T) {
	root := reachJail(t)
	port, other, mine, others := listen(t), listen(t), free(t), free(t)
	run := func(confine string) map[string]int {
		t.Helper()
		roottest.Apply(t, "ports", policy(root, confine))
		r := jailrun(t, "ports", "", "/own/reach", "tcp", fmt.Sprint(port), fmt.Sprint(other), fmt.Sprint(mine), fmt.Sprint(others))
		return results(t, r)
	}
	const closed, perm = int(unix.EACCES), int(unix.EPERM)
	for _, row := range []struct {
		confine string
		want    map[string]int
	}{
		{"", map[string]int{
			"connect": closed, "connect elsewhere": closed, "connect by IPv6": closed, "connect elsewhere by IPv6": closed, "bind": closed, "bind elsewhere": closed, "bind any": closed,
			"listen unbound": int(unix.EBADF), "MPTCP": closed, "MSG_FASTOPEN": closed, "UDP": closed,
		}},
		{"confine { network: true }", map[string]int{"MPTCP": closed}},
		{fmt.Sprintf("confine { network: true network_ports { connect: %d bind: %d } }", port, mine), map[string]int{
			"connect elsewhere": closed, "connect elsewhere by IPv6": closed, "bind elsewhere": closed, "bind any": closed, "MPTCP": closed, "MSG_FASTOPEN": perm, "UDP": closed,
		}},
		{fmt.Sprintf("confine { network: true network_ports { connect: [%d, %d] } }", port, other), map[string]int{
			"bind": closed, "bind elsewhere": closed, "bind any": closed, "listen unbound": closed, "MPTCP": closed, "MSG_FASTOPEN": perm, "UDP": closed,
		}},
		{"confine { network: true network_ports { bind: 0 } }", map[string]int{
			"connect": closed, "connect elsewhere": closed, "connect by IPv6": closed, "connect elsewhere by IPv6": closed, "bind": closed, "bind elsewhere": closed,
			"MPTCP": closed, "MSG_FASTOPEN": perm, "UDP": closed,
		}},
	} {
		got := run(row.confine)
		for _, always := range []string{"ping", "raw", "netlink", "packet", "unix"} {
			row.want[always] = closed
		}
		for deed, errno := range got {
			if errno != row.want[deed] {
				t.Errorf("%s: %s: %v; want %v", row.confine, deed, syscall.Errno(errno), syscall.Errno(row.want[deed]))
			}
		}
		if len(got) != 16 {
			t.Errorf("%v", got)
		}
	}
}

// results is what reach says, by deed.
func results(t *testing.T, r roottest.Result) map[string]int {
	t.Helper()
	if r.Status != 0 || r.Err != "" {
		t.Fatalf("%+v", r)
	}
	all := map[string]int{}
	for line := range strings.Lines(r.Out) {
		at := strings.LastIndex(line, " ")
		var errno int
		fmt.Sscan(line[at:], &errno)
		all[line[:at]] = errno
	}
	return all
}

// local_sockets opens socket files, and abstract sockets of the jail's own.
func TestLocalSocketsScope(t *testing.T) {
	root := reachJail(t)
	const abstract = "@jailctl-test-outside"
	file, err := net.Listen("unix", root+"/desk/outside")
	must(t, err)
	defer file.Close()
	must(t, os.Chmod(root+"/desk/outside", 0o666))
	stream, err := net.Listen("unix", abstract)
	must(t, err)
	defer stream.Close()
	datagrams, err := net.ListenPacket("unixgram", abstract)
	must(t, err)
	defer datagrams.Close()
	for _, row := range []struct {
		confine string
		want    map[string]syscall.Errno
	}{
		{"", map[string]syscall.Errno{
			"file of another's": unix.EACCES, "bind a file": unix.EACCES, "connect to it": unix.EACCES, "abstract outside": unix.EACCES, "send to abstract outside": unix.EACCES,
			"bind abstract": unix.EACCES, "connect to abstract": unix.EACCES, "pair of datagrams": unix.EACCES, "inet": unix.EACCES,
		}},
		{"confine { local_sockets: true }", map[string]syscall.Errno{"abstract outside": unix.EPERM, "send to abstract outside": unix.EPERM, "inet": unix.EACCES}},
	} {
		roottest.Apply(t, "local", policy(root, row.confine))
		got := results(t, jailrun(t, "local", "", "/own/reach", "unix", "/desk/outside", abstract))
		for deed, errno := range got {
			if syscall.Errno(errno) != row.want[deed] {
				t.Errorf("%s: %s: %v; want %v", row.confine, deed, syscall.Errno(errno), row.want[deed])
			}
		}
		if len(got) != 10 {
			t.Errorf("%v", got)
		}
	}
}
