/*
 * vaes_gcm_walk.h - the way of a long text through its chains, quad by quad.
 *
 * A part of vaes_gcm_one.c. A quad is four vectors; in the first one of a packet the text begins at
 * byte 16, behind Y0. Runs of quads that are in a row on both sides are read and written where they
 * stand. A border is a quad that is not: there it has vectors of its own. Where the next run is, is
 * found out when it begins, among the quads: before the first one nothing would be done beside it.
 *
 * No structures are copied here: the compiler would read parts that were just written in one load,
 * which then waits until they are in the cache.
 *
 * Threads: a walk is of one call. Lengths are bytes.
 */
#ifndef XF_CRYPTO_VAES_GCM_WALK_H
#define XF_CRYPTO_VAES_GCM_WALK_H

#include "crypto/vaes_gcm_math.h"

#define QUAD 4
#define QUAD_BYTES (QUAD * VG_VECTOR)
#define QUAD_BLOCKS (QUAD_BYTES / VG_BLOCK)

/* One side of the text: a chain, and the place in it. Who goes on knows that there is more. */
struct side {
	uint8_t *at;
	const struct xf_seg *next;
	uint32_t run; /* bytes in a row from here */
};

/* Quads in a row on both sides, the tail perhaps among them; or a border. */
struct run {
	const uint8_t *from;
	uint8_t *to;
	uint32_t quads;
};

/* Bytes in a border's vectors that have to go to their segments, or none. */
struct owed {
	struct side out;
	uint32_t place; /* of the first one */
	uint32_t bytes;
};

/*
 * The way through the text, run after run. A border is a quad that is not in a row on one side or
 * both: there it has vectors of its own.
 */
struct walk {
	struct run run;
	uint32_t place; /* of the text in the next quad: behind Y0 in the first one */
	uint32_t left; /* of the text behind this run */
	struct side in; /* there */
	struct side out;
	struct owed owed;
	uint8_t in_quad[QUAD_BYTES] __attribute__((aligned(64)));
	uint8_t out_quad[QUAD_BYTES] __attribute__((aligned(64)));
};

static inline bool is_long_enough(const struct xf_seg *segs, uint32_t nsegs, uint32_t len)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < nsegs; i++)
		all += segs[i].len;
	return all >= len;
}

/* Go on to the next segment that has bytes. */
static inline void side_next(struct side *side)
{
	while (side->run == 0) {
		side->at = side->next->data;
		side->run = side->next->len;
		side->next++;
	}
}

static inline void side_skip(struct side *side, uint32_t n)
{
	side->at += n;
	side->run -= n;
}

/* Bytes @from to @to of a vector. */
XF_INLINE __mmask64 between(uint32_t from, uint32_t to)
{
	return vg_mask(to) & UINT64_MAX << from;
}

/*
 * Bytes @at to @end of @quad are the next ones of the chain, of which some stand at the side's
 * place. Nothing beside them is read; what is around them in the vectors is no matter.
 */
static __attribute__((noinline)) void gather(struct side *side, uint32_t at, uint32_t end,
					     uint8_t *quad)
{
	for (uint32_t some; at < end; at += some) {
		uint32_t from = at % VG_VECTOR;
		uint8_t *to = quad + at - from;

		side_next(side);
		some = xf_min_u32(xf_min_u32(end - at, side->run), VG_VECTOR - from);
		_mm512_mask_storeu_epi8(
			to, between(from, from + some),
			_mm512_maskz_loadu_epi8(between(from, from + some), side->at - from));
		side_skip(side, some);
	}
}

/* Of bytes in a quad. */
static const uint8_t places[QUAD_BYTES] __attribute__((aligned(64))) = {
#define EIGHT(n) n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7
#define ROW(n) EIGHT(n), EIGHT(n + 8), EIGHT(n + 16), EIGHT(n + 24)
	ROW(0), ROW(32), ROW(64), ROW(96), ROW(128), ROW(160), ROW(192), ROW(224),
};

/* The same when what is missing at the side's place is in the next segment: without branches. */
XF_INLINE void gather_two(struct side *side, uint32_t at, uint32_t end, uint8_t *quad)
{
	uint32_t border = at + side->run;
	const uint8_t *a = side->at - at, *b = side->next->data - border;
	__m512i from_b = _mm512_set1_epi8((char)border), last = _mm512_set1_epi8((char)(end - 1));
	__mmask64 text = UINT64_MAX << at;

	VG_UNROLL for (unsigned i = 0; i < QUAD; i++)
	{
		__m512i place = _mm512_load_si512(places + i * VG_VECTOR);
		__mmask64 in_a = _mm512_mask_cmplt_epu8_mask(text, place, from_b);
		__mmask64 in_b = _mm512_cmpge_epu8_mask(place, from_b);
		__m512i v = _mm512_maskz_loadu_epi8(in_a, a + i * VG_VECTOR);

		in_b = _mm512_mask_cmple_epu8_mask(in_b, place, last);
		v = _mm512_mask_loadu_epi8(v, in_b, b + i * VG_VECTOR);
		_mm512_store_si512(quad + i * VG_VECTOR, v);
		text = UINT64_MAX;
	}
	side->at = side->next->data + (end - border);
	side->run = side->next->len - (end - border);
	side->next++;
}

