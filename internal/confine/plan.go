// Package confine holds a process in its jail with Landlock, as the target, after
// root is gone: files beneath the jail's root and nothing else, no signals and
// abstract sockets to the outside, TCP ports by list. landlock(7) is the reference.
//
// Plan says what a kernel will enforce, and what it cannot, and is pure: what
// `jailctl explain` and `jailctl doctor` print is what Enforce does.
//
// It does not promise: metadata through a descriptor at hand (stat, chmod, fchdir),
// programs run from memory (memfd_create), UDP, MPTCP, socket files, System V IPC,
// set-id bits, inherited terminals. Those are the seccomp filter's.
package confine

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Keep says how much a promise matters. The zero value is the strictest.
type Keep uint8

const (
	Must   Keep = iota // enforce; a kernel that cannot is Missing
	IfAble             // enforce where the kernel can; something else keeps the promise as well
	Off                // leave open
)

// Want is what a policy asks for. The zero value is the default of every run: the
// whole jail, nothing outside, no TCP.
type Want struct {
	Unveil        []Path   // the parts that stay; nil: the whole jail; empty: nothing
	Signals       Keep     // to processes outside
	Abstract      Keep     // connecting to abstract Unix sockets of processes outside
	TCP           Keep     // connecting and binding to other ports than the following
	Connect, Bind []uint16 // TCP ports; Bind 0 is any port of the kernel's choice
	Degrade       bool     // run even with something Missing
}

// Path is one unveil: a clean absolute path inside the jail, without symbolic
// links, and letters of "rwxc".
type Path struct {
	Path, Access string
	Optional     bool // may be missing
}

// Enforcement is what Enforce does. Rights are landlock(7)'s bits.
type Enforcement struct {
	ABI            int    // computed for; 0: there is no Landlock and nothing is enforced
	FS, Net, Scope uint64 // denied unless a rule permits
	Log            bool   // denials of the command are audited
	Rules          []Rule
	Connect, Bind  []uint16
	Refuse         bool // something is Missing, and not to be run without
}

// Rule permits rights on a file, or beneath a directory.
type Rule struct {
	Path     string
	Rights   uint64
	Optional bool
}

// Missing is something that the kernel cannot do. Without degrade it is a refusal.
type Missing struct {
	What    string // that is asked for
	Instead string // what happens under degrade
	ABI     int    // the Landlock version that can, and the first kernel that has it;
	Kernel  string // 0 and "": none
}

