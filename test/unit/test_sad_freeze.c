/*
 * SAs out of use: no worker takes a number or commits to a window, nothing is told; and SAs that
 * come back as what they were.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <xf/freeze.h>

#include <sad/use.h>

#include "sas.h"

#define S XF_NSEC_PER_SEC

static enum xf_drop check(struct xf_sa *sa, bool out)
{
	return xf_sa_check(sa, xf_sa_form(sa)->what, out, 11 * S, NULL);
}

static void frozen_is_found_and_not_used(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa = sas_add(sad, &cfg), *now;

	(void)state;
	assert_int_equal(check(sa, true), XF_PASS);
	assert_int_equal(xf_sad_freeze(sad, &sa, 1), 1);
	assert_int_equal(xf_sa_get_state(sa), XF_SA_FROZEN);
	assert_int_equal(check(sa, true), XF_DROP_OUT_STATE_INVALID);
	assert_int_equal(check(sa, false), XF_DROP_IN_STATE_INVALID);
	assert_ptr_equal(xf_sad_find_in(sad, &cfg.id, 0), sa);
	assert_int_equal(sas_try_add(sad, &cfg), -EEXIST);
	assert_int_equal(sas_update(sad, &cfg, &now), -EINVAL);
	assert_int_equal(xf_sad_freeze(sad, &sa, 1), 0);
	xf_sad_thaw(sad, sa);
	assert_int_equal(check(sa, true), XF_PASS);
	assert_int_equal(xf_sad_del(sad, sa), 0);
	xf_sad_free(sad);
}

/* Those without keys, and those whose end is certain, stay what they are. */
static void only_valid_ones_are_frozen(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sas[4];

	(void)state;
	assert_int_equal(sas_alloc(sad, &cfg, 9, 9, &sas[0]), 0);
	for (unsigned i = 1; i < 4; i++) {
		cfg.id.spi = 100 + i;
		sas[i] = sas_add(sad, &cfg);
	}
	atomic_store(&sas[2]->state, XF_SA_EXPIRED);
	assert_int_equal(xf_sad_freeze(sad, sas, 4), 2);
	assert_int_equal(xf_sa_get_state(sas[0]), XF_SA_ACQ);
	assert_int_equal(xf_sa_get_state(sas[1]), XF_SA_FROZEN);
	assert_int_equal(xf_sa_get_state(sas[2]), XF_SA_EXPIRED);
	assert_int_equal(xf_sa_get_state(sas[3]), XF_SA_FROZEN);
	for (unsigned i = 0; i < 4; i++)
		xf_sad_thaw(sad, sas[i]);
	assert_int_equal(xf_sa_get_state(sas[0]), XF_SA_ACQ);
	assert_int_equal(xf_sa_get_state(sas[2]), XF_SA_EXPIRED);
	xf_sad_free(sad);
}

static void note(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	unsigned *events = arg;

	(void)sa;
	events[event]++;
}

/* Time runs on for it, and what it missed is told when it is in use again. */
static void frozen_does_not_expire(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	unsigned events[3] = { 0 };
	struct xf_sa *sa;

	(void)state;
	cfg.terms.life.soft_add_s = 5;
	cfg.terms.life.hard_add_s = 8;
	sa = sas_add(sad, &cfg);
	xf_sad_expire(sad, 10 * S, note, events);
	assert_int_equal(xf_sad_freeze(sad, &sa, 1), 1);
	/* A late event of a worker's. */
	xf_sad_attend(sad, sa->links.id);
	assert_int_equal(xf_sad_expire(sad, 30 * S, note, events), UINT64_MAX);
	assert_int_equal(events[XF_SA_EVENT_SOFT_EXPIRE] + events[XF_SA_EVENT_HARD_EXPIRE], 0);
	xf_sad_thaw(sad, sa);
	assert_int_equal(xf_sad_expire(sad, 15 * S, note, events), 18 * S);
	assert_int_equal(events[XF_SA_EVENT_SOFT_EXPIRE], 1);
	xf_sad_expire(sad, 18 * S, note, events);
	assert_int_equal(events[XF_SA_EVENT_HARD_EXPIRE], 1);
	xf_sad_free(sad);
}

