package source

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/policy"
	"jailctl/proto/jailpb"
)

// Options are what a confinement, in a jail with these limits, asks of the seccomp
// filter. A nil one is that of a policy without.
func Options(m *jailpb.Confine, limits []*jailpb.CompiledLimit) seccomp.Options {
	o := seccomp.Options{
		Dumps:   slices.ContainsFunc(limits, func(l *jailpb.CompiledLimit) bool { return l.Resource == unix.RLIMIT_CORE && l.Value > noDump }),
		Network: m.GetNetwork(), LocalSockets: m.GetLocalSockets(), Ports: m.GetNetworkPorts() != nil,
		Bind: len(m.GetNetworkPorts().GetBind()) > 0, Kill: m.GetViolation() == jailpb.Violation_KILL,
	}
	if m != nil && m.Promises != nil {
		o.Promises = append([]string{}, strings.Fields(*m.Promises)...)
	}
	return o
}

// Want is what a confinement asks of Landlock. What the filter refuses as well
// does not need it: then a kernel whose Landlock cannot is good enough.
func Want(m *jailpb.Confine) confine.Want {
	w := confine.Want{Abstract: confine.IfAble, TCP: confine.Off, Degrade: m.GetDegrade()}
	if m != nil && m.Promises != nil && !slices.Contains(strings.Fields(*m.Promises), "proc") {
		w.Signals = confine.IfAble // kill(2) and its kin are proc
	}
	if m.GetLocalSockets() {
		w.Abstract = confine.Must
	}
	switch {
	case m.GetNetworkPorts() != nil:
		w.TCP = confine.Must
		w.Connect, w.Bind = ports(m.NetworkPorts.Connect), ports(m.NetworkPorts.Bind)
	case !m.GetNetwork():
		w.TCP = confine.IfAble
	}
	for _, u := range m.GetUnveil() {
		w.Unveil = append(w.Unveil, confine.Path{Path: u.Path, Access: u.Access, Optional: u.Optional})
	}
	return w
}

// InForce reads a compiled confinement, in a jail with these limits: what the helper
// does, and what the policy says. It is an error if this version would compile
// another filter: what is then said of it would not hold.
func InForce(c *jailpb.CompiledConfine, limits []*jailpb.CompiledLimit) (policy.Confine, *jailpb.Confine, error) {
	written := &jailpb.Confine{}
	raw, err := proto.Marshal(c)
	if err == nil {
		err = proto.Unmarshal(c.GetWritten(), written)
	}
	var compiled policy.Confine
	if err == nil {
		compiled, err = policy.DecodeConfine(raw)
	}
	if err != nil {
		return compiled, nil, fmt.Errorf("the confinement in force cannot be read: %w", err)
	}
	o := Options(written, limits)
	program, err := seccomp.Compile(o)
	if err != nil {
		return compiled, nil, fmt.Errorf("the seccomp filter in force cannot be explained: %w", err)
	}
	if !bytes.Equal(program, compiled.Program) || o.Once() != compiled.Once {
		return compiled, nil, errors.New("the seccomp filter in force was compiled by another version of jailctl; root renews it with: jailctl apply")
	}
	return compiled, written, nil
}

func ports(numbers []uint32) (list []uint16) {
	for _, n := range numbers {
		list = append(list, uint16(n))
	}
	return list
}

