package source

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"jailctl/proto/jailpb"
)

// maxWork bounds the comparisons of rules that Changes makes.
const maxWork = 1 << 24

// Changes says in words, a line each, what differs between two compiled policies
// of one jail: who gains and who loses what, then the rest. Either may be nil,
// for a jail that is new or goes away.
//
// Rights are compared as the rules decide them for each caller that a rule
// names. Who is in which group is not known here, so a right that a caller has
// through a group is told of the group. A rule that decides nothing, now or ever
// again, gives no right and denies nothing.
func Changes(old, new *jailpb.Compiled, now time.Time) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case old == nil && new == nil:
		return nil
	case old == nil:
		add("the jail is new, its root is %q", new.Root)
		return append(lines, rights(&jailpb.Compiled{}, new, now)...)
	case new == nil:
		add("the jail is gone, nobody may run anything in it")
		return append(lines, rights(old, &jailpb.Compiled{}, now)...)
	}
	lines = rights(old, new, now)
	text := func(what, a, b string) {
		if a != b {
			add("%s is now %s, was %s", what, quoted(b), quoted(a))
		}
	}
	text("the root", old.Root, new.Root)
	text("the description", old.Description, new.Description)
	text("the default command", old.DefaultCommand, new.DefaultCommand)
	text("the working directory", old.WorkingDirectory, new.WorkingDirectory)
	text("the PATH of bare names", old.Path, new.Path)
	for _, name := range missing(new.Keep, old.Keep) {
		add("the caller's variable %s is now kept", name)
	}
	for _, name := range missing(old.Keep, new.Keep) {
		add("the caller's variable %s is no longer kept", name)
	}
	before, after := variables(old), variables(new)
	for _, name := range sortedKeys(before, after) {
		a, wasSet := before[name]
		b, isSet := after[name]
		switch {
		case !wasSet:
			add("the variable %s is now set to %q", name, b)
		case !isSet:
			add("the variable %s is no longer set", name)
		case a != b:
			add("the variable %s is now %q, was %q", name, b, a)
		}
	}
	was, is := limitValues(old), limitValues(new)
	for _, name := range sortedKeys(was, is) {
		if was[name] != is[name] {
			add("the limit %s is now %s, was %s", name, cmp.Or(is[name], "not set"), cmp.Or(was[name], "not set"))
		}
	}
	if old.Umask != new.Umask {
		add("the umask is now %#o, was %#o", new.Umask, old.Umask)
	}
	if old.AuditRequired != new.AuditRequired {
		add("a run without an audit line is now %s", map[bool]string{true: "refused", false: "permitted"}[new.AuditRequired])
	}
	wasHeld, isHeld := facts(confineOf(old, 0)), facts(confineOf(new, 0))
	for i, f := range isHeld {
		if f != wasHeld[i] {
			add("%s, was %s", strings.Replace(f, ": ", " is now ", 1), strings.SplitN(wasHeld[i], ": ", 2)[1])
		}
	}
	a, b := accounts(old), accounts(new)
	for _, uid := range sortedKeys(a, b) {
		if a[uid] != nil && b[uid] != nil && !proto.Equal(a[uid], b[uid]) {
			add("the account of uid %d is now %s, was %s", uid, account(b[uid]), account(a[uid]))
		}
	}
	return lines
}

// party is a caller that rules name. The zero party is everyone.
type party struct {
	kind string // "", "user" or "group"
	id   uint32
}

// right is one thing that a rule can permit to a party.
type right struct{ command, target string }

// plainRule is a rule with its parts in words, which are the same for the same part.
type plainRule struct {
	parties  []party
	commands []string // none: any
	target   string   // "" where it denies
	until    string
	confine  string // "" where it is the jail's
}

const anyCommand = "any command"

