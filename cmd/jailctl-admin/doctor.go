package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"jailctl/client"
	"jailctl/internal/confine"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/policy"
	"jailctl/policy/source"
)

func (p *program) doctorCommand() *cobra.Command {
	var asJSON bool
	var jail, as string
	cmd := &cobra.Command{
		Use:   "doctor [--json] [--attack JAIL [--as USER]]",
		Short: "whether this installation and this kernel are sound",
		Long: `Look at the installation, the policies and the kernel, and say what is wrong
and how to mend it. Nothing is changed. What only root can see is left out for
others, and said to be.

With --attack, try to get out of JAIL instead: every escape that is known, through
the installed helper, as USER (default: who called sudo, or root), whose rule there
gives the target and the confinement. The probes are in /jailctl-attack of the jail
while it lasts. A line for each: whether it is held, by what, and how.

The exit status is 0 if nothing is wrong, or only what is a warning; 1 if
something is, or an attack got out; 2 if that cannot be told.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("attack") {
				return p.attack(jail, as, asJSON)
			}
			if as != "" {
				return usage("--as is for --attack", "usage: "+cmd.UseLine())
			}
			d := &doctor{program: p, machine: p.machine}
			d.installation()
			d.policies()
			d.kernel()
			return d.report(asJSON)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print an array of findings, or of attacks, in JSON")
	f.StringVar(&jail, "attack", "", "try the escapes in `JAIL`; root only")
	f.StringVar(&as, "as", "", "attack as `USER`, whom a rule of the jail permits something")
	cmd.RegisterFlagCompletionFunc("attack", p.completeJail)
	cmd.RegisterFlagCompletionFunc("as", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return p.completeValue("-u")
	})
	return cmd
}

// A finding is one line of doctor's, and its JSON.
type finding struct {
	Part   string `json:"part"` // "installation", "policies" or "kernel"
	What   string `json:"what"` // was looked at
	Status string `json:"status"`
	Found  string `json:"found"`
	Fix    string `json:"fix,omitempty"` // a command, or words
}

// The statuses. A warning is for what costs something and breaks nothing.
const (
	isOK      = "ok"
	isWarning = "warn"
	isFailure = "fail"
	isSkipped = "skip"    // only root can see it
	isUnknown = "unknown" // it could not be looked at
)

// doctor is one run of it.
type doctor struct {
	*program
	machine
	part string
	all  []finding
}

func (d *doctor) add(status, what, fix, format string, args ...any) {
	d.all = append(d.all, finding{d.part, what, status, fmt.Sprintf(format, args...), fix})
}

func (d *doctor) ok(what, format string, args ...any) { d.add(isOK, what, "", format, args...) }

func (d *doctor) warn(what, fix, format string, args ...any) {
	d.add(isWarning, what, fix, format, args...)
}

func (d *doctor) fail(what, fix, format string, args ...any) {
	d.add(isFailure, what, fix, format, args...)
}

func (d *doctor) needsRoot(what string) { d.add(isSkipped, what, "", "not looked at: needs root") }

// cannot is for what could not be looked at: not for want of root, if it is root.
func (d *doctor) cannot(what string, err error) {
	if !d.root && errors.Is(err, fs.ErrPermission) {
		d.needsRoot(what)
		return
	}
	d.add(isUnknown, what, "", "cannot tell: %v", err)
}

// report prints the findings; the status is that of the worst.
func (d *doctor) report(asJSON bool) error {
	status := statusYes
	var rows [][]string
	for _, f := range d.all {
		switch f.Status {
		case isFailure:
			status = statusNo
		case isUnknown:
			if status == statusYes {
				status = statusTrouble
			}
		}
		rows = append(rows, []string{f.Status, f.What, f.Found})
		if f.Fix != "" {
			rows = append(rows, []string{"", "", "fix: " + f.Fix})
		}
	}
	if asJSON {
		d.json(d.all)
	} else {
		d.table(rows)
	}
	return told(status)
}

// installation looks at what make install has put in place.
func (d *doctor) installation() {
	d.part = "installation"
	safe := d.way("way to the helper", paths.Libexec, isFailure)
	d.helper(paths.Libexec+"/jailhelper", safe)
	// Root starts these two as well.
	d.owned("jailctl-admin", paths.Libexec+"/jailctl-admin")
	d.owned("jailctl", paths.Bin+"/jailctl")
	d.client(paths.Bin + "/jailctl")
	d.way("way to jailctl", paths.Bin, isWarning)
	d.setUID()
	d.answer()
}

// helper looks at the set-uid file and at what is in it; safe says that the way to
// it is.
func (d *doctor) helper(path string, safe bool) {
	st, err := d.stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail("helper", reinstall(""), "%s is not there", path)
		return
	case err != nil:
		d.cannot("helper", err)
		return
	}
	group := number(st.gid)
	if _, name, err := d.names.Group(group); err == nil && name != "" {
		group = name
	}
	// A helper closed to others belongs to a group, and stays closed in every fix.
	mode, closed := "4755", st.gid != 0 && st.bits()&7 == 0
	fresh := reinstall("")
	if closed {
		mode, fresh = "4750", reinstall(group)
	}
	sum, err := d.hash(path)
	same := err == nil && sum == paths.HelperHash
	// Who owns a file or may write to it may have it open for writing now: only a
	// copy that was compared is trusted. The copy is root's, in root's directory.
	renew, again := fresh, fresh
	switch {
	case !safe:
		// The copy could be replaced before it gets its bit. make install looks.
		renew, again = "mend the way to it first", "mend the way to it first"
	case same && st.regular():
		owner := "root"
		if closed {
			owner = group
		}
		renew = fmt.Sprintf("install -o root -g %[3]s -m 0700 %[1]s %[1]s.new && echo '%[2]s  %[1]s.new' | sha256sum -c --quiet && chmod %[4]s %[1]s.new && mv -f %[1]s.new %[1]s",
			path, paths.HelperHash, owner, mode)
		again = "chmod " + mode + " " + path
	}
	found := fmt.Sprintf("%s is owned by uid %d, gid %d, mode %04o", path, st.uid, st.gid, st.bits())
	switch {
	case !st.regular():
		d.fail("helper", fresh, "%s is not a regular file", path)
	case st.uid != 0:
		d.fail("helper", renew, "%s, and must be owned by root", found)
	case st.bits()&0o022 != 0:
		d.fail("helper", renew, "%s, and must not be writable by group or others", found)
	case st.bits() != 0o4755 && st.bits() != 0o4750:
		d.fail("helper", again, "%s, and must have the mode %s", found, mode)
	case st.bits() == 0o4750 && st.gid == 0:
		d.warn("helper", fmt.Sprintf("chgrp GROUP %s && chmod 4750 %[1]s", path), "%s: only root can start it", found)
	case closed:
		d.ok("helper", "%s, root's, mode 4750: for the group %s", path, group)
	default:
		d.ok("helper", "%s, root's, mode 4755", path)
	}
	switch {
	case paths.HelperHash == "":
		d.warn("helper's build", "build with make", "this jailctl-admin was built without make, and does not know its helper")
	case !d.root && errors.Is(err, fs.ErrPermission):
		d.add(isSkipped, "helper's build", "", "not looked at: needs root, or the group %s", group)
	case err != nil:
		d.cannot("helper's build", err)
	case !same:
		d.fail("helper's build", fresh, "%s has the SHA-256 %s, and that of this jailctl's build is %s", path, sum, paths.HelperHash)
	default:
		d.ok("helper's build", "the same as jailctl-admin's, %s: SHA-256 %s", paths.Version, sum)
	}
}

// unlinked is what to do about a symbolic link on the way to what make installs.
const unlinked = "give make install the directory that it stands for"

// way weighs the directories on the way to a file; status is for what is unsafe.
func (d *doctor) way(what, dir, status string) (safe bool) {
	err := d.weigh(dir)
	var fault *safepath.Fault
	switch {
	case err == nil:
		d.ok(what, "%s and all above are root's, and writable by nobody else", dir)
	case !errors.As(err, &fault):
		d.cannot(what, err)
	case strings.Contains(fault.Why, "symbolic link"):
		d.add(status, what, unlinked, "%q %s", fault.Path, fault.Why)
	case fault.Fix != "":
		d.add(status, what, fault.Fix, "%q %s", fault.Path, fault.Why)
	default:
		d.cannot(what, d.denied(fault))
	}
	return err == nil
}

// denied gives a fault the error that it has in words only.
func (d *doctor) denied(fault *safepath.Fault) error {
	for _, errno := range []unix.Errno{unix.EACCES, unix.ENOENT} {
		if strings.HasSuffix(fault.Why, errno.Error()) {
			return &fs.PathError{Op: "open", Path: fault.Path, Err: errno}
		}
	}
	return fault
}

// owned looks at a program that has no set-uid bit.
func (d *doctor) owned(what, path string) {
	st, err := d.stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail(what, reinstall(""), "%s is not there", path)
	case err != nil:
		d.cannot(what, err)
	case !st.regular():
		d.fail(what, reinstall(""), "%s is not a regular file", path)
	case st.uid != 0 || st.bits()&0o022 != 0:
		d.fail(what, reinstall(""), "%s is owned by uid %d, mode %04o: whoever writes it decides what root runs", path, st.uid, st.bits())
	default:
		d.ok(what, "%s, root's, mode %04o", path, st.bits())
	}
}

// client looks whether jailctl is of the same build, also the one on the PATH.
func (d *doctor) client(path string) {
	const what = "jailctl's build"
	if paths.ClientHash == "" {
		d.warn(what, "build with make", "this jailctl-admin was built without make, and does not know its jailctl")
		return
	}
	sum, err := d.hash(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // which is said already
			d.cannot(what, err)
		}
		return
	}
	if sum != paths.ClientHash {
		d.fail(what, reinstall(""), "%s is of another build than jailctl-admin, %s", path, paths.Version)
		return
	}
	if found, err := d.lookup("jailctl"); err == nil && found != path {
		if other, err := d.hash(found); err == nil && other != sum {
			d.warn(what, "remove "+found+", or put "+paths.Bin+" before it on the PATH", "the PATH finds another jailctl: %s", found)
			return
		}
	}
	d.ok(what, "the same as jailctl-admin's, %s", paths.Version)
}

// setUID looks whether the set-uid bit counts, for this process.
func (d *doctor) setUID() {
	what := "set-uid: mount"
	switch off, err := d.nosuid(paths.Libexec); {
	case err != nil:
		d.cannot(what, err)
	case off:
		mount := d.mountPoint(paths.Libexec)
		d.fail(what, "mount -o remount,suid "+mount, "%s is mounted nosuid: the helper gets no root (see /etc/fstab as well)", mount)
	default:
		d.ok(what, "%s is not on a file system mounted nosuid", paths.Libexec)
	}
	what = "set-uid: no_new_privs"
	status, err := d.text("/proc/self/status")
	_, set, there := strings.Cut(status, "NoNewPrivs:\t")
	switch {
	case err == nil && !there:
		err = errors.New("/proc/self/status does not have it")
		fallthrough
	case err != nil:
		d.cannot(what, err)
	case !strings.HasPrefix(set, "0"):
		d.fail(what, "start it outside of that container or unit, or have it with NoNewPrivileges=no, and without --security-opt no-new-privileges",
			"this process has it, as containers and systemd's NoNewPrivileges set it: here the helper gets no root")
	default:
		d.ok(what, "this process has it not")
	}
	what = "fs.suid_dumpable"
	switch dumpable, err := d.text("/proc/sys/fs/suid_dumpable"); {
	case err != nil:
		d.cannot(what, err)
	case dumpable == "1":
		d.fail(what, "sysctl fs.suid_dumpable=0", "1: the helper refuses, since it could be traced")
	default:
		d.ok(what, "%s: the helper cannot be traced", dumpable)
	}
}

// mountPoint is where the file system is mounted that path is on.
func (d *doctor) mountPoint(path string) string {
	mounts, _ := d.text("/proc/self/mountinfo")
	best := "/"
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) > 4 && len(f[4]) >= len(best) && (path == f[4] || strings.HasPrefix(path, strings.TrimSuffix(f[4], "/")+"/")) {
			best = f[4]
		}
	}
	return best
}

// answer asks the helper something, the whole way there and back.
func (d *doctor) answer() {
	const what = "helper's answer"
	jails, err := d.jails()
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Errno == syscall.EACCES {
		d.fail(what, fmt.Sprintf("usermod -aG %s %s, and log in anew", d.helpersGroup(), d.me()), "%v", err)
		return
	}
	if err != nil {
		fix := reinstall("")
		for _, f := range d.all {
			if f.Status == isFailure {
				fix = "mend what fails above"
			}
		}
		d.fail(what, fix, "%v", err)
		return
	}
	names := make([]string, len(jails))
	for i, j := range jails {
		names[i] = j.Jail
	}
	d.ok(what, "it lists the jails open to you: %s", orDash(strings.Join(names, ", ")))
}

func (d *doctor) helpersGroup() string {
	st, err := d.stat(paths.Libexec + "/jailhelper")
	if err != nil {
		return "GROUP"
	}
	if _, name, err := d.names.Group(number(st.gid)); err == nil && name != "" {
		return name
	}
	return number(st.gid)
}

// me is who runs doctor.
func (d *doctor) me() string {
	id := strconv.Itoa(d.uid())
	if u, err := d.names.User(id); err == nil && u.Name != "" {
		return u.Name
	}
	return id
}

// reinstall is the command that puts this installation in its place again. A
// helper that has its mode keeps its group; one that lost it needs group.
func reinstall(group string) string {
	prefix, usual := strings.CutSuffix(paths.Libexec, "/libexec/jailctl")
	s := "make install PREFIX=" + prefix
	if !usual || paths.Bin != prefix+"/bin" {
		s = "make install LIBEXECDIR=" + filepath.Dir(paths.Libexec) + " BINDIR=" + paths.Bin
		prefix = "/usr/local"
	}
	if paths.Share != prefix+"/share/jailctl" {
		s += " SHAREDIR=" + filepath.Dir(paths.Share)
	}
	s += " SYSCONFDIR=" + filepath.Dir(paths.Sysconf) + " STATEDIR=" + filepath.Dir(paths.State)
	if group != "" {
		s += " HELPER_GROUP=" + group
	}
	return s + ", in the sources of jailctl " + paths.Version
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// policies looks at the directories and at each policy.
func (d *doctor) policies() {
	d.part = "policies"
	d.private(policyDir())
	d.private(compiledDir())
	var audited []string
	if !d.root {
		d.needsRoot("policies")
	} else if names, err := policyNames(); err != nil {
		d.cannot("policies", err)
	} else {
		for _, name := range names {
			if d.policy(name) {
				audited = append(audited, name)
			}
		}
		if len(names) == 0 {
			d.ok("policies", "there are none: nobody may run anything")
		}
	}
	const what, fix = "/dev/log", "start a syslog daemon: systemctl start systemd-journald, or install rsyslog"
	switch err := d.logs(); {
	case err == nil:
		d.ok(what, "takes the line of each decision")
	case !d.root && errors.Is(err, fs.ErrPermission):
		d.needsRoot(what) // the helper is root
	case len(audited) > 0:
		d.fail(what, fix, "cannot be reached: %v: runs are refused where the policy has audit_required: %s", err, strings.Join(audited, ", "))
	default:
		d.warn(what, fix, "cannot be reached: %v: decisions leave no record", err)
	}
}

// private weighs a directory that is nobody's business but root's.
func (d *doctor) private(dir string) {
	if err := d.weigh(dir); err != nil {
		var fault *safepath.Fault
		switch errors.As(err, &fault); {
		case fault == nil:
			d.cannot(dir, err)
		case strings.Contains(fault.Why, "symbolic link"):
			d.fail(dir, unlinked, "%q %s: every run is refused", fault.Path, fault.Why)
		case fault.Fix != "":
			fix := fault.Fix
			if fault.Path == dir {
				fix = "chown root:root " + dir + " && chmod 0700 " + dir
			}
			d.fail(dir, fix, "%q %s: every run is refused", fault.Path, fault.Why)
		case errors.Is(d.denied(fault), fs.ErrNotExist):
			d.fail(dir, "umask 022 && install -d -m 0700 "+dir, "%q is not there", fault.Path)
		case errors.Is(d.denied(fault), fs.ErrPermission):
			d.cannot(dir, d.denied(fault))
		default:
			d.fail(dir, "remove it, then "+reinstall(""), "%q %s", fault.Path, fault.Why)
		}
		return
	}
	st, err := d.stat(dir)
	switch {
	case err != nil:
		d.cannot(dir, err)
	case st.bits()&0o077 != 0:
		d.warn(dir, "chmod 0700 "+dir, "has the mode %04o: others can read who may do what", st.bits())
	default:
		d.ok(dir, "it and all above are root's, and writable by nobody else; mode %04o", st.bits())
	}
}

// policy says what becomes of one policy, and whether it is to be audited.
func (d *doctor) policy(name string) (audited bool) {
	what, path, compiledPath := "policy "+name, paths.Policy(name), paths.Compiled(name)
	var fault *safepath.Fault
	text, err := d.read(path, mostText)
	switch {
	case errors.As(err, &fault):
		d.fail(what, fault.Fix, "%q %s: every run is denied", fault.Path, fault.Why)
		return false
	case err != nil:
		d.cannot(what, err)
		return false
	}
	compiled, problems := source.Check(path, text, d.names)
	if len(problems) > 0 {
		d.warn(what, "jailctl policy check "+name, "%s has %s", path, count(len(problems), "mistake"))
		return false
	}
	audited = compiled.AuditRequired
	apply := "jailctl apply " + name
	old, err := d.read(compiledPath, source.MaxCompiled)
	switch {
	case errors.As(err, &fault):
		// Whoever could write it may have done so.
		d.fail(what, "rm "+compiledPath+" && "+apply, "%q %s: every run is denied", fault.Path, fault.Why)
		return audited
	case errors.Is(err, safepath.ErrNotExist):
		d.warn(what, apply, "is not in force: every run is denied")
		return audited
	case err != nil:
		d.cannot(what, err)
		return audited
	}
	jail, err := policy.Decode(old)
	switch {
	case err != nil || jail.Name != name:
		d.fail(what, apply, "%s is damaged, or of another version of jailctl: every run is denied", compiledPath)
	case string(jail.Source) != string(text):
		d.warn(what, apply, "was edited and is not in force: every run is denied; jailctl apply -n %s says what would change", name)
	case !bytes.Equal(source.Encode(compiled), old):
		d.warn(what, apply, "is in force, and would be compiled otherwise now: users, groups or jailctl have changed; jailctl apply -n %s says what", name)
	default:
		if hint, err := barred(name, compiled.Root, d.weigh(compiled.Root)); err != nil {
			d.fail(what, hint, "is in force, but its root cannot be entered: %v", err)
			break
		}
		d.kept(what, jail)
	}
	return audited
}

// kept says whether this kernel keeps the confinements of a policy in force.
func (d *doctor) kept(what string, jail *policy.Jail) {
	abi, err := d.landlock()
	if err != nil {
		return // which is said of the kernel
	}
	var lost []string
	for _, c := range jail.Confines {
		plan, missing := confine.Plan(c.Want, abi)
		if plan.Refuse {
			d.fail(what, "boot Linux "+missing[len(missing)-1].Kernel+` or later, or write "degrade: true" in its confine`,
				"is in force, and runs are refused: %s", confine.Refusal(missing))
			return
		}
		for _, m := range missing {
			if s := m.What + ": " + m.Instead; !slices.Contains(lost, s) {
				lost = append(lost, s)
			}
		}
	}
	if len(lost) > 0 {
		d.warn(what, "boot a Linux that keeps more, see landlock below", "is in force with degrade, and does without: %s", strings.Join(lost, "; "))
		return
	}
	d.ok(what, "is in force; root %s", jail.Root)
}

// kernel looks at what the confinement needs, and at settings that matter to it.
func (d *doctor) kernel() {
	d.part = "kernel"
	release, err := d.text("/proc/sys/kernel/osrelease")
	if err != nil {
		d.cannot("version", err)
	} else if err := d.closeRange(); err != nil {
		d.fail("version", "boot Linux 5.9 or later", "Linux %s has no close_range(2), without which nothing runs: %v", release, err)
	} else {
		d.ok("version", "Linux %s", release)
	}
	d.landlocked(release)
	d.filters()
	d.settings()
}

// landlocked says what this kernel's Landlock keeps of what a policy asks that says
// nothing of confinement, by the same Plan as explain and the helper.
func (d *doctor) landlocked(release string) {
	const what = "landlock"
	abi, err := d.landlock()
	if err != nil {
		d.cannot(what, err)
		return
	}
	_, missing := confine.Plan(source.Want(nil), abi)
	newer := "boot Linux "
	switch lsms, err := d.text("/sys/kernel/security/lsm"); {
	case abi == 0 && err == nil && !strings.Contains(","+lsms+",", ",landlock,"):
		d.warn(what, "boot with lsm=landlock,"+lsms, "Linux %s has it not, or not switched on: the security modules are %s", release, lsms)
		newer = "have Landlock, of Linux "
	case abi == 0:
		d.warn(what, "boot Linux 6.12 or later, built with CONFIG_SECURITY_LANDLOCK and with landlock in lsm=", "Linux %s has none", release)
		newer = "have Landlock, of Linux "
	case len(missing) > 0:
		d.ok(what, "version %d; what it does not keep stands below", abi)
	default:
		d.ok(what, "version %d; it keeps what jailctl asks of it for every command", abi)
	}
	for _, m := range missing {
		d.warn("not kept", newer+m.Kernel+` or later, or write "degrade: true" in a policy that may do without`,
			"%s: needs version %d of Landlock; a run is refused, unless the policy has degrade; then: %s", m.What, m.ABI, m.Instead)
	}
}

// filters looks for what the filter of system calls is made of.
func (d *doctor) filters() {
	const what, fix = "seccomp", "boot a kernel built with CONFIG_SECCOMP_FILTER"
	if err := d.seccomp(); err != nil {
		d.fail(what, fix, "the kernel has none: %v", err)
		return
	}
	actions, err := d.text("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		d.fail(what, fix, "the kernel has no filters: %v", err)
		return
	}
	for _, need := range []string{"kill_process", "errno", "allow"} {
		if !strings.Contains(" "+actions+" ", " "+need+" ") {
			d.fail(what, fix, "the action %s is missing; there are %s", need, actions)
			return
		}
	}
	d.ok(what, "filters: %s", actions)
}

// A setting is a file of the kernel's that has a number, and what it means here.
type setting struct {
	name      string
	absent    string            // what it means that there is no such file
	means     map[string]string // by value
	otherwise string
	bad       string // the value to be warned of,
	fix       string // and what ends it
}

var settings = []setting{
	{
		name: "dev.tty.legacy_tiocsti", absent: "no such setting: TIOCSTI is permitted, and refused by jailctl's filter", otherwise: "TIOCSTI is off",
		means: map[string]string{"1": "TIOCSTI is permitted, and refused by jailctl's filter"},
	},
	{
		name: "kernel.yama.ptrace_scope", absent: "no Yama: processes of one user can trace each other; no command in a jail can", otherwise: "tracing is restricted outside of jails too",
		means: map[string]string{"0": "processes of one user can trace each other; no command in a jail can"},
	},
	{
		name: "user.max_user_namespaces", absent: "no user namespaces; jailctl needs none", otherwise: "user namespaces are there; jailctl needs none, and in a jail there are none",
		means: map[string]string{"0": "no user namespaces; jailctl needs none"},
	},
	{
		name: "kernel.unprivileged_userns_clone", otherwise: "user namespaces for everybody; jailctl needs none, and in a jail there are none",
		means: map[string]string{"0": "no user namespaces for ordinary users; jailctl needs none"},
	},
	{
		name: "kernel.apparmor_restrict_unprivileged_userns", otherwise: "user namespaces only by AppArmor's leave; jailctl needs none",
		means: map[string]string{"0": "AppArmor does not restrict user namespaces; jailctl needs none, and in a jail there are none"},
	},
	{
		name: "fs.protected_hardlinks", bad: "0", fix: "sysctl fs.protected_hardlinks=1", otherwise: "nobody can link to a file that they cannot write",
		means: map[string]string{"0": "anybody can keep an old set-uid program by a hard link, this helper among them"},
	},
	{
		name: "fs.protected_symlinks", bad: "0", fix: "sysctl fs.protected_symlinks=1", otherwise: "links of others in /tmp are not followed",
		means: map[string]string{"0": "a command can be led astray by links in a directory such as /tmp"},
	},
}

// settings reads the table, and kernel.core_pattern.
func (d *doctor) settings() {
	for _, s := range settings {
		value, err := d.text("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		meaning, known := s.means[value]
		if !known {
			meaning = s.otherwise
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.absent != "":
			d.ok(s.name, "%s", s.absent)
		case errors.Is(err, fs.ErrNotExist) && s.bad == "":
		case err != nil:
			d.cannot(s.name, err)
		case value == s.bad:
			d.warn(s.name, s.fix, "%s: %s", value, meaning)
		default:
			d.ok(s.name, "%s: %s", value, meaning)
		}
	}
	const what = "kernel.core_pattern"
	switch pattern, err := d.text("/proc/sys/kernel/core_pattern"); {
	case err != nil:
		d.cannot(what, err)
	case strings.HasPrefix(pattern, "|"):
		d.ok(what, "%s: a program, which the limit core keeps from being started", pattern)
	default:
		d.ok(what, "%s: a file, which the limit core forbids", orDash(pattern))
	}
}
