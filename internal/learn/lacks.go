package learn

import (
	"slices"

	"golang.org/x/sys/unix"

	"jailctl/internal/ptrace"
)

// Absent notes a path that a process in a jail did not find, and that the host may
// have; of files that the host has not either, nothing can be learned. executes says
// that it was to be executed; shells look for a program first.
func (r *Record) Absent(argv []string, name string, executes bool) {
	root, err := ptrace.OpenRoot("/")
	if err != nil {
		return
	}
	defer root.Close()
	f, err := root.Find(name, true)
	if err != nil || !f.Exists {
		return
	}
	// A shell looks into one directory of its PATH after the other.
	if known := r.files[f.Path]; known != nil && known.did[executed] != 0 {
		return
	}
	step := 1 + slices.IndexFunc(r.Steps, func(s Step) bool { return slices.Equal(s.Argv, argv) })
	if step == 0 {
		r.Steps = append(r.Steps, Step{Argv: argv})
		step = len(r.Steps)
	}
	switch {
	case executes || f.Stat.Mode&(unix.S_IFMT|0o111) == unix.S_IFREG|0o111:
		r.execute(name, root.Programs(name), step)
	case f.IsDir():
		r.named(name, f.Path)
		r.did(f, looked, step)
	default:
		r.named(name, f.Path)
		r.did(f, read, step)
	}
}

// Lacks is the lines that a contents file must have more, so that what was absent is
// there, and in comments what none of them brings; empty: none.
func (r *Record) Lacks(w World) (text string, lines bool) {
	d := &draft{Record: r, World: w, links: map[string]string{}, roots: map[string]bool{}}
	d.programLines()
	d.sort()
	d.fill()
	return d.body(), len(d.lines) > 0
}
