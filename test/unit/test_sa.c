/*
 * One SA: sequence numbers at their ends, limits, the window behind it, references.
 */
#include <pthread.h>
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

/* What SAs that are in no table are made for. */
static struct xf_sad *tableless;

static int make_sad(void **state)
{
	(void)state;
	tableless = sas_sad(0);
	return 0;
}

static int free_sad(void **state)
{
	(void)state;
	xf_sad_free(tableless);
	return 0;
}

static struct xf_sa *sa_of(const struct xf_sa_config *cfg)
{
	return sas_new(tableless, cfg, 10 * S);
}

static void drop_sa(struct xf_sa *sa)
{
	xf_sa_put(sa);
	xf_rcu_drain();
}

static void set_seq_out(struct xf_sa *sa, uint64_t seq)
{
	const struct xf_sa_replay_state state = { .seq_out = seq };

	xf_sa_set_replay_state(sa, &state);
}

struct seq_case {
	uint8_t flags;
	uint32_t extra_flags;
	uint64_t last;
	enum xf_drop drop;
	uint64_t seq;
};

static void sequence_numbers_end(void **state)
{
	static const struct seq_case cases[] = {
		{ 0, 0, 0, XF_PASS, 1 },
		{ 0, 0, 0xfffffffe, XF_PASS, 0xffffffff },
		{ 0, 0, 0xffffffff, XF_DROP_OUT_STATE_SEQ, 0 },
		{ 0, XF_SA_OSEQ_MAY_WRAP, 0xffffffff, XF_PASS, 0 },
		{ 0, XF_SA_OSEQ_MAY_WRAP, 1ull << 32, XF_PASS, 1 },
		{ XF_SA_ESN, 0, 0xffffffff, XF_PASS, 1ull << 32 },
		{ XF_SA_ESN, 0, UINT64_MAX - 1, XF_PASS, UINT64_MAX },
		{ XF_SA_ESN, 0, UINT64_MAX, XF_DROP_OUT_STATE_SEQ, 0 },
		{ XF_SA_ESN, XF_SA_OSEQ_MAY_WRAP, UINT64_MAX, XF_DROP_OUT_STATE_SEQ, 0 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100);
		uint64_t seq = 0;
		struct xf_sa *sa;

		cfg.flags = cases[i].flags;
		cfg.terms.extra_flags = cases[i].extra_flags;
		sa = sa_of(&cfg);
		set_seq_out(sa, cases[i].last);
		assert_int_equal(sas_take_seq(sa, &seq), cases[i].drop);
		assert_int_equal(seq, cases[i].seq);
		drop_sa(sa);
	}
}

/* What a dump shows after the wrap is what the wire carried. */
static void wrapped_number_is_shown_in_32_bits(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa_replay_state replay;
	struct xf_sa *sa;
	uint64_t seq;

	(void)state;
	cfg.terms.extra_flags = XF_SA_OSEQ_MAY_WRAP;
	sa = sa_of(&cfg);
	set_seq_out(sa, 0xffffffff);
	assert_int_equal(sas_take_seq(sa, &seq), XF_PASS);
	assert_int_equal(sas_take_seq(sa, &seq), XF_PASS);
	xf_sa_get_replay_state(sa, &replay);
	assert_int_equal(replay.seq_out, 1);
	drop_sa(sa);
}

#define TAKERS 4
#define LEFT 40000

struct taker {
	pthread_t thread;
	struct xf_sa *sa;
	uint64_t first; /* of those left */
	_Atomic uint8_t *taken;
	unsigned count;
	unsigned bad;
};

static void *take_all(void *arg)
{
	struct taker *taker = arg;
	unsigned refused = 0;
	uint64_t seq, last = 0;

	while (refused < 100) {
		if (sas_take_seq(taker->sa, &seq) != XF_PASS) {
			refused++;
			continue;
		}
		taker->count++;
		if (refused || seq <= last || seq - taker->first >= LEFT ||
		    atomic_fetch_add(&taker->taken[seq - taker->first], 1))
			taker->bad++;
		last = seq;
	}
	return NULL;
}

