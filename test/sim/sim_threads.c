/*
 * The provider that has threads, under an engine that a thread moves packets through while
 * another one replaces its SAs: every packet is delivered or counted, in its order.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "daemon/crypto_threads.h"
#include "sim.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PACKETS 30000
#else
#define PACKETS 300000
#endif
#define BATCH 16
/* One thread replaces SAs as often as packets go, not as time does, and the other one waits. */
#define REKEYS 200
#define EACH (PACKETS / REKEYS)
#define AHEAD 3
#define THREADS 3

static struct sim sim;
static _Atomic unsigned wakes;
static _Atomic bool finished;
static _Atomic unsigned sent;
static _Atomic unsigned rekeyed;
static unsigned delivered;
static unsigned disordered;

static void wake(void *arg)
{
	(void)arg;
	atomic_fetch_add(&wakes, 1);
}

static void check_order(struct xf_pktq *q, uint32_t *last)
{
	struct xf_pkt *pkt;
	uint8_t tag[4];

	while ((pkt = xf_pktq_pop(q))) {
		xf_pkt_copy_out(pkt, 28, tag, sizeof(tag));
		disordered += xf_get_be32(tag) <= *last;
		*last = xf_get_be32(tag);
		delivered++;
		xf_pkt_free(pkt);
	}
}

static void send_batch(struct xf_pktq *q, uint32_t *tag)
{
	for (unsigned i = 0; i < BATCH; i++) {
		struct sim_udp udp = { .src = "192.168.1.9",
				       .dst = "192.168.2.9",
				       .len = 100 + *tag % 900,
				       .tag = *tag + 1 };

		++*tag;
		xf_pktq_push(q, sim_udp(&sim.a, &udp));
		sent++;
	}
}

/* What left host A reaches host B, as bytes. */
static void carry(struct xf_pktq *wire, struct xf_pktq *to)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(wire))) {
		struct xf_pkt *copy = xf_pkt_new(xf_worker_pool(sim.b.worker), pkt->len);

		assert_non_null(copy);
		xf_pkt_copy_out(pkt, 0, xf_pkt_append(copy, pkt->len), pkt->len);
		xf_pktq_push(to, copy);
		xf_pkt_free(pkt);
	}
}

static bool may_send(void)
{
	return sent < PACKETS && sent < EACH * (rekeyed + AHEAD);
}

static void *move_packets(void *arg)
{
	struct xf_path_result out = { 0 };
	struct xf_path_result in = { 0 };
	uint32_t tag = 0;
	uint32_t last = 0;

	(void)arg;
	xf_read_register();
	while (sent < PACKETS || xf_path_waiting(sim.a.worker) || xf_path_waiting(sim.b.worker)) {
		struct xf_pktq q = { .count = 0 };

		if (may_send() && !xf_path_busy(sim.a.worker) && !xf_path_busy(sim.b.worker)) {
			send_batch(&q, &tag);
			xf_path_out(sim.a.worker, &q, sim.now_ns, &out);
		}
		xf_path_poll(sim.a.worker, sim.now_ns, &out);
		carry(&out.wire, &q);
		xf_path_in(sim.b.worker, &q, sim.now_ns, &in);
		xf_path_poll(sim.b.worker, sim.now_ns, &in);
		check_order(&in.deliver, &last);
		xf_read_quiescent();
		sched_yield();
	}
	xf_read_unregister();
	atomic_store(&finished, true);
	return NULL;
}

/* New SAs come before the old ones go, as a rekey does it. */
static void replace_sas(unsigned *spi)
{
	struct sim_sa sa = { .spi = 0x1000 + ++*spi, .replay_window = 4096 };
	struct sim_host *hosts[] = { &sim.b, &sim.a };

	for (unsigned i = 0; i < 2; i++) {
		const struct xf_sa_id old = { .daddr = sim.b.addr4,
					      .spi = sa.spi - 2,
					      .proto = XF_IPPROTO_ESP,
					      .family = XF_AF_INET };
		struct xf_sad *sad = xf_engine_sad(hosts[i]->engine);
		struct xf_sa *gone = xf_sad_find_in(sad, &old, 0);

		sim_add_sa(&sim, hosts[i], &sa);
		if (gone && i == 0)
			xf_sad_del(sad, gone);
	}
	xf_rcu_drain();
}

static void packets_survive_rekeying(void **state)
{
	struct sim_sa like = { .replay_window = 4096 };
	unsigned spi = 0;
	pthread_t thread;

	(void)state;
	sim_init_with(&sim, &(struct sim_options){ .wake = { .fn = wake } }, 3);
	sim.provider = &xf_provider_threads;
	sim_add_tunnel(&sim, &like);
	assert_int_equal(pthread_create(&thread, NULL, move_packets, NULL), 0);
	/* This thread writes only: it is no reader while it waits for grace periods. */
	xf_read_unregister();
	while (!atomic_load(&finished)) {
		if (spi < REKEYS && atomic_load(&sent) >= EACH * spi) {
			replace_sas(&spi);
			atomic_store(&rekeyed, spi);
		}
		sched_yield();
	}
	assert_true(spi > REKEYS - AHEAD);
	xf_read_register();
	pthread_join(thread, NULL);
	assert_int_equal(disordered, 0);
	assert_int_equal(sent, delivered + sim_all_drops(&sim.a) + sim_all_drops(&sim.b));
	assert_true(delivered > sent / 2);
	assert_true(atomic_load(&wakes) > 0);
	sim_fini(&sim);
}

static int start(void **state)
{
	(void)state;
	return xf_crypto_threads_start(THREADS, XF_CRYPTO_THREADS_NONE);
}

static int stop(void **state)
{
	(void)state;
	xf_crypto_threads_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_survive_rekeying),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