/* A worker has met the limit, and the control thread has not heard of it yet. */
static void a_soft_limit_is_told_once(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	unsigned events[3] = { 0 };
	struct xf_sa *sa;

	(void)state;
	cfg.terms.life.soft_packets = 1;
	sa = sas_add(sad, &cfg);
	xf_sa_count(&sa->out, 0, 1, 100, 11 * S);
	assert_int_equal(check(sa, true), XF_PASS);
	assert_int_equal(atomic_load(&sa->attention), XF_SA_SOFT_HIT);
	assert_int_equal(xf_sad_freeze(sad, &sa, 1), 1);
	assert_false(atomic_load(&sa->dying));
	xf_sad_expire(sad, 11 * S, note, events);
	assert_int_equal(events[XF_SA_EVENT_SOFT_EXPIRE], 0);
	xf_sad_thaw(sad, sa);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(check(sa, true), XF_PASS);
		xf_sad_expire(sad, 11 * S, note, events);
	}
	assert_int_equal(events[XF_SA_EVENT_SOFT_EXPIRE], 1);
	xf_sad_free(sad);
}

/* --- A worker between its question and its number --- */

static struct xf_sa *shared;
static _Atomic bool asked;

static void *take_late(void *arg)
{
	struct xf_sa_numbers numbers;

	(void)arg;
	xf_read_register();
	xf_read_begin();
	if (check(shared, true) == XF_PASS) {
		atomic_store(&asked, true);
		while (xf_sa_get_state(shared) == XF_SA_VALID)
			;
		usleep(50 * 1000);
		xf_sa_take_numbers(shared, xf_sa_form(shared), 7, &numbers);
	}
	xf_read_end();
	xf_read_quiescent();
	xf_read_unregister();
	return NULL;
}

static void freezing_waits_for_who_has_asked(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	pthread_t thread;

	(void)state;
	shared = sas_add(sad, &cfg);
	assert_int_equal(pthread_create(&thread, NULL, take_late, NULL), 0);
	while (!atomic_load(&asked))
		;
	assert_int_equal(xf_sad_freeze(sad, &shared, 1), 1);
	assert_int_equal(atomic_load(&shared->begun), 7);
	pthread_join(thread, NULL);
	xf_sad_free(sad);
}

/* --- SAs that come back --- */

static int restore(struct xf_sad *sad, const struct xf_sa_config *cfg, uint64_t id)
{
	struct xf_sa *sa = sas_new_as(sad, cfg, XF_SA_FROZEN, 10 * S);
	const char *why = NULL;
	int err = xf_sad_restore(sad, sa, id, &why);

	assert_int_equal(err == 0, why == NULL);
	if (err)
		xf_sa_put(sa);
	else
		xf_sad_thaw(sad, sa);
	return err;
}

struct list {
	uint32_t spi[64];
	unsigned n;
};

static bool list_one(void *arg, struct xf_sa *sa)
{
	struct list *list = arg;

	list->spi[list->n++] = xf_sa_cfg(sa)->id.spi;
	return list->n < 64;
}

/* Whatever the order: dumps, and lookups that take the newest, go by when they came first. */
static void in_any_order_they_are_as_old_as_they_were(void **state)
{
	static const uint8_t ids[] = { 7, 3, 40, 1, 5, 12, 4 };
	static const uint32_t newest_first[] = { 141, 140, 112, 107, 105, 104, 103, 101 };
	const struct xf_tmpl tmpl = { .id = { .family = XF_AF_INET, .proto = XF_IPPROTO_ESP },
				      .mode = XF_MODE_TUNNEL };
	const struct xf_flow flow = { .family = XF_AF_INET };
	struct xf_sa_config cfg = sas_config(1, 2, 0);
	const struct xf_sad_query query = {
		.tmpl = &tmpl, .saddr = &cfg.saddr, .daddr = &cfg.id.daddr, .flow = &flow
	};
	struct xf_sad *sad = sas_sad(0);
	struct list list = { .n = 0 };
	uint64_t cursor = 0;

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(ids); i++) {
		cfg.id.spi = 100u + ids[i];
		assert_int_equal(restore(sad, &cfg, ids[i]), 0);
	}
	assert_int_equal(xf_sa_cfg(xf_sad_find_out(sad, &query, NULL))->id.spi, 140);
	cfg.id.spi = 141;
	sas_add(sad, &cfg);
	assert_int_equal(xf_sa_cfg(xf_sad_find_out(sad, &query, NULL))->id.spi, 141);
	assert_false(xf_sad_walk(sad, &cursor, list_one, &list));
	assert_int_equal(list.n, XF_ARRAY_SIZE(newest_first));
	assert_memory_equal(list.spi, newest_first, sizeof(newest_first));
	/* Each is still taken out of the place where it is. */
	for (unsigned i = 0; i < XF_ARRAY_SIZE(newest_first); i++) {
		cfg.id.spi = newest_first[i];
		assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &cfg.id, 0)), 0);
		cursor = list.n = 0;
		xf_sad_walk(sad, &cursor, list_one, &list);
		assert_int_equal(list.n, XF_ARRAY_SIZE(newest_first) - 1 - i);
		assert_memory_equal(list.spi, newest_first + i + 1, list.n * sizeof(list.spi[0]));
	}
	xf_sad_free(sad);
}

