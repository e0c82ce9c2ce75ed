// Package contents reads the contents files that people write: it checks the text
// and puts a file and the presets that it includes into one Spec.
package contents

import "fmt"

// At is where something was asked for. Line and Col count from 1.
type At struct {
	File      string
	Line, Col int
}

func (a At) String() string { return fmt.Sprintf("%s:%d:%d", a.File, a.Line, a.Col) }

// Spec is what a jail is to contain: the whole of its contents file and of the
// presets, in the order of the texts, an included preset before what includes it.
// Paths are absolute and clean, unless they are said to be otherwise.
type Spec struct {
	Programs      []Path // absolute, or a name without "/"
	Packages      []Package
	Paths         []Path // may be patterns
	OptionalPaths []Path // may be patterns
	Users, Groups []Name
	Devices       []Name // each of DeviceNames
	Directories   []Directory
	Symlinks      []Symlink
	Files         []File
	Archive       *Path // the last one written
	Exclude       []Path
	// Keep is how many old trees to keep.
	Keep int
	// Sources are the files that were read, the contents file first.
	Sources []string
}

// Path is one path and where it stands.
type Path struct {
	At
	Path string
}

// Name is one name and where it stands.
type Name struct {
	At
	Name string
}

// Package is an installed package, alone or with all that it depends on.
type Package struct {
	At
	Name             string
	WithDependencies bool
}

// Directory has Owner and Group as written; "" is root.
type Directory struct {
	At
	Path, Owner, Group string
	Mode               uint32
	State              bool
}

// Symlink has a Target that may be anything.
type Symlink struct {
	At
	Path, Target string
}

// File is a file with its text.
type File struct {
	At
	Path string
	Text []byte
	Mode uint32
}

// DeviceNames are the devices that a jail can have, with their numbers (the kernel's
// Documentation/admin-guide/devices.txt) and modes.
var DeviceNames = map[string]struct{ Major, Minor, Mode uint32 }{
	"null":    {1, 3, 0o666},
	"zero":    {1, 5, 0o666},
	"full":    {1, 7, 0o666},
	"random":  {1, 8, 0o666},
	"urandom": {1, 9, 0o666},
	"tty":     {5, 0, 0o666},
}
