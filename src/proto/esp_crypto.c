#include "proto/transform.h"

/*
 * The ESP header as it is authenticated. With ESN, AEADs put the high half between SPI and low
 * half (RFC 4106 s5, RFC 4309 s5, RFC 7634 s2.1), everything else behind the text (RFC 4303
 * s2.2.1).
 */
static void fill_aad(struct xf_crypto_op *crypto, const struct xf_sa_config *cfg, uint64_t seq)
{
	bool esn = cfg->flags & XF_SA_ESN;
	uint8_t *p = crypto->aad;

	crypto->tail_len = 0;
	xf_put_be32(p, cfg->id.spi);
	p += 4;
	if (esn && xf_suite_is_aead(&cfg->suite)) {
		xf_put_be32(p, (uint32_t)(seq >> 32));
		p += 4;
	} else if (esn) {
		xf_put_be32(crypto->tail, (uint32_t)(seq >> 32));
		crypto->tail_len = 4;
	}
	xf_put_be32(p, (uint32_t)seq);
	crypto->aad_len = (uint8_t)(p + 4 - crypto->aad);
}

/* Does the IV stand under the MAC as additional data (RFC 4543 s3.3, RFC 4303 s2.8)? */
static bool iv_in_aad(const struct xf_suite *suite)
{
	return suite->cipher == XF_CIPHER_AES_GMAC || !xf_suite_is_aead(suite);
}

void xf_esp_crypto_fill(struct xf_esp_op *op, const struct xf_sa_config *cfg, const uint8_t *iv)
{
	const struct xf_suite *suite = &cfg->suite;
	struct xf_crypto_op *crypto = &op->crypto;

	crypto->key = xf_sa_key(op->sa);
	crypto->status = XF_CRYPTO_ERROR; /* until a provider says better */
	crypto->user = op;
	fill_aad(crypto, cfg, op->seq);
	if (iv_in_aad(suite)) {
		memcpy(crypto->aad + crypto->aad_len, iv, suite->iv_len);
		crypto->aad_len = (uint8_t)(crypto->aad_len + suite->iv_len);
	}
	memset(crypto->nonce, 0, sizeof(crypto->nonce));
	memcpy(crypto->nonce, crypto->key->salt, suite->salt_len);
	memcpy(crypto->nonce + suite->salt_len, iv, suite->iv_len);
	if (suite->cipher == XF_CIPHER_AES_CTR)
		crypto->nonce[XF_NONCE_MAX - 1] = 1; /* RFC 3686 s4 */
}
