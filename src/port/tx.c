/*
 * Sending: complete IP packets through raw sockets that take the header as it is, and ICMP
 * messages through the ICMP sockets.
 *
 * Complete packets carry the bypass mark, so that they are not captured again; what is sent on
 * unchanged also a priority that tells what the host's NAT is to do with it (io.h). ICMP messages
 * carry neither: their receiver may be behind a tunnel.
 */
#include <errno.h>
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <unistd.h>

#include <xf/frag.h>
#include <xf/icmp.h>

#include "port/backend.h"

struct option {
	int level;
	int name;
	int value;
};

/*
 * FREEBIND: forwarded packets are sent by their own source, so that the user's routing rules for
 * it hold. RECVERR: the socket tells the MTU when a packet is too big. PROBE: what the kernel was
 * told of the path does not count, only the device; in transport mode the kernel is told by us,
 * and would tell us back.
 */
static const struct option options4[] = {
	{ SOL_IP, IP_HDRINCL, 1 },
	{ SOL_IP, IP_RECVERR, 1 },
	{ SOL_IP, IP_FREEBIND, 1 },
	{ SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE },
	{ SOL_SOCKET, SO_SNDBUFFORCE, XF_IO_SOCKET_BYTES },
};
static const struct option options6[] = {
	{ SOL_IPV6, IPV6_HDRINCL, 1 },
	{ SOL_IPV6, IPV6_RECVERR, 1 },
	{ SOL_IPV6, IPV6_FREEBIND, 1 },
	{ SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE },
	{ SOL_SOCKET, SO_SNDBUFFORCE, XF_IO_SOCKET_BYTES },
};

void xf_tx_init(struct xf_tx *tx)
{
	for (unsigned i = 0; i < XF_TX_KINDS; i++)
		tx->fds[i] = -1;
	tx->fd = -1;
}

void xf_tx_close(struct xf_tx *tx)
{
	for (unsigned i = 0; i < XF_TX_KINDS; i++) {
		if (tx->fds[i] >= 0)
			close(tx->fds[i]);
	}
}

static int open_one(int *out, uint16_t family, uint32_t mark, uint32_t priority)
{
	bool v4 = family == XF_AF_INET;
	const struct option *options = v4 ? options4 : options6;
	unsigned n = v4 ? XF_ARRAY_SIZE(options4) : XF_ARRAY_SIZE(options6);
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

	*out = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)) < 0)
		return -errno;
	for (unsigned i = 0; i < n; i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			       sizeof(options[i].value)) < 0)
			return -errno;
	return 0;
}

int xf_tx_open(struct xf_tx *tx, uint16_t family, const struct xf_io_names *names,
	       struct xf_io_error *error)
{
	static const uint32_t priorities[XF_TX_KINDS] = {
		[XF_TX_SENT_ON] = XF_PRIORITY_SENT_ON,
		[XF_TX_TRANSLATED] = XF_PRIORITY_TRANSLATED,
		[XF_TX_ASK] = XF_PRIORITY_ASK,
		[XF_TX_REFUSED] = XF_PRIORITY_REFUSED,
	};
	bool v4 = family == XF_AF_INET;

	tx->family = family;
	for (unsigned i = 0; i < XF_TX_KINDS; i++) {
		uint32_t mark = names->mark_bypass | (i >= XF_TX_ASK ? names->mark_capture : 0);
		int err = open_one(&tx->fds[i], family, mark, priorities[i]);

		if (err == -EAFNOSUPPORT && !v4)
			return 0; /* a kernel without IPv6 */
		if (err)
			return xf_io_fail(error, err,
					  "cannot open an IPv%d raw socket to send from",
					  v4 ? 4 : 6);
	}
	tx->fd = tx->fds[XF_TX_WIRE];
	return 0;
}

