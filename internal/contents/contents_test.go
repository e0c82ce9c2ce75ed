package contents

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"

	"jailctl/internal/paths"
	"jailctl/internal/textpb"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

// example has every field, in an order of its own.
const example = `# proto-file: proto/contents.proto
# proto-message: Contents
description: "a web site's tools"
include: "dns"  # names
programs: ["/usr/bin/curl", "git"]
packages: "python3-minimal"
with_dependencies: true
paths: "/etc/ssl/certs"
paths: "/usr/share/a name;$()\n\377/*[a-z]?"
optional_paths: "/etc/localtime"
users: "daemon"
groups: "1"
devices: ["null", "tty"]
directories { path: "/data" owner: "daemon" group: "adm" mode: 0750 state: true }
directories { path: "/" mode: 0711 }
symlinks { path: "/bin" target: "usr/bin" }
files { path: "/etc/motd" text: "hello\n\000" mode: 0600 }
files { path: "/etc/empty" }
archive: "/srv/images/alpine.tar.gz"
exclude: "/usr/share/doc"
keep: 3
`

const dns = `optional_paths: "/etc/resolv.conf"
directories { path: "/data" }
symlinks { path: "/etc/motd" target: "x" }
files { path: "/bin" }
archive: "/srv/base.tar"
keep: 0
`

// web and shipped are where the files of tests are.
const (
	web     = "/etc/jailctl/contents/web.txtpb"
	own     = "/etc/jailctl/presets/"
	shipped = "/usr/local/share/jailctl/presets/"
)

// disk is a reader of files that need not be anywhere.
func disk(files map[string]string) func(string) ([]byte, error) {
	return func(file string) ([]byte, error) {
		text, ok := files[file]
		switch {
		case !ok:
			return nil, fs.ErrNotExist
		case text == "unsafe":
			return nil, fmt.Errorf("%q is writable by everyone", file)
		}
		return []byte(text), nil
	}
}

func load(t *testing.T, files map[string]string) *Spec {
	t.Helper()
	spec, problems, err := Load(web, disk(files))
	for _, p := range problems {
		t.Error(p)
	}
	if err != nil || spec == nil {
		t.Fatal(err)
	}
	return spec
}

func TestExample(t *testing.T) {
	at := func(line, col int) At { return At{web, line, col} }
	dnsAt := func(line, col int) At { return At{shipped + "dns.txtpb", line, col} }
	want := &Spec{
		Programs:      []Path{{at(5, 12), "/usr/bin/curl"}, {at(5, 29), "git"}},
		Packages:      []Package{{at(6, 11), "python3-minimal", true}},
		Paths:         []Path{{at(8, 8), "/etc/ssl/certs"}, {at(9, 8), "/usr/share/a name;$()\n\xff/*[a-z]?"}},
		OptionalPaths: []Path{{dnsAt(1, 17), "/etc/resolv.conf"}, {at(10, 17), "/etc/localtime"}},
		Users:         []Name{{at(11, 8), "daemon"}},
		Groups:        []Name{{at(12, 9), "1"}},
		Devices:       []Name{{at(13, 11), "null"}, {at(13, 19), "tty"}},
		// What the file says of a path counts, not what the preset does.
		Directories: []Directory{{at(14, 1), "/data", "daemon", "adm", 0o750, true}, {at(15, 1), "/", "", "", 0o711, false}},
		Symlinks:    []Symlink{{at(16, 1), "/bin", "usr/bin"}},
		Files:       []File{{at(17, 1), "/etc/motd", []byte("hello\n\x00"), 0o600}, {at(18, 1), "/etc/empty", nil, 0o644}},
		Archive:     &Path{at(19, 10), "/srv/images/alpine.tar.gz"},
		Exclude:     []Path{{at(20, 10), "/usr/share/doc"}},
		Keep:        3,
		Sources:     []string{web, shipped + "dns.txtpb"},
	}
	got := load(t, map[string]string{web: example, shipped + "dns.txtpb": dns})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if problems := Check(web, []byte(example)); problems != nil {
		t.Error(problems)
	}
}

