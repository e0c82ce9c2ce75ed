// Package runline is the command line of `jailctl run`, for the two programs that
// serve it. It is on the way of every command: no package os.
package runline

import (
	"strconv"
	"strings"
	"syscall"

	"jailctl/client"
)

// Usage is one line.
const Usage = "usage: jailctl run [-u USER] [-g GROUP] [-C DIR] [-e NAME[=VALUE]]... [--tty=auto|share|pty] [--status-fd=N] [--trace[=FILE] [--json]] JAIL [--] [COMMAND [ARG...]]"

// Line is a command line.
type Line struct {
	Cmd       *client.Cmd
	StatusFD  int // -1: none
	Help      bool
	PTY       bool // on a terminal of its own
	Trace     bool
	TraceFile string // empty: standard error
	JSON      bool
}

// Parse reads what stands behind "run"; fail says in one line what is wrong with it.
// In args it leaves --tty=share where it has found --tty=pty: who makes the terminal
// runs jailctl on it with these args.
func Parse(args []string) (line *Line, fail string) {
	env := syscall.Environ()
	cmd := client.Command("", nil, env)
	line = &Line{Cmd: cmd, StatusFD: -1}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		given, arg := args, args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if arg == "-h" || arg == "--help" {
			line.Help = true
			return line, ""
		}
		if arg == "--trace" {
			line.Trace = true
			continue
		}
		if arg == "--json" {
			line.JSON = true
			continue
		}
		if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "--") {
			switch name {
			case "--tty":
				switch value {
				case "auto", "share":
					line.PTY = false
				case "pty":
					line.PTY = true
					given[0] = "--tty=share"
				default:
					return nil, "unknown --tty " + strconv.Quote(value) + ": auto, share or pty"
				}
			case "--status-fd":
				n, err := strconv.Atoi(value)
				if err != nil || n < 3 || !isOpen(n) {
					return nil, "bad --status-fd " + strconv.Quote(value) + ": the number of an open descriptor, 3 or more"
				}
				line.StatusFD = n
			case "--trace":
				if value == "" {
					return nil, "option --trace= needs a file; " + Usage
				}
				line.Trace, line.TraceFile = true, value
			default:
				return nil, "unknown option " + strconv.Quote(name) + "; " + Usage
			}
			continue
		}
		letter, value := arg[:2], arg[2:]
		if !strings.Contains("-u -g -C -e", letter) || arg[1] == '-' {
			return nil, "unknown option " + strconv.Quote(arg) + "; " + Usage
		}
		if value == "" {
			if len(args) == 0 {
				return nil, "option " + letter + " needs a value; " + Usage
			}
			value, args = args[0], args[1:]
		}
		if value == "" {
			return nil, "option " + letter + " needs a value; " + Usage
		}
		switch letter {
		case "-u":
			cmd.User = ownNumber("/etc/passwd", value, syscall.Getuid())
		case "-g":
			cmd.Group = ownNumber("/etc/group", value, syscall.Getgid())
		case "-C":
			cmd.Dir = value
		case "-e":
			entry, fail := assignment(value, env)
			if fail != "" {
				return nil, fail
			}
			if entry != "" {
				cmd.Assign = append(cmd.Assign, entry)
			}
		}
	}
	if len(args) == 0 {
		return nil, "no jail named; " + Usage
	}
	if line.PTY && line.Trace {
		return nil, "--trace has the command share your terminal: leave out --tty=pty"
	}
	if line.JSON && !line.Trace {
		return nil, "--json is the form of --trace; " + Usage
	}
	cmd.Jail, args = args[0], args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd.Argv = args
	return line, ""
}

// ownNumber returns id in place of name where the file says that this is its name:
// a rule whose target is the caller knows callers by number. Any other name is the
// policy's to know, and so is one of a name service beyond the file.
func ownNumber(file, name string, id int) string {
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return name
	}
	defer syscall.Close(fd)
	var text []byte
	for b := make([]byte, 64<<10); ; {
		n, err := syscall.Read(fd, b)
		if n <= 0 || err != nil {
			break
		}
		text = append(text, b[:n]...)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.SplitN(line, ":", 4)
		if len(f) == 4 && f[0] == name && f[2] == strconv.Itoa(id) {
			return f[2]
		}
	}
	return name
}

// assignment is -e's value as "NAME=VALUE"; a bare NAME takes the caller's own
// value, and is nothing where the caller has none.
func assignment(value string, env []string) (entry, fail string) {
	name, _, given := strings.Cut(value, "=")
	if name == "" {
		return "", "bad -e " + strconv.Quote(value) + ": NAME or NAME=VALUE"
	}
	if given {
		return value, ""
	}
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return e, ""
		}
	}
	return "", ""
}

func isOpen(fd int) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return errno == 0
}