static void many_take(uint8_t flags, uint64_t limit)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct taker takers[TAKERS];
	_Atomic uint8_t *taken = calloc(LEFT, 1);
	unsigned count = 0;
	struct xf_sa *sa;

	cfg.flags = flags;
	sa = sa_of(&cfg);
	set_seq_out(sa, limit - LEFT);
	for (unsigned i = 0; i < TAKERS; i++) {
		takers[i] = (struct taker){ .sa = sa, .first = limit - LEFT + 1, .taken = taken };
		assert_int_equal(pthread_create(&takers[i].thread, NULL, take_all, &takers[i]), 0);
	}
	for (unsigned i = 0; i < TAKERS; i++) {
		pthread_join(takers[i].thread, NULL);
		assert_int_equal(takers[i].bad, 0);
		count += takers[i].count;
	}
	assert_int_equal(count, LEFT);
	free((void *)taken);
	drop_sa(sa);
}

static void no_number_twice_or_above_the_limit(void **state)
{
	(void)state;
	many_take(0, UINT32_MAX);
	many_take(XF_SA_ESN, UINT64_MAX);
}

struct state_case {
	enum xf_sa_state state;
	uint8_t dir;
	bool out;
	enum xf_drop drop;
};

static void state_and_direction(void **state)
{
	static const struct state_case cases[] = {
		{ XF_SA_VALID, XF_SA_DIR_ANY, true, XF_PASS },
		{ XF_SA_VALID, XF_SA_DIR_ANY, false, XF_PASS },
		{ XF_SA_VALID, XF_SA_DIR_OUT, true, XF_PASS },
		{ XF_SA_VALID, XF_SA_DIR_IN, false, XF_PASS },
		{ XF_SA_VALID, XF_SA_DIR_IN, true, XF_DROP_OUT_STATE_DIR },
		{ XF_SA_VALID, XF_SA_DIR_OUT, false, XF_DROP_IN_STATE_DIR },
		{ XF_SA_ACQ, XF_SA_DIR_ANY, true, XF_DROP_OUT_STATE_INVALID },
		{ XF_SA_ACQ, XF_SA_DIR_ANY, false, XF_DROP_ACQUIRE_ERROR },
		{ XF_SA_DEAD, XF_SA_DIR_ANY, true, XF_DROP_OUT_STATE_INVALID },
		{ XF_SA_EXPIRED, XF_SA_DIR_ANY, false, XF_DROP_IN_STATE_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_sa_config cfg = sas_config(1, 2, 100);
		struct xf_sa *sa;

		cfg.dir = cases[i].dir;
		sa = sas_new_as(tableless, &cfg, cases[i].state, 1);
		assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, cases[i].out, 5, NULL),
				 cases[i].drop);
		drop_sa(sa);
	}
}

/* Limits count what has passed before: the packet that reaches one passes, the next does not. */
static void limits_of_packets(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa;

	(void)state;
	cfg.terms.life.soft_packets = 2;
	cfg.terms.life.hard_packets = 4;
	sa = sa_of(&cfg);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 5, NULL), XF_PASS);
		assert_int_equal(atomic_load(&sa->attention), i < 2 ? 0 : XF_SA_SOFT_HIT);
		assert_int_equal(atomic_load(&sa->dying), i >= 2);
		xf_sa_count(&sa->out, 0, 1, 1000, 5);
	}
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 5, NULL),
			 XF_DROP_OUT_STATE_EXPIRED);
	assert_int_equal(atomic_load(&sa->attention), XF_SA_SOFT_HIT | XF_SA_HARD_HIT);
	assert_int_equal(xf_sa_get_state(sa), XF_SA_EXPIRED);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 5, NULL),
			 XF_DROP_OUT_STATE_INVALID);
	drop_sa(sa);
}

