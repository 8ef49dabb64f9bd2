/*
 * index.h - what finds a flow's rule among the rules of one part: a scan of few, or tables of many.
 *
 * Which of the two it is is one pointer, so a reader sees either, complete. Rules that match the
 * same packets are twins: only the first of them is in an index (twins.h).
 *
 * Threads: the control thread writes; readers under RCU. Only xf_spd_index_add() can fail.
 */
#ifndef XF_SPD_INDEX_H
#define XF_SPD_INDEX_H

#include "spd/prune.h"
#include "spd/scan.h"

struct root {
	struct set set;
	struct xf_rcu_head rcu;
	struct node *node;
	_Atomic(struct prune *) prune; /* NULL: all tables are looked at */
	uint32_t retry; /* control thread: with so many rules, after it failed for want of memory */
};

/* All zero is an empty index. */
struct index {
	_Atomic(struct set *) set; /* NULL: no rules */
};

/* 0 or -ENOMEM. */
int xf_spd_index_add(struct index *index, struct space *space, uint16_t family, uint32_t id);

/* Put rule @by, which matches the same, in the place of rule @id. */
void xf_spd_index_replace(struct index *index, struct space *space, uint32_t id, uint32_t by);
void xf_spd_index_del(struct index *index, struct space *space, uint32_t id);

/* Soon, rule @id is added or deleted: so that its misses overlap with others. */
void xf_spd_index_prefetch(const struct index *index, const struct space *space, uint32_t id);

/* No reader is left. */
void xf_spd_index_fini(struct index *index);

static inline const struct set *index_set(const struct index *index)
{
	return atomic_load_explicit(&index->set, memory_order_acquire);
}

#endif
