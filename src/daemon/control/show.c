#include <stdio.h>

#include "show.h"

json_t *xf_show_addr(const union xf_addr *addr, uint16_t family)
{
	char buf[XF_ADDR_STRLEN];

	return json_string(xf_addr_format(addr, family, buf));
}

json_t *xf_show_hex(uint32_t value)
{
	return json_sprintf("0x%08x", value);
}

json_t *xf_show_mark(const struct xf_mark *mark)
{
	return json_pack("{s:o, s:o}", "value", xf_show_hex(mark->v), "mask", xf_show_hex(mark->m));
}

const char *xf_show_proto(uint8_t proto, char buf[8])
{
	switch (proto) {
	case XF_IPPROTO_ESP:
		return "esp";
	case XF_IPPROTO_AH:
		return "ah";
	case XF_IPPROTO_COMP:
		return "comp";
	case XF_IPPROTO_ROUTING:
		return "route2";
	case XF_IPPROTO_DSTOPTS:
		return "hao";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

const char *xf_show_mode(uint8_t mode, char buf[8])
{
	static const char *const names[] = {
		[XF_MODE_TRANSPORT] = "transport",
		[XF_MODE_TUNNEL] = "tunnel",
		[XF_MODE_ROUTEOPTIMIZATION] = "ro",
		[XF_MODE_IN_TRIGGER] = "in_trigger",
		[XF_MODE_BEET] = "beet",
	};

	if (mode < XF_ARRAY_SIZE(names))
		return names[mode];
	snprintf(buf, 8, "%u", mode);
	return buf;
}

static json_t *prefix(const union xf_addr *addr, uint16_t family, uint8_t bits)
{
	char buf[XF_ADDR_STRLEN];

	return json_sprintf("%s/%u", xf_addr_format(addr, family, buf), bits);
}

static json_t *port(uint16_t value, uint16_t mask)
{
	return json_pack("{s:i, s:i}", "value", value, "mask", mask);
}

json_t *xf_show_selector(const struct xf_selector *sel)
{
	/* The kernel takes family 0 for "any address of any family". */
	uint16_t family = sel->family ? sel->family : XF_AF_INET6;

	return json_pack("{s:o, s:o, s:i, s:o, s:o, s:I, s:I}", "src",
			 prefix(&sel->saddr, family, sel->prefixlen_s), "dst",
			 prefix(&sel->daddr, family, sel->prefixlen_d), "proto", sel->proto,
			 "sport", port(sel->sport, sel->sport_mask), "dport",
			 port(sel->dport, sel->dport_mask), "ifindex", (json_int_t)sel->ifindex,
			 "user", (json_int_t)sel->user);
}

/* Absent = no limit. */
static void add_limit(json_t *object, const char *name, uint64_t value, uint64_t none)
{
	if (value != none)
		json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *limits(const struct xf_lifetime *life)
{
	json_t *o = json_object();

	add_limit(o, "soft_bytes", life->soft_bytes, XF_INF);
	add_limit(o, "hard_bytes", life->hard_bytes, XF_INF);
	add_limit(o, "soft_packets", life->soft_packets, XF_INF);
	add_limit(o, "hard_packets", life->hard_packets, XF_INF);
	add_limit(o, "soft_add_s", life->soft_add_s, 0);
	add_limit(o, "hard_add_s", life->hard_add_s, 0);
	add_limit(o, "soft_use_s", life->soft_use_s, 0);
	add_limit(o, "hard_use_s", life->hard_use_s, 0);
	return o;
}

json_t *xf_show_lifetime(const struct xf_lifetime *life, const struct xf_lifetime_now *now)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I}", "limits", limits(life), "bytes",
			 (json_int_t)now->bytes, "packets", (json_int_t)now->packets, "added",
			 (json_int_t)now->add_s, "used", (json_int_t)now->use_s);
}

json_t *xf_show_drops(const uint64_t drops[XF_DROP_MAX])
{
	json_t *o = json_object();

	for (int i = XF_PASS + 1; i < XF_DROP_MAX; i++) {
		if (drops[i])
			json_object_set_new(o, xf_drop_name((enum xf_drop)i),
					    json_integer((json_int_t)drops[i]));
	}
	return o;
}
