/* word does, for each promise of a policy, what needs that promise and no other,
 * with the kernel's calls alone: a C library makes calls of its own before main,
 * some of which need rpath. Usage, in a directory of its own with a file "file":
 *   word all     does everything; a line for each deed, its name and the errno
 *   word DEED    does one; the exit status is the errno
 * 0 is: it was done, and had the effect. Errno 99 is: done without effect. */
#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NO_EFFECT 99

typedef unsigned long word;

#if defined __x86_64__
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
static long call6(word nr, word a, word b, word c, word d, word e, word f)
{
	long r;
	register word r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
#elif defined __aarch64__
__asm__(".globl _start\n_start: mov x0, sp\n and sp, x0, #-16\n bl start\n");
static long call6(word nr, word a, word b, word c, word d, word e, word f)
{
	register word x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#endif
#define CALL_(nr, a, b, c, d, e, f, ...) call6(SYS_##nr, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), (word)(f))
#define CALL(nr, ...) CALL_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
/* TRY ends a deed with the errno of a call that fails. */
#define TRY(call) ({ long r_ = (call); if (r_ < 0) return -r_; r_; })

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void put(const char *s)
{
	long n = 0;
	while (s[n])
		n++;
	CALL(write, 1, s, n);
}

static long do_stdio(void)
{
	int p[2];
	char c = 0;
	TRY(CALL(pipe2, p, 0));
	TRY(CALL(write, p[1], "x", 1));
	TRY(CALL(read, p[0], &c, 1));
	return c == 'x' ? 0 : NO_EFFECT;
}

static long do_rpath(void)
{
	char b[64];
	TRY(CALL(getcwd, b, sizeof b));
	return same(b, "/desk") ? 0 : NO_EFFECT;
}

static long do_getpw(void)
{
	char b[5] = "";
	long fd = TRY(CALL(openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0));
	TRY(CALL(read, fd, b, 4));
	return same(b, "root") ? 0 : NO_EFFECT;
}

static long do_wpath(void)
{
	long fd = TRY(CALL(openat, AT_FDCWD, "file", O_WRONLY | O_TRUNC, 0));
	return TRY(CALL(write, fd, "x", 1)) == 1 ? 0 : NO_EFFECT;
}

static long do_rpath_wpath(void)
{
	TRY(CALL(openat, AT_FDCWD, "file", O_RDWR, 0));
	return 0;
}

static long do_wpath_cpath(void)
{
	TRY(CALL(openat, AT_FDCWD, "made", O_WRONLY | O_CREAT | O_TRUNC, 0644));
	return 0;
}

static long do_rpath_wpath_cpath(void)
{
	TRY(CALL(openat, AT_FDCWD, "made", O_RDWR | O_CREAT, 0644));
	return 0;
}

static long do_cpath(void)
{
	TRY(CALL(mkdirat, AT_FDCWD, "directory", 0755));
	TRY(CALL(unlinkat, AT_FDCWD, "directory", AT_REMOVEDIR));
	return 0;
}

static long do_dpath(void)
{
	TRY(CALL(mknodat, AT_FDCWD, "fifo", S_IFIFO | 0644, 0));
	return 0;
}

static long do_tmppath(void)
{
	long fd = TRY(CALL(openat, AT_FDCWD, "temporary", O_RDWR | O_CREAT | O_EXCL, 0600));
	TRY(CALL(unlinkat, AT_FDCWD, "temporary", 0));
	return TRY(CALL(write, fd, "x", 1)) == 1 ? 0 : NO_EFFECT;
}

static long do_fattr(void)
{
	TRY(CALL(fchmodat, AT_FDCWD, "file", 0600));
	TRY(CALL(utimensat, AT_FDCWD, "file", 0, 0));
	return 0;
}

static long do_chown(void)
{
	return -TRY(CALL(fchownat, AT_FDCWD, "file", -1, CALL(getgid, 0), 0));
}

static long do_flock(void)
{
	int p[2];
	TRY(CALL(pipe2, p, 0));
	TRY(CALL(flock, p[0], LOCK_EX | LOCK_NB));
	return 0;
}

/* A connection to oneself, with a byte through it. */
static long connection(int family, void *address, int size)
{
	int length = 128;
	char name[128], c = 0;
	long server = TRY(CALL(socket, family, SOCK_STREAM, 0));
	TRY(CALL(bind, server, address, size));
	TRY(CALL(listen, server, 1));
	TRY(CALL(getsockname, server, name, &length));
	long client = TRY(CALL(socket, family, SOCK_STREAM, 0));
	TRY(CALL(connect, client, name, length));
	long accepted = TRY(CALL(accept4, server, 0, 0, 0));
	TRY(CALL(write, client, "x", 1));
	TRY(CALL(read, accepted, &c, 1));
	return c == 'x' ? 0 : NO_EFFECT;
}

static struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(0x7f000001) };

static long do_inet(void) { return connection(AF_INET, &loopback, sizeof loopback); }

static long do_unix(void)
{
	static unsigned short family = AF_UNIX; /* a name of the kernel's choice */
	return connection(AF_UNIX, &family, sizeof family);
}

static long do_dns(void)
{
	struct sockaddr_in name;
	int size = sizeof name;
	char c = 0;
	long s = TRY(CALL(socket, AF_INET, SOCK_DGRAM, 0));
	TRY(CALL(bind, s, &loopback, size));
	TRY(CALL(getsockname, s, &name, &size));
	TRY(CALL(sendto, s, "x", 1, 0, &name, size));
	TRY(CALL(recvfrom, s, &c, 1, 0, 0, 0));
	return c == 'x' ? 0 : NO_EFFECT;
}

static struct { struct cmsghdr head; int fd, padding; } passed = { { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS }, 1, 0 };

static long do_sendfd(void)
{
	int p[2];
	char c = 'x';
	struct iovec part = { &c, 1 };
	struct msghdr m = { 0, 0, &part, 1, &passed, sizeof passed, 0 };
	TRY(CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, p));
	TRY(CALL(sendmsg, p[0], &m, 0));
	c = 0;
	TRY(CALL(read, p[1], &c, 1));
	return c == 'x' ? 0 : NO_EFFECT;
}

