/* Tickets leave in the order in which they were taken, whoever is ready first. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <xf/turn.h>

static struct xf_ticket ticket(uint64_t first, uint64_t end)
{
	return (struct xf_ticket){ .first = first, .end = end };
}

static void in_order_nobody_is_parked(void **state)
{
	struct xf_turn turn = { 0 };
	struct xf_ticket a = ticket(0, 3);
	struct xf_ticket b = ticket(3, 4);

	(void)state;
	assert_true(xf_turn_enter(&turn, &a));
	assert_null(xf_turn_leave(&turn, &a));
	assert_true(xf_turn_enter(&turn, &b));
	assert_null(xf_turn_leave(&turn, &b));
	assert_int_equal(turn.now, 4);
}

static void who_is_early_is_parked_until_its_turn(void **state)
{
	struct xf_turn turn = { 0 };
	struct xf_ticket a = ticket(0, 64);
	struct xf_ticket b = ticket(64, 65);
	struct xf_ticket c = ticket(65, 100);

	(void)state;
	assert_false(xf_turn_enter(&turn, &c));
	assert_false(xf_turn_enter(&turn, &b));
	assert_int_equal(turn.waiting, 2);
	assert_true(xf_turn_enter(&turn, &a));
	assert_ptr_equal(xf_turn_leave(&turn, &a), &b);
	assert_ptr_equal(xf_turn_leave(&turn, &b), &c);
	assert_null(xf_turn_leave(&turn, &c));
	assert_int_equal(turn.waiting, 0);
}

/* b is done while a, which has the turn, still works; d is parked behind c, which is not there. */
static void a_gap_holds_those_behind_it(void **state)
{
	struct xf_turn turn = { 0 };
	struct xf_ticket a = ticket(0, 1);
	struct xf_ticket b = ticket(1, 2);
	struct xf_ticket c = ticket(2, 3);
	struct xf_ticket d = ticket(3, 4);

	(void)state;
	assert_true(xf_turn_enter(&turn, &a));
	assert_false(xf_turn_enter(&turn, &d));
	assert_false(xf_turn_enter(&turn, &b));
	assert_ptr_equal(xf_turn_leave(&turn, &a), &b);
	assert_null(xf_turn_leave(&turn, &b));
	assert_true(xf_turn_enter(&turn, &c));
	assert_ptr_equal(xf_turn_leave(&turn, &c), &d);
}

#define THREADS 4
#define ROUNDS 20000

struct race {
	struct xf_turn turn;
	uint64_t next_ticket; /* taken by atomic add, as by workers */
	uint64_t expected; /* plain: written by whoever has the turn, so TSan sees an overlap */
	uint64_t wrong;
};

/* What a worker does with a ticket whose turn it is, and with those that it gets along. */
static void *run(void *arg)
{
	struct race *race = (struct race *)arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct xf_ticket *t = malloc(sizeof(*t));
		uint64_t n = 1 + i % 7;

		t->first = __atomic_fetch_add(&race->next_ticket, n, __ATOMIC_RELAXED);
		t->end = t->first + n;
		if (!xf_turn_enter(&race->turn, t))
			continue;
		while (t) {
			struct xf_ticket *done = t;

			race->wrong += done->first != race->expected;
			race->expected = done->end;
			t = xf_turn_leave(&race->turn, done);
			free(done);
		}
	}
	return NULL;
}

static void threads_leave_one_after_another(void **state)
{
	static struct race race;
	pthread_t threads[THREADS];

	(void)state;
	memset(&race, 0, sizeof(race));
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, &race), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(race.wrong, 0);
	assert_int_equal(race.expected, race.next_ticket);
	assert_null(race.turn.parked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_order_nobody_is_parked),
		cmocka_unit_test(who_is_early_is_parked_until_its_turn),
		cmocka_unit_test(a_gap_holds_those_behind_it),
		cmocka_unit_test(threads_leave_one_after_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
