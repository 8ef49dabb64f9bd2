/*
 * A hash table with chains. Peers choose some of what is in terms (a port behind a NAT), so the
 * hash has a secret.
 */
#include <stdlib.h>

#include <xf/hash.h>

#include "sad/terms.h"

#define BUCKETS_MIN 16

struct xf_terms_kept {
	struct xf_terms_table *table; /* that they are in */
	struct xf_terms_kept *next;
	uint64_t hash;
	size_t refs;
	struct xf_sa_terms terms;
};

static struct xf_terms_kept **bucket_of(struct xf_terms_kept **buckets, size_t nbuckets,
					uint64_t hash)
{
	return &buckets[hash & (nbuckets - 1)];
}

/* False: no memory, and the table is as it was. */
static bool resize(struct xf_terms_table *table, size_t nbuckets)
{
	struct xf_terms_kept **buckets = calloc(nbuckets, sizeof(struct xf_terms_kept *));

	if (!buckets)
		return false;
	for (size_t i = 0; i < table->nbuckets; i++) {
		struct xf_terms_kept *kept = table->buckets[i], *next;

		for (; kept; kept = next) {
			struct xf_terms_kept **place = bucket_of(buckets, nbuckets, kept->hash);

			next = kept->next;
			kept->next = *place;
			*place = kept;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->nbuckets = nbuckets;
	return true;
}

static bool reserve(struct xf_terms_table *table)
{
	if (!table->buckets)
		return resize(table, BUCKETS_MIN);
	if (table->count == table->nbuckets)
		(void)resize(table, 2 * table->nbuckets);
	return true;
}

static struct xf_terms_kept *find(const struct xf_terms_table *table,
				  const struct xf_sa_terms *terms, uint64_t hash)
{
	struct xf_terms_kept *kept = *bucket_of(table->buckets, table->nbuckets, hash);

	while (kept && (kept->hash != hash || memcmp(&kept->terms, terms, sizeof(*terms)) != 0))
		kept = kept->next;
	return kept;
}

static struct xf_terms_kept *add(struct xf_terms_table *table, const struct xf_sa_terms *terms,
				 uint64_t hash)
{
	struct xf_terms_kept **place = bucket_of(table->buckets, table->nbuckets, hash);
	struct xf_terms_kept *kept = malloc(sizeof(*kept));

	if (!kept)
		return NULL;
	kept->table = table;
	kept->hash = hash;
	kept->refs = 0;
	memcpy(&kept->terms, terms, sizeof(*terms));
	kept->next = *place;
	*place = kept;
	table->count++;
	return kept;
}

const struct xf_sa_terms *xf_terms_get(struct xf_terms_table *table,
				       const struct xf_sa_terms *terms)
{
	struct xf_terms_kept *kept;
	uint64_t hash;

	if (!reserve(table))
		return NULL;
	hash = xf_hash(table->seed, terms, sizeof(*terms));
	kept = find(table, terms, hash);
	if (!kept)
		kept = add(table, terms, hash);
	if (!kept)
		return NULL;
	kept->refs++;
	return &kept->terms;
}

/* Far fewer than there were: give back what the table is too large by, with the last all of it. */
static void shrink(struct xf_terms_table *table)
{
	if (table->count == 0) {
		free(table->buckets);
		table->buckets = NULL;
		table->nbuckets = 0;
	} else if (table->nbuckets > BUCKETS_MIN && table->count < table->nbuckets / 8) {
		(void)resize(table, table->nbuckets / 2);
	}
}

void xf_terms_put(const struct xf_sa_terms *terms)
{
	/* What was got is not const here. */
	struct xf_terms_kept *kept =
		(struct xf_terms_kept *)((uintptr_t)terms - offsetof(struct xf_terms_kept, terms));
	struct xf_terms_table *table = kept->table;
	struct xf_terms_kept **link;

	if (--kept->refs)
		return;
	link = bucket_of(table->buckets, table->nbuckets, kept->hash);
	while (*link != kept)
		link = &(*link)->next;
	*link = kept->next;
	free(kept);
	table->count--;
	shrink(table);
}