// rights says who gains and who loses what between two policies.
func rights(old, new *jailpb.Compiled, now time.Time) []string {
	label := map[party]string{{}: "everyone"}
	before, after := plain(old, label, now), plain(new, label, now)
	distinguish(label)
	parties, all := map[party]bool{{}: true}, map[right]bool{}
	for _, r := range slices.Concat(before, after) {
		for _, p := range r.parties {
			parties[p] = true
		}
		for _, command := range r.each() {
			if r.target != "" {
				all[right{command, r.target}] = true
			}
		}
	}
	if len(parties)*len(all)*(len(before)+len(after)) > maxWork {
		return []string{"the rules name too many callers and commands to compare them one by one"}
	}
	// change is the sentence about one right of a party; empty: nothing changed.
	change := func(p party, r right) string {
		a, confinedA := decide(before, p, r)
		b, confinedB := decide(after, p, r)
		switch {
		case a != "" && b != "" && confinedA != confinedB:
			return strings.TrimSpace("may still run %s as %s"+b) + ", now with " + cmp.Or(confinedB, "the jail's confinement")
		case a == b:
			return ""
		case a == "" && confinedB != "":
			return strings.TrimSpace("may now run %s as %s"+b) + ", with " + confinedB
		case a == "":
			return strings.TrimSpace("may now run %s as %s" + b)
		case b == "":
			return "may no longer run %s as %s"
		default:
			return "may now run %s as %s " + ends(b) + ", not " + ends(a)
		}
	}
	var lines []string
	ordered := slices.SortedFunc(maps.Keys(parties), func(a, b party) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(label[a], label[b]), cmp.Compare(a.id, b.id))
	})
	for _, p := range ordered {
		said := map[string][]string{} // sentence -> commands
		for r := range all {
			how := change(p, r)
			// What everyone gains, or what comes with any command, is told once.
			if how == "" || p != (party{}) && how == change(party{}, r) ||
				r.command != anyCommand && all[right{anyCommand, r.target}] && how == change(p, right{anyCommand, r.target}) {
				continue
			}
			key := strings.Replace(how, "as %s", "as "+strings.ReplaceAll(r.target, "%", "%%"), 1)
			said[key] = append(said[key], r.command)
		}
		for _, how := range slices.Sorted(maps.Keys(said)) {
			slices.Sort(said[how])
			lines = append(lines, label[p]+" "+fmt.Sprintf(how, strings.Join(said[how], ", ")))
		}
	}
	lines = append(lines, denials(before, after, label)...)
	if len(lines) == 0 && !sameRules(active(old, now), active(new, now)) {
		lines = append(lines, "the rules stand otherwise, or in another order: this can matter to callers whom several of them name")
	}
	return lines
}

// decide is what the first rule that matches says: "" for denied, otherwise a
// blank, or when the right ends; and its own confinement. A rule about some commands
// does not decide on any command.
func decide(rules []plainRule, p party, r right) (until, confine string) {
	for _, rule := range rules {
		if !slices.Contains(rule.parties, p) && !slices.Contains(rule.parties, party{}) {
			continue
		}
		if len(rule.commands) > 0 && !slices.Contains(rule.commands, r.command) {
			continue
		}
		if rule.target == "" {
			return "", ""
		}
		if rule.target == r.target {
			return " " + rule.until, rule.confine
		}
	}
	return "", ""
}

// ends says when a right that decide returned ends.
func ends(decided string) string {
	return cmp.Or(strings.TrimSpace(decided), "for ever")
}

// denials says which denying rules came and went.
func denials(before, after []plainRule, label map[party]string) []string {
	collect := func(rules []plainRule) map[string]bool {
		said := map[string]bool{}
		for _, r := range rules {
			for _, p := range r.parties {
				for _, command := range r.each() {
					if r.target == "" {
						said[fmt.Sprintf("%s|%s %s", label[p], command, r.until)] = true
					}
				}
			}
		}
		return said
	}
	was, is := collect(before), collect(after)
	var lines []string
	for _, key := range sortedKeys(was, is) {
		who, what, _ := strings.Cut(strings.TrimSpace(key), "|")
		switch {
		case !was[key]:
			lines = append(lines, who+" is now denied "+what)
		case !is[key]:
			lines = append(lines, who+" is no longer denied "+what)
		}
	}
	return lines
}

