/*
 * bench_spd.c - policy lookups and updates beside one dependent load from a large memory.
 *
 * The base is a chain of loads through 256 MB on huge pages, each of which needs the one before:
 * what one cache miss costs. Slices of the base and of what is measured take turns; medians and
 * quartiles of the slices count. Rows are printed as JSON, one a line.
 */
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xf/huge.h>
#include <xf/rcu.h>

#include "daemon/thread/huge.h"
#include "spd/spd_test.h"
#include "kernel_spd.h"
#include "spd_sets.h"

#define BATCH 32
#define PAIRS 61
#define BASE_BYTES ((size_t)256 << 20)
#define BASE_LOADS 2000
#define SLICE_LOOKUPS 8192
#define MANY_FLOWS (1u << 20)

struct bench {
	struct policy_set set;
	struct xf_spd *spd;
	struct xf_policy **policies;
	uint32_t inserted;
	struct xf_flow *flows;
	uint32_t nflows;
	uint32_t at;
	void **chain;
	double value[PAIRS];
	double base[PAIRS];
	bool quiet; /* what loading costs is printed by other runs */
};

static void must(bool fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "bench_spd: %s failed\n", what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * XF_NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* --- the base --- */

/* One circle through all lines, in random order. */
static void base_init(struct bench *bench)
{
	uint32_t lines = (uint32_t)(BASE_BYTES / XF_CACHE_LINE);
	uint32_t *order = malloc(lines * sizeof(*order));
	uint8_t *mem = xf_huge_alloc(BASE_BYTES);

	must(order && mem, "memory for the base");
	for (uint32_t i = 0; i < lines; i++)
		order[i] = i;
	for (uint32_t i = lines - 1; i > 0; i--) {
		uint32_t j = set_random(i);
		uint32_t swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	for (uint32_t i = 0; i < lines; i++)
		*(void **)(void *)(mem + (size_t)order[i] * XF_CACHE_LINE) =
			mem + (size_t)order[(i + 1) % lines] * XF_CACHE_LINE;
	bench->chain = (void **)(void *)mem;
	free(order);
}

static double base_slice(struct bench *bench)
{
	uint64_t start = now_ns();

	for (unsigned i = 0; i < BASE_LOADS; i++)
		bench->chain = *bench->chain;
	__asm__ volatile("" ::"r"(bench->chain) : "memory");
	return (double)(now_ns() - start) / BASE_LOADS;
}

/* --- rows --- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct row {
	const char *temp;
	const char *metric;
	uint32_t flows;
	unsigned n; /* values */
	const char *base; /* NULL: a dependent load */
};

static void print_row(struct bench *bench, const struct row *row)
{
	const double *v = bench->value, *b = bench->base;
	unsigned n = row->n;

	qsort(bench->value, n, sizeof(double), compare);
	qsort(bench->base, n, sizeof(double), compare);
	printf("{\"bench\":\"lookup\",\"case\":\"spd\",\"traffic\":\"%s\",\"policies\":%u,"
	       "\"family\":%d,\"flows\":%u,\"temp\":\"%s\",\"metric\":\"%s\",\"better\":\"lower\","
	       "\"value\":%.3f,\"q1\":%.3f,\"q3\":%.3f",
	       bench->set.kind->name, bench->set.count, bench->set.family == XF_AF_INET ? 4 : 6,
	       row->flows, row->temp, row->metric, v[n / 2], v[n / 4], v[n * 3 / 4]);
	if (b[n / 2] > 0)
		printf(",\"base\":\"%s\",\"base_value\":%.2f,\"base_q1\":%.2f,"
		       "\"base_q3\":%.2f,\"ratio\":%.3g,\"pairs\":%u",
		       row->base ? row->base : "dependent load", b[n / 2], b[n / 4], b[n * 3 / 4],
		       v[n / 2] / b[n / 2], n);
	printf("}\n");
	fflush(stdout);
}

static void print_one(struct bench *bench, const char *metric, double value)
{
	const struct row row = { .temp = "", .metric = metric, .n = 1 };

	if (bench->quiet)
		return;
	bench->value[0] = value;
	bench->base[0] = 0;
	print_row(bench, &row);
}

/* --- the SPD --- */

static size_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	size_t pages = 0, all = 0;

	must(file && fscanf(file, "%zu %zu", &all, &pages) == 2, "/proc/self/statm");
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void insert(struct bench *bench, uint32_t i)
{
	must(xf_spd_insert(bench->spd, &bench->set.cfgs[i], true, 0, &bench->policies[i]) == 0,
	     "xf_spd_insert");
}

/* The policies themselves are not the index's. */
static void load(struct bench *bench)
{
	const struct xf_spd_config cfg = { .seed = { 0x1234, 0x5678 } };
	size_t before = resident(), policies = 0;
	uint64_t start;

	bench->spd = xf_spd_new(&cfg);
	must(bench->spd, "xf_spd_new");
	start = now_ns();
	for (uint32_t i = 0; i < bench->set.count; i++) {
		insert(bench, i);
		if (i % 256 == 255)
			xf_rcu_drain();
	}
	print_one(bench, "ns_per_insert_from_empty", (double)(now_ns() - start) / bench->set.count);
	for (uint32_t i = 0; i < bench->set.count; i++)
		policies += xf_policy_bytes(bench->policies[i]);
	print_one(bench, "bytes_per_policy",
		  ((double)resident() - (double)before - (double)policies) / bench->set.count);
}

static void unload(struct bench *bench)
{
	uint32_t count = bench->set.count;
	size_t full = resident();
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < count; i++) {
		xf_spd_del(bench->spd, bench->policies[i]);
		if (i % 256 == 255)
			xf_rcu_drain();
	}
	xf_rcu_drain();
	print_one(bench, "ns_per_delete_to_empty", (double)(now_ns() - start) / count);
	malloc_trim(0);
	print_one(bench, "bytes_per_policy_returned", ((double)full - (double)resident()) / count);
	xf_spd_free(bench->spd);
}

