// Package elfdeps finds what the dynamic loader would load for a program or a shared
// object, as ldd(1) does, but by reading alone: whatever a file says is its
// interpreter, nothing is executed. It knows the loaders of glibc and of musl.
//
// The environment counts for nothing, and neither does /etc/ld.so.preload: the
// question is what a program needs, not what this machine slips into every one.
// What depends on the working directory is never found. Of the directories for
// capabilities of a CPU only glibc-hwcaps counts, not those that glibc searched
// before 2.37 as well, such as tls and i686/sse2.
package elfdeps

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"jailctl/internal/host"
)

// Kind is what a file is to the kernel and the loader.
type Kind int

// A shared object that names an interpreter, as libc.so.6 does, is Dynamic.
const (
	Static Kind = iota
	StaticPIE
	Dynamic
	Shared
)

func (k Kind) String() string {
	return [...]string{"static program", "static-pie program", "dynamic program", "shared object"}[k]
}

// Object is a program or shared object, and what it needs.
type Object struct {
	// Path has no links.
	Path string
	Kind Kind
	// Interp is PT_INTERP as written.
	Interp string
	// Libraries is the whole closure in the loader's order: every path by which the
	// loader opens one, on this machine's CPU.
	Libraries []Library
	// OtherCPUs is what it would open on a better or a lesser CPU and does not here,
	// where there are directories glibc-hwcaps. A tree that may move needs it too.
	OtherCPUs []Library
	// Missing is what was not found.
	Missing []Missing
	// Cache is the cache without which some of Libraries would not be found, since
	// they are in directories that ld.so.conf names. It is not there itself if
	// ldconfig(8) has not run. "" where the loader needs none.
	Cache string
	// Dlopen is the names of shared objects in the object's constant data that it
	// may pass to dlopen(3), ascending, but for those of Libraries.
	Dlopen []string
}

// Library is one shared object that the loader opens.
type Library struct {
	// Name is as in DT_NEEDED, or in DT_AUXILIARY or DT_FILTER.
	Name string
	// Path is how the loader opens it; links in it are not followed.
	Path string
	// By is the path without links of the object that needs it.
	By string
}

// Missing is a library, or an interpreter, that is not there.
type Missing struct {
	Name string
	// By is as in Library.
	By string
}

// Resolver resolves many objects of one host. It is not for use by several
// goroutines at once.
type Resolver struct {
	// May tells whether those on whose behalf Resolve is called could read a file, by its
	// path without links. It is asked before anything but the file that is resolved is
	// read: what that names, its owner chose. nil is root's behalf.
	May func(real string) bool
	// Ended is an error when it is time to end. nil is never.
	Ended func() error

	host      *host.Host
	files     map[inode]parsed // hard links to one are read once
	loaders   map[string]*loader
	isDir     map[string]bool
	cached    bool
	cache     *cache
	unindexed []string // without a cache, the directories that it would be of
	buf       []byte
	steps     int // on behalf of others than root
}

type parsed struct {
	f     *file
	err   error
	names []string // that it may pass to dlopen(3)
	wrong error    // with these
	named bool     // these are known
}

type inode struct{ dev, ino uint64 }

// New is a Resolver that has read nothing yet.
func New(h *host.Host) *Resolver {
	return &Resolver{host: h, files: map[inode]parsed{}, loaders: map[string]*loader{}, isDir: map[string]bool{}, buf: make([]byte, 256<<10)}
}

// Resolve reads a program or shared object, following links, and all that it needs.
// The error wraps ErrNotELF, ErrMachine or fs.ErrNotExist if the file itself is that.
func (r *Resolver) Resolve(name string) (*Object, error) {
	real, err := r.host.Real(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, why(err))
	}
	f, err := r.file(real)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", real, why(err))
	}
	o := &Object{Path: real, Kind: f.kind, Interp: f.interp}
	explained := map[string]bool{path.Base(real): true, f.soname: true}
	if o.Kind == Dynamic || o.Kind == Shared {
		if err := r.close(o, f, explained); err != nil {
			return nil, fmt.Errorf("%q: %w", real, err)
		}
	}

	names, err := r.names(real, f)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", real, why(err))
	}
	for _, n := range names {
		if !explained[n] {
			o.Dlopen = append(o.Dlopen, n)
		}
	}
	return o, nil
}

