/*
 * bench_cores.c - one engine on one and on two workers with one SA, beside two threads of the
 * cipher's library: how much of what a second core could bring is left.
 *
 * A round is a number of packets that one or two threads work off in batches: whoever is free takes
 * the next batch. Out, a batch is made from a header and a text that stays as it is in the
 * buffers; in, it is copied out of frames that one worker encrypted before, as the kernel
 * would copy it, and the SA's window is set back before each round. What leaves is looked at where
 * it leaves, between the call that hands it over and xf_path_sent(), in every measured round; the
 * logs are checked between rounds (order_log.h).
 *
 * Slices of raw and engine, on one and on two threads, take turns. Rows are printed as JSON.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xf/ip.h>
#include <xf/rcu.h>

#include "order_log.h"
#include "raw.h"
#include "world.h"

#define THREADS 2
#define BATCH 64
#define FLOWS 8 /* inner ones */
#define ROUND_BYTES (8u << 20) /* of frames: they stay in a shared cache */
#define ROUND_PACKETS 16384u
#define SLICE_NS 4000000u /* short: what disturbs one slice shall disturb its neighbour too */
#define WARM_UP 4 /* pairs, until the cores have their pace */
#define PAIRS_MAX 1001
#define HEADER_LEN 28 /* IPv4 and UDP */
#define SEQ_AT 24 /* outer IPv4 header, SPI */
#define POOL 4096

/* What the threads do in a round. */
enum job { RAW, MAKE, ENGINE, JOBS };

/* One engine; [0] for one worker, which is alone, [1] for two. */
struct side {
	struct world world;
	struct xf_worker *workers[THREADS];
	struct xf_turn turn; /* of the source that the frames are read from */
	uint64_t tickets; /* taken in earlier rounds */
};

struct thread {
	pthread_t id;
	unsigned index;
	unsigned core;
	struct raw *raw;
	uint8_t *texts; /* BATCH of them */
	struct order_log log;
	uint64_t start_ns, end_ns; /* of the round */
	double packets, cpu_ns; /* of the slice */
	uint64_t foreign; /* packets of the other worker that it sent */
} __attribute__((aligned(128)));

struct figures {
	double rate[JOBS][THREADS][PAIRS_MAX]; /* packets a second */
	double cpu_rate[JOBS][THREADS][PAIRS_MAX]; /* the same if no core had had other work */
	double gain[JOBS][PAIRS_MAX]; /* two threads over one */
	double cpu_gain[JOBS][PAIRS_MAX];
};

static struct bench {
	struct side sides[2];
	struct thread threads[THREADS];
	struct figures figures;
	struct order_found found;
	uint64_t lost;
	unsigned pairs;
	bool out;
	uint32_t text;
	uint32_t inner; /* bytes of an inner packet */
	uint32_t frame; /* bytes of an outer one */
	uint32_t packets; /* of a round */
	uint8_t header[HEADER_LEN];
	uint8_t *frames;
	/* The round that is under way. */
	enum job job;
	unsigned nthreads;
	bool over;
	pthread_barrier_t barrier;
	_Atomic unsigned ready __attribute__((aligned(128)));
	_Atomic uint32_t next __attribute__((aligned(128))); /* batch */
} bench;

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void pin(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	bench_must(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

/* --- What a thread does in a round --- */

/* False: none is left. */
static bool take_batch(struct thread *thread, uint32_t *number)
{
	*number = atomic_fetch_add_explicit(&bench.next, 1, memory_order_relaxed);
	if (*number >= bench.packets / BATCH)
		return false;
	thread->packets += BATCH;
	return true;
}

static void work_raw(struct thread *thread)
{
	struct raw_text texts[BATCH];
	uint32_t number;

	for (unsigned i = 0; i < BATCH; i++) {
		texts[i].data = thread->texts + (size_t)i * XF_POOL_SMALL;
		texts[i].len = bench.text;
	}
	while (take_batch(thread, &number))
		raw_work(thread->raw, texts, BATCH, bench.out);
}

static void make(struct xf_pool *pool, uint32_t number, struct xf_pktq *queue)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		uint32_t len = bench.out ? bench.inner : bench.frame;
		struct xf_pkt *pkt = xf_pkt_new(pool, len);
		uint8_t *data;

		bench_must(pkt != NULL, "xf_pkt_new");
		data = xf_pkt_append(pkt, len);
		if (bench.out)
			memcpy(data, bench.header, HEADER_LEN);
		else
			memcpy(data, bench.frames + (size_t)(number * BATCH + i) * bench.frame,
			       bench.frame);
		pkt->family = XF_AF_INET;
		pkt->local = true;
		xf_pktq_push(queue, pkt);
	}
}

