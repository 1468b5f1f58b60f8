/* Asks as words, answers from numbers; lease.lua has the other end. */
#include "coordinator/cluster/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KEYS and ARGV as lease.lua counts them, and numkeys before. */
enum { HEAD_WORDS = 17, ROW_WORDS = 10, HEAD_NUMBERS = 5, GRANT_NUMBERS = 6 };

/* clang-format off */
__asm__(".pushsection .rodata\n"
	".balign 1\n"
	".globl wire_script\n"
	".type wire_script, @object\n"
	"wire_script:\n"
	".incbin \"coordinator/cluster/lease.lua\"\n"
	".byte 0\n"
	".size wire_script, . - wire_script\n"
	".popsection\n");
/* clang-format on */

struct maker {
	struct wire_words *to;
	int rc;
};

static void put(struct maker *maker, char *word, size_t length)
{
	if (word == NULL) {
		maker->rc = -ENOMEM;
		return;
	}
	maker->to->words[maker->to->n] = word;
	maker->to->lengths[maker->to->n++] = length;
}

__attribute__((format(printf, 2, 3))) static void word(
	struct maker *maker, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int length;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	put(maker, length < 0 ? NULL : text, (size_t)length);
}

static void number(struct maker *maker, uint64_t value)
{
	word(maker, "%" PRIu64, value);
}

static const char *loss_word(enum lease_loss loss)
{
	switch (loss) {
	case LEASE_SHARE:
		return "share";
	case LEASE_STOP:
		return "stop";
	case LEASE_IGNORE:
		return "ignore";
	}
	return "";
}

static void keys(struct maker *maker, const struct lease_ask *ask,
	const struct wire_names *names)
{
	number(maker, 1 + ask->n_rows);
	word(maker, "rgov:{%s}:members", names->account);
	for (size_t i = 0; i < ask->n_rows; i++) {
		const char *lane = ask->rows[i].lane;

		if (lane == NULL)
			word(maker, "rgov:{%s}:host", names->account);
		else
			word(maker, "rgov:{%s}:lane:%s", names->account, lane);
	}
}

static void head(struct maker *maker, const struct lease_ask *ask,
	const struct wire_names *names)
{
	word(maker, "%s", names->now_us ? names->now_us : "");
	word(maker, "%s", names->run_id);
	word(maker, "%s", names->host);
	number(maker, ask->incarnation);
	number(maker, ask->seq);
	number(maker, ask->epoch);
	number(maker, ask->before_us);
	number(maker, ask->ttl_us);
	number(maker, ask->window_us);
	number(maker, ask->slot_us);
	number(maker, ask->minute_us);
	number(maker, ask->forget_us);
	number(maker, ask->hosts);
	word(maker, "%s", loss_word(ask->loss));
	number(maker, ask->is_lost);
	number(maker, ask->is_complete);
	number(maker, ask->is_leaving);
}

/* "AGE:STARTS AGE:STARTS …" */
static void ages(struct maker *maker, const struct lease_row *row)
{
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	if (out == NULL) {
		maker->rc = -ENOMEM;
		return;
	}
	for (int i = 0; i < LEASE_SLOTS; i++)
		if (row->ages[i] != 0)
			(void)fprintf(out, "%d:%" PRIu32 " ", i, row->ages[i]);
	if (fclose(out) != 0) {
		free(text);
		text = NULL;
	}
	put(maker, text, length);
}

static void row_words(struct maker *maker, const struct lease_row *row)
{
	number(maker, row->life);
	number(maker, row->starts_limit);
	ages(maker, row);
	number(maker, row->starts_held);
	number(maker, row->starts_wanted);
	number(maker, row->tokens_limit);
	word(maker, "%" PRId64, row->tokens_spent);
	number(maker, row->tokens_held);
	number(maker, row->tokens_wanted);
	number(maker, row->tokens_needed);
}

int wire_ask(const struct lease_ask *ask, const struct wire_names *names,
	struct wire_words *ret_words)
{
	size_t room = 2 + HEAD_WORDS + ask->n_rows * (1 + ROW_WORDS);
	struct maker maker = {.to = ret_words};

	*ret_words = (struct wire_words){
		.words = calloc(room, sizeof(char *)),
		.lengths = calloc(room, sizeof(size_t)),
	};
	if (ret_words->words == NULL || ret_words->lengths == NULL) {
		wire_free(ret_words);
		return -ENOMEM;
	}
	keys(&maker, ask, names);
	head(&maker, ask, names);
	for (size_t i = 0; i < ask->n_rows; i++)
		row_words(&maker, &ask->rows[i]);
	if (maker.rc != 0)
		wire_free(ret_words);
	return maker.rc;
}

void wire_free(struct wire_words *words)
{
	for (int i = 0; i < words->n; i++)
		free(words->words[i]);
	free(words->words);
	free(words->lengths);
	*words = (struct wire_words){0};
}

static struct lease_grant grant_of(const long long *numbers)
{
	return (struct lease_grant){
		.starts = numbers[0],
		.tokens = (uint64_t)numbers[1],
		.starts_others = (uint64_t)numbers[2],
		.tokens_others = (uint64_t)numbers[3],
		.tokens_level = numbers[4],
		.next_us = (uint64_t)numbers[5],
	};
}

int wire_answer(const long long *numbers, size_t n, size_t n_rows,
	struct lease_grant *grants, struct lease_answer *ret_answer)
{
	bool is_granted;

	if (n < HEAD_NUMBERS || numbers[1] < LEASE_GRANTED ||
		numbers[1] > LEASE_NAMESAKE || numbers[0] < 0 ||
		numbers[2] < 0 || numbers[3] < 0)
		return -EPROTO;
	is_granted = numbers[1] == LEASE_GRANTED;
	if (n != HEAD_NUMBERS + (is_granted ? n_rows * GRANT_NUMBERS : 0))
		return -EPROTO;
	for (size_t i = 0; is_granted && i < n_rows; i++)
		grants[i] =
			grant_of(&numbers[HEAD_NUMBERS + i * GRANT_NUMBERS]);
	*ret_answer = (struct lease_answer){
		.seq = (uint64_t)numbers[0],
		.status = (enum lease_status)numbers[1],
		.now_us = (uint64_t)numbers[2],
		.epoch = (uint64_t)numbers[3],
		.hosts = (uint32_t)numbers[4],
		.grants = grants,
		.n_grants = is_granted ? n_rows : 0,
	};
	return 0;
}
