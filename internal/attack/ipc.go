package attack

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const noWait = 0o4000 // IPC_NOWAIT

// ipc are the objects that processes of a uid share without a file system.
var ipc = []Attack{
	{
		ID: "shm", What: "read shared memory of a process outside (System V)",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			b, err := unix.SysvShmAttach(g.number("shm"), 0, unix.SHM_RDONLY)
			if err != nil {
				return held(err)
			}
			return g.secret(b, "read it")
		},
	},
	{
		ID: "shm-list", What: "list all shared memory of the machine",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			var info [16]uint64
			_, err := sys(unix.SYS_SHMCTL, 0, 14, uintptr(unsafe.Pointer(&info))) // SHM_INFO
			return done(err, "listed")
		},
	},
	{
		ID: "shm-make", What: "make shared memory that somebody outside can attach",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(Given) Outcome {
			id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o600)
			if err == nil {
				unix.SysvShmCtl(id, unix.IPC_RMID, nil)
			}
			return done(err, "made")
		},
	},
	{
		ID: "msg", What: "take a message from a queue outside (System V)",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			var m struct {
				kind int
				text [64]byte
			}
			_, err := sys(unix.SYS_MSGRCV, uintptr(g.number("msg")), uintptr(unsafe.Pointer(&m)), 64, 0, noWait)
			if err != nil {
				return held(err)
			}
			return g.secret(m.text[:], "took it")
		},
	},
	{
		ID: "msg-send", What: "send a message to a queue outside (System V)",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			m := struct{ kind int }{2}
			_, err := sys(unix.SYS_MSGSND, uintptr(g.number("msg")), uintptr(unsafe.Pointer(&m)), 0, noWait)
			return done(err, "sent")
		},
	},
	{
		ID: "sem", What: "change a semaphore outside (System V)",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			op := struct{ num, op, flg int16 }{0, 1, noWait}
			_, err := sys(unix.SYS_SEMTIMEDOP, uintptr(g.number("sem")), uintptr(unsafe.Pointer(&op)), 1, 0)
			return done(err, "changed")
		},
	},
	{
		ID: "mqueue", What: "open a POSIX queue outside",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			_, err := openQueue(g["mq"], unix.O_RDWR|unix.O_NONBLOCK)
			return done(err, "opened it")
		},
	},
	{
		ID: "key", What: "read a key that the user put into the keyring outside",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", g["key"], 0)
			if err != nil {
				return held(err)
			}
			b := make([]byte, 64)
			if _, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, b, 0); err != nil {
				return held(err)
			}
			return g.secret(b, "read it")
		},
	},
	{
		ID: "key-request", What: "have a key looked for, by the kernel and its program",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			_, err := unix.RequestKey("user", g["key"]+"-none", "", 0)
			return passed(err, unix.ENOKEY, unix.ENOENT) // there is none; there is no program
		},
	},
	{
		ID: "key-add", What: "leave a key for somebody outside",
		By: BySeccomp, Errno: "EPERM", Proof: AsUser, do: func(g Given) Outcome {
			id, err := unix.AddKey("user", g["key"]+"-added", []byte("x"), unix.KEY_SPEC_USER_KEYRING)
			if err == nil {
				unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
			}
			return done(err, "left")
		},
	},
}

// openQueue is mq_open(2), which wants the name without its slash.
func openQueue(name string, flags uintptr) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	return sys(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), flags, 0o600, 0)
}
