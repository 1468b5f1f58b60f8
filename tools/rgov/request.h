/* A request as a command line describes it. */
#ifndef TOOLS_RGOV_REQUEST_H
#define TOOLS_RGOV_REQUEST_H

#include "tools/rgov/rgov_command.h"

#include "client-lib/rgov.h"

/* What a slot takes: the library checks again. */
enum { REQUEST_HEADERS_BYTES = 2048 };

/* Each returns 0, or the exit code after it has complained. */
int request_priority(const struct invocation *invocation,
	struct rgov_request *request, const char *word);
/* Adds a line to `headers`, which the request then points to. */
int request_header(const struct invocation *invocation,
	struct rgov_request *request, char headers[REQUEST_HEADERS_BYTES],
	const char *line);
/* Reads the file; NULL, or "-": stdin.  The caller frees *ret_body, which the
 * request points to. */
int request_body(const struct invocation *invocation,
	struct rgov_request *request, const char *path, char **ret_body);

#endif
