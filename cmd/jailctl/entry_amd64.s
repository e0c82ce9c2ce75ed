#include "textflag.h"

// entry is where the kernel starts jailctl (linker flag -E), before the Go
// runtime: it notes where argv stands.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	SP, ·stack(SB)
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
