/*
 * Single cases on the host of model_host.c, which the drawn worlds meet too seldom.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_host.h"

#define CROWD 70 /* more than have rules of their own */

#define AT_LAN 0x0a000100u
#define AT_WAN 0x0a010100u

/* From anybody to a host. */
static void add_policy_for(struct world *w, uint8_t dir, uint32_t host, uint8_t proto)
{
	struct xf_policy_config cfg = {
		.dir = dir,
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
		.sel = { .family = XF_AF_INET,
			 .prefixlen_s = 8,
			 .prefixlen_d = 32,
			 .proto = proto },
		.priority = 1,
		.ntmpl = 1,
	};
	struct xf_policy *policy;

	xf_put_be32(cfg.sel.saddr.bytes, 0x0a000000);
	xf_put_be32(cfg.sel.daddr.bytes, host);
	assert_int_equal(xf_spd_insert(w->spd, &cfg, false, w->now_ns, &policy), 0);
}

static void add_policy(struct world *w, uint8_t dir, unsigned i)
{
	add_policy_for(w, dir, AT_WAN + i, 0);
}

static void add_crowd(struct world *w)
{
	for (unsigned i = 0; i < CROWD; i++) {
		add_policy(w, XF_DIR_OUT, i);
		add_policy(w, XF_DIR_FWD, i);
	}
	world_sync(w);
}

static void add_nat(struct world *w)
{
	w->host.nat = (struct fake_nat){ .there = true, .priority = 100 };
	w->host.nat_event = true;
	w->host.nat_changes++;
	world_hear(w);
}

/* Out by destinations alone, since it has just changed, and forwarded by sets. */
void a_crowd_is_back_at_once(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .nat = true, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_nat(w);
	add_crowd(w);
	add_policy(w, XF_DIR_OUT, CROWD);
	world_sync(w);
	assert_true(w->capture->coarse_ruled);
	assert_true(w->capture->sieve[XF_DIR_FWD].by_sets);
	assert_true(fake_others_run(&w->host, "delete table inet xfrmd\n"));
	world_hear(w);
	world_send_steady(w);
	assert_int_equal(w->seen.failed, 0);
	world_free(w);
}

static void assert_none_is_held(const struct world *w)
{
	for (unsigned part = 0; part < XF_HEAL_PARTS; part++)
		assert_false(w->capture->heal.part[part].held);
}

/* Nobody else does anything: no part is repaired once in ten seconds for that. */
void what_fails_by_itself_is_not_held(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_AUTO, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	for (unsigned i = 0; i < 100; i++) {
		w->host.kernel.faults = 4;
		add_policy(w, XF_DIR_OUT, i);
		world_sync(w);
		w->host.link_event = true;
		world_run(w, w->now_ns + XF_NSEC_PER_SEC / 10);
		assert_none_is_held(w);
	}
	w->host.kernel.faults = 0;
	world_run(w, w->now_ns + XF_HEAL_PERIOD_NS);
	world_sync(w);
	world_send_steady(w);
	world_free(w);
}

static bool has_nat_chains(const struct world *w)
{
	return fake_nft_has_chain(w->host.kernel.nft, "nat_bind");
}

/* A table with chains for NAT is not replaced by one without, because a few transactions fail. */
void nat_chains_outlive_failures(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .nat = true, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_nat(w);
	for (unsigned n = 1; n < 9; n++) {
		w->host.kernel.fail_next = n;
		add_policy(w, XF_DIR_OUT, n);
		world_sync(w);
		for (unsigned i = 0; i < 10; i++) {
			assert_true(has_nat_chains(w));
			send_packets(w, 10);
			world_run(w, xf_capture_due(w->capture));
		}
		assert_int_equal(w->host.kernel.fail_next, 0);
	}
	/* The first failure of one is tried again at once, the second soon. */
	w->host.kernel.fail_next = 3;
	add_policy(w, XF_DIR_OUT, 0);
	world_sync(w);
	assert_int_equal(w->capture->heal.part[XF_HEAL_TABLE].state, XF_HEAL_FAILED);
	world_run(w, w->now_ns);
	world_sync(w);
	world_send_steady(w);
	world_free(w);
}

