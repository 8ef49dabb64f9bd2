#include "crypto/openssl.h"
#include "crypto/done.h"
#include "crypto/walk.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <xf/spin.h>

#define AES_BLOCK 16

enum mode { MODE_CBC, MODE_CTR, MODE_GCM, MODE_CHACHA, MODE_MAX };
enum { KEY_SIZES = 3, DIRECTIONS = 2 };

/* A keyed context: of one cipher and one direction, so that a packet costs no lookup by name. */
struct slot {
	EVP_CIPHER_CTX *evp;
	_Atomic uint64_t serial; /* of the key in it; 0 = none */
};

#define SLOTS (MODE_MAX * KEY_SIZES * DIRECTIONS)

/*
 * Who is at the contexts: nobody, their thread or whoever has released a key, and to one of these
 * two was said that a released key may be left in them. Nobody waits for a thread that is at work.
 */
enum state { FREE, BUSY, STALE };

/* All contexts that a thread can need are made at its start, so that no packet allocates one. */
struct xf_ossl {
	struct slot slots[MODE_MAX][KEY_SIZES][DIRECTIONS];
	_Atomic int state;
	struct xf_ossl *next; /* of all, under all_lock */
};

static struct xf_ossl *all;
static struct xf_spin all_lock;

static const EVP_CIPHER *(*const ciphers[MODE_MAX][KEY_SIZES])(void) = {
	[MODE_CBC] = { EVP_aes_128_cbc, EVP_aes_192_cbc, EVP_aes_256_cbc },
	[MODE_CTR] = { EVP_aes_128_ctr, EVP_aes_192_ctr, EVP_aes_256_ctr },
	[MODE_GCM] = { EVP_aes_128_gcm, EVP_aes_192_gcm, EVP_aes_256_gcm },
	[MODE_CHACHA] = { NULL, NULL, EVP_chacha20_poly1305 },
};

void xf_ossl_key_init(struct xf_ossl_key *out, const struct xf_key *key)
{
	static _Atomic uint64_t last_serial;

	out->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
	if (key->suite.auth != XF_AUTH_NONE)
		xf_hmac_key_init(&out->hmac, key->suite.auth, xf_key_auth_raw(key),
				 key->suite.auth_key_len);
}

static uint64_t serial_in(const struct slot *slot)
{
	return atomic_load_explicit(&slot->serial, memory_order_relaxed);
}

static void note_serial(struct slot *slot, uint64_t serial)
{
	atomic_store_explicit(&slot->serial, serial, memory_order_relaxed);
}

/* The schedule of a key of zeros takes the place of the one that is there. */
static void slot_blank(struct slot *slot)
{
	static const uint8_t zeros[XF_CIPHER_KEY_MAX];

	EVP_CipherInit_ex(slot->evp, NULL, NULL, zeros, NULL, -1);
	note_serial(slot, 0);
}

static void blank_all(struct xf_ossl *ossl)
{
	struct slot *slot = &ossl->slots[0][0][0];

	for (unsigned i = 0; i < SLOTS; i++) {
		if (serial_in(&slot[i]))
			slot_blank(&slot[i]);
	}
}

/* Whoever has released a key is here for as long as it takes to key a few contexts. */
static void enter(struct xf_ossl *ossl)
{
	int state = FREE;

	while (!atomic_compare_exchange_weak_explicit(&ossl->state, &state, BUSY,
						      memory_order_acquire, memory_order_relaxed)) {
		XF_SPIN_RELAX();
		state = FREE;
	}
}

static void leave(struct xf_ossl *ossl)
{
	int state = BUSY;

	while (!atomic_compare_exchange_weak_explicit(&ossl->state, &state, FREE,
						      memory_order_release, memory_order_relaxed)) {
		if (state == STALE) {
			atomic_store_explicit(&ossl->state, BUSY, memory_order_relaxed);
			blank_all(ossl);
		}
		state = BUSY;
	}
}

static bool has_key(const struct xf_ossl *ossl, uint64_t serial)
{
	const struct slot *slot = &ossl->slots[0][0][0];
	bool has = false;

	for (unsigned i = 0; i < SLOTS; i++)
		has |= serial_in(&slot[i]) == serial;
	return has;
}

