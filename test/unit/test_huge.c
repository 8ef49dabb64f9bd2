/*
 * Memory of large tables: zeroed, aligned, and back with the kernel once it is freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/thread/huge.h"

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

/* How many pages of [@mem, @mem + @size) are mapped. Allocates nothing: that could fill a gap. */
static size_t mapped_pages(const uint8_t *mem, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = 0;
	unsigned char in_core;

	for (size_t at = 0; at < size; at += page)
		mapped += mincore((void *)(uintptr_t)(mem + at), page, &in_core) == 0;
	return mapped;
}

/*
 * The very range is asked for, not what the process holds: how much of that is resident depends on
 * the machine's huge pages, and on a sanitizer's shadow.
 */
static void given_back(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	(void)state;
	xf_huge_memory_init();
	for (size_t i = 0; i < XF_ARRAY_SIZE(sizes); i++) {
		size_t len = (sizes[i] + 2 * MB - 1) / (2 * MB) * (2 * MB);
		size_t mapped, behind, left;
		uint8_t *mem;

		if (sizes[i] < 2 * MB)
			continue;
		mem = xf_huge_alloc(sizes[i]);
		assert_non_null(mem);
		behind = mapped_pages(mem + len, page);
		memset(mem, 1, sizes[i]);
		mapped = mapped_pages(mem, len);
		xf_huge_free(mem, sizes[i]);
		left = mapped_pages(mem, len);
		assert_int_equal(mapped, len / page);
		assert_int_equal(left, 0);
		/* What aligning it took too much of was back before. */
		assert_int_equal(behind, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_and_aligned),
		cmocka_unit_test(given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
