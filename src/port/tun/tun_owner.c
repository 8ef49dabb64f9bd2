/*
 * Who may attach to the TUN, besides whoever has CAP_NET_ADMIN: its owner; anybody, while it has
 * none (drivers/net/tun.c: tun_not_capable()). What comes out of it is plaintext, and what goes in
 * is believed. tun.c calls it before the first packet.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host/rtnl.h"
#include "port/backend.h"

/* What the kernel tells of the device (Linux 4.18; before that nothing). */
struct facts {
	bool owned; /* by us */
	uint32_t queues; /* attached or put aside, ours among them */
};

static int tun_attr(const struct nlattr *attr, void *arg)
{
	struct facts *facts = arg;
	uint32_t value = mnl_attr_get_payload_len(attr) == 4 ? mnl_attr_get_u32(attr) : 0;

	switch (mnl_attr_get_type(attr)) {
	case IFLA_TUN_OWNER:
		facts->owned = value == geteuid();
		break;
	case IFLA_TUN_NUM_QUEUES:
	case IFLA_TUN_NUM_DISABLED_QUEUES:
		facts->queues += value;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int info_attr(const struct nlattr *attr, void *arg)
{
	return mnl_attr_get_type(attr) == IFLA_INFO_DATA
		       ? mnl_attr_parse_nested(attr, tun_attr, arg)
		       : MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	return mnl_attr_get_type(attr) == IFLA_LINKINFO
		       ? mnl_attr_parse_nested(attr, info_attr, arg)
		       : MNL_CB_OK;
}

static int see_link(const struct nlmsghdr *msg, void *arg)
{
	if (msg->nlmsg_type == RTM_NEWLINK)
		mnl_attr_parse(msg, sizeof(struct ifinfomsg), link_attr, arg);
	return MNL_CB_OK;
}

static struct nlmsghdr *start_message(struct xf_rtnl *rtnl, uint16_t type, unsigned ifindex)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, type, NLM_F_ACK);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifi_index = (int)ifindex;
	return msg;
}

static int look(struct xf_rtnl *rtnl, unsigned ifindex, struct facts *out)
{
	*out = (struct facts){ .owned = false };
	return xf_rtnl_talk(rtnl, start_message(rtnl, RTM_GETLINK, ifindex), see_link, out);
}

/*
 * Whoever attached before there was an owner stays attached: the device goes, and his queue with
 * it. An owner that is there already has kept others out.
 */
static int own(struct xf_rtnl *rtnl, int fd, unsigned ifindex)
{
	struct facts facts;
	int err = look(rtnl, ifindex, &facts);

	if (err || facts.owned)
		return err;
	if (ioctl(fd, TUNSETOWNER, (unsigned long)geteuid()) < 0)
		return -errno;
	err = look(rtnl, ifindex, &facts);
	if (err || facts.queues <= 1)
		return err;
	err = xf_rtnl_talk(rtnl, start_message(rtnl, RTM_DELLINK, ifindex), NULL, NULL);
	return err ? err : -EAGAIN;
}

int xf_tun_own(int fd, const char *name, struct xf_io_error *error)
{
	unsigned ifindex = if_nametoindex(name);
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	err = own(&rtnl, fd, ifindex);
	xf_rtnl_close(&rtnl);
	if (err == -EAGAIN)
		return xf_io_fail(error, err, "another program is attached to %s", name);
	return err ? xf_io_fail(error, err, "cannot keep others from %s", name) : 0;
}
