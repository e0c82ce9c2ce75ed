package trace

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A root is a jail's root directory, by descriptor.
type root struct {
	fd   int
	host string // where it is outside, as the kernel names it
}

func openRoot(name string) (root, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return root{}, err
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		unix.Close(fd)
		return root{}, err
	}
	return root{fd, host}, nil
}

func (r root) close() {
	if r.host != "" {
		unix.Close(r.fd)
	}
}

var errOutside = errors.New("outside of the jail")

// inside turns a path outside into what it is in the jail.
func (r root) inside(host string) (string, error) {
	switch {
	case host == r.host:
		return "/", nil
	case r.host == "/":
		return host, nil
	case strings.HasPrefix(host, r.host+"/"):
		return host[len(r.host):], nil
	}
	return "", errOutside
}

// A file is what a path in the jail leads to.
type file struct {
	path   string // without symbolic links
	exists bool
	stat   unix.Stat_t
}

func (f file) isDir() bool    { return f.stat.Mode&unix.S_IFMT == unix.S_IFDIR }
func (f file) parent() string { return path.Dir(f.path) }

// open finds a file as a process in the jail would.
func (r root) open(name string, follow bool) (int, error) {
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

// find is open, with what is there. Of what does not exist it finds the directory
// in which it would be.
func (r root) find(name string, follow bool) (f file, err error) {
	fd, err := r.open(name, follow)
	if err == unix.ENOENT {
		name = strings.TrimRight(name, "/")
		dir, last := path.Split(name)
		if f, err = r.find("/"+dir, true); err != nil || !f.exists || last == "" {
			return f, unix.ENOENT
		}
		return file{path: path.Join(f.path, last)}, nil
	}
	if err != nil {
		return f, err
	}
	defer unix.Close(fd)
	f.exists = true
	if err := unix.Fstat(fd, &f.stat); err != nil {
		return f, err
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return f, err
	}
	f.path, err = r.inside(host)
	return f, err
}

// programs are the files that execve(2) executes for one: itself, the interpreter
// that a script names, the loader that a dynamically linked program names.
func (r root) programs(name string) (all []file) {
	for range 6 { // as the kernel, which follows five
		f, err := r.find(name, true)
		if err != nil || !f.exists {
			return all
		}
		all = append(all, f)
		if name = r.interpreter(name); name == "" {
			return all
		}
	}
	return all
}

func (r root) interpreter(name string) string {
	fd, err := r.open(name, true)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	if script, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(script); len(words) > 0 {
			return words[0]
		}
		return ""
	}
	program, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			b, _ := io.ReadAll(io.LimitReader(p.Open(), unix.PathMax))
			return strings.TrimRight(string(b), "\x00")
		}
	}
	return ""
}

// ids are whom the kernel takes a command for.
type ids struct {
	uid, gid uint32
	groups   []uint32
}

// may looks at the mode of a file as the kernel does; want has 4, 2 and 1 for reading,
// writing and executing or searching. Access lists it does not know.
func (i ids) may(st unix.Stat_t, want uint32) bool {
	mode := st.Mode & 7
	switch {
	case st.Uid == i.uid:
		mode = st.Mode >> 6 & 7
	case st.Gid == i.gid || slices.Contains(i.groups, st.Gid):
		mode = st.Mode >> 3 & 7
	}
	return mode&want == want
}

// forbidden finds the first on the way to a file whose mode does not let the
// command through, or the file itself.
func (r root) forbidden(i ids, name string, follow bool, want uint32) (which string) {
	at := ""
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for _, part := range append([]string{""}, parts[:len(parts)-1]...) {
		at += part + "/"
		if f, err := r.find(at, true); err != nil || !f.exists {
			return ""
		} else if !i.may(f.stat, 1) {
			return described(f)
		}
	}
	if f, err := r.find(name, follow); err == nil && f.exists && !i.may(f.stat, want) {
		return described(f)
	}
	return ""
}

func described(f file) string {
	return fmt.Sprintf("%s is mode %04o of %d:%d", strconv.Quote(f.path), f.stat.Mode&0o7777, f.stat.Uid, f.stat.Gid)
}
