/*
 * ICMP errors that policies know by the packet that they are about: flag icmp of policies (out)
 * and SAs (in).
 *
 * A host behind A has sent to one behind B that is not there; B, or A to itself, says so.
 */
#include "sim.h"

#define LEN4 (20u + 8u + 28u)
#define LEN6 (40u + 8u + 48u)

struct error {
	const char *from;
	const char *to;
	const char *about_src;
	const char *about_dst;
	uint8_t type;
};

static const struct error about4 = { "10.0.0.2", "192.168.1.5", "192.168.1.5", "192.168.2.66", 3 };
static const struct error about6 = { "fd00::2", "2001:db8:1::5", "2001:db8:1::5", "2001:db8:2::66",
				     1 };

/* An error about a UDP datagram from port 1000 to port 2000, of which 8 bytes are quoted. */
static struct xf_pkt *make(struct sim_host *host, const struct error *e)
{
	bool v6 = strchr(e->from, ':');
	uint32_t ip_len = v6 ? 40 : 20;
	struct xf_pkt *quoted = sim_udp(host, &(struct sim_udp){ .src = e->about_src,
								 .dst = e->about_dst,
								 .sport = 1000,
								 .dport = 2000,
								 .len = 500 });
	struct xf_pkt *pkt = sim_udp(
		host, &(struct sim_udp){ .src = e->from,
					 .dst = e->to,
					 .len = v6 ? LEN6 : LEN4,
					 .proto = v6 ? XF_IPPROTO_ICMPV6 : XF_IPPROTO_ICMP });
	uint8_t *icmp = xf_pkt_writable(pkt, ip_len, pkt->len - ip_len);

	memset(icmp, 0, 8);
	icmp[0] = e->type;
	icmp[1] = 1;
	xf_pkt_copy_out(quoted, 0, icmp + 8, ip_len + 8);
	xf_pkt_free(quoted);
	return pkt;
}

/* B's policies out have @like's flags, ports and action; A has what it needs to receive. */
static void set_up(struct sim *sim, const struct sim_policy *like)
{
	static const char *const nets[2][2] = { { "192.168.2.0/24", "192.168.1.0/24" },
						{ "2001:db8:2::/64", "2001:db8:1::/64" } };

	sim_init(sim, 51);
	sim_add_sa_both(sim, &(struct sim_sa){ .spi = 0x2000, .reverse = true });
	for (int i = 0; i < 2; i++) {
		struct sim_policy policy = *like;

		policy.src = nets[i][0];
		policy.dst = nets[i][1];
		policy.reverse = true;
		policy.dir = XF_DIR_OUT;
		sim_add_policy(sim, &sim->b, &policy);
		policy.dir = XF_DIR_FWD;
		policy.flags = 0;
		policy.proto = 0;
		policy.dport = 0;
		policy.action = XF_POLICY_ALLOW;
		policy.no_tmpl = false;
		sim_add_policy(sim, &sim->a, &policy);
	}
}

static void expect(struct sim *sim, const struct error *e, unsigned wire, unsigned clear)
{
	sim_out(sim, &sim->b, make(&sim->b, e));
	assert_int_equal(sim->b.out.wire.count, wire);
	assert_int_equal(sim->b.out.clear.count, clear);
}

static void with_the_flag_it_is_protected(void **state)
{
	static const struct error *const about[] = { &about4, &about6 };
	static const uint8_t types[2][5] = { { 3, 4, 5, 11, 12 }, { 1, 2, 3, 4, 4 } };
	struct sim sim;

	(void)state;
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP });
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 5; k++) {
			struct error e = *about[i];
			uint8_t want[LEN6], got[LEN6];

			e.type = types[i][k];
			expect(&sim, &e, 1, 0);
			sim_carry(&sim, &sim.b, &sim.a);
			assert_int_equal(sim.a.in.deliver.count, 1);
			sim_out(&sim, &sim.a, make(&sim.a, &e));
			assert_int_equal(sim.a.out.clear.count, 1);
			xf_pkt_copy_out(sim.a.out.clear.head, 0, want, sim.a.out.clear.head->len);
			assert_int_equal(sim.a.in.deliver.head->len, sim.a.out.clear.head->len);
			xf_pkt_copy_out(sim.a.in.deliver.head, 0, got, sim.a.in.deliver.head->len);
			assert_memory_equal(got, want, sim.a.in.deliver.head->len);
		}
	}
	sim_drain(&sim.a.in.deliver);
	sim_drain(&sim.a.out.clear);
	sim_fini(&sim);
}

