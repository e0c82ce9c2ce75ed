#include "textflag.h"

// entry is where the kernel starts the helper (linker flag -E), before the Go
// runtime. At 0(SP): argc, argv and a null, the environment and a null, the
// auxiliary vector (System V ABI, AMD64 supplement, 3.4.1).
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	0(SP), AX
	LEAQ	16(SP)(AX*8), BX
	LEAQ	16(BX), R10

	// The runtime obeys GODEBUG, GOGC, GOMEMLIMIT, GOMAXPROCS and TZ: none of the
	// caller's strings stays. What they held is or-ed together, to be refused, and
	// so is any number of them but one, which becomes GOMAXPROCS=1.
	LEAQ	·environment(SB), R8
	XORL	R9, R9
env:
	MOVQ	(BX), CX
	ADDQ	$8, BX
	TESTQ	CX, CX
	JZ	auxv
	MOVBLZX	(CX), DX
	ORL	DX, R9
	MOVQ	R8, -8(BX)
	JMP	env

	// The kernel's own word on who started us, which no seccomp filter of the
	// caller's can forge as it could the answer of getresuid(2).
auxv:
	CMPQ	BX, R10
	JEQ	vector
	MOVL	$1, R9
vector:
	MOVQ	(BX), AX
	MOVQ	8(BX), CX
	ADDQ	$16, BX
	CMPQ	AX, $11	// AT_UID
	JNE	euid
	MOVL	CX, ·callerUID(SB)
euid:
	CMPQ	AX, $12	// AT_EUID
	JNE	next
	MOVL	CX, ·entryEUID(SB)
next:
	TESTQ	AX, AX
	JNZ	vector
	MOVL	R9, ·callerEnviron(SB)

	// The runtime opens /dev/null where 0, 1 or 2 is closed: note which are.
	XORL	R12, R12
	MOVL	$5, DI
fds:
	MOVL	$72, AX	// fcntl(fd, F_GETFD)
	MOVL	$1, SI
	XORL	DX, DX
	SYSCALL
	ORQ	AX, R12
	DECL	DI
	JGE	fds
	SHRQ	$63, R12
	MOVL	R12, ·closedFDs(SB)

	// Package syscall raises the soft limit of open files: note what it was.
	// prlimit64(0, RLIMIT_NOFILE, 0, &callerFiles)
	MOVL	$302, AX
	XORL	DI, DI
	MOVL	$7, SI
	XORL	DX, DX
	LEAQ	·callerFiles(SB), R10
	SYSCALL

	// The terminal's stop signals come from the kernel, whatever our uid: block them
	// until harden ignores them. rt_sigprocmask(SIG_BLOCK, stops, 0, 8)
	MOVL	$14, AX
	XORL	DI, DI
	LEAQ	·stops(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL

	// setresuid(0, 0, 0), while there is one thread: every thread that the runtime
	// starts inherits it, so the caller may send a signal to none.
	MOVL	$117, AX
	XORL	DI, DI
	XORL	SI, SI
	XORL	DX, DX
	SYSCALL
	MOVL	$1, ·entered(SB)
	JMP	_rt0_amd64_linux(SB)

DATA	·environment+0(SB)/8, $"GOMAXPRO"
DATA	·environment+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL	·environment(SB), RODATA|NOPTR, $16

// TSTP, TTIN, TTOU: bits 19, 20, 21
DATA	·stops+0(SB)/8, $0x380000
GLOBL	·stops(SB), RODATA|NOPTR, $8