/* --- lookups --- */

static void look_up(struct bench *bench, uint32_t n, struct xf_policy **out)
{
	xf_spd_lookup_batch(bench->spd, XF_DIR_OUT, &bench->flows[bench->at], n, out);
	bench->at += n;
	if (bench->at + BATCH > bench->nflows)
		bench->at = 0;
}

static double lookup_slice(struct bench *bench, uint32_t batch)
{
	struct xf_policy *out[BATCH];
	uint32_t lookups = batch == 1 ? SLICE_LOOKUPS / 4 : SLICE_LOOKUPS;
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < lookups; i += batch)
		look_up(bench, batch, out);
	__asm__ volatile("" ::"r"(out) : "memory");
	return (double)(now_ns() - start) / lookups;
}

static void measure(struct bench *bench, const char *temp, uint32_t flows, uint32_t batch)
{
	const struct row row = { .temp = temp,
				 .metric = batch == 1 ? "ns_per_lookup_alone" : "ns_per_lookup",
				 .flows = flows,
				 .n = PAIRS };

	xf_read_begin();
	bench->at = 0;
	for (unsigned i = 0; i < 16; i++)
		lookup_slice(bench, batch);
	for (unsigned i = 0; i < PAIRS; i++) {
		bench->base[i] = base_slice(bench);
		bench->value[i] = lookup_slice(bench, batch);
	}
	xf_read_end();
	print_row(bench, &row);
}

static void hit(struct bench *bench, struct xf_flow *flow)
{
	set_flow(&bench->set.cfgs[set_random(bench->set.count)], flow);
}

/* Nine in ten are for a policy; @flows different ones, in random order. */
static void make_flows(struct bench *bench, uint32_t flows, uint32_t percent)
{
	struct xf_flow *few = malloc(flows * sizeof(*few));

	must(few, "memory for flows");
	for (uint32_t i = 0; i < flows; i++) {
		if (set_random(100) < percent)
			hit(bench, &few[i]);
		else
			set_stray(bench->set.family, &few[i]);
	}
	for (uint32_t i = 0; i < bench->nflows; i++)
		bench->flows[i] = few[flows == bench->nflows ? i : set_random(flows)];
	free(few);
}

static unsigned cost(const struct bench *bench, const struct xf_flow *flow)
{
	return xf_spd_lookup_cost(bench->spd, XF_DIR_OUT, flow);
}

static void print_lines(struct bench *bench, const char *metric)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < SLICE_LOOKUPS; i++)
		sum += cost(bench, &bench->flows[i]);
	print_one(bench, metric, (double)sum / SLICE_LOOKUPS);
}

