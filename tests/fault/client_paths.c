/*
 * client_paths GOVERNOR PATH FIRST EVERY: performs a path of a client
 * (client_path.h) once, instruction by instruction, and writes down where it
 * went; then begins it anew for every k and kills it after k instructions, and
 * once inside each system call in which it slept.  After each kill, on the one
 * rgovd that serves them all: an honest client gets its answer, and everything
 * that the dead one had is back.  EVERY n takes each n-th k only; FIRST is the
 * first number for bodies.
 *
 * Output: "answer" lines (client_path.h), "violation" lines, "restart" where
 * rgovd is to be replaced (an empty line is the answer to it), and a last line
 * of JSON.  Exit status 1 when there were violations.
 */
#include "tests/fault/common/client_path.h"
#include "tests/fault/common/holdings.h"
#include "tests/fault/common/honest.h"
#include "tests/fault/common/walk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	/* Of a loop, the first instructions are all killed, later every n-th:
	 * each needs as many steps. */
	DEEP = 2000,
	DEEP_EVERY = 997,
	PATIENCE_MS = 20000,
	TRIES = 3,
	VIOLATIONS_MAX = 10,
	LOOKS_MAX = 100000,
	WALK_EVERY = 256, /* kills between two walks over the board */
};

struct campaign {
	const struct client_path *path;
	const char *governor;
	unsigned int number;
	struct rgovd_view view;
	struct holdings expected;
	struct honest honest;
	unsigned int kills, inside, adrift, skipped, violations;
};

static struct trace trace;
static const uintptr_t END = (uintptr_t)path_end;

__attribute__((format(printf, 2, 3))) static void violation(
	struct campaign *campaign, const char *format, ...)
{
	va_list args;

