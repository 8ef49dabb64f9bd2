#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "spd_model.h"

struct model model;
enum world world;

uint32_t below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

/* --- the kernel's rules --- */

static bool coarse(const union xf_addr *addr, uint16_t family, uint8_t prefix)
{
	return xf_addr_is_any(addr, family) || prefix < (family == XF_AF_INET ? 16 : 48);
}

static int bin_of(int dir, int type, uint16_t family, uint32_t if_id)
{
	return ((dir * 2 + type) * 2 + (family == XF_AF_INET6)) * MODEL_IF_IDS + (int)if_id;
}

static int exact_chain(int dir)
{
	return bin_of(dir, 0, XF_AF_INET, 0) * CHAIN_KINDS + EXACT;
}

static int chain_of(const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;
	uint8_t bits = sel->family == XF_AF_INET ? 32 : 128;
	bool s = coarse(&sel->saddr, sel->family, sel->prefixlen_s);
	bool d = coarse(&sel->daddr, sel->family, sel->prefixlen_d);
	int bin = bin_of(cfg->dir, cfg->type, sel->family, cfg->if_id);

	if (sel->prefixlen_d >= bits && sel->prefixlen_s >= bits)
		return exact_chain(cfg->dir);
	return bin * CHAIN_KINDS + (s && d ? ANY : d ? SADDR : s ? DADDR : BOTH);
}

bool model_same(const struct xf_policy_config *a, const struct xf_policy_config *b)
{
	return a->type == b->type && a->if_id == b->if_id && a->dir == b->dir &&
	       a->mark.v == b->mark.v && a->mark.m == b->mark.m &&
	       memcmp(&a->sel, &b->sel, sizeof(a->sel)) == 0;
}

/* xfrm_policy_insert_list(): *old is the one to be replaced. */
static int insert_list(struct entry **chain, struct entry *new, bool excl, struct entry **old)
{
	struct entry **newpos = chain;

	*old = NULL;
	for (struct entry **p = chain; *p; p = &(*p)->chain_next) {
		struct entry *pol = *p;

		if (model_same(&pol->cfg, &new->cfg)) {
			if (excl)
				return -EEXIST;
			*old = pol;
			if (new->cfg.priority > pol->cfg.priority)
				continue;
		} else if (new->cfg.priority >= pol->cfg.priority) {
			newpos = &pol->chain_next;
			continue;
		}
		if (*old)
			break;
	}
	new->chain_next = *newpos;
	*newpos = new;
	return 0;
}

static uint32_t gen_index(int dir, uint32_t index)
{
	for (;;) {
		uint32_t idx = index;
		bool found = false;

		if (!index) {
			idx = model.generator | (uint32_t)dir;
			model.generator += 8;
		}
		index = 0;
		if (idx == 0)
			idx = 8;
		for (struct entry *e = model.all; e; e = e->all_next)
			found = found || e->cfg.index == idx;
		if (!found)
			return idx;
	}
}

static void model_unlink(struct entry *entry)
{
	struct entry **p = &model.chains[entry->chain];

	while (*p != entry)
		p = &(*p)->chain_next;
	*p = entry->chain_next;
	for (p = &model.all; *p != entry; p = &(*p)->all_next)
		;
	*p = entry->all_next;
	model.count[entry->cfg.dir]--;
	model.total--;
}

int model_insert(const struct xf_policy_config *cfg, bool excl)
{
	struct entry *new = calloc(1, sizeof(*new));
	struct entry *old;

	assert_non_null(new);
	new->cfg = *cfg;
	new->chain = chain_of(cfg);
	if (insert_list(&model.chains[new->chain], new, excl, &old) < 0) {
		free(new);
		return -EEXIST;
	}
	new->pos = model.all ? model.all->pos + 1 : 0;
	new->cfg.index = 0;
	new->all_next = model.all;
	model.all = new;
	model.count[cfg->dir]++;
	model.total++;
	if (old)
		model_unlink(old);
	new->cfg.index = old ? old->cfg.index : gen_index(cfg->dir, cfg->index);
	free(old);
	return 0;
}

void model_delete(struct entry *entry)
{
	model_unlink(entry);
	free(entry);
}

void model_clear(void)
{
	while (model.all)
		model_delete(model.all);
	memset(&model, 0, sizeof(model));
}

static bool policy_match(const struct entry *e, const struct xf_flow *flow, int dir, int type)
{
	return e->cfg.dir == dir && e->cfg.type == type && e->cfg.sel.family == flow->family &&
	       e->cfg.if_id == flow->if_id && (flow->mark & e->cfg.mark.m) == e->cfg.mark.v &&
	       xf_selector_match(&e->cfg.sel, flow);
}

static bool is_before(const struct entry *a, const struct entry *b)
{
	return a->cfg.priority < b->cfg.priority ||
	       (a->cfg.priority == b->cfg.priority && a->pos < b->pos);
}

