/*
 * path.h - the engine: a packet's whole way, out and in.
 *
 * An engine has a SAD and an SPD, one writer thread, and workers: one for each thread that moves
 * packets, with pool, crypto state, fragments and counters of its own. No system call, no clock,
 * no thread inside: packets and now_ns come in as arguments, results go out as queues. A process
 * may have several engines, which share nothing but RCU, so one thread is the writer of all.
 *
 * A worker's functions are called by its thread alone, registered with xf_read_register(). They
 * consume every packet of the queue that they are given: it comes out in exactly one result
 * queue, or is dropped and counted, or waits: for its other fragments, or as long as a transform
 * holds it (xf/shaping.h), until xf_path_tick().
 */
#ifndef XF_PATH_H
#define XF_PATH_H

#include <xf/counter.h>
#include <xf/event.h>
#include <xf/spd.h>
#include <xf/turn.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_BATCH 64

struct xf_engine;
struct xf_worker;

/* What the engine asks of whoever runs it. Called on worker threads; must not block. */
struct xf_env {
	void *arg;
	/* Is @addr an address of this host? Decides between policies in and fwd. */
	bool (*is_local)(void *arg, const union xf_addr *addr, uint16_t family);
	/* A packet to @daddr, no address of this host, came in one that the device @iif received
	 * (0: not known). May it be delivered, or would that forward what @iif does not? NULL:
	 * every device forwards. */
	bool (*may_forward)(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif);
	/* Came a packet to @daddr in one that the device @iif received (0: not known) by a way on
	 * which no policy is asked (Linux's sysctl disable_policy)? NULL: it never does. */
	bool (*is_exempt)(void *arg, const union xf_addr *daddr, uint16_t family, uint32_t iif);
	/* A worker has told of something: the control thread should call xf_engine_take_events().
	 * Told once until it has. NULL: it does so by itself. */
	void (*wake)(void *arg);
};

struct xf_engine_config {
	struct xf_sad_config sad;
	struct xf_spd_config spd;
	struct xf_env env;
	/* Lower the MSS of TCP SYNs that leave protected to what the SAs carry in one piece. */
	bool clamp_mss;
};

struct xf_engine *xf_engine_new(const struct xf_engine_config *cfg);
void xf_engine_free(struct xf_engine *engine); /* its workers first */
struct xf_sad *xf_engine_sad(struct xf_engine *engine);
struct xf_spd *xf_engine_spd(struct xf_engine *engine);

/*
 * Call @fn for each event that workers have told of (xf/event.h), those about SAs excepted, which
 * go to xf_sad_attend(): xf_sad_expire() should follow. @fn NULL: there are no others. Control
 * thread.
 */
void xf_engine_take_events(struct xf_engine *engine,
			   void (*fn)(void *arg, const struct xf_event *event), void *arg);

struct xf_worker_config {
	struct xf_pool_config pool;
	uint64_t seed[2]; /* random */
	uint8_t gro; /* enum xf_gro_what: what is joined to super-packets before delivery */
	/* Told when there is something for xf_path_poll(): by providers that work on other threads
	 * (xf/crypto.h), and by other workers when this one is busy. */
	struct xf_crypto_wake wake;
	/* There are other workers: packets of one SA leave in the order of their numbers, whoever
	 * encrypted them, and ordered batches are delivered in their order. Then call
	 * xf_path_sent() after each result, before xf_read_quiescent(). All workers of an engine
	 * have the same. */
	bool ordered;
	unsigned events; /* that its ring has room for; 0: XF_WORKER_EVENTS */
};
#define XF_WORKER_EVENTS 1024

/* NULL: no memory, or a second one of an engine that was to have one (xf_sad_config.one_worker). */
struct xf_worker *xf_worker_new(struct xf_engine *engine, const struct xf_worker_config *cfg);
void xf_worker_free(struct xf_worker *worker);
struct xf_pool *xf_worker_pool(struct xf_worker *worker);
struct xf_event_ring *xf_worker_events(struct xf_worker *worker); /* by which it tells */

/* Where packets go. The caller empties these queues; packets are its own then. */
struct xf_path_result {
	/* Complete outer IP packets to send; mark and family are set. Each fits the path MTU or
	 * is a fragment that does. */
	struct xf_pktq wire;
	/* Captured, but no policy wants them: to be sent on their way unchanged. */
	struct xf_pktq clear;
	/* To be protected, unless the host's NAT takes them (struct xf_pkt.ask): what it does not
	 * take is given to xf_path_out() again, with ask off. */
	struct xf_pktq ask;
	/* Inner packets for this host or to forward: into the TUN. Super-packets, too, where the
	 * worker joins packets. */
	struct xf_pktq deliver;
	/* ICMP messages without IP header, to pkt->reply_to. */
	struct xf_pktq reply;
};

