#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "capture/nft_sets.h"
#include "capture/ruleset.h"

/* One transaction: less than a socket's send buffer. */
#define BATCH_BYTES (64u * 1024)
#define MESSAGE_MAX 192
#define ELEMENT_MAX (2 * 16 + 3 * 4)
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

void xf_nft_set_of_cover(struct xf_nft_set *out, bool six, unsigned rung)
{
	uint8_t bits = xf_cover_len(six, rung);

	*out = (struct xf_nft_set){ .six = six, .n = 1, .side = { "daddr" }, .bits = { bits } };
	snprintf(out->name, sizeof(out->name), "dst%c_%u", six ? '6' : '4', bits);
}

void xf_nft_set_of_sieve(struct xf_nft_set *out, const struct xf_sieve *sieve, unsigned kind)
{
	static const char *const sides[] = { "saddr", "daddr" };
	const struct xf_sieve_kind *of = &sieve->kinds[kind];
	char upper[sizeof("p_ffff_ffff_")] = "";

	*out = (struct xf_nft_set){
		.six = of->six,
		.pieces = of->pieces,
		.proto = of->proto,
		.port_mask = { of->port_mask[0], of->port_mask[1] },
	};
	for (uint8_t i = 0; i < 2; i++) {
		if (!of->bits[i])
			continue;
		out->side[out->n] = sides[i];
		out->bits[out->n] = of->bits[i];
		out->from[out->n++] = i;
	}
	if (of->proto)
		snprintf(upper, sizeof(upper), "%c_%x_%x_", of->pieces ? 'f' : 'p',
			 of->port_mask[0], of->port_mask[1]);
	snprintf(out->name, sizeof(out->name), "%s%c_%u_%u_%s%u_%x",
		 sieve->dir == XF_DIR_IN ? "in" : "fwd", of->six ? '6' : '4', of->bits[0],
		 of->bits[1], upper, of->segment, sieve->round);
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

static void put_cell(struct xf_nft_sets *sets, const struct xf_nft_set *set,
		     const struct xf_cell *cell)
{
	int kind = cell->count ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
	struct nlmsghdr *msg =
		put_header(sets, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | kind), NFPROTO_INET, 0);
	struct nlattr *list, *elem, *key;
	uint8_t value[ELEMENT_MAX];
	size_t len = put_value(set, &cell->key, value);

	if (cell->count)
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

/* A change of @cell; a batch that is full goes. */
static int change(struct xf_nft_sets *sets, const struct xf_nft_set *set, struct xf_cell *cell)
{
	int err;

	put_cell(sets, set, cell);
	cell->at ^= XF_CELL_IN_SETS;
	if (sets->len + 2 * MESSAGE_MAX <= sizeof(sets->batch))
		return 0;
	err = commit(sets);
	begin(sets);
	return err;
}

static bool differs(const struct xf_cell *cell)
{
	bool there = cell->at & XF_CELL_IN_SETS;

	return there != (cell->count != 0);
}

int xf_nft_sets_follow(struct xf_nft_sets *sets, const struct xf_cover *cover)
{
	int err = 0;

	begin(sets);
	for (struct xf_cell *cell = cover->cells.pending; cell && !err; cell = cell->next_pending) {
		struct xf_nft_set set;

		if (!differs(cell))
			continue;
		xf_nft_set_of_cover(&set, xf_cover_six(&cell->key), xf_cover_rung(&cell->key));
		err = change(sets, &set, cell);
	}
	return err ? err : commit(sets);
}

int xf_nft_sets_sift(struct xf_nft_sets *sets, const struct xf_sieve *sieve, bool there)
{
	int err = 0;

	begin(sets);
	for (struct xf_cell *cell = sieve->cells.pending; cell && !err; cell = cell->next_pending) {
		struct xf_nft_set set;

		if (!differs(cell) || there != (cell->count != 0))
			continue;
		xf_nft_set_of_sieve(&set, sieve, cell->key.set);
		err = change(sets, &set, cell);
	}
	return err ? err : commit(sets);
}
