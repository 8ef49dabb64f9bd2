/*
 * The order of policies in the kernel, beside what the SPD itself says: where it says protect, no
 * allowing policy may stand in front, and where its relation is a chain, nothing may differ.
 *
 * Each policy asks for one bit of the destination port, so each set of policies has its packet.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "capture/policy_order.h"

#define POLICIES 8

static struct xf_spd *make_spd(void)
{
	const struct xf_spd_config cfg = { .seed = { 1, 2 } };
	struct xf_spd *spd = xf_spd_new(&cfg);

	assert_non_null(spd);
	return spd;
}

/* One prefix length of each class, by source and destination. */
static const uint8_t lens[XF_POLICY_CLASSES][2] = {
	{ 32, 32 }, { 24, 24 }, { 24, 8 }, { 8, 24 }, { 8, 8 },
};
enum { EXACT, BOTH, SADDR, DADDR, ANY };

struct wish {
	uint8_t class;
	bool strict;
	uint32_t priority;
	uint32_t ifindex; /* rules cannot tell devices */
};

/* Policy number @i, there or not. */
static void put(struct xf_spd *spd, uint8_t dir, unsigned i, const struct wish *wish)
{
	struct xf_policy_config cfg = {
		.dir = dir,
		.priority = wish->priority,
		.action = wish->strict ? XF_POLICY_BLOCK : XF_POLICY_ALLOW,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .family = XF_AF_INET,
			 .proto = XF_IPPROTO_UDP,
			 .ifindex = wish->ifindex,
			 .dport = (uint16_t)(1u << i),
			 .dport_mask = (uint16_t)(1u << i),
			 .prefixlen_s = lens[wish->class][0],
			 .prefixlen_d = lens[wish->class][1] },
	};
	struct xf_policy *policy;

	xf_put_be32(cfg.sel.saddr.bytes, 0x0a000000);
	xf_put_be32(cfg.sel.daddr.bytes, 0x0a000000);
	assert_int_equal(xf_spd_insert(spd, &cfg, false, 1, &policy), 0);
}

/* The packet that the policies of @set match. */
static struct xf_policy *ask_spd(const struct xf_spd *spd, uint8_t dir, unsigned set)
{
	struct xf_flow flow = { .family = XF_AF_INET,
				.proto = XF_IPPROTO_UDP,
				.dport = (uint16_t)set };

	xf_put_be32(flow.saddr.bytes, 0x0a000000);
	xf_put_be32(flow.daddr.bytes, 0x0a000000);
	return xf_spd_lookup(spd, dir, &flow);
}

static bool is_strict(const struct xf_policy *policy)
{
	return policy && xf_policy_is_strict(xf_policy_cfg(policy));
}

static const struct xf_policy *ask_list(const struct xf_policy_list *list, unsigned set)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct xf_policy_config *cfg = xf_policy_cfg(list->policy[i]);

		if (cfg->sel.dport & set && (xf_policy_is_strict(cfg) || xf_policy_allows(cfg)))
			return list->policy[i];
	}
	return NULL;
}

/* Does @a win where just the two match? */
static bool beats(const struct xf_spd *spd, uint8_t dir, unsigned a, unsigned b)
{
	struct xf_policy *policy = ask_spd(spd, dir, 1u << a | 1u << b);

	return xf_policy_cfg(policy)->sel.dport == 1u << a;
}

/* Is there an order that has all pairs of @there right? What nobody left beats is taken off. */
static bool is_chain(const struct xf_spd *spd, uint8_t dir, unsigned there)
{
	while (there) {
		unsigned first = POLICIES;

		for (unsigned a = 0; a < POLICIES && first == POLICIES; a++) {
			bool beaten = !(there >> a & 1);

			for (unsigned b = 0; b < POLICIES && !beaten; b++)
				beaten = b != a && there >> b & 1 && beats(spd, dir, b, a);
			if (!beaten)
				first = a;
		}
		if (first == POLICIES)
			return false;
		there &= ~(1u << first);
	}
	return true;
}

/* All packets there are. Returns how many are acted on though the SPD lets them pass. */
static unsigned check(const struct xf_spd *spd, uint8_t dir, unsigned there)
{
	bool chain = is_chain(spd, dir, there);
	struct xf_policy_list list;
	unsigned too_many = 0;

	assert_int_equal(xf_policy_list_get(spd, dir, NULL, &list), 0);
	for (unsigned set = 0; set < 1u << POLICIES; set++) {
		const struct xf_policy *want = ask_spd(spd, dir, set);
		const struct xf_policy *got = ask_list(&list, set);

		if (is_strict(want) && !is_strict(got))
			fail_msg("what the policies 0x%x match is let pass", set & there);
		if (is_strict(got) && !is_strict(want)) {
			if (chain && (!want || xf_policy_allows(xf_policy_cfg(want))))
				fail_msg("0x%x could be exact", set & there);
			too_many++;
		}
	}
	xf_policy_list_free(&list);
	return too_many;
}

