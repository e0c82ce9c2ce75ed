package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"jailctl/client"
	"jailctl/internal/learn"
	"jailctl/internal/runline"
	"jailctl/internal/trace"
	"jailctl/ipc"
	"jailctl/policy/source"
)

// learnIn runs a command in a jail, and says what of the host it did not find there.
// What its confinement denied is told as by run --trace.
func (p *program) learnIn(jail string, argv []string) error {
	line, wrong := runline.Parse(append([]string{jail, "--"}, argv...))
	if wrong != "" {
		return usage(wrong, "")
	}
	if p.root && !p.apart {
		return p.learnApart()
	}
	record, err := learn.New("/")
	if err != nil {
		return cannot("", "learn: %w", err)
	}
	ended, err := p.traced(line, func(map[string]any) {}, func(t *trace.Trace) {
		t.Absent = func(tid int, call, path string) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", tid))
			record.Absent(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), path, strings.HasPrefix(call, "execve"))
		}
	})
	refused := &client.Refused{}
	switch {
	case errors.As(err, &refused) && refused.Outcome == ipc.ExecFailed && (refused.Errno == unix.ENOENT || refused.Errno == unix.ENOTDIR):
		// The program itself is not there, or what the kernel loads it by.
		p.say("", "%v", err)
		if name, err := exec.LookPath(argv[0]); err == nil {
			record.Absent(argv, name, true)
		}
	case err != nil:
		return cannot("", "learn in %q: %w", jail, err)
	default:
		p.howItEnded(ended)
	}
	user := source.User{UID: uint32(os.Getuid())}
	if u, err := p.names.User(fmt.Sprint(user.UID)); err == nil {
		user = u
	}
	text, lines := record.Lacks(p.world(jail, user, nil))
	switch {
	case text == "":
		p.say("", "the command found all that the host has and it asked for")
	case lines:
		p.say("", "the command did not find what the host has; these lines in the contents file bring it:")
	default:
		p.say("", "the command did not find what the host has, and no line of a contents file brings it:")
	}
	p.write([]byte(text))
	return nil
}
