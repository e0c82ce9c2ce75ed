package jailtree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"jailctl/internal/host"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/proto/jailpb"
)

// Store is the trees of one jail and what is known of them:
//
//	/srv/jails/web             the tree in use: the policy's root
//	/srv/jails/.web.jailctl/   0700; the others, each named after its inode number, and
//	                           "new" while it is built
//	STATE/manifests/web/       0700; INODE.pb, the manifest of the tree with that inode
//	                           number, and "lock"
//	STATE/fresh/web            how the last build left all of that, and what it was made from
//
// What is called "new", and a tree whose manifest does not say that it has been in use,
// is half built or half removed, and the next to take the lock removes it. What has
// another name and no manifest is not known: it may hold state, and is left alone.
type Store struct {
	name, root, state string
	manifests, fresh  string
	// parent is the directory in which the root's name is; trees the one beside it.
	parent, trees *os.File
	lock          *os.File
	locked        bool
	// made are the directories to the parent that were not there, the innermost last.
	made []string
	// removing: the place needs not be one for a jail any more, nor be there.
	removing bool
}

// step is called before each change of the file system; tests die there.
var step = func(string) {}

// ErrNoTree says that nothing has been built.
var ErrNoTree = errors.New("nothing has been built")

// Open takes the lock of a jail whose tree is at root. It waits for who has it, and
// calls waiting first with what the other wrote of itself. With create, what the
// store needs is made; without, a store that is not there is ErrNoTree. What an
// earlier build left half done is finished or removed.
func Open(ctx context.Context, name, root, state string, create bool, waiting func(holder string)) (*Store, error) {
	return open(ctx, Store{name: name, root: root, state: state}, create, waiting)
}

// OpenToRemove is Open for Remove: of trees that were taken away by hand, with the
// directory that they were in, there is what is known of them.
func OpenToRemove(ctx context.Context, name, root, state string, waiting func(holder string)) (*Store, error) {
	return open(ctx, Store{name: name, root: root, state: state, removing: true}, true, waiting)
}

func open(ctx context.Context, of Store, create bool, waiting func(holder string)) (*Store, error) {
	of.manifests, of.fresh = of.state+"/manifests/"+of.name, of.state+"/fresh/"+of.name
	for {
		s := new(Store)
		*s = of
		err := s.open(ctx, create, waiting)
		if err == nil {
			return s, nil
		}
		if create && s.locked {
			s.leave()
		}
		s.Close()
		if err != errGone {
			return nil, err
		}
	}
}

// errGone says that somebody removed the store while this process waited for its lock.
var errGone = errors.New("the store is gone")

func (s *Store) open(ctx context.Context, create bool, waiting func(string)) (err error) {
	if create {
		if err := Suits(s.root); err != nil && !s.removing {
			return err
		}
		if err := s.makeWay(path.Dir(s.root), 0o700); err != nil {
			return err
		}
	} else if _, err := os.Lstat(path.Dir(s.root)); errors.Is(err, fs.ErrNotExist) {
		return ErrNoTree // the policy names another root than it did
	}
	fd, err := safepath.Dir(path.Dir(s.root))
	if err != nil {
		return err
	}
	weighed := os.NewFile(uintptr(fd), path.Dir(s.root))
	defer weighed.Close()
	if s.parent, err = openDir(weighed, ""); err != nil {
		return err
	}
	if err = s.take(ctx, create, waiting); err != nil {
		return err
	}
	beside := "." + s.name + ".jailctl"
	if create {
		if err := s.nested(); err != nil && !s.removing {
			return err
		}
		if err := mkdir(s.parent, beside); err != nil {
			return err
		}
	}
	s.trees, err = openDir(s.parent, beside)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoTree
	}
	if err != nil {
		return err
	}
	if !s.sound() {
		return fmt.Errorf("%s is not as jailctl made it: it must be root's, with mode 0700", s.trees.Name())
	}
	return s.recover()
}

