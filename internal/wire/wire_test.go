package wire_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"jailctl/internal/wire"
)

// FuzzNext holds Next to protowire: what it accepts, protowire reads as the same
// field, and written again it is the same bytes.
func FuzzNext(f *testing.F) {
	for _, b := range [][]byte{
		{0x08, 0x01},
		{0x12, 0x02, 'a', 'b'},
		{0x0d, 1, 2, 3, 4},
		{0x08, 0x80, 0x00},
		{0x12, 0xff, 0x01},
		{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		{0x0b, 0x0c},
		{0x00, 0x00},
		{0x0f, 0x00},
		{0xfa, 0x03, 0x00},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		got, rest, err := wire.Next(b)
		if err != nil {
			return
		}
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || uint32(num) != got.Num || wire.Type(typ) != got.Type {
			t.Fatalf("tag %d/%d, protowire %d/%d", got.Num, got.Type, num, typ)
		}
		value := b[n:]
		var again []byte
		switch typ {
		case protowire.VarintType:
			v, m := protowire.ConsumeVarint(value)
			if m < 0 || v != got.N {
				t.Fatalf("varint %d, protowire %d", got.N, v)
			}
			n += m
			again = wire.AppendNumber(nil, got.Num, got.N)
		case protowire.BytesType:
			v, m := protowire.ConsumeBytes(value)
			if m < 0 || string(v) != string(got.B) {
				t.Fatalf("bytes %q, protowire %q", got.B, v)
			}
			n += m
			again = wire.AppendElem(nil, got.Num, got.B)
		case protowire.Fixed32Type:
			v, m := protowire.ConsumeFixed32(value)
			if m < 0 || uint64(v) != got.N {
				t.Fatalf("fixed32 %d, protowire %d", got.N, v)
			}
			n += m
			again = b[:n]
		default:
			t.Fatalf("accepted wire type %d", typ)
		}
		if len(rest) != len(b)-n {
			t.Fatalf("%d bytes left, protowire %d", len(rest), len(b)-n)
		}
		if string(again) != string(b[:n]) {
			t.Fatalf("written again: % x, read: % x", again, b[:n])
		}
	})
}

func TestNextRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"eleven-byte varint":    {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"over 64 bits":          {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"longer spelling":       {0x08, 0x81, 0x00},
		"field 0":               {0x00, 0x01},
		"field 64":              {0x80, 0x04, 0x01},
		"group":                 {0x0b, 0x0c},
		"fixed64":               {0x09, 1, 2, 3, 4, 5, 6, 7, 8},
		"wire type 7":           {0x0f, 0x00},
		"length past the end":   {0x12, 0x03, 'a', 'b'},
		"length 2^63":           {0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"length cut short":      {0x12, 0x80},
		"tag cut short":         {0x80},
		"fixed32 cut short":     {0x0d, 1, 2, 3},
		"tag in a longer spell": {0x88, 0x00, 0x01},
	} {
		if f, _, err := wire.Next(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, f)
		}
	}
}