/* Where one control message goes, and how much of the buffer is used. */
void xf_tx_cmsg(struct msghdr *msg, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *cmsg =
		(struct cmsghdr *)(void *)((uint8_t *)msg->msg_control + msg->msg_controllen);

	cmsg->cmsg_level = level;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(cmsg), data, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

static void address4(struct msghdr *msg, const uint8_t *hdr)
{
	struct sockaddr_in *to = msg->msg_name;
	struct in_pktinfo info = { 0 };

	*to = (struct sockaddr_in){ .sin_family = AF_INET };
	memcpy(&to->sin_addr, hdr + 16, 4);
	memcpy(&info.ipi_spec_dst, hdr + 12, 4);
	msg->msg_namelen = sizeof(*to);
	xf_tx_cmsg(msg, SOL_IP, IP_PKTINFO, &info, sizeof(info));
}

static void address6(struct msghdr *msg, const uint8_t *hdr)
{
	struct sockaddr_in6 *to = msg->msg_name;
	struct in6_pktinfo info = { 0 };

	*to = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	memcpy(&to->sin6_addr, hdr + 24, 16);
	memcpy(&info.ipi6_addr, hdr + 8, 16);
	msg->msg_namelen = sizeof(*to);
	xf_tx_cmsg(msg, SOL_IPV6, IPV6_PKTINFO, &info, sizeof(info));
}

struct msghdr *xf_tx_stage(struct xf_tx *tx, struct xf_pkt *pkt)
{
	unsigned i = tx->n++;
	struct msghdr *msg = &tx->msgs[i].msg_hdr;

	*msg = (struct msghdr){
		.msg_name = &tx->to[i],
		.msg_iov = &tx->iov[tx->iovs],
		.msg_iovlen = pkt->nsegs,
		.msg_control = tx->control[i],
	};
	for (unsigned s = 0; s < pkt->nsegs; s++)
		tx->iov[tx->iovs++] = (struct iovec){ pkt->segs[s].data, pkt->segs[s].len };
	tx->pkts[i] = pkt;
	return msg;
}

void xf_tx_mark(const struct xf_io *io, struct msghdr *msg, const struct xf_pkt *pkt)
{
	uint32_t mark = pkt->mark | io->cfg.names.mark_bypass;

	if (pkt->mark)
		xf_tx_cmsg(msg, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

struct msghdr *xf_tx_stage_raw(struct xf_tx *tx, struct xf_pkt *pkt)
{
	bool v4 = tx->family == XF_AF_INET;
	uint8_t scratch[XF_IPV6_HDR_LEN];
	const uint8_t *hdr = xf_pkt_peek(pkt, 0, v4 ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN, scratch);
	struct msghdr *msg;

	if (!hdr || tx->fd < 0)
		return NULL;
	msg = xf_tx_stage(tx, pkt);
	if (v4)
		address4(msg, hdr);
	else
		address6(msg, hdr);
	return msg;
}

static bool stage(const struct xf_io *io, struct xf_tx *tx, struct xf_pkt *pkt)
{
	struct msghdr *msg = xf_tx_stage_raw(tx, pkt);

	if (msg)
		xf_tx_mark(io, msg, pkt);
	return msg;
}

uint32_t xf_tx_read_mtu(int fd)
{
	uint32_t mtu = 0;

	for (;;) {
		uint8_t control[256] __attribute__((aligned(16)));
		struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };

		if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			return mtu;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			struct sock_extended_err ee;

			if (c->cmsg_len < CMSG_LEN(sizeof(ee)))
				continue;
			memcpy(&ee, CMSG_DATA(c), sizeof(ee));
			if (ee.ee_errno == EMSGSIZE)
				mtu = ee.ee_info;
		}
	}
}

static void refuse_too_big(struct xf_io *io, struct xf_pkt *pkt, const struct xf_ip_info *ip,
			   uint32_t mtu)
{
	struct xf_pktq replies = { 0 };
	struct xf_pkt *reply;
	union xf_addr to;

	xf_icmp_too_big(pkt, ip, mtu, &reply, &to);
	if (reply) {
		reply->reply_to = to;
		xf_pktq_push(&replies, reply);
	}
	xf_worker_drop(io->worker, pkt, XF_DROP_OUT_TOO_BIG);
	xf_tx_reply(io, &replies);
}

bool xf_tx_may_cut(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu)
{
	if (ip->family == XF_AF_INET)
		return !ip->df || (pkt->mtu && pkt->mtu <= mtu);
	return pkt->local || pkt->mtu;
}

uint32_t xf_tx_piece_mtu(const struct xf_pkt *pkt, uint32_t mtu)
{
	return pkt->mtu ? xf_min_u32(pkt->mtu, mtu) : mtu;
}

/*
 * A packet that goes on its way unchanged is larger than its next device takes, or than the largest
 * of the fragments it came in. The kernel would have cut it (a raw socket does not), or told its
 * sender.
 */
static void send_in_pieces(struct xf_io *io, struct xf_pkt *pkt, uint32_t mtu,
			   struct xf_pktq *pieces)
{
	struct xf_ip_info ip;

	if (!mtu || xf_ip_parse(pkt, false, &ip) < 0) {
		xf_worker_drop(io->worker, pkt, XF_DROP_OUT_SEND);
		return;
	}
	if (!xf_tx_may_cut(pkt, &ip, mtu))
		refuse_too_big(io, pkt, &ip, mtu);
	else if (xf_frag_cut(pkt, &ip, xf_tx_piece_mtu(pkt, mtu), io->ident++, pieces) != XF_PASS)
		xf_worker_drop(io->worker, pkt, XF_DROP_OUT_TOO_BIG);
}

/* Send what is staged. @pieces: fragments of what was too big go there; NULL: it is dropped. */
static void flush(struct xf_io *io, struct xf_tx *tx, struct xf_pktq *pieces)
{
	for (unsigned i = 0; i < tx->n;) {
		int sent = sendmmsg(tx->fd, &tx->msgs[i], tx->n - i, MSG_DONTWAIT);
		int err = sent < 0 ? errno : 0;

		if (err == EINTR)
			continue;
		for (; sent > 0; sent--)
			xf_pkt_free(tx->pkts[i++]);
		if (!err)
			continue;
		xf_count(&io->count.send_errors, err != EMSGSIZE || !pieces);
		if (err == EMSGSIZE && pieces)
			send_in_pieces(io, tx->pkts[i], xf_tx_read_mtu(tx->fd), pieces);
		else
			xf_worker_drop(io->worker, tx->pkts[i], XF_DROP_OUT_SEND);
		i++;
	}
	tx->n = 0;
	tx->iovs = 0;
}

static void send_all(struct xf_io *io, struct xf_pktq *q, struct xf_pktq *pieces,
		     enum xf_tx_kind kind)
{
	_Atomic uint64_t *counter = kind == XF_TX_WIRE ? &io->count.raw_tx : &io->count.clear_tx;
	struct xf_pkt *pkt;

	io->tx4.fd = io->tx4.fds[kind];
	io->tx6.fd = io->tx6.fds[kind];
	while ((pkt = xf_pktq_pop(q))) {
		struct xf_tx *tx = pkt->family == XF_AF_INET6 ? &io->tx6 : &io->tx4;

		if (xf_tx_is_full(tx, pkt))
			flush(io, tx, pieces);
		if (pieces && pkt->mtu && pkt->len > pkt->mtu)
			send_in_pieces(io, pkt, pkt->mtu, pieces);
		else if (pkt->nsegs <= XF_TX_IOVS && stage(io, tx, pkt))
			xf_count(counter, 1);
		else
			xf_worker_drop(io->worker, pkt, XF_DROP_OUT_SEND);
	}
	flush(io, &io->tx4, pieces);
	flush(io, &io->tx6, pieces);
}

static bool raw_takes(struct xf_io *io, const struct xf_pkt *pkt)
{
	(void)io;
	(void)pkt;
	return true;
}

static void raw_send(struct xf_io *io, struct xf_pktq *run, struct xf_pktq *left)
{
	(void)left;
	send_all(io, run, NULL, XF_TX_WIRE);
}

static const struct xf_sender sender_raw = { .name = "raw", .takes = raw_takes, .send = raw_send };

static const struct xf_sender *const senders[] = { &xf_sender_udp, &xf_sender_packet, &sender_raw };

static const struct xf_sender *choose(struct xf_io *io, const struct xf_pkt *pkt)
{
	unsigned i = 0;

	while (!senders[i]->takes(io, pkt))
		i++;
	return senders[i];
}

/* Run after run, so that nothing is overtaken. */
void xf_tx_wire(struct xf_io *io, struct xf_pktq *q)
{
	while (q->head) {
		const struct xf_sender *sender = choose(io, q->head);
		struct xf_pktq run = { 0 };

		do
			xf_pktq_push(&run, xf_pktq_pop(q));
		while (q->head && choose(io, q->head) == sender);
		while (run.head) {
			struct xf_pktq left = { 0 };

			sender->send(io, &run, &left);
			raw_send(io, &left, NULL);
		}
	}
}

static void send_on(struct xf_io *io, struct xf_pktq *q, enum xf_tx_kind kind)
{
	struct xf_pktq pieces = { 0 };

	send_all(io, q, &pieces, kind);
	if (pieces.count)
		send_all(io, &pieces, NULL, kind);
}

/* The packets of one flow are of one kind, so none of them is overtaken. What came by a link is
 * for its tunnel or for nobody. */
void xf_tx_clear(struct xf_io *io, struct xf_pktq *q)
{
	struct xf_pktq translated = { 0 };
	struct xf_pktq others = { 0 };
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q))) {
		if (pkt->realm)
			xf_worker_drop(io->worker, pkt, XF_DROP_OUT_LINK);
		else
			xf_pktq_push(pkt->translated ? &translated : &others, pkt);
	}
	send_on(io, &others, XF_TX_SENT_ON);
	send_on(io, &translated, XF_TX_TRANSLATED);
}

