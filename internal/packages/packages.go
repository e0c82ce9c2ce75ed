// Package packages tells which files belong to which installed package, from the
// databases of dpkg, apk and rpm.
//
// What Installed, Files and Closure answer depends on files that are noted as
// inputs of the build: with dpkg the package's own list, which dpkg replaces
// whenever it unpacks or removes that package, and the diversions; for Closure the
// status of all packages. apk and rpm have one file for everything. Owner notes
// nothing: a build does not depend on whose a file is, and an input for each of a
// thousand packages would make every build a new one.
package packages

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"jailctl/internal/host"
)

// Package is one that is installed. Name is as the administrator writes it and no
// other package's: "libssl3", or "libssl3:i386" for a foreign architecture ("glibc.i686"
// with rpm; "kernel-core-6.1-1" where rpm has several versions of one).
type Package struct{ Name, Version string }

// DB is the database of a machine. It is not for use by several goroutines at once.
type DB struct {
	h, aside *host.Host

	opened bool
	err    error
	from   manager
	speech speech
	all    []*entry // by name
	named  map[string]*entry
	offers map[string][]*entry
	inputs []string

	indexed  bool
	indexErr error
	paths    []owned
	last     []int32 // by a hash of the last component: 1 + a place in paths
	seed     maphash.Seed
	dirs     map[string]string // directories that were looked at, without links
}

// owned is a path in the database.
type owned struct {
	path string
	by   *entry
	// next is 1 + the place of another path with the same hash.
	next int32
}

// manager is what a database is read by. It reads aside; what is to be noted, it says.
type manager interface {
	// read is all packages, and the paths that an answer about all of them depends on.
	read() (all []*entry, inputs []string, err error)
	// files are the absolute, clean paths of a package. The error is fs.ErrNotExist
	// where the database knows a package and has lost its files.
	files(e *entry) ([]string, error)
}

// speech is how a manager's users write.
type speech struct {
	// itself is a package that is always of the machine's own architecture.
	itself string
	// separator is between name and architecture; neutral is that of data.
	separator, neutral string
	install            string
}

// entry is one package in a database.
type entry struct {
	Package
	// name and arch are what Name is made of.
	name, arch string
	// state is what is wrong, with what to do about it; "" where it is installed.
	state string
	// needs are what it depends on, in the words of offers.
	needs, offers []string
	// inputs are the paths that an answer about this package alone depends on.
	inputs []string
	// multi is dpkg's Multi-Arch; list are the files, where read has seen them.
	multi string
	list  []string
}

// Open finds which database the machine has, at the first question: dpkg's, apk's or
// rpm's. Where there is none, nothing is installed.
func Open(h *host.Host) *DB { return &DB{h: h, aside: h.Aside()} }

func (d *DB) open() error {
	if d.opened {
		return d.err
	}
	d.opened = true
	d.from, d.speech = find(d.aside)
	if d.from == nil {
		return nil
	}
	if d.all, d.inputs, d.err = d.from.read(); d.err != nil {
		return d.err
	}
	d.name()
	d.offers = map[string][]*entry{}
	for _, e := range d.all {
		if e.state != "" {
			continue
		}
		for _, o := range e.offers {
			if !slices.Contains(d.offers[o], e) {
				d.offers[o] = append(d.offers[o], e)
			}
		}
	}
	return nil
}

// find is the database of the machine, nil where there is none.
func find(aside *host.Host) (manager, speech) {
	has := func(name string) bool {
		_, err := aside.Real(name)
		return err == nil
	}
	if has(dpkgDir + "/status") {
		return &dpkg{aside: aside}, dpkgSpeech
	}
	for _, file := range apkFiles {
		if has(file) {
			return &apk{aside, file}, apkSpeech
		}
	}
	for _, dir := range rpmDirs {
		for _, file := range rpmFiles {
			if has(dir + "/" + file) {
				return &rpm{aside, dir, file, rpmPrograms, rpmTime}, rpmSpeech
			}
		}
	}
	return nil, speech{}
}

// native is the machine's own architecture, by the package that must be of it.
func (s speech) native(all []*entry) string {
	for _, e := range all {
		if e.name == s.itself {
			return e.arch
		}
	}
	return ""
}

