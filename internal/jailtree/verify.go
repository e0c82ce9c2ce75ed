package jailtree

import (
	"bytes"
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
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"jailctl/internal/host"
	"jailctl/proto/jailpb"
)

// Finding is one way in which a tree is not what was built.
type Finding struct {
	Path string `json:"path"`
	// Kind is one word: changed, missing, extra, mode, owner, link, device, attribute,
	// set-id, writable, type, names, mount.
	Kind string `json:"kind"`
	What string `json:"what"`
	// Origin and Package are where the content came from.
	Origin  string `json:"origin,omitempty"`
	Package string `json:"package,omitempty"`
}

// MarshalJSON has the paths as Text does.
func (f Finding) MarshalJSON() ([]byte, error) {
	type finding Finding
	f.Path, f.Origin = Text(f.Path), Text(f.Origin)
	return json.Marshal(finding(f))
}

// Verify compares the tree in use with its manifest, reading every file of it. It
// returns how many files and bytes it read.
func (s *Store) Verify(ctx context.Context) (found []Finding, files int, size int64, err error) {
	cur, err := s.current()
	if err != nil {
		return nil, 0, 0, err
	}
	switch {
	case cur.ino == 0:
		return nil, 0, 0, ErrNoTree
	case cur.manifest == nil || len(cur.manifest.Entries) == 0:
		return nil, 0, 0, ErrNotOurs
	}
	root, err := openDir(s.parent, path.Base(s.root))
	if err != nil {
		return nil, 0, 0, err
	}
	defer root.Close()
	found, err = verify(ctx, root, cur.manifest, false)
	for _, e := range cur.manifest.Entries {
		if e.Kind == jailpb.Entry_REGULAR {
			files++
			if len(e.SameAs) == 0 {
				size += int64(e.Size)
			}
		}
	}
	return found, files, size, err
}

// verifier walks a tree that hostile users may be in. Every directory is entered from
// the one above it, and files are opened only after they are seen to be regular.
type verifier struct {
	ctx      context.Context
	manifest *jailpb.Manifest
	in       map[string][]*jailpb.Entry // by directory
	again    map[string]uint64          // how many other names a file has, by its first
	// staged: state directories are closed still.
	staged bool
	list   [1 << 16]byte // the kernel's XATTR_LIST_MAX

	jobs  chan job
	mu    sync.Mutex
	sums  map[uint64][]byte // of files with several names, by inode number
	found []Finding
	err   error
}

// waiting is how many files are open for readers to come.
const waiting = 64

// job is a file to be read.
type job struct {
	f    *os.File
	info host.Info
	e    *jailpb.Entry
}

func verify(ctx context.Context, root *os.File, m *jailpb.Manifest, staged bool) ([]Finding, error) {
	v := &verifier{
		ctx: ctx, manifest: m, staged: staged, in: map[string][]*jailpb.Entry{}, again: map[string]uint64{},
		jobs: make(chan job, waiting), sums: map[uint64][]byte{},
	}
	if len(m.Entries) == 0 || string(m.Entries[0].Path) != "/" {
		return nil, errors.New("the manifest does not begin with the root: build again")
	}
	for _, e := range m.Entries[1:] {
		dir := path.Dir(string(e.Path))
		v.in[dir] = append(v.in[dir], e)
		if len(e.SameAs) > 0 {
			v.again[string(e.SameAs)]++
		}
	}
	var readers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			buf := make([]byte, 1<<18)
			for j := range v.jobs {
				v.content(j, buf)
			}
		})
	}
	v.directory(root, m.Entries[0])
	close(v.jobs)
	readers.Wait()
	slices.SortFunc(v.found, func(a, b Finding) int {
		return strings.Compare(a.Path+"\x00"+a.Kind, b.Path+"\x00"+b.Kind)
	})
	if ctx.Err() != nil {
		v.err = context.Cause(ctx)
	}
	return v.found, v.err
}

