/* What an inbound packet says of its SA, for src/path/in.c. */
#include <xf/esp.h>

#include "proto/spi.h"

static enum xf_drop classify_udp(const uint8_t *payload, uint32_t len)
{
	switch (xf_udp_classify(payload, len)) {
	case XF_UDP_KEEPALIVE:
		return XF_DROP_IN_KEEPALIVE;
	case XF_UDP_IKE:
		return XF_DROP_IN_IKE;
	case XF_UDP_SHORT:
		return XF_DROP_IN_HDR;
	case XF_UDP_ESP:
		break;
	}
	return XF_PASS;
}

enum xf_drop xf_spi_find(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_spi *out)
{
	bool in_udp = ip->proto == XF_IPPROTO_UDP && pkt->encap_dport;
	uint8_t proto = in_udp ? XF_IPPROTO_ESP : ip->proto;
	uint32_t off = ip->l4_off + (in_udp ? XF_UDP_HDR_LEN : 0);
	const struct xf_spi_place place = xf_spi_places[proto];
	uint8_t scratch[XF_SPI_HDR_MAX];
	const uint8_t *hdr;
	uint32_t len;

	if (place.len == 0 || off > pkt->len)
		return XF_DROP_IN_HDR;
	len = xf_min_u32(place.hdr_len, pkt->len - off);
	hdr = xf_pkt_peek(pkt, off, len, scratch);
	if (in_udp) {
		enum xf_drop err = classify_udp(hdr, pkt->len - off);

		if (err != XF_PASS)
			return err;
	}
	if (len < place.hdr_len)
		return XF_DROP_IN_HDR;
	out->spi = xf_spi_read(hdr, place);
	out->proto = proto;
	out->udp_len = in_udp ? XF_UDP_HDR_LEN : 0;
	return XF_PASS;
}
