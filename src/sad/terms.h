/*
 * terms.h - what SAs have in common, kept once for all that have it.
 *
 * A gateway's SAs differ in addresses, SPIs and keys; lifetimes, algorithms and options are those
 * of a few proposals. Control thread; readers have terms through the configuration of an SA.
 */
#ifndef XF_SAD_TERMS_H
#define XF_SAD_TERMS_H

#include <xf/sa.h>

/* Hash under @seed, which is secret; with terms kept under another one already, that stays. */
void xf_terms_seed(const uint64_t seed[2]);

/* Terms equal to @terms, to be put once; or NULL: no memory. */
const struct xf_sa_terms *xf_terms_get(const struct xf_sa_terms *terms);

/* When no reader can see them any more. */
void xf_terms_put(const struct xf_sa_terms *terms);

/* For tests: how many are kept. */
size_t xf_terms_count(void);

#endif
