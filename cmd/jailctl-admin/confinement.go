package main

import (
	"fmt"
	"slices"
	"strings"

	"jailctl/internal/confine"
	"jailctl/internal/seccomp"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// keeps names a confinement and what keeps it.
type keeps struct {
	What string `json:"what"`
	By   string `json:"by"`
}

// lost names something that a kernel older than Kernel does not keep, and what
// happens there.
type lost struct {
	What    string `json:"what"`
	Kernel  string `json:"kernel"`
	Instead string `json:"instead"`
}

// process is what /proc/PID/status will say of the command, proc_pid_status(5).
type process struct {
	UID          uint32   `json:"uid"` // real, effective, saved and of the file system
	GID          uint32   `json:"gid"`
	Groups       []uint32 `json:"groups"`
	Capabilities string   `json:"capabilities"` // all five sets but the bounding one
	NoNewPrivs   int      `json:"no_new_privs"`
	Seccomp      int      `json:"seccomp"`         // mode; 2 is a filter
	Filters      int      `json:"seccomp_filters"` // beside those that jailctl itself was started under
}

// confinement is what holds the command on a kernel with this Landlock.
type confinement struct {
	Kept    []keeps  `json:"confinement"`
	Process *process `json:"process"`
	// Missing is what this kernel cannot keep; the run is refused unless Degrade.
	Missing []lost `json:"missing"`
	// Older is what kernels older than some would not.
	Older   []lost `json:"older_kernels"`
	Degrade bool   `json:"degrade"`
	refusal string
}

// confined says what the helper will do with an explanation's confinement: the
// plan is made by the helper's own function, and the filter in force is compared
// with what its description compiles to.
func confined(x *jailpb.Explanation, abi int) (*confinement, error) {
	c, written, err := source.InForce(x.Confine, x.Limits)
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.Explain(source.Options(written, x.Limits))
	if err != nil {
		return nil, err
	}

	plan, missing := confine.Plan(c.Want, abi)
	_, all := confine.Plan(c.Want, 0)
	out := &confinement{
		Kept: []keeps{
			{"sees no file outside of " + x.Root + " by name", "chroot(2)"},
			{fmt.Sprintf("is uid %d and gid %d for good", x.Uid, x.Gid), "setresuid(2), setresgid(2), setgroups(2)"},
			{"gains nothing from set-uid files", "no_new_privs, prctl(2)"},
			{"has no open files but 0, 1 and 2", "close_range(2)"},
		},
		Process: &process{
			UID: x.Uid, GID: x.Gid, Groups: append([]uint32{}, x.Groups...), Capabilities: "none",
			NoNewPrivs: 1, Seccomp: 2, Filters: 1,
		},
		Missing: lack(missing), Older: lack(all), Degrade: c.Want.Degrade,
	}
	if c.Once != 0 {
		out.Process.Filters++
	}
	if plan.Refuse {
		out.refusal = confine.Refusal(missing)
	}
	out.Kept = append(out.Kept, landlocked(x.Root, c.Want, plan)...)
	for _, line := range filter {
		out.Kept = append(out.Kept, keeps{line.Holds, "seccomp(2): " + strings.Join(line.By, "; ")})
	}
	if len(x.Limits) > 0 {
		out.Kept = append(out.Kept, keeps{"keeps the limits", "setrlimit(2)"})
	}
	if x.WallSeconds > 0 {
		out.Kept = append(out.Kept, keeps{"is ended after " + count(int(x.WallSeconds), "second"), "jailctl alone: a convenience, no defence"})
	}
	return out, nil
}

// landlocked puts a plan into words.
func landlocked(root string, w confine.Want, plan confine.Enforcement) (all []keeps) {
	if plan.ABI == 0 {
		return nil
	}
	by := fmt.Sprintf("Landlock %d, landlock(7)", plan.ABI)
	add := func(format string, args ...any) { all = append(all, keeps{fmt.Sprintf(format, args...), by}) }
	if w.Unveil == nil {
		add("reaches no file outside of %s by other ways: descriptors, directories that are moved out", root)
	}
	for _, p := range w.Unveil {
		s := "reaches in the jail " + p.Path + ", to " + access(p.Access)
		if p.Optional {
			s += ", if it is there"
		}
		add("%s", s)
	}
	if len(w.Unveil) > 0 {
		add("reaches no other file, inside or outside")
	}
	if plan.Scope&confine.ScopeSignal != 0 {
		add("signals and traces no process outside")
	}
	if plan.Scope&confine.ScopeAbstract != 0 {
		add("connects to no abstract Unix socket of a process outside")
	}
	if plan.Net != 0 && w.TCP == confine.Must {
		add("connects to TCP ports: %s; binds: %s", list(plan.Connect), list(plan.Bind))
	} else if plan.Net != 0 {
		add("connects to and binds no TCP port")
	}
	return all
}

// access spells out the letters of an unveil.
func access(letters string) string {
	words := map[rune]string{'r': "read", 'w': "write", 'x': "execute", 'c': "create and remove"}
	var all []string
	for _, l := range letters {
		all = append(all, words[l])
	}
	return strings.Join(all, ", ")
}

func list(ports []uint16) string {
	if len(ports) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(ports), "[]")
}

func lack(missing []confine.Missing) []lost {
	all := []lost{}
	slices.SortStableFunc(missing, func(a, b confine.Missing) int { return a.ABI - b.ABI })
	for _, m := range missing {
		all = append(all, lost{m.What, m.Kernel, m.Instead})
	}
	return all
}

// rows are the confinement as explain prints it.
func (c *confinement) rows() (rows [][]string) {
	add := func(name, value string) { rows = append(rows, []string{name, value}) }
	for i, k := range c.Kept {
		by := k.By
		if strings.HasPrefix(by, "seccomp") { // the calls are in --json
			by, _, _ = strings.Cut(by, ": ")
		}
		add([]string{"confinement", ""}[min(i, 1)], k.What+" - "+by)
	}
	for i, m := range c.Missing {
		add([]string{"NOT KEPT HERE", ""}[min(i, 1)], m.What+": "+m.Instead+" (kept from Linux "+m.Kernel+" on)")
	}
	for i, m := range c.Older {
		instead := "the run is refused"
		if c.Degrade {
			instead = m.Instead
		}
		add([]string{"older kernels", ""}[min(i, 1)], "before Linux "+m.Kernel+": "+m.What+": "+instead)
	}
	return rows
}
