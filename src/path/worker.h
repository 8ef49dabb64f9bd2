/*
 * worker.h - what the two ways of a packet share: the worker's state, flights, counters.
 *
 * A flight is a batch of packets on its way through the cipher, once for each SA. Where every
 * provider works at once it never leaves the call that it was made in; else it waits in its way's
 * queue, and flights leave that queue in the order in which they came.
 *
 * Everything belongs to the worker's thread, but for the counters, which others read.
 */
#ifndef XF_PATH_WORKER_H
#define XF_PATH_WORKER_H

#include <stdatomic.h>

#include <xf/frag.h>
#include <xf/gro.h>
#include <xf/icmp.h>
#include <xf/path.h>
#include <xf/shaping.h>
#include <xf/transform.h>
#include <xf/turn.h>
#include "base/count.h"
#include "proto/spi.h"
#include "sad/sa.h"

/* Of one worker: what a slow cipher may hold is bounded by these. */
#define XF_FLIGHTS 24
/* Of one worker, where order is kept among several: one for each packet that may be under way, for
 * each of its SAs, and one for each received batch. */
#define XF_GROUPS (XF_FLIGHTS * (XF_BATCH * XF_MAX_DEPTH + 1))

/* As struct xf_engine_stats. The worker's; others read them. */
struct xf_path_counters {
	_Atomic uint64_t drops[XF_DROP_MAX];
	XF_ENGINE_COUNTERS(XF_COUNTER_MEMBER, _Atomic uint64_t)
};

/* Where the packets of a group go. */
enum xf_exit { XF_EXIT_WIRE, XF_EXIT_DELIVER };

/*
 * Packets that leave together when it is their turn: of one SA, on the wire; of one received
 * batch, to be delivered. Only where several workers must keep one order (order.c).
 */
struct xf_group {
	_Alignas(XF_CACHE_LINE) struct xf_ticket ticket;
	struct xf_turn *turn;
	struct xf_sa *sa; /* on the wire */
	bool held; /* by a reference */
	struct xf_pktq packets;
	enum xf_exit exit;
	struct xf_worker *worker; /* whose it is */
	struct xf_flight *flight; /* on the wire: is done when all its groups have left */
	struct xf_group *sibling; /* the next one of the flight */
	unsigned parts; /* to deliver: flights that are still to come */
	struct xf_group *next; /* of those whose turn it is, or of free ones */
};

/* A packet of the batch, and what the stages found out about it. pkt NULL: it has gone. */
struct xf_slot {
	struct xf_pkt *pkt;
	struct xf_sa *bundle[XF_MAX_DEPTH]; /* out: innermost first; in: the one at work */
	uint8_t depth; /* of the bundle */
	bool has_spi; /* in: there is a transform's header to work on */
	uint8_t first; /* out: the SA of its bundle that its flight's first round is for */
	uint8_t cut; /* out: enum fit */
	uint8_t lead; /* the slot that found bundle or SA for this one, maybe itself */
	bool by_flow; /* out: of such a slot, the SAs' own selectors had a say */
	uint8_t err; /* enum xf_drop: why there is no bundle; in: the policies' verdict */
	struct xf_spi spi; /* in: what that header names */
	uint32_t inner_len; /* out: before the first transform */
	uint32_t mtu; /* out: the largest packet that the bundle takes whole */
	struct xf_group *group; /* out: that it leaves with */
	struct xf_ip_info ip;
};

struct xf_flight {
	struct xf_flight *next; /* of the free ones, or of its way */
	struct xf_worker *worker;
	unsigned n; /* slots in use */
	unsigned round; /* transforms that were begun */
	bool shaped; /* out: all that it has came out of the shaping of its slots' first SAs */
	/* In: slots with a header to work on; out: rounds that there will be. */
	unsigned ahead;
	unsigned transforms; /* a bit for each number of those that this round has */
	/* A bit for each slot whose packet is set aside, to be shaped when the others have left:
	 * it is its operation's alone. */
	uint64_t aside;
	unsigned nops; /* operations of this round */
	unsigned nwaiting; /* of these, not taken by a provider yet */
	unsigned in_crypto; /* of these, not finished yet */
	bool parked; /* it holds references to its SAs */
	unsigned reasons; /* not to be free: groups that have not left, and its own rounds */
	struct xf_group *groups; /* out: in the order in which they were begun */
	struct xf_group *last_group;
	struct xf_group *batch; /* in: the received batch that it is a part of */
	struct xf_transform_op *round_ops[XF_BATCH];
	struct xf_transform_op *waiting[XF_BATCH];
	struct xf_slot slots[XF_BATCH];
	struct xf_transform_op ops[XF_BATCH]; /* each for the slot of its index */
};

