/* Takes URLs apart as libcurl does, which will call them: a second opinion on
 * where the host ends would be a hole. */
#include "coordinator/upstream/post_url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

struct parts {
	char *host, *port, *path;
	bool has_query;
};

static int refuse(char ret_why[POST_WHY_BYTES], const char *why)
{
	(void)snprintf(ret_why, POST_WHY_BYTES, "%s", why);
	return -EINVAL;
}

static int out_of_memory(char ret_why[POST_WHY_BYTES])
{
	(void)refuse(ret_why, "no memory");
	return -ENOMEM;
}

/* ---- one URL ---- */

/* Those of RFC 3986 but the fragment's, which is never sent. */
static bool is_url_text(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text <= 0x20 || *text >= 0x7f ||
			strchr("\"#<>\\^`{|}", *text) != NULL)
			return false;
	return true;
}

static bool is_loopback(const char *host)
{
	struct in6_addr ip6;
	struct in_addr ip4;
	char bare[INET6_ADDRSTRLEN];

	if (strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &ip4) == 1)
		return ntohl(ip4.s_addr) >> 24 == 127;
	if (sscanf(host, "[%45[0-9a-fA-F:]]", bare) != 1)
		return false;
	return inet_pton(AF_INET6, bare, &ip6) == 1 &&
	       IN6_IS_ADDR_LOOPBACK(&ip6);
}

/* A server may take an escaped dot or slash for what it stands for, and leave
 * the folder that a prefix allows. */
static bool is_plain_path(const char *path)
{
	while (*path != '\0') {
		size_t bytes = strcspn(++path, "/"), dots = 0;

		for (size_t i = 0; i < bytes; i++) {
			const char *at = path + i;

			if (strncasecmp(at, "%2f", 3) == 0 ||
				strncasecmp(at, "%5c", 3) == 0)
				return false;
			dots += *at == '.' ? 1 : 0;
			dots += strncasecmp(at, "%2e", 3) == 0 ? 3 : 0;
		}
		if (bytes > 0 && dots == bytes)
			return false;
		path += bytes;
	}
	return true;
}

static void parts_fini(struct parts *parts)
{
	curl_free(parts->host);
	curl_free(parts->port);
	curl_free(parts->path);
	*parts = (struct parts){0};
}

static bool has_part(CURLU *parsed, CURLUPart what)
{
	char *part = NULL;
	bool has = curl_url_get(parsed, what, &part, 0) == CURLUE_OK;

	curl_free(part);
	return has;
}

static int judge_parts(const struct parts *parts, char ret_why[POST_WHY_BYTES])
{
	if (!is_loopback(parts->host))
		return refuse(ret_why,
			"callback URL: the host is not this one (127.0.0.0/8, "
			"[::1] or localhost)");
	if (!is_plain_path(parts->path))
		return refuse(ret_why,
			"callback URL: the path has a segment . or .., or an "
			"escaped / or \\");
	return 0;
}

static int take_parts(
	CURLU *parsed, struct parts *ret_parts, char ret_why[POST_WHY_BYTES])
{
	struct parts parts = {.has_query = has_part(parsed, CURLUPART_QUERY)};
	int rc;

	if (has_part(parsed, CURLUPART_ZONEID))
		return refuse(ret_why, "callback URL: it names a zone");
	if (curl_url_get(parsed, CURLUPART_HOST, &parts.host, 0) != 0 ||
		curl_url_get(parsed, CURLUPART_PORT, &parts.port,
			CURLU_DEFAULT_PORT) != 0 ||
		curl_url_get(parsed, CURLUPART_PATH, &parts.path, 0) != 0)
		rc = out_of_memory(ret_why);
	else
		rc = judge_parts(&parts, ret_why);
	if (rc != 0)
		parts_fini(&parts);
	else
		*ret_parts = parts;
	return rc;
}

/* 0: the parts are to be ended. */
static int parse(
	const char *url, struct parts *ret_parts, char ret_why[POST_WHY_BYTES])
{
	CURLUcode code;
	CURLU *parsed;
	int rc;

	if (strnlen(url, POST_URL_BYTES) == POST_URL_BYTES)
		return refuse(ret_why, "callback URL: 2047 bytes at most");
	if (!is_url_text(url))
		return refuse(ret_why,
			"callback URL: a character that no URL has, or a "
			"fragment");
	if (strncasecmp(url, "http://", 7) != 0)
		return refuse(ret_why, "callback URL: not http://");
	parsed = curl_url();
	if (parsed == NULL)
		return out_of_memory(ret_why);
	code = curl_url_set(parsed, CURLUPART_URL, url,
		CURLU_PATH_AS_IS | CURLU_DISALLOW_USER);
	if (code == CURLUE_OUT_OF_MEMORY)
		rc = out_of_memory(ret_why);
	else if (code == CURLUE_USER_NOT_ALLOWED)
		rc = refuse(ret_why, "callback URL: it names a user");
	else if (code != CURLUE_OK)
		rc = refuse(ret_why, "callback URL: not a URL");
	else
		rc = take_parts(parsed, ret_parts, ret_why);
	curl_url_cleanup(parsed);
	return rc;
}

/* ---- the list ---- */

static bool allows(const struct parts *prefix, const struct parts *url)
{
	size_t bytes = strlen(prefix->path);

	if (strcasecmp(prefix->host, url->host) != 0 ||
		strcmp(prefix->port, url->port) != 0 ||
		strncmp(prefix->path, url->path, bytes) != 0)
		return false;
	return prefix->path[bytes - 1] == '/' || url->path[bytes] == '\0' ||
	       url->path[bytes] == '/';
}

static int parse_prefix(
	const char *text, struct parts *ret_parts, char ret_why[POST_WHY_BYTES])
{
	struct parts parts;
	int rc = parse(text, &parts, ret_why);

	if (rc != 0)
		return rc;
	if (parts.has_query) {
		parts_fini(&parts);
		return refuse(ret_why, "callback URL: a prefix has no query");
	}
	*ret_parts = parts;
	return 0;
}

int post_url_check_prefix(const char *prefix, char ret_why[POST_WHY_BYTES])
{
	struct parts parts;
	int rc = parse_prefix(prefix, &parts, ret_why);

	if (rc == 0)
		parts_fini(&parts);
	return rc;
}

int post_url_check(const char *url, const char *const *prefixes, size_t n,
	char ret_why[POST_WHY_BYTES])
{
	struct parts parts, prefix;
	bool allowed = false;
	int rc = parse(url, &parts, ret_why);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < n && !allowed && rc != -ENOMEM; i++) {
		rc = parse_prefix(prefixes[i], &prefix, ret_why);
		if (rc != 0)
			continue; /* what is wrong allows nothing */
		allowed = allows(&prefix, &parts);
		parts_fini(&prefix);
	}
	parts_fini(&parts);
	if (allowed || rc == -ENOMEM)
		return allowed ? 0 : rc;
	(void)refuse(ret_why,
		"callback URL: task_callbacks of the configuration does not "
		"allow it");
	return -EACCES;
}
