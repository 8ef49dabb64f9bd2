/*
 * ring_frags.h - fragments of ESP that come by the ring (ring.h), put together.
 *
 * Threads: whoever has claimed the ring (source.h). Bounded in memory and time; what is dropped is
 * counted for the worker that reads.
 */
#ifndef XF_PORT_RING_FRAGS_H
#define XF_PORT_RING_FRAGS_H

#include "port/backend.h"

/* 0 or -ENOMEM. */
int xf_ring_frags_new(struct xf_ring_frags **out);
void xf_ring_frags_free(struct xf_ring_frags *frags); /* NULL is allowed */

/* Take the IPv4 fragment @pkt. When it completes a datagram that is returned, of @io's pool; else
 * NULL. */
struct xf_pkt *xf_ring_frags_take(struct xf_io *io, struct xf_ring_frags *frags,
				  struct xf_pkt *pkt);

#endif
