// Jailctl-admin is every verb of jailctl but run: it checks, formats and applies
// policies, and tells people what they may do. jailctl starts it in its own
// place, so that what parses policies is not in the way of each command.
//
// It has no privilege but its user's. Only `apply`, `policy edit` and
// `explain --as` want root, because only root may read or write what they do.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"jailctl/client"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/ipc"
	"jailctl/policy/source"
)

// host is what the verbs ask of the machine; tests put their own there.
type host struct {
	root  bool
	names source.Names
	// groups are an account's supplementary groups.
	groups func(source.User) ([]uint32, error)
	// read returns a file that only root can have written, with no symbolic link
	// on the way to it: as the helper reads it.
	read func(path string, limit int) ([]byte, error)
	// askHelper puts a question to the helper.
	askHelper func(ipc.Request) ([]ipc.Reply, error)
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, host{
		root: os.Geteuid() == 0, names: source.System(), groups: source.Memberships, read: safepath.File, askHelper: client.Ask,
	}))
}

// program is one run of jailctl-admin.
type program struct {
	ui
	host
}

func run(args []string, in io.Reader, out, errOut io.Writer, h host) int {
	p := &program{ui{bufio.NewReader(in), out, errOut}, h}
	root := p.command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	if err := root.Execute(); err != nil {
		return p.fail(err)
	}
	return statusYes
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
  --tty=auto|share the terminal that the command gets
  --status-fd=N    write events to descriptor N

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
			return usage(fmt.Sprintf("unknown verb %q", args[0]), "jailctl help lists them")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "jailctl help "+strings.TrimPrefix(cmd.CommandPath(), "jailctl "))
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(p.runCommand(), p.listCommand(), p.explainCommand(), p.applyCommand(), p.policyCommand(),
		p.versionCommand(), p.completionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultHelpFlag()
	for _, c := range root.Commands() {
		c.DisableFlagsInUseLine = true
		if c.Name() == "help" {
			c.Short = "help about a verb"
		}
	}
	return root
}

// runCommand is here for its help and completion: jailctl itself does the work.
func (p *program) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [-u USER] [-g GROUP] [-C DIR] [-e NAME[=VALUE]]... [--tty=auto|share] [--status-fd=N] JAIL [--] [COMMAND [ARG...]]",
		Short: "run a command in a jail",
		Long:  aboutRun,
		// jailctl has its own parser of the options, which aboutRun describes.
		DisableFlagParsing: true,
		ValidArgsFunction:  p.completeJail,
		RunE: func(*cobra.Command, []string) error {
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

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "a script that makes a shell complete jailctl's arguments",
		Args:      arguments(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(p.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(p.out)
			case "fish":
				return cmd.Root().GenFishCompletion(p.out, true)
			}
			return usage(fmt.Sprintf("no completion for shell %q", args[0]), "the shells are "+strings.Join(shells, ", "))
		},
	}
}

// completeJail offers the jails that the caller may run. Options of run that stand
// before are passed over, with their values.
func (p *program) completeJail(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		if len(args[0]) == 2 && len(args) > 1 && strings.Contains("-u -g -C -e", args[0]) {
			args = args[1:]
		}
		args = args[1:]
	}
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	jails, _ := p.jails()
	var names []string
	for _, j := range jails {
		names = append(names, cobra.CompletionWithDesc(j.Jail, j.Description))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeName offers the policies that are there, for root.
func (p *program) completeName(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, _ := policyNames()
	return names, cobra.ShellCompDirectiveNoFileComp
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
