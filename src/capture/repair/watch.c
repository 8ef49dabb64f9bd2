/*
 * Listens to nfnetlink and rtnetlink for changes of what capture has put into the kernel; kernel.c
 * calls it.
 *
 * The messages of an nftables transaction come before the one that closes it, which says whose it
 * was. So what a transaction did to our table is kept until then.
 */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "capture/repair/watch.h"
#include "host/rtnl.h"

#include "tc_filter.h"

#define MONITOR_RCVBUF (4 << 20)
#define NAME 48

struct xf_watcher {
	struct xf_io_names names;
	int epoll;
	struct mnl_socket *nft; /* NULL: this kernel has none */
	struct mnl_socket *rtnl;
	struct xf_rtnl ask; /* nfnetlink */
	uint32_t self; /* the number of this thread, as transactions are signed */
	uint32_t generation; /* of the last that was told of */
	bool no_filters; /* of ours, but on the TUN */

	/* What the transaction that is coming in has done to our table. */
	char done[XF_HEAL_TEXT]; /* "": nothing */
	enum xf_heal_part part;
	bool table_gone;

	/* What xf_watcher_keep_up() has found: the first that is sure, or any. */
	struct xf_capture_event kept;
	bool has_kept;

	/* While xf_watcher_read() is at work. */
	void (*tell)(void *arg, const struct xf_capture_event *event);
	void *arg;
};

static void tell_of_device(struct xf_watcher *watcher, enum xf_heal_part part, uint32_t ifindex,
			   bool sure, const char *what)
{
	struct xf_capture_event event = { .part = part, .sure = sure, .ifindex = ifindex };

	snprintf(event.what, sizeof(event.what), "%.*s", XF_HEAL_TEXT - 1, what);
	watcher->tell(watcher->arg, &event);
}

static void tell(struct xf_watcher *watcher, enum xf_heal_part part, bool sure, const char *what)
{
	tell_of_device(watcher, part, 0, sure, what);
}

/* --- nftables --- */

struct generation {
	uint32_t id;
	uint32_t pid;
	char program[NAME];
};

static int generation_attr(const struct nlattr *attr, void *arg)
{
	struct generation *gen = arg;
	bool number = mnl_attr_get_payload_len(attr) == 4;

	if (mnl_attr_get_type(attr) == NFTA_GEN_ID && number)
		gen->id = ntohl(mnl_attr_get_u32(attr));
	else if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_PID && number)
		gen->pid = ntohl(mnl_attr_get_u32(attr));
	else if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_NAME &&
		 mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(gen->program, sizeof(gen->program), "%s", mnl_attr_get_str(attr));
	return MNL_CB_OK;
}

static int read_generation(const struct nlmsghdr *msg, void *arg)
{
	mnl_attr_parse(msg, sizeof(struct nfgenmsg), generation_attr, arg);
	return MNL_CB_OK;
}

/* The answer is signed as a transaction of ours would be. */
static int ask_generation(struct xf_watcher *watcher, struct generation *out)
{
	struct nlmsghdr *msg =
		xf_rtnl_start(&watcher->ask, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, NLM_F_ACK);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	*out = (struct generation){ .id = 0 };
	gen->nfgen_family = AF_UNSPEC;
	gen->version = NFNETLINK_V0;
	return xf_rtnl_talk(&watcher->ask, msg, read_generation, out);
}

/* The first two attributes of all messages that matter: the table's name, and in most of them that
 * of a chain or set. */
struct object {
	const char *table;
	const char *name;
};

static int object_attr(const struct nlattr *attr, void *arg)
{
	struct object *object = arg;

	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return MNL_CB_OK;
	if (mnl_attr_get_type(attr) == NFTA_RULE_TABLE)
		object->table = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == NFTA_RULE_CHAIN && !object->name)
		object->name = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* A chain's second attribute is its handle, its name is the third. */
static int chain_attr(const struct nlattr *attr, void *arg)
{
	struct object *object = arg;

	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return MNL_CB_OK;
	if (mnl_attr_get_type(attr) == NFTA_CHAIN_TABLE)
		object->table = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == NFTA_CHAIN_NAME)
		object->name = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