func (v *verifier) add(e *jailpb.Entry, kind, format string, args ...any) {
	f := Finding{Path: string(e.Path), Kind: kind, What: fmt.Sprintf(format, args...), Origin: string(e.Origin)}
	if n := int(e.Package); n > 0 && n <= len(v.manifest.Packages) {
		p := v.manifest.Packages[n-1]
		f.Package = p.Name + "@" + p.Version
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = append(v.found, f)
}

// trouble is what keeps the tree from being read at all.
func (v *verifier) trouble(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = cmp.Or(v.err, err)
}

// directory compares a directory, and what is in it unless that is its owner's.
func (v *verifier) directory(dir *os.File, e *jailpb.Entry) {
	info, err := lstat(dir, "")
	if err != nil {
		v.trouble(err)
		return
	}
	if !e.State || !v.staged {
		v.bits(e, info)
	}
	if e.State {
		left := most
		v.state(dir, string(e.Path), 0, &left)
		return
	}
	v.attributes(dir, e)
	there := map[string]bool{}
	for _, child := range v.in[string(e.Path)] {
		there[path.Base(string(child.Path))] = false
	}
	extra := 0
	err = v.each(dir, func(name string) {
		if _, asked := there[name]; asked {
			there[name] = true
		} else if extra++; extra <= most {
			v.extra(dir, path.Join(string(e.Path), name), name)
		}
	})
	if err != nil {
		v.trouble(err)
	}
	if extra > most {
		v.add(e, "extra", "nobody asked for %d files in it; here are %d of them", extra, most)
	}
	for _, child := range v.in[string(e.Path)] {
		if v.ctx.Err() != nil {
			return
		}
		if name := path.Base(string(child.Path)); there[name] {
			v.entry(dir, name, child)
		} else {
			v.add(child, "missing", "it is not there")
		}
	}
}

// most is how many findings of one directory are told. Who may write there can make
// more of them than anybody reads, or has memory for.
const most = 1000

// each calls do with each name in a directory, of which there may be more than fit
// in memory.
func (v *verifier) each(dir *os.File, do func(name string)) error {
	for v.ctx.Err() == nil {
		names, err := dir.Readdirnames(handful)
		for _, name := range names {
			do(name)
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			break // ENOENT is of a directory that its owner has removed meanwhile: getdents(2)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extra reports what nobody asked for, with all that is dangerous about it.
func (v *verifier) extra(dir *os.File, at, name string) {
	e := &jailpb.Entry{Path: []byte(at)}
	info, err := lstat(dir, name)
	if err != nil {
		return // gone again
	}
	v.add(e, "extra", "nobody asked for this %s", kind(info))
	v.strange(dir, name, e, info)
}

// strange reports what is dangerous about something that is not as it was built, and
// about all that is in it.
func (v *verifier) strange(dir *os.File, name string, e *jailpb.Entry, info host.Info) {
	v.dangerous(e, info)
	switch {
	case info.IsDir():
		sub, err := enter(dir, name)
		if err != nil {
			v.entered(e, err)
			return
		}
		defer sub.Close()
		if info.UID != 0 || info.Mode&0o022 != 0 {
			// As endless as a state directory.
			left := most
			v.state(sub, string(e.Path), 0, &left)
			return
		}
		v.attributes(sub, e)
		err = v.each(sub, func(n string) { v.extra(sub, path.Join(string(e.Path), n), n) })
		if err != nil {
			v.trouble(err)
		}
	case info.IsRegular():
		f, err := openFile(dir, name, info)
		if err != nil {
			v.entered(e, err)
			return
		}
		defer f.Close()
		v.attributes(f, e)
	}
}

// enter opens a directory below another: no link is followed, no mount entered.
func enter(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
}

func (v *verifier) entered(e *jailpb.Entry, err error) {
	if errors.Is(err, unix.EXDEV) {
		v.add(e, "mount", "something is mounted on it, which is not the tree's")
		return
	}
	v.trouble(err)
}

// openFile opens what was seen to be a regular file. It does not wait for a FIFO that
// came in its place, and finds out if anything did.
func openFile(dir *os.File, name string, seen host.Info) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path.Join(dir.Name(), name), Err: err}
	}
	f := os.NewFile(uintptr(fd), path.Join(dir.Name(), name))
	if info, err := lstat(f, ""); err != nil || info.Ino != seen.Ino || !info.IsRegular() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: errors.New("it was replaced at this moment")}
	}
	return f, nil
}

// kind is what lstat(2) says a file is, in words.
func kind(info host.Info) string {
	switch info.Type() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return fmt.Sprintf("character device %d:%d", unix.Major(info.Rdev), unix.Minor(info.Rdev))
	case unix.S_IFBLK:
		return fmt.Sprintf("block device %d:%d", unix.Major(info.Rdev), unix.Minor(info.Rdev))
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown thing"
}

