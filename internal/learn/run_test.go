package learn

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each program of a pipeline is a step, and what it reads is its own.
func TestPipeline(t *testing.T) {
	dir := directory(t, "a", "b")
	r, ended := learned(t, dir, "sh", "-c", "cat a | sort - b | (head -n 1; cat /dev/null) >out; exit 3")
	if ended.ExitStatus() != 3 {
		t.Errorf("ended with %v", ended)
	}
	want := []string{`sh -c "cat a | sort - b | (head -n 1; cat /dev/null) >out; exit 3" <0`, "cat /dev/null <1", "cat a <1", "head -n 1 <1", "sort - b <1"}
	if got := argv(r); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	step := func(argv ...string) int {
		return 1 + slices.IndexFunc(r.Steps, func(s Step) bool { return slices.Equal(s.Argv, argv) })
	}
	knows(t, r, dir+"/a", read, step("cat", "a"))
	knows(t, r, dir+"/b", read, step("sort", "-", "b"))
	knows(t, r, "/dev/null", read, step("cat", "/dev/null"))
	if r.changed[dir] != 1 || r.files[dir+"/out"] != nil {
		t.Errorf("changed in %v, out is %v", r.changed, r.files[dir+"/out"])
	}
	if b, _ := os.ReadFile(dir + "/out"); string(b) != "content\n" {
		t.Errorf("it wrote %q", b)
	}
}

// Threads and children are followed, and stops are theirs, as without a tracer.
func TestCrowd(t *testing.T) {
	var files []string
	for i := range 20 {
		files = append(files, fmt.Sprintf("thread%d", i), fmt.Sprintf("child%d", i))
	}
	for range 3 {
		dir := directory(t, files...)
		r, ended := learned(t, dir, here+"/many", "crowd", dir)
		if !ended.Exited() || ended.ExitStatus() != 0 {
			t.Fatalf("ended with %v, %d", ended, ended.ExitStatus())
		}
		for _, f := range files {
			knows(t, r, dir+"/"+f, read, 1)
		}
		if len(r.Steps) != 1 {
			t.Errorf("steps %v", argv(r))
		}
		if _, policy := drafted(t, r); strings.Contains(policy, "#   clone3") {
			t.Errorf("no jail has clone3, and libc does without:\n%s", policy)
		}
	}
}

