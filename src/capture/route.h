/*
 * route.h - what has the capture bit goes into the TUN: an ip rule, and its table.
 *
 * Control thread. Functions return 0 or -errno with a sentence in @error.
 */
#ifndef XF_CAPTURE_ROUTE_H
#define XF_CAPTURE_ROUTE_H

#include "io/io.h"

/* The TUN must be there. What stands already is no error. */
int xf_capture_route_add(const struct xf_io_names *names, struct xf_io_error *error);

/* Everything that is there goes; what is not there is no error. */
int xf_capture_route_del(const struct xf_io_names *names, struct xf_io_error *error);

/* Has this host the address family? Without, there are no rules and routes of it. */
bool xf_capture_has_ipv6(void);

#endif
