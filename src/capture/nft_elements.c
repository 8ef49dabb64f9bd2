/*
 * Elements of nftables sets as netlink messages, behind each other in transactions of some hundred;
 * kernel.c calls it.
 */
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "capture/nft_batch.h"
#include "capture/nft_sets.h"
#include "capture/ruleset.h"
#include "io/rtnl.h"

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

static void put_message(struct xf_nft_batch *batch, const struct xf_nft_set *set,
			const struct xf_cell_key *cell, bool there)
{
	uint8_t kind = there ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
	struct nlmsghdr *msg =
		xf_nft_batch_add(batch, kind, NFPROTO_INET, there ? NLM_F_CREATE : 0);
	struct nlattr *list, *elem, *key;
	uint8_t value[ELEMENT_MAX];
	size_t len = put_value(set, cell, value);

	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_TABLE, XF_NFT_TABLE);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_SET, set->name);
	list = mnl_attr_nest_start(msg, NFTA_SET_ELEM_LIST_ELEMENTS);
	elem = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);
	key = mnl_attr_nest_start(msg, NFTA_SET_ELEM_KEY);
	mnl_attr_put(msg, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(msg, key);
	mnl_attr_nest_end(msg, elem);
	mnl_attr_nest_end(msg, list);
}

/* A batch that is full goes. */
int xf_nft_elements_put(struct xf_nft_batch *batch, const struct xf_nft_set *set,
			const struct xf_cell_key *key, bool there)
{
	put_message(batch, set, key, there);
	return xf_nft_batch_is_full(batch) ? xf_nft_batch_commit(batch) : 0;
}
