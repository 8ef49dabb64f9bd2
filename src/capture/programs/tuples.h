/*
 * tuples.h - policies as entries of the BPF programs' hash map (bpf/policy_maps.h): which entries
 * and kinds there should be, and what has changed since the kernel was told.
 *
 * Policies that ask for the same bits of a packet, and of these for the same values, are one entry:
 * that of the policy which the SPD would find first. What a policy costs does not depend on how
 * many there are. Policies with ports, when they are strict, have a second entry without them, for
 * packets that tell none: fragments behind the first. What a key does not tell exactly is in an
 * entry of a kind apart (enum xf_bpf_match).
 *
 * A part (a direction and a type) that has more kinds or entries than there is room for has none
 * at all in force; whoever uses it goes by something else. Control thread, no kernel.
 */
#ifndef XF_CAPTURE_TUPLES_H
#define XF_CAPTURE_TUPLES_H

#include <xf/spd.h>

#include "policy_maps.h"

/* A policy's place in an entry's heap. */
struct xf_tuple_member;

/* An entry. */
struct xf_tuple {
	struct xf_bpf_key key;
	struct xf_tuple_member *first; /* the policy that is asked first; NULL: it goes away */
	bool there; /* in the kernel */
	bool pending;
	struct xf_tuple *next; /* of the hash table */
	struct xf_tuple *next_pending;
};

struct xf_tuple_kind {
	struct xf_bpf_kind kind;
	uint32_t tuples; /* those that go away too; 0: the number is free */
	bool dirty; /* the kernel has another */
};

struct xf_tuple_part {
	struct xf_tuple_kind *kinds;
	uint32_t nkinds; /* numbers in use, free ones between them too */
	uint32_t policies;
	uint32_t lost_at; /* policies, when there was no room; 0: there is */
};

/* All zero is an empty one. */
struct xf_tuples {
	struct xf_tuple_part part[XF_BPF_PARTS];
	struct xf_tuple **buckets;
	struct xf_tuple_member **by_policy;
	size_t size; /* of both, a power of two */
	size_t count; /* entries */
	size_t members;
	struct xf_tuple *pending;
};

void xf_tuples_fini(struct xf_tuples *tuples);

/* Room for so many policies; where there is none, tables grow as they do without. */
void xf_tuples_reserve(struct xf_tuples *tuples, size_t policies);

static inline unsigned xf_tuples_part(uint8_t dir, uint8_t type)
{
	return 2u * dir + type;
}

/* A policy came or went; one with an if_id is none of ours. */
void xf_tuples_change(struct xf_tuples *tuples, const struct xf_policy *policy, bool there);

/* What the kernel should hold for @tuple, which has a policy. */
void xf_tuple_entry(const struct xf_tuple *tuple, struct xf_bpf_entry *out);

/* The kernel holds what is pending, and the kinds: forget entries that are nowhere. */
void xf_tuples_settled(struct xf_tuples *tuples);

/* A part that had no room could have it now: the caller tells of all its policies again. */
bool xf_tuples_can_restart(const struct xf_tuples *tuples, unsigned part);
void xf_tuples_restart(struct xf_tuples *tuples, unsigned part);

#endif
