/*
 * bench_sad.c - ns per lookup in a SAD, per insert and per delete, and bytes per SA.
 *
 * The base is what memory itself costs: one load that depends on the one before, at random in a
 * region that no cache holds. Slices of it and of the lookups take turns; medians and quartiles of
 * the slices, and of their own ratios, count. Lookups of a "random" slice were never made before,
 * so that no cache knows their way. Rows are printed as JSON, one a line.
 */
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/thread/huge.h"
#include "daemon/thread/secret.h"
#include <sad/use.h>
#include <xf/rcu.h>

#include "world.h"

#define BATCH 64
#define PAIRS 15
#define ROUND 512u /* lookups whose questions are made beforehand, and fit a cache */
#define ROUNDS 96u /* in one slice */
#define CHASE_BYTES (256u << 20)
#define CHASE_LOADS 32768u
#define CHUNK 64u /* SAs that are added between two looks at the clock */
#define LOCAL_ADDRS 8u
#define SPI_MIN 0xc0000000u
#define SPI_MAX 0xcfffffffu
#define SPI_STEP 0x9e3779b1u /* odd, so that none comes twice */

enum traffic { RANDOM_SPIS, OUR_SPIS };
enum temp { RANDOM, ONE_FLOW, MISSES };

static const char *const traffic_names[] = { "random-spis", "our-spis" };
static const char *const temp_names[] = { "random", "one-flow", "misses" };

struct sample {
	double value[PAIRS];
	double base[PAIRS];
};

/* An outbound packet's question. */
struct ask {
	struct xf_tmpl tmpl;
	struct xf_flow flow;
	struct xf_sad_query query;
};

struct bench {
	/* Of the run. */
	uint32_t *chase;
	uint32_t at; /* in it */
	uint64_t random;
	struct xf_suite suite;
	/* Of the present SAD. */
	struct xf_sad *sad;
	uint32_t n;
	uint8_t family;
	bool out;
	enum traffic traffic;
	struct xf_sa **sas;
	uint32_t *spis;
	struct xf_sa_id *ids;
	struct ask *asks;
	uint64_t found;
};

