package ipc_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"jailctl/ipc"
	"jailctl/proto/jailpb"
)

func generated(r *ipc.Request) *jailpb.Request {
	bytes := func(in []string) (out [][]byte) {
		for _, s := range in {
			out = append(out, []byte(s))
		}
		return out
	}
	return &jailpb.Request{
		Verb: jailpb.Verb(r.Verb), Jail: r.Jail, Argv: bytes(r.Argv), User: r.User, Group: r.Group,
		Directory: []byte(r.Dir), Environment: bytes(r.Env), Assignments: bytes(r.Assign),
	}
}

// Every request arrives as it was sent, in the bytes that the generated code
// would have sent.
func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("a/=. é\n\x1b")))
		assign := rapid.Map(text, func(s string) string { return "N=" + s })
		r := &ipc.Request{
			Verb: ipc.Verb(rapid.Uint32Range(1, 3).Draw(t, "verb")), Jail: text.Draw(t, "jail"),
			Argv: rapid.SliceOf(text).Draw(t, "argv"), User: text.Draw(t, "user"), Group: text.Draw(t, "group"),
			Dir: text.Draw(t, "dir"), Env: rapid.SliceOf(text).Draw(t, "env"), Assign: rapid.SliceOf(assign).Draw(t, "assign"),
		}
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(generated(r))
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != string(want) {
			t.Fatalf("encoded % x\ngenerated % x", b, want)
		}
		got, err := ipc.DecodeRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(generated(r), generated(got), cmp.Comparer(proto.Equal)); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzDecodeRequest: what the strict decoder accepts, the generated one reads the
// same, with nothing unknown, and in these very bytes.
func FuzzDecodeRequest(f *testing.F) {
	for _, r := range []ipc.Request{
		{Verb: ipc.Run, Jail: "web", Argv: []string{"id", "-u"}, User: "daemon", Group: "1", Dir: "/tmp", Env: []string{"A=b"}, Assign: []string{"T=x"}},
		{Verb: ipc.List},
	} {
		b, _ := r.Encode()
		f.Add(b)
	}
	f.Add([]byte{0x08, 0x01, 0x08, 0x01})
	f.Add([]byte{0x08, 0x04})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ipc.DecodeRequest(b)
		if err != nil {
			return
		}
		// The generated code also wants UTF-8 in strings, which an attacker need
		// not send; it takes part in no decision beyond equality.
		for _, s := range []string{r.Jail, r.User, r.Group} {
			if strings.ToValidUTF8(s, "") != s {
				return
			}
		}
		var m jailpb.Request
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatalf("accepted what the generated code refuses: %v", err)
		}
		if len(m.ProtoReflect().GetUnknown()) != 0 {
			t.Fatal("accepted an unknown field")
		}
		if !proto.Equal(&m, generated(r)) {
			t.Fatalf("read %v, generated %v", r, &m)
		}
	})
}

