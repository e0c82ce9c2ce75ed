package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"jailctl/internal/roottest"
	"jailctl/ipc"
)

// What the caller sends, and when.

const (
	malformed = "malformed message"
	ancillary = "the request carries descriptors or credentials"
	doubled   = "more than one request"
	nothing   = "no request came"
)

var tooLarge = fmt.Sprintf("the request is over %d bytes", ipc.MaxPacket)

// roomy lets large packets through, beyond what an ordinary user may ask for.
func roomy(s *session, _ int) error {
	return unix.SetsockoptInt(s.socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
}

// put sends one packet from the client's end, with ancillary data or without.
func (s *session) put(b, oob []byte) error {
	return unix.Sendmsg(s.socket, b, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

func soon(t *testing.T, e *end) {
	t.Helper()
	if e.took > 2*time.Second {
		t.Errorf("took %v", e.took)
	}
}

func TestA26SlowRequest(t *testing.T) {
	roottest.Apply(t, "a26", alice)
	t.Run("late but in time", func(t *testing.T) {
		permitted(t, call{jail: "a26", silent: true, client: func(s *session) {
			s.waiting()
			s.send()
		}})
	})
	t.Run("end of file", func(t *testing.T) {
		soon(t, refused(t, call{jail: "a26", silent: true, client: func(s *session) {
			must(t, unix.Shutdown(s.socket, unix.SHUT_WR))
		}}, nothing))
	})
	t.Run("one byte and silence", func(t *testing.T) {
		soon(t, refused(t, call{jail: "a26", silent: true, client: func(s *session) {
			must(t, s.put([]byte{8}, nil))
		}}, malformed))
	})
	// One packet is read, and only one: the first byte is the whole request.
	t.Run("byte by byte", func(t *testing.T) {
		soon(t, refused(t, call{jail: "a26", silent: true, client: func(s *session) {
			s.waiting()
			for _, b := range s.request[:5] {
				s.put([]byte{b}, nil)
				time.Sleep(100 * time.Millisecond) // the attack's own pace
			}
		}}, malformed))
	})
	t.Run("silence", func(t *testing.T) {
		if e := refused(t, call{jail: "a26", silent: true}, nothing+" in time"); e.took < 2*time.Second {
			t.Errorf("waited only %v", e.took)
		}
	})
	// The helper does not keep its own peer alive.
	t.Run("own copy of the client's end", func(t *testing.T) {
		p := pair(t, roottest.Alice)
		soon(t, refused(t, call{jail: "a26", fds: map[int]int{ipc.Socket: fd(p[1]), 6: fd(p[0])}, client: func(s *session) {
			must(t, p[0].Close())
		}}, ""))
	})
}

func TestA27ManyAndLargePackets(t *testing.T) {
	roottest.Apply(t, "a27", alice)
	permitted(t, call{jail: "a27"})

	// Who asks for more than the socket holds and reads none of it is ended by the
	// alarm, whatever he did about that signal. It takes the helper's whole life:
	// the rest of the test meanwhile.
	for i := range 4 {
		roottest.Apply(t, fmt.Sprint("a27-", i), alice+fmt.Sprintf("\ndescription: %q\n", strings.Repeat("long ", 18000)))
	}
	list := call{request: func(q *ipc.Request) { *q = ipc.Request{Verb: ipc.List} }}
	if e := list.play(t); e.status != 125 || len(e.replies) != 6 || e.replies[5].Outcome != ipc.End {
		t.Errorf("status %d, %d replies, the last %.200v; want five jails and the end", e.status, len(e.replies), e.replies[len(e.replies)-1])
	}
	list.unread, list.steps = true, []string{fmt.Sprintf("ignore=%d", unix.SIGALRM)}
	stuck := list.start(t)
	stuck.in(unix.SYS_SENDMSG)
	if err := stuck.put(stuck.request, nil); err != unix.EPIPE {
		t.Errorf("a request after the one that counts: %v", err)
	}

	many := func(n int, packet func(s *session) []byte) func(*session, int) error {
		return func(s *session, _ int) error {
			for i := range n {
				if err := s.put(packet(s), nil); err == unix.EAGAIN && i > 1 {
					break // the socket is full
				} else if err != nil {
					return err
				}
			}
			return nil
		}
	}
	empty := func(*session) []byte { return nil }
	request := func(s *session) []byte { return s.request }
	for _, n := range []int{1, 200} {
		t.Run(fmt.Sprintf("%d empty packets", n), func(t *testing.T) {
			soon(t, refused(t, call{jail: "a27", prepare: many(n, empty), silent: n > 1}, nothing))
		})
	}
	for _, n := range []int{2, 500} {
		t.Run(fmt.Sprintf("%d requests", n), func(t *testing.T) {
			soon(t, refused(t, call{jail: "a27", prepare: many(n, request), silent: true}, doubled))
		})
	}
	// The socket is full before the helper says a word: it neither waits nor runs
	// what it could not announce.
	t.Run("no room for replies", func(t *testing.T) {
		full := call{jail: "a27", unread: true, prepare: func(_ *session, fd int) (err error) {
			for err == nil {
				err = unix.Sendmsg(fd, make([]byte, 100), nil, nil, unix.MSG_DONTWAIT)
			}
			if err == unix.EAGAIN {
				err = nil
			}
			return err
		}}
		soon(t, refused(t, full, ""))
		full.jail = "none"
		soon(t, refused(t, full, ""))
	})
	// A list ends with a reply that says so, be the client ever so slow.
	t.Run("no room for the end of a list", func(t *testing.T) {
		n := 0
		c := list
		c.who, c.unread, c.steps = roottest.Mallory, false, nil // for whom the list is empty
		c.prepare = func(s *session, fd int) error {
			for ; ; n++ {
				err := unix.Sendmsg(fd, []byte("full"), nil, nil, unix.MSG_DONTWAIT)
				if err == unix.EAGAIN {
					return nil
				} else if err != nil {
					return err
				}
			}
		}
		c.client = func(s *session) {
			s.in(unix.SYS_SENDMSG)
			for range n {
				_, _, err := unix.Recvfrom(s.socket, make([]byte, 9), 0)
				must(t, err)
			}
		}
		if e := c.play(t); e.status != 125 || len(e.replies) != 1 || e.replies[0].Outcome != ipc.End {
			t.Errorf("%+v; want the end of the list", e)
		}
	})
	// padded makes the request size bytes long, and leaves it valid in all else.
	padded := func(size int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = protowire.AppendTag(b, 7, protowire.BytesType)
			room := size - len(b)
			return protowire.AppendString(b, "PAD="+strings.Repeat("x", room-protowire.SizeVarint(uint64(room))-4))
		}
	}
	for _, size := range []int{64 << 10, ipc.MaxPacket} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			permitted(t, call{jail: "a27", packet: padded(size), prepare: roomy})
		})
	}
	for _, size := range []int{ipc.MaxPacket + 1, 2 * ipc.MaxPacket, 1 << 20, 4 << 20} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			soon(t, refused(t, call{jail: "a27", packet: padded(size), prepare: roomy}, tooLarge))
		})
	}

	e := stuck.finish()
	if e.signal != unix.SIGALRM || e.took < 15*time.Second || e.took > 25*time.Second {
		t.Errorf("list that nobody reads: status %d, signal %d, after %v; want the alarm at 20 s", e.status, e.signal, e.took)
	}
}

