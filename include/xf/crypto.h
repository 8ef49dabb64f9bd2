/*
 * crypto.h - keys, operations, providers.
 *
 * A key is a suite (xf/alg.h) with its expanded key material; an operation is one packet's work; a
 * provider is a library that does it. Providers take chains of segments, with
 * source and destination apart or the same, in batches, and may complete later.
 *
 * Threads: a key is constant after xf_key_new(), any thread may use it. A
 * struct xf_crypto_ctx belongs to one thread. Lengths are bytes unless a name says bits.
 * Functions return 0 or -errno.
 */
#ifndef XF_CRYPTO_H
#define XF_CRYPTO_H

#include <xf/alg.h>
#include <xf/pkt.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where secrets live. Set once before the first key; the memory is zeroed, aligned to 64 and
 * should be locked and left out of core dumps. The default is the heap. @free wipes.
 */
struct xf_secret_ops {
	void *(*alloc)(void *arg, size_t size);
	void (*free)(void *arg, void *mem, size_t size);
	void *arg;
};
void xf_secret_set_ops(const struct xf_secret_ops *ops);
void *xf_secret_alloc(size_t size);
void xf_secret_free(void *mem, size_t size); /* wipes first */

struct xf_crypto_provider;

/* An SA's keys: the raw bytes as given, and the provider's expanded form between them. */
struct xf_key {
	const struct xf_crypto_provider *provider;
	struct xf_suite suite;
	uint32_t alloc_len; /* of the whole object, which ends with the raw key of the MAC */
	uint8_t cipher_raw[XF_CIPHER_KEY_MAX + XF_SALT_MAX]; /* as netlink had it: salt last */
	uint8_t expanded[] __attribute__((aligned(64)));
};

static inline uint32_t xf_key_cipher_raw_len(const struct xf_key *key)
{
	return (uint32_t)key->suite.cipher_key_len + key->suite.salt_len;
}

static inline const uint8_t *xf_key_salt(const struct xf_key *key)
{
	return key->cipher_raw + key->suite.cipher_key_len;
}

/* suite.auth_key_len bytes. */
static inline const uint8_t *xf_key_auth_raw(const struct xf_key *key)
{
	return (const uint8_t *)key + key->alloc_len - key->suite.auth_key_len;
}

/*
 * A key for @suite in secret memory. @cipher_key has cipher_key_len + salt_len bytes (the salt
 * last), @auth_key auth_key_len. @provider NULL: the best one of this machine.
 *   -EOPNOTSUPP  no provider has the suite    -ENOMEM
 */
int xf_key_new(const struct xf_suite *suite, const struct xf_crypto_provider *provider,
	       const uint8_t *cipher_key, const uint8_t *auth_key, struct xf_key **out);

/* Wipe and free. NULL is allowed. */
void xf_key_free(struct xf_key *key);

enum xf_crypto_status {
	XF_CRYPTO_OK,
	XF_CRYPTO_BAD_ICV, /* decrypt: the packet is not authentic; dst holds nothing of use */
	XF_CRYPTO_ERROR, /* the provider failed */
};

/*
 * One packet's work. The bytes under the MAC are aad, text (after encryption for CTR and CBC,
 * as the AEAD defines for those), then tail; the cipher covers text only.
 *   GCM, ChaCha20-Poly1305, CCM: aad = SPI, sequence number (64 bits with ESN); tail empty
 *   GMAC: the same and the IV behind it; text is copied, not ciphered
 *   CBC, CTR, NULL with HMAC: aad = SPI, 32-bit sequence number, IV; tail = high 32 bits with ESN
 *
 * Every nonce of a batch should be written before submit() is called, not one by one between calls;
 * a batch is worth more than its operations one by one, most of all for short texts.
 * Segments name their buffer, or NULL: a provider is faster where aad stands in front of the text
 * and may, until completion, borrow aad_len bytes before and tail_len behind the text in a buffer
 * that is ours alone (a pool's, one reference). Elsewhere it reads and writes text only.
 */
