/* threads: eight threads that each fail to open a file of their own, a vfork, and
 * then an execve that is not the main thread's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *fail(void *arg)
{
	char name[32];
	snprintf(name, sizeof name, "/data/thread%ld", (long)arg);
	open(name, O_WRONLY | O_CREAT, 0644);
	return NULL;
}

static void *become(void *arg)
{
	execl("/bin/echo", "echo", "executed", NULL);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[8];
	if (argc > 1 && argv[1][0] == '8') { /* int 0x80: the 32-bit entry */
		long r;
		__asm__ volatile("int $0x80" : "=a"(r) : "0"(20));
		return r > 0;
	}
	for (long i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, fail, (void *)i);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	pid_t child = vfork();
	if (child == 0) {
		execl("/bin/busybox", "busybox", "true", NULL);
		_exit(9);
	}
	int status;
	if (waitpid(child, &status, 0) != child || status)
		return 1;
	pthread_create(&t[0], NULL, become, NULL);
	pthread_join(t[0], NULL);
	return 2;
}
