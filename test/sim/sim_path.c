/*
 * What the path does with single packets: verdicts, sizes, nesting, ICMP.
 */
#include "sim.h"

static const struct sim_udp plain = { .src = "192.168.1.5",
				      .dst = "192.168.2.5",
				      .sport = 1000,
				      .dport = 2000,
				      .len = 200,
				      .tag = 0xabcdef01 };

static void assert_bytes_equal(const struct xf_pkt *a, const struct xf_pkt *b)
{
	static uint8_t x[XF_PKT_MAX], y[XF_PKT_MAX];

	assert_int_equal(a->len, b->len);
	xf_pkt_copy_out(a, 0, x, a->len);
	xf_pkt_copy_out(b, 0, y, b->len);
	assert_memory_equal(x, y, a->len);
}

/* A packet goes from A to B and comes out as it was. */
static void assert_crosses(struct sim *sim, const struct sim_udp *udp)
{
	struct xf_pkt *want = sim_udp(&sim->b, udp);

	sim_out(sim, &sim->a, sim_udp(&sim->a, udp));
	assert_int_equal(sim->a.out.wire.count, 1);
	sim_carry(sim, &sim->a, &sim->b);
	assert_int_equal(sim->b.in.deliver.count, 1);
	assert_bytes_equal(sim->b.in.deliver.head, want);
	xf_pkt_free(want);
	sim_drain(&sim->b.in.deliver);
}

static void tunnel_both_families(void **state)
{
	static const struct sim_udp v6 = {
		.src = "2001:db8:1::5", .dst = "2001:db8:2::5", .len = 300, .tag = 77
	};
	struct sim sim;

	(void)state;
	for (int v6_outer = 0; v6_outer < 2; v6_outer++) {
		for (int encap = 0; encap < 2 - v6_outer; encap++) {
			sim_init(&sim, 1);
			sim_add_tunnel(&sim, &(struct sim_sa){ .v6 = v6_outer,
							       .encap_port = encap ? 4500 : 0 });
			assert_crosses(&sim, &plain);
			assert_crosses(&sim, &v6);
			assert_int_equal(sim_all_drops(&sim.a) + sim_all_drops(&sim.b), 0);
			sim_fini(&sim);
		}
	}
}

static void verdicts_out(void **state)
{
	static const struct sim_udp elsewhere = { .src = "192.168.1.5",
						  .dst = "172.16.0.1",
						  .len = 100 };
	static const struct sim_udp blocked = { .src = "192.168.1.5",
						.dst = "192.168.2.66",
						.len = 100 };
	static const struct sim_udp allowed = { .src = "192.168.1.5",
						.dst = "192.168.2.77",
						.len = 100 };
	struct sim sim;

	(void)state;
	sim_init(&sim, 2);
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT,
					     .priority = 10 });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "0.0.0.0/0",
					     .dst = "192.168.2.66/32",
					     .dir = XF_DIR_OUT,
					     .action = XF_POLICY_BLOCK });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "0.0.0.0/0",
					     .dst = "192.168.2.77/32",
					     .dir = XF_DIR_OUT,
					     .no_tmpl = true });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &elsewhere));
	assert_int_equal(sim.a.out.clear.count, 1);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &allowed));
	assert_int_equal(sim.a.out.clear.count, 1);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &blocked));
	assert_int_equal(sim.a.out.clear.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_POL_BLOCK), 1);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_NO_STATES), 1);
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .dir = XF_SA_DIR_IN });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_STATE_DIR), 1);
	sim_fini(&sim);
}

static bool take_policy_out(void *arg, struct xf_policy *policy)
{
	struct xf_policy **found = arg;

	if (xf_policy_cfg(policy)->dir == XF_DIR_OUT)
		*found = policy;
	return true;
}

