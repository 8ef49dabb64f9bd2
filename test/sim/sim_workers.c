/*
 * Several workers with one SA and one source: numbers on the wire count up by one, whoever
 * encrypted the packet, and every inner flow is delivered in its order.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "sim.h"
#include "toy.h"

#define WORKERS 4
#define BATCH 40

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PACKETS 20000
#else
#define PACKETS 200000
#endif

static struct sim sim;
static const struct sim_options wide = { .replay_slack = WORKERS * 16 * BATCH };

/* Frames between A and B: what workers of A send, in that order, and those of B read. */
static struct {
	pthread_mutex_t lock;
	unsigned n;
	uint32_t len[PACKETS + 1000];
	uint8_t *bytes[PACKETS + 1000];
	uint32_t last_seq;
	unsigned inversions;
	/* The reading side. */
	atomic_flag reading;
	unsigned read;
	struct xf_turn turn;
	uint64_t tickets;
} wire = { .lock = PTHREAD_MUTEX_INITIALIZER, .reading = ATOMIC_FLAG_INIT };

/* What the packets are: of hosts, and how the wire numbers what protects them. */
static const struct kind {
	const char *src, *dst;
	uint32_t seq_off, seq_len;
	uint32_t lens; /* so many after each other have one length */
} esp_kind = { "192.168.1.9", "192.168.2.9", 24, 4, 1 },
  toy_kind = { "10.0.0.1", "10.0.0.2", 22, 2, 7 };
static const struct kind *kind = &esp_kind;

/* What is delivered: of each flow (the worker of A that sent it) the last tag. */
static struct {
	pthread_mutex_t lock;
	unsigned n;
	uint32_t last[WORKERS];
	unsigned reordered;
} delivered = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct job {
	pthread_t thread;
	struct xf_worker *worker;
	unsigned number;
	unsigned foreign; /* packets of other workers that it sent */
};
static struct job senders[WORKERS], receivers[WORKERS];

static void send_one(struct job *job, struct xf_pkt *pkt)
{
	uint32_t mask = kind->seq_len == 4 ? UINT32_MAX : UINT16_MAX;
	uint8_t bytes[4] = { 0 };
	uint32_t seq;

	job->foreign += pkt->pool != xf_worker_pool(job->worker);
	xf_pkt_copy_out(pkt, kind->seq_off, bytes + 4 - kind->seq_len, kind->seq_len);
	seq = xf_get_be32(bytes);
	pthread_mutex_lock(&wire.lock);
	wire.inversions += seq != ((wire.last_seq + 1) & mask);
	wire.last_seq = seq;
	wire.len[wire.n] = pkt->len;
	wire.bytes[wire.n] = malloc(pkt->len);
	xf_pkt_copy_out(pkt, 0, wire.bytes[wire.n], pkt->len);
	wire.n++;
	pthread_mutex_unlock(&wire.lock);
	xf_pkt_free(pkt);
}

static void send_all(struct job *job, struct xf_path_result *res)
{
	do {
		struct xf_pkt *pkt;

		while ((pkt = xf_pktq_pop(&res->wire)))
			send_one(job, pkt);
	} while (xf_path_sent(job->worker, res));
}

static void *send_packets(void *arg)
{
	struct job *job = arg;
	uint64_t now_ns = sim.now_ns;
	struct xf_path_result res = { 0 };
	uint32_t tag = 0;

	xf_read_register();
	while (tag < PACKETS / WORKERS) {
		struct xf_pktq q = { .count = 0 };

		while (xf_path_busy(job->worker))
			sched_yield();
		for (unsigned i = 0; i < BATCH && tag < PACKETS / WORKERS; i++) {
			struct sim_udp udp = { .src = kind->src,
					       .dst = kind->dst,
					       .sport = (uint16_t)job->number,
					       .len = 60 + tag / kind->lens % 300,
					       .tag = tag + 1 };

			tag++;
			xf_pktq_push(&q, sim_udp_from(job->worker, &udp));
		}
		xf_path_out(job->worker, &q, now_ns, &res);
		send_all(job, &res);
		/* What is held goes in every other round. */
		xf_path_tick(job->worker, now_ns += TOY_WAIT_NS / 2, &res);
		send_all(job, &res);
		xf_read_quiescent();
		sched_yield();
	}
	xf_path_tick(job->worker, now_ns + TOY_WAIT_NS, &res);
	send_all(job, &res);
	xf_read_unregister();
	return NULL;
}

