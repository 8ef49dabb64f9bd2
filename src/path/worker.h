/*
 * worker.h - what the two ways of a packet share: the worker's state, counters and crypto stage.
 *
 * Everything belongs to the worker's thread, but for the counters, which others read.
 */
#ifndef XF_PATH_WORKER_H
#define XF_PATH_WORKER_H

#include <stdatomic.h>

#include <xf/esp.h>
#include <xf/frag.h>
#include <xf/icmp.h>
#include <xf/path.h>
#include "sad/sa.h"

#define XF_PROVIDERS_MAX 8

/* One writer each; relaxed loads and stores are enough for sums. */
struct xf_path_counters {
	_Atomic uint64_t drops[XF_DROP_MAX];
	_Atomic uint64_t out_packets;
	_Atomic uint64_t out_bytes;
	_Atomic uint64_t in_packets;
	_Atomic uint64_t in_bytes;
	_Atomic uint64_t clear_packets;
	_Atomic uint64_t lin_copies;
	_Atomic uint64_t payload_bytes_copied;
};

/* A packet of the batch, and what the stages found out about it. pkt NULL: it has gone. */
struct xf_slot {
	struct xf_pkt *pkt;
	struct xf_ip_info ip;
	struct xf_flow flow;
	struct xf_policy *policy;
	struct xf_sa *bundle[XF_MAX_DEPTH]; /* out: innermost first */
	uint32_t inner_len; /* out: before the first transform */
	uint8_t depth;
};

struct xf_worker {
	struct xf_engine *engine;
	struct xf_worker *next;
	struct xf_pool *pool;
	struct xf_frag_table *frags_out; /* captured, inner fragments */
	struct xf_frag_table *frags_in; /* received, outer fragments: nobody vouches for them */
	struct xf_frag_table *frags_inner; /* decrypted */
	struct xf_crypto_ctx *crypto[XF_PROVIDERS_MAX]; /* in the order of xf_crypto_providers() */
	uint32_t ident; /* of the IPv6 fragments that we make */
	struct xf_slot slots[XF_BATCH];
	struct xf_esp_op ops[XF_BATCH];
	struct xf_path_counters count;
};

struct xf_engine {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_env env;
	struct xf_worker *workers;
	struct xf_engine_stats gone; /* of workers that were freed */
};

static inline void xf_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* The one place where a packet is dropped: counted for the worker and for @sa when there is one. */
void xf_path_drop(struct xf_worker *worker, struct xf_pkt *pkt, enum xf_drop reason,
		  struct xf_sa *sa);

/* Start with @pkt in slot @s. */
void xf_slot_load(struct xf_slot *s, struct xf_pkt *pkt);

/*
 * After the packets: the pool's counters go where other threads may read them, and the control
 * thread hears of limits that were hit.
 */
void xf_path_end(struct xf_worker *worker);

/* Drop what is left in slot @s. */
void xf_slot_drop(struct xf_worker *worker, struct xf_slot *s, enum xf_drop reason,
		  struct xf_sa *sa);

/*
 * Have the operations of @ops done, each by its key's provider, and wait for all of them. An
 * operation that no provider took has the status XF_CRYPTO_ERROR.
 */
void xf_path_crypto(struct xf_worker *worker, struct xf_esp_op **ops, unsigned n);

/*
 * Put @pkt's datagram together. XF_PASS: s->pkt and s->ip are the whole datagram, or s->pkt is
 * NULL and the table waits for the rest.
 */
void xf_path_reassemble(struct xf_worker *worker, struct xf_frag_table *table, struct xf_slot *s,
			uint64_t now_ns);

/* An ICMP error arrived for one of our outer packets (pmtu.c). Consumes the packet. */
void xf_path_icmp(struct xf_worker *worker, struct xf_slot *s, uint64_t now_ns);

/* The MTU of the path that @sa's outer packets take, assumed where it is not known (pmtu.c). */
uint32_t xf_path_outer_mtu(struct xf_sa *sa, uint64_t now_ns);

/* The largest packet that @s's bundle brings to its peer in one piece (pmtu.c). */
uint32_t xf_path_bundle_mtu(const struct xf_slot *s, uint64_t now_ns);

/* Does what @s came through satisfy the policies of @dir, in or fwd (policy.c)? */
enum xf_drop xf_path_policy_check(struct xf_worker *worker, const struct xf_slot *s,
				  enum xf_policy_dir dir, uint64_t now_ns);

#endif
