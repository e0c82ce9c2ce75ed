package jailtree

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"jailctl/internal/contents"
)

// Trees on file systems that share blocks, list directories in their own way, or have
// other times than the one that the tests are on.
func TestFileSystems(t *testing.T) {
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			image, at := dir+"/image."+kind, dir+"/on."+kind
			do(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20), os.Mkdir(at, 0o755))
			for _, argv := range [][]string{{"mkfs." + kind, "-q", image}, {"mount", "-t", kind, "-o", "loop", image, at}} {
				if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%q: %v: %s", argv, err, out)
				}
			}
			defer exec.Command("umount", "--lazy", at).Run()
			cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^Test(Shared|Life|NothingToDo|Fresh|KillEverywhere|WrittenAtTheLastMoment|RemoveKilled|Changes)$")
			cmd.Env = append(os.Environ(), "JAILTREE_ON="+at)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "\n--- PASS: ") != 8 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// Copies share the blocks of what they are copies of, where the file system can do that.
func TestShared(t *testing.T) {
	if os.Getenv("JAILTREE_ON") == "" {
		return // TestFileSystems runs it
	}
	b := newBench(t)
	b.put(t, "/usr/share/data/large", strings.Repeat("large\n", 1<<16), 0o644)
	b.spec.Paths = []contents.Path{path1("/usr/share/data")}
	b.build(t)
	name := b.root + "/usr/share/data/large"
	out, err := exec.Command("filefrag", "-s", "-v", name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "shared") {
		t.Errorf("%v: %s", err, out)
	}
	if len(b.verify(t)) > 0 || read(t, name) != read(t, b.host+"/usr/share/data/large") {
		t.Error("another content")
	}
}