func TestA28Garbage(t *testing.T) {
	roottest.Apply(t, "a28", alice)
	random := rand.New(rand.NewPCG(28, 18))
	fill := func(f func(i int) byte) func([]byte, int) []byte {
		return func(_ []byte, n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = f(i)
			}
			return b
		}
	}
	noise := fill(func(int) byte { return byte(random.Uint32()) })
	kinds := map[string]func([]byte, int) []byte{
		"zeros":  fill(func(int) byte { return 0 }),
		"ones":   fill(func(int) byte { return 0xff }),
		"text":   fill(func(i int) byte { return "GET / HTTP/1.1\r\n"[i%16] }),
		"random": noise,
		"tail":   func(b []byte, n int) []byte { return append(b, noise(nil, n)...) },
	}
	for kind, garbage := range kinds {
		for _, n := range []int{1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 100, 255, 256, 1000, 4096, 65535, ipc.MaxPacket, ipc.MaxPacket + 1} {
			t.Run(fmt.Sprintf("%d of %s", n, kind), func(t *testing.T) {
				size := 0
				c := call{jail: "a28", prepare: roomy, packet: func(b []byte) []byte {
					b = garbage(b, n)
					size = len(b)
					return b
				}}
				s := c.start(t)
				why := malformed
				if size > ipc.MaxPacket {
					why = tooLarge
				}
				e := s.finish()
				if e.ran || e.status != 125 || len(e.replies) != 1 || e.replies[0].Text != why {
					t.Errorf("ran %v, status %d, replies %+v; want %q", e.ran, e.status, e.replies, why)
				}
			})
		}
	}
	permitted(t, call{jail: "a28"})
}

