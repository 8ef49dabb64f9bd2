/*
 * acquire.h - how long a larval SA waits for its keys.
 *
 * The kernel's setting is the namespace's net.core.xfrm_acq_expires, which IKE daemons write when
 * they start (charon: 165) and which may change at any time. Call from one thread; seconds.
 */
#ifndef XF_DAEMON_ACQUIRE_H
#define XF_DAEMON_ACQUIRE_H

#include <stdint.h>

/* The kernel's default, for kernels without XFRM. */
#define XF_ACQUIRE_LIFETIME_S 30u

/* The setting of the namespace that the caller is in, to be read again and again; -1: no such. */
int xf_acquire_open(void);

/* What stands there now; XF_ACQUIRE_LIFETIME_S if @fd is -1 or holds no number. 0: for ever. */
uint32_t xf_acquire_lifetime_s(int fd);

#endif
