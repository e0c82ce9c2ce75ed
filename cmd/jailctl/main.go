// Jailctl runs permitted commands in jails, as an ordinary user. `run` is here, and the
// answer that `build` has nothing to do; all else is jailctl-admin's, which this program
// becomes: what parses policies and draws tables must not be linked into the path of
// every command.
//
// For the same reason this program has no package os: its arguments come from
// the entry point.
package main

import (
	"syscall"
	"unsafe"

	"jailctl/internal/fresh"
	"jailctl/internal/paths"
)

// stack is where the kernel put argc and argv, noted by the assembly entry point;
// nil: linked without -E main.entry.
var stack unsafe.Pointer

// noRoom is what the entry point says where the address space is limited to less
// than the Go runtime needs.
//
//lint:ignore U1000 read by the assembly
var noRoom = "jailctl: cannot start: the limit on address space (ulimit -v) is under 1500000 KiB\n"

// entry is in entry_GOARCH.s. It is never called; the kernel jumps to it.
//
//lint:ignore U1000 named by the linker flag -E
func entry()

func main() {
	args := arguments()
	if len(args) > 1 && args[1] == "run" {
		exit(run(args[2:]))
	}
	if len(args) > 1 && args[1] == "build" && nothingToDo(args[2:]) {
		exit(0)
	}
	if len(args) > 0 {
		args = args[1:]
	}
	say(admin("jailctl", args))
	exit(2)
}

// nothingToDo answers `build [--quiet] NAME` where there is nothing to do.
func nothingToDo(args []string) bool {
	quiet := len(args) == 2 && args[0] == "--quiet"
	if quiet {
		args = args[1:]
	}
	if len(args) != 1 || !fresh.Jail(args[0]) {
		return false
	}
	if quiet {
		return true
	}
	text := args[0] + ": nothing to do\n"
	n, err := syscall.Write(1, []byte(text))
	return err == nil && n == len(text)
}

// admin becomes jailctl-admin, under a name, with the same environment. It returns
// why it could not.
func admin(name string, args []string) string {
	path := paths.Libexec + "/jailctl-admin"
	err := syscall.Exec(path, append([]string{name}, args...), syscall.Environ())
	return "cannot start " + path + ": " + err.Error()
}

// arguments returns argv.
func arguments() []string {
	if stack == nil {
		say("internal error: linked without its entry point; build it with make")
		exit(unusable)
	}
	argc := *(*int)(stack)
	argv := unsafe.Slice((**byte)(unsafe.Add(stack, 8)), argc)
	args := make([]string, argc)
	for i, p := range argv {
		n := 0
		for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
			n++
		}
		args[i] = unsafe.String(p, n)
	}
	return args
}
