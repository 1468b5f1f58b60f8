/* What is said and what is heard: commands in line, replies in order. */
#include "coordinator/cluster/redis_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 16384, READS_PER_EVENT = 16 };

/* ------------------------------------------------------------ writing */

static bool append(struct redis *redis, const char *bytes, size_t n)
{
	char *out = realloc(redis->out, redis->out_bytes + n);

	if (out == NULL)
		return false;
	memcpy(out + redis->out_bytes, bytes, n);
	redis->out = out;
	redis->out_bytes += n;
	return true;
}

bool redis_add_step(
	struct redis *redis, enum step step, const char *bytes, size_t n)
{
	if (redis->n_steps == STEPS || !append(redis, bytes, n))
		return false;
	redis->steps[redis->n_steps++] = step;
	return true;
}

bool redis_say(struct redis *redis, enum step step, int n, const char **words,
	const size_t *bytes)
{
	char *text = NULL;
	int length = redisFormatCommandArgv(&text, n, words, bytes);
	bool ok =
		length > 0 && redis_add_step(redis, step, text, (size_t)length);

	if (length > 0)
		redisFreeCommand(text);
	return ok;
}

void redis_watch(struct redis *redis)
{
	bool writes = redis->transport.wants_write ||
		      redis->out_done < redis->out_bytes;

	if (loop_watch_change(redis->loop, &redis->watch,
		    LOOP_READ | (writes ? LOOP_WRITE : 0u)) != 0)
		redis_fail(redis, REDIS_HOST, "the loop refuses it");
}

/* False: it has failed. */
static bool write_out(struct redis *redis)
{
	while (redis->out_done < redis->out_bytes) {
		ssize_t n = transport_write(&redis->transport,
			redis->out + redis->out_done,
			redis->out_bytes - redis->out_done);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			redis_fail(redis, REDIS_CLOSED, "%s",
				strerrordesc_np((int)-n));
			return false;
		}
		redis->out_done += (size_t)n;
	}
	if (redis->out_done == redis->out_bytes)
		redis->out_bytes = redis->out_done = 0;
	return true;
}

/* ------------------------------------------------------------ replies */

static void become_ready(struct redis *redis)
{
	redis->stage = REDIS_READY;
	redis->retry_ns = 0;
	loop_timer_clear(redis->loop, &redis->timer);
	redis_end_trouble(redis, false);
	redis->events.ready(redis->events.owner);
}

/* The last question once more, with the script before it; those before that
 * are old. */
static void load_again(struct redis *redis)
{
	if (redis->n_questions > 0)
		return;
	redis->is_reloaded = true;
	redis->n_questions = 1;
	if (!redis_say(redis, TO_SCRIPT, 3,
		    (const char *[]){"SCRIPT", "LOAD", redis->script}, NULL) ||
		!redis_add_step(redis, TO_QUESTION, redis->question,
			redis->question_bytes))
		redis_fail(redis, REDIS_HOST, "no memory");
}

/* Of AUTH only the code is told: some say what they have been given. */
static void take_error(
	struct redis *redis, enum step step, const redisReply *reply)
{
	enum redis_trouble trouble = reply_trouble(reply);

	if (step == TO_QUESTION && !redis->is_reloaded &&
		strncmp(reply->str, "NOSCRIPT", 8) == 0) {
		load_again(redis);
		return;
	}
	if (step == TO_QUESTION && trouble == REDIS_PASSWORD)
		trouble = REDIS_ERROR; /* let in, but not to do that */
	if (step == TO_AUTH)
		redis_fail(redis,
			trouble == REDIS_ERROR ? REDIS_PASSWORD : trouble,
			"%.*s", (int)strcspn(reply->str, " "), reply->str);
	else
		redis_fail(redis,
			step == TO_SELECT && trouble == REDIS_ERROR ? REDIS_DB
								    : trouble,
			"%s", reply->str);
}

static void take_info(struct redis *redis, const char *info)
{
	const char *at = strstr(info, "run_id:");

	if (at == NULL)
		return;
	at += strlen("run_id:");
	(void)snprintf(redis->run_id, sizeof(redis->run_id), "%.*s",
		(int)strspn(at, "0123456789abcdef"), at);
}

