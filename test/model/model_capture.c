/*
 * What capture.c has put into a kernel, beside the SPD: random policies come, change and go, the
 * kernel fails now and then, and packets are sent through what is there.
 *
 * Out: what the SPD protects or blocks is captured, and while the kernel fails, captured or dropped
 * by the backstop; what it lets pass is not captured, once no rules are due any more. In and fwd:
 * plaintext is refused exactly when the SPD's policy wants protection. What is exempt by device or
 * address is neither captured nor refused. Where more is caught than the SPD says there is one of a
 * few reasons, and each is counted.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "capture/capture.h"
#include "capture/policy_order.h"

#include "fake_kernel.h"

#ifndef MODEL_DIVISOR
#define MODEL_DIVISOR 1u
#endif
#define SEED 20261130u
#define PACKETS 60
#define MANY 700
#define CROWD 1200 /* of which most are out, and that is more than any limit there was */
#define ONCE_LIMIT 512

/* Why a packet may be caught though its policy lets it pass. */
enum excuse { NONE, TIE, INEXACT, FRAGMENT, TOO_MANY, EXCUSES };

/* What is known of the kernel. */
enum state {
	EXACT, /* all that is to be done is */
	COARSE, /* exact rules are due later */
	BROKEN, /* it has failed, so only the backstop is sure to know all policies */
};

struct world {
	struct xf_spd *spd;
	struct xf_capture *capture;
	struct fake_kernel kernel;
	uint64_t now_ns;
	struct xf_policy_config known[CROWD]; /* which are there, or were */
	unsigned n;
	unsigned max; /* policies */
	bool plain; /* no excuses: each has a priority of its own, and rules can have it */
	bool exact; /* says capture of what it captures */
	/* What was seen. */
	unsigned long packets;
	unsigned long caught[XF_DIR_MAX];
	unsigned long too_many[EXCUSES];
	unsigned long failed; /* syncs */
	unsigned long by_backstop;
	unsigned long sets; /* of sieves, after each change */
	unsigned long exempt; /* packets that would have been caught else */
	unsigned long coarse; /* times that more could be caught than is wanted */
	uint32_t out; /* policies */
	uint32_t most_out;
};

/* How a world is, and what is done with it. */
struct form {
	unsigned max; /* policies */
	unsigned rounds;
	unsigned faults; /* the kernel's, one in about so many calls; 0: none */
	unsigned exempt; /* what is, as draw_exempt() has it; 0: nothing */
	bool plain;
	bool owned; /* the table can be changed by nobody else */
};

/* --- policies --- */

static void draw_addr(union xf_addr *addr, uint16_t family)
{
	memset(addr, 0, sizeof(*addr));
	if (family == XF_AF_INET) {
		xf_put_be32(addr->bytes, 0x0a000000 | below(2) << 16 | below(3) << 8 | below(2));
		return;
	}
	xf_put_be32(addr->bytes, 0xfd000000 | below(2) << 8);
	addr->bytes[7] = (uint8_t)below(2);
	addr->bytes[15] = (uint8_t)below(2);
}

/* Of few lengths there are few kinds of policies, however many there are. */
static uint8_t draw_len(uint16_t family, bool few)
{
	static const uint8_t four[] = { 32, 32, 24, 24, 16, 15, 8, 0 };
	static const uint8_t six[] = { 128, 128, 64, 64, 48, 32, 8, 0 };
	uint32_t i = below(few ? 4 : 8);

	return family == XF_AF_INET ? four[i] : six[i];
}

static uint8_t draw_proto(uint16_t family)
{
	static const uint8_t protos[] = { XF_IPPROTO_UDP, XF_IPPROTO_TCP, XF_IPPROTO_ICMP };
	uint8_t proto = protos[below(3)];

	return proto == XF_IPPROTO_ICMP && family == XF_AF_INET6 ? XF_IPPROTO_ICMPV6 : proto;
}

static bool is_icmp(uint8_t proto)
{
	return proto == XF_IPPROTO_ICMP || proto == XF_IPPROTO_ICMPV6;
}

