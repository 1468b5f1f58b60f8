/* Looks at every window, at every moment and at every stretch of time. */
#include "tests/unit/policy/book.h"

#include <string.h>

struct limits {
	int lane, user; /* of whom */
	uint32_t requests, concurrent;
	uint64_t tokens;
};

struct book_entry book_entry(
	const struct policy_request *request, uint64_t now_ns)
{
	const char *name = policy_lane_name(request->lane);
	struct book_entry entry = {.at_ns = now_ns,
		.end_ns = UINT64_MAX,
		.lane = BOOK_DEFAULT_LANE,
		.user = (request->user[1] - '0') * SCRIPT_APPS +
			(request->app[0] != '\0')};

	for (int i = 0; i < SCRIPT_MODELS; i++)
		if (strcmp(name, script_models[i]) == 0)
			entry.lane = i;
	return entry;
}

static bool is_of(const struct book_entry *entry, const struct limits *limits)
{
	return (limits->lane == BOOK_ALL || entry->lane == limits->lane) &&
	       (limits->user == BOOK_ALL || entry->user == limits->user);
}

/* A window that begins with a start: if any is above the limit, one of these
 * is. */
static bool is_window_exceeded(const struct book *book,
	const struct limits *limits, uint64_t window_ns)
{
	for (int first = 0; first < book->n_starts; first++) {
		uint32_t n = 0;

		for (int i = first; i < book->n_starts; i++)
			n += is_of(&book->starts[i], limits) &&
			     book->starts[i].at_ns <
				     book->starts[first].at_ns + window_ns;
		if (limits->requests != 0 && n > limits->requests)
			return true;
	}
	return false;
}

/* At the moment of an admission. */
static bool is_concurrency_exceeded(
	const struct book *book, const struct limits *limits)
{
	for (int last = 0; last < book->n_runs; last++) {
		uint32_t n = 0;

		for (int i = 0; i <= last; i++)
			n += is_of(&book->runs[i], limits) &&
			     book->runs[i].end_ns > book->runs[last].at_ns;
		if (limits->concurrent != 0 && n > limits->concurrent &&
			is_of(&book->runs[last], limits))
			return true;
	}
	return false;
}

/* From one admission to another no more is reserved than a full bucket, what
 * trickled in, and what was given back between. */
static bool is_bucket_exceeded(const struct book *book,
	const struct limits *limits, uint64_t minute_ns)
{
	for (int first = 0; limits->tokens && first < book->n_runs; first++) {
		uint64_t from_ns = book->runs[first].at_ns;
		double taken = 0;

		for (int last = first; last < book->n_runs; last++) {
			uint64_t to_ns = book->runs[last].at_ns;
			double back = 0, most = (double)limits->tokens;

			if (is_of(&book->runs[last], limits))
				taken += (double)book->runs[last].tokens;
			for (int i = 0; i < last; i++)
				if (is_of(&book->runs[i], limits) &&
					book->runs[i].end_ns >= from_ns &&
					book->runs[i].end_ns <= to_ns)
					back += (double)book->runs[i].back;
			most *= 1 +
				(double)(to_ns - from_ns) / (double)minute_ns;
			if (taken > most + back + 1)
				return true;
		}
	}
	return false;
}

static const char *judge(const struct book *book,
	const struct policy_config *config, const struct limits *limits)
{
	if (is_window_exceeded(
		    book, limits, config->minute_ns + config->guard_ns))
		return "more starts in a window than the limit";
	if (is_concurrency_exceeded(book, limits))
		return "more in flight than the limit";
	if (is_bucket_exceeded(book, limits, config->minute_ns))
		return "more tokens than the limit";
	return NULL;
}

static struct limits limits_of_lane(const struct script_settings *s, int lane)
{
	if (lane == BOOK_DEFAULT_LANE)
		return (struct limits){lane, BOOK_ALL, 0, 0, 0};
	if (script_models[lane][0] == 'm')
		return (struct limits){lane, BOOK_ALL, s->m_requests,
			s->m_concurrent, s->m_tokens};
	return (struct limits){
		lane, BOOK_ALL, s->n_requests, s->n_concurrent, s->n_tokens};
}

static struct limits limits_of_user(const struct script_settings *s, int user)
{
	struct limits limits = {BOOK_ALL, user, 0, s->user_concurrent, 0};

	if (user / SCRIPT_APPS == 0) {
		limits.requests = s->u0_requests;
		limits.tokens = s->u0_tokens;
		if (s->u0_concurrent != 0)
			limits.concurrent = s->u0_concurrent;
	} else if (user / SCRIPT_APPS == 1) {
		limits.requests = s->u1_requests;
		limits.tokens = s->u1_tokens;
	}
	return limits;
}

const char *book_judge(const struct book *book,
	const struct policy_config *config, const struct script_settings *s)
{
	struct limits host = {BOOK_ALL, BOOK_ALL, s->host_requests,
		s->host_concurrent, s->host_tokens};
	const char *fault = judge(book, config, &host);

	for (int lane = 0; lane <= BOOK_DEFAULT_LANE && !fault; lane++) {
		struct limits limits = limits_of_lane(s, lane);

		fault = judge(book, config, &limits);
	}
	for (int user = 0; user < BOOK_USERS && !fault; user++) {
		struct limits limits = limits_of_user(s, user);

		fault = judge(book, config, &limits);
	}
	return fault;
}
