/*
 * sim.h - two engines in one process, a wire between them, a clock that the test turns.
 *
 * Host A has 10.0.0.1 and fd00::1, host B 10.0.0.2 and fd00::2; behind them are the networks
 * 192.168.1.0/24 and 192.168.2.0/24, 2001:db8:1::/64 and 2001:db8:2::/64.
 */
#ifndef XF_TEST_SIM_H
#define XF_TEST_SIM_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <xf/frag.h>
#include <xf/path.h>
#include <xf/rcu.h>

/* A device that forwards packets of @family. */
struct sim_forwards {
	uint16_t family;
	uint32_t iif;
};

struct sim_host {
	struct xf_engine *engine;
	struct xf_worker *worker;
	union xf_addr addr4, addr6;
	uint32_t iif; /* what sim_in() and sim_carry() bring is received on this device */
	uint32_t exempt4; /* of IPv4 that this device has received no policy is asked */
	bool exempt6; /* likewise, of IPv6 for addr6 */
	_Atomic unsigned exempt_asked; /* how often the engine asked for that */
	const struct sim_forwards *forwards; /* as many as nforwards; NULL: every device does */
	unsigned nforwards;
	_Atomic unsigned wakes; /* how often the engine asked for xf_engine_take_events() */
	struct xf_path_result out; /* of the last sim_out() */
	struct xf_path_result in; /* of the last sim_in() */
};

/* Of both engines; zero is a default. */
struct sim_options {
	struct xf_crypto_wake wake; /* of the workers */
	uint32_t replay_slack;
	bool one_worker;
};

struct sim {
	struct sim_host a, b;
	const struct xf_crypto_provider *provider; /* of keys; NULL: the best */
	struct sim_options options;
	uint64_t now_ns;
	uint64_t rng;
};

void sim_init(struct sim *sim, uint64_t seed);
void sim_init_with(struct sim *sim, const struct sim_options *options, uint64_t seed);
/* Every packet must be back in its pool by then. */
void sim_fini(struct sim *sim);

/* A fresh engine and worker in the place of ones that were freed. */
void sim_host_again(struct sim *sim, struct sim_host *host);

uint32_t sim_random(struct sim *sim, uint32_t below);
union xf_addr sim_addr(const char *text);

/* What a test says of an SA; zero is a default: tunnel mode, ESP between the hosts' addresses. */
struct sim_sa {
	const char *aead; /* default rfc4106(gcm(aes)), 160 bits, ICV 128 */
	const char *crypt;
	const char *auth;
	uint32_t key_bits;
	uint32_t icv_bits;
	bool v6; /* outer family */
	bool reverse; /* from B to A */
	uint32_t spi;
	uint32_t reqid;
	uint8_t mode; /* XF_MODE_… */
	uint8_t proto; /* default ESP */
	bool transport;
	uint8_t flags;
	uint32_t replay_window;
	uint16_t encap_port;
	uint32_t if_id;
	struct xf_selector sel;
	struct xf_lifetime life;
	uint8_t dir;
};

/* Install the SA on @host: returns it, borrowed. */
struct xf_sa *sim_add_sa(struct sim *sim, struct sim_host *host, const struct sim_sa *sa);

/* The same SA on both hosts. */
void sim_add_sa_both(struct sim *sim, const struct sim_sa *sa);

/* A policy between @src and @dst ("10.0.0.0/8"); with @tmpl its one template. */
struct sim_policy {
	const char *src;
	const char *dst;
	uint8_t dir;
	uint8_t action;
	uint8_t flags; /* XF_POLICY_… */
	uint8_t proto;
	uint16_t dport;
	uint32_t priority;
	uint32_t reqid;
	uint32_t if_id;
	uint8_t tmpl_proto; /* default ESP */
	uint32_t outer_reqid; /* of a second template in transport mode, behind the first */
	uint8_t outer_proto; /* likewise */
	bool transport;
	bool v6_outer;
	bool reverse; /* the template's tunnel goes from B to A */
	bool no_tmpl;
	bool optional;
};
struct xf_policy *sim_add_policy(struct sim *sim, struct sim_host *host,
				 const struct sim_policy *policy);

/* A tunnel for the networks behind A and B, both ways, and its policies out, in and fwd. */
void sim_add_tunnel(struct sim *sim, const struct sim_sa *like);

/*
 * A UDP datagram of @len bytes in all with a recognisable payload, checksums right. @flags: DF for
 * IPv4. The packet comes from @host's pool.
 */
struct sim_udp {
	const char *src;
	const char *dst;
	uint16_t sport;
	uint16_t dport;
	uint32_t len;
	bool df;
	uint8_t tos;
	uint8_t proto; /* default UDP; TCP makes a segment without options */
	uint32_t tag; /* in the first payload bytes */
};
struct xf_pkt *sim_udp(struct sim_host *host, const struct sim_udp *udp);
struct xf_pkt *sim_udp_from(struct xf_worker *worker, const struct sim_udp *udp);

/* Hand @pkt to the host as captured; the result is in host->out. */
void sim_out(struct sim *sim, struct sim_host *host, struct xf_pkt *pkt);

/* Hand a copy of @pkt, which is freed, to @host as received from the wire: host->in. */
void sim_in(struct sim *sim, struct sim_host *host, struct xf_pkt *pkt);

/* All of @from's wire to @to. */
void sim_carry(struct sim *sim, struct sim_host *from, struct sim_host *to);

/* Free what is in @q; returns how many there were. */
unsigned sim_drain(struct xf_pktq *q);

uint64_t sim_drops(struct sim_host *host, enum xf_drop reason);
uint64_t sim_all_drops(struct sim_host *host);

#endif