/* Ports, or type and code. */
static uint16_t draw_port(uint8_t proto)
{
	static const uint16_t ports[] = { 80, 0x1000, 0x1001 };

	return is_icmp(proto) ? (uint16_t)below(2) : ports[below(3)];
}

static void draw_ports(struct xf_selector *sel)
{
	static const uint16_t masks[] = { 0, 0, UINT16_MAX, 0xff00 };

	sel->proto = draw_proto(sel->family);
	sel->sport_mask = masks[below(is_icmp(sel->proto) ? 3 : 4)];
	sel->dport_mask = masks[below(is_icmp(sel->proto) ? 3 : 4)];
	sel->sport = draw_port(sel->proto) & sel->sport_mask;
	sel->dport = draw_port(sel->proto) & sel->dport_mask;
}

/* Only what is a kind for many: a whole destination port. */
static void forget_masks(struct xf_selector *sel)
{
	sel->sport_mask = 0;
	sel->sport = 0;
	if (is_icmp(sel->proto) || sel->dport_mask != UINT16_MAX)
		sel->dport = sel->dport_mask = 0;
}

/* What is no identity. */
static void draw_wishes(const struct world *w, struct xf_policy_config *cfg)
{
	if (w->plain) {
		cfg->priority = below(1 << 30);
		cfg->action = below(4) ? XF_POLICY_ALLOW : XF_POLICY_BLOCK;
		cfg->ntmpl = below(200) > 0;
		return;
	}
	cfg->priority = below(8) ? 1 : below(3);
	cfg->action = below(4) ? XF_POLICY_ALLOW : XF_POLICY_BLOCK;
	cfg->ntmpl = (uint8_t)below(2);
	cfg->tmpl[0].optional = below(6) == 0;
}

static void draw_policy(const struct world *w, struct xf_policy_config *cfg, uint8_t dir)
{
	struct xf_selector *sel = &cfg->sel;

	*cfg = (struct xf_policy_config){
		.dir = dir,
		.type = w->plain || below(16) ? XF_POLICY_MAIN : XF_POLICY_SUB,
		.if_id = below(16) ? 0 : 5,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .family = below(3) ? XF_AF_INET : XF_AF_INET6 },
	};
	draw_addr(&sel->saddr, sel->family);
	draw_addr(&sel->daddr, sel->family);
	sel->prefixlen_s = draw_len(sel->family, w->plain);
	sel->prefixlen_d = draw_len(sel->family, w->plain);
	if (below(2))
		draw_ports(sel);
	if (w->plain)
		forget_masks(sel);
	if (!w->plain && below(10) == 0)
		cfg->mark = (struct xf_mark){ .v = below(4), .m = 3 };
	sel->ifindex = w->plain || below(40) ? 0 : 7;
	sel->user = w->plain || below(40) ? 0 : 1000;
	draw_wishes(w, cfg);
}

static struct xf_policy *find(const struct world *w, const struct xf_policy_config *cfg)
{
	const struct xf_policy_id id = { .sel = cfg->sel,
					 .mark = cfg->mark,
					 .if_id = cfg->if_id,
					 .dir = cfg->dir,
					 .type = cfg->type };

	return xf_spd_find(w->spd, &id);
}

static void change_policy(struct world *w)
{
	unsigned i = below(w->max);
	struct xf_policy_config *cfg = &w->known[i];
	struct xf_policy *policy = i < w->n ? find(w, cfg) : NULL;

	if (i >= w->n) {
		cfg = &w->known[w->n++];
		draw_policy(w, cfg,
			    w->max == CROWD && below(8) ? XF_DIR_OUT : (uint8_t)below(XF_DIR_MAX));
	} else if (policy && below(3) == 0) {
		xf_spd_del(w->spd, policy);
		draw_policy(w, cfg, cfg->dir);
		return;
	} else if (below(2)) {
		draw_wishes(w, cfg);
	}
	assert_int_equal(xf_spd_insert(w->spd, cfg, false, w->now_ns, &policy), 0);
}

