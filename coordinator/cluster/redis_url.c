/* The pieces of a Redis URL, each bounded and decoded. */
#include "coordinator/cluster/redis_url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PORT = 6379, MOST_DB = 1000000 };

/* A part of the text, not yet decoded. */
struct piece {
	const char *at;
	size_t bytes;
};

static int hex(char digit)
{
	if (isdigit((unsigned char)digit))
		return digit - '0';
	digit = (char)tolower((unsigned char)digit);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* False: too long, a wrong %XX, or a control byte. */
static bool decode(struct piece piece, char *ret_text, size_t bytes)
{
	size_t used = 0;

	for (size_t i = 0; i < piece.bytes; i++) {
		int c = (unsigned char)piece.at[i];

		if (c == '%') {
			int high =
				i + 2 < piece.bytes ? hex(piece.at[i + 1]) : -1;
			int low = high >= 0 ? hex(piece.at[i + 2]) : -1;

			if (low < 0)
				return false;
			c = high * 16 + low;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || used + 1 >= bytes)
			return false;
		ret_text[used++] = (char)c;
	}
	ret_text[used] = '\0';
	return true;
}

static bool read_number(struct piece piece, uint32_t most, uint32_t *ret_number)
{
	uint32_t number = 0;

	if (piece.bytes == 0 || piece.bytes > 7)
		return false;
	for (size_t i = 0; i < piece.bytes; i++) {
		if (!isdigit((unsigned char)piece.at[i]))
			return false;
		number = number * 10 + (uint32_t)(piece.at[i] - '0');
	}
	*ret_number = number;
	return number <= most;
}

/* The part before a byte leaves the piece; false: it is not in there. */
static bool cut(struct piece *piece, char at, struct piece *ret_before)
{
	const char *found = memchr(piece->at, at, piece->bytes);

	if (found == NULL)
		return false;
	*ret_before = (struct piece){piece->at, (size_t)(found - piece->at)};
	piece->bytes -= ret_before->bytes + 1;
	piece->at = found + 1;
	return true;
}

/* "user:password" before the last @ of the authority. */
static const char *read_user(struct piece *authority, struct redis_url *url)
{
	const char *at = memrchr(authority->at, '@', authority->bytes);
	struct piece user, password;

	if (at == NULL)
		return NULL;
	password = (struct piece){authority->at, (size_t)(at - authority->at)};
	authority->bytes -= password.bytes + 1;
	authority->at = at + 1;
	if (!cut(&password, ':', &user)) {
		user = password;
		password.bytes = 0;
	}
	if (!decode(user, url->user, sizeof(url->user)))
		return "a user of at most 127 bytes, with %XX for : / ? # @ %";
	if (!decode(password, url->password, sizeof(url->password)))
		return "a password of at most 511 bytes, with %XX for / ? # @ "
		       "%";
	if (url->user[0] != '\0' && url->password[0] == '\0')
		return "a password for that user";
	return NULL;
}

static bool is_host(struct piece host, const char *more)
{
	if (host.bytes == 0 || host.bytes > 255)
		return false;
	for (size_t i = 0; i < host.bytes; i++)
		if (!isalnum((unsigned char)host.at[i]) &&
			strchr(more, host.at[i]) == NULL)
			return false;
	return true;
}

/* "name", "name:port", "[v6]:port" */
static const char *read_host(struct piece authority, struct redis_url *url)
{
	bool is_v6 = authority.bytes > 0 && authority.at[0] == '[';
	struct piece host = authority, port = {NULL, 0};
	uint32_t number = DEFAULT_PORT;

	if (is_v6) {
		authority.at++;
		authority.bytes--;
		if (!cut(&authority, ']', &host))
			return "a ] after the address";
		if (authority.bytes > 0 && authority.at[0] != ':')
			return "a : and a port after the ]";
		port = authority;
	} else if (cut(&authority, ':', &host)) {
		port = (struct piece){authority.at - 1, authority.bytes + 1};
	}
	if (!is_host(host, is_v6 ? ":." : ".-_"))
		return "a host: redis://host:6379/0";
	if (port.bytes > 0 &&
		(!read_number((struct piece){port.at + 1, port.bytes - 1},
			 65535, &number) ||
			number == 0))
		return "a port from 1 to 65535 after the host";
	(void)decode(host, url->host, sizeof(url->host));
	url->port = (uint16_t)number;
	return NULL;
}

static const char *read_db(struct piece db, struct redis_url *url)
{
	return read_number(db, MOST_DB, &url->db)
		       ? NULL
		       : "a database number from 0 to 1000000 at the end";
}

static const char *parse_inet(struct piece rest, struct redis_url *url)
{
	struct piece authority = rest, db;
	bool has_db = cut(&rest, '/', &authority);
	const char *why;

	db = has_db ? rest : (struct piece){NULL, 0};
	if (!has_db && memchr(authority.at, '?', authority.bytes) != NULL)
		return "no ? in it";
	why = read_user(&authority, url);
	if (why == NULL)
		why = read_host(authority, url);
	return why == NULL && db.bytes > 0 ? read_db(db, url) : why;
}

static const char *parse_unix(struct piece rest, struct redis_url *url)
{
	struct piece path = rest, authority = rest;
	const char *slash, *why = NULL;

	if (cut(&rest, '?', &path)) {
		if (rest.bytes < 4 || strncmp(rest.at, "db=", 3) != 0)
			return "db=NUMBER after the ?";
		why = read_db((struct piece){rest.at + 3, rest.bytes - 3}, url);
	}
	slash = memchr(path.at, '/', path.bytes);
	if (slash == NULL)
		return "an absolute path: unix:///run/redis/redis.sock";
	authority = (struct piece){path.at, (size_t)(slash - path.at)};
	path.bytes -= authority.bytes;
	path.at = slash;
	if (why == NULL)
		why = read_user(&authority, url);
	if (why == NULL && authority.bytes > 0)
		why = "no host: unix:///run/redis/redis.sock";
	if (why == NULL && !decode(path, url->path, sizeof(url->path)))
		why = "a path of at most 107 bytes";
	return why;
}

const char *redis_url_parse(const char *text, struct redis_url *ret_url)
{
	static const struct {
		const char *scheme;
		enum redis_transport transport;
	} schemes[] = {{"redis://", REDIS_BY_TCP}, {"rediss://", REDIS_BY_TLS},
		{"unix://", REDIS_BY_UNIX}};

	memset(ret_url, 0, sizeof(*ret_url));
	if (text[strcspn(text, " #\"<>\\^`{|}")] != '\0')
		return "%XX for blanks, quotes, brackets and #";
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t n = strlen(schemes[i].scheme);
		struct piece rest = {text + n, strlen(text) - n};

		if (strncmp(text, schemes[i].scheme, n) != 0)
			continue;
		ret_url->transport = schemes[i].transport;
		return ret_url->transport == REDIS_BY_UNIX
			       ? parse_unix(rest, ret_url)
			       : parse_inet(rest, ret_url);
	}
	return "redis://host:port/db, rediss://host:port/db or "
	       "unix:///path?db=N";
}

void redis_url_mask(const char *text, char *ret_text, size_t bytes)
{
	const char *scheme = strstr(text, "://");
	const char *begin = scheme == NULL ? text : scheme + 3;
	const char *at = strrchr(begin, '@');
	const char *colon = at == NULL ? NULL : strchr(begin, ':');

	if (at == NULL)
		(void)snprintf(ret_text, bytes, "%s", text);
	else if (colon != NULL && colon < at)
		(void)snprintf(ret_text, bytes, "%.*s:***%s",
			(int)(colon - text), text, at);
	else /* a user alone, or what is no URL: nobody knows what it is */
		(void)snprintf(ret_text, bytes, "%.*s***%s",
			(int)(begin - text), text, at);
}
