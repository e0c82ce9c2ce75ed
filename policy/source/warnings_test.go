package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jailctl/policy"
)

// warned are policies of three rules and the warnings about them, each as
// "LINE: what"; "never N" is short for the rule that the one in line N covers.
var warned = []struct {
	name, one, two, three string
	want                  []string
}{
	{"nothing", `users: "alice" run_as { user: "daemon" }`, `users: "mallory" run_as { user: "daemon" }`, "", nil},
	{"a denial before", `users: "alice" deny: true`, `users: "alice" run_as { user: "daemon" }`, "", []string{"2: never 1"}},
	{"everyone before", `users: "*" deny: true`, `groups: "webdev" users: "alice" run_as { user: "daemon" }`, "", []string{"2: never 1"}},
	{"everyone after", `users: "alice" deny: true`, `users: "*" run_as { user: "daemon" }`, "", nil},
	{"more callers", `users: ["alice", "mallory"] groups: "webdev" deny: true`, `users: "mallory" groups: "webdev" run_as { user: "daemon" }`, "", []string{"2: never 1"}},
	{"another group", `users: "alice" groups: "webdev" deny: true`, `users: "alice" groups: "webadm" run_as { user: "daemon" }`, "", nil},
	{"the same target", `users: "*" run_as { user: "daemon" }`, `users: "alice" run_as { user: "1" groups: "webdev" }`, "", []string{"2: never 1"}},
	{"another target", `users: "*" run_as { user: "daemon" }`, `users: "alice" run_as { user: "mallory" }`, "", nil},
	{"another group of the target", `users: "*" run_as { user: "daemon" }`, `users: "alice" run_as { user: "daemon" group: "webdev" }`, "", nil},
	{"a denial after", `users: "*" run_as { user: "daemon" }`, `users: "mallory" deny: true`, "", []string{"2: never 1"}},
	{"a denial that keeps another target away", `users: "*" run_as { user: "daemon" }`, `users: "mallory" deny: true`, `users: "*" run_as { user: "alice" }`, nil},
	{"a denial after, and the target once more", `users: "*" run_as { user: "daemon" }`, `users: "mallory" deny: true`, `groups: "webdev" run_as { user: "daemon" }`, []string{"2: never 1", "3: never 1"}},
	{"the caller", `users: ["alice", "mallory"] run_as { caller: true }`, `users: "alice" run_as { caller: true }`, "", []string{"2: never 1"}},
	{"the caller by name", `users: "*" run_as { caller: true }`, `users: "alice" run_as { caller: true }`, "", nil},
	{"any command before", `users: "alice" deny: true`, `users: "alice" commands { path: "/bin/ls" } run_as { user: "daemon" }`, "", []string{"2: never 1"}},
	{"any command after", `users: "alice" commands { path: "/bin/ls" } deny: true`, `users: "alice" run_as { user: "daemon" }`, "", nil},
	{"the same commands", `users: "alice" commands { path: "/bin/ls" } commands { path: "/bin/cat" args: "*" } deny: true`, `users: "alice" commands { path: "/bin/cat" args: ["-n", "*"] } commands { path: "/bin/ls" no_args: true } run_as { user: "daemon" }`, "", []string{"2: never 1"}},
	{"more arguments after", `users: "alice" commands { path: "/bin/ls" args: "-l" } deny: true`, `users: "alice" commands { path: "/bin/ls" args: ["-l", "*"] } run_as { user: "daemon" }`, "", nil},
	{"other arguments after", `users: "alice" commands { path: "/bin/ls" args: ["-l", "*"] } deny: true`, `users: "alice" commands { path: "/bin/ls" args: ["-a"] } run_as { user: "daemon" }`, "", nil},
	{"an end before", `users: "alice" deny: true not_after: "2027-01-31"`, `users: "alice" run_as { user: "daemon" }`, "", nil},
	{"an earlier end after", `users: "alice" deny: true not_after: "2027-01-31"`, `users: "alice" run_as { user: "daemon" } not_after: "2027-01-30"`, "", []string{"2: never 1"}},
	{"ended", `users: "alice" deny: true not_after: "2020-01-31"`, `users: "alice" run_as { user: "daemon" } not_after: "2026-11-22T12:00:00Z"`, `users: "alice" deny: true not_after: "2026-11-22"`, []string{
		"1: the rule has ended on 2020-01-31; remove it", "2: the rule has ended on 2026-11-22T12:00:00Z; remove it",
	}},
	{"a blank in a path", `users: "alice" commands { path: "/bin/ls -l" } deny: true`, "", "", []string{"1: the path has a blank; arguments belong in args"}},
}

