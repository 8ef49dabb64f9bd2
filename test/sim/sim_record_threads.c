/*
 * SAs move between two gateways while two workers of each send and receive by all of them: no
 * number and no IV is given twice, none is left out, and no received packet is accepted twice.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <xf/freeze.h>

#include "records.h"

#include "sad/use.h"

#define TUNNELS 48
#define SAS (2 * TUNNELS) /* first those out, then those in */
#define SPI_FIRST 1000
#define WORKERS 2 /* of each gateway */
#define FRAMES 200 /* received, for each tunnel */
#define FRAME_MAX 160
#define BATCH 20
#define AT_ONCE 4 /* SAs that move together */
#define ROUNDS 8 /* of each worker, between two moves */
#define AHEAD (2 * ROUNDS) /* that a worker may be, of what is waited for */
#define NUMBERS_MAX 32768 /* of an SA */

static struct sim sim;
static struct sim_host second;
static struct rec_side a1, a2, b;
static struct rec_sa sas[SAS];
static _Atomic bool stop;

/* What was on the wire. */
static struct {
	pthread_mutex_t lock;
	struct rec_ivs *ivs;
	unsigned ivs_again, numbers_again, strange;
	unsigned count[TUNNELS];
	uint8_t seen[TUNNELS][NUMBERS_MAX];
} wire = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct {
	uint32_t len;
	uint8_t bytes[FRAME_MAX];
	_Atomic unsigned accepted;
} frames[TUNNELS][FRAMES];
/* So many were accepted, and so many may be tried: the second half when its SA has moved. */
static _Atomic unsigned taken[TUNNELS], offered[TUNNELS];
static _Atomic unsigned allowed; /* rounds of each worker */

struct job {
	pthread_t thread;
	struct xf_worker *worker;
	uint32_t rng;
	_Atomic unsigned rounds;
	unsigned sent, delivered;
};
static struct job jobs[2][WORKERS];

static uint32_t draw(struct job *job, uint32_t below)
{
	job->rng = job->rng * 1664525u + 1013904223u;
	return (job->rng >> 8) % below;
}

/* --- Out --- */

static void note_sent(struct job *job, struct xf_pkt *pkt)
{
	uint8_t esp[8 + 16];
	uint32_t spi, number;

	xf_pkt_copy_out(pkt, 20, esp, sizeof(esp));
	xf_pkt_free(pkt);
	spi = xf_get_be32(esp) - SPI_FIRST;
	number = xf_get_be32(esp + 4) - (uint32_t)rec_start(&sas[spi % SAS]) - 1;
	pthread_mutex_lock(&wire.lock);
	if (spi < TUNNELS && number < NUMBERS_MAX) {
		wire.ivs_again +=
			!rec_ivs_add(wire.ivs, sas[spi].spi, esp + 8, rec_iv_len(&sas[spi]));
		wire.numbers_again += wire.seen[spi][number]++ > 0;
		wire.count[spi]++;
	} else {
		wire.strange++;
	}
	pthread_mutex_unlock(&wire.lock);
	job->sent++;
}

static void send_some(struct job *job, struct xf_path_result *res)
{
	struct xf_pktq q = { .count = 0 };
	struct xf_pkt *pkt;

	for (unsigned i = 0; i < BATCH; i++)
		xf_pktq_push(&q, rec_packet(job->worker, draw(job, TUNNELS), false, i));
	xf_path_out(job->worker, &q, sim.now_ns, res);
	do {
		while ((pkt = xf_pktq_pop(&res->wire)))
			note_sent(job, pkt);
	} while (xf_path_sent(job->worker, res));
}

/* --- In --- */

static struct xf_pkt *some_frame(struct job *job)
{
	unsigned tunnel = draw(job, TUNNELS);
	unsigned number = atomic_load(&taken[tunnel]) + draw(job, 24);
	unsigned most = atomic_load(&offered[tunnel]);
	struct xf_pkt *pkt;

	if (number >= most)
		number = draw(job, most);
	pkt = xf_pkt_new(xf_worker_pool(job->worker), frames[tunnel][number].len);
	assert_non_null(pkt);
	memcpy(xf_pkt_append(pkt, frames[tunnel][number].len), frames[tunnel][number].bytes,
	       frames[tunnel][number].len);
	return pkt;
}

static void receive_some(struct job *job, struct xf_path_result *res)
{
	struct xf_pktq q = { .count = 0 };
	struct xf_pkt *pkt;

	for (unsigned i = 0; i < BATCH; i++)
		xf_pktq_push(&q, some_frame(job));
	xf_path_in(job->worker, &q, sim.now_ns, res);
	while ((pkt = xf_pktq_pop(&res->deliver))) {
		uint8_t tag[4];
		uint32_t frame;

		xf_pkt_copy_out(pkt, 28, tag, sizeof(tag));
		xf_pkt_free(pkt);
		frame = xf_get_be32(tag);
		atomic_fetch_add(&frames[frame / FRAMES][frame % FRAMES].accepted, 1);
		atomic_fetch_add(&taken[frame / FRAMES], 1);
		job->delivered++;
	}
}

static void *work(void *arg)
{
	struct xf_path_result res = { 0 };
	struct job *job = arg;

	xf_read_register();
	while (!atomic_load(&stop)) {
		if (atomic_load(&job->rounds) < atomic_load(&allowed)) {
			send_some(job, &res);
			receive_some(job, &res);
			atomic_fetch_add(&job->rounds, 1);
		}
		xf_read_quiescent();
		sched_yield();
	}
	xf_read_unregister();
	return NULL;
}

/* --- Setting up --- */

