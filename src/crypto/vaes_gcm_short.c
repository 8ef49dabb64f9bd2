#include "crypto/vaes_gcm_math.h"

/*
 * The latencies of one packet's rounds are filled with those of three others, and with the
 * texts and products of the group before, which wait in @pending. Every packet has its own key; directions
 * may differ.
 */
struct group {
	const struct vg_key *key[VG_GROUP];
	__m512i state[VG_GROUP][VG_SHORT_VECTORS]; /* counters, then key stream */
	struct vg_sum sum[VG_GROUP]; /* of the group before */
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

/* Keep the key streams, for finish(). */
VG_INLINE void last_round(const struct group *g, struct xf_crypto_op *const *ops, unsigned vectors,
			  struct vg_short *pending)
{
	unsigned last = vg_rounds(ops[0]);

	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		__m512i key = vg_block_everywhere(g->key[p]->round[last]);

		VG_UNROLL for (unsigned i = 0; i < vectors; i++) _mm512_store_si512(
			pending->stream[p][i], _mm512_aesenclast_epi128(g->state[p][i], key));
		pending->ops[p] = ops[p];
	}
	pending->filled = true;
}

/* The bytes of vector @i that are text. */
VG_INLINE __mmask64 text_mask(const struct xf_crypto_op *op, unsigned i)
{
	uint32_t end = op->len + VG_BLOCK;
	__mmask64 mask = vg_mask(end > i * VG_VECTOR ? end - i * VG_VECTOR : 0);

	return i == 0 ? mask & ~(__mmask64)0xffff : mask;
}

/* Cipher one vector: what is hashed. */
VG_INLINE __m512i text(const struct xf_crypto_op *op, unsigned i, __m512i stream)
{
	__mmask64 mask = text_mask(op, i);
	__m512i bytes = _mm512_maskz_loadu_epi8(mask, op->src->data - VG_BLOCK + i * VG_VECTOR);
	__m512i out = _mm512_xor_si512(bytes, stream);

	_mm512_mask_storeu_epi8(op->dst->data - VG_BLOCK + i * VG_VECTOR, mask, out);
	return op->encrypt ? _mm512_maskz_mov_epi8(mask, out) : bytes;
}

/* Packet @p of the group before: cipher the text, and add up the products of its hash. */
VG_INLINE void finish(const struct vg_short *pending, unsigned p, unsigned vectors,
		      struct vg_sum *sum)
{
	const struct xf_crypto_op *op = pending->ops[p];
	uint32_t blocks = vg_blocks(op->len) + 2; /* with aad and lengths */
	const uint8_t *powers = vg_powers(vg_key_of(op), blocks);
	struct vg_sum product[VG_SHORT_VECTORS];

	VG_UNROLL for (unsigned i = 0; i < vectors; i++)
	{
		__m512i hashed = text(op, i, _mm512_load_si512(pending->stream[p][i]));

		if (i == 0)
			hashed = _mm512_or_si512(hashed, _mm512_zextsi128_si512(vg_aad(op)));
		hashed = vg_reverse(hashed);
		if (i == vectors - 1)
			hashed = vg_put_block(hashed, (blocks - 1) % 4, vg_lengths(op));
		product[i] = vg_multiply(hashed, _mm512_loadu_si512(powers + i * VG_VECTOR));
	}
	*sum = product[0];
	if (vectors == 2)
		vg_add(sum, &product[1]);
	if (vectors == 3)
		vg_add_two(sum, &product[1], &product[2]);
}

VG_INLINE void settle(const struct vg_short *pending, unsigned p, __m128i hash)
{
	vg_settle(pending->ops[p], hash, pending->stream[p][0]);
}

/* Four packets' sums are added up across the vectors, and reduced as the blocks of one. */
VG_INLINE void settle_all(const struct vg_short *pending, const struct vg_sum sums[VG_GROUP])
{
	__m512i low[VG_GROUP], mid[VG_GROUP], high[VG_GROUP], hash;
	struct vg_sum sum;

	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
	{
		low[p] = sums[p].low;
		mid[p] = sums[p].mid;
		high[p] = sums[p].high;
	}
	sum.low = vg_add_blocks_of_four(low);
	sum.mid = vg_add_blocks_of_four(mid);
	sum.high = vg_add_blocks_of_four(high);
	hash = vg_reverse(vg_reduce(&sum));
	settle(pending, 0, _mm512_castsi512_si128(hash));
	settle(pending, 1, _mm512_extracti32x4_epi32(hash, 1));
	settle(pending, 2, _mm512_extracti32x4_epi32(hash, 2));
	settle(pending, 3, _mm512_extracti32x4_epi32(hash, 3));
}

VG_INLINE void run(struct xf_crypto_op *const *ops, unsigned vectors, struct vg_short *pending)
{
	unsigned rounds = vg_rounds(ops[0]);
	struct group g;

	start(&g, ops, vectors);
	if (pending->filled) {
		VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++)
		{
			one_round(&g, vectors, 2 * p + 1);
			finish(pending, p, vectors, &g.sum[p]);
			one_round(&g, vectors, 2 * p + 2);
		}
		settle_all(pending, g.sum);
	} else {
		for (unsigned i = 1; i <= 2 * VG_GROUP; i++)
			one_round(&g, vectors, i);
	}
	for (unsigned i = 2 * VG_GROUP + 1; i < rounds; i++)
		one_round(&g, vectors, i);
	last_round(&g, ops, vectors, pending);
}

VG_INLINE void end(struct vg_short *pending, unsigned vectors)
{
	struct vg_sum sums[VG_GROUP];

	VG_UNROLL for (unsigned p = 0; p < VG_GROUP; p++) finish(pending, p, vectors, &sums[p]);
	settle_all(pending, sums);
	pending->filled = false;
}

void xf_vaes_gcm_short(struct xf_crypto_op *const *ops, unsigned vectors, struct vg_short *pending)
{
	if (vectors == 1)
		run(ops, 1, pending);
	else if (vectors == 2)
		run(ops, 2, pending);
	else
		run(ops, 3, pending);
}

void xf_vaes_gcm_short_end(unsigned vectors, struct vg_short *pending)
{
	if (!pending->filled)
		return;
	if (vectors == 1)
		end(pending, 1);
	else if (vectors == 2)
		end(pending, 2);
	else
		end(pending, 3);
}
