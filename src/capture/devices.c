/*
 * Programs of the backstop are put onto devices here, by clsact filters with a handle of our own,
 * so that an upgrade replaces its own. Called by backstop.c, and by the release without a daemon.
 */
#include <errno.h>
#include <net/if.h>
#include <linux/rtnetlink.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture/devices.h"
#include "io/rtnl.h"

#include "tc_filter.h"

/* A device as a dump of links shows it. */
struct link {
	const char *name;
	const char *slave_kind;
	bool up;
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
	struct link link = { .up = ifi->ifi_flags & IFF_UP };
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
};

static int attach_program(int ifindex, enum bpf_tc_attach_point point, int fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd, .handle = XF_TC_HANDLE,
		    .priority = XF_TC_PRIORITY, .flags = BPF_TC_F_REPLACE);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	return bpf_tc_attach(&hook, &opts);
}

static int detach_one(void *arg, int ifindex, const struct link *link)
{
	static const enum bpf_tc_attach_point points[] = { BPF_TC_EGRESS, BPF_TC_INGRESS };

	(void)arg;
	(void)link;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(points); i++) {
		LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = points[i]);
		LIBBPF_OPTS(bpf_tc_opts, opts, .handle = XF_TC_HANDLE, .priority = XF_TC_PRIORITY);

		bpf_tc_detach(&hook, &opts);
	}
	return 0;
}

/* 1: attached; 0: not a device for us, or no more: it has become a port. */
static int attach_one(void *arg, int ifindex, const struct link *link)
{
	const struct attaching *a = arg;
	int err = 0;

	if (link->name && strcmp(link->name, a->cfg->tun) == 0) {
		a->out->tun_ifindex = link->up ? (uint32_t)ifindex : 0;
		return 0;
	}
	if (is_port(link))
		return detach_one(NULL, ifindex, link);
	if (a->cfg->egress_fd >= 0)
		err = attach_program(ifindex, BPF_TC_EGRESS, a->cfg->egress_fd);
	if (!err && a->cfg->ingress_fd >= 0)
		err = attach_program(ifindex, BPF_TC_INGRESS, a->cfg->ingress_fd);
	return err ? err : 1;
}

int xf_devices_attach(const struct xf_devices_config *cfg, struct xf_devices *out,
		      struct xf_io_error *error)
{
	struct attaching a = { .cfg = cfg, .out = out };
	struct visit visit = { .act = attach_one, .arg = &a };
	int err;

	*out = (struct xf_devices){ .count = 0 };
	err = for_each_device(&visit, error);
	out->count = visit.done;
	if (!err && visit.err)
		err = xf_io_fail(error, visit.err, "cannot attach the backstop to a device");
	return err;
}

int xf_devices_release(struct xf_io_error *error)
{
	struct visit visit = { .act = detach_one };

	return for_each_device(&visit, error);
}
