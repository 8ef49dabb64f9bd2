/*
 * heap.h - what is due next: a binary heap of deadlines, intrusive.
 *
 * A node sits in at most one heap; all zero is a node outside. Owned by one thread. Only
 * xf_heap_reserve() allocates, so that adding what was reserved cannot fail.
 */
#ifndef XF_HEAP_H
#define XF_HEAP_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_heap_node {
	uint64_t due_ns;
	size_t pos; /* 1-based place in the heap, 0 = outside */
};

/* All zero is an empty heap. */
struct xf_heap {
	struct xf_heap_node **nodes;
	size_t count;
	size_t capacity;
};

void xf_heap_fini(struct xf_heap *heap);

/* Make room for @count nodes in all: 0 or -ENOMEM. */
int xf_heap_reserve(struct xf_heap *heap, size_t count);

/* No more than @count nodes are to be expected: give back what is far too much. */
void xf_heap_trim(struct xf_heap *heap, size_t count);

/* Add @node, or move it: it is due at @due_ns. There must be room. */
void xf_heap_set(struct xf_heap *heap, struct xf_heap_node *node, uint64_t due_ns);

/* Take @node out; one outside is left alone. */
void xf_heap_del(struct xf_heap *heap, struct xf_heap_node *node);

/* The node that is due first, or NULL. */
static inline struct xf_heap_node *xf_heap_first(const struct xf_heap *heap)
{
	return heap->count ? heap->nodes[0] : NULL;
}

#ifdef __cplusplus
}
#endif

#endif
