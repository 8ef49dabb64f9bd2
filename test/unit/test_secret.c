/*
 * Memory of keys: zeroed, aligned, no two blocks in one place, used again, or given back
 * to the system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "daemon/thread/secret.h"

#define BLOCKS 2000 /* more than the first two chunks have room for */

static const size_t sizes[] = { 1, 64, 65, 900, 960, 1088, 4000, 65536 };

static size_t size_of(size_t i)
{
	return i % 500 == 0 ? 65536 : sizes[i % (XF_ARRAY_SIZE(sizes) - 1)];
}

static bool is_filled(const uint8_t *p, size_t size, uint8_t with)
{
	for (size_t i = 0; i < size; i++) {
		if (p[i] != with)
			return false;
	}
	return true;
}

static uint8_t *blocks[BLOCKS];

static void take(size_t i)
{
	blocks[i] = xf_secret_alloc(size_of(i));
	assert_non_null(blocks[i]);
	assert_int_equal((uintptr_t)blocks[i] % 64, 0);
	assert_true(is_filled(blocks[i], size_of(i), 0));
	memset(blocks[i], (int)(1 + i % 255), size_of(i));
}

static void give(size_t i)
{
	assert_true(is_filled(blocks[i], size_of(i), (uint8_t)(1 + i % 255)));
	xf_secret_free(blocks[i], size_of(i));
}

static void apart_and_again(void **state)
{
	size_t locked;

	(void)state;
	for (size_t i = 0; i < BLOCKS; i++)
		take(i);
	locked = xf_secret_memory_locked();
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = round; i < BLOCKS; i += 3)
			give(i);
		for (size_t i = round; i < BLOCKS; i += 3)
			take(i);
	}
	assert_int_equal(xf_secret_memory_locked(), locked);
	for (size_t i = 0; i < BLOCKS; i++)
		give(i);
}

static void no_more_than_needed(void **state)
{
	size_t before = xf_secret_memory_locked();

	(void)state;
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = xf_secret_alloc(1984);
	assert_in_range(xf_secret_memory_locked() - before, 1, BLOCKS * 1984 + (4u << 20));
	for (size_t i = 0; i < BLOCKS; i++)
		xf_secret_free(blocks[i], 1984);
}

#define KEY 1000
#define KEYS 5000 /* of two chunks and some */

static uint8_t *keys[KEYS];

/* Of the pages on which keys begin. What a sanitizer keeps of memory is none of these. */
static size_t resident_keys(void)
{
	size_t resident = 0;

	for (size_t i = 0; i < KEYS; i++) {
		unsigned char there;

		assert_int_equal(
			mincore((void *)((uintptr_t)keys[i] & ~(uintptr_t)4095), 4096, &there), 0);
		resident += there & 1;
	}
	return resident;
}

/* In any order; and what comes back of it is zero again, whatever its length. */
static void pages_given_back(void **state)
{
	size_t locked;

	(void)state;
	for (size_t i = 0; i < KEYS; i++) {
		keys[i] = xf_secret_alloc(KEY);
		assert_non_null(keys[i]);
		memset(keys[i], 0xa5, KEY);
	}
	assert_int_equal(resident_keys(), KEYS);
	locked = xf_secret_memory_locked();
	for (size_t i = 0; i < KEYS; i++)
		xf_secret_free(keys[i * 7 % KEYS], KEY);
	assert_in_range(resident_keys(), 0, KEYS / 2 + 256);
	for (size_t i = 0; i < KEYS / 2; i++) {
		keys[i] = xf_secret_alloc(KEY + 128);
		assert_true(is_filled(keys[i], KEY + 128, 0));
		memset(keys[i], 0xa5, KEY + 128);
	}
	assert_int_equal(xf_secret_memory_locked(), locked);
	for (size_t i = 0; i < KEYS / 2; i++)
		xf_secret_free(keys[i], KEY + 128);
}

static void bad_sizes(void **state)
{
	(void)state;
	assert_null(xf_secret_alloc(0));
	assert_null(xf_secret_alloc(65537));
	assert_null(xf_secret_alloc(SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(apart_and_again),
		cmocka_unit_test(no_more_than_needed),
		cmocka_unit_test(pages_given_back),
		cmocka_unit_test(bad_sizes),
	};

	/* The limit on locked memory may be low where no root runs this. */
	if (xf_secret_memory_init() < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
