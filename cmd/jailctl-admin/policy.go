package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"jailctl/internal/contents"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func (p *program) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy check|fmt|edit",
		Short: "check, format and edit policies",
		Long: fmt.Sprintf(`Check, format and edit policies.

The policy of jail NAME is %s, in
protobuf text format; jailctl-policy(5) describes it.`, paths.Policy("NAME")),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("policy does nothing by itself", "use policy check, policy fmt or policy edit")
			}
			return usage(fmt.Sprintf("unknown verb %q", "policy "+args[0]), "use policy check, policy fmt or policy edit")
		},
	}
	check := &cobra.Command{
		Use:   "check [FILE|NAME]...",
		Short: "find the mistakes in policies; without argument, in all that are installed",
		Long: `Find all mistakes in policies and say what to write instead. A NAME is a jail
whose policy is installed; what has a slash or ends in .txtpb is a FILE. Without
argument all installed policies are checked. Nothing is put in force.

A FILE in a directory called contents or presets is taken for what the name says:
see jailctl-contents(5). It is checked with the presets that it includes.`,
		Args:              arguments(0, -1),
		ValidArgsFunction: p.completeNameOrFile,
		RunE:              func(_ *cobra.Command, args []string) error { return p.check(args) },
	}
	var showDiff bool
	format := &cobra.Command{
		Use:   "fmt [-d] FILE|NAME...",
		Short: "lay policies out in the usual way; comments stay",
		Long: `Lay policies out in the usual way. Comments stay. FILE and NAME are told apart
as by policy check; contents files and presets are laid out, too.`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeNameOrFile,
		RunE:              func(_ *cobra.Command, files []string) error { return p.format(files, showDiff) },
	}
	format.Flags().BoolVarP(&showDiff, "diff", "d", false, "print what would change and write nothing; exit status 1 if there is anything")
	edit := &cobra.Command{
		Use:   "edit NAME",
		Short: "edit a policy, check it, put it in force",
		Long: `Edit a copy of the policy of jail NAME with $VISUAL, $EDITOR or vi; check it;
and only without mistakes install it and put it in force. A policy that is not
there yet begins with an example.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeName,
		RunE:              func(_ *cobra.Command, args []string) error { return p.edit(args[0]) },
	}
	for _, c := range []*cobra.Command{check, format, edit} {
		c.DisableFlagsInUseLine = true
		cmd.AddCommand(c)
	}
	return cmd
}

func (p *program) check(args []string) error {
	if len(args) == 0 {
		names, err := policyNames()
		if err != nil {
			return cannot("run it as root, or name a file", "check the installed policies: %w", err)
		}
		for _, name := range names {
			args = append(args, paths.Policy(name))
		}
	}
	status := statusYes
	for _, arg := range args {
		file, text, err := p.policyText("check", arg)
		if err != nil {
			status = statusTrouble
			p.fail(err)
			continue
		}
		compiled, problems := p.checkText(file, text)
		p.findings(problems)
		if len(problems) > 0 {
			status = max(status, statusNo)
			p.say("", "%s in %s", count(len(problems), "mistake"), file)
			continue
		}
		if compiled != nil {
			p.findings(source.Warnings(file, compiled, time.Now()))
		}
		if isContents(file) {
			p.print("%s: no mistakes; whether this machine has it all, only jailctl build -n NAME tells", file)
			continue
		}
		p.print("%s: no mistakes", file)
	}
	return told(status)
}

// isContents tells whether a file is a contents file or a preset, by the name of its
// directory, or by the name that learn gives it.
func isContents(file string) bool {
	absolute, _ := filepath.Abs(file)
	dir := filepath.Base(filepath.Dir(absolute))
	return dir == "contents" || dir == "presets" || strings.HasSuffix(file, learnedContents)
}

// checkText checks a policy, or a contents file or preset with all that it includes;
// the latter are not compiled.
func (p *program) checkText(file string, text []byte) (*jailpb.Compiled, []source.Problem) {
	if !isContents(file) {
		return source.Check(file, text, p.names)
	}
	_, problems, _ := contents.Load(file, func(path string) ([]byte, error) {
		if path == file {
			return text, nil
		}
		return p.readContents(path)
	})
	return nil, problems
}

// readContents reads a contents file or preset that only root can have written.
func (p *program) readContents(path string) ([]byte, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return p.read(path, mostText)
}

// policyText reads the policy that a FILE or NAME on the command line means. An
// installed one is refused where the helper would refuse it, and an installed contents
// file where a build would.
func (p *program) policyText(verb, arg string) (file string, text []byte, err error) {
	name := arg
	if strings.Contains(arg, "/") || strings.HasSuffix(arg, source.Suffix) {
		base := strings.TrimSuffix(filepath.Base(arg), source.Suffix)
		switch arg {
		case paths.Policy(base):
		case paths.Contents(base):
			if text, err = p.readContents(arg); err != nil {
				err = cannot("", "%s %s: %w", verb, base, err)
			}
			return arg, text, err
		default:
			text, err = readFile(arg)
			return arg, text, err
		}
		name = base
	} else if !source.ValidName(name) {
		return arg, nil, cannot("a file has a slash in it or ends in "+source.Suffix, "%s %q: neither a file nor the name of a jail", verb, arg)
	}
	text, err = p.read(paths.Policy(name), mostText)
	if err != nil {
		err = p.unreadable(verb, name, err)
	}
	return paths.Policy(name), text, err
}

// readFile reads a file of the user's choice, and no more than tells that it is
// too large.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cannot("", "read a policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, source.MaxText+1))
	if err != nil {
		return nil, cannot("", "read a policy: %w", err)
	}
	return text, nil
}

func (p *program) format(files []string, showDiff bool) error {
	status := statusYes
	for _, file := range files {
		differs, err := p.formatOne(file, showDiff)
		if err != nil {
			status = statusTrouble
			p.fail(err)
		} else if differs && showDiff {
			status = max(status, statusNo)
		}
	}
	return told(status)
}

func (p *program) formatOne(arg string, showDiff bool) (differs bool, err error) {
	file, text, err := p.policyText("format", arg)
	if err != nil {
		return false, err
	}
	if len(text) > source.MaxText {
		return false, cannot("", "format %q: it has more than %d bytes", file, source.MaxText)
	}
	layOut := source.Format
	if isContents(file) {
		layOut = contents.Format
	}
	out, err := layOut(text)
	if err != nil {
		if _, problems := p.checkText(file, text); len(problems) > 0 {
			p.findings(problems)
			err = errors.New(count(len(problems), "mistake"))
		}
		return false, cannot("", "format %q: %w", file, err)
	}
	if bytes.Equal(text, out) {
		return false, nil
	}
	if showDiff {
		p.write(diff.Diff(file, text, file+" formatted", out))
		return true, nil
	}
	// A link stays a link: what it leads to is replaced.
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return true, cannot("", "format %q: %w", file, err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return true, cannot("", "format %q: %w", file, err)
	}
	if err := replace(target, out, info.Mode().Perm(), info); err != nil {
		return true, cannot("", "format %q: %w", file, err)
	}
	if name := strings.TrimSuffix(filepath.Base(target), source.Suffix); target == paths.Policy(name) {
		p.say("put it in force again with: jailctl apply "+name, "every run in %s is denied until the new layout is applied", name)
	}
	return true, nil
}

// example is what a new policy begins with. It has mistakes until it is filled in.
const example = `# proto-file: proto/policy.proto
# proto-message: Jail
description: ""
root: "/srv/jails/%s"

# The first rule that matches caller and command decides; no rule matches: denied.
rules {
  users: ""                           # names or numbers; "*" is everyone
  commands { path: "/usr/bin/" }      # without commands: any
  run_as { user: "" }                 # a user with few rights, best one for this jail
}
`

// edit is what visudo(8) is for sudoers.
func (p *program) edit(name string) (err error) {
	if !p.root {
		return cannot("run it as root", "edit the policy of %q: only root may", name)
	}
	if jail, ok := strings.CutSuffix(name, source.Suffix); ok {
		return cannot("name the jail: "+jail, "edit %q: not a jail's name", name)
	}
	if !source.ValidName(name) {
		return cannot("a name is up to 63 of a-z 0-9 _ . -, a letter or digit first", "edit %q: not a jail's name", name)
	}
	path := paths.Policy(name)
	before, err := p.read(path, mostText)
	isNew := errors.Is(err, safepath.ErrNotExist)
	if err != nil && !isNew {
		return p.unreadable("edit", name, err)
	}
	begin := before
	if isNew {
		begin = fmt.Appendf(nil, example, name)
	}
	draft, err := draftOf(path, begin)
	if err != nil {
		return cannot("", "edit %s: %w", name, err)
	}
	defer func() { err = discard(draft, begin, err) }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			// Ctrl-C in the editor is for the editor.
			if s == syscall.SIGINT && p.editing.Load() {
				continue
			}
			p.fail(discard(draft, begin, fmt.Errorf("ended by signal: %v", s)))
			os.Exit(128 + int(s.(syscall.Signal)))
		}
	}()
	text, err := p.compose(path, draft, begin)
	signal.Stop(signals)
	if err != nil {
		return err
	}
	if bytes.Equal(text, begin) {
		return p.unchanged(name, isNew)
	}
	now, err := p.read(path, mostText)
	if isNew != (err != nil) || !bytes.Equal(now, before) {
		return cannot("", "install %q: somebody changed it meanwhile", path)
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := replace(path, text, mode, nil); err != nil {
		return cannot("", "install %q: %w", path, err)
	}
	os.Remove(draft)
	return p.apply([]string{name}, false)
}

// unchanged says what it means that the text is as it was.
func (p *program) unchanged(name string, isNew bool) error {
	path := paths.Policy(name)
	if isNew {
		return &trouble{statusNo, fmt.Errorf("%s was not made: the example is as it was", path), ""}
	}
	if _, why, err := p.load("edit", name); err != nil || why != "" {
		return &trouble{statusNo, fmt.Errorf("%s: not changed, and not in force", path), "jailctl apply " + name}
	}
	p.print("%s: not changed", path)
	return nil
}

// discard removes a draft in which nobody has written; where another one is, err
// gets it as its hint.
func discard(draft string, begin []byte, err error) error {
	text, readErr := os.ReadFile(draft)
	if errors.Is(readErr, fs.ErrNotExist) {
		return err
	}
	if bytes.Equal(text, begin) {
		os.Remove(draft)
		return err
	}
	t := &trouble{status: statusTrouble, err: err}
	errors.As(err, &t)
	t.hint = "your text is in " + draft
	return t
}

// draftOf makes the copy that is edited, beside the policy, where only root may
// write; its name keeps the suffix that editors know.
func draftOf(path string, text []byte) (string, error) {
	name := strings.TrimSuffix(filepath.Base(path), source.Suffix)
	f, err := os.CreateTemp(filepath.Dir(path), "."+name+"-*"+source.Suffix)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.Write(text)
	return f.Name(), err
}

// compose has the user edit the draft of a policy until it has no mistakes, or is
// as it began.
func (p *program) compose(path, draft string, begin []byte) ([]byte, error) {
	for {
		if err := p.editor(draft); err != nil {
			return nil, cannot("set VISUAL or EDITOR to an editor; the policy stays as it was", "edit: %w", err)
		}
		text, err := readFile(draft)
		if err != nil {
			return nil, err
		}
		_, problems := source.Check(path, text, p.names)
		if len(problems) == 0 || bytes.Equal(text, begin) {
			return text, nil
		}
		p.findings(problems)
		for again := false; !again; {
			answer, ok := p.ask(count(len(problems), "mistake") + "; e: edit again, x: leave the policy as it was?")
			switch {
			case answer == "e":
				again = true
			case answer == "x" || !ok:
				return nil, &trouble{statusNo, fmt.Errorf("cannot install %q: %s", path, count(len(problems), "mistake")), ""}
			}
		}
	}
}

// editor starts the user's editor, which may be a command with options.
func (p *program) editor(file string) error {
	command := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if value := os.Getenv(name); value != "" {
			command = value
		}
	}
	cmd := exec.Command("/bin/sh", "-c", command+` "$1"`, "sh", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	p.editing.Store(true)
	defer p.editing.Store(false)
	return cmd.Run()
}
