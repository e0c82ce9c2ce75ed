package confine

import (
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Fault says which step failed. None of them is passed over.
type Fault struct {
	Step string
	Err  error
}

func (f *Fault) Error() string {
	s := f.Step + ": " + f.Err.Error()
	switch f.Err {
	case unix.ENOENT:
		s += "; where a path may be missing, the policy says optional: true"
	case unix.ELOOP:
		s += "; the policy must name where the link leads"
	}
	return s
}

func (f *Fault) Unwrap() error { return f.Err }

// Probe asks the kernel for its version of Landlock. A kernel without Landlock, or
// with it switched off, has version 0.
func Probe() (abi int, err error) {
	abi, err = call(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION, 0)
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP {
		return 0, nil
	}
	if err != nil {
		return 0, &Fault{"cannot ask for the version of Landlock", err}
	}
	return abi, nil
}

// Enforce confines the calling thread, and what it executes, for good. The caller
// stands in the jail, with the target's ids and no_new_privs, on a locked thread.
// After an error nothing may be run: the thread may be as open as before.
func Enforce(e Enforcement) error {
	if e.Refuse {
		return &Fault{"the kernel cannot keep what the policy asks for", unix.EOPNOTSUPP}
	}
	if e.ABI == 0 {
		return nil // by degrade
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: e.FS, Handled_access_net: e.Net, Scoped: e.Scope}
	// Close-on-exec by the kernel. Its size is the struct's: kernels accept longer
	// ones as long as what they do not know is zero.
	set, err := call(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0, 0)
	if err != nil {
		return &Fault{"cannot create a ruleset", err}
	}
	err = fill(set, e)
	if err == nil {
		var flags uintptr
		if e.Log {
			flags = unix.LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON
		}
		if _, err = call(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(set), flags, 0, 0); err != nil {
			err = &Fault{"cannot enforce the ruleset", err}
		}
	}
	if closed := unix.Close(set); err == nil && closed != nil {
		err = &Fault{"cannot close the ruleset", closed}
	}
	return err
}

// fill adds all rules.
func fill(set int, e Enforcement) error {
	for _, r := range e.Rules {
		if err := addPath(set, r); err != nil {
			return &Fault{"cannot unveil " + strconv.Quote(r.Path), err}
		}
	}
	for _, p := range e.Connect {
		if err := addPort(set, unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, p); err != nil {
			return &Fault{"cannot permit connecting to port " + strconv.Itoa(int(p)), err}
		}
	}
	for _, p := range e.Bind {
		if err := addPort(set, unix.LANDLOCK_ACCESS_NET_BIND_TCP, p); err != nil {
			return &Fault{"cannot permit binding port " + strconv.Itoa(int(p)), err}
		}
	}
	return nil
}

// addPath opens a path once and makes the rule from the descriptor. No symbolic
// link is followed in any component: an earlier command may have planted one, and
// a link to "/" would unveil the whole jail. The directory descriptor -1 makes a
// relative path an error.
func addPath(set int, r Rule) error {
	fd, err := unix.Openat2(-1, r.Path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == unix.ENOENT && r.Optional {
		return nil
	}
	if err != nil {
		return err
	}
	err = addOpen(set, fd, r.Rights)
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	return err
}

// addOpen permits rights on what an O_PATH descriptor stands for.
func addOpen(set, fd int, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		// EINVAL otherwise. What c means for a file is a right on its directory.
		if rights &= onFiles; rights == 0 {
			return unix.ENOTDIR
		}
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, err := call(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0)
	return err
}

// addPort permits one thing on one TCP port.
func addPort(set int, right uint64, port uint16) error {
	const netPort = 2 // LANDLOCK_RULE_NET_PORT and its struct, which x/sys has not
	attr := struct{ allowed, port uint64 }{right, uint64(port)}
	_, err := call(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), netPort, uintptr(unsafe.Pointer(&attr)), 0)
	return err
}

// call is for this thread only, without the Go scheduler. The pragma keeps what
// the arguments point to in place: a stack may move between conversion and call.
//
//go:uintptrescapes
func call(nr, a, b, c, d uintptr) (int, error) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
