/*
 * link.h - the shim's side of proto.h: open a netlink socket at the daemon, talk over it.
 *
 * Any thread; no lock is held while waiting. Functions return 0 or -errno; those that open say
 * in one sentence on stderr why they cannot.
 */
#ifndef XF_SHIM_LINK_H
#define XF_SHIM_LINK_H

#include "proto.h"
#include "peer.h"

/* A netlink socket served by this namespace's daemon: a descriptor (close-on-exec) or -errno. */
int xf_shim_open(void);

/* The daemon's bypass mark, asked for once. */
int xf_shim_bypass_mark(uint32_t *out);

/* The same, 0 when it has not been asked for yet. */
uint32_t xf_shim_known_mark(void);

/*
 * Send @msg, with the @niov pieces of @iov behind it, and wait until the daemon has dealt with
 * it. Returns its status, or -ECONNREFUSED (there is no daemon any more), -ETIMEDOUT (it does not
 * answer), -EMSGSIZE. @value may be NULL.
 */
int xf_shim_call(int fd, const struct xf_shim_msg *msg, const struct iovec *iov, size_t niov,
		 uint32_t *value);

#endif
