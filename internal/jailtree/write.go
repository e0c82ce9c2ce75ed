package jailtree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"jailctl/internal/archive"
	"jailctl/internal/host"
	"jailctl/proto/jailpb"
)

// staging is the name of a tree while it is built.
const staging = "new"

// relative is a path in a tree as the kernel is to see it: below the tree's root.
func relative(name []byte) string { return strings.TrimPrefix(string(name), "/") }

// write makes the whole tree of a plan beside the one in use and fills in what the
// manifest says of it. Progress is called with bytes done, of all; from several
// goroutines. On an error or when ctx ends, nothing is left of it.
func (s *Store) write(ctx context.Context, plan *Plan, progress func(done, all int64)) (t tree, err error) {
	step("make tree")
	if err := unix.Mkdirat(int(s.trees.Fd()), staging, 0o700); err != nil {
		return t, &fs.PathError{Op: "mkdir", Path: path.Join(s.trees.Name(), staging), Err: err}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard(staging, t.id))
		}
	}()
	root, err := openDir(s.trees, staging)
	if err != nil {
		return t, err
	}
	defer root.Close()
	if t.id, err = identify(root, ""); err != nil {
		return t, err
	}
	w := &writer{ctx: ctx, root: root, plan: plan, progress: progress}
	if err := w.all(); err != nil {
		return t, err
	}
	return t, w.stamp()
}

// writer fills one tree. Nobody but root can reach it, or see it, meanwhile.
type writer struct {
	ctx      context.Context
	root     *os.File
	plan     *Plan
	progress func(done, all int64)
	done     atomic.Int64
	size     int64
}

func (w *writer) all() error {
	var dirs []Entry // ascending: each after the one that it is in
	in := map[string][]Entry{}
	members := map[string]Entry{}
	var again []Entry
	for _, e := range w.plan.Entries {
		switch {
		case e.Kind == jailpb.Entry_DIRECTORY:
			dirs = append(dirs, e)
		case len(e.SameAs) > 0:
			again = append(again, e)
		case e.member != "":
			members[e.member] = e
			w.size += int64(e.Size)
		default:
			dir := path.Dir(string(e.Path))
			in[dir] = append(in[dir], e)
			w.size += int64(e.Size)
		}
	}
	for _, d := range dirs[1:] {
		step("make directory")
		err := w.within(d.Path, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) })
		if err != nil {
			return w.failed("mkdir", d, err)
		}
	}
	if err := w.parallel(dirs, in); err != nil {
		return err
	}
	if err := w.unpack(members); err != nil {
		return err
	}
	for _, e := range again {
		step("link")
		err := w.within(e.SameAs, func(from int, its string) error {
			return w.within(e.Path, func(to int, base string) error { return unix.Linkat(from, its, to, base, 0) })
		})
		if err != nil {
			return w.failed("link", e, err)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := w.finishDir(dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// within does something in the directory that a path is in. A plan has no links on the
// way to anything; if it had, from an archive of a user's, they would lead out of the tree.
func (w *writer) within(name []byte, do func(dir int, base string) error) error {
	dir, err := openDir(w.root, relative([]byte(path.Dir(string(name)))))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(int(dir.Fd()), path.Base(string(name)))
}

func (w *writer) failed(op string, e Entry, err error) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return fmt.Errorf("%s: %s %q in the new tree: %w", e.AskedBy, op, e.Path, err)
}

// parallel fills the directories, each by one of as many workers as there are processors.
func (w *writer) parallel(dirs []Entry, in map[string][]Entry) error {
	ctx, stop := context.WithCancelCause(w.ctx)
	defer stop(nil)
	todo := make(chan Entry)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			c := copier{ctx: ctx, buf: make([]byte, 1<<18), clones: true}
			for d := range todo {
				if ctx.Err() != nil {
					continue
				}
				if err := w.fill(ctx, &c, d, in[string(d.Path)]); err != nil {
					stop(err)
				}
			}
		})
	}
	for _, d := range dirs {
		if len(in[string(d.Path)]) > 0 {
			todo <- d
		}
	}
	close(todo)
	workers.Wait()
	return context.Cause(ctx)
}