static const struct change {
	uint8_t type;
	enum xf_heal_part part;
	const char *text; /* %s: the object's name */
} changes[] = {
	{ NFT_MSG_NEWTABLE, XF_HEAL_TABLE, " was changed" },
	{ NFT_MSG_DELTABLE, XF_HEAL_TABLE, " was deleted" },
	{ NFT_MSG_NEWCHAIN, XF_HEAL_TABLE, ", chain %.32s, was changed" },
	{ NFT_MSG_DELCHAIN, XF_HEAL_TABLE, ", chain %.32s, was deleted" },
	{ NFT_MSG_NEWRULE, XF_HEAL_TABLE, ", a rule of %.32s, was added" },
	{ NFT_MSG_DELRULE, XF_HEAL_TABLE, ", a rule of %.32s, was deleted" },
	{ NFT_MSG_NEWSET, XF_HEAL_TABLE, ", set %.32s, was changed" },
	{ NFT_MSG_DELSET, XF_HEAL_TABLE, ", set %.32s, was deleted" },
	{ NFT_MSG_NEWSETELEM, XF_HEAL_ELEMENTS, ", an element of %.32s, was added" },
	{ NFT_MSG_DELSETELEM, XF_HEAL_ELEMENTS, ", an element of %.32s, was deleted" },
	{ NFT_MSG_NEWOBJ, XF_HEAL_TABLE, ", object %.32s, was changed" },
	{ NFT_MSG_DELOBJ, XF_HEAL_TABLE, ", object %.32s, was deleted" },
	{ NFT_MSG_NEWFLOWTABLE, XF_HEAL_TABLE, ", a flow table, was added" },
};

/* Of many changes the first is told, unless the whole table goes, or comes again. */
static void note_change(struct xf_watcher *watcher, uint8_t type, const struct object *object)
{
	const char *name = object->name ? object->name : "";
	int n;

	for (size_t i = 0; i < XF_ARRAY_SIZE(changes); i++) {
		bool gone = changes[i].type == NFT_MSG_DELTABLE;
		bool back = changes[i].type == NFT_MSG_NEWTABLE && watcher->table_gone;

		if (changes[i].type != type || (*watcher->done && !gone && !back))
			continue;
		n = snprintf(watcher->done, sizeof(watcher->done), "nftables table " XF_NFT_TABLE);
		snprintf(watcher->done + n, sizeof(watcher->done) - (size_t)n,
			 back ? " was replaced%.0s" : changes[i].text, name);
		watcher->part = changes[i].part;
		watcher->table_gone = gone;
	}
}

static void finish_transaction(struct xf_watcher *watcher, const struct generation *gen)
{
	char what[2 * XF_HEAL_TEXT];

	watcher->generation = gen->id;
	snprintf(what, sizeof(what), "%s by %s (pid %u)", watcher->done,
		 *gen->program ? gen->program : "somebody", gen->pid);
	if (*watcher->done && gen->pid != watcher->self)
		tell(watcher, watcher->part, true, what);
	*watcher->done = 0;
	watcher->table_gone = false;
}

static int see_nft(const struct nlmsghdr *msg, void *arg)
{
	const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
	struct xf_watcher *watcher = arg;
	uint8_t type = (uint8_t)msg->nlmsg_type;
	struct object object = { .table = "" };
	struct generation generation = { .id = 0 };

	if (msg->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES)
		return MNL_CB_OK;
	if (type == NFT_MSG_NEWGEN) {
		read_generation(msg, &generation);
		finish_transaction(watcher, &generation);
		return MNL_CB_OK;
	}
	if (gen->nfgen_family != NFPROTO_INET && gen->nfgen_family != NFPROTO_BRIDGE)
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*gen),
		       type == NFT_MSG_NEWCHAIN || type == NFT_MSG_DELCHAIN ? chain_attr
									    : object_attr,
		       &object);
	if (strcmp(object.table, XF_NFT_TABLE) == 0)
		note_change(watcher, type, &object);
	return MNL_CB_OK;
}

/* --- rtnetlink --- */

