/*
 * clsact.h - the queueing discipline that filters at a device's ingress and egress hang on.
 *
 * Of the place that it has at a device there is one. Somebody's discipline of kind "ingress" may be
 * there instead: filters for egress that are added then see what comes, not what leaves.
 *
 * Control thread.
 */
#ifndef XF_HOST_CLSACT_H
#define XF_HOST_CLSACT_H

#include "host/rtnl.h"

/*
 * It is there from now on. @egress: filters for that are meant. Returns 0 or -errno; -EBUSY: there
 * is one of another kind, which has no egress.
 */
int xf_clsact_make(struct xf_rtnl *rtnl, int ifindex, bool egress);

#endif