static void change_policies(struct world *w)
{
	unsigned n = 1 + below(below(8) ? 3 : 40) + (w->n ? 0 : 3 * w->max);

	if (below(100 + w->max) == 0)
		xf_spd_flush(w->spd, below(4) ? XF_POLICY_MAIN : XF_POLICY_SUB);
	while (n--)
		change_policy(w);
}

static void watch(void *arg, const struct xf_policy *policy, bool there)
{
	struct world *w = arg;

	if (xf_policy_cfg(policy)->dir == XF_DIR_OUT) {
		w->out += there ? 1u : -1u;
		w->most_out = w->out > w->most_out ? w->out : w->most_out;
	}
	if (w->capture)
		xf_capture_policy(w->capture, policy, there);
}

/* --- packets --- */

static void draw_packet(const struct world *w, struct fake_packet *p)
{
	const struct xf_policy_config *at = below(4) && w->n ? &w->known[below(w->n)] : NULL;

	static const char *const devices[] = { "lan", "wan" };

	*p = (struct fake_packet){
		.family = at	     ? at->sel.family
			  : below(3) ? XF_AF_INET
				     : XF_AF_INET6,
		.fragment = !w->plain && below(6) == 0,
		.mark = below(4),
		.iif = devices[below(2)],
		.oif = devices[below(2)],
		.daddr_type = "unicast",
	};
	p->behind = p->fragment && below(2);
	draw_addr(&p->addr[0], p->family);
	draw_addr(&p->addr[1], p->family);
	p->proto = draw_proto(p->family);
	if (at && below(2)) {
		p->addr[0] = at->sel.saddr;
		p->addr[1] = at->sel.daddr;
		p->proto = at->sel.proto ? at->sel.proto : p->proto;
	}
}

static void draw_flow(const struct fake_packet *p, struct xf_flow *flow)
{
	*flow = (struct xf_flow){
		.family = p->family,
		.saddr = p->addr[0],
		.daddr = p->addr[1],
		.proto = p->proto,
		.sport = draw_port(p->proto),
		.dport = draw_port(p->proto),
		.mark = p->mark,
	};
}

/* What the wire has of @flow. */
static void put_transport(struct fake_packet *p, const struct xf_flow *flow)
{
	if (is_icmp(p->proto)) {
		p->l4[0] = (uint8_t)flow->sport;
		p->l4[1] = (uint8_t)flow->dport;
		p->l4[2] = 0xbe;
		p->l4[3] = 0xef;
		return;
	}
	xf_put_be16(p->l4, flow->sport);
	xf_put_be16(p->l4 + 2, flow->dport);
}

struct ties {
	uint8_t dir;
	bool found;
};

static bool look_for_tie(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_tie tie = xf_policy_order_key(policy);
	struct ties *ties = arg;

	ties->found =
		ties->found || (xf_policy_cfg(policy)->dir == ties->dir && tie.rank != tie.pos);
	return true;
}

static bool look_for_ports(void *arg, struct xf_policy *policy)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	struct ties *ties = arg;

	ties->found = ties->found ||
		      (cfg->dir == ties->dir && (cfg->sel.sport_mask || cfg->sel.dport_mask));
	return true;
}

static bool is_there_any(const struct world *w, uint8_t dir,
			 bool (*visit)(void *arg, struct xf_policy *policy))
{
	struct ties ties = { .dir = dir };
	uint64_t cursor = 0;

	xf_spd_walk(w->spd, &cursor, visit, &ties);
	return ties.found;
}

static enum excuse excuse_for(const struct world *w, uint8_t dir, const struct fake_packet *p,
			      const struct xf_policy *winner)
{
	if (winner && !xf_policy_allows(xf_policy_cfg(winner)))
		return INEXACT;
	if (p->fragment && is_there_any(w, dir, look_for_ports))
		return FRAGMENT;
	if (dir == XF_DIR_OUT && !w->exact)
		return TOO_MANY;
	if (winner && is_there_any(w, dir, look_for_tie))
		return TIE;
	return NONE;
}

