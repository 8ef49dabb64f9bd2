/*
 * vaes_gcm.h - AES-GCM on 512-bit vectors: what the parts of this provider share.
 *
 * vaes_gcm.c is the provider; it runs on any CPU and asks whether this one can do the rest.
 * vaes_gcm_key.c expands keys, vaes_gcm_short.c does four short packets at a time,
 * vaes_gcm_one.c one packet of any length and, with vaes_gcm_walk.h, any chain. These three are
 * compiled for VAES, VPCLMULQDQ and AVX512 (F, BW, VL): nothing in them may be called before
 * xf_vaes_gcm's usable().
 *
 * A vector is 64 bytes, four blocks. In the first vector of a packet block 0 is the place of the
 * counter block 1, whose cipher text masks the ICV, and of the additional data in the hash; the
 * text begins at block 1. Behind the text comes the block of lengths:
 *
 *     | Y0, aad | text ...        | text ... | rest, zeros | lengths |
 *     '---------- vector 0 -------'-- vector 1 --' ...
 *
 * Threads: keys are constant after their expansion. Lengths are bytes.
 */
#ifndef XF_CRYPTO_VAES_GCM_H
#define XF_CRYPTO_VAES_GCM_H

#include <xf/crypto.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VG_BLOCK 16
#define VG_VECTOR 64
#define VG_POWERS 36 /* for two quads and a block; a whole number of vectors */
#define VG_KINDS 3 /* of keys: 128, 192, 256 bits */
#define VG_GROUP 4 /* most short packets done together */
#define VG_SHORT_VECTORS 6 /* most that a short packet has */

/*
 * A short packet reads the end of the powers and what is behind them: five cache lines in a row for
 * 68 bytes and 128 bits, with all that is asked of the suite. A vector of powers that begins with a
 * low one reads past their end, for blocks that are zero.
 */
struct vg_key {
	uint8_t power[VG_POWERS][VG_BLOCK]; /* of the hash key: 36th to first */
	uint8_t kind; /* below VG_KINDS */
	uint8_t rounds;
	uint8_t icv_len;
	/* As many as the cipher has rounds, and one: keys are no longer than that. */
	uint8_t round[15][VG_BLOCK] __attribute__((aligned(VG_BLOCK)));
};

/* Of the cipher with a key of @len bytes. */
static inline unsigned vg_rounds_of(unsigned len)
{
	return len / 4 + 6;
}

_Static_assert(offsetof(struct xf_key, expanded) % 64 == 0, "vectors of powers are aligned");
_Static_assert(offsetof(struct vg_key, round[11]) % 64 == 0, "keys of 128 bits end with a line");

static inline const struct vg_key *vg_key_of(const struct xf_crypto_op *op)
{
	return (const struct vg_key *)(const void *)op->key->expanded;
}

static inline unsigned vg_rounds(const struct xf_crypto_op *op)
{
	return vg_key_of(op)->rounds;
}

/* Packets that are done together: their vectors are not more than there are registers for. */
static inline unsigned vg_group(unsigned vectors)
{
	return vectors <= 3 ? 4 : 2;
}

static inline uint32_t vg_blocks(uint32_t len)
{
	return (len + VG_BLOCK - 1) / VG_BLOCK;
}

void xf_vaes_gcm_expand(struct vg_key *out, const struct xf_key *key);

/*
 * Of short packets the text and the hash wait until the key stream of the next ones is made: rounds
 * and products use the same units of the CPU, and each alone would wait for its own results. So
 * they are done only when the next ones with as many vectors were given, or the end was told, which
 * leaves nothing here. What stays behind is no secret to who may read the texts.
 */
struct vg_short {
	uint8_t stream[VG_GROUP][VG_SHORT_VECTORS][VG_VECTOR] __attribute__((aligned(64)));
	struct xf_crypto_op *ops[VG_GROUP];
	bool filled;
};

/*
 * vg_group(@vectors) operations whose packets have @vectors vectors and keys of the same length,
 * source and destination one piece each, aad of at most one block. @pending: for groups with as
 * many vectors.
 */
void xf_vaes_gcm_short(struct xf_crypto_op *const *ops, unsigned vectors, struct vg_short *pending);
void xf_vaes_gcm_short_end(unsigned vectors, struct vg_short *pending);

/* Any operation. */
void xf_vaes_gcm_one(struct xf_crypto_op *op);

#ifdef __cplusplus
}
#endif

#endif
