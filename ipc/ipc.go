// Package ipc is what jailctl and jailhelper say to each other: one bounded
// Request and its Replies, each one packet of a SOCK_SEQPACKET socket pair. The
// messages are those of proto/ipc.proto; a fuzz test holds this package to the
// code generated from it.
package ipc

import (
	"errors"
	"strings"
	"syscall"
	"unsafe"

	"jailctl/internal/wire"
)

// Descriptors at which the helper finds what the client gives it, beside the
// command's own 0, 1 and 2.
const (
	Socket = 3 // the helper's end of the socket pair
	Signal = 4 // read end of the pipe through which the client signals the command
	Death  = 5 // read end of the pipe whose closing kills it
)

// MaxPacket is the largest Request in bytes: as much as xargs(1) gives a command,
// and an environment. The client widens its socket for it (socket(7), SO_SNDBUF).
const MaxPacket = 256 << 10

// maxVariables bounds a Request's environment: what is kept of it is compared
// with all that was kept before, as root.
const maxVariables = 4096

// Verb is what the caller asks for.
type Verb uint32

// The verbs; see proto/ipc.proto.
const (
	Run     Verb = 1
	Explain Verb = 2
	List    Verb = 3
)

// Request is the caller's; nothing in it is believed.
type Request struct {
	Verb        Verb
	Jail        string
	Argv        []string
	User, Group string   // the target asked for; empty: the rule's
	Dir         string   // empty: the policy's
	Env         []string // "NAME=VALUE", the caller's environment
	Assign      []string // "NAME=VALUE", from -e
}

// Outcome says which kind of Reply it is.
type Outcome uint32

// The outcomes; see proto/ipc.proto.
const (
	Refused    Outcome = 1
	Failed     Outcome = 2
	Starting   Outcome = 3
	ExecFailed Outcome = 4
	Explained  Outcome = 5
	Listed     Outcome = 6
	End        Outcome = 7
)

// Reply is the helper's answer. Explanation and Listing are encoded messages of
// proto/ipc.proto.
type Reply struct {
	Outcome     Outcome
	Errno       syscall.Errno
	Text        string
	Wall        uint64 // seconds
	Explanation []byte
	Listing     []byte
	Stage       string // with Failed: the step of the helper
}

// Encode returns the packet for r, or an error where it would be too large.
func (r *Request) Encode() ([]byte, error) {
	b := make([]byte, 0, 8192)
	b = wire.AppendUint(b, 1, uint64(r.Verb))
	b = wire.AppendString(b, 2, r.Jail)
	for _, a := range r.Argv {
		b = wire.AppendElem(b, 3, a)
	}
	b = wire.AppendString(b, 4, r.User)
	b = wire.AppendString(b, 5, r.Group)
	b = wire.AppendString(b, 6, r.Dir)
	for _, e := range r.Env {
		b = wire.AppendElem(b, 7, e)
	}
	for _, e := range r.Assign {
		b = wire.AppendElem(b, 8, e)
	}
	if len(r.Env)+len(r.Assign) > maxVariables {
		return nil, errors.New("the environment has over 4096 variables: run with a smaller one (env -i)")
	}
	if len(b) > MaxPacket {
		return nil, errors.New("arguments and environment are over 262144 bytes: shorten them (xargs -s 100000), or run with a smaller environment (env -i)")
	}
	return b, nil
}

// The messages of proto/ipc.proto.
var (
	requestSchema = wire.Schema{
		1: wire.Number, 2: wire.Text, 3: wire.Texts, 4: wire.Text, 5: wire.Text, 6: wire.Text, 7: wire.Texts, 8: wire.Texts,
	}
	replySchema = wire.Schema{1: wire.Number, 2: wire.Number, 3: wire.Text, 4: wire.Number, 5: wire.Text, 6: wire.Text, 7: wire.Text}
)

