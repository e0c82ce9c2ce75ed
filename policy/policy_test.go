package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jailctl/policy"
)

const now = 1_800_000_000

// Callers, by number: 1001 is in group 50, 1002 in none, 1003 has it as primary group.
var (
	member   = policy.Caller{UID: 1001, GID: 1001, Groups: []uint32{1001, 50}, Now: now}
	loner    = policy.Caller{UID: 1002, GID: 1002, Now: now}
	primary  = policy.Caller{UID: 1003, GID: 50, Now: now}
	rootUser = policy.Caller{UID: 0, GID: 0, Now: now}
)

// jail returns a policy with these rules.
func jail(rules ...policy.Rule) *policy.Jail {
	for i := range rules {
		rules[i].Line = uint32(10 + i)
		if !rules[i].Deny && !rules[i].Caller && rules[i].Target.UID == 0 && rules[i].GID == 0 {
			rules[i].Target, rules[i].GID = policy.User{UID: 1, Name: "daemon", Home: "/usr/sbin", Shell: "/bin/sh"}, 1
			rules[i].GroupName = "daemon"
		}
	}
	return &policy.Jail{Name: "web", Root: "/srv/web", Dir: "/", Path: "/usr/bin:/bin", Rules: rules, DefaultCommand: "/bin/sh", Confines: []policy.Confine{{}}}
}

func users(uids ...uint32) (us []policy.User) {
	for _, u := range uids {
		us = append(us, policy.User{UID: u})
	}
	return us
}

func ask(argv ...string) policy.Request { return policy.Request{Argv: argv} }

