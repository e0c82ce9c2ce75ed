package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"jailctl/internal/host"
)

// rpm's database has had many formats, which are its library's own matter: the
// program is asked. These tell that there is one, and when it changes.
var (
	rpmDirs  = []string{"/usr/lib/sysimage/rpm", "/var/lib/rpm"}
	rpmFiles = []string{"rpmdb.sqlite", "Packages.db", "Packages"}
)

var rpmPrograms = []string{"/usr/bin/rpm", "/bin/rpm"}

var rpmSpeech = speech{itself: "rpm", separator: ".", neutral: "noarch", install: "dnf install"}

// rpmTime bounds the one question that rpm is asked.
const rpmTime = 2 * time.Minute

// rpmFormat is what rpm prints of each package: a letter before each value. The
// values are in quotes for a shell, which nobody runs: it is the only form
// (rpm-queryformat(7)) in which file names may hold anything. Arrays that a package
// has not are left out.
const rpmFormat = `N%{NAME:shescape}V%{EVR:shescape}%|ARCH?{A%{ARCH:shescape}}|` +
	`[R%{REQUIRENAME:shescape}][P%{PROVIDENAME:shescape}][F%{FILENAMES:shescape}]\n`

type rpm struct {
	aside     *host.Host
	dir, file string
	programs  []string
	limit     time.Duration
}

func (r *rpm) read() ([]*entry, []string, error) {
	inputs := []string{r.dir + "/" + r.file}
	out, err := r.ask()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the database in %s: %w", r.dir, err)
	}
	all, err := parseRPM(out)
	for _, e := range all {
		e.inputs = inputs
	}
	return all, inputs, err
}

func (r *rpm) ask() (string, error) {
	dir, err := r.aside.Real(r.dir)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	for _, program := range r.programs {
		cmd := exec.CommandContext(ctx, program, "--dbpath", r.aside.Root()+dir, "--query", "--all", "--queryformat", rpmFormat)
		// It would read macros that somebody's home directory has, and on Debian make a database in it.
		cmd.Env = []string{"HOME=/dev/null", "LC_ALL=C", "PATH=/usr/bin:/bin"}
		cmd.Dir = "/"
		cmd.WaitDelay = time.Second
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("no answer within %v", r.limit)
		}
		// From a damaged database it gives what it can still read, and exits with 0.
		for line := range strings.Lines(errs.String()) {
			if line, ok := strings.CutPrefix(line, "error: "); ok {
				return "", fmt.Errorf("%s: %q", program, strings.TrimSpace(line))
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", program, err)
		}
		return out.String(), nil
	}
	return "", fmt.Errorf("there is no %s", strings.Join(r.programs, " and no "))
}

func parseRPM(text string) ([]*entry, error) {
	var all []*entry
	var e *entry
	for text != "" {
		letter := text[0]
		text = text[1:]
		if letter == '\n' && e != nil {
			if e.Version == "" {
				return nil, fmt.Errorf("rpm: package %q has no version", e.name)
			}
			all = append(all, e)
			e = nil
			continue
		}
		value, rest, ok := unquote(text)
		if !ok || letter == 'N' && !plain(value) || (letter == 'N') != (e == nil) {
			return nil, fmt.Errorf("rpm: after %d packages it says what was not asked", len(all))
		}
		text = rest
		switch letter {
		case 'N':
			e = &entry{name: value, arch: rpmSpeech.neutral}
		case 'V':
			e.Version = value
		case 'A':
			e.arch = value
		case 'R':
			e.needs = append(e.needs, rpmNames(value)...)
		case 'P':
			e.offers = append(e.offers, value)
		case 'F':
			name, err := absolute(value)
			if err != nil {
				return nil, fmt.Errorf("rpm: package %q: %w", e.name, err)
			}
			if name != "/" {
				e.list = append(e.list, name)
			}
		default:
			return nil, fmt.Errorf("rpm: after %d packages it says what was not asked", len(all))
		}
	}
	if e != nil {
		return nil, fmt.Errorf("rpm: package %q is cut off", e.name)
	}
	return all, nil
}

// unquote takes one quoted value from the beginning of text: 'it'\”s' is it's.
func unquote(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, "'") {
		return "", "", false
	}
	rest = text[1:]
	for {
		part, after, found := strings.Cut(rest, "'")
		if !found {
			return "", "", false
		}
		value += part
		if !strings.HasPrefix(after, `\''`) {
			return value, after, true
		}
		value += "'"
		rest = after[len(`\''`):]
	}
}

// rpmNames are the names in a dependency: itself, or, where it is a condition in
// parentheses (rpm's "boolean dependencies"), what that could ask for, and not what it
// only asks about: "(a >= 1 if (b or c) else d)" is a and d.
func rpmNames(need string) []string {
	if !strings.HasPrefix(need, "(") {
		return []string{need}
	}
	var names []string
	depth, about, version := 0, -1, false
	for need != "" {
		switch c := need[0]; {
		case c == ' ':
			need = need[1:]
			continue
		case c == '(':
			depth++
			need = need[1:]
			continue
		case c == ')':
			depth--
			need = need[1:]
			if depth < about {
				about = -1
			}
			continue
		}
		var word string
		word, need = rpmWord(need)
		switch word {
		case "and", "or", "with":
		case "if", "unless", "without":
			if about < 0 {
				about = depth
			}
		case "else":
			if depth == about {
				about = -1
			}
		case "<", "<=", "=", ">=", ">":
			version = true
			continue
		default:
			if about < 0 && !version {
				names = append(names, word)
			}
		}
		version = false
	}
	return names
}

// rpmWord takes a word from the beginning of text. Names have parentheses of their
// own: "libc.so.6(GLIBC_2.34)(64bit)".
func rpmWord(text string) (word, rest string) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case ' ':
			return text[:i], text[i:]
		case '(':
			depth++
		case ')':
			if depth--; depth < 0 {
				return text[:i], text[i:]
			}
		}
	}
	return text, ""
}

func (r *rpm) files(e *entry) ([]string, error) { return e.list, nil }
