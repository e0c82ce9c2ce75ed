// Package host reads the machine that jails are made from and notes what it was
// asked, so that a later build can tell whether any answer would be another now.
// It executes nothing and changes nothing.
package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/fresh"
)

// Info is what lstat(2) says of a path.
type Info struct {
	// Mode is type and permission bits, as in inode(7).
	Mode     uint32
	UID, GID uint32
	Dev, Ino uint64
	Size     int64
	Links    uint64
	// Modified and Changed are in nanoseconds since 1970.
	Modified, Changed int64
	// Rdev is the number of a device.
	Rdev uint64
	// Blocks are of 512 bytes each.
	Blocks int64
}

// Type is the file's type alone: unix.S_IFREG and so on.
func (i Info) Type() uint32 { return i.Mode & unix.S_IFMT }

// IsDir and the like tell the type.
func (i Info) IsDir() bool     { return i.Type() == unix.S_IFDIR }
func (i Info) IsRegular() bool { return i.Type() == unix.S_IFREG }
func (i Info) IsSymlink() bool { return i.Type() == unix.S_IFLNK }

// Stamp is what a build noted of a path. The zero Stamp is of a path with nothing.
type Stamp struct {
	Mode              uint32
	Ino               uint64
	Size              int64
	Modified, Changed int64
	// Listed means that the names in a directory were read too. Of other directories
	// only mode and owner count: their times change with each file in them.
	Listed bool
	UID    uint32 // of those alone
}

// Host is the file system beneath a root. It is not for use by several goroutines
// at once.
type Host struct {
	root  string
	aside bool
	known map[string]answer
	// systems are the file systems of the kernel's own, by device number; "" is any other.
	systems map[uint64]string
}

type answer struct {
	info Info
	err  error
	// noted is of what was not asked aside, and listed likewise.
	noted, listed bool
	// everybody is what Everybody said, if weighed.
	everybody uint32
	weighed   bool
}

// New is the host whose "/" is at root: "" or "/" for the machine itself.
func New(root string) *Host {
	return &Host{root: strings.TrimRight(root, "/"), known: map[string]answer{}, systems: map[uint64]string{}}
}

// Aside is the same machine with the same answers, for questions that no build
// depends on: they are not noted. What h is asked as well, is.
func (h *Host) Aside() *Host { return &Host{h.root, true, h.known, h.systems} }

// Root is where the host's "/" is: "" for the machine itself.
func (h *Host) Root() string { return h.root }

// Stat is Info of a path below no root, from its lstat(2).
func Stat(st *unix.Stat_t) Info {
	return Info{
		st.Mode, st.Uid, st.Gid, uint64(st.Dev), st.Ino, st.Size, uint64(st.Nlink),
		st.Mtim.Nano(), st.Ctim.Nano(), uint64(st.Rdev), st.Blocks,
	}
}

// open opens a path of the machine in which there is no symbolic link, but for the last
// component where flags are for it. A user who owns a directory on the way could put one
// there at any moment, and root would read what only root can.
func (h *Host) open(op, name string, flags uint64) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, h.root+name, &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), name), nil
	case unix.ELOOP:
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("there is a symbolic link on the way now")}
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: err}
}

// Lstat follows no symbolic link, at the end of the way or on it: Walk and Real find
// out where those lead. Name is absolute and clean.
func (h *Host) Lstat(name string) (Info, error) {
	a, ok := h.known[name]
	if ok && a.noted {
		return a.info, a.err
	}
	if !ok {
		a.info, a.err = h.lstat(name)
	}
	a.noted = !h.aside
	h.known[name] = a
	return a.info, a.err
}

func (h *Host) lstat(name string) (Info, error) {
	f, err := h.open("lstat", name, unix.O_PATH)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return Stat(&st), nil
}

