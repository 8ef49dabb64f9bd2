#include "crypto/vaes_gcm_math.h"

/*
 * The latencies of one packet's rounds are filled with those of three others, or one, and with the
 * texts and products of the group before, which wait in struct vg_short. Every packet has its own
 * key; directions may differ.
 */
struct shape {
	unsigned packets; /* 4, or 2 */
	unsigned vectors; /* of each */
};

struct group {
	const struct vg_key *key[VG_GROUP];
	__m512i state[VG_GROUP][VG_SHORT_VECTORS]; /* counters, then key stream */
	struct vg_sum sum[VG_GROUP]; /* of the group before */
};

XF_INLINE void start(struct group *g, struct xf_crypto_op *const *ops, const struct shape *shape)
{
	VG_UNROLL for (unsigned p = 0; p < shape->packets; p++)
	{
		__m512i base;

		g->key[p] = vg_key_of(ops[p]);
		base = _mm512_xor_si512(vg_nonce(ops[p]), vg_block_everywhere(g->key[p]->round[0]));
		VG_UNROLL for (unsigned i = 0; i < shape->vectors; i++) g->state[p][i] =
			_mm512_xor_si512(base, vg_counters(i));
	}
}

XF_INLINE void one_round(struct group *g, const struct shape *shape, unsigned round)
{
	VG_UNROLL for (unsigned p = 0; p < shape->packets; p++)
	{
		__m512i key = vg_block_everywhere(g->key[p]->round[round]);

		VG_UNROLL for (unsigned i = 0; i < shape->vectors; i++) g->state[p][i] =
			_mm512_aesenc_epi128(g->state[p][i], key);
	}
}

/* Keep the key streams, for finish(). */
XF_INLINE void last_round(const struct group *g, struct xf_crypto_op *const *ops,
			  const struct shape *shape, struct vg_short *pending)
{
	unsigned last = vg_rounds(ops[0]);

	VG_UNROLL for (unsigned p = 0; p < shape->packets; p++)
	{
		__m512i key = vg_block_everywhere(g->key[p]->round[last]);

		VG_UNROLL for (unsigned i = 0; i < shape->vectors; i++) _mm512_store_si512(
			pending->stream[p][i], _mm512_aesenclast_epi128(g->state[p][i], key));
		pending->ops[p] = ops[p];
	}
	pending->filled = true;
}

/* What is read of an operation, before the first store: the compiler would read it again. */
struct text {
	const uint8_t *in; /* where the first vector would begin */
	uint8_t *out;
	const uint8_t *powers;
	__m128i aad;
	__m128i lengths;
	uint32_t end; /* in bytes from the first vector's */
	uint32_t blocks; /* with aad and lengths */
	bool encrypt;
};

XF_INLINE struct text text_of(const struct xf_crypto_op *op)
{
	uint32_t blocks = vg_blocks(op->len) + 2;

	return (struct text){
		.in = op->src->data - VG_BLOCK,
		.out = op->dst->data - VG_BLOCK,
		.powers = vg_powers(vg_key_of(op), blocks),
		.aad = vg_aad(op),
		.lengths = vg_lengths(op),
		.end = op->len + VG_BLOCK,
		.blocks = blocks,
		.encrypt = op->encrypt,
	};
}

/* The bytes of vector @i that are text; only the first and the last two can lack some. */
XF_INLINE __mmask64 text_mask(const struct text *text, unsigned i, unsigned vectors)
{
	__mmask64 mask = UINT64_MAX;

	if (i + 2 >= vectors)
		mask = vg_mask(text->end > i * VG_VECTOR ? text->end - i * VG_VECTOR : 0);
	return i == 0 ? mask & ~(__mmask64)0xffff : mask;
}

/* Cipher one vector: what is hashed. */
XF_INLINE __m512i cipher(const struct text *text, unsigned i, unsigned vectors, __m512i stream)
{
	__mmask64 mask = text_mask(text, i, vectors);
	__m512i bytes = _mm512_maskz_loadu_epi8(mask, text->in + i * VG_VECTOR);
	__m512i out = _mm512_xor_si512(bytes, stream);

	_mm512_mask_storeu_epi8(text->out + i * VG_VECTOR, mask, out);
	return text->encrypt ? _mm512_maskz_mov_epi8(mask, out) : bytes;
}

/* Vector @i of a packet of the group before: cipher the text, and add its product to the hash. */
XF_INLINE void finish(const struct text *text, unsigned i, unsigned vectors, __m512i stream,
		      struct vg_sum *sum)
{
	__m512i hashed = cipher(text, i, vectors, stream);
	struct vg_sum product;

