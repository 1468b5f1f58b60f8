/*
 * How AWS Bedrock is spoken to: endpoints, paths, headers, what an answer
 * means, what a request asks for.  Pure: no sockets, no clock, no memory of
 * its own.  Any thread may call anything here.
 */
#ifndef COORDINATOR_UPSTREAM_BEDROCK_H
#define COORDINATOR_UPSTREAM_BEDROCK_H

#include "coordinator/upstream/json.h"
#include "coordinator/upstream/sigv4.h"
#include "coordinator/upstream/upstream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEDROCK_SERVICE "bedrock" /* for the signature */

enum {
	BEDROCK_MAX_MODEL_BYTES = 2048,
	BEDROCK_MAX_HEADER_VALUE = 8500, /* Request-Metadata's limit */
	BEDROCK_MAX_HEADERS_BYTES = 16384,
	/* The headers of bedrock_headers(): ours and the client's. */
	BEDROCK_MAX_HEADERS = 8,
	/* Holds any prefix and any encoded model id. */
	BEDROCK_PATH_BYTES = 256 + 3 * BEDROCK_MAX_MODEL_BYTES + 32,
	BEDROCK_ORIGIN_BYTES = 256,
};

/* ---- where ---- */

/*
 * An endpoint taken apart.  The URL of a call is origin + path, with the path
 * of bedrock_path(); host is the value of the Host header.
 */
struct bedrock_endpoint {
	char origin[BEDROCK_ORIGIN_BYTES]; /* "https://h:8443", no slash */
	char host[BEDROCK_ORIGIN_BYTES];   /* "h:8443"; no default port */
	char prefix[BEDROCK_ORIGIN_BYTES]; /* "/a/b" or "" */
	bool tls;
};

/*
 * The region's own endpoint, with the domain of its partition.  0; -EINVAL: no
 * region's name.
 */
int bedrock_region_endpoint(const char *region,
	struct bedrock_endpoint *ret_endpoint,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * An endpoint as configured: http or https, a host (name, IPv4, [IPv6]), maybe
 * a port, maybe a path prefix.  -EINVAL: anything else (user and password,
 * query, fragment, odd bytes), or http to a host that is not this one.
 */
int bedrock_parse_endpoint(const char *url,
	struct bedrock_endpoint *ret_endpoint,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/* ---- the request ---- */

/*
 * May these go into a request?  0, or -EINVAL and the reason, which quotes no
 * more than the name of what is wrong.  Model ids: 1 to 2048 letters, digits
 * and any of "-_.:/", the first a letter or digit.  Headers: "Name: value\n"
 * lines, printable ASCII, each name of the allow-list at most once; NULL or ""
 * is none.
 */
int bedrock_check_model(
	const char *model_id, char ret_why[UPSTREAM_MESSAGE_BYTES]);
int bedrock_check_headers(
	const char *headers, char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * The path as it goes on the wire and into the signature:
 * "/prefix/model/us.anthropic.claude%3A0/invoke".  0; -EINVAL: the model id
 * is not allowed; -ENOSPC.
 */
int bedrock_path(const struct bedrock_endpoint *endpoint,
	enum upstream_operation operation, const char *model_id, char *ret_path,
	size_t size);

/*
 * The headers of a call except Host and those of the signature: the client's,
 * and Content-Type and Accept where the client gives none.  They point into
 * `headers`, or to constants, and have no NUL at their end.  Returns how many,
 * or -EINVAL where bedrock_check_headers() would.
 */
int bedrock_headers(const char *headers,
	struct sigv4_header ret_headers[BEDROCK_MAX_HEADERS]);

/* What a body asks for. */
struct bedrock_demand {
	int64_t max_tokens; /* of the answer; -1: not said */
	/*
	 * An estimate from sizes alone, meant to be rather too high: the bytes
	 * of all strings of the body, names too, at 3.5 to a token.  A base64
	 * string of 1 KiB or more counts 1,600 tokens when it begins like an
	 * image, else one for 32 bytes.
	 */
	int64_t input_tokens;
};

/*
 * Reads a body before it is queued.  0; -EINVAL: it is not a JSON object, and
 * ret_why says where.  Linear in bytes, 1 to 4 ms per MB; the caller moves
 * large ones off its loop.
 */
int bedrock_scan_request(enum upstream_operation operation, const char *body,
	size_t bytes, struct bedrock_demand *ret_demand,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/* ---- the answer ---- */

/* What is kept of an answer's head.  Zero it before the first line. */
struct bedrock_head {
	int http_status; /* of the last status line; 0: none yet */
	char error_type[UPSTREAM_CODE_BYTES];
	char request_id[UPSTREAM_REQUEST_ID_BYTES];
	struct bedrock_count {
		bool known;
		int64_t tokens;
	} input, output, cache_read, cache_write;
	/* Hints; 0: none.  The first one counts before the others. */
	uint64_t amz_retry_after_ms; /* x-amz-retry-after */
	uint64_t retry_after_s;      /* Retry-After: N */
	int64_t retry_after_unix_s;  /* Retry-After: DATE */
};

/*
 * Takes one line of the head, as libcurl's header callback hands it out (with
 * or without CR LF).  A status line forgets all before it, so 100 and 103
 * responses need no care.
 */
void bedrock_read_head(
	struct bedrock_head *head, const char *line, size_t bytes);

/*
 * Reads what of an answer's body matters.  A large one takes 5 ms per MB, so
 * it is read in pieces; the body and the object stay where they are meanwhile.
 */
enum { BEDROCK_BODY_MEMBERS = 6 };
struct bedrock_reading {
	const char *body;
	size_t body_bytes;
	struct json_scan scan;
	struct json_member members[BEDROCK_BODY_MEMBERS];
	int rc; /* of the scan */
	char error[JSON_ERROR_BYTES];
};

void bedrock_read_begin(
	struct bedrock_reading *reading, const char *body, size_t bytes);

/* Goes on for about so many bytes.  False: all of it has been read. */
bool bedrock_read_more(struct bedrock_reading *reading, size_t bytes);

/*
 * Says what a complete answer, whose body has been read, means: fills every
 * field of *ret_result, with body and body_bytes as given.  A hint above
 * BEDROCK_MAX_RETRY_AFTER_NS is cut to it.  wall_unix_s is needed for a
 * Retry-After that is a date.
 *
 * 200 with a JSON object is UPSTREAM_OK, but for the UnknownOperationException
 * that answers a wrong route; 200 with anything else is UPSTREAM_AMBIGUOUS,
 * "BadResponse": it may have been performed.
 */
#define BEDROCK_MAX_RETRY_AFTER_NS (UINT64_C(300) * 1000000000)
void bedrock_judge_reading(const struct bedrock_head *head,
	const struct bedrock_reading *reading, int64_t wall_unix_s,
	struct upstream_result *ret_result);

/* The same in one piece. */
void bedrock_judge(const struct bedrock_head *head, const char *body,
	size_t body_bytes, int64_t wall_unix_s,
	struct upstream_result *ret_result);

#endif