static struct entry *lookup_type(const struct xf_flow *flow, int dir, int type)
{
	int bin = bin_of(dir, type, flow->family, flow->if_id) * CHAIN_KINDS;
	struct entry *prefer = NULL;

	for (int kind = EXACT; kind < CHAIN_KINDS; kind++) {
		struct entry *e = model.chains[kind == EXACT ? exact_chain(dir) : bin + kind];

		while (e && !policy_match(e, flow, dir, type))
			e = e->chain_next;
		if (e && (!prefer || is_before(e, prefer)))
			prefer = e;
	}
	return prefer;
}

struct entry *model_lookup(const struct xf_flow *flow, int dir)
{
	struct entry *e = lookup_type(flow, dir, XF_POLICY_SUB);

	return e ? e : lookup_type(flow, dir, XF_POLICY_MAIN);
}

bool model_wants_whole(const struct xf_flow *flow, int dir)
{
	for (struct entry *e = model.all; e; e = e->all_next) {
		struct entry copy;

		if (!e->cfg.sel.sport_mask && !e->cfg.sel.dport_mask &&
		    !(e->cfg.ntmpl && e->cfg.tmpl[0].mode == XF_MODE_TRANSPORT))
			continue;
		copy = *e;
		copy.cfg.sel.sport_mask = 0;
		copy.cfg.sel.dport_mask = 0;
		if (policy_match(&copy, flow, dir, XF_POLICY_MAIN) ||
		    policy_match(&copy, flow, dir, XF_POLICY_SUB))
			return true;
	}
	return false;
}

/* --- random input, from a small world so that much of it meets --- */

static void random_addr(union xf_addr *addr, uint16_t family)
{
	static const char *const v4[] = { "10.1.1.1", "10.1.1.2", "0.0.0.0",  "0.0.1.0",
					  "10.0.0.0", "10.1.0.0", "10.1.1.0", "10.2.0.1" };
	static const char *const v6[] = {
		"fd00:1:2:3::1", "fd00:1:2:3::2", "::",		  "::1",
		"fd00::",	 "fd00:1::",	  "fd00:1:2:3::", "fd01::1"
	};
	static const uint32_t first[WORLDS] = { 0, 0, 2, 0, 0, 0 };
	static const uint32_t count[WORLDS] = { 8, 2, 2, 2, 8, 8 };
	uint32_t i = first[world] + below(count[world]);

	xf_addr_parse(family == XF_AF_INET ? v4[i] : v6[i], addr);
	if (world == SPREAD)
		addr->bytes[family == XF_AF_INET ? 1 : 5] ^= (uint8_t)below(32);
	if (world == EVERY && below(2))
		addr->bytes[below(xf_addr_bits(family) / 8)] ^= (uint8_t)(1 << below(8));
}

static uint8_t random_prefix(uint16_t family)
{
	static const uint8_t v4[] = { 16, 15, 32, 24, 0, 8, 31, 32 };
	static const uint8_t v6[] = { 48, 47, 128, 64, 0, 16, 127, 128 };
	uint32_t i = below(world == WIDE || world == SPREAD || world == EVERY ? 8 : 4);

	if (world == EVERY && below(2))
		return (uint8_t)below(xf_addr_bits(family) + 1u);
	if (world == CROWD && below(4))
		return (uint8_t)((family == XF_AF_INET ? 24 : 64) + below(8));
	return family == XF_AF_INET ? v4[i] : v6[i];
}

static const uint32_t mark_masks[] = { 1, 3, 0xff, 0xff00, UINT32_MAX };

static const uint8_t protos[] = { 0, XF_IPPROTO_UDP, XF_IPPROTO_TCP, XF_IPPROTO_ICMP };
static const uint8_t more_protos[] = { 0, XF_IPPROTO_ICMP, XF_IPPROTO_ICMPV6, XF_IPPROTO_GRE };

static uint8_t random_proto(void)
{
	return world == EVERY && below(2) ? more_protos[below(4)] : protos[below(4)];
}

/*
 * Ports (types and codes, halves of keys), marks, interfaces and users that mostly differ in few
 * ways; some marks match nothing.
 */
static void random_rest(struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;

	sel->proto = random_proto();
	if (below(2)) {
		sel->dport = (uint16_t)below(64);
		sel->dport_mask = (uint16_t[]){ 0, UINT16_MAX, UINT16_MAX, 0x3c }[below(4)];
	}
	if (below(4) == 0) {
		sel->sport = (uint16_t)below(64);
		sel->sport_mask = (uint16_t[]){ 0, UINT16_MAX, UINT16_MAX, 0xfff0 }[below(4)];
	}
	if (below(3) == 0) {
		cfg->mark.m = mark_masks[below(5)];
		cfg->mark.v = below(64) & (below(16) ? cfg->mark.m : UINT32_MAX);
	}
	sel->ifindex = below(4) ? 0 : 1 + below(4);
	sel->user = below(4) ? 0 : below(3);
}

