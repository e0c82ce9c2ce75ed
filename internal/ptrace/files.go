package ptrace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/internal/elfdeps"
)

// A Root is the root directory of a process, by descriptor.
type Root struct {
	fd   int
	host string // where it is outside, as the kernel names it
}

// OpenRoot opens the directory of that name.
func OpenRoot(name string) (Root, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Root{}, err
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		unix.Close(fd)
		return Root{}, err
	}
	return Root{fd, host}, nil
}

// Close gives the descriptor back.
func (r Root) Close() {
	if r.host != "" {
		unix.Close(r.fd)
	}
}

// ErrOutside is for a path that does not lead to a file in the root.
var ErrOutside = errors.New("outside of the jail")

// inside turns a path outside into what it is in the jail.
func (r Root) inside(host string) (string, error) {
	switch {
	case !strings.HasPrefix(host, "/"): // a pipe
	case host == r.host:
		return "/", nil
	case r.host == "/":
		return host, nil
	case strings.HasPrefix(host, r.host+"/"):
		return host[len(r.host):], nil
	}
	return "", ErrOutside
}

// A File is what a path in the root leads to.
type File struct {
	Path   string // without symbolic links
	Exists bool
	Stat   unix.Stat_t
}

// IsDir reports whether it is a directory.
func (f File) IsDir() bool { return f.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// Parent is the directory that it is in.
func (f File) Parent() string { return path.Dir(f.Path) }

// open finds a file as a process in the jail would.
func (r Root) open(name string, follow bool) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	for {
		fd, err := unix.Openat2(r.fd, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// Find is open, with what is there. Of what does not exist it finds the directory
// in which it would be.
func (r Root) Find(name string, follow bool) (f File, err error) {
	fd, err := r.open(name, follow)
	if err == unix.ENOENT {
		name = strings.TrimRight(name, "/")
		dir, last := path.Split(name)
		if f, err = r.Find("/"+dir, true); err != nil || !f.Exists || last == "" {
			return f, unix.ENOENT
		}
		return File{Path: path.Join(f.Path, last)}, nil
	}
	if err != nil {
		return f, err
	}
	defer unix.Close(fd)
	f.Exists = true
	if err := unix.Fstat(fd, &f.Stat); err != nil {
		return f, err
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return f, err
	}
	f.Path, err = r.inside(host)
	return f, err
}

// Programs are the files that execve(2) executes for one: itself, the interpreter
// that a script names, the loader that a dynamically linked program names.
func (r Root) Programs(name string) (all []File) {
	for range 6 { // as the kernel, which follows five
		f, err := r.Find(name, true)
		if err != nil || !f.Exists {
			return all
		}
		all = append(all, f)
		if name = r.Interpreter(name); name == "" {
			return all
		}
	}
	return all
}

// Interpreter is what the kernel loads a program by: of a script the interpreter, of
// a dynamically linked program the loader. Empty: nothing.
func (r Root) Interpreter(name string) string {
	fd, err := r.open(name, true)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	// Not opened otherwise: that alone may have an effect on a device, or wait.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	if script, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(script); len(words) > 0 {
			return words[0]
		}
		return ""
	}
	name, err = elfdeps.Interpreter(f)
	if err != nil {
		return ""
	}
	return name
}

// IDs are whom the kernel takes a command for.
type IDs struct {
	UID, GID uint32
	Groups   []uint32
}

// may looks at the mode of a file as the kernel does; want has 4, 2 and 1 for reading,
// writing and executing or searching. Access lists it does not know.
func (i IDs) may(st unix.Stat_t, want uint32) bool {
	mode := st.Mode & 7
	switch {
	case st.Uid == i.UID:
		mode = st.Mode >> 6 & 7
	case st.Gid == i.GID || slices.Contains(i.Groups, st.Gid):
		mode = st.Mode >> 3 & 7
	}
	return mode&want == want
}

// Forbidden finds the first on the way to a file whose mode does not let the
// command through, or the file itself.
func (r Root) Forbidden(i IDs, name string, follow bool, want uint32) (which string) {
	at := ""
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for _, part := range append([]string{""}, parts[:len(parts)-1]...) {
		at += part + "/"
		if f, err := r.Find(at, true); err != nil || !f.Exists {
			return ""
		} else if !i.may(f.Stat, 1) {
			return described(f)
		}
	}
	if f, err := r.Find(name, follow); err == nil && f.Exists && !i.may(f.Stat, want) {
		return described(f)
	}
	return ""
}

func described(f File) string {
	return fmt.Sprintf("%s is mode %04o of %d:%d", strconv.Quote(f.Path), f.Stat.Mode&0o7777, f.Stat.Uid, f.Stat.Gid)
}
