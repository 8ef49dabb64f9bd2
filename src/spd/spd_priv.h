/*
 * spd_priv.h - the inside of the SPD, for the files of this folder alone.
 *
 * What readers see is policies in parts: one part for each (direction, type, family, if_id) that
 * has policies, and in a part an index for each kind of question. The rest belongs to the control
 * thread.
 *
 * Classes are there because the kernel has them: it keeps policies of different classes on
 * different chains, and an update keeps its place among equals of its own chain while it counts
 * as the youngest against those of other chains (xfrm_policy_insert_list(), xfrm_gen_pos()).
 * Policies of one class that can match the same packet are always on the same chain there.
 */
#ifndef XF_SPD_PRIV_H
#define XF_SPD_PRIV_H

#include <xf/heap.h>

#include "base/slab.h"
#include "base/wall.h"
#include "spd/index.h"
#include "spd/twins.h"

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
	uint32_t if_id;
	uint32_t count; /* control thread */
	struct index index[KINDS];
};

/* The first two cache lines are what a packet needs. */
struct xf_policy {
	/* Atomics: a line that each packet writes, with what it reads of the rest. */
	_Atomic uint64_t bytes;
	_Atomic uint64_t packets;
	_Atomic uint32_t
		used; /* last use, 1 + quarters of a second of the engine's clock; 0 = never */
	_Atomic uint32_t refs;

	/* Constant from the moment it is published. */
	uint64_t pos; /* the kernel's pos: younger ones have larger ones */
	struct xf_policy_config cfg;
	int64_t real_offset_ns; /* when it was made: its lifetimes go by that */
	uint64_t add_s;
	uint64_t rank; /* place among equal priorities of its class */

	/* Control thread. */
	bool linked;
	bool soft_told;
	uint8_t nmembers; /* constant */
	struct xf_spd *spd;
	struct part *part;
	struct xf_rcu_head rcu;
	struct xf_heap_node due;
	struct table_link by_identity;
	struct table_link by_index;
	struct member members[];
};
_Static_assert(offsetof(struct xf_policy, cfg.tmpl) == XF_CACHE_LINE &&
		       sizeof(struct xf_tmpl) <= XF_CACHE_LINE,
	       "a packet touches two lines");

/* Soon, a packet is counted for @policy and goes by its first template. */
static inline void policy_prefetch(const struct xf_policy *policy)
{
	__builtin_prefetch(policy, 1);
	__builtin_prefetch((const char *)policy + XF_CACHE_LINE);
}

struct part_slots {
	struct xf_rcu_head rcu;
	uint64_t key; /* constant, as the mask */
	uint32_t mask;
	uint32_t used; /* control thread */
	_Atomic(struct part *) slot[];
};

struct part_table {
	_Atomic(struct part_slots *) slots; /* NULL: no parts */
	uint32_t count; /* control thread */
};

/* One place in the dump order; policy is NULL when it is gone. */
struct place {
	uint64_t pos;
	struct xf_policy *policy;
};

struct xf_spd {
	struct xf_spd_config cfg; /* constant */
	scan_fn *scan; /* constant: the fastest for this machine */
	struct xf_wall wall; /* control thread */
	struct xf_slabs
		slabs[KINDS + 1]; /* have locks: of policies, by how many members they have */

	/* Published by RCU. */
	struct part_table parts[XF_DIR_MAX][XF_POLICY_TYPE_MAX][2];
	_Atomic uint32_t nparts[XF_DIR_MAX][XF_POLICY_TYPE_MAX];
	_Atomic uint64_t generation;
	struct space space;

	/* The control thread's; any may read it. */
	_Atomic uint32_t marked; /* policies out that ask for a mark */

	/* Control thread. */
	struct table by_identity;
	struct table by_index;
	struct table by_match; /* members, the first of all twins */
	struct xf_heap due;
	struct place *places; /* ascending pos: the dump's order from the end */
	size_t nplaces;
	size_t max_places;
	uint64_t last_pos;
	uint64_t next_rank; /* of the next policy, with next_pos ... */
	uint64_t next_pos; /* ... above last_pos; else it goes to the end */
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

/* The part for @if_id or NULL; any thread. */
struct part *xf_spd_part_find(const struct part_table *table, uint32_t if_id);

/* That for a policy with @cfg, made when it is missing: NULL without memory. An empty part does
 * readers no harm, so it may stand there before its first policy does. */
struct part *xf_spd_part_get(struct xf_spd *spd, const struct xf_policy_config *cfg);

/* Take @part out when nothing is left in it. */
void xf_spd_part_put(struct xf_spd *spd, const struct xf_policy_config *cfg, struct part *part);

/* What decides between equal priorities: see 0006. */
enum rule_class xf_spd_policy_class(const struct xf_selector *sel);

/* The memory of policies. */
void xf_spd_slabs_init(struct xf_spd *spd);
void xf_spd_slabs_fini(struct xf_spd *spd);

/* A policy in no table, with one reference: NULL without memory. */
struct xf_policy *xf_spd_policy_new(struct xf_spd *spd, const struct xf_policy_config *cfg,
				    uint64_t now_ns);

/* Make the rules of @policy, whose part, pos and rank are known: 0 or -ENOMEM. */
int xf_spd_policy_prepare(struct xf_policy *policy);

/*
 * Put @policy, which is prepared, where readers find it, and @old (may be NULL),
 * which has the same identity, away: they find one or the other. 0 or -ENOMEM.
 */
int xf_spd_policy_publish(struct xf_policy *policy, struct xf_policy *old);
void xf_spd_policy_hide(struct xf_policy *policy);

/* Put the table's reference to @policy after a grace period; its rules go then. */
void xf_spd_policy_put_later(struct xf_policy *policy);

/* When a lifetime of @policy has to be looked at next; UINT64_MAX = never. */
uint64_t xf_spd_policy_due_ns(const struct xf_policy *policy);

/* What @policy's lifetimes say at @now_ns. */
enum policy_age { POLICY_FRESH, POLICY_SOFT, POLICY_HARD };
enum policy_age xf_spd_policy_age(const struct xf_policy *policy, uint64_t now_ns);

/* The dump order. Reserving makes room for one more. */
int xf_spd_order_reserve(struct xf_spd *spd);
void xf_spd_order_add(struct xf_spd *spd, struct xf_policy *policy);
void xf_spd_order_del(struct xf_spd *spd, const struct xf_policy *policy);
/*
 * The youngest policy that is older than @pos, or NULL. *@place is where it stands: the next search
 * begins there if that is still right, and need not be known.
 */
struct xf_policy *xf_spd_order_older(const struct xf_spd *spd, uint64_t pos, size_t *place);

#endif
