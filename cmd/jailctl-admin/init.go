package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"jailctl/internal/contents"
	hostfiles "jailctl/internal/host"
	"jailctl/internal/jailtree"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/policy/source"
)

const aboutInit = `Write a policy and a contents file for the new jail NAME, with comments, to begin
with:

  %s
  %s

The jail holds what PRESET asks for, and the PROGRAMs with their libraries. USER may
run commands in it, under their own uid, and has a directory there that is theirs.
Without --user it is who called sudo or doas.

A PRESET is a file of that name in %s,
or one of ours: %s.
What is there is not replaced without --force; a policy without a contents file is
kept, and gets one.`

func (p *program) initCommand() *cobra.Command {
	var o struct {
		preset, user, root string
		force              bool
	}
	cmd := &cobra.Command{
		Use:               "init [--preset PRESET] [--user USER] [--root DIR] [--force] NAME [PROGRAM...]",
		Short:             "write a policy and a contents file for a new jail",
		Args:              arguments(1, -1),
		ValidArgsFunction: completePrograms,
		RunE: func(_ *cobra.Command, args []string) error {
			j := &newJail{name: args[0], preset: o.preset, root: o.root, user: o.user, programs: args[1:]}
			return p.init(j, o.force)
		},
	}
	cmd.Long = fmt.Sprintf(aboutInit, paths.Policy("NAME"), paths.Contents("NAME"), paths.Presets()[0], strings.Join(slices.Sorted(maps.Keys(purposes)), ", "))
	cmd.Flags().StringVar(&o.preset, "preset", "shell", "what the jail is for: a `PRESET`")
	cmd.Flags().StringVar(&o.user, "user", "", "who may run commands: a `USER`")
	cmd.Flags().StringVar(&o.root, "root", "", "where the jail is to be: a `DIR`; default /srv/jails/NAME")
	cmd.Flags().BoolVar(&o.force, "force", false, "in place of files that are there")
	cmd.RegisterFlagCompletionFunc("preset", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return offered(), noFiles
	})
	cmd.RegisterFlagCompletionFunc("user", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return p.listed("passwd"), noFiles
	})
	cmd.RegisterFlagCompletionFunc("root", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
	return cmd
}

// purpose is what the policy of a jail with one of our presets says beyond others.
type purpose struct {
	// command is the default command, and the only one where the jail is not for any.
	command string
	only    bool
	// promises are known to suffice, for what about says.
	promises, about string
	// home is the state directory, in which commands start.
	home string
}

// purposes are those of presets that have one. Which promises suffice is tested in
// internal/presets; of a shell, or a language, nobody can know.
var purposes = map[string]purpose{
	"shell":  {command: "/bin/sh", home: "/home"},
	"python": {command: "python3", home: "/home"},
	"node":   {command: "node", home: "/home"},
	"build":  {command: "/bin/sh", home: "/build"},
	"static": {home: "/data"},
	"git": {
		command: "/bin/sh", home: "/home", promises: "stdio rpath wpath cpath fattr tty proc exec",
		about: "Files and their modes, a pager on the terminal, and other programs.",
	},
	"rsync": {
		command: "rsync", only: true, home: "/home", promises: "stdio rpath wpath cpath dpath fattr proc prot_exec",
		about: "Files, FIFOs, modes and times, and processes, but no other program.",
	},
	"sftp": {
		command: "sftp-server", only: true, home: "/home", promises: "stdio rpath wpath cpath fattr prot_exec",
		about: "Files, modes and times, but no other process or program.",
	},
}

// offered are the presets with programs: ours that have a purpose, and the
// administrator's own. The others are what these include.
func offered() []string {
	return slices.DeleteFunc(contents.Presets(), func(name string) bool {
		own, _ := exists(paths.Presets()[0] + "/" + name + source.Suffix)
		return purposes[name].home == "" && !own
	})
}

// newJail is a jail to be.
type newJail struct {
	name, preset, root, user string
	programs                 []string
	purpose
}