/* Who finds the source taken goes on with something else. */
static bool read_some(struct job *job, struct xf_pktq *q, struct xf_path_ticket *ticket)
{
	if (atomic_flag_test_and_set(&wire.reading))
		return false;
	for (unsigned i = 0; i < BATCH && wire.read < wire.n; i++, wire.read++) {
		uint32_t len = wire.len[wire.read];
		struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(job->worker), len);

		assert_non_null(pkt);
		memcpy(xf_pkt_append(pkt, len), wire.bytes[wire.read], len);
		xf_pktq_push(q, pkt);
	}
	*ticket = (struct xf_path_ticket){ .turn = &wire.turn };
	if (q->count)
		ticket->number = wire.tickets++;
	atomic_flag_clear(&wire.reading);
	return q->count > 0;
}

static void deliver_one(struct job *job, struct xf_pkt *pkt)
{
	uint8_t inner[12];
	unsigned flow;

	job->foreign += pkt->pool != xf_worker_pool(job->worker);
	xf_pkt_copy_out(pkt, 20, inner, sizeof(inner));
	flow = xf_get_be16(inner);
	pthread_mutex_lock(&delivered.lock);
	delivered.reordered += xf_get_be32(inner + 8) != delivered.last[flow] + 1;
	delivered.last[flow] = xf_get_be32(inner + 8);
	delivered.n++;
	pthread_mutex_unlock(&delivered.lock);
	xf_pkt_free(pkt);
}

static bool all_delivered(void)
{
	bool all;

	pthread_mutex_lock(&delivered.lock);
	all = delivered.n + sim_all_drops(&sim.b) >= PACKETS / WORKERS * WORKERS;
	pthread_mutex_unlock(&delivered.lock);
	return all;
}

static void *receive_packets(void *arg)
{
	struct job *job = arg;
	struct xf_path_result res = { 0 };

	xf_read_register();
	while (!all_delivered()) {
		struct xf_pktq q = { .count = 0 };
		struct xf_path_ticket ticket;

		if (!xf_path_busy(job->worker) && read_some(job, &q, &ticket)) {
			xf_path_in_ordered(job->worker, &q, &ticket, sim.now_ns, &res);
			do {
				struct xf_pkt *pkt;

				while ((pkt = xf_pktq_pop(&res.deliver)))
					deliver_one(job, pkt);
			} while (xf_path_sent(job->worker, &res));
		}
		xf_read_quiescent();
		sched_yield();
	}
	xf_read_unregister();
	return NULL;
}

static void run(struct sim_host *host, struct job *jobs, void *(*func)(void *arg))
{
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct xf_worker_config cfg = {
			.pool = { .packets = 2048, .small_bufs = 2048, .large_bufs = 4 },
			.seed = { i, 1 },
			.ordered = true,
		};

		jobs[i].number = i;
		jobs[i].worker = xf_worker_new(host->engine, &cfg);
		assert_non_null(jobs[i].worker);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&jobs[i].thread, NULL, func, &jobs[i]), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(jobs[i].thread, NULL);
}

/* Everything is back where it belongs. */
static void end(struct job *jobs)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		struct xf_pool_stats stats;

		assert_false(xf_path_busy(jobs[i].worker));
		xf_pool_get_stats(xf_worker_pool(jobs[i].worker), &stats);
		assert_int_equal(stats.packets_free, 2048);
		assert_int_equal(stats.small_free, 2048);
		xf_worker_free(jobs[i].worker);
	}
}

/* --- Two workers by hand, in this thread --- */

static struct xf_worker *make_worker(struct sim_host *host)
{
	const struct xf_worker_config cfg = {
		.pool = { .packets = 512, .small_bufs = 512, .large_bufs = 4 }, .ordered = true
	};
	struct xf_worker *worker = xf_worker_new(host->engine, &cfg);

	assert_non_null(worker);
	return worker;
}

static void out_batch(struct xf_worker *worker, unsigned n, struct xf_path_result *res)
{
	struct xf_pktq q = { .count = 0 };

	for (unsigned i = 0; i < n; i++) {
		struct sim_udp udp = { .src = "192.168.1.9", .dst = "192.168.2.9", .len = 100 };

		xf_pktq_push(&q, sim_udp_from(worker, &udp));
	}
	xf_path_out(worker, &q, sim.now_ns, res);
}

