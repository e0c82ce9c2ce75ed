package seccomp

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Call is what a filter sees of a system call.
type Call struct {
	Arch uint32 // AUDIT_ARCH_…
	Nr   uint32
	Args [6]uint64
}

// A Judge says what Compile's program for some options, and the filter of load.Once
// where there is one, answer to a call, and why: from the same tables.
type Judge struct {
	options Options
	numbers map[string]int
	names   map[int]string
	table   *table
	granted map[int][]granted // the grants' rules, by number
}

// granted is a rule of a grant, with the combinations of words that each give it.
type granted struct {
	rule
	words [][]string
}

// Verdict is the answer to a call that is not permitted.
type Verdict struct {
	Errno unix.Errno // 0: Kill
	Kill  bool
	// Holds is what the baseline holds, as Explain has it; empty: the call is not
	// promised.
	Holds string
	Why   string // the rule's condition in words
	// Opens are the options with the least more that permit it; nil: nothing does.
	Opens *Options
}

// NewJudge is for the options of a policy.
func NewJudge(o Options) (*Judge, error) {
	if what, fix := o.Contradiction(); what != "" {
		return nil, errors.New(what + ": " + fix)
	}
	t, err := o.table()
	if err != nil {
		return nil, err
	}
	j := &Judge{options: o, table: t, names: map[int]string{}, granted: map[int][]granted{}}
	j.numbers, _, _ = tableOf(o.arch())
	for name, nr := range j.numbers {
		j.names[nr] = name
	}
	for _, g := range grants {
		var words [][]string
		for alternative := range strings.FieldsSeq(g.words) {
			words = append(words, strings.Split(alternative, "+"))
		}
		for _, r := range g.rules {
			for name := range strings.FieldsSeq(r.calls) {
				if nr, ok := j.numbers[name]; ok {
					j.granted[nr] = append(j.granted[nr], granted{r, words})
				}
			}
		}
	}
	return j, nil
}

// Name is the call's; empty where the number has none.
func (j *Judge) Name(c Call) string {
	if c.Arch != j.table.arch {
		return ""
	}
	return j.names[int(c.Nr)]
}

// Number is the reverse of Name, -1 where this machine has no such call.
func (j *Judge) Number(name string) int {
	if nr, ok := j.numbers[name]; ok {
		return nr
	}
	return -1
}

// Ask returns the verdict on a call, nil where it is permitted.
func (j *Judge) Ask(c Call) *Verdict {
	do := j.options.answer(j.table, c)
	if do == allow {
		return nil
	}
	v := &Verdict{Kill: do == kill}
	if !v.Kill {
		v.Errno = unix.Errno(do & unix.SECCOMP_RET_DATA)
	}
	if c.Arch != j.table.arch {
		v.Holds = "no calls of another architecture"
		return v
	}
	if _, ok := j.table.rules[int(c.Nr)]; !ok {
		v.Holds = "no calls newer than this version knows"
		return v
	}
	for _, d := range j.options.denials() {
		for _, r := range d.rules {
			if slices.Contains(strings.Fields(r.calls), j.Name(c)) && r.holds(c) {
				v.Holds, v.Why = d.holds, r.why
				v.Opens = j.opens(c)
				return v
			}
		}
	}
	v.Opens = j.opens(c)
	return v
}

// Kills reports whether the verdict is Kill.
func (j *Judge) Kills(c Call) bool { return j.options.answer(j.table, c) == kill }

// Permits reports whether a command with these options may make all of the calls.
func Permits(o Options, calls ...Call) bool {
	what, _ := o.Contradiction()
	t, err := o.table()
	return what == "" && err == nil && !slices.ContainsFunc(calls, func(c Call) bool { return o.answer(t, c) != allow })
}

// opens looks for the least: a promise weighs one, exec more, since it gives more
// than one kind of thing; each opening of the network weighs more than promises.
func (j *Judge) opens(c Call) (best *Options) {
	o, least := j.options, 1<<30
	type opening struct {
		cost int
		open func(*Options)
	}
	openings := []opening{
		{0, func(*Options) {}},
		{10, func(w *Options) { w.Network = true }},
		{10, func(w *Options) { w.LocalSockets = true }},
		{12, func(w *Options) { w.Ports, w.Bind = false, false }},
	}
	if o.Ports {
		openings = append(openings, opening{5, func(w *Options) { w.Bind = true }})
	}
	for _, opening := range openings {
		for _, more := range j.words(c) {
			w, cost := o, opening.cost
			opening.open(&w)
			if o.Promises != nil {
				w.Promises = slices.Clone(o.Promises)
				for _, word := range more {
					if !slices.Contains(w.Promises, word) {
						w.Promises = append(w.Promises, word)
						cost++
						if word == "exec" {
							cost++
						}
					}
				}
			}
			if cost < least && Permits(w, c) {
				best, least = &w, cost
			}
		}
	}
	return best
}

