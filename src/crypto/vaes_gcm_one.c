#include "crypto/vaes_gcm_walk.h"

/*
 * Text goes by quads, four vectors: as many as hide the latency of a round. Among each quad's
 * rounds are the products of the quad before, whose blocks stay in registers. Quads are whole but
 * for the last one, the tail, which has one to four vectors.
 *
 *     first quad | quad, hash of the one before | ... | tail, hash of the last quad | hash of tail
 *
 * Within whole quads each lane has a hash of its own, with powers of H^4 only: all are reduced
 * together every two quads. The powers of the last quad and the tail differ by lane and bring the
 * four to one.
 */

/* What is constant in each of the functions at the end. */
struct kind {
	unsigned rounds;
	bool encrypt;
};

/* Round keys in registers: [0] is the last one's, the others are the first ones'. */
#define KEPT 10

/* A packet under way; what is in registers. */
struct flow {
	const struct vg_key *key;
	const uint8_t *in; /* the next quad */
	uint8_t *out;
	uint32_t quads; /* that are there */
	uint32_t blocks_before; /* the next window of counters */
	const uint8_t *powers; /* for the last quads */
	__m512i nonce; /* under the first round key, as are all counters */
	__m512i base; /* the window's counter */
	__m512i kept[KEPT];
	__m512i state[QUAD];
	__m512i blocks[QUAD]; /* what is hashed next, reversed */
	struct vg_sum sum;
	__m512i acc; /* the hash of each lane so far */
};

XF_INLINE void load_keys(struct flow *f, const struct kind *kind)
{
	VG_UNROLL for (unsigned i = 1; i < KEPT; i++) f->kept[i] =
		vg_block_everywhere(f->key->round[i]);
	f->kept[0] = vg_block_everywhere(f->key->round[kind->rounds]);
}

/* Round keys are read again after the call: else they would be saved on the stack. */
XF_INLINE void go_on(struct flow *f, const struct kind *kind, struct walk *walk)
{
	if (__builtin_expect(f->quads == 0, 0)) {
		walk_on(walk);
		f->in = walk->run.from;
		f->out = walk->run.to;
		f->quads = walk->run.quads;
		load_keys(f, kind);
	}
	f->quads--;
}

XF_INLINE void one_round(struct flow *f, unsigned vectors, unsigned round)
{
	__m512i key = round < KEPT ? f->kept[round] : vg_block_everywhere(f->key->round[round]);

	VG_UNROLL for (unsigned i = 0; i < vectors; i++) f->state[i] =
		_mm512_aesenc_epi128(f->state[i], key);
}

/* Rounds that AES-128 has not. */
XF_INLINE void more_rounds(struct flow *f, const struct kind *kind, unsigned vectors)
{
	VG_UNROLL for (unsigned i = KEPT; i < kind->rounds; i++) one_round(f, vectors, i);
}

XF_INLINE __m512i window(const struct flow *f, uint32_t blocks)
{
	return _mm512_xor_si512(f->nonce,
				_mm512_maskz_set1_epi32(0x8888, (int)__builtin_bswap32(blocks)));
}

/*
 * The counters of vectors @from and on of a window. A block's number is XORed into a counter whose
 * low bits are zero, which is what adding does; the last block's is the counter of the next window.
 */
XF_INLINE void counters(struct flow *f, unsigned from, unsigned vectors)
{
	VG_UNROLL for (unsigned i = 0; i < vectors; i++) f->state[i] =
		_mm512_xor_si512(f->base, vg_counters(from + i));
}

XF_INLINE void last_counter(struct flow *f, __m512i next)
{
	f->state[QUAD - 1] = _mm512_mask_mov_epi64(f->state[QUAD - 1], 0xc0, next);
}

/* How the quad before is hashed. */
enum hash {
	HASH_FIRST, /* begins a sum of two quads */
	HASH_SECOND, /* ends it */
	HASH_ALONE, /* a sum of its own */
	HASH_LAST, /* begins the sum that the tail ends: powers differ by lane */
};

/* The power for vector @i, in all lanes but for HASH_LAST. */
XF_INLINE __m512i power(const struct flow *f, enum hash hash, unsigned i)
{
	unsigned left = (hash == HASH_FIRST ? 2 * QUAD : QUAD) - i; /* vectors to the reduction */

	if (hash == HASH_LAST)
		return _mm512_loadu_si512(f->powers + i * VG_VECTOR);
	return vg_block_everywhere(f->key->power[VG_POWERS - 4 * left]);
}

