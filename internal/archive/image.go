package archive

import (
	"archive/tar"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
)

// The layout is read here and not by google/go-containerregistry, which has it all:
// its mutate.Extract goes through the layers from the last to the first, so that
// a hard link comes before its file and, where another layer gave the name of that
// file away, gets the other's content; it leaves out some links without a word; its
// layouts are directories only, and compare no digest; and it adds four modules, and
// 0.2 ms to the start of the program, whatever the verb. What is left to do without
// it is this file and the whiteouts in tree.go.

// descriptor points to a blob (OCI image specification, descriptor.md). Docker's own
// formats have the same fields.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p platform) String() string {
	return strings.TrimRight(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

var machine = platform{OS: "linux", Architecture: runtime.GOARCH}

// here tells whether this machine runs the platform. Variants are of processors that
// have more than others, but for arm64, whose first is called v8.
func (p platform) here() bool {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p == machine
}

// names are those by which an image can be chosen.
func (d descriptor) names() []string {
	var names []string
	// The second one is Docker's and containerd's, with the repository.
	for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
		if name := d.Annotations[key]; name != "" {
			names = append(names, name)
		}
	}
	return append(names, d.Digest)
}

// layout is a directory or a tar file with images.
type layout struct {
	file func(name string) (*io.SectionReader, error)
	most limits
}

// image reads an image of a layout: the one that is named, or else the only one.
func (a *archive) image(name string, l layout) error {
	var version struct {
		Number string `json:"imageLayoutVersion"`
	}
	if err := l.decode("oci-layout", nil, &version); err != nil {
		return err
	}
	if !strings.HasPrefix(version.Number, "1.") {
		return fault(fmt.Sprintf("has version %q of the image layout, and 1.0.0 is what is read; save the image as that", version.Number))
	}
	var list struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := l.decode("index.json", nil, &list); err != nil {
		return err
	}
	if name != "" {
		all := list.Manifests
		list.Manifests = nil
		for _, d := range all {
			if slices.Contains(d.names(), name) {
				list.Manifests = append(list.Manifests, d)
			}
		}
		if list.Manifests == nil {
			return fault(fmt.Sprintf("has no image %q; it has %s", name, listed(all)))
		}
	}
	// No index can lead back to itself: it would have to hold its own digest.
	for {
		d, err := choose(list.Manifests)
		if err != nil {
			return err
		}
		switch d.MediaType {
		case "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json":
			list.Manifests = nil
			if err := l.decode("", &d, &list); err != nil {
				return err
			}
		case "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json":
			return a.unpack(l, d)
		default:
			return fault(fmt.Sprintf("has no image, but %s of the type %q", d.Digest, d.MediaType))
		}
	}
}

// choose takes from an index the image for this machine. Where the index does not
// tell for which machine one is, its configuration may.
func choose(all []descriptor) (descriptor, error) {
	var fit []descriptor
	for _, d := range all {
		if d.Platform == nil || d.Platform.here() {
			fit = append(fit, d)
		}
	}
	if len(all) == 0 {
		return descriptor{}, fault("has no image at all")
	}
	if len(fit) == 0 {
		return descriptor{}, fault(fmt.Sprintf("has no image for %s; it has %s", machine, listed(all)))
	}
	for _, d := range fit {
		if d.Digest != fit[0].Digest {
			return descriptor{}, fault(fmt.Sprintf("has several images: %s; put one of the names behind the path, as in %q", listed(fit), "FILE:"+fit[0].names()[0]))
		}
	}
	return fit[0], nil
}

// listed are the images by name, not too many.
func listed(all []descriptor) string {
	var b strings.Builder
	for i, d := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 20 {
			b.WriteString("...")
			break
		}
		fmt.Fprintf(&b, "%q", d.names()[0])
		if d.Platform != nil {
			fmt.Fprintf(&b, " (%s)", d.Platform)
		}
	}
	return b.String()
}

