/*
 * sas.h - SAs for tests: ESP tunnels without keys between 10.0.0.0/8 addresses.
 */
#ifndef TEST_SAS_H
#define TEST_SAS_H

#include <xf/sad.h>

#define SAS_REAL_OFFSET_S 1700000000ull

/* An IPv4 address 10.0.0.@n; 0 is the wildcard. */
union xf_addr sas_addr(uint8_t n);

/* An ESP tunnel from 10.0.0.@src to 10.0.0.@dst without limits. */
struct xf_sa_config sas_config(uint8_t src, uint8_t dst, uint32_t spi);

/* SAs for @sad, in no table yet. */
struct xf_sa *sas_new(struct xf_sad *sad, const struct xf_sa_config *cfg, uint64_t now_ns);
struct xf_sa *sas_new_larval(struct xf_sad *sad, const struct xf_sa_config *cfg, uint64_t now_ns);
struct xf_sa *sas_new_as(struct xf_sad *sad, const struct xf_sa_config *cfg, enum xf_sa_state state,
			 uint64_t now_ns);

/* A SAD with a seeded source of randomness. */
struct xf_sad *sas_sad(uint32_t max_sas);

/* The calls on a SAD that a test means to succeed or wants the verdict of. */
struct xf_sa *sas_add(struct xf_sad *sad, const struct xf_sa_config *cfg);
int sas_try_add(struct xf_sad *sad, const struct xf_sa_config *cfg);
uint32_t sas_count(const struct xf_sad *sad);
int sas_alloc(struct xf_sad *sad, const struct xf_sa_config *cfg, uint32_t min, uint32_t max,
	      struct xf_sa **out);
int sas_update(struct xf_sad *sad, const struct xf_sa_config *cfg, struct xf_sa **now);

/* One outbound number as the wire has it, and one packet of the window under its lock. */
enum xf_drop sas_take_seq(struct xf_sa *sa, uint64_t *seq);
enum xf_drop sas_commit(struct xf_sa *sa, uint64_t seq);

/* A generator for tests: splitmix64. */
uint64_t sas_random(uint64_t *state);

/* The seed from the environment's TEST_SEED, else @fallback; printed. */
uint64_t sas_seed(uint64_t fallback);

#endif
