package attack

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Victim is the process outside that attacks reach for. It has the target's uid,
// keeps the secret in its memory and ends when standard input does.
func Victim(secret string) {
	copy(memory[:], secret)
	unix.Write(1, []byte("victim\n"))
	untilEOF()
}

// Keeper has the objects that processes of the target's uid share, tells their
// names, and takes them away when standard input ends.
func Keeper(secret, name string) error {
	if len(secret) > 40 {
		return fmt.Errorf("the secret is too long")
	}
	shm, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o600)
	if err != nil {
		return fmt.Errorf("shmget: %w", err)
	}
	defer unix.SysvShmCtl(shm, unix.IPC_RMID, nil)
	b, err := unix.SysvShmAttach(shm, 0, 0)
	if err != nil {
		return fmt.Errorf("shmat: %w", err)
	}
	copy(b, secret)

	msg, err := sys(unix.SYS_MSGGET, unix.IPC_PRIVATE, 0o600)
	if err != nil {
		return fmt.Errorf("msgget: %w", err)
	}
	defer sys(unix.SYS_MSGCTL, uintptr(msg), unix.IPC_RMID, 0)
	m := struct {
		kind int
		text [64]byte
	}{kind: 1}
	copy(m.text[:], secret)
	for range 20 { // an attack takes one
		if _, err := sys(unix.SYS_MSGSND, uintptr(msg), uintptr(unsafe.Pointer(&m)), 64, 0); err != nil {
			return fmt.Errorf("msgsnd: %w", err)
		}
	}

	sem, err := sys(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, 0o600)
	if err != nil {
		return fmt.Errorf("semget: %w", err)
	}
	defer sys(unix.SYS_SEMCTL, uintptr(sem), 0, unix.IPC_RMID, 0)

	if _, err := openQueue(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR); err != nil {
		return fmt.Errorf("mq_open: %w", err)
	}
	defer func() {
		p, _ := unix.BytePtrFromString(name)
		sys(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(p)))
	}()

	key, err := unix.AddKey("user", name, []byte(secret), unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		return fmt.Errorf("add_key: %w", err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0)

	fmt.Printf("shm=%d msg=%d sem=%d mq=%s key=%s\n", shm, msg, sem, name, name)
	untilEOF()
	return nil
}

func untilEOF() {
	b := make([]byte, 64)
	for {
		if n, err := unix.Read(0, b); n <= 0 && err != unix.EINTR {
			return
		}
	}
}
