/*
 * The text that is signed is built in one buffer of the key, so that a
 * signature costs four SHA-256 passes and no allocation.  The algorithms are
 * fetched once: in OpenSSL 3 a fetch costs more than a signature.
 */
#include "coordinator/upstream/sigv4.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
	QUERY_BYTES = 8192,
	SECRET_BYTES = 257,
	REGION_BYTES = 64,
	SERVICE_BYTES = 32,
	DAY_BYTES = 9,
	SCOPE_BYTES = DAY_BYTES + REGION_BYTES + SERVICE_BYTES + 16,
	STRING_TO_SIGN_BYTES = SCOPE_BYTES + 128,
	HEX_BYTES = 2 * SIGV4_SHA256_BYTES + 1,
};

#define ALGORITHM "AWS4-HMAC-SHA256"

/* One secret, day, region and service, and what was derived from them. */
struct derived {
	bool valid;
	char secret[SECRET_BYTES];
	char day[DAY_BYTES];
	char region[REGION_BYTES];
	char service[SERVICE_BYTES];
	uint8_t key[SIGV4_SHA256_BYTES];
};

struct sigv4_key {
	EVP_MD *sha256;
	EVP_MD_CTX *digest;
	EVP_MAC *hmac;
	EVP_MAC_CTX *mac;
	struct derived derived;
	char canonical[SIGV4_MAX_CANONICAL_BYTES];
	char query[QUERY_BYTES]; /* the encoded parameters, unsorted */
	char string_to_sign[STRING_TO_SIGN_BYTES];
	char signature[HEX_BYTES];
	char authorization[SIGV4_AUTHORIZATION_BYTES];
};

struct parameter {
	const char *name, *value; /* in sigv4_key.query */
	size_t name_bytes, value_bytes;
};

/* ---- a bounded text ---- */

struct text {
	char *start;
	size_t used, size;
	bool full; /* something did not fit; what is there is no good */
};

static void put_bytes(struct text *text, const char *bytes, size_t count)
{
	if (text->full || count >= text->size - text->used) {
		text->full = true;
		return;
	}
	memcpy(text->start + text->used, bytes, count);
	text->used += count;
	text->start[text->used] = '\0';
}

static void put(struct text *text, const char *string)
{
	put_bytes(text, string, strlen(string));
}

static void put_char(struct text *text, char c)
{
	put_bytes(text, &c, 1);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

static bool is_unreserved(char c)
{
	return is_letter_or_digit(c) || c == '-' || c == '.' || c == '_' ||
	       c == '~';
}

static void put_encoded(struct text *text, char c)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned char byte = (unsigned char)c;
	char escape[3] = {'%', digits[byte >> 4], digits[byte & 15]};

	if (is_unreserved(c))
		put_char(text, c);
	else
		put_bytes(text, escape, sizeof(escape));
}