/* What NAT is to be asked for waits as it is; what comes back is protected, and counted once. */
static void asked_for(void **state)
{
	static const struct sim_udp elsewhere = { .src = "192.168.1.5",
						  .dst = "172.16.0.1",
						  .len = 100 };
	struct xf_policy *policy = NULL;
	struct xf_lifetime_now used;
	struct xf_pkt *pkt;
	uint64_t cursor = 0;
	struct sim sim;

	(void)state;
	sim_init(&sim, 21);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	pkt = sim_udp(&sim.a, &elsewhere);
	pkt->ask = true;
	sim_out(&sim, &sim.a, pkt);
	assert_int_equal(sim.a.out.clear.count, 1);
	assert_int_equal(sim.a.out.ask.count, 0);
	pkt = sim_udp(&sim.a, &plain);
	pkt->ask = true;
	sim_out(&sim, &sim.a, pkt);
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim.a.out.ask.count, 1);
	pkt = xf_pktq_pop(&sim.a.out.ask);
	assert_int_equal(pkt->len, plain.len);
	pkt->ask = false;
	pkt->asked = true;
	sim_out(&sim, &sim.a, pkt);
	assert_int_equal(sim.a.out.wire.count, 1);
	xf_spd_walk(xf_engine_spd(sim.a.engine), &cursor, take_policy_out, &policy);
	xf_policy_lifetime_now(policy, &used);
	assert_int_equal(used.packets, 1);
	assert_int_equal(used.bytes, plain.len);
	sim_drain(&sim.a.out.wire);
	sim_fini(&sim);
}

/* The SPI of each packet of one batch to @ports, by policies that share their SA or do not. */
static void neighbours_with_other_policies(void **state)
{
	static const uint16_t ports[] = { 1, 2, 3, 2, 4, 1, 5, 2, 3, 3, 1, 4, 4 };
	static const uint32_t spis[] = { 1, 1, 2, 1, 1, 1, 2, 2, 1 };
	struct sim_udp udp = plain;
	struct xf_pktq queue = { 0 };
	struct xf_path_result res = { 0 };
	struct xf_pkt *pkt;
	struct sim sim;

	(void)state;
	sim_init(&sim, 20);
	for (uint16_t port = 1; port <= 5; port++)
		sim_add_policy(&sim, &sim.a,
			       &(struct sim_policy){ .src = "192.168.1.0/24",
						     .dst = "192.168.2.0/24",
						     .dir = XF_DIR_OUT,
						     .proto = XF_IPPROTO_UDP,
						     .dport = port,
						     .reqid = port == 3 ? 2 : 1,
						     .action = port == 4 ? XF_POLICY_BLOCK
									 : XF_POLICY_ALLOW,
						     .no_tmpl = port == 5 });
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .spi = 1, .reqid = 1 });
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .spi = 2, .reqid = 2 });
	for (unsigned i = 0; i < XF_ARRAY_SIZE(ports); i++) {
		udp.dport = ports[i];
		xf_pktq_push(&queue, sim_udp(&sim.a, &udp));
	}
	xf_path_out(sim.a.worker, &queue, sim.now_ns, &res);
	assert_int_equal(res.clear.count, 1);
	assert_int_equal(sim_drops(&sim.a, XF_DROP_OUT_POL_BLOCK), 3);
	assert_int_equal(res.wire.count, XF_ARRAY_SIZE(spis));
	for (unsigned i = 0; (pkt = xf_pktq_pop(&res.wire)) != NULL; i++) {
		uint8_t spi[4];

		xf_pkt_copy_out(pkt, 20, spi, sizeof(spi));
		assert_int_equal(xf_get_be32(spi), spis[i]);
		xf_pkt_free(pkt);
	}
	sim_drain(&res.clear);
	sim_fini(&sim);
}

static void optional_template_without_sa_goes_clear(void **state)
{
	struct sim sim;

	(void)state;
	sim_init(&sim, 3);
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT,
					     .transport = true,
					     .optional = true });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	assert_int_equal(sim.a.out.clear.count, 1);
	sim_drain(&sim.a.out.clear);
	sim_fini(&sim);
}

