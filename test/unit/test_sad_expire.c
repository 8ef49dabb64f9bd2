/*
 * Lifetimes: when which event is told, and what happens to the SA.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sad/db.h>
#include <sad/use.h>

#include "sas.h"

#define S XF_NSEC_PER_SEC

struct events {
	struct xf_sad *sad;
	enum xf_sa_event what[8];
	uint32_t spi[8];
	unsigned n;
};

static void note(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	struct events *events = arg;

	assert_in_range(events->n, 0, 7);
	events->spi[events->n] = xf_sa_cfg(sa)->id.spi;
	events->what[events->n++] = event;
	if (event != XF_SA_EVENT_SOFT_EXPIRE)
		assert_null(xf_sad_find_in(events->sad, &xf_sa_cfg(sa)->id, 0));
}

static void attend(void *arg, const struct xf_event *event)
{
	assert_int_equal(event->kind, XF_EVENT_SA);
	xf_sad_attend(arg, event->sa);
}

/* As a worker's; nobody waits. */
static struct xf_event_ring *ring_of(unsigned size)
{
	struct xf_event_ring *ring = xf_event_ring_new(size, &(struct xf_event_wake){ 0 });

	assert_non_null(ring);
	return ring;
}

/* The events at @now_ns, as a number: digits 1 + event of each in turn. */
static unsigned at(struct events *events, uint64_t now_ns, uint64_t *next)
{
	unsigned digits = 0;

	events->n = 0;
	*next = xf_sad_expire(events->sad, now_ns, note, events);
	for (unsigned i = 0; i < events->n; i++)
		digits = digits * 10 + 1 + events->what[i];
	return digits;
}

#define SOFT (1 + XF_SA_EVENT_SOFT_EXPIRE)
#define HARD (1 + XF_SA_EVENT_HARD_EXPIRE)
#define LARVAL (1 + XF_SA_EVENT_LARVAL_EXPIRE)

static void expire_after_adding(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct events events = { .sad = sas_sad(0) };
	uint64_t next;

	(void)state;
	cfg.terms.life.soft_add_s = 5;
	cfg.terms.life.hard_add_s = 8;
	sas_add(events.sad, &cfg);
	assert_int_equal(at(&events, 10 * S, &next), 0);
	assert_int_equal(next, 15 * S);
	assert_int_equal(at(&events, 15 * S - 1, &next), 0);
	assert_int_equal(at(&events, 15 * S, &next), SOFT);
	assert_int_equal(next, 18 * S);
	assert_int_equal(at(&events, 16 * S, &next), 0);
	assert_int_equal(at(&events, 19 * S, &next), HARD);
	assert_int_equal(next, UINT64_MAX);
	assert_int_equal(sas_count(events.sad), 0);
	xf_sad_free(events.sad);
}

/* Unused, the limit of use is looked at anew; used, it counts from the first use. */
static void expire_after_use(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *sa;
	uint64_t next;

	(void)state;
	cfg.terms.life.soft_use_s = 4;
	cfg.terms.life.hard_use_s = 6;
	sa = sas_add(events.sad, &cfg);
	assert_int_equal(at(&events, 10 * S, &next), 0);
	assert_int_equal(next, 14 * S);
	assert_int_equal(at(&events, 14 * S, &next), 0);
	assert_int_equal(next, 18 * S);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 15 * S, NULL), XF_PASS);
	assert_int_equal(at(&events, 18 * S, &next), 0);
	assert_int_equal(next, 19 * S);
	assert_int_equal(at(&events, 19 * S, &next), SOFT);
	assert_int_equal(next, 21 * S);
	assert_int_equal(at(&events, 21 * S, &next), HARD);
	xf_sad_free(events.sad);
}

static void expire_larval(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 0);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *sa;
	uint64_t next;

	(void)state;
	assert_int_equal(sas_alloc(events.sad, &cfg, 9, 9, &sa), 0);
	assert_int_equal(at(&events, 6 * S, &next), 0);
	assert_int_equal(next, 35 * S);
	assert_int_equal(at(&events, 35 * S, &next), LARVAL);
	assert_int_equal(events.spi[0], 9);
	xf_sad_free(events.sad);
}