static uint64_t rnd(struct bench *bench)
{
	uint64_t z = bench->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void random_bytes(void *arg, void *buf, size_t len)
{
	uint8_t *out = buf;

	while (len--)
		*out++ = (uint8_t)rnd(arg);
}

/* Of this thread: others may run in between, and shall not count. */
static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static size_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size, pages = 0;

	bench_must(file && fscanf(file, "%lu %lu", &size, &pages) == 2, "/proc/self/statm");
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* --- The base --- */

/* One cycle through all lines, so that no load can be guessed (Sattolo). */
static void chase_init(struct bench *bench)
{
	const uint32_t lines = CHASE_BYTES / XF_CACHE_LINE, step = XF_CACHE_LINE / 4;
	uint32_t *order = malloc(lines * sizeof(*order));

	bench->chase = xf_huge_alloc(CHASE_BYTES);
	bench_must(order && bench->chase, "memory");
	for (uint32_t i = 0; i < lines; i++)
		order[i] = i;
	for (uint32_t i = lines - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(rnd(bench) % i), was = order[i];

		order[i] = order[j];
		order[j] = was;
	}
	for (uint32_t i = 0; i < lines; i++)
		bench->chase[i * step] = order[i] * step;
	free(order);
}

static double chase_ns(struct bench *bench)
{
	uint64_t start = cpu_ns();
	uint32_t at = bench->at;

	for (uint32_t i = 0; i < CHASE_LOADS; i++)
		at = *(volatile uint32_t *)&bench->chase[at];
	bench->at = at;
	return (double)(cpu_ns() - start) / CHASE_LOADS;
}

/* --- SAs --- */

static void set_addr(const struct bench *bench, union xf_addr *addr, uint32_t net, uint32_t number)
{
	memset(addr, 0, sizeof(*addr));
	if (bench->family == XF_AF_INET) {
		xf_put_be32(addr->bytes, net << 24 | number);
		return;
	}
	xf_put_be32(addr->bytes, 0x20010db8);
	xf_put_be32(addr->bytes + 4, net);
	xf_put_be32(addr->bytes + 12, number);
}

static void set_ends(const struct bench *bench, uint32_t index, union xf_addr *daddr,
		     union xf_addr *saddr)
{
	set_addr(bench, bench->out ? saddr : daddr, 192, index % LOCAL_ADDRS);
	set_addr(bench, bench->out ? daddr : saddr, 10, index);
}

static struct xf_sa_config config_of(const struct bench *bench, uint32_t index)
{
	struct xf_sa_config cfg = {
		.id = { .spi = bench->spis[index],
			.family = bench->family,
			.proto = XF_IPPROTO_ESP },
		.reqid = 1 + index % 1000,
		.mode = XF_MODE_TUNNEL,
		.terms = { .sel = { .family = bench->family },
			   .life = { XF_INF, XF_INF, XF_INF, XF_INF, 0, 0, 0, 0 },
			   .suite = bench->suite,
			   .replay_window = 64,
			   .pcpu = UINT32_MAX },
	};

	set_ends(bench, index, &cfg.id.daddr, &cfg.saddr);
	return cfg;
}

static struct xf_sa *make(struct bench *bench, uint32_t index)
{
	const uint8_t cipher_key[XF_CIPHER_KEY_MAX + XF_SALT_MAX] = { 1, 2, (uint8_t)index };
	const uint8_t seed[XF_IVGEN_SEED] = { 1 };
	const struct xf_sa_config cfg = config_of(bench, index);
	struct xf_key *key;
	struct xf_sa *sa;

	bench_must(xf_key_new(&bench->suite, NULL, cipher_key, NULL, &key) == 0, "xf_key_new");
	sa = xf_sa_new(bench->sad, &cfg, key, XF_SA_VALID, seed, bench_now_ns());
	bench_must(sa != NULL, "xf_sa_new");
	return sa;
}

/* As an IKE daemon does: an SPI first, then the keys. */
static void add_with_our_spi(struct bench *bench, uint32_t index)
{
	const struct xf_sa_config cfg = config_of(bench, index);
	const struct xf_spi_request req = { &cfg, SPI_MIN, SPI_MAX, bench_now_ns() };
	struct xf_sa *sa;

	bench_must(xf_sad_alloc_spi(bench->sad, &req, &sa, NULL) == 0, "xf_sad_alloc_spi");
	bench->spis[index] = xf_sa_cfg(sa)->id.spi;
	sa = make(bench, index);
	bench_must(xf_sad_update(bench->sad, sa, &bench->sas[index]) == 0, "xf_sad_update");
}

/* --- Lookups --- */

static uint32_t pick(struct bench *bench, enum temp temp)
{
	return temp == ONE_FLOW ? bench->n / 2 : (uint32_t)(rnd(bench) % bench->n);
}

static void ask_in(struct bench *bench, enum temp temp)
{
	for (uint32_t i = 0; i < ROUND; i++) {
		uint32_t index = pick(bench, temp);
		struct xf_sa_id *id = &bench->ids[i];
		union xf_addr saddr;

		*id = (struct xf_sa_id){ .spi = bench->spis[index],
					 .family = bench->family,
					 .proto = XF_IPPROTO_ESP };
		set_ends(bench, index, &id->daddr, &saddr);
		if (temp == MISSES)
			id->spi = 1 + (uint32_t)(rnd(bench) % (SPI_MIN - 1));
	}
}

static void ask_out(struct bench *bench, enum temp temp)
{
	for (uint32_t i = 0; i < ROUND; i++) {
		uint32_t index = pick(bench, temp);
		struct ask *ask = &bench->asks[i];

		*ask = (struct ask){
			.tmpl = { .id = { .family = bench->family, .proto = XF_IPPROTO_ESP },
				  .reqid = 1 + index % 1000,
				  .mode = XF_MODE_TUNNEL },
			.flow = { .family = bench->family },
		};
		set_ends(bench, index, &ask->tmpl.id.daddr, &ask->tmpl.saddr);
		if (temp == MISSES)
			ask->tmpl.reqid += 1000;
		ask->query = (struct xf_sad_query){ .tmpl = &ask->tmpl,
						    .saddr = &ask->tmpl.saddr,
						    .daddr = &ask->tmpl.id.daddr,
						    .flow = &ask->flow };
	}
}

static void look_in(struct bench *bench, uint32_t from, struct xf_sa **out)
{
	static const uint32_t marks[BATCH];

	xf_sad_find_in_batch(bench->sad, bench->ids + from, marks, BATCH, out);
}

static void look_out(struct bench *bench, uint32_t from, struct xf_sa **out)
{
	struct xf_sad_query *queries[BATCH];

	for (unsigned i = 0; i < BATCH; i++)
		queries[i] = &bench->asks[from + i].query;
	xf_sad_find_out_batch(bench->sad, queries, BATCH, out, NULL);
}

static uint64_t round_ns(struct bench *bench)
{
	uint64_t start = cpu_ns();

	for (uint32_t i = 0; i < ROUND; i += BATCH) {
		struct xf_sa *out[BATCH];

		if (bench->out)
			look_out(bench, i, out);
		else
			look_in(bench, i, out);
		for (unsigned j = 0; j < BATCH; j++)
			bench->found += out[j] != NULL;
	}
	return cpu_ns() - start;
}

static double lookups_ns(struct bench *bench, enum temp temp)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (bench->out)
			ask_out(bench, temp);
		else
			ask_in(bench, temp);
		ns += round_ns(bench);
	}
	return (double)ns / (ROUNDS * ROUND);
}

