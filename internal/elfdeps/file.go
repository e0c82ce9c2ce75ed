package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// ErrNotELF is of a file that no loader loads: it is not ELF at all, or it is an
// object file, a core dump, or symbols that were split off for a debugger.
var ErrNotELF = errors.New("not an ELF program or shared object")

var errShort = errors.New("it is cut short")

// What no sound file comes near, so that a crafted one costs neither hours nor
// gigabytes. The first is the kernel's own (fs/binfmt_elf.c).
const (
	maxHeaders = 64 << 10
	maxDynamic = 1 << 20
	maxString  = 64 << 10
	maxNames   = 10_000
	maxBuiltIn = 64   // directories in a loader; glibc's have 4
	longest    = 4096 // a path, PATH_MAX
	nameMax    = 255  // what a file can be called
)

// file is what the loader reads of one ELF file.
type file struct {
	size            int64
	class           elf.Class
	machine         elf.Machine
	kind            Kind
	interp, soname  string
	rpath, runpath  string
	hasRunpath      bool // which may be empty
	nodeflib        bool
	needed          []need
	loads, constant []elf.ProgHeader // the latter with the constant data
}

// need is one DT_NEEDED, DT_AUXILIARY or DT_FILTER.
type need struct {
	tag  elf.DynTag
	name string
}

// view is a file whose first bytes are in memory, changed.
type view struct {
	io.ReaderAt
	head []byte
}

func (v view) ReadAt(p []byte, off int64) (int, error) {
	if off >= 0 && off+int64(len(p)) <= int64(len(v.head)) {
		return copy(p, v.head[off:]), nil
	}
	return v.ReaderAt.ReadAt(p, off)
}

// open reads the headers of an ELF file. The section table is hidden from debug/elf,
// which would read it however large it says it is; loaders do without it too.
func open(r io.ReaderAt) (*elf.File, error) {
	head := make([]byte, 4096)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return nil, ErrNotELF
	}
	// Places in the header: e_shoff to its end, e_phentsize, e_shentsize.
	shoff, width, phentsize, shentsize, want := 0x20, 4, 0x2a, 0x2e, 32
	if n > elf.EI_CLASS && elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		shoff, width, phentsize, shentsize, want = 0x28, 8, 0x36, 0x3a, 56
	}
	if n < shentsize+6 {
		return nil, errShort
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	size, count := int(order.Uint16(head[phentsize:])), int(order.Uint16(head[phentsize+2:]))
	if count > 0 && size != want || count*size > maxHeaders {
		return nil, fmt.Errorf("%d program headers of %d bytes", count, size)
	}
	clear(head[shoff : shoff+width])
	clear(head[shentsize : shentsize+6])
	f, err := elf.NewFile(view{r, head})
	return f, short(err)
}

// parse reads what the loader would, from where it would: it goes by addresses.
func parse(r io.ReaderAt, size int64) (*file, error) {
	e, err := open(r)
	if err != nil {
		return nil, err
	}
	if e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN {
		return nil, ErrNotELF
	}
	f := &file{size: size, class: e.Class, machine: e.Machine}
	var dynamic, interp *elf.Prog
	var code []elf.ProgHeader
	for _, p := range e.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			f.loads = append(f.loads, p.ProgHeader)
			switch p.Flags & (elf.PF_W | elf.PF_X) {
			case 0:
				f.constant = append(f.constant, p.ProgHeader)
			case elf.PF_X:
				code = append(code, p.ProgHeader)
			}
		case elf.PT_DYNAMIC:
			dynamic = p
		case elf.PT_INTERP:
			if interp == nil {
				interp = p
			}
		}
	}
	if f.constant == nil { // as linkers laid it out until 2018
		f.constant = code
	}
	if dynamic != nil && dynamic.Filesz == 0 {
		return nil, ErrNotELF // what `strip --only-keep-debug` leaves
	}
	if interp != nil {
		if f.interp, err = interpreter(interp); err != nil {
			return nil, err
		}
		f.kind = Dynamic
	}
	if dynamic == nil || e.Type == elf.ET_EXEC && interp == nil {
		return f, nil
	}
	flags, err := f.dynamic(r, e, dynamic)
	switch {
	case err != nil:
		return nil, err
	case f.interp != "":
	case flags&elf.DF_1_PIE != 0:
		f.kind = StaticPIE
	default:
		f.kind = Shared
	}
	return f, nil
}

// Interpreter is what the kernel loads a program by; empty: nothing. However large the
// file is, little of it is read.
func Interpreter(r io.ReaderAt) (string, error) {
	e, err := open(r)
	if err != nil {
		return "", err
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return interpreter(p)
		}
	}
	return "", nil
}

// interpreter is the path in PT_INTERP, as the kernel would read it.
func interpreter(p *elf.Prog) (string, error) {
	if p.Filesz < 2 || p.Filesz > longest {
		return "", fmt.Errorf("the path of its interpreter is of %d bytes", p.Filesz)
	}
	b := make([]byte, p.Filesz)
	if _, err := p.ReadAt(b, 0); err != nil {
		return "", short(err)
	}
	s, _, ended := strings.Cut(string(b), "\x00")
	if !ended || !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("its interpreter %q is not an absolute path", s)
	}
	return s, nil
}

