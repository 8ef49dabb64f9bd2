/*
 * Buckets of tags: both ways to look for one against a loop over bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "spd/cells.h"

static uint64_t random_tags(uint64_t *state, bool few)
{
	uint64_t tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		tags = tags << 8 | (few ? *state >> 62 : *state >> 56);
	}
	return tags;
}

static uint32_t naive(uint64_t low, uint64_t high, uint8_t tag)
{
	uint32_t found = 0;

	for (unsigned i = 0; i < 16; i++)
		if ((uint8_t)((i < 8 ? low : high) >> i % 8 * 8) == tag)
			found |= 1u << i;
	return found;
}

static void tags_are_found(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t low = random_tags(&seed, i & 1), high = random_tags(&seed, i & 1);
		uint8_t tag = (uint8_t)(i & 1 ? i >> 1 & 3 : i >> 1);

		assert_int_equal(cells_slots_portable(low, high, tag), naive(low, high, tag));
		assert_int_equal(cells_slots_with(low, high, tag), naive(low, high, tag));
	}
}

/* What is above the twelfth tag counts who passed by, and is no tag. */
static void passers_are_no_tags(void **state)
{
	struct bucket bucket = { 0 };
	bool more;

	(void)state;
	atomic_init(&bucket.tags[1], UINT64_C(0x0707070700000007));
	assert_int_equal(cells_match(&bucket, 7, &more), 1 << 8);
	assert_true(more);
	atomic_init(&bucket.tags[1], UINT64_C(7) << 24);
	assert_int_equal(cells_match(&bucket, 7, &more), 1 << 11);
	assert_false(more);
	assert_int_equal(cells_slot_of(1 << 11 | 1 << 3), 3);
	assert_in_range(cells_slot_of(0), 0, CELL_SLOTS - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_are_found),
		cmocka_unit_test(passers_are_no_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
