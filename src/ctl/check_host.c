/*
 * Looks at what is not nftables: settings, devices and the programs on them, ip rules, and XFRM of
 * the kernel itself; check.c calls it.
 */
#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/programs/devices.h"
#include "check.h"
#include "host/link.h"
#include "host/rtnl.h"

#include "tc_filter.h"

#define DEVICES_MAX 4096

/* --- settings --- */

static int rp_filter_of(const char *device)
{
	char path[128];
	FILE *f;
	int value = 0;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", device);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%d", &value) != 1)
			value = 0;
		fclose(f);
	}
	return value;
}

/* Linux takes the larger one. */
static void check_rp_filter(struct xf_check *check)
{
	int all = rp_filter_of("all");
	int tun = rp_filter_of(check->tun);

	if ((all > tun ? all : tun) == 1)
		xf_check_add(check, XF_CHECK_RP_FILTER, "rp_filter of %s is strict (all %d, %s %d)",
			     check->tun, all, check->tun, tun);
}

/* --- devices --- */

struct device {
	int ifindex;
	char name[IFNAMSIZ];
	bool is_vrf;
};

struct devices {
	struct device *list;
	unsigned count;
};

static int see_device(const struct nlmsghdr *msg, void *arg)
{
	struct devices *devices = arg;
	struct xf_link link;

	if (devices->count < DEVICES_MAX && xf_link_read(msg, &link)) {
		struct device *device = &devices->list[devices->count++];

		device->ifindex = link.ifindex;
		snprintf(device->name, sizeof(device->name), "%s", link.name);
		device->is_vrf = !strcmp(link.kind, "vrf");
	}
	return MNL_CB_OK;
}

/* Filters run by their priority, those of one priority the newest first. */
static int see_filter(const struct nlmsghdr *msg, void *arg)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	bool *found = arg;

	if (msg->nlmsg_type == RTM_NEWTFILTER && tcm->tcm_info >> 16 <= XF_TC_PRIORITY &&
	    tcm->tcm_handle && tcm->tcm_handle != XF_TC_HANDLE)
		*found = true;
	return MNL_CB_OK;
}

static bool has_filter_before(struct xf_rtnl *rtnl, int ifindex)
{
	struct nlmsghdr *msg = xf_rtnl_start_tc(rtnl, RTM_GETTFILTER, NLM_F_DUMP, ifindex,
						TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS));
	bool found = false;

	xf_rtnl_talk(rtnl, msg, see_filter, &found);
	return found;
}

/* Links run before filters. Whose they are is known to root alone. */
static bool has_program_before(struct xf_rtnl *rtnl, int ifindex)
{
	struct xf_tcx_seen seen;

	if (xf_tcx_query((uint32_t)ifindex, XF_TCX_EGRESS, &seen) == 0 && seen.n) {
		for (unsigned i = 0; i < seen.n; i++) {
			int ours = xf_tcx_is_named(seen.prog[i], XF_BPF_EGRESS);

			if (ours)
				return ours > 0 && i > 0;
		}
		return true;
	}
	return has_filter_before(rtnl, ifindex);
}

static void check_devices(struct xf_check *check, struct xf_rtnl *rtnl)
{
	struct devices devices = { .list = calloc(DEVICES_MAX, sizeof(struct device)) };
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETLINK, NLM_F_DUMP);

	if (!devices.list)
		return;
	mnl_nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg));
	xf_rtnl_talk(rtnl, msg, see_device, &devices);
	for (unsigned i = 0; i < devices.count; i++) {
		const struct device *device = &devices.list[i];

		if (device->is_vrf)
			xf_check_add(check, XF_CHECK_VRF, "%s is a VRF", device->name);
		if (strcmp(device->name, check->tun) != 0 &&
		    has_program_before(rtnl, device->ifindex))
			xf_check_add(check, XF_CHECK_PROGRAM,
				     "another program is at tc egress of %s", device->name);
	}
	free(devices.list);
}

/* --- ip rules --- */

struct rule {
	uint32_t priority;
	uint32_t mark;
	uint32_t mask;
};

static int rule_attr(const struct nlattr *attr, void *arg)
{
	struct rule *rule = arg;
	uint32_t value = mnl_attr_get_payload_len(attr) == 4 ? mnl_attr_get_u32(attr) : 0;

	if (mnl_attr_get_type(attr) == FRA_PRIORITY)
		rule->priority = value;
	else if (mnl_attr_get_type(attr) == FRA_FWMARK)
		rule->mark = value;
	else if (mnl_attr_get_type(attr) == FRA_FWMASK)
		rule->mask = value;
	return MNL_CB_OK;
}

