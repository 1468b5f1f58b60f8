/* What has happened since the start or the last reset. */
#include "tools/bedrock-sim/ledger.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ledger_seen {
	uint64_t key[2]; /* both 0: free */
	bool answered;
};

/* The entry of this key, or the free one where it belongs. */
static struct ledger_seen *seen_find(
	struct ledger_seen *table, size_t capacity, const uint64_t key[2])
{
	size_t i = key[0] & (capacity - 1);

	while ((table[i].key[0] | table[i].key[1]) != 0 &&
		(table[i].key[0] != key[0] || table[i].key[1] != key[1]))
		i = (i + 1) & (capacity - 1);
	return &table[i];
}

/* At most half full, so that searches stay short and end. */
static void seen_make_room(struct ledger *ledger)
{
	size_t capacity =
		ledger->seen_capacity ? 2 * ledger->seen_capacity : 1024;
	struct ledger_seen *table;

	if (2 * (ledger->seen_count + 1) <= ledger->seen_capacity)
		return;
	table = memory_zeroed(capacity * sizeof(*table));
	for (size_t i = 0; i < ledger->seen_capacity; i++)
		if ((ledger->seen[i].key[0] | ledger->seen[i].key[1]) != 0)
			*seen_find(table, capacity, ledger->seen[i].key) =
				ledger->seen[i];
	free(ledger->seen);
	ledger->seen = table;
	ledger->seen_capacity = capacity;
}

static struct ledger_seen *seen_of(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES])
{
	uint64_t key[2];

	seen_make_room(ledger);
	memcpy(key, what, sizeof(key));
	key[0] |= 1; /* a digest of zeros would look like a free entry */
	return seen_find(ledger->seen, ledger->seen_capacity, key);
}

void ledger_accept(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES])
{
	struct ledger_seen *seen = seen_of(ledger, what);

	ledger->accepted++;
	if (++ledger->running > ledger->max_concurrent)
		ledger->max_concurrent = ledger->running;
	if (seen->key[0] != 0) {
		ledger->duplicates++;
		ledger->duplicates_of_ok += seen->answered;
		return;
	}
	memcpy(seen->key, what, sizeof(seen->key));
	seen->key[0] |= 1;
	ledger->seen_count++;
}

void ledger_answered(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES])
{
	ledger->ok++;
	seen_of(ledger, what)->answered = true;
}

void ledger_unanswered(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES])
{
	ledger->ok--;
	ledger->aborted++;
	seen_of(ledger, what)->answered = false;
}

void ledger_reset(struct ledger *ledger, uint64_t now_ns)
{
	struct ledger fresh = {
		.run = ledger->run + 1,
		.begin_ns = now_ns,
		.running = ledger->running,
		.max_concurrent = ledger->running,
	};

	stamps_free(&ledger->arrivals_at);
	free(ledger->seen);
	*ledger = fresh;
}

static void put(json_t *object, const char *name, json_t *value)
{
	if (json_object_set_new(object, name, value) != 0)
		memory_none();
}

static void put_count(json_t *object, const char *name, uint64_t value)
{
	put(object, name, json_integer((json_int_t)value));
}

char *ledger_report(
	const struct ledger *ledger, const struct quota *quota, uint64_t now_ns)
{
	const struct quota_limits *limits = &quota->limits;
	json_t *report = json_object();
	char *text, *line = NULL;

#define COUNT(field) put_count(report, #field, ledger->field);
	LEDGER_COUNTS(COUNT)
#undef COUNT
	put_count(report, "max_starts_in_window", quota_most_starts(quota));
	put_count(report, "max_arrivals_in_window",
		stamps_most_in_window(&ledger->arrivals_at, limits->window_ns));
	put_count(report, "max_concurrent", ledger->max_concurrent);
	put_count(report, "running", ledger->running);
	put_count(report, "limit_requests_per_minute", limits->requests);
	put_count(report, "limit_tokens_per_minute", limits->tokens);
	put_count(report, "limit_concurrency", limits->concurrency);
	put(report, "minute_s", json_real((double)limits->window_ns / 1e9));
	put_count(report, "run", ledger->run);
	put(report, "duration_s",
		json_real((double)(now_ns - ledger->begin_ns) / 1e9));
	text = json_dumps(report,
		JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
	json_decref(report);
	if (text == NULL || asprintf(&line, "%s\n", text) < 0)
		memory_none();
	free(text);
	return line;
}
