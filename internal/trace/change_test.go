package trace_test

import (
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"

	"jailctl/internal/confine"
	"jailctl/internal/trace"
)

// slowly is With, one after the other, and Fewest, each with each.
func slowly(all []confine.Path, more []confine.Path, first int) []confine.Path {
	all = slices.Clone(all)
	for _, u := range more {
		at := slices.IndexFunc(all, func(p confine.Path) bool { return p.Path == u.Path })
		if at < 0 {
			at = len(all)
			all = append(all, confine.Path{Path: u.Path})
		}
		all[at].Access = trace.Letters(all[at].Access, u.Access)
		for conflicts := confine.Conflicts(all); len(conflicts) > 0; conflicts = confine.Conflicts(all) {
			p := &all[conflicts[0].Path]
			p.Access = trace.Letters(p.Access, all[conflicts[0].Above].Access)
		}
	}
	for i := len(all) - 1; i >= first; i-- {
		if slices.ContainsFunc(all, func(p confine.Path) bool {
			return p.Path != all[i].Path && confine.Beneath(all[i].Path, p.Path) && trace.Letters(p.Access, "") == all[i].Access
		}) {
			all = slices.Delete(all, i, i+1)
		}
	}
	return all
}

func TestUnveilsAddUp(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	some := func() (all []confine.Path) {
		for range random.Intn(9) {
			path := ""
			for range random.Intn(4) {
				path += "/" + []string{"a", "b", "a-b", "a.b", "a0"}[random.Intn(5)]
			}
			if path == "" {
				path = "/"
			}
			all = append(all, confine.Path{Path: path, Access: []string{"r", "rx", "w", "rwc", "c"}[random.Intn(5)]})
		}
		return all
	}
	for range 20_000 {
		have := slowly(nil, some(), 0) // as a policy may have it
		more := some()
		want := slowly(have, more, len(have))
		if got := trace.Fewest(trace.With(have, more...), len(have)); !slices.Equal(got, want) {
			t.Fatalf("%v and %v: %v, want %v", have, more, got, want)
		}
	}
}

// Paths are not compared each with each: all of these would be 10^10.
func TestManyUnveils(t *testing.T) {
	var all []confine.Path
	for i := range 100_000 {
		all = append(all, confine.Path{Path: "/" + strings.Repeat("d/", i%7) + strconv.Itoa(i), Access: "r"})
	}
	all = append(all, confine.Path{Path: "/d/d", Access: "rx"})
	want := 2*14_286 + 1
	if got := len(trace.Fewest(trace.With(nil, all...), 0)); got != want {
		t.Errorf("%d paths, want %d", got, want)
	}
}
