package main

import (
	"testing"
	"time"
)

func TestSpreadOf(t *testing.T) {
	sample := make([]time.Duration, 0, 101)
	for i := range 101 {
		sample = append(sample, time.Duration((i*37)%101)) // 0 to 100 in no order
	}
	if got, want := spreadOf(sample), (spread{Median: 50, P10: 10, P90: 90}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := spreadOf([]time.Duration{10, 20}), (spread{Median: 15, P10: 11, P90: 19}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestGate(t *testing.T) {
	ran := func(jailctl, doas, sudo time.Duration) []result {
		return []result{
			{Name: jailctlName, spread: spread{Median: jailctl, Ratio: float64(jailctl) / 100}},
			{Name: "doas", spread: spread{Median: doas}},
			{Name: "sudo", spread: spread{Median: sudo}},
		}
	}
	for _, test := range []struct {
		name    string
		results []result
		max     float64
		missed  int
	}{
		{"passed", ran(300, 500, 600), 3.4, 0},
		{"just passed", ran(340, 340, 340), 3.4, 0},
		{"over the ratio", ran(350, 500, 600), 3.4, 1},
		{"slower than doas", ran(300, 200, 600), 3.4, 1},
		{"slower than sudo", ran(300, 500, 200), 3.4, 1},
		{"all", ran(900, 500, 600), 3.4, 3},
		{"no gate", ran(900, 500, 600), 0, 0},
		{"no jailctl", ran(900, 500, 600)[1:], 3.4, 0},
		{"no others", ran(300, 0, 0)[:1], 3.4, 0},
	} {
		if got := gate(test.results, test.max); len(got) != test.missed {
			t.Errorf("%s: got %q, want %d", test.name, got, test.missed)
		}
	}
}

func TestRootsAlone(t *testing.T) {
	for _, dir := range []string{"", "opt", "/tmp", "/nonexistent.bench", "/op t", "/proc/self/cwd"} {
		if rootsAlone(dir) == nil {
			t.Errorf("%q: taken", dir)
		}
	}
}
