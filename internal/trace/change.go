package trace

import (
	"slices"
	"strconv"
	"strings"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/proto/jailpb"
)

// A change is what a confine block needs more, or, of ports, less.
type change struct {
	promises       []string
	network, local bool
	noPorts        bool
	unveil         []confine.Path
	connect, bind  []uint32
}

// widened is what options have more than others.
func widened(from, to seccomp.Options) (c change) {
	for _, w := range to.Promises {
		if !slices.Contains(from.Promises, w) {
			c.promises = append(c.promises, w)
		}
	}
	c.network = to.Network && !from.Network
	c.local = to.LocalSockets && !from.LocalSockets
	c.noPorts = from.Ports && !to.Ports
	if to.Bind && !from.Bind {
		c.bind = []uint32{0} // listen(2) without bind(2) takes any port
	}
	return c
}

// line is the change for people, against the block that is in force.
func (c change) line(have *jailpb.Confine) string {
	var parts []string
	if len(c.promises) > 0 {
		parts = append(parts, "promises: add "+strconv.Quote(strings.Join(c.promises, " ")))
	}
	if c.network {
		parts = append(parts, "network: true")
	}
	if c.local {
		parts = append(parts, "local_sockets: true")
	}
	if c.noPorts {
		parts = append(parts, "remove network_ports")
	}
	for _, u := range c.unveil {
		now := With(unveiled(have), u)
		at := slices.IndexFunc(now, func(p confine.Path) bool { return p.Path == u.Path })
		s := "unveil { path: " + strconv.Quote(u.Path) + " access: " + strconv.Quote(now[at].Access) + " }"
		if i := slices.IndexFunc(have.GetUnveil(), func(p *jailpb.Unveil) bool { return p.Path == u.Path }); i >= 0 {
			s += " in place of access: " + strconv.Quote(have.Unveil[i].Access)
		}
		parts = append(parts, s)
	}
	for name, list := range map[string][]uint32{"connect": c.connect, "bind": c.bind} {
		for _, port := range list {
			parts = append(parts, "network_ports { "+name+": "+strconv.Itoa(int(port))+" }")
		}
	}
	return strings.Join(parts, ", ")
}

func unveiled(m *jailpb.Confine) (all []confine.Path) {
	for _, u := range m.GetUnveil() {
		all = append(all, confine.Path{Path: u.Path, Access: u.Access, Optional: u.Optional})
	}
	return all
}

// With adds unveils. What is beneath another has its letters as well, since rights add
// up; and what executes reads.
func With(all []confine.Path, more ...confine.Path) []confine.Path {
	all = slices.Clone(all)
	at := map[string]int{}
	for i, p := range all {
		at[p.Path] = i
	}
	for _, u := range more {
		i, have := at[u.Path]
		if !have {
			i = len(all)
			at[u.Path] = i
			all = append(all, confine.Path{Path: u.Path, Optional: u.Optional})
		}
		all[i].Access = Letters(all[i].Access, u.Access)
	}
	nested(all, func(p, above *confine.Path) {
		if both := Letters(p.Access, above.Access); len(both) > len(p.Access) {
			p.Access = both
		}
	})
	return all
}

// Fewest leaves out, of all but the first few, what another path gives anyway.
func Fewest(all []confine.Path, first int) []confine.Path {
	given := map[string]bool{}
	nested(all, func(p, above *confine.Path) { given[p.Path] = Letters(above.Access, "") == p.Access })
	return append(all[:first:first], slices.DeleteFunc(all[first:], func(p confine.Path) bool { return given[p.Path] })...)
}

// nested calls f with each path that is beneath others and the nearest of these, which
// it has been called with before. A command can have itself denied thousands: they are
// not compared each with each.
func nested(all []confine.Path, f func(p, above *confine.Path)) {
	order := make([]*confine.Path, len(all))
	for i := range all {
		order[i] = &all[i]
	}
	// With a slash at the end, what is beneath a path follows it, and nothing else is between.
	end := func(p *confine.Path) string { return strings.TrimSuffix(p.Path, "/") + "/" }
	slices.SortFunc(order, func(a, b *confine.Path) int { return strings.Compare(end(a), end(b)) })
	var above []*confine.Path
	for _, p := range order {
		for len(above) > 0 && !confine.Beneath(p.Path, above[len(above)-1].Path) {
			above = above[:len(above)-1]
		}
		if len(above) > 0 {
			f(p, above[len(above)-1])
		}
		above = append(above, p)
	}
}

