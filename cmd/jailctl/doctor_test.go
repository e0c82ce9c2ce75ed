package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "jailctl/internal/roottest"
)

// finding is what `jailctl doctor --json` says of one thing.
type finding struct{ Part, What, Status, Found, Fix string }

// doctor returns what is not ok, beside the kernel, whose state is not the test's.
func doctor(t *testing.T, u User) (bad []finding, r Result) {
	t.Helper()
	cmd := exec.Command(Jailctl, "doctor", "--json")
	if u != (User{}) {
		As(u, cmd)
	}
	r = Do(t, cmd)
	var all []finding
	if err := json.Unmarshal([]byte(r.Out), &all); err != nil {
		t.Fatalf("%v\n%+v", err, r)
	}
	parts := map[string]int{}
	for _, f := range all {
		parts[f.Part]++
		// The tests' own kernel has these; its settings are what they are.
		if f.Status != "ok" && (f.Part != "kernel" || f.What == "version" || f.What == "seccomp") {
			bad = append(bad, f)
		}
	}
	if len(parts) != 3 || parts["installation"] < 10 || parts["policies"] < 4 || parts["kernel"] < 8 {
		t.Errorf("it looked at %v", parts)
	}
	return bad, r
}

// mend runs what doctor says is to be done.
func mend(t *testing.T, fix string) {
	t.Helper()
	command, _, _ := strings.Cut(fix, ", in the sources")
	cmd := exec.Command("sh", "-c", command)
	// The sources, and the way to jailctl.
	cmd.Dir, _ = filepath.Abs("../..")
	cmd.Env = append(os.Environ(), "OUT="+Prefix+"/build", "PATH="+filepath.Dir(Jailctl)+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

const sound = `root: "ROOT" rules { users: "jailctl-alice" run_as { user: "daemon" } } audit_required: true`

// TestDoctor makes each fault in a real installation. Doctor tells of it, what it
// says mends it, and then nothing is wrong.
func TestDoctor(t *testing.T) {
	Syslog(t)
	Apply(t, "sound", sound)
	text, compiled := Etc+"/jails/sound.txtpb", State+"/policies/sound.pb"
	bin := filepath.Dir(Jailctl)
	libexec := filepath.Dir(Helper)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	shell := func(script string) {
		t.Helper()
		if r := Root(t, "sh", "-ec", script); r.Status != 0 {
			t.Fatalf("%s: %+v", script, r)
		}
	}
	if bad, r := doctor(t, User{}); len(bad) > 0 || r.Status != 0 {
		t.Fatalf("status %d, not sound to begin with: %+v", r.Status, bad)
	}
	// One of the faults leaves the helper to a group.
	everybodys := func() { Root(t, "sh", "-c", "chgrp root "+Helper+"; chmod 4755 "+Helper) }
	t.Cleanup(everybodys)
	original, err := os.ReadFile(Helper)
	must(err)
	for _, fault := range []struct {
		name, what, status string
		make               func()
	}{
		{"helper not set-uid", "helper", "fail", func() { must(os.Chmod(Helper, 0o755)) }},
		{"helper set-gid", "helper", "fail", func() { must(unix.Chmod(Helper, 0o6755)) }},
		{"helper writable by others", "helper", "fail", func() { must(unix.Chmod(Helper, 0o4777)) }},
		{"helper alice's", "helper", "fail", func() { shell("chown " + Alice.Name + " " + Helper + "; chmod 4755 " + Helper) }},
		{"helper alice's and of other content", "helper", "fail", func() {
			shell("echo >>" + Helper + "; chown " + Alice.Name + " " + Helper + "; chmod 4755 " + Helper)
		}},
		{"helper of another build", "helper's build", "fail", func() { shell("echo >>" + Helper + "; chmod 4755 " + Helper) }},
		{"helper gone", "helper", "fail", func() { must(os.Remove(Helper)) }},
		{"helper a symbolic link", "helper", "fail", func() { shell("mv " + Helper + " " + Prefix + "/moved; ln -s " + Prefix + "/moved " + Helper) }},
		{"helper the group root's", "helper", "warn", func() { must(unix.Chmod(Helper, 0o4750)) }},
		{"jailctl of another build", "jailctl's build", "fail", func() { shell("echo >>" + Jailctl) }},
		{"jailctl alice's", "jailctl", "fail", func() { must(os.Chown(Jailctl, int(Alice.UID), -1)) }},
		{"jailctl-admin writable by others", "jailctl-admin", "fail", func() { must(os.Chmod(libexec+"/jailctl-admin", 0o777)) }},
		{"way to the helper writable by others", "way to the helper", "fail", func() { must(os.Chmod(libexec, 0o777)) }},
		{"way to the helper alice's", "way to the helper", "fail", func() { must(os.Chown(Prefix+"/libexec", int(Alice.UID), -1)) }},
		{"way to jailctl writable by others", "way to jailctl", "warn", func() { must(os.Chmod(bin, 0o777)) }},
		{"nosuid", "set-uid: mount", "fail", func() {
			shell("mount --bind " + libexec + " " + libexec + " && mount -o remount,bind,nosuid " + libexec)
			t.Cleanup(func() { unix.Unmount(libexec, unix.MNT_DETACH) })
		}},
		{"fs.suid_dumpable", "fs.suid_dumpable", "fail", func() {
			const file = "/proc/sys/fs/suid_dumpable"
			was, err := os.ReadFile(file)
			must(err)
			t.Cleanup(func() { os.WriteFile(file, was, 0) })
			must(os.WriteFile(file, []byte("1"), 0))
		}},
		{"policies writable by others", Etc + "/jails", "fail", func() { must(os.Chmod(Etc+"/jails", 0o777)) }},
		{"way to the policies alice's", Etc + "/jails", "fail", func() { must(os.Chown(Prefix+"/etc", int(Alice.UID), -1)) }},
		{"compiled policies writable by others", State + "/policies", "fail", func() { must(os.Chmod(State+"/policies", 0o777)) }},
		{"policies readable by others", Etc + "/jails", "warn", func() { must(os.Chmod(Etc+"/jails", 0o755)) }},
		{"policy writable by others", "policy sound", "fail", func() { must(os.Chmod(text, 0o666)) }},
		{"policy alice's", "policy sound", "fail", func() { must(os.Chown(text, int(Alice.UID), -1)) }},
		{"compiled policy writable by others", "policy sound", "fail", func() { must(os.Chmod(compiled, 0o666)) }},
		{"compiled policy a symbolic link", "policy sound", "fail", func() {
			shell("mv " + compiled + " " + Prefix + "/moved.pb; ln -s " + Prefix + "/moved.pb " + compiled)
		}},
		{"compiled policy damaged", "policy sound", "fail", func() { shell("echo >>" + compiled) }},
		{"policy edited", "policy sound", "warn", func() { shell("echo >>" + text) }},
		{"policy not in force", "policy sound", "warn", func() { must(os.Remove(compiled)) }},
		{"root writable by others", "policy sound", "fail", func() { must(os.Chmod(Jail, 0o777)) }},
		{"root alice's", "policy sound", "fail", func() { must(os.Chown(Jail, int(Alice.UID), -1)) }},
	} {
		fault.make()
		bad, r := doctor(t, User{})
		if want := map[string]int{"fail": 1, "warn": 0}[fault.status]; r.Status != want {
			t.Errorf("%s: status %d, want %d", fault.name, r.Status, want)
		}
		at := slices.IndexFunc(bad, func(f finding) bool { return f.What == fault.what && f.Status == fault.status })
		if at < 0 {
			t.Fatalf("%s: doctor finds %+v", fault.name, bad)
		}
		mend(t, strings.ReplaceAll(bad[at].Fix, "GROUP ", Group+" "))
		if bad, r := doctor(t, User{}); len(bad) > 0 || r.Status != 0 {
			t.Fatalf("%s: status %d after %q: %+v", fault.name, r.Status, bad[0].Fix, bad)
		}
		if b, err := os.ReadFile(Helper); err != nil || string(b) != string(original) {
			t.Fatalf("%s: the helper is not what it was: %v", fault.name, err)
		}
	}
	// Nobody listens any more.
	shell("mount --bind /dev/null /dev/log")
	bad, r := doctor(t, User{})
	unix.Unmount("/dev/log", unix.MNT_DETACH)
	if len(bad) != 1 || bad[0].What != "/dev/log" || bad[0].Status != "fail" || !strings.HasSuffix(bad[0].Found, "audit_required: sound") || r.Status != 1 {
		t.Errorf("status %d: %+v", r.Status, bad)
	}

	// What doctor calls sound runs.
	everybodys()
	if r := Jailrun(t, Alice, "sound", "/bin/true"); r.Status != 0 {
		t.Errorf("%+v", r)
	}
}

// TestDoctorForUsers: an ordinary user is told the same of what anybody can see,
// and of the rest that it was not looked at.
func TestDoctorForUsers(t *testing.T) {
	Syslog(t)
	// As syslogd makes it.
	if err := os.Chmod("/dev/log", 0o666); err != nil {
		t.Fatal(err)
	}
	Apply(t, "sound", sound)
	bad, r := doctor(t, Alice)
	if len(bad) != 1 || bad[0].What != "policies" || bad[0].Found != "not looked at: needs root" || r.Status != 0 {
		t.Errorf("status %d: %+v", r.Status, bad)
	}
	if !strings.Contains(r.Out, "it lists the jails open to you: sound") {
		t.Error(r.Out)
	}
	if _, r := doctor(t, Mallory); !strings.Contains(r.Out, "it lists the jails open to you: -") || r.Status != 0 {
		t.Errorf("%+v", r)
	}

	// Here set-uid does not count.
	r = Run(t, Alice, "setpriv", "--no-new-privs", Jailctl, "doctor")
	if r.Status != 1 || !strings.Contains(r.Out, "fail  set-uid: no_new_privs ") || !strings.Contains(r.Out, "fail  helper's answer ") {
		t.Errorf("%+v", r)
	}

	// The PATH has something else first.
	if err := os.WriteFile(Public+"/jailctl", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := As(Alice, exec.Command(Jailctl, "doctor"))
	cmd.Env = []string{"PATH=" + Public + ":/bin"}
	if r := Do(t, cmd); r.Status != 0 || !strings.Contains(r.Out, "the PATH finds another jailctl: "+Public+"/jailctl\n") {
		t.Errorf("%+v", r)
	}

	// A helper for members of a group, who can read it; others cannot.
	if r := Root(t, "sh", "-ec", "chgrp "+Group+" "+Helper+"; chmod 4750 "+Helper); r.Status != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() { Root(t, "sh", "-c", "chgrp root "+Helper+"; chmod 4755 "+Helper) })
	if bad, r := doctor(t, Dev); len(bad) != 1 || bad[0].What != "policies" || r.Status != 0 {
		t.Errorf("status %d: %+v", r.Status, bad)
	}
	bad, r = doctor(t, Alice)
	want := []finding{
		{"installation", "helper's build", "skip", "not looked at: needs root, or the group " + Group, ""},
		{
			"installation", "helper's answer", "fail", "cannot start " + Helper + ": only members of its group may",
			"usermod -aG " + Group + " " + Alice.Name + ", and log in anew",
		},
		{"policies", "policies", "skip", "not looked at: needs root", ""},
	}
	if !slices.Equal(bad, want) || r.Status != 1 {
		t.Errorf("status %d: %+v", r.Status, bad)
	}
}
