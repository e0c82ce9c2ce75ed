package elfdeps

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// confPath is what ldconfig(8) reads, and cachePath what it writes.
const (
	confPath  = "/etc/ld.so.conf"
	cachePath = "/etc/ld.so.cache"
)

// maxConfs is how many files ld.so.conf may include.
const maxConfs = 1000

// confDirs are the directories that ldconfig would look into for the cache.
func (r *Resolver) confDirs() ([]string, error) {
	var dirs []string
	read := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if read[name] {
			return nil
		}
		if read[name] = true; len(read) > maxConfs {
			return errors.New("it includes too many files")
		}
		b, err := r.host.Read(name, 1<<20)
		if absent(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%q: %w", name, why(err))
		}
		for line := range strings.Lines(string(b)) {
			line, _, _ = strings.Cut(line, "#")
			fields := strings.Fields(line)
			if len(fields) == 0 {
				continue
			}
			if fields[0] != "include" {
				// "DIR=TYPE" is of the days of libc 5.
				dir, _, _ := strings.Cut(strings.TrimSpace(line), "=")
				if dir = strings.TrimSpace(dir); strings.HasPrefix(dir, "/") {
					dirs = append(dirs, strings.TrimRight(dir, "/")+"/")
				}
				continue
			}
			for _, pattern := range fields[1:] {
				if pattern[0] != '/' {
					pattern = path.Join(path.Dir(name), pattern)
				}
				names, err := r.glob(pattern)
				if err != nil {
					return fmt.Errorf("%q: %w", name, err)
				}
				for _, name := range names {
					if err := add(name); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	err := add(confPath)
	return dirs, err
}

// glob is the files that a pattern names, ascending. Only the last component may be
// a pattern.
func (r *Resolver) glob(pattern string) ([]string, error) {
	dir, base := path.Split(pattern)
	real, err := r.host.Real(dir)
	if absent(err) {
		return nil, nil
	} else if err != nil {
		return nil, why(err)
	}
	names, err := r.host.List(real)
	if err != nil {
		return nil, why(err)
	}
	var found []string
	for _, name := range names {
		ok, err := path.Match(base, name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if ok && (name[0] != '.' || base[0] == '.') {
			found = append(found, path.Join(real, name))
		}
	}
	return found, nil
}
