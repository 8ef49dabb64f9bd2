#include <stdlib.h>
#include <string.h>

#include "spd_sets.h"

static uint64_t state = 1;

void set_seed(uint64_t seed)
{
	state = seed * 0x9e3779b97f4a7c15ull | 1;
}

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 2685821657736338717ull;
}

uint32_t set_random(uint32_t below)
{
	return (uint32_t)((random64() >> 32) * below >> 32);
}

/* Sets are made as IPv4 and widened; what a longer address has more is drawn then. */
static void set_prefix(union xf_addr *addr, uint8_t *prefix, uint32_t v4, uint8_t bits)
{
	memset(addr, 0, sizeof(*addr));
	addr->v4_be = __builtin_bswap32(bits ? v4 & (UINT32_MAX << (32 - bits)) : 0);
	*prefix = bits;
}

static void set_prefixes(struct xf_policy_config *cfg, uint8_t dst_bits, uint8_t src_bits)
{
	struct xf_selector *sel = &cfg->sel;

	set_prefix(&sel->daddr, &sel->prefixlen_d, (uint32_t)random64(), dst_bits);
	set_prefix(&sel->saddr, &sel->prefixlen_s, (uint32_t)random64(), src_bits);
}

static void draw_host_pair(struct xf_policy_config *cfg, uint32_t index)
{
	(void)index;
	set_prefixes(cfg, 32, 32);
}

static void draw_subnets(struct xf_policy_config *cfg, uint32_t index)
{
	(void)index;
	set_prefixes(cfg, (uint8_t)(8 + set_random(25)), (uint8_t)(8 + set_random(25)));
	cfg->priority = set_random(1000);
}

static void draw_coarse(struct xf_policy_config *cfg, uint32_t index)
{
	(void)index;
	set_prefixes(cfg, (uint8_t)(8 + set_random(5)), (uint8_t)(8 + set_random(5)));
	cfg->priority = set_random(1000);
}

static void draw_dport(struct xf_policy_config *cfg, uint32_t index)
{
	set_prefix(&cfg->sel.daddr, &cfg->sel.prefixlen_d, 0x0afa0000, 16);
	cfg->sel.proto = XF_IPPROTO_UDP;
	cfg->sel.dport = (uint16_t)(10000 + index);
	cfg->sel.dport_mask = UINT16_MAX;
}

static void draw_sport(struct xf_policy_config *cfg, uint32_t index)
{
	set_prefix(&cfg->sel.daddr, &cfg->sel.prefixlen_d, 0x0afa0000, 16);
	cfg->sel.proto = index >> 16 ? XF_IPPROTO_UDP : XF_IPPROTO_TCP;
	cfg->sel.sport = (uint16_t)index;
	cfg->sel.sport_mask = UINT16_MAX;
}

static void draw_mark(struct xf_policy_config *cfg, uint32_t index)
{
	set_prefix(&cfg->sel.daddr, &cfg->sel.prefixlen_d, 0x0afa0000, 16);
	cfg->mark = (struct xf_mark){ .v = index, .m = UINT32_MAX };
}

/* Two thousand networks of 16 bits, always the same ones. */
static uint32_t some_net(void)
{
	return (set_random(2000) * 0x9e3779b1u & 0xffff0000) | set_random(65536);
}

static void draw_nets(struct xf_policy_config *cfg, uint8_t dst_bits, uint8_t src_bits)
{
	set_prefix(&cfg->sel.daddr, &cfg->sel.prefixlen_d, some_net(), dst_bits);
	set_prefix(&cfg->sel.saddr, &cfg->sel.prefixlen_s, some_net(), src_bits);
}

static void exact(uint16_t *port, uint16_t *mask, uint16_t value)
{
	*port = value;
	*mask = UINT16_MAX;
}

/*
 * A mix that is meant to be hard: many prefix lengths, nested prefixes in few networks, and ports
 * on more than half of the policies, each side.
 */
