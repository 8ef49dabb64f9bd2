/*
 * UDP sockets of our own, for ESP in UDP (RFC 3948) where no IKE daemon holds the port.
 *
 * What arrives gets its IP and UDP header back in front, so that the engine sees whole packets
 * whatever they came through. The kernel joins datagrams of one size (UDP_GRO): they lie side by
 * side in one buffer and become packets there. Sending is udp_tx.c's.
 * A socket is of one family: an IPv6 one leaves IPv4 alone, so either may be held by others.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <unistd.h>

#include <xf/ip.h>

#include "port/backend.h"

/* Messages read at once, and when they are long ones: about 256 KB either way. */
#define MSGS_SHORT XF_BATCH
#define MSGS_LONG 6
/* So many of 64 datagrams each are what several workers may have in a batch (XF_PATH_BATCH_MAX). */
#define MSGS_ORDERED 16
#define LONG_BYTES 8192

static bool rebuild_ipv4(struct xf_pkt *pkt, const struct xf_rx_meta *meta)
{
	uint32_t total = pkt->len + XF_IPV4_HDR_LEN;
	uint8_t *ip;

	if (!meta->has_daddr || total > UINT16_MAX)
		return false;
	ip = xf_pkt_prepend(pkt, XF_IPV4_HDR_LEN);
	if (!ip)
		return false;
	memset(ip, 0, XF_IPV4_HDR_LEN);
	ip[0] = 0x45;
	ip[1] = meta->tos;
	xf_put_be16(ip + 2, (uint16_t)total);
	ip[8] = meta->ttl;
	ip[9] = XF_IPPROTO_UDP;
	memcpy(ip + 12, meta->saddr.bytes, 4);
	memcpy(ip + 16, meta->daddr.bytes, 4);
	pkt->hdr_checked = true; /* by the kernel; nobody looks at one of ours */
	return true;
}

/* The UDP checksum, which the kernel has looked at, is gone: 0. */
static bool rebuild(struct xf_pkt *pkt, const struct xf_rx_meta *meta, uint16_t dport)
{
	uint32_t len = pkt->len + XF_UDP_HDR_LEN;
	uint8_t *udp;

	if (len > UINT16_MAX)
		return false;
	udp = xf_pkt_prepend(pkt, XF_UDP_HDR_LEN);
	if (!udp)
		return false;
	xf_put_be16(udp, meta->sport);
	xf_put_be16(udp + 2, dport);
	xf_put_be16(udp + 4, (uint16_t)len);
	xf_put_be16(udp + 6, 0);
	return pkt->family == XF_AF_INET ? rebuild_ipv4(pkt, meta)
					 : xf_raw_rebuild_ipv6(pkt, meta, XF_IPPROTO_UDP);
}

static void take_one(struct xf_io *io, struct xf_pkt *pkt, const struct xf_rx_meta *meta,
		     struct xf_pktq *out)
{
	if (rebuild(pkt, meta, pkt->encap_dport))
		xf_pktq_push(out, pkt);
	else
		xf_worker_drop(io->worker, pkt, XF_DROP_IN_HDR);
}

/* The datagrams of a message become packets of their own, in place. */
static void take(struct xf_io *io, unsigned i, const struct xf_source *source, struct xf_pktq *out)
{
	struct xf_rx_meta meta;
	struct xf_pkt *pkt = xf_rx_packet(io, i, source->family, &meta);

	if (!pkt)
		return;
	pkt->encap_sport = meta.sport;
	pkt->encap_dport = source->port;
	while (meta.gro_size && pkt->len > meta.gro_size) {
		struct xf_pkt *first = xf_pkt_split_front(pkt, meta.gro_size);

		if (!first) {
			xf_worker_drop(io->worker, pkt, XF_DROP_IN_BUFFER);
			return;
		}
		take_one(io, first, &meta, out);
	}
	take_one(io, pkt, &meta, out);
}

static int udp_receive(struct xf_io *io, struct xf_source *source, unsigned max,
		       struct xf_pktq *out)
{
	size_t bytes = 0;
	int n;

	max = xf_min_u32(max, source->max);
	if (io->cfg.worker.ordered)
		max = xf_min_u32(max, MSGS_ORDERED);
	n = xf_rx_recvmmsg(io, source, max);

	for (int i = 0; i < n; i++) {
		bytes += io->rx_msgs[i].msg_len;
		take(io, (unsigned)i, source, out);
	}
	if (n > 0)
		source->max = bytes / (unsigned)n > LONG_BYTES ? MSGS_LONG : MSGS_SHORT;
	if (n > 0) {
		xf_count(&io->count.udp_rx_calls, 1);
		xf_count(&io->count.udp_rx, out->count);
	}
	return n;
}

const struct xf_backend xf_backend_udp = { .name = "udp", .receive = udp_receive };

struct option {
	int level;
	int name;
	int value;
};

/*
 * For sending: DF on everything, whatever is known of the path; the engine knows better. The
 * source is that of the SA, be it an address of this host now or not.
 */
static const struct option options4[] = {
	{ SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE },
	{ SOL_IP, IP_FREEBIND, 1 },
	{ SOL_SOCKET, SO_SNDBUFFORCE, XF_IO_SOCKET_BYTES },
};

