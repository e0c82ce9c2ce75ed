package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// store is the files of an image layout.
type store map[string][]byte

func newStore() store { return store{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} }

// add puts a blob into it.
func (s store) add(mediaType string, b []byte) descriptor {
	digest := fmt.Sprintf("%x", sha256.Sum256(b))
	s["blobs/sha256/"+digest] = bytes.Clone(b)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: int64(len(b))}
}

func (s store) addJSON(mediaType string, v any) descriptor {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return s.add(mediaType, b)
}

// manifest is the manifest of an image for a platform.
func (s store) manifest(p platform, layers ...descriptor) descriptor {
	return s.addJSON(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": s.addJSON(configType, p), "layers": layers,
	})
}

// image is an image for this machine.
func (s store) image(layers ...[]byte) descriptor {
	var ds []descriptor
	for _, l := range layers {
		ds = append(ds, s.add(layerType, l))
	}
	return s.manifest(machine, ds...)
}

// index writes index.json.
func (s store) index(t fataler, images ...descriptor) store {
	t.Helper()
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": images})
	if err != nil {
		t.Fatal(err)
	}
	s["index.json"] = b
	return s
}

// dir writes the layout as a directory, tar as a tar file.
func (s store) dir(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, b := range s {
		if err := os.MkdirAll(filepath.Dir(root+"/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/"+name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func (s store) tar(t testing.TB) []byte {
	t.Helper()
	return pack(t, s.members()...)
}

func (s store) members() (all []member) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		all = append(all, regular(name, string(s[name])))
	}
	return all
}

func imageFile(t testing.TB, layers ...[]byte) []byte {
	s := newStore()
	return s.index(t, s.image(layers...)).tar(t)
}

func annotated(d descriptor, key, name string) descriptor {
	d.Annotations = map[string]string{key: name}
	return d
}

func tagged(d descriptor, name string) descriptor {
	return annotated(d, "org.opencontainers.image.ref.name", name)
}

func on(d descriptor, os, arch, variant string) descriptor {
	d.Platform = &platform{OS: os, Architecture: arch, Variant: variant}
	return d
}

// TestLayers is what images of some layers look like.
func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]member
		want   []string
	}{
		"one upon the other": {[][]member{{dir("a"), regular("a/b", "1"), regular("c", "2")}, {regular("a/b", "3")}}, []string{"/a directory", "/c 2", "/a/b 3"}},
		"no layer":           {nil, []string{}},
		"an empty one":       {[][]member{{regular("a", "1")}, {}}, []string{"/a 1"}},
		"whiteout":           {[][]member{{regular("a/b", "1"), regular("a/c", "2")}, {regular("a/.wh.b", "")}}, []string{"/a/c 2"}},
		"in the root":        {[][]member{{regular("a", "1"), regular("c", "2")}, {regular(".wh.a", "")}}, []string{"/c 2"}},
		"of a directory":     {[][]member{{dir("a"), regular("a/b/c", "1"), regular("ab", "2")}, {regular(".wh.a", "")}}, []string{"/ab 2"}},
		"of nothing there":   {[][]member{{regular("a", "1")}, {regular(".wh.b", ""), regular("x/y/.wh.z", "")}}, []string{"/a 1"}},
		"then put again":     {[][]member{{regular("a/b", "1"), regular("a/c", "2")}, {regular(".wh.a", ""), regular("a/b", "3")}}, []string{"/a/b 3"}},
		"put, then whiteout": {[][]member{{regular("a/b", "1"), regular("a/c", "2")}, {regular("a/b", "3"), regular(".wh.a", "")}}, []string{"/a/b 3"}},
		"in two layers":      {[][]member{{regular("a", "1")}, {regular(".wh.a", "")}, {regular("a", "2")}, {regular(".wh.a", "")}}, []string{}},
		"opaque":             {[][]member{{dir("a"), regular("a/b", "1"), regular("c", "2")}, {dir("a"), regular("a/.wh..wh..opq", ""), regular("a/d", "3")}}, []string{"/a directory", "/c 2", "/a/d 3"}},
		"opaque comes late":  {[][]member{{regular("a/b", "1")}, {dir("a"), regular("a/d", "3"), regular("a/.wh..wh..opq", "")}}, []string{"/a directory", "/a/d 3"}},
		"opaque root":        {[][]member{{regular("a/b", "1"), regular("c", "2")}, {regular(".wh..wh..opq", ""), regular("d", "3")}}, []string{"/d 3"}},
		"opaque is the past": {[][]member{{regular("a/b", "1")}, {regular("a/.wh..wh..opq", "")}, {regular("a/c", "2")}}, []string{"/a/c 2"}},
		"of AUFS":            {[][]member{{regular("a", "1")}, {dir(".wh..wh.plnk"), regular(".wh..wh.plnk/.wh.a", ""), regular(".wh..wh.aufs", "")}}, []string{"/a 1"}},
		"file for directory": {[][]member{{dir("a"), regular("a/b", "1")}, {regular("a", "2")}}, []string{"/a 2"}},
		"directory for link": {[][]member{{symlink("a", "/etc"), regular("b", "1")}, {dir("a"), regular("a/.wh..wh..opq", ""), regular("a/.wh.x", ""), regular("a/c", "2")}}, []string{"/a directory", "/b 1", "/a/c 2"}},
		"link of a link":     {[][]member{{symlink("a", "b")}, {regular("a/x", "1")}}, []string{"/a -> b", "/a/x 1"}},
		// A hard link keeps what it was made of, whatever comes to be at that name.
		"hard link below":     {[][]member{{regular("a", "1")}, {link("b", "a")}}, []string{"/a 1", "/b = /a"}},
		"its name is removed": {[][]member{{regular("a", "1"), link("b", "a")}, {regular(".wh.a", "")}}, []string{"/b 1"}},
		"its name is taken":   {[][]member{{regular("a", "1"), regular("m", "0"), link("b", "a"), link("c", "a")}, {regular("a", "2")}}, []string{"/b 1", "/m 0", "/c = /b", "/a 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			var layers []descriptor
			for i, members := range c.layers {
				b := pack(t, members...)
				kind := layerType
				switch i % 3 {
				case 1:
					b, kind = run(t, b, "gzip", "-c"), kind+"+gzip"
				case 2:
					b, kind = run(t, b, "zstd", "-qc"), kind+"+zstd"
				}
				layers = append(layers, s.add(kind, b))
			}
			s.index(t, s.manifest(machine, layers...))
			t.Setenv("TMPDIR", t.TempDir())
			open := descriptors(t)
			for how, name := range map[string]string{"directory": s.dir(t), "tar": put(t, s.tar(t)), "tar.gz": put(t, run(t, s.tar(t), "gzip", "-c"))} {
				all, err := readAll(name, atMost)
				if err != nil {
					t.Fatal(how, err)
				}
				if d := cmp.Diff(c.want, short(all)); d != "" {
					t.Errorf("%s: %s", how, d)
				}
			}
			if n := descriptors(t); n != open {
				t.Errorf("%d descriptors were open, now %d", open, n)
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// descriptors counts those that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestHostileLayers(t *testing.T) {
	lower := pack(t, symlink("lib", "usr/lib"), regular("usr/lib/secret", "1"), dir("d"))
	for name, c := range map[string]struct {
		in   []member
		want string
	}{
		"whiteout of nothing":   {[]member{regular("d/.wh.", "")}, "whiteout, a file that stands for a removal, of nothing"},
		"of the directory":      {[]member{regular("d/.wh..", "")}, "of nothing"},
		"of the one above":      {[]member{regular("usr/lib/.wh...", "")}, "of nothing"},
		"beneath a whiteout":    {[]member{regular(".wh.d/x", "")}, "is beneath a whiteout"},
		"through a link":        {[]member{regular("lib/.wh.secret", "")}, `removes "/lib/secret", but "/lib" is a symbolic link; make a tar file of the image with docker export`},
		"opaque through a link": {[]member{regular("lib/.wh..wh..opq", "")}, `removes "/lib", but "/lib" is a symbolic link`},
		"up":                    {[]member{link("x", "../.wh.d")}, `".."`},
		"a link to a whiteout":  {[]member{regular(".wh.d", ""), link("x", ".wh.d")}, "no file before it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			refused(t, s.index(t, s.image(lower, pack(t, c.in...))).dir(t), atMost, c.want)
		})
	}
	// The limits are of all layers together.
	s := newStore()
	l := pack(t, regular("a", strings.Repeat("x", 3000)))
	most := limits{bytes: 12 << 10, members: 100, names: 100, layers: 3, blob: 4000}
	for layers, want := range [][]string{2: {""}, 3: {"64 GiB"}, 4: {"an image of 4 layers"}} {
		if want == nil {
			continue
		}
		name := s.index(t, s.image(slices.Repeat([][]byte{l}, layers)...)).dir(t)
		if want[0] != "" {
			refused(t, name, most, want[0])
		} else if _, err := readAll(name, most); err != nil {
			t.Error(err)
		}
	}
	s["index.json"] = append(s["index.json"], make([]byte, 4000)...)
	refused(t, s.dir(t), most, "more than any index or manifest")
}

// TestChoose is which image is read of several.
func TestChoose(t *testing.T) {
	s := newStore()
	a, b := s.image(pack(t, regular("a", ""))), s.image(pack(t, regular("b", "")))
	foreign := s.manifest(platform{OS: "linux", Architecture: "s390x"}, s.add(layerType, pack(t, regular("s390x", ""))))
	other := s.manifest(platform{OS: "windows", Architecture: runtime.GOARCH}, s.add(layerType, pack(t, regular("windows", ""))))
	index := func(images ...descriptor) descriptor {
		return s.addJSON(indexType, map[string]any{"schemaVersion": 2, "manifests": images})
	}
	mine := func(d descriptor) descriptor { return on(d, "linux", runtime.GOARCH, "") }
	all := []descriptor{on(foreign, "linux", "s390x", ""), mine(a), on(b, "linux", runtime.GOARCH, "v3"), on(other, "windows", runtime.GOARCH, ""), on(b, "unknown", "unknown", "")}
	docker := func(d descriptor, mediaType string) descriptor {
		d.MediaType = mediaType
		return d
	}
	for name, c := range map[string]struct {
		images []descriptor
		tag    string
		want   string // a file of the image, or of the message
	}{
		"the only one":             {[]descriptor{a}, "", "/a"},
		"the platform":             {all, "", "/a"},
		"the platform in an index": {[]descriptor{tagged(index(all...), "x")}, "", "/a"},
		"an index in an index":     {[]descriptor{index(index(all...))}, "", "/a"},
		"by tag":                   {[]descriptor{tagged(a, "1.0"), tagged(b, "2.0")}, "2.0", "/b"},
		"by tag and platform":      {[]descriptor{tagged(b, "1.0"), tagged(index(all...), "2.0")}, "2.0", "/a"},
		"by containerd's name":     {[]descriptor{annotated(a, "io.containerd.image.name", "docker.io/library/a:1"), tagged(b, "1")}, "docker.io/library/a:1", "/a"},
		"by digest":                {[]descriptor{tagged(a, "1"), tagged(b, "2")}, b.Digest, "/b"},
		"two tags, one image":      {[]descriptor{tagged(a, "1.0"), tagged(a, "latest")}, "", "/a"},
		"Docker's types":           {[]descriptor{docker(a, "application/vnd.docker.distribution.manifest.v2+json")}, "", "/a"},
		"Docker's list":            {[]descriptor{docker(index(all...), "application/vnd.docker.distribution.manifest.list.v2+json")}, "", "/a"},
		"several tags":             {[]descriptor{tagged(a, "1.0"), tagged(b, "2.0")}, "", `has several images: "1.0", "2.0"; put one of the names behind the path, as in "FILE:1.0"`},
		"several, no tags":         {[]descriptor{a, b}, "", fmt.Sprintf("has several images: %q, %q", a.Digest, b.Digest)},
		"very many":                {manyImages(), "", `"19", ...; put one`},
		"no such tag":              {[]descriptor{tagged(a, "1.0"), b}, "3.0", fmt.Sprintf(`has no image "3.0"; it has "1.0", %q`, b.Digest)},
		"none for this machine":    {[]descriptor{all[0], all[2], all[3]}, "", "has no image for linux/" + runtime.GOARCH + `; it has "` + foreign.Digest + `" (linux/s390x)`},
		"only for another":         {[]descriptor{foreign}, "", "has an image for linux/s390x, and this machine is linux/" + runtime.GOARCH},
		"only for another system":  {[]descriptor{other}, "", "has an image for windows/" + runtime.GOARCH},
		"none":                     {nil, "", "has no image at all"},
		"none in an index":         {[]descriptor{s.add(indexType, []byte("{}"))}, "", "has no image at all"},
		"no image but a list":      {[]descriptor{docker(a, "application/vnd.example+json")}, "", `of the type "application/vnd.example+json"`},
		"no file system":           {[]descriptor{s.addJSON(manifestType, map[string]any{"config": s.add("application/vnd.cncf.helm.config.v1+json", []byte("{}"))})}, "", "has no file system"},
	} {
		t.Run(name, func(t *testing.T) {
			s.index(t, c.images...)
			at := s.dir(t)
			if c.tag != "" {
				at += ":" + c.tag
			}
			if !strings.HasPrefix(c.want, "/") {
				refused(t, at, atMost, c.want)
				return
			}
			all, err := readAll(at, atMost)
			if err != nil || len(all) != 1 || all[0].Path != c.want {
				t.Errorf("%q, %v; want %s", short(all), err, c.want)
			}
		})
	}
	for p, want := range map[platform]bool{
		{"linux", "arm64", ""}: true, {"linux", "arm64", "v8"}: true, {"linux", "arm64", "v9"}: false, {"linux", "arm", "v8"}: false, {"linux", "amd64", ""}: false,
	} {
		was := machine
		machine.Architecture = "arm64"
		if p.here() != want {
			t.Errorf("%s on %s: %v", p, machine, !want)
		}
		machine = was
	}
	refused(t, put(t, pack(t, regular("a", "")))+":1.0", atMost, `is a tar file and no OCI image layout: remove ":1.0"`)
}

func manyImages() (all []descriptor) {
	for i := range 30 {
		all = append(all, tagged(descriptor{MediaType: manifestType, Digest: fmt.Sprintf("sha256:%064d", i)}, fmt.Sprint(i)))
	}
	return all
}

// TestDigests: a blob with another content, of whatever kind, is refused before the
// first visit; so is one that is not there.
func TestDigests(t *testing.T) {
	layer := pack(t, regular("a", strings.Repeat("text", 1000)))
	build := func() (store, map[string]string) {
		s := newStore()
		l, gz := s.add(layerType, layer), s.add(layerType, run(t, layer, "gzip", "-c"))
		m := s.manifest(machine, l, gz)
		ix := s.addJSON(indexType, map[string]any{"manifests": []descriptor{m}})
		s.index(t, ix)
		names := map[string]string{"layer": l.Digest, "compressed layer": gz.Digest, "manifest": m.Digest, "index": ix.Digest}
		for name := range s {
			if strings.Contains(string(s[name]), `"architecture"`) {
				names["configuration"] = strings.Replace(strings.TrimPrefix(name, "blobs/"), "/", ":", 1)
			}
		}
		return s, names
	}
	s, names := build()
	if _, err := readAll(s.dir(t), atMost); err != nil || len(names) != 5 {
		t.Fatal(names, err)
	}
	for _, digest := range names {
		blob := "blobs/" + strings.Replace(digest, ":", "/", 1)
		for how, change := range map[string]func(s store){
			"has another content": func(s store) { s[blob][len(s[blob])-1] ^= 0x20 },
			"and should have":     func(s store) { s[blob] = append(s[blob], 0) },
			"copy it again":       func(s store) { delete(s, blob) },
		} {
			s, _ := build()
			change(s)
			for _, name := range []string{s.dir(t), put(t, s.tar(t)), put(t, run(t, s.tar(t), "zstd", "-qc"))} {
				refused(t, name, atMost, how)
				refused(t, name, atMost, digest)
			}
		}
	}

	// Even where unpacking ends before what is stored does.
	rest := &verified{strings.NewReader("rest"), sha256.New(), make([]byte, 32)}
	if err := (&stream{unpacked: strings.NewReader(""), stored: rest}).finish(); err == nil {
		t.Error("what is left is not compared")
	}

	// Sha512 is the other algorithm that there is.
	s = newStore()
	sum := fmt.Sprintf("%x", sha512.Sum512(layer))
	s["blobs/sha512/"+sum] = bytes.Clone(layer)
	s.index(t, s.manifest(machine, descriptor{layerType, "sha512:" + sum, int64(len(layer)), nil, nil}))
	if all, err := readAll(s.dir(t), atMost); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
	s["blobs/sha512/"+sum][600] ^= 1
	refused(t, s.dir(t), atMost, "has another content")

	for _, digest := range []string{"", "sha256:", "sha256", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../../../etc/passwd", "sha256:" + strings.Repeat("zz", 32), "sha256:" + strings.Repeat("ab", 31), "sha256:" + strings.Repeat("ab", 32) + "/../x"} {
		s = newStore()
		s.index(t, descriptor{manifestType, digest, 1, nil, nil})
		refused(t, s.dir(t), atMost, "neither sha256 nor sha512")
	}
}

// TestBlobChanged changes a layer between the two readings, the last one or another.
func TestBlobChanged(t *testing.T) {
	for _, gz := range []bool{false, true} {
		for i := range 2 {
			s := newStore()
			var layers []descriptor
			var evil []byte
			for j, name := range []string{"a", "b"} {
				layer, other := pack(t, dir("d"), regular(name, "text")), pack(t, dir("d"), regular(name, "evil"))
				if gz {
					layer, other = run(t, layer, "gzip", "-c"), run(t, other, "gzip", "-c")
				}
				layers = append(layers, s.add(layerType, layer))
				if i == j {
					evil = other
				}
			}
			root := s.index(t, s.manifest(machine, layers...)).dir(t)
			err := Read(t.Context(), root, func(m Member, content io.Reader) error {
				if m.Kind == Directory {
					return os.WriteFile(root+"/blobs/sha256/"+layers[i].Digest[7:], evil, 0o600)
				}
				io.ReadAll(content)
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), "has another content") {
				t.Errorf("gzip %v, layer %d: %v", gz, i+1, err)
			}
		}
	}
}

func TestBrokenLayouts(t *testing.T) {
	layer := pack(t, regular("a", "1"))
	for name, c := range map[string]struct {
		change func(s store)
		want   string
	}{
		"no oci-layout":      {func(s store) { delete(s, "oci-layout") }, "oci-layout: no such file"},
		"another version":    {func(s store) { s["oci-layout"] = []byte(`{"imageLayoutVersion":"2.0.0"}`) }, `version "2.0.0"`},
		"no JSON":            {func(s store) { s["index.json"] = []byte("{") }, "index.json: unexpected end of JSON input; save the image anew"},
		"JSON of other kind": {func(s store) { s["index.json"] = []byte(`{"manifests":7}`) }, "index.json: json: cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			s.index(t, s.image(layer))
			c.change(s)
			refused(t, s.dir(t), atMost, c.want)
		})
	}
	// What is in the directory leads nowhere else, and is not waited for.
	s := newStore()
	l := s.add(layerType, layer)
	blob := "blobs/sha256/" + l.Digest[7:]
	s.index(t, s.manifest(machine, l))
	outside := put(t, s[blob])
	delete(s, blob)
	root := s.dir(t)
	if err := os.Symlink(outside, root+"/"+blob); err != nil {
		t.Fatal(err)
	}
	refused(t, root, atMost, "path escapes from parent")
	root = s.dir(t)
	if err := unix.Mkfifo(root+"/"+blob, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, root, atMost, "neither a regular file")
	// As older Docker and podman save images.
	digest := strings.Repeat("0a", 32)
	refused(t, put(t, pack(t, regular(digest+".json", "{}"), regular(digest+"/layer.tar", ""), regular("manifest.json", "[]"))), atMost, "podman save --format=oci-archive")
	// A layout whose blobs are links to each other, as tar packs hard links.
	s = newStore()
	s.index(t, s.image(layer))
	var members []member
	for name, b := range s {
		members = append(members, regular("store/"+name, string(b)), link(name, "store/"+name))
	}
	members = append(members, member{tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Size: int64(len(s["index.json"]))}, string(s["index.json"])},
		member{tar.Header{Typeflag: tar.TypeReg, Name: "oci-layout", Size: int64(len(s["oci-layout"]))}, string(s["oci-layout"])})
	if all, err := readAll(put(t, pack(t, members...)), atMost); err != nil || len(all) != 1 || all[0].Text != "1" {
		t.Error(all, err)
	}
	// Where there is no room for unpacking.
	t.Setenv("TMPDIR", root+"/none")
	refused(t, put(t, run(t, s.tar(t), "gzip", "-c")), atMost, `/none": no such file or directory; uncompress it first, or set TMPDIR`)
}

