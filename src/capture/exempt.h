/*
 * exempt.h - to which devices the host's sysctls disable_xfrm and disable_policy apply.
 *
 * As Linux has them (decision 0029): IPv4 that is routed to a device with disable_xfrm is not
 * protected; IPv4 that arrives at one with disable_policy is not checked; IPv6 is not checked when
 * it is for an address of a device with disable_policy, wherever it arrives. "all" is every device.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_EXEMPT_H
#define XF_CAPTURE_EXEMPT_H

#include <libmnl/libmnl.h>
#include <stdio.h>

#include "port/io.h"

enum xf_exempt_from {
	XF_EXEMPT_XFRM4 = 1 << 0, /* net.ipv4.conf.DEV.disable_xfrm */
	XF_EXEMPT_POLICY4 = 1 << 1, /* net.ipv4.conf.DEV.disable_policy */
	XF_EXEMPT_V4 = XF_EXEMPT_XFRM4 | XF_EXEMPT_POLICY4,
	XF_EXEMPT_POLICY6 = 1 << 2, /* net.ipv6.conf.DEV.disable_policy */
};

struct xf_exempt_device {
	uint32_t ifindex;
	uint32_t from; /* enum xf_exempt_from */
};

/* All zero: nothing is exempt. */
struct xf_exempt {
	uint32_t all; /* every device is exempt from these */
	uint32_t ndevices;
	uint32_t naddrs;
	struct xf_exempt_device *devices; /* that have any themselves; not the TUN */
	union xf_addr *addrs; /* IPv6: what is for them is not checked */
};

/* What is in force in this namespace. On success *@out is the caller's (xf_exempt_fini()). */
int xf_exempt_read(const char *tun, struct xf_exempt *out);
void xf_exempt_fini(struct xf_exempt *exempt);

bool xf_exempt_equal(const struct xf_exempt *a, const struct xf_exempt *b);

/* From what is the device exempt? @ifindex 0 or not known: from what all are. */
uint32_t xf_exempt_of(const struct xf_exempt *exempt, uint32_t ifindex);

/* A line for the log: "net.ipv4.conf.eth0.disable_xfrm, ...", or "" where nothing is exempt. */
void xf_exempt_describe(const struct xf_exempt *exempt, char *text, size_t size);

/* Pieces of the above: what the device of an RTM_NEWLINK message has itself, and what all have. */
uint32_t xf_exempt_of_link(const struct nlmsghdr *msg);
uint32_t xf_exempt_of_all(void);

#endif
