package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"jailctl/client"
	"jailctl/internal/paths"
	"jailctl/ipc"
	"jailctl/policy"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func (p *program) listCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list [--all] [--json]",
		Short: "the jails that you may run commands in",
		Long: `List the jails that you may run commands in, and what each rule permits you. A
"*" at the end of a command stands for any arguments. The exit status is 1 if
there is no such jail.`,
		Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if all {
				return p.overview(asJSON)
			}
			return p.list(asJSON)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the policies of all jails, and whether they are in force; root only")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of jails in JSON")
	return cmd
}

// jails asks the helper, which alone can read policies, what is open to its caller.
func (p *program) jails() ([]*jailpb.Listing, error) {
	replies, err := p.askHelper(ipc.Request{Verb: ipc.List})
	if err != nil {
		return nil, err
	}
	var all []*jailpb.Listing
	for _, r := range replies {
		l := &jailpb.Listing{}
		if err := proto.Unmarshal(r.Listing, l); err != nil {
			return nil, fmt.Errorf("the helper's answer cannot be read: %w", err)
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *jailpb.Listing) int { return strings.Compare(a.Jail, b.Jail) })
	return all, nil
}

// listed and entry are list's JSON.
type listed struct {
	Jail           string  `json:"jail"`
	Description    string  `json:"description"`
	DefaultCommand string  `json:"default_command"`
	Rules          []entry `json:"rules"`
}

type entry struct {
	// User and Group of the target; both empty where it is the caller.
	User     string   `json:"user"`
	Group    string   `json:"group"`
	Caller   bool     `json:"caller"`
	Commands []string `json:"commands"` // empty: any
	NotAfter string   `json:"not_after,omitempty"`
	Line     uint32   `json:"line"`
}

func (p *program) list(asJSON bool) error {
	jails, err := p.jails()
	if err != nil {
		return cannot("", "list the jails: %w", err)
	}
	all := []listed{}
	for _, j := range jails {
		l := listed{j.Jail, j.Description, j.DefaultCommand, []entry{}}
		for _, e := range j.Entries {
			l.Rules = append(l.Rules, entry{e.User, e.Group, e.User == "", append([]string{}, e.Commands...), instant(e.NotAfter), e.Line})
		}
		all = append(all, l)
	}
	switch {
	case asJSON:
		p.json(all)
	case len(all) == 0:
		p.say("", "no jail is open to you")
	default:
		p.listText(all)
	}
	if len(all) == 0 {
		return told(statusNo)
	}
	return nil
}

func (p *program) listText(all []listed) {
	rows := [][]string{{"JAIL", "COMMAND", "AS", "UNTIL", "DESCRIPTION"}}
	for _, j := range all {
		jail, description := j.Jail, j.Description
		for _, e := range j.Rules {
			as := e.User + ":" + e.Group
			if e.Caller {
				as = "yourself"
			}
			commands := e.Commands
			if len(commands) == 0 {
				commands = []string{"any"}
			}
			for _, c := range commands {
				rows = append(rows, []string{jail, c, as, orDash(e.NotAfter), description})
				jail, description = "", ""
			}
		}
	}
	p.table(rows)
}

func (p *program) explainCommand() *cobra.Command {
	var asJSON bool
	var as string
	q := ipc.Request{Verb: ipc.Explain}
	cmd := &cobra.Command{
		Use:   "explain [--as USER] [--json] [-u USER] [-g GROUP] [-C DIR] JAIL [--] [COMMAND [ARG...]]",
		Short: "what a run would do, and why it may or may not",
		Long: `Say how the policy of JAIL decides about COMMAND, by which rule, and what the
command would get. Nothing is run and the jail is not entered. The exit status is
0 if the run is permitted, 1 if it is denied, 2 if that cannot be told.`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeJail,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"as", "user", "group", "directory"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
					return usage("option --"+name+" needs a value", "usage: "+cmd.UseLine())
				}
			}
			q.Jail, q.Argv = args[0], args[1:]
			if len(q.Argv) > 0 && q.Argv[0] == "--" {
				q.Argv = q.Argv[1:]
			}
			return p.explain(q, as, asJSON)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&asJSON, "json", false, "print one object in JSON")
	f.StringVar(&as, "as", "", "decide for `USER` in your place; root only")
	f.StringVarP(&q.User, "user", "u", "", "`USER`, name or number, that the command is to run as")
	f.StringVarP(&q.Group, "group", "g", "", "`GROUP`, name or number, that the command is to run as")
	f.StringVarP(&q.Dir, "directory", "C", "", "`DIR` inside the jail to start in")
	for name, option := range map[string]string{"as": "-u", "user": "-u", "group": "-g", "directory": "-C"} {
		cmd.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return p.completeValue(option)
		})
	}
	return cmd
}