/* What is around the engine, by itself. */
static void work_make(struct thread *thread)
{
	struct xf_pool *pool = xf_worker_pool(bench.sides[1].workers[thread->index]);
	struct xf_pktq queue = { 0 };
	struct xf_pkt *pkt;
	uint32_t number;

	xf_pool_enter(pool);
	while (take_batch(thread, &number)) {
		make(pool, number, &queue);
		while ((pkt = xf_pktq_pop(&queue)))
			xf_pkt_free(pkt);
	}
}

/* Here packets are on the wire, or delivered. */
static void send_all(struct thread *thread, struct xf_path_result *res, const struct xf_pool *mine)
{
	struct xf_pktq *queue = bench.out ? &res->wire : &res->deliver;
	uint32_t at = bench.out ? SEQ_AT : HEADER_LEN;
	struct xf_pkt *pkt;
	uint8_t scratch[4];

	if (!queue->head)
		return;
	order_log_begin(&thread->log, bench_now_ns());
	while ((pkt = xf_pktq_pop(queue))) {
		order_log_word(&thread->log, xf_get_be32(xf_pkt_peek(pkt, at, 4, scratch)));
		thread->foreign += pkt->pool != mine;
		xf_pkt_free(pkt);
	}
	order_log_end(&thread->log, bench_now_ns());
}

static void work_engine(struct thread *thread)
{
	struct side *side = &bench.sides[bench.nthreads - 1];
	struct xf_worker *worker = side->workers[thread->index];
	struct xf_pool *pool = xf_worker_pool(worker);
	struct xf_path_result res = { 0 };
	struct xf_path_ticket ticket = { .turn = &side->turn };
	struct xf_pktq queue = { 0 };
	uint32_t number;

	for (;;) {
		/* A batch that was taken is owed: none is taken while there is no room for it. */
		while (xf_path_busy(worker))
			XF_SPIN_RELAX();
		if (!take_batch(thread, &number))
			break;
		make(pool, number, &queue);
		ticket.number = side->tickets + number;
		if (bench.out)
			xf_path_out(worker, &queue, thread->start_ns, &res);
		else
			xf_path_in_ordered(worker, &queue, bench.nthreads > 1 ? &ticket : NULL,
					   thread->start_ns, &res);
		do
			send_all(thread, &res, pool);
		while (xf_path_sent(worker, &res));
		xf_read_quiescent();
	}
}

static void work(struct thread *thread)
{
	static void (*const jobs[JOBS])(struct thread * thread) = {
		[RAW] = work_raw,
		[MAKE] = work_make,
		[ENGINE] = work_engine,
	};
	uint64_t before;

	/* Both are awake before either begins. */
	atomic_fetch_add(&bench.ready, 1);
	while (atomic_load(&bench.ready) < bench.nthreads)
		sched_yield();
	before = cpu_ns();
	thread->start_ns = bench_now_ns();
	jobs[bench.job](thread);
	thread->end_ns = bench_now_ns();
	thread->cpu_ns += (double)(cpu_ns() - before);
}

/* --- Rounds and slices; the first thread is main's own --- */

static void *second(void *arg)
{
	struct thread *thread = arg;

	pin(thread->core);
	xf_read_register();
	for (;;) {
		xf_read_offline();
		pthread_barrier_wait(&bench.barrier);
		xf_read_online();
		if (bench.over)
			break;
		work(thread);
		pthread_barrier_wait(&bench.barrier);
	}
	xf_read_unregister();
	return NULL;
}

