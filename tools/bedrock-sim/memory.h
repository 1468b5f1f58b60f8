/*
 * Memory that is there or ends the program, and digests as text.
 *
 * bedrock-sim is a judge: one that lost an arrival for lack of memory would
 * tell a wrong count.  So it stops instead, with exit status 71, and says so.
 */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX = 65 };

/* Prints that there is no memory and ends the program. */
_Noreturn void memory_none(void);

/* Zeroed memory; free() ends it. */
void *memory_zeroed(size_t bytes);
/* A copy of a text; free() ends it. */
char *memory_text(const char *text);
/*
 * Makes room for `needed` elements of `bytes` each; *capacity counts elements
 * and at least doubles.  The new part is not initialised.
 */
void *memory_grow(void *old, size_t *capacity, size_t needed, size_t bytes);

/* open_memstream(); the text is there after fclose(), free() ends it. */
FILE *memory_stream(char **ret_text, size_t *ret_size);

/* Lower-case hexadecimal digits and a NUL: 2 * n + 1 bytes. */
void hex_write(char *ret_text, const unsigned char *bytes, size_t n);

#endif
