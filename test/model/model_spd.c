/*
 * The SPD against lists that are kept as the kernel's xfrm_policy.c keeps them: the same random
 * inserts, updates, deletes, flushes, lookups and dumps, and the same answers from both.
 *
 * The model has the kernel's chains: one for host-to-host selectors of each direction, and for
 * the others those of the inexact bin of (direction, type, family, if_id). The bin's trees only
 * keep apart what cannot match the same packet; the model has one chain for all of a tree.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>
#include <xf/spd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 10
#else
#define SLOWER 1
#endif

/* The environment variable XF_MODEL_STEPS says how many steps in all; else: */
#define STEPS (400000 / SLOWER)

/* So many steps long, the SPD grows or shrinks towards one size. */
#define PHASE 1500

struct entry {
	struct xf_policy_config cfg;
	uint32_t pos;
	int chain;
	struct entry *chain_next;
	struct entry *all_next;
};

/* 5 chains a bin; the first, of exact selectors, only exists once a direction. */
enum { EXACT, BOTH, SADDR, DADDR, ANY, KINDS };
#define MODEL_IF_IDS 3
#define BINS (XF_DIR_MAX * 2 * 2 * MODEL_IF_IDS)

struct model {
	struct entry *chains[BINS * KINDS];
	struct entry *all; /* policy_all: youngest first */
	uint32_t generator;
	unsigned count[XF_DIR_MAX];
	unsigned total;
	unsigned target;
};

static struct model model;
static struct xf_spd *spd;
static uint64_t now_ns;

static uint32_t below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

/* --- the kernel's rules --- */

static bool coarse(const union xf_addr *addr, uint16_t family, uint8_t prefix)
{
	return xf_addr_is_any(addr, family) || prefix < (family == XF_AF_INET ? 16 : 48);
}

static int chain_of(const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;
	uint8_t bits = sel->family == XF_AF_INET ? 32 : 128;
	bool s = coarse(&sel->saddr, sel->family, sel->prefixlen_s);
	bool d = coarse(&sel->daddr, sel->family, sel->prefixlen_d);
	int bin = ((cfg->dir * 2 + cfg->type) * 2 + (sel->family == XF_AF_INET6)) * MODEL_IF_IDS +
		  (int)cfg->if_id;

	if (sel->prefixlen_d >= bits && sel->prefixlen_s >= bits)
		return cfg->dir * 2 * 2 * MODEL_IF_IDS * KINDS + EXACT;
	return bin * KINDS + (s && d ? ANY : d ? SADDR : s ? DADDR : BOTH);
}

