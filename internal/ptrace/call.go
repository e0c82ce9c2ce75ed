package ptrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/seccomp"
)

// A place is where the arguments of a path are: the directory's descriptor, -1 the
// working directory, and the path.
type place struct{ dir, path int }

var places = map[string][]place{}

func init() {
	for names, at := range map[string][]place{
		`open creat stat lstat access readlink execve chdir chroot mkdir rmdir unlink mknod chmod chown lchown truncate utime
		utimes statfs umount2 swapon acct getxattr lgetxattr listxattr llistxattr setxattr lsetxattr removexattr lremovexattr
		uselib`: {{-1, 0}},
		`openat openat2 newfstatat statx faccessat faccessat2 readlinkat mkdirat unlinkat mknodat fchmodat fchmodat2 fchownat
		utimensat futimesat execveat name_to_handle_at`: {{0, 1}},
		"rename link":               {{-1, 0}, {-1, 1}},
		"renameat renameat2 linkat": {{0, 1}, {2, 3}},
		"symlink inotify_add_watch": {{-1, 1}},
		"symlinkat":                 {{1, 2}},
		"mount":                     {{-1, 1}},
	} {
		for name := range strings.FieldsSeq(names) {
			places[name] = at
		}
	}
}

// Names reports whether a call's arguments name files.
func Names(call string) bool { return len(places[call]) > 0 }

// A Call is a system call with the files that its arguments name.
type Call struct {
	seccomp.Call
	TID   int
	Name  string // empty: the number has none
	Root  Root
	Paths []string // absolute in the process's root, as the process means them
	Short []string // as it wrote them
	how   []byte   // openat2's struct open_how
	// Err is why not everything could be read.
	Err error
}

// Look reads what the arguments of a call that has not been made point to. The Root
// is to be closed, also after an error.
func Look(tid int, c seccomp.Call, name string) *Call {
	k := &Call{Call: c, TID: tid, Name: name}
	k.Err = k.look()
	return k
}

func (k *Call) look() (err error) {
	tid, c := k.TID, k.Call
	if k.Root, err = OpenRoot(fmt.Sprintf("/proc/%d/root", tid)); err != nil {
		return err
	}
	for _, at := range places[k.Name] {
		written, err := text(tid, c.Args[at.path])
		if err != nil {
			return err
		}
		full := written
		if !strings.HasPrefix(full, "/") {
			base, err := k.directory(at.dir)
			if err != nil {
				return err
			}
			if full = base; written != "" { // else the descriptor itself, AT_EMPTY_PATH
				full = strings.TrimSuffix(base, "/") + "/" + written
			}
		}
		k.Short, k.Paths = append(k.Short, written), append(k.Paths, full)
	}
	if k.Name == "openat2" {
		k.how = make([]byte, 16)
		if n, err := Read(tid, c.Args[2], k.how); err != nil || n < len(k.how) {
			return unix.EFAULT
		}
	}
	return nil
}

// directory is what a relative path begins at: the descriptor in an argument, or the
// working directory.
func (k *Call) directory(arg int) (string, error) {
	link := fmt.Sprintf("/proc/%d/cwd", k.TID)
	if arg >= 0 && int32(k.Args[arg]) != unix.AT_FDCWD {
		link = fmt.Sprintf("/proc/%d/fd/%d", k.TID, int32(k.Args[arg]))
	}
	host, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	return k.Root.inside(host)
}

// Cwd reports whether a path of the call begins at the working directory.
func (k *Call) Cwd() bool {
	for i, at := range places[k.Name] {
		if i < len(k.Short) && !strings.HasPrefix(k.Short[i], "/") && (at.dir < 0 || int32(k.Args[at.dir]) == unix.AT_FDCWD) {
			return true
		}
	}
	return false
}

// Words says what a call is about.
func (k *Call) Words() string {
	var s []string
	for _, p := range k.Short {
		s = append(s, strconv.Quote(p))
	}
	word := strings.Join(s, " to ")
	if flags, ok := k.Opens(); ok && k.Name != "creat" {
		word += " " + mode(flags)
	}
	family := func(n uint64) string {
		switch n {
		case unix.AF_UNIX:
			return "AF_UNIX"
		case unix.AF_INET:
			return "AF_INET"
		case unix.AF_INET6:
			return "AF_INET6"
		case unix.AF_NETLINK:
			return "AF_NETLINK"
		case unix.AF_PACKET:
			return "AF_PACKET"
		}
		return "family " + strconv.Itoa(int(uint32(n)))
	}
	kind := func(n uint64) string {
		switch n & 0xf {
		case unix.SOCK_STREAM:
			return "SOCK_STREAM"
		case unix.SOCK_DGRAM:
			return "SOCK_DGRAM"
		case unix.SOCK_RAW:
			return "SOCK_RAW"
		case unix.SOCK_SEQPACKET:
			return "SOCK_SEQPACKET"
		}
		return "type " + strconv.Itoa(int(n&0xf))
	}
	switch k.Name {
	case "socket", "socketpair":
		return family(k.Args[0]) + " " + kind(k.Args[1])
	case "ioctl", "prctl", "fcntl":
		at := 1
		if k.Name == "prctl" {
			at = 0
		}
		return fmt.Sprintf("%#x", uint32(k.Args[at]))
	case "kill", "tkill", "rt_sigqueueinfo":
		return fmt.Sprintf("process %d, signal %d", int32(k.Args[0]), int32(k.Args[1]))
	case "tgkill":
		return fmt.Sprintf("process %d, signal %d", int32(k.Args[0]), int32(k.Args[2]))
	case "mmap", "mprotect":
		if k.Args[2]&unix.PROT_EXEC != 0 {
			return "PROT_EXEC"
		}
	case "clone", "unshare":
		return fmt.Sprintf("flags %#x", k.Args[0])
	case "chmod", "mkdir":
		word += fmt.Sprintf(" mode %04o", uint32(k.Args[1]))
	case "fchmodat", "mkdirat":
		word += fmt.Sprintf(" mode %04o", uint32(k.Args[2]))
	}
	return word
}

