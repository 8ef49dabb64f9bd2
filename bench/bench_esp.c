/*
 * bench_esp.c - ns per packet of ESP through the engine, out and in, beside the raw cipher.
 *
 * One SA (AES-128-GCM, tunnel, IPv4), one policy a direction, batches of 64 through xf_path_out()
 * and xf_path_in(): policy lookup, SA lookup, replay window and headers are all in it; making and
 * freeing the packets is not. Engine and cipher run in alternating slices, so that a change of the
 * clock's speed meets both; the median of the slices counts. Prints JSON.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xf/ip.h>
#include <xf/path.h>
#include <xf/rcu.h>

#include "raw.h"

/* Slices are short, so that most of them are not interrupted even on a busy machine. */
#define ROUNDS 601
#define BATCHES 8 /* of XF_BATCH packets, in one slice */
#define TEXT_ROOM 2048

static const uint32_t sizes[] = { 64, 256, 512, 1400 };

struct bench {
	struct xf_engine *engine;
	struct xf_worker *worker;
	struct raw *raw;
	uint8_t (*text)[TEXT_ROOM]; /* XF_BATCH of them */
	uint64_t nonce;
};

/* ns per packet of one slice */
struct sample {
	double out, in, seal, open;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void must(bool fine, const char *what)
{
	if (!fine) {
		fprintf(stderr, "bench_esp: %s failed\n", what);
		exit(1);
	}
}

static bool is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	(void)arg;
	(void)addr;
	(void)family;
	return true;
}

static void attention(void *arg)
{
	(void)arg;
}

static void not_random(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0x5a, len);
}

static const struct xf_lifetime no_limit = {
	.soft_bytes = XF_INF,
	.hard_bytes = XF_INF,
	.soft_packets = XF_INF,
	.hard_packets = XF_INF,
};

static void add_sa(struct bench *bench, const uint8_t key_bytes[20])
{
	struct xf_suite_request req = {
		.aead = xf_alg_find(XF_ALG_AEAD, "rfc4106(gcm(aes))", 128),
		.cipher_key_bits = 160,
		.icv_bits = 128,
	};
	struct xf_sa_config cfg = {
		.id = { .spi = 0x1000, .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
		.life = no_limit,
		.replay_window = 64,
		.reqid = 1,
		.mode = XF_MODE_TUNNEL,
		.pcpu = UINT32_MAX,
	};
	uint8_t seed[XF_IVGEN_SEED] = { 1 };
	struct xf_key *key;
	struct xf_sa *sa;

	xf_addr_parse("192.0.2.1", &cfg.saddr);
	xf_addr_parse("192.0.2.2", &cfg.id.daddr);
	must(xf_suite_build(&req, &cfg.suite) == 0, "xf_suite_build");
	must(xf_key_new(&cfg.suite, NULL, key_bytes, NULL, &key) == 0, "xf_key_new");
	must(xf_sa_new(&cfg, key, XF_SA_VALID, seed, now_ns(), &sa) == 0, "xf_sa_new");
	must(xf_sad_add(xf_engine_sad(bench->engine), sa, NULL) == 0, "xf_sad_add");
}

/* The SA is its own peer: what goes out through it comes in through it. */
static void add_policy(struct bench *bench, uint8_t dir)
{
	struct xf_policy_config cfg = {
		.sel = { .family = XF_AF_INET, .prefixlen_s = 8, .prefixlen_d = 8 },
		.life = no_limit,
		.dir = dir,
		.ntmpl = 1,
	};
	struct xf_tmpl *tmpl = &cfg.tmpl[0];
	struct xf_policy *policy;

	xf_addr_parse("10.0.0.0", &cfg.sel.saddr);
	xf_addr_parse("10.0.0.0", &cfg.sel.daddr);
	xf_addr_parse("192.0.2.1", &tmpl->saddr);
	xf_addr_parse("192.0.2.2", &tmpl->id.daddr);
	tmpl->id.family = XF_AF_INET;
	tmpl->id.proto = XF_IPPROTO_ESP;
	tmpl->mode = XF_MODE_TUNNEL;
	tmpl->reqid = 1;
	tmpl->aalgos = tmpl->ealgos = tmpl->calgos = UINT32_MAX;
	must(xf_spd_insert(xf_engine_spd(bench->engine), &cfg, true, now_ns(), &policy) == 0,
	     "xf_spd_insert");
}

static void setup(struct bench *bench)
{
	const struct xf_engine_config engine = {
		.sad = { .random = not_random, .larval_lifetime_s = 30 },
		.env = { .is_local = is_local, .attention = attention },
	};
	const struct xf_worker_config worker = {
		.pool = { .packets = 1024, .small_bufs = 2048, .large_bufs = 8 },
	};
	const uint8_t key[20] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };

	xf_read_register();
	bench->engine = xf_engine_new(&engine);
	must(bench->engine != NULL, "xf_engine_new");
	bench->worker = xf_worker_new(bench->engine, &worker);
	must(bench->worker != NULL, "xf_worker_new");
	bench->raw = raw_new(key);
	must(bench->raw != NULL, "raw_new");
	bench->text = calloc(XF_BATCH, sizeof(*bench->text));
	must(bench->text != NULL, "calloc");
	add_sa(bench, key);
	add_policy(bench, XF_DIR_OUT);
	add_policy(bench, XF_DIR_IN);
}

static void teardown(struct bench *bench)
{
	free(bench->text);
	raw_free(bench->raw);
	xf_worker_free(bench->worker);
	xf_engine_free(bench->engine);
	xf_read_unregister();
}

