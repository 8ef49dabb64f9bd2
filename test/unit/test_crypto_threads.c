/*
 * One key, many threads: each with its own context, all with the same answer. Keys that one thread
 * has used and another one releases. Worth most under ThreadSanitizer.
 */
#include "crypto_util.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 4
#define ROUNDS 300
#define RELEASES 4000
#define LEN 304u /* whole blocks, for CBC */

static struct xf_suite suites[MAX_SUITES];
static unsigned nsuites;
static struct xf_key *keys[MAX_SUITES];
static const struct xf_crypto_provider *provider;

/* What a thread made of each suite's message first, and how often it came out otherwise later. */
struct worker {
	pthread_t thread;
	uint8_t text[MAX_SUITES][LEN];
	uint8_t icv[MAX_SUITES][XF_ICV_MAX];
	unsigned differs;
};
static struct worker workers[THREADS];

static void compare(struct worker *worker, unsigned suite, bool first,
		    const struct xf_crypto_op *op)
{
	const uint8_t *text = op->dst->data;

	if (first) {
		memcpy(worker->text[suite], text, LEN);
		memcpy(worker->icv[suite], op->icv_mem, sizeof(op->icv_mem));
	}
	worker->differs += memcmp(worker->text[suite], text, LEN) ||
			   memcmp(worker->icv[suite], op->icv_mem, sizeof(op->icv_mem));
}

/*
 * The same plain text, nonce and aad in every thread, as chains in one half of the threads'
 * rounds: a chain's state lives longest. No random numbers here.
 */
static void run_key(struct engine *engine, const struct xf_key *key, struct worker *worker,
		    unsigned suite, unsigned round)
{
	uint8_t mem[XF_AAD_MAX + LEN] = { 0 };
	struct xf_buf buf = { .mem = mem, .size = sizeof(mem), .refs = 1 };
	struct xf_crypto_op op = { .key = key, .len = LEN, .encrypt = true, .aad_len = 8 };
	struct xf_seg segs[4];
	struct xf_crypto_op *ops = &op;

	op_point(&op);
	op.src = op.dst = segs;
	op.nsrc = op.ndst = round % 2 ? XF_ARRAY_SIZE(segs) : 1;
	for (unsigned i = 0; i < op.nsrc; i++)
		segs[i] = (struct xf_seg){ .data = mem + op.aad_len + i * LEN / op.nsrc,
					   .len = LEN / op.nsrc,
					   .buf = &buf };
	op.nonce[15] = 1;
	engine->provider->submit(engine->ctx, &ops, 1);
	while (!engine->provider->complete(engine->ctx, &ops, 1))
		;
	compare(worker, suite, round == 0, &op);
}

static void *work(void *arg)
{
	struct engine engine = { .provider = provider, .ctx = provider->ctx_new(provider, NULL) };

	if (!engine.ctx)
		return NULL;
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < nsuites; i++)
			if (keys[i])
				run_key(&engine, keys[i], arg, i, round);
	engine_close(&engine);
	return arg;
}

static void compare_threads(void)
{
	for (unsigned t = 0; t < THREADS; t++) {
		assert_int_equal(workers[t].differs, 0);
		assert_memory_equal(workers[t].text, workers[0].text, sizeof(workers[t].text));
		assert_memory_equal(workers[t].icv, workers[0].icv, sizeof(workers[t].icv));
	}
}

static void keys_are_shared(void **state)
{
	(void)state;
	for (unsigned p = 0; (provider = xf_crypto_providers()[p]); p++) {
		if (!provider->usable())
			continue;
		memset(workers, 0, sizeof(workers));
		for (unsigned i = 0; i < nsuites; i++)
			keys[i] = provider->has(&suites[i]) ? make_key(&suites[i], provider, i)
							    : NULL;
		for (unsigned t = 0; t < THREADS; t++)
			assert_int_equal(
				pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
		for (unsigned t = 0; t < THREADS; t++) {
			void *done;

			assert_int_equal(pthread_join(workers[t].thread, &done), 0);
			assert_ptr_equal(done, &workers[t]);
		}
		compare_threads();
		for (unsigned i = 0; i < nsuites; i++)
			xf_key_free(keys[i]);
	}
}

/* Each key is the next thread's to release, while this one is at work with the next key. */
static _Atomic(struct xf_key *) left[THREADS];

static void *pass_on(void *arg)
{
	struct worker *worker = arg;
	unsigned self = (unsigned)(worker - workers);
	struct engine engine = { .provider = provider, .ctx = provider->ctx_new(provider, NULL) };

	if (!engine.ctx)
		return NULL;
	for (unsigned round = 0; round < RELEASES; round++) {
		struct xf_key *key = make_key(&suites[0], provider, 1);

		run_key(&engine, key, worker, 0, round);
		xf_key_free(atomic_exchange(&left[(self + 1) % THREADS], key));
		xf_key_free(atomic_exchange(&left[self], NULL));
	}
	engine_close(&engine);
	return arg;
}

static void keys_are_released_by_others(void **state)
{
	(void)state;
	provider = &xf_provider_openssl;
	memset(workers, 0, sizeof(workers));
	for (unsigned t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&workers[t].thread, NULL, pass_on, &workers[t]), 0);
	for (unsigned t = 0; t < THREADS; t++) {
		void *done;

		assert_int_equal(pthread_join(workers[t].thread, &done), 0);
		assert_ptr_equal(done, &workers[t]);
	}
	for (unsigned t = 0; t < THREADS; t++)
		xf_key_free(atomic_exchange(&left[t], NULL));
	compare_threads();
}

/* All at once ask for the best provider, which nobody has asked before. */
static void *choose(void *arg)
{
	const struct xf_suite *suite = arg;
	struct xf_key *key = make_key(suite, NULL, 1);
	bool best = key->provider == xf_crypto_best(suite);

	xf_key_free(key);
	return best ? arg : NULL;
}

static void choice_without_a_lock(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (unsigned t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&threads[t], NULL, choose, &suites[0]), 0);
	for (unsigned t = 0; t < THREADS; t++) {
		void *done;

		assert_int_equal(pthread_join(threads[t], &done), 0);
		assert_ptr_equal(done, &suites[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(choice_without_a_lock),
		cmocka_unit_test(keys_are_shared),
		cmocka_unit_test(keys_are_released_by_others),
	};

	nsuites = all_suites(suites);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
