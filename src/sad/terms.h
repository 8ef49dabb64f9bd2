/*
 * terms.h - what the SAs of a SAD have in common, kept once for all that have it.
 *
 * A gateway's SAs differ in addresses, SPIs and keys; lifetimes, algorithms and options are those
 * of a few proposals. Control thread; readers have terms through the configuration of an SA.
 */
#ifndef XF_SAD_TERMS_H
#define XF_SAD_TERMS_H

#include <xf/sa.h>

struct xf_terms_kept;

/* All zero but for the seed: none are kept, and nothing is to be freed. */
struct xf_terms_table {
	struct xf_terms_kept **buckets; /* NULL: nothing is kept */
	size_t nbuckets; /* a power of two */
	size_t count;
	uint64_t seed[2]; /* of the hash; secret, constant */
};

/* Terms equal to @terms in @table, to be put once; or NULL: no memory. */
const struct xf_sa_terms *xf_terms_get(struct xf_terms_table *table,
				       const struct xf_sa_terms *terms);

/* When no reader can see them any more; the table that they are in is still there. */
void xf_terms_put(const struct xf_sa_terms *terms);

#endif
