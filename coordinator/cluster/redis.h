/*
 * A Redis that one script is asked of, on the loop: connected, authenticated,
 * the script loaded; lost and found again by itself.  Nothing here blocks:
 * names are looked up by a helper thread, and every step has its time-out.
 * Nobody asks: no byte, and no timer faster than a second.
 *
 *   OFF -> CONNECTING -> READY <-> ASKING
 *              ^  |        |          |
 *              |  v        v          v
 *            WAITING <-- any trouble: told once, tried again later
 *
 * What the other side says is input: bounded, and garbage is a trouble like
 * any other.  hiredis reads and writes the protocol; the socket is
 * transport.c's, as this release of hiredis knows no TLS.
 */
#ifndef COORDINATOR_CLUSTER_REDIS_H
#define COORDINATOR_CLUSTER_REDIS_H

#include "coordinator/loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis;

/*
 * What is wrong with it.  TROUBLE(name, for scripts, for people); up to LOADING
 * a connection that is ready disproves it, the others an answer.
 */
#define REDIS_TROUBLES(TROUBLE)                                                \
	TROUBLE(NONE, none, "nothing")                                         \
	TROUBLE(NAME, name, "its host name is not found")                      \
	TROUBLE(CONNECT, connect, "it cannot be connected to")                 \
	TROUBLE(TLS, tls, "TLS fails")                                         \
	TROUBLE(PASSWORD, password,                                            \
		"it does not let us in: user and password of `cluster`")       \
	TROUBLE(DB, db, "it has no database of that number")                   \
	TROUBLE(LOADING, loading, "it is loading its data")                    \
	TROUBLE(CLOSED, closed, "it closed the connection")                    \
	TROUBLE(SILENT, silent, "it does not answer in time")                  \
	TROUBLE(READONLY, readonly,                                            \
		"it is a replica: `cluster` must name the primary")            \
	TROUBLE(MOVED, moved,                                                  \
		"it is a node of a Redis Cluster without our keys")            \
	TROUBLE(WRONGTYPE, wrongtype,                                          \
		"our keys hold something else: another program uses them")     \
	TROUBLE(FULL, full, "it has no memory or no disk for writes")          \
	TROUBLE(ERROR, error, "it answers with an error")                      \
	TROUBLE(GARBAGE, garbage, "what answers there is not Redis")           \
	TROUBLE(HOST, host, "this host has no memory or descriptors for it")

enum redis_trouble {
#define TROUBLE(name, word, text) REDIS_##name,
	REDIS_TROUBLES(TROUBLE)
#undef TROUBLE
		REDIS_TROUBLE_KINDS
};

enum redis_stage {
	REDIS_OFF,
	REDIS_CONNECTING,
	REDIS_READY,
	REDIS_ASKING,
	REDIS_WAITING, /* until it is tried again */
};

struct redis_settings {
	const char *url;     /* as redis_url_parse() accepts it */
	const char *ca_file; /* NULL: the system's */
	uint64_t connect_ns; /* until it is ready */
	uint64_t answer_ns;  /* of one question; then it is connected anew */
	const char *script;
};

/*
 * Told from the loop, and never from inside redis_ask(); the numbers only until
 * the callback returns.  lost(): it is not ready any more, or was never; what
 * was asked is not answered (and may have been heard).  None may call
 * redis_free().
 */
struct redis_events {
	void *owner;
	void (*ready)(void *owner);
	void (*answered)(void *owner, const long long *numbers, size_t n);
	void (*lost)(void *owner);
};

enum { REDIS_NUMBERS = 1024, REDIS_WORDS_BYTES = 160, REDIS_RUN_ID_BYTES = 64 };

/*
 * Begins to connect.  Copies what it needs of the settings.  -ENOMEM, -EINVAL
 * (url, ca_file): ret_words says why.
 */
int redis_create(struct loop *loop, const struct redis_settings *settings,
	const struct redis_events *events, struct redis **ret_redis,
	char ret_words[REDIS_WORDS_BYTES]);

/* What is out is given up, without a word.  NULL is fine. */
void redis_free(struct redis *redis);

/*
 * Asks the script: the words of EVALSHA after its sha, the number of keys
 * first.  The answers come in the order of the questions.  -ENOTCONN: it is not
 * ready; -EBUSY: enough are out; -ENOMEM.
 */
int redis_ask(
	struct redis *redis, char *const *words, const size_t *lengths, int n);

/* Somebody waits for it: it is tried again soon, and at short intervals until
 * it has answered. */
void redis_hurry(struct redis *redis);

enum redis_stage redis_stage(const struct redis *redis);
/* What keeps it from READY, or was wrong with the last question. */
enum redis_trouble redis_trouble(
	const struct redis *redis, const char **ret_words);
const char *redis_trouble_word(enum redis_trouble trouble);
const char *redis_trouble_text(enum redis_trouble trouble);
/* Which process answers: changes with each start of Redis.  "" before the first
 * READY. */
const char *redis_run_id(const struct redis *redis);
/* How long the last answer took; 0: there was none. */
uint64_t redis_took_ns(const struct redis *redis);
/* The URL without its password. */
const char *redis_shown(const struct redis *redis);

#endif
