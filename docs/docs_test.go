// Package docs_test keeps the manuals true to the schema and the command line.
package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"jailctl/internal/confine"
	"jailctl/internal/contents"
	"jailctl/internal/paths"
	"jailctl/internal/seccomp"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

var manuals = []string{"jailctl.1", "jailctl-policy.5", "jailctl-contents.5", "jailhelper.8"}

// rule is the rule of decision, in the same words everywhere.
const rule = "The first rule that matches caller and command decides; no rule matches: denied."

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestManualsPassMandocLint(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Fatal("there is no mandoc to check the manuals with; install it: apt-get install mandoc")
	}
	for _, m := range manuals {
		if out, err := exec.Command(mandoc, "-T", "lint", "-W", "warning", m).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", m, err, out)
		}
	}
}

func TestPolicyManualNamesEveryField(t *testing.T) {
	messages := jailpb.File_policy_proto.Messages()
	if messages.Len() == 0 {
		t.Fatal("policy.proto has no messages")
	}
	for i := range messages.Len() {
		namesEveryField(t, "jailctl-policy.5", messages.Get(i))
	}
}

// What contents.proto has besides is the manifest, which nobody writes.
func TestContentsManualNamesEveryField(t *testing.T) {
	for _, name := range []protoreflect.Name{"Contents", "Directory", "Symlink", "File"} {
		namesEveryField(t, "jailctl-contents.5", jailpb.File_contents_proto.Messages().ByName(name))
	}
}

func namesEveryField(t *testing.T, file string, m protoreflect.MessageDescriptor) {
	t.Helper()
	manual := read(t, file)
	if m == nil || m.Fields().Len() == 0 {
		t.Fatal("a message is missing, or has no fields")
	}
	for i := range m.Fields().Len() {
		if f := m.Fields().Get(i); !describes(manual, f) {
			t.Errorf("%s does not name %s.%s", file, m.Name(), f.Name())
		}
	}
}

// What the manual says of devices is what a jail can have.
func TestContentsManualNamesEveryDevice(t *testing.T) {
	_, list, _ := strings.Cut(read(t, "jailctl-contents.5"), "\n.It Cm devices ")
	list, _, _ = strings.Cut(list, "There are no others.")
	for name := range contents.DeviceNames {
		if !strings.Contains(list, "\n.Ql "+name) {
			t.Errorf("jailctl-contents.5 does not name the device %s", name)
		}
	}
	if n := strings.Count(list, "\n.Ql "); n != len(contents.DeviceNames) {
		t.Errorf("jailctl-contents.5 names %d devices, and there are %d", n, len(contents.DeviceNames))
	}
}

// The manual lists the presets that are shipped, as they describe themselves.
func TestContentsManualNamesEveryPreset(t *testing.T) {
	_, list, _ := strings.Cut(read(t, "jailctl-contents.5"), "\nThese come with jailctl.\n")
	list, _, _ = strings.Cut(list, "\n.Sh ")
	files, err := filepath.Glob("../presets/*" + source.Suffix)
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		found := regexp.MustCompile(`(?m)^description: "(.*)"$`).FindStringSubmatch(read(t, file))
		if found == nil {
			t.Fatalf("%s does not describe itself", file)
		}
		item := "\n.It Cm " + strings.TrimSuffix(filepath.Base(file), source.Suffix) + "\n" + found[1] + "\n"
		if !strings.Contains(list, item) {
			t.Errorf("jailctl-contents.5 does not have%s", item)
		}
	}
	if n := strings.Count(list, "\n.It Cm "); n != len(files) {
		t.Errorf("jailctl-contents.5 lists %d presets, and there are %d", n, len(files))
	}
}

// describes reports whether the manual has the field as a term (.Cm name).
func describes(manual string, f protoreflect.FieldDescriptor) bool {
	term := regexp.MustCompile(`(?m)^\.(It |)(.* )?(Cm |Cm (\w+ , )+)` + string(f.Name()) + `\b`)
	return term.MatchString(manual)
}

