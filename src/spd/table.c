#include <errno.h>
#include <stdlib.h>

#include "spd/table.h"

#define SIZE_MIN 16

void table_fini(struct table *table)
{
	free(table->buckets);
	memset(table, 0, sizeof(*table));
}

static void push(struct table_link **buckets, size_t mask, struct table_link *link)
{
	struct table_link **bucket = &buckets[link->hash & mask];

	link->next = *bucket;
	*bucket = link;
}

static int resize(struct table *table, size_t size)
{
	struct table_link **buckets = calloc(size, sizeof(struct table_link *));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; table->buckets && i <= table->mask; i++) {
		struct table_link *next;

		for (struct table_link *link = table->buckets[i]; link; link = next) {
			next = link->next;
			push(buckets, size - 1, link);
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->mask = size - 1;
	return 0;
}

int table_reserve(struct table *table, size_t count)
{
	size_t size = table->buckets ? table->mask + 1 : SIZE_MIN;

	if (table->buckets && count <= size)
		return 0;
	while (size < count)
		size *= 2;
	return resize(table, size);
}

void table_add(struct table *table, struct table_link *link, uint64_t hash)
{
	link->hash = hash;
	push(table->buckets, table->mask, link);
	table->count++;
}

void table_del(struct table *table, struct table_link *link)
{
	struct table_link **p = &table->buckets[link->hash & table->mask];

	while (*p != link)
		p = &(*p)->next;
	*p = link->next;
	table->count--;
	/* Where there is no memory for a smaller one, the large one does. */
	if (table->mask >= SIZE_MIN && table->count < table->mask / 8)
		resize(table, (table->mask + 1) / 2);
}

static struct table_link *skip(struct table_link *link, uint64_t hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

struct table_link *table_first(const struct table *table, uint64_t hash)
{
	return table->buckets ? skip(table->buckets[hash & table->mask], hash) : NULL;
}

struct table_link *table_next(const struct table_link *link)
{
	return skip(link->next, link->hash);
}
