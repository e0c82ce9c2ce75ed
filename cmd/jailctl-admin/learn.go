package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	hostfiles "jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/learn"
	"jailctl/internal/packages"
	"jailctl/internal/paths"
	"jailctl/internal/pty"
	"jailctl/policy/source"
)

const aboutLearn = `Run COMMAND as yourself, outside of any jail, follow it and all that it starts, and
print a contents file and a policy with which it works in a jail: what it used, and
no more. A comment beside each line names the step of the run that needed it.

The command is run as it would be without learn, and its files are changed as it
changes them. What another run needs more is not found by this one.

What it only read is copied by each build. Where it wrote is a state directory, which
begins empty: what it read there besides, root copies once, by a command that is told.

With -o NAME the two become NAME.contents.txtpb and NAME.policy.txtpb in the working
directory, for root to read and install, and not printed behind what COMMAND prints;
root's own go to the places of the jail NAME. Root's command runs as --as USER, or as
who called sudo or doas, on a terminal of its own and with a clean environment.

With --in JAIL the command is run in that jail, and what it lacks there is told, with
the lines to add.

The exit status is 0 if something was learned, whatever the command's own.`

// learnOptions are those of learn.
type learnOptions struct {
	out, as, in string
	force       bool
}

func (p *program) learnCommand() *cobra.Command {
	var o learnOptions
	cmd := &cobra.Command{
		Use:   "learn [-o NAME [--force]] [--as USER] [--in JAIL] [--] COMMAND [ARG...]",
		Short: "run a command and write what a jail for it must have",
		Long:  aboutLearn,
		Args:  arguments(1, -1),
		RunE: func(_ *cobra.Command, argv []string) error {
			if o.in != "" {
				if o.out != "" || o.as != "" || o.force {
					return usage("--in goes with no other option", "what the jail lacks is printed")
				}
				return p.learnIn(o.in, argv)
			}
			return p.learn(o, argv)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "write the files of the jail `NAME`, in place of printing them")
	cmd.Flags().BoolVar(&o.force, "force", false, "with -o: in place of files that are there")
	cmd.Flags().StringVar(&o.as, "as", "", "run the command as `USER`; only root may")
	cmd.Flags().StringVar(&o.in, "in", "", "run the command in this `JAIL`, and say what it lacks")
	cmd.RegisterFlagCompletionFunc("as", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return p.listed("passwd"), noFiles
	})
	cmd.RegisterFlagCompletionFunc("in", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return p.completeJail(c, nil, word)
	})
	cmd.RegisterFlagCompletionFunc("output", cobra.NoFileCompletions)
	return cmd
}

// texts are what was learned, on the way to whoever may write it.
type texts struct {
	Contents, Policy []byte
}

// learn runs a command outside of a jail.
func (p *program) learn(o learnOptions, argv []string) error {
	user, err := p.learner(o.as)
	if err != nil {
		return err
	}
	jail := o.out
	if jail == "" {
		jail = jailName(argv[0])
	} else if !source.ValidName(jail) {
		return cannot("a name is up to 63 of a-z 0-9 _ . -, a letter or digit first", "learn: %q is not a jail's name", jail)
	}
	if p.root && !p.apart {
		return p.learnApart()
	}
	install := p.writeHere
	switch {
	case o.out == "":
		install = p.printTexts
	case p.root:
		install, err = p.installer(o)
		if err != nil {
			return err
		}
	}
	if o.out != "" && !o.force {
		for _, file := range p.outputs(jail) {
			if _, err := os.Lstat(file); err == nil {
				return cannot("--force replaces it", "learn: there is a file %q already", file)
			}
		}
	}
	if o.out != "" {
		// Before anything runs whose result would be lost.
		for _, file := range p.outputs(jail) {
			if err := unix.Access(filepath.Dir(file), unix.W_OK|unix.X_OK); err != nil && err != unix.ENOENT {
				return cannot("without -o what was learned is printed", "learn: cannot write %q: %w", file, err)
			}
		}
	}
	env := os.Environ()
	if p.root {
		if env, err = p.become(user); err != nil {
			return err
		}
	}
	// From here on nothing is done with more rights than the command has.
	dir, err := workingDirectory()
	if err != nil {
		return cannot("", "learn: %w", err)
	}
	// In a jail there is no PWD: a shell asks the kernel there, and so it has to here.
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "PWD=") || strings.HasPrefix(v, "OLDPWD=") })
	// Without a terminal of its own it could still open the caller's, as /dev/tty.
	command := learn.Command{Argv: argv, Env: env, Setsid: p.apart && !onTerminal()}
	if command.Path, err = exec.LookPath(argv[0]); err != nil {
		return cannot("", "learn: %w", err)
	}
	record, err := learn.New(dir)
	if err != nil {
		return cannot("", "learn: %w", err)
	}
	over := p.follow(&command)
	ended, err := record.Run(command)
	over()
	if err != nil {
		return cannot("", "learn from %q: %w", argv[0], err)
	}
	p.howItEnded(ended)
	draft, err := record.Draft(p.world(jail, user, env))
	if err != nil {
		return cannot("", "learn from %q: %w", argv[0], err)
	}
	for _, name := range draft.SetID {
		p.say("what it can do with them was not learned, and cannot be done in a jail", "%q was executed without the rights of a set-id program", name)
	}
	for _, lack := range draft.Lacks {
		p.say("", "not in the jail, %s", lack)
	}
	t := texts{draft.Contents, draft.Policy}
	for _, text := range []*[]byte{&t.Contents, &t.Policy} {
		format := source.Format
		if text == &t.Contents {
			format = contents.Format
		}
		if *text, err = format(*text); err != nil {
			return cannot("", "learn from %q: internal error: %w\n%s", argv[0], err, *text)
		}
	}
	if err := install(jail, t, o.force); err != nil {
		return err
	}
	if o.out != "" {
		p.next(jail, user, draft)
	}
	return nil
}

