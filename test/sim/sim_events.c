/*
 * Two workers whose rings of events have room for two, and 100,000 SAs that each reach a limit
 * with their first packet: each is told exactly once, soft or hard, by a control thread that looks
 * only when it is woken.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "sim.h"

#define SAS 100000
#define FIRST_SPI 0x1000
#define WORKERS 2
#define BATCH 32
#define ESP_BYTES 64

static struct sim sim;
static _Atomic unsigned wakes;
static _Atomic unsigned running;
/* By SA, and by what was told of it. */
static uint8_t told[SAS][3];

struct job {
	pthread_t thread;
	struct xf_worker *worker;
	bool down; /* from the last SA to the first one */
};

static void wake(void *arg)
{
	(void)arg;
	atomic_fetch_add(&wakes, 1);
}

static void random_bytes(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0x31, len);
}

/* It passes for SA @i's up to the ICV. */
static struct xf_pkt *esp_packet(struct xf_worker *worker, unsigned i)
{
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(worker), XF_IPV4_HDR_LEN + ESP_BYTES);
	uint8_t *p = xf_pkt_append(pkt, XF_IPV4_HDR_LEN + ESP_BYTES);

	memset(p, 0, XF_IPV4_HDR_LEN + ESP_BYTES);
	p[0] = 0x45;
	xf_put_be16(p + 2, XF_IPV4_HDR_LEN + ESP_BYTES);
	p[8] = 64;
	p[9] = XF_IPPROTO_ESP;
	memcpy(p + 12, sim.a.addr4.bytes, 4);
	memcpy(p + 16, sim.b.addr4.bytes, 4);
	xf_ipv4_set_csum(p, XF_IPV4_HDR_LEN);
	xf_put_be32(p + 20, FIRST_SPI + i);
	xf_put_be32(p + 24, 1);
	return pkt;
}

static void *receive_all(void *arg)
{
	struct job *job = arg;
	struct xf_path_result res = { 0 };

	xf_read_register();
	for (unsigned n = 0; n < SAS; n += BATCH) {
		struct xf_pktq q = { 0 };

		for (unsigned i = n; i < n + BATCH && i < SAS; i++)
			xf_pktq_push(&q, esp_packet(job->worker, job->down ? SAS - 1 - i : i));
		xf_path_in(job->worker, &q, sim.now_ns, &res);
		xf_read_quiescent();
		sched_yield();
	}
	assert_int_equal(res.deliver.count, 0);
	xf_read_unregister();
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void note(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	(void)arg;
	told[xf_sa_cfg(sa)->id.spi - FIRST_SPI][event]++;
}

static void look(struct xf_engine *engine)
{
	xf_engine_take_events(engine, NULL, NULL);
	while (xf_sad_expire(xf_engine_sad(engine), sim.now_ns, note, NULL) <= sim.now_ns)
		;
	xf_rcu_drain();
}

/* As a daemon: woken, or asleep. */
static void control(struct xf_engine *engine)
{
	unsigned seen = 0;

	for (bool last = false; !last;) {
		unsigned now = atomic_load(&wakes);

		last = atomic_load(&running) == 0 && now == atomic_load(&wakes) && now == seen;
		if (now != seen)
			look(engine);
		else
			sched_yield();
		seen = now;
	}
}

static struct xf_engine *engine_of(struct job *jobs)
{
	const struct xf_engine_config cfg = {
		.sad = { .random = random_bytes },
		.env = { .wake = wake },
	};
	const struct xf_worker_config worker = {
		.pool = { .packets = 512, .small_bufs = 512, .large_bufs = 4 },
		.ordered = true,
		.events = 2,
	};
	struct xf_engine *engine = xf_engine_new(&cfg);

	assert_non_null(engine);
	for (unsigned i = 0; i < WORKERS; i++) {
		jobs[i] = (struct job){ .down = i % 2 };
		jobs[i].worker = xf_worker_new(engine, &worker);
		assert_non_null(jobs[i].worker);
	}
	return engine;
}

/* Every other SA has a soft limit, the others a hard one. */
static void add_sas(struct sim_host *host)
{
	for (unsigned i = 0; i < SAS; i++) {
		struct sim_sa sa = { .spi = FIRST_SPI + i };

		sa.life = (struct xf_lifetime){ .soft_bytes = i % 2 ? XF_INF : 0,
						.soft_packets = XF_INF,
						.hard_bytes = XF_INF,
						.hard_packets = i % 2 ? 0 : XF_INF };
		sim_add_sa(&sim, host, &sa);
	}
}

static void each_expiry_once(void **state)
{
	struct job jobs[WORKERS];
	struct sim_host host = { .engine = engine_of(jobs) };

	(void)state;
	sim.now_ns = XF_NSEC_PER_SEC;
	sim.rng = 13;
	sim.a.addr4 = sim_addr("10.0.0.1");
	sim.b.addr4 = sim_addr("10.0.0.2");
	add_sas(&host);
	atomic_store(&running, WORKERS);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&jobs[i].thread, NULL, receive_all, &jobs[i]), 0);
	control(host.engine);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(jobs[i].thread, NULL);
	for (unsigned i = 0; i < SAS; i++) {
		assert_int_equal(told[i][XF_SA_EVENT_SOFT_EXPIRE], i % 2 == 0);
		assert_int_equal(told[i][XF_SA_EVENT_HARD_EXPIRE], i % 2);
		assert_int_equal(told[i][XF_SA_EVENT_LARVAL_EXPIRE], 0);
	}
	print_message("# %u expiries in %u wakes\n", SAS, atomic_load(&wakes));
	for (unsigned i = 0; i < WORKERS; i++)
		xf_worker_free(jobs[i].worker);
	xf_engine_free(host.engine);
	xf_rcu_drain();
}

/* A worker that ends has told of what nobody has taken yet. */
static void told_by_one_that_has_ended(void **state)
{
	struct job jobs[WORKERS];
	struct sim_host host = { .engine = engine_of(jobs) };
	struct sim_sa sa = { .spi = FIRST_SPI };
	struct xf_path_result res = { 0 };
	struct xf_pktq q = { 0 };

	(void)state;
	memset(told, 0, sizeof(told));
	sa.life = (struct xf_lifetime){ .soft_bytes = XF_INF,
					.soft_packets = XF_INF,
					.hard_bytes = XF_INF };
	sim_add_sa(&sim, &host, &sa);
	xf_pktq_push(&q, esp_packet(jobs[0].worker, 0));
	xf_path_in(jobs[0].worker, &q, sim.now_ns, &res);
	for (unsigned i = 0; i < WORKERS; i++)
		xf_worker_free(jobs[i].worker);
	look(host.engine);
	assert_int_equal(told[0][XF_SA_EVENT_HARD_EXPIRE], 1);
	xf_engine_free(host.engine);
	xf_rcu_drain();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_expiry_once),
		cmocka_unit_test(told_by_one_that_has_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
