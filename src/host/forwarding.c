/*
 * Reads by rtnetlink which devices forward, and lets the TUN do the same; service.c calls it.
 */
#include <errno.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/forwarding.h"
#include "host/forwarding_set.h"
#include "host/rtnl.h"
#include "host/sysctl.h"

#define CHECK_NS (10 * XF_NSEC_PER_SEC)
/* Devices came or went while the kernel listed them. */
#define TRIES 4

/* Linux 6.17's place in the list of a device's IPv6 settings; not in the headers of 6.1. */
#define DEVCONF_FORCE_FORWARDING 59

struct xf_forwarding {
	/* Constant after xf_forwarding_new(). */
	char tun[IF_NAMESIZE];

	/* Published by RCU. */
	_Atomic(struct xf_forwarding_set *) set;

	/* Control thread. */
	uint64_t check_ns;
	bool unsettled; /* since it was read */
	struct tun_flag {
		bool there; /* the TUN, when it was looked at */
		bool on;
		bool refused; /* it could not be set, as it should be */
	} tun_flags[XF_FORWARDING_FAMILIES];
};

/* --- what the kernel says --- */

struct reading {
	struct xf_forwarding_seen seen[XF_FORWARDING_FAMILIES];
	uint32_t tun; /* its number */
};

static int see(struct reading *reading, unsigned family, uint32_t ifindex, bool forwards)
{
	struct xf_forwarding_seen *seen = &reading->seen[family];

	if (ifindex != reading->tun)
		return xf_forwarding_see(seen, ifindex, forwards) ? MNL_CB_ERROR : MNL_CB_OK;
	seen->has_tun = true;
	seen->tun_does = forwards;
	return MNL_CB_OK;
}

struct netconf {
	int ifindex; /* 0: not said */
	int forwarding;
};

static int netconf_attr(const struct nlattr *attr, void *arg)
{
	struct netconf *conf = arg;

	if (mnl_attr_get_payload_len(attr) != sizeof(int))
		return MNL_CB_OK;
	if (mnl_attr_get_type(attr) == NETCONFA_IFINDEX)
		conf->ifindex = (int)mnl_attr_get_u32(attr);
	else if (mnl_attr_get_type(attr) == NETCONFA_FORWARDING)
		conf->forwarding = (int)mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int see_device4(const struct nlmsghdr *msg, void *arg)
{
	struct reading *reading = arg;
	struct netconf conf = { 0 };

	mnl_attr_parse(msg, sizeof(struct netconfmsg), netconf_attr, &conf);
	if (conf.ifindex == NETCONFA_IFINDEX_DEFAULT)
		reading->seen[XF_FORWARDING_4].new_ones_do = conf.forwarding != 0;
	if (conf.ifindex <= 0)
		return MNL_CB_OK;
	return see(reading, XF_FORWARDING_4, (uint32_t)conf.ifindex, conf.forwarding != 0);
}

static int see_all6(const struct nlmsghdr *msg, void *arg)
{
	struct reading *reading = arg;
	struct netconf conf = { 0 };

	mnl_attr_parse(msg, sizeof(struct netconfmsg), netconf_attr, &conf);
	reading->seen[XF_FORWARDING_6].new_ones_do = conf.forwarding != 0;
	return MNL_CB_STOP;
}

static int settings_attr(const struct nlattr *attr, void *arg)
{
	const int32_t *settings = mnl_attr_get_payload(attr);

	if (mnl_attr_get_type(attr) == IFLA_INET6_CONF &&
	    mnl_attr_get_payload_len(attr) > DEVCONF_FORCE_FORWARDING * sizeof(settings[0]))
		*(bool *)arg = settings[DEVCONF_FORCE_FORWARDING] != 0;
	return MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == IFLA_PROTINFO)
		mnl_attr_parse_nested(attr, settings_attr, arg);
	return MNL_CB_OK;
}

static int see_device6(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(msg);
	bool forced = false;

	if (msg->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*link), link_attr, &forced);
	return see(arg, XF_FORWARDING_6, (uint32_t)link->ifi_index, forced);
}

static int ask_devices4(struct xf_rtnl *rtnl, struct reading *reading)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETNETCONF, NLM_F_DUMP);
	struct netconfmsg *conf = mnl_nlmsg_put_extra_header(msg, sizeof(*conf));

	conf->ncm_family = AF_INET;
	return xf_rtnl_talk(rtnl, msg, see_device4, reading);
}

static int ask_all6(struct xf_rtnl *rtnl, struct reading *reading)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETNETCONF, 0);
	struct netconfmsg *conf = mnl_nlmsg_put_extra_header(msg, sizeof(*conf));

	conf->ncm_family = AF_INET6;
	mnl_attr_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)NETCONFA_IFINDEX_ALL);
	return xf_rtnl_talk(rtnl, msg, see_all6, reading);
}

/* Where IPv6 forwards at all, it does from every device. Netconf does not tell what is forced. */
static int ask_devices6(struct xf_rtnl *rtnl, struct reading *reading)
{
	int err = ask_all6(rtnl, reading);
	struct nlmsghdr *msg;
	struct ifinfomsg *link;

	if (err == -EOPNOTSUPP)
		return 0; /* a kernel without IPv6 */
	if (err || reading->seen[XF_FORWARDING_6].new_ones_do)
		return err;
	msg = xf_rtnl_start(rtnl, RTM_GETLINK, NLM_F_DUMP);
	link = mnl_nlmsg_put_extra_header(msg, sizeof(*link));
	link->ifi_family = AF_INET6;
	return xf_rtnl_talk(rtnl, msg, see_device6, reading);
}