// name gives each package its Name, and finds it by the long form as well.
func (d *DB) name() {
	native, times := d.speech.native(d.all), map[string]int{}
	for _, e := range d.all {
		e.Name = e.name
		if e.arch != native && e.arch != d.speech.neutral {
			e.Name += d.speech.separator + e.arch
		}
		times[e.Name]++
	}
	d.named = map[string]*entry{}
	for _, e := range d.all {
		if times[e.Name] > 1 {
			e.Name += "-" + e.Version
		} else {
			d.named[e.name+d.speech.separator+e.arch] = e
		}
		d.named[e.Name] = e
	}
	slices.SortFunc(d.all, func(a, b *entry) int { return cmp.Compare(a.Name, b.Name) })
}

// get is an installed package by name.
func (d *DB) get(name string) (*entry, error) {
	if err := d.open(); err != nil {
		return nil, err
	}
	if d.from == nil {
		return nil, fmt.Errorf("package %q: this machine has no database of dpkg, apk or rpm; ask for its files by paths", name)
	}
	e := d.named[name]
	switch {
	case e == nil:
		return nil, d.missing(name)
	case e.state != "":
		return nil, fmt.Errorf("package %q is %s", name, e.state)
	}
	return e, nil
}

// note makes files inputs of the build.
func (d *DB) note(names []string) {
	for _, name := range names {
		// A file that is not there is an input too.
		if real, err := d.h.Real(name); err == nil {
			if info, _ := d.h.Lstat(real); info.IsDir() {
				d.h.List(real)
			}
		}
	}
}

// Installed is the package of that name.
func (d *DB) Installed(name string) (Package, error) {
	e, err := d.get(name)
	if err != nil {
		return Package{}, err
	}
	d.note(e.inputs)
	return e.Package, nil
}

// Files are the paths of a package as the database has them, directories included:
// only apk's tells which those are. A directory stands for itself and not for what
// is in it. Not all need be there, and links on the way are not followed. A file
// that was diverted (dpkg-divert(1)) has the name that it was given.
func (d *DB) Files(name string) ([]string, error) {
	e, err := d.get(name)
	if err != nil {
		return nil, err
	}
	d.note(e.inputs)
	files, err := d.from.files(e)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("package %q: the list of its files is lost: %w; mend it with: %s --reinstall %s", name, err, d.speech.install, e.Name)
	}
	return files, err
}

