/* Clients on their way. */
#include "tests/fault/common/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	STRAY_MAX = 300, /* steps in search of the place */
	STEPS_TO_SLEEP = 1000,
	PATIENCE_MS = 20000,
	RUN_MS = 200, /* a run that has gone astray may sleep for ever */
};

static const uintptr_t BEGIN = (uintptr_t)path_begin;
static const uintptr_t END = (uintptr_t)path_end;

void walk_give_up(const char *why, int code)
{
	printf("cannot: %s: %d\n", why, code);
	exit(2);
}

/* ------------------------------------------------------------ begin */

static void leash_child(struct walk *walk)
{
	struct stepper *parent = walk->leash;

	if (stepper_follow_forks(parent) != STEPPER_OK ||
		stepper_run_to(parent, &BEGIN, 1, PATIENCE_MS) !=
			STEPPER_FORKED)
		walk_give_up("the parent did not fork", 0);
	walk->leash = stepper_take_child(parent);
	walk->parent = stepper_pid(parent);
	(void)stepper_detach(parent);
	stepper_free(parent);
}

void walk_begin(
	struct walk *walk, const struct client_path *path, unsigned int number)
{
	int go[2] = {-1, -1}, rc;

	if ((path->needs & FORKS_WITNESS) != 0 && pipe(go) != 0)
		walk_give_up("pipe", errno);
	walk->go = go[1];
	walk->parent = 0;
	walk->has_turned = false;
	walk->client =
		(struct client){.path = path, .number = number, .go = go[0]};
	rc = stepper_start_function(client_live, &walk->client, &walk->leash);
	if (rc < 0)
		walk_give_up("no ptrace here", rc);
	if (go[0] >= 0)
		(void)close(go[0]);
	if ((path->needs & FORKS_CHILD) != 0)
		leash_child(walk);
	rc = stepper_run_to(walk->leash, &BEGIN, 1, PATIENCE_MS);
	if (rc != STEPPER_OK)
		walk_give_up("the client did not come to its path", rc);
}

/* ------------------------------------------------------------ step */

/* One instruction.  STEPPER_BLOCKED: asleep, and that is the path's end. */
static int step(struct walk *walk, bool *ret_slept)
{
	unsigned int needs = walk->client.path->needs;
	long number = -1;
	bool is_futex =
		stepper_at_syscall(walk->leash, &number) && number == SYS_futex;
	bool turns = (needs & (NEEDS_RELEASE | NEEDS_RESTART)) != 0;
	int result = stepper_step(walk->leash);

	*ret_slept = result == STEPPER_BLOCKED;
	if (result != STEPPER_BLOCKED)
		return result;
	if (is_futex && turns && !walk->has_turned) {
		walk->has_turned = true;
		walk->take_turn(walk->owner);
	} else if (is_futex && (needs & ENDS_ASLEEP) != 0) {
		return STEPPER_BLOCKED;
	}
	return stepper_await(walk->leash, PATIENCE_MS);
}

bool walk_into_sleep(struct walk *walk)
{
	int result = STEPPER_OK;

	/* It may find a word that changes, and go round. */
	for (int i = 0; i < STEPS_TO_SLEEP && result == STEPPER_OK; i++)
		result = stepper_step(walk->leash);
	return result == STEPPER_BLOCKED;
}

/* ------------------------------------------------------------ write down */

static int compare_places(const void *a, const void *b, void *argument)
{
	const struct trace *trace = argument;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;

	if (trace->pc[i] != trace->pc[j])
		return trace->pc[i] < trace->pc[j] ? -1 : 1;
	return i < j ? -1 : i > j;
}

static void find_first_places(struct trace *trace)
{
	size_t *order = calloc(trace->n + 1, sizeof(*order));

	if (order == NULL)
		walk_give_up("no memory", 0);
	for (size_t i = 0; i <= trace->n; i++)
		order[i] = i;
	qsort_r(order, trace->n + 1, sizeof(*order), compare_places, trace);
	for (size_t i = 0; i <= trace->n; i++)
		trace->is_first[order[i]] =
			i == 0 ||
			trace->pc[order[i]] != trace->pc[order[i - 1]];
	free(order);
}

static void note_sleep(struct trace *trace, bool slept, bool was_its_turn)
{
	if (slept && trace->n_sleeps < WALK_SLEEPS_MAX)
		trace->sleeps[trace->n_sleeps++] = trace->n;
	if (was_its_turn)
		trace->turn = trace->n;
}

int walk_write_down(struct walk *walk, struct trace *trace)
{
	int result = STEPPER_OK;

	memset(trace, 0, sizeof(*trace));
	trace->turn = SIZE_MAX;
	for (;;) {
		bool had_turned = walk->has_turned, slept;

		trace->pc[trace->n] = stepper_pc(walk->leash);
		if (trace->pc[trace->n] == END)
			break;
		if (trace->n == WALK_STEPS_MAX)
			return -E2BIG;
		result = step(walk, &slept);
		note_sleep(trace, slept, walk->has_turned != had_turned);
		if (result != STEPPER_OK)
			break;
		trace->n++;
	}
	find_first_places(trace);
	return result;
}

/* ------------------------------------------------------------ find again */

size_t walk_place_before(const struct trace *trace, size_t k)
{
	while (k > 0 && !trace->is_first[k])
		k--;
	return k;
}

static bool run_to_place(
	struct walk *walk, const struct trace *trace, size_t place)
{
	const uintptr_t stops[] = {trace->pc[place], END};

	return place == 0 ||
	       (stepper_run_to(walk->leash, stops, 2, RUN_MS) == STEPPER_OK &&
		       stepper_pc(walk->leash) == trace->pc[place]);
}

/* From place to k, one by one. */
static bool step_from(
	struct walk *walk, const struct trace *trace, size_t place, size_t k)
{
	size_t limit = k - place + STRAY_MAX;
	bool is_on_way = true, slept;

	for (size_t i = place; limit > 0; i++, limit--) {
		uintptr_t pc = stepper_pc(walk->leash);

		is_on_way = is_on_way && i <= k && pc == trace->pc[i];
		if (is_on_way ? i == k : pc == trace->pc[k])
			return true;
		if (pc == END || step(walk, &slept) != STEPPER_OK)
			return false;
	}
	return false;
}

/* To after the instruction that sleeps until its turn comes. */
static bool advance_past_turn(struct walk *walk, const struct trace *trace)
{
	size_t place = walk_place_before(trace, trace->turn);

	return run_to_place(walk, trace, place) &&
	       step_from(walk, trace, place, trace->turn + 1) &&
	       walk->has_turned;
}

bool walk_advance(
	struct walk *walk, const struct trace *trace, size_t k, size_t tail)
{
	size_t place = walk_place_before(trace, k > tail ? k - tail : 0);

	if (place == 0)
		return step_from(walk, trace, 0, k);
	if (trace->turn < k) {
		if (!advance_past_turn(walk, trace))
			return false;
		if (place <= trace->turn)
			return step_from(walk, trace, trace->turn + 1, k);
	}
	return run_to_place(walk, trace, place) &&
	       step_from(walk, trace, place, k);
}
