/*
 * filters.h - programs at devices by filters of clsact, with a handle of our own, so that an
 * upgrade replaces its own.
 *
 * Control thread; functions return 0 or -errno. A filter stays when the process goes.
 */
#ifndef XF_CAPTURE_FILTERS_H
#define XF_CAPTURE_FILTERS_H

#include "host/rtnl.h"

/* One side of a device. */
struct xf_place {
	int ifindex;
	bool egress;
};

/*
 * The program @fd is there from now on, in place of another one; @six: what is IPv4 passes it.
 * -EBUSY, -EOPNOTSUPP: what somebody else has put there leaves no room for our filters.
 */
int xf_filter_put(struct xf_rtnl *rtnl, const struct xf_place *at, int fd, bool six);

/* None of ours is there from now on. */
void xf_filter_remove(struct xf_rtnl *rtnl, const struct xf_place *at);

#endif