/* By another thread than theirs, which may be at work with other keys: then it does it itself. */
static void forget_key(struct xf_ossl *ossl, uint64_t serial)
{
	struct slot *slot = &ossl->slots[0][0][0];
	int state = FREE;

	while (state != STALE && !atomic_compare_exchange_weak_explicit(
					 &ossl->state, &state, state == FREE ? BUSY : STALE,
					 memory_order_acquire, memory_order_relaxed))
		;
	if (state != FREE)
		return;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (serial_in(&slot[i]) == serial)
			slot_blank(&slot[i]);
	}
	leave(ossl);
}

void xf_ossl_key_fini(const struct xf_ossl_key *key)
{
	xf_spin_lock(&all_lock);
	for (struct xf_ossl *ossl = all; ossl; ossl = ossl->next) {
		if (has_key(ossl, key->serial))
			forget_key(ossl, key->serial);
	}
	xf_spin_unlock(&all_lock);
}

static bool slot_init(struct slot *slot, const EVP_CIPHER *cipher, int encrypt)
{
	slot->evp = EVP_CIPHER_CTX_new();
	return slot->evp && EVP_CipherInit_ex(slot->evp, cipher, NULL, NULL, NULL, encrypt) &&
	       EVP_CIPHER_CTX_set_padding(slot->evp, 0);
}

static void free_contexts(struct xf_ossl *ossl)
{
	const struct slot *slot = &ossl->slots[0][0][0];

	for (unsigned i = 0; i < SLOTS; i++)
		EVP_CIPHER_CTX_free(slot[i].evp);
	free(ossl);
}

struct xf_ossl *xf_ossl_new(void)
{
	struct xf_ossl *ossl = calloc(1, sizeof(*ossl));

	if (!ossl)
		return NULL;
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned mode = i / (KEY_SIZES * DIRECTIONS);
		unsigned size = i / DIRECTIONS % KEY_SIZES;
		unsigned encrypt = i % DIRECTIONS;

		if (ciphers[mode][size] && !slot_init(&ossl->slots[mode][size][encrypt],
						      ciphers[mode][size](), (int)encrypt)) {
			free_contexts(ossl);
			return NULL;
		}
	}
	xf_spin_lock(&all_lock);
	ossl->next = all;
	all = ossl;
	xf_spin_unlock(&all_lock);
	return ossl;
}

void xf_ossl_free(struct xf_ossl *ossl)
{
	struct xf_ossl **at = &all;

	if (!ossl)
		return;
	xf_spin_lock(&all_lock);
	while (*at != ossl)
		at = &(*at)->next;
	*at = ossl->next;
	xf_spin_unlock(&all_lock);
	free_contexts(ossl);
}

/* One operation at work. */
struct work {
	struct xf_ossl *ossl;
	struct xf_crypto_op *op;
	const struct xf_ossl_key *key;
};

/* The context for @mode with the operation's key in it, ready for a message under @iv, or NULL. */
static EVP_CIPHER_CTX *start(const struct work *work, enum mode mode, bool encrypt,
			     const uint8_t *iv)
{
	const struct xf_key *key = work->op->key;
	unsigned size = key->suite.cipher_key_len / 8u - 2;
	struct slot *slot = &work->ossl->slots[mode][size][encrypt];
	bool known = serial_in(slot) == work->key->serial;

	if (!EVP_CipherInit_ex(slot->evp, NULL, NULL, known ? NULL : key->cipher_raw, iv,
			       encrypt)) {
		/* A key that was refused must not count as known, nor the one before it be left. */
		slot_blank(slot);
		return NULL;
	}
	if (!known)
		note_serial(slot, work->key->serial);
	return slot->evp;
}

static bool update(EVP_CIPHER_CTX *evp, uint8_t *out, const uint8_t *in, uint32_t len)
{
	int done;

	return !len || EVP_CipherUpdate(evp, out, &done, in, (int)len);
}

/* The text through a stream cipher, run after run. */
static bool stream(EVP_CIPHER_CTX *evp, const struct xf_crypto_op *op)
{
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		if (!update(evp, out, in, n))
			return false;
		xf_walk_skip(&walk, n);
	}
	return !walk.left;
}

/* One block that straddles a border of either chain. */
static bool straddling_block(EVP_CIPHER_CTX *evp, struct xf_walk *walk)
{
	uint8_t block[AES_BLOCK];

	return xf_walk_gather(walk, block, AES_BLOCK) && update(evp, block, block, AES_BLOCK) &&
	       xf_walk_scatter(walk, block, AES_BLOCK);
}

