/*
 * forwarding.h - does the kernel forward what came in by a device?
 *
 * Linux asks the device on which an ESP packet arrived. What we deliver arrives on the TUN, so the
 * TUN forwards as soon as any device does, and the engine asks here for the device of the outer
 * packet (struct xf_env.may_forward). IPv4 goes by the setting "forwarding" of each device; IPv6 by
 * that of "all", and from Linux 6.17 on by the setting "force_forwarding" of each device.
 *
 * Threads: the control thread owns it; xf_forwarding_allows() is for any thread registered for RCU,
 * inside a read section.
 */
#ifndef XF_HOST_FORWARDING_H
#define XF_HOST_FORWARDING_H

#include "host/names.h"

struct xf_forwarding;

/*
 * Read the settings there are. They may change since xf_route_new(): what xf_route_dispatch() tells
 * of is not lost. 0 or -errno.
 */
int xf_forwarding_new(const struct xf_io_names *names, uint64_t now_ns, struct xf_forwarding **out,
		      struct xf_io_error *error);
void xf_forwarding_free(struct xf_forwarding *forwarding); /* NULL is allowed */

/*
 * Read them again, when xf_route_dispatch() has told of XF_ROUTE_NETCONF, and at
 * xf_forwarding_due(): not every change of force_forwarding is told. Where that cannot be done what
 * was read before holds until it is due again.
 */
void xf_forwarding_load(struct xf_forwarding *forwarding, uint64_t now_ns);
uint64_t xf_forwarding_due(const struct xf_forwarding *forwarding);

/*
 * Let the TUN forward, or not, as was read last. Only after a grace period since
 * xf_forwarding_load(): a worker that goes by what held before could still deliver what must not be
 * forwarded. True: xf_forwarding_lacks() says something else now.
 */
bool xf_forwarding_settle(struct xf_forwarding *forwarding);

/* The TUN should forward, and the setting cannot be changed. */
bool xf_forwarding_lacks(const struct xf_forwarding *forwarding);

/* May what the device @iif (0: not known) has received go on to what is not for this host? */
bool xf_forwarding_allows(const struct xf_forwarding *forwarding, uint16_t family, uint32_t iif);

#endif
