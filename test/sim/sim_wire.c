/*
 * A wire that loses, reorders and duplicates: every packet that arrives within the window is
 * delivered once and unchanged, across the sequence number's 2^32 boundary too.
 */
#include <stdlib.h>

#include "sim.h"

#define PACKETS 4000
#define HELD 40

struct wire {
	struct xf_pkt *held[HELD];
	unsigned n;
	unsigned lost;
	unsigned doubled;
};

/* Tags of delivered packets, each of which must be new. */
static uint8_t seen[PACKETS];

static void check_delivered(struct sim *sim)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(&sim->b.in.deliver))) {
		uint8_t tag[4];
		uint32_t i;

		assert_int_equal(xf_pkt_copy_out(pkt, 28, tag, 4), 0);
		i = xf_get_be32(tag);
		assert_true(i < PACKETS);
		assert_int_equal(seen[i], 0);
		seen[i] = 1;
		xf_pkt_free(pkt);
	}
}

static void arrive(struct sim *sim, struct xf_pkt *pkt)
{
	sim_in(sim, &sim->b, pkt);
	check_delivered(sim);
}

/* Put @pkt on the wire: it may be lost, be doubled, and wait for up to HELD others. */
static void launch(struct sim *sim, struct wire *wire, struct xf_pkt *pkt)
{
	unsigned slot;

	if (sim_random(sim, 20) == 0) {
		wire->lost++;
		xf_pkt_free(pkt);
		return;
	}
	if (sim_random(sim, 20) == 0) {
		wire->doubled++;
		arrive(sim, xf_pkt_slice(pkt, 0, pkt->len));
	}
	if (wire->n < HELD) {
		wire->held[wire->n++] = pkt;
		return;
	}
	slot = sim_random(sim, HELD);
	arrive(sim, wire->held[slot]);
	wire->held[slot] = pkt;
}

static void run(const struct sim_sa *like, uint64_t start_seq, uint64_t seed)
{
	static const struct sim_udp udp = { .src = "192.168.1.5", .dst = "192.168.2.5" };
	struct xf_sa_replay_state at = { .seq_out = start_seq, .seq_in = start_seq };
	struct wire wire = { .n = 0 };
	struct xf_sa_stats stats;
	struct sim_sa sa = *like;
	struct xf_sa *out;
	struct xf_sa *in;
	struct sim sim;
	unsigned arrived = 0;

	sim_init(&sim, seed);
	memset(seen, 0, sizeof(seen));
	sa.spi = 0x1000;
	out = sim_add_sa(&sim, &sim.a, &sa);
	in = sim_add_sa(&sim, &sim.b, &sa);
	xf_sa_set_replay_state(out, &at);
	xf_sa_set_replay_state(in, &at);
	for (int dir = 0; dir < 2; dir++)
		sim_add_policy(&sim, dir ? &sim.b : &sim.a,
			       &(struct sim_policy){ .src = "192.168.1.0/24",
						     .dst = "192.168.2.0/24",
						     .dir = dir ? XF_DIR_FWD : XF_DIR_OUT });
	for (uint32_t i = 0; i < PACKETS; i++) {
		struct sim_udp one = udp;

		one.tag = i;
		one.len = 32 + sim_random(&sim, 1300);
		sim_out(&sim, &sim.a, sim_udp(&sim.a, &one));
		assert_int_equal(sim.a.out.wire.count, 1);
		launch(&sim, &wire, xf_pktq_pop(&sim.a.out.wire));
	}
	while (wire.n)
		arrive(&sim, wire.held[--wire.n]);
	for (unsigned i = 0; i < PACKETS; i++)
		arrived += seen[i];
	xf_sa_get_stats(in, &stats);
	/* The window is wider than the wire's disorder: all that was not lost has arrived. */
	if (sa.replay_window >= 512)
		assert_int_equal(arrived, PACKETS - wire.lost);
	assert_int_equal(arrived + sim_all_drops(&sim.b), PACKETS - wire.lost + wire.doubled);
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_STATE_SEQ) +
				 sim_drops(&sim.b, XF_DROP_IN_STATE_PROTO),
			 sim_all_drops(&sim.b));
	assert_int_equal(stats.replay + stats.replay_window + stats.integrity_failed,
			 sim_all_drops(&sim.b));
	sim_fini(&sim);
}

static void windows_and_loss(void **state)
{
	static const uint32_t windows[] = { 32, 512, 4096 };

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows); i++) {
		struct sim_sa sa = { .replay_window = windows[i] };

		run(&sa, 0, 100 + i);
		sa.flags = XF_SA_ESN;
		run(&sa, 0xffffffff - PACKETS / 2, 200 + i);
		run(&sa, 0x5ffffffff - PACKETS / 2, 300 + i);
	}
}

static void other_suites(void **state)
{
	struct sim_sa cbc = { .crypt = "cbc(aes)",
			      .key_bits = 256,
			      .auth = "hmac(sha256)",
			      .flags = XF_SA_ESN,
			      .replay_window = 512 };
	struct sim_sa null = { .crypt = "ecb(cipher_null)",
			       .auth = "hmac(sha1)",
			       .flags = XF_SA_ESN,
			       .replay_window = 512 };

	(void)state;
	run(&cbc, 0xffffffff - PACKETS / 2, 400);
	null.key_bits = 0;
	run(&null, 0xffffffff - PACKETS / 2, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_and_loss),
		cmocka_unit_test(other_suites),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
