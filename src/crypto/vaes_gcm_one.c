#include "crypto/vaes_gcm_math.h"

#define STEP_BYTES (VG_STEP * VG_VECTOR)

/* One side of the text: a chain, and the place in it. */
struct side {
	uint8_t *at;
	uint32_t run; /* bytes in a row from here */
	uint32_t nsegs; /* behind these */
	const struct xf_seg *next;
};

/* A packet under way. */
struct packet {
	struct xf_crypto_op *op;
	const struct vg_key *key;
	struct side in;
	struct side out;
	__m512i base; /* nonce under the first round key */
	__m128i icv_mask; /* the cipher of Y0 */
	uint32_t left; /* of the text */
	uint32_t counter; /* of the next block, less 1 */
	unsigned rounds;
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

static void side_skip(struct side *side, uint32_t n)
{
	side->at += n;
	side->run -= n;
}

/*
 * The next @n bytes to byte @at and on of @vectors: through masks, nothing beside them is read.
 * What is around them in the vectors is no matter, text_mask() leaves it out.
 */
static __attribute__((noinline)) void gather(struct side *side, uint32_t at, uint32_t n,
					     __m512i *vectors)
{
	__m512i v = _mm512_setzero_si512();
	uint32_t some;

	for (; n > 0; n -= some) {
		side_next(side);
		some = xf_min_u32(xf_min_u32(n, side->run), VG_VECTOR - at % VG_VECTOR);
		v = _mm512_mask_loadu_epi8(v, vg_mask(some) << at % VG_VECTOR,
					   side->at - at % VG_VECTOR);
		vectors[at / VG_VECTOR] = v;
		side_skip(side, some);
		at += some;
	}
}

static __attribute__((noinline)) void scatter(struct side *side, uint32_t at, uint32_t n,
					      const __m512i *vectors)
{
	uint32_t some;

	for (; n > 0; n -= some) {
		side_next(side);
		some = xf_min_u32(xf_min_u32(n, side->run), VG_VECTOR - at % VG_VECTOR);
		_mm512_mask_storeu_epi8(side->at - at % VG_VECTOR, vg_mask(some) << at % VG_VECTOR,
					vectors[at / VG_VECTOR]);
		side_skip(side, some);
		at += some;
	}
}

/*
 * The next counters, under the first round key. A block's number is XORed into a counter whose low
 * five bits are zero, which is what adding does up to the 31st; the 32nd has the next such counter.
 */
VG_INLINE void counters(const struct packet *pk, __m512i *state, unsigned vectors)
{
	const __mmask16 places = 0x8888; /* the last word of each block */
	__m512i base = _mm512_xor_si512(
		pk->base, _mm512_maskz_set1_epi32(places, (int)__builtin_bswap32(pk->counter)));

	VG_UNROLL for (unsigned i = 0; i < vectors; i++) state[i] =
		_mm512_xor_si512(base, vg_counters(i));
	if (vectors == VG_STEP)
		state[VG_STEP - 1] = _mm512_mask_xor_epi32(
			state[VG_STEP - 1], 0xf000, pk->base,
			_mm512_maskz_set1_epi32(places,
						(int)__builtin_bswap32(pk->counter + VG_POWERS)));
}

VG_INLINE void one_round(const struct packet *pk, __m512i *state, unsigned vectors, unsigned round)
{
	__m512i key = vg_block_everywhere(pk->key->round[round]);

	VG_UNROLL for (unsigned i = 0; i < vectors; i++) state[i] =
		_mm512_aesenc_epi128(state[i], key);
}

/* The product of vector @i of those that wait for their hash. */
VG_INLINE struct vg_sum product(const struct vg_pending *pending, unsigned i)
{
	return vg_multiply(_mm512_load_si512(pending->blocks[i]),
			   _mm512_loadu_si512(pending->powers + i * VG_VECTOR));
}

/*
 * All rounds but the last; beside the first ones, the products of what is pending. Its first vector
 * comes last: it has the hash of those before, which may not be there yet.
 */
VG_INLINE struct vg_sum rounds(const struct packet *pk, const struct vg_pending *pending,
			       __m512i *state, unsigned vectors)
{
	struct vg_sum sum = { _mm512_setzero_si512(), _mm512_setzero_si512(),
			      _mm512_setzero_si512() };
	unsigned n = pending->vectors;

	if (n == VG_STEP) {
		VG_UNROLL for (unsigned i = 1; i < VG_STEP; i += 2)
		{
			struct vg_sum a = product(pending, VG_STEP - i);
			struct vg_sum b;

			one_round(pk, state, vectors, i);
			b = product(pending, VG_STEP - i - 1);
			one_round(pk, state, vectors, i + 1);
			vg_add_two(&sum, &a, &b);
		}
	} else {
		for (unsigned i = 1; i <= VG_STEP; i++) {
			one_round(pk, state, vectors, i);
			if (n > 0) {
				struct vg_sum more = product(pending, --n);

				vg_add(&sum, &more);
			}
		}
	}
	for (unsigned i = VG_STEP + 1; i < pk->rounds; i++)
		one_round(pk, state, vectors, i);
	return sum;
}

/* What a step does: @blocks in all, from those in front of the text to the lengths behind it. */
struct step {
	const uint8_t *in; /* where the first vector would begin */
	uint8_t *out;
	uint32_t at; /* of the text in the first vector */
	uint32_t bytes; /* of text */
	uint32_t blocks;
	bool last;
};

/* The text bytes of vector @i of @vectors; only the first and the last two can lack some. */
VG_INLINE __mmask64 text_mask(const struct step *step, unsigned i, unsigned vectors)
{
	uint32_t end = step->at + step->bytes;
	__mmask64 mask = UINT64_MAX;

	if (i + 2 >= vectors)
		mask = vg_mask(end > i * VG_VECTOR ? end - i * VG_VECTOR : 0);
	if (i == 0)
		mask &= UINT64_MAX << step->at;
	return mask;
}

/*
 * The last round, with the text added to its key. Block 0 of a packet has no text: what becomes of
 * it is the ICV's mask. @blocks: what is hashed.
 */
VG_INLINE void text(const struct packet *pk, const struct step *step, __m512i *state,
		    unsigned vectors, __m512i *blocks)
{
	__m512i key = vg_block_everywhere(pk->key->round[pk->rounds]);
	const uint8_t *in = step->in;
	uint8_t *out = step->out;
	bool encrypt = pk->op->encrypt;

	VG_UNROLL for (unsigned i = 0; i < vectors; i++)
	{
		__mmask64 mask = text_mask(step, i, vectors);
		__m512i bytes = _mm512_maskz_loadu_epi8(mask, in + i * VG_VECTOR);

		state[i] = _mm512_aesenclast_epi128(state[i], _mm512_xor_si512(bytes, key));
		_mm512_mask_storeu_epi8(out + i * VG_VECTOR, mask, state[i]);
		blocks[i] = encrypt ? _mm512_maskz_mov_epi8(mask, state[i]) : bytes;
	}
}

/* The hash waits; @first is hashed with the first block. */
VG_INLINE void keep(const struct packet *pk, const struct step *step, __m128i first,
		    __m512i *blocks, struct vg_pending *pending, unsigned vectors)
{
	__m512i *last = &blocks[vectors - 1];

	VG_UNROLL for (unsigned i = 0; i < vectors; i++) blocks[i] = vg_reverse(blocks[i]);
	if (step->last)
		*last = vg_put_block(*last, (step->blocks - 1) % 4, vg_lengths(pk->op));
	/* Added, not put: the lengths may stand in the first place. */
	blocks[0] = _mm512_xor_si512(blocks[0], _mm512_zextsi128_si512(first));
	VG_UNROLL for (unsigned i = 0; i < vectors; i++)
		_mm512_store_si512(pending->blocks[i], blocks[i]);
	pending->vectors = vectors;
	pending->powers = vg_powers(pk->key, step->blocks);
	pending->op = step->last ? pk->op : NULL;
	if (step->last)
		_mm_store_si128((__m128i *)(void *)pending->icv_mask, pk->icv_mask);
}

VG_INLINE void settle(const struct vg_pending *pending, __m128i hash)
{
	__m512i bytes = vg_reverse(_mm512_zextsi128_si512(hash));

	vg_settle(pending->op, _mm512_castsi512_si128(bytes), pending->icv_mask);
}

VG_INLINE void run(struct packet *pk, const struct step *step, struct vg_pending *pending,
		   __m128i first, unsigned vectors)
{
	__m512i state[VG_STEP], blocks[VG_STEP];
	struct vg_sum sum;

	counters(pk, state, vectors);
	sum = rounds(pk, pending, state, vectors);
	text(pk, step, state, vectors, blocks);
	if (step->at)
		pk->icv_mask = _mm512_castsi512_si128(state[0]);
	if (pending->vectors) {
		__m128i hash = vg_reduce_to_one(&sum);

		if (pending->op)
			settle(pending, hash);
		else
			first = hash;
	}
	keep(pk, step, first, blocks, pending, vectors);
}

static void run_vectors(struct packet *pk, const struct step *step, struct vg_pending *pending,
			__m128i first)
{
	switch ((step->blocks + 3) / 4) {
	case 1:
		run(pk, step, pending, first, 1);
		break;
	case 2:
		run(pk, step, pending, first, 2);
		break;
	case 3:
		run(pk, step, pending, first, 3);
		break;
	case 4:
		run(pk, step, pending, first, 4);
		break;
	case 5:
		run(pk, step, pending, first, 5);
		break;
	case 6:
		run(pk, step, pending, first, 6);
		break;
	case 7:
		run(pk, step, pending, first, 7);
		break;
	default:
		run(pk, step, pending, first, 8);
		break;
	}
}

/* One step; where its text is not in a row, through vectors of its own. */
static void one_step(struct packet *pk, struct step *step, struct vg_pending *pending,
		     __m128i first)
{
	__m512i in[VG_STEP], out[VG_STEP];
	bool scattered = pk->out.run < step->bytes;

	step->in = pk->in.at - step->at;
	step->out = scattered ? (uint8_t *)out : pk->out.at - step->at;
	if (pk->in.run < step->bytes) {
		gather(&pk->in, step->at, step->bytes, in);
		step->in = (const uint8_t *)in;
	} else {
		side_skip(&pk->in, step->bytes);
	}
	run_vectors(pk, step, pending, first);
	if (scattered)
		scatter(&pk->out, step->at, step->bytes, out);
	else
		side_skip(&pk->out, step->bytes);
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

static void all_steps(struct packet *pk, struct vg_pending *pending)
{
	__m128i first = aad_block(pk->op, pk->key);
	struct step step = { .at = VG_BLOCK };

	while (!step.last) {
		step.blocks = step.at / VG_BLOCK + vg_blocks(pk->left) + 1;
		step.last = step.blocks <= VG_POWERS;
		step.blocks = xf_min_u32(step.blocks, VG_POWERS);
		step.bytes = xf_min_u32(pk->left, STEP_BYTES - step.at);
		one_step(pk, &step, pending, first);
		pk->counter += VG_POWERS;
		pk->left -= step.bytes;
		step.at = 0;
	}
}

void xf_vaes_gcm_one(struct xf_crypto_op *op, struct vg_pending *pending)
{
	const struct vg_key *key = vg_key_of(op);
	struct packet pk = {
		.op = op,
		.key = key,
		.base = _mm512_xor_si512(vg_nonce(op), vg_block_everywhere(key->round[0])),
		.left = op->len,
		.rounds = vg_rounds(op),
	};

	if (!side_init(&pk.in, op->src, op->nsrc, op->len) ||
	    !side_init(&pk.out, op->dst, op->ndst, op->len)) {
		op->status = XF_CRYPTO_ERROR;
		return;
	}
	side_next(&pk.in);
	side_next(&pk.out);
	all_steps(&pk, pending);
}

void xf_vaes_gcm_one_end(struct vg_pending *pending)
{
	struct vg_sum sum;

	if (!pending->vectors)
		return;
	sum = product(pending, 0);
	for (unsigned i = 1; i < pending->vectors; i++) {
		struct vg_sum more = product(pending, i);

		vg_add(&sum, &more);
	}
	settle(pending, vg_reduce_to_one(&sum));
	pending->vectors = 0;
}
