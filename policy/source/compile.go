package source

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"jailctl/proto/jailpb"
)

const (
	defaultPath  = "/usr/local/bin:/usr/bin:/bin"
	defaultUmask = 0o022
	// noID is what the kernel takes for "leave as it is" where an id is expected.
	noID = math.MaxUint32
	// maxWall is 100 years: more would overflow what a client computes with.
	maxWall = 100 * 366 * 24 * 3600
	// noDump is the limit of bytes that stops core dumps of every kind (core(5)).
	noDump = 1
)

// compile checks what the policy says and makes the compiled form of it. Where
// it notes a problem the form is of no use; it goes on to find the others.
func (c *checker) compile(name string, jail *jailpb.Jail) *jailpb.Compiled {
	out := &jailpb.Compiled{
		Version:          version,
		Name:             name,
		Source:           c.text,
		Description:      jail.Description,
		Root:             jail.Root,
		DefaultCommand:   jail.DefaultCommand,
		Path:             defaultPath,
		WorkingDirectory: "/",
		Umask:            defaultUmask,
		AuditRequired:    jail.AuditRequired,
		End:              end,
	}
	for _, r := range jail.Description {
		if !unicode.IsPrint(r) {
			c.Note(c.At(jail, "description", 0), "write one line of printable text", "description holds %q", string(r))
			break
		}
	}
	c.root(name, jail)
	if jail.DefaultCommand != "" {
		c.absolute(jail, "default_command", jail.DefaultCommand, "the jail")
	}
	if jail.WorkingDirectory != "" {
		c.absolute(jail, "working_directory", jail.WorkingDirectory, "the jail")
		out.WorkingDirectory = jail.WorkingDirectory
	}
	if jail.Umask != nil {
		out.Umask = jail.GetUmask()
	}
	if len(jail.Rules) == 0 && !c.Has(jail, "rules") {
		c.Note(0, "write rules { ... }: who may run what as whom", "there are no rules, so nobody may run anything")
	}
	c.limits(jail.GetLimits(), out)
	c.confine(jail.Confine, out) // the first
	for _, rule := range jail.Rules {
		compiled := c.rule(rule)
		if rule.Confine != nil {
			compiled.Confine = c.confine(rule.Confine, out)
		}
		out.Rules = append(out.Rules, compiled)
	}
	c.environment(jail.GetEnvironment(), out)
	return out
}

// root checks where the jail is.
func (c *checker) root(name string, jail *jailpb.Jail) {
	switch {
	case jail.Root == "/":
		c.Note(c.At(jail, "root", 0), "name a directory that holds the jail alone", `root cannot be "/"`)
	case jail.Root != "":
		c.absolute(jail, "root", jail.Root, "the host")
	case !c.Has(jail, "root"):
		c.Note(0, fmt.Sprintf(`write root: "/srv/jails/%s", or where the jail is`, name), "there is no root")
	}
}

// absolute notes a path that is not absolute, clean and free of control characters.
func (c *checker) absolute(m proto.Message, field, p, inside string) {
	at := c.At(m, field, 0)
	switch {
	case strings.ContainsFunc(p, unicode.IsControl):
		c.Note(at, "use a path without them", "%s %q holds control characters", field, p)
	case !path.IsAbs(p):
		c.Note(at, fmt.Sprintf("write it from the / of %s", inside), "%s %q is not an absolute path", field, p)
	case path.Clean(p) != p:
		c.Note(at, fmt.Sprintf("write %q", path.Clean(p)), "%s %q has an element too many", field, p)
	}
}