func (p *program) init(j *newJail, force bool) (err error) {
	if !p.root {
		return cannot("run it as root", "init: only root may write policies")
	}
	if !source.ValidName(j.name) {
		return cannot("a name is up to 63 of a-z 0-9 _ . -, a letter or digit first", "init %q: not a jail's name", j.name)
	}
	if name, ok := strings.CutSuffix(j.name, source.Suffix); ok {
		return cannot("jailctl init "+name, "init %s: that is a file's name, not a jail's", j.name)
	}
	if !slices.Contains(contents.Presets(), j.preset) {
		return cannot("the presets are "+strings.Join(offered(), ", "), "init %s: there is no preset %q in %s", j.name, j.preset, strings.Join(paths.Presets(), " or "))
	}
	if j.user, err = p.caller(j); err != nil {
		return err
	}
	if err := j.purposed(); err != nil {
		return err
	}
	policy, inside := paths.Policy(j.name), paths.Contents(j.name)
	hasPolicy, err := exists(policy)
	hasContents, err2 := exists(inside)
	if err := cmp.Or(err, err2); err != nil {
		return cannot("", "init %s: %w", j.name, err)
	}
	if hasContents && !force {
		hint := "--force replaces it"
		if hasPolicy {
			hint += ", and the policy"
		}
		return cannot(hint, "init %s: there is a contents file already, %q", j.name, inside)
	}
	var files []written
	if hasPolicy && !force {
		if j.root, err = p.rootOf("init", j.name); err != nil {
			return err
		}
	} else {
		text := j.policyText()
		_, problems := source.Check(policy, text, p.names)
		files = append(files, written{policy, text, problems})
	}
	text := j.contentsText()
	_, problems, _ := contents.Load(inside, func(file string) ([]byte, error) {
		if file == inside {
			return text, nil
		}
		return p.readContents(file)
	})
	files = append(files, written{inside, text, problems})
	for _, f := range files {
		if len(f.problems) > 0 {
			p.findings(f.problems)
			return cannot("", "init %s: %s in what %q would be", j.name, count(len(f.problems), "mistake"), f.file)
		}
	}
	if hint, err := unsuited(j.name, j.root); err != nil {
		return cannot(hint, "init %s: %w", j.name, err)
	}
	for _, f := range files {
		if err := replace(f.file, f.text, 0o644, nil); err != nil {
			return cannot("", "init %s: %w", j.name, err)
		}
		p.print("%s: written", f.file)
	}
	if len(files) == 1 {
		p.print("%s: kept as it is", policy)
	}
	p.say("", "now: jailctl build %s && jailctl apply %s", j.name, j.name)
	return nil
}

// unsuited tells what speaks against a root in which there may be nothing yet.
func unsuited(name, root string) (hint string, err error) {
	if err := jailtree.Suits(root); err != nil {
		return "", err
	}
	dir := path.Dir(root)
	for there := false; !there && dir != "/"; {
		if there, err = exists(dir); err != nil {
			return "", err
		} else if !there {
			dir = path.Dir(dir)
		}
	}
	fd, err := safepath.Dir(dir)
	if fault := (*safepath.Fault)(nil); errors.As(err, &fault) {
		return elsewhere(name, fault)
	}
	if err == nil {
		unix.Close(fd)
	}
	return "", err
}

// written is a file to write.
type written struct {
	file     string
	text     []byte
	problems []source.Problem
}

