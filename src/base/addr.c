#include <arpa/inet.h>
#include <errno.h>

#include <xf/addr.h>

bool xf_addr_is_any(const union xf_addr *addr, uint16_t family)
{
	if (family == XF_AF_INET)
		return addr->v4_be == 0;
	return (addr->quad[0] | addr->quad[1]) == 0;
}

bool xf_addr_is_multicast(const union xf_addr *addr, uint16_t family)
{
	if (family == XF_AF_INET)
		return (addr->bytes[0] & 0xf0) == 0xe0;
	return addr->bytes[0] == 0xff;
}

bool xf_addr_prefix_match(const union xf_addr *a, const union xf_addr *b, uint8_t prefix_bits)
{
	uint8_t whole = prefix_bits / 8;
	uint8_t mask = (uint8_t)(0xff00 >> (prefix_bits % 8));

	if (memcmp(a->bytes, b->bytes, whole) != 0)
		return false;
	return mask == 0 || ((a->bytes[whole] ^ b->bytes[whole]) & mask) == 0;
}

void xf_addr_load(union xf_addr *out, const void *wire, uint16_t family)
{
	if (family != XF_AF_INET) {
		memcpy(out->bytes, wire, 16);
		return;
	}
	memset(out, 0, sizeof(*out));
	memcpy(out->bytes, wire, 4);
}

bool xf_selector_match(const struct xf_selector *sel, const struct xf_flow *flow)
{
	return xf_addr_prefix_match(&flow->daddr, &sel->daddr, sel->prefixlen_d) &&
	       xf_addr_prefix_match(&flow->saddr, &sel->saddr, sel->prefixlen_s) &&
	       !((flow->dport ^ sel->dport) & sel->dport_mask) &&
	       !((flow->sport ^ sel->sport) & sel->sport_mask) &&
	       (sel->proto == 0 || sel->proto == flow->proto) &&
	       (sel->ifindex == 0 || flow->oif == 0 || sel->ifindex == flow->oif);
}

bool xf_selector_equal(const struct xf_selector *a, const struct xf_selector *b)
{
	return xf_addr_equal(&a->daddr, &b->daddr, XF_AF_INET6) &&
	       xf_addr_equal(&a->saddr, &b->saddr, XF_AF_INET6) && a->dport == b->dport &&
	       a->dport_mask == b->dport_mask && a->sport == b->sport &&
	       a->sport_mask == b->sport_mask && a->family == b->family &&
	       a->prefixlen_d == b->prefixlen_d && a->prefixlen_s == b->prefixlen_s &&
	       a->proto == b->proto && a->ifindex == b->ifindex && a->user == b->user;
}

const char *xf_addr_format(const union xf_addr *addr, uint16_t family, char *buf)
{
	if (!inet_ntop(family, addr->bytes, buf, XF_ADDR_STRLEN))
		strcpy(buf, "?");
	return buf;
}

int xf_addr_parse(const char *text, union xf_addr *out)
{
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, out->bytes) == 1)
		return XF_AF_INET;
	if (inet_pton(AF_INET6, text, out->bytes) == 1)
		return XF_AF_INET6;
	return -EINVAL;
}
