// Bench measures what a launch through jailctl costs beside other ways into a
// chroot: from just before fork in the caller until the command has been waited
// for. `make bench` runs it, as root and from the top of the source tree:
//
//	bench [-n 300] [-max 3.6] [-cpu] [-work 20] [-build 5] [-json FILE] [-without LIST] ...
//
// Every launcher starts the same static program that does nothing, in the same
// jail, for the same ordinary user, with /dev/null as its standard files. The
// launchers take turns, in another order each round, so that a busy moment of
// the machine hits them all alike; compare ratios, not milliseconds. The unit is
// the C pair (bench/c/pair_client.c, pair_helper.c): a client and a setuid-root
// helper that do what jailctl and jailhelper do, apart from the confinement.
//
// The launchers, each left out with a reason where it cannot run:
//
//	true       the program alone, no jail: what no launcher can be faster than
//	C single   one setuid C program: chroot, drop, exec (bench/c/chroot1.c)
//	C pair     the unit
//	bwrap      bwrap --ro-bind ROOT / /true
//	jailctl    jailctl run bench /true, among 10 policies
//	jailctl-N  the same among N policies (-jails): a run must not cost more
//	doas, sudo chroot --userspec=1:1 ROOT /true
//
// The C programs are linked statically, as the Go ones are. A start on glibc still
// asks the processor what it is (CPUID), which on a virtual machine may take
// microseconds each time and which a Go program hardly does: ratios to the C pair
// are kinder to jailctl there than on bare metal.
//
// With -work, a second table: ordinary work inside a jail with the default
// confinement, against the same in a bare chroot (C single).
//
// With -build, a third table: making jails, by jailctl build and by Debian's jailkit
// (jk_init, jk_cp, jk_update, jk_check), where that is installed. Each content is made
// by both from the same list: what jk_cp gets as arguments, and jk_init as paths= in a
// configuration file of its own, is programs: and paths: in the contents file. There
// are programs with their libraries, these with the directory of Python's library, and
// many files without any program, of sizes as they are on a system. Afterwards it is
// compared what the trees hold, byte by byte: jailctl copies more (libraries that are
// only loaded by name), and jailkit makes an ld.so.cache. In each round, in alternating
// order, and times faster is the median of the rounds' ratios:
//
//	build          into an empty place. jailctl hashes what it copies, reads it back,
//	               syncs the tree to the disk and puts it in its place at one stroke, and
//	               all that is in its time; jailkit does nothing of it.
//	nothing to do  jailctl build again, against the same jk_init or jk_cp again, which
//	               looks only whether there is a file of each name, and against jk_update,
//	               which compares all contents with the machine's.
//	verify         jailctl verify, which reads all that is in the tree, against jk_check,
//	               which compares sizes and 1 KiB of each file, at random, with the machine's.
//
// jailkit makes no hard links to the machine's files (-k). Both write nothing to a
// terminal. The first round is not counted: it fills the page cache. What anything has
// left to be written is written (sync) before the next is timed. The gates (-min-build,
// -min-rebuild) judge against jk_init and jk_cp. Two are not judged: a rebuild of the
// programs alone, which is hardly more than the start of a process, for both, and a build
// of files without any program, which is copying alone, with what was said above in one
// time and not in the other.
//
// jailctl verify is also compared with sha256sum, one process over the same files, and
// with hashing as many bytes that are in memory, with Go's SHA-256 on all processors:
// what would be left if all else cost nothing.
//
// All files are in a new directory under /opt, /srv or /var/lib, whichever is
// root's alone, and are removed on every way out, signals included. Sudo and doas
// read only /etc: while the program runs there is a /etc/sudoers.d/jailctl-bench-PID
// and, where there was none, a /etc/doas.conf, which permit the one command line
// above to the one user. SIGKILL leaves them behind.
//
// The exit status is 0, 1 when a gate is missed, 2 on trouble.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	n, warmup, jails            int
	work, build                 int
	max, minBuild, minRebuild   float64
	user, dir, prefix, jsonFile string
	without                     map[string]bool
	cpu                         bool
}

// report is what -json writes.
type report struct {
	Kernel  string            `json:"kernel"`
	Machine string            `json:"machine"`
	Syslog  bool              `json:"syslog"` // /dev/log is there: audit lines cost something
	Rounds  int               `json:"rounds"`
	Results []result          `json:"results"`
	LeftOut map[string]string `json:"left_out"`
	Work    []loss            `json:"work,omitempty"`
	Build   *buildReport      `json:"build,omitempty"`
	Missed  []string          `json:"gate_missed,omitempty"`
}

