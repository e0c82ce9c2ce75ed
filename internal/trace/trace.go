package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"jailctl/client"
	"jailctl/internal/confine"
	"jailctl/internal/ptrace"
	"jailctl/internal/seccomp"
	"jailctl/ipc"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// A Trace is one run.
type Trace struct {
	Out  io.Writer // a line for each kind of denial, and the summary
	JSON bool
	// Granted, Started and Stopped, where they are not nil, are called when the helper
	// has decided, when the command runs, and when it was stopped; Seen when the
	// terminal sent the command a signal.
	Granted func(ipc.Reply)
	Started func()
	Stopped func()
	Seen    func(unix.Signal)
	// Absent, where it is not nil, is called with each path that a call of a thread did
	// not find: what is not in the jail.
	Absent func(tid int, call, path string)

	x       *explainer
	explain *jailpb.Explanation
	kinds   map[string]*Denial
	groups  map[string]*group // for people: kinds that differ in the arguments alone
	order   []*Denial
	over    int // denials of other kinds than the first most
}

// most is how many kinds of denials are told: more nobody reads, and a hostile command
// could make any number.
const most = 500

// A group is a kind of denial, whatever the arguments.
type group struct {
	first *Denial
	kinds int
	count int
}

// New is a trace of the run that the helper explained so.
func New(explained *jailpb.Explanation) (*Trace, error) {
	compiled, written, err := source.InForce(explained.Confine, explained.Limits)
	if err != nil {
		return nil, err
	}
	x := &explainer{written: written, options: source.Options(written, explained.Limits), who: ptrace.IDs{UID: explained.Uid, GID: explained.Gid, Groups: explained.Groups}}
	if x.judge, err = seccomp.NewJudge(x.options); err != nil {
		return nil, err
	}
	abi, err := confine.Probe()
	if err != nil {
		return nil, err
	}
	x.plan, _ = confine.Plan(compiled.Want, abi)
	return &Trace{x: x, explain: explained, kinds: map[string]*Denial{}, groups: map[string]*group{}}, nil
}

// ErrOthers is for a command that the kernel does not let the caller trace.
var ErrOthers = errors.New("only a command that runs as you can be traced, or any by root")

// Run runs the command to its end. It returns what client.Cmd.Wait would have.
func (t *Trace) Run(cmd *client.Cmd) (syscall.WaitStatus, error) {
	type end struct {
		status syscall.WaitStatus
		err    error
	}
	ended := make(chan end)
	go func() {
		// ptrace(2) is for the one thread that seized.
		runtime.LockOSThread()
		status, err := t.run(cmd)
		ended <- end{status, err}
	}()
	e := <-ended
	var refused *client.Refused
	if errors.As(e.err, &refused) && refused.Outcome == ipc.ExecFailed && refused.Errno == syscall.EACCES {
		t.notExecuted(refused)
	}
	return e.status, e.err
}

func (t *Trace) run(cmd *client.Cmd) (syscall.WaitStatus, error) {
	cmd.StopAtExec = true
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	reply, err := cmd.Granted()
	if err != nil {
		return 0, err
	}
	if t.Granted != nil {
		t.Granted(reply)
	}
	if err := cmd.Running(); err != nil {
		return 0, err
	}
	tr := &ptrace.Tracer{PID: cmd.Pid(), Entered: t.entered, Left: t.left, Stopped: t.Stopped, Seen: t.Seen}
	if err := tr.Seize(); err != nil {
		cmd.Signal(syscall.SIGKILL)
		cmd.Wait(nil)
		if err == unix.EPERM {
			err = errors.New("the kernel does not let you (kernel.yama.ptrace_scope, or a program that the target may not read)")
		}
		return 0, fmt.Errorf("cannot trace: %w", err)
	}
	if t.Started != nil {
		t.Started()
	}
	status, err := tr.Follow()
	cmd.Reap = func() (syscall.WaitStatus, error) { return syscall.WaitStatus(status), err }
	return cmd.Wait(nil)
}

// left is a call that was made.
func (t *Trace) left(tid int, c seccomp.Call, _ int64, errno unix.Errno) {
	switch {
	case errno == 0:
		return
	case errno == unix.ENOENT && t.Absent != nil:
		t.absent(tid, c)
	}
	switch v := t.x.judge.Ask(c); {
	case v == nil:
		t.note(tid, t.x.failed(tid, c, errno))
	case !v.Kill && v.Errno == errno:
		t.note(tid, t.x.filtered(tid, c))
	}
}

// absent tells of what a call did not find. An execve may have found the program and
// not its interpreter.
func (t *Trace) absent(tid int, c seccomp.Call) {
	k := ptrace.Look(tid, c, t.x.judge.Name(c))
	defer k.Root.Close()
	if k.Err != nil {
		return
	}
	for _, name := range k.Paths {
		for {
			f, err := k.Root.Find(name, k.Follows())
			if err != nil && err != unix.ENOENT {
				break
			}
			if !f.Exists {
				t.Absent(tid, k.Name, name)
				break
			}
			if k.Name != "execve" && k.Name != "execveat" {
				break
			}
			if name = k.Root.Interpreter(name); name == "" {
				break
			}
		}
	}
}

// entered is a call that begins; one that kills is looked at now or never.
func (t *Trace) entered(tid int, c seccomp.Call) {
	if t.x.judge.Kills(c) {
		t.note(tid, t.x.filtered(tid, c))
	}
}

