/*
 * What an SA counts, as values: all of it comes back, and what no SA can have counted is refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/freeze.h>

#include <sad/use.h>

#include "sas.h"

#define S XF_NSEC_PER_SEC

/* An SA's values, and room to spoil them. */
struct saved {
	struct xf_sa_live_field table[XF_SA_LIVE_FIELDS + 1];
	uint8_t values[4 * XF_SA_LIVE_BYTES];
	uint8_t window[XF_REPLAY_SAVED_MAX];
	struct xf_sa_live live;
};

static void save(struct xf_sa *sa, struct saved *out)
{
	memset(out, 0, sizeof(*out));
	xf_sa_live_save(sa, out->table, out->values);
	out->live = (struct xf_sa_live){
		.table = out->table,
		.values = out->values,
		.window = out->window,
		.nfields = XF_SA_LIVE_FIELDS,
		.values_len = XF_SA_LIVE_BYTES,
		.window_len = xf_sa_window_save(sa, out->window),
	};
}

static int load(struct xf_sa *sa, const struct saved *saved)
{
	const char *why = NULL;
	int err = xf_sa_live_load(sa, &saved->live, &why);

	assert_int_equal(err == 0, why == NULL);
	return err;
}

static struct xf_sa *fresh(struct xf_sad *sad, const struct xf_sa_config *cfg)
{
	return sas_new_as(sad, cfg, XF_SA_FROZEN, 77 * S);
}

static struct xf_sa_config config(void)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);

	cfg.flags = XF_SA_ESN;
	cfg.terms.replay_esn_attr = true;
	cfg.terms.replay_window = 200;
	return cfg;
}

/* In the table, and used in every way; no two numbers are the same. */
static struct xf_sa *used_up(struct xf_sad *sad)
{
	const struct xf_sa_config cfg = config();
	struct xf_sa *sa = sas_add(sad, &cfg);
	uint64_t seq;

	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 11 * S, NULL), XF_PASS);
	atomic_store(&sa->seq_offset, 1ull << 33);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(sas_take_seq(sa, &seq), XF_PASS);
	for (uint64_t i = 0; i < 7; i++)
		assert_int_equal(sas_commit(sa, (1ull << 32) - 20 + 5 * i), XF_PASS);
	assert_int_equal(xf_sa_replay_check(sa, (1ull << 32) - 20), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_sa_replay_check(sa, 3), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_sa_replay_check(sa, 4), XF_DROP_IN_STATE_SEQ);
	atomic_fetch_add(&sa->stat_integrity, 3);
	xf_sa_count(&sa->out, 0, 11, 1300, 12 * S);
	xf_sa_count(&sa->in, 0, 17, 1900, 13 * S);
	for (unsigned i = 0; i < 9; i++)
		xf_sa_count_drop(sa, XF_DROP_IN_STATE_SEQ + i % 6);
	xf_sa_set_route_mtu(sa, 1500);
	xf_sa_learn_mtu(sa, 1400, 600 * S);
	atomic_store(&sa->dying, true);
	return sa;
}

static void compare(struct xf_sa *was, struct xf_sa *is)
{
	struct xf_lifetime_now life[2];
	struct xf_sa_replay_state replay[2];
	struct xf_sa_stats stats[2];
	struct xf_sa *sas[2] = { was, is };

	memset(stats, 0, sizeof(stats)); /* padding included */
	for (unsigned i = 0; i < 2; i++) {
		xf_sa_lifetime_now(sas[i], &life[i]);
		xf_sa_get_replay_state(sas[i], &replay[i]);
		xf_sa_get_stats(sas[i], &stats[i]);
	}
	assert_memory_equal(&life[0], &life[1], sizeof(life[0]));
	assert_memory_equal(&replay[0], &replay[1], sizeof(replay[0]));
	assert_memory_equal(&stats[0], &stats[1], sizeof(stats[0]));
	assert_int_equal(xf_sa_last_used_s(was), xf_sa_last_used_s(is));
	assert_int_equal(xf_sa_path_mtu(was, 599 * S), xf_sa_path_mtu(is, 599 * S));
	assert_int_equal(xf_sa_path_mtu(was, 600 * S), xf_sa_path_mtu(is, 600 * S));
	assert_int_equal(atomic_load(&was->begun), atomic_load(&is->begun));
	assert_int_equal(atomic_load(&was->dying), atomic_load(&is->dying));
	assert_memory_equal(&was->in, &is->in, sizeof(was->in));
	assert_memory_equal(&was->out, &is->out, sizeof(was->out));
}

static struct xf_sa *into(struct xf_sad *sad, const struct saved *saved)
{
	const struct xf_sa_config cfg = config();
	struct xf_sa *sa = fresh(sad, &cfg);
	const char *why;