/* Captured packets, whole IP packets or super-packets (struct xf_pkt.gso_type), on their way out
 * (local and forwarded). */
void xf_path_out(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		 struct xf_path_result *res);

/*
 * Received outer packets: whole IP packets with ESP, or UDP with ESP behind it (encap_sport and
 * encap_dport set), or ICMP errors about either.
 */
void xf_path_in(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		struct xf_path_result *res);

/*
 * The same for a batch of a source that several workers read in turn. @ticket: taken with the
 * batch, under whatever lock the source is read; its numbers count up by one for each batch, from
 * the turn's first on. NULL: as xf_path_in(). Every ticket that was taken must be given here.
 */
struct xf_path_ticket {
	struct xf_turn *turn; /* one for each source (xf/turn.h) */
	uint64_t number;
};
void xf_path_in_ordered(struct xf_worker *worker, struct xf_pktq *in,
			const struct xf_path_ticket *ticket, uint64_t now_ns,
			struct xf_path_result *res);

/*
 * What was in @res, which is empty again, is sent and delivered. Packets of other workers may have
 * waited for that: true when @res has some now. They are to be sent, and then this called again.
 * Nothing for workers that are not ordered.
 */
bool xf_path_sent(struct xf_worker *worker, struct xf_path_result *res);

/*
 * Providers may complete later: then packets wait in the worker, in their order, and come out
 * here. Call it when the worker's wake was told, and after each batch while xf_path_waiting().
 */
void xf_path_poll(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);

/* Does anything wait for a provider? */
bool xf_path_waiting(const struct xf_worker *worker);

/* So much waits that new packets may be dropped: wait for the wake and poll, then read more. */
bool xf_path_busy(struct xf_worker *worker);

/*
 * Of each worker, so many received batches, of so many packets, may wait to be delivered; when one
 * worker has not decrypted a batch yet, others may be further by that. The windows' slack must
 * cover it for each worker (xf_sad_config.replay_slack).
 */
#define XF_PATH_BATCHES 4
#define XF_PATH_BATCH_MAX 1024
#define XF_PATH_SLACK (XF_PATH_BATCHES * XF_PATH_BATCH_MAX)

/*
 * Time passes: fragments are given up, what transforms have held until now goes on, to @res.
 * Returns the next deadline or UINT64_MAX. After each batch, and at that time.
 */
uint64_t xf_path_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);

/* Beside the packets that were dropped (xf/drop.h). */
#define XF_ENGINE_COUNTERS(X, arg)                                                      \
	X(arg, out_packets, COUNTER, "packets", "protected")                            \
	X(arg, out_bytes, COUNTER, "bytes", "protected")                                \
	X(arg, in_packets, COUNTER, "packets", "received protected, and let in")        \
	X(arg, in_bytes, COUNTER, "bytes", "received protected, and let in")            \
	X(arg, clear_packets, COUNTER, "packets", "captured, but wanted by no policy")  \
	X(arg, lin_copies, COUNTER, "packets", "made contiguous: none is, on any path") \
	X(arg, payload_bytes_copied, COUNTER, "bytes", "of payload that were copied")   \
	X(arg, csum_copies, COUNTER, "packets",                                         \
	  "cut from super-packets, their payload copied and summed")                    \
	X(arg, gro_supers, COUNTER, "super-packets", "delivered")                       \
	X(arg, gro_joined, COUNTER, "packets", "delivered inside of super-packets")     \
	X(arg, mss_clamped, COUNTER, "SYNs", "that left with another MSS than they came with")

/* Counters: sums over all workers of this engine, those that have gone included. Control thread,
 * as are xf_worker_new() and xf_worker_free(). */
struct xf_engine_stats {
	uint64_t drops[XF_DROP_MAX];
	XF_ENGINE_COUNTERS(XF_COUNTER_MEMBER, uint64_t)
};
extern const struct xf_counter_group xf_drop_counters; /* of its drops ... */
extern const struct xf_counter_group xf_engine_counters; /* ... and of its other members */
void xf_engine_get_stats(struct xf_engine *engine, struct xf_engine_stats *out);

/* I/O counts its own drops through this, so that they are counted in the one place. */
void xf_worker_drop(struct xf_worker *worker, struct xf_pkt *pkt, enum xf_drop reason);

#ifdef __cplusplus
}
#endif

#endif
