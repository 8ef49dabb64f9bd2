/*
 * Policies and packets at random, for model_host.c: few addresses and ports, so that they meet.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_host.h"

/* --- policies --- */

static uint8_t draw_len(uint16_t family)
{
	static const uint8_t four[] = { 32, 32, 24, 24, 16, 15, 8, 0 };
	static const uint8_t six[] = { 128, 128, 64, 64, 24, 24, 8, 0 };

	return family == XF_AF_INET ? four[below(8)] : six[below(8)];
}

static uint8_t draw_proto(uint16_t family)
{
	static const uint8_t protos[] = { XF_IPPROTO_UDP, XF_IPPROTO_TCP, XF_IPPROTO_UDP,
					  XF_IPPROTO_TCP, XF_IPPROTO_ICMP };
	uint8_t proto = protos[below(5)];

	return proto == XF_IPPROTO_ICMP && family == XF_AF_INET6 ? XF_IPPROTO_ICMPV6 : proto;
}

bool is_icmp(uint8_t proto)
{
	return proto == XF_IPPROTO_ICMP || proto == XF_IPPROTO_ICMPV6;
}

/* Ports; of ICMP, no error. */
static uint16_t draw_port(uint8_t proto)
{
	static const uint16_t ports[] = { 80, 0x1000, 0x1001 };

	return is_icmp(proto) ? (uint16_t)(128 + below(2)) : ports[below(3)];
}

static void draw_ports(struct xf_selector *sel)
{
	static const uint16_t masks[] = { 0, 0, UINT16_MAX, 0xff00 };
	unsigned n = is_icmp(sel->proto) ? 3 : 4;

	sel->sport_mask = masks[below(n)];
	sel->dport_mask = masks[below(n)];
	sel->sport = draw_port(sel->proto) & sel->sport_mask;
	sel->dport = draw_port(sel->proto) & sel->dport_mask;
}

void draw_wishes(struct xf_policy_config *cfg)
{
	cfg->priority = below(8) ? 1 : below(3);
	cfg->action = below(6) ? XF_POLICY_ALLOW : XF_POLICY_BLOCK;
	cfg->ntmpl = below(3) != 0;
	cfg->tmpl[0].optional = below(8) == 0;
	cfg->flags = below(24) ? 0 : XF_POLICY_ICMP;
}

/* Of many, few are out: those have rules of their own at once. */
static uint8_t draw_dir(const struct world *w)
{
	static const uint8_t dirs[] = { XF_DIR_OUT, XF_DIR_IN, XF_DIR_FWD, XF_DIR_IN, XF_DIR_FWD };

	return dirs[below(w->cfg->max > 60 ? 5 : 3)];
}

void draw_policy(const struct world *w, struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;

	*cfg = (struct xf_policy_config){
		.dir = draw_dir(w),
		.type = below(20) ? XF_POLICY_MAIN : XF_POLICY_SUB,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .family = below(3) ? XF_AF_INET : XF_AF_INET6 },
	};
	fake_draw_addr(&sel->saddr, sel->family, FAKE_ROLES);
	fake_draw_addr(&sel->daddr, sel->family, FAKE_ROLES);
	sel->prefixlen_s = draw_len(sel->family);
	sel->prefixlen_d = draw_len(sel->family);
	if (below(2)) {
		sel->proto = draw_proto(sel->family);
		draw_ports(sel);
	}
	/* Entries of conntrack do not tell marks, so not all are right after a change of such. */
	if (!w->cfg->nat && below(12) == 0)
		cfg->mark = (struct xf_mark){ .v = below(4), .m = 3 };
	draw_wishes(cfg);
}

/* --- packets --- */

static void put_transport(struct fake_packet *p)
{
	if (is_icmp(p->proto)) {
		p->l4[0] = (uint8_t)draw_port(p->proto);
		p->l4[1] = (uint8_t)draw_port(p->proto);
		return;
	}
	xf_put_be16(p->l4, draw_port(p->proto));
	xf_put_be16(p->l4 + 2, draw_port(p->proto));
}

static void draw_quoted(struct fake_journey *j)
{
	struct xf_flow *quoted = &j->quoted;

	j->quotes = true;
	j->p.l4[0] = j->p.family == XF_AF_INET ? 3 : 1;
	*quoted = (struct xf_flow){ .family = j->p.family, .mark = j->p.mark };
	quoted->saddr = j->p.addr[0];
	quoted->daddr = j->p.addr[1];
	if (below(2))
		fake_draw_addr(&quoted->saddr, j->p.family, FAKE_ROLES);
	quoted->proto = XF_IPPROTO_UDP;
	quoted->sport = draw_port(XF_IPPROTO_UDP);
	quoted->dport = draw_port(XF_IPPROTO_UDP);
}

/* Sometimes between addresses that a policy names. */
static void draw_addrs(const struct world *w, struct fake_packet *p)
{
	const struct xf_policy_config *at = below(3) && w->n ? &w->known[below(w->n)] : NULL;

	p->family = below(3) ? XF_AF_INET : XF_AF_INET6;
	p->proto = draw_proto(p->family);
	if (at) {
		p->family = at->sel.family;
		p->addr[0] = at->sel.saddr;
		p->addr[1] = at->sel.daddr;
		p->proto = at->sel.proto ? at->sel.proto : draw_proto(p->family);
		return;
	}
	fake_draw_addr(&p->addr[0], p->family, FAKE_ROLES);
	fake_draw_addr(&p->addr[1], p->family, below(4) ? FAKE_ROLES : FAKE_SELF);
}

/* As it begins: where from follows from its source. */
static void place(struct fake_journey *j)
{
	enum fake_role from = fake_role_of(&j->p.addr[0], j->p.family);

	j->local = from == FAKE_SELF;
	j->iif = j->local ? 0 : from == FAKE_AT_WAN ? 3 : 2;
}

static bool is_to_self(const struct fake_packet *p)
{
	return fake_role_of(&p->addr[1], p->family) == FAKE_SELF;
}

/* A connection has one: NAT decides once for all of its packets. */
static uint32_t draw_mark(const struct fake_packet *p)
{
	return (p->addr[0].bytes[2] + p->addr[1].bytes[3] + p->addr[1].bytes[15] + p->l4[1] +
		p->l4[3]) &
	       3;
}

void draw_journey(const struct world *w, struct fake_journey *j)
{
	static const uint8_t flags[] = { FAKE_SYN, FAKE_ACK, FAKE_ACK, FAKE_ACK | FAKE_FIN };
	struct fake_packet *p = &j->p;

	*j = (struct fake_journey){ .p = { .fragment = below(6) == 0 } };
	do {
		draw_addrs(w, p);
		place(j);
	} while (xf_addr_equal(&p->addr[0], &p->addr[1], p->family) || (j->local && is_to_self(p)));
	p->behind = p->fragment && below(2);
	put_transport(p);
	if (p->proto == XF_IPPROTO_TCP)
		p->tcp_flags = flags[below(4)];
	p->mark = draw_mark(p);
	/* Errors are small: never in pieces. */
	if (is_icmp(p->proto) && !p->fragment && below(2))
		draw_quoted(j);
	if (!j->local && below(12) == 0)
		j->from_tun = true;
}
