#include "textflag.h"

// entry is where the kernel starts jailctl (linker flag -E), before the Go
// runtime: rt_sigprocmask(SIG_BLOCK, relayed), which every thread that the
// runtime starts inherits, so that signalfd(2) gets these signals with their
// origin; and a note of where argv stands.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	SP, ·stack(SB)
	MOVL	$14, AX
	XORL	DI, DI
	LEAQ	·relayed(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	JMP	_rt0_amd64_linux(SB)
