/* UDP encapsulation of ESP (RFC 3948), over IPv6 too. */
#include <errno.h>

#include "proto/esp.h"

enum xf_udp_kind xf_udp_classify(const uint8_t *payload, uint32_t len)
{
	/* RFC 3948 s2.3, s2.2, s2.1 */
	if (len == 1 && payload[0] == 0xff)
		return XF_UDP_KEEPALIVE;
	if (len < 4)
		return XF_UDP_SHORT;
	if (xf_get_be32(payload) == 0)
		return XF_UDP_IKE;
	return len > XF_ESP_HDR_LEN ? XF_UDP_ESP : XF_UDP_SHORT;
}

int xf_udp_set_csum6(struct xf_pkt *pkt, uint32_t off)
{
	uint8_t scratch[XF_IPV6_HDR_LEN];
	uint8_t *udp = xf_pkt_writable(pkt, off, XF_UDP_HDR_LEN);
	const uint8_t *ip = xf_pkt_peek(pkt, 0, sizeof(scratch), scratch);
	uint32_t len = pkt->len - off;
	uint64_t sum;
	uint16_t csum;

	if (!ip || !udp)
		return -ENOBUFS;
	/* The addresses stand side by side; what else the pseudo header has is 17 and len. */
	sum = xf_csum_add((uint64_t)XF_IPPROTO_UDP + len, ip + 8, 32);
	csum = xf_csum_fold(xf_pkt_csum(pkt, off, len, sum));
	/* RFC 8200 s8.1: zero would mean that there is none. */
	xf_put_be16(udp + 6, csum ? csum : 0xffff);
	return 0;
}
