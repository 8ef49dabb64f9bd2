#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* What bpftool writes is not held to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "egress.skel.h"
#pragma GCC diagnostic pop

#include "capture/backstop.h"
#include "capture/policy_order.h"
#include "io/rtnl.h"

#include "egress.h"

/* First in the chain, and a handle that nobody picks by accident. */
#define TC_PRIORITY 1
#define TC_HANDLE 0x7866

struct xf_backstop {
	struct egress *tc;
	struct xf_io_names names;
	struct xf_egress_config config;
	unsigned devices;
};

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

int xf_backstop_new(const struct xf_io_names *names, struct xf_backstop **out,
		    struct xf_io_error *error)
{
	struct xf_backstop *backstop = calloc(1, sizeof(*backstop));

	if (!backstop)
		return xf_io_fail(error, -ENOMEM, "cannot load the backstop");
	libbpf_set_print(quiet);
	backstop->names = *names;
	backstop->tc = egress__open_and_load();
	if (!backstop->tc) {
		int err = -errno;

		free(backstop);
		return xf_io_fail(error, err, "cannot load the backstop");
	}
	*out = backstop;
	return 0;
}

void xf_backstop_free(struct xf_backstop *backstop)
{
	if (!backstop)
		return;
	egress__destroy(backstop->tc);
	free(backstop);
}

static void put_mask(uint32_t *mask, uint8_t bits)
{
	uint8_t *bytes = (uint8_t *)mask;

	for (unsigned i = 0; i < 16; i++) {
		unsigned here = bits > 8 * i ? xf_min_u32(bits - 8 * i, 8) : 0;

		bytes[i] = (uint8_t)(0xff00u >> here);
	}
}

/* False: the rule would be wider than a selector that lets pass. */
static bool make_rule(const struct xf_policy_config *cfg, struct xf_egress_rule *out)
{
	const struct xf_selector *sel = &cfg->sel;
	bool icmp = sel->proto == XF_IPPROTO_ICMP || sel->proto == XF_IPPROTO_ICMPV6;
	bool ports = sel->sport_mask || sel->dport_mask;
	bool exact = !sel->ifindex && !sel->user;

	*out = (struct xf_egress_rule){
		.mark = cfg->mark.v,
		.mark_mask = cfg->mark.m,
		.family = sel->family == XF_AF_INET    ? 4
			  : sel->family == XF_AF_INET6 ? 6
						       : 0,
		.proto = sel->proto,
		.drop = xf_policy_is_strict(cfg),
	};
	memcpy(out->saddr_be, &sel->saddr, 16);
	memcpy(out->daddr_be, &sel->daddr, 16);
	put_mask(out->smask_be, sel->prefixlen_s);
	put_mask(out->dmask_be, sel->prefixlen_d);
	if (ports && !icmp && !xf_policy_has_ports(sel->proto)) {
		exact = false;
	} else {
		out->sport = sel->sport;
		out->sport_mask = sel->sport_mask;
		out->dport = sel->dport;
		out->dport_mask = sel->dport_mask;
	}
	/* Type sub lets nothing pass: main is asked too. */
	return out->drop || (exact && cfg->type == XF_POLICY_MAIN);
}

int xf_backstop_follow(struct xf_backstop *backstop, const struct xf_cover *cover)
{
	const struct bpf_map *map = backstop->tc->maps.prefixes;
	const uint8_t value = 1;
	int err = 0;

	for (struct xf_cell *cell = cover->cells.pending; cell && !err; cell = cell->next_pending) {
		bool six = xf_cover_six(&cell->key);
		uint8_t bits = xf_cover_len(six, xf_cover_rung(&cell->key));
		struct xf_egress_prefix key = { .bits = 32u + bits };
		bool there = cell->at & XF_CELL_IN_TRIE;

		if (there == (cell->count != 0))
			continue;
		xf_put_be32(&key.family_be, six ? 6 : 4);
		memcpy(key.addr_be, &cell->key.addr[0], sizeof(key.addr_be));
		if (there)
			err = bpf_map__delete_elem(map, &key, sizeof(key), 0);
		else
			err = bpf_map__update_elem(map, &key, sizeof(key), &value, sizeof(value),
						   BPF_ANY);
		if (!err)
			cell->at ^= XF_CELL_IN_TRIE;
	}
	return err;
}

