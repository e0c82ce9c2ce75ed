package programs_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"jailctl/internal/roottest"
)

// programs says what the commands of the manual's table do: what they write, and
// what a look at /desk finds afterwards. Which promises they need stands in the
// manual alone.
var programs = map[string]struct{ out, look, seen string }{
	"grep b file":                     {out: "b\n"},
	"sort file":                       {out: "a\nb\n"},
	"sort -S 1M big":                  {out: sorted},
	"sed s/a/b/ file":                 {out: "b\nb\n"},
	"sed -i s/a/b/ file":              {look: "cat file", seen: "b\nb\n"},
	"find dir":                        {out: "dir\ndir/f\n"},
	"find dir -type f -exec cat {} +": {out: "in dir\n"},
	"gzip file":                       {look: "test -e file || zcat file.gz", seen: "b\na\n"},
	"tar -cf new.tar dir":             {look: "tar -tf new.tar", seen: "dir/\ndir/f\n"},
	"tar -czf new.tgz dir":            {look: "tar -tzf new.tgz", seen: "dir/\ndir/f\n"},
	"tar -xf old.tar":                 {look: "cat old/f; stat -c %Y old/f", seen: "in old\n86400\n"},
	"cp file copy":                    {look: "cat copy", seen: "b\na\n"},
	"mv file moved":                   {look: "cat moved", seen: "b\na\n"},
	"touch file":                      {look: "test file -nt dir/f && echo newer", seen: "newer\n"},
	"flock file true":                 {},
	"sh -c pwd":                       {out: "/desk\n"},
	"sh script":                       {out: "a\nb\nstarted\n"},
	"python3 program.py":              {out: "[1, 2]\n"},
	"python3 writes.py":               {look: "cat new", seen: "written\n"},
	"python3 starts.py":               {out: "started\n"},
	"perl program.pl":                 {out: "perl 3\n"},
	"node program.js":                 {out: "node 3\n"},
	"git status --short":              {out: " M tracked\n"},
	"git commit -qam two":             {look: "git -c safe.directory=* log --format=%s", seen: "two\none\n"},
	"make":                            {out: "made\n"},
	"sqlite3 data.db .dump":           {out: "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(a);\nINSERT INTO t VALUES('x');\nCOMMIT;\n"},
	"sqlite3 data.db vacuum":          {look: "sqlite3 data.db 'pragma freelist_count'", seen: "0\n"},
	"curl -sS URL":                    {out: "hello /\n"},
	"sftp-server -R":                  {out: "123"},
	"sftp-server":                     {out: "1234567", look: "ls renamed; stat -c %a renamed; test -e file || echo removed", seen: "renamed\n600\nremoved\n"},
	"busybox cat file":                {out: "b\na\n"},
}

// prepare makes what the commands work on.
const prepare = `
mkdir dir; echo 'in dir' >dir/f; touch -d @86400 dir/f file; printf 'b\na\n' >file; seq 200000 -1 100001 >big
mkdir old; echo 'in old' >old/f; touch -d @86400 file old/f; tar -cf old.tar old; rm -r old
printf 'sort file\necho $(echo started)\n' >script
printf 'import json\nprint(json.loads("[1, 2]"))\n' >program.py
printf 'with open("new", "w") as f: print("written", file=f)\n' >writes.py
printf 'import subprocess\nsubprocess.run(["echo", "started"], check=True)\n' >starts.py
printf 'use POSIX; print "perl ", floor(3.5), "\\n";\n' >program.pl
printf 'console.log("node", Math.floor(3.5))\n' >program.js
printf 'all:\n\t@echo made | cat\n' >Makefile
sqlite3 data.db "create table t(a); insert into t values('x'); create table u(a); drop table u"
echo '*' >.git-ignored
git init -q .; git config user.email a@example.org; git config user.name A; git config core.excludesFile .git-ignored; echo one >tracked; git add -f tracked; git commit -qm one; echo two >tracked`

var sorted = func() string {
	var b strings.Builder
	for i := 100001; i <= 200000; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}()