// at is where in the file an address is, and how many bytes of its segment follow.
func (f *file) at(address uint64) (off int64, n uint64, err error) {
	for _, p := range f.loads {
		if address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			at := int64(p.Off + (address - p.Vaddr))
			if at < 0 || at >= f.size {
				return 0, 0, errShort
			}
			return at, p.Filesz - (address - p.Vaddr), nil
		}
	}
	return 0, 0, fmt.Errorf("address %#x is not in the file", address)
}

// dynamic reads the dynamic section and its strings. It returns DT_FLAGS_1.
func (f *file) dynamic(r io.ReaderAt, e *elf.File, p *elf.Prog) (elf.DynFlag1, error) {
	off, n, err := f.at(p.Vaddr)
	if err != nil {
		return 0, err
	}
	if n = min(n, p.Memsz); n > maxDynamic {
		return 0, fmt.Errorf("a dynamic section of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil {
		return 0, short(err)
	}
	half, word := 4, func(b []byte) uint64 { return uint64(e.ByteOrder.Uint32(b)) }
	if e.Class == elf.ELFCLASS64 {
		half, word = 8, e.ByteOrder.Uint64
	}
	var entries []elf.Dyn64
	for ; len(b) >= 2*half && word(b) != uint64(elf.DT_NULL); b = b[2*half:] {
		entries = append(entries, elf.Dyn64{Tag: int64(word(b)), Val: word(b[half:])})
	}
	var flags elf.DynFlag1
	var table uint64
	for _, d := range entries {
		switch elf.DynTag(d.Tag) {
		case elf.DT_STRTAB:
			table = d.Val
		case elf.DT_FLAGS_1:
			flags = elf.DynFlag1(d.Val)
		}
	}
	total := 0
	f.nodeflib = flags&elf.DF_1_NODEFLIB != 0
	for _, d := range entries {
		var s *string
		switch tag := elf.DynTag(d.Tag); tag {
		case elf.DT_NEEDED, elf.DT_AUXILIARY, elf.DT_FILTER:
			f.needed = append(f.needed, need{tag: tag})
			s = &f.needed[len(f.needed)-1].name
		case elf.DT_SONAME:
			s = &f.soname
		case elf.DT_RPATH:
			s = &f.rpath
		case elf.DT_RUNPATH:
			s, f.hasRunpath = &f.runpath, true
		default:
			continue
		}
		if *s, err = f.text(r, table+d.Val); err != nil {
			return 0, err
		}
		if total += len(*s); total > maxDynamic {
			return 0, errors.New("the strings of its dynamic section are too long")
		}
	}
	for _, n := range f.needed {
		if n.name == "" {
			return 0, errors.New("it needs a library without a name")
		}
	}
	return flags, nil
}

// text is the string at an address.
func (f *file) text(r io.ReaderAt, address uint64) (string, error) {
	off, n, err := f.at(address)
	if err != nil {
		return "", err
	}
	for _, size := range []uint64{256, maxString} {
		b := make([]byte, min(n, size))
		got, err := r.ReadAt(b, off)
		if i := bytes.IndexByte(b[:got], 0); i >= 0 {
			return string(b[:i]), nil
		}
		if err != nil {
			return "", short(err)
		}
	}
	return "", fmt.Errorf("the string at address %#x does not end", address)
}

// short is a better word for the end of a file within what should be there.
func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errShort
	}
	return err
}

// libraryName is a string that names a shared object, alone or at the end of a path.
var libraryName = regexp.MustCompile(`^(?:.*/)?(lib[\w.+-]+\.so(?:\.[0-9]+)*)$`)

// names finds names of shared objects in the data that a program cannot change: it
// may pass them to dlopen(3). They stand between NUL bytes. Data beyond the first
// 256 megabytes is not looked at.
func (f *file) names(r io.ReaderAt, buf []byte, ended func() error) ([]string, error) {
	left := uint64(256 << 20)
	var found []string
	for _, p := range f.constant {
		size := min(p.Filesz, left)
		left -= size
		kept := 0 // of a string that goes on
		for off := int64(p.Off); size > 0 && off < f.size; {
			if err := ended(); err != nil {
				return nil, err
			}
			want := min(uint64(len(buf)-kept), size)
			n, err := r.ReadAt(buf[kept:][:want], off)
			if err != nil && err != io.EOF {
				return nil, err
			}
			b := buf[:kept+n]
			found = appendNames(found, b)
			if len(found) > maxNames {
				return nil, fmt.Errorf("it has more than %d names of shared objects", maxNames)
			}
			off, size = off+int64(want), size-want
			if kept = len(b) - 1 - bytes.LastIndexByte(b, 0); kept > len(buf)/2 {
				kept = 0
			}
			copy(buf, b[len(b)-kept:])
		}
	}
	return found, nil
}

// appendNames adds to found what is named in b.
func appendNames(found []string, b []byte) []string {
	so := []byte(".so")
	for at, next := 0, 0; ; {
		if at = bytes.Index(b[next:], so); at < 0 {
			return found
		}
		at += next
		end := bytes.IndexByte(b[at:], 0)
		if end < 0 {
			return found
		}
		end += at
		if end-at >= longest {
			next = end - longest + 1 // what stands before is no end of a path
			continue
		}
		from := max(0, at-longest)
		start := from + 1 + bytes.LastIndexByte(b[from:at], 0)
		if m := libraryName.FindSubmatch(b[start:end]); m != nil && len(m[1]) <= nameMax {
			found = append(found, string(m[1]))
		}
		next = end
	}
}
