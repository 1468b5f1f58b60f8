/*
 * Where a Redis is, as one text:
 *
 *     redis://[USER][:PASSWORD]@HOST[:PORT][/DB]     rediss:// the same by TLS
 *     unix://[USER][:PASSWORD]@/PATH[?db=DB]
 *
 * What has a meaning in a URL stands in USER, PASSWORD and PATH as %XX.  Pure:
 * no name is looked up and no file.
 */
#ifndef COORDINATOR_CLUSTER_REDIS_URL_H
#define COORDINATOR_CLUSTER_REDIS_URL_H

#include <stddef.h>
#include <stdint.h>

enum redis_transport { REDIS_BY_TCP, REDIS_BY_TLS, REDIS_BY_UNIX };

struct redis_url {
	enum redis_transport transport;
	char host[256]; /* without brackets; of REDIS_BY_UNIX "" */
	char path[108]; /* of REDIS_BY_UNIX */
	uint16_t port;
	uint32_t db;
	char user[128];     /* "": the default one */
	char password[512]; /* "": none */
};

/* NULL: *ret_url is filled; else what was expected, in words that repeat
 * nothing of the text. */
const char *redis_url_parse(const char *text, struct redis_url *ret_url);

/* The text with *** in place of the password: for people and logs.  Also of one
 * that is wrong; cut to bytes. */
void redis_url_mask(const char *text, char *ret_text, size_t bytes);

#endif
