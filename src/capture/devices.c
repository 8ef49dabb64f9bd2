/*
 * Programs of the backstop are put onto devices here, by clsact filters with a handle of our own,
 * so that an upgrade replaces its own. Called by backstop.c, and by the release without a daemon.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture/devices.h"
#include "capture/exempt.h"
#include "io/rtnl.h"

#include "tc_filter.h"

/* A device as a dump of links shows it. */
struct link {
	const char *name;
	const char *slave_kind;
	bool up;
	uint32_t exempt; /* enum xf_exempt_from, itself */
};

static int linkinfo_attr(const struct nlattr *attr, void *arg)
{
	struct link *link = arg;

	if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		link->slave_kind = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	struct link *link = arg;

	if (mnl_attr_get_type(attr) == IFLA_IFNAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		link->name = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
		mnl_attr_parse_nested(attr, linkinfo_attr, arg);
	return MNL_CB_OK;
}

struct visit {
	int (*act)(void *arg, int ifindex, const struct link *link);
	void *arg;
	unsigned done;
	int err;
};

static int visit_link(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
	struct visit *visit = arg;
	struct link link = { .up = ifi->ifi_flags & IFF_UP, .exempt = xf_exempt_of_link(msg) };
	int err;

	if (msg->nlmsg_type != RTM_NEWLINK || (ifi->ifi_flags & IFF_LOOPBACK))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*ifi), link_attr, &link);
	err = visit->act(visit->arg, ifi->ifi_index, &link);
	if (err > 0)
		visit->done++;
	else if (err < 0 && err != -ENODEV)
		visit->err = err;
	return MNL_CB_OK;
}

static int for_each_device(struct visit *visit, struct xf_io_error *error)
{
	struct xf_rtnl rtnl;
	struct nlmsghdr *msg;
	struct ifinfomsg *ifi;
	int err = xf_rtnl_open(&rtnl, error);

	if (err)
		return err;
	msg = xf_rtnl_start(&rtnl, RTM_GETLINK, NLM_F_DUMP);
	ifi = mnl_nlmsg_put_extra_header(msg, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	err = xf_rtnl_talk(&rtnl, msg, visit_link, visit);
	xf_rtnl_close(&rtnl);
	return err ? xf_io_fail(error, err, "cannot list devices") : 0;
}

/*
 * What leaves by a port of one of these passes its master first, and what the port forwards for
 * others is none of our business.
 */
static bool is_port(const struct link *link)
{
	static const char *const kinds[] = { "bridge", "bond", "team", "openvswitch" };

	for (unsigned i = 0; link->slave_kind && i < XF_ARRAY_SIZE(kinds); i++)
		if (strcmp(link->slave_kind, kinds[i]) == 0)
			return true;
	return false;
}

struct attaching {
	const struct xf_devices_config *cfg;
	struct xf_devices *out;
	uint32_t exempt; /* enum xf_exempt_from, every device */
	struct xf_rtnl rtnl; /* for filters */
};

/* A filter of ours: @point of a device. */
struct place {
	int ifindex;
	enum bpf_tc_attach_point point;
};

/* Of what sees IPv6 alone: another one, so that it can come before that of all protocols goes. */
#define SIX_PRIORITY (XF_TC_PRIORITY + 1u)

/* libbpf has filters of all protocols only. @fd -1: it goes. */
static int change_six(struct xf_rtnl *rtnl, const struct place *at, int fd)
{
	uint32_t side = at->point == BPF_TC_EGRESS ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS;
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, fd < 0 ? RTM_DELTFILTER : RTM_NEWTFILTER,
					     (uint16_t)(NLM_F_ACK | (fd < 0 ? 0 : NLM_F_CREATE)));
	struct tcmsg *tc = mnl_nlmsg_put_extra_header(msg, sizeof(*tc));
	struct nlattr *options;

	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = at->ifindex;
	tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
	tc->tcm_handle = XF_TC_HANDLE;
	tc->tcm_info = TC_H_MAKE(SIX_PRIORITY << 16, htons(ETH_P_IPV6));
	mnl_attr_put_strz(msg, TCA_KIND, "bpf");
	if (fd >= 0) {
		options = mnl_attr_nest_start(msg, TCA_OPTIONS);
		mnl_attr_put_u32(msg, TCA_BPF_FD, (uint32_t)fd);
		mnl_attr_put_strz(msg, TCA_BPF_NAME, "xfrmd_six");
		mnl_attr_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
		mnl_attr_nest_end(msg, options);
	}
	return xf_rtnl_talk(rtnl, msg, NULL, NULL);
}

