/*
 * What changes from one packet to the next is little: lengths, IPv4 id, TCP sequence number and
 * flags. Everything else of the headers is summed once, and so is the pseudo header; then a packet
 * costs one pass over its payload, which is copied and summed at once.
 */
#include <errno.h>

#include <xf/gso.h>

#include "pkt/l4.h"

static bool is_tcp(const struct xf_pkt *pkt)
{
	return pkt->gso_type == XF_GSO_TCP4 || pkt->gso_type == XF_GSO_TCP6;
}

static bool family_fits(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	if (pkt->gso_type == XF_GSO_TCP4)
		return ip->family == XF_AF_INET;
	if (pkt->gso_type == XF_GSO_TCP6)
		return ip->family == XF_AF_INET6;
	return pkt->gso_type == XF_GSO_UDP;
}

/* Headers up to the end of TCP's or UDP's; 0: this is no packet that may be cut. */
static uint32_t headers_len(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint8_t scratch[TCP_HDR_LEN];
	const uint8_t *l4;
	uint32_t len;

	if (!family_fits(pkt, ip) || ip->is_frag)
		return 0;
	if (!is_tcp(pkt))
		return ip->proto == XF_IPPROTO_UDP ? ip->l4_off + XF_UDP_HDR_LEN : 0;
	if (ip->proto != XF_IPPROTO_TCP)
		return 0;
	l4 = xf_pkt_peek(pkt, ip->l4_off, sizeof(scratch), scratch);
	if (!l4 || (l4[TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_URG)))
		return 0;
	len = (l4[TCP_OFFSET] >> 4) * 4u;
	return len < TCP_HDR_LEN ? 0 : ip->l4_off + len;
}

/*
 * The pseudo header without its length. Where the sender left its sum in the checksum field, that
 * is what counts, as for the kernel: behind a routing header the IPv6 header names the next hop,
 * but the sum holds the last destination (RFC 8200 s8.1).
 */
static uint64_t pseudo_sum(const struct xf_gso_cut *cut, uint32_t field_off)
{
	const struct xf_ip_info *ip = &cut->ip;

	if (cut->pkt->csum_start == ip->l4_off && cut->pkt->csum_offset == field_off)
		return (uint64_t)xf_get_be16(cut->hdr + ip->l4_off + field_off) +
		       (uint16_t) ~(ip->total_len - ip->l4_off);
	return xf_csum_pseudo(&ip->saddr, &ip->daddr, ip->family, ip->proto, 0);
}

/* In the template, fields that differ between packets are zero, and the checksums. */
static void make_template(struct xf_gso_cut *cut)
{
	uint8_t *l4 = cut->hdr + cut->ip.l4_off;
	uint64_t sum = pseudo_sum(cut, is_tcp(cut->pkt) ? TCP_CSUM : UDP_CSUM);

	if (cut->ip.family == XF_AF_INET) {
		xf_put_be16(cut->hdr + 2, 0);
		xf_put_be16(cut->hdr + 4, 0);
		xf_put_be16(cut->hdr + 10, 0);
		cut->ip_sum = xf_csum_add(0, cut->hdr, cut->ip.hdr_len);
	}
	if (is_tcp(cut->pkt)) {
		cut->seq = xf_get_be32(l4 + TCP_SEQ);
		cut->flags = l4[TCP_FLAGS];
		xf_put_be32(l4 + TCP_SEQ, 0);
		l4[TCP_FLAGS] = 0;
		xf_put_be16(l4 + TCP_CSUM, 0);
	} else {
		xf_put_be16(l4 + UDP_LEN, 0);
		xf_put_be16(l4 + UDP_CSUM, 0);
	}
	cut->fixed_sum = xf_csum_add(sum, l4, cut->hdr_len - cut->ip.l4_off);
}

int xf_gso_begin(struct xf_gso_cut *cut, const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint32_t hdr_len = headers_len(pkt, ip);

	if (hdr_len == 0 || hdr_len > sizeof(cut->hdr) || hdr_len >= ip->total_len ||
	    pkt->gso_size == 0)
		return -EINVAL;
	cut->pkt = pkt;
	cut->ip = *ip;
	cut->hdr_len = hdr_len;
	cut->off = hdr_len;
	cut->left = (ip->total_len - hdr_len + pkt->gso_size - 1) / pkt->gso_size;
	cut->count = cut->left;
	xf_pkt_copy_out(pkt, 0, cut->hdr, hdr_len);
	make_template(cut);
	return 0;
}

/* inet_gso_segment(), ipv6_gso_segment(): lengths; IPv4 ids count up. */
static void write_ip(const struct xf_gso_cut *cut, uint8_t *hdr, uint32_t len)
{
	uint16_t id = (uint16_t)(cut->ip.frag_id + cut->count - cut->left);

	if (cut->ip.family == XF_AF_INET6) {
		xf_put_be16(hdr + 4, (uint16_t)(len - XF_IPV6_HDR_LEN));
		return;
	}
	xf_put_be16(hdr + 2, (uint16_t)len);
	xf_put_be16(hdr + 4, id);
	xf_put_be16(hdr + 10, xf_csum_fold(cut->ip_sum + len + id));
}

