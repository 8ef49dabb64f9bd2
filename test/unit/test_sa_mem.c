/*
 * Where SAs stand: slots come again wiped, and slabs are given back with the last of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/huge.h>

#include "sad/mem.h"

#define COUNT 6000

static unsigned slabs; /* that are not given back */

static void *count_alloc(void *arg, size_t size)
{
	void *mem = aligned_alloc(XF_CACHE_LINE, size);

	(void)arg;
	if (mem)
		memset(mem, 0, size);
	slabs += mem != NULL;
	return mem;
}

static void count_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	(void)size;
	slabs--;
	free(mem);
}

static bool is_zero(const void *mem, size_t len)
{
	const uint8_t *p = mem;

	while (len > 0 && p[len - 1] == 0)
		len--;
	return len == 0;
}

static void shuffle(struct xf_sa **sas)
{
	for (unsigned i = COUNT - 1; i > 0; i--) {
		unsigned k = (unsigned)rand() % (i + 1);
		struct xf_sa *sa = sas[i];

		sas[i] = sas[k];
		sas[k] = sa;
	}
}

static void fill_and_empty(struct xf_sa **sas)
{
	for (unsigned i = 0; i < COUNT; i++) {
		sas[i] = xf_sa_mem_get();
		assert_non_null(sas[i]);
		assert_int_equal((uintptr_t)sas[i] % XF_CACHE_LINE, 0);
		assert_true(is_zero(sas[i], offsetof(struct xf_sa, home)));
		memset(sas[i], 0xa5, offsetof(struct xf_sa, home));
	}
	shuffle(sas);
	for (unsigned i = 0; i < COUNT; i++)
		xf_sa_mem_put(sas[i]);
}

/* Twice: what was written before is not seen again. One slab stays for whoever comes next. */
static void wiped_and_given_back(void **state)
{
	static struct xf_sa *sas[COUNT];

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		fill_and_empty(sas);
		assert_true(slabs <= 1);
	}
}

/* Those that are in use together are never the same, and none is lost while others go. */
static void kept_apart(void **state)
{
	static struct xf_sa *sas[COUNT];

	(void)state;
	for (unsigned step = 0; step < 20 * COUNT; step++) {
		struct xf_sa **sa = &sas[(unsigned)rand() % COUNT];

		if (*sa) {
			assert_ptr_equal((*sa)->key, (struct xf_key *)(void *)sa);
			xf_sa_mem_put(*sa);
			*sa = NULL;
		} else {
			*sa = xf_sa_mem_get();
			assert_non_null(*sa);
			(*sa)->key = (struct xf_key *)(void *)sa;
		}
	}
	for (unsigned i = 0; i < COUNT; i++)
		if (sas[i])
			xf_sa_mem_put(sas[i]);
	assert_true(slabs <= 1);
}

int main(void)
{
	static const struct xf_huge_ops ops = { .alloc = count_alloc, .free = count_free };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wiped_and_given_back),
		cmocka_unit_test(kept_apart),
	};

	xf_huge_set_ops(&ops);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