func (c *checker) rule(rule *jailpb.Rule) *jailpb.CompiledRule {
	out := &jailpb.CompiledRule{Line: uint32(c.Line(c.At(rule, "", 0))), Deny: rule.Deny}
	if !c.Has(rule, "users") && !c.Has(rule, "groups") {
		c.Note(c.At(rule, "", 0), `write users: "NAME" or groups: "NAME"; "*" is everyone`, "the rule is for nobody")
	}
	var callers []User
	for i, name := range rule.Users {
		if name == "*" {
			out.Everyone = true
		} else if u, ok := c.user(c.At(rule, "users", i), name); ok {
			callers = append(callers, u)
			out.Users = append(out.Users, compiledUser(u))
		}
	}
	for i, name := range rule.Groups {
		if name == "*" {
			out.Everyone = true
		} else if gid, _, ok := c.group(c.At(rule, "groups", i), name); ok {
			out.Groups = append(out.Groups, gid)
		}
	}
	for _, command := range rule.Commands {
		out.Commands = append(out.Commands, c.command(command))
	}
	switch run := rule.RunAs; {
	case rule.Deny && c.Has(rule, "run_as"):
		c.Note(c.At(rule, "run_as", 0), "remove run_as, or remove deny", "a rule that denies has no run_as")
	case rule.Deny && c.Has(rule, "confine"):
		c.Note(c.At(rule, "confine", 0), "remove one of the two", "a rule that denies has nothing to confine")
	case rule.Deny:
	case run != nil:
		c.target(run, out)
		if run.Caller {
			c.rootCallers(rule, callers)
		}
	case !c.Has(rule, "run_as"):
		c.Note(c.At(rule, "", 0), `write run_as { user: "NAME" } or run_as { caller: true }, or deny: true`,
			"the rule does not say whom the command runs as")
	}
	if rule.NotAfter != "" {
		out.NotAfter = c.notAfter(rule)
	}
	return out
}

func compiledUser(u User) *jailpb.CompiledUser {
	return &jailpb.CompiledUser{Uid: u.UID, Name: u.Name, Home: u.Home, Shell: u.Shell}
}

func (c *checker) command(command *jailpb.Command) *jailpb.CompiledCommand {
	out := &jailpb.CompiledCommand{Path: command.Path, HasArgs: command.NoArgs || len(command.Args) > 0}
	switch {
	case command.Path == "/":
		c.Note(c.At(command, "path", 0), "name a program", `path "/" is a directory`)
	case command.Path != "":
		c.absolute(command, "path", command.Path, "the jail")
	case !c.Has(command, "path"):
		c.Note(c.At(command, "", 0), `write path: "/usr/bin/program"`, "the command has no path")
	}
	if command.NoArgs && c.Has(command, "args") {
		c.Note(c.At(command, "no_args", 0), "remove one of the two", "no_args contradicts args")
	}
	for i, arg := range command.Args {
		switch {
		case arg != "*":
			out.Args = append(out.Args, []byte(arg))
		case i == len(command.Args)-1:
			out.AnyRest = true
		default:
			c.Note(c.At(command, "args", i), `write one commands { } for each wording; "*" stands last, for any rest`,
				`"*" is not the last of args`)
		}
	}
	return out
}

// target checks run_as and writes it to out.
func (c *checker) target(run *jailpb.RunAs, out *jailpb.CompiledRule) {
	if run.Caller {
		out.Caller = true
		for _, field := range []string{"user", "group", "groups"} {
			if c.Has(run, field) {
				c.Note(c.At(run, field, 0), "remove one of the two", "%s contradicts caller: the caller brings user and group, and no others", field)
			}
		}
		return
	}
	if !c.Has(run, "user") {
		c.Note(c.At(run, "", 0), `write user: "NAME", or caller: true alone`, "run_as names no user")
	}
	var user User
	known := false
	if run.User != "" {
		at := c.At(run, "user", 0)
		if user, known = c.user(at, run.User); known {
			out.User = compiledUser(user)
			if user.UID == 0 {
				c.Note(at, "name a user with few rights, best one for this jail", "user %q is uid 0: root leaves any chroot", run.User)
				known = false // the primary group is part of the same mistake
			}
		}
	}
	switch {
	case run.Group != "":
		at := c.At(run, "group", 0)
		if gid, name, ok := c.group(at, run.Group); ok {
			out.Gid, out.GroupName = gid, name
			c.notRootGroup(at, gid, "group %q is gid 0", run.Group)
		}
	case known && !c.Has(run, "group") && user.Name == "":
		c.Note(c.At(run, "user", 0), `write group: "NAME" beside it`, "user %s has no account, hence no primary group", run.User)
	case known && !c.Has(run, "group"):
		out.Gid = user.GID
		if _, name, err := c.names.Group(strconv.FormatUint(uint64(user.GID), 10)); err == nil {
			out.GroupName = name
		}
		c.notRootGroup(c.At(run, "user", 0), user.GID, "the primary group of user %q is gid 0", run.User)
	}
	for i, group := range run.Groups {
		at := c.At(run, "groups", i)
		if gid, _, ok := c.group(at, group); ok {
			c.notRootGroup(at, gid, "group %q is gid 0", group)
			if !slices.Contains(out.TargetGroups, gid) {
				out.TargetGroups = append(out.TargetGroups, gid)
			}
		}
	}
}

