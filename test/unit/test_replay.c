/*
 * The edges of the replay window; model_replay.c has the rest. Each case is a window, what has
 * come before, and what then is accepted or refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/replay.h>

static struct xf_replay *new_with_slack(uint32_t window, bool esn, uint32_t slack)
{
	const struct xf_replay_width width = { window, slack };
	struct xf_replay *replay = malloc(xf_replay_size(width));

	assert_non_null(replay);
	xf_replay_init(replay, width, esn);
	return replay;
}

static struct xf_replay *new_window(uint32_t window, bool esn)
{
	return new_with_slack(window, esn, 0);
}

static bool accepted(struct xf_replay *replay, uint64_t seq)
{
	enum xf_drop check = xf_replay_check(replay, seq);
	enum xf_drop commit = xf_replay_commit(replay, seq);

	assert_int_equal(check, commit);
	assert_true(commit == XF_PASS || commit == XF_DROP_IN_STATE_SEQ);
	return commit == XF_PASS;
}

static const uint32_t windows[] = { 1, 2, 31, 32, 33, 63, 64, 65, 100, 127, 128, 1024, 4095, 4096 };

static void zero_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows); i++) {
		struct xf_replay *replay = new_window(windows[i], false);

		assert_false(accepted(replay, 0));
		assert_true(accepted(replay, 1));
		assert_false(accepted(replay, 0));
		assert_false(accepted(replay, 1));
		free(replay);
	}
}

static void window_of_zero_checks_nothing(void **state)
{
	struct xf_replay *replay = new_window(0, false);

	(void)state;
	assert_true(accepted(replay, 0));
	assert_true(accepted(replay, 7));
	assert_true(accepted(replay, 7));
	assert_int_equal(replay->top, 0);
	free(replay);
}

static void left_edge(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows); i++) {
		uint32_t w = windows[i];
		struct xf_replay *replay = new_window(w, false);

		assert_true(accepted(replay, 10000));
		assert_false(accepted(replay, 10000 - w));
		if (w > 1)
			assert_true(accepted(replay, 10000 - w + 1));
		assert_false(accepted(replay, 10000 - w + 1));
		free(replay);
	}
}

/* A jump of the width less one, the width, one more, and far beyond; then what lies behind. */
static void jumps(void **state)
{
	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows); i++) {
		const uint32_t w = windows[i];
		const uint64_t by[] = {
			w - 1, w, w + 1, 2 * w, 64 * 128, 64 * 128 + 1, 1ull << 31
		};

		for (size_t j = 0; j < XF_ARRAY_SIZE(by); j++) {
			struct xf_replay *replay = new_window(w, false);
			uint64_t top = 5000 + by[j];

			for (uint64_t seq = 5000 - w + 1; seq <= 5000; seq++)
				assert_true(accepted(replay, seq));
			if (by[j])
				assert_true(accepted(replay, top));
			for (uint64_t seq = top - w + 1; seq < top; seq++)
				assert_int_equal(accepted(replay, seq), seq > 5000);
			free(replay);
		}
	}
}

struct infer_case {
	uint64_t top;
	uint32_t window;
	uint32_t low;
	uint64_t seq;
};

/* RFC 4303 appendix A2.2: cases A and B, at their borders. */
static void inference(void **state)
{
	static const struct infer_case cases[] = {
		{ 0, 64, 1, 1 },
		{ 0, 64, 0, 0 },
		{ 100, 64, 37, 37 },
		{ 100, 64, 36, (1ull << 32) + 36 },
		{ 100, 64, 0xffffffff, 0xffffffff },
		{ 63, 64, 0, 0 },
		{ 62, 64, 0xffffffff, UINT64_MAX },
		{ 62, 64, 0xfffffffe, 0xfffffffe },
		{ 0xffffffff, 64, 5, (1ull << 32) + 5 },
		{ 0xffffffff, 64, 0xffffffc0, 0xffffffc0 },
		{ 0xffffffff, 64, 0xffffffbf, (1ull << 32) + 0xffffffbf },
		{ (1ull << 32) + 5, 64, 0xfffffff0, 0xfffffff0 },
		{ (1ull << 32) + 5, 64, 6, (1ull << 32) + 6 },
		{ (1ull << 32) + 5, 64, 0xffffffc5, (1ull << 32) + 0xffffffc5 },
		{ (1ull << 32) + 5, 64, 0xffffffc6, 0xffffffc6 },
		{ (7ull << 32), 1, 0xffffffff, (7ull << 32) + 0xffffffff },
		{ (7ull << 32), 1, 0, 7ull << 32 },
		{ UINT64_MAX, 64, 0xffffffff, UINT64_MAX },
		{ UINT64_MAX - 1, 4096, 0xfffff000, UINT64_MAX - 4095 },
	};

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		struct xf_replay *replay = new_window(cases[i].window, true);

		replay->top = cases[i].top;
		if (xf_replay_infer(replay, cases[i].low) != cases[i].seq)
			fail_msg("case %zu", i);
		replay->esn = false;
		assert_int_equal(xf_replay_infer(replay, cases[i].low), cases[i].low);
		free(replay);
	}
}

