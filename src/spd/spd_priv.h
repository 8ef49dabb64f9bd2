/*
 * spd_priv.h - the inside of the SPD, for the files of this folder alone.
 *
 * What readers see is policies in parts: one part for each (direction, type, family, if_id) that
 * has policies, and in a part one ordered list for each class of selector. The rest belongs to
 * the control thread.
 *
 * Classes are there because the kernel has them: it keeps policies of different classes on
 * different chains, and an update keeps its place among equals of its own chain while it counts
 * as the youngest against those of other chains (xfrm_policy_insert_list(), xfrm_gen_pos()).
 * Policies of one class that can match the same packet are always on the same chain there.
 */
#ifndef XF_SPD_PRIV_H
#define XF_SPD_PRIV_H

#include <xf/heap.h>

#include "spd/rules.h"
#include "spd/table.h"

enum rule_class {
	CLASS_EXACT, /* host to host: the kernel's policy_bydst hash */
	CLASS_BOTH, /* the others: its inexact bin's four candidate lists */
	CLASS_SADDR,
	CLASS_DADDR,
	CLASS_ANY,
	CLASS_MAX,
};

struct part {
	struct xf_rcu_head rcu;
	_Atomic(struct part *) next;
	uint32_t if_id;
	uint32_t count; /* control thread */
	_Atomic uint32_t whole; /* policies that want whole datagrams */
	struct rules rules[CLASS_MAX];
};

struct xf_policy {
	/* Constant from the moment it is published. */
	struct xf_policy_config cfg;
	uint64_t real_offset_s;
	uint64_t add_s;
	uint64_t pos; /* the kernel's pos: younger ones have larger ones */
	uint64_t rank; /* place among equal priorities of its class */
	enum rule_class class;
	bool whole; /* wants whole datagrams: ports, transport mode */

	/* Atomics. */
	_Atomic uint32_t refs;
	_Atomic uint64_t bytes;
	_Atomic uint64_t packets;
	_Atomic uint64_t use_s; /* last use, wall clock; 0 = never */

	/* Control thread. */
	struct part *part;
	struct table_link by_identity;
	struct table_link by_index;
	struct xf_heap_node due;
	bool linked;
	bool soft_told;
	struct xf_rcu_head rcu;
};

#define PART_BUCKETS 64

struct part_table {
	_Atomic(struct part *) buckets[PART_BUCKETS];
};

/* One place in the dump order; policy is NULL when it is gone. */
struct place {
	uint64_t pos;
	struct xf_policy *policy;
};

struct xf_spd {
	struct xf_spd_config cfg; /* constant */

	/* Published by RCU. */
	struct part_table parts[XF_DIR_MAX][XF_POLICY_TYPE_MAX][2];
	_Atomic uint64_t generation;
	_Atomic uint64_t moves; /* policies that an update put elsewhere in their list */

	/* Control thread. */
	struct table by_identity;
	struct table by_index;
	struct xf_heap due;
	struct place *places; /* ascending pos: the dump's order from the end */
	size_t nplaces;
	size_t max_places;
	uint64_t last_pos;
	uint32_t index_generator;
	uint32_t count[XF_DIR_MAX];
	uint32_t bydst_mask[XF_DIR_MAX]; /* hash sizes that the kernel would have by now */
	uint32_t byidx_mask;
};

static inline struct part_table *part_table_of(const struct xf_spd *spd, uint8_t dir, uint8_t type,
					       uint16_t family)
{
	return (struct part_table *)(uintptr_t)&spd->parts[dir][type][family == XF_AF_INET6];
}

static inline _Atomic(struct part *) *part_bucket(const struct part_table *table, uint32_t if_id)
{
	_Static_assert(PART_BUCKETS == 1 << (32 - 26), "the hash has as many values");
	return (_Atomic(struct part *) *)(uintptr_t)&table->buckets[(if_id * 0x9e3779b1u) >> 26];
}

/* The part for @if_id or NULL; any thread. */
struct part *part_find(const struct part_table *table, uint32_t if_id);

/* A policy in no table, with one reference: NULL without memory. */
struct xf_policy *policy_new(const struct xf_spd *spd, const struct xf_policy_config *cfg,
			     uint64_t now_ns);

/* When a lifetime of @policy has to be looked at next; UINT64_MAX = never. */
uint64_t policy_due_ns(const struct xf_policy *policy);

/* What @policy's lifetimes say at @now_ns. */
enum policy_age { POLICY_FRESH, POLICY_SOFT, POLICY_HARD };
enum policy_age policy_age(const struct xf_policy *policy, uint64_t now_ns);

/* The dump order. Reserving makes room for one more. */
int order_reserve(struct xf_spd *spd);
void order_add(struct xf_spd *spd, struct xf_policy *policy);
void order_del(struct xf_spd *spd, const struct xf_policy *policy);
/* The youngest policy that is older than @pos, or NULL. */
struct xf_policy *order_older(const struct xf_spd *spd, uint64_t pos);

#endif