/* A socket for each time: what is left of a list that failed is not taken for the next one. */
static int read_once(const struct xf_forwarding *forwarding, struct reading *reading)
{
	struct xf_rtnl rtnl;
	int err = xf_rtnl_open(&rtnl, NULL);

	*reading = (struct reading){ .tun = if_nametoindex(forwarding->tun) };
	if (err)
		return err;
	err = ask_devices4(&rtnl, reading);
	if (!err)
		err = ask_devices6(&rtnl, reading);
	xf_rtnl_close(&rtnl);
	return err;
}

static void forget(struct reading *reading)
{
	for (unsigned i = 0; i < XF_FORWARDING_FAMILIES; i++)
		free(reading->seen[i].devices);
}

static int read_all(const struct xf_forwarding *forwarding, struct reading *reading)
{
	int err = read_once(forwarding, reading);

	for (unsigned i = 1; i < TRIES && err == -EINTR; i++) {
		forget(reading);
		err = read_once(forwarding, reading);
	}
	return err;
}

/* --- what workers go by --- */

static void free_set(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct xf_forwarding_set, rcu));
}

static int publish(struct xf_forwarding *forwarding, const struct reading *reading)
{
	struct xf_forwarding_set *old = atomic_load(&forwarding->set);
	struct xf_forwarding_set *set = xf_forwarding_set_new(reading->seen);

	if (!set)
		return -ENOMEM;
	for (unsigned i = 0; i < XF_FORWARDING_FAMILIES; i++) {
		forwarding->tun_flags[i].there = reading->seen[i].has_tun;
		forwarding->tun_flags[i].on = reading->seen[i].tun_does;
	}
	if (old && xf_forwarding_set_equal(old, set)) {
		free(set);
		return 0;
	}
	atomic_store_explicit(&forwarding->set, set, memory_order_release);
	if (old)
		xf_rcu_defer(&old->rcu, free_set);
	return 0;
}

/* On an error what was published stays. */
static int load(struct xf_forwarding *forwarding, uint64_t now_ns)
{
	struct reading reading;
	int err = read_all(forwarding, &reading);

	forwarding->check_ns = now_ns + CHECK_NS;
	if (!err)
		err = publish(forwarding, &reading);
	forget(&reading);
	forwarding->unsettled = true;
	return err;
}

void xf_forwarding_load(struct xf_forwarding *forwarding, uint64_t now_ns)
{
	load(forwarding, now_ns);
}

uint64_t xf_forwarding_due(const struct xf_forwarding *forwarding)
{
	return forwarding->check_ns;
}

bool xf_forwarding_allows(const struct xf_forwarding *forwarding, uint16_t family, uint32_t iif)
{
	const struct xf_forwarding_set *set =
		atomic_load_explicit(&forwarding->set, memory_order_acquire);

	return xf_forwarding_set_allows(set, family, iif);
}

/* --- the TUN --- */

static int set_forwarding(const char *name, uint16_t family, bool on)
{
	char path[128];

	snprintf(path, sizeof(path),
		 family == XF_AF_INET ? "/proc/sys/net/ipv4/conf/%s/forwarding"
				      : "/proc/sys/net/ipv6/conf/%s/force_forwarding",
		 name);
	return xf_sysctl_write(path, on ? "1" : "0");
}

static void settle_one(struct xf_forwarding *forwarding, unsigned i)
{
	static const uint16_t families[] = { XF_AF_INET, XF_AF_INET6 };
	bool want = atomic_load(&forwarding->set)->parts[i].tun;
	struct tun_flag *flag = &forwarding->tun_flags[i];
	bool refused = false;

	if (flag->there && flag->on != want) {
		int err = set_forwarding(forwarding->tun, families[i], want);

		refused = err && err != -ENOENT; /* the TUN has just gone */
		flag->on = want != (err != 0);
	}
	/* One that forwards too much has nothing to forward: the engine drops it. */
	flag->refused = refused && want;
}

bool xf_forwarding_lacks(const struct xf_forwarding *forwarding)
{
	return forwarding->tun_flags[XF_FORWARDING_4].refused ||
	       forwarding->tun_flags[XF_FORWARDING_6].refused;
}

bool xf_forwarding_settle(struct xf_forwarding *forwarding)
{
	bool lacked = xf_forwarding_lacks(forwarding);

	for (unsigned i = 0; forwarding->unsettled && i < XF_FORWARDING_FAMILIES; i++)
		settle_one(forwarding, i);
	forwarding->unsettled = false;
	return xf_forwarding_lacks(forwarding) != lacked;
}

int xf_forwarding_new(const struct xf_io_names *names, uint64_t now_ns, struct xf_forwarding **out,
		      struct xf_io_error *error)
{
	struct xf_forwarding *forwarding = calloc(1, sizeof(*forwarding));
	int err;

	if (!forwarding)
		return xf_io_fail(error, -ENOMEM, "cannot read which devices forward");
	snprintf(forwarding->tun, sizeof(forwarding->tun), "%s", names->tun);
	err = load(forwarding, now_ns);
	if (err) {
		xf_forwarding_free(forwarding);
		return xf_io_fail(error, err, "cannot read which devices forward");
	}
	*out = forwarding;
	return 0;
}

void xf_forwarding_free(struct xf_forwarding *forwarding)
{
	if (!forwarding)
		return;
	free(atomic_load(&forwarding->set));
	free(forwarding);
}
