/*
 * What a provider answers: the head's lines, an empty line, the body.  Any
 * bytes must give a result that can be shown and counted.
 */
#include "coordinator/upstream/bedrock.h"
#include "tests/fuzz/fuzz.h"

static void read_lines(struct fuzz *fuzz, struct bedrock_head *head)
{
	while (fuzz->left > 0) {
		const uint8_t *end = memchr(fuzz->at, '\n', fuzz->left);
		size_t n = end ? (size_t)(end - fuzz->at) + 1 : fuzz->left;
		bool is_empty = n == 1 || (n == 2 && *fuzz->at == '\r');
		char *line = malloc(n);

		MUST(line != NULL);
		(void)fuzz_bytes(fuzz, line, n);
		bedrock_read_head(head, line, n);
		free(line);
		if (is_empty)
			break;
	}
}

/* One, none (-1), or what cannot be, which is handed on as it was said:
 * policy_usage_is_absurd(). */
static bool is_count(int64_t tokens)
{
	return tokens <= JSON_COUNT_MAX || tokens > INT64_C(1) << 53;
}

static void judge(const struct upstream_result *result)
{
	MUST(fuzz_is_printable(result->code, sizeof(result->code)));
	MUST(fuzz_is_printable(result->message, sizeof(result->message)));
	MUST(fuzz_is_printable(result->request_id, sizeof(result->request_id)));
	MUST(result->retry_after_ns <= BEDROCK_MAX_RETRY_AFTER_NS);
	MUST(is_count(result->usage.input_tokens) &&
		is_count(result->usage.output_tokens) &&
		is_count(result->usage.cache_read_tokens) &&
		is_count(result->usage.cache_write_tokens));
	MUST(result->outcome <= UPSTREAM_ABORTED);
	MUST((result->outcome == UPSTREAM_OK) == (result->code[0] == '\0'));
	MUST(result->outcome != UPSTREAM_OK ||
		(result->http_status >= 200 && result->http_status < 300));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	struct bedrock_head head = {0};
	struct upstream_result result;
	size_t n;
	char *body;

	read_lines(&fuzz, &head);
	body = fuzz_rest(&fuzz, &n);
	memset(&result, 0x5a, sizeof(result)); /* every field is filled */
	bedrock_judge(&head, n ? body : NULL, n, 1800000000, &result);
	MUST(result.body == (n ? body : NULL) && result.body_bytes == n);
	judge(&result);
	free(body);
	return 0;
}