/* Nothing is sent through these (udp_tx.c). */
static const struct option options6[] = {
	{ SOL_IPV6, IPV6_V6ONLY, 1 },
};

static int set_options(int fd, uint16_t family)
{
	bool v4 = family == XF_AF_INET;
	const struct option *options = v4 ? options4 : options6;
	unsigned n = v4 ? XF_ARRAY_SIZE(options4) : XF_ARRAY_SIZE(options6);

	for (unsigned i = 0; i < n; i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			       sizeof(options[i].value)) < 0)
			return -errno;
	return 0;
}

/* A kernel that does not join hands over each datagram by itself (before Linux 5.0). */
static void want_gro(int fd)
{
	const int one = 1;

	setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof(one));
}

/* One that does not know UDP_SEGMENT would send all packets as one (before Linux 4.18). */
static bool has_segments(int fd)
{
	const int none = 0;

	return setsockopt(fd, SOL_UDP, UDP_SEGMENT, &none, sizeof(none)) == 0;
}

static int bind_port(int fd, const struct xf_io_udp_port *port)
{
	const struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port->port) };
	const struct sockaddr_in6 any6 = { .sin6_family = AF_INET6,
					   .sin6_port = htons(port->port) };

	if (port->family == XF_AF_INET)
		return bind(fd, (const struct sockaddr *)&any4, sizeof(any4));
	return bind(fd, (const struct sockaddr *)&any6, sizeof(any6));
}

static int open_port(const struct xf_io_shared *shared, const struct xf_io_udp_port *port, int *out)
{
	int rcvbuf = (int)shared->rcvbuf_bytes;
	uint32_t mark = shared->mark_bypass;
	int fd = socket(port->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = xf_raw_receive_options(fd, port->family);
	if (!err)
		err = set_options(fd, port->family);
	want_gro(fd);
	/* The mark exempts what arrives here from the rules against plaintext: an inbound policy in
	 * transport mode covers the UDP packets that carry its ESP. */
	if (!err && (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
		     setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)) < 0 ||
		     bind_port(fd, port) < 0))
		err = -errno;
	if (err) {
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

static bool is_of(const struct xf_source *source, const struct xf_io_udp_port *port)
{
	return source->port == port->port && source->family == port->family;
}

static bool wanted(const struct xf_source *source, const struct xf_io_udp_port *ports, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (is_of(source, &ports[i]))
			return true;
	return false;
}

/* The source that has @port's socket, or with NULL one that has none. */
static struct xf_source *find_source(struct xf_io_shared *shared, const struct xf_io_udp_port *port)
{
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++) {
		struct xf_source *source = shared->udp[i];

		if (port ? source->socket >= 0 && is_of(source, port) : source->socket < 0)
			return source;
	}
	return NULL;
}

static void close_others(struct xf_io_shared *shared, const struct xf_io_udp_port *ports,
			 unsigned n)
{
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++) {
		struct xf_source *source = shared->udp[i];

		if (source->fd >= 0 && !wanted(source, ports, n))
			xf_shared_close(shared, source);
	}
}

static int add_port(struct xf_io_shared *shared, const struct xf_io_udp_port *port)
{
	struct xf_source *source = find_source(shared, NULL);
	int err;

	/* As many ports were just closed, and are not gone yet. */
	if (!source)
		return -EAGAIN;
	err = open_port(shared, port, &source->socket);
	if (err)
		return err;
	source->port = port->port;
	source->family = port->family;
	source->segments = has_segments(source->socket);
	source->max = MSGS_SHORT;
	source->backend = &xf_backend_udp;
	return xf_shared_open(shared, source);
}

static int want_port(struct xf_io_shared *shared, const struct xf_io_udp_port *port)
{
	struct xf_source *source = find_source(shared, port);

	if (!source)
		return add_port(shared, port);
	return source->fd >= 0 ? 0 : xf_shared_open(shared, source);
}

int xf_io_set_udp_ports(struct xf_io_shared *shared, const struct xf_io_udp_port *ports, unsigned n,
			struct xf_io_error *error)
{
	int result = 0;

	if (n > XF_IO_UDP_PORTS_MAX)
		return xf_io_fail(error, -E2BIG, "more than %d ports for ESP in UDP",
				  XF_IO_UDP_PORTS_MAX);
	close_others(shared, ports, n);
	for (unsigned i = 0; i < n; i++) {
		int err = want_port(shared, &ports[i]);

		if (!err)
			continue;
		xf_count(&shared->count.udp_in_use, err == -EADDRINUSE);
		result = xf_io_fail(error, err, "cannot receive ESP in UDP on IPv%d port %u",
				    ports[i].family == XF_AF_INET ? 4 : 6, ports[i].port);
	}
	return result;
}

bool xf_io_has_udp_port(const struct xf_io_shared *shared, const struct xf_io_udp_port *port)
{
	for (unsigned i = 0; i < XF_IO_UDP_PORTS_MAX; i++)
		if (shared->udp[i]->fd >= 0 && is_of(shared->udp[i], port))
			return true;
	return false;
}