/* The products of two vectors, one after another into the sum: few are in registers at a time. */
XF_INLINE void hash_two(struct flow *f, enum hash hash, unsigned i, bool begin)
{
	__m512i a = f->blocks[i], b = f->blocks[i + 1];
	__m512i power_a = power(f, hash, i), power_b = power(f, hash, i + 1);
	__m512i low = _mm512_clmulepi64_epi128(a, power_a, 0x00);
	__m512i mid = _mm512_clmulepi64_epi128(a, power_a, 0x01);
	__m512i high = _mm512_clmulepi64_epi128(a, power_a, 0x11);
	__m512i cross = _mm512_clmulepi64_epi128(a, power_a, 0x10);

	if (begin) {
		f->sum.low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128(b, power_b, 0x00));
		f->sum.mid = vg_xor3(mid, cross, _mm512_clmulepi64_epi128(b, power_b, 0x01));
		f->sum.high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128(b, power_b, 0x11));
		f->sum.mid =
			_mm512_xor_si512(f->sum.mid, _mm512_clmulepi64_epi128(b, power_b, 0x10));
		return;
	}
	f->sum.mid = vg_xor3(f->sum.mid, mid, cross);
	f->sum.low = vg_xor3(f->sum.low, low, _mm512_clmulepi64_epi128(b, power_b, 0x00));
	f->sum.high = vg_xor3(f->sum.high, high, _mm512_clmulepi64_epi128(b, power_b, 0x11));
	f->sum.mid = vg_xor3(f->sum.mid, _mm512_clmulepi64_epi128(b, power_b, 0x01),
			     _mm512_clmulepi64_epi128(b, power_b, 0x10));
}

/* Rounds and the hash of the quad before, whose first vector waits for what was hashed before. */
XF_INLINE void rounds_and_hash(struct flow *f, const struct kind *kind, unsigned vectors,
			       enum hash hash)
{
	one_round(f, vectors, 1);
	one_round(f, vectors, 2);
	hash_two(f, hash, 2, hash != HASH_SECOND);
	one_round(f, vectors, 3);
	one_round(f, vectors, 4);
	one_round(f, vectors, 5);
	if (hash != HASH_SECOND)
		f->blocks[0] = _mm512_xor_si512(f->blocks[0], f->acc);
	hash_two(f, hash, 0, false);
	one_round(f, vectors, 6);
	one_round(f, vectors, 7);
	if (hash == HASH_SECOND || hash == HASH_ALONE)
		f->acc = vg_reduce(&f->sum);
	one_round(f, vectors, 8);
	one_round(f, vectors, 9);
	more_rounds(f, kind, vectors);
}

/* The last round, with the text added to its key. */
XF_INLINE void text(struct flow *f, const struct kind *kind, unsigned i)
{
	__m512i bytes = _mm512_loadu_si512(f->in + i * VG_VECTOR);
	__m512i out = _mm512_aesenclast_epi128(f->state[i], _mm512_xor_si512(bytes, f->kept[0]));

	_mm512_storeu_si512(f->out + i * VG_VECTOR, out);
	f->blocks[i] = vg_reverse(kind->encrypt ? out : bytes);
}

/* The same where not all bytes are text; the others have the key stream in the state. */
XF_INLINE void masked_text(struct flow *f, const struct kind *kind, unsigned i, __mmask64 mask)
{
	__m512i bytes = _mm512_maskz_loadu_epi8(mask, f->in + i * VG_VECTOR);
	__m512i out = _mm512_aesenclast_epi128(f->state[i], _mm512_xor_si512(bytes, f->kept[0]));

	_mm512_mask_storeu_epi8(f->out + i * VG_VECTOR, mask, out);
	f->state[i] = out;
	f->blocks[i] = vg_reverse(kind->encrypt ? _mm512_maskz_mov_epi8(mask, out) : bytes);
}