// nested refuses a root that is the tree of another jail, which jailctl would take for its
// own, or is in one, which would go with that at the other's next build, and with all
// state in it when old trees are removed.
func (s *Store) nested() error {
	jails, err := os.ReadDir(s.state + "/manifests")
	if err != nil {
		return err
	}
	for dir := s.root; dir != "/"; dir = path.Dir(dir) {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err == unix.ENOENT && dir == s.root {
			continue
		} else if err != nil {
			return &fs.PathError{Op: "lstat", Path: dir, Err: err}
		}
		for _, jail := range jails {
			if jail.Name() == s.name && dir == s.root {
				continue
			}
			other := Store{root: dir, manifests: s.state + "/manifests/" + jail.Name()}
			if m, _ := other.head(idOf(&st)); m != nil {
				is := "is"
				if dir != s.root {
					is = "is in"
				}
				return fmt.Errorf("%s %s the tree of the jail %s: choose a root elsewhere", s.root, is, jail.Name())
			}
		}
	}
	return nil
}

// above refuses a root in which other jails have theirs: --replace would put them away.
func (s *Store) above() error {
	jails, err := os.ReadDir(s.state + "/manifests")
	if err != nil {
		return err
	}
	for _, jail := range jails {
		roots, _ := Roots(s.state, jail.Name()) // what cannot be read is that jail's trouble
		for _, root := range roots {
			if _, err := os.Lstat(root); err == nil && strings.HasPrefix(root, s.root+"/") {
				return fmt.Errorf("the jail %s is in it, at %s: choose a root elsewhere", jail.Name(), root)
			}
		}
	}
	return nil
}

// Roots are where trees of a jail were built that jailctl has not seen go: more than one
// where the policy's root has been another.
func Roots(state, name string) (roots []string, err error) {
	s := Store{manifests: state + "/manifests/" + name}
	files, err := os.ReadDir(s.manifests)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		ino, ok := manifestOf(f.Name())
		if !ok {
			continue
		}
		m, err := s.parse(ino, withoutLists)
		if err != nil {
			return nil, err
		}
		if m != nil && !slices.Contains(roots, string(m.Root)) {
			roots = append(roots, string(m.Root))
		}
	}
	return roots, nil
}

// manifestOf is the inode number of the tree that a file of manifests is about.
func manifestOf(file string) (ino uint64, ok bool) {
	number, ok := strings.CutSuffix(file, ".pb")
	ino, err := strconv.ParseUint(number, 10, 64)
	return ino, ok && err == nil
}

// Suits refuses a root that is a directory of the host's own (hier(7)), or of jailctl's:
// no tree may ever take its place, whatever is asked for.
func Suits(root string) error {
	within := func(at, dir string) bool { return at == dir || strings.HasPrefix(at, dir+"/") }
	one := func(at, names string) bool {
		return slices.ContainsFunc(strings.Fields(names), func(dir string) bool { return within(at, dir) })
	}
	at := cmp.Or(strings.TrimPrefix(root, "/usr/local"), "/")
	at = cmp.Or(strings.TrimPrefix(at, "/usr"), "/")
	alone := "/ /home /media /mnt /opt /root /run /srv /tmp /usr /var /var/backups /var/cache /var/lib /var/local /var/lock /var/log /var/mail /var/opt /var/run /var/spool /var/tmp"
	ours := []string{paths.Sysconf, paths.State, paths.Libexec, paths.Share, paths.Bin}
	if slices.Contains(strings.Fields(alone), at) || one(at, "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /libexec /proc /sbin /sys") ||
		at != root && one(at, "/games /include /share /src") ||
		slices.ContainsFunc(ours, func(dir string) bool { return within(root, dir) || within(dir, root) }) {
		return fmt.Errorf("%q is a directory of the host: choose a root elsewhere, such as /srv/jails/NAME", root)
	}
	return nil
}

