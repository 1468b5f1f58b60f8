/*
 * The life of the connection.  Every way out of it that was not asked for goes
 * through redis_fail().
 */
#include "coordinator/cluster/redis_inside.h"

#include "coordinator/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Between two tries: doubled from the least to the most.  Where nobody asks,
 * the least is a second. */
#define RETRY_LEAST (100 * MS)
#define RETRY_MOST (2000 * MS)
#define RETRY_IDLE_LEAST (1000 * MS)
#define RETRY_IDLE_MOST (15000 * MS)

/* ------------------------------------------------------------ trouble */

static const struct {
	const char *word, *text;
} troubles[] = {
#define TROUBLE(name, word, text) {#word, text},
	REDIS_TROUBLES(TROUBLE)
#undef TROUBLE
};

const char *redis_trouble_word(enum redis_trouble trouble)
{
	return trouble < REDIS_TROUBLE_KINDS ? troubles[trouble].word : "?";
}

const char *redis_trouble_text(enum redis_trouble trouble)
{
	return trouble < REDIS_TROUBLE_KINDS ? troubles[trouble].text : "?";
}

/* Each kind once, until it is over. */
static void log_trouble(struct redis *redis)
{
	uint32_t bit = UINT32_C(1) << redis->trouble;

	if ((redis->told & bit) != 0)
		return;
	redis->told |= bit;
	LOG(LOG_WARN, "cluster.trouble", redis_trouble_text(redis->trouble),
		F_S("redis", redis->shown), F_S("reason", redis->words));
}

void redis_end_trouble(struct redis *redis, bool is_answered)
{
	uint32_t disproved =
		is_answered ? UINT32_MAX : (UINT32_C(2) << REDIS_LOADING) - 1;
	bool was_told = (redis->told & disproved) != 0;

	redis->trouble = REDIS_NONE;
	redis->words[0] = '\0';
	redis->told &= ~disproved;
	if (was_told && redis->told == 0)
		LOG(LOG_INFO, "cluster.well", "Redis serves again",
			F_S("redis", redis->shown));
}

static uint64_t draw(struct redis *redis, uint64_t below)
{
	redis->dice ^= redis->dice << 13;
	redis->dice ^= redis->dice >> 7;
	redis->dice ^= redis->dice << 17;
	return below == 0 ? 0 : redis->dice % below;
}

/* Hosts that lost it together do not come back together. */
static void set_retry(struct redis *redis)
{
	uint64_t least = redis->is_awaited ? RETRY_LEAST : RETRY_IDLE_LEAST;
	uint64_t most = redis->is_awaited ? RETRY_MOST : RETRY_IDLE_MOST;
	uint64_t wait_ns = redis->retry_ns;

	wait_ns = wait_ns < least ? least : wait_ns > most ? most : wait_ns;
	redis->retry_ns = 2 * wait_ns;
	(void)loop_timer_set(redis->loop, &redis->timer,
		loop_now_ns() + wait_ns + draw(redis, wait_ns / 2),
		redis_on_retry, redis);
}

/* Nothing of a connection is left. */
static void hang_up(struct redis *redis)
{
	loop_unwatch(redis->loop, &redis->watch);
	transport_close(&redis->transport);
	reply_reader_fini(&redis->reader);
	free(redis->out);
	redis->out = NULL;
	redis->out_bytes = redis->out_done = 0;
	redis->n_steps = redis->n_questions = 0;
	if (redis->addresses != NULL)
		freeaddrinfo(redis->addresses);
	redis->addresses = redis->next_address = NULL;
	free(redis->question);
	redis->question = NULL;
}

void redis_fail(struct redis *redis, enum redis_trouble trouble,
	const char *format, ...)
{
	char words[REDIS_WORDS_BYTES];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	reply_clean(words, redis->words, sizeof(redis->words));
	redis->trouble = trouble;
	hang_up(redis);
	redis->stage = REDIS_WAITING;
	log_trouble(redis);
	set_retry(redis);
	redis->events.lost(redis->events.owner);
}

static void on_late(struct loop_timer *timer, uint64_t now_ns)
{
	struct redis *redis = timer->owner;
	bool is_asking = redis->stage == REDIS_ASKING;
	uint64_t patience_ns = is_asking ? redis->answer_ns : redis->connect_ns;

	(void)now_ns;
	/* The look-up goes on: another one would not be faster. */
	redis_fail(redis,
		is_asking || redis->transport.is_connected ? REDIS_SILENT
		: redis->resolve != NULL                   ? REDIS_NAME
							   : REDIS_CONNECT,
		"nothing for %u ms", (unsigned int)(patience_ns / MS));
}

void redis_set_deadline(struct redis *redis, uint64_t patience_ns)
{
	(void)loop_timer_set(redis->loop, &redis->timer,
		loop_now_ns() + patience_ns, on_late, redis);
}

/* ------------------------------------------------------------ asking */

void redis_hurry(struct redis *redis)
{
	uint64_t soon_ns = loop_now_ns() + RETRY_LEAST;

	if (redis->is_awaited)
		return;
	redis->is_awaited = true;
	redis->retry_ns = 0;
	if (redis->stage == REDIS_WAITING && redis->timer.at_ns > soon_ns)
		(void)loop_timer_set(redis->loop, &redis->timer,
			soon_ns + draw(redis, RETRY_LEAST), redis_on_retry,
			redis);
}