/* Flights that wait for the cipher, or for one before them that does. */
struct xf_way {
	struct xf_flight *first;
	struct xf_flight *last;
};

/* In: what the policies of one direction are asked. */
struct xf_asked {
	struct xf_slot *slots[XF_BATCH];
	struct xf_flow flows[XF_BATCH];
	struct xf_policy *policies[XF_BATCH];
	uint32_t lens[XF_BATCH];
	unsigned n;
};

/* Where packets that are shaped come from: in, the SAs that they came through, outermost first;
 * out, their bundle, of which @round transforms were begun. */
struct xf_origin {
	struct xf_sa *sa; /* the one that shapes */
	struct xf_sa *sas[XF_MAX_DEPTH];
	uint8_t n;
	uint8_t round;
};

/* What transforms hold (shape.c). */
#define XF_HOLDS 256
struct xf_holds {
	struct xf_hold *all; /* XF_HOLDS; the other members have numbers of them, from 1 */
	unsigned kept; /* those with something in them */
	uint16_t free;
	uint16_t buckets[256];
};

struct xf_worker {
	struct xf_engine *engine;
	struct xf_worker *next;
	struct xf_event_ring *events;
	struct xf_pool *pool;
	struct xf_gro *gro; /* NULL: packets are not joined */
	struct xf_frag_table *frags_out; /* captured, inner fragments */
	struct xf_frag_table *frags_in; /* received, outer fragments: nobody vouches for them */
	struct xf_frag_table *frags_inner; /* decrypted */
	struct xf_crypto_ctx
		*crypto[XF_CRYPTO_PROVIDERS_MAX]; /* in the order of xf_crypto_providers() */
	uint32_t in_flight[XF_CRYPTO_PROVIDERS_MAX]; /* operations that each of them has */
	uint32_t ident; /* of the IPv6 fragments that we make */
	struct xf_flight *free_flights;
	unsigned nfree;
	struct xf_way out;
	struct xf_way in;
	bool ordered; /* other workers use the same SAs and sources */
	bool alone; /* the engine will never have another worker */
	struct xf_group *groups; /* all of them */
	struct xf_group *free_groups;
	unsigned ngroups; /* free ones */
	unsigned batches; /* received ones that are not delivered */
	struct xf_group *my_turn; /* their packets are in the result that I/O has */
	struct xf_crypto_wake wake;
	struct xf_flow flows[XF_BATCH]; /* out: of the batch that is looked up */
	struct xf_sad_query queries[XF_BATCH];
	struct xf_asked asked[XF_DIR_MAX];
	struct xf_flight *flights; /* all of them */
	struct xf_holds holds;
	/* Constant: a bit for each number of transforms that shape. */
	unsigned shape_out;
	unsigned shape_in;
	struct xf_path_counters count;

	/* What other workers write; what stands above is the worker's own. */
	_Alignas(XF_CACHE_LINE) _Atomic(struct xf_group *) gone; /* have left by another's hand */
	_Atomic bool starving; /* wake it when some have */
};

struct xf_engine {
	struct xf_sad *sad;
	struct xf_spd *spd;
	struct xf_env env;
	bool clamp_mss;
	bool one_worker;
	struct xf_worker *workers;
	struct xf_engine_stats gone; /* of workers that were freed */
};

/* counters.c: add @count to @sums. Control thread. */
void xf_path_add_counters(const struct xf_path_counters *count, struct xf_engine_stats *sums);

/* The one place where a packet is dropped: counted for the worker and for @sa when there is one. */
void xf_path_drop(struct xf_worker *worker, struct xf_pkt *pkt, enum xf_drop reason,
		  struct xf_sa *sa);

