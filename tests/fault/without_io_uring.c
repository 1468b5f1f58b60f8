/*
 * Runs a program where the kernel refuses io_uring, as the seccomp filters of
 * containers do (with EPERM, which is also what io_uring_disabled=2 of sysctl
 * answers).
 *
 * usage: without_io_uring setup|enter PROGRAM [ARGUMENT...]
 *
 * setup: all of it.  enter: a ring can be made, but not used.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

enum { CANNOT = 125 };

/* From here on the system calls from `first` to io_uring_register fail. */
static int refuse_from(unsigned int first)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
		BPF_JUMP(
			BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char *argv[])
{
	int late = argc > 2 && strcmp(argv[1], "enter") == 0;

	if (argc < 3 || (!late && strcmp(argv[1], "setup") != 0)) {
		fputs("usage: without_io_uring setup|enter PROGRAM...\n",
			stderr);
		return EX_USAGE;
	}
	if (refuse_from(late ? SYS_io_uring_enter : SYS_io_uring_setup) != 0) {
		perror("without_io_uring: seccomp");
		return CANNOT;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return CANNOT;
}