static void measure_lookups(struct bench *bench)
{
	static const uint32_t sweep[] = { 1, 1000, MANY_FLOWS };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(sweep); i++) {
		make_flows(bench, sweep[i], sweep[i] == 1 ? 100 : 90);
		measure(bench, sweep[i] == 1 ? "one-flow" : "random", sweep[i], BATCH);
	}
	measure(bench, "random", MANY_FLOWS, 1);
	print_lines(bench, "lines_per_lookup");
	make_flows(bench, MANY_FLOWS, 0);
	measure(bench, "misses", MANY_FLOWS, BATCH);
}

/* --- an adversary, who knows the policies and what a lookup costs, but no key --- */

#define WORST 16384
#define TRIES 64

/* Change one side, or the rest, to what another policy wants. */
static void mutate(struct bench *bench, struct xf_flow *flow)
{
	struct xf_flow other;

	hit(bench, &other);
	switch (set_random(3)) {
	case 0:
		flow->saddr = other.saddr;
		break;
	case 1:
		flow->daddr = other.daddr;
		break;
	default:
		flow->proto = other.proto;
		flow->sport = other.sport;
		flow->dport = other.dport;
	}
}

static void climb(struct bench *bench, struct xf_flow *flow)
{
	unsigned best;

	hit(bench, flow);
	best = cost(bench, flow);
	for (unsigned i = 0; i < TRIES; i++) {
		struct xf_flow next = *flow;
		unsigned now;

		mutate(bench, &next);
		now = cost(bench, &next);
		if (now >= best) {
			best = now;
			*flow = next;
		}
	}
}

struct worst {
	struct xf_flow flow;
	unsigned cost;
};

static int compare_worst(const void *a, const void *b)
{
	const struct worst *x = a, *y = b;

	return (x->cost < y->cost) - (x->cost > y->cost);
}

/* The quarter of the flows that cost most, in random order. */
static void measure_adversary(struct bench *bench)
{
	struct worst *worst = malloc(WORST * sizeof(*worst));

	must(worst, "memory for the adversary");
	xf_read_begin();
	for (uint32_t i = 0; i < WORST; i++) {
		climb(bench, &worst[i].flow);
		worst[i].cost = cost(bench, &worst[i].flow);
	}
	xf_read_end();
	qsort(worst, WORST, sizeof(*worst), compare_worst);
	for (uint32_t i = 0; i < bench->nflows; i++) {
		const struct worst *one = &worst[set_random(WORST / 4)];

		bench->flows[i] = one->flow;
	}
	free(worst);
	print_lines(bench, "lines_per_lookup_adversarial");
	measure(bench, "adversarial", WORST / 4, BATCH);
}

/* --- updates of a full SPD --- */

#define UPDATES 2048

static double delete_some(struct bench *bench, const uint32_t *which)
{
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < UPDATES; i++)
		xf_spd_del(bench->spd, bench->policies[which[i]]);
	xf_rcu_drain();
	return (double)(now_ns() - start) / UPDATES;
}

static double insert_some(struct bench *bench, const uint32_t *which)
{
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < UPDATES; i++)
		insert(bench, which[i]);
	return (double)(now_ns() - start) / UPDATES;
}

static double update_some(struct bench *bench, const uint32_t *which)
{
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < UPDATES; i++)
		must(xf_spd_insert(bench->spd, &bench->set.cfgs[which[i]], false, 0,
				   &bench->policies[which[i]]) == 0,
		     "update");
	xf_rcu_drain();
	return (double)(now_ns() - start) / UPDATES;
}

/* Random policies, none twice. */
static void choose(const struct bench *bench, uint32_t *which)
{
	uint32_t stride = bench->set.count / UPDATES;
	uint32_t from = set_random(stride);

	for (uint32_t i = 0; i < UPDATES; i++)
		which[i] = from + i * stride;
	for (uint32_t i = UPDATES - 1; i > 0; i--) {
		uint32_t j = set_random(i);
		uint32_t swap = which[i];

		which[i] = which[j];
		which[j] = swap;
	}
}

static void measure_updates(struct bench *bench)
{
	static const struct row rows[] = {
		{ .temp = "random", .metric = "ns_per_delete", .n = PAIRS },
		{ .temp = "random", .metric = "ns_per_insert", .n = PAIRS },
		{ .temp = "random", .metric = "ns_per_update", .n = PAIRS },
	};
	double values[3][PAIRS], base[PAIRS];
	uint32_t which[UPDATES];

	if (bench->set.count < UPDATES)
		return;
	for (unsigned i = 0; i < PAIRS; i++) {
		choose(bench, which);
		base[i] = base_slice(bench);
		values[0][i] = delete_some(bench, which);
		values[1][i] = insert_some(bench, which);
		values[2][i] = update_some(bench, which);
	}
	for (unsigned i = 0; i < 3; i++) {
		memcpy(bench->value, values[i], sizeof(bench->value));
		memcpy(bench->base, base, sizeof(bench->base));
		print_row(bench, &rows[i]);
	}
}

