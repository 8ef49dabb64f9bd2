/*
 * What was decrypted is asked about no policy, and its SAs about no selector, where Linux's sysctl
 * disable_policy says so.
 */
#include "sim.h"

#define LAN 3
#define WAN 4

static const struct sim_udp behind4 = { .src = "192.168.1.5", .dst = "192.168.2.5", .len = 200 };
static const struct sim_udp behind6 = { .src = "2001:db8:1::5",
					.dst = "2001:db8:2::5",
					.len = 200 };
static const struct sim_udp here4 = { .src = "192.168.1.5", .dst = "10.0.0.2", .len = 200 };
static const struct sim_udp here6 = { .src = "2001:db8:1::5", .dst = "fd00::2", .len = 200 };

/* From the networks behind A to host B itself, which blocks all that comes. */
static void open_sim(struct sim *sim)
{
	static const struct sim_policy to_b[] = {
		{ .src = "192.168.1.0/24", .dst = "10.0.0.2/32", .dir = XF_DIR_OUT },
		{ .src = "2001:db8:1::/64", .dst = "fd00::2/128", .dir = XF_DIR_OUT },
	};
	static const struct sim_policy block[] = {
		{ .src = "192.168.1.0/24", .dst = "0.0.0.0/0" },
		{ .src = "2001:db8:1::/64", .dst = "::/0" },
	};

	sim_init(sim, 1);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(to_b); i++)
		sim_add_policy(sim, &sim->a, &to_b[i]);
	for (unsigned i = 0; i < 2 * XF_ARRAY_SIZE(block); i++) {
		struct sim_policy policy = block[i / 2];

		policy.dir = i % 2 ? XF_DIR_FWD : XF_DIR_IN;
		policy.action = XF_POLICY_BLOCK;
		sim_add_policy(sim, &sim->b, &policy);
	}
	sim_add_tunnel(sim, &(struct sim_sa){ .replay_window = 0 });
}

/* One of them, received on @iif: is it delivered? Else it is counted as blocked. */
static bool is_delivered(struct sim *sim, const struct sim_udp *udp, uint32_t iif)
{
	uint64_t before = sim_drops(&sim->b, XF_DROP_IN_POL_BLOCK);
	unsigned n;

	sim->b.iif = iif;
	sim_out(sim, &sim->a, sim_udp(&sim->a, udp));
	assert_int_equal(sim->a.out.wire.count, 1);
	sim_carry(sim, &sim->a, &sim->b);
	n = sim_drain(&sim->b.in.deliver);
	assert_int_equal(sim_drops(&sim->b, XF_DROP_IN_POL_BLOCK), before + !n);
	assert_int_equal(sim_all_drops(&sim->b), before + !n);
	return n == 1;
}

static void goes_by_device_or_address(void **state)
{
	static const struct {
		const struct sim_udp *udp;
		uint32_t exempt4;
		bool exempt6;
		bool lan, wan, unknown;
	} cases[] = {
		{ &here4, 0, true, false, false, false },
		{ &here4, LAN, false, true, false, false },
		{ &behind4, 0, true, false, false, false },
		{ &behind4, LAN, false, true, false, false },
		{ &here6, LAN, false, false, false, false },
		{ &here6, 0, true, true, true, true },
		{ &behind6, LAN, true, false, false, false },
	};
	struct sim sim;

	(void)state;
	open_sim(&sim);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		sim.b.exempt4 = cases[i].exempt4;
		sim.b.exempt6 = cases[i].exempt6;
		assert_int_equal(is_delivered(&sim, cases[i].udp, LAN), cases[i].lan);
		assert_int_equal(is_delivered(&sim, cases[i].udp, WAN), cases[i].wan);
		assert_int_equal(is_delivered(&sim, cases[i].udp, 0), cases[i].unknown);
	}
	sim_fini(&sim);
}

/* The packets of one batch, of one flow: each goes by the device that it came in by, which is asked
 * about once for those that follow each other. */
static void neighbours_of_other_devices(void **state)
{
	static const uint32_t iifs[] = { WAN, LAN, LAN, WAN, LAN, 0, WAN, WAN, LAN };
	struct xf_pktq batch = { .count = 0 };
	struct xf_path_result res = { .wire.count = 0 };
	struct sim sim;

	(void)state;
	open_sim(&sim);
	sim.b.exempt4 = LAN;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(iifs); i++) {
		struct xf_pkt *pkt;

		sim_out(&sim, &sim.a, sim_udp(&sim.a, &behind4));
		pkt = xf_pktq_pop(&sim.a.out.wire);
		pkt->iif = iifs[i];
		xf_pktq_push(&batch, pkt);
	}
	xf_path_in(sim.b.worker, &batch, sim.now_ns, &res);
	assert_int_equal(sim.b.exempt_asked, 7);
	assert_int_equal(sim_drain(&res.deliver), 4);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_POL_BLOCK), 5);
	assert_int_equal(sim_all_drops(&sim.b), 5);
	sim_fini(&sim);
}

/* The same, received by one device, for different destinations: each goes by its own. */
static void neighbours_for_others(void **state)
{
	struct xf_pktq batch = { .count = 0 };
	struct xf_path_result res = { .wire.count = 0 };
	struct sim sim;

	(void)state;
	open_sim(&sim);
	sim.b.exempt6 = true;
	for (unsigned i = 0; i < 8; i++) {
		sim_out(&sim, &sim.a, sim_udp(&sim.a, i % 4 < 2 ? &here6 : &behind6));
		xf_pktq_push(&batch, xf_pktq_pop(&sim.a.out.wire));
	}
	xf_path_in(sim.b.worker, &batch, sim.now_ns, &res);
	assert_int_equal(sim.b.exempt_asked, 4);
	assert_int_equal(sim_drain(&res.deliver), 4);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_POL_BLOCK), 4);
	sim_fini(&sim);
}

/* What may not be forwarded is not, whoever is asked. */
static void is_forwarded_all_the_same_by_the_device(void **state)
{
	static const struct sim_forwards none;
	struct sim sim;

	(void)state;
	open_sim(&sim);
	sim.b.exempt4 = LAN;
	sim.b.forwards = &none;
	sim.b.iif = LAN;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &behind4));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drain(&sim.b.in.deliver), 0);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_NOT_FORWARDED), 1);
	sim_fini(&sim);
}

/* Pieces go on as they are: no policy wants to see ports. */
static void fragments_do_not_wait(void **state)
{
	static const struct sim_policy port = { .src = "192.168.1.5/32",
						.dst = "192.168.2.5/32",
						.proto = XF_IPPROTO_UDP,
						.dport = 2000,
						.dir = XF_DIR_FWD };
	struct xf_pktq pieces = { .count = 0 };
	struct sim_udp big = behind4;
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	struct sim sim;

	(void)state;
	open_sim(&sim);
	sim_add_policy(&sim, &sim.b, &port);
	sim.b.exempt4 = sim.b.iif = LAN;
	big.len = 2500;
	pkt = sim_udp(&sim.a, &big);
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_frag_cut(pkt, &ip, 1400, 0, &pieces), XF_PASS);
	while ((pkt = xf_pktq_pop(&pieces))) {
		sim_out(&sim, &sim.a, pkt);
		sim_carry(&sim, &sim.a, &sim.b);
		assert_int_equal(sim_drain(&sim.b.in.deliver), 1);
	}
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_by_device_or_address),
		cmocka_unit_test(neighbours_of_other_devices),
		cmocka_unit_test(neighbours_for_others),
		cmocka_unit_test(is_forwarded_all_the_same_by_the_device),
		cmocka_unit_test(fragments_do_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