// sound tells whether the directory of trees is root's alone: half a tree may be seen by
// nobody, and nobody may meddle with one.
func (s *Store) sound() bool {
	info, err := lstat(s.trees, "")
	return err == nil && info.UID == 0 && info.Mode&0o7077 == 0
}

// makeWay makes the directories to dir that are not there, below the ones that are
// and that only root can write: nobody else can have put a link on the way. The last
// one, in which trees are, is closed to all but root; see exposed.
func (s *Store) makeWay(dir string, mode uint32) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeWay(path.Dir(dir), 0o755); err != nil {
		return err
	}
	fd, err := safepath.Dir(path.Dir(dir))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch err := unix.Mkdirat(fd, path.Base(dir), mode); err {
	case nil:
		s.made = append(s.made, dir)
	case unix.EEXIST:
	default:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// exposed is the directory that the root is in, where others than root can go through
// it, and "" elsewhere. A command that stands in a state directory while that moves
// into the next tree stands outside of its chroot, and ".." leads it to this directory.
// Landlock lets it open nothing there, but look at attributes and change those of its own
// files it can, unless it gets no further.
func (s *Store) exposed() (string, error) {
	info, err := lstat(s.parent, "")
	if err != nil || info.Mode&0o011 == 0 {
		return "", err
	}
	return s.parent.Name(), nil
}

// take waits for the lock. The kernel gives it back when its holder ends, however. Nothing
// is written for it: a build with nothing to do writes nothing.
func (s *Store) take(ctx context.Context, create bool, waiting func(string)) error {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
		if err := os.MkdirAll(s.manifests, 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.manifests+"/lock", flags|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if create {
			return errGone // between the two calls
		}
		return ErrNoTree
	}
	if err != nil {
		return err
	}
	s.lock = f
	info, err := lstat(f, "")
	if err != nil {
		return err
	}
	for told := false; ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		if !told {
			waiting(holder(info.Ino))
			told = true
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	// A lock on a file that was removed locks nobody out.
	var st unix.Stat_t
	switch err := unix.Lstat(f.Name(), &st); {
	case err == unix.ENOENT, err == nil && st.Ino != info.Ino:
		return errGone
	case err != nil:
		return &fs.PathError{Op: "lstat", Path: f.Name(), Err: err}
	}
	s.locked = true
	return nil
}

// holder is who has the lock on a file, as proc_locks(5) says; "" where it cannot be told.
func holder(ino uint64) string {
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], fmt.Sprintf(":%d", ino)) {
			continue
		}
		if words, err := os.ReadFile("/proc/" + f[4] + "/cmdline"); err == nil {
			words := strings.Split(strings.TrimRight(string(words), "\x00"), "\x00")
			words[0] = filepath.Base(words[0])
			return fmt.Sprintf("process %s, %q", f[4], strings.Join(words, " "))
		}
	}
	return ""
}

// leave removes the store where nothing is in it: a build that fails leaves no trace.
func (s *Store) leave() {
	files, err := os.ReadDir(s.manifests)
	if err != nil || len(files) != 1 {
		return // the lock, and what is known of trees
	}
	s.leaveTrees()
	os.RemoveAll(s.manifests)
	os.Remove(s.fresh)
	s.unmake()
}

// unmake removes the directories that were made to the root, where nothing is in them.
func (s *Store) unmake() {
	for _, dir := range slices.Backward(s.made) {
		unix.Rmdir(dir)
	}
}

// leaveTrees removes the directory of trees if it is empty.
func (s *Store) leaveTrees() {
	if s.trees != nil && s.sound() {
		unix.Unlinkat(int(s.parent.Fd()), path.Base(s.trees.Name()), unix.AT_REMOVEDIR)
	}
}

// Close gives the lock back.
func (s *Store) Close() {
	for _, f := range []*os.File{s.parent, s.trees, s.lock} {
		if f != nil {
			f.Close()
		}
	}
}

