#include "tools/rgov-top/views.h"

#include "tools/rgov-top/format.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------ the tables */

enum lanes_column {
#define LANES(id, ...) LANES_##id,
#include "tools/rgov-top/views.def"
};
enum users_column {
#define USERS(id, ...) USERS_##id,
#include "tools/rgov-top/views.def"
};
enum live_column {
#define LIVE(id, ...) LIVE_##id,
#include "tools/rgov-top/views.def"
};
enum queue_column {
#define QUEUE(id, ...) QUEUE_##id,
#include "tools/rgov-top/views.def"
};
enum events_column {
#define EVENTS(id, ...) EVENTS_##id,
#include "tools/rgov-top/views.def"
};
enum counters_column {
#define COUNTERS(id, ...) COUNTERS_##id,
#include "tools/rgov-top/views.def"
};

#define ROW(id, title, width, dropped, flags, help)                            \
	{title, width, dropped, flags, help},
static const struct view_column LANES_columns[] = {
#define LANES ROW
#include "tools/rgov-top/views.def"
};
static const struct view_column USERS_columns[] = {
#define USERS ROW
#include "tools/rgov-top/views.def"
};
static const struct view_column LIVE_columns[] = {
#define LIVE ROW
#include "tools/rgov-top/views.def"
};
static const struct view_column QUEUE_columns[] = {
#define QUEUE ROW
#include "tools/rgov-top/views.def"
};
static const struct view_column EVENTS_columns[] = {
#define EVENTS ROW
#include "tools/rgov-top/views.def"
};
static const struct view_column COUNTERS_columns[] = {
#define COUNTERS ROW
#include "tools/rgov-top/views.def"
};
#undef ROW