static void expire_by_traffic(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_event_ring *ring = ring_of(4);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *sa, *now;
	uint64_t next;

	(void)state;
	cfg.terms.life.soft_packets = 1;
	cfg.terms.life.hard_packets = 3;
	sa = sas_add(events.sad, &cfg);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 11 * S, ring),
				 XF_PASS);
		assert_int_equal(xf_event_take(ring, attend, events.sad), i == 1);
		xf_sa_count(&sa->out, 0, 1, 1, 11 * S);
		if (i)
			assert_int_equal(at(&events, 11 * S, &next), i == 1 ? SOFT : 0);
	}
	/* Raised limits are told anew; those that are passed already, at once. */
	cfg.terms.life.soft_packets = 2;
	cfg.terms.life.hard_packets = 4;
	assert_int_equal(sas_update(events.sad, &cfg, &now), 0);
	assert_int_equal(at(&events, 11 * S, &next), SOFT);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 11 * S, ring), XF_PASS);
	xf_sa_count(&sa->out, 0, 1, 1, 11 * S);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 11 * S, ring),
			 XF_DROP_OUT_STATE_EXPIRED);
	assert_true(xf_sad_has_expired(events.sad));
	/* Before it is taken, nothing happens. */
	assert_int_equal(at(&events, 11 * S, &next), 0);
	assert_int_equal(xf_event_take(ring, attend, events.sad), 1);
	assert_int_equal(at(&events, 11 * S, &next), HARD);
	assert_int_equal(next, UINT64_MAX);
	assert_int_equal(sas_count(events.sad), 0);
	assert_false(xf_sad_has_expired(events.sad));
	xf_event_ring_free(ring);
	xf_sad_free(events.sad);
}

/* One event in a ring of one, the others are lost: all that has happened is told, once. */
static void expire_what_a_full_ring_has_lost(void **state)
{
	struct xf_event_ring *ring = ring_of(1);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *sas[4];
	uint64_t next;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100 + i);

		cfg.terms.life.hard_packets = i == 1 ? XF_INF : 0;
		sas[i] = sas_add(events.sad, &cfg);
		xf_sa_check(sas[i], xf_sa_form(sas[i])->what, false, 1, ring);
	}
	assert_int_equal(xf_event_take(ring, attend, events.sad), 1);
	assert_int_equal(at(&events, 11 * S, &next), HARD * 100 + HARD * 10 + HARD);
	assert_int_equal(events.spi[0] + events.spi[1] + events.spi[2], 3 * 100 + 2 + 3);
	assert_int_equal(next, UINT64_MAX);
	assert_int_equal(at(&events, 11 * S, &next), 0);
	assert_int_equal(sas_count(events.sad), 1);
	xf_event_ring_free(ring);
	xf_sad_free(events.sad);
}

#define MANY 40000 /* more than two calls look at */

static void count(void *arg, struct xf_sa *sa, enum xf_sa_event event)
{
	unsigned *n = arg;

	(void)sa;
	*n += event == XF_SA_EVENT_HARD_EXPIRE;
}

/* All that have no packets left. */
static struct xf_sad *sad_of_many(struct xf_sa **sas)
{
	struct xf_sad *sad = sas_sad(0);

	for (unsigned i = 0; i < MANY; i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100 + i);

		cfg.terms.life.hard_packets = 0;
		sas[i] = sas_add(sad, &cfg);
	}
	return sad;
}

/* It reaches its limit, which is not told. */
static void lose(struct xf_sa *sa)
{
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 1, NULL),
			 XF_DROP_IN_STATE_EXPIRED);
}

/* A sweep takes its time, and meanwhile others go, and what is left moves together. */
static void expire_while_slots_move(void **state)
{
	static struct xf_sa *sas[MANY];
	struct xf_sad *sad = sad_of_many(sas);
	unsigned n = 0;

	(void)state;
	lose(sas[MANY - 1]);
	assert_int_equal(xf_sad_expire(sad, 1, count, &n), 1);
	for (unsigned i = 0; i < MANY * 4 / 5; i++)
		assert_int_equal(xf_sad_del(sad, sas[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		xf_sad_expire(sad, 1, count, &n);
	assert_int_equal(n, 1);
	assert_int_equal(xf_sad_expire(sad, 1, count, &n), UINT64_MAX);
	xf_sad_free(sad);
}

/* One is lost behind it each time: they are found later, and those in front no later for that. */
static void expire_what_is_lost_behind_a_sweep(void **state)
{
	static struct xf_sa *sas[MANY];
	struct xf_sad *sad = sad_of_many(sas);
	unsigned n = 0;

	(void)state;
	lose(sas[MANY - 1]);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(xf_sad_expire(sad, 1, count, &n), 1);
		assert_int_equal(n, i < 2 ? 0 : 1 + (i > 2) * 3);
		lose(sas[i]);
	}
	while (xf_sad_expire(sad, 1, count, &n) == 1)
		;
	assert_int_equal(n, 5);
	xf_sad_free(sad);
}

/* An SA that is taken out before the control thread looks is not told, and not lost. */
static void expire_of_one_that_is_gone(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *sa;
	uint64_t next;

	(void)state;
	cfg.terms.life.hard_packets = 0;
	sa = sas_add(events.sad, &cfg);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 1, NULL),
			 XF_DROP_IN_STATE_EXPIRED);
	assert_int_equal(xf_sad_del(events.sad, sa), 0);
	xf_rcu_drain();
	assert_int_equal(at(&events, 11 * S, &next), 0);
	cfg.terms.life.hard_packets = XF_INF;
	cfg.terms.life.soft_packets = 0;
	sa = sas_add(events.sad, &cfg);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 1, NULL), XF_PASS);
	assert_int_equal(xf_sad_del(events.sad, sa), 0);
	assert_int_equal(at(&events, 11 * S, &next), 0);
	/* And when nobody looks before the end. */
	cfg.terms.life.hard_packets = 0;
	sa = sas_add(events.sad, &cfg);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 1, NULL),
			 XF_DROP_IN_STATE_EXPIRED);
	xf_sad_free(events.sad);
}

