#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <intel-ipsec-mb.h>

#include "raw.h"

#define AAD_LEN 8
#define TAG_LEN 16

struct raw {
	struct gcm_key_data gcm __attribute__((aligned(64)));
	struct gcm_context_data gcm_context;
	struct chacha20_poly1305_context_data chacha_context;
	uint8_t enc[240] __attribute__((aligned(16)));
	uint8_t dec[240] __attribute__((aligned(16)));
	uint8_t ipad[64];
	uint8_t opad[64];
	uint8_t nonces[RAW_BATCH][16];
	uint8_t tags[RAW_BATCH][32];
	uint8_t key[32];
	uint8_t aad[AAD_LEN];
	uint64_t counter;
	IMB_MGR *mgr;
	void (*batch)(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal);
};

const char *const raw_name = "ipsec-mb";

static bool avx2_only;

bool raw_limit_to_avx2(void)
{
	avx2_only = true;
	return true;
}

/*
 * In place of the library's own: the provider asks for the best manager, and a benchmark wants to
 * see a lesser CPU. A program's symbols come before those of its libraries.
 */
void init_mb_mgr_auto(IMB_MGR *state, IMB_ARCH *arch)
{
	void (*real)(IMB_MGR *, IMB_ARCH *);
	void *symbol = dlsym(RTLD_NEXT, "init_mb_mgr_auto");

	if (avx2_only || !symbol) {
		init_mb_mgr_avx2(state);
		return;
	}
	memcpy(&real, &symbol, sizeof(real));
	real(state, arch);
}

static void gcm128(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *data = texts[i].data;

		if (seal)
			IMB_AES128_GCM_ENC(raw->mgr, &raw->gcm, &raw->gcm_context, data, data,
					   texts[i].len, raw->nonces[i], raw->aad, AAD_LEN,
					   raw->tags[i], TAG_LEN);
		else
			IMB_AES128_GCM_DEC(raw->mgr, &raw->gcm, &raw->gcm_context, data, data,
					   texts[i].len, raw->nonces[i], raw->aad, AAD_LEN,
					   raw->tags[i], TAG_LEN);
	}
}

static void gcm256(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *data = texts[i].data;

		if (seal)
			IMB_AES256_GCM_ENC(raw->mgr, &raw->gcm, &raw->gcm_context, data, data,
					   texts[i].len, raw->nonces[i], raw->aad, AAD_LEN,
					   raw->tags[i], TAG_LEN);
		else
			IMB_AES256_GCM_DEC(raw->mgr, &raw->gcm, &raw->gcm_context, data, data,
					   texts[i].len, raw->nonces[i], raw->aad, AAD_LEN,
					   raw->tags[i], TAG_LEN);
	}
}

static void chacha(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	struct chacha20_poly1305_context_data *context = &raw->chacha_context;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *data = texts[i].data;

		IMB_CHACHA20_POLY1305_INIT(raw->mgr, raw->key, context, raw->nonces[i], raw->aad,
					   AAD_LEN);
		if (seal) {
			IMB_CHACHA20_POLY1305_ENC_UPDATE(raw->mgr, raw->key, context, data, data,
							 texts[i].len);
			IMB_CHACHA20_POLY1305_ENC_FINALIZE(raw->mgr, context, raw->tags[i],
							   TAG_LEN);
		} else {
			IMB_CHACHA20_POLY1305_DEC_UPDATE(raw->mgr, raw->key, context, data, data,
							 texts[i].len);
			IMB_CHACHA20_POLY1305_DEC_FINALIZE(raw->mgr, context, raw->tags[i],
							   TAG_LEN);
		}
	}
}

static void fill_job(struct raw *raw, IMB_JOB *job, const struct raw_text *text, unsigned i)
{
	memset(job, 0, sizeof(*job));
	job->enc_keys = raw->enc;
	job->dec_keys = raw->dec;
	job->key_len_in_bytes = 16;
	job->src = text->data;
	job->dst = text->data;
	job->msg_len_to_cipher_in_bytes = text->len;
	job->msg_len_to_hash_in_bytes = text->len;
	job->iv = raw->nonces[i];
	job->iv_len_in_bytes = 16;
	job->auth_tag_output = raw->tags[i];
	job->auth_tag_output_len_in_bytes = TAG_LEN;
	job->u.HMAC._hashed_auth_key_xor_ipad = raw->ipad;
	job->u.HMAC._hashed_auth_key_xor_opad = raw->opad;
	job->cipher_mode = IMB_CIPHER_CBC;
	job->hash_alg = IMB_AUTH_HMAC_SHA_256;
}

/* No direct call does both: the whole batch is put in, then flushed. */
static void cbc_sha256(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	for (unsigned i = 0; i < n; i++) {
		IMB_JOB *job = IMB_GET_NEXT_JOB(raw->mgr);

		fill_job(raw, job, &texts[i], i);
		job->cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
		job->chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
		IMB_SUBMIT_JOB(raw->mgr);
	}
	while (IMB_FLUSH_JOB(raw->mgr))
		;
}

static bool choose(struct raw *raw, const char *suite)
{
	if (strcmp(suite, "gcm128") == 0) {
		IMB_AES128_GCM_PRE(raw->mgr, raw->key, &raw->gcm);
		raw->batch = gcm128;
	} else if (strcmp(suite, "gcm256") == 0) {
		IMB_AES256_GCM_PRE(raw->mgr, raw->key, &raw->gcm);
		raw->batch = gcm256;
	} else if (strcmp(suite, "chacha") == 0) {
		raw->batch = chacha;
	} else if (strcmp(suite, "cbc128-sha256") == 0) {
		IMB_AES_KEYEXP_128(raw->mgr, raw->key, raw->enc, raw->dec);
		raw->batch = cbc_sha256;
	}
	return raw->batch != NULL;
}

struct raw *raw_new(const char *suite)
{
	struct raw *raw = aligned_alloc(64, (sizeof(*raw) + 63) & ~(size_t)63);

	if (!raw)
		return NULL;
	memset(raw, 0, sizeof(*raw));
	for (unsigned i = 0; i < sizeof(raw->key); i++)
		raw->key[i] = (uint8_t)(i + 1);
	raw->mgr = alloc_mb_mgr(0);
	if (!raw->mgr) {
		free(raw);
		return NULL;
	}
	init_mb_mgr_auto(raw->mgr, NULL);
	if (choose(raw, suite))
		return raw;
	raw_free(raw);
	return NULL;
}

void raw_free(struct raw *raw)
{
	free_mb_mgr(raw->mgr);
	free(raw);
}

void raw_work(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal)
{
	for (unsigned i = 0; i < n; i++) {
		raw->counter++;
		memcpy(raw->nonces[i] + 4, &raw->counter, sizeof(raw->counter));
	}
	raw->batch(raw, texts, n, seal);
}
