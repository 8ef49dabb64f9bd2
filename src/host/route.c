/*
 * The rtnetlink monitor, the set of local addresses, and route lookups for path MTU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <xf/rcu.h>

#include "host/route.h"
#include "host/rtnl.h"

/* The groups of struct sockaddr_nl, as bits. */
#define GROUP(number) (1u << ((number)-1))
#define GROUPS                                                                       \
	(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | \
	 RTMGRP_IPV6_ROUTE | GROUP(RTNLGRP_IPV4_RULE) | GROUP(RTNLGRP_IPV6_RULE) |   \
	 GROUP(RTNLGRP_NEXTHOP) | GROUP(RTNLGRP_IPV4_NETCONF) | GROUP(RTNLGRP_IPV6_NETCONF))

struct entry {
	union xf_addr addr;
	uint16_t family;
	bool broadcast; /* of one of this host's networks; else an address of its own */
};

/* Open addressing, never more than half full; constant once published. */
struct address_set {
	struct xf_rcu_head rcu;
	uint32_t mask;
	struct entry slots[];
};

/* What xf_route_mtu() was asked, and what it said. */
struct answer {
	uint64_t epoch; /* another one than the route's: it does not hold any more */
	union xf_addr saddr;
	union xf_addr daddr;
	uint32_t mark;
	uint16_t family;
	uint32_t mtu;
};

/* A power of two. Peers that are rekeyed at the same time should find room. */
#define ANSWERS 256

/* A device's MTU; few devices lead to all peers. */
struct device {
	uint64_t epoch; /* as above */
	uint32_t ifindex;
	uint32_t mtu;
};

#define DEVICES 16

struct xf_route {
	/* Constant after xf_route_new(). */
	struct mnl_socket *monitor;
	int control; /* a socket to ask devices by */

	/* Published by RCU. */
	_Atomic(struct address_set *) local;

	/* Control thread. */
	struct xf_rtnl rtnl;
	uint64_t epoch; /* counts changes of anything that an answer could follow from */
	struct answer answers[ANSWERS];
	struct device devices[DEVICES];
};

static uint32_t hash_addr(const union xf_addr *addr)
{
	uint64_t v = addr->quad[0] ^ (addr->quad[1] * 0x9e3779b97f4a7c15ull);

	v *= 0xff51afd7ed558ccdull;
	return (uint32_t)(v >> 32);
}

static bool is_loopback(const union xf_addr *addr, uint16_t family)
{
	return family == XF_AF_INET && addr->bytes[0] == 127;
}

/* NULL: it is not there. */
static const struct entry *find(const struct xf_route *route, const union xf_addr *addr,
				uint16_t family)
{
	const struct address_set *set = atomic_load_explicit(&route->local, memory_order_acquire);

	for (uint32_t i = hash_addr(addr);; i++) {
		const struct entry *slot = &set->slots[i & set->mask];

		if (!slot->family)
			return NULL;
		if (slot->family == family && xf_addr_equal(&slot->addr, addr, family))
			return slot;
	}
}

bool xf_route_is_local(void *arg, const union xf_addr *addr, uint16_t family)
{
	const struct entry *entry = find(arg, addr, family);

	return entry ? !entry->broadcast : is_loopback(addr, family);
}

static bool is_multicast(const union xf_addr *addr, uint16_t family)
{
	return family == XF_AF_INET ? (addr->bytes[0] & 0xf0) == 0xe0 : addr->bytes[0] == 0xff;
}

bool xf_route_is_for_many(const struct xf_route *route, const union xf_addr *addr, uint16_t family)
{
	const struct entry *entry = find(route, addr, family);

	return (entry && entry->broadcast) || is_multicast(addr, family) ||
	       (family == XF_AF_INET && addr->v4_be == UINT32_MAX);
}

/* Addresses as a dump brings them. */
struct collected {
	struct entry *entries;
	uint32_t n;
	uint32_t room;
};

