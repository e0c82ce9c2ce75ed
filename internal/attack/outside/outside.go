// Package outside plays the accomplices of package attack: a process with the
// target's uid that attacks reach for, servers, sockets that pass descriptors,
// somebody who moves directories out of the jail. It needs root.
package outside

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"jailctl/internal/attack"
)

// What Setup puts into the jail, as seen inside. Dir belongs to root but for what
// is in it for the attacks: a directory of the target's, and a setuid root file.
const (
	Dir   = "/jailctl-attack"
	Probe = Dir + "/probe"

	writable = Dir + "/target"
	setuid   = Dir + "/setuid/probe"
)

// patience is how long one attack may take.
const patience = 30 * time.Second

// Config is what is attacked.
type Config struct {
	Root     string // the jail's, on the host
	UID, GID uint32 // the target
	Probe    string // cmd/jailctl-probe, on the host, where the target may execute it
}

// World is what Setup made.
type World struct {
	config Config
	given  attack.Given
	canary string // the directory that it is in
	victim *process
	keeper *process
	closer []func() // last made, first undone
}

// process is a process with the target's uid, which ends with its standard input.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	first string // the first line that it said
	gone  chan struct{}
}

// Setup makes all that the attacks need. Close takes it away.
func Setup(c Config) (*World, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot play the accomplices: that takes root")
	}
	// A Go program, which the probe is, raises its soft limit of open files when it
	// starts: where few promises are kept, that would be its end.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil { // package os leaves it to children then
		return nil, err
	}
	w := &World{config: c, given: attack.Given{"secret": rand.Text(), "dir": writable, "setuid": setuid}}
	err := w.setup()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot prepare the attacks: %w", err)
	}
	return w, nil
}

func (w *World) setup() error {
	for _, f := range []func() error{w.inside, w.outside, w.keep, w.servers, w.sockets, w.check} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the processes and removes the files.
func (w *World) Close() {
	for _, p := range []*process{w.victim, w.keeper} {
		if p != nil {
			p.end()
		}
	}
	for i := len(w.closer) - 1; i >= 0; i-- {
		w.closer[i]()
	}
}

func (w *World) later(f func()) { w.closer = append(w.closer, f) }

// inside makes Dir in the jail.
func (w *World) inside() error {
	dir := w.config.Root + Dir
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("%w; if it is left from a run that was killed, remove it", err)
	}
	w.later(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(w.config.Probe)
	if err != nil {
		return err
	}
	// A setuid root file is not to lie where everybody can reach it.
	return errors.Join(
		os.Chmod(dir, 0o755),
		os.WriteFile(w.config.Root+Probe, program, 0o755),
		os.Chmod(w.config.Root+Probe, 0o755),
		os.Mkdir(w.config.Root+writable, 0o755),
		os.Chown(w.config.Root+writable, int(w.config.UID), int(w.config.GID)),
		os.Mkdir(filepath.Dir(w.config.Root+setuid), 0o700),
		os.WriteFile(w.config.Root+setuid, program, 0o700),
		os.Chmod(w.config.Root+setuid, 0o755|os.ModeSetuid),
		os.Chown(filepath.Dir(w.config.Root+setuid), 0, int(w.config.GID)),
		os.Chmod(filepath.Dir(w.config.Root+setuid), 0o710),
	)
}

// outside makes the canary: a file that the target could read, were it not in a
// jail. Beside the root, since a directory is moved there, which takes the same
// file system; or else where the target can read it.
func (w *World) outside() error {
	var err error
	for _, parent := range []string{filepath.Dir(w.config.Root), os.TempDir()} {
		var dir string
		if dir, err = os.MkdirTemp(parent, "jailctl-attack-"); err != nil {
			continue
		}
		w.later(func() { os.RemoveAll(dir) })
		w.canary, w.given["canary"] = dir, dir+"/canary"
		err = errors.Join(
			os.Chmod(dir, 0o755),
			os.WriteFile(dir+"/canary", []byte(w.given["secret"]), 0o644),
			os.Chmod(dir+"/canary", 0o644),
			os.WriteFile(dir+"/owned", nil, 0o600),
			os.Chown(dir+"/owned", int(w.config.UID), int(w.config.GID)),
		)
		if err == nil {
			err = w.check()
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// check sees that the canary tells, to the target outside.
func (w *World) check() error {
	o, err := w.Try(attack.Find("dotdot"), w.Naive(attack.NoJail))
	if err == nil && o.Verdict != attack.Escaped {
		err = fmt.Errorf("uid %d cannot read %s outside of the jail either (%s)", w.config.UID, w.given["canary"], o.Detail)
	}
	return err
}

// keep starts the process that has queues, shared memory and keys.
func (w *World) keep() (err error) {
	w.keeper, err = w.start("keeper", "secret="+w.given["secret"], fmt.Sprintf("name=jailctl-attack-%d", os.Getpid()))
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(w.keeper.first) {
		k, v, _ := strings.Cut(f, "=")
		w.given[k] = v
	}
	return nil
}

// servers are a TCP and a UDP server that tell the secret.
func (w *World) servers() error {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.later(func() { tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(w.given["secret"]))
			c.Close()
		}
	}()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.later(func() { udp.Close() })
	go func() {
		var b [64]byte
		for {
			_, from, err := udp.ReadFrom(b[:])
			if err != nil {
				return
			}
			udp.WriteTo([]byte(w.given["secret"]), from)
		}
	}()
	w.given["tcp"] = fmt.Sprint(tcp.Addr().(*net.TCPAddr).Port)
	w.given["udp"] = fmt.Sprint(udp.LocalAddr().(*net.UDPAddr).Port)
	return nil
}

// sockets are the Unix sockets that pass descriptors, and one that takes datagrams.
func (w *World) sockets() error {
	name := fmt.Sprintf("jailctl-attack-%d", os.Getpid())
	w.given["abstract"], w.given["datagrams"], w.given["inside"] = name, name+"-datagrams", name+"-inside"
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + w.given["datagrams"], Net: "unixgram"})
	if err != nil {
		return err
	}
	w.later(func() { datagrams.Close() })
	file, done, err := short(w.config.Root+writable, "outside")
	if err != nil {
		return err
	}
	defer done()
	other, done, err := short(w.canary, "socket")
	if err != nil {
		return err
	}
	defer done()
	for _, name := range []string{"@" + w.given["abstract"], file, other} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		w.later(func() { l.Close() })
		go func() {
			for {
				c, err := l.AcceptUnix()
				if err != nil {
					return
				}
				w.pass(c)
				c.Close()
			}
		}()
	}
	return errors.Join(os.Chmod(w.config.Root+writable+"/outside", 0o777), os.Chmod(w.canary+"/socket", 0o777))
}

