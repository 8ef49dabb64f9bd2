/*
 * The MSS that a SYN announces behind a tunnel, and the least MTU that senders are told.
 */
#include "sim.h"

static struct xf_pkt *syn(struct sim_host *host, const char *src, const char *dst, uint16_t mss)
{
	const struct sim_udp tcp = {
		.src = src, .dst = dst, .proto = XF_IPPROTO_TCP, .len = strchr(src, ':') ? 64 : 44
	};
	struct xf_pkt *pkt = sim_udp(host, &tcp);
	uint8_t *p = xf_pkt_writable(pkt, tcp.len - 24, 24);

	p[12] = 0x60;
	p[13] = 0x02;
	p[20] = 2;
	p[21] = 4;
	xf_put_be16(p + 22, mss);
	return pkt;
}

/* What the SYN says at B, that A was given with @mss. */
static uint16_t announced(struct sim *sim, const char *src, const char *dst, uint16_t mss)
{
	uint8_t value[2];

	sim_out(sim, &sim->a, syn(&sim->a, src, dst, mss));
	assert_int_equal(sim->a.out.wire.count, 1);
	sim_carry(sim, &sim->a, &sim->b);
	assert_int_equal(sim->b.in.deliver.count, 1);
	xf_pkt_copy_out(sim->b.in.deliver.head, sim->b.in.deliver.head->len - 2, value, 2);
	sim_drain(&sim->b.in.deliver);
	return xf_get_be16(value);
}

static uint64_t clamped(struct sim *sim)
{
	struct xf_engine_stats stats;

	xf_engine_get_stats(sim->a.engine, &stats);
	return stats.mss_clamped;
}

/* The inner MTU of AES-GCM over IPv4 is 1446 of 1500 bytes (RFC 4303: 20 + 8 + 8 + 2 + 16). */
static void is_what_the_tunnel_takes(void **state)
{
	struct sim sim;

	(void)state;
	sim_init(&sim, 41);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	assert_int_equal(announced(&sim, "192.168.1.5", "192.168.2.5", 1460), 1406);
	assert_int_equal(announced(&sim, "2001:db8:1::5", "2001:db8:2::5", 1440), 1386);
	assert_int_equal(clamped(&sim), 2);
	assert_int_equal(announced(&sim, "192.168.1.5", "192.168.2.5", 1406), 1406);
	assert_int_equal(announced(&sim, "192.168.1.5", "192.168.2.5", 536), 536);
	assert_int_equal(clamped(&sim), 2);
	sim_fini(&sim);
}

/* What no policy wants is none of ours. */
static void in_clear_nothing_changes(void **state)
{
	uint8_t value[2];
	struct sim sim;

	(void)state;
	sim_init(&sim, 42);
	sim_out(&sim, &sim.a, syn(&sim.a, "192.168.1.5", "192.168.2.5", 1460));
	assert_int_equal(sim.a.out.clear.count, 1);
	xf_pkt_copy_out(sim.a.out.clear.head, 42, value, 2);
	assert_int_equal(xf_get_be16(value), 1460);
	assert_int_equal(clamped(&sim), 0);
	sim_drain(&sim.a.out.clear);
	sim_fini(&sim);
}

/* A router that says 68: Linux believes 552, and tells its own senders what is left of that. */
static void a_liar_is_told_on(void **state)
{
	const struct sim_udp big = {
		.src = "192.168.1.5", .dst = "192.168.2.5", .len = 1400, .df = true
	};
	struct xf_sa *sa;
	uint8_t icmp[8];
	struct sim sim;

	(void)state;
	sim_init(&sim, 43);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	sa = xf_sad_find_in(xf_engine_sad(sim.a.engine),
			    &(struct xf_sa_id){ .daddr = sim.b.addr4,
						.spi = 0x1000,
						.proto = XF_IPPROTO_ESP,
						.family = XF_AF_INET },
			    0);
	assert_non_null(sa);
	xf_sa_learn_mtu(sa, 68, sim.now_ns + XF_NSEC_PER_SEC);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &big));
	assert_int_equal(sim.a.out.reply.count, 1);
	xf_pkt_copy_out(sim.a.out.reply.head, 0, icmp, sizeof(icmp));
	assert_int_equal(xf_get_be16(icmp + 6), 498);
	sim_drain(&sim.a.out.reply);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_what_the_tunnel_takes),
		cmocka_unit_test(in_clear_nothing_changes),
		cmocka_unit_test(a_liar_is_told_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