static void draw_mixed(struct xf_policy_config *cfg, uint32_t index)
{
	static const uint8_t lens[] = { 0,  8,	16, 16, 20, 22, 23, 24, 24, 24, 24, 25, 26,
					27, 28, 28, 29, 30, 31, 32, 32, 32, 32, 32, 32, 32 };
	static const uint16_t ports[] = { 80,  443,  22,   53,	 25,   8080, 123,  161,
					  500, 4500, 3306, 5432, 1521, 3389, 5060, 179 };
	uint8_t dst = lens[set_random(sizeof(lens))];
	uint8_t src = lens[set_random(sizeof(lens))];
	uint32_t dice = set_random(100);
	struct xf_selector *sel = &cfg->sel;

	(void)index;
	if (dst < 16 && src < 16 && set_random(50))
		dst = src = 24;
	draw_nets(cfg, dst, src);
	cfg->priority = set_random(1000);
	if (dice < 80)
		sel->proto = set_random(2) ? XF_IPPROTO_TCP : XF_IPPROTO_UDP;
	if (dice < 55) {
		uint16_t any = (uint16_t)set_random(65536);

		exact(&sel->dport, &sel->dport_mask, set_random(4) ? ports[set_random(16)] : any);
	} else if (dice < 62) {
		exact(&sel->sport, &sel->sport_mask, ports[set_random(16)]);
	} else if (dice < 70) {
		sel->dport = (uint16_t)(set_random(64) << 10);
		sel->dport_mask = 0xfc00;
	} else if (dice < 74) {
		sel->proto = XF_IPPROTO_ICMP;
	}
}

/* A share of a table: weights are per mille. */
struct share {
	uint16_t weight;
	uint16_t a;
	uint16_t b;
};

static const struct share *pick(const struct share *shares)
{
	uint32_t dice = set_random(1000);

	while (dice >= shares->weight) {
		dice -= shares->weight;
		shares++;
	}
	return shares;
}

/*
 * The seed acl1 of ClassBench (Taylor, Turner: ClassBench, a packet classification benchmark,
 * 2007): its shares of protocols, port classes, lengths of both prefixes for each port class, and
 * destination ports. A range is the port mask that covers it best; addresses are from our
 * networks, not by its skew.
 */
static void draw_acl1(struct xf_policy_config *cfg, uint32_t index)
{
	static const struct share protos[] = { { 873, XF_IPPROTO_TCP, 0 },
					       { 85, 0, 0 },
					       { 31, XF_IPPROTO_ICMP, 0 },
					       { 11, XF_IPPROTO_UDP, 0 } };
	static const struct share classes[] = { { 216, 0, 0 }, { 653, 1, 0 }, { 131, 2, 0 } };
	/* Destination and source bits. */
	static const struct share any_lens[] = { { 489, 32, 32 }, { 112, 24, 32 }, { 99, 32, 23 },
						 { 81, 22, 32 },  { 9, 31, 23 },   { 54, 16, 23 },
						 { 31, 32, 31 },  { 18, 32, 30 },  { 18, 22, 30 },
						 { 9, 22, 31 },	  { 9, 0, 0 },	   { 9, 0, 8 },
						 { 62, 8, 23 } };
	static const struct share port_lens[] = { { 847, 32, 32 }, { 42, 22, 32 }, { 28, 32, 23 },
						  { 26, 32, 31 },  { 16, 31, 32 }, { 14, 22, 30 },
						  { 12, 30, 32 },  { 7, 22, 31 },  { 8, 28, 23 } };
	static const struct share exact_ports[] = { { 188, 1521, 0 },  { 54, 1526, 0 },
						    { 42, 1221, 0 },   { 35, 1433, 0 },
						    { 28, 1525, 0 },   { 28, 135, 0 },
						    { 28, 14753, 0 },  { 200, 1700, 10 },
						    { 200, 5000, 50 }, { 197, 20000, 4000 } };
	static const struct share ranges[] = { { 153, 1600, 0xffc0 },
					       { 165, 1300, 0xffc0 },
					       { 94, 7488, 0xff80 },
					       { 94, 2192, 0xffe0 },
					       { 494, 61440, 0xffe0 } };
	uint16_t class = pick(classes)->a;
	const struct share *lens = pick(class ? port_lens : any_lens);
	const struct share *port = pick(class == 2 ? ranges : exact_ports);
	struct xf_selector *sel = &cfg->sel;

	(void)index;
	draw_nets(cfg, (uint8_t)lens->a, (uint8_t)lens->b);
	sel->proto = (uint8_t)pick(protos)->a;
	cfg->priority = set_random(1000);
	if (class == 0 || (sel->proto != XF_IPPROTO_TCP && sel->proto != XF_IPPROTO_UDP))
		return;
	exact(&sel->dport, &sel->dport_mask, port->a);
	if (class == 2)
		sel->dport_mask = port->b;
	else if (port->b)
		sel->dport = (uint16_t)(sel->dport + set_random(port->b));
	sel->dport &= sel->dport_mask;
}

