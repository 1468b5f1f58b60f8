/*
 * The calling convention of lease.lua: an ask as the words of EVALSHA, an
 * answer from the numbers of its reply.  No connection and no foreign library
 * in here; client.c (or a test) carries the words.
 *
 *     EVALSHA sha numkeys KEYS… ARGV…
 *     KEYS[1]    rgov:{ACCOUNT}:members
 *     KEYS[1+i]  rgov:{ACCOUNT}:host, or rgov:{ACCOUNT}:lane:NAME, of row i
 *     ARGV       now_us ("" for Redis' own clock), run_id, host, then the ask's
 *                head and 10 words a row: wire.c
 *     reply      an array of integers: seq, status, now_us, epoch, hosts, then
 *                6 a row (only when GRANTED)
 *
 * run_id is Redis' own: of `INFO server` on the same connection, asked once
 * after it was made.  The script takes another one than the last for a Redis
 * that was born anew.
 */
#ifndef COORDINATOR_CLUSTER_WIRE_H
#define COORDINATOR_CLUSTER_WIRE_H

#include "coordinator/policy/lease.h"

/* Who asks whom. */
struct wire_names {
	const char *account, *host, *run_id;
	const char *now_us; /* for tests; NULL: Redis' clock */
};

/* The words after "EVALSHA sha", numkeys first. */
struct wire_words {
	char **words;
	size_t *lengths;
	int n;
};

/* -ENOMEM.  End with wire_free(). */
int wire_ask(const struct lease_ask *ask, const struct wire_names *names,
	struct wire_words *ret_words);
void wire_free(struct wire_words *words);

/*
 * The reply's integers.  grants: room for n_rows of them, which the answer then
 * points to.  -EPROTO: not what the script says.
 */
int wire_answer(const long long *numbers, size_t n, size_t n_rows,
	struct lease_grant *grants, struct lease_answer *ret_answer);

/* lease.lua itself, in the program: its text ends with a NUL. */
extern const char wire_script[];

#endif
