/* The low-level AES calls have no context to allocate or share; OpenSSL 3 calls them deprecated. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <errno.h>

#include <openssl/aes.h>

#include <xf/crypto.h>
#include <xf/ivgen.h>

_Static_assert(XF_IVGEN_SEED == sizeof(uint64_t) + 16, "the seed is a salt and an AES-128 key");

int xf_ivgen_init(struct xf_ivgen *gen, uint8_t iv_len, const uint8_t seed[XF_IVGEN_SEED])
{
	gen->salt = xf_get_be64(seed);
	gen->schedule = NULL;
	if (iv_len <= sizeof(uint64_t))
		return 0;
	gen->schedule = xf_secret_alloc(sizeof(AES_KEY));
	if (!gen->schedule)
		return -ENOMEM;
	AES_set_encrypt_key(seed + sizeof(uint64_t), 128, gen->schedule);
	return 0;
}

void xf_ivgen_fini(struct xf_ivgen *gen)
{
	if (gen->schedule)
		xf_secret_free(gen->schedule, sizeof(AES_KEY));
}

void xf_ivgen_iv(const struct xf_ivgen *gen, uint64_t counter, uint8_t *iv, uint8_t iv_len)
{
	uint64_t block[2] = { xf_ivgen_iv8(gen, counter), 0 };

	/* AES is one to one, too. */
	if (iv_len > sizeof(uint64_t))
		AES_encrypt((const uint8_t *)block, (uint8_t *)block, gen->schedule);
	memcpy(iv, block, iv_len);
}
