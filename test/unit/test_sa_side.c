/*
 * What few SAs have beside the others: made when it is wanted, gone with the SA. Every allocation
 * is counted, and each one fails once.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/side.h>
#include <sad/db.h>

#include "sas.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *mem);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *mem);

static long taken; /* blocks that are not given back yet */
static unsigned left; /* allocations that succeed before one fails; 0 = none fails */

static bool fails(void)
{
	return left && --left == 0;
}

static void *counted(void *mem)
{
	taken += mem != NULL;
	return mem;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *mem)
{
	taken -= mem != NULL;
	__real_free(mem);
}

/* That all SAs here are made for. */
static struct xf_sad *sad;

static int make_sad(void **state)
{
	(void)state;
	sad = sas_sad(0);
	return 0;
}

static int free_sad(void **state)
{
	(void)state;
	xf_sad_free(sad);
	return 0;
}

static struct xf_sa_config mobile_config(void)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);

	cfg.has_coaddr = true;
	cfg.coaddr = sas_addr(9);
	return cfg;
}

/* The slab of all SAs and the table of their terms are there, so that what follows is exact. */
static struct xf_sa *first_sa(void)
{
	const struct xf_sa_config cfg = sas_config(3, 4, 300);

	return sas_new(sad, &cfg, 0);
}

static void put(struct xf_sa *sa)
{
	xf_sa_put(sa);
	xf_rcu_drain();
}

static void most_have_none(void **state)
{
	struct xf_sa *sa = first_sa();
	struct xf_sa_config cfg;

	(void)state;
	assert_null(xf_sa_side(sa));
	assert_null(xf_sa_coaddr(sa));
	xf_sa_copy_cfg(sa, &cfg);
	assert_false(cfg.has_coaddr);
	cfg.reqid = 5;
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_null(xf_sa_side(sa));
	put(sa);
}

static void it_goes_with_the_last_reference(void **state)
{
	const struct xf_sa_config cfg = mobile_config();
	struct xf_sa *first = first_sa(), *sa;
	struct xf_sa_config copy;
	long before = taken, with;

	(void)state;
	sa = sas_new(sad, &cfg, 0);
	with = taken;
	assert_non_null(xf_sa_side(sa));
	assert_ptr_equal(xf_sa_side_get(sa), xf_sa_side(sa));
	assert_int_equal(taken, with);
	assert_memory_equal(xf_sa_coaddr(sa), &cfg.coaddr, sizeof(cfg.coaddr));
	xf_sa_copy_cfg(sa, &copy);
	assert_true(copy.has_coaddr);
	assert_memory_equal(&copy.coaddr, &cfg.coaddr, sizeof(cfg.coaddr));
	put(xf_sa_get(sa));
	assert_int_equal(taken, with);
	assert_true(with > before);
	put(sa);
	assert_int_equal(taken, before);
	put(first);
}

/* Later than the SA: nothing else of it changes, and whoever has the address may keep it. */
static void it_may_come_later(void **state)
{
	struct xf_sa *first = first_sa(), *sa;
	struct xf_sa_config cfg = mobile_config();
	const struct xf_sa_side *side;
	long before = taken;

	(void)state;
	cfg.has_coaddr = false;
	sa = sas_new(sad, &cfg, 0);
	assert_null(xf_sa_side(sa));
	side = xf_sa_side_get(sa);
	assert_non_null(side);
	assert_null(xf_sa_coaddr(sa));
	cfg.has_coaddr = true;
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_ptr_equal(xf_sa_side(sa), side);
	assert_memory_equal(xf_sa_coaddr(sa), &cfg.coaddr, sizeof(cfg.coaddr));
	cfg.coaddr = sas_addr(8);
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_memory_equal(xf_sa_coaddr(sa), &cfg.coaddr, sizeof(cfg.coaddr));
	cfg.has_coaddr = false;
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_null(xf_sa_coaddr(sa));
	put(sa);
	assert_int_equal(taken, before);
	put(first);
}

/* SAs that differ in it share their terms, as all others do. */
static void terms_do_not_have_it(void **state)
{
	struct xf_sa_config cfg = mobile_config();
	struct xf_sa *a = sas_new(sad, &cfg, 0), *b;

	(void)state;
	cfg.coaddr = sas_addr(7);
	b = sas_new(sad, &cfg, 0);
	assert_ptr_equal(xf_sa_cfg(a)->terms, xf_sa_cfg(b)->terms);
	put(a);
	put(b);
}

/* Each allocation fails in turn. Terms of its own and a window too long for the SA are in it. */
static void what_cannot_be_made_leaves_nothing(void **state)
{
	struct xf_sa_config cfg = mobile_config();
	struct xf_sa *first = first_sa(), *sa;
	size_t terms = sad->terms.count;
	long before = taken;
	unsigned failed = 0;

	(void)state;
	cfg.terms.tfc_pad = 77;
	cfg.terms.replay_window = 1000;
	cfg.terms.replay_esn_attr = true;
	do {
		left = ++failed;
		sa = xf_sa_new(sad, &cfg, NULL, XF_SA_VALID, NULL, 0);
		if (sa)
			break;
		assert_int_equal(left, 0);
		assert_int_equal(taken, before);
		assert_int_equal(sad->terms.count, terms);
	} while (failed < 100);
	assert_in_range(failed, 4, 9);
	left = 0;
	put(sa);
	assert_int_equal(taken, before);
	put(first);
}

/* The configuration stays as it was, its care-of address included. */
static void what_cannot_be_changed_stays(void **state)
{
	struct xf_sa *first = first_sa(), *sa;
	struct xf_sa_config cfg = mobile_config();
	unsigned failed = 0;

	(void)state;
	cfg.has_coaddr = false;
	sa = sas_new(sad, &cfg, 0);
	cfg.has_coaddr = true;
	cfg.terms.tfc_pad = 78;
	do {
		left = ++failed;
		if (xf_sa_reconfigure(sa, &cfg) == 0)
			break;
		assert_int_equal(left, 0);
		assert_int_equal(xf_sa_cfg(sa)->terms->tfc_pad, 0);
		assert_null(xf_sa_coaddr(sa));
	} while (failed < 100);
	assert_in_range(failed, 4, 9);
	left = 0;
	assert_int_equal(xf_sa_cfg(sa)->terms->tfc_pad, 78);
	assert_memory_equal(xf_sa_coaddr(sa), &cfg.coaddr, sizeof(cfg.coaddr));
	put(sa);
	put(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(most_have_none),
		cmocka_unit_test(it_goes_with_the_last_reference),
		cmocka_unit_test(it_may_come_later),
		cmocka_unit_test(terms_do_not_have_it),
		cmocka_unit_test(what_cannot_be_made_leaves_nothing),
		cmocka_unit_test(what_cannot_be_changed_stays),
	};

	return cmocka_run_group_tests(tests, make_sad, free_sad);
}
