/*
 * sa.h - struct xf_sa as the engine's own modules see it (sad, proto, path).
 *
 * Grouped by who writes: see the labels. The data path takes nothing but what stands here and
 * the configuration behind xf_sa_cfg().
 */
#ifndef XF_SAD_SA_H
#define XF_SAD_SA_H

#include <stdatomic.h>

#include <xf/event.h>
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
	union {
		struct xf_heap_node due;
		struct xf_rcu_head rcu; /* when it has left, or is in none: until readers have */
	};
	uint32_t seat;
	uint32_t gate : 23; /* number + 1; 0 = the SPI is in the hash tables */
	uint32_t in_tables : 6; /* bit per table; 0 = in no SAD */
};

/* A tally: a reason for drops, and how many there were. Few SAs drop for more than one or two. */
#define XF_SA_TALLIES 4
#define XF_SA_TALLY_SHIFT 56
#define XF_SA_TALLY_MASK ((1ull << XF_SA_TALLY_SHIFT) - 1)

/* A window so short stands in its SA: of up to 64 packets. */
#define XF_SA_OWN_WINDOW (sizeof(struct xf_replay) + 2 * sizeof(uint64_t))

/* What one way has counted; atomic. */
struct xf_sa_use {
	_Atomic uint64_t bytes;
	_Atomic uint64_t packets;
	_Atomic uint64_t last_ns; /* 0 = never */
};

/*
 * What a packet needs comes first: what is read, what its way writes, then the form, unless the
 * configuration was replaced, and for inbound ones what policies ask.
 */
struct xf_sa {
	/* Published by RCU: written by the control thread only. */
	_Atomic(const struct xf_sa_view *) cfg;
	/* Constant after xf_sa_new(). */
	struct xf_key *key;
	struct xf_replay *replay; /* what it points to: under replay_lock */
	/* Atomic, and seldom written. */
	_Atomic uint64_t used; /* a time: of the first packet; 0 = none yet */
	_Atomic uint16_t route_mtu; /* of the way to the peer by our own routes; 0 = not known */
	_Atomic uint16_t learned_mtu; /* what a router said; 0 = nothing */
	_Atomic uint32_t learned_until_s; /* of the engine's clock */
	_Atomic uint8_t state; /* enum xf_sa_state */
	_Atomic uint8_t attention; /* enum xf_sa_attention */
	_Atomic bool dying; /* the soft limit was told */
	/* Constant. What each packet asks of the key stands here too: one line less to wait for. */
	uint8_t provider : 4; /* its number in xf_crypto_providers(); XF_CRYPTO_NONE: no key */
	uint8_t transform : 4; /* its number in xf_transforms() */
	uint32_t salt; /* the first bytes of nonces, as they lie in memory */
	struct xf_ivgen ivgen;

	/* Outbound, and what inbound packets write, in a line each: workers that share the SA pass
	 * it on once for a batch. Atomic, but for what has a lock. */
	/* Packets that were begun: never set back, so it numbers IVs and turns. */
	_Alignas(XF_CACHE_LINE) _Atomic uint64_t begun;
	_Atomic uint64_t seq_offset; /* from begun to the last sequence number; netlink sets it */
	struct xf_sa_use out;
	struct xf_turn turn; /* whose packets may leave (several workers only); has its lock */

	_Alignas(XF_CACHE_LINE) struct xf_sa_use in;
	struct xf_spin replay_lock;
	struct xf_sa_brief first_brief; /* constant: of first_cfg, whose form is another line */
	uint8_t own_window[XF_SA_OWN_WINDOW] /* what replay points to when that is enough */
		__attribute__((aligned(_Alignof(struct xf_replay))));

	/* What cfg points to first. */
	_Alignas(XF_CACHE_LINE) struct xf_sa_own_config first_cfg;

	/* Atomic, for times and people. */
	_Atomic uint32_t refs;
	_Atomic uint32_t stat_replay_window;
	_Atomic uint32_t stat_replay;
	_Atomic uint32_t stat_integrity;
	_Atomic uint64_t added; /* a time */
	_Atomic uint64_t tallies[XF_SA_TALLIES]; /* reason << XF_SA_TALLY_SHIFT | count; 0: free */
	_Atomic uint64_t other_drops; /* for which there was no tally */

