package learn

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/packages"
	"jailctl/policy/source"
)

// shelled is what a shell's script teaches.
func shelled(t *testing.T, dir, script string) (contentsText, policyText string) {
	t.Helper()
	r, ended := learned(t, dir, "sh", "-c", script)
	if ended.ExitStatus() != 0 {
		t.Fatalf("%s: status %d", script, ended.ExitStatus())
	}
	return drafted(t, r)
}

// A program comes by itself, and what comes with it is not asked for again.
func TestPrograms(t *testing.T) {
	text, policy := shelled(t, directory(t), "cat /dev/null; /bin/true")
	has(t, text, `programs: "/usr/bin/sh"  # step 1 (sh)`, `programs: "/usr/bin/cat"  # step 2 (cat)`, `programs: "/bin/true"  # step 3 (true)`)
	hasNot(t, text, "libc.so", "ld-linux", "ld.so.cache", "symlinks")
	has(t, policy, `  commands { path: "/usr/bin/sh" }  # step 1 (sh)`, `  users: "`+fmt.Sprint(os.Getuid())+`"`)
}

// What the run made is not copied; where it made it is a state directory, and what was
// there is data.
func TestState(t *testing.T) {
	dir := directory(t, "old")
	text, policy := shelled(t, dir, "cat old >new; mkdir d; cp new d; mv new d/new2; rm -r d")
	has(t, text, "directories { path: "+literal(dir)+` owner: "`+fmt.Sprint(os.Getuid())+`" state: true }  # step 1 (sh) writes in it`)
	copies(t, text, dir, "--no-recursion old")
	hasNot(t, text, "paths: "+literal(dir))
	has(t, policy, "  unveil { path: "+literal(dir)+` access: "rwc" }`, "working_directory: "+literal(dir))
	if n := strings.Count(policy, dir+"/"); n > 0 {
		t.Errorf("what is in the state directory is unveiled by itself:\n%s", policy)
	}
}

// A file that is written to, and a repository that is read, are data as well.
func TestData(t *testing.T) {
	dir := directory(t, "log", "sub/other")
	text, policy := shelled(t, dir, "echo more >>log; cat sub/other")
	has(t, text, "directories { path: "+literal(dir))
	hasNot(t, text, "sub/other")
	has(t, policy, "  unveil { path: "+literal(dir)+` access: "rwc" }`)
	copies(t, text, dir, "--no-recursion log sub/other")
	dir = directory(t, ".git/HEAD", ".git/other", "file", "none")
	text, _ = shelled(t, dir, "cat .git/HEAD file")
	has(t, text, "directories { path: "+literal(dir)+` owner: "`+fmt.Sprint(os.Getuid())+`" state: true }  # step 2 (cat) uses the repository in it, and git works in none but its user's`)
	copies(t, text, dir, ".git --no-recursion file")
	hasNot(t, text, "paths: "+literal(dir))
}

// copies fails the test unless the text has the command that copies these words of a
// state directory, and no other.
func copies(t *testing.T, text, dir, words string) {
	t.Helper()
	command := fmt.Sprintf(`#   (cd /srv/jails/test%[1]s && env -i PATH="$PATH" setsid -w setpriv --reuid=%[2]d --regid=%[3]d --clear-groups -- sh -c 'tar -cf - -C "$0" "$@" | tar -xpf -' %[1]s %[4]s </dev/null 2>&1 | cat)`,
		dir, os.Getuid(), os.Getgid(), words)
	if n := strings.Count(text, "tar -cf"); n != 1 || !strings.Contains(text, command+"\n") {
		t.Errorf("no line %s, or others, in\n%s", command, text)
	}
}