static void make_frames(unsigned tunnel)
{
	for (unsigned i = 0; i < FRAMES; i++) {
		struct xf_pkt *pkt;

		sim_out(&sim, b.host,
			rec_packet(b.host->worker, tunnel, true, tunnel * FRAMES + i));
		pkt = xf_pktq_pop(&b.host->out.wire);
		assert_non_null(pkt);
		assert_true(pkt->len <= FRAME_MAX);
		frames[tunnel][i].len = pkt->len;
		xf_pkt_copy_out(pkt, 0, frames[tunnel][i].bytes, pkt->len);
		xf_pkt_free(pkt);
	}
}

static void begin(void)
{
	sim_init_with(&sim, &(struct sim_options){ .replay_slack = 64 }, 1);
	sim_host_again(&sim, &second);
	rec_init(&a1, &sim.a);
	rec_init(&a2, &second);
	rec_init(&b, &sim.b);
	for (unsigned i = 0; i < SAS; i++) {
		sas[i] = (struct rec_sa){ .spi = SPI_FIRST + i,
					  .tunnel = i % TUNNELS,
					  .kind = i % REC_KINDS,
					  .reverse = i >= TUNNELS };
		rec_add(&a1, &sas[i]);
		rec_add(&b, &sas[i]);
	}
	for (unsigned i = 0; i < TUNNELS; i++) {
		rec_add_policies(&sim, &sim.a, i, false);
		rec_add_policies(&sim, &second, i, false);
		rec_add_policies(&sim, &sim.b, i, true);
		make_frames(i);
		offered[i] = FRAMES / 2;
	}
	wire.ivs = rec_ivs_new(NUMBERS_MAX);
}

static void start(struct sim_host *host, struct job *of)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct xf_worker_config cfg = {
			.pool = { .packets = 512, .small_bufs = 512, .large_bufs = 4 },
			.seed = { i, 1 },
			.ordered = true,
		};

		of[i].rng = i + (host == &second ? 77 : 5);
		of[i].worker = xf_worker_new(host->engine, &cfg);
		assert_non_null(of[i].worker);
		assert_int_equal(pthread_create(&of[i].thread, NULL, work, &of[i]), 0);
	}
}

static void join(struct job *of)
{
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(of[i].thread, NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		xf_worker_free(of[i].worker);
}

static void end(void)
{
	sim_drain(&b.host->out.wire);
	rec_ivs_free(wire.ivs);
	rec_fini(&a1);
	rec_fini(&a2);
	rec_fini(&b);
	xf_worker_free(second.worker);
	xf_engine_free(second.engine);
	sim_fini(&sim);
}

/* --- The control thread --- */

/* Returns when each has done @rounds more; they go on, but not for ever. */
static void let_them_work(unsigned rounds)
{
	static unsigned until;

	until += rounds;
	atomic_store(&allowed, until + AHEAD);
	for (unsigned i = 0; i < 2 * WORKERS; i++)
		while (atomic_load(&jobs[i % 2][i / 2].rounds) < until)
			sched_yield();
}

/* Ways of a tunnel in turn, far from each other. */
static void move_all(uint64_t *numbered)
{
	for (unsigned i = 0; i < SAS; i += AT_ONCE) {
		struct xf_sa *moving[AT_ONCE];

		let_them_work(ROUNDS);
		for (unsigned k = 0; k < AT_ONCE; k++)
			moving[k] = rec_find_in(&a1, &sas[(i + k) * 5 % SAS]);
		rec_move(&a1, &a2, moving, AT_ONCE);
		for (unsigned k = 0; k < AT_ONCE; k++) {
			const struct rec_sa *sa = &sas[(i + k) * 5 % SAS];

			numbered[sa - sas] = atomic_load(&moving[k]->begun);
			if (sa->reverse)
				atomic_store(&offered[sa->tunnel], FRAMES);
		}
	}
	let_them_work(8 * ROUNDS);
}

static void check_numbers(const uint64_t *numbered)
{
	assert_int_equal(wire.strange, 0);
	assert_int_equal(wire.ivs_again, 0);
	assert_int_equal(wire.numbers_again, 0);
	for (unsigned i = 0; i < SAS; i++) {
		uint64_t all = atomic_load(&rec_find_in(&a2, &sas[i])->begun);

		assert_int_equal(atomic_load(&rec_find_in(&a1, &sas[i])->begun), numbered[i]);
		if (i >= TUNNELS)
			continue;
		assert_true(all > numbered[i] && all < NUMBERS_MAX);
		assert_int_equal(wire.count[i], all);
		for (uint64_t number = 0; number < all; number++)
			assert_int_equal(wire.seen[i][number], 1);
	}
}

static void check_frames(void)
{
	for (unsigned i = 0; i < TUNNELS * FRAMES; i++)
		assert_in_range(atomic_load(&frames[i / FRAMES][i % FRAMES].accepted), 0, 1);
}

static void nothing_is_numbered_or_accepted_twice(void **state)
{
	static uint64_t numbered[SAS];

	(void)state;
	begin();
	start(&sim.a, jobs[0]);
	start(&second, jobs[1]);
	move_all(numbered);
	atomic_store(&stop, true);
	join(jobs[0]);
	join(jobs[1]);
	for (unsigned i = 0; i < 2; i++) {
		unsigned sent = jobs[i][0].sent + jobs[i][1].sent;
		unsigned delivered = jobs[i][0].delivered + jobs[i][1].delivered;

		print_message("# gateway %u: %u sent, %u delivered\n", i, sent, delivered);
		assert_true(sent > 0 && delivered > 0);
	}
	check_numbers(numbered);
	check_frames();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_numbered_or_accepted_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
