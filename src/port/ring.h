/*
 * ring.h - native ESP received ahead of the kernel's IP input (bpf/ring.bpf.c).
 *
 * A program at tcx ingress (Linux 6.6) puts ESP of known peers into a ring that is mapped here.
 * What it takes meets neither routing nor netfilter nor a raw socket; what it does not take goes
 * the usual way. The rest of the daemon sees no difference.
 *
 * Threads: the control thread owns it, one worker at a time reads (source.h).
 */
#ifndef XF_PORT_RING_H
#define XF_PORT_RING_H

#include "host/rtnl.h"

struct xf_ring;

/* Load it; nothing is received yet. Needs CAP_BPF. */
int xf_ring_new(const struct xf_io_names *names, struct xf_ring **out, struct xf_io_error *error);
void xf_ring_free(struct xf_ring *ring); /* NULL is allowed: nothing is received from then on */

/* Packets dropped because it was full. */
uint64_t xf_ring_full(const struct xf_ring *ring);

/* A descriptor that is readable while there are packets. */
int xf_ring_fd(const struct xf_ring *ring);

/* Take nothing more until xf_ring_end(). Packets go the usual way from the next one on. */
void xf_ring_pause(struct xf_ring *ring);

/*
 * From xf_ring_begin() to xf_ring_end(), say what is to be taken: ESP from @saddr to @daddr (IPv4)
 * that arrives on @ifindex. NULL, or why it cannot be: this kernel has no tcx, or others have
 * filters there.
 */
void xf_ring_begin(struct xf_ring *ring);
const char *xf_ring_want(struct xf_ring *ring, uint32_t ifindex, const union xf_addr *saddr,
			 const union xf_addr *daddr);
void xf_ring_end(struct xf_ring *ring);

#endif
