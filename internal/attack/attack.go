// Package attack tries to get out of a jail, or to do there what nobody in a jail
// may. Each attack runs in a process of its own, cmd/jailctl-probe, and says how
// it ended; package outside plays the accomplices. The test shows for each that it
// works without jailctl, and that jailctl holds it.
//
// Where a call would harm the machine, it is made with arguments that do nothing:
// an error about these says that the call was permitted.
package attack

import (
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attack is one way that is tried.
type Attack struct {
	ID   string
	What string // for people, in a line
	By   string // what is meant to hold it
	// Errno is how it is held under the default confinement: an error's name, or
	// "SIGSYS" where the kernel kills, or "refused" where the command is not started.
	Errno string
	Start Start
	Proof Proof
	// Unproven says why it does not get out anywhere here, where Proof is Nowhere.
	Unproven string
	// Opened is what in a policy permits it by intent.
	Opened Feature
	// Open says why it is not held by default.
	Open string

	do func(Given) Outcome
}

// What is meant to hold an attack. The first five do it alone, whatever the others
// do, which the tests show.
const (
	BySeccomp    = "seccomp baseline"
	BySockets    = "socket families" // in the same filter
	ByLandlock   = "Landlock"
	ByDrop       = "drop"
	ByNoNewPrivs = "no_new_privs"
	ByChroot     = "chroot"
	ByClosed     = "closed descriptors"
	ByVetted     = "vetted standard streams"
	ByClean      = "clean start"
	ByLimits     = "limits"
)

// Start is what whoever starts the command does for the attack.
type Start uint8

const (
	Plainly         Start = iota
	StandOutside          // leaves the working directory outside
	InheritDir            // hands on directories as descriptors above 2
	StdinDir              // gives a directory as standard input
	StdinPath             // the same, opened with O_PATH
	StdinSocket           // a Unix socket, through which a directory comes
	StdinTerminal         // a terminal, which it shares
	StdinFile             // a file of the target's outside, open for reading
	PassVariable          // a variable
	BlockSignals          // blocks SIGUSR1 and ignores SIGCONT
	MoveDirectory         // the rest are done when the attack is ready: moves a directory out
	ConnectInside         // connects to the attack's socket file and passes a directory
	ConnectAbstract       // the same with an abstract socket
)

// Proof is where an attack is seen to get out.
type Proof uint8

const (
	Nowhere Proof = iota // Unproven says why
	AsRoot               // root after chroot(2)
	AsUser               // the target after chroot(2) and setresuid(2): chroot --userspec
	NoJail               // the target outside: the attack works, but not after any chroot
)

// Feature is what a policy can open.
type Feature uint8

const (
	Network      Feature = 1 << iota // network: true, without network_ports
	Binding                          // network_ports with bind
	LocalSockets                     // local_sockets: true
)

// Given is what the accomplices tell an attack.
type Given map[string]string

// Verdict is the first word of an outcome.
type Verdict string

const (
	Escaped       Verdict = "escaped"
	Held          Verdict = "held"
	NotApplicable Verdict = "na"
	Tried         Verdict = "tried" // only outside can one see whether it worked
)

// Outcome is how an attack ended, and the name of the error or what was done.
type Outcome struct {
	Verdict Verdict
	Detail  string
}

func (o Outcome) String() string { return string(o.Verdict) + " " + o.Detail }

// Parse reads what String writes.
func Parse(line string) (Outcome, bool) {
	v, detail, ok := strings.Cut(line, " ")
	o := Outcome{Verdict(v), detail}
	return o, ok && slices.Contains([]Verdict{Escaped, Held, NotApplicable, Tried}, o.Verdict)
}

// Attacks are all of them, in the order in which people read of them.
var Attacks = slices.Concat(tree, state, processes, ipc, privileges, calls, terminal, sockets, machine)

// Control is no attack: that it gets out says that the probe runs, so that the
// silence of others says something.
var Control = Attack{ID: "control", What: "run at all", do: func(Given) Outcome { return escaped("it runs") }}

// Find finds an attack, or Control, by its ID.
func Find(id string) *Attack {
	if id == Control.ID {
		return &Control
	}
	i := slices.IndexFunc(Attacks, func(a Attack) bool { return a.ID == id })
	if i < 0 {
		return nil
	}
	return &Attacks[i]
}

// Run tries the attack in this process, which is fit for nothing else afterwards.
func (a *Attack) Run(g Given) Outcome { return a.do(g) }

func escaped(detail string) Outcome { return Outcome{Escaped, detail} }

func na(why string) Outcome { return Outcome{NotApplicable, why} }

// held is an attack that ended with an error.
func held(err error) Outcome {
	if errno, ok := err.(syscall.Errno); ok && unix.ErrnoName(errno) != "" {
		return Outcome{Held, unix.ErrnoName(errno)}
	}
	return Outcome{Held, err.Error()}
}

// done is escaped unless there is an error.
func done(err error, detail string) Outcome {
	if err != nil {
		return held(err)
	}
	return escaped(detail)
}

// passed is for calls with arguments that do nothing: one of the errors about
// these, or success, says that the call was permitted.
func passed(err error, about ...error) Outcome {
	if err == nil {
		return escaped("permitted")
	}
	if slices.Contains(about, err) {
		return escaped("permitted: " + held(err).Detail)
	}
	return held(err)
}

// sys is one system call. The pragma keeps what the arguments point to in place:
// a stack may move between conversion and call.
//
//go:uintptrescapes
func sys(nr uintptr, args ...uintptr) (int, error) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Descriptors are 32 bits; at is AT_FDCWD as the calls take it.
const (
	at   = ^uintptr(99)
	none = ^uintptr(0)
)

// number is a number that the accomplices told; -1 if they did not.
func (g Given) number(key string) int {
	n := 0
	for _, c := range []byte(g[key]) {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	if g[key] == "" {
		return -1
	}
	return n
}

// out is enough to be above any root.
const out = "../../../../../../../../../../../../../../../../../../../../"

// read opens a file, which is the canary if the secret is in it.
func (g Given) read(dir int, path string) Outcome {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return held(err)
	}
	return g.told(fd, "read a file outside")
}

// told reads from a descriptor, which is from outside if it tells the secret.
func (g Given) told(fd int, detail string) Outcome {
	b := make([]byte, 64)
	n, err := unix.Read(fd, b)
	if err != nil {
		return held(err)
	}
	return g.secret(b[:n], detail)
}

// secret is escaped if b is what only accomplices and the canary can tell.
func (g Given) secret(b []byte, detail string) Outcome {
	if g["secret"] == "" || !strings.HasPrefix(string(b), g["secret"]) {
		return Outcome{Held, "what was read is not from outside"}
	}
	return escaped(detail)
}

// ready tells the accomplice outside to go on, and waits until it has.
func ready() error {
	if _, err := unix.Write(1, []byte("ready\n")); err != nil {
		return err
	}
	var b [1]byte
	n, err := unix.Read(0, b[:])
	if err == nil && n == 0 {
		err = unix.EPIPE
	}
	return err
}
