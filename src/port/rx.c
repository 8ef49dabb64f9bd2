/*
 * Receive slots: buffers that stand ready, and what control messages say about a datagram.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "port/backend.h"

/*
 * A read makes ready twice what the one before it found, and so many: a source that brings single
 * packets costs the memory of a few slots, not of a whole batch, which is cold by then.
 */
#define FEW 4

static bool fill_slot(struct xf_io *io, struct xf_rx_slot *slot)
{
	if (!slot->small) {
		slot->small = xf_pkt_new(io->pool, XF_RX_SMALL);
		if (!slot->small)
			return false;
		slot->iov[0].iov_base = xf_pkt_append(slot->small, XF_RX_SMALL);
		slot->iov[0].iov_len = XF_RX_SMALL;
	}
	if (!slot->large) {
		slot->large = xf_pkt_new(io->pool, XF_RX_LARGE);
		if (!slot->large)
			return false;
		slot->iov[1].iov_base = xf_pkt_append(slot->large, XF_RX_LARGE);
		slot->iov[1].iov_len = XF_RX_LARGE;
	}
	return true;
}

bool xf_rx_ready(struct xf_io *io, unsigned i)
{
	if (fill_slot(io, &io->rx[i]))
		return true;
	xf_count(&io->count.rx_no_buffer, 1);
	return false;
}

/* Fill the first @n slots; returns how many have room for a whole packet. */
static unsigned refill(struct xf_io *io, unsigned n)
{
	unsigned i = 0;

	while (i < n && xf_rx_ready(io, i))
		i++;
	return i;
}

struct xf_pkt *xf_rx_take(struct xf_io *io, unsigned i, uint32_t len)
{
	struct xf_rx_slot *slot = &io->rx[i];
	struct xf_pkt *pkt = slot->small;

	slot->small = NULL;
	if (len <= XF_RX_SMALL) {
		xf_pkt_trim_back(pkt, XF_RX_SMALL - len);
		return pkt;
	}
	xf_pkt_trim_back(slot->large, XF_RX_SMALL + XF_RX_LARGE - len);
	/* A fresh packet has room for a second segment: this cannot fail. */
	xf_pkt_join(pkt, slot->large);
	slot->large = NULL;
	return pkt;
}

int xf_rx_recvmmsg(struct xf_io *io, struct xf_source *source, unsigned max)
{
	unsigned n = refill(io, xf_min_u32(max, 2 * source->found + FEW));
	int got;

	source->more = true;
	if (!n)
		return -ENOBUFS;
	for (unsigned i = 0; i < n; i++)
		io->rx_msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &io->rx[i].from,
			.msg_namelen = sizeof(io->rx[i].from),
			.msg_iov = io->rx[i].iov,
			.msg_iovlen = 2,
			.msg_control = io->rx[i].control,
			.msg_controllen = sizeof(io->rx[i].control),
		};
	got = recvmmsg(source->fd, io->rx_msgs, n, MSG_DONTWAIT, NULL);
	/* What the network said of an earlier packet of ours comes out as an error, once. */
	if (got < 0 && errno != EAGAIN)
		got = recvmmsg(source->fd, io->rx_msgs, n, MSG_DONTWAIT, NULL);
	source->more = got == (int)n;
	source->found = got < 0 ? 0 : (unsigned)got;
	return got < 0 ? -errno : got;
}

static bool is_truncated(struct xf_io *io, unsigned i)
{
	if (!(io->rx_msgs[i].msg_hdr.msg_flags & MSG_TRUNC))
		return false;
	xf_count(&io->count.truncated, 1);
	return true;
}

static void read_cmsg4(const struct cmsghdr *cmsg, struct xf_rx_meta *out)
{
	struct in_pktinfo info;
	int value;

	switch (cmsg->cmsg_type) {
	case IP_PKTINFO:
		memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
		xf_addr_load(&out->daddr, &info.ipi_addr, XF_AF_INET);
		out->iif = (uint32_t)info.ipi_ifindex;
		out->has_daddr = true;
		break;
	case IP_TOS:
		out->tos = *CMSG_DATA(cmsg);
		break;
	case IP_TTL:
		memcpy(&value, CMSG_DATA(cmsg), sizeof(value));
		out->ttl = (uint8_t)value;
		break;
	default:
		break;
	}
}

static void read_cmsg6(const struct cmsghdr *cmsg, struct xf_rx_meta *out)
{
	struct in6_pktinfo info;
	int value;

	switch (cmsg->cmsg_type) {
	case IPV6_PKTINFO:
		memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
		xf_addr_load(&out->daddr, &info.ipi6_addr, XF_AF_INET6);
		out->iif = info.ipi6_ifindex;
		out->has_daddr = true;
		break;
	case IPV6_HOPLIMIT:
		memcpy(&value, CMSG_DATA(cmsg), sizeof(value));
		out->ttl = (uint8_t)value;
		break;
	case IPV6_FLOWINFO:
		out->flowinfo = xf_get_be32(CMSG_DATA(cmsg));
		break;
	default:
		break;
	}
}

static void read_from(const struct sockaddr_storage *from, struct xf_rx_meta *out)
{
	const struct sockaddr_in *sin = (const void *)from;
	const struct sockaddr_in6 *sin6 = (const void *)from;

	if (from->ss_family == AF_INET) {
		xf_addr_load(&out->saddr, &sin->sin_addr, XF_AF_INET);
		out->sport = ntohs(sin->sin_port);
	} else if (from->ss_family == AF_INET6) {
		xf_addr_load(&out->saddr, &sin6->sin6_addr, XF_AF_INET6);
		out->sport = ntohs(sin6->sin6_port);
	}
}

static void read_meta(struct xf_io *io, unsigned i, struct xf_rx_meta *out)
{
	struct msghdr *msg = &io->rx_msgs[i].msg_hdr;

	memset(out, 0, sizeof(*out));
	read_from(&io->rx[i].from, out);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_MARK)
			memcpy(&out->mark, CMSG_DATA(c), sizeof(out->mark));
		else if (c->cmsg_level == SOL_IP)
			read_cmsg4(c, out);
		else if (c->cmsg_level == SOL_IPV6)
			read_cmsg6(c, out);
		else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&out->gro_size, CMSG_DATA(c), sizeof(out->gro_size));
	}
}

struct xf_pkt *xf_rx_packet(struct xf_io *io, unsigned i, uint16_t family, struct xf_rx_meta *meta)
{
	struct xf_pkt *pkt;

	if (is_truncated(io, i))
		return NULL;
	read_meta(io, i, meta);
	pkt = xf_rx_take(io, i, io->rx_msgs[i].msg_len);
	pkt->family = family;
	pkt->iif = meta->iif;
	pkt->mark = meta->mark;
	return pkt;
}

void xf_rx_free(struct xf_io *io)
{
	for (unsigned i = 0; i < XF_BATCH; i++) {
		xf_pkt_free(io->rx[i].small);
		xf_pkt_free(io->rx[i].large);
	}
}