// confine checks a confinement and puts its compiled form into out, unless it is
// there. It returns where.
func (c *checker) confine(m *jailpb.Confine, out *jailpb.Compiled) uint32 {
	mistakes := c.Mistakes()
	if m != nil {
		c.unveils(m)
		c.ports(m)
		if m.Violation != jailpb.Violation_EPERM && m.Promises == nil {
			c.Note(c.At(m, "violation", 0), "add promises, or remove it", "violation says what happens to what is not promised, and there are no promises")
		}
		if what, fix := Options(m, out.Limits).Contradiction(); what != "" {
			field := "promises"
			if m.Promises == nil {
				field = "network_ports"
			}
			c.Note(c.At(m, field, 0), fix, "%s", what)
		}
	}
	if c.Mistakes() > mistakes {
		return 0
	}
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("internal error: cannot encode a confinement: " + err.Error())
	}
	o, w := Options(m, out.Limits), Want(m)
	program, err := seccomp.Compile(o)
	if err != nil {
		c.Note(c.At(m, "", 0), "promise less or more", "the filter cannot be made: %v", err)
		return 0
	}
	compiled := &jailpb.CompiledConfine{
		Program: program, Once: o.Once(), Signals: uint32(w.Signals), Abstract: uint32(w.Abstract), Tcp: uint32(w.TCP),
		Connect: m.GetNetworkPorts().GetConnect(), Bind: m.GetNetworkPorts().GetBind(), Degrade: w.Degrade, Written: written,
	}
	for _, p := range w.Unveil {
		compiled.Unveil = append(compiled.Unveil, &jailpb.CompiledUnveil{Path: p.Path, Access: p.Access, Optional: p.Optional})
	}
	for i, have := range out.Confines {
		if proto.Equal(have, compiled) {
			return uint32(i)
		}
	}
	out.Confines = append(out.Confines, compiled)
	return uint32(len(out.Confines) - 1)
}

// unveils checks the paths by themselves and against each other.
func (c *checker) unveils(m *jailpb.Confine) {
	mistakes := c.Mistakes()
	lines := map[string]int{}
	for _, u := range m.Unveil {
		line, again := lines[u.Path]
		lines[u.Path] = c.Line(c.At(u, "path", 0))
		switch {
		case again && u.Path != "":
			c.Note(c.At(u, "path", 0), "write one unveil with all letters", "%s is unveiled in line %d already", u.Path, line)
		case u.Path != "":
			c.absolute(u, "path", u.Path, "the jail")
		case !c.Has(u, "path"):
			c.Note(c.At(u, "", 0), `write path: "/usr"`, "the unveil has no path")
		}
		at := c.At(u, "access", 0)
		for i, letter := range u.Access {
			switch {
			case !strings.ContainsRune("rwxc", letter):
				c.Note(at, "write letters of rwxc: read, write, execute, create and remove", "access %q holds %q", u.Access, string(letter))
			case strings.ContainsRune(u.Access[:i], letter):
				c.Note(at, "write each letter once", "access %q holds %q twice", u.Access, string(letter))
			}
		}
		switch {
		case u.Access == "" && !c.Has(u, "access"):
			c.Note(c.At(u, "", 0), `write access: "r", or more letters of rwxc`, "the unveil has no access")
		case strings.Contains(u.Access, "x") && !strings.Contains(u.Access, "r"):
			c.Note(at, fmt.Sprintf("write %q", "r"+u.Access), "access %q executes nothing: Linux does not execute what it may not read", u.Access)
		}
	}
	if c.Mistakes() > mistakes {
		return
	}
	for _, conflict := range confine.Conflicts(Want(m).Unveil) {
		p, above := m.Unveil[conflict.Path], m.Unveil[conflict.Above]
		c.Note(c.At(p, "access", 0), fmt.Sprintf("unveil what else is needed of %s in place of %s itself", above.Path, above.Path),
			"%s cannot have less than %s above it (line %d): rights add up", p.Path, above.Path, lines[above.Path])
	}
}

// ports checks network_ports.
func (c *checker) ports(m *jailpb.Confine) {
	p := m.NetworkPorts
	if p == nil {
		return
	}
	if !c.Has(p, "connect") && !c.Has(p, "bind") {
		c.Note(c.At(p, "", 0), "name ports, or write network: false in place of it", "network_ports without a port")
	}
	for _, list := range []struct {
		field string
		ports []uint32
		least uint32
	}{{"connect", p.Connect, 1}, {"bind", p.Bind, 0}} {
		for i, port := range list.ports {
			switch {
			case port < list.least || port > 65535:
				c.Note(c.At(p, list.field, i), fmt.Sprintf("write a number from %d to 65535", list.least), "%s %d is no TCP port", list.field, port)
			case slices.Contains(list.ports[:i], port):
				c.Note(c.At(p, list.field, i), "remove one", "%s %d is there twice", list.field, port)
			}
		}
	}
}
