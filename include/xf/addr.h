/*
 * addr.h - one type for IPv4 and IPv6 addresses, marks, flows and the selectors that match them.
 *
 * Value objects without state: any thread. Prefix lengths are bits. Ports are host order;
 * addresses keep wire order. The memory layout of union xf_addr is that of xfrm_address_t, so
 * that netlink code can copy it; an IPv4 address fills the first four bytes, the rest is zero.
 */
#ifndef XF_ADDR_H
#define XF_ADDR_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Families have the values of Linux' AF_INET and AF_INET6; the engine includes no socket header. */
enum xf_family { XF_AF_UNSPEC = 0, XF_AF_INET = 2, XF_AF_INET6 = 10 };

/* IP protocol numbers that the engine looks into. */
enum xf_ipproto {
	XF_IPPROTO_HOPOPTS = 0,
	XF_IPPROTO_ICMP = 1,
	XF_IPPROTO_IPIP = 4,
	XF_IPPROTO_TCP = 6,
	XF_IPPROTO_UDP = 17,
	XF_IPPROTO_DCCP = 33,
	XF_IPPROTO_IPV6 = 41,
	XF_IPPROTO_ROUTING = 43,
	XF_IPPROTO_FRAGMENT = 44,
	XF_IPPROTO_GRE = 47,
	XF_IPPROTO_ESP = 50,
	XF_IPPROTO_AH = 51,
	XF_IPPROTO_ICMPV6 = 58,
	XF_IPPROTO_NONE = 59,
	XF_IPPROTO_DSTOPTS = 60,
	XF_IPPROTO_COMP = 108,
	XF_IPPROTO_SCTP = 132,
	XF_IPPROTO_MH = 135,
	XF_IPPROTO_UDPLITE = 136,
};

union xf_addr {
	uint8_t bytes[16];
	uint32_t v4_be;
	uint32_t v6_be[4];
	uint64_t quad[2];
};

/* A mark as XFRMA_MARK has it: @v matches a packet's mark when (mark & @m) == @v. */
struct xf_mark {
	uint32_t v;
	uint32_t m;
};

/*
 * What a packet looks like to policies (the kernel's struct flowi). For ICMP, ICMPv6 and MH the
 * type is in @sport and the code in @dport, and for GRE the key's high half is in @sport and its
 * low half in @dport, as the kernel's xfrm_flowi_sport() and xfrm_flowi_dport() have it.
 */
struct xf_flow {
	union xf_addr saddr;
	union xf_addr daddr;
	uint16_t family;
	uint16_t sport;
	uint16_t dport;
	uint8_t proto;
	uint8_t tos;
	uint32_t mark;
	uint32_t if_id;
	uint32_t oif; /* 0 = unknown: any selector's interface matches, so that nothing leaks */
	uint32_t uid;
};

/* A traffic selector; the fields mean what those of struct xfrm_selector mean (RFC 4301 s4.4.1). */
struct xf_selector {
	union xf_addr daddr;
	union xf_addr saddr;
	uint16_t dport;
	uint16_t dport_mask;
	uint16_t sport;
	uint16_t sport_mask;
	uint16_t family;
	uint8_t prefixlen_d;
	uint8_t prefixlen_s;
	uint8_t proto; /* 0 = any */
	uint32_t ifindex; /* 0 = any */
	uint32_t user;
};

#define XF_ADDR_STRLEN 46

static inline uint8_t xf_addr_bits(uint16_t family)
{
	return family == XF_AF_INET6 ? 128 : 32;
}

static inline bool xf_addr_equal(const union xf_addr *a, const union xf_addr *b, uint16_t family)
{
	if (family == XF_AF_INET)
		return a->v4_be == b->v4_be;
	return a->quad[0] == b->quad[0] && a->quad[1] == b->quad[1];
}

static inline bool xf_mark_match(const struct xf_mark *mark, uint32_t value)
{
	return (value & mark->m) == mark->v;
}

/* Is @addr all zero (the kernel's "any")? */
bool xf_addr_is_any(const union xf_addr *addr, uint16_t family);

/* Is @addr a multicast address (224.0.0.0/4, ff00::/8)? */
bool xf_addr_is_multicast(const union xf_addr *addr, uint16_t family);

/* Do @a and @b agree in their first @prefix_bits bits? */
bool xf_addr_prefix_match(const union xf_addr *a, const union xf_addr *b, uint8_t prefix_bits);

/* Fill @out with the 4 or 16 bytes at @wire. */
void xf_addr_load(union xf_addr *out, const void *wire, uint16_t family);

/* Does @sel match @flow, as the kernel's xfrm_selector_match(@sel, @flow, @sel->family), but for an
 * interface that is not known? */
bool xf_selector_match(const struct xf_selector *sel, const struct xf_flow *flow);

/* Field by field equality (a selector is a policy's identity). */
bool xf_selector_equal(const struct xf_selector *a, const struct xf_selector *b);

/* Write @addr as text into @buf of at least XF_ADDR_STRLEN bytes; returns @buf. */
const char *xf_addr_format(const union xf_addr *addr, uint16_t family, char *buf);

/* Read an IPv4 or IPv6 address: its family, or -EINVAL. */
int xf_addr_parse(const char *text, union xf_addr *out);

#ifdef __cplusplus
}
#endif

#endif
