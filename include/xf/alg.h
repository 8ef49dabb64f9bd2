/*
 * alg.h - ciphers and integrity algorithms: their names, their suites.
 *
 * A suite says what an SA uses. Netlink names algorithms as the kernel's crypto layer does; this
 * module knows the names, aliases, key and ICV lengths that the kernel accepts.
 *
 * Threads: values and constant tables. Lengths are bytes unless a name says bits.
 */
#ifndef XF_ALG_H
#define XF_ALG_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum xf_cipher {
	XF_CIPHER_NULL, /* RFC 2410 */
	XF_CIPHER_AES_CBC, /* RFC 3602 */
	XF_CIPHER_AES_CTR, /* RFC 3686 */
	XF_CIPHER_AES_GCM, /* RFC 4106 */
	XF_CIPHER_AES_CCM, /* RFC 4309 */
	XF_CIPHER_AES_GMAC, /* RFC 4543: integrity only */
	XF_CIPHER_CHACHA20_POLY1305, /* RFC 7634 */
	XF_CIPHER_MAX,
};

enum xf_auth {
	XF_AUTH_NONE, /* AEAD, or encryption without integrity */
	XF_AUTH_HMAC_SHA1, /* RFC 2404 */
	XF_AUTH_HMAC_SHA256, /* RFC 4868 */
	XF_AUTH_HMAC_SHA384,
	XF_AUTH_HMAC_SHA512,
	XF_AUTH_MAX,
};

#define XF_IV_MAX 16
#define XF_NONCE_MAX 16
#define XF_ICV_MAX 64
#define XF_AAD_MAX 32
#define XF_CIPHER_KEY_MAX 32
#define XF_SALT_MAX 4
#define XF_AUTH_KEY_MAX 256

struct xf_suite {
	uint8_t cipher; /* enum xf_cipher */
	uint8_t auth; /* enum xf_auth */
	uint16_t cipher_key_len; /* without the salt */
	uint16_t auth_key_len;
	uint8_t salt_len; /* 4 for GCM, GMAC, ChaCha20 and CTR, 3 for CCM, else 0 */
	uint8_t iv_len; /* on the wire: 8 or 16, 0 for NULL */
	uint8_t block_len; /* padding unit of the cipher: 16 for CBC, else 1 */
	uint8_t icv_len;
};

/* Is every byte before the ICV under a MAC computed in one call with the cipher? */
static inline bool xf_suite_is_aead(const struct xf_suite *suite)
{
	return suite->cipher >= XF_CIPHER_AES_GCM;
}

/* Where an algorithm may be named: XFRMA_ALG_AEAD, _CRYPT, _AUTH(_TRUNC). */
enum xf_alg_kind { XF_ALG_AEAD, XF_ALG_CRYPT, XF_ALG_AUTH };

struct xf_alg_desc {
	const char *name; /* the kernel's, as dumps show it: "rfc4106(gcm(aes))" */
	const char *compat; /* alias: "aes", "sha1", …; or NULL */
	enum xf_alg_kind kind;
	enum xf_cipher cipher;
	enum xf_auth auth;
	uint16_t min_key_bits; /* salt included, as netlink counts */
	uint16_t max_key_bits;
	uint16_t icv_full_bits;
	uint16_t icv_default_bits; /* used with XFRMA_ALG_AUTH, which has no truncation length */
	uint8_t salt_len;
	uint8_t iv_len;
	uint8_t block_len;
};

/*
 * The algorithm that netlink calls @name. For AEAD, @icv_bits must be one the kernel lists. NULL:
 * none (the kernel's -ENOSYS).
 */
const struct xf_alg_desc *xf_alg_find(enum xf_alg_kind kind, const char *name, uint32_t icv_bits);

/*
 * Fill @suite from an AEAD (@crypt and @auth NULL) or a cipher and/or hash. Key lengths are those
 * of the netlink attributes in bits. -EINVAL: a key length that the algorithm does not have.
 */
struct xf_suite_request {
	const struct xf_alg_desc *aead;
	const struct xf_alg_desc *crypt;
	const struct xf_alg_desc *auth;
	uint32_t cipher_key_bits; /* of the AEAD or cipher, salt included */
	uint32_t auth_key_bits;
	uint32_t icv_bits; /* of the AEAD, or the truncation length of the hash */
};
int xf_suite_build(const struct xf_suite_request *req, struct xf_suite *suite);

/* A short name for people and reports: "gcm128-16", "cbc256-sha256-16". Returns @buf. */
const char *xf_suite_name(const struct xf_suite *suite, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
