package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// window is the memory that unpacking may take: as much as zstd(1) permits itself,
// and twice what xz -9 wants. A header of a few bytes could ask for 4 GiB, which the
// better known ulikunitz/xz would give it.
const window = 128 << 20

// layer is a tar file, one of those that make up the file system.
type layer struct {
	// what names it in messages: "" if it is the whole archive.
	what   string
	stored *io.SectionReader
	// newSum and digest are nil where nothing says which digest it must have.
	newSum func() hash.Hash
	digest []byte
}

func (l layer) failed(err error) error {
	if l.what == "" {
		return err
	}
	return fmt.Errorf("%s: %w", l.what, err)
}

// checked is the layer as it is stored, with an error at its end if it has not the
// digest that it must have.
func (l layer) checked() io.Reader {
	l.stored.Seek(0, io.SeekStart)
	if l.newSum == nil {
		return l.stored
	}
	return &verified{l.stored, l.newSum(), l.digest}
}

// stream is a layer that is being read.
type stream struct {
	tar *tar.Reader
	// stored is the layer as it is stored, unpacked what it is compressed from.
	stored, unpacked io.Reader
	compressed       bool
	// plain is a layer of which neither compression nor digest tells that it is
	// whole, and in which content can be skipped.
	plain *io.SectionReader
	// end is where the last member ends, but for less than a block of zeros.
	end   int64
	last  string
	close func()
}

// read begins to read it. What is unpacked is subtracted from left, at the end of
// which reading fails, as it does when ctx ends.
func (l layer) read(ctx context.Context, left *int64) (*stream, error) {
	b := bufio.NewReaderSize(reader{ctx, l.checked()}, 64<<10)
	s := &stream{stored: b, close: func() {}}
	unpacked, err := s.decompress(b)
	switch {
	case err != nil:
		return nil, l.failed(s.wrong(err))
	case unpacked != nil:
		s.unpacked, s.compressed = &metered{reader{ctx, unpacked}, left}, true
	case l.newSum != nil:
		s.unpacked = &metered{reader{ctx, b}, left}
	default:
		l.stored.Seek(0, io.SeekStart)
		s.unpacked, s.plain = l.stored, l.stored
	}
	s.tar = tar.NewReader(s.unpacked)
	return s, nil
}

// decompress tells compressed files by their first bytes; nil means none. A tar file
// begins with a name, hence more than the two letters of a bzip2 file are compared.
func (s *stream) decompress(r *bufio.Reader) (io.Reader, error) {
	// A short file has fewer bytes and is none of these.
	magic, _ := r.Peek(10)
	is := func(m string) bool { return bytes.HasPrefix(magic, []byte(m)) }
	switch {
	case is("\x1f\x8b\x08"):
		return gzip.NewReader(r)
	case is("BZh") && len(magic) == 10 && string(magic[4:]) == "1AY&SY":
		return bzip2.NewReader(r), nil
	case is("\xfd7zXZ\x00"):
		return xz.NewReader(r, window)
	// The second is a frame to be skipped, with which parallel compressors begin.
	case is("\x28\xb5\x2f\xfd"), len(magic) > 3 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18":
		// One goroutine is faster than several here: each block is small.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(window))
		if err == nil {
			s.close = d.Close
		}
		return d, err
	}
	return nil, nil
}

// next is the next member, or io.EOF.
func (s *stream) next() (*tar.Header, error) {
	h, err := s.tar.Next()
	var at int64
	if s.plain != nil {
		at, _ = s.plain.Seek(0, io.SeekCurrent)
	}
	switch {
	// A tar file that was cut between two members looks whole to tar.Reader.
	case err == io.EOF && s.plain != nil && at < s.end+512:
		if s.last == "" {
			return nil, errNotTar
		}
		return nil, fault(fmt.Sprintf("ends after member %q without the zeros at the end of a tar file: cut short; copy it again", s.last))
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, s.wrong(err)
	}
	s.last, s.end = h.Name, at
	switch h.Typeflag {
	// These have no content, whatever their size.
	case tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		// A sparse file's content takes less room than its size. How much, nobody tells:
		// if it comes last and the file is cut behind it, that is not found.
		if h.Typeflag != tar.TypeGNUSparse && h.PAXRecords["GNU.sparse.major"] == "" && h.PAXRecords["GNU.sparse.map"] == "" {
			s.end += h.Size
		}
	}
	return h, nil
}