static void put_hex(
	const uint8_t bytes[SIGV4_SHA256_BYTES], char ret_hex[HEX_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < SIGV4_SHA256_BYTES; i++) {
		ret_hex[2 * i] = digits[bytes[i] >> 4];
		ret_hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret_hex[HEX_BYTES - 1] = '\0';
}

/* ---- the algorithms ---- */

int sigv4_key_create(struct sigv4_key **ret_key)
{
	struct sigv4_key *key = calloc(1, sizeof(*key));

	if (key == NULL)
		return -ENOMEM;
	key->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	key->digest = EVP_MD_CTX_new();
	key->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (key->hmac != NULL)
		key->mac = EVP_MAC_CTX_new(key->hmac);
	if (key->sha256 == NULL || key->digest == NULL || key->mac == NULL) {
		sigv4_key_free(key);
		return -ENOMEM;
	}
	*ret_key = key;
	return 0;
}

void sigv4_key_free(struct sigv4_key *key)
{
	if (key == NULL)
		return;
	EVP_MAC_CTX_free(key->mac);
	EVP_MAC_free(key->hmac);
	EVP_MD_CTX_free(key->digest);
	EVP_MD_free(key->sha256);
	OPENSSL_cleanse(key, sizeof(*key));
	free(key);
}

/* OpenSSL has no other reason to fail here.  What it noted down about it would
 * be taken for news by the next one who asks, libcurl's TLS. */
static int no_memory(void)
{
	ERR_clear_error();
	return -ENOMEM;
}

int sigv4_hash(struct sigv4_key *key, const void *data, size_t bytes,
	uint8_t ret_sha256[SIGV4_SHA256_BYTES])
{
	if (EVP_DigestInit_ex2(key->digest, key->sha256, NULL) != 1 ||
		EVP_DigestUpdate(key->digest, data, bytes) != 1 ||
		EVP_DigestFinal_ex(key->digest, ret_sha256, NULL) != 1)
		return no_memory();
	return 0;
}

static int hmac(struct sigv4_key *key, const void *secret, size_t secret_bytes,
	const char *text, uint8_t ret_mac[SIGV4_SHA256_BYTES])
{
	static char sha256[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(
			OSSL_MAC_PARAM_DIGEST, sha256, sizeof(sha256) - 1),
		OSSL_PARAM_END,
	};
	/* Naming the digest fetches it; the context keeps it. */
	const OSSL_PARAM *first = key->derived.valid ? NULL : params;
	size_t bytes;

	if (EVP_MAC_init(key->mac, secret, secret_bytes, first) != 1 ||
		EVP_MAC_update(key->mac, (const unsigned char *)text,
			strlen(text)) != 1 ||
		EVP_MAC_final(key->mac, ret_mac, &bytes, SIGV4_SHA256_BYTES) !=
			1)
		return no_memory();
	return 0;
}

/* ---- the signing key ---- */

static bool is_derived_for(const struct derived *derived,
	const struct sigv4_request *request, const char *day)
{
	return derived->valid && strcmp(derived->day, day) == 0 &&
	       strcmp(derived->secret, request->secret_access_key) == 0 &&
	       strcmp(derived->region, request->region) == 0 &&
	       strcmp(derived->service, request->service) == 0;
}

/* The caller has checked that all of them fit. */
static int derive(struct sigv4_key *key, const struct sigv4_request *request,
	const char *day)
{
	struct derived *derived = &key->derived;
	char secret[4 + SECRET_BYTES];
	int rc;

	if (is_derived_for(derived, request, day))
		return 0;
	derived->valid = false;
	(void)snprintf(
		secret, sizeof(secret), "AWS4%s", request->secret_access_key);
	rc = hmac(key, secret, strlen(secret), day, derived->key);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc == 0)
		rc = hmac(key, derived->key, SIGV4_SHA256_BYTES,
			request->region, derived->key);
	if (rc == 0)
		rc = hmac(key, derived->key, SIGV4_SHA256_BYTES,
			request->service, derived->key);
	if (rc == 0)
		rc = hmac(key, derived->key, SIGV4_SHA256_BYTES, "aws4_request",
			derived->key);
	if (rc < 0)
		return rc;
	(void)snprintf(derived->secret, sizeof(derived->secret), "%s",
		request->secret_access_key);
	(void)snprintf(derived->day, sizeof(derived->day), "%s", day);
	(void)snprintf(derived->region, sizeof(derived->region), "%s",
		request->region);
	(void)snprintf(derived->service, sizeof(derived->service), "%s",
		request->service);
	derived->valid = true;
	return 0;
}

/* ---- the path ---- */

static void put_segment(struct text *text, const char *segment, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		put_encoded(text, segment[i]);
}

/* Takes back the last "/segment"; an encoded segment holds no slash. */
static void drop_segment(struct text *text, size_t path_start)
{
	while (text->used > path_start)
		if (text->start[--text->used] == '/')
			break;
	text->start[text->used] = '\0';
}

static void put_normal_path(struct text *text, const char *path, size_t bytes)
{
	size_t start = text->used, i = 0;

	while (i < bytes) {
		const char *segment = path + i;
		const char *slash = memchr(segment, '/', bytes - i);
		size_t n = slash ? (size_t)(slash - segment) : bytes - i;

		i += n + 1;
		if (n == 0 || (n == 1 && segment[0] == '.'))
			continue;
		if (n == 2 && memcmp(segment, "..", 2) == 0) {
			drop_segment(text, start);
			continue;
		}
		put_char(text, '/');
		put_segment(text, segment, n);
	}
	if (text->used == start || path[bytes - 1] == '/')
		put_char(text, '/');
}

static void put_path(struct text *text, const struct sigv4_request *request,
	size_t path_bytes)
{
	const char *path = request->target;

	if (request->path_encoded_once) {
		put_bytes(text, path, path_bytes);
	} else if (!request->keep_dot_segments) {
		put_normal_path(text, path, path_bytes);
	} else {
		for (size_t i = 0; i < path_bytes; i++) {
			if (path[i] == '/')
				put_char(text, '/');
			else
				put_encoded(text, path[i]);
		}
	}
}