// What the manual says of kernels is what the helper goes by.
func TestPolicyManualSaysWhichKernelKeepsWhat(t *testing.T) {
	_, missing := confine.Plan(confine.Want{TCP: confine.Must, Unveil: []confine.Path{{Path: "/", Access: "rc"}}}, 0)
	if len(missing) < 7 {
		t.Fatalf("a kernel without Landlock lacks %v", missing)
	}
	slices.SortStableFunc(missing, func(a, b confine.Missing) int { return a.ABI - b.ABI })
	want := ".It Em Linux Ta Em Landlock Ta Em keeps\n"
	for _, m := range missing {
		want += fmt.Sprintf(".It %s Ta %d Ta %s\n", m.Kernel, m.ABI, m.What)
	}
	if !strings.Contains(read(t, "jailctl-policy.5"), "\n"+want+".El\n") {
		t.Errorf("jailctl-policy.5 does not have\n%s", want)
	}
}

// The manuals' examples have no mistakes.
func TestPolicyManualExamples(t *testing.T) {
	for _, text := range examples(t, "jailctl-policy.5", 4) {
		_, problems := source.Check("example.txtpb", text, source.System())
		for _, p := range problems {
			t.Errorf("%v\n%s", p, text)
		}
	}
}

func TestContentsManualExamples(t *testing.T) {
	for _, text := range examples(t, "jailctl-contents.5", 3) {
		_, problems, err := contents.Load("example.txtpb", func(file string) ([]byte, error) {
			if file == "example.txtpb" {
				return text, nil
			}
			return os.ReadFile("../presets/" + filepath.Base(file))
		})
		for _, p := range problems {
			t.Errorf("%v\n%s", p, text)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// examples are the texts in the EXAMPLES of a manual, at least so many.
func examples(t *testing.T, file string, least int) (all [][]byte) {
	t.Helper()
	_, text, _ := strings.Cut(read(t, file), "\n.Sh EXAMPLES\n")
	text, _, _ = strings.Cut(text, "\n.Sh ")
	for _, e := range regexp.MustCompile(`(?ms)^\.Bd -literal -offset indent\n(.*?)^\.Ed$`).FindAllStringSubmatch(text, -1) {
		all = append(all, []byte(strings.ReplaceAll(e[1], `\e`, `\`)))
	}
	if len(all) < least {
		t.Fatalf("%s has %d examples", file, len(all))
	}
	return all
}

// The words of promises have the same description there as in `jailctl promises`.
func TestPolicyManualNamesEveryPromise(t *testing.T) {
	manual := strings.Join(strings.Fields(read(t, "jailctl-policy.5")), " ")
	words := seccomp.Words()
	if len(words) < 10 {
		t.Fatalf("there are %d promises", len(words))
	}
	for _, w := range words {
		if !strings.Contains(manual, " .It Cm "+w.Name+" "+w.Doc+" .") {
			t.Errorf("jailctl-policy.5 does not have: .It Cm %s %s", w.Name, w.Doc)
		}
	}
	_, list, _ := strings.Cut(manual, ".Sh PROMISES")
	list, _, _ = strings.Cut(list, ".El")
	if n := strings.Count(list, ".It Cm "); n != len(words) {
		t.Errorf("jailctl-policy.5 has %d promises, and there are %d", n, len(words))
	}
}

func TestManualNamesEveryVerbAndOption(t *testing.T) {
	manual := read(t, "jailctl.1")
	// Verbs and options as `jailctl help` has them: from the built program, since
	// a list here would be a copy.
	admin := t.TempDir() + "/jailctl-admin"
	build := exec.Command("go", "build", "-buildvcs=false", "-o", admin, "jailctl/cmd/jailctl-admin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	help := func(verb ...string) string {
		out, err := exec.Command(admin, append([]string{"help"}, verb...)...).Output()
		if err != nil {
			t.Fatalf("help %v: %v", verb, err)
		}
		return string(out)
	}
	verbs := list(help())
	if len(verbs) < 8 {
		t.Fatalf("help lists %v", verbs)
	}
	for _, verb := range verbs {
		if !strings.Contains(manual, "\n.Cm "+verb) {
			t.Errorf("jailctl.1 has no synopsis of %s", verb)
		}
		words := []string{verb}
		if inner := list(help(verb)); len(inner) > 0 {
			for _, v := range inner {
				if !strings.Contains(manual, "\n.Cm "+verb+" "+v) {
					t.Errorf("jailctl.1 has no synopsis of %s %s", verb, v)
				}
				checkOptions(t, manual, append(words, v), help(verb, v))
			}
			continue
		}
		if verb != "run" {
			checkOptions(t, manual, words, help(verb))
		}
	}
	// run's options are not the library's: its own usage says which there are.
	usage := regexp.MustCompile(`const Usage = "(.*)"`).FindStringSubmatch(read(t, "../internal/runline/runline.go"))
	if usage == nil {
		t.Fatal("internal/runline has no Usage")
	}
	found := regexp.MustCompile(`\[--?([a-zA-Z][a-zA-Z-]*)`).FindAllStringSubmatch(usage[1], -1)
	if len(found) < 6 {
		t.Fatalf("run's usage has the options %v", found)
	}
	for _, o := range found {
		checkOption(t, manual, "run", o[1])
	}
}

// list returns the names in the list of verbs that a help text has.
func list(help string) []string {
	_, rest, ok := strings.Cut(help, "Available Commands:\n")
	if !ok {
		return nil
	}
	rest, _, _ = strings.Cut(rest, "\n\n")
	var names []string
	for line := range strings.Lines(rest) {
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// checkOptions looks for the options that a help text lists: for one that has a
// letter, the letter is enough.
func checkOptions(t *testing.T, manual string, verb []string, help string) {
	t.Helper()
	for _, o := range regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([\w-]+)`).FindAllStringSubmatch(help, -1) {
		name := o[2]
		if o[1] != "" {
			name = o[1]
		}
		checkOption(t, manual, strings.Join(verb, " "), name)
	}
}

func checkOption(t *testing.T, manual, verb, name string) {
	t.Helper()
	macro := "Fl " + name
	if len(name) > 1 {
		macro = "Fl Fl " + name
	}
	if !regexp.MustCompile(`(?m)^\.(.* )?` + macro + `\b`).MatchString(manual) {
		t.Errorf("jailctl.1 does not name the option %s of %s", name, verb)
	}
}

func TestRuleOfDecisionHasTheSameWordsEverywhere(t *testing.T) {
	for _, file := range []string{"../README.md", "jailctl.1", "jailctl-policy.5", "jailhelper.8"} {
		// A manual breaks lines where it likes and may have the sentence in a macro.
		text := strings.Join(strings.Fields(read(t, file)), " ")
		if !strings.Contains(text, rule) {
			t.Errorf("%s does not say: %s", file, rule)
		}
	}
}

// The manuals name the places of `make install` without directions.
func TestManualsNameTheDefaultPlaces(t *testing.T) {
	policy := []string{paths.Policy(""), paths.Compiled("")}
	for m, places := range map[string][]string{
		"jailctl.1": policy, "jailctl-policy.5": policy, "jailhelper.8": policy,
		"jailctl-contents.5": append(paths.Presets(), paths.Contents(""), paths.Manifests("")),
	} {
		text := read(t, m)
		for _, place := range places {
			place = strings.TrimSuffix(strings.TrimSuffix(place, ".txtpb"), ".pb")
			if !strings.Contains(text, place) {
				t.Errorf("%s does not name %s", m, place)
			}
		}
	}
}

// Every test that SECURITY.md names is there, and every attack on the helper that
// is tested is named.
func TestSecurityNamesTests(t *testing.T) {
	var sources []string
	for _, pattern := range []string{"../cmd/*/*_test.go", "../client/*_test.go", "../internal/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			sources = append(sources, read(t, f))
		}
	}
	tests := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`).FindAllStringSubmatch(strings.Join(sources, "\n"), -1) {
		tests[m[1]] = true
	}
	text := read(t, "../SECURITY.md")
	named := regexp.MustCompile(`\bTest[A-Za-z0-9]+`).FindAllString(text, -1)
	if len(named) < 30 {
		t.Fatalf("SECURITY.md names %d tests", len(named))
	}
	for _, name := range named {
		if !tests[name] {
			t.Errorf("SECURITY.md names %s, which is no test", name)
		}
	}
	for name := range tests {
		if regexp.MustCompile(`^TestA\d`).MatchString(name) && !strings.Contains(text, name) {
			t.Errorf("SECURITY.md does not name %s", name)
		}
	}
}
