package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/protocolbuffers/txtpbfmt/impl"
	"github.com/protocolbuffers/txtpbfmt/parser"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"jailctl/proto/jailpb"
)

// Format lays the text of a policy out in the usual way and keeps its comments.
// It refuses a text that is no Jail and one that would not keep its meaning:
// txtpbfmt adds a brace that is missing, and knows a dialect of its own.
func Format(text []byte) ([]byte, error) {
	before, comments, err := parse(text)
	if err != nil {
		return nil, err
	}
	// What is written in the text must not change how it is read: "txtpbfmt:"
	// comments, which could sort the rules, are passed over.
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
	after, kept, err := parse(out)
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

// parse reads the text of a policy without checking what it says.
func parse(text []byte) (*jailpb.Jail, []string, error) {
	_, comments, bad := scan(text)
	if len(bad) > 0 {
		c := checker{text: text, lines: lineStarts(text), problems: bad}
		p := c.located()[0]
		return nil, nil, fmt.Errorf("%d:%d: %s; %s", p.Line, p.Col, p.What, p.Fix)
	}
	jail := &jailpb.Jail{}
	if err := prototext.Unmarshal(text, jail); err != nil {
		line, col, what := textError(err)
		return nil, nil, fmt.Errorf("%d:%d: %s", line, col, what)
	}
	return jail, comments, nil
}
