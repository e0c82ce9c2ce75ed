package packages

import (
	"fmt"
	"path"
	"strings"

	"jailctl/internal/host"
)

// apkFiles are where apk has its database: one file with everything. Each line is a
// letter, a colon and a value; an empty line ends a package (apk-package(5)).
var apkFiles = []string{"/lib/apk/db/installed", "/usr/lib/apk/db/installed"}

// A machine with apk has one architecture.
var apkSpeech = speech{install: "apk add"}

type apk struct {
	aside *host.Host
	file  string
}

func (a *apk) read() ([]*entry, []string, error) {
	b, err := a.aside.Read(a.file, maxFile)
	if err != nil {
		return nil, nil, err
	}
	all, err := parseApk(a.file, string(b))
	for _, e := range all {
		e.inputs = []string{a.file}
	}
	return all, []string{a.file}, err
}

func parseApk(file, text string) ([]*entry, error) {
	var all []*entry
	var e *entry
	var err error
	n, start, dir := 0, 0, ""
	fault := func(line int, format string, args ...any) ([]*entry, error) {
		return nil, fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
	}
	for line := range strings.Lines(text + "\n\n") {
		n++
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if e == nil {
				continue
			}
			if !plain(e.name) || e.Version == "" {
				return fault(start, "not a package: %q of version %q", e.name, e.Version)
			}
			e.offers = append(e.offers, e.name)
			all = append(all, e)
			e = nil
			continue
		}
		if len(line) < 2 || line[1] != ':' {
			return fault(n, "not a letter, a colon and a value: %q", line)
		}
		if e == nil {
			e, start, dir = &entry{}, n, ""
		}
		value := line[2:]
		switch line[0] {
		case 'P':
			e.name = value
		case 'V':
			e.Version = value
		case 'D':
			e.needs = apkNames(value)
		case 'p':
			e.offers = apkNames(value)
		case 'F':
			if dir, err = absolute("/" + value); err != nil {
				return fault(n, "%v", err)
			}
			if dir != "/" {
				e.list = append(e.list, dir)
			}
		case 'R':
			name, err := absolute(dir + "/" + value)
			if err != nil || dir == "" || name == "/" || path.Base(name) != value {
				return fault(n, "not a file in a directory: %q", value)
			}
			e.list = append(e.list, name)
		}
	}
	return all, nil
}

// apkNames are names without versions: "so:libc.so.1=1 cmd:ls>2" is so:libc.so.1 and
// cmd:ls. What begins with "!" must not be there, and nothing is called so.
func apkNames(value string) []string {
	var names []string
	for _, name := range strings.Fields(value) {
		if end := strings.IndexAny(name, "=<>~"); end >= 0 {
			name = name[:end]
		}
		names = append(names, name)
	}
	return names
}

func (a *apk) files(e *entry) ([]string, error) { return e.list, nil }
