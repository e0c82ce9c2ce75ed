// Jailctl-probe tries one attack of package attack on the jail in which it runs,
// and prints how it ended:
//
//	jailctl-probe ID [KEY=VALUE]...
//
// It is started by jailctl doctor --attack and by the tests, which tell it what
// their accomplices have prepared.
package main

import (
	"os"
	"runtime"
	"strings"

	"jailctl/internal/attack"
)

// Some system calls are for the calling thread alone, and some only for the first.
func init() { runtime.LockOSThread() }

func main() {
	// As a setuid file it has only one answer, whoever asks what.
	if os.Geteuid() != os.Getuid() {
		say(attack.AmIRoot())
		return
	}
	if len(os.Args) < 2 {
		die("usage: jailctl-probe ID [KEY=VALUE]...")
	}
	given := attack.Given{}
	for _, arg := range os.Args[2:] {
		k, v, _ := strings.Cut(arg, "=")
		given[k] = v
	}
	switch id := os.Args[1]; id {
	case "victim":
		attack.Victim(given["secret"])
	case "keeper":
		if err := attack.Keeper(given["secret"], given["name"]); err != nil {
			die("jailctl-probe: " + err.Error())
		}
	case "am-i-root":
		say(attack.AmIRoot())
	default:
		a := attack.Find(id)
		if a == nil {
			die("jailctl-probe: there is no attack " + id)
		}
		say(a.Run(given))
	}
}

func say(o attack.Outcome) { os.Stdout.WriteString(o.String() + "\n") }

func die(why string) {
	os.Stderr.WriteString(why + "\n")
	os.Exit(2)
}