static void clear(struct xf_spd *spd)
{
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++)
		xf_spd_flush(spd, type);
	xf_rcu_drain();
}

/*
 * A before C, C before B, B before A. Whichever of them are strict, no packet that one of them wins
 * may pass; in the table, how many of 256 packets are caught too much.
 */
static void test_cycle(void **unused)
{
	static const unsigned too_many[8] = { 0, 64, 64, 32, 32, 0, 0, 0 };
	struct xf_spd *spd = make_spd();

	(void)unused;
	for (unsigned strict = 0; strict < 8; strict++) {
		for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
			struct wish a = { BOTH, strict & 1, 7, 0 };
			struct wish c = { BOTH, strict & 2, 7, 0 };
			struct wish b = { EXACT, strict & 4, 7, 0 };

			put(spd, dir, 0, &a);
			put(spd, dir, 1, &c);
			put(spd, dir, 2, &b);
			put(spd, dir, 0, &a);
			assert_true(beats(spd, dir, 0, 1));
			assert_true(beats(spd, dir, 1, 2));
			assert_true(beats(spd, dir, 2, 0));
			assert_int_equal(check(spd, dir, 7), too_many[strict]);
		}
		clear(spd);
	}
	xf_spd_free(spd);
}

/* A wide exception that is updated counts as younger than host to host, and older than its own. */
static void test_update(void **unused)
{
	struct xf_spd *spd = make_spd();

	(void)unused;
	for (uint8_t dir = 0; dir < XF_DIR_MAX; dir++) {
		struct wish wide = { BOTH, false, 100, 0 };
		struct wish host = { EXACT, true, 100, 0 };

		put(spd, dir, 0, &wide);
		put(spd, dir, 1, &host);
		assert_false(is_strict(ask_spd(spd, dir, 3)));
		assert_int_equal(check(spd, dir, 3), 0);
		put(spd, dir, 0, &wide);
		assert_true(is_strict(ask_spd(spd, dir, 3)));
		assert_int_equal(check(spd, dir, 3), 0);
	}
	xf_spd_free(spd);
}

/* One that rules leave out is its class's first match, but too young to win. */
static void test_left_out(void **unused)
{
	struct xf_spd *spd = make_spd();
	struct wish device = { BOTH, false, 7, 1 };
	struct wish wide = { BOTH, false, 7, 0 };
	struct wish host = { EXACT, true, 7, 0 };

	(void)unused;
	put(spd, XF_DIR_OUT, 0, &device);
	put(spd, XF_DIR_OUT, 1, &wide);
	put(spd, XF_DIR_OUT, 2, &host);
	assert_false(is_strict(ask_spd(spd, XF_DIR_OUT, 7)));
	put(spd, XF_DIR_OUT, 0, &device);
	assert_true(is_strict(ask_spd(spd, XF_DIR_OUT, 7)));
	check(spd, XF_DIR_OUT, 7);
	xf_spd_free(spd);
}

/* Policies come, are updated and go; few priorities, so that there are ties. */
static void test_random(void **unused)
{
	struct xf_spd *spd = make_spd();
	unsigned too_many = 0;
	unsigned chains = 0;

	(void)unused;
	for (unsigned round = 0; round < 400; round++) {
		uint32_t priorities = 1 + (uint32_t)random() % 2;
		struct wish wishes[POLICIES];
		unsigned there = 0;

		for (unsigned n = 0; n < 14; n++) {
			unsigned i = (unsigned)random() % POLICIES;

			if (!(there >> i & 1)) {
				wishes[i].class = (uint8_t)(random() % XF_POLICY_CLASSES);
				wishes[i].ifindex = random() % 8 == 0;
			}
			wishes[i].strict = random() % 2;
			wishes[i].priority = (uint32_t)random() % priorities;
			put(spd, XF_DIR_OUT, i, &wishes[i]);
			there |= 1u << i;
		}
		chains += is_chain(spd, XF_DIR_OUT, there);
		too_many += check(spd, XF_DIR_OUT, there);
		clear(spd);
	}
	print_message("# %u of 400 are chains; of the others' packets %u are caught too much\n",
		      chains, too_many);
	assert_in_range(chains, 40, 360);
	assert_in_range(too_many, 1, 400 * 256 / 10);
	xf_spd_free(spd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cycle),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_random),
	};
	int failed;

	xf_read_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	xf_read_unregister();
	return failed;
}
