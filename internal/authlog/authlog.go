// Package authlog writes one line per decision to syslog's authpriv facility.
// It speaks to /dev/log itself: log/syslog would bring net, which runs resolver
// and poller code as root.
package authlog

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// The facility authpriv with the severities info and notice (RFC 5424, 6.2.1).
const (
	permitted = "<86>"
	denied    = "<85>"
)

// most is about where a line is cut.
const most = 4096

// Log is a connection to syslogd, made before chroot(2) hides it.
type Log struct{ fd int }

// Open connects without blocking. The error is for those whose policy says
// audit_required; the Log can be used in any case and then drops its line.
func Open() (Log, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return Log{-1}, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/dev/log"}); err != nil {
		unix.Close(fd)
		return Log{-1}, err
	}
	return Log{fd}, nil
}

// Close gives the descriptor back.
func (l Log) Close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
}

// Line is one audit line while it is put together.
type Line []byte

// New begins a line. The time is left to syslogd: a clock string made here would
// need the time zone files, whose name the caller could have had a hand in.
func New(ok bool, tag string, pid int) Line {
	b := Line(denied)
	if ok {
		b = Line(permitted)
	}
	b = append(b, tag...)
	b = append(b, '[')
	b = strconv.AppendInt(b, int64(pid), 10)
	return append(b, "]:"...)
}

// Word appends a fixed word of ours.
func (b Line) Word(s string) Line { return append(append(b, ' '), s...) }

// Number appends key=n.
func (b Line) Number(key string, n uint32) Line {
	b = append(append(append(b, ' '), key...), '=')
	return strconv.AppendUint(b, uint64(n), 10)
}

// Text appends key="s" with every byte that is not printable ASCII, quotes and
// backslashes escaped: nothing from outside can end the line, begin another, or
// speak to the terminal of whoever reads it. Of a long s the beginning and the end stand
// there, with the number of bytes left out between: what matters is at either.
func (b Line) Text(key, s string) Line {
	b = append(append(append(b, ' '), key...), '=')
	half := max((most-len(b))/8, 16)
	if len(s) <= 2*half {
		return strconv.AppendQuoteToASCII(b, s)
	}
	b = strconv.AppendQuoteToASCII(b, s[:half])
	b = append(b, "...+"...)
	b = strconv.AppendInt(b, int64(len(s)-2*half), 10)
	return strconv.AppendQuoteToASCII(append(b, "..."...), s[len(s)-half:])
}

// Send hands the line over, at once or not at all.
func (l Log) Send(b Line) error {
	if l.fd < 0 {
		return unix.ENOTCONN
	}
	return unix.Sendto(l.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
}
