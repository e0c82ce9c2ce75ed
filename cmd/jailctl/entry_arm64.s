#include "textflag.h"

// entry: see entry_amd64.s.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	RSP, R0
	MOVD	R0, ·stack(SB)
	MOVD	$0, R0
	MOVD	$·relayed(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC
	B	_rt0_arm64_linux(SB)
