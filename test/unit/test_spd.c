#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>
#include <xf/spd.h>

#include "spd/spd_test.h"

#define SEC XF_NSEC_PER_SEC
#define WALL 1700000000ull

static struct xf_spd *new_spd(uint32_t max_policies)
{
	const struct xf_spd_config cfg = { .max_policies = max_policies,
					   .seed = { 3, 4 },
					   .real_offset_ns = WALL * SEC };
	struct xf_spd *spd = xf_spd_new(&cfg);

	assert_non_null(spd);
	return spd;
}

/* 10.0.0.0/16 to 10.@net.0.0/16, out. */
static struct xf_policy_config config(uint8_t net)
{
	struct xf_policy_config cfg = { .dir = XF_DIR_OUT };

	cfg.sel.family = XF_AF_INET;
	cfg.sel.saddr.bytes[0] = 10;
	cfg.sel.daddr.bytes[0] = 10;
	cfg.sel.daddr.bytes[1] = net;
	cfg.sel.prefixlen_s = 16;
	cfg.sel.prefixlen_d = 16;
	return cfg;
}

static struct xf_flow flow_to(uint8_t net)
{
	struct xf_flow flow = { .family = XF_AF_INET, .proto = XF_IPPROTO_UDP };

	flow.saddr.bytes[0] = 10;
	flow.daddr.bytes[0] = 10;
	flow.daddr.bytes[1] = net;
	flow.daddr.bytes[3] = 1;
	return flow;
}

static struct xf_policy *insert(struct xf_spd *spd, const struct xf_policy_config *cfg)
{
	struct xf_policy *policy = NULL;

	assert_int_equal(xf_spd_insert(spd, cfg, false, 0, &policy), 0);
	return policy;
}

static void refuses(void **state)
{
	struct xf_spd *spd = new_spd(2);
	struct xf_policy *out = NULL;
	static const struct {
		uint16_t family;
		uint8_t prefixlen_d, prefixlen_s, dir, type, ntmpl;
		uint32_t index;
	} bad[] = {
		{ 0, 0, 0, 1, 0, 0, 0 },
		{ 7, 0, 0, 1, 0, 0, 0 },
		{ XF_AF_INET, 33, 0, 1, 0, 0, 0 },
		{ XF_AF_INET, 0, 33, 1, 0, 0, 0 },
		{ XF_AF_INET6, 129, 0, 1, 0, 0, 0 },
		{ XF_AF_INET, 0, 0, 3, 0, 0, 0 },
		{ XF_AF_INET, 0, 0, 1, 2, 0, 0 },
		{ XF_AF_INET, 0, 0, 1, 0, 7, 0 },
		{ XF_AF_INET, 0, 0, 1, 0, 0, 8 + 2 },
		{ XF_AF_INET, 0, 0, 1, 0, 0, 8 },
	};
	struct xf_policy_config cfg;

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(bad); i++) {
		cfg = (struct xf_policy_config){ .dir = bad[i].dir,
						 .type = bad[i].type,
						 .ntmpl = bad[i].ntmpl,
						 .index = bad[i].index };
		cfg.sel.family = bad[i].family;
		cfg.sel.prefixlen_d = bad[i].prefixlen_d;
		cfg.sel.prefixlen_s = bad[i].prefixlen_s;
		assert_int_equal(xf_spd_insert(spd, &cfg, false, 0, &out), -EINVAL);
	}
	assert_int_equal(xf_spd_generation(spd), 0);
	cfg = config(1);
	insert(spd, &cfg);
	assert_int_equal(xf_spd_insert(spd, &cfg, true, 0, &out), -EEXIST);
	cfg = config(2);
	insert(spd, &cfg);
	assert_int_equal(xf_spd_generation(spd), 2);
	cfg = config(3);
	assert_int_equal(xf_spd_insert(spd, &cfg, false, 0, &out), -ENOSPC);
	/* Full, but an update needs no room. */
	cfg = config(2);
	cfg.action = XF_POLICY_BLOCK;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->action, XF_POLICY_BLOCK);
	xf_spd_free(spd);
}

