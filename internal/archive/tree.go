package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// The kernel's bounds of a path, with the NUL at its end, and of a name (limits.h).
const (
	pathMax = 4096
	nameMax = 255
)

const (
	errTooMuch = fault("there are more than 64 GiB in the archive, the most that is read")
	errTooMany = fault("there are more than 2 million files in the archive, or more than 512 MiB of names, the most that is read")
)

// anew ends messages about what no archive of a root file system has.
const anew = "; make the archive anew with tar -C DIR -cf FILE ."

// file is what a member brought. It may get several names, and lose all of them.
type file struct {
	kind   Kind
	mode   uint32
	size   int64
	target string
	what   string
	// layer and order say where its content is: order counts the members of all layers.
	layer, order int
	// name and flag are of its header, to know it again.
	name string
	flag byte
	// path is its first name in the end, if it is regular.
	path string
}

// node is a path of the file system. Others may be beneath it even where it is a
// symbolic link.
type node struct {
	children map[string]*node
	// file is nil where no member has this path, but one beneath it has.
	file *file
	path string
	// order is of the member that has put the file here.
	order int
}

// tree is what comes of the members if they are unpacked in their order.
type tree struct {
	root node
	// left is what the archive may still cost; announced is what its members may still
	// announce.
	left      limits
	announced int64
	// starts are the orders of each layer's first member, next is the next member's.
	starts []int
	next   int
}

func newTree(most limits) tree { return tree{left: most, announced: most.bytes} }

// entry is a member that is to be put into the tree.
type entry struct {
	path string
	// file is nil for a hard link, which is another name of the file at link.
	file  *file
	link  string
	order int
}

// read puts the members of a layer into the tree and tells whether it is compressed.
func (t *tree) read(ctx context.Context, l layer, image bool) (compressed bool, err error) {
	s, err := l.read(ctx, &t.left.bytes)
	if err != nil {
		return false, err
	}
	defer s.close()
	t.starts = append(t.starts, t.next)
	var entries []entry
	var removals []removal
	for {
		h, err := s.next()
		if err == io.EOF {
			break
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return false, l.failed(err)
		}
		e, gone, err := t.member(h, image)
		switch {
		case err != nil:
			return false, l.failed(fmt.Errorf("member %q: %w", h.Name, err))
		case gone != nil:
			removals = append(removals, *gone)
		case e != nil:
			entries = append(entries, *e)
		}
	}
	if err := s.finish(); err != nil {
		return false, l.failed(err)
	}
	// What a layer removes is of the layers below it, wherever among its own members
	// that stands (OCI image specification, "Whiteouts").
	if err := t.remove(removals, entries); err != nil {
		return false, l.failed(err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err := t.put(e); err != nil {
			return false, l.failed(fmt.Errorf("member %q: %w", e.path, err))
		}
	}
	return s.compressed, nil
}

// member is what a header says: a file, a removal, or neither.
func (t *tree) member(h *tar.Header, image bool) (*entry, *removal, error) {
	e := &entry{order: t.next}
	t.next++
	t.left.members--
	t.left.names -= len(h.Name) + len(h.Linkname)
	if t.left.members < 0 || t.left.names < 0 {
		return nil, nil, errTooMany
	}
	// What is kept is cloned: a name is a part of its PAX header, of up to a megabyte,
	// and would keep all of that, a thousand times what is counted.
	f := &file{
		mode: uint32(h.Mode & 0o7777), layer: len(t.starts) - 1, order: e.order,
		name: strings.Clone(h.Name), flag: h.Typeflag,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		f.kind = Regular
		// The oldest tar files have no other mark of a directory.
		if strings.HasSuffix(h.Name, "/") {
			f.kind = Directory
		}
	// The second is of incremental backups, with a list of names as its content.
	case tar.TypeDir, 'D':
		f.kind = Directory
	case tar.TypeSymlink:
		f.kind = Symlink
	case tar.TypeLink:
		f.kind = HardLink
	case tar.TypeChar:
		f.kind, f.what = Other, fmt.Sprintf("character device %d:%d", h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		f.kind, f.what = Other, fmt.Sprintf("block device %d:%d", h.Devmajor, h.Devminor)
	case tar.TypeFifo:
		f.kind, f.what = Other, "FIFO"
	// Remarks on the archive: records for all members, such as git's, and its label.
	case tar.TypeXGlobalHeader, 'V':
		return nil, nil, nil
	default:
		return nil, nil, fault(fmt.Sprintf("is of the unknown type %q%s", h.Typeflag, anew))
	}
	var err error
	if e.path, err = clean(h.Name); err != nil {
		return nil, nil, err
	}
	if image {
		if gone, is, err := whiteout(e.path); is || err != nil {
			return nil, gone, err
		}
	}
	switch f.kind {
	case Regular:
		// No arithmetic that a size could overflow.
		if f.size = h.Size; f.size > t.announced {
			return nil, nil, errTooMuch
		}
		t.announced -= f.size
	case Symlink:
		if f.target = strings.Clone(h.Linkname); f.target == "" || len(f.target) >= pathMax {
			return nil, nil, fault(fmt.Sprintf("is a symbolic link with a target of %d bytes, which no system takes%s", len(f.target), anew))
		}
	case HardLink:
		if e.link, err = clean(h.Linkname); err != nil {
			return nil, nil, fmt.Errorf("is a hard link to %q: %w", h.Linkname, err)
		}
		return e, nil, nil
	}
	e.file = f
	return e, nil, nil
}

// clean is the path below the root that a name means.
func clean(name string) (string, error) {
	// archive/tar lets pass a NUL in the name of a sparse file.
	if strings.ContainsRune(name, 0) {
		return "", fault("has a NUL in its name" + anew)
	}
	long := len(name) >= pathMax
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fault(`has ".." in its name` + anew)
		}
		long = long || len(part) > nameMax
	}
	if long {
		return "", fault("has a longer name than a file can have" + anew)
	}
	return path.Clean("/" + name), nil
}