const struct set_kind set_kinds[] = {
	{ "host-pairs", draw_host_pair, false },
	{ "subnets", draw_subnets, false },
	{ "mixed", draw_mixed, false },
	{ "acl1", draw_acl1, false },
	{ "coarse", draw_coarse, false },
	{ "one-prefix-ports", draw_dport, true },
	{ "one-prefix-source-ports", draw_sport, true },
	{ "one-prefix-marks", draw_mark, false },
	{ 0 },
};

const struct set_kind *set_find(const char *name)
{
	for (const struct set_kind *kind = set_kinds; kind->name; kind++)
		if (strcmp(kind->name, name) == 0)
			return kind;
	return NULL;
}

/* 8 to 32 bits become 32 to 128, in steps of four. */
static void widen(union xf_addr *addr, uint8_t *prefix)
{
	uint32_t v4 = addr->v4_be;
	uint64_t more = random64();
	uint8_t bits = (uint8_t)(*prefix < 8 ? 0 : *prefix * 4);

	memset(addr, 0, sizeof(*addr));
	addr->bytes[0] = 0x20;
	addr->bytes[1] = 0x01;
	memcpy(&addr->bytes[2], &v4, sizeof(v4));
	memcpy(&addr->bytes[6], &more, sizeof(more));
	for (unsigned i = bits; i < 128; i++)
		addr->bytes[i / 8] &= (uint8_t) ~(128 >> i % 8);
	*prefix = bits;
}

void set_init(struct policy_set *set, const struct set_kind *kind, uint16_t family, uint32_t count)
{
	set->kind = kind;
	set->family = family;
	set->count = count;
	set->cfgs = calloc(count, sizeof(set->cfgs[0]));
	for (uint32_t i = 0; set->cfgs && i < count; i++) {
		struct xf_policy_config *cfg = &set->cfgs[i];

		cfg->dir = XF_DIR_OUT;
		cfg->sel.family = family;
		cfg->ntmpl = 1;
		cfg->tmpl[0].mode = XF_MODE_TUNNEL;
		kind->draw(cfg, i);
		/* Different users make different policies of equal ones, as in the kernel. */
		cfg->sel.user = i;
		if (family == XF_AF_INET)
			continue;
		widen(&cfg->sel.saddr, &cfg->sel.prefixlen_s);
		widen(&cfg->sel.daddr, &cfg->sel.prefixlen_d);
	}
}

static void fill(union xf_addr *addr, uint16_t family, uint8_t prefix)
{
	uint64_t more[2] = { random64(), random64() };
	union xf_addr noise;

	memcpy(noise.bytes, more, sizeof(noise));
	for (unsigned i = 0; i < xf_addr_bits(family) / 8u; i++) {
		unsigned fixed = prefix > 8 * i ? prefix - 8 * i : 0;
		unsigned mask = fixed >= 8 ? 0 : 0xffu >> fixed;

		addr->bytes[i] = (uint8_t)(addr->bytes[i] | (noise.bytes[i] & mask));
	}
}

void set_flow(const struct xf_policy_config *cfg, struct xf_flow *flow)
{
	const struct xf_selector *sel = &cfg->sel;

	set_stray(sel->family, flow);
	flow->saddr = sel->saddr;
	flow->daddr = sel->daddr;
	fill(&flow->saddr, sel->family, sel->prefixlen_s);
	fill(&flow->daddr, sel->family, sel->prefixlen_d);
	flow->sport = (uint16_t)(sel->sport | (flow->sport & ~sel->sport_mask));
	flow->dport = (uint16_t)(sel->dport | (flow->dport & ~sel->dport_mask));
	flow->mark = cfg->mark.v | (flow->mark & ~cfg->mark.m);
	if (sel->proto)
		flow->proto = sel->proto;
}

void set_stray(uint16_t family, struct xf_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	flow->family = family;
	if (family == XF_AF_INET6) {
		flow->saddr.bytes[0] = flow->daddr.bytes[0] = 0x20;
		flow->saddr.bytes[1] = flow->daddr.bytes[1] = 0x01;
	}
	fill(&flow->saddr, family, family == XF_AF_INET6 ? 16 : 0);
	fill(&flow->daddr, family, family == XF_AF_INET6 ? 16 : 0);
	flow->sport = (uint16_t)set_random(65536);
	flow->dport = (uint16_t)set_random(65536);
	flow->proto = set_random(2) ? XF_IPPROTO_TCP : XF_IPPROTO_UDP;
}
