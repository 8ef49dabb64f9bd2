/*
 * raw.h - the cipher without anything around it: what ESP's cost is held against.
 *
 * Texts are worked on in place, 8 bytes of associated data before AEADs, by direct calls of the
 * library that the engine's preferred provider uses. A batch's nonces are all written before its
 * first call, as the engine does. One thread. Lengths are bytes.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stdbool.h>
#include <stdint.h>

#define RAW_BATCH 64

/* One packet's bytes under the cipher; what is decrypted has a wrong ICV, and nobody looks. */
struct raw_text {
	uint8_t *data;
	uint32_t len;
};

struct raw;

extern const char *const raw_name;

/*
 * Have the library behave as on a CPU without AVX512, for the engine's provider and for raw. Before
 * anything else; false: it cannot.
 */
bool raw_limit_to_avx2(void);

/* @suite as in a report's rows. NULL: the library does not run here, or has it not. */
struct raw *raw_new(const char *suite);
void raw_free(struct raw *raw);

/* At most RAW_BATCH of them. */
void raw_work(struct raw *raw, const struct raw_text *texts, unsigned n, bool seal);

#endif
