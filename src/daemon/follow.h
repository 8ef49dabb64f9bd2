/*
 * follow.h - what follows from SAs, and from addresses and routes around them: the ports on which
 * workers receive ESP in UDP, and the path MTUs that SAs have by our own routes.
 *
 * A change of routes may concern every SA, of which there may be a million: they are asked about
 * some at a time, and requests are served between them. Control thread.
 */
#ifndef XF_DAEMON_FOLLOW_H
#define XF_DAEMON_FOLLOW_H

#include <xf/sad.h>

#include "host/route.h"
#include "port/io.h"

struct xf_threads;
struct xf_sa;

/* What it goes by; all of it outlives it. */
struct xf_follow_config {
	struct xf_sad *sad;
	struct xf_threads *threads;
	struct xf_route *route;
	uint32_t mark_bypass;
};

struct xf_follow {
	struct xf_follow_config cfg;
	struct xf_io_udp_port ports[XF_IO_UDP_PORTS_MAX];
	unsigned nports;
	struct xf_io_error why; /* of the last SA that was refused */
	bool refused; /* one of them could not be had: somebody else may have it still */
	uint64_t changes; /* of the SAD, when ports were collected */
	uint64_t ports_due_ns; /* collect them anew; UINT64_MAX: nothing has changed */
	bool sweeping; /* through all SAs, for their MTUs; stands at @cursor */
	bool again; /* routes have changed since: once more, when it is through */
	uint64_t cursor;
};

void xf_follow_init(struct xf_follow *follow, const struct xf_follow_config *cfg);

/*
 * May @sa come, or replace what is there? An inbound one with ESP in UDP whose port another program
 * holds would never receive: it is refused, with a sentence in *@why that lasts until the next
 * call. Where it may, the port is open on return. 0 or -errno.
 */
int xf_follow_wanted(struct xf_follow *follow, const struct xf_sa *sa, const char **why);

/* An SA came, or is another now. */
void xf_follow_sa(struct xf_follow *follow, struct xf_sa *sa);

/* @changes: XF_ROUTE_LINK, _ADDR, _ROUTE. */
void xf_follow_routes(struct xf_follow *follow, unsigned changes);

/* When xf_follow_act() is wanted next, after whatever has happened. */
uint64_t xf_follow_due(struct xf_follow *follow, uint64_t now_ns);

/* Do what is due: no more than takes some milliseconds. */
void xf_follow_act(struct xf_follow *follow, uint64_t now_ns);

#endif
