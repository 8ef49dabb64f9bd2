/*
 * done.h - the finished operations of a provider that works while submit() runs.
 *
 * Threads: a ring belongs to one thread.
 */
#ifndef XF_CRYPTO_DONE_H
#define XF_CRYPTO_DONE_H

#include <xf/crypto.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XF_DONE_MAX 256 /* a power of two */

struct xf_done {
	struct xf_crypto_op *ops[XF_DONE_MAX];
	unsigned head;
	unsigned count;
};

static inline unsigned xf_done_room(const struct xf_done *done)
{
	return XF_DONE_MAX - done->count;
}

static inline void xf_done_push(struct xf_done *done, struct xf_crypto_op *op)
{
	done->ops[(done->head + done->count++) % XF_DONE_MAX] = op;
}

/* A whole batch, for which there must be room. */
static inline void xf_done_push_all(struct xf_done *done, struct xf_crypto_op *const *ops,
				    unsigned n)
{
	unsigned end = (done->head + done->count) % XF_DONE_MAX;
	unsigned first = xf_min_u32(n, XF_DONE_MAX - end);

	memcpy(&done->ops[end], ops, first * sizeof(*ops));
	memcpy(done->ops, ops + first, (n - first) * sizeof(*ops));
	done->count += n;
}

static inline unsigned xf_done_take(struct xf_done *done, struct xf_crypto_op **out, unsigned max)
{
	unsigned n = xf_min_u32(done->count, max);
	unsigned first = xf_min_u32(n, XF_DONE_MAX - done->head);

	memcpy(out, &done->ops[done->head], first * sizeof(*out));
	memcpy(out + first, done->ops, (n - first) * sizeof(*out));
	done->count -= n;
	done->head = done->count ? (done->head + n) % XF_DONE_MAX : 0;
	return n;
}

#ifdef __cplusplus
}
#endif

#endif
