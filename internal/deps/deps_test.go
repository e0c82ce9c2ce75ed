// Package deps holds the list of what runs as root to what is argued for.
package deps

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// list is the committed closure: a line a package, "path  reason" for those that
// the helper's own packages import, the bare path for what these bring along.
const list = "../../cmd/jailhelper/deps.txt"

// never are packages that must not come back under any name of an import, and why.
var never = map[string]string{
	"net":       "resolver and poller run as root, and obey the environment",
	"os":        "its init wraps the caller's descriptors",
	"os/user":   "without cgo it believes $USER",
	"os/exec":   "the helper starts nothing but the command",
	"fmt":       "reflection over what callers wrote",
	"flag":      "the helper has no options",
	"log":       "writes to descriptor 2",
	"plugin":    "loads code",
	"cgo":       "libc has its own environment variables",
	"unique":    "starts goroutines",
	"os/signal": "handlers of its own",
	"google.golang.org/protobuf/encoding/prototext":   "parses what people write",
	"google.golang.org/protobuf/encoding/protowire":   "its dependency opens the executable by name at init",
	"google.golang.org/protobuf/reflect/protoreflect": "2 MB of reflection",
	"google.golang.org/protobuf/runtime/protoimpl":    "2 MB of reflection",
	"google.golang.org/protobuf/internal/detrand":     "opens the executable by name at init",
	"jailctl/policy/source":                           "parses what people write",
	"jailctl/client":                                  "the caller's side",
}

func TestHelperImports(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "list", "-deps", "jailctl/cmd/jailhelper")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		for _, p := range got {
			if why, bad := never[p]; bad {
				t.Errorf("%s: the helper imports %s: %s", arch, p, why)
			}
		}
		b, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		reasons := map[string]bool{}
		for _, line := range strings.Split(string(b), "\n") {
			if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
				want = append(want, f[0])
				reasons[f[0]] = len(f) > 1
			}
		}
		slices.Sort(want)
		for _, p := range got {
			if !slices.Contains(want, p) {
				t.Errorf("%s: the helper now imports %s: argue for it in %s, or get rid of it", arch, p, list)
			}
		}
		for _, p := range want {
			if !slices.Contains(got, p) {
				t.Errorf("%s: %s lists %s, which the helper no longer imports", arch, list, p)
			}
		}
		for _, p := range direct(t, got) {
			if !reasons[p] {
				t.Errorf("%s is imported by our own code and has no reason in %s", p, list)
			}
		}
	}
}

// direct are the packages that those of ours among all import.
func direct(t *testing.T, all []string) []string {
	t.Helper()
	args := []string{"list", "-f", `{{join .Imports "\n"}}`}
	for _, p := range all {
		if strings.HasPrefix(p, "jailctl/") {
			args = append(args, p)
		}
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Fields(string(out))
	slices.Sort(found)
	return slices.Compact(found)
}