static void take_answer(struct redis *redis, const redisReply *reply)
{
	long long numbers[REDIS_NUMBERS];
	ssize_t n = reply_numbers(reply, numbers);

	if (n < 0) {
		redis_fail(redis, REDIS_GARBAGE, "no answer of our script");
		return;
	}
	redis->is_awaited = redis->is_reloaded = false;
	redis->took_ns = loop_now_ns() - redis->asked_ns;
	if (redis->n_questions == 0) {
		redis->stage = REDIS_READY;
		loop_timer_clear(redis->loop, &redis->timer);
	} else {
		redis_set_deadline(redis, redis->answer_ns);
	}
	redis_end_trouble(redis, true);
	redis->events.answered(redis->events.owner, numbers, (size_t)n);
}

static bool is_expected(enum step step, const redisReply *reply)
{
	if (step == TO_AUTH || step == TO_SELECT)
		return reply->type == REDIS_REPLY_STATUS;
	if (step == TO_SCRIPT)
		return reply->type == REDIS_REPLY_STRING &&
		       reply->len == SHA_BYTES;
	return step == TO_QUESTION ||
	       (step == TO_INFO && reply->type == REDIS_REPLY_STRING);
}

static enum step next_step(struct redis *redis)
{
	enum step step = redis->steps[0];

	if (redis->n_steps == 0)
		return TO_NOTHING;
	redis->n_steps--;
	memmove(redis->steps, redis->steps + 1,
		redis->n_steps * sizeof(redis->steps[0]));
	if (step == TO_QUESTION)
		redis->n_questions--;
	return step;
}

static void take(struct redis *redis, const redisReply *reply)
{
	enum step step = next_step(redis);

	if (reply->type == REDIS_REPLY_ERROR) {
		take_error(redis, step, reply);
		return;
	}
	if (!is_expected(step, reply)) {
		redis_fail(redis, REDIS_GARBAGE, "not what was asked for");
		return;
	}
	if (step == TO_INFO)
		take_info(redis, reply->str);
	else if (step == TO_SCRIPT)
		memcpy(redis->sha, reply->str, SHA_BYTES);
	else if (step == TO_QUESTION)
		take_answer(redis, reply);
	if (redis->stage == REDIS_CONNECTING && redis->n_steps == 0)
		become_ready(redis);
}

/* ------------------------------------------------------------ reading */

/* All replies that are whole; false: it has failed. */
static bool take_all(struct redis *redis)
{
	redisReply *reply = NULL;

	while (redis->transport.fd >= 0 &&
		reply_next(&redis->reader, &reply) == 0) {
		if (reply == NULL)
			return true;
		take(redis, reply);
		freeReplyObject(reply);
	}
	if (redis->transport.fd >= 0)
		redis_fail(redis, REDIS_GARBAGE, "no reply of Redis");
	return false;
}

static bool read_in(struct redis *redis)
{
	char bytes[READ_BYTES];

	for (int i = 0; i < READS_PER_EVENT; i++) {
		ssize_t n =
			transport_read(&redis->transport, bytes, sizeof(bytes));

		if (n == -EAGAIN)
			return true;
		if (n <= 0) {
			redis_fail(redis, REDIS_CLOSED, "%s",
				n == 0 ? "it hung up"
				       : strerrordesc_np((int)-n));
			return false;
		}
		if (reply_feed(&redis->reader, bytes, (size_t)n) != 0) {
			redis_fail(redis, REDIS_GARBAGE, "it talks too much");
			return false;
		}
		if (!take_all(redis))
			return false;
	}
	return true;
}

void redis_on_ready(struct loop_watch *watch, unsigned int events)
{
	struct redis *redis = watch->owner;

	(void)events;
	if (redis->stage == REDIS_CONNECTING && redis->n_steps == 0 &&
		redis_shake(redis) != 0)
		return;
	if (write_out(redis) && read_in(redis) && write_out(redis))
		redis_watch(redis);
}
