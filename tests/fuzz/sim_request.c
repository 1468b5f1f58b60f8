/*
 * bedrock-sim's parsers: the request line, the body, and the headers that say
 * who sent it.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/bedrock-sim/body.h"
#include "tools/bedrock-sim/route.h"
#include "tools/bedrock-sim/sigv4_check.h"

enum { HEADERS = 8 };

static char *words[2 * HEADERS];
static struct header list[HEADERS];

static size_t take_headers(struct fuzz *fuzz)
{
	size_t n = 0;

	/* A new line begins the body. */
	while (n < HEADERS && fuzz->left > 0 && *fuzz->at != '\n') {
		words[2 * n] = fuzz_text(fuzz);
		words[2 * n + 1] = fuzz_text(fuzz);
		list[n] = (struct header){words[2 * n], words[2 * n + 1]};
		n++;
	}
	return n;
}

static void try_route(
	const char *method, const char *path, struct route *ret_route)
{
	memset(ret_route, 0x5a, sizeof(*ret_route));
	route_parse(method, path, ret_route);
	MUST(fuzz_is_printable(ret_route->model, sizeof(ret_route->model)));
	MUST(!ret_route->model_valid || ret_route->model[0] != '\0');
	(void)route_op_name(ret_route->op);
}

static void try_body(const struct route *route, const char *body, size_t n)
{
	struct body_facts facts;
	char message[256] = "";

	if (!body_check(route, body, n, &facts, message, sizeof(message)))
		MUST(message[0] != '\0' &&
			strnlen(message, sizeof(message)) < sizeof(message));
}

static void try_headers(const char *path, size_t n)
{
	const struct headers headers = {.list = list, .count = n};
	const struct sigv4_keys keys = {.access_key = "AKIDEXAMPLE",
		.secret_key = "secret",
		.region = "us-east-1",
		.service = "bedrock",
		.session_token = n > 4 ? "token" : NULL,
		.expired_token = n > 5 ? "old" : NULL,
		.bearer = "bearer-key"};
	const struct sigv4_request request = {.method = "POST",
		.path = path,
		.query = "a=b&c",
		.headers = &headers,
		.body_sha256 = "00"};
	struct sigv4_refusal refusal = {.status = 0};

	if (!sigv4_check(&request, &keys, 1440938160, &refusal))
		MUST(refusal.status >= 400 && refusal.type != NULL &&
			strnlen(refusal.message, sizeof(refusal.message)) <
				sizeof(refusal.message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	char *method = fuzz_text(&fuzz), *path = fuzz_text(&fuzz), *body;
	size_t n = take_headers(&fuzz), body_bytes;
	struct route route;

	try_route(method, path, &route);
	try_headers(path, n);
	body = fuzz_rest(&fuzz, &body_bytes);
	if (route.op == ROUTE_INVOKE || route.op == ROUTE_CONVERSE)
		try_body(&route, body, body_bytes);
	free(body);
	for (size_t i = 0; i < 2 * n; i++)
		free(words[i]);
	free(path);
	free(method);
	return 0;
}
