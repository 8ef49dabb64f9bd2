#include "crypto/ipsec_mb.h"
#include "crypto/walk.h"

#define AES_BLOCK 16
/*
 * From @fills_lanes packets of one hash on, the wide manager is the faster one: measured with 1408
 * bytes, both ways. There are SHA extensions for SHA-1 and SHA-256 only; for the rest the wide
 * manager is right from the first packet on.
 */
static const struct {
	IMB_HASH_ALG alg;
	uint8_t digest_len;
	uint8_t fills_lanes;
} hashes[IMB_JOB_CLASSES] = {
	[XF_AUTH_NONE] = { IMB_AUTH_NULL, 0, 1 },
	[XF_AUTH_HMAC_SHA1] = { IMB_AUTH_HMAC_SHA_1, 20, 5 },
	[XF_AUTH_HMAC_SHA256] = { IMB_AUTH_HMAC_SHA_256, 32, 10 },
	[XF_AUTH_HMAC_SHA384] = { IMB_AUTH_HMAC_SHA_384, 48, 1 },
	[XF_AUTH_HMAC_SHA512] = { IMB_AUTH_HMAC_SHA_512, 64, 1 },
	[IMB_CLASS_CCM] = { IMB_AUTH_AES_CCM, 16, 1 },
	[IMB_CLASS_CHACHA] = { IMB_AUTH_CHACHA20_POLY1305, 16, 1 },
};

static unsigned job_class(const struct xf_suite *suite)
{
	if (suite->cipher == XF_CIPHER_AES_CCM)
		return IMB_CLASS_CCM;
	return suite->cipher == XF_CIPHER_CHACHA20_POLY1305 ? IMB_CLASS_CHACHA : suite->auth;
}

/* The side that the MAC is over. */
static const struct xf_seg *mac_side(const struct xf_crypto_op *op)
{
	return op->encrypt ? op->dst : op->src;
}

/*
 * The library computes a MAC over bytes in a row, and what it covers beside the text must stand at
 * @at, next to it. An ESP packet in one piece has its header and IV there already. The rest is
 * lent: the aad in front of a fresh destination, and with ESN the four bytes that are in no packet
 * (RFC 4303 s2.2.1) in the ICV's place; only in memory that is ours alone, given back when the job
 * is done. Memory outside of the segment's buffer is not even read.
 */
static bool stands(struct imb_loan *loan, const struct xf_buf *buf, uint8_t *at,
		   const uint8_t *bytes, uint8_t len)
{
	if (!len)
		return true;
	if (!buf || !buf->mem || at < buf->mem || buf->mem + buf->size < at + len)
		return false;
	if (!memcmp(at, bytes, len))
		return true;
	if (!buf->home || buf->refs != 1)
		return false;
	loan->at = at;
	loan->len = len;
	memcpy(loan->saved, at, len);
	memcpy(at, bytes, len);
	return true;
}

static void give_back(const struct imb_loan *loan)
{
	if (loan->len)
		memcpy(loan->at, loan->saved, loan->len);
}

/* Bring what the MAC covers into a row, or change nothing. */
static bool in_a_row(struct imb_pending *pending)
{
	const struct xf_crypto_op *op = pending->op;
	const struct xf_seg *seg = mac_side(op);
	uint8_t *front = seg->data - op->aad_len;

	pending->mac_start = front;
	if (!stands(&pending->front, seg->buf, front, op->aad, op->aad_len))
		return false;
	if (stands(&pending->behind, seg->buf, seg->data + op->len, op->tail, op->tail_len))
		return true;
	give_back(&pending->front);
	return false;
}

static bool is_ready(struct imb_pending *pending)
{
	struct xf_crypto_op *op = pending->op;
	const struct xf_suite *suite = &op->key->suite;

	/* The library has no jobs without text, and only whole blocks for CBC. */
	if (!op->len || op->len % suite->block_len || !imb_is_one_piece(op))
		return false;
	if (suite->auth == XF_AUTH_NONE)
		return suite->cipher != XF_CIPHER_NULL;
	return in_a_row(pending);
}

bool xf_imb_jobs_add(struct imb_jobs *jobs, struct xf_crypto_op *op)
{
	struct imb_pending *pending = &jobs->pending[jobs->count];

	pending->op = op;
	pending->front.len = pending->behind.len = 0;
	if (!is_ready(pending))
		return false;
	jobs->count++;
	jobs->in_class[job_class(&op->key->suite)]++;
	return true;
}

static void fill_ccm(IMB_JOB *job, const struct xf_crypto_op *op)
{
	job->cipher_mode = IMB_CIPHER_CCM;
	job->iv_len_in_bytes = 11;
	job->hash_alg = IMB_AUTH_AES_CCM;
	job->chain_order = op->encrypt ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
	job->u.CCM.aad = op->aad;
	job->u.CCM.aad_len_in_bytes = op->aad_len;
	job->msg_len_to_hash_in_bytes = op->len;
	job->auth_tag_output_len_in_bytes = op->key->suite.icv_len;
}

