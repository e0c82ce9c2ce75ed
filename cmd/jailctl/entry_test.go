package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
)

// Linked without their entry points the programs do nothing: the runtime would have
// obeyed the caller's environment by then.
func TestWithoutEntryPoint(t *testing.T) {
	for _, name := range []string{"jailctl", "jailhelper"} {
		path := filepath.Join(Prefix, "plain-"+name)
		build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "jailctl/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		if r := Run(t, Alice, path, "run", "web", "id"); r.Status != 125 || r.Out != "" || strings.Count(r.Err, "\n") > 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The entry points of the other architecture, emulated (Debian: qemu-user-static).
// The emulator has no set-uid; root starts what would have been.
func TestArm64EntryPoints(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"jailctl", "jailhelper"} {
		build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-E main.entry -X jailctl/internal/paths.State="+State, "-o", dir, "jailctl/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	// jailctl finds its arguments.
	r := Root(t, qemu, filepath.Join(dir, "jailctl"), "run", "--no such")
	if r.Status != 125 || !strings.Contains(r.Err, `unknown option "--no such"`) {
		t.Errorf("jailctl: %+v", r)
	}

	// The emulator cannot pass the one empty string that the helper wants, so the
	// helper refuses; it is root, has looked at 0 to 5, and says nothing of its own.
	const list = "\x08\x03"
	for name, test := range map[string]struct {
		env    []string
		closed bool
		want   string
	}{
		"none":            {want: "takes no environment"},
		"an environment":  {env: []string{"GODEBUG=inittrace=1", "GOMAXPROCS=77"}, want: "takes no environment"},
		"stdin is closed": {closed: true, want: "must be open"},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendmsg(pair[0], []byte(list), nil, nil, 0); err != nil {
			t.Fatal(err)
		}
		args := []string{"-c", `exec "$@"`, "sh", qemu}
		if test.closed {
			args[1] = `exec "$@" <&-`
		}
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			args = append(args, "-U", name)
		}
		for _, e := range test.env {
			args = append(args, "-E", e)
		}
		cmd := exec.Command("sh", append(args, filepath.Join(dir, "jailhelper"))...)
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(pair[1]), "theirs")
		cmd.ExtraFiles = []*os.File{theirs, read, read}
		r := Do(t, cmd)
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		write.Close()
		var b [4096]byte
		n, err := unix.Read(pair[0], b[:])
		if err == unix.ECONNRESET { // it refused without reading the request
			n, err = unix.Read(pair[0], b[:])
		}
		unix.Close(pair[0])
		if err != nil || !strings.Contains(string(b[:max(n, 0)]), test.want) || r.Status != 125 || r.Err != "" || r.Out != "" {
			t.Errorf("%s: answer %q (%v), %+v", name, b[:max(n, 0)], err, r)
		}
	}
}
