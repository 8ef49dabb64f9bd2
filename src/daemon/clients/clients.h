/*
 * clients.h - netlink clients that came through the shim: their sockets, and the server behind.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_CLIENTS_H
#define XF_DAEMON_CLIENTS_H

#include <xf/counter.h>

#include "nl/nl.h"

#include "daemon/loop.h"
#include "daemon/journal/rundir.h"

struct xf_clients;

struct xf_clients_config {
	struct xf_loop *loop;
	struct xf_nl_server *server;
	const struct xf_rundir *run;
	uint32_t bypass_mark;
	unsigned max; /* netlink sockets */
	gid_t group; /* whose members may come, too, and show the capability; 0 = nobody's */
	/* A request was dealt with: deadlines may have changed. */
	void (*served)(void *arg, uint64_t now_ns);
	void *arg;
};

/* Listen at the rundir's client_path, and for the group at its group_path. */
int xf_clients_new(const struct xf_clients_config *cfg, struct xf_clients **out);

/* Close all connections; the server is the caller's. */
void xf_clients_free(struct xf_clients *clients);

#define XF_CLIENTS_COUNTERS(X, arg)                                      \
	X(arg, now, GAUGE, "netlink sockets", "that are open")           \
	X(arg, accepted, COUNTER, "netlink sockets", "that were opened") \
	X(arg, refused, COUNTER, "netlink sockets", "that were refused") \
	X(arg, requests, COUNTER, "requests", "that came over netlink sockets")

struct xf_clients_stats {
	XF_CLIENTS_COUNTERS(XF_COUNTER_MEMBER, uint64_t)
};
extern const struct xf_counter_group xf_clients_counters;
void xf_clients_get_stats(const struct xf_clients *clients, struct xf_clients_stats *out);

#endif
