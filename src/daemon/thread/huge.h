/*
 * huge.h - large tables on huge pages, where the kernel has them.
 *
 * Call xf_huge_memory_init() before the first table; then see xf/huge.h.
 */
#ifndef XF_DAEMON_HUGE_H
#define XF_DAEMON_HUGE_H

#include <xf/huge.h>

/* Make xf_huge_alloc() ask for huge pages. What is freed goes back to the kernel at once. */
void xf_huge_memory_init(void);

#endif
