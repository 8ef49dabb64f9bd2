/*
 * sa.h - struct xf_sa as the engine's own modules see it (sad, proto, path).
 *
 * Grouped by who writes: see the labels. The data path takes nothing but what stands here and
 * the configuration behind xf_sa_cfg().
 */
#ifndef XF_SAD_SA_H
#define XF_SAD_SA_H

#include <stdatomic.h>

#include <xf/heap.h>
#include <xf/rcu.h>
#include <xf/sad.h>
#include <xf/turn.h>

#include "sad/form.h"

/* Reasons why the control thread should look at an SA (attention bits). */
enum xf_sa_attention { XF_SA_SOFT_HIT = 1, XF_SA_HARD_HIT = 2 };

/* The hash tables of a SAD, by what their key is made of. */
enum xf_sa_table {
	XF_SA_BY_SPI, /* daddr, SPI, proto, family: inbound, but for those behind a gate */
	XF_SA_BY_NUMBER, /* SPI, proto: is an SPI taken? Likewise */
	XF_SA_BY_ENDS, /* daddr, saddr, reqid, family, if_id, mark: outbound */
	XF_SA_BY_ADDR, /* daddr, saddr, proto, family: protocols without an SPI alone */
	XF_SA_BY_SEQ, /* seq of the ACQUIRE: larval SAs alone */
	XF_SA_BY_ANSWER, /* daddr, saddr, reqid, proto, family: larval SAs without an SPI alone */
	XF_SA_TABLES,
};

/* An SA's places in its SAD. */
struct xf_sa_links {
	uint64_t id; /* order of arrival, from 1; constant once in a SAD */
	struct xf_heap_node due;
	uint32_t seat;
	uint32_t gate; /* number + 1; 0 = the SPI is in the hash tables */
	uint32_t slot;
	uint8_t in_tables; /* bit per table; 0 = in no SAD */
};

/* SAs that want the control thread's attention: a stack that any thread pushes to. */
struct xf_sa_stack {
	_Atomic(struct xf_sa *) top;
	uint64_t real_offset_s; /* constant; of the SAD whose stack it is */
};

/* A tally: a reason for drops, and how many there were. Few SAs drop for more than one or two. */
#define XF_SA_TALLIES 4
#define XF_SA_TALLY_SHIFT 56
#define XF_SA_TALLY_MASK ((1ull << XF_SA_TALLY_SHIFT) - 1)

/* A window so short stands in its SA: of up to 64 packets. */
#define XF_SA_OWN_WINDOW (sizeof(struct xf_replay) + 2 * sizeof(uint64_t))

/*
 * The first four lines are what a packet needs: what is read in the first, what is written for each
 * one in the second, which moves between the caches of workers that share the SA, then the form,
 * unless the configuration was replaced.
 */
struct xf_sa {
	/* Published by RCU: written by the control thread only. */
	_Atomic(const struct xf_sa_config *) cfg;
	/* Constant after xf_sa_new(). */
	struct xf_key *key;
	struct xf_replay *replay; /* what it points to: under replay_lock */
	/* Atomic, and seldom written. */
	_Atomic uint64_t use_ns; /* first use, 0 = none */
	_Atomic int state; /* enum xf_sa_state */
	_Atomic uint32_t route_mtu; /* of the way to the peer by our own routes; 0 = not known */
	_Atomic uint32_t learned_mtu; /* what a router said; 0 = nothing */
	_Atomic bool dying; /* the soft limit was told */
	/* Constant. */
	struct xf_ivgen ivgen;

	/* Atomic. Outbound packets that were begun: never set back, so it numbers IVs and turns. */
	_Alignas(XF_CACHE_LINE) _Atomic uint64_t begun;
	_Atomic uint64_t seq_offset; /* from begun to the last sequence number; netlink sets it */
	_Atomic uint64_t bytes;
	_Atomic uint64_t packets;
	_Atomic uint64_t last_ns;
	struct xf_spin replay_lock;
	_Atomic uint32_t refs;
	_Atomic uint32_t attention;
	_Atomic uint32_t stat_replay_window;
	_Atomic uint32_t stat_replay;
	_Atomic uint32_t stat_integrity;

	/* What cfg points to first. */
	_Alignas(XF_CACHE_LINE) struct xf_sa_own_config first_cfg;

	/* What replay points to when that is enough: inbound. */
	_Alignas(XF_CACHE_LINE) uint8_t own_window[XF_SA_OWN_WINDOW]
		__attribute__((aligned(_Alignof(struct xf_replay))));
	/* Whose packets may leave (outbound, several workers only). It has a lock of its own. */
	struct xf_turn turn;

	/* Atomic, for times and people. */
	_Atomic uint64_t add_s; /* as netlink set it, XF_SA_UNSET: from add_ns */
	_Atomic uint64_t use_s; /* likewise, from use_ns */
	_Atomic uint64_t learned_expires_ns;
	_Atomic uint64_t tallies[XF_SA_TALLIES]; /* reason << XF_SA_TALLY_SHIFT | count; 0: free */
	_Atomic uint64_t other_drops; /* for which there was no tally */

	/* Constant. */
	uint64_t add_ns;
	struct xf_sa_stack *stack; /* once in a SAD; NULL: in none */

	/* Control thread. */
	struct xf_sa_links links;

