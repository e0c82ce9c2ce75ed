// Package textpb reads what people write in protobuf text format. It fills a message
// with what a text says, finds all mistakes of form in one go, and knows where each
// value stands, so that whoever checks what the text means can say the same of that.
// It lays such texts out, too. It serves the administrator's side only and must never
// be linked into the helper.
package textpb

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MaxText is the size in bytes of the largest text.
const MaxText = 262144

// Kind is what sets one kind of file apart from the others.
type Kind struct {
	// Manual is the page that describes it, and Split what to do with one too large.
	Manual, Split string
	// Octal are the numbers that must have a leading 0, each with the largest.
	Octal map[protoreflect.FullName]uint32
	// Most is what is said to be the largest of the other 32-bit numbers; whoever
	// checks the file holds it to that.
	Most uint32
	// Empty are the single texts that may be empty.
	Empty []protoreflect.FullName
	// Binary are the bytes that may hold a NUL.
	Binary []protoreflect.FullName
	// EmptyList is what to write in place of an empty list, where that is special.
	EmptyList map[protoreflect.FullName]string
}

// Problem is one mistake in a file.
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

// Text is one text with what was found in it.
type Text struct {
	kind     *Kind
	file     string
	text     []byte
	lines    []int // offset of each line
	mistakes []mistake
	message  proto.Message  // what it was read into
	places   map[place]int  // where a value, or with field "" a message, stands
	given    map[place]bool // fields that the text has, be it wrongly
	last     struct{ pos, line, col int }
}

// mistake is a Problem before its place is counted out.
type mistake struct {
	pos       int
	what, fix string
}

// New is a text that is still to be read; the file is for messages.
func New(kind *Kind, file string, text []byte) *Text {
	return &Text{
		kind: kind, file: file, text: text, lines: lineStarts(text),
		places: map[place]int{}, given: map[place]bool{},
	}
}

// Read fills m, which must be empty, with what the text says. What is mistaken is
// noted and stays out of m. It returns false where nothing could be told.
func (t *Text) Read(m proto.Message) bool {
	if !t.readable() {
		return false
	}
	fields, _, bad := scan(t.text)
	t.mistakes = append(t.mistakes, bad...)
	if fields == nil {
		return false
	}
	t.message = m
	t.walk(m.ProtoReflect(), 0, fields)
	return true
}

// readable vets the bytes before anything parses them.
func (t *Text) readable() bool {
	if len(t.text) > MaxText {
		t.Note(0, t.kind.Split, "the file has more than %d bytes", MaxText)
		return false
	}
	if bytes.HasPrefix(t.text, []byte("\xef\xbb\xbf")) {
		t.Note(0, "save it as UTF-8 without one", "the file begins with a byte order mark")
		return false
	}
	for rest := t.text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			t.Note(len(t.text)-len(rest), "save the file as UTF-8", "byte 0x%02x is not UTF-8", rest[0])
			return false
		}
		rest = rest[size:]
	}
	return true
}

// Note notes a mistake at an offset in the text.
func (t *Text) Note(pos int, fix, format string, args ...any) {
	t.mistakes = append(t.mistakes, mistake{pos, fmt.Sprintf(format, args...), fix})
}

// Mistakes is how many have been noted.
func (t *Text) Mistakes() int { return len(t.mistakes) }

// Problems are all mistakes in the order of the text. To a text that seems to have
// none prototext, which reads the whole once more, may still object.
func (t *Text) Problems() []Problem {
	if len(t.mistakes) == 0 && t.message != nil {
		t.confirm()
	}
	slices.SortStableFunc(t.mistakes, func(a, b mistake) int { return a.pos - b.pos })
	var all []Problem
	for _, m := range t.mistakes {
		line, col := t.Where(m.pos)
		all = append(all, Problem{t.file, line, col, m.what, m.fix})
	}
	return all
}

// confirm gives prototext the last word on what the whole text says.
func (t *Text) confirm() {
	m := t.message.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal(t.text, m); err != nil {
		line, _, what := textError(err)
		t.Note(t.lines[min(line, len(t.lines))-1], "write it as "+t.kind.Manual+" shows", "%s", what)
	} else if !proto.Equal(m, t.message) {
		t.Note(0, "write the file in the layout of jailctl policy fmt",
			"internal error: this text can be read in two ways")
	}
}

// Line is the number of the line that holds an offset.
func (t *Text) Line(pos int) int {
	i, found := slices.BinarySearch(t.lines, pos)
	if found {
		i++
	}
	return i
}

// Where is the line and column of an offset. It goes on counting where it was asked
// last: a text can have as many mistakes as bytes, all in one line.
func (t *Text) Where(pos int) (line, col int) {
	line = t.Line(pos)
	if line != t.last.line || pos < t.last.pos {
		t.last.pos, t.last.line, t.last.col = t.lines[line-1], line, 1
	}
	t.last.col += utf8.RuneCount(t.text[t.last.pos:pos])
	t.last.pos = pos
	return line, t.last.col
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

// These are compiled when they are needed: every start of jailctl would pay for it.
var (
	textErrorForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:proto: )?(syntax error )?\(line (\d+):(\d+)\): (.*)$`)
	})
	sizeForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^["']?([0-9]{1,9}) *([KMGTkmgt])i?[Bb]?["']?$`)
	})
)

// textError takes a message of prototext apart. Some spaces in it are, at
// random, no-break spaces: the library does not want its text to be relied on.
func textError(err error) (line, col int, what string) {
	s := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	m := textErrorForm().FindStringSubmatch(s)
	if m == nil {
		return 1, 1, strings.TrimPrefix(s, "proto: ")
	}
	line, _ = strconv.Atoi(m[2])
	col, _ = strconv.Atoi(m[3])
	return line, col, m[4]
}