	assert_int_equal(load(sa, saved), 0);
	assert_int_equal(xf_sad_restore(sad, sa, 1, &why), 0);
	return sa;
}

static void all_of_it_comes_back(void **state)
{
	struct xf_sad *from = sas_sad(0), *to = sas_sad(0);
	struct xf_sa *was = used_up(from), *is;
	static struct saved saved;

	(void)state;
	save(was, &saved);
	is = into(to, &saved);
	compare(was, is);
	assert_int_equal(xf_sa_get_state(is), XF_SA_FROZEN);
	/* What comes next has the next number, and is the next whose turn it is. */
	assert_true(is->turn.now == 5);
	xf_sad_free(from);
	xf_sad_free(to);
}

/* Another version's table: in another order, and with other things between. */
static void wherever_the_table_says(void **state)
{
	struct xf_sad *from = sas_sad(0), *to = sas_sad(0);
	struct xf_sa *was = used_up(from);
	static struct saved saved, other;

	(void)state;
	save(was, &saved);
	other = saved;
	memset(other.values, 0xee, sizeof(other.values));
	for (uint32_t i = 0, at = 3; i < XF_SA_LIVE_FIELDS; i++) {
		const struct xf_sa_live_field *field = &saved.table[XF_SA_LIVE_FIELDS - 1 - i];

		memcpy(other.values + at, saved.values + field->offset, field->size);
		other.table[i] = (struct xf_sa_live_field){ field->field, field->size, at };
		at += field->size + i % 3;
	}
	other.live.table = other.table;
	other.live.values = other.values;
	other.live.values_len = sizeof(other.values);
	compare(was, into(to, &other));
	xf_sad_free(from);
	xf_sad_free(to);
}

static struct xf_sa_live_field *field_of(struct saved *saved, uint16_t number)
{
	for (unsigned i = 0; i < XF_SA_LIVE_FIELDS; i++)
		if (saved->table[i].field == number)
			return &saved->table[i];
	fail();
	return NULL;
}

static void poke(struct saved *saved, uint16_t number, unsigned at, uint64_t value)
{
	const struct xf_sa_live_field *field = field_of(saved, number);

	memcpy(saved->values + field->offset + at, &value,
	       field->size < sizeof(value) ? field->size : sizeof(value));
}

static void bad_table(struct saved *s, unsigned way)
{
	switch (way) {
	case 0:
		s->live.nfields--;
		break;
	case 1:
		s->table[XF_SA_LIVE_FIELDS] = s->table[0];
		s->live.nfields++;
		break;
	case 2:
		s->table[3].field = 999;
		break;
	case 3:
		s->table[3] = s->table[4];
		break;
	case 4:
		s->table[5].size--;
		break;
	case 5:
		field_of(s, XF_SA_LIVE_DYING)->offset = XF_SA_LIVE_BYTES;
		break;
	case 6:
		field_of(s, XF_SA_LIVE_BEGUN)->offset = UINT32_MAX - 3;
		break;
	default:
		s->live.values_len = field_of(s, XF_SA_LIVE_DYING)->offset;
	}
}

static void bad_value(struct saved *s, unsigned way)
{
	switch (way) {
	case 0:
		poke(s, XF_SA_LIVE_USED, 0, 1ull << 62);
		break;
	case 1:
		poke(s, XF_SA_LIVE_ADDED, 0, XF_SA_WALL | 1ull << 61);
		break;
	case 2:
		poke(s, XF_SA_LIVE_OUT, 16, 1ull << 62);
		break;
	case 3:
		poke(s, XF_SA_LIVE_IN, 16, UINT64_MAX);
		break;
	case 4:
		poke(s, XF_SA_LIVE_DYING, 0, 2);
		break;
	case 5:
		poke(s, XF_SA_LIVE_TALLIES, 24, (uint64_t)XF_DROP_MAX << XF_SA_TALLY_SHIFT | 1);
		break;
	default:
		s->live.window_len--;
	}
}

static void what_cannot_be_is_refused(void **state)
{
	const struct xf_sa_config cfg = config();
	struct xf_sad *from = sas_sad(0);
	struct xf_sa *was = used_up(from);
	static struct saved saved;

	(void)state;
	for (unsigned way = 0; way < 15; way++) {
		struct xf_sa *sa = fresh(from, &cfg);

		save(was, &saved);
		if (way < 8)
			bad_table(&saved, way);
		else
			bad_value(&saved, way - 8);
		assert_int_equal(load(sa, &saved), -EINVAL);
		assert_int_equal(atomic_load(&sa->begun), 0);
		xf_sa_put(sa);
	}
	xf_sad_free(from);
}

