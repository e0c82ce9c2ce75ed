package main

import (
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"jailctl/client"
	"jailctl/ipc"
)

// unusable is run's exit status for everything before exec.
const unusable = 125

const usage = "usage: jailctl run [-u USER] [-g GROUP] [-C DIR] [-e NAME[=VALUE]]... [--tty=auto|share] [--status-fd=N] JAIL [--] [COMMAND [ARG...]]"

// run is `jailctl run`; it returns the exit status, or dies of the signal that
// killed the command.
func run(args []string) int {
	cmd, status, err := parse(args)
	if err != "" {
		say(err)
		return unusable
	}
	if cmd == nil {
		return 0 // --help
	}
	return start(cmd, status)
}

// parse reads the command line. A nil Cmd without an error: help was asked for.
func parse(args []string) (cmd *client.Cmd, status int, fail string) {
	env := syscall.Environ()
	cmd = client.Command("", nil, env)
	status = -1
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if arg == "-h" || arg == "--help" {
			write(1, usage+"\n")
			return nil, 0, ""
		}
		if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "--") {
			switch name {
			case "--tty":
				if value != "auto" && value != "share" {
					return nil, 0, "unknown --tty " + strconv.Quote(value) + ": auto or share"
				}
			case "--status-fd":
				n, err := strconv.Atoi(value)
				if err != nil || n < 3 || !isOpen(n) {
					return nil, 0, "bad --status-fd " + strconv.Quote(value) + ": the number of an open descriptor, 3 or more"
				}
				syscall.CloseOnExec(n)
				status = n
			default:
				return nil, 0, "unknown option " + strconv.Quote(name) + "; " + usage
			}
			continue
		}
		letter, value := arg[:2], arg[2:]
		if !strings.Contains("-u -g -C -e", letter) || arg[1] == '-' {
			return nil, 0, "unknown option " + strconv.Quote(arg) + "; " + usage
		}
		if value == "" {
			if len(args) == 0 {
				return nil, 0, "option " + letter + " needs a value; " + usage
			}
			value, args = args[0], args[1:]
		}
		if value == "" {
			return nil, 0, "option " + letter + " needs a value; " + usage
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
				return nil, 0, fail
			}
			if entry != "" {
				cmd.Assign = append(cmd.Assign, entry)
			}
		}
	}
	if len(args) == 0 {
		return nil, 0, "no jail named; " + usage
	}
	cmd.Jail, args = args[0], args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd.Argv = args
	return cmd, status, ""
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

// start runs the command and sees it to its end.
func start(cmd *client.Cmd, statusFD int) int {
	events := status(statusFD)
	signals, err := signalFD()
	if err != nil {
		say("cannot receive signals: " + err.Error())
		return unusable
	}
	if err := cmd.Start(); err != nil {
		return refused(events, err)
	}
	var granted atomic.Bool
	go watch(cmd, signals, &granted)
	reply, err := cmd.Granted()
	if err != nil {
		return refused(events, err)
	}
	granted.Store(true)
	if reply.Wall > 0 {
		go expire(cmd, reply.Wall)
	}
	if statusFD >= 0 {
		if err := cmd.Running(); err != nil {
			return refused(events, err)
		}
		events.started(cmd.Pid())
	}
	var stopped func() bool
	if tty := terminal(); tty >= 0 {
		stopped = func() bool { return stop(tty, cmd) }
	}
	ended, err := cmd.Wait(stopped)
	if err != nil {
		return refused(events, err)
	}
	if ended.Signaled() {
		events.signaled(ended.Signal())
		die(ended.Signal())
	}
	events.exited(ended.ExitStatus())
	return ended.ExitStatus()
}

// refused says why nothing ran. Where the terminal's Ctrl-C or Ctrl-\ ended the
// helper, it is ours as well.
func refused(events status, err error) int {
	r, ok := err.(*client.Refused)
	if ok && r.Killed != 0 {
		die(r.Killed)
	}
	text, stage := err.Error(), ""
	if !ok || r.Outcome == ipc.Refused {
		text = "cannot run: " + text
	}
	say(text)
	if ok {
		stage = r.Stage
	}
	events.refused(text, stage)
	if ok {
		return r.Status()
	}
	return unusable
}

// expire ends the command when its time is over: asked first, then killed.
func expire(cmd *client.Cmd, seconds uint64) {
	sleep(seconds)
	say("the command's wall_seconds are over: " + strconv.FormatUint(seconds, 10))
	cmd.Signal(syscall.SIGTERM)
	sleep(5)
	cmd.Signal(syscall.SIGKILL)
}