// close fills in what an object needs. Explained gets the names of all of it.
func (r *Resolver) close(o *Object, f *file, explained map[string]bool) error {
	ld, err := r.loader(f)
	if err != nil {
		return err
	}
	if !ld.there && o.Interp != "" {
		o.Missing = append(o.Missing, Missing{o.Interp, o.Path})
	}
	load := func(levels []string) (*closure, error) {
		c := newClosure(r, ld, f, o.Path)
		c.levels = levels
		return c, c.run()
	}
	c, err := load(nil)
	if err != nil {
		return err
	}
	if c.leveled {
		var others []Library
		for n := range len(cpuLevels) + 1 {
			levels := cpuLevels[len(cpuLevels)-n:]
			one, err := load(levels)
			if err != nil {
				return err
			}
			if len(thisCPU().levels) == n {
				c = one
			}
			others = append(others, one.libraries()...)
		}
		here := c.libraries()
		for _, l := range others {
			if same := func(have Library) bool { return have.Path == l.Path }; !slices.ContainsFunc(here, same) {
				o.OtherCPUs = append(o.OtherCPUs, l)
				here = append(here, l)
			}
		}
	}
	o.Libraries, o.Missing, o.Cache = c.libraries(), append(o.Missing, c.missing...), c.cache
	for name := range c.named {
		explained[path.Base(name)] = true
	}
	for _, l := range o.Libraries {
		explained[path.Base(l.Path)] = true
	}
	for _, m := range c.missing {
		explained[path.Base(m.Name)] = true
	}
	return nil
}

// file parses the file at a path without links, once.
func (r *Resolver) file(real string) (*file, error) {
	its, err := r.host.Lstat(real)
	if err != nil {
		return nil, err
	}
	this := inode{its.Dev, its.Ino}
	p, ok := r.files[this]
	if !ok {
		f, err := r.host.Open(real)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		p.f, p.err = parse(f, info.Size())
		r.files[this] = p
	}
	return p.f, p.err
}

// reads tells whether a file may be read. What the kernel makes up may not be: reading
// it can take away what it has, such as /proc/kmsg, or have it do things.
func (r *Resolver) reads(real string) bool {
	return (r.May == nil || r.May(real)) && r.host.Kernel(real) == ""
}

func (r *Resolver) ended() error {
	if r.Ended == nil {
		return nil
	}
	return r.Ended()
}

func (r *Resolver) names(real string, f *file) ([]string, error) {
	its, err := r.host.Lstat(real)
	if err != nil {
		return nil, err
	}
	this := inode{its.Dev, its.Ino}
	if p := r.files[this]; p.named {
		return p.names, p.wrong
	}
	data, err := r.host.Open(real)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	names, err := f.names(data, r.buf, r.ended)
	if r.ended() == nil {
		slices.Sort(names)
		names = slices.Clip(slices.Compact(names))
		r.files[this] = parsed{f, nil, names, err, true}
	}
	return names, err
}

// dir tells whether a directory is there.
func (r *Resolver) dir(name string) (bool, error) {
	is, ok := r.isDir[name]
	if !ok {
		real, err := r.host.Real(name)
		if err == nil {
			var info host.Info
			info, err = r.host.Lstat(real)
			is = info.IsDir()
		}
		if err != nil && !absent(err) {
			return false, fmt.Errorf("directory %q: %v", name, why(err))
		}
		r.isDir[name] = is
	}
	return is, nil
}

// readCache reads ld.so.cache, once. Without one it finds the directories of which
// it would be: the loader does not look there until ldconfig(8) has run, which is to
// be concluded from Object.Cache.
func (r *Resolver) readCache() error {
	if r.cached {
		return nil
	}
	b, err := r.host.Read(cachePath, 16<<20)
	switch {
	case absent(err):
		r.cache = &cache{}
		if r.unindexed, err = r.confDirs(); err != nil {
			return fmt.Errorf("%q: %w", confPath, err)
		}
	case err == nil:
		r.cache, err = parseCache(b)
	}
	if err != nil {
		return fmt.Errorf("%q: %w; write it anew with: ldconfig", cachePath, why(err))
	}
	r.cached = true
	return nil
}

// object is one that is loaded.
type object struct {
	*file
	path     string // as the loader opens it
	real     string
	by       *object // what it was first loaded for
	listed   bool    // it is in the closure's queue
	done     bool    // so is all that it needs itself
	opened   []Library
	rpathed  []string // f.rpath as directories, nil until needed
	runpaths []string // likewise
}

// maxSteps is how many directories and files may be looked for on behalf of one
// object. The largest programs need some thousands. The second is for all objects on
// behalf of others than root together: each step may be remembered.
const (
	maxSteps      = 200_000
	maxUsersSteps = 2_000_000
)

// closure is the work of the loader for one program.
type closure struct {
	*Resolver
	ld      *loader
	levels  []string // of glibc-hwcaps, the best first
	self    *object  // the loader
	queue   []*object
	named   map[string]*object
	inodes  map[inode]*object
	missing []Missing
	leveled bool   // the CPU decides
	cache   string // Object.Cache
	steps   int
}