func exists(file string) (bool, error) {
	_, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// caller is who may run commands: an account that is not root's.
func (p *program) caller(j *newJail) (string, error) {
	hint := "jailctl init --user USER " + j.name
	name := cmp.Or(j.user, os.Getenv("SUDO_USER"), os.Getenv("DOAS_USER"))
	if name == "" {
		return "", cannot(hint, "init %s: who is to run commands in it?", j.name)
	}
	user, err := p.names.User(name)
	switch {
	case err != nil:
		return "", cannot(hint, "init %s for %q: %w", j.name, name, err)
	case user.Name == "":
		return "", cannot(hint, "init %s for %q: no account has this number", j.name, name)
	case user.UID == 0:
		return "", cannot(hint, "init %s for %q: nothing runs as root in a jail", j.name, name)
	}
	return user.Name, nil
}

// purposed fills in what the preset is for and what the command line leaves open.
func (j *newJail) purposed() error {
	j.purpose = purposes[j.preset]
	j.home = cmp.Or(j.home, "/home")
	j.root = cmp.Or(j.root, "/srv/jails/"+j.name)
	for i, name := range j.programs {
		if strings.Contains(name, "/") {
			// From the working directory; what is wrong with a path, the check tells.
			j.programs[i], _ = filepath.Abs(name)
		}
	}
	if j.command == "" && len(j.programs) > 0 {
		j.command = j.programs[0]
	}
	switch {
	case j.command == "sftp-server":
		// Every distribution has it elsewhere, and none on the PATH.
		found, _ := filepath.Glob(sftpServer)
		if len(found) == 0 {
			return cannot("install it first", "init %s: nothing on this host matches %q", j.name, sftpServer)
		}
		j.command = found[0]
	case j.command != "" && !path.IsAbs(j.command):
		// A build says what is missing.
		name := j.command
		var ok bool
		if j.command, ok = jailtree.Find(hostfiles.New("/"), name); !ok {
			j.command = "/usr/bin/" + name
		}
	}
	return nil
}

// sftpServer is where the preset sftp looks for it, too.
const sftpServer = "/usr/lib*/*ssh/sftp-server"

// begin is the head of a new file: what kind it is, the page that explains it, and the
// verb that an edit takes.
func (j *newJail) begin(kind, message, verb string) (text *bytes.Buffer, line func(format string, args ...any)) {
	text = &bytes.Buffer{}
	line = func(format string, args ...any) { fmt.Fprintf(text, format+"\n", args...) }
	line("# proto-file: proto/%s.proto", kind)
	line("# proto-message: %s", message)
	line("#")
	line("# Begun by jailctl init; jailctl-%s(5) has all fields. After an edit:", kind)
	line("#   jailctl %s %s", verb, j.name)
	return text, line
}

func (j *newJail) policyText() []byte {
	text, line := j.begin("policy", "Jail", "apply")
	if j.preset == "sftp" {
		line("#")
		line("# In sshd_config(5):")
		line("#   Match User %s", j.user)
		line("#     ForceCommand %s/jailctl run %s", paths.Bin, j.name)
	}
	line("description: %q", j.preset)
	line("root: %q", j.root)
	line("")
	line("# The first rule that matches caller and command decides; no rule matches: denied.")
	line("rules {")
	line("  users: %q", j.user)
	if j.only {
		line("  commands { path: %q }  # any arguments", j.command)
	} else {
		line("  # Without commands: any that the jail has.")
	}
	line("")
	line("  # With the caller's own uid, as the manual of chroot(2) shows it: so the jail gives")
	line("  # nobody a right that they lack outside. But their processes outside can trace the")
	line("  # command. A program that is not to trust them is better off as a user that nothing")
	line("  # else has:")
	line("  #   adduser --system --group --no-create-home jail-%s", j.name)
	line("  #   run_as { user: \"jail-%s\" }", j.name)
	line("  # and with it in users: and owner: of the contents file.")
	line("  run_as { caller: true }")
	line("}")
	line("")
	if j.command != "" {
		line("default_command: %q", j.command)
	}
	line("working_directory: %q", j.home)
	line("environment {")
	line("  keep: \"TERM\"")
	line("  set { name: \"HOME\" value: %q }", j.home)
	line("  set { name: \"LANG\" value: \"C.UTF-8\" }")
	line("}")
	line("")
	line("# For each process. The number of processes is not among them: the kernel counts those")
	line("# outside as well.")
	line("limits {")
	line("  open_files: 1024")
	line("  file_size: 17179869184  # 16 GiB")
	line("  cpu_seconds: 3600")
	line("}")
	line("")
	if j.promises != "" {
		line("# %s No network.", j.about)
		line("confine { promises: %q }", j.promises)
	} else {
		line("# No network and no way out: jailctl explain %s lists all that holds a command.", j.name)
		line("# With include: [\"dns\", \"tls\"] in the contents file, this opens the network:")
		line("# confine { network: true }")
	}
	return text.Bytes()
}

func (j *newJail) contentsText() []byte {
	text, line := j.begin("contents", "Contents", "build")
	line("description: %q", j.preset)
	line("include: %q", j.preset)
	line("")
	line("# Programs come with their libraries, by path or by name.")
	if len(j.programs) == 0 {
		line("# programs: \"/usr/bin/program\"")
	}
	for _, name := range j.programs {
		line("programs: %q", name)
	}
	line("")
	line("# Who may run commands has an account in the jail, and a directory that is theirs and")
	line("# outlives builds. From outside it is reached through jailctl run; by root at")
	line("# %q. A directory for several: mode: 01777.", j.root+j.home)
	line("users: %q", j.user)
	line("directories { path: %q owner: %q mode: 0700 state: true }", j.home, j.user)
	return text.Bytes()
}
