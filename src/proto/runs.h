/*
 * runs.h - packets of a batch by their SAs: those that follow each other with the same one are
 * worked on together.
 *
 * With thousands of SAs in turn each packet has another one, of which nothing is in the caches. So
 * SAs are fetched some packets ahead: all at once would only wait, and nothing would be worked on
 * meanwhile.
 */
#ifndef XF_PROTO_RUNS_H
#define XF_PROTO_RUNS_H

#include <xf/esp.h>

#include "sad/use.h"

#define XF_RUNS_AHEAD 8

static inline unsigned xf_runs_len(struct xf_transform_op *const *ops, unsigned n)
{
	unsigned len = 1;

	while (len < n && ops[len]->sa == ops[0]->sa)
		len++;
	return len;
}

static inline void xf_runs_fetch(struct xf_transform_op *const *ops, unsigned at, unsigned n,
				 bool out)
{
	if (at + XF_RUNS_AHEAD < n)
		xf_sa_fetch(ops[at + XF_RUNS_AHEAD]->sa, out);
}

/* @work for each run of @ops; @out: the way. */
static inline void xf_runs_each(struct xf_transform_op *const *ops, unsigned n, bool out,
				uint64_t now_ns,
				void (*work)(struct xf_sa *sa, struct xf_transform_op *const *ops,
					     unsigned n, uint64_t now_ns))
{
	unsigned len = n ? xf_runs_len(ops, n) : 0;

	if (XF_LIKELY(len == n)) {
		if (n)
			work(ops[0]->sa, ops, n, now_ns);
		return;
	}
	for (unsigned i = 0; i < n && i < XF_RUNS_AHEAD; i++)
		xf_sa_fetch(ops[i]->sa, out);
	for (unsigned i = 0; i < n; i += len) {
		xf_runs_fetch(ops, i, n, out);
		len = xf_runs_len(ops + i, n - i);
		work(ops[i]->sa, ops + i, len, now_ns);
	}
}

#endif
