package jailtree

import (
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"jailctl/internal/contents"
	"jailctl/internal/elfdeps"
	"jailctl/internal/host"
)

// seen is a file that was looked into, as one that was asked for, as a program of a package
// or as one that came along, on behalf of those users, or a directory.
type seen struct {
	name           string
	named, program bool
	by             string
}

// needs adds what a file needs to run: interpreter and libraries of an ELF file, the
// interpreter of a script that was named, or that is where a package has its programs:
// on the shell, which every system has, no package depends.
func (p *planner) needs(at contents.At, name string, how how) {
	// Elsewhere packages have examples, tests and what only installing them runs.
	how.packaged = how.packaged && (how.program || how.needed != "" || slices.Contains(searched, path.Dir(name)))
	this := seen{name, how.named, how.packaged, how.by.String()}
	if p.looked[this] {
		return
	}
	p.looked[this] = true
	info, err := p.Files.Lstat(name)
	if err == nil {
		how.by = how.by.with(info.UID)
	}
	switch head, err := p.head(name); {
	case err != nil:
		p.problem(at, "mend that, or exclude it", "%v", told(err))
	case strings.HasPrefix(head, "\x7fELF"):
		p.libraries(at, name, how)
	case strings.HasPrefix(head, "#!") && (how.named || info.Mode&0o111 != 0 && (how.packaged || p.own(at))):
		p.interpreter(at, name, head, how)
	}
}

// longest is how much of a script's first line counts: execve(2).
const longest = 255

