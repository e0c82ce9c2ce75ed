package main

import "golang.org/x/sys/unix"

// What the assembly entry point noted before the runtime started. Each begins
// with the value that refuses, for a helper linked without -E main.entry.
var (
	entered       uint32                   // 1: entry ran
	callerUID     uint32      = 0xffffffff // AT_UID: the real uid at exec
	entryEUID     uint32      = 0xffffffff // AT_EUID: 0 only where the set-uid bit counted
	callerEnviron uint32      = 1          // not 0: the environment was not one empty string
	closedFDs     uint32      = 1          // not 0: one of the descriptors 0 to 5 was closed
	callerFiles   unix.Rlimit              // RLIMIT_NOFILE, which package syscall raises at init
)

// entry is in entry_GOARCH.s. It is never called; the kernel jumps to it.
//
//lint:ignore U1000 named by the linker flag -E
func entry()
