package attack

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// terminal are attacks on the terminal that the caller shares with the command.
var terminal = []Attack{
	{
		ID: "tiocsti", What: "type into the caller's terminal: TIOCSTI",
		By: BySeccomp, Errno: "EPERM", Start: StdinTerminal, Proof: AsUser, do: func(Given) Outcome { return typeInto(unix.TIOCSTI) },
	},
	{
		ID: "tiocsti-high", What: "the same with bits set that the kernel ignores",
		By: BySeccomp, Errno: "EPERM", Start: StdinTerminal, Proof: AsUser, do: func(Given) Outcome { return typeInto(unix.TIOCSTI | 1<<32) },
	},
	{
		ID: "tioclinux", What: "paste into the console: TIOCLINUX",
		By: BySeccomp, Errno: "EPERM", Start: StdinTerminal, Proof: AsUser, do: func(Given) Outcome {
			selection := [2]byte{3}
			_, err := sys(unix.SYS_IOCTL, 0, 0x541c, uintptr(unsafe.Pointer(&selection)))
			return passed(err, unix.ENOTTY) // came to the driver, which is no console's
		},
	},
	{
		ID: "terminal-stolen", What: "take the terminal away from its session",
		By: ByDrop, Errno: "EPERM", Start: StdinTerminal, Proof: AsRoot, do: func(Given) Outcome {
			return inChild(func() error {
				sys(unix.SYS_SETSID)
				_, err := sys(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
				return err
			})
		},
	},
	{
		ID: "hangup", What: "hang the terminal up: vhangup",
		By: BySeccomp, Errno: "EPERM", Proof: AsRoot, do: func(Given) Outcome {
			return inChild(func() error {
				sys(unix.SYS_SETSID) // without one, there is nothing to hang up
				_, err := sys(unix.SYS_VHANGUP)
				return err
			})
		},
	},
	{
		ID: "tiocsetd", What: "put another driver into the terminal: TIOCSETD",
		By: BySeccomp, Errno: "EPERM", Start: StdinTerminal, Proof: AsUser, do: func(Given) Outcome {
			var usual int32
			_, err := sys(unix.SYS_IOCTL, 0, unix.TIOCSETD, uintptr(unsafe.Pointer(&usual)))
			return done(err, "could have: put the usual one")
		},
	},
}

func typeInto(request uintptr) Outcome {
	c := byte('#')
	_, err := sys(unix.SYS_IOCTL, 0, request, uintptr(unsafe.Pointer(&c)))
	return done(err, "typed a character")
}

// sockets are the network and the other sockets.
var sockets = []Attack{
	{
		ID: "tcp-connect", What: "connect to a TCP server",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome { return g.connect(unix.IPPROTO_TCP) },
	},
	{
		ID: "mptcp-connect", What: "connect to a TCP server by MPTCP",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome { return g.connect(unix.IPPROTO_MPTCP) },
	},
	{
		ID: "tcp-fastopen", What: "connect to a TCP server without connect(2): MSG_FASTOPEN",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Sendto(fd, []byte("?"), unix.MSG_FASTOPEN, g.loopback("tcp")); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "tcp-fastopen-sendmsg", What: "the same by sendmsg",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Sendmsg(fd, []byte("?"), nil, g.loopback("tcp"), unix.MSG_FASTOPEN); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "tcp-fastopen-sendmmsg", What: "the same by sendmmsg",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			port := g.number("tcp")
			to := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(port>>8 | port<<8), Addr: [4]byte{127, 0, 0, 1}}
			text := [1]byte{'?'}
			v := unix.Iovec{Base: &text[0]}
			v.SetLen(1)
			m := struct {
				unix.Msghdr
				sent uint64
			}{Msghdr: unix.Msghdr{Name: (*byte)(unsafe.Pointer(&to)), Namelen: unix.SizeofSockaddrInet4, Iov: &v}}
			m.SetIovlen(1)
			if _, err := sys(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), 1, unix.MSG_FASTOPEN); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "tcp-mapped", What: "connect to a TCP server by an IPv6 socket and a mapped address",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: [16]byte{10: 255, 11: 255, 12: 127, 15: 1}, Port: g.number("tcp")}); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "tcp-ulp", What: "put another protocol into a TCP socket: TCP_ULP",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			// No kernel has one of this name.
			return passed(unix.SetsockoptString(fd, unix.IPPROTO_TCP, 31, "jailctl"), unix.ENOENT)
		},
	},
	{
		ID: "tcp-fastopen-connect", What: "the same by connect, which then waits for the first write: TCP_FASTOPEN_CONNECT",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
				return held(err)
			}
			if err := unix.Connect(fd, g.loopback("tcp")); err != nil {
				return held(err)
			}
			if _, err := unix.Write(fd, []byte("?")); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "tcp-bind", What: "take a TCP port",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return held(err)
			}
			return done(unix.Listen(fd, 1), "listens")
		},
	},
	{
		ID: "tcp-bind-unspec", What: "take a TCP port by an address of no family",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			var any unix.RawSockaddrInet4
			_, err = sys(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&any)), unix.SizeofSockaddrInet4)
			return done(err, "has one")
		},
	},
	{
		ID: "tcp-listen", What: "take a TCP port of the kernel's choice by listen(2) alone",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network | Binding, do: func(Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			return done(unix.Listen(fd, 1), "listens")
		},
	},
	{
		ID: "tcp6-bind", What: "take a TCP port of IPv6",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			return done(unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}), "has one")
		},
	},
	{
		ID: "udp-connect", What: "ask a UDP server, by connect",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Connect(fd, g.loopback("udp")); err != nil {
				return held(err)
			}
			if _, err := unix.Write(fd, []byte("?")); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	{
		ID: "udp-sendto", What: "ask a UDP server, by sendto",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: Network, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Sendto(fd, []byte("?"), 0, g.loopback("udp")); err != nil {
				return held(err)
			}
			return g.told(fd, "an answer came")
		},
	},
	socket("raw", "an IPv4 socket of the raw kind", AsRoot, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
	socket("raw6", "an IPv6 socket of the raw kind", AsRoot, unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6),
	socket("packet", "a packet socket", AsRoot, unix.AF_PACKET, unix.SOCK_RAW, 0),
	socket("netlink", "a netlink socket", AsUser, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	socket("vsock", "a socket to the hypervisor", AsUser, unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	unproven("net.ipv4.ping_group_range permits it to nobody, as a rule",
		socket("ping", "an ICMP socket", Nowhere, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)),
	unproven("needs a kernel with the crypto user interface",
		socket("alg", "a socket into the kernel's cryptography", Nowhere, unix.AF_ALG, unix.SOCK_SEQPACKET, 0)),
	{
		ID: "families", What: "have a socket of any other family",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(Given) Outcome {
			err := error(unix.EAFNOSUPPORT)
			for family := range 64 {
				if family == unix.AF_UNIX || family == unix.AF_INET || family == unix.AF_INET6 {
					continue
				}
				for kind := 1; kind <= 6; kind++ {
					var e error
					if _, e = sys(unix.SYS_SOCKET, uintptr(family), uintptr(kind), 0); e == nil {
						return escaped("has one")
					}
					var pair [2]int32
					if _, e := sys(unix.SYS_SOCKETPAIR, uintptr(family), uintptr(kind), 0, uintptr(unsafe.Pointer(&pair))); e == nil {
						return escaped("has a pair")
					}
					// Errors of the kernel's own: the family came to it.
					if e != unix.EACCES && e != unix.EPERM {
						return escaped("permitted: " + held(e).Detail)
					}
					err = e
				}
			}
			return held(err)
		},
	},
	local("unix-socket", "have a Unix socket at all", unix.SOCK_STREAM),
	local("unix-datagram", "have a Unix datagram socket", unix.SOCK_DGRAM),
	{
		ID: "abstract-fd", What: "receive a directory from an abstract Unix socket outside",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome {
			return g.fetch("@"+g["abstract"], openDirectory)
		},
	},
	{
		ID: "abstract-file", What: "receive an open file from an abstract Unix socket outside",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome {
			return g.fetch("@"+g["abstract"], openFile)
		},
	},
	{
		ID: "abstract-datagram", What: "send to an abstract Unix socket outside",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held(err)
			}
			return done(unix.Sendto(fd, []byte("!"), 0, &unix.SockaddrUnix{Name: "@" + g["datagrams"]}), "sent")
		},
	},
	{
		ID: "pair-renamed", What: "connect a socket of a datagram pair to an abstract socket outside",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held(err)
			}
			if err := unix.Connect(pair[0], &unix.SockaddrUnix{Name: "@" + g["datagrams"]}); err != nil {
				return held(err)
			}
			_, err = unix.Write(pair[0], []byte("!"))
			return done(err, "sent")
		},
	},
	{
		ID: "pair-listens", What: "listen with a socket of a pair, once the other is closed",
		By: BySockets, Errno: "EINVAL", Unproven: "the kernel refuses it to a socket that was connected", do: func(g Given) Outcome {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return held(err)
			}
			unix.Close(pair[1])
			if err := unix.Bind(pair[0], &unix.SockaddrUnix{Name: "@" + g["inside"]}); err != nil {
				return held(err)
			}
			return done(unix.Listen(pair[0], 1), "listens")
		},
	},
	{
		ID: "socket-file-fd", What: "receive a directory from a socket file that an accomplice put into the jail",
		By: BySockets, Errno: "EACCES", Proof: AsUser, do: func(g Given) Outcome {
			return g.fetch(g["dir"]+"/outside", openDirectory)
		},
	},
	{
		ID: "socket-file-file", What: "receive an open file from a socket file that an accomplice put into the jail",
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: LocalSockets, do: func(g Given) Outcome {
			return g.fetch(g["dir"]+"/outside", openFile)
		},
	},
	{
		ID: "connected-to", What: "receive a directory from an accomplice who connects to a socket file of the jail's",
		By: BySockets, Errno: "EACCES", Start: ConnectInside, Proof: AsUser, do: func(g Given) Outcome {
			return g.serve(g["dir"]+"/inside", openDirectory)
		},
	},
	{
		ID: "connected-to-file", What: "receive an open file from an accomplice who connects to a socket file of the jail's",
		By: BySockets, Errno: "EACCES", Start: ConnectInside, Proof: AsUser, Opened: LocalSockets, do: func(g Given) Outcome {
			return g.serve(g["dir"]+"/inside", openFile)
		},
	},
	{
		ID: "abstract-connected-to", What: "receive a directory from an accomplice who connects to an abstract socket",
		By: BySockets, Errno: "EACCES", Start: ConnectAbstract, Proof: AsUser, do: func(g Given) Outcome {
			return g.serve("@"+g["inside"], openDirectory)
		},
	},
}

