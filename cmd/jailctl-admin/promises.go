package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"jailctl/internal/seccomp"
)

func (p *program) promisesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "promises [--json] [WORD...]",
		Short: "what the words of a policy's promises stand for",
		Long: `Say what the words of a policy's promises stand for; of those named also each
system call, and under which arguments it is permitted.`,
		Args: arguments(0, -1),
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) (left []string, _ cobra.ShellCompDirective) {
			for _, w := range seccomp.Words() {
				if !slices.Contains(given, w.Name) {
					left = append(left, cobra.CompletionWithDesc(w.Name, w.Doc))
				}
			}
			return left, noFiles
		},
		RunE: func(_ *cobra.Command, names []string) error { return p.promises(names, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of words in JSON, with their system calls")
	return cmd
}

// promised is the JSON of promises.
type promised struct {
	Word  string   `json:"word"`
	Doc   string   `json:"doc"`
	Calls []string `json:"calls"`
}

// promises describes all words, or the named ones in detail and in that order.
func (p *program) promises(names []string, asJSON bool) error {
	all := []promised{}
	for _, w := range seccomp.Words() {
		all = append(all, promised{w.Name, w.Doc, w.Calls})
	}
	if len(names) > 0 {
		var chosen []promised
		for _, name := range names {
			at := slices.IndexFunc(all, func(w promised) bool { return w.Word == name })
			if at < 0 {
				return cannot("jailctl promises lists them", "describe %q: there is no such promise", name)
			}
			chosen = append(chosen, all[at])
		}
		all = chosen
	}
	if asJSON {
		p.json(all)
		return nil
	}
	var rows [][]string
	for _, w := range all {
		text := folded(w.Doc)
		if len(names) > 0 {
			for _, c := range w.Calls {
				text = append(text, folded("- "+c)...)
			}
		}
		for i, line := range text {
			rows = append(rows, []string{[]string{w.Word, ""}[min(i, 1)], line})
		}
	}
	p.table(rows)
	return nil
}

// folded breaks a text into lines that fit beside a word; all but the first of a
// list's item stand in.
func folded(text string) (lines []string) {
	const width = 68
	indent := ""
	if strings.HasPrefix(text, "- ") {
		indent = "  "
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), indent+word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
