/*
 * The upstream object: its configuration and credentials, the exchanges that
 * run and those that wait for work, and the end of each.
 *
 * An exchange is on one list at a time: `running` from upstream_start() until
 * its done() is about to be called, then on none, then `spare` or freed.
 */
#include "coordinator/upstream/upstream.h"

#include "coordinator/upstream/exchange.h"
#include "coordinator/upstream/http.h"
#include "coordinator/upstream/identity.h"
#include "coordinator/upstream/request.h"
#include "coordinator/upstream/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { MAX_SPARE = 64 };

struct upstream {
	struct loop *loop;
	struct http http;
	struct settings settings;
	uint64_t configuration; /* counts the reloads */
	struct identity identity;
	struct sigv4_key *key;
	struct upstream_exchange *running, *spare;
	unsigned int spare_count;
	struct loop_timer idle; /* closes what nobody has used for long */
	uint64_t last_end_ns;
	uint64_t connections_opened, calls_started;
	bool closing;
};

/* ---- exchanges ---- */

static void free_spares(struct upstream *upstream)
{
	while (upstream->spare != NULL) {
		struct upstream_exchange *exchange = upstream->spare;

		LL_DELETE(upstream->spare, exchange);
		exchange_free(exchange);
	}
	upstream->spare_count = 0;
}

static struct upstream_exchange *take_exchange(struct upstream *upstream)
{
	struct upstream_exchange *exchange = upstream->spare;

	if (exchange != NULL) {
		LL_DELETE(upstream->spare, exchange);
		upstream->spare_count--;
		return exchange;
	}
	exchange = exchange_create(upstream->loop, &upstream->settings.options);
	if (exchange == NULL)
		return NULL;
	if (http_adopt(&upstream->http, exchange->easy) != 0) {
		exchange_free(exchange);
		return NULL;
	}
	exchange->upstream = upstream;
	exchange->configuration = upstream->configuration;
	return exchange;
}

static void give_back(
	struct upstream *upstream, struct upstream_exchange *exchange)
{
	exchange_retire(exchange);
	if (upstream->spare_count >= MAX_SPARE || upstream->closing ||
		exchange->configuration != upstream->configuration) {
		exchange_free(exchange);
		return;
	}
	LL_PREPEND(upstream->spare, exchange);
	upstream->spare_count++;
}

/* ---- the end of a call ---- */

static void on_idle(struct loop_timer *timer, uint64_t now_ns);

static void plan_idle(struct upstream *upstream, uint64_t at_ns)
{
	/* Without memory the connections live until the next call's end. */
	(void)loop_timer_set(
		upstream->loop, &upstream->idle, at_ns, on_idle, upstream);
}

/* One timer for many calls: most of them only move last_end_ns. */
static void note_end(struct upstream *upstream)
{
	uint64_t idle_ns = upstream->settings.options.idle_close_ns;

	upstream->last_end_ns = loop_now_ns();
	if (upstream->idle.place == 0 && !upstream->closing &&
		idle_ns < UINT64_MAX - upstream->last_end_ns)
		plan_idle(upstream, upstream->last_end_ns + idle_ns);
}

static void on_idle(struct loop_timer *timer, uint64_t now_ns)
{
	struct upstream *upstream = timer->owner;
	uint64_t due_ns = upstream->last_end_ns +
			  upstream->settings.options.idle_close_ns;

	if (upstream->running != NULL)
		return; /* the end of the last one plans the next */
	if (due_ns > now_ns) {
		plan_idle(upstream, due_ns);
		return;
	}
	free_spares(upstream);
	(void)http_reopen(&upstream->http);
}

static void count_connections(
	struct upstream *upstream, struct upstream_exchange *exchange)
{
	long opened = 0;

	(void)curl_easy_getinfo(exchange->easy, CURLINFO_NUM_CONNECTS, &opened);
	upstream->connections_opened += (uint64_t)opened;
}

/*
 * The only way out: off the wire, off the list, done(), and only then is the
 * memory that the result points into anybody else's.
 */
static void end_call(struct upstream_exchange *exchange,
	const struct upstream_result *result)
{
	struct upstream *upstream = exchange->upstream;
	struct upstream_call *call = exchange->call;

	if (exchange->added) {
		count_connections(upstream, exchange);
		http_remove(&upstream->http, exchange->easy);
		exchange->added = false;
	}
	loop_timer_clear(upstream->loop, &exchange->timer);
	DL_DELETE(upstream->running, exchange);
	note_end(upstream);
	call->exchange = NULL;
	call->done(call, result);
	give_back(upstream, exchange);
}

