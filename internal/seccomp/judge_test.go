package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// What the judge says is what the program does, for calls of every kind, and what
// it says would permit a call does.
func TestJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	opened := 0
	for _, o := range everyOption() {
		j, err := NewJudge(o)
		if err != nil {
			t.Fatal(err)
		}
		program := j.table.assemble()
		for range 300 {
			c := randomCall(r, j.table)
			got := allow
			v := j.Ask(c)
			switch {
			case v != nil && v.Kill:
				got = kill
			case v != nil:
				got = errno(v.Errno)
			}
			want := interpret(program, c)
			if name := j.Name(c); (name == "execve" || name == "execveat") && o.Once() != 0 {
				want = action(o.Once())
			}
			if got != want {
				t.Fatalf("%+v: %s %+v: judged %#x, is %#x", o, j.Name(c), c, got, want)
			}
			if v == nil || v.Opens == nil {
				continue
			}
			opened++
			w, err := NewJudge(*v.Opens)
			if err != nil {
				t.Fatalf("%+v: %s: opened by %+v: %v", o, j.Name(c), *v.Opens, err)
			}
			if again := w.Ask(c); again != nil {
				t.Fatalf("%+v: %s: opened by %+v, and %+v", o, j.Name(c), *v.Opens, again)
			}
		}
	}
	if opened < 1000 {
		t.Errorf("only %d calls could be opened", opened)
	}
}