// Letters has those of both, in their usual order.
func Letters(a, b string) (s string) {
	both := a + b
	if strings.Contains(both, "x") {
		both += "r"
	}
	for _, l := range "rwxc" {
		if strings.ContainsRune(both, l) {
			s += string(l)
		}
	}
	return s
}

// apply puts changes into a block.
func apply(have *jailpb.Confine, all []change) *jailpb.Confine {
	m := &jailpb.Confine{
		Network: have.GetNetwork(), LocalSockets: have.GetLocalSockets(), Degrade: have.GetDegrade(),
		Violation: have.GetViolation(), NetworkPorts: have.GetNetworkPorts(),
	}
	paths := unveiled(have)
	kept := len(paths)
	words := []string{}
	if have != nil && have.Promises != nil {
		words = strings.Fields(*have.Promises)
	}
	var connect, bind []uint32
	var unveil []confine.Path
	for _, c := range all {
		m.Network, m.LocalSockets = m.Network || c.network, m.LocalSockets || c.local
		if c.noPorts {
			m.NetworkPorts = nil
		}
		for _, w := range c.promises {
			if !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
		unveil = append(unveil, c.unveil...)
		connect, bind = append(connect, c.connect...), append(bind, c.bind...)
	}
	if have != nil && have.Promises != nil {
		s := strings.Join(words, " ")
		m.Promises = &s
	}
	for _, p := range Fewest(With(paths, unveil...), kept) {
		m.Unveil = append(m.Unveil, &jailpb.Unveil{Path: p.Path, Access: p.Access, Optional: p.Optional})
	}
	if m.NetworkPorts != nil && len(connect)+len(bind) > 0 {
		m.NetworkPorts = &jailpb.NetworkPorts{Connect: union(m.NetworkPorts.Connect, connect), Bind: union(m.NetworkPorts.Bind, bind)}
	}
	return m
}

func union(a, b []uint32) []uint32 {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// Block is a confinement as a policy has it, laid out as `jailctl policy fmt` does. It
// says beside a field, by its name, and beside an unveil, by its path, what notes have;
// those on promises, a line each, stand above.
func Block(m *jailpb.Confine, notes map[string]string) string {
	var b strings.Builder
	b.WriteString("confine {\n")
	line := func(s ...string) { b.WriteString("  " + strings.Join(s, "") + "\n") }
	note := func(of string) string {
		if notes[of] == "" {
			return ""
		}
		return "  # " + notes[of]
	}
	if m.Network {
		line("network: true", note("network"))
	}
	if m.LocalSockets {
		line("local_sockets: true", note("local_sockets"))
	}
	if m.Promises != nil {
		for above := range strings.Lines(notes["promises"]) {
			line("# ", strings.TrimSuffix(above, "\n"))
		}
		line("promises: ", strconv.Quote(*m.Promises))
	}
	for _, u := range m.Unveil {
		optional := ""
		if u.Optional {
			optional = " optional: true"
		}
		line("unveil { path: ", strconv.Quote(u.Path), " access: ", strconv.Quote(u.Access), optional, " }", note(u.Path))
	}
	if m.Degrade {
		line("degrade: true")
	}
	if p := m.NetworkPorts; p != nil {
		s := "network_ports {"
		for _, port := range p.Connect {
			s += " connect: " + strconv.Itoa(int(port))
		}
		for _, port := range p.Bind {
			s += " bind: " + strconv.Itoa(int(port))
		}
		line(s, " }", note("network_ports"))
	}
	if m.Violation == jailpb.Violation_KILL {
		line("violation: KILL")
	}
	b.WriteString("}\n")
	return b.String()
}
