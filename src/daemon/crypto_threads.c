/*
 * Work goes to the pool in bites of a few operations, so that a batch is spread over its threads
 * and yet costs few locks. A bite is done whole, then its operations are in their context's ring,
 * which has room for all that the context ever has under way.
 *
 * The key is expanded by the provider that will do the work, and laid out as that one has it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "crypto_threads.h"
#include "daemon/thread/thread.h"

#define BITE 8

struct bite {
	struct bite *next;
	struct xf_crypto_ctx *ctx;
	unsigned n;
	struct xf_crypto_op *ops[BITE];
};

struct xf_crypto_ctx {
	struct xf_crypto_wake wake;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t quiet; /* nothing is under way */
	unsigned under_way; /* taken, not in the ring yet */
	unsigned first; /* of those in the ring */
	unsigned count;
	struct xf_crypto_op *ring[XF_CRYPTO_THREADS_RING];
	/* The owner's thread: bites that nobody works on are in @free, under the lock. */
	struct bite *free;
	struct bite bites[XF_CRYPTO_THREADS_RING];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct bite *first;
	struct bite *last;
	bool stop;
	enum xf_crypto_threads_for suites;
	unsigned n;
	pthread_t threads[XF_CRYPTO_THREADS_MAX];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER };

/* Who does the work for @suite: the best that is not this provider. */
static const struct xf_crypto_provider *base_of(const struct xf_suite *suite)
{
	const struct xf_crypto_provider *const *p = xf_crypto_providers();
	const struct xf_crypto_provider *best = NULL;

	for (; *p; p++)
		if (!(*p)->asynchronous && (!best || (*p)->preference > best->preference) &&
		    (*p)->has(suite))
			best = *p;
	return best;
}

static bool threads_usable(void)
{
	return pool.n > 0;
}

static bool threads_has(const struct xf_suite *suite)
{
	return threads_usable() && base_of(suite);
}

static bool threads_wants(const struct xf_suite *suite)
{
	if (pool.suites == XF_CRYPTO_THREADS_SLOW)
		return suite->cipher != XF_CIPHER_AES_GCM && suite->cipher != XF_CIPHER_AES_GMAC &&
		       suite->cipher != XF_CIPHER_CHACHA20_POLY1305;
	return pool.suites == XF_CRYPTO_THREADS_ALL;
}

static size_t threads_expanded_size(const struct xf_suite *suite)
{
	return base_of(suite)->expanded_size(suite);
}

static int threads_key_expand(struct xf_key *key)
{
	return base_of(&key->suite)->key_expand(key);
}

static void threads_key_release(struct xf_key *key)
{
	const struct xf_crypto_provider *base = base_of(&key->suite);

	if (base->key_release)
		base->key_release(key);
}

/* --- The pool --- */

/*
 * A thread's own contexts, one for each provider that can do work. They are made while the thread
 * may still open files: libcrypto reads its configuration when it is used first.
 */
struct bench {
	struct xf_crypto_ctx *ctx[XF_CRYPTO_PROVIDERS_MAX];
};

static struct bench benches[XF_CRYPTO_THREADS_MAX];

static struct xf_crypto_ctx *ctx_for(struct bench *bench, const struct xf_crypto_provider *base)
{
	return bench->ctx[xf_crypto_provider_index(base)];
}

static void close_bench(struct bench *bench)
{
	const struct xf_crypto_provider *const *p = xf_crypto_providers();

	for (unsigned i = 0; p[i]; i++)
		if (bench->ctx[i])
			p[i]->ctx_free(bench->ctx[i]);
	*bench = (struct bench){ { NULL } };
}

static int open_bench(void *arg)
{
	const struct xf_crypto_provider *const *p = xf_crypto_providers();
	struct bench *bench = arg;

	for (unsigned i = 0; p[i]; i++) {
		if (p[i]->asynchronous || !p[i]->usable())
			continue;
		bench->ctx[i] = p[i]->ctx_new(p[i], NULL);
		if (!bench->ctx[i]) {
			close_bench(bench);
			return -ENOMEM;
		}
	}
	return 0;
}

/* The first operations of @ops that have one provider: done when this returns. How many. */
static unsigned do_run(struct bench *bench, struct xf_crypto_op **ops, unsigned n)
{
	const struct xf_crypto_provider *base = base_of(&ops[0]->key->suite);
	struct xf_crypto_ctx *ctx = ctx_for(bench, base);
	struct xf_crypto_op *done[BITE];
	unsigned run = 1;
	unsigned taken = 0;

	while (run < n && base_of(&ops[run]->key->suite) == base)
		run++;
	while (ctx && taken < run) {
		unsigned now = base->submit(ctx, ops + taken, run - taken);

		taken += now;
		if (base->complete(ctx, done, BITE) == 0 && now == 0)
			break;
	}
	for (; taken < run; taken++)
		ops[taken]->status = XF_CRYPTO_ERROR;
	return run;
}

static void give_back(struct bite *bite)
{
	struct xf_crypto_ctx *ctx = bite->ctx;
	bool was_empty;

	pthread_mutex_lock(&ctx->lock);
	was_empty = ctx->count == 0;
	for (unsigned i = 0; i < bite->n; i++)
		ctx->ring[(ctx->first + ctx->count++) % XF_CRYPTO_THREADS_RING] = bite->ops[i];
	bite->next = ctx->free;
	ctx->free = bite;
	/* Told before the owner can think that nothing is under way, and free the context. */
	if (was_empty && ctx->wake.fn)
		ctx->wake.fn(ctx->wake.arg);
	ctx->under_way -= bite->n;
	if (ctx->under_way == 0)
		pthread_cond_signal(&ctx->quiet);
	pthread_mutex_unlock(&ctx->lock);
}

