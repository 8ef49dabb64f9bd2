/*
 * bench_engine.c - ns per packet of the engine's stages and of its whole path, beside the cipher.
 *
 * Packets go round: out through one engine, in through its peer, out again, so that nothing has to
 * be made while it is measured, and each way has SAs of its own, as it has on any gateway. In the
 * "cold" rows so many are between the two ways that each has long left the caches when it is its
 * turn. Slices of each measured thing and of the raw cipher take turns; medians and quartiles of
 * the slices count. Rows are printed as JSON, one a line.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xf/esp.h>
#include <xf/rcu.h>

#include "daemon/thread/huge.h"
#include "daemon/thread/secret.h"
#include "raw.h"
#include "spd_sets.h"
#include "world.h"

#define BATCH 32
#define SLICES 101
#define WARM_UP_NS 100000000ull /* until the core has its pace */
#define BATCHES 12 /* in one slice */
#define COLD_BYTES (256u << 20)
#define SUBNET_FLOWS (1u << 18) /* over all policies */
#define SUPER_PACKETS 40 /* what one super-packet of the GSO rows stands for */

static const uint32_t sizes[] = { 68, 132, 260, 516, 1028, 1404, 9004, 0 /* IMIX */ };
static const uint32_t imix[] = { 68, 580, 68, 580, 68, 580, 68, 580, 68, 68, 1404, 68 };
#define IMIX_MEAN 350

enum what {
	PARSE_OUT,
	SPD_OUT,
	SAD_OUT,
	ESP_OUT,
	PATH_OUT,
	PARSE_IN,
	SAD_IN,
	ESP_IN,
	SPD_IN,
	PATH_IN,
	GSO_OUT,
	WHATS
};

static const struct what_name {
	const char *name;
	bool out;
} names[WHATS] = {
	[PARSE_OUT] = { "parse", true },
	[SPD_OUT] = { "spd", true },
	[SAD_OUT] = { "sad", true },
	[ESP_OUT] = { "esp+crypto", true },
	[PATH_OUT] = { "path", true },
	[PARSE_IN] = { "parse", false },
	[SAD_IN] = { "sad", false },
	[ESP_IN] = { "esp+crypto", false },
	[SPD_IN] = { "spd", false },
	[PATH_IN] = { "path", false },
	[GSO_OUT] = { "path, GSO segment", true },
};

struct bench {
	struct world world;
	struct world
		peer; /* another engine with the same SAs and policies: packets come in there */
	struct xf_crypto_ctx *crypto;
	const struct xf_crypto_provider *provider;
	struct raw *raw;
	const char *suite;
	uint32_t sas;
	uint32_t policies;
	bool subnets;
	struct policy_set set; /* with subnets */
	struct xf_flow *flows;
	bool cold;
	bool avx2;
	bool transport;
	bool esn;
	uint32_t text; /* of the present rows; 0 = IMIX */
	uint32_t packets; /* that go round */
	struct xf_pktq inner;
	struct xf_pktq wire;
	uint8_t *texts; /* of the raw cipher: a ring as large as the packets' */
	uint32_t text_room;
	uint32_t at;
	uint64_t random;
	double ns[WHATS][SLICES];
	double raw_ns[2][SLICES]; /* open, seal */
	double ratios[WHATS][SLICES]; /* within a slice: what slows the core slows both */
	struct xf_transform_op ops[BATCH];
};

/* A batch in the middle of the stages. */
struct stage {
	struct xf_transform_op *ops[BATCH];
	struct xf_ip_info ip[BATCH];
	struct xf_flow flows[BATCH];
	struct xf_policy *policies[BATCH];
	struct xf_sa *sas[BATCH];
	struct xf_pkt *pkts[BATCH];
};

static uint32_t rnd(struct bench *bench, uint32_t below)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return (uint32_t)((bench->random >> 11) % below);
}

static uint32_t size_of(const struct bench *bench, uint32_t i)
{
	return bench->text ? bench->text : imix[i % XF_ARRAY_SIZE(imix)];
}

/* --- The packets that go round --- */