// short names a file in a directory by few characters: a socket's address has room
// for 107.
func short(path, name string) (string, func(), error) {
	dir, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), func() { dir.Close() }, nil
}

// pass passes "/" and the canary, open, through a Unix socket.
func (w *World) pass(c *net.UnixConn) error {
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	canary, err := os.Open(w.given["canary"])
	if err != nil {
		return err
	}
	defer canary.Close()
	_, _, err = c.WriteMsgUnix([]byte("!"), unix.UnixRights(int(root.Fd()), int(canary.Fd())), nil)
	return err
}

// start starts the probe outside, with the target's uid.
func (w *World) start(args ...string) (*process, error) {
	cmd := w.Naive(attack.NoJail)(args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin, gone: make(chan struct{})}
	p.first, err = bufio.NewReader(stdout).ReadString('\n')
	go func() { cmd.Wait(); close(p.gone) }()
	if err != nil {
		p.end()
		return nil, fmt.Errorf("the %s did not start: %s", args[0], strings.TrimSpace(errs.String()))
	}
	return p, nil
}

func (p *process) end() {
	p.stdin.Close()
	select {
	case <-p.gone:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.gone
	}
}

// Starter gives the command that becomes the probe with these arguments.
type Starter func(args ...string) *exec.Cmd

// Naive starts the probe without jailctl.
func (w *World) Naive(p attack.Proof) Starter {
	return func(args ...string) *exec.Cmd {
		cmd := &exec.Cmd{Path: Probe, Args: append([]string{"jailctl-probe"}, args...), Dir: "/", Env: []string{}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Chroot: w.config.Root}
		if p != attack.AsRoot {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: w.config.UID, Gid: w.config.GID}
		}
		if p == attack.NoJail {
			cmd.Path, cmd.SysProcAttr.Chroot = w.config.Probe, ""
			for i, arg := range cmd.Args {
				if strings.HasPrefix(arg, "dir=") {
					cmd.Args[i] = "dir=" + w.config.Root + writable
				}
			}
		}
		return cmd
	}
}

// Try tries one attack. An error is a mistake of ours or of the starter's, and
// says nothing of the attack.
func (w *World) Try(a *attack.Attack, starter Starter) (attack.Outcome, error) {
	if err := w.refresh(); err != nil {
		return attack.Outcome{}, err
	}
	args := []string{a.ID}
	for k, v := range w.given {
		args = append(args, k+"="+v)
	}
	cmd := starter(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.WaitDelay = time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return attack.Outcome{}, err
	}
	stdin, err := w.prepare(a.Start, cmd)
	if err != nil {
		return attack.Outcome{}, err
	}
	defer stdin.close()
	if err := begin(a.Start, cmd); err != nil {
		return attack.Outcome{}, err
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	stdin.begun()

	var last string
	var failed error
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		last = lines.Text()
		if last == "ready" {
			if failed = w.act(a.Start); failed != nil {
				cmd.Process.Kill()
				break
			}
			stdin.ours.Write([]byte("!"))
		}
	}
	cmd.Wait()
	switch {
	case !timer.Stop():
		return attack.Outcome{}, fmt.Errorf("%s took longer than %v", a.ID, patience)
	case failed != nil:
		return attack.Outcome{Verdict: attack.NotApplicable, Detail: failed.Error()}, nil
	}
	return w.judge(a, last, cmd.ProcessState, errs.String())
}

