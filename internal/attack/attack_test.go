package attack_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"jailctl/internal/attack"
	"jailctl/internal/attack/outside"
	. "jailctl/internal/roottest"
)

func TestMain(m *testing.M) { Main(m) }

// daemon is the target: uid and gid 1 on every Linux.
const daemon = 1

func setup(t *testing.T) *outside.World {
	t.Helper()
	w, err := outside.Setup(outside.Config{Root: Jail, UID: daemon, GID: daemon, Probe: filepath.Dir(Helper) + "/jailctl-probe"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// TestAttacksWork: what is held by jailctl, gets out without it.
func TestAttacksWork(t *testing.T) {
	w := setup(t)
	for _, a := range attack.Attacks {
		if a.Proof == attack.Nowhere {
			if a.Unproven == "" {
				t.Errorf("%s: proven nowhere, and no reason why", a.ID)
			}
			continue
		}
		o, err := w.Try(&a, w.Naive(a.Proof))
		if err != nil {
			t.Error(err)
		} else if o.Verdict != attack.Escaped {
			t.Errorf("%s: %v, and should get out", a.ID, o)
		}
	}
}

// jailed starts the probe in a jail, as Alice.
func jailed(jail string) outside.Starter {
	return func(args ...string) *exec.Cmd {
		return As(Alice, exec.Command(Jailctl, append([]string{"run", jail, "--", outside.Probe}, args...)...))
	}
}

func TestAttacksHeld(t *testing.T) {
	w := setup(t)
	Apply(t, "attack", `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" group: "daemon" } }`)
	for _, a := range attack.Attacks {
		o, err := w.Try(&a, jailed("attack"))
		t.Log(a.ID, o, err, "want", a.Errno)
	}
}
