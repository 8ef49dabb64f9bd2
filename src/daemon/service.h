/*
 * service.h - the parts put together: engine, netlink server, workers, capture, routes.
 *
 * Control thread. Functions return 0 or -errno; starting says in one sentence what failed.
 */
#ifndef XF_DAEMON_SERVICE_H
#define XF_DAEMON_SERVICE_H

#include "capture/capture.h"
#include "host/forwarding.h"
#include "host/route.h"
#include "nl/nl.h"
#include "port/packet.h"

#include "daemon/clients/clients.h"
#include "config.h"
#include "events.h"
#include "follow.h"
#include "daemon/journal/journal.h"
#include "missing.h"
#include "daemon/thread/threads.h"
#include "wallclock.h"

/* What workers ask for (struct xf_env), and how they wake the control thread. */
struct xf_surroundings {
	struct xf_route *route;
	struct xf_forwarding *forwarding;
	const struct xf_capture *capture; /* before the first worker */
	struct xf_events events;
};

struct xf_service {
	/* Constant after xf_service_start(). */
	const struct xf_config *cfg;
	struct xf_loop *loop;
	struct xf_rundir run;
	struct xf_io_names names;
	struct xf_engine *engine;
	struct xf_surroundings around;
	struct xf_packet *packet; /* NULL: native packets leave by raw sockets, because ... */
	struct xf_io_error no_packet; /* ... of this; "": as configured */
	struct xf_threads *threads;
	struct xf_capture *capture;
	struct xf_nl_server *server;
	struct xf_journal *journal;
	struct xf_clients *clients;
	uint64_t start_ns;
	int acquire_fd; /* net.core.xfrm_acq_expires; -1 = this kernel has none */
	uint64_t watchdog_ns; /* 0 = systemd does not ask */
	struct xf_watch route_watch;
	struct xf_watch packet_watch;
	struct xf_watch capture_watch;
	struct xf_watch nat_watch; /* with nftables */
	uint64_t nat_due_ns;
	struct xf_wallclock wallclock;

	/* Control thread. */
	struct xf_missing missing;
	size_t entries; /* SAs and policies, at most since memory was given back */
	struct xf_follow follow;
};

/* What the loop calls; @arg is the service. */
void xf_service_timer(void *arg, uint64_t now_ns);
void xf_service_idle(void *arg);

/*
 * Bring everything up on @loop: when this returns 0, clients are served and packets flow. On an
 * error all is as before. @service is zero but for cfg, loop and run (xf_rundir_open()).
 */
int xf_service_start(struct xf_service *service, struct xf_io_error *error);

/*
 * Take the protection away: traffic flows in clear from then on. The workers end and the loop
 * stops, whatever comes of it.
 */
int xf_service_release(struct xf_service *service, struct xf_io_error *error);

/* Stop. The protection in the kernel stays, unless it was released. */
void xf_service_stop(struct xf_service *service);

#endif
