#include "crypto/vaes_gcm_math.h"

#define CHUNK (4 * VG_VECTOR) /* bytes that are worked on together */

/* One side of the text: a chain, and the place in it. */
struct side {
	uint8_t *at;
	uint32_t run; /* bytes in a row from here */
	uint32_t nsegs; /* behind these */
	const struct xf_seg *next;
};

/* A packet under way. */
struct packet {
	struct side in;
	struct side out;
	const struct vg_key *key;
	__m512i base; /* nonce under the first round key */
	__m128i mask; /* of the ICV: the cipher of Y0 */
	uint32_t left; /* of the text */
	uint32_t counter; /* of the next block, less 1 */
	unsigned rounds;
	__mmask64 hash_output; /* all ones: what is hashed is what is written */
};

/* False: the chain is shorter than the text. */
static bool side_init(struct side *side, const struct xf_seg *segs, uint32_t nsegs, uint32_t len)
{
	uint64_t all = 0;

	*side = (struct side){ .nsegs = nsegs, .next = segs };
	for (uint32_t i = 0; i < nsegs && all < len; i++)
		all += segs[i].len;
	return all >= len;
}

/* Go on to the next segment that has bytes. */
static void side_next(struct side *side)
{
	while (side->run == 0 && side->nsegs > 0) {
		side->at = side->next->data;
		side->run = side->next->len;
		side->next++;
		side->nsegs--;
	}
}

/* The next @n bytes, from as many segments as they are in, to byte @at and on of a vector. */
static __attribute__((noinline)) __m512i gather(struct side *side, unsigned at, uint32_t n)
{
	__m512i v = _mm512_setzero_si512();

	while (n > 0) {
		uint32_t some;

		side_next(side);
		some = xf_min_u32(n, side->run);
		v = _mm512_mask_loadu_epi8(v, vg_mask(some) << at, side->at - at);
		side->at += some;
		side->run -= some;
		at += some;
		n -= some;
	}
	return v;
}

static __attribute__((noinline)) void scatter(struct side *side, unsigned at, uint32_t n, __m512i v)
{
	while (n > 0) {
		uint32_t some;

		side_next(side);
		some = xf_min_u32(n, side->run);
		_mm512_mask_storeu_epi8(side->at - at, vg_mask(some) << at, v);
		side->at += some;
		side->run -= some;
		at += some;
		n -= some;
	}
}

/* The next @n bytes to byte @at and on; zeros around them. */
VG_INLINE __m512i take(struct side *side, unsigned at, uint32_t n)
{
	__m512i v;

	if (XF_UNLIKELY(side->run < n))
		return gather(side, at, n);
	v = _mm512_maskz_loadu_epi8(vg_mask(n) << at, side->at - at);
	side->at += n;
	side->run -= n;
	return v;
}

VG_INLINE void give(struct side *side, unsigned at, uint32_t n, __m512i v)
{
	if (XF_UNLIKELY(side->run < n)) {
		scatter(side, at, n, v);
		return;
	}
	_mm512_mask_storeu_epi8(side->at - at, vg_mask(n) << at, v);
	side->at += n;
	side->run -= n;
}

/*
 * The next counters, under the first round key. A block's number is XORed into a counter whose low
 * four bits are zero, which is what adding does up to the 15th; the 16th has the next such counter.
 */
VG_INLINE void counters(struct packet *pk, __m512i *state, unsigned vectors)
{
	const __mmask16 places = 0x8888; /* the last word of each block */
	__m512i base = _mm512_xor_si512(
		pk->base, _mm512_maskz_set1_epi32(places, (int)__builtin_bswap32(pk->counter)));

	pk->counter += 16;
	VG_UNROLL for (unsigned i = 0; i < vectors; i++) state[i] =
		_mm512_xor_si512(base, vg_counters(i));
	if (vectors == 4)
		state[3] = _mm512_mask_xor_epi32(
			state[3], 0xf000, pk->base,
			_mm512_maskz_set1_epi32(places, (int)__builtin_bswap32(pk->counter)));
}

VG_INLINE void one_round(const struct packet *pk, __m512i *state, unsigned vectors, unsigned round)
{
	__m512i key = vg_block_everywhere(pk->key->round[round]);

	VG_UNROLL for (unsigned i = 0; i < vectors; i++) state[i] =
		_mm512_aesenc_epi128(state[i], key);
}

