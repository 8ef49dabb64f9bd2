/* What an inner packet takes from the outer header of its tunnel (RFC 4301 s5.1.2). */
#include <errno.h>

#include "proto/esp.h"

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
	uint8_t *hdr = xf_pkt_writable(pkt, 0, ip->hdr_len);

	if (!hdr)
		return -ENOBUFS;
	ip->tos = tos;
	if (ip->family == XF_AF_INET)
		set_tos_ipv4(hdr, tos);
	else
		xf_put_be16(hdr, (uint16_t)(0x6000 | tos << 4 | (hdr[1] & 0xf)));
	return 0;
}
