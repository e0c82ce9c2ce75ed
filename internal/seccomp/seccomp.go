// Package seccomp makes the programs that hold a command after the drop: what no
// command may do (baseline.go), and where the policy has promises, nothing but
// what they permit (promises.go). `jailctl apply` compiles; the helper loads the
// result with package load and understands nothing of it.
//
// A filter sees the number and the six arguments of a call, no memory: no paths,
// no structures. What it cannot tell apart is said at the rules.
//
// Sources: seccomp(2) and Documentation/userspace-api/seccomp_filter.rst, whose
// pitfalls (architecture first, x32, compare what the kernel compares) are the
// first instructions of each program; the manual page of each call; Docker's
// default profile and systemd's @-groups for what programs live without; OpenBSD's
// pledge(2) and Cosmopolitan's pledge-linux.c for the words.
package seccomp

//go:generate sh -c "go run gen.go >numbers.new && mv numbers.new numbers.go"

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/seccomp/load"
)

// Options are what a policy says of system calls.
type Options struct {
	Arch         string   // amd64 or arm64; empty: this machine's
	Network      bool     // internet sockets
	LocalSockets bool     // unix sockets
	Ports        bool     // the network is TCP with port rules, which Landlock keeps
	Bind         bool     // some of them are for binding
	Promises     []string // nil: all that the baseline does not refuse
	Kill         bool     // a broken promise kills; otherwise EPERM
	Dumps        bool     // the policy's limits permit core dumps
}

type number struct {
	name         string
	amd64, arm64 int
}

// on is the number on an architecture.
func (n number) on(arch string) int {
	if arch == "arm64" {
		return n.arm64
	}
	return n.amd64
}

// tableOf gives the numbers of an architecture by name, and its AUDIT_ARCH.
func tableOf(arch string) (map[string]int, uint32, error) {
	var audit uint32
	switch arch {
	case "amd64":
		audit = unix.AUDIT_ARCH_X86_64
	case "arm64":
		audit = unix.AUDIT_ARCH_AARCH64
	default:
		return nil, 0, fmt.Errorf("no system call table for %q; there is one for amd64 and arm64", arch)
	}
	m := make(map[string]int, len(numbers))
	for _, n := range numbers {
		if nr := n.on(arch); nr >= 0 {
			m[n.name] = nr
		}
	}
	return m, audit, nil
}

// Compile gives the program, encoded as load.Decode reads it.
func Compile(o Options) ([]byte, error) {
	if what, fix := o.Contradiction(); what != "" {
		return nil, errors.New(what + ": " + fix)
	}
	t, err := o.table()
	if err != nil {
		return nil, err
	}
	program := load.Encode(t.assemble())
	_, err = load.Decode(program)
	return program, err
}

// Once is what load.Once must answer the command's own execve with, if its
// promises are without exec; else 0.
func (o Options) Once() uint32 {
	switch {
	case o.Promises == nil || slices.Contains(o.Promises, "exec"):
		return 0
	case o.Kill:
		return uint32(kill)
	}
	return uint32(eperm)
}

// Contradiction says what is wrong with o and how to mend it; empty: nothing.
func (o Options) Contradiction() (what, fix string) {
	if o.Ports && !o.Network {
		return "port rules without a network", "add network: true"
	}
	if o.Promises == nil {
		return "", ""
	}
	for i, w := range o.Promises {
		switch {
		case !slices.ContainsFunc(words, func(have Word) bool { return have.Name == w }):
			return fmt.Sprintf("unknown promise %q", w), "the promises are " + names()
		case slices.Contains(o.Promises[:i], w):
			return fmt.Sprintf("promise %s is there twice", w), "remove one"
		case (w == "inet" || w == "dns") && !o.Network:
			return fmt.Sprintf("promise %s without a network", w), "add network: true, or remove the promise"
		case w == "dns" && o.Ports:
			return "promise dns is for UDP, which port rules close", "remove one of the two"
		case w == "unix" && !o.LocalSockets:
			return "promise unix without local sockets", "add local_sockets: true, or remove the promise"
		}
	}
	if !slices.Contains(o.Promises, "stdio") {
		return "no program starts without the promise stdio", "add stdio"
	}
	return "", ""
}

