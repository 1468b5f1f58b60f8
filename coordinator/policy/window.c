/* The window: a growing ring of stamps. */
#include "coordinator/policy/window.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 64 };

int window_init(struct window *window, uint32_t limit, uint64_t span_ns)
{
	*window = (struct window){.capacity = FIRST_CAPACITY};
	window_set(window, limit, span_ns, false);
	window->stamps = malloc(FIRST_CAPACITY * sizeof(*window->stamps));
	return window->stamps == NULL ? -ENOMEM : 0;
}

void window_fini(struct window *window)
{
	free(window->stamps);
	*window = (struct window){0};
}

void window_set(
	struct window *window, uint32_t limit, uint64_t span_ns, bool is_smooth)
{
	window->limit = limit;
	window->span_ns = span_ns;
	window->interval_ns =
		is_smooth && limit != 0 ? (span_ns + limit - 1) / limit : 0;
}

static uint64_t *stamp_at(const struct window *window, uint32_t i)
{
	return &window->stamps[(window->oldest + i) & (window->capacity - 1)];
}

static void drop_oldest(struct window *window)
{
	window->oldest = (window->oldest + 1) & (window->capacity - 1);
	window->count--;
}

/* A start at t is out of the window at t + span exactly. */
static void prune(struct window *window, uint64_t now_ns)
{
	while (window->count > 0 &&
		*stamp_at(window, 0) + window->span_ns <= now_ns)
		drop_oldest(window);
}

static void note_peak(struct window *window)
{
	uint32_t starts = window->count + window->pending;

	if (starts > window->peak)
		window->peak = starts;
}

static int grow(struct window *window)
{
	uint32_t capacity = window->capacity * 2;
	uint64_t *stamps;

	if (capacity == 0)
		return -ENOMEM;
	stamps = malloc(capacity * sizeof(*stamps));
	if (stamps == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < window->count; i++)
		stamps[i] = *stamp_at(window, i);
	free(window->stamps);
	window->stamps = stamps;
	window->oldest = 0;
	window->capacity = capacity;
	return 0;
}

/* When the latest start is long enough ago: as window_wait(). */
static uint64_t smooth_wait(const struct window *window, uint64_t now_ns)
{
	uint64_t at_ns;

	if (window->interval_ns == 0 || window->count + window->pending == 0)
		return 0;
	if (window->pending > 0)
		return UINT64_MAX;
	at_ns = *stamp_at(window, window->count - 1) + window->interval_ns;
	return at_ns > now_ns ? at_ns : 0;
}

uint64_t window_wait(struct window *window, uint64_t now_ns)
{
	uint64_t at_ns, smooth_ns;

	if (window->limit != 0 && now_ns < window->full_until_ns)
		return window->full_until_ns;
	at_ns = window_wait_below(window, window->limit, now_ns);
	smooth_ns = smooth_wait(window, now_ns);
	return at_ns > smooth_ns ? at_ns : smooth_ns;
}

uint64_t window_wait_below(
	struct window *window, uint32_t limit, uint64_t now_ns)
{
	uint64_t starts, over;

	prune(window, now_ns);
	starts = (uint64_t)window->count + window->pending;
	if (limit == 0 || starts < limit)
		return 0;
	over = starts - limit; /* this one must go first */
	if (over >= window->count)
		return UINT64_MAX;
	return *stamp_at(window, (uint32_t)over) + window->span_ns;
}

int window_reserve(struct window *window)
{
	uint64_t need = (uint64_t)window->count + window->pending + 1;

	if (need <= window->capacity)
		return 0;
	if (window->limit == 0 && window->capacity >= WINDOW_KEEP)
		return 0;
	if (grow(window) == 0 || window->limit == 0)
		return 0;
	return -ENOMEM;
}

void window_hold(struct window *window)
{
	window->pending++;
	note_peak(window);
}

void window_give_back(struct window *window)
{
	assert(window->pending > 0);
	window->pending--;
}