static int add_entry(struct collected *c, const void *addr, uint16_t family, bool broadcast)
{
	if (c->n == c->room) {
		uint32_t room = c->room ? 2 * c->room : 32;
		struct entry *bigger = realloc(c->entries, room * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		c->entries = bigger;
		c->room = room;
	}
	memset(&c->entries[c->n], 0, sizeof(c->entries[0]));
	c->entries[c->n].family = family;
	c->entries[c->n].broadcast = broadcast;
	xf_addr_load(&c->entries[c->n++].addr, addr, family);
	return 0;
}

struct address_attrs {
	uint16_t need; /* bytes of an address */
	const void *address;
	const void *local;
	const void *broadcast;
};

static int address_attr(const struct nlattr *attr, void *arg)
{
	struct address_attrs *found = arg;

	if (mnl_attr_get_payload_len(attr) < found->need)
		return MNL_CB_OK;
	if (mnl_attr_get_type(attr) == IFA_LOCAL)
		found->local = mnl_attr_get_payload(attr);
	else if (mnl_attr_get_type(attr) == IFA_ADDRESS)
		found->address = mnl_attr_get_payload(attr);
	else if (mnl_attr_get_type(attr) == IFA_BROADCAST)
		found->broadcast = mnl_attr_get_payload(attr);
	return MNL_CB_OK;
}

/* What the kernel takes for a network's broadcast address: what is said, and the last address. */
static int add_broadcasts(struct collected *c, const struct address_attrs *found, uint8_t prefixlen)
{
	int err = found->broadcast ? add_entry(c, found->broadcast, AF_INET, true) : 0;
	uint32_t last_be;

	if (err || !found->address || prefixlen > 30)
		return err;
	memcpy(&last_be, found->address, sizeof(last_be));
	last_be |= htonl(UINT32_MAX >> prefixlen);
	return add_entry(c, &last_be, AF_INET, true);
}

/*
 * IFA_LOCAL is this end of a point-to-point IPv4 address, IFA_ADDRESS the other one; IPv6 mostly
 * has IFA_ADDRESS alone.
 */
static int read_address(const struct nlmsghdr *msg, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	struct address_attrs found = { .need = ifa->ifa_family == AF_INET ? 4 : 16 };
	const void *mine;

	if (msg->nlmsg_type != RTM_NEWADDR ||
	    (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*ifa), address_attr, &found);
	mine = found.local ? found.local : found.address;
	if (!mine)
		return MNL_CB_OK;
	if (add_entry(arg, mine, ifa->ifa_family, false) < 0 ||
	    (ifa->ifa_family == AF_INET && add_broadcasts(arg, &found, ifa->ifa_prefixlen) < 0))
		return MNL_CB_ERROR;
	return MNL_CB_OK;
}

/* What is both is this host's own: that is found first. */
static void fill_set(struct address_set *set, const struct collected *c, bool broadcast)
{
	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t at = hash_addr(&c->entries[i].addr);

		if (c->entries[i].broadcast != broadcast)
			continue;
		while (set->slots[at & set->mask].family)
			at++;
		set->slots[at & set->mask] = c->entries[i];
	}
}

static struct address_set *build_set(const struct collected *c)
{
	uint32_t slots = 16;
	struct address_set *set;

	while (slots < 2 * (c->n + 1))
		slots *= 2;
	set = calloc(1, sizeof(*set) + slots * sizeof(set->slots[0]));
	if (!set)
		return NULL;
	set->mask = slots - 1;
	fill_set(set, c, false);
	fill_set(set, c, true);
	return set;
}

static void free_set(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct address_set, rcu));
}

/* Read all addresses anew and publish them. On an error the old set stays. */
static int load_addresses(struct xf_route *route)
{
	struct collected c = { 0 };
	struct nlmsghdr *msg = xf_rtnl_start(&route->rtnl, RTM_GETADDR, NLM_F_DUMP);
	struct rtgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
	struct address_set *set;
	struct address_set *old;
	int err;

	gen->rtgen_family = AF_UNSPEC;
	err = xf_rtnl_talk(&route->rtnl, msg, read_address, &c);
	set = err ? NULL : build_set(&c);
	free(c.entries);
	if (!set)
		return err ? err : -ENOMEM;
	old = atomic_exchange_explicit(&route->local, set, memory_order_acq_rel);
	if (old)
		xf_rcu_defer(&old->rcu, free_set);
	return 0;
}

