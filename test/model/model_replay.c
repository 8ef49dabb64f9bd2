/*
 * The replay window must agree, packet by packet, with a set that forgets nothing. Windows are
 * restarted often, so that jumps of about their width are not rare, and begin where numbers wrap.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <xf/replay.h>

#include "../unit/sas.h"

#define RUN 250

static uint64_t rng;

static uint64_t below(uint64_t n)
{
	return sas_random(&rng) % n;
}

struct model {
	uint64_t seen[RUN + XF_REPLAY_WINDOW_MAX];
	unsigned n;
	uint64_t top;
	uint32_t window;
};

static bool was_seen(const struct model *model, uint64_t seq)
{
	for (unsigned i = 0; i < model->n; i++) {
		if (model->seen[i] == seq)
			return true;
	}
	return false;
}

static bool model_takes(const struct model *model, uint64_t seq)
{
	if (seq == 0 || (seq <= model->top && model->top - seq >= model->window))
		return false;
	return !was_seen(model, seq);
}

static void model_add(struct model *model, uint64_t seq)
{
	model->seen[model->n++] = seq;
	if (seq > model->top)
		model->top = seq;
}

/* Of all numbers with this low half the one that is not behind the window, nor 2^32 ahead of it. */
static uint64_t model_infer(const struct model *model, uint32_t low)
{
	__int128 bottom = (__int128)model->top - model->window + 1;
	__int128 seq = (__int128)(model->top & ~0xffffffffull) - ((__int128)1 << 32) + low;

	while (seq < bottom)
		seq += (__int128)1 << 32;
	return (uint64_t)seq;
}

/* What a sender that is at about the window's place could have sent. */
static uint64_t next_number(const struct model *model, uint64_t highest)
{
	uint64_t w = model->window, top = model->top, seq;

	switch (below(10)) {
	case 0:
		seq = top + below(2 * w + 4);
		break;
	case 1:
		seq = top + w - 1 + below(3);
		break;
	case 2:
		seq = top - w - 1 + below(3);
		break;
	case 3:
		seq = top - below(w + 3);
		break;
	case 4:
		seq = model->n ? model->seen[below(model->n)] : 0;
		break;
	case 5:
		seq = top + 64 * below(130) + below(2);
		break;
	case 6:
		seq = below(8) ? top + 1 : top + below(1u << 31);
		break;
	case 7:
		seq = below(50) ? top - below(40) : below(3);
		break;
	default:
		seq = top + 1;
	}
	return seq > highest ? highest - below(3) : seq;
}

static uint64_t start(uint32_t window, bool esn)
{
	uint64_t near = below(window * 2 + 3);

	switch (below(5)) {
	case 0:
		return 0;
	case 1:
		return near;
	case 2:
		return UINT32_MAX - near - (esn ? 0 : below(500));
	case 3:
		return esn ? UINT64_MAX - near - below(500) : below(UINT32_MAX);
	default:
		return esn ? (below(1000) << 32) + near : near + 64;
	}
}

/* Through netlink's form and back into a fresh window, as UPDSA and MOBIKE do. */
static void through_netlink(struct xf_replay *replay, const struct model *model)
{
	uint32_t bmp[XF_REPLAY_WINDOW_MAX / 32];
	uint32_t nwords = (model->window + 31) / 32;

	assert_int_equal(replay->top, model->top);
	if (!replay->esn && model->window <= 32 && below(2)) {
		uint32_t word = xf_replay_store32(replay);

		for (uint32_t back = 0; back < model->window && back < model->top; back++)
			assert_int_equal(word >> back & 1, was_seen(model, model->top - back));
		xf_replay_init(replay, (struct xf_replay_width){ model->window, 0 }, replay->esn);
		xf_replay_load32(replay, (uint32_t)model->top, word);
		return;
	}
	xf_replay_store(replay, bmp, nwords);
	xf_replay_init(replay, (struct xf_replay_width){ model->window, 0 }, replay->esn);
	xf_replay_load(replay, model->top, bmp, nwords);
}

struct counts {
	unsigned taken, refused, strange;
};

static void one_packet(struct xf_replay *replay, struct model *model, uint64_t sent,
		       struct counts *counts)
{
	uint64_t seq = xf_replay_infer(replay, (uint32_t)sent);
	bool takes;

	assert_int_equal(seq, replay->esn ? model_infer(model, (uint32_t)sent) : sent);
	/* With the wrong high half the ICV is wrong: nothing is committed. */
	if (seq != sent) {
		counts->strange++;
		return;
	}
	takes = model_takes(model, seq);
	assert_int_equal(xf_replay_check(replay, seq), takes ? XF_PASS : XF_DROP_IN_STATE_SEQ);
	assert_int_equal(xf_replay_commit(replay, seq), takes ? XF_PASS : XF_DROP_IN_STATE_SEQ);
	if (takes)
		model_add(model, seq);
	counts->taken += takes;
	counts->refused += !takes;
}

/* Numbers in a row, at once: only where all are new. */
static void one_run(struct xf_replay *replay, struct model *model, uint64_t first, uint64_t highest)
{
	uint64_t room = highest - first;
	unsigned n = 1 + (unsigned)below(64);
	bool takes = first > model->top;

	if (n > room)
		n = 1;
	assert_int_equal(xf_replay_commit_next(replay, first, n), takes);
	for (unsigned i = 0; takes && i < n; i++)
		model_add(model, first + i);
}

static void one_window(uint32_t window, bool esn, unsigned packets)
{
	const uint64_t highest = esn ? UINT64_MAX : UINT32_MAX;
	const struct xf_replay_width width = { window, 0 };
	struct xf_replay *replay = malloc(xf_replay_size(width));
	struct model *model = malloc(sizeof(*model));
	struct counts counts = { 0 };

	for (unsigned i = 0; i < packets; i++) {
		if (i % RUN == 0) {
			const uint32_t none[XF_REPLAY_WINDOW_MAX / 32] = { 0 };

			*model = (struct model){ .window = window, .top = start(window, esn) };
			xf_replay_init(replay, width, esn);
			xf_replay_load(replay, model->top, none, XF_ARRAY_SIZE(none));
		}
		one_packet(replay, model, next_number(model, highest), &counts);
		if (below(16) == 0)
			one_run(replay, model, next_number(model, highest), highest);
		if (below(100) == 0)
			through_netlink(replay, model);
	}
	/* A generator that makes nothing but fresh or nothing but stale packets shows nothing. */
	assert_true(counts.taken > packets / 5);
	assert_true(counts.refused > packets / 20);
	if (esn)
		assert_true(counts.strange > packets / 100);
	print_message("# window %u esn %d: %u packets, %u taken, %u refused, %u out of reach\n",
		      window, esn, packets, counts.taken, counts.refused, counts.strange);
	free(model);
	free(replay);
}

static void agrees_with_a_set_that_forgets_nothing(void **state)
{
	static const uint32_t windows[] = { 1, 32, 64, 100, 128, 1024, 4095, 4096 };
	const unsigned packets = 1600000 / MODEL_DIVISOR / (2 * XF_ARRAY_SIZE(windows));

	(void)state;
	rng = sas_seed(4303);
	for (size_t i = 0; i < XF_ARRAY_SIZE(windows); i++) {
		one_window(windows[i], false, packets);
		one_window(windows[i], true, packets);
	}
	print_message("# %zu packets in all\n", packets * 2 * XF_ARRAY_SIZE(windows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_set_that_forgets_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
