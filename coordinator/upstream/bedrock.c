/* Requests: where they go, what they look like, what they ask for. */
#include "coordinator/upstream/bedrock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	REGION_BYTES = 32,
	HOST_BYTES = 128,
	PREFIX_BYTES = 200,
	HTTP_PORT = 80,
	HTTPS_PORT = 443,
	MAX_PORT = 65535,
};

__attribute__((format(printf, 2, 3))) static int refuse(
	char ret_why[UPSTREAM_MESSAGE_BYTES], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(ret_why, UPSTREAM_MESSAGE_BYTES, format, args);
	va_end(args);
	return -EINVAL;
}

static bool is_letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

/* Only letters, digits, and bytes of `others`? */
static bool is_made_of(const char *text, size_t bytes, const char *others)
{
	for (size_t i = 0; i < bytes; i++)
		if (!is_letter_or_digit(text[i]) &&
			(text[i] == '\0' || strchr(others, text[i]) == NULL))
			return false;
	return true;
}

/* ---- where ---- */

/* The domain of the partition that a region belongs to. */
static const char *find_domain(const char *region)
{
	static const struct {
		const char *prefix, *domain;
	} partitions[] = {
		{"cn-", "amazonaws.com.cn"},
		{"us-isob-", "sc2s.sgov.gov"},
		{"us-isof-", "csp.hci.ic.gov"},
		{"eu-isoe-", "cloud.adc-e.uk"},
		{"us-iso-", "c2s.ic.gov"},
		{"eusc-", "amazonaws.eu"},
	};

	for (size_t i = 0; i < sizeof(partitions) / sizeof(partitions[0]); i++)
		if (strncmp(region, partitions[i].prefix,
			    strlen(partitions[i].prefix)) == 0)
			return partitions[i].domain;
	return "amazonaws.com";
}

static bool is_region(const char *region)
{
	size_t bytes = strnlen(region, REGION_BYTES);
	bool dash = false;

	if (bytes == REGION_BYTES || bytes == 0 || region[0] < 'a' ||
		region[0] > 'z' || region[bytes - 1] == '-')
		return false;
	for (size_t i = 0; i < bytes; i++) {
		char c = region[i];

		dash = dash || c == '-';
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
			c != '-')
			return false;
	}
	return dash;
}

int bedrock_region_endpoint(const char *region,
	struct bedrock_endpoint *ret_endpoint,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	if (!is_region(region))
		return refuse(ret_why, "not the name of a region; one is like "
				       "\"us-east-1\"");
	*ret_endpoint = (struct bedrock_endpoint){.tls = true};
	(void)snprintf(ret_endpoint->host, sizeof(ret_endpoint->host),
		"bedrock-runtime.%s.%s", region, find_domain(region));
	(void)snprintf(ret_endpoint->origin, sizeof(ret_endpoint->origin),
		"https://bedrock-runtime.%s.%s", region, find_domain(region));
	return 0;
}

/* A URL cut up, not yet judged. */
struct url {
	bool tls;
	char host[HOST_BYTES]; /* lower case, IPv6 without its brackets */
	bool ipv6;
	unsigned int port;
	char prefix[PREFIX_BYTES];
};

/* The names of this machine only: a host name that resolves to loopback today
 * may resolve to anything tomorrow. */
