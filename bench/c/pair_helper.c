/*
 * pair_helper: the setuid-root helper of the C pair, which is the unit that
 * `make bench` measures launchers in. It does what jailhelper does up to the
 * confinement, one system call for one: harden, who asks, one bounded request,
 * policy and compiled form opened from "/" by descriptor, an audit line, chroot,
 * drop, try to come back, signal pipes, "starting", exec.
 *
 * Compile with -DPOLICY='"/directory"' and -DCOMPILED='"/directory"'. Jail NAME is
 * POLICY/NAME, text that nobody parses, and COMPILED/NAME: a line "UID GID ROOT",
 * then the bytes of that text. Whoever asks may run any command in the jail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pair.h"

extern char **environ;

enum { FILE_MAX = 65536, DEADLINE = 10 };

static char buf[REQUEST_MAX];
static char *strings[STRINGS_MAX + 2]; /* arguments, NULL, variables, NULL */

struct policy {
	unsigned uid, gid;
	char root[PATH_MAX];
};

static void reply(char outcome, const char *text)
{
	char msg[REPLY_MAX];
	size_t n = strnlen(text, sizeof msg - 1);

	msg[0] = outcome;
	memcpy(msg + 1, text, n);
	send(SOCKET, msg, n + 1, MSG_NOSIGNAL);
}

static _Noreturn void refuse(const char *why)
{
	reply(REFUSED, why);
	_exit(EXIT_OURS);
}

/* From setresuid on, the caller's signals no longer arrive. */
static void harden(uid_t *caller)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t none;
	uid_t euid, suid;

	if (getresuid(caller, &euid, &suid) < 0 || euid != 0)
		refuse("not installed setuid root");
	if (*environ)
		refuse("environment is not empty");
	if (setresuid(0, 0, 0) < 0)
		refuse("cannot set uids");
	alarm(DEADLINE);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	umask(077);
	prctl(PR_SET_DUMPABLE, 0);
	if (close_range(PIPE_B + 1, UINT_MAX, 0) < 0)
		refuse("cannot close descriptors");
}