static bool is_caught(struct world *w, uint8_t dir, struct fake_packet *p)
{
	static const uint32_t capture = 0x40000000;

	if (dir == XF_DIR_IN)
		return !fake_nft_hook(w->kernel.nft, "input", p);
	if (dir == XF_DIR_FWD)
		return !fake_nft_hook(w->kernel.nft, "forward", p);
	assert_true(fake_nft_hook(w->kernel.nft, below(2) ? "prerouting" : "output", p));
	return p->mark & capture;
}

static bool is_exempt(const struct world *w, uint8_t dir, const struct fake_packet *p)
{
	const struct xf_exempt *exempt = &w->kernel.exempt;
	uint32_t in = xf_exempt_of(exempt, fake_ifindex(p->iif));
	uint32_t out = xf_exempt_of(exempt, fake_ifindex(p->oif));

	if (p->family == XF_AF_INET)
		return dir == XF_DIR_OUT ? out & XF_EXEMPT_XFRM4 : in & XF_EXEMPT_POLICY4;
	for (uint32_t i = 0; i < exempt->naddrs && dir == XF_DIR_IN; i++) {
		if (memcmp(&exempt->addrs[i], &p->addr[1], sizeof(p->addr[1])) == 0)
			return true;
	}
	return false;
}

static void describe(const struct fake_packet *p, const struct xf_flow *flow, uint8_t dir)
{
	char text[2][XF_ADDR_STRLEN];

	print_message("# dir %u: %s > %s proto %u ports %u %u mark %u fragment %d behind %d\n", dir,
		      xf_addr_format(&p->addr[0], p->family, text[0]),
		      xf_addr_format(&p->addr[1], p->family, text[1]), p->proto, flow->sport,
		      flow->dport, flow->mark, p->fragment, p->behind);
}

static void send_packet(struct world *w, uint8_t dir, enum state state)
{
	const struct xf_policy *winner;
	struct fake_packet p;
	struct xf_flow flow;
	bool want, got;
	enum excuse excuse;

	draw_packet(w, &p);
	draw_flow(&p, &flow);
	put_transport(&p, &flow);
	winner = xf_spd_lookup(w->spd, dir, &flow);
	want = winner && xf_policy_is_strict(xf_policy_cfg(winner));
	w->packets++;
	got = is_caught(w, dir, &p);
	if (is_exempt(w, dir, &p)) {
		w->exempt += want;
		assert_false(got);
		return;
	}
	w->caught[dir] += got;
	if (state == BROKEN && dir == XF_DIR_OUT && !got) {
		got = fake_backstop_drops(&w->kernel, &p);
		w->by_backstop += got;
	}
	if (want && !got && !(state == BROKEN && dir != XF_DIR_OUT)) {
		describe(&p, &flow, dir);
		fail_msg("the SPD wants it%s", state == BROKEN ? ", and nothing holds it" : "");
	}
	if (!got || want || state == BROKEN || (state == COARSE && dir == XF_DIR_OUT))
		return;
	excuse = excuse_for(w, dir, &p, winner);
	w->too_many[excuse]++;
	if (excuse == NONE) {
		describe(&p, &flow, dir);
		fail_msg("the SPD does not want it");
	}
}

static void send_packets(struct world *w, enum state state)
{
	for (unsigned i = 0; i < PACKETS; i++)
		send_packet(w, (uint8_t)(i % XF_DIR_MAX), state);
}

/* --- rounds --- */

/* By @kind of them: all devices, or one each way, and addresses that packets have. */
static void draw_exempt(struct xf_exempt *exempt, unsigned kind)
{
	static const char *const addrs[] = { "fd00::", "fd00:100::1" };

	exempt->all = kind == 1 ? XF_EXEMPT_V4 : 0;
	exempt->ndevices = kind == 1 ? 0 : 2;
	exempt->naddrs = XF_ARRAY_SIZE(addrs);
	exempt->devices = calloc(2, sizeof(exempt->devices[0]));
	exempt->addrs = calloc(exempt->naddrs, sizeof(exempt->addrs[0]));
	assert_true(exempt->devices && exempt->addrs);
	exempt->devices[0] = (struct xf_exempt_device){ fake_ifindex("lan"), XF_EXEMPT_POLICY4 };
	exempt->devices[1] = (struct xf_exempt_device){ fake_ifindex("wan"), XF_EXEMPT_XFRM4 };
	for (uint32_t i = 0; i < exempt->naddrs; i++)
		assert_int_equal(xf_addr_parse(addrs[i], &exempt->addrs[i]), XF_AF_INET6);
}

