/*
 * Cells that are to follow, and the order in which they do.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/nft/cells.h"

#define SETS 7
#define CELLS 500

static struct xf_cell_key key_of(uint32_t i)
{
	return (struct xf_cell_key){ .mark = i, .set = i * 5 % SETS };
}

static void add(struct xf_cells *cells, uint32_t i)
{
	const struct xf_cell_key key = key_of(i);

	xf_cells_grow(cells);
	assert_int_equal(xf_cells_count(cells, &key, 1, true), 1);
}

/* Each of the first @n cells once, and all of a set behind each other. */
static void assert_grouped(const struct xf_cells *cells, unsigned n)
{
	bool seen[CELLS] = { false };
	bool begun[SETS] = { false };
	uint32_t last = SETS;
	unsigned found = 0;

	for (const struct xf_cell *cell = cells->pending; cell; cell = cell->next_pending) {
		assert_false(seen[cell->key.mark]);
		seen[cell->key.mark] = true;
		assert_true(cell->key.set == last || !begun[cell->key.set]);
		last = cell->key.set;
		begun[last] = true;
		found++;
	}
	assert_int_equal(found, n);
}

static void sets_come_one_by_one(void **unused)
{
	struct xf_cells cells = { .size = 0 };

	(void)unused;
	xf_cells_group(&cells, SETS);
	assert_null(cells.pending);
	for (uint32_t i = 0; i < CELLS; i++) {
		add(&cells, i);
		xf_cells_group(&cells, SETS);
		assert_grouped(&cells, i + 1);
	}
	xf_cells_fini(&cells);
}

/* Without moving what is there. */
static void room_is_made(void **unused)
{
	struct xf_cells cells = { .size = 0 };
	size_t size;

	(void)unused;
	for (uint32_t i = 0; i < 10; i++)
		add(&cells, i);
	xf_cells_reserve(&cells, CELLS);
	size = cells.size;
	assert_true(size >= CELLS);
	for (uint32_t i = 10; i < CELLS; i++)
		add(&cells, i);
	assert_int_equal(cells.size, size);
	xf_cells_reserve(&cells, 1);
	assert_int_equal(cells.size, size);
	for (uint32_t i = 0; i < CELLS; i++) {
		const struct xf_cell_key key = key_of(i);

		assert_int_equal(xf_cells_count(&cells, &key, 1, false), -1);
	}
	xf_cells_fini(&cells);
}

/* Of three cells nobody wants one, one stands in the kernel and goes, one is wanted. */
static void what_stands_nowhere_is_forgotten(void **unused)
{
	struct xf_cells cells = { .size = 0 };
	unsigned pending = 0;

	(void)unused;
	for (uint32_t i = 0; i < CELLS; i++)
		add(&cells, i);
	for (struct xf_cell *cell = cells.pending; cell; cell = cell->next_pending) {
		if (cell->key.mark % 3 == 1)
			cell->at = XF_CELL_IN_TRIE;
		if (cell->key.mark % 3 != 2)
			cell->count = 0;
	}
	xf_cells_sweep(&cells);
	for (const struct xf_cell *cell = cells.pending; cell; cell = cell->next_pending) {
		assert_true(cell->key.mark % 3 != 0);
		pending++;
	}
	assert_int_equal(pending, CELLS - (CELLS + 2) / 3);
	assert_int_equal(cells.count, pending);
	xf_cells_fini(&cells);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_come_one_by_one),
		cmocka_unit_test(room_is_made),
		cmocka_unit_test(what_stands_nowhere_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
