/*
 * Memory of large tables: zeroed, aligned, and back with the kernel once it is freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <daemon/huge.h>

#define MB ((size_t)1024 * 1024)

static const size_t sizes[] = { 1, 64, 1000, 2 * MB - 64, 2 * MB, 2 * MB + 1, 9 * MB };

static bool is_zero(const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (p[i])
			return false;
	}
	return true;
}

/* Twice: what was written before it was freed is not seen again. */
static void zeroed_and_aligned(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < XF_ARRAY_SIZE(sizes); i++) {
			uint8_t *mem = xf_huge_alloc(sizes[i]);
			size_t align = sizes[i] >= 2 * MB && round ? 2 * MB : 64;

			assert_non_null(mem);
			assert_int_equal((uintptr_t)mem % align, 0);
			assert_true(is_zero(mem, sizes[i]));
			memset(mem, 0xa5, sizes[i]);
			xf_huge_free(mem, sizes[i]);
		}
		xf_huge_memory_init();
	}
	xf_huge_free(NULL, 0);
}

static size_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long total, resident;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
	fclose(f);
	return resident * 4096;
}

static void given_back(void **state)
{
	size_t before, with;
	uint8_t *mem;

	(void)state;
	xf_huge_memory_init();
	before = resident_bytes();
	mem = xf_huge_alloc(64 * MB + 1);
	assert_non_null(mem);
	memset(mem, 1, 64 * MB);
	with = resident_bytes();
	xf_huge_free(mem, 64 * MB + 1);
	assert_true(with > before + 60 * MB);
	assert_true(resident_bytes() < before + 4 * MB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_and_aligned),
		cmocka_unit_test(given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