// The manual's table says what common programs need: they work with these
// promises, and with any one less they fail.
func TestLeastPromises(t *testing.T) {
	manual, err := os.ReadFile("../../docs/jailctl-policy.5")
	must(t, err)
	_, table, found := strings.Cut(string(manual), "\n.Ss What common programs need\n")
	table, _, closed := strings.Cut(table, "\n.El\n")
	if !found || !closed {
		t.Fatal("jailctl-policy.5 has no such table")
	}
	rows := regexp.MustCompile(`(?m)^\.It Li (.*) Ta (.*)$`).FindAllStringSubmatch(table, -1)
	if len(rows) != len(programs) || len(rows) != strings.Count(table, "\n.It Li") {
		t.Errorf("jailctl-policy.5 has %d commands; tested are %d", strings.Count(table, "\n.It Li"), len(programs))
	}
	root := world(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	defer server.Close()
	roottest.Apply(t, "prepare", policy(root, ""))
	same(t, jailrun(t, "prepare", "", "sh", "-ec", prepare), 0, "", "")
	sh(t, root, "cp -a desk template")
	for _, row := range rows {
		command, promises := strings.ReplaceAll(row[1], `\-`, "-"), strings.Fields(row[2])
		want, ok := programs[command]
		if !ok {
			t.Errorf("%q is in jailctl-policy.5 and not tested", command)
			continue
		}
		argv := strings.Fields(strings.Replace(command, "URL", server.URL, 1))
		try := func(promises []string) (roottest.Result, bool) {
			sh(t, root, "rm -rf desk/* desk/.[a-z]* tmp/* && cp -a template/. desk")
			roottest.Apply(t, "least", promising(root, promises, ""))
			var r roottest.Result
			if argv[0] == "sftp-server" {
				r = conversation(t, "least", argv[1:]...)
			} else {
				r = jailrun(t, "least", "", argv...)
			}
			good := r.Status == 0 && r.Out == want.out && r.Err == ""
			if good && want.look != "" {
				out, err := exec.Command("sh", "-c", "cd "+root+"/desk && "+want.look).CombinedOutput()
				good = err == nil && string(out) == want.seen
				r.Out += string(out)
			}
			return r, good
		}
		if r, ok := try(promises); !ok {
			t.Errorf("%s: fails with %s: status %d, %.300s%.300s", command, promises, r.Status, r.Out, r.Err)
			continue
		}
		for _, w := range without(promises, "stdio") { // that: TestStdioMustBePromised
			if _, ok := try(without(promises, w)); ok {
				t.Errorf("%s: does not need %s", command, w)
			}
		}
	}
}

// sh runs a script as root, in the jail's root seen from outside.
func sh(t *testing.T, root, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// conversation is one with sftp-server: it reads a file, and, unless that is all
// it may, writes one, sets its mode, renames it and removes another. The result
// has a digit for each step that was answered as it should.
func conversation(t *testing.T, jail string, args ...string) (r roottest.Result) {
	t.Helper()
	text := func(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }
	const id, none = "\x00\x00\x00\x07", "\x00\x00\x00\x00"
	const ok = "\x65" + id + none // STATUS
	steps := []struct{ packet, answer string }{
		{"\x01\x00\x00\x00\x03", "\x02\x00\x00\x00\x03"},                                   // INIT: VERSION
		{"\x03" + id + text("file") + "\x00\x00\x00\x01" + none, "\x66" + id + text(none)}, // OPEN, read: HANDLE
		{"\x05" + id + text(none) + none + none + "\x00\x00\x10\x00", "\x67" + id + text("b\na\n")},
		{"\x04" + id + text(none), ok},
		{"\x03" + id + text("new") + "\x00\x00\x00\x1a" + none, "\x66" + id + text(none)}, // OPEN, write, create, truncate
		{"\x09" + id + text("new") + "\x00\x00\x00\x04\x00\x00\x01\x80", ok},              // SETSTAT, mode 0600
		{"\x12" + id + text("new") + text("renamed"), ok},
		{"\x0d" + id + text("file"), ok}, // RENAME, REMOVE
	}
	if len(args) > 0 {
		steps = steps[:4]
	}
	cmd := roottest.As(roottest.Alice, exec.Command(roottest.Jailctl, append([]string{"run", jail, "--", "/usr/lib/openssh/sftp-server"}, args...)...))
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for i, step := range steps {
		io.WriteString(in, text(step.packet))
		size := make([]byte, 4)
		if _, err := io.ReadFull(out, size); err != nil {
			break
		}
		answer := make([]byte, min(binary.BigEndian.Uint32(size), 1<<16))
		if _, err := io.ReadFull(out, answer); err != nil {
			break
		}
		if strings.HasPrefix(string(answer), step.answer) && i > 0 {
			r.Out += fmt.Sprint(i)
		}
	}
	in.Close()
	if cmd.Wait() != nil {
		r.Status = cmd.ProcessState.ExitCode()
	}
	return r
}
