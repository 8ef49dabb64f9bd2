/*
 * twins.h - policies that match the same packets: only the first of them is in an index.
 *
 * A policy is a member of up to four indexes of its part. Members with the same rule are twins,
 * in a pairing heap by rank, whose top is in the index: so the others cost lookups nothing, and
 * any of them comes and goes in logarithmic time.
 *
 * Threads: the control thread alone; what readers see changes in one step.
 */
#ifndef XF_SPD_TWINS_H
#define XF_SPD_TWINS_H

#include "spd/rule.h"
#include "spd/table.h"

/* Bits: a kind without ports is for fragments, which have none; one without interface is for
 * packets of which it is not known. Kinds for fragments have no order: any policy will do. */
enum kind {
	KIND_MAIN = 0,
	KIND_WHOLE = 1,
	KIND_NO_IF = 2,
	KINDS = 4,
};

struct xf_spd;

struct member {
	struct table_link by_match; /* of the top */
	struct member *child; /* the heap: */
	struct member *next;
	struct member **link;
	struct xf_policy *policy;
	uint32_t rule; /* RULE_NONE: another twin has it, or no packet matches */
	uint8_t kind;
	bool joined;
	bool top;
};

/* Before the first of the others: @member has its rule now. */
void xf_spd_twins_prepare(const struct xf_spd *spd, struct member *member);

/* Soon, @member leaves. */
void xf_spd_twins_prefetch(const struct xf_spd *spd, const struct member *member);

/* Enter @member's rule, which is its own so far: 0 or -ENOMEM. */
int xf_spd_twins_join(struct xf_spd *spd, struct member *member);

void xf_spd_twins_leave(struct xf_spd *spd, struct member *member);

/* Put @by, which matches the same, in the place of @member: readers find one or the other. */
void xf_spd_twins_swap(struct xf_spd *spd, struct member *member, struct member *by);

#endif
