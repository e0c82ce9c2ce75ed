/*
 * pair_client JAIL COMMAND [ARG...]: the client of the C pair, which is the unit
 * that `make bench` measures launchers in. It does what `jailctl run` does: makes
 * the socket pair and the two signal pipes, starts the setuid-root helper with an
 * empty environment, sends one request, reads "starting" and end of file, waits
 * for the command and exits with its status.
 *
 * Compile with -DHELPER='"/path/of/pair_helper"'.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair.h"

extern char **environ;

static int sockets[2];           /* the helper's end, ours */
static int pipe_a[2], pipe_b[2]; /* read end, write end */
static char request[REQUEST_MAX];
static size_t request_size;

static void die(const char *what)
{
	fprintf(stderr, "pair_client: cannot %s: %s\n", what, strerror(errno));
	exit(EXIT_OURS);
}

/*
 * The caller may not signal the command, which has another uid; the kernel does
 * it for the owner of the pipe's read end, the command, when a byte arrives.
 */
static void relay(int sig)
{
	int saved = errno;
	ssize_t n;

	fcntl(pipe_a[0], F_SETSIG, sig);
	n = write(pipe_a[1], "", 1);
	(void)n;
	fcntl(pipe_a[0], F_SETSIG, SIGKILL);
	errno = saved;
}

static void add(const void *p, size_t n)
{
	if (n > sizeof request - request_size) {
		errno = E2BIG;
		die("send the request");
	}
	memcpy(request + request_size, p, n);
	request_size += n;
}

/* Sent before the helper starts, which then never waits for it. */
static void send_request(int argc, char **argv)
{
	struct request head = { .argc = argc - 2 };

	while (environ[head.envc])
		head.envc++;
	add(&head, sizeof head);
	for (int i = 1; i < argc; i++)
		add(argv[i], strlen(argv[i]) + 1);
	for (char **e = environ; *e; e++)
		add(*e, strlen(*e) + 1);
	if (send(sockets[1], request, request_size, MSG_NOSIGNAL) < 0)
		die("send the request");
}

/*
 * The pipes die with us and take the command along: the last close of a write
 * end delivers SIGKILL to the owner of the read end if that is still open, which
 * depends on the order of descriptors. Hence two, one in either order.
 */
static void make_pipes(void)
{
	int low;

	if (pipe2(pipe_a, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(pipe_b, O_CLOEXEC | O_NONBLOCK) < 0)
		die("make a pipe");
	low = pipe_b[0];
	pipe_b[0] = fcntl(low, F_DUPFD_CLOEXEC, pipe_b[1]);
	if (pipe_b[0] < 0)
		die("make a pipe");
	close(low);
}

static pid_t start_helper(void)
{
	static char *argv[] = { "pair_helper", NULL }, *env[] = { NULL };
	posix_spawn_file_actions_t acts;
	pid_t pid;

	/* Each descriptor was made after the one before it, so none is overwritten before it is used. */
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_adddup2(&acts, sockets[0], SOCKET);
	posix_spawn_file_actions_adddup2(&acts, pipe_a[0], PIPE_A);
	posix_spawn_file_actions_adddup2(&acts, pipe_b[0], PIPE_B);
	errno = posix_spawn(&pid, HELPER, &acts, NULL, argv, env);
	if (errno)
		die("start the helper");
	close(sockets[0]);
	return pid;
}

/* Returns after end of file: the command runs, or is said not to. */
static void read_replies(void)
{
	char reply[REPLY_MAX];
	int started = 0;
	ssize_t n;

	for (;;) {
		n = recv(sockets[1], reply, sizeof reply, 0);
		/* Reset: the helper refused before it read the request; its reply is next. */
		if (n < 0 && (errno == EINTR || errno == ECONNRESET))
			continue;
		if (n <= 0)
			break;
		if (reply[0] == STARTING)
			started = 1;
		else
			fprintf(stderr, "pair_client: %.*s\n", (int)n - 1, reply + 1);
	}
	if (!started)
		exit(EXIT_OURS);
}

int main(int argc, char **argv)
{
	static const int relayed[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };
	struct sigaction act = { .sa_handler = relay, .sa_flags = SA_RESTART };
	int status;
	pid_t pid;

	if (argc < 3) {
		fputs("usage: pair_client JAIL COMMAND [ARG...]\n", stderr);
		return EXIT_OURS;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		die("make a socket pair");
	make_pipes();
	send_request(argc, argv);
	pid = start_helper();
	for (size_t i = 0; i < sizeof relayed / sizeof *relayed; i++)
		sigaction(relayed[i], &act, NULL);
	read_replies();
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("wait for the command");
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
