/*
 * Two engines in one process that have nothing in common: one or several workers each, windows with
 * and without slack. One of them is destroyed while the other one's workers send and receive.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <xf/huge.h>

#include "path/worker.h"
#include "sim.h"

#define WORKERS 4
#define BATCH 40
#define MORE_SAS 200 /* of more than one slab */
#define WINDOW 64
#define SHARED_SPI 0x1000u
#define OWN_SPI 0x2000u /* of worker 0 */
#define MORE_SPI 0x10000u

/* That each worker does at least. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 5
#define ALL_PAIRS false
#else
#define ROUNDS 60
#define ALL_PAIRS true
#endif

/* Bytes that are not given back; any thread may ask. */
static _Atomic size_t huge_bytes, secret_bytes;

static void *count_alloc(void *arg, size_t size)
{
	void *mem = aligned_alloc(XF_CACHE_LINE, (size + 63) & ~(size_t)63);

	if (mem)
		atomic_fetch_add((_Atomic size_t *)arg, size);
	return mem ? memset(mem, 0, size) : NULL;
}

static void count_free(void *arg, void *mem, size_t size)
{
	atomic_fetch_sub((_Atomic size_t *)arg, size);
	free(mem);
}

struct side;

struct job {
	pthread_t thread;
	struct xf_worker *worker;
	struct side *side;
	unsigned number;
	uint64_t delivered; /* by its own SA */
};

/* An engine under load. */
struct side {
	struct sim_host *host;
	unsigned nworkers;
	uint32_t slack;
	struct xf_sa *shared; /* all workers send by it */
	struct xf_policy *policy; /* that wants it */
	struct xf_sa *own[WORKERS];
	struct job jobs[WORKERS];
	_Atomic uint64_t sent; /* by the shared SA */
	_Atomic uint64_t wired;
	_Atomic unsigned rounds;
	_Atomic bool stop; /* once each has done its ROUNDS */
};

static struct sim sim;

/* --- What an engine has --- */

static void add_way(struct side *side, uint32_t spi, uint32_t reqid, const char *to,
		    struct xf_sa **sa, struct xf_policy **policy)
{
	const struct sim_sa like = { .spi = spi, .reqid = reqid, .replay_window = WINDOW };
	struct sim_policy wants = { .src = "192.168.1.0/24", .dst = to, .reqid = reqid };

	*sa = sim_add_sa(&sim, side->host, &like);
	wants.dir = XF_DIR_FWD;
	sim_add_policy(&sim, side->host, &wants);
	wants.dir = XF_DIR_OUT;
	*policy = sim_add_policy(&sim, side->host, &wants);
}

static void add_ways(struct side *side)
{
	struct xf_policy *policy;
	char to[32];

	add_way(side, SHARED_SPI, 1, "192.168.2.0/24", &side->shared, &side->policy);
	for (unsigned i = 0; i < side->nworkers; i++) {
		snprintf(to, sizeof(to), "192.168.%u.0/24", 10 + i);
		add_way(side, OWN_SPI + i, 10 + i, to, &side->own[i], &policy);
	}
	for (unsigned i = 0; i < MORE_SAS; i++) {
		const struct sim_sa more = { .spi = MORE_SPI + i, .reqid = 100 };

		sim_add_sa(&sim, side->host, &more);
	}
}

/* The host's own worker where it is the only one; else that one has nothing to do. */
static void open_workers(struct side *side)
{
	const struct xf_worker_config cfg = {
		.pool = { .packets = 2048, .small_bufs = 2048, .large_bufs = 4 }, .ordered = true
	};

	for (unsigned i = 0; i < side->nworkers; i++) {
		struct job *job = &side->jobs[i];

		*job = (struct job){ .side = side, .number = i, .worker = side->host->worker };
		if (side->nworkers > 1)
			job->worker = xf_worker_new(side->host->engine, &cfg);
		assert_non_null(job->worker);
		assert_int_equal(job->worker->alone, side->nworkers == 1);
	}
	if (side->nworkers == 1)
		assert_null(xf_worker_new(side->host->engine, &cfg));
}

static void close_workers(struct side *side)
{
	for (unsigned i = 0; side->nworkers > 1 && i < side->nworkers; i++)
		xf_worker_free(side->jobs[i].worker);
}

/* --- What workers do --- */

static void fill(const struct job *job, struct xf_pktq *q, unsigned net)
{
	char dst[32];

	snprintf(dst, sizeof(dst), "192.168.%u.9", net);
	for (unsigned i = 0; i < BATCH; i++) {
		struct sim_udp udp = { .src = "192.168.1.9", .dst = dst, .len = 100 + i };

		xf_pktq_push(q, sim_udp_from(job->worker, &udp));
	}
}

