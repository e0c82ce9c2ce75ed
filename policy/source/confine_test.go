package source

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/policy"
	"jailctl/proto/jailpb"
)

// What each confinement asks of Landlock and of the filter, as the helper reads it.
// Less is asked of Landlock only where the filter keeps it as well.
func TestConfine(t *testing.T) {
	const must, ifAble, off = confine.Must, confine.IfAble, confine.Off
	promised := func(words ...string) seccomp.Options { return seccomp.Options{Promises: words} }
	for text, test := range map[string]struct {
		want    confine.Want
		options seccomp.Options
	}{
		``:                    {confine.Want{Signals: must, Abstract: ifAble, TCP: ifAble}, seccomp.Options{}},
		`network: true`:       {confine.Want{Signals: must, Abstract: ifAble, TCP: off}, seccomp.Options{Network: true}},
		`local_sockets: true`: {confine.Want{Signals: must, Abstract: must, TCP: ifAble}, seccomp.Options{LocalSockets: true}},
		`degrade: true`:       {confine.Want{Signals: must, Abstract: ifAble, TCP: ifAble, Degrade: true}, seccomp.Options{}},
		`network: true network_ports { connect: 443 connect: 80 }`: {
			confine.Want{Abstract: ifAble, TCP: must, Connect: []uint16{443, 80}},
			seccomp.Options{Network: true, Ports: true},
		},
		`network: true network_ports { bind: 0 }`: {
			confine.Want{Abstract: ifAble, TCP: must, Bind: []uint16{0}},
			seccomp.Options{Network: true, Ports: true, Bind: true},
		},
		`promises: "stdio  rpath"`: {confine.Want{Signals: ifAble, Abstract: ifAble, TCP: ifAble}, promised("stdio", "rpath")},
		`promises: "stdio proc"`:   {confine.Want{Signals: must, Abstract: ifAble, TCP: ifAble}, promised("stdio", "proc")},
		`promises: "stdio" violation: KILL`: {
			confine.Want{Signals: ifAble, Abstract: ifAble, TCP: ifAble},
			seccomp.Options{Promises: []string{"stdio"}, Kill: true},
		},
		`unveil { path: "/a" access: "rx" } unveil { path: "/b" access: "rwc" optional: true }`: {
			confine.Want{Abstract: ifAble, TCP: ifAble, Unveil: []confine.Path{{Path: "/a", Access: "rx"}, {Path: "/b", Access: "rwc", Optional: true}}},
			seccomp.Options{},
		},
	} {
		for limits, dumps := range map[string]bool{"": false, " limits { core: 0 }": false, " limits { core: 1 }": false, " limits { core: 4096 }": true} {
			c := compileText(t, minimal+"confine { "+text+" }"+limits)
			j, err := policy.Decode(Encode(c))
			if err != nil {
				t.Fatal(err)
			}
			got := j.Confines[0]
			if d := cmp.Diff(test.want, got.Want); d != "" {
				t.Errorf("%s: of Landlock:\n%s", text, d)
			}
			test.options.Dumps = dumps
			program, err := seccomp.Compile(test.options)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Program) != string(program) || got.Once != test.options.Once() {
				t.Errorf("%s%s: another filter", text, limits)
			}
		}
	}
}

// A rule's confinement is the rule's; one that is the jail's is kept once.
func TestConfineOfRules(t *testing.T) {
	rule := func(confine string) string {
		return `rules { users: "alice" run_as { user: "daemon" } ` + confine + " }\n"
	}
	c := compileText(t, "root: \"/r\"\nconfine { network: true }\n"+
		rule("")+rule("confine { }")+rule("confine { network: true }")+rule("confine { network: false }")+rule(`confine { promises: "stdio" }`))
	var got []uint32
	for _, r := range c.Rules {
		got = append(got, r.Confine)
	}
	if d := cmp.Diff([]uint32{0, 1, 0, 1, 2}, got); d != "" {
		t.Error(d)
	}
	for i, network := range []bool{true, false, true, false, false} {
		m := &jailpb.Confine{}
		if err := proto.Unmarshal(c.Confines[c.Rules[i].Confine].Written, m); err != nil || m.Network != network {
			t.Errorf("rule %d: %v, %v", i, m, err)
		}
	}
}
