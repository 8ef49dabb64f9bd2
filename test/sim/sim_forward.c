/*
 * What was decrypted and is not for this host goes on only where the device that received the outer
 * packet forwards.
 */
#include "sim.h"

#define LAN 3
#define WAN 4

static const struct sim_forwards lan4[] = { { XF_AF_INET, LAN } };
static const struct sim_forwards lan6[] = { { XF_AF_INET6, LAN } };

static const struct sim_udp behind4 = {
	.src = "192.168.1.5", .dst = "192.168.2.5", .dport = 2000, .len = 200
};
static const struct sim_udp behind6 = {
	.src = "2001:db8:1::5", .dst = "2001:db8:2::5", .dport = 2000, .len = 200
};
static const struct sim_udp here4 = { .src = "192.168.1.5", .dst = "10.0.0.2", .len = 200 };
static const struct sim_udp here6 = { .src = "2001:db8:1::5", .dst = "fd00::2", .len = 200 };

/* From the networks behind A to host B itself. */
static void add_policies_to_b(struct sim *sim)
{
	static const struct sim_policy policies[] = {
		{ .src = "192.168.1.0/24", .dst = "10.0.0.2/32", .dir = XF_DIR_OUT },
		{ .src = "2001:db8:1::/64", .dst = "fd00::2/128", .dir = XF_DIR_OUT },
		{ .src = "192.168.1.0/24", .dst = "10.0.0.2/32", .dir = XF_DIR_IN },
		{ .src = "2001:db8:1::/64", .dst = "fd00::2/128", .dir = XF_DIR_IN },
	};

	for (unsigned i = 0; i < XF_ARRAY_SIZE(policies); i++)
		sim_add_policy(sim, policies[i].dir == XF_DIR_IN ? &sim->b : &sim->a, &policies[i]);
}

/* @first: of host B, a policy before all others; or NULL. */
static void open_sim(struct sim *sim, const struct sim_policy *first)
{
	sim_init(sim, 1);
	if (first)
		sim_add_policy(sim, &sim->b, first);
	sim_add_tunnel(sim, &(struct sim_sa){ .replay_window = 0 });
	add_policies_to_b(sim);
}

/* One of them, received on @iif: is it delivered? Else it is counted as not forwarded. */
static bool is_delivered(struct sim *sim, const struct sim_udp *udp, uint32_t iif)
{
	uint64_t before = sim_drops(&sim->b, XF_DROP_IN_NOT_FORWARDED);
	uint64_t all = sim_all_drops(&sim->b);
	unsigned n;

	sim->b.iif = iif;
	sim_out(sim, &sim->a, sim_udp(&sim->a, udp));
	assert_int_equal(sim->a.out.wire.count, 1);
	sim_carry(sim, &sim->a, &sim->b);
	n = sim_drain(&sim->b.in.deliver);
	assert_int_equal(sim_drops(&sim->b, XF_DROP_IN_NOT_FORWARDED), before + !n);
	assert_int_equal(sim_all_drops(&sim->b), all + !n);
	return n == 1;
}

static void goes_by_device_and_family(void **state)
{
	static const struct {
		const struct sim_udp *udp;
		const struct sim_forwards *forwards;
		unsigned n;
		bool lan, wan, unknown;
	} cases[] = {
		{ &behind4, NULL, 0, true, true, true },
		{ &behind6, NULL, 0, true, true, true },
		{ &behind4, lan4, 1, true, false, false },
		{ &behind6, lan4, 1, false, false, false },
		{ &behind4, lan6, 1, false, false, false },
		{ &behind6, lan6, 1, true, false, false },
		{ &behind4, lan4, 0, false, false, false },
		{ &here4, lan4, 0, true, true, true },
		{ &here6, lan4, 0, true, true, true },
	};
	struct sim sim;

	(void)state;
	open_sim(&sim, NULL);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		sim.b.forwards = cases[i].forwards;
		sim.b.nforwards = cases[i].n;
		assert_int_equal(is_delivered(&sim, cases[i].udp, LAN), cases[i].lan);
		assert_int_equal(is_delivered(&sim, cases[i].udp, WAN), cases[i].wan);
		assert_int_equal(is_delivered(&sim, cases[i].udp, 0), cases[i].unknown);
	}
	sim_fini(&sim);
}

/* The packets of one batch, of one flow: each goes by the device that it came in by. */
static void neighbours_of_other_devices(void **state)
{
	static const uint32_t iifs[] = { WAN, LAN, LAN, WAN, LAN, 0, WAN, WAN, LAN };
	struct xf_pktq batch = { .count = 0 };
	struct xf_path_result res = { .wire.count = 0 };
	struct sim sim;

	(void)state;
	open_sim(&sim, NULL);
	sim.b.forwards = lan4;
	sim.b.nforwards = 1;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(iifs); i++) {
		struct xf_pkt *pkt;

		sim_out(&sim, &sim.a, sim_udp(&sim.a, &behind4));
		pkt = xf_pktq_pop(&sim.a.out.wire);
		pkt->iif = iifs[i];
		xf_pktq_push(&batch, pkt);
	}
	xf_path_in(sim.b.worker, &batch, sim.now_ns, &res);
	assert_int_equal(sim_drain(&res.deliver), 4);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_NOT_FORWARDED), 5);
	assert_int_equal(sim_all_drops(&sim.b), 5);
	sim_fini(&sim);
}

/* As Linux does: no route, no question. */
static void policies_fwd_are_not_asked(void **state)
{
	static const struct sim_policy block = { .src = "192.168.1.5/32",
						 .dst = "192.168.2.5/32",
						 .dir = XF_DIR_FWD,
						 .action = XF_POLICY_BLOCK };
	struct sim sim;

	(void)state;
	open_sim(&sim, &block);
	sim.b.forwards = lan4;
	assert_false(is_delivered(&sim, &behind4, WAN));
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_POL_BLOCK), 0);
	sim.b.forwards = NULL;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &behind4));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_POL_BLOCK), 1);
	sim_fini(&sim);
}

/* A piece that may not go on does not complete a datagram, whose ports a policy wants to see. */
static void fragments_are_asked_one_by_one(void **state)
{
	static const struct sim_policy port = { .src = "192.168.1.5/32",
						.dst = "192.168.2.5/32",
						.proto = XF_IPPROTO_UDP,
						.dport = 2000,
						.dir = XF_DIR_FWD };
	static const uint32_t iifs[] = { WAN, LAN };
	struct xf_pktq pieces = { .count = 0 };
	struct sim_udp big = behind4;
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	struct sim sim;

	(void)state;
	open_sim(&sim, &port);
	sim.b.forwards = lan4;
	sim.b.nforwards = 1;
	big.len = 2500;
	pkt = sim_udp(&sim.a, &big);
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_frag_cut(pkt, &ip, 1400, 0, &pieces), XF_PASS);
	for (unsigned i = 0; (pkt = xf_pktq_pop(&pieces)); i++) {
		sim.b.iif = iifs[i];
		sim_out(&sim, &sim.a, pkt);
		sim_carry(&sim, &sim.a, &sim.b);
		assert_int_equal(sim_drain(&sim.b.in.deliver), 0);
	}
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_NOT_FORWARDED), 1);
	assert_int_equal(sim_all_drops(&sim.b), 1);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_by_device_and_family),
		cmocka_unit_test(neighbours_of_other_devices),
		cmocka_unit_test(policies_fwd_are_not_asked),
		cmocka_unit_test(fragments_are_asked_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
