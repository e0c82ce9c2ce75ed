package confine

import (
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a launch pays: Probe, Plan and Enforce, each time on a thread of its own,
// which ends confined. `go test -run - -bench . ./internal/confine`
func BenchmarkConfine(b *testing.B) {
	if os.Getuid() != 0 {
		b.Fatal("needs root")
	}
	for _, c := range []struct {
		name string
		want Want
	}{
		{"default", Want{}},
		{"unveil", Want{Unveil: []Path{
			{Path: "/usr", Access: "rx"},
			{Path: "/bin", Access: "rx"},
			{Path: "/lib", Access: "rx"},
			{Path: "/etc", Access: "r"},
			{Path: "/tmp", Access: "rwc"},
			{Path: "/dev", Access: "rw"},
			{Path: "/var", Access: "r"},
			{Path: "/opt", Access: "r"},
			{Path: "/home", Access: "rwc", Optional: true},
		}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var all [4][]time.Duration
			for b.Loop() {
				done := make(chan error)
				go func() {
					runtime.LockOSThread() // and never unlocked: the thread ends here
					err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
					t0 := time.Now()
					abi, perr := Probe()
					t1 := time.Now()
					w := c.want
					w.Unveil = slices.DeleteFunc(slices.Clone(w.Unveil), func(p Path) bool {
						st, err := os.Lstat(p.Path)
						return err != nil || st.Mode()&os.ModeSymlink != 0
					})
					t2 := time.Now()
					e, _ := Plan(w, abi)
					t3 := time.Now()
					eerr := Enforce(e)
					t4 := time.Now()
					for i, d := range []time.Duration{t1.Sub(t0), t3.Sub(t2), t4.Sub(t3), t1.Sub(t0) + t4.Sub(t2)} {
						all[i] = append(all[i], d)
					}
					if err == nil {
						err = perr
					}
					if err == nil {
						err = eerr
					}
					done <- err
				}()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			for i, unit := range []string{"probe-µs", "plan-µs", "enforce-µs", "all-µs"} {
				slices.Sort(all[i])
				b.ReportMetric(float64(all[i][len(all[i])/2].Nanoseconds())/1000, unit)
			}
		})
	}
}