static struct bite *next_bite(void)
{
	struct bite *bite;

	pthread_mutex_lock(&pool.lock);
	while (!pool.first && !pool.stop)
		pthread_cond_wait(&pool.work, &pool.lock);
	bite = pool.first;
	if (bite)
		pool.first = bite->next;
	if (!pool.first)
		pool.last = NULL;
	pthread_mutex_unlock(&pool.lock);
	return bite;
}

static void run(void *arg)
{
	struct bench *bench = arg;
	struct bite *bite;

	while ((bite = next_bite())) {
		for (unsigned i = 0; i < bite->n;)
			i += do_run(bench, bite->ops + i, bite->n - i);
		give_back(bite);
	}
	close_bench(bench);
}

/* --- A context --- */

static struct xf_crypto_ctx *threads_ctx_new(const struct xf_crypto_provider *provider,
					     const struct xf_crypto_wake *wake)
{
	struct xf_crypto_ctx *ctx = calloc(1, sizeof(*ctx));

	(void)provider;
	if (!ctx)
		return NULL;
	if (wake)
		ctx->wake = *wake;
	pthread_mutex_init(&ctx->lock, NULL);
	pthread_cond_init(&ctx->quiet, NULL);
	for (unsigned i = 0; i < XF_CRYPTO_THREADS_RING; i++) {
		ctx->bites[i].ctx = ctx;
		ctx->bites[i].next = ctx->free;
		ctx->free = &ctx->bites[i];
	}
	return ctx;
}

static void threads_ctx_free(struct xf_crypto_ctx *ctx)
{
	pthread_mutex_lock(&ctx->lock);
	while (ctx->under_way > 0)
		pthread_cond_wait(&ctx->quiet, &ctx->lock);
	pthread_mutex_unlock(&ctx->lock);
	pthread_cond_destroy(&ctx->quiet);
	pthread_mutex_destroy(&ctx->lock);
	free(ctx);
}

/* Bites for the first @n of @ops, in a list; fewer when the ring could not take them back. */
static struct bite *cut_bites(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned *n,
			      struct bite **last)
{
	struct bite *list = NULL;
	unsigned room;

	pthread_mutex_lock(&ctx->lock);
	room = XF_CRYPTO_THREADS_RING - ctx->count - ctx->under_way;
	if (*n > room)
		*n = room;
	*last = NULL;
	for (unsigned i = 0; i < *n; i += BITE) {
		struct bite *bite = ctx->free;

		ctx->free = bite->next;
		bite->next = NULL;
		bite->n = *n - i < BITE ? *n - i : BITE;
		memcpy(bite->ops, ops + i, bite->n * sizeof(bite->ops[0]));
		if (*last)
			(*last)->next = bite;
		else
			list = bite;
		*last = bite;
	}
	ctx->under_way += *n;
	pthread_mutex_unlock(&ctx->lock);
	return list;
}

static unsigned threads_submit(struct xf_crypto_ctx *ctx, struct xf_crypto_op **ops, unsigned n)
{
	struct bite *last;
	struct bite *list = cut_bites(ctx, ops, &n, &last);

	if (!list)
		return 0;
	pthread_mutex_lock(&pool.lock);
	if (pool.last)
		pool.last->next = list;
	else
		pool.first = list;
	pool.last = last;
	pthread_cond_broadcast(&pool.work);
	pthread_mutex_unlock(&pool.lock);
	return n;
}

static unsigned threads_complete(struct xf_crypto_ctx *ctx, struct xf_crypto_op **done,
				 unsigned max)
{
	unsigned n = 0;

	pthread_mutex_lock(&ctx->lock);
	for (; n < max && ctx->count > 0; n++, ctx->count--) {
		done[n] = ctx->ring[ctx->first];
		ctx->first = (ctx->first + 1) % XF_CRYPTO_THREADS_RING;
	}
	pthread_mutex_unlock(&ctx->lock);
	return n;
}

const struct xf_crypto_provider xf_provider_threads = {
	.name = "threads",
	.preference = 100,
	.asynchronous = true,
	.usable = threads_usable,
	.has = threads_has,
	.wants = threads_wants,
	.expanded_size = threads_expanded_size,
	.key_expand = threads_key_expand,
	.key_release = threads_key_release,
	.ctx_new = threads_ctx_new,
	.ctx_free = threads_ctx_free,
	.submit = threads_submit,
	.complete = threads_complete,
};

static int start_thread(unsigned i)
{
	const struct xf_thread_config cfg = {
		.name = "crypto",
		.role = XF_ROLE_CRYPTO,
		.prepare = open_bench,
		.run = run,
		.arg = &benches[i],
	};

	return xf_thread_start(&cfg, &pool.threads[i]);
}

int xf_crypto_threads_start(unsigned threads, enum xf_crypto_threads_for suites)
{
	int err;

	if (pool.n > 0)
		return -EALREADY;
	err = xf_crypto_register(&xf_provider_threads);
	if (err && err != -EEXIST)
		return err;
	pool.stop = false;
	pool.suites = suites;
	for (; pool.n < threads && pool.n < XF_CRYPTO_THREADS_MAX; pool.n++) {
		err = start_thread(pool.n);
		if (err) {
			xf_crypto_threads_stop();
			return err;
		}
	}
	return 0;
}

void xf_crypto_threads_stop(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.stop = true;
	pthread_cond_broadcast(&pool.work);
	pthread_mutex_unlock(&pool.lock);
	while (pool.n > 0)
		pthread_join(pool.threads[--pool.n], NULL);
}
