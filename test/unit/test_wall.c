/*
 * The wall clock beside the engine's: what it said when, after steps, against a list of all steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <base/wall.h>

#include "sas.h"

#define S ((int64_t)XF_NSEC_PER_SEC)
#define STEPS 200

static void seconds_are_whole_and_not_early(void **state)
{
	static const struct {
		int64_t time_ns, offset_ns;
		uint64_t wall_s;
	} cases[] = {
		{ 0, 0, 0 },
		{ 10 * S + 200000000, 1000 * S + 700000000, 1010 },
		{ 10 * S + 300000000, 1000 * S + 700000000, 1011 },
		{ 10 * S + 299999999, 1000 * S + 700000000, 1010 },
		{ 10 * S, -3 * S, 7 },
		{ 10 * S, -3 * S - 1, 6 },
		{ 10 * S, -11 * S, 0 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++)
		assert_int_equal(xf_wall_s(cases[i].time_ns, cases[i].offset_ns), cases[i].wall_s);
}

/* Times within the last steps are right; earlier ones count by the oldest that is known. */
static void against_a_list(void **state)
{
	uint64_t since[STEPS] = { 0 }, seed = sas_seed(16);
	int64_t offset[STEPS] = { 1700000000 * S };
	struct xf_wall wall;

	(void)state;
	xf_wall_init(&wall, offset[0]);
	for (uint32_t n = 0;;) {
		uint32_t oldest = n < XF_WALL_STEPS ? 0 : n - (XF_WALL_STEPS - 1);

		for (unsigned i = 0; i < 100; i++) {
			uint64_t time = sas_random(&seed) % (since[n] + 100 * (uint64_t)S);
			uint32_t at = n;

			while (at > oldest && since[at] > time)
				at--;
			assert_true(xf_wall_offset_at(&wall, time) == offset[at]);
		}
		assert_true(xf_wall_offset_at(&wall, since[n]) == offset[n]);
		assert_true(xf_wall_offset_ns(&wall, xf_wall_last(&wall)) == offset[n]);
		if (++n == STEPS)
			break;
		since[n] = since[n - 1] + 1 + sas_random(&seed) % (uint64_t)(1000 * S);
		offset[n] = offset[n - 1] + (int64_t)(sas_random(&seed) % 7200) * S - 3600 * S;
		xf_wall_step(&wall, since[n], offset[n]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seconds_are_whole_and_not_early),
		cmocka_unit_test(against_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
