package learn

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/internal/trace"
	"jailctl/proto/jailpb"
)

// passedOn are the variables that change what programs print, and nothing else.
var passedOn = []string{"LANG", "LANGUAGE", "LC_*", "TERM", "TZ"}

const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// policy is the text of the policy.
func (d *draft) policy() ([]byte, error) {
	program := d.program(d.programs[0])
	if !writable(program) {
		return nil, fmt.Errorf("a policy cannot name %q: it is not printable", program)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("description: %s", literal(path.Base(program)+", as learned"))
	line("root: %s", literal("/srv/jails/"+d.Jail))
	line("")
	line("# The first rule that matches caller and command decides; no rule matches: denied.")
	line("rules {")
	line("  users: %s", literal(d.who()))
	line("  commands { path: %s }  # %s, with any arguments", literal(program), d.name(1))
	line("  run_as { caller: true }  # better a user of its own, who then owns the state")
	line("}")
	d.environment(line)
	if d.begins() && writable(d.Dir) {
		line("working_directory: %s", literal(d.Dir))
	}
	if d.Umask != 0o022 {
		line("umask: 0%03o", d.Umask)
	}
	line("")
	m, notes := d.confinement()
	b.WriteString(trace.Block(m, notes))
	if len(d.refused) > 0 {
		line("\n# No jail permits these, and the run made them. Most programs do without:")
		for _, r := range d.refused {
			line("#   %s: %s (%s)", r.call, r.why, d.name(r.step))
		}
	}
	if len(d.unixUsed) > 0 {
		line("\n# Unix sockets that the run connected or bound; one of a process outside is in the jail")
		line("# only if it is made there:")
		for _, name := range d.unixUsed {
			line("#   %s", quoted(name))
		}
	}
	if d.blind > 0 {
		line("\n# %d calls of programs that %s may not read could not be looked into.", d.blind, word(d.who()))
	}
	text := b.String()
	return []byte("# proto-file: proto/policy.proto\n# proto-message: Jail\n#\n" +
		d.head("It permits what the run needed, and nothing else.", text) + text), nil
}

// begins reports whether it matters where the command begins.
func (d *draft) begins() bool {
	return d.usesDir && d.Dir != "/" && (d.tree[d.Dir] != nil || d.state(d.Dir) != nil)
}

// command is the command line for the jail, where a program has a name without a slash
// that is on the PATH, or else a whole path.
func (d *draft) command() string {
	var words []string
	if d.begins() && !writable(d.Dir) {
		words = append(words, "-C", d.Dir)
	}
	p, argv := d.programs[0], slices.Clone(d.Steps[0].Argv)
	name := d.program(p)
	if strings.Contains(argv[0], "/") || name != p.name || !slices.Contains(strings.Split(d.path(), ":"), path.Dir(name)) {
		argv[0] = name
	}
	line := "jailctl run"
	for _, w := range append(append(words, d.Jail), argv...) {
		line += " " + shell(w)
	}
	return line
}

// path is the PATH of the jail.
func (d *draft) path() string {
	for _, v := range slices.Backward(d.Env) {
		if value, ok := strings.CutPrefix(v, "PATH="); ok && utf8.ValidString(value) {
			return d.useful(value)
		}
	}
	return d.useful(defaultPath)
}

// writable reports whether a policy can have a path.
func writable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

func (d *draft) environment(line func(string, ...any)) {
	has := func(pattern string) bool {
		prefix, star := strings.CutSuffix(pattern, "*")
		return slices.ContainsFunc(d.Env, func(v string) bool {
			return star && strings.HasPrefix(v, prefix) || strings.HasPrefix(v, prefix+"=")
		})
	}
	var lines []string
	for _, name := range passedOn {
		if has(name) {
			lines = append(lines, "  keep: "+literal(name))
		}
	}
	var others []string
	for _, v := range d.Env {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case !utf8.ValidString(value):
		case name == "PATH":
			if value := d.useful(value); value != d.useful(defaultPath) {
				lines = append(lines, "  set { name: \"PATH\" value: "+literal(value)+" }")
			}
		case name == "HOME" && value != d.User.Home:
			lines = append(lines, "  set { name: \"HOME\" value: "+literal(value)+" }")
		case slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "_"}, name):
		case slices.ContainsFunc(passedOn, func(p string) bool { ok, _ := path.Match(p, name); return ok }):
		default:
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		for i := range others {
			others[i] = word(others[i])
		}
		line("# The run had these too, which the command in the jail does not get:")
		for len(others) > 0 {
			n := min(len(others), 6)
			line("#   %s", strings.Join(others[:n], " "))
			others = others[n:]
		}
	}
	if len(lines) > 0 {
		line("environment {\n%s\n}", strings.Join(lines, "\n"))
	}
}

// useful are the directories of a PATH that there are in the jail.
func (d *draft) useful(value string) string {
	var dirs []string
	for dir := range strings.SplitSeq(value, ":") {
		if path.IsAbs(dir) && !slices.Contains(dirs, dir) && (d.tree[path.Clean(dir)] != nil || d.state(dir) != nil) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, ":")
}

