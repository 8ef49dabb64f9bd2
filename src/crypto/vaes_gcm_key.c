#include "crypto/vaes_gcm_math.h"

/* The S-box on the four bytes of a word; then the word rotated by a byte (FIPS 197 s5.2). */
struct substituted {
	uint32_t word;
	uint32_t rotated;
};

static struct substituted substitute(uint32_t word)
{
	__m128i both = _mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0);

	return (struct substituted){
		.word = (uint32_t)_mm_extract_epi32(both, 0),
		.rotated = (uint32_t)_mm_extract_epi32(both, 1),
	};
}

static void expand_rounds(struct vg_key *key, const uint8_t *raw, unsigned len)
{
	unsigned raw_words = len / 4;
	unsigned words = 4 * (raw_words + 7);
	uint32_t last, rcon = 1;

	memcpy(key->round, raw, len);
	for (unsigned i = raw_words; i < words; i++) {
		uint8_t *at = key->round[0] + 4 * i;
		uint32_t before;

		memcpy(&last, at - 4, 4);
		memcpy(&before, at - len, 4);
		if (i % raw_words == 0) {
			last = substitute(last).rotated ^ rcon;
			rcon = rcon << 1 ^ (rcon & 0x80 ? 0x11b : 0);
		} else if (raw_words > 6 && i % raw_words == 4) {
			last = substitute(last).word;
		}
		last ^= before;
		memcpy(at, &last, 4);
	}
	xf_wipe(&last, sizeof(last));
}

/* The hash key: the cipher of zeros, reversed. */
static __m128i hash_key(const struct vg_key *key)
{
	unsigned rounds = key->rounds;
	const __m128i *round = (const __m128i *)(const void *)key->round;
	__m128i block = _mm_load_si128(&round[0]);

	for (unsigned i = 1; i < rounds; i++)
		block = _mm_aesenc_si128(block, _mm_load_si128(&round[i]));
	block = _mm_aesenclast_si128(block, _mm_load_si128(&round[rounds]));
	return _mm_shuffle_epi8(block,
				_mm_set_epi32(0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f));
}

/* @block times x: in reversed bits a shift to the left, and what leaves comes in below. */
static __m128i times_x(__m128i block)
{
	uint64_t low = (uint64_t)_mm_cvtsi128_si64(block);
	uint64_t high = (uint64_t)_mm_extract_epi64(block, 1);
	uint64_t carry = 0 - (high >> 63);

	high = high << 1 | low >> 63;
	low <<= 1;
	return _mm_set_epi64x((long long)(high ^ (carry & 0xc200000000000000)),
			      (long long)(low ^ (carry & 1)));
}

static __m128i product(__m128i a, __m128i b)
{
	struct vg_sum sum = vg_multiply(_mm512_zextsi128_si512(a), _mm512_zextsi128_si512(b));

	return vg_reduce_to_one(&sum);
}

void xf_vaes_gcm_expand(struct vg_key *out, const struct xf_key *key)
{
	unsigned len = key->suite.cipher_key_len;
	__m128i first, power;

	out->kind = (uint8_t)(len / 8 - 2);
	out->rounds = (uint8_t)vg_rounds_of(len);
	out->icv_len = key->suite.icv_len;
	expand_rounds(out, key->cipher_raw, len);
	first = power = times_x(hash_key(out));
	for (unsigned i = VG_POWERS; i-- > 0;) {
		_mm_store_si128((__m128i *)(void *)out->power[i], power);
		power = product(power, first);
	}
	xf_wipe(&first, sizeof(first));
	xf_wipe(&power, sizeof(power));
}
