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

static inline unsigned xf_done_take(struct xf_done *done, struct xf_crypto_op **out, unsigned max)
{
	unsigned n = done->count < max ? done->count : max;

	for (unsigned i = 0; i < n; i++)
		out[i] = done->ops[done->head++ % XF_DONE_MAX];
	done->count -= n;
	return n;
}

#ifdef __cplusplus
}
#endif

#endif
