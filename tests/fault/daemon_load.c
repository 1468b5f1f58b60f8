/*
 * daemon_load: a client that does what the lines of its input say, each request
 * in a thread of its own, so that many are out when rgovd dies.
 *
 *   call ID USER MODEL again|once BYTES   body {"max_tokens":5,"n":ID,"pad":…}
 *   permit ID USER TOKENS MODEL           held until settled
 *   cancel ID
 *   settle ID INPUT OUTPUT
 *   check                                 what shm_check says of the session
 *
 * Prints a line for each: "ID RC RESULT STATUS DIGEST" with the digest of the
 * body that the answer is for, and "check FINDINGS SLOTS_TAKEN LATE RECONNECTS"
 * after a line for each finding.  At the end of its input it closes.  It looks
 * at librgov's inside to check the session, and at nothing to use it.
 */
#include "client-lib/handle.h"
#include "client-lib/rgov.h"
#include "shm-layout/shm_check.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { ASKS_MAX = 256, LINE_BYTES = 256, TIMEOUT_MS = 20000 };

/* One request, from its line to its end. */
struct ask {
	long id; /* 0: free */
	bool is_permit, is_out;
	char user[64], model[64];
	bool once;
	size_t body_bytes;
	uint64_t tokens;
	struct rgov_ticket ticket;
};

static struct rgov *gov;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ask asks[ASKS_MAX];
/* What rgovd had said when a reply was collected: it must stay as it is. */
static struct daemon_slot said[SHM_SLOTS_DEFAULT];

/* One write a line: threads share the output. */
static void say(const char *line)
{
	size_t bytes = strlen(line);

	if (write(STDOUT_FILENO, line, bytes) != (ssize_t)bytes)
		exit(EX_IOERR);
}

/* NULL: it has had its answer meanwhile. */
static struct ask *find_ask(long id)
{
	for (int i = 0; i < ASKS_MAX; i++) {
		if (asks[i].id == id)
			return &asks[i];
	}
	return NULL;
}

/* ------------------------------------------------------------ requests */

static char *body_of(const struct ask *ask, size_t *ret_bytes)
{
	char *body = malloc(ask->body_bytes + 80);
	int n;

	if (body == NULL)
		err(EX_OSERR, "body");
	n = sprintf(body, "{\"max_tokens\":5,\"n\":%ld,\"pad\":\"", ask->id);
	memset(body + n, 'x', ask->body_bytes);
	*ret_bytes = (size_t)n + ask->body_bytes;
	*ret_bytes += (size_t)sprintf(body + *ret_bytes, "\"}");
	return body;
}

/* The digest in the simulator's answer, or "-". */
static const char *digest_in(const struct rgov_reply *reply, char ret[72])
{
	const char *at =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;

	snprintf(ret, 72, "%.64s", at != NULL ? at + 7 : "-");
	return ret;
}

/* Nobody submits meanwhile: the lock is held there too.  Where another request
 * has the slot already, there is nothing to remember. */
static void remember_answer(const struct rgov_ticket *ticket)
{
	const struct daemon_slot *slot =
		&gov->session->daemon_slots[ticket->slot];

	(void)pthread_mutex_lock(&lock);
	if (load_acquire(slot->word) == shm_word(ticket->generation, SHM_DONE))
		memcpy(&said[ticket->slot], slot, sizeof(*slot));
	(void)pthread_mutex_unlock(&lock);
}

static int hand_in(struct ask *ask)
{
	struct rgov_request request = {
		.size = sizeof(request),
		.model_id = ask->model,
		.user = ask->user,
		.timeout_ms = TIMEOUT_MS,
		.flags = ask->once ? RGOV_NOT_IDEMPOTENT : 0,
		.input_tokens = ask->tokens,
	};
	char *body = NULL;
	int rc;

	if (!ask->is_permit)
		request.body = body = body_of(ask, &request.body_bytes);
	(void)pthread_mutex_lock(&lock);
	rc = ask->is_permit ? rgov_submit_permit(gov, &request, &ask->ticket)
			    : rgov_submit(gov, &request, &ask->ticket);
	ask->is_out = rc == 0;
	(void)pthread_mutex_unlock(&lock);
	free(body);
	return rc;
}

static int take_answer(struct ask *ask, struct rgov_reply *reply)
{
	int rc;

	do
		rc = rgov_wait(gov, &ask->ticket, UINT64_MAX, reply);
	while (rc == -EINTR);
	return rc;
}

static void *run_ask(void *argument)
{
	struct ask *ask = argument;
	struct rgov_reply reply = {.size = sizeof(reply)};
	char digest[72], line[LINE_BYTES];
	int rc = hand_in(ask);

	if (rc == 0)
		rc = take_answer(ask, &reply);
	snprintf(line, sizeof(line), "%ld %d %s %d %s\n", ask->id, rc,
		rc == 0 ? rgov_result_name(reply.result) : rgov_strerror(rc),
		reply.http_status, digest_in(&reply, digest));
	rgov_reply_fini(&reply);
	if (rc == 0)
		remember_answer(&ask->ticket);
	(void)pthread_mutex_lock(&lock);
	if (rc != 0 || !ask->is_permit || reply.result != RGOV_R_OK)
		ask->id = 0;
	(void)pthread_mutex_unlock(&lock);
	say(line);
	return NULL;
}

