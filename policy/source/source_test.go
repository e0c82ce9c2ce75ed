package source

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/policy"
	"jailctl/proto/jailpb"
)

// fakeNames is a small host.
type fakeNames struct{}

var (
	fakeUsers = []User{
		{UID: 0, GID: 0, Name: "root", Home: "/root", Shell: "/bin/sh"},
		{UID: 1, GID: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"},
		{UID: 1000, GID: 1000, Name: "alice", Home: "/home/alice", Shell: "/bin/bash"},
		{UID: 1001, GID: 1001, Name: "mallory", Home: "/home/mallory", Shell: "/bin/sh"},
		{UID: 0, GID: 1, Name: "toor", Home: "/root", Shell: "/bin/sh"},
		{UID: 6, GID: 0, Name: "wheely", Home: "/", Shell: "/bin/sh"},
		{UID: 4294967295, GID: 1, Name: "minus", Home: "/", Shell: "/bin/sh"},
	}
	fakeGroups = map[string]uint32{"root": 0, "daemon": 1, "alice": 1000, "webdev": 2000, "webadm": 2001}
)

func (fakeNames) User(name string) (User, error) {
	n, isNumber := number(name)
	for _, u := range fakeUsers {
		if u.Name == name || isNumber && u.UID == n {
			return u, nil
		}
	}
	switch {
	case isNumber:
		return User{UID: n}, nil
	case name == "hanging":
		return User{}, fmt.Errorf("no answer within 20s")
	}
	return User{}, ErrUnknown
}

func (fakeNames) Group(name string) (uint32, string, error) {
	n, isNumber := number(name)
	for group, gid := range fakeGroups {
		if group == name || isNumber && gid == n {
			return gid, group, nil
		}
	}
	if isNumber {
		return n, "", nil
	}
	return 0, "", ErrUnknown
}

func example(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/web.txtpb")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// compiledExample is what the example must become, to the letter.
func compiledExample(text []byte) *jailpb.Compiled {
	alice := &jailpb.CompiledUser{Uid: 1000, Name: "alice", Home: "/home/alice", Shell: "/bin/bash"}
	mallory := &jailpb.CompiledUser{Uid: 1001, Name: "mallory", Home: "/home/mallory", Shell: "/bin/sh"}
	daemon := &jailpb.CompiledUser{Uid: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"}
	return &jailpb.Compiled{
		Version:     2,
		Name:        "web",
		Source:      text,
		Description: "the static site's tools",
		Root:        "/srv/jails/web",
		Rules: []*jailpb.CompiledRule{
			{Line: 7, Deny: true, Users: []*jailpb.CompiledUser{mallory}},
			{
				Line: 8, Users: []*jailpb.CompiledUser{alice}, Groups: []uint32{2000},
				Commands: []*jailpb.CompiledCommand{
					{Path: "/usr/bin/program"},
					{Path: "/usr/bin/tidy", Args: [][]byte{[]byte("-q")}, HasArgs: true, AnyRest: true},
				},
				User: daemon, Gid: 1, GroupName: "daemon",
			},
			{Line: 14, Groups: []uint32{2001}, Caller: true, NotAfter: 1801440000},
		},
		DefaultCommand:   "/bin/sh",
		Keep:             []string{"TERM", "LANG"},
		Set:              [][]byte{[]byte("PATH=/usr/bin:/bin")},
		Path:             "/usr/bin:/bin",
		WorkingDirectory: "/",
		Limits: []*jailpb.CompiledLimit{
			{Resource: unix.RLIMIT_NOFILE, Value: 256},
			{Resource: unix.RLIMIT_NPROC, Value: 64},
			{Resource: unix.RLIMIT_AS, Value: 4294967296},
			{Resource: unix.RLIMIT_FSIZE, Value: 1073741824},
			{Resource: unix.RLIMIT_CPU, Value: 600},
			{Resource: unix.RLIMIT_CORE, Value: 1},
		},
		Umask:       0o022,
		WallSeconds: 3600,
		Confines:    []*jailpb.CompiledConfine{plainConfine()},
		End:         0x6c69616a,
	}
}

// plainConfine is that of a policy without confine.
func plainConfine() *jailpb.CompiledConfine {
	program, err := seccomp.Compile(seccomp.Options{})
	if err != nil {
		panic(err)
	}
	return &jailpb.CompiledConfine{Program: program, Abstract: uint32(confine.IfAble), Tcp: uint32(confine.IfAble)}
}

func TestExample(t *testing.T) {
	text := example(t)
	got, problems := Check("/etc/jailctl/jails/web.txtpb", text, fakeNames{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(compiledExample(text), got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// compileText compiles the text of a policy of the jail web that must be right.
func compileText(t testing.TB, text string) *jailpb.Compiled {
	t.Helper()
	c, problems := Check("web.txtpb", []byte(text), fakeNames{})
	for _, p := range problems {
		t.Error(p)
	}
	if c == nil {
		t.FailNow()
	}
	return c
}

const minimal = "root: \"/srv/jails/web\"\nrules { users: \"alice\" run_as { user: \"daemon\" } }\n"

func TestDefaults(t *testing.T) {
	got := compileText(t, minimal)
	want := &jailpb.Compiled{
		Version: 2, Name: "web", Source: []byte(minimal), Root: "/srv/jails/web",
		Rules: []*jailpb.CompiledRule{{
			Line:  2,
			Users: []*jailpb.CompiledUser{{Uid: 1000, Name: "alice", Home: "/home/alice", Shell: "/bin/bash"}},
			User:  &jailpb.CompiledUser{Uid: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"},
			Gid:   1, GroupName: "daemon",
		}},
		Path: "/usr/local/bin:/usr/bin:/bin", WorkingDirectory: "/", Umask: 0o022,
		Limits:   []*jailpb.CompiledLimit{{Resource: unix.RLIMIT_CORE, Value: 1}},
		Confines: []*jailpb.CompiledConfine{plainConfine()},
		End:      0x6c69616a,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestCompile(t *testing.T) {
	const head = "root: \"/r\"\n"
	for _, test := range []struct {
		name, text string
		check      func(c *jailpb.Compiled) any
		want       any
	}{
		{
			"everyone", `rules { users: ["alice", "*"] groups: "*" run_as { user: "1" } }`,
			func(c *jailpb.Compiled) any { r := c.Rules[0]; return fmt.Sprint(r.Everyone, len(r.Users), r.Groups) }, "true 1 []",
		},
		{
			"numbers without an account", `rules { users: "4711" groups: "4712" run_as { user: "4713" group: "4714" groups: ["webdev", "2000", "4715"] } }`,
			func(c *jailpb.Compiled) any {
				r := c.Rules[0]
				return fmt.Sprintf("%v %v %v %q %v %q %v", r.Users[0].Uid, r.Groups, r.User.Uid, r.User.Name, r.Gid, r.GroupName, r.TargetGroups)
			},
			`4711 [4712] 4713 "" 4714 "" [2000 4715]`,
		},
		{
			"rules in a list, in angle brackets", "rules: [\n{ users: \"*\" deny: true },\n< users: '*' deny: true; >\n]",
			func(c *jailpb.Compiled) any { return fmt.Sprint(c.Rules[0].Line, c.Rules[1].Line) }, "3 4",
		},
		{
			"no arguments", `rules { users: "*" commands { path: "/a" no_args: true } deny: true }`,
			func(c *jailpb.Compiled) any { return fmt.Sprint(c.Rules[0].Commands[0]) }, `path:"/a"  has_args:true`,
		},
		{
			"any rest alone", `rules { users: "*" commands { path: "/a" args: "*" } deny: true }`,
			func(c *jailpb.Compiled) any { return fmt.Sprint(c.Rules[0].Commands[0]) }, `path:"/a"  has_args:true  any_rest:true`,
		},
		{
			"a star in a longer word, an empty word", `rules { users: "*" commands { path: "/a" args: ["*.c", ""] } deny: true }`,
			func(c *jailpb.Compiled) any { return fmt.Sprintf("%q", c.Rules[0].Commands[0].Args) }, `["*.c" ""]`,
		},
		{
			"an instant", `rules { users: "*" deny: true not_after: "2027-01-31T18:00:00+02:00" }`,
			func(c *jailpb.Compiled) any { return c.Rules[0].NotAfter }, uint64(1801411200),
		},
		{
			"carriage returns", "umask: 0x1f\r\nrules { users: \"*\" deny: true }\r\n",
			func(c *jailpb.Compiled) any { return c.Umask }, uint32(0x1f),
		},
		{
			"core and audit", "limits { core: 5 } audit_required: true rules { users: \"*\" deny: true }",
			func(c *jailpb.Compiled) any { return fmt.Sprint(c.Limits[0].Value, c.AuditRequired) }, "5 true",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := compileText(t, head+test.text)
			if got := test.check(c); strings.Join(strings.Fields(fmt.Sprint(got)), " ") != strings.Join(strings.Fields(fmt.Sprint(test.want)), " ") {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestEncode holds the encoding to what compiled.proto promises the helper.
func TestEncode(t *testing.T) {
	c := compileText(t, string(example(t)))
	b := Encode(c)
	for rest, last := b, protowire.Number(0); len(rest) > 0; {
		n, _, size := protowire.ConsumeField(rest)
		if size < 0 || n < last {
			t.Fatalf("field %d stands after field %d", n, last)
		}
		rest, last = rest[size:], n
	}
	if end := binary.LittleEndian.Uint32(b[len(b)-4:]); end != 0x6c69616a {
		t.Errorf("the last field is %#x", end)
	}
	for _, m := range []proto.Message{c, c.Rules[1]} {
		fds := m.ProtoReflect().Descriptor().Fields()
		for i := range fds.Len() {
			if fds.Get(i).IsPacked() {
				t.Errorf("%s is packed", fds.Get(i).FullName())
			}
		}
	}
	back := &jailpb.Compiled{}
	if err := proto.Unmarshal(b, back); err != nil || !proto.Equal(c, back) {
		t.Errorf("it does not decode to what it was: %v", err)
	}
	if !slices.Equal(b, Encode(compileText(t, string(example(t))))) {
		t.Error("the same policy has two encodings")
	}
}

// TestHelperReads has the helper's own decoder read what Encode wrote.
func TestHelperReads(t *testing.T) {
	c := compileText(t, string(example(t)))
	j, err := policy.Decode(Encode(c))
	if err != nil {
		t.Fatal(err)
	}
	alice := policy.User{UID: 1000, Name: "alice", Home: "/home/alice", Shell: "/bin/bash"}
	daemon := policy.User{UID: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/usr/sbin/nologin"}
	want := policy.Rule{
		Line: 8, Users: []policy.User{alice}, Groups: []uint32{2000}, Target: daemon, GID: 1, GroupName: "daemon",
		Commands: []policy.Command{{Path: "/usr/bin/program"}, {Path: "/usr/bin/tidy", Args: []string{"-q"}, HasArgs: true, AnyRest: true}},
	}
	if diff := cmp.Diff(want, j.Rules[1]); diff != "" {
		t.Error(diff)
	}
	if len(j.Rules) != 3 || j.Rules[2].NotAfter != 1801440000 || !j.Rules[2].Caller || !j.Rules[0].Deny ||
		string(j.Source) != string(c.Source) || len(j.Limits) != 6 || j.Umask != 0o022 || j.Path != "/usr/bin:/bin" {
		t.Errorf("%+v", j)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(example(f))
	f.Add([]byte(minimal))
	for _, test := range mistakes {
		if len(test.text) < 1000 {
			f.Add([]byte(test.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, problems := Check("web.txtpb", text, fakeNames{})
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("compiled %v, problems %v", c != nil, problems)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Col < 1 || p.What == "" || p.Fix == "" || strings.Contains(p.What, "internal error") {
				t.Errorf("%q: %v", text, p)
			}
			if strings.ContainsAny(p.Error(), "\n\u00a0") {
				t.Errorf("not one line: %q", p.Error())
			}
		}
		if c == nil {
			return
		}
		for _, r := range c.Rules {
			if !r.Deny && !r.Caller && (r.User.GetUid() == 0 || r.Gid == 0) || slices.Contains(r.TargetGroups, 0) {
				t.Errorf("%q: a rule lets root in: %v", text, r)
			}
		}
		if _, err := policy.Decode(Encode(c)); err != nil {
			t.Errorf("%q: the helper cannot read the compiled form: %v", text, err)
		}
		Changes(nil, c, today)
		Changes(compileText(t, minimal), c, today)
		for _, w := range Warnings("web.txtpb", c, today) {
			if !strings.HasPrefix(w.What, "warning: ") {
				t.Errorf("%q: %v", text, w)
			}
		}
	})
}

func FuzzFormat(f *testing.F) {
	f.Add(example(f))
	f.Add([]byte(minimal))
	f.Add([]byte("# txtpbfmt: sort_fields_by_field_name\nroot: '/r'\ndescription: \"d\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := Format(text)
		if err != nil {
			return
		}
		again, err := Format(out)
		if err != nil || string(again) != string(out) {
			t.Errorf("%q becomes %q becomes %q: %v", text, out, again, err)
		}
	})
}
