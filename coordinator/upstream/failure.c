/*
 * What a failed exchange means.  The question behind every line: may the
 * provider have performed the call?  Not when it was never handed over; and
 * always, as far as we know, from then on.
 *
 * Texts of libcurl are passed on for what happens before the request; later
 * they could quote the answer, so the words are ours.
 */
#include "coordinator/upstream/exchange.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { READ_AT_ONCE_BYTES = 256 * 1024 };

void exchange_fail(struct upstream_result *ret_result,
	enum upstream_outcome outcome, const char *code, const char *message)
{
	size_t used = 0;

	ret_result->outcome = outcome;
	(void)snprintf(ret_result->code, sizeof(ret_result->code), "%s", code);
	for (; *message != '\0' && used < sizeof(ret_result->message) - 1;
		message++)
		ret_result->message[used++] =
			*message >= ' ' && *message <= '~' ? *message : '?';
	ret_result->message[used] = '\0';
	ret_result->body = NULL;
	ret_result->body_bytes = 0;
}

static bool is_bad_certificate(CURLcode code)
{
	return code == CURLE_PEER_FAILED_VERIFICATION ||
	       code == CURLE_SSL_CACERT_BADFILE ||
	       code == CURLE_SSL_CERTPROBLEM ||
	       code == CURLE_SSL_ISSUER_ERROR ||
	       code == CURLE_SSL_INVALIDCERTSTATUS;
}

static bool is_garbage(CURLcode code)
{
	return code == CURLE_WEIRD_SERVER_REPLY ||
	       code == CURLE_UNSUPPORTED_PROTOCOL || /* "HTTP/0.9" */
	       code == CURLE_BAD_CONTENT_ENCODING;
}

static const char *words(
	const struct upstream_exchange *exchange, CURLcode code)
{
	return exchange->error[0] != '\0' ? exchange->error
					  : curl_easy_strerror(code);
}

/* Nothing of the request went out: it may be tried again. */
static void judge_unsent(const struct upstream_exchange *exchange,
	CURLcode code, struct upstream_result *ret_result)
{
	const struct {
		CURLcode code;
		const char *name;
	} table[] = {
		{CURLE_COULDNT_RESOLVE_HOST, "ResolveFailed"},
		{CURLE_COULDNT_CONNECT, "ConnectFailed"},
		{CURLE_OPERATION_TIMEDOUT, "ConnectTimeout"},
		{CURLE_SSL_CONNECT_ERROR, "TlsFailed"},
		{CURLE_SSL_CIPHER, "TlsFailed"},
		{CURLE_OUT_OF_MEMORY, "OutOfMemory"},
	};
	const char *name = "ConnectFailed";

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			name = table[i].name;
	exchange_fail(
		ret_result, UPSTREAM_TRANSIENT, name, words(exchange, code));
}

/* The request went out, or some of it. */
static void judge_sent(const struct upstream_exchange *exchange, CURLcode code,
	struct upstream_result *ret_result)
{
	if (exchange->end == EXCHANGE_RESENT && exchange_is_unsent(exchange))
		exchange_fail(ret_result, UPSTREAM_TRANSIENT, "ConnectionReset",
			"the connection was lost before the body was sent");
	else if (exchange->end == EXCHANGE_HEAD_TOO_LARGE)
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "BadResponse",
			"the head of the answer has no end");
	else if (exchange->head_complete)
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "Truncated",
			"the connection was lost in the middle of the answer");
	else if (is_garbage(code))
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "BadResponse",
			"the answer is not HTTP");
	else if (code == CURLE_OUT_OF_MEMORY) /* or a line above 100 KB */
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "BadResponse",
			"the head of the answer does not fit in memory");
	else if (exchange->head_bytes > 0)
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "Truncated",
			"the connection was lost in the head of the answer");
	else
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "ConnectionReset",
			"the connection was lost before the answer");
}

static void judge_failure(const struct upstream_exchange *exchange,
	CURLcode code, struct upstream_result *ret_result)
{
	if (exchange->end == EXCHANGE_REFUSED_BY_OWNER)
		exchange_fail(ret_result, UPSTREAM_ABORTED, "Aborted",
			"ended before it was sent");
	else if (exchange->end == EXCHANGE_TOO_LARGE ||
		 code == CURLE_FILESIZE_EXCEEDED)
		exchange_fail(ret_result, UPSTREAM_REPLY_TOO_LARGE,
			"ReplyTooLarge", "the answer is larger than allowed");
	else if (exchange->end == EXCHANGE_NO_MEMORY)
		exchange_fail(ret_result, UPSTREAM_AMBIGUOUS, "OutOfMemory",
			"no memory for the answer");
	else if (is_bad_certificate(code) && !exchange->started)
		exchange_fail(ret_result, UPSTREAM_REFUSED, "BadCertificate",
			words(exchange, code));
	else if (!exchange->started)
		judge_unsent(exchange, code, ret_result);
	else
		judge_sent(exchange, code, ret_result);
}

static bool is_whole(const struct upstream_exchange *exchange)
{
	return exchange->code == CURLE_OK && exchange->head_complete;
}

void exchange_read_begin(struct upstream_exchange *exchange, CURLcode code)
{
	exchange->code = code;
	bedrock_read_begin(&exchange->reading, exchange->reply,
		is_whole(exchange) ? exchange->reply_bytes : 0);
}

bool exchange_read_more(struct upstream_exchange *exchange)
{
	return bedrock_read_more(&exchange->reading, READ_AT_ONCE_BYTES);
}

void exchange_judge(const struct upstream_exchange *exchange,
	struct upstream_result *ret_result)
{
	/* Status, request id, usage and hints, as far as there are any. */
	bedrock_judge_reading(
		&exchange->head, &exchange->reading, time(NULL), ret_result);
	if (is_whole(exchange))
		return;
	/* An error's head says what matters, however its body ended. */
	if (exchange->head_complete && exchange->head.http_status >= 400 &&
		ret_result->code[0] != '\0')
		return;
	judge_failure(exchange, exchange->code, ret_result);
}

void exchange_judge_timeout(const struct upstream_exchange *exchange,
	struct upstream_result *ret_result)
{
	bool deadline = exchange->timer.at_ns >= exchange->call->deadline_ns;

	bedrock_judge(
		&exchange->head, exchange->reply, 0, time(NULL), ret_result);
	if (!exchange->started)
		exchange_fail(ret_result, UPSTREAM_TRANSIENT, "DeadlinePassed",
			"the deadline passed before the request was sent");
	else if (deadline)
		exchange_fail(ret_result, UPSTREAM_TIMED_OUT, "DeadlinePassed",
			"the deadline passed before the answer was complete");
	else
		exchange_fail(ret_result, UPSTREAM_TIMED_OUT, "ReadTimeout",
			"the answer was not complete within the read time-out");
}
