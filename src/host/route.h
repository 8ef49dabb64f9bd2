/*
 * route.h - what the daemon must know of the kernel's addresses, links and routes.
 *
 * A monitor keeps the set of local addresses, which workers read without a lock, and tells when
 * links or routes changed, so that the path MTU of SAs and the backstop on devices follow.
 *
 * Threads: the control thread owns it; xf_route_is_local() and xf_route_is_for_many() are for any
 * thread registered for RCU, inside a read section.
 */
#ifndef XF_HOST_ROUTE_H
#define XF_HOST_ROUTE_H

#include <xf/addr.h>

#include "host/names.h"

struct xf_route;

/* Open, and read the addresses there are. 0 or -errno. */
int xf_route_new(struct xf_route **out, struct xf_io_error *error);
void xf_route_free(struct xf_route *route);

/* A descriptor that is readable when xf_route_dispatch() has work. */
int xf_route_fd(const struct xf_route *route);

enum xf_route_change {
	XF_ROUTE_ADDR = 1,
	XF_ROUTE_LINK = 2,
	XF_ROUTE_ROUTE = 4,
	XF_ROUTE_NETCONF = 8, /* settings of devices */
};

/*
 * Read what there is, without blocking; returns a set of enum xf_route_change. On LINK call
 * xf_capture_links_changed(); on LINK or ROUTE ask xf_route_mtu() again for every SA; on NETCONF
 * call xf_forwarding_load().
 */
unsigned xf_route_dispatch(struct xf_route *route);

/* Is @addr one of this host's addresses, loopback included? Fits struct xf_env: @arg is a route. */
bool xf_route_is_local(void *arg, const union xf_addr *addr, uint16_t family);

/* Is @addr multicast or a broadcast address of this host's networks? Nobody forwards those. */
bool xf_route_is_for_many(const struct xf_route *route, const union xf_addr *addr, uint16_t family);

/*
 * MTU of the route from @saddr (any: left to the kernel) to @daddr for packets with @mark: the
 * route's own metric, else the device's. 0: there is no route.
 */
uint32_t xf_route_mtu(struct xf_route *route, const union xf_addr *saddr,
		      const union xf_addr *daddr, uint16_t family, uint32_t mark);

#endif
