/*
 * Growing leaves the old chains as they are, so that a reader that began in them ends in them. An
 * entry taken out meanwhile is still in an old chain; it is freed after a grace period, as the old
 * buckets are, and by then nobody is there any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "table.h"

struct xf_table_buckets {
	struct xf_rcu_head rcu;
	struct xf_table *table;
	uint32_t mask;
	unsigned set;
	_Atomic(struct xf_table_link *) heads[];
};

static struct xf_table_buckets *buckets_new(struct xf_table *table, uint32_t count, unsigned set)
{
	struct xf_table_buckets *buckets =
		calloc(1, sizeof(*buckets) + count * sizeof(buckets->heads[0]));

	if (!buckets)
		return NULL;
	buckets->table = table;
	buckets->mask = count - 1;
	buckets->set = set;
	return buckets;
}

static struct xf_table_buckets *current(const struct xf_table *table)
{
	return atomic_load_explicit(&table->buckets, memory_order_acquire);
}

int xf_table_init(struct xf_table *table, uint32_t count)
{
	struct xf_table_buckets *buckets = buckets_new(table, count, 0);

	if (!buckets)
		return -ENOMEM;
	atomic_init(&table->buckets, buckets);
	table->retiring = false;
	return 0;
}

void xf_table_fini(struct xf_table *table)
{
	free(current(table));
}

uint32_t xf_table_size(const struct xf_table *table)
{
	return current(table)->mask + 1;
}

/* The release makes the entry whole for a reader before it can be met. */
void xf_table_add(struct xf_table *table, struct xf_table_link *link, uint64_t hash)
{
	struct xf_table_buckets *buckets = current(table);
	_Atomic(struct xf_table_link *) *head = &buckets->heads[hash & buckets->mask];

	link->hash = hash;
	atomic_store_explicit(&link->next[buckets->set],
			      atomic_load_explicit(head, memory_order_relaxed),
			      memory_order_relaxed);
	atomic_store_explicit(head, link, memory_order_release);
}

/* The pointer back is left: a reader that stands on @link goes on from there. */
void xf_table_del(struct xf_table *table, struct xf_table_link *link)
{
	struct xf_table_buckets *buckets = current(table);
	unsigned set = buckets->set;
	_Atomic(struct xf_table_link *) *at = &buckets->heads[link->hash & buckets->mask];
	struct xf_table_link *other;

	while ((other = atomic_load_explicit(at, memory_order_relaxed)) != link)
		at = &other->next[set];
	atomic_store_explicit(at, atomic_load_explicit(&link->next[set], memory_order_relaxed),
			      memory_order_release);
}

/* Deal the chain at @head out to two buckets; each keeps the order. */
static void split(struct xf_table_link *head, unsigned from_set, struct xf_table_buckets *to,
		  uint32_t bucket, uint32_t distance)
{
	_Atomic(struct xf_table_link *) *tails[2] = { &to->heads[bucket],
						      &to->heads[bucket + distance] };

	for (struct xf_table_link *link = head; link;
	     link = atomic_load_explicit(&link->next[from_set], memory_order_relaxed)) {
		unsigned upper = (link->hash & distance) != 0;

		atomic_store_explicit(tails[upper], link, memory_order_relaxed);
		tails[upper] = &link->next[to->set];
	}
	atomic_store_explicit(tails[0], NULL, memory_order_relaxed);
	atomic_store_explicit(tails[1], NULL, memory_order_relaxed);
}

/* Now nobody walks the other set of links: the next growth may use it. */
static void retired(struct xf_rcu_head *head)
{
	struct xf_table_buckets *buckets = XF_CONTAINER_OF(head, struct xf_table_buckets, rcu);

	buckets->table->retiring = false;
	free(buckets);
}

void xf_table_grow(struct xf_table *table)
{
	struct xf_table_buckets *old = current(table);
	uint32_t count = old->mask + 1;
	struct xf_table_buckets *new = buckets_new(table, count * 2, !old->set);

	if (!new)
		return;
	/* Twice within one grace period: the links wanted now may still have readers. */
	if (table->retiring)
		xf_rcu_drain();
	for (uint32_t i = 0; i < count; i++)
		split(atomic_load_explicit(&old->heads[i], memory_order_relaxed), old->set, new, i,
		      count);
	atomic_store_explicit(&table->buckets, new, memory_order_release);
	table->retiring = true;
	xf_rcu_defer(&old->rcu, retired);
}

/* Chains hold several hashes; the whole hash is nearly as good as the key and costs no miss. */
static void skip_others(struct xf_table_walk *walk)
{
	while (walk->link && walk->link->hash != walk->hash)
		walk->link =
			atomic_load_explicit(&walk->link->next[walk->set], memory_order_acquire);
}

void xf_table_first(const struct xf_table *table, uint64_t hash, struct xf_table_walk *walk)
{
	struct xf_table_buckets *buckets = current(table);

	walk->hash = hash;
	walk->set = buckets->set;
	walk->link =
		atomic_load_explicit(&buckets->heads[hash & buckets->mask], memory_order_acquire);
	skip_others(walk);
}

void xf_table_next(struct xf_table_walk *walk)
{
	walk->link = atomic_load_explicit(&walk->link->next[walk->set], memory_order_acquire);
	skip_others(walk);
}

void xf_table_fetch(const struct xf_table *table, uint64_t hash)
{
	const struct xf_table_buckets *buckets = current(table);

	__builtin_prefetch(&buckets->heads[hash & buckets->mask]);
}

struct xf_table_link *xf_table_peek(const struct xf_table *table, uint64_t hash)
{
	struct xf_table_buckets *buckets = current(table);

	return atomic_load_explicit(&buckets->heads[hash & buckets->mask], memory_order_acquire);
}
