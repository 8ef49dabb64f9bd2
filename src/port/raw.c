/*
 * Raw sockets: ESP packets, and ICMP errors about them.
 *
 * IPv4 sockets give whole packets, put together by the kernel. IPv6 ones leave out the header,
 * which is rebuilt from control messages; extension headers before ESP (hop-by-hop, routing,
 * destination options) are gone by then and are not rebuilt: nothing in ESP covers them.
 */
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <unistd.h>

#include <xf/ip.h>

#include "port/backend.h"

bool xf_raw_rebuild_ipv6(struct xf_pkt *pkt, const struct xf_rx_meta *meta, uint8_t proto)
{
	uint32_t payload = pkt->len;
	uint8_t *hdr;

	if (!meta->has_daddr || payload > UINT16_MAX)
		return false;
	hdr = xf_pkt_prepend(pkt, XF_IPV6_HDR_LEN);
	if (!hdr)
		return false;
	xf_put_be32(hdr, 6u << 28 | (meta->flowinfo & 0x0fffffff));
	xf_put_be16(hdr + 4, (uint16_t)payload);
	hdr[6] = proto;
	hdr[7] = meta->ttl;
	memcpy(hdr + 8, meta->saddr.bytes, 16);
	memcpy(hdr + 24, meta->daddr.bytes, 16);
	return true;
}

static void take(struct xf_io *io, unsigned i, const struct xf_source *source, struct xf_pktq *out)
{
	struct xf_rx_meta meta;
	struct xf_pkt *pkt = xf_rx_packet(io, i, source->family, &meta);

	if (!pkt)
		return;
	pkt->hdr_checked = source->family == XF_AF_INET; /* IP input did */
	if (source->family == XF_AF_INET || xf_raw_rebuild_ipv6(pkt, &meta, source->proto))
		xf_pktq_push(out, pkt);
	else
		xf_worker_drop(io->worker, pkt, XF_DROP_IN_HDR);
}

static int raw_receive(struct xf_io *io, struct xf_source *source, unsigned max,
		       struct xf_pktq *out)
{
	int n = xf_rx_recvmmsg(io, source, max);

	for (int i = 0; i < n; i++)
		take(io, (unsigned)i, source, out);
	if (n > 0)
		xf_count(&io->count.raw_rx, (unsigned)n);
	return n;
}

const struct xf_backend xf_backend_raw = { .name = "raw", .receive = raw_receive };

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int xf_raw_receive_options(int fd, uint16_t family)
{
	int err;

	/* Linux 5.19; without it SAs with a mark are not found for received packets. */
	set_int(fd, SOL_SOCKET, SO_RCVMARK, 1);
	if (family == XF_AF_INET) {
		err = set_int(fd, SOL_IP, IP_PKTINFO, 1);
		err = err ? err : set_int(fd, SOL_IP, IP_RECVTOS, 1);
		return err ? err : set_int(fd, SOL_IP, IP_RECVTTL, 1);
	}
	err = set_int(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	err = err ? err : set_int(fd, SOL_IPV6, IPV6_FLOWINFO, 1);
	return err ? err : set_int(fd, SOL_IPV6, IPV6_RECVHOPLIMIT, 1);
}

/* Only errors that can be about ESP; the rest never wakes us. */
static int filter_icmp4(int fd)
{
	const struct icmp_filter filter = {
		.data = ~(1u << ICMP_DEST_UNREACH | 1u << ICMP_TIME_EXCEEDED |
			  1u << ICMP_PARAMETERPROB),
	};

	return setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

static int filter_icmp6(int fd)
{
	struct icmp6_filter filter;

	ICMP6_FILTER_SETBLOCKALL(&filter);
	ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &filter);
	ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &filter);
	ICMP6_FILTER_SETPASS(ICMP6_TIME_EXCEEDED, &filter);
	ICMP6_FILTER_SETPASS(ICMP6_PARAM_PROB, &filter);
	return setsockopt(fd, SOL_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

static const struct raw_kind {
	uint16_t family;
	uint8_t proto;
	int (*filter)(int fd);
} kinds[XF_RAW_KINDS] = {
	[XF_RAW_ESP4] = { XF_AF_INET, XF_IPPROTO_ESP, NULL },
	[XF_RAW_ESP6] = { XF_AF_INET6, XF_IPPROTO_ESP, NULL },
	[XF_RAW_ICMP4] = { XF_AF_INET, XF_IPPROTO_ICMP, filter_icmp4 },
	[XF_RAW_ICMP6] = { XF_AF_INET6, XF_IPPROTO_ICMPV6, filter_icmp6 },
};

static int open_kind(struct xf_io_shared *shared, enum xf_raw_kind which, struct xf_io_error *error)
{
	const struct raw_kind *kind = &kinds[which];
	struct xf_source *source = shared->raw[which];
	int rcvbuf = (int)shared->rcvbuf_bytes;
	int fd = socket(kind->family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, kind->proto);
	int err = fd < 0 ? -errno : 0;

	if (err == -EAFNOSUPPORT)
		return 0; /* a kernel without IPv6 */
	source->socket = fd;
	source->backend = &xf_backend_raw;
	source->family = kind->family;
	source->proto = kind->proto;
	if (!err && kind->filter)
		err = kind->filter(fd);
	if (!err)
		err = set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, rcvbuf);
	if (!err)
		err = xf_raw_receive_options(fd, kind->family);
	if (!err)
		err = xf_shared_open(shared, source);
	if (err)
		return xf_io_fail(error, err, "cannot open an IPv%d raw socket for protocol %u",
				  kind->family == XF_AF_INET ? 4 : 6, kind->proto);
	return 0;
}

int xf_raw_open(struct xf_io_shared *shared, struct xf_io_error *error)
{
	int err = 0;

	for (unsigned i = 0; !err && i < XF_RAW_KINDS; i++)
		err = open_kind(shared, (enum xf_raw_kind)i, error);
	return err;
}
