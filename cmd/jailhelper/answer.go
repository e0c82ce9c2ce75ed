package main

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"jailctl/internal/authlog"
	"jailctl/internal/paths"
	"jailctl/internal/safepath"
	"jailctl/internal/wire"
	"jailctl/ipc"
	"jailctl/policy"
)

// ipcError is an error that is already what the caller will be told.
type ipcError struct{ ipc.Reply }

func (e *ipcError) Error() string { return e.Text }

// refused is a no that follows from what the caller did or the policy says.
func refused(text string) error {
	return &ipcError{ipc.Reply{Outcome: ipc.Refused, Text: text}}
}

// failed is a step that did not succeed; err may be 0 or nil.
func failed(what string, err error) error {
	r := ipc.Reply{Outcome: ipc.Failed, Text: what}
	if errno, ok := err.(syscall.Errno); ok && errno != 0 {
		r.Errno, r.Text = errno, what+": "+errno.Error()
	}
	return &ipcError{r}
}

// at notes in which step err ended the helper.
func at(stage string, err error) error {
	if e, ok := err.(*ipcError); ok && e.Outcome == ipc.Failed {
		e.Stage = stage
	}
	return err
}

// reply tells the client why nothing was run. It never blocks, and if nobody
// listens that changes nothing.
func reply(err error) {
	e, ok := err.(*ipcError)
	if !ok {
		e = &ipcError{ipc.Reply{Outcome: ipc.Failed, Text: err.Error()}}
	}
	ipc.Send(ipc.Socket, e.Encode())
}

// refuse puts a denial on record and returns what the caller is told: the reason
// if told is set or the caller is root, else the line that all strangers get.
func refuse(c policy.Caller, r *ipc.Request, line uint32, told bool, reason string) error {
	b := authlog.New(false, "jailhelper", unix.Getpid()).Word("denied").Number("caller", c.UID)
	jail := ""
	if r != nil {
		jail = r.Jail
		b = b.Text("jail", jail)
	}
	if line != 0 {
		b = b.Number("line", line)
	}
	b = b.Text("reason", reason)
	if r != nil {
		b = asked(b, r)
	}
	if log, err := authlog.Open(); err == nil {
		log.Send(b)
		log.Close()
	}
	if r == nil {
		return refused(reason) // the form of the message, which the caller knows
	}
	if !told && c.UID != 0 {
		return refused(stranger)
	}
	if line != 0 {
		reason += " (" + paths.Policy(jail) + ":" + strconv.FormatUint(uint64(line), 10) + ")"
	}
	return refused(reason)
}

// record writes the line of a permitted request.
func record(c policy.Caller, r *ipc.Request, g *policy.Grant) error {
	verb := "permitted"
	if r.Verb == ipc.Explain {
		verb = "explained"
	}
	b := authlog.New(true, "jailhelper", unix.Getpid()).Word(verb).Number("caller", c.UID).Text("jail", r.Jail)
	b = b.Number("uid", g.UID).Number("gid", g.GID).Number("line", g.Line).Text("root", g.Root)
	log, err := authlog.Open()
	if err != nil {
		return err
	}
	defer log.Close()
	return log.Send(asked(b, r))
}

// asked appends what the caller asks for, as far as a line goes. The environment
// that comes by itself is left out; what is assigned is not.
func asked(b authlog.Line, r *ipc.Request) authlog.Line {
	if r.Verb == ipc.Explain {
		b = b.Word("explain")
	}
	for _, o := range []struct{ key, value string }{{"user", r.User}, {"group", r.Group}, {"dir", r.Dir}} {
		if o.value != "" {
			b = b.Text(o.key, o.value)
		}
	}
	for i, a := range r.Assign {
		if len(b) > 1024 {
			b = b.Number("more", uint32(len(r.Assign)-i))
			break
		}
		b = b.Text("env", a)
	}
	for i, a := range r.Argv {
		if len(b) > 2048 {
			return b.Number("more", uint32(len(r.Argv)-i))
		}
		b = b.Text("arg", a)
	}
	return b
}

