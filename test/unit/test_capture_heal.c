/*
 * What is lost is repaired at once, but no more often than the limits allow: virtual time.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "capture/repair/heal.h"

#define SECOND XF_NSEC_PER_SEC

struct log {
	unsigned lines;
	unsigned bad;
	char last[512];
};

static void note(void *arg, bool bad, const char *line)
{
	struct log *log = arg;

	log->lines++;
	log->bad += bad;
	snprintf(log->last, sizeof(log->last), "%s", line);
}

static void lose(struct xf_heal *heal, uint64_t now_ns)
{
	xf_heal_lost(heal, XF_HEAL_TABLE, now_ns, "the table was deleted by nft (pid 7)");
}

/* Repair what is due. */
static bool act(struct xf_heal *heal, uint64_t now_ns)
{
	if (!xf_heal_is_due(heal, XF_HEAL_TABLE, now_ns))
		return false;
	xf_heal_repaired(heal, XF_HEAL_TABLE, now_ns, "made anew");
	return true;
}

static void a_loss_is_repaired_at_once(void **state)
{
	struct log log = { 0 };
	struct xf_heal heal = { .say = note, .arg = &log };

	(void)state;
	assert_false(act(&heal, 5));
	assert_true(xf_heal_due(&heal) == UINT64_MAX);
	lose(&heal, 5);
	assert_true(xf_heal_is_lost(&heal, XF_HEAL_TABLE));
	assert_int_equal(xf_heal_due(&heal), 5);
	assert_int_equal(log.lines, 0);
	/* What is lost cannot be lost again. */
	lose(&heal, 6);
	assert_true(act(&heal, 6));
	assert_string_equal(log.last, "the table was deleted by nft (pid 7): made anew");
	assert_int_equal(log.lines, 1);
	assert_int_equal(log.bad, 0);
	assert_int_equal(heal.part[XF_HEAL_TABLE].losses, 1);
	assert_int_equal(heal.part[XF_HEAL_TABLE].repairs, 1);
	assert_int_equal(heal.part[XF_HEAL_RULE].losses, 0);
	assert_int_equal(heal.part[XF_HEAL_TABLE].state, XF_HEAL_IN_FORCE);
}

/* Five are repaired, also at the time 0; for the sixth within 10 s there is a wait, told once. */
static void an_agent_that_undoes_repairs_is_held(void **state)
{
	struct log log = { 0 };
	struct xf_heal heal = { .say = note, .arg = &log };
	uint64_t now = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++, now += SECOND) {
		lose(&heal, now);
		assert_true(act(&heal, now));
	}
	assert_int_equal(log.lines, 5);
	lose(&heal, now);
	assert_int_equal(log.lines, 6);
	assert_int_equal(log.bad, 1);
	assert_non_null(strstr(log.last, "by nft (pid 7): more than 5 times within 10 s"));
	assert_false(act(&heal, now));
	assert_int_equal(xf_heal_due(&heal), 4 * SECOND + XF_HEAL_PERIOD_NS);
	assert_false(act(&heal, xf_heal_due(&heal) - 1));
	/* Held: a minute of it is six repairs and six lines. */
	for (; now < 74 * SECOND; now += SECOND / 10) {
		if (act(&heal, now))
			lose(&heal, now + 1);
	}
	assert_int_equal(heal.part[XF_HEAL_TABLE].repairs, 5 + 6);
	assert_int_equal(log.lines, 6 + 6);
	assert_int_equal(log.bad, 1);
}

static void it_is_let_go_when_there_is_quiet(void **state)
{
	struct xf_heal heal = { .say = NULL };
	uint64_t now = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		lose(&heal, now);
		act(&heal, now);
	}
	lose(&heal, now);
	now = xf_heal_due(&heal);
	assert_true(act(&heal, now));
	now += XF_HEAL_PERIOD_NS;
	lose(&heal, now);
	assert_false(heal.part[XF_HEAL_TABLE].held);
	assert_true(act(&heal, now));
	lose(&heal, now + 1);
	assert_true(act(&heal, now + 1));
}

/* Losses that are far from each other are never too many. */
static void slow_losses_are_repaired_at_once(void **state)
{
	struct xf_heal heal = { .say = NULL };

	(void)state;
	for (uint64_t now = 0; now < 300 * SECOND; now += 2 * SECOND) {
		lose(&heal, now);
		assert_true(act(&heal, now));
	}
}

static void repair_in_vain(struct xf_heal *heal, uint64_t now_ns)
{
	xf_heal_failed(heal, XF_HEAL_TABLE, now_ns, "cannot be made anew: no memory");
}