// judge says how the attack ended.
func (w *World) judge(a *attack.Attack, last string, state *os.ProcessState, errs string) (attack.Outcome, error) {
	ws := state.Sys().(syscall.WaitStatus)
	o, ok := attack.Parse(last)
	switch {
	case !ok && (ws.Signaled() && ws.Signal() == unix.SIGSYS || ws.ExitStatus() == 128+int(unix.SIGSYS)):
		return attack.Outcome{Verdict: attack.Held, Detail: "SIGSYS"}, nil
	case !ok && a.Errno == "refused" && ws.ExitStatus() == 125:
		return attack.Outcome{Verdict: attack.Held, Detail: "refused"}, nil
	case !ok:
		return o, fmt.Errorf("%s did not say how it ended (%v): %q %s", a.ID, state, last, strings.TrimSpace(errs))
	case o.Verdict != attack.Tried:
		return o, nil
	}
	select {
	case <-w.victim.gone:
		return attack.Outcome{Verdict: attack.Escaped, Detail: "the process outside is gone"}, nil
	case <-time.After(200 * time.Millisecond):
		return attack.Outcome{Verdict: attack.Held, Detail: "alive"}, nil
	}
}

// refresh makes a new victim, since the last attack may have changed the old one,
// and empties the writable directory but for the socket.
func (w *World) refresh() (err error) {
	if w.victim != nil {
		w.victim.end()
	}
	if w.victim, err = w.start("victim", "secret="+w.given["secret"]); err != nil {
		return err
	}
	w.given["victim"] = fmt.Sprint(w.victim.cmd.Process.Pid)
	dir := w.config.Root + writable
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != "outside" {
			if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(w.canary + "/moved"); err != nil {
		return err
	}
	if err := os.Mkdir(dir+"/moved", 0o755); err != nil {
		return err
	}
	return os.Chown(dir+"/moved", int(w.config.UID), int(w.config.GID))
}

// stream is a standard input: our end, if there is one, and the command's.
type stream struct{ ours, theirs *os.File }

// begun is called when the command has its own copy.
func (s stream) begun() { s.theirs.Close() }

func (s stream) close() {
	s.theirs.Close()
	if s.ours != nil {
		s.ours.Close()
	}
}

// prepare makes the standard input, and what else the attack begins with.
func (w *World) prepare(s attack.Start, cmd *exec.Cmd) (in stream, err error) {
	open := func(name string, flags int) (*os.File, error) {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	switch s {
	case attack.StdinDir:
		in.theirs, err = open("/", unix.O_RDONLY)
	case attack.StdinPath:
		in.theirs, err = open("/", unix.O_PATH)
	case attack.StdinFile:
		in.theirs, err = open(w.canary+"/owned", unix.O_RDONLY)
	case attack.StdinSocket:
		in.ours, in.theirs, err = w.socketPair()
	case attack.StdinTerminal:
		in.ours, in.theirs, err = pseudoTerminal()
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	case attack.MoveDirectory, attack.ConnectInside, attack.ConnectAbstract:
		in.theirs, in.ours, err = os.Pipe()
	default:
		in.theirs, err = open("/dev/null", unix.O_RDONLY)
	}
	if err != nil {
		return in, err
	}
	cmd.Stdin = in.theirs
	switch s {
	case attack.InheritDir:
		// The first ones would be replaced by what jailctl itself passes on.
		for range 10 {
			root, err := open("/", unix.O_RDONLY)
			if err != nil {
				return in, err
			}
			cmd.ExtraFiles = append(cmd.ExtraFiles, root)
		}
	case attack.StandOutside:
		cmd.Dir = ""
	case attack.PassVariable:
		cmd.Env = append(cmd.Env, "JAILCTL_ATTACK="+w.given["secret"])
	}
	return in, nil
}

// socketPair is a Unix socket pair; in one end lie descriptors for the other.
func (w *World) socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	c, err := net.FileConn(ours)
	if err != nil {
		return ours, theirs, err
	}
	defer c.Close()
	return ours, theirs, w.pass(c.(*net.UnixConn))
}

func pseudoTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return master, nil, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return master, nil, errno
	}
	return master, os.NewFile(fd, "terminal"), nil
}

// begin starts the command, with what it inherits from the thread that starts it.
func begin(s attack.Start, cmd *exec.Cmd) error {
	if s == attack.BlockSignals {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var blocked, before unix.Sigset_t
		blocked.Val[0] = 1 << (unix.SIGUSR1 - 1)
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &before); err != nil {
			return err
		}
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
		ossignal.Ignore(unix.SIGCONT)
		defer ossignal.Reset(unix.SIGCONT)
	}
	err := cmd.Start()
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	return err
}

// act is what the accomplice does once the attack is ready.
func (w *World) act(s attack.Start) error {
	name := "@" + w.given["inside"]
	switch s {
	case attack.MoveDirectory:
		return os.Rename(w.config.Root+writable+"/moved", w.canary+"/moved")
	case attack.ConnectInside:
		file, done, err := short(w.config.Root+writable, "inside")
		if err != nil {
			return err
		}
		defer done()
		name = file
	case attack.ConnectAbstract:
	default:
		return errors.New("an attack waits for an accomplice that it has not")
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	defer c.Close()
	return w.pass(c)
}