/* In the caches, packets may be addressed anew each time; cold ones must not be touched. */
static struct xf_pkt *next_inner(struct bench *bench)
{
	struct xf_pkt *pkt = xf_pktq_pop(&bench->inner);

	bench_must(pkt != NULL, "a packet");
	world_renew(pkt);
	if (bench->subnets)
		world_aim_flow(pkt, &bench->flows[rnd(bench, SUBNET_FLOWS)]);
	if (bench->sas > 1 && !bench->cold)
		world_aim(pkt, rnd(bench, bench->sas));
	return pkt;
}

/* As the daemon's sockets give it: the kernel has looked at the IP header's checksum. */
static struct xf_pkt *next_wire(struct bench *bench)
{
	struct xf_pkt *pkt = xf_pktq_pop(&bench->wire);

	pkt->hdr_checked = true;
	return pkt;
}

static void fill_ring(struct bench *bench)
{
	for (uint32_t i = 0; i < bench->packets; i++) {
		uint32_t inner = world_inner(&bench->world, size_of(bench, i));
		struct xf_pkt *pkt = world_packet(&bench->world, inner);

		world_aim(pkt, rnd(bench, bench->sas));
		xf_pktq_push(&bench->inner, pkt);
	}
}

static void empty(struct xf_pktq *queue)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(queue)) != NULL)
		xf_pkt_free(pkt);
}

static void append(struct xf_pktq *to, struct xf_pktq *from)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(from)) != NULL)
		xf_pktq_push(to, pkt);
}

/* --- The whole path --- */

static uint64_t path_out(struct bench *bench)
{
	struct xf_path_result res = { 0 };
	struct xf_pktq queue = { 0 };
	uint64_t start, end;

	for (unsigned i = 0; i < BATCH; i++)
		xf_pktq_push(&queue, next_inner(bench));
	start = bench_now_ns();
	xf_path_out(bench->world.worker, &queue, start, &res);
	end = bench_now_ns();
	bench_must(res.wire.count == BATCH, "xf_path_out");
	append(&bench->wire, &res.wire);
	xf_read_quiescent();
	return end - start;
}

static uint64_t path_in(struct bench *bench)
{
	struct xf_path_result res = { 0 };
	struct xf_pktq queue = { 0 };
	uint64_t start, end;

	for (unsigned i = 0; i < BATCH; i++)
		xf_pktq_push(&queue, next_wire(bench));
	start = bench_now_ns();
	xf_path_in(bench->peer.worker, &queue, start, &res);
	end = bench_now_ns();
	bench_must(res.deliver.count == BATCH, "xf_path_in");
	append(&bench->inner, &res.deliver);
	xf_read_quiescent();
	return end - start;
}

/* --- Stage by stage, each for the whole batch, as src/path has them --- */

static void take(struct bench *bench, struct stage *s, bool out)
{
	for (unsigned i = 0; i < BATCH; i++) {
		s->pkts[i] = out ? next_inner(bench) : next_wire(bench);
		s->ops[i] = &bench->ops[i];
		s->ops[i]->pkt = s->pkts[i];
		s->ops[i]->ip = &s->ip[i];
		s->ops[i]->udp_len = 0;
	}
}

static void parse(struct stage *s, bool flow)
{
	for (unsigned i = 0; i < BATCH; i++) {
		bench_must(xf_ip_parse(s->pkts[i], !s->pkts[i]->hdr_checked, &s->ip[i]) == 0,
			   "xf_ip_parse");
		if (flow)
			xf_ip_flow(s->pkts[i], &s->ip[i], false, &s->flows[i]);
	}
}

