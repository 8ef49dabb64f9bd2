/*
 * hmac.h - HMAC (RFC 2104) in pieces, without memory of its own.
 *
 * A key is the hash states behind the inner and the outer pad. They are plain values: a key lies
 * in secret memory, a computation on the stack, and any thread may use a key.
 *
 * Threads: struct xf_hmac_key is constant after init. Lengths are bytes.
 */
#ifndef XF_CRYPTO_HMAC_H
#define XF_CRYPTO_HMAC_H

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <xf/alg.h>

#ifdef __cplusplus
extern "C" {
#endif

union xf_hash_state {
	SHA_CTX sha1;
	SHA256_CTX sha256;
	SHA512_CTX sha512; /* of SHA-384 too */
};

struct xf_hash; /* the functions of one hash */

struct xf_hmac_key {
	const struct xf_hash *hash;
	union xf_hash_state inner;
	union xf_hash_state outer;
};

struct xf_hmac {
	const struct xf_hmac_key *key;
	union xf_hash_state state;
};

/* @auth is not XF_AUTH_NONE. A key longer than a block of the hash is hashed first. */
void xf_hmac_key_init(struct xf_hmac_key *key, enum xf_auth auth, const uint8_t *raw, size_t len);

void xf_hmac_begin(struct xf_hmac *mac, const struct xf_hmac_key *key);
void xf_hmac_update(struct xf_hmac *mac, const void *data, size_t len);
/* The whole MAC into @out of XF_ICV_MAX bytes; @mac is wiped. */
void xf_hmac_final(struct xf_hmac *mac, uint8_t *out);

/*
 * The hash words of a key's inner or outer @state, in host order: what ipsec-mb calls the
 * hashed key xor pad.
 */
const uint8_t *xf_hmac_words(const union xf_hash_state *state);

#ifdef __cplusplus
}
#endif

#endif