// A step is whatever was executed, and however.
func TestExecutes(t *testing.T) {
	dir := directory(t, "f")
	for deed, by := range map[string]int{"vfork": 1, "become": 1, "fexec": 1} {
		r, ended := learned(t, dir, here+"/many", deed, "/usr/bin/cat", "f")
		want := []string{fmt.Sprintf("%s/many %s /usr/bin/cat f <0", here, deed), fmt.Sprintf("/usr/bin/cat f <%d", by)}
		if got := argv(r); !slices.Equal(got, want) || ended.ExitStatus() != 0 {
			t.Errorf("%s: steps %q, want %q; status %d", deed, got, want, ended.ExitStatus())
			continue
		}
		knows(t, r, "/usr/bin/cat", executed, 2)
		knows(t, r, dir+"/f", read, 2)
	}
	script := dir + "/script"
	if err := os.WriteFile(script, []byte("#!/usr/bin/env perl\nopen F, 'f'"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, _ := learned(t, dir, "./script")
	want := []string{"./script <0", "perl ./script <1"}
	if got := argv(r); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	for name, step := range map[string]int{script: 1, "/usr/bin/env": 1, "/usr/bin/perl": 2} {
		knows(t, r, name, executed, step)
	}
	knows(t, r, dir+"/f", read, 2)
}

// Files are known by their paths without links, by whatever way a program came to
// them, and the links on the way are known as well.
func TestWays(t *testing.T) {
	dir := directory(t, "sub/by descriptor", "by fchdir", "sub/by chdir", "by dots", "real/by a link")
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	r, ended := learned(t, dir, here+"/many", "ways", dir)
	if ended.ExitStatus() != 0 {
		t.Fatalf("status %d", ended.ExitStatus())
	}
	for _, name := range []string{"sub/by descriptor", "by fchdir", "sub/by chdir", "by dots", "real/by a link"} {
		knows(t, r, dir+"/"+name, read, 1)
	}
	text, _ := drafted(t, r)
	has(t, text, "paths: "+literal(dir+"/real/by a link"), "symlinks { path: "+literal(dir+"/link")+` target: "real" }`)
}

// File names are bytes.
func TestOddNames(t *testing.T) {
	names := []string{"new\nline", "two  blanks", "quote\"'`$(x);", "back\\slash", "caf\xe9", "caf\u00e9", "s*t?a[r", "\u202eoverride", "-x", "#"}
	dir := directory(t, names...)
	r, ended := learned(t, dir, append([]string{"sh", "-c", `cat -- "$@" >/dev/null`, "sh"}, names...)...)
	if ended.ExitStatus() != 0 {
		t.Fatalf("status %d", ended.ExitStatus())
	}
	text, policy := drafted(t, r)
	for _, name := range names {
		knows(t, r, dir+"/"+name, read, 2)
		has(t, text, "paths: "+literal(escaped(dir+"/"+name)))
	}
	// A policy cannot name some of them: what is above is unveiled.
	has(t, policy, `  unveil { path: `+literal(dir)+` access: "r" }`)
	for line := range strings.Lines(text + policy) {
		if !strings.ContainsAny(line[:1], "# \n") && !strings.Contains(line, ": ") && !strings.Contains(line, " {") && line != "}\n" {
			t.Errorf("a name has made a line of its own: %q", line)
		}
	}
}

// A thread of which nobody has told is its process's, or its parent's.
func TestStepOfUnknown(t *testing.T) {
	r, err := New("/")
	if err != nil {
		t.Fatal(err)
	}
	r.steps[os.Getppid()] = 7
	if n := r.step(os.Getpid()); n != 7 {
		t.Errorf("step %d of a child of 7", n)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	tid, _ := strconv.Atoi(threads[len(threads)-1].Name())
	r.steps[os.Getpid()] = 5
	if n := r.step(tid); n != 5 || tid == os.Getpid() {
		t.Errorf("step %d of thread %d of 5", n, tid)
	}
}

// What waits for its child to be done, as vfork(2) has it, is let go with the child.
func TestLeftAloneInVfork(t *testing.T) {
	dir := directory(t)
	source := "#include <unistd.h>\nint main(void) { if (fork()) return 4; if (!vfork()) { usleep(300000); _exit(0); } return 0; }\n"
	if err := os.WriteFile(dir+"/vfork.c", []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-w", "-o", dir+"/vfork", dir+"/vfork.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 4 { // which of the two would be waited for first is by chance
		asked := 0
		command := Command{Argv: []string{dir + "/vfork"}, Stay: func() bool { asked++; return asked < 20 }}
		if _, ended := learnedFrom(t, dir, command); ended.ExitStatus() != 4 {
			t.Errorf("status %d", ended.ExitStatus())
		}
	}
}

// What outlives the command is followed to its end, or until it is enough.
func TestOutlives(t *testing.T) {
	dir := directory(t, "late")
	command := Command{Argv: []string{"sh", "-c", "(sleep 0.5; cat late; echo over >out) >/dev/null & exit 4"}, Stay: func() bool { return true }}
	r, ended := learnedFrom(t, dir, command)
	if ended.ExitStatus() != 4 {
		t.Errorf("status %d", ended.ExitStatus())
	}
	if f := r.files[dir+"/late"]; f == nil || f.did[read] == 0 {
		t.Errorf("what outlived the command was not followed: %v", argv(r))
	}
	// Left alone, it goes on.
	os.Remove(dir + "/out")
	begin := time.Now()
	asked := 0
	command.Stay = func() bool { asked++; return asked < 20 }
	r, ended = learnedFrom(t, dir, command)
	if ended.ExitStatus() != 4 || r.files[dir+"/late"] != nil || time.Since(begin) > 400*time.Millisecond {
		t.Errorf("status %d after %v; %v", ended.ExitStatus(), time.Since(begin), r.files[dir+"/late"])
	}
	for i := 0; ; i++ {
		if b, _ := os.ReadFile(dir + "/out"); string(b) == "over\n" {
			break
		}
		if i == 100 {
			t.Fatal("what was left alone has ended")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// How the command ended is as without learn; so is what signals do to it.
func TestEnds(t *testing.T) {
	dir := directory(t)
	for _, test := range []struct {
		script string
		want   syscall.WaitStatus
	}{
		{"exit 7", 7 << 8},
		{"kill -TERM $$", syscall.WaitStatus(syscall.SIGTERM)},
		{"kill -KILL $$", syscall.WaitStatus(syscall.SIGKILL)},
		{"trap 'exit 5' USR1; kill -USR1 $$; exit 6", 5 << 8},
		{"(sleep 0.2; kill -CONT $$) & kill -STOP $$; exit 8", 8 << 8},
		{"sleep 5 & kill -STOP $!; kill -CONT $!; kill $!; wait $!", 143 << 8},
	} {
		_, ended := learned(t, dir, "sh", "-c", test.script)
		if plain := exec.Command("sh", "-c", test.script); ended&^0x80 != test.want {
			t.Errorf("%s: ended with %#x, want %#x", test.script, ended, test.want)
		} else if plain.Run(); plain.ProcessState.Sys().(syscall.WaitStatus)&^0x80 != test.want {
			t.Errorf("%s: untraced it ends with %#x", test.script, plain.ProcessState.Sys())
		}
	}
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	go func() {
		time.Sleep(300 * time.Millisecond)
		syscall.Kill(pid, syscall.SIGINT)
	}()
	ended, err := r.Run(Command{Path: "/bin/sleep", Argv: []string{"sleep", "20"}, Started: func(n int) { pid = n }})
	if err != nil || !ended.Signaled() || ended.Signal() != syscall.SIGINT {
		t.Errorf("%v, %v", ended, err)
	}
}

// What cannot be run says why.
func TestCannotRun(t *testing.T) {
	dir := directory(t, "text")
	os.Chmod(dir+"/text", 0o755)
	if err := os.Link(here+"/many", dir+"/unreadable"); err == nil {
		os.Remove(dir + "/unreadable")
	}
	if err := copyFile("/usr/bin/true", dir+"/unreadable"); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/unreadable", 0o111)
	for name, why := range map[string]string{"none": "no such file", "text": "exec format error", "unreadable": "cannot be read by you"} {
		r, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Run(Command{Path: dir + "/" + name, Argv: []string{name}}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Calls of a program that its user may not read are counted, since they are not seen.
func TestUnreadable(t *testing.T) {
	dir := directory(t, "f")
	if err := copyFile("/usr/bin/cat", dir+"/unreadable"); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/unreadable", 0o111)
	r, ended := learned(t, dir, "sh", "-c", "./unreadable f >/dev/null")
	if ended.ExitStatus() != 0 || r.blind == 0 {
		t.Errorf("status %d, %d calls", ended.ExitStatus(), r.blind)
	}
	_, policy := drafted(t, r)
	has(t, policy, fmt.Sprintf("# %d calls of programs that", r.blind))
}
