package policy

import (
	"bytes"

	"jailctl/internal/confine"
	"jailctl/internal/wire"
)

// end is Compiled.end of proto/compiled.proto: nothing follows it, and a file
// without it was cut short.
const end = 0x6c69616a

// version is the only format of the compiled form that this package reads.
const version = 2

// The messages of proto/compiled.proto.
var (
	jailSchema = wire.Schema{
		1: wire.Number, 2: wire.Text, 3: wire.Text, 4: wire.Text, 5: wire.Text, 6: wire.Texts, 7: wire.Text, 8: wire.Texts,
		9: wire.Texts, 10: wire.Text, 11: wire.Text, 12: wire.Texts, 13: wire.Number, 14: wire.Number, 15: wire.Number, 16: wire.Texts,
		63: wire.Mark,
	}
	ruleSchema = wire.Schema{
		1: wire.Number, 2: wire.Number, 3: wire.Number, 4: wire.Texts, 5: wire.Numbers, 6: wire.Texts, 7: wire.Text,
		8: wire.Number, 9: wire.Text, 10: wire.Number, 11: wire.Numbers, 12: wire.Number, 13: wire.Number,
	}
	confineSchema = wire.Schema{
		1: wire.Text, 2: wire.Number, 3: wire.Texts, 4: wire.Number, 5: wire.Number, 6: wire.Number, 7: wire.Numbers,
		8: wire.Numbers, 9: wire.Number, 10: wire.Text,
	}
	unveilSchema  = wire.Schema{1: wire.Text, 2: wire.Text, 3: wire.Number}
	userSchema    = wire.Schema{1: wire.Number, 2: wire.Text, 3: wire.Text, 4: wire.Text}
	commandSchema = wire.Schema{1: wire.Text, 2: wire.Texts, 3: wire.Number, 4: wire.Number}
	limitSchema   = wire.Schema{1: wire.Number, 2: wire.Number}
)

// Decode reads the compiled form of a policy. It is as strict as its writer:
// unknown fields, scalars that stand twice, wrong types and anything after the
// end mark are refused, and so is a root that no policy may have.
func Decode(b []byte) (*Jail, error) {
	j := new(Jail)
	var formatted, ended bool
	err := jailSchema.Walk(b, func(f wire.Field) error {
		if ended {
			return wire.ErrMalformed
		}
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
			return add(&j.Rules, f.B, decodeRule)
		case 7:
			j.DefaultCommand = string(f.B)
		case 8:
			j.Keep = append(j.Keep, string(f.B))
		case 9:
			if bytes.IndexByte(f.B, '=') < 1 {
				return wire.ErrMalformed
			}
			j.Set = append(j.Set, string(f.B))
		case 10:
			j.Path = string(f.B)
		case 11:
			j.Dir = string(f.B)
		case 12:
			return add(&j.Limits, f.B, decodeLimit)
		case 13:
			if f.N > 0o777 {
				return wire.ErrMalformed
			}
			j.Umask = uint32(f.N)
		case 14:
			j.Wall = f.N
		case 15:
			j.AuditRequired = f.N != 0
		case 16:
			return add(&j.Confines, f.B, DecodeConfine)
		case 63:
			ended = f.N == end
		}
		return nil
	})
	for i := range j.Rules {
		// A rule whose confinement is missing has none that is weaker.
		if j.Rules[i].Confine >= len(j.Confines) {
			err = wire.ErrMalformed
		}
	}
	if err != nil || !formatted || !ended || !ValidName(j.Name) || !CleanAbs(j.Root) || j.Root == "/" || !CleanAbs(j.Dir) {
		return nil, wire.ErrMalformed
	}
	return j, nil
}

// add decodes one element of a repeated message.
func add[T any](list *[]T, b []byte, decode func([]byte) (T, error)) error {
	v, err := decode(b)
	*list = append(*list, v)
	return err
}