/* Every packet asks: the path itself asks once for each run of packets that want the same. */
static void find_out(struct bench *bench, struct stage *s)
{
	struct xf_sad_query queries[BATCH];
	struct xf_sad_query *all[BATCH];

	for (unsigned i = 0; i < BATCH; i++) {
		const struct xf_tmpl *tmpl = &xf_policy_cfg(s->policies[i])->tmpl[0];
		bool tunnel = tmpl->mode == XF_MODE_TUNNEL;

		all[i] = &queries[i];
		queries[i] = (struct xf_sad_query){
			.tmpl = tmpl,
			.saddr = tunnel ? &tmpl->saddr : &s->ip[i].saddr,
			.daddr = tunnel ? &tmpl->id.daddr : &s->ip[i].daddr,
			.flow = &s->flows[i],
		};
	}
	xf_sad_find_out_to_use(xf_engine_sad(bench->world.engine), all, BATCH, s->sas);
	for (unsigned i = 0; i < BATCH; i++)
		bench_must(s->sas[i] != NULL, "xf_sad_find_out_to_use");
}

static void find_in(struct bench *bench, struct stage *s)
{
	struct xf_sa_id ids[BATCH];
	uint32_t marks[BATCH] = { 0 };

	for (unsigned i = 0; i < BATCH; i++) {
		uint8_t scratch[4];
		const uint8_t *esp = xf_pkt_peek(s->pkts[i], s->ip[i].l4_off, 4, scratch);

		ids[i] = (struct xf_sa_id){ .daddr = s->ip[i].daddr,
					    .spi = xf_get_be32(esp),
					    .family = XF_AF_INET,
					    .proto = XF_IPPROTO_ESP };
	}
	xf_sad_find_in_to_use(xf_engine_sad(bench->peer.engine), ids, marks, BATCH, s->sas);
}

static void crypt(struct bench *bench, struct stage *s)
{
	struct xf_crypto_op *ops[BATCH];

	for (unsigned i = 0; i < BATCH; i++) {
		bench_must(s->ops[i]->drop == XF_PASS, "ESP, first half");
		ops[i] = &s->ops[i]->crypto;
	}
	xf_crypto_run(bench->provider, bench->crypto, ops, BATCH);
}

static void esp_out(struct bench *bench, struct stage *s, uint64_t now_ns)
{
	for (unsigned i = 0; i < BATCH; i++)
		s->ops[i]->sa = s->sas[i];
	xf_esp_out_prepare_batch(s->ops, BATCH, now_ns);
	crypt(bench, s);
	bench_must(xf_esp_out_finish_batch(s->ops, BATCH) == 0, "xf_esp_out_finish_batch");
}

static void esp_in(struct bench *bench, struct stage *s, uint64_t now_ns)
{
	for (unsigned i = 0; i < BATCH; i++)
		s->ops[i]->sa = s->sas[i];
	xf_esp_in_prepare_batch(s->ops, BATCH, now_ns);
	crypt(bench, s);
	xf_esp_in_finish_batch(s->ops, BATCH, now_ns);
}

static void stages_out(struct bench *bench, double ns[WHATS])
{
	struct stage s;
	uint64_t t[5];

	take(bench, &s, true);
	xf_read_begin();
	t[0] = bench_now_ns();
	parse(&s, true);
	t[1] = bench_now_ns();
	xf_spd_lookup_to_use(xf_engine_spd(bench->world.engine), XF_DIR_OUT, s.flows, BATCH,
			     s.policies);
	t[2] = bench_now_ns();
	find_out(bench, &s);
	t[3] = bench_now_ns();
	esp_out(bench, &s, t[3]);
	t[4] = bench_now_ns();
	xf_read_end();
	for (unsigned i = 0; i < 4; i++)
		ns[PARSE_OUT + i] += (double)(t[i + 1] - t[i]);
	for (unsigned i = 0; i < BATCH; i++)
		xf_pktq_push(&bench->wire, s.pkts[i]);
}

static void stages_in(struct bench *bench, double ns[WHATS])
{
	struct stage s;
	uint64_t t[5];

	take(bench, &s, false);
	xf_read_begin();
	t[0] = bench_now_ns();
	parse(&s, false);
	t[1] = bench_now_ns();
	find_in(bench, &s);
	t[2] = bench_now_ns();
	esp_in(bench, &s, t[2]);
	t[3] = bench_now_ns();
	for (unsigned i = 0; i < BATCH; i++)
		xf_ip_flow(s.pkts[i], &s.ip[i], false, &s.flows[i]);
	xf_spd_lookup_to_use(xf_engine_spd(bench->peer.engine), XF_DIR_IN, s.flows, BATCH,
			     s.policies);
	t[4] = bench_now_ns();
	xf_read_end();
	for (unsigned i = 0; i < 4; i++)
		ns[PARSE_IN + i] += (double)(t[i + 1] - t[i]);
	for (unsigned i = 0; i < BATCH; i++) {
		bench_must(s.ops[i]->drop == XF_PASS, "xf_esp_in_finish_run");
		xf_pktq_push(&bench->inner, s.pkts[i]);
	}
}

