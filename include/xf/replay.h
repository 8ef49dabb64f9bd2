/*
 * replay.h - the anti-replay window: one window over 64-bit sequence numbers.
 *
 * Without ESN the upper half is always zero; with ESN it is inferred from the lower one and the
 * window's place (RFC 4303 appendix A2.2).
 *
 * Threads: check and infer may run without the lock, beside a commit: they are a good guess.
 * Everything else runs under the caller's lock; commit is the truth and checks again.
 */
#ifndef XF_REPLAY_H
#define XF_REPLAY_H

#include <xf/drop.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_REPLAY_WINDOW_MAX 4096

/*
 * @bits is a ring: the bit of sequence number s is bit s % (64 * words). It holds more than the
 * window, so that a word can be cleared as a whole when the newest number enters it.
 */
struct xf_replay {
	uint64_t top; /* highest authenticated number; 0 = none yet */
	uint32_t reach; /* so far back numbers are accepted: window and slack; 0 = no check */
	uint16_t words; /* of @bits: a power of two, at least 2 and (reach + 126) / 64 */
	uint16_t window : 15; /* packets, as configured; 0 = no check */
	uint16_t esn : 1;
	uint64_t bits[];
};

/*
 * How far a window reaches: @packets, and numbers that are @slack older are accepted, too, once as
 * ever. Slack is for several workers: one that is through with its packets early must not make
 * those old that came before them. Of it, no more than XF_REPLAY_SLACK_MAX counts.
 */
#define XF_REPLAY_SLACK_MAX 65536
struct xf_replay_width {
	uint32_t packets; /* at most XF_REPLAY_WINDOW_MAX; 0: no check, whatever the slack */
	uint32_t slack;
};

/* Bytes that such a window needs, the struct included. */
size_t xf_replay_size(struct xf_replay_width width);

/* Start empty. @replay has xf_replay_size(@width) bytes. */
void xf_replay_init(struct xf_replay *replay, struct xf_replay_width width, bool esn);

/*
 * Set the newest number and the bitmap as netlink has them, and read them back. In struct
 * xfrm_replay_state_esn the bits form a ring of @window bits in @nwords 32-bit words, the newest
 * number at (low half of @top - 1) % window. A window of 0 keeps @top alone.
 */
void xf_replay_load(struct xf_replay *replay, uint64_t top, const uint32_t *bmp, uint32_t nwords);
void xf_replay_store(const struct xf_replay *replay, uint32_t *bmp, uint32_t nwords);

/*
 * The same for struct xfrm_replay_state (bit i of its one word: number top - i was seen).
 */
void xf_replay_load32(struct xf_replay *replay, uint32_t top, uint32_t bitmap);
uint32_t xf_replay_store32(const struct xf_replay *replay);

#define XF_REPLAY_WORD_BITS 64

/*
 * All that a window has seen, slack included, for one of another size: the newest number, how far
 * back it knows, then words whose bit i says that the number i before the newest is not to be
 * accepted. Save returns how many bytes that is. What only the new one could know counts as seen.
 * False: it is no such thing, or its number has more bits than the window takes; nothing changed.
 */
#define XF_REPLAY_SAVED_MAX (16u + (XF_REPLAY_WINDOW_MAX + XF_REPLAY_SLACK_MAX + 63u) / 64 * 8)
size_t xf_replay_save(const struct xf_replay *replay, uint8_t *out);
bool xf_replay_restore(struct xf_replay *replay, const uint8_t *saved, size_t len);

static inline uint64_t xf_replay_top(const struct xf_replay *replay)
{
	return __atomic_load_n(&replay->top, __ATOMIC_ACQUIRE);
}

/* The word with the bit of @seq. */
static inline uint32_t xf_replay_word(const struct xf_replay *replay, uint64_t seq)
{
	return (uint32_t)(seq / XF_REPLAY_WORD_BITS) & (replay->words - 1);
}

static inline bool xf_replay_is_set(const struct xf_replay *replay, uint64_t seq)
{
	uint64_t word =
		__atomic_load_n(&replay->bits[xf_replay_word(replay, seq)], __ATOMIC_RELAXED);

	return word >> (seq % XF_REPLAY_WORD_BITS) & 1;
}

