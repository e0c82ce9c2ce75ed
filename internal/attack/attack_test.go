package attack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/attack"
	"jailctl/internal/attack/outside"
	"jailctl/internal/confine"
	. "jailctl/internal/roottest"
	"jailctl/internal/seccomp"
	"jailctl/internal/seccomp/load"
)

func TestMain(m *testing.M) {
	if layer := os.Getenv(layerMark); layer != "" {
		fmt.Fprintln(os.Stderr, wear(layer))
		os.Exit(1)
	}
	Main(m)
}

// daemon is the target: uid and gid 1 on every Linux.
const daemon = 1

func setup(t *testing.T, uid, gid uint32) *outside.World {
	t.Helper()
	w, err := outside.Setup(outside.Config{Root: Jail, UID: uid, GID: gid, Probe: filepath.Dir(Helper) + "/jailctl-probe"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// try fails the test if the attack did not end in this way, with this detail if it
// is given.
func try(t *testing.T, w *outside.World, a *attack.Attack, starter outside.Starter, want attack.Verdict, detail string) {
	t.Helper()
	o, err := w.Try(a, starter)
	switch {
	case err != nil:
		t.Errorf("%s: %v", a.ID, err)
	case o.Verdict != want || detail != "" && o.Detail != detail:
		t.Errorf("%s: %v, want %s %s", a.ID, o, want, detail)
	}
}

// TestAttacksWork: what jailctl holds gets out without it. What is said to be
// unproven may do so on another kernel.
func TestAttacksWork(t *testing.T) {
	w := setup(t, daemon, daemon)
	for _, a := range attack.Attacks {
		if a.Proof != attack.Nowhere {
			try(t, w, &a, w.Naive(a.Proof), attack.Escaped, "")
			continue
		}
		o, err := w.Try(&a, w.Naive(attack.AsRoot))
		if err != nil {
			t.Errorf("%s: %v", a.ID, err)
		}
		t.Logf("%s: %v; unproven: %s", a.ID, o, a.Unproven)
	}
}

// policy is one confinement, and what it opens and closes beside the default.
type policy struct {
	name, confine string
	opens         attack.Feature
	closes        []string // attacks that are open by default
}

var policies = []policy{
	{name: "default"},
	{name: "stdio", confine: `promises: "stdio"`, closes: []string{"memfd-exec", "written-exec", "directory-moved-out-stat"}},
	{name: "kill", confine: `promises: "stdio rpath" violation: KILL`, closes: []string{"memfd-exec", "written-exec"}},
	{name: "network", confine: `network: true`, opens: attack.Network},
	{name: "ports", confine: `network: true network_ports { connect: 443 }`},
	{name: "bind", confine: `network: true network_ports { connect: 443 bind: 8080 }`, opens: attack.Binding},
	{name: "local", confine: `local_sockets: true`, opens: attack.LocalSockets},
	{name: "both", confine: `network: true local_sockets: true`, opens: attack.Network | attack.LocalSockets},
	{name: "unveil", confine: `unveil { path: "/jailctl-attack/probe" access: "rx" } unveil { path: "/jailctl-attack/target" access: "rwc" }`, closes: []string{"written-exec"}},
}

// inJail starts the probe in a jail, as Dev, who is in a group.
func inJail(t *testing.T, confine, runAs string) outside.Starter {
	t.Helper()
	Apply(t, "attack", `root: "ROOT" confine { `+confine+` } rules { users: "jailctl-dev" run_as { `+runAs+` } }`)
	return func(args ...string) *exec.Cmd {
		return As(Dev, exec.Command(Jailctl, append([]string{"run", "attack", "--", outside.Probe}, args...)...))
	}
}

// TestAttacksHeld: nothing gets out of a jail, but what its policy opens and what
// is said to be open.
func TestAttacksHeld(t *testing.T) {
	w := setup(t, daemon, daemon)
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			jailed := inJail(t, p.confine, `user: "daemon" group: "daemon"`)
			try(t, w, &attack.Control, jailed, attack.Escaped, "")
			for _, a := range attack.Attacks {
				switch {
				case a.Opened&p.opens != 0:
					try(t, w, &a, jailed, attack.Escaped, "")
				case p.name == "default" && a.Open != "":
					try(t, w, &a, jailed, attack.Escaped, "")
				case p.name == "default":
					try(t, w, &a, jailed, attack.Held, a.Errno)
				case a.Open == "" || slices.Contains(p.closes, a.ID):
					try(t, w, &a, jailed, attack.Held, "")
				}
			}
		})
	}
}

