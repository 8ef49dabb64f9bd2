#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "host/firewall.h"
#include "host/rtnl.h"

struct xf_firewall {
	struct mnl_socket *monitor;
	struct xf_rtnl ask;
};

static enum xf_firewall_way way_of(const struct xf_firewall_chain *chain)
{
	if (chain->family == NFPROTO_NETDEV)
		return chain->hook == NF_NETDEV_INGRESS ? XF_FIREWALL_INPUT : XF_FIREWALL_NEITHER;
	if (chain->family != NFPROTO_INET && chain->family != NFPROTO_IPV4 &&
	    chain->family != NFPROTO_IPV6)
		return XF_FIREWALL_NEITHER;
	switch (chain->hook) {
	case NF_INET_LOCAL_OUT:
	case NF_INET_POST_ROUTING:
		return XF_FIREWALL_OUTPUT;
	case NF_INET_PRE_ROUTING:
	case NF_INET_LOCAL_IN:
	case NF_INET_INGRESS:
		return XF_FIREWALL_INPUT;
	default:
		return XF_FIREWALL_NEITHER;
	}
}

enum xf_firewall_way xf_firewall_matters(const struct xf_firewall_chain *chain)
{
	if (chain->family == NFPROTO_INET && !strcmp(chain->table, XF_NFT_TABLE))
		return XF_FIREWALL_NEITHER;
	return chain->drops || chain->rules ? way_of(chain) : XF_FIREWALL_NEITHER;
}

bool xf_firewall_translates(const struct xf_firewall_chain *chain)
{
	if (chain->family != NFPROTO_INET && chain->family != NFPROTO_IPV4 &&
	    chain->family != NFPROTO_IPV6)
		return false;
	if (chain->family == NFPROTO_INET && !strcmp(chain->table, XF_NFT_TABLE))
		return false;
	return !strcmp(chain->type, "nat");
}