// unpack reads all layers of an image.
func (a *archive) unpack(l layout, d descriptor) error {
	var manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	if err := l.decode("", &d, &manifest); err != nil {
		return err
	}
	switch manifest.Config.MediaType {
	case "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json":
	default:
		return fault(fmt.Sprintf("has no file system, but something with a configuration of the type %q", manifest.Config.MediaType))
	}
	var p platform
	if err := l.decode("", &manifest.Config, &p); err != nil {
		return err
	}
	if p.Architecture != "" && (p.Architecture != machine.Architecture || p.OS != machine.OS) {
		return fault(fmt.Sprintf("has an image for %s, and this machine is %s; save it with --platform %s", p, machine, machine))
	}
	if len(manifest.Layers) > l.most.layers {
		return fault(fmt.Sprintf("has an image of %d layers, more than %d; make a tar file of it with docker export", len(manifest.Layers), l.most.layers))
	}
	// The layout itself may have been read as a tar file.
	a.layers, a.tree = nil, newTree(a.most)
	for i, d := range manifest.Layers {
		layer, err := l.blob(d)
		if err != nil {
			return err
		}
		layer.what = fmt.Sprintf("layer %d, %s", i+1, d.Digest)
		a.layers = append(a.layers, layer)
		if _, err := a.tree.read(a.ctx, layer, true); err != nil {
			return err
		}
	}
	return nil
}

// blob finds what a descriptor points to.
func (l layout) blob(d descriptor) (layer, error) {
	algorithm, digits, _ := strings.Cut(d.Digest, ":")
	newSum := map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}[algorithm]
	digest, err := hex.DecodeString(digits)
	// Else the digits could be a path out of the layout.
	if newSum == nil || err != nil || len(digest) != newSum().Size() {
		return layer{}, fault(fmt.Sprintf("has a digest %q, which is neither sha256 nor sha512; save the image anew", d.Digest))
	}
	stored, err := l.file("blobs/" + algorithm + "/" + digits)
	if err != nil {
		return layer{}, fmt.Errorf("%s: %w; the image is not whole, copy it again", d.Digest, err)
	}
	if stored.Size() != d.Size {
		return layer{}, fault(fmt.Sprintf("%s: has %d bytes and should have %d; the image is damaged, copy it again", d.Digest, stored.Size(), d.Size))
	}
	return layer{d.Digest, stored, newSum, digest}, nil
}

// decode reads JSON from a blob or, without one, from a file of the layout.
func (l layout) decode(what string, d *descriptor, to any) error {
	var blob layer
	var err error
	if d != nil {
		what = d.Digest
		blob, err = l.blob(*d)
	} else if blob.stored, err = l.file(what); err != nil {
		err = fmt.Errorf("%s: %w; the image is not whole, copy it again", what, err)
	}
	if err != nil {
		return err
	}
	if blob.stored.Size() > l.most.blob {
		return fault(fmt.Sprintf("%s: has %d bytes, more than any index or manifest; save the image anew", what, blob.stored.Size()))
	}
	text, err := io.ReadAll(blob.checked())
	if err != nil {
		return fmt.Errorf("%s: %w", what, why(err))
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%s: %w; save the image anew", what, err)
	}
	return nil
}

// files are the regular files in a tar file that is not compressed.
func files(stored *io.SectionReader) (map[string]*io.SectionReader, error) {
	found := map[string]*io.SectionReader{}
	stored.Seek(0, io.SeekStart)
	for t := tar.NewReader(stored); ; {
		h, err := t.Next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		// Where its content begins: tar.Reader reads no further than it must.
		at, _ := stored.Seek(0, io.SeekCurrent)
		switch h.Typeflag {
		case tar.TypeReg:
			found[name] = io.NewSectionReader(stored, at, h.Size)
		case tar.TypeLink:
			found[name] = found[path.Clean("/"+h.Linkname)]
		}
	}
}
