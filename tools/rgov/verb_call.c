/* rgov call: one governed call from the shell. */
#include "tools/rgov/ending.h"
#include "tools/rgov/request.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sysexits.h>

struct call {
	struct rgov_request request;
	struct rgov_options options;
	char headers[REQUEST_HEADERS_BYTES];
	bool is_verbose;
	char *body;
};

/* ------------------------------------------------------------ arguments */

static int take_option(
	const struct invocation *invocation, struct call *call, int letter)
{
	double seconds;

	switch (letter) {
	case 'm':
		call->request.model_id = optarg;
		return 0;
	case 'c':
		call->request.operation = RGOV_CONVERSE;
		return 0;
	case 'u':
		call->request.user = optarg;
		return 0;
	case 'p':
		return request_priority(invocation, &call->request, optarg);
	case 't':
		if (options_number(optarg, 0.001, 86400, &seconds) < 0)
			return complain(invocation, EX_USAGE,
				"--timeout: expected 0.001 to 86400 seconds, "
				"found '%s'",
				optarg);
		call->request.timeout_ms = (uint64_t)(seconds * 1e3);
		return 0;
	case 'H':
		return request_header(
			invocation, &call->request, call->headers, optarg);
	case 'v':
		call->is_verbose = true;
		return 0;
	case 's':
		call->options.socket_path = optarg;
		return 0;
	default:
		return EX_SOFTWARE;
	}
}

static int take_arguments(struct invocation *invocation, struct call *call)
{
	int letter, rc;

	while ((letter = next_option(invocation)) != -1) {
		rc = take_option(invocation, call, letter);
		if (rc != 0)
			return rc;
	}
	expect_operands(invocation, 1);
	if (call->request.model_id == NULL)
		return complain(invocation, EX_USAGE,
			"expected --model ID (see 'rgov help call')");
	call->options.name = invocation->name;
	return 0;
}

/* ------------------------------------------------------------ result */

static void print_figures(
	const struct invocation *invocation, const struct rgov_reply *reply)
{
	(void)complain(invocation, 0,
		"%s, HTTP %d, waited %.3f s, took %.3f s, %" PRIu32
		" attempts, %" PRId64 " tokens in, %" PRId64
		" out, request id %s",
		rgov_result_name(reply->result), reply->http_status,
		(double)reply->wait_ns * 1e-9,
		(double)reply->execution_ns * 1e-9, reply->attempts,
		reply->input_tokens, reply->output_tokens,
		reply->request_id[0] != '\0' ? reply->request_id : "-");
}

static int finish(const struct invocation *invocation, const struct call *call,
	struct rgov_reply *reply)
{
	int rc = ending_print(invocation, reply);

	if (call->is_verbose)
		print_figures(invocation, reply);
	return rc;
}

static int perform(const struct invocation *invocation, const struct call *call)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov *gov;
	int rc = rgov_open(&call->options, &gov);

	if (rc == 0) {
		rc = rgov_call(gov, &call->request, &reply);
		if (rc == 0) {
			rc = finish(invocation, call, &reply);
		} else {
			rc = complain(invocation, exit_code_of_error(rc),
				"%s: %s", rgov_strerror(rc), rgov_why());
		}
		rgov_reply_fini(&reply);
		rgov_close(gov);
		return rc;
	}
	return complain(invocation, exit_code_of_error(rc), "%s: %s",
		rgov_strerror(rc), rgov_why());
}

int verb_call(struct invocation *invocation)
{
	struct call call = {
		.request = {.size = sizeof(call.request),
			.priority = RGOV_NORMAL},
		.options = {.size = sizeof(call.options),
			.app = "rgov",
			.slots = 1},
	};
	int rc = take_arguments(invocation, &call);

	if (rc == 0)
		rc = request_body(invocation, &call.request,
			invocation->argv[optind], &call.body);
	if (rc == 0)
		rc = perform(invocation, &call);
	free(call.body);
	return rc;
}
