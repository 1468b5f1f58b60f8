/* From nothing to a connection that is ready: addresses, TLS, who we are. */
#include "coordinator/cluster/redis_inside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static void try_next(struct redis *redis);

/* All at once: the replies come in order, and an error ends them. */
static bool introduce(struct redis *redis)
{
	const struct redis_url *url = &redis->url;
	char db[16];
	bool ok = true;

	(void)snprintf(db, sizeof(db), "%u", url->db);
	if (url->user[0] != '\0')
		ok = redis_say(redis, TO_AUTH, 3,
			(const char *[]){"AUTH", url->user, url->password},
			NULL);
	else if (url->password[0] != '\0')
		ok = redis_say(redis, TO_AUTH, 2,
			(const char *[]){"AUTH", url->password}, NULL);
	if (ok && url->db != 0)
		ok = redis_say(redis, TO_SELECT, 2,
			(const char *[]){"SELECT", db}, NULL);
	return ok &&
	       redis_say(redis, TO_INFO, 2, (const char *[]){"INFO", "server"},
		       NULL) &&
	       redis_say(redis, TO_SCRIPT, 3,
		       (const char *[]){"SCRIPT", "LOAD", redis->script}, NULL);
}

static void begin_at(
	struct redis *redis, const struct sockaddr *address, socklen_t bytes)
{
	int rc = transport_open(
		&redis->transport, address, bytes, redis->tls, redis->url.host);

	if (rc == 0)
		rc = loop_watch(redis->loop, &redis->watch, redis->transport.fd,
			LOOP_READ | LOOP_WRITE, redis_on_ready, redis);
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
		redis_fail(redis, REDIS_CONNECT, "%s", words);
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
		redis_fail(redis, REDIS_NAME, "%s", gai_strerror(error));
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
	redis_set_deadline(redis, redis->connect_ns);
	if (rc == 0 && redis->url.transport == REDIS_BY_UNIX) {
		begin_unix(redis);
		return;
	}
	if (rc == 0 && redis->resolve == NULL)
		rc = resolve_start(redis->loop, redis->url.host,
			redis->url.port, on_resolved, redis, &redis->resolve);
	if (rc != 0)
		redis_fail(redis, REDIS_HOST, "%s", strerrordesc_np(-rc));
}

void redis_on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	begin(timer->owner);
}

int redis_shake(struct redis *redis)
{
	char words[TRANSPORT_WORDS_BYTES];
	bool was_connected = redis->transport.is_connected;
	int rc = transport_shake(&redis->transport, words);

	if (rc == -EAGAIN) {
		redis_watch(redis);
		return 1;
	}
	if (rc != 0 && words[0] != '\0') {
		redis_fail(redis, REDIS_TLS, "%s", words);
		return 1;
	}
	if (rc != 0) {
		(void)snprintf(redis->words, sizeof(redis->words), "%s",
			strerrordesc_np(-rc));
		if (was_connected)
			redis_fail(
				redis, REDIS_TLS, "%s", strerrordesc_np(-rc));
		else
			try_next(redis);
		return 1;
	}
	if (!introduce(redis)) {
		redis_fail(redis, REDIS_HOST, "no memory");
		return 1;
	}
	return 0;
}
