#include <errno.h>
#include <linux/rtnetlink.h>

#include "host/rtnl.h"

int xf_rtnl_open_bus(struct xf_rtnl *rtnl, int bus, struct xf_io_error *error)
{
	int err;

	rtnl->seq = 0;
	rtnl->socket = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (rtnl->socket && mnl_socket_bind(rtnl->socket, 0, MNL_SOCKET_AUTOPID) == 0)
		return 0;
	err = -errno;
	xf_rtnl_close(rtnl);
	return xf_io_fail(error, err, "cannot open a netlink socket");
}

int xf_rtnl_open(struct xf_rtnl *rtnl, struct xf_io_error *error)
{
	return xf_rtnl_open_bus(rtnl, NETLINK_ROUTE, error);
}

void xf_rtnl_close(struct xf_rtnl *rtnl)
{
	if (rtnl->socket)
		mnl_socket_close(rtnl->socket);
	rtnl->socket = NULL;
}

struct nlmsghdr *xf_rtnl_start(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(rtnl->buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	msg->nlmsg_seq = ++rtnl->seq;
	return msg;
}

struct nlmsghdr *xf_rtnl_start_tc(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags, int ifindex,
				  uint32_t parent)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, type, flags);
	struct tcmsg *tc = mnl_nlmsg_put_extra_header(msg, sizeof(*tc));

	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = ifindex;
	tc->tcm_parent = parent;
	return msg;
}

int xf_rtnl_talk(struct xf_rtnl *rtnl, struct nlmsghdr *msg, mnl_cb_t visit, void *arg)
{
	unsigned portid = mnl_socket_get_portid(rtnl->socket);
	uint32_t seq = msg->nlmsg_seq;
	int more = 1;

	if (mnl_socket_sendto(rtnl->socket, msg, msg->nlmsg_len) < 0)
		return -errno;
	while (more > 0) {
		ssize_t len = mnl_socket_recvfrom(rtnl->socket, rtnl->buf, sizeof(rtnl->buf));

		if (len < 0)
			return -errno;
		more = mnl_cb_run(rtnl->buf, (size_t)len, seq, portid, visit, arg);
	}
	return more < 0 ? -errno : 0;
}
