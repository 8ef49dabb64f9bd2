/*
 * sa.h - one security association: what the user configured, and its state now.
 *
 * Threads: a configuration is constant once an SA has it (an update publishes a new one under
 * RCU). Counters and sequence numbers are atomics inside the opaque struct xf_sa. The
 * control thread makes and changes SAs; workers use them between xf_read_begin() and
 * xf_read_end(), or with a reference.
 *
 * Units are in the names; times are the engine's monotonic clock. SPIs are host order.
 */
#ifndef XF_SA_H
#define XF_SA_H

#include <xf/crypto.h>
#include <xf/ivgen.h>
#include <xf/replay.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_ALG_NAME_LEN 64 /* of the kernel's, in netlink */
#define XF_INF UINT64_MAX

/* The values are those of <linux/xfrm.h>. */
enum xf_mode {
	XF_MODE_TRANSPORT = 0,
	XF_MODE_TUNNEL = 1,
	XF_MODE_ROUTEOPTIMIZATION = 2,
	XF_MODE_IN_TRIGGER = 3,
	XF_MODE_BEET = 4,
};

enum xf_sa_flag {
	XF_SA_NOECN = 1,
	XF_SA_DECAP_DSCP = 2,
	XF_SA_NOPMTUDISC = 4,
	XF_SA_WILDRECV = 8,
	XF_SA_ICMP = 16,
	XF_SA_AF_UNSPEC = 32,
	XF_SA_ALIGN4 = 64,
	XF_SA_ESN = 128,
};

enum xf_sa_extra_flag { XF_SA_DONT_ENCAP_DSCP = 1, XF_SA_OSEQ_MAY_WRAP = 2 };
enum xf_sa_dir { XF_SA_DIR_ANY = 0, XF_SA_DIR_IN = 1, XF_SA_DIR_OUT = 2 };

/* The kernel's XFRM_STATE_*, and one of ours. */
enum xf_sa_state {
	XF_SA_VOID,
	XF_SA_ACQ, /* larval: ALLOCSPI made it, no keys yet */
	XF_SA_VALID,
	XF_SA_ERROR,
	XF_SA_EXPIRED,
	XF_SA_DEAD,
	XF_SA_FROZEN, /* out of use: its numbers are read, or have just come (xf/freeze.h) */
};

struct xf_sa_id {
	union xf_addr daddr;
	uint32_t spi;
	uint16_t family; /* of the outer addresses */
	uint8_t proto; /* XF_IPPROTO_ESP, _AH, _COMP, … */
};

/* Limits; XF_INF = none. Seconds: 0 = none, as the kernel has it. */
struct xf_lifetime {
	uint64_t soft_bytes, hard_bytes;
	uint64_t soft_packets, hard_packets;
	uint64_t soft_add_s, hard_add_s;
	uint64_t soft_use_s, hard_use_s;
};

/* add and use are seconds of the wall clock, for people; 0 = never. */
struct xf_lifetime_now {
	uint64_t bytes, packets, add_s, use_s;
};

struct xf_alg_name {
	const char *name; /* of a struct xf_alg_desc, so it is there for ever; NULL: not given */
	uint32_t key_bits;
	uint32_t icv_bits; /* AEAD: ICV; auth: truncation, 0 = given by XFRMA_ALG_AUTH */
};

struct xf_encap {
	uint16_t type; /* 0 = none; 2 = ESP in UDP (RFC 3948) */
	uint16_t sport;
	uint16_t dport;
	union xf_addr oa;
};

/*
 * What SAs may have in common. It is kept once for all whose terms are equal, byte by byte: whoever
 * fills it clears it first.
 */
struct xf_sa_terms {
	struct xf_selector sel; /* family 0: matches all */
	struct xf_mark mark;
	struct xf_mark set_mark; /* on the outer packet: (mark & ~m) | (v & m) */
	struct xf_lifetime life;
	struct xf_encap encap;
	struct xf_alg_name aead, crypt, auth; /* as given, for dumps */
	struct xf_suite suite;
	uint32_t replay_window;
	uint32_t extra_flags;
	uint32_t tfc_pad;
	uint32_t pcpu; /* UINT32_MAX = any */
	bool replay_esn_attr; /* configured by XFRMA_REPLAY_ESN_VAL, dumped the same way */
};

