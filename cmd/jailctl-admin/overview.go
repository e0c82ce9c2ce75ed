package main

import (
	"strconv"
	"strings"

	"jailctl/internal/paths"
	"jailctl/policy/source"
)

// overviewed is the JSON of list --all.
type overviewed struct {
	Jail    string `json:"jail"`
	State   string `json:"state"` // "in force", "not in force" or "broken"
	Rules   int    `json:"rules"`
	Root    string `json:"root"`
	Problem string `json:"problem,omitempty"`
}

// overview is list --all: what becomes of each policy file.
func (p *program) overview(asJSON bool) error {
	if !p.root {
		return cannot("run it as root, or leave --all away", "list all jails: only root may")
	}
	names, err := policyNames()
	if err != nil {
		return cannot("", "list all jails: %w", err)
	}
	all, status := []overviewed{}, statusYes
	rows := [][]string{{"JAIL", "STATE", "RULES", "ROOT", "PROBLEM"}}
	for _, name := range names {
		o := p.state(name)
		if o.Problem != "" {
			status = statusNo
		}
		all = append(all, o)
		rows = append(rows, []string{o.Jail, o.State, strconv.Itoa(o.Rules), orDash(o.Root), orDash(o.Problem)})
	}
	if asJSON {
		p.json(all)
	} else {
		p.table(rows)
	}
	return told(status)
}

// state says whether a policy is in force and its root safe.
func (p *program) state(name string) overviewed {
	o := overviewed{Jail: name, State: "broken"}
	_, why, err := p.load("read", name)
	if err != nil {
		o.Problem = strings.TrimPrefix(err.Error(), "cannot read "+name+": ")
		return o
	}
	text, _ := p.read(paths.Policy(name), source.MaxText)
	compiled, problems := source.Check(paths.Policy(name), text, p.names)
	if why == "" {
		o.State = "in force"
	} else if len(problems) == 0 {
		o.State, o.Problem = "not in force", why
	}
	if len(problems) > 0 {
		o.Problem = count(len(problems), "mistake") + ", see: jailctl policy check " + name
		return o
	}
	o.Rules, o.Root = len(compiled.Rules), compiled.Root
	if _, err := enter(name, o.Root); err != nil && o.Problem == "" {
		o.Problem = "the root cannot be entered: " + err.Error()
	}
	return o
}