/* A directory among 0-2 would be a way out of the jail. */
static void weigh_descriptors(uid_t caller)
{
	struct stat st;
	struct ucred peer;
	socklen_t n = sizeof peer, m = sizeof(int);
	int flags, type;

	for (int fd = 0; fd <= 2; fd++) {
		flags = fcntl(fd, F_GETFL);
		if (flags < 0 || flags & O_PATH || fstat(fd, &st) < 0 ||
		    !(S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
			refuse("standard descriptor is not a file, pipe or device");
	}
	for (int fd = SOCKET; fd <= PIPE_B; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			refuse("descriptor is missing");
	for (int fd = PIPE_A; fd <= PIPE_B; fd++)
		if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
			refuse("signal pipe is not a pipe");
	if (getsockopt(SOCKET, SOL_SOCKET, SO_TYPE, &type, &m) < 0 || type != SOCK_SEQPACKET)
		refuse("not a sequenced packet socket");
	if (getsockopt(SOCKET, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != caller)
		refuse("socket is not the caller's");
}

static char *next_string(char **p, const char *end)
{
	char *s = *p, *nul = memchr(s, 0, end - s);

	if (!nul)
		refuse("malformed request");
	*p = nul + 1;
	return s;
}

/* Returns the jail's name and leaves arguments and variables in strings. */
static char *receive(char ***argv, char ***envp)
{
	struct iovec iov = { buf, sizeof buf };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct request head;
	char *p = buf + sizeof head, *jail, **s = strings;
	ssize_t n = recvmsg(SOCKET, &msg, MSG_CMSG_CLOEXEC);
	const char *end = buf + n;

	if (n < (ssize_t)sizeof head || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		refuse("malformed request");
	memcpy(&head, buf, sizeof head);
	if (head.argc < 1 || head.argc > STRINGS_MAX || head.envc > STRINGS_MAX - head.argc)
		refuse("malformed request");
	jail = next_string(&p, end);
	for (*argv = s; head.argc; head.argc--)
		*s++ = next_string(&p, end);
	*s++ = NULL;
	for (*envp = s; head.envc; head.envc--)
		*s++ = next_string(&p, end);
	if (p != end)
		refuse("malformed request");
	if (!*jail || *jail == '.' || strlen(jail) > 63 || jail[strspn(jail, "abcdefghijklmnopqrstuvwxyz0123456789_.-")])
		refuse("malformed jail name");
	return jail;
}

/* Refuses what anybody but root could have put there. */
static void weigh(int fd, struct stat *st)
{
	if (fd < 0 || fstat(fd, st) < 0)
		refuse("no such jail");
	if (st->st_uid != 0 || st->st_mode & 022)
		refuse("writable by others than root");
}

/* Opens path, component by component from "/", never through a symbolic link. */
static int walk(const char *path, int flags, struct stat *st)
{
	const int dir = O_PATH | O_DIRECTORY;
	char name[NAME_MAX + 1];
	int fd = open("/", dir | O_CLOEXEC), next;
	size_t n;

	weigh(fd, st);
	while (*(path += strspn(path, "/"))) {
		n = strcspn(path, "/");
		if (n > NAME_MAX)
			refuse("name too long");
		memcpy(name, path, n);
		name[n] = 0;
		path += n;
		next = openat(fd, name, (*path ? dir : flags) | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		weigh(fd = next, st);
	}
	return fd;
}

static size_t read_file(const char *dir, const char *jail, char *text)
{
	char path[PATH_MAX];
	struct stat st;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, jail);
	fd = walk(path, O_RDONLY | O_NONBLOCK, &st);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		refuse("policy is not a small file");
	n = read(fd, text, FILE_MAX);
	if (n != st.st_size)
		refuse("cannot read the policy");
	close(fd);
	return n;
}

static void decide(const char *jail, struct policy *pol)
{
	static char text[FILE_MAX], compiled[FILE_MAX];
	size_t n = read_file(POLICY, jail, text), m = read_file(COMPILED, jail, compiled);
	char *line = memchr(compiled, '\n', m), *p = compiled;

	if (!line || compiled + m - (line + 1) != (ssize_t)n || memcmp(line + 1, text, n))
		refuse("policy is not applied");
	*line = 0;
	pol->uid = strtoul(p, &p, 10);
	pol->gid = strtoul(p, &p, 10);
	if (pol->uid == 0 || pol->gid == 0 || *p++ != ' ' || *p != '/' || strlen(p) >= sizeof pol->root)
		refuse("malformed compiled policy");
	strcpy(pol->root, p);
}

/* A missing log stops nobody. */
static void audit(uid_t caller, const char *jail, const struct policy *pol, const char *command)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	char line[1024];
	int n, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	n = snprintf(line, sizeof line, "<86>pair_helper: permit caller=%u jail=%s uid=%u gid=%u command=%.512s", caller, jail,
		     pol->uid, pol->gid, command);
	if (fd < 0)
		return;
	sendto(fd, line, n, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
	close(fd);
}

static void enter(const char *path)
{
	struct stat st;
	int fd = walk(path, O_PATH | O_DIRECTORY, &st);

	if (fchdir(fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		refuse("cannot enter the jail");
	close(fd);
}

static void drop(uid_t uid, gid_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		refuse("cannot drop");
	if (setresuid(-1, 0, -1) == 0 || setresgid(-1, 0, -1) == 0)
		refuse("came back after the drop");
	if (getresuid(&r, &e, &s) < 0 || r != uid || e != uid || s != uid || getresgid(&rg, &eg, &sg) < 0 || rg != gid ||
	    eg != gid || sg != gid || getgroups(0, NULL) != 0)
		refuse("ids are not the target's");
}

/* What the command keeps for good, and what the helper changed for itself. */
static void confine(void)
{
	struct rlimit none = { 0, 0 };

	for (int fd = PIPE_A; fd <= PIPE_B; fd++)
		if (fcntl(fd, F_SETOWN, getpid()) < 0 || fcntl(fd, F_SETSIG, SIGKILL) < 0 ||
		    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC) < 0)
			refuse("cannot own the signal pipes");
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		refuse("cannot confine");
	umask(022);
	signal(SIGPIPE, SIG_DFL);
	alarm(0);
}

/* TERM and LANG are the caller's, PATH is ours. */
static char **environment(char **envp)
{
	static char *kept[4] = { "PATH=/usr/local/bin:/usr/bin:/bin" };
	int n = 1;

	for (; *envp && n < 3; envp++)
		if (!strncmp(*envp, "TERM=", 5) || !strncmp(*envp, "LANG=", 5))
			kept[n++] = *envp;
	return kept;
}

int main(void)
{
	static struct policy pol;
	char **argv, **envp, *jail;
	uid_t caller;
	int why;

	harden(&caller);
	weigh_descriptors(caller);
	jail = receive(&argv, &envp);
	decide(jail, &pol);
	audit(caller, jail, &pol, argv[0]);
	enter(pol.root);
	drop(pol.uid, pol.gid);
	confine();
	envp = environment(envp);
	reply(STARTING, "");
	execve(argv[0], argv, envp);
	why = errno;
	reply(EXEC_FAILED, strerror(why));
	_exit(why == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE);
}