func (p *planner) head(name string) (string, error) {
	f, err := p.Files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [longest]byte
	n, err := io.ReadFull(f, b[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	return string(b[:n]), nil
}

func (p *planner) interpreter(at contents.At, script, head string, asked how) {
	wrong := func(fix, format string, args ...any) {
		switch {
		case asked.named:
			p.problem(at, fix, format, args...)
		case asked.packaged:
			p.note(format, args...)
		}
	}
	line, _, _ := strings.Cut(head[2:], "\n")
	words := strings.Fields(line)
	if len(words) == 0 || !strings.HasPrefix(words[0], "/") {
		wrong("mend its first line", "the script %q has no interpreter", script)
		return
	}
	if !p.executable(words[0]) {
		wrong("install it, or leave the script out", "the script %q needs %q, which is no program on the host", script, words[0])
		return
	}
	p.runs(at, script, words[0], asked)
	if path.Base(words[0]) != "env" {
		return
	}
	name := sought(words[1:])
	found, ok := p.find(name)
	switch {
	case name == "":
		wrong("mend its first line", "the script %q has no interpreter", script)
	case !ok:
		wrong("install it, or leave the script out", "the script %q has env(1) look up %q, which is no program in %s", script, name, strings.Join(searched, ", "))
	default:
		p.runs(at, script, found, asked)
	}
}

// runs adds an interpreter. For a script that is only found somewhere it is no more than
// told, at the end: libraries of scripts are full of first lines that nobody needs.
func (p *planner) runs(at contents.At, script, program string, asked how) {
	if asked.named || asked.packaged {
		p.add(at, program, asked.of(script))
	} else {
		p.scripts[program] = append(p.scripts[program], script)
	}
}

// sought is the program that env(1) would look up for the words of a script's first
// line: what follows its options and assignments.
func sought(words []string) string {
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if text, ok := strings.CutPrefix(w, "--split-string="); ok {
			w = "-S" + text
		}
		switch {
		case strings.HasPrefix(w, "-S") && len(w) > 2:
			words = append([]string{w[2:]}, words...)
		case w == "-u" || w == "-C" || w == "--unset" || w == "--chdir":
			words = words[min(1, len(words)):]
		case !strings.HasPrefix(w, "-") && !strings.Contains(w, "="):
			return w
		}
	}
	return ""
}

// executable tells whether a path of the host is a program, or a link to one.
func (p *planner) executable(name string) bool {
	real, err := p.Files.Real(name)
	if err != nil {
		return false
	}
	info, err := p.Files.Lstat(real)
	return err == nil && info.IsRegular() && info.Mode&0o111 != 0
}

// find looks a program up, by its path or by its name.
func (p *planner) find(name string) (string, bool) {
	if strings.HasPrefix(name, "/") {
		return name, p.executable(name)
	}
	for _, dir := range searched {
		if at := path.Join(dir, name); p.executable(at) {
			return at, true
		}
	}
	return "", false
}

// Find is where a build finds a program on the host.
func Find(files *host.Host, name string) (string, bool) {
	p := &planner{Host: Host{Files: files}}
	return p.find(name)
}

func (p *planner) libraries(at contents.At, name string, asked how) {
	var refused []string
	p.elf.May = nil
	if len(asked.by) > 0 {
		p.elf.May = func(real string) bool {
			for _, uid := range asked.by {
				if !p.may(uid, real) {
					refused = append(refused, real)
					return false
				}
			}
			return true
		}
	}
	o, err := p.elf.Resolve(name)
	for _, real := range refused {
		p.note("%q leads to %q, which those whose file or link it is could not read, and so it is as if not there", name, real)
	}
	foreign := errors.Is(err, elfdeps.ErrMachine) // for an emulator, or data of a compiler
	switch {
	case p.ctx.Err() != nil:
		return
	case errors.Is(err, elfdeps.ErrNotELF) || foreign && !asked.named:
		return
	case err != nil && asked.named && !foreign:
		p.problem(at, "mend the file, or leave it out", "%v", told(err))
		return
	case err != nil:
		p.note("%s; what it needs does not come along", told(err))
		return
	}
	if o.Interp != "" {
		p.add(at, o.Interp, asked.of(name))
	}
	for _, l := range slices.Concat(o.Libraries, o.OtherCPUs) {
		p.add(at, l.Path, asked.of(name))
	}
	if o.Cache != "" {
		// In directories that the loader knows from its cache alone.
		p.add(at, o.Cache, asked.of(name))
	}
	for _, m := range o.Missing {
		if asked.named {
			p.problem(at, "install the package that has it", "%q needs %q, which the host does not have", m.By, m.Name)
		} else {
			p.note("%q needs %q, which the host does not have", m.By, m.Name)
		}
	}
	near := p.near(o, asked.by)
	for _, so := range o.Dlopen {
		if found := p.beside(near, so, asked.by); found != "" {
			p.add(at, found, how{by: asked.by})
		} else if by, ok := p.dlopen[so]; !ok || name < by {
			p.dlopen[so] = name
		}
	}
}

// maxBeside is how many places are looked at for what one file of a user's may load: its
// owner chooses both the names and the directories.
const maxBeside = 100_000

// near are the directories in which what o may pass to dlopen(3) is looked for.
func (p *planner) near(o *elfdeps.Object, by users) []string {
	near := []string{path.Dir(o.Path)}
	have := map[string]bool{near[0]: true}
	for _, l := range o.Libraries {
		if dir := path.Dir(l.Path); !have[dir] {
			have[dir] = true
			near = append(near, dir)
		}
	}
	if len(by) > 0 && len(near)*len(o.Dlopen) > maxBeside {
		p.note("%q has too many names of shared objects and directories for them; what it may load comes along from %q alone", o.Path, near[0])
		return near[:1]
	}
	return near
}

// beside is where a shared object is that a program may pass to dlopen(3): in its own
// directory or one from which the loader takes what it needs. "" is nowhere.
func (p *planner) beside(near []string, so string, by users) string {
	for _, dir := range near {
		// Of a user's names, who asked for what is not there would be noted one by one.
		if len(by) > 0 && !p.lists(dir, so) {
			continue
		}
		at := path.Join(dir, so)
		if real, err := p.Files.Real(at); err == nil {
			if info, err := p.Files.Lstat(real); err == nil && info.IsRegular() {
				return at
			}
		}
	}
	return ""
}

// lists tells whether a directory has a name.
func (p *planner) lists(dir, name string) bool {
	names, known := p.names[dir]
	if !known {
		if real, err := p.Files.Real(dir); err == nil {
			names, _ = p.Files.List(real) // one that is not there has none
		}
		p.names[dir] = names
	}
	_, has := slices.BinarySearch(names, name)
	return has
}

// of is how what a file needs is added: named with it, since it must be there.
func (h how) of(file string) how {
	return how{named: h.named, packaged: h.packaged, by: h.by, needed: file}
}

// searched is where programs without a directory are looked for.
var searched = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