// mkdir makes a directory, closed to others, unless there is one. What the one above
// hands down, a group or access lists, is not for the trees in it.
func mkdir(dir *os.File, name string) error {
	switch err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err {
	case nil:
	case unix.EEXIST:
		return nil
	default:
		return &fs.PathError{Op: "mkdir", Path: path.Join(dir.Name(), name), Err: err}
	}
	d, err := openDir(dir, name)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, list := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Fremovexattr(int(d.Fd()), list); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return &fs.PathError{Op: "removexattr", Path: d.Name(), Err: err}
		}
	}
	return own(d, &jailpb.Entry{Mode: 0o700})
}

// openDir opens a directory below another by a path in which no link is followed.
func openDir(dir *os.File, name string) (*os.File, error) {
	where := path.Join(dir.Name(), name)
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: where, Err: err}
	}
	return os.NewFile(uintptr(fd), where), nil
}

// lstat is about a name in a directory, or the directory itself where name is "".
func lstat(dir *os.File, name string) (host.Info, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH); err != nil {
		return host.Info{}, &fs.PathError{Op: "lstat", Path: path.Join(dir.Name(), name), Err: err}
	}
	return host.Stat(&st), nil
}

// id tells a directory from all others, past ones included.
type id struct {
	ino  uint64
	born int64 // 0: the file system does not say
}

// identify is about a name in a directory, or the directory itself where name is "".
func identify(dir *os.File, name string) (id, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(dir.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return id{}, &fs.PathError{Op: "lstat", Path: path.Join(dir.Name(), name), Err: err}
	}
	return idOf(&st), nil
}

func idOf(st *unix.Statx_t) id { return id{st.Ino, st.Btime.Sec*1e9 + int64(st.Btime.Nsec)} }

// name is that of the tree beside the one in use.
func (t id) name() string { return strconv.FormatUint(t.ino, 10) }

// tree is one that has a manifest.
type tree struct {
	id
	manifest *jailpb.Manifest
}

func (s *Store) file(ino uint64) string { return fmt.Sprintf("%s/%d.pb", s.manifests, ino) }

// load reads the manifest of a tree; nil where there is none.
func (s *Store) load(t id) (*jailpb.Manifest, error) {
	return s.ours(t, func(b []byte) ([]byte, error) { return b, nil })
}

// head is load without what grows with the tree: entries, inputs and packages.
func (s *Store) head(t id) (*jailpb.Manifest, error) { return s.ours(t, withoutLists) }

// ours does not take a manifest for that of t which is of a tree that had the same inode
// number before, or has it on another file system, where the policy's root was before.
func (s *Store) ours(t id, cut func([]byte) ([]byte, error)) (*jailpb.Manifest, error) {
	m, err := s.parse(t.ino, cut)
	if m == nil || string(m.Root) != s.root || m.Born != 0 && m.Born != t.born {
		return nil, err
	}
	return m, nil
}

func (s *Store) parse(ino uint64, cut func([]byte) ([]byte, error)) (*jailpb.Manifest, error) {
	b, err := os.ReadFile(s.file(ino))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &jailpb.Manifest{}
	b, err = cut(b)
	if err == nil {
		err = proto.Unmarshal(b, m)
	}
	if err != nil || m.Format != 1 {
		return nil, fmt.Errorf("%s is not a manifest that this jailctl can read: remove it and build again", s.file(ino))
	}
	return m, nil
}

// withoutLists is an encoded manifest without its messages.
func withoutLists(b []byte) (short []byte, err error) {
	fields := (&jailpb.Manifest{}).ProtoReflect().Descriptor().Fields()
	for len(b) > 0 {
		number, _, size := protowire.ConsumeField(b)
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		if f := fields.ByNumber(number); f != nil && f.Message() == nil {
			short = append(short, b[:size]...)
		}
		b = b[size:]
	}
	return short, nil
}

// unnamed ends the name of a manifest while it is written.
const unnamed = ".new"

