package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"jailctl/internal/attack"
	"jailctl/internal/attack/outside"
	"jailctl/internal/paths"
	"jailctl/internal/pty"
	"jailctl/policy"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// An attempt is one attack of `doctor --attack`, and its JSON.
type attempt struct {
	Attack string `json:"attack"`
	What   string `json:"what"`
	Result string `json:"result"`       // "held", "open", "ESCAPED", "na" or "unknown"
	By     string `json:"by,omitempty"` // what is meant to hold it
	How    string `json:"how"`          // the error that the attack got, or why it is open
}

// rehearsal is a jail like another one, in which the probes are permitted: the same
// root, target, confinement, limits and environment.
type rehearsal struct {
	name  string // of the jail that is made for it
	files []string
	world *outside.World
	as    *syscall.Credential
}

// attack tries every escape in a jail, as a caller who may run something there and
// through the installed helper, and says what became of each.
func (p *program) attack(name, as string, asJSON bool) error {
	if !p.root {
		return cannot("sudo jailctl doctor --attack "+name, "attack %q: the probes go into the jail, and only root can put them there", name)
	}
	if !p.apart {
		// The caller's processes can take hold of the jailctl that is run as the caller.
		return p.setApart("attack", pty.ApartName)
	}
	// Everything that is made is taken away again, also after Ctrl-C.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	r, written, err := p.rehearse(name, as)
	if err != nil {
		return err
	}
	defer r.close()
	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command(paths.Bin+"/jailctl", append([]string{"run", r.name, "--", outside.Probe}, args...)...)
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.as, Setsid: true}
		return cmd
	}
	switch o, err := r.world.Try(&attack.Control, start); {
	case err == nil && o.Detail == "SIGSYS":
		return cannot("add rpath to a copy of the policy, and attack that", "attack %q: what it promises is too little for the probe itself, which is killed at its start", name)
	case err != nil || o.Verdict != attack.Escaped:
		return cannot("mend what it says; jailctl doctor looks at the installation", "attack %q: the probe does not run: %w", name, errors.Join(err, errors.New(o.String())))
	}
	var all []attempt
	out := 0
	for _, a := range attack.Attacks {
		if ctx.Err() != nil {
			return cannot("", "attack %q: interrupted", name)
		}
		o, err := r.world.Try(&a, start)
		t := judged(&a, o, err, opened(written))
		if t.Result == "ESCAPED" {
			out++
		}
		all = append(all, t)
	}
	if asJSON {
		p.json(all)
	} else {
		rows := [][]string{{"ATTACK", "RESULT", "HELD BY", "HOW", "WHAT IT TRIES"}}
		for _, t := range all {
			rows = append(rows, []string{t.Attack, t.Result, t.By, t.How, t.What})
		}
		p.table(rows)
	}
	if out > 0 {
		return &trouble{statusNo, fmt.Errorf("%s got out of %q", count(out, "attack"), name), "do not use the jail for what you do not trust; jailctl doctor may say why"}
	}
	return nil
}

// judged puts an outcome into words.
func judged(a *attack.Attack, o attack.Outcome, err error, open attack.Feature) attempt {
	t := attempt{Attack: a.ID, What: a.What, By: a.By, How: o.Detail}
	switch {
	case err != nil:
		t.Result, t.How = "unknown", err.Error()
	case o.Verdict == attack.Held:
		t.Result = "held"
	case o.Verdict == attack.NotApplicable:
		t.Result = "na"
	case a.Open != "":
		t.Result, t.By, t.How = "open", "-", a.Open
	case a.Opened&open != 0:
		t.Result, t.By, t.How = "open", "-", "the policy opens it"
	default:
		t.Result = "ESCAPED"
	}
	return t
}

// opened is what a confinement opens by intent.
func opened(m *jailpb.Confine) (f attack.Feature) {
	switch {
	case m.GetNetworkPorts() != nil && len(m.NetworkPorts.Bind) > 0:
		f |= attack.Binding
	case m.GetNetworkPorts() == nil && m.GetNetwork():
		f |= attack.Network
	}
	if m.GetLocalSockets() {
		f |= attack.LocalSockets
	}
	return f
}

