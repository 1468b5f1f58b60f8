/* Memory that is there or ends the program, and digests as text. */
#include "tools/bedrock-sim/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

_Noreturn void memory_none(void)
{
	(void)fputs("bedrock-sim: out of memory; stopping, because a count "
		    "could be wrong from here on\n",
		stderr);
	exit(EX_OSERR);
}

void *memory_zeroed(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (memory == NULL)
		memory_none();
	return memory;
}

char *memory_text(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		memory_none();
	return copy;
}

void *memory_grow(void *old, size_t *capacity, size_t needed, size_t bytes)
{
	size_t room = *capacity ? *capacity : 16;
	void *grown;

	if (needed <= *capacity)
		return old;
	while (room < needed)
		if (__builtin_mul_overflow(room, 2, &room))
			memory_none();
	grown = reallocarray(old, room, bytes);
	if (grown == NULL)
		memory_none();
	*capacity = room;
	return grown;
}

FILE *memory_stream(char **ret_text, size_t *ret_size)
{
	FILE *stream = open_memstream(ret_text, ret_size);

	if (stream == NULL)
		memory_none();
	return stream;
}

void hex_write(char *ret_text, const unsigned char *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		ret_text[2 * i] = digits[bytes[i] >> 4];
		ret_text[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret_text[2 * n] = '\0';
}