func TestDecodeRequestRefuses(t *testing.T) {
	ok := func(r ipc.Request) string { b, _ := r.Encode(); return string(b) }
	run := ok(ipc.Request{Verb: ipc.Run, Jail: "web"})
	for name, s := range map[string]string{
		"empty":             "",
		"no verb":           ok(ipc.Request{Jail: "web"}),
		"verb 0":            "\x08\x00",
		"verb 4":            "\x08\x04",
		"verb as bytes":     "\x0a\x01\x01",
		"jail as a number":  "\x08\x01\x10\x01",
		"verb twice":        "\x08\x01\x08\x01",
		"jail twice":        run + "\x12\x03web",
		"unknown field 9":   run + "\x4a\x00",
		"unknown field 15":  run + "\x78\x01",
		"NUL in an arg":     ok(ipc.Request{Verb: ipc.Run, Jail: "web", Argv: []string{"a\x00b"}}),
		"NUL in the jail":   ok(ipc.Request{Verb: ipc.Run, Jail: "we\x00b"}),
		"NUL in the env":    ok(ipc.Request{Verb: ipc.Run, Env: []string{"A=\x00"}}),
		"-e without a name": ok(ipc.Request{Verb: ipc.Run, Assign: []string{"=x"}}),
		"-e without =":      ok(ipc.Request{Verb: ipc.Run, Assign: []string{"x"}}),
		"a tail":            run + "\x00",
		"4097 variables":    run + strings.Repeat("\x3a\x00", 4097),
		"cut short":         run[:len(run)-1],
	} {
		if r, err := ipc.DecodeRequest([]byte(s)); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
	if _, err := ipc.DecodeRequest([]byte(run)); err != nil {
		t.Errorf("a plain request: %v", err)
	}
}

func TestReplyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ipc.Reply{
			Outcome: ipc.Outcome(rapid.Uint32Range(1, 7).Draw(t, "outcome")), Errno: syscall.Errno(rapid.Uint32Range(0, 133).Draw(t, "errno")),
			Text: rapid.String().Draw(t, "text"), Wall: rapid.Uint64().Draw(t, "wall"), Stage: rapid.String().Draw(t, "stage"),
		}
		got, err := ipc.DecodeReply(r.Encode())
		if err != nil || cmp.Diff(r, got) != "" {
			t.Fatal(err, cmp.Diff(r, got))
		}
		var m jailpb.Reply
		if err := proto.Unmarshal(r.Encode(), &m); err != nil || m.Text != r.Text || m.Stage != r.Stage || m.WallSeconds != r.Wall || uint32(m.Outcome) != uint32(r.Outcome) || m.Errno != uint32(r.Errno) {
			t.Fatalf("generated code reads %v: %v", &m, err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add((&ipc.Reply{Outcome: ipc.Refused, Text: "no"}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ipc.DecodeReply(b); err == nil && (r.Outcome < ipc.Refused || r.Outcome > ipc.End) {
			t.Fatalf("outcome %d", r.Outcome)
		}
	})
}

// pair is a socket pair; both ends are closed when the test ends.
func pair(t *testing.T) [2]int {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p
}

func TestReceive(t *testing.T) {
	send := func(t *testing.T, fd int, b, oob []byte) {
		t.Helper()
		if err := unix.Sendmsg(fd, b, oob, nil, unix.MSG_NOSIGNAL); err != nil {
			t.Fatal(err)
		}
	}
	one := []byte("one")
	tests := map[string]struct {
		prepare func(t *testing.T, p [2]int)
		want    string // part of the error; empty: "one" is received
	}{
		"one packet":    {func(t *testing.T, p [2]int) { send(t, p[0], one, nil) }, ""},
		"the largest":   {func(t *testing.T, p [2]int) { widen(t, p[0]); send(t, p[0], make([]byte, ipc.MaxPacket), nil) }, ""},
		"one byte more": {func(t *testing.T, p [2]int) { widen(t, p[0]); send(t, p[0], make([]byte, ipc.MaxPacket+1), nil) }, "over 262144"},
		"doubled":       {func(t *testing.T, p [2]int) { send(t, p[0], one, nil); send(t, p[0], one, nil) }, "more than one"},
		"and an empty":  {func(t *testing.T, p [2]int) { send(t, p[0], one, nil); send(t, p[0], nil, nil) }, "more than one"},
		"empty":         {func(t *testing.T, p [2]int) { send(t, p[0], nil, nil) }, "no request"},
		"closed":        {func(t *testing.T, p [2]int) { unix.Shutdown(p[0], unix.SHUT_RDWR) }, "no request"},
		"silence":       {func(t *testing.T, p [2]int) {}, "in time"},
		"silence, caller's timeout": {func(t *testing.T, p [2]int) {
			unix.SetsockoptTimeval(p[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 600})
		}, "in time"},
		"a descriptor": {func(t *testing.T, p [2]int) { send(t, p[0], one, unix.UnixRights(0)) }, "descriptors"},
		"credentials": {func(t *testing.T, p [2]int) {
			unix.SetsockoptInt(p[1], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
			send(t, p[0], one, nil)
		}, "descriptors"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := pair(t)
			test.prepare(t, p)
			before := descriptors(t)
			start := time.Now()
			b, err := ipc.Receive(p[1], 1)
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("took %v", d)
			}
			switch {
			case test.want == "" && (err != nil || len(b) == 0):
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors open, %d before", after, before)
			}
			if err == nil && unix.Sendmsg(p[0], one, nil, nil, unix.MSG_NOSIGNAL) != unix.EPIPE {
				t.Error("a late packet was taken")
			}
		})
	}
}

func descriptors(t *testing.T) (n int) {
	t.Helper()
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}

// widen lets one packet be as large as the client's may be, and larger.
func widen(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, ipc.MaxPacket); err != nil {
		t.Fatal(err)
	}
}
