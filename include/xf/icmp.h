/*
 * icmp.h - ICMP and ICMPv6 errors: made for senders, read from routers.
 *
 * Pure functions. What is made is an ICMP message without IP header: whoever sends it knows the
 * source address (ICMPv6 checksums are left to the sender for that reason).
 */
#ifndef XF_ICMP_H
#define XF_ICMP_H

#include <xf/ip.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * "Fragmentation needed" (RFC 1191) or "Packet Too Big" (RFC 4443 s3.2) about @pkt with @mtu, in
 * a fresh packet of the same pool: @pkt's header and as much of it as the RFCs want. *@out NULL:
 * none may be sent (RFC 1122 s3.2.2: about an ICMP error, a fragment that is not the first, a
 * multicast or broadcast; RFC 4443 s2.4, which allows it for a multicast destination) or no
 * buffer. meta: family; the destination is @to.
 */
void xf_icmp_too_big(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu,
		     struct xf_pkt **out, union xf_addr *to);

/* What an ICMP error that came in says about a packet of ours. */
struct xf_icmp_error {
	uint16_t family;
	bool too_big;
	uint32_t mtu; /* too_big: 0 = an old router, no figure */
	uint8_t type;
	uint8_t code;
	union xf_addr saddr; /* of the packet that it is about */
	union xf_addr daddr;
	uint8_t proto; /* of a transform, or XF_IPPROTO_UDP with ESP in it */
	uint8_t sa_proto; /* of the SA */
	uint16_t sport;
	uint16_t dport;
	uint32_t spi; /* 0: cut off, as may be with UDP (RFC 792 quotes 8 bytes behind IP) */
};

/*
 * Read @pkt, a whole IP packet with an ICMP error about what has an SPI. 0, -EINVAL (malformed,
 * or its checksum is wrong), -ENOENT (not such an error).
 */
int xf_icmp_read(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_icmp_error *out);

/*
 * The flow of the packet that @pkt, an ICMP error, is about, reversed: the flow that the error
 * belongs to (RFC 4301 s6, the kernel's xfrm_icmp_flow_decode()). Without ports where the quoted
 * packet was a fragment or is cut off; mark, interface and user are those of @pkt. 0, -EINVAL
 * (what is quoted cannot be read), -ENOENT (no error, or in fragments).
 */
int xf_icmp_quoted_flow(const struct xf_pkt *pkt, const struct xf_ip_info *ip,
			struct xf_flow *flow);

#ifdef __cplusplus
}
#endif

#endif
