/*
 * table.h - a chained hash table that readers walk without a lock while it grows.
 *
 * Links sit in the entries and have two sets of pointers. A table uses one set; to grow it links
 * all entries anew through the other one, publishes the new buckets and may use the first set
 * again after a grace period. The newest entry is first in its chain, before and after growing.
 *
 * One writer; readers inside an RCU section.
 */
#ifndef XF_SAD_TABLE_H
#define XF_SAD_TABLE_H

#include <stdatomic.h>

#include <xf/rcu.h>

struct xf_table_link {
	_Atomic(struct xf_table_link *) next[2];
	uint64_t hash; /* constant while linked */
};

struct xf_table_buckets;

struct xf_table {
	_Atomic(struct xf_table_buckets *) buckets; /* published by RCU */
	bool retiring; /* writer: the other set may have readers */
};

/* Start empty with @count buckets, a power of two: 0 or -ENOMEM. */
int xf_table_init(struct xf_table *table, uint32_t count);

/* Without readers. Entries are not looked at. */
void xf_table_fini(struct xf_table *table);

uint32_t xf_table_size(const struct xf_table *table);

void xf_table_add(struct xf_table *table, struct xf_table_link *link, uint64_t hash);
void xf_table_del(struct xf_table *table, struct xf_table_link *link);

/* Double the buckets; may wait for a grace period. Without memory the table stays as it is. */
void xf_table_grow(struct xf_table *table);

/* A walk over the entries whose hash is @hash, newest first. */
struct xf_table_walk {
	struct xf_table_link *link; /* the entry, or NULL: no more */
	uint64_t hash;
	unsigned set;
};
void xf_table_first(const struct xf_table *table, uint64_t hash, struct xf_table_walk *walk);
void xf_table_next(struct xf_table_walk *walk);

/* For batches, so that their misses overlap: fetch the bucket of @hash, then ask for what is first
 * in it (NULL: nothing), whatever its hash. */
void xf_table_fetch(const struct xf_table *table, uint64_t hash);
struct xf_table_link *xf_table_peek(const struct xf_table *table, uint64_t hash);

#endif
