/*
 * Rings of events: order, room, what is lost, and when somebody is woken.
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

#include <xf/event.h>

#include "sas.h"

static void wake(void *arg)
{
	atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static struct xf_event_ring *ring_of(unsigned size, _Atomic unsigned *wakes)
{
	const struct xf_event_wake waker = { .fn = wake, .arg = wakes };
	struct xf_event_ring *ring = xf_event_ring_new(size, &waker);

	assert_non_null(ring);
	return ring;
}

static void tell(struct xf_event_ring *ring, uint64_t number, struct xf_event_lost *lost)
{
	xf_event_tell(ring, &(struct xf_event){ .kind = XF_EVENT_SA, .sa = number }, lost);
}

static void copy(void *arg, const struct xf_event *event)
{
	*(struct xf_event *)arg = *event;
}

static void data_arrives_as_it_was(void **state)
{
	_Atomic unsigned wakes = 0;
	struct xf_event_ring *ring = ring_of(1, &wakes);
	struct xf_event event = { .kind = XF_EVENT_NEXT_HOP }, seen = { 0 };
	struct xf_event_lost lost = { 0 };

	(void)state;
	for (unsigned i = 0; i < XF_EVENT_DATA_BYTES; i++)
		event.data[i] = (uint8_t)(i + 1);
	xf_event_tell(ring, &event, &lost);
	assert_int_equal(xf_event_take(ring, copy, &seen), 1);
	assert_int_equal(seen.kind, event.kind);
	assert_memory_equal(seen.data, event.data, sizeof(event.data));
	assert_false(xf_event_lost_take(&lost));
	xf_event_ring_free(ring);
}

/* Woken once for all that is told until it is taken, and for what is lost likewise. */
static void one_wake_until_it_is_taken(void **state)
{
	_Atomic unsigned wakes = 0;
	struct xf_event_ring *ring = ring_of(2, &wakes);
	struct xf_event_lost lost = { 0 };
	struct xf_event seen;

	(void)state;
	for (unsigned round = 1; round <= 3; round++) {
		for (unsigned i = 0; i < 5; i++) {
			tell(ring, i, &lost);
			assert_int_equal(wakes, round);
		}
		assert_int_equal(xf_event_take(ring, copy, &seen), 2);
		assert_int_equal(xf_event_take(ring, copy, &seen), 0);
		assert_true(xf_event_lost_take(&lost));
		assert_false(xf_event_lost_take(&lost));
	}
	xf_event_ring_free(ring);
}

static void who_has_no_ring_has_lost(void **state)
{
	struct xf_event_lost lost = { 0 };

	(void)state;
	tell(NULL, 1, &lost);
	assert_true(xf_event_lost_take(&lost));
	xf_event_ring_free(NULL);
}

struct queue {
	uint64_t next; /* to be taken */
	uint64_t told; /* in the ring up to here */
};

static void in_order(void *arg, const struct xf_event *event)
{
	struct queue *queue = arg;

	assert_int_equal(event->sa, queue->next);
	queue->next++;
}

static void agrees_with_a_queue(void **state)
{
	uint64_t rng = sas_seed(49);

	(void)state;
	for (unsigned size = 1; size < 8; size++) {
		_Atomic unsigned wakes = 0;
		struct xf_event_ring *ring = ring_of(size, &wakes);
		struct queue queue = { 0 };

		for (unsigned i = 0; i < 10000; i++) {
			struct xf_event_lost lost = { 0 };
			unsigned there = (unsigned)(queue.told - queue.next);

			if (sas_random(&rng) % (size + 1)) {
				tell(ring, queue.told, &lost);
				assert_int_equal(xf_event_lost_take(&lost), there == size);
				queue.told += there < size;
			} else {
				assert_int_equal(xf_event_take(ring, in_order, &queue), there);
				assert_int_equal(queue.next, queue.told);
			}
		}
		xf_event_ring_free(ring);
	}
}

#define NUMBERS 100000

struct shared {
	struct xf_event_ring *ring;
	struct xf_event_lost lost;
	_Atomic unsigned wakes;
	_Atomic bool done;
};

static void *tell_all(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 1; i <= NUMBERS; i++) {
		tell(shared->ring, i, &shared->lost);
		if (i % 64 == 0)
			sched_yield();
	}
	atomic_store(&shared->done, true);
	return NULL;
}

struct seen {
	uint64_t last;
	unsigned n;
};

static void rising(void *arg, const struct xf_event *event)
{
	struct seen *seen = arg;

	assert_true(event->sa > seen->last);
	seen->last = event->sa;
	seen->n++;
}

/* Who takes looks only when it was woken. What was told last is there at the end, or lost. */
static void no_wake_is_missed(void **state)
{
	struct shared shared = { 0 };
	struct seen seen = { 0 };
	unsigned woken = 0;
	bool lost = false; /* since the last one that was taken */
	pthread_t thread;

	(void)state;
	shared.ring = ring_of(2, &shared.wakes);
	assert_int_equal(pthread_create(&thread, NULL, tell_all, &shared), 0);
	for (bool done = false; !done;) {
		done = atomic_load(&shared.done);
		if (atomic_load(&shared.wakes) == woken) {
			sched_yield();
			continue;
		}
		woken = atomic_load(&shared.wakes);
		if (xf_event_take(shared.ring, rising, &seen))
			lost = false;
		lost |= xf_event_lost_take(&shared.lost);
		done = false;
	}
	pthread_join(thread, NULL);
	assert_true(seen.last == NUMBERS || lost);
	assert_int_equal(xf_event_take(shared.ring, rising, &seen), 0);
	assert_false(xf_event_lost_take(&shared.lost));
	print_message("# %u of %u were taken, in %u wakes\n", seen.n, NUMBERS, woken);
	xf_event_ring_free(shared.ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_arrives_as_it_was),
		cmocka_unit_test(one_wake_until_it_is_taken),
		cmocka_unit_test(who_has_no_ring_has_lost),
		cmocka_unit_test(agrees_with_a_queue),
		cmocka_unit_test(no_wake_is_missed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