static bool send_reply(struct xf_io *io, const struct xf_pkt *pkt)
{
	bool v4 = pkt->family == XF_AF_INET;
	const struct xf_source *socket;
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	struct iovec iov[XF_PKT_OWN_SEGS * 4];
	struct msghdr msg = {
		.msg_name = v4 ? (void *)&to4 : (void *)&to6,
		.msg_namelen = v4 ? sizeof(to4) : sizeof(to6),
		.msg_iov = iov,
		.msg_iovlen = pkt->nsegs,
	};

	if (pkt->nsegs > XF_ARRAY_SIZE(iov))
		return false;
	memcpy(&to4.sin_addr, pkt->reply_to.bytes, 4);
	memcpy(&to6.sin6_addr, pkt->reply_to.bytes, 16);
	for (unsigned i = 0; i < pkt->nsegs; i++)
		iov[i] = (struct iovec){ pkt->segs[i].data, pkt->segs[i].len };
	socket = io->shared->raw[v4 ? XF_RAW_ICMP4 : XF_RAW_ICMP6];
	return sendmsg(socket->fd, &msg, MSG_DONTWAIT) >= 0;
}

void xf_tx_reply(struct xf_io *io, struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q))) {
		bool sent = send_reply(io, pkt);

		xf_count(sent ? &io->count.reply_tx : &io->count.send_errors, 1);
		xf_pkt_free(pkt);
	}
}
