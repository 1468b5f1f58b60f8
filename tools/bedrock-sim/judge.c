/* What becomes of a request: refused, struck by a fault, or answered. */
#include "tools/bedrock-sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/admit.h"
#include "tools/bedrock-sim/clock.h"
#include "tools/bedrock-sim/sigv4_check.h"

#define VALIDATION "ValidationException"

/* The connections that a report counts are those that carried an arrival. */
static void count_connection(struct ledger *ledger, struct peer *peer)
{
	if (peer->counted_run == ledger->run)
		return;
	peer->counted_run = ledger->run;
	ledger->connections++;
	ledger->tls_connections += peer->tls;
}

void judge_arrival(struct exchange *exchange)
{
	struct sim *sim = exchange->sim;
	struct ledger *ledger = &sim->ledger;
	uint64_t now_ns;

	(void)pthread_mutex_lock(&sim->lock);
	/* Under the lock, and no two alike: instants are in arrivals' order. */
	now_ns = clock_now_ns();
	if (now_ns <= sim->last_arrival_ns)
		now_ns = sim->last_arrival_ns + 1;
	sim->last_arrival_ns = now_ns;
	exchange->arrived_ns = now_ns;
	exchange->run = ledger->run;
	exchange->n = ++ledger->arrivals;
	stamps_insert(&ledger->arrivals_at, now_ns);
	count_connection(ledger, exchange->peer);
	exchange->quota_verdict = quota_ask(
		&sim->quota, exchange->route.model, now_ns, &exchange->ticket);
	(void)pthread_mutex_unlock(&sim->lock);
}

static bool is_signed(const struct exchange *exchange, struct reply *ret_reply)
{
	const struct options *options = exchange->sim->options;
	const struct sigv4_keys keys = {
		.access_key = options->access_key,
		.secret_key = options->secret_key,
		.region = options->region,
		.service = "bedrock",
		.session_token = options->session_token,
		.expired_token = options->expired_token,
		.bearer = options->bearer,
	};
	const struct sigv4_request request = {
		.method = exchange->method,
		.path = exchange->path,
		.query = exchange->query,
		.headers = &exchange->headers,
		.body_sha256 = exchange->body_sha256,
	};
	struct sigv4_refusal refusal;

	if (!options->auth_strict ||
		sigv4_check(&request, &keys, time(NULL), &refusal))
		return true;
	reply_error(ret_reply, refusal.status, refusal.type, refusal.message);
	return false;
}

static const char *not_simulated(enum route_op op)
{
	if (op == ROUTE_STREAMING)
		return "The model is unsupported for streaming.";
	if (op == ROUTE_COUNT_TOKENS)
		return "The provided model doesn't support counting tokens.";
	return NULL;
}

/* A test with a misspelt fault must not pass. */
static bool fault_header_is_valid(const struct exchange *exchange)
{
	const char *header = headers_find(&exchange->headers, "x-sim-fault");
	struct fault fault;

	return header == NULL || !exchange->sim->options->allow_fault_header ||
	       fault_parse(header, &fault);
}

static bool is_valid(const struct exchange *exchange,
	struct body_facts *ret_facts, struct reply *ret_reply)
{
	char text[256];
	const char *message = not_simulated(exchange->route.op);

	if (message == NULL && !fault_header_is_valid(exchange))
		message = "The header x-sim-fault names no fault.";
	if (message == NULL && !exchange->route.model_valid)
		message = "The provided model identifier is invalid.";
	if (message == NULL && exchange->body_total > BODY_MAX_BYTES)
		message = "1 validation error detected: Value at 'body' failed "
			  "to satisfy constraint: Member must have length less "
			  "than or equal to 25000000";
	if (message == NULL &&
		!body_check(&exchange->route, exchange->body,
			exchange->body_bytes, ret_facts, text, sizeof(text)))
		message = text;
	if (message != NULL)
		reply_error(ret_reply, 400, VALIDATION, message);
	return message == NULL;
}