// save writes a manifest so that it is there whole or not at all, whatever happens.
func (s *Store) save(t id, m *jailpb.Manifest) error {
	here, err := s.fileSystem()
	if err != nil {
		return err
	}
	// On the same file system the number is t's now, and the other tree is gone, unless it
	// is t itself, which was moved.
	if other, err := s.parse(t.ino, withoutLists); err == nil && other != nil && string(other.Root) != s.root &&
		(other.FileSystem != here || other.Born == t.born) {
		return fmt.Errorf("%s is of a tree of the same number at %q, where the root was before: remove it if that tree is not needed any more", s.file(t.ino), other.Root)
	}
	m.Born, m.FileSystem = t.born, here
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return replace(s.file(t.ino), s.file(t.ino)+unnamed, b)
}

// replace writes a file, under another name first: so it is there whole, or the one
// before is.
func replace(name, first string, b []byte) error {
	step("write file")
	f, err := os.OpenFile(first, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	step("name file")
	if err := os.Rename(first, name); err != nil {
		return err
	}
	return syncDir(path.Dir(name))
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// current is the tree in use: its inode number 0 where there is none, its manifest
// nil where jailctl did not make it.
func (s *Store) current() (tree, error) { return s.inPlace(s.load) }

func (s *Store) inPlace(read func(id) (*jailpb.Manifest, error)) (tree, error) {
	info, err := lstat(s.parent, path.Base(s.root))
	if errors.Is(err, fs.ErrNotExist) {
		return tree{}, nil
	}
	if err != nil {
		return tree{}, err
	}
	if !info.IsDir() {
		return tree{}, fmt.Errorf("%s is not a directory: move it away", s.root)
	}
	t, err := identify(s.parent, path.Base(s.root))
	if err != nil {
		return tree{}, err
	}
	m, err := read(t)
	return tree{t, m}, err
}

// others are the trees beside the one in use, the newest first.
func (s *Store) others() (all []tree, err error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		t, err := identify(s.trees, name)
		if err != nil {
			return nil, err
		}
		if name != t.name() {
			continue
		}
		m, err := s.load(t)
		if err != nil {
			return nil, err
		}
		if m != nil {
			all = append(all, tree{t, m})
		}
	}
	slices.SortFunc(all, func(a, b tree) int { return cmp.Compare(b.manifest.Built, a.manifest.Built) })
	return all, nil
}

// names are those of the trees beside the one in use.
func (s *Store) names() ([]string, error) {
	dir, err := openDir(s.trees, "")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// recover makes of whatever an earlier build left what a whole one leaves: each tree
// beside the one in use has its inode number as name and a manifest, and the one in
// use has its state.
func (s *Store) recover() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := identify(s.trees, name)
		if err != nil {
			return err
		}
		m, err := s.head(t)
		if err != nil {
			return err
		}
		switch {
		case m == nil && name != staging:
			continue
		case m == nil || !m.Used:
			// Half built, or whole and never put in its place.
			if err := s.discard(name, t); err != nil {
				return err
			}
			continue
		case name != t.name():
			step("name old tree")
			if err := unix.Renameat2(int(s.trees.Fd()), name, int(s.trees.Fd()), t.name(), unix.RENAME_NOREPLACE); err != nil {
				return &fs.PathError{Op: "rename", Path: path.Join(s.trees.Name(), name), Err: err}
			}
		}
		if m.Unsettled {
			// It was about to be put back and was not.
			if m, err = s.load(t); err != nil {
				return err
			}
			s.unlend(t.name(), m)
			settled(m)
			if err := s.save(t, m); err != nil {
				return err
			}
		}
	}
	cur, err := s.inPlace(s.head)
	if err != nil {
		return err
	}
	if cur.manifest != nil && (!cur.manifest.Used || cur.manifest.Unsettled) {
		if cur, err = s.current(); err == nil {
			err = s.settle(cur)
		}
		if err != nil {
			return err
		}
	}
	if err := s.release(); err != nil {
		return err
	}
	return s.forget(cur, func(m *jailpb.Manifest) bool { return m.Born == 0 })
}

