/*
 * alone.h - counters in objects that workers share.
 *
 * A locked add waits for everything that was stored before it, and while it waits for its own cache
 * line nothing behind it begins. One worker needs none. For workers.
 */
#ifndef XF_BASE_ALONE_H
#define XF_BASE_ALONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* @alone: no other worker adds to @counter. What the control thread sets at the same time may then
 * keep this worker's value. */
static inline void xf_shared_add(_Atomic uint64_t *counter, uint64_t n, bool alone)
{
	if (alone)
		atomic_store_explicit(counter,
				      atomic_load_explicit(counter, memory_order_relaxed) + n,
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
