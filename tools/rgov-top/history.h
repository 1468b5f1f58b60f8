/*
 * The last minute of a board, from which rates and recent quantiles are worked
 * out: the board itself only has what grew since rgovd's start.
 */
#ifndef RGOV_TOP_HISTORY_H
#define RGOV_TOP_HISTORY_H

#include "tools/board-view/board_view.h"

enum { HISTORY_SAMPLES = 64, HISTORY_SPAN_S = 60 };

struct history_sample {
	uint64_t at_ns;
	uint64_t counters[VIEW_COUNTERS];
	uint64_t waits[SHM_BOARD_BUCKETS];
};

struct history {
	struct history_sample samples[HISTORY_SAMPLES]; /* a ring */
	size_t taken;    /* ever, from this board */
	uint32_t boards; /* of the view, when they were taken */
};

/* What happened between the oldest sample of the last minute and the view. */
struct history_delta {
	double span_s; /* 0: nothing to compare with yet */
	double counters[VIEW_COUNTERS];
	struct board_histogram waits;
};

/* Remembers the view; at most once a second, so that a minute always fits. */
void history_add(struct history *history, const struct board_view *view);

void history_delta(const struct history *history, const struct board_view *view,
	struct history_delta *ret_delta);

#endif
