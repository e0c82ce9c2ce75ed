/* reach says what a confined command reaches; a line for each deed, its name and
 * the errno, 0 for done. Usage:
 *   reach dir DIR        deeds in a directory with "file", "program", "sub/file", "gone" and "empty"
 *   reach file FILE      deeds on a file that is a program
 *   reach device FILE    an ioctl that devices of its kind do not have: ENOTTY if it gets there
 *   reach tcp CONNECT OTHER BIND OTHER   ports
 *   reach unix FILE NAME a socket file and an abstract name that others listen on */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void tell(const char *deed, long result) { printf("%s %d\n", deed, result < 0 ? errno : 0); }

static int executes(const char *file)
{
	int status;
	pid_t child = vfork();
	if (child == 0) {
		execl(file, file, "ran", NULL);
		_exit(errno);
	}
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static int reads(const char *file)
{
	char c;
	int fd = open(file, O_RDONLY);
	return fd < 0 ? -1 : (int)read(fd, &c, 1);
}

static int writes(const char *file)
{
	int fd = open(file, O_WRONLY | O_APPEND);
	return fd < 0 ? -1 : (int)write(fd, "x", 1);
}

static void dir(void)
{
	struct stat st;
	tell("read", reads("file"));
	tell("list", open(".", O_RDONLY | O_DIRECTORY));
	tell("write", writes("file"));
	tell("truncate", truncate("file", 1));
	tell("create", open("new", O_WRONLY | O_CREAT | O_EXCL, 0644));
	tell("mknod", mknod("node", S_IFREG | 0644, 0));
	tell("mkfifo", mkfifo("fifo", 0644));
	tell("mkdir", mkdir("made", 0755));
	tell("symlink", symlink("file", "link"));
	tell("link", link("file", "hard"));
	tell("rename", rename("file", "renamed"));
	tell("rename to another directory", rename("sub/file", "moved"));
	tell("unlink", unlink("gone"));
	tell("rmdir", rmdir("empty"));
	tell("execute", executes("./program"));
	tell("stat", stat("program", &st)); /* Landlock does not look at these two */
	tell("chmod", chmod("program", 0711));
}

static void file(const char *path)
{
	tell("read", reads(path));
	tell("execute", executes(path));
	tell("write", writes(path));
	tell("truncate", truncate(path, 1));
	tell("unlink", unlink(path));
}

static int inet(int type, int protocol, int (*f)(int, const struct sockaddr *, socklen_t), int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int s = socket(AF_INET, type, protocol);
	return s < 0 ? -1 : f(s, (void *)&a, sizeof a);
}

static int fast(int s, const struct sockaddr *a, socklen_t size) { return sendto(s, "x", 1, MSG_FASTOPEN, a, size); }

static int inet6(int port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int s = socket(AF_INET6, SOCK_STREAM, 0);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	return s < 0 ? -1 : connect(s, (void *)&a, sizeof a);
}

static void tcp(int port, int other, int mine, int others)
{
	tell("connect", inet(SOCK_STREAM, 0, connect, port));
	tell("connect elsewhere", inet(SOCK_STREAM, 0, connect, other));
	tell("connect by IPv6", inet6(port));
	tell("connect elsewhere by IPv6", inet6(other));
	tell("bind", inet(SOCK_STREAM, 0, bind, mine));
	tell("bind elsewhere", inet(SOCK_STREAM, 0, bind, others));
	tell("bind any", inet(SOCK_STREAM, 0, bind, 0));
	tell("listen unbound", listen(socket(AF_INET, SOCK_STREAM, 0), 1));
	tell("MPTCP", inet(SOCK_STREAM, 262, connect, port));
	tell("MSG_FASTOPEN", inet(SOCK_STREAM, 0, fast, other));
	tell("UDP", inet(SOCK_DGRAM, 0, connect, port));
	tell("ping", inet(SOCK_DGRAM, IPPROTO_ICMP, connect, 0));
	tell("raw", inet(SOCK_RAW, IPPROTO_TCP, connect, 0));
	tell("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
	tell("packet", socket(AF_PACKET, SOCK_DGRAM, 0));
	tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
}

/* A name that begins with @ is abstract. */
static int local(int type, int (*f)(int, const struct sockaddr *, socklen_t), const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, type, 0);
	strncpy(a.sun_path, name, sizeof a.sun_path - 1);
	if (*name == '@')
		a.sun_path[0] = 0;
	if (s < 0 || f(s, (void *)&a, offsetof(struct sockaddr_un, sun_path) + strlen(name)) < 0)
		return -1;
	return type == SOCK_STREAM && f != connect ? listen(s, 1) : 0;
}

static int sends(int s, const struct sockaddr *a, socklen_t size) { return sendto(s, "x", 1, 0, a, size); }

static void unixes(const char *path, const char *abstract)
{
	int p[2];
	tell("file of another's", local(SOCK_STREAM, connect, path));
	tell("bind a file", local(SOCK_STREAM, bind, "socket"));
	tell("connect to it", local(SOCK_STREAM, connect, "socket"));
	tell("abstract outside", local(SOCK_STREAM, connect, abstract));
	tell("send to abstract outside", local(SOCK_DGRAM, sends, abstract));
	tell("bind abstract", local(SOCK_STREAM, bind, "@jailctl-test-inside"));
	tell("connect to abstract", local(SOCK_STREAM, connect, "@jailctl-test-inside"));
	tell("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	tell("pair of datagrams", socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
	tell("inet", socket(AF_INET, SOCK_STREAM, 0));
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "ran"))
		return 0;
	if (argc == 3 && !strcmp(argv[1], "dir")) {
		if (chdir(argv[2])) /* Landlock does not look at this either */
			return 2;
		dir();
	} else if (argc == 3 && !strcmp(argv[1], "file"))
		file(argv[2]);
	else if (argc == 3 && !strcmp(argv[1], "device"))
		tell("ioctl", ioctl(open(argv[2], O_RDONLY), TCSBRK, 0));
	else if (argc == 6 && !strcmp(argv[1], "tcp"))
		tcp(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	else if (argc == 4 && !strcmp(argv[1], "unix"))
		unixes(argv[2], argv[3]);
	else
		return 2;
	return 0;
}
