/*
 * Clamping the MSS of TCP connections through a tunnel; src/path/out.c calls it for what it
 * protects.
 *
 * A user's "tcp option maxseg size set rt mtu" would see the MTU of the TUN's route, which says
 * nothing of the tunnel behind it. As there, the size follows from the IP and TCP headers without
 * options, and is never raised.
 */
#include "proto/mss.h"

#define OPT_END 0
#define OPT_NOP 1
#define OPT_MSS 2
#define OPT_MSS_LEN 4

/* Where the value of the MSS option stands in the TCP header of @len bytes; 0: nowhere. */
static uint32_t find_mss(const uint8_t *tcp, uint32_t len)
{
	uint32_t at = TCP_HDR_LEN;

	while (at < len && tcp[at] != OPT_END) {
		if (tcp[at] == OPT_NOP) {
			at++;
			continue;
		}
		if (at + 2 > len || tcp[at + 1] < 2 || at + tcp[at + 1] > len)
			return 0;
		if (tcp[at] == OPT_MSS)
			return tcp[at + 1] == OPT_MSS_LEN ? at + 2 : 0;
		at += tcp[at + 1];
	}
	return 0;
}

/* RFC 1624 s3; at an odd offset the bytes of a word belong to two of what is summed. */
static void replace_word(uint8_t *tcp, uint32_t at, uint16_t value)
{
	uint16_t old = xf_get_be16(tcp + at);
	uint16_t sum = xf_get_be16(tcp + TCP_CSUM);
	uint16_t minus = at & 1 ? __builtin_bswap16(old) : old;
	uint16_t plus = at & 1 ? __builtin_bswap16(value) : value;

	xf_put_be16(tcp + at, value);
	sum = xf_csum_fold((uint64_t)(uint16_t)~sum + (uint16_t)~minus + plus);
	xf_put_be16(tcp + TCP_CSUM, sum);
}

bool xf_mss_clamp(struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu)
{
	uint32_t fixed =
		TCP_HDR_LEN + (ip->family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN);
	uint8_t scratch[60];
	const uint8_t *tcp;
	uint8_t *writable;
	uint32_t len, at;

	if (ip->proto != XF_IPPROTO_TCP || ip->is_frag || mtu <= fixed ||
	    ip->l4_off + TCP_HDR_LEN > ip->total_len)
		return false;
	tcp = xf_pkt_peek(pkt, ip->l4_off, TCP_HDR_LEN, scratch);
	len = (tcp[TCP_OFFSET] >> 4) * 4u;
	if (!(tcp[TCP_FLAGS] & TCP_SYN) || len < TCP_HDR_LEN || ip->l4_off + len > ip->total_len)
		return false;
	tcp = xf_pkt_peek(pkt, ip->l4_off, len, scratch);
	at = find_mss(tcp, len);
	if (!at || xf_get_be16(tcp + at) <= mtu - fixed)
		return false;
	writable = xf_pkt_writable(pkt, ip->l4_off, len);
	if (!writable)
		return false;
	replace_word(writable, at, (uint16_t)(mtu - fixed));
	return true;
}
