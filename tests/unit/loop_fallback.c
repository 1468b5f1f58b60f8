/*
 * What the loop does where the kernel refuses io_uring, as it does in many
 * containers; and what a look without sleeping costs.  Each test runs in a
 * child, under a seccomp filter.
 */
#include "coordinator/loop/loop.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* From here on the system call fails with the error. */
static int refuse(unsigned int number, unsigned int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0
		       ? -errno
		       : 0;
}

enum { CANNOT = 77 };

/* Runs the body in a child; its exit code is the answer. */
static int in_a_child(int (*body)(unsigned int), unsigned int argument)
{
	pid_t child = fork();
	int status = -1;

	if (child == 0)
		_exit(body(argument));
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_ok(int code)
{
	if (code == CANNOT)
		suite_skip("seccomp filters or io_uring are refused here");
	else
		CU_ASSERT_EQUAL(code, 0);
}

static int auto_takes_epoll(unsigned int number, unsigned int error)
{
	struct loop *loop;

	if (refuse(number, error) != 0)
		return CANNOT;
	if (loop_create(LOOP_IO_URING, &loop) != -(int)error)
		return 1;
	if (loop_create(LOOP_AUTO, &loop) != 0)
		return 2;
	if (strcmp(loop_engine_name(loop), "epoll") != 0 ||
		loop_refusal(loop) != -(int)error)
		return 3;
	loop_wake(loop);
	if (loop_step(loop, UINT64_MAX) != 0)
		return 4;
	loop_free(loop);
	return 0;
}

static int without_rings(unsigned int error)
{
	return auto_takes_epoll(SYS_io_uring_setup, error);
}

/* A ring can be made, and not used. */
static int with_useless_rings(unsigned int error)
{
	return auto_takes_epoll(SYS_io_uring_enter, error);
}

/* Whatever the kernel says, `auto` goes on with epoll, and io_uring asked for
 * by name is that error. */
static void falls_back(void)
{
	static const unsigned int errors[] = {
		EPERM, ENOSYS, ENOMEM, EINVAL, EACCES};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		expect_ok(in_a_child(without_rings, errors[i]));
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		expect_ok(in_a_child(with_useless_rings, errors[i]));
}

static int auto_takes_io_uring(unsigned int unused)
{
	struct loop *loop;

	(void)unused;
	if (loop_create(LOOP_IO_URING, &loop) != 0)
		return CANNOT;
	loop_free(loop);
	if (loop_create(LOOP_AUTO, &loop) != 0)
		return 2;
	if (strcmp(loop_engine_name(loop), "io_uring") != 0 ||
		loop_refusal(loop) != 0)
		return 3;
	loop_free(loop);
	return 0;
}

/* Where io_uring works, `auto` takes it. */
static void prefers_io_uring(void)
{
	expect_ok(in_a_child(auto_takes_io_uring, 0));
}

static int sleeps_in_ms(unsigned int error)
{
	struct loop *loop;
	uint64_t until_ns;

	if (loop_create(LOOP_EPOLL, &loop) != 0)
		return 1;
	if (refuse(SYS_epoll_pwait2, error) != 0)
		return CANNOT;
	for (int i = 0; i < 2; i++) {
		until_ns = loop_now_ns() + 2300000;
		if (loop_step(loop, until_ns) != 0)
			return 2;
		if (loop_now_ns() < until_ns)
			return 3;
	}
	loop_free(loop);
	return 0;
}

/* Without epoll_pwait2() the sleep is rounded up to a millisecond. */
static void sleeps_without_pwait2(void)
{
	expect_ok(in_a_child(sleeps_in_ms, ENOSYS));
	expect_ok(in_a_child(sleeps_in_ms, EPERM));
}

static int told;

static void on_ready(struct loop_watch *watch, unsigned int events)
{
	char byte;

	(void)events;
	(void)!read(watch->fd, &byte, 1);
	told++;
}

static int looks_for_free(unsigned int unused)
{
	struct loop_watch watch = {0};
	struct loop *loop;
	int pair[2];

	(void)unused;
	if (loop_create(LOOP_IO_URING, &loop) != 0)
		return CANNOT;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ||
		loop_watch(loop, &watch, pair[0], LOOP_READ, on_ready, NULL) !=
			0)
		return 1;
	if (loop_step(loop, 0) != 0) /* submits the poll */
		return 2;
	if (write(pair[1], "x", 1) != 1)
		return 3;
	while (told == 0) /* seen, by looking alone */
		if (loop_step(loop, 0) < 0)
			return 4;
	if (loop_step(loop, 0) != 0) /* arms the poll again */
		return 5;
	if (refuse(SYS_io_uring_enter, ENOTTY) != 0)
		return CANNOT;
	for (int i = 0; i < 1000; i++) /* any system call would be an error */
		if (loop_step(loop, 0) != 0)
			return 6;
	if (write(pair[1], "x", 1) != 1)
		return 7;
	return 0;
}

/* Under io_uring a look without sleeping enters the kernel only when there is
 * something to fetch. */
static void looks_without_a_system_call(void)
{
	expect_ok(in_a_child(looks_for_free, 0));
}

SUITE("loop_fallback", T(falls_back), T(prefers_io_uring),
	T(sleeps_without_pwait2), T(looks_without_a_system_call))