static int hook_attr(const struct nlattr *attr, void *arg)
{
	struct xf_firewall_chain *chain = arg;

	if (mnl_attr_get_type(attr) == NFTA_HOOK_HOOKNUM && mnl_attr_get_payload_len(attr) == 4)
		chain->hook = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

static int chain_attr(const struct nlattr *attr, void *arg)
{
	struct xf_firewall_chain *chain = arg;
	bool number = mnl_attr_get_payload_len(attr) == 4;
	bool text = mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0;

	switch (mnl_attr_get_type(attr)) {
	case NFTA_CHAIN_HOOK:
		mnl_attr_parse_nested(attr, hook_attr, chain);
		break;
	case NFTA_CHAIN_TABLE:
		chain->table = text ? mnl_attr_get_str(attr) : "";
		break;
	case NFTA_CHAIN_NAME:
		chain->name = text ? mnl_attr_get_str(attr) : "";
		break;
	case NFTA_CHAIN_TYPE:
		chain->type = text ? mnl_attr_get_str(attr) : "";
		break;
	case NFTA_CHAIN_POLICY:
		chain->drops = number && ntohl(mnl_attr_get_u32(attr)) == NF_DROP;
		break;
	case NFTA_CHAIN_USE: /* nothing can jump to a base chain: what uses it is its rules */
		chain->rules = number ? ntohl(mnl_attr_get_u32(attr)) : 0;
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* Of each way, the first chain that matters is told in arg. */
static int see_chain(const struct nlmsghdr *msg, void *arg)
{
	const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
	struct xf_firewall_chain chain = {
		.family = gen->nfgen_family,
		.hook = UINT32_MAX,
		.table = "",
		.name = "",
		.type = "",
	};
	struct xf_firewall_why *why = arg;
	enum xf_firewall_way way;

	mnl_attr_parse(msg, sizeof(*gen), chain_attr, &chain);
	way = xf_firewall_matters(&chain);
	why->nat = why->nat || xf_firewall_translates(&chain);
	if (way == XF_FIREWALL_OUTPUT && !*why->output)
		snprintf(why->output, sizeof(why->output),
			 "nftables chain \"%s %s\" sees what is sent", chain.table, chain.name);
	if (way == XF_FIREWALL_INPUT && !*why->input)
		snprintf(why->input, sizeof(why->input),
			 "nftables chain \"%s %s\" sees what is received", chain.table, chain.name);
	return MNL_CB_OK;
}

static int dump_chains(struct xf_rtnl *ask, struct xf_firewall_why *why)
{
	struct nlmsghdr *msg =
		xf_rtnl_start(ask, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, NLM_F_DUMP);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	gen->nfgen_family = NFPROTO_UNSPEC;
	gen->version = NFNETLINK_V0;
	return xf_rtnl_talk(ask, msg, see_chain, why);
}

/* iptables' tables are there from their first use on, rules or not. */
static bool has_tables(const char *path, bool *nat)
{
	FILE *f = fopen(path, "re");
	char name[64];
	bool found = false;

	if (!f)
		return errno != ENOENT; /* which is a kernel without them */
	while (fgets(name, sizeof(name), f)) {
		found = true;
		*nat = *nat || !strcmp(name, "nat\n");
	}
	fclose(f);
	return found;
}

/* A reason that is about both ways, unless there is one already. */
static void tell_both(struct xf_firewall_why *why, const char *text)
{
	if (!*why->output)
		snprintf(why->output, sizeof(why->output), "%s", text);
	if (!*why->input)
		snprintf(why->input, sizeof(why->input), "%s", text);
}

void xf_firewall_look(struct xf_firewall *firewall, struct xf_firewall_why *out)
{
	char text[XF_FIREWALL_WHY_MAX];
	int err;

	*out = (struct xf_firewall_why){ .output = "" };
	err = dump_chains(&firewall->ask, out);
	snprintf(text, sizeof(text), "the rules of nftables cannot be read: %s", strerror(-err));
	if (err)
		tell_both(out, text);
	out->nat = out->nat || err;
	if (has_tables("/proc/thread-self/net/ip_tables_names", &out->nat))
		tell_both(out, "iptables has tables");
	if (has_tables("/proc/thread-self/net/ip6_tables_names", &out->nat))
		tell_both(out, "ip6tables has tables");
}

static int open_monitor(struct xf_firewall *firewall)
{
	int group = NFNLGRP_NFTABLES;

	firewall->monitor = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!firewall->monitor || mnl_socket_bind(firewall->monitor, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_setsockopt(firewall->monitor, NETLINK_ADD_MEMBERSHIP, &group,
				  sizeof(group)) < 0)
		return -errno;
	return 0;
}

int xf_firewall_new(struct xf_firewall **out, struct xf_io_error *error)
{
	struct xf_firewall *firewall = calloc(1, sizeof(*firewall));
	int err;

	if (!firewall)
		return xf_io_fail(error, -ENOMEM, "cannot watch the firewall");
	err = open_monitor(firewall);
	if (err)
		xf_io_fail(error, err, "cannot watch the firewall");
	else
		err = xf_rtnl_open_bus(&firewall->ask, NETLINK_NETFILTER, error);
	if (err) {
		xf_firewall_free(firewall);
		return err;
	}
	*out = firewall;
	return 0;
}

void xf_firewall_free(struct xf_firewall *firewall)
{
	if (!firewall)
		return;
	if (firewall->monitor)
		mnl_socket_close(firewall->monitor);
	xf_rtnl_close(&firewall->ask);
	free(firewall);
}

int xf_firewall_fd(const struct xf_firewall *firewall)
{
	return mnl_socket_get_fd(firewall->monitor);
}

static int table_attr(const struct nlattr *attr, void *arg)
{
	const char **table = arg;

	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*table = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* But for the message that closes a transaction, whatever it is about names its table first. */
static int see_event(const struct nlmsghdr *msg, void *arg)
{
	const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
	const char *table = "";
	bool *others = arg;

	if ((msg->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*gen), table_attr, &table);
	if (gen->nfgen_family != NFPROTO_INET || strcmp(table, XF_NFT_TABLE) != 0)
		*others = true;
	return MNL_CB_OK;
}

bool xf_firewall_dispatch(struct xf_firewall *firewall)
{
	bool changed = false;

	for (;;) {
		uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t len = mnl_socket_recvfrom(firewall->monitor, buf, sizeof(buf));

		/* What did not fit was an event, too. */
		if (len < 0 && errno != ENOBUFS && errno != ENOSPC && errno != EINTR)
			return changed;
		if (len < 0 || mnl_cb_run(buf, (size_t)len, 0, 0, see_event, &changed) < 0)
			changed = true;
	}
}