static void forget_window(struct xf_sa *sa)
{
	struct xf_sa_replay_state state;

	xf_sa_get_replay_state(sa, &state);
	state.seq_in = 0;
	state.nwords = 0;
	state.bitmap = 0;
	xf_sa_set_replay_state(sa, &state);
}

static void check_round(void)
{
	struct order_log logs[THREADS] = { bench.threads[0].log, bench.threads[1].log };
	uint64_t before = bench.found.packets;

	order_check(logs, THREADS, bench.out ? 0 : FLOWS, &bench.found);
	bench.lost += bench.packets - (bench.found.packets - before);
	for (unsigned i = 0; i < THREADS; i++)
		bench.threads[i].log = logs[i];
}

/* Returns how long it took, from the first one's start to the last one's end. */
static double run_round(void)
{
	struct side *side = &bench.sides[bench.nthreads - 1];
	uint64_t start = UINT64_MAX, end = 0;

	atomic_store(&bench.ready, 0);
	atomic_store(&bench.next, 0);
	if (!bench.out)
		forget_window(side->world.sas[0]);
	if (bench.nthreads > 1)
		pthread_barrier_wait(&bench.barrier);
	work(&bench.threads[0]);
	if (bench.nthreads > 1)
		pthread_barrier_wait(&bench.barrier);
	for (unsigned i = 0; i < bench.nthreads; i++) {
		const struct thread *thread = &bench.threads[i];

		start = thread->start_ns < start ? thread->start_ns : start;
		end = thread->end_ns > end ? thread->end_ns : end;
	}
	if (bench.job == ENGINE) {
		side->tickets += bench.packets / BATCH;
		check_round();
	}
	return (double)(end - start);
}

static void slice(enum job job, unsigned nthreads, unsigned index)
{
	struct figures *figures = &bench.figures;
	double wall_ns = 0, packets = 0, cpu_rate = 0;

	bench.job = job;
	bench.nthreads = nthreads;
	for (unsigned i = 0; i < nthreads; i++)
		bench.threads[i].packets = bench.threads[i].cpu_ns = 0;
	while (wall_ns < SLICE_NS)
		wall_ns += run_round();
	for (unsigned i = 0; i < nthreads; i++) {
		packets += bench.threads[i].packets;
		/* A thread that was kept from running has taken little or nothing. */
		if (bench.threads[i].packets > 0)
			cpu_rate += bench.threads[i].packets / bench.threads[i].cpu_ns * 1e9;
	}
	figures->rate[job][nthreads - 1][index] = packets / wall_ns * 1e9;
	figures->cpu_rate[job][nthreads - 1][index] = cpu_rate;
}

static void all_slices(unsigned index)
{
	struct figures *f = &bench.figures;

	for (unsigned job = 0; job < JOBS; job++) {
		slice((enum job)job, 1, index);
		slice((enum job)job, 2, index);
		f->gain[job][index] = f->rate[job][1][index] / f->rate[job][0][index];
		f->cpu_gain[job][index] = f->cpu_rate[job][1][index] / f->cpu_rate[job][0][index];
	}
}

/* --- Rows --- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_head(const char *name, const char *metric, const char *better)
{
	printf("{\"bench\":\"cores\",\"case\":\"%s\",\"dir\":\"%s\",\"suite\":\"gcm128\","
	       "\"plaintext\":%u,\"sas\":1,\"flows\":%u,\"policies\":16,\"temp\":\"hot\","
	       "\"family\":4,\"traffic\":\"one size\",\"metric\":\"%s\",\"better\":\"%s\",",
	       name, bench.out ? "out" : "in", bench.text, bench.out ? 1 : FLOWS, metric, better);
}

/* The pairs' own, in the middle: what slows the machine slows both. */
static double ratio_of(const double *value, const double *base)
{
	double ratios[PAIRS_MAX];

	for (unsigned i = 0; i < bench.pairs; i++)
		ratios[i] = value[i] / base[i];
	qsort(ratios, bench.pairs, sizeof(double), compare);
	return ratios[bench.pairs / 2];
}