	/* Whoever holds the SA in the stack, and after the last reference. */
	struct xf_sa *stack_next;
	struct xf_rcu_head rcu;

	/* Constant: of whoever gave the memory (mem.h). */
	void *home;
};

#define XF_SA_UNSET UINT64_MAX

_Static_assert(sizeof(struct xf_sa) <= 13 * XF_CACHE_LINE, "there may be a million of them");
_Static_assert(offsetof(struct xf_sa, begun) == XF_CACHE_LINE &&
		       offsetof(struct xf_sa, first_cfg) == 2 * XF_CACHE_LINE,
	       "what a packet needs of an SA is four cache lines");

/* Before a packet is worked on, so that the misses of several SAs overlap: what is known to be
 * wanted of it, and once that is there, what it points to. */
static inline void xf_sa_fetch(const struct xf_sa *sa, bool window)
{
	__builtin_prefetch(sa);
	__builtin_prefetch(&sa->begun, 1);
	__builtin_prefetch(&sa->first_cfg.form);
	if (window)
		__builtin_prefetch(sa->own_window, 1);
}

static inline void xf_sa_fetch_key(const struct xf_sa *sa)
{
	__builtin_prefetch(sa->key);
}

/* Read side, as xf_sa_cfg(): what each packet asks of the configuration in force. */
static inline const struct xf_sa_form *xf_sa_form(const struct xf_sa *sa)
{
	return xf_form_of(atomic_load_explicit(&sa->cfg, memory_order_acquire));
}

/* Numbers of outbound packets that follow each other. */
struct xf_sa_numbers {
	uint64_t first; /* of the SA's packets, from 0: never given again, whatever netlink sets */
	uint64_t seq; /* sequence number of that one, in 64 bits */
};

/*
 * Take up to @n of them. Returns how many: fewer when the last sequence number is reached (2^32 -
 * 1, or 2^64 - 1 with ESN; OSEQ_MAY_WRAP: none without ESN). A number above it is never handed
 * out, however many threads ask.
 */
unsigned xf_sa_take_numbers(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			    struct xf_sa_numbers *out);

/* The number of the wire, in 64 bits with ESN, for one that was taken. */
static inline uint64_t xf_sa_seq(const struct xf_sa_form *form, uint64_t taken)
{
	return form->what & XF_FORM_ESN ? taken : (uint32_t)taken;
}

/* @seq was refused: count it as struct xfrm_stats has it. Returns why. */
enum xf_drop xf_sa_refuse(struct xf_sa *sa, uint64_t seq);

/*
 * Replay check and commit on 64-bit numbers, with the SA's statistics. The check goes before the
 * cipher, without the lock; the commit, under it, has the last word (RFC 4303 s3.4.3).
 */
static inline uint64_t xf_sa_infer_seq(const struct xf_sa *sa, uint32_t seq_low)
{
	return xf_replay_infer(sa->replay, seq_low);
}

static inline enum xf_drop xf_sa_replay_check(struct xf_sa *sa, uint64_t seq)
{
	enum xf_drop drop = xf_replay_check(sa->replay, seq);

	return XF_LIKELY(drop == XF_PASS) ? drop : xf_sa_refuse(sa, seq);
}

static inline void xf_sa_window_lock(struct xf_sa *sa)
{
	xf_spin_lock(&sa->replay_lock);
}

static inline enum xf_drop xf_sa_replay_commit(struct xf_sa *sa, uint64_t seq)
{
	enum xf_drop drop = xf_replay_commit(sa->replay, seq);

	return XF_LIKELY(drop == XF_PASS) ? drop : xf_sa_refuse(sa, seq);
}

static inline void xf_sa_window_unlock(struct xf_sa *sa)
{
	xf_spin_unlock(&sa->replay_lock);
}

/*
 * Is the SA valid and of this direction, and are its limits not reached (the kernel's
 * xfrm_state_check_expire())? Notes the first use and sets attention bits where a limit is hit.
 * XF_PASS, or the _DIR, _INVALID or _EXPIRED reason of the way (ACQUIRE_ERROR for a larval SA
 * inbound).
 */
enum xf_drop xf_sa_check(struct xf_sa *sa, const struct xf_sa_form *form, bool out,
			 uint64_t now_ns);

/* Can @n more packets of @bytes in all reach no limit that has not been told yet? */
bool xf_sa_limits_are_far(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			  uint64_t bytes);

/* Count a packet that was dropped. */
void xf_sa_count_drop(struct xf_sa *sa, enum xf_drop reason);

/* Count packets that were protected or accepted. */
void xf_sa_count(struct xf_sa *sa, unsigned packets, uint64_t bytes, uint64_t now_ns);

/* For the SAD: limits of bytes and packets alone. False: a hard one is reached. */
bool xf_sa_check_limits(struct xf_sa *sa, const struct xf_sa_form *form);

/* For the SAD: when was it added and first used, on the monotonic clock? Below 0: before boot. */
int64_t xf_sa_added_ns(const struct xf_sa *sa);
bool xf_sa_used_ns(const struct xf_sa *sa, int64_t *ns); /* false: not yet */

/* For the SAD, in the control thread: put the reference of a table that readers have left. */
void xf_sa_put_unseen(struct xf_sa *sa);

#endif
