package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/authlog"
	"jailctl/internal/safepath"
)

// machine is all that doctor looks at beside the policies and the helper's answer.
// Tests put other machines in its place.
type machine interface {
	// uid is who runs doctor.
	uid() int
	// text is a file of /proc or /sys without the blanks around it.
	text(path string) (string, error)
	// stat examines a file, and not what a symbolic link stands for.
	stat(path string) (inode, error)
	// hash is the SHA-256 of a file, in hexadecimal.
	hash(path string) (string, error)
	// nosuid reports whether set-uid bits count for nothing where path is.
	nosuid(path string) (bool, error)
	// weigh walks to a directory as the helper does.
	weigh(dir string) error
	// lookup finds a command on the caller's PATH.
	lookup(name string) (string, error)
	// logs fails where no decision can be put on record.
	logs() error
	// seccomp fails where the kernel was built without.
	seccomp() error
	// closeRange fails where the kernel has no close_range(2).
	closeRange() error
}

// inode is what doctor wants to know of a file.
type inode struct {
	mode     uint32 // type and bits, as in inode(7)
	uid, gid uint32
}

func (i inode) regular() bool { return i.mode&unix.S_IFMT == unix.S_IFREG }
func (i inode) bits() uint32  { return i.mode & 0o7777 }

// thisMachine is the one that jailctl runs on.
type thisMachine struct{}

func (thisMachine) uid() int { return os.Getuid() }

func (thisMachine) text(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

func (thisMachine) stat(path string) (inode, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return inode{st.Mode, st.Uid, st.Gid}, err
}

func (thisMachine) hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func (thisMachine) nosuid(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	return fs.Flags&unix.ST_NOSUID != 0, err
}

func (thisMachine) weigh(dir string) error {
	fd, err := safepath.Dir(dir)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func (thisMachine) lookup(name string) (string, error) { return exec.LookPath(name) }

func (thisMachine) logs() error {
	log, err := authlog.Open()
	log.Close()
	return err
}

func (thisMachine) seccomp() error {
	_, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err
}

func (thisMachine) closeRange() error {
	const none = 1<<32 - 1 // no descriptor has this number
	return unix.CloseRange(none, none, 0)
}