static void verdicts_in(void **state)
{
	struct sim sim;
	struct sim_sa other = { .spi = 0x3000, .reqid = 9 };

	(void)state;
	sim_init(&sim, 4);
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT });
	sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x1000 });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_NO_POLS), 1);

	/* An SA that the policy's template does not ask for. */
	sim_add_policy(&sim, &sim.b,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_FWD,
					     .reqid = other.reqid });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_TMPL_MISMATCH), 1);

	sim_add_policy(&sim, &sim.b,
		       &(struct sim_policy){ .src = "192.168.1.5/32",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_FWD,
					     .action = XF_POLICY_BLOCK });
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_POL_BLOCK), 0);
	xf_sad_flush(xf_engine_sad(sim.b.engine), 0);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_NO_STATES), 1);
	assert_int_equal(sim.b.in.deliver.count, 0);
	sim_fini(&sim);
}

static void own_selector_of_the_sa(void **state)
{
	struct sim_sa sa = { .sel = { .family = XF_AF_INET, .proto = XF_IPPROTO_TCP } };
	struct sim sim;

	(void)state;
	sim_init(&sim, 5);
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .spi = 0x1000 });
	sim_add_sa(&sim, &sim.b, &sa);
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT });
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_STATE_MISMATCH), 1);
	sim_fini(&sim);
}

static void transport_mode_local(void **state)
{
	static const struct sim_udp host4 = { .src = "10.0.0.1", .dst = "10.0.0.2", .len = 120 };
	static const struct sim_udp host6 = { .src = "fd00::1", .dst = "fd00::2", .len = 120 };
	static const char *const src[] = { "10.0.0.1", "fd00::1" };
	static const char *const dst[] = { "10.0.0.2", "fd00::2" };
	struct sim sim;

	(void)state;
	sim_init(&sim, 6);
	for (int v6 = 0; v6 < 2; v6++) {
		struct sim_policy policy = { .src = src[v6], .dst = dst[v6], .transport = true };

		sim_add_sa_both(&sim, &(struct sim_sa){ .v6 = v6, .transport = true });
		policy.dir = XF_DIR_OUT;
		sim_add_policy(&sim, &sim.a, &policy);
		policy.dir = XF_DIR_IN;
		sim_add_policy(&sim, &sim.b, &policy);
	}
	assert_crosses(&sim, &host4);
	assert_crosses(&sim, &host6);
	sim_fini(&sim);
}

/* The MTU that the ICMP reply tells is exact: that size crosses in one piece, one more does not. */
static void assert_mtu_is_exact(struct sim *sim, struct sim_udp udp, uint32_t outer)
{
	uint8_t icmp[8];
	uint32_t mtu;

	udp.len = outer;
	udp.df = true;
	sim_out(sim, &sim->a, sim_udp(&sim->a, &udp));
	assert_int_equal(sim->a.out.wire.count, 0);
	assert_int_equal(sim->a.out.reply.count, 1);
	xf_pkt_copy_out(sim->a.out.reply.head, 0, icmp, sizeof(icmp));
	mtu = icmp[0] == 3 ? xf_get_be16(icmp + 6) : xf_get_be32(icmp + 4);
	assert_in_range(mtu, outer - 120, outer - 20);
	udp.len = mtu;
	sim_out(sim, &sim->a, sim_udp(&sim->a, &udp));
	assert_int_equal(sim->a.out.wire.count, 1);
	assert_in_range(sim->a.out.wire.head->len, outer - 15, outer);
	assert_int_equal(sim->a.out.reply.count, 0);
	udp.len = mtu + 1;
	sim_out(sim, &sim->a, sim_udp(&sim->a, &udp));
	assert_int_equal(sim->a.out.wire.count, 0);
	assert_int_equal(sim->a.out.reply.count, 1);
	sim_drain(&sim->a.out.reply);
}

static void too_big(void **state)
{
	static const struct sim_udp tcp6 = { .src = "2001:db8:1::5",
					     .dst = "2001:db8:2::5",
					     .proto = XF_IPPROTO_TCP };
	struct sim_udp local6 = tcp6;
	struct sim sim;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct sim_sa sa = { .v6 = i & 1 };

		if (i & 2) {
			sa.crypt = "cbc(aes)";
			sa.key_bits = 128;
			sa.auth = "hmac(sha256)";
		}
		sim_init(&sim, 7);
		sim_add_tunnel(&sim, &sa);
		assert_mtu_is_exact(&sim, plain, 1500);
		assert_mtu_is_exact(&sim, tcp6, 1500);
		sim_add_policy(&sim, &sim.a,
			       &(struct sim_policy){ .src = "fd00::1",
						     .dst = "2001:db8:2::/64",
						     .dir = XF_DIR_OUT,
						     .v6_outer = sa.v6 });
		local6.src = "fd00::1";
		assert_mtu_is_exact(&sim, local6, 1500);
		sim_fini(&sim);
	}
}

