package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"jailctl/client"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/ipc"
	"jailctl/policy/source"
)

// fakeMachine has its files below dir where the test has an installation.
type fakeMachine struct {
	dir            string
	texts          map[string]string
	inodes         map[string]inode
	hashes         map[string]string
	faults         map[string]error // of weighed directories
	errs           map[string]error // of anything else
	isNosuid       bool
	abi            int
	noLog, noCalls error
	noFilters      error
	first          string // jailctl on the PATH
}

func look[T any](m *fakeMachine, in map[string]T, path string) (T, error) {
	path = strings.TrimPrefix(path, m.dir)
	v, ok := in[path]
	if err := m.errs[path]; err != nil {
		return v, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if !ok {
		return v, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return v, nil
}

func (m *fakeMachine) uid() int                         { return 64000 }
func (m *fakeMachine) text(path string) (string, error) { return look(m, m.texts, path) }
func (m *fakeMachine) stat(path string) (inode, error)  { return look(m, m.inodes, path) }
func (m *fakeMachine) hash(path string) (string, error) { return look(m, m.hashes, path) }
func (m *fakeMachine) nosuid(string) (bool, error)      { return m.isNosuid, m.errs["nosuid"] }
func (m *fakeMachine) weigh(dir string) error           { return m.faults[strings.TrimPrefix(dir, m.dir)] }
func (m *fakeMachine) lookup(string) (string, error)    { return m.first, nil }
func (m *fakeMachine) logs() error                      { return m.noLog }
func (m *fakeMachine) landlock() (int, error)           { return m.abi, m.errs["landlock"] }
func (m *fakeMachine) seccomp() error                   { return m.noFilters }
func (m *fakeMachine) closeRange() error                { return m.noCalls }

const (
	aHelper = "/libexec/jailhelper"
	aClient = "/bin/jailctl"
	anAdmin = "/libexec/jailctl-admin"
	regular = 0o100000
	folder  = 0o040000
)

// sound is a Debian 13 on which nothing is wrong.
func sound(dir string) *fakeMachine {
	return &fakeMachine{
		dir: dir, abi: 6, first: paths.Bin + "/jailctl",
		texts: map[string]string{
			"/proc/sys/kernel/osrelease":                 "6.12.48+deb13-amd64",
			"/proc/self/status":                          "Name:\tjailctl-admin\nNoNewPrivs:\t0\nSeccomp:\t0",
			"/proc/self/mountinfo":                       "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
			"/sys/kernel/security/lsm":                   "lockdown,capability,landlock,yama,apparmor,tomoyo,bpf,ipe,ima,evm",
			"/proc/sys/kernel/seccomp/actions_avail":     "kill_process kill_thread trap errno user_notif trace log allow",
			"/proc/sys/fs/suid_dumpable":                 "0",
			"/proc/sys/dev/tty/legacy_tiocsti":           "0",
			"/proc/sys/kernel/yama/ptrace_scope":         "1",
			"/proc/sys/user/max_user_namespaces":         "63432",
			"/proc/sys/kernel/unprivileged_userns_clone": "1",
			"/proc/sys/fs/protected_hardlinks":           "1",
			"/proc/sys/fs/protected_symlinks":            "1",
			"/proc/sys/kernel/core_pattern":              "core",
		},
		inodes: map[string]inode{
			aHelper: {mode: regular | 0o4755}, anAdmin: {mode: regular | 0o755}, aClient: {mode: regular | 0o755},
			"/etc/jails": {mode: folder | 0o700}, "/var/policies": {mode: folder | 0o700},
		},
		hashes: map[string]string{aHelper: "4e1f", aClient: "c11e"},
	}
}

func writable(path string) error {
	return &safepath.Fault{
		Path: path, Why: "is owned by root, mode 0777, and must not be writable by group or others", Fix: "chmod go-w '" + path + "'",
	}
}

// machines are what can be met, each told by what differs from a sound one.
var machines = []struct {
	name   string
	user   bool // an ordinary one runs doctor
	change func(m *fakeMachine, h *host)
}{
	{"sound, as an ordinary user", true, func(*fakeMachine, *host) {}},
	{"Debian 12, Linux 6.1", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/osrelease"], m.abi = "6.1.0-40-amd64", 2
		delete(m.texts, "/proc/sys/dev/tty/legacy_tiocsti")
	}},
	{"RHEL 9, Linux 5.14", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/osrelease"], m.abi = "5.14.0-570.el9.x86_64", 1
		m.texts["/proc/sys/kernel/core_pattern"] = "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h"
		m.texts["/proc/sys/kernel/yama/ptrace_scope"], m.texts["/proc/sys/fs/suid_dumpable"] = "0", "2"
		delete(m.texts, "/proc/sys/dev/tty/legacy_tiocsti")
		delete(m.texts, "/proc/sys/kernel/unprivileged_userns_clone")
	}},
	{"Debian 11, Linux 5.10: no Landlock", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/osrelease"], m.abi = "5.10.0-36-amd64", 0
		m.texts["/sys/kernel/security/lsm"] = "lockdown,capability,yama,apparmor"
		delete(m.texts, "/proc/sys/dev/tty/legacy_tiocsti")
	}},
	{"no Landlock, and no security file system to say why", false, func(m *fakeMachine, _ *host) {
		m.abi = 0
		delete(m.texts, "/sys/kernel/security/lsm")
	}},
	{"Debian 12, and a policy that asks for ports", false, func(m *fakeMachine, h *host) {
		m.abi = 2
		reapply("network: true network_ports { connect: 443 }", h)
	}},
	{"Debian 12, and a policy that does without", false, func(m *fakeMachine, h *host) {
		m.abi = 2
		reapply("degrade: true", h)
	}},
	{"Landlock cannot be asked", false, func(m *fakeMachine, _ *host) {
		m.errs = map[string]error{"landlock": errors.New("operation not permitted")}
	}},
	{"hardened", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/yama/ptrace_scope"] = "2"
		m.texts["/proc/sys/user/max_user_namespaces"], m.texts["/proc/sys/kernel/unprivileged_userns_clone"] = "0", "0"
		m.texts["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = "1"
	}},
	{"lax", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/fs/protected_hardlinks"], m.texts["/proc/sys/fs/protected_symlinks"] = "0", "0"
		m.texts["/proc/sys/dev/tty/legacy_tiocsti"], m.texts["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = "1", "0"
		m.texts["/proc/sys/fs/suid_dumpable"] = "1"
		delete(m.texts, "/proc/sys/kernel/yama/ptrace_scope")
	}},
	{"Linux 5.4", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/osrelease"], m.noCalls = "5.4.0-216-generic", syscall.ENOSYS
	}},
	{"no seccomp", false, func(m *fakeMachine, _ *host) { m.noFilters = syscall.EINVAL }},
	{"seccomp without filters", false, func(m *fakeMachine, _ *host) { delete(m.texts, "/proc/sys/kernel/seccomp/actions_avail") }},
	{"seccomp without an action", false, func(m *fakeMachine, _ *host) {
		m.texts["/proc/sys/kernel/seccomp/actions_avail"] = "kill_thread trap errno trace allow"
	}},
	{"no /proc/sys for anybody", false, func(m *fakeMachine, _ *host) {
		m.errs = map[string]error{
			"/proc/sys/kernel/osrelease": syscall.EACCES, "/proc/sys/fs/suid_dumpable": syscall.EACCES,
			"/proc/sys/fs/protected_hardlinks": syscall.EACCES, "/proc/sys/kernel/core_pattern": syscall.EACCES,
		}
	}},
	{"a disk that fails", false, func(m *fakeMachine, h *host) {
		m.errs = map[string]error{
			aHelper: syscall.EIO, anAdmin: syscall.EIO, aClient: syscall.EIO, "nosuid": syscall.EIO, "/proc/self/status": syscall.EIO,
			"/etc/jails": syscall.EIO,
		}
		m.faults = map[string]error{"/libexec": syscall.EIO, "/bin": &safepath.Fault{Path: "/bin", Why: "cannot be examined"}, "/var/policies": syscall.EIO}
		h.read = func(string, int) ([]byte, error) { return nil, syscall.EIO }
	}},
	{"a disk that fails here and there", false, func(m *fakeMachine, h *host) {
		h.machine = unreadable{m, syscall.EIO, aHelper}
		h.read = func(path string, limit int) ([]byte, error) {
			if path == paths.Compiled("web") {
				return nil, syscall.EIO
			}
			return readAsRoot(path, limit)
		}
	}},
	{"jailctl unreadable", false, func(m *fakeMachine, h *host) { h.machine = unreadable{m, syscall.EIO, aClient} }},
	{"jailctl a directory, no word of no_new_privs", false, func(m *fakeMachine, _ *host) {
		m.inodes[aClient], m.texts["/proc/self/status"] = inode{mode: folder | 0o755}, "Name:\tx"
	}},
	{"no helper", false, func(m *fakeMachine, h *host) {
		delete(m.inodes, aHelper)
		delete(m.hashes, aHelper)
		h.askHelper = func(ipc.Request) ([]ipc.Reply, error) {
			return nil, &client.Refused{Outcome: ipc.Failed, Errno: syscall.ENOENT, Text: "cannot start the helper: no such file or directory"}
		}
	}},
	{"no answer, and nothing else wrong", false, func(_ *fakeMachine, h *host) {
		h.askHelper = func(ipc.Request) ([]ipc.Reply, error) {
			return nil, &client.Refused{Outcome: ipc.Failed, Text: "cannot tell what the helper decided: it ended without an answer"}
		}
	}},
	{"helper is a symbolic link", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{mode: 0o120777} }},
	{"helper has another owner", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{regular | 0o4755, 64000, 64000} }},
	{"helper has another owner and other content", false, func(m *fakeMachine, _ *host) {
		m.inodes[aHelper], m.hashes[aHelper] = inode{regular | 0o4755, 64000, 64000}, "bad"
	}},
	{"helper is not set-uid", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{mode: regular | 0o755} }},
	{"helper is set-gid too", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{mode: regular | 0o6755} }},
	{"helper is writable by its group", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{regular | 0o4770, 0, 1} }},
	{"helper is a group's and not set-uid", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{regular | 0o750, 0, 1} }},
	{"helper is a group's and of another build", false, func(m *fakeMachine, _ *host) {
		m.inodes[aHelper], m.hashes[aHelper] = inode{regular | 0o4750, 0, 1}, "bad"
	}},
	{"helper is a group's", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{regular | 0o4750, 0, 1} }},
	{"helper is a group's, who asks is not in it", true, func(m *fakeMachine, h *host) {
		m.inodes[aHelper] = inode{regular | 0o4750, 0, 1}
		h.machine = unreadable{m, fs.ErrPermission, aHelper}
		h.askHelper = func(ipc.Request) ([]ipc.Reply, error) {
			return nil, &client.Refused{Outcome: ipc.Failed, Errno: syscall.EACCES, Text: "cannot start the helper: only members of its group may"}
		}
	}},
	{"helper is the group root's", false, func(m *fakeMachine, _ *host) { m.inodes[aHelper] = inode{mode: regular | 0o4750} }},
	{"helper of another build", false, func(m *fakeMachine, _ *host) { m.hashes[aHelper] = "bad" }},
	{"jailctl of another build", false, func(m *fakeMachine, _ *host) { m.hashes[aClient] = "bad" }},
	{"another jailctl on the PATH", false, func(m *fakeMachine, _ *host) { m.first, m.hashes["/opt/jailctl"] = "/opt/jailctl", "bad" }},
	{"jailctl is a user's, jailctl-admin missing", false, func(m *fakeMachine, _ *host) {
		m.inodes[aClient] = inode{regular | 0o755, 64000, 64000}
		delete(m.inodes, anAdmin)
	}},
	{"way to the helper writable by others, way to jailctl too", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{"/libexec": writable("/usr/local"), "/bin": writable("/usr/local")}
	}},
	{"way to the helper writable by others, and the helper a user's", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{"/libexec": writable("/usr/local")}
		m.inodes[aHelper] = inode{regular | 0o4755, 64000, 64000}
	}},
	{"way to the helper by a symbolic link", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{"/libexec": &safepath.Fault{Path: "/usr/local", Why: "is a symbolic link", Fix: "write the directory that it stands for"}}
	}},
	{"built without make", false, func(*fakeMachine, *host) { paths.HelperHash, paths.ClientHash = "", "" }},
	{"mounted nosuid", false, func(m *fakeMachine, _ *host) {
		m.isNosuid = true
		m.texts["/proc/self/mountinfo"] += "\n23 22 8:2 / " + m.dir + " rw,nosuid - ext4 /dev/sda2 rw"
	}},
	{"no_new_privs", true, func(m *fakeMachine, _ *host) { m.texts["/proc/self/status"] = "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2" }},
	{"policy directory writable by others", false, func(m *fakeMachine, _ *host) { m.faults = map[string]error{"/etc/jails": writable("/etc")} }},
	{"compiled policies' own directory writable by others", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{"/var/policies": writable(m.dir + "/var/policies")}
	}},
	{"policy directories readable by others", false, func(m *fakeMachine, _ *host) {
		m.inodes["/etc/jails"], m.inodes["/var/policies"] = inode{mode: folder | 0o755}, inode{mode: folder | 0o750}
	}},
	{"policy directory missing, the other a file", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{
			"/etc/jails":    &safepath.Fault{Path: "/etc/jailctl", Why: "cannot be opened: no such file or directory"},
			"/var/policies": &safepath.Fault{Path: "/var/policies", Why: "is not a directory"},
		}
	}},
	{"policy directories out of sight", true, func(m *fakeMachine, _ *host) {
		closed := &safepath.Fault{Path: "/etc/jails", Why: "cannot be opened: permission denied"}
		m.faults = map[string]error{"/etc/jails": closed, "/var/policies": closed}
	}},
	{"no /dev/log", false, func(m *fakeMachine, _ *host) { m.noLog = syscall.ENOENT }},
	{"no /dev/log for ordinary users", true, func(m *fakeMachine, _ *host) { m.noLog = syscall.EACCES }},
	{"no /dev/log, and a policy asks for it", false, func(m *fakeMachine, _ *host) {
		m.noLog = syscall.ECONNREFUSED
		put(paths.Policy("web"), testPolicy+"audit_required: true\n")
	}},
	{"edited policy", false, func(*fakeMachine, *host) { put(paths.Policy("web"), testPolicy+"umask: 077\n") }},
	{"policy not in force", false, func(*fakeMachine, *host) { os.Remove(paths.Compiled("web")) }},
	{"policy with a mistake", false, func(*fakeMachine, *host) { put(paths.Policy("web"), testPolicy+"umask: 9\n") }},
	{"policy writable by others", false, func(*fakeMachine, *host) { os.Chmod(paths.Policy("web"), 0o666) }},
	{"compiled policy writable by others", false, func(*fakeMachine, *host) { os.Chmod(paths.Compiled("web"), 0o666) }},
	{"compiled policy damaged", false, func(*fakeMachine, *host) { put(paths.Compiled("web"), "rubbish") }},
	{"compiled policy of another jail", false, func(*fakeMachine, *host) {
		b, _ := os.ReadFile(paths.Compiled("web"))
		put(paths.Policy("two"), testPolicy)
		put(paths.Compiled("two"), string(b))
	}},
	{"users have other numbers", false, func(_ *fakeMachine, h *host) { h.names = renumbered{} }},
	{"root cannot be entered", false, func(m *fakeMachine, _ *host) { m.faults = map[string]error{"/srv/web": writable("/srv")} }},
	{"no policies", false, func(*fakeMachine, *host) { os.Remove(paths.Policy("web")) }},
	{"policy directory by a symbolic link", false, func(m *fakeMachine, _ *host) {
		m.faults = map[string]error{"/var/policies": &safepath.Fault{Path: "/var", Why: "is a symbolic link", Fix: "write the directory that it stands for"}}
	}},
	{"policies cannot be listed", false, func(*fakeMachine, *host) { os.RemoveAll(policyDir()) }},
}

