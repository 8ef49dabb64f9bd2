/*
 * mem.h - where SAs stand: slots of one size, side by side on large pages.
 *
 * With thousands of SAs in turn, each on a small page of its own costs a TLB miss beside each
 * cache miss. Under sanitizers each SA is on the heap by itself (mem_heap.c), so that they see who
 * uses one that is gone.
 *
 * Threads: any; a lock is held for a few instructions, but for taking and giving back large pieces.
 */
#ifndef XF_SAD_MEM_H
#define XF_SAD_MEM_H

#include "sad/sa.h"

/* Room for one SA, aligned to a cache line and zero, or NULL. */
struct xf_sa *xf_sa_mem_get(void);

/* Give it back, wiped. */
void xf_sa_mem_put(struct xf_sa *sa);

#endif