/* --- Beside it --- */

static uint64_t raw_batch(struct bench *bench, bool seal)
{
	struct raw_text texts[BATCH];
	uint64_t start;

	for (unsigned i = 0; i < BATCH; i++) {
		uint32_t slot = bench->at++ % bench->packets;
		uint32_t inner = world_inner(&bench->world, size_of(bench, slot));

		texts[i].data = bench->texts + (size_t)slot * bench->text_room;
		texts[i].len = world_text(&bench->world, inner);
	}
	start = bench_now_ns();
	raw_work(bench->raw, texts, BATCH, seal);
	return bench_now_ns() - start;
}

static uint64_t gso_out(struct bench *bench)
{
	uint32_t payload = world_inner(&bench->world, bench->text) - 40;
	struct xf_path_result res = { 0 };
	struct xf_pktq queue = { 0 };
	uint64_t start, end;

	xf_pktq_push(&queue, world_super(&bench->world, SUPER_PACKETS, payload));
	start = bench_now_ns();
	xf_path_out(bench->world.worker, &queue, start, &res);
	end = bench_now_ns();
	bench_must(res.wire.count == SUPER_PACKETS, "xf_path_out of a super-packet");
	empty(&res.wire);
	xf_read_quiescent();
	return end - start;
}

static bool has_gso(const struct bench *bench)
{
	return bench->sas == 1 && !bench->cold && (bench->text == 516 || bench->text == 1404);
}

/* Half of a cold ring is on either way, so that nothing comes back soon. */
static void slice(struct bench *bench, unsigned index)
{
	double ns[WHATS] = { 0 };
	double raw[2] = { 0 };
	const double packets = (double)BATCHES * BATCH;

	for (unsigned i = 0; i < BATCHES; i++) {
		ns[PATH_OUT] += (double)path_out(bench);
		ns[PATH_IN] += (double)path_in(bench);
	}
	for (unsigned i = 0; i < BATCHES; i++)
		raw[1] += (double)raw_batch(bench, true);
	for (unsigned i = 0; i < BATCHES; i++) {
		stages_out(bench, ns);
		stages_in(bench, ns);
	}
	for (unsigned i = 0; i < BATCHES; i++)
		raw[0] += (double)raw_batch(bench, false);
	for (unsigned i = 0; has_gso(bench) && i < BATCHES; i++)
		ns[GSO_OUT] += (double)gso_out(bench) * BATCH / SUPER_PACKETS;
	for (unsigned i = 0; i < WHATS; i++)
		bench->ns[i][index] = ns[i] / packets;
	bench->raw_ns[0][index] = raw[0] / packets;
	bench->raw_ns[1][index] = raw[1] / packets;
}