func TestWarnings(t *testing.T) {
	for _, test := range warned {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, warnings(t, test.one, test.two, test.three)); diff != "" {
				t.Error(diff)
			}
		})
	}
	c := compileText(t, "root: \"/r\"\nrules: [\n  { users: \"*\" deny: true },\n  { users: \"*\" deny: true }]\ndefault_command: \"/bin/ls -l\"\n")
	var got []string
	for _, w := range Warnings("web.txtpb", c, today) {
		got = append(got, w.Error())
	}
	if diff := cmp.Diff([]string{
		"web.txtpb:4:3: warning: the rule never decides: the rule in line 3 matches all that it matches; move or remove it",
		"web.txtpb:5:18: warning: the path has a blank; default_command takes no arguments",
	}, got); diff != "" {
		t.Error(diff)
	}
}

// warnings are those about the rules, which stand in a line each.
func warnings(t *testing.T, rules ...string) []string {
	t.Helper()
	text := ""
	for _, r := range rules {
		if r != "" {
			text += "rules { " + r + " }\n"
		}
	}
	var got []string
	for _, w := range Warnings("web.txtpb", compileText(t, text+"root: \"/r\"\n"), today) {
		s := strings.TrimPrefix(w.Error(), "web.txtpb:")
		line, _, _ := strings.Cut(s, ":")
		_, what, _ := strings.Cut(s, ": warning: ")
		what = strings.Replace(what, "the rule never decides: the rule in line ", "never ", 1)
		got = append(got, line+": "+strings.TrimSuffix(what, " matches all that it matches; move or remove it"))
	}
	return got
}

// TestIdleRulesDecideNothing has Decide agree: taking a rule away that was warned
// about changes no decision, whoever asks for whatever.
func TestIdleRulesDecideNothing(t *testing.T) {
	rules := []string{
		`users: "alice" run_as { user: "daemon" }`, `users: "*" run_as { user: "daemon" }`, `users: "alice" deny: true`,
		`groups: "webdev" run_as { user: "mallory" }`, `users: "*" commands { path: "/bin/ls" args: ["-l", "*"] } deny: true`,
		`users: "alice" commands { path: "/bin/ls" args: "-l" } run_as { user: "mallory" }`, `users: "*" run_as { caller: true }`,
		`users: "alice" groups: "webdev" run_as { caller: true }`, `users: "mallory" deny: true not_after: "2026-01-01"`,
		`users: "*" deny: true not_after: "2027-01-01"`,
	}
	idleRules := 0
	for i := range len(rules) * len(rules) * len(rules) {
		text := "root: \"/r\"\n"
		for _, n := range []int{i % 10, i / 10 % 10, i / 100} {
			text += "rules { " + rules[n] + " }\n"
		}
		compiled := compileText(t, text)
		j, err := policy.Decode(Encode(compiled))
		if err != nil {
			t.Fatal(err)
		}
		j.Confines = []policy.Confine{{}} // alike, and long
		for n := range compiled.Rules {
			if !idle(compiled.Rules, n, today) {
				continue
			}
			idleRules++
			less := *j
			less.Rules = append(append([]policy.Rule{}, j.Rules[:n]...), j.Rules[n+1:]...)
			for _, caller := range []policy.Caller{{UID: 1000, GID: 1000}, {UID: 1001, GID: 2000}, {UID: 5, GID: 5, Groups: []uint32{2000}}} {
				for _, user := range []string{"", "daemon", "mallory", "alice", "1000", "5"} {
					for _, argv := range [][]string{{"/bin/ls"}, {"ls", "-l"}, {"/bin/ls", "-l", "-a"}, {"id"}} {
						caller.Now = uint64(today.Unix())
						q := policy.Request{Argv: argv, User: user}
						a, _ := policy.Decide(j, caller, q)
						b, _ := policy.Decide(&less, caller, q)
						if diff := cmp.Diff(a, b); diff != "" {
							t.Fatalf("without rule %d %v with -u %q is decided otherwise for %v:\n%s%s", n+1, argv, user, caller, text, diff)
						}
					}
				}
			}
		}
	}
	if idleRules < 500 {
		t.Errorf("only %d rules were idle", idleRules)
	}
}

// What is opened and not promised is told.
func TestUnusedConfinement(t *testing.T) {
	for text, want := range map[string]string{
		`confine { network: true promises: "stdio" }`:                                                            "the network is open and not promised, so there is none",
		`confine { network: true promises: "stdio inet" }`:                                                       "",
		`confine { network: true promises: "stdio dns" }`:                                                        "",
		`confine { network: true }`:                                                                              "",
		`confine { local_sockets: true promises: "stdio rpath" }`:                                                "local sockets are open and not promised, so there are none",
		`confine { local_sockets: true network: true promises: "stdio unix" }`:                                   "the network is open and not promised, so there is none",
		`rules { users: "mallory" run_as { user: "daemon" } confine { local_sockets: true promises: "stdio" } }`: "local sockets are open and not promised, so there are none",
	} {
		compiled := compileText(t, minimal+text)
		got := ""
		for _, p := range Warnings("web.txtpb", compiled, today) {
			got += strings.TrimPrefix(p.What, "warning: ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
