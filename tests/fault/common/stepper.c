/* Run, step, look. */
#include "tests/fault/common/stepper_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------ run */

void stepper_let_others_run(struct stepper *s, bool run)
{
	s->others_run = run;
	if (run)
		leash_resume_others(s);
}

int stepper_follow_forks(struct stepper *s)
{
	s->options |= PTRACE_O_TRACEFORK;
	for (size_t i = 0; i < s->n_threads; i++)
		if (ptrace(PTRACE_SETOPTIONS, s->threads[i].tid, NULL,
			    s->options) != 0)
			return -errno;
	return STEPPER_OK;
}

/* A fork in the middle of a run has copied the breakpoints. */
static void leash_child(struct stepper *s)
{
	if (s->forked == 0)
		return;
	s->child = leash_make(s->forked);
	s->forked = 0;
	if (s->child == NULL)
		return;
	s->child->options = s->options;
	if (leash_first_stop(s->child, EVENT_HALT) == 0)
		leash_restore_text(s, s->child->pid);
}

struct stepper *stepper_take_child(struct stepper *s)
{
	struct stepper *child = s->child;

	s->child = NULL;
	return child;
}

static int result_of(struct stepper *s, enum event event)
{
	leash_child(s);
	if (s->ended)
		return STEPPER_ENDED;
	switch (event) {
	case EVENT_FORK:
		return STEPPER_FORKED;
	case EVENT_EXEC:
		return STEPPER_EXECED;
	case EVENT_EXIT: /* the chosen thread alone */
		return -ESRCH;
	case EVENT_NONE:
	case EVENT_TRAP:
	case EVENT_HALT:
		return STEPPER_OK;
	}
	return STEPPER_OK;
}

/* Serves reports until one ends the run; -1: not by until_ns. */
static int run_until(struct stepper *s, uint64_t until_ns)
{
	for (;;) {
		struct thread *thread;
		enum event event;
		uint64_t now;
		pid_t tid;

		if (s->ended)
			return STEPPER_ENDED;
		if (!leash_poll_all(s, &tid, &event)) {
			now = leash_now_ns();
			if (now >= until_ns)
				return STEPPER_TIMEOUT;
			leash_sleep(until_ns - now < 1000000000u
					    ? until_ns - now
					    : 1000000000u);
			continue;
		}
		if (event == EVENT_EXIT)
			continue;
		thread = leash_find(s, tid);
		if (event == EVENT_FORK || event == EVENT_EXEC ||
			(event == EVENT_TRAP && leash_rewind(s, thread))) {
			s->chosen = tid;
			return result_of(s, event);
		}
		leash_resume(thread, PTRACE_CONT);
	}
}

static uint64_t time_limit(int timeout_ms)
{
	return timeout_ms < 0
		       ? UINT64_MAX
		       : leash_now_ns() + (uint64_t)timeout_ms * 1000000u;
}

static int run_with_breakpoints(struct stepper *s, int timeout_ms)
{
	int result;

	leash_resume_others(s);
	leash_resume(leash_chosen(s), PTRACE_CONT);
	result = run_until(s, time_limit(timeout_ms));
	if (result != STEPPER_ENDED)
		leash_stop_all(s);
	return s->ended ? (int)STEPPER_ENDED : result;
}

int stepper_run_to(
	struct stepper *s, const uintptr_t *addresses, size_t n, int timeout_ms)
{
	int result = STEPPER_OK, rc = 0;

	if (s->ended)
		return STEPPER_ENDED;
	leash_stop_all(s);
	for (size_t i = 0; i < n; i++) {
		if (addresses[i] != stepper_pc(s))
			continue;
		result = stepper_step(s);
		if (result == STEPPER_BLOCKED)
			result = stepper_interrupt(s);
		if (result != STEPPER_OK)
			return result;
		break;
	}
	leash_stop_all(s);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = leash_insert_breakpoint(s, addresses[i]);
	if (rc == 0)
		result = run_with_breakpoints(s, timeout_ms);
	leash_remove_breakpoints(s);
	if (s->others_run && !s->ended)
		leash_resume_others(s);
	return rc < 0 ? rc : result;
}