// DecodeRequest reads the caller's packet and vets its form: known fields,
// scalars once, no NUL (execve(2) would cut a string there, after it was
// decided upon whole), and a name before each "=".
func DecodeRequest(b []byte) (*Request, error) {
	r := new(Request)
	err := requestSchema.Walk(b, func(f wire.Field) error {
		s := string(f.B)
		if strings.IndexByte(s, 0) >= 0 {
			return wire.ErrMalformed
		}
		switch f.Num {
		case 1:
			if f.N > uint64(List) {
				return wire.ErrMalformed
			}
			r.Verb = Verb(f.N)
		case 2:
			r.Jail = s
		case 3:
			r.Argv = append(r.Argv, s)
		case 4:
			r.User = s
		case 5:
			r.Group = s
		case 6:
			r.Dir = s
		case 7:
			r.Env = append(r.Env, s)
		case 8:
			if strings.IndexByte(s, '=') < 1 {
				return wire.ErrMalformed
			}
			r.Assign = append(r.Assign, s)
		}
		return nil
	})
	if err != nil || r.Verb < Run || len(r.Env)+len(r.Assign) > maxVariables {
		return nil, wire.ErrMalformed
	}
	return r, nil
}

// Encode returns the packet for r.
func (r *Reply) Encode() []byte {
	b := make([]byte, 0, 256)
	b = wire.AppendUint(b, 1, uint64(r.Outcome))
	b = wire.AppendUint(b, 2, uint64(r.Errno))
	b = wire.AppendString(b, 3, r.Text)
	b = wire.AppendUint(b, 4, r.Wall)
	b = wire.AppendString(b, 5, r.Explanation)
	b = wire.AppendString(b, 6, r.Listing)
	return wire.AppendString(b, 7, r.Stage)
}

// DecodeReply reads the helper's packet.
func DecodeReply(b []byte) (r Reply, err error) {
	err = replySchema.Walk(b, func(f wire.Field) error {
		switch f.Num {
		case 1:
			r.Outcome = Outcome(f.N)
		case 2:
			r.Errno = syscall.Errno(f.N)
		case 3:
			r.Text = string(f.B)
		case 4:
			r.Wall = f.N
		case 5:
			r.Explanation = f.B
		case 6:
			r.Listing = f.B
		case 7:
			r.Stage = string(f.B)
		}
		return nil
	})
	if err != nil || r.Outcome < Refused || r.Outcome > End {
		return r, wire.ErrMalformed
	}
	return r, nil
}

// The ways in which Receive refuses what arrived.
var (
	errGone      = errors.New("no request came")
	errLate      = errors.New("no request came in time")
	errTooLarge  = errors.New("the request is over 262144 bytes")
	errAncillary = errors.New("the request carries descriptors or credentials")
	errDoubled   = errors.New("more than one request")
)

// Receive reads the one packet of the caller's that counts, waiting seconds for
// it. It gives the kernel no room for ancillary data: descriptors that come
// along are discarded by the kernel, never installed here (recvmsg(2),
// MSG_CTRUNC), and the packet is refused. Whatever comes after it is refused as
// well, and then no longer received.
func Receive(fd int, seconds int64) ([]byte, error) {
	// The caller may have set a timeout of its own; a later change of it ends
	// at the helper's alarm.
	tv := syscall.NsecToTimeval(seconds * 1e9)
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv); err != nil {
		return nil, err
	}
	buf := make([]byte, MaxPacket)
	n, _, flags, _, err := syscall.Recvmsg(fd, buf, nil, 0)
	switch {
	case err == syscall.EAGAIN:
		return nil, errLate
	case err != nil:
		return nil, err
	case flags&syscall.MSG_CTRUNC != 0:
		return nil, errAncillary
	case flags&syscall.MSG_TRUNC != 0:
		return nil, errTooLarge
	case n == 0:
		return nil, errGone // end of file, or an empty packet
	}
	var one [1]byte
	_, _, _, _, err = syscall.Recvmsg(fd, one[:], nil, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	if err == nil {
		return nil, errDoubled
	}
	if err != syscall.EAGAIN {
		return nil, err
	}
	if err := syscall.Shutdown(fd, syscall.SHUT_RD); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// Send hands one packet over without ever blocking or raising SIGPIPE. It is
// sendto(2), which every seccomp filter of a jail permits, not sendmsg(2).
func Send(fd int, packet []byte) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(packet))),
		uintptr(len(packet)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
