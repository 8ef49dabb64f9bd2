/*
 * hop.h - the next hop of a destination, as the kernel would choose it.
 *
 * Control thread. What is read is a picture of one moment: whoever keeps it watches rtnetlink.
 */
#ifndef XF_HOST_HOP_H
#define XF_HOST_HOP_H

#include <xf/addr.h>

#include "host/rtnl.h"

/* What decides where a packet goes. Compared byte by byte: unused bytes are zero. */
struct xf_hop_key {
	union xf_addr saddr;
	union xf_addr daddr;
	uint32_t mark; /* as the kernel would see it: with the bypass bit */
	uint32_t family;
};

/* What the kernel says of it; what it did not say is zero. */
struct xf_hop_facts {
	uint8_t route_type; /* RTN_*; RTN_UNSPEC: there is no route */
	uint32_t ifindex;
	uint16_t via_family;
	union xf_addr via; /* the neighbour: a gateway, or the destination itself */
	uint16_t link_type; /* ARPHRD_* */
	uint32_t link_flags; /* IFF_* */
	uint32_t mtu;
	uint32_t master; /* of a bridge, bond or VRF that has the device */
	uint16_t neigh_state; /* NUD_* */
	uint8_t lladdr_len;
	uint8_t lladdr[8];
};

/* Ask for all of it, as far as it goes. */
void xf_hop_ask(struct xf_rtnl *rtnl, const struct xf_hop_key *key, struct xf_hop_facts *out);

/* Why no frame can be addressed to that hop; NULL: it can. */
const char *xf_hop_refusal(const struct xf_hop_facts *facts);

#endif