/* Take what leaves: sequence numbers from @first on. Copies of the frames go to @frames. */
static unsigned take_wire(struct xf_path_result *res, uint32_t first, uint8_t frames[][200])
{
	struct xf_pkt *pkt;
	unsigned n = 0;

	for (; (pkt = xf_pktq_pop(&res->wire)); n++) {
		uint8_t *frame = frames[first + n];

		assert_true(pkt->len <= 200);
		xf_pkt_copy_out(pkt, 0, frame, pkt->len);
		assert_int_equal(xf_get_be32(frame + 24), first + n);
		xf_pkt_free(pkt);
	}
	return n;
}

static void in_batch(struct xf_worker *worker, uint64_t ticket, uint8_t frames[][200], unsigned n,
		     struct xf_path_result *res)
{
	const struct xf_path_ticket take = { .turn = &wire.turn, .number = ticket };
	struct xf_pktq q = { .count = 0 };

	for (unsigned i = 0; i < n; i++) {
		uint32_t len = xf_get_be16(frames[i] + 2);
		struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(worker), len);

		memcpy(xf_pkt_append(pkt, len), frames[i], len);
		xf_pktq_push(&q, pkt);
	}
	xf_path_in_ordered(worker, &q, &take, sim.now_ns, res);
}

static void free_two(struct xf_worker *one, struct xf_worker *two)
{
	struct xf_path_result res = { 0 };

	assert_false(xf_path_sent(one, &res));
	assert_false(xf_path_sent(two, &res));
	assert_false(xf_path_busy(one));
	assert_false(xf_path_busy(two));
	xf_worker_free(one);
	xf_worker_free(two);
}

static void who_is_early_waits_and_is_taken_along(void **state)
{
	static uint8_t frames[300][200];
	struct sim_sa like = { .replay_window = 32 };
	struct xf_path_result one = { 0 };
	struct xf_path_result two = { 0 };
	struct xf_worker *w1, *w2;

	(void)state;
	sim_init(&sim, 5);
	sim_add_tunnel(&sim, &like);
	w1 = make_worker(&sim.a);
	w2 = make_worker(&sim.a);
	/* 1 to 40 leave, 41 to 80 wait for them; 81 to 90 are behind those, not behind 40. */
	out_batch(w1, 40, &one);
	assert_int_equal(one.wire.count, 40);
	out_batch(w2, 40, &two);
	assert_int_equal(two.wire.count, 0);
	out_batch(w1, 10, &one);
	assert_int_equal(one.wire.count, 40);
	assert_int_equal(take_wire(&one, 1, frames), 40);
	/* The other one's leave by this one's hand, and with them those behind. */
	assert_true(xf_path_sent(w1, &one));
	assert_int_equal(take_wire(&one, 41, frames), 40);
	assert_false(xf_path_sent(w2, &two));
	assert_true(xf_path_sent(w1, &one));
	assert_int_equal(take_wire(&one, 81, frames), 10);
	assert_false(xf_path_sent(w1, &one));
	/* Nobody is before 91; 101 comes right behind it, from the same worker. */
	out_batch(w2, 10, &two);
	out_batch(w2, 70, &two);
	assert_int_equal(two.wire.count, 80);
	assert_int_equal(take_wire(&two, 91, frames), 80);
	free_two(w1, w2);
	sim_fini(&sim);
}

/* Without a reference of the parked ones the sanitizers see what is used after its end. */
static void an_sa_outlives_its_packets_that_wait(void **state)
{
	static uint8_t frames[300][200];
	struct sim_sa like = { .replay_window = 32 };
	struct xf_path_result one = { 0 };
	struct xf_path_result two = { 0 };
	struct xf_worker *w1, *w2;

	(void)state;
	sim_init(&sim, 5);
	sim_add_tunnel(&sim, &like);
	w1 = make_worker(&sim.a);
	w2 = make_worker(&sim.a);
	out_batch(w1, 40, &one);
	out_batch(w2, 40, &two);
	assert_int_equal(two.wire.count, 0);
	assert_true(xf_sad_flush(xf_engine_sad(sim.a.engine), 0) > 0);
	xf_rcu_drain();
	assert_int_equal(take_wire(&one, 1, frames), 40);
	assert_true(xf_path_sent(w1, &one));
	assert_int_equal(take_wire(&one, 41, frames), 40);
	assert_false(xf_path_sent(w1, &one));
	xf_rcu_drain();
	free_two(w1, w2);
	sim_fini(&sim);
}

