/*
 * secret.h - memory for keys: locked, left out of core dumps, wiped when it is given back.
 *
 * Any thread. Call xf_secret_memory_init() before the first key.
 */
#ifndef XF_DAEMON_SECRET_H
#define XF_DAEMON_SECRET_H

#include <xf/crypto.h>

/* Make xf_secret_alloc() use locked memory. 0, or -errno when not even one block can be locked. */
int xf_secret_memory_init(void);

/* Bytes locked so far. */
size_t xf_secret_memory_locked(void);

#endif