/* Rules of one family, in the order in which the kernel asks them. */
struct rules {
	struct xf_check *check;
	struct rule first; /* of those that may take what is captured ... */
	bool any; /* ... there is one */
};

static const char *family_name(const struct fib_rule_hdr *hdr)
{
	return hdr->family == AF_INET6 ? "IPv6" : "IPv4";
}

/* What is for this host comes first, and rules for packets without our bit take none of ours. */
static void note_order(struct rules *rules, const struct fib_rule_hdr *hdr, const struct rule *rule)
{
	uint32_t capture = rules->check->mark_capture;
	bool inverted = hdr->flags & FIB_RULE_INVERT;
	bool with_bit = rule->mark & capture;

	if (rules->any || hdr->table == RT_TABLE_LOCAL ||
	    ((rule->mask & capture) && with_bit == inverted))
		return;
	rules->first = *rule;
	rules->any = true;
}

static void check_order(const struct rules *rules, const struct fib_rule_hdr *hdr,
			const struct rule *ours)
{
	if (rules->any)
		xf_check_add(rules->check, XF_CHECK_RULE_ORDER,
			     "the %s rule of priority %u is asked before xfrmd's (%u)",
			     family_name(hdr), rules->first.priority, ours->priority);
}

/* "not fwmark 1" takes packets with our bits as it takes those without. */
static int see_rule(const struct nlmsghdr *msg, void *arg)
{
	const struct fib_rule_hdr *hdr = mnl_nlmsg_get_payload(msg);
	struct rules *rules = arg;
	struct xf_check *check = rules->check;
	uint32_t ours = check->mark_capture | check->mark_bypass;
	struct rule rule = { .mask = 0 };

	mnl_attr_parse(msg, sizeof(*hdr), rule_attr, &rule);
	if (rule.mark == check->mark_capture && rule.mask == check->mark_capture) {
		check_order(rules, hdr, &rule);
		return MNL_CB_OK;
	}
	note_order(rules, hdr, &rule);
	if ((rule.mask & ours) && !((hdr->flags & FIB_RULE_INVERT) && !(rule.mark & ours)))
		xf_check_add(
			check, XF_CHECK_IP_RULE,
			"the %s rule of priority %u asks for mark 0x%x/0x%x, which has xfrmd's "
			"0x%x",
			family_name(hdr), rule.priority, rule.mark, rule.mask, rule.mask & ours);
	return MNL_CB_OK;
}

static void check_rules(struct xf_check *check, struct xf_rtnl *rtnl)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };

	for (unsigned i = 0; i < XF_ARRAY_SIZE(families); i++) {
		struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETRULE, NLM_F_DUMP);
		struct rules rules = { .check = check };
		struct fib_rule_hdr *hdr = mnl_nlmsg_put_extra_header(msg, sizeof(*hdr));

		hdr->family = families[i];
		xf_rtnl_talk(rtnl, msg, see_rule, &rules);
	}
}

/* --- the kernel's own XFRM --- */

struct found {
	unsigned policies;
	unsigned sas;
};

/* Policies of sockets have directions above fwd: IKE daemons have them for themselves. */
static int see_xfrm(const struct nlmsghdr *msg, void *arg)
{
	const struct xfrm_userpolicy_info *policy = mnl_nlmsg_get_payload(msg);
	struct found *found = arg;

	if (msg->nlmsg_type == XFRM_MSG_NEWSA)
		found->sas++;
	else if (msg->nlmsg_type == XFRM_MSG_NEWPOLICY)
		found->policies += policy->dir < XFRM_POLICY_MAX;
	return MNL_CB_OK;
}

/* A kernel without XFRM has no such sockets. */
static void check_kernel(struct xf_check *check)
{
	static const uint16_t dumps[] = { XFRM_MSG_GETPOLICY, XFRM_MSG_GETSA };
	struct found found = { 0 };
	struct xf_rtnl rtnl;

	if (xf_rtnl_open_bus(&rtnl, NETLINK_XFRM, NULL))
		return;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(dumps); i++)
		xf_rtnl_talk(&rtnl, xf_rtnl_start(&rtnl, dumps[i], NLM_F_DUMP), see_xfrm, &found);
	xf_rtnl_close(&rtnl);
	if (found.policies || found.sas)
		xf_check_add(check, XF_CHECK_KERNEL,
			     "the kernel's own XFRM holds %u policies and %u SAs", found.policies,
			     found.sas);
}

void xf_check_host(struct xf_check *check)
{
	struct xf_rtnl rtnl;

	check_rp_filter(check);
	check_kernel(check);
	if (xf_rtnl_open(&rtnl, NULL))
		return;
	check_devices(check, &rtnl);
	check_rules(check, &rtnl);
	xf_rtnl_close(&rtnl);
}
