/*
 * sieve.h - what policies of one direction act on, exactly: packets that are to be captured, or
 * plaintext that is not let in. As hash sets of the kernel, however many policies there are.
 *
 * Order counts (policy_order.h). Policies that act are all alike, so between two that
 * allow (a segment) their order means nothing, and those that select by addresses, mark, protocol
 * and ports alone (simple ones) are elements of sets: one for each segment, each two lengths of
 * prefixes and what is asked of mark, protocol and ports. All others have rules of their own.
 *
 * Fragments behind the first have no ports to match, so where ports decide they all count: such a
 * policy is in a set for pieces, too, without its ports.
 *
 * Control thread.
 */
#ifndef XF_CAPTURE_SIEVE_H
#define XF_CAPTURE_SIEVE_H

#include "capture/nft/cells.h"
#include "capture/policy_order.h"

/* A set of cells: of source, destination, mark, protocol and both ports what is asked for. */
struct xf_sieve_kind {
	uint32_t cells; /* with policies */
	uint32_t segment;
	uint32_t mark_mask;
	uint16_t port_mask[2]; /* of source, destination */
	uint8_t bits[2]; /* likewise */
	bool proto;
	bool pieces; /* of fragmented packets alone */
	bool blocks; /* of policies in and fwd that block: they have a counter of their own */
	bool six;
	bool made; /* in the kernel */
	bool ruled; /* the rules in force look into it */
};

/* The segment of those that no policy that allows comes before. */
#define XF_SIEVE_FIRST 0

struct xf_sieve {
	uint8_t dir;
	uint16_t round; /* in names of sets, which are not those of an earlier daemon */
	bool by_sets; /* else all policies have rules of their own */
	bool restart; /* segments are others now: tell of all policies again */
	bool rules_dirty; /* the rules in force are not those that should be */
	bool failed; /* for want of memory something is missing, until the next restart ... */
	bool lost; /* ... or for good: then there are no sets */
	uint32_t simple;
	uint32_t others; /* that act and are not simple: they have rules */
	struct xf_cells cells; /* the set is the kind's number */
	struct xf_sieve_kind *kinds;
	unsigned nkinds;
	struct xf_policy_order allows; /* that let pass, with the segment that each begins */
	uint32_t last_segment;
};

void xf_sieve_fini(struct xf_sieve *sieve);

/* A policy of the sieve's direction came or went. */
void xf_sieve_change(struct xf_sieve *sieve, const struct xf_policy *policy, bool there);

/* Start anew: the caller tells of all policies that are simple again, by change(). */
void xf_sieve_restart(struct xf_sieve *sieve);

/* Is @cfg, where there are sets, in them? */
bool xf_sieve_is_simple(const struct xf_policy_config *cfg);

/* How many rules there are to be, or a little more. */
uint32_t xf_sieve_rules(const struct xf_sieve *sieve);

/* The segment that @policy is in, or begins. */
uint32_t xf_sieve_segment(const struct xf_sieve *sieve, const struct xf_policy *policy);

#endif
