package seccomp

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/seccomp/load"
)

// A call is what a filter sees of a system call.
type call struct {
	arch uint32
	nr   uint32
	args [6]uint64
}

func (c call) word(off uint32) uint32 {
	switch {
	case off == offNumber:
		return c.nr
	case off == offArch:
		return c.arch
	case off >= offArgs && off < offArgs+48 && off%4 == 0:
		return uint32(c.args[(off-offArgs)/8] >> (8 * (off % 8)))
	}
	panic("load outside of the call")
}

// interpret runs a program, as Documentation/networking/filter.rst says.
func interpret(p []unix.SockFilter, c call) action {
	var a uint32
	for pc := 0; ; pc++ {
		i := p[pc]
		cond := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = c.word(i.K)
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return action(i.K)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			cond = a == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			cond = a > i.K
		default:
			panic("an instruction that the assembler should not emit")
		}
		if cond {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
}

// decide is what a table means, without a program.
func (t *table) decide(c call) action {
	if c.arch != t.arch {
		return kill
	}
	rules, ok := t.rules[int(c.nr)]
	if !ok {
		return errno(unix.ENOSYS)
	}
	for _, r := range rules {
		if !slices.ContainsFunc(r.when, func(w cond) bool { return !w.holds(c) }) {
			return r.do
		}
	}
	return t.otherwise
}

func (w cond) holds(c call) bool {
	v, mask := c.args[w.arg], w.mask
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

// randomTable has rules of every shape; few values, so that they are met.
func randomTable(r *rand.Rand) *table {
	t := &table{arch: unix.AUDIT_ARCH_X86_64, rules: map[int][]rule{}, otherwise: errno(unix.EPERM)}
	for range 1 + r.IntN(400) {
		var rules []rule
		for range r.IntN(4) {
			x := rule{do: []action{allow, kill, errno(unix.EPERM), errno(unix.EACCES)}[r.IntN(4)]}
			for range r.IntN(4) {
				w := cond{arg: r.IntN(6), wide: r.IntN(2) == 0, not: r.IntN(2) == 0}
				if r.IntN(2) == 0 {
					w.mask = value(r)
				}
				for range r.IntN(4) {
					w.in = append(w.in, value(r))
				}
				x.when = append(x.when, w)
			}
			rules = append(rules, x)
		}
		t.rules[r.IntN(500)] = rules
	}
	return t
}

func value(r *rand.Rand) uint64 {
	words := []uint64{0, 1, 2, 3, 0x5412, 1 << 31, 1<<32 - 1}
	return words[r.IntN(len(words))] | words[r.IntN(len(words))]<<(32*uint(r.IntN(2)))
}

func randomCall(r *rand.Rand, t *table) call {
	c := call{arch: t.arch, nr: uint32(r.IntN(520))}
	switch r.IntN(20) {
	case 0:
		c.nr |= 0x40000000
	case 1:
		c.nr = r.Uint32()
	case 2:
		c.arch = unix.AUDIT_ARCH_I386
	}
	for i := range c.args {
		c.args[i] = value(r)
		// Near what the rules of this number ask for, too.
		for _, x := range t.rules[int(c.nr)] {
			for _, w := range x.when {
				if w.arg == i && len(w.in) > 0 && r.IntN(2) == 0 {
					c.args[i] = w.in[r.IntN(len(w.in))] ^ w.mask&-uint64(r.IntN(2)) ^ uint64(r.IntN(2))<<uint(r.IntN(64))
				}
			}
		}
	}
	return c
}

func agree(t *testing.T, what string, r *rand.Rand, table *table, calls int) {
	t.Helper()
	p := table.assemble()
	if q, err := load.Decode(load.Encode(p)); len(p) <= 4096 && (err != nil || !slices.Equal(p, q)) {
		t.Fatalf("%s: encoding: %v", what, err)
	}
	for range calls {
		c := randomCall(r, table)
		if got, want := interpret(p, c), table.decide(c); got != want {
			t.Fatalf("%s: %+v: program %#x, table %#x", what, c, got, want)
		}
	}
}

func TestProgramEqualsTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		agree(t, "random table", r, randomTable(r), 2000)
	}
	for _, o := range everyOption() {
		table, err := o.table()
		if err != nil {
			t.Fatal(err)
		}
		agree(t, strings.Join(o.Promises, " "), r, table, 20000)
		p := table.assemble()
		for nr := range uint32(600) { // every number, at least once
			c := call{arch: table.arch, nr: nr}
			if got, want := interpret(p, c), table.decide(c); got != want {
				t.Fatalf("%d: program %#x, table %#x", nr, got, want)
			}
		}
	}
}

// everyOption has all networks for both machines, with no promises, each alone and
// all of them.
func everyOption() []Options {
	var all []Options
	for _, arch := range []string{"amd64", "arm64"} {
		for _, o := range []Options{{}, {Network: true}, {Network: true, Ports: true}, {LocalSockets: true}, {Network: true, LocalSockets: true, Kill: true}} {
			o.Arch = arch
			all = append(all, o)
			every := []string{}
			for _, w := range words {
				one := o
				one.Promises = []string{"stdio", w.Name}
				if w.Name == "stdio" {
					one.Promises = one.Promises[:1]
				}
				if one.check() == nil {
					all = append(all, one)
					every = append(every, w.Name)
				}
			}
			o.Promises = every
			all = append(all, o)
		}
	}
	return all
}

func TestNumbersAreGenerated(t *testing.T) {
	out, err := exec.Command("go", "run", "gen.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("numbers.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != string(have) {
		t.Error("numbers.go is not what gen.go writes; go generate ./internal/seccomp")
	}
}

// Every name in the tables is a system call, and every condition is said in words.
func TestTablesNameSystemCalls(t *testing.T) {
	known := map[string]bool{}
	for _, n := range numbers {
		known[n.name] = true
	}
	var rules []rule
	for _, o := range everyOption() {
		for _, d := range o.denials() {
			rules = append(rules, d.rules...)
			for _, r := range d.rules {
				if r.do == allow {
					t.Errorf("%s: %s: a refusal that permits", d.holds, r.calls)
				}
			}
		}
	}
	for _, g := range grants {
		rules = append(rules, g.rules...)
		for _, r := range g.rules {
			if r.do != allow {
				t.Errorf("%s: %s: a promise that refuses", g.words, r.calls)
			}
		}
		for w := range strings.FieldsFuncSeq(g.words, func(c rune) bool { return c == ' ' || c == '+' }) {
			if !slices.ContainsFunc(words, func(x Word) bool { return x.Name == w }) {
				t.Errorf("%q is no promise", w)
			}
		}
	}
	for _, r := range rules {
		for name := range strings.FieldsSeq(r.calls) {
			if !known[name] {
				t.Errorf("%q is no system call", name)
			}
		}
		if (len(r.when) > 0) != (r.why != "") {
			t.Errorf("%s: conditions and words for them: %d, %q", r.calls, len(r.when), r.why)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	p, err := Compile(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"empty": nil, "cut": p[:len(p)-1], "a byte more": append(slices.Clone(p), 0), "too long": make([]byte, 8*4097),
	} {
		if _, err := load.Decode(b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := load.Decode(make([]byte, 8*4096)); err != nil {
		t.Errorf("the longest: %v", err)
	}
	if load.Filter(nil) == nil {
		t.Error("an empty program was loaded")
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(Options{Promises: []string{"stdio", "rpath", "exec", "proc"}}); err != nil {
			b.Fatal(err)
		}
	}
}
