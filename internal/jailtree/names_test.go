package jailtree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostileNames are what a file can be called.
var hostileNames = []string{
	"new\nline", "\n", " leading", "trailing ", "two  blanks", "tab\t", "carriage\rreturn", "\x01\x1b[31mred", "\x7f",
	"; touch hacked", "$(touch hacked)", "`touch hacked`", "|cat", "&", "a>b", "<in", "'single'", `"double"`, `back\slash`, `\`, `\n`,
	"-rf", "--", "-", "...", "..a", ".hidden", "~", "#", "!", "%s%n", "*", "?", "[a-z]", "[", "{a,b}", "a:b", "a=b",
	"\xff", "\xff\xfe\n", "caf\xe9", "\xed\xa0\x80", "\u202egnp.exe", "日本語", "e\u0301", "\u00a0",
	strings.Repeat("x", 255), strings.Repeat("\xff", 255), strings.Repeat("é", 127),
}

// quoted is a string as a contents file has it.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	b.WriteByte('"')
	return b.String()
}

// literal is a path as a pattern that matches nothing else.
func literal(s string) string { return escape.Replace(s) }

// hostile is a bench whose host has all names: in /walked files, and in each of as many
// directories a link; in /named files that the contents file names; in /left files of which
// it leaves every other out; and what it declares itself.
func hostile(t *testing.T) *bench {
	t.Helper()
	b := newBare(t)
	mountTmpfs(t, filepath.Dir(b.root), "")
	var text strings.Builder
	text.WriteString("paths: [\"/walked\", \"/left\"]\n")
	for i, n := range hostileNames {
		b.put(t, "/walked/files/"+n, "walked "+n, 0o644)
		b.link(t, "/walked/"+n+"/"+n, "../files/"+n)
		b.put(t, "/named/"+n, "named "+n, 0o644)
		fmt.Fprintf(&text, "paths: %s\n", quoted(literal("/named/"+n)))
		b.put(t, "/left/"+n, "left", 0o644)
		if i%2 == 1 {
			fmt.Fprintf(&text, "exclude: %s\n", quoted(literal("/left/"+n)))
		}
		fmt.Fprintf(&text, "files { path: %s text: %s }\n", quoted("/files/"+n), quoted(n))
		fmt.Fprintf(&text, "symlinks { path: %s target: %s }\n", quoted("/links/"+n), quoted(n))
		fmt.Fprintf(&text, "directories { path: %s owner: \"1\" state: true }\n", quoted("/state/"+n))
	}
	b.spec = load(t, text.String())
	return b
}

// Names of all sorts, in directories that are copied, in the contents file, and in state,
// are names of files and nothing else, from the plan to the way back.
func TestNames(t *testing.T) {
	b := hostile(t)
	if r := b.build(t); !r.Changed {
		t.Fatal("nothing was built")
	}
	for i, n := range hostileNames {
		for name, want := range map[string]string{
			"/walked/files/" + n: "walked " + n, "/walked/" + n + "/" + n: "walked " + n, "/files/" + n: n,
		} {
			if got, err := os.ReadFile(b.root + name); err != nil || string(got) != want {
				t.Errorf("%q: %q, %v", name, got, err)
			}
		}
		if got, err := os.Readlink(b.root + "/links/" + n); err != nil || got != n {
			t.Errorf("%q: %q, %v", "/links/"+n, got, err)
		}
		if _, err := os.Lstat(b.root + "/named/" + n); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(b.root + "/left/" + n); os.IsNotExist(err) != (i%2 == 1) {
			t.Errorf("%q, left %d: %v", "/left/"+n, i, err)
		}
		do(t, os.WriteFile(b.root+"/state/"+n+"/"+n, []byte("state "+n), 0o600))
	}
	b.clean(t)
	if r := b.build(t); r.Changed {
		t.Errorf("built again: %q", r.Changes)
	}
	// What changed is told by its name.
	changes := map[string]string{}
	for _, n := range hostileNames {
		b.put(t, "/walked/files/"+n, "other "+n, 0o644)
		changes["/walked/files/"+n] = "~"
	}
	s := b.open(t)
	outdated, err := s.Outdated(context.Background(), b.building())
	do(t, err)
	s.Close()
	b.told(t, outdated, changes)
	b.told(t, b.build(t).Changes, changes)
	for _, n := range hostileNames {
		if got, err := os.ReadFile(b.root + "/state/" + n + "/" + n); err != nil || string(got) != "state "+n {
			t.Errorf("state %q: %q, %v", n, got, err)
		}
	}
	s = b.open(t)
	defer s.Close()
	_, err = s.Rollback()
	do(t, err)
	for _, n := range hostileNames {
		if got := read(t, b.root+"/walked/files/"+n) + read(t, b.root+"/state/"+n+"/"+n); got != "walked "+n+"state "+n {
			t.Errorf("after rollback %q", got)
		}
	}
	do(t, s.Remove())
	left, err := os.ReadDir(filepath.Dir(b.root))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// told holds changes to what they should be, also by way of their JSON.
func (b *bench) told(t *testing.T, all []Change, want map[string]string) {
	t.Helper()
	text, err := json.Marshal(all)
	do(t, err)
	var again []struct{ Op, Path string }
	do(t, json.Unmarshal(text, &again))
	if len(again) != len(want) || len(all) != len(want) {
		t.Errorf("%d changes, want %d", len(again), len(want))
	}
	for i, c := range again {
		if name := unquoted(t, c.Path); name != all[i].Path || want[name] != c.Op {
			t.Errorf("%q is in JSON %q %q", all[i].Path, c.Op, c.Path)
		}
	}
}

// unquoted is the path that JSON has as text.
func unquoted(t *testing.T, text string) string {
	t.Helper()
	if !strings.HasPrefix(text, `"`) {
		return text
	}
	name, err := strconv.Unquote(text)
	do(t, err)
	if utf8.ValidString(name) {
		t.Errorf("%s is quoted without need", text)
	}
	return name
}