// forgetGone is forget of all, after a build has succeeded.
func (s *Store) forgetGone() error {
	cur, err := s.inPlace(s.head)
	if err != nil {
		return err
	}
	return s.forget(cur, func(*jailpb.Manifest) bool { return true })
}

// forget removes the manifests of trees that are not there. An inode number that
// comes back must not bring an old manifest with it. Of those that are known by their
// birth as well, none goes before a build has succeeded: whoever has moved a tree away
// for a moment will have it back.
func (s *Store) forget(cur tree, those func(*jailpb.Manifest) bool) error {
	files, err := os.ReadDir(s.manifests)
	if err != nil {
		return err
	}
	here, err := s.fileSystem()
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), unnamed) {
			if err := os.Remove(path.Join(s.manifests, f.Name())); err != nil {
				return err
			}
			continue
		}
		ino, isManifest := manifestOf(f.Name())
		if !isManifest || ino == cur.ino && cur.manifest != nil {
			continue
		}
		m, err := s.parse(ino, withoutLists)
		if err != nil {
			return err
		}
		// A tree on a disk that is not mounted today is not gone.
		if string(m.Root) != s.root || m.FileSystem != here || !those(m) {
			continue
		}
		t, err := identify(s.trees, id{ino: ino}.name())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && (m.Born == 0 || m.Born == t.born) {
			continue
		}
		step("forget manifest")
		if err := os.Remove(path.Join(s.manifests, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// fileSystem is the number of the file system that the trees are on, as far as it has
// one that lasts.
func (s *Store) fileSystem() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.trees.Fd()), &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: s.trees.Name(), Err: err}
	}
	return uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32, nil
}

// discard removes a tree and what is known of it. The manifest goes last but for the
// tree's own directory: it says where state may be lent to the tree.
func (s *Store) discard(name string, t id) error {
	m, err := s.load(t)
	if err != nil {
		return err
	}
	if m != nil {
		s.unlend(name, m)
		if m.Used {
			// Until it is gone it is a tree that nobody goes back to.
			m.Used = false
			if err := s.save(t, m); err != nil {
				return err
			}
		}
	}
	step("remove tree")
	if err := remove(s.trees, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m == nil {
		return nil
	}
	step("remove manifest")
	if err := os.Remove(s.file(t.ino)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remove takes a directory and all that is in it away. It follows no link and enters
// no mount: what is mounted in a tree, state that is lent to it above all, is not the
// tree's.
func remove(dir *os.File, name string) error { return (&remover{}).entry(dir, name, 0) }

// remover works where hostile users own directories. Each step is taken from the
// directory that is open, and that is taken from its owner first, who could otherwise
// rename and replace what is in it, and make more as fast as it goes.
type remover struct {
	top   *os.File
	moved int
}

func (r *remover) entry(dir *os.File, name string, depth int) error {
	where := path.Join(dir.Name(), name)
	d, err := enter(dir, name)
	switch {
	case err == nil:
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil {
			return &fs.PathError{Op: "remove", Path: where, Err: err}
		}
		return nil
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("something is mounted on %s: unmount it first", where)
	default:
		return err
	}
	defer d.Close()
	switch depth {
	case 0:
		r.top = d
	case deepest:
		// There can be more of them below one another than a process can have open.
		return r.raise(dir, name)
	}
	info, err := lstat(d, "")
	if err == nil && (info.UID != 0 || info.Mode&0o022 != 0) {
		err = own(d, &jailpb.Entry{Mode: 0o700})
	}
	if err != nil {
		return err
	}
	for some := true; some; {
		if some, err = r.pass(d, depth); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); err != nil {
		return &fs.PathError{Op: "remove", Path: where, Err: err}
	}
	return nil
}

// pass removes what is in a directory, a handful after the other: all names at once
// may be more than fit in memory. It tells whether there was anything; file systems may
// leave names out while others go.
func (r *remover) pass(d *os.File, depth int) (some bool, err error) {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	for {
		names, err := d.Readdirnames(handful)
		for _, n := range names {
			switch err := r.entry(d, n, depth+1); {
			case err == nil:
				some = true
			case !errors.Is(err, fs.ErrNotExist):
				return some, err
			}
		}
		if err == io.EOF {
			return some, nil
		}
		if err != nil {
			return some, err
		}
	}
}

// handful is how many names are read at once from a directory that is somebody else's.
const handful = 1000

// raise moves a directory up to the top of what is removed, where a later pass finds it.
func (r *remover) raise(dir *os.File, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "rename", Path: path.Join(dir.Name(), name), Err: err}
		}
		return nil
	}
}

