/*
 * io.h - one worker's input and output: packets between the kernel and the engine.
 *
 * An xf_io has a TUN queue (what was captured; what is delivered), raw sockets (ESP and ICMP
 * errors in; complete outer packets out) and UDP sockets (ESP in UDP in). xf_io_run() moves
 * batches between them and an engine worker until xf_io_stop(). It blocks in epoll and nowhere
 * else, and is offline for RCU while it does.
 *
 * Threads: xf_io_new() and xf_io_free() run in the control thread, xf_io_run() in the worker's.
 * xf_io_stop(), xf_io_set_udp_ports() and xf_io_get_stats() may be called by any thread while it
 * runs. Functions return 0 or -errno with a sentence in @error.
 */
#ifndef XF_IO_IO_H
#define XF_IO_IO_H

#include <xf/path.h>

/* A sentence for the user: what could not be done, and why. */
struct xf_io_error {
	char text[240];
};

/* The names and numbers by which kernel and daemon know each other; see capture.h. */
struct xf_io_names {
	const char *tun; /* interface name, default XF_TUN_NAME */
	uint32_t mark_capture; /* one bit: "route this into the TUN" */
	uint32_t mark_bypass; /* another: "the daemon sent this, leave it alone" */
	uint32_t table; /* routing table whose default route is the TUN */
	uint32_t rule_priority; /* of the ip rule: behind local (0), before main (32766) */
};

#define XF_TUN_NAME "xfrmd0"
#define XF_TUN_MTU 65535
#define XF_MARK_CAPTURE 0x40000000u
#define XF_MARK_BYPASS 0x20000000u
#define XF_ROUTE_TABLE 0x7866u /* "xf" */
#define XF_RULE_PRIORITY 50

/* The defaults. */
extern const struct xf_io_names xf_io_names_default;

struct xf_io_config {
	struct xf_engine *engine;
	struct xf_worker_config worker; /* pool sizes 0: xf_io_pool_default */
	struct xf_io_names names;
	uint32_t rcvbuf_bytes; /* of raw and UDP sockets; 0: 8 MB */
	bool no_offloads; /* every packet crosses the TUN by itself, with its checksum */
};

extern const struct xf_pool_config xf_io_pool_default;

struct xf_io;

/*
 * Make or take over the persistent TUN, open the sockets, make the engine worker. Needs
 * CAP_NET_ADMIN and CAP_NET_RAW, here and not later.
 */
int xf_io_new(const struct xf_io_config *cfg, struct xf_io **out, struct xf_io_error *error);

/* Close everything; the TUN stays and drops what is routed into it. */
void xf_io_free(struct xf_io *io);

/* The body of a worker thread (registers it for RCU itself): returns after xf_io_stop(). */
void xf_io_run(struct xf_io *io);

/* Make xf_io_run() return soon. Any thread, also a signal handler. */
void xf_io_stop(struct xf_io *io);

/*
 * ESP in UDP is to be received on these local ports (those of SAs with encapsulation); ports that
 * are not named any more are closed. A port that somebody else holds is counted in udp_in_use and
 * tried again by the next call. Control thread. At most XF_IO_UDP_PORTS_MAX, -E2BIG above.
 */
#define XF_IO_UDP_PORTS_MAX 16
int xf_io_set_udp_ports(struct xf_io *io, const uint16_t *ports, unsigned n,
			struct xf_io_error *error);

/* Counters since xf_io_new(). */
struct xf_io_stats {
	uint64_t tun_rx, tun_tx;
	uint64_t tun_rx_supers, tun_tx_supers; /* of these, super-packets */
	uint64_t raw_rx, raw_tx;
	uint64_t udp_rx;
	uint64_t udp_rx_calls; /* by which they were read */
	uint64_t udp_tx; /* packets sent through UDP sockets, not raw ones */
	uint64_t udp_tx_calls; /* messages that carried them */
	uint64_t clear_tx; /* captured, not wanted by any policy, sent on unchanged */
	uint64_t reply_tx; /* ICMP messages to senders */
	uint64_t send_errors; /* packets the kernel did not take */
	uint64_t truncated; /* longer than an IP packet can be */
	uint64_t rx_no_buffer; /* wake-ups that found the pool empty */
	uint64_t udp_in_use; /* ports wanted but held by another program */
	uint64_t wakeups;
	uint64_t marks; /* TUN queues that tell the marks of packets; without, policies see 0 */
};
void xf_io_get_stats(const struct xf_io *io, struct xf_io_stats *out);

#endif
