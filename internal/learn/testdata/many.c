/* many: what is hard to follow. Each deed is named by the first argument. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define N 20

static const char *dir;

static void look(const char *kind, long i)
{
	char name[4096];
	snprintf(name, sizeof name, "%s/%s%ld", dir, kind, i);
	int fd = open(name, O_RDONLY);
	if (fd < 0)
		_exit(10);
	close(fd);
}

static void *thread(void *i)
{
	for (int n = 0; n < 50; n++)
		look("thread", (long)i);
	return NULL;
}

static void *become(void *argv)
{
	execv(((char **)argv)[0], argv);
	_exit(11);
}

/* Threads that open files while children stop themselves and are continued. */
static int crowd(void)
{
	pthread_t t[N];
	pid_t child[N];
	int status;
	for (long i = 0; i < N; i++) {
		pthread_create(&t[i], NULL, thread, (void *)i);
		if ((child[i] = fork()) == 0) {
			raise(SIGSTOP);
			look("child", i);
			_exit((int)i);
		}
	}
	for (long i = 0; i < N; i++) {
		if (waitpid(child[i], &status, WUNTRACED) != child[i] || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
			return 12;
		kill(child[i], SIGCONT);
	}
	for (long i = 0; i < N; i++) {
		if (waitpid(child[i], &status, 0) != child[i] || !WIFEXITED(status) || WEXITSTATUS(status) != i)
			return 13;
		pthread_join(t[i], NULL);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int status, fd;
	if (argc < 3)
		return 2;
	dir = argv[2];
	if (!strcmp(argv[1], "crowd"))
		return crowd();
	if (!strcmp(argv[1], "vfork")) {
		pid_t child = vfork();
		if (child == 0) {
			execv(argv[2], argv + 2);
			_exit(11);
		}
		return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 14;
	}
	if (!strcmp(argv[1], "become")) {
		pthread_t t[4];
		for (int i = 0; i < 3; i++)
			pthread_create(&t[i], NULL, (void *(*)(void *))(void *)pause, NULL);
		pthread_create(&t[3], NULL, become, argv + 2);
		pause();
	}
	if (!strcmp(argv[1], "ways")) { /* by a descriptor, by fchdir, by chdir, through .. */
		if ((fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0 || openat(fd, "sub/by descriptor", O_RDONLY) < 0 || fchdir(fd))
			return 15;
		if (open("by fchdir", O_RDONLY) < 0 || chdir("sub") || open("by chdir", O_RDONLY) < 0 || open("../by dots", O_RDONLY) < 0)
			return 16;
		return open("../link/by a link", O_RDONLY) < 0 ? 17 : 0;
	}
	if (!strcmp(argv[1], "fexec")) {
		if ((fd = open(argv[2], O_RDONLY | O_CLOEXEC)) < 0)
			return 18;
		fexecve(fd, argv + 2, environ);
	}
	if (!strcmp(argv[1], "openat2")) { /* which a jail does not have */
		struct { unsigned long flags, mode, resolve; } how = {O_RDWR | O_CREAT, 0644, 0};
		return syscall(437, AT_FDCWD, "new", &how, sizeof how) < 0 ? 19 : 0;
	}
	if (!strcmp(argv[1], "tmpfile"))
		return open(dir, O_TMPFILE | O_RDWR, 0600) < 0 ? 20 : 0;
	return 3;
}
