package textpb

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The scanner finds where things stand: it cuts the text into fields and raw
// values and decides nothing about them. What a value means is prototext's to
// say (see walk.go), and prototext reads the whole text once more at the end.
// Where the two disagree the text is refused, so a fault here can cost an
// administrator a policy, never a caller a right too many.

// field is one field of a message as it stands in the text.
type field struct {
	name   string
	pos    int // offset of the name
	colon  bool
	list   bool // values stood in [ ]
	values []value
}

// value is a scalar, or a message where fields is not nil.
type value struct {
	pos    int
	raw    string
	fields []field
}

// maxDepth is far more than our messages nest.
const maxDepth = 32

type scanner struct {
	text     string
	pos      int
	comments []string
	mistakes []mistake
	// line is where the line begins, and first where its first token does.
	line, first int
	// crooked is the first brace whose partner stands further left than the line
	// that it is in: likely the one that is never closed.
	crooked int
}

// scan cuts text into the fields of its outermost message; without fields it
// could not read to the end.
func scan(text []byte) (fields []field, comments []string, mistakes []mistake) {
	s := &scanner{text: string(text), crooked: -1}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(mistake)
			if !ok {
				panic(r)
			}
			fields, comments, mistakes = nil, nil, append(s.mistakes, e)
		}
	}()
	fields = s.message(0, 0, 0)
	return fields, s.comments, s.mistakes
}

// fail ends the scan at a mistake after which nothing can be told.
func (s *scanner) fail(pos int, fix, format string, args ...any) {
	panic(mistake{pos, fmt.Sprintf(format, args...), fix})
}

// note notes a mistake and goes on.
func (s *scanner) note(pos int, fix, format string, args ...any) {
	s.mistakes = append(s.mistakes, mistake{pos, fmt.Sprintf(format, args...), fix})
}

// peek skips blanks and comments and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case '\n':
			s.pos++
			s.line = s.pos
		case ' ', '\t', '\r':
			s.pos++
		case '#':
			line, _, _ := strings.Cut(s.text[s.pos:], "\n")
			s.comments = append(s.comments, strings.TrimSpace(line))
			s.pos += len(line)
		case 0:
			s.fail(s.pos, "remove it", "there is a NUL byte here")
		default:
			if s.first < s.line {
				s.first = s.pos
			}
			return s.text[s.pos]
		}
	}
	return 0
}

// next is what peek returns, for a message.
func (s *scanner) next() string {
	if s.peek() == 0 {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRuneInString(s.text[s.pos:])
	return fmt.Sprintf("%q", string(r))
}

// message reads fields up to the byte end, which it consumes; 0 is the end of
// the text. open is where the message began.
func (s *scanner) message(end byte, open, depth int) []field {
	if depth > maxDepth {
		s.fail(open, "remove it", "messages are nested more than %d deep", maxDepth)
	}
	fields := []field{}
	indent := s.first - s.line
	for {
		switch c := s.peek(); {
		case c == end:
			if c != 0 {
				if s.crooked < 0 && s.first-s.line < indent {
					s.crooked = open
				}
				s.pos++
			}
			return fields
		case c == 0:
			if s.crooked >= 0 {
				open = s.crooked
				end = s.text[open] + 2 // } follows { at two, and > follows <
			}
			s.fail(open, fmt.Sprintf("write %q where it ends", string(end)), "what is opened here is never closed")
		}
		fields = append(fields, s.field(depth))
		if c := s.peek(); c == ',' || c == ';' {
			s.pos++
		}
	}
}

func (s *scanner) field(depth int) field {
	s.peek()
	f := field{pos: s.pos}
	if s.text[s.pos] == '[' {
		line, _, _ := strings.Cut(s.text[s.pos:], "\n")
		size := strings.IndexByte(line, ']') + 1
		if size == 0 {
			s.fail(s.pos, `write "]" where it ends`, "what is opened here is never closed")
		}
		s.pos += size
	} else {
		s.pos += wordLen(s.text[s.pos:], isNameByte)
	}
	f.name = s.text[f.pos:s.pos]
	if f.name == "" {
		fix := "write the name of a field"
		if strings.Contains(`}>]`, s.text[s.pos:s.pos+1]) {
			fix = "remove it, or open what it closes"
		}
		s.fail(s.pos, fix, "%s stands where a field is expected", s.next())
	}
	switch s.peek() {
	case '=':
		s.note(s.pos, `write ":" in place of "="`, `":" is missing after %s`, f.name)
		fallthrough
	case ':':
		f.colon = true
		s.pos++
	}
	switch s.peek() {
	case '[':
		f.list = true
		open := s.pos
		s.pos++
		for s.peek() != ']' {
			if s.peek() == 0 {
				s.fail(open, `write "]" where it ends`, "what is opened here is never closed")
			}
			f.values = append(f.values, s.value(depth, "write a comma between them"))
			if c := s.peek(); c == ',' {
				s.pos++
				if s.peek() == ']' {
					s.fail(s.pos, `remove the "," before it`, "the list ends after a comma")
				}
			} else if c != ']' && c != 0 {
				s.fail(s.pos, `write "," between two values and "]" after the last`, "%s stands in a list", s.next())
			}
		}
		s.pos++
	case 0, '}', '>', ',', ';':
		s.fail(f.pos, "give it one, or remove it", "%s has no value", f.name)
	default:
		f.values = []value{s.value(depth, `write one text, or a list: ["...", "..."]`)}
	}
	return f
}

// value reads one value; apart is how to write two texts in its place.
func (s *scanner) value(depth int, apart string) value {
	v := value{}
	c := s.peek()
	v.pos = s.pos
	switch c {
	case '{', '<':
		s.pos++
		v.fields = s.message(map[byte]byte{'{': '}', '<': '>'}[c], v.pos, depth+1)
		return v
	case '"', '\'':
		s.quoted(c)
		v.raw = s.text[v.pos:s.pos]
		// prototext joins them, and a comma forgotten would make one argument of two.
		for c = s.peek(); c == '"' || c == '\''; c = s.peek() {
			s.note(s.pos, apart, "two texts side by side are one text")
			s.quoted(c)
		}
		return v
	case '-':
		s.pos++
		s.peek()
	}
	// Wider than prototext's words, so that an unquoted path is one value and
	// gets the message that says so.
	s.pos += wordLen(s.text[s.pos:], func(c byte) bool {
		return c > ' ' && strings.IndexByte(`{}<>[],;:#"'`, c) < 0
	})
	v.raw = s.text[v.pos:s.pos]
	if v.raw == "" {
		s.fail(s.pos, "write a value", "%s stands where a value is expected", s.next())
	}
	return v
}

// quoted consumes one quoted string.
func (s *scanner) quoted(quote byte) {
	open := s.pos
	for s.pos++; s.pos < len(s.text) && s.text[s.pos] != '\n'; s.pos++ {
		switch s.text[s.pos] {
		case '\\':
			s.pos++
			if s.pos == len(s.text) || s.text[s.pos] == '\n' {
				s.pos--
			}
		case quote:
			s.pos++
			return
		}
	}
	s.fail(open, fmt.Sprintf("write %s where it ends, in the same line", string(quote)), "the text in quotes is not closed")
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func wordLen(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}