static uint32_t wire_max(const struct xf_pktq *q)
{
	uint32_t max = 0;

	for (const struct xf_pkt *p = q->head; p; p = p->next)
		max = p->len > max ? p->len : max;
	return max;
}

static void large_datagrams_are_cut(void **state)
{
	static const uint32_t sizes[] = { 1480, 3000, 8000, 65535 };
	struct sim sim;

	(void)state;
	sim_init(&sim, 8);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	for (size_t i = 0; i < XF_ARRAY_SIZE(sizes); i++) {
		struct sim_udp big = plain;
		struct xf_pkt *want;

		big.len = sizes[i];
		want = sim_udp(&sim.b, &big);
		sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
		assert_true(sim.a.out.wire.count > 1);
		assert_true(wire_max(&sim.a.out.wire) <= 1500);
		sim_carry(&sim, &sim.a, &sim.b);
		if (sizes[i] < 65000) {
			/* Cut behind encapsulation: one datagram comes out. */
			assert_int_equal(sim.b.in.deliver.count, 1);
			assert_bytes_equal(sim.b.in.deliver.head, want);
		} else {
			/* Too long to be encapsulated whole: inner fragments come out. */
			assert_true(sim.b.in.deliver.count > 40);
		}
		xf_pkt_free(want);
		sim_drain(&sim.b.in.deliver);
	}
	assert_int_equal(sim_all_drops(&sim.a) + sim_all_drops(&sim.b), 0);
	sim_fini(&sim);
}

static void icmp_is_believed_for_live_spis_only(void **state)
{
	struct sim_udp big = plain;
	struct xf_pkt *icmp;
	struct xf_pkt *outer;
	uint8_t *p;
	struct sim sim;

	(void)state;
	sim_init(&sim, 9);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	big.len = 1400;
	big.df = true;
	for (int forged = 2; forged >= 0; forged--) {
		sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
		assert_int_equal(sim.a.out.wire.count, 1);
		outer = xf_pktq_pop(&sim.a.out.wire);
		icmp = xf_pkt_new(xf_worker_pool(sim.a.worker), 56);
		p = xf_pkt_append(icmp, 56);
		memset(p, 0, 56);
		p[0] = 0x45;
		xf_put_be16(p + 2, 56);
		p[8] = 64;
		p[9] = XF_IPPROTO_ICMP;
		memcpy(p + 12, "\x0a\x00\x00\xfe", 4);
		memcpy(p + 16, sim.a.addr4.bytes, 4);
		xf_ipv4_set_csum(p, 20);
		p[20] = 3;
		p[21] = 4;
		xf_put_be16(p + 26, 1300);
		xf_pkt_copy_out(outer, 0, p + 28, 28);
		if (forged == 1)
			xf_put_be32(p + 48, 0x9999);
		if (forged == 2)
			p[28 + 15]++; /* not our address */
		xf_put_be16(p + 22, xf_csum_fold(xf_csum_add(0, p + 20, 36)));
		xf_pkt_free(outer);
		sim_in(&sim, &sim.a, icmp);
		assert_int_equal(sim_drops(&sim.a, XF_DROP_ICMP_IGNORED), forged ? 3 - forged : 2);
	}
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
	assert_int_equal(sim.a.out.wire.count, 0);
	assert_int_equal(sim.a.out.reply.count, 1);
	/* After ten minutes the path may have changed. */
	sim.now_ns += 601 * XF_NSEC_PER_SEC;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
	assert_int_equal(sim.a.out.wire.count, 1);
	sim_drain(&sim.a.out.wire);
	sim_fini(&sim);
}

