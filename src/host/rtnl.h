/*
 * rtnl.h - requests to rtnetlink, with the kernel's answer.
 *
 * A socket of its own for each call's duration is not needed: struct xf_rtnl is one, used by the
 * control thread. Functions return 0 or -errno.
 */
#ifndef XF_HOST_RTNL_H
#define XF_HOST_RTNL_H

#include <libmnl/libmnl.h>

#include "host/names.h"

#define XF_RTNL_BUF 8192
/* What a socket that follows events may hold. */
#define XF_RTNL_EVENT_BYTES (1 << 20)

struct xf_rtnl {
	struct mnl_socket *socket;
	uint32_t seq;
	uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
};

int xf_rtnl_open(struct xf_rtnl *rtnl, struct xf_io_error *error);
/* The same to another netlink family than rtnetlink, of the same habits. */
int xf_rtnl_open_bus(struct xf_rtnl *rtnl, int bus, struct xf_io_error *error);
void xf_rtnl_close(struct xf_rtnl *rtnl);

/* Start a message of @type with @flags in rtnl->buf; the caller adds the rest. */
struct nlmsghdr *xf_rtnl_start(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags);

/* The same about queueing disciplines and filters: those of @ifindex at @parent (TC_H_...). */
struct nlmsghdr *xf_rtnl_start_tc(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags, int ifindex,
				  uint32_t parent);

/* Send it; @visit sees each answer (a dump's messages, a get's one), then the error is returned. */
int xf_rtnl_talk(struct xf_rtnl *rtnl, struct nlmsghdr *msg, mnl_cb_t visit, void *arg);

#endif
