/*
 * A hash table with chains. Peers choose some of what is in terms (a port behind a NAT), so the
 * hash has a secret.
 */
#include <stdlib.h>

#include <xf/hash.h>

#include "sad/terms.h"

#define BUCKETS_MIN 16

struct kept {
	struct kept *next;
	uint64_t hash;
	size_t refs;
	struct xf_sa_terms terms;
};

static struct {
	struct kept **buckets; /* NULL: nothing is kept */
	size_t nbuckets; /* a power of two */
	size_t count;
	uint64_t seed[2];
} table;

static struct kept **bucket_of(struct kept **buckets, size_t nbuckets, uint64_t hash)
{
	return &buckets[hash & (nbuckets - 1)];
}

/* False: no memory, and the table is as it was. */
static bool resize(size_t nbuckets)
{
	struct kept **buckets = calloc(nbuckets, sizeof(struct kept *));

	if (!buckets)
		return false;
	for (size_t i = 0; i < table.nbuckets; i++) {
		struct kept *kept = table.buckets[i], *next;

		for (; kept; kept = next) {
			struct kept **place = bucket_of(buckets, nbuckets, kept->hash);

			next = kept->next;
			kept->next = *place;
			*place = kept;
		}
	}
	free(table.buckets);
	table.buckets = buckets;
	table.nbuckets = nbuckets;
	return true;
}

void xf_terms_seed(const uint64_t seed[2])
{
	if (!table.buckets)
		memcpy(table.seed, seed, sizeof(table.seed));
}

static bool reserve(void)
{
	if (!table.buckets)
		return resize(BUCKETS_MIN);
	if (table.count == table.nbuckets)
		(void)resize(2 * table.nbuckets);
	return true;
}

static struct kept *find(const struct xf_sa_terms *terms, uint64_t hash)
{
	struct kept *kept = *bucket_of(table.buckets, table.nbuckets, hash);

	while (kept && (kept->hash != hash || memcmp(&kept->terms, terms, sizeof(*terms)) != 0))
		kept = kept->next;
	return kept;
}

static struct kept *add(const struct xf_sa_terms *terms, uint64_t hash)
{
	struct kept **place = bucket_of(table.buckets, table.nbuckets, hash);
	struct kept *kept = malloc(sizeof(*kept));

	if (!kept)
		return NULL;
	kept->hash = hash;
	kept->refs = 0;
	memcpy(&kept->terms, terms, sizeof(*terms));
	kept->next = *place;
	*place = kept;
	table.count++;
	return kept;
}

const struct xf_sa_terms *xf_terms_get(const struct xf_sa_terms *terms)
{
	struct kept *kept;
	uint64_t hash;

	if (!reserve())
		return NULL;
	hash = xf_hash(table.seed, terms, sizeof(*terms));
	kept = find(terms, hash);
	if (!kept)
		kept = add(terms, hash);
	if (!kept)
		return NULL;
	kept->refs++;
	return &kept->terms;
}

/* Far fewer than there were: give back what the table is too large by, with the last all of it. */
static void shrink(void)
{
	if (table.count == 0) {
		free(table.buckets);
		table.buckets = NULL;
		table.nbuckets = 0;
	} else if (table.nbuckets > BUCKETS_MIN && table.count < table.nbuckets / 8) {
		(void)resize(table.nbuckets / 2);
	}
}

void xf_terms_put(const struct xf_sa_terms *terms)
{
	/* What was got is not const here. */
	struct kept *kept = (struct kept *)((uintptr_t)terms - offsetof(struct kept, terms));
	struct kept **link;

	if (--kept->refs)
		return;
	link = bucket_of(table.buckets, table.nbuckets, kept->hash);
	while (*link != kept)
		link = &(*link)->next;
	*link = kept->next;
	free(kept);
	table.count--;
	shrink();
}

size_t xf_terms_count(void)
{
	return table.count;
}
