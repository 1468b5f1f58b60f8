/* The provider's limits, judged exactly. */
#include "tools/bedrock-sim/quota.h"

#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/memory.h"
#include "tools/bedrock-sim/stamps.h"

struct spent {
	uint64_t at_ns, tokens;
};

struct quota_lane {
	struct quota_lane *next;
	struct stamps window; /* what counts against the limit */
	struct stamps starts; /* every accepted start, for the report */
	struct spent *spent;  /* in the order asked */
	size_t spent_count, spent_capacity;
	uint64_t in_progress;
	char model[];
};

static unsigned bucket_of(const char *model)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *model != '\0'; model++)
		hash = (hash ^ (unsigned char)*model) * 16777619u;
	return hash % QUOTA_BUCKETS;
}

static struct quota_lane *lane_of(struct quota *quota, const char *model)
{
	const char *key = quota->limits.host_wide ? "" : model;
	struct quota_lane **head = &quota->buckets[bucket_of(key)];
	struct quota_lane *lane;

	for (lane = *head; lane != NULL; lane = lane->next)
		if (strcmp(lane->model, key) == 0)
			return lane;
	lane = memory_zeroed(sizeof(*lane) + strlen(key) + 1);
	strcpy(lane->model, key);
	lane->next = *head;
	*head = lane;
	return lane;
}

/* The window at t is (t - width, t]; before boot plus width it is all. */
static uint64_t window_begin(const struct quota *quota, uint64_t now_ns)
{
	uint64_t width = quota->limits.window_ns;

	return now_ns > width ? now_ns - width : 0;
}

enum quota_verdict quota_ask(struct quota *quota, const char *model,
	uint64_t now_ns, struct quota_ticket *ret_ticket)
{
	const struct quota_limits *limits = &quota->limits;
	struct quota_lane *lane = lane_of(quota, model);
	uint64_t begin_ns = window_begin(quota, now_ns);
	enum quota_verdict verdict = QUOTA_GRANTED;

	stamps_forget(&lane->window, begin_ns);
	if (limits->requests > 0 &&
		stamps_after(&lane->window, begin_ns) >= limits->requests)
		verdict = QUOTA_REQUESTS;
	else if (limits->concurrency > 0 &&
		 lane->in_progress >= limits->concurrency)
		verdict = QUOTA_CONCURRENCY;
	*ret_ticket = (struct quota_ticket){.lane = lane, .at_ns = now_ns};
	if (verdict == QUOTA_GRANTED || limits->throttled_count) {
		stamps_insert(&lane->window, now_ns);
		ret_ticket->in_window = true;
	}
	if (verdict == QUOTA_GRANTED) {
		lane->in_progress++;
		ret_ticket->in_progress = true;
	}
	return verdict;
}

/* What was spent since begin_ns; forgets what is older. */
static uint64_t spent_since(struct quota_lane *lane, uint64_t begin_ns)
{
	uint64_t tokens = 0;
	size_t kept = 0;

	for (size_t i = 0; i < lane->spent_count; i++) {
		if (lane->spent[i].at_ns <= begin_ns)
			continue;
		tokens += lane->spent[i].tokens;
		lane->spent[kept++] = lane->spent[i];
	}
	lane->spent_count = kept;
	return tokens;
}

enum quota_verdict quota_ask_tokens(
	struct quota *quota, struct quota_ticket *ticket, uint64_t tokens)
{
	struct quota_lane *lane = ticket->lane;
	uint64_t most = quota->limits.tokens;

	if (most == 0)
		return QUOTA_GRANTED;
	if (tokens > most ||
		spent_since(lane, window_begin(quota, ticket->at_ns)) >
			most - tokens)
		return QUOTA_TOKENS;
	lane->spent = memory_grow(lane->spent, &lane->spent_capacity,
		lane->spent_count + 1, sizeof(*lane->spent));
	lane->spent[lane->spent_count++] =
		(struct spent){.at_ns = ticket->at_ns, .tokens = tokens};
	ticket->has_tokens = true;
	return QUOTA_GRANTED;
}

void quota_start(struct quota_ticket *ticket)
{
	stamps_insert(&ticket->lane->starts, ticket->at_ns);
}

void quota_settle(struct quota_ticket *ticket, uint64_t tokens)
{
	struct quota_lane *lane = ticket->lane;

	if (!ticket->has_tokens)
		return;
	ticket->has_tokens = false;
	/* Arrivals have instants of their own: see judge_arrival(). */
	for (size_t i = lane->spent_count; i > 0; i--)
		if (lane->spent[i - 1].at_ns == ticket->at_ns) {
			lane->spent[i - 1].tokens = tokens;
			return;
		}
}

void quota_leave(struct quota_ticket *ticket)
{
	if (ticket->in_progress)
		ticket->lane->in_progress--;
	ticket->in_progress = false;
}

void quota_withdraw(struct quota_ticket *ticket)
{
	quota_leave(ticket);
	quota_settle(ticket, 0);
	if (ticket->in_window)
		stamps_remove(&ticket->lane->window, ticket->at_ns);
	ticket->in_window = false;
}

size_t quota_most_starts(const struct quota *quota)
{
	size_t most = 0;

	for (size_t b = 0; b < QUOTA_BUCKETS; b++)
		for (struct quota_lane *lane = quota->buckets[b]; lane != NULL;
			lane = lane->next) {
			size_t starts = stamps_most_in_window(
				&lane->starts, quota->limits.window_ns);

			most = starts > most ? starts : most;
		}
	return most;
}

void quota_reset(struct quota *quota)
{
	for (size_t b = 0; b < QUOTA_BUCKETS; b++)
		for (struct quota_lane *lane = quota->buckets[b]; lane != NULL;
			lane = lane->next) {
			stamps_free(&lane->window);
			stamps_free(&lane->starts);
			lane->spent_count = 0;
		}
}