/* --- Rows --- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_head(const struct bench *bench, const char *temp, const char *metric)
{
	printf("{\"bench\":\"lookup\",\"case\":\"sad\",\"sas\":%u,\"flows\":%u,\"dir\":\"%s\","
	       "\"family\":%u,\"traffic\":\"%s\",\"temp\":\"%s\",\"metric\":\"%s\","
	       "\"better\":\"lower\",",
	       bench->n, strcmp(temp, "one-flow") ? bench->n : 1, bench->out ? "out" : "in",
	       bench->family == XF_AF_INET ? 4 : 6, traffic_names[bench->traffic], temp, metric);
}

static void print_sample(const struct bench *bench, struct sample *s, const char *temp,
			 const char *metric)
{
	double ratio[PAIRS];

	for (unsigned i = 0; i < PAIRS; i++)
		ratio[i] = s->value[i] / s->base[i];
	qsort(ratio, PAIRS, sizeof(double), compare);
	qsort(s->value, PAIRS, sizeof(double), compare);
	qsort(s->base, PAIRS, sizeof(double), compare);
	print_head(bench, temp, metric);
	printf("\"value\":%.2f,\"q1\":%.2f,\"q3\":%.2f,\"base\":\"load\",\"base_value\":%.2f,"
	       "\"base_q1\":%.2f,\"base_q3\":%.2f,\"ratio\":%.3f,\"pairs\":%d}\n",
	       s->value[PAIRS / 2], s->value[PAIRS / 4], s->value[PAIRS * 3 / 4],
	       s->base[PAIRS / 2], s->base[PAIRS / 4], s->base[PAIRS * 3 / 4], ratio[PAIRS / 2],
	       PAIRS);
	fflush(stdout);
}

static void print_bytes(const struct bench *bench, const char *temp, size_t bytes)
{
	print_head(bench, temp, "bytes_per_sa");
	printf("\"value\":%.1f}\n", (double)bytes / bench->n);
	fflush(stdout);
}

static void measure_lookups(struct bench *bench, enum temp temp)
{
	struct sample s;

	bench->found = 0;
	for (unsigned i = 0; i < PAIRS; i++) {
		s.base[i] = chase_ns(bench);
		s.value[i] = lookups_ns(bench, temp);
	}
	bench_must(bench->found == (temp == MISSES ? 0 : (uint64_t)PAIRS * ROUNDS * ROUND),
		   "what is found");
	print_sample(bench, &s, temp_names[temp], "ns_per_lookup");
}

/* --- A SAD: filled, asked, emptied --- */

/* The clock stands still while SAs are made. */
static uint64_t add_chunk(struct bench *bench, uint32_t from, uint32_t to)
{
	uint64_t start = cpu_ns();

	for (uint32_t i = from; i < to; i++) {
		if (bench->traffic == OUR_SPIS)
			add_with_our_spi(bench, i);
		else
			bench_must(xf_sad_add(bench->sad, bench->sas[i], NULL) == 0, "xf_sad_add");
	}
	start = cpu_ns() - start;
	xf_rcu_drain();
	return start;
}

static void fill(struct bench *bench)
{
	size_t before = resident(), made;
	struct sample s;

	for (uint32_t i = 0; i < bench->n && bench->traffic == RANDOM_SPIS; i++) {
		bench->spis[i] = SPI_MIN + (i * SPI_STEP & (SPI_MAX - SPI_MIN));
		bench->sas[i] = make(bench, i);
	}
	made = resident();
	for (uint32_t slice = 0, i = 0; slice < PAIRS; slice++) {
		uint32_t end = (uint32_t)((uint64_t)bench->n * (slice + 1) / PAIRS), first = i;
		uint64_t ns = 0;

		s.base[slice] = chase_ns(bench);
		for (; i < end; i = xf_min_u32(i + CHUNK, end))
			ns += add_chunk(bench, i, xf_min_u32(i + CHUNK, end));
		s.value[slice] = (double)ns / (end - first);
	}
	print_sample(bench, &s, "random", "ns_per_insert");
	if (bench->traffic == RANDOM_SPIS)
		print_bytes(bench, "tables", resident() - made);
	print_bytes(bench, "idle", resident() - before);
	for (uint32_t i = 0; i < bench->n; i++) {
		bench_must(xf_sa_check(bench->sas[i], xf_sa_form(bench->sas[i])->what, bench->out,
				       bench_now_ns(), NULL) == XF_PASS,
			   "xf_sa_check");
		xf_sa_count(&bench->sas[i]->out, 0, 1, 100, bench_now_ns());
	}
	print_bytes(bench, "used", resident() - before);
}