static bool is_loopback(const struct url *url)
{
	struct in6_addr six;
	struct in_addr four;

	if (url->ipv6)
		return inet_pton(AF_INET6, url->host, &six) == 1 &&
		       IN6_IS_ADDR_LOOPBACK(&six);
	if (inet_pton(AF_INET, url->host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return strcmp(url->host, "localhost") == 0;
}

static int read_scheme(const char **cursor, bool *ret_tls)
{
	static const char http[] = "http://", https[] = "https://";

	*ret_tls = strncasecmp(*cursor, https, sizeof(https) - 1) == 0;
	if (!*ret_tls && strncasecmp(*cursor, http, sizeof(http) - 1) != 0)
		return -EINVAL;
	*cursor += *ret_tls ? sizeof(https) - 1 : sizeof(http) - 1;
	return 0;
}

static int read_host(const char **cursor, struct url *url)
{
	const char *start = *cursor, *rest;
	struct in6_addr six;
	size_t bytes;

	url->ipv6 = *start == '[';
	if (url->ipv6)
		start++;
	bytes = strcspn(start, url->ipv6 ? "]" : ":/?#");
	rest = start + bytes + url->ipv6;
	if (bytes == 0 || bytes >= sizeof(url->host) ||
		(url->ipv6 && start[bytes] != ']') ||
		!is_made_of(start, bytes, url->ipv6 ? ":." : "-."))
		return -EINVAL;
	for (size_t i = 0; i < bytes; i++)
		url->host[i] = (char)(start[i] >= 'A' && start[i] <= 'Z'
					      ? start[i] | 0x20
					      : start[i]);
	url->host[bytes] = '\0';
	if (url->ipv6 && inet_pton(AF_INET6, url->host, &six) != 1)
		return -EINVAL;
	*cursor = rest;
	return 0;
}

static int read_port(const char **cursor, struct url *url)
{
	const char *at = *cursor;
	unsigned int port = 0;

	url->port = url->tls ? HTTPS_PORT : HTTP_PORT;
	if (*at != ':')
		return 0;
	for (at++; *at >= '0' && *at <= '9' && port <= MAX_PORT; at++)
		port = port * 10 + (unsigned int)(*at - '0');
	if (port == 0 || port > MAX_PORT)
		return -EINVAL;
	url->port = port;
	*cursor = at;
	return 0;
}

/* The prefix is signed and sent as it stands, so it must be one that nobody on
 * the way rewrites: no empty, "." or ".." segments. */
static int read_prefix(const char *path, struct url *url)
{
	size_t bytes = strlen(path);

	while (bytes > 0 && path[bytes - 1] == '/')
		bytes--;
	if (bytes >= sizeof(url->prefix) || (*path != '/' && *path != '\0') ||
		!is_made_of(path, bytes, "-._~/"))
		return -EINVAL;
	memcpy(url->prefix, path, bytes);
	url->prefix[bytes] = '\0';
	for (const char *at = url->prefix; *at != '\0';) {
		size_t segment = strcspn(++at, "/");

		if (segment == 0 || (segment == 1 && at[0] == '.') ||
			(segment == 2 && at[0] == '.' && at[1] == '.'))
			return -EINVAL;
		at += segment;
	}
	return 0;
}

static void write_endpoint(
	const struct url *url, struct bedrock_endpoint *ret_endpoint)
{
	bool usual = url->port == (url->tls ? HTTPS_PORT : HTTP_PORT);
	char port[16] = "";

	if (!usual)
		(void)snprintf(port, sizeof(port), ":%u", url->port);
	ret_endpoint->tls = url->tls;
	(void)snprintf(ret_endpoint->host, sizeof(ret_endpoint->host),
		url->ipv6 ? "[%s]%s" : "%s%s", url->host, port);
	(void)snprintf(ret_endpoint->origin, sizeof(ret_endpoint->origin),
		url->ipv6 ? "%s[%s]%s" : "%s%s%s",
		url->tls ? "https://" : "http://", url->host, port);
	(void)snprintf(ret_endpoint->prefix, sizeof(ret_endpoint->prefix), "%s",
		url->prefix);
}

int bedrock_parse_endpoint(const char *text,
	struct bedrock_endpoint *ret_endpoint,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct url url = {.tls = false};
	const char *cursor = text;

	if (read_scheme(&cursor, &url.tls) < 0)
		return refuse(ret_why, "the endpoint must begin with https:// "
				       "or http://");
	if (memchr(cursor, '@', strcspn(cursor, "/")) != NULL)
		return refuse(ret_why,
			"the endpoint must hold no user and no password");
	if (read_host(&cursor, &url) < 0)
		return refuse(ret_why, "the endpoint's host is not one");
	if (read_port(&cursor, &url) < 0)
		return refuse(ret_why, "the endpoint's port is not one");
	if (read_prefix(cursor, &url) < 0)
		return refuse(ret_why,
			"the endpoint's path must be of letters, "
			"digits and -._~/, without query");
	if (!url.tls && !is_loopback(&url))
		return refuse(ret_why, "an http:// endpoint must be on this "
				       "machine: localhost, 127.0.0.1, [::1]");
	write_endpoint(&url, ret_endpoint);
	return 0;
}

/* ---- model ids and paths ---- */

int bedrock_check_model(
	const char *model_id, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	size_t bytes =
		model_id ? strnlen(model_id, BEDROCK_MAX_MODEL_BYTES + 1) : 0;

	if (bytes == 0)
		return refuse(ret_why, "the model id is empty");
	if (bytes > BEDROCK_MAX_MODEL_BYTES)
		return refuse(ret_why, "the model id is longer than %d bytes",
			BEDROCK_MAX_MODEL_BYTES);
	for (size_t i = 0; i < bytes; i++)
		if (!is_made_of(model_id + i, 1, "-_.:/"))
			return refuse(ret_why,
				"the model id has a byte that is not allowed, "
				"at position %zu",
				i + 1);
	/* Also keeps "." and ".." from being a path segment. */
	if (!is_letter_or_digit(model_id[0]))
		return refuse(ret_why,
			"the model id does not begin with a letter or digit");
	return 0;
}

/* As one path segment; returns the end. */
static char *encode_model(const char *model_id, char *at)
{
	for (; *model_id != '\0'; model_id++) {
		if (*model_id != ':' && *model_id != '/') {
			*at++ = *model_id;
			continue;
		}
		memcpy(at, *model_id == ':' ? "%3A" : "%2F", 3);
		at += 3;
	}
	*at = '\0';
	return at;
}

static const char *operation_path(enum upstream_operation operation)
{
	switch (operation) {
	case UPSTREAM_INVOKE_MODEL:
		return "invoke";
	case UPSTREAM_CONVERSE:
		return "converse";
	}
	abort();
}

int bedrock_path(const struct bedrock_endpoint *endpoint,
	enum upstream_operation operation, const char *model_id, char *ret_path,
	size_t size)
{
	char segment[3 * BEDROCK_MAX_MODEL_BYTES + 1];
	char why[UPSTREAM_MESSAGE_BYTES];
	int n;

	if (bedrock_check_model(model_id, why) < 0)
		return -EINVAL;
	(void)encode_model(model_id, segment);
	n = snprintf(ret_path, size, "%s/model/%s/%s", endpoint->prefix,
		segment, operation_path(operation));
	return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}

/* ---- headers ---- */

/* What a client may set; the order is that of the bits in `seen`. */
static const char *const allowed[] = {
	"content-type",
	"accept",
	"x-amzn-bedrock-trace",
	"x-amzn-bedrock-guardrailidentifier",
	"x-amzn-bedrock-guardrailversion",
	"x-amzn-bedrock-performanceconfig-latency",
	"x-amzn-bedrock-service-tier",
	"x-amzn-bedrock-request-metadata",
};
enum {
	ALLOWED = sizeof(allowed) / sizeof(allowed[0]),
	CONTENT_TYPE = 0,
	ACCEPT = 1
};
_Static_assert((int)ALLOWED == (int)BEDROCK_MAX_HEADERS, "each at most once");

/* The index in allowed[], or -1. */
static int find_allowed(const char *name, size_t bytes)
{
	for (int i = 0; i < ALLOWED; i++)
		if (strlen(allowed[i]) == bytes &&
			strncasecmp(allowed[i], name, bytes) == 0)
			return i;
	return -1;
}

/* Cuts one line, without its '\n', into name and value. */
static int cut_header(const char *line, size_t bytes,
	struct sigv4_header *ret_header, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	const char *colon = memchr(line, ':', bytes);
	size_t name_bytes = colon ? (size_t)(colon - line) : 0;
	const char *value = line + name_bytes + 1, *end = line + bytes;

	if (name_bytes == 0 || name_bytes > UPSTREAM_CODE_BYTES ||
		!is_made_of(line, name_bytes, "-_"))
		return refuse(ret_why,
			"a header line is not of the form \"Name: value\"");
	while (value < end && *value == ' ')
		value++;
	while (end > value && end[-1] == ' ')
		end--;
	*ret_header = (struct sigv4_header){
		line, name_bytes, value, (size_t)(end - value)};
	return 0;
}

static int check_value(
	const struct sigv4_header *header, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int name = (int)header->name_bytes;

	if (header->value_bytes == 0)
		return refuse(ret_why, "header %.*s: the value is empty", name,
			header->name);
	if (header->value_bytes > BEDROCK_MAX_HEADER_VALUE)
		return refuse(ret_why,
			"header %.*s: the value is longer than %d bytes", name,
			header->name, BEDROCK_MAX_HEADER_VALUE);
	for (size_t i = 0; i < header->value_bytes; i++)
		if (header->value[i] < 0x20 || header->value[i] > 0x7e)
			return refuse(ret_why,
				"header %.*s: the value has a byte that is not "
				"printable ASCII",
				name, header->name);
	return 0;
}

/* Takes one line; *seen has a bit for each allowed header that came. */
static int take_header(const char *line, size_t bytes, unsigned int *seen,
	struct sigv4_header *ret_header, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int rc = cut_header(line, bytes, ret_header, ret_why), index;

	if (rc < 0)
		return rc;
	index = find_allowed(ret_header->name, ret_header->name_bytes);
	if (index < 0)
		return refuse(ret_why,
			"header %.*s: not one that a request may carry",
			(int)ret_header->name_bytes, ret_header->name);
	if (*seen >> index & 1)
		return refuse(ret_why, "header %.*s: given twice",
			(int)ret_header->name_bytes, ret_header->name);
	*seen |= 1U << index;
	return check_value(ret_header, ret_why);
}

/* Returns how many there are, or -EINVAL. */
static int take_headers(const char *lines, unsigned int *ret_seen,
	struct sigv4_header ret_headers[BEDROCK_MAX_HEADERS],
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct sigv4_header header = {0};
	int count = 0;

	*ret_seen = 0;
	if (lines == NULL)
		return 0;
	if (strnlen(lines, BEDROCK_MAX_HEADERS_BYTES + 1) >
		BEDROCK_MAX_HEADERS_BYTES)
		return refuse(ret_why, "the headers are longer than %d bytes",
			BEDROCK_MAX_HEADERS_BYTES);
	while (*lines != '\0') {
		size_t bytes = strcspn(lines, "\n");
		int rc = take_header(lines, bytes, ret_seen, &header, ret_why);

		if (rc < 0)
			return rc;
		ret_headers[count++] = header; /* none comes twice: it fits */
		lines += bytes + (lines[bytes] == '\n');
	}
	return count;
}

int bedrock_check_headers(
	const char *headers, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct sigv4_header ignored[BEDROCK_MAX_HEADERS];
	unsigned int seen;
	int count = take_headers(headers, &seen, ignored, ret_why);

	return count < 0 ? count : 0;
}

int bedrock_headers(const char *headers,
	struct sigv4_header ret_headers[BEDROCK_MAX_HEADERS])
{
	static const char json[] = "application/json";
	static const struct sigv4_header defaults[] = {
		[CONTENT_TYPE] = {"Content-Type", 12, json, sizeof(json) - 1},
		[ACCEPT] = {"Accept", 6, json, sizeof(json) - 1},
	};
	char why[UPSTREAM_MESSAGE_BYTES];
	unsigned int seen;
	int count = take_headers(headers, &seen, ret_headers, why);

	if (count < 0)
		return count;
	for (int i = CONTENT_TYPE; i <= ACCEPT; i++)
		if (!(seen >> i & 1))
			ret_headers[count++] = defaults[i];
	return count;
}

/* ---- bodies ---- */

enum {
	OPAQUE_BYTES = 1024, /* a base64 string from this on is no text */
	IMAGE_TOKENS = 1600, /* the usual most for one image */
	OPAQUE_BYTES_PER_TOKEN = 32,
};

struct sizes {
	uint64_t text_bytes;
	uint64_t opaque_tokens;
};

/* Behind "data:image/png;base64," or the like. */
static void skip_data_url(const char **text, size_t *bytes)
{
	static const char mark[] = ";base64,";
	const char *found;

	if (*bytes < 64 || memcmp(*text, "data:", 5) != 0)
		return;
	found = memmem(*text, 64, mark, sizeof(mark) - 1);
	if (found == NULL)
		return;
	found += sizeof(mark) - 1;
	*bytes -= (size_t)(found - *text);
	*text = found;
}

/* How JPEG, PNG, GIF and WebP begin in base64. */
static bool is_image(const char *base64)
{
	static const char *const begins[] = {
		"/9j/", "\\/9j", "iVBO", "R0lG", "UklG"};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (memcmp(base64, begins[i], 4) == 0)
			return true;
	return false;
}

static void count_string(void *context, const char *text, size_t bytes)
{
	struct sizes *sizes = context;

	skip_data_url(&text, &bytes);
	/* "\/" is how some writers put a slash. */
	if (bytes < OPAQUE_BYTES || !is_made_of(text, bytes, "+/=\\-_"))
		sizes->text_bytes += bytes;
	else if (is_image(text))
		sizes->opaque_tokens += IMAGE_TOKENS;
	else
		sizes->opaque_tokens += bytes / OPAQUE_BYTES_PER_TOKEN;
}

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t largest_count(const struct json_member *members, size_t count)
{
	int64_t largest = -1;

	for (size_t i = 0; i < count; i++)
		largest = larger(largest, json_read_count(members[i].value));
	return largest;
}

static int64_t find_nested_count(struct json_text object)
{
	struct json_member nested[] = {{.name = "maxTokens"},
		{.name = "max_new_tokens"}, {.name = "maxTokenCount"}};
	const size_t n = sizeof(nested) / sizeof(nested[0]);

	return json_read_members(object, nested, n) < 0
		       ? -1
		       : largest_count(nested, n);
}

int bedrock_scan_request(enum upstream_operation operation, const char *body,
	size_t bytes, struct bedrock_demand *ret_demand,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	/* Each model family has its own name for it, so the model id would be
	 * the judge; but a body that names several is either wrong or lies,
	 * and the largest is the safe answer to both. */
	struct json_member top[] = {{.name = "max_tokens"},
		{.name = "max_completion_tokens"},
		{.name = "max_tokens_to_sample"}, {.name = "max_gen_len"},
		{.name = "maxTokens"}, {.name = "inferenceConfig"},
		{.name = "textGenerationConfig"}};
	enum { FLAT = 5, INFERENCE = 5, GENERATION = 6, MEMBERS = 7 };
	struct sizes sizes = {0, 0};
	const struct json_strings strings = {count_string, &sizes};
	char error[JSON_ERROR_BYTES];
	int64_t most;

	if (json_scan_object(body, bytes, top, MEMBERS, &strings, error) < 0)
		return refuse(
			ret_why, "the body is not a JSON object: %s", error);
	most = find_nested_count(top[INFERENCE].value);
	if (operation == UPSTREAM_INVOKE_MODEL) {
		most = larger(most, find_nested_count(top[GENERATION].value));
		most = larger(most, largest_count(top, FLAT));
	}
	ret_demand->max_tokens = most;
	/* 3.5 bytes a token, rounded up. */
	ret_demand->input_tokens =
		(int64_t)((sizes.text_bytes * 2 + 6) / 7 + sizes.opaque_tokens);
	return 0;
}
