/*
 * rtnetlink's part of fake_forwarding.h: messages as net/ipv4/devinet.c and net/ipv6/addrconf.c
 * make them.
 */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>

#include "host/rtnl.h"
#include "host/sysctl.h"

#include "fake_forwarding.h"

/* Places in the list of a device's IPv6 settings: its length before Linux 6.17, and what came. */
#define SETTINGS_BEFORE 59
#define FORCE_FORWARDING 59
#define SETTINGS 61

struct fake_forwarders fake_forwarders;

unsigned int if_nametoindex(const char *name)
{
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++) {
		const struct fake_forwarder *device = &fake_forwarders.of[i];

		if (device->ifindex && strcmp(device->name, name) == 0)
			return device->ifindex;
	}
	return 0;
}

int xf_rtnl_open(struct xf_rtnl *rtnl, struct xf_io_error *error)
{
	(void)error;
	rtnl->seq = 0;
	return 0;
}

void xf_rtnl_close(struct xf_rtnl *rtnl)
{
	(void)rtnl;
}

struct nlmsghdr *xf_rtnl_start(struct xf_rtnl *rtnl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(rtnl->buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return msg;
}

/* --- answers --- */

struct answer {
	uint8_t buf[1024] __attribute__((aligned(8)));
	mnl_cb_t visit;
	void *arg;
};

static int give(struct answer *answer)
{
	const struct nlmsghdr *msg = (const struct nlmsghdr *)(const void *)answer->buf;

	return answer->visit(msg, answer->arg) < MNL_CB_STOP ? -errno : 0;
}

static int give_netconf(struct answer *answer, uint8_t family, int32_t ifindex, bool forwards)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(answer->buf);
	struct netconfmsg *conf = mnl_nlmsg_put_extra_header(msg, sizeof(*conf));

	msg->nlmsg_type = RTM_NEWNETCONF;
	conf->ncm_family = family;
	mnl_attr_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)ifindex);
	mnl_attr_put_u32(msg, NETCONFA_RP_FILTER, 1);
	mnl_attr_put_u32(msg, NETCONFA_FORWARDING, forwards);
	return give(answer);
}

static bool all_forward(void)
{
	bool all = fake_forwarders.new_ones_do;

	for (unsigned i = 0; i < FAKE_FORWARDERS; i++)
		all = all &&
		      (!fake_forwarders.of[i].ifindex || fake_forwarders.of[i].on[FAKE_FOUR]);
	return all;
}

/* Devices, then "all" and "default". */
static int list_netconf4(struct answer *answer)
{
	int err = 0;

	for (unsigned i = 0; i < FAKE_FORWARDERS && !err; i++) {
		const struct fake_forwarder *device = &fake_forwarders.of[i];

		if (device->ifindex)
			err = give_netconf(answer, AF_INET, (int32_t)device->ifindex,
					   device->on[FAKE_FOUR]);
	}
	if (!err)
		err = give_netconf(answer, AF_INET, NETCONFA_IFINDEX_ALL, all_forward());
	return err ? err
		   : give_netconf(answer, AF_INET, NETCONFA_IFINDEX_DEFAULT,
				  fake_forwarders.new_ones_do);
}

static int list_links6(struct answer *answer)
{
	int err = 0;

	for (unsigned i = 0; i < FAKE_FORWARDERS && !err; i++) {
		const struct fake_forwarder *device = &fake_forwarders.of[i];
		struct nlmsghdr *msg = mnl_nlmsg_put_header(answer->buf);
		struct ifinfomsg *link = mnl_nlmsg_put_extra_header(msg, sizeof(*link));
		int32_t settings[SETTINGS] = { 1 };
		struct nlattr *info;

		if (!device->ifindex)
			continue;
		msg->nlmsg_type = RTM_NEWLINK;
		link->ifi_family = AF_INET6;
		link->ifi_index = (int)device->ifindex;
		settings[FORCE_FORWARDING] = device->on[FAKE_SIX];
		mnl_attr_put_strz(msg, IFLA_IFNAME, device->name);
		info = mnl_attr_nest_start(msg, IFLA_PROTINFO);
		mnl_attr_put(msg, IFLA_INET6_CONF,
			     (fake_forwarders.forces ? SETTINGS : SETTINGS_BEFORE) * 4, settings);
		mnl_attr_nest_end(msg, info);
		err = give(answer);
	}
	return err;
}

static int answer_to(const struct nlmsghdr *msg, struct answer *answer)
{
	const struct rtgenmsg *gen = mnl_nlmsg_get_payload(msg);
	bool dump = (msg->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;

	if (msg->nlmsg_type == RTM_GETLINK) {
		assert_true(dump && gen->rtgen_family == AF_INET6);
		return list_links6(answer);
	}
	assert_int_equal(msg->nlmsg_type, RTM_GETNETCONF);
	if (dump) {
		assert_int_equal(gen->rtgen_family, AF_INET);
		return list_netconf4(answer);
	}
	assert_int_equal(gen->rtgen_family, AF_INET6);
	return fake_forwarders.no_ipv6
		       ? -EOPNOTSUPP
		       : give_netconf(answer, AF_INET6, NETCONFA_IFINDEX_ALL, fake_forwarders.all6);
}

/* What was listed before the end is with the caller already. */
int xf_rtnl_talk(struct xf_rtnl *rtnl, struct nlmsghdr *msg, mnl_cb_t visit, void *arg)
{
	struct answer answer = { .visit = visit, .arg = arg };
	int err;

	(void)rtnl;
	/* What is behind a message is nobody's business. */
	memset(answer.buf, 0xff, sizeof(answer.buf));
	if (fake_forwarders.fails && !fake_forwarders.spared) {
		fake_forwarders.fails--;
		fake_forwarders.failed = true;
		return -ENOBUFS;
	}
	fake_forwarders.spared -= fake_forwarders.spared > 0;
	err = answer_to(msg, &answer);
	if (!err && fake_forwarders.interrupted && (msg->nlmsg_flags & NLM_F_DUMP)) {
		fake_forwarders.interrupted--;
		return -EINTR;
	}
	return err;
}

/* --- /proc/sys --- */

int xf_sysctl_write(const char *path, const char *value)
{
	unsigned family = FAKE_FAMILIES;
	char name[IF_NAMESIZE];

	fake_forwarders.writes++;
	if (sscanf(path, "/proc/sys/net/ipv4/conf/%15[^/]/forwarding", name) == 1 &&
	    strstr(path, "/forwarding"))
		family = FAKE_FOUR;
	else if (sscanf(path, "/proc/sys/net/ipv6/conf/%15[^/]/force_forwarding", name) == 1 &&
		 strstr(path, "/force_forwarding"))
		family = FAKE_SIX;
	assert_in_range(family, 0, FAKE_FAMILIES - 1);
	for (unsigned i = 0; i < FAKE_FORWARDERS; i++) {
		struct fake_forwarder *device = &fake_forwarders.of[i];

		if (!device->ifindex || strcmp(device->name, name) != 0 ||
		    (family == FAKE_SIX && !fake_forwarders.forces))
			continue;
		if (fake_forwarders.read_only)
			return -EROFS;
		fake_forwarders.told =
			fake_forwarders.told || device->on[family] != (*value == '1');
		device->on[family] = *value == '1';
		return 0;
	}
	fake_forwarders.in_vain++;
	return -ENOENT;
}