static long do_recvfd(void)
{
	int p[2];
	char c = 0;
	struct iovec part = { &c, 1 };
	struct msghdr m = { 0, 0, &part, 1, 0, 0, 0 };
	TRY(CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, p));
	TRY(CALL(write, p[0], "x", 1));
	TRY(CALL(recvmsg, p[1], &m, 0));
	return c == 'x' ? 0 : NO_EFFECT;
}

static long do_tty(void)
{
	struct termios t, now;
	TRY(CALL(ioctl, 0, TCGETS, &t));
	t.c_lflag ^= ECHO;
	TRY(CALL(ioctl, 0, TCSETS, &t));
	TRY(CALL(ioctl, 0, TCGETS, &now));
	return now.c_lflag == t.c_lflag ? 0 : NO_EFFECT;
}

static long do_proc(void)
{
	int status = 0;
	long child = TRY(CALL(clone, SIGCHLD, 0, 0, 0, 0));
	if (child == 0)
		for (;;)
			CALL(ppoll, 0, 0, 0, 0);
	TRY(CALL(kill, child, SIGKILL));
	TRY(CALL(wait4, child, &status, 0, 0));
	return status == SIGKILL ? 0 : NO_EFFECT;
}

static long do_limit(void)
{
	struct rlimit none = { 0, 0 };
	TRY(CALL(prlimit64, 0, RLIMIT_NICE, &none, 0));
	return 0;
}

static long do_prot_exec(void)
{
	TRY(CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	return 0;
}

static long do_id(void)
{
	long u = CALL(getuid, 0);
	TRY(CALL(setresuid, u, u, u));
	return 0;
}

static long do_exec(void)
{
	char *argv[] = { "word", "executed", 0 }, *env[] = { 0 };
	return -CALL(execve, "/own/word", argv, env);
}

/* The last one does not come back. */
static const struct { const char *name; long (*f)(void); } deeds[] = {
	{ "stdio", do_stdio }, { "rpath", do_rpath }, { "getpw", do_getpw }, { "wpath", do_wpath },
	{ "cpath", do_cpath }, { "dpath", do_dpath }, { "tmppath", do_tmppath }, { "fattr", do_fattr },
	{ "chown", do_chown }, { "flock", do_flock }, { "inet", do_inet }, { "unix", do_unix }, { "dns", do_dns },
	{ "sendfd", do_sendfd }, { "recvfd", do_recvfd }, { "tty", do_tty }, { "proc", do_proc }, { "limit", do_limit },
	{ "prot_exec", do_prot_exec }, { "id", do_id }, { "rpath+wpath", do_rpath_wpath },
	{ "wpath+cpath", do_wpath_cpath }, { "rpath+wpath+cpath", do_rpath_wpath_cpath }, { "exec", do_exec },
};

static void tell(const char *name, long error)
{
	char number[] = " 00\n";
	number[1] += error / 10 % 10;
	number[2] += error % 10;
	put(name);
	put(number);
}

__attribute__((used)) void start(word *stack)
{
	char **argv = (char **)(stack + 1);
	long status = 2;
	for (int i = 0; stack[0] > 1 && i < (int)(sizeof deeds / sizeof *deeds); i++)
		if (same(argv[1], "all"))
			tell(deeds[i].name, deeds[i].f()), status = 0;
		else if (same(argv[1], deeds[i].name))
			status = deeds[i].f();
	if (stack[0] > 1 && same(argv[1], "executed"))
		tell("exec", 0), status = 0;
	CALL(exit_group, status);
	__builtin_trap();
}
