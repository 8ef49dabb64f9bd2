/*
 * vnet.h - struct virtio_net_hdr, as a TUN device has it in front of each packet, and what struct
 * xf_pkt says of a super-packet or of a checksum that is not complete. Pure.
 */
#ifndef XF_PORT_VNET_H
#define XF_PORT_VNET_H

#include <linux/types.h>
#include <linux/virtio_net.h>

#include <xf/pkt.h>

/*
 * Take over what @vnet says of @pkt, whose bytes start @skip bytes behind what it was written for.
 * False: what it says cannot be of this packet.
 */
bool xf_vnet_read(const struct virtio_net_hdr *vnet, uint32_t skip, struct xf_pkt *pkt);

/* Say it of @pkt, a TCP or UDP packet without IPv4 options or extension headers when it is a
 * super-packet. */
void xf_vnet_write(const struct xf_pkt *pkt, struct virtio_net_hdr *vnet);

#endif