// unreadable is a machine on which one file can be seen and not read.
type unreadable struct {
	*fakeMachine
	err  error
	file string
}

func (u unreadable) hash(path string) (string, error) {
	if strings.HasSuffix(path, u.file) {
		return "", u.err
	}
	return u.fakeMachine.hash(path)
}

// renumbered is a host on which daemon's number is not what it was.
type renumbered struct{ testNames }

func (r renumbered) User(name string) (source.User, error) {
	u, err := r.testNames.User(name)
	if name == "daemon" {
		u.UID = 2
	}
	return u, err
}

func put(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		panic(err)
	}
}

// reapply puts the policy in force with a confinement.
func reapply(confine string, h *host) {
	put(paths.Policy("web"), testPolicy+"confine { "+confine+" }\n")
	var out bytes.Buffer
	if run([]string{"apply", "web"}, strings.NewReader(""), &out, &out, *h) != 0 {
		panic(out.String())
	}
}

// examine runs doctor on a machine.
func examine(t *testing.T, user bool, change func(*fakeMachine, *host), args ...string) (text string, status int) {
	t.Helper()
	install(t)
	dir := strings.TrimSuffix(paths.Sysconf, "/etc")
	var out, errs bytes.Buffer
	h := testHost(true)
	if status := run([]string{"apply", "web"}, strings.NewReader(""), &out, &errs, h); status != 0 {
		t.Fatal(errs.String())
	}
	h.root = !user
	m := sound(dir)
	h.machine, h.landlock = m, m.landlock
	h.askHelper = func(ipc.Request) ([]ipc.Reply, error) { return testHelper(ipc.Request{Verb: ipc.List}) }
	change(m, &h)
	out.Reset()
	errs.Reset()
	status = run(append([]string{"doctor"}, args...), strings.NewReader(""), &out, &errs, h)
	if errs.Len() > 0 {
		t.Error(errs.String())
	}
	return strings.ReplaceAll(out.String(), dir, "/DIR"), status
}