func decodeRule(b []byte) (r Rule, err error) {
	err = ruleSchema.Walk(b, func(f wire.Field) (err error) {
		switch f.Num {
		case 1:
			r.Line = uint32(f.N)
		case 2:
			r.Deny = f.N != 0
		case 3:
			r.Everyone = f.N != 0
		case 4:
			err = add(&r.Users, f.B, decodeUser)
		case 5:
			err = addID(&r.Groups, f.N)
		case 6:
			err = add(&r.Commands, f.B, decodeCommand)
		case 7:
			r.Target, err = decodeUser(f.B)
		case 8:
			r.GID, err = decodeID(f.N)
		case 9:
			r.GroupName = string(f.B)
		case 10:
			r.Caller = f.N != 0
		case 11:
			err = addID(&r.TargetGroups, f.N)
		case 12:
			r.NotAfter = f.N
		case 13:
			if f.N > 1<<16 {
				return wire.ErrMalformed
			}
			r.Confine = int(f.N)
		}
		return err
	})
	return r, err
}

// DecodeConfine reads a CompiledConfine; an explanation has one as well.
func DecodeConfine(b []byte) (c Confine, err error) {
	c.Raw = b
	err = confineSchema.Walk(b, func(f wire.Field) (err error) {
		switch f.Num {
		case 1:
			c.Program = f.B
		case 2:
			if f.N > 1<<32-1 {
				return wire.ErrMalformed
			}
			c.Once = uint32(f.N)
		case 3:
			err = add(&c.Want.Unveil, f.B, decodeUnveil)
		case 4:
			c.Want.Signals, err = decodeKeep(f.N)
		case 5:
			c.Want.Abstract, err = decodeKeep(f.N)
		case 6:
			c.Want.TCP, err = decodeKeep(f.N)
		case 7:
			err = addPort(&c.Want.Connect, f.N)
		case 8:
			err = addPort(&c.Want.Bind, f.N)
		case 9:
			c.Want.Degrade = f.N != 0
		}
		return err
	})
	if len(c.Program) == 0 {
		return c, wire.ErrMalformed
	}
	return c, err
}

func decodeUnveil(b []byte) (p confine.Path, err error) {
	err = unveilSchema.Walk(b, func(f wire.Field) error {
		switch f.Num {
		case 1:
			p.Path = string(f.B)
		case 2:
			p.Access = string(f.B)
		case 3:
			p.Optional = f.N != 0
		}
		return nil
	})
	if !CleanAbs(p.Path) {
		return p, wire.ErrMalformed
	}
	return p, err
}

func decodeKeep(n uint64) (confine.Keep, error) {
	if n > uint64(confine.Off) {
		return confine.Must, wire.ErrMalformed
	}
	return confine.Keep(n), nil
}

func addPort(list *[]uint16, n uint64) error {
	*list = append(*list, uint16(n))
	if n > 1<<16-1 {
		return wire.ErrMalformed
	}
	return nil
}

// decodeID refuses a number that is no uid or gid: uid 2^32 would become 0 when
// cut to 32 bits, and -1 means "leave it as it is" to setresuid(2).
func decodeID(n uint64) (uint32, error) {
	if n >= 1<<32-1 {
		return 0, wire.ErrMalformed
	}
	return uint32(n), nil
}

func addID(list *[]uint32, n uint64) error {
	id, err := decodeID(n)
	*list = append(*list, id)
	return err
}

func decodeUser(b []byte) (u User, err error) {
	err = userSchema.Walk(b, func(f wire.Field) (err error) {
		switch f.Num {
		case 1:
			u.UID, err = decodeID(f.N)
		case 2:
			u.Name = string(f.B)
		case 3:
			u.Home = string(f.B)
		case 4:
			u.Shell = string(f.B)
		}
		return err
	})
	return u, err
}

func decodeCommand(b []byte) (c Command, err error) {
	err = commandSchema.Walk(b, func(f wire.Field) error {
		switch f.Num {
		case 1:
			c.Path = string(f.B)
		case 2:
			c.Args = append(c.Args, string(f.B))
		case 3:
			c.HasArgs = f.N != 0
		case 4:
			c.AnyRest = f.N != 0
		}
		return nil
	})
	if !CleanAbs(c.Path) {
		return c, wire.ErrMalformed
	}
	return c, err
}

func decodeLimit(b []byte) (l Limit, err error) {
	err = limitSchema.Walk(b, func(f wire.Field) error {
		switch f.Num {
		case 1:
			if f.N > 63 {
				return wire.ErrMalformed
			}
			l.Resource = int(f.N)
		case 2:
			l.Value = f.N
		}
		return nil
	})
	return l, err
}
