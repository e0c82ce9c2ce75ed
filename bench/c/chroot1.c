/*
 * chroot1 COMMAND [ARG...]: the least that a setuid-root launcher can do, in one
 * process: chroot, chdir, drop, exec. It decides nothing, checks nothing and
 * writes no log; it shows where the floor is.
 *
 * Compile with -DROOT='"/path/of/jail"' -DTARGET_UID=1 -DTARGET_GID=1.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };

	if (argc < 2)
		return 125;
	if (chroot(ROOT) < 0 || chdir("/") < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(TARGET_GID, TARGET_GID, TARGET_GID) < 0 || setresuid(TARGET_UID, TARGET_UID, TARGET_UID) < 0) {
		perror("chroot1: cannot enter the jail");
		return 125;
	}
	execve(argv[1], argv + 1, env);
	perror("chroot1: cannot run the command");
	return 126;
}