/* --- lookups while policies change --- */

#define CHURN_NS (2 * XF_NSEC_PER_SEC)
#define CHURN_STEP_NS 10000 /* 100,000 a second */
#define CHURN_BATCHES 1000000

struct reader {
	struct bench *bench;
	atomic_bool stop;
	uint32_t count;
	float ns[CHURN_BATCHES];
};

static void *read_on(void *arg)
{
	struct reader *reader = arg;
	struct xf_policy *out[BATCH];

	xf_read_register();
	while (!atomic_load(&reader->stop) && reader->count < CHURN_BATCHES) {
		uint64_t start = now_ns();

		xf_read_begin();
		look_up(reader->bench, BATCH, out);
		xf_read_end();
		reader->ns[reader->count++] = (float)(now_ns() - start) / BATCH;
		xf_read_quiescent();
	}
	xf_read_unregister();
	return NULL;
}

static int compare_float(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* One policy is taken out, the next time it is put back. Returns the changes a second. */
static double change_on(struct bench *bench, uint64_t for_ns, bool change)
{
	uint64_t start = now_ns(), next = start;
	uint32_t changes = 0, at = 0;

	while (next < start + for_ns) {
		while (now_ns() < next)
			;
		next += CHURN_STEP_NS;
		if (!change)
			continue;
		if (changes % 2 == 0)
			xf_spd_del(bench->spd, bench->policies[at = set_random(bench->set.count)]);
		else
			insert(bench, at);
		if (++changes % 64 == 0)
			xf_rcu_drain();
	}
	if (changes % 2)
		insert(bench, at);
	return (double)changes * XF_NSEC_PER_SEC / (double)(now_ns() - start);
}

static void churn(struct bench *bench, bool change)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	pthread_t thread;
	double rate;

	must(reader, "memory for the reader");
	reader->bench = bench;
	bench->at = 0;
	xf_read_offline();
	must(pthread_create(&thread, NULL, read_on, reader) == 0, "pthread_create");
	rate = change_on(bench, CHURN_NS, change);
	atomic_store(&reader->stop, true);
	pthread_join(thread, NULL);
	xf_read_online();
	qsort(reader->ns, reader->count, sizeof(float), compare_float);
	print_one(bench, change ? "p50_ns_while_changing" : "p50_ns_while_still",
		  (double)reader->ns[reader->count / 2]);
	print_one(bench, change ? "p99_ns_while_changing" : "p99_ns_while_still",
		  (double)reader->ns[reader->count / 100 * 99]);
	if (change)
		print_one(bench, "ns_between_changes", 1e9 / rate);
	free(reader);
}

static void measure_churn(struct bench *bench)
{
	make_flows(bench, MANY_FLOWS, 90);
	churn(bench, false);
	churn(bench, true);
}

/* --- beside the host's kernel --- */

#define KERNEL_PAIRS 15
#define KERNEL_FLOWS 65536
#define KERNEL_SLICE_NS (XF_NSEC_PER_SEC / 8)
#define ABSENT 77

/* Near misses are in the policies' networks, with ports that are nobody's. */
static void draw_kernel_flow(struct bench *bench, struct xf_flow *flow, bool near)
{
	if (near || set_random(100) < 90)
		hit(bench, flow);
	else
		set_stray(XF_AF_INET, flow);
	flow->proto = XF_IPPROTO_UDP;
	if (near)
		flow->dport = (uint16_t)(1 + set_random(9999));
}

/* Only such as a socket can send, so that both see the same. */
static void make_kernel_flows(struct bench *bench, bool near)
{
	for (uint32_t i = 0; i < KERNEL_FLOWS; i++) {
		struct xf_flow *flow = &bench->flows[i];

		do
			draw_kernel_flow(bench, flow, near);
		while (!kernel_spd_can_send(flow));
	}
	bench->nflows = KERNEL_FLOWS;
}

/* ns for each packet: as many as fit into a slice. */
static double send_slice(struct bench *bench, int fd, uint32_t *at)
{
	uint64_t start = now_ns(), end = start;
	unsigned sent = 0;

	for (; end < start + KERNEL_SLICE_NS; sent++) {
		must(kernel_spd_send(fd, &bench->flows[*at]) == 0, "sendmsg");
		*at = (*at + 1) % KERNEL_FLOWS;
		if (sent % 16 == 15)
			end = now_ns();
	}
	return (double)(end - start) / sent;
}

