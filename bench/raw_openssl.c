#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "raw.h"

struct raw {
	EVP_CIPHER_CTX *seal;
	EVP_CIPHER_CTX *open;
	uint64_t counter;
	uint8_t nonces[RAW_BATCH][12];
	uint8_t aad[8];
	uint8_t tag[16];
};

const char *const raw_name = "OpenSSL";

bool raw_limit_to_avx2(void)
{
	return false;
}

static const EVP_CIPHER *find(const char *suite)
{
	if (strcmp(suite, "gcm128") == 0)
		return EVP_aes_128_gcm();
	if (strcmp(suite, "gcm256") == 0)
		return EVP_aes_256_gcm();
	return strcmp(suite, "chacha") == 0 ? EVP_chacha20_poly1305() : NULL;
}

struct raw *raw_new(const char *suite)
{
	const EVP_CIPHER *cipher = find(suite);
	static const uint8_t key[32] = { 1, 2, 3 };
	struct raw *raw = cipher ? calloc(1, sizeof(*raw)) : NULL;

	if (!raw)
		return NULL;
	raw->seal = EVP_CIPHER_CTX_new();
	raw->open = EVP_CIPHER_CTX_new();
	if (!raw->seal || !raw->open ||
	    EVP_EncryptInit_ex(raw->seal, cipher, NULL, key, NULL) != 1 ||
	    EVP_DecryptInit_ex(raw->open, cipher, NULL, key, NULL) != 1) {
		raw_free(raw);
		return NULL;
	}
	return raw;
}

void raw_free(struct raw *raw)
{
	EVP_CIPHER_CTX_free(raw->seal);
	EVP_CIPHER_CTX_free(raw->open);
	free(raw);
}

static void seal_one(struct raw *raw, const struct raw_text *text, const uint8_t *nonce)
{
	int done;

	EVP_EncryptInit_ex(raw->seal, NULL, NULL, NULL, nonce);
	EVP_EncryptUpdate(raw->seal, NULL, &done, raw->aad, sizeof(raw->aad));
	EVP_EncryptUpdate(raw->seal, text->data, &done, text->data, (int)text->len);
	EVP_EncryptFinal_ex(raw->seal, text->data, &done);
	EVP_CIPHER_CTX_ctrl(raw->seal, EVP_CTRL_AEAD_GET_TAG, sizeof(raw->tag), raw->tag);
}

static void open_one(struct raw *raw, const struct raw_text *text, const uint8_t *nonce)
{
	int done;

	EVP_DecryptInit_ex(raw->open, NULL, NULL, NULL, nonce);
	EVP_DecryptUpdate(raw->open, NULL, &done, raw->aad, sizeof(raw->aad));
	EVP_DecryptUpdate(raw->open, text->data, &done, text->data, (int)text->len);
	EVP_CIPHER_CTX_ctrl(raw->open, EVP_CTRL_AEAD_SET_TAG, sizeof(raw->tag), raw->tag);
	EVP_DecryptFinal_ex(raw->open, text->data, &done);
}

void raw_work(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	for (unsigned i = 0; i < n; i++) {
		raw->counter++;
		memcpy(raw->nonces[i] + 4, &raw->counter, sizeof(raw->counter));
	}
	for (unsigned i = 0; i < n; i++) {
		if (seal)
			seal_one(raw, &texts[i], raw->nonces[i]);
		else
			open_one(raw, &texts[i], raw->nonces[i]);
	}
}