	if (i == 0)
		hashed = _mm512_or_si512(hashed, _mm512_zextsi128_si512(text->aad));
	hashed = vg_reverse(hashed);
	if (i == vectors - 1)
		hashed = vg_put_block(hashed, (text->blocks - 1) % 4, text->lengths);
	product = vg_multiply(hashed, _mm512_loadu_si512(text->powers + i * VG_VECTOR));
	if (i == 0)
		*sum = product;
	else
		vg_add(sum, &product);
}

XF_INLINE void settle(const struct vg_short *pending, unsigned p, __m128i hash)
{
	const __m128i *mask = (const __m128i *)(const void *)pending->stream[p][0];

	vg_settle(pending->ops[p], _mm_xor_si128(hash, _mm_load_si128(mask)));
}

/* Four packets' sums are added up across the vectors, and reduced as the blocks of one. */
XF_INLINE void settle_four(const struct vg_short *pending, const struct vg_sum *sums)
{
	__m512i low[4], mid[4], high[4], hash;
	struct vg_sum sum;

	VG_UNROLL for (unsigned p = 0; p < 4; p++)
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

XF_INLINE void settle_all(const struct vg_short *pending, const struct shape *shape,
			  const struct vg_sum *sums)
{
	if (shape->packets == 4) {
		settle_four(pending, sums);
		return;
	}
	VG_UNROLL for (unsigned p = 0; p < 2; p++)
	{
		__m512i hash = _mm512_zextsi128_si512(vg_reduce_to_one(&sums[p]));

		settle(pending, p, _mm512_castsi512_si128(vg_reverse(hash)));
	}
}

/* Rounds that are shared out among the pending vectors; the rest comes behind. */
#define SHARED_ROUNDS 8

XF_INLINE void rounds_and_finish(struct group *g, const struct vg_short *pending,
				 const struct shape *shape)
{
	unsigned all = shape->packets * shape->vectors;
	struct text text;

	VG_UNROLL for (unsigned v = 0; v < all; v++)
	{
		unsigned from = v * SHARED_ROUNDS / all;
		unsigned to = (v + 1) * SHARED_ROUNDS / all;
		unsigned p = v / shape->vectors;
		unsigned i = v % shape->vectors;

		if (from < to)
			one_round(g, shape, from + 1);
		if (i == 0)
			text = text_of(pending->ops[p]);
		finish(&text, i, shape->vectors, _mm512_load_si512(pending->stream[p][i]),
		       &g->sum[p]);
		if (from + 1 < to)
			one_round(g, shape, from + 2);
	}
}

XF_INLINE void end(struct vg_short *pending, unsigned packets, unsigned vectors)
{
	const struct shape shape = { packets, vectors };
	struct vg_sum sums[VG_GROUP];

	VG_UNROLL for (unsigned p = 0; p < packets; p++)
	{
		struct text text = text_of(pending->ops[p]);

		VG_UNROLL for (unsigned i = 0; i < vectors; i++) finish(
			&text, i, vectors, _mm512_load_si512(pending->stream[p][i]), &sums[p]);
	}
	settle_all(pending, &shape, sums);
	pending->filled = false;
}

/* No @ops: only what is pending. */
XF_INLINE void run(struct xf_crypto_op *const *ops, unsigned packets, unsigned vectors,
		   struct vg_short *pending)
{
	const struct shape shape = { packets, vectors };
	unsigned rounds;
	struct group g;

	if (!ops) {
		end(pending, packets, vectors);
		return;
	}
	rounds = vg_rounds(ops[0]);
	start(&g, ops, &shape);
	if (pending->filled) {
		rounds_and_finish(&g, pending, &shape);
		settle_all(pending, &shape, g.sum);
	} else {
		for (unsigned i = 1; i <= SHARED_ROUNDS; i++)
			one_round(&g, &shape, i);
	}
	for (unsigned i = SHARED_ROUNDS + 1; i < rounds; i++)
		one_round(&g, &shape, i);
	last_round(&g, ops, &shape, pending);
}

void xf_vaes_gcm_short(struct xf_crypto_op *const *ops, unsigned vectors, struct vg_short *pending)
{
	switch (vectors) {
	case 1:
		run(ops, 4, 1, pending);
		break;
	case 2:
		run(ops, 4, 2, pending);
		break;
	case 3:
		run(ops, 4, 3, pending);
		break;
	case 4:
		run(ops, 2, 4, pending);
		break;
	case 5:
		run(ops, 2, 5, pending);
		break;
	default:
		run(ops, 2, 6, pending);
		break;
	}
}

void xf_vaes_gcm_short_end(unsigned vectors, struct vg_short *pending)
{
	if (pending->filled)
		xf_vaes_gcm_short(NULL, vectors, pending);
}
