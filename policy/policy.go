// Package policy decides. It is pure: it reads no file, asks no kernel, and
// compares numbers that `jailctl apply` resolved before.
//
// The rule of decision: the first rule that matches caller and command decides;
// no rule matches: denied.
package policy

import (
	"strconv"
	"strings"

	"jailctl/internal/confine"
)

// Jail is a policy in force, as Decode reads it. See proto/compiled.proto for
// what each field means.
type Jail struct {
	Name           string
	Source         []byte
	Description    string
	Root           string
	Rules          []Rule
	DefaultCommand string
	Keep           []string
	Set            []string
	Path           string
	Dir            string
	Limits         []Limit
	Umask          uint32
	Wall           uint64
	AuditRequired  bool
	Confines       []Confine // the first is the jail's
}

// Rule is one rule with its names resolved.
type Rule struct {
	Line         uint32
	Deny         bool
	Everyone     bool
	Users        []User
	Groups       []uint32
	Commands     []Command
	Target       User
	GID          uint32
	GroupName    string
	Caller       bool
	TargetGroups []uint32
	NotAfter     uint64
	Confine      int // index into Jail.Confines
}

// Confine is what holds a command after the drop.
type Confine struct {
	Program []byte       // the seccomp filter, for package load
	Once    uint32       // what execve(2) gives the command itself; 0: it may execute others
	Want    confine.Want // of Landlock
	Raw     []byte       // all of it, encoded
}

// User is a user as the name service knew it at `jailctl apply`.
type User struct {
	UID               uint32
	Name, Home, Shell string
}

// Command is one permitted command.
type Command struct {
	Path    string
	Args    []string
	HasArgs bool
	AnyRest bool
}

// Limit is one setrlimit(2) call, soft and hard alike.
type Limit struct {
	Resource int
	Value    uint64
}

// Caller is who asks, and when: all of it from the kernel.
type Caller struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // getgroups(2); GID need not be among them
	Now    uint64   // seconds since the epoch
}

// Request is what the caller asks for, believed in nothing.
type Request struct {
	Argv        []string
	User, Group string
	Dir         string
	Env         []string // "NAME=VALUE"
	Assign      []string // "NAME=VALUE"
}

// Grant is the permission to run one command, and all that is needed to do so.
// Only Decide makes one. UID and GID are never 0.
type Grant struct {
	Line     uint32
	Root     string
	UID, GID uint32
	Groups   []uint32
	Command  string // absolute, or a bare name to look up on Path after the drop
	Path     string
	Argv     []string
	Env      []string
	Dir      string
	Umask    uint32
	Limits   []Limit
	Wall     uint64
	NotAfter uint64
	Confine  *Confine
}

// Denied says why there is no Grant.
type Denied struct {
	// Reason is for the log, and for the caller where Told is set.
	Reason string
	// Line of the rule that decided or came nearest; 0: none.
	Line uint32
	// Told: some rule permits this caller something, so the reason reveals
	// nothing to a stranger.
	Told bool
}

