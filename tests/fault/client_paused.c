/*
 * client_paused GOVERNOR PATH FIRST EVERY PAUSE_MS CHECK: stopped is not dead.
 * Clients are stopped (SIGSTOP), each after another instruction of a path, many
 * at a time; they stand for PAUSE_MS, while an honest client calls without a
 * break; then they go on, and each must end well.  CHECK is "served" where
 * rgovd must have kept all their sessions meanwhile, else "any".
 *
 * Output: as client_paths.
 */
#include "tests/fault/common/holdings.h"
#include "tests/fault/common/honest.h"
#include "tests/fault/common/walk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AT_A_TIME = 400, TRIES = 3, PATIENCE_MS = 20000, SLOW_MS = 1000 };

struct pause {
	const struct client_path *path;
	unsigned int number;
	size_t every;
	uint64_t pause_ns;
	bool is_served;
	struct rgovd_view view;
	struct holdings before;
	struct honest honest;
	pid_t stopped[AT_A_TIME];
	size_t n_stopped;
	unsigned int pauses, adrift, violations;
};

static struct trace trace;

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void violation(struct pause *pause, const char *what, long number)
{
	pause->violations++;
	printf("violation paused %s: %s: %ld\n", pause->path->name, what,
		number);
}

/* ------------------------------------------------------------ stop */

/* The leash is taken off, but not one instruction follows. */
static void stop(struct pause *pause, struct walk *walk)
{
	pid_t pid = stepper_pid(walk->leash);

	(void)kill(pid, SIGSTOP);
	(void)stepper_detach(walk->leash);
	stepper_free(walk->leash);
	pause->stopped[pause->n_stopped++] = pid;
}

static void stop_after(struct pause *pause, size_t k)
{
	for (int i = 0; i < TRIES; i++) {
		struct walk walk = {.go = -1};

		walk_begin(&walk, pause->path, pause->number++);
		if (walk_advance(&walk, &trace, k, WALK_TAIL)) {
			stop(pause, &walk);
			return;
		}
		stepper_free(walk.leash);
	}
	pause->adrift++;
}

/* ------------------------------------------------------------ stand, go on */

static void stand(struct pause *pause)
{
	uint64_t until_ns = now_ns() + pause->pause_ns;
	struct holdings found;

	while (now_ns() < until_ns)
		honest_call(&pause->honest);
	if (!pause->is_served || holdings_read(&pause->view, &found) != 0)
		return;
	/* One pidfd a session. */
	if (found.pidfds != pause->before.pidfds + pause->n_stopped)
		violation(pause, "sessions that stand were ended",
			(long)(pause->before.pidfds + pause->n_stopped) -
				(long)found.pidfds);
}

static void go_on(struct pause *pause)
{
	char text[128];

	for (size_t i = 0; i < pause->n_stopped; i++)
		(void)kill(pause->stopped[i], SIGCONT);
	for (size_t i = 0; i < pause->n_stopped; i++) {
		int status = -1;

		(void)waitpid(pause->stopped[i], &status, 0);
		if (status != 0)
			violation(pause, "ended with status", status);
	}
	pause->pauses += (unsigned int)pause->n_stopped;
	pause->n_stopped = 0;
	honest_call(&pause->honest);
	if (!holdings_come_to(&pause->view, &pause->before, false, PATIENCE_MS,
		    text, sizeof(text)))
		violation(pause, text, 0);
}

static void pause_everywhere(struct pause *pause)
{
	for (size_t k = 0; k <= trace.n; k += pause->every) {
		stop_after(pause, k);
		if (pause->n_stopped == AT_A_TIME) {
			stand(pause);
			go_on(pause);
		}
	}
	stand(pause);
	go_on(pause);
}

/* ------------------------------------------------------------ the program */

static void write_down(struct pause *pause)
{
	struct walk walk = {.go = -1};

	walk_begin(&walk, pause->path, pause->number++);
	if (walk_write_down(&walk, &trace) != STEPPER_OK)
		walk_give_up("the path has no end", 0);
	stepper_free(walk.leash);
}

static void warm_up(struct pause *pause)
{
	char text[128];

	honest_call(&pause->honest);
	honest_call(&pause->honest);
	if (!holdings_of_one_session(&pause->view, PATIENCE_MS, &pause->before,
		    text, sizeof(text)))
		walk_give_up(text, 0);
}

static void report(struct pause *pause)
{
	uint64_t slowest_ms = pause->honest.slowest_ns / 1000000u;

	if (slowest_ms >= SLOW_MS)
		violation(pause, "the honest client waited (ms)",
			(long)slowest_ms);
	pause->violations += pause->honest.failed;
	printf("{\"path\": \"%s\", \"instructions\": %zu, \"pauses\": %u, "
	       "\"adrift\": %u, \"violations\": %u, \"honest\": %u, "
	       "\"slowest_ms\": %llu, \"next\": %u}\n",
		pause->path->name, trace.n, pause->pauses, pause->adrift,
		pause->violations, pause->honest.calls,
		(unsigned long long)slowest_ms, pause->number);
}

int main(int argc, char *argv[])
{
	static struct pause pause;

	if (argc != 7 || (pause.path = client_path_find(argv[2])) == NULL ||
		atoi(argv[4]) < 1) {
		fprintf(stderr, "usage: client_paused GOVERNOR PATH FIRST "
				"EVERY PAUSE_MS served|any\n");
		return 64;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	pause.number = (unsigned int)atoi(argv[3]);
	pause.every = (size_t)atoi(argv[4]);
	pause.pause_ns = (uint64_t)atoi(argv[5]) * 1000000u;
	pause.is_served = strcmp(argv[6], "served") == 0;
	if (honest_start(&pause.honest, pause.number) < 0)
		walk_give_up("fork", errno);
	honest_call(&pause.honest);
	if (rgovd_view_open(&pause.view, argv[1]) < 0)
		walk_give_up("no board", 0);
	warm_up(&pause);
	write_down(&pause);
	pause_everywhere(&pause);
	honest_stop(&pause.honest);
	report(&pause);
	return pause.violations > 0;
}
