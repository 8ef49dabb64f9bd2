/*
 * ip.h - IPv4 and IPv6 headers: parse once, read many times; checksums.
 *
 * Pure functions over a packet: any thread that owns it. Offsets and lengths are bytes from the
 * packet's first byte. Every length in a header is checked against the packet before it is used.
 */
#ifndef XF_IP_H
#define XF_IP_H

#include <xf/drop.h>
#include <xf/pkt.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_IPV4_HDR_LEN 20
#define XF_IPV6_HDR_LEN 40
#define XF_UDP_HDR_LEN 8
#define XF_IPV6_FRAG_HDR_LEN 8
#define XF_IPV6_MIN_MTU 1280 /* RFC 8200 s5 */

#define XF_ECN_MASK 3 /* of TOS or traffic class (RFC 3168 s5) */
#define XF_ECN_ECT0 2
#define XF_ECN_CE 3

#define XF_IPV4_DF 0x4000
#define XF_IPV4_MF 0x2000
#define XF_IPV4_OFFSET_MASK 0x1fff

/* What the headers of a packet say. @total_len <= packet length always holds after a parse. */
struct xf_ip_info {
	uint16_t family;
	uint8_t ttl; /* or hop limit */
	uint8_t proto; /* of what stands at @l4_off; for fragments, of the whole datagram */
	uint8_t tos; /* or traffic class */
	bool df; /* IPv4 DF; true for IPv6 */
	bool is_frag; /* part of a datagram: offset or MF set (not an atomic IPv6 fragment) */
	bool more_frags;
	uint32_t frag_off; /* bytes */
	uint32_t frag_id; /* IPv4 id or IPv6 identification */
	uint32_t flow_label; /* IPv6, 20 bits */
	uint32_t hdr_len; /* IPv4 header with options; IPv6: 40 */
	uint32_t l4_off; /* where @proto's header starts, after extension headers */
	uint32_t l4_nexthdr_field; /* offset of the byte that holds @proto */
	/* Where transport mode puts ESP: after hop-by-hop, routing, first dstopts (RFC 4303
	 * s3.1.1), as the kernel's ip6_find_1stfragopt(); and the byte that names what is there. */
	uint32_t ah_esp_off;
	uint32_t nexthdr_field;
	uint32_t frag_hdr_off; /* IPv6: offset of the fragment header, 0 = none */
	uint32_t total_len; /* by the IP header */
	union xf_addr saddr;
	union xf_addr daddr;
};

/*
 * Parse the IP header at the front of @pkt. 0, or -EINVAL for anything a router would throw away
 * (version, header length, lengths beyond the packet, IPv4 header checksum when @check_csum).
 */
int xf_ip_parse(const struct xf_pkt *pkt, bool check_csum, struct xf_ip_info *info);

/*
 * Is @pkt, as parsed into @info, a fragment of an IPv6 datagram in whose fragmentable part
 * extension headers stand? Then only the first fragment shows the protocol: of a later one
 * @info->proto is that of an extension header (RFC 8200 s4.5).
 */
bool xf_ip_frag_hides_proto(const struct xf_pkt *pkt, const struct xf_ip_info *info);

/*
 * The flow that policies see: addresses and, for TCP, UDP, UDP-Lite, SCTP, DCCP, ICMP, ICMPv6, MH
 * and GRE, ports as xf_flow has them; fragments and short packets leave ports 0. @reverse swaps
 * source and destination. mark, if_id, oif and uid come from the packet's metadata.
 */
void xf_ip_flow(const struct xf_pkt *pkt, const struct xf_ip_info *info, bool reverse,
		struct xf_flow *flow);

/* Fold a one's complement sum to 16 bits and complement it (RFC 1071). */
static inline uint16_t xf_csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Add @len bytes at @data to @sum; @data starts at an even offset of what is summed. */
uint64_t xf_csum_add(uint64_t sum, const void *data, uint32_t len);

/* The same while the bytes are copied to @dst. */
uint64_t xf_csum_copy(uint64_t sum, void *dst, const void *src, uint32_t len);

/* @sum of bytes that start at an odd offset of what is summed. */
uint64_t xf_csum_swap(uint64_t sum);

/* Sum of the pseudo header of RFC 768 / RFC 8200 s8.1. */
uint64_t xf_csum_pseudo(const union xf_addr *saddr, const union xf_addr *daddr, uint16_t family,
			uint8_t proto, uint32_t len);

/* Recompute the checksum of the IPv4 header of @hdr_len bytes at @hdr. */
void xf_ipv4_set_csum(uint8_t *hdr, uint32_t hdr_len);

#ifdef __cplusplus
}
#endif

#endif
