package contents

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"google.golang.org/protobuf/proto"

	"jailctl/internal/textpb"
	"jailctl/policy/source"
	"jailctl/proto/jailpb"
)

const (
	directoryMode = 0o755
	fileMode      = 0o644
	// others are the mode bits through which somebody but the owner could write.
	others = 0o022
	// longestPath and longestName are the kernel's PATH_MAX, less its NUL, and NAME_MAX.
	longestPath = 4095
	longestName = 255
)

// file is one text on its way into a Spec of its own. What is mistaken does not get
// there.
type file struct {
	*textpb.Text
	name string
	m    *jailpb.Contents
	spec *Spec
}

// place is where a position of the text is.
func (f *file) place(pos int) At {
	line, col := f.Where(pos)
	return At{f.name, line, col}
}

// check checks what the file says.
func (f *file) check() {
	m := f.m
	for _, r := range m.Description {
		if !unicode.IsPrint(r) {
			f.Note(f.At(m, "description", 0), "write one line of printable text", "description holds %q", string(r))
			break
		}
	}
	for i, p := range m.Programs {
		if at := f.At(m, "programs", i); f.program(at, string(p)) {
			f.spec.Programs = append(f.spec.Programs, Path{f.place(at), string(p)})
		}
	}
	for i, name := range m.Packages {
		at := f.At(m, "packages", i)
		if !packageName().MatchString(name) {
			f.Note(at, "write it as dpkg-query, rpm -q or apk info does, without a version", "%q is no name of a package", name)
			continue
		}
		f.spec.Packages = append(f.spec.Packages, Package{f.place(at), name, m.WithDependencies})
	}
	if m.WithDependencies && !f.Has(m, "packages") {
		f.Note(f.At(m, "with_dependencies", 0), "name packages, or remove it", "with_dependencies is about packages, and this file names none")
	}
	f.spec.Paths = f.patterns("paths", m.Paths)
	f.spec.OptionalPaths = f.patterns("optional_paths", m.OptionalPaths)
	f.spec.Exclude = f.patterns("exclude", m.Exclude)
	f.spec.Users = f.accounts("users", "user", m.Users)
	f.spec.Groups = f.accounts("groups", "group", m.Groups)
	for i, name := range m.Devices {
		if at := f.At(m, "devices", i); f.device(at, name) {
			f.spec.Devices = append(f.spec.Devices, Name{f.place(at), name})
		}
	}
	seen := map[string]int{}
	for _, d := range m.Directories {
		f.directory(d, seen)
	}
	for _, l := range m.Symlinks {
		f.symlink(l, seen)
	}
	for _, file := range m.Files {
		f.file(file, seen)
	}
	if at := f.At(m, "archive", 0); m.Archive != nil && f.path(at, "archive", string(m.Archive), "host", false) {
		f.spec.Archive = &Path{f.place(at), string(m.Archive)}
	}
	f.spec.Keep = -1
	if m.Keep != nil {
		f.spec.Keep = int(*m.Keep)
		if *m.Keep > maxKeep {
			f.Note(f.At(m, "keep", 0), fmt.Sprintf("write a number from 0 to %d", maxKeep), "keep %d is more than %d", *m.Keep, maxKeep)
		}
	}
	asks := func(field string) bool { return f.Has(m, field) }
	if f.Mistakes() == 0 && !slices.ContainsFunc([]string{
		"include", "programs", "packages", "paths", "optional_paths", "users", "groups", "devices",
		"directories", "symlinks", "files", "archive",
	}, asks) {
		f.Note(0, `write programs: "/usr/bin/program", or what else the jail needs`, "the file asks for nothing")
	}
}

// path vets a path, which is one of the jail or of the host, and tells whether it
// can be used.
func (f *file) path(at int, field, p, of string, root bool) bool {
	switch {
	case len(p) > longestPath || slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return len(s) > longestName }):
		f.Note(at, fmt.Sprintf("write at most %d bytes, %d between two /", longestPath, longestName), "%s is longer than any path", field)
	case !path.IsAbs(p):
		f.Note(at, fmt.Sprintf("write it from the / of the %s", of), "%s %q is not an absolute path", field, p)
	case path.Clean(p) != p:
		f.Note(at, fmt.Sprintf("write %q", path.Clean(p)), "%s %q has an element too many", field, p)
	case p == "/" && !root:
		f.Note(at, "name something beneath it", `%s cannot be "/"`, field)
	default:
		return true
	}
	return false
}

