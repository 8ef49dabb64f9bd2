#include "crypto/hmac.h"

#define BLOCK_MAX 128

/* What HMAC needs of a hash. A table instead of EVP_MAC: those contexts live on the heap. */
struct xf_hash {
	size_t block_len;
	size_t digest_len;
	void (*init)(union xf_hash_state *state);
	void (*update)(union xf_hash_state *state, const void *data, size_t len);
	void (*final)(union xf_hash_state *state, uint8_t *out);
};

#define HASH_FUNCTIONS(name, NAME, member)                                                  \
	static void name##_init(union xf_hash_state *state)                                 \
	{                                                                                   \
		NAME##_Init(&state->member);                                                \
	}                                                                                   \
	static void name##_update(union xf_hash_state *state, const void *data, size_t len) \
	{                                                                                   \
		NAME##_Update(&state->member, data, len);                                   \
	}                                                                                   \
	static void name##_final(union xf_hash_state *state, uint8_t *out)                  \
	{                                                                                   \
		NAME##_Final(out, &state->member);                                          \
	}

HASH_FUNCTIONS(sha1, SHA1, sha1)
HASH_FUNCTIONS(sha256, SHA256, sha256)
HASH_FUNCTIONS(sha384, SHA384, sha512)
HASH_FUNCTIONS(sha512, SHA512, sha512)

static const struct xf_hash hashes[XF_AUTH_MAX] = {
	[XF_AUTH_HMAC_SHA1] = { 64, 20, sha1_init, sha1_update, sha1_final },
	[XF_AUTH_HMAC_SHA256] = { 64, 32, sha256_init, sha256_update, sha256_final },
	[XF_AUTH_HMAC_SHA384] = { 128, 48, sha384_init, sha384_update, sha384_final },
	[XF_AUTH_HMAC_SHA512] = { 128, 64, sha512_init, sha512_update, sha512_final },
};

/* RFC 2104 s2: the hash over the key XOR pad; what is left per packet is the message itself. */
static void start_padded(const struct xf_hash *hash, union xf_hash_state *state,
			 const uint8_t *block, uint8_t pad)
{
	uint8_t padded[BLOCK_MAX];

	for (size_t i = 0; i < hash->block_len; i++)
		padded[i] = block[i] ^ pad;
	hash->init(state);
	hash->update(state, padded, hash->block_len);
	xf_wipe(padded, sizeof(padded));
}

void xf_hmac_key_init(struct xf_hmac_key *key, enum xf_auth auth, const uint8_t *raw, size_t len)
{
	const struct xf_hash *hash = &hashes[auth];
	uint8_t block[BLOCK_MAX] = { 0 };

	if (len <= hash->block_len) {
		memcpy(block, raw, len);
	} else {
		hash->init(&key->inner);
		hash->update(&key->inner, raw, len);
		hash->final(&key->inner, block);
	}
	key->hash = hash;
	start_padded(hash, &key->inner, block, 0x36);
	start_padded(hash, &key->outer, block, 0x5c);
	xf_wipe(block, sizeof(block));
}

void xf_hmac_begin(struct xf_hmac *mac, const struct xf_hmac_key *key)
{
	mac->key = key;
	mac->state = key->inner;
}

void xf_hmac_update(struct xf_hmac *mac, const void *data, size_t len)
{
	mac->key->hash->update(&mac->state, data, len);
}

void xf_hmac_final(struct xf_hmac *mac, uint8_t *out)
{
	const struct xf_hash *hash = mac->key->hash;

	hash->final(&mac->state, out);
	mac->state = mac->key->outer;
	hash->update(&mac->state, out, hash->digest_len);
	hash->final(&mac->state, out);
	xf_wipe(&mac->state, sizeof(mac->state));
}

/* The words stand first in each of libcrypto's states; SHA_CTX names them h0 to h4. */
_Static_assert(offsetof(SHA_CTX, h4) == 4 * sizeof(SHA_LONG), "SHA-1's words are in a row");
_Static_assert(offsetof(SHA256_CTX, h) == 0 && offsetof(SHA512_CTX, h) == 0, "words come first");

const uint8_t *xf_hmac_words(const union xf_hash_state *state)
{
	return (const uint8_t *)state;
}
