/*
 * ALLOCSPI and what becomes of a larval SA, by the kernel's rules (xfrm_alloc_spi(),
 * __find_acq_core(), xfrm_state_add()).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/sa.h>

#include "sas.h"

#define S XF_NSEC_PER_SEC

struct range_case {
	uint8_t proto;
	uint32_t min, max;
	int err;
	const char *why;
};

static void ranges_as_the_kernel_checks_them(void **state)
{
	static const struct range_case cases[] = {
		{ XF_IPPROTO_ESP, 0x1234, 0x1234, 0, NULL },
		{ XF_IPPROTO_ESP, 1, 1, 0, NULL },
		{ XF_IPPROTO_ESP, 0, 0, -ENOENT, "No SPI available in the requested range" },
		{ XF_IPPROTO_ESP, 0, 1, 0, NULL },
		{ XF_IPPROTO_ESP, 0, UINT32_MAX, 0, NULL },
		{ XF_IPPROTO_AH, 256, UINT32_MAX, 0, NULL },
		{ XF_IPPROTO_ESP, 2, 1, -EINVAL, "Invalid SPI range: min > max" },
		{ XF_IPPROTO_COMP, 1, 0xffff, 0, NULL },
		{ XF_IPPROTO_COMP, 1, 0x10000, -EINVAL, "IPCOMP SPI must be <= 65535" },
		{ XF_IPPROTO_IPIP, 1, 2, -EINVAL,
		  "Invalid protocol, must be one of AH, ESP, IPCOMP" },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 0);
		const struct xf_spi_request req = { .cfg = &cfg,
						    .min = cases[i].min,
						    .max = cases[i].max };
		struct xf_sad *sad = sas_sad(0);
		const char *why = NULL;
		struct xf_sa *sa;

		cfg.id.proto = cases[i].proto;
		assert_int_equal(xf_sad_alloc_spi(sad, &req, &sa, &why), cases[i].err);
		if (cases[i].why)
			assert_string_equal(why, cases[i].why);
		else
			assert_in_range(xf_sa_cfg(sa)->id.spi, cases[i].min ? cases[i].min : 1,
					cases[i].max);
		/* Without a free SPI the larval SA stays, as in the kernel. */
		assert_int_equal(sas_count(sad), cases[i].err == -EINVAL ? 0 : 1);
		xf_sad_free(sad);
	}
}

/* Zero is never given, and whatever else is free always found. */
static void the_last_free_number(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);

	(void)state;
	for (uint32_t i = 0; i < 40; i++) {
		struct xf_sad *sad = sas_sad(0);
		struct xf_sa *sa;

		assert_int_equal(sas_alloc(sad, &cfg, 0, 1, &sa), 0);
		assert_int_equal(xf_sa_cfg(sa)->id.spi, 1);
		for (uint32_t spi = 2; spi <= 60; spi++) {
			const struct xf_sa_config other = sas_config(1, 2, spi);

			if (spi != i + 2)
				sas_add(sad, &other);
		}
		assert_int_equal(sas_alloc(sad, &cfg, 0, 60, &sa), 0);
		assert_int_equal(xf_sa_cfg(sa)->id.spi, i + 2);
		assert_int_equal(sas_alloc(sad, &cfg, 0, 60, &sa), -ENOENT);
		xf_sad_free(sad);
	}
}

static void larval_as_dumps_show_it(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 77);
	struct xf_sad *sad = sas_sad(0);
	const struct xf_sa_view *got;
	struct xf_sa *sa;

	(void)state;
	cfg.reqid = 5;
	cfg.if_id = 6;
	cfg.dir = XF_SA_DIR_IN;
	cfg.flags = XF_SA_ESN;
	cfg.terms.life.soft_add_s = 3;
	assert_int_equal(sas_alloc(sad, &cfg, 500, 500, &sa), 0);
	got = xf_sa_cfg(sa);
	assert_int_equal(xf_sa_get_state(sa), XF_SA_ACQ);
	assert_int_equal(got->id.spi, 500);
	assert_int_equal(got->terms->sel.prefixlen_d, 32);
	assert_int_equal(got->terms->sel.family, 0);
	assert_true(xf_addr_equal(&got->terms->sel.daddr, &cfg.id.daddr, XF_AF_INET));
	assert_true(xf_addr_equal(&got->terms->sel.saddr, &cfg.saddr, XF_AF_INET));
	assert_int_equal(got->terms->life.hard_add_s, 30);
	assert_int_equal(got->terms->life.soft_add_s, 0);
	assert_int_equal(got->terms->life.hard_bytes, XF_INF);
	assert_int_equal(got->reqid, 5);
	assert_int_equal(got->if_id, 6);
	assert_int_equal(got->dir, XF_SA_DIR_IN);
	assert_int_equal(got->flags, 0);
	assert_ptr_equal(xf_sad_find_in(sad, &got->id, 0), sa);
	xf_sad_free(sad);
}

static uint32_t setting(void *arg)
{
	return *(uint32_t *)arg;
}

static void no_random(void *arg, void *buf, size_t len)
{
	(void)arg;
	memset(buf, 0, len);
}

/* How long it waits for its keys is asked each time. */
static void larval_as_long_as_is_said(void **state)
{
	uint32_t seconds = 77;
	const struct xf_sad_config sad_cfg = { .larval_lifetime_s = 30,
					       .larval_lifetime = setting,
					       .random = no_random,
					       .arg = &seconds };
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = xf_sad_new(&sad_cfg);
	struct xf_sa *one, *two;

	(void)state;
	assert_int_equal(sas_alloc(sad, &cfg, 1, 1, &one), 0);
	seconds = 165;
	assert_int_equal(sas_alloc(sad, &cfg, 2, 2, &two), 0);
	assert_int_equal(xf_sa_cfg(one)->terms->life.hard_add_s, 77);
	assert_int_equal(xf_sa_cfg(two)->terms->life.hard_add_s, 165);
	xf_sad_free(sad);
}

