/*
 * Reads back from the kernel what capture has put there; kernel.c calls it.
 */
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "capture/repair/inspect.h"
#include "capture/nat/nat.h"
#include "capture/nft/nft_sets.h"
#include "host/rtnl.h"

/* --- the nftables table --- */

struct digest {
	uint64_t value;
	uint16_t last; /* attribute that counts */
};

/* Attributes that tell one object from another: names, handles, flags, hooks. */
static int digest_attr(const struct nlattr *attr, void *arg)
{
	struct digest *digest = arg;

	if (mnl_attr_get_type(attr) <= digest->last)
		digest->value = xf_nft_digest(digest->value, mnl_attr_get_payload(attr),
					      mnl_attr_get_payload_len(attr));
	return MNL_CB_OK;
}

struct reading {
	struct xf_nft_seen *seen;
	struct xf_capture_counts *counts;
	unsigned ncounters;
	struct xf_rtnl rtnl;
	uint8_t family;
	char (*sets)[64];
	unsigned nsets;
	unsigned room;
};

static int table_name_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == NFTA_SET_TABLE &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*(bool *)arg = strcmp(mnl_attr_get_str(attr), XF_NFT_TABLE) == 0;
	return MNL_CB_OK;
}

static bool is_of_our_table(const struct reading *reading, const struct nlmsghdr *msg)
{
	const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
	bool ours = false;

	if (gen->nfgen_family == reading->family)
		mnl_attr_parse(msg, sizeof(*gen), table_name_attr, &ours);
	return ours;
}

/* Bodies of rules do not count, their handles do; nor do values of counters. */
static int see_object(const struct nlmsghdr *msg, void *arg)
{
	uint16_t type = msg->nlmsg_type & 0xff;
	struct reading *reading = arg;
	struct digest digest = {
		.value = XF_NFT_DIGEST ^ type,
		.last = type == NFT_MSG_NEWRULE || type == NFT_MSG_NEWOBJ ? NFTA_RULE_HANDLE
									  : NFTA_CHAIN_POLICY,
	};

	if (!is_of_our_table(reading, msg))
		return MNL_CB_OK;
	if (reading->family == NFPROTO_INET && type == NFT_MSG_NEWTABLE)
		reading->seen->there = true;
	mnl_attr_parse(msg, sizeof(struct nfgenmsg), digest_attr, &digest);
	/* A sum: they may come in any order. */
	reading->seen->digest += digest.value;
	return MNL_CB_OK;
}

static int set_name_attr(const struct nlattr *attr, void *arg)
{
	struct reading *reading = arg;

	if (mnl_attr_get_type(attr) == NFTA_SET_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(reading->sets[reading->nsets], sizeof(reading->sets[0]), "%s",
			 mnl_attr_get_str(attr));
	return MNL_CB_OK;
}

static int see_set(const struct nlmsghdr *msg, void *arg)
{
	struct reading *reading = arg;

	if (!is_of_our_table(reading, msg))
		return MNL_CB_OK;
	if (reading->nsets == reading->room) {
		unsigned room = reading->room ? 2 * reading->room : 64;
		void *bigger = realloc(reading->sets, room * sizeof(reading->sets[0]));

		if (!bigger)
			return MNL_CB_ERROR;
		reading->sets = bigger;
		reading->room = room;
	}
	reading->sets[reading->nsets][0] = 0;
	mnl_attr_parse(msg, sizeof(struct nfgenmsg), set_name_attr, reading);
	/* Anonymous sets are a part of their rule. */
	if (strncmp(reading->sets[reading->nsets], "__", 2) != 0 &&
	    strncmp(reading->sets[reading->nsets], XF_NAT_SETS, strlen(XF_NAT_SETS)) != 0)
		reading->nsets++;
	return see_object(msg, arg);
}

/* Those of one message, which are of one set. */
struct elements {
	const char *set;
	uint64_t sum;
};

static int value_attr(const struct nlattr *attr, void *arg)
{
	struct elements *elements = arg;

	if (mnl_attr_get_type(attr) == NFTA_DATA_VALUE)
		elements->sum += xf_nft_elements_digest_value(
			elements->set, mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
	return MNL_CB_OK;
}

static int element_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_KEY)
		return mnl_attr_parse_nested(attr, value_attr, arg);
	return MNL_CB_OK;
}

static int each_element(const struct nlattr *attr, void *arg)
{
	return mnl_attr_parse_nested(attr, element_attr, arg);
}

/* The name comes first. */
static int element_list_attr(const struct nlattr *attr, void *arg)
{
	struct elements *elements = arg;

	if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_SET &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		elements->set = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_ELEMENTS)
		return mnl_attr_parse_nested(attr, each_element, arg);
	return MNL_CB_OK;
}

