package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A launch that takes longer has hung; it is killed and the run fails.
const launchLimit = 10 * time.Second

// unit is the launcher that the others are measured in.
const unit = "C pair"

// contender is one launcher and its command line.
type contender struct {
	name string
	argv []string
}

// spread is what is said of a sample. Ratio is that of its median to the unit's.
type spread struct {
	Median time.Duration `json:"median_ns"`
	P10    time.Duration `json:"p10_ns"`
	P90    time.Duration `json:"p90_ns"`
	Ratio  float64       `json:"ratio"`
}

// result is one contender's: wall-clock time, and processor time of its processes.
type result struct {
	Name string `json:"name"`
	spread
	CPU  spread          `json:"cpu"`
	wall []time.Duration // one for each round
}

func find(results []result, name string) *result {
	i := slices.IndexFunc(results, func(r result) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &results[i]
}

// measure launches every contender once a round and returns the results in the
// contenders' order.
func measure(ctx context.Context, who caller, contenders []contender, warmup, n int) ([]result, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	fd := null.Fd()
	attr := &syscall.ProcAttr{Dir: "/", Env: who.env, Files: []uintptr{fd, fd, fd}, Sys: &syscall.SysProcAttr{Credential: who.cred}}

	// The pid is forgotten as soon as it is waited for, so that the kill below
	// never reaches a stranger.
	var running atomic.Int64
	kill := func() {
		if pid := running.Load(); pid != 0 {
			syscall.Kill(int(pid), syscall.SIGKILL)
		}
	}
	defer context.AfterFunc(ctx, kill)()
	watchdog := time.AfterFunc(launchLimit, kill)
	defer watchdog.Stop()

	// No collection in the middle of a launch.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))

	wall, cpu := make([][]time.Duration, len(contenders)), make([][]time.Duration, len(contenders))
	shuffle := rand.New(rand.NewPCG(1, 2)) // the same order each time
	for round := range warmup + n {
		for _, i := range shuffle.Perm(len(contenders)) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			watchdog.Reset(launchLimit)
			t, c, err := launch(contenders[i].argv, attr, &running)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contenders[i].name, err)
			}
			if round >= warmup {
				wall[i], cpu[i] = append(wall[i], t), append(cpu[i], c)
			}
		}
	}
	results := make([]result, len(contenders))
	for i, c := range contenders {
		results[i] = result{c.name, spreadOf(wall[i]), spreadOf(cpu[i]), wall[i]}
	}
	u := *find(results, unit)
	for i := range results {
		r := &results[i]
		r.Ratio = float64(r.Median) / float64(u.Median)
		r.CPU.Ratio = float64(r.CPU.Median) / float64(u.CPU.Median)
	}
	return results, nil
}

// launch runs argv once, from just before fork until it has been waited for. cpu
// is that of the process and of those it waited for.
func launch(argv []string, attr *syscall.ProcAttr, running *atomic.Int64) (wall, cpu time.Duration, err error) {
	var (
		status syscall.WaitStatus
		usage  syscall.Rusage
	)
	begin := time.Now()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, 0, err
	}
	running.Store(int64(pid))
	for {
		_, err = syscall.Wait4(pid, &status, 0, &usage)
		if err != syscall.EINTR {
			break
		}
	}
	wall = time.Since(begin)
	running.Store(0)
	if err != nil {
		return 0, 0, err
	}
	if status != 0 {
		return 0, 0, fmt.Errorf("wait status %#x", uint32(status))
	}
	return wall, time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

func spreadOf(sample []time.Duration) spread {
	s := slices.Sorted(slices.Values(sample))
	return spread{Median: quantile(s, 0.5), P10: quantile(s, 0.1), P90: quantile(s, 0.9)}
}

// quantile interpolates between the two nearest values of a sorted sample.
func quantile(sorted []time.Duration, q float64) time.Duration {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + time.Duration((at-float64(i))*float64(sorted[i+1]-sorted[i]))
}