/* Two SAs, one in the other: transport inside a tunnel between the same hosts. */
static void nested_bundle(void **state)
{
	static const struct sim_udp host4 = { .src = "10.0.0.1", .dst = "10.0.0.2", .len = 120 };
	struct xf_policy_config cfg = {
		.dir = XF_DIR_OUT,
		.ntmpl = 2,
		.sel = { .family = XF_AF_INET },
		.life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
	};
	struct xf_policy *policy;
	struct sim sim;

	(void)state;
	sim_init(&sim, 10);
	for (int i = 0; i < 2; i++) {
		sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x100u + (uint32_t)i,
							.reqid = 1u + (uint32_t)i,
							.transport = i == 0 });
		cfg.tmpl[i] =
			(struct xf_tmpl){ .id = { .proto = XF_IPPROTO_ESP, .family = XF_AF_INET },
					  .reqid = 1u + (uint32_t)i,
					  .mode = i ? XF_MODE_TUNNEL : XF_MODE_TRANSPORT };
	}
	cfg.tmpl[1].saddr = sim.a.addr4;
	cfg.tmpl[1].id.daddr = sim.b.addr4;
	assert_int_equal(xf_spd_insert(xf_engine_spd(sim.a.engine), &cfg, true, 0, &policy), 0);
	cfg.dir = XF_DIR_IN;
	assert_int_equal(xf_spd_insert(xf_engine_spd(sim.b.engine), &cfg, true, 0, &policy), 0);
	assert_crosses(&sim, &host4);
	/* The receiver wants both: one alone is refused. */
	xf_spd_flush(xf_engine_spd(sim.a.engine), XF_POLICY_MAIN);
	cfg.dir = XF_DIR_OUT;
	cfg.ntmpl = 1;
	assert_int_equal(xf_spd_insert(xf_engine_spd(sim.a.engine), &cfg, true, 0, &policy), 0);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &host4));
	assert_int_equal(sim.a.out.wire.count, 1);
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_TMPL_MISMATCH), 1);
	sim_fini(&sim);
}

/* Forwarded fragments and a policy with a port: whole first, then the lookup. */
static void fragments_meet_port_policies(void **state)
{
	struct xf_pktq pieces = { .count = 0 };
	struct xf_ip_info ip;
	struct sim_udp big = plain;
	struct xf_pkt *pkt;
	unsigned wire = 0;
	struct sim sim;

	(void)state;
	sim_init(&sim, 11);
	sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x1000 });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .proto = XF_IPPROTO_UDP,
					     .dport = 2000,
					     .dir = XF_DIR_OUT });
	big.len = 3000;
	pkt = sim_udp(&sim.a, &big);
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_frag_cut(pkt, &ip, 1500, 0, &pieces), XF_PASS);
	assert_int_equal(pieces.count, 3);
	while ((pkt = xf_pktq_pop(&pieces))) {
		sim_out(&sim, &sim.a, pkt);
		assert_int_equal(sim.a.out.clear.count, 0);
		wire += sim.a.out.wire.count;
	}
	assert_true(wire >= 3);
	sim_drain(&sim.a.out.wire);
	/* Another port: the datagram goes on its way. */
	big.dport = 2001;
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
	assert_int_equal(sim.a.out.clear.count, 1);
	sim_drain(&sim.a.out.clear);
	assert_int_equal(sim_all_drops(&sim.a), 0);
	sim_fini(&sim);
}

/* IPv6 from fd01::1 to fd02::1: destination options behind the fragment header, then UDP. */
static struct xf_pkt *fragment_with_options(struct sim *sim, uint16_t offset, bool more)
{
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(sim->a.worker), 0);
	uint8_t *ip = xf_pkt_append(pkt, XF_IPV6_HDR_LEN + XF_IPV6_FRAG_HDR_LEN + 64);
	uint8_t *frag = ip + XF_IPV6_HDR_LEN;

	memset(ip, 0, XF_IPV6_HDR_LEN + XF_IPV6_FRAG_HDR_LEN + 64);
	ip[0] = 0x60;
	ip[5] = XF_IPV6_FRAG_HDR_LEN + 64;
	ip[6] = XF_IPPROTO_FRAGMENT;
	ip[7] = 64;
	ip[8] = ip[24] = 0xfd;
	ip[9] = 1;
	ip[25] = 2;
	ip[23] = ip[39] = 1;
	frag[0] = XF_IPPROTO_DSTOPTS;
	xf_put_be16(frag + 2, (uint16_t)(offset | more));
	if (!offset)
		frag[8] = XF_IPPROTO_UDP;
	return pkt;
}

