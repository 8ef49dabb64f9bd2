/* The low-level AES calls have no context to allocate or share; OpenSSL 3 calls them deprecated. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <errno.h>

#include <openssl/aes.h>

#include <xf/crypto.h>
#include <xf/ivgen.h>

#define KEY_LEN 16

_Static_assert(XF_IVGEN_SEED == sizeof(uint64_t) + KEY_LEN, "a salt and an AES-128 key");

/* The bytes stay, since nothing says how libcrypto keeps them in a schedule. */
struct xf_ivgen_key {
	AES_KEY schedule;
	uint8_t bytes[KEY_LEN];
};

int xf_ivgen_init(struct xf_ivgen *gen, uint8_t iv_len, const uint8_t seed[XF_IVGEN_SEED])
{
	gen->salt = xf_get_be64(seed);
	gen->key = NULL;
	if (iv_len <= sizeof(uint64_t))
		return 0;
	gen->key = xf_secret_alloc(sizeof(*gen->key));
	if (!gen->key)
		return -ENOMEM;
	memcpy(gen->key->bytes, seed + sizeof(uint64_t), KEY_LEN);
	AES_set_encrypt_key(gen->key->bytes, 8 * KEY_LEN, &gen->key->schedule);
	return 0;
}

void xf_ivgen_seed(const struct xf_ivgen *gen, uint8_t seed[XF_IVGEN_SEED])
{
	memset(seed, 0, XF_IVGEN_SEED);
	xf_put_be64(seed, gen->salt);
	if (gen->key)
		memcpy(seed + sizeof(uint64_t), gen->key->bytes, KEY_LEN);
}

void xf_ivgen_fini(struct xf_ivgen *gen)
{
	if (gen->key)
		xf_secret_free(gen->key, sizeof(*gen->key));
}

void xf_ivgen_iv(const struct xf_ivgen *gen, uint64_t counter, uint8_t *iv, uint8_t iv_len)
{
	uint64_t block[2] = { xf_ivgen_iv8(gen, counter), 0 };

	/* AES is one to one, too. */
	if (iv_len > sizeof(uint64_t))
		AES_encrypt((const uint8_t *)block, (uint8_t *)block, &gen->key->schedule);
	memcpy(iv, block, iv_len);
}
