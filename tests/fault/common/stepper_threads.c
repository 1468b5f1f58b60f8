/* The threads on the leash: what they report, how they stop and go on, and the
 * breakpoints in their text. */
#include "tests/fault/common/stepper_inside.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t leash_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Sleeps until a child has something to report, or the time is over. */
void leash_sleep(uint64_t ns)
{
	struct timespec limit = {.tv_sec = (time_t)(ns / 1000000000u),
		.tv_nsec = (long)(ns % 1000000000u)};
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)sigtimedwait(&child, NULL, &limit);
}

void leash_block_sigchld(void)
{
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)pthread_sigmask(SIG_BLOCK, &child, NULL);
}
/* ------------------------------------------------------------ threads */

struct thread *leash_find(struct stepper *s, pid_t tid)
{
	for (size_t i = 0; i < s->n_threads; i++)
		if (s->threads[i].tid == tid)
			return &s->threads[i];
	return NULL;
}

struct thread *leash_add(struct stepper *s, pid_t tid)
{
	struct thread *thread = leash_find(s, tid);

	if (thread == NULL && s->n_threads < THREADS_MAX) {
		thread = &s->threads[s->n_threads++];
		*thread = (struct thread){.tid = tid};
	}
	return thread;
}

/* The leader stays first, also when it has ended before the others. */
static void remove_thread(struct stepper *s, struct thread *thread)
{
	size_t i = (size_t)(thread - s->threads);

	if (i == 0)
		return;
	if (s->chosen == thread->tid)
		s->chosen = s->pid;
	s->threads[i] = s->threads[--s->n_threads];
}

struct thread *leash_chosen(struct stepper *s)
{
	return leash_find(s, s->chosen);
}

uintptr_t leash_pc(pid_t tid)
{
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, tid,
		offsetof(struct user_regs_struct, rip), NULL);
}

static void set_pc(pid_t tid, uintptr_t pc)
{
	(void)ptrace(PTRACE_POKEUSER, tid,
		offsetof(struct user_regs_struct, rip), (void *)pc);
}

/* A thread that was killed meanwhile does not go on; it reports its end. */
void leash_resume(struct thread *thread, int how)
{
	long request = thread->listening ? (long)PTRACE_LISTEN : how;
	long signal = thread->listening ? 0 : thread->signal;

	(void)ptrace(request, thread->tid, NULL, (void *)signal);
	*thread = (struct thread){
		.tid = thread->tid, .interrupted_at = thread->interrupted_at};
}

/* ------------------------------------------------------------ reports */

static enum event note_exit(
	struct stepper *s, struct thread *thread, int status)
{
	if (thread->tid == s->pid) {
		s->ended = true;
		s->status = status;
	}
	remove_thread(s, thread);
	return EVENT_EXIT;
}

static enum event note_exec(struct stepper *s)
{
	/* The others are gone, and the one that is left is the leader. */
	s->n_threads = 1;
	s->chosen = s->pid;
	s->n_breakpoints = 0;
	return EVENT_EXEC;
}

static bool is_trap_of_ours(pid_t tid)
{
	siginfo_t info;

	if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) != 0)
		return false;
	return info.si_code == TRAP_TRACE || info.si_code == TRAP_BRKPT ||
	       info.si_code == SI_KERNEL || info.si_code == SIGTRAP;
}

static enum event note_stop(
	struct stepper *s, struct thread *thread, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	unsigned long message = 0;

	thread->stopped = true;
	if (event == 0 && signal == SIGTRAP && is_trap_of_ours(thread->tid))
		return EVENT_TRAP;
	thread->interrupted_at = leash_pc(thread->tid);
	if (event == 0) {
		thread->signal = signal;
		return EVENT_NONE;
	}
	(void)ptrace(PTRACE_GETEVENTMSG, thread->tid, NULL, &message);
	switch (event) {
	case PTRACE_EVENT_STOP:
		thread->listening = signal != SIGTRAP;
		return thread->listening ? EVENT_NONE : EVENT_HALT;
	case PTRACE_EVENT_CLONE:
		(void)leash_add(s, (pid_t)message);
		return EVENT_NONE;
	case PTRACE_EVENT_FORK:
		s->forked = (pid_t)message;
		return EVENT_FORK;
	case PTRACE_EVENT_EXEC:
		return note_exec(s);
	default:
		return EVENT_NONE;
	}
}

