/*
 * backend.h - what the files of the workers' input and output share.
 *
 * A worker has a TUN queue of its own; every other source is there once and all workers read from
 * it (struct xf_io_shared): a raw packet would be given to each socket, not to one of them. A
 * worker reads through its one set of receive slots; all complete packets leave through struct
 * xf_tx, one for each family.
 */
#ifndef XF_PORT_BACKEND_H
#define XF_PORT_BACKEND_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <xf/ip.h>
#include <xf/rcu.h>
#include <xf/turn.h>

#include "base/count.h"
#include "port/io.h"
#include "port/packet.h"
#include "port/ring.h"
#include "port/source.h"

/* Linux's numbers where glibc 2.36 does not have the names. */
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif

/*
 * Received bytes go to a small buffer first and on into a large one, which stays in the slot
 * when it was not needed: small packets do not spend large buffers, large ones are not copied.
 */
#define XF_RX_SMALL (XF_POOL_SMALL - XF_PKT_HEADROOM - XF_PKT_TAILROOM)
#define XF_RX_LARGE (XF_PKT_MAX - XF_RX_SMALL)
#define XF_RX_CONTROL 256

/* The kernel's send buffers, and those to receive into where nothing is configured. */
#define XF_IO_SOCKET_BYTES (8 << 20)

struct xf_rx_slot {
	struct xf_pkt *small;
	struct xf_pkt *large;
	struct iovec iov[2];
	struct sockaddr_storage from;
	uint8_t control[XF_RX_CONTROL] __attribute__((aligned(16)));
};

/* Messages on their way to a raw or packet socket; flushed when full and at the end of a batch. */
#define XF_TX_IOVS 1024
#define XF_TX_CONTROL 160

/* By which of its sockets: they differ in what the host's NAT is told (XF_PRIORITY_*). */
enum xf_tx_kind {
	XF_TX_WIRE,
	XF_TX_SENT_ON,
	XF_TX_TRANSLATED,
	XF_TX_ASK,
	XF_TX_REFUSED,
	XF_TX_KINDS
};

struct xf_tx {
	int fds[XF_TX_KINDS];
	int fd; /* the one of them that what is staged leaves by */
	uint16_t family;
	unsigned n;
	unsigned iovs;
	struct xf_pkt *pkts[XF_BATCH];
	struct mmsghdr msgs[XF_BATCH];
	struct sockaddr_storage to[XF_BATCH];
	uint8_t control[XF_BATCH][XF_TX_CONTROL] __attribute__((aligned(16)));
	struct iovec iov[XF_TX_IOVS];
};

/* Has it no room for @pkt? */
static inline bool xf_tx_is_full(const struct xf_tx *tx, const struct xf_pkt *pkt)
{
	return tx->n == XF_BATCH || tx->iovs + pkt->nsegs > XF_TX_IOVS;
}

/* Datagrams on their way out: of each message, the packets that it carries. */
#define XF_UDP_TX_MSGS 32

struct xf_udp_msg {
	struct xf_pktq pkts;
	uint32_t bytes;
	struct sockaddr_in to;
	uint8_t control[XF_TX_CONTROL] __attribute__((aligned(16)));
};

struct xf_udp_tx {
	unsigned n;
	unsigned iovs;
	struct mmsghdr hdrs[XF_UDP_TX_MSGS];
	struct xf_udp_msg msgs[XF_UDP_TX_MSGS];
	struct iovec iov[XF_TX_IOVS];
};

/*
 * A way out of this host for complete outer packets. Those that come first in their table are
 * asked first; raw sockets, the last, take everything.
 */
struct xf_sender {
	const char *name;
	bool (*takes)(struct xf_io *io, const struct xf_pkt *pkt);
	/* Send from the front of @run, packets that it takes, at least one of them: each is sent,
	 * or dropped and counted, or comes out in @left for the last sender. Called again while
	 * there is a rest, so whoever keeps the order stops after what is left. */
	void (*send)(struct xf_io *io, struct xf_pktq *run, struct xf_pktq *left);
};

