/*
 * null_provider.c - a cipher that does nothing but what every cipher must: pass over the payload.
 *
 * It serves AEADs with their sizes, copies the text and writes a tag of 16 bytes; in place it
 * copies to memory of its own, so that the payload is read and written as well. It protects
 * nothing. It is linked into xfrmd_null alone, a daemon that stays in the build directory: what
 * remains of a figure when the cipher's work is taken away.
 */
#include <stdlib.h>
#include <string.h>

#include <xf/crypto.h>

#define RING 2048u

struct null_ctx {
	struct xf_crypto_op *ring[RING];
	unsigned taken;
	uint8_t copy[XF_PKT_MAX];
};

static bool usable(void)
{
	return true;
}

static bool has(const struct xf_suite *suite)
{
	return xf_suite_is_aead(suite) && suite->icv_len == 16;
}

static size_t expanded_size(const struct xf_suite *suite)
{
	(void)suite;
	return 64;
}

static int key_expand(struct xf_key *key)
{
	(void)key;
	return 0;
}

static struct xf_crypto_ctx *ctx_new(const struct xf_crypto_provider *provider,
				     const struct xf_crypto_wake *wake)
{
	(void)provider;
	(void)wake;
	return calloc(1, sizeof(struct null_ctx));
}

static void ctx_free(struct xf_crypto_ctx *ctx)
{
	free(ctx);
}

/* The text as one run of bytes at @out. */
static void gather(const struct xf_crypto_op *op, uint8_t *out)
{
	for (unsigned i = 0; i < op->nsrc; i++) {
		memmove(out, op->src[i].data, op->src[i].len);
		out += op->src[i].len;
	}
}

static void scatter(const struct xf_crypto_op *op, const uint8_t *from)
{
	for (unsigned i = 0; i < op->ndst; i++) {
		memcpy(op->dst[i].data, from, op->dst[i].len);
		from += op->dst[i].len;
	}
}

static void work(struct null_ctx *null, struct xf_crypto_op *op)
{
	if (op->dst != op->src && op->ndst == 1) {
		gather(op, op->dst[0].data);
	} else {
		gather(op, null->copy);
		if (op->dst != op->src)
			scatter(op, null->copy);
	}
	if (op->encrypt)
		memset(op->icv, 0x11, 16);
	op->status = XF_CRYPTO_OK;
}

static unsigned submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	struct null_ctx *null = (struct null_ctx *)ctx;
	unsigned i;

	for (i = 0; i < n && null->taken < RING; i++) {
		work(null, ops[i]);
		null->ring[null->taken++] = ops[i];
	}
	return i;
}

static unsigned complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max)
{
	struct null_ctx *null = (struct null_ctx *)ctx;
	unsigned n = null->taken < max ? null->taken : max;

	null->taken -= n;
	memcpy(done, null->ring + null->taken, n * sizeof(struct xf_crypto_op *));
	return n;
}

static const struct xf_crypto_provider null_provider = {
	.name = "null",
	.preference = 1000,
	.usable = usable,
	.has = has,
	.expanded_size = expanded_size,
	.key_expand = key_expand,
	.ctx_new = ctx_new,
	.ctx_free = ctx_free,
	.submit = submit,
	.complete = complete,
};

__attribute__((constructor)) static void join_in(void)
{
	if (xf_crypto_register(&null_provider))
		abort();
}
