/*
 * table.h - chained hash table with links inside its entries, for the control thread alone.
 *
 * A bucket is a pointer whose low bits say what hashes its chain has, so that what is not there is
 * mostly not looked for in entries, each of which would be a cache miss. Only
 * xf_spd_table_reserve() allocates, so that adding what was reserved cannot fail.
 */
#ifndef XF_SPD_TABLE_H
#define XF_SPD_TABLE_H

#include <xf/base.h>

struct table_link {
	_Alignas(16) struct table_link *next;
	uint64_t hash;
};

/* All zero is an empty table. */
struct table {
	uintptr_t *buckets;
	size_t mask; /* buckets - 1, when there are any */
	size_t count;
};

void xf_spd_table_fini(struct table *table);

/* Make room for @count entries at good speed: 0 or -ENOMEM. */
int xf_spd_table_reserve(struct table *table, size_t count);

/* Soon, @hash will be looked for. */
void xf_spd_table_prefetch(const struct table *table, uint64_t hash);

/* There is room for @link, whose key has @hash. */
void xf_spd_table_add(struct table *table, struct table_link *link, uint64_t hash);

/* Take @link, which is in there, out. */
void xf_spd_table_del(struct table *table, struct table_link *link);

/* The first entry with @hash, and the next one: the caller compares keys. */
struct table_link *xf_spd_table_first(const struct table *table, uint64_t hash);
struct table_link *xf_spd_table_next(const struct table_link *link);

#endif