// Closure is the packages of those names and all that they depend on, by name. Where
// one of several packages would do, each that is installed is among them, whatever
// its version: which one a program will use is not in the database. What is not
// installed is left out.
func (d *DB) Closure(names ...string) ([]Package, error) {
	seen := map[*entry]bool{}
	var next []*entry
	reach := func(e *entry) {
		if !seen[e] {
			seen[e] = true
			next = append(next, e)
		}
	}
	for _, name := range names {
		e, err := d.get(name)
		if err != nil {
			return nil, err
		}
		reach(e)
	}
	d.note(d.inputs)
	for len(next) > 0 {
		e := next[len(next)-1]
		next = next[:len(next)-1]
		for _, need := range e.needs {
			found := d.offers[need]
			if found == nil && strings.HasPrefix(need, "/") {
				at := strings.LastIndexByte(need, '/')
				if owner := d.owner(d.real(need[:at]) + need[at:]); owner != nil {
					reach(owner)
				}
			}
			for _, f := range found {
				reach(f)
			}
		}
	}
	var all []Package
	for e := range seen {
		all = append(all, e.Package)
	}
	slices.SortFunc(all, func(a, b Package) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Owner is the installed package that a file belongs to, by its absolute path, on
// which no directory is a link. The database may know it by another, as it does on
// machines where /lib has become a link to /usr/lib. Of several owners it is the
// first by name. Directories belong to nobody.
//
// In a damaged database nothing has an owner, and Err says why.
func (d *DB) Owner(path string) (Package, bool) {
	e := d.owner(path)
	if e == nil {
		return Package{}, false
	}
	return e.Package, true
}

// Err is what is wrong with the database, as far as Owner has needed it.
func (d *DB) Err() error { return d.indexErr }

func (d *DB) owner(name string) *entry {
	if !d.indexed {
		d.indexed = true
		d.indexErr = d.index()
	}
	info, _ := d.aside.Lstat(name)
	if d.indexErr != nil || !strings.HasPrefix(name, "/") || info.IsDir() {
		return nil
	}
	at := strings.LastIndexByte(name, '/')
	var found, linked *entry
	for i := *d.chain(name[at:]); i > 0; i = d.paths[i-1].next {
		switch o := d.paths[i-1]; {
		case o.path == name && found == nil:
			found = o.by
		case o.path == name && info.IsSymlink() && o.by.name != found.name:
			// Many packages have a directory here, which became a link: /lib.
			return nil
		}
	}
	if found != nil {
		return found
	}
	// Only now, and not as its equals: users may own directories of packages, and
	// plant links in them.
	for i := *d.chain(name[at:]); i > 0 && linked == nil; i = d.paths[i-1].next {
		if o := d.paths[i-1]; strings.HasSuffix(o.path, name[at:]) && d.real(o.path[:len(o.path)-len(name[at:])]) == name[:at] {
			linked = o.by
		}
	}
	return linked
}

// index fills in paths and last.
func (d *DB) index() error {
	if err := d.open(); err != nil {
		return err
	}
	lists, n := make([][]string, len(d.all)), 0
	for i, e := range d.all {
		if e.state != "" {
			continue
		}
		var err error
		if lists[i], err = d.from.files(e); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n += len(lists[i])
	}
	d.paths, d.last, d.seed = make([]owned, 0, n), make([]int32, n+1), maphash.MakeSeed()
	for i, list := range slices.Backward(lists) {
		for _, name := range list {
			last := d.chain(name[strings.LastIndexByte(name, '/'):])
			d.paths = append(d.paths, owned{name, d.all[i], *last})
			*last = int32(len(d.paths))
		}
	}
	return nil
}

// chain is where paths that may have that last component begin.
func (d *DB) chain(base string) *int32 {
	return &d.last[maphash.String(d.seed, base)%uint64(len(d.last))]
}

// real is a directory without links; "" is "/".
func (d *DB) real(dir string) string {
	if dir == "" {
		return ""
	}
	real, ok := d.dirs[dir]
	if ok {
		return real
	}
	at := strings.LastIndexByte(dir, '/')
	real = d.real(dir[:at]) + dir[at:]
	if info, err := d.aside.Lstat(real); err == nil && info.IsSymlink() {
		if to, err := d.aside.Real(real); err == nil {
			real = strings.TrimRight(to, "/")
		}
	}
	if d.dirs == nil {
		d.dirs = map[string]string{}
	}
	d.dirs[dir] = real
	return real
}

// Installer is how the machine's packages are installed: "apt-get install", say; "" where
// there is no database.
func (d *DB) Installer() string {
	if d.open() != nil {
		return ""
	}
	return d.speech.install
}

// missing says that a package is not installed, and what could be meant.
func (d *DB) missing(name string) error {
	text := fmt.Sprintf("package %q is not installed", name)
	var found []string
	for _, e := range d.offers[name] {
		found = append(found, e.Name)
	}
	if found != nil {
		return fmt.Errorf("%s; %q is provided by %s", text, name, strings.Join(found, ", "))
	}
	for _, e := range d.all {
		if e.state == "" && len(found) < 4 && near(name, e.Name) {
			found = append(found, e.Name)
		}
	}
	if found != nil {
		text += "; there is " + strings.Join(found, ", ")
	}
	if plain(strings.ReplaceAll(name, ":", "")) && !strings.HasPrefix(name, "-") {
		text += "; install it with: " + d.speech.install + " " + name
	}
	return errors.New(text)
}

// near tells whether name begins with what is written, or is the same but for a
// letter or, in a long name, two in a row.
func near(written, name string) bool {
	most := min(len(written)/3, 2)
	if most > 0 && strings.HasPrefix(name, written) {
		return true
	}
	for written != "" && name != "" && written[0] == name[0] {
		written, name = written[1:], name[1:]
	}
	for written != "" && name != "" && written[len(written)-1] == name[len(name)-1] {
		written, name = written[:len(written)-1], name[:len(name)-1]
	}
	return len(written) <= most && len(name) <= most
}

// plain tells whether a name is of the letters that names of packages have.
func plain(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._") == ""
}

// absolute is a path from a database, clean.
func absolute(name string) (string, error) {
	if !strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("not an absolute path: %q", name)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("no path can be %q", name)
	}
	for i := range len(name) {
		if name[i] == '/' && (i+1 == len(name) || name[i+1] == '/' || name[i+1] == '.') {
			return path.Clean(name), nil // few need it, and it takes its time
		}
	}
	return name, nil
}
