/*
 * The life of the connection.  Every way out of it that was not asked for goes
 * through fail(): closed, told, tried again later.
 */
#include "coordinator/cluster/redis.h"

#include "coordinator/cluster/redis_url.h"
#include "coordinator/cluster/reply.h"
#include "coordinator/cluster/resolve.h"
#include "coordinator/cluster/transport.h"
#include "coordinator/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>

#define MS UINT64_C(1000000)

/* Between two tries: doubled from the least to the most.  Where nobody asks,
 * the least is a second. */
#define RETRY_LEAST (100 * MS)
#define RETRY_MOST (2000 * MS)
#define RETRY_IDLE_LEAST (1000 * MS)
#define RETRY_IDLE_MOST (15000 * MS)

enum { READ_BYTES = 16384, READS_PER_EVENT = 16, SHA_BYTES = 40 };

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

static void fail(struct redis *redis, enum redis_trouble trouble,
	const char *format, ...) __attribute__((format(printf, 3, 4)));
static void try_next(struct redis *redis);

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

/* A connection that is ready disproves some kinds, an answer all. */
static void end_trouble(struct redis *redis, bool is_answered)
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

static void on_retry(struct loop_timer *timer, uint64_t now_ns);

/* Hosts that lost it together do not come back together. */
static void set_retry(struct redis *redis)
{
	uint64_t least = redis->is_awaited ? RETRY_LEAST : RETRY_IDLE_LEAST;
	uint64_t most = redis->is_awaited ? RETRY_MOST : RETRY_IDLE_MOST;
	uint64_t wait_ns = redis->retry_ns;

	wait_ns = wait_ns < least ? least : wait_ns > most ? most : wait_ns;
	redis->retry_ns = 2 * wait_ns;
	(void)loop_timer_set(redis->loop, &redis->timer,
		loop_now_ns() + wait_ns + draw(redis, wait_ns / 2), on_retry,
		redis);
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

static void fail(struct redis *redis, enum redis_trouble trouble,
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
	fail(redis,
		is_asking || redis->transport.is_connected ? REDIS_SILENT
		: redis->resolve != NULL                   ? REDIS_NAME
							   : REDIS_CONNECT,
		"nothing for %u ms", (unsigned int)(patience_ns / MS));
}

static void set_deadline(struct redis *redis, uint64_t patience_ns)
{
	(void)loop_timer_set(redis->loop, &redis->timer,
		loop_now_ns() + patience_ns, on_late, redis);
}

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

static bool add_step(
	struct redis *redis, enum step step, const char *bytes, size_t n)
{
	if (redis->n_steps == STEPS || !append(redis, bytes, n))
		return false;
	redis->steps[redis->n_steps++] = step;
	return true;
}

static bool say(struct redis *redis, enum step step, int n, const char **words,
	const size_t *bytes)
{
	char *text = NULL;
	int length = redisFormatCommandArgv(&text, n, words, bytes);
	bool ok = length > 0 && add_step(redis, step, text, (size_t)length);

	if (length > 0)
		redisFreeCommand(text);
	return ok;
}

/* The events that are worth to be woken for now. */
static void watch_transport(struct redis *redis)
{
	bool writes = redis->transport.wants_write ||
		      redis->out_done < redis->out_bytes;

	if (loop_watch_change(redis->loop, &redis->watch,
		    LOOP_READ | (writes ? LOOP_WRITE : 0u)) != 0)
		fail(redis, REDIS_HOST, "the loop refuses it");
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
			fail(redis, REDIS_CLOSED, "%s",
				strerrordesc_np((int)-n));
			return false;
		}
		redis->out_done += (size_t)n;
	}
	if (redis->out_done == redis->out_bytes)
		redis->out_bytes = redis->out_done = 0;
	return true;
}

/* ------------------------------------------------------------ beginning */

/* All at once: the replies come in order, and an error ends them. */
static bool introduce(struct redis *redis)
{
	const struct redis_url *url = &redis->url;
	char db[16];
	bool ok = true;

	(void)snprintf(db, sizeof(db), "%u", url->db);
	if (url->user[0] != '\0')
		ok = say(redis, TO_AUTH, 3,
			(const char *[]){"AUTH", url->user, url->password},
			NULL);
	else if (url->password[0] != '\0')
		ok = say(redis, TO_AUTH, 2,
			(const char *[]){"AUTH", url->password}, NULL);
	if (ok && url->db != 0)
		ok = say(redis, TO_SELECT, 2, (const char *[]){"SELECT", db},
			NULL);
	return ok &&
	       say(redis, TO_INFO, 2, (const char *[]){"INFO", "server"},
		       NULL) &&
	       say(redis, TO_SCRIPT, 3,
		       (const char *[]){"SCRIPT", "LOAD", redis->script}, NULL);
}

static void on_ready(struct loop_watch *watch, unsigned int events);

static void begin_at(
	struct redis *redis, const struct sockaddr *address, socklen_t bytes)
{
	int rc = transport_open(
		&redis->transport, address, bytes, redis->tls, redis->url.host);

	if (rc == 0)
		rc = loop_watch(redis->loop, &redis->watch, redis->transport.fd,
			LOOP_READ | LOOP_WRITE, on_ready, redis);
	if (rc == 0)
		return;
	(void)snprintf(
		redis->words, sizeof(redis->words), "%s", strerrordesc_np(-rc));
	try_next(redis);
}