// notExecuted explains why the command itself was not: nothing of it was traced.
func (t *Trace) notExecuted(refused *client.Refused) {
	r, err := ptrace.OpenRoot(t.explain.Root)
	if err != nil {
		return
	}
	defer r.Close()
	names := []string{t.explain.Command}
	if !strings.HasPrefix(names[0], "/") {
		names = nil
		for dir := range strings.SplitSeq(t.explain.Path, ":") {
			names = append(names, dir+"/"+t.explain.Command)
		}
	}
	for _, name := range names {
		if f, err := r.Find(name, true); err != nil || !f.Exists {
			continue
		}
		k := &ptrace.Call{Name: "execve", Root: r, Paths: []string{name}, Short: []string{name}}
		d := &Denial{Call: k.Name, What: k.Words(), Error: "EACCES", Rule: Open, nothing: true}
		uses, want := t.x.uses(k)
		if d.Why = t.x.mode(k, want); d.Why == "" && !t.x.unveil(d, uses, refused.Errno) {
			d.Why = "the kernel refuses it"
		}
		t.note(0, d)
		return
	}
}

// note counts a denial and tells of the first of its kind.
func (t *Trace) note(pid int, d *Denial) {
	if d == nil {
		return
	}
	like := strings.Join([]string{d.Call, d.Error, d.Rule, d.Why, d.Add}, "\x00")
	key := like + "\x00" + d.What
	g, have := t.groups[like], t.kinds[key]
	if have == nil && len(t.order) == most {
		if t.over++; t.over == 1 && !t.JSON {
			fmt.Fprintf(t.Out, "jailctl: %d different denials were told; what else is denied is counted\n", most)
		}
		return
	}
	if g == nil {
		g = &group{first: d}
		t.groups[like] = g
	}
	g.count++
	if have != nil {
		have.Count++
		return
	}
	d.Event, d.PID, d.Count = "denied", pid, 1
	t.kinds[key] = d
	t.order = append(t.order, d)
	g.kinds++
	if t.JSON {
		first := *d
		first.Count = 0
		t.object(first)
		return
	}
	if g.first == d && !d.shrugged() {
		fmt.Fprintln(t.Out, "jailctl: denied: "+d.say(true))
	}
}

// shrugged is a call that programs do without when they are told that there is none.
func (d *Denial) shrugged() bool { return d.Error == "ENOSYS" }

// say is a denial in one line, with its arguments or without.
func (d *Denial) say(whole bool) string {
	s := d.Call
	if d.What != "" && whole {
		s += " " + d.What
	}
	s += ": " + d.Error + ", " + d.Rule
	if d.Why != "" {
		s += ": " + d.Why
	}
	switch {
	case d.Add != "":
		s += "; " + d.Add
	case d.Rule != Open:
		s += "; " + nothing
	}
	return s
}

// summary is the last line of JSON.
type summary struct {
	Event   string    `json:"event"` // "summary"
	Denials []*Denial `json:"denials"`
	Left    int       `json:"left_out,omitempty"` // denials that are in none of these
	// Confine is the block that would have let pass what the policy can; empty: the
	// one in force.
	Confine string `json:"confine,omitempty"`
}

// Summarize tells what was denied, each kind once, and the smallest confine block
// that would have let it pass. Of a command that got on without, it says so.
func (t *Trace) Summarize(succeeded bool) {
	opened := 0
	var shrugged []string
	for _, d := range t.order {
		if !d.nothing {
			opened++
		}
		if d.shrugged() && !slices.Contains(shrugged, d.Call) {
			shrugged = append(shrugged, d.Call)
		}
	}
	confine := ""
	if opened > 0 {
		confine = Block(t.smallest(), nil)
	}
	if t.JSON {
		t.object(summary{"summary", append([]*Denial{}, t.order...), t.over, confine})
		return
	}
	if len(t.order) == 0 {
		fmt.Fprintln(t.Out, "jailctl: nothing was denied")
		return
	}
	groups := map[*Denial]*group{}
	for _, g := range t.groups {
		groups[g.first] = g
	}
	for _, d := range t.order {
		if g := groups[d]; g != nil && g.count > 1 && !d.shrugged() {
			fmt.Fprintf(t.Out, "jailctl: %d times %s\n", g.count, d.say(g.kinds == 1))
		}
	}
	if t.over > 0 {
		fmt.Fprintf(t.Out, "jailctl: %d denials that came after %d different ones are left out of what follows; unveil a directory that has them all\n", t.over, most)
	}
	if len(shrugged) > 0 {
		fmt.Fprintln(t.Out, "jailctl: answered with ENOSYS, and programs do without: "+strings.Join(shrugged, ", "))
	}
	if confine != "" && succeeded {
		fmt.Fprintln(t.Out, "jailctl: the command succeeded all the same: it may need less than the following, or nothing")
	}
	if confine != "" {
		fmt.Fprintf(t.Out, "jailctl: this block in %s, for the rule in line %d, would have let pass what the policy can permit:\n%s", t.explain.Policy, t.explain.Line, confine)
	} else {
		fmt.Fprintln(t.Out, "jailctl: nothing in the policy would have let that pass")
	}
}

// smallest is the block in force with what was missing, without promises that others
// make unnecessary.
func (t *Trace) smallest() *jailpb.Confine {
	var all []change
	for _, d := range t.order {
		all = append(all, d.change)
	}
	m := apply(t.x.written, all)
	if m.Promises == nil {
		return m
	}
	var calls []seccomp.Call
	for _, d := range t.order {
		if d.byCall != nil {
			calls = append(calls, *d.byCall)
		}
	}
	words := strings.Fields(*m.Promises)
	for i := len(words) - 1; i >= len(t.x.options.Promises); i-- {
		less := strings.Join(slices.Delete(slices.Clone(words), i, i+1), " ")
		try := proto.CloneOf(m)
		try.Promises = &less
		if seccomp.Permits(source.Options(try, t.explain.Limits), calls...) {
			words, m = strings.Fields(less), try
		}
	}
	return m
}

func (t *Trace) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	t.Out.Write(append(b, '\n'))
}