// patterns vets paths of which each may be a pattern.
func (f *file) patterns(field string, all [][]byte) (good []Path) {
	for i, b := range all {
		p, at := string(b), f.At(f.m, field, i)
		if f.path(at, field, p, "host", false) && f.pattern(at, field, p) {
			good = append(good, Path{f.place(at), p})
		}
	}
	return good
}

// pattern vets a path as path.Match reads each of its components.
func (f *file) pattern(at int, field, p string) bool {
	for component := range strings.SplitSeq(p, "/") {
		if _, err := path.Match(component, ""); err != nil {
			f.Note(at, `end the range with "]", or write "\\[" and "\\\\" where a name has them`, "%s %q is no pattern", field, p)
			return false
		}
		if twoStars(component) {
			f.Note(at, `write one * for each directory on the way: "/usr/*/*"`, `%s %q has "**", which means no more than "*"`, field, p)
			return false
		}
	}
	return true
}

// twoStars tells whether a pattern has two stars side by side that each stand for
// anything.
func twoStars(pattern string) bool {
	inRange := false
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[':
			inRange = true
		case ']':
			inRange = false
		case '*':
			if !inRange && strings.HasPrefix(pattern[i:], "**") {
				return true
			}
		}
	}
	return false
}

// program vets a program's path or name.
func (f *file) program(at int, p string) bool {
	switch {
	case p == "" || p == "." || p == "..":
		f.Note(at, `write "/usr/bin/program", or the name alone`, "%q is no program", p)
	case !strings.Contains(p, "/") && len(p) <= longestName:
		return true
	default:
		return f.path(at, "programs", p, "host", false)
	}
	return false
}

// packageName is what dpkg, rpm and apk have in common, with the architecture that
// dpkg may add. No option begins like this. It takes half a millisecond to compile.
var packageName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9+._-]{0,199}(:[a-z0-9][a-z0-9-]{0,30})?$`)
})

func (f *file) accounts(field, kind string, all []string) (good []Name) {
	for i, name := range all {
		if at := f.At(f.m, field, i); f.account(at, kind, name) {
			good = append(good, Name{f.place(at), name})
		}
	}
	return good
}

// account vets a name or number of a user or group. Whether there is one is not
// asked here.
func (f *file) account(at int, kind, name string) bool {
	switch {
	case !source.ValidAccount(name):
		f.Note(at, "write a name, or a number from 0 to 4294967294", "%q is no name of a %s", name, kind)
	case name == strconv.Itoa(math.MaxUint32):
		f.Note(at, "write another", "%s %q is 4294967295, which is no id to the kernel", kind, name)
	default:
		return true
	}
	return false
}

func (f *file) device(at int, name string) bool {
	if _, ok := DeviceNames[name]; ok {
		return true
	}
	known := slices.Sorted(maps.Keys(DeviceNames))
	fix := "the devices are " + strings.Join(known, ", ")
	if near := textpb.Nearest(strings.TrimPrefix(name, "/dev/"), known); near != "" {
		fix = fmt.Sprintf("write %q; %s", near, fix)
	}
	f.Note(at, fix, "there is no device %q for a jail", name)
	return false
}

// madePath vets the path of a directory, link or file that the file itself
// describes.
func (f *file) madePath(m proto.Message, what string, p []byte, root bool, seen map[string]int) bool {
	if p == nil {
		if !f.Has(m, "path") {
			f.Note(f.At(m, "", 0), `write path: "/...", where it is in the jail`, "the %s has no path", what)
		}
		return false
	}
	at := f.At(m, "path", 0)
	if !f.path(at, "path", string(p), "jail", root) {
		return false
	}
	if before, again := seen[string(p)]; again {
		f.Note(at, "keep one of the two", "%q is asked for in line %d too", p, f.Line(before))
		return false
	}
	seen[string(p)] = at
	return true
}

func (f *file) directory(m *jailpb.Directory, seen map[string]int) {
	d := Directory{f.place(f.At(m, "", 0)), string(m.Path), m.Owner, m.Group, directoryMode, m.State}
	if m.Mode != nil {
		d.Mode = *m.Mode
	}
	good := f.madePath(m, "directory", m.Path, true, seen)
	if m.Owner != "" && !f.account(f.At(m, "owner", 0), "user", m.Owner) {
		good = false
	}
	if m.Group != "" && !f.account(f.At(m, "group", 0), "group", m.Group) {
		good = false
	}
	if !good {
		return
	}
	who, field := d.writer()
	at := f.At(m, field, 0)
	switch {
	case d.Path == "/" && (who != "" || d.State):
		// The helper enters no root in which anybody else may write.
		f.Note(at, "name a directory beneath it", `"/" must be root's, writable by nobody else, and no state`)
	case who != "" && !d.State && f.unknown(m):
	case who != "" && !d.State:
		f.Note(at, "write state: true, and builds leave alone what is in it; or let only root write there",
			"%s can write in %q, and what they write would be lost at the next build", who, d.Path)
	default:
		f.spec.Directories = append(f.spec.Directories, d)
	}
}

