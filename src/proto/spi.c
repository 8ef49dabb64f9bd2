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

enum xf_drop xf_spi_find_in_udp(const struct xf_pkt *pkt, const struct xf_ip_info *ip,
				struct xf_spi *out)
{
	const struct xf_spi_place place = xf_spi_places[XF_IPPROTO_ESP];
	uint32_t off = ip->l4_off + XF_UDP_HDR_LEN;
	uint8_t scratch[XF_SPI_HDR_MAX];
	const uint8_t *esp;
	enum xf_drop err;
	uint32_t len;

	if (ip->proto != XF_IPPROTO_UDP || !pkt->encap_dport || off > pkt->len)
		return XF_DROP_IN_HDR;
	len = xf_min_u32(place.hdr_len, pkt->len - off);
	esp = xf_pkt_peek(pkt, off, len, scratch);
	err = classify_udp(esp, pkt->len - off);
	if (err != XF_PASS)
		return err;
	if (len < place.hdr_len)
		return XF_DROP_IN_HDR;
	out->spi = xf_spi_read(esp, place);
	out->proto = XF_IPPROTO_ESP;
	out->udp_len = XF_UDP_HDR_LEN;
	return XF_PASS;
}