/* @values and @bases have one for each pair, in their order, and keep it. */
static void print_row(const char *name, const char *metric, const double *values,
		      const double *bases)
{
	double value[PAIRS_MAX], base[PAIRS_MAX];
	unsigned n = bench.pairs;

	memcpy(value, values, n * sizeof(double));
	qsort(value, n, sizeof(double), compare);
	print_head(name, metric, "higher");
	printf("\"value\":%.4g,\"q1\":%.4g,\"q3\":%.4g,", value[n / 2], value[n / 4],
	       value[n * 3 / 4]);
	if (bases) {
		memcpy(base, bases, n * sizeof(double));
		qsort(base, n, sizeof(double), compare);
		printf("\"base\":\"raw\",\"base_value\":%.4g,\"base_q1\":%.4g,\"base_q3\":%.4g,"
		       "\"ratio\":%.3f,",
		       base[n / 2], base[n / 4], base[n * 3 / 4], ratio_of(values, bases));
	} else {
		printf("\"base\":null,\"base_value\":null,\"ratio\":null,");
	}
	printf("\"pairs\":%u}\n", n);
	fflush(stdout);
}

static void print_count(const char *name, const char *better, uint64_t count)
{
	print_head(name, "count", better);
	printf("\"value\":%llu,\"q1\":%llu,\"q3\":%llu,\"base\":null,\"base_value\":null,"
	       "\"ratio\":null,\"pairs\":%u}\n",
	       (unsigned long long)count, (unsigned long long)count, (unsigned long long)count,
	       bench.pairs);
}

static void report(void)
{
	struct figures *f = &bench.figures;

	print_row("two workers over one", "times", f->gain[ENGINE], f->gain[RAW]);
	print_row("two workers over one, CPU time", "times", f->cpu_gain[ENGINE], f->cpu_gain[RAW]);
	print_row("one worker", "packets/s", f->rate[ENGINE][0], f->rate[RAW][0]);
	print_row("two workers", "packets/s", f->rate[ENGINE][1], f->rate[RAW][1]);
	print_row("packets made and freed, one thread", "packets/s", f->rate[MAKE][0], NULL);
	if (bench.out) {
		print_count("sequence inversions", "zero", bench.found.inversions);
		print_count("dropped by a window of 32", "zero", bench.found.window_drops);
	} else {
		print_count("reordered packets", "zero", bench.found.reordered);
	}
	print_count("bursts that overlap", "zero", bench.found.overlaps);
	print_count("packets that did not come out", "zero", bench.lost);
	print_count("packets checked", "higher", bench.found.packets);
	print_count("packets sent by the other worker", "any",
		    bench.threads[0].foreign + bench.threads[1].foreign);
	fflush(stdout);
}

/* --- One direction and size --- */

/* One worker encrypts what all rounds read; the tag behind the header counts up. */
static void make_frames(void)
{
	struct xf_worker *worker = bench.sides[0].workers[0];
	struct xf_path_result res = { 0 };
	struct xf_pkt *pkt;
	uint32_t done = 0;

	bench.frame = 0;
	while (!bench.out && done < bench.packets) {
		struct xf_pktq queue = { 0 };

		for (unsigned i = 0; i < BATCH; i++) {
			uint8_t *data;

			pkt = world_packet(&bench.sides[0].world, bench.inner);
			data = pkt->segs[0].data;
			xf_put_be16(data + XF_IPV4_HDR_LEN,
				    (uint16_t)(1 + (done + i) / ORDER_RUN % FLOWS));
			xf_put_be32(data + HEADER_LEN, done + i);
			xf_pktq_push(&queue, pkt);
		}
		xf_path_out(worker, &queue, bench_now_ns(), &res);
		while ((pkt = xf_pktq_pop(&res.wire))) {
			if (!bench.frame) {
				bench.frame = pkt->len;
				bench.frames = malloc((size_t)bench.packets * pkt->len);
				bench_must(bench.frames != NULL, "malloc");
			}
			xf_pkt_copy_out(pkt, 0, bench.frames + (size_t)done++ * bench.frame,
					bench.frame);
			xf_pkt_free(pkt);
		}
		xf_read_quiescent();
	}
}

