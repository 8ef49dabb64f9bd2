/* The comparison of scan.c with vectors of 16 and of 8 lanes. */
#include <immintrin.h>

#include "spd/scan.h"

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static bool always(void)
{
	return true;
}

#define XOR_AND 0x28 /* (a ^ b) & c, as the truth table that vpternlogd takes */

__attribute__((target("avx512f"))) static inline uint64_t
block_avx512(const struct scan *scan, const uint32_t *flow, uint32_t at)
{
	const uint32_t *lane = scan->lane + at;
	__m512i diff = _mm512_setzero_si512();

	for (unsigned w = 0; w < scan->nwords; w++, lane += 2 * scan->lanes) {
		__m512i word = _mm512_set1_epi32((int)flow[scan->words[w]]);
		__m512i value = _mm512_load_si512(lane);
		__m512i mask = _mm512_load_si512(lane + scan->lanes);

		diff = _mm512_or_si512(diff, _mm512_ternarylogic_epi32(word, value, mask, XOR_AND));
	}
	return _mm512_testn_epi32_mask(diff, diff);
}

__attribute__((target("avx512f"))) static void scan_avx512(const struct scan *scan,
							   const struct xf_flow *flows,
							   const uint8_t *at, unsigned n,
							   uint64_t *matches)
{
	uint64_t live = atomic_load_explicit(&scan->live, memory_order_acquire);

	for (unsigned i = 0; i < n; i++) {
		const uint32_t *flow = (const uint32_t *)(const void *)&flows[at[i]];
		uint64_t found = 0;

		for (uint32_t lane = 0; lane < scan->lanes; lane += 16)
			found |= block_avx512(scan, flow, lane) << lane;
		matches[i] = found & live;
	}
}

__attribute__((target("avx2"))) static inline uint64_t block_avx2(const struct scan *scan,
								  const uint32_t *flow, uint32_t at)
{
	const uint32_t *lane = scan->lane + at;
	const __m256i zero = _mm256_setzero_si256();
	__m256i diff = zero;

	for (unsigned w = 0; w < scan->nwords; w++, lane += 2 * scan->lanes) {
		__m256i word = _mm256_set1_epi32((int)flow[scan->words[w]]);
		__m256i value = _mm256_load_si256((const void *)lane);
		__m256i mask = _mm256_load_si256((const void *)(lane + scan->lanes));

		word = _mm256_and_si256(_mm256_xor_si256(word, value), mask);
		diff = _mm256_or_si256(diff, word);
	}
	diff = _mm256_cmpeq_epi32(diff, zero);
	return (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(diff));
}

__attribute__((target("avx2"))) static void scan_avx2(const struct scan *scan,
						      const struct xf_flow *flows,
						      const uint8_t *at, unsigned n,
						      uint64_t *matches)
{
	uint64_t live = atomic_load_explicit(&scan->live, memory_order_acquire);

	for (unsigned i = 0; i < n; i++) {
		const uint32_t *flow = (const uint32_t *)(const void *)&flows[at[i]];
		uint64_t found = 0;

		for (uint32_t lane = 0; lane < scan->lanes; lane += 8)
			found |= block_avx2(scan, flow, lane) << lane;
		matches[i] = found & live;
	}
}

const struct scan_variant xf_spd_scan_variants[] = {
	{ "avx512", scan_avx512, has_avx512 },
	{ "avx2", scan_avx2, has_avx2 },
	{ "portable", xf_spd_scan_portable, always },
	{ 0 },
};
