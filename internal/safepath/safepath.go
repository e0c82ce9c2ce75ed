// Package safepath opens what only root can have put there. It walks from "/"
// one component at a time, holding each directory by descriptor and weighing
// the open descriptor, never a name: each must be a directory owned by root and
// writable by nobody else, and no symbolic link is followed (sshd does the same
// for ChrootDirectory, see sshd_config(5)). What was weighed is what is used,
// since only root could rename anything beneath it.
//
// It does not promise anything about access control beyond owner and mode bits:
// POSIX ACLs that let others write show in the group bits (acl(5)), but a file
// system that ignores modes, as some network mounts do, is believed.
package safepath

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fault says which component is unsafe, why, and how to mend it.
type Fault struct {
	Path string // the component, absolute
	Why  string
	Fix  string
}

func (f *Fault) Error() string {
	s := strconv.Quote(f.Path) + " " + f.Why
	if f.Fix != "" {
		s += "; mend it with: " + f.Fix
	}
	return s
}

// ErrNotExist says that the last component of a path given to File is not there.
var ErrNotExist = errors.New("does not exist")

// others are the mode bits through which somebody but the owner could write.
const others = 0o022

// Dir walks to the directory at path, which must be absolute and clean, and
// returns an O_PATH descriptor of it.
func Dir(path string) (int, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &Fault{Path: "/", Why: "cannot be opened: " + err.Error()}
	}
	if err := weigh(fd, "/"); err != nil {
		unix.Close(fd)
		return -1, err
	}
	for at := 1; at < len(path); {
		to := strings.IndexByte(path[at:], '/')
		if to < 0 {
			to = len(path) - at
		}
		next, err := unix.Openat(fd, path[at:at+to], unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		at += to
		if err != nil {
			return -1, &Fault{Path: path[:at], Why: "cannot be opened: " + err.Error()}
		}
		fd = next
		if err := weigh(fd, path[:at]); err != nil {
			unix.Close(fd)
			return -1, err
		}
		at++
	}
	return fd, nil
}

// weigh checks one directory on the way.
func weigh(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &Fault{Path: path, Why: "cannot be examined: " + err.Error()}
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		// Its target is a name that is resolved anew each time.
		return &Fault{Path: path, Why: "is a symbolic link", Fix: "write the directory that it stands for"}
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &Fault{Path: path, Why: "is not a directory"}
	}
	return owned(&st, path)
}

// owned checks that only root may write.
func owned(st *unix.Stat_t, path string) error {
	if st.Uid != 0 {
		return &Fault{
			Path: path, Why: "is owned by uid " + strconv.Itoa(int(st.Uid)) + ", mode " + octal(st.Mode) + ", and must be owned by root",
			Fix: "chown root " + quote(path),
		}
	}
	if st.Mode&others != 0 {
		return &Fault{
			Path: path, Why: "is owned by root, mode " + octal(st.Mode) + ", and must not be writable by group or others",
			Fix: "chmod go-w " + quote(path),
		}
	}
	return nil
}

// File returns what is in the regular file at path, at most limit bytes, read
// once from one open. Its directories are weighed as by Dir; the file itself
// must be root's, writable by nobody else, and have one name only: a second
// hard link could lie where others decide what it is called.
func File(path string, limit int) ([]byte, error) {
	slash := strings.LastIndexByte(path, '/')
	dir, err := Dir(path[:max(slash, 1)])
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return FileAt(dir, path, limit)
}

// FileAt is File with the directory already weighed and open; path still names
// the whole, for messages.
func FileAt(dir int, path string, limit int) ([]byte, error) {
	name := path[strings.LastIndexByte(path, '/')+1:]
	// O_NONBLOCK: a FIFO must not hold the helper; O_NOCTTY: nor a terminal adopt it.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil, ErrNotExist
	case unix.ELOOP:
		return nil, &Fault{Path: path, Why: "is a symbolic link", Fix: "put the file itself there"}
	default:
		return nil, &Fault{Path: path, Why: "cannot be opened: " + err.Error()}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &Fault{Path: path, Why: "cannot be examined: " + err.Error()}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &Fault{Path: path, Why: "is not a regular file"}
	}
	if err := owned(&st, path); err != nil {
		return nil, err
	}
	if st.Nlink != 1 {
		return nil, &Fault{Path: path, Why: "has " + strconv.Itoa(int(st.Nlink)) + " hard links and must have one name only"}
	}
	if st.Size > int64(limit) {
		return nil, &Fault{Path: path, Why: "is larger than " + strconv.Itoa(limit) + " bytes"}
	}
	// One byte more than fstat said, so that a file that grew is seen.
	b := make([]byte, st.Size+1)
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err != nil {
			return nil, &Fault{Path: path, Why: "cannot be read: " + err.Error()}
		}
		if m == 0 {
			break
		}
		n += m
	}
	if int64(n) != st.Size {
		return nil, &Fault{Path: path, Why: "changed while it was read"}
	}
	return b[:n], nil
}

func octal(mode uint32) string {
	s := strconv.FormatUint(uint64(mode&0o7777), 8)
	return "0000"[:max(0, 4-len(s))] + s
}

// quote makes path one shell word.
func quote(path string) string {
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
