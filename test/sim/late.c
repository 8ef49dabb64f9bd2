#include <stdlib.h>

#include "late.h"

struct xf_crypto_ctx {
	const struct xf_crypto_provider *base;
	struct xf_crypto_ctx *inner;
	struct xf_crypto_op *ring[LATE_RING];
	unsigned n;
};

static uint32_t chance = 100;
static bool (*failing)(const struct xf_crypto_op *op);
static unsigned shuffled;
static uint64_t rng = 88172645463325252ull;

static uint32_t below(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 20) % n);
}

void late_set_chance(uint32_t percent)
{
	chance = percent;
}

void late_set_failing(bool (*fails)(const struct xf_crypto_op *op))
{
	failing = fails;
}

unsigned late_shuffled(void)
{
	return shuffled;
}

static const struct xf_crypto_provider *base(void)
{
	return &xf_provider_openssl;
}

static bool usable(void)
{
	return true;
}

static bool has(const struct xf_suite *suite)
{
	return base()->has(suite);
}

static bool wants(const struct xf_suite *suite)
{
	(void)suite;
	return false;
}

static size_t expanded_size(const struct xf_suite *suite)
{
	return base()->expanded_size(suite);
}

static int key_expand(struct xf_key *key)
{
	return base()->key_expand(key);
}

static void key_release(struct xf_key *key)
{
	if (base()->key_release)
		base()->key_release(key);
}

static struct xf_crypto_ctx *ctx_new(const struct xf_crypto_provider *provider,
				     const struct xf_crypto_wake *wake)
{
	struct xf_crypto_ctx *ctx = calloc(1, sizeof(*ctx));

	(void)provider;
	(void)wake;
	ctx->inner = base()->ctx_new(base(), NULL);
	return ctx;
}

static void ctx_free(struct xf_crypto_ctx *ctx)
{
	base()->ctx_free(ctx->inner);
	free(ctx);
}

static unsigned submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	unsigned taken = 0;

	while (taken < n && ctx->n < LATE_RING)
		ctx->ring[ctx->n++] = ops[taken++];
	return taken;
}

static void work(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op)
{
	struct xf_crypto_op *done;

	if (failing && failing(op)) {
		op->status = XF_CRYPTO_ERROR;
		return;
	}
	base()->submit(ctx->inner, &op, 1);
	while (base()->complete(ctx->inner, &done, 1) == 0)
		;
}

static unsigned complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max)
{
	unsigned n = 0;

	/* Backwards, so that late ones overtake early ones. */
	for (unsigned i = ctx->n; i-- > 0 && n < max;) {
		if (below(100) >= chance)
			continue;
		done[n] = ctx->ring[i];
		shuffled += i > 0;
		ctx->ring[i] = ctx->ring[--ctx->n];
		work(ctx, done[n++]);
	}
	return n;
}

const struct xf_crypto_provider late_provider = {
	.name = "late",
	.preference = -1,
	.asynchronous = true,
	.usable = usable,
	.has = has,
	.wants = wants,
	.expanded_size = expanded_size,
	.key_expand = key_expand,
	.key_release = key_release,
	.ctx_new = ctx_new,
	.ctx_free = ctx_free,
	.submit = submit,
	.complete = complete,
};