/* In random order, and with what it costs to free them. */
static void drain(struct bench *bench, size_t before)
{
	struct sample s;

	for (uint32_t i = bench->n - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(rnd(bench) % (i + 1));
		struct xf_sa *was = bench->sas[i];

		bench->sas[i] = bench->sas[j];
		bench->sas[j] = was;
	}
	for (uint32_t slice = 0, i = 0; slice < PAIRS; slice++) {
		uint32_t end = (uint32_t)((uint64_t)bench->n * (slice + 1) / PAIRS), first = i;
		uint64_t start;

		s.base[slice] = chase_ns(bench);
		start = cpu_ns();
		for (; i < end; i++) {
			bench_must(xf_sad_del(bench->sad, bench->sas[i]) == 0, "xf_sad_del");
			if (i % 1024 == 0)
				xf_rcu_drain();
		}
		xf_rcu_drain();
		s.value[slice] = (double)(cpu_ns() - start) / (end - first);
	}
	xf_sad_expire(bench->sad, bench_now_ns(), NULL, NULL);
	print_sample(bench, &s, "random", "ns_per_delete");
	malloc_trim(0);
	print_bytes(bench, "left", resident() > before ? resident() - before : 0);
}

static void run(struct bench *bench)
{
	const struct xf_sad_config cfg = { .seed = { rnd(bench), rnd(bench) },
					   .larval_lifetime_s = 30,
					   .random = random_bytes,
					   .arg = bench };
	size_t before;

	bench->sad = xf_sad_new(&cfg);
	bench->sas = calloc(bench->n, sizeof(struct xf_sa *));
	bench->spis = calloc(bench->n, sizeof(uint32_t));
	bench_must(bench->sad && bench->sas && bench->spis, "memory");
	memset(bench->sas, 0xff, bench->n * sizeof(struct xf_sa *));
	memset(bench->spis, 0xff, bench->n * sizeof(uint32_t));
	before = resident();
	fill(bench);
	for (enum temp temp = RANDOM; temp <= MISSES; temp++)
		measure_lookups(bench, temp);
	drain(bench, before);
	xf_sad_free(bench->sad);
	free(bench->sas);
	free(bench->spis);
}

static void run_all(struct bench *bench, uint32_t n)
{
	static const uint8_t families[] = { XF_AF_INET, XF_AF_INET6 };

	bench->n = n;
	for (unsigned i = 0; i < 2; i++) {
		bench->family = families[i];
		bench->out = false;
		for (bench->traffic = RANDOM_SPIS; bench->traffic <= OUR_SPIS; bench->traffic++)
			run(bench);
		bench->out = true;
		bench->traffic = RANDOM_SPIS;
		run(bench);
	}
}

static void build_suite(struct xf_suite *out)
{
	const struct xf_suite_request req = {
		.aead = xf_alg_find(XF_ALG_AEAD, "rfc4106(gcm(aes))", 128),
		.cipher_key_bits = 160,
		.icv_bits = 128,
	};

	bench_must(xf_suite_build(&req, out) == 0, "xf_suite_build");
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "sas", required_argument, NULL, 's' },
						 { NULL, 0, NULL, 0 } };
	struct bench bench = { .random = 88172 };
	uint32_t sas = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 's')
			return 2;
		sas = (uint32_t)strtoul(optarg, NULL, 0);
	}
	xf_huge_memory_init();
	if (xf_secret_memory_init() < 0)
		fputs("bench_sad: keys cannot be locked here, and stand on the heap\n", stderr);
	xf_read_register();
	chase_init(&bench);
	build_suite(&bench.suite);
	bench.ids = calloc(ROUND, sizeof(*bench.ids));
	bench.asks = calloc(ROUND, sizeof(*bench.asks));
	bench_must(bench.ids && bench.asks, "memory");
	for (uint32_t n = sas ? sas : 1000; n <= (sas ? sas : 1000000); n *= 10)
		run_all(&bench, n);
	free(bench.ids);
	free(bench.asks);
	xf_huge_free(bench.chase, CHASE_BYTES);
	xf_read_unregister();
	return 0;
}