VG_INLINE void last_rounds(const struct packet *pk, __m512i *state, unsigned vectors, unsigned from)
{
	__m512i key = vg_block_everywhere(pk->key->round[pk->rounds]);

	for (unsigned i = from; i < pk->rounds; i++)
		one_round(pk, state, vectors, i);
	VG_UNROLL for (unsigned i = 0; i < vectors; i++) state[i] =
		_mm512_aesenclast_epi128(state[i], key);
}

/* What of the text is in the next vector, from byte @at on. */
VG_INLINE uint32_t part(struct packet *pk, unsigned at)
{
	uint32_t n = xf_min_u32(pk->left, VG_VECTOR - at);

	pk->left -= n;
	return n;
}

/*
 * Cipher the next @vectors vectors of text; the first begins at byte @at. To @blocks goes what is
 * hashed, reversed.
 */
VG_INLINE void cipher(struct packet *pk, unsigned vectors, unsigned at, __m512i *blocks)
{
	__m512i state[4];

	counters(pk, state, vectors);
	last_rounds(pk, state, vectors, 1);
	if (at)
		pk->mask = _mm512_castsi512_si128(state[0]);
	VG_UNROLL for (unsigned i = 0; i < vectors; i++)
	{
		unsigned from = i == 0 ? at : 0;
		uint32_t n = part(pk, from);
		__m512i bytes = take(&pk->in, from, n);

		give(&pk->out, from, n, _mm512_xor_si512(bytes, state[i]));
		blocks[i] = vg_reverse(_mm512_xor_si512(
			bytes,
			_mm512_maskz_mov_epi8(pk->hash_output & vg_mask(n) << from, state[i])));
	}
}

/* The hash so far, when @blocks are the next, @left of them to the end of the run. */
VG_INLINE __m128i hash(const struct packet *pk, const __m512i *blocks, unsigned vectors,
		       uint32_t left)
{
	struct vg_sum sum = vg_multiply(blocks[0], vg_powers(pk->key, left));

	VG_UNROLL for (unsigned i = 1; i < vectors; i++)
		vg_add_product(&sum, blocks[i], vg_powers(pk->key, left - 4 * i));
	return vg_reduce_to_one(&sum);
}

VG_INLINE void add_to_first(__m512i *blocks, __m128i hash)
{
	blocks[0] = _mm512_xor_si512(blocks[0], _mm512_zextsi128_si512(hash));
}

/* A chunk that is full, but for some bytes at most, while the hash of the last one is made. */
VG_INLINE void cipher_and_hash(struct packet *pk, __m512i *blocks)
{
	const __mmask8 hash_output = (__mmask8)pk->hash_output;
	__m512i state[4], bytes[4];
	struct vg_sum sum;
	uint32_t n = xf_min_u32(pk->left, CHUNK) - 3 * VG_VECTOR;

	counters(pk, state, 4);
	VG_UNROLL for (unsigned i = 0; i < 3; i++) bytes[i] = take(&pk->in, 0, VG_VECTOR);
	bytes[3] = take(&pk->in, 0, n);
	one_round(pk, state, 4, 1);
	sum = vg_multiply(blocks[1], vg_powers(pk->key, 12));
	one_round(pk, state, 4, 2);
	one_round(pk, state, 4, 3);
	vg_add_product(&sum, blocks[2], vg_powers(pk->key, 8));
	one_round(pk, state, 4, 4);
	one_round(pk, state, 4, 5);
	vg_add_product(&sum, blocks[3], vg_powers(pk->key, 4));
	one_round(pk, state, 4, 6);
	one_round(pk, state, 4, 7);
	vg_add_product(&sum, blocks[0], vg_powers(pk->key, 16));
	last_rounds(pk, state, 4, 8);
	VG_UNROLL for (unsigned i = 0; i < 3; i++)
	{
		give(&pk->out, 0, VG_VECTOR, _mm512_xor_si512(bytes[i], state[i]));
		blocks[i] = vg_reverse(
			_mm512_xor_si512(bytes[i], _mm512_maskz_mov_epi64(hash_output, state[i])));
	}
	give(&pk->out, 0, n, _mm512_xor_si512(bytes[3], state[3]));
	blocks[3] = vg_reverse(_mm512_xor_si512(
		bytes[3], _mm512_maskz_mov_epi8(pk->hash_output & vg_mask(n), state[3])));
	pk->left -= 3 * VG_VECTOR + n;
	add_to_first(blocks, vg_reduce_to_one(&sum));
}

