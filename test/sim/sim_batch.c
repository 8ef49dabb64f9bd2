/*
 * Captured packets whose neighbours in a batch are of another kind: each is protected as if it had
 * come alone.
 */
#include <stdlib.h>

#include <xf/ip.h>

#include "sim.h"

static void out_two(struct sim *sim, struct xf_pkt *first, struct xf_pkt *second)
{
	struct xf_pktq q = { 0 };

	xf_pktq_push(&q, first);
	xf_pktq_push(&q, second);
	xf_path_out(sim->a.worker, &q, sim->now_ns, &sim->a.out);
	assert_int_equal(q.count, 0);
}

static uint32_t spi_of(const struct xf_pkt *pkt)
{
	uint8_t spi[4];

	assert_int_equal(xf_pkt_copy_out(pkt, XF_IPV4_HDR_LEN, spi, sizeof(spi)), 0);
	return xf_get_be32(spi);
}

/* Two SAs for the one, one for the other, whichever comes first. */
static void bundles_of_different_depth(void **state)
{
	const struct sim_udp once = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };
	const struct sim_udp twice = { .src = "192.168.1.9", .dst = "192.168.3.9", .len = 100 };
	struct sim sim;

	(void)state;
	sim_init(&sim, 49);
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .spi = 0x1000, .reqid = 1 });
	sim_add_sa(&sim, &sim.a, &(struct sim_sa){ .spi = 0x2000, .reqid = 2 });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.2.0/24",
					     .dir = XF_DIR_OUT });
	sim_add_policy(&sim, &sim.a,
		       &(struct sim_policy){ .src = "192.168.1.0/24",
					     .dst = "192.168.3.0/24",
					     .dir = XF_DIR_OUT,
					     .outer_reqid = 2,
					     .outer_proto = XF_IPPROTO_ESP });
	for (unsigned i = 0; i < 2; i++) {
		out_two(&sim, sim_udp(&sim.a, i ? &once : &twice),
			sim_udp(&sim.a, i ? &twice : &once));
		assert_int_equal(sim.a.out.wire.count, 2);
		assert_int_equal(spi_of(sim.a.out.wire.head), i ? 0x1000 : 0x2000);
		assert_int_equal(spi_of(sim.a.out.wire.tail), i ? 0x2000 : 0x1000);
		sim_drain(&sim.a.out.wire);
	}
	assert_int_equal(sim_all_drops(&sim.a), 0);
	sim_fini(&sim);
}

/* The sum over the UDP datagram of @pkt and its pseudo-header (RFC 768): 0xffff, it is right. */
static uint32_t udp_sum(const struct xf_pkt *pkt)
{
	uint32_t len = pkt->len - XF_IPV4_HDR_LEN;
	uint32_t sum = XF_IPPROTO_UDP + len;
	uint8_t bytes[8 + 1024] = { 0 };

	assert_int_equal(xf_pkt_copy_out(pkt, 12, bytes, 8 + len), 0);
	for (uint32_t i = 0; i < 8 + len; i += 2)
		sum += xf_get_be16(bytes + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sender has left its checksum to the device: it is complete before anybody encrypts it. */
static void a_checksum_that_is_not_complete(void **state)
{
	const struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };
	const union xf_addr src = sim_addr(udp.src), dst = sim_addr(udp.dst);
	uint64_t pseudo = xf_csum_pseudo(&src, &dst, XF_AF_INET, XF_IPPROTO_UDP, udp.len - 20);
	struct xf_pkt *pkt;
	struct sim sim;

	(void)state;
	sim_init(&sim, 50);
	sim_add_tunnel(&sim, &(struct sim_sa){ .spi = 0 });
	pkt = sim_udp(&sim.a, &udp);
	xf_put_be16(xf_pkt_writable(pkt, 26, 2), (uint16_t)~xf_csum_fold(pseudo));
	pkt->csum_start = 20;
	pkt->csum_offset = 6;
	assert_int_not_equal(udp_sum(pkt), 0xffff);
	out_two(&sim, sim_udp(&sim.a, &udp), pkt);
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim.b.in.deliver.count, 2);
	assert_int_equal(udp_sum(sim.b.in.deliver.tail), 0xffff);
	sim_drain(&sim.b.in.deliver);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bundles_of_different_depth),
		cmocka_unit_test(a_checksum_that_is_not_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
