package jailtree

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"jailctl/internal/archive"
	"jailctl/internal/contents"
	"jailctl/internal/fresh"
	"jailctl/internal/host"
	"jailctl/internal/paths"
	"jailctl/proto/jailpb"
)

// Change is what a build would do to one path, or did.
type Change struct {
	// Op is "+" for a new path, "-" for one that goes, "~" for one that differs.
	Op   string `json:"op"`
	Path string `json:"path"`
	// What is new about it.
	What string `json:"what"`
	// AskedBy is the line that asks for it.
	AskedBy string `json:"asked_by,omitempty"`
	// From and To are the packages that it came and comes from.
	From *jailpb.Origin `json:"from,omitempty"`
	To   *jailpb.Origin `json:"to,omitempty"`
}

// MarshalJSON has the path as Text does.
func (c Change) MarshalJSON() ([]byte, error) {
	type change Change
	c.Path = Text(c.Path)
	return json.Marshal(change(c))
}

// Text is a path as JSON has it, which can hold text only: one that is not UTF-8 is
// quoted as Go quotes it, in quotes of its own. No other path begins with a quote: they
// all begin with "/".
func Text(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return strconv.Quote(name)
}

// Report is what a build did.
type Report struct {
	// Changed is false where the tree in use is what is asked for: nothing was written.
	Changed bool     `json:"changed"`
	Changes []Change `json:"changes"`
	// Notes are what an administrator may want to know of a tree that was planned.
	Notes []string `json:"notes"`
	Files int      `json:"files"`
	Bytes int64    `json:"bytes"`
	// Kept are state directories of old trees that no newer tree has.
	Kept []string `json:"kept,omitempty"`
}

// Building is one build.
type Building struct {
	Host
	// Load reads the contents file. It asks Files of that, and of all else that a jail
	// depends on beside what the contents file asks for.
	Load func(*host.Host) (*contents.Spec, error)
	// Replace lets the build take the place of a directory that jailctl did not make.
	Replace bool
	// Planned is called with what will be done, before it is.
	Planned func(*Report)
	// Progress is called with the bytes written, of all, from several goroutines.
	Progress func(done, all int64)
}

// Preview tells what a build would do, and changes nothing. Without a store it is a
// first build.
func (s *Store) Preview(ctx context.Context, b Building) (*Report, error) {
	var cur tree
	if s != nil {
		var err error
		if cur, err = s.current(); err != nil {
			return nil, err
		}
	}
	plan, err := b.plan(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.report(ctx, plan, cur.manifest)
	if err != nil {
		return nil, err
	}
	r.Changed = len(r.Changes) > 0 || s == nil || !s.intact(cur)
	return r, nil
}

func (b *Building) plan(ctx context.Context) (*Plan, error) {
	spec, err := b.Load(b.Files)
	if err != nil {
		return nil, err
	}
	return Make(ctx, spec, b.Host)
}

// report is what the plan makes of the tree that m is of.
func (s *Store) report(ctx context.Context, p *Plan, m *jailpb.Manifest) (*Report, error) {
	entries := p.entries()
	r := report(entries)
	r.Notes = append(r.Notes, p.Notes...)
	changes, err := p.differs(ctx, m)
	r.Changes = append(r.Changes, changes...)
	if s != nil && m == nil {
		roots, err := Roots(s.state, s.name)
		if err != nil {
			return nil, err
		}
		for _, root := range roots {
			if _, err := os.Lstat(root); err == nil && root != s.root {
				r.Notes = append(r.Notes, fmt.Sprintf("it was built at %q before: that tree stays there, and the state in it is not in this one; jailctl remove removes both", root))
			}
		}
	}
	if err != nil || s == nil {
		return r, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.parent.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: s.parent.Name(), Err: err}
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%q is on a file system that is mounted noexec: no program in the jail can run", s.root))
	}
	if st.Flags&unix.ST_NODEV != 0 && slices.ContainsFunc(entries, func(e *jailpb.Entry) bool { return e.Kind == jailpb.Entry_DEVICE }) {
		r.Notes = append(r.Notes, fmt.Sprintf("%q is on a file system that is mounted nodev: no device in the jail can be opened", s.root))
	}
	if !slices.ContainsFunc(entries, (*jailpb.Entry).GetState) {
		return r, nil
	}
	dir, err := s.exposed()
	if dir != "" {
		r.Notes = append(r.Notes, fmt.Sprintf("others than root can go through %q: a command that stands in a state directory while a build moves it can look at attributes "+
			"of files outside of the jail, and change those of its own; chmod 0700 on it keeps the command in", dir))
	}
	return r, err
}

