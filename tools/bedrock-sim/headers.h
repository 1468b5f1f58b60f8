/* The header fields of one request, as they came over the wire. */
#ifndef SIM_HEADERS_H
#define SIM_HEADERS_H

#include <stddef.h>

struct header {
	const char *name, *value; /* borrowed from the connection */
};

struct headers {
	struct header *list; /* in the order sent; free() ends it */
	size_t count, capacity;
};

/* The first field of that name, in any case, or NULL. */
const char *headers_find(const struct headers *headers, const char *name);
size_t headers_count(const struct headers *headers, const char *name);

#endif
