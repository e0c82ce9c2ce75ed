package policy_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"jailctl/policy"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func compiled() *jailpb.Compiled {
	return &jailpb.Compiled{
		Version: 2, Name: "web", Source: []byte("text"), Description: "d", Root: "/srv/web",
		Rules: []*jailpb.CompiledRule{
			{Line: 3, Deny: true, Users: []*jailpb.CompiledUser{{Uid: 1001, Name: "mallory", Home: "/", Shell: "/bin/sh"}}},
			{
				Line: 4, Everyone: true, Groups: []uint32{50, 0}, User: &jailpb.CompiledUser{Uid: 1, Name: "daemon"}, Gid: 1,
				GroupName: "daemon", TargetGroups: []uint32{7}, NotAfter: 9,
				Commands: []*jailpb.CompiledCommand{{Path: "/bin/a", Args: [][]byte{[]byte("x"), nil}, HasArgs: true, AnyRest: true}},
			},
			{Line: 5, Everyone: true, Caller: true, Confine: 1},
		},
		DefaultCommand: "/bin/sh", Keep: []string{"TERM"}, Set: [][]byte{[]byte("A=b")}, Path: "/bin", WorkingDirectory: "/",
		Limits: []*jailpb.CompiledLimit{{Resource: 4}, {Resource: 7, Value: 256}}, Umask: 0o22, WallSeconds: 60, AuditRequired: true,
		Confines: []*jailpb.CompiledConfine{{Program: []byte("p")}, {
			Program: []byte("q"), Once: 1 << 31, Unveil: []*jailpb.CompiledUnveil{{Path: "/a", Access: "rw", Optional: true}, {Path: "/"}},
			Signals: 1, Abstract: 2, Tcp: 1, Connect: []uint32{443, 65535}, Bind: []uint32{0}, Degrade: true, Written: []byte("w"),
		}},
		End: 0x6c69616a,
	}
}

func TestDecode(t *testing.T) {
	j, err := policy.Decode(source.Encode(compiled()))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(asCompiled(j), compiled()) {
		t.Errorf("decoded %v\nwant %v", asCompiled(j), compiled())
	}
}

// asCompiled is the message that j came from.
func asCompiled(j *policy.Jail) *jailpb.Compiled {
	user := func(u policy.User) *jailpb.CompiledUser {
		return &jailpb.CompiledUser{Uid: u.UID, Name: u.Name, Home: u.Home, Shell: u.Shell}
	}
	bytes := func(in []string) (out [][]byte) {
		for _, s := range in {
			out = append(out, []byte(s))
		}
		return out
	}
	c := &jailpb.Compiled{
		Version: 2, Name: j.Name, Source: j.Source, Description: j.Description, Root: j.Root, DefaultCommand: j.DefaultCommand,
		Keep: j.Keep, Set: bytes(j.Set), Path: j.Path, WorkingDirectory: j.Dir, Umask: j.Umask, WallSeconds: j.Wall,
		AuditRequired: j.AuditRequired, End: 0x6c69616a,
	}
	for _, r := range j.Rules {
		m := &jailpb.CompiledRule{
			Line: r.Line, Deny: r.Deny, Everyone: r.Everyone, Groups: r.Groups, Gid: r.GID, GroupName: r.GroupName,
			Caller: r.Caller, TargetGroups: r.TargetGroups, NotAfter: r.NotAfter, Confine: uint32(r.Confine),
		}
		for _, u := range r.Users {
			m.Users = append(m.Users, user(u))
		}
		if r.Target != (policy.User{}) {
			m.User = user(r.Target)
		}
		for _, k := range r.Commands {
			m.Commands = append(m.Commands, &jailpb.CompiledCommand{Path: k.Path, Args: bytes(k.Args), HasArgs: k.HasArgs, AnyRest: k.AnyRest})
		}
		c.Rules = append(c.Rules, m)
	}
	for _, l := range j.Limits {
		c.Limits = append(c.Limits, &jailpb.CompiledLimit{Resource: uint32(l.Resource), Value: l.Value})
	}
	for _, k := range j.Confines {
		c.Confines = append(c.Confines, asConfine(k))
	}
	return c
}

// asConfine is the message that k came from. What is only carried along comes from
// the encoded form.
func asConfine(k policy.Confine) *jailpb.CompiledConfine {
	var raw jailpb.CompiledConfine
	if err := proto.Unmarshal(k.Raw, &raw); err != nil {
		panic(err)
	}
	m := &jailpb.CompiledConfine{
		Program: k.Program, Once: k.Once, Signals: uint32(k.Want.Signals), Abstract: uint32(k.Want.Abstract), Tcp: uint32(k.Want.TCP),
		Degrade: k.Want.Degrade, Written: raw.Written,
	}
	for _, p := range k.Want.Connect {
		m.Connect = append(m.Connect, uint32(p))
	}
	for _, p := range k.Want.Bind {
		m.Bind = append(m.Bind, uint32(p))
	}
	for _, u := range k.Want.Unveil {
		m.Unveil = append(m.Unveil, &jailpb.CompiledUnveil{Path: u.Path, Access: u.Access, Optional: u.Optional})
	}
	return m
}

