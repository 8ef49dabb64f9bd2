/*
 * huge.h - memory for large tables that are read at random.
 *
 * The engine makes no system call, so whoever embeds it says where such memory comes from: huge
 * pages, because a table of many megabytes on small ones costs a TLB miss beside each cache miss.
 * The default is the heap.
 *
 * Threads: set once before the first table; alloc and free come from the control thread.
 */
#ifndef XF_HUGE_H
#define XF_HUGE_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* @alloc returns zeroed memory, aligned to a cache line, or NULL. */
struct xf_huge_ops {
	void *(*alloc)(void *arg, size_t size);
	void (*free)(void *arg, void *mem, size_t size);
	void *arg;
};
void xf_huge_set_ops(const struct xf_huge_ops *ops);

void *xf_huge_alloc(size_t size);

/* @size as it was asked for. NULL is allowed. */
void xf_huge_free(void *mem, size_t size);

#ifdef __cplusplus
}
#endif

#endif
