/*
 * Asks the host's NAT for the source of packets that are to be protected; io.c calls it with what
 * the engine sets aside.
 *
 * A packet reaches the TUN with its own source. Source NAT whose result a policy still selects is
 * to be applied nevertheless, and what it is only the rules of others know, which want to see the
 * device by which the packet would leave. So it is sent there, by a socket whose mark has both
 * bits. Behind all NAT a program (bpf/twin.bpf.c) lets pass only what has another source that a
 * policy selects; the backstop redirects that into the TUN. All else is refused, which sendmsg()
 * tells at once: it is protected as it is.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <xf/frag.h>

#include "port/backend.h"

static int send_one(struct xf_io *io, struct xf_tx *tx, struct xf_pkt *pkt)
{
	uint32_t mark = pkt->mark | io->cfg.names.mark_bypass;
	struct msghdr *msg;
	ssize_t n;

	tx->n = 0;
	tx->iovs = 0;
	msg = pkt->nsegs <= XF_TX_IOVS ? xf_tx_stage_raw(tx, pkt) : NULL;
	if (!msg)
		return -EINVAL;
	/* By its own mark it would be routed as what is captured. */
	xf_tx_cmsg(msg, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
	do
		n = sendmsg(tx->fd, msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	tx->n = 0;
	tx->iovs = 0;
	return n < 0 ? -errno : 0;
}

/*
 * It is larger than its device takes, and a raw socket does not cut. Connection tracking holds
 * the pieces back until the last one is there, so that one's answer is for all of them.
 */
static int send_in_pieces(struct xf_io *io, struct xf_tx *tx, struct xf_pkt *pkt)
{
	uint32_t mtu = xf_tx_read_mtu(tx->fd);
	struct xf_pktq pieces = { 0 };
	struct xf_ip_info ip;
	struct xf_pkt *copy;
	int err = -EMSGSIZE;

	if (!mtu || xf_ip_parse(pkt, false, &ip) < 0 || !xf_tx_may_cut(pkt, &ip, mtu))
		return err;
	copy = xf_pkt_slice(pkt, 0, pkt->len);
	if (!copy)
		return -ENOBUFS;
	mtu = xf_tx_piece_mtu(pkt, mtu);
	if (xf_frag_cut(copy, &ip, mtu, io->ident++, &pieces) != XF_PASS)
		xf_pkt_free(copy);
	while ((copy = xf_pktq_pop(&pieces))) {
		err = send_one(io, tx, copy);
		xf_pkt_free(copy);
	}
	return err;
}

static int send_by(struct xf_io *io, enum xf_tx_kind kind, struct xf_pkt *pkt)
{
	struct xf_tx *tx = pkt->family == XF_AF_INET6 ? &io->tx6 : &io->tx4;
	int err;

	tx->fd = tx->fds[kind];
	err = send_one(io, tx, pkt);
	return err == -EMSGSIZE ? send_in_pieces(io, tx, pkt) : err;
}

/* What is refused the rules remember, so that they ask no more for its flow. */
static int ask(struct xf_io *io, struct xf_pkt *pkt)
{
	int err = send_by(io, XF_TX_ASK, pkt);

	if (err == -EPERM)
		send_by(io, XF_TX_REFUSED, pkt);
	return err;
}

void xf_tx_ask(struct xf_io *io, struct xf_pktq *q, struct xf_pktq *back)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q))) {
		int err = ask(io, pkt);

		xf_count(&io->count.nat_tx, !err);
		xf_count(&io->count.send_errors, err == -EAGAIN || err == -ENOBUFS);
		pkt->ask = false;
		pkt->asked = true;
		if (!err)
			xf_pkt_free(pkt);
		else if (err == -EAGAIN || err == -ENOBUFS)
			xf_worker_drop(io->worker, pkt, XF_DROP_OUT_SEND); /* no answer */
		else
			xf_pktq_push(back, pkt);
	}
}
