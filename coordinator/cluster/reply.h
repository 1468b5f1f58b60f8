/*
 * What Redis says, taken apart by hiredis with bounds of our own: an answer
 * that would be larger than ours can be is garbage, before memory is spent
 * on it.
 */
#ifndef COORDINATOR_CLUSTER_REPLY_H
#define COORDINATOR_CLUSTER_REPLY_H

#include "coordinator/cluster/redis.h"

#include <hiredis/hiredis.h>

struct reply_reader {
	redisReader *reader;
	redisReplyObjectFunctions functions;
	size_t unanswered; /* bytes since the last whole reply */
};

/* -ENOMEM.  A zeroed one may be ended. */
int reply_reader_init(struct reply_reader *reader);
void reply_reader_fini(struct reply_reader *reader);

/* -EPROTO: garbage, or too much; the reader is of no use any more. */
int reply_feed(struct reply_reader *reader, const char *bytes, size_t n);

/* The next whole reply, the caller's (freeReplyObject()); NULL: there is none
 * yet.  -EPROTO as above. */
int reply_next(struct reply_reader *reader, redisReply **ret_reply);

/* The numbers of a list of numbers, and how many; -EPROTO: it is none. */
ssize_t reply_numbers(
	const redisReply *reply, long long numbers[REDIS_NUMBERS]);

/* The kind of an error reply by its first word. */
enum redis_trouble reply_trouble(const redisReply *reply);

/* A text of Redis for people: printable, cut. */
void reply_clean(const char *text, char *ret_text, size_t bytes);

#endif