static void each_number_once(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	bool taken[102] = { false };
	struct xf_sa *sa;

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		cfg.reqid = i;
		cfg.id.daddr = sas_addr((uint8_t)(i % 5 + 2));
		assert_int_equal(sas_alloc(sad, &cfg, 1, 100, &sa), 0);
		assert_in_range(xf_sa_cfg(sa)->id.spi, 1, 100);
		assert_false(taken[xf_sa_cfg(sa)->id.spi]);
		taken[xf_sa_cfg(sa)->id.spi] = true;
	}
	cfg.reqid = 1000;
	assert_int_equal(sas_alloc(sad, &cfg, 1, 100, &sa), -ENOENT);
	/* Another protocol has numbers of its own. */
	cfg.id.proto = XF_IPPROTO_AH;
	assert_int_equal(sas_alloc(sad, &cfg, 100, 100, &sa), 0);
	xf_sad_free(sad);
}

/* One that waits for an SPI is found again by what it is for; if_id is not compared. */
static void one_without_spi_is_found_again(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0), other = sas_config(1, 2, 9);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa;

	(void)state;
	sas_add(sad, &other);
	assert_int_equal(sas_alloc(sad, &cfg, 9, 9, &sa), -ENOENT);
	assert_int_equal(sas_count(sad), 2);
	cfg.if_id = 3;
	assert_int_equal(sas_alloc(sad, &cfg, 9, 9, &sa), -ENOENT);
	assert_int_equal(sas_count(sad), 2);
	assert_int_equal(sas_alloc(sad, &cfg, 10, 10, &sa), 0);
	assert_int_equal(sas_count(sad), 2);
	assert_int_equal(sas_alloc(sad, &cfg, 11, 11, &sa), 0);
	assert_int_equal(sas_count(sad), 3);
	cfg.mode = XF_MODE_TRANSPORT;
	assert_int_equal(sas_alloc(sad, &cfg, 11, 11, &sa), -ENOENT);
	assert_int_equal(sas_count(sad), 4);
	cfg.terms.pcpu = 1;
	assert_int_equal(sas_alloc(sad, &cfg, 11, 11, &sa), -ENOENT);
	assert_int_equal(sas_count(sad), 5);
	xf_sad_free(sad);
}

static struct xf_sa *add_larval(struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	struct xf_sa *sa = sas_new_larval(sad, cfg, 5 * S);

	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
	return sa;
}

/* What ACQUIRE left behind is found by its number, and keeps an SPI that it has. */
static void acquire_is_found_by_seq(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *larval, *sa;

	(void)state;
	cfg.seq = 42;
	larval = add_larval(sad, &cfg);
	cfg.saddr = sas_addr(9);
	cfg.dir = XF_SA_DIR_OUT;
	assert_int_equal(sas_alloc(sad, &cfg, 7, 7, &sa), 0);
	assert_ptr_equal(sa, larval);
	assert_int_equal(xf_sa_cfg(sa)->dir, XF_SA_DIR_OUT);
	cfg.dir = XF_SA_DIR_IN;
	assert_int_equal(sas_alloc(sad, &cfg, 8, 8, &sa), 0);
	assert_ptr_equal(sa, larval);
	assert_int_equal(xf_sa_cfg(sa)->id.spi, 7);
	assert_int_equal(xf_sa_cfg(sa)->dir, XF_SA_DIR_IN);
	cfg.id.daddr = sas_addr(3);
	assert_int_equal(sas_alloc(sad, &cfg, 8, 8, &sa), 0);
	assert_ptr_not_equal(sa, larval);
	xf_sad_free(sad);
}

/* NEWSA that answers an ACQUIRE: the larval SA goes, by number or by what it was for. */
static void the_answer_replaces_the_question(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);

	(void)state;
	cfg.seq = 42;
	add_larval(sad, &cfg);
	cfg.id.spi = 200;
	cfg.reqid = 1; /* seq alone must do */
	assert_int_equal(sas_try_add(sad, &cfg), 0);
	assert_int_equal(sas_count(sad), 1);

	cfg = sas_config(3, 4, 0);
	add_larval(sad, &cfg);
	cfg.id.spi = 201;
	assert_int_equal(sas_try_add(sad, &cfg), 0);
	assert_int_equal(sas_count(sad), 2);

	/* Not an answer: another peer, or the larval SA has an SPI. */
	cfg = sas_config(5, 6, 0);
	cfg.seq = 43;
	add_larval(sad, &cfg);
	cfg.id.daddr = sas_addr(7);
	cfg.id.spi = 202;
	assert_int_equal(sas_try_add(sad, &cfg), 0);
	assert_int_equal(sas_count(sad), 4);
	cfg = sas_config(8, 9, 300);
	add_larval(sad, &cfg);
	assert_int_equal(sas_try_add(sad, &cfg), -EEXIST);
	cfg.id.spi = 301;
	assert_int_equal(sas_try_add(sad, &cfg), 0);
	assert_int_equal(sas_count(sad), 6);
	xf_sad_free(sad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_as_the_kernel_checks_them),
		cmocka_unit_test(the_last_free_number),
		cmocka_unit_test(larval_as_dumps_show_it),
		cmocka_unit_test(larval_as_long_as_is_said),
		cmocka_unit_test(each_number_once),
		cmocka_unit_test(one_without_spi_is_found_again),
		cmocka_unit_test(acquire_is_found_by_seq),
		cmocka_unit_test(the_answer_replaces_the_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
