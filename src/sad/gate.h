/*
 * gate.h - SPIs of our own choosing, that say where their SA is.
 *
 * A gate is a place for one such SA. Its SPIs are P(x), where x has the gate's number in its lowest
 * bits and anything in the others, and P permutes the 32-bit numbers by a secret key: an SPI leads
 * to its gate by the inverse, without a hash or a probe. The gate knows the SA's whole key, so that
 * one line of memory decides.
 *
 * How hard are they to guess? With the key unknown, P's values look drawn at random, as those of
 * Linux are, and of n SAs in a range of r numbers each guess meets one with n / r, whatever the
 * gates are. P is three rounds of secret additions and multiplications: no cipher, and no secret
 * depends on it. Whoever guesses an SPI has found somebody who checks an ICV.
 *
 * One writer; readers inside an RCU section.
 */
#ifndef XF_SAD_GATE_H
#define XF_SAD_GATE_H

#include <stdatomic.h>

#include <xf/rcu.h>
#include <xf/sa.h>

/* So many SAs can have such an SPI, and each of them 1,024 different ones. */
#define XF_GATE_BITS 22
#define XF_GATE_CHOICES (1u << (32 - XF_GATE_BITS))
#define XF_GATE_NONE UINT32_MAX

/* No gate is given out again before so many others have been given back after it, or taken. */
#define XF_GATE_RESTING 100000u

/* When all have been given back, so many at most are kept: 8 MB. */
#define XF_GATES_KEPT (1u << 18)

#define XF_GATE_ROUNDS 3

/*
 * The key is constant from before an SA stands here until a grace period after the last one left.
 * Two gates share a cache line.
 */
struct xf_gate {
	_Alignas(32) _Atomic uintptr_t sa; /* 0 = nobody; XF_GATE_MARKED may be added */
	union xf_addr daddr;
	uint32_t spi; /* that of a free gate is the number of the next one */
	uint16_t family;
	uint8_t proto;
};

/* The SA has a mark, which must match too. */
#define XF_GATE_MARKED ((uintptr_t)1)

struct xf_gate_array {
	struct xf_rcu_head rcu;
	uint32_t count;
	struct xf_gate *gates;
};

struct xf_gates {
	/* Constant. */
	struct {
		uint32_t factor, inverse, addend;
	} rounds[XF_GATE_ROUNDS];
	_Atomic(struct xf_gate_array *) array; /* published by RCU; NULL = none */
	/* Writer. Gates that were given back queue up, so that no SPI comes back soon. */
	uint32_t fresh; /* gates from here on were never given out */
	uint32_t first_free, last_free; /* number + 1, 0 = none */
	uint32_t used;
};

void xf_gates_init(struct xf_gates *gates, const uint64_t seed[2]);
void xf_gates_fini(struct xf_gates *gates); /* without readers */

/* The number of a new gate or one that has rested; XF_GATE_NONE: all are taken, or no memory. */
uint32_t xf_gate_take(struct xf_gates *gates);

/* Give @number back, a grace period after xf_gate_shut() if it was ever opened. */
void xf_gate_give(struct xf_gates *gates, uint32_t number);

/* The SPI number @choice (below XF_GATE_CHOICES) of gate @number. */
uint32_t xf_gate_spi(const struct xf_gates *gates, uint32_t number, uint32_t choice);

/* From now on @id, which has one of the SPIs of gate @number, leads to @sa. */
void xf_gate_open(struct xf_gates *gates, uint32_t number, const struct xf_sa_id *id,
		  struct xf_sa *sa, bool marked);

/* Put @sa, which has the same key, in the place of who stands there; or nobody. */
void xf_gate_hand_over(struct xf_gates *gates, uint32_t number, struct xf_sa *sa, bool marked);
void xf_gate_shut(struct xf_gates *gates, uint32_t number);

static inline uint32_t xf_gate_of(const struct xf_gates *gates, uint32_t spi)
{
	uint32_t x = spi;

	for (unsigned i = XF_GATE_ROUNDS; i-- > 0;) {
		x ^= x >> 16;
		x = x * gates->rounds[i].inverse - gates->rounds[i].addend;
	}
	return x & ((1u << XF_GATE_BITS) - 1);
}

/* The gate that @spi leads to, or NULL. Whoever stands there may have another SPI. */
static inline const struct xf_gate *xf_gate_for(const struct xf_gates *gates, uint32_t spi)
{
	const struct xf_gate_array *array =
		atomic_load_explicit(&gates->array, memory_order_acquire);
	uint32_t number;

	if (!array)
		return NULL;
	number = xf_gate_of(gates, spi);
	return number < array->count ? &array->gates[number] : NULL;
}

/* Is somebody there? The key may be read then. 0, or the SA and perhaps XF_GATE_MARKED. */
static inline uintptr_t xf_gate_look(const struct xf_gate *gate)
{
	return atomic_load_explicit(&gate->sa, memory_order_acquire);
}

static inline struct xf_sa *xf_gate_sa(uintptr_t seen)
{
	return (struct xf_sa *)(seen & ~XF_GATE_MARKED);
}

#endif
