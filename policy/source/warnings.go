package source

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"jailctl/proto/jailpb"
)

// Warnings are what the text of a compiled policy says and can hardly mean, in
// the order of the text. The policy is right all the same.
func Warnings(file string, compiled *jailpb.Compiled, now time.Time) []Problem {
	c := newChecker(file, compiled.Source, nil)
	jail := &jailpb.Jail{}
	c.Read(jail)
	if strings.Contains(jail.DefaultCommand, " ") {
		c.Note(c.At(jail, "default_command", 0), "default_command takes no arguments", "warning: the path has a blank")
	}
	c.unused(jail.Confine)
	for i, rule := range jail.Rules {
		r := compiled.Rules[i]
		c.unused(rule.Confine)
		if ended(r, now) {
			c.Note(c.At(rule, "not_after", 0), "remove it", "warning: the rule has ended on %s", rule.NotAfter)
		} else if before := covering(compiled.Rules, i); before != nil {
			c.Note(c.At(rule, "", 0), "move or remove it",
				"warning: the rule never decides: the rule in line %d matches all that it matches", before.Line)
		}
		for _, command := range rule.Commands {
			if strings.Contains(command.Path, " ") {
				c.Note(c.At(command, "path", 0), "arguments belong in args", "warning: the path has a blank")
			}
		}
	}
	return c.Problems()
}

// unused notes what a confinement opens and its promises leave closed.
func (c *checker) unused(m *jailpb.Confine) {
	if m == nil || m.Promises == nil {
		return
	}
	words := strings.Fields(*m.Promises)
	has := func(w string) bool { return slices.Contains(words, w) }
	if m.Network && !has("inet") && !has("dns") {
		c.Note(c.At(m, "network", 0), "promise inet or dns, or remove it", "warning: the network is open and not promised, so there is none")
	}
	if m.LocalSockets && !has("unix") {
		c.Note(c.At(m, "local_sockets", 0), "promise unix, or remove it", "warning: local sockets are open and not promised, so there are none")
	}
}

// ended tells whether a rule matches nothing any more.
func ended(r *jailpb.CompiledRule, now time.Time) bool {
	return r.NotAfter != 0 && now.Unix() >= int64(r.NotAfter)
}

// idle tells whether the rule rules[i] decides nothing, now and until the policy
// is another.
func idle(rules []*jailpb.CompiledRule, i int, now time.Time) bool {
	return ended(rules[i], now) || covering(rules, i) != nil
}

// covering is the first rule before rules[i] that decides on all that rules[i]
// matches; nil where there is none. That several do so together it does not see.
func covering(rules []*jailpb.CompiledRule, i int) *jailpb.CompiledRule {
	r := rules[i]
	next, one := follower(rules[i+1:])
	for _, before := range rules[:i] {
		if !coversTime(before, r) || !coversCallers(before, r) || !coversCommands(before, r) {
			continue
		}
		// A rule that permits passes over requests for another target. A denial
		// after it matters to those if what follows would permit them.
		if before.Deny || r.Deny && (next == nil || one && sameTarget(before, next)) || !r.Deny && sameTarget(before, r) {
			return before
		}
	}
	return nil
}

// follower is the first of the rules that permits, and whether all that permit
// have its target.
func follower(rules []*jailpb.CompiledRule) (first *jailpb.CompiledRule, one bool) {
	for _, r := range rules {
		switch {
		case r.Deny:
		case first == nil:
			first = r
		case !sameTarget(first, r):
			return first, false
		}
	}
	return first, true
}

func coversTime(a, b *jailpb.CompiledRule) bool {
	return a.NotAfter == 0 || b.NotAfter != 0 && b.NotAfter <= a.NotAfter
}

func coversCallers(a, b *jailpb.CompiledRule) bool {
	return a.Everyone || !b.Everyone && subset(b.Groups, a.Groups) && coversUsers(a, b)
}

func coversUsers(a, b *jailpb.CompiledRule) bool {
	for _, u := range b.Users {
		if !slices.ContainsFunc(a.Users, func(v *jailpb.CompiledUser) bool { return v.Uid == u.Uid }) {
			return false
		}
	}
	return true
}

func coversCommands(a, b *jailpb.CompiledRule) bool {
	if len(a.Commands) == 0 || len(b.Commands) == 0 {
		return len(a.Commands) == 0
	}
	for _, c := range b.Commands {
		if !slices.ContainsFunc(a.Commands, func(d *jailpb.CompiledCommand) bool { return coversCommand(d, c) }) {
			return false
		}
	}
	return true
}

func coversCommand(a, b *jailpb.CompiledCommand) bool {
	switch {
	case a.Path != b.Path:
		return false
	case !a.HasArgs:
		return true
	case !b.HasArgs || !a.AnyRest && (b.AnyRest || len(a.Args) != len(b.Args)):
		return false
	}
	return len(a.Args) <= len(b.Args) && slices.EqualFunc(a.Args, b.Args[:len(a.Args)], bytes.Equal)
}

// sameTarget tells whether a request for the target of b, by name or number, is
// one for that of a.
func sameTarget(a, b *jailpb.CompiledRule) bool {
	if a.Caller || b.Caller {
		// A caller's own name is known only to the rule that lists it.
		return a.Caller && b.Caller && coversUsers(a, b)
	}
	return a.User.GetUid() == b.User.GetUid() && a.User.GetName() == b.User.GetName() && a.Gid == b.Gid && a.GroupName == b.GroupName
}

// subset tells whether all that a has is in b.
func subset(a, b []uint32) bool {
	return !slices.ContainsFunc(a, func(n uint32) bool { return !slices.Contains(b, n) })
}