/* The text through CBC: the whole blocks of each run, then the block over its end. */
static bool blocks(EVP_CIPHER_CTX *evp, const struct xf_crypto_op *op)
{
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	/* RFC 3602 s2.4: the padding of ESP makes whole blocks. */
	if (op->len % AES_BLOCK)
		return false;
	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		n &= ~(AES_BLOCK - 1u);
		if (n ? !update(evp, out, in, n) : !straddling_block(evp, &walk))
			return false;
		xf_walk_skip(&walk, n);
	}
	return !walk.left;
}

/* Compare or hand over a computed ICV of XF_ICV_MAX bytes. */
static uint8_t settle_icv(struct xf_crypto_op *op, const uint8_t *icv)
{
	uint8_t len = op->key->suite.icv_len;

	if (op->encrypt)
		memcpy(op->icv, icv, len);
	else if (!xf_equal_const_time(op->icv, icv, len))
		return XF_CRYPTO_BAD_ICV;
	return XF_CRYPTO_OK;
}

/* libcrypto compares in constant time itself; zero or less from final means a wrong tag. */
static uint8_t finish_aead(EVP_CIPHER_CTX *evp, struct xf_crypto_op *op)
{
	uint8_t icv_len = op->key->suite.icv_len;
	uint8_t none[AES_BLOCK];
	int done;

	if (!op->encrypt) {
		if (!EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, icv_len, op->icv))
			return XF_CRYPTO_ERROR;
		return EVP_CipherFinal_ex(evp, none, &done) > 0 ? XF_CRYPTO_OK : XF_CRYPTO_BAD_ICV;
	}
	if (EVP_CipherFinal_ex(evp, none, &done) <= 0 ||
	    !EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, icv_len, op->icv))
		return XF_CRYPTO_ERROR;
	return XF_CRYPTO_OK;
}

/* AES-GCM and ChaCha20-Poly1305. */
static uint8_t run_aead(const struct work *work, enum mode mode)
{
	struct xf_crypto_op *op = work->op;
	EVP_CIPHER_CTX *evp = start(work, mode, op->encrypt, op->nonce);

	if (!evp || !update(evp, NULL, op->aad, op->aad_len) || !stream(evp, op))
		return XF_CRYPTO_ERROR;
	return finish_aead(evp, op);
}

/* RFC 4543: GCM over additional data only, and the text is the end of that data. */
static uint8_t run_gmac(const struct work *work)
{
	struct xf_crypto_op *op = work->op;
	EVP_CIPHER_CTX *evp = start(work, MODE_GCM, op->encrypt, op->nonce);
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	if (!evp || !update(evp, NULL, op->aad, op->aad_len))
		return XF_CRYPTO_ERROR;
	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		if (!update(evp, NULL, in, n))
			return XF_CRYPTO_ERROR;
		xf_walk_skip(&walk, n);
	}
	if (walk.left || !xf_walk_copy(op))
		return XF_CRYPTO_ERROR;
	return finish_aead(evp, op);
}

/*
 * CBC-MAC for CCM: libcrypto's own CCM wants the text in one piece, so the MAC is CBC encryption
 * whose output goes nowhere but for its last block.
 */
struct cbc_mac {
	EVP_CIPHER_CTX *evp;
	uint32_t len;
	uint8_t last[AES_BLOCK];
};

/* libcrypto keeps a block that is not full yet, so pieces of any length can follow each other. */
static bool mac_update(struct cbc_mac *mac, const uint8_t *data, uint32_t len)
{
	uint8_t sink[512 + AES_BLOCK];

	mac->len += len;
	while (len) {
		uint32_t n = xf_min_u32(len, 512);
		int done;

		if (!EVP_CipherUpdate(mac->evp, sink, &done, data, (int)n))
			return false;
		if (done)
			memcpy(mac->last, sink + done - AES_BLOCK, AES_BLOCK);
		data += n;
		len -= n;
	}
	return true;
}

/* RFC 3610 s2.2: additional data and text are each filled up with zeros to whole blocks. */
static bool mac_pad(struct cbc_mac *mac)
{
	static const uint8_t zeros[AES_BLOCK];

	return mac_update(mac, zeros, -mac->len % AES_BLOCK);
}