static int table_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == RTA_TABLE && mnl_attr_get_payload_len(attr) == 4)
		*(uint32_t *)arg = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static void see_route(struct xf_watcher *watcher, const struct nlmsghdr *msg)
{
	uint32_t table = 0;

	mnl_attr_parse(msg, sizeof(struct rtmsg), table_attr, &table);
	if (table == watcher->names.table)
		tell(watcher, XF_HEAL_ROUTE, false, "");
}

/* A filter with our handle, of all protocols, or all of its priority. */
static bool is_our_filter(const struct tcmsg *tc, uint32_t priority)
{
	if (TC_H_MAJ(tc->tcm_parent) != TC_H_MAJ(TC_H_CLSACT) ||
	    TC_H_MAJ(tc->tcm_info) >> 16 != priority)
		return false;
	if (tc->tcm_handle == XF_TC_HANDLE)
		return TC_H_MIN(tc->tcm_info) == htons(ETH_P_ALL);
	return tc->tcm_handle == 0;
}

static void see_filters_go(struct xf_watcher *watcher, const struct nlmsghdr *msg)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(msg);
	char name[IF_NAMESIZE] = "";
	char what[XF_HEAL_TEXT];
	bool tun;

	/* With its device they go for good. */
	if (!if_indextoname((unsigned)tc->tcm_ifindex, name))
		return;
	tun = strcmp(name, watcher->names.tun) == 0;
	if (!tun && watcher->no_filters)
		return;
	if (msg->nlmsg_type == RTM_DELQDISC
		    ? tc->tcm_parent != TC_H_CLSACT
		    : !is_our_filter(tc, tun ? XF_TC_META_PRIORITY : XF_TC_PRIORITY))
		return;
	snprintf(what, sizeof(what), "the tc filter of %s was deleted", name);
	if (tun)
		tell(watcher, XF_HEAL_TUN, true, what);
	else
		tell_of_device(watcher, XF_HEAL_BACKSTOP, (uint32_t)tc->tcm_ifindex, true, what);
}