static void indexes(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_policy_id id = { .dir = XF_DIR_OUT };

	(void)state;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 1);
	cfg.dir = XF_DIR_FWD;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 8 + 2);
	cfg.dir = XF_DIR_IN;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 16);
	cfg = config(2);
	cfg.index = 801;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 801);
	cfg = config(3);
	cfg.index = 801; /* taken: the generator's next */
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 25);
	cfg.index = 809; /* an update keeps what it had */
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 25);
	id.index = 801;
	assert_non_null(xf_spd_find(spd, &id));
	id.if_id = 1;
	assert_null(xf_spd_find(spd, &id));
	id.if_id = 0;
	id.mark.m = 1;
	assert_null(xf_spd_find(spd, &id));
	xf_spd_free(spd);

	/* The first one of direction in cannot be 0. */
	spd = new_spd(0);
	cfg.dir = XF_DIR_IN;
	cfg.index = 0;
	assert_int_equal(xf_policy_cfg(insert(spd, &cfg))->index, 8);
	xf_spd_free(spd);
}

static void lookups(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_flow flow = flow_to(1);
	struct xf_policy *main_policy = insert(spd, &cfg);
	struct xf_policy *sub;

	(void)state;
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), main_policy);
	assert_null(xf_spd_lookup(spd, XF_DIR_IN, &flow));
	flow.if_id = 1;
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	flow.if_id = 0;
	flow.family = XF_AF_INET6;
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	flow.family = XF_AF_UNSPEC;
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	flow.family = XF_AF_INET;

	/* A sub policy comes first, whatever its priority. */
	cfg.type = XF_POLICY_SUB;
	cfg.priority = 100;
	sub = insert(spd, &cfg);
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), sub);
	assert_int_equal(xf_spd_flush(spd, XF_POLICY_SUB), 1);
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), main_policy);

	/* mark & m == v; a v outside of m never matches. */
	xf_spd_del(spd, main_policy);
	cfg = config(1);
	cfg.mark = (struct xf_mark){ .v = 0x10, .m = 0xf0 };
	insert(spd, &cfg);
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	flow.mark = 0xf1f;
	assert_non_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	flow.mark = 0x20;
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	xf_spd_free(spd);
}

/* An update keeps its place among equals of its class, but is the youngest for other classes. */
static void updates_and_ties(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config ports = config(1);
	struct xf_policy_config net = config(1);
	struct xf_policy_config any = { .dir = XF_DIR_OUT, .sel = { .family = XF_AF_INET } };
	struct xf_flow flow = flow_to(1);
	struct xf_policy *policy;

	(void)state;
	ports.sel.proto = XF_IPPROTO_UDP;
	insert(spd, &ports);
	insert(spd, &net);
	policy = insert(spd, &ports);
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), policy);
	insert(spd, &any);
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), policy);
	insert(spd, &ports);
	assert_int_equal(xf_policy_cfg(xf_spd_lookup(spd, XF_DIR_OUT, &flow))->sel.prefixlen_d, 0);
	xf_spd_free(spd);
}

/*
 * The same where one index has the updated policy and another, for packets of unknown interface,
 * has what hides behind its equals.
 */
static void ties_between_indexes(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config net = config(1);
	struct xf_policy_config port = config(1);
	struct xf_policy_config wide = config(1);
	struct xf_flow flow = flow_to(1);
	struct xf_policy *policy;

	(void)state;
	port.sel.proto = XF_IPPROTO_UDP;
	port.sel.ifindex = 4;
	wide.sel.prefixlen_d = 15;
	wide.sel.ifindex = 4;
	insert(spd, &net);
	insert(spd, &port);
	policy = insert(spd, &wide);
	insert(spd, &net);
	assert_ptr_equal(xf_spd_lookup(spd, XF_DIR_OUT, &flow), policy);
	xf_spd_free(spd);
}

struct events {
	uint32_t soft[4], hard[4];
	unsigned nsoft, nhard;
};

static void on_expire(void *arg, struct xf_policy *policy, bool hard)
{
	struct events *ev = arg;

	if (hard)
		ev->hard[ev->nhard++] = xf_policy_cfg(policy)->index;
	else
		ev->soft[ev->nsoft++] = xf_policy_cfg(policy)->index;
}

static void lifetimes(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_lifetime_now now;
	struct xf_policy *policy;
	struct events ev = { 0 };
	struct xf_flow flow = flow_to(1);

	(void)state;
	assert_true(xf_spd_expire(spd, 0, on_expire, &ev) == UINT64_MAX);
	cfg.life.soft_add_s = 10;
	cfg.life.hard_add_s = 20;
	policy = insert(spd, &cfg);
	xf_policy_lifetime_now(policy, &now);
	assert_true(now.add_s == WALL && now.use_s == 0 && now.bytes == 0 && now.packets == 0);
	xf_policy_count(policy, false, 1, 100, 3 * SEC);
	xf_policy_count(policy, false, 1, 50, 4 * SEC);
	xf_policy_lifetime_now(policy, &now);
	assert_true(now.use_s == WALL + 4 && now.bytes == 150 && now.packets == 2);
	assert_true(xf_spd_expire(spd, 10 * SEC - 1, on_expire, &ev) == 10 * SEC);
	assert_int_equal(ev.nsoft, 0);
	assert_true(xf_spd_expire(spd, 10 * SEC, on_expire, &ev) == 20 * SEC);
	assert_int_equal(ev.nsoft, 1);
	xf_spd_expire(spd, 19 * SEC, on_expire, &ev);
	assert_int_equal(ev.nsoft, 1);
	assert_int_equal(ev.nhard, 0);
	assert_non_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	assert_true(xf_spd_expire(spd, 20 * SEC, on_expire, &ev) == UINT64_MAX);
	assert_int_equal(ev.nhard, 1);
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	xf_spd_free(spd);
}

