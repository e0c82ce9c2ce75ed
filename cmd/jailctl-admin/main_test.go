package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/proto"

	"jailctl/client"
	"jailctl/internal/confine"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/ipc"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"jailctl": func() {
		bake(os.Getenv("WORK"))
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, testHost(os.Getenv("AS_ROOT") != "")))
	}})
}

// TestScripts has a story for each verb.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			for _, dir := range []string{"etc/jails", "etc/contents", "var/policies"} {
				if err := os.MkdirAll(filepath.Join(env.WorkDir, dir), 0o700); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// bake does what the linker does for an installed jailctl.
func bake(dir string) {
	paths.Sysconf, paths.State, paths.Libexec = dir+"/etc", dir+"/var", dir+"/libexec"
	paths.Share = dir + "/share"
	paths.Bin, paths.HelperHash, paths.ClientHash = dir+"/bin", "4e1f", "c11e"
	paths.Version = "1.2.3"
}

// testHost is a machine on which the test's files are root's.
func testHost(root bool) host {
	groups := func(source.User) ([]uint32, error) { return []uint32{64001}, nil }
	return host{root: root, names: testNames{}, files: os.Getenv("HOST_ROOT"), groups: groups, listed: testListed, read: readAsRoot, askHelper: testHelper, landlock: testLandlock, machine: sound(os.Getenv("WORK"))}
}

// testLandlock is the newest version, or that of an older kernel.
func testLandlock() (int, error) {
	if s := os.Getenv("LANDLOCK"); s != "" {
		return strconv.Atoi(s)
	}
	return confine.Newest, nil
}

func testListed(database string) []string {
	return map[string][]string{"passwd": {"root", "alice", "daemon"}, "group": {"adm", "daemon"}}[database]
}

func readAsRoot(path string, limit int) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, safepath.ErrNotExist
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o022 != 0:
		return nil, &safepath.Fault{Path: path, Why: "must not be writable by group or others", Fix: "chmod go-w " + path}
	}
	return os.ReadFile(path)
}

// testNames is a host with the users alice and daemon.
type testNames struct{}

func (testNames) User(name string) (source.User, error) {
	for _, u := range []source.User{
		{UID: 1, GID: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"},
		{UID: 0, GID: 0, Name: "root", Home: "/root", Shell: "/bin/sh"},
		{UID: 64000, GID: 64000, Name: "alice", Home: "/home/alice", Shell: "/bin/sh"},
	} {
		if name == u.Name || name == map[uint32]string{0: "0", 1: "1", 64000: "64000"}[u.UID] {
			return u, nil
		}
	}
	return source.User{}, source.ErrUnknown
}

func (testNames) Group(name string) (uint32, string, error) {
	switch name {
	case "daemon", "1":
		return 1, "daemon", nil
	case "root", "0":
		return 0, "root", nil
	}
	return 0, "", source.ErrUnknown
}

// testHelper knows the jail web, in which the caller may run ls.
func testHelper(q ipc.Request) ([]ipc.Reply, error) {
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		return b
	}
	switch {
	case os.Getenv("NO_HELPER") != "":
		return nil, &client.Refused{Outcome: ipc.Failed, Text: "cannot start the helper: no such file or directory"}
	case q.Verb == ipc.List && os.Getenv("NO_JAILS") != "":
		return nil, nil
	case q.Verb == ipc.List:
		web := &jailpb.Listing{Jail: "web", Description: "the site\x1b[31m", DefaultCommand: "/bin/sh", Entries: []*jailpb.Listing_Entry{
			{User: "daemon", Group: "daemon", Commands: []string{"/bin/ls *", "/bin/cat -n"}, Line: 3},
			{NotAfter: 1801440000, Line: 9},
		}}
		return []ipc.Reply{{Outcome: ipc.Listed, Listing: encode(web)}}, nil
	case len(q.Argv) > 0 && q.Argv[0] == "ls":
		x := &jailpb.Explanation{
			Policy: "/etc/web.txtpb", Line: 3, Root: "/srv/web", Uid: 1, Gid: 1, Groups: []uint32{7}, Command: "/bin/ls",
			Argv: [][]byte{[]byte("ls"), []byte("a b")}, Environment: [][]byte{[]byte("PATH=/bin"), []byte("HOME=/")},
			Directory: "/data", Umask: 0o027, Limits: []*jailpb.CompiledLimit{{Resource: 7, Value: 64}}, WallSeconds: 5,
			NotAfter: 1801440000, Path: "/bin", Confine: testConfine(os.Getenv("CONFINE")),
		}
		return []ipc.Reply{{Outcome: ipc.Explained, Explanation: encode(x)}}, nil
	}
	return nil, &client.Refused{Outcome: ipc.Refused, Text: "command is not permitted"}
}

// testConfine is what the text of a confine block compiles to.
func testConfine(text string) *jailpb.CompiledConfine {
	c, problems := source.Check("web.txtpb", []byte(testPolicy+"confine { "+text+" }\n"), testNames{})
	if len(problems) > 0 {
		panic(problems)
	}
	return c.Confines[0]
}

const testPolicy = "root: \"/srv/web\"\nrules { users: \"alice\" run_as { user: \"daemon\" } }\n"

// install makes the directories of an installation and the policy of jail web.
func install(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	bake(dir)
	for _, d := range []string{policyDir(), compiledDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(paths.Policy("web"), []byte(testPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestApplyWaits has an apply wait for another that is at work.
func TestApplyWaits(t *testing.T) {
	install(t)
	unlock, err := lock(compiledDir())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		var out bytes.Buffer
		done <- run([]string{"apply", "web"}, strings.NewReader(""), &out, &out, testHost(true))
	}()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(200 * time.Millisecond):
	}
	if _, err := os.Stat(paths.Compiled("web")); err == nil {
		t.Error("it wrote while another was at work")
	}
	unlock()
	if status := <-done; status != 0 {
		t.Error("status", status)
	}
	info, err := os.Stat(paths.Compiled("web"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v: %v", info, err)
	}
}

// TestApplyIsWhole has the compiled policy replaced, never written over: who
// opened the old one keeps reading the old one.
func TestApplyIsWhole(t *testing.T) {
	install(t)
	var out bytes.Buffer
	apply := func() {
		t.Helper()
		if status := run([]string{"apply", "web"}, strings.NewReader(""), &out, &out, testHost(true)); status != 0 {
			t.Fatal(out.String())
		}
	}
	apply()
	before, _ := os.ReadFile(paths.Compiled("web"))
	if err := os.Link(paths.Compiled("web"), filepath.Join(paths.State, "old")); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(paths.Policy("web"), []byte(testPolicy+"umask: 077\n"), 0o600)
	apply()
	old, _ := os.ReadFile(filepath.Join(paths.State, "old"))
	after, _ := os.ReadFile(paths.Compiled("web"))
	if !bytes.Equal(old, before) || bytes.Equal(after, before) {
		t.Error("the old file was written to")
	}
	if left, _ := os.ReadDir(compiledDir()); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestQuiet keeps control characters away from the terminal.
func TestQuiet(t *testing.T) {
	if got := printable("a\x1b[2J\u009b\u202eb\r\n\té"); got != `a\u001b[2J\u009b\u202eb\u000d\u000a\u0009é` {
		t.Error(got)
	}
}
