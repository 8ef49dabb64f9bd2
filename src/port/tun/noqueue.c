/* Takes the TUN's default queueing discipline away; tun.c calls it when the device is set up. */
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "host/rtnl.h"
#include "port/tun/noqueue.h"

static struct nlmsghdr *start(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags, int ifindex)
{
	return xf_rtnl_start_tc(rtnl, type, (uint16_t)(NLM_F_ACK | flags), ifindex, TC_H_ROOT);
}

/* One that a device gets by itself has no handle. */
static int see(const struct nlmsghdr *msg, void *arg)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(msg);
	bool *by_itself = arg;

	if (msg->nlmsg_type == RTM_NEWQDISC)
		*by_itself = tc->tcm_handle == 0;
	return MNL_CB_OK;
}

void xf_noqueue_make(int ifindex)
{
	struct xf_rtnl rtnl;
	struct nlmsghdr *msg;
	bool by_itself = false;

	if (xf_rtnl_open(&rtnl, NULL))
		return;
	/* The answer comes to who asks for an echo. */
	xf_rtnl_talk(&rtnl, start(&rtnl, RTM_GETQDISC, NLM_F_ECHO, ifindex), see, &by_itself);
	if (by_itself) {
		msg = start(&rtnl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, ifindex);
		mnl_attr_put_strz(msg, TCA_KIND, "noqueue");
		xf_rtnl_talk(&rtnl, msg, NULL, NULL);
	}
	xf_rtnl_close(&rtnl);
}