/* What comes before the text, RFC 3610 s2.2: B_0, then the additional data and its length. */
static bool mac_start(struct cbc_mac *mac, const struct work *work)
{
	static const uint8_t zero_iv[AES_BLOCK];
	const struct xf_crypto_op *op = work->op;
	uint8_t head[AES_BLOCK + 2];

	mac->evp = start(work, MODE_CBC, true, zero_iv);
	head[0] = (uint8_t)((op->aad_len ? 0x40 : 0) | (op->key->suite.icv_len - 2) / 2 << 3 | 3);
	memcpy(head + 1, op->nonce, 11);
	xf_put_be32(head + 12, op->len);
	xf_put_be16(head + AES_BLOCK, op->aad_len);
	if (!mac->evp || !mac_update(mac, head, op->aad_len ? sizeof(head) : AES_BLOCK))
		return false;
	return mac_update(mac, op->aad, op->aad_len) && mac_pad(mac);
}

/* Never more than @len, also where the last segment goes on (the ICV, say). */
static bool mac_chain(struct cbc_mac *mac, const struct xf_seg *segs, unsigned nsegs, uint32_t len)
{
	for (unsigned i = 0; i < nsegs; i++) {
		uint32_t n = xf_min_u32(segs[i].len, len);

		if (!mac_update(mac, segs[i].data, n))
			return false;
		len -= n;
	}
	return !len && mac_pad(mac);
}

/* AES-CCM as RFC 4309 s4 uses it: an 11-byte nonce, a 4-byte length. The MAC is over plaintext. */
static uint8_t run_ccm(const struct work *work)
{
	struct xf_crypto_op *op = work->op;
	struct cbc_mac mac = { .len = 0 };
	uint8_t block[AES_BLOCK] = { 3 };
	uint8_t icv[XF_ICV_MAX];
	EVP_CIPHER_CTX *ctr;

	memcpy(block + 1, op->nonce, 11);
	ctr = start(work, MODE_CTR, true, block);
	memset(block, 0, sizeof(block));
	/* The key stream's first block hides the MAC; the text takes those behind it. */
	if (!ctr || !update(ctr, block, block, AES_BLOCK) || !mac_start(&mac, work))
		return XF_CRYPTO_ERROR;
	if (op->encrypt && !mac_chain(&mac, op->src, op->nsrc, op->len))
		return XF_CRYPTO_ERROR;
	if (!stream(ctr, op))
		return XF_CRYPTO_ERROR;
	if (!op->encrypt && !mac_chain(&mac, op->dst, op->ndst, op->len))
		return XF_CRYPTO_ERROR;
	for (unsigned i = 0; i < AES_BLOCK; i++)
		icv[i] = mac.last[i] ^ block[i];
	return settle_icv(op, icv);
}

/* What HMAC goes with. CTR is its own inverse: one context serves both ways. */
static bool run_cipher(const struct work *work)
{
	struct xf_crypto_op *op = work->op;
	EVP_CIPHER_CTX *evp;

	switch (op->key->suite.cipher) {
	case XF_CIPHER_NULL:
		return xf_walk_copy(op);
	case XF_CIPHER_AES_CBC:
		evp = start(work, MODE_CBC, op->encrypt, op->nonce);
		return evp && blocks(evp, op);
	case XF_CIPHER_AES_CTR:
		evp = start(work, MODE_CTR, true, op->nonce);
		return evp && stream(evp, op);
	default:
		return false;
	}
}

/* HMAC over aad, ciphertext, tail. */
static uint8_t run_hmac(const struct work *work)
{
	struct xf_crypto_op *op = work->op;
	const struct xf_seg *segs = op->encrypt ? op->dst : op->src;
	unsigned nsegs = op->encrypt ? op->ndst : op->nsrc;
	uint32_t left = op->len;
	uint8_t icv[XF_ICV_MAX];
	struct xf_hmac mac;

	xf_hmac_begin(&mac, &work->key->hmac);
	xf_hmac_update(&mac, op->aad, op->aad_len);
	for (unsigned i = 0; i < nsegs; i++) {
		uint32_t n = xf_min_u32(segs[i].len, left);

		xf_hmac_update(&mac, segs[i].data, n);
		left -= n;
	}
	xf_hmac_update(&mac, op->tail, op->tail_len);
	xf_hmac_final(&mac, icv);
	return left ? XF_CRYPTO_ERROR : settle_icv(op, icv);
}

