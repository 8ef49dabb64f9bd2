/*
 * The kernel's structs have holes and big endian members; ours are whole and in host order, so that
 * two selectors that mean the same are equal field by field. Nothing is checked here.
 */
#include "nl/wire.h"

_Static_assert(sizeof(union xf_addr) == sizeof(xfrm_address_t), "one layout for addresses");

void xf_nl_load_addr(union xf_addr *out, const xfrm_address_t *wire, uint16_t family)
{
	memset(out, 0, sizeof(*out));
	memcpy(out, wire, family == XF_AF_INET ? sizeof(out->v4_be) : sizeof(*out));
}

/* A selector without family (AF_UNSPEC) keeps all 16 bytes of its addresses. */
void xf_nl_load_selector(struct xf_selector *out, const struct xfrm_selector *wire)
{
	memset(out, 0, sizeof(*out));
	xf_nl_load_addr(&out->daddr, &wire->daddr, wire->family);
	xf_nl_load_addr(&out->saddr, &wire->saddr, wire->family);
	out->dport = xf_get_be16(&wire->dport);
	out->dport_mask = xf_get_be16(&wire->dport_mask);
	out->sport = xf_get_be16(&wire->sport);
	out->sport_mask = xf_get_be16(&wire->sport_mask);
	out->family = wire->family;
	out->prefixlen_d = wire->prefixlen_d;
	out->prefixlen_s = wire->prefixlen_s;
	out->proto = wire->proto;
	out->ifindex = (uint32_t)wire->ifindex;
	out->user = wire->user;
}

void xf_nl_store_selector(struct xfrm_selector *out, const struct xf_selector *sel)
{
	memset(out, 0, sizeof(*out));
	memcpy(&out->daddr, &sel->daddr, sizeof(out->daddr));
	memcpy(&out->saddr, &sel->saddr, sizeof(out->saddr));
	xf_put_be16(&out->dport, sel->dport);
	xf_put_be16(&out->dport_mask, sel->dport_mask);
	xf_put_be16(&out->sport, sel->sport);
	xf_put_be16(&out->sport_mask, sel->sport_mask);
	out->family = sel->family;
	out->prefixlen_d = sel->prefixlen_d;
	out->prefixlen_s = sel->prefixlen_s;
	out->proto = sel->proto;
	out->ifindex = (int)sel->ifindex;
	out->user = sel->user;
}

/* XFRM_INF and XF_INF are the same value; 0 seconds mean "no limit" on both sides. */
void xf_nl_load_lifetime(struct xf_lifetime *out, const struct xfrm_lifetime_cfg *wire)
{
	out->soft_bytes = wire->soft_byte_limit;
	out->hard_bytes = wire->hard_byte_limit;
	out->soft_packets = wire->soft_packet_limit;
	out->hard_packets = wire->hard_packet_limit;
	out->soft_add_s = wire->soft_add_expires_seconds;
	out->hard_add_s = wire->hard_add_expires_seconds;
	out->soft_use_s = wire->soft_use_expires_seconds;
	out->hard_use_s = wire->hard_use_expires_seconds;
}

void xf_nl_store_lifetime(struct xfrm_lifetime_cfg *out, const struct xf_lifetime *life)
{
	out->soft_byte_limit = life->soft_bytes;
	out->hard_byte_limit = life->hard_bytes;
	out->soft_packet_limit = life->soft_packets;
	out->hard_packet_limit = life->hard_packets;
	out->soft_add_expires_seconds = life->soft_add_s;
	out->hard_add_expires_seconds = life->hard_add_s;
	out->soft_use_expires_seconds = life->soft_use_s;
	out->hard_use_expires_seconds = life->hard_use_s;
}

void xf_nl_store_lifetime_now(struct xfrm_lifetime_cur *out, const struct xf_lifetime_now *now)
{
	out->bytes = now->bytes;
	out->packets = now->packets;
	out->add_time = now->add_s;
	out->use_time = now->use_s;
}

/* The family is that of the template's own addresses, not of what it protects. */
void xf_nl_load_tmpl(struct xf_tmpl *out, const struct xfrm_user_tmpl *wire)
{
	memset(out, 0, sizeof(*out));
	xf_nl_load_addr(&out->id.daddr, &wire->id.daddr, wire->family);
	xf_nl_load_addr(&out->saddr, &wire->saddr, wire->family);
	out->id.spi = xf_get_be32(&wire->id.spi);
	out->id.family = wire->family;
	out->id.proto = wire->id.proto;
	out->reqid = wire->reqid;
	out->mode = wire->mode;
	out->share = wire->share;
	out->optional = wire->optional != 0;
	out->aalgos = wire->aalgos;
	out->ealgos = wire->ealgos;
	out->calgos = wire->calgos;
}

void xf_nl_store_tmpl(struct xfrm_user_tmpl *out, const struct xf_tmpl *tmpl)
{
	memset(out, 0, sizeof(*out));
	memcpy(&out->id.daddr, &tmpl->id.daddr, sizeof(out->id.daddr));
	memcpy(&out->saddr, &tmpl->saddr, sizeof(out->saddr));
	xf_put_be32(&out->id.spi, tmpl->id.spi);
	out->id.proto = tmpl->id.proto;
	out->family = tmpl->id.family;
	out->reqid = tmpl->reqid;
	out->mode = tmpl->mode;
	out->share = tmpl->share;
	out->optional = tmpl->optional;
	out->aalgos = tmpl->aalgos;
	out->ealgos = tmpl->ealgos;
	out->calgos = tmpl->calgos;
}