/* New limits of time count from the old beginning, and soft expiry starts anew. */
static void expire_after_an_update(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa *now;
	uint64_t next;

	(void)state;
	cfg.terms.life.soft_add_s = 2;
	sas_add(events.sad, &cfg);
	assert_int_equal(at(&events, 12 * S, &next), SOFT);
	assert_int_equal(next, UINT64_MAX);
	cfg.terms.life.soft_add_s = 20;
	cfg.terms.life.hard_add_s = 30;
	assert_int_equal(sas_update(events.sad, &cfg, &now), 0);
	assert_int_equal(at(&events, 12 * S, &next), 0);
	assert_int_equal(next, 30 * S);
	assert_int_equal(at(&events, 30 * S, &next), SOFT);
	memset(&cfg.terms.life, 0xff, sizeof(cfg.terms.life));
	cfg.terms.life.soft_use_s = 0;
	assert_int_equal(sas_update(events.sad, &cfg, &now), 0);
	assert_int_equal(at(&events, 1000 * S, &next), 0);
	assert_int_equal(next, UINT64_MAX);
	xf_sad_free(events.sad);
}

/* Times from before this machine was started have run out, whatever the clock says. */
static void expire_with_times_of_netlink(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct events events = { .sad = sas_sad(0) };
	const struct xf_lifetime_now long_ago = { .add_s = 1000 };
	const struct xf_lifetime_now just_now = { .add_s = SAS_REAL_OFFSET_S + 3 };
	struct xf_sa *sa;
	uint64_t next;

	(void)state;
	cfg.terms.life.hard_add_s = 100;
	sa = sas_new(events.sad, &cfg, 10 * S);
	xf_sa_set_lifetime_now(sa, &long_ago);
	assert_int_equal(xf_sad_add(events.sad, sa, NULL), 0);
	assert_int_equal(at(&events, 10 * S, &next), HARD);
	sa = sas_new(events.sad, &cfg, 10 * S);
	xf_sa_set_lifetime_now(sa, &just_now);
	assert_int_equal(xf_sad_add(events.sad, sa, NULL), 0);
	assert_int_equal(at(&events, 10 * S, &next), 0);
	assert_int_equal(next, 103 * S);
	xf_sad_free(events.sad);
}

/* Times of our own, and those that netlink set by the clock as it was then. */
static void steps_of_the_clock_move_no_limit(void **state)
{
	static const int64_t steps_s[] = { 3600, -7200, 3600, 1000000, -1700000000 };
	struct xf_lifetime_now told = { .add_s = SAS_REAL_OFFSET_S - 3600 + 15 };
	struct events events = { .sad = sas_sad(0) };
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	int64_t offset_ns = (int64_t)(SAS_REAL_OFFSET_S * S);
	struct xf_sa *sa;
	uint64_t next;

	(void)state;
	cfg.terms.life.hard_add_s = 100;
	sas_add(events.sad, &cfg); /* at 10 s */
	for (unsigned i = 0; i < XF_ARRAY_SIZE(steps_s); i++) {
		offset_ns += steps_s[i] * (int64_t)S;
		xf_sad_step_clock(events.sad, (11 + i) * S, offset_ns);
		assert_int_equal(at(&events, (11 + i) * S, &next), 0);
		assert_int_equal(next, 110 * S);
		if (i == 1) {
			cfg.id.spi = 101;
			sa = sas_new(events.sad, &cfg, 12 * S);
			xf_sa_set_lifetime_now(sa, &told);
			assert_int_equal(xf_sad_add(events.sad, sa, NULL), 0);
		}
	}
	assert_int_equal(at(&events, 110 * S - 1, &next), 0);
	assert_int_equal(at(&events, 110 * S, &next), HARD);
	assert_int_equal(next, 115 * S);
	assert_int_equal(at(&events, 115 * S - 1, &next), 0);
	assert_int_equal(at(&events, 115 * S, &next), HARD);
	xf_sad_free(events.sad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expire_after_adding),
		cmocka_unit_test(expire_after_use),
		cmocka_unit_test(expire_larval),
		cmocka_unit_test(expire_by_traffic),
		cmocka_unit_test(expire_what_a_full_ring_has_lost),
		cmocka_unit_test(expire_while_slots_move),
		cmocka_unit_test(expire_what_is_lost_behind_a_sweep),
		cmocka_unit_test(expire_of_one_that_is_gone),
		cmocka_unit_test(expire_after_an_update),
		cmocka_unit_test(expire_with_times_of_netlink),
		cmocka_unit_test(steps_of_the_clock_move_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
