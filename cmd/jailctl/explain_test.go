package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	. "jailctl/internal/roottest"
)

// What explain says of the process is what the kernel says of it when it runs.
func TestExplainEqualsStatus(t *testing.T) {
	own := statusOf(t, "self")
	for name, test := range map[string]struct {
		rule, confine string
		who           User
	}{
		"default":               {`users: "*" run_as { user: "daemon" }`, "", Alice},
		"the caller":            {`users: "*" run_as { caller: true }`, "", Dev},
		"groups":                {`users: "*" run_as { user: "daemon" groups: ["bin", "games"] }`, "", Alice},
		"another group":         {`users: "*" run_as { user: "daemon" group: "games" }`, "", Alice},
		"promises":              {`users: "*" run_as { user: "daemon" }`, `promises: "stdio exec proc rpath"`, Alice},
		"promises without exec": {`users: "*" run_as { user: "daemon" }`, `promises: "stdio"`, Alice},
		"a rule's own":          {`users: "*" run_as { user: "daemon" } confine { promises: "stdio rpath" violation: KILL }`, "network: true", Bob},
		"root calls":            {`users: "*" run_as { user: "daemon" }`, "network: true", User{Name: "root"}},
	} {
		t.Run(name, func(t *testing.T) {
			Apply(t, "web", fmt.Sprintf("root: \"ROOT\"\nrules { %s }\nconfine { %s }\n", test.rule, test.confine))
			command := []string{"web", "/bin/probe", "sleep", "30"}
			r := Run(t, test.who, Jailctl, append([]string{"explain", "--json"}, command...)...)
			var said struct {
				Process struct {
					UID, GID     uint32
					Groups       []uint32
					Capabilities string
					NoNewPrivs   int `json:"no_new_privs"`
					Seccomp      int
					Filters      int `json:"seccomp_filters"`
				}
			}
			if err := json.Unmarshal([]byte(r.Out), &said); err != nil || r.Status != 0 {
				t.Fatalf("%v\n%+v", err, r)
			}
			p := said.Process

			cmd := As(test.who, exec.Command(Jailctl, append([]string{"run", "--status-fd=3"}, command...)...))
			events, theirs, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer events.Close()
			cmd.ExtraFiles = []*os.File{theirs}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			theirs.Close()
			defer cmd.Wait()
			defer cmd.Process.Kill()
			var started struct{ PID int }
			if err := json.NewDecoder(events).Decode(&started); err != nil || started.PID == 0 {
				t.Fatal(err, started)
			}
			is := statusOf(t, fmt.Sprint(started.PID))

			four := func(id uint32) string { return strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", id), 4)) }
			want := map[string]string{
				"Uid": four(p.UID), "Gid": four(p.GID), "Groups": strings.Trim(fmt.Sprint(p.Groups), "[]"),
				"NoNewPrivs": fmt.Sprint(p.NoNewPrivs), "Seccomp": fmt.Sprint(p.Seccomp),
				"Seccomp_filters": fmt.Sprint(p.Filters + number(t, own["Seccomp_filters"])),
			}
			if p.Capabilities != "none" {
				t.Errorf("capabilities: %q", p.Capabilities)
			}
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
				want[set] = strings.Repeat("0", 16)
			}
			for key, value := range want {
				if is[key] != value {
					t.Errorf("%s: explained as %q, is %q", key, value, is[key])
				}
			}
		})
	}
}

// statusOf reads /proc/PID/status, proc_pid_status(5), blanks made alike.
func statusOf(t *testing.T, pid string) map[string]string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		m[key] = strings.Join(strings.Fields(value), " ")
	}
	return m
}

func number(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(s, err)
	}
	return n
}