static void limits_of_bytes(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa;

	(void)state;
	cfg.terms.life.soft_bytes = 1001;
	cfg.terms.life.hard_bytes = 2000;
	sa = sa_of(&cfg);
	xf_sa_count(&sa->out, 0, 1, 1000, 5);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 5, NULL), XF_PASS);
	assert_int_equal(atomic_load(&sa->attention), 0);
	xf_sa_count(&sa->out, 0, 1, 1, 5);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 5, NULL), XF_PASS);
	assert_int_equal(atomic_exchange(&sa->attention, 0), XF_SA_SOFT_HIT);
	xf_sa_count(&sa->out, 0, 1, 998, 5);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 5, NULL), XF_PASS);
	assert_int_equal(atomic_load(&sa->attention), 0);
	xf_sa_count(&sa->out, 0, 1, 1, 5);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, false, 5, NULL),
			 XF_DROP_IN_STATE_EXPIRED);
	drop_sa(sa);
}

static void times_of_use(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa = sas_new(sad, &cfg, 10 * S);
	struct xf_lifetime_now now;

	(void)state;
	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.add_s, SAS_REAL_OFFSET_S + 10);
	assert_int_equal(now.use_s, 0);
	assert_int_equal(xf_sa_last_used_s(sa), 0);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 12 * S, NULL), XF_PASS);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 15 * S, NULL), XF_PASS);
	xf_sa_count(&sa->out, 0, 1, 77, 15 * S);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.use_s, SAS_REAL_OFFSET_S + 12);
	assert_int_equal(now.bytes, 77);
	assert_int_equal(now.packets, 1);
	assert_int_equal(xf_sa_last_used_s(sa), SAS_REAL_OFFSET_S + 15);
	now.use_s = 0;
	xf_sa_set_lifetime_now(sa, &now);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.use_s, 0);
	xf_sad_free(sad);
}

/* Somebody sets the clock: what has happened keeps its time, as in the kernel. */
static void times_after_steps_of_the_clock(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = sas_sad(0);
	struct xf_sa *sa = sas_new(sad, &cfg, 10 * S);
	struct xf_lifetime_now now;

	(void)state;
	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
	xf_sad_step_clock(sad, 11 * S, (SAS_REAL_OFFSET_S + 3600) * S + S / 2);
	assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 12 * S + S / 2, NULL),
			 XF_PASS);
	xf_sa_count(&sa->out, 0, 1, 77, 12 * S + S / 2);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.add_s, SAS_REAL_OFFSET_S + 10);
	assert_int_equal(now.use_s, SAS_REAL_OFFSET_S + 3600 + 13);
	assert_int_equal(xf_sa_last_used_s(sa), SAS_REAL_OFFSET_S + 3600 + 13);
	xf_sad_step_clock(sad, 14 * S, (SAS_REAL_OFFSET_S - 3600) * S);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.add_s, SAS_REAL_OFFSET_S + 10);
	assert_int_equal(now.use_s, SAS_REAL_OFFSET_S + 3600 + 13);
	assert_int_equal(xf_sa_last_used_s(sa), SAS_REAL_OFFSET_S + 3600 + 13);
	xf_sa_count(&sa->out, 0, 1, 77, 15 * S);
	assert_int_equal(xf_sa_last_used_s(sa), SAS_REAL_OFFSET_S - 3600 + 15);
	now.add_s = 1000;
	now.use_s = 2000;
	xf_sa_set_lifetime_now(sa, &now);
	xf_sad_step_clock(sad, 16 * S, SAS_REAL_OFFSET_S * S);
	xf_sa_lifetime_now(sa, &now);
	assert_int_equal(now.add_s, 1000);
	assert_int_equal(now.use_s, 2000);
	xf_sad_free(sad);
}