	/* Constant. */
	struct xf_sad *sad; /* that it was made for */

	/* Published once by the control thread; NULL: it has none (side.h). */
	_Atomic(struct xf_sa_side *) side;

	/* Control thread. */
	struct xf_sa_links links;
};

/* Without the padding at its end, where the slab notes whose it is. */
#define XF_SA_BYTES (offsetof(struct xf_sa, links) + sizeof(struct xf_sa_links))

/* In a time: what is beside it are seconds of the wall clock, as netlink set it, and the number of
 * the clock's last step then, so that a limit runs on whatever is done to the clock. Without it
 * they are nanoseconds of the engine's clock. */
#define XF_SA_WALL (1ull << 63)
#define XF_SA_WALL_STEP_SHIFT 60
#define XF_SA_WALL_S_MASK ((1ull << XF_SA_WALL_STEP_SHIFT) - 1)

/*
 * Free are 8 bytes at the end, for what all SAs have: what few have goes into their side, what
 * packets ask into flags of the form. Bits that are free: 6 of attention, for what else the control
 * thread must hear of; 7 of dying; in the links 3, for an SA in more tables (links by marks).
 */
_Static_assert(XF_SA_BYTES + sizeof(void *) <= 7 * XF_CACHE_LINE, "there may be a million of them");
_Static_assert(
	offsetof(struct xf_sa, begun) == XF_CACHE_LINE &&
		offsetof(struct xf_sa, in) == 2 * XF_CACHE_LINE &&
		offsetof(struct xf_sa, first_cfg) == 3 * XF_CACHE_LINE,
	"what a packet needs of an SA is three cache lines out, and in with what policies ask");

/* Read side, as xf_sa_cfg(): what each packet asks of the configuration in force. */
static inline const struct xf_sa_form *xf_sa_form(const struct xf_sa *sa)
{
	return xf_form_of(atomic_load_explicit(&sa->cfg, memory_order_acquire));
}

static inline struct xf_sa_brief xf_sa_brief(const struct xf_sa *sa)
{
	const struct xf_sa_view *cfg = atomic_load_explicit(&sa->cfg, memory_order_acquire);

	if (XF_LIKELY(cfg == &sa->first_cfg.cfg))
		return sa->first_brief;
	return xf_form_brief(xf_form_of(cfg));
}

/* @cfg as an SA would show it, with @terms for its own. */
struct xf_sa_view xf_sa_view_of(const struct xf_sa_config *cfg, const struct xf_sa_terms *terms);

/* For the SAD: limits of bytes and packets alone. False: a hard one is reached. @events: as in
 * xf_sa_check(). */
bool xf_sa_check_limits(struct xf_sa *sa, const struct xf_sa_form *form,
			struct xf_event_ring *events);

/* In which second it was added, so that SAs can be compared: had the clock never been stepped. */
int64_t xf_sa_added_s(const struct xf_sa *sa);

/* For the SAD: when was it added and first used, on the monotonic clock? Below 0: before boot. */
int64_t xf_sa_added_ns(const struct xf_sa *sa);
bool xf_sa_used_ns(const struct xf_sa *sa, int64_t *ns); /* false: not yet */

/* @time for another SAD, whose wall clock has not had the same steps: what was set before one shows
 * another time then, and the limit runs on as it did, to the second. There, it is made @sa's. */
uint64_t xf_sa_time_elsewhere(const struct xf_sa *sa, uint64_t time);
uint64_t xf_sa_time_here(const struct xf_sa *sa, uint64_t time);

/* No path MTU is less, and none more. 0: not known. */
uint16_t xf_sa_clamp_mtu(const struct xf_sa *sa, uint32_t mtu);

/* For the SAD, in the control thread: put the reference of a table that readers have left. */
void xf_sa_put_unseen(struct xf_sa *sa);

#endif
