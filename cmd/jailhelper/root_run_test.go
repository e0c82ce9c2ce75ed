package main_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
	"jailctl/ipc"
	"jailctl/proto/jailpb"
)

// Who the command runs as, what is put on record, and commands that are not there.

func TestA45RootAsTarget(t *testing.T) {
	root := "the target would be root"
	group := "the target would be in root's group"
	const none = 1<<32 - 1 // "leave it as it is" to setresuid(2)
	for name, row := range map[string]struct {
		edit func(*jailpb.CompiledRule)
		why  string // empty: permitted
	}{
		"as applied":    {func(*jailpb.CompiledRule) {}, ""},
		"uid 0":         {func(r *jailpb.CompiledRule) { r.User.Uid = 0 }, root},
		"gid 0":         {func(r *jailpb.CompiledRule) { r.Gid = 0 }, root},
		"no target":     {func(r *jailpb.CompiledRule) { r.User, r.Gid = nil, 0 }, root},
		"no user":       {func(r *jailpb.CompiledRule) { r.User = nil }, root},
		"uid -1":        {func(r *jailpb.CompiledRule) { r.User.Uid = none }, stranger}, // not decoded
		"gid -1":        {func(r *jailpb.CompiledRule) { r.Gid = none }, stranger},
		"group 0":       {func(r *jailpb.CompiledRule) { r.TargetGroups = []uint32{0} }, group},
		"group 0 last":  {func(r *jailpb.CompiledRule) { r.TargetGroups = []uint32{1, 2, 3, 0} }, group},
		"group -1":      {func(r *jailpb.CompiledRule) { r.TargetGroups = []uint32{none} }, stranger},
		"rule for none": {func(r *jailpb.CompiledRule) { r.Users = nil }, stranger},
		"rule for Bob":  {func(r *jailpb.CompiledRule) { r.Users[0].Uid = roottest.Bob.UID }, stranger},
	} {
		t.Run(name, func(t *testing.T) {
			roottest.Compile(t, "a45", alice, func(c *jailpb.Compiled) { row.edit(c.Rules[0]) })
			if row.why == "" {
				permitted(t, call{jail: "a45"})
			} else {
				refused(t, call{jail: "a45"}, row.why)
			}
		})
	}
	t.Run("asked for", func(t *testing.T) {
		roottest.Apply(t, "a45", alice)
		for _, user := range []string{"root", "0", "00", "-1", "4294967295", "4294967296", "daemon "} {
			refused(t, call{jail: "a45", request: func(q *ipc.Request) { q.User = user }}, " is not permitted")
			refused(t, call{jail: "a45", request: func(q *ipc.Request) { q.Group = user }}, " is not permitted")
		}
		permitted(t, call{jail: "a45", request: func(q *ipc.Request) { q.User, q.Group = "daemon", "1" }})
	})
	t.Run("root as its own target", func(t *testing.T) {
		roottest.Apply(t, "a45", `root: "ROOT" rules { users: "*" run_as { caller: true } }`)
		refused(t, call{jail: "a45", who: roottest.User{Name: "root"}}, root)
		if p := report(t, call{jail: "a45"}); p["uid"] != fmt.Sprintf("%[1]d %[1]d %[1]d", roottest.Alice.UID) {
			t.Errorf("uid %s", p["uid"])
		}
	})
	// The target's groups, and none of the caller's, reach the command.
	t.Run("groups", func(t *testing.T) {
		for groups, want := range map[string]string{"": "", `groups: "2" groups: "60"`: "2 60"} {
			roottest.Apply(t, "a45", `root: "ROOT" rules { groups: "jailctl-webdev" run_as { user: "daemon" `+groups+` } }`)
			p := report(t, call{jail: "a45", who: roottest.Dev})
			if p["groups"] != want || p["uid"] != "1 1 1" || p["gid"] != "1 1 1" || p["caps"] != "00 00 00" || p["ambient"] != "0" || p["nnp"] != "1" || p["timers"] != "0 0 0" {
				t.Errorf("in the jail: %v; want groups %s", p, want)
			}
			refused(t, call{jail: "a45"}, stranger) // Alice is not in the group
		}
	})
}

