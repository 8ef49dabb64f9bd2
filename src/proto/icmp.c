/*
 * ICMP errors: made for senders whose packets do not fit (src/path/out.c, src/port/tx.c), read from
 * routers (src/path/pmtu.c), and for policies the flow that an error belongs to (src/path/).
 */
#include <errno.h>

#include <xf/icmp.h>

#include "proto/spi.h"

#define ICMP_HDR_LEN 8
/* The longest error, IP header included: RFC 1812 s4.3.2.3, RFC 4443 s2.4 (c). */
#define ICMPV4_MAX 576
#define ICMPV6_MAX XF_IPV6_MIN_MTU

enum icmpv4 {
	ICMPV4_UNREACH = 3,
	ICMPV4_QUENCH = 4,
	ICMPV4_REDIRECT = 5,
	ICMPV4_EXCEEDED = 11,
	ICMPV4_PARAM = 12,
	ICMPV4_CODE_FRAG_NEEDED = 4,
};

enum icmpv6 { ICMPV6_TOO_BIG = 2, ICMPV6_INFORMATIONAL = 128, ICMPV6_REDIRECT = 137 };

/* @len bytes at @off that belong to the IP packet, or NULL. */
static const uint8_t *read_at(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t off,
			      uint32_t len, void *scratch)
{
	if (off + len > ip->total_len)
		return NULL;
	return xf_pkt_peek(pkt, off, len, scratch);
}

static bool is_error_v4(uint8_t type)
{
	return type == ICMPV4_UNREACH || type == ICMPV4_QUENCH || type == ICMPV4_REDIRECT ||
	       type == ICMPV4_EXCEEDED || type == ICMPV4_PARAM;
}

/* RFC 1122 s3.2.2, RFC 4443 s2.4 (e.1, e.2): no error about an error. Too short to tell: one. */
static bool is_icmp_error(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint8_t scratch;
	const uint8_t *type;

	if (ip->proto != (ip->family == XF_AF_INET ? XF_IPPROTO_ICMP : XF_IPPROTO_ICMPV6))
		return false;
	type = read_at(pkt, ip, ip->l4_off, 1, &scratch);
	if (!type)
		return true;
	if (ip->family == XF_AF_INET)
		return is_error_v4(*type);
	return *type < ICMPV6_INFORMATIONAL || *type == ICMPV6_REDIRECT;
}

static bool is_broadcast(const union xf_addr *addr)
{
	return addr->v4_be == UINT32_MAX;
}

/* Packet Too Big is the one error that may be about a multicast (RFC 4443 s2.4 (e.3)). */
static bool may_answer(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	if (ip->frag_off || is_icmp_error(pkt, ip))
		return false;
	if (xf_addr_is_any(&ip->saddr, ip->family) || xf_addr_is_multicast(&ip->saddr, ip->family))
		return false;
	if (ip->family == XF_AF_INET6)
		return true;
	return !is_broadcast(&ip->saddr) && !is_broadcast(&ip->daddr) &&
	       !xf_addr_is_multicast(&ip->daddr, XF_AF_INET);
}

void xf_icmp_too_big(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu,
		     struct xf_pkt **out, union xf_addr *to)
{
	bool v4 = ip->family == XF_AF_INET;
	uint32_t room = v4 ? ICMPV4_MAX - XF_IPV4_HDR_LEN : ICMPV6_MAX - XF_IPV6_HDR_LEN;
	uint32_t quote = xf_min_u32(ip->total_len, room - ICMP_HDR_LEN);
	struct xf_pkt *reply;
	uint8_t *icmp;

	*out = NULL;
	if (!may_answer(pkt, ip))
		return;
	reply = xf_pkt_new(pkt->pool, ICMP_HDR_LEN + quote);
	if (!reply)
		return;
	icmp = xf_pkt_append(reply, ICMP_HDR_LEN + quote);
	memset(icmp, 0, ICMP_HDR_LEN);
	xf_pkt_copy_out(pkt, 0, icmp + ICMP_HDR_LEN, quote);
	if (v4) {
		icmp[0] = ICMPV4_UNREACH;
		icmp[1] = ICMPV4_CODE_FRAG_NEEDED;
		xf_put_be16(icmp + 6, (uint16_t)xf_min_u32(mtu, UINT16_MAX));
		xf_put_be16(icmp + 2, xf_csum_fold(xf_csum_add(0, icmp, ICMP_HDR_LEN + quote)));
	} else {
		icmp[0] = ICMPV6_TOO_BIG;
		xf_put_be32(icmp + 4, mtu);
	}
	reply->family = ip->family;
	*to = ip->saddr;
	*out = reply;
}

