package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"jailctl/policy/source"
)

// All that the verbs print goes through this file, by these rules:
//
//   - Standard output has what was asked for, standard error all else.
//   - What failed: "jailctl: cannot X: why", and where there is something to do
//     about it "jailctl: hint: what". Lower case, no full stop, text from outside
//     in quotes, "cannot" once in a line.
//   - Mistakes in a file are told as compilers do: "FILE:LINE:COL: what; fix".
//   - Control characters in what others wrote never reach the terminal.

// Exit statuses of all verbs here; run has its own.
const (
	statusYes     = 0 // yes, clean, done
	statusNo      = 1 // no, or there are findings
	statusTrouble = 2 // usage, or cannot tell
)

// trouble is an error with the exit status and, perhaps, what to do about it.
// Without err it has been told already.
type trouble struct {
	status int
	err    error
	hint   string
}

func (t *trouble) Error() string { return fmt.Sprint(t.err) }
func (t *trouble) Unwrap() error { return t.err }

// cannot is a failure to do what was asked.
func cannot(hint, format string, args ...any) error {
	return &trouble{statusTrouble, fmt.Errorf("cannot "+format, args...), hint}
}

// told is the exit status where everything has been said.
func told(status int) error {
	if status == statusYes {
		return nil
	}
	return &trouble{status: status}
}

// ui is where the program speaks and listens.
type ui struct {
	in  *bufio.Reader
	out *output
	err io.Writer
}

// output is standard output. It remembers the first error, which is told at the
// end: a verb does not stop half-way because nobody can read what it says.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	o.err = cmp.Or(o.err, err)
	return n, err
}

// written is the exit status where all could be written, or else trouble.
func (u *ui) written(status int) int {
	err := u.out.err
	if err == nil {
		return status
	}
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	u.say("", "cannot write: %v", err)
	return statusTrouble
}

// print writes a line of what was asked for.
func (u *ui) print(format string, args ...any) {
	fmt.Fprintln(u.out, printable(fmt.Sprintf(format, args...)))
}

// write passes text on as it is: a formatted file, a diff, a script.
func (u *ui) write(text []byte) { u.out.Write(text) }

// findings writes mistakes in a file, or warnings about it.
func (u *ui) findings(all []source.Problem) {
	for _, problem := range all {
		fmt.Fprintln(u.err, printable(problem.Error()))
	}
}

// say tells the user something on standard error, hint too unless it is empty.
func (u *ui) say(hint, format string, args ...any) {
	fmt.Fprintln(u.err, "jailctl: "+printable(fmt.Sprintf(format, args...)))
	if hint != "" {
		fmt.Fprintln(u.err, "jailctl: hint: "+printable(hint))
	}
}

// fail tells why the program ends and returns the exit status.
func (u *ui) fail(err error) int {
	t := &trouble{status: statusTrouble, err: err}
	errors.As(err, &t)
	if t.err != nil {
		u.say(t.hint, "%v", t.err)
	}
	return t.status
}

// ask puts a question and returns the answer; ok is false at the end of input.
func (u *ui) ask(question string) (answer string, ok bool) {
	fmt.Fprint(u.err, question+" ")
	line, err := u.in.ReadString('\n')
	if err != nil {
		fmt.Fprintln(u.err)
	}
	return strings.TrimSpace(line), err == nil
}

// table writes rows in columns.
func (u *ui) table(rows [][]string) {
	w := tabwriter.NewWriter(u.out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// printable makes control characters, which could rewrite the terminal, visible.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
