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

func word(c Call, off uint32) uint32 {
	switch {
	case off == offNumber:
		return c.Nr
	case off == offArch:
		return c.Arch
	case off >= offArgs && off < offArgs+48 && off%4 == 0:
		return uint32(c.Args[(off-offArgs)/8] >> (8 * (off % 8)))
	}
	panic("load outside of the call")
}

// interpret runs a program, as Documentation/networking/filter.rst says.
func interpret(p []unix.SockFilter, c Call) action {
	var a uint32
	for pc := 0; ; pc++ {
		i := p[pc]
		cond := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = word(c, i.K)
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

func randomCall(r *rand.Rand, t *table) Call {
	c := Call{Arch: t.arch, Nr: uint32(r.IntN(520))}
	switch r.IntN(20) {
	case 0:
		c.Nr |= 0x40000000
	case 1:
		c.Nr = r.Uint32()
	case 2:
		c.Arch = unix.AUDIT_ARCH_I386
	}
	for i := range c.Args {
		c.Args[i] = value(r)
		// Near what the rules of this number ask for, too.
		for _, x := range t.rules[int(c.Nr)] {
			for _, w := range x.when {
				if w.arg == i && len(w.in) > 0 && r.IntN(2) == 0 {
					c.Args[i] = w.in[r.IntN(len(w.in))] ^ w.mask&-uint64(r.IntN(2)) ^ uint64(r.IntN(2))<<uint(r.IntN(64))
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
			c := Call{Arch: table.arch, Nr: nr}
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
		for _, o := range []Options{{}, {Network: true}, {Network: true, Ports: true}, {Network: true, Ports: true, Bind: true}, {LocalSockets: true}, {Network: true, LocalSockets: true, Kill: true}, {Dumps: true}} {
			o.Arch = arch
			all = append(all, o)
			every := []string{}
			for _, w := range words {
				one := o
				one.Promises = []string{"stdio", w.Name}
				if w.Name == "stdio" {
					one.Promises = one.Promises[:1]
				}
				if func() bool { what, _ := one.Contradiction(); return what == "" }() {
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
		// The one condition that is kept elsewhere is load.Once's.
		if (len(r.when) > 0) != (r.why != "") && r.calls != "execve" {
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

// native gives what the program for some promises does with one call; the network
// and local sockets are there.
func native(t *testing.T, promises []string, name string, args ...uint64) action {
	t.Helper()
	o := Options{Arch: "amd64", Network: true, LocalSockets: true, Promises: promises}
	table, err := o.table()
	if err != nil {
		t.Fatal(err)
	}
	numbers, _, err := tableOf(o.Arch)
	if err != nil {
		t.Fatal(err)
	}
	c := Call{Arch: table.arch, Nr: uint32(numbers[name])}
	copy(c.Args[:], args)
	return interpret(table.assemble(), c)
}

// What open(2) needs is what OpenBSD's open needs: rpath to read, wpath to write
// or cut, cpath to make; and tmppath is all of them for new files.
func TestOpenNeeds(t *testing.T) {
	for set := range 16 {
		promises, has := []string{"stdio"}, map[string]bool{}
		for i, w := range []string{"rpath", "wpath", "cpath", "tmppath"} {
			if set>>i&1 == 1 {
				promises, has[w] = append(promises, w), true
			}
		}
		for _, access := range []uint64{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
			for flags := range uint64(16) {
				create, excl, trunc, tmp := flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
				want := (access == unix.O_WRONLY || has["rpath"]) && (access == unix.O_RDONLY && !trunc || has["wpath"]) && (!create && !tmp || has["cpath"])
				if has["tmppath"] && access == unix.O_RDWR && !trunc && (create && excl && !tmp || tmp && !create) {
					want = true
				}
				// What open(2) refuses anyway, or nobody asks for, no promise permits.
				if tmp && (create || trunc || access == unix.O_RDONLY) || access == unix.O_RDONLY && create && trunc {
					want = false
				}
				f := access | unix.O_CLOEXEC | 1<<40
				for bit, on := range map[uint64]bool{oCreate: create, oExclusive: excl, oTruncate: trunc, oTmpfile | unix.O_DIRECTORY: tmp} {
					if on {
						f |= bit
					}
				}
				for name, args := range map[string][]uint64{"open": {0, f, 0o600}, "openat": {0, 0, f, 0o600}} {
					if got := native(t, promises, name, args...); got == allow != want {
						t.Errorf("%v: %s %#x: %#x, want allowed: %v", promises, name, f, got, want)
					}
				}
			}
		}
	}
}

// Calls that several words have, or that come with conditions.
func TestPromisedCalls(t *testing.T) {
	for _, test := range []struct {
		promises, call string
		args           []uint64
		want           action
	}{
		{"stdio", "sendto", []uint64{3, 1, 1, 0, 0}, allow},
		{"stdio", "sendto", []uint64{3, 1, 1, 0, 1 << 32}, eperm},
		{"stdio inet", "sendto", []uint64{3, 1, 1, 0, 1 << 32}, allow},
		{"stdio inet", "bind", nil, allow},
		{"stdio unix", "accept4", nil, allow},
		{"stdio dns", "accept4", nil, eperm},
		{"stdio dns", "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, eperm},
		{"stdio", "prlimit64", []uint64{0, 7, 0, 1}, allow},
		{"stdio", "prlimit64", []uint64{0, 7, 1 << 32, 1}, eperm},
		{"stdio proc", "prlimit64", []uint64{0, 7, 1, 1}, allow},
		{"stdio id", "prlimit64", []uint64{0, 7, 1, 1}, allow},
		{"stdio proc id", "prlimit64", []uint64{1, 7, 1, 1}, eperm},
		{"stdio", "prctl", []uint64{unix.PR_SET_DUMPABLE, 0}, allow},
		{"stdio", "prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, eperm},
		{"stdio", "prctl", []uint64{unix.PR_SET_DUMPABLE, 1 << 32}, eperm},
		{"stdio", "prctl", []uint64{unix.PR_SET_SECUREBITS, 0}, eperm},
		{"stdio", "pkey_mprotect", nil, eperm},
		{"stdio prot_exec", "pkey_mprotect", nil, allow},
		{"stdio", "mprotect", []uint64{0, 0, unix.PROT_READ | unix.PROT_EXEC}, eperm},
		{"stdio", "mprotect", []uint64{0, 0, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"stdio", "clone", []uint64{0x3d0f00}, allow},
		{"stdio", "clone", []uint64{17}, eperm},
		{"stdio", "vfork", nil, eperm},
		{"stdio proc", "clone", []uint64{17}, allow},
		{"stdio proc", "clone", []uint64{17 | unix.CLONE_PTRACE}, eperm},
		{"stdio proc", "clone", []uint64{17 | unix.CLONE_NEWUSER}, eperm},
		{"stdio proc", "clone3", nil, enosys},
		{"stdio", "newfstatat", []uint64{0, 0, 0, unix.AT_EMPTY_PATH}, allow},
		{"stdio", "newfstatat", []uint64{0, 0, 0, 0}, eperm},
		{"stdio fattr", "chmod", []uint64{0, 0o755}, allow},
		{"stdio fattr", "chmod", []uint64{0, 0o4755}, eperm},
		{"stdio wpath cpath", "open", []uint64{0, oCreate | unix.O_WRONLY, 0o4755}, eperm},
		{"stdio tty", "ioctl", []uint64{0, unix.TIOCSTI}, eperm},
		{"stdio tty", "ioctl", []uint64{0, 1<<32 | unix.TIOCSPGRP}, allow},
		{"stdio tmppath", "unlinkat", []uint64{0, 0, 0}, allow},
		{"stdio tmppath", "unlinkat", []uint64{0, 0, unix.AT_REMOVEDIR}, eperm},
		{"stdio", "fcntl", []uint64{0, unix.F_SETLK}, eperm},
		{"stdio", "fcntl", []uint64{0, unix.F_SETOWN}, eperm},
		{"stdio", "fcntl", []uint64{0, unix.F_SETFL, unix.O_NONBLOCK}, allow},
		{"stdio proc", "fcntl", []uint64{0, unix.F_SETFL, unix.O_ASYNC}, eperm},
		{"stdio inet dns", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, allow},
		{"stdio inet dns", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, eperm},
		{"stdio inet dns", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_RAW}, eperm},
		{"stdio unix", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, allow},
		{"stdio", "execveat", nil, eperm},
		{"stdio exec", "execve", []uint64{1 << 40}, allow},
		{"stdio exec prot_exec", "memfd_create", nil, eperm},
		{"stdio proc exec", "io_uring_setup", nil, enosys},
	} {
		if got := native(t, strings.Fields(test.promises), test.call, test.args...); got != test.want {
			t.Errorf("%s: %s%#x: %#x, want %#x", test.promises, test.call, test.args, got, test.want)
		}
	}
}
