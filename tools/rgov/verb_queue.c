/* rgov queue: what waits, and for what, from the board: rgovd is not asked. */
#include "tools/rgov/rgov_command.h"

#include "tools/board-view/board_json.h"
#include "tools/board-view/board_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* In order: lane by lane, and who waits longest where nothing is known yet. */
static int compare(const void *a, const void *b)
{
	const struct board_live *one = *(const struct board_live *const *)a;
	const struct board_live *other = *(const struct board_live *const *)b;
	int order = strcmp(one->model, other->model);

	if (order == 0)
		order = (one->position > other->position) -
			(one->position < other->position);
	if (order == 0)
		order = (one->request > other->request) -
			(one->request < other->request);
	return order;
}

static size_t collect(const struct board_view *view,
	const struct board_live *ret_waiting[SHM_BOARD_LIVE])
{
	size_t n = 0;

	for (size_t i = 0; i < SHM_BOARD_LIVE; i++)
		if (view_live_waits(&view->live[i]))
			ret_waiting[n++] = &view->live[i];
	qsort(ret_waiting, n, sizeof(void *), compare);
	return n;
}

static void print_row(
	const struct board_view *view, const struct board_live *live)
{
	(void)printf("%8" PRIu64 "  %-16s %-30s %9.3f  ", live->request,
		live->user, live->model, view_live_wait_s(view, live));
	if (live->as_of_ns == 0)
		(void)puts("       -         -          -  just came");
	else
		(void)printf("%8" PRIu32 " %9.3f  %9.3f  %s\n", live->position,
			view_live_predicted_s(view, live),
			view_live_held_s(view, live),
			shm_reason_text(live->held_by));
}

static int print_queue(const struct board_view *view)
{
	static const struct board_live *waiting[SHM_BOARD_LIVE];
	size_t n = collect(view, waiting);

	(void)printf("%8s  %-16s %-30s %9s  %8s %9s  %9s  %s\n", "request",
		"user", "model", "waited_s", "position", "starts_s", "held_s",
		"held by");
	for (size_t i = 0; i < n; i++)
		print_row(view, waiting[i]);
	if (load_relaxed(view->header.live_hidden) != 0)
		(void)printf("and %" PRIu64
			     " more, for which the board has no room\n",
			load_relaxed(view->header.live_hidden));
	return fflush(stdout) == EOF || ferror(stdout) ? -EIO : 0;
}

int verb_queue(struct invocation *invocation)
{
	struct board_view *view;
	bool json = false;
	char words[512];
	int rc;

	while (next_option(invocation) != -1)
		json = true; /* 'j', the only one */
	expect_operands(invocation, 0);
	rc = view_open(invocation->name, &view);
	if (rc < 0) {
		view_open_error(invocation->name, rc, words, sizeof(words));
		return complain(invocation, EX_UNAVAILABLE, "%s", words);
	}
	rc = json ? board_json_print_queue(view, stdout) : print_queue(view);
	if (rc < 0) {
		rc = complain(invocation, rc == -ENOMEM ? EX_OSERR : EX_IOERR,
			"cannot print: %s", strerror(-rc));
	} else if (view->health != VIEW_OK) {
		view_health_text(view, words, sizeof(words));
		(void)complain(invocation, 0, "%s", words);
	}
	view_free(view);
	return rc;
}