static void without_it_or_of_others_it_is_not(void **state)
{
	struct error e = about4;
	struct sim sim;

	(void)state;
	set_up(&sim, &(struct sim_policy){ .flags = 0 });
	expect(&sim, &about4, 0, 1);
	expect(&sim, &about6, 0, 1);
	sim_drain(&sim.b.out.clear);
	sim_fini(&sim);
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP });
	e.type = 8; /* an echo request quotes nobody */
	expect(&sim, &e, 0, 1);
	e = about4;
	e.about_dst = "172.16.0.1";
	expect(&sim, &e, 0, 1);
	/* The quoted packet's own way, not the way back, is another's business. */
	e = about4;
	e.about_src = about4.about_dst;
	e.about_dst = about4.about_src;
	expect(&sim, &e, 0, 1);
	sim_drain(&sim.b.out.clear);
	sim_fini(&sim);
}

/* Reversed, the ports change sides. */
static void by_ports(void **state)
{
	struct sim sim;

	(void)state;
	for (uint16_t dport = 1000; dport <= 2000; dport = (uint16_t)(dport + 1000)) {
		set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP,
						   .proto = XF_IPPROTO_UDP,
						   .dport = dport });
		expect(&sim, &about4, dport == 1000, dport == 2000);
		expect(&sim, &about6, dport == 1000, dport == 2000);
		sim_drain(&sim.b.out.clear);
		sim_drain(&sim.b.out.wire);
		sim_fini(&sim);
	}
}

static void what_the_policy_says_holds(void **state)
{
	struct sim sim;

	(void)state;
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP, .no_tmpl = true });
	expect(&sim, &about4, 0, 1);
	sim_drain(&sim.b.out.clear);
	sim_fini(&sim);
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP, .action = XF_POLICY_BLOCK });
	expect(&sim, &about4, 0, 0);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_OUT_POL_BLOCK), 1);
	sim_fini(&sim);
	/* Without an SA it is dropped, where Linux lets it out in clear. */
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP });
	xf_sad_flush(xf_engine_sad(sim.b.engine), 0);
	expect(&sim, &about4, 0, 0);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_OUT_NO_STATES), 1);
	/* What blocks the error itself is overruled, as in Linux. */
	sim_add_policy(&sim, &sim.b,
		       &(struct sim_policy){ .src = "10.0.0.2",
					     .dst = "192.168.1.0/24",
					     .dir = XF_DIR_OUT,
					     .action = XF_POLICY_BLOCK });
	sim_add_sa(&sim, &sim.b, &(struct sim_sa){ .spi = 0x2001, .reverse = true });
	expect(&sim, &about4, 1, 0);
	sim_drain(&sim.b.out.wire);
	sim_fini(&sim);
}

/* The error is for @whose packet it is about: what comes of it by the SA's @flags and selector. */
static enum xf_drop arrives(const char *whose, uint8_t flags, const char *selects, uint8_t type)
{
	const struct error e = { "10.0.0.2", whose, whose, "192.168.2.66", type };
	struct sim_sa sa = { .spi = 0x2000, .reverse = true, .flags = flags };
	struct sim_policy policy = { .src = "192.168.2.0/24",
				     .dst = whose,
				     .reverse = true,
				     .dir = XF_DIR_OUT,
				     .flags = XF_POLICY_ICMP };
	enum xf_drop reason = XF_PASS;
	struct sim sim;