static enum event note(struct stepper *s, struct thread *thread, int status)
{
	return WIFSTOPPED(status) ? note_stop(s, thread, status)
				  : note_exit(s, thread, status);
}

/* A report of that thread, if there is one. */
bool leash_poll(struct stepper *s, struct thread *thread, int flags,
	enum event *ret_event)
{
	int status;
	pid_t tid;

	do
		tid = waitpid(thread->tid, &status, __WALL | flags);
	while (tid < 0 && errno == EINTR);
	if (tid == 0)
		return false;
	if (tid < 0) /* gone without a word: as after an exec */
		status = 0;
	*ret_event = note(s, thread, status);
	return true;
}

/* The next report of any thread that runs. */
bool leash_poll_all(struct stepper *s, pid_t *ret_tid, enum event *ret_event)
{
	for (size_t i = 0; i < s->n_threads; i++) {
		struct thread *thread = &s->threads[i];

		*ret_tid = thread->tid;
		if (!thread->stopped &&
			leash_poll(s, thread, WNOHANG, ret_event))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------ all threads */

/* Everything stands still afterwards, with what was under way remembered. */
void leash_stop_all(struct stepper *s)
{
	for (size_t i = 0; i < s->n_threads; i++)
		if (!s->threads[i].stopped)
			(void)ptrace(PTRACE_INTERRUPT, s->threads[i].tid, NULL,
				NULL);
	/* The list may grow and shrink in the middle: begin again each time. */
	for (size_t i = 0; i < s->n_threads && !s->ended;) {
		struct thread *thread = &s->threads[i];
		enum event event;

		if (thread->stopped) {
			i++;
			continue;
		}
		(void)leash_poll(s, thread, 0, &event);
		/* A breakpoint that it came to at the same time is found again
		 * when it goes on. */
		if (event == EVENT_TRAP)
			(void)leash_rewind(s, thread);
		i = 0;
	}
}

void leash_resume_others(struct stepper *s)
{
	for (size_t i = 0; i < s->n_threads; i++)
		if (s->threads[i].stopped && s->threads[i].tid != s->chosen)
			leash_resume(&s->threads[i], PTRACE_CONT);
}

/* Reports of the others while the chosen one is stepped. */
void leash_serve_others(struct stepper *s)
{
	for (size_t i = 0; i < s->n_threads; i++) {
		struct thread *thread = &s->threads[i];
		enum event event;

		if (thread->tid != s->chosen && !thread->stopped &&
			leash_poll(s, thread, WNOHANG, &event) &&
			event != EVENT_EXIT)
			leash_resume(thread, PTRACE_CONT);
	}
}

/* ------------------------------------------------------------ breakpoints */

#define INT3 0xccUL

int leash_insert_breakpoint(struct stepper *s, uintptr_t address)
{
	long word;

	if (s->n_breakpoints == BREAKPOINTS_MAX)
		return -ENOSPC;
	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, s->chosen, (void *)address, NULL);
	if (errno != 0)
		return -errno;
	s->breakpoints[s->n_breakpoints++] =
		(struct breakpoint){.address = address, .original = word};
	word = (long)(((unsigned long)word & ~0xffUL) | INT3);
	return ptrace(PTRACE_POKETEXT, s->chosen, (void *)address,
		       (void *)word) == 0
		       ? 0
		       : -errno;
}

/* The last first: two may share a word. */
void leash_restore_text(const struct stepper *s, pid_t tid)
{
	for (size_t i = s->n_breakpoints; i-- > 0;)
		(void)ptrace(PTRACE_POKETEXT, tid,
			(void *)s->breakpoints[i].address,
			(void *)s->breakpoints[i].original);
}

void leash_remove_breakpoints(struct stepper *s)
{
	if (!s->ended)
		leash_restore_text(s, s->chosen);
	s->n_breakpoints = 0;
}

/* Was it a breakpoint that this thread has come to?  Then it stands there. */
bool leash_rewind(struct stepper *s, const struct thread *thread)
{
	uintptr_t pc = leash_pc(thread->tid);

	for (size_t i = 0; i < s->n_breakpoints; i++) {
		if (s->breakpoints[i].address == pc - 1) {
			set_pc(thread->tid, pc - 1);
			return true;
		}
	}
	return false;
}
