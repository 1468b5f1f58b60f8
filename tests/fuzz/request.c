/*
 * What a worker asks for: model id, header lines and body of a request, and the
 * endpoint of the configuration.  What is accepted must be fit for a request
 * line, and an accepted header for a header line.
 */
#include "coordinator/upstream/bedrock.h"
#include "tests/fuzz/fuzz.h"

static char why[UPSTREAM_MESSAGE_BYTES];

/* No blank, no control byte, nothing that would end a request line early. */
static bool is_one_word(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text <= 0x20 || *text >= 0x7f)
			return false;
	return true;
}

static void try_model(
	const struct bedrock_endpoint *endpoint, const char *model_id)
{
	int checked = bedrock_check_model(model_id, why);
	char path[BEDROCK_PATH_BYTES], small[64];
	int rc = bedrock_path(
		endpoint, UPSTREAM_CONVERSE, model_id, path, sizeof(path));

	MUST(checked == 0 || fuzz_is_printable(why, sizeof(why)));
	MUST((rc == 0) == (checked == 0));
	if (rc != 0)
		return;
	MUST(path[0] == '/' && is_one_word(path));
	MUST(strcspn(path, "?#") == strlen(path));
	rc = bedrock_path(
		endpoint, UPSTREAM_CONVERSE, model_id, small, sizeof(small));
	MUST((rc == 0) == (strlen(path) < sizeof(small)));
}

static void try_headers(const char *text)
{
	struct sigv4_header headers[BEDROCK_MAX_HEADERS];
	int checked = bedrock_check_headers(text, why);
	int n = bedrock_headers(text, headers);

	MUST(checked == 0 || fuzz_is_printable(why, sizeof(why)));
	MUST((n >= 0) == (checked == 0) && n <= BEDROCK_MAX_HEADERS);
	for (int i = 0; i < n; i++) {
		MUST(headers[i].name_bytes > 0);
		MUST(memchr(headers[i].name, '\n', headers[i].name_bytes) ==
			NULL);
		for (size_t k = 0; k < headers[i].value_bytes; k++)
			MUST(headers[i].value[k] >= 0x20 &&
				headers[i].value[k] <= 0x7e);
	}
}

static void try_endpoint(const char *url, struct bedrock_endpoint *ret_endpoint)
{
	if (bedrock_parse_endpoint(url, ret_endpoint, why) != 0) {
		MUST(fuzz_is_printable(why, sizeof(why)));
		*ret_endpoint = (struct bedrock_endpoint){.prefix = ""};
		return;
	}
	MUST(is_one_word(ret_endpoint->origin) &&
		is_one_word(ret_endpoint->host) &&
		is_one_word(ret_endpoint->prefix));
	MUST(strncmp(ret_endpoint->origin,
		     ret_endpoint->tls ? "https://" : "http://",
		     ret_endpoint->tls ? 8 : 7) == 0);
	MUST(strchr(ret_endpoint->origin, '@') == NULL);
}

static void try_body(const char *body, size_t n)
{
	struct bedrock_demand demand = {0};
	int rc = bedrock_scan_request(
		UPSTREAM_INVOKE_MODEL, body, n, &demand, why);
	struct bedrock_demand converse;

	MUST(rc == 0 || fuzz_is_printable(why, sizeof(why)));
	if (rc != 0)
		return;
	MUST(demand.max_tokens >= -1 && demand.max_tokens <= JSON_COUNT_MAX);
	/* An image counts 1600 for 1 KiB at least, else 3.5 bytes a token. */
	MUST(demand.input_tokens >= 0 &&
		demand.input_tokens <= (int64_t)n * 2 + 1);
	MUST(bedrock_scan_request(UPSTREAM_CONVERSE, body, n, &converse, why) ==
		0);
	MUST(converse.input_tokens == demand.input_tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	struct bedrock_endpoint endpoint;
	char *url = fuzz_text(&fuzz), *model_id = fuzz_text(&fuzz),
	     *headers = fuzz_text(&fuzz), *body;
	size_t n;

	try_endpoint(url, &endpoint);
	(void)bedrock_region_endpoint(
		url, &(struct bedrock_endpoint){.tls = false}, why);
	try_model(&endpoint, model_id);
	try_headers(headers);
	body = fuzz_rest(&fuzz, &n);
	try_body(body, n);
	free(body);
	free(headers);
	free(model_id);
	free(url);
	return 0;
}