// confinement is the smallest one, and what to say of its lines.
func (d *draft) confinement() (*jailpb.Confine, map[string]string) {
	m, notes := &jailpb.Confine{}, map[string]string{}
	needs := maps.Clone(d.needs)
	if len(d.unixUsed) > 0 {
		maps.Copy(needs, d.unix)
	}
	var all [][][]string
	for _, key := range slices.Sorted(maps.Keys(needs)) {
		all = append(all, needs[key].alternatives)
	}
	words := seccomp.Least(all)
	promises := strings.Join(words, " ")
	m.Promises = &promises
	m.LocalSockets = slices.Contains(words, "unix")
	m.Network = slices.Contains(words, "inet") || slices.Contains(words, "dns")
	notes["promises"] = d.promised(words, needs)
	if m.Network && d.inet != nil {
		notes["network"] = d.name(d.inet.step) + ": " + d.inet.call
	}
	if m.LocalSockets && len(d.unixUsed) > 0 {
		notes["local_sockets"] = quoted(d.unixUsed[0])
	}
	if m.Network && !d.datagram && len(d.connect)+len(d.bind) > 0 {
		m.NetworkPorts = &jailpb.NetworkPorts{Connect: slices.Sorted(maps.Keys(d.connect)), Bind: slices.Sorted(maps.Keys(d.bind))}
		for _, step := range d.connect {
			notes["network_ports"] = d.name(step) + " connects"
		}
		for _, step := range d.bind {
			notes["network_ports"] = d.name(step) + " binds"
		}
	}
	for _, u := range d.unveils(notes) {
		m.Unveil = append(m.Unveil, &jailpb.Unveil{Path: u.Path, Access: u.Access})
	}
	return m, notes
}

// promised says of each word which step needed it, by the first call that nothing but
// the word permits, or that it permits.
func (d *draft) promised(words []string, needs map[string]*need) string {
	var lines []string
	for _, w := range words {
		var first *need
		alone := false
		for _, key := range slices.Sorted(maps.Keys(needs)) {
			n := needs[key]
			permits, others := false, false
			for _, combination := range n.alternatives {
				promised := !slices.ContainsFunc(combination, func(c string) bool { return !slices.Contains(words, c) })
				with := slices.Contains(combination, w)
				permits, others = permits || promised && with, others || promised && !with
			}
			if permits && (first == nil || !others && !alone || others != alone && n.step < first.step) {
				first, alone = n, !others
			}
		}
		if first != nil {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", w, d.name(first.step), first.call))
		}
	}
	return strings.Join(lines, "\n")
}

// unveils are the paths that the run needed: state directories as a whole, and others
// by the rule that more than many with the same letters beneath a directory are one for
// the directory, if it is not one such as /usr.
func (d *draft) unveils(notes map[string]string) []confine.Path {
	letters, steps := map[string]string{}, map[string]int{}
	add := func(at, access string, step int) {
		if letters[at] == "" || step < steps[at] {
			steps[at] = step
		}
		letters[at] = trace.Letters(letters[at], access)
	}
	for at, r := range d.rights {
		access, _ := confine.Letters(r.landlock)
		// Without what was compiled, python reads the module itself.
		if dir, _, ok := strings.Cut(at, "/__pycache__"); ok {
			at = dir
		}
		if s := d.state(at); s != nil {
			at = s.path
		} else if d.tree[at] == nil {
			continue
		}
		for !writable(at) {
			at = path.Dir(at)
		}
		add(at, access, r.step)
	}
	for dir, step := range d.creates {
		if s := d.state(dir); s != nil {
			add(s.path, "c", step)
		}
	}
	// Who moves a file may not gain rights by it.
	for range d.likes {
		for _, pair := range d.likes {
			at, like := pair[0], pair[1]
			for _, p := range []*string{&at, &like} {
				if s := d.state(*p); s != nil {
					*p = s.path
				}
			}
			if letters[at] != "" && letters[like] != "" {
				add(at, letters[like], steps[at])
			}
		}
	}
	for _, access := range []string{"r", "rx"} {
		n := map[string]int{}
		for at, have := range letters {
			if have == access {
				climb(at, func(dir string) bool { n[dir]++; return true })
			}
		}
		for _, dir := range deepest(n) {
			if n[dir] <= many {
				continue
			}
			step := len(d.Steps)
			for at, have := range letters {
				if have == access && beneath(at, dir) {
					step = min(step, steps[at])
					delete(letters, at)
				}
			}
			add(dir, access, step)
			climb(dir, func(above string) bool { n[above] -= n[dir] - 1; return true })
		}
	}
	var all []confine.Path
	for _, at := range slices.Sorted(maps.Keys(letters)) {
		all = append(all, confine.Path{Path: at, Access: letters[at]})
	}
	all = trace.Fewest(trace.With(nil, all...), 0)
	for _, u := range all {
		notes[u.Path] = d.name(steps[u.Path])
	}
	return all
}