/* A later fragment does not tell its protocol where options stand before it. */
static void fragments_hide_their_protocol(void **state)
{
	struct sim sim;

	(void)state;
	sim_init(&sim, 11);
	sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x1000, .flags = XF_SA_AF_UNSPEC });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "fd01::/64",
					     .dst = "fd02::/64",
					     .proto = XF_IPPROTO_UDP,
					     .dir = XF_DIR_OUT });
	for (unsigned later = 0; later < 2; later++) {
		sim_out(&sim, &sim.a, fragment_with_options(&sim, later ? 64 : 0, !later));
		assert_int_equal(sim.a.out.clear.count, 0);
		assert_int_equal(sim.a.out.wire.count, later);
	}
	sim_drain(&sim.a.out.wire);
	assert_int_equal(sim_all_drops(&sim.a), 0);
	sim_fini(&sim);
}

/* Cut a datagram and send its pieces through the tunnel one by one; @between after the first. How
 * many packets come out; no router has to cut one of them. */
static unsigned send_in_pieces(struct sim *sim, const struct sim_udp *udp,
			       void (*between)(struct sim *sim))
{
	struct xf_pktq pieces = { .count = 0 };
	struct sim_udp big = *udp;
	struct xf_ip_info ip;
	struct xf_pkt *pkt;
	unsigned delivered = 0;

	big.len = 2500;
	pkt = sim_udp(&sim->a, &big);
	assert_int_equal(xf_ip_parse(pkt, true, &ip), 0);
	assert_int_equal(xf_frag_cut(pkt, &ip, 1400, 0, &pieces), XF_PASS);
	while ((pkt = xf_pktq_pop(&pieces))) {
		sim_out(sim, &sim->a, pkt);
		assert_int_equal(sim->a.out.wire.count, 1);
		sim_carry(sim, &sim->a, &sim->b);
		delivered += sim->b.in.deliver.count;
		for (pkt = sim->b.in.deliver.head; pkt; pkt = pkt->next)
			assert_true(xf_ip_parse(pkt, true, &ip) == 0 && pkt->len <= 1400 &&
				    ip.is_frag);
		sim_drain(&sim->b.in.deliver);
		if (between && pieces.count)
			between(sim);
	}
	return delivered;
}

static void another_sa(struct sim *sim)
{
	sim->now_ns += XF_NSEC_PER_SEC;
	sim_add_sa_both(sim, &(struct sim_sa){ .spi = 0x1001 });
}

/* A policy in with a port: fragments become whole first, but only those of one SA. */
static void inner_fragments_keep_to_their_sa(void **state)
{
	struct sim_policy policy = { .src = "192.168.1.0/24",
				     .dst = "192.168.2.0/24",
				     .dir = XF_DIR_OUT };
	struct sim sim;

	(void)state;
	sim_init(&sim, 13);
	sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x1000 });
	sim_add_policy(&sim, &sim.a, &policy);
	policy.dir = XF_DIR_FWD;
	policy.proto = XF_IPPROTO_UDP;
	policy.dport = 2000;
	sim_add_policy(&sim, &sim.b, &policy);
	/* They come out as they came in. */
	assert_int_equal(send_in_pieces(&sim, &plain, NULL), 2);
	assert_int_equal(send_in_pieces(&sim, &plain, another_sa), 0);
	xf_path_tick(sim.b.worker, sim.now_ns + 100 * XF_NSEC_PER_SEC, &sim.b.in);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_FRAG_TIMEOUT), 2);
	sim_fini(&sim);
}