static int see_rtnl(const struct nlmsghdr *msg, void *arg)
{
	struct xf_watcher *watcher = arg;

	switch (msg->nlmsg_type) {
	case RTM_NEWRULE:
	case RTM_DELRULE:
		tell(watcher, XF_HEAL_RULE, false, "");
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		see_route(watcher, msg);
		break;
	case RTM_NEWLINK:
	case RTM_DELLINK:
	case RTM_NEWNETCONF:
	case RTM_NEWADDR:
	case RTM_DELADDR:
		tell(watcher, XF_HEAL_TUN, false, "");
		break;
	case RTM_DELQDISC:
	case RTM_DELTFILTER:
		see_filters_go(watcher, msg);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* --- both --- */

static int join(struct mnl_socket *socket, int group)
{
	return mnl_socket_setsockopt(socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
}

static struct mnl_socket *open_monitor(int bus, const int *groups, unsigned n)
{
	struct mnl_socket *socket = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int rcvbuf = MONITOR_RCVBUF;
	bool ok = socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0;

	for (unsigned i = 0; ok && i < n; i++)
		ok = join(socket, groups[i]) == 0;
	if (!ok && socket) {
		mnl_socket_close(socket);
		return NULL;
	}
	if (ok)
		setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf,
			   sizeof(rcvbuf));
	return socket;
}

static int add(const struct xf_watcher *watcher, const struct mnl_socket *socket)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(watcher->epoll, EPOLL_CTL_ADD, mnl_socket_get_fd(socket), &event) ? -errno
											   : 0;
}

/* The monitor first: what comes between is told. A kernel without nftables has no group of it. */
static int open_nft(struct xf_watcher *watcher)
{
	static const int groups[] = { NFNLGRP_NFTABLES };
	struct generation now;

	watcher->nft = open_monitor(NETLINK_NETFILTER, groups, XF_ARRAY_SIZE(groups));
	if (!watcher->nft)
		return 0;
	if (xf_rtnl_open_bus(&watcher->ask, NETLINK_NETFILTER, NULL) < 0 ||
	    ask_generation(watcher, &now) < 0) {
		mnl_socket_close(watcher->nft);
		watcher->nft = NULL;
		return 0;
	}
	watcher->self = now.pid;
	watcher->generation = now.id;
	return add(watcher, watcher->nft);
}

static int open_rtnl(struct xf_watcher *watcher)
{
	static const int groups[] = { RTNLGRP_LINK,	    RTNLGRP_TC,
				      RTNLGRP_IPV4_RULE,    RTNLGRP_IPV6_RULE,
				      RTNLGRP_IPV4_ROUTE,   RTNLGRP_IPV6_ROUTE,
				      RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
				      RTNLGRP_IPV6_IFADDR };

	watcher->rtnl = open_monitor(NETLINK_ROUTE, groups, XF_ARRAY_SIZE(groups));
	return watcher->rtnl ? add(watcher, watcher->rtnl) : -errno;
}

int xf_watcher_new(const struct xf_io_names *names, struct xf_watcher **out,
		   struct xf_io_error *error)
{
	struct xf_watcher *watcher = calloc(1, sizeof(*watcher));
	int err = 0;

	if (!watcher)
		return xf_io_fail(error, -ENOMEM, "cannot watch the kernel's rules");
	watcher->names = *names;
	watcher->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (watcher->epoll < 0)
		err = -errno;
	if (!err)
		err = open_nft(watcher);
	if (!err)
		err = open_rtnl(watcher);
	if (err) {
		xf_watcher_free(watcher);
		return xf_io_fail(error, err, "cannot watch the kernel's rules");
	}
	*out = watcher;
	return 0;
}

void xf_watcher_ignore_filters(struct xf_watcher *watcher, bool ignore)
{
	watcher->no_filters = ignore;
}

void xf_watcher_free(struct xf_watcher *watcher)
{
	if (!watcher)
		return;
	if (watcher->nft)
		mnl_socket_close(watcher->nft);
	if (watcher->rtnl)
		mnl_socket_close(watcher->rtnl);
	xf_rtnl_close(&watcher->ask);
	if (watcher->epoll >= 0)
		close(watcher->epoll);
	free(watcher);
}

int xf_watcher_fd(const struct xf_watcher *watcher)
{
	return watcher->epoll;
}

/* False: something got lost on the way. */
static bool drain(struct mnl_socket *socket, mnl_cb_t see, struct xf_watcher *watcher)
{
	bool whole = true;

	for (;;) {
		uint8_t buf[4 * XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t len = mnl_socket_recvfrom(socket, buf, sizeof(buf));

		if (len < 0 && errno != ENOBUFS && errno != ENOSPC && errno != EINTR)
			return whole;
		if (len < 0 && errno != EINTR)
			whole = false;
		if (len > 0)
			mnl_cb_run(buf, (size_t)len, 0, 0, see, watcher);
	}
}

static void read_nft(struct xf_watcher *watcher)
{
	if (!watcher->nft || drain(watcher->nft, see_nft, watcher))
		return;
	*watcher->done = 0;
	tell(watcher, XF_HEAL_TABLE, false, "");
}

static void keep(void *arg, const struct xf_capture_event *event)
{
	struct xf_watcher *watcher = arg;

	if (!watcher->has_kept || (event->sure && !watcher->kept.sure))
		watcher->kept = *event;
	watcher->has_kept = true;
}

void xf_watcher_keep_up(struct xf_watcher *watcher)
{
	watcher->tell = keep;
	watcher->arg = watcher;
	read_nft(watcher);
}

void xf_watcher_read(struct xf_watcher *watcher,
		     void (*tell_fn)(void *arg, const struct xf_capture_event *event), void *arg)
{
	watcher->tell = tell_fn;
	watcher->arg = arg;
	if (watcher->has_kept)
		tell_fn(arg, &watcher->kept);
	watcher->has_kept = false;
	read_nft(watcher);
	if (!drain(watcher->rtnl, see_rtnl, watcher)) {
		tell(watcher, XF_HEAL_RULE, false, "");
		tell(watcher, XF_HEAL_BACKSTOP, true, "events of tc were lost");
	}
}

bool xf_watcher_missed(struct xf_watcher *watcher)
{
	struct generation now;

	return watcher->nft && ask_generation(watcher, &now) == 0 && now.id != watcher->generation;
}