// prune removes old trees but for the newest keep, and those that before, the tree that
// was in use, was put back in the place of. One that holds state which no newer tree has
// is not removed, nor one that jailctl did not make: what is in them is not jailctl's to
// throw away.
func (s *Store) prune(keep int, before tree) (kept []string, err error) {
	all, err := s.others()
	if err != nil {
		return nil, err
	}
	n := 0
	for _, t := range all {
		left := before.manifest != nil && before.manifest.Held && t.manifest.Built > before.manifest.Built
		if n < keep && !left {
			n++
			continue
		}
		held, err := s.holds(t)
		if err != nil {
			return kept, err
		}
		if held != "" {
			kept = append(kept, path.Join(s.trees.Name(), t.name(), held))
			continue
		}
		if err := s.discard(t.name(), t.id); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// holds is what of a tree beside the one in use is not to be removed: a state directory
// that has something in it, or all of what jailctl did not make.
func (s *Store) holds(t tree) (string, error) {
	if len(t.manifest.Entries) == 0 {
		dir, err := openDir(s.trees, t.name())
		if err != nil {
			return "", err
		}
		defer dir.Close()
		if is, err := empty(dir); err != nil || is {
			return "", err
		}
		return "/", nil
	}
	for _, e := range t.manifest.Entries {
		if !e.State {
			continue
		}
		full, err := s.full(t, e)
		if full || err != nil {
			return string(e.Path), err
		}
	}
	return "", nil
}

// full tells whether a state directory of a tree beside the one in use has something
// in it that is the tree's, and closes it, as it may be removed, if it has not. What
// cannot be looked at is an error, and not empty.
func (s *Store) full(t tree, e *jailpb.Entry) (bool, error) {
	dir, is, err := s.filled(t, e)
	if dir == nil || is || err != nil {
		return is, err
	}
	defer dir.Close()
	// Whoever is in this tree still could write in it before it is removed.
	step("close state")
	if err := own(dir, &jailpb.Entry{}); err != nil {
		return true, err
	}
	if is, err := empty(dir); err != nil || !is {
		return true, errors.Join(err, own(dir, e))
	}
	return false, nil
}

// filled is full without closing it: it is open where it is an empty directory.
func (s *Store) filled(t tree, e *jailpb.Entry) (*os.File, bool, error) {
	dir, err := enter(s.trees, t.name()+string(e.Path))
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, fs.ErrNotExist):
		return nil, false, nil // lent: it is a newer tree's; or taken away
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, true, nil // somebody has put something else there
	case err != nil:
		return nil, false, err
	}
	if is, err := empty(dir); err != nil || !is {
		dir.Close()
		return nil, true, err
	}
	return dir, false, nil
}

// empty tells whether there is nothing in a directory now: from its beginning, since a file
// system may show what there was when it was opened, or rewound.
func empty(dir *os.File) (bool, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	names, err := dir.Readdirnames(1)
	if err != nil && err != io.EOF {
		return false, err
	}
	return len(names) == 0, nil
}
