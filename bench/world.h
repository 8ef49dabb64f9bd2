/*
 * world.h - an engine with SAs, policies and packets, for benchmarks of the engine.
 *
 * Each SA is its own peer: what goes out through it comes in through it. In tunnel mode each serves
 * a policy of its own, for one inner address unless it is the only one; in transport mode all serve
 * one policy, and a packet's address chooses the SA. Threads: each thread has a worker's world;
 * worlds of one engine share its SAs. Lengths are bytes.
 */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include <xf/path.h>

struct world_config {
	const char *suite;
	const struct xf_crypto_provider *provider; /* NULL: the best for the suite */
	uint32_t sas;
	uint32_t policies; /* each way; without a set, one or one for each SA is the last of them */
	const struct xf_policy_config *set; /* NULL, or the selectors and priorities of these */
	bool transport;
	bool esn;
	struct xf_pool_config pool;
	bool ordered; /* its worker is one of several */
	bool one_worker; /* it has no other: xf_sad_config.one_worker */
	uint32_t replay_slack;
};

struct world {
	struct xf_engine *engine;
	struct xf_worker *worker;
	struct xf_sa **sas;
	uint32_t nsas;
	uint32_t npolicies; /* each way; also the next priority */
	uint32_t block; /* the text's length is a multiple of it */
	uint8_t mode;
	bool esn;
};

uint64_t bench_now_ns(void);

/* End the program with a message unless @fine. */
void bench_must(bool fine, const char *what);

/* False: no provider has the suite. The calling thread must be a registered reader. */
bool world_init(struct world *world, const struct world_config *cfg);
void world_fini(struct world *world);

/* The bytes under the cipher for an inner packet of @len. */
uint32_t world_text(const struct world *world, uint32_t len);

/* The inner packet for at least @text bytes under the cipher. */
uint32_t world_inner(const struct world *world, uint32_t text);

/* A UDP datagram of @len with its IP header, to the inner address of SA 0. */
struct xf_pkt *world_packet(struct world *world, uint32_t len);

/* A TCP super-packet of @count packets of @size bytes of payload each. */
struct xf_pkt *world_super(struct world *world, unsigned count, uint32_t size);

/* Address @pkt, a plain inner packet, to SA @index. */
void world_aim(struct xf_pkt *pkt, uint32_t index);

/* Give @pkt, a plain inner packet, the addresses of @flow. */
void world_aim_flow(struct xf_pkt *pkt, const struct xf_flow *flow);

/* Make an inner packet that has been out and in fit to go out again. */
void world_renew(struct xf_pkt *pkt);

#endif
