/*
 * What a setting that is text may say: paths, host names, URLs.  It looks at
 * the words alone, and for a FILE at whether it can be read.
 */
#include "coordinator/cluster/redis_url.h"
#include "coordinator/config_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NULL: fine; else what was expected. */
static const char *judge_printable(const char *text)
{
	for (const char *at = text; *at != '\0'; at++)
		if (*at < 0x20 || *at > 0x7e)
			return "printable ASCII";
	return text[0] == '\0' ? "something" : NULL;
}

static const char *judge_path(const char *text)
{
	if (text[0] != '/')
		return "a path that begins with /";
	if (strlen(text) >= 4096)
		return "a path of less than 4096 bytes";
	return judge_printable(text);
}

static const char *judge_file(const char *text)
{
	const char *why = judge_path(text);

	if (why == NULL && faccessat(AT_FDCWD, text, R_OK, AT_EACCESS) != 0)
		why = "a file that rgovd can read";
	return why;
}

/* It becomes part of a host name. */
static const char *judge_region(const char *text)
{
	size_t bytes = strlen(text);

	if (bytes == 0 || bytes > 40 || text[0] == '-' ||
		text[bytes - 1] == '-' ||
		strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != bytes)
		return "a region like us-east-1";
	return NULL;
}

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

/* "name", "name:port", "[v6]:port"; the host alone to ret_host. */
static bool split_host(const char *authority, size_t bytes, char ret_host[256])
{
	const char *end = authority + bytes;
	const char *host_end = authority;
	size_t digits;

	if (bytes == 0 || bytes > 255)
		return false;
	if (*authority == '[') {
		host_end += strspn(authority + 1, "0123456789abcdefABCDEF:.");
		host_end += 2;
		if (host_end > end || host_end[-1] != ']')
			return false;
	} else {
		while (host_end < end &&
			(isalnum((unsigned char)*host_end) ||
				*host_end == '.' || *host_end == '-'))
			host_end++;
	}
	snprintf(ret_host, 256, "%.*s", (int)(host_end - authority), authority);
	if (host_end == end)
		return ret_host[0] != '\0';
	if (host_end == authority || *host_end != ':')
		return false;
	host_end++;
	digits = strspn(host_end, "0123456789");
	/* Five digits at most: strtoul cannot overflow. */
	return digits >= 1 && digits <= 5 && host_end + digits == end &&
	       strtoul(host_end, NULL, 10) - 1 < 65535;
}

static const char *judge_url(const char *text)
{
	bool plain = strncmp(text, "http://", 7) == 0;
	const char *authority = text + (plain ? 7 : 8);
	char host[256];

	if (!plain && strncmp(text, "https://", 8) != 0)
		return "a URL with https:// (or http:// to this host)";
	if (judge_printable(text) != NULL || strlen(text) > 255 ||
		text[strcspn(text, " \"<>\\^`{|}")] != '\0')
		return "a URL of at most 255 printable characters";
	if (strpbrk(text, "@?#") != NULL)
		return "a URL without user, query and fragment";
	if (!split_host(authority, strcspn(authority, "/"), host))
		return "a URL like https://host:port/path";
	if (plain && !is_loopback(host))
		return "https://: http:// is for this host only (127.0.0.1, "
		       "[::1], localhost)";
	return NULL;
}

const char *config_judge_text(const struct config_key *key, const char *text)
{
	if (key->type == CONFIG_PATH)
		return judge_path(text);
	if (key->type == CONFIG_FILE)
		return judge_file(text);
	if (key->type == CONFIG_REGION)
		return judge_region(text);
	if (key->type == CONFIG_URL)
		return judge_url(text);
	if (key->type == CONFIG_REDIS)
		return redis_url_parse(text, &(struct redis_url){0});
	return judge_printable(text);
}
