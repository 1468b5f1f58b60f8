/*
 * SHA-256, with the algorithm looked up once: OpenSSL's look-up costs more than
 * hashing a small body.
 */
#ifndef COORDINATOR_UPSTREAM_DIGEST_H
#define COORDINATOR_UPSTREAM_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32 };

/* One thread at a time.  NULL: no memory, or OpenSSL has no SHA-256. */
struct digest;
struct digest *digest_create(void);
void digest_free(struct digest *digest);

/* All of them: 0 or -ENOMEM. */
int digest_begin(struct digest *digest);
int digest_add(struct digest *digest, const void *data, size_t bytes);
int digest_end(struct digest *digest, uint8_t ret_sha256[DIGEST_BYTES]);

/* The three, of data that is there as a whole. */
int digest_sha256(struct digest *digest, const void *data, size_t bytes,
	uint8_t ret_sha256[DIGEST_BYTES]);

#endif
