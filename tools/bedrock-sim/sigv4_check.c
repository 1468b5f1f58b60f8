/* Judges who sent a request. */
#include "tools/bedrock-sim/sigv4_check.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/bedrock-sim/authorization.h"
#include "tools/bedrock-sim/canonical.h"
#include "tools/bedrock-sim/memory.h"

#define INCOMPLETE "IncompleteSignatureException"
#define INVALID "InvalidSignatureException"
#define UNRECOGNIZED "UnrecognizedClientException"

static bool __attribute__((format(printf, 4, 5)))
refuse(struct sigv4_refusal *refusal, int status, const char *type,
	const char *format, ...)
{
	va_list arguments;

	refusal->status = status;
	refusal->type = type;
	va_start(arguments, format);
	(void)vsnprintf(
		refusal->message, sizeof(refusal->message), format, arguments);
	va_end(arguments);
	return false;
}

static bool same_secret(const char *a, const char *b)
{
	size_t length = strlen(a);

	return length == strlen(b) && CRYPTO_memcmp(a, b, length) == 0;
}

static void hmac(const void *key, size_t key_bytes, const char *text,
	unsigned char ret_digest[DIGEST_BYTES])
{
	if (HMAC(EVP_sha256(), key, (int)key_bytes, (const void *)text,
		    strlen(text), ret_digest, NULL) == NULL)
		memory_none();
}

static void expected_signature(const struct authorization *claim,
	const char *secret, const char *canonical, char ret_hex[DIGEST_HEX])
{
	unsigned char digest[DIGEST_BYTES], hash[DIGEST_BYTES];
	char hash_hex[DIGEST_HEX], first_key[512], to_sign[1024];

	if (EVP_Digest(canonical, strlen(canonical), hash, NULL, EVP_sha256(),
		    NULL) != 1)
		memory_none();
	hex_write(hash_hex, hash, DIGEST_BYTES);
	(void)snprintf(to_sign, sizeof(to_sign),
		SIGV4_ALGORITHM "\n%s\n%s/%s/%s/%s\n%s", claim->date,
		claim->day, claim->region, claim->service, claim->terminator,
		hash_hex);
	(void)snprintf(first_key, sizeof(first_key), "AWS4%s", secret);
	hmac(first_key, strlen(first_key), claim->day, digest);
	hmac(digest, DIGEST_BYTES, claim->region, digest);
	hmac(digest, DIGEST_BYTES, claim->service, digest);
	hmac(digest, DIGEST_BYTES, claim->terminator, digest);
	hmac(digest, DIGEST_BYTES, to_sign, digest);
	hex_write(ret_hex, digest, DIGEST_BYTES);
}

static bool is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (*list != '\0') {
		size_t word = strcspn(list, ";");

		if (word == length && strncasecmp(list, name, length) == 0)
			return true;
		list += word;
		list += *list == ';';
	}
	return false;
}

static bool must_be_signed(const char *name)
{
	return strcasecmp(name, "host") == 0 ||
	       strcasecmp(name, "content-type") == 0 ||
	       strncasecmp(name, "x-amz-", 6) == 0;
}

static bool check_signed_headers(const struct sigv4_request *request,
	const char *list, struct sigv4_refusal *ret_refusal)
{
	const struct headers *headers = request->headers;

	if (!authorization_list_is_canonical(list, headers))
		return refuse(ret_refusal, 403, INVALID,
			"SignedHeaders is not a sorted list, in lower case, of "
			"headers that were sent.");
	for (size_t i = 0; i < headers->count; i++)
		if (must_be_signed(headers->list[i].name) &&
			!is_listed(list, headers->list[i].name))
			return refuse(ret_refusal, 403, INVALID,
				"'%.100s' must be a 'SignedHeader' in the AWS "
				"Authorization.",
				headers->list[i].name);
	if (headers_count(headers, "host") != 1 ||
		headers_count(headers, "x-amz-date") != 1)
		return refuse(ret_refusal, 400, INCOMPLETE,
			"The request needs exactly one Host and one X-Amz-Date "
			"header.");
	return true;
}

/* "YYYYMMDDTHHMMSSZ" in UTC; strict, unlike strptime. */
static bool date_parse(const char *date, time_t *ret_s)
{
	struct tm tm = {0};
	char again[17];

	if (strlen(date) != 16 || strspn(date, "0123456789TZ") != 16 ||
		strptime(date, "%Y%m%dT%H%M%SZ", &tm) == NULL)
		return false;
	*ret_s = timegm(&tm);
	return strftime(again, sizeof(again), "%Y%m%dT%H%M%SZ", &tm) == 16 &&
	       strcmp(again, date) == 0;
}

static bool check_date(const struct authorization *claim, time_t now_s,
	struct sigv4_refusal *ret_refusal)
{
	time_t signed_s;

	if (!date_parse(claim->date, &signed_s))
		return refuse(ret_refusal, 400, INCOMPLETE,
			"Date must be in ISO-8601 'basic format'. Got '%.40s'.",
			claim->date);
	if (strncmp(claim->day, claim->date, 8) != 0 || strlen(claim->day) != 8)
		return refuse(ret_refusal, 403, INVALID,
			"Date in Credential scope does not match YYYYMMDD from "
			"ISO-8601 version of date from HTTP: '%.20s' != "
			"'%.8s'.",
			claim->day, claim->date);
	if (signed_s < now_s - SIGV4_SKEW_MOST_S)
		return refuse(ret_refusal, 403, INVALID,
			"Signature expired: %s is more than 5 min. before the "
			"time of this server.",
			claim->date);
	if (signed_s > now_s + SIGV4_SKEW_MOST_S)
		return refuse(ret_refusal, 403, INVALID,
			"Signature not yet current: %s is more than 5 min. "
			"after the time of this server.",
			claim->date);
	return true;
}

