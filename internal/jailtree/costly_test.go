package jailtree

import (
	"fmt"
	"os"
	"testing"

	"jailctl/internal/contents"
)

// A chain of more links than are followed leads nowhere: what an archive has behind one,
// a name of a file of its own above all, is not made out of the tree.
func TestArchiveTooManyLinks(t *testing.T) {
	for _, kind := range []string{"same a0/x /0", "file 644 a0/x", "dir 755 a0/x/", "link a0/x y", "same a0/d/x /0"} {
		b := newBench(t)
		outside := b.host + "/outside"
		do(t, os.Mkdir(outside, 0o755))
		do(t, os.Mkdir(outside+"/d", 0o755))
		lines := []string{"file 644 0 evil"}
		for i := range 41 {
			lines = append(lines, fmt.Sprintf("link a%d a%d", i, i+1))
		}
		b.tar(t, append(lines, "link a41 "+outside, kind))
		b.put(t, b.archive(), read(t, b.archive()), 0o600)
		b.spec.Archive = &contents.Path{At: contents.At{File: "web", Line: 1, Col: 1}, Path: b.archive()}
		s := b.open(t)
		_, err := s.Build(t.Context(), b.building())
		if _, told := err.(Problems); !told {
			t.Errorf("%s: %v", kind, err)
		}
		s.Close()
		for _, dir := range []string{outside, outside + "/d"} {
			names, _ := os.ReadDir(dir)
			if len(names) > 1 || len(names) == 1 && names[0].Name() != "d" {
				t.Errorf("%s: outside is %v", kind, names)
			}
		}
	}
}