// Everybody is the permission bits, 0 to 7, that all but the owner have for what is at a
// path, whoever they are. Those of others are not enough: a group can have less, and
// anybody an entry in an access control list (acl(5)).
func (h *Host) Everybody(name string) (uint32, error) {
	info, err := h.Lstat(name)
	if err != nil {
		return 0, err
	}
	a := h.known[name]
	if a.weighed {
		return a.everybody, nil
	}
	bits := info.Mode & 7
	if bits == 0 {
		return 0, nil
	}
	entries, err := h.acl(name)
	if err != nil {
		return 0, err
	}
	if entries == nil {
		bits &= info.Mode >> 3
	}
	// Where there is a list, the mode has its mask in the place of the group.
	for ; len(entries) >= 8; entries = entries[8:] {
		if tag := binary.LittleEndian.Uint16(entries); tag != aclOwner && tag != aclMask && tag != aclOther {
			bits &= info.Mode >> 3 & uint32(binary.LittleEndian.Uint16(entries[2:]))
		}
	}
	a = h.known[name]
	a.everybody, a.weighed = bits, true
	h.known[name] = a
	return bits, nil
}

// Tags of an access control list (linux/posix_acl.h).
const (
	aclOwner = 0x01
	aclMask  = 0x10
	aclOther = 0x20
)

// acl is the entries of the access control list of what is at a path: each a tag and
// permission bits, of two bytes, and an id of four. It is nil where there is none.
func (h *Host) acl(name string) ([]byte, error) {
	f, err := h.open("getxattr", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// By way of /proc, as descriptors by which nothing is read give no attributes.
	self, attr := fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "system.posix_acl_access"
	n, err := unix.Getxattr(self, attr, nil)
	var b []byte
	if err == nil {
		b = make([]byte, n)
		n, err = unix.Getxattr(self, attr, b)
	}
	switch {
	case err == unix.ENODATA || err == unix.EOPNOTSUPP:
		return nil, nil
	case err != nil:
		return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
	case n < 4 || binary.LittleEndian.Uint32(b) != 2:
		return nil, &fs.PathError{Op: "getxattr", Path: name, Err: errors.New("an access control list of an unknown kind")}
	}
	return b[4:n], nil
}

// kernels are the file systems, by the numbers that statfs(2) gives, in which the kernel
// makes up what is there at the moment of reading.
var kernels = map[int64]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP_SUPER_MAGIC: "cgroup",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs",
	unix.SECURITYFS_MAGIC: "securityfs", unix.SELINUX_MAGIC: "selinuxfs", unix.SMACK_MAGIC: "smackfs",
	unix.DEVPTS_SUPER_MAGIC: "devpts", unix.PSTOREFS_MAGIC: "pstore", unix.EFIVARFS_MAGIC: "efivarfs",
	unix.BPF_FS_MAGIC: "bpf", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.RDTGROUP_SUPER_MAGIC: "resctrl",
	unix.NSFS_MAGIC: "nsfs", 0x62656570: "configfs", 0x65735543: "fusectl", 0x19800202: "mqueue",
	0x67596969: "rpc_pipefs", 0x6e667364: "nfsd",
}

// Kernel is the type of the file system at a path, as Lstat takes one, where that is one
// of the kernel's own, and "" anywhere else. Nothing is noted.
func (h *Host) Kernel(name string) string {
	info, err := h.Aside().Lstat(name)
	if err != nil {
		return ""
	}
	system, known := h.systems[info.Dev]
	if known {
		return system
	}
	f, err := h.open("statfs", name, unix.O_PATH)
	if err != nil {
		return ""
	}
	defer f.Close()
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) == nil {
		system = kernels[int64(st.Type)]
		h.systems[info.Dev] = system
	}
	return system
}

// Readlink is the text of a symbolic link.
func (h *Host) Readlink(name string) (string, error) {
	if _, err := h.Lstat(name); err != nil {
		return "", err
	}
	f, err := h.open("readlink", name, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(f.Fd()), "", b[:])
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(b[:n]), nil
}

