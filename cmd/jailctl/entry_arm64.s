#include "textflag.h"

// entry, note, handlers: see entry_amd64.s.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	RSP, R0
	MOVD	R0, ·stack(SB)
	SUB	$32, R0, R9
	MOVD	$9, R0	// getrlimit(RLIMIT_AS, R9)
	MOVD	R9, R1
	MOVD	$163, R8
	SVC
	MOVD	(R9), R2
	MOVD	$1536000000, R3
	CMP	R3, R2
	BHS	start
	MOVD	$2, R0	// write(2, noRoom)
	MOVD	·noRoom(SB), R1
	MOVD	·noRoom+8(SB), R2
	MOVD	$64, R8
	SVC
	MOVD	$125, R0	// exit_group(125)
	MOVD	$94, R8
	SVC
start:
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
