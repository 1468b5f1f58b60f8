/* coordinator/upstream/sigv4: what the vectors do not reach: limits, refusals,
 * the cached key, time.  The vectors run in build/tests/sigv4_vectors. */
#include "coordinator/upstream/sigv4.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <time.h>

#define HEADER(name, value)                                                    \
	{                                                                      \
		name, sizeof(name) - 1, value, sizeof(value) - 1               \
	}

static const uint8_t payload[SIGV4_SHA256_BYTES];
static const struct sigv4_header host[] = {
	HEADER("Host", "bedrock-runtime.us-east-1.amazonaws.com")};
static char authorization[SIGV4_AUTHORIZATION_BYTES];
static char date[SIGV4_DATE_BYTES];
static struct sigv4_key *key;

static struct sigv4_request example(void)
{
	if (key == NULL && sigv4_key_create(&key) < 0)
		exit(70);
	return (struct sigv4_request){.method = "POST",
		.target = "/model/m%3A0/invoke",
		.headers = host,
		.header_count = 1,
		.payload_sha256 = payload,
		.access_key_id = "AKIDEXAMPLE",
		.secret_access_key = "secret",
		.region = "us-east-1",
		.service = "bedrock",
		.unix_s = 1440938160};
}

static int sign(const struct sigv4_request *request)
{
	return sigv4_sign(
		key, request, authorization, sizeof(authorization), date);
}

static bool canonical_has(const char *text)
{
	return strstr(sigv4_canonical_request(key), text) != NULL;
}

/* The path is encoded once more as it stands, and the date is in UTC. */
static void encodes_the_path_again(void)
{
	struct sigv4_request request = example();

	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT(canonical_has("POST\n/model/m%253A0/invoke\n\n"));
	CU_ASSERT_STRING_EQUAL(date, "20150830T123600Z");
	CU_ASSERT_PTR_NOT_NULL(strstr(authorization,
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/"
		"bedrock/aws4_request, SignedHeaders=host;x-amz-date, "
		"Signature="));
	CU_ASSERT_EQUAL(strlen(sigv4_signature(key)), 64);
}

/* A used key gives the signature of a fresh one, whatever of secret, day,
 * region and service changed in between. */
static void derives_anew_when_anything_changes(void)
{
	struct sigv4_request requests[6];
	char first[6][65];

	for (int i = 0; i < 6; i++)
		requests[i] = example();
	requests[1].secret_access_key = "other";
	requests[2].unix_s += 86400;
	requests[3].region = "us-east-2";
	requests[4].service = "sts";
	for (int i = 0; i < 6; i++) {
		sigv4_key_free(key);
		CU_ASSERT_EQUAL_FATAL(sigv4_key_create(&key), 0);
		CU_ASSERT_EQUAL(sign(&requests[i]), 0);
		strcpy(first[i], sigv4_signature(key));
	}
	for (int i = 0; i < 36; i++) {
		CU_ASSERT_EQUAL(sign(&requests[i / 6]), 0);
		CU_ASSERT_STRING_EQUAL(sigv4_signature(key), first[i / 6]);
		CU_ASSERT_EQUAL(sign(&requests[i % 6]), 0);
		CU_ASSERT_STRING_EQUAL(sigv4_signature(key), first[i % 6]);
	}
	for (int i = 1; i < 5; i++)
		CU_ASSERT_STRING_NOT_EQUAL(first[i], first[0]);
	CU_ASSERT_STRING_EQUAL(first[5], first[0]);
}

/* Headers that proxies change are left out; the token is signed. */
static void signs_the_right_headers(void)
{
	static const struct sigv4_header headers[] = {HEADER("Host", "h"),
		HEADER("User-Agent", "x"), HEADER("Expect", "100-continue"),
		HEADER("X-Amzn-Trace-Id", "Root=1"),
		HEADER("Content-Type", " a\t  b ")};
	struct sigv4_request request = example();

	request.headers = headers;
	request.header_count = 5;
	request.session_token = "TOKEN";
	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT(canonical_has("\ncontent-type:a b\nhost:h\nx-amz-date:2015"
				"0830T123600Z\nx-amz-security-token:TOKEN\n\n"
				"content-type;host;x-amz-date;"
				"x-amz-security-token\n"));
	request.session_token = "";
	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT(!canonical_has("x-amz-security-token"));
	CU_ASSERT(sigv4_is_unsigned("user-AGENT", 10));
	CU_ASSERT(!sigv4_is_unsigned("user-agent2", 11));
	CU_ASSERT(!sigv4_is_unsigned("t", 1));
}

/* A query is decoded once, encoded once and sorted by name, then value. */
static void sorts_the_query(void)
{
	struct sigv4_request request = example();

	request.target = "/?b=%7e&a=2&a=1&&c&%zz=%&a-=1&a%20=+";
	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT(
		canonical_has("\n/\n%25zz=%25&a=1&a=2&a%20=%2B&a-=1&b=~&c=\n"));
}

