package client

import (
	"syscall"
	"unsafe"
)

// relay copies between the caller's sockets and the pipes that stand in for them
// in the command. Most commands have none.
type relay struct {
	ours  []int    // pipe ends that only the command keeps
	over  [2]int   // closed for writing when the command has ended
	done  chan int // one value for each output copied to its end
	count int
}

// relaySockets returns the descriptors for the command: Stdio itself, or a pipe
// where it is a socket. Two that are the same socket get the same pipe, so that
// the order of what is written stays.
func (c *Cmd) relaySockets() (out [3]uintptr, err error) {
	var stats [3]syscall.Stat_t
	for i, fd := range c.Stdio {
		out[i] = uintptr(fd)
		if err := syscall.Fstat(fd, &stats[i]); err != nil || stats[i].Mode&syscall.S_IFMT != syscall.S_IFSOCK {
			continue
		}
		if i == 2 && stats[1].Mode == stats[2].Mode && stats[1].Ino == stats[2].Ino && stats[1].Dev == stats[2].Dev {
			out[2] = out[1]
			continue
		}
		if c.relay == nil {
			c.relay = &relay{done: make(chan int, 2)}
			if err := syscall.Pipe2(c.relay.over[:], syscall.O_CLOEXEC); err != nil {
				return out, err
			}
		}
		var p [2]int
		if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
			return out, err
		}
		if i == 0 {
			out[0] = uintptr(p[0])
			c.relay.ours = append(c.relay.ours, p[0])
			go func() {
				pump(p[1], fd, -1)
				syscall.Close(p[1])
			}()
			continue
		}
		out[i] = uintptr(p[1])
		c.relay.ours = append(c.relay.ours, p[1])
		c.relay.count++
		go func() {
			pump(fd, p[0], c.relay.over[0])
			// Whoever still writes gets SIGPIPE, as if the socket were gone.
			syscall.Close(p[0])
			c.relay.done <- i
		}()
	}
	return out, nil
}

// started closes the pipe ends that are the command's now.
func (r *relay) started() {
	if r == nil {
		return
	}
	for _, fd := range r.ours {
		syscall.Close(fd)
	}
}

// drain waits until all that the command wrote is copied. What processes that it
// left behind write later is lost.
func (r *relay) drain() {
	if r == nil {
		return
	}
	syscall.Close(r.over[1])
	for range r.count {
		<-r.done
	}
	syscall.Close(r.over[0])
}

// pump copies src to dst until end of file, an error, or, where over is a
// descriptor, until that has hung up and src has nothing more.
func pump(dst, src, over int) {
	b := make([]byte, 64<<10)
	for {
		if over >= 0 {
			if ready := poll(src, over); !ready {
				return
			}
		}
		n, err := syscall.Read(src, b)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			poll(src, -1)
			continue
		}
		if n <= 0 {
			return
		}
		for rest := b[:n]; len(rest) > 0; {
			m, err := syscall.Write(dst, rest)
			switch {
			case err == syscall.EINTR:
			case err == syscall.EAGAIN:
				pollOut(dst)
			case err != nil:
				return
			default:
				rest = rest[m:]
			}
		}
	}
}

type pollFD struct {
	fd              int32
	events, revents int16
}

const (
	pollIn    = 1
	pollWrite = 4
)

// poll waits for src, or for over to hang up; it reports whether src has anything.
func poll(src, over int) bool {
	fds := [2]pollFD{{fd: int32(src), events: pollIn}, {fd: int32(over), events: pollIn}}
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 2, 0, 0, 0, 0)
		if errno != syscall.EINTR {
			return fds[0].revents != 0
		}
	}
}

func pollOut(dst int) {
	fds := [1]pollFD{{fd: int32(dst), events: pollWrite}}
	syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, 0, 0, 0, 0)
}