// Flags of open(2) that differ between machines are not looked at but O_DIRECTORY.
const tmpfile = 0x400000

// Opens gives the flags of the calls that open.
func (k *Call) Opens() (flags uint64, ok bool) {
	switch k.Name {
	case "open":
		return k.Args[1], true
	case "openat":
		return k.Args[2], true
	case "openat2":
		if len(k.how) >= 8 {
			return binary.NativeEndian.Uint64(k.how), true
		}
	case "creat":
		return unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, true
	}
	return 0, false
}

func mode(flags uint64) string {
	s := [...]string{"for reading", "for writing", "for reading and writing", ""}[flags&unix.O_ACCMODE]
	if flags&unix.O_CREAT != 0 {
		s += ", making it"
	}
	if flags&tmpfile != 0 {
		s += ", a temporary file"
	}
	return s
}

// entries are calls about the entry of a directory that a path names: a symbolic link
// stands for itself.
var entries = strings.Fields(`lstat lchown lgetxattr llistxattr lsetxattr lremovexattr readlink readlinkat unlink unlinkat rmdir
	mkdir mkdirat mknod mknodat symlink symlinkat rename renameat renameat2 link linkat`)

// Follows reports whether the call follows a symbolic link at the end of a path.
func (k *Call) Follows() bool {
	flag := func(arg int, bit uint64) bool { return k.Args[arg]&bit != 0 }
	switch k.Name {
	case "newfstatat", "utimensat", "faccessat2", "fchmodat2":
		return !flag(3, unix.AT_SYMLINK_NOFOLLOW)
	case "statx":
		return !flag(2, unix.AT_SYMLINK_NOFOLLOW)
	case "fchownat", "execveat":
		return !flag(4, unix.AT_SYMLINK_NOFOLLOW)
	case "linkat", "name_to_handle_at":
		return flag(4, unix.AT_SYMLINK_FOLLOW)
	case "inotify_add_watch":
		return !flag(2, unix.IN_DONT_FOLLOW)
	}
	if flags, ok := k.Opens(); ok {
		return flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	}
	return !slices.Contains(entries, k.Name)
}

// An Address is where a socket is to be.
type Address struct {
	Family uint16
	Port   uint16 // of the internet
	Name   string // of a unix socket, the path; or, Abstract, the name
	// Abstract: of no file, unix(7).
	Abstract bool
}

// ErrNoAddress is for calls without one.
var ErrNoAddress = errors.New("no address")

// Address reads that of a connect, bind or sendto.
func (k *Call) Address() (a Address, err error) {
	at, size := k.Args[1], k.Args[2]
	if k.Name == "sendto" {
		at, size = k.Args[4], k.Args[5]
	}
	b := make([]byte, min(size, 128))
	if len(b) < 4 || at == 0 {
		return a, ErrNoAddress
	}
	if n, err := Read(k.TID, at, b); err != nil || n < len(b) {
		return a, unix.EFAULT
	}
	a.Family = binary.NativeEndian.Uint16(b)
	switch a.Family {
	case unix.AF_INET, unix.AF_INET6:
		a.Port = binary.BigEndian.Uint16(b[2:])
	case unix.AF_UNIX:
		if b[2] == 0 {
			a.Name, a.Abstract = string(b[3:]), true
			break
		}
		name, _, _ := bytes.Cut(b[2:], []byte{0})
		a.Name = string(name)
	}
	return a, nil
}

// Socket gives a call about a unix socket's file the path of it.
func (k *Call) Socket(name string) error {
	full := name
	if !strings.HasPrefix(name, "/") {
		base, err := k.directory(-1)
		if err != nil {
			return err
		}
		full = strings.TrimSuffix(base, "/") + "/" + name
	}
	k.Short, k.Paths = []string{name}, []string{full}
	return nil
}
