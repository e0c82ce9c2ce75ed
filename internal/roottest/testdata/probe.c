/* probe says from inside a jail what the kernel knows of the process, before
 * any runtime has touched it. Usage:
 *   probe            report: ids, groups, capabilities, descriptors, signals, …
 *   probe args ARG…  the arguments, one a line, quoted by brackets
 *   probe touch FILE make FILE, to see afterwards whether anything ran
 *   probe exit N | kill SIG | sleep SECONDS
 *   probe key NAME   read the user key NAME through the session keyring
 *   probe helper PATH start the helper without a request and say how it ends
 *   probe addkey NAME PROGRAM ARG…  run a program with such a key
 *   probe count SIG… print each of these signals as it arrives; end after a TERM
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void report(void)
{
	uid_t r, e, s;
	gid_t gr, ge, gs, groups[256];
	int n, i;
	char cwd[4096];

	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	printf("uid=%u %u %u\ngid=%u %u %u\n", r, e, s, gr, ge, gs);
	n = getgroups(256, groups);
	printf("groups=");
	for (i = 0; i < n; i++)
		printf(i ? " %u" : "%u", groups[i]);
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	memset(d, 0xff, sizeof d);
	syscall(SYS_capget, &h, d);
	printf("\ncaps=%x%x %x%x %x%x\n", d[1].effective, d[0].effective, d[1].permitted,
	       d[0].permitted, d[1].inheritable, d[0].inheritable);
	n = 0;
	for (i = 0; i < 64; i++)
		n += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1;
	printf("ambient=%d\nnnp=%d\n", n, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("dumpable=%d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	printf("fds=");
	for (i = 0; i < 65536; i++)
		if (fcntl(i, F_GETFD) >= 0)
			printf("%d ", i);
	printf("\ncwd=%s\n", getcwd(cwd, sizeof cwd) ? cwd : "?");
	n = umask(0);
	umask(n);
	printf("umask=%03o\n", n);
	sigset_t set;
	struct sigaction a;
	sigprocmask(SIG_BLOCK, NULL, &set);
	printf("blocked=");
	for (i = 1; i < 65; i++)
		if (sigismember(&set, i) == 1)
			printf("%d ", i);
	printf("\nignored=");
	for (i = 1; i < 65; i++)
		if (sigaction(i, NULL, &a) == 0 && a.sa_handler == SIG_IGN)
			printf("%d ", i);
	printf("\ntimers=");
	for (i = 0; i < 3; i++) {
		struct itimerval t;
		getitimer(i, &t);
		printf("%ld ", (long)t.it_value.tv_sec + (t.it_value.tv_usec != 0));
	}
	printf("\n");
	static const struct { const char *name; int nr; } limits[] = {
		{ "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "as", RLIMIT_AS },
		{ "fsize", RLIMIT_FSIZE }, { "cpu", RLIMIT_CPU }, { "core", RLIMIT_CORE },
	};
	for (i = 0; i < 6; i++) {
		struct rlimit l;
		getrlimit(limits[i].nr, &l);
		printf("limit.%s=%lld %lld\n", limits[i].name, (long long)l.rlim_cur, (long long)l.rlim_max);
	}
	struct stat st;
	if (stat("/", &st) == 0)
		printf("root=%llu:%llu\n", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	for (char **p = environ; *p; p++)
		printf("env=%s\n", *p);
	printf("end=1\n");
}

static volatile sig_atomic_t over;

static void note(int sig)
{
	char b[16];
	int n = snprintf(b, sizeof b, "%d\n", sig);
	if (write(1, b, n) != n)
		_exit(9);
	if (sig == SIGTERM)
		over = 1;
}

int main(int argc, char **argv)
{
	int i;

	if (argc < 2) {
		report();
		return 0;
	}
	if (!strcmp(argv[1], "args")) {
		for (i = 0; i < argc; i++)
			printf("[%s]\n", argv[i]);
		return 0;
	}
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "touch"))
		return creat(argv[2], 0644) < 0;
	if (!strcmp(argv[1], "key")) {
		char b[64];
		long key = syscall(SYS_request_key, "user", argv[2], NULL, 0);
		long n = key < 0 ? -1 : syscall(SYS_keyctl, 11 /* KEYCTL_READ */, key, b, sizeof b);
		printf("%.*s\n", n < 0 ? 4 : (int)n, n < 0 ? "none" : b);
		return 0;
	}
	if (!strcmp(argv[1], "helper")) {
		int s[2], p[2], status;
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) || pipe(p))
			return 9;
		signal(SIGTSTP, SIG_IGN);
		pid_t child = fork();
		if (child == 0) {
			char *none[] = { "", NULL };
			dup2(s[1], 63);
			dup2(p[0], 64);
			dup2(63, 3);
			dup2(64, 4);
			dup2(64, 5);
			for (i = 6; i < 65; i++)
				close(i);
			execve(argv[2], argv + 2, none);
			_exit(9);
		}
		close(s[1]);
		printf("started\n");
		fflush(stdout);
		if (waitpid(child, &status, 0) != child)
			return 9;
		printf("helper=%d\n", status);
		return 0;
	}
	if (!strcmp(argv[1], "addkey")) { /* a new session keyring with NAME, then the rest as a command */
		if (argc < 4 || syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, NULL) < 0 ||
		    syscall(SYS_add_key, "user", argv[2], "secret", 6, -3 /* KEY_SPEC_SESSION_KEYRING */) < 0)
			return 9;
		execv(argv[3], argv + 3);
		return 9;
	}
	if (!strcmp(argv[1], "exit"))
		return atoi(argv[2]);
	if (!strcmp(argv[1], "kill")) {
		kill(getpid(), atoi(argv[2]));
		return 0;
	}
	if (!strcmp(argv[1], "sleep"))
		return sleep(atoi(argv[2])) != 0;
	if (!strcmp(argv[1], "count")) {
		sigset_t all, none;
		sigfillset(&all);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &all, NULL);
		for (i = 2; i < argc; i++)
			signal(atoi(argv[i]), note);
		if (write(1, "ready\n", 6) != 6)
			return 9;
		while (!over)
			sigsuspend(&none);
		return 0;
	}
	return 2;
}