// report is of a tree with these entries in which nothing changes.
func report(entries []*jailpb.Entry) *Report {
	r := &Report{Changes: []Change{}, Notes: []string{}}
	for _, e := range entries {
		if e.Kind == jailpb.Entry_REGULAR {
			r.Files++
			if len(e.SameAs) == 0 {
				r.Bytes += int64(e.Size)
			}
		}
	}
	return r
}

// Build makes the tree in use what the contents file asks for. Where it is already,
// nothing is written. Otherwise a whole new tree is made beside it, verified, and put
// in its place; the old one is kept for Rollback.
func (s *Store) Build(ctx context.Context, b Building) (*Report, error) {
	r, err := s.build(ctx, b)
	if err != nil {
		s.leave()
	}
	return r, err
}

func (s *Store) build(ctx context.Context, b Building) (*Report, error) {
	cur, err := s.current()
	if err != nil {
		return nil, err
	}
	if cur.manifest != nil && fresh.Same(s.fresh) {
		return report(cur.manifest.Entries), nil
	}
	plan, err := b.plan(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.replaceable(cur, b.Replace); err != nil {
		return nil, err
	}
	r, err := s.report(ctx, plan, cur.manifest)
	if err != nil {
		return nil, err
	}
	if len(r.Changes) == 0 && cur.manifest != nil && s.intact(cur) {
		if err := s.renew(cur, plan); err != nil {
			return nil, err
		}
		return r, s.end(r, plan, cur)
	}
	r.Changed = true
	if b.Planned != nil {
		b.Planned(r)
	}
	t, err := s.write(ctx, plan, b.Progress)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: the whole new tree, %d bytes in %d files, is made beside the one in use", err, r.Bytes, r.Files)
	}
	if err != nil {
		return nil, err
	}
	t.manifest = plan.manifest(s.root)
	if err := s.proven(ctx, t); err != nil {
		return nil, errors.Join(err, s.discard(staging, t.id))
	}
	if err := s.place(staging, t); err != nil {
		// What is not in its place goes; what is gets its state.
		return nil, errors.Join(err, s.recover())
	}
	return r, s.end(r, plan, cur)
}

// end removes what the next build would not need, and notes how it finds all else.
func (s *Store) end(r *Report, plan *Plan, before tree) (err error) {
	if r.Kept, err = s.prune(plan.Keep, before); err == nil {
		err = s.forgetGone()
	}
	if err == nil && len(r.Kept) == 0 {
		err = s.remember(plan.host) // else what is kept may be gone by the next build
	}
	if err != nil {
		return fmt.Errorf("the tree is what was asked for, but cleaning up after it failed: %w", err)
	}
	return nil
}

// proven verifies a tree before it comes into its place. Meanwhile it is written to the
// disk: what the manifest says is there is on the disk before the manifest is.
func (s *Store) proven(ctx context.Context, t tree) error {
	root, err := openDir(s.trees, staging)
	if err != nil {
		return err
	}
	defer root.Close()
	step("sync tree")
	synced := make(chan error, 1)
	// By a descriptor from before the tree was written: it is told of all errors since.
	go func() { synced <- unix.Syncfs(int(s.trees.Fd())) }()
	found, err := verify(ctx, root, t.manifest, true)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("the new tree is not what was written: %s: %s", found[0].Path, found[0].What)
	}
	if failed := <-synced; failed != nil {
		err = errors.Join(err, &fs.PathError{Op: "sync", Path: root.Name(), Err: failed})
	}
	return err
}