static void steps_of_the_clock(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_policy *old, *new;
	struct xf_lifetime_now now;
	struct events ev = { 0 };

	(void)state;
	cfg.life.hard_add_s = 20;
	old = insert(spd, &cfg); /* at 0 s */
	xf_policy_count(old, false, 1, 100, 3 * SEC);
	xf_spd_step_clock(spd, 4 * SEC, (WALL + 3600) * SEC + SEC / 2);
	xf_policy_lifetime_now(old, &now);
	assert_true(now.add_s == WALL && now.use_s == WALL + 3);
	xf_policy_count(old, false, 1, 100, 5 * SEC);
	xf_policy_lifetime_now(old, &now);
	assert_true(now.add_s == WALL && now.use_s == WALL + 3600 + 5);
	cfg.life.hard_add_s = 0;
	cfg.life.hard_use_s = 7;
	cfg.sel.dport = 7;
	cfg.sel.dport_mask = UINT16_MAX;
	cfg.sel.proto = XF_IPPROTO_UDP;
	assert_int_equal(xf_spd_insert(spd, &cfg, true, 5 * SEC + SEC / 2, &new), 0);
	xf_policy_lifetime_now(new, &now);
	assert_true(now.add_s == WALL + 3600 + 6 && now.use_s == 0);
	xf_policy_count(new, false, 1, 100, 8 * SEC);
	xf_spd_step_clock(spd, 9 * SEC, (WALL - 3600) * SEC);
	xf_policy_lifetime_now(new, &now);
	assert_true(now.add_s == WALL + 3600 + 6 && now.use_s == WALL + 3600 + 8);
	/* Seven seconds after its use, and twenty after the other one was made. */
	assert_true(xf_spd_expire(spd, 14 * SEC, on_expire, &ev) <= 15 * SEC);
	assert_int_equal(ev.nhard, 0);
	assert_true(xf_spd_expire(spd, 15 * SEC, on_expire, &ev) == 20 * SEC);
	assert_int_equal(ev.nhard, 1);
	assert_true(xf_spd_expire(spd, 20 * SEC, on_expire, &ev) == UINT64_MAX);
	assert_int_equal(ev.nhard, 2);
	xf_spd_free(spd);
}

/* Use limits count from the last use, from the making when there was none. */
static void use_lifetimes(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_policy *policy;
	struct events ev = { 0 };

	(void)state;
	cfg.life.hard_use_s = 10;
	policy = insert(spd, &cfg);
	cfg = config(2);
	cfg.life.hard_use_s = 10;
	insert(spd, &cfg);
	cfg = config(3);
	cfg.life.hard_add_s = UINT64_MAX - 5; /* beyond all time: never */
	insert(spd, &cfg);
	xf_policy_count(policy, false, 1, 1, 7 * SEC);
	assert_true(xf_spd_expire(spd, 10 * SEC, on_expire, &ev) == 17 * SEC);
	assert_int_equal(ev.nhard, 1);
	assert_int_equal(ev.hard[0], 8 + 1);
	xf_policy_count(policy, false, 1, 1, 12 * SEC);
	assert_true(xf_spd_expire(spd, 17 * SEC, on_expire, &ev) == 22 * SEC);
	assert_int_equal(ev.nhard, 1);
	assert_true(xf_spd_expire(spd, 22 * SEC, on_expire, &ev) == UINT64_MAX);
	assert_int_equal(ev.nhard, 2);
	assert_int_equal(ev.nsoft, 0);
	xf_spd_free(spd);
}