// TestIncludes has presets before what includes them, each once, the administrator's
// own in place of ours.
func TestIncludes(t *testing.T) {
	files := map[string]string{
		web:                      `include: ["b", "a"] programs: "web"`,
		shipped + "a.txtpb":      `programs: "a"`,
		own + "b.txtpb":          `include: "a" include: "c" programs: "b" keep: 7`,
		own + "c.txtpb":          `include: "a" programs: "own"`,
		shipped + "c.txtpb":      `programs: "shipped"`,
		shipped + "unused.txtpb": `nonsense`,
	}
	spec := load(t, files)
	var got []string
	for _, p := range spec.Programs {
		got = append(got, p.Path)
	}
	if s := fmt.Sprint(got); s != "[a own b web]" || spec.Keep != 7 {
		t.Errorf("programs %s, keep %d", s, spec.Keep)
	}
	if want := []string{web, own + "b.txtpb", shipped + "a.txtpb", own + "c.txtpb"}; !slices.Equal(spec.Sources, want) {
		t.Errorf("sources %q", spec.Sources)
	}
	files[web] = `programs: "x"`
	if spec := load(t, files); spec.Keep != 1 || spec.Archive != nil {
		t.Errorf("without a word of it: keep %d, archive %v", spec.Keep, spec.Archive)
	}
	if _, problems, err := Load(own+"none.txtpb", disk(files)); err == nil || problems != nil {
		t.Errorf("a file that is not there: %v, %v", problems, err)
	}
}