// Findings have the names as well, in JSON without a loss.
func TestNamesVerify(t *testing.T) {
	b := hostile(t)
	b.build(t)
	want := []string{}
	for _, n := range hostileNames {
		do(t, os.WriteFile(b.root+"/walked/files/"+n, []byte("walkeD "+n), 0o644))
		do(t, os.WriteFile(b.root+"/walked/"+n+"/extra"+n[:len(n)/2], nil, 0o644))
		want = append(want, "changed /walked/files/"+n, "extra /walked/"+n+"/extra"+n[:len(n)/2])
	}
	slices.Sort(want)
	found := b.verify(t)
	if got := findings(found); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	text, err := json.Marshal(found)
	do(t, err)
	var again []struct{ Kind, Path, Origin string }
	do(t, json.Unmarshal(text, &again))
	for i, f := range again {
		if name, origin := unquoted(t, f.Path), unquoted(t, f.Origin); name != found[i].Path || origin != found[i].Origin {
			t.Errorf("%q of %q is in JSON %s of %s", found[i].Path, found[i].Origin, f.Path, f.Origin)
		}
	}
}

// Each problem is a line, and tells which name it is about.
func TestNamesProblems(t *testing.T) {
	b := newBare(t)
	var text strings.Builder
	for _, n := range hostileNames {
		fmt.Fprintf(&text, "paths: %s\n", quoted(literal("/gone/"+n)))
		fmt.Fprintf(&text, "paths: %s\n", quoted(literal("/broken/"+n)))
		b.link(t, "/broken/"+n, "gone "+n[:len(n)/2])
	}
	_, err := Make(t.Context(), load(t, text.String()), b.machine())
	problems := Problems{}
	if !errors.As(err, &problems) || len(problems) != 2*len(hostileNames) {
		t.Fatalf("%d problems: %v", len(problems), err)
	}
	for i, p := range problems {
		n := hostileNames[i/2]
		line := p.Error()
		name := strconv.Quote("/gone/" + n)
		if strings.ContainsAny(n, meta) {
			name = strconv.Quote(literal("/gone/" + n))
		}
		if i%2 == 1 {
			name = strconv.Quote("/broken/" + n)
		}
		if p.At.Line != i+1 || !strings.Contains(line, name) || strings.ContainsAny(line, "\n\x1b\x7f") || !utf8.ValidString(line) {
			t.Errorf("%d: %q", i, line)
		}
	}
}

// TestNamesRun is run by itself, by TestNamesExecuteNothing.
func TestNamesRun(t *testing.T) {
	if os.Getenv("JAILTREE_TRACED") == "" {
		return
	}
	b := hostile(t)
	b.build(t)
	b.verify(t)
	s := b.open(t)
	defer s.Close()
	_, err := s.Preview(context.Background(), b.building())
	do(t, err)
	b.put(t, "/walked/files/-rf", "other", 0o644)
	_, err = s.Build(context.Background(), b.building())
	do(t, err)
	_, err = s.Rollback()
	do(t, err, s.Remove())
}

// From plan to removal nothing is executed but getent(1), for the owner that the contents
// file names: no name can be a command, or an option of one.
func TestNamesExecuteNothing(t *testing.T) {
	log := t.TempDir() + "/log"
	cmd := exec.Command("strace", "-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", log, "/proc/self/exe", "-test.run=^TestNamesRun$")
	self, err := os.Executable()
	do(t, err)
	cmd.Args[len(cmd.Args)-2] = self
	cmd.Env = append(os.Environ(), "JAILTREE_TRACED=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v: %s", err, out)
	}
	calls := strings.Split(strings.TrimSpace(read(t, log)), "\n")
	for _, call := range calls[1:] {
		if !strings.Contains(call, `execve("/usr/bin/getent", ["/usr/bin/getent", "passwd", "--", "1"], `) {
			t.Errorf("started: %s", call)
		}
	}
	// What could start one: the name service asks getent(1), and the packages rpm(8), with
	// words of their own and no shell.
	out, err := exec.Command("go", "list", "-deps", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{if eq . "os/exec"}}{{$p}}{{"\n"}}{{end}}{{end}}`, ".").Output()
	do(t, err)
	got := strings.Fields(string(out))
	slices.Sort(got)
	if want := []string{"jailctl/internal/packages", "jailctl/policy/source"}; !slices.Equal(got, want) {
		t.Errorf("os/exec is imported by %q", got)
	}
}
