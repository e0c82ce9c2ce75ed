// Package examples_test keeps the policies here free of mistakes on a Debian
// machine, by the host's own name service.
package examples_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"jailctl/policy"
	"jailctl/policy/source"
)

func TestPoliciesHaveNoMistakes(t *testing.T) {
	files, err := filepath.Glob("*" + source.Suffix)
	if err != nil || len(files) < 3 {
		t.Fatalf("examples are missing: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compiled, problems := source.Check(file, text, source.System())
			for _, p := range problems {
				t.Error(p)
			}
			if compiled == nil {
				return
			}
			if laidOut, err := source.Format(text); err != nil || !bytes.Equal(laidOut, text) {
				t.Errorf("not as jailctl policy fmt lays it out: %v", err)
			}
			// What apply would write is what the helper reads.
			if _, err := policy.Decode(source.Encode(compiled)); err != nil {
				t.Errorf("the helper would refuse it: %v", err)
			}
		})
	}
}
