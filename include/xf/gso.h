/*
 * gso.h - cut a super-packet into the packets that it stands for.
 *
 * A super-packet is one IP packet with xf_pkt.gso_type set: TCP over IPv4 or IPv6, or UDP over
 * either, whose payload is that of several packets of gso_size bytes each (the last may have
 * fewer). What comes out is, byte for byte, what the kernel's own software segmentation makes of
 * it (tcp_gso_segment(), __udp_gso_segment()): IP id counts up, lengths, TCP sequence numbers, CWR
 * on the first packet only, FIN and PSH on the last only, every checksum complete.
 *
 * Each packet comes out in a pooled buffer of its own, with head and tail room: headers are
 * written from a template, the payload is copied and summed in one pass (counted as csum_copies
 * in struct xf_pool_stats: not one of lin_copies, not one of payload_bytes_copied).
 *
 * Threads: a packet, its pool and its struct xf_gso_cut belong to one thread. Lengths are bytes.
 */
#ifndef XF_GSO_H
#define XF_GSO_H

#include <xf/ip.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A packet's payload may stand in so many segments and is copied and summed in one pass. */
#define XF_GSO_SEGS 16

/* A super-packet on its way through xf_gso_next(). Opaque: kept by value, without pointers into
 * itself; it borrows the packet, which must not change meanwhile. */
struct xf_gso_cut {
	const struct xf_pkt *pkt;
	struct xf_ip_info ip;
	uint32_t hdr_len; /* IP to the end of the TCP or UDP header */
	uint32_t off; /* of the payload that comes next */
	uint32_t count; /* packets in all */
	uint32_t left; /* packets still to come */
	uint64_t ip_sum; /* of what does not change from one packet to the next: IPv4 header */
	uint64_t fixed_sum; /* TCP or UDP header and pseudo header */
	uint32_t seq; /* of the first packet */
	uint8_t flags;
	uint8_t hdr[256]; /* template, in one piece */
};

/*
 * Begin to cut @pkt, whose parse is @ip. 0, or -EINVAL: it is no super-packet that can be cut (no
 * gso_size, another protocol than gso_type says, a fragment, headers cut short or longer than the
 * template, a TCP packet with SYN, RST or URG: the kernel makes none of these).
 */
int xf_gso_begin(struct xf_gso_cut *cut, const struct xf_pkt *pkt, const struct xf_ip_info *ip);

/*
 * The next packet, its payload copied, its metadata that of the super-packet (gso_type and
 * csum_start 0), or NULL: the pool is empty (cut->left is not 0; it may be tried again) or there
 * are no more.
 */
struct xf_pkt *xf_gso_next(struct xf_gso_cut *cut);

/* The length of the longest packet that @pkt, whose parse is @ip, stands for, or its own. */
uint32_t xf_gso_packet_len(const struct xf_pkt *pkt, const struct xf_ip_info *ip);

/*
 * Add the rest of the sum to the checksum of a packet (not a super-packet) that has csum_start
 * set, and clear that; nothing for one that has not. 0, -EINVAL (the field is outside of the
 * packet), -ENOBUFS. A sum of 0 is written as 0xffff (RFC 768).
 */
int xf_gso_complete_csum(struct xf_pkt *pkt);

#ifdef __cplusplus
}
#endif

#endif