// learner is whom the command runs as. It is never root: what root can do outside says
// nothing of what an ordinary user must be able to do inside.
func (p *program) learner(as string) (source.User, error) {
	switch {
	case !p.root && as != "":
		return source.User{}, usage("--as is for root", "without it the command runs as you")
	case !p.root:
		as = fmt.Sprint(os.Getuid())
	case as == "":
		as = cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("DOAS_USER"))
	}
	if as == "" {
		return source.User{}, cannot("jailctl learn --as USER", "learn: commands are not run as root")
	}
	user, err := p.names.User(as)
	if err != nil {
		return user, cannot("", "learn as %q: %w", as, err)
	}
	if user.UID == 0 {
		return user, cannot("jailctl learn --as USER", "learn: commands are not run as root")
	}
	if p.root && user.Name == "" {
		return user, cannot("name an account", "learn as %q: there is no such user", as)
	}
	if user.Name == "" {
		user.GID = uint32(os.Getgid())
	}
	return user, nil
}

// setApart starts jailctl again, before it runs what is another user's, so that root's open
// files and session keyring are not within that user's reach; under name, or on a terminal
// of its own. A thread has a keyring of its own, and all others keep theirs until execve(2).
func (p *program) setApart(verb, name string) error {
	// Ids are changed in one thread or process after another that share memory. The first
	// would be open to processes of the user's, and with it the others, who are root.
	if b, err := os.ReadFile("/proc/sys/fs/suid_dumpable"); err != nil || strings.TrimSpace(string(b)) == "1" {
		return cannot("sysctl fs.suid_dumpable=0", "%s safely while fs.suid_dumpable is 1", verb)
	}
	runtime.LockOSThread()
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return cannot("", "%s: cannot leave root's open files: %w", verb, err)
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return cannot("", "%s: cannot leave root's session keyring: %w", verb, err)
	}
	file := paths.Libexec + "/jailctl-admin"
	err := syscall.Exec(file, append([]string{name}, os.Args[1:]...), os.Environ())
	return cannot("", "start %s: %w", file, err)
}

// learnApart is setApart for learn: whoever has root's terminal can type into it (TIOCSTI),
// read its keys and set its modes.
func (p *program) learnApart() error {
	if onTerminal() {
		return p.setApart("learn", pty.RunName)
	}
	return p.setApart("learn", pty.ApartName)
}

// onTerminal reports whether a standard stream is one.
func onTerminal() bool {
	return slices.ContainsFunc([]int{0, 1, 2}, func(fd int) bool {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err == nil
	})
}

// kept are the variables of root's environment that go to another user's command: what
// finds programs, and what languages, time zones and terminals depend on. Any other may
// be a password.
var kept = regexp.MustCompile(`^(PATH|TERM|LANG|LC_[A-Z]+|TZ)=`)

