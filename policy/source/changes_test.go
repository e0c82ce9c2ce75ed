package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jailctl/proto/jailpb"
)

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestChanges(t *testing.T) {
	const root = "root: \"/srv/web\"\n"
	const base = root + `
rules { users: "alice" groups: "webdev" commands { path: "/bin/ls" } run_as { user: "daemon" } }
`
	for _, test := range []struct {
		name, old, new string
		want           []string
	}{
		{"nothing", base, base, nil},
		{"a comment and a blank", base, "# a comment\n" + base, nil},
		{"a new jail", "", base, []string{
			`the jail is new, its root is "/srv/web"`,
			"group webdev may now run /bin/ls * as daemon:daemon",
			"user alice may now run /bin/ls * as daemon:daemon",
		}},
		{"a jail that goes", base, "", []string{
			"the jail is gone, nobody may run anything in it",
			"group webdev may no longer run /bin/ls * as daemon:daemon",
			"user alice may no longer run /bin/ls * as daemon:daemon",
		}},
		{
			"commands", base,
			root + `rules { users: "alice" groups: "webdev" commands { path: "/bin/cat" args: "-n" args: "a b" } commands { path: "/bin/true" no_args: true } run_as { user: "daemon" } }`,
			[]string{
				"group webdev may no longer run /bin/ls * as daemon:daemon",
				`group webdev may now run /bin/cat -n "a b", /bin/true as daemon:daemon`,
				"user alice may no longer run /bin/ls * as daemon:daemon",
				`user alice may now run /bin/cat -n "a b", /bin/true as daemon:daemon`,
			},
		},
		{
			"target", base, strings.Replace(base, `user: "daemon"`, `user: "daemon" group: "webdev" groups: "webadm"`, 1),
			[]string{
				"group webdev may no longer run /bin/ls * as daemon:daemon",
				"group webdev may now run /bin/ls * as daemon:webdev with groups webadm (2001)",
				"user alice may no longer run /bin/ls * as daemon:daemon",
				"user alice may now run /bin/ls * as daemon:webdev with groups webadm (2001)",
			},
		},
		{
			"confinement", base, base + `confine { network: true network_ports { connect: 443 } promises: "stdio  inet" unveil { path: "/a" access: "r" } unveil { path: "/b" access: "rw" optional: true } violation: KILL degrade: true }`,
			[]string{
				"the network is now TCP, connecting to ports [443] and binding [], was closed",
				"what is promised is now stdio inet, was everything but what leads out",
				"what happens to the rest is now KILL, was EPERM",
				`what is unveiled is now "/a" for r, "/b" for rw if it is there, was the whole jail`,
				"on a kernel that cannot keep it is now run all the same, was refuse",
			},
		},
		{"the same confinement in other words", base + `confine { network: false }`, base, nil},
		{
			"confinement of a rule", base, root + `rules { users: "alice" groups: "webdev" commands { path: "/bin/ls" } run_as { user: "daemon" } confine { local_sockets: true } }`,
			[]string{
				"group webdev may still run /bin/ls * as daemon:daemon, now with its own confinement: the network: closed; local sockets: open; what is promised: everything but what leads out; what happens to the rest: EPERM; what is unveiled: the whole jail; on a kernel that cannot keep it: refuse",
				"user alice may still run /bin/ls * as daemon:daemon, now with its own confinement: the network: closed; local sockets: open; what is promised: everything but what leads out; what happens to the rest: EPERM; what is unveiled: the whole jail; on a kernel that cannot keep it: refuse",
			},
		},
		{
			"everyone, told once", base, root + `rules { users: "*" users: "alice" groups: "webdev" run_as { caller: true } }`,
			[]string{
				"everyone may now run any command as the caller",
				"group webdev may no longer run /bin/ls * as daemon:daemon",
				"user alice may no longer run /bin/ls * as daemon:daemon",
			},
		},
		{
			"a denial before", base, strings.Replace(base, "\nrules", "\nrules { users: \"alice\" deny: true }\nrules", 1),
			[]string{
				"user alice may no longer run /bin/ls * as daemon:daemon",
				"user alice is now denied any command",
			},
		},
		{
			"order",
			root + `rules { users: "mallory" deny: true } rules { users: "*" run_as { user: "daemon" } }`,
			root + `rules { users: "*" run_as { user: "daemon" } } rules { users: "mallory" deny: true }`,
			[]string{"user mallory may now run any command as daemon:daemon", "user mallory is no longer denied any command"},
		},
		{
			"order that only groups feel",
			root + `rules { groups: "webadm" deny: true } rules { groups: "webdev" run_as { user: "daemon" } }`,
			root + `rules { groups: "webdev" run_as { user: "daemon" } } rules { groups: "webadm" deny: true }`,
			[]string{"the rules stand otherwise, or in another order: this can matter to callers whom several of them name"},
		},
		{
			"rules that decide nothing", base,
			base + `
rules { users: "mallory" commands { path: "/bin/ls" } run_as { user: "daemon" } not_after: "2020-01-31" }
rules { users: "mallory" deny: true not_after: "2020-01-31" }
rules { users: "alice" commands { path: "/bin/ls" } deny: true }`,
			nil,
		},
		{
			"an end", base, strings.Replace(base, "run_as", `not_after: "2027-01-31" run_as`, 1),
			[]string{
				"group webdev may now run /bin/ls * as daemon:daemon until 2027-02-01T00:00:00Z, not for ever",
				"user alice may now run /bin/ls * as daemon:daemon until 2027-02-01T00:00:00Z, not for ever",
			},
		},
		{
			"the rest",
			base + `description: "a" default_command: "/bin/sh" environment { keep: "TERM" set { name: "A" value: "1" } set { name: "B" value: "1" } } limits { open_files: 10 wall_seconds: 5 }`,
			strings.Replace(base, "/srv/web", "/srv/web2", 1) + `description: "b" working_directory: "/data" environment { keep: "LANG" set { name: "A" value: "2" } set { name: "PATH" value: "/bin" } } limits { open_files: 11 core: 9 } umask: 077 audit_required: true`,
			[]string{
				`the root is now "/srv/web2", was "/srv/web"`,
				`the description is now "b", was "a"`,
				`the default command is now not set, was "/bin/sh"`,
				`the working directory is now "/data", was "/"`,
				`the PATH of bare names is now "/bin", was "/usr/local/bin:/usr/bin:/bin"`,
				"the caller's variable LANG is now kept",
				"the caller's variable TERM is no longer kept",
				`the variable A is now "2", was "1"`,
				"the variable B is no longer set",
				`the variable PATH is now set to "/bin"`,
				"the limit core is now 9, was 1",
				"the limit open_files is now 11, was 10",
				"the limit wall_seconds is now not set, was 5",
				"the umask is now 077, was 022",
				"a run without an audit line is now refused",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var old, new *jailpb.Compiled
			if test.old != "" {
				old = compileText(t, test.old)
			}
			if test.new != "" {
				new = compileText(t, test.new)
			}
			if diff := cmp.Diff(test.want, Changes(old, new, today)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestChangedNumbers has a name that means somebody else than before.
func TestChangedNumbers(t *testing.T) {
	old := compileText(t, minimal)
	new := compileText(t, minimal)
	new.Rules[0].Users[0].Uid = 1007
	new.Rules[0].User.Home = "/var/daemon"
	want := []string{
		"user alice (1000) may no longer run any command as daemon:daemon",
		"user alice (1007) may now run any command as daemon:daemon",
		`the account of uid 1 is now daemon, home "/var/daemon", shell "/usr/sbin/nologin", was daemon, home "/usr/sbin", shell "/usr/sbin/nologin"`,
	}
	if diff := cmp.Diff(want, Changes(old, new, today)); diff != "" {
		t.Error(diff)
	}
}

// TestLargeTexts keeps the largest texts from taking long: they come from
// whoever may hand a policy in, with as many mistakes as they have bytes.
func TestLargeTexts(t *testing.T) {
	var distinct strings.Builder
	for i := 0; distinct.Len() < MaxText-100; i++ {
		fmt.Fprintf(&distinct, "rules{users:\"4%d\" run_as{user:\"5%d\" group:\"1\"}}\n", i, i)
	}
	for _, part := range []string{
		"a:1", "a:1\n", "umask:0;", "rules{", "rules{}", `rules{users:"bob"}`, "#\n", `""`, `environment{set{name:"A"}}`,
		"rules{users:[" + strings.Repeat(`"alice",`, 30000) + `"*"] deny: true}`,
		`rules{users:"alice" groups:"*" commands{path:"/bin/ls" args:"x"} run_as{user:"daemon"}}`,
		distinct.String(), "", "description: ", `description: "\`,
	} {
		text := "root:\"/r\"\n" + strings.Repeat(part, (MaxText-20)/max(1, len(part)))
		began := time.Now()
		c, _ := Check("web.txtpb", []byte(text), fakeNames{})
		Changes(nil, c, today)
		if c != nil {
			Warnings("web.txtpb", c, today)
		}
		Format([]byte(text))
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%.30q ... took %v", part, took)
		}
	}
}

func TestSystem(t *testing.T) {
	root, err := System().User("root")
	if err != nil || root.UID != 0 || root.GID != 0 || root.Name != "root" || root.Home == "" {
		t.Errorf("root is %+v: %v", root, err)
	}
	byNumber, err := System().User("0")
	if err != nil || byNumber != root {
		t.Errorf("0 is %+v: %v", byNumber, err)
	}
	if gid, name, err := System().Group("0"); err != nil || gid != 0 || name != "root" {
		t.Errorf("group 0 is %d %q: %v", gid, name, err)
	}
	if u, err := System().User("3999999999"); err != nil || u != (User{UID: 3999999999}) {
		t.Errorf("a number without account is %+v: %v", u, err)
	}
	if !slices.Contains(Listed("passwd"), "root") || !slices.Contains(Listed("group"), "root") {
		t.Errorf("listed are %q, %q", Listed("passwd"), Listed("group"))
	}
	for _, name := range []string{"nobody-has-this-name", "-s", "--help", "a:b", "a\nb", ""} {
		if u, err := System().User(name); err == nil {
			t.Errorf("%q is %+v", name, u)
		}
		if _, _, err := System().Group(name); err == nil {
			t.Errorf("%q is a group", name)
		}
	}
	// What a host without getent does gives the same.
	for _, name := range []string{"root", "0", "daemon"} {
		byFile, err := inFile("/etc/passwd", name)
		asked, err2 := ask("passwd", name)
		if err != nil || err2 != nil || byFile != asked {
			t.Errorf("%s is %q or %q: %v, %v", name, byFile, asked, err, err2)
		}
	}
}

func TestFormat(t *testing.T) {
	out, err := Format([]byte("# first\nroot:'/srv/web'  # beside\n\n\n# txtpbfmt: sort_fields_by_field_name\nrules{users:\"a\"deny:true}\numask: 022"))
	want := "# first\nroot: \"/srv/web\"  # beside\n\n# txtpbfmt: sort_fields_by_field_name\nrules { users: \"a\" deny: true }\numask: 022\n"
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
	for text, want := range map[string]string{
		"root: \"/r\" \"/s\"":      `1:12: two texts side by side are one text; write one text, or a list: ["...", "..."]`,
		"rules { users: \"a\"":     `1:7: what is opened here is never closed; write "}" where it ends`,
		"rules {\n usrs: \"a\"\n}": "2:2: unknown field: usrs",
	} {
		if out, err := Format([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %q", text, err, out)
		}
	}
}