/* @odd: the second quad of a window of counters. */
XF_INLINE void quad(struct flow *f, const struct kind *kind, struct walk *walk, bool odd,
		    enum hash hash)
{
	go_on(f, kind, walk);
	if (odd) {
		__m512i next = window(f, f->blocks_before);

		counters(f, QUAD, QUAD);
		last_counter(f, next);
		f->base = next;
		f->blocks_before += 2 * QUAD_BLOCKS;
	} else {
		counters(f, 0, QUAD);
	}
	rounds_and_hash(f, kind, QUAD, hash);
	VG_UNROLL for (unsigned i = 0; i < QUAD; i++) text(f, kind, i);
	f->in += QUAD_BYTES;
	f->out += QUAD_BYTES;
}

XF_INLINE void rounds_alone(struct flow *f, const struct kind *kind)
{
	VG_UNROLL for (unsigned i = 1; i < KEPT; i++) one_round(f, QUAD, i);
	more_rounds(f, kind, QUAD);
}

#define BEHIND_Y0 (UINT64_MAX << VG_BLOCK)

/* Returns the ICV's mask: there is no text in its block. */
XF_INLINE __m128i first_quad(struct flow *f, const struct kind *kind)
{
	f->quads--;
	counters(f, 0, QUAD);
	rounds_alone(f, kind);
	masked_text(f, kind, 0, BEHIND_Y0);
	VG_UNROLL for (unsigned i = 1; i < QUAD; i++) text(f, kind, i);
	f->in += QUAD_BYTES;
	f->out += QUAD_BYTES;
	return _mm512_castsi512_si128(f->state[0]);
}

/* The block of lengths comes last in the hash, but nothing has to wait for it. */
XF_INLINE struct vg_sum hash_of_lengths(const struct flow *f, const struct xf_crypto_op *op)
{
	const uint8_t *first = f->key->power[VG_POWERS - 1];
	__m128i power = _mm_load_si128((const __m128i *)(const void *)first);

	return vg_multiply(_mm512_zextsi128_si512(vg_lengths(op)), _mm512_zextsi128_si512(power));
}

/*
 * Add the last @vectors to the sum, their powers from @powers on, and end the hash. @empty: some
 * may be behind the text. They are zero, so any power will do, but behind the last one not all keys
 * have enough to read.
 */
XF_INLINE __m128i last_hash(struct flow *f, unsigned vectors, const uint8_t *powers, bool empty)
{
	const uint8_t *last = f->key->power[VG_POWERS - 1];

	VG_UNROLL for (unsigned i = vectors; i-- > 0;)
	{
		const uint8_t *at = powers + i * VG_VECTOR;
		struct vg_sum more = vg_multiply(
			f->blocks[i], _mm512_loadu_si512(empty && at > last ? last : at));

		vg_add(&f->sum, &more);
	}
	return vg_reduce_to_one(&f->sum);
}

