package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func (p *program) applyCommand() *cobra.Command {
	var dry, all bool
	cmd := &cobra.Command{
		Use:   "apply [-n] [NAME|--all]",
		Short: "check policies and put them in force",
		Long: `Check the policy of the jail NAME, or of all jails, and put it in force.

A policy with a mistake changes nothing of what is in force. But while the text
differs from what is in force, every run in that jail is denied. With --all, or
without a name, jails whose policy is gone are withdrawn.`,
		Args:              arguments(0, -1),
		ValidArgsFunction: p.completeName,
		RunE: func(_ *cobra.Command, names []string) error {
			if all && len(names) > 0 {
				return usage("apply takes a name or --all, not both", "")
			}
			return p.apply(names, dry)
		},
	}
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would change: who gains, who loses what")
	cmd.Flags().BoolVar(&all, "all", false, "all jails, which is also meant where none is named")
	return cmd
}

// mostText is more than any policy may have: that a text is too large is for Check
// to say, with its place, as of any mistake.
const mostText = 64 << 20

// compiledDir holds the compiled policies.
func compiledDir() string { return filepath.Dir(paths.Compiled("x")) }

// policyDir holds the policies.
func policyDir() string { return filepath.Dir(paths.Policy("x")) }

// apply puts the policies of the jails called names in force, or all.
func (p *program) apply(names []string, dry bool) error {
	if !p.root {
		return cannot("run it as root; jailctl policy check FILE needs no root", "apply: only root may put a policy in force")
	}
	for _, name := range names {
		if jail, ok := strings.CutSuffix(name, source.Suffix); ok && source.ValidName(jail) {
			return cannot("name the jail: "+jail, "apply %q: not a jail's name", name)
		}
		if !source.ValidName(name) {
			return cannot("name the jail: web stands for "+paths.Policy("web"), "apply %q: not a jail's name", name)
		}
	}
	unlock, err := lock(compiledDir())
	if err != nil {
		return cannot("jailctl's make install creates it", "apply: %w", err)
	}
	defer unlock()
	all := len(names) == 0
	if all {
		if names, err = policyNames(); err != nil {
			return cannot("", "apply: %w", err)
		}
	}
	clean := true
	for _, name := range names {
		if err := p.applyOne(name, dry); err != nil {
			clean = false
			p.fail(err)
		}
	}
	if all {
		if err := p.withdraw(names, dry); err != nil {
			return err
		}
	}
	if !clean {
		return told(statusNo)
	}
	return nil
}

// applyOne puts one policy in force; an error leaves what was in force as it was.
func (p *program) applyOne(name string, dry bool) error {
	path := paths.Policy(name)
	text, err := p.read(path, mostText)
	if err != nil {
		return p.unreadable("apply", name, err)
	}
	compiled, problems := source.Check(path, text, p.names)
	was, old, err := inForce(name)
	if len(problems) > 0 {
		p.findings(problems)
		hint := "no policy is in force: every run is denied until the text is mended and applied"
		if !source.ValidName(name) {
			hint = "rename the file: under this name it can never be in force"
		} else if was != nil {
			hint = "the policy in force stays as it was, but every run is denied until the text is mended and applied, because the two differ"
			if old != nil && bytes.Equal(old.Source, text) {
				hint = "the policy in force stays as it was, and is of this same text: runs go on by it"
			}
		}
		return &trouble{statusNo, fmt.Errorf("cannot apply %s: %s", name, count(len(problems), "mistake")), hint}
	}
	p.findings(source.Warnings(path, compiled, time.Now()))
	if err != nil {
		p.say("", "what is in force for %s cannot be read, hence not compared: %v", name, err)
	}
	encoded := source.Encode(compiled)
	if bytes.Equal(encoded, was) {
		p.print("%s: in force, nothing changes", name)
		return nil
	}
	p.changes(name, source.Changes(old, compiled, time.Now()))
	if dry {
		return nil
	}
	if err := replace(paths.Compiled(name), encoded, 0o600, nil); err != nil {
		return cannot("", "apply %s: %w", name, err)
	}
	p.print("%s: in force", name)
	// The tree may be built later, so this is no reason to refuse.
	if hint, err := enter(name, compiled.Root); err != nil {
		p.say(hint, "the root of %s cannot be entered: %v", name, err)
	}
	return nil
}