extern const struct xf_sender xf_sender_udp;
extern const struct xf_sender xf_sender_packet;

/* The persistent device, as it was opened (tun.c). */
struct xf_tun {
	int fd;
	_Atomic bool marks; /* packets bring theirs (meta.h); control thread, read by the worker */
	bool steered; /* a flow stays with its queue (steer.h) */
	bool supers; /* super-packets, TCP's, come and go (vnet.h) */
	bool udp_supers; /* and UDP's */
};

/* Raw sockets that are read from; ICMP messages leave by theirs. */
enum xf_raw_kind { XF_RAW_ESP4, XF_RAW_ESP6, XF_RAW_ICMP4, XF_RAW_ICMP6, XF_RAW_KINDS };

/* As struct xf_io_stats. One thread's; others read them. */
struct xf_io_counters {
	XF_IO_COUNTERS(XF_COUNTER_MEMBER, _Atomic uint64_t)
};

/* What all workers read from, and what tells them. The control thread's, but for the sources. */
struct xf_io_shared {
	uint32_t rcvbuf_bytes;
	uint32_t mark_bypass;
	int epoll_fds[XF_IO_WORKERS_MAX];
	unsigned workers;
	struct xf_io_counters count; /* of what is no worker's */
	struct xf_sources sources;
	/* Some of them, constant after xf_io_shared_new(); not all of them are open. */
	struct xf_source *ring;
	struct xf_source *raw[XF_RAW_KINDS];
	struct xf_source *udp[XF_IO_UDP_PORTS_MAX];
};

struct xf_io {
	/* Constant after xf_io_new(). */
	struct xf_io_config cfg;
	struct xf_io_shared *shared;
	struct xf_worker *worker;
	struct xf_pool *pool;
	int epoll_fd;
	int stop_fd;
	int wake_fd;
	struct xf_tun tun;

	/* The worker's thread. */
	struct xf_source tun_source;
	struct xf_ready ready; /* sources that may have packets */
	bool stopping; /* xf_io_stop() was seen */
	bool starved; /* the pool was empty */
	uint32_t ident; /* of IPv6 fragments made here */
	uint64_t now_ns; /* of this turn of the loop */
	struct xf_rx_slot rx[XF_BATCH];
	struct mmsghdr rx_msgs[XF_BATCH];
	struct xf_tx tx4;
	struct xf_tx tx6;
	struct xf_tx tx_packet;
	struct xf_udp_tx udp_tx;

	struct xf_io_counters count;
};

/* rx.c: has slot @i room for a whole packet? It gets buffers; without any that is counted. */
bool xf_rx_ready(struct xf_io *io, unsigned i);
/* Take the @len bytes that were read into slot @i as a packet. */
struct xf_pkt *xf_rx_take(struct xf_io *io, unsigned i, uint32_t len);
/* recvmmsg() into the slots, fewer than @max where little comes: how many messages, or -errno.
 * Sets source->more. */
int xf_rx_recvmmsg(struct xf_io *io, struct xf_source *source, unsigned max);
/* Metadata that a message's control messages carry; what is not there is zero. */
struct xf_rx_meta {
	union xf_addr saddr;
	union xf_addr daddr;
	uint16_t sport;
	uint32_t iif;
	uint32_t mark;
	uint32_t flowinfo; /* IPv6 traffic class and flow label */
	uint8_t tos;
	uint8_t ttl;
	bool has_daddr;
	uint32_t gro_size; /* not 0: datagrams of so many bytes, side by side */
};
/* Message @i as a packet, and what came with it. NULL: it was longer than its buffers, and is
 * counted. */
struct xf_pkt *xf_rx_packet(struct xf_io *io, unsigned i, uint16_t family, struct xf_rx_meta *meta);
void xf_rx_free(struct xf_io *io);