// defaultPath is where bare command names are looked up when the policy sets no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// ValidName reports whether s can name a jail: [a-z0-9][a-z0-9_.-]{0,62}. It has
// no slash and does not begin with a dot, so it cannot lead out of a directory.
func ValidName(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// CleanAbs reports whether s is absolute and spelled in the one way that names
// no element "", "." or "..", and has no NUL.
func CleanAbs(s string) bool {
	if s == "/" {
		return true
	}
	if s == "" || s[0] != '/' || strings.IndexByte(s, 0) >= 0 {
		return false
	}
	for s != "" {
		elem, rest, _ := strings.Cut(s[1:], "/")
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
		if len(rest) == 0 {
			return s[len(s)-1] != '/'
		}
		s = s[1+len(elem):]
	}
	return true
}

// Named reports whether a rule of j permits c anything, now or at some time:
// the condition for being told anything about the jail.
func (j *Jail) Named(c Caller) bool {
	for i := range j.Rules {
		r := &j.Rules[i]
		if !r.names(c) {
			continue
		}
		if !r.Deny {
			return true
		}
		if len(r.Commands) == 0 && r.NotAfter == 0 {
			return false // nothing after it can ever be reached
		}
	}
	return false
}

// Open returns the rules that permit c something now, in order.
func (j *Jail) Open(c Caller) []*Rule {
	var open []*Rule
	for i := range j.Rules {
		r := &j.Rules[i]
		if !r.names(c) || r.ended(c.Now) {
			continue
		}
		if r.Deny && len(r.Commands) == 0 {
			break // nothing after it can be reached
		}
		if !r.Deny {
			open = append(open, r)
		}
	}
	return open
}

// Decide applies j to a request: the first rule that matches caller and command
// decides; no rule matches: denied. Where the caller asks for a target, a rule
// with another target does not match; a denying rule has none and matches all.
// Exactly one of the results is set.
func Decide(j *Jail, c Caller, q Request) (*Grant, *Denied) {
	told := j.Named(c)
	deny := func(line uint32, reason string) (*Grant, *Denied) {
		return nil, &Denied{Reason: reason, Line: line, Told: told}
	}

	argv := q.Argv
	if len(argv) == 0 {
		if j.DefaultCommand == "" {
			return deny(0, "no command was given and the policy has no default_command")
		}
		argv = []string{j.DefaultCommand}
	}
	if argv[0] == "" || strings.IndexByte(argv[0], '/') >= 0 && !CleanAbs(argv[0]) {
		return deny(0, "command "+strconv.Quote(argv[0])+" must be a bare name or a clean absolute path inside the jail")
	}
	if q.Dir != "" && q.Dir[0] != '/' {
		return deny(0, "directory "+strconv.Quote(q.Dir)+" must be an absolute path inside the jail")
	}

	// The nearest miss is the reason that helps most; a later rule that comes
	// equally near does not replace it.
	miss := Denied{Reason: "no rule names you", Told: told}
	near := 0
	missed := func(how int, r *Rule, reason string) {
		if how > near {
			near, miss.Line, miss.Reason = how, r.Line, reason
		}
	}
	for i := range j.Rules {
		r := &j.Rules[i]
		if !r.names(c) {
			continue
		}
		command, how := r.command(argv, j.searchPath())
		if r.ended(c.Now) {
			if !r.Deny && how == matches && r.target(c, q) {
				missed(5, r, "the rule that permitted it has ended")
			} else if !r.Deny {
				missed(1, r, "the rule that names you has ended")
			}
			continue
		}
		if how != matches {
			if !r.Deny && how == wrongArgs {
				missed(3, r, "these arguments are not permitted")
			} else if !r.Deny {
				missed(2, r, "command "+strconv.Quote(argv[0])+" is not permitted")
			}
			continue
		}
		if r.Deny {
			return deny(r.Line, "denied by rule")
		}
		if !r.target(c, q) {
			missed(4, r, "target "+strconv.Quote(q.User+":"+q.Group)+" is not permitted")
			continue
		}
		return j.grant(r, c, q, command, argv, deny)
	}
	return nil, &miss
}

// names reports whether the rule is about the caller.
func (r *Rule) names(c Caller) bool {
	if r.Everyone {
		return true
	}
	for i := range r.Users {
		if r.Users[i].UID == c.UID {
			return true
		}
	}
	for _, g := range r.Groups {
		if g == c.GID {
			return true
		}
		for _, have := range c.Groups {
			if g == have {
				return true
			}
		}
	}
	return false
}

func (r *Rule) ended(now uint64) bool { return r.NotAfter != 0 && now >= r.NotAfter }

// How near a rule's command list comes to a command.
const (
	wrongCommand = iota
	wrongArgs
	matches
)

// command returns what to execute, and whether the rule's list has it. A bare
// name stands for each listed path that is that name in a directory of the
// search path, tried in the path's order; no file is touched to find out.
func (r *Rule) command(argv []string, path string) (string, int) {
	if len(r.Commands) == 0 {
		return argv[0], matches
	}
	how := wrongCommand
	try := func(full string) bool {
		for i := range r.Commands {
			c := &r.Commands[i]
			if c.Path != full {
				continue
			}
			if c.permits(argv[1:]) {
				how = matches
				return true
			}
			how = wrongArgs
		}
		return false
	}
	if argv[0][0] == '/' {
		try(argv[0])
		return argv[0], how
	}
	for path != "" {
		var dir string
		dir, path, _ = strings.Cut(path, ":")
		full := strings.TrimSuffix(dir, "/") + "/" + argv[0]
		if try(full) {
			return full, how
		}
	}
	return "", how
}

// permits compares arguments: exact ones, then any rest where the list ends in "*".
func (c *Command) permits(args []string) bool {
	if !c.HasArgs {
		return true
	}
	if len(args) < len(c.Args) || len(args) > len(c.Args) && !c.AnyRest {
		return false
	}
	for i := range c.Args {
		if args[i] != c.Args[i] {
			return false
		}
	}
	return true
}

// target reports whether the rule's target is the one asked for, if one was.
func (r *Rule) target(c Caller, q Request) bool {
	uid, name, gid, group := r.Target.UID, r.Target.Name, r.GID, r.GroupName
	if r.Caller {
		u := r.user(c)
		uid, name, gid, group = c.UID, u.Name, c.GID, ""
	}
	return asked(q.User, uid, name) && asked(q.Group, gid, group)
}

func asked(want string, id uint32, name string) bool {
	return want == "" || want == name || want == strconv.FormatUint(uint64(id), 10)
}

// user is the caller as the rule's own list knows it: the name service is not
// asked when a command starts.
func (r *Rule) user(c Caller) User {
	for _, u := range r.Users {
		if u.UID == c.UID {
			return u
		}
	}
	return User{UID: c.UID}
}

// grant fills in what follows from the rule. deny ends it where the request
// asks for what the policy does not give, or the target would be root.
func (j *Jail) grant(r *Rule, c Caller, q Request, command string, argv []string,
	deny func(uint32, string) (*Grant, *Denied),
) (*Grant, *Denied) {
	g := &Grant{
		Line: r.Line, Root: j.Root, UID: r.Target.UID, GID: r.GID, Groups: r.TargetGroups,
		Command: command, Path: j.searchPath(), Argv: argv, Dir: j.Dir, Umask: j.Umask,
		Limits: j.Limits, Wall: j.Wall, NotAfter: r.NotAfter, Confine: &j.Confines[r.Confine],
	}
	who := r.Target
	if r.Caller {
		who = r.user(c)
		g.UID, g.GID = c.UID, c.GID
	}
	// Whatever the file says: root is never a target, in no id.
	const none = 1<<32 - 1
	if g.UID == 0 || g.GID == 0 || g.UID == none || g.GID == none {
		return deny(r.Line, "the target would be root")
	}
	for _, id := range g.Groups {
		if id == 0 || id == none {
			return deny(r.Line, "the target would be in root's group")
		}
	}
	if q.Dir != "" {
		g.Dir = q.Dir
	}
	var refused string
	if g.Env, refused = j.environment(who, q); refused != "" {
		return deny(r.Line, "the policy does not keep the variable "+strconv.Quote(refused))
	}
	return g, nil
}

func (j *Jail) searchPath() string {
	if j.Path == "" {
		return defaultPath
	}
	return j.Path
}

// environment builds the command's environment, the later source winning: the
// target's own, what the policy keeps of the caller's, what the caller assigns,
// what the policy sets. refused is the first name assigned that is not kept.
func (j *Jail) environment(who User, q Request) (env []string, refused string) {
	put := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		for i, e := range env {
			if strings.HasPrefix(e, name) && e[len(name)] == '=' {
				env[i] = entry
				return
			}
		}
		env = append(env, entry)
	}
	put("PATH=" + j.searchPath())
	home, shell := who.Home, who.Shell
	if home == "" {
		home = "/"
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	put("HOME=" + home)
	put("SHELL=" + shell)
	if who.Name != "" {
		put("USER=" + who.Name)
		put("LOGNAME=" + who.Name)
	}
	for _, e := range q.Env {
		if name, _, ok := strings.Cut(e, "="); ok && j.keeps(name) {
			put(e)
		}
	}
	for _, e := range q.Assign {
		name, _, _ := strings.Cut(e, "=")
		if !j.keeps(name) {
			return nil, name
		}
		put(e)
	}
	for _, e := range j.Set {
		put(e)
	}
	return env, ""
}

// keeps reports whether the policy passes the caller's variable called name.
func (j *Jail) keeps(name string) bool {
	for _, k := range j.Keep {
		if prefix, ok := strings.CutSuffix(k, "*"); ok && strings.HasPrefix(name, prefix) && isName(name) || k == name {
			return true
		}
	}
	return false
}

// isName reports whether a pattern may match s: letters, digits and underscores.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '_' {
			return false
		}
	}
	return s != ""
}
