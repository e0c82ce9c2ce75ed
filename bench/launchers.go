package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
)

// compile builds bench/c/NAME.c as out, statically linked as the Go programs are.
func (s *setup) compile(out, name string, flags ...string) error {
	argv := append([]string{"gcc", "-O2", "-static", "-Wall", "-Wextra", "-o", out, "bench/c/" + name + ".c"}, flags...)
	return s.command(argv...)
}

// define is a string constant for the C compiler.
func define(name, value string) string { return fmt.Sprintf("-D%s=%q", name, value) }

func setuid(path string) error { return os.Chmod(path, 0o755|os.ModeSetuid) }

// targetIDs are the numbers of the account that every jailed command runs as.
func targetIDs() (uid, gid uint32, err error) {
	u, err := user.Lookup(target)
	if err != nil {
		return 0, 0, err
	}
	return ids(u)
}

// alone also fills the jail.
func (s *setup) alone() (contender, error) {
	path := s.root + "/true"
	return contender{"true", []string{path}}, s.compile(path, "true")
}

func (s *setup) single() (contender, error) {
	uid, gid, err := targetIDs()
	if err != nil {
		return contender{}, err
	}
	path := s.dir + "/chroot1"
	err = s.compile(path, "chroot1", define("ROOT", s.root), fmt.Sprintf("-DTARGET_UID=%d", uid), fmt.Sprintf("-DTARGET_GID=%d", gid))
	return contender{"C single", []string{path, "/true"}}, errors.Join(err, setuid(path))
}

// pair installs as deep in the tree as jailctl does, since both walk.
func (s *setup) pair() (contender, error) {
	uid, gid, err := targetIDs()
	if err != nil {
		return contender{}, err
	}
	client, helper := s.dir+"/pair/bin/pair_client", s.dir+"/pair/libexec/jailctl/pair_helper"
	policies, compiled := s.dir+"/pair/etc/jailctl/jails", s.dir+"/pair/var/lib/jailctl/policies"
	text := policyText(s.root)
	err = errors.Join(
		writeFile(policies+"/bench", text),
		writeFile(compiled+"/bench", fmt.Sprintf("%d %d %s\n%s", uid, gid, s.root, text)),
		os.MkdirAll(s.dir+"/pair/bin", 0o755),
		os.MkdirAll(s.dir+"/pair/libexec/jailctl", 0o755),
	)
	if err != nil {
		return contender{}, err
	}
	err = errors.Join(
		s.compile(client, "pair_client", define("HELPER", helper)),
		s.compile(helper, "pair_helper", define("POLICY", policies), define("COMPILED", compiled)),
		setuid(helper),
	)
	return contender{unit, []string{client, "bench", "/true"}}, err
}

// policyText is the jail's policy file, for jailctl and the C pair alike.
func policyText(root string) string {
	return fmt.Sprintf("root: %q\nrules { users: \"*\" run_as { user: %q } }\nenvironment { keep: \"TERM\" keep: \"LANG\" }\n", root, target)
}

// jailctlFew is jailctl among a few policies, freshly installed unless -prefix
// names an installation, whose policies are then left alone.
func (s *setup) jailctlFew() ([]string, error) {
	if s.opt.prefix == "" {
		return s.install(s.dir+"/few", fewPolicies)
	}
	jail := fmt.Sprintf("bench-%d", os.Getpid())
	text, compiled := s.opt.prefix+"/etc/jailctl/jails/"+jail+".txtpb", s.opt.prefix+"/var/lib/jailctl/policies/"+jail+".pb"
	if err := s.writeNew(text, policyText(s.root), 0o644); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { return os.RemoveAll(compiled) })
	jailctl := s.opt.prefix + "/bin/jailctl"
	return []string{jailctl, "run", jail, "/true"}, s.command(jailctl, "apply", jail)
}

