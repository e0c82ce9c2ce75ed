package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"jailctl/internal/host"
)

// dpkgDir is the database of dpkg (dpkg(1), FILES); its formats are deb-control(5)'s
// and those of dpkg-divert(1).
const dpkgDir = "/var/lib/dpkg"

var dpkgSpeech = speech{itself: "dpkg", separator: ":", neutral: "all", install: "apt-get install"}

// maxFile is more than any file of a database has, and what memory can hold.
const maxFile = 256 << 20

type dpkg struct {
	aside      *host.Host
	diversions map[string]diversion
}

// diversion is where files of all packages but by go; by is ":" for the administrator.
type diversion struct{ to, by string }

func (d *dpkg) read() ([]*entry, []string, error) {
	inputs := []string{dpkgDir + "/status", dpkgDir + "/updates"}
	// A later paragraph of a package replaces an earlier one: updates/ is what a
	// dpkg that was interrupted, or is at work, has not yet put into status.
	files := inputs[:1:1]
	updates, err := d.aside.Real(inputs[1])
	if err == nil {
		var names []string
		if names, err = d.aside.List(updates); err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			if strings.Trim(name, "0123456789") == "" {
				files = append(files, updates+"/"+name)
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	found := map[[2]string]*entry{}
	for _, file := range files {
		b, err := d.aside.Read(file, maxFile)
		if err != nil {
			return nil, nil, err
		}
		if err := parseStatus(file, string(b), found); err != nil {
			return nil, nil, err
		}
	}
	all := slices.Collect(maps.Values(found))
	relate(all)
	return all, inputs, nil
}

// parseStatus adds the packages of a file, and takes out those that are there no more.
func parseStatus(file, text string, found map[[2]string]*entry) error {
	all, err := paragraphs(file, text)
	if err != nil {
		return err
	}
	for _, p := range all {
		key := [2]string{p.fields["Package"], p.fields["Architecture"]}
		e, err := p.entry(key[0], key[1])
		if err != nil {
			return err
		}
		if delete(found, key); e != nil {
			found[key] = e
		}
	}
	return nil
}

// paragraph is one of a deb822(5) file: the fields that are wanted.
type paragraph struct {
	file   string
	line   int
	fields map[string]string
}

// wanted are the fields that are looked at. Case does not matter in their names.
var wanted = []string{"Package", "Status", "Version", "Architecture", "Multi-Arch", "Depends", "Pre-Depends", "Provides"}

func (p paragraph) fault(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...))
}

func paragraphs(file, text string) ([]paragraph, error) {
	var all []paragraph
	var fields map[string]string
	field, n := "", 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		at := paragraph{file: file, line: n}
		if line == "" {
			fields = nil
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if fields == nil {
				return nil, at.fault("this continues no field")
			}
			if field != "" {
				fields[field] += line
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, at.fault("not a field and its value: %q", line)
		}
		if fields == nil {
			fields = make(map[string]string, len(wanted))
			at.fields = fields
			all = append(all, at)
		}
		field = ""
		if i := slices.IndexFunc(wanted, func(w string) bool { return strings.EqualFold(w, name) }); i >= 0 {
			field = wanted[i]
			if _, ok := fields[field]; ok {
				return nil, at.fault("a second %s in one paragraph", field)
			}
			fields[field] = strings.Trim(value, " \t")
		}
	}
	return all, nil
}

// entry is nil where the package is not there at all.
func (p paragraph) entry(name, arch string) (*entry, error) {
	if !plain(name) || arch != "" && !plain(arch) {
		return nil, p.fault("not a package: %q of architecture %q", name, arch)
	}
	words := strings.Fields(p.fields["Status"])
	if len(words) != 3 || !plain(words[1]) || !plain(words[2]) {
		return nil, p.fault("package %q has no status: %q", name, p.fields["Status"])
	}
	e := &entry{name: name, arch: arch, multi: p.fields["Multi-Arch"]}
	e.Version = p.fields["Version"]
	e.needs = relations(p.fields["Depends"] + "," + p.fields["Pre-Depends"])
	e.offers = append(relations(p.fields["Provides"]), name)
	// The first word is what somebody wants: a package on hold is as installed as any.
	switch {
	case words[2] == "not-installed", words[2] == "config-files":
		return nil, nil
	case words[1] != "ok", words[2] == "half-installed":
		e.state = fmt.Sprintf("broken (%s %s); mend it with: apt-get install --reinstall %s", words[1], words[2], name)
	case words[2] != "installed":
		e.state = fmt.Sprintf("not yet installed (%s); finish that with: dpkg --configure -a", words[2])
	case e.Version == "":
		return nil, p.fault("package %q has no version", name)
	}
	e.inputs = append(e.lists(), dpkgDir+"/diversions")
	return e, nil
}