/* Nothing that could end a line gets into what is signed. */
static void refuses_injection(void)
{
	static const struct sigv4_header bad[] = {HEADER("X-A", "1\r\nX-B: 2"),
		HEADER("X-A", "1\n"), HEADER("X-A", "1\0"), HEADER("X A", "1"),
		HEADER("", "1"), HEADER("X:A", "1"), HEADER("X\n", "1"),
		HEADER("Authorization", "x"), HEADER("X-Amz-Date", "x"),
		HEADER("x-amz-security-token", "x")};
	static const char *const targets[] = {
		"", "model", "/a\nb", "/a\r", "/?\t", "http://h/"};
	struct sigv4_request request = example();

	strcpy(authorization, "untouched");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request.headers = &bad[i];
		CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	}
	request = example();
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		request.target = targets[i];
		CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	}
	request = example();
	request.access_key_id = "A\nB";
	CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	request = example();
	request.secret_access_key = "";
	CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	request = example();
	request.session_token = "a\nb";
	CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	CU_ASSERT_STRING_EQUAL(authorization, "untouched");
}

/* Beyond a limit there is an error, never a shortened signature. */
static void keeps_its_limits(void)
{
	static struct sigv4_header many[SIGV4_MAX_HEADERS];
	static char large[SIGV4_MAX_CANONICAL_BYTES + 1];
	struct sigv4_request request = example();

	for (int i = 0; i < SIGV4_MAX_HEADERS; i++)
		many[i] = host[0];
	request.headers = many;
	request.header_count = SIGV4_MAX_HEADERS - 1; /* and x-amz-date */
	CU_ASSERT_EQUAL(sign(&request), 0);
	request.header_count = SIGV4_MAX_HEADERS;
	CU_ASSERT_EQUAL(sign(&request), -E2BIG);

	request = example();
	memset(large, 'x', sizeof(large) - 1);
	many[0].value = large;
	many[0].value_bytes = sizeof(large) - 1;
	request.headers = many;
	CU_ASSERT_EQUAL(sign(&request), -E2BIG);
	request = example();
	large[0] = '/';
	request.target = large;
	CU_ASSERT_EQUAL(sign(&request), -E2BIG);
	large[1] = '?';
	CU_ASSERT_EQUAL(sign(&request), -E2BIG);
	for (int i = 2; i < 2 + 2 * SIGV4_MAX_PARAMETERS; i += 2)
		memcpy(large + i, "a&", 2);
	large[2 + 2 * SIGV4_MAX_PARAMETERS] = '\0';
	CU_ASSERT_EQUAL(sign(&request), 0);
	memcpy(large + 2 + 2 * SIGV4_MAX_PARAMETERS, "a", 2);
	CU_ASSERT_EQUAL(sign(&request), -E2BIG);
}

/* The caller's buffer is enough to the byte, or nothing is written. */
static void fits_or_fails(void)
{
	struct sigv4_request request = example();
	size_t bytes;

	CU_ASSERT_EQUAL(sign(&request), 0);
	bytes = strlen(authorization) + 1;
	CU_ASSERT_EQUAL(
		sigv4_sign(key, &request, authorization, bytes, date), 0);
	strcpy(authorization, "untouched");
	CU_ASSERT_EQUAL(
		sigv4_sign(key, &request, authorization, bytes - 1, date),
		-ENOSPC);
	CU_ASSERT_STRING_EQUAL(authorization, "untouched");
	CU_ASSERT_EQUAL(sigv4_sign(key, &request, NULL, 0, date), -ENOSPC);
}

/* A clock that is far off is an error, not a wrong date. */
static void refuses_odd_times(void)
{
	struct sigv4_request request = example();

	request.unix_s = INT64_C(253402300800); /* the year 10000 */
	CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	request.unix_s--;
	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT_STRING_EQUAL(date, "99991231T235959Z");
	request.unix_s = INT64_MIN;
	CU_ASSERT_EQUAL(sign(&request), -EINVAL);
	request.unix_s = 0;
	CU_ASSERT_EQUAL(sign(&request), 0);
	CU_ASSERT_STRING_EQUAL(date, "19700101T000000Z");
}

/* A signature with the key at hand is cheap.  The bound is loose, for slow
 * machines and sanitizers; the figure is printed. */
static void is_fast_with_a_cached_key(void)
{
	struct sigv4_request request = example();
	const int rounds = 2000;
	struct timespec from, to;
	double us;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (int i = 0; i < rounds; i++)
		CU_ASSERT_EQUAL_FATAL(sign(&request), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	us = ((double)(to.tv_sec - from.tv_sec) * 1e6 +
		     (double)(to.tv_nsec - from.tv_nsec) / 1e3) /
	     rounds;
	printf("# %.2f us of CPU for a signature\n", us);
	CU_ASSERT(us < 500);
}

/* Freeing nothing is fine; the hash is SHA-256. */
static void frees_and_hashes(void)
{
	static const uint8_t wanted[] = {0xe3, 0xb0, 0xc4, 0x42};
	uint8_t hash[SIGV4_SHA256_BYTES];

	sigv4_key_free(NULL);
	CU_ASSERT_EQUAL(sigv4_hash(key, "", 0, hash), 0);
	CU_ASSERT(memcmp(hash, wanted, sizeof(wanted)) == 0);
	sigv4_key_free(key);
	key = NULL;
}

SUITE("sigv4", T(encodes_the_path_again), T(derives_anew_when_anything_changes),
	T(signs_the_right_headers), T(sorts_the_query), T(refuses_injection),
	T(keeps_its_limits), T(fits_or_fails), T(refuses_odd_times),
	T(is_fast_with_a_cached_key), T(frees_and_hashes))
