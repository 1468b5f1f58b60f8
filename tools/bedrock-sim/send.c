/* Hands an answer to the HTTP library, or breaks the connection on purpose. */
#include "tools/bedrock-sim/send.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools/bedrock-sim/change.h"
#include "tools/bedrock-sim/clock.h"
#include "tools/bedrock-sim/wire.h"

enum { TRUNCATED_BLOCK = 4096 };

#define ERROR_TYPE_TAIL ":http://internal.amazon.com/coral/com.amazon.bedrock/"

/* What a truncated answer has, and how much of it is sent. */
struct half {
	char *bytes;
	size_t sent_bytes;
};

int send_socket(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

static void add_header(
	struct MHD_Response *response, const char *name, const char *value)
{
	if (MHD_add_response_header(response, name, value) != MHD_YES)
		memory_none();
}

static void add_number(
	struct MHD_Response *response, const char *name, uint64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	add_header(response, name, text);
}

/* A random UUID: version 4, variant 1. */
static void add_request_id(struct MHD_Response *response)
{
	unsigned char bytes[16];
	char hex[33], text[37];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		memory_none();
	bytes[6] = (unsigned char)((bytes[6] & 15) | 64);
	bytes[8] = (unsigned char)((bytes[8] & 63) | 128);
	hex_write(hex, bytes, sizeof(bytes));
	(void)snprintf(text, sizeof(text), "%.8s-%.4s-%.4s-%.4s-%s", hex,
		hex + 8, hex + 12, hex + 16, hex + 20);
	add_header(response, "x-amzn-RequestId", text);
}

/* The gateway's own errors carry the bare name. */
static void add_error_type(struct MHD_Response *response, const char *type)
{
	char text[160];
	bool of_bedrock = strstr(type, "Signature") == NULL &&
			  strstr(type, "Token") == NULL &&
			  strstr(type, "UnrecognizedClient") == NULL;

	(void)snprintf(text, sizeof(text), "%s%s", type,
		of_bedrock ? ERROR_TYPE_TAIL : "");
	add_header(response, "x-amzn-ErrorType", text);
}

static void add_counts(struct MHD_Response *response, const struct reply *reply)
{
	add_number(response, "X-Amzn-Bedrock-Invocation-Latency",
		reply->latency_ms);
	add_number(response, "X-Amzn-Bedrock-Input-Token-Count",
		reply->input_tokens);
	add_number(response, "X-Amzn-Bedrock-Output-Token-Count",
		reply->output_tokens);
	add_number(response, "X-Amzn-Bedrock-Cache-Read-Input-Token-Count", 0);
	add_number(response, "X-Amzn-Bedrock-Cache-Write-Input-Token-Count", 0);
}

static void add_headers(
	struct MHD_Response *response, const struct exchange *exchange)
{
	const struct reply *reply = &exchange->reply;
	uint64_t retry_ms = exchange->sim->options->retry_after_ms;

	add_header(response, "Content-Type", "application/json");
	add_request_id(response);
	if (reply->type != NULL)
		add_error_type(response, reply->type);
	if (reply->has_counts)
		add_counts(response, reply);
	if (reply->status == 429 && retry_ms > 0)
		add_number(response, "x-amz-retry-after", retry_ms);
	add_header(response, "x-sim-body-sha256", exchange->body_sha256);
	add_number(response, "x-sim-arrival", exchange->n);
}

static ssize_t half_read(void *cls, uint64_t position, char *buffer, size_t max)
{
	const struct half *half = cls;
	size_t left = half->sent_bytes - (size_t)position;

	if (left == 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (left > max)
		left = max;
	memcpy(buffer, half->bytes + position, left);
	return (ssize_t)left;
}

static void half_free(void *cls)
{
	struct half *half = cls;

	free(half->bytes);
	free(half);
}

/* Announces all of the body, sends half of it, and then closes. */
static struct MHD_Response *half_response(const struct reply *reply)
{
	struct half *half = memory_zeroed(sizeof(*half));

	half->bytes = memory_text(reply->body);
	half->sent_bytes = reply->length / 2;
	return MHD_create_response_from_callback(
		reply->length, TRUNCATED_BLOCK, half_read, half, half_free);
}

static struct MHD_Response *whole_response(const char *body, size_t length)
{
	char *copy = memory_text(body);

	return MHD_create_response_from_buffer(
		length, copy, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result send_response(struct MHD_Connection *connection,
	int status, struct MHD_Response *response)
{
	enum MHD_Result result =
		MHD_queue_response(connection, (unsigned)status, response);

	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result send_reply(struct MHD_Connection *connection,
	const struct exchange *exchange, bool whole)
{
	const struct reply *reply = &exchange->reply;
	struct MHD_Response *response =
		whole ? whole_response(reply->body, reply->length)
		      : half_response(reply);

	if (response == NULL)
		memory_none();
	add_headers(response, exchange);
	return send_response(connection, reply->status, response);
}

enum MHD_Result send_answer(
	struct MHD_Connection *connection, const struct exchange *exchange)
{
	enum fault_kind kind = exchange->fault.kind;

	if (exchange->outcome != OUTCOME_FAULT)
		return send_reply(connection, exchange, true);
	switch (fault_facts(kind)->effect) {
	case FAULT_ANSWERS:
	case FAULT_DELAYS:
		return send_reply(connection, exchange, true);
	case FAULT_TRUNCATES:
		return send_reply(connection, exchange, false);
	case FAULT_RESETS:
		wire_reset(send_socket(connection));
		return MHD_NO;
	case FAULT_GARBLES:
		wire_garble(send_socket(connection));
		return MHD_NO;
	case FAULT_CLOSES:
	case FAULT_HANGS:
		return MHD_NO;
	}
	return MHD_NO;
}

static char *page_report(struct sim *sim)
{
	char *text;

	(void)pthread_mutex_lock(&sim->lock);
	text = ledger_report(&sim->ledger, &sim->quota, clock_now_ns());
	(void)pthread_mutex_unlock(&sim->lock);
	return text;
}

static void page_reset(struct sim *sim)
{
	(void)pthread_mutex_lock(&sim->lock);
	quota_reset(&sim->quota);
	ledger_reset(&sim->ledger, clock_now_ns());
	sim->closes_pending = 0;
	(void)pthread_mutex_unlock(&sim->lock);
}

/* NULL, or what is wrong. */
static const char *page_set(struct sim *sim, char *query)
{
	const char *wrong;

	(void)pthread_mutex_lock(&sim->lock);
	wrong = change_apply(sim, query);
	(void)pthread_mutex_unlock(&sim->lock);
	return wrong;
}

enum MHD_Result send_page(
	struct MHD_Connection *connection, struct exchange *exchange)
{
	struct MHD_Response *response;
	char *report = NULL;
	const char *text = "{\"ok\":true}\n", *wrong = NULL;
	char said[128];
	int status = 200;

	if (exchange->route.op == ROUTE_SIM_REPORT)
		text = report = page_report(exchange->sim);
	else if (exchange->route.op == ROUTE_SIM_RESET)
		page_reset(exchange->sim);
	else if (exchange->route.op == ROUTE_SIM_SET)
		wrong = page_set(exchange->sim, exchange->query);
	else if (exchange->route.op != ROUTE_SIM_HEALTHZ)
		status = 404, text = "{\"message\":\"no such page\"}\n";
	if (wrong != NULL) {
		(void)snprintf(
			said, sizeof(said), "{\"message\":\"%s\"}\n", wrong);
		status = 400, text = said;
	}
	response = whole_response(text, strlen(text));
	free(report);
	if (response == NULL)
		memory_none();
	add_header(response, "Content-Type", "application/json");
	return send_response(connection, status, response);
}