const (
	make_ = unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	remove = unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	// onFiles are the rights that a rule on anything but a directory can have.
	onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// Bits of Enforcement.Scope.
const (
	ScopeAbstract = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	ScopeSignal   = unix.LANDLOCK_SCOPE_SIGNAL
)

// letters are OpenBSD's, unveil(2), in Landlock's rights. Device nodes (MAKE_CHAR,
// MAKE_BLOCK) belong to none: nobody makes them in a jail. Linux does not execute
// what it may not read: x without r runs nothing. REFER is renaming and linking
// from one directory to another, which never gains a file rights.
var letters = [...]struct {
	letter byte
	rights uint64
}{
	{'r', unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR},
	{'w', unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	{'x', unix.LANDLOCK_ACCESS_FS_EXECUTE},
	{'c', make_ | remove | unix.LANDLOCK_ACCESS_FS_REFER},
}

// abis are the versions of Landlock, from 1 on: their first kernel, and how many
// of the rights on files they know. Version 4 added TCP, 6 the scopes, 7 the log.
var abis = [...]struct {
	kernel string
	rights int
}{1: {"5.13", 13}, 2: {"5.19", 14}, 3: {"6.2", 15}, 4: {"6.7", 15}, 5: {"6.10", 16}, 6: {"6.12", 16}, 7: {"6.15", 16}}

// Newest is the last version whose meaning is known here; later ones keep it.
const Newest = len(abis) - 1

// Plan says what a kernel with this version of Landlock will enforce of w, and
// what it cannot. Errata do not count: two of those known deny too much, between
// threads of one process that confined themselves apart (2) and on sockets that are
// no TCP (1). The third (CVE-2025-68736) may permit too much, but only on what was
// moved out of a mount, by somebody outside or by who has rights on both sides.
func Plan(w Want, abi int) (Enforcement, []Missing) {
	abi = max(0, min(abi, Newest))
	e := Enforcement{ABI: abi, Log: abi >= 7}
	var missing []Missing
	lack := func(needs int, what, instead string) {
		if abi < needs {
			missing = append(missing, Missing{what, instead, needs, abis[needs].kernel})
		}
	}
	kept := func(k Keep, needs int, what, instead string) bool {
		if k == Must {
			lack(needs, what, instead)
		}
		return k != Off && abi >= needs
	}
	paths := w.Unveil
	if paths == nil {
		paths = []Path{{Path: "/", Access: "rwxc"}}
	}
	if abi > 0 {
		e.FS = 1<<abis[abi].rights - 1
	}
	var creates, readOnly bool
	for _, p := range paths {
		e.Rules = append(e.Rules, Rule{p.Path, rights(p.Access) & e.FS, p.Optional})
		creates = creates || strings.Contains(p.Access, "c")
		readOnly = readOnly || strings.Contains(p.Access, "r") && !strings.Contains(p.Access, "w")
	}
	lack(1, "files outside and what is not unveiled", "open to whoever finds a way; so are processes outside, by ptrace")
	if creates {
		lack(2, "renaming and linking from one directory to another", "refused with EXDEV")
	}
	lack(3, "truncating files outside and without w", "open")
	if readOnly {
		lack(5, "ioctl on devices that are unveiled without w", "open")
	}
	if kept(w.TCP, 4, "TCP on other ports than those listed", "open") {
		e.Net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		e.Connect, e.Bind = w.Connect, w.Bind
	}
	if kept(w.Signals, 6, "signals to processes outside", "open towards the target's uid") {
		e.Scope |= ScopeSignal
	}
	if kept(w.Abstract, 6, "abstract Unix sockets of processes outside", "open") {
		e.Scope |= ScopeAbstract
	}
	for _, c := range Conflicts(paths) {
		p, above := paths[c.Path], paths[c.Above]
		missing = append(missing, Missing{
			What:    "only " + p.Access + " on " + p.Path,
			Instead: "it also has the " + above.Access + " of " + above.Path,
		})
	}
	e.Refuse = len(missing) > 0 && !w.Degrade
	return e, missing
}

// Refusal says that, and why, nothing is run.
func Refusal(missing []Missing) string {
	s := "this kernel cannot keep what the policy asks for"
	for i, m := range missing {
		s += []string{": ", "; "}[min(i, 1)] + m.What
		if m.ABI > 0 {
			s += " (needs Linux " + m.Kernel + ")"
		}
	}
	return s + ". The policy may have it run all the same, with degrade: true in confine"
}

// A Conflict is a path that is to have less than one above it, by index.
type Conflict struct{ Path, Above int }

// Conflicts finds what OpenBSD can say and Landlock, where rights only add up,
// cannot: less beneath a directory than the directory has.
func Conflicts(paths []Path) (all []Conflict) {
	for i, p := range paths {
		for j, above := range paths {
			if more := rights(above.Access) &^ rights(p.Access); i != j && Beneath(p.Path, above.Path) && more != 0 {
				all = append(all, Conflict{i, j})
			}
		}
	}
	return all
}

// rights are those of all letters; other characters stand for nothing.
func rights(access string) (r uint64) {
	for _, l := range letters {
		if strings.IndexByte(access, l.letter) >= 0 {
			r |= l.rights
		}
	}
	return r
}

// Letters are the least that stand for some rights; whole is false where there is one
// that no letter stands for.
func Letters(need uint64) (access string, whole bool) {
	for _, l := range letters {
		if l.rights&need != 0 {
			access += string(l.letter)
			need &^= l.rights
		}
	}
	return access, need == 0
}

// Rights are those that the rules of e give on a path without symbolic links.
func (e Enforcement) Rights(path string) (r uint64) {
	for _, rule := range e.Rules {
		if Beneath(path, rule.Path) {
			r |= rule.Rights
		}
	}
	return r
}

// Beneath reports whether a clean absolute path is another or beneath it.
func Beneath(path, above string) bool {
	return above == "/" || path == above || strings.HasPrefix(path, above+"/")
}
