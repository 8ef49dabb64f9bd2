#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "host/hop.h"

/* States in which the kernel itself would send to the address that it has. */
#define USABLE (NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)

const char *xf_hop_refusal(const struct xf_hop_facts *facts)
{
	if (facts->route_type == RTN_UNSPEC)
		return "there is no route";
	if (facts->route_type != RTN_UNICAST)
		return "its route is not to a single other host";
	if (!(facts->link_flags & IFF_UP))
		return "its device is down";
	if (facts->link_type != ARPHRD_ETHER || (facts->link_flags & (IFF_LOOPBACK | IFF_NOARP)))
		return "its device does not resolve Ethernet addresses";
	if (!(facts->neigh_state & USABLE))
		return "its neighbour is not known yet";
	if (facts->lladdr_len != 6)
		return "its neighbour has no Ethernet address";
	return NULL;
}

static void set_via(struct xf_hop_facts *out, uint16_t family, const void *addr, uint32_t len)
{
	if (len != xf_addr_bits(family) / 8u)
		return;
	out->via_family = family;
	xf_addr_load(&out->via, addr, family);
}

/* A gateway of the other family: IPv4 by way of an IPv6 neighbour. */
static void set_via_other(struct xf_hop_facts *out, const struct nlattr *attr)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	uint32_t len = mnl_attr_get_payload_len(attr);

	if (len >= sizeof(*via) && (via->rtvia_family == AF_INET || via->rtvia_family == AF_INET6))
		set_via(out, via->rtvia_family, via->rtvia_addr, len - (uint32_t)sizeof(*via));
}

static int route_attr(const struct nlattr *attr, void *arg)
{
	struct xf_hop_facts *out = arg;
	uint32_t len = mnl_attr_get_payload_len(attr);

	if (mnl_attr_get_type(attr) == RTA_OIF && len == 4)
		out->ifindex = mnl_attr_get_u32(attr);
	else if (mnl_attr_get_type(attr) == RTA_GATEWAY)
		set_via(out, len == 4 ? XF_AF_INET : XF_AF_INET6, mnl_attr_get_payload(attr), len);
	else if (mnl_attr_get_type(attr) == RTA_VIA)
		set_via_other(out, attr);
	else if (mnl_attr_get_type(attr) == RTA_ENCAP)
		out->route_type = RTN_THROW; /* a tunnel's header would be missing */
	return MNL_CB_OK;
}

static int read_route(const struct nlmsghdr *msg, void *arg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct xf_hop_facts *out = arg;

	if (msg->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	out->route_type = rtm->rtm_type;
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, out);
	return MNL_CB_OK;
}

static void ask_route(struct xf_rtnl *rtnl, const struct xf_hop_key *key, struct xf_hop_facts *out)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETROUTE, NLM_F_ACK);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(msg, sizeof(*rtm));
	uint16_t family = (uint16_t)key->family;

	rtm->rtm_family = (uint8_t)family;
	rtm->rtm_dst_len = xf_addr_bits(family);
	rtm->rtm_src_len = xf_addr_bits(family);
	mnl_attr_put(msg, RTA_DST, xf_addr_bits(family) / 8, key->daddr.bytes);
	/* A source that is not this host's is refused, and so are packets with it. */
	mnl_attr_put(msg, RTA_SRC, xf_addr_bits(family) / 8, key->saddr.bytes);
	mnl_attr_put_u32(msg, RTA_MARK, key->mark);
	set_via(out, family, key->daddr.bytes, xf_addr_bits(family) / 8);
	if (xf_rtnl_talk(rtnl, msg, read_route, out) < 0)
		out->route_type = RTN_UNSPEC;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	struct xf_hop_facts *out = arg;

	if (mnl_attr_get_type(attr) == IFLA_MTU && mnl_attr_get_payload_len(attr) == 4)
		out->mtu = mnl_attr_get_u32(attr);
	else if (mnl_attr_get_type(attr) == IFLA_MASTER && mnl_attr_get_payload_len(attr) == 4)
		out->master = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int read_link(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct xf_hop_facts *out = arg;

	if (msg->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	out->link_type = info->ifi_type;
	out->link_flags = info->ifi_flags;
	mnl_attr_parse(msg, sizeof(*info), link_attr, out);
	return MNL_CB_OK;
}

static int neigh_attr(const struct nlattr *attr, void *arg)
{
	struct xf_hop_facts *out = arg;
	uint32_t len = mnl_attr_get_payload_len(attr);

	if (mnl_attr_get_type(attr) != NDA_LLADDR || len > sizeof(out->lladdr))
		return MNL_CB_OK;
	out->lladdr_len = (uint8_t)len;
	memcpy(out->lladdr, mnl_attr_get_payload(attr), len);
	return MNL_CB_OK;
}

static int read_neigh(const struct nlmsghdr *msg, void *arg)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(msg);
	struct xf_hop_facts *out = arg;

	if (msg->nlmsg_type != RTM_NEWNEIGH)
		return MNL_CB_OK;
	out->neigh_state = ndm->ndm_state;
	mnl_attr_parse(msg, sizeof(*ndm), neigh_attr, out);
	return MNL_CB_OK;
}

static void ask_link(struct xf_rtnl *rtnl, struct xf_hop_facts *out)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETLINK, NLM_F_ACK);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifi_index = (int)out->ifindex;
	if (xf_rtnl_talk(rtnl, msg, read_link, out) < 0)
		out->link_flags = 0;
}

/* Linux 5.0; before that no neighbour is found, and raw sockets send. */
static void ask_neigh(struct xf_rtnl *rtnl, struct xf_hop_facts *out)
{
	struct nlmsghdr *msg = xf_rtnl_start(rtnl, RTM_GETNEIGH, NLM_F_ACK);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(msg, sizeof(*ndm));

	ndm->ndm_family = (uint8_t)out->via_family;
	ndm->ndm_ifindex = (int)out->ifindex;
	mnl_attr_put(msg, NDA_DST, xf_addr_bits(out->via_family) / 8, out->via.bytes);
	if (xf_rtnl_talk(rtnl, msg, read_neigh, out) < 0)
		out->neigh_state = NUD_NONE;
}

void xf_hop_ask(struct xf_rtnl *rtnl, const struct xf_hop_key *key, struct xf_hop_facts *out)
{
	memset(out, 0, sizeof(*out));
	ask_route(rtnl, key, out);
	if (out->route_type != RTN_UNICAST || !out->ifindex)
		return;
	ask_link(rtnl, out);
	ask_neigh(rtnl, out);
}
