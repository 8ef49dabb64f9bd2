#include <xf/alg.h>

#include <errno.h>
#include <stdio.h>

/* Key bounds of the kernel's setkey functions, salt included, as netlink counts. */
#define AES_BITS(salt_bits) .min_key_bits = 128 + (salt_bits), .max_key_bits = 256 + (salt_bits)
#define ICV_BITS(bits) .icv_full_bits = (bits), .icv_default_bits = (bits)
#define AEAD(kernel_name, id, salt, icv_bits)                                                   \
	{                                                                                       \
		.name = (kernel_name), .kind = XF_ALG_AEAD, .cipher = (id), AES_BITS((salt)*8), \
		ICV_BITS(icv_bits), .salt_len = (salt), .iv_len = 8, .block_len = 1             \
	}
#define HMAC(hash, alias, id, full, trunc)                                                      \
	{                                                                                       \
		.name = "hmac(" hash ")", .compat = (alias), .kind = XF_ALG_AUTH, .auth = (id), \
		.max_key_bits = XF_AUTH_KEY_MAX * 8, .icv_full_bits = (full),                   \
		.icv_default_bits = (trunc)                                                     \
	}

/*
 * The kernel's net/xfrm/xfrm_algo.c, one entry per ICV length for AEADs as there. What it lists
 * and we lack (DES, Camellia, MD5, XCBC, …) has no entry: to the user that is a kernel without
 * those modules.
 */
static const struct xf_alg_desc algs[] = {
	AEAD("rfc4106(gcm(aes))", XF_CIPHER_AES_GCM, 4, 64),
	AEAD("rfc4106(gcm(aes))", XF_CIPHER_AES_GCM, 4, 96),
	AEAD("rfc4106(gcm(aes))", XF_CIPHER_AES_GCM, 4, 128),
	AEAD("rfc4309(ccm(aes))", XF_CIPHER_AES_CCM, 3, 64),
	AEAD("rfc4309(ccm(aes))", XF_CIPHER_AES_CCM, 3, 96),
	AEAD("rfc4309(ccm(aes))", XF_CIPHER_AES_CCM, 3, 128),
	AEAD("rfc4543(gcm(aes))", XF_CIPHER_AES_GMAC, 4, 128),
	{ .name = "rfc7539esp(chacha20,poly1305)",
	  .kind = XF_ALG_AEAD,
	  .cipher = XF_CIPHER_CHACHA20_POLY1305,
	  .min_key_bits = 256 + 32,
	  .max_key_bits = 256 + 32,
	  ICV_BITS(128),
	  .salt_len = 4,
	  .iv_len = 8,
	  .block_len = 1 },
	{ .name = "ecb(cipher_null)",
	  .compat = "cipher_null",
	  .kind = XF_ALG_CRYPT,
	  .cipher = XF_CIPHER_NULL,
	  .block_len = 1 },
	{ .name = "cbc(aes)",
	  .compat = "aes",
	  .kind = XF_ALG_CRYPT,
	  .cipher = XF_CIPHER_AES_CBC,
	  AES_BITS(0),
	  .iv_len = 16,
	  .block_len = 16 },
	{ .name = "rfc3686(ctr(aes))",
	  .kind = XF_ALG_CRYPT,
	  .cipher = XF_CIPHER_AES_CTR,
	  AES_BITS(32),
	  .salt_len = 4,
	  .iv_len = 8,
	  .block_len = 1 },
	{ .name = "digest_null",
	  .kind = XF_ALG_AUTH,
	  .auth = XF_AUTH_NONE,
	  .max_key_bits = XF_AUTH_KEY_MAX * 8 },
	HMAC("sha1", "sha1", XF_AUTH_HMAC_SHA1, 160, 96),
	HMAC("sha256", "sha256", XF_AUTH_HMAC_SHA256, 256, 96),
	HMAC("sha384", NULL, XF_AUTH_HMAC_SHA384, 384, 192),
	HMAC("sha512", NULL, XF_AUTH_HMAC_SHA512, 512, 256),
};

const struct xf_alg_desc *xf_alg_find(enum xf_alg_kind kind, const char *name, uint32_t icv_bits)
{
	for (size_t i = 0; i < XF_ARRAY_SIZE(algs); i++) {
		const struct xf_alg_desc *alg = &algs[i];

		if (alg->kind != kind)
			continue;
		if (strcmp(name, alg->name) && (!alg->compat || strcmp(name, alg->compat)))
			continue;
		if (kind != XF_ALG_AEAD || icv_bits == alg->icv_full_bits)
			return alg;
	}
	return NULL;
}

