#include <errno.h>

#include <xf/huge.h>

#include "spd/table.h"

#define MIN_SIZE 64

static void free_buckets(struct table *table)
{
	if (table->buckets)
		xf_huge_free(table->buckets, (table->mask + 1) * sizeof(table->buckets[0]));
}

void xf_spd_table_fini(struct table *table)
{
	free_buckets(table);
	memset(table, 0, sizeof(*table));
}

#define FILTER_BITS ((uintptr_t)15)

static struct table_link *first_in(uintptr_t bucket)
{
	return (struct table_link *)(bucket & ~FILTER_BITS);
}

static uintptr_t filter_bit(uint64_t hash)
{
	return (uintptr_t)1 << (hash >> 62);
}

static void push(uintptr_t *buckets, size_t mask, struct table_link *link)
{
	uintptr_t *bucket = &buckets[link->hash & mask];

	link->next = first_in(*bucket);
	*bucket = (uintptr_t)link | (*bucket & FILTER_BITS) | filter_bit(link->hash);
}

static int resize(struct table *table, size_t size)
{
	uintptr_t *buckets = xf_huge_alloc(size * sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; table->buckets && i <= table->mask; i++) {
		struct table_link *next;

		for (struct table_link *link = first_in(table->buckets[i]); link; link = next) {
			next = link->next;
			push(buckets, size - 1, link);
		}
	}
	free_buckets(table);
	table->buckets = buckets;
	table->mask = size - 1;
	return 0;
}

int xf_spd_table_reserve(struct table *table, size_t count)
{
	size_t size = table->buckets ? table->mask + 1 : MIN_SIZE;

	if (table->buckets && count <= size)
		return 0;
	while (size < count)
		size *= 2;
	return resize(table, size);
}

void xf_spd_table_prefetch(const struct table *table, uint64_t hash)
{
	if (table->buckets)
		__builtin_prefetch(&table->buckets[hash & table->mask]);
}

void xf_spd_table_add(struct table *table, struct table_link *link, uint64_t hash)
{
	link->hash = hash;
	push(table->buckets, table->mask, link);
	table->count++;
}

/*
 * The chain of @bucket without @link. What its filter says of the others is not looked up: it may
 * say too much until the chain is empty.
 */
static uintptr_t without(uintptr_t bucket, const struct table_link *link)
{
	struct table_link *l = first_in(bucket);

	if (l == link)
		return link->next ? (uintptr_t)link->next | (bucket & FILTER_BITS) : 0;
	while (l->next != link)
		l = l->next;
	l->next = link->next;
	return bucket;
}

void xf_spd_table_del(struct table *table, struct table_link *link)
{
	uintptr_t *bucket = &table->buckets[link->hash & table->mask];

	*bucket = without(*bucket, link);
	table->count--;
	/* Late, so that tables do not grow and shrink in turn; without memory it stays. */
	if (table->mask >= MIN_SIZE && table->count < table->mask / 8)
		resize(table, (table->mask + 1) / 4);
}

static struct table_link *skip(struct table_link *link, uint64_t hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

struct table_link *xf_spd_table_first(const struct table *table, uint64_t hash)
{
	uintptr_t bucket = table->buckets ? table->buckets[hash & table->mask] : 0;

	return bucket & filter_bit(hash) ? skip(first_in(bucket), hash) : NULL;
}

struct table_link *xf_spd_table_next(const struct table_link *link)
{
	return skip(link->next, link->hash);
}
