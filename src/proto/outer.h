/*
 * outer.h - the headers in front of an outbound ESP packet (RFC 4301 s5.1.2, RFC 3948 s2.1): what
 * an SA's form has of them, and what differs between packets. For esp_out.c alone.
 */
#ifndef XF_PROTO_OUTER_H
#define XF_PROTO_OUTER_H

#include "proto/esp.h"

/*
 * As the kernel's INET_ECN_encapsulate(): the outer field is a copy, but a CE that was set before
 * the tunnel is not repeated. RFC 6040 s4.1 would copy it; decapsulation restores the same result.
 */
static inline uint8_t xf_outer_tos(const struct xf_sa_form *form, uint8_t inner)
{
	uint8_t dscp = form->own & XF_ESP_ENCAP_DSCP ? inner & (uint8_t)~XF_ECN_MASK : 0;
	uint8_t ecn = inner & XF_ECN_MASK;

	if (form->own & XF_ESP_NOECN)
		return dscp;
	return dscp | (ecn == XF_ECN_CE ? XF_ECN_ECT0 : ecn);
}

/*
 * DF is the inner packet's, but for one that is IPv6 and so small that its sender need not lower
 * its MTU any further (RFC 8200 s5). The kernel means the same since 5.19, but looks at a protocol
 * field that says IPv4 by then, so its small packets carry DF still.
 */
static inline bool xf_outer_df(const struct xf_sa_form *form, const struct xf_ip_info *inner)
{
	if (form->what & XF_FORM_NOPMTUDISC)
		return false;
	if (inner->family == XF_AF_INET6 && inner->total_len <= XF_IPV6_MIN_MTU)
		return false;
	return inner->df;
}

/* The sum is made of what is written, not of what was: no store is waited for. */
static inline void xf_outer_ipv4(uint8_t *hdr, const struct xf_sa_form *form,
				 const struct xf_ip_info *inner, uint32_t len, uint16_t id)
{
	uint32_t tos = xf_outer_tos(form, inner->tos);
	bool df = xf_outer_df(form, inner);
	uint32_t second = df ? XF_IPV4_DF : (uint32_t)id << 16;
	uint32_t sum = form->hdr_sum + tos + len + (df ? XF_IPV4_DF : id);

	xf_put_be32(hdr, 0x45000000u | tos << 16 | len);
	xf_put_be32(hdr + 4, second);
	memcpy(hdr + 8, form->hdr + 8, 2);
	xf_put_be16(hdr + 10, xf_csum_fold(sum));
	memcpy(hdr + 12, form->hdr + 12, 8);
}

static inline void xf_outer_ipv6(uint8_t *hdr, const struct xf_sa_form *form,
				 const struct xf_ip_info *inner, uint32_t len)
{
	uint32_t tos = xf_outer_tos(form, inner->tos);

	memcpy(hdr, form->hdr, XF_IPV6_HDR_LEN);
	xf_put_be32(hdr, 6u << 28 | tos << 20 | inner->flow_label);
	xf_put_be16(hdr + 4, (uint16_t)(len - XF_IPV6_HDR_LEN));
}

/*
 * Everything up to the SPI of a packet of @len bytes from the outer header on, or from the UDP
 * header on in transport mode; @id is of an IPv4 header without DF. Returns the end.
 */
static inline uint8_t *xf_outer_write(uint8_t *hdr, const struct xf_sa_form *form,
				      const struct xf_ip_info *inner, uint32_t len, uint16_t id)
{
	uint8_t *p = hdr + form->outer_len;

	if (XF_LIKELY(form->outer_len == XF_IPV4_HDR_LEN))
		xf_outer_ipv4(hdr, form, inner, len, id);
	else if (form->outer_len)
		xf_outer_ipv6(hdr, form, inner, len);
	if (form->what & XF_FORM_UDP) {
		memcpy(p, form->hdr + form->outer_len, XF_UDP_HDR_LEN);
		xf_put_be16(p + 4, (uint16_t)(len - form->outer_len));
		p += XF_UDP_HDR_LEN;
	}
	memcpy(p, form->hdr + (p - hdr), 4);
	return p + 4;
}

#endif