/* XFRMA_LTIME_VAL before the SA is in a SAD, also with times before this machine was started. */
static void times_set_by_netlink(void **state)
{
	static const struct xf_lifetime_now cases[] = {
		{ .bytes = 5, .packets = 6, .add_s = SAS_REAL_OFFSET_S + 4, .use_s = 0 },
		{ .bytes = 5, .packets = 6, .add_s = 1000, .use_s = 2000 },
		{ .bytes = 0, .packets = 0, .add_s = 0, .use_s = 1 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		const struct xf_sa_config cfg = sas_config(1, 2, 100);
		struct xf_sad *sad = sas_sad(0);
		struct xf_sa *sa = sas_new(sad, &cfg, 10 * S);
		struct xf_lifetime_now now, want = cases[i];

		xf_sa_set_lifetime_now(sa, &want);
		assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
		xf_sa_lifetime_now(sa, &now);
		assert_memory_equal(&now, &want, sizeof(now));
		/* A packet is the first one where none was said to be. */
		assert_int_equal(xf_sa_check(sa, xf_sa_form(sa)->what, true, 15 * S, NULL),
				 XF_PASS);
		xf_sa_lifetime_now(sa, &now);
		if (!want.use_s)
			want.use_s = SAS_REAL_OFFSET_S + 15;
		assert_memory_equal(&now, &want, sizeof(now));
		xf_sad_free(sad);
	}
}

static void replay_statistics(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa = sa_of(&cfg);
	struct xf_sa_stats stats;

	(void)state;
	assert_int_equal(sas_commit(sa, 100), XF_PASS);
	assert_int_equal(xf_sa_replay_check(sa, 69), XF_PASS);
	assert_int_equal(xf_sa_replay_check(sa, 68), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(sas_commit(sa, 67), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_sa_replay_check(sa, 100), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_sa_replay_check(sa, 0), XF_DROP_IN_STATE_SEQ);
	xf_sa_get_stats(sa, &stats);
	assert_int_equal(stats.replay_window, 2);
	assert_int_equal(stats.replay, 1);
	drop_sa(sa);
}

static void *drop_many(void *arg)
{
	struct xf_sa *sa = arg;

	for (unsigned i = 0; i < 30000; i++)
		xf_sa_count_drop(sa, (enum xf_drop)(XF_DROP_IN_ERROR + i % 3));
	return NULL;
}

/* However many workers see a reason first, all of its drops are counted under it. */
static void drops_are_counted_by_reason(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa = sa_of(&cfg);
	struct xf_sa_stats stats;
	pthread_t threads[4];

	(void)state;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drop_many, sa), 0);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	xf_sa_count_drop(sa, XF_DROP_ICMP_IGNORED);
	xf_sa_get_stats(sa, &stats);
	for (unsigned i = 0; i < XF_DROP_MAX; i++) {
		bool many = i >= XF_DROP_IN_ERROR && i < XF_DROP_IN_ERROR + 3;

		assert_int_equal(stats.drops[i], many ? 40000 : i == XF_DROP_ICMP_IGNORED);
	}
	assert_int_equal(stats.other_drops, 0);
	/* There is room for four reasons. */
	xf_sa_count_drop(sa, XF_DROP_OUT_ERROR);
	xf_sa_count_drop(sa, XF_DROP_OUT_ERROR);
	xf_sa_count_drop(sa, XF_DROP_ICMP_IGNORED);
	xf_sa_get_stats(sa, &stats);
	assert_int_equal(stats.drops[XF_DROP_ICMP_IGNORED], 2);
	assert_int_equal(stats.other_drops, 2);
	drop_sa(sa);
}

/* usersa_info has a window of up to 255, and the kernel's bitmap 32 bits. */
static void window_without_the_attribute_is_32(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa;

	(void)state;
	cfg.terms.replay_window = 255;
	sa = sa_of(&cfg);
	assert_int_equal(sas_commit(sa, 100), XF_PASS);
	assert_int_equal(xf_sa_replay_check(sa, 69), XF_PASS);
	assert_int_equal(xf_sa_replay_check(sa, 68), XF_DROP_IN_STATE_SEQ);
	drop_sa(sa);
}