/* tcp_gso_segment(): CWR on the first only, FIN and PSH on the last only. */
static uint8_t tcp_flags(const struct xf_gso_cut *cut)
{
	uint8_t flags = cut->flags;

	if (cut->left != cut->count)
		flags &= (uint8_t)~TCP_CWR;
	if (cut->left > 1)
		flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	return flags;
}

/* @sum is that of the payload of @len bytes. */
static void write_tcp(const struct xf_gso_cut *cut, uint8_t *tcp, uint32_t len, uint64_t sum)
{
	uint32_t seq = cut->seq + (cut->off - cut->hdr_len);
	uint8_t flags = tcp_flags(cut);

	xf_put_be32(tcp + TCP_SEQ, seq);
	tcp[TCP_FLAGS] = flags;
	sum += cut->fixed_sum + (seq >> 16) + (seq & 0xffff) + flags;
	sum += cut->hdr_len - cut->ip.l4_off + len;
	xf_put_be16(tcp + TCP_CSUM, xf_csum_fold(sum));
}

/* __udp_gso_segment(): the length stands in the pseudo header and in UDP's own. */
static void write_udp(const struct xf_gso_cut *cut, uint8_t *udp, uint32_t len, uint64_t sum)
{
	uint32_t udp_len = XF_UDP_HDR_LEN + len;
	uint16_t csum = xf_csum_fold(sum + cut->fixed_sum + 2ull * udp_len);

	xf_put_be16(udp + UDP_LEN, (uint16_t)udp_len);
	xf_put_be16(udp + UDP_CSUM, csum ? csum : 0xffff);
}

/* Copy @len bytes of payload at cut->off to @to: their sum. */
static uint64_t copy_payload(const struct xf_gso_cut *cut, uint8_t *to, uint32_t len)
{
	struct xf_seg segs[XF_GSO_SEGS];
	int n = xf_pkt_segs(cut->pkt, cut->off, len, segs, XF_GSO_SEGS);
	uint64_t sum = 0;
	bool odd = false;

	if (n < 0) {
		xf_pkt_copy_out(cut->pkt, cut->off, to, len);
		return xf_csum_add(0, to, len);
	}
	for (int i = 0; i < n; i++) {
		uint64_t part = xf_csum_copy(0, to, segs[i].data, segs[i].len);

		sum += odd ? xf_csum_swap(part) : part;
		odd ^= segs[i].len & 1;
		to += segs[i].len;
	}
	return sum;
}

struct xf_pkt *xf_gso_next(struct xf_gso_cut *cut)
{
	uint32_t rest = cut->ip.total_len - cut->off;
	uint32_t len = xf_min_u32(cut->pkt->gso_size, rest);
	struct xf_pkt *pkt;
	uint8_t *hdr;
	uint64_t sum;

	if (cut->left == 0)
		return NULL;
	pkt = xf_pkt_new(cut->pkt->pool, cut->hdr_len + len);
	if (!pkt)
		return NULL;
	xf_pkt_copy_metadata(pkt, cut->pkt);
	pkt->gso_type = XF_GSO_NONE;
	pkt->csum_start = 0;
	hdr = xf_pkt_append(pkt, cut->hdr_len);
	memcpy(hdr, cut->hdr, cut->hdr_len);
	sum = copy_payload(cut, xf_pkt_append(pkt, len), len);
	xf_pool_count_csum_copy(cut->pkt->pool);
	write_ip(cut, hdr, cut->hdr_len + len);
	if (is_tcp(cut->pkt))
		write_tcp(cut, hdr + cut->ip.l4_off, len, sum);
	else
		write_udp(cut, hdr + cut->ip.l4_off, len, sum);
	cut->off += len;
	cut->left--;
	return pkt;
}

uint32_t xf_gso_packet_len(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint32_t hdr_len = pkt->gso_type ? headers_len(pkt, ip) : 0;

	if (hdr_len == 0)
		return ip->total_len;
	return xf_min_u32(ip->total_len, hdr_len + pkt->gso_size);
}

int xf_gso_complete_csum(struct xf_pkt *pkt)
{
	uint32_t at = (uint32_t)pkt->csum_start + pkt->csum_offset;
	uint16_t csum;
	uint8_t *field;

	if (pkt->csum_start == 0)
		return 0;
	if (at + 2 > pkt->len)
		return -EINVAL;
	csum = xf_csum_fold(xf_pkt_csum(pkt, pkt->csum_start, pkt->len - pkt->csum_start, 0));
	field = xf_pkt_writable(pkt, at, 2);
	if (!field)
		return -ENOBUFS;
	xf_put_be16(field, csum ? csum : 0xffff);
	pkt->csum_start = 0;
	return 0;
}
