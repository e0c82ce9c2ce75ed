package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	"jailctl/internal/fresh"
	hostfiles "jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/packages"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

func (p *program) buildCommand() *cobra.Command {
	var o struct{ dry, json, quiet, all, outdated, replace bool }
	cmd := &cobra.Command{
		Use:   "build [-n] [--json] [--quiet] [--replace] NAME... | --all [--outdated]",
		Short: "make a jail's tree from its contents file",
		Long: fmt.Sprintf(`Make the tree of the jail NAME, which is the root that its policy names, from
%s; jailctl-contents(5) describes that.

A whole new tree is made beside the one in use, verified, and put in its place at
one stroke: whoever runs in the jail sees the old one or the new one. State
directories go along. The old tree is kept for jailctl rollback. Where the tree is
what the file asks for already, nothing is written.`, paths.Contents("NAME")),
		Args:              arguments(0, -1),
		ValidArgsFunction: p.completeContents,
		RunE: func(cmd *cobra.Command, names []string) error {
			switch {
			case o.all == (len(names) > 0):
				return usage("build takes the name of a jail, or --all", "usage: "+cmd.UseLine())
			case o.outdated && !o.all:
				return usage("--outdated goes with --all", "a jail that is named is built if it needs to be")
			case !p.root && !o.dry:
				return cannot("run it as root; -n shows what it would do", "build: only root may make a jail's tree")
			}
			names, err := orAll("build", names, contentsNames)
			if err != nil {
				return err
			}
			return p.each("build", names, func(ctx context.Context, name string) error {
				b := &builder{p, name, o.quiet, o.json, o.outdated}
				if o.dry {
					return b.preview(ctx)
				}
				return b.build(ctx, o.replace)
			})
		},
	}
	cmd.Flags().BoolVarP(&o.dry, "dry-run", "n", false, "only say what would change")
	cmd.Flags().BoolVar(&o.json, "json", false, "a line of JSON for each jail")
	cmd.Flags().BoolVar(&o.quiet, "quiet", false, "say nothing unless something fails")
	cmd.Flags().BoolVar(&o.all, "all", false, "all jails that have a contents file")
	cmd.Flags().BoolVar(&o.outdated, "outdated", false, "with --all: only those that have been built before and were not rolled back")
	cmd.Flags().BoolVar(&o.replace, "replace", false, "take the place of a directory that jailctl did not make; it is kept as the old tree")
	return cmd
}