/* Nor does it wait for ever for those that a kernel takes no more: the rest is to stand. */
void nat_chains_give_way(void **unused)
{
	const struct world_config cfg = {
		.mode = XF_CAPTURE_NFT, .nat = true, .no_nat_chains = true, .seed = 1
	};
	struct world *w = world_new(&cfg);

	(void)unused;
	fake_nft_take_nat(w->host.kernel.nft, true);
	add_nat(w);
	add_policy(w, XF_DIR_OUT, 0);
	world_sync(w);
	assert_true(has_nat_chains(w));
	fake_nft_take_nat(w->host.kernel.nft, false);
	assert_true(fake_others_run(&w->host, "delete table inet xfrmd\n"));
	world_hear(w);
	assert_true(xf_heal_is_lost(&w->capture->heal, XF_HEAL_TABLE));
	world_run(w, w->now_ns + 2 * XF_NSEC_PER_SEC);
	assert_int_equal(w->capture->nat_chains, XF_NAT_GUARD);
	world_send_steady(w);
	/* And takes all of them again when it can. */
	fake_nft_take_nat(w->host.kernel.nft, true);
	world_run(w, w->now_ns + XF_HEAL_PERIOD_NS);
	assert_int_equal(w->capture->nat_chains, XF_NAT_ALL);
	assert_true(has_nat_chains(w));
	world_free(w);
}

/* Rules of others write marks before ours see what is sent on: it is known by its socket. */
void what_is_sent_on_is_known_by_its_socket(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .nat = true, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_nat(w);
	w->host.marker = (struct fake_marker){ .hook = "output", .priority = -302 };
	for (unsigned i = 0; i < CROWD; i++)
		add_policy_for(w, XF_DIR_OUT, AT_WAN + i, XF_IPPROTO_UDP);
	world_sync(w);
	add_policy_for(w, XF_DIR_OUT, AT_WAN + CROWD, XF_IPPROTO_UDP);
	world_sync(w);
	/* So all protocols are captured. */
	assert_true(w->capture->coarse_ruled);
	for (unsigned i = 0; i < 100; i++)
		world_send_steady(w);
	assert_true(w->seen.translated);
	world_free(w);
}

/* One that stayed would go on translating what conntrack knows. */
void nat_chains_go_with_the_nat(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .nat = true, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_nat(w);
	add_policy(w, XF_DIR_OUT, 0);
	world_sync(w);
	assert_true(has_nat_chains(w));
	w->host.nat.there = false;
	w->host.nat_event = true;
	w->host.kernel.fail_next = 1;
	world_run(w, w->now_ns);
	assert_false(has_nat_chains(w));
	world_send_steady(w);
	world_free(w);
}

/* Also where others may change the table: it is not made anew for another daemon. */
void counters_outlive_the_daemon(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .seed = 1 };
	struct world *w = world_new(&cfg);
	uint64_t captured;

	(void)unused;
	add_policy(w, XF_DIR_OUT, 0);
	add_policy(w, XF_DIR_OUT, 1);
	world_sync(w);
	send_packets(w, 1000);
	captured = fake_nft_counter(w->host.kernel.nft, "captured");
	assert_true(captured);
	world_end_daemon(w);
	world_start_daemon(w);
	assert_true(fake_nft_counter(w->host.kernel.nft, "captured") >= captured);
	world_send_steady(w);
	world_free(w);
}

/* The daemon starts without the table of family bridge, which not every kernel has. */
void a_bridge_is_signed_in_the_end(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_policy(w, XF_DIR_FWD, 0);
	add_policy(w, XF_DIR_FWD, 1);
	world_end_daemon(w);
	w->host.fail_bridge = 3;
	assert_int_equal(fake_nft_run(w->host.bridge, "delete table bridge xfrmd\n"), 0);
	world_start_daemon(w);
	assert_false(w->capture->bridged);
	world_run(w, w->now_ns + XF_NSEC_PER_SEC);
	for (unsigned i = 0; i < 1000; i++)
		send_bridged(w);
	world_send_steady(w);
	world_free(w);
}

/* It has had its NAT on its way to the TUN: another entry could not undo that. */
void what_was_redirected_is_sent_on_as_it_is(void **unused)
{
	const struct world_config cfg = { .mode = XF_CAPTURE_NFT, .nat = true, .seed = 1 };
	struct world *w = world_new(&cfg);

	(void)unused;
	add_nat(w);
	w->host.nat.forwards_port = true;
	for (unsigned i = 0; i < CROWD; i++)
		add_policy_for(w, XF_DIR_OUT, AT_LAN + i, XF_IPPROTO_UDP);
	world_sync(w);
	add_policy_for(w, XF_DIR_OUT, AT_LAN + CROWD, XF_IPPROTO_UDP);
	world_sync(w);
	/* So all protocols are captured. */
	assert_true(w->capture->coarse_ruled);
	for (unsigned i = 0; i < 100; i++)
		world_send_steady(w);
	world_free(w);
}