// auditLine is a line of the helper's: fixed words, numbers and quoted texts.
var auditLine = regexp.MustCompile(`^<(86|85)>jailhelper\[\d+\]: (permitted|explained|denied) caller=\d+` +
	`( [a-z]+| [a-z]+=\d+| [a-z]+="([ -!#-\[\]-~]|\\[ -~])*"(\.\.\.\+\d+(\.\.\."([ -!#-\[\]-~]|\\[ -~])*")?)?)*$`)

// One event is one line, whatever the caller put into it.
func TestA46AuditLine(t *testing.T) {
	const evil = "x\"\n<86>jailhelper[1]: permitted caller=0 \x1b[2J\x00\x7f\xff\u202e\u2028\\"
	visible := strings.ReplaceAll(evil, "\x00", "")
	roottest.Apply(t, "a46", alice)
	lines := roottest.Syslog(t)
	line := func(t *testing.T, verb string, caller uint32) string {
		t.Helper()
		l := lines()
		if len(l) != 1 || !auditLine.MatchString(l[0]) || !strings.Contains(l[0], fmt.Sprintf(": %s caller=%d", verb, caller)) || len(l[0]) > 4200 {
			t.Fatalf("audit: %q; want one line, %s", l, verb)
		}
		return l[0]
	}
	touch := []string{"/bin/probe", "touch", "/tmp/a46"}
	t.Cleanup(func() { os.Remove(roottest.Jail + "/tmp/a46") })
	for name, c := range map[string]call{
		"plain":       {},
		"arguments":   {command: append(touch, visible, "\n\n\n", visible)},
		"environment": {command: touch, request: func(q *ipc.Request) { q.Env = []string{visible, "A=" + visible} }},
		"long":        {command: append(touch, strings.Repeat("\x1b", 60_000), strings.Repeat("\n", 60_000))},
		"many":        {command: append(touch, strings.Split(strings.Repeat("\n,", 5000), ",")...)},
	} {
		t.Run("permitted, "+name, func(t *testing.T) {
			c.jail = "a46"
			permitted(t, c)
			line(t, "permitted", roottest.Alice.UID)
			c.who = roottest.Mallory
			refused(t, c, stranger)
			line(t, "denied", roottest.Mallory.UID)
		})
	}
	for name, c := range map[string]call{
		"jail":          {jail: visible},
		"long jail":     {jail: strings.Repeat(visible, 2000)},
		"jail with NUL": {jail: evil},
		"user":          {jail: "a46", request: func(q *ipc.Request) { q.User = visible }},
		"command":       {jail: "a46", command: []string{"./" + visible, visible}},
		"directory":     {jail: "a46", request: func(q *ipc.Request) { q.Dir = visible }},
		"assignment":    {jail: "a46", request: func(q *ipc.Request) { q.Assign = []string{"A" + visible + "=b"} }},
		"malformed":     {jail: "a46", packet: func(b []byte) []byte { return append(b, visible...) }},
		"no request":    {jail: "a46", silent: true, client: func(s *session) { unix.Shutdown(s.socket, unix.SHUT_WR) }},
	} {
		t.Run("denied, "+name, func(t *testing.T) {
			refused(t, c, " ")
			line(t, "denied", roottest.Alice.UID)
		})
	}
	t.Run("explained", func(t *testing.T) {
		e := call{jail: "a46", request: func(q *ipc.Request) { q.Verb, q.Argv = ipc.Explain, append(touch, visible) }}.play(t)
		if e.status != 125 || len(e.replies) != 1 || e.replies[0].Outcome != ipc.Explained {
			t.Errorf("%+v", e)
		}
		line(t, "explained", roottest.Alice.UID)
	})
	// A line that cannot be handed over stops the run where the policy says so, and
	// never holds it up: nobody listens in a world, and here nobody reads.
	t.Run("not to be had", func(t *testing.T) {
		roottest.Apply(t, "a46strict", alice+" audit_required: true")
		required := "cannot write the audit line that the policy requires"
		permitted(t, call{jail: "a46strict"})
		w := world(t)
		refused(t, call{jail: "a46strict", chroot: w}, required)
		permitted(t, call{jail: "a46", chroot: w})
		lines()
		fill, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fill)
		for err = nil; err == nil; {
			err = unix.Sendto(fill, []byte("x"), 0, &unix.SockaddrUnix{Name: "/dev/log"})
		}
		soon(t, refused(t, call{jail: "a46strict"}, required))
		permitted(t, call{jail: "a46"})
		lines()
		permitted(t, call{jail: "a46strict"})
	})
}

