/*
 * Entries of the programs' map: which there are, which policy an entry is of, and what becomes of a
 * direction that has no room.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

#include "capture/programs/tuples.h"

static struct xf_tuples tuples;
static struct xf_spd *spd;

static void watch(void *arg, const struct xf_policy *policy, bool there)
{
	(void)arg;
	xf_tuples_change(&tuples, policy, there);
}

static int set_up(void **unused)
{
	struct xf_spd_config cfg = { .seed = { 3, 4 }, .watch = watch };

	(void)unused;
	spd = xf_spd_new(&cfg);
	return spd ? 0 : -1;
}

static int tear_down(void **unused)
{
	(void)unused;
	xf_spd_free(spd);
	xf_rcu_drain();
	xf_tuples_fini(&tuples);
	return 0;
}

static struct xf_policy_config plain(uint8_t dir)
{
	return (struct xf_policy_config){
		.dir = dir,
		.action = XF_POLICY_BLOCK,
		.sel = { .family = XF_AF_INET, .prefixlen_s = 32, .prefixlen_d = 32 },
	};
}

static struct xf_policy *insert(const struct xf_policy_config *cfg)
{
	struct xf_policy *policy;

	assert_int_equal(xf_spd_insert(spd, cfg, false, 0, &policy), 0);
	return policy;
}

/* The kernel, which takes all that is pending; how many entries were put. */
static unsigned settle(void)
{
	unsigned n = 0;

	for (struct xf_tuple *tuple = tuples.pending; tuple; tuple = tuple->next_pending)
		n += tuple->first != NULL;
	xf_tuples_settled(&tuples);
	return n;
}

static void many_with_ports_share_the_entry_without(void **unused)
{
	struct xf_policy_config cfg = plain(XF_DIR_IN);
	struct xf_policy *policy[3000];
	struct xf_bpf_entry entry;

	(void)unused;
	cfg.sel.proto = XF_IPPROTO_UDP;
	cfg.sel.dport_mask = UINT16_MAX;
	for (uint16_t i = 0; i < 3000; i++) {
		cfg.sel.dport = i;
		cfg.priority = (i * 1237u) % 3000u;
		policy[i] = insert(&cfg);
	}
	assert_int_equal(settle(), 3001);
	/* In an order of its own they go; the entry without ports is always of the first left. */
	for (uint16_t i = 0; i < 3000; i++) {
		struct xf_tuple *shared = NULL;

		xf_spd_del(spd, policy[i]);
		for (struct xf_tuple *t = tuples.pending; t; t = t->next_pending)
			shared = t->key.dport || t->key.kind % XF_BPF_KINDS_MAX == 0 ? shared : t;
		if (i == 2999)
			break;
		assert_non_null(shared);
		xf_tuple_entry(shared, &entry);
		for (uint16_t j = (uint16_t)(i + 1); j < 3000; j++)
			assert_true(entry.priority <= (j * 1237u) % 3000u);
		settle();
	}
	settle();
	assert_int_equal(tuples.count, 0);
	assert_int_equal(tuples.members, 0);
}

/* More combinations of lengths than there are kinds; 33 * 33 at most. */
static unsigned insert_kinds(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct xf_policy_config cfg = plain(XF_DIR_FWD);

		cfg.sel.prefixlen_s = (uint8_t)(i % 33);
		cfg.sel.prefixlen_d = (uint8_t)(i / 33);
		insert(&cfg);
	}
	return n;
}

static bool delete_one(void *arg, struct xf_policy *policy)
{
	unsigned *left = arg;

	if (!*left)
		return false;
	(*left)--;
	xf_spd_del(spd, policy);
	return true;
}

static bool tell(void *arg, struct xf_policy *policy)
{
	(void)arg;
	if (xf_policy_cfg(policy)->dir == XF_DIR_FWD)
		xf_tuples_change(&tuples, policy, true);
	return true;
}

static void a_part_without_room_has_nothing_until_it_fits(void **unused)
{
	unsigned part = xf_tuples_part(XF_DIR_FWD, XF_POLICY_MAIN);
	unsigned n = insert_kinds(XF_BPF_KINDS_MAX + 20);
	struct xf_policy_config other = plain(XF_DIR_IN);
	unsigned left = n / 2 + 20;
	uint64_t cursor = 0;

	(void)unused;
	insert(&other);
	assert_int_equal(tuples.part[part].lost_at, XF_BPF_KINDS_MAX + 1);
	settle();
	assert_int_equal(tuples.count, 1); /* that of the other direction */
	assert_false(xf_tuples_can_restart(&tuples, part));
	xf_spd_walk(spd, &cursor, delete_one, &left);
	assert_true(xf_tuples_can_restart(&tuples, part));
	xf_tuples_restart(&tuples, part);
	cursor = 0;
	xf_spd_walk(spd, &cursor, tell, NULL);
	assert_int_equal(tuples.part[part].lost_at, 0);
	assert_int_equal(settle(), tuples.part[part].policies);
}

/* Tables do not grow while what was announced comes; what is there already stays. */
static void room_is_made(void **unused)
{
	struct xf_policy_config cfg = plain(XF_DIR_OUT);
	struct xf_policy *first = insert(&cfg);
	size_t size;

	(void)unused;
	xf_tuples_reserve(&tuples, 1000);
	size = tuples.size;
	assert_true(size >= 1000);
	for (uint32_t i = 1; i < 1000; i++) {
		xf_put_be32(cfg.sel.daddr.bytes, i);
		insert(&cfg);
	}
	assert_int_equal(tuples.size, size);
	assert_int_equal(tuples.count, 1000);
	xf_tuples_reserve(&tuples, 1);
	assert_int_equal(tuples.size, size);
	xf_spd_del(spd, first);
	xf_tuples_settled(&tuples);
	assert_int_equal(tuples.count, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(many_with_ports_share_the_entry_without, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_part_without_room_has_nothing_until_it_fits,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(room_is_made, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