static void begin(struct ask *ask)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run_ask, ask) != 0)
		err(EX_OSERR, "thread");
	(void)pthread_detach(thread);
}

/* ------------------------------------------------------------ commands */

static struct ask *new_ask(const struct ask *from)
{
	struct ask *ask;

	(void)pthread_mutex_lock(&lock);
	ask = find_ask(0);
	if (ask == NULL)
		errx(EX_DATAERR, "more than %d requests", ASKS_MAX);
	*ask = *from;
	(void)pthread_mutex_unlock(&lock);
	return ask;
}

static bool take_call(const char *line)
{
	struct ask ask = {.id = 0};
	char how[8];

	if (sscanf(line, "call %ld %63s %63s %7s %zu", &ask.id, ask.user,
		    ask.model, how, &ask.body_bytes) != 5)
		return false;
	ask.once = strcmp(how, "once") == 0;
	begin(new_ask(&ask));
	return true;
}

static bool take_permit(const char *line)
{
	struct ask ask = {.is_permit = true};

	if (sscanf(line, "permit %ld %63s %" SCNu64 " %63s", &ask.id, ask.user,
		    &ask.tokens, ask.model) != 4)
		return false;
	begin(new_ask(&ask));
	return true;
}

static bool take_cancel(const char *line)
{
	struct ask *ask;
	long id;

	if (sscanf(line, "cancel %ld", &id) != 1)
		return false;
	(void)pthread_mutex_lock(&lock);
	ask = find_ask(id);
	if (ask != NULL)
		(void)rgov_cancel(gov, &ask->ticket);
	(void)pthread_mutex_unlock(&lock);
	return true;
}

static bool take_settle(const char *line)
{
	long id, input, output;
	char answer[64];
	struct ask *ask;
	int rc;

	if (sscanf(line, "settle %ld %ld %ld", &id, &input, &output) != 3)
		return false;
	(void)pthread_mutex_lock(&lock);
	ask = find_ask(id);
	if (ask == NULL)
		errx(EX_DATAERR, "no permit %ld", id);
	rc = rgov_settle(gov, &ask->ticket, RGOV_SETTLE_OK, input, output);
	ask->id = 0;
	(void)pthread_mutex_unlock(&lock);
	snprintf(answer, sizeof(answer), "%ld %d settled 0 -\n", id, rc);
	say(answer);
	return true;
}

static void tell(void *owner, unsigned int invariant, const char *text)
{
	char line[LINE_BYTES];

	(void)owner;
	snprintf(line, sizeof(line), "finding %u: %s\n", invariant, text);
	say(line);
}

/* Exactly one DONE: nobody wrote to an answer after it was given. */
static unsigned int check_answers(const struct session *session)
{
	unsigned int findings = 0;

	for (uint32_t i = 0; i < session->client_shape.slots; i++) {
		const struct daemon_slot *slot = &session->daemon_slots[i];

		if (load_acquire(said[i].word) == 0 ||
			load_acquire(slot->word) != load_acquire(said[i].word))
			continue;
		if (memcmp(&said[i], slot, sizeof(*slot)) == 0)
			continue;
		tell(NULL, 3, "an answer was written twice");
		findings++;
	}
	return findings;
}

/* Nothing of this process is out, and rgovd has nothing to do. */
static void check(void)
{
	const struct shm_check how = {
		.found = tell, .is_quiet = true, .head = UINT64_MAX};
	struct rgov_diagnostics seen = {.size = sizeof(seen)};
	const struct session *session = gov->session;
	unsigned int findings = 0;
	char line[LINE_BYTES];

	if (session != NULL) {
		findings = check_answers(session) +
			   shm_check_session(&how, session->client,
				   session->client_shape.total_bytes,
				   session->daemon,
				   session->daemon_shape.total_bytes);
	}
	if (rgov_diagnose(gov, &seen) != 0)
		exit(EX_SOFTWARE);
	snprintf(line, sizeof(line), "check %u %u %" PRIu64 " %" PRIu64 "\n",
		findings, seen.slots_taken, seen.found_by_slice,
		seen.reconnects);
	say(line);
}

int main(void)
{
	char line[LINE_BYTES];

	if (rgov_open(NULL, &gov) != 0)
		errx(EX_UNAVAILABLE, "%s", rgov_why());
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, "check\n") == 0)
			check();
		else if (!take_call(line) && !take_permit(line) &&
			 !take_cancel(line) && !take_settle(line))
			errx(EX_DATAERR, "what is this: %s", line);
	}
	return 0;
}
