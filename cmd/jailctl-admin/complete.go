package main

import (
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// bashCompletion is ours: cobra's needs the package bash-completion.
//
//go:embed complete.bash
var bashCompletion []byte

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
				p.write(bashCompletion)
				return nil
			case "zsh":
				return cmd.Root().GenZshCompletion(p.out)
			case "fish":
				return cmd.Root().GenFishCompletion(p.out, true)
			}
			return usage(fmt.Sprintf("no completion for shell %q", args[0]), "the shells are "+strings.Join(shells, ", "))
		},
	}
}

const noFiles = cobra.ShellCompDirectiveNoFileComp

// runOptions are those of run; the values of the first four stand apart.
var runOptions = []string{
	"-u\trun as this user", "-g\trun as this group", "-C\tstart in this directory of the jail", "-e\tpass a variable",
	"--tty=auto", "--tty=share", "--tty=pty", "--status-fd=", "--trace\tsay what is denied, and what would permit it", "--trace=", "--json\twith --trace, in JSON",
}

// completeRun does without cobra's parser, as run does.
func (p *program) completeRun(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "--" {
		if slices.Contains([]string{"-u", "-g", "-C", "-e"}, args[0]) {
			if len(args) == 1 {
				return p.completeValue(args[0])
			}
			args = args[1:]
		}
		args = args[1:]
	}
	if len(args) == 0 && strings.HasPrefix(word, "-") {
		directive := noFiles
		if strings.HasPrefix(word, "--s") || strings.HasPrefix(word, "--trace=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return runOptions, directive
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return p.completeJail(cmd, args, word)
}

// completeValue offers what an option of run or explain may be.
func (p *program) completeValue(option string) ([]string, cobra.ShellCompDirective) {
	switch option {
	case "-u":
		return p.listed("passwd"), noFiles
	case "-g":
		return p.listed("group"), noFiles
	}
	return nil, noFiles
}

// completeJail offers the jails that the caller may run, and then the commands.
func (p *program) completeJail(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 && args[1] == "--" {
		args = slices.Delete(slices.Clone(args), 1, 2)
	}
	var found []string
	jails, _ := p.jails()
	for _, j := range jails {
		if len(args) == 0 {
			found = append(found, cobra.CompletionWithDesc(j.Jail, j.Description))
		}
		for _, e := range j.Entries {
			for _, command := range e.Commands {
				if len(args) != 1 || j.Jail != args[0] {
					continue
				}
				command, _, _ = strings.Cut(command, " ")
				if word != "" && word[0] != '/' {
					command = path.Base(command)
				}
				found = append(found, command)
			}
		}
	}
	return found, noFiles
}

// completeName offers the policies that are there, for root.
func (p *program) completeName(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, _ := policyNames()
	return names, noFiles
}

// completeNameOrFile offers files as well.
func (p *program) completeNameOrFile(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, _ := policyNames()
	return names, cobra.ShellCompDirectiveDefault
}

// completeContents offers the jails that have a contents file.
func (p *program) completeContents(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, _ := contentsNames()
	return names, noFiles
}

// completePrograms offers files in the place of programs, nothing for a name that is new.
func completePrograms(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, noFiles
	}
	return nil, cobra.ShellCompDirectiveDefault
}
