package elfdeps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// cache is what ldconfig(8) wrote: where the libraries are in the directories that
// ld.so.conf names. The format is in glibc's sysdeps/generic/dl-cache.h.
type cache struct {
	entries map[string][]cacheEntry // in the order of the file
	levels  []string                // the glibc-hwcaps subdirectories there are
}

type cacheEntry struct {
	path  string
	flags uint32
	hwcap uint64
}

const (
	oldMagic  = "ld.so-1.7.0"
	newMagic  = "glibc-ld.so.cache1.1"
	cacheHead = 48
	cacheSize = 24 // of an entry
	bigEndian = 3
	// The flags of libraries of i386, with and without libc.so.6 among their needs.
	libc6   = 3
	anyLibc = 1
	// extension is the bit in hwcap which says that its lower half is an index into
	// levels; beneath the bit is an instruction set level, in ten bits.
	extension      = 1 << 62
	extensionMagic = 0xeaa42174
	levelsTag      = 1
)

var errDamaged = errors.New("it is damaged")

// parseCache reads an ld.so.cache: the format of today, alone or behind the one of
// before glibc 2.2, as ldconfig wrote it until 2.32.
func parseCache(file []byte) (*cache, error) {
	b := file
	if bytes.HasPrefix(b, []byte(oldMagic)) && len(b) >= 16 {
		after := 16 + 12*number(b, 12)
		after = (after + 7) &^ 7
		if after > len(b) {
			return nil, errDamaged
		}
		b = b[after:]
	}
	if !bytes.HasPrefix(b, []byte(newMagic)) {
		return nil, errors.New("its format is none that glibc has read since 2.2")
	}
	if len(b) < cacheHead || b[28] == bigEndian || number(b, 20) > (len(b)-cacheHead)/cacheSize {
		return nil, errDamaged
	}
	c := &cache{entries: map[string][]cacheEntry{}}
	texts, whole := string(b), string(file)
	for i := range number(b, 20) {
		e := b[cacheHead+i*cacheSize:]
		name, ok1 := textAt(texts, number(e, 4))
		path, ok2 := textAt(texts, number(e, 8))
		if !ok1 || !ok2 {
			return nil, errDamaged
		}
		c.entries[name] = append(c.entries[name], cacheEntry{path, uint32(number(e, 0)), binary.LittleEndian.Uint64(e[16:])})
	}

	// From here on, offsets count from the beginning of the file.
	at := number(b, 32)
	if at == 0 {
		return c, nil
	}
	if at > len(file)-8 || number(file, at) != extensionMagic || number(file, at+4) > (len(file)-at-8)/16 {
		return nil, errDamaged
	}
	for i := range number(file, at+4) {
		section := file[at+8+i*16:]
		if number(section, 0) != levelsTag {
			continue
		}
		off, size := number(section, 8), number(section, 12)
		if off > len(file) || size > len(file)-off {
			return nil, errDamaged
		}
		for ; size >= 4; off, size = off+4, size-4 {
			level, ok := textAt(whole, number(file, off))
			if !ok {
				return nil, errDamaged
			}
			c.levels = append(c.levels, level)
		}
	}
	return c, nil
}

func number(b []byte, at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }

// textAt is the string at a place.
func textAt(s string, at int) (string, bool) {
	if at >= len(s) {
		return "", false
	}
	s, _, ended := strings.Cut(s[at:min(len(s), at+longest)], "\x00")
	return s, ended
}

// lookup is the path that the cache has for a name: of the entries with these flags
// the one of the first of the levels, which are in order of preference, else the
// one for every CPU. Leveled tells whether other levels may have another. Entries
// for capabilities of before glibc 2.33 are left aside.
func (c *cache) lookup(name string, flags uint32, levels []string) (path string, leveled bool) {
	best := len(levels)
	for _, e := range c.entries[name] {
		if e.flags != flags && (flags != libc6 || e.flags != anyLibc) {
			continue
		}
		if e.hwcap == 0 {
			if best == len(levels) {
				path = e.path
			}
			break
		}
		if e.hwcap>>32&^0x3ff != extension>>32 || int(uint32(e.hwcap)) >= len(c.levels) {
			continue
		}
		leveled = true
		// The level that the library itself says it needs counts as well: 1 is v2.
		if int(e.hwcap>>32&0x3ff) > len(levels) {
			continue
		}
		if i := slices.Index(levels[:best], c.levels[uint32(e.hwcap)]); i >= 0 {
			path, best = e.path, i
		}
	}
	return path, leveled
}