/* The last vectors, lengths included; @before goes in front. Returns the whole hash. */
VG_INLINE __m128i cipher_end(struct packet *pk, const struct xf_crypto_op *op, unsigned vectors,
			     unsigned at, __m128i before)
{
	uint32_t count = vg_blocks(pk->left) + 1 + at / VG_BLOCK;
	__m512i blocks[4];

	cipher(pk, vectors, at, blocks);
	blocks[vectors - 1] = vg_put_block(blocks[vectors - 1], (count - 1) % 4, vg_lengths(op));
	add_to_first(blocks, before); /* the block of lengths may be the first */
	return hash(pk, blocks, vectors, count);
}

VG_INLINE __m128i cipher_end_by_length(struct packet *pk, const struct xf_crypto_op *op,
				       unsigned at, __m128i before)
{
	uint32_t count = vg_blocks(pk->left) + 1 + at / VG_BLOCK;

	if (count <= 4)
		return cipher_end(pk, op, 1, at, before);
	if (count <= 8)
		return cipher_end(pk, op, 2, at, before);
	if (count <= 12)
		return cipher_end(pk, op, 3, at, before);
	return cipher_end(pk, op, 4, at, before);
}

/* The additional data as one reversed block: of more, the hash of the first added to the rest. */
static __m128i aad_block(const struct xf_crypto_op *op, const struct vg_key *key)
{
	uint32_t rest = op->aad_len > VG_BLOCK ? op->aad_len - VG_BLOCK : 0;
	__m512i blocks = _mm512_zextsi128_si512(vg_aad(op));
	struct vg_sum sum;

	if (rest == 0)
		return _mm512_castsi512_si128(vg_reverse(blocks));
	sum = vg_multiply(vg_reverse(blocks),
			  _mm512_zextsi128_si512(_mm_load_si128(
				  (const __m128i *)(const void *)key->power[VG_POWERS - 1])));
	blocks = _mm512_zextsi128_si512(
		_mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(0xffff, rest), op->aad + VG_BLOCK));
	return _mm_xor_si128(_mm512_castsi512_si128(vg_reverse(blocks)), vg_reduce_to_one(&sum));
}

/* Most text whose lengths fit into the first four vectors. */
#define ONE_CHUNK (14 * VG_BLOCK)

/* Least text that needs four vectors from byte 0 on, lengths not counted. */
#define NEXT_CHUNK (CHUNK - VG_BLOCK + 1)

static __m128i whole(struct packet *pk, const struct xf_crypto_op *op)
{
	__m128i before = aad_block(op, pk->key);
	__m512i blocks[4];

	if (pk->left <= ONE_CHUNK)
		return cipher_end_by_length(pk, op, VG_BLOCK, before);
	cipher(pk, 4, VG_BLOCK, blocks);
	add_to_first(blocks, before);
	while (pk->left >= NEXT_CHUNK)
		cipher_and_hash(pk, blocks);
	before = hash(pk, blocks, 4, 16);
	return cipher_end_by_length(pk, op, 0, before);
}

void xf_vaes_gcm_one(struct xf_crypto_op *op)
{
	const struct vg_key *key = vg_key_of(op);
	struct packet pk = {
		.key = key,
		.base = _mm512_xor_si512(vg_nonce(op), vg_block_everywhere(key->round[0])),
		.left = op->len,
		.rounds = vg_rounds(op),
		.hash_output = op->encrypt ? UINT64_MAX : 0,
	};
	__m512i hash;

	if (!side_init(&pk.in, op->src, op->nsrc, op->len) ||
	    !side_init(&pk.out, op->dst, op->ndst, op->len)) {
		op->status = XF_CRYPTO_ERROR;
		return;
	}
	side_next(&pk.in);
	side_next(&pk.out);
	hash = vg_reverse(_mm512_zextsi128_si512(whole(&pk, op)));
	vg_settle(op, _mm_xor_si128(_mm512_castsi512_si128(hash), pk.mask));
}
