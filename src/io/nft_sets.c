#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "io/backend.h"
#include "io/nft_sets.h"
#include "io/ruleset.h"

/* One transaction: less than a socket's send buffer. */
#define BATCH_BYTES (64u * 1024)
#define MESSAGE_MAX 160
/* An answer that got lost must not stop the daemon. */
#define WAIT_S 5

struct xf_nft_sets {
	struct mnl_socket *socket;
	uint32_t seq; /* of the last message of the batch */
	uint32_t first; /* of its first one */
	struct nlmsghdr *last; /* NULL: the batch is empty */
	size_t len;
	uint8_t batch[BATCH_BYTES] __attribute__((aligned(8)));
};

int xf_nft_sets_new(struct xf_nft_sets **out, struct xf_io_error *error)
{
	struct xf_nft_sets *sets = calloc(1, sizeof(*sets));
	const struct timeval wait = { .tv_sec = WAIT_S };
	int err = -ENOMEM;

	if (sets) {
		sets->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
		err = sets->socket ? 0 : -errno;
	}
	if (!err && (mnl_socket_bind(sets->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		     setsockopt(mnl_socket_get_fd(sets->socket), SOL_SOCKET, SO_RCVTIMEO, &wait,
				sizeof(wait)) < 0))
		err = -errno;
	if (err) {
		xf_nft_sets_free(sets);
		return xf_io_fail(error, err, "cannot talk to nftables");
	}
	*out = sets;
	return 0;
}

void xf_nft_sets_free(struct xf_nft_sets *sets)
{
	if (sets && sets->socket)
		mnl_socket_close(sets->socket);
	free(sets);
}

void xf_nft_set_name(char name[XF_NFT_SET_NAME], bool six, unsigned rung)
{
	snprintf(name, XF_NFT_SET_NAME, "dst%c_%u", six ? '6' : '4', xf_cover_len(six, rung));
}

static struct nlmsghdr *put_header(struct xf_nft_sets *sets, uint16_t type, uint8_t family,
				   uint16_t res_id)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(sets->batch + sets->len);
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST;
	msg->nlmsg_seq = ++sets->seq;
	gen->nfgen_family = family;
	gen->version = NFNETLINK_V0;
	gen->res_id = htons(res_id);
	return msg;
}

static void begin(struct xf_nft_sets *sets)
{
	sets->len = 0;
	sets->last = NULL;
	sets->len =
		put_header(sets, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
	sets->first = sets->seq;
}

static void put_cell(struct xf_nft_sets *sets, const struct xf_cell *cell)
{
	int kind = cell->count ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
	struct nlmsghdr *msg =
		put_header(sets, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | kind), NFPROTO_INET, 0);
	struct nlattr *list, *elem, *key;
	char name[XF_NFT_SET_NAME];

	if (cell->count)
		msg->nlmsg_flags |= NLM_F_CREATE;
	xf_nft_set_name(name, cell->six, cell->rung);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_TABLE, XF_NFT_TABLE);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_SET, name);
	list = mnl_attr_nest_start(msg, NFTA_SET_ELEM_LIST_ELEMENTS);
	elem = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);
	key = mnl_attr_nest_start(msg, NFTA_SET_ELEM_KEY);
	mnl_attr_put(msg, NFTA_DATA_VALUE, cell->six ? 16 : 4, cell->addr.bytes);
	mnl_attr_nest_end(msg, key);
	mnl_attr_nest_end(msg, elem);
	mnl_attr_nest_end(msg, list);
	sets->len += NLMSG_ALIGN(msg->nlmsg_len);
	sets->last = msg;
}

/* Acknowledged is the last message alone, and what failed; a commit that fails, the first. */
static int wait_for_answer(struct xf_nft_sets *sets, uint32_t last)
{
	int err = 0;

	for (;;) {
		uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t n = mnl_socket_recvfrom(sets->socket, buf, sizeof(buf));
		const struct nlmsghdr *msg = (const void *)buf;
		const struct nlmsgerr *ack = NLMSG_DATA(msg);

		if (n < 0)
			return -errno;
		if (n < (ssize_t)NLMSG_LENGTH(sizeof(*ack)) || msg->nlmsg_type != NLMSG_ERROR ||
		    msg->nlmsg_seq - sets->first > last - sets->first)
			continue; /* of a batch that nobody waited for any more */
		err = err ? err : ack->error;
		if (msg->nlmsg_seq == last || (msg->nlmsg_seq == sets->first && err))
			return err;
	}
}

static int commit(struct xf_nft_sets *sets)
{
	uint32_t last = sets->seq;

	if (!sets->last)
		return 0;
	sets->last->nlmsg_flags |= NLM_F_ACK;
	sets->len +=
		put_header(sets, NFNL_MSG_BATCH_END, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
	if (mnl_socket_sendto(sets->socket, sets->batch, sets->len) < 0)
		return -errno;
	return wait_for_answer(sets, last);
}

int xf_nft_sets_follow(struct xf_nft_sets *sets, const struct xf_cover *cover)
{
	int err = 0;

	begin(sets);
	for (struct xf_cell *cell = cover->pending; cell && !err; cell = cell->next_pending) {
		bool there = cell->at & XF_CELL_IN_SETS;

		if (there == (cell->count != 0))
			continue;
		put_cell(sets, cell);
		cell->at ^= XF_CELL_IN_SETS;
		if (sets->len + 2 * MESSAGE_MAX <= sizeof(sets->batch))
			continue;
		err = commit(sets);
		begin(sets);
	}
	return err ? err : commit(sets);
}