func main() {
	opt := options{without: map[string]bool{}}
	flag.IntVar(&opt.n, "n", 300, "measured launches of each launcher")
	flag.IntVar(&opt.warmup, "warmup", 20, "launches of each before that")
	flag.IntVar(&opt.jails, "jails", 10000, "run jailctl once more among so many policies; 0: do not")
	flag.Float64Var(&opt.max, "max", 3.6, "gate: exit 1 when jailctl's median is over `RATIO` C pairs, or over sudo's or doas's; 0: no gate")
	flag.IntVar(&opt.work, "work", 0, "`ROUNDS` of git status, tar and a compiler inside, jailed and in a bare chroot")
	flag.IntVar(&opt.build, "build", 0, "`ROUNDS` of building, rebuilding and verifying jails, beside jailkit")
	flag.Float64Var(&opt.minBuild, "min-build", 3, "gate: exit 1 when jailctl build is less than `TIMES` faster than jailkit; 0: no gate")
	flag.Float64Var(&opt.minRebuild, "min-rebuild", 20, "gate: the same for a rebuild with nothing to do")
	flag.StringVar(&opt.user, "user", "nobody", "account that launches")
	flag.StringVar(&opt.dir, "dir", "", "root-owned `DIR` to work below (default: /opt, /srv or /var/lib)")
	flag.StringVar(&opt.prefix, "prefix", "", "use the jailctl of make install PREFIX=`DIR` SYSCONFDIR=DIR/etc instead of a new one; leaves out -jails")
	flag.StringVar(&opt.jsonFile, "json", "", "write the results to `FILE`")
	flag.BoolVar(&opt.cpu, "cpu", false, "a second table: processor time of a launch")
	flag.Func("without", "`LAUNCHERS` to leave out, separated by commas: bwrap, jailctl, doas, sudo", func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			if !slices.Contains([]string{"bwrap", jailctlName, "doas", "sudo"}, name) {
				return fmt.Errorf("%q cannot be left out", name)
			}
			opt.without[name] = true
		}
		return nil
	})
	flag.Parse()
	if flag.NArg() > 0 || opt.n < 1 || opt.warmup < 0 || opt.jails < 0 {
		flag.Usage()
		os.Exit(2)
	}

	// A signal cancels ctx; everything ends by returning, so the deferred
	// clean-up in run is the only one.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	rep, err := run(ctx, opt)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(2)
	}
	if len(rep.Missed) > 0 || rep.Build != nil && len(rep.Build.Missed) > 0 {
		os.Exit(1)
	}
}

// run sets up, measures, prints and cleans up.
func run(ctx context.Context, opt options) (rep report, err error) {
	s, err := newSetup(ctx, opt)
	if err != nil {
		return rep, err
	}
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // the rest follows from it
		}
		err = errors.Join(err, s.cleanUp())
	}()

	contenders, err := s.contenders()
	if err != nil {
		return rep, err
	}
	var uts unix.Utsname
	unix.Uname(&uts)
	rep = report{
		Kernel:  unix.ByteSliceToString(uts.Release[:]),
		Machine: unix.ByteSliceToString(uts.Machine[:]),
		Syslog:  unix.Access("/dev/log", unix.W_OK) == nil,
		Rounds:  opt.n,
		LeftOut: s.leftOut,
	}
	rep.Results, err = measure(ctx, s.caller, contenders, opt.warmup, opt.n)
	if err != nil {
		return rep, err
	}
	rep.Missed = gate(rep.Results, opt.max)
	rep.print(os.Stdout, opt)
	if opt.work > 0 {
		if rep.Work, err = s.work(ctx, opt.work); err != nil {
			return rep, err
		}
		printWork(os.Stdout, rep.Work)
	}
	if opt.build > 0 {
		if rep.Build, err = s.builds(ctx, opt.build); err != nil {
			return rep, err
		}
		rep.Build.print(os.Stdout)
	}
	if opt.jsonFile != "" {
		data, err := json.MarshalIndent(rep, "", "\t")
		if err != nil {
			return rep, err
		}
		if err := os.WriteFile(opt.jsonFile, append(data, '\n'), 0o644); err != nil {
			return rep, err
		}
	}
	return rep, nil
}

// gate says what jailctl misses: max, in C pairs, and being no slower than sudo
// and doas. It judges only what ran.
func gate(results []result, max float64) (missed []string) {
	jailctl := find(results, jailctlName)
	if jailctl == nil || max == 0 {
		return nil
	}
	if jailctl.Ratio > max {
		missed = append(missed, fmt.Sprintf("jailctl takes %.2f C pairs, more than %.2f", jailctl.Ratio, max))
	}
	for _, name := range []string{"doas", "sudo"} {
		if r := find(results, name); r != nil && jailctl.Median > r.Median {
			missed = append(missed, "jailctl is slower than "+name)
		}
	}
	return missed
}

func (rep *report) print(out io.Writer, opt options) {
	log := "no /dev/log"
	if rep.Syslog {
		log = "with /dev/log"
	}
	fmt.Fprintf(out, "%s %s, %s, %d rounds\n\n", rep.Machine, rep.Kernel, log, rep.Rounds)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "launcher\tmedian ms\tp10\tp90\tx C pair\t\n")
	for _, r := range rep.Results {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t\n", r.Name, ms(r.Median), ms(r.P10), ms(r.P90), r.Ratio)
	}
	if opt.cpu {
		fmt.Fprint(w, "\t\t\t\t\t\nprocessor time\tmedian ms\tp10\tp90\tx C pair\t\n")
		for _, r := range rep.Results {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t\n", r.Name, ms(r.CPU.Median), ms(r.CPU.P10), ms(r.CPU.P90), r.CPU.Ratio)
		}
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, name := range []string{"bwrap", jailctlName, manyName(opt.jails), "doas", "sudo"} {
		if why, ok := rep.LeftOut[name]; ok {
			fmt.Fprintf(out, "left out: %s: %s\n", name, why)
		}
	}
	few, many := find(rep.Results, jailctlName), find(rep.Results, manyName(opt.jails))
	if few != nil && many != nil {
		fmt.Fprintf(out, "jails: %d policies cost %.3f times what %d cost\n", opt.jails, float64(many.Median)/float64(few.Median), fewPolicies)
	}
	switch {
	case opt.max == 0:
	case few == nil:
		fmt.Fprintln(out, "gate: not judged without jailctl")
	case len(rep.Missed) == 0:
		fmt.Fprintf(out, "gate: passed, at most %.2f C pairs\n", opt.max)
	}
	for _, m := range rep.Missed {
		fmt.Fprintf(out, "gate: missed: %s\n", m)
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()*1e3) }