static void batches_are_delivered_in_the_order_of_their_tickets(void **state)
{
	static uint8_t frames[300][200];
	struct sim_sa like = { .replay_window = 32 };
	struct xf_path_result out = { 0 };
	struct xf_path_result one = { 0 };
	struct xf_path_result two = { 0 };
	struct xf_worker *w1, *w2;

	(void)state;
	wire.turn = (struct xf_turn){ .now = 0 };
	sim_init_with(&sim, &(struct sim_options){ .replay_slack = 256 }, 5);
	sim_add_tunnel(&sim, &like);
	w1 = make_worker(&sim.b);
	w2 = make_worker(&sim.b);
	for (unsigned i = 0; i < 3; i++)
		out_batch(sim.a.worker, 40, &out);
	assert_int_equal(take_wire(&out, 1, frames), 120);
	/* The second batch is through first: it waits, and makes the first one no older. */
	in_batch(w2, 1, frames + 41, 40, &two);
	assert_int_equal(two.deliver.count, 0);
	in_batch(w1, 0, frames + 1, 40, &one);
	assert_int_equal(one.deliver.count, 40);
	sim_drain(&one.deliver);
	assert_true(xf_path_sent(w1, &one));
	assert_int_equal(sim_drain(&one.deliver), 40);
	/* One that brings nothing holds nobody up. */
	in_batch(w2, 3, frames + 81, 40, &two);
	assert_int_equal(two.deliver.count, 0);
	assert_false(xf_path_sent(w1, &one));
	in_batch(w1, 2, frames + 1, 40, &one);
	assert_int_equal(one.deliver.count, 0);
	assert_true(xf_path_sent(w1, &one));
	assert_int_equal(sim_drain(&one.deliver), 40);
	assert_false(xf_path_sent(w1, &one));
	assert_int_equal(sim_drops(&sim.b, XF_DROP_IN_STATE_SEQ), 40);
	free_two(w1, w2);
	sim_fini(&sim);
}

/* With the SAs and policies that are there. Returns how many packets were on the wire. */
static unsigned there_and_in_order(const struct kind *of, uint32_t first_seq)
{
	unsigned foreign = 0;
	unsigned n;

	kind = of;
	wire.n = wire.read = 0;
	wire.last_seq = first_seq - 1;
	wire.turn = (struct xf_turn){ .now = 0 };
	wire.tickets = 0;
	delivered.n = 0;
	memset(delivered.last, 0, sizeof(delivered.last));
	for (unsigned i = 0; i < WORKERS; i++)
		senders[i].foreign = receivers[i].foreign = 0;
	xf_read_unregister();
	run(&sim.a, senders, send_packets);
	assert_int_equal(wire.inversions, 0);
	run(&sim.b, receivers, receive_packets);
	assert_int_equal(delivered.reordered, 0);
	assert_int_equal(delivered.n, PACKETS / WORKERS * WORKERS);
	for (unsigned i = 0; i < WORKERS; i++)
		foreign += senders[i].foreign + receivers[i].foreign;
	/* It did happen: else nothing was tested. */
	print_message("# %u of %u packets left by another worker's hand\n", foreign,
		      wire.n + delivered.n);
	xf_read_register();
	end(senders);
	end(receivers);
	n = wire.n;
	for (unsigned i = 0; i < n; i++)
		free(wire.bytes[i]);
	return n;
}

static void one_sa_and_one_source_keep_their_order(void **state)
{
	struct sim_sa like = { .replay_window = 32, .flags = XF_SA_ESN };

	(void)state;
	sim_init_with(&sim, &wide, 5);
	sim_add_tunnel(&sim, &like);
	assert_int_equal(there_and_in_order(&esp_kind, 1), PACKETS / WORKERS * WORKERS);
	sim_fini(&sim);
}

/* Two become one and two again, and some are held until a tick. */
static void what_becomes_fewer_keeps_its_order(void **state)
{
	struct sim_sa sa = toy_sa(TOY_PAIRS);
	unsigned n;

	(void)state;
	toy_register();
	sim_init_with(&sim, &wide, 5);
	toy_add_way(&sim, &sa, 0, 0);
	n = there_and_in_order(&toy_kind, 0);
	print_message("# %u packets in %u\n", PACKETS / WORKERS * WORKERS, n);
	assert_true(n > PACKETS / 2 && n < PACKETS * 2 / 3);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_early_waits_and_is_taken_along),
		cmocka_unit_test(an_sa_outlives_its_packets_that_wait),
		cmocka_unit_test(batches_are_delivered_in_the_order_of_their_tickets),
		cmocka_unit_test(one_sa_and_one_source_keep_their_order),
		cmocka_unit_test(what_becomes_fewer_keeps_its_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
