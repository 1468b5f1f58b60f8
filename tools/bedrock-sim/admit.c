/* Quotas and injected faults. */
#include "tools/bedrock-sim/admit.h"

void admit_refused(struct exchange *exchange)
{
	struct ledger *ledger = &exchange->sim->ledger;

	quota_withdraw(&exchange->ticket);
	if (exchange->run != ledger->run)
		return;
	if (exchange->outcome == OUTCOME_AUTH)
		ledger->auth_failures++;
	else
		ledger->invalid++;
}

static void give_back(struct exchange *exchange)
{
	if (exchange->sim->options->throttled_count)
		quota_leave(&exchange->ticket);
	else
		quota_withdraw(&exchange->ticket);
}

static bool is_within_quota(
	struct exchange *exchange, const struct body_facts *facts)
{
	struct ledger *ledger = &exchange->sim->ledger;
	enum fault_kind kind;

	if (exchange->quota_verdict == QUOTA_GRANTED)
		exchange->quota_verdict = quota_ask_tokens(
			&exchange->sim->quota, &exchange->ticket,
			facts->input_tokens + facts->max_tokens);
	if (exchange->quota_verdict == QUOTA_GRANTED)
		return true;
	kind = exchange->quota_verdict == QUOTA_TOKENS ? FAULT_429_TOKENS
						       : FAULT_429;
	reply_fault(&exchange->reply, kind);
	exchange->outcome = OUTCOME_THROTTLED;
	give_back(exchange);
	if (exchange->run == ledger->run)
		ledger->throttled++;
	return false;
}

/* A close-reused that meets a fresh connection waits for the next reused. */
static struct fault fault_for_connection(
	struct exchange *exchange, struct fault fault)
{
	uint64_t *pending = &exchange->sim->closes_pending;

	if (fault.kind == FAULT_CLOSE_REUSED && !exchange->reused) {
		*pending += !fault.by_model;
		fault.kind = FAULT_NONE;
	} else if (fault.kind == FAULT_NONE && exchange->reused &&
		   *pending > 0) {
		(*pending)--;
		fault.kind = FAULT_CLOSE_REUSED;
	}
	return fault;
}

static struct fault fault_of(struct exchange *exchange)
{
	const struct options *options = exchange->sim->options;
	const char *header = headers_find(&exchange->headers, "x-sim-fault");
	struct fault fault;

	if (exchange->sim->outage.kind != FAULT_NONE)
		return fault_for_connection(exchange, exchange->sim->outage);
	/* judge.c has refused a header that names no fault. */
	if (!options->allow_fault_header || header == NULL ||
		!fault_parse(header, &fault))
		fault = fault_choose(&options->faults, options->seed,
			exchange->n, exchange->route.model);
	return fault_for_connection(exchange, fault);
}

/* True: the fault is a throttle, so that it is no start. */
static bool is_refused_by_fault(struct exchange *exchange)
{
	struct ledger *ledger = &exchange->sim->ledger;
	const struct fault_kind_facts *facts;

	exchange->fault = fault_of(exchange);
	if (exchange->fault.kind == FAULT_NONE)
		return false;
	facts = fault_facts(exchange->fault.kind);
	if (facts->effect != FAULT_DELAYS)
		exchange->outcome = OUTCOME_FAULT;
	if (exchange->run == ledger->run)
		ledger->faults++;
	if (facts->effect == FAULT_ANSWERS)
		reply_fault(&exchange->reply, exchange->fault.kind);
	if (facts->status != 429)
		return false;
	give_back(exchange);
	return true;
}

static uint64_t accept_request(struct exchange *exchange)
{
	struct ledger *ledger = &exchange->sim->ledger;

	exchange->accepted = true;
	if (exchange->run != ledger->run)
		return 1;
	exchange->running = true;
	quota_start(&exchange->ticket);
	ledger_accept(ledger, exchange->what);
	return ledger->accepted;
}

uint64_t admit(struct exchange *exchange, const struct body_facts *facts)
{
	if (is_within_quota(exchange, facts) && !is_refused_by_fault(exchange))
		return accept_request(exchange);
	return 0;
}
