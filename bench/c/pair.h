/*
 * What the two halves of the C pair say to each other over a SOCK_SEQPACKET
 * socket pair: one request, then replies. Each message is one packet.
 *
 * A request is `struct request`, then NUL-terminated strings: the jail, argc
 * arguments, envc variables. A reply is one byte, then text for standard error.
 */
#include <stdint.h>

enum { REQUEST_MAX = 131072, STRINGS_MAX = 4096, REPLY_MAX = 256 };

/* The helper's descriptors besides 0, 1 and 2. */
enum { SOCKET = 3, PIPE_A = 4, PIPE_B = 5 };

enum { REFUSED = 'r', STARTING = 's', EXEC_FAILED = 'x' };

/* As chroot(1) and env(1). */
enum { EXIT_OURS = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

struct request {
	uint32_t argc, envc;
};
