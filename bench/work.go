package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A workload is what people do inside: long enough for the launch not to matter.
type workload struct{ name, script string }

var workloads = []workload{
	{"git status", "cd /home/repo; i=0; while [ $i -lt 100 ]; do git status >/dev/null; i=$((i+1)); done"},
	{"tar -z", "for i in 1 2 3; do tar -C /home -czf /tmp/repo.tar.gz repo; done"},
	{"compile", "cd /home; for i in 1 2; do gcc -O2 -c large.c -o /tmp/large.o; done"},
	// The worst cases: hardly more than starting programs, and than opening, reading
	// and closing small files.
	{"compile, 200 lines", "cd /home; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do gcc -O2 -c hello.c -o /tmp/hello.o; done"},
	{"tar, 2000 files", "for i in 1 2 3 4 5 6 7 8 9 10; do tar -C /home -cf - repo | cat >/dev/null; done"},
}

// loss is one workload's time in a jail of jailctl's, with the default confinement,
// against that in a bare chroot. Ratio is the median of the rounds' ratios: what
// slows the machine down slows both of a round down.
type loss struct {
	Name  string  `json:"name"`
	Bare  spread  `json:"chroot"`
	Jail  spread  `json:"jail"`
	Ratio float64 `json:"ratio"`
}

// work measures the workloads, jailed and bare, in one run.
func (s *setup) work(ctx context.Context, n int) ([]loss, error) {
	root := s.dir + "/workjail"
	if err := s.workJail(root); err != nil {
		return nil, err
	}
	uid, gid, err := targetIDs()
	if err != nil {
		return nil, err
	}
	bare := s.dir + "/chroot-work"
	err = s.compile(bare, "chroot1", define("ROOT", root), fmt.Sprintf("-DTARGET_UID=%d", uid), fmt.Sprintf("-DTARGET_GID=%d", gid))
	if err := errors.Join(err, setuid(bare)); err != nil {
		return nil, err
	}
	jailed, err := s.installFor(s.dir+"/inside", root)
	if err != nil {
		return nil, err
	}
	var all []loss
	for _, w := range workloads {
		shell := []string{"/bin/sh", "-c", "export HOME=/home TMPDIR=/tmp; " + w.script}
		results, err := measure(ctx, s.caller, []contender{
			{unit, append([]string{bare}, shell...)},
			{jailctlName, append(slices.Clone(jailed), shell...)},
		}, 2, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		all = append(all, loss{w.name, results[0].spread, results[1].spread, paired(results[1].wall, results[0].wall)})
	}
	return all, nil
}

// workJail makes a jail with the machine's own programs, read-only, and something to
// work on. The mounts are gone before anything is removed.
func (s *setup) workJail(root string) error {
	for _, dir := range []string{"usr", "etc", "dev", "tmp", "home/repo/src"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	err := errors.Join(unix.Chmod(root+"/tmp", 0o1777), os.WriteFile(root+"/dev/null", nil, 0o644),
		s.bind("/usr", root+"/usr", unix.MS_RDONLY), s.bind("/etc/alternatives", root+"/etc/alternatives", unix.MS_RDONLY), s.bind("/dev/null", root+"/dev/null", 0))
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		if _, there := os.Lstat("/usr/" + link); there == nil {
			err = errors.Join(err, os.Symlink("usr/"+link, root+"/"+link))
		}
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "static int f%d(int a) { return a * %d + 1; }\n", i, i)
	}
	for i := range 2000 {
		if err := os.WriteFile(fmt.Sprintf("%s/home/repo/src/%d.c", root, i), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	hello := "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/socket.h>\n" + text.String() + "int main(void) { return puts(\"hello\") < 0; }\n"
	var large strings.Builder
	for i := range 150 {
		fmt.Fprintf(&large, "int f%d(const char *s, int n) {\n\tint i, h = %d;\n\tfor (i = 0; i < n; i++)\n\t\th = h * 31 + s[i] %% (i + 1);\n\treturn h;\n}\n", i, i)
	}
	repo := root + "/home/repo"
	return errors.Join(
		os.WriteFile(root+"/home/hello.c", []byte(hello), 0o644),
		os.WriteFile(root+"/home/large.c", []byte(large.String()), 0o644),
		s.command("git", "init", "-q", repo),
		s.command("git", "-C", repo, "add", "."),
		s.command("git", "-C", repo, "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "work"),
		s.command("chown", "-R", target, root+"/home"),
	)
}

// bind mounts from at to until cleanUp; nothing is removed while it is mounted.
func (s *setup) bind(from, to string, flags uintptr) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st.IsDir() {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error {
		if err := unix.Unmount(to, unix.MNT_DETACH); err != nil {
			return &stillMounted{filepath.Clean(to), err}
		}
		return nil
	})
	return unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// stillMounted ends the clean-up: a removal would reach the machine's own files.
type stillMounted struct {
	path string
	err  error
}

func (e *stillMounted) Error() string {
	return fmt.Sprintf("%s is still mounted (%v): unmount it, then remove what is left", e.path, e.err)
}

func paired(of, to []time.Duration) float64 {
	var ratios []float64
	for i := range of {
		ratios = append(ratios, float64(of[i])/float64(to[i]))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func printWork(out io.Writer, losses []loss) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "inside\tchroot ms\tjailctl ms\tx chroot\t\n")
	for _, l := range losses {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.3f\t\n", l.Name, ms(l.Bare.Median), ms(l.Jail.Median), l.Ratio)
	}
	w.Flush()
}
