#include "coordinator/upstream/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
	EVP_MD *algorithm;
	EVP_MD_CTX *context;
};

struct digest *digest_create(void)
{
	struct digest *digest = calloc(1, sizeof(*digest));

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

int digest_sha256(struct digest *digest, const void *data, size_t bytes,
	uint8_t ret_sha256[DIGEST_BYTES])
{
	if (EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL) != 1 ||
		EVP_DigestUpdate(digest->context, data, bytes) != 1 ||
		EVP_DigestFinal_ex(digest->context, ret_sha256, NULL) != 1)
		return -EIO;
	return 0;
}
