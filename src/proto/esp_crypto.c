#include "proto/esp.h"

/* Does the IV stand under the MAC as additional data (RFC 4543 s3.3, RFC 4303 s2.8)? */
static bool iv_in_aad(const struct xf_suite *suite)
{
	return suite->cipher == XF_CIPHER_AES_GMAC || !xf_suite_is_aead(suite);
}

/* GMAC's IV comes behind the ESP header. */
static void fill_esn_aad(struct xf_transform_op *op, const struct xf_suite *suite,
			 const uint8_t *iv)
{
	struct xf_crypto_op *crypto = &op->crypto;

	xf_esp_fill_aad(op, iv - XF_ESP_HDR_LEN, XF_FORM_ESN);
	if (!iv_in_aad(suite))
		return;
	memcpy(crypto->aad_mem + crypto->aad_len, iv, suite->iv_len);
	crypto->aad_len = (uint8_t)(crypto->aad_len + suite->iv_len);
}

/*
 * The ESP header as it is authenticated, mostly where it stands; with ESN and an HMAC the high
 * half comes behind the text (RFC 4303 s2.2.1).
 */
static void fill_aad(struct xf_transform_op *op, const struct xf_sa_view *cfg, const uint8_t *iv)
{
	struct xf_crypto_op *crypto = &op->crypto;
	bool esn = cfg->flags & XF_SA_ESN;
	uint32_t len = XF_ESP_HDR_LEN;

	crypto->tail_len = 0;
	if (esn && xf_suite_is_aead(&cfg->terms->suite)) {
		fill_esn_aad(op, &cfg->terms->suite, iv);
		return;
	}
	if (esn) {
		xf_put_be32(crypto->tail, (uint32_t)(op->seq >> 32));
		crypto->tail_len = 4;
	}
	if (iv_in_aad(&cfg->terms->suite))
		len += cfg->terms->suite.iv_len;
	crypto->aad_len = (uint8_t)len;
	crypto->aad = xf_pkt_peek(op->pkt, op->hdr_off, len, crypto->aad_mem);
}

static void fill_nonce(struct xf_crypto_op *crypto, const struct xf_suite *suite, const uint8_t *iv)
{
	uint64_t words[2] = { 0, 0 };
	uint8_t *nonce = (uint8_t *)words;

	memcpy(nonce, xf_key_salt(crypto->key), suite->salt_len);
	memcpy(nonce + suite->salt_len, iv, suite->iv_len);
	if (suite->cipher == XF_CIPHER_AES_CTR)
		nonce[XF_NONCE_MAX - 1] = 1; /* RFC 3686 s4 */
	memcpy(crypto->nonce, words, sizeof(crypto->nonce));
}

void xf_esp_crypto_fill_odd(struct xf_transform_op *op, const uint8_t *iv)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(op->sa);

	fill_aad(op, cfg, iv);
	fill_nonce(&op->crypto, &cfg->terms->suite, iv);
}
