/*
 * bench_gcm.c - AES-GCM of the engine's providers against ipsec-mb's direct calls.
 *
 *   bench_gcm [--suite gcm128|gcm256] [--keys N] [--chain]
 *
 * Batches of 32 in place, in the caches, all nonces written first. Slices of the providers and of
 * the direct calls take turns; a row has the lower decile of each, which is what other work on the
 * machine disturbs least, and the ratio of these. With --keys the providers' packets have one of N
 * keys each, in random order, the direct calls still one. With --chain the providers' packets
 * are chains of head, slice and trailer, to a frame elsewhere. What is opened has
 * a wrong ICV, and nobody looks.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raw.h"
#include "world.h"

#define BATCH 32
#define SLICES 501
#define BYTES 100000 /* of text and overhead in a slice */
#define HEAD 52 /* of a chain */
#define TRAILER 4

static const uint32_t sizes[] = { 20, 36, 68, 132, 260, 516, 1028, 1404, 9004 };

struct side {
	const struct xf_crypto_provider *provider;
	struct xf_crypto_ctx *ctx;
	struct xf_key **keys;
	double ns[SLICES];
};

struct packet {
	struct xf_crypto_op op;
	struct xf_seg src[3];
	struct xf_seg dst;
};

struct bench {
	struct side sides[XF_CRYPTO_PROVIDERS_MAX];
	unsigned nsides;
	struct raw *raw;
	double raw_ns[SLICES];
	struct packet packets[BATCH];
	struct raw_text texts[BATCH];
	const char *suite;
	uint32_t nkeys;
	uint32_t random;
	uint64_t counter;
	bool chain;
};

static uint32_t rnd(struct bench *bench, uint32_t below)
{
	bench->random = bench->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)bench->random * below >> 32);
}

static void set_up_packet(struct bench *bench, unsigned i, uint32_t len, bool seal)
{
	struct packet *packet = &bench->packets[i];
	uint8_t *text = bench->texts[i].data;
	bool chain = bench->chain && len > HEAD + TRAILER;

	packet->op = (struct xf_crypto_op){
		.src = packet->src,
		.dst = chain ? &packet->dst : packet->src,
		.nsrc = chain ? 3 : 1,
		.ndst = 1,
		.len = len,
		.encrypt = seal,
		.aad_len = 8,
	};
	packet->op.aad = packet->op.aad_mem;
	packet->op.icv = packet->op.icv_mem;
	packet->src[0] = (struct xf_seg){ .data = text, .len = chain ? HEAD : len };
	packet->src[1] = (struct xf_seg){ .data = text + 9216, .len = len - HEAD - TRAILER };
	packet->src[2] = (struct xf_seg){ .data = text + len - TRAILER, .len = TRAILER };
	packet->dst = (struct xf_seg){ .data = text, .len = len };
	bench->texts[i].len = len;
}

static void one_batch(struct bench *bench, const struct side *side)
{
	struct xf_crypto_op *ops[BATCH], *done[BATCH];
	unsigned finished = 0;

	for (unsigned i = 0; i < BATCH; i++) {
		struct xf_crypto_op *op = &bench->packets[i].op;
		uint64_t words[2] = { 0, ++bench->counter };

		op->key = side->keys[bench->nkeys > 1 ? rnd(bench, bench->nkeys) : 0];
		memcpy(op->nonce, words, sizeof(words));
		ops[i] = op;
	}
	bench_must(side->provider->submit(side->ctx, ops, BATCH) == BATCH, "submit");
	while (finished < BATCH)
		finished += side->provider->complete(side->ctx, done, BATCH);
}