const struct view_table view_tables[VIEW_IDS] = {
#define VIEW(id, title, sort, descending, words)                               \
	{title, words, id##_columns,                                           \
		sizeof(id##_columns) / sizeof(id##_columns[0]), sort,          \
		descending},
#include "tools/rgov-top/views.def"
};

/* ------------------------------------------------------------ figures */

enum style view_share_style(double now, double limit)
{
	if (limit <= 0)
		return STYLE_PLAIN;
	if (now > 0.9 * limit)
		return STYLE_BAD;
	return now >= 0.7 * limit ? STYLE_WARN : STYLE_GOOD;
}

static void set_text(struct cell *cell, const char *text)
{
	(void)snprintf(cell->text, sizeof(cell->text), "%s", text);
}

static void set_count(struct cell *cell, double count)
{
	char text[FORMAT_BYTES];

	format_count(count, text);
	set_text(cell, text);
	cell->number = count;
}

static void set_span(struct cell *cell, double seconds)
{
	char text[FORMAT_BYTES];

	format_span(seconds, text);
	set_text(cell, text);
	cell->number = seconds;
}

/* now/limit, coloured by how near they are. */
static void set_share(struct cell *cell, double now, uint64_t limit)
{
	char left[FORMAT_BYTES], right[FORMAT_BYTES];

	format_count(now, left);
	format_limit(limit, right);
	(void)snprintf(cell->text, sizeof(cell->text), "%s/%s", left, right);
	cell->number = now;
	cell->style = view_share_style(now, (double)limit);
}

/* A count that should be 0. */
static void set_trouble(struct cell *cell, uint64_t count)
{
	set_count(cell, (double)count);
	if (count > 0)
		cell->style = STYLE_WARN;
}

/* ------------------------------------------------------------ cells */

static void set_gate(const struct look *look, const struct board_lane *lane,
	struct cell *cell)
{
	double left_s;

	if (lane->gate_open != 0) {
		set_text(cell, "open");
		cell->number = 0;
		return;
	}
	left_s = view_left_s(look->board, lane->gate_opens_ns);
	if (left_s > 0) {
		set_span(cell, left_s);
	} else {
		set_text(cell, "probe"); /* the time is over; one call tries */
		cell->number = 0.001;
	}
	cell->style = STYLE_BAD;
}

/* While nobody waits nothing holds it. */
static void set_held(uint32_t queued, uint32_t reason, struct cell *cell)
{
	set_text(cell, queued > 0 ? shm_reason_name(reason) : "-");
}

static void set_lease(const struct board_lease *lease, struct cell *cell)
{
	char left[FORMAT_BYTES], others[FORMAT_BYTES];

	if (lease->is_shared == 0) {
		set_text(cell, "-");
		return;
	}
	format_count(lease->starts_left, left);
	format_count(lease->starts_others, others);
	(void)snprintf(cell->text, sizeof(cell->text), "%s/%s", left, others);
	cell->number = lease->starts_left;
}

static void lanes_cell(const struct look *look, size_t row,
	enum lanes_column column, struct cell *cell)
{
	const struct board_lane *lane = &look->board->lanes[row];

	switch (column) {
	case LANES_NAME:
		set_text(cell, lane->name);
		return;
	case LANES_RUNNING:
		set_share(cell, lane->running, lane->running_limit);
		return;
	case LANES_HELD:
		set_held(lane->queued, lane->held_by, cell);
		return;
	case LANES_PEAK:
		set_count(cell, lane->running_peak);
		return;
	case LANES_QUEUED:
		set_count(cell, lane->queued);
		return;
	case LANES_BACKOFF:
		set_trouble(cell, lane->backing_off);
		return;
	case LANES_STARTS:
		set_share(cell, lane->starts, lane->starts_limit);
		return;
	case LANES_LEASE:
		set_lease(&lane->lease, cell);
		return;
	case LANES_TOKENS:
		set_share(cell, (double)lane->tokens_available,
			lane->tokens_limit);
		cell->style =
			lane->tokens_available < 0 ? STYLE_BAD : STYLE_PLAIN;
		return;
	case LANES_GATE:
		set_gate(look, lane, cell);
		return;
	case LANES_DONE:
		set_count(cell, (double)lane->done);
		return;
	case LANES_THROTTLED:
		set_trouble(cell, lane->throttled);
		return;
	case LANES_LOST:
		set_trouble(cell, lane->lost);
		return;
	case LANES_BUDGET:
		set_count(cell, lane->retry_budget_left);
		return;
	}
}

static void users_cell(const struct look *look, size_t row,
	enum users_column column, struct cell *cell)
{
	const struct board_user *user = &look->board->users[row];

	switch (column) {
	case USERS_NAME:
		set_text(cell, user->name);
		return;
	case USERS_RUNNING:
		set_share(cell, user->running, user->running_limit);
		return;
	case USERS_QUEUED:
		set_share(cell, user->queued, user->queued_limit);
		return;
	case USERS_SERVICE:
		set_count(cell, user->service);
		return;
	case USERS_WEIGHT:
		(void)snprintf(
			cell->text, sizeof(cell->text), "%.3g", user->weight);
		cell->number = user->weight;
		return;
	case USERS_HELD:
		set_held(user->queued, user->held_by, cell);
		return;
	case USERS_DONE:
		set_count(cell, (double)user->done);
		return;
	case USERS_REFUSED:
		set_trouble(cell, user->refused);
		return;
	case USERS_LAST:
		set_span(cell, view_age_s(look->board, user->last_ns));
		return;
	case USERS_APP:
		set_text(cell, user->app);
		return;
	}
}

/* What the request has left, or the permit. */
static double live_left_s(
	const struct board_view *board, const struct board_live *live)
{
	return view_left_s(board, live->state == BOARD_LIVE_PERMIT
					  ? live->expires_ns
					  : live->deadline_ns);
}

static void set_wait(const struct board_view *board,
	const struct board_live *live, struct cell *cell)
{
	double wait_s = view_live_wait_s(board, live);

	set_span(cell, wait_s);
	if (live->state == BOARD_LIVE_QUEUED &&
		wait_s > live_left_s(board, live))
		cell->style = STYLE_BAD;
}

static void set_live_state(const struct board_live *live, struct cell *cell)
{
	set_text(cell, board_live_text(live->state));
	switch ((enum board_live_state)live->state) {
	case BOARD_LIVE_RUNNING:
	case BOARD_LIVE_PERMIT:
		cell->style = STYLE_GOOD;
		return;
	case BOARD_LIVE_BACKOFF:
	case BOARD_LIVE_OVERDUE:
		cell->style = STYLE_WARN;
		return;
	case BOARD_LIVE_FREE:
	case BOARD_LIVE_QUEUED:
		return;
	}
}

static void set_execution(const struct board_view *board,
	const struct board_live *live, struct cell *cell)
{
	if (view_live_runs(live)) {
		set_span(cell, view_age_s(board, live->started_ns));
		return;
	}
	set_text(cell, "-");
	cell->number = -1;
}

static void live_cell(const struct look *look, size_t row,
	enum live_column column, struct cell *cell)
{
	const struct board_live *live = &look->board->live[row];

	switch (column) {
	case LIVE_STATE:
		set_live_state(live, cell);
		return;
	case LIVE_USER:
		set_text(cell, live->user);
		return;
	case LIVE_MODEL:
		set_text(cell, live->model);
		return;
	case LIVE_WAIT:
		set_wait(look->board, live, cell);
		return;
	case LIVE_EXECUTION:
		set_execution(look->board, live, cell);
		return;
	case LIVE_LEFT:
		set_span(cell, live_left_s(look->board, live));
		if (cell->number < 0)
			cell->style = STYLE_BAD;
		return;
	case LIVE_CLASS:
		set_text(cell, view_class_text(live->class));
		return;
	case LIVE_KIND:
		set_text(cell, view_kind_text(live->kind));
		return;
	case LIVE_ATTEMPTS:
		set_count(cell, live->attempts);
		return;
	case LIVE_TOKENS:
		set_count(cell, (double)live->tokens);
		return;
	case LIVE_APP:
		set_text(cell, live->app);
		return;
	case LIVE_PID:
		(void)snprintf(
			cell->text, sizeof(cell->text), "%" PRId32, live->pid);
		cell->number = live->pid;
		return;
	case LIVE_NUMBER:
		(void)snprintf(cell->text, sizeof(cell->text), "%" PRIu64,
			live->request);
		cell->number = (double)live->request;
		return;
	}
}

static void set_nothing(struct cell *cell)
{
	set_text(cell, "-");
	cell->number = INFINITY;
}

/* What rgovd says of one that waits, once it has said something. */
static void set_queued(const struct board_view *board,
	const struct board_live *live, enum queue_column column,
	struct cell *cell)
{
	if (live->as_of_ns == 0) {
		set_nothing(cell);
	} else if (column == QUEUE_PLACE) {
		set_count(cell, live->position);
	} else if (column == QUEUE_WHY) {
		set_text(cell, shm_reason_text(live->held_by));
	} else if (column == QUEUE_HELD) {
		set_span(cell, view_live_held_s(board, live));
	} else if (column == QUEUE_STARTS) {
		set_span(cell, view_live_predicted_s(board, live));
	} else if (live->held_until_ns == UINT64_MAX) {
		set_nothing(cell);
	} else {
		set_span(
			cell, fmax(0, view_left_s(board, live->held_until_ns)));
	}
}

static enum live_column live_column_of(enum queue_column column)
{
	switch (column) {
	case QUEUE_USER:
		return LIVE_USER;
	case QUEUE_MODEL:
		return LIVE_MODEL;
	case QUEUE_WAIT:
		return LIVE_WAIT;
	case QUEUE_LEFT:
		return LIVE_LEFT;
	case QUEUE_CLASS:
		return LIVE_CLASS;
	case QUEUE_ATTEMPTS:
		return LIVE_ATTEMPTS;
	case QUEUE_TOKENS:
		return LIVE_TOKENS;
	case QUEUE_PID:
		return LIVE_PID;
	case QUEUE_NUMBER:
	case QUEUE_PLACE:
	case QUEUE_WHY:
	case QUEUE_HELD:
	case QUEUE_ENDS:
	case QUEUE_STARTS:
		break;
	}
	return LIVE_NUMBER;
}

static void queue_cell(const struct look *look, size_t row,
	enum queue_column column, struct cell *cell)
{
	const struct board_live *live = &look->board->live[row];

	switch (column) {
	case QUEUE_PLACE:
	case QUEUE_WHY:
	case QUEUE_HELD:
	case QUEUE_ENDS:
	case QUEUE_STARTS:
		set_queued(look->board, live, column, cell);
		return;
	case QUEUE_LEFT:
	case QUEUE_USER:
	case QUEUE_MODEL:
	case QUEUE_WAIT:
	case QUEUE_CLASS:
	case QUEUE_ATTEMPTS:
	case QUEUE_TOKENS:
	case QUEUE_PID:
	case QUEUE_NUMBER:
		live_cell(look, row, live_column_of(column), cell);
		break;
	}
	if (column == QUEUE_LEFT &&
		cell->number < view_live_predicted_s(look->board, live))
		cell->style = STYLE_BAD;
}

static void set_time_of_day(uint64_t unix_ns, struct cell *cell)
{
	time_t when = (time_t)(unix_ns / 1000000000u);
	struct tm local;

	if (localtime_r(&when, &local) == NULL ||
		strftime(cell->text, sizeof(cell->text), "%H:%M:%S", &local) ==
			0)
		set_text(cell, "?");
	cell->number = (double)unix_ns;
}

static void events_cell(const struct look *look, size_t row,
	enum events_column column, struct cell *cell)
{
	const struct board_event *event = &look->board->events[row];

	switch (column) {
	case EVENTS_NUMBER:
		set_count(cell, (double)event->number);
		return;
	case EVENTS_TIME:
		set_time_of_day(event->at_unix_ns, cell);
		return;
	case EVENTS_AGE:
		set_span(cell, view_age_s(look->board, event->at_ns));
		return;
	case EVENTS_KIND:
		set_text(cell, event->kind);
		if (strcmp(event->kind, "throttle") == 0)
			cell->style = STYLE_WARN;
		return;
	case EVENTS_TEXT:
		set_text(cell, event->text);
		return;
	}
}

/* Times are summed in nanoseconds; people read seconds. */
static void set_counter(size_t counter, double value, struct cell *cell)
{
	if (strcmp(view_counter_texts[counter].unit, "ns") == 0)
		set_span(cell, value * 1e-9);
	else
		set_count(cell, value);
}

static void counters_cell(const struct look *look, size_t row,
	enum counters_column column, struct cell *cell)
{
	const struct view_counter_text *text = &view_counter_texts[row];

	switch (column) {
	case COUNTERS_ORDER:
		set_count(cell, (double)row + 1);
		return;
	case COUNTERS_NAME:
		set_text(cell, text->name);
		return;
	case COUNTERS_TOTAL:
		set_counter(row, (double)look->board->counters[row], cell);
		return;
	case COUNTERS_RECENT:
		set_counter(row, look->recent->counters[row], cell);
		return;
	case COUNTERS_HELP:
		(void)snprintf(cell->text, sizeof(cell->text), "%s: %s",
			text->unit, text->help);
		return;
	}
}

void view_cell(const struct look *look, enum view_id id, size_t row, int column,
	struct cell *ret_cell)
{
	*ret_cell = (struct cell){.number = NAN};
	switch (id) {
	case VIEW_ID_LANES:
		lanes_cell(look, row, (enum lanes_column)column, ret_cell);
		return;
	case VIEW_ID_USERS:
		users_cell(look, row, (enum users_column)column, ret_cell);
		return;
	case VIEW_ID_LIVE:
		live_cell(look, row, (enum live_column)column, ret_cell);
		return;
	case VIEW_ID_QUEUE:
		queue_cell(look, row, (enum queue_column)column, ret_cell);
		return;
	case VIEW_ID_EVENTS:
		events_cell(look, row, (enum events_column)column, ret_cell);
		return;
	case VIEW_ID_COUNTERS:
		counters_cell(
			look, row, (enum counters_column)column, ret_cell);
		return;
	case VIEW_IDS:
		return;
	}
}

/* ------------------------------------------------------------ rows */

static bool is_used(const struct board_view *board, enum view_id id, size_t row)
{
	switch (id) {
	case VIEW_ID_LANES:
		return row < SHM_BOARD_LANES &&
		       load_relaxed(board->lanes[row].sequence) != 0;
	case VIEW_ID_USERS:
		return row < SHM_BOARD_USERS &&
		       load_relaxed(board->users[row].sequence) != 0;
	case VIEW_ID_LIVE:
		return row < SHM_BOARD_LIVE &&
		       board->live[row].state != BOARD_LIVE_FREE;
	case VIEW_ID_QUEUE:
		return row < SHM_BOARD_LIVE &&
		       view_live_waits(&board->live[row]);
	case VIEW_ID_EVENTS:
		return row < SHM_BOARD_EVENTS &&
		       load_relaxed(board->events[row].sequence) != 0;
	case VIEW_ID_COUNTERS:
		return row < VIEW_COUNTERS;
	case VIEW_IDS:
		break;
	}
	return false;
}

static bool contains(const struct look *look, enum view_id id, size_t row,
	const char *filter)
{
	if (filter[0] == '\0')
		return true;
	for (int column = 0; column < view_tables[id].n_columns; column++) {
		struct cell cell;

		view_cell(look, id, row, column, &cell);
		if (strcasestr(cell.text, filter) != NULL)
			return true;
	}
	return false;
}

size_t view_rows(const struct look *look, enum view_id id, const char *filter,
	size_t ret_rows[VIEW_ROWS_MAX])
{
	size_t n = 0;

	for (size_t row = 0; row < VIEW_ROWS_MAX; row++)
		if (is_used(look->board, id, row) &&
			contains(look, id, row, filter))
			ret_rows[n++] = row;
	return n;
}

/* What a row is sorted by, worked out once. */
struct sort_key {
	size_t row, place;
	double number;
	char text[64];
};

static int compare(const void *a, const void *b)
{
	const struct sort_key *one = a, *other = b;
	int order = 0;

	if (!isnan(one->number) && !isnan(other->number))
		order = (one->number > other->number) -
			(one->number < other->number);
	else
		order = strcasecmp(one->text, other->text);
	if (order == 0)
		order = (one->place > other->place) -
			(one->place < other->place);
	return order;
}

static int compare_descending(const void *a, const void *b)
{
	const struct sort_key *one = a, *other = b;
	struct sort_key swapped_one = *one, swapped_other = *other;

	/* Equal rows keep their order, also when it is turned round. */
	swapped_one.place = other->place;
	swapped_other.place = one->place;
	return -compare(&swapped_one, &swapped_other);
}

void view_sort(const struct look *look, enum view_id id, int column,
	bool descending, size_t *rows, size_t n)
{
	static struct sort_key keys[VIEW_ROWS_MAX]; /* too large for a stack */

	for (size_t i = 0; i < n; i++) {
		struct cell cell;

		view_cell(look, id, rows[i], column, &cell);
		keys[i] = (struct sort_key){
			.row = rows[i], .place = i, .number = cell.number};
		(void)snprintf(
			keys[i].text, sizeof(keys[i].text), "%.63s", cell.text);
	}
	qsort(keys, n, sizeof(keys[0]),
		descending ? compare_descending : compare);
	for (size_t i = 0; i < n; i++)
		rows[i] = keys[i].row;
}