/* What its own SA has protected comes back at once; all else is on the wire. */
static void leave(struct job *job, struct xf_pkt *pkt, struct xf_pktq *back)
{
	struct xf_pkt *copy = NULL;
	uint8_t spi[4];

	xf_pkt_copy_out(pkt, 20, spi, sizeof(spi));
	if (xf_get_be32(spi) == OWN_SPI + job->number) {
		copy = xf_pkt_new(xf_worker_pool(job->worker), pkt->len);
		assert_non_null(copy);
		xf_pkt_copy_out(pkt, 0, xf_pkt_append(copy, pkt->len), pkt->len);
		xf_pktq_push(back, copy);
	} else if (xf_get_be32(spi) == SHARED_SPI) {
		atomic_fetch_add(&job->side->wired, 1);
	}
	xf_pkt_free(pkt);
}

static void leave_all(struct job *job, struct xf_path_result *res)
{
	struct xf_pktq back = { .count = 0 };
	struct xf_pkt *pkt;

	do {
		while ((pkt = xf_pktq_pop(&res->wire)))
			leave(job, pkt, &back);
	} while (xf_path_sent(job->worker, res));
	if (back.count == 0)
		return;
	xf_path_in(job->worker, &back, sim.now_ns, res);
	do
		job->delivered += sim_drain(&res->deliver);
	while (xf_path_sent(job->worker, res));
}

static void one_round(struct job *job, struct xf_path_result *res)
{
	struct xf_pktq q = { .count = 0 };

	while (xf_path_busy(job->worker))
		sched_yield();
	fill(job, &q, 2);
	atomic_fetch_add(&job->side->sent, BATCH);
	xf_path_out(job->worker, &q, sim.now_ns, res);
	leave_all(job, res);
	fill(job, &q, 10 + job->number);
	xf_path_out(job->worker, &q, sim.now_ns, res);
	leave_all(job, res);
}

static void *work(void *arg)
{
	struct job *job = arg;
	struct xf_path_result res = { 0 };

	xf_read_register();
	for (unsigned i = 0; i < ROUNDS || !atomic_load(&job->side->stop); i++) {
		one_round(job, &res);
		atomic_fetch_add(&job->side->rounds, 1);
		xf_read_quiescent();
		sched_yield();
	}
	xf_read_unregister();
	return NULL;
}

static void start(struct side *side)
{
	for (unsigned i = 0; i < side->nworkers; i++)
		assert_int_equal(pthread_create(&side->jobs[i].thread, NULL, work, &side->jobs[i]),
				 0);
}

static void end(struct side *side)
{
	atomic_store(&side->stop, true);
	xf_read_offline();
	for (unsigned i = 0; i < side->nworkers; i++)
		pthread_join(side->jobs[i].thread, NULL);
	xf_read_online();
}

/* --- What must be so --- */

#define REVERSED 200u

/* Packets come back in the other order: the window alone takes so many, slack takes them all. */
static void *check_slack(void *arg)
{
	struct side *side = arg;
	struct xf_pktq frames = { .count = 0 };
	struct job *job = &side->jobs[0];
	struct xf_path_result res = { 0 };
	struct xf_pkt *all[REVERSED];
	uint64_t delivered = 0;
	unsigned n = 0;

	xf_read_register();
	for (unsigned i = 0; i < REVERSED / BATCH; i++) {
		struct xf_pktq q = { .count = 0 };

		fill(job, &q, 2);
		xf_path_out(job->worker, &q, sim.now_ns, &res);
		assert_int_equal(res.wire.count, BATCH);
		while (res.wire.count)
			all[n++] = xf_pktq_pop(&res.wire);
		xf_path_sent(job->worker, &res);
	}
	assert_int_equal(n, REVERSED);
	while (n > 0) {
		xf_pktq_push(&frames, all[--n]);
		if (n % BATCH)
			continue;
		xf_path_in(job->worker, &frames, sim.now_ns, &res);
		do
			delivered += sim_drain(&res.deliver);
		while (xf_path_sent(job->worker, &res));
	}
	assert_int_equal(delivered, side->slack ? REVERSED : WINDOW);
	assert_int_equal(sim_drops(side->host, XF_DROP_IN_STATE_SEQ), REVERSED - delivered);
	xf_read_unregister();
	return NULL;
}

