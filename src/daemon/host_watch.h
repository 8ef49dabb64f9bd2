/*
 * host_watch.h - what the host says while the daemon runs: routes, links, devices that forward,
 * somebody else's rules and NAT, next hops.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_HOST_WATCH_H
#define XF_DAEMON_HOST_WATCH_H

#include "capture/capture.h"
#include "host/forwarding.h"
#include "host/route.h"
#include "port/packet.h"

#include "follow.h"
#include "loop.h"

/* Who says it, and whom it concerns; all of it outlives this. */
struct xf_host_watch_config {
	struct xf_route *route;
	struct xf_forwarding *forwarding;
	struct xf_capture *capture;
	struct xf_packet *packet; /* NULL: native packets leave by raw sockets */
	struct xf_follow *follow;
	/* Something has changed: what follows from it is due. */
	void (*changed)(void *arg, uint64_t now_ns);
	void *arg;
};

struct xf_host_watch {
	struct xf_host_watch_config cfg;
	struct xf_watch route;
	struct xf_watch packet;
	struct xf_watch capture;
	struct xf_watch nat; /* with nftables */
	uint64_t nat_due_ns; /* iptables is to be asked then; UINT64_MAX: there is none */
};

/* Watch all of it from @loop. */
int xf_host_watch_start(struct xf_host_watch *host, const struct xf_host_watch_config *cfg,
			struct xf_loop *loop);

/* When xf_host_watch_act() is wanted next, for what tells of no changes. */
uint64_t xf_host_watch_due(const struct xf_host_watch *host);
void xf_host_watch_act(struct xf_host_watch *host, uint64_t now_ns);

#endif
