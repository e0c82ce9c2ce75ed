package policy

import (
	"strings"

	"jailctl/internal/wire"
)

// end is Compiled.end of proto/compiled.proto: nothing follows it, and a file
// without it was cut short.
const end = 0x6c69616a

// version is the only format of the compiled form that this package reads.
const version = 1

// Decode reads the compiled form of a policy. It is as strict as its writer:
// unknown fields, scalars that stand twice, wrong types and anything after the
// end mark are refused, and so is a root that no policy may have.
func Decode(b []byte) (*Jail, error) {
	j := new(Jail)
	var seen wire.Seen
	var formatted, ended bool
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		repeated := f.Num == 6 || f.Num == 8 || f.Num == 9 || f.Num == 12
		if err != nil || ended || f.Type != jailTypes(f.Num) || seen.Again(f) && !repeated {
			return nil, wire.ErrMalformed
		}
		b = rest
		switch f.Num {
		case 1:
			formatted = f.N == version
		case 2:
			j.Name = string(f.B)
		case 3:
			j.Source = f.B
		case 4:
			j.Description = string(f.B)
		case 5:
			j.Root = string(f.B)
		case 6:
			r, err := decodeRule(f.B)
			if err != nil {
				return nil, err
			}
			j.Rules = append(j.Rules, r)
		case 7:
			j.DefaultCommand = string(f.B)
		case 8:
			j.Keep = append(j.Keep, string(f.B))
		case 9:
			if strings.IndexByte(string(f.B), '=') < 1 {
				return nil, wire.ErrMalformed
			}
			j.Set = append(j.Set, string(f.B))
		case 10:
			j.Path = string(f.B)
		case 11:
			j.Dir = string(f.B)
		case 12:
			l, err := decodeLimit(f.B)
			if err != nil {
				return nil, err
			}
			j.Limits = append(j.Limits, l)
		case 13:
			j.Umask = uint32(f.N)
		case 14:
			j.Wall = f.N
		case 15:
			j.AuditRequired = f.N != 0
		case 16:
			ended = f.N == end
		}
	}
	if !formatted || !ended || !ValidName(j.Name) || !CleanAbs(j.Root) || j.Root == "/" || !CleanAbs(j.Dir) || j.Umask > 0o777 {
		return nil, wire.ErrMalformed
	}
	return j, nil
}

// jailTypes is the wire type that each field of Compiled must have. A number
// that is no field gets a type that Next never returns.
func jailTypes(num uint32) wire.Type {
	switch num {
	case 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
		return wire.Bytes
	case 1, 13, 14, 15:
		return wire.Varint
	case 16:
		return wire.Fixed32
	}
	return 0xff
}

func decodeRule(b []byte) (r Rule, err error) {
	var seen wire.Seen
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		repeated := f.Num == 4 || f.Num == 5 || f.Num == 6 || f.Num == 11
		if err != nil || seen.Again(f) && !repeated {
			return r, wire.ErrMalformed
		}
		b = rest
		want := wire.Varint
		switch f.Num {
		case 1:
			r.Line = uint32(f.N)
		case 2:
			r.Deny = f.N != 0
		case 3:
			r.Everyone = f.N != 0
		case 4:
			u, err := decodeUser(f.B)
			if err != nil {
				return r, err
			}
			r.Users, want = append(r.Users, u), wire.Bytes
		case 5:
			id, err := decodeID(f.N)
			if err != nil {
				return r, err
			}
			r.Groups = append(r.Groups, id)
		case 6:
			c, err := decodeCommand(f.B)
			if err != nil {
				return r, err
			}
			r.Commands, want = append(r.Commands, c), wire.Bytes
		case 7:
			if r.Target, err = decodeUser(f.B); err != nil {
				return r, err
			}
			want = wire.Bytes
		case 8:
			if r.GID, err = decodeID(f.N); err != nil {
				return r, err
			}
		case 9:
			r.GroupName, want = string(f.B), wire.Bytes
		case 10:
			r.Caller = f.N != 0
		case 11:
			id, err := decodeID(f.N)
			if err != nil {
				return r, err
			}
			r.TargetGroups = append(r.TargetGroups, id)
		case 12:
			r.NotAfter = f.N
		default:
			return r, wire.ErrMalformed
		}
		if f.Type != want {
			return r, wire.ErrMalformed
		}
	}
	return r, nil
}

// decodeID refuses a number that is no uid or gid: uid 2^32 would become 0 when
// cut to 32 bits, and -1 means "leave it as it is" to setresuid(2).
func decodeID(n uint64) (uint32, error) {
	if n >= 1<<32-1 {
		return 0, wire.ErrMalformed
	}
	return uint32(n), nil
}

func decodeUser(b []byte) (u User, err error) {
	var seen wire.Seen
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil || seen.Again(f) || (f.Num == 1) != (f.Type == wire.Varint) {
			return u, wire.ErrMalformed
		}
		b = rest
		switch f.Num {
		case 1:
			if u.UID, err = decodeID(f.N); err != nil {
				return u, err
			}
		case 2:
			u.Name = string(f.B)
		case 3:
			u.Home = string(f.B)
		case 4:
			u.Shell = string(f.B)
		default:
			return u, wire.ErrMalformed
		}
	}
	return u, nil
}

func decodeCommand(b []byte) (c Command, err error) {
	var seen wire.Seen
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil || seen.Again(f) && f.Num != 2 || (f.Num <= 2) != (f.Type == wire.Bytes) {
			return c, wire.ErrMalformed
		}
		b = rest
		switch f.Num {
		case 1:
			c.Path = string(f.B)
		case 2:
			c.Args = append(c.Args, string(f.B))
		case 3:
			c.HasArgs = f.N != 0
		case 4:
			c.AnyRest = f.N != 0
		default:
			return c, wire.ErrMalformed
		}
	}
	if !CleanAbs(c.Path) {
		return c, wire.ErrMalformed
	}
	return c, nil
}

func decodeLimit(b []byte) (l Limit, err error) {
	var seen wire.Seen
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil || seen.Again(f) || f.Type != wire.Varint {
			return l, wire.ErrMalformed
		}
		b = rest
		switch f.Num {
		case 1:
			if f.N > 63 {
				return l, wire.ErrMalformed
			}
			l.Resource = int(f.N)
		case 2:
			l.Value = f.N
		default:
			return l, wire.ErrMalformed
		}
	}
	return l, nil
}