static void open_side(struct side *side, bool two)
{
	const struct world_config cfg = {
		.suite = "gcm128",
		.sas = 1,
		.policies = 16,
		.pool = { .packets = POOL, .small_bufs = POOL, .large_bufs = 4 },
		/* As the daemon does it. */
		.ordered = two,
		.replay_slack = two ? THREADS * XF_PATH_SLACK : 0,
	};
	const struct xf_worker_config other = { .pool = cfg.pool, .ordered = true };

	memset(side, 0, sizeof(*side));
	bench_must(world_init(&side->world, &cfg), "the suite");
	side->workers[0] = side->world.worker;
	if (!two)
		return;
	side->workers[1] = xf_worker_new(side->world.engine, &other);
	bench_must(side->workers[1] != NULL, "xf_worker_new");
}

static void close_side(struct side *side)
{
	if (side->workers[1])
		xf_worker_free(side->workers[1]);
	world_fini(&side->world);
}

static void measure(bool out, uint32_t text)
{
	struct xf_pkt *pkt;

	bench.out = out;
	bench.text = text;
	open_side(&bench.sides[0], false);
	open_side(&bench.sides[1], true);
	bench.inner = world_inner(&bench.sides[0].world, text);
	bench.packets = out ? ROUND_PACKETS : xf_min_u32(ROUND_PACKETS, ROUND_BYTES / text);
	bench.packets = bench.packets / BATCH * BATCH;
	pkt = world_packet(&bench.sides[0].world, bench.inner);
	xf_pkt_copy_out(pkt, 0, bench.header, HEADER_LEN);
	xf_pkt_free(pkt);
	make_frames();
	for (unsigned i = 0; i < WARM_UP; i++)
		all_slices(0); /* its place is written again */
	memset(&bench.found, 0, sizeof(bench.found));
	bench.lost = bench.threads[0].foreign = bench.threads[1].foreign = 0;
	for (unsigned i = 0; i < bench.pairs; i++)
		all_slices(i);
	report();
	free(bench.frames);
	bench.frames = NULL;
	close_side(&bench.sides[0]);
	close_side(&bench.sides[1]);
}

static bool find_cores(void)
{
	cpu_set_t set;
	unsigned n = 0;

	bench_must(sched_getaffinity(0, sizeof(set), &set) == 0, "sched_getaffinity");
	for (unsigned core = 0; core < CPU_SETSIZE && n < THREADS; core++)
		if (CPU_ISSET(core, &set))
			bench.threads[n++].core = core;
	return n == THREADS;
}

static bool open_threads(void)
{
	for (unsigned i = 0; i < THREADS; i++) {
		struct thread *thread = &bench.threads[i];

		thread->index = i;
		thread->raw = raw_new("gcm128");
		thread->texts = aligned_alloc(64, (size_t)BATCH * XF_POOL_SMALL);
		if (!thread->raw)
			return false;
		bench_must(thread->texts && order_log_init(&thread->log, ROUND_PACKETS), "malloc");
		memset(thread->texts, 0, (size_t)BATCH * XF_POOL_SMALL);
	}
	pthread_barrier_init(&bench.barrier, NULL, THREADS);
	return pthread_create(&bench.threads[1].id, NULL, second, &bench.threads[1]) == 0;
}

static void close_threads(void)
{
	bench.over = true;
	pthread_barrier_wait(&bench.barrier);
	pthread_join(bench.threads[1].id, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		raw_free(bench.threads[i].raw);
		free(bench.threads[i].texts);
		order_log_fini(&bench.threads[i].log);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fputs("usage: bench_cores PAIRS out|in BYTES\n", stderr);
		return 2;
	}
	bench.pairs = xf_min_u32((uint32_t)strtoul(argv[1], NULL, 10), PAIRS_MAX);
	if (!find_cores()) {
		fputs("bench_cores: two cores are needed\n", stderr);
		return 77;
	}
	pin(bench.threads[0].core);
	xf_read_register();
	if (!open_threads()) {
		fprintf(stderr, "bench_cores: %s has no AES-GCM here\n", raw_name);
		return 77;
	}
	measure(strcmp(argv[2], "out") == 0, (uint32_t)strtoul(argv[3], NULL, 10));
	close_threads();
	xf_read_unregister();
	return 0;
}
