// Package wire reads and writes the protobuf wire format, strictly and without
// reflection: three wire types, shortest varints, nothing else.
//
// It stands in for google.golang.org/protobuf/encoding/protowire where root
// runs. That package imports internal/detrand, whose init opens the running
// executable by the name it was started under, before main and as root: by a
// hard link the caller chooses that name. It also brings fmt and os, 15
// packages and 0.1 ms a launch. The format is four rules long; a fuzz test
// holds this package to protowire and to the generated code.
//
// Source: https://protobuf.dev/programming-guides/encoding/
package wire

import "errors"

// ErrMalformed is the only error of this package: the bytes are not, or not
// only, what the wire format allows here.
var ErrMalformed = errors.New("malformed message")

// Type is the wire type of a field, its low three bits on the wire.
type Type uint8

// The wire types in use. Fixed64 and the two group types are refused.
const (
	Varint  Type = 0
	Bytes   Type = 2
	Fixed32 Type = 5
)

// Field is one field as it stands in a message.
type Field struct {
	Num  uint32 // 1 to 63
	Type Type
	N    uint64 // the value of a Varint or Fixed32
	B    []byte // the value of Bytes; shares memory with the message
}

// Next splits the first field off b, which must not be empty.
func Next(b []byte) (f Field, rest []byte, err error) {
	tag, b, err := varint(b)
	if err != nil || tag>>3 == 0 || tag>>3 > 63 {
		return f, nil, ErrMalformed
	}
	f.Num, f.Type = uint32(tag>>3), Type(tag&7)
	switch f.Type {
	case Varint:
		f.N, b, err = varint(b)
		return f, b, err
	case Bytes:
		n, b, err := varint(b)
		if err != nil || n > uint64(len(b)) {
			return f, nil, ErrMalformed
		}
		f.B = b[:n:n]
		return f, b[n:], nil
	case Fixed32:
		if len(b) < 4 {
			return f, nil, ErrMalformed
		}
		f.N = uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24
		return f, b[4:], nil
	}
	return f, nil, ErrMalformed
}

// varint reads a base-128 number of at most 64 bits in its shortest form, so
// that one value has one spelling.
func varint(b []byte) (n uint64, rest []byte, err error) {
	for i := 0; i < len(b) && i < 10; i++ {
		c := b[i]
		if i == 9 && c > 1 {
			break // beyond 64 bits
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break // a longer spelling of a smaller number
			}
			return n, b[i+1:], nil
		}
	}
	return 0, nil, ErrMalformed
}

// Kind is what a Schema allows a field to be.
type Kind uint8

// The kinds; zero is no field. The plural ones may stand any number of times.
const (
	Number Kind = 1 + iota
	Numbers
	Text
	Texts
	Mark // Fixed32, once
)

// Schema says which fields a message may have: the index is the field's number.
type Schema []Kind

// Walk calls each for every field of b, in order. A field that the schema has not,
// of another type, or once too often ends it with ErrMalformed.
func (s Schema) Walk(b []byte, each func(Field) error) error {
	var seen uint64
	for len(b) > 0 {
		f, rest, err := Next(b)
		if err != nil || f.Num >= uint32(len(s)) {
			return ErrMalformed
		}
		b = rest
		want, many := Varint, false
		switch s[f.Num] {
		case Number:
		case Numbers:
			many = true
		case Text:
			want = Bytes
		case Texts:
			want, many = Bytes, true
		case Mark:
			want = Fixed32
		default:
			return ErrMalformed
		}
		if f.Type != want || !many && seen&(1<<f.Num) != 0 {
			return ErrMalformed
		}
		seen |= 1 << f.Num
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}

// AppendUint appends a varint field; zero is the default and is left out.
func AppendUint(b []byte, num uint32, n uint64) []byte {
	if n == 0 {
		return b
	}
	return appendVarint(appendVarint(b, uint64(num)<<3|uint64(Varint)), n)
}

// AppendString appends a bytes field; empty is the default and is left out.
func AppendString[S string | []byte](b []byte, num uint32, s S) []byte {
	if len(s) == 0 {
		return b
	}
	return AppendElem(b, num, s)
}

// AppendElem appends an element of a repeated bytes field, empty or not.
func AppendElem[S string | []byte](b []byte, num uint32, s S) []byte {
	b = appendVarint(b, uint64(num)<<3|uint64(Bytes))
	b = appendVarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendNumber appends an element of a repeated, unpacked varint field, zero or not.
func AppendNumber(b []byte, num uint32, n uint64) []byte {
	return appendVarint(appendVarint(b, uint64(num)<<3|uint64(Varint)), n)
}

func appendVarint(b []byte, n uint64) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
