/*
 * The newest number is published after the bits that it brings into the window were cleared, and
 * every field that changes is read and written as a relaxed atomic. So a check beside a commit
 * refuses nothing that either the old or the new window would take.
 */
#include <xf/replay.h>

#define WORD_BITS XF_REPLAY_WORD_BITS
#define LOW_HALF 0xffffffffull
#define BITMAP_BITS 32

static uint32_t reach_of(struct xf_replay_width width)
{
	return width.packets ? width.packets + xf_min_u32(width.slack, XF_REPLAY_SLACK_MAX) : 0;
}

static uint32_t ring_words(struct xf_replay_width width)
{
	/* Two words hold the whole bitmap of struct xfrm_replay_state, whatever the window. */
	uint32_t words = 2;

	while (words * WORD_BITS < reach_of(width) + WORD_BITS - 1)
		words *= 2;
	return words;
}

size_t xf_replay_size(struct xf_replay_width width)
{
	return sizeof(struct xf_replay) + ring_words(width) * sizeof(uint64_t);
}

void xf_replay_init(struct xf_replay *replay, struct xf_replay_width width, bool esn)
{
	memset(replay, 0, xf_replay_size(width));
	replay->window = width.packets & 0x7fff;
	replay->reach = reach_of(width);
	replay->words = (uint16_t)ring_words(width);
	replay->esn = esn;
}

/* Forget what the words from @first on, @count of them, said of earlier numbers. */
static void clear_words(struct xf_replay *replay, uint64_t first, uint64_t count)
{
	if (count > replay->words)
		count = replay->words;
	for (uint64_t i = 0; i < count; i++)
		__atomic_store_n(&replay->bits[(first + i) & (replay->words - 1)], 0,
				 __ATOMIC_RELAXED);
}

/*
 * The bit of number top - @back in netlink's ring. The kernel counts from the low half alone:
 * with a window that does not divide 2^32 the ring starts anew at each wrap.
 */
static uint32_t netlink_bit(const struct xf_replay *replay, uint32_t back)
{
	uint32_t pos = ((uint32_t)replay->top - 1) % replay->window;

	return pos >= back ? pos - back : replay->window - (back - pos);
}

/* How many numbers, from the newest down, have a bit of their own: none is below 1. */
static uint32_t known_numbers(const struct xf_replay *replay, uint32_t most)
{
	return replay->top < most ? (uint32_t)replay->top : most;
}

/* What a state that is set says nothing about counts as seen. */
static void set_older(struct xf_replay *replay, uint32_t known)
{
	for (uint32_t back = known; back < known_numbers(replay, replay->reach); back++)
		xf_replay_set(replay, replay->top - back);
}

void xf_replay_load(struct xf_replay *replay, uint64_t top, const uint32_t *bmp, uint32_t nwords)
{
	clear_words(replay, 0, replay->words);
	__atomic_store_n(&replay->top, top, __ATOMIC_RELEASE);
	for (uint32_t back = 0; back < known_numbers(replay, replay->window); back++) {
		uint32_t bit = netlink_bit(replay, back);

		if (bit / 32 < nwords && (bmp[bit / 32] >> (bit % 32) & 1))
			xf_replay_set(replay, top - back);
	}
	set_older(replay, replay->window);
}

void xf_replay_store(const struct xf_replay *replay, uint32_t *bmp, uint32_t nwords)
{
	memset(bmp, 0, nwords * sizeof(*bmp));
	for (uint32_t back = 0; back < known_numbers(replay, replay->window); back++) {
		uint32_t bit = netlink_bit(replay, back);

		if (bit / 32 < nwords && xf_replay_is_set(replay, replay->top - back))
			bmp[bit / 32] |= 1u << (bit % 32);
	}
}

void xf_replay_load32(struct xf_replay *replay, uint32_t top, uint32_t bitmap)
{
	clear_words(replay, 0, replay->words);
	__atomic_store_n(&replay->top, top, __ATOMIC_RELEASE);
	for (uint32_t back = 0; back < known_numbers(replay, BITMAP_BITS); back++) {
		if (bitmap >> back & 1)
			xf_replay_set(replay, top - back);
	}
	set_older(replay, BITMAP_BITS);
}

uint32_t xf_replay_store32(const struct xf_replay *replay)
{
	uint32_t bitmap = 0;

	for (uint32_t back = 0; back < known_numbers(replay, BITMAP_BITS); back++)
		bitmap |= (uint32_t)xf_replay_is_set(replay, replay->top - back) << back;
	return bitmap;
}

/* What is in front of the words. */
struct saved {
	uint64_t top;
	uint64_t reach;
};

/* Netlink shows what is older than a short window, too. */
static uint32_t kept_numbers(const struct xf_replay *replay)
{
	return known_numbers(replay, replay->reach > BITMAP_BITS ? replay->reach : BITMAP_BITS);
}

size_t xf_replay_save(const struct xf_replay *replay, uint8_t *out)
{
	const struct saved head = { replay->top, replay->reach };
	uint32_t kept = kept_numbers(replay), back = 0;
	uint8_t *p = out + sizeof(head);

	memcpy(out, &head, sizeof(head));
	while (back < kept) {
		uint64_t word = 0;

		for (unsigned i = 0; i < WORD_BITS && back < kept; i++, back++)
			word |= (uint64_t)xf_replay_is_set(replay, replay->top - back) << i;
		memcpy(p, &word, sizeof(word));
		p += sizeof(word);
	}
	return (size_t)(p - out);
}

bool xf_replay_restore(struct xf_replay *replay, const uint8_t *saved, size_t len)
{
	uint64_t word = 0;
	struct saved head;

	if (len < sizeof(head) || len % sizeof(word))
		return false;
	memcpy(&head, saved, sizeof(head));
	if (!replay->esn && head.top > LOW_HALF)
		return false;
	clear_words(replay, 0, replay->words);
	__atomic_store_n(&replay->top, head.top, __ATOMIC_RELEASE);
	for (uint32_t back = 0; back < kept_numbers(replay); back++) {
		size_t off = sizeof(head) + back / WORD_BITS * sizeof(word);
		bool known = back < head.reach || back >= replay->reach;

		if (off >= len)
			word = UINT64_MAX;
		else if (back % WORD_BITS == 0)
			memcpy(&word, saved + off, sizeof(word));
		if (!known || (word >> (back % WORD_BITS) & 1))
			xf_replay_set(replay, head.top - back);
	}
	return true;
}

uint64_t xf_replay_infer_esn(const struct xf_replay *replay, uint32_t seq_low)
{
	uint64_t top = xf_replay_top(replay);
	uint64_t high = top & ~LOW_HALF;
	uint32_t bottom = (uint32_t)top - replay->reach + 1;

	if (replay->reach == 0)
		return high | seq_low;
	/* RFC 4303 appendix A2.2: does the window lie in one subspace of 2^32, or in two? */
	if ((top & LOW_HALF) >= replay->reach - 1)
		high += seq_low < bottom ? LOW_HALF + 1 : 0;
	else
		high -= seq_low >= bottom ? LOW_HALF + 1 : 0;
	return high | seq_low;
}

void xf_replay_forget(struct xf_replay *replay, uint64_t seq)
{
	uint64_t top = replay->top;

	/* A jump of the window's width or more leaves nothing of the old window. */
	if (seq - top >= replay->reach)
		clear_words(replay, 0, replay->words);
	else
		clear_words(replay, top / WORD_BITS + 1, seq / WORD_BITS - top / WORD_BITS);
}