// replaceable refuses what a build must not put away: a directory that is not
// jailctl's, and one with mounts in it, which would go away with the old tree.
func (s *Store) replaceable(cur tree, replace bool) error {
	if cur.ino == 0 {
		return nil
	}
	mounts, err := mountsIn(s.root)
	if err != nil {
		return err
	}
	for _, at := range mounts {
		if !s.below(cur.manifest, at) {
			return fmt.Errorf("%q is a mount point: unmount it; what is to stay can be mounted below a state directory", at)
		}
	}
	if cur.manifest != nil {
		return nil
	}
	if is, err := s.vacant(); err != nil || is {
		return err
	}
	if err := s.above(); err != nil || replace {
		return err
	}
	return ErrNotOurs
}

// vacant tells whether the root is a directory with nothing in it.
func (s *Store) vacant() (bool, error) {
	dir, err := openDir(s.parent, path.Base(s.root))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return empty(dir)
}

// below tells whether a path is below a state directory of the tree in use. What is
// mounted there, which its owner may have done by fusermount(1), goes where that goes.
func (s *Store) below(m *jailpb.Manifest, at string) bool {
	return m != nil && slices.ContainsFunc(m.Entries, func(e *jailpb.Entry) bool {
		return e.State && strings.HasPrefix(at, s.root+string(e.Path)+"/")
	})
}

// ErrNotOurs says that the root is a directory that jailctl did not make.
var ErrNotOurs = errors.New("there is a directory with something in it that jailctl did not build")

