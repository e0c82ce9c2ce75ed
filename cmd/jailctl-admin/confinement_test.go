package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"jailctl/internal/confine"
	"jailctl/proto/jailpb"
)

var update = flag.Bool("update", false, "write testdata anew")

// What explain says, for policies of each kind and kernels of each age.
func TestConfinementOfEveryKernel(t *testing.T) {
	var b strings.Builder
	for _, text := range []string{
		"",
		"network: true",
		"network: true network_ports { connect: 443 bind: 0 bind: 8080 }",
		"local_sockets: true",
		`promises: "stdio rpath"`,
		`promises: "stdio rpath proc exec" violation: KILL`,
		`unveil { path: "/usr" access: "rx" } unveil { path: "/data" access: "rwc" optional: true }`,
		"degrade: true",
	} {
		for abi := range confine.Newest + 1 {
			c, err := confined(&jailpb.Explanation{Root: "/srv/web", Uid: 1, Gid: 2, Confine: testConfine(text)}, abi)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "confine { %s } with Landlock %d\n", text, abi)
			if c.refusal != "" {
				fmt.Fprintf(&b, "  refused: %s\n", c.refusal)
			}
			// What is the same with every Landlock is written down once.
			if abi > 0 {
				c.Kept = slices.DeleteFunc(c.Kept, func(k keeps) bool { return !strings.HasPrefix(k.By, "Landlock") })
				c.Older = nil
			}
			for _, row := range c.rows() {
				fmt.Fprintf(&b, "  %-13s %s\n", row[0], row[1])
			}
		}
	}
	const golden = "testdata/confinement.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, lines := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i, line := range got {
		if i >= len(lines) || line != lines[i] {
			t.Fatalf("%s:%d: now %q; -update writes it anew", golden, i+1, line)
		}
	}
	if len(got) != len(lines) {
		t.Errorf("%s has %d lines more", golden, len(lines)-len(got))
	}
}

// A filter in force that this version would not have compiled is not explained.
func TestConfinementOfAnotherVersion(t *testing.T) {
	for name, change := range map[string]func(*jailpb.CompiledConfine){
		"another filter": func(c *jailpb.CompiledConfine) { c.Program[8] ^= 1 },
		"another once":   func(c *jailpb.CompiledConfine) { c.Once = 1 },
		"other promises": func(c *jailpb.CompiledConfine) { c.Written = []byte("\x1a\x05stdio") },
		"no filter":      func(c *jailpb.CompiledConfine) { c.Program = nil },
		"not a message":  func(c *jailpb.CompiledConfine) { c.Written = []byte("\xff") },
	} {
		c := testConfine("")
		change(c)
		if got, err := confined(&jailpb.Explanation{Confine: c}, confine.Newest); err == nil {
			t.Errorf("%s: %v", name, got.Kept)
		}
	}
}
