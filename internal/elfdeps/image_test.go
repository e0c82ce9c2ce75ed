package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// image is an ELF file of the tests: what linkers refuse to make, and other machines'.
type image struct {
	class   elf.Class
	machine elf.Machine
	interp  string
	dynamic []entry
	data    string // constant
	flags   elf.ProgFlag
	change  func(b []byte) // of the finished file
}

// entry is of the dynamic section: a number, or a string if there is one.
type entry struct {
	tag  elf.DynTag
	text string
	val  uint64
}

const (
	imageBase = 0x400000 // where the image is loaded
	imageHash = 0x1f0    // its hash table, in memory and in the file
	imageText = 0x200    // likewise the strings
	imagePage = 0x10000  // the dynamic section in both
)

func (m image) bytes() []byte {
	var order binary.ByteOrder = binary.LittleEndian
	class, machine := m.class, m.machine
	if class == 0 {
		class = elf.ELFCLASS64
	}
	if machine == 0 {
		machine = elf.EM_X86_64
	}
	text := []byte("\x00")
	places := map[string]uint64{}
	str := func(s string) uint64 {
		if _, ok := places[s]; !ok {
			places[s] = uint64(len(text))
			text = append(append(text, s...), 0)
		}
		return places[s]
	}
	var dynamic bytes.Buffer
	put := func(tag elf.DynTag, val uint64) {
		if class == elf.ELFCLASS64 {
			binary.Write(&dynamic, order, elf.Dyn64{Tag: int64(tag), Val: val})
		} else {
			binary.Write(&dynamic, order, elf.Dyn32{Tag: int32(tag), Val: uint32(val)})
		}
	}
	for _, e := range m.dynamic {
		if e.val == 0 {
			e.val = str(e.text)
		}
		put(e.tag, e.val)
	}
	interp := str(m.interp)
	str(m.data)
	put(elf.DT_STRTAB, imageBase+imageText)
	put(elf.DT_STRSZ, uint64(len(text)))
	put(elf.DT_SYMTAB, imageBase+imageText)
	put(elf.DT_HASH, imageBase+imageHash)
	put(elf.DT_NULL, 0)

	size := uint64(imageText + len(text))
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(m.flags | elf.PF_R), Vaddr: imageBase, Filesz: size, Memsz: size, Align: imagePage},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: imagePage, Vaddr: imageBase + imagePage, Filesz: uint64(dynamic.Len()), Memsz: uint64(dynamic.Len()), Align: imagePage},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R | elf.PF_W), Off: imagePage, Vaddr: imageBase + imagePage, Filesz: uint64(dynamic.Len()), Memsz: uint64(dynamic.Len())},
	}
	if m.interp != "" {
		n := uint64(len(m.interp) + 1)
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: imageText + interp, Vaddr: imageBase + imageText + interp, Filesz: n, Memsz: n})
	}

	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	var b bytes.Buffer
	if class == elf.ELFCLASS64 {
		binary.Write(&b, order, elf.Header64{
			Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1,
			Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)), Shentsize: 64,
		})
		binary.Write(&b, order, progs)
	} else {
		binary.Write(&b, order, elf.Header32{
			Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1,
			Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: uint16(len(progs)), Shentsize: 40,
		})
		for _, p := range progs {
			binary.Write(&b, order, elf.Prog32{
				Type: p.Type, Flags: p.Flags, Off: uint32(p.Off), Vaddr: uint32(p.Vaddr),
				Filesz: uint32(p.Filesz), Memsz: uint32(p.Memsz), Align: uint32(p.Align),
			})
		}
	}
	b.Write(make([]byte, imageHash-b.Len()))
	binary.Write(&b, order, [4]uint32{1, 1}) // of one bucket, for no symbols
	b.Write(text)
	b.Write(make([]byte, imagePage-b.Len()))
	b.Write(dynamic.Bytes())
	if m.change != nil {
		m.change(b.Bytes())
	}
	return b.Bytes()
}

// small is the image without the page between its halves, and as sound.
func (m image) small() []byte {
	b := m.bytes()
	end := imagePage
	for b[end-1] == 0 {
		end--
	}
	end = (end + 8) &^ 7
	b = slices.Delete(b, end, imagePage)
	le := binary.LittleEndian
	if m.class == elf.ELFCLASS32 {
		for i := 1; i < 3; i++ {
			le.PutUint32(b[52+32*i+4:], uint32(end))
		}
	} else {
		for i := 1; i < 3; i++ {
			le.PutUint64(b[64+56*i+8:], uint64(end))
		}
	}
	return b
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
}
