/*
 * Sending ESP in UDP through the sockets that receive it: packets that follow each other and
 * differ in nothing but what they carry leave by one call (UDP_SEGMENT), and the kernel may keep
 * them together down to the device.
 *
 * The kernel makes the headers again that the engine has made, so only such packets are taken as
 * it would make: IPv4 without options, DF set, from a port of ours; IPv6 takes the raw socket. Two
 * things differ on the wire, and nobody may rely on either: there is a UDP checksum where RFC 3948
 * s2.1 allows none, and the IP id of such packets, which cannot be fragments (RFC 6864 s4.1), is
 * the kernel's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <xf/ip.h>

#include "port/backend.h"

/* Linux's UDP_MAX_SEGMENTS, where it was smallest. */
#define SEGMENTS_MAX 64
#define PAYLOAD_MAX (65535u - HDR_LEN)
#define HDR_LEN (XF_IPV4_HDR_LEN + XF_UDP_HDR_LEN)

static const uint8_t *headers(const struct xf_pkt *pkt)
{
	return pkt->segs[0].data;
}

static const struct xf_source *source_of(const struct xf_io *io, uint16_t port)
{
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++) {
		const struct xf_source *source = io->shared->udp[i];

		if (source->fd >= 0 && source->port == port && source->family == XF_AF_INET)
			return source->segments ? source : NULL;
	}
	return NULL;
}

static bool udp_takes(struct xf_io *io, const struct xf_pkt *pkt)
{
	const uint8_t *hdr = headers(pkt);

	return pkt->family == XF_AF_INET && pkt->segs[0].len >= HDR_LEN && pkt->len > HDR_LEN &&
	       hdr[0] == 0x45 && hdr[9] == XF_IPPROTO_UDP && xf_get_be16(hdr + 6) == XF_IPV4_DF &&
	       source_of(io, xf_get_be16(hdr + XF_IPV4_HDR_LEN));
}

/* The same but for lengths, id, checksums, and what is carried. */
static bool same_headers(const struct xf_pkt *a, const struct xf_pkt *b)
{
	const uint8_t *p = headers(a);
	const uint8_t *q = headers(b);

	return p[1] == q[1] && p[8] == q[8] && memcmp(p + 12, q + 12, 12) == 0 &&
	       a->mark == b->mark;
}

/* May @pkt follow in message @m? All are of one size, but for the last. */
static bool may_follow(const struct xf_udp_msg *m, const struct xf_pkt *pkt)
{
	const struct xf_pkt *first = m->pkts.head;
	const struct xf_pkt *last = m->pkts.tail;

	return m->pkts.count < SEGMENTS_MAX && last->len == first->len && pkt->len <= first->len &&
	       m->bytes + pkt->len - HDR_LEN <= PAYLOAD_MAX && same_headers(first, pkt);
}

static void add_iovs(struct xf_udp_tx *tx, struct xf_udp_msg *m, const struct xf_pkt *pkt)
{
	uint32_t skip = HDR_LEN;

	for (unsigned i = 0; i < pkt->nsegs; i++) {
		const struct xf_seg *seg = &pkt->segs[i];

		if (seg->len > skip)
			tx->iov[tx->iovs++] = (struct iovec){ seg->data + skip, seg->len - skip };
		skip = 0;
	}
	m->bytes += pkt->len - HDR_LEN;
}

static void add_int(struct msghdr *msg, int level, int type, int value)
{
	xf_tx_cmsg(msg, level, type, &value, sizeof(value));
}

/* Everything of a message but its packets comes from the first one. */
static void address(struct xf_io *io, struct xf_udp_msg *m, struct msghdr *msg)
{
	const struct xf_pkt *first = m->pkts.head;
	const uint8_t *hdr = headers(first);
	uint16_t size = (uint16_t)(first->len - HDR_LEN);
	struct in_pktinfo info = { 0 };

	m->to = (struct sockaddr_in){ .sin_family = AF_INET };
	memcpy(&m->to.sin_addr, hdr + 16, 4);
	memcpy(&m->to.sin_port, hdr + XF_IPV4_HDR_LEN + 2, 2);
	memcpy(&info.ipi_spec_dst, hdr + 12, 4);
	msg->msg_name = &m->to;
	msg->msg_namelen = sizeof(m->to);
	msg->msg_control = m->control;
	msg->msg_controllen = 0;
	xf_tx_cmsg(msg, SOL_IP, IP_PKTINFO, &info, sizeof(info));
	add_int(msg, SOL_IP, IP_TOS, hdr[1]);
	add_int(msg, SOL_IP, IP_TTL, hdr[8]);
	if (first->mark)
		add_int(msg, SOL_SOCKET, SO_MARK, (int)(first->mark | io->cfg.names.mark_bypass));
	if (m->pkts.count > 1)
		xf_tx_cmsg(msg, SOL_UDP, UDP_SEGMENT, &size, sizeof(size));
}

