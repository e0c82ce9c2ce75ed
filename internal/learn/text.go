package learn

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What programs wrote, or somebody called a file, goes into comments and literals. It
// must never end one and begin a line of its own.

// literal is a string or bytes of protobuf text format.
func literal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + s[i:i+1])
		case r == '\n':
			b.WriteString(`\n`)
		case r != utf8.RuneError && unicode.IsPrint(r):
			b.WriteString(s[i : i+size])
		default:
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		}
		i += size
	}
	b.WriteByte('"')
	return b.String()
}

// escaped is a path that as a pattern means itself.
func escaped(name string) string {
	if !strings.ContainsAny(name, `*?[\`) {
		return name
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(name)
}

func quoted(s string) string { return strconv.Quote(s) }

// word is a word of a command line, for people.
func word(s string) string {
	plain := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(" \"'\\$`*?[]{}()<>|&;#!~", r) }
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, plain) {
		return strconv.Quote(s)
	}
	return s
}

// commandLine is argv for people, cut where it becomes too long.
func commandLine(argv []string) string {
	const most = 160
	words := make([]string, len(argv))
	for i := range argv {
		words[i] = word(argv[i])
	}
	s := []rune(strings.Join(words, " "))
	if len(s) > most {
		return string(s[:most]) + " ..."
	}
	return string(s)
}

// shell is a word that a shell takes for s, whatever is in it.
func shell(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/._-+,:@%=", r) && (r > 'z' || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}) {
		return s
	}
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(s) {
		if c > ' ' && c < 0x7f && c != '\'' && c != '\\' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String() + "'"
}

// head says what was run, and which steps it had of those that the text names.
func (d *draft) head(about, text string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Learned from one run of a command by %s in %s; root is to read it before it counts.\n", word(d.who()), word(d.Dir))
	fmt.Fprintf(&b, "# %s\n#\n", about)
	for i, s := range d.Steps {
		label := d.name(i + 1)
		if i > 0 && !strings.Contains(text, label) {
			continue
		}
		fmt.Fprintf(&b, "# step %d: %s", i+1, commandLine(s.Argv))
		if s.By > 0 {
			fmt.Fprintf(&b, "  (of step %d)", s.By)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// order is that of the fields in contents.proto.
var order = []string{"include", "programs", "packages", "paths", "users", "devices", "directories", "symlinks", "exclude"}

// contents is the text of the contents file.
func (d *draft) contents() []byte {
	text := d.body()
	return []byte("# proto-file: proto/contents.proto\n# proto-message: Contents\n#\n" +
		d.head("Another run may need more: learn that too, or add it.", text) +
		"description: " + literal("for "+word(path.Base(d.programs[0].name))) + "\n\n" + text)
}

// body is the lines, and what they cannot bring.
func (d *draft) body() string {
	field := func(l line) int {
		name := l.text[:strings.IndexAny(l.text, ": ")]
		return slices.Index(order, name)
	}
	lines := slices.Clone(d.lines)
	slices.SortStableFunc(lines, func(a, b line) int { return field(a) - field(b) })
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "  # " + l.comment + "\n")
	}
	if data := d.data(); len(data) > 0 {
		fmt.Fprintf(&b, "\n# State directories begin empty. After the build, root puts there what the run of %s's found and used:\n", word(d.who()))
		for _, command := range data {
			b.WriteString("#   " + command + "\n")
		}
	}
	for _, n := range d.notes {
		const most = 12
		b.WriteString("\n# Not in the jail, " + n.about + ":\n")
		for i, item := range n.items {
			if i == most {
				fmt.Fprintf(&b, "#   and %d more\n", len(n.items)-most)
				break
			}
			b.WriteString("#   " + item + "\n")
		}
	}
	return b.String()
}

// data are the commands that put what the run found in state directories, and used,
// into those of the jail. Root goes there, whose the way is; and everything else is
// done with the rights of who ran the command, who may meanwhile have put links to
// other people's files there; and with no terminal of root's to type into, nor anything
// else that they could take from a process of theirs: its descriptors and environment.
func (d *draft) data() (commands []string) {
	const copies = `tar -cf - -C "$0" "$@" | tar -xpf -`
	as := "runuser -u " + shell(d.User.Name)
	if d.User.Name == "" {
		as = fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups", d.User.UID, d.User.GID)
	}
	for _, s := range d.dirs {
		whole, single := s.used()
		if len(single) > 0 {
			whole = append(append(whole, "--no-recursion"), single...)
		}
		if len(whole) == 0 {
			continue
		}
		words := ""
		for _, name := range whole {
			words += " " + shell(name)
		}
		commands = append(commands, fmt.Sprintf(`(cd %s && env -i PATH="$PATH" setsid -w %s -- sh -c '%s' %s%s </dev/null 2>&1 | cat)`, shell("/srv/jails/"+d.Jail+s.path), as, copies, shell(s.path), words))
	}
	return commands
}

// used are the names of a state directory's data: of directories that are data as a
// whole, a repository among them, and of single files and directories.
func (s *state) used() (whole, single []string) {
	name := func(at string) string {
		rest := strings.TrimPrefix(at, s.path+"/")
		if strings.HasPrefix(rest, "-") {
			rest = "./" + rest // to tar it would be an option
		}
		return rest
	}
	asked, files := map[string]bool{}, map[string]int{}
	for _, f := range s.data {
		if stat(f.path) == nil || !f.isRegular() && !f.isDir() && !f.isLink() {
			continue // the run has removed it, or it is none that is kept
		}
		asked[f.path] = true
		for dir := path.Dir(f.path); dir != s.path && !f.isDir(); dir = path.Dir(dir) {
			files[dir]++
		}
	}
	wholes := map[string]bool{}
	for dir, n := range files {
		if path.Base(dir) == ".git" || n > 1 && count(dir, n+1) == n {
			wholes[dir] = true
		}
	}
	for dir := range wholes {
		if in(wholes, path.Dir(dir)) == "" {
			whole = append(whole, name(dir))
		}
	}
	for at := range asked {
		if in(wholes, at) == "" {
			single = append(single, name(at))
		}
	}
	slices.Sort(whole)
	slices.Sort(single)
	return whole, single
}