/* Fills outcome and reply when nobody's quota has to be asked. */
static bool is_a_customers(
	struct exchange *exchange, struct body_facts *ret_facts)
{
	if (exchange->route.op == ROUTE_UNKNOWN) {
		reply_unknown_operation(&exchange->reply);
		exchange->outcome = OUTCOME_INVALID;
	} else if (!is_signed(exchange, &exchange->reply)) {
		exchange->outcome = OUTCOME_AUTH;
	} else if (!is_valid(exchange, ret_facts, &exchange->reply)) {
		exchange->outcome = OUTCOME_INVALID;
	}
	return exchange->outcome == OUTCOME_NONE;
}

/* Returns the number by which chance is drawn. */
static uint64_t judge_with_quota(
	struct exchange *exchange, const struct body_facts *facts)
{
	struct sim *sim = exchange->sim;
	uint64_t number;

	(void)pthread_mutex_lock(&sim->lock);
	number = admit(exchange, facts);
	(void)pthread_mutex_unlock(&sim->lock);
	if (sim->options->latency_by_body)
		memcpy(&number, exchange->what, sizeof(number));
	return number;
}

static void hash_body(struct exchange *exchange)
{
	unsigned char digest[DIGEST_BYTES];
	char text[ROUTE_MODEL_MAX + DIGEST_HEX + 32];
	int length;

	if (EVP_DigestFinal_ex(exchange->body_hash, digest, NULL) != 1)
		memory_none();
	hex_write(exchange->body_sha256, digest, DIGEST_BYTES);
	length = snprintf(text, sizeof(text), "%s %s %s", exchange->body_sha256,
		route_op_name(exchange->route.op), exchange->route.model);
	if (EVP_Digest(text, (size_t)length, exchange->what, NULL, EVP_sha256(),
		    NULL) != 1)
		memory_none();
}

/* An accepted request: how long it takes, and its answer unless it has one. */
static void prepare_answer(struct exchange *exchange,
	const struct body_facts *facts, uint64_t number)
{
	const struct options *options = exchange->sim->options;
	double latency_s =
		dice_latency_s(&options->latency, options->seed, number) +
		exchange->fault.delay_s;
	const struct reply_model model = {
		.route = &exchange->route,
		.facts = facts,
		.body_sha256 = exchange->body_sha256,
		.output_tokens = dice_between(options->seed, DICE_OUTPUT,
			number, options->output_tokens.low,
			options->output_tokens.high),
		.latency_ms = (uint64_t)(latency_s * 1e3),
	};

	if (exchange->fault.kind != FAULT_CLOSE_REUSED &&
		!exchange->fault.at_once)
		exchange->due_ns =
			exchange->arrived_ns + (uint64_t)(latency_s * 1e9);
	if (exchange->reply.body == NULL)
		reply_of_model(&exchange->reply, &model);
	if (exchange->outcome == OUTCOME_NONE)
		exchange->outcome = OUTCOME_OK;
	else if (fault_facts(exchange->fault.kind)->status == 0)
		exchange->reply.status = 0;
}

void judge_request(struct exchange *exchange)
{
	struct body_facts facts;

	hash_body(exchange);
	if (is_a_customers(exchange, &facts)) {
		uint64_t number = judge_with_quota(exchange, &facts);

		if (exchange->accepted)
			prepare_answer(exchange, &facts, number);
	} else {
		(void)pthread_mutex_lock(&exchange->sim->lock);
		admit_refused(exchange);
		(void)pthread_mutex_unlock(&exchange->sim->lock);
	}
	free(exchange->body);
	exchange->body = NULL;
	exchange_log(exchange, "arrival", exchange->arrived_ns, false, true);
}

void judge_answer(struct exchange *exchange)
{
	struct reply *reply = &exchange->reply;

	(void)pthread_mutex_lock(&exchange->sim->lock);
	if (exchange->accepted)
		quota_settle(&exchange->ticket,
			reply->input_tokens + reply->output_tokens);
	quota_leave(&exchange->ticket);
	if (exchange->running)
		exchange->sim->ledger.running--;
	exchange->running = false;
	if (exchange->outcome == OUTCOME_OK &&
		exchange->run == exchange->sim->ledger.run) {
		ledger_answered(&exchange->sim->ledger, exchange->what);
		exchange->answered = true;
	}
	(void)pthread_mutex_unlock(&exchange->sim->lock);
}
