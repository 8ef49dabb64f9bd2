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

/*
 * What @pkt, whose parse is @ip, has behind its IP header. A UDP datagram that came to an
 * encapsulation port (pkt->encap_dport) has ESP in it (RFC 3948), or
 *   XF_DROP_IN_KEEPALIVE    XF_DROP_IN_IKE
 *   XF_DROP_IN_HDR          cut short, as without UDP, or of no protocol that a transform has
 */
enum xf_drop xf_spi_find(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_spi *out);

/* Does a packet whose IP header names @proto have an SPI? */
static inline bool xf_spi_is_there(uint8_t proto)
{
	return xf_spi_places[proto].len != 0;
}

#endif
