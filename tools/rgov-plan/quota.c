#include "tools/rgov-plan/quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DAY_NS (86400 * DRAW_S)

static struct quota_entry *entry(const struct quota *quota, size_t i)
{
	return &quota->entries[(quota->first + i) & (quota->room - 1)];
}

void quota_free(struct quota *quota)
{
	free(quota->entries);
	*quota = (struct quota){0};
}

/* The window at t is (t - width, t]. */
static uint64_t leaves_ns(const struct quota *quota, size_t i)
{
	return entry(quota, i)->at_ns + quota->window_ns;
}

bool quota_forget(struct quota *quota, uint64_t now_ns, uint64_t *ret_left_ns)
{
	if (quota->n == 0 || leaves_ns(quota, 0) > now_ns)
		return false;
	*ret_left_ns = leaves_ns(quota, 0);
	quota->tokens -= entry(quota, 0)->tokens;
	quota->first = (quota->first + 1) & (quota->room - 1);
	quota->n--;
	quota->forgotten++;
	return true;
}

static void turn_day(struct quota *quota, uint64_t now_ns)
{
	uint64_t day = (now_ns + quota->day_offset_ns) / DAY_NS;

	if (quota->day == day)
		return;
	quota->day = day;
	quota->today = 0;
}

enum quota_verdict quota_ask(struct quota *quota,
	const struct quota_limits *limits, uint64_t tokens, uint64_t now_ns,
	uint64_t *ret_next_ns)
{
	uint64_t left_ns, fits = tokens;

	while (quota_forget(quota, now_ns, &left_ns))
		continue;
	turn_day(quota, now_ns);
	*ret_next_ns = UINT64_MAX;
	if (limits->concurrent > 0 && quota->running >= limits->concurrent)
		return QUOTA_CONCURRENT;
	if (limits->requests > 0 && quota->n >= limits->requests) {
		*ret_next_ns = leaves_ns(quota, quota->n - limits->requests);
		return QUOTA_REQUESTS;
	}
	if (limits->tokens > 0) {
		if (fits > limits->tokens)
			fits = limits->tokens;
		if (quota->tokens > limits->tokens - fits) {
			*ret_next_ns = leaves_ns(quota, 0);
			return QUOTA_TOKENS;
		}
	}
	if (limits->tokens_day > 0 && quota->today > 0 &&
		quota->today + tokens > limits->tokens_day) {
		*ret_next_ns = (quota->day + 1) * DAY_NS - quota->day_offset_ns;
		return QUOTA_DAY;
	}
	return QUOTA_FREE;
}

static int grow(struct quota *quota)
{
	size_t room = quota->room ? 2 * quota->room : 64;
	struct quota_entry *entries = malloc(room * sizeof(*entries));

	if (entries == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < quota->n; i++)
		entries[i] = *entry(quota, i);
	free(quota->entries);
	quota->entries = entries;
	quota->room = room;
	quota->first = 0;
	return 0;
}

int quota_start(struct quota *quota, uint64_t tokens, uint64_t now_ns,
	uint64_t *ret_ticket)
{
	if (quota->n == quota->room && grow(quota) < 0)
		return -ENOMEM;
	turn_day(quota, now_ns);
	*ret_ticket = quota->forgotten + quota->n++;
	*entry(quota, quota->n - 1) = (struct quota_entry){now_ns, tokens};
	quota->tokens += tokens;
	quota->today += tokens;
	quota->running++;
	return 0;
}

void quota_end(
	struct quota *quota, uint64_t ticket, uint64_t reserved, uint64_t used)
{
	quota->running--;
	quota->today -= reserved < quota->today ? reserved : quota->today;
	quota->today += used;
	if (ticket < quota->forgotten)
		return;
	quota->tokens -= entry(quota, ticket - quota->forgotten)->tokens;
	quota->tokens += used;
	entry(quota, ticket - quota->forgotten)->tokens = used;
}
