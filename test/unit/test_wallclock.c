/*
 * The distance of the two clocks of this machine: no time that is made of it is in the future.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include <daemon/wallclock.h>

static int64_t real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)XF_NSEC_PER_SEC + ts.tv_nsec;
}

/* How near it is depends on interruptions, but not a hundred times. */
static void near_and_not_ahead(void **state)
{
	int64_t nearest = INT64_MAX;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		int64_t offset = xf_wallclock_offset_ns();
		int64_t made = (int64_t)xf_clock_ns() + offset;
		int64_t real = real_ns();

		assert_true(made <= real);
		nearest = real - made < nearest ? real - made : nearest;
	}
	assert_true(nearest < 10000000);
}

static void count(void *arg, uint64_t now_ns, int64_t offset_ns)
{
	unsigned *calls = arg;

	(void)now_ns;
	(void)offset_ns;
	++*calls;
}

static void ignore(void *arg, uint64_t now_ns)
{
	(void)arg;
	(void)now_ns;
}

static void nothing_is_told_without_a_step(void **state)
{
	const struct xf_loop_config cfg = { .timer = ignore };
	unsigned calls = 0;
	struct xf_wallclock wallclock = { .stepped = count, .arg = &calls };
	struct xf_loop *loop;

	(void)state;
	assert_int_equal(xf_loop_new(&cfg, &loop), 0);
	assert_int_equal(xf_wallclock_start(&wallclock, loop), 0);
	wallclock.watch.ready(wallclock.watch.arg, 0);
	assert_int_equal(calls, 0);
	xf_wallclock_stop(&wallclock);
	xf_wallclock_stop(&wallclock);
	xf_loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(near_and_not_ahead),
		cmocka_unit_test(nothing_is_told_without_a_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
