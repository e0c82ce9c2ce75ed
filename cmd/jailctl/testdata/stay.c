/* A command that stays in the jail and does as it is told, one line after the other:
 * "open PATH", "at PATH" (by a descriptor of the directory in which it began), "make PATH",
 * "stat PATH", "chmod PATH", "chdir PATH". It answers with what was read, "ok", or the
 * name of the error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void answer(int r)
{
	puts(r < 0 ? strerrorname_np(errno) : "ok");
}

static void contents(int fd)
{
	char b[100];
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b - 1);

	if (n < 0) {
		answer(-1);
	} else {
		b[n] = 0;
		puts(b);
	}
	close(fd);
}

int main(void)
{
	char line[5000], *path;
	struct stat st;
	int here = open(".", O_RDONLY | O_DIRECTORY), fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	answer(here);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		path = strchr(line, ' ');
		*path++ = 0;
		if (!strcmp(line, "open")) {
			contents(open(path, O_RDONLY));
		} else if (!strcmp(line, "at")) {
			contents(openat(here, path, O_RDONLY));
		} else if (!strcmp(line, "make")) {
			fd = open(path, O_WRONLY | O_CREAT, 0600);
			answer(fd);
			close(fd);
		} else if (!strcmp(line, "stat")) {
			answer(stat(path, &st));
		} else if (!strcmp(line, "chmod")) {
			answer(chmod(path, 0640));
		} else {
			answer(chdir(path));
		}
	}
	return 0;
}
