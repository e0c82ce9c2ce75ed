package contents

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"jailctl/internal/paths"
	"jailctl/internal/textpb"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// maxKeep is the most old trees that are kept.
const maxKeep = 100

// kind is what sets contents files apart from other texts.
var kind = &textpb.Kind{
	Manual: "jailctl-contents(5)",
	Split:  "move a part of it into a preset",
	Octal:  map[protoreflect.FullName]uint32{"jailctl.Directory.mode": 0o1777, "jailctl.File.mode": 0o755},
	Most:   maxKeep,
	Empty:  []protoreflect.FullName{"jailctl.File.text"},
	Binary: []protoreflect.FullName{"jailctl.File.text"},
}

// Load reads the contents file of a jail and the presets that it includes, and
// finds the mistakes in all of them; only texts without one become a Spec. The error
// is read's, for the file itself. From read it takes fs.ErrNotExist for a file that is
// not there, and nothing else.
func Load(file string, read func(path string) ([]byte, error)) (*Spec, []textpb.Problem, error) {
	text, err := read(file)
	if err != nil {
		return nil, nil, err
	}
	l := &loader{read: read, spec: &Spec{Keep: 1}, open: map[string]bool{}}
	l.file(file, text, nil)
	if problems := l.problems(); len(problems) > 0 {
		return nil, problems, nil
	}
	return l.spec, nil, nil
}

// Check finds the mistakes in one contents file or preset by itself: the presets
// that it includes are not read.
func Check(file string, text []byte) []textpb.Problem {
	l := &loader{spec: &Spec{}, open: map[string]bool{}}
	l.file(file, text, nil)
	return l.problems()
}

// Format lays the text of a contents file out in the usual way and keeps its comments.
func Format(text []byte) ([]byte, error) { return textpb.Format(text, &jailpb.Contents{}) }

// Presets are the names of all that can be included, ascending.
func Presets() []string {
	var names []string
	for _, dir := range paths.Presets() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), source.Suffix); ok && source.ValidName(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// loader puts one Spec together.
type loader struct {
	read  func(path string) ([]byte, error) // nil: include nothing
	spec  *Spec
	texts []*textpb.Text  // what spec.Sources names
	open  map[string]bool // files that were read; true while their includes are
}

// file reads one text into the Spec, after those that it includes; chain is how it
// came to be included itself.
func (l *loader) file(name string, text []byte, chain []string) {
	f := &file{textpb.New(kind, name, text), name, &jailpb.Contents{}, &Spec{}}
	l.texts = append(l.texts, f.Text)
	l.spec.Sources = append(l.spec.Sources, name)
	l.open[name] = true
	defer func() { l.open[name] = false }()
	base := strings.TrimSuffix(filepath.Base(name), source.Suffix)
	if !source.ValidName(base) {
		f.Note(0, "rename the file to up to 63 of a-z 0-9 _ . - and "+source.Suffix+", a letter or digit first",
			"%q cannot be the name of a jail or preset", base)
	}
	if !f.Read(f.m) {
		return
	}
	for i, preset := range f.m.Include {
		l.include(f, f.At(f.m, "include", i), preset, append(chain, base))
	}
	f.check()
	l.spec.add(f.spec)
}

// include reads a preset, unless that has been done already.
func (l *loader) include(f *file, pos int, name string, chain []string) {
	if !source.ValidName(name) {
		f.Note(pos, "write up to 63 of a-z 0-9 _ . -, a letter or digit first", "%q cannot be the name of a preset", name)
		return
	}
	if l.read == nil {
		return
	}
	for _, dir := range paths.Presets() {
		file := dir + "/" + name + source.Suffix
		if open, seen := l.open[file]; open {
			f.Note(pos, "remove one of these includes", "preset %q includes itself: %s", name, strings.Join(append(chain, name), ", "))
			return
		} else if seen {
			return
		}
		text, err := l.read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.Note(pos, "mend that, or remove the include", "cannot read preset %q: %v", name, err)
			return
		}
		l.file(file, text, chain)
		return
	}
	known := Presets()
	fix := "the presets are " + strings.Join(known, ", ")
	if near := textpb.Nearest(name, known); near != "" {
		fix = fmt.Sprintf("write %q", near)
	} else if len(known) == 0 {
		fix = "put it there"
	}
	f.Note(pos, fix, "there is no preset %q in %s", name, strings.Join(paths.Presets(), " or "))
}

// problems are those of each text, the contents file's first, with what the texts
// have against each other.
func (l *loader) problems() []textpb.Problem {
	var all []textpb.Problem
	for _, t := range l.texts {
		all = append(all, t.Problems()...)
	}
	all = append(all, l.spec.conflicts()...)
	place := map[string]int{}
	for i, file := range l.spec.Sources {
		place[file] = i
	}
	slices.SortStableFunc(all, func(a, b textpb.Problem) int {
		return cmp.Or(cmp.Compare(place[a.File], place[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return all
}

// add puts after s what a later file asks for. Where both have a directory, link or
// file of the same path, the later one is meant.
func (s *Spec) add(later *Spec) {
	again := map[string]bool{}
	for _, d := range later.Directories {
		again[d.Path] = true
	}
	for _, l := range later.Symlinks {
		again[l.Path] = true
	}
	for _, f := range later.Files {
		again[f.Path] = true
	}
	s.Directories = slices.DeleteFunc(s.Directories, func(d Directory) bool { return again[d.Path] })
	s.Symlinks = slices.DeleteFunc(s.Symlinks, func(l Symlink) bool { return again[l.Path] })
	s.Files = slices.DeleteFunc(s.Files, func(f File) bool { return again[f.Path] })

	s.Programs = append(s.Programs, later.Programs...)
	s.Packages = append(s.Packages, later.Packages...)
	s.Paths = append(s.Paths, later.Paths...)
	s.OptionalPaths = append(s.OptionalPaths, later.OptionalPaths...)
	s.Users = append(s.Users, later.Users...)
	s.Groups = append(s.Groups, later.Groups...)
	s.Devices = append(s.Devices, later.Devices...)
	s.Directories = append(s.Directories, later.Directories...)
	s.Symlinks = append(s.Symlinks, later.Symlinks...)
	s.Files = append(s.Files, later.Files...)
	s.Exclude = append(s.Exclude, later.Exclude...)
	if later.Archive != nil {
		s.Archive = later.Archive
	}
	if later.Keep >= 0 {
		s.Keep = later.Keep
	}
}