// What the run wrote in is state, no more; what it read elsewhere is copied, and so are
// the files of which it has written others in their place.
func TestStateAlone(t *testing.T) {
	dir := directory(t, "program", "in/1", "out/old", "out/in", "out/sub/1", "out/sub/2", "out/-x", "key")
	os.Chmod(dir+"/key", 0o600)
	if err := os.Symlink("in", dir+"/out/link"); err != nil {
		t.Fatal(err)
	}
	text, policy := shelled(t, dir, "cat program in/1; echo x >out/old; cat out/link out/sub/* out/-x >out/new")
	has(t, text, "directories { path: "+literal(dir+"/out")+" owner: ", "paths: "+literal(dir+"/program"), "paths: "+literal(dir+"/in/1"))
	copies(t, text, dir+"/out", "sub --no-recursion ./-x in link")
	has(t, policy, "  unveil { path: "+literal(dir+"/out")+` access: "rwc" }`)
	hasNot(t, text, "key")
	// What python keeps compiled it does without.
	dir = directory(t)
	for name, text := range map[string]string{"one.py": "import two\n", "two.py": "import os\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, ended := learned(t, dir, "python3", "one.py")
	if _, err := os.Stat(dir + "/__pycache__"); err != nil || ended.ExitStatus() != 0 {
		t.Fatal(err, ended)
	}
	text, _ = drafted(t, r)
	has(t, text, "paths: "+literal(dir+"/one.py"), "paths: "+literal(dir+"/two.py"))
	hasNot(t, text, "state", dir+"/__pycache__")
}

// A file that is there already is made in a state directory that begins empty.
func TestMadeAgain(t *testing.T) {
	dir := directory(t, "o.txt", "d/f")
	text, policy := shelled(t, dir, "test -e o.txt; echo new >o.txt")
	has(t, policy, "  unveil { path: "+literal(dir)+` access: "wc" }`)
	if strings.Contains(text, "tar -cf") {
		t.Errorf("what is overwritten is copied:\n%s", text)
	}
	text, _ = shelled(t, dir, "exec tar czf o.txt d")
	copies(t, text, dir, "--no-recursion d d/f")
	_, policy = shelled(t, dir, "read x <o.txt; echo $x >>o.txt")
	has(t, policy, "  unveil { path: "+literal(dir)+` access: "rwc" }`)
	_, policy = shelled(t, dir, "echo x >/dev/null")
	hasNot(t, policy, `access: "wc"`)
}

// Of a state directory that was listed, the names are data, but for what others may
// not read, and then that is told.
func TestListedState(t *testing.T) {
	dir := directory(t, "a", "b", "keys/key", "sub/c")
	os.Chmod(dir+"/keys", 0o700)
	os.Chmod(dir+"/b", 0o600)
	text, _ := shelled(t, dir, "ls >out; cat a >>out")
	has(t, text, `#   "`+dir+`" (step 2 (ls) lists it)`)
	copies(t, text, dir, "--no-recursion a sub")
	os.Remove(dir + "/out")
	os.Chmod(dir+"/keys", 0o755)
	text, _ = shelled(t, dir, "ls >out; cat a b >>out")
	copies(t, text, dir, "--no-recursion a b keys sub")
	if strings.Contains(text, "lists it") {
		t.Errorf("all is copied that there was, and yet:\n%s", text)
	}
}

// The names of a directory of the user's are wanted where it is listed; not by a shell
// for a pattern, or by python for a module.
func TestListed(t *testing.T) {
	dir := directory(t, "one.py", "d/a", "d/key", "d/sub/c")
	os.Chmod(dir+"/d/key", 0o600)
	if err := os.Symlink("a", dir+"/d/link"); err != nil {
		t.Fatal(err)
	}
	r, _ := learned(t, dir, "find", "d")
	text, _ := drafted(t, r)
	has(t, text, "paths: "+literal(dir+"/d/a"), "paths: "+literal(dir+"/d/sub/c"), "symlinks { path: "+literal(dir+"/d/link")+` target: "a" }`,
		`#   "`+dir+`/d" (step 1 (find) lists it)`) // for key is not there
	hasNot(t, text, "key", "one.py")
	text, _ = shelled(t, dir, "cat d/a*; python3 one.py 2>/dev/null; exit 0")
	has(t, text, "paths: "+literal(dir+"/d/a"), "paths: "+literal(dir+"/one.py"), `#   "`+dir+`/d" (step 1 (sh) lists it)`)
	hasNot(t, text, "sub/c", "link")
	text, _ = shelled(t, dir, "cat d/a* >out; python3 one.py 2>/dev/null; exit 0")
	copies(t, text, dir, "--no-recursion d d/a one.py")
}

// The command line for the jail is one that run accepts.
func TestCommand(t *testing.T) {
	dir := directory(t, "f")
	if err := os.WriteFile(dir+"/s.sh", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for want, argv := range map[string][]string{
		"jailctl run test cat 'a b' f":         {"cat", "a b", "f"},
		"jailctl run test /bin/cat":            {"/bin/../bin/./cat"},
		"jailctl run test " + dir + "/s.sh -x": {"./s.sh", "-x"},
	} {
		r, _ := learned(t, dir, argv...)
		if got := draftOf(t, r).Command; got != want {
			t.Errorf("%q: %s, want %s", argv, got, want)
		}
	}
	// Where the PATH has no place of the program.
	r, _ := learned(t, dir, "cat", "f")
	r.programs[0].name = dir + "/s.sh"
	if got, want := draftOf(t, r).Command, "jailctl run test "; !strings.HasPrefix(got, want+"/") {
		t.Errorf("%s", got)
	}
}

// What the command will not work without is told by itself.
func TestLacks(t *testing.T) {
	dir := directory(t, "key")
	os.Chmod(dir+"/key", 0o600)
	for script, want := range map[string]string{
		"cat key": `files that only their owner may read; chmod a+r what is no secret, and learn again: "` + dir + `/key" (step 2 (cat) reads it)`,
		"cat /proc/version /proc/uptime >/dev/null":                     kernels + `: "/proc/uptime" (step 2 (cat) reads it) and 1 more`,
		"test -e key; id >/dev/null; ls /proc/self >/dev/null; mkdir d": "",
	} {
		r, _ := learned(t, dir, "sh", "-c", script)
		if got := strings.Join(draftOf(t, r).Lacks, "\n"); got != want && !(want == "" && strings.HasPrefix(got, kernels+`: "/proc/self" (step`)) {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}
}

// Of a few files of the user's each is asked for; a directory of which all were used,
// and many, is one line.
func TestOwnFiles(t *testing.T) {
	var files []string
	for i := range 20 {
		files = append(files, fmt.Sprintf("d/%d", i))
	}
	dir := directory(t, files...)
	text, _ := shelled(t, dir, "cat d/*")
	has(t, text, "paths: "+literal(dir)+"  # step 2 (cat): 20 of its 20 files were used")
	hasNot(t, text, "state: true")
	text, _ = shelled(t, dir, "cat d/1*")
	has(t, text, "paths: "+literal(dir+"/d/19"))
	hasNot(t, text, "state: true", "paths: "+literal(dir+"/d")+" ")
	text, _ = shelled(t, dir, "find d >/dev/null")
	has(t, text, "paths: "+literal(dir)+"  # step 2 (find): 20 of its 20 files were used")
	hasNot(t, text, "state: true")
	// Who works in / has not made that a directory of theirs.
	r, ended := learned(t, "/", "sh", "-c", "cat "+dir+"/d/*; echo >"+dir+"/new")
	if ended.ExitStatus() != 0 {
		t.Fatalf("status %d", ended.ExitStatus())
	}
	text, _ = drafted(t, r)
	has(t, text, "directories { path: "+literal(dir)+" owner: ")
	hasNot(t, text, `path: "/" `)
}

// What a step only looks at while it walks a tree is not copied, unless another does.
func TestWalks(t *testing.T) {
	text, _ := shelled(t, directory(t), "find /usr/share -name '*.none'; test -e /usr/share/dpkg/cputable")
	if !regexp.MustCompile(`(?m)^#   \d{4,} files and directories \(step 2 \(find\)\)$`).MatchString(text) {
		t.Errorf("nothing is said of what was walked:\n%s", text)
	}
	has(t, text, `paths: "/usr/share/dpkg/cputable"`)
	if n := strings.Count(text, "/usr/share"); n > 5 {
		t.Errorf("%d lines in\n%s", n, text)
	}
}

// A directory for everyone's temporary files stays one.
func TestTemporary(t *testing.T) {
	dir := directory(t)
	f, err := os.CreateTemp("/tmp", "learn")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	text, policy := shelled(t, dir, "rm $(mktemp /tmp/learnXXXXXX); cat "+f.Name())
	has(t, text, `directories { path: "/tmp" mode: 01777 state: true }`)
	copies(t, text, "/tmp", "--no-recursion "+filepath.Base(f.Name()))
	has(t, policy, `  unveil { path: "/tmp" access: "rwc" }`)
}

// The working directory is there, also where nothing else is asked for in it.
func TestWorkingDirectory(t *testing.T) {
	dir := directory(t)
	text, policy := shelled(t, dir, "pwd >/dev/null")
	has(t, text, "directories { path: "+literal(dir)+" }")
	has(t, policy, "working_directory: "+literal(dir))
	// It is a directory of the jail's only if it counted.
	r, _ := learned(t, dir, "true")
	text, policy = drafted(t, r)
	hasNot(t, text+policy, "{ path: "+literal(dir), "working_directory")
}

// Accounts are named and not copied; devices are those that a jail has.
func TestAccountsAndDevices(t *testing.T) {
	text, policy := shelled(t, directory(t), "id >/dev/null; stat -c %U / >/dev/null; cat /dev/null; head -c 1 /dev/urandom >/dev/null; test -e /dev/ptmx")
	has(t, text, `users: "root"  # step `, `devices: "null"  # step 1 (sh) changes it`, `devices: "urandom"  # step`, `#   "/dev/ptmx" (`)
	hasNot(t, text, "/etc/nsswitch.conf", `"/etc/passwd"`, `"/etc/group"`, "libnss", "libcap", "/etc/shadow")
	has(t, policy, `  unveil { path: "/etc/passwd" access: "r" }`, `  unveil { path: "/dev/urandom" access: "r" }`)
	hasNot(t, policy, "nsswitch", "ptmx")
}

// What looks up names of hosts needs the name service as the host has it.
func TestHosts(t *testing.T) {
	text, _ := shelled(t, directory(t), "getent hosts localhost >/dev/null")
	has(t, text, `paths: "/etc/nsswitch.conf"`, `paths: "/etc/hosts"`)
}

// What nobody but the owner may read is no use as a copy that is root's.
func TestPrivate(t *testing.T) {
	dir := directory(t, "key", "open")
	os.Chmod(dir+"/key", 0o600)
	text, policy := shelled(t, dir, "cat key open")
	has(t, text, "paths: "+literal(dir+"/open"), `#   "`+dir+`/key" (step 2 (cat) reads it)`)
	hasNot(t, text+policy, literal(dir+"/key")+"  #", literal(dir+"/key")+" access")
	if err := copyFile("/usr/bin/true", dir+"/own"); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/own", 0o700)
	text, _ = shelled(t, dir, "./own")
	has(t, text, `#   "`+dir+`/own" (step 2 (own))`)
	hasNot(t, text, "programs: "+literal(dir))
}

// A directory that is its owner's alone on the host lets others in.
func TestClosedDirectory(t *testing.T) {
	dir := directory(t, "home/file")
	os.Chmod(dir+"/home", 0o700)
	text, _ := shelled(t, dir, "cat home/file")
	has(t, text, "paths: "+literal(dir+"/home/file"), "directories { path: "+literal(dir+"/home")+" }  # its owner's alone")
}

// A script without a first line for the kernel is a file that a shell reads.
func TestPlainScript(t *testing.T) {
	dir := directory(t)
	if err := os.WriteFile(dir+"/script", []byte("cat /dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text, policy := shelled(t, dir, "./script")
	has(t, text, "paths: "+literal(dir+"/script"))
	has(t, policy, "  unveil { path: "+literal(dir+"/script")+` access: "rx" }`)
}

// A call that fails on a file needs the file, and perhaps a right; one that finds none,
// or is forbidden it, needs neither.
func TestFailedCalls(t *testing.T) {
	dir := directory(t, "f", "full/f")
	text, policy := shelled(t, dir, "readlink f; mkdir -p full; (echo >/etc/none) 2>/dev/null; (echo >none/none) 2>/dev/null; cat none 2>/dev/null; exit 0")
	has(t, text, "paths: "+literal(dir+"/f"))
	hasNot(t, policy, literal(dir)+" access", `"/etc"`)
	hasNot(t, text, "none", "state")
	_, policy = shelled(t, dir, "rmdir full 2>/dev/null; exit 0")
	has(t, policy, "  unveil { path: "+literal(dir)+` access: "c" }`)
}

// What only the kernel knows that it makes something is state as well.
func TestMadeOtherwise(t *testing.T) {
	for deed, promises := range map[string]string{"openat2": "stdio rpath wpath cpath prot_exec", "tmpfile": "stdio rpath tmppath prot_exec"} {
		dir := directory(t)
		r, ended := learned(t, dir, here+"/many", deed, dir)
		if ended.ExitStatus() != 0 {
			t.Fatalf("%s: status %d", deed, ended.ExitStatus())
		}
		text, policy := drafted(t, r)
		has(t, text, "directories { path: "+literal(dir)+" owner: ")
		has(t, policy, `  promises: "`+promises+`"`)
		if strings.Contains(policy, "#   openat2") {
			t.Errorf("no jail has openat2, and programs do without:\n%s", policy)
		}
	}
}

// A device that takes commands is unveiled for more than reading.
func TestDeviceCommands(t *testing.T) {
	r, ended := learned(t, directory(t), "python3", "-c", "import fcntl; fcntl.ioctl(open('/dev/urandom', 'rb', 0), 0x80045200, b'1234')")
	if ended.ExitStatus() != 0 {
		t.Fatalf("status %d", ended.ExitStatus())
	}
	_, policy := drafted(t, r)
	has(t, policy, `  unveil { path: "/dev/urandom" access: "rw" }`)
}

// Where the command begins is there, also in an empty directory for everyone.
func TestBeginsInTemporary(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "learn")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	text, _ := shelled(t, dir, "rm $(mktemp /tmp/learnXXXXXX)")
	copies(t, text, "/tmp", "--no-recursion "+filepath.Base(dir))
}

// What a tree cannot have is told.
func TestNotes(t *testing.T) {
	dir := directory(t, "f", "g")
	if err := unix.Mkfifo(dir+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	text, policy := shelled(t, dir, "cat /proc/self/status /proc/version /dev/fd/0 </dev/null >/dev/null; test -p fifo; ls . >/dev/null; cat f; passwd --help >/dev/null; prlimit --pid $$ --nofile=64")
	has(t, text, `#   "/proc/self/status" (step 2 (cat) uses it)`, `#   "/proc/version" (step 2 (cat) reads it)`, `#   "/dev/fd/0" (step 2 (cat) uses it)`,
		`#   "`+dir+`/fifo" (`, `#   "`+dir+`" (step 3 (ls) lists it)`, `#   "/usr/bin/passwd" (step 5 (passwd))`)
	has(t, policy, "#   prlimit64: no limit, priority or processor of other processes (step 6 (prlimit))")
	if strings.Contains(text, fmt.Sprintf("/proc/%d", os.Getpid())) {
		t.Errorf("the tracer took itself for the command:\n%s", text)
	}
}

var stdlib = regexp.MustCompile(`(?m)^packages: "libpython3\.\d+-minimal"  # step 1 \(python3\): \d+ of its \d+ files were used$`)

// Many files of a package are the package; what python has compiled comes along.
func TestPackages(t *testing.T) {
	r, ended := learned(t, directory(t), "python3", "-c", "import json, decimal, zoneinfo, email.message; zoneinfo.ZoneInfo('Europe/Berlin')")
	if ended.ExitStatus() != 0 {
		t.Fatalf("status %d", ended.ExitStatus())
	}
	text, policy := drafted(t, r)
	if !stdlib.MatchString(text) {
		t.Errorf("no package in\n%s", text)
	}
	has(t, text, `exclude: "/usr/share/doc"  # no step used it`, `paths: "/usr/share/zoneinfo/Europe/Berlin"`)
	if !regexp.MustCompile(`(?m)^paths: "/usr/lib/python3\.\d+/\*/__pycache__"  # step 1 \(python3\): \d+ of its \d+ files were used$`).MatchString(text) {
		t.Errorf("what is compiled is not in\n%s", text)
	}
	if n := strings.Count(text, "\npaths:"); n > 20 {
		t.Errorf("%d paths in\n%s", n, text)
	}
	if n := strings.Count(policy, "unveil"); n > 12 {
		t.Errorf("%d unveils in\n%s", n, policy)
	}
	has(t, policy, `  unveil { path: "/usr/lib" access: "r" }`)
}

// A directory of which all was used is asked for as a whole; the user's own never is.
func TestDirectories(t *testing.T) {
	text, _ := shelled(t, directory(t), "LC_ALL=C.UTF-8 date >/dev/null; cat /usr/lib/locale/C.utf8/LC_*[!S] /usr/lib/locale/C.utf8/LC_MESSAGES/* >/dev/null")
	has(t, text, `paths: "/usr/lib/locale`)
	hasNot(t, text, "LC_CTYPE")
	dir := directory(t, "d/a", "d/b", "d/c")
	text, _ = shelled(t, dir, "cat d/*")
	has(t, text, "paths: "+literal(dir+"/d/a"), "paths: "+literal(dir+"/d/b"), "paths: "+literal(dir+"/d/c"))
}

// What was installed by hand is a directory, where it would be many lines.
func TestInstalled(t *testing.T) {
	dir := os.Getenv("LEARN_INSTALLED")
	if dir == "" {
		return // TestMain says so
	}
	text, _ := shelled(t, directory(t), "cat "+dir+"/lib?/file "+dir+"/lib1?/file")
	has(t, text, "paths: "+literal(dir)+"  # step 2 (cat): 20 of its 160 files were used")
	text, _ = shelled(t, directory(t), "cat "+dir+"/lib?/file")
	has(t, text, "paths: "+literal(dir+"/lib3/file"), "paths: "+literal(dir+"/lib9/file"))
}

// A preset is included where it brings two files or more, and is in nobody's way.
func TestPresets(t *testing.T) {
	dir := directory(t)
	for script, want := range map[string]bool{
		"cat /etc/hosts /etc/host.conf": true,
		"cat /etc/hosts":                false,
		// What it brings is not what it is for.
		"cat /etc/hosts /usr/share/common-licenses/GPL-2 /usr/share/common-licenses/GPL-3": false,
		"cat /etc/host.conf /etc/resolv.conf":                                              true,
		"cat /etc/host.conf /etc/gai.conf":                                                 false,
		"cat /etc/hosts /etc/host.conf; cat /usr/share/dpkg/cputable; cd /usr/share/dpkg":  false, // which the preset calls state
	} {
		r, _ := learned(t, dir, "sh", "-c", script)
		files := host.New("/")
		d, err := r.Draft(World{
			Jail: "test", User: source.User{UID: uint32(os.Getuid())},
			Host: jailtree.Host{Files: files, Packages: packages.Open(files), Names: source.System()},
			Read: func(name string) ([]byte, error) {
				switch filepath.Base(name) {
				case "libc.txtpb":
					return []byte("optional_paths: \"/usr/share/common-licenses/*\""), nil
				case "dns.txtpb":
				default:
					return nil, fs.ErrNotExist
				}
				return []byte("include: \"libc\" optional_paths: \"/etc/hosts\" optional_paths: \"/etc/*.conf\" directories { path: \"/usr/share/dpkg\" mode: 01777 state: true }"), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		text := string(d.Contents)
		if strings.Contains(text, "include: \"dns\"  # 2 of the files that it brings were used\n") != want || strings.Contains(text, `paths: "/etc/`) == want {
			t.Errorf("%s: included should be %v:\n%s", script, want, text)
		}
		if strings.Contains(text, "# Not in the jail") {
			t.Errorf("%s: something is missing in\n%s", script, text)
		}
	}
}

var promised = regexp.MustCompile(`(?m)^  promises: "(.*)"$`)

// The promises are the fewest that permit what the run did.
func TestPromises(t *testing.T) {
	dir := directory(t, "f")
	for script, want := range map[string]string{
		"exec cat f":               "stdio rpath exec",
		"cat f":                    "stdio rpath proc exec",
		"echo x >>f":               "stdio rpath wpath cpath prot_exec",
		"rm -f none; exec touch f": "stdio rpath wpath cpath fattr proc exec",
		"(exec flock f true)":      "stdio rpath cpath flock proc exec",
	} {
		r, _ := learned(t, dir, "sh", "-c", script)
		_, policy := drafted(t, r)
		m := promised.FindStringSubmatch(policy)
		if m == nil || m[1] != want {
			t.Errorf("%s: %q, want %q\n%s", script, m, want, policy)
		}
		if strings.Contains(want, "fattr") {
			has(t, policy, "  # fattr: step 3 (touch): utimensat")
		}
	}
	r, _ := learned(t, dir, "cat", "f")
	_, policy := drafted(t, r)
	has(t, policy, `  promises: "stdio rpath prot_exec"`)
}

// An unveil has the letters that were needed, a directory is one where many are, and
// what is moved gains nothing.
func TestUnveil(t *testing.T) {
	dir := directory(t, "a/1", "a/2", "a/3", "a/4", "a/5", "b/1", "b/2", "c/x", "d/y", "e/z")
	_, policy := shelled(t, dir, "cat a/1 a/2 a/3 a/4 a/5 b/1 b/2")
	has(t, policy, "  unveil { path: "+literal(dir+"/a")+` access: "r" }`, "  unveil { path: "+literal(dir+"/b/1")+` access: "r" }`)
	// Not in a state directory of its own, for d is not this directory.
	t.Chdir("/")
	r, err := New("/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(Command{Path: "/bin/mv", Argv: []string{"mv", dir + "/c/x", dir + "/d/x"}, Env: []string{}}); err != nil {
		t.Fatal(err)
	}
	_, policy = drafted(t, r)
	has(t, policy, "  unveil { path: "+literal(dir+"/c")+` access: "c" }`, "  unveil { path: "+literal(dir+"/d")+` access: "c" }`)
	if r, err = New("/"); err != nil {
		t.Fatal(err)
	}
	script := "echo >" + dir + "/d/y; mv " + dir + "/c/../e/z " + dir + "/d/z"
	if _, err := r.Run(Command{Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}); err != nil {
		t.Fatal(err)
	}
	_, policy = drafted(t, r)
	has(t, policy, "  unveil { path: "+literal(dir+"/d")+` access: "wc" }`, "  unveil { path: "+literal(dir+"/e")+` access: "wc" }`)
}

// Sockets open what they need, and those that led nowhere nothing.
func TestSockets(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	dir := directory(t)
	local, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	for script, want := range map[string]string{
		fmt.Sprintf("s=socket.socket(); s.connect(('127.0.0.1', %d))", port):                                       fmt.Sprintf("  network_ports { connect: %d }", port),
		"s=socket.socket(); s.listen()":                                                                            "  network_ports { bind: 0 }",
		"s=socket.socket(socket.AF_UNIX); s.bind('made')":                                                          "  local_sockets: true",
		"s=socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()":                                                  "  network_ports { bind: 0 }",
		fmt.Sprintf("s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', %d))", port): "  network: true",
		"s=socket.socket(socket.AF_UNIX); s.connect('socket')":                                                     "  local_sockets: true",
		"s=socket.socket(socket.AF_UNIX); s.connect_ex('none')":                                                    "",
		"a,b=socket.socketpair(); a.send(b'x')":                                                                    "",
		"s=socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); s.bind((0,0))":                                       "",
	} {
		r, ended := learned(t, dir, "python3", "-c", "import socket; "+script)
		if ended.ExitStatus() != 0 {
			t.Fatalf("%s: status %d", script, ended.ExitStatus())
		}
		text, policy := drafted(t, r)
		has(t, policy, want)
		if strings.Contains(script, "made") {
			has(t, text, "directories { path: "+literal(dir)+" owner: ")
			has(t, policy, "  unveil { path: "+literal(dir)+` access: "rc" }`)
			os.Remove(dir + "/made")
		}
		if want == "" {
			hasNot(t, policy, "network", "local_sockets", " unix", "inet")
		}
		if strings.Contains(script, "DGRAM") {
			hasNot(t, policy, "network_ports")
		}
		if strings.Contains(script, "NETLINK") {
			has(t, policy, "#   socket AF_NETLINK SOCK_RAW: no jail has them")
		}
		if strings.Contains(script, "'socket'") {
			has(t, policy, `#   "socket"`)
		}
	}
}

// The policy keeps what changes the output, names the rest, and no value of it.
func TestEnvironment(t *testing.T) {
	dir := directory(t)
	r, _ := learned(t, dir, "true")
	files := host.New("/")
	d, err := r.Draft(World{
		Jail: "test", User: source.User{UID: uint32(os.Getuid()), Home: "/home/x"}, Umask: 0o077,
		Env:  []string{"PATH=/none:/usr/bin", "LC_TIME=C", "TERM=dumb", "HOME=/home/x", "SECRET=hidden", "ODD\nNAME=x"},
		Host: jailtree.Host{Files: files, Packages: packages.Open(files), Names: source.System()},
		Read: noPresets,
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := string(d.Policy)
	has(t, policy, `  keep: "LC_*"`, `  keep: "TERM"`, "umask: 0077", `#   "ODD\nNAME" SECRET`)
	if strings.Contains(policy, "hidden") {
		t.Errorf("a value is in\n%s", policy)
	}
	hasNot(t, policy, `"LANG"`, `"HOME"`, "/none", `name: "PATH"`)
}

// The steps that lines name are listed, and no others.
func TestSteps(t *testing.T) {
	text, _ := shelled(t, directory(t, "f"), "cat f >/dev/null; cat f >/dev/null; sort f >/dev/null")
	has(t, text, "# step 2: cat f  (of step 1)", "# step 4: sort f  (of step 1)")
	if strings.Contains(text, "# step 3:") {
		t.Errorf("a step that no line names:\n%s", text)
	}
	if n := strings.Count(text, filepath.Base("/usr/bin/cat")+`"`); n != 1 {
		t.Errorf("a program is asked for %d times:\n%s", n, text)
	}
}
