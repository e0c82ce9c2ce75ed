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

	"golang.org/x/sys/unix"
)

// A workload is what people do inside: long enough for the launch not to matter.
type workload struct{ name, script string }

var workloads = []workload{
	{"git status", "cd /work/repo; i=0; while [ $i -lt 100 ]; do git status >/dev/null; i=$((i+1)); done"},
	{"tar -z", "for i in 1 2 3; do tar -C /work -czf /tmp/repo.tar.gz repo; done"},
	{"compile", "cd /work; for i in 1 2 3 4 5 6 7 8 9 10; do gcc -O2 -c hello.c -o /tmp/hello.o; done"},
	// The worst case: nothing but opening, reading and closing small files.
	{"tar", "for i in 1 2 3 4 5 6 7 8 9 10; do tar -C /work -cf - repo | cat >/dev/null; done"},
}

// loss is one workload's time in a jail of jailctl's, with the default confinement,
// against that in a bare chroot: of medians, rounds taking turns.
type loss struct {
	Name  string `json:"name"`
	Bare  spread `json:"chroot"`
	Jail  spread `json:"jail"`
	Ratio float64
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
		shell := []string{"/bin/sh", "-c", "export HOME=/work TMPDIR=/tmp; " + w.script}
		results, err := measure(ctx, s.caller, []contender{
			{unit, append([]string{bare}, shell...)},
			{jailctlName, append(slices.Clone(jailed), shell...)},
		}, 2, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		all = append(all, loss{w.name, results[0].spread, results[1].spread, results[1].Ratio})
	}
	return all, nil
}

// workJail makes a jail with the machine's own programs, read-only, and something to
// work on. The mounts are gone before anything is removed.
func (s *setup) workJail(root string) error {
	for _, dir := range []string{"usr", "etc", "dev", "tmp", "work/repo/src"} {
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
		if err := os.WriteFile(fmt.Sprintf("%s/work/repo/src/%d.c", root, i), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	hello := "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/socket.h>\n" + text.String() + "int main(void) { return puts(\"hello\") < 0; }\n"
	repo := root + "/work/repo"
	return errors.Join(
		os.WriteFile(root+"/work/hello.c", []byte(hello), 0o644),
		s.command("git", "init", "-q", repo),
		s.command("git", "-C", repo, "add", "."),
		s.command("git", "-C", repo, "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "work"),
		s.command("chown", "-R", target, root+"/work"),
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

func printWork(out io.Writer, losses []loss) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "inside\tchroot ms\tjailctl ms\tx chroot\t\n")
	for _, l := range losses {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.3f\t\n", l.Name, ms(l.Bare.Median), ms(l.Jail.Median), l.Ratio)
	}
	w.Flush()
}