/* ---- the query ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes what is encoded and encodes all of it anew; a '%' that begins no
 * escape is a byte like any other. */
static void put_recoded(struct text *text, const char *raw, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		int high = -1, low = -1;

		if (raw[i] == '%' && bytes - i > 2) {
			high = hex_value(raw[i + 1]);
			low = hex_value(raw[i + 2]);
		}
		if (high < 0 || low < 0) {
			put_encoded(text, raw[i]);
			continue;
		}
		put_encoded(text, (char)(high << 4 | low));
		i += 2;
	}
}

static struct parameter recode_parameter(
	struct text *text, const char *raw, size_t bytes)
{
	const char *equals = memchr(raw, '=', bytes);
	size_t name_bytes = equals ? (size_t)(equals - raw) : bytes;
	struct parameter parameter = {.name = text->start + text->used};
	size_t mark = text->used;

	put_recoded(text, raw, name_bytes);
	parameter.name_bytes = text->used - mark;
	mark = text->used;
	parameter.value = text->start + mark;
	if (equals != NULL)
		put_recoded(text, equals + 1, bytes - name_bytes - 1);
	parameter.value_bytes = text->used - mark;
	return parameter;
}

static int compare_bytes(
	const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
	int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

	if (order != 0)
		return order;
	return (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_parameters(
	const struct parameter *a, const struct parameter *b)
{
	int order =
		compare_bytes(a->name, a->name_bytes, b->name, b->name_bytes);

	return order != 0 ? order
			  : compare_bytes(a->value, a->value_bytes, b->value,
				    b->value_bytes);
}

static void insert_parameter(struct parameter *sorted, size_t count,
	const struct parameter *parameter)
{
	size_t i = count;

	for (; i > 0 && compare_parameters(parameter, &sorted[i - 1]) < 0; i--)
		sorted[i] = sorted[i - 1];
	sorted[i] = *parameter;
}

static int put_query(
	struct sigv4_key *key, struct text *text, const char *query)
{
	struct parameter sorted[SIGV4_MAX_PARAMETERS];
	struct text recoded = {.start = key->query, .size = sizeof(key->query)};
	size_t count = 0;

	while (*query != '\0') {
		size_t bytes = strcspn(query, "&");

		if (bytes > 0) {
			struct parameter parameter =
				recode_parameter(&recoded, query, bytes);

			if (recoded.full || count == SIGV4_MAX_PARAMETERS)
				return -E2BIG;
			insert_parameter(sorted, count++, &parameter);
		}
		query += bytes + (query[bytes] == '&');
	}
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			put_char(text, '&');
		put_bytes(text, sorted[i].name, sorted[i].name_bytes);
		put_char(text, '=');
		put_bytes(text, sorted[i].value, sorted[i].value_bytes);
	}
	return 0;
}

/* ---- the headers ---- */

struct headers {
	struct sigv4_header sorted[SIGV4_MAX_HEADERS];
	size_t count;
};

static bool name_is(const char *name, size_t bytes, const char *wanted)
{
	return bytes == strlen(wanted) && strncasecmp(name, wanted, bytes) == 0;
}

bool sigv4_is_unsigned(const char *name, size_t name_bytes)
{
	static const char *const names[] = {"connection", "expect",
		"keep-alive", "proxy-authenticate", "proxy-authorization", "te",
		"trailer", "transfer-encoding", "upgrade", "user-agent",
		"x-amzn-trace-id"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (name_is(name, name_bytes, names[i]))
			return true;
	return false;
}

static bool is_ours(const struct sigv4_header *header)
{
	return name_is(header->name, header->name_bytes, "authorization") ||
	       name_is(header->name, header->name_bytes, "x-amz-date") ||
	       name_is(header->name, header->name_bytes,
		       "x-amz-security-token");
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_sound_header(const struct sigv4_header *header)
{
	for (size_t i = 0; i < header->name_bytes; i++) {
		char c = header->name[i];

		if (!is_letter_or_digit(c) &&
			(c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
			return false;
	}
	for (size_t i = 0; i < header->value_bytes; i++)
		if (is_control(header->value[i]) && header->value[i] != '\t')
			return false;
	return header->name_bytes > 0;
}

static int compare_names(
	const struct sigv4_header *a, const struct sigv4_header *b)
{
	size_t least =
		a->name_bytes < b->name_bytes ? a->name_bytes : b->name_bytes;

	for (size_t i = 0; i < least; i++) {
		int order = (unsigned char)lower(a->name[i]) -
			    (unsigned char)lower(b->name[i]);

		if (order != 0)
			return order;
	}
	return (a->name_bytes > b->name_bytes) -
	       (a->name_bytes < b->name_bytes);
}

/* Stable: equal names keep the order in which they are sent. */
static int insert_header(
	struct headers *headers, const struct sigv4_header *header)
{
	size_t i = headers->count;

	if (!is_sound_header(header))
		return -EINVAL;
	if (i == SIGV4_MAX_HEADERS)
		return -E2BIG;
	for (; i > 0 && compare_names(header, &headers->sorted[i - 1]) < 0; i--)
		headers->sorted[i] = headers->sorted[i - 1];
	headers->sorted[i] = *header;
	headers->count++;
	return 0;
}

static struct sigv4_header make_header(const char *name, const char *value)
{
	return (struct sigv4_header){name, strlen(name), value, strlen(value)};
}

static int sort_headers(const struct sigv4_request *request, const char *date,
	struct headers *ret_headers)
{
	const char *token = request->session_token;
	struct sigv4_header ours = make_header("x-amz-date", date);
	int rc = insert_header(ret_headers, &ours);

	if (rc == 0 && token != NULL && *token != '\0') {
		ours = make_header("x-amz-security-token", token);
		rc = insert_header(ret_headers, &ours);
	}
	for (size_t i = 0; rc == 0 && i < request->header_count; i++) {
		const struct sigv4_header *header = &request->headers[i];

		if (sigv4_is_unsigned(header->name, header->name_bytes))
			continue;
		rc = is_ours(header) ? -EINVAL
				     : insert_header(ret_headers, header);
	}
	return rc;
}

/* Without blanks at its ends, and each run of them inside as one. */
static void put_value(struct text *text, const char *value, size_t bytes)
{
	bool blank = false, begun = false;

	for (size_t i = 0; i < bytes; i++) {
		if (value[i] == ' ' || value[i] == '\t') {
			blank = begun;
			continue;
		}
		if (blank)
			put_char(text, ' ');
		put_char(text, value[i]);
		blank = false;
		begun = true;
	}
}

static void put_name(struct text *text, const struct sigv4_header *header)
{
	for (size_t i = 0; i < header->name_bytes; i++)
		put_char(text, lower(header->name[i]));
}

static bool repeats_last(const struct headers *headers, size_t i)
{
	const struct sigv4_header *header = &headers->sorted[i];

	return i > 0 && compare_names(header - 1, header) == 0;
}

static void put_headers(struct text *text, const struct headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		const struct sigv4_header *header = &headers->sorted[i];

		if (repeats_last(headers, i)) {
			put_char(text, ',');
		} else {
			if (i > 0)
				put_char(text, '\n');
			put_name(text, header);
			put_char(text, ':');
		}
		put_value(text, header->value, header->value_bytes);
	}
	put_char(text, '\n');
}

static void put_signed_names(struct text *text, const struct headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		if (repeats_last(headers, i))
			continue;
		if (i > 0)
			put_char(text, ';');
		put_name(text, &headers->sorted[i]);
	}
}

/* ---- the request ---- */

static bool is_word(const char *text, size_t size)
{
	size_t bytes = text ? strlen(text) : 0;

	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)text[i] <= 0x20 ||
			(unsigned char)text[i] >= 0x7f)
			return false;
	return bytes > 0 && bytes < size;
}

static int check_request(const struct sigv4_request *request)
{
	if (!is_word(request->method, 32) ||
		!is_word(request->access_key_id, SECRET_BYTES) ||
		!is_word(request->secret_access_key, SECRET_BYTES) ||
		!is_word(request->region, REGION_BYTES) ||
		!is_word(request->service, SERVICE_BYTES) ||
		request->target[0] != '/')
		return -EINVAL;
	for (const char *c = request->target; *c != '\0'; c++)
		if (is_control(*c))
			return -EINVAL;
	return 0;
}

static int write_date(int64_t unix_s, char ret_date[SIGV4_DATE_BYTES])
{
	time_t when = (time_t)unix_s;
	struct tm utc;

	if (gmtime_r(&when, &utc) == NULL || utc.tm_year < -1900 ||
		utc.tm_year > 8099)
		return -EINVAL;
	return strftime(ret_date, SIGV4_DATE_BYTES, "%Y%m%dT%H%M%SZ", &utc) ==
			       SIGV4_DATE_BYTES - 1
		       ? 0
		       : -EINVAL;
}

static int build_canonical(struct sigv4_key *key,
	const struct sigv4_request *request, const struct headers *headers)
{
	struct text text = {
		.start = key->canonical, .size = sizeof(key->canonical)};
	size_t path_bytes = strcspn(request->target, "?");
	const char *query = request->target + path_bytes;
	char hash[HEX_BYTES];
	int rc;

	put(&text, request->method);
	put_char(&text, '\n');
	put_path(&text, request, path_bytes);
	put_char(&text, '\n');
	rc = put_query(key, &text, *query == '?' ? query + 1 : query);
	if (rc < 0)
		return rc;
	put_char(&text, '\n');
	put_headers(&text, headers);
	put_char(&text, '\n');
	put_signed_names(&text, headers);
	put_char(&text, '\n');
	put_hex(request->payload_sha256, hash);
	put(&text, hash);
	return text.full ? -E2BIG : 0;
}

static int build_string_to_sign(
	struct sigv4_key *key, const char *date, const char *scope)
{
	uint8_t hash[SIGV4_SHA256_BYTES];
	char hex[HEX_BYTES];
	int rc = sigv4_hash(key, key->canonical, strlen(key->canonical), hash);

	put_hex(hash, hex);
	(void)snprintf(key->string_to_sign, sizeof(key->string_to_sign),
		"%s\n%s\n%s\n%s", ALGORITHM, date, scope, hex);
	return rc;
}

static int build_authorization(struct sigv4_key *key,
	const struct sigv4_request *request, const struct headers *headers,
	const char *scope)
{
	struct text text = {.start = key->authorization,
		.size = sizeof(key->authorization)};

	put(&text, ALGORITHM " Credential=");
	put(&text, request->access_key_id);
	put_char(&text, '/');
	put(&text, scope);
	put(&text, ", SignedHeaders=");
	put_signed_names(&text, headers);
	put(&text, ", Signature=");
	put(&text, key->signature);
	return text.full ? -E2BIG : 0;
}

static int sign(struct sigv4_key *key, const struct sigv4_request *request,
	const char *date)
{
	struct headers headers = {.count = 0};
	uint8_t mac[SIGV4_SHA256_BYTES];
	char day[DAY_BYTES], scope[SCOPE_BYTES];
	int rc = sort_headers(request, date, &headers);

	(void)snprintf(day, sizeof(day), "%.8s", date);
	(void)snprintf(scope, sizeof(scope), "%s/%s/%s/aws4_request", day,
		request->region, request->service);
	if (rc == 0)
		rc = build_canonical(key, request, &headers);
	if (rc == 0)
		rc = derive(key, request, day);
	if (rc == 0)
		rc = build_string_to_sign(key, date, scope);
	if (rc == 0)
		rc = hmac(key, key->derived.key, SIGV4_SHA256_BYTES,
			key->string_to_sign, mac);
	if (rc < 0)
		return rc;
	put_hex(mac, key->signature);
	return build_authorization(key, request, &headers, scope);
}

int sigv4_sign(struct sigv4_key *key, const struct sigv4_request *request,
	char *ret_authorization, size_t size, char ret_date[SIGV4_DATE_BYTES])
{
	char date[SIGV4_DATE_BYTES];
	size_t bytes;
	int rc = check_request(request);

	if (rc == 0)
		rc = write_date(request->unix_s, date);
	if (rc == 0)
		rc = sign(key, request, date);
	if (rc < 0)
		return rc;
	bytes = strlen(key->authorization) + 1;
	if (bytes > size)
		return -ENOSPC;
	memcpy(ret_authorization, key->authorization, bytes);
	memcpy(ret_date, date, sizeof(date));
	return 0;
}

const char *sigv4_canonical_request(const struct sigv4_key *key)
{
	return key->canonical;
}

const char *sigv4_string_to_sign(const struct sigv4_key *key)
{
	return key->string_to_sign;
}

const char *sigv4_signature(const struct sigv4_key *key)
{
	return key->signature;
}
