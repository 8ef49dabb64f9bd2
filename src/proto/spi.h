/*
 * spi.h - where an inbound packet names its SA. Worker threads.
 */
#ifndef XF_PROTO_SPI_H
#define XF_PROTO_SPI_H

#include "sad/transform.h"

struct xf_spi {
	uint32_t spi;
	uint8_t proto; /* the SA's */
	uint8_t udp_len; /* 8 with a UDP header before the protocol's, else 0 */
};

/* The same where @ip names no protocol that a transform has: UDP may have ESP in it (RFC 3948). */
enum xf_drop xf_spi_find_in_udp(const struct xf_pkt *pkt, const struct xf_ip_info *ip,
				struct xf_spi *out);

/*
 * What @pkt, whose parse is @ip, has behind its IP header. A UDP datagram that came to an
 * encapsulation port (pkt->encap_dport) has ESP in it, or
 *   XF_DROP_IN_KEEPALIVE    XF_DROP_IN_IKE
 *   XF_DROP_IN_HDR          cut short, as without UDP, or of no protocol that a transform has
 */
static inline enum xf_drop xf_spi_find(const struct xf_pkt *pkt, const struct xf_ip_info *ip,
				       struct xf_spi *out)
{
	const struct xf_spi_place place = xf_spi_places[ip->proto];
	uint8_t scratch[XF_SPI_HDR_MAX];
	const uint8_t *hdr;

	if (XF_UNLIKELY(place.len == 0))
		return xf_spi_find_in_udp(pkt, ip, out);
	hdr = xf_pkt_peek(pkt, ip->l4_off, place.hdr_len, scratch);
	if (XF_UNLIKELY(!hdr))
		return XF_DROP_IN_HDR;
	out->spi = xf_spi_read(hdr, place);
	out->proto = ip->proto;
	out->udp_len = 0;
	return XF_PASS;
}

/* Does a packet whose IP header names @proto have an SPI? */
static inline bool xf_spi_is_there(uint8_t proto)
{
	return xf_spi_places[proto].len != 0;
}

#endif
