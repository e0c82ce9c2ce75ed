#include "textflag.h"

// entry, note, handlers: see entry_amd64.s.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	RSP, R0
	MOVD	R0, ·stack(SB)
	B	_rt0_arm64_linux(SB)

TEXT ·note(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVW	·noteFD(SB), R0
	MOVD	$16, R2	// R1 is the siginfo_t
	MOVD	$64, R8	// write
	SVC
	RET

// restore: see entry_amd64.s.
TEXT ·restore(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	$139, R8	// rt_sigreturn
	SVC
	BRK

TEXT ·handlers(SB),NOSPLIT,$0-16
	MOVD	$·note(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	$·restore(SB), R0
	MOVD	R0, restorer+8(FP)
	RET
