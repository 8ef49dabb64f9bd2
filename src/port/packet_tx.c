/*
 * Sending by a packet socket: what packet.h knows a hop for. The kernel puts the device's header
 * in front, so the frame is that of a raw socket, and takes it through tc and the device's queue.
 *
 * Taken are whole packets that a raw socket would not change: it gives an id to IPv4 packets that
 * have none and could be cut.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>

#include <xf/ip.h>

#include "port/backend.h"

int xf_packet_open(struct xf_io *io, struct xf_io_error *error)
{
	const int sndbuf = XF_IO_SOCKET_BYTES;
	const uint32_t priority = XF_PRIORITY_LEFT;
	uint32_t mark = io->cfg.names.mark_bypass;
	/* Protocol 0: it receives nothing. */
	int fd = io->cfg.packet ? socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
				: -1;

	if (!io->cfg.packet || (fd < 0 && errno == EAFNOSUPPORT))
		return 0;
	io->tx_packet.fd = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf)) < 0)
		return xf_io_fail(error, -errno, "cannot open a packet socket to send from");
	return 0;
}

static bool key_ipv4(const struct xf_pkt *pkt, struct xf_hop_key *key)
{
	const uint8_t *hdr = pkt->segs[0].data;
	uint16_t frag;

	if (pkt->segs[0].len < XF_IPV4_HDR_LEN)
		return false;
	frag = xf_get_be16(hdr + 6);
	if (frag & 0x3fff || (frag != XF_IPV4_DF && xf_get_be16(hdr + 4) == 0))
		return false;
	memcpy(key->saddr.bytes, hdr + 12, 4);
	memcpy(key->daddr.bytes, hdr + 16, 4);
	return true;
}

static bool key_ipv6(const struct xf_pkt *pkt, struct xf_hop_key *key)
{
	const uint8_t *hdr = pkt->segs[0].data;

	if (pkt->segs[0].len < XF_IPV6_HDR_LEN || hdr[6] == XF_IPPROTO_FRAGMENT)
		return false;
	memcpy(key->saddr.bytes, hdr + 8, 16);
	memcpy(key->daddr.bytes, hdr + 24, 16);
	return true;
}

static struct xf_hop *hop_of(struct xf_io *io, const struct xf_pkt *pkt)
{
	struct xf_hop_key key = { .mark = pkt->mark | io->cfg.names.mark_bypass,
				  .family = pkt->family };
	struct xf_hop *hop;

	/* The capture bit, were it on a packet of ours, is for our rules to see. */
	if (io->tx_packet.fd < 0 || (pkt->mark & io->cfg.names.mark_capture))
		return NULL;
	if (pkt->family == XF_AF_INET ? !key_ipv4(pkt, &key) : !key_ipv6(pkt, &key))
		return NULL;
	hop = xf_packet_find(io->cfg.packet, &key, io->now_ns, xf_worker_events(io->worker));
	return hop && pkt->len <= hop->mtu ? hop : NULL;
}

static bool packet_takes(struct xf_io *io, const struct xf_pkt *pkt)
{
	return hop_of(io, pkt) != NULL;
}

static void stage(struct xf_io *io, const struct xf_hop *hop, struct xf_pkt *pkt)
{
	struct msghdr *msg = xf_tx_stage(&io->tx_packet, pkt);
	struct sockaddr_ll *to = msg->msg_name;

	*to = (struct sockaddr_ll){
		.sll_family = AF_PACKET,
		.sll_protocol = htons(pkt->family == XF_AF_INET ? ETH_P_IP : ETH_P_IPV6),
		.sll_ifindex = (int)hop->ifindex,
		.sll_halen = ETH_ALEN,
	};
	memcpy(to->sll_addr, hop->lladdr, sizeof(to->sll_addr));
	msg->msg_namelen = sizeof(*to);
	xf_tx_mark(io, msg, pkt);
}

/*
 * Send what is staged. A full queue loses packets, as it does with raw sockets; on any other
 * error (the device is down, or gone) this and what follows is left.
 */
static void flush(struct xf_io *io, struct xf_pktq *left)
{
	struct xf_tx *tx = &io->tx_packet;
	unsigned i = 0;

	while (i < tx->n && !left->head) {
		int sent = sendmmsg(tx->fd, &tx->msgs[i], tx->n - i, MSG_DONTWAIT);
		int err = sent < 0 ? errno : 0;

		xf_count(&io->count.packet_tx, sent > 0 ? (unsigned)sent : 0);
		for (; sent > 0; sent--)
			xf_pkt_free(tx->pkts[i++]);
		if (err == EAGAIN || err == ENOBUFS) {
			xf_count(&io->count.send_errors, 1);
			xf_worker_drop(io->worker, tx->pkts[i++], XF_DROP_OUT_SEND);
		} else if (err && err != EINTR) {
			xf_pktq_push(left, tx->pkts[i++]);
		}
	}
	while (i < tx->n)
		xf_pktq_push(left, tx->pkts[i++]);
	tx->n = 0;
	tx->iovs = 0;
}

static void packet_send(struct xf_io *io, struct xf_pktq *run, struct xf_pktq *left)
{
	struct xf_tx *tx = &io->tx_packet;

	while (run->head && !left->head) {
		struct xf_hop *hop = hop_of(io, run->head);

		if (tx->n > 0 && xf_tx_is_full(tx, run->head)) {
			flush(io, left);
			continue;
		}
		if (!hop || run->head->nsegs > XF_TX_IOVS ||
		    xf_packet_due(io->cfg.packet, hop, io->now_ns, xf_worker_events(io->worker))) {
			flush(io, left);
			xf_pktq_push(left, xf_pktq_pop(run));
			return;
		}
		stage(io, hop, xf_pktq_pop(run));
	}
	flush(io, left);
}

const struct xf_sender xf_sender_packet = { .name = "packet",
					    .takes = packet_takes,
					    .send = packet_send };
