// Package source reads the policies that people write: it checks the text,
// compiles it to what the helper reads, formats it, and says in words what a
// change changes. It serves the administrator's side only and must never be
// linked into the helper.
package source

import (
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"jailctl/internal/textpb"
	"jailctl/policy"
	"jailctl/proto/jailpb"
)

// MaxText is the size in bytes of the largest policy file.
const MaxText = textpb.MaxText

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
type Problem = textpb.Problem

// kind is what sets policies apart from other texts.
var kind = &textpb.Kind{
	Manual: "jailctl-policy(5)",
	Split:  "split it into several jails",
	Octal:  map[protoreflect.FullName]uint32{"jailctl.Jail.umask": 0o777},
	Most:   65535,
	// A variable may be set to nothing.
	Empty:     []protoreflect.FullName{"jailctl.Variable.value"},
	EmptyList: map[protoreflect.FullName]string{"jailctl.Command.args": "write no_args: true to forbid arguments"},
}

type checker struct {
	*textpb.Text
	text  []byte
	names Names
}

// ValidName tells whether name can be the name of a jail.
func ValidName(name string) bool { return policy.ValidName(name) }

func newChecker(file string, text []byte, names Names) *checker {
	return &checker{textpb.New(kind, file, text), text, names}
}

// Check reads the policy text of a file and compiles it. It finds all mistakes
// in one go, in the order of the text; only a text without one is compiled. The
// jail has the file's name, less directories and ".txtpb".
func Check(file string, text []byte, names Names) (*jailpb.Compiled, []Problem) {
	c := newChecker(file, text, names)
	name := strings.TrimSuffix(filepath.Base(file), Suffix)
	if !ValidName(name) {
		c.Note(0, "rename the file to up to 63 of a-z 0-9 _ . - and "+Suffix+", a letter or digit first",
			"%q cannot be the name of a jail", name)
	}
	compiled := c.check(name)
	if problems := c.Problems(); len(problems) > 0 {
		return nil, problems
	}
	return compiled, nil
}

func (c *checker) check(name string) *jailpb.Compiled {
	jail := &jailpb.Jail{}
	if !c.Read(jail) {
		return nil
	}
	compiled := c.compile(name, jail)
	if c.Mistakes() > 0 {
		return nil
	}
	if size := len(Encode(compiled)); size > MaxCompiled {
		c.Note(0, "name groups in place of users, or split it into several jails",
			"the compiled form has %d bytes, more than %d", size, MaxCompiled)
	}
	return compiled
}

// Root is the root that the policy text of a file names. Names of users are not
// resolved for it, so that it costs next to nothing.
func Root(file string, text []byte) (string, []Problem) {
	c := newChecker(file, text, nil)
	jail := &jailpb.Jail{}
	if c.Read(jail) {
		c.root(strings.TrimSuffix(filepath.Base(file), Suffix), jail)
	}
	return jail.Root, c.Problems()
}

// Format lays the text of a policy out in the usual way and keeps its comments.
func Format(text []byte) ([]byte, error) { return textpb.Format(text, &jailpb.Jail{}) }

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
