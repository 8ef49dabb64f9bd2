/*
 * side.h - what few SAs have, beside struct xf_sa, whose lines are full: memory that only they
 * take.
 *
 * An SA has none, or one from when it is first wanted until the SA is freed: whoever has the SA may
 * keep the address. Made by the control thread, at any time; a worker that finds one may read what
 * its label allows. A worker that must know without looking here needs a flag of the form, which
 * says so (XF_FORM_...): this line is not one of those that packets have fetched.
 *
 * For whom it is: the handle of a device that has the SA, with its generation (offload); the state
 * of IPTFS that is not a worker's; the link that its packets come out of (interfaces).
 */
#ifndef XF_SAD_SIDE_H
#define XF_SAD_SIDE_H

#include "sad/sa.h"

struct xf_sa_side {
	/* Control thread. */
	bool has_coaddr;
	union xf_addr coaddr; /* care-of address (RFC 6275 s11.3.2) of mobile IPv6 */
};

/* Any thread that may use @sa: its side, or NULL. */
static inline struct xf_sa_side *xf_sa_side(const struct xf_sa *sa)
{
	return atomic_load_explicit(&sa->side, memory_order_acquire);
}

/* Control thread: the side of @sa, made if there was none. It is the SA's. NULL: no memory. */
struct xf_sa_side *xf_sa_side_get(struct xf_sa *sa);

/* When nobody has @sa any more. */
void xf_sa_side_free(struct xf_sa *sa);

#endif
