/*
 * scan.h - up to 64 rules side by side, compared with a flow all at once.
 *
 * Selectors stand in lanes: for each word of a flow that any rule looks at, the rules' values, then
 * their masks. A flow's matches are a bitmap. Rules are in order of priority and rank, so mostly
 * its first bit is the answer.
 *
 * Threads: constant once published, except that rules may be taken out or replaced in their place.
 */
#ifndef XF_SPD_SCAN_H
#define XF_SPD_SCAN_H

#include <xf/rcu.h>

#include "spd/arena.h"

#define SCAN_MAX 64
#define SCAN_BLOCK 16 /* lanes are padded to whole blocks */

/* What a reader finds: a scan or a root (index.h). */
struct set {
	bool is_scan;
};

struct scan {
	struct set set;
	uint8_t nwords;
	uint8_t words[2 * FLOW_WORDS]; /* which of a flow's 32-bit words are compared */
	bool mixed; /* the first bit may be wrong: several classes, and some rule was updated */
	uint32_t lanes;
	_Atomic uint64_t live;
	_Atomic bool dirty; /* likewise: a rule was replaced by another of other rank */
	struct xf_rcu_head rcu;
	_Atomic(const struct rule *) rules[SCAN_MAX];
	uint32_t ids[SCAN_MAX]; /* control thread */
	_Alignas(XF_CACHE_LINE) uint32_t lane[]; /* nwords times values, masks */
};

/* Of @count rules: NULL without memory. @ids is put in order. */
struct scan *xf_spd_scan_new(const struct arena *arena, uint32_t *ids, uint32_t count);
void xf_spd_scan_free(struct scan *scan);
void xf_spd_scan_free_later(struct scan *scan);

/* The numbers of its rules: how many. */
uint32_t xf_spd_scan_ids(const struct scan *scan, uint32_t *ids);

/* Put rule @by in the place of rule @id at once, whatever its rank. */
void xf_spd_scan_swap(struct scan *scan, const struct arena *arena, uint32_t id, uint32_t by);

/* Returns whether any rule is left. */
bool xf_spd_scan_del(struct scan *scan, uint32_t id);

/* The bitmaps of rules that match flows[at[i]], for @n of them. */
typedef void scan_fn(const struct scan *scan, const struct xf_flow *flows, const uint8_t *at,
		     unsigned n, uint64_t *matches);

struct scan_variant {
	const char *name;
	scan_fn *match;
	bool (*usable)(void);
};

/* The fastest first; the last one, without a match function, ends the list. */
extern const struct scan_variant xf_spd_scan_variants[];
scan_fn *xf_spd_scan_best(void);

scan_fn xf_spd_scan_portable;

#endif
