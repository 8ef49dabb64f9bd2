/*
 * spd_sets.h - sets of policies and flows for the benchmark of policy lookups.
 *
 * Everything is drawn from one seeded generator: the same arguments give the same set. Each set
 * has an IPv6 twin, with prefixes of 32 to 128 bits where IPv4 has 8 to 32.
 */
#ifndef BENCH_SPD_SETS_H
#define BENCH_SPD_SETS_H

#include <xf/spd.h>

struct set_kind {
	const char *name;
	void (*draw)(struct xf_policy_config *cfg, uint32_t index);
	bool classless; /* makes no sense with a hundred thousand policies and more */
};

/* Ends with one without a name. */
extern const struct set_kind set_kinds[];

/* Or NULL. */
const struct set_kind *set_find(const char *name);

struct policy_set {
	const struct set_kind *kind;
	uint16_t family;
	uint32_t count;
	struct xf_policy_config *cfgs;
};

void set_seed(uint64_t seed);
uint32_t set_random(uint32_t below);

/* @count different policies of direction out. The caller frees set->cfgs. */
void set_init(struct policy_set *set, const struct set_kind *kind, uint16_t family, uint32_t count);

/* A flow that @cfg matches, random in all that it leaves open. */
void set_flow(const struct xf_policy_config *cfg, struct xf_flow *flow);

/* A flow from anywhere to anywhere. */
void set_stray(uint16_t family, struct xf_flow *flow);

#endif
