package textpb

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// place names a field of one message, or one element of a repeated field.
type place struct {
	message proto.Message
	field   string
	index   int
}

// At is where a field's value stands; where the field is absent, the message. In
// a repeated field index counts the values that are right.
func (t *Text) At(m proto.Message, field string, index int) int {
	if pos, ok := t.places[place{m, field, index}]; ok {
		return pos
	}
	return t.places[place{m, "", 0}]
}

// Has tells whether the text gives m the field, be it wrongly.
func (t *Text) Has(m proto.Message, field string) bool {
	return t.given[place{m, field, 0}]
}

// walk fills m with what the text says, remembers where each value stands, and
// notes every mistake of structure. What is mistaken stays out of m.
func (t *Text) walk(m protoreflect.Message, pos int, fields []field) {
	descriptors := m.Descriptor().Fields()
	msg := m.Interface()
	t.places[place{msg, "", 0}] = pos
	first := map[string]int{}
	for _, f := range fields {
		fd := descriptors.ByTextName(f.name)
		if fd == nil {
			// Not left to prototext: it passes over reserved names in silence.
			near := Nearest(f.name, names(descriptors))
			t.given[place{msg, near, 0}] = true
			fix := "the fields here are " + strings.Join(names(descriptors), ", ")
			if near != "" {
				fix = "write " + near
			}
			t.Note(f.pos, fix, "unknown field %s", f.name)
			continue
		}
		t.given[place{msg, f.name, 0}] = true
		message := fd.Kind() == protoreflect.MessageKind
		before, again := first[f.name]
		first[f.name] = f.pos
		switch {
		case again && !fd.IsList():
			t.Note(f.pos, "keep one of the two", "%s stands in line %d already", f.name, t.Line(before))
		case f.list && !fd.IsList():
			t.Note(f.pos, "remove the brackets", "%s is one value, not a list", f.name)
		case f.list && len(f.values) == 0:
			// An empty list reads like "none" and means "any".
			fix := "remove it, or name what it should hold"
			if special := t.kind.EmptyList[fd.FullName()]; special != "" {
				fix = special
			}
			t.Note(f.pos, fix, "%s is an empty list", f.name)
		case !f.colon && !message:
			t.Note(f.pos, fmt.Sprintf("write %s: and the value", f.name), `":" is missing after %s`, f.name)
		default:
			for _, v := range f.values {
				// A message is known by its field's name, unless it is in a list.
				at := v.pos
				if message && !f.list {
					at = f.pos
				}
				t.put(m, fd, at, v)
			}
		}
	}
}

// put adds one value to m.
func (t *Text) put(m protoreflect.Message, fd protoreflect.FieldDescriptor, pos int, v value) {
	name := fd.TextName()
	where := place{m.Interface(), name, 0}
	if fd.IsList() {
		where.index = m.Get(fd).List().Len()
	}
	switch message := fd.Kind() == protoreflect.MessageKind; {
	case message && v.fields == nil:
		t.Note(v.pos, fmt.Sprintf("write %s { ... }", name), "%s is not a single value", name)
		return
	case !message && v.fields != nil:
		t.Note(v.pos, "write "+name+": "+t.wanted(fd), "%s is a single value", name)
		return
	case message && fd.IsList():
		t.places[where] = pos
		t.walk(m.Mutable(fd).List().AppendMutable().Message(), pos, v.fields)
		return
	case message:
		t.places[where] = pos
		t.walk(m.Mutable(fd).Message(), pos, v.fields)
		return
	}
	scalar, ok := t.scalar(m, fd, v)
	if !ok {
		return
	}
	t.places[where] = pos
	if fd.IsList() {
		m.Mutable(fd).List().Append(scalar)
	} else {
		m.Set(fd, scalar)
	}
}

