package trace

import (
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"jailctl/internal/confine"
	"jailctl/internal/ptrace"
	"jailctl/internal/seccomp"
	"jailctl/proto/jailpb"
)

// The rules that deny; Open is for what no rule of the confinement denies.
const (
	Baseline  = "seccomp baseline"
	Promise   = "missing promise"
	Network   = "network closed"
	Ports     = "network_ports"
	Unveil    = "Landlock unveil"
	Scope     = "Landlock scope"
	LandPorts = "Landlock ports"
	Open      = "not the confinement"
)

const nothing = "nothing opens this: it leads out"

// A Denial is one kind of denial.
type Denial struct {
	Event string `json:"event"` // "denied"
	PID   int    `json:"pid"`
	Call  string `json:"call"`
	What  string `json:"what,omitempty"` // of the arguments, in words
	Error string `json:"error"`          // EPERM …, or "killed"
	Rule  string `json:"rule"`
	Why   string `json:"why,omitempty"`
	// Add is the line for the policy; empty: nothing opens it.
	Add   string `json:"add,omitempty"`
	Count int    `json:"count,omitempty"` // in the summary

	change  change
	byCall  *seccomp.Call // denied by the filter, and opened by promises
	nothing bool          // nothing to add
}

// An explainer knows the confinement of a command.
type explainer struct {
	written *jailpb.Confine
	options seccomp.Options
	judge   *seccomp.Judge
	plan    confine.Enforcement
	who     ptrace.IDs
}

// filtered is what the seccomp filter denies, nil: nothing.
func (x *explainer) filtered(tid int, c seccomp.Call) *Denial {
	v := x.judge.Ask(c)
	if v == nil {
		return nil
	}
	k := ptrace.Look(tid, c, x.judge.Name(c))
	defer k.Root.Close()
	d := &Denial{Call: k.Name, What: k.Words(), Error: "killed", Why: v.Holds}
	if d.Call == "" {
		d.Call = "call " + strconv.Itoa(int(c.Nr))
	}
	if !v.Kill {
		d.Error = unix.ErrnoName(v.Errno)
	}
	if v.Why != "" {
		d.Why += " (" + v.Why + ")"
	}
	d.Rule = Baseline
	if v.Holds == "" {
		d.Rule = Promise
	}
	if v.Opens == nil {
		d.nothing = true
		return d
	}
	d.change = widened(x.options, *v.Opens)
	d.byCall = &c
	switch {
	case d.change.noPorts || len(d.change.bind) > 0:
		d.Rule = Ports
	case d.change.network || d.change.local:
		d.Rule = Network
	}
	// What Landlock would say next, so that one round is enough.
	if uses, want := x.uses(k); k.Err == nil && x.mode(k, want) == "" {
		rule := d.Rule
		x.unveil(d, uses, unix.EACCES)
		d.Rule = rule
	}
	d.Add = d.change.line(x.written)
	return d
}

// failed explains a call that the filter permits and that failed; nil: that is no
// denial.
func (x *explainer) failed(tid int, c seccomp.Call, errno unix.Errno) *Denial {
	if errno != unix.EACCES && errno != unix.EPERM && errno != unix.EXDEV {
		return nil
	}
	k := ptrace.Look(tid, c, x.judge.Name(c))
	defer k.Root.Close()
	d := &Denial{Call: k.Name, What: k.Words(), Error: unix.ErrnoName(errno), Rule: Open, nothing: true}
	if k.Err != nil {
		d.Why = "where it leads cannot be told: " + k.Err.Error()
		return d
	}
	switch k.Name {
	case "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo":
		return x.signal(k, d)
	case "connect", "bind", "sendto":
		return x.socket(k, d, errno)
	}
	uses, want := x.uses(k)
	if why := x.mode(k, want); why != "" {
		d.Why = why
		return d
	}
	if x.unveil(d, uses, errno) {
		return d
	}
	if errno == unix.EXDEV {
		return nil // two file systems
	}
	d.Why = fmt.Sprintf("the kernel refuses it to uid %d", x.who.UID)
	if errno == unix.EACCES && len(k.Paths) > 0 {
		d.Why += ", or an access list or security module does"
	}
	return d
}

// mode is the denial by a file's mode, which the kernel looks at first.
func (x *explainer) mode(k *ptrace.Call, want []uint32) string {
	for i, p := range k.Paths {
		bits := uint32(0)
		if i < len(want) {
			bits = want[i]
		}
		why := ""
		if bits == ptrace.Changes { // a directory's entry
			f, err := k.Root.Find(p, false)
			if err != nil {
				return ""
			}
			why = k.Root.Forbidden(x.who, f.Parent(), true, 3)
		} else {
			why = k.Root.Forbidden(x.who, p, k.Follows(), bits)
		}
		if why != "" {
			return fmt.Sprintf("%s, and the command is uid %d, gid %d", why, x.who.UID, x.who.GID)
		}
	}
	return ""
}

// A use is what Landlock asks for a call: rights on a path, and where a rule that
// gives them belongs.
type use struct {
	path   string
	rights uint64
	at     string
}