// words are the combinations of promises that could permit a call, and none.
func (j *Judge) words(c Call) (all [][]string) {
	all = [][]string{nil}
	if j.options.Promises == nil {
		return all
	}
	for _, g := range j.granted[int(c.Nr)] {
		all = append(all, g.words...)
	}
	return all
}

// Needs are the promises that permit a call, but for the execve(2) with which a
// command begins: combinations, each of which is enough; none where the call is
// permitted without. It is not ok if none permits it.
func (j *Judge) Needs(c Call) (all [][]string, ok bool) {
	if c.Arch != j.table.arch {
		return nil, false
	}
	name := j.Name(c)
	for _, g := range j.granted[int(c.Nr)] {
		if !g.holds(c) {
			continue
		}
		if len(g.words) == 0 { // always
			return nil, true
		}
		for _, words := range g.words {
			if (name == "execve" || name == "execveat") && !slices.Contains(words, "exec") {
				continue
			}
			if !slices.ContainsFunc(all, func(have []string) bool { return slices.Equal(have, words) }) {
				all = append(all, words)
			}
		}
	}
	return all, len(all) > 0
}

// weights are of the words that give more than one kind of thing, or open sockets;
// the others weigh one.
var weights = map[string]int{"exec": 3, "unix": 3, "dns": 3, "inet": 4}

// Least are the words of the least weight, stdio among them, that hold a combination
// of each of needs.
func Least(needs [][][]string) []string {
	best, least := []string(nil), 1<<30
	var choose func(have []string, weight int, left [][][]string)
	choose = func(have []string, weight int, left [][][]string) {
		if weight >= least {
			return
		}
		for len(left) > 0 && slices.ContainsFunc(left[0], func(words []string) bool { return len(without(words, have)) == 0 }) {
			left = left[1:]
		}
		if len(left) == 0 {
			best, least = have, weight
			return
		}
		for _, words := range left[0] {
			more, w := without(words, have), weight
			for _, word := range more {
				w += max(1, weights[word])
			}
			choose(append(slices.Clone(have), more...), w, left[1:])
		}
	}
	// Those with the fewest choices first: they decide most.
	needs = slices.Clone(needs)
	slices.SortStableFunc(needs, func(a, b [][]string) int { return len(a) - len(b) })
	choose([]string{"stdio"}, 0, needs)
	var sorted []string
	for _, w := range words {
		if slices.Contains(best, w.Name) {
			sorted = append(sorted, w.Name)
		}
	}
	return sorted
}

// without are the words that are not among others.
func without(words, others []string) (left []string) {
	for _, w := range words {
		if !slices.Contains(others, w) {
			left = append(left, w)
		}
	}
	return left
}

// answer is what both filters say; the stricter one counts, seccomp(2).
func (o Options) answer(t *table, c Call) action {
	do := t.decide(c)
	if once := o.Once(); once != 0 && do == allow {
		for _, n := range numbers {
			if (n.name == "execve" || n.name == "execveat") && n.on(o.arch()) == int(c.Nr) {
				return action(once)
			}
		}
	}
	return do
}

// decide is what a table means, without a program.
func (t *table) decide(c Call) action {
	if c.Arch != t.arch {
		return kill
	}
	rules, ok := t.rules[int(c.Nr)]
	if !ok {
		return errno(unix.ENOSYS)
	}
	for _, r := range rules {
		if r.holds(c) {
			return r.do
		}
	}
	return t.otherwise
}

func (r rule) holds(c Call) bool {
	return !slices.ContainsFunc(r.when, func(w cond) bool { return !w.holds(c) })
}

func (w cond) holds(c Call) bool {
	v, mask := c.Args[w.arg], w.mask
	if mask == 0 {
		mask = 1<<64 - 1
	}
	v &= mask
	in := slices.ContainsFunc(w.in, func(x uint64) bool {
		if w.wide {
			return v == x
		}
		return uint32(v) == uint32(x)
	})
	return in != w.not
}
