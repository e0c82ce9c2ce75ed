package jailtree

import (
	"context"
	"strings"
	"testing"

	"jailctl/internal/contents"
	"jailctl/internal/host"
	"jailctl/internal/packages"
	"jailctl/policy/source"
)

func (b *bench) plan() (*Plan, error) {
	h := host.New(b.host)
	return Make(context.Background(), b.spec, Host{Files: h, Packages: packages.Open(h), Names: source.System()})
}

// Nothing is planned inside a state directory, whatever way leads there: whoever owns
// it could have put a link in the way of what writes, or owns, or compares it.
func TestNothingInState(t *testing.T) {
	for name, ask := range map[string]func(*contents.Spec){
		"a directory": func(s *contents.Spec) {
			s.Directories = append(s.Directories, contents.Directory{Path: "/var/run/x/y", Mode: 0o755})
		},
		"state":     func(s *contents.Spec) { s.Directories = append(s.Directories, state("/var/run/x")) },
		"a symlink": func(s *contents.Spec) { s.Symlinks = []contents.Symlink{{Path: "/var/run/x", Target: "y"}} },
		"a file":    func(s *contents.Spec) { s.Files = []contents.File{{Path: "/var/run/x/y", Mode: 0o644}} },
		"state known later": func(s *contents.Spec) {
			s.Directories = append(s.Directories, contents.Directory{Path: "/a/run/x", Mode: 0o755})
		},
		"a file, as the tree's own link leads": func(s *contents.Spec) {
			s.Symlinks = []contents.Symlink{{Path: "/short", Target: "run"}}
			s.Files = []contents.File{{Path: "/short/x", Mode: 0o644}}
		},
		"an account": func(s *contents.Spec) {
			s.Symlinks = []contents.Symlink{{Path: "/etc", Target: "run"}}
			s.Users = []contents.Name{{Name: "root"}}
		},
		"a device": func(s *contents.Spec) {
			s.Symlinks = []contents.Symlink{{Path: "/dev", Target: "run"}}
			s.Devices = []contents.Name{{Name: "null"}}
		},
		"a path":    func(s *contents.Spec) { s.Paths = []contents.Path{path1("/var/run/dir/file")} },
		"a pattern": func(s *contents.Spec) { s.Paths = []contents.Path{path1("/var/*/dir/file"), path1("/r*/dir")} },
		"itself":    func(s *contents.Spec) { s.Paths = []contents.Path{path1("/run")} },
		"all":       func(s *contents.Spec) { s.Paths = []contents.Path{path1("/var"), path1("/a")} },
	} {
		b := newBench(t)
		b.put(t, "/run/dir/file", "text", 0o644)
		b.link(t, "/var/run", "../run")
		b.link(t, "/a/run", "/run")
		b.spec.Paths = []contents.Path{path1("/usr/share/data")}
		b.spec.Directories = []contents.Directory{state("/run")}
		ask(b.spec)
		plan, err := b.plan()
		declared := name != "a pattern" && name != "all"
		if declared != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			if _, told := err.(Problems); !told || !strings.Contains(err.Error(), "state") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for _, e := range plan.Entries {
			if strings.HasPrefix(string(e.Path), "/run/") {
				t.Errorf("%s: %q", name, e.Path)
			}
			if string(e.Path) != "/run" && e.State {
				t.Errorf("%s: state %q", name, e.Path)
			}
		}
	}
}