// mountsIn is what is mounted on dir or in it, as proc_pid_mountinfo(5) says.
func mountsIn(dir string) (found []string, err error) {
	// Not self: that is the first thread's, which move may have put elsewhere.
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// By blanks alone: the kernel escapes no others.
		fields := strings.Split(lines.Text(), " ")
		if len(fields) < 5 {
			continue
		}
		at := unescape.Replace(fields[4])
		if at == dir || strings.HasPrefix(at, dir+"/") {
			found = append(found, at)
		}
	}
	return found, lines.Err()
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\043`, "#", `\134`, `\`)

func hostStamp(i *jailpb.Stamp) host.Stamp {
	return host.Stamp{Mode: i.Mode, Ino: i.Inode, Size: int64(i.Size), Modified: i.Modified, Changed: i.Changed, Listed: i.Listed, UID: i.Uid}
}

// intact tells whether every inode of the tree in use is as it was written. Nobody,
// root included, changes a file, or a directory's names, without its change time.
func (s *Store) intact(t tree) bool {
	if t.manifest == nil {
		return false
	}
	root, err := openDir(s.parent, path.Base(s.root))
	if err != nil {
		return false
	}
	defer root.Close()
	return fresh.Every(t.manifest.Entries, func(e *jailpb.Entry) bool {
		if e.State {
			// Its content, times, mode and group are its owner's, who must not be able to
			// keep builds at work.
			info, err := glance(root, relative(e.Path))
			return err == nil && info.Ino == e.Inode && info.IsDir() && info.UID == e.Uid
		}
		info, err := lstat(root, relative(e.Path))
		return err == nil && info.Ino == e.Inode && info.Changed == e.Changed
	})
}

// manifest is what is known of a tree that was made by the plan.
func (p *Plan) manifest(root string) *jailpb.Manifest {
	return &jailpb.Manifest{
		Format: 1, Jailctl: paths.Version, Root: []byte(root), Built: time.Now().UnixNano(),
		Entries: p.entries(), Inputs: p.inputs(), Packages: p.Packages, Keep: uint32(p.Keep),
	}
}

func (p *Plan) inputs() []*jailpb.Stamp {
	asked := p.host.Asked()
	all := make([]*jailpb.Stamp, 0, len(asked))
	for name, s := range asked {
		all = append(all, &jailpb.Stamp{
			Path: []byte(name), Mode: s.Mode, Inode: s.Ino, Size: uint64(s.Size), Modified: s.Modified, Changed: s.Changed, Listed: s.Listed, Uid: s.UID,
		})
	}
	slices.SortFunc(all, func(a, b *jailpb.Stamp) int { return cmp.Compare(string(a.Path), string(b.Path)) })
	return all
}

// renew notes that the tree in use is what the plan asks for, though something that
// it was made from has another stamp: a package installed again, say.
func (s *Store) renew(cur tree, plan *Plan) error {
	old := byPath(cur.manifest.Entries)
	m := plan.manifest(s.root)
	for _, e := range m.Entries {
		was := old[string(e.Path)]
		e.Size, e.Sha256, e.Inode, e.Changed = was.Size, was.Sha256, was.Inode, was.Changed
	}
	m.Built, m.Used, m.Held = cur.manifest.Built, true, false
	return s.save(cur.id, m)
}

func byPath(entries []*jailpb.Entry) map[string]*jailpb.Entry {
	m := make(map[string]*jailpb.Entry, len(entries))
	for _, e := range entries {
		m[string(e.Path)] = e
	}
	return m
}

// differs is what the plan changes of the tree that m is of. Files are read only where
// their stamps are other than when they were copied.
func (p *Plan) differs(ctx context.Context, m *jailpb.Manifest) (all []Change, err error) {
	if m == nil {
		m = &jailpb.Manifest{}
	}
	old := byPath(m.Entries)
	stamps := make(map[string]*jailpb.Stamp, len(m.Inputs))
	for _, i := range m.Inputs {
		stamps[string(i.Path)] = i
	}
	now := p.host.Asked()
	same := func(name string) bool {
		i := stamps[name]
		return i != nil && hostStamp(i) == now[name]
	}
	for _, e := range p.Entries {
		name := string(e.Path)
		was := old[name]
		delete(old, name)
		to := origin(p.Packages, e.Package)
		if was == nil {
			all = append(all, Change{"+", name, describe(e.Entry), e.AskedBy, nil, to})
			continue
		}
		what, err := p.difference(ctx, was, e, same)
		if err != nil {
			return nil, err
		}
		if what != "" {
			all = append(all, Change{"~", name, what, e.AskedBy, origin(m.Packages, was.Package), to})
		}
	}
	for name, was := range old {
		all = append(all, Change{"-", name, describe(was), was.AskedBy, origin(m.Packages, was.Package), nil})
	}
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return all, nil
}

// origin is the package with a number in a manifest, nil for 0.
func origin(all []*jailpb.Origin, number uint32) *jailpb.Origin {
	if number == 0 || int(number) > len(all) {
		return nil
	}
	return all[number-1]
}

// difference is what is new about an entry, "" for nothing.
func (p *Plan) difference(ctx context.Context, was *jailpb.Entry, e Entry, same func(string) bool) (string, error) {
	switch {
	case was.Kind != e.Kind, was.State != e.State, !slices.Equal(was.Target, e.Target), was.Major != e.Major, was.Minor != e.Minor:
		return describe(was) + " -> " + describe(e.Entry), nil
	case !slices.Equal(was.SameAs, e.SameAs):
		return fmt.Sprintf("a name of %q", cmp.Or(string(e.SameAs), "itself")), nil
	case was.Mode != e.Mode:
		return fmt.Sprintf("mode %04o -> %04o", was.Mode, e.Mode), nil
	case was.Uid != e.Uid || was.Gid != e.Gid:
		return fmt.Sprintf("owner %d:%d -> %d:%d", was.Uid, was.Gid, e.Uid, e.Gid), nil
	case e.Kind != jailpb.Entry_REGULAR:
		return "", nil
	case e.text != nil:
		if sum := sha256.Sum256(e.text); !slices.Equal(was.Sha256, sum[:]) {
			return "content", nil
		}
		return "", nil
	}
	input := string(e.Origin)
	if e.member != "" {
		input = p.archived
	}
	if slices.Equal(was.Origin, e.Origin) && same(input) {
		return "", nil
	}
	if was.Size != e.Size {
		return "content", nil
	}
	sum, err := p.sum(ctx, e)
	if err != nil {
		return "", err
	}
	if !slices.Equal(was.Sha256, sum) {
		return "content", nil
	}
	return "", nil
}

// sum is the SHA-256 of what an entry is a copy of. An archive is read as a whole.
func (p *Plan) sum(ctx context.Context, e Entry) ([]byte, error) {
	hash := func(r io.Reader) ([]byte, error) {
		h := sha256.New()
		_, err := io.Copy(h, reader{ctx, r})
		return h.Sum(nil), err
	}
	if e.member == "" {
		f, err := p.host.OpenReal(string(e.Origin))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return hash(f)
	}
	if p.sums == nil {
		p.sums = map[string][]byte{}
		err := archive.Read(ctx, p.archive, func(m archive.Member, content io.Reader) (err error) {
			if m.Kind == archive.Regular {
				p.sums[m.Path], err = hash(content)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return p.sums[e.member], nil
}

// describe is an entry in a few words.
func describe(e *jailpb.Entry) string {
	switch e.Kind {
	case jailpb.Entry_DIRECTORY:
		s := fmt.Sprintf("directory %04o", e.Mode)
		if e.Uid != 0 || e.Gid != 0 {
			s += fmt.Sprintf(" of %d:%d", e.Uid, e.Gid)
		}
		if e.State {
			s = "state " + s
		}
		return s
	case jailpb.Entry_SYMLINK:
		return "link to " + strconv.Quote(string(e.Target))
	case jailpb.Entry_DEVICE:
		return fmt.Sprintf("device %d:%d", e.Major, e.Minor)
	}
	if e.Size == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", e.Size)
}

// Outdated is what a build would change because the host, or the contents file, has
// changed since the tree in use was built. Nothing is written.
func (s *Store) Outdated(ctx context.Context, b Building) ([]Change, error) {
	cur, err := s.current()
	if err != nil {
		return nil, err
	}
	if cur.manifest == nil {
		return nil, ErrNoTree
	}
	if fresh.Same(s.fresh) {
		return nil, nil
	}
	plan, err := b.plan(ctx)
	if err != nil {
		return nil, err
	}
	all, err := plan.differs(ctx, cur.manifest)
	for i, c := range all {
		// A file that is new, or gone, is one way in which its package has changed.
		if c.From == nil && c.To != nil {
			all[i].From = named(cur.manifest.Packages, c.To.Name)
		} else if c.To == nil && c.From != nil {
			all[i].To = named(plan.Packages, c.From.Name)
		}
	}
	return all, err
}

func named(all []*jailpb.Origin, name string) *jailpb.Origin {
	for _, o := range all {
		if o.Name == name {
			return o
		}
	}
	return nil
}

// Held tells whether the tree in use was put back by Rollback, and when it was built.
func (s *Store) Held() (bool, time.Time) {
	cur, err := s.current()
	if err != nil || cur.manifest == nil {
		return false, time.Time{}
	}
	return cur.manifest.Held, time.Unix(0, cur.manifest.Built)
}

// Packages are those that the tree in use has files of.
func (s *Store) Packages() ([]*jailpb.Origin, error) {
	cur, err := s.current()
	if err != nil {
		return nil, err
	}
	if cur.manifest == nil {
		return nil, ErrNoTree
	}
	return cur.manifest.Packages, nil
}

// Rollback puts the tree before the one in use back in its place, with the state as it
// is now. It returns when that tree was built.
func (s *Store) Rollback() (time.Time, error) {
	cur, err := s.current()
	if err != nil {
		return time.Time{}, err
	}
	if cur.manifest == nil {
		return time.Time{}, ErrNoTree
	}
	if err := s.replaceable(cur, true); err != nil {
		return time.Time{}, err
	}
	all, err := s.others()
	if err != nil {
		return time.Time{}, err
	}
	for _, t := range all {
		if t.manifest.Built >= cur.manifest.Built {
			continue
		}
		s.unlend(t.name(), t.manifest)
		t.manifest.Held = true
		if err := s.place(t.name(), t); err != nil {
			return time.Time{}, errors.Join(err, s.recover())
		}
		return time.Unix(0, t.manifest.Built), nil
	}
	return time.Time{}, errors.New("no older tree is kept: keep: in the contents file says how many are")
}

// Remove takes the tree in use away with every other tree of the jail, all state in
// them, and all that is known of them. What jailctl did not make, it does not remove.
func (s *Store) Remove() error {
	cur, err := s.current()
	if err != nil {
		return err
	}
	before, err := s.others()
	if err != nil {
		return err
	}
	const wasThere = "%q was there before the jail was built: move it where it belongs first"
	for _, t := range before {
		if len(t.manifest.Entries) > 0 {
			continue
		}
		if held, err := s.holds(t); held != "" || err != nil {
			return errors.Join(err, fmt.Errorf(wasThere, path.Join(s.trees.Name(), t.name())))
		}
	}
	if cur.manifest != nil && len(cur.manifest.Entries) == 0 {
		if is, err := s.vacant(); err != nil || !is { // put back by Rollback
			return cmp.Or(err, fmt.Errorf(wasThere, s.root))
		}
	}
	if cur.ino != 0 && cur.manifest == nil {
		// In the place of a tree that was built, somebody has put something else.
		if roots, err := Roots(s.state, s.name); err != nil || !slices.Contains(roots, s.root) {
			return cmp.Or(err, ErrNotOurs)
		}
	} else if cur.ino != 0 {
		// Of all, state directories included.
		mounts, err := mountsIn(s.root)
		if err != nil {
			return err
		}
		if len(mounts) > 0 {
			return fmt.Errorf("%q is a mount point: unmount it", mounts[0])
		}
		// Out of its place at one stroke; what is then beside it goes piece by piece.
		step("take tree away")
		if err := unix.Renameat2(int(s.parent.Fd()), path.Base(s.root), int(s.trees.Fd()), cur.name(), unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("cannot take %s away: %w", s.root, err)
		}
	}
	all, err := s.others()
	if err != nil {
		return err
	}
	for _, t := range all {
		if err := s.discard(t.name(), t.id); err != nil {
			return err
		}
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := identify(s.trees, name)
		if err != nil {
			return err
		}
		if m, err := s.parse(t.ino, withoutLists); m == nil || err != nil {
			return errors.Join(err, fmt.Errorf("%q is not known to be jailctl's: move it away by hand", path.Join(s.trees.Name(), name)))
		}
		// It is of another root, which the policy named before.
	}
	if err := s.forget(tree{}, func(*jailpb.Manifest) bool { return true }); err != nil {
		return err
	}
	step("remove store")
	s.leaveTrees() // though trees elsewhere are known still
	s.leave()
	s.unmake()
	return nil
}

// State are the state directories of the tree in use, and those of old trees that no
// newer one has.
func (s *Store) State() (dirs []string, err error) {
	cur, err := s.current()
	if err != nil {
		return nil, err
	}
	for _, e := range cur.manifest.GetEntries() {
		if e.State {
			dirs = append(dirs, s.root+string(e.Path))
		}
	}
	all, err := s.others()
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		for _, e := range t.manifest.Entries {
			if !e.State {
				continue
			}
			dir, is, err := s.filled(t, e)
			if err != nil {
				return nil, err
			}
			if dir != nil {
				dir.Close()
			}
			if is {
				dirs = append(dirs, path.Join(s.trees.Name(), t.name())+string(e.Path))
			}
		}
	}
	return dirs, nil
}