func TestA29HostileProtobuf(t *testing.T) {
	roottest.Apply(t, "a29", alice)
	permitted(t, call{jail: "a29"})
	repeat := func(piece string, n int) string { return strings.Repeat(piece, n) }
	nested := ""
	for len(nested) < 26_000 {
		nested = string(protowire.AppendString([]byte{0x4a}, nested)) // field 9
	}
	for name, tail := range map[string]string{
		"length 2^63":                   "\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"length 2^64-1":                 "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"length 2^32":                   "\x3a\x80\x80\x80\x80\x10",
		"length 2^31":                   "\x3a\x80\x80\x80\x80\x08x",
		"length over the end":           "\x3a\x05four",
		"length cut":                    "\x3a\x80",
		"tag cut":                       "\x80",
		"11 byte varint":                "\x08" + repeat("\x80", 10) + "\x01",
		"varint over 64 bits":           "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
		"tag of 11 bytes":               repeat("\x80", 10) + "\x01",
		"longer spelling of a tag":      "\xba\x00\x00",
		"longer spelling of a length":   "\x3a\x80\x00",
		"field 0":                       "\x02\x00",
		"field 9":                       "\x4a\x00",
		"field 64":                      "\x82\x04\x00",
		"field 66, which is 2 below 64": "\x92\x04\x00",
		"field 2^29":                    "\x82\x80\x80\x80\x10\x00",
		"group":                         "\x3b\x3c",
		"end of a group":                "\x3c",
		"13000 groups":                  repeat("\x4b", 13_000),
		"type 6":                        "\x3e\x00",
		"type 7":                        "\x3f\x00",
		"fixed64":                       "\x39\x00\x00\x00\x00\x00\x00\x00\x00",
		"fixed32":                       "\x3d\x00\x00\x00\x00",
		"number for a string":           "\x38\x01",
		"string for a number":           "\x0a\x00",
		"nested":                        nested,
		"60000 unknown":                 repeat("\x4a\x00", 60_000),
		"verb twice":                    "\x08\x01",
		"jail twice":                    "\x12\x03a29",
		"user twice":                    "\x22\x01x\x22\x01x",
		"group twice":                   "\x2a\x01x\x2a\x01x",
		"directory twice":               "\x32\x01/\x32\x01/",
		"NUL in an argument":            "\x1a\x03a\x00b",
		"NUL in a variable":             "\x3a\x05A=b\x00c",
		"NUL in the user":               "\x22\x01\x00",
		"assignment without a value":    "\x42\x01A",
		"assignment without a name":     "\x42\x02=a",
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call{jail: "a29", packet: func(b []byte) []byte { return append(b, tail...) }}, malformed)
		})
	}
	for name, verb := range map[string]string{
		"none": "", "0": "\x08\x00", "4": "\x08\x04", "2^32+1": "\x08\x81\x80\x80\x80\x10",
		"2^64+1": "\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02", "spelled longer": "\x08\x81\x00",
	} {
		t.Run("verb "+name, func(t *testing.T) {
			refused(t, call{jail: "a29", packet: func(b []byte) []byte { return append([]byte(verb), b[2:]...) }}, malformed)
		})
	}
	// The policy permits any arguments, and these are 40000 more.
	t.Run("many arguments", func(t *testing.T) {
		permitted(t, call{jail: "a29", packet: func(b []byte) []byte { return append(b, repeat("\x1a\x00", 40_000)...) }})
	})
	t.Run("many variables", func(t *testing.T) {
		permitted(t, call{jail: "a29", packet: func(b []byte) []byte { return append(b, repeat("\x3a\x01A", 4096)...) }})
		refused(t, call{jail: "a29", packet: func(b []byte) []byte { return append(b, repeat("\x3a\x01A", 4097)...) }}, malformed)
	})
}