// dangerous reports what no file of a jail should be, whoever put it there.
func (v *verifier) dangerous(e *jailpb.Entry, info host.Info) {
	switch {
	case info.Type() == unix.S_IFCHR, info.Type() == unix.S_IFBLK:
		v.add(e, "device", "a %s that nobody asked for", kind(info))
	case info.Type() == unix.S_IFSOCK:
		v.add(e, "type", "a socket: who listens on it is outside of the jail's rules")
	}
	v.names(e, info, 1)
	if info.Mode&0o6000 != 0 && !info.IsSymlink() {
		v.add(e, "set-id", "mode %04o has set-user-ID or set-group-ID", info.Mode&0o7777)
	}
	if !info.IsSymlink() && (info.Mode&0o022 != 0 || info.UID != 0) && e.Kind != jailpb.Entry_DEVICE {
		v.add(e, "writable", "others than root may write: owner %d:%d, mode %04o", info.UID, info.GID, info.Mode&0o7777)
	}
}

// names reports a file that has more names than were made for it: who owns the
// directory of another keeps the file when it is gone from here, and what is done to
// the one is done to the other.
func (v *verifier) names(e *jailpb.Entry, info host.Info, want uint64) {
	if !info.IsDir() && info.Links > want {
		v.add(e, "names", "it has %d names, and should have %d: another is not the tree's", info.Links, want)
	}
}

// bits compares owner and mode.
func (v *verifier) bits(e *jailpb.Entry, info host.Info) {
	if info.UID != e.Uid || info.GID != e.Gid {
		v.add(e, "owner", "owner %d:%d, and should be %d:%d", info.UID, info.GID, e.Uid, e.Gid)
	}
	if mode := info.Mode & 0o7777; mode != e.Mode && !info.IsSymlink() {
		v.add(e, "mode", "mode %04o, and should be %04o", mode, e.Mode)
		if mode&^e.Mode&0o6000 != 0 {
			v.add(e, "set-id", "mode %04o has set-user-ID or set-group-ID", mode)
		}
		if mode&^e.Mode&0o022 != 0 {
			v.add(e, "writable", "others than root may write: mode %04o", mode)
		}
	}
}

// entry compares what is at a name with what should be.
func (v *verifier) entry(dir *os.File, name string, e *jailpb.Entry) {
	look := lstat
	if e.State {
		look = glance // its owner may have mounted something on it
	}
	info, err := look(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.add(e, "missing", "it is not there")
		return
	case e.State && errors.Is(err, unix.EACCES):
		v.entered(e, unix.EXDEV)
		return
	case err != nil:
		v.trouble(err)
		return
	}
	want := map[jailpb.Entry_Kind]uint32{
		jailpb.Entry_DIRECTORY: unix.S_IFDIR, jailpb.Entry_REGULAR: unix.S_IFREG,
		jailpb.Entry_SYMLINK: unix.S_IFLNK, jailpb.Entry_DEVICE: unix.S_IFCHR,
	}[e.Kind]
	if info.Type() != want {
		v.add(e, "type", "a %s, and should be a %s", kind(info), word(e.Kind))
		v.strange(dir, name, e, info)
		return
	}
	first := e.Path
	if len(e.SameAs) > 0 {
		first = e.SameAs
	}
	v.names(e, info, 1+v.again[string(first)])
	switch e.Kind {
	case jailpb.Entry_DIRECTORY:
		sub, err := enter(dir, name)
		if err != nil {
			v.entered(e, err)
			return
		}
		defer sub.Close()
		v.directory(sub, e)
	case jailpb.Entry_SYMLINK:
		v.bits(e, info)
		target := make([]byte, len(e.Target)+1)
		n, err := unix.Readlinkat(int(dir.Fd()), name, target)
		if err != nil || !bytes.Equal(target[:n], e.Target) {
			v.add(e, "link", "it does not lead to %q", e.Target)
		}
	case jailpb.Entry_DEVICE:
		v.bits(e, info)
		if major, minor := unix.Major(info.Rdev), unix.Minor(info.Rdev); major != e.Major || minor != e.Minor {
			v.add(e, "device", "device %d:%d, and should be %d:%d", major, minor, e.Major, e.Minor)
		}
	case jailpb.Entry_REGULAR:
		v.bits(e, info)
		if info.Size != int64(e.Size) {
			v.add(e, "changed", "%d bytes, and should be %d", info.Size, e.Size)
		}
		f, err := openFile(dir, name, info)
		if err != nil {
			v.entered(e, err)
			return
		}
		v.attributes(f, e)
		if info.Size != int64(e.Size) {
			f.Close()
			return
		}
		v.jobs <- job{f, info, e}
	}
}