static int quoted_v4(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_ip_info *q)
{
	uint8_t scratch[XF_IPV4_HDR_LEN];
	const uint8_t *hdr = read_at(pkt, ip, q->l4_off, XF_IPV4_HDR_LEN, scratch);
	uint32_t hdr_len = hdr ? (hdr[0] & 0xfu) * 4 : 0;
	uint16_t frag;

	if (hdr_len < XF_IPV4_HDR_LEN || hdr[0] >> 4 != 4)
		return -EINVAL;
	xf_addr_load(&q->saddr, hdr + 12, XF_AF_INET);
	xf_addr_load(&q->daddr, hdr + 16, XF_AF_INET);
	frag = xf_get_be16(hdr + 6);
	q->is_frag = frag & (XF_IPV4_MF | XF_IPV4_OFFSET_MASK);
	q->frag_off = (frag & XF_IPV4_OFFSET_MASK) * 8u;
	q->proto = hdr[9];
	q->l4_off += hdr_len;
	return 0;
}

/* Step over one extension header: 1 = done, 0 = it was none, or nothing stands behind it. */
static int skip_ext_hdr(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_ip_info *q)
{
	uint8_t scratch[4];
	const uint8_t *hdr;

	if (q->frag_off || (q->proto != XF_IPPROTO_HOPOPTS && q->proto != XF_IPPROTO_ROUTING &&
			    q->proto != XF_IPPROTO_DSTOPTS && q->proto != XF_IPPROTO_FRAGMENT))
		return 0;
	hdr = read_at(pkt, ip, q->l4_off, sizeof(scratch), scratch);
	if (!hdr)
		return -EINVAL;
	if (q->proto == XF_IPPROTO_FRAGMENT) {
		q->frag_off = xf_get_be16(hdr + 2) & 0xfff8u;
		q->is_frag = q->frag_off || hdr[3] & 1;
		q->l4_off += XF_IPV6_FRAG_HDR_LEN;
	} else {
		q->l4_off += (hdr[1] + 1u) * 8;
	}
	q->proto = hdr[0];
	return 1;
}

static int quoted_v6(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_ip_info *q)
{
	uint8_t scratch[XF_IPV6_HDR_LEN];
	const uint8_t *hdr = read_at(pkt, ip, q->l4_off, XF_IPV6_HDR_LEN, scratch);
	int step;

	if (!hdr || hdr[0] >> 4 != 6)
		return -EINVAL;
	xf_addr_load(&q->saddr, hdr + 8, XF_AF_INET6);
	xf_addr_load(&q->daddr, hdr + 24, XF_AF_INET6);
	q->proto = hdr[6];
	q->l4_off += XF_IPV6_HDR_LEN;
	while ((step = skip_ext_hdr(pkt, ip, q)) > 0)
		;
	return step;
}

/*
 * What the packet that an error is about was: as much of @q as its quoted beginning says, with
 * offsets in @pkt. 0 or -EINVAL.
 */
static int read_quoted(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_ip_info *q)
{
	*q = (struct xf_ip_info){ .family = ip->family,
				  .total_len = ip->total_len,
				  .l4_off = ip->l4_off + ICMP_HDR_LEN };
	return ip->family == XF_AF_INET ? quoted_v4(pkt, ip, q) : quoted_v6(pkt, ip, q);
}

/* UDP may carry ESP: an SPI of 0 would be IKE's non-ESP marker (RFC 3948 s2.2). RFC 792 quotes 8
 * bytes behind IP. */