/* tun.c */
int xf_tun_open(const struct xf_io_names *names, bool offloads, struct xf_tun *out,
		struct xf_io_error *error);
void xf_tun_deliver(struct xf_io *io, struct xf_pktq *q);
/* A device that is up keeps its name, with older kernels: it goes down for that. */
int xf_tun_rename(unsigned ifindex, const char *name, struct xf_io_error *error);
/* tun_owner.c: nobody else may attach to the TUN that @fd is attached to. -EAGAIN: somebody was
 * already, so the device is gone. */
int xf_tun_own(int fd, const char *name, struct xf_io_error *error);

/* shared.c: a worker that waits on @epoll_fd gets all sources, also later ones. 0 or -errno. */
int xf_shared_join(struct xf_io_shared *shared, int epoll_fd);
void xf_shared_part(struct xf_io_shared *shared, int epoll_fd);
/* A closed source, to be set up and opened. NULL: there are XF_SOURCES_MAX, or no memory. */
struct xf_source *xf_shared_get_source(struct xf_io_shared *shared);
/* All workers read from @source, which has its socket, from now on. 0, or -errno: it is closed
 * again, as below. */
int xf_shared_open(struct xf_io_shared *shared, struct xf_source *source);
/* No worker begins to read from @source any more. Its socket is closed, and it may be used for
 * something else, when none can hold it; until then it may be opened again as it was. */
void xf_shared_close(struct xf_io_shared *shared, struct xf_source *source);

/* raw.c: put the IPv6 header back that a socket has taken off. False: it cannot be. */
bool xf_raw_rebuild_ipv6(struct xf_pkt *pkt, const struct xf_rx_meta *meta, uint8_t proto);

/* raw.c: sockets to receive from. */
int xf_raw_open(struct xf_io_shared *shared, struct xf_io_error *error);
/* Options by which received datagrams tell their destination, interface, mark and header. */
int xf_raw_receive_options(int fd, uint16_t family);

/* tx.c: complete packets out. */
int xf_tx_open(struct xf_tx *tx, uint16_t family, const struct xf_io_names *names,
	       struct xf_io_error *error);
void xf_tx_init(struct xf_tx *tx);
void xf_tx_close(struct xf_tx *tx);
int xf_packet_open(struct xf_io *io, struct xf_io_error *error); /* packet_tx.c */
void xf_tx_wire(struct xf_io *io, struct xf_pktq *q);
void xf_tx_clear(struct xf_io *io, struct xf_pktq *q);
void xf_tx_reply(struct xf_io *io, struct xf_pktq *q);
/* ask.c: what the host's NAT does not take of @q comes out in @back. */
void xf_tx_ask(struct xf_io *io, struct xf_pktq *q, struct xf_pktq *back);
/* Add @pkt, for which there is room, as a message without address. */
struct msghdr *xf_tx_stage(struct xf_tx *tx, struct xf_pkt *pkt);
/* The same with the address of a raw socket. NULL: it is not one that can be sent at all. */
struct msghdr *xf_tx_stage_raw(struct xf_tx *tx, struct xf_pkt *pkt);
/* Empty a raw socket's error queue; the MTU that its last entry tells, or 0. */
uint32_t xf_tx_read_mtu(int fd);
/*
 * May a packet that goes on its way unchanged be cut for a device that takes @mtu, as the kernel
 * would have done it? What came in fragments with DF may, if these fit.
 */
bool xf_tx_may_cut(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu);
/* How large its pieces may be where a device takes @mtu: no larger than those it came in. */
uint32_t xf_tx_piece_mtu(const struct xf_pkt *pkt, uint32_t mtu);
/* A packet's own mark, beside the socket's. */
void xf_tx_mark(const struct xf_io *io, struct msghdr *msg, const struct xf_pkt *pkt);
/* Add a control message to @msg, whose buffer has room for it. */
void xf_tx_cmsg(struct msghdr *msg, int level, int type, const void *data, size_t len);

#endif