/* Fill one message from the front of @run; all of one flush leave by one socket. */
static void fill(struct xf_io *io, struct xf_pktq *run)
{
	struct xf_udp_tx *tx = &io->udp_tx;
	struct xf_udp_msg *m = &tx->msgs[tx->n];
	struct msghdr *msg = &tx->hdrs[tx->n++].msg_hdr;
	unsigned first_iov = tx->iovs;

	m->pkts = (struct xf_pktq){ .count = 0 };
	m->bytes = 0;
	do {
		struct xf_pkt *pkt = xf_pktq_pop(run);

		xf_pktq_push(&m->pkts, pkt);
		add_iovs(tx, m, pkt);
	} while (run->head && tx->iovs + run->head->nsegs <= XF_TX_IOVS &&
		 may_follow(m, run->head));
	*msg = (struct msghdr){ .msg_iov = &tx->iov[first_iov],
				.msg_iovlen = tx->iovs - first_iov };
	address(io, m, msg);
}

static void free_all(struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q)))
		xf_pkt_free(pkt);
}

/* @err for the packets of one message: a full queue loses them; the rest is for raw sockets. */
static void not_sent(struct xf_io *io, struct xf_udp_msg *m, int err, struct xf_pktq *left)
{
	struct xf_pkt *pkt;

	if (err == EAGAIN || err == ENOBUFS)
		xf_count(&io->count.send_errors, m->pkts.count);
	while ((pkt = xf_pktq_pop(&m->pkts))) {
		if (err == EAGAIN || err == ENOBUFS)
			xf_worker_drop(io->worker, pkt, XF_DROP_OUT_SEND);
		else
			xf_pktq_push(left, pkt);
	}
}

static void flush(struct xf_io *io, int fd, struct xf_pktq *left)
{
	struct xf_udp_tx *tx = &io->udp_tx;

	for (unsigned i = 0; i < tx->n;) {
		int sent = sendmmsg(fd, &tx->hdrs[i], tx->n - i, MSG_DONTWAIT);
		int err = sent < 0 ? errno : 0;

		if (err == EINTR)
			continue;
		for (; sent > 0; sent--, i++) {
			xf_count(&io->count.udp_tx, tx->msgs[i].pkts.count);
			xf_count(&io->count.udp_tx_calls, 1);
			free_all(&tx->msgs[i].pkts);
		}
		if (err)
			not_sent(io, &tx->msgs[i++], err, left);
	}
	tx->n = 0;
	tx->iovs = 0;
}

/*
 * The control thread may close ports: what has lost its source meanwhile is left over. A socket
 * that was found is there until this thread is quiescent (udp.c).
 */
static void udp_send(struct xf_io *io, struct xf_pktq *run, struct xf_pktq *left)
{
	struct xf_udp_tx *tx = &io->udp_tx;
	int fd = -1;

	while (run->head) {
		const struct xf_source *source =
			source_of(io, xf_get_be16(headers(run->head) + XF_IPV4_HDR_LEN));
		int to = source ? source->fd : -1;

		if (to < 0 || run->head->nsegs > XF_TX_IOVS) {
			xf_pktq_push(left, xf_pktq_pop(run));
			continue;
		}
		if (tx->n > 0 && (fd != to || tx->n == XF_UDP_TX_MSGS ||
				  tx->iovs + run->head->nsegs > XF_TX_IOVS))
			flush(io, fd, left);
		fd = to;
		fill(io, run);
	}
	flush(io, fd, left);
}

const struct xf_sender xf_sender_udp = { .name = "udp-segment",
					 .takes = udp_takes,
					 .send = udp_send };