/* The kernel rounds a key of odd bits up to bytes: (alg_key_len + 7) / 8. */
static uint32_t bits_to_bytes(uint32_t bits)
{
	return bits / 8 + (bits % 8 != 0);
}

/* min and max alone would let keys of 17 bytes pass. */
static bool is_aes(enum xf_cipher cipher)
{
	return cipher != XF_CIPHER_NULL && cipher != XF_CIPHER_CHACHA20_POLY1305;
}

static int build_cipher(const struct xf_alg_desc *alg, uint32_t key_bits, struct xf_suite *suite)
{
	uint32_t len = bits_to_bytes(key_bits);

	if (len < alg->min_key_bits / 8u || len > alg->max_key_bits / 8u)
		return -EINVAL;
	len -= alg->salt_len;
	if (is_aes(alg->cipher) && len % 8)
		return -EINVAL;
	suite->cipher = (uint8_t)alg->cipher;
	suite->cipher_key_len = (uint16_t)len;
	suite->salt_len = alg->salt_len;
	suite->iv_len = alg->iv_len;
	suite->block_len = alg->block_len;
	return 0;
}

static int build_auth(const struct xf_suite_request *req, struct xf_suite *suite)
{
	const struct xf_alg_desc *alg = req->auth;
	uint32_t icv_bits = req->icv_bits ? req->icv_bits : alg->icv_default_bits;
	uint32_t len = bits_to_bytes(req->auth_key_bits);

	if (len > alg->max_key_bits / 8u || icv_bits > alg->icv_full_bits)
		return -EINVAL;
	/* As crypto_aead_setauthsize(): no ICV only where the hash has none. */
	if (icv_bits < 8 && alg->icv_full_bits)
		return -EINVAL;
	suite->auth = (uint8_t)alg->auth;
	suite->auth_key_len = (uint16_t)len;
	suite->icv_len = (uint8_t)(icv_bits / 8);
	return 0;
}

static int build_aead(const struct xf_suite_request *req, struct xf_suite *suite)
{
	const struct xf_alg_desc *alg = req->aead;

	if (req->crypt || req->auth || (req->icv_bits && req->icv_bits != alg->icv_full_bits))
		return -EINVAL;
	suite->icv_len = (uint8_t)(alg->icv_full_bits / 8);
	return build_cipher(alg, req->cipher_key_bits, suite);
}

int xf_suite_build(const struct xf_suite_request *req, struct xf_suite *suite)
{
	struct xf_suite built = { .block_len = 1 };
	int err = -EINVAL;

	if (req->aead) {
		err = build_aead(req, &built);
	} else if (req->crypt || req->auth) {
		err = req->crypt ? build_cipher(req->crypt, req->cipher_key_bits, &built) : 0;
		if (!err && req->auth)
			err = build_auth(req, &built);
	}
	if (!err)
		*suite = built;
	return err;
}

const char *xf_suite_name(const struct xf_suite *suite, char *buf, size_t size)
{
	static const char *const ciphers[XF_CIPHER_MAX] = {
		[XF_CIPHER_NULL] = "null",
		[XF_CIPHER_AES_CBC] = "cbc",
		[XF_CIPHER_AES_CTR] = "ctr",
		[XF_CIPHER_AES_GCM] = "gcm",
		[XF_CIPHER_AES_CCM] = "ccm",
		[XF_CIPHER_AES_GMAC] = "gmac",
		[XF_CIPHER_CHACHA20_POLY1305] = "chacha20poly1305",
	};
	static const char *const auths[XF_AUTH_MAX] = {
		[XF_AUTH_NONE] = "",
		[XF_AUTH_HMAC_SHA1] = "-sha1",
		[XF_AUTH_HMAC_SHA256] = "-sha256",
		[XF_AUTH_HMAC_SHA384] = "-sha384",
		[XF_AUTH_HMAC_SHA512] = "-sha512",
	};
	char key[12] = "";

	if (is_aes(suite->cipher))
		snprintf(key, sizeof(key), "%u", suite->cipher_key_len * 8u);
	snprintf(buf, size, "%s%s%s-%u", ciphers[suite->cipher], key, auths[suite->auth],
		 suite->icv_len);
	return buf;
}