/* The last @bytes of the text, in @vectors; @quads were before. */
XF_INLINE __m128i tail(struct flow *f, const struct kind *kind, const struct xf_crypto_op *op,
		       uint32_t quads, unsigned vectors)
{
	uint32_t bytes = op->len + VG_BLOCK - quads * QUAD_BYTES;
	struct vg_sum lengths = hash_of_lengths(f, op);

	f->powers = vg_powers(f->key, QUAD_BLOCKS + vg_blocks(bytes) + 1);
	f->base = window(f, quads * QUAD_BLOCKS);
	counters(f, 0, vectors);
	if (vectors == QUAD)
		last_counter(f, window(f, (quads + 1) * QUAD_BLOCKS));
	rounds_and_hash(f, kind, vectors, HASH_LAST);
	vg_add(&f->sum, &lengths);
	VG_UNROLL for (unsigned i = 0; i + 1 < vectors; i++) text(f, kind, i);
	masked_text(f, kind, vectors - 1, vg_mask(bytes - (vectors - 1) * VG_VECTOR));
	return last_hash(f, vectors, f->powers + QUAD_BYTES, false);
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

XF_INLINE __m128i tail_of_any(struct flow *f, const struct kind *kind,
			      const struct xf_crypto_op *op, uint32_t quads)
{
	switch ((op->len + VG_BLOCK - quads * QUAD_BYTES - 1) / VG_VECTOR) {
	case 0:
		return tail(f, kind, op, quads, 1);
	case 1:
		return tail(f, kind, op, quads, 2);
	case 2:
		return tail(f, kind, op, quads, 3);
	default:
		return tail(f, kind, op, quads, 4);
	}
}

/* The whole @quads, and the tail. */
XF_INLINE __m128i quads_and_tail(struct flow *f, const struct kind *kind,
				 const struct xf_crypto_op *op, struct walk *walk, uint32_t quads)
{
	for (uint32_t i = (quads - 1) / 2; i > 0; i--) {
		quad(f, kind, walk, true, HASH_FIRST);
		quad(f, kind, walk, false, HASH_SECOND);
	}
	if (quads % 2 == 0)
		quad(f, kind, walk, true, HASH_ALONE);
	go_on(f, kind, walk);
	return tail_of_any(f, kind, op, quads);
}

/* A packet that is not more than a quad. */
XF_INLINE __m128i only_quad(struct flow *f, const struct kind *kind, const struct xf_crypto_op *op,
			    __m512i aad, __m128i *icv_mask)
{
	uint32_t bytes = op->len + VG_BLOCK;

	counters(f, 0, QUAD);
	last_counter(f, window(f, QUAD_BLOCKS));
	rounds_alone(f, kind);
	VG_UNROLL for (unsigned i = 0; i < QUAD; i++)
	{
		uint32_t left = bytes > i * VG_VECTOR ? bytes - i * VG_VECTOR : 0;

		masked_text(f, kind, i, vg_mask(left) & (i == 0 ? BEHIND_Y0 : UINT64_MAX));
	}
	*icv_mask = _mm512_castsi512_si128(f->state[0]);
	f->blocks[0] = _mm512_xor_si512(f->blocks[0], aad);
	f->sum = hash_of_lengths(f, op);
	return last_hash(f, QUAD, vg_powers(f->key, vg_blocks(bytes) + 1), true);
}

XF_INLINE void settle(struct xf_crypto_op *op, __m128i hash, __m128i icv_mask)
{
	__m512i bytes = vg_reverse(_mm512_zextsi128_si512(hash));

	vg_settle(op, _mm_xor_si128(_mm512_castsi512_si128(bytes), icv_mask));
}

XF_INLINE void packet(struct xf_crypto_op *op, unsigned rounds, bool encrypt)
{
	const struct kind kind = { rounds, encrypt };
	const struct vg_key *key = vg_key_of(op);
	uint32_t quads = (op->len + VG_BLOCK - 1) / QUAD_BYTES;
	__m512i aad = _mm512_zextsi128_si512(aad_block(op, key));
	__m128i hash, icv_mask;
	struct walk walk;
	struct flow f;

	if (!walk_init(&walk, op)) {
		op->status = XF_CRYPTO_ERROR;
		return;
	}
	f.key = key;
	if (walk.run.quads == 0 && op->len > 0)
		walk_on(&walk);
	f.in = walk.run.from;
	f.out = walk.run.to;
	f.quads = walk.run.quads;
	f.nonce = f.base = _mm512_xor_si512(vg_nonce(op), vg_block_everywhere(key->round[0]));
	load_keys(&f, &kind);
	if (quads > 0) {
		icv_mask = first_quad(&f, &kind);
		f.blocks[0] = _mm512_xor_si512(f.blocks[0], aad);
		f.acc = _mm512_setzero_si512();
		f.blocks_before = 2 * QUAD_BLOCKS;
		hash = quads_and_tail(&f, &kind, op, &walk, quads);
	} else {
		hash = only_quad(&f, &kind, op, aad, &icv_mask);
	}
	if (walk.owed.bytes)
		walk_flush(&walk);
	settle(op, hash, icv_mask);
}

static void seal_128(struct xf_crypto_op *op)
{
	packet(op, 10, true);
}

static void seal_192(struct xf_crypto_op *op)
{
	packet(op, 12, true);
}

static void seal_256(struct xf_crypto_op *op)
{
	packet(op, 14, true);
}

static void open_128(struct xf_crypto_op *op)
{
	packet(op, 10, false);
}

static void open_192(struct xf_crypto_op *op)
{
	packet(op, 12, false);
}

static void open_256(struct xf_crypto_op *op)
{
	packet(op, 14, false);
}

void xf_vaes_gcm_one(struct xf_crypto_op *op)
{
	static void (*const all[VG_KINDS][2])(struct xf_crypto_op * op) = {
		{ open_128, seal_128 },
		{ open_192, seal_192 },
		{ open_256, seal_256 },
	};

	all[vg_key_of(op)->kind][op->encrypt](op);
}