// scalar asks prototext what one value means.
func (t *Text) scalar(m protoreflect.Message, fd protoreflect.FieldDescriptor, v value) (protoreflect.Value, bool) {
	name := fd.TextName()
	alone := m.New()
	err := prototext.Unmarshal([]byte(name+": "+v.raw), alone.Interface())
	quoted := v.raw[0] == '"' || v.raw[0] == '\''
	switch {
	case err != nil && quoted && (fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind):
		_, _, what := textError(err)
		fix := `write \\ for a backslash`
		if fd.Kind() == protoreflect.StringKind {
			fix += ", and text in UTF-8"
		}
		t.Note(v.pos, fix, "%s cannot be read: %s", name, what)
		return protoreflect.Value{}, false
	case err != nil:
		fix := "write " + name + ": " + t.wanted(fd)
		if n, ok := inBytes(v.raw); ok && fd.Kind() == protoreflect.Uint64Kind {
			fix = fmt.Sprintf("write %d", n)
		}
		t.Note(v.pos, fix, "%s cannot be %s", name, clip(v.raw))
		return protoreflect.Value{}, false
	}
	got := alone.Get(fd)
	if fd.IsList() {
		got = got.List().Get(0)
	}
	text := ""
	switch fd.Kind() {
	case protoreflect.EnumKind:
		// prototext takes any number for an enum.
		if fd.Enum().Values().ByNumber(got.Enum()) == nil {
			t.Note(v.pos, "write "+name+": "+t.wanted(fd), "%s cannot be %s", name, clip(v.raw))
			return protoreflect.Value{}, false
		}
		return got, true
	case protoreflect.Uint32Kind:
		return got, t.octal(fd, v, uint32(got.Uint()))
	case protoreflect.StringKind:
		text = got.String()
	case protoreflect.BytesKind:
		text = string(got.Bytes())
	default:
		return got, true
	}
	switch {
	case strings.Contains(text, "\x00") && !slices.Contains(t.kind.Binary, fd.FullName()):
		// The kernel and the environment end a string at a NUL.
		t.Note(v.pos, "remove it", "%s holds a NUL byte", name)
		return protoreflect.Value{}, false
	case text == "" && !fd.IsList() && !slices.Contains(t.kind.Empty, fd.FullName()):
		// To protobuf an empty string is an absent one: not_after: "" would be
		// a rule without an end.
		t.Note(v.pos, "remove the field, or write what it should be", "%s is empty", name)
		return protoreflect.Value{}, false
	}
	return got, true
}

// octal refuses a mode that is too large or has no leading 0.
func (t *Text) octal(fd protoreflect.FieldDescriptor, v value, n uint32) bool {
	most, ok := t.kind.Octal[fd.FullName()]
	switch {
	case !ok:
		return true
	case v.raw[0] != '0':
		// 77 for 077 would open what was meant to be closed.
		fix := "write 0" + v.raw
		if n <= most {
			fix += fmt.Sprintf(", or %#o for that number", n)
		}
		t.Note(v.pos, fix, "%s %s has no leading 0, so it is decimal", fd.TextName(), v.raw)
	case n > most:
		t.Note(v.pos, fmt.Sprintf("write one from 0 to %#o", most), "%s %s is more than %#o", fd.TextName(), v.raw, most)
	default:
		return true
	}
	return false
}

// inBytes is the number that people mean by "1G".
func inBytes(raw string) (uint64, bool) {
	m := sizeForm().FindStringSubmatch(raw)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseUint(m[1], 10, 64)
	return n << (10 * (1 + strings.Index("KMGT", strings.ToUpper(m[2])))), true
}

// wanted says what a field's value looks like.
func (t *Text) wanted(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind:
		if most, ok := t.kind.Octal[fd.FullName()]; ok {
			return fmt.Sprintf("octal digits with a leading 0, at most %#o", most)
		}
		return fmt.Sprintf("a whole number from 0 to %d, without quotes", t.kind.Most)
	case protoreflect.Uint64Kind:
		return fmt.Sprintf("a whole number from 0 to %d, without quotes", uint64(math.MaxUint64))
	case protoreflect.EnumKind:
		words := []string{}
		for i := range fd.Enum().Values().Len() {
			words = append(words, string(fd.Enum().Values().Get(i).Name()))
		}
		return "one of " + strings.Join(words, ", ")
	default:
		return `a text in quotes ("...")`
	}
}

func names(fds protoreflect.FieldDescriptors) []string {
	all := make([]string, fds.Len())
	for i := range all {
		all[i] = fds.Get(i).TextName()
	}
	return all
}

// Nearest is the word, of those in lower case, that is most like the one that was
// written, or "".
func Nearest(written string, words []string) string {
	best, least := "", len(written)/3+2
	for _, word := range words {
		d := distance(strings.ToLower(written), word)
		if d > 0 && len(written) > 2 && strings.HasPrefix(word, written) {
			d = 1
		}
		if d < least {
			best, least = word, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace to make a into b.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// clip shortens what the text says to what fits a message.
func clip(raw string) string {
	raw = strings.ToValidUTF8(raw, "?")
	if r := []rune(raw); len(r) > 40 {
		raw = string(r[:40]) + "..."
	}
	if raw[0] == '"' || raw[0] == '\'' {
		return raw
	}
	return fmt.Sprintf("%q", raw)
}
