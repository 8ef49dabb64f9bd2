#include "crypto/vaes_gcm_math.h"

/*
 * The latencies of one packet's rounds and products are filled with those of three others. Every
 * packet has its own key; directions may differ.
 */
struct group {
	const struct vg_key *key[VG_GROUP];
	__m512i state[VG_GROUP][VG_SHORT_VECTORS]; /* counters, then key stream */
	struct vg_sum sum[VG_GROUP];
};

VG_INLINE void start(struct group *g, struct xf_crypto_op *const *ops, unsigned vectors)
{
	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		__m512i base;

		g->key[p] = vg_key_of(ops[p]);
		base = _mm512_xor_si512(vg_nonce(ops[p]), vg_block_everywhere(g->key[p]->round[0]));
		VG_UNROLL for (unsigned i = 0; i < vectors; i++) g->state[p][i] =
			_mm512_xor_si512(base, vg_counters(i));
	}
}

VG_INLINE void one_round(struct group *g, unsigned vectors, unsigned round)
{
	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		__m512i key = vg_block_everywhere(g->key[p]->round[round]);

		VG_UNROLL for (unsigned i = 0; i < vectors; i++) g->state[p][i] =
			_mm512_aesenc_epi128(g->state[p][i], key);
	}
}

VG_INLINE void last_round(struct group *g, unsigned vectors, unsigned round)
{
	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		__m512i key = vg_block_everywhere(g->key[p]->round[round]);

		VG_UNROLL for (unsigned i = 0; i < vectors; i++) g->state[p][i] =
			_mm512_aesenclast_epi128(g->state[p][i], key);
	}
}

/* Packet @p: cipher the text and add up the products of its hash. */
VG_INLINE void text(struct group *g, const struct xf_crypto_op *op, unsigned p, unsigned vectors)
{
	const uint8_t *in = op->src->data - VG_BLOCK;
	uint8_t *out = op->dst->data - VG_BLOCK;
	uint32_t blocks = vg_blocks(op->len) + 2; /* with aad and lengths */
	uint64_t hash_output = op->encrypt ? UINT64_MAX : 0;

	VG_UNROLL for (unsigned i = 0; i < vectors; i++)
	{
		uint32_t end = op->len + VG_BLOCK;
		__mmask64 mask = vg_mask(end > i * VG_VECTOR ? end - i * VG_VECTOR : 0);
		__m512i bytes, hashed;

		if (i == 0)
			mask &= ~(__mmask64)0xffff;
		bytes = _mm512_maskz_loadu_epi8(mask, in + i * VG_VECTOR);
		_mm512_mask_storeu_epi8(out + i * VG_VECTOR, mask,
					_mm512_xor_si512(bytes, g->state[p][i]));
		hashed = _mm512_xor_si512(
			bytes, _mm512_maskz_mov_epi8(mask & hash_output, g->state[p][i]));
		if (i == 0)
			hashed = _mm512_or_si512(hashed, _mm512_zextsi128_si512(vg_aad(op)));
		hashed = vg_reverse(hashed);
		if (i == vectors - 1)
			hashed = vg_put_block(hashed, (blocks - 1) % 4, vg_lengths(op));
		if (i == 0)
			g->sum[p] = vg_multiply(hashed, vg_powers(g->key[p], blocks));
		else
			vg_add_product(&g->sum[p], hashed, vg_powers(g->key[p], blocks - 4 * i));
	}
}

/* Four packets' sums are added up across the vectors, and reduced as the blocks of one. */
VG_INLINE __m512i hashes(const struct group *g)
{
	__m512i low[VG_GROUP], mid[VG_GROUP], high[VG_GROUP];
	struct vg_sum sum;

	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		low[p] = g->sum[p].low;
		mid[p] = g->sum[p].mid;
		high[p] = g->sum[p].high;
	}
	sum.low = vg_add_blocks_of_four(low);
	sum.mid = vg_add_blocks_of_four(mid);
	sum.high = vg_add_blocks_of_four(high);
	return vg_reverse(vg_reduce(&sum));
}

/* @stream: the key stream of the packet's first vector. */
VG_INLINE void finish(struct xf_crypto_op *op, __m128i hash, __m512i stream)
{
	vg_settle(op, _mm_xor_si128(hash, _mm512_castsi512_si128(stream)));
}

VG_INLINE void run(struct xf_crypto_op *const *ops, unsigned vectors)
{
	unsigned rounds = vg_rounds(ops[0]);
	struct group g;
	__m512i hash;

	start(&g, ops, vectors);
	for (unsigned i = 1; i < rounds; i++)
		one_round(&g, vectors, i);
	last_round(&g, vectors, rounds);
	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++) text(&g, ops[p], p, vectors);
	hash = hashes(&g);
	finish(ops[0], _mm512_castsi512_si128(hash), g.state[0][0]);
	finish(ops[1], _mm512_extracti32x4_epi32(hash, 1), g.state[1][0]);
	finish(ops[2], _mm512_extracti32x4_epi32(hash, 2), g.state[2][0]);
	finish(ops[3], _mm512_extracti32x4_epi32(hash, 3), g.state[3][0]);
}

void xf_vaes_gcm_short(struct xf_crypto_op *const *ops, unsigned vectors)
{
	if (vectors == 1)
		run(ops, 1);
	else if (vectors == 2)
		run(ops, 2);
	else
		run(ops, 3);
}