// unknown tells of a user or group that the machine does not have. Only where there is a
// mistake anyway: another machine may have it.
func (f *file) unknown(m *jailpb.Directory) bool {
	names := source.System()
	if _, err := names.User(m.Owner); m.Owner != "" && errors.Is(err, source.ErrUnknown) {
		f.Note(f.At(m, "owner", 0), "create the account, or write a number", "there is no user %q: %v", m.Owner, err)
		return true
	}
	if _, _, err := names.Group(m.Group); m.Group != "" && errors.Is(err, source.ErrUnknown) {
		f.Note(f.At(m, "group", 0), "create the group, or write a number", "there is no group %q: %v", m.Group, err)
		return true
	}
	return false
}

// writer is who may write in a directory though they are not root, and the field
// that lets them; "" is nobody.
func (d Directory) writer() (who, field string) {
	switch {
	case !isRoot(d.Owner):
		// Whatever the mode is: an owner can change it.
		return fmt.Sprintf("user %q", d.Owner), "owner"
	case d.Mode&0o020 != 0 && !isRoot(d.Group):
		return fmt.Sprintf("group %q", d.Group), "group"
	case d.Mode&others != 0:
		return fmt.Sprintf("with mode %#o others", d.Mode), "mode"
	case d.State:
		return "", "state"
	}
	return "", ""
}

// isRoot tells whether an owner or group as written is root.
func isRoot(name string) bool { return name == "" || name == "root" || name == "0" }

func (f *file) symlink(m *jailpb.Symlink, seen map[string]int) {
	good := f.madePath(m, "symlink", m.Path, false, seen)
	switch {
	case m.Target == nil:
		if !f.Has(m, "target") {
			f.Note(f.At(m, "", 0), `write target: "...", what it stands for`, "the symlink has no target")
		}
	case len(m.Target) > longestPath:
		f.Note(f.At(m, "target", 0), fmt.Sprintf("write one of at most %d bytes", longestPath), "target is longer than any path")
	case good:
		f.spec.Symlinks = append(f.spec.Symlinks, Symlink{f.place(f.At(m, "", 0)), string(m.Path), string(m.Target)})
	}
}

func (f *file) file(m *jailpb.File, seen map[string]int) {
	mode := uint32(fileMode)
	if m.Mode != nil {
		mode = *m.Mode
	}
	good := f.madePath(m, "file", m.Path, false, seen)
	switch {
	case mode&others != 0:
		f.Note(f.At(m, "mode", 0), fmt.Sprintf("write %#o, and keep what is written at run time in a directory with state: true", mode&^others),
			"with mode %#o others could write to a file that is the build's", mode)
	case good:
		f.spec.Files = append(f.spec.Files, File{f.place(f.At(m, "", 0)), string(m.Path), m.Text, mode})
	}
}
