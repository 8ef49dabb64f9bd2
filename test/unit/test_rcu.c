/*
 * What is deferred runs once, after all readers have left, and whoever deferred it.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/rcu.h>

struct object {
	struct xf_rcu_head rcu;
	_Atomic int gone; /* times its callback ran */
	struct object *then;
};

static _Atomic unsigned calls;

static void end(struct xf_rcu_head *head)
{
	struct object *object = XF_CONTAINER_OF(head, struct object, rcu);

	atomic_fetch_add(&object->gone, 1);
	atomic_fetch_add(&calls, 1);
	if (object->then)
		xf_rcu_defer(&object->then->rcu, end);
}

static void nothing_runs_before_the_drain(void **state)
{
	struct object a = { .gone = 0 }, b = { .gone = 0 }, c = { .gone = 0, .then = &a };

	(void)state;
	xf_rcu_defer(&b.rcu, end);
	xf_rcu_defer(&c.rcu, end);
	assert_int_equal(b.gone + c.gone, 0);
	xf_rcu_drain();
	assert_int_equal(b.gone, 1);
	assert_int_equal(c.gone, 1);
	/* What a callback defers is run by the same drain. */
	assert_int_equal(a.gone, 1);
	xf_rcu_drain();
	assert_int_equal(a.gone + b.gone + c.gone, 3);
}

#define DEFERRERS 4
#define EACH 2000

static void *defer_many(void *arg)
{
	struct object *objects = arg;

	for (unsigned i = 0; i < EACH; i++)
		xf_rcu_defer(&objects[i].rcu, end);
	return NULL;
}

static void any_thread_may_defer(void **state)
{
	struct object *objects = calloc(DEFERRERS * EACH, sizeof(*objects));
	pthread_t threads[DEFERRERS];

	(void)state;
	atomic_store(&calls, 0);
	for (unsigned i = 0; i < DEFERRERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, defer_many, objects + i * EACH),
				 0);
	for (unsigned i = 0; i < 50; i++)
		xf_rcu_drain();
	for (unsigned i = 0; i < DEFERRERS; i++)
		pthread_join(threads[i], NULL);
	xf_rcu_drain();
	assert_int_equal(calls, DEFERRERS * EACH);
	for (unsigned i = 0; i < DEFERRERS * EACH; i++)
		assert_int_equal(objects[i].gone, 1);
	free(objects);
}

#define READERS 3
#define SWAPS 3000

static _Atomic(struct object *) current;
static _Atomic bool stop;
static _Atomic unsigned bad;
static _Atomic unsigned sections;

static void read_once(void)
{
	struct object *object;

	xf_read_begin();
	xf_read_begin(); /* sections nest */
	object = atomic_load_explicit(&current, memory_order_acquire);
	xf_read_end();
	for (unsigned i = 0; i < 4; i++) {
		if (atomic_load_explicit(&object->gone, memory_order_relaxed))
			atomic_fetch_add(&bad, 1);
		sched_yield();
	}
	xf_read_end();
	atomic_fetch_add_explicit(&sections, 1, memory_order_relaxed);
}

static void *reader(void *arg)
{
	(void)arg;
	xf_read_register();
	for (unsigned i = 0; !atomic_load(&stop); i++) {
		read_once();
		if (i % 16 == 5) {
			xf_read_offline();
			sched_yield();
			xf_read_online();
		} else if (i % 64 == 7) {
			xf_read_unregister();
			xf_read_register();
		} else {
			xf_read_quiescent();
		}
	}
	xf_read_unregister();
	return NULL;
}

/* Objects are not freed but marked, so that a reader which still has one can tell. */
static void readers_are_waited_for(void **state)
{
	struct object *objects = calloc(SWAPS + 1, sizeof(*objects));
	pthread_t threads[READERS];

	(void)state;
	atomic_store(&current, &objects[0]);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, NULL), 0);
	while (sections < 100)
		sched_yield();
	for (unsigned i = 0; i < SWAPS; i++) {
		struct object *old = atomic_exchange(&current, &objects[i + 1]);

		xf_rcu_defer(&old->rcu, end);
		if (i % 3 == 0)
			xf_rcu_drain();
		if (i % 16 == 0)
			sched_yield();
	}
	xf_rcu_drain();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(bad, 0);
	for (unsigned i = 0; i < SWAPS; i++)
		assert_int_equal(objects[i].gone, 1);
	free(objects);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_runs_before_the_drain),
		cmocka_unit_test(any_thread_may_defer),
		cmocka_unit_test(readers_are_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
