package ptrace

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Use is what Landlock asks for a call: rights on a file, and where a rule that
// gives them belongs.
type Use struct {
	Path   string
	Rights uint64
	At     string // the file, or the directory that it is made in
	// Like is a directory whose rights are asked for as well: what is moved or linked
	// may not gain any.
	Like string
}

// Changes is the mode wanted of the directory that has the entry.
const Changes = 8

const (
	readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	writeFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
)

var kinds = map[uint32]uint64{
	unix.S_IFREG: unix.LANDLOCK_ACCESS_FS_MAKE_REG, unix.S_IFDIR: unix.LANDLOCK_ACCESS_FS_MAKE_DIR,
	unix.S_IFLNK: unix.LANDLOCK_ACCESS_FS_MAKE_SYM, unix.S_IFIFO: unix.LANDLOCK_ACCESS_FS_MAKE_FIFO,
	unix.S_IFSOCK: unix.LANDLOCK_ACCESS_FS_MAKE_SOCK, unix.S_IFCHR: unix.LANDLOCK_ACCESS_FS_MAKE_CHAR,
	unix.S_IFBLK: unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK, 0: unix.LANDLOCK_ACCESS_FS_MAKE_REG,
}

// Uses are what Landlock asks for a call, and the modes that the kernel asks of each
// path before: 4, 2 and 1 for reading, writing, executing or searching, or Changes.
func (k *Call) Uses() (uses []Use, want []uint32) {
	at := func(i int, follow bool) File {
		if i >= len(k.Paths) {
			return File{}
		}
		f, err := k.Root.Find(k.Paths[i], follow)
		if err != nil {
			return File{}
		}
		return f
	}
	// entry is a change to a directory.
	entry := func(i int, right uint64) {
		if f := at(i, false); f.Path != "" {
			uses = append(uses, Use{Path: f.Parent(), Rights: right, At: f.Parent()})
		}
		want = append(want, Changes)
	}
	if flags, ok := k.Opens(); ok {
		return k.opens(flags)
	}
	removal := func(f File) uint64 {
		if f.IsDir() {
			return unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
		}
		return unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	}
	switch k.Name {
	case "execve", "execveat":
		if len(k.Paths) > 0 {
			for _, f := range k.Root.Programs(k.Paths[0]) {
				uses = append(uses, Use{Path: f.Path, Rights: unix.LANDLOCK_ACCESS_FS_EXECUTE | readFile, At: f.Path})
			}
		}
		return uses, []uint32{1}
	case "mkdir", "mkdirat":
		entry(0, unix.LANDLOCK_ACCESS_FS_MAKE_DIR)
	case "rmdir":
		entry(0, unix.LANDLOCK_ACCESS_FS_REMOVE_DIR)
	case "unlink", "unlinkat":
		entry(0, removal(at(0, false)))
	case "symlink", "symlinkat":
		entry(0, unix.LANDLOCK_ACCESS_FS_MAKE_SYM)
	case "mknod":
		entry(0, kinds[uint32(k.Args[1])&unix.S_IFMT])
	case "mknodat":
		entry(0, kinds[uint32(k.Args[2])&unix.S_IFMT])
	case "bind":
		entry(0, unix.LANDLOCK_ACCESS_FS_MAKE_SOCK)
	case "connect", "sendto":
		return nil, []uint32{2}
	case "rename", "renameat", "renameat2", "link", "linkat":
		from, to := at(0, k.Follows()), at(1, false)
		making := kinds[from.Stat.Mode&unix.S_IFMT]
		if strings.HasPrefix(k.Name, "rename") {
			entry(0, removal(from))
			if to.Exists {
				making |= removal(to)
			}
		} else {
			want = append(want, 0)
		}
		entry(1, making)
		if from.Path != "" && to.Path != "" && from.Parent() != to.Parent() {
			const refer = unix.LANDLOCK_ACCESS_FS_REFER
			uses = append(uses,
				Use{Path: from.Parent(), Rights: refer, At: from.Parent(), Like: to.Parent()},
				Use{Path: to.Parent(), Rights: refer, At: to.Parent()})
		}
	case "truncate":
		if f := at(0, true); f.Path != "" {
			uses = append(uses, Use{Path: f.Path, Rights: unix.LANDLOCK_ACCESS_FS_TRUNCATE, At: f.Path})
		}
		return uses, []uint32{2}
	case "ioctl":
		if host, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", k.TID, int32(k.Args[0]))); err == nil {
			if p, err := k.Root.inside(host); err == nil {
				k.Short = []string{p}
				uses = append(uses, Use{Path: p, Rights: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, At: p})
			}
		}
	case "chdir":
		return nil, []uint32{1}
	}
	return uses, want
}

// opens are the uses of open(2) and its kin.
func (k *Call) opens(flags uint64) (uses []Use, want []uint32) {
	if len(k.Paths) == 0 || flags&unix.O_PATH != 0 {
		return nil, nil
	}
	f, err := k.Root.Find(k.Paths[0], k.Follows())
	if err != nil {
		return nil, nil
	}
	var rights uint64
	bits := uint32(0)
	if access := flags & unix.O_ACCMODE; access != unix.O_WRONLY {
		rights, bits = readFile, 4
		if f.IsDir() && flags&tmpfile == 0 {
			rights = unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
	}
	if access := flags & unix.O_ACCMODE; access != unix.O_RDONLY {
		rights |= writeFile
		bits |= 2
	}
	if flags&unix.O_TRUNC != 0 {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
		bits |= 2
	}
	switch {
	case !f.Exists:
		uses = append(uses,
			Use{Path: f.Parent(), Rights: unix.LANDLOCK_ACCESS_FS_MAKE_REG, At: f.Parent()},
			Use{Path: f.Path, Rights: rights, At: f.Parent()})
		bits = Changes
	case flags&tmpfile != 0:
		uses = append(uses, Use{Path: f.Path, Rights: rights, At: f.Path})
		bits = 3
	default:
		uses = append(uses, Use{Path: f.Path, Rights: rights, At: f.Path})
	}
	return uses, []uint32{bits}
}
