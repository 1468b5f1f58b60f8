/*
 * stepper_test: does the leash hold?  Each check is what a campaign relies on:
 * every instruction is one step, calls and signals are seen, what sleeps is
 * told from what runs, the kill comes where it was meant to.
 */
#include "tests/fault/common/stepper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void mark_begin(void);
void mark_end(void);
void mark_thread(void);

static volatile int *shared; /* seen by both */

#define MUST(condition)                                                        \
	do {                                                                   \
		if (!(condition)) {                                            \
			printf("FAIL line %d: %s\n", __LINE__, #condition);    \
			exit(1);                                               \
		}                                                              \
	} while (0)

__attribute__((noinline)) void mark_begin(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void mark_end(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void mark_thread(void)
{
	__asm__ volatile("" ::: "memory");
}

static const uintptr_t BEGIN = (uintptr_t)mark_begin;
static const uintptr_t END = (uintptr_t)mark_end;
static const uintptr_t THREAD = (uintptr_t)mark_thread;

static struct stepper *leash(void (*function)(void *))
{
	struct stepper *s = NULL;
	int rc;

	*shared = 0;
	rc = stepper_start_function(function, NULL, &s);
	if (rc == -EPERM || rc == -ENOSYS) {
		printf("skip: no ptrace here: %s\n", strerror(-rc));
		exit(0);
	}
	MUST(rc == 0);
	return s;
}

static struct stepper *leash_at(void (*function)(void *), uintptr_t where)
{
	struct stepper *s = leash(function);

	MUST(stepper_run_to(s, &where, 1, 5000) == STEPPER_OK);
	MUST(stepper_pc(s) == where);
	return s;
}

/* ------------------------------------------------------------ instructions */

static void three_stores(void *unused)
{
	(void)unused;
	mark_begin();
	*shared = 1;
	*shared = 2;
	*shared = 3;
	mark_end();
}

static int steps_to_end(struct stepper *s)
{
	int n = 0;

	while (stepper_pc(s) != END) {
		MUST(stepper_step(s) == STEPPER_OK);
		n++;
	}
	return n;
}

/* Killed after the k-th instruction, for every k: each of the four values is
 * left behind by some k, and they only grow. */
static void every_instruction_is_a_step(void)
{
	struct stepper *s = leash_at(three_stores, BEGIN);
	int n = steps_to_end(s), last = 0, seen = 0;

	stepper_free(s);
	MUST(*shared == 3 && n > 3 && n < 50);
	for (int k = 0; k <= n; k++) {
		s = leash_at(three_stores, BEGIN);
		for (int i = 0; i < k; i++)
			MUST(stepper_step(s) == STEPPER_OK);
		MUST(stepper_kill(s) == STEPPER_ENDED);
		MUST(WTERMSIG(stepper_status(s)) == SIGKILL);
		MUST(*shared >= last);
		last = *shared;
		seen |= 1 << last;
		stepper_free(s);
	}
	MUST(seen == 0xf);
}

static void copy_by_rep(void *unused)
{
	static char from[64], to[64];
	void *a = from, *b = to;
	size_t n = sizeof(from);

	(void)unused;
	mark_begin();
	__asm__ volatile("rep movsb" : "+S"(a), "+D"(b), "+c"(n)::"memory");
	mark_end();
}

static void each_round_of_rep_is_a_step(void)
{
	struct stepper *s = leash_at(copy_by_rep, BEGIN);

	MUST(steps_to_end(s) >= 64);
	stepper_free(s);
}

/* ------------------------------------------------------------ system calls */

static void call_and_read_clock(void *unused)
{
	struct timespec now;

	(void)unused;
	mark_begin();
	(void)getppid();
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* the vdso's */
	*shared = 7;
	mark_end();
}

static void calls_are_seen(void)
{
	struct stepper *s = leash_at(call_and_read_clock, BEGIN);
	long number = 0, n_calls = 0;

	while (stepper_pc(s) != END) {
		if (stepper_at_syscall(s, &number)) {
			MUST(number == SYS_getppid);
			n_calls++;
		}
		MUST(stepper_step(s) == STEPPER_OK);
	}
	MUST(n_calls == 1 && *shared == 7);
	stepper_free(s);
}

static int gate[2];

static void sleep_in_read(void *unused)
{
	char byte;

	(void)unused;
	mark_begin();
	*shared = (int)read(gate[0], &byte, 1);
	mark_end();
}

static int step_until_blocked(struct stepper *s)
{
	int result;

	do
		result = stepper_step(s);
	while (result == STEPPER_OK && stepper_pc(s) != END);
	return result;
}

static void sleepers_are_told(void)
{
	struct stepper *s = leash_at(sleep_in_read, BEGIN);

	MUST(step_until_blocked(s) == STEPPER_BLOCKED);
	MUST(stepper_await(s, 1) == STEPPER_BLOCKED);
	MUST(write(gate[1], "x", 1) == 1);
	MUST(stepper_await(s, 5000) == STEPPER_OK);
	(void)steps_to_end(s);
	MUST(*shared == 1);
	stepper_free(s);

	s = leash_at(sleep_in_read, BEGIN);
	MUST(step_until_blocked(s) == STEPPER_BLOCKED);
	MUST(stepper_kill(s) == STEPPER_ENDED); /* inside the call */
	stepper_free(s);

	s = leash_at(sleep_in_read, BEGIN);
	MUST(step_until_blocked(s) == STEPPER_BLOCKED);
	MUST(stepper_interrupt(s) == STEPPER_OK);
	MUST(step_until_blocked(s) == STEPPER_BLOCKED); /* begun again */
	MUST(write(gate[1], "x", 1) == 1);
	MUST(stepper_run_to(s, &END, 1, 5000) == STEPPER_OK);
	MUST(*shared == 1);
	stepper_free(s);
}

/* ------------------------------------------------------------ signals */

static void add_ten(int signal)
{
	(void)signal;
	*shared += 10;
}

static void doze(void *unused)
{
	struct timespec second = {.tv_sec = 1};

	(void)unused;
	(void)signal(SIGUSR1, add_ten);
	mark_begin();
	*shared += 1;
	(void)nanosleep(&second, NULL);
	mark_end();
}

static void signals_are_passed_on(void)
{
	struct stepper *s = leash_at(doze, BEGIN);

	MUST(kill(stepper_pid(s), SIGUSR1) == 0);
	(void)step_until_blocked(s);
	MUST(*shared == 11);
	MUST(kill(stepper_pid(s), SIGUSR1) == 0);
	MUST(stepper_await(s, 5000) == STEPPER_OK); /* into the handler */
	MUST(stepper_run_to(s, &END, 1, 5000) == STEPPER_OK);
	MUST(*shared == 21);
	stepper_free(s);

	s = leash_at(doze, BEGIN);
	MUST(kill(stepper_pid(s), SIGTERM) == 0);
	MUST(stepper_step(s) == STEPPER_ENDED);
	MUST(WTERMSIG(stepper_status(s)) == SIGTERM);
	stepper_free(s);
}

static void die_of_time(void *unused)
{
	(void)unused;
	for (;;)
		(void)pause();
}

static void a_run_ends_by_its_time(void)
{
	struct stepper *s = leash(die_of_time);

	MUST(stepper_run_to(s, &END, 1, 20) == STEPPER_TIMEOUT);
	MUST(stepper_run_to(s, &END, 1, 20) == STEPPER_TIMEOUT);
	stepper_free(s);
}

/* ------------------------------------------------------------ threads, forks
 */

static void *count_up(void *unused)
{
	(void)unused;
	for (;;) {
		shared[1]++;
		mark_thread();
	}
	return NULL;
}

static void with_a_thread(void *unused)
{
	pthread_t thread;

	(void)unused;
	(void)pthread_create(&thread, NULL, count_up, NULL);
	while (shared[1] < 1000)
		;
	mark_begin();
	*shared = 1;
	mark_end();
	(void)pthread_join(thread, NULL);
}

static void one_thread_is_stepped(void)
{
	struct stepper *s = leash_at(with_a_thread, BEGIN);
	int before = shared[1];

	for (int i = 0; i < 3; i++)
		MUST(stepper_step(s) == STEPPER_OK);
	MUST(shared[1] == before);
	stepper_let_others_run(s, true);
	while (shared[1] == before)
		;
	MUST(stepper_run_to(s, &THREAD, 1, 5000) == STEPPER_OK);
	MUST(stepper_tid(s) != stepper_pid(s));
	for (int i = 0; i < 100; i++)
		MUST(stepper_step(s) == STEPPER_OK);
	MUST(stepper_kill(s) == STEPPER_ENDED);
	stepper_free(s);
}

static void fork_a_child(void *unused)
{
	int status;
	pid_t pid;

	(void)unused;
	pid = fork();
	if (pid == 0) {
		mark_begin();
		*shared = 42;
		mark_end();
		_exit(3);
	}
	(void)waitpid(pid, &status, 0);
	*shared += WEXITSTATUS(status);
	mark_thread();
}

static void a_child_is_followed(void)
{
	struct stepper *s = leash(fork_a_child), *child;

	MUST(stepper_follow_forks(s) == STEPPER_OK);
	MUST(stepper_run_to(s, &BEGIN, 1, 5000) == STEPPER_FORKED);
	child = stepper_take_child(s);
	MUST(child != NULL);
	MUST(stepper_run_to(child, &BEGIN, 1, 5000) == STEPPER_OK);
	(void)steps_to_end(child);
	MUST(stepper_detach(child) == STEPPER_OK);
	MUST(stepper_run_to(s, &THREAD, 1, 5000) == STEPPER_OK);
	MUST(*shared == 45);
	stepper_free(child);
	stepper_free(s);
}

static void an_unwatched_fork_goes_by(void)
{
	struct stepper *s = leash(fork_a_child);

	MUST(stepper_run_to(s, &THREAD, 1, 5000) == STEPPER_OK);
	MUST(*shared == 45);
	stepper_free(s);
}

/* ------------------------------------------------------------ programs */

static void programs_have_symbols(void)
{
	char self[] = "/proc/self/exe", word[] = "marks";
	char *const argv[] = {self, word, NULL};
	char *const env[] = {NULL};
	uintptr_t begin, end, text_begin, text_end;
	struct stepper *s;

	MUST(stepper_start(argv, env, -1, &s) == 0);
	MUST(stepper_symbol(s, NULL, "mark_begin", &begin) == 0);
	MUST(stepper_symbol(s, NULL, "mark_end", &end) == 0);
	MUST(stepper_symbol(s, NULL, "no_such", &end) == -ENOENT);
	MUST(stepper_run_to(s, &begin, 1, 5000) == STEPPER_OK);
	MUST(stepper_text(s, "/libc.so.6", &text_begin, &text_end) == 0);
	MUST(stepper_symbol(s, "/libc.so.6", "getppid", &end) == 0);
	MUST(end >= text_begin && end < text_end);
	MUST(stepper_run_to(s, &end, 1, 5000) == STEPPER_OK);
	MUST(stepper_detach(s) == STEPPER_OK);
	MUST(waitpid(stepper_pid(s), NULL, 0) == stepper_pid(s));
	stepper_free(s);
}

static void marks(void)
{
	mark_begin();
	(void)getppid();
}

static void a_running_process_is_seized(void)
{
	struct stepper *s;
	int status;
	pid_t pid;

	*shared = shared[1] = 0;
	pid = fork();
	if (pid == 0) {
		with_a_thread(NULL);
		_exit(0);
	}
	while (*shared == 0)
		;
	MUST(stepper_seize(pid, &s) == 0);
	MUST(stepper_run_to(s, &THREAD, 1, 5000) == STEPPER_OK);
	MUST(stepper_step(s) == STEPPER_OK);
	MUST(stepper_detach(s) == STEPPER_OK);
	stepper_free(s);
	MUST(waitpid(pid, &status, WNOHANG) == 0);
	MUST(stepper_seize(pid, &s) == 0);
	stepper_free(s);
}

int main(int argc, char *argv[])
{
	if (argc == 2 && strcmp(argv[1], "marks") == 0) {
		marks();
		return 0;
	}
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(shared != MAP_FAILED && pipe(gate) == 0);
	every_instruction_is_a_step();
	each_round_of_rep_is_a_step();
	calls_are_seen();
	sleepers_are_told();
	signals_are_passed_on();
	a_run_ends_by_its_time();
	one_thread_is_stepped();
	a_child_is_followed();
	an_unwatched_fork_goes_by();
	shared[1] = 0;
	programs_have_symbols();
	a_running_process_is_seized();
	printf("the leash holds\n");
	return 0;
}