// enter says why no command could enter the root of a jail, and what to do.
func enter(name, root string) (hint string, err error) {
	fd, err := safepath.Dir(root)
	if err == nil {
		unix.Close(fd)
	}
	return barred(name, root, err)
}

// barred is enter with the result of the helper's own walk to the root.
func barred(name, root string, err error) (string, error) {
	var fault *safepath.Fault
	if err == nil {
		return "", nil
	}
	reached := !errors.As(err, &fault) || fault.Fix == ""
	if _, missing := os.Lstat(root); reached && errors.Is(missing, fs.ErrNotExist) {
		if _, none := os.Lstat(paths.Contents(name)); none == nil {
			return "jailctl build " + name + " makes it", err
		}
	}
	switch {
	case reached:
		return "no command runs in the jail until this is mended", err
	case fault.Path == root:
		return fault.Fix, fmt.Errorf("%q %s", fault.Path, fault.Why)
	}
	return elsewhere(name, fault)
}

// elsewhere says of a directory on the way to a jail what is wrong with it. Others need
// it as it is: chmod go-w /tmp would break the host.
func elsewhere(name string, fault *safepath.Fault) (hint string, err error) {
	hint = "put the jail where only root can write on the way, for example /srv/jails/" + name
	if fault.Fix == "" || strings.Contains(fault.Why, "symbolic link") {
		hint = fault.Fix
	}
	return hint, fmt.Errorf("%q %s", fault.Path, fault.Why)
}

// withdraw removes compiled policies that have no policy any more, and what an
// apply that was interrupted left behind.
func (p *program) withdraw(names []string, dry bool) error {
	entries, err := os.ReadDir(compiledDir())
	if err != nil {
		return cannot("", "apply: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(compiledDir(), e.Name())
		name, isCompiled := strings.CutSuffix(e.Name(), ".pb")
		switch {
		case strings.HasPrefix(e.Name(), temporary):
		case isCompiled && !slices.Contains(names, name):
			_, old, _ := inForce(name)
			if old == nil {
				old = &jailpb.Compiled{}
			}
			p.changes(name, source.Changes(old, nil, time.Now()))
		default:
			continue
		}
		if dry {
			continue
		}
		if err := os.Remove(path); err != nil {
			return cannot("", "apply: %w", err)
		}
		if isCompiled {
			p.print("%s: withdrawn", name)
		}
	}
	return nil
}

func (p *program) changes(name string, lines []string) {
	if len(lines) == 0 {
		lines = []string{"the text changes, what it permits does not"}
	}
	for _, line := range lines {
		p.print("%s: %s", name, line)
	}
}

// unreadable says why a policy file cannot be used, as the helper would refuse it.
func (p *program) unreadable(verb, name string, err error) error {
	path := paths.Policy(name)
	var fault *safepath.Fault
	switch {
	case errors.Is(err, safepath.ErrNotExist):
		return cannot("jailctl init "+name+" writes one to begin with, jailctl policy edit "+name+" an empty one", "%s %s: there is no policy %s", verb, name, path)
	case errors.As(err, &fault):
		return cannot(fault.Fix, "%s %s: %q %s", verb, name, fault.Path, fault.Why)
	}
	return cannot("", "%s %s: %w", verb, name, err)
}

// inForce returns the compiled policy of a jail, also decoded; nothing at all
// where there is none.
func inForce(name string) ([]byte, *jailpb.Compiled, error) {
	b, err := os.ReadFile(paths.Compiled(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	old := &jailpb.Compiled{}
	if err := proto.Unmarshal(b, old); err != nil {
		return b, nil, errors.New("it is damaged")
	}
	return b, old, nil
}

// policyNames are the jails that have a policy file. A name that no jail can
// have is among them: Check says so.
func policyNames() ([]string, error) {
	entries, err := os.ReadDir(policyDir())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		// Editors keep their own files beside, with a dot first.
		if name, ok := strings.CutSuffix(e.Name(), source.Suffix); ok && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// lock waits until no other apply is at work in dir.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { d.Close() }, nil
}

// temporary begins the names of files that are not yet in their place.
const temporary = ".jailctl-"

// replace puts a file in the place of path, whole or not at all, also when the
// machine stops at any moment. With like the file gets that one's owner.
func replace(path string, content []byte, mode fs.FileMode, like fs.FileInfo) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if like != nil {
		st := like.Sys().(*syscall.Stat_t)
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