static void start(struct world *w, const struct form *form)
{
	const struct xf_spd_config cfg = { .seed = { 1, 2 }, .watch = watch, .watch_arg = w };
	struct xf_capture_config capture = {
		.names = xf_io_names_default,
		.ops = &fake_kernel_ops,
		.arg = &w->kernel,
	};

	memset(w, 0, sizeof(*w));
	w->max = form->max;
	w->plain = form->plain;
	w->now_ns = XF_NSEC_PER_SEC;
	w->spd = xf_spd_new(&cfg);
	assert_non_null(w->spd);
	fake_kernel_init(&w->kernel);
	w->kernel.owned = form->owned;
	if (form->exempt)
		draw_exempt(&w->kernel.exempt, form->exempt);
	capture.spd = w->spd;
	capture.now_ns = w->now_ns;
	assert_int_equal(xf_capture_new(&capture, &w->capture, NULL), 0);
}

static void stop(struct world *w)
{
	print_message("# seed %u: %lu packets; caught in %lu, out %lu, fwd %lu\n", SEED, w->packets,
		      w->caught[XF_DIR_IN], w->caught[XF_DIR_OUT], w->caught[XF_DIR_FWD]);
	print_message("# too much: ties %lu, selectors that rules cannot have %lu, fragments %lu, "
		      "too many rules %lu\n",
		      w->too_many[TIE], w->too_many[INEXACT], w->too_many[FRAGMENT],
		      w->too_many[TOO_MANY]);
	print_message("# exempt: %lu that the SPD wants\n", w->exempt);
	print_message("# %u faults, %lu changes failed, the backstop dropped %lu\n",
		      w->kernel.fault_count, w->failed, w->by_backstop);
	print_message("# %u policies out, exact rules were due %lu times\n", w->most_out,
		      w->coarse);
	xf_capture_free(w->capture);
	w->capture = NULL;
	xf_spd_free(w->spd);
	fake_kernel_fini(&w->kernel);
}

/* By somebody else. It is found when something is to be changed in it. */
static void delete_table(struct world *w)
{
	struct xf_policy_config cfg;
	struct xf_policy *policy;

	fake_nft_run(w->kernel.nft, "delete table inet xfrmd\n");
	draw_policy(w, &cfg, XF_DIR_IN);
	cfg.if_id = 0;
	cfg.mark = (struct xf_mark){ .v = 8, .m = 8 };
	cfg.action = XF_POLICY_BLOCK;
	policy = find(w, &cfg);
	if (policy)
		xf_spd_del(w->spd, policy);
	else
		assert_int_equal(xf_spd_insert(w->spd, &cfg, false, w->now_ns, &policy), 0);
}

/* The kernel has failed: the daemon tries again. */
static void bear_failure(struct world *w, unsigned faults)
{
	w->failed++;
	send_packets(w, BROKEN);
	if (below(3) == 0)
		change_policies(w);
	w->kernel.faults = below(2) ? 0 : faults;
	w->now_ns += XF_NSEC_PER_SEC;
}

static enum state state_of(struct world *w)
{
	struct xf_capture_stats stats;

	assert_int_equal(xf_capture_get_stats(w->capture, &stats), 0);
	w->exact = stats.exact;
	return stats.parts[XF_HEAL_TABLE].in_force ? COARSE : BROKEN;
}

