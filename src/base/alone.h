/*
 * alone.h - counters in objects that workers share.
 *
 * A locked add waits for everything that was stored before it, and while it waits for its own cache
 * line nothing behind it begins. One worker needs none. Threads: xf_set_alone() is called before
 * the first worker starts; the rest is for workers.
 */
#ifndef XF_BASE_ALONE_H
#define XF_BASE_ALONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Constant while there are workers. */
extern bool xf_alone;

/* What the control thread sets while the only worker counts may then keep the worker's value. */
static inline void xf_shared_add(_Atomic uint64_t *counter, uint64_t n)
{
	if (xf_alone)
		atomic_store_explicit(counter,
				      atomic_load_explicit(counter, memory_order_relaxed) + n,
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
