/*
 * ipsec_mb.h - what the two halves of the ipsec-mb provider share.
 *
 * ipsec_mb.c does keys and the AEADs, which the library runs while it is called, on chains too.
 * ipsec_mb_job.c does what the library takes as jobs: HMACs, CBC, CTR and CCM, several packets at a
 * time in lanes, and ChaCha20-Poly1305, whose job is faster than its calls. Jobs want a packet in
 * one piece, with what the MAC covers in a row in memory; other packets take the OpenSSL engine,
 * piece by piece.
 *
 * Threads: struct imb_key is constant after init, struct imb_jobs belongs to one thread.
 */
#ifndef XF_CRYPTO_IPSEC_MB_H
#define XF_CRYPTO_IPSEC_MB_H

#include "crypto/done.h"
#include "crypto/openssl.h"

#include <intel-ipsec-mb.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMB_AES_SCHEDULE 240 /* 15 round keys */

/* The expanded key of what goes through jobs. */
struct imb_key {
	uint8_t encrypt[IMB_AES_SCHEDULE] __attribute__((aligned(16)));
	uint8_t decrypt[IMB_AES_SCHEDULE] __attribute__((aligned(16)));
	struct xf_ossl_key ossl; /* the HMAC states for the library as well */
};

/* Bytes that stand beside the text until the job is done, and what was there before. */
struct imb_loan {
	uint8_t *at;
	uint8_t len; /* 0 = none */
	uint8_t saved[XF_AAD_MAX];
};

/* A job between submission and the end of the batch. */
struct imb_pending {
	struct xf_crypto_op *op;
	const uint8_t *mac_start;
	struct imb_loan front; /* the aad */
	struct imb_loan behind;
	uint8_t tag[XF_ICV_MAX];
};

/* Jobs are counted by hash; the AEADs among them come behind. */
enum { IMB_CLASS_CCM = XF_AUTH_MAX, IMB_CLASS_CHACHA, IMB_JOB_CLASSES };

struct imb_jobs {
	IMB_MGR *many; /* the widest lanes: right when they are filled */
	IMB_MGR *few; /* for a lone packet; may be @many */
	unsigned in_class[IMB_JOB_CLASSES];
	unsigned count;
	struct imb_pending pending[XF_DONE_MAX];
};

static inline const struct imb_key *imb_key_of(const struct xf_crypto_op *op)
{
	return (const struct imb_key *)(const void *)op->key->expanded;
}

/* Is text and result of @op one segment each? */
static inline bool imb_is_one_piece(const struct xf_crypto_op *op)
{
	return op->nsrc == 1 && op->ndst == 1 && op->src->len >= op->len && op->dst->len >= op->len;
}

/* Hand over or compare the MAC @tag. */
static inline void imb_settle(struct xf_crypto_op *op, const uint8_t *tag)
{
	uint8_t len = op->key->suite.icv_len;

	op->status = XF_CRYPTO_OK;
	if (op->encrypt)
		memcpy(op->icv, tag, len);
	else if (!xf_equal_const_time(op->icv, tag, len))
		op->status = XF_CRYPTO_BAD_ICV;
}

/* Put @op into the batch; false: its layout is none for a job, nothing was done. */
bool xf_imb_jobs_add(struct imb_jobs *jobs, struct xf_crypto_op *op);

/* Do the batch; the operations go to @done. */
void xf_imb_jobs_run(struct imb_jobs *jobs, struct xf_done *done);

#ifdef __cplusplus
}
#endif

#endif
