/*
 * table.h - which descriptors of this process are XFRM netlink sockets of ours.
 *
 * Looked at by every hooked call, also by write() inside a signal handler, so a lookup takes no
 * lock: an atomic load for descriptors that never were ours. A descriptor may be closed behind
 * our back (a raw system call, fclose(), close_range()) and its number used again, so an entry
 * counts only while the socket behind it is still the one that was entered.
 */
#ifndef XF_SHIM_TABLE_H
#define XF_SHIM_TABLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "peer.h"

struct xf_shim_sock {
	/* Constant after xf_shim_table_add(). */
	struct xf_inode_id id; /* of the socket's inode */
	int type; /* SOCK_RAW or SOCK_DGRAM, as the program asked */
	/* Atomic. */
	_Atomic uint32_t portid; /* 0: not bound yet */
	_Atomic uint32_t groups;
	_Atomic uint32_t options; /* bit n: option n of SOL_NETLINK */
	_Atomic unsigned refs; /* entries of the table */
};

/* Our socket behind @fd, or NULL. errno stays as it was. */
struct xf_shim_sock *xf_shim_table_find(int fd);

/* @fd is a new socket of ours. 0 or -errno. */
int xf_shim_table_add(int fd, int type);

/* @to is a duplicate of @from. */
void xf_shim_table_dup(int from, int to);

#endif