static void what_is_taken_is_refused(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(4), *other = sas_sad(0);
	struct xf_sa *foreign = sas_new_as(other, &cfg, XF_SA_FROZEN, 10 * S);
	const char *why = NULL;

	(void)state;
	assert_int_equal(xf_sad_restore(sad, foreign, 5, &why), -EINVAL);
	assert_non_null(why);
	xf_sa_put(foreign);
	xf_sad_free(other);
	assert_int_equal(restore(sad, &cfg, 0), -EINVAL);
	assert_int_equal(restore(sad, &cfg, UINT64_MAX), -EINVAL);
	assert_int_equal(restore(sad, &cfg, 5), 0);
	assert_int_equal(restore(sad, &cfg, 6), -EEXIST);
	cfg.id.spi = 101;
	assert_int_equal(restore(sad, &cfg, 5), -EEXIST);
	assert_int_equal(restore(sad, &cfg, 6), 0);
	/* What has gone leaves its number. */
	assert_int_equal(xf_sad_del(sad, xf_sad_find_in(sad, &cfg.id, 0)), 0);
	assert_int_equal(restore(sad, &cfg, 6), 0);
	assert_int_equal(restore(sad, &cfg, 6), -EEXIST);
	cfg.id.spi = 102;
	assert_int_equal(restore(sad, &cfg, 2), 0);
	cfg.id.spi = 103;
	assert_int_equal(restore(sad, &cfg, 3), 0);
	cfg.id.spi = 104;
	assert_int_equal(restore(sad, &cfg, 4), -ENOSPC);
	assert_int_equal(sas_count(sad), 4);
	xf_sad_free(sad);
}

/* With a mark first and without one later they could be added, the other way round they could not:
 * both ways they can be restored. An SPI that the SAD chose stands elsewhere. */
static void marks_that_overlap_stand_side_by_side(void **state)
{
	for (unsigned first = 0; first < 2; first++) {
		struct xf_sa_config cfg[2] = { sas_config(1, 2, 100), sas_config(1, 2, 100) };
		struct xf_sad *sad = sas_sad(0);
		struct xf_sa *sa;

		(void)state;
		cfg[1].terms.mark = (struct xf_mark){ .v = 5, .m = 0xff };
		assert_int_equal(restore(sad, &cfg[first], 1 + first), 0);
		assert_int_equal(restore(sad, &cfg[!first], 2 - first), 0);
		assert_int_equal(restore(sad, &cfg[0], 3), -EEXIST);
		assert_int_equal(restore(sad, &cfg[1], 3), -EEXIST);
		assert_int_equal(xf_sa_cfg(xf_sad_find_in(sad, &cfg[0].id, 5))->terms->mark.v, 5);
		assert_int_equal(xf_sa_cfg(xf_sad_find_in(sad, &cfg[0].id, 6))->terms->mark.v, 0);
		assert_int_equal(sas_alloc(sad, &cfg[0], 0xc0000000, 0xcfffffff, &sa), 0);
		cfg[0].id.spi = xf_sa_cfg(sa)->id.spi;
		assert_int_equal(restore(sad, &cfg[0], 9), -EEXIST);
		xf_sad_free(sad);
	}
}

/* Marks are the same when value and mask are. */
static void marks_are_told_apart(void **state)
{
	static const struct xf_mark marks[] = { { 5, 0xff }, { 6, 0xff }, { 5, 0xf }, { 0, 0 } };
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);

	(void)state;
	for (unsigned i = 0; i < 2 * XF_ARRAY_SIZE(marks); i++) {
		cfg.terms.mark = marks[i % XF_ARRAY_SIZE(marks)];
		assert_int_equal(restore(sad, &cfg, 1 + i), i < XF_ARRAY_SIZE(marks) ? 0 : -EEXIST);
	}
	xf_sad_free(sad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frozen_is_found_and_not_used),
		cmocka_unit_test(only_valid_ones_are_frozen),
		cmocka_unit_test(frozen_does_not_expire),
		cmocka_unit_test(a_soft_limit_is_told_once),
		cmocka_unit_test(freezing_waits_for_who_has_asked),
		cmocka_unit_test(in_any_order_they_are_as_old_as_they_were),
		cmocka_unit_test(what_is_taken_is_refused),
		cmocka_unit_test(marks_that_overlap_stand_side_by_side),
		cmocka_unit_test(marks_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
