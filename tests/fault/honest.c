/*
 * honest THREADS call|permit: an ordinary client of librgov that goes on until
 * its standard input ends, and says every 50 ms how it goes.  What the hostile
 * ones do must not show in it.
 *
 * Each thread repeats a few bodies of its own; all answers to one body must be
 * alike.  Output, JSON lines: {"at_ns", "done", "wrong", "worst_us"}, done and
 * wrong since the start, worst_us since the line before; at the end one
 * {"body", "text"} for each body, for the judge, and {"why"} of the last that
 * went wrong.
 */
#include "client-lib/rgov.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, BODIES = 8, EVERY_MS = 50 };

struct worker {
	pthread_t thread;
	int number;
	char texts[BODIES][80]; /* "sha256 ..." of the first answer to each */
};

static struct rgov *gov;
static bool is_permit;
static _Atomic bool is_ending;
static _Atomic unsigned long done, wrong;
static _Atomic unsigned long worst_us;
static char why[512];

static unsigned long now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 1000000 +
	       (unsigned long)now.tv_nsec / 1000;
}

static void note(unsigned long us)
{
	unsigned long worst = worst_us;

	while (us > worst &&
		!atomic_compare_exchange_weak(&worst_us, &worst, us))
		;
	done++;
}

static void complain(const char *what, int rc, const struct rgov_reply *reply)
{
	wrong++;
	(void)snprintf(why, sizeof(why), "%s: %s, %s %s", what,
		rgov_strerror(rc), rgov_result_name(reply->result),
		reply->message);
}

static size_t body_of(const struct worker *worker, int i, char body[64])
{
	return (size_t)snprintf(body, 64, "{\"max_tokens\":5,\"n\":%d}",
		worker->number * BODIES + i);
}

/* The answer says which body it is for: always the same one. */
static bool is_own_answer(
	struct worker *worker, int i, const struct rgov_reply *reply)
{
	const char *said =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;

	if (said == NULL)
		return false;
	if (worker->texts[i][0] == '\0')
		(void)snprintf(worker->texts[i], sizeof(worker->texts[i]),
			"%.71s", said);
	return strncmp(said, worker->texts[i], 71) == 0;
}

static void call(const struct rgov_request *request, struct worker *worker,
	int i, struct rgov_reply *reply)
{
	int rc = rgov_call(gov, request, reply);

	if (rc != 0 || reply->result != RGOV_R_OK)
		complain("call", rc, reply);
	else if (!is_own_answer(worker, i, reply))
		complain("another's answer", rc, reply);
}

static void permit(const struct rgov_request *request, struct rgov_reply *reply)
{
	struct rgov_ticket ticket;
	int rc = rgov_permit(gov, request, &ticket, reply);

	if (rc != 0 || reply->result != RGOV_R_OK)
		complain("permit", rc, reply);
	else
		rc = rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 1);
	if (rc != 0)
		complain("settle", rc, reply);
}

static void ask(struct worker *worker, int i)
{
	char body[64], user[32];
	struct rgov_request request = {.size = sizeof(request),
		.model_id = "vendor.model-v1",
		.user = user,
		.timeout_ms = 30000};
	struct rgov_reply reply = {.size = sizeof(reply)};

	(void)snprintf(user, sizeof(user), "honest-%d", worker->number);
	if (is_permit) {
		permit(&request, &reply);
	} else {
		request.body = body;
		request.body_bytes = body_of(worker, i, body);
		call(&request, worker, i, &reply);
	}
	rgov_reply_fini(&reply);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (int i = 0; !is_ending; i = (i + 1) % BODIES) {
		unsigned long begin = now_us();

		ask(worker, i);
		note(now_us() - begin);
	}
	return NULL;
}

static void tell(void)
{
	printf("{\"at_ns\":%lu000,\"done\":%lu,\"wrong\":%lu,"
	       "\"worst_us\":%lu}\n",
		now_us(), done, wrong, atomic_exchange(&worst_us, 0));
	(void)fflush(stdout);
}

static void tell_bodies(const struct worker *worker)
{
	char body[64];

	for (int i = 0; i < BODIES; i++) {
		(void)body_of(worker, i, body);
		if (worker->texts[i][0] != '\0')
			printf("{\"body\":%d,\"text\":\"%s\"}\n",
				worker->number * BODIES + i, worker->texts[i]);
	}
}

int main(int argc, char *argv[])
{
	static struct worker workers[THREADS_MAX];
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	int threads = argc == 3 ? atoi(argv[1]) : 0;

	if (threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: honest THREADS call|permit\n");
		return 64;
	}
	is_permit = strcmp(argv[2], "permit") == 0;
	if (rgov_open(NULL, &gov) != 0)
		return 69;
	for (int i = 0; i < threads; i++) {
		workers[i].number = i;
		if (pthread_create(
			    &workers[i].thread, NULL, work, &workers[i]) != 0)
			return 71;
	}
	while (poll(&input, 1, EVERY_MS) == 0)
		tell();
	is_ending = true;
	for (int i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	tell();
	for (int i = 0; i < threads; i++)
		tell_bodies(&workers[i]);
	if (why[0] != '\0')
		printf("{\"why\":\"%s\"}\n", why);
	rgov_close(gov);
	return 0;
}
