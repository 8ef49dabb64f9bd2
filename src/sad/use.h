/*
 * use.h - what a worker does to an SA for each packet: sequence number, limits, window, counters.
 *
 * Threads: workers, inside a read section; several use one SA at once, unless there is only one
 * (XF_FORM_ALONE). What nearly every packet needs is in line here, the rest is in use.c.
 */
#ifndef XF_SAD_USE_H
#define XF_SAD_USE_H

#include "base/alone.h"
#include "sad/sa.h"

/* Before a packet is worked on, so that the misses of several SAs overlap: what is known to be
 * wanted of it, and once that is there, what it points to. */
static inline void xf_sa_fetch(const struct xf_sa *sa, bool out)
{
	__builtin_prefetch(sa);
	__builtin_prefetch(out ? (const void *)&sa->begun : &sa->in, 1);
	__builtin_prefetch(out ? (const void *)&sa->first_cfg.form : &sa->first_cfg.cfg);
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
unsigned xf_sa_take_shared(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			   struct xf_sa_numbers *out);

static inline unsigned xf_sa_take_numbers(struct xf_sa *sa, const struct xf_sa_form *form,
					  unsigned n, struct xf_sa_numbers *out)
{
	uint64_t begun = atomic_load_explicit(&sa->begun, memory_order_relaxed);
	uint64_t last = begun + atomic_load_explicit(&sa->seq_offset, memory_order_relaxed);

	/* Nobody else takes any, and the last one is far. */
	if (XF_UNLIKELY(!(form->what & XF_FORM_ALONE) || last >= UINT32_MAX - n))
		return xf_sa_take_shared(sa, form, n, out);
	atomic_store_explicit(&sa->begun, begun + n, memory_order_relaxed);
	out->first = begun;
	out->seq = last + 1;
	return n;
}

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

/* All of them, where nothing is to be refused; else none. */
static inline bool xf_sa_replay_commit_next(struct xf_sa *sa, uint64_t first, unsigned n)
{
	return xf_replay_commit_next(sa->replay, first, n);
}

static inline void xf_sa_window_unlock(struct xf_sa *sa)
{
	xf_spin_unlock(&sa->replay_lock);
}

/*
 * Is the SA valid and of this direction, and are its limits not reached (the kernel's
 * xfrm_state_check_expire())? Notes the first use; where a limit is hit, sets an attention bit and
 * tells by @events, the worker's (NULL: the control thread asks). XF_PASS, or the _DIR, _INVALID or
 * _EXPIRED reason of the way (ACQUIRE_ERROR for a larval SA inbound).
 */
enum xf_drop xf_sa_check_closer(struct xf_sa *sa, bool out, uint64_t now_ns,
				struct xf_event_ring *events);

/* @what: its form's. */
static inline enum xf_drop xf_sa_check(struct xf_sa *sa, unsigned what, bool out, uint64_t now_ns,
				       struct xf_event_ring *events)
{
	const unsigned odd = (out ? XF_FORM_ONLY_IN : XF_FORM_ONLY_OUT) | XF_FORM_MORE;

	/* In use, and it has neither limits nor the other direction. */
	if (XF_LIKELY(!(what & odd) &&
		      atomic_load_explicit(&sa->state, memory_order_acquire) == XF_SA_VALID &&
		      atomic_load_explicit(&sa->used, memory_order_relaxed) != 0))
		return XF_PASS;
	return xf_sa_check_closer(sa, out, now_ns, events);
}

/* Of an SA that may have limits: can @n more packets of @bytes in all reach none that has not been
 * told yet? */
bool xf_sa_limits_are_far(struct xf_sa *sa, const struct xf_sa_form *form, unsigned n,
			  uint64_t bytes);

/* Before anything is known of the path: the MTU of Ethernet. */
#define XF_SA_MTU_UNKNOWN 1500u

/* The largest outer packet, as far as it is known. */
static inline uint32_t xf_sa_outer_mtu(const struct xf_sa *sa, uint64_t now_ns)
{
	uint32_t mtu = xf_sa_path_mtu(sa, now_ns);

	return mtu ? mtu : XF_SA_MTU_UNKNOWN;
}

/* Count a packet that was dropped. */
void xf_sa_count_drop(struct xf_sa *sa, enum xf_drop reason);

/* Count packets that were protected or accepted. @what: its form's. */
static inline void xf_sa_count(struct xf_sa_use *use, unsigned what, unsigned packets,
			       uint64_t bytes, uint64_t now_ns)
{
	xf_shared_add(&use->bytes, bytes, what & XF_FORM_ALONE);
	xf_shared_add(&use->packets, packets, what & XF_FORM_ALONE);
	atomic_store_explicit(&use->last_ns, now_ns ? now_ns : 1, memory_order_relaxed);
}

#endif