func (p *program) verifyCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "verify [--json] NAME... | --all",
		Short: "compare a jail's tree with what was built",
		Long: `Read every file in the tree of the jail NAME and compare it with the manifest of
its build: content, mode, owner, attributes, links, devices, what is missing and
what nobody asked for. In state directories, whose content is their owners', only
devices, set-id bits and file capabilities are looked for.

The exit status is 0 if the tree is as it was built, 1 if there are findings, 2 if
it cannot be told.`,
		Args:              arguments(0, -1),
		ValidArgsFunction: p.completeContents,
		RunE: func(cmd *cobra.Command, names []string) error {
			if all == (len(names) > 0) {
				return usage("verify takes the name of a jail, or --all", "usage: "+cmd.UseLine())
			}
			if !p.root {
				return cannot("run it as root", "verify: only root may read what was built")
			}
			names, err := orAll("verify", names, builtNames)
			if err != nil {
				return err
			}
			return p.each("verify", names, func(ctx context.Context, name string) error {
				err := p.verify(ctx, name, asJSON)
				if all && errors.Is(err, jailtree.ErrNoTree) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "a line of JSON for each jail")
	cmd.Flags().BoolVar(&all, "all", false, "all jails that have been built")
	return cmd
}

func (p *program) rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback NAME",
		Short: "put a jail's tree before the last build back",
		Long: `Put the tree of the jail NAME that was in use before the last build back in its
place, with the state directories as they are now. "keep" in the contents file says
how many trees are kept. The tree that goes away is kept too. "jailctl build --all"
leaves the jail alone until "jailctl build NAME" is asked for.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeContents,
		RunE: func(_ *cobra.Command, names []string) error {
			if !p.root {
				return cannot("run it as root", "roll back: only root may change a jail's tree")
			}
			return p.each("roll back", names, func(ctx context.Context, name string) error {
				s, err := p.store(ctx, "roll back", name, false)
				if err != nil {
					return err
				}
				defer s.Close()
				built, err := s.Rollback()
				if err != nil {
					return err
				}
				p.print("%s: the tree of %s is back", name, built.Format(time.DateTime))
				return nil
			})
		},
	}
}

func (p *program) removeCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove [--yes] NAME",
		Short: "take a jail's trees away, with the state in them",
		Long: `Take the tree of the jail NAME away, the old ones that are kept, and all that is
in state directories, also where the policy has named another root before, or is
gone. Policy and contents file stay; "jailctl build" makes the tree again, without
the state. What "build --replace" has put aside is not removed.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeContents,
		RunE: func(_ *cobra.Command, names []string) error {
			if !p.root {
				return cannot("run it as root", "remove: only root may remove a jail's tree")
			}
			return p.each("remove", names, func(ctx context.Context, name string) error { return p.remove(ctx, name, yes) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// remove removes the trees of a jail wherever its policy has had its root. It needs no
// policy: a jail whose policy was taken away first is known by its manifests.
func (p *program) remove(ctx context.Context, name string, yes bool) error {
	built, err := jailtree.Roots(paths.State, name)
	if err != nil {
		return err
	}
	roots := built
	if text, err := p.read(paths.Policy(name), mostText); err == nil {
		if root, problems := source.Root(paths.Policy(name), text); len(problems) == 0 && !slices.Contains(built, root) {
			roots = append(roots, root) // where a first build may have been killed
		}
	}
	each := func(open func(root string) (*jailtree.Store, error), do func(*jailtree.Store) error) (some bool, err error) {
		for _, root := range roots {
			s, err := open(root)
			if errors.Is(err, jailtree.ErrNoTree) {
				continue
			}
			if err == nil {
				some = true
				err = do(s)
				s.Close()
			}
			if err != nil {
				return some, err
			}
		}
		return some, nil
	}
	there := func(root string) (*jailtree.Store, error) { return p.storeAt(ctx, "remove", name, root, false) }
	var state []string
	some, err := each(there, func(s *jailtree.Store) error {
		dirs, err := s.State()
		for _, dir := range dirs {
			state = append(state, quotedPath(dir))
		}
		return err
	})
	if err != nil {
		return err
	}
	if !some && len(built) == 0 {
		return jailtree.ErrNoTree
	}
	if !yes {
		question := "remove the trees of " + name
		if len(state) > 0 {
			question += " and all that is in " + strings.Join(state, ", ")
		}
		answer, _ := p.ask(question + "? [y/N]")
		if answer != "y" && answer != "yes" {
			return &trouble{statusNo, errors.New("nothing was removed"), "answer y, or give --yes"}
		}
	}
	known := func(root string) (*jailtree.Store, error) {
		if !slices.Contains(built, root) {
			return there(root)
		}
		s, err := jailtree.OpenToRemove(ctx, name, root, paths.State, p.waits(name))
		return orElsewhere(s, err, "remove", name)
	}
	if _, err := each(known, (*jailtree.Store).Remove); err != nil {
		return err
	}
	for _, root := range roots {
		if _, err := os.Lstat(root); err == nil {
			p.say("", "note: %s is not what jailctl built, and stays", quotedPath(root))
		}
	}
	if left, err := jailtree.Roots(paths.State, name); err != nil || len(left) > 0 {
		return cmp.Or(err, fmt.Errorf("the file system with the tree at %q is not here; %s says what is known of it", left, paths.Manifests(name)))
	}
	p.print("%s: removed", name)
	return nil
}

// each does something with each of the jails called names until a signal ends it. What fails for one jail does not keep the
// others from their turn.
func (p *program) each(verb string, names []string, do func(context.Context, string) error) error {
	for _, name := range names {
		if !source.ValidName(name) {
			return cannot("name the jail: web stands for "+paths.Contents("web"), "%s %q: not a jail's name", verb, name)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	status := statusYes
	for _, name := range names {
		err := do(ctx, name)
		if err == nil {
			continue
		}
		t := &trouble{status: statusTrouble}
		if problems := (jailtree.Problems{}); errors.As(err, &problems) {
			for _, problem := range problems {
				at := problem.At
				p.findings([]source.Problem{{File: at.File, Line: at.Line, Col: at.Col, What: problem.What, Fix: problem.Fix}})
			}
			err = &trouble{statusTrouble, fmt.Errorf("cannot %s %s: %s in its contents", verb, name, count(len(problems), "mistake")), ""}
		} else if !errors.As(err, &t) {
			err = cannot(hintFor(verb, name, err), "%s %s: %w", verb, name, err)
		}
		status = max(status, p.fail(err))
		if ctx.Err() != nil {
			break
		}
	}
	return told(status)
}

// hintFor is how to mend an error of a store.
func hintFor(verb, name string, err error) string {
	switch {
	case verb == "remove":
		return ""
	case errors.Is(err, jailtree.ErrNotOurs):
		return "move it away; or jailctl build --replace " + name + " puts it aside and the jail in its place"
	case !errors.Is(err, jailtree.ErrNoTree):
		return ""
	}
	if roots, _ := jailtree.Roots(paths.State, name); len(roots) > 0 {
		return fmt.Sprintf("it was built at %s: move it back, write that as root:, or jailctl build %s makes it anew", quotedPath(roots[0]), name)
	}
	return "jailctl build " + name
}

// contentsNames are the jails that have a contents file, builtNames those that have
// been built.
func contentsNames() ([]string, error) {
	return jailsIn(filepath.Dir(paths.Contents("x")), source.Suffix)
}
func builtNames() ([]string, error) { return jailsIn(filepath.Dir(paths.Manifests("x")), "") }

// jailsIn are the jails that have something in a directory.
func jailsIn(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && source.ValidName(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// orAll is names, or what all gives where there are none.
func orAll(verb string, names []string, all func() ([]string, error)) ([]string, error) {
	if len(names) > 0 {
		return names, nil
	}
	names, err := all()
	if err != nil {
		return nil, cannot("", "%s: %w", verb, err)
	}
	return names, nil
}

// rootOf is the root that the policy of a jail names.
func (p *program) rootOf(verb, name string) (string, error) {
	text, err := p.read(paths.Policy(name), mostText)
	if err != nil {
		return "", p.unreadable(verb, name, err)
	}
	root, problems := source.Root(paths.Policy(name), text)
	if len(problems) > 0 {
		p.findings(problems)
		return "", cannot("jailctl policy check "+name, "%s %s: %s in its policy", verb, name, count(len(problems), "mistake"))
	}
	return root, nil
}

// store opens what there is of a jail's trees.
func (p *program) store(ctx context.Context, verb, name string, create bool) (*jailtree.Store, error) {
	root, err := p.rootOf(verb, name)
	if err != nil {
		if roots, _ := jailtree.Roots(paths.State, name); len(roots) > 0 {
			p.say("jailctl remove "+name+" removes it, if the jail is not needed any more", "%s was built at %s", name, quotedPath(roots[0]))
		}
		return nil, err
	}
	return p.storeAt(ctx, verb, name, root, create)
}

func (p *program) storeAt(ctx context.Context, verb, name, root string, create bool) (*jailtree.Store, error) {
	s, err := jailtree.Open(ctx, name, root, paths.State, create, p.waits(name))
	return orElsewhere(s, err, verb, name)
}

// orElsewhere is a store, or why there cannot be one there.
func orElsewhere(s *jailtree.Store, err error, verb, name string) (*jailtree.Store, error) {
	if fault := (*safepath.Fault)(nil); errors.As(err, &fault) {
		hint, err := elsewhere(name, fault)
		return nil, cannot(hint, "%s %s: %w", verb, name, err)
	}
	return s, err
}

// waits says for whom a verb waits.
func (p *program) waits(name string) func(holder string) {
	return func(holder string) { p.say("", "%s waits for %s", name, cmp.Or(holder, "another jailctl")) }
}

// builder builds one jail.
type builder struct {
	*program
	name            string
	quiet, json     bool
	onlyBuiltBefore bool
}

// building is what a build is made from, on this machine. What has been asked of it
// counts as it was then: so it begins before the policy is read, which names the root,
// and asks for each jail anew who users are. The planner is an input as well.
func (b *builder) building() jailtree.Building {
	files := hostfiles.New(b.files)
	files.Lstat(paths.Policy(b.name))
	files.Lstat(paths.Libexec + "/jailctl-admin")
	text, _ := b.read(paths.Policy(b.name), mostText)
	root, _ := source.Root(paths.Policy(b.name), text) // what is wrong with it is told elsewhere
	return jailtree.Building{
		Host:     jailtree.Host{Files: files, Packages: packages.Open(files), Names: source.System(), Root: root},
		Load:     b.contents,
		Progress: func(int64, int64) {},
	}
}

// contents reads the contents file and its presets, which are inputs of the build.
func (b *builder) contents(files *hostfiles.Host) (*contents.Spec, error) {
	file := paths.Contents(b.name)
	spec, problems, err := contents.Load(file, func(name string) ([]byte, error) {
		files.Lstat(name)
		return b.readContents(name)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cannot("jailctl init "+b.name+" writes one", "build %s: there is no %s", b.name, file)
	}
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		b.findings(problems)
		return nil, &trouble{statusTrouble, fmt.Errorf("cannot build %s: %s in its contents", b.name, count(len(problems), "mistake")), ""}
	}
	return spec, nil
}

// result is what --json prints.
type result struct {
	Jail string `json:"jail"`
	*jailtree.Report
}

func (b *builder) preview(ctx context.Context) error {
	var s *jailtree.Store
	if b.root {
		root, err := b.rootOf("build", b.name)
		if err == nil {
			err = jailtree.Suits(root)
		}
		if err != nil {
			return err
		}
		if s, err = b.storeAt(ctx, "build", b.name, root, false); err != nil && !errors.Is(err, jailtree.ErrNoTree) {
			return err
		}
		if s != nil {
			defer s.Close()
		}
	}
	r, err := s.Preview(ctx, b.building())
	if err != nil {
		return err
	}
	if b.json {
		return b.object(result{b.name, r})
	}
	for _, c := range r.Changes {
		b.print("%s %s  %s%s", c.Op, quotedPath(c.Path), c.What, asked(c.AskedBy))
	}
	b.notes(r)
	if !r.Changed {
		b.print("%s: nothing to do", b.name)
		return nil
	}
	b.print("%s: %s, %s", b.name, summary(r), size(r.Bytes))
	return nil
}

func (b *builder) build(ctx context.Context, replace bool) error {
	if !b.json && fresh.Jail(b.name) {
		b.inform("%s: nothing to do", b.name)
		return nil
	}
	if b.onlyBuiltBefore {
		s, err := b.store(ctx, "build", b.name, false)
		if errors.Is(err, jailtree.ErrNoTree) {
			return nil
		}
		if err != nil {
			return err
		}
		held, built := s.Held()
		s.Close()
		switch {
		case built.IsZero():
			return nil
		case held:
			b.inform("%s: rolled back to the tree of %s, left alone", b.name, built.Format(time.DateTime))
			return nil
		}
	}
	building := b.building()
	building.Replace = replace
	s, err := b.store(ctx, "build", b.name, true)
	if err != nil {
		return err
	}
	defer s.Close()
	// The tree is root's group's, whatever group root's shell is in (newgrp(1)).
	if err := syscall.Setegid(0); err != nil {
		return err
	}
	begin := time.Now()
	bar := &bar{}
	if !b.quiet && !b.json {
		building.Planned = func(r *jailtree.Report) {
			b.notes(r)
			b.print("%s: %s, %s", b.name, summary(r), size(r.Bytes))
		}
		if f, ok := b.program.err.(*os.File); ok {
			if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
				bar.to = f
				building.Progress = bar.show
			}
		}
	}
	r, err := s.Build(ctx, building)
	bar.clear()
	if err != nil {
		return err
	}
	if b.json {
		for i := range r.Kept {
			r.Kept[i] = jailtree.Text(r.Kept[i])
		}
		return b.object(result{b.name, r})
	}
	for _, kept := range r.Kept {
		if !b.quiet {
			b.say("move it where it belongs; no build removes it", "note: %s holds what no newer tree has", quotedPath(kept))
		}
	}
	switch {
	case !r.Changed:
		b.inform("%s: nothing to do", b.name)
	default:
		b.inform("%s: built in %.2f s", b.name, time.Since(begin).Seconds())
	}
	return nil
}

// inform prints what --quiet suppresses.
func (b *builder) inform(format string, args ...any) {
	if !b.quiet && !b.json {
		b.print(format, args...)
	}
}

func (b *builder) notes(r *jailtree.Report) {
	for _, n := range r.Notes {
		b.say("", "note: %s", n)
	}
}

// object writes a line of JSON.
func (p *program) object(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.write(append(line, '\n'))
	return nil
}

// summary is how many changes of each sort there are.
func summary(r *jailtree.Report) string {
	if len(r.Changes) == 0 {
		return "the tree in use is not as it was built (jailctl verify says how), " + count(r.Files, "file")
	}
	n := map[string]int{}
	for _, c := range r.Changes {
		n[c.Op]++
	}
	return fmt.Sprintf("%d new, %d changed, %d gone, of %s", n["+"], n["~"], n["-"], count(r.Files, "file"))
}

func asked(by string) string {
	if by == "" {
		return ""
	}
	return "  (" + by + ")"
}

// quotedPath is a path as it is, or in quotes where it has blanks, control characters
// or bytes that are not UTF-8.
func quotedPath(p string) string {
	if q := fmt.Sprintf("%q", p); strings.ContainsAny(p, " \t") || q[1:len(q)-1] != p {
		return q
	}
	return p
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// bar is a progress bar on a terminal.
type bar struct {
	to   *os.File
	mu   sync.Mutex
	last time.Time
}

func (b *bar) show(done, all int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.last) < 100*time.Millisecond {
		return
	}
	b.last = time.Now()
	const width = 40
	n := int(done * width / max(all, 1))
	fmt.Fprintf(b.to, "\r[%-*s] %3d%% of %s ", width, strings.Repeat("#", n), done*100/max(all, 1), size(all))
}

func (b *bar) clear() {
	if b.to != nil && !b.last.IsZero() {
		fmt.Fprint(b.to, "\r\x1b[K")
	}
}

func (p *program) verify(ctx context.Context, name string, asJSON bool) error {
	s, err := p.store(ctx, "verify", name, false)
	if err != nil {
		return err
	}
	defer s.Close()
	begin := time.Now()
	found, files, read, err := s.Verify(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		if found == nil {
			found = []jailtree.Finding{}
		}
		p.object(struct {
			Jail     string             `json:"jail"`
			Files    int                `json:"files"`
			Bytes    int64              `json:"bytes"`
			Findings []jailtree.Finding `json:"findings"`
		}{name, files, read, found})
	} else {
		for _, f := range found {
			from := cmp.Or(f.Package, quotedPath(f.Origin))
			if from != "" {
				from = "  (from " + from + ")"
			}
			p.print("%s: %s: %s: %s%s", name, quotedPath(f.Path), f.Kind, f.What, from)
		}
		took := time.Since(begin).Seconds()
		p.print("%s: %s in %s, %s at %.1f GB/s", name, count(len(found), "finding"), count(files, "file"), size(read), float64(read)/1e9/took)
	}
	if len(found) > 0 {
		return told(statusNo)
	}
	return nil
}

func (p *program) outdatedCommand() *cobra.Command {
	var asJSON, all bool
	var containing string
	cmd := &cobra.Command{
		Use:   "outdated [--json] [--containing PACKAGE] [NAME... | --all]",
		Short: "what has changed on the host since jails were built",
		Long: `Say what jailctl build would change in the jail NAME, or in all that have been
built, by package: "libssl3 3.0.14 -> 3.0.17: web, git". With --containing, which
jails hold files of a package.

The exit status is 0 if all is up to date, 1 if something is not, 2 if it cannot be
told; with --containing, 0 if a jail holds the package and 1 if none does.`,
		Args:              arguments(0, -1),
		ValidArgsFunction: p.completeContents,
		RunE: func(_ *cobra.Command, names []string) error {
			if all && len(names) > 0 {
				return usage("outdated takes names or --all, not both", "")
			}
			if !p.root {
				return cannot("run it as root", "compare: only root may read what was built")
			}
			named := len(names) > 0
			names, err := orAll("compare", names, builtNames)
			if err != nil {
				return err
			}
			o := &outdated{program: p, named: named, json: asJSON, stale: map[stale][]string{}}
			if containing != "" {
				return o.containing(names, containing)
			}
			return o.run(names)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "lines of JSON")
	cmd.Flags().BoolVar(&all, "all", false, "all jails that have been built, which is also meant where none is named")
	cmd.Flags().StringVar(&containing, "containing", "", "say which jails hold files of this package")
	return cmd
}

// stale is one thing that is newer on the host: a package, or a path of none, which
// changed, is new or is gone.
type stale struct{ name, from, to, what string }

type outdated struct {
	*program
	named bool
	json  bool
	stale map[stale][]string // the jails
}

func (o *outdated) run(names []string) error {
	err := o.each("compare", names, func(ctx context.Context, name string) error {
		s, err := o.store(ctx, "compare", name, false)
		if errors.Is(err, jailtree.ErrNoTree) && !o.named {
			return nil
		}
		if err != nil {
			return err
		}
		defer s.Close()
		b := builder{program: o.program, name: name}
		changes, err := s.Outdated(ctx, b.building())
		if errors.Is(err, jailtree.ErrNoTree) && !o.named {
			return nil
		}
		for _, c := range changes {
			if onTheWay(c, changes) {
				continue
			}
			at := staleOf(c)
			if !slices.Contains(o.stale[at], name) {
				o.stale[at] = append(o.stale[at], name)
			}
		}
		return err
	})
	all := make([]stale, 0, len(o.stale))
	for at := range o.stale {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b stale) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.from, b.from), strings.Compare(a.to, b.to), strings.Compare(a.what, b.what))
	})
	const most = 20 // of those that are of no package
	files := 0
	for _, at := range all {
		jails := o.stale[at]
		if at.what != "" {
			files++
		}
		if o.json {
			o.object(struct {
				Name  string   `json:"name"`
				From  string   `json:"from,omitempty"`
				To    string   `json:"to,omitempty"`
				What  string   `json:"what,omitempty"`
				Jails []string `json:"jails"`
			}{jailtree.Text(at.name), at.from, at.to, at.what, jails})
			continue
		}
		if at.what == "" || files <= most {
			o.print("%s: %s", at, strings.Join(jails, ", "))
		}
	}
	if files > most && !o.json {
		o.say("jailctl build -n lists what a build would change", "and %s of no package", count(files-most, "file"))
	}
	if err == nil && len(all) > 0 {
		return told(statusNo)
	}
	return err
}

func (s stale) String() string {
	switch {
	case s.what != "":
		return quotedPath(s.name) + " " + s.what
	case s.from == s.to:
		return s.name + " " + s.from + " has other files"
	case s.from == "":
		return s.name + " " + s.to + " is new"
	case s.to == "":
		return s.name + " " + s.from + " is gone"
	}
	return s.name + " " + s.from + " -> " + s.to
}

// staleOf is what a change is put down to.
func staleOf(c jailtree.Change) stale {
	if c.From == nil && c.To == nil {
		return stale{name: c.Path, what: map[string]string{"+": "is new", "-": "is gone", "~": "changed"}[c.Op]}
	}
	at := stale{}
	if c.From != nil {
		at.name, at.from = c.From.Name, c.From.Version
	}
	if c.To != nil {
		if c.From != nil && c.From.Name != c.To.Name {
			at.from = ""
		}
		at.name, at.to = c.To.Name, c.To.Version
	}
	return at
}

// onTheWay tells whether a change is of a directory that comes, or goes, with what is in it.
func onTheWay(c jailtree.Change, all []jailtree.Change) bool {
	return c.From == nil && c.To == nil && slices.ContainsFunc(all, func(in jailtree.Change) bool {
		return in.Op == c.Op && strings.HasPrefix(in.Path, strings.TrimSuffix(c.Path, "/")+"/") && in.Path != c.Path
	})
}

func (o *outdated) containing(names []string, wanted string) error {
	held := false
	wanted, _, _ = strings.Cut(wanted, ":") // as dpkg names one of an architecture
	err := o.each("search", names, func(ctx context.Context, name string) error {
		s, err := o.store(ctx, "search", name, false)
		if err == nil {
			defer s.Close()
			var all []*jailpb.Origin
			all, err = s.Packages()
			for _, origin := range all {
				if origin.Name != wanted {
					continue
				}
				held = true
				if o.json {
					o.object(struct {
						Jail    string `json:"jail"`
						Name    string `json:"name"`
						Version string `json:"version"`
					}{name, origin.Name, origin.Version})
				} else {
					o.print("%s: %s %s", name, origin.Name, origin.Version)
				}
			}
		}
		if errors.Is(err, jailtree.ErrNoTree) && !o.named {
			return nil
		}
		return err
	})
	if err == nil && !held {
		return &trouble{statusNo, fmt.Errorf("no jail holds files of a package %q", wanted), ""}
	}
	return err
}