func (c *checker) notRootGroup(at int, gid uint32, format, name string) {
	if gid == 0 {
		c.Note(at, "name a group with few rights", format, name)
	}
}

// rootCallers notes the named callers who could not be their own target.
func (c *checker) rootCallers(rule *jailpb.Rule, callers []User) {
	for _, u := range callers {
		switch i := slices.Index(rule.Users, u.Written); {
		case u.UID == 0:
			c.Note(c.At(rule, "users", i), "remove the user, or name another target", "with caller: true user %q would run as uid 0", u.Written)
		case u.Name != "" && u.GID == 0:
			c.Note(c.At(rule, "users", i), "remove the user, or name another target", "with caller: true user %q would run as gid 0", u.Written)
		}
	}
}

// notAfter is the first second at which the rule no longer holds.
func (c *checker) notAfter(rule *jailpb.Rule) uint64 {
	at := c.At(rule, "not_after", 0)
	t, err := time.Parse(time.DateOnly, rule.NotAfter)
	if err == nil {
		t = t.AddDate(0, 0, 1)
	} else if t, err = time.Parse(time.RFC3339, rule.NotAfter); err != nil || t.Nanosecond() != 0 {
		c.Note(at, `write a day, "2027-01-31", or an instant, "2027-01-31T18:00:00Z"`, "not_after %q is neither day nor instant", rule.NotAfter)
		return 0
	}
	if t.Unix() <= 0 {
		// 0 would be "for ever" to the helper.
		c.Note(at, "write a later day, or deny: true", "not_after %q is before 1970", rule.NotAfter)
		return 0
	}
	return uint64(t.Unix())
}

