/* One request: its life, its body, its lines in the log. */
#include "tools/bedrock-sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/clock.h"

/* Longer bodies are read to the end, to answer; but not for ever. */
static const uint64_t body_drained_bytes = UINT64_C(4) * BODY_MAX_BYTES;

struct exchange *exchange_begin(
	struct sim *sim, struct peer *peer, const char *target)
{
	struct exchange *exchange = memory_zeroed(sizeof(*exchange));
	char *mark;

	exchange->sim = sim;
	exchange->peer = peer;
	exchange->reused = peer->requests++ > 0;
	exchange->path = memory_text(target);
	mark = strchr(exchange->path, '?');
	if (mark != NULL)
		*mark++ = '\0';
	exchange->query = mark ? mark : exchange->path + strlen(target);
	exchange->body_hash = EVP_MD_CTX_new();
	if (exchange->body_hash == NULL ||
		EVP_DigestInit_ex(exchange->body_hash, EVP_sha256(), NULL) != 1)
		memory_none();
	return exchange;
}

bool exchange_body(struct exchange *exchange, const void *bytes, size_t n)
{
	exchange->body_total += n;
	if (exchange->body_total > body_drained_bytes)
		return false;
	if (EVP_DigestUpdate(exchange->body_hash, bytes, n) != 1)
		memory_none();
	if (exchange->body_total > BODY_MAX_BYTES)
		return true;
	exchange->body = memory_grow(exchange->body, &exchange->body_capacity,
		exchange->body_bytes + n, 1);
	memcpy(exchange->body + exchange->body_bytes, bytes, n);
	exchange->body_bytes += n;
	return true;
}

static const char *outcome_name(const struct exchange *exchange, bool sent)
{
	switch (exchange->outcome) {
	case OUTCOME_NONE:
		return "incomplete";
	case OUTCOME_OK:
		return sent ? "ok" : "aborted";
	case OUTCOME_THROTTLED:
		return "throttled";
	case OUTCOME_FAULT:
		return "fault";
	case OUTCOME_INVALID:
		return "invalid";
	case OUTCOME_AUTH:
		return "auth";
	}
	return "incomplete";
}

void exchange_log(const struct exchange *exchange, const char *event,
	uint64_t at_ns, bool ended, bool sent)
{
	bool faulty = exchange->fault.kind != FAULT_NONE;
	const struct journal_line line = {
		.run = exchange->run,
		.n = exchange->n,
		.event = event,
		.at_ns = at_ns,
		.connection = exchange->peer->number,
		.reused = exchange->reused,
		.tls = exchange->peer->tls,
		.op = route_op_name(exchange->route.op),
		.model = exchange->route.model,
		.body_sha256 = exchange->body_sha256,
		.body_bytes = exchange->body_total,
		.status = exchange->reply.status,
		.type = outcome_name(exchange, sent),
		.detail =
			faulty ? fault_facts(exchange->fault.kind)->name : NULL,
		.latency_s =
			ended ? (double)(at_ns - exchange->arrived_ns) / 1e9
			      : -1.0,
	};

	journal_write(&exchange->sim->journal, &line);
}

/* The last counts, under the lock. */
static void count_end(struct exchange *exchange, bool sent)
{
	struct ledger *ledger = &exchange->sim->ledger;

	quota_leave(&exchange->ticket);
	if (exchange->running)
		ledger->running--;
	if (exchange->outcome == OUTCOME_NONE)
		quota_withdraw(&exchange->ticket);
	if (exchange->run != ledger->run)
		return; /* a reset has come between */
	if (exchange->outcome == OUTCOME_NONE)
		ledger->incomplete++;
	else if (exchange->answered && !sent)
		ledger_unanswered(ledger, exchange->what);
	else if (exchange->outcome == OUTCOME_OK && !sent)
		ledger->aborted++; /* the library saw it before we answered */
}

void exchange_end(struct exchange *exchange, bool sent)
{
	if (exchange->n > 0) {
		(void)pthread_mutex_lock(&exchange->sim->lock);
		count_end(exchange, sent);
		(void)pthread_mutex_unlock(&exchange->sim->lock);
		if (exchange->outcome == OUTCOME_NONE)
			exchange_log(exchange, "arrival", exchange->arrived_ns,
				false, false);
		exchange_log(exchange, "end", clock_now_ns(), true, sent);
	}
	reply_fini(&exchange->reply);
	EVP_MD_CTX_free(exchange->body_hash);
	free(exchange->headers.list);
	free(exchange->body);
	free(exchange->path);
	free(exchange);
}