// TestIncludeMistakes has mistakes that need two files; those of the contents file
// come first.
func TestIncludeMistakes(t *testing.T) {
	const a, b = shipped + "a.txtpb", shipped + "b.txtpb"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{
			"loop",
			map[string]string{web: `include: "a"`, a: `include: "b"`, b: "programs: \"x\"\ninclude: [\"a\"]"},
			b + `:2:11: preset "a" includes itself: web, a, b, a; remove one of these includes`,
		},
		{
			"itself",
			map[string]string{web: `include: "a"`, a: `include: "a"`},
			a + `:1:10: preset "a" includes itself: web, a, a; remove one of these includes`,
		},
		{
			"unknown",
			map[string]string{web: `include: ["a", "xyzzy"]`, a: `programs: "x"`},
			web + `:1:16: there is no preset "xyzzy" in DIR/etc/presets or DIR/share/presets; the presets are dns, shell, tls`,
		},
		{
			"nearly known",
			map[string]string{web: `include: "shel"`},
			web + `:1:10: there is no preset "shel" in DIR/etc/presets or DIR/share/presets; write "shell"`,
		},
		{
			"unsafe",
			map[string]string{web: `include: "a"`, a: "unsafe"},
			web + `:1:10: cannot read preset "a": "` + a + `" is writable by everyone; mend that, or remove the include`,
		},
		{
			"mistakes in both",
			map[string]string{web: "include: \"a\"\ninclude: \"a\"\npaths: \"x\"", a: "rubbish: 1"},
			web + `:3:8: paths "x" is not an absolute path; write it from the / of the host ` +
				a + `:1:1: unknown field rubbish; the fields here are description, include, programs, packages, with_dependencies, paths, optional_paths, users, groups, devices, directories, symlinks, files, archive, exclude, keep`,
		},
		{
			"unreadable, twice included",
			map[string]string{web: "include: [\"a\", \"a\"]", a: "}"},
			a + `:1:1: "}" stands where a field is expected; remove it, or open what it closes`,
		},
		{
			"a path in another file's state",
			map[string]string{web: "include: \"a\"\ndirectories { path: \"/etc\" state: true }", a: `paths: "/etc/ssl"`},
			a + `:1:8: "/etc/ssl" is in the state directory "/etc" of ` + web + `:2, which builds leave alone; remove one of the two, or move it`,
		},
		{
			"accounts and a file of them",
			map[string]string{web: "include: \"a\"\nfiles { path: \"/etc/passwd\" }", a: `users: "daemon"`},
			web + `:2:1: "/etc/passwd" is a file, and ` + a + `:1 makes it a list of accounts; remove one of the two`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			sysconf, share := paths.Sysconf, paths.Share
			defer func() { paths.Sysconf, paths.Share = sysconf, share }()
			paths.Sysconf, paths.Share = dir+"/etc", dir+"/share"
			for _, p := range []string{"etc/presets/tls", "etc/presets/dns", "share/presets/shell", "share/presets/tls", "share/presets/Not"} {
				put(t, filepath.Join(dir, p+".txtpb"), "")
			}
			moved := func(s string) string {
				s = strings.ReplaceAll(s, own, dir+"/etc/presets/")
				return strings.ReplaceAll(s, shipped, dir+"/share/presets/")
			}
			files := map[string]string{}
			for file, text := range test.files {
				files[moved(file)] = text
			}
			spec, problems, err := Load(web, disk(files))
			if spec != nil || err != nil {
				t.Fatalf("%v, %v", spec, err)
			}
			got := strings.Trim(fmt.Sprint(problems), "[]")
			if want := strings.ReplaceAll(moved(test.want), "DIR", dir); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
	t.Run("no presets at all", func(t *testing.T) {
		sysconf, share := paths.Sysconf, paths.Share
		defer func() { paths.Sysconf, paths.Share = sysconf, share }()
		paths.Sysconf, paths.Share = t.TempDir(), t.TempDir()
		_, problems, _ := Load(web, disk(map[string]string{web: `include: "a"`}))
		if len(problems) != 1 || problems[0].Fix != "put it there" {
			t.Error(problems)
		}
	})
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestShipped has no mistakes in the presets that come with jailctl, each laid out as
// policy fmt does, and each with a line of what it is for.
func TestShipped(t *testing.T) {
	presets, err := filepath.Glob("../../presets/*" + source.Suffix)
	if err != nil || len(presets) < 2 {
		t.Fatalf("presets %q: %v", presets, err)
	}
	read := func(file string) ([]byte, error) {
		return os.ReadFile(strings.Replace(file, shipped, "../../presets/", 1))
	}
	for _, file := range presets {
		spec, problems, err := Load(file, read)
		if err != nil || spec == nil {
			t.Errorf("%s: %v %v", file, problems, err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Format(text); err != nil || string(out) != string(text) {
			t.Errorf("%s is not as policy fmt lays it out: %v", file, err)
		}
		m := &jailpb.Contents{}
		if err := prototext.Unmarshal(text, m); err != nil || m.Description == "" {
			t.Errorf("%s has no description: %v", file, err)
		}
	}
}

// TestFormat keeps what a file means, its comments, and bytes that are no text.
func TestFormat(t *testing.T) {
	once, err := Format([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	twice, err := Format(once)
	if err != nil || string(once) != string(twice) {
		t.Errorf("%s becomes %s: %v", once, twice, err)
	}
	for _, want := range []string{
		"# proto-message: Contents\n", "include: \"dns\"  # names\n", `\377`, "directories { path: \"/\" mode: 0711 }\n",
	} {
		if !strings.Contains(string(once), want) {
			t.Errorf("there is no %q in %s", want, once)
		}
	}
	if out, err := Format([]byte("root: \"/srv\"\n")); err == nil {
		t.Errorf("a policy becomes %q", out)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(example, dns)
	for _, test := range mistakes {
		if len(test.text) < 1000 {
			f.Add(test.text, `include: "web"`)
		}
	}
	oneLine := regexp.MustCompile(`^[^\n\x{a0}]+$`)
	f.Fuzz(func(t *testing.T, text, preset string) {
		spec, problems, err := Load(web, disk(map[string]string{web: text, shipped + "dns.txtpb": preset, own + "a.txtpb": preset}))
		if (spec == nil) != (len(problems) > 0 || err != nil) {
			t.Fatalf("spec %v, problems %v", spec, problems)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Col < 1 || p.What == "" || p.Fix == "" || strings.Contains(p.What, "internal error") || !oneLine.MatchString(p.Error()) {
				t.Errorf("%q: %v", text, p)
			}
		}
		if spec == nil {
			return
		}
		if err := prototext.Unmarshal([]byte(text), &jailpb.Contents{}); err != nil {
			t.Errorf("%q is accepted, and prototext says: %v", text, err)
		}
		if out, err := Format([]byte(text)); err == nil && Check(web, out) != nil {
			t.Errorf("%q becomes %q, which has mistakes", text, out)
		}
		for _, list := range [][]Path{spec.Paths, spec.OptionalPaths, spec.Exclude} {
			for _, p := range list {
				if !path.IsAbs(p.Path) || path.Clean(p.Path) != p.Path || p.Path == "/" || strings.Contains(p.Path, "\x00") {
					t.Errorf("%q: path %q", text, p.Path)
				}
			}
		}
		for _, d := range spec.Directories {
			if d.Mode > 0o1777 || !d.State && (d.Mode&0o022 != 0 || !isRoot(d.Owner)) || d.State && d.Path == "/" {
				t.Errorf("%q: directory %+v", text, d)
			}
		}
		for _, file := range spec.Files {
			if file.Mode&^0o755 != 0 || file.Path == "/" {
				t.Errorf("%q: file %+v", text, file)
			}
		}
		if spec.Keep < 0 || spec.Keep > 100 || len(text) > textpb.MaxText {
			t.Errorf("%q: keep %d", text, spec.Keep)
		}
	})
}