static void result_init(struct upstream_result *ret_result)
{
	memset(ret_result, 0, sizeof(*ret_result));
	ret_result->usage = (struct upstream_usage){-1, -1, -1, -1};
}

/* ---- what ends a call ---- */

static void read_on(struct loop_timer *timer, uint64_t now_ns);

/* A large answer is read a piece in each turn of the loop, where everybody else
 * has a turn too.  It is there: its deadline no longer matters. */
static void read_answer(struct upstream_exchange *exchange)
{
	struct upstream_result result;

	while (exchange_read_more(exchange))
		/* The timer is set: to set it anew cannot fail. */
		if (loop_timer_set(exchange->loop, &exchange->timer, 1, read_on,
			    exchange) == 0)
			return;
	exchange_judge(exchange, &result);
	identity_judge(
		&exchange->upstream->identity, exchange->credentials, &result);
	error_rules_apply(&exchange->upstream->settings.errors, &result);
	end_call(exchange, &result);
}

static void read_on(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	read_answer(timer->owner);
}

static void on_finished(void *owner, CURL *easy, CURLcode code)
{
	struct upstream_exchange *exchange;
	char *private;

	(void)owner;
	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
	exchange = (struct upstream_exchange *)(void *)private;
	exchange_read_begin(exchange, code);
	read_answer(exchange);
}

static void on_expired(struct loop_timer *timer, uint64_t now_ns)
{
	struct upstream_exchange *exchange = timer->owner;
	struct upstream_result result;

	(void)now_ns;
	exchange_judge_timeout(exchange, &result);
	end_call(exchange, &result);
}

/* Without credentials there is no call to send, but there is an answer. */
static void on_no_credentials(struct loop_timer *timer, uint64_t now_ns)
{
	struct upstream_exchange *exchange = timer->owner;
	struct upstream_result result;

	(void)now_ns;
	result_init(&result);
	exchange_fail(&result, UPSTREAM_REFUSED, "NoCredentials",
		"rgovd has no credentials for the provider");
	end_call(exchange, &result);
}

/*
 * UNTESTED: libcurl found no memory.  What runs is lost; a new multi handle
 * serves what comes, also what the done() of those starts: hence the count.
 */
static void on_broken(void *owner)
{
	struct upstream *upstream = owner;
	struct upstream_exchange *exchange;
	struct upstream_result result;
	unsigned int lost = 0;

	DL_FOREACH (upstream->running, exchange) {
		if (exchange->added)
			http_remove(&upstream->http, exchange->easy);
		exchange->added = false;
		lost++;
	}
	(void)http_reopen(&upstream->http);
	for (; lost > 0 && upstream->running != NULL; lost--) {
		exchange = upstream->running;
		result_init(&result);
		exchange_fail(&result,
			exchange->started ? UPSTREAM_AMBIGUOUS
					  : UPSTREAM_TRANSIENT,
			"OutOfMemory", "no memory for the connections");
		end_call(exchange, &result);
	}
}

/* ---- the start of a call ---- */

static int launch(struct upstream *upstream, struct upstream_exchange *exchange)
{
	int rc;

	if (upstream->identity.reading == 0)
		return loop_timer_set(upstream->loop, &exchange->timer, 1,
			on_no_credentials, exchange);
	if (exchange->call->deadline_ns <= loop_now_ns())
		return loop_timer_set(upstream->loop, &exchange->timer, 1,
			on_expired, exchange);
	rc = request_write(exchange, &upstream->settings,
		&upstream->identity.credentials, upstream->key);
	if (rc == 0)
		rc = exchange_prepare(exchange, on_expired);
	if (rc == 0)
		rc = http_add(&upstream->http, exchange->easy);
	exchange->added = rc == 0;
	return rc;
}

int upstream_start(struct upstream *upstream, struct upstream_call *call)
{
	struct upstream_exchange *exchange;
	int rc;

	call->exchange = NULL;
	if (upstream->closing)
		return -ESHUTDOWN;
	exchange = take_exchange(upstream);
	if (exchange == NULL)
		return -ENOMEM;
	exchange_reset(exchange, call);
	exchange->credentials = upstream->identity.reading;
	rc = launch(upstream, exchange);
	if (rc != 0) {
		give_back(upstream, exchange);
		return rc;
	}
	call->exchange = exchange;
	DL_APPEND(upstream->running, exchange);
	upstream->calls_started++;
	return 0;
}

