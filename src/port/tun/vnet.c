#include "port/tun/vnet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2; the value of XF_GSO_UDP */
#endif

_Static_assert(XF_GSO_TCP4 == VIRTIO_NET_HDR_GSO_TCPV4 && XF_GSO_TCP6 == VIRTIO_NET_HDR_GSO_TCPV6 &&
		       XF_GSO_UDP == VIRTIO_NET_HDR_GSO_UDP_L4,
	       "enum xf_gso_type has the values of virtio");

static bool is_known(uint8_t type)
{
	return type == XF_GSO_TCP4 || type == XF_GSO_TCP6 || type == XF_GSO_UDP;
}

bool xf_vnet_read(const struct virtio_net_hdr *vnet, uint32_t skip, struct xf_pkt *pkt)
{
	uint8_t type = vnet->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	bool partial = vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	if (partial && (vnet->csum_start <= skip ||
			vnet->csum_start - skip + vnet->csum_offset + 2u > pkt->len))
		return false;
	/* The kernel gives no super-packet whose checksum is complete: it could not be cut. */
	if (type != XF_GSO_NONE && (!is_known(type) || !partial || vnet->gso_size == 0))
		return false;
	if (partial) {
		pkt->csum_start = (uint16_t)(vnet->csum_start - skip);
		pkt->csum_offset = vnet->csum_offset;
	}
	pkt->gso_type = type;
	pkt->gso_size = type ? vnet->gso_size : 0;
	pkt->gso_ecn = vnet->gso_type & VIRTIO_NET_HDR_GSO_ECN;
	return true;
}

/* The end of TCP's header: the kernel copies so much of it in one piece. */
static uint32_t headers_len(const struct xf_pkt *pkt)
{
	uint8_t scratch = 0;
	const uint8_t *data_offset;

	if (pkt->gso_type == XF_GSO_UDP)
		return pkt->csum_start + 8u;
	data_offset = xf_pkt_peek(pkt, pkt->csum_start + 12u, 1, &scratch);
	return pkt->csum_start + (data_offset ? *data_offset >> 4 : 0) * 4u;
}

void xf_vnet_write(const struct xf_pkt *pkt, struct virtio_net_hdr *vnet)
{
	memset(vnet, 0, sizeof(*vnet));
	if (pkt->csum_start) {
		vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		vnet->csum_start = pkt->csum_start;
		vnet->csum_offset = pkt->csum_offset;
	}
	if (pkt->gso_type == XF_GSO_NONE)
		return;
	vnet->gso_type = pkt->gso_type;
	if (pkt->gso_ecn)
		vnet->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	vnet->gso_size = pkt->gso_size;
	vnet->hdr_len = (uint16_t)headers_len(pkt);
}