/* struct xfrm_replay_state: bit i is number top - i, whatever the window. */
static void bitmap_of_one_word(void **state)
{
	struct xf_replay *replay = new_window(4, false);

	(void)state;
	for (uint64_t seq = 1; seq <= 10; seq++)
		assert_true(accepted(replay, seq));
	assert_true(accepted(replay, 12));
	assert_int_equal(xf_replay_store32(replay), 0xffd);
	assert_true(accepted(replay, 16));
	assert_int_equal(xf_replay_store32(replay), 1);
	assert_true(xf_replay_commit_next(replay, 18, 2));
	assert_int_equal(xf_replay_store32(replay), 0xb);
	assert_true(xf_replay_commit_next(replay, 30, 3));
	assert_int_equal(xf_replay_store32(replay), 7);
	assert_false(xf_replay_commit_next(replay, 32, 3));

	xf_replay_load32(replay, 1000, 0x8000000b);
	assert_int_equal(replay->top, 1000);
	assert_int_equal(xf_replay_store32(replay), 0x8000000b);
	assert_false(accepted(replay, 999));
	assert_true(accepted(replay, 998));
	assert_false(accepted(replay, 997));
	free(replay);
}

/* The kernel's ring: the newest number at (low half - 1) % window. */
static void ring_of_the_kernel(void **state)
{
	struct xf_replay *replay = new_window(100, true);
	uint32_t bmp[4];

	(void)state;
	assert_true(accepted(replay, 1));
	assert_true(accepted(replay, 33));
	assert_true(accepted(replay, 100));
	xf_replay_store(replay, bmp, 4);
	assert_int_equal(bmp[0], 1);
	assert_int_equal(bmp[1], 1);
	assert_int_equal(bmp[2], 0);
	assert_int_equal(bmp[3], 1u << 3);
	/* 101 takes the place of 1. */
	assert_true(accepted(replay, 101));
	xf_replay_store(replay, bmp, 4);
	assert_int_equal(bmp[0], 1);
	/* 2^32 wraps the low half to 0: the ring counts on from (2^32 - 1) % 100 = 95. */
	assert_true(accepted(replay, 1ull << 32));
	xf_replay_store(replay, bmp, 4);
	assert_int_equal(bmp[0] | bmp[1], 0);
	assert_int_equal(bmp[2], 1u << 31);
	assert_int_equal(bmp[3], 0);
	free(replay);
}

/* What was stored and loaded accepts and refuses the same. */
static void store_and_load(void **state)
{
	static const uint64_t tops[] = { 1,
					 31,
					 32,
					 4095,
					 4096,
					 4097,
					 0xffffffff,
					 1ull << 32,
					 (1ull << 32) + 17,
					 UINT64_MAX - 5000,
					 UINT64_MAX };
	uint32_t bmp[XF_REPLAY_WINDOW_MAX / 32];

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows) * XF_ARRAY_SIZE(tops); i++) {
		uint32_t w = windows[i / XF_ARRAY_SIZE(tops)];
		uint64_t top = tops[i % XF_ARRAY_SIZE(tops)];
		struct xf_replay *a = new_window(w, true);
		struct xf_replay *b = new_window(w, true);

		xf_replay_commit(a, top);
		for (uint32_t back = 0; back < w && back < top; back += 3)
			xf_replay_commit(a, top - back);
		xf_replay_store(a, bmp, (w + 31) / 32);
		xf_replay_load(b, top, bmp, (w + 31) / 32);
		for (uint32_t back = 0; back < w + 70 && back < top; back++)
			assert_int_equal(accepted(b, top - back), back < w && back % 3 != 0);
		free(a);
		free(b);
	}
}