func newClosure(r *Resolver, ld *loader, f *file, real string) *closure {
	c := &closure{Resolver: r, ld: ld, named: map[string]*object{}, inodes: map[inode]*object{}}
	c.self = &object{file: &file{}, path: ld.path}
	main := &object{file: f, path: real, real: real, listed: true}
	c.queue = []*object{main}
	if !ld.musl && main.soname != "" {
		c.named[main.soname] = main
	}
	if ld.there {
		c.named[ld.path], c.inodes[ld.ino] = c.self, c.self
		if !ld.musl && ld.soname != "" {
			c.named[ld.soname] = c.self
		}
	}
	return c
}

// run loads what is needed, breadth first: what the first object needs, in order,
// then what the second one does. Filters and auxiliaries come before the object
// that names them.
func (c *closure) run() error {
	for i := 0; i < len(c.queue); {
		o := c.queue[i]
		if o.done {
			i++
			continue
		}
		o.done = true
		before := i
		for _, n := range o.needed {
			if c.ld.musl && n.tag != elf.DT_NEEDED {
				continue
			}
			dep, err := c.find(n.name, o)
			if err != nil {
				return err
			}
			if dep == nil {
				// The loader shrugs at an auxiliary that is not there.
				if n.tag != elf.DT_AUXILIARY {
					c.missing = append(c.missing, Missing{n.name, o.real})
				}
				continue
			}
			if n.tag == elf.DT_NEEDED {
				if !dep.listed {
					dep.listed = true
					c.queue = append(c.queue, dep)
				}
				continue
			}
			if at := slices.Index(c.queue, dep); at > before {
				c.queue = slices.Delete(c.queue, at, at+1)
			} else if at >= 0 {
				continue
			}
			dep.listed = true
			c.queue = slices.Insert(c.queue, before, dep)
			before++
		}
	}
	return nil
}

// libraries is what was opened, in order.
func (c *closure) libraries() []Library {
	var all []Library
	for _, o := range c.queue {
		all = append(all, o.opened...)
	}
	return all
}

// find is the object that the loader has for a name, or nil.
func (c *closure) find(name string, by *object) (*object, error) {
	if c.ld.musl && reserved(name) && c.ld.there {
		c.use(c.self, name, by)
		return c.self, nil
	}
	if o := c.named[name]; o != nil {
		if o == c.self {
			c.use(o, name, by)
		}
		return o, nil
	}
	if strings.Contains(name, "/") {
		at := name
		if !c.ld.musl {
			at = c.ld.expand(name, c.ld.origin(by.path), longest)
		}
		if !strings.HasPrefix(at, "/") {
			return nil, nil
		}
		o, _, err := c.open(at, name, by)
		return o, err
	}
	if c.ld.musl {
		return c.searchMusl(name, by)
	}
	return c.search(name, by)
}

// reserved tells the names that musl's loader takes for itself: it is the C library
// and all its parts.
func reserved(name string) bool {
	name, ok := strings.CutPrefix(name, "lib")
	part, _, dot := strings.Cut(name, ".")
	return ok && dot && slices.Contains([]string{"c", "pthread", "rt", "m", "dl", "util", "xnet"}, part)
}

// use notes that the loader itself is needed under a name.
func (c *closure) use(o *object, name string, by *object) {
	if o.opened == nil {
		o.opened = []Library{{name, o.path, by.real}}
	}
}

// search looks where glibc's loader does (ld.so(8)).
func (c *closure) search(name string, by *object) (*object, error) {
	try := func(dirs []string) (*object, error) {
		for _, dir := range dirs {
			if o, err := c.in(dir, name, by); o != nil || err != nil {
				return o, err
			}
		}
		return nil, nil
	}

	// DT_RPATH is for everything that is loaded on behalf of an object, DT_RUNPATH
	// for what the object needs itself, and an object with the latter has no former.
	if !by.hasRunpath {
		for o := by; o != nil; o = o.by {
			if found, err := try(c.rpath(o)); found != nil || err != nil {
				return found, err
			}
		}
	}
	if found, err := try(c.runpath(by)); found != nil || err != nil {
		return found, err
	}

	if err := c.readCache(); err != nil {
		return nil, err
	}
	at, leveled := c.Resolver.cache.lookup(name, c.ld.cache, c.levels)
	c.leveled = c.leveled || leveled && c.ld.hwcaps
	if at != "" && !(by.nodeflib && c.builtIn(at)) {
		found, _, err := c.open(at, name, by)
		if err != nil {
			return nil, err
		}
		if found != nil {
			dir, _, _ := strings.Cut(path.Dir(at)+"/", "glibc-hwcaps/")
			if !slices.Contains(c.ld.dirs, dir) {
				c.cache = cachePath
			}
			return found, nil
		}
	}
	if !by.nodeflib {
		if found, err := try(c.ld.dirs); found != nil || err != nil {
			return found, err
		}
	}

	// The loader gives up here.
	for _, dir := range c.unindexed {
		if by.nodeflib && c.builtIn(dir) {
			continue
		}
		if found, err := c.in(dir, name, by); found != nil || err != nil {
			c.cache = cachePath
			return found, err
		}
	}
	return nil, nil
}