/* After the packets: the pool's counters go where other threads may read them. */
void xf_path_end(struct xf_worker *worker);

/* events.c */
bool xf_path_open_events(struct xf_worker *worker, unsigned size);
void xf_path_close_events(struct xf_worker *worker);

/* Drop what is left in slot @s. */
void xf_slot_drop(struct xf_worker *worker, struct xf_slot *s, enum xf_drop reason,
		  struct xf_sa *sa);

/* flight.c */

/* A flight without packets, or NULL: all are under way. */
struct xf_flight *xf_flight_get(struct xf_worker *worker);
void xf_flight_put(struct xf_flight *f);

/* One of the reasons for which @f is under way is gone: with the last one it is free. */
void xf_flight_release(struct xf_flight *f);

/* A slot for @pkt at the end of @f, which has room. */
struct xf_slot *xf_flight_add(struct xf_flight *f, struct xf_pkt *pkt);

/* What a way does with a flight; @arg is the way's own. */
struct xf_way_ops {
	/* Fill round_ops and nops of the next round; 0 operations: there is none. */
	void (*begin)(void *arg, struct xf_flight *f);
	/* The cipher is through with round_ops. */
	void (*finish)(void *arg, struct xf_flight *f);
	/* No round is left: packets go where they should. */
	void (*emit)(void *arg, struct xf_flight *f);
};

/* Send @f on its way, behind those that wait; it is put when its packets have left it. */
void xf_flight_go(struct xf_way *way, struct xf_flight *f, const struct xf_way_ops *ops, void *arg);

/* Go on with those flights whose operations have come back. In a read section. */
void xf_way_resume(struct xf_way *way, const struct xf_way_ops *ops, void *arg);

/* Ask the providers for what is finished, and give them what they had no room for. */
void xf_crypto_collect(struct xf_worker *worker);

/* The worker ends: drop what is under way, which no provider has any more. */
void xf_way_abandon(struct xf_way *way);

/* dispatch.c */

/* What this round's @ops are of is known from here on. Outbound, what is to be shaped first is set
 * aside. Returns how many are left. */
unsigned xf_path_begin_round(struct xf_flight *f, bool out, struct xf_transform_op **ops,
			     unsigned n);

/* What transforms do (xf/transform.h). */
enum xf_step { XF_OUT_PREPARE, XF_OUT_FINISH, XF_IN_PREPARE, XF_IN_FINISH };

/* Have @ops, which are of @f's round, go through @step of their transforms. Of XF_OUT_FINISH, how
 * many may not go on. */
unsigned xf_path_transform(const struct xf_flight *f, enum xf_step step,
			   struct xf_transform_op *const *ops, unsigned n, uint64_t now_ns);

/* @op is of slot @s and for @sa: in it, what the path gives. */
static inline void xf_path_op(struct xf_transform_op *op, struct xf_slot *s, struct xf_sa *sa)
{
	op->pkt = s->pkt;
	op->ip = &s->ip;
	op->sa = sa;
}

/* shape.c: packets become more or fewer, or wait. */

/* What a way does with what is given back, on from @origin; @arg is the way's own. */
struct xf_shape_way {
	bool out;
	void (*origin)(const struct xf_flight *f, unsigned slot, struct xf_origin *origin);
	/* A slot of a flight that is being filled. */
	void (*add)(void *arg, const struct xf_origin *origin, struct xf_pkt *pkt,
		    const struct xf_ip_info *ip);
	/* The next @n go in one flight. */
	void (*reserve)(void *arg, unsigned n);
	/* That flight goes, full or not. */
	void (*go)(void *arg);
};

bool xf_shape_open(struct xf_worker *worker);
void xf_shape_close(struct xf_worker *worker);

/* Shape what @f has set aside. */
void xf_shape_flight(struct xf_flight *f, const struct xf_shape_way *way, void *arg,
		     uint64_t now_ns);

/* Ask the holds that are due. Returns the next deadline, or UINT64_MAX. */
uint64_t xf_shape_tick(struct xf_worker *worker, const struct xf_shape_way *way, void *arg,
		       uint64_t now_ns);