	sim_init(&sim, 52);
	sim_add_sa(&sim, &sim.b, &sa);
	if (selects) {
		sa.sel = (struct xf_selector){ .family = XF_AF_INET,
					       .saddr = sim_addr(selects),
					       .prefixlen_s = 32 };
	}
	sim_add_sa(&sim, &sim.a, &sa);
	sim_add_policy(&sim, &sim.b, &policy);
	/* So that an echo is protected, too. */
	policy.src = "10.0.0.2";
	policy.flags = 0;
	sim_add_policy(&sim, &sim.b, &policy);
	policy.src = "192.168.2.0/24";
	policy.dir = strcmp(whose, "10.0.0.1") == 0 ? XF_DIR_IN : XF_DIR_FWD;
	sim_add_policy(&sim, &sim.a, &policy);
	expect(&sim, &e, 1, 0);
	sim_carry(&sim, &sim.b, &sim.a);
	for (int i = 1; i < XF_DROP_MAX; i++)
		if (sim_drops(&sim.a, (enum xf_drop)i))
			reason = (enum xf_drop)i;
	assert_int_equal(sim.a.in.deliver.count, reason == XF_PASS);
	assert_int_equal(sim_all_drops(&sim.a), reason != XF_PASS);
	sim_drain(&sim.a.in.deliver);
	sim_fini(&sim);
	return reason;
}

static void sas_with_the_flag_let_it_in(void **state)
{
	(void)state;
	assert_int_equal(arrives("10.0.0.1", 0, NULL, 3), XF_DROP_IN_NO_POLS);
	/* Forwarded, the policy needs no flag, but selectors do. */
	assert_int_equal(arrives("192.168.1.5", 0, NULL, 3), XF_PASS);
	assert_int_equal(arrives("192.168.1.5", 0, NULL, 8), XF_DROP_IN_NO_POLS);
	assert_int_equal(arrives("192.168.1.5", 0, "192.168.2.66", 3), XF_DROP_IN_STATE_MISMATCH);
	assert_int_equal(arrives("192.168.1.5", XF_SA_ICMP, "192.168.2.66", 3), XF_PASS);
	assert_int_equal(arrives("10.0.0.1", XF_SA_ICMP, NULL, 3), XF_PASS);
	assert_int_equal(arrives("10.0.0.1", XF_SA_ICMP, NULL, 8), XF_DROP_IN_NO_POLS);
	assert_int_equal(arrives("10.0.0.1", 0, "192.168.2.66", 3), XF_DROP_IN_STATE_MISMATCH);
	assert_int_equal(arrives("10.0.0.1", XF_SA_ICMP, "192.168.2.66", 3), XF_PASS);
	assert_int_equal(arrives("10.0.0.1", XF_SA_ICMP, "192.168.2.67", 3),
			 XF_DROP_IN_STATE_MISMATCH);
}

/* The verdict on one packet of a batch is not that on the next. */
static void neighbours_are_asked_for_themselves(void **state)
{
	const struct sim_udp udp = { .src = "10.0.0.2", .dst = "192.168.1.5", .len = 100 };
	struct xf_pktq queue = { 0 };
	struct xf_path_result res = { 0 };
	struct sim sim;

	(void)state;
	set_up(&sim, &(struct sim_policy){ .flags = XF_POLICY_ICMP });
	for (unsigned i = 0; i < 3; i++) {
		xf_pktq_push(&queue, sim_udp(&sim.b, &udp));
		xf_pktq_push(&queue, make(&sim.b, &about4));
	}
	xf_path_out(sim.b.worker, &queue, sim.now_ns, &res);
	assert_int_equal(res.wire.count, 3);
	assert_int_equal(res.clear.count, 3);
	sim_drain(&res.clear);
	sim_drain(&res.wire);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_the_flag_it_is_protected),
		cmocka_unit_test(without_it_or_of_others_it_is_not),
		cmocka_unit_test(by_ports),
		cmocka_unit_test(what_the_policy_says_holds),
		cmocka_unit_test(sas_with_the_flag_let_it_in),
		cmocka_unit_test(neighbours_are_asked_for_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
