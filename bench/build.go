package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// programs are what jk_cp and jk_init are given, by name, and programs: in the contents
// file; those of them that this machine has.
const programs = "bash git python3 basename cat chmod chown cp cut date dd df dirname du echo env expr false head id " +
	"ln ls mkdir mktemp mv nice nl od printenv printf pwd readlink realpath rm rmdir seq sha256sum sleep sort split " +
	"stat stty sync tac tail tee test timeout touch tr true tsort tty uname uniq wc who whoami yes"

// searched is PATH for jailkit: where jailctl looks programs up, in the same order.
const searched = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// again is how often in a round each rebuild with nothing to do is timed.
const again = 5

// shown is how many of the files that one tree alone has are printed.
const shown = 6

// buildReport is the third table.
type buildReport struct {
	Jailkit string        `json:"jailkit,omitempty"` // version
	Jailctl string        `json:"jailctl"`
	Rounds  int           `json:"rounds"`
	Load    [2]float64    `json:"load"` // before and after
	Jails   []jailBuild   `json:"jails"`
	Verify  verifyReport  `json:"verify"`
	Missed  []string      `json:"gate_missed,omitempty"`
	LeftOut string        `json:"left_out,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// jailBuild is one content, made by both.
type jailBuild struct {
	Name  string    `json:"name"`
	Trees [2]holds  `json:"trees"` // jailkit's, jailctl's
	Steps []against `json:"steps"`
}

// holds is what a tree has in it. Only are the files that the other has not, or has
// with another content.
type holds struct {
	Files int      `json:"files"`
	Bytes int64    `json:"bytes"`
	Only  []string `json:"only,omitempty"`
}

// against is one step, jailkit's and jailctl's. Ratio is the median of the rounds'
// ratios: how many times faster jailctl is.
type against struct {
	Name    string  `json:"name"`
	Jailkit spread  `json:"jailkit"`
	Jailctl spread  `json:"jailctl"`
	Ratio   float64 `json:"ratio"`
	// Least is what the gate asks for; 0: nothing.
	Least float64 `json:"least,omitempty"`
}

// content is what a jail is to hold, and which of jailkit's programs makes it.
type content struct {
	name, title     string
	tool            string // jk_cp or jk_init
	programs, paths []string
	// minBuild is what the gate asks of a build, minRebuild of one with nothing to do.
	minBuild, minRebuild float64
}

// builds is the installation that the third table is measured with.
type builds struct {
	*setup
	ctx    context.Context
	prefix string // of jailctl
}

// builds measures n rounds of building, rebuilding and verifying.
func (s *setup) builds(ctx context.Context, n int) (*buildReport, error) {
	begin := time.Now()
	b := &builds{s, ctx, s.dir + "/builds"}
	if err := s.makeInstall(b.prefix); err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, b.prefix+"/bin/jailctl", "--version").Output()
	if err != nil {
		return nil, err
	}
	files, size, err := generate(b.source())
	if err != nil {
		return nil, err
	}
	rep := &buildReport{Rounds: n, Jailctl: strings.TrimSpace(strings.TrimPrefix(string(version), "jailctl ")), Load: [2]float64{load()}}
	if rep.Jailkit, err = b.jailkit(); err != nil {
		rep.LeftOut = err.Error()
	} else if rep.Jails, err = b.jails(n); err != nil {
		return nil, err
	}
	if rep.Verify, err = b.verify(n, files, size); err != nil {
		return nil, err
	}
	rep.Load[1], rep.Took = load(), time.Since(begin)
	for _, j := range rep.Jails {
		for _, a := range j.Steps {
			if a.Ratio < a.Least {
				rep.Missed = append(rep.Missed, fmt.Sprintf("%s, %s: %.1f times faster, less than %.1f", j.Name, a.Name, a.Ratio, a.Least))
			}
		}
	}
	return rep, nil
}

// jailkit is its version, as Debian has it, or why it cannot be measured.
func (b *builds) jailkit() (string, error) {
	for _, tool := range []string{"jk_cp", "jk_init", "jk_update", "jk_check"} {
		if _, err := os.Stat("/usr/sbin/" + tool); err != nil {
			return "", err
		}
	}
	out, err := exec.CommandContext(b.ctx, "dpkg-query", "-W", "-f", "${Version}", "jailkit").Output()
	if err != nil {
		return "", fmt.Errorf("the version of jailkit: %w", err)
	}
	return string(out), nil
}

// load is the machine's load average of the last minute.
func load() float64 {
	var info unix.Sysinfo_t
	unix.Sysinfo(&info)
	return float64(info.Loads[0]) / (1 << 16)
}

func (b *builds) jails(n int) (all []jailBuild, err error) {
	var have []string
	for _, name := range strings.Fields(programs) {
		for dir := range strings.SplitSeq(searched, ":") {
			if st, err := os.Stat(dir + "/" + name); err == nil && st.Mode().IsRegular() {
				have = append(have, name)
				break
			}
		}
	}
	python, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		return nil, err
	}
	for _, c := range []content{
		// Here the start of a process is most of it, on both sides.
		{name: "programs", title: "programs", tool: "jk_init", programs: have, minBuild: b.opt.minBuild},
		{"python", "programs and python's library", "jk_cp", have, []string{"/usr/lib/" + filepath.Base(python)}, b.opt.minBuild, b.opt.minRebuild},
		{"files", fmt.Sprint(manyFiles, " files"), "jk_cp", nil, []string{b.source()}, 0, b.opt.minRebuild},
	} {
		j, err := b.jail(c, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, j)
	}
	return all, nil
}

// jail measures one content.
func (b *builds) jail(c content, n int) (jailBuild, error) {
	theirs, ours := b.dir+"/jailkit-"+c.name, b.root(c.name)
	copying, err := b.theirs(c, theirs)
	if err != nil {
		return jailBuild{}, err
	}
	if err := b.ours(c); err != nil {
		return jailBuild{}, err
	}
	checked := theirs + ".ini"
	if err := writeFile(checked, "["+theirs+"]\n"); err != nil {
		return jailBuild{}, err
	}
	updating := []string{"/usr/sbin/jk_update", "-j", theirs, "/usr"}
	if len(c.programs) == 0 {
		updating = append(updating[:3], c.paths...)
	}
	jailctl := b.prefix + "/bin/jailctl"
	building := []string{jailctl, "build", "--quiet", c.name}
	steps := []struct {
		against
		theirs, ours []string
		times        int
		before       func() error
	}{
		{against{Name: "build: " + c.tool, Least: c.minBuild}, copying, building, 1, func() error { return b.empty(theirs, c.name) }},
		{against{Name: "nothing to do: " + c.tool, Least: c.minRebuild}, copying, building, again, nil},
		{against{Name: "nothing to do: jk_update"}, updating, building, again, nil},
		{against{Name: "verify: jk_check"}, []string{"/usr/sbin/jk_check", "-c", checked}, []string{jailctl, "verify", c.name}, 1, nil},
	}
	times := make([][2][]time.Duration, len(steps))
	for round := range n + 1 {
		var built uint64
		for i, step := range steps {
			for range step.times {
				if step.before != nil {
					if err := step.before(); err != nil {
						return jailBuild{}, err
					}
				}
				pair, err := b.pair("/", round, step.theirs, step.ours)
				if err != nil {
					return jailBuild{}, err
				}
				if round > 0 { // the first is to fill the page cache
					times[i][0], times[i][1] = append(times[i][0], pair[0]), append(times[i][1], pair[1])
				}
			}
			var st unix.Stat_t
			if err := unix.Stat(ours, &st); err != nil {
				return jailBuild{}, err
			}
			if i == 0 {
				built = st.Ino
			} else if st.Ino != built {
				return jailBuild{}, errors.New("jailctl had something to do where there was nothing: the machine's files changed; run it again")
			}
		}
	}
	j := jailBuild{Name: c.title}
	for i, step := range steps {
		a := step.against
		a.Jailkit, a.Jailctl, a.Ratio = spreadOf(times[i][0]), spreadOf(times[i][1]), paired(times[i][0], times[i][1])
		j.Steps = append(j.Steps, a)
	}
	j.Trees, err = compare(theirs, ours)
	return j, err
}

// theirs is the command line of jailkit that makes a content in a directory.
func (b *builds) theirs(c content, dir string) ([]string, error) {
	names := slices.Concat(c.programs, c.paths)
	if c.tool == "jk_cp" {
		return append([]string{"/usr/sbin/jk_cp", "-j", dir}, names...), nil
	}
	ini := dir + "-init.ini"
	err := writeFile(ini, "[bench]\npaths = "+strings.Join(names, ", ")+"\nusers = root\ngroups = root\ndevices = /dev/null\n")
	return []string{"/usr/sbin/jk_init", "-c", ini, "-j", dir, "bench"}, err
}

// root is where jailctl makes a jail, source the directory with many files.
func (b *builds) root(name string) string { return b.dir + "/jailctl-" + name }
func (b *builds) source() string          { return b.dir + "/sources" }

// ours writes policy and contents file of a jail.
func (b *builds) ours(c content) error {
	var text strings.Builder
	for _, p := range c.programs {
		fmt.Fprintf(&text, "programs: %q\n", p)
	}
	for _, p := range c.paths {
		fmt.Fprintf(&text, "paths: %q\n", p)
	}
	if c.tool == "jk_init" {
		text.WriteString("users: \"root\"\ngroups: \"root\"\ndevices: \"null\"\n")
	}
	return errors.Join(
		writeFile(b.prefix+"/etc/jailctl/jails/"+c.name+".txtpb", policyText(b.root(c.name))),
		writeFile(b.prefix+"/etc/jailctl/contents/"+c.name+".txtpb", text.String()),
	)
}

// empty takes both trees away; what is left to write of them is not in anybody's time.
func (b *builds) empty(theirs, name string) error {
	err := errors.Join(os.RemoveAll(theirs), os.Mkdir(theirs, 0o755))
	if _, there := os.Lstat(b.root(name)); there == nil {
		err = errors.Join(err, b.command(b.prefix+"/bin/jailctl", "remove", "--yes", name))
	}
	return err
}

// pair times two commands in a directory, the second one first in every other round.
func (b *builds) pair(dir string, round int, first, second []string) (times [2]time.Duration, err error) {
	commands := [2][]string{first, second}
	for i := range commands {
		at := (i + round) % 2
		if times[at], err = b.timed(dir, commands[at]...); err != nil {
			return times, err
		}
	}
	return times, nil
}

// timed runs a command as root to its end. Nobody pays for what others left to be
// written.
func (b *builds) timed(dir string, argv ...string) (time.Duration, error) {
	unix.Sync()
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + searched, "HOME=/root", "LANG=C.UTF-8"}
	var said bytes.Buffer
	cmd.Stderr = &said
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(said.String()))
	}
	return took, err
}

// compare says what two trees hold, and what only one of them does.
func compare(a, b string) (trees [2]holds, err error) {
	var found [2]map[string]string
	for i, root := range []string{a, b} {
		found[i] = map[string]string{}
		err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			what := info.Mode().Type().String()
			switch {
			case info.Mode().IsRegular():
				content, err := os.ReadFile(at)
				if err != nil {
					return err
				}
				what = string(content)
				trees[i].Bytes += info.Size()
			case info.Mode().Type() == fs.ModeSymlink:
				if what, err = os.Readlink(at); err != nil {
					return err
				}
			}
			trees[i].Files++
			found[i][at[len(root):]] = what
			return nil
		})
		if err != nil {
			return trees, err
		}
	}
	for i := range trees {
		for name, what := range found[i] {
			if other, there := found[1-i][name]; !there {
				trees[i].Only = append(trees[i].Only, name)
			} else if other != what {
				trees[i].Only = append(trees[i].Only, name+" (with another content)")
			}
		}
		slices.Sort(trees[i].Only)
	}
	return trees, nil
}

func (rep *buildReport) print(out io.Writer) {
	fmt.Fprintf(out, "\njailctl %s, jailkit %s, %d rounds, load average %.1f before, %.1f after\n\n",
		rep.Jailctl, cmp.Or(rep.Jailkit, "none"), rep.Rounds, rep.Load[0], rep.Load[1])
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, j := range rep.Jails {
		fmt.Fprintf(w, "%s\tjailkit ms\tjailctl ms\ttimes faster\t\n", j.Name)
		for _, a := range j.Steps {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t\n", a.Name, ms(a.Jailkit.Median), ms(a.Jailctl.Median), a.Ratio)
		}
		w.Flush()
		for i, who := range []string{"jailkit's tree", "jailctl's tree"} {
			t := j.Trees[i]
			fmt.Fprintf(out, "%s: %d files, %d bytes", who, t.Files, t.Bytes)
			if len(t.Only) > 0 {
				fmt.Fprintf(out, "; only there: %s", strings.Join(t.Only[:min(shown, len(t.Only))], ", "))
			}
			if more := len(t.Only) - shown; more > 0 {
				fmt.Fprintf(out, " and %d more", more)
			}
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out)
	}
	if rep.LeftOut != "" {
		fmt.Fprintf(out, "left out: jailkit: %s\n", rep.LeftOut)
	}
	rep.Verify.print(out)
	switch {
	case len(rep.Missed) > 0:
		for _, m := range rep.Missed {
			fmt.Fprintf(out, "gate: missed: %s\n", m)
		}
	case len(rep.Jails) == 0:
		fmt.Fprintln(out, "gate: builds not judged without jailkit")
	default:
		fmt.Fprintln(out, "gate: builds passed")
	}
}