// become gives up root for good, and returns the environment of the user.
func (p *program) become(user source.User) ([]string, error) {
	groups, err := p.groups(user)
	if err != nil {
		return nil, cannot("", "learn as %q: cannot learn the groups: %w", user.Name, err)
	}
	list := make([]int, len(groups))
	for i, g := range groups {
		list[i] = int(g)
	}
	uid, gid := int(user.UID), int(user.GID)
	if err := errors.Join(syscall.Setgroups(list), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return nil, cannot("", "learn as %q: %w", user.Name, err)
	}
	if syscall.Setuid(0) == nil {
		return nil, cannot("", "learn as %q: internal error: root again", user.Name)
	}
	env := []string{"HOME=" + user.Home, "USER=" + user.Name, "LOGNAME=" + user.Name, "SHELL=" + user.Shell}
	for _, v := range os.Environ() {
		if kept.MatchString(v) {
			env = append(env, v)
		}
	}
	return env, nil
}

// workingDirectory is the kernel's answer; os.Getwd believes PWD, which may have links.
func workingDirectory() (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(b)
	if err != nil {
		return "", fmt.Errorf("cannot tell the working directory: %w", err)
	}
	return string(b[:n-1]), nil
}

// follow has signals and stops take the way that they take without learn, until over
// is called.
func (p *program) follow(command *learn.Command) (over func()) {
	var pid atomic.Int64
	var left, enough, ended atomic.Bool
	relay := p.relay(
		func(sig syscall.Signal) {
			switch {
			case ended.Load():
				die(sig)
			case left.Load():
				enough.Store(true)
			default:
				syscall.Kill(int(pid.Load()), sig)
			}
		},
		func() int { return int(pid.Load()) },
	)
	command.Started = func(n int) {
		pid.Store(int64(n))
		relay.start()
	}
	command.Seen, command.Stopped = relay.seen, relay.stopped
	var since time.Time
	told := false
	command.Stay = func() bool {
		switch {
		case !left.Swap(true):
			since = time.Now()
		case !told && time.Since(since) > time.Second:
			told = true
			p.say("Ctrl-C ends learning and leaves it alone", "the command has ended; what it left running is followed to its end")
		}
		return !enough.Load()
	}
	return func() {
		// A signal that ended the command may be on its way to us as well.
		left.Store(true)
		time.AfterFunc(100*time.Millisecond, func() { ended.Store(true) })
	}
}

func (p *program) howItEnded(ended syscall.WaitStatus) {
	switch {
	case ended.Signaled():
		p.say("what it would have done afterwards was not learned", "the command was ended by signal %d, %v", int(ended.Signal()), ended.Signal())
	case ended.ExitStatus() != 0:
		p.say("", "the command ended with status %d", ended.ExitStatus())
	}
}

// world is what was learned from, as the builder sees it.
func (p *program) world(jail string, user source.User, env []string) learn.World {
	files := hostfiles.New("/")
	return learn.World{
		Jail: jail, User: user, Env: env, Umask: umask(),
		Host: jailtree.Host{Files: files, Packages: packages.Open(files), Names: p.names},
		Read: readPreset,
	}
}

// umask is this process's.
func umask() uint32 {
	old := unix.Umask(0o022)
	unix.Umask(old)
	return uint32(old)
}

// jailName is a name for the jail of a command.
func jailName(command string) string {
	name := regexp.MustCompile(`[^a-z0-9_.-]`).ReplaceAllString(strings.ToLower(path.Base(command)), "")
	name = strings.TrimLeft(name, "_.-")
	if !source.ValidName(name) {
		return "learned"
	}
	return name
}

// readPreset reads one for who may not read those of the administrator's.
func readPreset(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrPermission) {
		err = fs.ErrNotExist
	}
	return text, err
}

// outputs are the files that -o makes.
func (p *program) outputs(jail string) []string {
	if p.root {
		return []string{paths.Contents(jail), paths.Policy(jail)}
	}
	return []string{jail + learnedContents, jail + learnedPolicy}
}

// Names of files that are not installed end with these.
const (
	learnedContents = ".contents" + source.Suffix
	learnedPolicy   = ".policy" + source.Suffix
)

// printTexts prints them behind what the command has printed, which may have ended
// within a line.
func (p *program) printTexts(jail string, t texts, _ bool) error {
	p.write(fmt.Appendf(nil, "\n# ---- learned: %s%s ----\n%s", jail, learnedContents, t.Contents))
	p.write(fmt.Appendf(nil, "\n# ---- learned: %s%s ----\n%s", jail, learnedPolicy, t.Policy))
	return nil
}