void window_start(struct window *window, uint64_t now_ns)
{
	uint64_t last = 0;

	window_give_back(window);
	prune(window, now_ns);
	if (window->count > 0)
		last = *stamp_at(window, window->count - 1);
	if (window->count == window->capacity)
		drop_oldest(window);
	/* Never decreasing, also when the caller's clocks were read apart. */
	*stamp_at(window, window->count++) = now_ns > last ? now_ns : last;
	note_peak(window);
}

int window_restore(struct window *window, uint64_t started_ns, uint64_t now_ns)
{
	uint32_t i;

	if (started_ns > now_ns)
		started_ns = now_ns;
	if (started_ns + window->span_ns <= now_ns)
		return 0;
	if (window->count + window->pending >= window->capacity &&
		grow(window) != 0)
		return -ENOMEM;
	for (i = window->count; i > 0; i--) {
		if (*stamp_at(window, i - 1) <= started_ns)
			break;
		*stamp_at(window, i) = *stamp_at(window, i - 1);
	}
	*stamp_at(window, i) = started_ns;
	window->count++;
	note_peak(window);
	return 0;
}

/* How many stamps are too old to count. */
static uint32_t count_old(
	const struct window *window, uint64_t span_ns, uint64_t now_ns)
{
	uint32_t low = 0, high = window->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (*stamp_at(window, middle) + span_ns <= now_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The n-th from now by the limit alone. */
static uint64_t limit_nth(
	const struct window *window, uint64_t n, uint64_t now_ns)
{
	uint64_t old, starts, later_ns, over;

	old = count_old(window, window->span_ns, now_ns);
	starts = window->count - old + window->pending;
	later_ns = (n - 1) / window->limit * window->span_ns;
	n = (n - 1) % window->limit + 1;
	if (starts + n <= window->limit)
		return now_ns + later_ns;
	over = starts + n - window->limit; /* this one must go first */
	if (over <= window->count - old)
		now_ns = *stamp_at(window, (uint32_t)(old + over - 1));
	return now_ns + window->span_ns + later_ns;
}

uint64_t window_nth(const struct window *window, uint64_t n, uint64_t now_ns)
{
	uint64_t nth_ns, smooth_ns = 0;

	if (window->limit == 0 || n == 0)
		return now_ns;
	if (now_ns < window->full_until_ns)
		now_ns = window->full_until_ns;
	nth_ns = limit_nth(window, n, now_ns);
	if (window->interval_ns == 0)
		return nth_ns;
	if (window->pending > 0)
		smooth_ns = now_ns;
	else if (window->count > 0)
		smooth_ns = *stamp_at(window, window->count - 1);
	smooth_ns += n * window->interval_ns;
	return nth_ns > smooth_ns ? nth_ns : smooth_ns;
}

uint32_t window_count_in(
	const struct window *window, uint64_t span_ns, uint64_t now_ns)
{
	return window->count - count_old(window, span_ns, now_ns);
}

void window_ages(const struct window *window, uint64_t slot_ns, uint32_t n,
	uint64_t now_ns, uint32_t *ret_ages)
{
	uint32_t younger = 0;
	bool is_full = window->limit != 0 && now_ns < window->full_until_ns;
	uint64_t full_ns =
		is_full ? now_ns + window->span_ns - window->full_until_ns : 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t end_ns = (i + 1) * slot_ns;
		uint32_t in;

		if (end_ns > window->span_ns)
			end_ns = window->span_ns;
		in = window_count_in(window, end_ns, now_ns);
		ret_ages[i] = in - younger;
		younger = in;
	}
	if (is_full && full_ns / slot_ns < n)
		ret_ages[full_ns / slot_ns] += window->limit;
}

uint32_t window_count(const struct window *window, uint64_t now_ns)
{
	if (window->limit != 0 && now_ns < window->full_until_ns)
		return window->limit;
	return window->count - count_old(window, window->span_ns, now_ns) +
	       window->pending;
}
