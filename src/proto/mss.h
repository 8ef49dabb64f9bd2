/*
 * mss.h - the maximum segment size that a TCP SYN announces, lowered to what a tunnel takes whole.
 *
 * Pure functions over a packet: any thread that owns it. Lengths are bytes.
 */
#ifndef XF_PROTO_MSS_H
#define XF_PROTO_MSS_H

#include <xf/ip.h>

#include "pkt/l4.h"

/* Might @pkt, whose parse is @ip, be a SYN? */
static inline bool xf_mss_is_syn(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	const struct xf_seg *seg = &pkt->segs[0];

	if (XF_LIKELY(ip->proto != XF_IPPROTO_TCP || ip->is_frag))
		return false;
	return seg->len <= ip->l4_off + TCP_FLAGS || seg->data[ip->l4_off + TCP_FLAGS] & TCP_SYN;
}

/*
 * When @pkt is a TCP SYN whose MSS option (RFC 9293 s3.7.1) is larger than what fits in packets of
 * @mtu, lower it, and correct the checksum, which is complete. A packet without the option stays
 * as it is, and so does one for which there is no buffer. Returns whether it was lowered.
 */
bool xf_mss_clamp(struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu);

#endif
