/*
 * node.h - tables of rules by tuple, and below a crowded key a node with more of them.
 *
 * A tuple says which bits of a flow make a table's key. In the root it is two quantised prefix
 * lengths (the idea of TupleMerge: few tables, each for many lengths). When more than a few rules
 * share a key there, they move into a node of their own, whose tuples have what tells them apart:
 * ports and protocol, mark and interface, finer prefixes, or at last everything, where no two
 * rules share a key. So no choice of policies makes a long list, and only packets with that key
 * pay for the node's tables.
 *
 * Threads: the control thread writes; readers under RCU. Only additions allocate.
 */
#ifndef XF_SPD_NODE_H
#define XF_SPD_NODE_H

#include <xf/rcu.h>

#include "spd/arena.h"
#include "spd/cells.h"

/* Prefix lengths are rounded down to one of these; the root has a table for each two. */
#define LEVELS 5
#define ROOT_TABLES (LEVELS * LEVELS)

enum step {
	STEP_PORTS = 1,
	STEP_MARK = 2,
	STEP_PREFIX = 4,
	STEP_ALL = 8,
};

/* What all classifiers of an SPD share. */
struct space {
	struct arena arena;
	uint64_t keys[FLOW_WORDS + 1]; /* of the hash, constant */
	_Atomic uint64_t moves; /* how often rules went below: a search across that looks again */
};

struct table_of {
	_Alignas(XF_CACHE_LINE) uint64_t mask[FLOW_WORDS]; /* constant: the tuple */
	_Atomic cells_word cells;
	struct xf_rcu_head rcu;
	uint32_t count; /* control thread */
	bool is_long; /* constant: has the addresses' second halves in its key */
	bool is_wide; /* constant: more than addresses */
};

struct table_list {
	struct xf_rcu_head rcu;
	uint32_t count; /* constant */
	_Atomic(struct table_of *) tables[];
};

struct node {
	struct xf_rcu_head rcu;
	struct space *space;
	_Atomic(struct table_list *) list;
	_Atomic uint32_t present; /* the root's tables that have rules, as bits */
	_Atomic uint32_t min_priority; /* no rule in here has a smaller one */
	uint32_t count; /* control thread: rules in here and below */
	uint32_t rule; /* that stands for this node in its parent's table */
	struct node *below; /* the first of those in its tables */
	struct node *next;
	struct node **link;
	uint16_t family; /* constant, as all below */
	uint8_t steps;
	union flow_words key; /* what all rules in here share, in the parent's tuple */
};

/* Which of the LEVELS a prefix of @prefix_bits is of, and how long those are. */
unsigned xf_spd_node_level(uint16_t family, uint8_t prefix_bits);
uint8_t xf_spd_node_level_bits(uint16_t family, unsigned level);

/* The root's table for @rule. */
unsigned xf_spd_node_root_table(uint16_t family, const struct rule *rule);

/* An empty root: NULL without memory. */
struct node *xf_spd_node_new_root(struct space *space, uint16_t family);

/* At once, or after a grace period; rules stay with whom they belong to. */
void xf_spd_node_free(struct node *node);
void xf_spd_node_free_later(struct node *node);

/* Soon, rule @id is added or deleted. */
void xf_spd_node_prefetch(const struct node *root, uint32_t id);

/* Add rule @id: 0 or -ENOMEM. */
int xf_spd_node_add(struct node *root, uint32_t id);

/* Put rule @by, which matches the same, in the place of rule @id. */
void xf_spd_node_replace(struct node *root, uint32_t id, uint32_t by);
void xf_spd_node_del(struct node *root, uint32_t id);

/* Visit all rules; @visit returns false to stop. */
bool xf_spd_node_walk(const struct node *node, bool (*visit)(void *arg, uint32_t id), void *arg);

/* wyhash's way to mix two words: the 128-bit product, folded. */
static inline uint64_t node_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The hash of @table's key in @w. Without the keys nobody can aim at a bucket. */
static inline uint64_t node_hash(const struct space *space, const struct table_of *table,
				 const uint64_t *w)
{
	const uint64_t *k = space->keys;
	const uint64_t *m = table->mask;
	uint64_t h = node_mix((w[0] & m[0]) ^ k[0], (w[2] & m[2]) ^ k[1]);

	if (table->is_long)
		h ^= node_mix((w[1] & m[1]) ^ k[2], (w[3] & m[3]) ^ k[3]);
	if (table->is_wide)
		h ^= node_mix((w[4] & m[4]) ^ k[4], (w[5] & m[5]) ^ k[5] ^ ((w[6] & m[6]) << 32));
	return node_mix(h ^ k[6], k[7]);
}

#endif
