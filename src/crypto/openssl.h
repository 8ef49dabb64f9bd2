/*
 * openssl.h - the OpenSSL engine behind its provider, for other providers to fall back on.
 *
 * It takes any chain with libcrypto's incremental calls. Contexts belong to a thread and are keyed
 * again when the key changes; nothing is allocated between xf_ossl_new() and xf_ossl_free(). A
 * context keeps the schedule of its last key in libcrypto's heap until another key takes its place,
 * the key is released, or the context goes away.
 *
 * Threads: struct xf_ossl_key is constant after init, struct xf_ossl belongs to one thread; any
 * thread may call xf_ossl_key_fini().
 */
#ifndef XF_CRYPTO_OPENSSL_H
#define XF_CRYPTO_OPENSSL_H

#include "crypto/hmac.h"

#include <xf/crypto.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the engine keeps of a key beside its raw bytes. */
struct xf_ossl_key {
	uint64_t serial; /* never used twice: tells whether a context holds this key */
	struct xf_hmac_key hmac;
};

struct xf_ossl;

/* Prepare @out for the raw bytes of @key. */
void xf_ossl_key_init(struct xf_ossl_key *out, const struct xf_key *key);

/*
 * Nobody uses @key any more: its schedule goes from all contexts. Those of a thread that is at work
 * with other keys lose it when that one has done what it is at.
 */
void xf_ossl_key_fini(const struct xf_ossl_key *key);

/* One thread's contexts. NULL: no memory, or libcrypto lacks a cipher. */
struct xf_ossl *xf_ossl_new(void);
void xf_ossl_free(struct xf_ossl *ossl);

/* Do @op, whose key @key was prepared from; sets op->status. */
void xf_ossl_run(struct xf_ossl *ossl, struct xf_crypto_op *op, const struct xf_ossl_key *key);

#ifdef __cplusplus
}
#endif

#endif
