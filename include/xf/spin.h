/*
 * spin.h - a lock that is held for a few instructions, never over a wait or a system call.
 *
 * Threads: any. All zero: free.
 */
#ifndef XF_SPIN_H
#define XF_SPIN_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xf_spin {
	uint32_t taken;
};

/* Tell the core that this thread waits for another one. */
#if defined(__x86_64__) || defined(__i386__)
#define XF_SPIN_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define XF_SPIN_RELAX() __asm__ volatile("yield")
#else
#define XF_SPIN_RELAX() ((void)0)
#endif

static inline void xf_spin_lock(struct xf_spin *lock)
{
	while (__atomic_exchange_n(&lock->taken, 1, __ATOMIC_ACQUIRE))
		XF_SPIN_RELAX();
}

static inline void xf_spin_unlock(struct xf_spin *lock)
{
	__atomic_store_n(&lock->taken, 0, __ATOMIC_RELEASE);
}

#ifdef __cplusplus
}
#endif

#endif