static inline void xf_path_set_aside(struct xf_flight *f, struct xf_slot *s)
{
	f->aside |= 1ull << (s - f->slots);
	s->pkt = NULL;
}

/* order.c: several workers, one order. */

/* At the start of each call: what other workers have sent and freed is this one's again. */
void xf_order_take_back(struct xf_worker *worker);
bool xf_order_open(struct xf_worker *worker);
void xf_order_close(struct xf_worker *worker);

/* A free group, or NULL. */
struct xf_group *xf_group_get(struct xf_worker *worker);

/* All of @group's packets are in it: they leave with @res, or when their turn comes. */
void xf_group_enter(struct xf_group *group, struct xf_path_result *res);

/* What was prepared in this round of @f is in groups, in the order of its SAs' numbers. */
void xf_order_begin(struct xf_flight *f);

/* @f waits, and the read section that found its SAs ends: its groups hold references. */
void xf_order_hold(struct xf_flight *f);

/* All packets of @f that are left are in its groups. */
void xf_order_emit(struct xf_flight *f, struct xf_path_result *res);

/* engine.c */

/*
 * Put @pkt's datagram together. XF_PASS: s->pkt and s->ip are the whole datagram, or s->pkt is
 * NULL and the table waits for the rest.
 */
void xf_path_reassemble(struct xf_worker *worker, struct xf_frag_table *table, struct xf_slot *s,
			uint64_t now_ns);

/* An ICMP error arrived for one of our outer packets (pmtu.c). Consumes the packet. */
void xf_path_icmp(struct xf_worker *worker, struct xf_slot *s, uint64_t now_ns);

/* The largest packet that @s's bundle brings to its peer in one piece (pmtu.c). */
uint32_t xf_path_bundle_mtu(const struct xf_slot *s, uint64_t now_ns);

/* policy.c: do these two, of which either may be NULL, want the same of SAs? */
bool xf_path_equal_wants(const struct xf_policy *a, const struct xf_policy *b);

/* The same policy does, and subnets of one peer. */
static inline bool xf_path_same_wants(const struct xf_policy *a, const struct xf_policy *b)
{
	return a == b || xf_path_equal_wants(a, b);
}

/* Does @sa's own selector, if it has one, select @flow? */
bool xf_path_sa_selects(const struct xf_sa *sa, const struct xf_flow *flow);

/* Of what came in, do the SAs that @pkt came through want @flow ... */
enum xf_drop xf_path_check_selectors(const struct xf_pkt *pkt, const struct xf_flow *flow);

/* ... and does @policy, in or fwd, want them? NULL: there is none. */
enum xf_drop xf_path_check_policy(const struct xf_pkt *pkt, const struct xf_policy *policy);

/* quoted.c: can @ip be an ICMP error's? */
static inline bool xf_path_is_icmp(const struct xf_ip_info *ip)
{
	return ip->proto == XF_IPPROTO_ICMP || ip->proto == XF_IPPROTO_ICMPV6;
}

/* The policy of the packet that the ICMP error @s is about, reversed as @flow; NULL: none, or @s is
 * no error. In a read section. */
struct xf_policy *xf_path_quoted_policy(struct xf_worker *worker, enum xf_policy_dir dir,
					const struct xf_slot *s, struct xf_flow *flow);

/* What @s, which s->err refuses, is in the end: that, or XF_PASS for an ICMP error that goes by the
 * packet that it is about. @flow, @policy: its own. In a read section. */
enum xf_drop xf_path_check_icmp(struct xf_worker *worker, enum xf_policy_dir dir,
				const struct xf_slot *s, const struct xf_flow *flow,
				const struct xf_policy *policy);

/* Count packets of @lens bytes for their policies, once for each run that has the same. 0: one
 * that was counted before. */
void xf_path_count_policies(const struct xf_worker *worker, struct xf_policy *const *policies,
			    const uint32_t *lens, unsigned n, uint64_t now_ns);

/* Go on with what has come back from the cipher (out_flight.c, in_flight.c). In a read section. */
void xf_path_out_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);
void xf_path_in_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);

/* What was held until now goes on. Returns the next deadline. In a read section. */
uint64_t xf_path_out_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);
uint64_t xf_path_in_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res);

#endif