var (
	variableName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })
	keepName     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\*?$`) })
)

func (c *checker) environment(env *jailpb.Environment, out *jailpb.Compiled) {
	for i, name := range env.GetKeep() {
		if !keepName().MatchString(name) {
			c.Note(c.At(env, "keep", i), `write letters, digits and _, no digit first; "*" may end it`, "keep %q is no variable's name", name)
		} else if prefix, pattern := strings.CutSuffix(name, "*"); strings.HasPrefix(name, "LD_") || pattern && strings.HasPrefix("LD_", prefix) {
			// LD_PRELOAD and its kin would have every listed command run the caller's code.
			c.Note(c.At(env, "keep", i), "give it a fixed value with set { }", "keep %q would pass the loader's variables, with which a caller runs code of its own", name)
		}
		out.Keep = append(out.Keep, name)
	}
	lines := map[string]int{}
	for _, v := range env.GetSet() {
		at := c.At(v, "name", 0)
		if v.Name == "" {
			if !c.Has(v, "name") {
				c.Note(at, `write name: "NAME"`, "the variable has no name")
			}
			continue
		}
		if !variableName().MatchString(v.Name) {
			c.Note(at, "write letters, digits and _, no digit first", "set %q is no variable's name", v.Name)
		}
		if line, again := lines[v.Name]; again {
			c.Note(at, "keep one of the two", "%s is set in line %d already", v.Name, line)
		}
		lines[v.Name] = c.Line(at)
		out.Set = append(out.Set, []byte(v.Name+"="+v.Value))
		if v.Name == "PATH" {
			out.Path = v.Value
			c.searchPath(v)
		}
	}
}

// searchPath refuses what would make the working directory part of PATH.
func (c *checker) searchPath(v *jailpb.Variable) {
	for dir := range strings.SplitSeq(v.Value, ":") {
		if !path.IsAbs(dir) || path.Clean(dir) != dir {
			c.Note(c.At(v, "value", 0), "write absolute directories of the jail with : between them", "PATH has the element %q", dir)
		}
	}
}

func (c *checker) limits(l *jailpb.Limits, out *jailpb.Compiled) {
	if l == nil {
		l = &jailpb.Limits{}
	}
	// No core dump unless asked for: it would hold what the program had read. 1 is
	// too little for a file as well, and stops what 0 does not: a kernel.core_pattern
	// that hands the dump to a program, outside and as root (core(5)).
	core := l.Core
	if l.GetCore() == 0 {
		core = proto.Uint64(noDump)
	}
	for _, limit := range []struct {
		field    string
		resource uint32
		value    *uint64
		least    uint64 // with less no command can start
	}{
		{"open_files", unix.RLIMIT_NOFILE, l.OpenFiles, 8},
		{"processes", unix.RLIMIT_NPROC, l.Processes, 1},
		{"address_space", unix.RLIMIT_AS, l.AddressSpace, 1 << 20},
		{"file_size", unix.RLIMIT_FSIZE, l.FileSize, 0},
		{"cpu_seconds", unix.RLIMIT_CPU, l.CpuSeconds, 1},
		{"core", unix.RLIMIT_CORE, core, 0},
	} {
		if limit.value == nil {
			continue
		}
		if *limit.value < limit.least {
			c.Note(c.At(l, limit.field, 0), fmt.Sprintf("write at least %d, or remove it", limit.least),
				"with %s %d no command can start", limit.field, *limit.value)
		}
		out.Limits = append(out.Limits, &jailpb.CompiledLimit{Resource: limit.resource, Value: *limit.value})
	}
	if l.WallSeconds != nil && (*l.WallSeconds == 0 || *l.WallSeconds > maxWall) {
		c.Note(c.At(l, "wall_seconds", 0), fmt.Sprintf("write a number from 1 to %d, or remove it", maxWall),
			"wall_seconds cannot be %d", *l.WallSeconds)
	}
	out.WallSeconds = l.GetWallSeconds()
}

// user looks up a user; where that fails it notes why.
func (c *checker) user(at int, name string) (User, bool) {
	u, err := User{}, validName(name)
	if err == nil {
		u, err = c.names.User(name)
	}
	u.Written = name
	return u, c.found(at, "user", name, u.UID, err)
}

// group looks up a group; where that fails it notes why.
func (c *checker) group(at int, name string) (gid uint32, found string, ok bool) {
	err := validName(name)
	if err == nil {
		gid, found, err = c.names.Group(name)
	}
	return gid, found, c.found(at, "group", name, gid, err)
}

func (c *checker) found(at int, kind, name string, id uint32, err error) bool {
	switch {
	case errors.Is(err, errName):
		c.Note(at, "write a name, or a number from 0 to 4294967294", "%q is no name of a %s", name, kind)
	case errors.Is(err, ErrUnknown):
		c.Note(at, "correct the name, or create it first", "there is no %s %q on this host", kind, name)
	case err != nil:
		c.Note(at, "mend the name service, or write the number", "cannot look up %s %q: %v", kind, name, err)
	case id == noID:
		c.Note(at, "write another", "%s %q is 4294967295, which is no id to the kernel", kind, name)
	default:
		return true
	}
	return false
}
