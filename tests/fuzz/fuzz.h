/*
 * What the fuzz targets share: the bytes of one run taken apart, and what must
 * hold in every run.
 *
 * A target is one file with LLVMFuzzerTestOneInput(), which hands the bytes to
 * the product's own function and says what must be true of its answer; that
 * nothing is read beside its place, leaked or undefined is the sanitizers'
 * part.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The claim of a target.  A broken one ends the run as a crash does. */
#define MUST(condition)                                                        \
	do {                                                                   \
		if (!(condition)) {                                            \
			(void)fprintf(stderr, "%s:%d: MUST(%s)\n", __FILE__,   \
				__LINE__, #condition);                         \
			abort();                                               \
		}                                                              \
	} while (0)

/* The rest of a run's bytes. */
struct fuzz {
	const uint8_t *at;
	size_t left;
};

/* Numbers; 0 where the bytes are used up. */
static inline uint8_t fuzz_byte(struct fuzz *fuzz)
{
	if (fuzz->left == 0)
		return 0;
	fuzz->left--;
	return *fuzz->at++;
}

static inline uint32_t fuzz_number(struct fuzz *fuzz, int bytes)
{
	uint32_t number = 0;

	for (int i = 0; i < bytes; i++)
		number |= (uint32_t)fuzz_byte(fuzz) << 8 * i;
	return number;
}

/* At most n of the bytes; how many there were. */
static inline size_t fuzz_bytes(struct fuzz *fuzz, void *to, size_t n)
{
	if (n > fuzz->left)
		n = fuzz->left;
	if (n > 0)
		memcpy(to, fuzz->at, n);
	fuzz->at += n;
	fuzz->left -= n;
	return n;
}

/* A text of its own on the heap, so that a read beyond its end is seen: up to
 * the next zero byte, or the end.  The caller frees it. */
static inline char *fuzz_text(struct fuzz *fuzz)
{
	size_t n = fuzz->left ? strnlen((const char *)fuzz->at, fuzz->left) : 0;
	char *text = malloc(n + 1);

	MUST(text != NULL);
	(void)fuzz_bytes(fuzz, text, n);
	text[n] = '\0';
	(void)fuzz_byte(fuzz); /* the zero */
	return text;
}

/* All that is left, without a zero at its end, on the heap.  Never NULL. */
static inline char *fuzz_rest(struct fuzz *fuzz, size_t *ret_bytes)
{
	char *rest = calloc(1, fuzz->left + (fuzz->left == 0));

	MUST(rest != NULL);
	*ret_bytes = fuzz_bytes(fuzz, rest, fuzz->left);
	return rest;
}

/* A file in memory with these bytes; the path stays good until the next one of
 * the same number. */
static inline const char *fuzz_file(
	int number, const void *bytes, size_t n, char ret_path[32])
{
	static int files[2] = {-1, -1};
	int *fd = &files[number];

	if (*fd < 0)
		*fd = memfd_create("fuzz", MFD_CLOEXEC);
	MUST(*fd >= 0 && ftruncate(*fd, 0) == 0 &&
		pwrite(*fd, bytes, n, 0) == (ssize_t)n);
	(void)snprintf(ret_path, 32, "/proc/self/fd/%d", *fd);
	return ret_path;
}

/* Where a target writes what nobody reads. */
static inline FILE *fuzz_nowhere(void)
{
	static FILE *nowhere;

	if (nowhere == NULL)
		nowhere = fopen("/dev/null", "w");
	MUST(nowhere != NULL);
	return nowhere;
}

/* Texts for people and logs: closed within their field, no control bytes. */
static inline bool fuzz_is_printable(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return n < size;
}

#endif
