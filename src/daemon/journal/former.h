/*
 * former.h - by which names an earlier daemon of this network namespace has left what outlives it.
 *
 * A file in /run/xfrmd says so: with another configuration the next daemon would not find its rule
 * and table, nor would a release. Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_FORMER_H
#define XF_DAEMON_FORMER_H

#include <net/if.h>

#include "port/io.h"
#include "rundir.h"

struct xf_former {
	char tun[IF_NAMESIZE];
	struct xf_io_names names; /* its tun is the one above */
};

/* -ENOENT: there is none, or it is another namespace's. */
int xf_former_read(const struct xf_rundir *run, struct xf_former *out);
int xf_former_write(const struct xf_rundir *run, const struct xf_io_names *names);
void xf_former_remove(const struct xf_rundir *run);

#endif
