/*
 * ivgen.h - the IVs that an SA's outbound packets carry.
 *
 * Threads: a generator is constant once it is made; any thread may ask it. Lengths are bytes.
 */
#ifndef XF_IVGEN_H
#define XF_IVGEN_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * IVs of one SA. IVs are a function of a counter that never repeats and of secret random bytes
 * drawn when the SA is made, so any thread computes them without a lock and two SAs with one key
 * do not share them. 8-byte IVs: counter XOR salt (never twice the same); 16-byte IVs: the counter
 * block under a random AES key (unpredictable, SP 800-38A appendix C).
 */
struct xf_ivgen {
	uint64_t salt;
	struct xf_ivgen_key *key; /* that key, in secret memory; NULL: IVs are shorter */
};
#define XF_IVGEN_SEED 24
/* For IVs of @iv_len bytes, from as many fresh random ones. 0 or -ENOMEM. */
int xf_ivgen_init(struct xf_ivgen *gen, uint8_t iv_len, const uint8_t seed[XF_IVGEN_SEED]);
/* What @gen was made from, as far as its IVs depend on it: made from that, another one gives the
 * same IVs. The rest is zero. Secret. */
void xf_ivgen_seed(const struct xf_ivgen *gen, uint8_t seed[XF_IVGEN_SEED]);
void xf_ivgen_fini(struct xf_ivgen *gen); /* one that is all zero has nothing */
/* The IV number @counter, of the length that @gen is for or 0. */
void xf_ivgen_iv(const struct xf_ivgen *gen, uint64_t counter, uint8_t *iv, uint8_t iv_len);

/* One of 8 bytes, as they lie in memory. One to one: counters that differ give IVs that do. */
static inline uint64_t xf_ivgen_iv8(const struct xf_ivgen *gen, uint64_t counter)
{
	uint64_t iv;

	xf_put_be64(&iv, counter ^ gen->salt);
	return iv;
}

#ifdef __cplusplus
}
#endif

#endif