// active are the rules that decide something.
func active(c *jailpb.Compiled, now time.Time) (rules []*jailpb.CompiledRule) {
	for i, r := range c.Rules {
		if !idle(c.Rules, i, now) {
			rules = append(rules, r)
		}
	}
	return rules
}

// plain puts the active rules of a policy into words and gives each party a label.
func plain(c *jailpb.Compiled, label map[party]string, now time.Time) []plainRule {
	// The compiled form has the numbers of groups; their names are in its source.
	written := &jailpb.Jail{}
	if prototext.Unmarshal(c.Source, written) != nil {
		written = nil
	}
	var rules []plainRule
	for i, r := range c.Rules {
		if idle(c.Rules, i, now) {
			continue
		}
		var p plainRule
		if r.Everyone {
			p.parties = append(p.parties, party{})
		}
		for _, u := range r.Users {
			who := party{"user", u.Uid}
			label[who] = "user " + userName(u)
			p.parties = append(p.parties, who)
		}
		var groups, targetGroups []string
		if i < len(written.GetRules()) {
			groups = slices.DeleteFunc(slices.Clone(written.Rules[i].Groups), func(g string) bool { return g == "*" })
			targetGroups = written.Rules[i].GetRunAs().GetGroups()
		}
		for j, gid := range r.Groups {
			who := party{"group", gid}
			label[who] = fmt.Sprintf("group %d", gid)
			if len(groups) == len(r.Groups) {
				label[who] = "group " + groups[j]
			}
			p.parties = append(p.parties, who)
		}
		for _, command := range r.Commands {
			p.commands = append(p.commands, commandLine(command))
		}
		if !r.Deny {
			p.target = target(r, targetGroups)
		}
		if r.NotAfter != 0 {
			p.until = "until " + time.Unix(int64(r.NotAfter), 0).UTC().Format(time.RFC3339)
		}
		if r.Confine != 0 {
			p.confine = "its own confinement: " + strings.ReplaceAll(strings.Join(facts(confineOf(c, r.Confine)), "; "), "%", "%%")
		}
		rules = append(rules, p)
	}
	return rules
}

// confineOf is the confinement that was compiled to c's at an index.
func confineOf(c *jailpb.Compiled, index uint32) *jailpb.Confine {
	m := &jailpb.Confine{}
	if int(index) < len(c.Confines) {
		if err := proto.Unmarshal(c.Confines[index].Written, m); err != nil {
			return &jailpb.Confine{}
		}
	}
	return m
}

// facts are what a confinement says, one for each field, always in the same order.
func facts(m *jailpb.Confine) []string {
	open := map[bool]string{true: "open", false: "closed"}
	network := open[m.Network]
	if p := m.NetworkPorts; p != nil {
		network = fmt.Sprintf("TCP, connecting to ports %v and binding %v", p.Connect, p.Bind)
	}
	promises := "everything but what leads out"
	if m.Promises != nil {
		promises = strings.Join(strings.Fields(*m.Promises), " ")
	}
	unveil := "the whole jail"
	for i, u := range m.Unveil {
		if i == 0 {
			unveil = ""
		}
		unveil += fmt.Sprintf("%s%q for %s", []string{"", ", "}[min(i, 1)], u.Path, u.Access)
		if u.Optional {
			unveil += " if it is there"
		}
	}
	return []string{
		"the network: " + network,
		"local sockets: " + open[m.LocalSockets],
		"what is promised: " + promises,
		"what happens to the rest: " + m.Violation.String(),
		"what is unveiled: " + unveil,
		"on a kernel that cannot keep it: " + map[bool]string{true: "run all the same", false: "refuse"}[m.Degrade],
	}
}

func (r plainRule) each() []string {
	if len(r.commands) == 0 {
		return []string{anyCommand}
	}
	return r.commands
}

// distinguish adds the number to a label that two parties share.
func distinguish(label map[party]string) {
	count := map[string]int{}
	for _, l := range label {
		count[l]++
	}
	for p, l := range label {
		if count[l] > 1 {
			label[p] = fmt.Sprintf("%s (%d)", l, p.id)
		}
	}
}