// explanation is explain's JSON; a denial has the first four fields only.
type explanation struct {
	Jail string `json:"jail"`
	// Decision is "permitted", "denied", or "refused": permitted by the policy, but
	// this kernel cannot keep the confinement.
	Decision string `json:"decision"`
	Reason   string `json:"reason,omitempty"`
	Rule     string `json:"rule,omitempty"` // FILE:LINE
	Granted  *grant `json:"grant,omitempty"`
	*confinement
	// fault is why the root cannot be entered, which only root can tell.
	fault error
}

type grant struct {
	Root        string            `json:"root"`
	UID         uint32            `json:"uid"`
	User        string            `json:"user"`
	GID         uint32            `json:"gid"`
	Group       string            `json:"group"`
	Groups      []uint32          `json:"groups"`
	Command     string            `json:"command"`
	Argv        []string          `json:"argv"`
	Path        string            `json:"path"`
	Directory   string            `json:"directory"`
	Environment []string          `json:"environment"`
	Umask       string            `json:"umask"`
	Limits      map[string]uint64 `json:"limits"`
	WallSeconds uint64            `json:"wall_seconds,omitempty"`
	NotAfter    string            `json:"not_after,omitempty"`
}

func (p *program) explain(q ipc.Request, as string, asJSON bool) error {
	var x *jailpb.Explanation
	e := explanation{Jail: q.Jail, Decision: "denied"}
	var err error
	if as != "" {
		x, e.Reason, e.Rule, err = p.decideAs(q, as)
	} else {
		q.Env = os.Environ()
		x, e.Reason, err = p.decideByHelper(q)
	}
	if err != nil {
		return err
	}
	if x != nil {
		e.Decision, e.Rule = "permitted", fmt.Sprintf("%s:%d", x.Policy, x.Line)
		e.Granted = p.grant(x)
		abi, err := p.landlock()
		if err == nil {
			e.confinement, err = confined(x, abi)
		}
		if err != nil {
			return cannot("", "explain %q: %w", q.Jail, err)
		}
		if e.refusal != "" {
			e.Decision, e.Reason = "refused", e.refusal
		}
		if p.root {
			_, e.fault = enter(q.Jail, x.Root)
		}
	}
	if asJSON {
		p.json(e)
	} else {
		p.explainText(e)
	}
	if e.Decision != "permitted" {
		return told(statusNo)
	}
	return nil
}

// decideByHelper asks the helper; a reason in place of an explanation is a denial.
func (p *program) decideByHelper(q ipc.Request) (*jailpb.Explanation, string, error) {
	replies, err := p.askHelper(q)
	var refused *client.Refused
	switch {
	case errors.As(err, &refused) && refused.Outcome == ipc.Refused:
		return nil, refused.Text, nil
	case err != nil:
		return nil, "", cannot("", "explain %q: %w", q.Jail, err)
	case len(replies) != 1:
		return nil, "", cannot("", "explain %q: the helper gave no answer", q.Jail)
	}
	x := &jailpb.Explanation{}
	if err := proto.Unmarshal(replies[0].Explanation, x); err != nil {
		return nil, "", cannot("", "explain %q: the helper's answer cannot be read: %w", q.Jail, err)
	}
	return x, "", nil
}

// decideAs decides as the helper would if the user called it. What the user's
// environment has is not known, so the environment is what it is without.
func (p *program) decideAs(q ipc.Request, as string) (x *jailpb.Explanation, reason, rule string, err error) {
	if !p.root {
		return nil, "", "", cannot("run it as root, or leave --as away to ask for yourself", "explain for another: only root may")
	}
	if !policy.ValidName(q.Jail) {
		return nil, "", "", cannot("", "explain %q: not a jail's name", q.Jail)
	}
	user, err := p.names.User(as)
	if err != nil {
		return nil, "", "", cannot("", "explain for %q: %w", as, err)
	}
	if user.Name == "" {
		return nil, "", "", cannot("name a user with an account, whose groups are known", "explain for uid %s: it has no account", as)
	}
	groups, err := p.groups(user)
	if err != nil {
		return nil, "", "", cannot("", "explain for %q: cannot learn the groups: %w", as, err)
	}
	jail, why, err := p.load("explain", q.Jail)
	if err != nil {
		return nil, "", "", err
	}
	if why != "" {
		return nil, why + "; put it in force with: jailctl apply " + q.Jail, "", nil
	}
	caller := policy.Caller{UID: user.UID, GID: user.GID, Groups: groups, Now: uint64(time.Now().Unix())}
	g, denied := policy.Decide(jail, caller, policy.Request{Argv: q.Argv, User: q.User, Group: q.Group, Dir: q.Dir})
	if denied != nil {
		if denied.Line != 0 {
			rule = fmt.Sprintf("%s:%d", paths.Policy(q.Jail), denied.Line)
		}
		return nil, strings.Replace(denied.Reason, "names you", "names "+as, 1), rule, nil
	}
	x = &jailpb.Explanation{
		Policy: paths.Policy(q.Jail), Line: g.Line, Root: g.Root, Uid: g.UID, Gid: g.GID, Groups: g.Groups,
		Command: g.Command, Directory: g.Dir, Umask: g.Umask, WallSeconds: g.Wall, NotAfter: g.NotAfter, Path: g.Path,
	}
	for _, a := range g.Argv {
		x.Argv = append(x.Argv, []byte(a))
	}
	for _, v := range g.Env {
		x.Environment = append(x.Environment, []byte(v))
	}
	x.Confine = &jailpb.CompiledConfine{}
	if err := proto.Unmarshal(g.Confine.Raw, x.Confine); err != nil {
		return nil, "", "", cannot("", "explain %q: %w", q.Jail, err)
	}
	for _, l := range g.Limits {
		x.Limits = append(x.Limits, &jailpb.CompiledLimit{Resource: uint32(l.Resource), Value: l.Value})
	}
	return x, "", "", nil
}

