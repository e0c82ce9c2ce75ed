// Package source reads the policies that people write: it checks the text,
// compiles it to what the helper reads, formats it, and says in words what a
// change changes. It serves the administrator's side only and must never be
// linked into the helper.
package source

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"jailctl/proto/jailpb"
)

// MaxText is the size in bytes of the largest policy file.
const MaxText = 262144

// MaxCompiled is the size in bytes of the largest compiled form that the helper reads.
const MaxCompiled = 1048576

// Suffix ends the name of a policy file.
const Suffix = ".txtpb"

// version and end are what the helper's decoder expects; see compiled.proto.
const (
	version = 2
	end     = 0x6c69616a
)

// Problem is one mistake in a policy file.
type Problem struct {
	// File is the name that the reader knows the file by.
	File string
	// Line and Col count from 1; Col counts characters.
	Line, Col int
	// What is wrong.
	What string
	// Fix is what to do about it.
	Fix string
}

// Error is the problem in one line: "FILE:LINE:COL: what; fix".
func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", p.File, p.Line, p.Col, p.What, p.Fix)
}

type checker struct {
	file     string
	text     []byte
	lines    []int // offset of each line
	names    Names
	problems []mistake
	places   map[place]int    // where a value, or with field "" a message, stands
	raw      map[place]string // a scalar as it was written
	given    map[place]bool   // fields that the text has, be it wrongly
}

var jailName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// ValidName tells whether name can be the name of a jail.
func ValidName(name string) bool { return jailName.MatchString(name) }

func newChecker(file string, text []byte, names Names) *checker {
	return &checker{
		file: file, text: text, lines: lineStarts(text), names: names,
		places: map[place]int{}, raw: map[place]string{}, given: map[place]bool{},
	}
}

// Check reads the policy text of a file and compiles it. It finds all mistakes
// in one go, in the order of the text; only a text without one is compiled. The
// jail has the file's name, less directories and ".txtpb".
func Check(file string, text []byte, names Names) (*jailpb.Compiled, []Problem) {
	c := newChecker(file, text, names)
	name := strings.TrimSuffix(filepath.Base(file), Suffix)
	if !ValidName(name) {
		c.problem(0, "rename the file to up to 63 of a-z 0-9 _ . - and "+Suffix+", a letter or digit first",
			"%q cannot be the name of a jail", name)
	}
	compiled := c.check(name)
	if len(c.problems) > 0 {
		return nil, c.located()
	}
	return compiled, nil
}

func (c *checker) check(name string) *jailpb.Compiled {
	if !c.readable() {
		return nil
	}
	fields, _, bad := scan(c.text)
	c.problems = append(c.problems, bad...)
	if fields == nil {
		return nil
	}
	walked, jail := &jailpb.Jail{}, &jailpb.Jail{}
	c.walk(walked.ProtoReflect(), 0, fields)
	compiled := c.compile(name, walked)
	if len(c.problems) > 0 {
		return nil
	}
	// prototext has the last word on what the whole text says.
	if err := prototext.Unmarshal(c.text, jail); err != nil {
		line, _, what := textError(err)
		c.problem(c.lines[min(line, len(c.lines))-1], "write it as jailctl-policy(5) shows", "%s", what)
	} else if !proto.Equal(jail, walked) {
		c.problem(0, "write the file in the layout of jailctl policy fmt",
			"internal error: this text can be read in two ways")
	} else if size := len(Encode(compiled)); size > MaxCompiled {
		c.problem(0, "name groups in place of users, or split it into several jails",
			"the compiled form has %d bytes, more than %d", size, MaxCompiled)
	}
	return compiled
}

// readable vets the bytes before anything parses them.
func (c *checker) readable() bool {
	if len(c.text) > MaxText {
		c.problem(0, "split it into several jails", "the file has more than %d bytes", MaxText)
		return false
	}
	if bytes.HasPrefix(c.text, []byte("\xef\xbb\xbf")) {
		c.problem(0, "save it as UTF-8 without one", "the file begins with a byte order mark")
		return false
	}
	for rest := c.text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			c.problem(len(c.text)-len(rest), "save the file as UTF-8", "byte 0x%02x is not UTF-8", rest[0])
			return false
		}
		rest = rest[size:]
	}
	return true
}

// mistake is a Problem before its place is counted out.
type mistake struct {
	pos       int
	what, fix string
}

// problem notes a mistake at an offset in the text.
func (c *checker) problem(pos int, fix, format string, args ...any) {
	c.problems = append(c.problems, mistake{pos, fmt.Sprintf(format, args...), fix})
}

// located puts the mistakes in order and counts lines and columns in one pass:
// a text can have as many mistakes as bytes.
func (c *checker) located() []Problem {
	slices.SortStableFunc(c.problems, func(a, b mistake) int { return a.pos - b.pos })
	all := make([]Problem, len(c.problems))
	from, last, col := 0, 0, 1
	for i, m := range c.problems {
		line := c.line(m.pos)
		if line != last {
			from, last, col = c.lines[line-1], line, 1
		}
		col += utf8.RuneCount(c.text[from:m.pos])
		from = m.pos
		all[i] = Problem{c.file, line, col, m.what, m.fix}
	}
	return all
}

// line is the number of the line that holds an offset.
func (c *checker) line(pos int) int {
	i, found := slices.BinarySearch(c.lines, pos)
	if found {
		i++
	}
	return i
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, b := range text {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

var textErrorForm = regexp.MustCompile(`^(?:proto: )?(syntax error )?\(line (\d+):(\d+)\): (.*)$`)

// textError takes a message of prototext apart. Some spaces in it are, at
// random, no-break spaces: the library does not want its text to be relied on.
func textError(err error) (line, col int, what string) {
	s := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	m := textErrorForm.FindStringSubmatch(s)
	if m == nil {
		return 1, 1, strings.TrimPrefix(s, "proto: ")
	}
	line, _ = strconv.Atoi(m[2])
	col, _ = strconv.Atoi(m[3])
	return line, col, m[4]
}

// Encode is the compiled form as the helper reads it: fields in ascending order,
// the end mark last, the same bytes for the same policy.
func Encode(c *jailpb.Compiled) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		// Check lets no text through that is not UTF-8, and nothing else can fail.
		panic("internal error: cannot encode a compiled policy: " + err.Error())
	}
	return b
}