/* EVALSHA sha words... */
static int format_question(
	struct redis *redis, char *const *words, const size_t *lengths, int n)
{
	const char **all = calloc((size_t)n + 2, sizeof(*all));
	size_t *bytes = calloc((size_t)n + 2, sizeof(*bytes));
	char *text = NULL;
	int length = -1;

	if (all != NULL && bytes != NULL) {
		all[0] = "EVALSHA";
		bytes[0] = strlen(all[0]);
		all[1] = redis->sha;
		bytes[1] = SHA_BYTES;
		for (int i = 0; i < n; i++) {
			all[i + 2] = words[i];
			bytes[i + 2] = lengths[i];
		}
		length = redisFormatCommandArgv(&text, n + 2, all, bytes);
	}
	free(all);
	free(bytes);
	if (length <= 0)
		return -ENOMEM;
	free(redis->question);
	redis->question = text;
	redis->question_bytes = (size_t)length;
	return 0;
}

int redis_ask(
	struct redis *redis, char *const *words, const size_t *lengths, int n)
{
	int rc;

	if (redis->stage != REDIS_READY && redis->stage != REDIS_ASKING)
		return -ENOTCONN;
	if (redis->n_questions == QUESTIONS)
		return -EBUSY;
	rc = format_question(redis, words, lengths, n);
	if (rc != 0)
		return rc;
	if (!redis_add_step(
		    redis, TO_QUESTION, redis->question, redis->question_bytes))
		return -ENOMEM;
	redis->n_questions++;
	redis->asked_ns = loop_now_ns();
	if (redis->stage == REDIS_READY)
		redis_set_deadline(redis, redis->answer_ns);
	redis->stage = REDIS_ASKING;
	/* Written from the loop: a failure is never told from in here.  Where
	 * the loop refuses, the time-out tells. */
	(void)loop_watch_change(
		redis->loop, &redis->watch, LOOP_READ | LOOP_WRITE);
	return 0;
}

/* ------------------------------------------------------------ life */

static int set_up(struct redis *redis, const struct redis_settings *settings,
	char ret_words[REDIS_WORDS_BYTES])
{
	const char *why = redis_url_parse(settings->url, &redis->url);
	size_t shown = strlen(settings->url) + 4;
	char tls_words[TRANSPORT_WORDS_BYTES];

	if (why != NULL) {
		(void)snprintf(
			ret_words, REDIS_WORDS_BYTES, "expected %s", why);
		return -EINVAL;
	}
	redis->shown = malloc(shown);
	redis->script = strdup(settings->script);
	if (redis->shown == NULL || redis->script == NULL) {
		(void)snprintf(ret_words, REDIS_WORDS_BYTES, "no memory");
		return -ENOMEM;
	}
	redis_url_mask(settings->url, redis->shown, shown);
	if (redis->url.transport != REDIS_BY_TLS)
		return 0;
	redis->tls = transport_tls_create(settings->ca_file, tls_words);
	if (redis->tls != NULL)
		return 0;
	(void)snprintf(ret_words, REDIS_WORDS_BYTES, "%s", tls_words);
	return -EINVAL;
}

int redis_create(struct loop *loop, const struct redis_settings *settings,
	const struct redis_events *events, struct redis **ret_redis,
	char ret_words[REDIS_WORDS_BYTES])
{
	struct redis *redis = calloc(1, sizeof(*redis));
	int rc;

	(void)snprintf(ret_words, REDIS_WORDS_BYTES, "no memory");
	if (redis == NULL)
		return -ENOMEM;
	redis->loop = loop;
	redis->events = *events;
	redis->connect_ns = settings->connect_ns;
	redis->answer_ns = settings->answer_ns;
	redis->transport.fd = -1;
	if (getrandom(&redis->dice, sizeof(redis->dice), 0) < 0 ||
		redis->dice == 0)
		redis->dice = loop_now_ns() | 1;
	rc = set_up(redis, settings, ret_words);
	if (rc == 0) { /* from the loop: nothing is told from in here */
		redis->stage = REDIS_WAITING;
		rc = loop_timer_set(loop, &redis->timer, loop_now_ns(),
			redis_on_retry, redis);
	}
	if (rc != 0) {
		redis_free(redis);
		return rc;
	}
	*ret_redis = redis;
	return 0;
}

void redis_free(struct redis *redis)
{
	if (redis == NULL)
		return;
	loop_timer_clear(redis->loop, &redis->timer);
	resolve_cancel(redis->resolve);
	hang_up(redis);
	SSL_CTX_free(redis->tls);
	explicit_bzero(&redis->url, sizeof(redis->url));
	free(redis->shown);
	free(redis->script);
	free(redis);
}

enum redis_stage redis_stage(const struct redis *redis)
{
	return redis->stage;
}

enum redis_trouble redis_trouble(
	const struct redis *redis, const char **ret_words)
{
	*ret_words = redis->words;
	return redis->trouble;
}

const char *redis_run_id(const struct redis *redis)
{
	return redis->run_id;
}

uint64_t redis_took_ns(const struct redis *redis)
{
	return redis->took_ns;
}

const char *redis_shown(const struct redis *redis)
{
	return redis->shown;
}