/* A version with other reasons: how many is known, why is not. */
static void of_other_reasons_the_number_is_kept(void **state)
{
	struct xf_sad *from = sas_sad(0), *to = sas_sad(0);
	struct xf_sa *was = used_up(from);
	struct xf_sa_stats stats;
	static struct saved saved;

	(void)state;
	save(was, &saved);
	poke(&saved, XF_SA_LIVE_REASONS, 0, XF_DROP_MAX + 1);
	poke(&saved, XF_SA_LIVE_TALLIES, 0, (uint64_t)XF_DROP_MAX << XF_SA_TALLY_SHIFT | 2);
	xf_sa_get_stats(into(to, &saved), &stats);
	for (unsigned i = 0; i < XF_DROP_MAX; i++)
		assert_int_equal(stats.drops[i], 0);
	assert_int_equal(stats.other_drops, 9);
	xf_sad_free(from);
	xf_sad_free(to);
}

/* A path MTU that no path has is what the least path has. */
static void mtus_are_kept_in_bounds(void **state)
{
	struct xf_sad *from = sas_sad(0), *to = sas_sad(0);
	struct xf_sa *was = used_up(from), *is;
	static struct saved saved;

	(void)state;
	save(was, &saved);
	poke(&saved, XF_SA_LIVE_ROUTE_MTU, 0, 100);
	poke(&saved, XF_SA_LIVE_LEARNED_MTU, 0, 1);
	is = into(to, &saved);
	assert_int_equal(xf_sa_path_mtu(is, 599 * S), 552);
	assert_int_equal(xf_sa_path_mtu(is, 600 * S), 552);
	xf_sad_free(from);
	xf_sad_free(to);
}

/* Met by a worker, not told yet: whoever goes on meets it again. */
static void a_soft_limit_not_told_is_still_to_be_met(void **state)
{
	struct xf_sa_config cfg = config();
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa, *is = fresh(sad, &cfg);
	static struct saved saved;

	(void)state;
	cfg.terms.life.soft_packets = 1;
	sa = sas_add(sad, &cfg);
	xf_sa_count(&sa->out, 0, 1, 100, 11 * S);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 11 * S, NULL), XF_PASS);
	assert_true(atomic_load(&sa->dying));
	assert_int_equal(xf_sad_freeze(sad, &sa, 1), 1);
	save(sa, &saved);
	assert_int_equal(load(is, &saved), 0);
	assert_false(atomic_load(&is->dying));
	xf_sa_put(is);
	xf_sad_free(sad);
}

/*
 * Times that netlink has set, on a clock that was stepped before or after, or never: limits run on.
 * One that no step has touched shows what it showed, to the second.
 */
static void limits_run_on_elsewhere(void **state)
{
	const int64_t ahead = (int64_t)(SAS_REAL_OFFSET_S * S);

	(void)state;
	for (unsigned way = 0; way < 8; way++) {
		const struct xf_sa_config cfg = config();
		struct xf_lifetime_now life = { .add_s = SAS_REAL_OFFSET_S + (way & 4 ? 6 : 0) };
		struct xf_sad *from = sas_sad(0), *to = sas_sad(0);
		int64_t step = way & 1 ? 100 : 0, late_step = way & 2 ? 1000 : 0;
		struct xf_sa *was = sas_add(from, &cfg), *is;
		static struct saved saved;
		struct xf_lifetime_now shown;
		int64_t was_ns, is_ns;

		life.add_s = life.add_s + (uint64_t)step - (way & 4 ? 0 : 30);
		life.use_s = life.add_s + 3;
		xf_sad_step_clock(from, 5 * S, ahead + step * (int64_t)S);
		xf_sa_set_lifetime_now(was, &life);
		xf_sad_step_clock(from, 9 * S, ahead + (step + late_step) * (int64_t)S);
		xf_sad_step_clock(to, 9 * S, ahead + (step + late_step) * (int64_t)S + 5);
		save(was, &saved);
		is = into(to, &saved);
		assert_in_range(xf_sa_added_ns(was) - xf_sa_added_ns(is) + 10, 0, 20);
		assert_true(xf_sa_used_ns(was, &was_ns));
		assert_true(xf_sa_used_ns(is, &is_ns));
		assert_in_range(was_ns - is_ns + 10, 0, 20);
		xf_sa_lifetime_now(is, &shown);
		if (!late_step) {
			assert_int_equal(shown.add_s, life.add_s);
			assert_int_equal(shown.use_s, life.use_s);
		}
		xf_sad_free(from);
		xf_sad_free(to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_comes_back),
		cmocka_unit_test(wherever_the_table_says),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(of_other_reasons_the_number_is_kept),
		cmocka_unit_test(mtus_are_kept_in_bounds),
		cmocka_unit_test(a_soft_limit_not_told_is_still_to_be_met),
		cmocka_unit_test(limits_run_on_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
