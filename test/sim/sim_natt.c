/*
 * Transport mode in UDP through a NAT: the checksums of what is inside were computed over other
 * addresses (RFC 3948 s3.1.2).
 */
#include "sim.h"

#define NAT "198.51.100.7"

/* A and B with a transport SA in UDP; for B, A is the NAT. */
static void set_up(struct sim *sim, uint16_t port)
{
	struct sim_sa sa = { .transport = true, .encap_port = port, .spi = 0x1000 };
	struct sim_policy policy = {
		.src = "10.0.0.1", .dst = "10.0.0.2", .dir = XF_DIR_OUT, .transport = true
	};

	sim_init(sim, 31);
	sim_add_sa(sim, &sim->a, &sa);
	sim_add_policy(sim, &sim->a, &policy);
	sim_add_sa(sim, &sim->b, &sa);
	policy.dir = XF_DIR_IN;
	policy.src = NAT;
	sim_add_policy(sim, &sim->b, &policy);
	policy.src = "10.0.0.1";
	sim_add_policy(sim, &sim->b, &policy);
}

static void set_csum(struct xf_pkt *pkt, uint32_t at)
{
	union xf_addr src = sim_addr("10.0.0.1"), dst = sim_addr("10.0.0.2");
	uint8_t *field = xf_pkt_writable(pkt, at, 2);
	uint8_t scratch;
	uint8_t proto = *xf_pkt_peek(pkt, 9, 1, &scratch);
	uint64_t sum = xf_csum_pseudo(&src, &dst, XF_AF_INET, proto, pkt->len - 20);

	xf_put_be16(field, xf_csum_fold(xf_pkt_csum(pkt, 20, pkt->len - 20, sum)));
}

/* The NAT between A and B gives the outer packet another source. */
static void translate(struct xf_pktq *wire)
{
	union xf_addr nat = sim_addr(NAT);
	uint8_t *hdr = xf_pkt_writable(wire->head, 0, 20);

	memcpy(hdr + 12, nat.bytes, 4);
	xf_ipv4_set_csum(hdr, 20);
}

/* Complete what was left: the checksum over the addresses that the packet has now is right. */
static void check_delivered(struct xf_pkt *pkt, const char *src, uint16_t offset)
{
	union xf_addr a = sim_addr(src), b = sim_addr("10.0.0.2");
	uint8_t scratch[2], proto_byte;
	uint8_t proto = *xf_pkt_peek(pkt, 9, 1, &proto_byte);
	uint64_t pseudo = xf_csum_pseudo(&a, &b, XF_AF_INET, proto, pkt->len - 20);

	assert_int_equal(pkt->csum_start, 20);
	assert_int_equal(pkt->csum_offset, offset);
	assert_int_equal(xf_get_be16(xf_pkt_peek(pkt, 20u + offset, 2, scratch)),
			 (uint16_t)~xf_csum_fold(pseudo));
}

static void carry(struct sim *sim, const struct sim_udp *udp, uint32_t csum_at)
{
	struct xf_pkt *pkt = sim_udp(&sim->a, udp);

	if (csum_at)
		set_csum(pkt, csum_at);
	sim_out(sim, &sim->a, pkt);
	assert_int_equal(sim->a.out.wire.count, 1);
	translate(&sim->a.out.wire);
	sim_carry(sim, &sim->a, &sim->b);
	assert_int_equal(sim->b.in.deliver.count, 1);
}

static void checksums_are_renewed(void **state)
{
	struct sim_udp udp = { .src = "10.0.0.1",
			       .dst = "10.0.0.2",
			       .sport = 1701,
			       .dport = 1701,
			       .len = 133,
			       .tag = 99 };
	struct sim sim;

	(void)state;
	set_up(&sim, 4500);
	carry(&sim, &udp, 26);
	check_delivered(sim.b.in.deliver.head, NAT, 6);
	udp.proto = XF_IPPROTO_TCP;
	carry(&sim, &udp, 36);
	check_delivered(sim.b.in.deliver.head, NAT, 16);
	/* Too short for a header: as it came. */
	udp.len = 39;
	carry(&sim, &udp, 36);
	assert_int_equal(sim.b.in.deliver.head->csum_start, 0);
	sim_drain(&sim.b.in.deliver);
	assert_int_equal(sim_all_drops(&sim.b), 0);
	sim_fini(&sim);
}

static void no_checksum_stays_none(void **state)
{
	const struct sim_udp udp = { .src = "10.0.0.1", .dst = "10.0.0.2", .len = 100 };
	uint8_t scratch[2];
	struct sim sim;

	(void)state;
	set_up(&sim, 4500);
	carry(&sim, &udp, 0);
	assert_int_equal(sim.b.in.deliver.head->csum_start, 0);
	assert_int_equal(xf_get_be16(xf_pkt_peek(sim.b.in.deliver.head, 26, 2, scratch)), 0);
	sim_drain(&sim.b.in.deliver);
	sim_fini(&sim);
}

/* No NAT can have changed what is not in UDP: a wrong checksum stays wrong. */
static void native_esp_is_not_trusted_with_it(void **state)
{
	const struct sim_udp udp = {
		.src = "10.0.0.1", .dst = "10.0.0.2", .len = 100, .proto = XF_IPPROTO_TCP
	};
	uint8_t scratch[2];
	struct sim sim;

	(void)state;
	set_up(&sim, 0);
	sim_out(&sim, &sim.a, sim_udp(&sim.a, &udp));
	sim_carry(&sim, &sim.a, &sim.b);
	assert_int_equal(sim.b.in.deliver.count, 1);
	assert_int_equal(sim.b.in.deliver.head->csum_start, 0);
	assert_int_equal(xf_get_be16(xf_pkt_peek(sim.b.in.deliver.head, 36, 2, scratch)), 0);
	sim_drain(&sim.b.in.deliver);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums_are_renewed),
		cmocka_unit_test(no_checksum_stays_none),
		cmocka_unit_test(native_esp_is_not_trusted_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