// uses are what Landlock asks for a call under the plan, and the modes that the
// kernel asks of each path before.
func (x *explainer) uses(k *ptrace.Call) (uses []use, want []uint32) {
	asked, want := k.Uses()
	for _, u := range asked {
		if u.Like != "" {
			u.Rights |= x.plan.Rights(u.Like)
		}
		if u.Rights&unix.LANDLOCK_ACCESS_FS_EXECUTE == 0 {
			u.At = x.belongs(u.At)
		}
		uses = append(uses, use{u.Path, u.Rights, u.At})
	}
	return uses, want
}

// belongs is where an unveil for an existing file or directory is to be: itself, or the
// unveiled directory above it in which things are made and removed, and this one
// perhaps in each run.
func (x *explainer) belongs(path string) string {
	best := ""
	for _, r := range x.plan.Rules {
		if r.Path != "/" && r.Path != path && confine.Beneath(path, r.Path) && r.Rights&unix.LANDLOCK_ACCESS_FS_REMOVE_FILE != 0 && len(r.Path) > len(best) {
			best = r.Path
		}
	}
	if best == "" {
		return path
	}
	return best
}

// unveil explains by Landlock what it does.
func (x *explainer) unveil(d *Denial, uses []use, errno unix.Errno) bool {
	if errno == unix.EPERM {
		return false // never of files
	}
	never := false
	for _, u := range uses {
		missing := u.rights & x.plan.FS &^ x.plan.Rights(u.path)
		if missing == 0 {
			continue
		}
		access, whole := confine.Letters(missing)
		never = never || !whole
		i := slices.IndexFunc(d.change.unveil, func(p confine.Path) bool { return p.Path == u.at })
		if i < 0 {
			d.change.unveil = append(d.change.unveil, confine.Path{Path: u.at, Access: Letters(access, "")})
			continue
		}
		d.change.unveil[i].Access = Letters(d.change.unveil[i].Access, access)
	}
	if never {
		d.Rule, d.Why, d.change, d.nothing = Unveil, "device nodes are made by nobody in a jail", change{}, true
		return true
	}
	if len(d.change.unveil) == 0 {
		return false
	}
	d.Rule, d.nothing = Unveil, false
	d.Add = d.change.line(x.written)
	return true
}

// signal explains a signal that was not sent.
func (x *explainer) signal(k *ptrace.Call, d *Denial) *Denial {
	pid := int32(k.Args[0])
	owner := uint32(0)
	var st unix.Stat_t
	if pid > 0 && unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) == nil {
		owner = st.Uid
	}
	if pid > 0 && owner != x.who.UID || x.plan.Scope&unix.LANDLOCK_SCOPE_SIGNAL == 0 {
		d.Why = fmt.Sprintf("the process is not of uid %d", x.who.UID)
		return d
	}
	d.Rule, d.Why = Scope, "signals reach no process outside of this run"
	return d
}

// socket explains what was not connected, bound or sent.
func (x *explainer) socket(k *ptrace.Call, d *Denial, errno unix.Errno) *Denial {
	to, err := k.Address()
	if err != nil {
		d.Why = "where it leads cannot be told"
		if err == ptrace.ErrNoAddress {
			d.Why = "the kernel refuses it"
		}
		return d
	}
	switch to.Family {
	case unix.AF_INET, unix.AF_INET6:
		port := to.Port
		d.What = "port " + strconv.Itoa(int(port))
		right, list := uint64(unix.LANDLOCK_ACCESS_NET_CONNECT_TCP), x.plan.Connect
		if k.Name == "bind" {
			right, list = unix.LANDLOCK_ACCESS_NET_BIND_TCP, x.plan.Bind
		}
		if errno == unix.EACCES && x.plan.Net&right != 0 && !slices.Contains(list, port) {
			d.Rule, d.nothing = LandPorts, false
			if k.Name == "bind" {
				d.change.bind = []uint32{uint32(port)}
			} else {
				d.change.connect = []uint32{uint32(port)}
			}
			d.Add = d.change.line(x.written)
			return d
		}
		d.Why = fmt.Sprintf("the kernel refuses it to uid %d: ports below 1024 are root's", x.who.UID)
		if port >= 1024 || k.Name != "bind" {
			d.Why = "the kernel or its packet filter refuses it"
		}
	case unix.AF_UNIX:
		if to.Abstract {
			d.What = "abstract socket " + strconv.Quote("@"+to.Name)
			if errno == unix.EPERM && x.plan.Scope&unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET != 0 {
				d.Rule, d.Why = Scope, "abstract sockets of processes outside of this run are closed"
				return d
			}
			break
		}
		d.What = strconv.Quote(to.Name)
		if err := k.Socket(to.Name); err != nil {
			d.Why = "where it leads cannot be told: " + err.Error()
			return d
		}
		uses, want := x.uses(k)
		if why := x.mode(k, want); why != "" {
			d.Why = why
			return d
		}
		if x.unveil(d, uses, errno) {
			return d
		}
		d.Why = "the kernel refuses it"
	}
	return d
}
