/* The header fields of one request. */
#include "tools/bedrock-sim/headers.h"

#include <strings.h>

const char *headers_find(const struct headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->list[i].name, name) == 0)
			return headers->list[i].value;
	return NULL;
}

size_t headers_count(const struct headers *headers, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < headers->count; i++)
		count += strcasecmp(headers->list[i].name, name) == 0;
	return count;
}
