/*
 * io.h - one worker's input and output: packets between the kernel and the engine.
 *
 * An xf_io has a TUN queue (what was captured; what is delivered), and raw and packet sockets to
 * send from.
 * All of them read from one xf_io_shared: raw sockets (ESP and ICMP errors) and UDP sockets (ESP
 * in UDP); whoever is free reads the next batch. xf_io_run() moves batches between them and an
 * engine worker until xf_io_stop(). It blocks in epoll and nowhere else, and is offline for RCU
 * while it does.
 *
 * Threads: xf_io_run() runs in the worker's, everything else in the control thread; xf_io_stop()
 * and xf_io_add_stats() may be called by any thread. Functions return 0 or -errno with a sentence
 * in @error.
 */
#ifndef XF_PORT_IO_H
#define XF_PORT_IO_H

#include <xf/path.h>

#include "host/names.h"

/* Let the TUN go with the last process that has it open. It is no error when there is none. */
int xf_tun_remove(const char *name, struct xf_io_error *error);

/*
 * One that an earlier daemon has left under another name gets @name, or goes where there is one of
 * that name. Returns how many there were, or -errno.
 */
int xf_tun_adopt(const char *name, struct xf_io_error *error);

/* What there is of a TUN that was made, by its number. */
struct xf_tun_seen {
	bool there; /* in this namespace */
	bool named; /* as @name says */
	bool ready; /* up, with its MTU, room for packets and an address */
	bool marks; /* it has its program for marks */
	uint32_t settings; /* sysctls that are as we want them, a bit each; not all may be had */
};
void xf_tun_look(const char *name, unsigned ifindex, struct xf_tun_seen *out);

/* Give it its name, its settings, its program for marks again, and bring it up. Without that
 * program it fails if it had one before (@marks). */
int xf_tun_mend(const struct xf_io_names *names, unsigned ifindex, bool marks,
		struct xf_io_error *error);

/* What the workers of one network namespace read from. */
struct xf_io_shared;
/* And where they may send by packet sockets; packet.h. */
struct xf_packet;

#define XF_IO_WORKERS_MAX 64

struct xf_io_config {
	struct xf_engine *engine;
	struct xf_io_shared *shared; /* of xf_io_new(); outlives it */
	struct xf_packet *packet; /* likewise; NULL: nowhere */
	struct xf_worker_config worker; /* pool sizes 0: xf_io_pool_default */
	struct xf_io_names names;
	uint32_t rcvbuf_bytes; /* of raw and UDP sockets; 0: 8 MB */
	bool no_offloads; /* every packet crosses the TUN by itself, with its checksum */
};

extern const struct xf_pool_config xf_io_pool_default;

struct xf_io;

/* Open the sockets to receive from, with @cfg's names and sizes. Needs CAP_NET_RAW. */
int xf_io_shared_new(const struct xf_io_config *cfg, struct xf_io_shared **out,
		     struct xf_io_error *error);
void xf_io_shared_free(struct xf_io_shared *shared); /* NULL is allowed */

/*
 * Make or take over the persistent TUN, open the sockets, make the engine worker. Needs
 * CAP_NET_ADMIN and CAP_NET_RAW, here and not later.
 */
int xf_io_new(const struct xf_io_config *cfg, struct xf_io **out, struct xf_io_error *error);

/* Close everything; the TUN stays and drops what is routed into it. */
void xf_io_free(struct xf_io *io);

/*
 * The TUN is gone, or in another namespace: the worker reads from a new one of the same name,
 * which the first of all workers makes. It may run meanwhile.
 */
int xf_io_remake_tun(struct xf_io *io, struct xf_io_error *error);

/* The body of a worker thread (registers it for RCU itself): returns after xf_io_stop(). */
void xf_io_run(struct xf_io *io);

/* Make xf_io_run() return soon. Any thread, also a signal handler. */
void xf_io_stop(struct xf_io *io);

