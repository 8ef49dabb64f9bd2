#include "crypto/ipsec_mb.h"
#include "crypto/walk.h"

#include <stdatomic.h>
#include <stdlib.h>

/* The library's functions for AES-GCM and GMAC with one key size; index 1 encrypts. */
struct gcm_calls {
	aes_gcm_enc_dec_t whole[2];
	aes_gcm_init_t init;
	aes_gcm_enc_dec_update_t update[2];
	aes_gcm_enc_dec_finalize_t final[2];
	aes_gmac_init_t gmac_init;
	aes_gmac_update_t gmac_update;
	aes_gmac_finalize_t gmac_final;
};

struct xf_crypto_ctx {
	struct gcm_calls gcm[3];
	struct xf_ossl *ossl;
	struct xf_done done;
	struct imb_jobs jobs;
};

#define GCM_CALLS(mgr, bits)                                                                      \
	{                                                                                         \
		.whole = { (mgr)->gcm##bits##_dec, (mgr)->gcm##bits##_enc },                      \
		.init = (mgr)->gcm##bits##_init,                                                  \
		.update = { (mgr)->gcm##bits##_dec_update, (mgr)->gcm##bits##_enc_update },       \
		.final = { (mgr)->gcm##bits##_dec_finalize, (mgr)->gcm##bits##_enc_finalize },    \
		.gmac_init = (mgr)->gmac##bits##_init, .gmac_update = (mgr)->gmac##bits##_update, \
		.gmac_final = (mgr)->gmac##bits##_finalize                                        \
	}

/* For expanding keys only: constant once it is there, so that any thread may use it. */
static IMB_MGR *_Atomic key_mgr;

static IMB_MGR *new_key_mgr(void)
{
	IMB_MGR *mgr = alloc_mb_mgr(0);
	uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;

	if (!mgr)
		return NULL;
	init_mb_mgr_auto(mgr, NULL);
	if (mgr->features & IMB_FEATURE_SELF_TEST)
		needed |= IMB_FEATURE_SELF_TEST_PASS;
	if ((mgr->features & needed) == needed)
		return mgr;
	free_mb_mgr(mgr);
	return NULL;
}

static bool imb_usable(void)
{
	static atomic_bool refused;
	IMB_MGR *none = NULL;
	IMB_MGR *mgr;

	if (atomic_load(&key_mgr) || atomic_load(&refused))
		return !atomic_load(&refused);
	mgr = new_key_mgr();
	atomic_store(&refused, !mgr);
	/* Of threads that come at once, the first one's manager stays. */
	if (mgr && !atomic_compare_exchange_strong(&key_mgr, &none, mgr))
		free_mb_mgr(mgr);
	return mgr;
}

static bool imb_has(const struct xf_suite *suite)
{
	/* The library's CCM knows keys of 128 and 256 bits. */
	if (suite->cipher == XF_CIPHER_AES_CCM && suite->cipher_key_len == 24)
		return false;
	return imb_usable() && suite->cipher < XF_CIPHER_MAX && suite->auth < XF_AUTH_MAX;
}

static bool is_gcm(enum xf_cipher cipher)
{
	return cipher == XF_CIPHER_AES_GCM || cipher == XF_CIPHER_AES_GMAC;
}

static size_t imb_expanded_size(const struct xf_suite *suite)
{
	if (is_gcm(suite->cipher))
		return sizeof(struct gcm_key_data);
	/* ChaCha20's key is its raw bytes. */
	return suite->cipher == XF_CIPHER_CHACHA20_POLY1305 ? 0 : sizeof(struct imb_key);
}

static void expand_gcm(struct xf_key *key)
{
	struct gcm_key_data *gcm = (struct gcm_key_data *)(void *)key->expanded;
	const IMB_MGR *mgr = atomic_load(&key_mgr);

	if (key->suite.cipher_key_len == 16)
		IMB_AES128_GCM_PRE(mgr, key->cipher_raw, gcm);
	else if (key->suite.cipher_key_len == 24)
		IMB_AES192_GCM_PRE(mgr, key->cipher_raw, gcm);
	else
		IMB_AES256_GCM_PRE(mgr, key->cipher_raw, gcm);
}

static void expand_aes(const struct xf_key *key, struct imb_key *out)
{
	const IMB_MGR *mgr = atomic_load(&key_mgr);

	if (key->suite.cipher_key_len == 16)
		IMB_AES_KEYEXP_128(mgr, key->cipher_raw, out->encrypt, out->decrypt);
	else if (key->suite.cipher_key_len == 24)
		IMB_AES_KEYEXP_192(mgr, key->cipher_raw, out->encrypt, out->decrypt);
	else if (key->suite.cipher_key_len == 32)
		IMB_AES_KEYEXP_256(mgr, key->cipher_raw, out->encrypt, out->decrypt);
}

/* Operations that the library does not take as jobs go to the OpenSSL engine. */
static bool has_ossl_key(const struct xf_key *key)
{
	return !is_gcm(key->suite.cipher) && key->suite.cipher != XF_CIPHER_CHACHA20_POLY1305;
}

static int imb_key_expand(struct xf_key *key)
{
	struct imb_key *out = (struct imb_key *)(void *)key->expanded;

	if (is_gcm(key->suite.cipher)) {
		expand_gcm(key);
	} else if (has_ossl_key(key)) {
		expand_aes(key, out);
		xf_ossl_key_init(&out->ossl, key);
	}
	return 0;
}

static void imb_key_release(struct xf_key *key)
{
	const struct imb_key *imb = (const struct imb_key *)(const void *)key->expanded;

	if (has_ossl_key(key))
		xf_ossl_key_fini(&imb->ossl);
}

static void imb_ctx_free(struct xf_crypto_ctx *ctx)
{
	if (!ctx)
		return;
	xf_ossl_free(ctx->ossl);
	if (ctx->jobs.few != ctx->jobs.many)
		free_mb_mgr(ctx->jobs.few);
	free_mb_mgr(ctx->jobs.many);
	free(ctx);
}

/*
 * A lone packet on the 16 lanes of AVX512 waits for all of them; the SHA extensions behind the
 * SSE manager are made for one at a time.
 */
static bool init_managers(struct imb_jobs *jobs)
{
	jobs->many = alloc_mb_mgr(0);
	if (!jobs->many)
		return false;
	init_mb_mgr_auto(jobs->many, NULL);
	jobs->few = jobs->many;
	if (jobs->many->used_arch != IMB_ARCH_AVX512 || !(jobs->many->features & IMB_FEATURE_SHANI))
		return true;
	jobs->few = alloc_mb_mgr(0);
	if (jobs->few)
		init_mb_mgr_sse(jobs->few);
	return jobs->few;
}

static struct xf_crypto_ctx *imb_ctx_new(const struct xf_crypto_provider *provider,
					 const struct xf_crypto_wake *wake)
{
	struct xf_crypto_ctx *ctx = calloc(1, sizeof(*ctx));
	const IMB_MGR *mgr;

	(void)provider;
	(void)wake;
	if (!ctx)
		return NULL;
	ctx->ossl = xf_ossl_new();
	if (!ctx->ossl || !init_managers(&ctx->jobs)) {
		imb_ctx_free(ctx);
		return NULL;
	}
	mgr = ctx->jobs.many;
	ctx->gcm[0] = (struct gcm_calls)GCM_CALLS(mgr, 128);
	ctx->gcm[1] = (struct gcm_calls)GCM_CALLS(mgr, 192);
	ctx->gcm[2] = (struct gcm_calls)GCM_CALLS(mgr, 256);
	return ctx;
}

static const struct gcm_calls *gcm_calls(const struct xf_crypto_ctx *ctx,
					 const struct xf_crypto_op *op)
{
	return &ctx->gcm[op->key->suite.cipher_key_len / 8 - 2];
}

static const struct gcm_key_data *gcm_key(const struct xf_crypto_op *op)
{
	return (const struct gcm_key_data *)(const void *)op->key->expanded;
}

/*
 * The verdict on @tag. When encrypting the library wrote it into its place: a copy would wait for
 * the library's wide store, which costs as much as ciphering a small packet.
 */
static void settle_tag(struct xf_crypto_op *op, const uint8_t *tag)
{
	bool fine = op->encrypt || xf_equal_const_time(op->icv, tag, op->key->suite.icv_len);

	op->status = fine ? XF_CRYPTO_OK : XF_CRYPTO_BAD_ICV;
}

/* A chain costs a call more than one piece, and one a run; both give the same bytes. */
static void run_gcm(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op)
{
	const struct gcm_calls *calls = gcm_calls(ctx, op);
	const struct gcm_key_data *key = gcm_key(op);
	uint8_t icv_len = op->key->suite.icv_len;
	struct gcm_context_data state;
	uint8_t computed[XF_ICV_MAX];
	uint8_t *tag = op->encrypt ? op->icv : computed;
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	if (imb_is_one_piece(op)) {
		calls->whole[op->encrypt](key, &state, op->dst->data, op->src->data, op->len,
					  op->nonce, op->aad, op->aad_len, tag, icv_len);
		settle_tag(op, tag);
		return;
	}
	calls->init(key, &state, op->nonce, op->aad, op->aad_len);
	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		calls->update[op->encrypt](key, &state, out, in, n);
		xf_walk_skip(&walk, n);
	}
	calls->final[op->encrypt](key, &state, tag, icv_len);
	settle_tag(op, tag);
	if (walk.left)
		op->status = XF_CRYPTO_ERROR;
}

/* RFC 4543: the text is the end of the additional data. */
static void run_gmac(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op)
{
	const struct gcm_calls *calls = gcm_calls(ctx, op);
	const struct gcm_key_data *key = gcm_key(op);
	struct gcm_context_data state;
	uint8_t computed[XF_ICV_MAX];
	uint8_t *tag = op->encrypt ? op->icv : computed;
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	calls->gmac_init(key, &state, op->nonce, 12);
	calls->gmac_update(key, &state, op->aad, op->aad_len);
	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		calls->gmac_update(key, &state, in, n);
		xf_walk_skip(&walk, n);
	}
	calls->gmac_final(key, &state, tag, op->key->suite.icv_len);
	settle_tag(op, tag);
	if (!xf_walk_copy(op))
		op->status = XF_CRYPTO_ERROR;
}

static void run_chacha(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op)
{
	const IMB_MGR *mgr = ctx->jobs.many;
	const uint8_t *key = op->key->cipher_raw;
	struct chacha20_poly1305_context_data state;
	uint8_t computed[XF_ICV_MAX];
	uint8_t *tag = op->encrypt ? op->icv : computed;
	struct xf_walk walk;
	const uint8_t *in;
	uint8_t *out;
	uint32_t n;

	IMB_CHACHA20_POLY1305_INIT(mgr, key, &state, op->nonce, op->aad, op->aad_len);
	xf_walk_init(&walk, op);
	while ((n = xf_walk_run(&walk, &in, &out))) {
		if (op->encrypt)
			IMB_CHACHA20_POLY1305_ENC_UPDATE(mgr, key, &state, out, in, n);
		else
			IMB_CHACHA20_POLY1305_DEC_UPDATE(mgr, key, &state, out, in, n);
		xf_walk_skip(&walk, n);
	}
	IMB_CHACHA20_POLY1305_ENC_FINALIZE(mgr, &state, tag, op->key->suite.icv_len);
	settle_tag(op, tag);
	if (walk.left)
		op->status = XF_CRYPTO_ERROR;
}

static void run_one(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op)
{
	switch (op->key->suite.cipher) {
	case XF_CIPHER_AES_GCM:
		run_gcm(ctx, op);
		break;
	case XF_CIPHER_AES_GMAC:
		run_gmac(ctx, op);
		break;
	case XF_CIPHER_CHACHA20_POLY1305:
		if (xf_imb_jobs_add(&ctx->jobs, op))
			return;
		run_chacha(ctx, op);
		break;
	default:
		if (xf_imb_jobs_add(&ctx->jobs, op))
			return;
		xf_ossl_run(ctx->ossl, op, &imb_key_of(op)->ossl);
		break;
	}
	xf_done_push(&ctx->done, op);
}

/* Keys of operations that come so much later are fetched: all at once would be too many. */
#define FETCH_AHEAD 4
/* Of a GCM key, what a short packet reads: the round keys in front, low powers of H at the end. */
#define KEY_FRONT_LINES 4
#define KEY_END_LINES 8

static void fetch_key(const struct xf_key *key)
{
	const uint8_t *end = key->expanded + sizeof(struct gcm_key_data);

	for (unsigned i = 0; i < KEY_FRONT_LINES; i++)
		__builtin_prefetch(key->expanded + i * 64);
	if (!is_gcm(key->suite.cipher))
		return;
	for (unsigned i = 1; i <= KEY_END_LINES; i++)
		__builtin_prefetch(end - i * 64);
}

/*
 * The nonces of all operations stand in them before the first call here: one that is written just
 * before the library loads it would stall the load until the store is through.
 */
static unsigned imb_submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	unsigned room = xf_done_room(&ctx->done);

	if (n > room)
		n = room;
	for (unsigned i = 0; i < n && i < FETCH_AHEAD; i++)
		fetch_key(ops[i]->key);
	for (unsigned i = 0; i < n; i++) {
		if (i + FETCH_AHEAD < n && ops[i + FETCH_AHEAD]->key != ops[i]->key)
			fetch_key(ops[i + FETCH_AHEAD]->key);
		run_one(ctx, ops[i]);
	}
	if (ctx->jobs.count)
		xf_imb_jobs_run(&ctx->jobs, &ctx->done);
	return n;
}

static unsigned imb_complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max)
{
	return xf_done_take(&ctx->done, done, max);
}

const struct xf_crypto_provider xf_provider_ipsec_mb = {
	.name = "ipsec-mb",
	.preference = 20,
	.usable = imb_usable,
	.has = imb_has,
	.expanded_size = imb_expanded_size,
	.key_expand = imb_key_expand,
	.key_release = imb_key_release,
	.ctx_new = imb_ctx_new,
	.ctx_free = imb_ctx_free,
	.submit = imb_submit,
	.complete = imb_complete,
};
