/*
 * The ip rule for packets with the capture bit and the table that it leads to; kernel.c calls it.
 */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <unistd.h>

#include "capture/ops.h"
#include "capture/repair/route.h"
#include "host/rtnl.h"

static const uint8_t families[] = { AF_INET, AF_INET6 };

/*
 * "packets with the capture bit: table N", in front of main and behind local, so that what is for
 * this host stays here. There already is what is wanted. @place 0: one goes, wherever it is.
 */
static int change_rule(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family,
		       bool add, uint32_t place)
{
	struct nlmsghdr *msg =
		xf_rtnl_start(rtnl, add ? RTM_NEWRULE : RTM_DELRULE,
			      (uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0)));
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(msg, sizeof(*rule));
	int err;

	rule->family = family;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(msg, FRA_TABLE, names->table);
	if (place)
		mnl_attr_put_u32(msg, FRA_PRIORITY, place);
	mnl_attr_put_u32(msg, FRA_FWMARK, names->mark_capture);
	mnl_attr_put_u32(msg, FRA_FWMASK, names->mark_capture);
	mnl_attr_put_u8(msg, FRA_PROTOCOL, RTPROT_STATIC);
	err = xf_rtnl_talk(rtnl, msg, NULL, NULL);
	return add && err == -EEXIST ? 0 : err;
}

/*
 * The default route of table N: the TUN, and behind it a black hole, so that a packet to be
 * captured goes nowhere else while the TUN is down or when its socket is bound to a device.
 */
static int change_route(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family,
			unsigned ifindex, bool add)
{
	struct nlmsghdr *msg =
		xf_rtnl_start(rtnl, add ? RTM_NEWROUTE : RTM_DELROUTE,
			      (uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0)));
	struct rtmsg *route = mnl_nlmsg_put_extra_header(msg, sizeof(*route));

	route->rtm_family = family;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = ifindex ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	route->rtm_type = ifindex ? RTN_UNICAST : RTN_BLACKHOLE;
	mnl_attr_put_u32(msg, RTA_TABLE, names->table);
	mnl_attr_put_u32(msg, RTA_PRIORITY, ifindex ? XF_METRIC_TUN : XF_METRIC_BLACK_HOLE);
	if (ifindex)
		mnl_attr_put_u32(msg, RTA_OIF, ifindex);
	return xf_rtnl_talk(rtnl, msg, NULL, NULL);
}

/* Who has put them there may just have taken them away. */
static int delete_strangers(struct xf_rtnl *rtnl, const struct xf_route_seen *seen)
{
	int err = 0;

	for (size_t at = 0; !err && at < seen->strangers_len;) {
		const struct nlmsghdr *told = (const void *)(seen->strangers + at);
		struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_DELROUTE, NLM_F_ACK);
		size_t len = mnl_nlmsg_get_payload_len(told);

		at += XF_ROUTE_ALIGN(told->nlmsg_len);
		if (len > sizeof(rtnl->buf) / 2)
			return -EMSGSIZE;
		memcpy(mnl_nlmsg_put_extra_header(msg, len), mnl_nlmsg_get_payload(told), len);
		err = xf_rtnl_talk(rtnl, msg, NULL, NULL);
		err = err == -ESRCH ? 0 : err;
	}
	return err;
}

/* Without the TUN what is captured goes into the black hole, nowhere else. */
static int route_family(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family)
{
	unsigned ifindex = if_nametoindex(names->tun);
	int err = change_route(rtnl, names, family, 0, true);
	struct xf_route_seen seen;

	if (err)
		return err;
	err = xf_route_look(names, family, ifindex, &seen);
	if (!err)
		err = change_rule(rtnl, names, family, true,
				  xf_route_place(&seen, names->rule_priority));
	if (!err && !ifindex)
		err = -ENODEV;
	if (!err)
		err = change_route(rtnl, names, family, ifindex, true);
	if (!err)
		err = delete_strangers(rtnl, &seen);
	xf_route_seen_fini(&seen);
	return err;
}

