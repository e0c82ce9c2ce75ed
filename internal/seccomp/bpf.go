package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// An action is what a filter returns, seccomp(2).
type action uint32

const (
	allow action = unix.SECCOMP_RET_ALLOW
	kill  action = unix.SECCOMP_RET_KILL_PROCESS
)

func errno(e unix.Errno) action { return action(unix.SECCOMP_RET_ERRNO | uint32(e)) }

// A cond is one test of one argument: it holds if the argument, masked, is one
// of a set of values, or with not, if it is none of them.
type cond struct {
	arg  int
	wide bool   // all 64 bits; else the low 32
	mask uint64 // 0: every bit
	not  bool
	in   []uint64
}

// The kernel takes an int or unsigned int from the low half of a register and
// does not look at the other: a test of 64 bits lets TIOCSTI|1<<32 pass for
// something else (CVE-2019-10063). So all tests are of 32 bits but
// those of pointers and of unshare's unsigned long.

// is holds if the argument is one of the values.
func is(arg int, values ...uint64) cond { return cond{arg: arg, in: values} }

// isNot holds if the argument is none of the values.
func isNot(arg int, values ...uint64) cond { return cond{arg: arg, in: values, not: true} }

// masked holds if what the mask leaves of the argument is one of the values.
func masked(arg int, mask uint64, values ...uint64) cond {
	return cond{arg: arg, mask: mask, in: values}
}

// some holds if the argument has a bit of the mask.
func some(arg int, mask uint64) cond { return cond{arg: arg, mask: mask, in: []uint64{0}, not: true} }

// none holds if the argument has no bit of the mask.
func none(arg int, mask uint64) cond { return masked(arg, mask, 0) }

// pointer holds if the argument is exactly this address.
func pointer(arg int, address uint64) cond { return cond{arg: arg, wide: true, in: []uint64{address}} }

// notPointer holds if the argument is any other address.
func notPointer(arg int, address uint64) cond {
	return cond{arg: arg, wide: true, in: []uint64{address}, not: true}
}

// A rule is what to do about some system calls, named and separated by spaces,
// if all conditions hold.
type rule struct {
	calls string
	when  []cond
	do    action
	why   string // the conditions in words
}

// A table is what a program is made of: the rules of each number, of which the
// first that holds decides, and what to do if none does. A number that is not
// there gets ENOSYS, as from a kernel that does not have the call.
type table struct {
	arch      uint32 // AUDIT_ARCH_…
	rules     map[int][]rule
	otherwise action
}

// Offsets in struct seccomp_data; both machines have the low half first.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

const (
	opLoad   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opAtMost = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K // taken if not
	opGo     = unix.BPF_JMP | unix.BPF_JA
	opReturn = unix.BPF_RET | unix.BPF_K
)

// assemble gives the program. Another architecture's entry (int 0x80) is killed:
// its numbers mean other calls. What is above the highest number of the table is
// ENOSYS, which x32 is as well: its numbers begin at 0x40000000.
func (t *table) assemble() []unix.SockFilter {
	a := asm{seen: map[insn]node{}}
	unknown := a.ret(errno(unix.ENOSYS))
	top := 0
	for nr := range t.rules {
		top = max(top, nr)
	}
	var runs []run
	for nr := range top + 1 {
		at := unknown
		if rules, ok := t.rules[nr]; ok {
			at = a.chain(rules, t.otherwise)
		}
		if len(runs) == 0 || runs[len(runs)-1].at != at {
			runs = append(runs, run{uint32(nr), at})
		}
	}
	runs = append(runs, run{uint32(top) + 1, unknown})
	body := a.then(opLoad, offNumber, a.tree(runs))
	a.then(opLoad, offArch, a.branch(opEqual, t.arch, body, a.ret(kill)))
	return a.program()
}

// A run is the numbers from one on that have the same rules.
type run struct {
	from uint32
	at   node
}

// asm emits a program from its end to its beginning: jumps only go forward, so
// what they lead to is there already, and equal tails are there once.
type asm struct {
	out  []insn
	seen map[insn]node
}

// A node is an instruction, by its place in out.
type node int

type insn struct {
	code   uint16
	k      uint32
	jt, jf node
}

func (a *asm) emit(i insn) node {
	if n, ok := a.seen[i]; ok {
		return n
	}
	a.out = append(a.out, i)
	a.seen[i] = node(len(a.out) - 1)
	return node(len(a.out) - 1)
}

func (a *asm) ret(do action) node { return a.emit(insn{code: opReturn, k: uint32(do)}) }

// branch is an instruction with two targets, which an offset of one byte must reach.
func (a *asm) branch(code uint16, k uint32, jt, jf node) node {
	if jt == jf {
		return jt
	}
	if n, ok := a.seen[insn{code, k, jt, jf}]; ok {
		return n
	}
	return a.emit(insn{code, k, a.near(jt), a.near(jf)})
}

// near is n, or a jump to it from not far off.
func (a *asm) near(n node) node {
	if len(a.out)-int(n) < 250 {
		return n
	}
	a.out = append(a.out, insn{code: opGo, jt: n})
	return node(len(a.out) - 1)
}

// then is an instruction followed by next.
func (a *asm) then(code uint16, k uint32, next node) node {
	i := insn{code: code, k: k, jt: next}
	if n, ok := a.seen[i]; ok {
		return n
	}
	if int(next) != len(a.out)-1 {
		a.out = append(a.out, insn{code: opGo, jt: next})
	}
	return a.emit(i)
}

// tree finds the run of the number in the accumulator.
func (a *asm) tree(runs []run) node {
	if len(runs) == 1 {
		return runs[0].at
	}
	half := len(runs) / 2
	low := a.tree(runs[:half])
	return a.branch(opAtMost, runs[half].from-1, a.tree(runs[half:]), low)
}

// chain tries the rules in order.
func (a *asm) chain(rules []rule, otherwise action) node {
	n := a.ret(otherwise)
	for _, r := range slices.Backward(rules) {
		no := n
		n = a.ret(r.do)
		for _, c := range slices.Backward(r.when) {
			n = a.test(c, n, no)
		}
	}
	return n
}

func (a *asm) test(c cond, yes, no node) node {
	if c.not {
		yes, no = no, yes
	}
	mask := c.mask
	if mask == 0 {
		mask = 1<<64 - 1
	}
	low := uint32(offArgs + 8*c.arg)
	n := no
	if !c.wide {
		for _, v := range slices.Backward(c.in) {
			n = a.branch(opEqual, uint32(v), yes, n)
		}
		return a.then(opLoad, low, a.and(uint32(mask), n))
	}
	for _, v := range slices.Backward(c.in) {
		equal := a.then(opLoad, low, a.and(uint32(mask), a.branch(opEqual, uint32(v), yes, n)))
		n = a.then(opLoad, low+4, a.and(uint32(mask>>32), a.branch(opEqual, uint32(v>>32), equal, n)))
	}
	return n
}

func (a *asm) and(mask uint32, next node) node {
	if mask == 1<<32-1 {
		return next
	}
	return a.then(opAnd, mask, next)
}

// program turns places into distances.
func (a *asm) program() []unix.SockFilter {
	var p []unix.SockFilter
	for at, i := range slices.Backward(a.out) {
		f := unix.SockFilter{Code: i.code, K: i.k}
		switch i.code {
		case opEqual, opAtMost:
			f.Jt, f.Jf = uint8(at-int(i.jt)-1), uint8(at-int(i.jf)-1)
		case opGo:
			f.K = uint32(at - int(i.jt) - 1)
		}
		p = append(p, f)
	}
	return p
}