static int put_rules(struct xf_backstop *backstop, const struct xf_policy_list *list)
{
	uint32_t table = !backstop->config.active;
	uint32_t count = 0;
	int err = 0;

	for (size_t i = 0; !err && i < list->n; i++) {
		struct xf_egress_rule rule;
		uint32_t key = table * XF_EGRESS_RULES_MAX + count;

		if (!make_rule(xf_policy_cfg(list->policy[i]), &rule))
			continue;
		if (count < XF_EGRESS_RULES_MAX)
			err = bpf_map__update_elem(backstop->tc->maps.rules, &key, sizeof(key),
						   &rule, sizeof(rule), BPF_ANY);
		count++;
	}
	backstop->config.count[table] = count;
	return err;
}

static int put_config(struct xf_backstop *backstop)
{
	uint32_t zero = 0;

	backstop->config.mark_bypass = backstop->names.mark_bypass;
	backstop->config.active = !backstop->config.active;
	return bpf_map__update_elem(backstop->tc->maps.config, &zero, sizeof(zero),
				    &backstop->config, sizeof(backstop->config), BPF_ANY);
}

int xf_backstop_sync(struct xf_backstop *backstop, const struct xf_spd *spd)
{
	struct xf_policy_list list;
	int err = xf_policy_list_get(spd, XF_DIR_OUT, NULL, &list);

	if (err)
		return err;
	err = put_rules(backstop, &list);
	xf_policy_list_free(&list);
	return err ? err : put_config(backstop);
}

int xf_backstop_by_destination(struct xf_backstop *backstop)
{
	backstop->config.count[!backstop->config.active] = XF_EGRESS_RULES_MAX + 1;
	return put_config(backstop);
}

/* A device as a dump of links shows it. */
struct link {
	const char *name;
	const char *slave_kind;
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

struct devices {
	int (*act)(void *arg, int ifindex, const struct link *link);
	void *arg;
	unsigned done;
	int err;
};

static int visit_link(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
	struct devices *devices = arg;
	struct link link = { 0 };
	int err;

	if (msg->nlmsg_type != RTM_NEWLINK || (ifi->ifi_flags & IFF_LOOPBACK))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(*ifi), link_attr, &link);
	err = devices->act(devices->arg, ifi->ifi_index, &link);
	if (err > 0)
		devices->done++;
	else if (err < 0 && err != -ENODEV)
		devices->err = err;
	return MNL_CB_OK;
}

static int for_each_device(struct devices *devices, struct xf_io_error *error)
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
	err = xf_rtnl_talk(&rtnl, msg, visit_link, devices);
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

/* 1: attached; 0: not a device for us. */
static int attach_one(void *arg, int ifindex, const struct link *link)
{
	const struct xf_backstop *backstop = arg;
	bool tun = link->name && strcmp(link->name, backstop->names.tun) == 0;
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(backstop->tc->progs.xf_egress),
		    .handle = TC_HANDLE, .priority = TC_PRIORITY, .flags = BPF_TC_F_REPLACE);
	int err;

	if (tun || is_port(link))
		return 0;
	err = bpf_tc_hook_create(&hook);
	if (err && err != -EEXIST)
		return err;
	err = bpf_tc_attach(&hook, &opts);
	return err ? err : 1;
}

int xf_backstop_attach(struct xf_backstop *backstop, struct xf_io_error *error)
{
	struct devices devices = { .act = attach_one, .arg = backstop };
	int err = for_each_device(&devices, error);

	backstop->devices = devices.done;
	if (!err && devices.err)
		err = xf_io_fail(error, devices.err, "cannot attach the backstop to a device");
	return err;
}

static int detach_one(void *arg, int ifindex, const struct link *link)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	(void)arg;
	(void)link;
	return bpf_tc_detach(&hook, &opts) == 0;
}

int xf_backstop_release(struct xf_io_error *error)
{
	struct devices devices = { .act = detach_one };

	libbpf_set_print(quiet);
	return for_each_device(&devices, error);
}

unsigned xf_backstop_devices(const struct xf_backstop *backstop)
{
	return backstop->devices;
}

uint64_t xf_backstop_dropped(const struct xf_backstop *backstop)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = cpus > 0 ? calloc((size_t)cpus, sizeof(*counts)) : NULL;
	uint32_t zero = 0;
	uint64_t sum = 0;

	if (!counts)
		return 0;
	if (bpf_map__lookup_elem(backstop->tc->maps.dropped, &zero, sizeof(zero), counts,
				 (size_t)cpus * sizeof(*counts), 0) == 0)
		for (int i = 0; i < cpus; i++)
			sum += counts[i];
	free(counts);
	return sum;
}
