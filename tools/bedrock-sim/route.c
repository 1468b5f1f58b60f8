/* What a request line asks for: the operation and the model id. */
#include "tools/bedrock-sim/route.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

struct named_op {
	const char *name;
	enum route_op op;
};

static const struct named_op model_ops[] = {
	{"invoke", ROUTE_INVOKE},
	{"converse", ROUTE_CONVERSE},
	{"invoke-with-response-stream", ROUTE_STREAMING},
	{"converse-stream", ROUTE_STREAMING},
	{"count-tokens", ROUTE_COUNT_TOKENS},
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The next byte of an encoded segment; -1: not a valid escape. */
static int decode_byte(const char **at, const char *end)
{
	int high, low;

	if (**at != '%')
		return (unsigned char)*(*at)++;
	if (end - *at < 3)
		return -1;
	high = hex_value((*at)[1]);
	low = hex_value((*at)[2]);
	if (high < 0 || low < 0)
		return -1;
	*at += 3;
	return high * 16 + low;
}

static bool is_of_model(int byte)
{
	return byte > 0 && byte < 128 &&
	       (isalnum(byte) || strchr("-._:/", byte) != NULL);
}

/* Keeps what it could read, for the log, also when the id is not valid. */
static bool model_decode(const char *at, const char *end, char *ret_model)
{
	bool valid = true;
	size_t n = 0;

	while (at < end) {
		int byte = decode_byte(&at, end);

		if (byte < 0 || n == ROUTE_MODEL_MAX) {
			valid = false;
			break;
		}
		if (!is_of_model(byte)) {
			valid = false;
			byte = '?';
		}
		ret_model[n++] = (char)byte;
	}
	ret_model[n] = '\0';
	return valid && n > 0;
}

static enum route_op sim_op(const char *method, const char *page)
{
	bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	if (get && strcmp(page, "report") == 0)
		return ROUTE_SIM_REPORT;
	if (get && strcmp(page, "healthz") == 0)
		return ROUTE_SIM_HEALTHZ;
	if (strcmp(method, "POST") == 0 && strcmp(page, "reset") == 0)
		return ROUTE_SIM_RESET;
	if (strcmp(method, "POST") == 0 && strcmp(page, "set") == 0)
		return ROUTE_SIM_SET;
	return ROUTE_SIM_UNKNOWN;
}

static enum route_op model_op(const char *method, const char *name)
{
	if (strcmp(method, "POST") != 0)
		return ROUTE_UNKNOWN;
	for (size_t i = 0; i < sizeof(model_ops) / sizeof(*model_ops); i++)
		if (strcmp(name, model_ops[i].name) == 0)
			return model_ops[i].op;
	return ROUTE_UNKNOWN;
}

void route_parse(const char *method, const char *path, struct route *ret_route)
{
	const char *segment, *slash;

	ret_route->op = ROUTE_UNKNOWN;
	ret_route->model_valid = false;
	ret_route->model[0] = '\0';
	if (strncmp(path, "/_sim/", 6) == 0) {
		ret_route->op = sim_op(method, path + 6);
		return;
	}
	if (strncmp(path, "/model/", 7) != 0)
		return;
	segment = path + 7;
	slash = strchr(segment, '/');
	if (slash == NULL || slash == segment)
		return;
	ret_route->op = model_op(method, slash + 1);
	ret_route->model_valid = model_decode(segment, slash, ret_route->model);
}

const char *route_op_name(enum route_op op)
{
	switch (op) {
	case ROUTE_INVOKE:
		return "invoke";
	case ROUTE_CONVERSE:
		return "converse";
	case ROUTE_STREAMING:
		return "stream";
	case ROUTE_COUNT_TOKENS:
		return "count-tokens";
	case ROUTE_UNKNOWN:
		return "unknown";
	case ROUTE_SIM_REPORT:
	case ROUTE_SIM_RESET:
	case ROUTE_SIM_SET:
	case ROUTE_SIM_HEALTHZ:
	case ROUTE_SIM_UNKNOWN:
		return "sim";
	}
	return "unknown";
}

bool route_is_sim(enum route_op op)
{
	return op >= ROUTE_SIM_REPORT;
}
