// Jailctl-admin is every verb of jailctl but run: it checks, formats and applies
// policies, and tells people what they may do. jailctl starts it in its own
// place, so that what parses policies is not in the way of each command. Under
// other names it is the two processes between a terminal and `run --tty=pty`.
//
// It has no privilege but its user's. Only `apply`, `policy edit`, `list --all` and
// `explain --as` want root, because only root may read or write what they do.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"jailctl/client"
	"jailctl/internal/confine"
	"jailctl/internal/paths"
	"jailctl/internal/pty"
	"jailctl/internal/runline"
	"jailctl/internal/safepath"
	"jailctl/ipc"
	"jailctl/policy/source"
)

// host is what the verbs ask of the machine; tests put their own there.
type host struct {
	root  bool
	apart bool // jailctl was started again by setApart
	names source.Names
	// files is where the "/" is that jails are made from: "" for the machine's own.
	files string
	// groups are an account's supplementary groups.
	groups func(source.User) ([]uint32, error)
	// listed are names in a database of the name service, for completion.
	listed func(database string) []string
	// read returns a file that only root can have written, with no symbolic link
	// on the way to it: as the helper reads it.
	read func(path string, limit int) ([]byte, error)
	// askHelper puts a question to the helper.
	askHelper func(ipc.Request) ([]ipc.Reply, error)
	// landlock is the kernel's version of Landlock.
	landlock func() (int, error)
	// machine is what doctor looks at.
	machine machine
}

func main() {
	switch os.Args[0] {
	case pty.RunName:
		os.Exit(pty.Run(os.Args[1:]))
	case pty.MonitorName:
		os.Exit(pty.Monitor(os.Args[1:]))
	case installerName:
		os.Exit(installTexts(os.Args[1:], os.Stdin, os.Stdout, source.System()))
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, host{
		root: os.Geteuid() == 0, apart: os.Args[0] == pty.ApartName, names: source.System(), groups: source.Memberships, listed: source.Listed, read: safepath.File, askHelper: client.Ask, landlock: confine.Probe, machine: thisMachine{},
	}))
}

// program is one run of jailctl-admin.
type program struct {
	ui
	host
	// editing is set while the user's editor runs.
	editing atomic.Bool
}

func run(args []string, in io.Reader, out, errOut io.Writer, h host) int {
	p := &program{ui: ui{bufio.NewReader(in), &output{Writer: out}, errOut}, host: h}
	root := p.command()
	root.SetArgs(args)
	root.SetOut(p.out)
	root.SetErr(errOut)
	status := statusYes
	if err := root.Execute(); err != nil {
		status = p.fail(err)
	}
	return p.written(status)
}

const about = `jailctl runs permitted commands in chroot jails.

A jail has a policy, ` + "%s" + `, that root writes and puts in
force with "jailctl apply". Who may run what is then "jailctl list".`

const aboutRun = `Run COMMAND in JAIL, or the jail's default command where none is named.

The first rule of the jail's policy that matches caller and command decides; no
rule matches: denied. "jailctl explain JAIL COMMAND" says how it would decide.

COMMAND is an absolute path inside the jail, or a bare name that is looked up on
the policy's PATH. All options stand before JAIL.

The exit status is the command's own. If a signal ended it, jailctl ends by the
same signal (a shell shows 128 + its number). 125: refused, or failed before the
command began. 126: found, but cannot be executed. 127: not found in the jail.

  -u USER          run as USER, a name or a number: the first rule decides that
                   permits this target
  -g GROUP         run as GROUP, likewise
  -C DIR           start in DIR, a directory inside the jail
  -e NAME[=VALUE]  pass a variable that the policy keeps; without a value, yours
  --tty=share|pty  the terminal that the command gets: yours, which is also what
                   "auto" means, or one of its own
  --status-fd=N    write events to descriptor N
  --trace[=FILE]   say on standard error, or in FILE, what the confinement denies
                   and what in the policy would permit it, with a confine block to
                   paste at the end; for a command that runs as you, or for root
  --json           with --trace: lines of JSON

The events are lines of JSON:
  {"event":"started","pid":N}    {"event":"refused","reason":"..."}
  {"event":"exited","code":N}    {"event":"signaled","signal":N}`

// command is the tree of verbs.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "jailctl",
		Short:         "run permitted commands in jails",
		Long:          fmt.Sprintf(about, paths.Policy("NAME")),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("no verb given", "jailctl help lists them")
			}
			hint := "jailctl help lists them"
			if source.ValidName(args[0]) {
				hint += "; to run a command: jailctl run " + quotedWords(args)
			}
			return usage(fmt.Sprintf("unknown verb %q", args[0]), hint)
		},
		Version: paths.Version,
	}
	root.SetVersionTemplate("jailctl {{.Version}}\n")
	root.Flags().Bool("version", false, "the version")
	// "jailctl first ls -l" is to be told that run is missing, not of -l.
	root.Flags().SetInterspersed(false)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "jailctl help"+strings.TrimPrefix(cmd.CommandPath(), "jailctl"))
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(p.runCommand(), p.listCommand(), p.explainCommand(), p.applyCommand(), p.policyCommand(),
		p.buildCommand(), p.verifyCommand(), p.outdatedCommand(), p.rollbackCommand(), p.removeCommand(),
		p.initCommand(), p.learnCommand(), p.doctorCommand(), p.promisesCommand(), p.versionCommand(), p.completionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultHelpFlag()
	for _, c := range root.Commands() {
		c.DisableFlagsInUseLine = true
		if c.Name() == "help" {
			c.Short = "help about a verb"
			help := c.Run
			c.Run = nil
			c.RunE = func(c *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usage(fmt.Sprintf("unknown verb %q", strings.Join(args, " ")), "jailctl help lists them")
				}
				help(c, args)
				return nil
			}
		}
	}
	return root
}

// runCommand is here for its help and completion, and for --trace: jailctl itself
// does the work otherwise.
func (p *program) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   strings.TrimPrefix(runline.Usage, "usage: jailctl "),
		Short: "run a command in a jail",
		Long:  aboutRun,
		// jailctl has its own parser of the options, which aboutRun describes.
		DisableFlagParsing: true,
		ValidArgsFunction:  p.completeRun,
		RunE: func(_ *cobra.Command, args []string) error {
			line, wrong := runline.Parse(args)
			switch {
			case wrong != "":
				return &trouble{statusUnusable, errors.New(wrong), ""}
			case line.Trace && !line.Help:
				return p.trace(line)
			}
			return usage("run is not a verb of jailctl-admin", "start it as jailctl run")
		},
	}
	cmd.SetUsageTemplate("Usage:\n  {{.UseLine}}\n")
	return cmd
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "the version and the places that are built in",
		Args:  arguments(0, 0),
		Run: func(*cobra.Command, []string) {
			p.print("jailctl %s", paths.Version)
			p.table([][]string{
				{"policies", paths.Policy("NAME")},
				{"in force", paths.Compiled("NAME")},
				{"helper", paths.Libexec + "/jailhelper"},
			})
		},
	}
}

// usage is a command line that makes no sense.
func usage(what, hint string) error {
	return &trouble{statusTrouble, errors.New(what), hint}
}

// arguments bounds the number of arguments; most < 0 is no bound.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "usage: " + cmd.UseLine()
		switch {
		case len(args) < least:
			return usage(cmd.CommandPath()+" needs one argument more", hint)
		case most >= 0 && len(args) > most:
			return usage(fmt.Sprintf("%s does not take %q", cmd.CommandPath(), args[most]), hint)
		}
		return nil
	}
}