// fill makes the files of one directory.
func (w *writer) fill(ctx context.Context, c *copier, d Entry, files []Entry) error {
	dir, err := openDir(w.root, relative(d.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	for _, e := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := path.Base(string(e.Path))
		switch e.Kind {
		case jailpb.Entry_SYMLINK:
			step("make link")
			if err := unix.Symlinkat(string(e.Target), fd, name); err != nil {
				return w.failed("symlink", e, err)
			}
		case jailpb.Entry_DEVICE:
			step("make device")
			err := unix.Mknodat(fd, name, unix.S_IFCHR, int(unix.Mkdev(e.Major, e.Minor)))
			if err == nil {
				err = unix.Fchmodat(fd, name, e.Mode, 0)
			}
			if err != nil {
				return w.failed("mknod", e, err)
			}
		default:
			if err := w.regular(c, dir, name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) regular(c *copier, dir *os.File, name string, e Entry) error {
	step("make file")
	to, err := create(dir, name)
	if err != nil {
		return w.failed("create", e, err)
	}
	defer to.Close()
	if e.text != nil {
		err = c.from(bytes.NewReader(e.text), to, e, false)
	} else {
		err = c.file(to, e, w.plan.host)
	}
	if err != nil {
		return w.failed("write", e, err)
	}
	w.progress(w.done.Add(int64(e.Size)), w.size)
	return nil
}

func create(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copier copies one file after the other.
type copier struct {
	ctx context.Context
	buf []byte
	// clones: the file systems may share blocks; false once they said no.
	clones bool
}

// file copies the content of a file of the host.
func (c *copier) file(to *os.File, e Entry, h *host.Host) error {
	name := string(e.Origin)
	// No link is followed: had one come in since the plan, it would lead elsewhere.
	from, err := h.OpenReal(name)
	if err != nil {
		return err
	}
	defer from.Close()
	before, err := lstat(from, "")
	if err != nil {
		return err
	}
	if before != e.info {
		return fmt.Errorf("%s was replaced or changed at this moment; build again", name)
	}
	if c.clones {
		if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
			c.clones = false
		} else if err := c.hash(from, e); err != nil {
			return err
		}
	}
	if !c.clones {
		sparse := before.Blocks*512 < before.Size
		if err := c.from(from, to, e, sparse); err != nil {
			return err
		}
	}
	after, err := lstat(from, "")
	if err != nil {
		return err
	}
	// Reading changes the access time alone.
	if after != before || e.Size != uint64(before.Size) {
		return fmt.Errorf("%s was changed while it was copied; build again", name)
	}
	return c.finish(to, e)
}

// from writes all that r has and fills in size and hash. In a sparse file, blocks of
// zeros are left out.
func (c *copier) from(r io.Reader, to *os.File, e Entry, sparse bool) error {
	h := sha256.New()
	e.Size = 0
	r = reader{c.ctx, r}
	for {
		n, err := r.Read(c.buf)
		if n > 0 {
			b := c.buf[:n]
			h.Write(b)
			if sparse && len(bytes.Trim(b, "\x00")) == 0 {
				if _, err := to.Seek(int64(n), io.SeekCurrent); err != nil {
					return err
				}
			} else if _, err := to.Write(b); err != nil {
				return err.(*fs.PathError).Err // whose path is told anyway
			}
			e.Size += uint64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if sparse {
		if err := to.Truncate(int64(e.Size)); err != nil {
			return err
		}
	}
	e.Sha256 = h.Sum(nil)
	if e.text != nil || e.member != "" {
		return c.finish(to, e)
	}
	return nil
}

func (c *copier) hash(r io.Reader, e Entry) error {
	h := sha256.New()
	n, err := io.CopyBuffer(h, reader{c.ctx, r}, c.buf)
	e.Size, e.Sha256 = uint64(n), h.Sum(nil)
	return err
}

// reader ends with its context. It keeps io.CopyBuffer from asking for more than Read.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

// finish gives a file its mode and the time of what it is a copy of: Python, make and
// others compare it.
func (c *copier) finish(to *os.File, e Entry) error {
	fd := int(to.Fd())
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return err
	}
	if e.info.Ino == 0 {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(e.info.Modified)}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

// unpack writes the files that come from an archive.
func (w *writer) unpack(members map[string]Entry) error {
	if len(members) == 0 {
		return nil
	}
	c := copier{ctx: w.ctx, buf: make([]byte, 1<<18)}
	err := archive.Read(w.ctx, w.plan.archive, func(m archive.Member, content io.Reader) error {
		e, wanted := members[m.Path]
		if !wanted || m.Kind != archive.Regular {
			return nil
		}
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		delete(members, m.Path)
		dir, err := openDir(w.root, relative([]byte(path.Dir(string(e.Path)))))
		if err != nil {
			return err
		}
		defer dir.Close()
		step("make file")
		to, err := create(dir, path.Base(string(e.Path)))
		if err != nil {
			return w.failed("create", e, err)
		}
		defer to.Close()
		// A sparse file of a few kilobytes can stand for 64 GiB of zeros.
		if err := c.from(content, to, e, true); err != nil {
			return w.failed("write", e, err)
		}
		w.progress(w.done.Add(int64(e.Size)), w.size)
		return nil
	})
	for name, e := range members {
		if err == nil {
			err = fmt.Errorf("%s: %s was changed while it was read: %q is gone; build again", e.AskedBy, w.plan.archive, name)
		}
	}
	return err
}

// finishDir gives a directory its owner and mode, once all is in it. A state directory
// gets them when its content is there: until then nobody may write in it.
func (w *writer) finishDir(e Entry) error {
	dir, err := openDir(w.root, relative(e.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	mode := e.Mode
	if e.State {
		mode = 0
	}
	step("set mode of directory")
	if err := unix.Fchmod(int(dir.Fd()), mode); err != nil {
		return w.failed("chmod", e, err)
	}
	if !e.State {
		if err := own(dir, e.Entry); err != nil {
			return w.failed("chown", e, err)
		}
	}
	return nil
}

// own gives a directory the owner and mode that its entry says.
func own(dir *os.File, e *jailpb.Entry) error {
	if err := unix.Fchown(int(dir.Fd()), int(e.Uid), int(e.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(int(dir.Fd()), e.Mode)
}

// stamp notes the inode of each entry.
func (w *writer) stamp() error { return stamp(w.root, w.plan.entries()) }

func (p *Plan) entries() []*jailpb.Entry {
	all := make([]*jailpb.Entry, len(p.Entries))
	for i, e := range p.Entries {
		all[i] = e.Entry
	}
	return all
}

// stamp also gives all names of one file what its first name has.
func stamp(root *os.File, entries []*jailpb.Entry) error {
	written := map[uint64]*jailpb.Entry{}
	for _, e := range entries {
		info, err := lstat(root, relative(e.Path))
		if err != nil {
			return err
		}
		e.Inode, e.Changed = info.Ino, info.Changed
		if e.Kind == jailpb.Entry_REGULAR && len(e.SameAs) == 0 {
			written[info.Ino] = e
		}
	}
	for _, e := range entries {
		if first := written[e.Inode]; len(e.SameAs) > 0 && first != nil {
			e.Sha256, e.Size, e.Mode = first.Sha256, first.Size, first.Mode
		}
	}
	return nil
}
