package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	. "jailctl/internal/roottest"
)

// everything asks for every kind of confinement, so that each of the calls is made.
const everything = `root: "ROOT"
rules { users: "*" run_as { user: "daemon" } }
working_directory: "/tmp"
limits { open_files: 64 cpu_seconds: 10 }
confine {
  network: true
  network_ports { connect: 443 bind: 8080 }
  promises: "stdio rpath wpath cpath inet"
  unveil { path: "/bin" access: "rx" }
  unveil { path: "/tmp" access: "rwc" }
}
`

// confining are the calls of the step confine, and of what follows up to exec. The
// others that a trace shows there are the Go runtime's, or may fail: faccessat only
// finds out what to say, umask cannot fail.
var confining = regexp.MustCompile(`^(fcntl|prctl|chdir|landlock_\w+|openat2|fstat|close|setitimer|rt_sigaction|getrlimit|setrlimit|prlimit64|getrandom|seccomp|sendto)$`)

// straced runs /bin/probe in the jail under strace with these options; made is the file
// that the probe makes if it runs.
func straced(t *testing.T, options ...string) (r Result, ran bool) {
	t.Helper()
	made := Jail + "/tmp/ran"
	os.Remove(made)
	args := append(options, "-u", Alice.Name, Jailctl, "run", "web", "/bin/probe", "touch", "/tmp/ran")
	for range 5 {
		r = Do(t, exec.Command("strace", args...))
		ran = os.Remove(made) == nil
		// What strace says of itself, when a process ends under its hands, is tried again.
		if ran || !strings.Contains(r.Err, "strace: ptrace(") {
			break
		}
	}
	return r, ran
}

// Every call that confines fails once with every error: the command never starts.
func TestFaultInConfinement(t *testing.T) {
	Apply(t, "web", everything)
	trace := Prefix + "/trace"
	t.Cleanup(func() { os.Remove(trace) })
	if r, ran := straced(t, "-f", "-o", trace); r.Status != 0 || !ran {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// Which calls the helper makes from the drop on, and as the how manyth of their
	// name in its process.
	type call struct {
		name string
		nth  int
	}
	var calls []call
	pid, dropped := "", false
	count := map[string]int{}
	distinct := map[string]bool{}
	line := regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	var all [][]string
	for _, l := range strings.Split(string(b), "\n") {
		if m := line.FindStringSubmatch(l); m != nil {
			all = append(all, m)
			if m[2] == "execve" && strings.HasPrefix(m[3], `"`+Helper+`"`) {
				pid = m[1]
			}
		}
	}
	for _, m := range all {
		if m[1] != pid {
			continue
		}
		name, args := m[2], m[3]
		count[name]++
		if name == "execve" && dropped {
			break
		}
		dropped = dropped || name == "setresuid" && strings.HasPrefix(args, "1, 1, 1")
		if dropped && confining.MatchString(name) && !strings.HasPrefix(args, "PR_SET_VMA") {
			calls = append(calls, call{name, count[name]})
			distinct[name] = true
		}
	}
	for _, name := range []string{
		"fcntl", "prctl", "chdir", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
		"openat2", "setitimer", "rt_sigaction", "prlimit64", "getrandom", "seccomp", "sendto",
	} {
		if !distinct[name] {
			t.Errorf("the trace has no %s after the drop:\n%s", name, b)
		}
	}
	if len(calls) < 30 {
		t.Errorf("only %d calls: %v", len(calls), calls)
	}
	for _, c := range calls {
		for _, errno := range []string{"EPERM", "ENOMEM", "EMFILE", "ENOSYS"} {
			r, ran := straced(t, "-f", "-o", trace, "-e", "trace="+c.name, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", c.name, errno, c.nth))
			if !injected(t, trace) {
				t.Errorf("%s %d: %s was not injected", c.name, c.nth, errno)
			}
			if ran || r.Status != 125 || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("%s %d fails with %s: the command ran: %v, status %d, %q", c.name, c.nth, errno, ran, r.Status, r.Err)
			}
		}
	}
}

// Under degrade a kernel without Landlock is no reason not to run; one that does not
// say what it has is.
func TestFaultUnderDegrade(t *testing.T) {
	Apply(t, "web", everyone+` confine { degrade: true }`)
	trace := Prefix + "/trace"
	t.Cleanup(func() { os.Remove(trace) })
	for errno, runs := range map[string]bool{"EPERM": false, "ENOMEM": false, "EMFILE": false, "EINVAL": false, "ENOSYS": true, "EOPNOTSUPP": true} {
		r, ran := straced(t, "-f", "-o", trace, "-e", "trace=landlock_create_ruleset", "-e", "inject=landlock_create_ruleset:error="+errno+":when=1")
		if !injected(t, trace) || ran != runs || !ran && r.Status != 125 {
			t.Errorf("%s: the command ran: %v, status %d, %q", errno, ran, r.Status, r.Err)
		}
	}
}

func injected(t *testing.T, trace string) bool {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), "(INJECTED)")
}