func (s *setup) jailctlMany() ([]string, error) {
	switch {
	case s.opt.without[jailctlName]:
		return nil, errLeftOut("-without")
	case s.opt.prefix != "":
		return nil, errLeftOut("an installation given with -prefix gets no more policies")
	}
	return s.install(s.dir+"/many", s.opt.jails)
}

// install makes an installation of jailctl with n policies in force.
func (s *setup) install(prefix string, n int) ([]string, error) {
	run, err := s.installFor(prefix, s.root)
	if err != nil {
		return nil, err
	}
	for i := 1; i < n; i++ {
		if err := writeFile(fmt.Sprintf("%s/etc/jailctl/jails/other-%d.txtpb", prefix, i), policyText(s.root)); err != nil {
			return nil, err
		}
	}
	return append(run, "/true"), s.command(prefix+"/bin/jailctl", "apply", "--all")
}

// installFor makes one whose jail is root; the command that is returned runs others
// in it.
func (s *setup) installFor(prefix, root string) ([]string, error) {
	if err := s.makeInstall(prefix); err != nil {
		return nil, err
	}
	if err := writeFile(prefix+"/etc/jailctl/jails/bench.txtpb", policyText(root)); err != nil {
		return nil, err
	}
	jailctl := prefix + "/bin/jailctl"
	return []string{jailctl, "run", "bench"}, s.command(jailctl, "apply", "bench")
}

func (s *setup) makeInstall(prefix string) error {
	// All of them, since those of `make bench` would otherwise be handed down; OUT
	// is a place of our own, since what is built knows its paths.
	return s.command("make", "-s", "install", "DESTDIR=", "HELPER_GROUP=", "PREFIX="+prefix, "BINDIR="+prefix+"/bin",
		"LIBEXECDIR="+prefix+"/libexec", "SYSCONFDIR="+prefix+"/etc", "STATEDIR="+prefix+"/var/lib", "OUT="+prefix+"/out")
}

func (s *setup) bwrap() ([]string, error) {
	path, err := exec.LookPath("bwrap")
	return []string{path, "--ro-bind", s.root, "/", "/true"}, err
}

// chrootArgv is what sudo and doas run, and all that they are told to permit. By
// number, since chroot(1) looks names up in the jail as well, which has no passwd.
func (s *setup) chrootArgv() ([]string, error) {
	uid, gid, err := targetIDs()
	return []string{chrootPath, fmt.Sprintf("--userspec=%d:%d", uid, gid), s.root, "/true"}, err
}

// doas reads one file only; one that exists is left alone, and doas left out.
func (s *setup) doas() ([]string, error) {
	path, err := exec.LookPath("doas")
	if err != nil {
		return nil, err
	}
	a, err := s.chrootArgv()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("permit nopass %s as root cmd %s args %s %s %s\n", s.caller.name, a[0], a[1], a[2], a[3])
	err = s.writeNew("/etc/doas.conf", conf, 0o400)
	return append([]string{path, "-n"}, a...), err
}

var escape = strings.NewReplacer("=", `\=`, ":", `\:`) // in an argument in sudoers

// sudo is shown its file before it is in force: a mistake there would stop
// everybody's sudo.
func (s *setup) sudo() ([]string, error) {
	path, err := exec.LookPath("sudo")
	if err != nil {
		return nil, err
	}
	a, err := s.chrootArgv()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("%s ALL=(root) NOPASSWD: %s %s %s %s\n", s.caller.name, a[0], escape.Replace(a[1]), a[2], a[3])
	draft := s.dir + "/sudoers"
	if err := s.writeNew(draft, conf, 0o440); err != nil {
		return nil, err
	}
	if err := s.command("visudo", "-c", "-f", draft); err != nil {
		return nil, err
	}
	err = s.writeNew(fmt.Sprintf("/etc/sudoers.d/jailctl-bench-%d", os.Getpid()), conf, 0o440)
	return append([]string{path, "-n"}, a...), err
}