func names() string {
	var s []string
	for _, w := range words {
		s = append(s, w.Name)
	}
	return strings.Join(s, ", ")
}

// table puts the baseline's refusals before what the promises permit.
func (o Options) table() (*table, error) {
	numbers, audit, err := tableOf(o.arch())
	if err != nil {
		return nil, err
	}
	t := &table{arch: audit, rules: make(map[int][]rule, len(numbers)), otherwise: allow}
	for _, nr := range numbers {
		t.rules[nr] = nil
	}
	add := func(rules []rule) {
		for _, r := range rules {
			for name := range strings.FieldsSeq(r.calls) {
				if nr, ok := numbers[name]; ok {
					t.rules[nr] = append(t.rules[nr], r)
				}
			}
		}
	}
	for _, d := range o.denials() {
		add(d.rules)
	}
	if o.Promises == nil {
		return t, nil
	}
	for _, g := range grants {
		if g.holds(o.Promises) {
			add(g.rules)
		}
	}
	t.otherwise = eperm
	if o.Kill {
		t.otherwise = kill
	}
	return t, nil
}

func (o Options) arch() string {
	if o.Arch == "" {
		return runtime.GOARCH
	}
	return o.Arch
}

func (o Options) denials() []denial {
	all := slices.Concat(baseline, network(o))
	if !o.Dumps {
		all = append(all, noDumps)
	}
	return all
}

// holds reports whether one of the grant's combinations is promised.
func (g grant) holds(promised []string) bool {
	for alternative := range strings.FieldsSeq(g.words) {
		all := true
		for w := range strings.SplitSeq(alternative, "+") {
			all = all && slices.Contains(promised, w)
		}
		if all {
			return true
		}
	}
	return g.words == always
}

// A Line is one thing that holds for the command, and by which rules.
type Line struct {
	Holds string // in words
	By    []string
}

// Explain says what Compile's program for the same options does.
func Explain(o Options) ([]Line, error) {
	if what, fix := o.Contradiction(); what != "" {
		return nil, errors.New(what + ": " + fix)
	}
	lines := []Line{{"no calls of another architecture, or newer than this version knows", []string{
		"another architecture (int 0x80): killed", "x32, and numbers that have no name here: ENOSYS",
	}}}
	for _, d := range o.denials() {
		lines = append(lines, Line{d.holds, text(d.rules)})
	}
	if o.Promises == nil {
		return lines, nil
	}
	for _, w := range Words() {
		if slices.Contains(o.Promises, w.Name) {
			lines = append(lines, Line{"promise " + w.Name + ": " + w.Doc, w.Calls})
		}
	}
	last := "all else: EPERM"
	if o.Kill {
		last = "all else: killed"
	}
	return append(lines, Line{"nothing that is not promised", []string{last}}), nil
}

// Words gives the promises with what they stand for.
func Words() []Word {
	all := slices.Clone(words)
	for i := range all {
		for _, g := range grants {
			for alternative := range strings.FieldsSeq(g.words) {
				with := strings.Split(alternative, "+")
				at := slices.Index(with, all[i].Name)
				if at < 0 {
					continue
				}
				also := ""
				if with = slices.Delete(with, at, at+1); len(with) > 0 {
					also = "with " + strings.Join(with, " and ") + ": "
				}
				for _, line := range text(g.rules) {
					all[i].Calls = append(all[i].Calls, also+line)
				}
			}
		}
	}
	return all
}

// text has a line for each rule.
func text(rules []rule) []string {
	var lines []string
	for _, r := range rules {
		s := strings.Join(strings.Fields(r.calls), " ")
		if r.why != "" {
			s += " (" + r.why + ")"
		}
		switch {
		case r.do == kill:
			s += ": killed"
		case r.do == pretend:
			s += ": nothing, and success"
		case r.do != allow:
			s += ": " + unix.ErrnoName(unix.Errno(r.do&unix.SECCOMP_RET_DATA))
		}
		lines = append(lines, s)
	}
	return lines
}
