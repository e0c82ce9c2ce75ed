// Package archive reads the root file system that a jail begins with: a tar file,
// plain or compressed with gzip, bzip2, xz or zstd, or an image in the layout of the
// Open Container Initiative (OCI), as a directory or as a tar file. What it is, its
// content tells and not its name.
//
// Whoever made the archive is not believed: every name is below the root, what is
// announced and what is unpacked is bounded, and a blob of an image has the digest
// by which it is called. Only what lies at a path once the last member is read is
// handed on. A member beneath a symbolic link is handed on as it is: who makes the
// tree follows the link within the tree.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what a member is.
type Kind int

// The kinds. Other is a device or a FIFO.
const (
	Directory Kind = iota + 1
	Regular
	Symlink
	HardLink
	Other
)

// Member is one path of the file system.
type Member struct {
	// Path is absolute and clean. It may hold any byte but NUL.
	Path string
	Kind Kind
	// Mode is the permission bits with the set-id and sticky bits.
	Mode uint32
	// Size is of a regular file.
	Size int64
	// Target is the text of a symbolic link, or the path of the regular file that a
	// hard link is another name of.
	Target string
	// What tells what an Other is: "character device 1:3".
	What string
}

// limits bound what an archive can cost, whatever it holds.
type limits struct {
	bytes   int64 // unpacked, and announced, in all layers
	members int   // in all layers, with the directories that their names imply
	names   int   // bytes in all names and links
	layers  int
	blob    int64 // bytes in an index, a manifest or a configuration
}

// A member takes up to 1 KiB of memory with its share of garbage. Docker makes at most 127
// layers, and registries take manifests of 4 MiB.
var atMost = limits{bytes: 64 << 30, members: 2_000_000, names: 512 << 20, layers: 1000, blob: 4 << 20}

// fault is an error in our own words, to which nothing need be added.
type fault string

func (f fault) Error() string { return string(f) }

// Read calls visit for each member of the file system: first for the directories that
// the archive has, each before those in it, then for all else in the archive's order,
// but that what a hard link is another name of comes before it. Directories beneath
// symbolic links come after all links, where there are any, and before the rest. Where the archive has
// a path several times, the last one counts. The content of a regular file can be read
// until visit returns; for others it is nil.
//
// No symbolic link is followed on the way to name.
//
// The whole archive is read and checked before the first visit. Content comes from
// a second reading, which begins when a visit first reads any. An error of visit ends
// Read, which returns it as it is, and so does the end of ctx: 64 GiB of zeros take a
// few kilobytes of an archive, and minutes.
func Read(ctx context.Context, name string, visit func(m Member, content io.Reader) error) error {
	return read(ctx, name, atMost, visit)
}

// Split divides what a contents file names into a file or directory and the image in
// it that is meant: "/srv/images.tar:alpine:3.20" is "alpine:3.20" in
// "/srv/images.tar". All of it is the file if there is such a file, or else as much
// before a ":" as is one.
func Split(name string) (file, image string) {
	for at := len(name); at > 0; at = strings.LastIndexByte(name[:at], ':') {
		if _, err := os.Stat(name[:at]); err == nil {
			return name[:at], strings.TrimPrefix(name[at:], ":")
		}
	}
	return name, ""
}

func read(ctx context.Context, name string, most limits, visit func(Member, io.Reader) error) error {
	file, image := Split(name)
	failed := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("archive %q: %w", file, err)
	}
	a := archive{ctx: ctx, most: most, tree: newTree(most)}
	defer a.close()
	if err := a.open(file, image); err != nil {
		return failed(err)
	}
	again := replay{ctx: ctx, layers: a.layers, starts: a.tree.starts, left: most.bytes}
	defer again.close()
	for _, p := range a.tree.places() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var content io.Reader
		if p.Kind == Regular {
			again.want = p.file
			content = &again
		}
		err := visit(p.Member, content)
		again.want = nil
		// Content that could not be read ends it even if the visitor did not mind.
		if again.err != nil {
			return failed(again.err)
		}
		if err != nil {
			return err
		}
	}
	if err := again.finish(); err != nil {
		return failed(err)
	}
	return nil
}

// archive is an archive that has been read once.
type archive struct {
	ctx    context.Context
	most   limits
	layers []layer
	tree   tree
	opened []io.Closer
}

func (a *archive) close() {
	for _, c := range a.opened {
		c.Close()
	}
}

// open finds out what lies at the path file and reads it for the first time.
func (a *archive) open(file, image string) error {
	// Looked at before it is opened: opening a device can do things. The caller knows where
	// links on the way led; a user may have put one there since.
	fd, err := unix.Openat2(unix.AT_FDCWD, file, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP {
		return fault("is behind a symbolic link")
	}
	if err != nil {
		return err
	}
	looked := os.NewFile(uintptr(fd), file)
	a.opened = append(a.opened, looked)
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	info, err := looked.Stat()
	if err != nil {
		return why(err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(self)
		if err != nil {
			return why(err)
		}
		a.opened = append(a.opened, root)
		if _, err := root.Stat("index.json"); err != nil {
			return fault("is a directory, and no OCI image layout: it has no index.json; files of this machine are for paths")
		}
		// Never out of the directory, whatever links are in it.
		return a.image(image, layout{most: a.most, file: func(name string) (*io.SectionReader, error) {
			f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
			if err != nil {
				return nil, why(err)
			}
			a.opened = append(a.opened, f)
			return section(f)
		}})
	}
	if !info.Mode().IsRegular() {
		return errKind
	}
	f, err := os.OpenFile(self, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return why(err)
	}
	a.opened = append(a.opened, f)
	stored, err := section(f)
	if err != nil {
		return err
	}
	a.layers = []layer{{stored: stored}}
	compressed, err := a.tree.read(a.ctx, a.layers[0], false)
	switch {
	case err != nil:
		return err
	case a.tree.regular("/index.json") && a.tree.regular("/oci-layout"):
		if compressed {
			if stored, err = a.unpacked(a.layers[0]); err != nil {
				return err
			}
		}
		found, err := files(stored)
		if err != nil {
			return err
		}
		return a.image(image, layout{most: a.most, file: func(name string) (*io.SectionReader, error) {
			if f := found["/"+name]; f != nil {
				return f, nil
			}
			return nil, fs.ErrNotExist
		}})
	case a.tree.regular("/manifest.json") && a.tree.hasDigest():
		return fault("is a Docker archive of the old kind, without index.json: write it with docker save of Docker 25 or later, or with podman save --format=oci-archive")
	case image != "":
		return fault(fmt.Sprintf("is a tar file and no OCI image layout: remove %q", ":"+image))
	case len(a.tree.root.children) == 0:
		return fault("is an empty tar file")
	}
	return nil
}

const errKind = fault("is neither a regular file nor a directory with an OCI image layout")

// section is all of a regular file.
func section(f *os.File) (*io.SectionReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, why(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errKind
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

// unpacked is the tar file in a compressed one, in a file without a name, since the
// blobs in it are wanted in another order than theirs.
func (a *archive) unpacked(l layer) (*io.SectionReader, error) {
	dir := "/var/tmp"
	if d := os.Getenv("TMPDIR"); d != "" {
		dir = d
	}
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		a.opened = append(a.opened, f)
		left := a.most.bytes
		var s *stream
		if s, err = l.read(a.ctx, &left); err == nil {
			defer s.close()
			_, err = io.Copy(f, s.unpacked)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot unpack it in %q: %w; uncompress it first, or set TMPDIR", dir, why(err))
	}
	return section(f)
}

// why is an error without the path, which the message has already.
func why(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