static void replay_state_of_both_forms(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa_replay_state got, set = { .seq_out = 9, .seq_in = 1000, .bitmap = 0x80000001 };
	struct xf_sa *sa = sa_of(&cfg);

	(void)state;
	xf_sa_set_replay_state(sa, &set);
	xf_sa_get_replay_state(sa, &got);
	assert_memory_equal(&got, &set, sizeof(got));
	drop_sa(sa);

	cfg.terms.replay_esn_attr = true;
	cfg.terms.replay_window = 128;
	cfg.flags = XF_SA_ESN;
	set = (struct xf_sa_replay_state){ .seq_out = (3ull << 32) + 5,
					   .seq_in = (2ull << 32) + 1,
					   .nwords = 4,
					   .bmp = { 1, 0, 0, 0x80000000 } };
	sa = sa_of(&cfg);
	xf_sa_set_replay_state(sa, &set);
	xf_sa_get_replay_state(sa, &got);
	assert_memory_equal(&got, &set, sizeof(got));
	assert_int_equal(xf_sa_infer_seq(sa, 0xffffffff), (1ull << 32) + 0xffffffff);
	assert_int_equal(xf_sa_replay_check(sa, 2ull << 32), XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_sa_replay_check(sa, (2ull << 32) - 1), XF_PASS);
	drop_sa(sa);
}

static void path_mtu_has_a_floor_and_an_end(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa = sa_of(&cfg);

	(void)state;
	assert_int_equal(xf_sa_path_mtu(sa, 0), 0);
	xf_sa_learn_mtu(sa, 1400, 20 * S);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S - 1), 1400);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S), 0);
	xf_sa_set_route_mtu(sa, 1500);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 1500);
	xf_sa_learn_mtu(sa, 68, 20 * S);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S - 1), 552);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S), 1500);
	xf_sa_set_route_mtu(sa, 1500);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 552);
	xf_sa_set_route_mtu(sa, 1300);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 1300);
	xf_sa_learn_mtu(sa, 1400, 20 * S);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 1300);
	/* A loopback device has 65,536 and a router may say anything: no packet is longer. */
	xf_sa_set_route_mtu(sa, 65536);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 65535);
	xf_sa_learn_mtu(sa, 70000, 19 * S + 1);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S - 1), 65535);
	xf_sa_learn_mtu(sa, 1400, 19 * S + 1);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S - 1), 1400);
	assert_int_equal(xf_sa_path_mtu(sa, 20 * S), 65535);
	drop_sa(sa);
	cfg.id.family = XF_AF_INET6;
	sa = sa_of(&cfg);
	xf_sa_learn_mtu(sa, 0, 20 * S);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 1280);
	xf_sa_set_route_mtu(sa, 68);
	assert_int_equal(xf_sa_path_mtu(sa, 0), 1280);
	drop_sa(sa);
}

static void reconfigured(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *sa = sa_of(&cfg);
	const struct xf_sa_view *old = xf_sa_cfg(sa);

	(void)state;
	cfg.terms.mark = (struct xf_mark){ .v = 0xffff, .m = 0x0f };
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_int_equal(xf_sa_cfg(sa)->terms->mark.v, 0x0f);
	/* A reader may still have it: ASan tells if it is gone before the grace period. */
	assert_int_equal(old->terms->mark.v, 0);
	drop_sa(sa);
}