static bool check_scope(const struct authorization *claim,
	const struct sigv4_keys *keys, struct sigv4_refusal *ret_refusal)
{
	if (!same_secret(claim->access_key, keys->access_key))
		return refuse(ret_refusal, 403, UNRECOGNIZED,
			"The security token included in the request is "
			"invalid.");
	if (strcmp(claim->region, keys->region) != 0)
		return refuse(ret_refusal, 403, INVALID,
			"Credential should be scoped to a valid region, not "
			"'%.60s'.",
			claim->region);
	if (strcmp(claim->service, keys->service) != 0 ||
		strcmp(claim->terminator, "aws4_request") != 0)
		return refuse(ret_refusal, 403, INVALID,
			"Credential should be scoped to correct service: "
			"'%s'.",
			keys->service);
	return true;
}

static bool check_token(const struct headers *headers,
	const struct sigv4_keys *keys, struct sigv4_refusal *ret_refusal)
{
	const char *token = headers_find(headers, "x-amz-security-token");

	if (token != NULL && keys->expired_token != NULL &&
		same_secret(token, keys->expired_token))
		return refuse(ret_refusal, 403, "ExpiredTokenException",
			"The security token included in the request is "
			"expired");
	if ((token != NULL) != (keys->session_token != NULL) ||
		headers_count(headers, "x-amz-security-token") > 1 ||
		(token != NULL && !same_secret(token, keys->session_token)))
		return refuse(ret_refusal, 403, UNRECOGNIZED,
			"The security token included in the request is "
			"invalid.");
	return true;
}

static bool check_payload(
	const struct sigv4_request *request, struct sigv4_refusal *ret_refusal)
{
	const char *sent =
		headers_find(request->headers, "x-amz-content-sha256");

	if (sent != NULL && strcmp(sent, request->body_sha256) != 0)
		return refuse(ret_refusal, 403, INVALID,
			"X-Amz-Content-Sha256 is not the hash of the body: it "
			"should have been '%s'.",
			request->body_sha256);
	return true;
}

static bool check_signature(const struct sigv4_request *request,
	const struct authorization *claim, const char *secret,
	struct sigv4_refusal *ret_refusal)
{
	char *canonical = canonical_request(request, claim->signed_headers);
	char expected[DIGEST_HEX];
	bool same;

	expected_signature(claim, secret, canonical, expected);
	same = same_secret(expected, claim->signature);
	/* The service tells what it hashed, too: it finds most mistakes. */
	if (!same)
		(void)refuse(ret_refusal, 403, INVALID,
			"The request signature we calculated does not match "
			"the signature you provided. Check your AWS Secret "
			"Access Key and signing method. Consult the service "
			"documentation for details.\n\nThe Canonical String "
			"for this request should have been\n'%s'",
			canonical);
	free(canonical);
	return same;
}

static bool check_claim(const struct sigv4_request *request,
	struct authorization *claim, const struct sigv4_keys *keys,
	time_t now_s, struct sigv4_refusal *ret_refusal)
{
	claim->date = headers_find(request->headers, "x-amz-date");
	if (claim->date == NULL)
		return refuse(ret_refusal, 400, INCOMPLETE,
			"Authorization header requires existence of either a "
			"'X-Amz-Date' or a 'Date' header.");
	return check_signed_headers(
		       request, claim->signed_headers, ret_refusal) &&
	       check_scope(claim, keys, ret_refusal) &&
	       check_token(request->headers, keys, ret_refusal) &&
	       check_date(claim, now_s, ret_refusal) &&
	       check_payload(request, ret_refusal) &&
	       check_signature(request, claim, keys->secret_key, ret_refusal);
}

static bool check_bearer(const char *key, const struct sigv4_keys *keys,
	struct sigv4_refusal *ret_refusal)
{
	if (keys->bearer != NULL && same_secret(key, keys->bearer))
		return true;
	return refuse(ret_refusal, 403, UNRECOGNIZED,
		"The security token included in the request is invalid.");
}

bool sigv4_check(const struct sigv4_request *request,
	const struct sigv4_keys *keys, time_t now_s,
	struct sigv4_refusal *ret_refusal)
{
	const char *authorization =
		headers_find(request->headers, "authorization");
	struct authorization claim;
	bool valid;

	if (authorization == NULL)
		return refuse(ret_refusal, 403,
			"MissingAuthenticationTokenException",
			"Missing Authentication Token");
	if (headers_count(request->headers, "authorization") > 1)
		return refuse(ret_refusal, 400, INCOMPLETE,
			"More than one Authorization header.");
	if (strncasecmp(authorization, "Bearer ", 7) == 0)
		return check_bearer(authorization + 7, keys, ret_refusal);
	if (strncmp(authorization, SIGV4_ALGORITHM " ",
		    strlen(SIGV4_ALGORITHM " ")) != 0)
		return refuse(ret_refusal, 400, INCOMPLETE,
			"Authorization does not begin with '" SIGV4_ALGORITHM
			" ' or 'Bearer '.");
	if (authorization_parse(authorization, &claim))
		valid = check_claim(request, &claim, keys, now_s, ret_refusal);
	else
		valid = refuse(ret_refusal, 400, INCOMPLETE,
			"Authorization header requires one 'Credential', "
			"'SignedHeaders' and 'Signature' parameter each.");
	free(claim.copy);
	return valid;
}
