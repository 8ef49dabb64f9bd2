/*
 * Elements of nftables sets as netlink messages, behind each other in transactions of some hundred;
 * kernel.c calls it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/time.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "capture/nft_sets.h"
#include "capture/ruleset.h"
#include "io/rtnl.h"

/* One transaction: less than a socket's send buffer. */
#define BATCH_BYTES (64u * 1024)
#define MESSAGE_MAX 192
#define ELEMENT_MAX (2 * 16 + 3 * 4)
/* An answer that got lost must not stop the daemon. */
#define WAIT_S 5

struct xf_nft_elements {
	struct mnl_socket *socket;
	uint32_t seq; /* of the last message of the batch */
	uint32_t first; /* of its first one */
	struct nlmsghdr *last;
	size_t len; /* 0: the batch is empty */
	uint8_t batch[BATCH_BYTES] __attribute__((aligned(8)));
};

int xf_nft_elements_new(struct xf_nft_elements **out, struct xf_io_error *error)
{
	struct xf_nft_elements *elements = calloc(1, sizeof(*elements));
	const struct timeval wait = { .tv_sec = WAIT_S };
	int err = -ENOMEM;

	if (elements) {
		elements->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
		err = elements->socket ? 0 : -errno;
	}
	if (!err && (mnl_socket_bind(elements->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		     setsockopt(mnl_socket_get_fd(elements->socket), SOL_SOCKET, SO_RCVTIMEO, &wait,
				sizeof(wait)) < 0))
		err = -errno;
	if (err) {
		xf_nft_elements_free(elements);
		return xf_io_fail(error, err, "cannot talk to nftables");
	}
	*out = elements;
	return 0;
}

void xf_nft_elements_free(struct xf_nft_elements *elements)
{
	if (elements && elements->socket)
		mnl_socket_close(elements->socket);
	free(elements);
}

static struct nlmsghdr *put_header(struct xf_nft_elements *elements, uint16_t type, uint8_t family,
				   uint16_t res_id)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(elements->batch + elements->len);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST;
	msg->nlmsg_seq = ++elements->seq;
	gen->nfgen_family = family;
	gen->version = NFNETLINK_V0;
	gen->res_id = htons(res_id);
	return msg;
}

static void begin(struct xf_nft_elements *elements)
{
	elements->len = put_header(elements, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)
				->nlmsg_len;
	elements->first = elements->seq;
}

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
	if (set->proto)
		len = put_field(value, len, &proto, sizeof(proto));
	for (unsigned i = 0; i < 2; i++) {
		uint16_t port = htons(key->port[i]);

		if (set->port_mask[i])
			len = put_field(value, len, &port, sizeof(port));
	}
	return len == sizeof(uint32_t) && set->proto ? sizeof(proto) : len;
}

static void put_message(struct xf_nft_elements *elements, const struct xf_nft_set *set,
			const struct xf_cell_key *cell, bool there)
{
	int kind = there ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
	struct nlmsghdr *msg =
		put_header(elements, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | kind), NFPROTO_INET, 0);
	struct nlattr *list, *elem, *key;
	uint8_t value[ELEMENT_MAX];
	size_t len = put_value(set, cell, value);

	if (there)
		msg->nlmsg_flags |= NLM_F_CREATE;
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_TABLE, XF_NFT_TABLE);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_SET, set->name);
	list = mnl_attr_nest_start(msg, NFTA_SET_ELEM_LIST_ELEMENTS);
	elem = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);
	key = mnl_attr_nest_start(msg, NFTA_SET_ELEM_KEY);
	mnl_attr_put(msg, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(msg, key);
	mnl_attr_nest_end(msg, elem);
	mnl_attr_nest_end(msg, list);
	elements->len += NLMSG_ALIGN(msg->nlmsg_len);
	elements->last = msg;
}

/* Acknowledged is the last message alone, and what failed; a commit that fails, the first. */
static int wait_for_answer(struct xf_nft_elements *elements, uint32_t last)
{
	int err = 0;

	for (;;) {
		uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t n = mnl_socket_recvfrom(elements->socket, buf, sizeof(buf));
		const struct nlmsghdr *msg = (const void *)buf;
		const struct nlmsgerr *ack = NLMSG_DATA(msg);

		if (n < 0)
			return -errno;
		if (n < (ssize_t)NLMSG_LENGTH(sizeof(*ack)) || msg->nlmsg_type != NLMSG_ERROR ||
		    msg->nlmsg_seq - elements->first > last - elements->first)
			continue; /* of a batch that nobody waited for any more */
		err = err ? err : ack->error;
		if (msg->nlmsg_seq == last || (msg->nlmsg_seq == elements->first && err))
			return err;
	}
}

int xf_nft_elements_commit(struct xf_nft_elements *elements)
{
	uint32_t last = elements->seq;
	ssize_t sent;

	if (!elements->len)
		return 0;
	elements->last->nlmsg_flags |= NLM_F_ACK;
	elements->len += put_header(elements, NFNL_MSG_BATCH_END, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)
				 ->nlmsg_len;
	sent = mnl_socket_sendto(elements->socket, elements->batch, elements->len);
	elements->len = 0;
	return sent < 0 ? -errno : wait_for_answer(elements, last);
}

/* A batch that is full goes. */
int xf_nft_elements_put(struct xf_nft_elements *elements, const struct xf_nft_set *set,
			const struct xf_cell_key *key, bool there)
{
	if (!elements->len)
		begin(elements);
	put_message(elements, set, key, there);
	if (elements->len + 2 * MESSAGE_MAX <= sizeof(elements->batch))
		return 0;
	return xf_nft_elements_commit(elements);
}
