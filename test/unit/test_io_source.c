/*
 * Workers that share a source: one reads at a time, in order, and what has arrived is read though
 * each arrival is told to one worker only, once.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "port/source.h"

#define WORKERS 4
#define ARRIVALS 200000

static struct xf_source source;
static _Atomic uint64_t arrived; /* what lies in the "socket" */
static _Atomic uint64_t taken;
static _Atomic int readers;
static _Atomic bool over;
static _Atomic bool told[WORKERS];
static _Atomic uint64_t refused, again;
static uint64_t last_batch; /* the reader's */

/* One round of a worker that has the source among its ready ones: is it still? */
static bool serve(void)
{
	uint64_t n;

	if (!xf_source_claim(&source)) {
		atomic_fetch_add(&refused, 1);
		return false;
	}
	assert_int_equal(atomic_fetch_add(&readers, 1), 0);
	n = atomic_load(&arrived);
	assert_int_equal(source.batches, last_batch);
	last_batch = ++source.batches;
	atomic_store(&taken, n);
	/* Long enough for others to come, and to be refused. */
	if (source.batches % 4 == 0)
		sched_yield();
	assert_int_equal(atomic_fetch_sub(&readers, 1), 1);
	if (!xf_source_give_back(&source))
		return false;
	atomic_fetch_add(&again, 1);
	return true;
}

static void *work(void *arg)
{
	_Atomic bool *mine = arg;
	bool ready = false;

	for (;;) {
		bool end = atomic_load(&over);

		ready |= atomic_exchange(mine, false);
		if (ready)
			ready = serve();
		else if (end)
			return NULL;
		else
			sched_yield();
	}
}

/* On a busy machine workers may seldom meet. */
static bool seen_enough(void)
{
	return atomic_load(&refused) > 100 && atomic_load(&again) > 100;
}

static void what_arrives_is_read_by_one(void **state)
{
	pthread_t id[WORKERS];

	(void)state;
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&id[i], NULL, work, &told[i]), 0);
	for (unsigned i = 0; i < ARRIVALS || !seen_enough(); i++) {
		uint64_t now = atomic_fetch_add(&arrived, 1) + 1;

		atomic_store(&told[i % WORKERS], true);
		/* Nothing may be left lying: nobody else will tell, and this would not end. */
		while (i % 16 == 15 && atomic_load(&taken) < now)
			sched_yield();
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(id[i], NULL);
	assert_int_equal(atomic_load(&taken), atomic_load(&arrived));
	assert_int_equal(atomic_load(&source.claims), 0);
}

static void who_is_first_reads(void **state)
{
	struct xf_source s = { 0 };

	(void)state;
	assert_true(xf_source_claim(&s));
	assert_false(xf_source_give_back(&s));
	assert_true(xf_source_claim(&s));
	assert_false(xf_source_claim(&s));
	assert_false(xf_source_claim(&s));
	assert_true(xf_source_give_back(&s));
	assert_true(xf_source_claim(&s));
	assert_false(xf_source_give_back(&s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_first_reads),
		cmocka_unit_test(what_arrives_is_read_by_one),
	};

	return cmocka_run_group_tests_name("io_source", tests, NULL, NULL);
}