// A file cut short anywhere is refused: a rule lost at its end could be the one
// that denies.
func TestDecodeCutShort(t *testing.T) {
	b := source.Encode(compiled())
	for n := range b {
		if _, err := policy.Decode(b[:n]); err == nil {
			t.Errorf("accepted %d bytes of %d", n, len(b))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	change := func(f func(*jailpb.Compiled)) []byte {
		c := compiled()
		f(c)
		return source.Encode(c)
	}
	whole := source.Encode(compiled())
	for name, b := range map[string][]byte{
		"a tail":            append(whole[:len(whole):len(whole)], 0x08, 0x01),
		"the whole twice":   append(whole[:len(whole):len(whole)], whole...),
		"no version":        change(func(c *jailpb.Compiled) { c.Version = 0 }),
		"another version":   change(func(c *jailpb.Compiled) { c.Version = 1 }),
		"no confinement":    change(func(c *jailpb.Compiled) { c.Confines = nil }),
		"one too few":       change(func(c *jailpb.Compiled) { c.Confines = c.Confines[:1] }),
		"no filter":         change(func(c *jailpb.Compiled) { c.Confines[1].Program = nil }),
		"keep 3":            change(func(c *jailpb.Compiled) { c.Confines[1].Signals = 3 }),
		"abstract 3":        change(func(c *jailpb.Compiled) { c.Confines[1].Abstract = 3 }),
		"tcp 3":             change(func(c *jailpb.Compiled) { c.Confines[1].Tcp = 3 }),
		"port 65536":        change(func(c *jailpb.Compiled) { c.Confines[1].Connect[0] = 65536 }),
		"bind 65536":        change(func(c *jailpb.Compiled) { c.Confines[1].Bind[0] = 65536 }),
		"unveil of ..":      change(func(c *jailpb.Compiled) { c.Confines[1].Unveil[0].Path = "/a/.." }),
		"relative unveil":   change(func(c *jailpb.Compiled) { c.Confines[1].Unveil[0].Path = "a" }),
		"once over 32 bits": append(confine(protowire.AppendVarint([]byte{0x10}, 1<<32)), whole...),
		"once twice":        append(confine([]byte{0x10, 0x01, 0x10, 0x01}), whole...),
		"unknown in one":    append(confine([]byte{0x58, 0x01}), whole...),
		"another end":       change(func(c *jailpb.Compiled) { c.End = 1 }),
		"no end":            change(func(c *jailpb.Compiled) { c.End = 0 }),
		"no name":           change(func(c *jailpb.Compiled) { c.Name = "" }),
		"a bad name":        change(func(c *jailpb.Compiled) { c.Name = "../x" }),
		"root /":            change(func(c *jailpb.Compiled) { c.Root = "/" }),
		"no root":           change(func(c *jailpb.Compiled) { c.Root = "" }),
		"a relative root":   change(func(c *jailpb.Compiled) { c.Root = "srv" }),
		"a dotted root":     change(func(c *jailpb.Compiled) { c.Root = "/srv/../etc" }),
		"a relative dir":    change(func(c *jailpb.Compiled) { c.WorkingDirectory = "tmp" }),
		"umask 01000":       change(func(c *jailpb.Compiled) { c.Umask = 0o1000 }),
		"set without =":     change(func(c *jailpb.Compiled) { c.Set = [][]byte{[]byte("A")} }),
		"uid -1":            change(func(c *jailpb.Compiled) { c.Rules[1].User.Uid = 1<<32 - 1 }),
		"gid -1":            change(func(c *jailpb.Compiled) { c.Rules[1].Gid = 1<<32 - 1 }),
		"resource 64":       change(func(c *jailpb.Compiled) { c.Limits[0].Resource = 64 }),
		"a relative path":   change(func(c *jailpb.Compiled) { c.Rules[1].Commands[0].Path = "bin/a" }),
		"unknown field":     append(protowire.AppendVarint(protowire.AppendTag(nil, 17, protowire.VarintType), 1), whole...),
		"version twice":     append([]byte{0x08, 0x01}, whole...),
		"umask as bytes":    append([]byte{0x6a, 0x01, 0x12}, whole...),
		"uid over 32 bits":  append(rule(protowire.AppendVarint([]byte{0x3a, 0x06, 0x08}, 1<<32)), whole...),
		"gid over 32 bits":  append(rule(protowire.AppendVarint([]byte{0x40}, 1<<32)), whole...),
		"unknown in a rule": append(rule([]byte{0x70, 0x01}), whole...),
		"deny twice":        append(rule([]byte{0x10, 0x01, 0x10, 0x00}), whole...),
		"packed groups":     append(rule([]byte{0x2a, 0x01, 0x05}), whole...),
	} {
		if j, err := policy.Decode(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, j)
		}
	}
}

// rule wraps the fields of a CompiledRule as one of Compiled's.
func rule(fields []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), fields)
}

// confine is rule, for a CompiledConfine with a program.
func confine(fields []byte) []byte {
	fields = append([]byte{0x0a, 0x01, 'p'}, fields...)
	return protowire.AppendBytes(protowire.AppendTag(nil, 16, protowire.BytesType), fields)
}

// FuzzDecode: what Decode accepts, the generated code reads the same.
func FuzzDecode(f *testing.F) {
	f.Add(source.Encode(compiled()))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := policy.Decode(b)
		if err != nil {
			return
		}
		var m jailpb.Compiled
		if err := proto.Unmarshal(b, &m); err != nil {
			return // strings that are no UTF-8, which only the generated code minds
		}
		if len(m.ProtoReflect().GetUnknown()) != 0 {
			t.Fatal("accepted an unknown field")
		}
		for _, r := range m.Rules { // absent and empty are the same to the helper
			if proto.Equal(r.User, &jailpb.CompiledUser{}) {
				r.User = nil
			}
		}
		if !proto.Equal(asCompiled(j), &m) {
			t.Fatalf("decoded %v\ngenerated %v", asCompiled(j), &m)
		}
	})
}
