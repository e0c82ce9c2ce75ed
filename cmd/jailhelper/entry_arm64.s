#include "textflag.h"

// entry: see entry_amd64.s, step by step the same. At 0(RSP): argc, argv and a
// null, the environment and a null, the auxiliary vector.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	0(RSP), R0
	ADD	$16, RSP, R1
	ADD	R0<<3, R1
	ADD	$16, R1, R9

	// Blank the environment.
	MOVD	$·environment(SB), R2
	MOVD	$0, R3
env:
	MOVD.P	8(R1), R4
	CBZ	R4, auxv
	MOVBU	(R4), R5
	ORR	R5, R3
	MOVD	R2, -8(R1)
	B	env

	// Who started us.
auxv:
	CMP	R9, R1
	BEQ	vector
	MOVD	$1, R3
vector:
	MOVD.P	8(R1), R4
	MOVD.P	8(R1), R5
	CMP	$11, R4	// AT_UID
	BNE	euid
	MOVW	R5, ·callerUID(SB)
euid:
	CMP	$12, R4	// AT_EUID
	BNE	next
	MOVW	R5, ·entryEUID(SB)
next:
	CBNZ	R4, vector
	MOVW	R3, ·callerEnviron(SB)

	// Which of 0 to 5 are closed.
	MOVD	$0, R6
	MOVD	$5, R7
fds:
	MOVD	R7, R0
	MOVD	$1, R1	// F_GETFD
	MOVD	$0, R2
	MOVD	$25, R8	// fcntl
	SVC
	ORR	R0, R6
	SUB	$1, R7
	TBZ	$63, R7, fds
	LSR	$63, R6
	MOVW	R6, ·closedFDs(SB)

	// The limit of open files.
	MOVD	$0, R0
	MOVD	$7, R1
	MOVD	$0, R2
	MOVD	$·callerFiles(SB), R3
	MOVD	$261, R8	// prlimit64
	SVC

	// Block the stop signals.
	MOVD	$0, R0
	MOVD	$·stops(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$135, R8	// rt_sigprocmask
	SVC

	// setresuid(0, 0, 0).
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$147, R8
	SVC
	MOVD	$1, R0
	MOVW	R0, ·entered(SB)
	B	_rt0_arm64_linux(SB)

DATA	·environment+0(SB)/8, $"GOMAXPRO"
DATA	·environment+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL	·environment(SB), RODATA|NOPTR, $16

DATA	·stops+0(SB)/8, $0x380000
GLOBL	·stops(SB), RODATA|NOPTR, $8
