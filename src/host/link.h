/*
 * link.h - what a message of rtnetlink says of a device.
 *
 * Any thread: nothing is kept.
 */
#ifndef XF_HOST_LINK_H
#define XF_HOST_LINK_H

#include <libmnl/libmnl.h>
#include <stdbool.h>

/* Texts are the message's own; "": it does not say. */
struct xf_link {
	int ifindex;
	unsigned flags; /* IFF_* */
	const char *name;
	const char *kind; /* "tun", "vrf"; none has hardware */
	const char *slave_kind; /* of its master */
};

/* False: it is no RTM_NEWLINK. */
bool xf_link_read(const struct nlmsghdr *msg, struct xf_link *out);

#endif
