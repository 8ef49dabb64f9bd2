/*
 * prune.h - which of a root's tables can have a rule for a flow.
 *
 * For each side and each level of prefix lengths but 0, a map from the flow's address, so far as
 * the level goes, to a bitmap of tables: those that have a rule with such a prefix. The maps of a
 * side are ORed, the two sides ANDed. Maps are hashed where they would be too large (other
 * prefixes may then set bits of ours: a table is looked at in vain). Rules are counted for each
 * bit, so that it goes with the last of them.
 *
 * Threads: the control thread writes; readers under RCU.
 */
#ifndef XF_SPD_PRUNE_H
#define XF_SPD_PRUNE_H

#include "spd/node.h"

#define PRUNE_LEVELS 3
#define PRUNE_SIDES 2 /* source, destination */

struct prune_count_map {
	uint64_t *slots; /* key + 1 above, count below; 0 = free */
	uint32_t mask;
	uint32_t count;
};

struct prune {
	/* Constant. */
	uint8_t shift[PRUNE_LEVELS]; /* what of an address the level does not look at */
	uint8_t drop[PRUNE_LEVELS]; /* of the product, so that an index is left */
	uint64_t factor[PRUNE_LEVELS];
	_Atomic uint32_t *maps[PRUNE_SIDES][PRUNE_LEVELS];
	_Atomic uint32_t always[PRUNE_SIDES]; /* tables with rules for any address */
	uint16_t family;
	bool is_small; /* the maps are in the first caches when they are used */
	uint32_t made_for; /* how many rules */
	size_t map_bytes;
	void *memory; /* of all maps */

	/* Control thread. */
	struct xf_rcu_head rcu;
	struct prune_count_map counts;
	uint32_t always_counts[PRUNE_SIDES][ROOT_TABLES];
};

/* For about @count rules: NULL without memory. */
struct prune *xf_spd_prune_new(const struct space *space, uint16_t family, uint32_t count);
void xf_spd_prune_free(struct prune *prune);
void xf_spd_prune_free_later(struct prune *prune);

/* Soon, @rule is added or deleted. */
void xf_spd_prune_prefetch_rule(struct prune *prune, const struct rule *rule);

/* False without memory: then @prune is of no use any more. */
bool xf_spd_prune_add(struct prune *prune, const struct rule *rule);
void xf_spd_prune_del(struct prune *prune, const struct rule *rule);

static inline uint64_t prune_host(const union xf_addr *addr)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(addr->quad[0])
							 : addr->quad[0];
}

static inline _Atomic uint32_t *prune_entry(const struct prune *prune, unsigned side,
					    unsigned level, uint64_t host)
{
	uint64_t x = (host >> prune->shift[level]) * prune->factor[level];

	return &prune->maps[side][level][x >> prune->drop[level]];
}

/* Only the longer levels' maps are large. */
static inline void prune_prefetch(const struct prune *prune, const struct xf_flow *flow)
{
	uint64_t src = prune_host(&flow->saddr);
	uint64_t dst = prune_host(&flow->daddr);

	for (unsigned level = 1; level < PRUNE_LEVELS; level++) {
		__builtin_prefetch(prune_entry(prune, 0, level, src));
		__builtin_prefetch(prune_entry(prune, 1, level, dst));
	}
}

static inline uint32_t prune_word(const struct prune *prune, unsigned side, unsigned level,
				  uint64_t host)
{
	return atomic_load_explicit(prune_entry(prune, side, level, host), memory_order_acquire);
}

static inline uint32_t prune_side(const struct prune *prune, unsigned side, uint64_t host)
{
	_Static_assert(PRUNE_LEVELS == 3, "one word of each");
	return atomic_load_explicit(&prune->always[side], memory_order_acquire) |
	       prune_word(prune, side, 0, host) | prune_word(prune, side, 1, host) |
	       prune_word(prune, side, 2, host);
}

/* The tables that can have a rule for @flow, as bits. */
static inline uint32_t prune_tables(const struct prune *prune, const struct xf_flow *flow)
{
	return prune_side(prune, 0, prune_host(&flow->saddr)) &
	       prune_side(prune, 1, prune_host(&flow->daddr));
}

#endif