/* No number twice and none left out, and nobody's packet was counted over. */
static void check_numbers(struct side *side)
{
	const uint64_t sent = REVERSED + atomic_load(&side->sent);
	const uint64_t in = side->slack ? REVERSED : WINDOW;
	struct xf_sa_replay_state replay;
	struct xf_lifetime_now now;

	assert_int_equal(atomic_load(&side->wired), atomic_load(&side->sent));
	xf_sa_get_replay_state(side->shared, &replay);
	assert_int_equal(replay.seq_out, sent);
	xf_sa_lifetime_now(side->shared, &now);
	assert_int_equal(now.packets, sent + in);
	xf_policy_lifetime_now(side->policy, &now);
	assert_int_equal(now.packets, sent);
	for (unsigned i = 0; i < side->nworkers; i++) {
		xf_sa_lifetime_now(side->own[i], &now);
		assert_true(side->jobs[i].delivered >= (uint64_t)ROUNDS * BATCH);
		assert_int_equal(now.packets, 2 * side->jobs[i].delivered);
	}
	assert_int_equal(sim_all_drops(side->host), REVERSED - in);
}

struct kind {
	unsigned nworkers;
	uint32_t slack;
};

/* In the place of an engine that has gone. A worker is one thread's at a time: never this one's. */
static void open_side(struct side *side, const struct kind *kind)
{
	pthread_t thread;

	side->nworkers = kind->nworkers;
	side->slack = kind->slack;
	sim.options.replay_slack = kind->slack;
	sim.options.one_worker = kind->nworkers == 1;
	sim_host_again(&sim, side->host);
	add_ways(side);
	open_workers(side);
	assert_int_equal((xf_sa_form(side->shared)->what & XF_FORM_ALONE) != 0,
			 side->nworkers == 1);
	assert_int_equal(pthread_create(&thread, NULL, check_slack, side), 0);
	xf_read_offline();
	pthread_join(thread, NULL);
	xf_read_online();
}

static void free_host(struct sim_host *host)
{
	xf_worker_free(host->worker);
	xf_engine_free(host->engine);
}

/* With SAs that have just left the tables: readers may have them still. */
static void destroy(struct side *side)
{
	struct xf_sad *sad = xf_engine_sad(side->host->engine);

	check_numbers(side);
	close_workers(side);
	for (unsigned i = 0; i < MORE_SAS; i += 2) {
		const struct xf_sa_id id = { .daddr = sim.b.addr4,
					     .spi = MORE_SPI + i,
					     .family = XF_AF_INET,
					     .proto = XF_IPPROTO_ESP };

		assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &id, 0)), 0);
	}
	free_host(side->host);
}

/* The workers of @side go on, whoever has gone. */
static void wait_for_rounds(struct side *side)
{
	unsigned until = atomic_load(&side->rounds) + 3 * side->nworkers;

	xf_read_offline();
	while (atomic_load(&side->rounds) < until)
		sched_yield();
	xf_read_online();
}

/* Changes go on, too: SAs come and go in the one that is left. */
static void change(struct side *side)
{
	struct xf_sad *sad = xf_engine_sad(side->host->engine);
	const struct sim_sa like = { .spi = MORE_SPI + MORE_SAS, .reqid = 100 };

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(xf_sad_del(sad, sim_add_sa(&sim, side->host, &like)), 0);
		xf_rcu_drain();
	}
}

static void one_of_each(const struct kind *stays_as, const struct kind *goes_as)
{
	struct side stays = { .host = &sim.a }, goes = { .host = &sim.b };
	size_t huge, secret;

	sim_init(&sim, 7);
	free_host(&sim.a);
	free_host(&sim.b);
	open_side(&stays, stays_as);
	start(&stays);
	xf_rcu_drain();
	huge = atomic_load(&huge_bytes);
	secret = atomic_load(&secret_bytes);
	open_side(&goes, goes_as);
	assert_true(atomic_load(&secret_bytes) > secret);
	start(&goes);
	end(&goes);
	destroy(&goes);
	assert_int_equal(atomic_load(&huge_bytes), huge);
	assert_int_equal(atomic_load(&secret_bytes), secret);
	wait_for_rounds(&stays);
	change(&stays);
	wait_for_rounds(&stays);
	end(&stays);
	check_numbers(&stays);
	close_workers(&stays);
	sim_host_again(&sim, &sim.b);
	sim_fini(&sim);
}

static void one_goes_under_the_others_load(void **state)
{
	static const struct kind kinds[] = { { 1, 0 }, { 1, 4096 }, { 4, 0 }, { 4, 4096 } };

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(kinds); i++)
		for (unsigned k = 0; k < XF_ARRAY_SIZE(kinds); k++)
			if (ALL_PAIRS || i + k == XF_ARRAY_SIZE(kinds) - 1)
				one_of_each(&kinds[i], &kinds[k]);
}

int main(void)
{
	const struct xf_huge_ops huge = { count_alloc, count_free, &huge_bytes };
	const struct xf_secret_ops secret = { count_alloc, count_free, &secret_bytes };
	const struct CMUnitTest tests[] = { cmocka_unit_test(one_goes_under_the_others_load) };

	xf_huge_set_ops(&huge);
	xf_secret_set_ops(&secret);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