static void equal_terms_are_kept_once(void **state)
{
	struct xf_sa_config cfg = sas_config(1, 2, 100), other = sas_config(3, 4, 200);
	struct xf_sa *a = sas_new(tableless, &cfg, 1), *b = sas_new(tableless, &other, 1), *c;
	const size_t before = tableless->terms.count;

	(void)state;
	assert_ptr_equal(xf_sa_cfg(a)->terms, xf_sa_cfg(b)->terms);
	other.terms.pcpu = 3;
	c = sas_new(tableless, &other, 1);
	assert_ptr_not_equal(xf_sa_cfg(a)->terms, xf_sa_cfg(c)->terms);
	assert_int_equal(tableless->terms.count, before + 1);
	/* An update is one SA's alone. */
	cfg.terms.tfc_pad = 900;
	assert_int_equal(xf_sa_reconfigure(a, &cfg), 0);
	assert_int_equal(xf_sa_cfg(a)->terms->tfc_pad, 900);
	assert_int_equal(xf_sa_cfg(b)->terms->tfc_pad, 0);
	assert_int_equal(tableless->terms.count, before + 2);
	xf_sa_copy_cfg(c, &cfg);
	assert_int_equal(xf_sa_reconfigure(a, &cfg), 0);
	assert_ptr_equal(xf_sa_cfg(a)->terms, xf_sa_cfg(c)->terms);
	xf_rcu_drain();
	assert_int_equal(tableless->terms.count, before + 1);
	drop_sa(c);
	assert_int_equal(xf_sa_cfg(a)->terms->pcpu, 3);
	assert_int_equal(tableless->terms.count, before + 1);
	drop_sa(a);
	assert_int_equal(tableless->terms.count, before);
	drop_sa(b);
	assert_int_equal(tableless->terms.count, before - 1);
}

/* Equal terms of two SADs are two, and go with their own. */
static void terms_are_a_sads_own(void **state)
{
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	const size_t before = tableless->terms.count;
	struct xf_sad *other = sas_sad(0);
	struct xf_sa *here = sa_of(&cfg), *there = sas_new(other, &cfg, 1);

	(void)state;
	assert_memory_equal(other->terms.seed, other->cfg.seed, sizeof(other->cfg.seed));
	assert_ptr_not_equal(xf_sa_cfg(here)->terms, xf_sa_cfg(there)->terms);
	assert_int_equal(tableless->terms.count, before + 1);
	assert_int_equal(other->terms.count, 1);
	drop_sa(there);
	assert_int_equal(other->terms.count, 0);
	xf_sad_free(other);
	assert_int_equal(tableless->terms.count, before + 1);
	assert_int_equal(xf_sa_cfg(here)->terms->pcpu, cfg.terms.pcpu);
	drop_sa(here);
}

/* Whoever uses an SA knows of its form whether it is the only one, whatever is changed. */
static void the_only_worker_is_told(void **state)
{
	const struct xf_sad_config alone = { .one_worker = true };
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sad *sad = xf_sad_new(&alone);
	struct xf_sa *sa, *shared = sa_of(&cfg);

	(void)state;
	assert_non_null(sad);
	sa = sas_new(sad, &cfg, 1);
	assert_true(xf_sa_form(sa)->what & XF_FORM_ALONE);
	assert_true(xf_sa_brief(sa).what & XF_FORM_ALONE);
	assert_false(xf_sa_form(shared)->what & XF_FORM_ALONE);
	cfg.terms.tfc_pad = 900;
	assert_int_equal(xf_sa_reconfigure(sa, &cfg), 0);
	assert_int_equal(xf_sa_reconfigure(shared, &cfg), 0);
	assert_true(xf_sa_form(sa)->what & XF_FORM_ALONE);
	assert_true(xf_sa_brief(sa).what & XF_FORM_ALONE);
	assert_false(xf_sa_form(shared)->what & XF_FORM_ALONE);
	drop_sa(shared);
	drop_sa(sa);
	xf_sad_free(sad);
}

#define MANY 3000

/* Each twice, and away in another order than they came. */
static void many_terms(void **state)
{
	static struct xf_sa *sas[2 * MANY];
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	const size_t before = tableless->terms.count;

	(void)state;
	for (unsigned i = 0; i < 2 * MANY; i++) {
		cfg.terms.life.soft_add_s = i % MANY;
		sas[i] = sas_new(tableless, &cfg, 1);
		assert_int_equal(tableless->terms.count, before + (i < MANY ? i + 1 : MANY));
	}
	for (unsigned i = 0; i < 2 * MANY; i++) {
		struct xf_sa *sa = sas[i * 7 % (2 * MANY)];

		assert_int_equal(xf_sa_cfg(sa)->terms->life.soft_add_s, i * 7 % MANY);
		drop_sa(sa);
	}
	assert_int_equal(tableless->terms.count, before);
}

static unsigned secrets;

