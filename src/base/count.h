/*
 * count.h - counters that one thread writes and others read.
 */
#ifndef XF_BASE_COUNT_H
#define XF_BASE_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

/* For the one thread that writes @counter: no locked instruction. */
static inline void xf_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

#endif
