/*
 * vaes_gcm_math.h - AES rounds and the hash of GCM, for what is compiled for VAES and VPCLMULQDQ.
 *
 * The hash works on blocks whose bytes are reversed. Its powers are stored multiplied by x, so
 * that a product of reversed operands needs no shift. Products are kept in three parts and added
 * up; one reduction serves them all (Gueron and Kounavis, "Carry-Less Multiplication", 2010).
 *
 * Nothing here clears registers or what the compiler spills from them: round keys and powers are
 * read where they stand in the key and never copied, and the rest (key stream, sums) is of one
 * packet.
 */
#ifndef XF_CRYPTO_VAES_GCM_MATH_H
#define XF_CRYPTO_VAES_GCM_MATH_H

#include "crypto/vaes_gcm.h"

#include <immintrin.h>

/* Everything here is XF_INLINE: parts of a kernel that keeps its state in registers. */

#ifdef __clang__
#define VG_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VG_UNROLL _Pragma("GCC unroll 16")
#endif

#define VG_XOR3 0x96 /* a ^ b ^ c for vpternlog */

/* Of products: bits 0 to 127, 64 to 191, 128 to 255. */
struct vg_sum {
	__m512i low;
	__m512i mid;
	__m512i high;
};

XF_INLINE __m512i vg_xor3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi64(a, b, c, VG_XOR3);
}

XF_INLINE __m512i vg_reverse(__m512i blocks)
{
	return _mm512_shuffle_epi8(
		blocks, _mm512_set4_epi32(0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f));
}

XF_INLINE __m512i vg_block_everywhere(const uint8_t *block)
{
	return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)block));
}

/* The powers for blocks of which the first is the @left-th from the end of its sum. */
XF_INLINE const uint8_t *vg_powers(const struct vg_key *key, uint32_t left)
{
	return key->power[VG_POWERS - left];
}

XF_INLINE struct vg_sum vg_multiply(__m512i blocks, __m512i powers)
{
	return (struct vg_sum){
		.low = _mm512_clmulepi64_epi128(blocks, powers, 0x00),
		.mid = _mm512_xor_si512(_mm512_clmulepi64_epi128(blocks, powers, 0x01),
					_mm512_clmulepi64_epi128(blocks, powers, 0x10)),
		.high = _mm512_clmulepi64_epi128(blocks, powers, 0x11),
	};
}

XF_INLINE void vg_add(struct vg_sum *sum, const struct vg_sum *more)
{
	sum->low = _mm512_xor_si512(sum->low, more->low);
	sum->mid = _mm512_xor_si512(sum->mid, more->mid);
	sum->high = _mm512_xor_si512(sum->high, more->high);
}

/* Each block's sum modulo the polynomial x^128 + x^127 + x^126 + x^121 + 1 (reversed bits). */
XF_INLINE __m512i vg_reduce(const struct vg_sum *sum)
{
	const __m512i poly = _mm512_set4_epi64((long long)0xc200000000000000, 1,
					       (long long)0xc200000000000000, 1);
	__m512i mid = vg_xor3(sum->mid, _mm512_shuffle_epi32(sum->low, _MM_PERM_BADC),
			      _mm512_clmulepi64_epi128(poly, sum->low, 0x01));

	return vg_xor3(sum->high, _mm512_shuffle_epi32(mid, _MM_PERM_BADC),
		       _mm512_clmulepi64_epi128(poly, mid, 0x01));
}

XF_INLINE __m128i vg_add_blocks(__m512i v)
{
	__m256i half = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

	return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The sum of all four blocks' sums, reduced. */
XF_INLINE __m128i vg_reduce_to_one(const struct vg_sum *sum)
{
	const __m128i poly = _mm_set_epi64x((long long)0xc200000000000000, 1);
	__m128i low = vg_add_blocks(sum->low);
	__m128i mid = vg_add_blocks(sum->mid);
	__m128i high = vg_add_blocks(sum->high);

	mid = _mm_ternarylogic_epi64(mid, _mm_shuffle_epi32(low, 0x4e),
				     _mm_clmulepi64_si128(poly, low, 0x01), VG_XOR3);
	return _mm_ternarylogic_epi64(high, _mm_shuffle_epi32(mid, 0x4e),
				      _mm_clmulepi64_si128(poly, mid, 0x01), VG_XOR3);
}

/* Into block i the sum of the blocks of @v[i]. */
XF_INLINE __m512i vg_add_blocks_of_four(const __m512i v[4])
{
	__m512i ab = _mm512_xor_si512(_mm512_shuffle_i64x2(v[0], v[1], 0x44),
				      _mm512_shuffle_i64x2(v[0], v[1], 0xee));
	__m512i cd = _mm512_xor_si512(_mm512_shuffle_i64x2(v[2], v[3], 0x44),
				      _mm512_shuffle_i64x2(v[2], v[3], 0xee));

	return _mm512_xor_si512(_mm512_shuffle_i64x2(ab, cd, 0x88),
				_mm512_shuffle_i64x2(ab, cd, 0xdd));
}

/*
 * Salt and IV in each block, the counter zero. In two loads, as wide as the stores were: one that
 * spans two stores would wait for both.
 */
XF_INLINE __m512i vg_nonce(const struct xf_crypto_op *op)
{
	uint64_t words[2];

	memcpy(words, op->nonce, sizeof(words));
	return _mm512_broadcast_i32x4(
		_mm_set_epi64x((long long)(words[1] & UINT32_MAX), (long long)words[0]));
}

/* Counters of vector @i of a packet or of a run of four, in network order: 4 i + 1 and so on. */
XF_INLINE __m512i vg_counters(unsigned i)
{
	int first = (int)(4 * i + 1) << 24;

	return _mm512_set_epi32(first + (3 << 24), 0, 0, 0, first + (2 << 24), 0, 0, 0,
				first + (1 << 24), 0, 0, 0, first, 0, 0, 0);
}

/* The block of lengths, reversed: bits of the additional data and of the text. */
XF_INLINE __m128i vg_lengths(const struct xf_crypto_op *op)
{
	return _mm_set_epi64x(8 * op->aad_len, 8 * (long long)op->len);
}

/* Additional data of at most one block, as a block. */
XF_INLINE __m128i vg_aad(const struct xf_crypto_op *op)
{
	return _mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(0xffff, op->aad_len), op->aad);
}

/* The bytes of a vector that are text, when @left bytes are left from its first one. */
XF_INLINE __mmask64 vg_mask(uint32_t left)
{
	return _bzhi_u64(UINT64_MAX, xf_min_u32(left, VG_VECTOR));
}

/* Add the block @value to block @at of @v. */
XF_INLINE __m512i vg_put_block(__m512i v, unsigned at, __m128i value)
{
	return _mm512_mask_broadcast_i32x4(v, (__mmask16)(0xfu << 4 * at), value);
}

/*
 * Give the ICV out, or its verdict. Nothing is written wide and read narrow again here, nor the
 * other way round; the comparison takes the same time whatever it finds.
 */
XF_INLINE void vg_settle(struct xf_crypto_op *op, __m128i tag)
{
	__mmask16 bytes = (__mmask16)_bzhi_u32(0xffff, vg_key_of(op)->icv_len);
	bool fine = true;

	if (op->encrypt)
		_mm_mask_storeu_epi8(op->icv, bytes, tag);
	else
		fine = !_mm_mask_cmpneq_epi8_mask(bytes, tag, _mm_maskz_loadu_epi8(bytes, op->icv));
	op->status = fine ? XF_CRYPTO_OK : XF_CRYPTO_BAD_ICV;
}

#endif