static int read_quoted_spi(const struct xf_pkt *pkt, const struct xf_ip_info *ip,
			   const struct xf_ip_info *q, struct xf_icmp_error *out)
{
	uint8_t scratch[XF_SPI_QUOTED_MAX];
	const uint8_t *l4;

	if (q->frag_off || (!xf_spi_is_there(q->proto) && q->proto != XF_IPPROTO_UDP))
		return -ENOENT;
	l4 = read_at(pkt, ip, q->l4_off, sizeof(scratch), scratch);
	if (!l4)
		return -EINVAL;
	out->saddr = q->saddr;
	out->daddr = q->daddr;
	out->proto = q->proto;
	out->sa_proto = q->proto;
	if (q->proto != XF_IPPROTO_UDP) {
		out->spi = xf_spi_read(l4, xf_spi_places[q->proto]);
		return 0;
	}
	out->sa_proto = XF_IPPROTO_ESP;
	out->sport = xf_get_be16(l4);
	out->dport = xf_get_be16(l4 + 2);
	l4 = read_at(pkt, ip, q->l4_off + XF_UDP_HDR_LEN, 4, scratch);
	if (l4)
		out->spi = xf_get_be32(l4);
	return l4 && !out->spi ? -ENOENT : 0;
}

static bool csum_ok(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint32_t len = ip->total_len - ip->l4_off;
	uint64_t sum = 0;

	if (ip->family == XF_AF_INET6)
		sum = xf_csum_pseudo(&ip->saddr, &ip->daddr, XF_AF_INET6, XF_IPPROTO_ICMPV6, len);
	return xf_csum_fold(xf_pkt_csum(pkt, ip->l4_off, len, sum)) == 0;
}

static int read_header_v4(const uint8_t *icmp, struct xf_icmp_error *out)
{
	if (!is_error_v4(icmp[0]))
		return -ENOENT;
	out->too_big = icmp[0] == ICMPV4_UNREACH && icmp[1] == ICMPV4_CODE_FRAG_NEEDED;
	if (out->too_big)
		out->mtu = xf_get_be16(icmp + 6);
	return 0;
}

static int read_header_v6(const uint8_t *icmp, struct xf_icmp_error *out)
{
	if (icmp[0] >= ICMPV6_INFORMATIONAL)
		return -ENOENT;
	out->too_big = icmp[0] == ICMPV6_TOO_BIG;
	if (out->too_big)
		out->mtu = xf_get_be32(icmp + 4);
	return 0;
}

int xf_icmp_read(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_icmp_error *out)
{
	bool v4 = ip->family == XF_AF_INET;
	uint8_t scratch[ICMP_HDR_LEN];
	const uint8_t *icmp;
	struct xf_ip_info q;
	int err;

	memset(out, 0, sizeof(*out));
	if (ip->proto != (v4 ? XF_IPPROTO_ICMP : XF_IPPROTO_ICMPV6))
		return -ENOENT;
	icmp = read_at(pkt, ip, ip->l4_off, ICMP_HDR_LEN, scratch);
	if (!icmp || ip->is_frag || !csum_ok(pkt, ip))
		return -EINVAL;
	out->family = ip->family;
	out->type = icmp[0];
	out->code = icmp[1];
	err = v4 ? read_header_v4(icmp, out) : read_header_v6(icmp, out);
	if (!err)
		err = read_quoted(pkt, ip, &q);
	return err ? err : read_quoted_spi(pkt, ip, &q, out);
}

int xf_icmp_quoted_flow(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct xf_flow *flow)
{
	bool v4 = ip->family == XF_AF_INET;
	struct xf_ip_info q;
	uint8_t scratch;
	const uint8_t *type;
	int err;

	if (ip->is_frag || ip->proto != (v4 ? XF_IPPROTO_ICMP : XF_IPPROTO_ICMPV6))
		return -ENOENT;
	type = read_at(pkt, ip, ip->l4_off, 1, &scratch);
	if (!type || (v4 ? !is_error_v4(*type) : *type >= ICMPV6_INFORMATIONAL))
		return -ENOENT;
	err = read_quoted(pkt, ip, &q);
	if (!err)
		xf_ip_flow(pkt, &q, true, flow);
	return err;
}
