#include "crypto/vaes_gcm.h"
#include "crypto/done.h"

#include <cpuid.h>
#include <stdlib.h>

/* Short packets of one kind wait for others of their size. */
struct waiting {
	struct xf_crypto_op *ops[VG_GROUP];
	unsigned n;
};

/* Apart from the last two all is empty between calls. */
struct xf_crypto_ctx {
	struct vg_short pending_short[VG_SHORT_VECTORS];
	struct waiting waiting[VG_SHORT_VECTORS][VG_KINDS];
	struct xf_done done;
	size_t rounds_size; /* of round keys in the last batch: a guess for the next */
};

/* What the system saves of a thread: low and high halves, upper registers and masks of AVX512. */
#define XCR0_AVX512 0xe6u

static uint32_t saved_state(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static bool probe(void)
{
	const uint32_t need_1c = bit_AES | bit_PCLMUL | bit_OSXSAVE;
	const uint32_t need_7b = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_BMI2;
	const uint32_t need_7c = bit_VAES | bit_VPCLMULQDQ;
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need_1c) != need_1c)
		return false;
	if ((saved_state() & XCR0_AVX512) != XCR0_AVX512)
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & need_7b) == need_7b &&
	       (c & need_7c) == need_7c;
}

/* Asked once: CPUID is slow where a hypervisor answers it. */
static bool vaes_usable(void)
{
	enum { UNKNOWN, YES, NO };
	static _Atomic int answer;

	if (answer == UNKNOWN)
		answer = probe() ? YES : NO;
	return answer == YES;
}

static bool vaes_has(const struct xf_suite *suite)
{
	return suite->cipher == XF_CIPHER_AES_GCM && vaes_usable();
}

static size_t vaes_expanded_size(const struct xf_suite *suite)
{
	return offsetof(struct vg_key, round[vg_rounds_of(suite->cipher_key_len) + 1]);
}

static int vaes_key_expand(struct xf_key *key)
{
	xf_vaes_gcm_expand((struct vg_key *)(void *)key->expanded, key);
	return 0;
}

static struct xf_crypto_ctx *vaes_ctx_new(const struct xf_crypto_provider *provider,
					  const struct xf_crypto_wake *wake)
{
	struct xf_crypto_ctx *ctx;

	(void)provider;
	(void)wake;
	ctx = aligned_alloc(64, sizeof(*ctx)); /* a multiple of its alignment */
	if (ctx)
		memset(ctx, 0, sizeof(*ctx));
	return ctx;
}

static void vaes_ctx_free(struct xf_crypto_ctx *ctx)
{
	free(ctx);
}

/* With Y0 before the text and the lengths behind it. */
static inline uint32_t vectors_of(uint32_t len)
{
	return (len + VG_BLOCK - 1 + 2 * VG_BLOCK + VG_VECTOR - VG_BLOCK) / VG_VECTOR;
}

/* Are text and additional data of @op, of @len bytes, as those of short packets must be? */
static inline bool is_simple(const struct xf_crypto_op *op, uint32_t len)
{
	return op->len == len && op->nsrc == 1 && op->ndst == 1 && op->aad_len <= VG_BLOCK &&
	       op->src->len >= len && op->dst->len >= len;
}

/* What follows from the length: mostly the same as for the operation before. */
struct class
{
	uint32_t len;
	uint32_t vectors;
	uint32_t group; /* this many go together */
	struct waiting *waiting; /* by kind of key; NULL: too long */
};

static inline void classify(struct xf_crypto_ctx *ctx, uint32_t len, struct class *class)
{
	uint32_t vectors = vectors_of(len);

	class->len = len;
	class->vectors = vectors;
	class->group = vg_group(vectors);
	class->waiting = vectors <= VG_SHORT_VECTORS ? ctx->waiting[vectors - 1] : NULL;
}

