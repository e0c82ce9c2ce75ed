package main

import (
	"strconv"
	"sync/atomic"
	"syscall"

	"jailctl/client"
	"jailctl/internal/runline"
	"jailctl/ipc"
)

// unusable is run's exit status for everything before exec.
const unusable = 125

// run is `jailctl run`; it returns the exit status, or dies of the signal that
// killed the command.
func run(args []string) int {
	line, err := runline.Parse(args)
	if err != "" {
		say(err)
		return unusable
	}
	if line.Help {
		write(1, runline.Usage+"\n")
		return 0
	}
	// That is more than this program should be linked with.
	switch {
	case line.PTY:
		fail := "cannot make a terminal for the command: none of descriptors 0 to 2 is one; leave out --tty=pty"
		if terminal() >= 0 {
			fail = admin("jailctl-pty", append([]string{"run"}, args...))
		}
		return refused(status(line.StatusFD), &client.Refused{Outcome: ipc.Failed, Text: fail})
	case line.Trace:
		fail := admin("jailctl", append([]string{"run"}, args...))
		return refused(status(line.StatusFD), &client.Refused{Outcome: ipc.Failed, Text: fail})
	}
	return start(line.Cmd, line.StatusFD)
}

// start runs the command and sees it to its end.
func start(cmd *client.Cmd, statusFD int) int {
	if statusFD >= 0 {
		syscall.CloseOnExec(statusFD)
	}
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