/* Which part of the SPD, and which index. */
static void random_place(struct xf_policy_config *cfg)
{
	cfg->type = below(4) == 0;
	cfg->if_id = below(3) ? 0 : below(MODEL_IF_IDS);
	if (below(4) == 0)
		cfg->index = below(40) * 8 + cfg->dir;
}

int random_dir(void)
{
	return world == WIDE || world == EVERY ? (int)below(XF_DIR_MAX) : XF_DIR_OUT;
}

void random_config(struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;

	memset(cfg, 0, sizeof(*cfg));
	sel->family = below(3) ? XF_AF_INET : XF_AF_INET6;
	random_addr(&sel->saddr, sel->family);
	random_addr(&sel->daddr, sel->family);
	sel->prefixlen_s = random_prefix(sel->family);
	sel->prefixlen_d = random_prefix(sel->family);
	cfg->dir = (uint8_t)random_dir();
	cfg->priority = below(3);
	cfg->ntmpl = (uint8_t)below(2);
	cfg->tmpl[0].mode = below(8) ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
	if (world == WIDE || world == EVERY)
		random_place(cfg);
	if (world == CROWD || world == EVERY || (world == SPREAD && below(4) == 0)) {
		random_rest(cfg);
		return;
	}
	sel->proto = below(3) ? 0 : XF_IPPROTO_UDP;
	if (below(2) == 0) {
		sel->dport = (uint16_t)below(16);
		sel->dport_mask = (uint16_t)below(16);
		sel->sport_mask = (uint16_t)(below(2) << 8);
	}
	if (world != WIDE)
		return;
	sel->ifindex = below(8) ? 0 : 3;
	if (below(4) == 0)
		cfg->mark = (struct xf_mark){ .v = below(2), .m = below(2) };
}

void random_config_again(struct xf_policy_config *cfg)
{
	uint32_t priority = below(3);

	random_config(cfg);
	if (below(2) == 0 || !model.all)
		return;
	*cfg = random_entry()->cfg;
	cfg->priority = below(2) ? cfg->priority : priority;
	cfg->ntmpl = (uint8_t)below(2);
	cfg->index = 0;
}

void random_flow(struct xf_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	flow->family = below(3) ? XF_AF_INET : XF_AF_INET6;
	random_addr(&flow->saddr, flow->family);
	random_addr(&flow->daddr, flow->family);
	flow->proto = world == EVERY ? random_proto()
				     : (uint8_t)(below(2) ? XF_IPPROTO_UDP : XF_IPPROTO_TCP);
	flow->dport = (uint16_t)below(16);
	flow->oif = below(2) ? 3 : 0;
	flow->mark = below(2);
	flow->tos = (uint8_t)below(2);
	flow->uid = below(2);
	flow->if_id = below(3) || (world != WIDE && world != EVERY) ? 0 : below(MODEL_IF_IDS);
}

struct entry *random_entry(void)
{
	struct entry *e = model.all;

	for (uint32_t i = model.total ? below(model.total) : 0; i > 0; i--)
		e = e->all_next;
	return e;
}

static uint32_t flip(uint32_t value, uint32_t mask)
{
	return value ^ ((uint32_t)rand() & ~mask);
}

static void spread(union xf_addr *addr, uint16_t family, uint8_t prefix)
{
	for (int i = 0; i < xf_addr_bits(family); i++)
		if (i >= prefix && below(2))
			addr->bytes[i / 8] ^= (uint8_t)(128 >> i % 8);
}

/* One that @e matches, or nearly. */
static void aimed_flow(struct xf_flow *flow, const struct entry *e)
{
	const struct xf_selector *sel = &e->cfg.sel;

	random_flow(flow);
	flow->family = sel->family;
	flow->saddr = sel->saddr;
	flow->daddr = sel->daddr;
	if (below(2)) {
		spread(&flow->saddr, sel->family, sel->prefixlen_s);
		spread(&flow->daddr, sel->family, sel->prefixlen_d);
	}
	flow->proto = sel->proto ? sel->proto : flow->proto;
	flow->sport = (uint16_t)flip(sel->sport, sel->sport_mask);
	flow->dport = (uint16_t)flip(sel->dport, sel->dport_mask);
	flow->mark = flip(e->cfg.mark.v, e->cfg.mark.m);
	flow->oif = below(2) ? sel->ifindex : below(4);
	flow->if_id = e->cfg.if_id;
	if (below(8) == 0)
		flow->dport++;
	if (below(8) == 0)
		flow->mark ^= 1;
}

void random_aimed_flow(struct xf_flow *flow)
{
	const struct entry *e = below(4) ? random_entry() : NULL;

	if (e)
		aimed_flow(flow, e);
	else
		random_flow(flow);
}

void id_of(const struct xf_policy_config *cfg, struct xf_policy_id *id)
{
	*id = (struct xf_policy_id){ .sel = cfg->sel,
				     .mark = cfg->mark,
				     .if_id = cfg->if_id,
				     .dir = cfg->dir,
				     .type = cfg->type };
}
