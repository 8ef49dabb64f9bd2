/*
 * Slabs of objects: aligned, zero, nobody's twice, and given back with the last of theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/huge.h>

#include "base/slab.h"

#define COUNT 20000

static size_t taken; /* bytes that are not given back */

static void *count_alloc(void *arg, size_t size)
{
	void *mem = aligned_alloc(XF_CACHE_LINE, size);

	(void)arg;
	taken += mem ? size : 0;
	return mem ? memset(mem, 0, size) : NULL;
}

static void count_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	taken -= size;
	free(mem);
}

static const struct xf_huge_ops counting = { .alloc = count_alloc, .free = count_free };

static void *get(struct xf_slabs *slabs, unsigned i)
{
	uint8_t *object = xf_slab_get(slabs);

	assert_non_null(object);
	assert_int_equal((uintptr_t)object % XF_CACHE_LINE, 0);
	for (uint32_t k = 0; k < slabs->object_bytes; k++)
		assert_int_equal(object[k], 0);
	memset(object, 0xff, slabs->object_bytes);
	memcpy(object, &i, sizeof(i));
	return object;
}

static void put(struct xf_slabs *slabs, void *object, unsigned i)
{
	assert_memory_equal(object, &i, sizeof(i));
	assert_int_equal(((uint8_t *)object)[slabs->object_bytes - 1], 0xff);
	xf_slab_put(slabs, object);
}

static void objects_come_and_go(void **state)
{
	static const uint32_t sizes[] = { 24, 56, 57, 752 };
	static void *objects[COUNT];

	(void)state;
	srand(1);
	xf_huge_set_ops(&counting);
	for (unsigned s = 0; s < XF_ARRAY_SIZE(sizes); s++) {
		struct xf_slabs slabs = { .object_bytes = sizes[s] };
		size_t first;

		objects[0] = get(&slabs, 0);
		first = taken;
		for (unsigned i = 1; i < COUNT; i++)
			objects[i] = get(&slabs, i);
		for (unsigned n = 0; n < 4 * COUNT; n++) {
			unsigned i = (unsigned)rand() % COUNT;

			put(&slabs, objects[i], i);
			objects[i] = get(&slabs, i);
		}
		assert_true(taken < COUNT * (sizes[s] + 72) + (2u << 20));
		for (unsigned i = 0; i < COUNT; i++)
			put(&slabs, objects[i], i);
		/* At most a whole slab is kept for those to come. */
		assert_true(taken <= (2u << 20));
		assert_true(first <= 64u << 10);
		xf_slabs_fini(&slabs);
		assert_int_equal(taken, 0);
	}
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Also after all slabs but the last have gone and more came than there were. */
static void places_are_of_one_each(void **state)
{
	enum { MORE = 2 * COUNT };
	struct xf_slabs slabs = { .object_bytes = 440 };
	static void *objects[MORE];
	static uint64_t places[MORE];
	void *last;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++)
		objects[i] = xf_slab_get(&slabs);
	last = objects[COUNT - 1];
	for (unsigned i = 0; i < COUNT - 1; i++)
		xf_slab_put(&slabs, objects[i]);
	for (unsigned i = 0; i < MORE; i++) {
		objects[i] = i ? xf_slab_get(&slabs) : last;
		places[i] = xf_slab_place(&slabs, objects[i]);
	}
	assert_int_equal(places[0], xf_slab_place(&slabs, last));
	qsort(places, MORE, sizeof(places[0]), compare);
	for (unsigned i = 1; i < MORE; i++)
		assert_true(places[i - 1] < places[i]);
	for (unsigned i = 0; i < MORE; i++)
		xf_slab_put(&slabs, objects[i]);
	xf_slabs_fini(&slabs);
}

/* What one owner has goes with it; another one's stays. */
static void slabs_go_with_their_owner(void **state)
{
	struct xf_slabs one = { .object_bytes = 448 }, other = one;
	void *stays, *goes;
	size_t before;

	(void)state;
	xf_huge_set_ops(&counting);
	taken = 0;
	stays = get(&other, 7);
	before = taken;
	goes = get(&one, 1);
	put(&one, goes, 1);
	xf_slabs_fini(&one);
	assert_int_equal(taken, before);
	put(&other, stays, 7);
	xf_slabs_fini(&other);
	assert_int_equal(taken, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_come_and_go),
		cmocka_unit_test(places_are_of_one_each),
		cmocka_unit_test(slabs_go_with_their_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
