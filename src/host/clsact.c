/* The queueing discipline clsact; whoever has filters at devices calls it: meta.c, capture. */
#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "host/clsact.h"

#define KIND "clsact"

static struct nlmsghdr *start(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags, int ifindex)
{
	return xf_rtnl_start_tc(rtnl, type, (uint16_t)(NLM_F_ACK | flags), ifindex, TC_H_CLSACT);
}

static int add(struct xf_rtnl *rtnl, int ifindex)
{
	struct nlmsghdr *msg = start(rtnl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex);
	struct tcmsg *tc = mnl_nlmsg_get_payload(msg);

	tc->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(msg, TCA_KIND, KIND);
	return xf_rtnl_talk(rtnl, msg, NULL, NULL);
}

static int kind_attr(const struct nlattr *attr, void *arg)
{
	bool *ours = arg;

	if (mnl_attr_get_type(attr) == TCA_KIND &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*ours = strcmp(mnl_attr_get_str(attr), KIND) == 0;
	return MNL_CB_OK;
}

static int see(const struct nlmsghdr *msg, void *arg)
{
	if (msg->nlmsg_type == RTM_NEWQDISC)
		mnl_attr_parse(msg, sizeof(struct tcmsg), kind_attr, arg);
	return MNL_CB_OK;
}

/* The answer is one to listeners, and comes to who asks for an echo. What is there may have gone
 * meanwhile: then -ENOENT. */
static int look(struct xf_rtnl *rtnl, int ifindex)
{
	bool ours = false;
	int err = xf_rtnl_talk(rtnl, start(rtnl, RTM_GETQDISC, NLM_F_ECHO, ifindex), see, &ours);

	return err ? err : ours ? 0 : -EBUSY;
}

int xf_clsact_make(struct xf_rtnl *rtnl, int ifindex, bool egress)
{
	int err = add(rtnl, ifindex);

	if (err != -EEXIST)
		return err;
	return egress ? look(rtnl, ifindex) : 0;
}