// content reads a file and compares its hash. A file of several names is read once.
func (v *verifier) content(j job, buf []byte) {
	defer j.f.Close()
	if v.ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	sum := v.sums[j.info.Ino]
	v.mu.Unlock()
	if sum == nil {
		h := sha256.New()
		if _, err := io.CopyBuffer(h, reader{v.ctx, j.f}, buf); err != nil {
			v.trouble(err)
			return
		}
		sum = h.Sum(nil)
	}
	if j.info.Links > 1 {
		v.mu.Lock()
		v.sums[j.info.Ino] = sum
		v.mu.Unlock()
	}
	if !bytes.Equal(sum, j.e.Sha256) {
		v.add(j.e, "changed", "its content is not what was copied")
	}
}

// attributes reports extended attributes: capabilities of a program, access lists
// that let others write. A label of a security module is the machine's own.
func (v *verifier) attributes(f *os.File, e *jailpb.Entry) {
	n, err := unix.Flistxattr(int(f.Fd()), v.list[:])
	if err != nil {
		if err != unix.ENOTSUP {
			v.trouble(&fs.PathError{Op: "listxattr", Path: f.Name(), Err: err})
		}
		return
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(v.list[:n]), "\x00"), "\x00") {
		switch name {
		case "", "security.selinux", "security.SMACK64", "security.ima", "security.evm":
		case "security.capability":
			v.add(e, "attribute", "it has file capabilities")
		default:
			v.add(e, "attribute", "it has the extended attribute %q", name)
		}
	}
}

// deepest is how many directories below one another are looked at in state: its owner
// can make more than anybody has time for.
const deepest = 64

// state looks in a directory that is somebody else's for what only root can have put
// there, or what serves as a way to other rights. Its owner may change everything
// while we look. Left is how many findings more are told.
func (v *verifier) state(dir *os.File, at string, depth int, left *int) {
	here, err := lstat(dir, "")
	if err != nil {
		v.trouble(err)
		return
	}
	err = v.each(dir, func(name string) {
		if *left > 0 {
			v.stateful(dir, here, name, &jailpb.Entry{Path: []byte(path.Join(at, name))}, depth, left)
		}
	})
	if err != nil {
		v.trouble(err)
	}
}

func (v *verifier) stateful(dir *os.File, here host.Info, name string, e *jailpb.Entry, depth int, left *int) {
	add := func(kind, format string, args ...any) {
		if *left--; *left == 0 {
			kind, format, args = "extra", "there are more findings in the directory than the %d that are told", []any{most}
		}
		if *left >= 0 {
			v.add(e, kind, format, args...)
		}
	}
	info, err := glance(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, unix.EACCES), err == nil && info.Dev != here.Dev && !info.IsDir():
		// A file system that its owner has mounted; it may answer anything, or never.
		add("mount", "something is mounted on it, which is not the tree's")
		return
	case err != nil:
		v.trouble(&fs.PathError{Op: "lstat", Path: string(e.Path), Err: err})
		return
	}
	switch info.Type() {
	case unix.S_IFCHR, unix.S_IFBLK:
		add("device", "a %s in a state directory", kind(info))
	case unix.S_IFREG:
		if info.Mode&0o6000 != 0 {
			add("set-id", "mode %04o has set-user-ID or set-group-ID", info.Mode&0o7777)
		}
		// By descriptor, and no link followed: not whatever has this name by now.
		if _, err := unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), "security.capability", nil); err == nil {
			add("attribute", "it has file capabilities")
		}
	case unix.S_IFDIR:
		if depth == deepest {
			add("type", "more than %d directories below one another", deepest)
			return
		}
		sub, err := enter(dir, name)
		switch {
		case err == nil:
			v.state(sub, string(e.Path), depth+1, left)
			sub.Close()
		case errors.Is(err, unix.EXDEV):
			add("mount", "something is mounted on it, which is not the tree's")
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP):
			v.trouble(err)
		}
	}
}

// glance is what of lstat a file system knows without asking whoever serves it, who
// might never answer (fuse(4)).
func glance(dir *os.File, name string) (info host.Info, err error) {
	var st unix.Statx_t
	err = unix.Statx(int(dir.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_UID|unix.STATX_INO, &st)
	return host.Info{Mode: uint32(st.Mode), UID: st.Uid, Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor)}, err
}