bool xf_capture_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void sum_up(const struct xf_route_seen *seen, const struct xf_io_names *names,
		   struct xf_capture_seen *out)
{
	bool there = xf_route_has_rule(seen, names->rule_priority);
	bool taken = seen->taker <= names->rule_priority && seen->taker < seen->ours;

	out->rule = out->rule && there;
	out->rule_behind = out->rule_behind || (!there && seen->ours != XF_RULE_NONE);
	out->route = out->route && seen->into_tun && seen->black_hole && !seen->strangers;
	out->strangers = out->strangers || seen->strangers;
	if (there && taken)
		out->taker = seen->taker;
}

int xf_capture_route_look(const struct xf_io_names *names, unsigned ifindex,
			  struct xf_capture_seen *out)
{
	int err = 0;

	out->rule = out->route = true;
	out->taker = XF_RULE_NONE;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(families) && !err; i++) {
		struct xf_route_seen seen;

		if (families[i] == AF_INET6 && !xf_capture_has_ipv6())
			continue;
		err = xf_route_look(names, families[i], ifindex, &seen);
		sum_up(&seen, names, out);
		xf_route_seen_fini(&seen);
	}
	return err;
}

int xf_capture_route_add(const struct xf_io_names *names, struct xf_io_error *error)
{
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	for (unsigned i = 0; !err && i < XF_ARRAY_SIZE(families); i++) {
		if (families[i] == AF_INET6 && !xf_capture_has_ipv6())
			continue;
		err = route_family(&rtnl, names, families[i]);
		if (err)
			xf_io_fail(error, err, "cannot route captured IPv%d packets to %s",
				   families[i] == AF_INET ? 4 : 6, names->tun);
	}
	xf_rtnl_close(&rtnl);
	return err;
}

static void delete_rules(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family)
{
	while (change_rule(rtnl, names, family, false, 0) == 0)
		;
}

static void delete_routes(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family,
			  unsigned ifindex)
{
	if (ifindex)
		change_route(rtnl, names, family, ifindex, false);
	change_route(rtnl, names, family, 0, false);
}

int xf_capture_route_del(const struct xf_io_names *names, struct xf_io_error *error)
{
	unsigned ifindex = if_nametoindex(names->tun);
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(families); i++) {
		delete_rules(&rtnl, names, families[i]);
		delete_routes(&rtnl, names, families[i], ifindex);
	}
	xf_rtnl_close(&rtnl);
	return 0;
}

static void forget(struct xf_rtnl *rtnl, const struct xf_io_names *former,
		   const struct xf_io_names *now, uint8_t family)
{
	if (former->table != now->table || former->mark_capture != now->mark_capture)
		delete_rules(rtnl, former, family);
	else if (former->rule_priority != now->rule_priority)
		change_rule(rtnl, former, family, false, former->rule_priority);
	if (former->table != now->table)
		delete_routes(rtnl, former, family, if_nametoindex(now->tun));
}

/* While the earlier rule stood, ours had to stand before it. */
static void trim_rules(struct xf_rtnl *rtnl, const struct xf_io_names *names, uint8_t family)
{
	for (bool more = true; more;) {
		struct xf_route_seen seen;
		int err = xf_route_look(names, family, 0, &seen);

		more = !err && seen.ours < xf_route_place(&seen, names->rule_priority) &&
		       change_rule(rtnl, names, family, false, seen.ours) == 0;
		xf_route_seen_fini(&seen);
	}
}

int xf_capture_route_forget(const struct xf_io_names *former, const struct xf_io_names *now,
			    struct xf_io_error *error)
{
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(families); i++)
		forget(&rtnl, former, now, families[i]);
	err = xf_capture_route_add(now, error);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(families) && !err; i++)
		trim_rules(&rtnl, now, families[i]);
	xf_rtnl_close(&rtnl);
	return err;
}