static bool is_asleep(const struct stepper *s)
{
	char path[64], text[256], *state;
	ssize_t n;
	int fd;

	(void)snprintf(
		path, sizeof(path), "/proc/%d/task/%d/stat", s->pid, s->chosen);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'S';
}

/* Goes on until the step is done, or the thread is asleep and the time over.
 * What cannot sleep is waited for without looking at the clock. */
static int finish_step(struct stepper *s, bool can_sleep, uint64_t until_ns)
{
	pid_t tid = s->chosen;

	for (;;) {
		struct thread *thread;
		enum event event;

		if (s->n_threads > 1)
			leash_serve_others(s);
		thread = leash_find(s, tid);
		if (thread == NULL)
			return s->ended ? (int)STEPPER_ENDED : -ESRCH;
		if (!leash_poll(s, thread, can_sleep ? WNOHANG : 0, &event)) {
			leash_sleep(LOOK_NS);
			if (leash_now_ns() < until_ns || !is_asleep(s))
				continue;
			/* It may have woken and stopped between the looks. */
			if (!leash_poll(s, thread, WNOHANG, &event))
				return STEPPER_BLOCKED;
		}
		if (event != EVENT_NONE && event != EVENT_HALT)
			return result_of(s, event);
		/* A signal on its way in, or out of a stop. */
		can_sleep = true;
		leash_resume(thread, PTRACE_SINGLESTEP);
	}
}

int stepper_step(struct stepper *s)
{
	bool can_sleep;

	if (s->ended)
		return STEPPER_ENDED;
	can_sleep = s->n_threads > 1 ||
		    leash_chosen(s)->interrupted_at == stepper_pc(s) ||
		    stepper_at_syscall(s, NULL);
	leash_resume(leash_chosen(s), PTRACE_SINGLESTEP);
	return finish_step(s, can_sleep, 0);
}

int stepper_await(struct stepper *s, int timeout_ms)
{
	return s->ended ? (int)STEPPER_ENDED
			: finish_step(s, true, time_limit(timeout_ms));
}

int stepper_interrupt(struct stepper *s)
{
	if (!s->ended)
		leash_stop_all(s);
	return s->ended ? STEPPER_ENDED : STEPPER_OK;
}

/* ------------------------------------------------------------ look */

pid_t stepper_pid(const struct stepper *s)
{
	return s->pid;
}

pid_t stepper_tid(const struct stepper *s)
{
	return s->chosen;
}

int stepper_status(const struct stepper *s)
{
	return s->status;
}

uintptr_t stepper_pc(const struct stepper *s)
{
	return leash_pc(s->chosen);
}

int stepper_registers(const struct stepper *s, struct user_regs_struct *ret)
{
	return ptrace(PTRACE_GETREGS, s->chosen, NULL, ret) == 0 ? 0 : -errno;
}

bool stepper_at_syscall(const struct stepper *s, long *ret_number)
{
	static const unsigned char instruction[] = {0x0f, 0x05};
	uintptr_t pc = stepper_pc(s);
	unsigned char found[2];
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, s->chosen, (void *)pc, NULL);
	if (errno == 0) /* the quick way, except at a mapping's end */
		memcpy(found, &word, sizeof(found));
	else if (stepper_read(s, pc, found, sizeof(found)) != sizeof(found))
		return false;
	if (memcmp(found, instruction, sizeof(found)) != 0)
		return false;
	if (ret_number != NULL)
		*ret_number = ptrace(PTRACE_PEEKUSER, s->chosen,
			offsetof(struct user_regs_struct, rax), NULL);
	return true;
}

ssize_t stepper_read(
	const struct stepper *s, uintptr_t address, void *ret, size_t n)
{
	struct iovec to = {.iov_base = ret, .iov_len = n};
	struct iovec from = {.iov_base = (void *)address, .iov_len = n};
	ssize_t got = process_vm_readv(s->pid, &to, 1, &from, 1, 0);

	return got >= 0 ? got : -errno;
}