static int open_monitor(struct xf_route *route)
{
	int rcvbuf = XF_RTNL_EVENT_BYTES;

	route->monitor = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!route->monitor || mnl_socket_bind(route->monitor, GROUPS, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	setsockopt(mnl_socket_get_fd(route->monitor), SOL_SOCKET, SO_RCVBUF, &rcvbuf,
		   sizeof(rcvbuf));
	return 0;
}

int xf_route_new(struct xf_route **out, struct xf_io_error *error)
{
	struct xf_route *route = calloc(1, sizeof(*route));
	int err;

	if (!route)
		return xf_io_fail(error, -ENOMEM, "cannot watch routes");
	route->epoch = 1;
	route->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (route->control < 0) {
		err = -errno;
		free(route);
		return xf_io_fail(error, err, "cannot open a socket");
	}
	/* The monitor first: what changes while the addresses are read is told by it. */
	err = open_monitor(route);
	if (!err)
		err = xf_rtnl_open(&route->rtnl, error);
	if (!err)
		err = load_addresses(route);
	if (err) {
		xf_route_free(route);
		return xf_io_fail(error, err, "cannot watch addresses and routes");
	}
	*out = route;
	return 0;
}

void xf_route_free(struct xf_route *route)
{
	if (!route)
		return;
	if (route->monitor)
		mnl_socket_close(route->monitor);
	close(route->control);
	xf_rtnl_close(&route->rtnl);
	free(atomic_load(&route->local));
	free(route);
}

int xf_route_fd(const struct xf_route *route)
{
	return mnl_socket_get_fd(route->monitor);
}

static int note_change(const struct nlmsghdr *msg, void *arg)
{
	unsigned *changes = arg;

	switch (msg->nlmsg_type) {
	case RTM_NEWADDR:
	case RTM_DELADDR:
		*changes |= XF_ROUTE_ADDR;
		break;
	case RTM_NEWLINK:
	case RTM_DELLINK:
		*changes |= XF_ROUTE_LINK;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
	case RTM_NEWRULE:
	case RTM_DELRULE:
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		*changes |= XF_ROUTE_ROUTE;
		break;
	case RTM_NEWNETCONF:
	case RTM_DELNETCONF:
		*changes |= XF_ROUTE_NETCONF;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

unsigned xf_route_dispatch(struct xf_route *route)
{
	uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
	unsigned changes = 0;

	for (;;) {
		ssize_t len = mnl_socket_recvfrom(route->monitor, buf, sizeof(buf));

		if (len < 0 && errno == ENOBUFS)
			changes = XF_ROUTE_ADDR | XF_ROUTE_LINK | XF_ROUTE_ROUTE | XF_ROUTE_NETCONF;
		else if (len < 0 && errno != EINTR)
			break;
		else if (len > 0)
			mnl_cb_run(buf, (size_t)len, 0, 0, note_change, &changes);
	}
	route->epoch += (changes & ~(unsigned)XF_ROUTE_NETCONF) != 0;
	if (changes & XF_ROUTE_ADDR)
		load_addresses(route);
	return changes;
}

struct route_answer {
	uint32_t oif;
	uint32_t mtu;
};

static int metric_attr(const struct nlattr *attr, void *arg)
{
	struct route_answer *out = arg;

	if (mnl_attr_get_type(attr) == RTAX_MTU && mnl_attr_get_payload_len(attr) == 4)
		out->mtu = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int route_attr(const struct nlattr *attr, void *arg)
{
	const struct rtnexthop *hop = mnl_attr_get_payload(attr);
	struct route_answer *out = arg;

	if (mnl_attr_get_type(attr) == RTA_OIF && mnl_attr_get_payload_len(attr) == 4)
		out->oif = mnl_attr_get_u32(attr);
	else if (mnl_attr_get_type(attr) == RTA_MULTIPATH &&
		 mnl_attr_get_payload_len(attr) >= sizeof(*hop))
		out->oif = (uint32_t)hop->rtnh_ifindex;
	else if (mnl_attr_get_type(attr) == RTA_METRICS)
		mnl_attr_parse_nested(attr, metric_attr, arg);
	return MNL_CB_OK;
}

static int read_route(const struct nlmsghdr *msg, void *arg)
{
	if (msg->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(struct rtmsg), route_attr, arg);
	return MNL_CB_STOP;
}

static uint32_t ask_device(const struct xf_route *route, uint32_t ifindex)
{
	struct ifreq ifr = { .ifr_ifindex = (int)ifindex };

	if (ioctl(route->control, SIOCGIFNAME, &ifr) < 0 ||
	    ioctl(route->control, SIOCGIFMTU, &ifr) < 0)
		return 0;
	return (uint32_t)ifr.ifr_mtu;
}

static uint32_t device_mtu(struct xf_route *route, uint32_t ifindex)
{
	struct device *device = &route->devices[ifindex % DEVICES];

	if (device->epoch != route->epoch || device->ifindex != ifindex || !device->mtu)
		*device = (struct device){
			.epoch = route->epoch,
			.ifindex = ifindex,
			.mtu = ask_device(route, ifindex),
		};
	return device->mtu;
}

static void put_addr(struct nlmsghdr *msg, uint16_t type, const union xf_addr *addr,
		     uint16_t family)
{
	mnl_attr_put(msg, type, xf_addr_bits(family) / 8, addr->bytes);
}

static uint32_t ask_mtu(struct xf_route *route, const struct answer *question)
{
	struct nlmsghdr *msg = xf_rtnl_start(&route->rtnl, RTM_GETROUTE, 0);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(msg, sizeof(*rtm));
	struct route_answer answer = { 0 };
	uint16_t family = question->family;
	uint32_t mtu;

	rtm->rtm_family = (uint8_t)family;
	/* The route as configured. Else the answer has what ICMP errors said of the destination,
	 * ours among them: in transport mode what we tell the sender would come back as the path's
	 * MTU, and we would tell it less each time. */
	rtm->rtm_flags = RTM_F_FIB_MATCH;
	rtm->rtm_dst_len = xf_addr_bits(family);
	put_addr(msg, RTA_DST, &question->daddr, family);
	/* The kernel refuses a source that is not an address of this host (yet). */
	if (xf_route_is_local(route, &question->saddr, family)) {
		rtm->rtm_src_len = xf_addr_bits(family);
		put_addr(msg, RTA_SRC, &question->saddr, family);
	}
	if (question->mark)
		mnl_attr_put_u32(msg, RTA_MARK, question->mark);
	if (xf_rtnl_talk(&route->rtnl, msg, read_route, &answer) < 0 || !answer.oif)
		return 0;
	mtu = device_mtu(route, answer.oif);
	return answer.mtu && answer.mtu < mtu ? answer.mtu : mtu;
}

static bool holds(const struct xf_route *route, const struct answer *answer,
		  const struct answer *question)
{
	return answer->epoch == route->epoch && answer->family == question->family &&
	       answer->mark == question->mark &&
	       xf_addr_equal(&answer->saddr, &question->saddr, question->family) &&
	       xf_addr_equal(&answer->daddr, &question->daddr, question->family);
}

/* A peer is asked for with each new key. What changed is seen by the monitor, maybe a moment
 * later; then the MTUs of all SAs are asked for again. */
uint32_t xf_route_mtu(struct xf_route *route, const union xf_addr *saddr,
		      const union xf_addr *daddr, uint16_t family, uint32_t mark)
{
	struct answer question = {
		.epoch = route->epoch,
		.saddr = *saddr,
		.daddr = *daddr,
		.mark = mark,
		.family = family,
	};
	uint32_t at = (hash_addr(saddr) ^ 3 * hash_addr(daddr) ^ mark) % ANSWERS;
	struct answer *answer = &route->answers[at];

	if (holds(route, answer, &question))
		return answer->mtu;
	question.mtu = ask_mtu(route, &question);
	if (question.mtu)
		*answer = question;
	return question.mtu;
}
