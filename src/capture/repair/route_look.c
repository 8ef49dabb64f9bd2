/*
 * Reads back ip rules and the table of captured packets: what of them is ours, and what of others
 * is in the way. Called by route.c, and by kernel.c for what is healed.
 */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#include "capture/repair/route.h"
#include "host/rtnl.h"

struct look {
	const struct xf_io_names *names;
	unsigned ifindex;
	struct xf_route_seen *out;
	bool failed;
};

static uint32_t number(const struct nlattr *attr)
{
	return mnl_attr_get_payload_len(attr) == 4 ? mnl_attr_get_u32(attr) : 0;
}

/* --- rules --- */

struct rule {
	uint32_t table;
	uint32_t priority;
	uint32_t mark;
	uint32_t mask;
	bool narrow; /* it asks for more */
};

static int rule_attr(const struct nlattr *attr, void *arg)
{
	struct rule *rule = arg;

	switch (mnl_attr_get_type(attr)) {
	case FRA_TABLE:
		rule->table = number(attr);
		break;
	case FRA_PRIORITY:
		rule->priority = number(attr);
		break;
	case FRA_FWMARK:
		rule->mark = number(attr);
		break;
	case FRA_FWMASK:
		rule->mask = number(attr);
		break;
	case FRA_SRC:
	case FRA_DST:
	case FRA_IIFNAME:
	case FRA_OIFNAME:
	case FRA_L3MDEV:
	case FRA_UID_RANGE:
	case FRA_IP_PROTO:
	case FRA_SPORT_RANGE:
	case FRA_DPORT_RANGE:
		rule->narrow = true;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* Does it leave alone what has the capture bit? */
static bool is_for_others(const struct fib_rule_hdr *hdr, const struct rule *rule, uint32_t capture)
{
	bool unlike = (rule->mask & capture) && !(rule->mark & capture);

	return unlike && !(hdr->flags & FIB_RULE_INVERT);
}

static void note_lowest(uint32_t *lowest, uint32_t priority)
{
	if (priority < *lowest)
		*lowest = priority;
}

static int see_rule(const struct nlmsghdr *msg, void *arg)
{
	const struct fib_rule_hdr *hdr = mnl_nlmsg_get_payload(msg);
	struct look *look = arg;
	const struct xf_io_names *names = look->names;
	uint32_t capture = names->mark_capture;
	struct rule rule = { 0 };

	if (msg->nlmsg_type != RTM_NEWRULE)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*hdr), rule_attr, &rule);
	if (hdr->action != FR_ACT_TO_TBL && hdr->action != FR_ACT_GOTO) {
		if (hdr->action != FR_ACT_NOP)
			note_lowest(&look->out->refuser, rule.priority);
		return MNL_CB_OK;
	}
	if (hdr->action == FR_ACT_TO_TBL && rule.table == names->table) {
		if (!rule.narrow && !(hdr->flags & FIB_RULE_INVERT) && !hdr->tos &&
		    rule.mark == capture && rule.mask == capture)
			note_lowest(&look->out->ours, rule.priority);
		return MNL_CB_OK;
	}
	if (rule.table != RT_TABLE_LOCAL && !is_for_others(hdr, &rule, capture))
		note_lowest(&look->out->taker, rule.priority);
	return MNL_CB_OK;
}

/*
 * Before whatever may take captured packets elsewhere, where they would be dropped, but not before
 * what refuses them, nor before the table of this host's own addresses.
 */
uint32_t xf_route_place(const struct xf_route_seen *seen, uint32_t wanted)
{
	bool may = seen->taker > 1 && seen->refuser > seen->taker;

	return may && seen->taker <= wanted ? seen->taker - 1 : wanted;
}

bool xf_route_has_rule(const struct xf_route_seen *seen, uint32_t wanted)
{
	uint32_t place = xf_route_place(seen, wanted);

	return seen->ours != XF_RULE_NONE && (seen->ours <= place || place == wanted);
}