// apply puts a layer upon a directory with the kernel's own means: what it removes
// first, then its members.
func apply(root string, members []member) error {
	for _, m := range members {
		d, base := path.Split(root + "/" + m.Name)
		name, is := strings.CutPrefix(base, ".wh.")
		switch {
		case base == ".wh..wh..opq":
			entries, _ := os.ReadDir(d)
			for _, e := range entries {
				if err := os.RemoveAll(d + e.Name()); err != nil {
					return err
				}
			}
		case is:
			// A path beneath a file is not there.
			if err := os.RemoveAll(d + name); err != nil && !errors.Is(err, unix.ENOTDIR) {
				return err
			}
		}
	}
	for _, m := range members {
		name := root + "/" + m.Name
		if strings.HasPrefix(path.Base(name), ".wh.") {
			continue
		}
		if err := os.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		is, err := os.Lstat(name)
		if m.Typeflag == tar.TypeDir && err == nil && is.IsDir() {
			continue
		}
		// What is linked to may be what is in its place, or beneath it.
		spare := root + ".spare"
		if m.Typeflag == tar.TypeLink {
			if to, err := os.Lstat(root + "/" + m.Linkname); err != nil || to.IsDir() {
				return fs.ErrNotExist
			}
			if err := os.Link(root+"/"+m.Linkname, spare); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(name); err != nil {
			return err
		}
		switch m.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(name, 0o755)
		case tar.TypeReg:
			if err = os.WriteFile(name, []byte(m.text), 0o600); err == nil {
				err = os.Chmod(name, 0o644)
			}
		case tar.TypeSymlink:
			err = os.Symlink(m.Linkname, name)
		case tar.TypeLink:
			err = os.Rename(spare, name)
			os.Remove(spare) // still there if both were one file
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAsApplied compares images of random layers with the directory that comes of
// putting them one upon the other.
func TestAsApplied(t *testing.T) {
	base, n, compared := t.TempDir(), 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		root := fmt.Sprintf("%s/%d", base, n)
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		names := rapid.SampledFrom([]string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/b"})
		s := newStore()
		var layers [][]byte
		failed := false
		for range rapid.IntRange(1, 4).Draw(t, "layers") {
			var members []member
			for range rapid.IntRange(0, 6).Draw(t, "members") {
				name := names.Draw(t, "name")
				switch rapid.SampledFrom([]string{"file", "file", "directory", "link", "link", "symlink", "whiteout", "whiteout", "opaque"}).Draw(t, "kind") {
				case "file":
					members = append(members, regular(name, fmt.Sprint(len(layers), len(members))))
				case "directory":
					members = append(members, dir(name))
				case "symlink":
					members = append(members, symlink(name, fmt.Sprint("nowhere", len(members))))
				case "link":
					members = append(members, link(name, names.Draw(t, "target")))
				case "whiteout":
					members = append(members, regular(path.Dir(name)+"/.wh."+path.Base(name), ""))
				case "opaque":
					members = append(members, regular(path.Dir(name)+"/.wh..wh..opq", ""))
				}
			}
			failed = failed || apply(root, members) != nil
			layers = append(layers, pack(t, members...))
		}
		image := root + ".image"
		if err := os.WriteFile(image, pack(t, s.index(t, s.image(layers...)).members()...), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := readAll(image, atMost)
		if failed {
			return
		}
		// A removal through a link is refused, and does nothing in a directory.
		if err != nil && strings.Contains(err.Error(), "is a symbolic link; make") {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		compared++
		if d := cmp.Diff(withoutImplied(onDisk(t, root), all), inArchive(all)); d != "" {
			t.Fatal(d)
		}
	})
	if compared < 5 {
		t.Errorf("only %d of %d images could be compared", compared, n)
	}
	t.Logf("compared %d of %d", compared, n)
}