static inline void add(struct xf_crypto_ctx *ctx, struct xf_crypto_op *op, struct class *class)
{
	struct waiting *waiting;

	if (op->len != class->len)
		classify(ctx, op->len, class);
	if (!class->waiting || !is_simple(op, class->len)) {
		xf_vaes_gcm_one(op);
		return;
	}
	waiting = &class->waiting[vg_key_of(op)->kind];
	waiting->ops[waiting->n++] = op;
	if (waiting->n == class->group) {
		waiting->n = 0;
		xf_vaes_gcm_short(waiting->ops, class->vectors,
				  &ctx->pending_short[class->vectors - 1]);
	}
}

/* A group of @ops that are alike need not wait. How many that were; 0: add() each. */
static inline unsigned add_group(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n,
				 struct class *class)
{
	const struct vg_key *key = vg_key_of(ops[0]);

	if (ops[0]->len != class->len)
		classify(ctx, ops[0]->len, class);
	if (!class->waiting || n < class->group)
		return 0;
	for (unsigned i = 0; i < class->group; i++)
		if (!is_simple(ops[i], class->len) || vg_key_of(ops[i])->kind != key->kind)
			return 0;
	xf_vaes_gcm_short(ops, class->vectors, &ctx->pending_short[class->vectors - 1]);
	return class->group;
}

/* What is too few for a group goes one by one. */
static void end(struct xf_crypto_ctx *ctx)
{
	for (unsigned i = 0; i < VG_SHORT_VECTORS; i++) {
		xf_vaes_gcm_short_end(i + 1, &ctx->pending_short[i]);
		for (unsigned k = 0; k < VG_KINDS; k++) {
			struct waiting *waiting = &ctx->waiting[i][k];

			while (waiting->n > 0)
				xf_vaes_gcm_one(waiting->ops[--waiting->n]);
		}
	}
}

/* Keys of operations that come so much later are fetched: all at once would be too many. */
#define FETCH_AHEAD 12
#define LINE 64

/* The lines of the key that @op reads: as many powers as it has vectors, and the round keys. */
static void fetch_key(const struct xf_crypto_op *op, size_t rounds_size)
{
	const struct vg_key *key = vg_key_of(op);
	uint32_t vectors = xf_min_u32(vectors_of(op->len), VG_POWERS / 4);
	const uint8_t *end = key->round[0] + rounds_size;

	for (const uint8_t *at = key->power[VG_POWERS - 4 * vectors]; at < end; at += LINE)
		__builtin_prefetch(at);
}

/* Of one SA's packets only the first one's key is fetched. */
static inline const struct xf_key *fetch_next(const struct xf_crypto_ctx *ctx,
					      const struct xf_crypto_op *op,
					      const struct xf_key *fetched)
{
	if (op->key != fetched)
		fetch_key(op, ctx->rounds_size);
	return op->key;
}

static void vaes_run(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	const struct xf_key *fetched = NULL;
	struct class class = { .len = UINT32_MAX };
	unsigned ahead = 0;

	for (unsigned i = 0, did; i < n; i += did) {
		for (; ahead < n && ahead < i + FETCH_AHEAD; ahead++)
			fetched = fetch_next(ctx, ops[ahead], fetched);
		did = add_group(ctx, ops + i, n - i, &class);
		if (did == 0) {
			add(ctx, ops[i], &class);
			did = 1;
		}
	}
	if (n > 0)
		ctx->rounds_size = (vg_rounds(ops[0]) + 1) * VG_BLOCK;
	end(ctx);
}

static unsigned vaes_submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	n = xf_min_u32(n, xf_done_room(&ctx->done));
	vaes_run(ctx, ops, n);
	xf_done_push_all(&ctx->done, ops, n);
	return n;
}

static unsigned vaes_complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done, unsigned max)
{
	return xf_done_take(&ctx->done, done, max);
}

const struct xf_crypto_provider xf_provider_vaes = {
	.name = "vaes",
	.preference = 30,
	.usable = vaes_usable,
	.has = vaes_has,
	.expanded_size = vaes_expanded_size,
	.key_expand = vaes_key_expand,
	.ctx_new = vaes_ctx_new,
	.ctx_free = vaes_ctx_free,
	.submit = vaes_submit,
	.complete = vaes_complete,
	.run = vaes_run,
};