static void fill_chacha(IMB_JOB *job, const struct xf_crypto_op *op)
{
	job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
	job->enc_keys = job->dec_keys = op->key->cipher_raw;
	job->iv_len_in_bytes = 12;
	job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
	job->chain_order = op->encrypt ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
	job->u.CHACHA20_POLY1305.aad = op->aad;
	job->u.CHACHA20_POLY1305.aad_len_in_bytes = op->aad_len;
	job->msg_len_to_hash_in_bytes = op->len;
	job->auth_tag_output_len_in_bytes = op->key->suite.icv_len;
}

static void fill_cipher(IMB_JOB *job, const struct xf_crypto_op *op)
{
	switch (op->key->suite.cipher) {
	case XF_CIPHER_AES_CBC:
		job->cipher_mode = IMB_CIPHER_CBC;
		break;
	case XF_CIPHER_AES_CTR:
		job->cipher_mode = IMB_CIPHER_CNTR;
		break;
	default:
		xf_walk_copy(op);
		job->cipher_mode = IMB_CIPHER_NULL;
		break;
	}
	job->iv_len_in_bytes = AES_BLOCK;
}

static void fill_hmac(IMB_JOB *job, const struct imb_pending *pending)
{
	const struct xf_crypto_op *op = pending->op;
	const struct xf_hmac_key *hmac = &imb_key_of(op)->ossl.hmac;
	enum xf_auth auth = op->key->suite.auth;

	job->hash_alg = hashes[auth].alg;
	job->chain_order = op->encrypt ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
	if (auth == XF_AUTH_NONE)
		return;
	/* An offset from src in the library's terms, also when it leads to dst. */
	job->hash_start_src_offset_in_bytes =
		(uint64_t)((uintptr_t)pending->mac_start - (uintptr_t)job->src);
	job->msg_len_to_hash_in_bytes = (uint64_t)op->aad_len + op->len + op->tail_len;
	job->u.HMAC._hashed_auth_key_xor_ipad = xf_hmac_words(&hmac->inner);
	job->u.HMAC._hashed_auth_key_xor_opad = xf_hmac_words(&hmac->outer);
	/* The library truncates to the RFCs' lengths only. */
	job->auth_tag_output_len_in_bytes = hashes[auth].digest_len;
}

static void fill_job(IMB_JOB *job, struct imb_pending *pending)
{
	const struct xf_crypto_op *op = pending->op;
	const struct imb_key *key = imb_key_of(op);

	job->src = op->src->data;
	job->dst = op->dst->data;
	job->cipher_direction = op->encrypt ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
	job->enc_keys = key->encrypt;
	job->dec_keys = key->decrypt;
	job->key_len_in_bytes = op->key->suite.cipher_key_len;
	job->iv = op->nonce;
	job->cipher_start_src_offset_in_bytes = 0;
	job->msg_len_to_cipher_in_bytes = op->len;
	job->hash_start_src_offset_in_bytes = 0;
	job->msg_len_to_hash_in_bytes = 0;
	job->auth_tag_output = pending->tag;
	job->auth_tag_output_len_in_bytes = 0;
	job->user_data = pending;
	switch (job_class(&op->key->suite)) {
	case IMB_CLASS_CCM:
		fill_ccm(job, op);
		break;
	case IMB_CLASS_CHACHA:
		fill_chacha(job, op);
		break;
	default:
		fill_cipher(job, op);
		fill_hmac(job, pending);
		break;
	}
}

static void finish(const IMB_JOB *job, struct xf_done *done)
{
	struct imb_pending *pending = job->user_data;
	struct xf_crypto_op *op = pending->op;

	give_back(&pending->front);
	give_back(&pending->behind);
	if (job->status == IMB_STATUS_COMPLETED)
		imb_settle(op, pending->tag);
	else
		op->status = XF_CRYPTO_ERROR;
	xf_done_push(done, op);
}

static void flush(IMB_MGR *mgr, struct xf_done *done)
{
	const IMB_JOB *job;

	while ((job = IMB_FLUSH_JOB(mgr)))
		finish(job, done);
}

void xf_imb_jobs_run(struct imb_jobs *jobs, struct xf_done *done)
{
	for (unsigned i = 0; i < jobs->count; i++) {
		struct imb_pending *pending = &jobs->pending[i];
		unsigned of = job_class(&pending->op->key->suite);
		IMB_MGR *mgr =
			jobs->in_class[of] >= hashes[of].fills_lanes ? jobs->many : jobs->few;
		const IMB_JOB *job;

		fill_job(IMB_GET_NEXT_JOB(mgr), pending);
		for (job = IMB_SUBMIT_JOB(mgr); job; job = IMB_GET_COMPLETED_JOB(mgr))
			finish(job, done);
	}
	flush(jobs->many, done);
	flush(jobs->few, done);
	memset(jobs->in_class, 0, sizeof(jobs->in_class));
	jobs->count = 0;
}
