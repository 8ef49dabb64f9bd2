/*
 * gro.h - join packets of one flow into super-packets: the reverse of gso.h.
 *
 * TCP (IPv4, IPv6) and UDP packets that follow each other in their flow are chained: the first
 * one's headers, then the payloads, in place; nothing is copied. A super-packet that is cut again
 * gives back the packets it was made of, byte for byte: packets are joined only where the kernel's
 * GRO would (inet_gro_receive(), tcp_gro_receive(), udp_gro_receive()) and where nothing would be
 * lost: same addresses, ports, DSCP, ECN, TTL, DF, IP id counting up, flow label, TCP
 * acknowledgement, window, options and reserved bits, valid checksums; no fragment, no IPv4 option,
 * no extension header, no URG, SYN, RST, CWR on the first only; every packet but the last of one
 * size, none larger. PSH and FIN end a super-packet; so does any packet of the flow that cannot
 * join it, and that comes out behind it. Packets of one flow leave in the order in which they came.
 *
 * Threads: a struct xf_gro belongs to one thread. Lengths are bytes.
 */
#ifndef XF_GRO_H
#define XF_GRO_H

#include <xf/ip.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_gro;

struct xf_gro_stats {
	uint64_t packets; /* that came */
	uint64_t supers; /* super-packets that left */
	uint64_t joined; /* packets that left inside of them */
};

enum xf_gro_what { XF_GRO_TCP = 1, XF_GRO_UDP = 2 };

/* @what is joined: bits of enum xf_gro_what. NULL: no memory. */
struct xf_gro *xf_gro_new(uint8_t what);
void xf_gro_free(struct xf_gro *gro); /* flush first: packets that it still holds are freed */

/*
 * Take @pkt, whose parse is @ip. It is held, or chained to a packet that is held, or comes out in
 * @out behind whatever of its flow was held. A full table (flows or bytes) puts the oldest out.
 */
void xf_gro_push(struct xf_gro *gro, struct xf_pkt *pkt, const struct xf_ip_info *ip,
		 struct xf_pktq *out);

/*
 * Everything that is held comes out, oldest flow first. A super-packet has gso_type, gso_size,
 * csum_start and csum_offset set, its lengths and IPv4 header checksum right, the checksum of TCP
 * or UDP as the kernel wants it for CHECKSUM_PARTIAL; a packet that found no other is unchanged.
 */
void xf_gro_flush(struct xf_gro *gro, struct xf_pktq *out);

void xf_gro_get_stats(const struct xf_gro *gro, struct xf_gro_stats *out);

#ifdef __cplusplus
}
#endif

#endif