	campaign->violations++;
	printf("violation %s: ", campaign->path->name);
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* ------------------------------------------------------------ one client */

/* What it has submitted is in rgovd's queue before it goes on, so that it finds
 * the same words each time. */
static void wait_until_queued(const struct campaign *campaign)
{
	const struct timespec pause = {.tv_nsec = 50000};

	for (int i = 0; i < LOOKS_MAX; i++) {
		if (load_relaxed(campaign->view.board->host.queued) > 0)
			return;
		(void)nanosleep(&pause, NULL);
	}
	walk_give_up("nothing is queued", 0);
}

static void ask_for_restart(struct campaign *campaign)
{
	char line[8];

	printf("restart\n");
	if (fgets(line, sizeof(line), stdin) == NULL)
		walk_give_up("nobody restarts rgovd", 0);
	rgovd_view_close(&campaign->view);
	if (rgovd_view_open(&campaign->view, campaign->governor) < 0)
		walk_give_up("no board after a restart", 0);
}

/* It sleeps until something happens: that happens now. */
static void take_turn(void *owner)
{
	struct campaign *campaign = owner;

	if ((campaign->path->needs & NEEDS_RELEASE) != 0)
		honest_hold(&campaign->honest, false);
	if ((campaign->path->needs & NEEDS_RESTART) != 0)
		ask_for_restart(campaign);
}

/* A client that stands before its path. */
static void begin(struct walk *walk, struct campaign *campaign)
{
	*walk = (struct walk){.take_turn = take_turn, .owner = campaign};
	walk_begin(walk, campaign->path, campaign->number++);
	if ((campaign->path->needs & NEEDS_RELEASE) != 0)
		wait_until_queued(campaign);
}

/* ------------------------------------------------------------ its end */

static void reap_parent(struct campaign *campaign, const struct walk *walk)
{
	int status = 0;

	/* It has been waiting for its own answer. */
	honest_hold(&campaign->honest, false);
	if (waitpid(walk->parent, &status, 0) != walk->parent || status != 0)
		violation(campaign, "the parent ended with status %x",
			(unsigned int)status);
}

/* The child of a dead parent calls, on a session of its own. */
static void hear_witness(struct campaign *campaign, const struct walk *walk)
{
	int status = 0;

	if (write(walk->go, "x", 1) != 1 || waitpid(-1, &status, 0) < 0 ||
		status != 0)
		violation(campaign, "the witness ended with status %x",
			(unsigned int)status);
	(void)close(walk->go);
}

static void compare(struct campaign *campaign, const char *place, size_t k)
{
	bool is_busy = (campaign->path->needs & NEEDS_BUSY) != 0;
	char text[128];

	honest_hold(&campaign->honest, is_busy);
	honest_call(&campaign->honest);
	if (holdings_come_to(&campaign->view, &campaign->expected, false,
		    PATIENCE_MS, text, sizeof(text)))
		return;
	violation(campaign, "%s %zu of %zu: %s", place, k, trace.n, text);
	(void)holdings_read(&campaign->view, &campaign->expected);
}

/* The process is gone: is all that it had? */
static void conclude(struct campaign *campaign, struct walk *walk,
	const char *place, size_t k)
{
	stepper_free(walk->leash);
	if (walk->parent != 0)
		reap_parent(campaign, walk);
	compare(campaign, place, k);
	if ((campaign->path->needs & FORKS_WITNESS) != 0) {
		hear_witness(campaign, walk);
		compare(campaign, place, k);
	}
}

/* ------------------------------------------------------------ the trace */

/* Once all the way, and then on to the end of the client's life. */
static void write_down(struct campaign *campaign)
{
	bool sleeps = (campaign->path->needs & ENDS_ASLEEP) != 0;
	struct walk walk;
	int result;

	begin(&walk, campaign);
	result = walk_write_down(&walk, &trace);
	if (result != (sleeps ? STEPPER_BLOCKED : STEPPER_OK))
		walk_give_up("the path has no end", result);
	if (!sleeps) {
		if ((campaign->path->needs & FORKS_WITNESS) != 0)
			honest_hold(&campaign->honest, false);
		result = stepper_run_to(walk.leash, &END, 1, PATIENCE_MS);
		if (result != STEPPER_ENDED || stepper_status(walk.leash) != 0)
			violation(campaign, "unharmed, it ended with %d, %x",
				result,
				(unsigned int)stepper_status(walk.leash));
	}
	conclude(campaign, &walk, "unharmed after", trace.n);
}

/* ------------------------------------------------------------ the kills */

static void kill_after(struct campaign *campaign, size_t k)
{
	static const size_t tails[TRIES] = {
		WALK_TAIL, 50 * WALK_TAIL, 500 * WALK_TAIL};
	struct walk walk;
	bool is_there = false;

	for (int i = 0; i < TRIES && !is_there; i++) {
		begin(&walk, campaign);
		/* Where rgovd was slower, or faster, than when the trace was
		 * made, the way differs: a longer tail is more like it. */
		is_there = walk_advance(&walk, &trace, k, tails[i]);
		if (!is_there && i + 1 < TRIES) {
			(void)stepper_kill(walk.leash);
			conclude(campaign, &walk, "adrift after", k);
			campaign->adrift++;
		}
	}
	(void)stepper_kill(walk.leash);
	conclude(campaign, &walk, "killed after", k);
	if (is_there)
		campaign->kills++;
	else
		campaign->adrift++;
}

/* In the system call that is the k-th instruction, asleep. */
static void kill_inside(struct campaign *campaign, size_t k)
{
	struct walk walk;
	bool is_there;

	begin(&walk, campaign);
	is_there = walk_advance(&walk, &trace, k, WALK_TAIL) &&
		   walk_into_sleep(&walk);
	(void)stepper_kill(walk.leash);
	conclude(campaign, &walk, "killed inside", k);
	if (is_there)
		campaign->inside++;
	else
		campaign->adrift++;
}

static bool is_deep_in_loop(size_t k)
{
	return k - walk_place_before(&trace, k) > DEEP && k % DEEP_EVERY != 0;
}

static void kill_everywhere(struct campaign *campaign, size_t every)
{
	for (size_t i = 0; i < trace.n_sleeps; i++)
		kill_inside(campaign, trace.sleeps[i]);
	for (size_t k = 0; k <= trace.n; k += every) {
		if (campaign->violations >= VIOLATIONS_MAX)
			return;
		if (is_deep_in_loop(k)) {
			campaign->skipped++;
			continue;
		}
		kill_after(campaign, k);
		if (k % WALK_EVERY == 0)
			campaign->violations +=
				holdings_check_board(&campaign->view, false);
	}
}

/* ------------------------------------------------------------ the campaign */

/* The honest client's slots have all been used, as they will be. */
static void warm_up(struct campaign *campaign)
{
	bool is_busy = (campaign->path->needs & NEEDS_BUSY) != 0;
	struct honest *honest = &campaign->honest;
	struct holdings *expected = &campaign->expected;
	char text[128];

	honest_call(honest);
	honest_hold(honest, true);
	honest_call(honest);
	honest_hold(honest, false);
	honest_call(honest);
	if (!holdings_of_one_session(
		    &campaign->view, PATIENCE_MS, expected, text, sizeof(text)))
		walk_give_up(text, 0);
	honest_hold(honest, is_busy);
	if (is_busy) {
		expected->running = expected->live = 1;
		expected->tokens_reserved = HONEST_HELD_TOKENS;
	}
}

static void check_at_rest(struct campaign *campaign)
{
	char text[128];

	if ((campaign->path->needs & NEEDS_BUSY) != 0) {
		honest_hold(&campaign->honest, false);
		campaign->expected.running--;
		campaign->expected.live--;
		campaign->expected.tokens_reserved = 0;
	}
	honest_call(&campaign->honest);
	if (!holdings_come_to(&campaign->view, &campaign->expected, true,
		    PATIENCE_MS, text, sizeof(text)))
		violation(campaign, "at rest: %s", text);
	campaign->violations += holdings_check_board(&campaign->view, true);
	if (load_relaxed(campaign->view.board->counters.sessions_closed) != 0)
		violation(campaign, "rgovd took a client for an attacker");
	campaign->violations += campaign->honest.failed;
}

static void report(const struct campaign *campaign)
{
	printf("{\"path\": \"%s\", \"instructions\": %zu, \"kills\": %u, "
	       "\"inside\": %u, \"adrift\": %u, \"skipped\": %u, "
	       "\"violations\": %u, "
	       "\"honest\": %u, \"next\": %u}\n",
		campaign->path->name, trace.n, campaign->kills,
		campaign->inside, campaign->adrift, campaign->skipped,
		campaign->violations, campaign->honest.calls, campaign->number);
}

int main(int argc, char *argv[])
{
	static struct campaign campaign;

	if (argc != 5 || (campaign.path = client_path_find(argv[2])) == NULL ||
		atoi(argv[4]) < 1) {
		fprintf(stderr,
			"usage: client_paths GOVERNOR PATH FIRST EVERY\n");
		return 64;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	campaign.governor = argv[1];
	campaign.number = (unsigned int)atoi(argv[3]);
	if (honest_start(&campaign.honest, campaign.number) < 0)
		walk_give_up("fork", errno);
	honest_call(&campaign.honest);
	if (rgovd_view_open(&campaign.view, campaign.governor) < 0)
		walk_give_up("no board", 0);
	warm_up(&campaign);
	write_down(&campaign);
	kill_everywhere(&campaign, (size_t)atoi(argv[4]));
	check_at_rest(&campaign);
	honest_stop(&campaign.honest);
	report(&campaign);
	return campaign.violations > 0;
}