static inline void xf_replay_set(struct xf_replay *replay, uint64_t seq)
{
	uint64_t *word = &replay->bits[xf_replay_word(replay, seq)];

	__atomic_store_n(word, *word | 1ull << (seq % XF_REPLAY_WORD_BITS), __ATOMIC_RELAXED);
}

/* The same with ESN. */
uint64_t xf_replay_infer_esn(const struct xf_replay *replay, uint32_t seq_low);

/*
 * The 64-bit number that @seq_low stands for (RFC 4303 appendix A2.2). Where that would lie below
 * zero it wraps, as in the kernel: no packet with such a number is authentic.
 */
static inline uint64_t xf_replay_infer(const struct xf_replay *replay, uint32_t seq_low)
{
	return replay->esn ? xf_replay_infer_esn(replay, seq_low) : seq_low;
}

/*
 * Would @seq be accepted? XF_PASS, or XF_DROP_IN_STATE_SEQ (too old, seen, or zero), as the
 * kernel's xfrm_replay_check().
 */
static inline enum xf_drop xf_replay_check(const struct xf_replay *replay, uint64_t seq)
{
	uint64_t top = xf_replay_top(replay);

	if (replay->reach == 0)
		return XF_PASS;
	if (seq == 0)
		return XF_DROP_IN_STATE_SEQ;
	if (seq > top)
		return XF_PASS;
	if (top - seq >= replay->reach || xf_replay_is_set(replay, seq))
		return XF_DROP_IN_STATE_SEQ;
	return XF_PASS;
}

/* Before @seq, in a new word or far ahead, becomes the newest: forget what it leaves behind. */
void xf_replay_forget(struct xf_replay *replay, uint64_t seq);

/*
 * Check again and mark as seen, after the ICV was found right. With a window of 0 nothing is
 * checked and nothing remembered, as in the kernel.
 */
static inline enum xf_drop xf_replay_commit(struct xf_replay *replay, uint64_t seq)
{
	enum xf_drop drop = xf_replay_check(replay, seq);
	uint64_t top = replay->top;

	if (drop != XF_PASS || replay->reach == 0)
		return drop;
	if (seq > top) {
		/* Nearly always the next one: nothing between the two was ever set. */
		if ((seq ^ top) / XF_REPLAY_WORD_BITS || seq - top >= replay->reach)
			xf_replay_forget(replay, seq);
		__atomic_store_n(&replay->top, seq, __ATOMIC_RELEASE);
	}
	xf_replay_set(replay, seq);
	return XF_PASS;
}

/* Mark the @n numbers from @first on, all of one word, which follow the newest one. */
static inline void xf_replay_set_next(struct xf_replay *replay, uint64_t first, unsigned n)
{
	uint64_t *word = &replay->bits[xf_replay_word(replay, first)];
	uint64_t bits = ~0ull >> (XF_REPLAY_WORD_BITS - n) << (first % XF_REPLAY_WORD_BITS);

	if ((first ^ replay->top) / XF_REPLAY_WORD_BITS || first - replay->top >= replay->reach)
		xf_replay_forget(replay, first);
	__atomic_store_n(&replay->top, first + n - 1, __ATOMIC_RELEASE);
	__atomic_store_n(word, *word | bits, __ATOMIC_RELAXED);
}

/*
 * Commit the @n numbers from @first on at once, where they come behind the newest one. False:
 * nothing was done, each must be committed by itself.
 */
static inline bool xf_replay_commit_next(struct xf_replay *replay, uint64_t first, unsigned n)
{
	if (first <= replay->top || replay->reach == 0)
		return false;
	for (unsigned part; n > 0; first += part, n -= part) {
		part = xf_min_u32(n, XF_REPLAY_WORD_BITS - first % XF_REPLAY_WORD_BITS);
		xf_replay_set_next(replay, first, part);
	}
	return true;
}

#ifdef __cplusplus
}
#endif

#endif