void upstream_abort(struct upstream *upstream, struct upstream_call *call)
{
	struct upstream_result result;

	(void)upstream;
	if (call->exchange == NULL)
		return;
	result_init(&result);
	exchange_fail(&result, UPSTREAM_ABORTED, "Aborted", "ended by rgovd");
	end_call(call->exchange, &result);
}

/* ---- the object ---- */

int upstream_check(const char *model_id, const char *headers,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int rc = bedrock_check_model(model_id, ret_why);

	return rc != 0 ? rc : bedrock_check_headers(headers, ret_why);
}

/* Copies what fits of text to at[used]; returns what is used then. */
static size_t append(char *at, size_t size, size_t used, const char *text)
{
	size_t length = strnlen(text, size - 1 - used);

	memcpy(at + used, text, length);
	at[used + length] = '\0';
	return used + length;
}

static void say(char ret_why[UPSTREAM_MESSAGE_BYTES], const char *why)
{
	(void)append(ret_why, UPSTREAM_MESSAGE_BYTES, 0, why);
}

static int open_parts(struct upstream *upstream)
{
	const struct http_events events = {
		.finished = on_finished,
		.broken = on_broken,
		.owner = upstream,
	};

	if (sigv4_key_create(&upstream->key) != 0)
		return -ENOMEM;
	return http_init(&upstream->http, upstream->loop, &events,
		upstream->settings.max_connections);
}

/* Credentials first: they may name the region. */
static int configure(struct upstream *upstream,
	const struct upstream_config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	char no_credentials[UPSTREAM_MESSAGE_BYTES];
	int rc;

	(void)identity_init(
		&upstream->identity, config->profile, no_credentials);
	rc = settings_init(&upstream->settings, config,
		upstream->identity.credentials.region, ret_why);
	if (rc != 0)
		return rc;
	if (open_parts(upstream) != 0) {
		say(ret_why, "no memory");
		return -ENOMEM;
	}
	say(ret_why, upstream->identity.reading == 0 ? no_credentials : "");
	return 0;
}

int upstream_create(struct loop *loop, const struct upstream_config *config,
	struct upstream **ret_upstream, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct upstream *upstream = calloc(1, sizeof(*upstream));
	int rc;

	if (upstream == NULL) {
		say(ret_why, "no memory");
		return -ENOMEM;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		say(ret_why, "libcurl does not start");
		free(upstream);
		return -EIO;
	}
	upstream->loop = loop;
	upstream->configuration = 1;
	rc = configure(upstream, config, ret_why);
	if (rc != 0) {
		upstream_free(upstream);
		return rc;
	}
	*ret_upstream = upstream;
	return 0;
}

int upstream_reload(struct upstream *upstream,
	const struct upstream_config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct identity identity;
	struct settings settings;
	int rc = identity_init(&identity, config->profile, ret_why);

	if (rc == 0)
		rc = settings_init(&settings, config,
			identity.credentials.region, ret_why);
	if (rc != 0) {
		identity_fini(&identity);
		return rc;
	}
	identity_replace(&upstream->identity, &identity);
	settings_fini(&upstream->settings);
	upstream->settings = settings;
	upstream->configuration++;
	/* What rests goes by the new idle_close: on_idle() looks at it. */
	if (upstream->idle.place != 0)
		plan_idle(upstream, loop_now_ns());
	free_spares(upstream);
	http_limit(&upstream->http, settings.max_connections);
	return 0;
}

void upstream_read_stats(
	const struct upstream *upstream, struct upstream_stats *ret_stats)
{
	const struct bedrock_endpoint *endpoint = &upstream->settings.endpoint;
	const size_t size = sizeof(ret_stats->endpoint);
	size_t used;

	used = append(ret_stats->endpoint, size, 0, endpoint->origin);
	(void)append(ret_stats->endpoint, size, used, endpoint->prefix);
	ret_stats->connections_opened = upstream->connections_opened;
	ret_stats->calls_started = upstream->calls_started;
	ret_stats->has_credentials = upstream->identity.reading != 0;
}

void upstream_free(struct upstream *upstream)
{
	if (upstream == NULL)
		return;
	upstream->closing = true;
	while (upstream->running != NULL)
		upstream_abort(upstream, upstream->running->call);
	free_spares(upstream);
	loop_timer_clear(upstream->loop, &upstream->idle);
	http_fini(&upstream->http);
	settings_fini(&upstream->settings);
	identity_fini(&upstream->identity);
	sigv4_key_free(upstream->key);
	free(upstream);
	curl_global_cleanup();
}
