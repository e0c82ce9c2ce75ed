package source

import (
	"fmt"
	"math"
	"regexp"
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

// at is where a field's value stands; where the field is absent, the message.
func (c *checker) at(m proto.Message, field string, index int) int {
	if pos, ok := c.places[place{m, field, index}]; ok {
		return pos
	}
	return c.places[place{m, "", 0}]
}

// has tells whether the text gives m the field, be it wrongly.
func (c *checker) has(m proto.Message, field string) bool {
	return c.given[place{m, field, 0}]
}

// walk fills m with what the text says, remembers where each value stands, and
// notes every mistake of structure. What is mistaken stays out of m.
func (c *checker) walk(m protoreflect.Message, pos int, fields []field) {
	descriptors := m.Descriptor().Fields()
	msg := m.Interface()
	c.places[place{msg, "", 0}] = pos
	first := map[string]int{}
	for _, f := range fields {
		fd := descriptors.ByTextName(f.name)
		if fd == nil {
			// Not left to prototext: it passes over reserved names in silence.
			near := nearest(f.name, descriptors)
			c.given[place{msg, near, 0}] = true
			fix := "the fields here are " + names(descriptors)
			if near != "" {
				fix = "write " + near
			}
			c.problem(f.pos, fix, "unknown field %s", f.name)
			continue
		}
		c.given[place{msg, f.name, 0}] = true
		message := fd.Kind() == protoreflect.MessageKind
		before, again := first[f.name]
		first[f.name] = f.pos
		switch {
		case again && !fd.IsList():
			c.problem(f.pos, "keep one of the two", "%s stands in line %d already", f.name, c.line(before))
		case f.list && !fd.IsList():
			c.problem(f.pos, "remove the brackets", "%s is one value, not a list", f.name)
		case f.list && len(f.values) == 0:
			// An empty list reads like "none" and means "any".
			fix := "remove it, or name what it should hold"
			if f.name == "args" {
				fix = "write no_args: true to forbid arguments"
			}
			c.problem(f.pos, fix, "%s is an empty list", f.name)
		case !f.colon && !message:
			c.problem(f.pos, fmt.Sprintf("write %s: and the value", f.name), `":" is missing after %s`, f.name)
		default:
			for _, v := range f.values {
				// A message is known by its field's name, unless it is in a list.
				at := v.pos
				if message && !f.list {
					at = f.pos
				}
				c.put(m, fd, at, v)
			}
		}
	}
}

// put adds one value to m.
func (c *checker) put(m protoreflect.Message, fd protoreflect.FieldDescriptor, pos int, v value) {
	name := fd.TextName()
	where := place{m.Interface(), name, 0}
	if fd.IsList() {
		where.index = m.Get(fd).List().Len()
	}
	switch message := fd.Kind() == protoreflect.MessageKind; {
	case message && v.fields == nil:
		c.problem(v.pos, fmt.Sprintf("write %s { ... }", name), "%s is not a single value", name)
		return
	case !message && v.fields != nil:
		c.problem(v.pos, "write "+name+": "+wanted(fd), "%s is a single value", name)
		return
	case message && fd.IsList():
		c.places[where] = pos
		c.walk(m.Mutable(fd).List().AppendMutable().Message(), pos, v.fields)
		return
	case message:
		c.places[where] = pos
		c.walk(m.Mutable(fd).Message(), pos, v.fields)
		return
	}
	scalar, ok := c.scalar(m, fd, v)
	if !ok {
		return
	}
	c.places[where] = pos
	c.raw[where] = v.raw
	if fd.IsList() {
		m.Mutable(fd).List().Append(scalar)
	} else {
		m.Set(fd, scalar)
	}
}

// scalar asks prototext what one value means.
func (c *checker) scalar(m protoreflect.Message, fd protoreflect.FieldDescriptor, v value) (protoreflect.Value, bool) {
	name := fd.TextName()
	alone := m.New()
	err := prototext.Unmarshal([]byte(name+": "+v.raw), alone.Interface())
	quoted := v.raw[0] == '"' || v.raw[0] == '\''
	switch {
	case err != nil && fd.Kind() == protoreflect.StringKind && quoted:
		_, _, what := textError(err)
		c.problem(v.pos, `write \\ for a backslash, and text in UTF-8`, "%s cannot be read: %s", name, what)
		return protoreflect.Value{}, false
	case err != nil:
		fix := "write " + name + ": " + wanted(fd)
		if n, ok := inBytes(v.raw); ok && fd.Kind() == protoreflect.Uint64Kind {
			fix = fmt.Sprintf("write %d", n)
		}
		c.problem(v.pos, fix, "%s cannot be %s", name, clip(v.raw))
		return protoreflect.Value{}, false
	}
	got := alone.Get(fd)
	if fd.IsList() {
		got = got.List().Get(0)
	}
	switch fd.Kind() {
	case protoreflect.EnumKind:
		// prototext takes any number for an enum.
		if fd.Enum().Values().ByNumber(got.Enum()) == nil {
			c.problem(v.pos, "write "+name+": "+wanted(fd), "%s cannot be %s", name, clip(v.raw))
			return protoreflect.Value{}, false
		}
	case protoreflect.StringKind:
		// The kernel and the environment end a string at a NUL.
		if strings.ContainsRune(got.String(), 0) {
			c.problem(v.pos, "remove it", "%s holds a NUL byte", name)
			return protoreflect.Value{}, false
		}
		// To protobuf an empty string is an absent one: not_after: "" would be
		// a rule without an end.
		if got.String() == "" && !fd.IsList() && name != "value" {
			c.problem(v.pos, "remove the field, or write what it should be", "%s is empty", name)
			return protoreflect.Value{}, false
		}
	}
	return got, true
}

var sizeForm = regexp.MustCompile(`^["']?([0-9]{1,9}) *([KMGTkmgt])i?[Bb]?["']?$`)

// inBytes is the number that people mean by "1G".
func inBytes(raw string) (uint64, bool) {
	m := sizeForm.FindStringSubmatch(raw)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseUint(m[1], 10, 64)
	return n << (10 * (1 + strings.Index("KMGT", strings.ToUpper(m[2])))), true
}

// wanted says what a field's value looks like.
func wanted(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind:
		if fd.Name() == "umask" {
			return "octal digits with a leading 0, at most 0777"
		}
		return "a whole number from 0 to 65535, without quotes"
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

func names(fds protoreflect.FieldDescriptors) string {
	all := make([]string, fds.Len())
	for i := range all {
		all[i] = fds.Get(i).TextName()
	}
	return strings.Join(all, ", ")
}

// nearest is the field whose name is most like the one that was written, or "".
func nearest(written string, fds protoreflect.FieldDescriptors) string {
	best, least := "", len(written)/3+2
	for i := range fds.Len() {
		name := fds.Get(i).TextName()
		d := distance(strings.ToLower(written), name)
		if len(written) > 2 && strings.HasPrefix(name, written) {
			d = 1
		}
		if d < least {
			best, least = name, d
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