func TestJudgeOpensTheLeast(t *testing.T) {
	stdio := Options{Arch: "amd64", Promises: []string{"stdio"}}
	with := func(words ...string) Options {
		o := stdio
		o.Promises = append([]string{"stdio"}, words...)
		return o
	}
	for _, test := range []struct {
		have  Options
		name  string
		args  [6]uint64
		want  *Options // nil: nothing opens it
		holds string
	}{
		{stdio, "openat", [6]uint64{2: unix.O_RDONLY}, &Options{Promises: []string{"stdio", "rpath"}}, ""},
		{stdio, "openat", [6]uint64{2: unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC}, &Options{Promises: []string{"stdio", "wpath", "cpath"}}, ""},
		{with("rpath"), "openat", [6]uint64{2: unix.O_RDWR}, &Options{Promises: []string{"stdio", "rpath", "wpath"}}, ""},
		{stdio, "mkdir", [6]uint64{}, &Options{Promises: []string{"stdio", "cpath"}}, ""},
		{stdio, "mmap", [6]uint64{2: unix.PROT_EXEC}, &Options{Promises: []string{"stdio", "prot_exec"}}, ""},
		{stdio, "execve", [6]uint64{}, &Options{Promises: []string{"stdio", "exec"}}, ""},
		{stdio, "vfork", [6]uint64{}, &Options{Promises: []string{"stdio", "proc"}}, ""},
		{stdio, "socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, &Options{Network: true, Promises: []string{"stdio", "inet"}}, "no sockets but pairs"},
		{Options{Arch: "amd64"}, "socket", [6]uint64{unix.AF_INET6, unix.SOCK_STREAM}, &Options{Network: true}, "no sockets but pairs"},
		{Options{Arch: "amd64"}, "socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, &Options{LocalSockets: true}, "no sockets but pairs"},
		{Options{Arch: "amd64", Network: true, Ports: true}, "socket", [6]uint64{unix.AF_INET, unix.SOCK_DGRAM}, &Options{Network: true}, "no sockets but pairs and TCP"},
		{Options{Arch: "amd64", Network: true, Ports: true}, "listen", [6]uint64{}, &Options{Network: true, Ports: true, Bind: true}, "no connection past the port rules"},
		{Options{Arch: "amd64"}, "socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW}, nil, "no sockets but pairs"},
		{Options{Arch: "amd64"}, "mount", [6]uint64{}, nil, "no other root, mounts or namespaces"},
		{with("fattr"), "chmod", [6]uint64{1: 0o4755}, nil, "no set-id files"},
		{Options{Arch: "amd64"}, "ioctl", [6]uint64{1: unix.TIOCSTI}, nil, "no typing into the terminal"},
		{stdio, "ioctl", [6]uint64{1: unix.TCSETS}, &Options{Promises: []string{"stdio", "tty"}}, ""},
		{stdio, "setrlimit", [6]uint64{}, &Options{Promises: []string{"stdio", "proc"}}, ""},
		{stdio, "reboot", [6]uint64{}, nil, "no change to the machine"},
		{stdio, "vmsplice", [6]uint64{}, &stdio, "permitted"},
	} {
		j, err := NewJudge(test.have)
		if err != nil {
			t.Fatal(err)
		}
		v := j.Ask(Call{Arch: unix.AUDIT_ARCH_X86_64, Nr: uint32(j.Number(test.name)), Args: test.args})
		if test.holds == "permitted" {
			if v != nil {
				t.Errorf("%s: %+v", test.name, v)
			}
			continue
		}
		switch {
		case v == nil || v.Holds != test.holds:
			t.Errorf("%s: %+v, want %q", test.name, v, test.holds)
		case test.want == nil || v.Opens == nil:
			if (test.want == nil) != (v.Opens == nil) {
				t.Errorf("%s: opened by %+v, want %+v", test.name, v.Opens, test.want)
			}
		case v.Opens.Network != test.want.Network || v.Opens.LocalSockets != test.want.LocalSockets || v.Opens.Ports != test.want.Ports || v.Opens.Bind != test.want.Bind ||
			!slices.Equal(v.Opens.Promises, test.want.Promises):
			t.Errorf("%s: opened by %+v, want %+v", test.name, v.Opens, test.want)
		}
	}
}

// What a call is said to need is what permits it, whatever else is promised.
func TestNeeds(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	open := Options{Arch: "amd64", Network: true, LocalSockets: true}
	j, err := NewJudge(open)
	if err != nil {
		t.Fatal(err)
	}
	permitted := 0
	for range 30000 {
		o := open
		o.Promises = []string{"stdio"}
		for _, w := range Words()[1:] {
			if r.IntN(3) == 0 {
				o.Promises = append(o.Promises, w.Name)
			}
		}
		c := randomCall(r, j.table)
		if j.Ask(c) != nil {
			continue // by the baseline
		}
		needs, ok := j.Needs(c)
		want := ok && len(needs) == 0 || slices.ContainsFunc(needs, func(words []string) bool { return len(without(words, o.Promises)) == 0 })
		if got := Permits(o, c); got != want {
			t.Fatalf("%s %+v with %v: permitted %v, and it needs %v, %v", j.Name(c), c, o.Promises, got, needs, ok)
		}
		if want {
			permitted++
		}
	}
	if permitted < 3000 {
		t.Errorf("only %d calls were permitted", permitted)
	}
}

// The least words permit all, and none of them can go; no set of less weight does.
func TestLeast(t *testing.T) {
	reading := [][]string{{"rpath"}, {"exec"}, {"getpw"}, {"dns"}}
	loading := [][]string{{"exec"}, {"prot_exec"}}
	for _, test := range []struct {
		needs [][][]string
		want  []string
	}{
		{nil, []string{"stdio"}},
		{[][][]string{{{"stdio"}}, reading}, []string{"stdio", "rpath"}},
		{[][][]string{reading, loading}, []string{"stdio", "rpath", "prot_exec"}},
		{[][][]string{reading, loading, {{"exec"}}}, []string{"stdio", "exec"}},
		{[][][]string{{{"wpath", "cpath"}}, {{"wpath", "cpath"}, {"tmppath"}}}, []string{"stdio", "wpath", "cpath"}},
		{[][][]string{{{"sendfd"}, {"inet"}, {"unix"}}, {{"inet"}, {"unix"}, {"dns"}}}, []string{"stdio", "unix"}},
		{[][][]string{{{"inet"}, {"dns"}}, {{"inet"}}}, []string{"stdio", "inet"}},
		{[][][]string{{{"proc"}, {"id"}}, {{"id"}}}, []string{"stdio", "id"}},
	} {
		if got := Least(test.needs); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.needs, got, test.want)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	weight := func(set []string) (n int) {
		for _, w := range set[1:] {
			n += max(1, weights[w])
		}
		return n
	}
	for range 200 {
		var needs [][][]string
		some := words[1:8]
		for range 1 + r.IntN(4) {
			var need [][]string
			for range 1 + r.IntN(3) {
				at := r.Perm(len(some))
				need = append(need, []string{some[at[0]].Name, some[at[1]].Name}[:1+r.IntN(2)])
			}
			needs = append(needs, need)
		}
		best := 1 << 30
		for mask := range 1 << len(some) {
			set := []string{"stdio"}
			for i, w := range some {
				if mask>>i&1 != 0 {
					set = append(set, w.Name)
				}
			}
			if !slices.ContainsFunc(needs, func(n [][]string) bool {
				return !slices.ContainsFunc(n, func(words []string) bool { return len(without(words, set)) == 0 })
			}) {
				best = min(best, weight(set))
			}
		}
		if got := Least(needs); weight(got) != best {
			t.Fatalf("%v: %v weighs %d, and the least is %d", needs, got, weight(got), best)
		}
	}
}