// load is the policy of a jail that is in force, as the helper loads it, or why
// it is not.
func (p *program) load(verb, name string) (jail *policy.Jail, why string, err error) {
	text, err := p.read(paths.Policy(name), source.MaxText)
	if err != nil {
		return nil, "", p.unreadable(verb, name, err)
	}
	compiled, err := p.read(paths.Compiled(name), source.MaxCompiled)
	if err != nil {
		return nil, "no policy is in force", nil
	}
	jail, err = policy.Decode(compiled)
	switch {
	case err != nil || jail.Name != name:
		return nil, "what is in force is damaged", nil
	case string(jail.Source) != string(text):
		return nil, "the policy was edited and is not in force", nil
	}
	return jail, "", nil
}

// grant puts an explanation into words; numbers get the names they have here.
func (p *program) grant(x *jailpb.Explanation) *grant {
	g := &grant{
		Root: x.Root, UID: x.Uid, GID: x.Gid, Groups: append([]uint32{}, x.Groups...), Command: x.Command, Path: x.Path,
		Directory: x.Directory, Umask: fmt.Sprintf("%04o", x.Umask), Limits: map[string]uint64{},
		WallSeconds: x.WallSeconds, NotAfter: instant(x.NotAfter), Argv: []string{}, Environment: []string{},
	}
	if u, err := p.names.User(strconv.FormatUint(uint64(x.Uid), 10)); err == nil {
		g.User = u.Name
	}
	if _, name, err := p.names.Group(strconv.FormatUint(uint64(x.Gid), 10)); err == nil {
		g.Group = name
	}
	for _, a := range x.Argv {
		g.Argv = append(g.Argv, string(a))
	}
	for _, v := range x.Environment {
		g.Environment = append(g.Environment, string(v))
	}
	for _, l := range x.Limits {
		g.Limits[source.LimitName(l.Resource)] = l.Value
	}
	return g
}

func (p *program) explainText(e explanation) {
	rows := [][]string{{"jail", e.Jail}, {"decision", e.Decision}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("reason", e.Reason)
	add("rule", e.Rule)
	if g := e.Granted; g != nil {
		target := fmt.Sprintf("%s:%s (uid %d, gid %d)", orDash(g.User), orDash(g.Group), g.UID, g.GID)
		for i, gid := range g.Groups {
			_, name, _ := p.names.Group(strconv.FormatUint(uint64(gid), 10))
			target += []string{", groups ", ", "}[min(i, 1)] + source.NameAndNumber(name, gid)
		}
		add("target", target)
		add("root", g.Root)
		if e.fault != nil {
			add("", fmt.Sprintf("cannot be entered: %v", e.fault))
		}
		command := quotedWords(append([]string{g.Command}, g.Argv[min(1, len(g.Argv)):]...))
		if !strings.HasPrefix(g.Command, "/") {
			command += ", looked up on " + g.Path
		}
		add("command", command)
		add("directory", g.Directory)
		for i, v := range g.Environment {
			add([]string{"environment", ""}[min(i, 1)], v)
		}
		add("umask", "0"+strings.TrimLeft(g.Umask, "0"))
		var limits []string
		for name, value := range g.Limits {
			limits = append(limits, fmt.Sprintf("%s %d", name, value))
		}
		slices.Sort(limits)
		add("limits", strings.Join(limits, ", "))
		add("until", g.NotAfter)
		rows = append(rows, e.rows()...)
	}
	p.table(rows)
}

// json prints one value. What is not UTF-8 loses the bytes that are not.
func (p *program) json(v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		p.fail(fmt.Errorf("internal error: %w", err))
		return
	}
	p.write(append(b, '\n'))
}

// instant is a time of the compiled form; "" is never.
func instant(seconds uint64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// quotedWords is a command line in which each word can be told apart.
func quotedWords(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w
		if w == "" || !utf8.ValidString(w) || strings.ContainsAny(w, " \t\n\"'\\$`*?[]{}()<>|&;#!~") {
			all[i] = strconv.Quote(w)
		}
	}
	return strings.Join(all, " ")
}