/* As the daemon: what is due is done when it is, what fails is tried again. */
static void sync_capture(struct world *w)
{
	unsigned faults = w->kernel.faults;
	uint64_t due;

	w->now_ns += below(3) ? XF_NSEC_PER_SEC : XF_NSEC_PER_SEC / 1000;
	if (faults && !w->kernel.owned && below(30) == 0)
		delete_table(w);
	while (xf_capture_sync(w->capture, w->now_ns, NULL) < 0)
		bear_failure(w, faults);
	while ((due = xf_capture_due(w->capture)) != UINT64_MAX) {
		send_packets(w, state_of(w));
		w->coarse++;
		if (below(4) == 0) {
			w->kernel.faults = faults;
			return;
		}
		w->now_ns = due > w->now_ns ? due : w->now_ns;
		while (xf_capture_settle(w->capture, w->now_ns, NULL) < 0)
			bear_failure(w, faults);
	}
	w->kernel.faults = faults;
	assert_int_equal(state_of(w), COARSE);
	send_packets(w, EXACT);
}

static void count_sets(void *arg, const char *name)
{
	struct world *w = arg;

	w->sets += strncmp(name, "dst", 3) != 0;
}

static void run(struct world *w, unsigned rounds)
{
	for (unsigned round = 0; round < rounds / MODEL_DIVISOR; round++) {
		change_policies(w);
		sync_capture(w);
		fake_nft_each_set(w->kernel.nft, count_sets, w);
		xf_rcu_drain();
		/* Other policies, now and then: else they are what they were drawn to be. */
		if (round % 500 == 499)
			w->n /= 2;
	}
}

static void run_world(const struct form *form)
{
	struct world *w = malloc(sizeof(*w));

	assert_non_null(w);
	srand(SEED);
	start(w, form);
	w->kernel.faults = form->faults;
	run(w, form->rounds);
	for (unsigned dir = 0; dir < XF_DIR_MAX; dir++)
		assert_in_range(w->caught[dir], w->packets / (form->exempt ? 400 : 100),
				w->packets / 2);
	assert_true(!form->exempt == !w->exempt);
	assert_true(!form->faults == !w->kernel.fault_count);
	/* With many, sets are what decides. */
	assert_true((form->max > 100) == (w->sets > 0));
	assert_true((form->max > 100) == (w->coarse > 0));
	assert_true((form->max == CROWD) == (w->most_out > ONCE_LIMIT));
	for (unsigned i = 0; i < EXCUSES && form->plain; i++)
		assert_int_equal(w->too_many[i], 0);
	stop(w);
	free(w);
}

static void test_few(void **unused)
{
	(void)unused;
	run_world(&(struct form){ .max = 14, .rounds = 12000, .owned = true });
}

/* Sets, and rules of what is not simple. */
static void test_many(void **unused)
{
	(void)unused;
	run_world(&(struct form){ .max = MANY, .rounds = 2000, .owned = true });
}

/* Not one packet is captured that no policy wants, however many there are. */
static void test_crowd(void **unused)
{
	(void)unused;
	run_world(&(struct form){ .max = CROWD, .rounds = 300, .plain = true, .owned = true });
}

static void test_faults(void **unused)
{
	(void)unused;
	run_world(&(struct form){ .max = 30, .rounds = 5000, .faults = 4 });
	run_world(&(struct form){ .max = MANY, .rounds = 800, .faults = 5 });
	run_world(&(struct form){ .max = CROWD, .rounds = 200, .faults = 6, .plain = true });
}

/* What failed is done anew in a table that cannot be replaced. */
static void test_faults_with_owner(void **unused)
{
	static const struct form forms[] = {
		{ .max = 30, .rounds = 3000, .faults = 4, .owned = true },
		{ .max = MANY, .rounds = 300, .faults = 5, .owned = true },
		{ .max = CROWD, .rounds = 200, .faults = 6, .owned = true, .plain = true },
	};

	(void)unused;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(forms); i++)
		run_world(&forms[i]);
}

static void test_exempt(void **unused)
{
	(void)unused;
	run_world(&(struct form){ .max = 14, .rounds = 2000, .owned = true, .exempt = 1 });
	run_world(&(struct form){ .max = 14, .rounds = 2000, .exempt = 2 });
	run_world(&(struct form){
		.max = 30, .rounds = 2000, .faults = 4, .owned = true, .exempt = 2 });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few),    cmocka_unit_test(test_many),
		cmocka_unit_test(test_crowd),  cmocka_unit_test(test_faults),
		cmocka_unit_test(test_exempt), cmocka_unit_test(test_faults_with_owner),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