// TestDoctor has all that doctor says of a sound machine, and of each other what
// it says beside that.
func TestDoctor(t *testing.T) {
	var b strings.Builder
	// Columns vary with the longest; a line's words do not.
	lines := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			all = append(all, strings.Join(strings.Fields(line), " "))
		}
		return all
	}
	base, status := examine(t, false, func(*fakeMachine, *host) {})
	fmt.Fprintf(&b, "sound: exit status %d\n", status)
	for _, line := range lines(base) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	for _, m := range machines {
		text, status := examine(t, m.user, m.change)
		fmt.Fprintf(&b, "\n%s: exit status %d\n", m.name, status)
		usual := lines(base)
		for _, line := range lines(text) {
			if !slices.Contains(usual, line) {
				fmt.Fprintf(&b, "  %s\n", line)
			}
		}
	}
	const golden = "testdata/doctor.txt"
	if *update {
		put(golden, b.String())
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("not as in %s (go test -update writes it anew)\n%s", golden, b.String())
	}
}

// TestDoctorAdvises: what is wrong or a warning comes with what to do, what is
// right does not, and JSON says the same as the text.
func TestDoctorAdvises(t *testing.T) {
	for _, m := range machines {
		out, status := examine(t, m.user, m.change, "--json")
		var all []finding
		if err := json.Unmarshal([]byte(out), &all); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		worst := statusYes
		for _, f := range all {
			bad := f.Status == isWarning || f.Status == isFailure
			if bad != (f.Fix != "") {
				t.Errorf("%s: %s %s: fix %q", m.name, f.Status, f.What, f.Fix)
			}
			if f.Part == "" || f.What == "" || f.Found == "" {
				t.Errorf("%s: %+v", m.name, f)
			}
			switch {
			case f.Status == isFailure:
				worst = statusNo
			case f.Status == isUnknown && worst == statusYes:
				worst = statusTrouble
			}
		}
		if status != worst {
			t.Errorf("%s: exit status %d, want %d", m.name, status, worst)
		}
	}
}
