/*
 * Elements of nftables sets as netlink messages, some thousand a transaction; kernel.c calls it.
 * Those of one set that come behind each other are one message: what a message costs the kernel is
 * more than what an element does.
 */
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "capture/nft/nft_batch.h"
#include "capture/nft/nft_sets.h"
#include "capture/nft/ruleset.h"
#include "host/rtnl.h"

#define ELEMENT_MAX (2 * 16 + 4 * 4)

/* A field of an element: whole words, if it is not the only one. */
static size_t put_field(uint8_t *value, size_t at, const void *field, size_t len)
{
	memcpy(value + at, field, len);
	return at + xf_align_up((uint32_t)len, sizeof(uint32_t));
}

static size_t put_value(const struct xf_nft_set *set, const struct xf_cell_key *key,
			uint8_t value[ELEMENT_MAX])
{
	const uint8_t proto = (uint8_t)key->proto;
	size_t len = 0;

	memset(value, 0, ELEMENT_MAX);
	for (unsigned i = 0; i < set->n; i++)
		len = put_field(value, len, key->addr[set->from[i]].bytes, set->six ? 16 : 4);
	if (set->mark_mask)
		len = put_field(value, len, &key->mark, sizeof(key->mark));
	if (set->proto)
		len = put_field(value, len, &proto, sizeof(proto));
	for (unsigned i = 0; i < 2; i++) {
		uint16_t port = htons(key->port[i]);

		if (set->port_mask[i])
			len = put_field(value, len, &port, sizeof(port));
	}
	return len == sizeof(uint32_t) && set->proto ? sizeof(proto) : len;
}

uint64_t xf_nft_digest(uint64_t digest, const void *bytes, size_t len)
{
	const uint8_t *byte = bytes;

	for (size_t i = 0; i < len; i++)
		digest = (digest ^ byte[i]) * 0x100000001b3ull;
	return digest;
}

uint64_t xf_nft_elements_digest_value(const char *set, const void *value, size_t len)
{
	return xf_nft_digest(xf_nft_digest(XF_NFT_DIGEST, set, strlen(set) + 1), value, len);
}

uint64_t xf_nft_elements_digest(const struct xf_nft_set *set, const struct xf_cell_key *key)
{
	uint8_t value[ELEMENT_MAX];
	size_t len = put_value(set, key, value);

	return xf_nft_elements_digest_value(set->name, value, len);
}

static uint8_t kind_of(bool there)
{
	return there ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
}

/* A message for elements of @set; *@list is to be ended when it has some. */
static struct nlmsghdr *begin_message(struct xf_nft_batch *batch, const struct xf_nft_set *set,
				      bool there, struct nlattr **list)
{
	struct nlmsghdr *msg =
		xf_nft_batch_add(batch, kind_of(there), NFPROTO_INET, there ? NLM_F_CREATE : 0);

	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_TABLE, XF_NFT_TABLE);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_SET, set->name);
	*list = mnl_attr_nest_start(msg, NFTA_SET_ELEM_LIST_ELEMENTS);
	return msg;
}

/* The batch's last message if it is one of begin_message() for the same, or NULL. */
static struct nlmsghdr *last_message(const struct xf_nft_batch *batch, const struct xf_nft_set *set,
				     bool there, struct nlattr **list)
{
	struct nlmsghdr *msg = xf_nft_batch_last(batch);
	struct nlattr *name;

	if (!msg || msg->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | kind_of(there)))
		return NULL;
	name = mnl_attr_next(mnl_nlmsg_get_payload_offset(msg, sizeof(struct nfgenmsg)));
	*list = mnl_attr_next(name);
	return strcmp(mnl_attr_get_str(name), set->name) == 0 ? msg : NULL;
}

static void put_element(struct nlmsghdr *msg, const struct xf_nft_set *set,
			const struct xf_cell_key *cell)
{
	uint8_t value[ELEMENT_MAX];
	size_t len = put_value(set, cell, value);
	struct nlattr *elem = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);
	struct nlattr *key = mnl_attr_nest_start(msg, NFTA_SET_ELEM_KEY);

	mnl_attr_put(msg, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(msg, key);
	mnl_attr_nest_end(msg, elem);
}

/* A batch that is full goes. */
int xf_nft_elements_put(struct xf_nft_batch *batch, const struct xf_nft_set *set,
			const struct xf_cell_key *key, bool there)
{
	struct nlattr *list;
	struct nlmsghdr *msg = last_message(batch, set, there, &list);

	if (!msg)
		msg = begin_message(batch, set, there, &list);
	put_element(msg, set, key);
	mnl_attr_nest_end(msg, list);
	return xf_nft_batch_is_full(batch) ? xf_nft_batch_commit(batch) : 0;
}
