/*
 * SigV4: any request is signed or refused, and what rgovd signs the simulator,
 * which shares nothing with it, must find to be signed right.
 */
#include "coordinator/upstream/sigv4.h"
#include "tests/fuzz/fuzz.h"

/* Two programs, one name. */
#define sigv4_request sim_request
#include "tools/bedrock-sim/sigv4_check.h"
#undef sigv4_request

#include <errno.h>
#include <strings.h>

enum { HEADERS = 6 };

struct signing {
	struct sigv4_request request;
	struct sigv4_header headers[HEADERS + 1];
	char *names[HEADERS], *values[HEADERS];
	size_t n;
	uint8_t hash[SIGV4_SHA256_BYTES];
	char authorization[SIGV4_AUTHORIZATION_BYTES];
	char date[SIGV4_DATE_BYTES];
};

static void take_headers(struct fuzz *fuzz, struct signing *signing)
{
	signing->headers[0] = (struct sigv4_header){"host", 4, "h", 1};
	while (fuzz->left > 0 && signing->n < HEADERS) {
		char *name = fuzz_text(fuzz), *value = fuzz_text(fuzz);

		/* The receiver compares it with the body; and there is a
		 * host already. */
		if (strcasecmp(name, "x-amz-content-sha256") == 0 ||
			strcasecmp(name, "host") == 0)
			name[0] = 'y';
		/* The simulator takes no longer ones. */
		if (strlen(name) > 100)
			name[100] = '\0';
		signing->names[signing->n] = name;
		signing->values[signing->n] = value;
		signing->n++;
		signing->headers[signing->n] = (struct sigv4_header){
			name, strlen(name), value, strlen(value)};
	}
}

/* The same request as it arrives: what bedrock-sim makes of it. */
static bool sim_accepts(const struct signing *signing, char *target)
{
	struct header list[HEADERS + 4] = {{"Host", "h"},
		{"X-Amz-Date", signing->date},
		{"Authorization", signing->authorization}};
	struct headers headers = {.list = list, .count = 3};
	const struct sigv4_keys keys = {.access_key = "AKIDEXAMPLE",
		.secret_key = "secret",
		.region = "us-east-1",
		.service = "bedrock"};
	char hex[2 * SIGV4_SHA256_BYTES + 1];
	char *query = strchr(target, '?');
	struct sim_request request = {.method = "POST",
		.path = target,
		.query = query ? query + 1 : "",
		.headers = &headers,
		.body_sha256 = hex};
	struct sigv4_refusal refusal = {.status = 0};

	if (query != NULL)
		*query = '\0';
	for (size_t i = 0; i < sizeof(signing->hash); i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", signing->hash[i]);
	for (size_t i = 0; i < signing->n; i++)
		list[headers.count++] =
			(struct header){signing->names[i], signing->values[i]};
	if (sigv4_check(
		    &request, &keys, (time_t)signing->request.unix_s, &refusal))
		return true;
	(void)fprintf(stderr, "%s: %s\n", refusal.type, refusal.message);
	return false;
}

/* Neither counts what is between two '&': no request of ours has it, and nobody
 * says how it is signed. */
static bool has_empty_parameter(const char *target)
{
	const char *query = strchr(target, '?');
	size_t n = query ? strlen(query) : 0;

	return n > 0 && (query[1] == '&' || query[n - 1] == '&' ||
				strstr(query, "&&") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct sigv4_key *key;
	struct fuzz fuzz = {data, bytes};
	struct signing signing = {.n = 0};
	uint32_t seconds = fuzz_number(&fuzz, 4);
	char *target = fuzz_text(&fuzz);
	int rc;

	MUST(key != NULL || sigv4_key_create(&key) == 0);
	memset(signing.hash, (int)(seconds & 0xff), sizeof(signing.hash));
	take_headers(&fuzz, &signing);
	signing.request = (struct sigv4_request){.method = "POST",
		.target = target,
		.headers = signing.headers,
		.header_count = signing.n + 1,
		.payload_sha256 = signing.hash,
		.access_key_id = "AKIDEXAMPLE",
		.secret_access_key = "secret",
		.region = "us-east-1",
		.service = "bedrock",
		.unix_s = seconds,
		/* The simulator takes a path as it is sent. */
		.keep_dot_segments = true};
	rc = sigv4_sign(key, &signing.request, signing.authorization,
		sizeof(signing.authorization), signing.date);
	if (rc == 0 && !has_empty_parameter(target))
		MUST(sim_accepts(&signing, target));
	else
		MUST(rc == 0 || rc == -EINVAL || rc == -E2BIG || rc == -ENOSPC);
	for (size_t i = 0; i < signing.n; i++) {
		free(signing.names[i]);
		free(signing.values[i]);
	}
	free(target);
	return 0;
}
