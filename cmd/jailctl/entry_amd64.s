#include "textflag.h"

// entry is where the kernel starts jailctl (linker flag -E), before the Go
// runtime: it notes where argv stands, and says in one line what the runtime would
// say in twenty where it has too little address space to start.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	SP, ·stack(SB)
	MOVQ	SP, BX
	SUBQ	$32, BX
	MOVL	$97, AX	// getrlimit(RLIMIT_AS, BX)
	MOVL	$9, DI
	MOVQ	BX, SI
	SYSCALL
	MOVQ	(BX), CX
	CMPQ	CX, $1536000000
	JCC	start
	MOVL	$1, AX	// write(2, noRoom)
	MOVL	$2, DI
	MOVQ	·noRoom(SB), SI
	MOVQ	·noRoom+8(SB), DX
	SYSCALL
	MOVL	$231, AX	// exit_group(125)
	MOVL	$125, DI
	SYSCALL
start:
	JMP	_rt0_amd64_linux(SB)

// note is a signal handler: write(noteFD, info, 16). It runs on whichever thread
// the kernel picks and touches nothing of Go's.
TEXT ·note(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$1, AX
	MOVL	·noteFD(SB), DI
	MOVL	$16, DX	// RSI is the siginfo_t: signo, errno, code
	SYSCALL
	RET

// restore is where a handler returns to: rt_sigreturn().
TEXT ·restore(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$15, AX
	SYSCALL
	INT	$3

// handlers returns the addresses of note and restore.
TEXT ·handlers(SB),NOSPLIT,$0-16
	LEAQ	·note(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	·restore(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