/* Numbers near each other, now and then far, the low half's end among them. */
static void receive_some(struct xf_replay *replay, unsigned n)
{
	uint64_t newest = replay->esn ? (1ull << 32) - 300 : 1;

	for (unsigned i = 0; i < n; i++) {
		uint64_t back = (unsigned)rand() % (rand() % 8 ? 40 : 5000);

		newest += (unsigned)rand() % 3 ? 1 : 7;
		xf_replay_commit(replay, newest > back ? newest - back : newest);
	}
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t low_bits(uint64_t n)
{
	return n < 32 ? (1u << n) - 1 : UINT32_MAX;
}

/* All that both can know of is as it was, slack included; what only the new one could is seen. */
static void compare_windows(const struct xf_replay *was, const struct xf_replay *is)
{
	uint64_t known = least(was->reach, is->reach);

	assert_true(is->top == was->top);
	for (uint64_t back = 0; back < is->reach + 100ull && back < was->top; back++)
		assert_int_equal(xf_replay_check(is, was->top - back),
				 back < known ? xf_replay_check(was, was->top - back)
					      : XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_replay_check(is, was->top + 1), XF_PASS);
	if (was->window == is->window)
		assert_int_equal(xf_replay_store32(is) & low_bits(was->reach),
				 xf_replay_store32(was) & low_bits(was->reach));
	if (was->reach == is->reach)
		assert_int_equal(xf_replay_store32(is), xf_replay_store32(was));
}

/* From any size and slack to any other; what is full of bits is filled anew. */
static void saved_and_restored(void **state)
{
	static const uint32_t slacks[] = { 0, 1, 64, 1000 };
	static uint8_t saved[XF_REPLAY_SAVED_MAX];

	(void)state;
	srand(3);
	for (unsigned i = 0; i < 3000; i++) {
		bool esn = rand() % 2;
		uint32_t w = windows[(unsigned)rand() % XF_ARRAY_SIZE(windows)];
		uint32_t other =
			rand() % 3 ? w : windows[(unsigned)rand() % XF_ARRAY_SIZE(windows)];
		struct xf_replay *was = new_with_slack(w, esn, slacks[rand() % 4]);
		struct xf_replay *is = new_with_slack(other, esn, slacks[rand() % 4]);
		size_t len;

		receive_some(was, (unsigned)rand() % 200 + 1);
		receive_some(is, (unsigned)rand() % 200);
		len = xf_replay_save(was, saved);
		assert_in_range(len, 24, sizeof(saved));
		assert_true(xf_replay_restore(is, saved, len));
		compare_windows(was, is);
		free(was);
		free(is);
	}
}

static void the_largest_window_is_saved(void **state)
{
	static uint8_t saved[XF_REPLAY_SAVED_MAX];
	struct xf_replay *was = new_with_slack(XF_REPLAY_WINDOW_MAX, true, XF_REPLAY_SLACK_MAX);

	(void)state;
	xf_replay_commit(was, 1ull << 40);
	assert_int_equal(xf_replay_save(was, saved), sizeof(saved));
	free(was);
}

static void what_is_no_window_is_refused(void **state)
{
	struct xf_replay *replay = new_window(64, false);
	uint8_t saved[32] = { [0] = 9, [8] = 64 };

	(void)state;
	xf_replay_commit(replay, 5);
	assert_false(xf_replay_restore(replay, saved, 0));
	assert_false(xf_replay_restore(replay, saved, 8));
	assert_false(xf_replay_restore(replay, saved, 31));
	saved[4] = 1;
	assert_false(xf_replay_restore(replay, saved, 32));
	assert_true(replay->top == 5);
	assert_int_equal(xf_replay_check(replay, 5), XF_DROP_IN_STATE_SEQ);
	saved[4] = 0;
	assert_true(xf_replay_restore(replay, saved, 32));
	assert_true(replay->top == 9);
	assert_int_equal(xf_replay_check(replay, 5), XF_PASS);
	free(replay);
}

/* It says that it knows more than it has. */
static void what_is_not_there_counts_as_seen(void **state)
{
	struct xf_replay *replay = new_window(200, true);
	uint8_t saved[24] = { [0] = 232, [1] = 3, [9] = 16 };

	(void)state;
	assert_true(xf_replay_restore(replay, saved, sizeof(saved)));
	assert_true(replay->top == 1000);
	for (uint64_t back = 0; back < 200; back++)
		assert_int_equal(xf_replay_check(replay, 1000 - back) == XF_PASS, back < 64);
	free(replay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_is_refused),
		cmocka_unit_test(window_of_zero_checks_nothing),
		cmocka_unit_test(left_edge),
		cmocka_unit_test(jumps),
		cmocka_unit_test(inference),
		cmocka_unit_test(bitmap_of_one_word),
		cmocka_unit_test(ring_of_the_kernel),
		cmocka_unit_test(store_and_load),
		cmocka_unit_test(saved_and_restored),
		cmocka_unit_test(the_largest_window_is_saved),
		cmocka_unit_test(what_is_no_window_is_refused),
		cmocka_unit_test(what_is_not_there_counts_as_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