/*
 * ESP in UDP is to be received on these local ports (those of SAs with encapsulation), a socket
 * for each family; ports that are not named any more are closed. A port that somebody else holds
 * is counted, -EADDRINUSE, and tried again by the next call; -EAGAIN: too many have just been
 * closed. At most XF_IO_UDP_PORTS_MAX, -E2BIG above.
 */
#define XF_IO_UDP_PORTS_MAX 16
struct xf_io_udp_port {
	uint16_t family;
	uint16_t port;
};
int xf_io_set_udp_ports(struct xf_io_shared *shared, const struct xf_io_udp_port *ports, unsigned n,
			struct xf_io_error *error);

/* Is it received on @port? */
bool xf_io_has_udp_port(const struct xf_io_shared *shared, const struct xf_io_udp_port *port);

#define XF_IO_COUNTERS(X, arg)                                                                   \
	X(arg, tun_rx, COUNTER, "packets", "read from the TUN")                                  \
	X(arg, tun_tx, COUNTER, "packets", "written to the TUN")                                 \
	X(arg, tun_rx_supers, COUNTER, "super-packets", "read from the TUN")                     \
	X(arg, tun_tx_supers, COUNTER, "super-packets", "written to the TUN")                    \
	X(arg, raw_rx, COUNTER, "packets", "received from raw sockets")                          \
	X(arg, raw_tx, COUNTER, "packets", "sent through raw sockets")                           \
	X(arg, udp_rx, COUNTER, "packets", "received from UDP sockets")                          \
	X(arg, udp_rx_calls, COUNTER, "calls", "by which UDP sockets were read")                 \
	X(arg, udp_tx, COUNTER, "packets", "sent through UDP sockets, not raw ones")             \
	X(arg, udp_tx_calls, COUNTER, "messages", "sent through UDP sockets")                    \
	X(arg, packet_tx, COUNTER, "packets", "sent through packet sockets")                     \
	X(arg, ring_rx, COUNTER, "packets", "received ahead of IP input")                        \
	X(arg, ring_full, COUNTER, "packets", "dropped because the ring was full")               \
	X(arg, clear_tx, COUNTER, "packets", "captured, wanted by no policy, sent on unchanged") \
	X(arg, nat_tx, COUNTER, "packets",                                                       \
	  "protected with the source that the host's NAT gives them")                            \
	X(arg, reply_tx, COUNTER, "ICMP messages", "to senders")                                 \
	X(arg, send_errors, COUNTER, "packets", "that the kernel did not take")                  \
	X(arg, truncated, COUNTER, "packets", "longer than an IP packet can be")                 \
	X(arg, rx_no_buffer, COUNTER, "wake-ups", "that found the pool empty")                   \
	X(arg, udp_in_use, COUNTER, "tries", "to open a port that another program held")         \
	X(arg, wakeups, COUNTER, "wake-ups", "of workers")

/* Sums of counters since workers and what they share were made. */
struct xf_io_stats {
	XF_IO_COUNTERS(XF_COUNTER_MEMBER, uint64_t)
};
extern const struct xf_counter_group xf_io_counters;

/* Add to @sums: what one worker has counted, and what is counted for all of them. */
void xf_io_add_stats(const struct xf_io *io, struct xf_io_stats *sums);
void xf_io_shared_add_stats(const struct xf_io_shared *shared, struct xf_io_stats *sums);

/* Of TUN queues, how many ... */
struct xf_io_queues {
	unsigned marks; /* tell the marks of packets; without, policies see 0 */
	unsigned supers; /* take and give TCP's super-packets */
	unsigned udp_supers; /* and UDP's (Linux 6.2) */
	unsigned steered; /* keep their flows; else the kernel moves them between workers */
};
/* Add the one of @io to @sums. */
void xf_io_add_queue(const struct xf_io *io, struct xf_io_queues *sums);

#endif
