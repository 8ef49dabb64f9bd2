/*
 * slab.h - objects of one size side by side on large pages.
 *
 * With thousands of them in turn, each on a small page of its own costs a TLB miss beside each
 * cache miss. Slabs double up to 2 MB, so a few objects take little, and are given back when
 * nothing of them is used any more, but for the last. Under sanitizers each object is on the heap
 * by itself (slab_heap.c), so that they see who uses one that is gone.
 *
 * Whoever owns objects of a kind has its struct xf_slabs, and with it the memory goes.
 *
 * Threads: any; a lock is held for a few instructions, but for taking and giving back slabs.
 */
#ifndef XF_BASE_SLAB_H
#define XF_BASE_SLAB_H

#include <xf/spin.h>

/* All zero but for the size: no objects yet. */
struct xf_slabs {
	uint32_t object_bytes; /* constant */
	struct xf_spin lock;
	struct xf_slab *open; /* those with free slots, the one last given something first */
	uint32_t count;
	uint32_t made; /* so many were there, those that have gone included */
	size_t used; /* objects */
};

/* Zero and aligned to a cache line, or NULL. */
void *xf_slab_get(struct xf_slabs *slabs);
void xf_slab_put(struct xf_slabs *slabs, void *object);

/* The place of @object, which no other has as long as it is used. */
uint64_t xf_slab_place(const struct xf_slabs *slabs, void *object);

/* The end, when every object was put. */
void xf_slabs_fini(struct xf_slabs *slabs);

#endif