/* At once, and then later and later. */
static void what_fails_is_tried_again(void **state)
{
	static const unsigned waits_ms[] = { 0, 50, 200, 1000, 2000, 5000, 10000, 10000 };
	struct log log = { 0 };
	struct xf_heal heal = { .say = note, .arg = &log };
	uint64_t now = 7;

	(void)state;
	lose(&heal, now);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(waits_ms); i++) {
		assert_true(xf_heal_is_due(&heal, XF_HEAL_TABLE, now));
		repair_in_vain(&heal, now);
		assert_int_equal(heal.part[XF_HEAL_TABLE].state, XF_HEAL_FAILED);
		assert_int_equal(xf_heal_due(&heal), now + waits_ms[i] * (SECOND / 1000));
		/* What is lost may be lost again: it is tried no earlier for that. */
		lose(&heal, now);
		now = xf_heal_due(&heal);
	}
	assert_int_equal(log.lines, 1);
	assert_int_equal(log.bad, 1);
	xf_heal_repaired(&heal, XF_HEAL_TABLE, now, "made anew");
	assert_int_equal(log.lines, 2);
	assert_true(xf_heal_due(&heal) == UINT64_MAX);
}

static void miss(struct xf_heal *heal, uint64_t now_ns)
{
	xf_heal_missed(heal, XF_HEAL_TABLE, now_ns, "the rules do not follow the policies");
}

/* However often we fail ourselves, and however often that is repaired. */
static void our_own_failures_hold_nothing(void **state)
{
	struct log log = { 0 };
	struct xf_heal heal = { .say = note, .arg = &log };
	const struct xf_heal_entry *table = &heal.part[XF_HEAL_TABLE];

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		miss(&heal, i);
		repair_in_vain(&heal, i);
		assert_true(act(&heal, i));
	}
	lose(&heal, 20);
	assert_false(table->held);
	/* Nor does a repair that fails. */
	repair_in_vain(&heal, 20);
	repair_in_vain(&heal, 20);
	assert_true(act(&heal, 20 + SECOND));
	assert_int_equal(log.lines, 2 * 20 + 2);
	assert_int_equal(table->losses, 21);
}

/* Somebody took away what we have failed to repair: it is his. */
static void what_we_missed_may_be_lost(void **state)
{
	struct log log = { 0 };
	struct xf_heal heal = { .say = note, .arg = &log };
	const struct xf_heal_entry *table = &heal.part[XF_HEAL_TABLE];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		miss(&heal, i);
		lose(&heal, i);
		miss(&heal, i);
		assert_int_equal(act(&heal, i), i < 5);
	}
	assert_true(table->held);
	assert_non_null(strstr(log.last, "by nft (pid 7): more than 5 times within 10 s"));
	repair_in_vain(&heal, xf_heal_due(&heal));
	assert_int_equal(xf_heal_due(&heal), 4 + 2 * XF_HEAL_PERIOD_NS);
	/* What we miss ourselves while it is held does not wait. */
	assert_true(act(&heal, xf_heal_due(&heal)));
	miss(&heal, 5 * XF_HEAL_PERIOD_NS);
	repair_in_vain(&heal, 5 * XF_HEAL_PERIOD_NS);
	assert_int_equal(xf_heal_due(&heal), 5 * XF_HEAL_PERIOD_NS);
}

static void what_is_lost_stays_so_when_policies_change(void **state)
{
	struct xf_heal heal = { .say = NULL };
	const struct xf_heal_entry *table = &heal.part[XF_HEAL_TABLE];

	(void)state;
	xf_heal_changed(&heal, XF_HEAL_TABLE);
	assert_int_equal(table->state, XF_HEAL_CHANGED);
	assert_false(xf_heal_is_lost(&heal, XF_HEAL_TABLE));
	xf_heal_follows(&heal, XF_HEAL_TABLE);
	assert_int_equal(table->state, XF_HEAL_IN_FORCE);
	xf_heal_changed(&heal, XF_HEAL_TABLE);
	lose(&heal, 1);
	xf_heal_changed(&heal, XF_HEAL_TABLE);
	xf_heal_follows(&heal, XF_HEAL_TABLE);
	assert_int_equal(table->state, XF_HEAL_LOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loss_is_repaired_at_once),
		cmocka_unit_test(an_agent_that_undoes_repairs_is_held),
		cmocka_unit_test(it_is_let_go_when_there_is_quiet),
		cmocka_unit_test(slow_losses_are_repaired_at_once),
		cmocka_unit_test(what_fails_is_tried_again),
		cmocka_unit_test(our_own_failures_hold_nothing),
		cmocka_unit_test(what_we_missed_may_be_lost),
		cmocka_unit_test(what_is_lost_stays_so_when_policies_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