// userName is how a person knows the user.
func userName(u *jailpb.CompiledUser) string {
	return cmp.Or(u.GetName(), fmt.Sprintf("uid %d", u.GetUid()))
}

// target is whom a rule lets commands run as; groups are its TargetGroups as written.
func target(r *jailpb.CompiledRule, groups []string) string {
	if r.Caller {
		return "the caller"
	}
	s := userName(r.User) + ":" + cmp.Or(r.GroupName, fmt.Sprint(r.Gid))
	for i, gid := range r.TargetGroups {
		name := ""
		if len(groups) == len(r.TargetGroups) {
			name = groups[i]
		}
		s += []string{" with groups ", ", "}[min(i, 1)] + NameAndNumber(name, gid)
	}
	return s
}

// NameAndNumber is a user or group as "daemon (1)"; "1" where it has no name.
func NameAndNumber(name string, id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	if name == "" || name == number {
		return number
	}
	return name + " (" + number + ")"
}

// commandLine is a command as one would type it; * is any rest.
func commandLine(c *jailpb.CompiledCommand) string {
	words := []string{c.Path}
	for _, arg := range c.Args {
		words = append(words, shellWord(string(arg)))
	}
	if c.AnyRest || !c.HasArgs {
		words = append(words, "*")
	}
	return strings.Join(words, " ")
}

// shellWord quotes what a shell would not take as it is.
func shellWord(s string) string {
	special := func(r rune) bool {
		plain := '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !plain && !strings.ContainsRune("%+-./:=@_,", r)
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func account(u *jailpb.CompiledUser) string {
	return fmt.Sprintf("%s, home %q, shell %q", userName(u), u.Home, u.Shell)
}

// accounts are the accounts that a policy names, by number.
func accounts(c *jailpb.Compiled) map[uint32]*jailpb.CompiledUser {
	all := map[uint32]*jailpb.CompiledUser{}
	for _, r := range c.Rules {
		for _, u := range append(slices.Clone(r.Users), r.User) {
			if u != nil {
				all[u.Uid] = u
			}
		}
	}
	return all
}

func variables(c *jailpb.Compiled) map[string]string {
	all := map[string]string{}
	for _, v := range c.Set {
		name, val, _ := bytes.Cut(v, []byte("="))
		all[string(name)] = string(val)
	}
	return all
}

// LimitName is a limit as policies call it.
func LimitName(resource uint32) string {
	name, ok := map[uint32]string{
		unix.RLIMIT_NOFILE: "open_files", unix.RLIMIT_NPROC: "processes", unix.RLIMIT_AS: "address_space",
		unix.RLIMIT_FSIZE: "file_size", unix.RLIMIT_CPU: "cpu_seconds", unix.RLIMIT_CORE: "core",
	}[resource]
	if !ok {
		return fmt.Sprintf("resource %d", resource)
	}
	return name
}

func limitValues(c *jailpb.Compiled) map[string]string {
	all := map[string]string{}
	for _, l := range c.Limits {
		all[LimitName(l.Resource)] = fmt.Sprint(l.Value)
	}
	if c.WallSeconds != 0 {
		all["wall_seconds"] = fmt.Sprint(c.WallSeconds)
	}
	return all
}

// sameRules compares rules without the lines they stand in.
func sameRules(a, b []*jailpb.CompiledRule) bool {
	bare := func(r *jailpb.CompiledRule) *jailpb.CompiledRule {
		r = proto.CloneOf(r)
		r.Line, r.Confine = 0, 0 // told before
		return r
	}
	return slices.EqualFunc(a, b, func(x, y *jailpb.CompiledRule) bool { return proto.Equal(bare(x), bare(y)) })
}

func missing(from, in []string) []string {
	return slices.DeleteFunc(slices.Clone(from), func(s string) bool { return slices.Contains(in, s) })
}

func sortedKeys[K cmp.Ordered, V any](a, b map[K]V) []K {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func quoted(s string) string {
	if s == "" {
		return "not set"
	}
	return fmt.Sprintf("%q", s)
}
