/*
 * Four ordered workers with one SA of a toy that joins two packets to one and holds some until the
 * tick, and with a cipher that answers late: each in turn, at random, in this one thread. Numbers
 * on the wire count up by one, and every flow is delivered in its order. sim_workers.c has the same
 * in four threads.
 */
#include "late.h"
#include "sim.h"
#include "toy.h"

static struct sim sim;

#define WORKERS 4
#define EACH 500

static struct xf_worker *workers[WORKERS];
static uint16_t next_number; /* of the wire */

static void take_wire(struct xf_path_result *res, struct xf_pktq *wire)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(&res->wire))) {
		uint8_t number[2];

		xf_pkt_copy_out(pkt, XF_IPV4_HDR_LEN + 2, number, sizeof(number));
		assert_int_equal(xf_get_be16(number), next_number++);
		xf_pktq_push(wire, pkt);
	}
}

/* One call of worker @i, and all that leaves by its hand. */
static void work(unsigned i, uint32_t *sent, struct xf_path_result *res, struct xf_pktq *wire)
{
	struct xf_pktq q = { .count = 0 };
	unsigned n = sim_random(&sim, 40);

	switch (sim_random(&sim, 3)) {
	case 0:
		xf_path_tick(workers[i], sim.now_ns, res);
		break;
	case 1:
		xf_path_poll(workers[i], sim.now_ns, res);
		break;
	default:
		while (n-- && *sent < EACH && !xf_path_busy(workers[i])) {
			struct sim_udp udp = { .src = "10.0.0.1",
					       .dst = "10.0.0.2",
					       .sport = (uint16_t)i,
					       .len = 120,
					       .tag = *sent };

			(*sent)++;
			xf_pktq_push(&q, sim_udp_from(workers[i], &udp));
		}
		xf_path_out(workers[i], &q, sim.now_ns, res);
	}
	sim.now_ns += TOY_WAIT_NS / 4;
	do
		take_wire(res, wire);
	while (xf_path_sent(workers[i], res));
}

static bool any_waits(void)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (xf_path_waiting(workers[i]))
			return true;
	return false;
}

static void make_workers(struct sim_host *host)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct xf_worker_config cfg = {
			.pool = { .packets = 2048, .small_bufs = 2048, .large_bufs = 4 },
			.ordered = true,
		};

		workers[i] = xf_worker_new(host->engine, &cfg);
		assert_non_null(workers[i]);
	}
}

static void free_workers(void)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		struct xf_pool_stats stats;

		assert_false(xf_path_busy(workers[i]));
		xf_pool_get_stats(xf_worker_pool(workers[i]), &stats);
		assert_int_equal(stats.packets_free, 2048);
		assert_int_equal(stats.small_free, 2048);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		xf_worker_free(workers[i]);
}

/* Each flow is what its worker has sent, in its order. */
static void check_flows(struct xf_pktq *delivered)
{
	uint32_t next[WORKERS] = { 0 };
	struct xf_pkt *pkt;

	assert_int_equal(delivered->count, WORKERS * EACH);
	while ((pkt = xf_pktq_pop(delivered))) {
		uint8_t bytes[32];
		unsigned flow;

		xf_pkt_copy_out(pkt, 0, bytes, sizeof(bytes));
		flow = xf_get_be16(bytes + XF_IPV4_HDR_LEN);
		assert_true(flow < WORKERS);
		assert_int_equal(xf_get_be32(bytes + 28), next[flow]++);
		xf_pkt_free(pkt);
	}
}

/* The wire to workers of B, batch by batch, each to whoever it happens to be. */
static void receive(struct xf_pktq *wire, struct xf_pktq *delivered)
{
	struct xf_turn turn = { .now = 0 };
	uint64_t number = 0;

	while (wire->count || any_waits()) {
		unsigned i = sim_random(&sim, WORKERS);
		const struct xf_path_ticket ticket = { .turn = &turn, .number = number };
		struct xf_path_result res = { 0 };
		struct xf_pktq q = { .count = 0 };

		for (unsigned k = sim_random(&sim, 40);
		     k && wire->count && !xf_path_busy(workers[i]); k--) {
			struct xf_pkt *pkt = xf_pktq_pop(wire);
			struct xf_pkt *mine = xf_pkt_new(xf_worker_pool(workers[i]), pkt->len);

			xf_pkt_copy_out(pkt, 0, xf_pkt_append(mine, pkt->len), pkt->len);
			xf_pkt_free(pkt);
			xf_pktq_push(&q, mine);
		}
		if (q.count) {
			number++;
			xf_path_in_ordered(workers[i], &q, &ticket, sim.now_ns, &res);
		} else {
			xf_path_poll(workers[i], sim.now_ns, &res);
		}
		do
			xf_pktq_append(delivered, &res.deliver);
		while (xf_path_sent(workers[i], &res));
	}
}

static void four_ordered_workers_and_a_late_cipher(void **state)
{
	struct xf_pktq wire = { .count = 0 }, delivered = { .count = 0 };
	struct xf_path_result res[WORKERS];
	uint32_t sent[WORKERS] = { 0 };
	struct xf_worker *senders[WORKERS];
	struct sim_sa sa = toy_sa(TOY_PAIRS);

	(void)state;
	memset(res, 0, sizeof(res));
	sim_init_with(&sim, &(struct sim_options){ .replay_slack = 4096 }, 11);
	sim.provider = &late_provider;
	toy_add_way(&sim, &sa, 0, 0);
	make_workers(&sim.a);
	next_number = 0;
	for (unsigned round = 0; round < 4000; round++) {
		unsigned i = round % WORKERS;

		work(i, &sent[i], &res[i], &wire);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(sent[i], EACH);
	assert_false(any_waits());
	assert_int_equal(sim_all_drops(&sim.a), 0);
	/* Pairs there were, and single ones: else the holds were for nothing. */
	assert_true(wire.count > WORKERS * EACH / 2 && wire.count < WORKERS * EACH * 3 / 4);
	memcpy(senders, workers, sizeof(workers));
	make_workers(&sim.b);
	receive(&wire, &delivered);
	assert_int_equal(sim_all_drops(&sim.b), 0);
	check_flows(&delivered);
	free_workers();
	memcpy(workers, senders, sizeof(workers));
	free_workers();
	sim_fini(&sim);
}

static int setup(void **state)
{
	(void)state;
	toy_register();
	late_set_chance(50);
	return xf_crypto_register(&late_provider);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four_ordered_workers_and_a_late_cipher),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