// rehearse makes the jail. The caller is as, or who called sudo, or root.
func (p *program) rehearse(name, as string) (*rehearsal, *jailpb.Confine, error) {
	if !policy.ValidName(name) {
		return nil, nil, cannot("", "attack %q: not a jail's name", name)
	}
	jail, why, err := p.load("attack", name)
	if err != nil {
		return nil, nil, err
	}
	if why != "" {
		return nil, nil, cannot("put it in force with: jailctl apply "+name, "attack %q: %s", name, why)
	}
	if as == "" {
		if as = os.Getenv("SUDO_USER"); as == "" {
			as = "root"
		}
	}
	user, err := p.names.User(as)
	if err != nil {
		return nil, nil, cannot("", "attack %q as %q: %w", name, as, err)
	}
	groups, err := p.groups(user)
	if err != nil {
		return nil, nil, cannot("", "attack %q as %q: cannot learn the groups: %w", name, as, err)
	}
	caller := policy.Caller{UID: user.UID, GID: user.GID, Groups: groups, Now: uint64(time.Now().Unix())}
	rules := jail.Open(caller)
	if len(rules) == 0 {
		return nil, nil, cannot("name a caller: jailctl doctor --attack "+name+" --as USER", "attack %q: no rule permits %s anything", name, as)
	}
	rule := rules[0]
	target := *rule
	if rule.Caller {
		target.Target.UID, target.GID = user.UID, user.GID
	}
	r := &rehearsal{
		name: "doctor-" + strconv.Itoa(os.Getpid()),
		as:   &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: groups},
	}
	compiled := &jailpb.Compiled{}
	text, err := p.read(paths.Compiled(name), source.MaxCompiled)
	if err == nil {
		err = proto.Unmarshal(text, compiled)
	}
	if err != nil {
		return nil, nil, cannot("", "attack %q: %w", name, err)
	}
	written := &jailpb.Confine{}
	confine := compiled.Confines[rule.Confine]
	if err := proto.Unmarshal(confine.Written, written); err != nil {
		return nil, nil, cannot("", "attack %q: %w", name, err)
	}
	// Where parts of the jail are unveiled, so is what the probes need.
	if len(confine.Unveil) > 0 {
		confine.Unveil = append(confine.Unveil, &jailpb.CompiledUnveil{Path: outside.Dir, Access: "rwxc"})
	}
	compiled.Name, compiled.Confines = r.name, []*jailpb.CompiledConfine{confine}
	compiled.Source = []byte("# made by jailctl doctor --attack " + name + ", which removes it\n")
	compiled.Rules = []*jailpb.CompiledRule{{
		Line: rule.Line, Users: []*jailpb.CompiledUser{{Uid: user.UID, Name: user.Name}},
		Commands: []*jailpb.CompiledCommand{{Path: outside.Probe}}, Caller: rule.Caller,
		User: &jailpb.CompiledUser{Uid: target.Target.UID}, Gid: target.GID, TargetGroups: rule.TargetGroups,
	}}
	compiled.WorkingDirectory = "/"
	for _, f := range []struct {
		path    string
		content []byte
	}{{paths.Policy(r.name), compiled.Source}, {paths.Compiled(r.name), source.Encode(compiled)}} {
		r.files = append(r.files, f.path)
		if err := os.WriteFile(f.path, f.content, 0o600); err != nil {
			r.close()
			return nil, nil, cannot("", "attack %q: %w", name, err)
		}
	}
	r.world, err = outside.Setup(outside.Config{
		Root: jail.Root, UID: target.Target.UID, GID: target.GID, Probe: paths.Libexec + "/jailctl-probe",
	})
	if err != nil {
		r.close()
		return nil, nil, cannot("", "attack %q: %w", name, err)
	}
	return r, written, nil
}

// close takes away what was made.
func (r *rehearsal) close() {
	if r.world != nil {
		r.world.Close()
	}
	for _, f := range r.files {
		os.Remove(f)
	}
}
