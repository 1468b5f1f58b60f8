/*
 * Names of tasks: UUIDs, version 7 (RFC 9562): the time in milliseconds, then a
 * counter that keeps those of one process and millisecond in their order, then
 * 62 random bits.  Time first: the index of rgovd's store grows at its end.
 */
#include "client-lib/task.h"

#include "client-lib/words.h"
#include "shm-layout/shm_atomic.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/*
 * The instant of the last name: {ms:52, counter:12}, so that to count over the
 * counter's end is the next millisecond.  One word and no lock: a child of a
 * fork would inherit a lock that another thread held, and nobody releases it.
 */
enum { COUNTER_BITS = 12, COUNTER_MASK = (1 << COUNTER_BITS) - 1 };

static _Atomic uint64_t last_instant;

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The next instant of this process: later than the last one, also where the
 * clock stands still or goes back.  A child of a fork goes on where its parent
 * was, with other random bits. */
static uint64_t next_instant(unsigned int start)
{
	uint64_t now = wall_ms();
	/* Relaxed, here and below: nothing but the word is looked at. */
	uint64_t last = load_relaxed(last_instant), next;

	do
		next = now > last >> COUNTER_BITS ? now << COUNTER_BITS | start
						  : last + 1;
	while (!atomic_compare_exchange_weak_explicit(&last_instant, &last,
		next, memory_order_relaxed, memory_order_relaxed));
	return next;
}

int task_id_make(unsigned char ret_id[16])
{
	unsigned char random[10];
	unsigned int start;
	uint64_t instant, ms;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fail(-EAGAIN, "no random bytes for the id of a task: %s",
			strerrordesc_np(errno));
	/* Begins in the lower half, so that there is room to count. */
	start = (unsigned int)(random[0] & 7) << 8 | random[1];
	instant = next_instant(start);
	ms = instant >> COUNTER_BITS;
	for (int i = 0; i < 6; i++)
		ret_id[i] = (unsigned char)(ms >> (40 - 8 * i));
	ret_id[6] = (unsigned char)(0x70 | (instant & COUNTER_MASK) >> 8);
	ret_id[7] = (unsigned char)instant;
	memcpy(ret_id + 8, random + 2, 8);
	ret_id[8] = (unsigned char)((ret_id[8] & 0x3f) | 0x80);
	return 0;
}

static bool has_dash_before(int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void rgov_task_id_text(
	const struct rgov_task_id *id, char ret_text[RGOV_TASK_ID_BYTES])
{
	char *at = ret_text;

	for (int i = 0; i < 16; i++) {
		if (has_dash_before(i))
			*at++ = '-';
		*at++ = "0123456789abcdef"[id->bytes[i] >> 4];
		*at++ = "0123456789abcdef"[id->bytes[i] & 15];
	}
	*at = '\0';
}

static int refuse(const char *text)
{
	return fail(-EINVAL,
		"task id: expected 36 characters as "
		"018f6b2e-4c1a-7d3b-9a55-0123456789ab, found \"%.48s\"",
		text);
}

static int digit(char of)
{
	return isdigit((unsigned char)of)
		       ? of - '0'
		       : tolower((unsigned char)of) - 'a' + 10;
}

int rgov_task_id_parse(const char *text, struct rgov_task_id *ret_id)
{
	struct rgov_task_id id;
	const char *at = text;

	for (int i = 0; i < 16; i++, at += 2) {
		if (has_dash_before(i) && *at++ != '-')
			return refuse(text);
		if (!isxdigit((unsigned char)at[0]) ||
			!isxdigit((unsigned char)at[1]))
			return refuse(text);
		id.bytes[i] = (unsigned char)(digit(at[0]) << 4 | digit(at[1]));
	}
	if (*at != '\0')
		return refuse(text);
	*ret_id = id;
	return 0;
}
