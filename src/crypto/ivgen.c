/* The low-level AES calls have no context to allocate or share; OpenSSL 3 calls them deprecated. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/aes.h>

#include <xf/crypto.h>

_Static_assert(sizeof(AES_KEY) <= sizeof(((struct xf_ivgen *)0)->schedule), "AES schedule fits");
_Static_assert(XF_IVGEN_SEED == sizeof(uint64_t) + 16, "the seed is a salt and an AES-128 key");

void xf_ivgen_init(struct xf_ivgen *gen, const uint8_t seed[XF_IVGEN_SEED])
{
	AES_KEY *schedule = (AES_KEY *)(void *)gen->schedule;

	gen->salt = xf_get_be64(seed);
	memset(gen->schedule, 0, sizeof(gen->schedule));
	AES_set_encrypt_key(seed + sizeof(uint64_t), 128, schedule);
}

void xf_ivgen_iv(const struct xf_ivgen *gen, uint64_t counter, uint8_t *iv, uint8_t iv_len)
{
	uint8_t block[AES_BLOCK_SIZE];

	if (!iv_len)
		return;
	/* One to one, so that different counters never give the same IV; the same for AES below. */
	xf_put_be64(block, counter ^ gen->salt);
	if (iv_len <= sizeof(uint64_t)) {
		memcpy(iv, block, iv_len);
		return;
	}
	memset(block + sizeof(uint64_t), 0, sizeof(block) - sizeof(uint64_t));
	AES_encrypt(block, block, (const AES_KEY *)(const void *)gen->schedule);
	memcpy(iv, block, iv_len);
}