/* The next address of the name; none is left: that was the last try. */
static void try_next(struct redis *redis)
{
	const struct addrinfo *address = redis->next_address;

	loop_unwatch(redis->loop, &redis->watch);
	transport_close(&redis->transport);
	if (address == NULL) {
		char words[REDIS_WORDS_BYTES];

		(void)snprintf(words, sizeof(words), "%s", redis->words);
		fail(redis, REDIS_CONNECT, "%s", words);
		return;
	}
	redis->next_address = address->ai_next;
	begin_at(redis, address->ai_addr, address->ai_addrlen);
}

static void on_resolved(void *owner, int error, struct addrinfo *addresses)
{
	struct redis *redis = owner;

	redis->resolve = NULL;
	if (redis->stage != REDIS_CONNECTING) { /* too late; next time */
		if (addresses != NULL)
			freeaddrinfo(addresses);
		return;
	}
	redis->addresses = redis->next_address = addresses;
	if (error != 0)
		fail(redis, REDIS_NAME, "%s", gai_strerror(error));
	else
		try_next(redis);
}

static void begin_unix(struct redis *redis)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, redis->url.path, sizeof(address.sun_path));
	begin_at(redis, (const struct sockaddr *)&address, sizeof(address));
}

static void begin(struct redis *redis)
{
	int rc = reply_reader_init(&redis->reader);

	redis->stage = REDIS_CONNECTING;
	redis->is_reloaded = false;
	set_deadline(redis, redis->connect_ns);
	if (rc == 0 && redis->url.transport == REDIS_BY_UNIX) {
		begin_unix(redis);
		return;
	}
	if (rc == 0 && redis->resolve == NULL)
		rc = resolve_start(redis->loop, redis->url.host,
			redis->url.port, on_resolved, redis, &redis->resolve);
	if (rc != 0)
		fail(redis, REDIS_HOST, "%s", strerrordesc_np(-rc));
}

static void on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	begin(timer->owner);
}

/* ------------------------------------------------------------ replies */

static void become_ready(struct redis *redis)
{
	redis->stage = REDIS_READY;
	redis->retry_ns = 0;
	loop_timer_clear(redis->loop, &redis->timer);
	end_trouble(redis, false);
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
	if (!say(redis, TO_SCRIPT, 3,
		    (const char *[]){"SCRIPT", "LOAD", redis->script}, NULL) ||
		!add_step(redis, TO_QUESTION, redis->question,
			redis->question_bytes))
		fail(redis, REDIS_HOST, "no memory");
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
		fail(redis, trouble == REDIS_ERROR ? REDIS_PASSWORD : trouble,
			"%.*s", (int)strcspn(reply->str, " "), reply->str);
	else
		fail(redis,
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
		fail(redis, REDIS_GARBAGE, "no answer of our script");
		return;
	}
	redis->is_awaited = redis->is_reloaded = false;
	redis->took_ns = loop_now_ns() - redis->asked_ns;
	if (redis->n_questions == 0) {
		redis->stage = REDIS_READY;
		loop_timer_clear(redis->loop, &redis->timer);
	} else {
		set_deadline(redis, redis->answer_ns);
	}
	end_trouble(redis, true);
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
		fail(redis, REDIS_GARBAGE, "not what was asked for");
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
		fail(redis, REDIS_GARBAGE, "no reply of Redis");
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
			fail(redis, REDIS_CLOSED, "%s",
				n == 0 ? "it hung up"
				       : strerrordesc_np((int)-n));
			return false;
		}
		if (reply_feed(&redis->reader, bytes, (size_t)n) != 0) {
			fail(redis, REDIS_GARBAGE, "it talks too much");
			return false;
		}
		if (!take_all(redis))
			return false;
	}
	return true;
}

/* 0: it is there; 1: later, or it has failed. */
static int shake(struct redis *redis)
{
	char words[TRANSPORT_WORDS_BYTES];
	bool was_connected = redis->transport.is_connected;
	int rc = transport_shake(&redis->transport, words);

	if (rc == -EAGAIN) {
		watch_transport(redis);
		return 1;
	}
	if (rc != 0 && words[0] != '\0') {
		fail(redis, REDIS_TLS, "%s", words);
		return 1;
	}
	if (rc != 0) {
		(void)snprintf(redis->words, sizeof(redis->words), "%s",
			strerrordesc_np(-rc));
		if (was_connected)
			fail(redis, REDIS_TLS, "%s", strerrordesc_np(-rc));
		else
			try_next(redis);
		return 1;
	}
	if (!introduce(redis)) {
		fail(redis, REDIS_HOST, "no memory");
		return 1;
	}
	return 0;
}

static void on_ready(struct loop_watch *watch, unsigned int events)
{
	struct redis *redis = watch->owner;

	(void)events;
	if (redis->stage == REDIS_CONNECTING && redis->n_steps == 0 &&
		shake(redis) != 0)
		return;
	if (write_out(redis) && read_in(redis) && write_out(redis))
		watch_transport(redis);
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
			soon_ns + draw(redis, RETRY_LEAST), on_retry, redis);
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
	if (!add_step(
		    redis, TO_QUESTION, redis->question, redis->question_bytes))
		return -ENOMEM;
	redis->n_questions++;
	redis->asked_ns = loop_now_ns();
	if (redis->stage == REDIS_READY)
		set_deadline(redis, redis->answer_ns);
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
		rc = loop_timer_set(
			loop, &redis->timer, loop_now_ns(), on_retry, redis);
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