/* A UDP datagram from 10.0.0.1 to 10.0.0.2, @len bytes with its IP header. */
static struct xf_pkt *make_packet(struct bench *bench, uint32_t len)
{
	static const uint8_t head[28] = { 0x45, 0, 0, 0, 0,  1, 0, 0, 64, 17, 0, 0,
					  10,	0, 0, 1, 10, 0, 0, 2, 0,  7,  0, 7 };
	struct xf_pkt *pkt = xf_pkt_new(xf_worker_pool(bench->worker), len);
	uint8_t *data;

	must(pkt != NULL, "xf_pkt_new");
	data = xf_pkt_append(pkt, len);
	must(data != NULL, "xf_pkt_append");
	memset(data, 0, len);
	memcpy(data, head, sizeof(head));
	xf_put_be16(data + 2, (uint16_t)len);
	xf_put_be16(data + 24, (uint16_t)(len - 20));
	xf_put_be16(data + 10, xf_csum_fold(xf_pkt_csum(pkt, 0, 20, 0)));
	pkt->family = XF_AF_INET;
	pkt->local = true;
	return pkt;
}

static void free_all(struct xf_pktq *queue)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(queue)) != NULL)
		xf_pkt_free(pkt);
}

/* One batch out and back in; adds the time of each to @sum. */
static void engine_batch(struct bench *bench, uint32_t len, struct sample *sum)
{
	struct xf_path_result res = { 0 };
	struct xf_pktq queue = { 0 };
	uint64_t start, middle, end;

	for (unsigned i = 0; i < XF_BATCH; i++)
		xf_pktq_push(&queue, make_packet(bench, len));
	start = now_ns();
	xf_path_out(bench->worker, &queue, start, &res);
	middle = now_ns();
	must(res.wire.count == XF_BATCH, "xf_path_out");
	sum->out += (double)(middle - start);
	queue = res.wire;
	memset(&res.wire, 0, sizeof(res.wire));
	start = now_ns();
	xf_path_in(bench->worker, &queue, start, &res);
	end = now_ns();
	must(res.deliver.count == XF_BATCH, "xf_path_in");
	sum->in += (double)(end - start);
	free_all(&res.deliver);
	xf_read_quiescent();
}

/* The same number of bytes through the cipher: the inner packet, padding, two bytes of trailer. */
static void raw_batch(struct bench *bench, uint32_t len, struct sample *sum)
{
	uint32_t text_len = (len + 2 + 3) & ~3U;
	uint8_t nonce[XF_BATCH][12] = { { 0 } };
	uint64_t start, middle;

	for (unsigned i = 0; i < XF_BATCH; i++) {
		bench->nonce++;
		memcpy(nonce[i] + 4, &bench->nonce, sizeof(bench->nonce));
		memset(bench->text[i], 0, text_len);
	}
	start = now_ns();
	for (unsigned i = 0; i < XF_BATCH; i++)
		raw_seal(bench->raw, bench->text[i], text_len, nonce[i]);
	middle = now_ns();
	sum->seal += (double)(middle - start);
	for (unsigned i = 0; i < XF_BATCH; i++)
		raw_open(bench->raw, bench->text[i], text_len, nonce[i]);
	sum->open += (double)(now_ns() - middle);
}

static struct sample slice(struct bench *bench, uint32_t len)
{
	const double packets = (double)BATCHES * XF_BATCH;
	struct sample sum = { 0 };

	for (unsigned i = 0; i < BATCHES; i++)
		engine_batch(bench, len, &sum);
	for (unsigned i = 0; i < BATCHES; i++)
		raw_batch(bench, len, &sum);
	sum.out /= packets;
	sum.in /= packets;
	sum.seal /= packets;
	sum.open /= packets;
	return sum;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct sample *samples, size_t field)
{
	double values[ROUNDS];

	for (unsigned i = 0; i < ROUNDS; i++)
		memcpy(&values[i], (const char *)&samples[i] + field, sizeof(values[i]));
	qsort(values, ROUNDS, sizeof(values[0]), compare);
	return values[ROUNDS / 2];
}

static void report(const struct sample *samples, uint32_t len, bool last)
{
	printf("    {\"bytes\": %u, \"out_ns\": %.1f, \"cipher_out_ns\": %.1f, "
	       "\"in_ns\": %.1f, \"cipher_in_ns\": %.1f}%s\n",
	       len, median(samples, offsetof(struct sample, out)),
	       median(samples, offsetof(struct sample, seal)),
	       median(samples, offsetof(struct sample, in)),
	       median(samples, offsetof(struct sample, open)), last ? "" : ",");
}

int main(void)
{
	struct xf_engine_stats stats;
	struct bench bench = { 0 };
	static struct sample samples[ROUNDS];

	setup(&bench);
	printf("{\n  \"suite\": \"AES-128-GCM, tunnel, IPv4\", \"batch\": %d, \"cipher\": \"%s\", "
	       "\"slices\": %d,\n  \"esp\": [\n",
	       XF_BATCH, raw_name, ROUNDS);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(sizes); i++) {
		for (unsigned round = 0; round < ROUNDS; round++)
			samples[round] = slice(&bench, sizes[i]);
		report(samples, sizes[i], i + 1 == XF_ARRAY_SIZE(sizes));
	}
	xf_engine_get_stats(bench.engine, &stats);
	printf("  ],\n  \"lin_copies\": %llu, \"payload_bytes_copied\": %llu\n}\n",
	       (unsigned long long)stats.lin_copies,
	       (unsigned long long)stats.payload_bytes_copied);
	teardown(&bench);
	return 0;
}
