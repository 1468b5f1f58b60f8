#include "coordinator/upstream/digest.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
	EVP_MD *algorithm;
	EVP_MD_CTX *context;
};

struct digest *digest_create(void)
{
	struct digest *digest;

	/* Without memory for its own state OpenSSL 3.0 follows a NULL pointer
	 * at the first look-up; this question it answers. */
	if (OSSL_LIB_CTX_get0_global_default() == NULL)
		return NULL;
	digest = calloc(1, sizeof(*digest));
	if (digest == NULL)
		return NULL;
	digest->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	digest->context = EVP_MD_CTX_new();
	if (digest->algorithm == NULL || digest->context == NULL) {
		digest_free(digest);
		return NULL;
	}
	return digest;
}

void digest_free(struct digest *digest)
{
	if (digest == NULL)
		return;
	EVP_MD_CTX_free(digest->context);
	EVP_MD_free(digest->algorithm);
	free(digest);
}

static int or_no_memory(int worked)
{
	if (worked == 1)
		return 0;
	ERR_clear_error(); /* TLS must not take it for its own */
	return -ENOMEM;
}

int digest_begin(struct digest *digest)
{
	return or_no_memory(
		EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL));
}

int digest_add(struct digest *digest, const void *data, size_t bytes)
{
	return or_no_memory(EVP_DigestUpdate(digest->context, data, bytes));
}

int digest_end(struct digest *digest, uint8_t ret_sha256[DIGEST_BYTES])
{
	return or_no_memory(
		EVP_DigestFinal_ex(digest->context, ret_sha256, NULL));
}

int digest_sha256(struct digest *digest, const void *data, size_t bytes,
	uint8_t ret_sha256[DIGEST_BYTES])
{
	int rc = digest_begin(digest);

	if (rc == 0)
		rc = digest_add(digest, data, bytes);
	return rc == 0 ? digest_end(digest, ret_sha256) : rc;
}