static void *secret_alloc(void *arg, size_t size)
{
	(void)arg;
	secrets++;
	return aligned_alloc(64, (size + 63) & ~(size_t)63);
}

static void secret_free(void *arg, void *mem, size_t size)
{
	(void)arg;
	(void)size;
	secrets--;
	free(mem);
}

static void keys_go_with_the_last_reference(void **state)
{
	const struct xf_secret_ops ops = { .alloc = secret_alloc, .free = secret_free };
	const struct xf_suite suite = { .cipher = XF_CIPHER_AES_GCM,
					.cipher_key_len = 16,
					.salt_len = 4,
					.iv_len = 8,
					.block_len = 1,
					.icv_len = 16 };
	const struct xf_sa_config cfg = sas_config(1, 2, 100);
	const uint8_t bytes[XF_IVGEN_SEED] = { 1, 2, 3 };
	struct xf_sad *sad = sas_sad(0);
	struct xf_key *key;
	struct xf_sa *sa;

	(void)state;
	xf_secret_set_ops(&ops);
	assert_int_equal(xf_key_new(&suite, NULL, bytes, NULL, &key), 0);
	assert_true(secrets > 0);
	sa = xf_sa_new(sad, &cfg, key, XF_SA_VALID, bytes, 1);
	assert_non_null(sa);
	assert_ptr_equal(xf_sa_key(sa), key);
	assert_int_equal(xf_sad_add(sad, sa, NULL), 0);
	xf_sa_get(sa);
	assert_int_equal(xf_sad_del(sad, sa), 0);
	xf_rcu_drain();
	assert_true(secrets > 0);
	xf_sa_put(sa);
	assert_true(secrets > 0);
	xf_rcu_drain();
	assert_int_equal(secrets, 0);
	xf_sad_free(sad);
}

/* Sanitizers see to it that nobody reads what is gone (slab_heap.c). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ON_SLABS 0
#else
#define ON_SLABS 1
#endif

/* Its slab stays, for another SA that is in it: of the one that is gone only a link is left. */
static void nothing_is_left_of_one_that_is_gone(void **state)
{
	static const uint8_t none[XF_SA_BYTES];
	const size_t len = sizeof(none) - sizeof(void *);
	struct xf_sa_config cfg = sas_config(1, 2, 100);
	struct xf_sa *stays = sas_new(tableless, &cfg, 1), *goes = sas_new(tableless, &cfg, 1);
	const uint8_t *memory = (const uint8_t *)goes + sizeof(void *);

	(void)state;
	assert_memory_not_equal(memory, none, len);
	drop_sa(goes);
	if (ON_SLABS)
		assert_memory_equal(memory, none, len);
	drop_sa(stays);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequence_numbers_end),
		cmocka_unit_test(wrapped_number_is_shown_in_32_bits),
		cmocka_unit_test(no_number_twice_or_above_the_limit),
		cmocka_unit_test(state_and_direction),
		cmocka_unit_test(limits_of_packets),
		cmocka_unit_test(limits_of_bytes),
		cmocka_unit_test(times_of_use),
		cmocka_unit_test(times_after_steps_of_the_clock),
		cmocka_unit_test(times_set_by_netlink),
		cmocka_unit_test(replay_statistics),
		cmocka_unit_test(drops_are_counted_by_reason),
		cmocka_unit_test(window_without_the_attribute_is_32),
		cmocka_unit_test(replay_state_of_both_forms),
		cmocka_unit_test(path_mtu_has_a_floor_and_an_end),
		cmocka_unit_test(reconfigured),
		cmocka_unit_test(equal_terms_are_kept_once),
		cmocka_unit_test(terms_are_a_sads_own),
		cmocka_unit_test(the_only_worker_is_told),
		cmocka_unit_test(many_terms),
		cmocka_unit_test(keys_go_with_the_last_reference),
		cmocka_unit_test(nothing_is_left_of_one_that_is_gone),
	};

	return cmocka_run_group_tests(tests, make_sad, free_sad);
}