// List is the names in a directory, ascending.
func (h *Host) List(name string) ([]string, error) {
	if _, err := h.Lstat(name); err != nil {
		return nil, err
	}
	f, err := h.open("list", name, unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	if !h.aside {
		a := h.known[name]
		a.listed = true
		h.known[name] = a
	}
	return names, err
}

// Open opens a regular file, and nothing else, for reading.
func (h *Host) Open(name string) (*os.File, error) {
	info, err := h.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("not a regular file")}
	}
	f, err := h.OpenReal(name)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Ino != info.Ino || st.Mode != info.Mode {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("it was replaced at this moment")}
	}
	return f, nil
}

// OpenReal opens a file for reading by a path in which there is no symbolic link, not
// even one that came in since it was looked at. It notes nothing, and may be used by
// several goroutines at once.
func (h *Host) OpenReal(name string) (*os.File, error) {
	return h.open("open", name, unix.O_NONBLOCK|unix.O_NOCTTY)
}

// Read is a regular file's content, of at most limit bytes. Links are followed.
func (h *Host) Read(name string, limit int64) ([]byte, error) {
	real, err := h.Real(name)
	if err != nil {
		return nil, err
	}
	f, err := h.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if info, _ := h.Lstat(real); info.Size <= limit {
		b.Grow(int(info.Size) + bytes.MinRead)
	}
	n, err := io.Copy(&b, io.LimitReader(f, limit+1))
	if err == nil && n > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("more than %d bytes", limit)}
	}
	return b.Bytes(), err
}

// maxLinks is how many symbolic links the kernel follows in one path (path_resolution(7)).
const maxLinks = 40

// Walk visits each component on the way to name as the kernel would, links before
// what they stand for, and returns the path without links at which it ends. A visit
// sees the path of a component, itself free of links but for the last one. The way
// ends early at the first component that is not there, with its error.
func (h *Host) Walk(name string, visit func(at string, info Info)) (string, error) {
	done, rest, links := "/", name, 0
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return done, nil
		}
		part, after, more := strings.Cut(rest, "/")
		rest = after
		switch part {
		case ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		at := done + "/" + part // path.Join would clean all of it each time
		if done == "/" {
			at = "/" + part
		}
		info, err := h.Lstat(at)
		if err != nil {
			return at, err
		}
		if visit != nil {
			visit(at, info)
		}
		if !info.IsSymlink() {
			if more && !info.IsDir() {
				return at, &fs.PathError{Op: "lstat", Path: name, Err: unix.ENOTDIR}
			}
			done = at
			continue
		}
		if links++; links > maxLinks {
			return at, &fs.PathError{Op: "lstat", Path: name, Err: unix.ELOOP}
		}
		target, err := h.Readlink(at)
		if err != nil {
			return at, err
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		rest = target + "/" + rest
		if !more {
			rest = target
		}
	}
}

// Real is the path without links that name stands for.
func (h *Host) Real(name string) (string, error) { return h.Walk(name, nil) }

// Asked is every path that was asked about, and not aside, with its stamp.
func (h *Host) Asked() map[string]Stamp {
	all := make(map[string]Stamp, len(h.known))
	for name, a := range h.known {
		if a.noted {
			all[name] = a.info.stamp(a.listed)
		}
	}
	return all
}

func (i Info) stamp(listed bool) Stamp {
	if i.IsDir() && !listed {
		return Stamp{Mode: i.Mode, UID: i.UID}
	}
	s := Stamp{i.Mode, i.Ino, i.Size, i.Modified, i.Changed, listed, 0}
	if i.IsDir() {
		s.Size = 0
	}
	return s
}

// Mark is what must not have changed for the stamp to be the same.
func (s Stamp) Mark() fresh.Mark {
	switch {
	case s.Mode == 0:
		return fresh.Mark{}
	case s.Mode&unix.S_IFMT == unix.S_IFDIR && !s.Listed:
		return fresh.Mark{Counts: fresh.Mode | fresh.User, Mode: s.Mode, User: s.UID}
	}
	return fresh.Mark{Counts: fresh.Inode | fresh.Time, Inode: s.Ino, Time: s.Changed}
}

// At is where on the machine a path is.
func (h *Host) At(name string) string { return h.root + name }