/* --- Rows --- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static const char *mode_of(const struct bench *bench)
{
	if (bench->transport)
		return bench->esn ? "transport, ESN" : "transport";
	return bench->esn ? "tunnel, ESN" : "tunnel";
}

static void print_row(const struct bench *bench, enum what what)
{
	const double *value = bench->ns[what];
	const double *base = bench->raw_ns[names[what].out];

	printf("{\"bench\":\"engine\",\"case\":\"%s\",\"dir\":\"%s\",\"suite\":\"%s\","
	       "\"plaintext\":%u,\"sas\":%u,\"flows\":%u,\"policies\":%u,\"temp\":\"%s\","
	       "\"family\":4,\"mode\":\"%s\",\"traffic\":\"%s\",\"cpu\":\"%s\",\"metric\":\"ns_per_"
	       "packet\","
	       "\"better\":\"lower\",",
	       names[what].name, names[what].out ? "out" : "in", bench->suite,
	       bench->text ? world_text(&bench->world, world_inner(&bench->world, bench->text))
			   : IMIX_MEAN,
	       bench->sas, bench->subnets ? SUBNET_FLOWS : bench->sas, bench->world.npolicies,
	       bench->cold ? "cold" : "hot", mode_of(bench),
	       bench->subnets ? "subnets"
	       : bench->text  ? "one size"
			      : "imix",
	       bench->avx2 ? "avx2" : "best");
	printf("\"value\":%.2f,\"q1\":%.2f,\"q3\":%.2f,\"base\":\"raw\",\"base_value\":%.2f,"
	       "\"base_q1\":%.2f,\"base_q3\":%.2f,\"ratio\":%.3f,\"pairs\":%d}\n",
	       value[SLICES / 2], value[SLICES / 4], value[SLICES * 3 / 4], base[SLICES / 2],
	       base[SLICES / 4], base[SLICES * 3 / 4], bench->ratios[what][SLICES / 2], SLICES);
	fflush(stdout);
}

static void report(struct bench *bench)
{
	for (unsigned i = 0; i < WHATS; i++) {
		for (unsigned k = 0; k < SLICES; k++)
			bench->ratios[i][k] = bench->ns[i][k] / bench->raw_ns[names[i].out][k];
		qsort(bench->ratios[i], SLICES, sizeof(double), compare);
	}
	for (unsigned i = 0; i < 2; i++)
		qsort(bench->raw_ns[i], SLICES, sizeof(double), compare);
	for (unsigned i = 0; i < WHATS; i++) {
		qsort(bench->ns[i], SLICES, sizeof(double), compare);
		if (i != GSO_OUT || has_gso(bench))
			print_row(bench, (enum what)i);
	}
}

/* --- Random flows over random subnets --- */

/* A host can have this address, and packets with it are nobody's special case. */
static bool is_unicast(const union xf_addr *addr)
{
	return addr->bytes[0] > 0 && addr->bytes[0] < 224 && addr->bytes[0] != 127;
}

static void draw_flows(struct bench *bench)
{
	set_seed(bench->policies);
	set_init(&bench->set, set_find("subnets"), XF_AF_INET, bench->policies);
	bench->flows = malloc(SUBNET_FLOWS * sizeof(*bench->flows));
	bench_must(bench->set.cfgs && bench->flows, "memory for policies");
	for (uint32_t i = 0; i < SUBNET_FLOWS; i++) {
		struct xf_flow *flow = &bench->flows[i];

		do
			set_flow(&bench->set.cfgs[set_random(bench->policies)], flow);
		while (!is_unicast(&flow->saddr) || !is_unicast(&flow->daddr));
	}
}

/* --- One size of packets --- */

static bool setup(struct bench *bench)
{
	bool large = bench->text > 2048;
	uint32_t size = large ? XF_POOL_LARGE : XF_POOL_SMALL;
	uint32_t ring = bench->cold ? COLD_BYTES / size : 2 * BATCH;
	const struct world_config cfg = {
		.one_worker = true,
		.suite = bench->suite,
		/* What is held to AVX2 is this library's manager; others would not notice. */
		.provider = bench->avx2 ? &xf_provider_ipsec_mb : NULL,
		.sas = bench->sas,
		.policies = bench->policies,
		.set = bench->set.cfgs,
		.transport = bench->transport,
		.esn = bench->esn,
		.pool = { .packets = ring + 1024,
			  .small_bufs = (large ? 0 : ring) + 1024,
			  .large_bufs = (large ? ring : 0) + 32 },
	};

	if (!world_init(&bench->world, &cfg))
		return false;
	bench_must(world_init(&bench->peer, &cfg), "a second world");
	bench->packets = ring;
	bench->text_room = bench->cold ? size : (size_of(bench, 0) + 2048) & ~1023u;
	bench->texts = aligned_alloc(64, (size_t)ring * bench->text_room);
	bench_must(bench->texts != NULL, "aligned_alloc");
	memset(bench->texts, 0, (size_t)ring * bench->text_room);
	bench->provider = xf_sa_key(bench->world.sas[0])->provider;
	bench->crypto = bench->provider->ctx_new(bench->provider, NULL);
	bench_must(bench->crypto != NULL, "ctx_new");
	fill_ring(bench);
	return true;
}

