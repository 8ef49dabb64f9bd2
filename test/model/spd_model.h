/*
 * spd_model.h - lists of policies kept as the kernel's xfrm_policy.c keeps them, and random
 * policies and flows that meet each other often.
 *
 * The model has the kernel's chains: one for host-to-host selectors of each direction, and for
 * the others those of the inexact bin of (direction, type, family, if_id). The bin's trees only
 * keep apart what cannot match the same packet; the model has one chain for all of a tree.
 *
 * Threads: one model, for one thread. Randomness is rand()'s.
 */
#ifndef TEST_SPD_MODEL_H
#define TEST_SPD_MODEL_H

#include <xf/spd.h>

/* 5 chains a bin; the first, of exact selectors, only exists once a direction. */
enum { EXACT, BOTH, SADDR, DADDR, ANY, CHAIN_KINDS };
#define MODEL_IF_IDS 3
#define BINS (XF_DIR_MAX * 2 * 2 * MODEL_IF_IDS)

struct entry {
	struct xf_policy_config cfg;
	uint32_t pos;
	int chain;
	struct entry *chain_next;
	struct entry *all_next;
};

struct model {
	struct entry *chains[BINS * CHAIN_KINDS];
	struct entry *all; /* policy_all: youngest first */
	uint32_t generator;
	unsigned count[XF_DIR_MAX];
	unsigned total;
};
extern struct model model;

/*
 * Few dimensions, long lists, many ties; the second time about addresses that begin with zeros.
 * In a crowd, many selectors share what a table would be keyed by and differ in the rest. The last
 * one has every field, and prefixes of every length.
 */
enum world { WIDE, NARROW, NARROW_ZERO, CROWD, SPREAD, EVERY, WORLDS };
extern enum world world;

uint32_t below(uint32_t n);

/* As xf_spd_insert(); the new entry is model.all. */
int model_insert(const struct xf_policy_config *cfg, bool excl);
void model_delete(struct entry *entry);
void model_clear(void);
struct entry *model_lookup(const struct xf_flow *flow, int dir);
bool model_wants_whole(const struct xf_flow *flow, int dir);

/* Do they name the same policy? */
bool model_same(const struct xf_policy_config *a, const struct xf_policy_config *b);

/* Any one, or NULL when there is none. */
struct entry *random_entry(void);

void random_config(struct xf_policy_config *cfg);

/* Often one that is there already, changed in what is no identity. */
void random_config_again(struct xf_policy_config *cfg);
void random_flow(struct xf_flow *flow);

/* A direction that policies of this world have. */
int random_dir(void);

/* One that some entry matches, or nearly; sometimes any. */
void random_aimed_flow(struct xf_flow *flow);

void id_of(const struct xf_policy_config *cfg, struct xf_policy_id *id);

#endif
