package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"
)

// manyFiles is how many files the jail has that jailctl verify is measured with, and
// typical the size of the middle one: as on a system, most are small, and few large
// ones make most of the bytes. That is log-normal; 318 MB in all.
const (
	manyFiles = 10000
	typical   = 4300
)

// verifyReport is how fast jailctl verify reads, in GB/s, beside others.
type verifyReport struct {
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Jailctl float64 `json:"jailctl_gb_s"`
	// One process of sha256sum(1) over the same files.
	Sum float64 `json:"sha256sum_gb_s"`
	// Go's SHA-256 of as many bytes that are in memory, on all processors: what a
	// program that did nothing but hash would take.
	Memory     float64 `json:"memory_gb_s"`
	Processors int     `json:"processors"`
	// Medians of the rounds' ratios of times: sha256sum's to jailctl's, and what of
	// jailctl's time hashing alone takes.
	ToSum    float64 `json:"times_sha256sum"`
	ToMemory float64 `json:"of_memory"`
}

// verify measures n rounds of jailctl verify, of these files.
func (b *builds) verify(n int, files []string, size int64) (rep verifyReport, err error) {
	const name = "files"
	if err := b.ours(content{name: name, paths: []string{b.source()}}); err != nil {
		return rep, err
	}
	if err := b.command(b.prefix+"/bin/jailctl", "build", "--quiet", name); err != nil {
		return rep, err
	}
	verify := []string{b.prefix + "/bin/jailctl", "verify", name}
	sum := append([]string{"/usr/bin/sha256sum", "--"}, files...)
	var times [3][]time.Duration
	for round := range n + 1 {
		pair, err := b.pair(b.root(name)+b.source(), round, verify, sum)
		if err != nil {
			return rep, err
		}
		if round == 0 {
			continue
		}
		for i, t := range []time.Duration{pair[0], pair[1], hashMemory(size)} {
			times[i] = append(times[i], t)
		}
	}
	speed := func(sample []time.Duration) float64 { return float64(size) / 1e9 / spreadOf(sample).Median.Seconds() }
	return verifyReport{
		Files: len(files), Bytes: size, Jailctl: speed(times[0]), Sum: speed(times[1]), Memory: speed(times[2]), Processors: runtime.GOMAXPROCS(0),
		ToSum: paired(times[1], times[0]), ToMemory: paired(times[2], times[0]),
	}, nil
}

// generate makes many files, the same each time, a hundred to a directory.
func generate(dir string) (names []string, size int64, err error) {
	random := rand.New(rand.NewPCG(3, 4))
	noise := rand.NewChaCha8([32]byte{5})
	for i := range manyFiles {
		if i%100 == 0 {
			if err := os.MkdirAll(fmt.Sprintf("%s/%03d", dir, i/100), 0o755); err != nil {
				return nil, 0, err
			}
		}
		text := make([]byte, int(typical*math.Exp(2*random.NormFloat64())))
		noise.Read(text)
		name := fmt.Sprintf("%03d/%02d", i/100, i%100)
		if err := os.WriteFile(dir+"/"+name, text, 0o644); err != nil {
			return nil, 0, err
		}
		names, size = append(names, name), size+int64(len(text))
	}
	return names, size, nil
}

// hashMemory is how long it takes to hash so many bytes on all processors.
func hashMemory(size int64) time.Duration {
	n := int64(runtime.GOMAXPROCS(0))
	var hashers sync.WaitGroup
	begin := time.Now()
	for range n {
		hashers.Go(func() {
			block, h := make([]byte, 1<<18), sha256.New()
			for left := size / n; left > 0; left -= int64(len(block)) {
				h.Write(block[:min(left, int64(len(block)))])
			}
			h.Sum(nil)
		})
	}
	hashers.Wait()
	return time.Since(begin)
}

func (v verifyReport) print(out io.Writer) {
	fmt.Fprintf(out, "jailctl verify: %d files, %d MB: %.2f GB/s; sha256sum: %.2f GB/s, jailctl is %.1f times faster; "+
		"SHA-256 in memory on %d processors: %.2f GB/s, which is %.0f %% of jailctl's time\n",
		v.Files, v.Bytes/1e6, v.Jailctl, v.Sum, v.ToSum, v.Processors, v.Memory, 100*v.ToMemory)
}
