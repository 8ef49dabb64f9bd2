/* The outer IP header of a tunnel, and what the inner one takes from it (RFC 4301 s5.1.2). */
#include <errno.h>

#include "proto/transform.h"

#define ECN_MASK 3
#define ECN_ECT0 2
#define ECN_CE 3

/*
 * As the kernel's INET_ECN_encapsulate(): the outer field is a copy, but a CE that was set before
 * the tunnel is not repeated. RFC 6040 s4.1 would copy it; decapsulation restores the same result.
 */
static uint8_t encap_tos(const struct xf_sa_config *cfg, uint8_t inner)
{
	uint8_t dscp = inner & (uint8_t)~ECN_MASK;
	uint8_t ecn = inner & ECN_MASK;

	if (cfg->extra_flags & XF_SA_DONT_ENCAP_DSCP)
		dscp = 0;
	if (cfg->flags & XF_SA_NOECN)
		return dscp;
	return dscp | (ecn == ECN_CE ? ECN_ECT0 : ecn);
}

/*
 * As xfrm4_remove_tunnel_encap(): CE moves to an inner packet that is ECN capable. One that is
 * not keeps its 00, where RFC 6040 s4.2 would drop it.
 */
uint8_t xf_tunnel_decap_tos(const struct xf_sa_config *cfg, uint8_t outer, uint8_t inner)
{
	uint8_t tos = inner;

	if (cfg->flags & XF_SA_DECAP_DSCP)
		tos = (outer & (uint8_t)~ECN_MASK) | (inner & ECN_MASK);
	if (!(cfg->flags & XF_SA_NOECN) && (outer & ECN_MASK) == ECN_CE && (inner & ECN_MASK))
		tos |= ECN_CE;
	return tos;
}

/*
 * DF is the inner packet's, but for one that is IPv6 and so small that its sender need not lower
 * its MTU any further (RFC 8200 s5). The kernel means the same since 5.19, but looks at a protocol
 * field that says IPv4 by then, so its small packets carry DF still.
 */
static bool outer_df(const struct xf_sa_config *cfg, const struct xf_ip_info *inner)
{
	if (cfg->flags & XF_SA_NOPMTUDISC)
		return false;
	if (inner->family == XF_AF_INET6 && inner->total_len <= XF_IPV6_MIN_MTU)
		return false;
	return inner->df;
}

/* Two halves of an address, for a sum of big-endian words. */
static uint32_t halves(const uint8_t *addr)
{
	return (uint32_t)xf_get_be16(addr) + xf_get_be16(addr + 2);
}

/* The sum is made of what is written, not of what was: no store is waited for. */
static void write_ipv4(uint8_t *hdr, const struct xf_sa_config *cfg, const struct xf_ip_info *inner,
		       const struct xf_tunnel_hdr *what)
{
	bool df = outer_df(cfg, inner);
	uint32_t first = 0x45000000u | (uint32_t)encap_tos(cfg, inner->tos) << 16 |
			 (XF_IPV4_HDR_LEN + what->payload_len);
	uint32_t second = df ? XF_IPV4_DF : (uint32_t)what->id << 16;
	uint32_t third = (uint32_t)XF_TUNNEL_TTL << 24 | (uint32_t)what->proto << 16;
	uint32_t sum = (first >> 16) + (first & 0xffff) + (second >> 16) + (second & 0xffff) +
		       (third >> 16) + halves(cfg->saddr.bytes) + halves(cfg->id.daddr.bytes);

	xf_put_be32(hdr, first);
	xf_put_be32(hdr + 4, second);
	xf_put_be32(hdr + 8, third | xf_csum_fold(sum));
	memcpy(hdr + 12, cfg->saddr.bytes, 4);
	memcpy(hdr + 16, cfg->id.daddr.bytes, 4);
}

static void write_ipv6(uint8_t *hdr, const struct xf_sa_config *cfg, const struct xf_ip_info *inner,
		       const struct xf_tunnel_hdr *what)
{
	uint32_t tos = encap_tos(cfg, inner->tos);

	xf_put_be32(hdr, 6u << 28 | tos << 20 | inner->flow_label);
	xf_put_be16(hdr + 4, (uint16_t)what->payload_len);
	hdr[6] = what->proto;
	hdr[7] = XF_TUNNEL_TTL;
	memcpy(hdr + 8, cfg->saddr.bytes, 16);
	memcpy(hdr + 24, cfg->id.daddr.bytes, 16);
}

void xf_tunnel_write(uint8_t *hdr, const struct xf_sa_config *cfg, const struct xf_ip_info *inner,
		     const struct xf_tunnel_hdr *what)
{
	if (cfg->id.family == XF_AF_INET)
		write_ipv4(hdr, cfg, inner, what);
	else
		write_ipv6(hdr, cfg, inner, what);
}

/* RFC 1624: the checksum is adjusted, not made anew, so that one that was wrong stays wrong. */
static void set_tos_ipv4(uint8_t *hdr, uint8_t tos)
{
	uint64_t sum = (uint16_t)~xf_get_be16(hdr + 10);

	sum += (uint16_t)~xf_get_be16(hdr);
	hdr[1] = tos;
	sum += xf_get_be16(hdr);
	xf_put_be16(hdr + 10, xf_csum_fold(sum));
}

int xf_tunnel_set_tos(struct xf_pkt *pkt, struct xf_ip_info *ip, uint8_t tos)
{
	uint8_t *hdr;

	if (tos == ip->tos)
		return 0;
	hdr = xf_pkt_writable(pkt, 0, ip->hdr_len);
	if (!hdr)
		return -ENOBUFS;
	ip->tos = tos;
	if (ip->family == XF_AF_INET)
		set_tos_ipv4(hdr, tos);
	else
		xf_put_be16(hdr, (uint16_t)(0x6000 | tos << 4 | (hdr[1] & 0xf)));
	return 0;
}
