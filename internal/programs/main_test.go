// Package programs_test runs what people run, in a jail, through the installed
// set-uid helper, as ordinary users: what the default confinement leaves working,
// what each promise permits, and what each unveil opens.
package programs_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jailctl/internal/roottest"
)

func TestMain(m *testing.M) { roottest.Main(m) }

// daemon is the uid and gid of these accounts, which the commands run as.
const daemon = 1

// world makes a jail with this machine's programs, until the test ends: the
// directories of the system, bound read-only, /proc, a few devices, and of the
// target's own /tmp, /desk and /dev/shm. All of it is in a tmpfs, in the mount namespace of
// the tests alone; nothing is removed that was not made here.
func world(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("/opt", "jailctl-programs-")
	must(t, err)
	t.Cleanup(func() {
		// Not RemoveAll: should something still be mounted, it is the system's.
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if err := os.Remove(root); err != nil {
			t.Error(err)
		}
	})
	must(t, unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	for from, to := range map[string]string{"/usr": "usr", "/etc": "etc", strings.TrimSpace(string(goroot)): "go"} {
		bind(t, from, root+"/"+to)
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + dir); err == nil {
			must(t, os.Symlink(to, root+"/"+dir))
		} else if _, err := os.Stat("/" + dir); err == nil {
			bind(t, "/"+dir, root+"/"+dir)
		}
	}
	must(t, os.Mkdir(root+"/proc", 0o755))
	must(t, unix.Mount("proc", root+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
	must(t, os.Mkdir(root+"/dev", 0o755))
	for _, device := range []string{"null", "zero", "full", "random", "urandom"} {
		must(t, os.WriteFile(root+"/dev/"+device, nil, 0o644))
		must(t, unix.Mount("/dev/"+device, root+"/dev/"+device, "", unix.MS_BIND, ""))
	}
	must(t, os.Symlink("/proc/self/fd", root+"/dev/fd"))
	for _, dir := range []string{"tmp", "desk", "dev/shm"} {
		must(t, os.Mkdir(root+"/"+dir, 0o755))
		must(t, os.Chown(root+"/"+dir, daemon, daemon))
	}
	return root
}

// bind mounts a directory of the host's, for reading alone.
func bind(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.Mkdir(to, 0o755))
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// policy is one in which Alice runs every command as daemon.
func policy(root, confine string) string {
	return fmt.Sprintf(`root: %q
rules { users: "jailctl-alice" run_as { user: "daemon" } }
working_directory: "/desk"
environment {
  set { name: "PATH" value: "/usr/bin:/bin:/go/bin" }
  set { name: "HOME" value: "/desk" }
  set { name: "LC_ALL" value: "C.UTF-8" }
  set { name: "GOPROXY" value: "off" }
  set { name: "GOFLAGS" value: "-mod=mod" }
  set { name: "GOTOOLCHAIN" value: "local" }
  set { name: "CGO_ENABLED" value: "0" }
}
%s
`, root, confine)
}

// jailrun is Alice's `jailctl run` of a command, with something to read from a pipe.
func jailrun(t *testing.T, jail, stdin string, argv ...string) roottest.Result {
	t.Helper()
	cmd := exec.Command(roottest.Jailctl, append([]string{"run", jail}, argv...)...)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	return roottest.Do(t, roottest.As(roottest.Alice, cmd))
}

// same fails the test unless a command ended with this, and nothing else.
func same(t *testing.T, r roottest.Result, status int, out, errs string) {
	t.Helper()
	if r.Status != status || r.Out != out || r.Err != errs {
		t.Errorf("status %d, out %q, err %q; want %d, %q, %q", r.Status, r.Out, r.Err, status, out, errs)
	}
}