static void detach_all(const struct place *at)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = at->ifindex, .attach_point = at->point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = XF_TC_HANDLE, .priority = XF_TC_PRIORITY);

	bpf_tc_detach(&hook, &opts);
}

/* @six: what is IPv4 passes. What takes the place of something else is there before that goes. */
static int attach_program(struct attaching *a, const struct place *at, int fd, bool six)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = at->ifindex, .attach_point = at->point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd, .handle = XF_TC_HANDLE,
		    .priority = XF_TC_PRIORITY, .flags = BPF_TC_F_REPLACE);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	err = six ? change_six(&a->rtnl, at, fd) : bpf_tc_attach(&hook, &opts);
	if (err)
		return err;
	if (six)
		detach_all(at);
	else
		change_six(&a->rtnl, at, -1);
	return 0;
}

/* @arg: struct attaching. */
static int detach_one(void *arg, int ifindex, const struct link *link)
{
	static const enum bpf_tc_attach_point points[] = { BPF_TC_EGRESS, BPF_TC_INGRESS };
	struct attaching *a = arg;

	(void)link;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(points); i++) {
		const struct place at = { .ifindex = ifindex, .point = points[i] };

		detach_all(&at);
		change_six(&a->rtnl, &at, -1);
	}
	return 0;
}

/* It may have those of other devices, if it had another name for a while. */
static int attach_tun(struct attaching *a, int ifindex, const struct link *link)
{
	const struct place out = { .ifindex = ifindex, .point = BPF_TC_EGRESS };
	int err = detach_one(a, ifindex, link);

	return err || a->cfg->tun_fd < 0 ? err : attach_program(a, &out, a->cfg->tun_fd, false);
}

/* 1: attached; 0: not a device for us, or no more: it has become a port. */
static int attach_one(void *arg, int ifindex, const struct link *link)
{
	struct attaching *a = arg;
	const struct place out = { .ifindex = ifindex, .point = BPF_TC_EGRESS };
	const struct place in = { .ifindex = ifindex, .point = BPF_TC_INGRESS };
	uint32_t exempt = a->exempt | link->exempt;
	int err = 0;

	if (link->name && strcmp(link->name, a->cfg->tun) == 0) {
		a->out->tun_ifindex = link->up ? (uint32_t)ifindex : 0;
		return attach_tun(a, ifindex, link);
	}
	if (is_port(link))
		return detach_one(a, ifindex, link);
	if (a->cfg->egress_fd >= 0)
		err = attach_program(a, &out, a->cfg->egress_fd, exempt & XF_EXEMPT_XFRM4);
	if (!err && a->cfg->ingress_fd >= 0)
		err = attach_program(a, &in, a->cfg->ingress_fd, exempt & XF_EXEMPT_POLICY4);
	return err ? err : 1;
}

int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error)
{
	struct attaching a = { .cfg = cfg, .out = out, .exempt = xf_exempt_of_all() };
	struct visit visit = { .act = attach_one, .arg = &a };
	int err = xf_rtnl_open(&a.rtnl, error);

	*out = (struct xf_devices){ .count = 0 };
	if (err)
		return err;
	err = for_each_device(&visit, error);
	xf_rtnl_close(&a.rtnl);
	out->count = visit.done;
	if (!err && visit.err)
		err = xf_io_fail(error, visit.err, "cannot attach the backstop to a device");
	return err;
}

int xf_devices_release(struct xf_io_error *error)
{
	struct attaching a = { .cfg = NULL };
	struct visit visit = { .act = detach_one, .arg = &a };
	int err = xf_rtnl_open(&a.rtnl, error);

	if (err)
		return err;
	err = for_each_device(&visit, error);
	xf_rtnl_close(&a.rtnl);
	return err;
}