static void measure_beside_kernel(struct bench *bench, const struct kernel_spd *kernel, bool near)
{
	const struct row row = { .temp = near ? "near-misses" : "random",
				 .metric = "ns_per_lookup",
				 .flows = KERNEL_FLOWS,
				 .n = KERNEL_PAIRS,
				 .base = "kernel" };
	uint32_t with = 0, without = 0;

	make_kernel_flows(bench, near);
	send_slice(bench, kernel->without, &without);
	bench->at = 0;
	for (unsigned i = 0; i < KERNEL_PAIRS; i++) {
		bench->base[i] = send_slice(bench, kernel->with, &with) -
				 send_slice(bench, kernel->without, &without);
		lookup_slice(bench, BATCH);
		bench->value[i] = lookup_slice(bench, BATCH);
	}
	print_row(bench, &row);
}

static void measure_kernel(struct bench *bench, struct kernel_spd *kernel)
{
	must(kernel_spd_add(kernel, bench->set.cfgs, bench->set.count) == 0,
	     "adding policies to the kernel");
	measure_beside_kernel(bench, kernel, false);
	/* Of sets by port. */
	if (bench->set.cfgs[0].sel.dport_mask)
		measure_beside_kernel(bench, kernel, true);
}

/* --- */

static int usage(void)
{
	fputs("usage: bench_spd [--set NAME] [--family 4|6] [--policies N]\n"
	      "                 [--what lookups,adversary,updates,churn | --what kernel]\nsets:",
	      stderr);
	for (const struct set_kind *kind = set_kinds; kind->name; kind++)
		fprintf(stderr, " %s", kind->name);
	fputs("\n", stderr);
	return 2;
}

struct options {
	const struct set_kind *kind;
	uint16_t family;
	uint32_t policies;
	const char *what;
};

static bool parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = { { "set", required_argument, NULL, 's' },
					       { "family", required_argument, NULL, 'f' },
					       { "policies", required_argument, NULL, 'p' },
					       { "what", required_argument, NULL, 'w' },
					       { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 's')
			options->kind = set_find(optarg);
		else if (c == 'f')
			options->family = strcmp(optarg, "6") == 0 ? XF_AF_INET6 : XF_AF_INET;
		else if (c == 'p')
			options->policies = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'w')
			options->what = optarg;
		else
			return false;
	}
	return options->kind && options->policies && optind == argc;
}

static bool wants(const struct options *options, const char *what)
{
	return strstr(options->what, what);
}

int main(int argc, char **argv)
{
	struct options options = { .kind = set_kinds,
				   .family = XF_AF_INET,
				   .policies = 1000,
				   .what = "lookups,adversary,updates,churn" };
	struct bench bench = { .nflows = MANY_FLOWS };
	struct kernel_spd kernel = { 0 };

	if (!parse(argc, argv, &options))
		return usage();
	bench.quiet = wants(&options, "kernel");
	if (bench.quiet && kernel_spd_open(&kernel) < 0) {
		fputs("skip: no network namespace with policies (needs root)\n", stderr);
		return ABSENT;
	}
	xf_huge_memory_init();
	xf_read_register();
	set_seed(options.policies);
	base_init(&bench);
	set_init(&bench.set, options.kind, options.family, options.policies);
	bench.policies = calloc(options.policies, sizeof(struct xf_policy *));
	bench.flows = xf_huge_alloc((size_t)bench.nflows * sizeof(struct xf_flow));
	must(bench.set.cfgs && bench.policies && bench.flows, "memory");
	/* All of it is resident before anything is measured. */
	memset(bench.flows, 1, (size_t)bench.nflows * sizeof(struct xf_flow));
	memset(bench.policies, 1, options.policies * sizeof(struct xf_policy *));
	load(&bench);
	if (wants(&options, "kernel"))
		measure_kernel(&bench, &kernel);
	if (wants(&options, "lookups"))
		measure_lookups(&bench);
	if (wants(&options, "adversary"))
		measure_adversary(&bench);
	if (wants(&options, "updates"))
		measure_updates(&bench);
	if (wants(&options, "churn"))
		measure_churn(&bench);
	unload(&bench);
	xf_read_unregister();
	return 0;
}