// finish reads what comes after the last member, so that digest and checksums, which
// are of the whole, are compared.
func (s *stream) finish() error {
	if s.plain != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, s.unpacked); err != nil {
		return s.wrong(err)
	}
	if _, err := io.Copy(io.Discard, s.stored); err != nil {
		return s.wrong(err)
	}
	return nil
}

const errNotTar = fault("is not a tar file, plain or compressed with gzip, bzip2, xz or zstd, and no OCI image layout")

// wrong says of an error of one of the libraries where it was.
func (s *stream) wrong(err error) error {
	var f fault
	// Of a blob that is another one than it should be, nothing else is worth saying.
	if _, other := io.Copy(io.Discard, s.stored); errors.As(other, &f) {
		return f
	}
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fault("takes more than 128 MiB of memory to unpack: compress it again, as xz -9 or zstd --long=27 do at most")
	case s.last == "" && (errors.Is(err, tar.ErrHeader) || err == io.ErrUnexpectedEOF && !s.compressed):
		return errNotTar
	case s.last == "":
		return fmt.Errorf("before the first member: %w: damaged or cut short; copy it again", why(err))
	}
	return fmt.Errorf("in or after member %q: %w: damaged or cut short; copy it again", s.last, why(err))
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// metered ends a decompression bomb.
type metered struct {
	io.Reader
	left *int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if *m.left -= int64(n); *m.left < 0 {
		return 0, errTooMuch
	}
	return n, err
}

// verified fails at the end of what has another digest than it must have.
type verified struct {
	io.Reader
	sum    hash.Hash
	digest []byte
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	v.sum.Write(p[:n])
	if err == io.EOF {
		if got := v.sum.Sum(nil); !bytes.Equal(got, v.digest) {
			return n, fault("has another content than its digest says (it is " + hex.EncodeToString(got) + "): damaged or changed; copy the image again")
		}
	}
	return n, err
}

// replay reads archives again, for the content of some members in their order.
type replay struct {
	ctx    context.Context
	layers []layer
	starts []int // the number of each layer's first member
	left   int64
	// want is the file whose content is asked for now.
	want *file
	// file is the one at which the stream stands, the member number at of a layer.
	file  *file
	at    int
	layer int
	*stream
	// err was met, and ends it.
	err error
}

// Read reads the file that is wanted.
func (r *replay) Read(p []byte) (int, error) {
	if r.want == nil {
		return 0, errors.New("content is read after its visit")
	}
	if r.err == nil && r.file != r.want {
		r.err = r.seek(r.want)
		r.file = r.want
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := reader{r.ctx, r.tar}.Read(p)
	if err != nil && err != io.EOF {
		r.err = r.layers[r.layer].failed(r.wrong(err))
		err = r.err
	}
	return n, err
}

// seek goes on to a file.
func (r *replay) seek(f *file) error {
	if r.stream == nil || r.layer != f.layer {
		if err := r.finish(); err != nil {
			return err
		}
		s, err := r.layers[f.layer].read(r.ctx, &r.left)
		if err != nil {
			return err
		}
		r.stream, r.layer, r.at = s, f.layer, r.starts[f.layer]-1
	}
	for {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		h, err := r.next()
		if err != nil && err != io.EOF {
			return r.layers[r.layer].failed(err)
		}
		r.at++
		if err == nil && r.at < f.order {
			continue
		}
		if err != nil || h.Name != f.name || h.Size != f.size || h.Typeflag != f.flag {
			return fault("was changed while it was read: start again")
		}
		return nil
	}
}

// finish ends the reading of a layer.
func (r *replay) finish() error {
	if r.stream == nil {
		return nil
	}
	defer r.close()
	if err := r.stream.finish(); err != nil {
		return r.layers[r.layer].failed(err)
	}
	return nil
}

func (r *replay) close() {
	if r.stream != nil {
		r.stream.close()
		r.stream = nil
	}
}