/* What an SA is made from, ... */
struct xf_sa_config {
	struct xf_sa_id id;
	union xf_addr saddr;
	uint32_t reqid, if_id;
	uint32_t seq; /* of the ACQUIRE that asked for it */
	uint8_t mode, flags, dir;
	bool has_coaddr;
	union xf_addr coaddr; /* care-of address of mobile IPv6 (XFRMA_COADDR) */
	struct xf_sa_terms terms;
};

/* ... and what it shows of that, but for what few have: what policies ask is in one cache line. */
struct xf_sa_view {
	struct xf_sa_id id;
	union xf_addr saddr;
	uint32_t reqid, if_id;
	uint32_t seq;
	uint8_t mode;
	uint8_t flags;
	uint8_t dir;
	const struct xf_sa_terms *terms; /* as long as the SA has this configuration */
};

/* Sequence numbers and window as netlink sets and shows them. */
struct xf_sa_replay_state {
	uint64_t seq_out;
	uint64_t seq_in;
	uint32_t nwords; /* 32-bit words in @bmp; 0: use @bitmap */
	uint32_t bitmap; /* struct xfrm_replay_state: bit i = seq_in - i */
	uint32_t bmp[XF_REPLAY_WINDOW_MAX / 32];
};

struct xf_sa_stats {
	uint32_t replay_window; /* packets too old, as struct xfrm_stats */
	uint32_t replay;
	uint32_t integrity_failed;
	uint64_t drops[XF_DROP_MAX];
	uint64_t other_drops; /* for rarer reasons than an SA has room for */
};

struct xf_sa;
struct xf_sad; /* xf/sad.h */

/*
 * An SA for @sad, which no reference to it may outlive; the caller has the first. It owns @key
 * (NULL with @state ACQ: a larval SA). @seed: XF_IVGEN_SEED fresh random bytes. NULL: no memory,
 * and @key is still the caller's.
 */
struct xf_sa *xf_sa_new(struct xf_sad *sad, const struct xf_sa_config *cfg, struct xf_key *key,
			enum xf_sa_state state, const uint8_t *seed, uint64_t now_ns);

/* References; any thread. The last put wipes and frees, after an RCU grace period. */
struct xf_sa *xf_sa_get(struct xf_sa *sa);
void xf_sa_put(struct xf_sa *sa);

/* Read side: the configuration in force. Control thread: a copy; its care-of address or NULL. */
const struct xf_sa_view *xf_sa_cfg(const struct xf_sa *sa);
void xf_sa_copy_cfg(const struct xf_sa *sa, struct xf_sa_config *out);
const union xf_addr *xf_sa_coaddr(const struct xf_sa *sa);
enum xf_sa_state xf_sa_get_state(const struct xf_sa *sa);
const struct xf_key *xf_sa_key(const struct xf_sa *sa); /* NULL for a larval SA */

/* Publish a changed configuration (the kernel's xfrm_state_update()): identity and suite stay. */
int xf_sa_reconfigure(struct xf_sa *sa, const struct xf_sa_config *cfg);

/* Counters as netlink shows and sets them. */
void xf_sa_lifetime_now(const struct xf_sa *sa, struct xf_lifetime_now *out);
void xf_sa_set_lifetime_now(struct xf_sa *sa, const struct xf_lifetime_now *now);
uint64_t xf_sa_last_used_s(const struct xf_sa *sa); /* wall clock (XFRMA_LASTUSED); 0 = never */
void xf_sa_get_replay_state(struct xf_sa *sa, struct xf_sa_replay_state *out);
void xf_sa_set_replay_state(struct xf_sa *sa, const struct xf_sa_replay_state *state);
void xf_sa_get_stats(const struct xf_sa *sa, struct xf_sa_stats *out);

/*
 * The largest outer packet towards the peer: by our own routes (0 = not known), and what a router
 * said by ICMP (RFC 1191; believed until @expires_ns, rounded up to a second; 0 = it gave no
 * figure). Neither is taken below 552 (IPv4) or 1280 (IPv6), nor above 65,535. xf_sa_path_mtu() is
 * the smaller one, 0 = neither is known.
 */
void xf_sa_set_route_mtu(struct xf_sa *sa, uint32_t mtu);
void xf_sa_learn_mtu(struct xf_sa *sa, uint32_t mtu, uint64_t expires_ns);
uint32_t xf_sa_path_mtu(const struct xf_sa *sa, uint64_t now_ns);

#ifdef __cplusplus
}
#endif

#endif
