/*
 * Cells of destinations beside a list of policies that is walked each time.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "capture/nft/cover.h"

static uint64_t state = 88172645463325252ull;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 32) * below >> 32);
}

static void draw_selector(struct xf_selector *sel, uint32_t nets)
{
	*sel = (struct xf_selector){ .family = draw(2) ? XF_AF_INET6 : XF_AF_INET };
	xf_put_be32(sel->daddr.bytes, draw(nets) * 0x9e3779b1u);
	if (sel->family == XF_AF_INET6)
		xf_put_be32(sel->daddr.bytes + 12, draw(nets));
	sel->prefixlen_d = (uint8_t)draw(sel->family == XF_AF_INET6 ? 129 : 33);
}

/* What a set of the kernel would hold: what stands there by `at` is what was told. */
struct kernel {
	const struct xf_cover *cover;
	unsigned n;
};

static void follow(struct xf_cover *cover, struct kernel *kernel)
{
	for (struct xf_cell *cell = cover->cells.pending; cell; cell = cell->next_pending) {
		bool there = cell->at & XF_CELL_IN_SETS;

		if (there == (cell->count != 0))
			continue;
		cell->at ^= XF_CELL_IN_SETS;
		kernel->n += there ? -1u : 1u;
	}
	xf_cells_settled(&cover->cells);
}

struct search {
	const union xf_addr *addr;
	uint8_t bits;
	bool six;
	bool found;
	unsigned cells;
};

static void look_at(void *arg, struct xf_cell *cell)
{
	struct search *search = arg;

	search->cells++;
	assert_true(cell->at & XF_CELL_IN_SETS);
	uint8_t bits = xf_cover_len(xf_cover_six(&cell->key), xf_cover_rung(&cell->key));

	if (xf_cover_six(&cell->key) == search->six && bits <= search->bits &&
	    xf_addr_prefix_match(search->addr, &cell->key.addr[0], bits))
		search->found = true;
}

/* Each policy that is there is within a cell, and without any there is none. */
static void assert_covered(const struct xf_cover *cover, const struct kernel *kernel,
			   const struct xf_selector *sels, const bool *there, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct search search = { .addr = &sels[i].daddr,
					 .bits = sels[i].prefixlen_d,
					 .six = sels[i].family == XF_AF_INET6 };

		if (!there[i])
			continue;
		xf_cells_each(&cover->cells, look_at, &search);
		assert_true(search.found);
		assert_int_equal(search.cells, kernel->n);
	}
}

#define SELECTORS 200

static void test_model(void **unused)
{
	struct xf_selector sels[SELECTORS];
	struct xf_cover cover = { .failed = false };
	struct kernel kernel = { .n = 0 };
	bool there[SELECTORS] = { false };

	(void)unused;
	for (unsigned i = 0; i < SELECTORS; i++)
		draw_selector(&sels[i], 20);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned n = draw(20); n > 0; n--) {
			unsigned i = draw(SELECTORS);

			there[i] = !there[i];
			xf_cover_change(&cover, &sels[i], there[i]);
		}
		follow(&cover, &kernel);
		assert_covered(&cover, &kernel, sels, there, SELECTORS);
	}
	for (unsigned i = 0; i < SELECTORS; i++) {
		if (there[i])
			xf_cover_change(&cover, &sels[i], false);
	}
	follow(&cover, &kernel);
	assert_int_equal(kernel.n, 0);
	assert_int_equal(cover.cells.count, 0);
	xf_cover_fini(&cover);
}

/* However many destinations there are, cells are few, and all go away again. */
static void test_many(void **unused)
{
	const unsigned n = 300000;
	struct xf_selector *sels = calloc(n, sizeof(sels[0]));
	struct xf_cover cover = { .failed = false };
	struct kernel kernel = { .n = 0 };

	(void)unused;
	assert_non_null(sels);
	for (unsigned i = 0; i < n; i++) {
		draw_selector(&sels[i], UINT32_MAX);
		sels[i].prefixlen_d = xf_addr_bits(sels[i].family);
		xf_cover_change(&cover, &sels[i], true);
		if (i % 1000 == 0)
			follow(&cover, &kernel);
		assert_true(cover.family[0].cells <= XF_COVER_MAX);
		assert_true(cover.family[1].cells <= XF_COVER_MAX);
	}
	follow(&cover, &kernel);
	assert_true(cover.family[0].finest > 0 && cover.family[1].finest > 0);
	for (unsigned i = 0; i < n; i += 5000) {
		bool yes = true;

		assert_covered(&cover, &kernel, &sels[i], &yes, 1);
	}
	assert_false(xf_cover_is_too_coarse(&cover));
	for (unsigned i = 100; i < n; i++)
		xf_cover_change(&cover, &sels[i], false);
	assert_true(xf_cover_is_too_coarse(&cover));
	xf_cover_restart(&cover);
	for (unsigned i = 0; i < 100; i++)
		xf_cover_change(&cover, &sels[i], true);
	follow(&cover, &kernel);
	assert_int_equal(kernel.n, 100);
	assert_int_equal(cover.family[0].finest + cover.family[1].finest, 0);
	for (unsigned i = 0; i < 100; i++)
		xf_cover_change(&cover, &sels[i], false);
	follow(&cover, &kernel);
	assert_int_equal(cover.cells.count, 0);
	xf_cover_fini(&cover);
	free(sels);
}

/* While cells become coarser, finer ones that were never told to the kernel are gone at once. */
static void test_no_dead(void **unused)
{
	struct xf_cover cover = { .failed = false };
	struct xf_selector sel;

	(void)unused;
	for (unsigned i = 0; i < 200000; i++) {
		draw_selector(&sel, UINT32_MAX);
		sel.prefixlen_d = xf_addr_bits(sel.family);
		xf_cover_change(&cover, &sel, true);
	}
	assert_true(cover.family[0].finest > 0 && cover.family[1].finest > 0);
	assert_int_equal(cover.cells.count, cover.family[0].cells + cover.family[1].cells);
	xf_cover_fini(&cover);
}

static void test_lost(void **unused)
{
	struct xf_selector sel = { .family = XF_AF_INET, .prefixlen_d = 24 };
	struct xf_cover cover = { .failed = false };
	struct kernel kernel = { .n = 0 };

	(void)unused;
	xf_cover_change(&cover, &sel, true);
	follow(&cover, &kernel);
	assert_int_equal(xf_cover_rungs(&cover, false), 4);
	assert_int_equal(xf_cover_rungs(&cover, true), 0);
	xf_cells_lost(&cover.cells, XF_CELL_IN_SETS);
	kernel.n = 0;
	follow(&cover, &kernel);
	assert_int_equal(kernel.n, 1);
	xf_cover_fini(&cover);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_dead),
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
