// Stands in until archive itself lands: whoever lands it deletes this file.

package archive

import "io"

type Kind int

const (
	Directory Kind = iota
	Regular
	Symlink
	HardLink
	Other
)

type Member struct {
	Path   string
	Kind   Kind
	Mode   uint32
	Size   int64
	Target string
}

func Read(path string, visit func(m Member, content io.Reader) error) error { return nil }