func TestDecide(t *testing.T) {
	anyone := policy.Rule{Everyone: true}
	tidy := policy.Command{Path: "/usr/bin/tidy", Args: []string{"-q"}, HasArgs: true, AnyRest: true}
	tests := []struct {
		name   string
		jail   *policy.Jail
		caller policy.Caller
		ask    policy.Request
		want   string // the command granted, or "-" and part of the reason
	}{
		{"no rules", jail(), member, ask("id"), "-no rule names you"},
		{"a user named", jail(policy.Rule{Users: users(1001)}), member, ask("/bin/id"), "/bin/id"},
		{"another user named", jail(policy.Rule{Users: users(1002)}), member, ask("/bin/id"), "-no rule names you"},
		{"a group named", jail(policy.Rule{Groups: []uint32{50}}), member, ask("/bin/id"), "/bin/id"},
		{"a primary group named", jail(policy.Rule{Groups: []uint32{50}}), primary, ask("/bin/id"), "/bin/id"},
		{"a group of others", jail(policy.Rule{Groups: []uint32{50}}), loner, ask("/bin/id"), "-no rule names you"},
		{"users or groups", jail(policy.Rule{Users: users(1002), Groups: []uint32{50}}), loner, ask("/bin/id"), "/bin/id"},
		{"everyone", jail(anyone), loner, ask("/bin/id"), "/bin/id"},
		{"root is a caller like others", jail(anyone), rootUser, ask("/bin/id"), "/bin/id"},
		{"the first decides: deny", jail(policy.Rule{Users: users(1001), Deny: true}, anyone), member, ask("id"), "-denied by rule"},
		{"the first decides: permit", jail(anyone, policy.Rule{Users: users(1001), Deny: true}), member, ask("id"), "id"},
		{"deny is for its command", jail(policy.Rule{Everyone: true, Deny: true, Commands: []policy.Command{{Path: "/bin/rm"}}}, anyone), member, ask("/bin/id"), "/bin/id"},
		{"deny by bare name", jail(policy.Rule{Everyone: true, Deny: true, Commands: []policy.Command{{Path: "/bin/rm"}}}, anyone), member, ask("rm"), "-denied by rule"},
		{"deny whatever the target", jail(policy.Rule{Everyone: true, Deny: true}, anyone), member, policy.Request{Argv: []string{"id"}, User: "daemon"}, "-denied by rule"},
		{"default command", jail(anyone), member, ask(), "/bin/sh"},
		{"default command is decided", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}), member, ask(), "-\"/bin/sh\" is not permitted"},
		{"listed, whole path", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}), member, ask("/usr/bin/tidy", "-q"), "/usr/bin/tidy"},
		{"listed, bare name", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}), member, ask("tidy", "-q", "x", "y"), "/usr/bin/tidy"},
		{"listed, not on the path", jail(policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/opt/tool"}}}), member, ask("tool"), "-\"tool\" is not permitted"},
		{"path order", jail(policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/bin/a"}, {Path: "/usr/bin/a"}}}), member, ask("a"), "/usr/bin/a"},
		{"wrong argument", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}), member, ask("tidy", "-m"), "-arguments"},
		{"too few arguments", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}), member, ask("tidy"), "-arguments"},
		{"no arguments allowed", jail(policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/bin/a", HasArgs: true}}}), member, ask("a", ""), "-arguments"},
		{"no arguments given", jail(policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/bin/a", HasArgs: true}}}), member, ask("a"), "/bin/a"},
		{"any arguments", jail(policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/bin/a"}}}), member, ask("a", "b"), "/bin/a"},
		{"a later rule has the command", jail(policy.Rule{Everyone: true, Commands: []policy.Command{tidy}}, anyone), member, ask("/bin/id"), "/bin/id"},
		{"bare name without a list", jail(anyone), member, ask("id"), "id"},
		{"relative path", jail(anyone), member, ask("./id"), "-clean absolute path"},
		{"dotted path", jail(anyone), member, ask("/bin/../bin/id"), "-clean absolute path"},
		{"doubled slash", jail(anyone), member, ask("//bin/id"), "-clean absolute path"},
		{"empty command", jail(anyone), member, ask(""), "-clean absolute path"},
		{"relative directory", jail(anyone), member, policy.Request{Argv: []string{"id"}, Dir: "tmp"}, "-must be an absolute path"},
		{"ended", jail(policy.Rule{Everyone: true, NotAfter: now}), member, ask("id"), "-has ended"},
		{"ended, another one near", jail(policy.Rule{Everyone: true, NotAfter: now}, policy.Rule{Everyone: true, Commands: []policy.Command{{Path: "/bin/a"}}}), member, ask("id"), "-that permitted it has ended"},
		{"not ended", jail(policy.Rule{Everyone: true, NotAfter: now + 1}), member, ask("id"), "id"},
		{"an ended denial does not deny", jail(policy.Rule{Everyone: true, Deny: true, NotAfter: now}, anyone), member, ask("id"), "id"},
		{"target by name", jail(anyone), member, policy.Request{Argv: []string{"id"}, User: "daemon", Group: "daemon"}, "id"},
		{"target by number", jail(anyone), member, policy.Request{Argv: []string{"id"}, User: "1", Group: "1"}, "id"},
		{"wrong target", jail(anyone), member, policy.Request{Argv: []string{"id"}, User: "root"}, "-target \"root:\""},
		{"wrong group", jail(anyone), member, policy.Request{Argv: []string{"id"}, Group: "0"}, "-target \":0\""},
		{"number not in its decimal form", jail(anyone), member, policy.Request{Argv: []string{"id"}, User: "01"}, "-target \"01:\""},
		{"the caller as target", jail(policy.Rule{Everyone: true, Caller: true}), member, policy.Request{Argv: []string{"id"}, User: "1001"}, "id"},
		{"the rule with the target", jail(policy.Rule{Everyone: true, Caller: true}, anyone), member, policy.Request{Argv: []string{"id"}, User: "daemon"}, "id"},
		{"target uid 0", jail(policy.Rule{Everyone: true, GID: 5}), member, ask("id"), "-would be root"},
		{"target gid 0", jail(policy.Rule{Everyone: true, Target: policy.User{UID: 5}}), member, ask("id"), "-would be root"},
		{"target uid -1", jail(policy.Rule{Everyone: true, Target: policy.User{UID: 1<<32 - 1}, GID: 5}), member, ask("id"), "-would be root"},
		{"target group 0 among others", jail(policy.Rule{Everyone: true, TargetGroups: []uint32{5, 0}}), member, ask("id"), "-root's group"},
		{"root as the caller's own target", jail(policy.Rule{Everyone: true, Caller: true}), rootUser, ask("id"), "-would be root"},
		{"a variable not kept", jail(anyone), member, policy.Request{Argv: []string{"id"}, Assign: []string{"LD_PRELOAD=x"}}, "-\"LD_PRELOAD\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, denied := policy.Decide(test.jail, test.caller, test.ask)
			if (grant == nil) == (denied == nil) {
				t.Fatalf("grant %v, denied %v: exactly one must be set", grant, denied)
			}
			reason, deny := strings.CutPrefix(test.want, "-")
			switch {
			case deny && (denied == nil || !strings.Contains(denied.Reason, reason)):
				t.Errorf("got %+v %+v, want a denial with %q", grant, denied, reason)
			case !deny && (grant == nil || grant.Command != test.want):
				t.Errorf("got %+v %+v, want %q", grant, denied, test.want)
			}
		})
	}
}

// Only a caller whom a rule permits something, at whatever time, is told a reason.
func TestTold(t *testing.T) {
	tests := map[string]struct {
		rules []policy.Rule
		want  bool
	}{
		"no rule":            {nil, false},
		"others":             {[]policy.Rule{{Users: users(7)}}, false},
		"only denied":        {[]policy.Rule{{Users: users(1001), Deny: true}}, false},
		"denied and others":  {[]policy.Rule{{Users: users(1001), Deny: true}, {Users: users(7)}}, false},
		"ended":              {[]policy.Rule{{Users: users(1001), NotAfter: 5}}, true},
		"another command":    {[]policy.Rule{{Users: users(1001), Commands: []policy.Command{{Path: "/x"}}}}, true},
		"denied another":     {[]policy.Rule{{Users: users(1001), Deny: true, Commands: []policy.Command{{Path: "/x"}}}, {Groups: []uint32{50}, NotAfter: 1}}, true},
		"denied for ever":    {[]policy.Rule{{Users: users(1001), Deny: true}, {Groups: []uint32{50}}}, false},
		"denied for a while": {[]policy.Rule{{Users: users(1001), Deny: true, NotAfter: now + 1}, {Groups: []uint32{50}}}, true},
	}
	for name, test := range tests {
		if _, denied := policy.Decide(jail(test.rules...), member, ask("id")); denied == nil || denied.Told != test.want {
			t.Errorf("%s: %+v, want told %v", name, denied, test.want)
		}
	}
}

func TestGrant(t *testing.T) {
	j := jail(policy.Rule{Everyone: true, TargetGroups: []uint32{7}, NotAfter: now + 9, Confine: 1})
	j.Confines = []policy.Confine{{Once: 1}, {Once: 2}}
	j.Keep, j.Set = []string{"TERM", "LC_*", "HOME"}, []string{"PATH=/opt", "A=b=c"}
	j.Limits, j.Umask, j.Wall = []policy.Limit{{Resource: 4}}, 0o27, 60
	got, denied := policy.Decide(j, member, policy.Request{
		Argv: []string{"id", "-u"}, Dir: "/tmp",
		Env:    []string{"TERM=old", "LC_ALL=C", "LC_=x", "LC_A B=x", "SECRET=1", "PATH=/evil", "A=evil", "noequals", "=x", "USER=root"},
		Assign: []string{"TERM=new", "HOME=/h"},
	})
	if denied != nil {
		t.Fatal(denied)
	}
	want := &policy.Grant{
		Line: 10, Root: "/srv/web", UID: 1, GID: 1, Groups: []uint32{7}, Command: "id", Path: "/usr/bin:/bin",
		Argv: []string{"id", "-u"}, Dir: "/tmp", Umask: 0o27, Limits: []policy.Limit{{Resource: 4}}, Wall: 60, NotAfter: now + 9,
		Env:     []string{"PATH=/opt", "HOME=/h", "SHELL=/bin/sh", "USER=daemon", "LOGNAME=daemon", "TERM=new", "LC_ALL=C", "LC_=x", "A=b=c"},
		Confine: &j.Confines[1],
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A caller as target gets its name and home where the rule's list knows them.
func TestCallerEnvironment(t *testing.T) {
	known := policy.User{UID: 1001, Name: "alice", Home: "/home/alice", Shell: "/bin/bash"}
	j := jail(policy.Rule{Everyone: true, Users: []policy.User{known}, Caller: true})
	got, _ := policy.Decide(j, member, ask("id"))
	if got == nil || got.UID != 1001 || got.GID != 1001 || len(got.Groups) != 0 || !slices.Contains(got.Env, "HOME=/home/alice") || !slices.Contains(got.Env, "USER=alice") {
		t.Errorf("%+v", got)
	}
	got, _ = policy.Decide(j, loner, ask("id"))
	if got == nil || got.UID != 1002 || !slices.Contains(got.Env, "HOME=/") || strings.Contains(strings.Join(got.Env, " "), "USER=") {
		t.Errorf("%+v", got)
	}
}

// The first rule that matches caller and command decides; no rule matches:
// denied. Over all policies of two small rules, against the sentence written out.
func TestFirstMatchingRuleDecides(t *testing.T) {
	var all []policy.Rule
	for _, who := range []policy.Rule{{Users: users(1001)}, {Groups: []uint32{50}}, {Everyone: true}, {Users: users(9)}} {
		for _, commands := range [][]policy.Command{nil, {{Path: "/bin/a"}}, {{Path: "/bin/b", Args: []string{"x"}, HasArgs: true}}} {
			for _, ends := range []uint64{0, 1} {
				for target := range uint32(3) {
					r := who
					r.Commands, r.NotAfter = commands, ends
					r.Deny = target == 0
					if target > 0 {
						r.Target, r.GID = policy.User{UID: target}, target
					}
					all = append(all, r)
				}
			}
		}
	}
	callers := []policy.Caller{member, loner, primary}
	requests := []policy.Request{ask("/bin/a"), ask("a"), ask("/bin/b", "x"), ask("b"), {Argv: []string{"/bin/a"}, User: "2"}}
	for _, first := range all {
		for _, second := range all {
			j := jail(first, second)
			for _, c := range callers {
				for _, q := range requests {
					grant, denied := policy.Decide(j, c, q)
					if want := oracle(j.Rules, c, q); want == 0 != (grant == nil) || grant != nil && grant.Line != want {
						t.Fatalf("rules %+v\ncaller %+v\nrequest %+v\ngot %+v %+v, want line %d", j.Rules, c, q, grant, denied, want)
					}
				}
			}
		}
	}
}

// oracle returns the line of the rule that permits, 0 for denied.
func oracle(rules []policy.Rule, c policy.Caller, q policy.Request) uint32 {
	for _, r := range rules {
		caller := r.Everyone || len(r.Users) == 1 && r.Users[0].UID == c.UID || len(r.Groups) == 1 && (c.GID == 50 || slices.Contains(c.Groups, 50))
		argv := slices.Clone(q.Argv)
		if argv[0][0] != '/' {
			argv[0] = "/bin/" + argv[0]
		}
		command := len(r.Commands) == 0 || argv[0] == r.Commands[0].Path && (!r.Commands[0].HasArgs || slices.Equal(argv[1:], r.Commands[0].Args))
		if !caller || !command || r.NotAfter == 1 {
			continue
		}
		if r.Deny {
			return 0
		}
		if q.User == "" || q.User == string(rune('0'+r.Target.UID)) {
			return r.Line
		}
	}
	return 0
}

func TestOpen(t *testing.T) {
	lines := func(rs []*policy.Rule) (out []uint32) {
		for _, r := range rs {
			out = append(out, r.Line)
		}
		return out
	}
	j := jail(
		policy.Rule{Users: users(1002)},
		policy.Rule{Users: users(1001), NotAfter: now},
		policy.Rule{Users: users(1001), Deny: true, Commands: []policy.Command{{Path: "/x"}}},
		policy.Rule{Users: users(1001)},
		policy.Rule{Users: users(1001), Deny: true},
		policy.Rule{Everyone: true},
	)
	if d := cmp.Diff([]uint32{13}, lines(j.Open(member))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]uint32{10, 15}, lines(j.Open(loner))); d != "" {
		t.Error(d)
	}
}

func TestValidName(t *testing.T) {
	for _, good := range []string{"a", "0", "web", "web-1.2_x", strings.Repeat("a", 63)} {
		if !policy.ValidName(good) {
			t.Errorf("%q refused", good)
		}
	}
	for _, bad := range []string{
		"", ".", "..", ".a", "-a", "_a", "A", "a/b", "../a", "/a", "a\x00", "a\n", "a b", "~", "%n", "\x1b[1m", "é",
		"a\u202e", "a\uff0fb", "a\xff", strings.Repeat("a", 64),
	} {
		if policy.ValidName(bad) {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestCleanAbs(t *testing.T) {
	for _, good := range []string{"/", "/a", "/a/b", "/a b/...", "/.a/a."} {
		if !policy.CleanAbs(good) {
			t.Errorf("%q refused", good)
		}
	}
	for _, bad := range []string{"", "a", "a/b", "//", "/a/", "/a//b", "/.", "/..", "/a/.", "/a/../b", "./a", "/a\x00b"} {
		if policy.CleanAbs(bad) {
			t.Errorf("%q accepted", bad)
		}
	}
}