/* The other way. */
static void scatter(struct owed *owed, const uint8_t *quad)
{
	struct side *side = &owed->out;
	uint32_t at = owed->place, some;

	for (uint32_t n = owed->bytes; n > 0; n -= some) {
		uint32_t from = at % VG_VECTOR;

		side_next(side);
		some = xf_min_u32(xf_min_u32(n, side->run), VG_VECTOR - from);
		_mm512_mask_storeu_epi8(side->at - from, between(from, from + some),
					_mm512_load_si512(quad + at - from));
		side_skip(side, some);
		at += some;
	}
}

/* What was written to vectors of its own goes where it belongs. */
static void walk_flush(struct walk *walk)
{
	scatter(&walk->owed, walk->out_quad);
	walk->owed.bytes = 0;
}

/* Any number of segments. */
static __attribute__((noinline)) void gather_any(struct walk *walk, uint32_t bytes)
{
	gather(&walk->in, walk->place, walk->place + bytes, walk->in_quad);
}

/* A border's bytes will be written to vectors of its own. */
static __attribute__((noinline)) void owe(struct walk *walk, uint32_t bytes)
{
	walk->owed.out = walk->out;
	walk->owed.place = walk->place;
	walk->owed.bytes = bytes;
	for (uint32_t some; bytes > 0; bytes -= some) {
		side_next(&walk->out);
		some = xf_min_u32(bytes, walk->out.run);
		side_skip(&walk->out, some);
	}
}

/* One quad of @bytes that is not in a row on both sides. */
XF_INLINE void border(struct walk *walk, uint32_t bytes)
{
	uint32_t place = walk->place;

	walk->run.from = walk->in.at - place;
	walk->run.to = walk->out.at - place;
	walk->run.quads = 1;
	if (walk->in.run >= bytes) {
		side_skip(&walk->in, bytes);
	} else {
		walk->run.from = walk->in_quad;
		if (walk->in.run + walk->in.next->len >= bytes)
			gather_two(&walk->in, place, place + bytes, walk->in_quad);
		else
			gather_any(walk, bytes);
	}
	if (walk->out.run >= bytes) {
		side_skip(&walk->out, bytes);
	} else {
		walk->run.to = walk->out_quad;
		owe(walk, bytes);
	}
}

/* The next run. */
static __attribute__((noinline)) void walk_on(struct walk *walk)
{
	uint32_t place = walk->place, left = walk->left;
	uint32_t bytes = xf_min_u32(left, QUAD_BYTES - place);
	uint32_t run;

	if (walk->owed.bytes)
		walk_flush(walk);
	side_next(&walk->in);
	side_next(&walk->out);
	run = xf_min_u32(walk->in.run, walk->out.run);
	if (run >= bytes) {
		if (run < left)
			bytes = (run + place) / QUAD_BYTES * QUAD_BYTES - place;
		else
			bytes = left;
		walk->run.from = walk->in.at - place;
		walk->run.to = walk->out.at - place;
		walk->run.quads = (bytes + place + QUAD_BYTES - 1) / QUAD_BYTES;
		side_skip(&walk->in, bytes);
		side_skip(&walk->out, bytes);
	} else {
		border(walk, bytes);
	}
	walk->left = left - bytes;
	walk->place = 0;
}

/* False: a chain is shorter than the text. */
XF_INLINE bool walk_init(struct walk *walk, const struct xf_crypto_op *op)
{
	walk->owed.bytes = 0;
	if (op->nsrc == 1 && op->ndst == 1) {
		walk->run = (struct run){ op->src->data - VG_BLOCK, op->dst->data - VG_BLOCK,
					  UINT32_MAX };
		return op->src->len >= op->len && op->dst->len >= op->len;
	}
	if (!is_long_enough(op->src, op->nsrc, op->len) ||
	    !is_long_enough(op->dst, op->ndst, op->len))
		return false;
	walk->run.from = walk->in_quad; /* for no text at all */
	walk->run.to = walk->out_quad;
	walk->run.quads = 0;
	walk->place = VG_BLOCK;
	walk->left = op->len;
	walk->in = (struct side){ .next = op->src };
	walk->out = (struct side){ .next = op->dst };
	return true;
}

#endif
