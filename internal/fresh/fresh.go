// Package fresh tells, by statx(2) alone, that nothing has changed since a build: neither
// what a jail's tree was made from, nor the tree, nor what is known of it. Builds that
// have nothing to do are the most frequent by far, and jailctl asks this before it
// becomes jailctl-admin: hence neither package os nor reflection in here.
package fresh

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"jailctl/internal/paths"
	"jailctl/internal/wire"
)

// What of a file counts: bits of stx_mask in statx(2).
const (
	Mode  = 0x003 // STATX_TYPE | STATX_MODE
	User  = 0x008
	Time  = 0x080 // of the last change, which nobody makes without it: STATX_CTIME
	Inode = 0x100
)

// Mark is how something was. Where nothing counts, nothing was there.
type Mark struct {
	Counts, Mode, User uint32
	Inode              uint64
	Time               int64 // nanoseconds since 1970
}

// Jail tells whether a build of the jail called name would have nothing to do. False is
// no answer: jailctl-admin finds one.
func Jail(name string) bool {
	return !strings.HasPrefix(name, ".") && !strings.Contains(name, "/") && Same(paths.Fresh(name))
}

// Same tells whether all that a file, a Fresh of contents.proto, has marks of is as it
// was. It is not where the file cannot be read, or is another version's.
func Same(file string) bool {
	b, err := read(file)
	if err != nil {
		return false
	}
	version := ""
	var marks [][]byte
	err = schema.Walk(b, func(f wire.Field) error {
		if f.Num == 1 {
			version = string(f.B)
		} else {
			marks = append(marks, f.B)
		}
		return nil
	})
	const some = 256 // neighbours, for one processor
	parts := slices.Collect(slices.Chunk(marks, some))
	return err == nil && version == paths.Version && len(marks) > 0 && Every(parts, func(part [][]byte) bool {
		e := eye{fd: fdCwd}
		defer e.close()
		for _, b := range part {
			if path, m, err := parse(b); err != nil || !e.same(path, m) {
				return false
			}
		}
		return true
	})
}

var (
	schema = wire.Schema{1: wire.Text, 2: wire.Texts}
	ofMark = wire.Schema{1: wire.Text, 2: wire.Number, 3: wire.Number, 4: wire.Number, 5: wire.Number, 6: wire.Number}
)

// parse reads a Mark of contents.proto and the path that it is of.
func parse(b []byte) (path string, m Mark, err error) {
	err = ofMark.Walk(b, func(f wire.Field) error {
		switch f.Num {
		case 1:
			path = string(f.B)
		case 2:
			m.Counts = uint32(f.N)
		case 3:
			m.Mode = uint32(f.N)
		case 4:
			m.User = uint32(f.N)
		case 5:
			m.Inode = f.N
		case 6:
			m.Time = int64(f.N)
		}
		return nil
	})
	return path, m, err
}

// Same tells whether what is at a path is as m says.
func (m Mark) Same(path string) bool {
	e := eye{fd: fdCwd}
	defer e.close()
	return e.same(path, m)
}

// Look is what of a path counts, as it is now.
func Look(path string, counts uint32) (Mark, error) { return look(fdCwd, path, counts) }

// eye looks at one path after the other. It keeps the directory of the last one open: a
// path is a long way, and most are next to the one before.
type eye struct {
	dir string
	fd  int
}

func (e *eye) close() {
	if e.fd != fdCwd {
		syscall.Close(e.fd)
	}
}

func (e *eye) same(path string, m Mark) bool {
	end := strings.LastIndexByte(path, '/') + 1
	if dir := path[:end]; dir != e.dir {
		e.close()
		e.dir, e.fd = dir, fdCwd
		if end > 1 {
			const oPath = 0x200000
			if fd, err := syscall.Open(dir, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err == nil {
				e.fd = fd
			}
		}
	}
	if e.fd != fdCwd {
		path = path[end:]
	}
	now, err := look(e.fd, path, m.Counts)
	if m.Counts == 0 {
		return err != nil && err != syscall.EINVAL
	}
	return err == nil && now == m
}

// statx is struct statx as far as it is needed.
type statx struct {
	mask, blksize    uint32
	attributes       uint64
	nlink, uid, gid  uint32
	mode             uint16
	_                uint16
	ino, size, block uint64
	attributesMask   uint64
	atime, btime     [2]uint64
	changed          int64
	changedNsec      uint32
	_                [256 - 0x6c]byte
}

// fdCwd is AT_FDCWD.
const fdCwd = -100

// look is Look from a directory. Where the time does not count, a file system that a user
// has mounted there is not asked: it might never answer (fuse(4)). A path with a NUL is
// EINVAL.
func look(dir int, path string, counts uint32) (m Mark, err error) {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return m, err
	}
	const noFollow, noAutomount, noSync = 0x100, 0x800, 0x4000 // AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_STATX_DONT_SYNC
	flags := uintptr(noFollow | noAutomount)
	if counts&Time == 0 {
		flags |= noSync
	}
	var st statx
	_, _, errno := syscall.Syscall6(sysStatx, uintptr(dir), uintptr(unsafe.Pointer(name)), flags, uintptr(counts), uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return m, errno
	}
	m.Counts = counts
	if counts&Mode != 0 {
		m.Mode = uint32(st.mode)
	}
	if counts&User != 0 {
		m.User = st.uid
	}
	if counts&Inode != 0 {
		m.Inode = st.ino
	}
	if counts&Time != 0 {
		m.Time = st.changed*1e9 + int64(st.changedNsec)
	}
	return m, nil
}

// Every tells whether ok is true of all; it asks on all processors.
func Every[T any](all []T, ok func(T) bool) bool {
	var no atomic.Bool
	var askers sync.WaitGroup
	size := (len(all) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	for len(all) > 0 {
		part := all[:min(size, len(all))]
		all = all[len(part):]
		askers.Go(func() {
			for _, one := range part {
				if no.Load() {
					return
				}
				if !ok(one) {
					no.Store(true)
				}
			}
		})
	}
	askers.Wait()
	return !no.Load()
}

// read is the content of a file.
func read(name string) ([]byte, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	for have := 0; have < len(b); {
		n, err := syscall.Read(fd, b[have:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return b[:have], nil
		default:
			have += n
		}
	}
	return b, nil
}