static int see_elements(const struct nlmsghdr *msg, void *arg)
{
	struct elements elements = { .set = "" };
	struct reading *reading = arg;

	mnl_attr_parse(msg, sizeof(struct nfgenmsg), element_list_attr, &elements);
	reading->seen->elements += elements.sum;
	return MNL_CB_OK;
}

static int dump(struct reading *reading, uint8_t type, const char *set, mnl_cb_t see)
{
	struct nlmsghdr *msg = xf_rtnl_start(
		&reading->rtnl, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), NLM_F_DUMP);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	gen->nfgen_family = reading->family;
	gen->version = NFNETLINK_V0;
	if (type != NFT_MSG_GETTABLE && type != NFT_MSG_GETCHAIN)
		mnl_attr_put_strz(msg, NFTA_SET_TABLE, XF_NFT_TABLE);
	if (set)
		mnl_attr_put_strz(msg, NFTA_SET_NAME, set);
	return xf_rtnl_talk(&reading->rtnl, msg, see, reading);
}

/* Not every kernel has the family, and then nothing of it. */
static int read_bridge(struct reading *reading)
{
	static const uint8_t types[] = { NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE };
	int err = 0;

	reading->family = NFPROTO_BRIDGE;
	for (unsigned i = 0; i < XF_ARRAY_SIZE(types) && !err; i++)
		err = dump(reading, types[i], NULL, see_object);
	return err == -ENOENT || err == -EOPNOTSUPP ? 0 : err;
}

int xf_inspect_table(bool elements, struct xf_nft_seen *out)
{
	static const uint8_t types[] = { NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETOBJ };
	struct reading reading = { .seen = out, .family = NFPROTO_INET };
	int err = xf_rtnl_open_bus(&reading.rtnl, NETLINK_NETFILTER, NULL);

	*out = (struct xf_nft_seen){ .there = false };
	if (err)
		return err;
	err = dump(&reading, NFT_MSG_GETTABLE, NULL, see_object);
	for (unsigned i = 0; i < XF_ARRAY_SIZE(types) && !err && out->there; i++)
		err = dump(&reading, types[i], NULL, see_object);
	if (!err && out->there)
		err = dump(&reading, NFT_MSG_GETSET, NULL, see_set);
	for (unsigned i = 0; i < reading.nsets && !err && elements; i++)
		err = dump(&reading, NFT_MSG_GETSETELEM, reading.sets[i], see_elements);
	if (!err && out->there)
		err = read_bridge(&reading);
	free(reading.sets);
	xf_rtnl_close(&reading.rtnl);
	/* Gone between two of them. */
	if (err == -ENOENT) {
		*out = (struct xf_nft_seen){ .there = false };
		err = 0;
	}
	return err;
}

/* --- its counters --- */

struct counter {
	const char *name;
	uint64_t packets;
};

static int counter_data_attr(const struct nlattr *attr, void *arg)
{
	struct counter *counter = arg;

	if (mnl_attr_get_type(attr) == NFTA_COUNTER_PACKETS &&
	    mnl_attr_validate(attr, MNL_TYPE_U64) >= 0)
		counter->packets = be64toh(mnl_attr_get_u64(attr));
	return MNL_CB_OK;
}

static int counter_attr(const struct nlattr *attr, void *arg)
{
	struct counter *counter = arg;

	if (mnl_attr_get_type(attr) == NFTA_OBJ_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		counter->name = mnl_attr_get_str(attr);
	else if (mnl_attr_get_type(attr) == NFTA_OBJ_DATA)
		mnl_attr_parse_nested(attr, counter_data_attr, counter);
	return MNL_CB_OK;
}

static int see_counter(const struct nlmsghdr *msg, void *arg)
{
	struct counter counter = { .name = "" };
	struct reading *reading = arg;

	if (!is_of_our_table(reading, msg))
		return MNL_CB_OK;
	mnl_attr_parse(msg, sizeof(struct nfgenmsg), counter_attr, &counter);
	for (size_t i = 0; i < xf_capture_counters.n; i++) {
		const struct xf_counter_desc *desc = &xf_capture_counters.descs[i];

		if (!desc->source || strcmp(desc->source, counter.name) != 0)
			continue;
		xf_counter_set(desc, reading->counts, counter.packets);
		reading->ncounters++;
	}
	return MNL_CB_OK;
}

int xf_inspect_counters(struct xf_capture_counts *out)
{
	struct reading reading = { .counts = out, .family = NFPROTO_INET };
	int err = xf_rtnl_open_bus(&reading.rtnl, NETLINK_NETFILTER, NULL);

	if (err)
		return err;
	err = dump(&reading, NFT_MSG_GETOBJ, NULL, see_counter);
	xf_rtnl_close(&reading.rtnl);
	return err || reading.ncounters ? err : -ENOENT;
}