/* Encrypt, then MAC; check, then decrypt. */
static uint8_t run_composed(const struct work *work)
{
	struct xf_crypto_op *op = work->op;
	bool has_mac = op->key->suite.auth != XF_AUTH_NONE;
	uint8_t status = XF_CRYPTO_OK;

	if (!op->encrypt && has_mac)
		status = run_hmac(work);
	if (status == XF_CRYPTO_OK && !run_cipher(work))
		return XF_CRYPTO_ERROR;
	return op->encrypt && has_mac ? run_hmac(work) : status;
}

/* Between enter() and leave(). */
static void run(struct xf_ossl *ossl, struct xf_crypto_op *op, const struct xf_ossl_key *key)
{
	const struct work work = { .ossl = ossl, .op = op, .key = key };

	switch (op->key->suite.cipher) {
	case XF_CIPHER_AES_GCM:
		op->status = run_aead(&work, MODE_GCM);
		break;
	case XF_CIPHER_CHACHA20_POLY1305:
		op->status = run_aead(&work, MODE_CHACHA);
		break;
	case XF_CIPHER_AES_GMAC:
		op->status = run_gmac(&work);
		break;
	case XF_CIPHER_AES_CCM:
		op->status = run_ccm(&work);
		break;
	default:
		op->status = run_composed(&work);
		break;
	}
}

void xf_ossl_run(struct xf_ossl *ossl, struct xf_crypto_op *op, const struct xf_ossl_key *key)
{
	enter(ossl);
	run(ossl, op, key);
	leave(ossl);
}

/* The provider: operations are finished when submit() returns. */
struct xf_crypto_ctx {
	struct xf_ossl *ossl;
	struct xf_done done;
};

static bool ossl_usable(void)
{
	return true;
}

static bool ossl_has(const struct xf_suite *suite)
{
	return suite->cipher < XF_CIPHER_MAX && suite->auth < XF_AUTH_MAX;
}

static size_t ossl_expanded_size(const struct xf_suite *suite)
{
	(void)suite;
	return sizeof(struct xf_ossl_key);
}

static int ossl_key_expand(struct xf_key *key)
{
	xf_ossl_key_init((struct xf_ossl_key *)(void *)key->expanded, key);
	return 0;
}

static void ossl_key_release(struct xf_key *key)
{
	xf_ossl_key_fini((const struct xf_ossl_key *)(const void *)key->expanded);
}

static void ossl_ctx_free(struct xf_crypto_ctx *ctx)
{
	if (!ctx)
		return;
	xf_ossl_free(ctx->ossl);
	free(ctx);
}

static struct xf_crypto_ctx *ossl_ctx_new(const struct xf_crypto_provider *provider,
					  const struct xf_crypto_wake *wake)
{
	struct xf_crypto_ctx *ctx = calloc(1, sizeof(*ctx));

	(void)provider;
	(void)wake;
	if (!ctx)
		return NULL;
	ctx->ossl = xf_ossl_new();
	if (!ctx->ossl) {
		ossl_ctx_free(ctx);
		return NULL;
	}
	return ctx;
}

static unsigned ossl_submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	unsigned room = xf_done_room(&ctx->done);

	if (n > room)
		n = room;
	enter(ctx->ossl);
	for (unsigned i = 0; i < n; i++) {
		const void *expanded = ops[i]->key->expanded;

		run(ctx->ossl, ops[i], expanded);
		xf_done_push(&ctx->done, ops[i]);
	}
	leave(ctx->ossl);
	return n;
}

static unsigned ossl_complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max)
{
	return xf_done_take(&ctx->done, done, max);
}

const struct xf_crypto_provider xf_provider_openssl = {
	.name = "openssl",
	.preference = 10,
	.usable = ossl_usable,
	.has = ossl_has,
	.expanded_size = ossl_expanded_size,
	.key_expand = ossl_key_expand,
	.key_release = ossl_key_release,
	.ctx_new = ossl_ctx_new,
	.ctx_free = ossl_ctx_free,
	.submit = ossl_submit,
	.complete = ossl_complete,
};