// Whatever is done to a request, either nothing runs or what the policy permits.
func TestA30MutilatedRequest(t *testing.T) {
	roottest.Apply(t, "a30", `root: "ROOT" rules {
		users: "jailctl-alice" run_as { user: "daemon" }
		commands { path: "/bin/probe" args: "touch" args: "/tmp/note" }
	}`)
	var request []byte
	c := call{jail: "a30", command: []string{"/bin/probe", "touch", "/tmp/note"}, request: func(q *ipc.Request) {
		q.Env = []string{"A=b"} // which the policy does not keep
	}, packet: func(b []byte) []byte { request = b; return b }}
	try := func(t *testing.T, b []byte) bool {
		t.Helper()
		if len(b) > 0 {
			c.packet = func([]byte) []byte { return b }
		}
		e := c.play(t)
		made, err := os.ReadDir(roottest.Jail + "/tmp")
		must(t, err)
		starting := len(e.replies) > 0 && e.replies[0].Outcome == ipc.Starting
		switch {
		case len(made) == 0 && !starting && e.status == 125 && len(e.replies) > 0 && e.signal == 0:
			return false
		case len(made) == 1 && made[0].Name() == "note" && starting && e.status == 0:
			must(t, os.Remove(roottest.Jail+"/tmp/note"))
			return true
		}
		t.Errorf("% x: status %d, signal %d, replies %+v, made %v", b, e.status, e.signal, e.replies, made)
		return false
	}
	if !try(t, nil) {
		t.Fatal("the request itself is refused")
	}
	t.Run("cut", func(t *testing.T) {
		without := len(request) - 5 // the variable, a field of its own
		for n := 1; n < len(request); n++ {
			if try(t, request[:n]) != (n == without) {
				t.Errorf("cut to %d of %d bytes: granted is %v", n, len(request), n == without)
			}
		}
	})
	t.Run("flipped", func(t *testing.T) {
		granted := 0
		for i := range len(request) * 8 {
			b := append([]byte(nil), request...)
			b[i/8] ^= 1 << (i % 8)
			if try(t, b) {
				granted++
				if i/8 < len(request)-5 {
					t.Errorf("granted with bit %d of byte %d flipped", i%8, i/8)
				}
			}
		}
		if granted == 0 {
			t.Error("none granted, not even with another variable")
		}
	})
	t.Run("doubled", func(t *testing.T) {
		if try(t, append(request[:len(request):len(request)], request...)) {
			t.Error("granted")
		}
	})
	t.Run("with a tail", func(t *testing.T) {
		for tail := range 256 {
			if try(t, append(request[:len(request):len(request)], byte(tail))) {
				t.Errorf("granted with %#x at the end", tail)
			}
		}
	})
}