static void info_grows_like_the_kernels(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_spd_info info;
	struct xf_policy_config cfg;

	(void)state;
	for (uint8_t i = 0; i < 7; i++) {
		cfg = config(i);
		insert(spd, &cfg);
	}
	xf_spd_get_info(spd, &info);
	assert_int_equal(info.count[XF_DIR_OUT], 7);
	assert_int_equal(info.buckets, 7);
	assert_int_equal(info.buckets_max, 1024 * 1024);
	cfg = config(7);
	insert(spd, &cfg);
	xf_spd_get_info(spd, &info);
	assert_int_equal(info.buckets, 15);
	xf_spd_free(spd);
}

/* Of policies out alone, those that have gone not counted. */
static void marks_are_asked_for(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(1);
	struct xf_policy *policy;

	(void)state;
	insert(spd, &cfg);
	cfg = config(2);
	cfg.dir = XF_DIR_IN;
	cfg.mark = (struct xf_mark){ 5, 0xff };
	insert(spd, &cfg);
	assert_false(xf_spd_asks_marks(spd));
	cfg.dir = XF_DIR_OUT;
	policy = insert(spd, &cfg);
	assert_true(xf_spd_asks_marks(spd));
	xf_spd_del(spd, policy);
	assert_false(xf_spd_asks_marks(spd));
	xf_spd_free(spd);
}

/* A reference outlives the table's. */
static void references(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(9);
	struct xf_policy *policy = xf_policy_get(insert(spd, &cfg));

	(void)state;
	xf_spd_del(spd, policy);
	xf_spd_del(spd, policy); /* out already: nothing happens */
	xf_rcu_drain();
	assert_int_equal(xf_policy_cfg(policy)->sel.daddr.bytes[1], 9);
	xf_policy_put(policy);
	xf_spd_free(spd);
}

static void many_policies(void **state)
{
	struct xf_spd *spd = new_spd(0);
	struct xf_policy_config cfg = config(0);
	struct xf_flow flow = flow_to(0);

	(void)state;
	cfg.sel.prefixlen_d = 32;
	for (uint32_t i = 0; i < 10000; i++) {
		xf_put_be16(cfg.sel.daddr.bytes + 2, (uint16_t)i);
		cfg.priority = i * 7919 % 1000;
		insert(spd, &cfg);
	}
	for (uint32_t i = 0; i < 10000; i += 97) {
		xf_put_be16(flow.daddr.bytes + 2, (uint16_t)i);
		assert_int_equal(xf_policy_cfg(xf_spd_lookup(spd, XF_DIR_OUT, &flow))->index,
				 i * 8 + 1);
	}
	assert_int_equal(xf_spd_flush(spd, XF_POLICY_MAIN), 10000);
	assert_null(xf_spd_lookup(spd, XF_DIR_OUT, &flow));
	xf_spd_free(spd);
}

#define WALKED 200

struct walk {
	struct xf_spd *spd;
	struct xf_policy *oldest[WALKED]; /* first */
	unsigned gone; /* of these */
	unsigned visited;
	uint64_t last_pos;
};

/*
 * Three of four go, and one of the oldest now and then: so places are squeezed while the walk is
 * among them, ahead of it and behind it.
 */
static bool visit_and_delete(void *arg, struct xf_policy *policy)
{
	struct walk *walk = arg;
	uint64_t pos = xf_policy_order_key(policy).pos;

	assert_true(pos < walk->last_pos);
	walk->last_pos = pos;
	if (walk->visited % 8 == 0 && policy != walk->oldest[walk->gone])
		xf_spd_del(walk->spd, walk->oldest[walk->gone++]);
	if (walk->visited++ % 4)
		xf_spd_del(walk->spd, policy);
	return true;
}

static void walks_while_policies_go(void **state)
{
	struct walk walk = { .spd = new_spd(0), .last_pos = UINT64_MAX };
	uint64_t cursor = 0;

	(void)state;
	for (unsigned i = 0; i < WALKED; i++) {
		struct xf_policy_config cfg = config((uint8_t)i);

		walk.oldest[i] = insert(walk.spd, &cfg);
	}
	assert_false(xf_spd_walk(walk.spd, &cursor, visit_and_delete, &walk));
	assert_int_equal(walk.visited + walk.gone, WALKED);
	xf_spd_free(walk.spd);
	xf_rcu_drain();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(indexes),
		cmocka_unit_test(lookups),
		cmocka_unit_test(updates_and_ties),
		cmocka_unit_test(marks_are_asked_for),
		cmocka_unit_test(lifetimes),
		cmocka_unit_test(steps_of_the_clock),
		cmocka_unit_test(use_lifetimes),
		cmocka_unit_test(references),
		cmocka_unit_test(info_grows_like_the_kernels),
		cmocka_unit_test(many_policies),
		cmocka_unit_test(walks_while_policies_go),
		cmocka_unit_test(ties_between_indexes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