// lists are where the list of a package's files can be, the first that is there.
func (e *entry) lists() []string {
	plain := dpkgDir + "/info/" + e.name + ".list"
	if e.multi == "same" {
		return []string{dpkgDir + "/info/" + e.name + ":" + e.arch + ".list", plain}
	}
	return []string{plain}
}

// relate puts architectures to needs and offers: both are "name" for the machine's own
// and "name:arch" for others; data counts as its own. A package that is Multi-Arch:
// foreign serves those of each architecture; one that is Multi-Arch: allowed serves them
// where they depend on "name:any" (deb-control(5)).
func relate(all []*entry) {
	native := dpkgSpeech.native(all)
	archs := []string{native}
	for _, e := range all {
		if !slices.Contains(archs, e.arch) {
			archs = append(archs, e.arch)
		}
	}
	with := func(name, arch string) string {
		if strings.Contains(name, ":") || arch == native || arch == dpkgSpeech.neutral {
			return strings.TrimSuffix(name, ":"+native)
		}
		return name + ":" + arch
	}
	for _, e := range all {
		for i, name := range e.needs {
			e.needs[i] = with(name, e.arch)
		}
		serves := []string{e.arch}
		if e.multi == "foreign" {
			serves = slices.Clone(archs)
		}
		if e.multi == "allowed" {
			serves = append(serves, "any")
		}
		var offers []string
		for _, name := range e.offers {
			for _, arch := range serves {
				offers = append(offers, with(name, arch))
			}
		}
		e.offers = offers
	}
}

// relations are the names in a field of relations, alternatives and all, without
// versions: "a (>= 1) | b:any, c" is a, b:any and c.
func relations(field string) []string {
	var names []string
	for _, r := range strings.FieldsFunc(field, func(r rune) bool { return r == ',' || r == '|' }) {
		r = strings.TrimSpace(r)
		if end := strings.IndexAny(r, " \t("); end >= 0 {
			r = r[:end]
		}
		if r != "" {
			names = append(names, r)
		}
	}
	return names
}

func (d *dpkg) files(e *entry) ([]string, error) {
	if d.diversions == nil {
		var err error
		if d.diversions, err = readDiversions(d.aside); err != nil {
			return nil, err
		}
	}
	var b []byte
	var err error
	var list string
	for _, list = range e.lists() {
		if b, err = d.aside.Read(list, maxFile); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	files, err := lines(list, string(b))
	if err != nil {
		return nil, err
	}
	for i, name := range files {
		if away, ok := d.diversions[name]; ok && away.by != e.name {
			files[i] = away.to
		}
	}
	return files, nil
}

// lines are the paths in a list, but for "/.".
func lines(file, text string) ([]string, error) {
	files, n := make([]string, 0, strings.Count(text, "\n")), 0
	for line := range strings.Lines(text) {
		n++
		name, ok := strings.CutSuffix(line, "\n")
		if !ok {
			return nil, fmt.Errorf("%s:%d: the list is cut off", file, n)
		}
		name, err := absolute(name)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if name != "/" {
			files = append(files, name)
		}
	}
	return files, nil
}

// readDiversions reads three lines for each: from, to, and the package that has it so.
func readDiversions(aside *host.Host) (map[string]diversion, error) {
	const file = dpkgDir + "/diversions"
	b, err := aside.Read(file, maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseDiversions(file, string(b))
}

func parseDiversions(file, text string) (map[string]diversion, error) {
	all, n := map[string]diversion{}, 0
	var three [3]string
	for line := range strings.Lines(text) {
		name, ok := strings.CutSuffix(line, "\n")
		if !ok {
			return nil, fmt.Errorf("%s:%d: the file is cut off", file, n+1)
		}
		if n%3 < 2 {
			var err error
			if name, err = absolute(name); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
			}
		}
		three[n%3] = name
		if n++; n%3 == 0 {
			all[three[0]] = diversion{three[1], three[2]}
		}
	}
	if n%3 != 0 {
		return nil, fmt.Errorf("%s:%d: the file is cut off", file, n)
	}
	return all, nil
}