func TestA31AncillaryData(t *testing.T) {
	roottest.Apply(t, "a31", alice)
	dir, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(dir)
	rights := func(n int) []byte {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = dir
		}
		return unix.UnixRights(fds...)
	}
	with := func(oob []byte) func(*session, int) error {
		return func(s *session, _ int) error { return s.put(s.request, oob) }
	}
	set := func(option int) func(*session, int) error {
		return func(_ *session, fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1) }
	}
	forged := unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: roottest.Alice.UID, Gid: roottest.Alice.GID})

	permitted(t, call{jail: "a31", silent: true, prepare: with(nil)})
	for _, n := range []int{1, 253} {
		t.Run(fmt.Sprintf("%d directories", n), func(t *testing.T) {
			refused(t, call{jail: "a31", silent: true, prepare: with(rights(n))}, ancillary)
		})
	}
	t.Run("with one byte", func(t *testing.T) {
		refused(t, call{jail: "a31", silent: true, prepare: func(s *session, _ int) error { return s.put([]byte{8}, rights(1)) }}, ancillary)
	})
	t.Run("flood", func(t *testing.T) {
		refused(t, call{jail: "a31", silent: true, prepare: func(s *session, _ int) error {
			for i := 0; ; i++ {
				err := s.put(s.request, rights(100))
				if i > 1 && (err == unix.EAGAIN || err == unix.ETOOMANYREFS) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}}, ancillary)
	})
	t.Run("in a second packet", func(t *testing.T) {
		refused(t, call{jail: "a31", silent: true, prepare: func(s *session, _ int) error {
			return errors.Join(s.put(s.request, nil), s.put([]byte{8}, rights(1)))
		}}, doubled)
	})
	// Credentials are not asked for, so a claim, which only root can make, is not
	// even delivered; who asks is known from elsewhere.
	t.Run("forged credentials", func(t *testing.T) {
		permitted(t, call{jail: "a31", silent: true, prepare: with(forged)})
		for _, u := range []roottest.User{roottest.Mallory, roottest.Bob} {
			refused(t, call{jail: "a31", who: u, silent: true, prepare: with(forged)}, stranger)
		}
		p := pair(t, roottest.Bob)
		if err := as(roottest.Bob, func() error { return unix.Sendmsg(fd(p[0]), []byte{8}, forged, nil, 0) }); err != unix.EPERM {
			t.Errorf("an ordinary user forges credentials: %v", err)
		}
	})
	// A caller may have the kernel add some.
	for name, option := range map[string]int{"SO_PASSCRED": unix.SO_PASSCRED, "SO_PASSPIDFD": unix.SO_PASSPIDFD} {
		t.Run(name, func(t *testing.T) {
			refused(t, call{jail: "a31", prepare: set(option)}, ancillary)
			refused(t, call{jail: "a31", who: roottest.Mallory, silent: true, prepare: func(s *session, fd int) error {
				return errors.Join(set(option)(s, fd), with(forged)(s, fd))
			}}, ancillary)
		})
	}
}

func TestA32JailName(t *testing.T) {
	roottest.Apply(t, "a32", alice)
	permitted(t, call{jail: "a32"})
	// So that names with this element would lead somewhere.
	for _, dir := range []string{roottest.Etc + "/jails/trap", roottest.State + "/policies/trap"} {
		must(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { os.Remove(dir) })
	}
	lines := roottest.Syslog(t)
	for _, name := range []string{
		"", ".", "..", "../a32", "../policies/a32", "trap/../a32", "./a32", "/a32", "a32/", "/etc/passwd", "//a32",
		"a32\n", "\na32", "a32\r", "\x1b[2J", "\x1b]0;x\x07", "%n%n%n", "%s", "-x", "--", "-a32", ".hidden", "_a32", "~", "~root",
		"A32", "a32 ", " a32", "a32*", "a32;id", "$(id)", "a32\\", "a32:", "a32\x7f", strings.Repeat("a", 64), strings.Repeat("a", 255),
		strings.Repeat("../", 1000), strings.Repeat("a", 60_000), "\xff\xfe", "\xc0\xaf", "a\xc0\xae\xc0\xae", "\u202ea32", "a\uff0fb", "\u00e932", "a32\u200b",
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			refused(t, call{jail: name}, stranger)
			if l := lines(); len(l) != 1 || !strings.Contains(l[0], ` reason="not a jail's name"`) {
				t.Errorf("audit: %q", l)
			}
		})
	}
	t.Run("NUL", func(t *testing.T) {
		refused(t, call{jail: "a32\x00"}, malformed)
		refused(t, call{jail: "\x00"}, malformed)
	})
	t.Run("another's", func(t *testing.T) {
		refused(t, call{jail: "a32", who: roottest.Mallory}, stranger)
		refused(t, call{jail: "a32.none"}, stranger)
	})
}