// The command is looked up in the jail, with the target's rights.
func TestA47CommandNotFound(t *testing.T) {
	roottest.Apply(t, "a47", strings.Replace(alice, "rules", `environment { set { name: "PATH" value: "/bin:/a47/closed:/a47" } } rules`, 1))
	dir := roottest.Jail + "/a47"
	must(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Mkdir(dir+"/closed", 0o700))
	for name, mode := range map[string]uint32{"plain": 0o644, "roots": 0o700, "closed/probe": 0o755, "usable": 0o755} {
		copyFile(t, roottest.Jail+"/bin/probe", dir+"/"+name, mode)
	}
	must(t, os.WriteFile(dir+"/script", []byte("#!/usr/bin/unshare\n"), 0o755))
	must(t, os.WriteFile(dir+"/empty", nil, 0o755))
	must(t, os.Symlink("/usr/bin/unshare", dir+"/outside"))
	must(t, os.Symlink("../../../../../../usr/bin/unshare", dir+"/above"))
	if _, err := os.Stat("/usr/bin/unshare"); err != nil {
		t.Fatal(err) // it is there on the host, and not in the jail
	}
	for command, want := range map[string]struct {
		status int
		errno  unix.Errno
	}{
		"/bin/none":         {127, unix.ENOENT},
		"none":              {126, unix.EACCES}, // one directory of the path cannot be searched, see execvp(3)
		"/usr/bin/unshare":  {127, unix.ENOENT},
		"/a47/outside":      {127, unix.ENOENT},
		"/a47/above":        {127, unix.ENOENT},
		"/a47/script":       {127, unix.ENOENT},
		"/bin/probe/x":      {127, unix.ENOTDIR},
		"/tmp":              {126, unix.EACCES},
		"/a47/plain":        {126, unix.EACCES},
		"plain":             {126, unix.EACCES},
		"/a47/roots":        {126, unix.EACCES},
		"/a47/closed/probe": {126, unix.EACCES},
		"/a47/empty":        {126, unix.ENOEXEC},
	} {
		t.Run(command, func(t *testing.T) {
			e := call{jail: "a47", command: []string{command}}.play(t)
			if e.status != 125 || e.out != "" || len(e.replies) != 2 || e.replies[0].Outcome != ipc.Starting ||
				e.replies[1].Outcome != ipc.ExecFailed || e.replies[1].Errno != want.errno {
				t.Errorf("%+v; want status 125 and %v", e, want.errno)
			}
			text := fmt.Sprintf("jailctl: cannot run %q in the jail: ", command)
			r := roottest.Jailrun(t, roottest.Alice, "a47", command)
			if r.Status != want.status || r.Out != "" || !strings.HasPrefix(r.Err, text) || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("jailctl run: %+v; want status %d and %q", r, want.status, text)
			}
		})
	}
	for _, command := range []string{"/a47/usable", "usable", "probe"} {
		permitted(t, call{jail: "a47", command: []string{command}})
	}
	for _, command := range []string{"", "../bin/probe", "./probe", "bin/probe", "/bin/../bin/probe", "//bin/probe", "/bin/probe/", "/bin/./probe"} {
		refused(t, call{jail: "a47", command: []string{command}}, "must be a bare name or a clean absolute path inside the jail")
	}
}