static void teardown(struct bench *bench)
{
	empty(&bench->inner);
	empty(&bench->wire);
	bench->provider->ctx_free(bench->crypto);
	world_fini(&bench->world);
	world_fini(&bench->peer);
	free(bench->texts);
}

static bool measure(struct bench *bench, uint32_t text)
{
	uint64_t start;

	bench->text = text;
	if (!setup(bench))
		return false;
	for (uint32_t i = 0; bench->cold && i < bench->packets / 2 / BATCH; i++)
		path_out(bench);
	start = bench_now_ns();
	do
		slice(bench, 0); /* its place is written again */
	while (bench_now_ns() - start < WARM_UP_NS);
	for (unsigned i = 0; i < SLICES; i++)
		slice(bench, i);
	report(bench);
	teardown(bench);
	return true;
}

static int usage(void)
{
	fputs("usage: bench_engine [--suite NAME] [--sas N] [--policies N] [--cold] [--avx2]\n"
	      "                    [--text BYTES] [--transport] [--esn]\n"
	      "                    [--subnets: random policies and flows]\n",
	      stderr);
	return 2;
}

static bool parse_options(struct bench *bench, int argc, char **argv, uint32_t *only)
{
	static const struct option longs[] = {
		{ "suite", required_argument, NULL, 's' },
		{ "sas", required_argument, NULL, 'n' },
		{ "policies", required_argument, NULL, 'p' },
		{ "cold", no_argument, NULL, 'c' },
		{ "avx2", no_argument, NULL, 'a' },
		{ "text", required_argument, NULL, 't' },
		{ "transport", no_argument, NULL, 'm' },
		{ "esn", no_argument, NULL, 'e' },
		{ "subnets", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			bench->suite = optarg;
		else if (c == 'n')
			bench->sas = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'p')
			bench->policies = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'c')
			bench->cold = true;
		else if (c == 'a')
			bench->avx2 = true;
		else if (c == 'm')
			bench->transport = true;
		else if (c == 'e')
			bench->esn = true;
		else if (c == 'r')
			bench->subnets = true;
		else if (c == 't')
			*only = (uint32_t)strtoul(optarg, NULL, 10);
		else
			return false;
	}
	/* Where an address chooses the SA, and where packets are cold, it cannot be random. */
	if (bench->subnets && (bench->sas > 1 || bench->cold))
		return false;
	return optind == argc && bench->sas > 0 && bench->policies > 0;
}

int main(int argc, char **argv)
{
	static struct bench bench = {
		.suite = "gcm128", .sas = 1, .policies = 16, .random = 88172
	};
	uint32_t only = UINT32_MAX;

	if (!parse_options(&bench, argc, argv, &only))
		return usage();
	if (bench.avx2 && !raw_limit_to_avx2()) {
		fprintf(stderr, "bench_engine: %s cannot be limited to AVX2\n", raw_name);
		return 77;
	}
	xf_huge_memory_init();
	if (xf_secret_memory_init() < 0)
		fputs("bench_engine: keys cannot be locked here, and stand on small pages\n",
		      stderr);
	xf_read_register();
	if (bench.subnets)
		draw_flows(&bench);
	bench.raw = raw_new(bench.suite);
	for (unsigned i = 0; bench.raw && i < XF_ARRAY_SIZE(sizes); i++) {
		if (only != UINT32_MAX && only != sizes[i])
			continue;
		bench_must(measure(&bench, sizes[i]), "the suite");
	}
	xf_read_unregister();
	if (!bench.raw) {
		fprintf(stderr, "bench_engine: %s has no %s here\n", raw_name, bench.suite);
		return 77;
	}
	raw_free(bench.raw);
	free(bench.set.cfgs);
	free(bench.flows);
	return 0;
}
