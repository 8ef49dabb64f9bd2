/*
 * One transaction of nf_tables, with the kernel's answers; nft_elements.c and nft_table.c put
 * messages in.
 *
 * libnftables may use the same socket. The kernel answers before send() returns, so each of them
 * finds its own answers alone, if it takes all of them out at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <netinet/in.h> /* before Linux's headers */
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "capture/nft/nft_batch.h"
#include "host/rtnl.h"

/* Less than a socket's send buffer. */
#define BATCH_BYTES (64u * 1024)

struct xf_nft_batch {
	int fd;
	uint32_t seq; /* of the last message */
	struct nlmsghdr *last; /* NULL: the batch is empty */
	uint8_t bytes[BATCH_BYTES] __attribute__((aligned(8)));
};

int xf_nft_batch_new(int fd, struct xf_nft_batch **out)
{
	struct xf_nft_batch *batch = calloc(1, sizeof(*batch));
	int err;

	if (fd < 0)
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (batch && fd >= 0) {
		batch->fd = fd;
		*out = batch;
		return 0;
	}
	err = batch ? -errno : -ENOMEM;
	if (fd >= 0)
		close(fd);
	free(batch);
	return err;
}

void xf_nft_batch_free(struct xf_nft_batch *batch)
{
	if (batch)
		close(batch->fd);
	free(batch);
}

static size_t length(const struct xf_nft_batch *batch)
{
	if (!batch->last)
		return 0;
	return (size_t)((const uint8_t *)batch->last - batch->bytes) +
	       NLMSG_ALIGN(batch->last->nlmsg_len);
}

static struct nlmsghdr *put_header(struct xf_nft_batch *batch, uint16_t type, uint8_t family,
				   uint16_t res_id)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(batch->bytes + length(batch));
	struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST;
	msg->nlmsg_seq = ++batch->seq;
	gen->nfgen_family = family;
	gen->version = NFNETLINK_V0;
	gen->res_id = htons(res_id);
	batch->last = msg;
	return msg;
}

struct nlmsghdr *xf_nft_batch_add(struct xf_nft_batch *batch, uint8_t kind, uint8_t family,
				  uint16_t flags)
{
	struct nlmsghdr *msg;

	if (!batch->last)
		put_header(batch, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	msg = put_header(batch, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | kind), family, 0);
	msg->nlmsg_flags |= flags;
	return msg;
}

struct nlmsghdr *xf_nft_batch_last(const struct xf_nft_batch *batch)
{
	return batch->last;
}

bool xf_nft_batch_is_full(const struct xf_nft_batch *batch)
{
	return length(batch) + 2 * XF_NFT_BATCH_MESSAGE > sizeof(batch->bytes);
}

/*
 * Until there is none. Acknowledged is the last message alone, and what failed: the first error
 * counts. With @seq 0 the answers are of somebody who did not wait for them.
 */
static int read_answers(const struct xf_nft_batch *batch, uint32_t seq)
{
	bool acknowledged = false;
	int err = 0;

	for (;;) {
		uint8_t buf[XF_RTNL_BUF] __attribute__((aligned(8)));
		ssize_t n = recv(batch->fd, buf, sizeof(buf), MSG_DONTWAIT);
		const struct nlmsghdr *msg = (const void *)buf;
		const struct nlmsgerr *ack = NLMSG_DATA(msg);

		if (n < 0 && errno == EAGAIN)
			return err ? err : acknowledged ? 0 : -EIO;
		if (n < 0 && errno != ENOBUFS && errno != EINTR)
			return -errno;
		if (n < 0 && errno == ENOBUFS)
			err = err ? err : -ENOBUFS;
		if (n < (ssize_t)NLMSG_LENGTH(sizeof(*ack)) || msg->nlmsg_type != NLMSG_ERROR)
			continue;
		err = err ? err : ack->error;
		acknowledged = acknowledged || msg->nlmsg_seq == seq;
	}
}

int xf_nft_batch_commit(struct xf_nft_batch *batch)
{
	uint32_t seq = batch->seq;
	size_t len;

	if (!batch->last)
		return 0;
	batch->last->nlmsg_flags |= NLM_F_ACK;
	put_header(batch, NFNL_MSG_BATCH_END, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	len = length(batch);
	batch->last = NULL;
	read_answers(batch, 0);
	return send(batch->fd, batch->bytes, len, 0) < 0 ? -errno : read_answers(batch, seq);
}