// socket is an attack that ends with having one.
func socket(id, what string, p Proof, family, kind, protocol int) Attack {
	return Attack{
		ID: id, What: "have " + what,
		By: BySockets, Errno: "EACCES", Proof: p, do: func(Given) Outcome {
			_, err := unix.Socket(family, kind, protocol)
			return done(err, "has it")
		},
	}
}

func local(id, what string, kind int) Attack {
	return Attack{
		ID: id, What: what,
		By: BySockets, Errno: "EACCES", Proof: AsUser, Opened: LocalSockets, do: func(Given) Outcome {
			_, err := unix.Socket(unix.AF_UNIX, kind, 0)
			return done(err, "has it")
		},
	}
}

func (g Given) loopback(server string) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: g.number(server)}
}

// connect connects to the TCP server and waits for what it says.
func (g Given) connect(protocol int) Outcome {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, protocol)
	if err != nil {
		return held(err)
	}
	if err := unix.Connect(fd, g.loopback("tcp")); err != nil {
		return held(err)
	}
	return g.told(fd, "an answer came")
}

// fetch connects to an accomplice's Unix socket and uses what it passes.
func (g Given) fetch(name string, which int) Outcome {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return held(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return held(err)
	}
	return g.receive(fd, which)
}

// serve makes a Unix socket and uses what an accomplice passes who connects to it.
func (g Given) serve(name string, which int) Outcome {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return held(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return held(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return held(err)
	}
	if err := ready(); err != nil {
		return held(err)
	}
	peer, _, err := unix.Accept(fd)
	if err != nil {
		return held(err)
	}
	return g.receive(peer, which)
}
