/*
 * What the files redis*.c share, and nobody else includes: redis.c its life and
 * its troubles, redis_connect.c the way to READY, redis_talk.c what is said.
 */
#ifndef COORDINATOR_CLUSTER_REDIS_INSIDE_H
#define COORDINATOR_CLUSTER_REDIS_INSIDE_H

#include "coordinator/cluster/redis.h"
#include "coordinator/cluster/redis_url.h"
#include "coordinator/cluster/reply.h"
#include "coordinator/cluster/resolve.h"
#include "coordinator/cluster/transport.h"

#define MS UINT64_C(1000000)

enum { SHA_BYTES = 40 };

/* What the next reply is to. */
enum step { TO_AUTH, TO_SELECT, TO_INFO, TO_SCRIPT, TO_QUESTION, TO_NOTHING };

/* Commands, and questions among them, that may be out. */
enum { STEPS = 8, QUESTIONS = 3 };

struct redis {
	struct loop *loop;
	struct redis_events events;
	struct redis_url url;
	SSL_CTX *tls;
	uint64_t connect_ns, answer_ns;
	char *script;
	char *shown; /* the URL without the password */

	enum redis_stage stage;
	struct loop_timer timer; /* of the stage: its end, the next try */
	struct resolve *resolve;
	struct addrinfo *addresses, *next_address;
	struct transport transport;
	struct loop_watch watch;
	struct reply_reader reader;

	/* Commands that are out, in order; each reply is to the first. */
	enum step steps[STEPS];
	unsigned int n_steps, n_questions;
	char *out; /* to be written */
	size_t out_bytes, out_done;
	char *question; /* the last one, for a second time after NOSCRIPT */
	size_t question_bytes;
	bool is_reloaded; /* the script, since the last answer */

	char sha[SHA_BYTES + 1];
	char run_id[REDIS_RUN_ID_BYTES];
	enum redis_trouble trouble;
	char words[REDIS_WORDS_BYTES];
	uint32_t told; /* kinds of trouble that the log has, by bit */
	bool is_awaited;
	uint64_t retry_ns;
	uint64_t dice;
	uint64_t asked_ns, took_ns;
};

/* ------------------------------------------------------------ redis.c */

/* Closed, told, tried again later. */
void redis_fail(struct redis *redis, enum redis_trouble trouble,
	const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A connection that is ready disproves some kinds, an answer all. */
void redis_end_trouble(struct redis *redis, bool is_answered);
/* The stage must end by then. */
void redis_set_deadline(struct redis *redis, uint64_t patience_ns);

/* ------------------------------------------------------------ redis_connect.c
 */

/* Begins to connect: the timer's. */
void redis_on_retry(struct loop_timer *timer, uint64_t now_ns);
/* 0: it is connected and all is said; 1: later, or it has failed. */
int redis_shake(struct redis *redis);

/* ------------------------------------------------------------ redis_talk.c */

/* Puts a command in line, to be written by the loop; false: no memory. */
bool redis_add_step(
	struct redis *redis, enum step step, const char *bytes, size_t n);
bool redis_say(struct redis *redis, enum step step, int n, const char **words,
	const size_t *bytes);
/* Waits for the events that are worth to be woken for now. */
void redis_watch(struct redis *redis);
void redis_on_ready(struct loop_watch *watch, unsigned int events);

#endif