// explain answers with the grant, which is then not used.
func explain(jail string, g *policy.Grant) error {
	var b []byte
	b = wire.AppendString(b, 1, paths.Policy(jail))
	b = wire.AppendUint(b, 2, uint64(g.Line))
	b = wire.AppendString(b, 3, g.Root)
	b = wire.AppendUint(b, 4, uint64(g.UID))
	b = wire.AppendUint(b, 5, uint64(g.GID))
	for _, id := range g.Groups {
		b = wire.AppendNumber(b, 6, uint64(id))
	}
	b = wire.AppendString(b, 7, g.Command)
	for _, a := range g.Argv {
		b = wire.AppendElem(b, 8, a)
	}
	for _, e := range g.Env {
		b = wire.AppendElem(b, 9, e)
	}
	b = wire.AppendString(b, 10, g.Dir)
	b = wire.AppendUint(b, 11, uint64(g.Umask))
	for _, l := range g.Limits {
		m := wire.AppendUint(wire.AppendUint(nil, 1, uint64(l.Resource)), 2, l.Value)
		b = wire.AppendElem(b, 12, m)
	}
	b = wire.AppendUint(b, 13, g.Wall)
	b = wire.AppendUint(b, 14, g.NotAfter)
	b = wire.AppendString(b, 15, g.Path)
	b = wire.AppendElem(b, 16, g.Confine.Raw)
	return &ipcError{ipc.Reply{Outcome: ipc.Explained, Explanation: b}}
}

// list answers with every jail in force that has a rule open to the caller. Jails
// that are broken, edited or closed to the caller are passed over alike.
func list(c policy.Caller) error {
	dir, err := safepath.Dir(paths.State + "/policies")
	if err != nil {
		return failed("cannot list the jails", err)
	}
	names, err := readNames(dir)
	if err != nil {
		return failed("cannot list the jails", err)
	}
	for _, name := range names {
		jail, err := inForce(name)
		if err != nil {
			continue
		}
		open := jail.Open(c)
		if len(open) == 0 {
			continue
		}
		r := ipc.Reply{Outcome: ipc.Listed, Listing: listing(jail, open)}
		if err := waitAndSend(&r); err != nil {
			return failed("cannot list the jails", err)
		}
	}
	return waitAndSend(&ipc.Reply{Outcome: ipc.End})
}

// waitAndSend is for the replies to a list, which may be more than the socket
// holds. The client reads while we write; if it does not, the alarm ends us.
func waitAndSend(r *ipc.Reply) error {
	return syscall.Sendmsg(ipc.Socket, r.Encode(), nil, nil, unix.MSG_NOSIGNAL)
}

// readNames returns the jails that have a compiled policy.
func readNames(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n == 0 {
			return names, err
		}
		var entries []string
		_, _, entries = unix.ParseDirent(buf[:n], -1, nil)
		for _, e := range entries {
			if name := trimSuffix(e, ".pb"); name != e && policy.ValidName(name) {
				names = append(names, name)
			}
		}
	}
}

func trimSuffix(s, suffix string) string {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)]
	}
	return s
}

// listing encodes what the caller may know of a jail.
func listing(j *policy.Jail, open []*policy.Rule) []byte {
	b := wire.AppendString(wire.AppendString(nil, 1, j.Name), 2, j.Description)
	for _, r := range open {
		var e []byte
		if !r.Caller {
			e = wire.AppendString(e, 1, nameOr(r.Target.Name, r.Target.UID))
			e = wire.AppendString(e, 2, nameOr(r.GroupName, r.GID))
		}
		for _, c := range r.Commands {
			s := c.Path
			for _, a := range c.Args {
				s += " " + a
			}
			if c.HasArgs && c.AnyRest || !c.HasArgs {
				s += " *"
			}
			e = wire.AppendElem(e, 3, s)
		}
		e = wire.AppendUint(e, 4, r.NotAfter)
		b = wire.AppendElem(b, 3, wire.AppendUint(e, 5, uint64(r.Line)))
	}
	return wire.AppendString(b, 4, j.DefaultCommand)
}

func nameOr(name string, id uint32) string {
	if name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}
