#include "tools/rgov-top/history.h"

#include <string.h>

static const uint64_t SECOND_NS = 1000000000;

static const struct history_sample *sample(
	const struct history *history, size_t n)
{
	return &history->samples[n % HISTORY_SAMPLES];
}

void history_add(struct history *history, const struct board_view *view)
{
	struct history_sample *next;

	if (history->boards != view->boards) { /* other counters, from 0 */
		history->taken = 0;
		history->boards = view->boards;
	}
	/* A little grace: a redraw can come early. */
	if (history->taken > 0 &&
		view->now_ns - sample(history, history->taken - 1)->at_ns <
			SECOND_NS / 20 * 19)
		return;
	next = &history->samples[history->taken++ % HISTORY_SAMPLES];
	next->at_ns = view->now_ns;
	memcpy(next->counters, view->counters, sizeof(next->counters));
	for (size_t i = 0; i < SHM_BOARD_BUCKETS; i++)
		next->waits[i] = load_relaxed(view->host.wait.buckets[i]);
}

/* The oldest kept sample that is not older than a minute; NULL: none. */
static const struct history_sample *oldest(
	const struct history *history, uint64_t now_ns)
{
	size_t n = history->taken > HISTORY_SAMPLES
			   ? history->taken - HISTORY_SAMPLES
			   : 0;

	for (; n < history->taken; n++)
		if (now_ns - sample(history, n)->at_ns <=
			(HISTORY_SPAN_S + 1) * SECOND_NS)
			return sample(history, n);
	return NULL;
}

/* Counters only grow; one that did not is nothing to be believed. */
static uint64_t growth(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

void history_delta(const struct history *history, const struct board_view *view,
	struct history_delta *ret_delta)
{
	const struct history_sample *from = oldest(history, view->now_ns);

	memset(ret_delta, 0, sizeof(*ret_delta));
	if (from == NULL || history->boards != view->boards)
		return;
	ret_delta->span_s = (double)(view->now_ns - from->at_ns) * 1e-9;
	for (size_t i = 0; i < VIEW_COUNTERS; i++)
		ret_delta->counters[i] =
			(double)growth(from->counters[i], view->counters[i]);
	for (size_t i = 0; i < SHM_BOARD_BUCKETS; i++)
		store_relaxed(ret_delta->waits.buckets[i],
			growth(from->waits[i],
				load_relaxed(view->host.wait.buckets[i])));
}