static bool same(const struct xf_policy_config *a, const struct xf_policy_config *b)
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

		if (same(&pol->cfg, &new->cfg)) {
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

static int model_insert(const struct xf_policy_config *cfg, bool excl)
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

static bool policy_match(const struct entry *e, const struct xf_flow *flow, int dir, int type)
{
	return e->cfg.dir == dir && e->cfg.type == type && e->cfg.sel.family == flow->family &&
	       e->cfg.if_id == flow->if_id && (flow->mark & e->cfg.mark.m) == e->cfg.mark.v &&
	       xf_selector_match(&e->cfg.sel, flow);
}

static struct entry *lookup_type(const struct xf_flow *flow, int dir, int type)
{
	struct entry *prefer = NULL;

	for (int c = 0; c < BINS * KINDS; c++) {
		struct entry *e = model.chains[c];

		while (e && !policy_match(e, flow, dir, type))
			e = e->chain_next;
		if (e && (!prefer || e->cfg.priority < prefer->cfg.priority ||
			  (e->cfg.priority == prefer->cfg.priority && e->pos < prefer->pos)))
			prefer = e;
	}
	return prefer;
}

static struct entry *model_lookup(const struct xf_flow *flow, int dir)
{
	struct entry *e = lookup_type(flow, dir, XF_POLICY_SUB);

	return e ? e : lookup_type(flow, dir, XF_POLICY_MAIN);
}

static bool model_wants_whole(const struct xf_flow *flow, int dir)
{
	for (struct entry *e = model.all; e; e = e->all_next) {
		struct entry copy = *e;
		bool wants = e->cfg.sel.sport_mask || e->cfg.sel.dport_mask ||
			     (e->cfg.ntmpl && e->cfg.tmpl[0].mode == XF_MODE_TRANSPORT);

		copy.cfg.sel.sport_mask = 0;
		copy.cfg.sel.dport_mask = 0;
		if (wants && (policy_match(&copy, flow, dir, XF_POLICY_MAIN) ||
			      policy_match(&copy, flow, dir, XF_POLICY_SUB)))
			return true;
	}
	return false;
}

/* --- random input, from a small world so that much of it meets --- */

/*
 * Few dimensions, long lists, many ties; the second time about addresses that begin with zeros.
 * In a crowd, many selectors share what a table would be keyed by and differ in the rest.
 */
static enum { WIDE, NARROW, NARROW_ZERO, CROWD, SPREAD, WORLDS } world;

static void random_addr(union xf_addr *addr, uint16_t family)
{
	static const char *const v4[] = { "10.1.1.1", "10.1.1.2", "0.0.0.0",  "0.0.1.0",
					  "10.0.0.0", "10.1.0.0", "10.1.1.0", "10.2.0.1" };
	static const char *const v6[] = {
		"fd00:1:2:3::1", "fd00:1:2:3::2", "::",		  "::1",
		"fd00::",	 "fd00:1::",	  "fd00:1:2:3::", "fd01::1"
	};
	static const uint32_t first[] = { 0, 0, 2, 0, 0 };
	static const uint32_t count[] = { 8, 2, 2, 2, 8 };
	uint32_t i = first[world] + below(count[world]);

	xf_addr_parse(family == XF_AF_INET ? v4[i] : v6[i], addr);
	if (world == SPREAD)
		addr->bytes[family == XF_AF_INET ? 1 : 5] ^= (uint8_t)below(32);
}

static uint8_t random_prefix(uint16_t family)
{
	static const uint8_t v4[] = { 16, 15, 32, 24, 0, 8, 31, 32 };
	static const uint8_t v6[] = { 48, 47, 128, 64, 0, 16, 127, 128 };
	uint32_t i = below(world == WIDE || world == SPREAD ? 8 : 4);

	if (world == CROWD && below(4))
		return (uint8_t)((family == XF_AF_INET ? 24 : 64) + below(8));
	return family == XF_AF_INET ? v4[i] : v6[i];
}

static const uint32_t mark_masks[] = { 1, 3, 0xff, 0xff00, UINT32_MAX };

/* Ports, marks, interfaces and users that mostly differ in few ways; some marks match nothing. */
static void random_rest(struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;

	sel->proto = (uint8_t[]){ 0, XF_IPPROTO_UDP, XF_IPPROTO_TCP, XF_IPPROTO_ICMP }[below(4)];
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

static void random_config(struct xf_policy_config *cfg)
{
	struct xf_selector *sel = &cfg->sel;

	memset(cfg, 0, sizeof(*cfg));
	sel->family = below(3) ? XF_AF_INET : XF_AF_INET6;
	random_addr(&sel->saddr, sel->family);
	random_addr(&sel->daddr, sel->family);
	sel->prefixlen_s = random_prefix(sel->family);
	sel->prefixlen_d = random_prefix(sel->family);
	cfg->dir = world == WIDE ? (uint8_t)below(XF_DIR_MAX) : XF_DIR_OUT;
	cfg->priority = below(3);
	cfg->ntmpl = (uint8_t)below(2);
	cfg->tmpl[0].mode = below(8) ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT;
	if (world == CROWD || (world == SPREAD && below(4) == 0)) {
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
	cfg->type = below(4) == 0;
	cfg->if_id = below(3) ? 0 : below(MODEL_IF_IDS);
	if (below(4) == 0)
		cfg->mark = (struct xf_mark){ .v = below(2), .m = below(2) };
	if (below(4) == 0)
		cfg->index = below(40) * 8 + cfg->dir;
}

static void random_flow(struct xf_flow *flow)
{
	memset(flow, 0, sizeof(*flow));
	flow->family = below(3) ? XF_AF_INET : XF_AF_INET6;
	random_addr(&flow->saddr, flow->family);
	random_addr(&flow->daddr, flow->family);
	flow->proto = below(2) ? XF_IPPROTO_UDP : XF_IPPROTO_TCP;
	flow->dport = (uint16_t)below(16);
	flow->oif = below(2) ? 3 : 0;
	flow->mark = below(2);
	flow->if_id = below(3) || world != WIDE ? 0 : below(MODEL_IF_IDS);
}

static struct entry *random_entry(void)
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

/* --- the same to both --- */

static void id_of(const struct xf_policy_config *cfg, struct xf_policy_id *id)
{
	*id = (struct xf_policy_id){ .sel = cfg->sel,
				     .mark = cfg->mark,
				     .if_id = cfg->if_id,
				     .dir = cfg->dir,
				     .type = cfg->type };
}

static void assert_same_policy(const struct xf_policy *policy, const struct entry *e)
{
	if (!e) {
		assert_null(policy);
		return;
	}
	assert_non_null(policy);
	assert_int_equal(xf_policy_cfg(policy)->index, e->cfg.index);
	assert_memory_equal(xf_policy_cfg(policy), &e->cfg, sizeof(e->cfg));
}

static void step_insert(void)
{
	struct xf_policy_config cfg;
	struct xf_policy *out;
	bool excl = below(3) == 0;
	int err;

	random_config(&cfg);
	/* Often one that is there already, changed in what is no identity. */
	if (below(2) && model.all) {
		uint32_t priority = below(3);

		cfg = random_entry()->cfg;
		cfg.priority = below(2) ? cfg.priority : priority;
		cfg.ntmpl = (uint8_t)below(2);
		cfg.index = 0;
	}
	err = xf_spd_insert(spd, &cfg, excl, now_ns, &out);
	assert_int_equal(err, model_insert(&cfg, excl));
	if (!err)
		assert_same_policy(out, model.all);
}

static void step_delete(void)
{
	struct entry *e = random_entry();
	struct xf_policy_id id;
	struct xf_policy *policy;

	if (!e)
		return;
	id_of(&e->cfg, &id);
	if (below(2))
		id.index = e->cfg.index;
	policy = xf_spd_find(spd, &id);
	assert_same_policy(policy, e);
	xf_spd_del(spd, policy);
	assert_null(xf_spd_find(spd, &id));
	model_unlink(e);
	free(e);
}

/* Names that are nearly right find what the model finds: mostly nothing. */
static void step_find(void)
{
	struct entry *e = random_entry();
	struct entry *want = NULL;
	struct xf_policy_id id;

	if (!e)
		return;
	id_of(&e->cfg, &id);
	id.index = below(2) ? e->cfg.index : 0;
	switch (below(5)) {
	case 0:
		id.mark.m ^= 1;
		break;
	case 1:
		id.if_id ^= 1;
		break;
	case 2:
		id.type ^= 1;
		break;
	case 3:
		id.dir = (uint8_t)((id.dir + 1) % XF_DIR_MAX);
		break;
	default:
		id.sel.proto ^= XF_IPPROTO_UDP;
		break;
	}
	for (e = model.all; e && !want; e = e->all_next) {
		struct xf_policy_config cfg = e->cfg;

		cfg.mark = id.mark;
		cfg.if_id = id.if_id;
		cfg.type = id.type;
		cfg.dir = id.dir;
		if (id.index ? e->cfg.index != id.index : memcmp(&cfg.sel, &id.sel, sizeof(id.sel)))
			continue;
		if (same(&cfg, &e->cfg))
			want = e;
	}
	assert_same_policy(xf_spd_find(spd, &id), want);
}

static void step_flush(void)
{
	uint8_t type = (uint8_t)below(XF_POLICY_TYPE_MAX);
	struct entry *next;
	unsigned n = 0;

	for (struct entry *e = model.all; e; e = next) {
		next = e->all_next;
		if (e->cfg.type == type) {
			model_unlink(e);
			free(e);
			n++;
		}
	}
	assert_int_equal(xf_spd_flush(spd, type), n);
}

static void step_lookup(void)
{
	enum xf_policy_dir dir = world == WIDE ? (enum xf_policy_dir)below(XF_DIR_MAX) : XF_DIR_OUT;
	struct xf_flow flows[8];
	struct xf_policy *out[8];

	for (int i = 0; i < 8; i++) {
		const struct entry *e = below(4) ? random_entry() : NULL;

		if (e)
			aimed_flow(&flows[i], e);
		else
			random_flow(&flows[i]);
	}
	xf_spd_lookup_batch(spd, dir, flows, 8, out);
	for (int i = 0; i < 8; i++) {
		assert_same_policy(out[i], model_lookup(&flows[i], (int)dir));
		assert_int_equal(xf_spd_wants_whole(spd, dir, &flows[i]),
				 model_wants_whole(&flows[i], (int)dir));
	}
}

struct dump {
	const struct entry *next;
	unsigned left;
};

static bool visit(void *arg, struct xf_policy *policy)
{
	struct dump *dump = arg;

	assert_same_policy(policy, dump->next);
	dump->next = dump->next->all_next;
	return --dump->left > 0;
}

/* In pieces of random size, as netlink does it. */
static void step_walk(void)
{
	struct dump dump = { .next = model.all };
	struct xf_spd_info info;
	uint64_t cursor = 0;

	do
		dump.left = 1 + below(50);
	while (xf_spd_walk(spd, &cursor, visit, &dump));
	assert_null(dump.next);
	xf_spd_get_info(spd, &info);
	for (int dir = 0; dir < XF_DIR_MAX; dir++)
		assert_int_equal(info.count[dir], model.count[dir]);
}

static void step(unsigned i)
{
	static const unsigned targets[] = { 10, 45, 75, 200, 600 };
	uint32_t dice = below(10000);
	bool grow;

	if (i % PHASE == 0)
		model.target = targets[below(5)];
	grow = model.total < model.target;
	if (dice < 3900 && below(10) < (grow ? 8 : 2))
		step_insert();
	else if (dice < 3900)
		step_delete();
	else if (dice < 4500)
		step_find();
	else if (dice < 9890)
		step_lookup();
	else if (dice < 9990)
		step_walk();
	else if (dice < 9999)
		xf_rcu_drain();
	else
		step_flush();
}

static void run(unsigned steps, unsigned seed)
{
	const struct xf_spd_config cfg = { .seed = { 11, seed } };

	print_message("# world %d, seed %u\n", world, seed);
	srand(seed);
	memset(&model, 0, sizeof(model));
	spd = xf_spd_new(&cfg);
	assert_non_null(spd);
	for (unsigned i = 0; i < steps; i++)
		step(i);
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		xf_spd_flush(spd, type);
	while (model.all) {
		struct entry *e = model.all;

		model_unlink(e);
		free(e);
	}
	step_walk();
	xf_spd_free(spd);
}

static void agrees_with_the_kernels_lists(void **state)
{
	static const unsigned seeds[] = { 1, 20171108, 4711, 99, 5, 6, 7, 8, 9, 10 };
	const char *wanted = getenv("XF_MODEL_STEPS");
	unsigned long steps = wanted ? strtoul(wanted, NULL, 10) : STEPS;

	(void)state;
	for (size_t s = 0; s < XF_ARRAY_SIZE(seeds); s++) {
		world = s % WORLDS;
		run((unsigned)(steps / XF_ARRAY_SIZE(seeds)), seeds[s]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_the_kernels_lists) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