// parts are the names in a path.
func parts(p string) iter.Seq[string] {
	return strings.FieldsFuncSeq(p, func(r rune) bool { return r == '/' })
}

func (t *tree) find(p string) *node {
	n := &t.root
	for part := range parts(p) {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// regular tells whether there is a regular file at a path.
func (t *tree) regular(p string) bool {
	n := t.find(p)
	return n != nil && n.file != nil && n.file.kind == Regular
}

// hasDigest tells whether a name in the root begins with a SHA-256.
func (t *tree) hasDigest() bool {
	for name := range t.root.children {
		if _, err := hex.DecodeString(name[:min(64, len(name))]); err == nil && len(name) >= 64 {
			return true
		}
	}
	return false
}

// put puts an entry into the tree, in the place of what was there.
func (t *tree) put(e entry) error {
	f := e.file
	if f == nil {
		to := t.find(e.link)
		// A later member, or itself, is refused with those that are missing: no tar program
		// makes a link to what is not there yet. So links cannot go round in a circle.
		if to == nil || to.file == nil || to.file.kind == Directory {
			return fault(fmt.Sprintf("is a hard link to %q, which is no file before it in the archive%s", e.link, anew))
		}
		f = to.file
	}
	n, made, at, names := &t.root, 0, 0, 0
	for part := range parts(e.path) {
		at += 1 + len(part)
		if n.file != nil && (n.file.kind == Regular || n.file.kind == Other) {
			return fault(fmt.Sprintf("is beneath %q, which is no directory%s", n.path, anew))
		}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		if n.children[part] == nil {
			n.children[part] = &node{}
			made, names = made+1, names+at
		}
		n = n.children[part]
	}
	if n == &t.root && f.kind != Directory {
		return fault("is the root of the file system, and no directory" + anew)
	}
	// A name of 4095 bytes can imply 2047 directories, with 4 MB of names.
	if made > 1 {
		t.left.members -= made - 1
		t.left.names -= names - at
	}
	if t.left.members < 0 || t.left.names < 0 {
		return errTooMany
	}
	directories := f.kind == Directory && (n.file == nil || n.file.kind == Directory)
	links := f.kind == Symlink && n.file != nil && n.file.kind == Symlink
	if !directories && !links {
		n.children = nil
	}
	n.file, n.path, n.order = f, e.path, e.order
	return nil
}

// removal is what a layer removes from those below it: a path, or all beneath one.
type removal struct {
	path    string
	beneath bool
}

// whiteout tells whether a path in an image's layer stands for a removal, and which;
// nil is one that has no meaning here.
func whiteout(p string) (gone *removal, is bool, err error) {
	dir, base := path.Split(p)
	name, is := strings.CutPrefix(base, ".wh.")
	switch {
	// What AUFS keeps for itself.
	case strings.Contains(dir, "/.wh..wh."):
		return nil, true, nil
	case strings.Contains(dir, "/.wh."):
		return nil, true, fault("is beneath a whiteout, a file that stands for a removal" + anew)
	case !is:
		return nil, false, nil
	case name == ".wh..opq":
		return &removal{path.Clean(dir), true}, true, nil
	// Path.Clean would make another directory's removal of them.
	case name == "" || name == "." || name == "..":
		return nil, true, fault("is a whiteout, a file that stands for a removal, of nothing" + anew)
	}
	return &removal{dir + name, false}, true, nil
}

// remove removes what a layer with those entries says from the layers below it.
func (t *tree) remove(removals []removal, entries []entry) error {
	own := map[string]bool{}
	if len(removals) > 0 {
		for _, e := range entries {
			own[e.path] = true
		}
	}
	for _, r := range removals {
		dir := r.path
		if !r.beneath {
			dir = path.Dir(dir)
		}
		n := &t.root
		for part := range parts(dir) {
			if n = n.children[part]; n == nil {
				break
			}
			// What it means is elsewhere, and would stay.
			if n.file != nil && n.file.kind == Symlink && !own[n.path] {
				return fault(fmt.Sprintf("removes %q, but %q is a symbolic link; make a tar file of the image with docker export", r.path, n.path))
			}
		}
		switch {
		case n == nil:
		case r.beneath:
			n.children = nil
		default:
			delete(n.children, path.Base(r.path))
		}
	}
	return nil
}

// place is a member of the file system that the tree is in the end.
type place struct {
	Member
	file  *file
	order int
}

// places are all members in the order in which they are visited.
func (t *tree) places() []place {
	var directories, beneath, others []place
	var walk func(n *node, led bool)
	walk = func(n *node, led bool) {
		if f := n.file; f != nil {
			p := place{Member{n.path, f.kind, f.mode, f.size, f.target, f.what}, f, n.order}
			switch {
			case f.kind == Directory && led:
				beneath = append(beneath, p)
			case f.kind == Directory:
				directories = append(directories, p)
			default:
				others = append(others, p)
			}
			led = led || f.kind == Symlink
		}
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			walk(n.children[name], led)
		}
	}
	walk(&t.root, false)
	inOrder := func(a, b place) int { return cmp.Compare(a.order, b.order) }
	slices.SortFunc(others, inOrder)
	// The first name that a file still has gets its content, which may come before that
	// name if its own was taken.
	for i := range others {
		switch p := &others[i]; {
		case p.Kind != Regular:
		case p.file.path == "":
			p.file.path, p.order = p.Path, p.file.order
		default:
			p.Kind, p.Size, p.Target = HardLink, 0, p.file.path
		}
	}
	slices.SortFunc(others, inOrder)
	if beneath == nil {
		return append(directories, others...)
	}
	// These are where links lead, so all links come before them.
	var rest []place
	for _, p := range others {
		if p.Kind == Symlink {
			directories = append(directories, p)
		} else {
			rest = append(rest, p)
		}
	}
	return slices.Concat(directories, beneath, rest)
}
