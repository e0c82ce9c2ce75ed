package textpb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/protocolbuffers/txtpbfmt/impl"
	"github.com/protocolbuffers/txtpbfmt/parser"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Format lays the text of a message of m's type out in the usual way and keeps its
// comments. It refuses a text that is none and one that would not keep its meaning:
// txtpbfmt adds a brace that is missing, and knows a dialect of its own.
func Format(text []byte, m proto.Message) ([]byte, error) {
	before, comments, err := parse(text, m)
	if err != nil {
		return nil, err
	}
	// What is written in the text must not change how it is read: "txtpbfmt:"
	// comments, which could sort its fields, are passed over.
	out := text
	for range 3 {
		nodes, err := impl.ParseWithMetaCommentConfig(slices.Clone(out), parser.Config{})
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			return nil, fmt.Errorf("the formatter cannot read it: %s", first)
		}
		next := parser.PrettyBytes(nodes, 0)
		if slices.Equal(next, out) {
			break
		}
		out = next
	}
	after, kept, err := parse(out, m)
	switch {
	case err != nil:
		return nil, fmt.Errorf("internal error: the formatter broke it: %w", err)
	case !proto.Equal(before, after):
		return nil, errors.New("internal error: the formatter changed what it means")
	case !slices.Equal(comments, kept):
		return nil, errors.New("the formatter would move or lose a comment; put comments above or beside a field")
	}
	return out, nil
}

// parse reads a text without checking what it says.
func parse(text []byte, m proto.Message) (proto.Message, []string, error) {
	_, comments, bad := scan(text)
	if len(bad) > 0 {
		t := Text{text: text, lines: lineStarts(text), mistakes: bad}
		p := t.Problems()[0]
		return nil, nil, fmt.Errorf("%d:%d: %s; %s", p.Line, p.Col, p.What, p.Fix)
	}
	m = m.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal(text, m); err != nil {
		line, col, what := textError(err)
		return nil, nil, fmt.Errorf("%d:%d: %s", line, col, what)
	}
	return m, comments, nil
}