// TestAttacksHeldAsCaller: the same where the processes outside are the caller's own.
func TestAttacksHeldAsCaller(t *testing.T) {
	w := setup(t, Dev.UID, Dev.GID)
	jailed := inJail(t, "", "caller: true")
	for _, a := range attack.Attacks {
		if a.Open == "" {
			try(t, w, &a, jailed, attack.Held, a.Errno)
		}
	}
}

// layerMark, in the environment, is the one layer that this program puts on before
// it becomes the probe; layerUser the uid to take before.
const (
	layerMark = "JAILCTL_ATTACK_LAYER"
	layerRoot = "JAILCTL_ATTACK_LAYER_ROOT"
	layerUser = "JAILCTL_ATTACK_LAYER_USER"
)

// TestEachLayerAlone: what is meant to hold an attack holds it where everything
// else is as where the attack gets out: with all capabilities if it gets out as
// root. So no layer hides that another has a hole.
func TestEachLayerAlone(t *testing.T) {
	w := setup(t, daemon, daemon)
	for _, a := range attack.Attacks {
		starter := w.Naive(attack.AsUser)
		switch {
		case a.Open != "" || a.Start == attack.StandOutside:
			continue
		case a.By == attack.ByDrop || a.By == attack.ByChroot:
		case a.By == attack.BySeccomp || a.By == attack.BySockets || a.By == attack.ByLandlock || a.By == attack.ByNoNewPrivs:
			starter = layered(t, w, a)
		default:
			continue // it is done by the helper, before there are layers
		}
		try(t, w, &a, starter, attack.Held, "")
	}
}

// layered starts this program where the attack gets out, to put the layer on.
func layered(t *testing.T, w *outside.World, a attack.Attack) outside.Starter {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	proof := a.Proof
	if proof == attack.Nowhere {
		proof = attack.AsRoot
	}
	return func(args ...string) *exec.Cmd {
		cmd := w.Naive(proof)(args...)
		cmd.Env = []string{layerMark + "=" + a.By, layerRoot + "=" + cmd.SysProcAttr.Chroot}
		if c := cmd.SysProcAttr.Credential; c != nil {
			cmd.Env = append(cmd.Env, layerUser+"=1")
		}
		cmd.SysProcAttr.Chroot, cmd.SysProcAttr.Credential = "", nil
		cmd.Args[0], cmd.Path = cmd.Path, self
		return cmd
	}
}

// wear puts one layer on and becomes the probe. It returns if it cannot.
func wear(layer string) error {
	runtime.LockOSThread()
	if root := os.Getenv(layerRoot); root != "" {
		if err := unix.Chroot(root); err != nil {
			return err
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if os.Getenv(layerUser) != "" {
		if err := syscall.Setgroups(nil); err != nil {
			return err
		}
		if err := syscall.Setresgid(daemon, daemon, daemon); err != nil {
			return err
		}
		if err := syscall.Setresuid(daemon, daemon, daemon); err != nil {
			return err
		}
	}
	// Landlock and seccomp want it of who is not root.
	if layer == attack.ByNoNewPrivs || os.Getenv(layerUser) != "" {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	switch layer {
	case attack.BySeccomp, attack.BySockets:
		b, err := seccomp.Compile(seccomp.Options{})
		if err != nil {
			return err
		}
		program, err := load.Decode(b)
		if err != nil {
			return err
		}
		if err := load.Filter(program); err != nil {
			return err
		}
	case attack.ByLandlock:
		abi, err := confine.Probe()
		if err != nil {
			return err
		}
		plan, _ := confine.Plan(confine.Want{}, abi)
		if err := confine.Enforce(plan); err != nil {
			return err
		}
	}
	return syscall.Exec(os.Args[0], os.Args, nil)
}

// TestTable: every attack is told from the others, and says what it must.
func TestTable(t *testing.T) {
	ids := map[string]bool{}
	for _, a := range attack.Attacks {
		if ids[a.ID] || attack.Find(a.ID) == nil || strings.ContainsAny(a.ID, " =/") {
			t.Errorf("%q is no ID, or another's", a.ID)
		}
		ids[a.ID] = true
		if a.What == "" || (a.Open == "") != (a.By != "" && a.Errno != "") || (a.Proof == attack.Nowhere) != (a.Unproven != "") {
			t.Errorf("%s: does not say what it tries, what holds it, or why it is not seen to work", a.ID)
		}
	}
}