static double slice(struct bench *bench, const struct side *side, unsigned batches, bool seal)
{
	uint64_t start = bench_now_ns();

	for (unsigned i = 0; i < batches; i++) {
		if (side)
			one_batch(bench, side);
		else
			raw_work(bench->raw, bench->texts, BATCH, seal);
	}
	return (double)(bench_now_ns() - start) / batches / BATCH;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double lower_decile(double *values)
{
	qsort(values, SLICES, sizeof(*values), by_value);
	return values[SLICES / 10];
}

static void measure(struct bench *bench, uint32_t len, bool seal)
{
	unsigned batches = BYTES / BATCH / (len + 400) + 1;
	double raw;

	for (unsigned i = 0; i < BATCH; i++)
		set_up_packet(bench, i, len, seal);
	for (unsigned i = 0; i < SLICES; i++) {
		bench->raw_ns[i] = slice(bench, NULL, batches, seal);
		for (unsigned s = 0; s < bench->nsides; s++)
			bench->sides[s].ns[i] = slice(bench, &bench->sides[s], batches, seal);
	}
	raw = lower_decile(bench->raw_ns);
	printf("%-5s %5u  direct %7.1f", seal ? "seal" : "open", len, raw);
	for (unsigned s = 0; s < bench->nsides; s++) {
		double ns = lower_decile(bench->sides[s].ns);

		printf("  %s %7.1f = %.2f", bench->sides[s].provider->name, ns, ns / raw);
	}
	printf("\n");
}

static void open_side(struct bench *bench, const struct xf_crypto_provider *provider)
{
	struct xf_suite suite = {
		.cipher = XF_CIPHER_AES_GCM,
		.cipher_key_len = strcmp(bench->suite, "gcm256") == 0 ? 32 : 16,
		.salt_len = 4,
		.iv_len = 8,
		.block_len = 1,
		.icv_len = 16,
	};
	struct side *side = &bench->sides[bench->nsides];
	uint8_t raw_key[XF_CIPHER_KEY_MAX + XF_SALT_MAX] = { 1 };

	if (!provider->usable() || provider == &xf_provider_openssl || !provider->has(&suite))
		return;
	side->provider = provider;
	side->ctx = provider->ctx_new(provider, NULL);
	side->keys = calloc(bench->nkeys, sizeof(struct xf_key *));
	bench_must(side->ctx && side->keys, "memory");
	for (uint32_t i = 0; i < bench->nkeys; i++) {
		memcpy(raw_key, &i, sizeof(i));
		bench_must(xf_key_new(&suite, provider, raw_key, NULL, &side->keys[i]) == 0, "key");
	}
	bench->nsides++;
}

static bool parse_options(struct bench *bench, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "suite", required_argument, NULL, 's' },
		{ "keys", required_argument, NULL, 'k' },
		{ "chain", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			bench->suite = optarg;
		else if (c == 'k')
			bench->nkeys = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'h')
			bench->chain = true;
		else
			return false;
	}
	return optind == argc && bench->nkeys > 0;
}

int main(int argc, char **argv)
{
	static struct bench bench = { .suite = "gcm128", .nkeys = 1, .random = 88172 };

	if (!parse_options(&bench, argc, argv)) {
		fputs("usage: bench_gcm [--suite gcm128|gcm256] [--keys N] [--chain]\n", stderr);
		return 2;
	}
	bench.raw = raw_new(bench.suite);
	bench_must(bench.raw != NULL, "the direct calls");
	for (unsigned i = 0; xf_crypto_providers()[i]; i++)
		open_side(&bench, xf_crypto_providers()[i]);
	for (unsigned i = 0; i < BATCH; i++) {
		bench.texts[i].data = calloc(1, 2 * 9216 + 64);
		bench_must(bench.texts[i].data != NULL, "memory");
	}
	for (unsigned i = 0; i < XF_ARRAY_SIZE(sizes); i++) {
		measure(&bench, sizes[i], true);
		measure(&bench, sizes[i], false);
	}
	for (unsigned s = 0; s < bench.nsides; s++) {
		bench.sides[s].provider->ctx_free(bench.sides[s].ctx);
		for (uint32_t i = 0; i < bench.nkeys; i++)
			xf_key_free(bench.sides[s].keys[i]);
		free(bench.sides[s].keys);
	}
	for (unsigned i = 0; i < BATCH; i++)
		free(bench.texts[i].data);
	raw_free(bench.raw);
	return 0;
}