/* IPv6, which no router cuts: the fragments come out again. */
static void inner_fragments_leave_as_they_came(void **state)
{
	static const struct sim_udp v6 = {
		.src = "2001:db8:1::5", .dst = "2001:db8:2::5", .dport = 2000, .tag = 5
	};
	struct sim_policy policy = { .src = "2001:db8:1::/64",
				     .dst = "2001:db8:2::/64",
				     .dir = XF_DIR_OUT };
	struct sim sim;

	(void)state;
	sim_init(&sim, 16);
	sim_add_sa_both(&sim, &(struct sim_sa){ .spi = 0x1000 });
	sim_add_policy(&sim, &sim.a, &policy);
	policy.dir = XF_DIR_FWD;
	policy.proto = XF_IPPROTO_UDP;
	policy.dport = 2000;
	sim_add_policy(&sim, &sim.b, &policy);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(send_in_pieces(&sim, &v6, NULL), 2);
	assert_int_equal(sim_all_drops(&sim.b), 0);
	sim_fini(&sim);
}

static void count_expiry(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	(void)sa;
	((unsigned *)arg)[event]++;
}

/* Soft and hard limits in packets: told when they are reached, and kept. */
static void limits_are_told_and_kept(void **state)
{
	struct sim_sa sa = { .life = { .soft_bytes = XF_INF,
				       .hard_bytes = XF_INF,
				       .soft_packets = 2,
				       .hard_packets = 4 } };
	unsigned events[3] = { 0 };
	struct sim sim;

	(void)state;
	sim_init(&sim, 14);
	sim_add_sa(&sim, &sim.a, &sa);
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT });
	for (unsigned sent = 1; sent <= 6; sent++) {
		sim.a.wakes = 0;
		sim_out(&sim, &sim.a, sim_udp(&sim.a, &plain));
		/* Told twice: a limit was hit, and nothing else is ever told. */
		assert_int_equal(sim.a.wakes, sent == 3 || sent == 5);
		xf_engine_take_events(sim.a.engine, NULL, NULL);
		xf_sad_expire(xf_engine_sad(sim.a.engine), sim.now_ns, count_expiry, events);
		assert_int_equal(sim.a.out.wire.count, sent < 5 ? 1 : 0);
		assert_int_equal(events[XF_SA_EVENT_SOFT_EXPIRE], sent >= 3 ? 1 : 0);
	}
	assert_int_equal(events[XF_SA_EVENT_HARD_EXPIRE], 1);
	sim_fini(&sim);
}

static void junk_is_counted_once(void **state)
{
	struct sim sim;

	(void)state;
	sim_init(&sim, 12);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t len = 1 + sim_random(&sim, 100);
		struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(sim.b.worker), len);
		uint8_t *p = xf_pkt_append(pkt, len);

		for (uint32_t k = 0; k < len; k++)
			p[k] = (uint8_t)sim_random(&sim, 256);
		if (i & 1)
			p[0] = i & 2 ? 0x45 : 0x60;
		sim_in(&sim, &sim.b, pkt);
		assert_int_equal(sim.b.in.deliver.count, 0);
		assert_int_equal(sim_all_drops(&sim.b), i + 1);
	}
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tunnel_both_families),
		cmocka_unit_test(verdicts_out),
		cmocka_unit_test(asked_for),
		cmocka_unit_test(neighbours_with_other_policies),
		cmocka_unit_test(optional_template_without_sa_goes_clear),
		cmocka_unit_test(verdicts_in),
		cmocka_unit_test(own_selector_of_the_sa),
		cmocka_unit_test(transport_mode_local),
		cmocka_unit_test(too_big),
		cmocka_unit_test(large_datagrams_are_cut),
		cmocka_unit_test(icmp_is_believed_for_live_spis_only),
		cmocka_unit_test(nested_bundle),
		cmocka_unit_test(fragments_meet_port_policies),
		cmocka_unit_test(fragments_hide_their_protocol),
		cmocka_unit_test(inner_fragments_keep_to_their_sa),
		cmocka_unit_test(inner_fragments_leave_as_they_came),
		cmocka_unit_test(limits_are_told_and_kept),
		cmocka_unit_test(junk_is_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