// writeHere writes to the working directory.
func (p *program) writeHere(jail string, t texts, force bool) error {
	for i, file := range p.outputs(jail) {
		if err := writeNew(file, [][]byte{t.Contents, t.Policy}[i], force); err != nil {
			return cannot("", "learn: %w", err)
		}
	}
	return nil
}

// writeNew makes a file, and replaces one only with force.
func writeNew(file string, text []byte, force bool) error {
	if force {
		return replace(file, text, 0o644, nil)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// next says what is to be done with the files.
func (p *program) next(jail string, user source.User, draft *learn.Draft) {
	files := p.outputs(jail)
	commands := append([]string{"jailctl build " + jail, "jailctl apply " + jail}, draft.Data...)
	hint := "read them"
	if !p.root {
		// Closed, should a link have come in their place to what only root may read.
		const install = "install -m 600 "
		hint = "root installs them, and reads them where nobody else can change them: " +
			install + files[0] + " " + paths.Contents(jail) + " && " + install + files[1] + " " + paths.Policy(jail)
	}
	p.say(hint, "wrote %s", strings.Join(files, " and "))
	p.say("", "then, as root: %s", strings.Join(commands, " && "))
	p.say("", "then, as %s: %s", cmp.Or(user.Name, fmt.Sprint(user.UID)), draft.Command)
}

// installerName is what jailctl-admin is called as the process that has stayed root.
const installerName = "jailctl-learn-install"

// installer is for root, who gives up being root before the command is run: a process
// that stays root, runs nothing and reads no file, waits for the texts and installs
// them if they have no mistakes.
func (p *program) installer(o learnOptions) (func(string, texts, bool) error, error) {
	var in, out [2]int
	if err := errors.Join(syscall.Pipe2(in[:], syscall.O_CLOEXEC), syscall.Pipe2(out[:], syscall.O_CLOEXEC)); err != nil {
		return nil, cannot("", "learn: %w", err)
	}
	force := fmt.Sprint(o.force)
	// A session of its own: Ctrl-C is for the command.
	_, err := syscall.ForkExec(paths.Libexec+"/jailctl-admin", []string{installerName, o.out, force}, &syscall.ProcAttr{
		Env: []string{}, Files: []uintptr{uintptr(in[0]), uintptr(out[1]), 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	syscall.Close(in[0])
	syscall.Close(out[1])
	if err != nil {
		return nil, cannot("", "start %s/jailctl-admin: %w", paths.Libexec, err)
	}
	to, from := os.NewFile(uintptr(in[1]), "pipe"), os.NewFile(uintptr(out[0]), "pipe")
	return func(_ string, t texts, _ bool) error {
		err := json.NewEncoder(to).Encode(t)
		err = errors.Join(err, to.Close())
		answer, readErr := io.ReadAll(from)
		switch err = errors.Join(err, readErr); {
		case err != nil:
			return cannot("", "learn: %w", err)
		case string(answer) != installed:
			return cannot("", "learn: %s", strings.TrimPrefix(string(answer), installed))
		}
		return nil
	}, nil
}

// installed is the installer's answer when all is done.
const installed = "installed"

// installTexts is the installer: what it reads was written by a process with the command's
// rights, and is trusted no further than any text that an administrator is given.
func installTexts(args []string, in io.Reader, out io.Writer, names source.Names) int {
	var t texts
	const most = 4 * source.MaxText
	text, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil || len(text) == 0 || len(args) != 2 || !source.ValidName(args[0]) {
		return statusTrouble // the command could not be run, or learned from
	}
	jail, force := args[0], args[1] == "true"
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&t); err != nil {
		fmt.Fprint(out, err)
		return statusTrouble
	}
	_, mistakes := source.Check(paths.Policy(jail), t.Policy, names)
	if mistakes = append(mistakes, contents.Check(paths.Contents(jail), t.Contents)...); len(mistakes) > 0 {
		fmt.Fprint(out, "what was learned has mistakes: ", mistakes[0])
		return statusTrouble
	}
	for i, text := range [][]byte{t.Contents, t.Policy} {
		file := []string{paths.Contents(jail), paths.Policy(jail)}[i]
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			fmt.Fprint(out, err)
			return statusTrouble
		}
		if err := writeNew(file, text, force); err != nil {
			fmt.Fprint(out, err)
			return statusTrouble
		}
	}
	fmt.Fprint(out, installed)
	return statusYes
}
