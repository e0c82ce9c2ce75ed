package ptrace

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"runtime"
	"testing"
)

// Root follows what the command of a jail executes. A file that says that its section
// table is as large as a sparse file can be costs no more than another.
func TestInterpreterOfHostileFile(t *testing.T) {
	const interp, size = "/lib/ld.so\x00", 256 << 20
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
			Shoff: 256, Shentsize: 64, Shnum: 2, Shstrndx: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 128, Filesz: uint64(len(interp)), Memsz: uint64(len(interp))},
		[8]byte{},
		[]byte(interp), make([]byte, 128-len(interp)),
		elf.Section64{},
		elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: 512, Size: size - 512},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/program", b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dir+"/program", size); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := r.Interpreter("/program")
	runtime.ReadMemStats(&after)
	if got != "/lib/ld.so" {
		t.Errorf("interpreter %q", got)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were needed", n)
	}
}