// builtIn tells whether a path is in a directory that the loader searches by itself.
func (c *closure) builtIn(name string) bool {
	return slices.ContainsFunc(c.ld.dirs, func(dir string) bool { return strings.HasPrefix(name, dir) })
}

// searchMusl looks where musl's loader does: it makes no difference between
// DT_RPATH and DT_RUNPATH, and takes the first file of the name, whatever it is.
func (c *closure) searchMusl(name string, by *object) (*object, error) {
	for o := by; ; o = o.by {
		dirs := c.ld.dirs
		if o != nil {
			dirs = c.rpath(o)
			if o.hasRunpath {
				dirs = c.runpath(o)
			}
		}
		for _, dir := range dirs {
			if found, there, err := c.open(dir+name, name, by); there || err != nil {
				return found, err
			}
		}
		if o == nil {
			return nil, nil
		}
	}
}

func (c *closure) rpath(o *object) []string {
	if o.rpathed == nil && o.file.rpath != "" && (!o.hasRunpath || c.ld.musl) {
		o.rpathed = c.ld.split(o.file.rpath, c.ld.origin(o.path))
	}
	return o.rpathed
}

func (c *closure) runpath(o *object) []string {
	if o.runpaths == nil && o.file.runpath != "" {
		o.runpaths = c.ld.split(o.file.runpath, c.ld.origin(o.path))
	}
	return o.runpaths
}

// in looks for a library in a directory and its glibc-hwcaps subdirectories.
func (c *closure) in(dir, name string, by *object) (*object, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	if ok, err := c.dir(dir); !ok || err != nil {
		return nil, err
	}
	if c.ld.hwcaps {
		ok, err := c.dir(dir + "glibc-hwcaps")
		if err != nil {
			return nil, err
		}
		c.leveled = c.leveled || ok
		for i := 0; ok && i < len(c.levels); i++ {
			o, _, err := c.open(dir+"glibc-hwcaps/"+c.levels[i]+"/"+name, name, by)
			if o != nil || err != nil {
				return o, err
			}
		}
	}
	o, _, err := c.open(dir+name, name, by)
	return o, err
}

// open loads the library at a path, unless it is loaded. There tells whether there
// is a file at all: the loader passes over those for other machines.
func (c *closure) open(at, name string, by *object) (o *object, there bool, err error) {
	if err := c.step(); err != nil {
		return nil, false, err
	}
	if len(at) >= longest {
		return nil, false, nil // not to be remembered in each directory
	}
	real, err := c.host.Real(at)
	if absent(err) {
		return nil, false, nil
	}
	var info host.Info
	var f *file
	if err == nil {
		info, err = c.host.Lstat(real)
	}
	if err == nil && !c.reads(real) {
		return nil, false, nil // as it is to the loader
	}
	if err == nil {
		f, err = c.file(real)
	}
	if err != nil {
		return nil, true, fmt.Errorf("library %q, needed by %q: %v", at, by.real, why(err))
	}
	if (machine{f.class, f.machine}) != c.ld.machine {
		return nil, true, nil
	}
	ino := inode{info.Dev, info.Ino}
	o = c.inodes[ino]
	if o == nil {
		o = &object{file: f, path: at, real: real, by: by}
		c.inodes[ino] = o
		if !c.ld.musl {
			c.name(f.soname, o)
		}
	}
	if !slices.ContainsFunc(o.opened, func(l Library) bool { return l.Path == at }) {
		o.opened = append(o.opened, Library{name, at, by.real})
	}
	if !c.ld.musl || !strings.Contains(name, "/") {
		c.name(name, o)
	}
	return o, true, nil
}

func (c *closure) step() error {
	if c.May != nil {
		c.Resolver.steps++
	}
	if c.steps++; c.steps > maxSteps || c.Resolver.steps > maxUsersSteps && c.May != nil {
		return errors.New("its libraries are to be looked for in too many places")
	}
	return c.ended()
}

// name has later needs of a name met by an object.
func (c *closure) name(name string, o *object) {
	if name != "" && c.named[name] == nil {
		c.named[name] = o
	}
}
