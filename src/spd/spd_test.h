/*
 * spd_test.h - what tests and benches ask about an SPD, and nobody else does.
 *
 * Threads: as spd.h; a lookup's cost is for readers, the rest for the control thread.
 */
#ifndef XF_SPD_SPD_TEST_H
#define XF_SPD_SPD_TEST_H

#include <xf/spd.h>

/* A number that changes with every change of the table. */
uint64_t xf_spd_generation(const struct xf_spd *spd);

/* How many buckets and rules of tables a lookup looks at. */
unsigned xf_spd_lookup_cost(const struct xf_spd *spd, enum xf_policy_dir dir,
			    const struct xf_flow *flow);

/* How much memory a policy takes by itself. */
size_t xf_policy_bytes(const struct xf_policy *policy);

#endif