struct xf_crypto_op {
	const struct xf_key *key;
	const struct xf_seg *src;
	const struct xf_seg *dst; /* the same total length as @src; may be @src: in place */
	const uint8_t *aad; /* in the packet where it stands there in one piece, else in aad_mem */
	uint8_t *icv; /* encrypt: is written; decrypt: what the packet carried */
	void *user; /* the caller's */
	uint32_t len; /* of the text */
	uint16_t nsrc;
	uint16_t ndst;
	bool encrypt;
	uint8_t status; /* enum xf_crypto_status, set on completion */
	uint8_t aad_len;
	uint8_t tail_len; /* 0 or 4 */
	uint8_t tail[4];
	/* Salt and IV; CBC: IV; CTR: nonce, IV, 1; CCM: 3 + 8 bytes. */
	uint8_t nonce[XF_NONCE_MAX] __attribute__((aligned(16)));
	uint8_t aad_mem[XF_AAD_MAX];
	uint8_t icv_mem[XF_ICV_MAX];
};

/* Per-thread state of a provider. */
struct xf_crypto_ctx;

/* How a provider that works on other threads tells a context's owner that complete() has something
 * to give after it had nothing. Called from those threads: must not block. */
struct xf_crypto_wake {
	void (*fn)(void *arg);
	void *arg;
};

/* A library that does the work. The table is constant; the contract stands on each field. */
struct xf_crypto_provider {
	const char *name;
	int preference; /* higher is taken first among those that have the suite */
	/* Can it run on this CPU? Any thread may ask, and again. */
	bool (*usable)(void);
	/* Does it have @suite, on this CPU? */
	bool (*has)(const struct xf_suite *suite);
	/* Is it for @suite when nobody names a provider? NULL: for all that it has. */
	bool (*wants)(const struct xf_suite *suite);
	/* Bytes that key_expand() needs behind struct xf_key. */
	size_t (*expanded_size)(const struct xf_suite *suite);
	/* Expand key->cipher_raw and the key of the MAC into key->expanded. 0 or -errno. */
	int (*key_expand)(struct xf_key *key);
	/* Release what key_expand() took outside of key->expanded. May be NULL. */
	void (*key_release)(struct xf_key *key);
	/* May operations complete later than complete() is called? Else every complete() returns
	 * all that submit() has taken. */
	bool asynchronous;
	/* State for one thread, or NULL: no memory. @wake: NULL, or what asynchronous providers
	 * call; copied. */
	struct xf_crypto_ctx *(*ctx_new)(const struct xf_crypto_provider *provider,
					 const struct xf_crypto_wake *wake);
	/* Waits until nothing works on operations of @ctx any more; those are not returned. */
	void (*ctx_free)(struct xf_crypto_ctx *ctx);
	/*
	 * Take up to @n operations, whose keys are all of this provider; returns how many were
	 * taken, fewer when its ring is full. Taken ones belong to the provider until complete()
	 * returns them.
	 */
	unsigned (*submit)(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n);
	/* Up to @max finished operations, in any order, status set. Never blocks. */
	unsigned (*complete)(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max);
	/* Both at once, for @n operations and a context that has none; may be NULL. */
	void (*run)(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n);
};

/*
 * Have @ops done by @provider, which works at once and has nothing else in @ctx: on return each
 * has its status; what the provider refuses keeps the one that it had.
 */
void xf_crypto_run(const struct xf_crypto_provider *provider, struct xf_crypto_ctx *ctx,
		   struct xf_crypto_op **ops, unsigned n);

extern const struct xf_crypto_provider xf_provider_vaes; /* AES-GCM; for AVX512 with VAES */
extern const struct xf_crypto_provider xf_provider_ipsec_mb; /* usable() false where not built */
extern const struct xf_crypto_provider xf_provider_openssl;

#define XF_CRYPTO_PROVIDERS_MAX 8
#define XF_CRYPTO_NONE XF_CRYPTO_PROVIDERS_MAX /* in the place of a provider: nobody */

/*
 * Add a provider: before the first key and worker, from the thread that makes these.
 *   -EEXIST  it is there    -ENOSPC
 */
int xf_crypto_register(const struct xf_crypto_provider *provider);

/* All providers, ended by NULL; some may not be usable. */
const struct xf_crypto_provider *const *xf_crypto_providers(void);

/* The place of @provider in that table; XF_CRYPTO_PROVIDERS_MAX, where NULL is: it is not there. */
unsigned xf_crypto_provider_index(const struct xf_crypto_provider *provider);

/* The provider that xf_key_new() takes for @suite, or NULL. */
const struct xf_crypto_provider *xf_crypto_best(const struct xf_suite *suite);

#ifdef __cplusplus
}
#endif

#endif
