package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	jailctlName = "jailctl"
	fewPolicies = 10
	chrootPath  = "/usr/sbin/chroot"
	target      = "daemon"
)

// plain is what a path may consist of that goes into sudo's and doas's rules.
var plain = regexp.MustCompile(`^/[A-Za-z0-9/._-]*$`)

func manyName(n int) string { return fmt.Sprintf("%s-%d", jailctlName, n) }

// caller is the account that launches.
type caller struct {
	name string
	cred *syscall.Credential
	env  []string
}

// setup is what has been made for the run, and how to unmake it.
type setup struct {
	ctx     context.Context
	opt     options
	caller  caller
	dir     string // all files of ours
	root    string // the jail
	leftOut map[string]string
	undo    []func() error
}

// newSetup makes the private directory and the jail.
func newSetup(ctx context.Context, opt options) (s *setup, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed to install setuid programs")
	}
	if _, err := os.Stat("bench/c/pair_client.c"); err != nil {
		return nil, fmt.Errorf("not at the top of the source tree: %w", err)
	}
	unix.Umask(0o022)
	s = &setup{ctx: ctx, opt: opt, leftOut: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.cleanUp())
		}
	}()
	if s.caller, err = lookupCaller(opt.user); err != nil {
		return nil, err
	}
	base, err := baseDir(opt.dir)
	if err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(base, "jailctl-bench-"); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { return os.RemoveAll(s.dir) })
	s.root = s.dir + "/jail"
	if err = os.Mkdir(s.root, 0o755); err != nil {
		return nil, err
	}
	return s, os.Chmod(s.dir, 0o755)
}

// cleanUp undoes everything, the last thing first.
func (s *setup) cleanUp() (err error) {
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i]())
		if errors.As(err, new(*stillMounted)) {
			return err
		}
	}
	s.undo = nil
	return err
}

func lookupCaller(name string) (caller, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return caller{}, err
	}
	uid, gid, err := ids(u)
	if err != nil || uid == 0 {
		return caller{}, fmt.Errorf("%q is not an ordinary user", name)
	}
	return caller{
		name: name,
		cred: &syscall.Credential{Uid: uid, Gid: gid},
		env:  []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/", "USER=" + name, "LOGNAME=" + name, "LANG=C.UTF-8", "TERM=xterm"},
	}, nil
}

func ids(u *user.User) (uid, gid uint32, err error) {
	n, err1 := strconv.ParseUint(u.Uid, 10, 32)
	m, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(n), uint32(m), errors.Join(err1, err2)
}

// baseDir returns dir, or the first of the usual places, if setuid programs work
// there and nobody but root can write to it or to a directory above it.
func baseDir(dir string) (string, error) {
	candidates := []string{"/opt", "/srv", "/var/lib"}
	if dir != "" {
		candidates = []string{filepath.Clean(dir)}
	}
	var errs []error
	for _, c := range candidates {
		err := rootsAlone(c)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func rootsAlone(dir string) error {
	var (
		st unix.Stat_t
		fs unix.Statfs_t
	)
	if !plain.MatchString(dir) {
		return fmt.Errorf("%q: not an absolute path of letters, digits and ._-", dir)
	}
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if fs.Flags&unix.ST_NOSUID != 0 {
		return fmt.Errorf("%s: mounted nosuid", dir)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if err := unix.Lstat(d, &st); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != 0 || st.Mode&0o022 != 0 {
			return fmt.Errorf("%s: not a directory that only root can write to", d)
		}
		if d == "/" {
			return nil
		}
	}
}

// command runs argv to its end. A signal to us ends its whole process group.
func (s *setup) command(argv ...string) error {
	cmd := exec.CommandContext(s.ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return outputError(cmd)
}

// outputError runs cmd; what it printed is part of the error.
func outputError(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return err
}

// tryOnce launches c as the caller and says why it does not work.
func (s *setup) tryOnce(c contender) error {
	ctx, cancel := context.WithTimeout(s.ctx, launchLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env = "/", s.caller.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.caller.cred}
	return outputError(cmd)
}

// writeNew makes a file that cleanUp removes, never one that is there already.
func (s *setup) writeNew(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, func() error { return os.Remove(path) })
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// writeFile makes a file in the private directory, and the directories above it.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// contenders makes the launchers ready and tries each once. Ours and the C ones
// must work; the others are left out with the reason.
func (s *setup) contenders() ([]contender, error) {
	must := []func() (contender, error){s.alone, s.single, s.pair}
	var list []contender
	for _, f := range must {
		c, err := f()
		if err == nil {
			err = s.tryOnce(c)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	others := []struct {
		name string
		make func() ([]string, error)
		must bool
	}{
		{"bwrap", s.bwrap, false},
		{jailctlName, s.jailctlFew, true},
		{manyName(s.opt.jails), s.jailctlMany, true},
		{"doas", s.doas, false},
		{"sudo", s.sudo, false},
	}
	for _, o := range others {
		if o.name == manyName(0) {
			continue // -jails=0
		}
		c, err := contender{name: o.name}, error(errLeftOut("-without"))
		if !s.opt.without[o.name] {
			c.argv, err = o.make()
		}
		if err == nil {
			err = s.tryOnce(c)
		}
		var left errLeftOut
		switch {
		case s.ctx.Err() != nil:
			return nil, context.Cause(s.ctx)
		case err == nil:
			list = append(list, c)
		case errors.As(err, &left) || !o.must:
			s.leftOut[o.name] = err.Error()
		default:
			return nil, err
		}
	}
	return list, nil
}

// errLeftOut is a reason that is nobody's fault.
type errLeftOut string

func (e errLeftOut) Error() string { return string(e) }
