package confine

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/plan.txt anew")

// names of the rights on files, by bit.
var names = []string{
	"execute", "write_file", "read_file", "read_dir", "remove_dir", "remove_file", "make_char", "make_dir", "make_reg",
	"make_sock", "make_fifo", "make_block", "make_sym", "refer", "truncate", "ioctl_dev",
}

func words(bits uint64, names ...string) string {
	var s []string
	for i, n := range names {
		if bits&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, " ")
}

var wants = []struct {
	name string
	want Want
}{
	{"the default: whole jail, nothing outside, no TCP", Want{}},
	{"the same where seccomp closes all sockets", Want{TCP: IfAble, Abstract: IfAble}},
	{"network open, ports listed", Want{TCP: Must, Connect: []uint16{443}, Bind: []uint16{8080}}},
	{"network open, unveiled", Want{TCP: Off, Unveil: []Path{{Path: "/usr", Access: "rx"}, {Path: "/data", Access: "rwc"}, {Path: "/etc/opt", Access: "r", Optional: true}}}},
	{"files only", Want{TCP: Off, Signals: Off, Abstract: Off, Unveil: []Path{{Path: "/data", Access: "rw"}}}},
	{"less below than above", Want{TCP: Off, Signals: Off, Abstract: Off, Unveil: []Path{{Path: "/", Access: "rwxc"}, {Path: "/etc", Access: "r"}}}},
	{"degrade", Want{Degrade: true}},
}

func show(b *strings.Builder, w Want, abi int) {
	e, missing := Plan(w, abi)
	fmt.Fprintf(b, "  landlock %d: used as %d", abi, e.ABI)
	if e.Refuse {
		b.WriteString(", refused")
	}
	b.WriteByte('\n')
	fmt.Fprintf(b, "    denied: %s\n", words(e.FS, names...))
	for _, r := range e.Rules {
		fmt.Fprintf(b, "    permitted: %s: %s", r.Path, words(r.Rights, names...))
		if r.Optional {
			b.WriteString(" (may be missing)")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "    tcp: denied %s, connect %v bind %v; scope: %s; log %v\n",
		words(e.Net, "bind", "connect"), e.Connect, e.Bind, words(e.Scope, "abstract", "signal"), e.Log)
	for _, m := range missing {
		since := "no kernel can"
		if m.ABI > 0 {
			since = fmt.Sprintf("needs landlock %d, Linux %s", m.ABI, m.Kernel)
		}
		fmt.Fprintf(b, "    missing: %s (%s); instead: %s\n", m.What, since, m.Instead)
	}
}

// The table that explain and doctor print from, for every kernel.
func TestPlan(t *testing.T) {
	var b strings.Builder
	for _, w := range wants {
		fmt.Fprintf(&b, "%s\n", w.name)
		for abi := range 9 {
			show(&b, w.want, abi)
		}
	}
	b.WriteString("numbers that no kernel says\n")
	for _, abi := range []int{99, -1} {
		show(&b, Want{}, abi)
	}
	if *update {
		if err := os.WriteFile("testdata/plan.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("testdata/plan.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(b.String(), "\n"), strings.Split(string(golden), "\n")
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			t.Fatalf("testdata/plan.txt:%d: now %q; -update writes it anew", i+1, got[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("testdata/plan.txt has %d lines more", len(want)-len(got))
	}
}

// What must hold of every plan, whatever is wanted, on every kernel.
func TestPlanNeverWidens(t *testing.T) {
	const nodes = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	all := []string{""}
	for _, l := range "rwxc" {
		for _, s := range all {
			all = append(all, s+string(l))
		}
	}
	for _, a := range all {
		for _, keep := range []Keep{Must, IfAble, Off} {
			var before Enforcement
			for abi := range 9 {
				w := Want{Unveil: []Path{{Path: "/a", Access: a}, {Path: "/b", Access: "r"}}, TCP: keep, Signals: keep, Abstract: keep}
				e, missing := Plan(w, abi)
				at := fmt.Sprintf("%q abi %d keep %d", a, abi, keep)
				for _, r := range e.Rules {
					if r.Rights&^e.FS != 0 || r.Rights&nodes != 0 {
						t.Errorf("%s: %s has %s", at, r.Path, words(r.Rights, names...))
					}
				}
				if before.FS&^e.FS != 0 || before.Net&^e.Net != 0 || before.Scope&^e.Scope != 0 {
					t.Errorf("%s: denies less than an older kernel", at)
				}
				if e.Refuse != (len(missing) > 0) {
					t.Errorf("%s: refuse %v with %v missing", at, e.Refuse, missing)
				}
				w.Degrade = true
				if e, again := Plan(w, abi); e.Refuse || len(again) != len(missing) {
					t.Errorf("%s: degrade hides what is missing, or refuses", at)
				}
				if abi >= 6 && len(missing) > 0 {
					t.Errorf("%s: missing %v on the newest", at, missing)
				}
				before = e
			}
		}
	}
	for a, want := range map[string]uint64{"": 0, "R": 0, "z": 0, "x": unix.LANDLOCK_ACCESS_FS_EXECUTE} {
		if got := rights(a); got != want {
			t.Errorf("%q stands for %s", a, words(got, names...))
		}
	}
}

// OpenBSD's most specific path wins; Landlock's rights add up.
func TestLessBelowIsMissing(t *testing.T) {
	for _, c := range []struct {
		paths string // path=access ...
		want  int
	}{
		{"/=r /data=rwc", 0},
		{"/=rwxc /etc=r", 1},
		{"/etc=r /=rw", 1},
		{"/a=rw /ab=r", 0},
		{"/a=rw /a/b=r /a/b/c=r", 2},
		{"/a=r /a=rw", 1},
		{"/a=rw /a=rw", 0},
		{"/a=rw /a=wx", 2},
	} {
		var w Want
		for _, f := range strings.Fields(c.paths) {
			p, a, _ := strings.Cut(f, "=")
			w.Unveil = append(w.Unveil, Path{Path: p, Access: a})
		}
		e, missing := Plan(w, 7)
		if len(missing) != c.want || e.Refuse != (c.want > 0) {
			t.Errorf("%s: %v", c.paths, missing)
		}
	}
}