/* --- routes --- */

struct route {
	uint32_t table;
	uint32_t metric;
	uint32_t oif;
	bool has_gateway; /* or more than one way */
};

static int route_attr(const struct nlattr *attr, void *arg)
{
	struct route *route = arg;

	switch (mnl_attr_get_type(attr)) {
	case RTA_TABLE:
		route->table = number(attr);
		break;
	case RTA_OIF:
		route->oif = number(attr);
		break;
	case RTA_PRIORITY:
		route->metric = number(attr);
		break;
	case RTA_GATEWAY:
	case RTA_VIA:
	case RTA_MULTIPATH:
	case RTA_ENCAP:
		route->has_gateway = true;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* So that it can be deleted. */
static void keep(struct look *look, const struct nlmsghdr *msg)
{
	struct xf_route_seen *out = look->out;
	size_t len = XF_ROUTE_ALIGN(msg->nlmsg_len);
	uint8_t *bigger = realloc(out->strangers, out->strangers_len + len);

	look->failed |= !bigger;
	if (!bigger)
		return;
	memcpy(bigger + out->strangers_len, msg, msg->nlmsg_len);
	out->strangers = bigger;
	out->strangers_len += len;
}

static int see_route(const struct nlmsghdr *msg, void *arg)
{
	const struct rtmsg *hdr = mnl_nlmsg_get_payload(msg);
	struct look *look = arg;
	struct route route = { 0 };
	bool all;

	if (msg->nlmsg_type != RTM_NEWROUTE || (hdr->rtm_flags & RTM_F_CLONED))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*hdr), route_attr, &route);
	if (route.table != look->names->table)
		return MNL_CB_OK;
	all = !hdr->rtm_dst_len && !hdr->rtm_src_len && !hdr->rtm_tos;
	if (all && hdr->rtm_type == RTN_BLACKHOLE && route.metric == XF_METRIC_BLACK_HOLE)
		look->out->black_hole = true;
	else if (all && hdr->rtm_type == RTN_UNICAST && route.metric == XF_METRIC_TUN &&
		 !route.has_gateway && route.oif == look->ifindex)
		look->out->into_tun = true;
	else
		keep(look, msg);
	return MNL_CB_OK;
}

static int dump_rules(struct xf_rtnl *rtnl, uint8_t family, struct look *look)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETRULE, NLM_F_DUMP);
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(msg, sizeof(*rule));

	rule->family = family;
	return xf_rtnl_talk(rtnl, msg, see_rule, look);
}

/* A table that nothing is in is ENOENT. */
static int dump_routes(struct xf_rtnl *rtnl, uint8_t family, struct look *look)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(msg, sizeof(*route));
	int err;

	route->rtm_family = family;
	mnl_attr_put_u32(msg, RTA_TABLE, look->names->table);
	err = xf_rtnl_talk(rtnl, msg, see_route, look);
	return err == -ENOENT ? 0 : err;
}

int xf_route_look(const struct xf_io_names *names, uint8_t family, unsigned ifindex,
		  struct xf_route_seen *out)
{
	struct look look = { .names = names, .ifindex = ifindex, .out = out };
	struct xf_rtnl rtnl;
	int one = 1;
	int err = xf_rtnl_open(&rtnl, NULL);

	*out = (struct xf_route_seen){ .ours = XF_RULE_NONE,
				       .taker = XF_RULE_NONE,
				       .refuser = XF_RULE_NONE };
	if (err)
		return err;
	err = dump_rules(&rtnl, family, &look);
	/* Then one table is dumped, not all of a router's. Without it (before 4.20) all are. */
	mnl_socket_setsockopt(rtnl.socket, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	if (!err)
		err = dump_routes(&rtnl, family, &look);
	xf_rtnl_close(&rtnl);
	return !err && look.failed ? -ENOMEM : err;
}

void xf_route_seen_fini(struct xf_route_seen *seen)
{
	free(seen->strangers);
	seen->strangers = NULL;
}
