/* Filters of clsact that run our programs; devices.c calls it. */
#include <errno.h>
#include <netinet/in.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>

#include "capture/programs/filters.h"
#include "host/clsact.h"

#include "tc_filter.h"

/* Of what sees IPv6 alone: another one, so that it can come before that of all protocols goes. */
#define SIX_PRIORITY (XF_TC_PRIORITY + 1u)

static struct nlmsghdr *start(struct xf_rtnl *rtnl, const struct xf_place *at, bool six, bool put)
{
	uint16_t flags = (uint16_t)(NLM_F_ACK | (put ? NLM_F_CREATE | NLM_F_REPLACE : 0));
	uint32_t parent = TC_H_MAKE(TC_H_CLSACT, at->egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
	struct nlmsghdr *msg = xf_rtnl_start_tc(rtnl, put ? RTM_NEWTFILTER : RTM_DELTFILTER, flags,
						at->ifindex, parent);
	struct tcmsg *tc = mnl_nlmsg_get_payload(msg);

	tc->tcm_handle = XF_TC_HANDLE;
	tc->tcm_info = TC_H_MAKE((six ? SIX_PRIORITY : XF_TC_PRIORITY) << 16,
				 htons(six ? ETH_P_IPV6 : ETH_P_ALL));
	mnl_attr_put_strz(msg, TCA_KIND, "bpf");
	return msg;
}

static void remove_one(struct xf_rtnl *rtnl, const struct xf_place *at, bool six)
{
	xf_rtnl_talk(rtnl, start(rtnl, at, six, false), NULL, NULL);
}

/* What takes the place of something else is there before that goes. */
int xf_filter_put(struct xf_rtnl *rtnl, const struct xf_place *at, int fd, bool six)
{
	int err = xf_clsact_make(rtnl, at->ifindex, at->egress);
	struct nlmsghdr *msg;
	struct nlattr *options;

	if (err)
		return err;
	msg = start(rtnl, at, six, true);
	options = mnl_attr_nest_start(msg, TCA_OPTIONS);
	mnl_attr_put_u32(msg, TCA_BPF_FD, (uint32_t)fd);
	mnl_attr_put_strz(msg, TCA_BPF_NAME, "xfrmd");
	mnl_attr_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(msg, options);
	err = xf_rtnl_talk(rtnl, msg, NULL, NULL);
	if (!err)
		remove_one(rtnl, at, !six);
	return err;
}

void xf_filter_remove(struct xf_rtnl *rtnl, const struct xf_place *at)
{
	remove_one(rtnl, at, false);
	remove_one(rtnl, at, true);
}
